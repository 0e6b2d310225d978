/* The transport table of the process that runs on a machine. What a host asks after its process
 * ended does nothing. See sim.h and internal.h. */
#include "net/sim/internal.h"

#include <assert.h>
#include <stdlib.h>

#include "base/error.h"

enum { NAME_ANSWER_NS = 30000000 };

static uint64_t process_now(void *user) {
    net_sim_machine *machine = user;
    vnet_clock(machine);
    return machine->net->now_ns;
}

/* --- listening --- */

static bool is_wildcard(const cal_os_address *address) {
    static const uint8_t zero[16] = {0};
    return memcmp(address->bytes, zero, address->len) == 0;
}

static bool same_door(const net_endpoint *door, const net_endpoint *at) {
    return door->port == at->port && door->address.len == at->address.len &&
           (is_wildcard(&door->address) || is_wildcard(&at->address) ||
            vnet_same_address(&door->address, &at->address));
}

bool process_listens(const net_sim_machine *machine, const net_endpoint *at) {
    for (size_t i = 0; i < machine->door_count; i++)
        if (same_door(&machine->doors[i], at)) return true;
    return false;
}

uint16_t process_port(net_sim_machine *machine) {
    machine->next_port = machine->next_port == UINT16_MAX ? 49152 : machine->next_port + 1;
    return machine->next_port;
}

static int process_listen(void *user, const net_endpoint *at, net_endpoint *ret_bound,
                          cal_error *err) {
    net_sim_machine *machine = user;
    net_endpoint door = *at;
    if (machine->door_count == NET_SIM_DOORS_MAX)
        return cal_fail(err, CAL_ELIMIT, "at most %d addresses", NET_SIM_DOORS_MAX);
    if (!machine->running ||
        (!is_wildcard(&at->address) && !vnet_has_address(machine, &at->address)))
        return cal_fail(err, CAL_EIO, "the machine does not have this address");
    if (door.port == 0) door.port = process_port(machine);
    if (process_listens(machine, &door)) return cal_fail(err, CAL_EIO, "address in use");
    machine->doors[machine->door_count++] = door;
    *ret_bound = door;
    return 0;
}

static void process_stop(void *user) {
    net_sim_machine *machine = user;
    machine->door_count = 0;
}

static size_t process_interfaces(void *user, const net_endpoint *at, net_endpoint *ret_endpoints,
                                 size_t max) {
    net_sim_machine *machine = user;
    cal_os_address loopback = {.len = at->address.len};
    size_t count = 0;
    if (loopback.len == 4) memcpy(loopback.bytes, (const uint8_t[]){127, 0, 0, 1}, 4);
    if (loopback.len == 16) loopback.bytes[15] = 1;
    if (count < max) ret_endpoints[count++] = (net_endpoint){loopback, at->port};
    for (size_t i = 0; i < machine->address_count && count < max; i++)
        if (machine->addresses[i].len == at->address.len)
            ret_endpoints[count++] = (net_endpoint){machine->addresses[i], at->port};
    return count;
}

/* --- connections --- */

static int process_dial(void *user, const net_endpoint *to, void *owner, net_wire **ret_wire) {
    net_sim_machine *machine = user;
    return machine->running ? wire_dial(machine, to, owner, ret_wire) : CAL_EUNREACHABLE;
}

/* --- names --- */

static int process_resolve(void *user, const char *name, void *asked) {
    net_sim_machine *machine = user;
    net_sim *net = machine->net;
    size_t len = strlen(name);
    if (!machine->running || machine->query_count == NET_SIM_QUERIES_MAX) return CAL_ELIMIT;
    if (len >= sizeof(((vnet_query *)0)->name)) return CAL_EUNREACHABLE;
    vnet_query *query = calloc(1, sizeof *query);
    if (!query) return CAL_ENOMEM;
    query->machine = machine;
    query->life = machine->life;
    query->asked = asked;
    memcpy(query->name, name, len + 1);
    machine->query_count++;
    cal_list_push(&net->queries, &query->link);
    vnet_plan(net,
              &(vnet_event){.at_ns = net->now_ns + NAME_ANSWER_NS + vnet_below(net, NAME_ANSWER_NS),
                            .kind = VNET_ANSWER,
                            .query = query});
    return 0;
}

static void process_forget(void *user, void *asked) {
    net_sim_machine *machine = user;
    for (cal_list *at = machine->net->queries.next; at != &machine->net->queries; at = at->next) {
        vnet_query *query = CAL_CONTAINER_OF(at, vnet_query, link);
        if (query->machine == machine && query->asked == asked) query->asked = NULL;
    }
}

void process_answer(vnet_query *query) {
    net_sim_machine *machine = query->machine;
    net_sim *net = machine->net;
    if (query->life != machine->life || !machine->running) return;
    machine->query_count--;
    if (!query->asked) return;
    const vnet_name *name = NULL;
    for (size_t i = 0; i < net->name_count; i++)
        if (strcmp(net->names[i].name, query->name) == 0) name = &net->names[i];
    bool found = name && name->count;
    vnet_enter(machine);
    machine->table.events->resolved(query->asked, found ? 0 : CAL_EUNREACHABLE,
                                    found ? name->addresses : NULL, found ? name->count : 0);
}

/* --- datagrams --- */

static int process_join(void *user, const net_endpoint *group, cal_error *err) {
    net_sim_machine *machine = user;
    if (machine->group.port) return cal_fail(err, CAL_EEXISTS, "a group is joined already");
    if (!machine->running || !group->port) return cal_fail(err, CAL_EIO, "no such group");
    machine->group = *group;
    return 0;
}

static void process_leave(void *user) {
    net_sim_machine *machine = user;
    machine->group.port = 0;
}

static bool same_group(const net_sim_machine *a, const net_sim_machine *b) {
    return a->lan == b->lan && a->group.port == b->group.port &&
           vnet_same_address(&a->group.address, &b->group.address);
}

static void send_copy(net_sim_machine *from, net_sim_machine *to, const uint8_t *bytes,
                      size_t len) {
    net_sim *net = from->net;
    uint64_t at_ns;
    net->stats.packets++;
    if (!vnet_travel(from, to, VNET_HEADER + len, &at_ns)) return;
    bool twice = vnet_chance(net, from->routes[to->index].path.duplicate_ppm);
    net->stats.doubled += twice;
    for (int i = 0; i <= twice; i++) {
        vnet_datagram *datagram = malloc(sizeof *datagram + len);
        if (!datagram || net->heap_len >= NET_SIM_EVENTS_MAX) {
            net->stats.dropped++;
            free(datagram);
            return;
        }
        *datagram = (vnet_datagram){from, to, to->life, len};
        memcpy(datagram->bytes, bytes, len);
        vnet_plan(net, &(vnet_event){.at_ns = at_ns, .kind = VNET_DATAGRAM, .datagram = datagram});
    }
}

static void process_send_all(void *user, const uint8_t *bytes, size_t len) {
    net_sim_machine *machine = user;
    net_sim *net = machine->net;
    if (!machine->running || !machine->group.port || len > NET_SIM_DATAGRAM_MAX) return;
    for (size_t i = 0; i < net->machine_count; i++)
        if (same_group(machine, net->machines[i])) send_copy(machine, net->machines[i], bytes, len);
}

void process_datagram(const vnet_datagram *datagram) {
    net_sim_machine *machine = datagram->to;
    net_sim *net = machine->net;
    if (!machine->running || machine->life != datagram->life || !machine->group.port ||
        net->now_ns < machine->frozen_until_ns || net_sim_is_cut(datagram->from, machine)) {
        net->stats.swallowed++;
        return;
    }
    vnet_note(net, VNET_DATAGRAM, machine->index, datagram->len);
    vnet_enter(machine);
    machine->table.events->datagram(machine->table.events->user, datagram->bytes, datagram->len);
}

/* --- the alarm --- */

/* One event stands in the heap for the earliest time that was asked for; when it comes too early,
 * it is planned anew. */
static void process_wake_at(void *user, uint64_t at_ns) {
    net_sim_machine *machine = user;
    if (!machine->running) return;
    machine->wake_ns = at_ns;
    if (at_ns == NET_NEVER || at_ns >= machine->wake_queued_ns) return;
    machine->wake_queued_ns = at_ns;
    vnet_plan(machine->net, &(vnet_event){.at_ns = at_ns, .kind = VNET_ALARM, .machine = machine});
}

void process_alarm(net_sim_machine *machine) {
    net_sim *net = machine->net;
    if (!machine->running || machine->wake_queued_ns > net->now_ns) return; /* of one before */
    machine->wake_queued_ns = NET_NEVER;
    if (machine->wake_ns > net->now_ns) {
        process_wake_at(machine, machine->wake_ns);
        return;
    }
    machine->wake_ns = NET_NEVER;
    vnet_note(net, VNET_ALARM, machine->index, 0);
    vnet_enter(machine);
    machine->table.events->wake(machine->table.events->user);
}

/* --- life --- */

void process_init(net_sim_machine *machine) {
    machine->table = (net_transport){.user = machine,
                                     .now_ns = process_now,
                                     .listen = process_listen,
                                     .dial = process_dial,
                                     .send = wire_send,
                                     .pause = wire_pause,
                                     .close = wire_close,
                                     .resolve = process_resolve,
                                     .forget = process_forget,
                                     .wake_at = process_wake_at,
                                     .interfaces = process_interfaces,
                                     .stop = process_stop,
                                     .multicast_join = process_join,
                                     .multicast_send = process_send_all,
                                     .multicast_leave = process_leave};
    machine->wake_ns = machine->wake_queued_ns = NET_NEVER;
}

void process_end(net_sim_machine *machine) {
    machine->running = false;
    machine->frozen_until_ns = 0;
    machine->group.port = 0;
    machine->door_count = machine->query_count = 0;
    machine->wake_ns = machine->wake_queued_ns = NET_NEVER;
}
