/* Lifecycle, records and the server side of kad; see kad.h. */
#include <assert.h>
#include <stdlib.h>

#include "net/internal.h"
#include "net/kad_internal.h"

uint64_t kad_random(cal_kad *kad) {
    uint64_t z = kad->random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

int kad_new(const cal_peer_id *self, uint64_t random, uint64_t now_ns, cal_kad **ret_kad) {
    cal_kad *kad = calloc(1, sizeof *kad);
    if (!kad) return CAL_ENOMEM;
    kad->self = *self;
    kad->random = random;
    kad->now = now_ns;
    kad->refresh_at = now_ns + KAD_REFRESH_NS;
    kad->puts_at = NET_NEVER;
    kad_place((cal_slice){self->bytes, self->len}, kad->place);
    cal_map_init(&kad->records, kad_random(kad));
    cal_list_init(&kad->walks);
    cal_list_init(&kad->told);
    cal_buffer_init(&kad->request, KAD_MESSAGE_MAX + 1);
    *ret_kad = kad;
    return 0;
}

void kad_free(cal_kad *kad) {
    if (!kad) return;
    kad_result result;
    while (!cal_list_empty(&kad->walks))
        kad_walk_free(kad, CAL_CONTAINER_OF(kad->walks.next, kad_walk, link));
    while (kad_next_result(kad, &result)) continue;
    for (size_t i = 0; i < kad->peer_count; i++) free(kad->peers[i]);
    cal_map_cursor cursor = {0};
    void *record;
    while (cal_map_next(&kad->records, &cursor, NULL, &record)) free(record);
    cal_map_deinit(&kad->records);
    cal_buffer_deinit(&kad->request);
    free(kad);
}

/* --- records --- */

kad_record *kad_record_get(const cal_kad *kad, cal_slice key) {
    kad_record *record = cal_map_get(&kad->records, key);
    return record && (record->own || record->expires > kad->now) ? record : NULL;
}

static kad_record *record_make(cal_kad *kad, cal_slice key) {
    kad_record *record = cal_map_get(&kad->records, key);
    if (record) return record;
    record = calloc(1, sizeof *record);
    if (!record) return NULL;
    memcpy(record->key, key.data, KAD_KEY_LEN);
    if (cal_map_put(&kad->records, key, record)) {
        free(record);
        return NULL;
    }
    return record;
}

int kad_record_take(cal_kad *kad, const KadPb__Record *given) {
    cal_peer_id provider;
    uint64_t size, ttl = KAD_TTL_NS;
    if (!given || !given->has_key || given->key.len != KAD_KEY_LEN || !given->has_value ||
        given->value.len > KAD_VALUE_MAX)
        return CAL_EDECODE;
    cal_slice key = {given->key.data, KAD_KEY_LEN}, value = {given->value.data, given->value.len};
    int result = kad_record_verify(key.data, value, &provider, &size);
    if (result) return result;
    bool room = kad->records.count - kad->own < KAD_RECORDS_MAX;
    kad_record *record = room ? record_make(kad, key) : cal_map_get(&kad->records, key);
    if (!record) return room ? CAL_ENOMEM : CAL_ELIMIT;
    if (record->own) return 0; /* what we hold ourselves nobody replaces */
    if (given->has_ttl && given->ttl && given->ttl * UINT64_C(1000000000) < ttl)
        ttl = given->ttl * UINT64_C(1000000000);
    memcpy(record->value, value.data, value.len);
    record->value_len = value.len;
    record->expires = kad->now + ttl;
    kad->stats.records_taken++;
    return 0;
}

int kad_put(cal_kad *kad, const uint8_t key[KAD_KEY_LEN], cal_slice value, uint64_t now_ns,
            uint64_t *ret_walk) {
    cal_peer_id provider;
    uint64_t size;
    if (now_ns > kad->now) kad->now = now_ns;
    if (kad_record_verify(key, value, &provider, &size)) return CAL_EVERIFY;
    cal_slice at = {key, KAD_KEY_LEN};
    kad_record *record = cal_map_get(&kad->records, at);
    if (record && record->own) return CAL_EEXISTS;
    if (kad->own >= KAD_OWN_MAX) return CAL_ELIMIT;
    record = record_make(kad, at);
    if (!record) return CAL_ENOMEM;
    kad->own++;
    record->own = true;
    memcpy(record->value, value.data, value.len);
    record->value_len = value.len;
    record->put_at = kad->now;
    record->first = *ret_walk = ++kad->next_number;
    kad_puts_due(kad, false);
    return 0;
}

int kad_forget(cal_kad *kad, const uint8_t key[KAD_KEY_LEN], uint64_t *ret_walk) {
    cal_slice at = {key, KAD_KEY_LEN};
    kad_record *record = cal_map_get(&kad->records, at);
    if (!record || !record->own) return CAL_ENOTFOUND;
    *ret_walk = record->first;
    kad->own--;
    cal_map_remove(&kad->records, at);
    free(record);
    return 0;
}

/* --- our records on their way --- */

void kad_puts_due(cal_kad *kad, bool unkept) {
    cal_map_cursor cursor = {0};
    void *value;
    kad->puts_at = kad->now;
    while (unkept && kad->own && cal_map_next(&kad->records, &cursor, NULL, &value)) {
        kad_record *record = value;
        if (record->own && !record->kept) record->put_at = kad->now;
    }
}

/* Begins what is due and has room, and finds out when there is more to do. */
static void puts_begin(cal_kad *kad) {
    cal_map_cursor cursor = {0};
    cal_slice key;
    void *value;
    uint64_t next = NET_NEVER;
    while (cal_map_next(&kad->records, &cursor, &key, &value)) {
        kad_record *record = value;
        if (!record->own || record->putting) continue;
        if (record->put_at <= kad->now) {
            if (kad->puts >= KAD_PUTS_MAX) continue; /* the end of one of these looks again */
            uint64_t number = record->first ? record->first : ++kad->next_number;
            bool quiet = !record->first;
            record->first = 0;
            record->putting = number;
            record->put_at = kad->now + KAD_PUT_RETRY_NS;
            kad->puts++;
            if (kad_walk_begin(kad, KAD_PUT_VALUE, key,
                               (cal_slice){record->value, record->value_len}, quiet, number)) {
                kad->puts--;
                record->putting = 0;
                record->first = quiet ? 0 : number;
            }
        }
        if (!record->putting && record->put_at < next) next = record->put_at;
    }
    kad->puts_at = next;
}

void kad_put_over(cal_kad *kad, const kad_walk *walk) {
    kad_record *record = cal_map_get(&kad->records, (cal_slice){walk->key, walk->key_len});
    kad->puts--;
    if (record && record->putting == walk->number) {
        record->putting = 0;
        record->kept = walk->found > 0;
        record->put_at = kad->now + (record->kept ? KAD_REPUBLISH_NS : KAD_PUT_RETRY_NS);
    }
    kad->puts_at = kad->now;
}

int kad_get(cal_kad *kad, const uint8_t key[KAD_KEY_LEN], uint64_t now_ns, uint64_t *ret_walk) {
    if (now_ns > kad->now) kad->now = now_ns;
    *ret_walk = ++kad->next_number;
    return kad_walk_begin(kad, KAD_GET_VALUE, (cal_slice){key, KAD_KEY_LEN}, (cal_slice){0}, false,
                          *ret_walk);
}

int kad_find(cal_kad *kad, const cal_peer_id *peer, uint64_t now_ns, uint64_t *ret_walk) {
    if (now_ns > kad->now) kad->now = now_ns;
    *ret_walk = ++kad->next_number;
    return kad_walk_begin(kad, KAD_FIND_NODE, (cal_slice){peer->bytes, peer->len}, (cal_slice){0},
                          false, *ret_walk);
}

/* --- server --- */

enum { CONNECTION_CAN = 2 };

/* The peers nearest to the key, without the one that asks. */
static size_t closer_peers(const cal_kad *kad, const cal_peer_id *from, bool near, cal_slice key,
                           KadPb__Peer ret_peers[KAD_REPLICATION],
                           ProtobufCBinaryData ret_addresses[KAD_REPLICATION * KAD_ADDRESSES_MAX]) {
    const kad_contact *nearest[KAD_REPLICATION + 1];
    uint8_t target[CAL_HASH_SIZE];
    kad_place(key, target);
    size_t found = kad_nearest(kad, target, nearest, KAD_REPLICATION + 1), count = 0, used = 0;
    for (size_t i = 0; i < found && count < KAD_REPLICATION; i++) {
        const kad_contact *contact = nearest[i];
        if (cal_peer_id_equal(&contact->id, from)) continue;
        KadPb__Peer *peer = &ret_peers[count];
        kad_pb__peer__init(peer);
        peer->has_id = peer->has_connection = true;
        peer->id = kad_binary(contact->id.bytes, contact->id.len);
        peer->connection = CONNECTION_CAN;
        peer->addrs = ret_addresses + used;
        for (size_t j = 0; j < contact->address_count; j++)
            if (near || !address_loopback(&contact->addresses[j]))
                peer->addrs[peer->n_addrs++] =
                    kad_binary(contact->addresses[j].bytes, contact->addresses[j].len);
        if (contact->address_count && !peer->n_addrs)
            continue; /* it cannot be reached from there */
        used += peer->n_addrs;
        count++;
    }
    return count;
}

static int answer_nodes(cal_kad *kad, const cal_peer_id *from, bool near,
                        const KadPb__Message *request, cal_buffer *out) {
    KadPb__Message response = KAD_PB__MESSAGE__INIT;
    KadPb__Record record = KAD_PB__RECORD__INIT;
    KadPb__Peer peers[KAD_REPLICATION], *list[KAD_REPLICATION];
    ProtobufCBinaryData addresses[KAD_REPLICATION * KAD_ADDRESSES_MAX];
    cal_slice key = {request->key.data, request->has_key ? request->key.len : 0};
    response.has_type = true;
    response.type = request->type;
    response.has_key = request->has_key;
    response.key = request->key;
    response.n_closer = closer_peers(kad, from, near, key, peers, addresses);
    response.closer = list;
    for (size_t i = 0; i < response.n_closer; i++) list[i] = &peers[i];
    const kad_record *found = request->type == KAD_GET_VALUE ? kad_record_get(kad, key) : NULL;
    if (found) {
        record.has_key = record.has_value = record.has_ttl = true;
        record.key = request->key;
        record.value = kad_binary(found->value, found->value_len);
        uint64_t left = found->own ? KAD_TTL_NS : found->expires - kad->now;
        record.ttl = (uint32_t)(left / 1000000000u) + 1;
        response.record = &record;
    }
    return kad_encode(&response, out);
}

int kad_answer(cal_kad *kad, const cal_peer_id *from, bool near, cal_slice bytes, uint64_t now_ns,
               cal_buffer *out) {
    kad_decoder decoder;
    if (now_ns > kad->now) kad->now = now_ns;
    int result = kad_decode(bytes, &decoder);
    if (result) {
        kad->stats.malformed++;
        return result;
    }
    const KadPb__Message *request = decoder.message;
    kad->stats.requests_in++;
    switch (request->has_type ? request->type : KAD_PUT_VALUE) {
    case KAD_PUT_VALUE:
        result = kad_record_take(kad, request->record);
        if (result) kad->stats.records_refused++;
        if (!result) result = cal_buffer_append_slice(out, bytes); /* an echo says it is stored */
        break;
    case KAD_GET_VALUE:
    case KAD_GET_PROVIDERS: /* we keep no providers: only who is nearer */
    case KAD_FIND_NODE:
        result = answer_nodes(kad, from, near, request, out);
        break;
    case KAD_ADD_PROVIDER:
        break; /* takes no answer */
    case KAD_PING:
        result = cal_buffer_append_slice(out, bytes);
        break;
    default:
        kad->stats.malformed++;
        result = CAL_EDECODE;
    }
    kad_decoder_free(&decoder);
    return result;
}

/* --- results, time, figures --- */

bool kad_next_result(cal_kad *kad, kad_result *ret_result) {
    cal_list *link = cal_list_pop(&kad->told);
    if (!link) return false;
    kad_told *told = CAL_CONTAINER_OF(link, kad_told, link);
    kad->told_count--;
    *ret_result = told->result;
    free(told);
    return true;
}

uint64_t kad_deadline(const cal_kad *kad) {
    uint64_t at = kad_walks_deadline(kad);
    if (kad->refresh_at < at) at = kad->refresh_at;
    return kad->puts_at < at ? kad->puts_at : at;
}

/* Looks for ourselves and for a random place, which fills the table near and far; drops what
 * expired. Without room for the walks: at the next refresh. */
static void refresh(cal_kad *kad) {
    uint64_t key[4];
    for (size_t i = 0; i < 4; i++) key[i] = kad_random(kad);
    kad_walk_begin(kad, KAD_FIND_NODE, (cal_slice){kad->self.bytes, kad->self.len}, (cal_slice){0},
                   true, ++kad->next_number);
    kad_walk_begin(kad, KAD_FIND_NODE, cal_slice_of(key, sizeof key), (cal_slice){0}, true,
                   ++kad->next_number);
    cal_map_cursor cursor = {0};
    cal_slice at;
    void *value;
    while (cal_map_next(&kad->records, &cursor, &at, &value)) {
        kad_record *record = value;
        if (record->own || record->expires > kad->now) continue;
        cal_map_remove(&kad->records, at);
        free(record);
    }
}

void kad_expire(cal_kad *kad, uint64_t now_ns) {
    if (now_ns > kad->now) kad->now = now_ns;
    kad_walks_expire(kad);
    if (kad->refresh_at <= kad->now) {
        kad->refresh_at = kad->now + KAD_REFRESH_NS;
        kad->refreshed = kad->now;
        refresh(kad);
    }
    if (kad->puts_at <= kad->now) puts_begin(kad);
}

void kad_stats_get(const cal_kad *kad, cal_p2p_kad_stats *ret_stats) {
    *ret_stats = kad->stats;
    ret_stats->peers = kad->peer_count;
    ret_stats->records = kad->records.count;
    ret_stats->own = kad->own;
    ret_stats->walks = kad->walk_count;
}
