/* Rendezvous of a host: the rendezvous part of calimero/p2p.h. What is said to one point, and when,
 * is in rendezvous.h; here is which peers serve as points, and the streams that carry the requests.
 *
 * Every peer that identifies with the protocol is remembered as a possible point, at most
 * POINTS_KNOWN. Up to points_max are used at a time, each by a client of its own that has all
 * names. One that disconnects, or keeps no registration while another could, is left; when too few
 * are connected, those known are dialled again, each at most once in RENDEZVOUS_RETRY_NS. One
 * request of a point is under way at a time, on a stream of its own. */
#include <stdlib.h>

#include "net/internal.h"
#include "net/rendezvous.h"

enum {
    POINTS_KNOWN = 64,
    POINTS_DEFAULT = 3, /* network-sync.md 1 */
    POINTS_MAX = 16,
    DIALS_MAX = 16, /* to discovered peers, at once; the others wait in their client */
};

typedef struct rendezvous_host rendezvous_host;

typedef struct rendezvous_point {
    cal_list link;
    rendezvous_host *owner;
    cal_peer_id peer;
    cal_p2p_point_state state;
    uint64_t since, retry_at; /* retry_at: not used or dialled before */
    cal_rendezvous *client;   /* NULL: not used */
    cal_multiaddr announced[RENDEZVOUS_ADDRESSES_MAX];
    size_t announced_count;
    /* the request under way */
    cal_p2p_stream *stream; /* NULL: none */
    cal_p2p_frames frames;
    uint64_t number, deadline;
    bool answered; /* an answer is due */
} rendezvous_point;

typedef struct rendezvous_name {
    cal_list link;
    size_t len;
    uint8_t bytes[];
} rendezvous_name;

/* A discovered peer that is being dialled. It lives until the dial was answered. */
typedef struct rendezvous_dial {
    cal_list link;
    rendezvous_host *owner; /* NULL: stopped meanwhile */
} rendezvous_dial;

struct rendezvous_host {
    cal_p2p *host;
    uint32_t points_max;
    cal_list points, names, dials;
    size_t point_count, used, name_count, dial_count;
    net_timer timer;
    cal_p2p_rendezvous_stats past; /* of clients that are gone */
};

static const cal_p2p_stream_events call_events, no_events;

static uint64_t now_of(const rendezvous_host *r) { return net_now_ns(r->host); }

/* Everything follows from the timer, so that nothing is told inside a call. */
static void work_soon(rendezvous_host *r) { net_timer_set(r->host, &r->timer, now_of(r)); }

static void point_state(rendezvous_point *point, cal_p2p_point_state state) {
    if (point->state == state) return;
    point->state = state;
    point->since = now_of(point->owner);
}

/* --- requests --- */

/* Over: the answer, or none. */
static void call_end(rendezvous_point *point, cal_slice response) {
    rendezvous_host *r = point->owner;
    cal_p2p_stream *stream = point->stream;
    if (point->answered) rendezvous_response(point->client, point->number, response, now_of(r));
    point->answered = false;
    point->stream = NULL;
    cal_p2p_frames_deinit(&point->frames);
    if (stream) {
        cal_p2p_stream_set_events(stream, &no_events, NULL);
        cal_p2p_stream_reset(stream);
    }
    if (rendezvous_registrations(point->client, now_of(r)) > 0)
        point_state(point, CAL_P2P_POINT_REGISTERED);
    else if (point->state != CAL_P2P_POINT_DISCOVERED)
        point_state(point, CAL_P2P_POINT_EXPIRED);
    work_soon(r);
}

static void call_begin(rendezvous_point *point, const rendezvous_request *request) {
    static const char *const protocol = RENDEZVOUS_PROTOCOL;
    point->number = request->number;
    point->answered = request->answered;
    point->deadline = now_of(point->owner) + RENDEZVOUS_REQUEST_NS;
    if (request->registers && point->state != CAL_P2P_POINT_REGISTERED)
        point_state(point, CAL_P2P_POINT_REQUESTED);
    cal_p2p_frames_init(&point->frames, CAL_P2P_FRAME_VARINT, RENDEZVOUS_MESSAGE_MAX);
    if (cal_p2p_open(point->owner->host, &point->peer, &protocol, 1, &call_events, point,
                     &point->stream)) {
        point->stream = NULL;
        call_end(point, (cal_slice){0});
    } else if (cal_p2p_frames_write(point->stream, CAL_P2P_FRAME_VARINT, request->bytes.data,
                                    request->bytes.len)) {
        call_end(point, (cal_slice){0});
    } else {
        cal_p2p_stream_finish(point->stream);
    }
}

static void call_readable(void *user, cal_p2p_stream *stream) {
    rendezvous_point *point = user;
    const uint8_t *bytes;
    size_t len;
    int result = cal_p2p_frames_next(&point->frames, stream, &bytes, &len);
    if (result == CAL_ESTATE) return;
    call_end(point, result ? (cal_slice){0} : (cal_slice){bytes, len});
}

static void call_closed(void *user, cal_p2p_stream *stream, int reason) {
    rendezvous_point *point = user;
    (void)stream;
    (void)reason;
    point->stream = NULL;
    call_end(point, (cal_slice){0});
}

static const cal_p2p_stream_events call_events = {NULL, call_readable, NULL, call_closed};
static const cal_p2p_stream_events no_events = {0};

/* --- points --- */

static rendezvous_point *point_find(const rendezvous_host *r, const cal_peer_id *peer) {
    for (cal_list *at = r->points.next; at != &r->points; at = at->next) {
        rendezvous_point *point = CAL_CONTAINER_OF(at, rendezvous_point, link);
        if (cal_peer_id_equal(&point->peer, peer)) return point;
    }
    return NULL;
}

/* It is used no more. */
static void point_leave(rendezvous_point *point) {
    rendezvous_host *r = point->owner;
    if (!point->client) return;
    if (point->stream) call_end(point, (cal_slice){0});
    rendezvous_stats_add(point->client, &r->past);
    rendezvous_free(point->client);
    point->client = NULL;
    point->announced_count = 0;
    point->retry_at = now_of(r) + RENDEZVOUS_RETRY_NS;
    if (point->state != CAL_P2P_POINT_DISCOVERED) point_state(point, CAL_P2P_POINT_EXPIRED);
    r->used--;
}

static void point_use(rendezvous_point *point) {
    rendezvous_host *r = point->owner;
    if (rendezvous_new(net_seed(r->host), now_of(r), &point->client)) {
        point->client = NULL;
        point->retry_at = now_of(r) + RENDEZVOUS_RETRY_NS;
        return;
    }
    r->used++;
    for (cal_list *at = r->names.next; at != &r->names; at = at->next) {
        rendezvous_name *name = CAL_CONTAINER_OF(at, rendezvous_name, link);
        rendezvous_join(point->client, (cal_slice){name->bytes, name->len}, now_of(r));
    }
}

static void point_free(rendezvous_point *point) {
    point_leave(point);
    cal_list_remove(&point->link);
    point->owner->point_count--;
    free(point);
}

/* When all places are taken, one that is not connected gives way. */
static rendezvous_point *point_new(rendezvous_host *r, const cal_peer_id *peer) {
    for (cal_list *at = r->points.next; at != &r->points && r->point_count == POINTS_KNOWN;
         at = at->next) {
        rendezvous_point *point = CAL_CONTAINER_OF(at, rendezvous_point, link);
        if (point->client || cal_p2p_is_connected(r->host, &point->peer)) continue;
        point_free(point);
        break;
    }
    rendezvous_point *point = r->point_count < POINTS_KNOWN ? calloc(1, sizeof *point) : NULL;
    if (!point) return NULL;
    point->owner = r;
    point->peer = *peer;
    point->since = now_of(r);
    cal_p2p_frames_init(&point->frames, CAL_P2P_FRAME_VARINT, RENDEZVOUS_MESSAGE_MAX);
    cal_list_push(&r->points, &point->link);
    r->point_count++;
    return point;
}

/* The next that could be used, or dialled. NULL: none at this time. */
static rendezvous_point *point_next(rendezvous_host *r, bool connected) {
    for (cal_list *at = r->points.next; at != &r->points; at = at->next) {
        rendezvous_point *point = CAL_CONTAINER_OF(at, rendezvous_point, link);
        if (!point->client && point->retry_at <= now_of(r) &&
            cal_p2p_is_connected(r->host, &point->peer) == connected)
            return point;
    }
    return NULL;
}

/* Fills the places: first those who register nobody give way to others that might. */
static void choose(rendezvous_host *r) {
    rendezvous_point *point;
    for (cal_list *at = r->points.next; at != &r->points; at = at->next) {
        point = CAL_CONTAINER_OF(at, rendezvous_point, link);
        if (point->client && point->state == CAL_P2P_POINT_EXPIRED && r->used == r->points_max &&
            point_next(r, true))
            point_leave(point);
    }
    while (r->used < r->points_max && (point = point_next(r, true))) point_use(point);
    for (size_t missing = r->points_max - r->used;
         r->name_count && missing > 0 && (point = point_next(r, false)); missing--) {
        point->retry_at = now_of(r) + RENDEZVOUS_RETRY_NS;
        cal_p2p_connect(r->host, &point->peer, NULL, 0, NULL, NULL); /* identify says the rest */
    }
}

/* --- what a used point is told, and what it tells --- */

/* Where the point's visitors may find us: loopback is of use on this machine only. */
static void announce(rendezvous_point *point) {
    rendezvous_host *r = point->owner;
    cal_multiaddr now[RENDEZVOUS_ADDRESSES_MAX] = {0};
    size_t count = peer_near(r->host, &point->peer)
                       ? cal_p2p_addresses(r->host, now, RENDEZVOUS_ADDRESSES_MAX)
                       : host_addresses_on(r->host, false, now, RENDEZVOUS_ADDRESSES_MAX);
    if (count > RENDEZVOUS_ADDRESSES_MAX) count = RENDEZVOUS_ADDRESSES_MAX;
    bool same = count == point->announced_count;
    for (size_t i = 0; i < count && same; i++)
        same = cal_multiaddr_equal(&now[i], &point->announced[i]);
    if (same || count == 0) return;
    const cal_os *os = net_os(r->host);
    if (rendezvous_announce(point->client, os->wall_ns(os->user), now, count, now_of(r))) return;
    memcpy(point->announced, now, sizeof now);
    point->announced_count = count;
}

static void on_dialled(void *user, const cal_error *err, const cal_peer_id *peer) {
    rendezvous_dial *dial = user;
    (void)err;
    (void)peer;
    cal_list_remove(&dial->link);
    if (dial->owner) {
        dial->owner->dial_count--;
        work_soon(dial->owner);
    }
    free(dial);
}

static void take_found(rendezvous_host *r, bool near, rendezvous_found *found) {
    size_t count = 0;
    for (size_t i = 0; i < found->count; i++)
        if (near || !address_loopback(&found->addresses[i]))
            found->addresses[count++] = found->addresses[i];
    if (count == 0 || peer_learn_announced(r->host, &found->peer, found->addresses, count)) return;
    if (cal_p2p_is_connected(r->host, &found->peer)) return;
    rendezvous_dial *dial = calloc(1, sizeof *dial);
    if (!dial) return;
    if (dial_announced(r->host, &found->peer, found->addresses, count, on_dialled, dial)) {
        free(dial);
        return;
    }
    dial->owner = r;
    cal_list_push(&r->dials, &dial->link);
    r->dial_count++;
}

static uint64_t earlier(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* What took too long is over: a request, the registrations. */
static void point_expire(rendezvous_point *point) {
    uint64_t now = now_of(point->owner);
    if (point->stream && point->deadline <= now) call_end(point, (cal_slice){0});
    if (point->state == CAL_P2P_POINT_REGISTERED &&
        rendezvous_registrations(point->client, now) == 0)
        point_state(point, CAL_P2P_POINT_EXPIRED);
}

/* Returns when there is more to do. */
static uint64_t point_work(rendezvous_point *point) {
    rendezvous_host *r = point->owner;
    rendezvous_request request;
    rendezvous_found found;
    announce(point);
    if (!point->stream && rendezvous_next_request(point->client, now_of(r), &request))
        call_begin(point, &request);
    while (r->dial_count < DIALS_MAX && rendezvous_next(point->client, &found))
        take_found(r, peer_near(r->host, &point->peer), &found);
    return point->stream ? point->deadline : rendezvous_deadline(point->client);
}

static void on_timer(void *user, uint64_t now_ns) {
    rendezvous_host *r = user;
    uint64_t next = NET_NEVER;
    for (cal_list *at = r->points.next; at != &r->points; at = at->next) {
        rendezvous_point *point = CAL_CONTAINER_OF(at, rendezvous_point, link);
        if (point->client) point_expire(point);
    }
    choose(r);
    for (cal_list *at = r->points.next; at != &r->points; at = at->next) {
        rendezvous_point *point = CAL_CONTAINER_OF(at, rendezvous_point, link);
        if (point->client)
            next = earlier(next, point_work(point));
        else if (r->name_count && r->used < r->points_max && point->retry_at > now_ns)
            next = earlier(next, point->retry_at);
    }
    if (r->timer.at_ns > next) net_timer_set(r->host, &r->timer, next);
}

/* --- peers --- */

static void on_identified(void *user, const cal_p2p_peer *peer) {
    rendezvous_host *r = user;
    rendezvous_point *point = point_find(r, &peer->id);
    bool speaks = false;
    for (size_t i = 0; i < peer->protocol_count; i++)
        speaks |= strcmp(peer->protocols[i], RENDEZVOUS_PROTOCOL) == 0;
    if (!speaks) {
        if (point) point_free(point);
        return;
    }
    if (!point) point = point_new(r, &peer->id);
    if (point && !point->client) point->retry_at = 0; /* it is here, and new or here again */
    work_soon(r);
}

static void on_disconnected(void *user, const cal_peer_id *peer) {
    rendezvous_host *r = user;
    rendezvous_point *point = point_find(r, peer);
    if (!point) return;
    point_leave(point);
    work_soon(r);
}

static const cal_p2p_peer_events peer_events = {NULL, on_disconnected, on_identified};

static void take_over(void *user, const cal_p2p_peer *peer) {
    if (peer->identified) on_identified(user, peer);
}

/* --- the application's side --- */

int cal_p2p_rendezvous_start(cal_p2p *host, const cal_p2p_rendezvous_options *options) {
    if (host->rendezvous) return CAL_EEXISTS;
    if (host->stopping) return CAL_ECANCELED;
    if (options && options->points_max > POINTS_MAX) return CAL_EINVAL;
    rendezvous_host *r = calloc(1, sizeof *r);
    if (!r) return CAL_ENOMEM;
    r->host = host;
    r->points_max = options && options->points_max ? options->points_max : POINTS_DEFAULT;
    cal_list_init(&r->points);
    cal_list_init(&r->names);
    cal_list_init(&r->dials);
    int result = cal_p2p_observe(host, &peer_events, r);
    if (result) {
        free(r);
        return result;
    }
    host->rendezvous = r;
    net_timer_start(host, &r->timer, r, on_timer);
    cal_p2p_peers(host, take_over, r);
    return 0;
}

static void name_free(rendezvous_host *r, rendezvous_name *name) {
    cal_list_remove(&name->link);
    r->name_count--;
    free(name);
}

void cal_p2p_rendezvous_stop(cal_p2p *host) {
    rendezvous_host *r = host->rendezvous;
    if (!r) return;
    host->rendezvous = NULL;
    cal_p2p_unobserve(host, &peer_events, r);
    while (!cal_list_empty(&r->points))
        point_free(CAL_CONTAINER_OF(r->points.next, rendezvous_point, link));
    while (!cal_list_empty(&r->names))
        name_free(r, CAL_CONTAINER_OF(r->names.next, rendezvous_name, link));
    for (cal_list *at; (at = cal_list_pop(&r->dials));)
        CAL_CONTAINER_OF(at, rendezvous_dial, link)->owner = NULL;
    net_timer_stop(&r->timer);
    free(r);
}

static rendezvous_name *name_find(rendezvous_host *r, cal_slice wanted) {
    for (cal_list *at = r->names.next; at != &r->names; at = at->next) {
        rendezvous_name *name = CAL_CONTAINER_OF(at, rendezvous_name, link);
        if (cal_slice_equal((cal_slice){name->bytes, name->len}, wanted)) return name;
    }
    return NULL;
}

int cal_p2p_rendezvous_join(cal_p2p *host, const char *text) {
    rendezvous_host *r = host->rendezvous;
    cal_slice wanted = cal_slice_text(text);
    if (!r) return CAL_ESTATE;
    if (wanted.len == 0 || wanted.len > RENDEZVOUS_NAMESPACE_MAX) return CAL_EINVAL;
    if (name_find(r, wanted)) return CAL_EEXISTS;
    if (r->name_count == RENDEZVOUS_NAMESPACES_MAX) return CAL_ELIMIT;
    rendezvous_name *name = calloc(1, sizeof *name + wanted.len);
    if (!name) return CAL_ENOMEM;
    name->len = wanted.len;
    memcpy(name->bytes, wanted.data, wanted.len);
    cal_list_push(&r->names, &name->link);
    r->name_count++;
    for (cal_list *at = r->points.next; at != &r->points; at = at->next) {
        rendezvous_point *point = CAL_CONTAINER_OF(at, rendezvous_point, link);
        int result = point->client ? rendezvous_join(point->client, wanted, now_of(r)) : 0;
        if (!result) continue;
        cal_p2p_rendezvous_leave(host, text);
        return result;
    }
    work_soon(r);
    return 0;
}

int cal_p2p_rendezvous_leave(cal_p2p *host, const char *text) {
    rendezvous_host *r = host->rendezvous;
    rendezvous_name *name = r ? name_find(r, cal_slice_text(text)) : NULL;
    if (!r) return CAL_ESTATE;
    if (!name) return CAL_ENOTFOUND;
    for (cal_list *at = r->points.next; at != &r->points; at = at->next) {
        rendezvous_point *point = CAL_CONTAINER_OF(at, rendezvous_point, link);
        if (point->client) rendezvous_leave(point->client, (cal_slice){name->bytes, name->len});
    }
    name_free(r, name);
    work_soon(r);
    return 0;
}

int cal_p2p_rendezvous_points(const cal_p2p *host,
                              void (*visit)(void *user, const cal_p2p_point *point), void *user) {
    const rendezvous_host *r = host->rendezvous;
    if (!r) return CAL_ESTATE;
    uint64_t now = now_of(r);
    for (const cal_list *at = r->points.next; at != &r->points; at = at->next) {
        const rendezvous_point *point = CAL_CONTAINER_OF(at, rendezvous_point, link);
        size_t kept = point->client ? rendezvous_registrations(point->client, now) : 0;
        visit(user, &(cal_p2p_point){.peer = point->peer,
                                     .state = point->state,
                                     .age_ns = now - point->since,
                                     .registrations = kept});
    }
    return 0;
}

int cal_p2p_rendezvous_stats_get(const cal_p2p *host, cal_p2p_rendezvous_stats *ret_stats) {
    const rendezvous_host *r = host->rendezvous;
    if (!r) return CAL_ESTATE;
    *ret_stats = r->past;
    for (const cal_list *at = r->points.next; at != &r->points; at = at->next) {
        const rendezvous_point *point = CAL_CONTAINER_OF(at, rendezvous_point, link);
        if (!point->client) continue;
        rendezvous_stats_add(point->client, ret_stats);
        ret_stats->registrations += rendezvous_registrations(point->client, now_of(r));
    }
    ret_stats->points = r->used;
    ret_stats->names = r->name_count;
    return 0;
}
