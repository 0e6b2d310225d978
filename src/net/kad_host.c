/* The streams of kad, see kad_host.h. A request has a stream of its own: it goes out, its answer
 * comes, the stream ends. Peers that are not connected are dialled first. */
#include "net/kad_host.h"

#include <stdlib.h>

/* One request under way. It lives until its dial was answered and its stream is gone. */
typedef struct kad_call {
    cal_list link;
    kad_host *owner; /* NULL: freed while dialling */
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

struct kad_host {
    cal_p2p *host;
    cal_kad *kad;
    void (*on_result)(void *user, const kad_result *result);
    void *user;
    cal_list calls, guests;
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
    kad_response(k->kad, call->number, response, now_of(k));
    work_soon(k);
    cal_list_remove(&call->link);
    if (call->stream) {
        cal_p2p_frames_deinit(&call->frames);
        cal_p2p_stream_set_events(call->stream, &no_events, NULL);
        if (response.len)
            cal_p2p_stream_finish(call->stream);
        else
            cal_p2p_stream_reset(call->stream);
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
        kad_response(k->kad, request->number, (cal_slice){0}, now_of(k));
        return;
    }
    call->owner = k;
    call->number = request->number;
    call->deadline = now_of(k) + KAD_REQUEST_NS;
    call->peer = request->peer;
    call->len = request->bytes.len;
    memcpy(call->bytes, request->bytes.data, request->bytes.len);
    cal_list_push(&k->calls, &call->link);
    if (cal_p2p_is_connected(k->host, &call->peer))
        call_open(call);
    else
        cal_p2p_connect(k->host, &call->peer, request->addresses, request->address_count,
                        call_connected, call);
}

/* The walk has given these up already; dials end by themselves. */
static void calls_expire(kad_host *k, uint64_t now_ns) {
    for (cal_list *at = k->calls.next, *next; at != &k->calls; at = next) {
        kad_call *call = CAL_CONTAINER_OF(at, kad_call, link);
        next = at->next;
        if (call->stream && call->deadline <= now_ns) call_end(call, (cal_slice){0});
    }
}

static void on_timer(void *user, uint64_t now_ns) {
    kad_host *k = user;
    kad_request request;
    kad_result result;
    kad_expire(k->kad, now_ns);
    calls_expire(k, now_ns);
    while (kad_next_request(k->kad, &request, now_ns)) call_begin(k, &request);
    while (kad_next_result(k->kad, &result)) k->on_result(k->user, &result);
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

static void guest_readable(void *user, cal_p2p_stream *stream) {
    kad_guest *guest = user;
    const uint8_t *bytes;
    size_t len;
    cal_buffer response;
    cal_buffer_init(&response, KAD_MESSAGE_MAX + 1);
    int result;
    while (!(result = cal_p2p_frames_next(&guest->frames, stream, &bytes, &len))) {
        kad_host *k = guest->owner;
        cal_buffer_reset(&response);
        result = kad_answer(k->kad, &guest->peer, (cal_slice){bytes, len}, now_of(k), &response);
        if (!result && response.len)
            result =
                cal_p2p_frames_write(stream, CAL_P2P_FRAME_VARINT, response.data, response.len);
        if (result) break; /* also one who asks on and reads no answers */
    }
    cal_buffer_deinit(&response);
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

static const cal_p2p_stream_events guest_events = {NULL, guest_readable, NULL, guest_closed};
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
    if (count > KAD_ADDRESSES_MAX) count = KAD_ADDRESSES_MAX;
    kad_seen(k->kad, &peer->id, addresses, count, now_of(k));
    work_soon(k);
}

static const cal_p2p_peer_events peer_events = {NULL, NULL, on_identified};

static void take_over(void *user, const cal_p2p_peer *peer) {
    if (peer->identified) on_identified(user, peer);
}

/* --- lifecycle --- */

int kad_host_new(cal_p2p *host, void (*on_result)(void *user, const kad_result *result), void *user,
                 kad_host **ret_kad) {
    kad_host *k = calloc(1, sizeof *k);
    cal_peer_id self;
    uint64_t random;
    if (!k) return CAL_ENOMEM;
    k->host = host;
    k->on_result = on_result;
    k->user = user;
    cal_list_init(&k->calls);
    cal_list_init(&k->guests);
    cal_p2p_id(host, &self);
    net_random(host, &random, sizeof random);
    int result = kad_new(&self, random, now_of(k), &k->kad);
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
    net_timer_start(host, &k->timer, k, on_timer);
    net_timer_set(host, &k->timer, kad_deadline(k->kad));
    cal_p2p_peers(host, take_over, k);
    *ret_kad = k;
    return 0;
}

void kad_host_free(kad_host *k) {
    if (!k) return;
    cal_p2p_unhandle(k->host, KAD_PROTOCOL);
    cal_p2p_unobserve(k->host, &peer_events, k);
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
    net_timer_stop(&k->timer);
    kad_free(k->kad);
    free(k);
}

int kad_host_put(kad_host *k, const uint8_t key[KAD_KEY_LEN], uint64_t size, uint64_t *ret_walk) {
    cal_buffer value;
    cal_buffer_init(&value, KAD_VALUE_MAX);
    int result = kad_record_sign(net_seed(k->host), key, size, &value);
    if (!result) result = kad_put(k->kad, key, cal_buffer_slice(&value), now_of(k), ret_walk);
    cal_buffer_deinit(&value);
    work_soon(k);
    return result;
}

int kad_host_get(kad_host *k, const uint8_t key[KAD_KEY_LEN], uint64_t *ret_walk) {
    int result = kad_get(k->kad, key, now_of(k), ret_walk);
    work_soon(k);
    return result;
}

int kad_host_find(kad_host *k, const cal_peer_id *peer, uint64_t *ret_walk) {
    int result = kad_find(k->kad, peer, now_of(k), ret_walk);
    work_soon(k);
    return result;
}

void kad_host_forget(kad_host *k, const uint8_t key[KAD_KEY_LEN]) { kad_forget(k->kad, key); }
const cal_kad *kad_host_state(const kad_host *k) { return k->kad; }
