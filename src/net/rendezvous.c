/* When to register and to ask, see rendezvous.h. One request at a time; what is overdue longest
 * goes first, registrations before questions. */
#include "net/rendezvous.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/list.h"
#include "rendezvous.pb-c.h"

#define NEVER UINT64_MAX
#define SECOND_NS UINT64_C(1000000000)
enum { REGISTER, REGISTER_RESPONSE, UNREGISTER, DISCOVER, DISCOVER_RESPONSE }; /* message types */
enum { STATUS_OK = 0, STATUS_BAD_COOKIE = 103 };
enum { TTL_MIN_S = 120, TTL_DEFAULT_S = 2 * 3600, TTL_MAX_S = 72 * 3600 };

typedef struct meeting {
    cal_list link;
    uint64_t register_at, discover_at, registered_until;
    bool leaving, registered;
    uint8_t cookie[RENDEZVOUS_COOKIE_MAX];
    size_t cookie_len, len;
    uint8_t name[];
} meeting;

typedef struct found_one {
    cal_list link;
    rendezvous_found found;
} found_one;

struct cal_rendezvous {
    cal_secret key;
    cal_peer_id self;
    uint64_t now, number, deadline; /* of the request under way, while `asked` */
    meeting *asked;                 /* what it is about; NULL: none, or it has left since */
    bool waiting, registering;
    cal_list meetings, found;
    size_t count, found_count;
    cal_buffer record, request;
    cal_p2p_rendezvous_stats stats;
};

static void clock_to(cal_rendezvous *r, uint64_t now_ns) {
    if (now_ns > r->now) r->now = now_ns;
}

int rendezvous_new(const cal_secret *key, uint64_t now_ns, cal_rendezvous **ret_rendezvous) {
    uint8_t public_key[32];
    cal_rendezvous *r = calloc(1, sizeof *r);
    if (!r) return CAL_ENOMEM;
    cal_sign_public_key(key, public_key);
    cal_peer_id_of_key(public_key, &r->self);
    r->key = *key;
    r->now = now_ns;
    cal_list_init(&r->meetings);
    cal_list_init(&r->found);
    cal_buffer_init(&r->record, RENDEZVOUS_MESSAGE_MAX / 2);
    cal_buffer_init(&r->request, RENDEZVOUS_MESSAGE_MAX);
    *ret_rendezvous = r;
    return 0;
}

static void meeting_free(cal_rendezvous *r, meeting *m) {
    if (r->asked == m) r->asked = NULL;
    cal_list_remove(&m->link);
    r->count--;
    free(m);
}

void rendezvous_free(cal_rendezvous *r) {
    rendezvous_found found;
    if (!r) return;
    while (!cal_list_empty(&r->meetings))
        meeting_free(r, CAL_CONTAINER_OF(r->meetings.next, meeting, link));
    while (rendezvous_next(r, &found)) continue;
    cal_buffer_deinit(&r->record);
    cal_buffer_deinit(&r->request);
    cal_secret_wipe(&r->key);
    free(r);
}

/* --- what is wanted --- */

int rendezvous_announce(cal_rendezvous *r, uint64_t seq, const cal_multiaddr *addresses,
                        size_t count, uint64_t now_ns) {
    clock_to(r, now_ns);
    cal_buffer_reset(&r->record);
    int result = rendezvous_record_sign(&r->key, seq, addresses, count, &r->record);
    if (result) {
        cal_buffer_reset(&r->record);
        return result;
    }
    for (cal_list *at = r->meetings.next; at != &r->meetings; at = at->next)
        CAL_CONTAINER_OF(at, meeting, link)->register_at = r->now;
    return 0;
}

static meeting *meeting_find(cal_rendezvous *r, cal_slice name) {
    for (cal_list *at = r->meetings.next; at != &r->meetings; at = at->next) {
        meeting *m = CAL_CONTAINER_OF(at, meeting, link);
        if (cal_slice_equal((cal_slice){m->name, m->len}, name)) return m;
    }
    return NULL;
}

int rendezvous_join(cal_rendezvous *r, cal_slice name, uint64_t now_ns) {
    clock_to(r, now_ns);
    if (name.len == 0 || name.len > RENDEZVOUS_NAMESPACE_MAX) return CAL_EINVAL;
    meeting *m = meeting_find(r, name);
    if (m && !m->leaving) return CAL_EEXISTS;
    if (m) { /* back before it was gone */
        m->leaving = false;
        m->register_at = m->discover_at = r->now;
        return 0;
    }
    if (r->count >= RENDEZVOUS_NAMESPACES_MAX) return CAL_ELIMIT;
    m = calloc(1, sizeof *m + name.len);
    if (!m) return CAL_ENOMEM;
    memcpy(m->name, name.data, name.len);
    m->len = name.len;
    m->register_at = m->discover_at = r->now;
    cal_list_push(&r->meetings, &m->link);
    r->count++;
    return 0;
}

int rendezvous_leave(cal_rendezvous *r, cal_slice name) {
    meeting *m = meeting_find(r, name);
    if (!m || m->leaving) return CAL_ENOTFOUND;
    if (!m->registered && r->asked != m)
        meeting_free(r, m);
    else
        m->leaving = true; /* the point is told first */
    return 0;
}

/* --- requests --- */

static ProtobufCBinaryData binary(const void *bytes, size_t len) {
    return (ProtobufCBinaryData){len, (uint8_t *)(uintptr_t)bytes};
}

static int write_request(cal_rendezvous *r, const meeting *m, uint32_t type) {
    RendezvousPb__Message message = RENDEZVOUS_PB__MESSAGE__INIT;
    RendezvousPb__Register enter = RENDEZVOUS_PB__REGISTER__INIT;
    RendezvousPb__Unregister leave = RENDEZVOUS_PB__UNREGISTER__INIT;
    RendezvousPb__Discover discover = RENDEZVOUS_PB__DISCOVER__INIT;
    ProtobufCBinaryData name = binary(m->name, m->len);
    message.has_type = true;
    message.type = type;
    if (type == REGISTER) {
        enter.has_ns = enter.has_record = true;
        enter.ns = name;
        enter.record = binary(r->record.data, r->record.len);
        message.register_ = &enter;
    } else if (type == UNREGISTER) {
        leave.has_ns = true;
        leave.ns = name;
        message.unregister = &leave;
    } else {
        discover.has_ns = discover.has_limit = true;
        discover.ns = name;
        discover.limit = RENDEZVOUS_DISCOVER_MAX;
        discover.has_cookie = m->cookie_len > 0;
        discover.cookie = binary(m->cookie, m->cookie_len);
        message.discover = &discover;
    }
    cal_buffer_reset(&r->request);
    uint8_t *at =
        cal_buffer_reserve(&r->request, rendezvous_pb__message__get_packed_size(&message));
    if (at) r->request.len += rendezvous_pb__message__pack(&message, at);
    return r->request.error;
}

static uint64_t pause_of(const cal_rendezvous *r) {
    return RENDEZVOUS_TICK_NS * (1 + r->count / RENDEZVOUS_PER_TICK);
}

/* Nothing came back in time: both wishes stay, for later. */
static void give_up(cal_rendezvous *r) {
    r->stats.unanswered++;
    r->waiting = false;
    if (!r->asked) return;
    if (r->registering)
        r->asked->register_at = r->now + RENDEZVOUS_RETRY_NS;
    else
        r->asked->discover_at = r->now + pause_of(r);
    r->asked = NULL;
}

static uint64_t due_at(const cal_rendezvous *r, const meeting *m) {
    if (m->leaving) return 0;
    uint64_t at = m->discover_at;
    return r->record.len && m->register_at < at ? m->register_at : at;
}

static meeting *most_due(const cal_rendezvous *r) {
    meeting *found = NULL;
    for (cal_list *at = r->meetings.next; at != &r->meetings; at = at->next) {
        meeting *m = CAL_CONTAINER_OF(at, meeting, link);
        if (!found || due_at(r, m) < due_at(r, found)) found = m;
    }
    return found;
}

bool rendezvous_next_request(cal_rendezvous *r, uint64_t now_ns, rendezvous_request *ret_request) {
    clock_to(r, now_ns);
    if (r->waiting && r->deadline <= r->now) give_up(r);
    meeting *m = r->waiting ? NULL : most_due(r);
    if (!m || due_at(r, m) > r->now) return false;
    r->registering = !m->leaving && r->record.len && m->register_at <= r->now;
    uint32_t type = m->leaving ? UNREGISTER : r->registering ? REGISTER : DISCOVER;
    if (write_request(r, m, type)) {
        m->register_at = m->discover_at = r->now + RENDEZVOUS_RETRY_NS;
        return false;
    }
    r->stats.requests++;
    *ret_request = (rendezvous_request){++r->number, cal_buffer_slice(&r->request), !m->leaving,
                                        r->registering};
    if (m->leaving) {
        meeting_free(r, m);
        return true;
    }
    r->waiting = true;
    r->asked = m;
    r->deadline = r->now + RENDEZVOUS_REQUEST_NS;
    return true;
}

/* --- responses --- */

static void take_registered(cal_rendezvous *r, const RendezvousPb__RegisterResponse *response) {
    meeting *m = r->asked;
    if (response->has_status && response->status != STATUS_OK) {
        r->stats.refused++;
        if (m) m->register_at = r->now + RENDEZVOUS_RETRY_NS;
        return;
    }
    uint64_t ttl = response->has_ttl ? response->ttl : TTL_DEFAULT_S;
    if (ttl < TTL_MIN_S) ttl = TTL_MIN_S;
    if (ttl > TTL_MAX_S) ttl = TTL_MAX_S;
    if (!m) return;
    m->registered = true;
    m->registered_until = r->now + ttl * SECOND_NS;
    m->register_at = r->now + ttl / 2 * SECOND_NS;
}

static void keep_found(cal_rendezvous *r, cal_slice envelope) {
    rendezvous_found found;
    if (rendezvous_record_verify(envelope, &found)) {
        r->stats.records_refused++;
        return;
    }
    if (cal_peer_id_equal(&found.peer, &r->self)) return;
    found_one *one = r->found_count < RENDEZVOUS_FOUND_MAX ? calloc(1, sizeof *one) : NULL;
    if (!one) {
        r->stats.found_dropped++;
        return;
    }
    one->found = found;
    r->stats.found++;
    r->found_count++;
    cal_list_push(&r->found, &one->link);
}

static void take_discovered(cal_rendezvous *r, const RendezvousPb__DiscoverResponse *response) {
    meeting *m = r->asked;
    if (m) m->discover_at = r->now + pause_of(r);
    if (response->has_status && response->status != STATUS_OK) {
        r->stats.refused++;
        if (m && response->status == STATUS_BAD_COOKIE) m->cookie_len = 0;
        return;
    }
    size_t count = response->n_registrations;
    if (count > RENDEZVOUS_DISCOVER_MAX) count = RENDEZVOUS_DISCOVER_MAX;
    for (size_t i = 0; i < count; i++) {
        const RendezvousPb__Register *one = response->registrations[i];
        if (one->has_record) keep_found(r, (cal_slice){one->record.data, one->record.len});
    }
    if (!m) return;
    m->cookie_len = 0; /* one that we cannot keep: everything again next time */
    if (response->has_cookie && response->cookie.len > 0 &&
        response->cookie.len <= RENDEZVOUS_COOKIE_MAX) {
        memcpy(m->cookie, response->cookie.data, response->cookie.len);
        m->cookie_len = response->cookie.len;
    }
}

static void *message_alloc(void *arena, size_t size) { return cal_arena_alloc(arena, size); }
static void message_free(void *arena, void *memory) {
    (void)arena;
    (void)memory;
}

int rendezvous_response(cal_rendezvous *r, uint64_t number, cal_slice bytes, uint64_t now_ns) {
    clock_to(r, now_ns);
    if (!r->waiting || number != r->number) return 0; /* too late */
    if (bytes.len == 0) {
        give_up(r);
        return 0;
    }
    cal_arena arena;
    cal_arena_init(&arena, RENDEZVOUS_MEMORY_MAX);
    ProtobufCAllocator allocator = {message_alloc, message_free, &arena};
    RendezvousPb__Message *message =
        bytes.len <= RENDEZVOUS_MESSAGE_MAX
            ? rendezvous_pb__message__unpack(&allocator, bytes.len, bytes.data)
            : NULL;
    int result = 0;
    if (message && r->registering && message->register_response) {
        take_registered(r, message->register_response);
    } else if (message && !r->registering && message->discover_response) {
        take_discovered(r, message->discover_response);
    } else {
        r->stats.malformed++;
        result = CAL_EDECODE;
        give_up(r);
    }
    r->waiting = false;
    r->asked = NULL;
    cal_arena_deinit(&arena);
    return result;
}

bool rendezvous_next(cal_rendezvous *r, rendezvous_found *ret_found) {
    cal_list *link = cal_list_pop(&r->found);
    if (!link) return false;
    found_one *one = CAL_CONTAINER_OF(link, found_one, link);
    r->found_count--;
    *ret_found = one->found;
    free(one);
    return true;
}

uint64_t rendezvous_deadline(const cal_rendezvous *r) {
    if (r->waiting) return r->deadline;
    const meeting *m = most_due(r);
    return m ? due_at(r, m) : NEVER;
}

size_t rendezvous_registrations(const cal_rendezvous *r, uint64_t now_ns) {
    size_t count = 0;
    for (const cal_list *at = r->meetings.next; at != &r->meetings; at = at->next) {
        const meeting *m = CAL_CONTAINER_OF(at, meeting, link);
        count += m->registered && !m->leaving && m->registered_until > now_ns;
    }
    return count;
}

void rendezvous_stats_add(const cal_rendezvous *r, cal_p2p_rendezvous_stats *stats) {
#define ADD(name, text) stats->name += r->stats.name;
    CAL_P2P_RENDEZVOUS_COUNTERS(ADD)
#undef ADD
}
