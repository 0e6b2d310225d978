/* A host: what it is made of, and the order in which things happen (internal.h). */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/internal.h"

enum { PLAIN_MAX = 1024 * 1024, SCRATCH_MAX = 512 * 1024 };

static const char default_version[] = "/calimero-network/0.0.0";

/* --- what happened is told, sent, freed --- */

static void tell_answer(dial_waiter *waiter) {
    cal_error err;
    if (waiter->result)
        cal_fail(&err, waiter->result, "%s",
                 waiter->detail[0] ? waiter->detail : cal_error_text(waiter->result));
    waiter->done(waiter->user, waiter->result ? &err : NULL, &waiter->peer);
    free(waiter);
}

static bool settle_one(cal_p2p *host) {
    cal_list *at;
    if ((at = cal_list_pop(&host->notices)))
        peer_tell(host, CAL_CONTAINER_OF(at, net_peer, notice));
    else if ((at = cal_list_pop(&host->answers)))
        tell_answer(CAL_CONTAINER_OF(at, dial_waiter, link));
    else if ((at = cal_list_pop(&host->ready)))
        stream_dispatch(CAL_CONTAINER_OF(at, cal_p2p_stream, ready));
    else if (host->announce) {
        host->announce = false;
        identify_announce(host);
    } else if ((at = cal_list_pop(&host->dirty)))
        connection_flush(CAL_CONTAINER_OF(at, net_connection, dirty));
    else
        return false;
    return true;
}

static uint64_t earlier(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* It stops, and only has to say so. */
static bool is_over(const cal_p2p *host) {
    return host->stopping && !host->stopped && cal_list_empty(&host->connections);
}

static void rearm(cal_p2p *host) {
    uint64_t at = earlier(host->tick_at_ns, dial_deadline(host));
    const cal_list *waiting[] = {&host->later, &host->notices, &host->answers, &host->ready,
                                 &host->dead};
    bool now = host->announce || is_over(host);
    for (size_t i = 0; i < sizeof waiting / sizeof *waiting; i++)
        now = now || !cal_list_empty(waiting[i]);
    if (host->stopping && !host->stopped) at = earlier(at, host->stop_by_ns);
    if (now) at = host->now_ns;
    if (!cal_list_empty(&host->negotiating))
        at = earlier(
            at,
            CAL_CONTAINER_OF(host->negotiating.next, cal_p2p_stream, negotiating)->negotiate_by_ns);
    if (!cal_list_empty(&host->pending))
        at = earlier(at,
                     CAL_CONTAINER_OF(host->pending.next, net_connection, link)->handshake_by_ns);
    for (cal_list *node = host->timers.next; node != &host->timers; node = node->next)
        at = earlier(at, CAL_CONTAINER_OF(node, net_timer, link)->at_ns);
    if (host->stopped) at = NET_NEVER;
    if (at == host->wake_ns) return;
    host->wake_ns = at;
    host->transport->wake_at(host->transport->user, at);
}

void host_enter(cal_p2p *host) {
    if (host->depth++ == 0) host->now_ns = host->transport->now_ns(host->transport->user);
}

void host_leave(cal_p2p *host) {
    assert(host->depth > 0);
    if (host->depth > 1) {
        host->depth--;
        return;
    }
    while (settle_one(host)) {
    }
    for (cal_list *at; (at = cal_list_pop(&host->dead));)
        connection_free(CAL_CONTAINER_OF(at, net_connection, link));
    rearm(host);
    host->depth = 0;
}

void host_leave_quietly(cal_p2p *host) {
    assert(host->depth > 0);
    if (host->depth == 1) {
        for (cal_list *at; (at = cal_list_pop(&host->dirty));)
            connection_flush(CAL_CONTAINER_OF(at, net_connection, dirty));
        rearm(host);
    }
    host->depth--;
}

/* --- time --- */

static void tick(cal_p2p *host);

static void expire_pending(cal_p2p *host) {
    while (!cal_list_empty(&host->pending)) {
        net_connection *oldest = CAL_CONTAINER_OF(host->pending.next, net_connection, link);
        if (oldest->handshake_by_ns > host->now_ns) return;
        connection_close(oldest, CAL_ETIMEOUT);
    }
}

static void expire_timers(cal_p2p *host) {
    for (cal_list *at = host->timers.next; at != &host->timers;) {
        net_timer *timer = CAL_CONTAINER_OF(at, net_timer, link);
        at = at->next;
        if (timer->at_ns > host->now_ns) continue;
        timer->at_ns = NET_NEVER;
        timer->expire(timer->user, host->now_ns);
        at = host->timers.next; /* any of them may be gone now; those due later stay due later */
    }
}

void net_timer_start(cal_p2p *host, net_timer *timer, void *user,
                     void (*expire)(void *user, uint64_t now_ns)) {
    *timer = (net_timer){.user = user, .at_ns = NET_NEVER, .expire = expire};
    cal_list_push(&host->timers, &timer->link);
}

void net_timer_set(cal_p2p *host, net_timer *timer, uint64_t at_ns) {
    host_enter(host);
    timer->at_ns = at_ns > host->now_ns ? at_ns : host->now_ns + 1;
    host_leave_quietly(host);
}

void net_timer_stop(net_timer *timer) { cal_list_remove(&timer->link); }

static void close_all(cal_p2p *host, int reason) {
    while (!cal_list_empty(&host->connections))
        connection_close(CAL_CONTAINER_OF(host->connections.next, net_connection, link), reason);
}

static void on_wake(void *user) {
    cal_p2p *host = user;
    host_enter(host);
    if (host->stopping && host->now_ns >= host->stop_by_ns) close_all(host, 0);
    bool finished = is_over(host);
    host->wake_ns = NET_NEVER;
    for (cal_list *at; (at = cal_list_pop(&host->later));) cal_list_push(&host->dirty, at);
    if (host->now_ns >= host->tick_at_ns) tick(host);
    stream_expire(host);
    expire_pending(host);
    dial_expire(host);
    expire_timers(host);
    if (finished) host->stopped = true;
    host_leave(host);
    if (finished && host->stop_done) host->stop_done(host->stop_user); /* may free the host */
}

/* --- bootstrap --- */

static bool is_bootstrap(const cal_p2p *host, const cal_peer_id *peer) {
    for (size_t i = 0; i < host->bootstrap_count; i++)
        if (cal_peer_id_equal(&host->bootstrap[i].peer, peer)) return true;
    return false;
}

static void on_bootstrap(void *user, const cal_error *err, const cal_peer_id *peer) {
    net_bootstrap *bootstrap = user;
    cal_p2p *host = bootstrap->host;
    bootstrap->dialling = false;
    if (err) {
        char text[CAL_MULTIADDR_TEXT_MAX];
        cal_multiaddr_text(&bootstrap->address, text);
        if (bootstrap->failures == 0 && !host->stopping)
            cal_log(CAL_LOG_WARN, "net", "%s is not reached, and is tried again: %s", text,
                    err->message);
        bootstrap->retry_at_ns = host->now_ns + dial_pause_ns(host, bootstrap->failures++);
        return;
    }
    bootstrap->failures = 0;
    if (cal_peer_id_equal(&bootstrap->peer, peer)) return;
    cal_peer_id former = bootstrap->peer;
    bootstrap->peer = *peer;
    cal_p2p_keep(host, peer, true);
    if (former.len && !is_bootstrap(host, &former)) cal_p2p_keep(host, &former, false);
}

/* Addresses with an id belong to a kept peer, whose dials try them. Behind the others there may be
 * another peer the next time: they are dialled while the one that answered is not connected. */
static void bootstrap_tick(cal_p2p *host) {
    for (size_t i = 0; i < host->bootstrap_count; i++) {
        net_bootstrap *bootstrap = &host->bootstrap[i];
        if (bootstrap->named || bootstrap->dialling || host->now_ns < bootstrap->retry_at_ns ||
            cal_p2p_is_connected(host, &bootstrap->peer))
            continue;
        bootstrap->dialling =
            cal_p2p_connect(host, NULL, &bootstrap->address, 1, on_bootstrap, bootstrap) == 0;
    }
}

/* --- this machine's addresses --- */

static bool has_address(const net_endpoint *all, size_t count, const net_endpoint *one) {
    for (size_t i = 0; i < count; i++)
        if (all[i].address.len == one->address.len &&
            memcmp(all[i].address.bytes, one->address.bytes, one->address.len) == 0)
            return true;
    return false;
}

/* Connections from an address that this machine has no more are dead: better now than when three
 * pings have failed. Where the list may not be whole, nothing is concluded from it. */
static void close_orphans(cal_p2p *host, uint8_t family_len) {
    net_endpoint *found = calloc(NET_INTERFACES_MAX, sizeof *found);
    const net_endpoint any = {.address.len = family_len};
    size_t count =
        found ? host->transport->interfaces(host->transport->user, &any, found, NET_INTERFACES_MAX)
              : 0;
    for (cal_list *at = host->connections.next, *next; at != &host->connections; at = next) {
        net_connection *connection = CAL_CONTAINER_OF(at, net_connection, link);
        next = at->next;
        if (count == 0 || count == NET_INTERFACES_MAX) break;
        if (connection->local.address.len != family_len ||
            net_endpoint_link_local(&connection->local))
            continue;
        if (!has_address(found, count, &connection->local))
            connection_close(connection, CAL_EUNREACHABLE);
    }
    free(found);
}

/* Peers are told when the addresses change (identify-push). And what could not be reached from the
 * old ones is tried from the new ones at once. */
static void check_addresses(cal_p2p *host) {
    cal_multiaddr addresses[NET_LISTENS_MAX * 4];
    size_t count = cal_p2p_addresses(host, addresses, NET_LISTENS_MAX * 4);
    if (count > NET_LISTENS_MAX * 4) count = NET_LISTENS_MAX * 4;
    uint64_t mark = count;
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < addresses[i].len; k++) /* FNV-1a: a change is noticed, no more */
            mark = (mark ^ addresses[i].bytes[k]) * UINT64_C(0x100000001b3);
    if (mark == host->addresses_mark) return;
    bool first = host->addresses_mark == 0;
    host->addresses_mark = mark;
    if (first) return;
    host->announce = true;
    close_orphans(host, 4);
    close_orphans(host, 16);
    peer_retry_all(host);
    for (size_t i = 0; i < host->bootstrap_count; i++)
        host->bootstrap[i].failures = 0, host->bootstrap[i].retry_at_ns = host->now_ns;
}

static void tick(cal_p2p *host) {
    if (host->now_ns >= host->tick_at_ns + NET_MS(NET_LEAP_MS)) host->stats.clock_leaps++;
    if (host->now_ns >= host->addresses_at_ns) {
        host->addresses_at_ns = host->now_ns + NET_MS(NET_ADDRESSES_MS);
        check_addresses(host);
    }
    host->tick_at_ns = host->now_ns + NET_MS(NET_TICK_MS);
    for (cal_list *at = host->connections.next, *next; at != &host->connections; at = next) {
        next = at->next;
        connection_tick(CAL_CONTAINER_OF(at, net_connection, link));
    }
    stream_tick(host);
    messages_tick(host);
    peer_tick(host);
    net_pool_trim(&host->pool);
    if (!host->stopping) bootstrap_tick(host);
}

/* --- the transport's events --- */

static void *on_accepted(void *user, net_wire *wire, const net_endpoint *remote,
                         const net_endpoint *local) {
    cal_p2p *host = user;
    host_enter(host);
    net_connection *connection =
        accept_allowed(host, remote) ? connection_new(host, false, remote) : NULL;
    if (connection) {
        connection->wire = wire;
        connection->local = *local;
        connection_start(connection);
        if (connection->phase == CONNECTION_CLOSED) connection = NULL;
    }
    host_leave(host);
    return connection;
}

static void on_connected(void *owner, const net_endpoint *local) {
    net_connection *connection = owner;
    cal_p2p *host = connection->host;
    host_enter(host);
    connection->local = *local;
    connection_start(connection);
    host_leave(host);
}

static void on_received(void *owner, const uint8_t *bytes, size_t len) {
    net_connection *connection = owner;
    cal_p2p *host = connection->host;
    host_enter(host);
    connection_feed(connection, bytes, len);
    host_leave(host);
}

static void on_writable(void *owner) {
    net_connection *connection = owner;
    cal_p2p *host = connection->host;
    host_enter(host);
    connection_dirty(connection);
    host_leave(host);
}

static void on_closed(void *owner, int result) {
    net_connection *connection = owner;
    cal_p2p *host = connection->host;
    host_enter(host);
    connection->wire = NULL;
    connection_close(connection, result ? result : CAL_EUNREACHABLE);
    host_leave(host);
}

static void on_datagram(void *user, const uint8_t *bytes, size_t len) {
    cal_p2p *host = user;
    host_enter(host);
    mdns_datagram(host, bytes, len);
    host_leave(host);
}

static void on_accept_failed(void *user) { ((cal_p2p *)user)->stats.accepts_failed++; }

/* --- making --- */

static void set_limits(cal_p2p_limits *to, const cal_p2p_limits *from) {
    *to = *from;
#define DEFAULT(name, value)                                                                       \
    if (!to->name) to->name = value
    DEFAULT(connections_max, 1024);
    DEFAULT(peer_connections_max, 8);
    DEFAULT(pending_in_max, 128);
    DEFAULT(pending_out_max, 128);
    DEFAULT(accepts_max, 512);
    DEFAULT(address_accepts_max, 64);
    DEFAULT(address_connections_max, 256);
    DEFAULT(streams_max, 256);
    DEFAULT(streams_total_max, 16384);
    DEFAULT(known_peers_max, 1024);
    DEFAULT(frame_bytes_max, 64u * 1024 * 1024);
    DEFAULT(frame_bytes_each_max, 32u * 1024 * 1024);
    DEFAULT(unread_bytes_max, 256u * 1024 * 1024);
    DEFAULT(unsent_bytes_max, 256u * 1024 * 1024);
    DEFAULT(stream_rate_max, 512);
    DEFAULT(handshake_timeout_ms, 10000);
    DEFAULT(dial_timeout_ms, 30000);
    DEFAULT(negotiate_timeout_ms, 10000);
    DEFAULT(idle_timeout_ms, 30000);
    DEFAULT(ping_interval_ms, 15000);
    DEFAULT(ping_timeout_ms, 20000);
#undef DEFAULT
}

static void init_lists(cal_p2p *host) {
    cal_list *lists[] = {&host->protocols, &host->pending, &host->connections, &host->dials,
                         &host->timers,    &host->ready,   &host->negotiating, &host->notices,
                         &host->answers,   &host->dirty,   &host->later,       &host->dead,
                         &host->messages,  &host->starved};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) cal_list_init(lists[i]);
}

static int add_bootstrap(cal_p2p *host, const char *text, cal_error *err) {
    cal_multiaddr address;
    multiaddr_target target;
    int result = cal_multiaddr_parse(text, &address);
    if (!result) result = multiaddr_target_of(&address, &target);
    if (result)
        return cal_fail(err, CAL_EINVAL,
                        "bootstrap address '%s' cannot be dialled: use /ip4, /ip6 or /dns, then "
                        "/tcp/<port>, then /p2p/<peer id>",
                        text);
    if (host->bootstrap_count == NET_BOOTSTRAP_MAX)
        return cal_fail(err, CAL_ELIMIT, "more than %d bootstrap addresses", NET_BOOTSTRAP_MAX);
    if (target.has_peer) {
        if (cal_peer_id_equal(&target.peer, &host->id)) return 0;
        result = cal_p2p_learn(host, &target.peer, &address, 1);
        if (!result) result = cal_p2p_keep(host, &target.peer, true);
        if (result) return cal_fail(err, result, "cannot keep bootstrap peer '%s'", text);
    }
    host->bootstrap[host->bootstrap_count++] = (net_bootstrap){
        .address = address, .peer = target.peer, .named = target.has_peer, .host = host};
    return 0;
}

static int add_listen(cal_p2p *host, const char *text, cal_error *err) {
    cal_multiaddr address;
    net_endpoint endpoint;
    int result = cal_multiaddr_parse(text, &address);
    if (!result) result = net_endpoint_of(&address, &endpoint);
    if (result)
        return cal_fail(err, CAL_EINVAL,
                        "cannot listen on '%s': use /ip4/<address>/tcp/<port> or /ip6/...", text);
    if (host->listen_count == NET_LISTENS_MAX)
        return cal_fail(err, CAL_ELIMIT, "more than %d addresses to listen on", NET_LISTENS_MAX);
    result = host->transport->listen(host->transport->user, &endpoint,
                                     &host->listens[host->listen_count], err);
    if (result) return cal_fail_context(err, result, "cannot listen on '%s'", text);
    host->listen_count++;
    return 0;
}

/* A machine without IPv6 listens on the others of its addresses. */
static int add_listens(cal_p2p *host, const cal_p2p_options *options, cal_error *err) {
    cal_error why;
    int unsupported = 0;
    for (size_t i = 0; i < options->listen_count; i++) {
        int result = add_listen(host, options->listen[i], &why);
        if (result == CAL_EUNSUPPORTED) {
            cal_log(CAL_LOG_WARN, "net", "%s", why.message);
            unsupported = result;
        } else if (result) {
            return cal_fail(err, result, "%s", why.message);
        }
    }
    return host->listen_count || !unsupported ? 0 : cal_fail(err, unsupported, "%s", why.message);
}

static int add_external(cal_p2p *host, const char *text, cal_error *err) {
    cal_multiaddr address;
    if (cal_multiaddr_parse(text, &address))
        return cal_fail(err, CAL_EINVAL, "external address '%s' is no multiaddr known here", text);
    if (host->external_count == NET_LISTENS_MAX)
        return cal_fail(err, CAL_ELIMIT, "more than %d external addresses", NET_LISTENS_MAX);
    cal_multiaddr_set_peer(&address, NULL);
    host->external[host->external_count++] = address;
    return 0;
}

static int set_up(cal_p2p *host, const cal_p2p_options *options, cal_error *err) {
    int result = noise_identity_init(&host->identity, &host->seed, host->os);
    if (!result) result = identify_start(host);
    if (!result) result = ping_start(host);
    if (result) return cal_fail(err, result, "cannot set up the host's own protocols");
    for (size_t i = 0; i < options->external_count && !result; i++)
        result = add_external(host, options->external[i], err);
    if (!result) result = add_listens(host, options, err);
    for (size_t i = 0; i < options->bootstrap_count && !result; i++)
        result = add_bootstrap(host, options->bootstrap[i], err);
    return result;
}

int net_host_new(const cal_p2p_options *options, net_transport *transport, const cal_os *os,
                 cal_p2p **ret_host, cal_error *err) {
    cal_p2p *host = calloc(1, sizeof *host);
    uint8_t public_key[32];
    uint64_t map_seed;
    if (!host || cal_crypto_init()) {
        free(host);
        return cal_fail(err, CAL_ENOMEM, "no memory for a host");
    }
    host->transport = transport;
    host->os = os;
    host->shelf = options->shelf;
    os->random(os->user, host->seed.bytes, sizeof host->seed.bytes);
    os->random(os->user, &map_seed, sizeof map_seed);
    os->random(os->user, &host->source_seed, sizeof host->source_seed);
    if (options->seed) memcpy(host->seed.bytes, options->seed, sizeof host->seed.bytes);
    cal_sign_public_key(&host->seed, public_key);
    cal_peer_id_of_key(public_key, &host->id);
    set_limits(&host->limits, &options->limits);
    host->peers_wanted = options->peers_wanted;
    snprintf(host->agent, sizeof host->agent, "%s", options->agent ? options->agent : "calimero-c");
    snprintf(host->version, sizeof host->version, "%s",
             options->protocol_version ? options->protocol_version : default_version);
    init_lists(host);
    cal_map_init(&host->peers, map_seed);
    cal_buffer_init(&host->plain, PLAIN_MAX);
    cal_buffer_init(&host->frames, SCRATCH_MAX);
    cal_buffer_init(&host->sealed, SCRATCH_MAX);
    host->transport_events = (net_transport_events){
        host,      on_accepted,   on_connected, on_received, on_writable,
        on_closed, dial_resolved, on_wake,      on_datagram, on_accept_failed};
    transport->events = &host->transport_events;
    host->wake_ns = NET_NEVER;
    host_enter(host);
    host->tick_at_ns = host->now_ns;
    int result = set_up(host, options, err);
    host_leave_quietly(host);
    if (result) {
        net_host_free(host);
        return result;
    }
    *ret_host = host;
    return 0;
}

static void end_everything(cal_p2p *host, bool politely) {
    while (!cal_list_empty(&host->dials))
        dial_fail(CAL_CONTAINER_OF(host->dials.next, net_dial, link), CAL_ECANCELED,
                  "the host stops");
    while (!cal_list_empty(&host->pending))
        connection_close(CAL_CONTAINER_OF(host->pending.next, net_connection, link), CAL_ECANCELED);
    for (cal_list *at = host->connections.next, *next; politely && at != &host->connections;
         at = next) {
        next = at->next;
        connection_goodbye(CAL_CONTAINER_OF(at, net_connection, link));
    }
    if (!politely) close_all(host, CAL_ECANCELED);
}

void net_host_shutdown(cal_p2p *host, void (*done)(void *user), void *user) {
    host_enter(host);
    if (!host->stopping) {
        host->stopping = true;
        host->stop_by_ns = host->now_ns + NET_MS(NET_GOODBYE_MS);
        host->stop_done = done;
        host->stop_user = user;
        host->transport->stop(host->transport->user);
        peer_save_all(host);
        end_everything(host, true);
    }
    host_leave_quietly(host);
}

void net_host_free(cal_p2p *host) {
    if (!host) return;
    host->stopping = true; /* nothing is started any more */
    cal_p2p_gossip_stop(host);
    cal_p2p_mdns_stop(host);
    cal_p2p_kad_stop(host);
    cal_p2p_rendezvous_stop(host);
    host_enter(host);
    if (!host->stopped) host->transport->stop(host->transport->user);
    end_everything(host, false);
    host->stopped = true;
    while (!cal_list_empty(&host->timers)) { /* what parts that were stopped still had to say */
        net_timer *timer = CAL_CONTAINER_OF(host->timers.next, net_timer, link);
        net_timer_stop(timer);
        timer->expire(timer->user, host->now_ns);
    }
    host_leave(host);
    cal_map_cursor cursor = {0};
    cal_slice key;
    void *value;
    while (cal_map_next(&host->peers, &cursor, &key, &value)) peer_free(host, value);
    cal_map_deinit(&host->peers);
    for (cal_list *at; (at = cal_list_pop(&host->protocols));)
        protocol_unref(CAL_CONTAINER_OF(at, net_protocol, link));
    cal_buffer_deinit(&host->plain);
    cal_buffer_deinit(&host->frames);
    cal_buffer_deinit(&host->sealed);
    net_pool_deinit(&host->pool);
    cal_secret_wipe(&host->seed);
    cal_wipe(&host->identity, sizeof host->identity);
    free(host);
}

/* --- asking the host --- */

void cal_p2p_id(const cal_p2p *host, cal_peer_id *ret_id) { *ret_id = host->id; }

size_t cal_p2p_addresses(const cal_p2p *host, cal_multiaddr *ret_addresses, size_t max) {
    size_t count = 0;
    for (size_t i = 0; i < host->external_count; i++, count++)
        if (count < max) ret_addresses[count] = host->external[i];
    for (size_t i = 0; i < host->listen_count; i++) {
        net_endpoint found[NET_LISTENS_MAX];
        size_t found_count = 1;
        found[0] = host->listens[i];
        if (endpoint_wildcard(&found[0]))
            found_count = host->transport->interfaces(host->transport->user, &host->listens[i],
                                                      found, NET_LISTENS_MAX);
        for (size_t k = 0; k < found_count; k++, count++)
            if (count < max) net_endpoint_address(&found[k], &ret_addresses[count]);
    }
    return count;
}

size_t cal_p2p_external_count(const cal_p2p *host) { return host->external_count; }

uint64_t cal_p2p_now_ns(const cal_p2p *host) { return net_now_ns(host); }

size_t host_addresses_on(const cal_p2p *host, bool loopback, cal_multiaddr *ret_addresses,
                         size_t max) {
    cal_multiaddr all[NET_LISTENS_MAX * 4];
    size_t room = sizeof all / sizeof *all, count = cal_p2p_addresses(host, all, room), used = 0;
    for (size_t i = 0; i < count && i < room && used < max; i++)
        if (address_loopback(&all[i]) == loopback) ret_addresses[used++] = all[i];
    return used;
}

void cal_p2p_stats_get(const cal_p2p *host, cal_p2p_stats *ret_stats) {
    *ret_stats = host->stats;
    ret_stats->connections = host->connection_count;
    ret_stats->pending = host->pending_in + host->pending_out;
    ret_stats->streams = host->stream_count;
    ret_stats->known_peers = host->peers.count;
    ret_stats->frame_bytes = host->frame_bytes;
    ret_stats->unread_bytes = host->unread;
    ret_stats->unsent_bytes = host->unsent;
}

uint64_t net_now_ns(const cal_p2p *host) {
    return host->depth ? host->now_ns : host->transport->now_ns(host->transport->user);
}
const cal_os *net_os(const cal_p2p *host) { return host->os; }
const cal_secret *net_seed(const cal_p2p *host) { return &host->seed; }
void net_random(const cal_p2p *host, void *ret_bytes, size_t len) {
    host->os->random(host->os->user, ret_bytes, len);
}
