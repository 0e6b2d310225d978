/* Lifecycle, records and the server side of kad; see kad.h. */
#include <assert.h>
#include <stdlib.h>

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
    if (kad->records.count >= KAD_RECORDS_MAX) return NULL;
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
    kad_record *record = record_make(kad, key);
    if (!record) return CAL_ELIMIT;
    if (record->own) return 0; /* what we hold ourselves nobody replaces */
    if (given->has_ttl && given->ttl && given->ttl * UINT64_C(1000000000) < ttl)
        ttl = given->ttl * UINT64_C(1000000000);
    memcpy(record->value, value.data, value.len);
    record->value_len = value.len;
    record->expires = kad->now + ttl;
    return 0;
}

int kad_put(cal_kad *kad, const uint8_t key[KAD_KEY_LEN], cal_slice value, uint64_t now_ns,
            uint64_t *ret_walk) {
    cal_peer_id provider;
    uint64_t size;
    if (now_ns > kad->now) kad->now = now_ns;
    if (kad_record_verify(key, value, &provider, &size)) return CAL_EVERIFY;
    cal_slice at = {key, KAD_KEY_LEN};
    kad_record *record =
        kad->own < KAD_OWN_MAX ? record_make(kad, at) : cal_map_get(&kad->records, at);
    if (!record || (!record->own && kad->own >= KAD_OWN_MAX)) return CAL_ELIMIT;
    if (!record->own) kad->own++;
    record->own = true;
    memcpy(record->value, value.data, value.len);
    record->value_len = value.len;
    record->put_again = kad->now + KAD_REPUBLISH_NS;
    return kad_walk_begin(kad, KAD_PUT_VALUE, at, value, false, ret_walk);
}

void kad_forget(cal_kad *kad, const uint8_t key[KAD_KEY_LEN]) {
    cal_slice at = {key, KAD_KEY_LEN};
    kad_record *record = cal_map_get(&kad->records, at);
    if (!record || !record->own) return;
    kad->own--;
    cal_map_remove(&kad->records, at);
    free(record);
}

int kad_get(cal_kad *kad, const uint8_t key[KAD_KEY_LEN], uint64_t now_ns, uint64_t *ret_walk) {
    if (now_ns > kad->now) kad->now = now_ns;
    return kad_walk_begin(kad, KAD_GET_VALUE, (cal_slice){key, KAD_KEY_LEN}, (cal_slice){0}, false,
                          ret_walk);
}

int kad_find(cal_kad *kad, const cal_peer_id *peer, uint64_t now_ns, uint64_t *ret_walk) {
    if (now_ns > kad->now) kad->now = now_ns;
    return kad_walk_begin(kad, KAD_FIND_NODE, (cal_slice){peer->bytes, peer->len}, (cal_slice){0},
                          false, ret_walk);
}

/* --- server --- */

enum { CONNECTION_CAN = 2 };

/* The peers nearest to the key, without the one that asks. */
static size_t closer_peers(const cal_kad *kad, const cal_peer_id *from, cal_slice key,
                           KadPb__Peer ret_peers[KAD_REPLICATION],
                           ProtobufCBinaryData ret_addresses[KAD_REPLICATION * KAD_ADDRESSES_MAX]) {
    const kad_contact *nearest[KAD_REPLICATION + 1];
    uint8_t target[CAL_HASH_SIZE];
    kad_place(key, target);
    size_t found = kad_nearest(kad, target, nearest, KAD_REPLICATION + 1), count = 0, used = 0;
    for (size_t i = 0; i < found && count < KAD_REPLICATION; i++) {
        const kad_contact *contact = nearest[i];
        if (cal_peer_id_equal(&contact->id, from)) continue;
        KadPb__Peer *peer = &ret_peers[count++];
        kad_pb__peer__init(peer);
        peer->has_id = peer->has_connection = true;
        peer->id = kad_binary(contact->id.bytes, contact->id.len);
        peer->connection = CONNECTION_CAN;
        peer->addrs = ret_addresses + used;
        peer->n_addrs = contact->address_count;
        for (size_t j = 0; j < contact->address_count; j++)
            ret_addresses[used++] =
                kad_binary(contact->addresses[j].bytes, contact->addresses[j].len);
    }
    return count;
}

static int answer_nodes(cal_kad *kad, const cal_peer_id *from, const KadPb__Message *request,
                        cal_buffer *out) {
    KadPb__Message response = KAD_PB__MESSAGE__INIT;
    KadPb__Record record = KAD_PB__RECORD__INIT;
    KadPb__Peer peers[KAD_REPLICATION], *list[KAD_REPLICATION];
    ProtobufCBinaryData addresses[KAD_REPLICATION * KAD_ADDRESSES_MAX];
    cal_slice key = {request->key.data, request->has_key ? request->key.len : 0};
    response.has_type = true;
    response.type = request->type;
    response.has_key = request->has_key;
    response.key = request->key;
    response.n_closer = closer_peers(kad, from, key, peers, addresses);
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

int kad_answer(cal_kad *kad, const cal_peer_id *from, cal_slice bytes, uint64_t now_ns,
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
        result = answer_nodes(kad, from, request, out);
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
    uint64_t walks = kad_walks_deadline(kad);
    return walks < kad->refresh_at ? walks : kad->refresh_at;
}

/* Looks for ourselves and for a random place, which fills the table near and far; puts our records
 * again; drops what expired. */
static void refresh(cal_kad *kad) {
    uint64_t walk, key[4];
    for (size_t i = 0; i < 4; i++) key[i] = kad_random(kad);
    kad_walk_begin(kad, KAD_FIND_NODE, (cal_slice){kad->self.bytes, kad->self.len}, (cal_slice){0},
                   true, &walk);
    kad_walk_begin(kad, KAD_FIND_NODE, cal_slice_of(key, sizeof key), (cal_slice){0}, true, &walk);
    cal_map_cursor cursor = {0};
    cal_slice at;
    void *value;
    while (cal_map_next(&kad->records, &cursor, &at, &value)) {
        kad_record *record = value;
        if (!record->own && record->expires <= kad->now) {
            cal_map_remove(&kad->records, at);
            free(record);
        } else if (record->own && record->put_again <= kad->now &&
                   kad_walk_begin(kad, KAD_PUT_VALUE, at,
                                  (cal_slice){record->value, record->value_len}, true,
                                  &walk) == 0) {
            record->put_again = kad->now + KAD_REPUBLISH_NS;
        } /* no room for the walk: at the next refresh */
    }
}

void kad_expire(cal_kad *kad, uint64_t now_ns) {
    if (now_ns > kad->now) kad->now = now_ns;
    kad_walks_expire(kad);
    if (kad->now < kad->refresh_at) return;
    kad->refresh_at = kad->now + KAD_REFRESH_NS;
    refresh(kad);
}

void kad_stats_get(const cal_kad *kad, kad_stats *ret_stats) {
    *ret_stats = kad->stats;
    ret_stats->peers = kad->peer_count;
    ret_stats->records = kad->records.count;
    ret_stats->own = kad->own;
    ret_stats->walks = kad->walk_count;
}
