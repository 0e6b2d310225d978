/* The heap of events, machines, names and paths. See sim.h and internal.h. */
#include "net/sim/internal.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdlib.h>

enum { SAME_INSTANT_MAX = 1000000 };

uint64_t vnet_below(net_sim *net, uint64_t bound) { return cal_sim_random(net->world, bound); }

bool vnet_chance(net_sim *net, uint32_t ppm) { return ppm && vnet_below(net, 1000000) < ppm; }

void net_sim_note(net_sim *net, uint64_t value) {
    uint64_t mixed = (net->trace ^ value) * 0x9e3779b97f4a7c15u;
    net->trace = mixed ^ (mixed >> 29);
}

void vnet_note(net_sim *net, uint64_t a, uint64_t b, uint64_t c) {
    net_sim_note(net, net->now_ns);
    net_sim_note(net, a);
    net_sim_note(net, b);
    net_sim_note(net, c);
}

/* --- events --- */

static bool sooner(const vnet_event *a, const vnet_event *b) {
    return a->at_ns < b->at_ns || (a->at_ns == b->at_ns && a->number < b->number);
}

void vnet_plan(net_sim *net, const vnet_event *given) {
    vnet_event event = *given;
    if (net->heap_len == net->heap_capacity) {
        size_t capacity = net->heap_capacity ? 2 * net->heap_capacity : 256;
        vnet_event *heap = realloc(net->heap, capacity * sizeof *heap);
        if (!heap) {
            net->error = CAL_ENOMEM;
            return;
        }
        net->heap = heap;
        net->heap_capacity = capacity;
    }
    event.number = net->numbers++;
    if (event.at_ns < net->now_ns) event.at_ns = net->now_ns;
    size_t at = net->heap_len++;
    while (at > 0 && sooner(&event, &net->heap[(at - 1) / 2])) {
        net->heap[at] = net->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    net->heap[at] = event;
}

static vnet_event take(net_sim *net) {
    vnet_event first = net->heap[0], last = net->heap[--net->heap_len];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < net->heap_len; at = child) {
        if (child + 1 < net->heap_len && sooner(&net->heap[child + 1], &net->heap[child])) child++;
        if (!sooner(&net->heap[child], &last)) break;
        net->heap[at] = net->heap[child];
    }
    if (net->heap_len) net->heap[at] = last;
    return first;
}

/* What an event refers to, when it will not happen any more. */
static void drop_event(const vnet_event *event) {
    if (event->kind == VNET_PACKET) connection_forget(event->packet.to->connection);
    if (event->kind == VNET_TIMER || event->kind == VNET_READ)
        connection_forget(event->wire->connection);
    if (event->kind == VNET_DATAGRAM) free(event->datagram);
    if (event->kind == VNET_ANSWER) {
        cal_list_remove(&event->query->link);
        free(event->query);
    }
}

/* Whether the packet is swallowed by the way it takes: cut while it was under way. */
static bool swallowed(net_sim *net, const vnet_packet *packet) {
    net_sim_machine *to = vnet_machine_at(packet->from, &packet->to->local.address);
    if (!to || !to->power || net->now_ns < to->frozen_until_ns) return true;
    vnet_route *route = &packet->from->routes[to->index];
    if (route->cuts) return true;
    if (packet->sent < route->last_sent)
        net->stats.overtaken++;
    else
        route->last_sent = packet->sent;
    return false;
}

static void all_clocks(net_sim *net) {
    for (size_t i = 0; i < net->machine_count; i++) vnet_clock(net->machines[i]);
}

/* Whose timer, alarm, reading or answer it is; NULL: nobody's. */
static const net_sim_machine *machine_of(const vnet_event *event) {
    switch (event->kind) {
    case VNET_TIMER:
    case VNET_READ:
        return event->wire->machine;
    case VNET_ALARM:
        return event->machine;
    case VNET_ANSWER:
        return event->query->machine;
    case VNET_CALL:
        return event->call.machine;
    default:
        return NULL;
    }
}

static void call(net_sim *net, const vnet_event *event) {
    net_sim_machine *machine = event->call.machine;
    if (!machine)
        all_clocks(net);
    else if (!machine->alive || machine->life != event->call.life)
        return;
    else
        vnet_clock(machine);
    event->call.fn(event->call.user);
}

static void happen(net_sim *net, vnet_event *event) {
    const net_sim_machine *machine = machine_of(event);
    if (machine && net->now_ns < machine->frozen_until_ns) {
        event->at_ns = machine->frozen_until_ns;
        vnet_plan(net, event);
        return;
    }
    net->stats.events++;
    switch (event->kind) {
    case VNET_PACKET:
        if (swallowed(net, &event->packet))
            net->stats.swallowed++;
        else
            wire_packet(&event->packet);
        break;
    case VNET_TIMER:
        wire_timer(event->wire);
        break;
    case VNET_READ:
        wire_read(event->wire);
        break;
    case VNET_ALARM:
        process_alarm(event->machine);
        break;
    case VNET_ANSWER:
        process_answer(event->query);
        break;
    case VNET_DATAGRAM:
        process_datagram(event->datagram);
        break;
    case VNET_CALL:
        call(net, event);
        break;
    }
    net->inside = NULL;
    drop_event(event);
}

int net_sim_run(net_sim *net, uint64_t until_ns, bool (*done)(void *user), void *user) {
    unsigned same = 0;
    bool is_done = done && done(user);
    assert(!net->running);
    net->running = true;
    while (!is_done && !net->error && net->heap_len && net->heap[0].at_ns <= until_ns) {
        vnet_event event = take(net);
        same = event.at_ns > net->now_ns ? 0 : same + 1;
        if (same > SAME_INSTANT_MAX) net->error = CAL_ELIMIT;
        net->now_ns = event.at_ns;
        happen(net, &event);
        is_done = done && done(user);
    }
    if (!is_done && !net->error && until_ns > net->now_ns) net->now_ns = until_ns;
    all_clocks(net);
    net->running = false;
    if (net->error) return net->error;
    return done && !is_done ? CAL_ETIMEOUT : 0;
}

void net_sim_at(net_sim *net, uint64_t at_ns, void (*fn)(void *user), void *user) {
    vnet_plan(net, &(vnet_event){.at_ns = at_ns, .kind = VNET_CALL, .call = {fn, user, NULL, 0}});
}

void net_sim_on(net_sim_machine *machine, uint64_t at_ns, void (*fn)(void *user), void *user) {
    vnet_plan(machine->net, &(vnet_event){.at_ns = at_ns,
                                          .kind = VNET_CALL,
                                          .call = {fn, user, machine, machine->life}});
}

bool net_sim_running(const net_sim *net) { return net->running; }

bool net_sim_inside(const net_sim_machine *machine) { return machine->net->inside == machine; }

uint64_t net_sim_now(const net_sim *net) { return net->now_ns; }

void vnet_clock(net_sim_machine *machine) {
    const cal_os *os = cal_sim_os(machine->world);
    uint64_t mono = os->mono_ns(os->user);
    if (mono < machine->net->now_ns) cal_sim_advance(machine->world, machine->net->now_ns - mono);
}

void vnet_enter(net_sim_machine *machine) {
    vnet_clock(machine);
    machine->net->inside = machine;
}

/* --- life --- */

int net_sim_new(const net_sim_options *options, cal_sim *world, net_sim **ret_net) {
    net_sim *net = calloc(1, sizeof *net);
    if (!net) return CAL_ENOMEM;
    const cal_os *os = cal_sim_os(world);
    net->options = *options;
    if (!net->options.send_buffer) net->options.send_buffer = NET_SIM_BUFFER;
    if (!net->options.receive_buffer) net->options.receive_buffer = NET_SIM_BUFFER;
    if (!net->options.segment_max) net->options.segment_max = NET_SIM_SEGMENT;
    net->world = world;
    net->now_ns = os->mono_ns(os->user);
    cal_list_init(&net->connections);
    cal_list_init(&net->queries);
    *ret_net = net;
    return 0;
}

void net_sim_free(net_sim *net) {
    if (!net) return;
    for (size_t i = 0; i < net->machine_count; i++) net_sim_power_off(net->machines[i]);
    while (net->heap_len) {
        vnet_event event = take(net);
        drop_event(&event);
    }
    assert(cal_list_empty(&net->connections)); /* a host that was not freed holds the others */
    for (size_t i = 0; i < net->machine_count; i++) free(net->machines[i]);
    free(net->heap);
    free(net);
}

/* --- machines --- */

int net_sim_machine_new(net_sim *net, cal_sim *world, net_sim_machine **ret_machine) {
    if (net->machine_count == NET_SIM_MACHINES_MAX) return CAL_ELIMIT;
    net_sim_machine *machine = calloc(1, sizeof *machine);
    if (!machine) return CAL_ENOMEM;
    machine->net = net;
    machine->world = world;
    machine->index = net->machine_count;
    machine->next_port = 49152;
    for (size_t i = 0; i < NET_SIM_MACHINES_MAX; i++) machine->routes[i].path = net->options.path;
    machine->routes[machine->index].path = (net_sim_path){.delay_ns = 20000};
    process_init(machine);
    vnet_clock(machine);
    net->machines[net->machine_count++] = machine;
    *ret_machine = machine;
    return 0;
}

const cal_os *net_sim_os(net_sim_machine *machine) { return cal_sim_os(machine->world); }

static int parse_address(const char *text, cal_os_address *ret_address) {
    memset(ret_address, 0, sizeof *ret_address);
    ret_address->len = strchr(text, ':') ? 16 : 4;
    int family = ret_address->len == 16 ? AF_INET6 : AF_INET;
    return inet_pton(family, text, ret_address->bytes) == 1 ? 0 : CAL_EINVAL;
}

bool vnet_same_address(const cal_os_address *a, const cal_os_address *b) {
    return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

bool vnet_is_loopback(const cal_os_address *address) {
    static const uint8_t six[16] = {[15] = 1};
    if (address->len == 4) return address->bytes[0] == 127;
    return memcmp(address->bytes, six, sizeof six) == 0;
}

bool vnet_has_address(const net_sim_machine *machine, const cal_os_address *address) {
    if (vnet_is_loopback(address)) return true;
    for (size_t i = 0; i < machine->address_count; i++)
        if (vnet_same_address(&machine->addresses[i], address)) return true;
    return false;
}

net_sim_machine *vnet_machine_at(net_sim_machine *from, const cal_os_address *address) {
    if (vnet_is_loopback(address)) return from;
    for (size_t i = 0; i < from->net->machine_count; i++)
        if (vnet_has_address(from->net->machines[i], address)) return from->net->machines[i];
    return NULL;
}

int net_sim_address_add(net_sim_machine *machine, const char *text) {
    cal_os_address address;
    if (parse_address(text, &address) || vnet_is_loopback(&address)) return CAL_EINVAL;
    if (vnet_machine_at(machine, &address)) return CAL_EEXISTS;
    if (machine->address_count == NET_SIM_ADDRESSES_MAX) return CAL_ELIMIT;
    machine->addresses[machine->address_count++] = address;
    return 0;
}

void net_sim_address_remove(net_sim_machine *machine, const char *text) {
    cal_os_address address;
    if (parse_address(text, &address)) return;
    for (size_t i = 0; i < machine->address_count; i++) {
        if (!vnet_same_address(&machine->addresses[i], &address)) continue;
        machine->addresses[i] = machine->addresses[--machine->address_count];
        return;
    }
}

int net_sim_name(net_sim *net, const char *text, const char *const *addresses, size_t count) {
    vnet_name name = {.count = count};
    size_t at = 0, len = strlen(text);
    if (count > CAL_OS_ADDRESSES_MAX || len >= sizeof name.name) return CAL_EINVAL;
    memcpy(name.name, text, len + 1);
    for (size_t i = 0; i < count; i++)
        if (parse_address(addresses[i], &name.addresses[i])) return CAL_EINVAL;
    while (at < net->name_count && strcmp(net->names[at].name, text) != 0) at++;
    if (at == NET_SIM_NAMES_MAX) return CAL_ELIMIT;
    if (at == net->name_count) net->name_count++;
    net->names[at] = name;
    return 0;
}

void net_sim_lan_set(net_sim_machine *machine, unsigned lan) { machine->lan = lan; }

void net_sim_freeze(net_sim_machine *machine, uint64_t until_ns) {
    machine->frozen_until_ns = until_ns;
}

net_transport *net_sim_start(net_sim_machine *machine) {
    assert(!machine->alive);
    machine->power = machine->alive = machine->running = true;
    machine->life++;
    vnet_clock(machine);
    return &machine->table;
}

/* Calls fn for every end on a machine. One that it ends may be freed, its connection with it. */
static void each_wire(net_sim_machine *machine, void (*fn)(net_wire *wire)) {
    net_sim *net = machine->net;
    for (cal_list *at = net->connections.next; at != &net->connections;) {
        vnet_connection *connection = CAL_CONTAINER_OF(at, vnet_connection, link);
        connection->refs++;
        for (int i = 0; i < 2; i++)
            if (connection->ends[i].machine == machine) fn(&connection->ends[i]);
        at = at->next;
        connection_forget(connection);
    }
}

void net_sim_hang_up(net_sim_machine *machine) {
    process_end(machine);
    each_wire(machine, wire_kill);
}

void net_sim_kill(net_sim_machine *machine) {
    machine->alive = false;
    process_end(machine);
    each_wire(machine, wire_kill);
}

void net_sim_power_off(net_sim_machine *machine) {
    machine->alive = false;
    process_end(machine);
    each_wire(machine, wire_power_off);
    machine->power = false;
}

/* --- paths --- */

void net_sim_path_set(net_sim_machine *from, net_sim_machine *to, const net_sim_path *path) {
    from->routes[to->index].path = *path;
}

void net_sim_cut(net_sim_machine *from, net_sim_machine *to) { from->routes[to->index].cuts++; }

void net_sim_mend(net_sim_machine *from, net_sim_machine *to) {
    assert(from->routes[to->index].cuts > 0);
    from->routes[to->index].cuts--;
}

bool net_sim_is_cut(const net_sim_machine *from, const net_sim_machine *to) {
    return from->routes[to->index].cuts > 0;
}

void net_sim_reset(net_sim_machine *a, net_sim_machine *b) {
    net_sim *net = a->net;
    for (cal_list *at = net->connections.next; at != &net->connections; at = at->next) {
        net_wire *ends = CAL_CONTAINER_OF(at, vnet_connection, link)->ends;
        bool theirs = (ends[0].machine == a && ends[1].machine == b) ||
                      (ends[0].machine == b && ends[1].machine == a);
        for (int i = 0; theirs && i < 2; i++) wire_reset(&ends[i]);
    }
}

uint64_t net_sim_stalled_until(const net_sim_machine *a, const net_sim_machine *b) {
    uint64_t there = a->routes[b->index].stalled_until_ns,
             back = b->routes[a->index].stalled_until_ns;
    return there > back ? there : back;
}

bool vnet_travel(net_sim_machine *from, net_sim_machine *to, size_t bytes, uint64_t *ret_at_ns) {
    net_sim *net = from->net;
    vnet_route *route = &from->routes[to->index];
    const net_sim_path *path = &route->path;
    uint64_t leaves = net->now_ns;
    if (route->cuts) {
        net->stats.swallowed++;
        return false;
    }
    if (path->bytes_per_s) {
        if (route->free_at_ns > leaves) leaves = route->free_at_ns;
        leaves += (uint64_t)bytes * UINT64_C(1000000000) / path->bytes_per_s;
        route->free_at_ns = leaves;
    }
    uint64_t delay = path->delay_ns + vnet_below(net, path->jitter_ns);
    if (vnet_chance(net, path->late_ppm)) delay += vnet_below(net, path->late_ns);
    if (vnet_chance(net, path->loss_ppm)) {
        net->stats.lost++;
        return false;
    }
    *ret_at_ns = leaves + delay;
    return true;
}

/* --- figures --- */

void net_sim_stats_get(const net_sim *net, net_sim_stats *ret_stats) {
    *ret_stats = net->stats;
    ret_stats->queued = net->heap_len;
}

uint64_t net_sim_trace(const net_sim *net) { return net->trace; }
