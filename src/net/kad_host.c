/* Kademlia of a host: the Kademlia part of calimero/p2p.h. What kad is, and its numbers, is in
 * kad.h. A request has a stream of its own: it goes out, its answer comes, the stream ends. Peers
 * that are not connected are dialled first. */
#include <stdlib.h>

#include "net/internal.h"
#include "net/kad.h"

typedef struct kad_host kad_host;

enum { CALLS_MAX = 64 }; /* under way at once; the others wait, so that dials do not run out */

/* One request under way. It lives until its dial was answered and its stream is gone. */
typedef struct kad_call {
    cal_list link;
    kad_host *owner; /* NULL: given up while dialling */
    uint64_t number, deadline;
    cal_peer_id peer;
    cal_p2p_stream *stream;
    cal_p2p_frames frames;
    size_t len;
    uint8_t bytes[];
} kad_call;

/* A stream of somebody who asks. */
typedef struct kad_guest {
    cal_list link;
    kad_host *owner;
    cal_p2p_stream *stream;
    cal_p2p_frames frames;
    cal_peer_id peer;
} kad_guest;

/* Somebody here who waits for a walk. It is answered once: by its walk, or, when that will not be,
 * by its timer, which outlives kad. */
typedef struct kad_ask {
    cal_list link;
    uint64_t walk;
    cal_p2p_searched done; /* or, of cal_p2p_find: */
    void (*located)(void *user, const cal_error *err, const cal_multiaddr *addresses, size_t count);
    void (*found)(void *user, const cal_p2p_provider *provider);
    void *user;
    cal_multiaddr *addresses; /* of the peer to find: CAL_P2P_ADDRESSES_MAX at most */
    size_t count;
    net_timer timer;
} kad_ask;

struct kad_host {
    cal_p2p *host;
    cal_kad *kad;
    cal_list calls, guests, asks;
    size_t call_count;
    uint64_t refused;
    net_timer timer;
};

static const cal_p2p_stream_events call_events, guest_events, no_events;

static uint64_t now_of(const kad_host *k) { return net_now_ns(k->host); }

static void drop_stream(cal_p2p_stream *stream) {
    cal_p2p_stream_set_events(stream, &no_events, NULL);
    cal_p2p_stream_reset(stream);
}

/* New requests and results follow from the timer, so that nothing is told inside a call. */
static void work_soon(kad_host *k) { net_timer_set(k->host, &k->timer, now_of(k)); }

/* --- our requests --- */

/* Over: the answer, or none. */
static void call_end(kad_call *call, cal_slice response) {
    kad_host *k = call->owner;
    kad_response(k->kad, call->number, peer_near(k->host, &call->peer), response, now_of(k));
    work_soon(k);
    cal_list_remove(&call->link);
    k->call_count--;
    if (call->stream) {
        /* Reset also after an answer: a peer that never ends its half keeps no stream here. */
        cal_p2p_frames_deinit(&call->frames);
        drop_stream(call->stream);
    }
    free(call);
}

static void call_open(kad_call *call) {
    static const char *const protocol = KAD_PROTOCOL;
    cal_p2p_frames_init(&call->frames, CAL_P2P_FRAME_VARINT, KAD_MESSAGE_MAX);
    if (cal_p2p_open(call->owner->host, &call->peer, &protocol, 1, &call_events, call,
                     &call->stream)) {
        call->stream = NULL;
        call_end(call, (cal_slice){0});
    } else if (cal_p2p_frames_write(call->stream, CAL_P2P_FRAME_VARINT, call->bytes, call->len)) {
        call_end(call, (cal_slice){0});
    }
}

static void call_connected(void *user, const cal_error *err, const cal_peer_id *peer) {
    kad_call *call = user;
    (void)peer;
    if (!call->owner)
        free(call);
    else if (err)
        call_end(call, (cal_slice){0});
    else
        call_open(call);
}

static void call_readable(void *user, cal_p2p_stream *stream) {
    kad_call *call = user;
    const uint8_t *bytes;
    size_t len;
    int result = cal_p2p_frames_next(&call->frames, stream, &bytes, &len);
    if (result == CAL_ESTATE) return;
    call_end(call, result ? (cal_slice){0} : (cal_slice){bytes, len});
}

static void call_closed(void *user, cal_p2p_stream *stream, int reason) {
    kad_call *call = user;
    (void)stream;
    (void)reason;
    cal_p2p_frames_deinit(&call->frames);
    call->stream = NULL;
    call_end(call, (cal_slice){0});
}

static const cal_p2p_stream_events call_events = {NULL, call_readable, NULL, call_closed};

static void call_begin(kad_host *k, const kad_request *request) {
    kad_call *call = calloc(1, sizeof *call + request->bytes.len);
    if (!call) {
        kad_response(k->kad, request->number, false, (cal_slice){0}, now_of(k));
        return;
    }
    call->owner = k;
    call->number = request->number;
    call->deadline = now_of(k) + KAD_REQUEST_NS;
    call->peer = request->peer;
    call->len = request->bytes.len;
    memcpy(call->bytes, request->bytes.data, request->bytes.len);
    cal_list_push(&k->calls, &call->link);
    k->call_count++;
    if (cal_p2p_is_connected(k->host, &call->peer))
        call_open(call);
    else if (dial_announced(k->host, &call->peer, request->addresses, request->address_count,
                            call_connected, call))
        call_end(call, (cal_slice){0});
}

/* The walk has given these up already. A dial goes on, and its answer frees the call. */
static void calls_expire(kad_host *k, uint64_t now_ns) {
    for (cal_list *at = k->calls.next, *next; at != &k->calls; at = next) {
        kad_call *call = CAL_CONTAINER_OF(at, kad_call, link);
        next = at->next;
        if (call->deadline > now_ns) continue;
        if (call->stream) {
            call_end(call, (cal_slice){0});
            continue;
        }
        call->owner = NULL;
        cal_list_remove(&call->link);
        k->call_count--;
    }
}

/* --- who waits for our walks --- */

/* code 0: the walk came to its end, with so many results. */
static void ask_end(kad_ask *ask, int code, size_t count) {
    cal_error failure, *err = code ? &failure : NULL;
    if (code) cal_fail(err, code, "%s", cal_error_text(code));
    cal_list_remove(&ask->link);
    if (ask->done) ask->done(ask->user, err, code ? 0 : count);
    if (ask->located) ask->located(ask->user, err, ask->addresses, code ? 0 : ask->count);
    free(ask->addresses);
    free(ask);
}

static void ask_canceled(void *user, uint64_t now_ns) {
    kad_ask *ask = user;
    (void)now_ns;
    net_timer_stop(&ask->timer);
    ask_end(ask, CAL_ECANCELED, 0);
}

static void ask_cancel(cal_p2p *host, kad_ask *ask) {
    cal_list_remove(&ask->link);
    net_timer_start(host, &ask->timer, ask, ask_canceled);
    net_timer_set(host, &ask->timer, net_now_ns(host));
}

static kad_ask *ask_of(kad_host *k, uint64_t walk) {
    for (cal_list *at = k->asks.next; at != &k->asks; at = at->next)
        if (CAL_CONTAINER_OF(at, kad_ask, link)->walk == walk)
            return CAL_CONTAINER_OF(at, kad_ask, link);
    return NULL;
}

static void add_address(cal_multiaddr *addresses, size_t *count, const cal_multiaddr *given) {
    cal_multiaddr address = *given;
    cal_multiaddr_set_peer(&address, NULL);
    for (size_t i = 0; i < *count; i++)
        if (cal_multiaddr_equal(&addresses[i], &address)) return;
    if (*count < CAL_P2P_ADDRESSES_MAX) addresses[(*count)++] = address;
}

static void tell_provider(kad_host *k, kad_ask *ask, const kad_result *result) {
    cal_multiaddr addresses[CAL_P2P_ADDRESSES_MAX];
    size_t count = cal_p2p_known(k->host, &result->peer, addresses, CAL_P2P_ADDRESSES_MAX);
    for (size_t i = 0; i < result->address_count; i++)
        add_address(addresses, &count, &result->addresses[i]);
    ask->found(ask->user, &(cal_p2p_provider){.peer = result->peer,
                                              .size = result->size,
                                              .addresses = addresses,
                                              .address_count = count});
}

static void take_result(kad_host *k, const kad_result *result) {
    kad_ask *ask = ask_of(k, result->walk);
    if (result->kind == KAD_DONE) {
        bool nobody = result->answered == 0 && result->count == 0;
        int code = nobody                               ? CAL_EUNREACHABLE
                   : ask && ask->located && !ask->count ? CAL_ENOTFOUND
                                                        : 0;
        if (ask) ask_end(ask, code, result->count);
        return;
    }
    if (result->address_count)
        peer_learn_announced(k->host, &result->peer, result->addresses, result->address_count);
    if (ask && ask->found) tell_provider(k, ask, result);
    for (size_t i = 0; ask && ask->located && i < result->address_count; i++)
        add_address(ask->addresses, &ask->count, &result->addresses[i]);
}

static void on_timer(void *user, uint64_t now_ns) {
    kad_host *k = user;
    kad_request request;
    kad_result result;
    kad_expire(k->kad, now_ns);
    calls_expire(k, now_ns);
    while (k->call_count < CALLS_MAX && kad_next_request(k->kad, &request, now_ns))
        call_begin(k, &request);
    while (kad_next_result(k->kad, &result)) take_result(k, &result);
    uint64_t at = kad_deadline(k->kad);
    if (k->timer.at_ns > at) net_timer_set(k->host, &k->timer, at);
}

/* --- requests of others --- */

static void guest_end(kad_guest *guest, bool reset) {
    cal_p2p_stream *stream = guest->stream;
    cal_p2p_frames_deinit(&guest->frames);
    cal_list_remove(&guest->link);
    free(guest);
    cal_p2p_stream_set_events(stream, &no_events, NULL);
    if (reset)
        cal_p2p_stream_reset(stream);
    else
        cal_p2p_stream_finish(stream);
}

/* Answers one request, within the rate of its connection. Not 0: reset the stream. */
static int guest_answer(kad_guest *guest, cal_slice request) {
    kad_host *k = guest->owner;
    cal_p2p_stream *stream = guest->stream;
    net_rate *rate = &stream->connection->kad;
    cal_buffer response;
    if (!net_rate_take(rate, KAD_REQUESTS_RATE, KAD_REQUESTS_BURST, now_of(k))) {
        k->refused++;
        return CAL_EOVERLOAD;
    }
    cal_buffer_init(&response, KAD_MESSAGE_MAX + 1);
    int result = kad_answer(k->kad, &guest->peer, peer_near(k->host, &guest->peer), request,
                            now_of(k), &response);
    if (result == CAL_EVERIFY)
        net_rate_owe(rate, KAD_REQUESTS_RATE, KAD_REQUESTS_BURST, KAD_FORGED_COST, now_of(k));
    if (!result && response.len)
        result = cal_p2p_frames_write(stream, CAL_P2P_FRAME_VARINT, response.data, response.len);
    cal_buffer_deinit(&response);
    return result;
}

/* One answer at a time: who asks on and reads none fills its own window, not our memory. */
static void guest_readable(void *user, cal_p2p_stream *stream) {
    kad_guest *guest = user;
    const uint8_t *bytes;
    size_t len;
    int result = CAL_ESTATE;
    for (;;) {
        if (stream->mux.sending.len) {
            stream_want_room(stream);
            return;
        }
        result = cal_p2p_frames_next(&guest->frames, stream, &bytes, &len);
        if (!result) result = guest_answer(guest, (cal_slice){bytes, len});
        if (result) break;
    }
    if (result == CAL_ENOTFOUND)
        guest_end(guest, false);
    else if (result != CAL_ESTATE)
        guest_end(guest, true);
}

static void guest_closed(void *user, cal_p2p_stream *stream, int reason) {
    kad_guest *guest = user;
    (void)stream;
    (void)reason;
    cal_p2p_frames_deinit(&guest->frames);
    cal_list_remove(&guest->link);
    free(guest);
}

static const cal_p2p_stream_events guest_events = {NULL, guest_readable, guest_readable,
                                                   guest_closed};
static const cal_p2p_stream_events no_events = {0};

static void guest_opened(void *user, cal_p2p_stream *stream) {
    kad_host *k = user;
    kad_guest *guest = calloc(1, sizeof *guest);
    if (!guest) {
        drop_stream(stream);
        return;
    }
    guest->owner = k;
    guest->stream = stream;
    cal_p2p_stream_peer(stream, &guest->peer);
    cal_p2p_frames_init(&guest->frames, CAL_P2P_FRAME_VARINT, KAD_MESSAGE_MAX);
    cal_list_push(&k->guests, &guest->link);
    cal_p2p_stream_set_events(stream, &guest_events, guest);
    guest_readable(guest, stream);
}

static const cal_p2p_stream_events accept_events = {guest_opened, NULL, NULL, NULL};

/* --- peers --- */

/* identify says who serves: only those come into the table. */
static void on_identified(void *user, const cal_p2p_peer *peer) {
    kad_host *k = user;
    cal_multiaddr addresses[KAD_ADDRESSES_MAX];
    bool serves = false;
    for (size_t i = 0; i < peer->protocol_count; i++)
        serves |= strcmp(peer->protocols[i], KAD_PROTOCOL) == 0;
    if (!serves) {
        kad_gone(k->kad, &peer->id);
        return;
    }
    size_t count = cal_p2p_known(k->host, &peer->id, addresses, KAD_ADDRESSES_MAX);
    kad_seen(k->kad, &peer->id, addresses, count, now_of(k));
    work_soon(k);
}

static const cal_p2p_peer_events peer_events = {NULL, NULL, on_identified};

static void take_over(void *user, const cal_p2p_peer *peer) {
    if (peer->identified) on_identified(user, peer);
}

struct known {
    const kad_host *owner;
    bool any;
};

static void note_known(void *user, const cal_p2p_peer *peer) {
    struct known *known = user;
    known->any = known->any || kad_knows(known->owner->kad, &peer->id);
}

/* Before a search. Peers leave the table when they do not answer, and come back when identify says
 * so: with a new connection. Where the old one outlived what swallowed the requests, nobody may be
 * left to begin with; then all that are connected get another chance. */
static void take_connected(kad_host *k) {
    struct known known = {k, false};
    cal_p2p_peers(k->host, note_known, &known);
    if (!known.any) cal_p2p_peers(k->host, take_over, k);
}

/* --- lifecycle --- */

int cal_p2p_kad_start(cal_p2p *host) {
    if (host->kad) return CAL_EEXISTS;
    if (host->stopping) return CAL_ECANCELED;
    kad_host *k = calloc(1, sizeof *k);
    uint64_t random;
    if (!k) return CAL_ENOMEM;
    k->host = host;
    cal_list_init(&k->calls);
    cal_list_init(&k->guests);
    cal_list_init(&k->asks);
    net_random(host, &random, sizeof random);
    int result = kad_new(&host->id, random, now_of(k), &k->kad);
    if (!result)
        result = cal_p2p_handle(
            host, &(cal_p2p_protocol){
                      .id = KAD_PROTOCOL, .events = &accept_events, .user = k, .background = true});
    if (!result && (result = cal_p2p_observe(host, &peer_events, k)))
        cal_p2p_unhandle(host, KAD_PROTOCOL);
    if (result) {
        kad_free(k->kad);
        free(k);
        return result;
    }
    host->kad = k;
    net_timer_start(host, &k->timer, k, on_timer);
    net_timer_set(host, &k->timer, kad_deadline(k->kad));
    cal_p2p_peers(host, take_over, k);
    return 0;
}

void cal_p2p_kad_stop(cal_p2p *host) {
    kad_host *k = host->kad;
    if (!k) return;
    host->kad = NULL;
    cal_p2p_unhandle(host, KAD_PROTOCOL);
    cal_p2p_unobserve(host, &peer_events, k);
    for (cal_list *at; (at = cal_list_pop(&k->calls));) {
        kad_call *call = CAL_CONTAINER_OF(at, kad_call, link);
        call->owner = NULL;
        if (!call->stream) continue; /* its dial is still to be answered */
        cal_p2p_frames_deinit(&call->frames);
        drop_stream(call->stream);
        free(call);
    }
    while (!cal_list_empty(&k->guests))
        guest_end(CAL_CONTAINER_OF(k->guests.next, kad_guest, link), true);
    while (!cal_list_empty(&k->asks))
        ask_cancel(host, CAL_CONTAINER_OF(k->asks.next, kad_ask, link));
    net_timer_stop(&k->timer);
    kad_free(k->kad);
    free(k);
}

/* --- the application's side --- */

static kad_ask *ask_new(cal_p2p_searched done, void *user) {
    kad_ask *ask = calloc(1, sizeof *ask);
    if (!ask) return NULL;
    cal_list_init(&ask->link);
    ask->done = done;
    ask->user = user;
    return ask;
}

/* The walk began, or did not: then nothing is told. */
static int ask_begun(kad_host *k, kad_ask *ask, int result) {
    if (result) {
        free(ask->addresses);
        free(ask);
        return result;
    }
    cal_list_push(&k->asks, &ask->link);
    work_soon(k);
    return 0;
}

int cal_p2p_provide(cal_p2p *host, const uint8_t key[CAL_P2P_KEY_SIZE], uint64_t size,
                    cal_p2p_searched done, void *user) {
    kad_host *k = host->kad;
    if (!k) return CAL_ESTATE;
    kad_ask *ask = ask_new(done, user);
    cal_buffer value;
    if (!ask) return CAL_ENOMEM;
    take_connected(k);
    cal_buffer_init(&value, KAD_VALUE_MAX);
    int result = kad_record_sign(net_seed(host), key, size, &value);
    if (!result) result = kad_put(k->kad, key, cal_buffer_slice(&value), now_of(k), &ask->walk);
    cal_buffer_deinit(&value);
    return ask_begun(k, ask, result);
}

int cal_p2p_withdraw(cal_p2p *host, const uint8_t key[CAL_P2P_KEY_SIZE]) {
    uint64_t walk;
    if (!host->kad) return CAL_ESTATE;
    int result = kad_forget(host->kad->kad, key, &walk);
    kad_ask *ask = !result && walk ? ask_of(host->kad, walk) : NULL;
    if (ask) ask_cancel(host, ask);
    return result;
}

int cal_p2p_providers(cal_p2p *host, const uint8_t key[CAL_P2P_KEY_SIZE],
                      void (*found)(void *user, const cal_p2p_provider *provider),
                      cal_p2p_searched done, void *user) {
    kad_host *k = host->kad;
    if (!k) return CAL_ESTATE;
    kad_ask *ask = ask_new(done, user);
    if (!ask) return CAL_ENOMEM;
    ask->found = found;
    take_connected(k);
    return ask_begun(k, ask, kad_get(k->kad, key, now_of(k), &ask->walk));
}

int cal_p2p_find(cal_p2p *host, const cal_peer_id *peer,
                 void (*done)(void *user, const cal_error *err, const cal_multiaddr *addresses,
                              size_t count),
                 void *user) {
    kad_host *k = host->kad;
    if (!k) return CAL_ESTATE;
    kad_ask *ask = ask_new(NULL, user);
    if (ask) ask->addresses = calloc(CAL_P2P_ADDRESSES_MAX, sizeof *ask->addresses);
    if (!ask || !ask->addresses) {
        free(ask);
        return CAL_ENOMEM;
    }
    ask->located = done;
    take_connected(k);
    return ask_begun(k, ask, kad_find(k->kad, peer, now_of(k), &ask->walk));
}

int cal_p2p_kad_stats_get(const cal_p2p *host, cal_p2p_kad_stats *ret_stats) {
    if (!host->kad) return CAL_ESTATE;
    kad_stats_get(host->kad->kad, ret_stats);
    ret_stats->requests_refused = host->kad->refused;
    return 0;
}
