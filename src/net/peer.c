/* Peers: what is known of them, which connection to each is used, who is told. See internal.h.
 *
 * Of two connections to one peer that were dialled from both ends at once, both ends keep the one
 * that the peer with the smaller id dialled; the other drains: it gets no new streams of ours and
 * is closed when nothing uses it. */
#include <assert.h>
#include <stdlib.h>

#include "codec/varint.h"
#include "net/internal.h"

enum { RECORD_VERSION = 1, SELF_VERSION = 2, RECORD_MAX = 8192 };
enum { GOOD_FAILURES = 8 }; /* in a row, of an address that worked: then it is like any other */

static cal_slice key_of(const cal_peer_id *id) { return cal_slice_of(id->bytes, id->len); }

net_peer *peer_find(const cal_p2p *host, const cal_peer_id *id) {
    return cal_map_get(&host->peers, key_of(id));
}

net_connection *peer_active(const net_peer *peer) {
    for (cal_list *at = peer->connections.next; at != &peer->connections; at = at->next) {
        net_connection *connection = CAL_CONTAINER_OF(at, net_connection, of_peer);
        if (connection->phase == CONNECTION_OPEN && !connection->mux.away) return connection;
    }
    return NULL;
}

bool peer_near(const cal_p2p *host, const cal_peer_id *id) {
    const net_peer *peer = peer_find(host, id);
    const net_connection *active = peer ? peer_active(peer) : NULL;
    return active && endpoint_loopback(&active->remote);
}

static void drop_address(net_peer *peer, known_address *address) {
    cal_list_remove(&address->link);
    peer->address_count--;
    free(address);
}

void peer_forget_identity(net_peer *peer) {
    for (size_t i = 0; i < peer->protocol_count; i++) free(peer->protocols[i]);
    free(peer->protocols);
    peer->protocols = NULL;
    peer->protocol_count = 0;
    peer->identified = false;
    peer->agent[0] = peer->version[0] = '\0';
}

void peer_free(cal_p2p *host, net_peer *peer) {
    cal_map_remove(&host->peers, key_of(&peer->id));
    cal_list_remove(&peer->notice);
    while (!cal_list_empty(&peer->addresses))
        drop_address(peer, CAL_CONTAINER_OF(peer->addresses.next, known_address, link));
    peer_forget_identity(peer);
    free(peer);
}

static bool in_use(const net_peer *peer) {
    return peer->connection_count || peer->keep || peer->dial || peer->told || peer->telling ||
           !cal_list_empty(&peer->notice);
}

/* Makes room by forgetting the peer that was not seen for longest. */
static bool forget_one(cal_p2p *host) {
    net_peer *oldest = NULL;
    cal_map_cursor cursor = {0};
    cal_slice key;
    void *value;
    while (cal_map_next(&host->peers, &cursor, &key, &value)) {
        net_peer *peer = value;
        if (!in_use(peer) && (!oldest || peer->seen_ns < oldest->seen_ns)) oldest = peer;
    }
    if (!oldest) return false;
    /* What was never written needs no write to be gone: strangers who come and go cost no disk. */
    if (oldest->shelved && host->shelf.drop) host->shelf.drop(host->shelf.user, &oldest->id);
    peer_free(host, oldest);
    host->stats.peers_forgotten++;
    return true;
}

net_peer *peer_get(cal_p2p *host, const cal_peer_id *id) {
    net_peer *peer = peer_find(host, id);
    if (peer) return peer;
    size_t max = (size_t)host->limits.known_peers_max + host->limits.connections_max;
    if (host->peers.count >= max && !forget_one(host)) return NULL;
    peer = calloc(1, sizeof *peer);
    if (!peer) return NULL;
    peer->id = *id;
    peer->seen_ns = host->now_ns;
    cal_list_init(&peer->addresses);
    cal_list_init(&peer->connections);
    cal_list_init(&peer->notice);
    if (cal_map_put(&host->peers, key_of(id), peer)) {
        free(peer);
        return NULL;
    }
    return peer;
}

/* --- addresses --- */

static known_address *address_find(net_peer *peer, const cal_multiaddr *address) {
    for (cal_list *at = peer->addresses.next; at != &peer->addresses; at = at->next) {
        known_address *known = CAL_CONTAINER_OF(at, known_address, link);
        if (known->len == address->len && memcmp(known->bytes, address->bytes, known->len) == 0)
            return known;
    }
    return NULL;
}

/* Where the failed ones begin; the list's end when there are none. */
static cal_list *first_failed(net_peer *peer) {
    cal_list *at = peer->addresses.next;
    while (at != &peer->addresses && CAL_CONTAINER_OF(at, known_address, link)->failures == 0)
        at = at->next;
    return at;
}

/* The one that failed most, the last of equals. One that worked outlives hearsay for a while. */
static known_address *worst_address(const net_peer *peer) {
    known_address *worst = NULL;
    for (cal_list *at = peer->addresses.next; at != &peer->addresses; at = at->next) {
        known_address *known = CAL_CONTAINER_OF(at, known_address, link);
        if (!worst || known->failures + (known->was_good ? 0 : GOOD_FAILURES) >=
                          worst->failures + (worst->was_good ? 0 : GOOD_FAILURES))
            worst = known;
    }
    return worst;
}

void peer_learn(net_peer *peer, const cal_multiaddr *given, enum learned how) {
    cal_multiaddr address = *given;
    multiaddr_target target;
    cal_multiaddr_set_peer(&address, NULL);
    if (multiaddr_target_of(&address, &target) || target.endpoint.port == 0) return;
    if (!target.name[0]) {
        if (endpoint_wildcard(&target.endpoint)) return;
        net_endpoint_address(&target.endpoint, &address); /* the one way to write it */
    }
    known_address *known = address_find(peer, &address);
    if (!known) {
        if (peer->address_count == CAL_P2P_ADDRESSES_MAX) drop_address(peer, worst_address(peer));
        known = calloc(1, sizeof *known + address.len);
        if (!known) return;
        known->announced = true;
        known->len = address.len;
        memcpy(known->bytes, address.bytes, address.len);
        cal_list_push(first_failed(peer), &known->link); /* before it */
        peer->address_count++;
        peer->unsaved = true;
    }
    if (how == LEARNED_GIVEN) known->announced = false;
    if (how != LEARNED_GOOD) return;
    known->was_good = true;
    known->failures = 0;
    if (peer->addresses.next != &known->link) peer->unsaved = true;
    cal_list_remove(&known->link);
    cal_list_push(peer->addresses.next, &known->link); /* before the first: to the front */
}

void peer_blame(net_peer *peer, const net_endpoint *endpoint) {
    cal_multiaddr address;
    net_endpoint_address(endpoint, &address);
    known_address *known = address_find(peer, &address);
    if (!known) return;
    if (known->failures++ == 0) peer->unsaved = true; /* not each time: who is away costs no disk */
    cal_list_remove(&known->link);
    cal_list_push(&peer->addresses, &known->link);
}

static int learn(cal_p2p *host, const cal_peer_id *id, const cal_multiaddr *addresses, size_t count,
                 enum learned how) {
    if (cal_peer_id_equal(id, &host->id)) return 0;
    net_peer *peer = peer_get(host, id);
    if (!peer) return CAL_ELIMIT;
    for (size_t i = 0; i < count; i++) peer_learn(peer, &addresses[i], how);
    return 0;
}

int cal_p2p_learn(cal_p2p *host, const cal_peer_id *id, const cal_multiaddr *addresses,
                  size_t count) {
    return learn(host, id, addresses, count, LEARNED_GIVEN);
}

int peer_learn_announced(cal_p2p *host, const cal_peer_id *id, const cal_multiaddr *addresses,
                         size_t count) {
    return learn(host, id, addresses, count, LEARNED_ANNOUNCED);
}

size_t cal_p2p_known(const cal_p2p *host, const cal_peer_id *id, cal_multiaddr *ret_addresses,
                     size_t max) {
    net_peer *peer = peer_find(host, id);
    size_t count = 0;
    if (!peer) return 0;
    for (cal_list *at = peer->addresses.next; at != &peer->addresses && count < max;
         at = at->next) {
        known_address *known = CAL_CONTAINER_OF(at, known_address, link);
        if (!cal_multiaddr_from_bytes(known->bytes, known->len, &ret_addresses[count])) count++;
    }
    return count;
}

/* Record: version byte, then each address as varint length and bytes. Whom to keep is not in it:
 * the program says that anew each time. */
static void save(cal_p2p *host, net_peer *peer) {
    cal_buffer record;
    peer->unsaved = false;
    if (!host->shelf.save) return;
    peer->save_at_ns = host->now_ns + NET_MS(NET_SAVE_PAUSE_MS);
    cal_buffer_init(&record, RECORD_MAX);
    cal_buffer_append_u8(&record, RECORD_VERSION);
    for (cal_list *at = peer->addresses.next; at != &peer->addresses; at = at->next) {
        known_address *known = CAL_CONTAINER_OF(at, known_address, link);
        cal_varint_append(&record, known->len);
        cal_buffer_append(&record, known->bytes, known->len);
    }
    if (!record.error) {
        peer->shelved = true;
        host->shelf.save(host->shelf.user, &peer->id, record.data, record.len);
    }
    cal_buffer_deinit(&record);
}

void peer_save_all(cal_p2p *host) {
    cal_map_cursor cursor = {0};
    void *peer;
    while (cal_map_next(&host->peers, &cursor, NULL, &peer))
        if (((net_peer *)peer)->unsaved) save(host, peer);
}

/* The host's own record: version byte, then gossip's numbers up to which all may be used. */
void peer_save_self(cal_p2p *host) {
    uint8_t record[1 + 8] = {SELF_VERSION};
    cal_write_u64be(record + 1, host->seqnos_used);
    if (host->shelf.save) host->shelf.save(host->shelf.user, &host->id, record, sizeof record);
}

static int restore_self(cal_p2p *host, cal_slice record) {
    if (record.len != 1 + 8 || record.data[0] != SELF_VERSION) return CAL_EDECODE;
    uint64_t used = cal_read_u64be(record.data + 1);
    if (used > UINT64_MAX / 2) return CAL_EDECODE; /* damage: the years 2262 and later */
    if (used > host->seqnos_used) host->seqnos_used = used;
    return 0;
}

int cal_p2p_restore(cal_p2p *host, const cal_peer_id *id, const uint8_t *record, size_t len) {
    cal_slice rest = {record, len};
    if (cal_peer_id_equal(id, &host->id)) return restore_self(host, rest);
    if (len < 1 || record[0] != RECORD_VERSION) return CAL_EDECODE;
    if (host->peers.count >= host->limits.known_peers_max) return CAL_ELIMIT;
    net_peer *peer = peer_get(host, id);
    if (!peer) return CAL_ELIMIT;
    host_enter(host);
    int result = 0;
    for (rest = (cal_slice){record + 1, len - 1}; rest.len && !result;) {
        uint64_t size;
        size_t used;
        cal_multiaddr address;
        if (cal_varint_decode(rest, &size, &used) || size > rest.len - used) {
            result = CAL_EDECODE;
            break;
        }
        if (!cal_multiaddr_from_bytes(rest.data + used, (size_t)size, &address))
            peer_learn(peer, &address, LEARNED_ANNOUNCED);
        rest = (cal_slice){rest.data + used + size, rest.len - used - (size_t)size};
    }
    peer->unsaved = false;
    peer->shelved = true;
    host_leave_quietly(host);
    return result;
}

int cal_p2p_keep(cal_p2p *host, const cal_peer_id *id, bool keep) {
    if (cal_peer_id_equal(id, &host->id)) return CAL_EINVAL;
    net_peer *peer = peer_get(host, id);
    if (!peer) return CAL_ELIMIT;
    peer->keep = keep;
    return 0;
}

/* --- connections --- */

/* Whether the newcomer takes the place of the active connection. */
static bool newcomer_wins(const cal_p2p *host, const net_connection *active,
                          const net_connection *newcomer) {
    if (active->outgoing == newcomer->outgoing) return !newcomer->outgoing;
    /* Not dialled at once, but by a peer that lost the old one: it restarted, or moved. */
    if (!newcomer->outgoing && newcomer->made_ns > active->since_ns + NET_MS(NET_SIMULTANEOUS_MS))
        return true;
    int order = cal_slice_compare(key_of(&host->id), key_of(&newcomer->channel.peer));
    bool ours_stays = order < 0; /* the smaller id's dial */
    return newcomer->outgoing == ours_stays;
}

static void drain(net_connection *connection) {
    connection->draining = true;
    connection->used_ns = connection->host->now_ns;
    connection->host->stats.connections_duplicate++;
}

int peer_check(const net_connection *connection) {
    cal_p2p *host = connection->host;
    const cal_peer_id *id = &connection->channel.peer;
    const net_dial *dial = connection->dial;
    if (dial && dial->peer.len && !cal_peer_id_equal(&dial->peer, id)) {
        host->stats.identities_unexpected++;
        return CAL_EVERIFY;
    }
    return cal_peer_id_equal(id, &host->id) ? CAL_EINVAL : 0; /* an address of our own */
}

int peer_join(cal_p2p *host, net_connection *connection) {
    const cal_peer_id *id = &connection->channel.peer;
    if (host->stopping) return CAL_ECANCELED;
    net_peer *peer =
        host->connection_count < host->limits.connections_max ? peer_get(host, id) : NULL;
    if (!peer || peer->connection_count >= host->limits.peer_connections_max) {
        host->stats.connections_refused++;
        return CAL_EOVERLOAD;
    }
    net_connection *active = peer_active(peer);
    connection->peer = peer;
    peer->connection_count++;
    peer->seen_ns = host->now_ns;
    if (active && !newcomer_wins(host, active, connection)) {
        cal_list_push(&peer->connections, &connection->of_peer);
        drain(connection);
        /* Dialled at once, or by a peer that moved at once: then the old one is dead. */
        if (!active->ping.waiting) active->ping.at_ns = host->now_ns;
    } else {
        if (active) drain(active);
        cal_list_push(peer->connections.next, &connection->of_peer); /* to the front */
    }
    if (peer->keep && peer->failures) {
        char text[CAL_PEER_ID_TEXT_MAX];
        cal_peer_id_text(id, text);
        cal_log(CAL_LOG_INFO, "net", "peer %s is reached", text);
    }
    peer->failures = 0;
    if (connection->outgoing) {
        cal_multiaddr address;
        net_endpoint_address(&connection->remote, &address);
        peer_learn(peer, &address, LEARNED_GOOD);
    }
    peer_notice(host, peer);
    return 0;
}

/* One connection less to choose from. */
static void choose_active(cal_p2p *host, net_peer *peer) {
    net_connection *active = peer_active(peer);
    peer->seen_ns = host->now_ns;
    if (active) {
        active->draining = false;
        peer_notice(host, peer); /* it may never have been asked who it is */
        return;
    }
    peer->gone = true;
    peer->retry_at_ns = host->now_ns + dial_pause_ns(host, peer->failures);
    peer_notice(host, peer);
}

void peer_leave(cal_p2p *host, net_connection *connection) {
    net_peer *peer = connection->peer;
    bool noted = connection->away; /* then it was counted out already */
    connection->peer = NULL;
    cal_list_remove(&connection->of_peer);
    peer->connection_count--;
    if (!noted) choose_active(host, peer);
}

void peer_away(cal_p2p *host, net_connection *connection) {
    connection->draining = true;
    connection->used_ns = host->now_ns;
    choose_active(host, connection->peer);
}

void peer_doubt(net_connection *silent) {
    net_peer *peer = silent->peer;
    cal_p2p *host = silent->host;
    if (peer_active(peer) != silent) return;
    for (cal_list *at = peer->connections.next; at != &peer->connections; at = at->next) {
        net_connection *other = CAL_CONTAINER_OF(at, net_connection, of_peer);
        if (other == silent || other->phase != CONNECTION_OPEN || other->mux.away) continue;
        if (other->ping.answered_ns > silent->ping.at_ns) {
            drain(silent);
            other->draining = false;
            cal_list_remove(&other->of_peer);
            cal_list_push(peer->connections.next, &other->of_peer); /* to the front */
            gossip_moved(host, &peer->id);
            peer_notice(host, peer);
            return;
        }
        if (!other->ping.waiting) other->ping.at_ns = host->now_ns; /* asked in a moment */
    }
}

void peer_notice(cal_p2p *host, net_peer *peer) {
    if (cal_list_empty(&peer->notice)) cal_list_push(&host->notices, &peer->notice);
}

static void describe(const cal_p2p *host, const net_peer *peer, cal_p2p_peer *ret_info) {
    const net_connection *active = peer_active(peer);
    (void)host;
    *ret_info = (cal_p2p_peer){.id = peer->id,
                               .rtt_ns = peer->rtt_ns,
                               .identified = peer->identified,
                               .agent = peer->agent,
                               .protocol_version = peer->version,
                               .protocols = (const char *const *)peer->protocols,
                               .protocol_count = peer->protocol_count};
    if (!active) return;
    net_endpoint_address(&active->remote, &ret_info->address);
    ret_info->outgoing = active->outgoing;
    ret_info->since_ns = active->since_ns;
    ret_info->streams = active->mux.stream_count;
}

static bool observes(const cal_p2p *host, const struct net_observer *observer) {
    for (size_t i = 0; i < host->observer_count; i++)
        if (host->observers[i].events == observer->events &&
            host->observers[i].user == observer->user)
            return true;
    return false;
}

/* Goes once through the observers there are; they may take themselves or others off meanwhile. */
static void tell_all(cal_p2p *host, net_peer *peer, int what) {
    struct net_observer observers[NET_OBSERVERS_MAX];
    size_t count = host->observer_count;
    cal_p2p_peer info;
    cal_peer_id id = peer->id;
    describe(host, peer, &info);
    memcpy(observers, host->observers, sizeof observers);
    for (size_t i = 0; i < count; i++) {
        struct net_observer observer = observers[i];
        if (!observes(host, &observer)) continue;
        if (what == 0 && observer.events->disconnected)
            observer.events->disconnected(observer.user, &id);
        if (what == 1 && observer.events->connected) observer.events->connected(observer.user, &id);
        if (what == 2 && observer.events->identified)
            observer.events->identified(observer.user, &info);
    }
}

void peer_tell(cal_p2p *host, net_peer *peer) {
    bool gone = peer->gone, identified = peer->tell_identified;
    peer->telling = true;
    peer->gone = peer->tell_identified = false;
    if (gone && peer->told) {
        peer->told = false;
        peer->rtt_ns = 0;
        if (!peer_active(peer)) peer_forget_identity(peer);
        tell_all(host, peer, 0);
    }
    if (!peer->told && peer_active(peer)) {
        peer->told = true;
        tell_all(host, peer, 1);
    }
    if (peer_active(peer)) identify_ask(peer_active(peer));
    if (identified && peer_active(peer)) tell_all(host, peer, 2);
    peer->telling = false;
}

int cal_p2p_observe(cal_p2p *host, const cal_p2p_peer_events *events, void *user) {
    if (host->observer_count == NET_OBSERVERS_MAX) return CAL_ELIMIT;
    host->observers[host->observer_count++] = (struct net_observer){events, user};
    return 0;
}

void cal_p2p_unobserve(cal_p2p *host, const cal_p2p_peer_events *events, void *user) {
    for (size_t i = 0; i < host->observer_count; i++) {
        if (host->observers[i].events != events || host->observers[i].user != user) continue;
        memmove(&host->observers[i], &host->observers[i + 1],
                (--host->observer_count - i) * sizeof *host->observers);
        return;
    }
}

/* --- public queries --- */

bool cal_p2p_is_connected(const cal_p2p *host, const cal_peer_id *id) {
    net_peer *peer = peer_find(host, id);
    return peer && peer_active(peer);
}

void cal_p2p_disconnect(cal_p2p *host, const cal_peer_id *id) {
    net_peer *peer = peer_find(host, id);
    if (!peer) return;
    host_enter(host);
    for (cal_list *at = peer->connections.next, *next; at != &peer->connections; at = next) {
        next = at->next; /* of a host that stops, they may stay for a while */
        connection_goodbye(CAL_CONTAINER_OF(at, net_connection, of_peer));
    }
    host_leave_quietly(host);
}

void cal_p2p_peers(const cal_p2p *host, void (*visit)(void *user, const cal_p2p_peer *peer),
                   void *user) {
    cal_map_cursor cursor = {0};
    cal_slice key;
    void *value;
    while (cal_map_next(&host->peers, &cursor, &key, &value)) {
        cal_p2p_peer info;
        if (!peer_active(value)) continue;
        describe(host, value, &info);
        visit(user, &info);
    }
}

int cal_p2p_peer_get(const cal_p2p *host, const cal_peer_id *id,
                     void (*visit)(void *user, const cal_p2p_peer *peer), void *user) {
    net_peer *peer = peer_find(host, id);
    cal_p2p_peer info;
    if (!peer || !peer_active(peer)) return CAL_ENOTFOUND;
    describe(host, peer, &info);
    visit(user, &info);
    return 0;
}

/* --- time --- */

/* The best of the known ones that is not connected: least failed, then last seen. */
static net_peer *best_known(cal_p2p *host) {
    net_peer *best = NULL;
    cal_map_cursor cursor = {0};
    void *value;
    while (cal_map_next(&host->peers, &cursor, NULL, &value)) {
        net_peer *peer = value;
        if (peer->dial || !peer->address_count || peer_active(peer) ||
            host->now_ns < peer->retry_at_ns)
            continue;
        if (!best || peer->failures < best->failures ||
            (peer->failures == best->failures && peer->seen_ns > best->seen_ns))
            best = peer;
    }
    return best;
}

/* Dials known peers while too few are connected: after a restart, or where all others left. */
static void seek(cal_p2p *host, size_t connected, size_t dialled) {
    while (connected + dialled < host->peers_wanted && dialled < NET_SEEKS_MAX) {
        net_peer *peer = best_known(host);
        if (!peer) return;
        cal_p2p_connect(host, &peer->id, NULL, 0, NULL, NULL);
        dialled++;
    }
}

void peer_retry_all(cal_p2p *host) {
    cal_map_cursor cursor = {0};
    void *value;
    while (cal_map_next(&host->peers, &cursor, NULL, &value)) {
        net_peer *peer = value;
        if (!peer->keep) continue;
        peer->failures = 0;
        peer->retry_at_ns = host->now_ns;
    }
}

void peer_tick(cal_p2p *host) {
    size_t connected = 0, dialled = 0, saved = 0;
    cal_map_cursor cursor = {0};
    void *value;
    while (cal_map_next(&host->peers, &cursor, NULL, &value)) {
        net_peer *peer = value;
        if (peer->unsaved && host->now_ns >= peer->save_at_ns && saved++ < NET_SAVES_MAX)
            save(host, peer);
        if (peer_active(peer)) {
            connected++;
        } else if (peer->keep && !peer->dial && peer->address_count && !host->stopping &&
                   host->now_ns >= peer->retry_at_ns) {
            cal_p2p_connect(host, &peer->id, NULL, 0, NULL, NULL);
        }
        dialled += peer->dial != NULL;
    }
    if (!host->stopping) seek(host, connected, dialled);
}
