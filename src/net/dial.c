/* Dialling: a peer's addresses in the order of RFC 8305 (families in turn), a few at a time, the
 * first that is secured wins. See internal.h. */
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "net/internal.h"

enum { BACKOFF_STEPS_MAX = 9 };

bool endpoint_loopback(const net_endpoint *endpoint) {
    static const uint8_t six[16] = {[15] = 1};
    if (endpoint->address.len == 4) return endpoint->address.bytes[0] == 127;
    return memcmp(endpoint->address.bytes, six, sizeof six) == 0;
}

bool net_endpoint_link_local(const net_endpoint *endpoint) {
    const uint8_t *bytes = endpoint->address.bytes;
    return endpoint->address.len == 16 && bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80;
}

/* "localhost" and what is below it, which leads nowhere else (RFC 6761 6.3). */
static bool name_loopback(const char *name) {
    static const char local[] = "localhost";
    size_t len = strlen(name), own = sizeof local - 1;
    if (len > 0 && name[len - 1] == '.') len--;
    if (len < own || strncasecmp(name + len - own, local, own) != 0) return false;
    return len == own || name[len - own - 1] == '.';
}

bool address_loopback(const cal_multiaddr *address) {
    multiaddr_target target;
    if (multiaddr_target_of(address, &target)) return false;
    return target.name[0] ? name_loopback(target.name) : endpoint_loopback(&target.endpoint);
}

bool endpoint_wildcard(const net_endpoint *endpoint) {
    static const uint8_t zero[16] = {0};
    return memcmp(endpoint->address.bytes, zero, endpoint->address.len) == 0;
}

uint64_t dial_pause_ns(cal_p2p *host, uint32_t failures) {
    uint32_t steps = failures < BACKOFF_STEPS_MAX ? failures : BACKOFF_STEPS_MAX;
    uint64_t pause = NET_MS(NET_RETRY_MIN_MS) << steps, random;
    if (pause > NET_MS(NET_RETRY_MAX_MS)) pause = NET_MS(NET_RETRY_MAX_MS);
    net_random(host, &random, sizeof random);
    return pause / 2 + random % pause; /* half to one and a half */
}

/* --- targets --- */

static size_t find_target(const net_dial *dial, const net_endpoint *endpoint) {
    size_t i = 0;
    while (i < dial->target_count && (dial->targets[i].port != endpoint->port ||
                                      dial->targets[i].address.len != endpoint->address.len ||
                                      memcmp(dial->targets[i].address.bytes,
                                             endpoint->address.bytes, endpoint->address.len) != 0))
        i++;
    return i;
}

/* Adds one at `at`, not before those that were tried; what has no room falls off the end. */
static void insert_target(net_dial *dial, const net_endpoint *endpoint, size_t at) {
    if (endpoint->port == 0 || endpoint_wildcard(endpoint)) return;
    size_t last = find_target(dial, endpoint);
    if (last < at) return; /* it is tried sooner */
    if (last == dial->target_count) {
        if (dial->target_count < NET_DIAL_TARGETS)
            dial->target_count++;
        else if (at < NET_DIAL_TARGETS)
            last = NET_DIAL_TARGETS - 1;
        else
            return;
    }
    memmove(&dial->targets[at + 1], &dial->targets[at], (last - at) * sizeof *dial->targets);
    dial->targets[at] = *endpoint;
}

/* Puts the targets not tried yet in turns of family, IPv6 first, each family in its order. */
static void take_turns(net_dial *dial) {
    net_endpoint sorted[NET_DIAL_TARGETS];
    size_t count = 0, at[2] = {dial->next, dial->next};
    uint8_t sizes[2] = {16, 4};
    while (count < dial->target_count - dial->next) {
        for (int family = 0; family < 2; family++) {
            size_t i = at[family];
            while (i < dial->target_count && dial->targets[i].address.len != sizes[family]) i++;
            if (i < dial->target_count) sorted[count++] = dial->targets[i];
            at[family] = i < dial->target_count ? i + 1 : i;
        }
    }
    memcpy(dial->targets + dial->next, sorted, count * sizeof *sorted);
}

static void add_name(net_dial *dial, const multiaddr_target *target, bool announced) {
    cal_p2p *host = dial->host;
    for (size_t i = 0; i < NET_DIAL_QUERIES; i++) {
        dial_query *query = &dial->queries[i];
        if (query->dial) continue;
        *query = (dial_query){dial, target->endpoint.port, target->host, announced};
        if (host->transport->resolve(host->transport->user, target->name, query))
            query->dial = NULL;
        else
            dial->query_count++;
        return;
    }
}

static void add_address(net_dial *dial, const cal_multiaddr *address, bool announced) {
    multiaddr_target target;
    if (multiaddr_target_of(address, &target)) return;
    if (target.has_peer && dial->peer.len == 0) dial->peer = target.peer;
    if (target.has_peer && !cal_peer_id_equal(&target.peer, &dial->peer)) return;
    if (target.name[0])
        add_name(dial, &target, announced);
    else
        insert_target(dial, &target.endpoint, dial->target_count);
}

void dial_resolved(void *user, int result, const cal_os_address *addresses, size_t count) {
    dial_query *query = user;
    net_dial *dial = query->dial;
    cal_p2p *host = dial->host;
    host_enter(host);
    query->dial = NULL;
    dial->query_count--;
    if (result) snprintf(dial->detail, sizeof dial->detail, "the name does not resolve");
    size_t at = dial->next; /* a name tells where it is now: before what is only remembered */
    for (size_t i = 0; i < count; i++) {
        net_endpoint endpoint = {addresses[i], query->port};
        bool six = endpoint.address.len == 16;
        if ((six && query->host == MULTIADDR_DNS4) || (!six && query->host == MULTIADDR_DNS6))
            continue;
        if (query->announced && endpoint_loopback(&endpoint)) continue;
        insert_target(dial, &endpoint, at);
        if (at < dial->target_count && find_target(dial, &endpoint) == at) at++;
    }
    take_turns(dial);
    dial_step(dial);
    host_leave(host);
}

/* --- the end of a dial --- */

static void answer(net_dial *dial, int result, const cal_peer_id *peer, const char *detail) {
    cal_p2p *host = dial->host;
    for (cal_list *at; (at = cal_list_pop(&dial->waiters));) {
        dial_waiter *waiter = CAL_CONTAINER_OF(at, dial_waiter, link);
        waiter->result = result;
        waiter->peer = *peer;
        snprintf(waiter->detail, sizeof waiter->detail, "%s", detail);
        cal_list_push(&host->answers, &waiter->link);
    }
}

static void blame(net_dial *dial, const net_connection *connection) {
    net_peer *peer = dial->peer.len ? peer_find(dial->host, &dial->peer) : NULL;
    if (peer) peer_blame(peer, &connection->remote);
}

/* Gives up what is still under way and frees it. */
static void finish(net_dial *dial) {
    cal_p2p *host = dial->host;
    for (cal_list *at = host->pending.next, *next; at != &host->pending; at = next) {
        net_connection *connection = CAL_CONTAINER_OF(at, net_connection, link);
        next = at->next;
        if (connection->dial != dial) continue;
        if (host->now_ns >= dial->deadline_ns) blame(dial, connection);
        connection->dial = NULL;
        connection_close(connection, CAL_ECANCELED);
    }
    for (size_t i = 0; i < NET_DIAL_QUERIES; i++)
        if (dial->queries[i].dial)
            host->transport->forget(host->transport->user, &dial->queries[i]);
    net_peer *peer = dial->peer.len ? peer_find(host, &dial->peer) : NULL;
    if (peer && peer->dial == dial) peer->dial = NULL;
    cal_list_remove(&dial->link);
    free(dial);
}

/* Said once, until the peer is reached again: who keeps a peer wants to know why it is not there.
 */
static void say_unreached(const net_peer *peer, const char *detail) {
    char text[CAL_PEER_ID_TEXT_MAX];
    cal_peer_id_text(&peer->id, text);
    cal_log(CAL_LOG_WARN, "net", "peer %s is not reached, and is tried again: %s", text, detail);
}

void dial_fail(net_dial *dial, int failure, const char *detail) {
    cal_p2p *host = dial->host;
    net_peer *peer = dial->peer.len ? peer_find(host, &dial->peer) : NULL;
    host->stats.dials_failed++;
    if (peer) {
        peer->failures++;
        peer->retry_at_ns = host->now_ns + dial_pause_ns(host, peer->failures);
        if (peer->keep && peer->failures == 1 && !host->stopping) say_unreached(peer, detail);
    }
    answer(dial, failure, &dial->peer, detail);
    finish(dial);
}

void dial_won(net_dial *dial, net_connection *connection) {
    connection->dial = NULL;
    answer(dial, 0, &connection->channel.peer, "");
    finish(dial);
}

void dial_attempt_over(net_connection *connection, int reason) {
    net_dial *dial = connection->dial;
    cal_multiaddr address;
    char text[CAL_MULTIADDR_TEXT_MAX];
    connection->dial = NULL;
    dial->attempts--;
    dial->failure = reason;
    blame(dial, connection);
    net_endpoint_address(&connection->remote, &address);
    cal_multiaddr_text(&address, text);
    snprintf(dial->detail, sizeof dial->detail, "%s: %s", text,
             reason == CAL_EVERIFY ? "another peer answers there" : cal_error_text(reason));
    dial->next_at_ns = dial->host->now_ns; /* the next one need not wait */
    dial_step(dial);
}

/* --- its course --- */

/* While names are asked for, one place is left for where they lead: nothing that was remembered and
 * is dead now keeps the dial from what is true. */
static bool may_attempt(const net_dial *dial) {
    return dial->attempts < NET_DIAL_PARALLEL - (dial->query_count > 0) &&
           dial->next < dial->target_count;
}

static int attempt(net_dial *dial) {
    cal_p2p *host = dial->host;
    if (host->pending_out >= host->limits.pending_out_max) return CAL_EOVERLOAD;
    net_connection *connection = connection_new(host, true, &dial->targets[dial->next]);
    if (!connection) return CAL_ENOMEM;
    dial->next++;
    dial->attempts++;
    connection->dial = dial;
    int result = host->transport->dial(host->transport->user, &connection->remote, connection,
                                       &connection->wire);
    if (result) {
        connection->wire = NULL;
        connection_close(connection, result); /* steps the dial again, or ends it */
        return CAL_ECANCELED;
    }
    dial->next_at_ns = host->now_ns + NET_MS(NET_DIAL_STAGGER_MS);
    return 0;
}

void dial_step(net_dial *dial) {
    cal_p2p *host = dial->host;
    while (may_attempt(dial) && host->now_ns >= dial->next_at_ns) {
        int result = attempt(dial);
        if (result == CAL_ECANCELED) return; /* the dial may be gone */
        if (result) {
            dial->next_at_ns = host->now_ns + NET_MS(NET_DIAL_STAGGER_MS);
            if (dial->attempts == 0) {
                dial_fail(dial, result, "too many connections are being made");
                return;
            }
        }
    }
    if (dial->attempts || dial->next < dial->target_count || dial->query_count) return;
    if (!dial->failure) dial->failure = CAL_EUNREACHABLE;
    dial_fail(dial, dial->failure, dial->detail[0] ? dial->detail : "no address that TCP can dial");
}

void dial_expire(cal_p2p *host) {
    for (cal_list *at = host->dials.next, *next; at != &host->dials; at = next) {
        net_dial *dial = CAL_CONTAINER_OF(at, net_dial, link);
        next = at->next;
        if (host->now_ns >= dial->deadline_ns)
            dial_fail(dial, CAL_ETIMEOUT, "no address answered in time");
        else if (host->now_ns >= dial->next_at_ns && dial->next < dial->target_count)
            dial_step(dial);
    }
}

uint64_t dial_deadline(const cal_p2p *host) {
    uint64_t deadline = NET_NEVER;
    for (cal_list *at = host->dials.next; at != &host->dials; at = at->next) {
        const net_dial *dial = CAL_CONTAINER_OF(at, net_dial, link);
        uint64_t due = may_attempt(dial) ? dial->next_at_ns : dial->deadline_ns;
        if (due < deadline) deadline = due;
    }
    return deadline;
}

static net_dial *dial_new(cal_p2p *host, const cal_peer_id *peer) {
    net_dial *dial = calloc(1, sizeof *dial);
    if (!dial) return NULL;
    dial->host = host;
    if (peer) dial->peer = *peer;
    dial->next_at_ns = host->now_ns;
    dial->deadline_ns = host->now_ns + NET_MS(host->limits.dial_timeout_ms);
    cal_list_init(&dial->waiters);
    cal_list_push(&host->dials, &dial->link);
    return dial;
}

static void add_known(net_dial *dial, const net_peer *peer) {
    for (cal_list *at = peer->addresses.next; at != &peer->addresses; at = at->next) {
        const known_address *known = CAL_CONTAINER_OF(at, known_address, link);
        cal_multiaddr address;
        if (cal_multiaddr_from_bytes(known->bytes, known->len, &address) == 0)
            add_address(dial, &address, known->announced);
    }
}

static void begin(cal_p2p *host, net_peer *peer, const cal_peer_id *id,
                  const cal_multiaddr *addresses, size_t count, bool announced,
                  dial_waiter *waiter) {
    net_dial *dial = peer && peer->dial ? peer->dial : dial_new(host, id);
    if (!dial) { /* told without a dial: the waiter is all there is */
        if (waiter) {
            waiter->result = CAL_ENOMEM;
            cal_list_push(&host->answers, &waiter->link);
        }
        return;
    }
    bool fresh = !peer || !peer->dial;
    if (peer) peer->dial = dial;
    if (waiter) cal_list_push(&dial->waiters, &waiter->link);
    for (size_t i = 0; i < count; i++) add_address(dial, &addresses[i], announced);
    if (fresh) {
        host->stats.dials++;
        for (size_t i = 0; i < host->bootstrap_count && peer; i++) /* never forgotten */
            if (cal_peer_id_equal(&host->bootstrap[i].peer, id))
                add_address(dial, &host->bootstrap[i].address, false);
        if (peer) add_known(dial, peer);
    }
    take_turns(dial);
    dial_step(dial);
}

static int connect_to(cal_p2p *host, const cal_peer_id *id, const cal_multiaddr *addresses,
                      size_t count, bool announced, cal_p2p_connected done, void *user) {
    cal_peer_id named;
    dial_waiter *waiter = done ? calloc(1, sizeof *waiter) : NULL;
    if (done && !waiter) return CAL_ENOMEM;
    if (!id && count && cal_multiaddr_peer(&addresses[0], &named) == 0) id = &named;
    host_enter(host);
    if (waiter) {
        cal_list_init(&waiter->link);
        waiter->done = done;
        waiter->user = user;
        if (id) waiter->peer = *id;
    }
    net_peer *peer = id ? peer_get(host, id) : NULL;
    int refused = host->stopping                           ? CAL_ECANCELED
                  : id && cal_peer_id_equal(id, &host->id) ? CAL_EINVAL
                  : id && !peer                            ? CAL_EOVERLOAD
                                                           : 0;
    if (refused || (peer && peer_active(peer))) {
        if (waiter) {
            waiter->result = refused;
            cal_list_push(&host->answers, &waiter->link);
        }
    } else {
        begin(host, peer, id, addresses, count, announced, waiter);
    }
    host_leave_quietly(host);
    return 0;
}

int cal_p2p_connect(cal_p2p *host, const cal_peer_id *id, const cal_multiaddr *addresses,
                    size_t count, cal_p2p_connected done, void *user) {
    return connect_to(host, id, addresses, count, false, done, user);
}

int dial_announced(cal_p2p *host, const cal_peer_id *id, const cal_multiaddr *addresses,
                   size_t count, cal_p2p_connected done, void *user) {
    return connect_to(host, id, addresses, count, true, done, user);
}
