/* Walks towards a key: asks the nearest peers known for nearer ones, until the KAD_REPLICATION
 * nearest have answered; a put then stores with them. What peers tell goes into the walk only: into
 * the table comes who proved to be there (kad_seen). kad-dht specification, "Peer routing". */
#include <assert.h>
#include <stdlib.h>

#include "net/kad_internal.h"

#define NEVER UINT64_MAX

static void tell(cal_kad *kad, const kad_walk *walk, const kad_result *result) {
    if (walk->quiet) return;
    kad_told *told = kad->told_count < KAD_RESULTS_MAX ? calloc(1, sizeof *told) : NULL;
    if (!told) {
        kad->stats.results_dropped++;
        return;
    }
    told->result = *result;
    told->result.walk = walk->number;
    cal_list_push(&kad->told, &told->link);
    kad->told_count++;
}

void kad_walk_free(cal_kad *kad, kad_walk *walk) {
    cal_list_remove(&walk->link);
    kad->walk_count--;
    free(walk->last);
    free(walk);
}

static void finish(cal_kad *kad, kad_walk *walk) {
    kad_told *last = walk->last;
    if (last) {
        last->result = (kad_result){.kind = KAD_DONE,
                                    .walk = walk->number,
                                    .count = walk->found,
                                    .answered = walk->answered};
        cal_list_push(&kad->told, &last->link);
        kad->told_count++;
        walk->last = NULL;
    }
    if (walk->type == KAD_PUT_VALUE) kad_put_over(kad, walk);
    kad_walk_free(kad, walk);
}

/* --- candidates --- */

static void add_candidate(cal_kad *kad, kad_walk *walk, const kad_contact *contact) {
    if (cal_peer_id_equal(&contact->id, &kad->self)) return;
    size_t at = 0;
    for (; at < walk->count; at++) {
        int order = kad_nearer(contact->place, walk->candidates[at].contact.place, walk->place);
        if (order == 0) return; /* known */
        if (order < 0) break;
    }
    if (at == KAD_CANDIDATES_MAX) return;
    if (walk->count == KAD_CANDIDATES_MAX) {
        if (walk->candidates[walk->count - 1].state == KAD_ASKED)
            return; /* its answer is to come */
        walk->count--;
    }
    for (size_t i = walk->count; i > at; i--) walk->candidates[i] = walk->candidates[i - 1];
    walk->count++;
    walk->candidates[at] = (kad_candidate){.contact = *contact};
}

/* The next one worth asking: new, and among the nearest that have not failed. NULL: none. */
static kad_candidate *next_candidate(kad_walk *walk) {
    size_t good = 0;
    for (size_t i = 0; i < walk->count && good < KAD_REPLICATION; i++) {
        kad_candidate *candidate = &walk->candidates[i];
        if (candidate->state == KAD_NEW) return candidate;
        good += candidate->state != KAD_FAILED;
    }
    return NULL;
}

static kad_candidate *next_to_store(kad_walk *walk) {
    size_t good = 0;
    for (size_t i = 0; i < walk->count && good < KAD_REPLICATION; i++) {
        kad_candidate *candidate = &walk->candidates[i];
        if (candidate->state != KAD_ANSWERED && !candidate->storing) continue;
        good++;
        if (!candidate->storing && !candidate->stored) return candidate;
    }
    return NULL;
}

/* After anything changed: the walk goes into its second round, or is over. True: over, freed. */
static bool settle(cal_kad *kad, kad_walk *walk) {
    if (walk->asked > 0) return false;
    if (!walk->storing && next_candidate(walk)) return false;
    if (walk->type == KAD_PUT_VALUE) {
        walk->storing = true;
        if (next_to_store(walk)) return false;
    }
    finish(kad, walk);
    return true;
}

/* --- begin --- */

/* Where others say the peer is: one we know, or one this walk was told of. */
static void add_addresses(const cal_kad *kad, const kad_walk *walk, kad_result *result) {
    const kad_contact *contact = kad_contact_find(kad, &result->peer);
    for (size_t i = 0; !contact && i < walk->count; i++)
        if (cal_peer_id_equal(&walk->candidates[i].contact.id, &result->peer))
            contact = &walk->candidates[i].contact;
    if (!contact) return;
    memcpy(result->addresses, contact->addresses, sizeof result->addresses);
    result->address_count = contact->address_count;
}

static void tell_provider(cal_kad *kad, kad_walk *walk, cal_slice value) {
    kad_result result = {.kind = KAD_FOUND};
    if (kad_record_verify(walk->key, value, &result.peer, &result.size)) {
        kad->stats.records_refused++;
        return;
    }
    for (size_t i = 0; i < walk->provider_count; i++)
        if (cal_peer_id_equal(&walk->providers[i], &result.peer)) return;
    if (walk->provider_count == KAD_REPLICATION) return;
    walk->providers[walk->provider_count++] = result.peer;
    walk->found++;
    add_addresses(kad, walk, &result);
    tell(kad, walk, &result);
}

/* Somebody tells of a peer: the one looked for? */
static void tell_found(cal_kad *kad, kad_walk *walk, const kad_contact *contact) {
    kad_result result = {.kind = KAD_FOUND, .peer = contact->id};
    if (walk->type != KAD_FIND_NODE || walk->key_len != contact->id.len ||
        memcmp(walk->key, contact->id.bytes, walk->key_len) != 0 || !contact->address_count ||
        walk->found == KAD_REPLICATION)
        return;
    memcpy(result.addresses, contact->addresses, sizeof result.addresses);
    result.address_count = contact->address_count;
    walk->found++;
    tell(kad, walk, &result);
}

int kad_walk_begin(cal_kad *kad, enum kad_type type, cal_slice key, cal_slice value, bool quiet,
                   uint64_t number) {
    assert(key.len <= KAD_KEY_LEN && value.len <= KAD_VALUE_MAX);
    if (kad->walk_count >= KAD_WALKS_MAX) return CAL_EOVERLOAD;
    kad_walk *walk = calloc(1, sizeof *walk);
    kad_told *last = quiet ? NULL : calloc(1, sizeof *last);
    if (!walk || (!quiet && !last)) {
        free(walk);
        free(last);
        return CAL_ENOMEM;
    }
    walk->number = number;
    walk->deadline = kad->now + KAD_WALK_NS;
    walk->type = type;
    walk->quiet = quiet;
    walk->last = last;
    memcpy(walk->key, key.data, key.len);
    walk->key_len = key.len;
    if (value.len) memcpy(walk->value, value.data, value.len);
    walk->value_len = value.len;
    kad_place(key, walk->place);
    const kad_contact *nearest[KAD_BUCKET];
    size_t count = kad_nearest(kad, walk->place, nearest, KAD_BUCKET);
    for (size_t i = 0; i < count; i++) {
        add_candidate(kad, walk, nearest[i]);
        tell_found(kad, walk, nearest[i]);
    }
    cal_list_push(&kad->walks, &walk->link);
    kad->walk_count++;
    const kad_record *here = type == KAD_GET_VALUE ? kad_record_get(kad, key) : NULL;
    if (here) tell_provider(kad, walk, (cal_slice){here->value, here->value_len});
    settle(kad, walk);
    return 0;
}

/* --- requests --- */

static int write_request(cal_kad *kad, const kad_walk *walk) {
    KadPb__Message message = KAD_PB__MESSAGE__INIT;
    KadPb__Record record = KAD_PB__RECORD__INIT;
    message.has_type = message.has_key = true;
    message.type = walk->storing                 ? KAD_PUT_VALUE
                   : walk->type == KAD_GET_VALUE ? KAD_GET_VALUE
                                                 : KAD_FIND_NODE;
    message.key = kad_binary(walk->key, walk->key_len);
    if (walk->storing) {
        record.has_key = record.has_value = record.has_publisher = record.has_ttl = true;
        record.key = message.key;
        record.value = kad_binary(walk->value, walk->value_len);
        record.publisher = kad_binary(kad->self.bytes, kad->self.len);
        record.ttl = (uint32_t)(KAD_TTL_NS / 1000000000u);
        message.record = &record;
    }
    cal_buffer_reset(&kad->request);
    return kad_encode(&message, &kad->request);
}

bool kad_next_request(cal_kad *kad, kad_request *ret_request, uint64_t now_ns) {
    if (now_ns > kad->now) kad->now = now_ns;
    for (cal_list *at = kad->walks.next; at != &kad->walks; at = at->next) {
        kad_walk *walk = CAL_CONTAINER_OF(at, kad_walk, link);
        if (walk->asked >= KAD_PARALLEL) continue;
        kad_candidate *candidate = walk->storing ? next_to_store(walk) : next_candidate(walk);
        if (!candidate || write_request(kad, walk)) continue;
        if (walk->storing) candidate->storing = true;
        candidate->state = KAD_ASKED;
        candidate->number = ++kad->next_number;
        candidate->deadline = kad->now + KAD_REQUEST_NS;
        walk->asked++;
        kad->stats.requests_out++;
        *ret_request =
            (kad_request){candidate->number, candidate->contact.id, candidate->contact.addresses,
                          candidate->contact.address_count, cal_buffer_slice(&kad->request)};
        return true;
    }
    return false;
}

/* --- responses --- */

static void learn_closer(cal_kad *kad, kad_walk *walk, bool near, const KadPb__Message *response) {
    for (size_t i = 0; i < response->n_closer && i < KAD_BUCKET; i++) {
        kad_contact contact;
        if (kad_contact_read(response->closer[i], near, &contact)) continue;
        tell_found(kad, walk, &contact);
        add_candidate(kad, walk, &contact);
    }
}

static bool take_response(cal_kad *kad, kad_walk *walk, bool stored, bool near, cal_slice bytes) {
    kad_decoder decoder;
    if (bytes.len == 0) return false;
    if (kad_decode(bytes, &decoder)) {
        kad->stats.malformed++;
        return false;
    }
    const KadPb__Message *response = decoder.message;
    if (stored) {
        walk->found++;
        kad->stats.records_put++;
    } else {
        const KadPb__Record *record = response->record;
        learn_closer(kad, walk, near, response);
        if (walk->type == KAD_GET_VALUE && record && record->has_value)
            tell_provider(kad, walk, (cal_slice){record->value.data, record->value.len});
    }
    walk->answered++;
    kad_decoder_free(&decoder);
    return true;
}

static kad_candidate *find_number(kad_walk *walk, uint64_t number) {
    for (size_t i = 0; i < walk->count; i++)
        if (walk->candidates[i].number == number && walk->candidates[i].state == KAD_ASKED)
            return &walk->candidates[i];
    return NULL;
}

void kad_response(cal_kad *kad, uint64_t number, bool near, cal_slice bytes, uint64_t now_ns) {
    if (now_ns > kad->now) kad->now = now_ns;
    for (cal_list *at = kad->walks.next; at != &kad->walks; at = at->next) {
        kad_walk *walk = CAL_CONTAINER_OF(at, kad_walk, link);
        kad_candidate *candidate = find_number(walk, number);
        if (!candidate) continue;
        cal_peer_id id = candidate->contact.id;
        bool stored = candidate->storing;
        walk->asked--;
        candidate->state = KAD_ANSWERED; /* adding candidates moves it */
        candidate->stored = stored;
        if (take_response(kad, walk, stored, near, bytes)) {
            kad_answered(kad, &id);
        } else {
            kad->stats.failed++;
            candidate->state = KAD_FAILED; /* nothing was added, so it is where it was */
            kad_failed(kad, &id);
        }
        settle(kad, walk);
        return;
    }
}

/* --- time --- */

uint64_t kad_walks_deadline(const cal_kad *kad) {
    uint64_t at = NEVER;
    for (cal_list *link = kad->walks.next; link != &kad->walks; link = link->next) {
        const kad_walk *walk = CAL_CONTAINER_OF(link, kad_walk, link);
        if (walk->deadline < at) at = walk->deadline;
        for (size_t i = 0; i < walk->count; i++)
            if (walk->candidates[i].state == KAD_ASKED && walk->candidates[i].deadline < at)
                at = walk->candidates[i].deadline;
    }
    return at;
}

static bool requests_expire(cal_kad *kad, kad_walk *walk) {
    for (size_t i = 0; i < walk->count; i++) {
        kad_candidate *candidate = &walk->candidates[i];
        if (candidate->state != KAD_ASKED || candidate->deadline > kad->now) continue;
        candidate->state = KAD_FAILED;
        walk->asked--;
        kad->stats.failed++;
        kad_failed(kad, &candidate->contact.id);
    }
    return settle(kad, walk);
}

void kad_walks_expire(cal_kad *kad) {
    for (cal_list *at = kad->walks.next, *next; at != &kad->walks; at = next) {
        kad_walk *walk = CAL_CONTAINER_OF(at, kad_walk, link);
        next = at->next;
        if (requests_expire(kad, walk)) continue;
        if (walk->deadline <= kad->now) finish(kad, walk);
    }
}
