/* Connections: a small TCP. Handshake, cumulative acknowledgements, one retransmission timer with
 * doubling timeouts and going back to what was not acknowledged, resending after three same
 * acknowledgements, windows with probes, ends and resets. See sim.h and internal.h.
 *
 * Callbacks run only from events, which hold a reference to the connection. */
#include "net/sim/internal.h"

#include <assert.h>
#include <stdlib.h>

#define FIRST_TIMEOUT_NS UINT64_C(1000000000)
#define LEAST_TIMEOUT_NS UINT64_C(200000000)
#define LONGEST_TIMEOUT_NS UINT64_C(60000000000)
enum {
    ASK_RETRIES = 6,
    ASK_BACK_RETRIES = 5,
    RETRIES = 15,
    ORPHAN_RETRIES = 8, /* the process closed it long ago */
    STALL_RETRIES = 2,
    SAME_ACKS = 3,
    SHORT_SEGMENT_PPM = 100000,
    SHORT_READ_PPM = 100000,
};

static net_wire *other_end(net_wire *wire) {
    vnet_connection *connection = wire->connection;
    return &connection->ends[wire == &connection->ends[0]];
}

static net_sim *net_of(const net_wire *wire) { return wire->connection->net; }

static uint64_t written(const net_wire *wire) { return wire->out_base + wire->out.len; }

static const net_transport_events *events_of(const net_wire *wire) {
    return wire->machine->table.events;
}

/* --- life --- */

static void wire_init(net_wire *wire, vnet_connection *connection) {
    const net_sim_options *options = &connection->net->options;
    wire->connection = connection;
    wire->end_at = UINT64_MAX;
    wire->window_end = wire->announced = options->receive_buffer;
    wire->timer_ns = wire->timer_queued_ns = NET_NEVER;
    wire->timed = UINT64_MAX;
    cal_buffer_init(&wire->out, options->send_buffer);
    cal_buffer_init(&wire->in, options->receive_buffer);
}

void connection_forget(vnet_connection *connection) {
    assert(connection->refs > 0);
    if (--connection->refs > 0) return;
    connection->net->stats.connections--;
    cal_list_remove(&connection->link);
    for (int i = 0; i < 2; i++) {
        cal_buffer_deinit(&connection->ends[i].out);
        cal_buffer_deinit(&connection->ends[i].in);
    }
    free(connection);
}

static void begin(net_wire *wire, enum vnet_state state) {
    assert(wire->state == VNET_NONE);
    wire->state = state;
    wire->connection->refs++;
}

/* The connection may be freed, unless the caller holds it. */
static void over(net_wire *wire) {
    bool lived = wire->state != VNET_NONE && wire->state != VNET_OVER;
    wire->state = VNET_OVER;
    wire->timer_ns = NET_NEVER;
    if (lived) connection_forget(wire->connection);
}

/* The process holds it no longer. Here too the connection may be freed. */
static void detach(net_wire *wire) {
    bool attached = wire->attached;
    wire->owner = NULL;
    wire->attached = false;
    if (attached) connection_forget(wire->connection);
}

/* --- packets --- */

static void plan_packet(const vnet_packet *packet, uint64_t at_ns) {
    net_sim *net = packet->from->net;
    if (net->heap_len >= NET_SIM_EVENTS_MAX) {
        net->stats.dropped++;
        return;
    }
    packet->to->connection->refs++;
    vnet_plan(net, &(vnet_event){.at_ns = at_ns, .kind = VNET_PACKET, .packet = *packet});
}

static void send_from(net_sim_machine *from, vnet_packet packet) {
    net_sim *net = from->net;
    net_sim_machine *to = vnet_machine_at(from, &packet.to->local.address);
    uint64_t at_ns;
    packet.from = from;
    packet.sent = ++net->stats.packets;
    if (!to) {
        net->stats.swallowed++;
        return;
    }
    if (!vnet_travel(from, to, VNET_HEADER + packet.len, &at_ns)) return;
    plan_packet(&packet, at_ns);
    if (!vnet_chance(net, from->routes[to->index].path.duplicate_ppm)) return;
    net->stats.doubled++;
    plan_packet(&packet, at_ns + vnet_below(net, from->routes[to->index].path.jitter_ns + 1));
}

static void send_packet(net_wire *wire, enum vnet_packet_kind kind, uint64_t number, uint32_t len,
                        bool end) {
    if (!wire->machine->power || !vnet_has_address(wire->machine, &wire->local.address)) {
        net_of(wire)->stats.swallowed++;
        return;
    }
    wire->announced = wire->received + net_of(wire)->options.receive_buffer - wire->in.len;
    send_from(wire->machine, (vnet_packet){.to = other_end(wire),
                                           .kind = kind,
                                           .number = number,
                                           .len = len,
                                           .end = end,
                                           .ack = wire->received,
                                           .window_end = wire->announced});
}

static void send_ack(net_wire *wire) { send_packet(wire, VNET_ACK, 0, 0, false); }

static void send_reset(net_wire *wire) { send_packet(wire, VNET_RST, 0, 0, false); }

/* --- the timer --- */

static uint64_t timeout_of(const net_wire *wire) {
    uint64_t first = wire->rtt_ns ? LEAST_TIMEOUT_NS + 2 * wire->rtt_ns : FIRST_TIMEOUT_NS;
    uint64_t timeout = wire->retries < 16 ? first << wire->retries : LONGEST_TIMEOUT_NS;
    return timeout < LONGEST_TIMEOUT_NS ? timeout : LONGEST_TIMEOUT_NS;
}

static void arm(net_wire *wire, uint64_t at_ns) {
    wire->timer_ns = at_ns;
    if (at_ns >= wire->timer_queued_ns) return;
    wire->timer_queued_ns = at_ns;
    wire->connection->refs++;
    vnet_plan(net_of(wire), &(vnet_event){.at_ns = at_ns, .kind = VNET_TIMER, .wire = wire});
}

/* --- sending --- */

/* One segment from `next` on, at most so long. */
static void send_segment(net_wire *wire, uint64_t len) {
    net_sim *net = net_of(wire);
    if (len > net->options.segment_max) len = net->options.segment_max;
    if (len > 1 && vnet_chance(net, SHORT_SEGMENT_PPM)) len = 1 + vnet_below(net, len);
    bool again = wire->next < wire->highest;
    bool end = wire->finish && wire->next + len == written(wire);
    send_packet(wire, VNET_DATA, wire->next, (uint32_t)len, end);
    wire->next += len + end;
    if (again) {
        net->stats.resent++;
        wire->timed = UINT64_MAX; /* its acknowledgement would tell nothing of the way */
    } else if (wire->timed == UINT64_MAX) {
        wire->timed = wire->next;
        wire->timed_ns = net->now_ns;
    }
    if (wire->next > wire->highest) wire->highest = wire->next;
}

/* Whether there is something that may be sent at once: bytes in the window, or the end. */
static bool may_send(const net_wire *wire) {
    if (wire->next < written(wire)) return wire->next < wire->window_end;
    return wire->finish && wire->next == written(wire);
}

static uint64_t sendable(const net_wire *wire) {
    uint64_t end = written(wire) < wire->window_end ? written(wire) : wire->window_end;
    return end > wire->next ? end - wire->next : 0;
}

static void push(net_wire *wire) {
    if (wire->state != VNET_OPEN) return;
    while (may_send(wire)) send_segment(wire, sendable(wire));
    bool waits = wire->next > wire->acked || wire->next < written(wire);
    if (!waits)
        wire->timer_ns = NET_NEVER;
    else if (wire->timer_ns == NET_NEVER)
        arm(wire, net_of(wire)->now_ns + timeout_of(wire));
}

/* The first of what was not acknowledged goes again. */
static void send_again(net_wire *wire) {
    wire->next = wire->acked;
    send_segment(wire, sendable(wire));
}

/* A gap was seen by the other end: only that is sent again. */
static void send_hurried(net_wire *wire) {
    uint64_t next = wire->next;
    send_again(wire);
    if (next > wire->next) wire->next = next;
    wire->hurried = true;
}

/* --- what the process is told --- */

/* The last thing it hears of this wire. */
static void tell_closed(net_wire *wire, int result) {
    const net_transport_events *events = events_of(wire);
    void *owner = wire->owner;
    if (wire->state == VNET_OPEN) {
        wire->finish = true;
        push(wire);
    }
    vnet_note(net_of(wire), 100, wire->connection->number, (uint64_t)-result);
    wire->connection->refs++;
    detach(wire);
    vnet_enter(wire->machine);
    events->closed(owner, result);
    connection_forget(wire->connection);
}

static void note_bytes(net_sim *net, const uint8_t *bytes, size_t len) {
    uint64_t sum = len;
    for (size_t i = 0; i + 8 <= len; i += 8) {
        uint64_t word;
        memcpy(&word, bytes + i, 8);
        sum = (sum ^ word) * 0x9e3779b97f4a7c15u;
        sum ^= sum >> 31;
    }
    for (size_t i = len & ~(size_t)7; i < len; i++) sum = sum * 257 + bytes[i];
    net_sim_note(net, sum);
}

static void deliver(net_wire *wire) {
    net_sim *net = net_of(wire);
    if (wire->owner) vnet_enter(wire->machine);
    while (wire->owner && !wire->paused && wire->in.len) {
        size_t len = wire->in.len < VNET_READ_MAX ? wire->in.len : VNET_READ_MAX;
        if (len > 1 && vnet_chance(net, SHORT_READ_PPM)) len = 1 + vnet_below(net, len);
        memcpy(net->scratch, wire->in.data, len);
        cal_buffer_consume(&wire->in, len);
        net->stats.bytes += len;
        note_bytes(net, net->scratch, len);
        events_of(wire)->received(wire->owner, net->scratch, len);
    }
    if (wire->in.len == 0) cal_buffer_deinit(&wire->in);
    if (wire->state == VNET_OPEN) {
        uint64_t room = wire->received + net->options.receive_buffer - wire->in.len;
        if (room - wire->announced >= net->options.receive_buffer / 2) send_ack(wire);
    }
    if (!wire->owner) return;
    bool read_all = !wire->paused && wire->in.len == 0;
    if (wire->reset && (read_all || wire->short_send))
        tell_closed(wire, CAL_EUNREACHABLE);
    else if (read_all && wire->received > wire->end_at)
        tell_closed(wire, 0);
}

/* The connection is no more, for a reason that this end found out. */
static void lost(net_wire *wire, int result) {
    over(wire);
    if (wire->owner) tell_closed(wire, result);
}

/* --- packets that came --- */

static void on_syn(net_wire *wire, net_sim_machine *machine) {
    if (wire->state == VNET_NONE && machine->running && process_listens(machine, &wire->local)) {
        wire->machine = machine;
        begin(wire, VNET_ASKED_BACK);
        arm(wire, net_of(wire)->now_ns + FIRST_TIMEOUT_NS);
        send_packet(wire, VNET_SYN_ACK, 0, 0, false);
    } else if (wire->state == VNET_ASKED_BACK) {
        send_packet(wire, VNET_SYN_ACK, 0, 0, false);
    } else if (wire->state == VNET_OPEN) {
        send_ack(wire);
    } else {
        send_from(machine, (vnet_packet){.to = other_end(wire), .kind = VNET_RST});
    }
}

static void become_open(net_wire *wire) {
    wire->state = VNET_OPEN;
    wire->retries = 0;
    wire->timer_ns = NET_NEVER;
    vnet_enter(wire->machine);
}

static void on_answered(net_wire *wire) {
    if (wire->state == VNET_ASKED) {
        become_open(wire);
        send_ack(wire);
        events_of(wire)->connected(wire->owner, &wire->local);
    } else if (wire->state == VNET_OPEN) {
        send_ack(wire);
    }
}

static void accept(net_wire *wire) {
    const net_transport_events *events = events_of(wire);
    net_endpoint remote = other_end(wire)->local;
    become_open(wire);
    wire->attached = true;
    wire->connection->refs++;
    void *owner = events->accepted(events->user, wire, &remote, &wire->local);
    if (owner)
        wire->owner = owner;
    else
        wire_close(wire, false);
}

static void on_reset(net_wire *wire) {
    net_of(wire)->stats.resets++;
    bool open = wire->state == VNET_OPEN;
    over(wire);
    wire->reset = true;
    if (!wire->owner) return;
    if (open)
        deliver(wire); /* what came before it may still be read */
    else
        tell_closed(wire, CAL_EUNREACHABLE);
}

static void measure(net_wire *wire) {
    if (wire->timed > wire->acked) return;
    uint64_t sample = net_of(wire)->now_ns - wire->timed_ns, known = wire->rtt_ns / 8 * 7;
    wire->rtt_ns = sample > known ? sample : known;
    wire->timed = UINT64_MAX;
}

static void on_progress(net_wire *wire, uint64_t ack) {
    uint64_t bytes_end = ack < written(wire) ? ack : written(wire);
    wire->acked = ack;
    if (wire->next < ack) wire->next = ack;
    wire->retries = wire->same_acks = 0;
    wire->hurried = false;
    wire->timer_ns = NET_NEVER;
    measure(wire);
    cal_buffer_consume(&wire->out, (size_t)(bytes_end - wire->out_base));
    wire->out_base = bytes_end;
    if (wire->out.len == 0) cal_buffer_deinit(&wire->out);
}

static void on_ack(net_wire *wire, const vnet_packet *packet) {
    if (packet->ack > wire->highest) return;
    if (packet->window_end > wire->window_end) wire->window_end = packet->window_end;
    if (packet->ack > wire->acked) {
        on_progress(wire, packet->ack);
    } else if (packet->ack == wire->acked && packet->kind == VNET_ACK) {
        if (wire->next == wire->acked)
            wire->retries = 0; /* an answer to a probe: the peer is there */
        else if (++wire->same_acks == SAME_ACKS && !wire->hurried)
            send_hurried(wire);
    }
    push(wire);
    if (!wire->owner) { /* closed here: over when all of it arrived */
        if (wire->finish && wire->acked > written(wire)) over(wire);
        return;
    }
    if (!wire->short_send || wire->out.len > net_of(wire)->options.send_buffer / 2) return;
    wire->short_send = false;
    vnet_enter(wire->machine);
    events_of(wire)->writable(wire->owner);
}

/* Takes bytes up to a number out of the sender's buffer. */
static void take(net_wire *wire, uint64_t to) {
    const net_wire *sender = other_end(wire);
    if (to <= wire->received) return;
    assert(sender->out_base <= wire->received && to <= written(sender));
    size_t len = (size_t)(to - wire->received);
    if (cal_buffer_append(&wire->in, sender->out.data + (wire->received - sender->out_base), len))
        return;
    wire->received = to;
}

static void take_held(net_wire *wire) {
    for (size_t i = 0; i < wire->held_count;) {
        vnet_range range = wire->held[i];
        if (range.from > wire->received) {
            i++;
            continue;
        }
        take(wire, range.to);
        wire->held[i] = wire->held[--wire->held_count];
        i = 0;
    }
}

static void on_data(net_wire *wire, const vnet_packet *packet) {
    uint64_t from = packet->number, to = from + packet->len;
    uint64_t limit = wire->received + net_of(wire)->options.receive_buffer - wire->in.len;
    if (!wire->owner && to > wire->received && packet->len) { /* nobody will read it */
        send_reset(wire);
        over(wire);
        return;
    }
    if (packet->end) wire->end_at = to;
    if (to > limit) to = limit;
    if (from <= wire->received)
        take(wire, to);
    else if (from < to && wire->held_count < VNET_HELD_MAX)
        wire->held[wire->held_count++] = (vnet_range){from, to};
    take_held(wire);
    if (wire->received == wire->end_at) wire->received++;
    send_ack(wire);
    deliver(wire);
}

void wire_packet(const vnet_packet *packet) {
    net_wire *wire = packet->to;
    net_sim_machine *machine = vnet_machine_at(packet->from, &wire->local.address);
    vnet_note(net_of(wire), packet->kind, wire->connection->number,
              packet->number * 2 + (wire == &wire->connection->ends[0]));
    if (packet->kind == VNET_SYN) {
        on_syn(wire, machine);
        return;
    }
    if (wire->state == VNET_NONE || wire->state == VNET_OVER || wire->machine != machine) {
        if (packet->kind != VNET_RST) /* the machine knows nothing of it */
            send_from(machine, (vnet_packet){.to = other_end(wire), .kind = VNET_RST});
        return;
    }
    if (packet->kind == VNET_RST) {
        on_reset(wire);
        return;
    }
    if (packet->kind == VNET_SYN_ACK) {
        on_answered(wire);
        return;
    }
    if (wire->state == VNET_ASKED_BACK) accept(wire);
    if (wire->state != VNET_OPEN) return;
    if (packet->kind == VNET_PROBE) send_ack(wire);
    on_ack(wire, packet);
    if (packet->kind == VNET_DATA && wire->state == VNET_OPEN) on_data(wire, packet);
}

/* --- time --- */

static void note_stall(net_wire *wire) {
    net_sim_machine *peer = vnet_machine_at(wire->machine, &other_end(wire)->local.address);
    if (!peer || !wire->owner || wire->retries < STALL_RETRIES) return;
    vnet_route *route = &wire->machine->routes[peer->index];
    if (wire->timer_ns > route->stalled_until_ns) route->stalled_until_ns = wire->timer_ns;
}

static void on_timeout(net_wire *wire) {
    unsigned most = wire->state == VNET_ASKED        ? ASK_RETRIES
                    : wire->state == VNET_ASKED_BACK ? ASK_BACK_RETRIES
                    : wire->owner                    ? RETRIES
                                                     : ORPHAN_RETRIES;
    if (wire->retries++ >= most) {
        lost(wire, CAL_ETIMEOUT);
        return;
    }
    arm(wire, net_of(wire)->now_ns + timeout_of(wire));
    note_stall(wire);
    if (wire->state == VNET_ASKED)
        send_packet(wire, VNET_SYN, 0, 0, false);
    else if (wire->state == VNET_ASKED_BACK)
        send_packet(wire, VNET_SYN_ACK, 0, 0, false);
    else if (wire->next > wire->acked) /* what follows waits for the answer */
        send_again(wire);
    else
        send_packet(wire, VNET_PROBE, 0, 0, false);
}

void wire_timer(net_wire *wire) {
    uint64_t now = net_of(wire)->now_ns;
    if (wire->timer_queued_ns > now) return; /* of a timer before */
    wire->timer_queued_ns = NET_NEVER;
    if (wire->timer_ns == NET_NEVER) return;
    if (wire->timer_ns > now)
        arm(wire, wire->timer_ns);
    else
        on_timeout(wire);
}

/* --- the process's side --- */

static int local_address(net_sim_machine *machine, const net_endpoint *to,
                         cal_os_address *ret_address) {
    if (vnet_is_loopback(&to->address)) {
        *ret_address = to->address;
        return 0;
    }
    for (size_t i = 0; i < machine->address_count; i++) {
        if (machine->addresses[i].len != to->address.len) continue;
        *ret_address = machine->addresses[i];
        return 0;
    }
    return CAL_EUNREACHABLE;
}

int wire_dial(net_sim_machine *machine, const net_endpoint *to, void *owner, net_wire **ret_wire) {
    net_sim *net = machine->net;
    cal_os_address address;
    if (local_address(machine, to, &address)) return CAL_EUNREACHABLE;
    if (net->stats.connections >= NET_SIM_CONNECTIONS_MAX) return CAL_ELIMIT;
    vnet_connection *connection = calloc(1, sizeof *connection);
    if (!connection) return CAL_ENOMEM;
    connection->net = net;
    connection->number = net->numbers++;
    cal_list_push(&net->connections, &connection->link);
    net->stats.connections++;
    net_wire *wire = &connection->ends[0];
    for (int i = 0; i < 2; i++) wire_init(&connection->ends[i], connection);
    wire->machine = machine;
    wire->local = (net_endpoint){address, process_port(machine)};
    wire->owner = owner;
    wire->attached = true;
    connection->refs = 1;
    connection->ends[1].local = *to;
    begin(wire, VNET_ASKED);
    arm(wire, net->now_ns + FIRST_TIMEOUT_NS);
    send_packet(wire, VNET_SYN, 0, 0, false);
    *ret_wire = wire;
    return 0;
}

static void plan_read(net_wire *wire) {
    wire->connection->refs++;
    vnet_plan(net_of(wire),
              &(vnet_event){.at_ns = net_of(wire)->now_ns, .kind = VNET_READ, .wire = wire});
}

size_t wire_send(net_wire *wire, const uint8_t *bytes, size_t len) {
    size_t room = net_of(wire)->options.send_buffer - wire->out.len;
    size_t part = len < room ? len : room;
    if (wire->dead || wire->state != VNET_OPEN || cal_buffer_append(&wire->out, bytes, part))
        part = 0;
    if (part < len) wire->short_send = true;
    if (wire->reset && !wire->dead) plan_read(wire); /* now it shows */
    if (part) push(wire);
    return part;
}

void wire_pause(net_wire *wire, bool paused) {
    if (wire->dead || wire->paused == paused) return;
    wire->paused = paused;
    if (!paused) plan_read(wire);
}

void wire_read(net_wire *wire) {
    if (wire->owner) deliver(wire);
}

/* What a kernel does with a connection whose process closed it. */
static void close_end(net_wire *wire, bool abort) {
    if (wire->state == VNET_ASKED || wire->state == VNET_ASKED_BACK || wire->state == VNET_OVER) {
        over(wire);
    } else if (abort || wire->in.len) {
        send_reset(wire);
        over(wire);
    } else {
        wire->finish = true;
        push(wire);
    }
}

void wire_close(net_wire *wire, bool abort) {
    if (!wire->attached) return;
    vnet_note(net_of(wire), 101, wire->connection->number, abort);
    wire->owner = NULL;
    if (!wire->dead) close_end(wire, abort);
    detach(wire);
}

void wire_kill(net_wire *wire) {
    if (!wire->attached && wire->state != VNET_ASKED_BACK) return; /* it was closed before */
    if (wire->dead) return;
    wire->owner = NULL;
    wire->dead = wire->attached;
    close_end(wire, false);
}

void wire_reset(net_wire *wire) {
    send_from(other_end(wire)->machine, (vnet_packet){.to = wire, .kind = VNET_RST});
}

void wire_power_off(net_wire *wire) {
    wire->owner = NULL;
    wire->dead = wire->attached;
    over(wire);
}
