/* Kademlia: records against the format, the table, and networks in one process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "net/kad_internal.h"

#define SECOND UINT64_C(1000000000)
#define START (1000 * SECOND)
enum { NODES_MAX = 60 };

static cal_secret secret_of(unsigned number) {
    cal_secret key = {{9}};
    cal_write_u32le(key.bytes + 4, number);
    return key;
}

static cal_peer_id peer_of(unsigned number) {
    cal_secret key = secret_of(number);
    uint8_t public_key[32];
    cal_peer_id id;
    cal_sign_public_key(&key, public_key);
    cal_peer_id_of_key(public_key, &id);
    return id;
}

static cal_buffer value_of(unsigned number, const uint8_t key[KAD_KEY_LEN], uint64_t size) {
    cal_secret secret = secret_of(number);
    cal_buffer value;
    cal_buffer_init(&value, KAD_VALUE_MAX);
    assert_int_equal(kad_record_sign(&secret, key, size, &value), 0);
    return value;
}

/* --- records --- */

static void test_record(void **state) {
    (void)state;
    uint8_t key[KAD_KEY_LEN] = {7}, other[KAD_KEY_LEN] = {8}, spoiled[KAD_VALUE_MAX];
    cal_buffer value = value_of(1, key, 4096);
    cal_peer_id peer, expected = peer_of(1);
    uint64_t size;
    /* borsh: peer id, size, public key, signature */
    assert_int_equal(value.len, 4 + 38 + 8 + 4 + 36 + 4 + 64);
    assert_memory_equal(value.data, "\x26\0\0\0\x00\x24\x08\x01\x12\x20", 10);
    assert_memory_equal(value.data + 42, "\0\x10\0\0\0\0\0\0\x24\0\0\0\x08\x01\x12\x20", 16);
    assert_int_equal(kad_record_verify(key, cal_buffer_slice(&value), &peer, &size), 0);
    assert_true(cal_peer_id_equal(&peer, &expected));
    assert_int_equal(size, 4096);
    assert_int_equal(kad_record_verify(other, cal_buffer_slice(&value), &peer, &size), CAL_EVERIFY);
    for (size_t i = 0; i < value.len; i++) { /* no byte may change */
        memcpy(spoiled, value.data, value.len);
        spoiled[i] ^= 1;
        assert_int_not_equal(kad_record_verify(key, (cal_slice){spoiled, value.len}, &peer, &size),
                             0);
        assert_int_equal(kad_record_verify(key, (cal_slice){value.data, i}, &peer, &size),
                         CAL_EDECODE);
    }
    cal_buffer_deinit(&value);
}

/* --- one node --- */

static cal_kad *begin(unsigned number) {
    cal_peer_id id = peer_of(number);
    cal_kad *kad;
    assert_int_equal(kad_new(&id, number, START, &kad), 0);
    return kad;
}

static cal_p2p_kad_stats stats_of(const cal_kad *kad) {
    cal_p2p_kad_stats stats;
    kad_stats_get(kad, &stats);
    return stats;
}

static void test_table(void **state) {
    (void)state;
    cal_kad *kad = begin(0);
    for (unsigned i = 0; i < 2000; i++) {
        cal_peer_id id = peer_of(i);
        kad_seen(kad, &id, NULL, 0, START);
        kad_seen(kad, &id, NULL, 0, START);
    }
    cal_p2p_kad_stats stats = stats_of(kad);
    assert_in_range(stats.peers, 5 * KAD_BUCKET, 12 * KAD_BUCKET); /* not everybody */
    const kad_contact *nearest[KAD_REPLICATION];
    uint8_t target[CAL_HASH_SIZE] = {0x5a};
    assert_int_equal(kad_nearest(kad, target, nearest, KAD_REPLICATION), KAD_REPLICATION);
    for (size_t i = 0; i < kad->peer_count; i++) {
        bool among = false;
        for (size_t j = 0; j < KAD_REPLICATION; j++) among |= nearest[j] == kad->peers[i];
        if (!among)
            assert_true(
                kad_nearer(nearest[KAD_REPLICATION - 1]->place, kad->peers[i]->place, target) < 0);
    }
    for (unsigned i = 0; i < 2000; i++) {
        cal_peer_id id = peer_of(i);
        kad_gone(kad, &id);
    }
    assert_int_equal(stats_of(kad).peers, 0);
    kad_free(kad);
}

static int say(cal_kad *kad, enum kad_type type, const uint8_t *key, size_t key_len,
               const cal_buffer *value, uint64_t now, cal_buffer *out) {
    KadPb__Message message = KAD_PB__MESSAGE__INIT;
    KadPb__Record record = KAD_PB__RECORD__INIT;
    cal_buffer bytes;
    cal_peer_id from = peer_of(99999);
    message.has_type = message.has_key = true;
    message.type = type;
    message.key = kad_binary(key, key_len);
    if (value) {
        record.has_key = record.has_value = true;
        record.key = message.key;
        record.value = kad_binary(value->data, value->len);
        message.record = &record;
    }
    cal_buffer_init(&bytes, KAD_MESSAGE_MAX + 1);
    assert_int_equal(kad_encode(&message, &bytes), 0);
    cal_buffer_reset(out);
    int result = kad_answer(kad, &from, true, cal_buffer_slice(&bytes), now, out);
    cal_buffer_deinit(&bytes);
    return result;
}

static void test_server(void **state) {
    (void)state;
    cal_kad *kad = begin(0);
    cal_buffer out;
    cal_buffer_init(&out, KAD_MESSAGE_MAX + 1);
    uint8_t key[KAD_KEY_LEN] = {1};
    cal_buffer value = value_of(5, key, 10);
    assert_int_equal(say(kad, KAD_PUT_VALUE, key, sizeof key, &value, START, &out), 0);
    assert_true(out.len > value.len); /* echoed */
    assert_int_equal(say(kad, KAD_GET_VALUE, key, sizeof key, NULL, START, &out), 0);
    kad_decoder decoder;
    assert_int_equal(kad_decode(cal_buffer_slice(&out), &decoder), 0);
    assert_non_null(decoder.message->record);
    assert_int_equal(decoder.message->record->value.len, value.len);
    kad_decoder_free(&decoder);
    /* It is kept for twelve hours. */
    say(kad, KAD_GET_VALUE, key, sizeof key, NULL, START + KAD_TTL_NS + 1, &out);
    assert_true(out.len < value.len);
    key[0] = 2; /* signed for another key */
    assert_int_equal(say(kad, KAD_PUT_VALUE, key, sizeof key, &value, START, &out), CAL_EVERIFY);
    assert_int_equal(say(kad, KAD_PUT_VALUE, key, 5, &value, START, &out), CAL_EDECODE);
    assert_int_equal(say(kad, KAD_PUT_VALUE, key, sizeof key, NULL, START, &out), CAL_EDECODE);
    assert_int_equal(say(kad, KAD_ADD_PROVIDER, key, sizeof key, NULL, START, &out), 0);
    assert_int_equal(out.len, 0);
    assert_int_equal(say(kad, 6, key, sizeof key, NULL, START, &out), CAL_EDECODE);
    cal_peer_id from = peer_of(3);
    assert_int_equal(kad_answer(kad, &from, true, cal_slice_text("\xff\xff"), START, &out),
                     CAL_EDECODE);
    assert_true(stats_of(kad).records_refused == 3 && stats_of(kad).malformed == 2);
    cal_buffer_deinit(&value);
    cal_buffer_deinit(&out);
    kad_free(kad);
}

static void test_records_are_bounded(void **state) {
    (void)state;
    cal_kad *kad = begin(0);
    cal_buffer out;
    cal_buffer_init(&out, KAD_MESSAGE_MAX + 1);
    for (unsigned i = 0; i < KAD_RECORDS_MAX + 3; i++) {
        uint8_t key[KAD_KEY_LEN] = {0};
        cal_write_u32le(key, i);
        cal_buffer value = value_of(5, key, 10);
        assert_int_equal(say(kad, KAD_PUT_VALUE, key, sizeof key, &value, START, &out),
                         i < KAD_RECORDS_MAX ? 0 : CAL_ELIMIT);
        cal_buffer_deinit(&value);
    }
    kad_expire(kad, START + KAD_TTL_NS + KAD_REFRESH_NS);
    assert_int_equal(stats_of(kad).records, 0);
    cal_buffer_deinit(&out);
    kad_free(kad);
}

/* --- a network --- */

typedef struct net {
    cal_kad *nodes[NODES_MAX]; /* NULL: down */
    cal_peer_id ids[NODES_MAX];
    int count;
    uint64_t now;
} net;

static int node_of(const net *n, const cal_peer_id *id) {
    for (int i = 0; i < n->count; i++)
        if (cal_peer_id_equal(&n->ids[i], id)) return i;
    return -1;
}

static void net_begin(net *n, int count) {
    *n = (net){.count = count, .now = START};
    for (int i = 0; i < count; i++) {
        cal_multiaddr address;
        char text[64];
        n->nodes[i] = begin((unsigned)i);
        n->ids[i] = peer_of((unsigned)i);
        if (i == 0) continue;
        int other = (i * 7919 + 13) % i; /* each knows one that was there before, and is known */
        snprintf(text, sizeof text, "/ip4/10.0.0.%d/tcp/1", other);
        cal_multiaddr_parse(text, &address);
        kad_seen(n->nodes[i], &n->ids[other], &address, 1, n->now);
        kad_seen(n->nodes[other], &n->ids[i], &address, 1, n->now);
    }
}

static void net_end(net *n) {
    for (int i = 0; i < n->count; i++) kad_free(n->nodes[i]);
}

/* One request there and back. Whoever answers gets to know who asked. */
static void carry(net *n, int from, const kad_request *request) {
    cal_buffer response;
    int to = node_of(n, &request->peer);
    uint8_t copy[KAD_MESSAGE_MAX];
    cal_buffer_init(&response, KAD_MESSAGE_MAX + 1);
    memcpy(copy, request->bytes.data, request->bytes.len);
    cal_slice bytes = {copy, request->bytes.len};
    if (to >= 0 && n->nodes[to]) {
        assert_int_equal(kad_answer(n->nodes[to], &n->ids[from], true, bytes, n->now, &response),
                         0);
        kad_seen(n->nodes[from], &n->ids[to], NULL, 0, n->now);
        kad_seen(n->nodes[to], &n->ids[from], NULL, 0, n->now);
    }
    kad_response(n->nodes[from], request->number, true, cal_buffer_slice(&response), n->now);
    cal_buffer_deinit(&response);
}

static void settle_net(net *n) {
    kad_request request;
    for (bool busy = true; busy;) {
        busy = false;
        for (int i = 0; i < n->count; i++) {
            if (n->nodes[i]) kad_expire(n->nodes[i], n->now);
            while (n->nodes[i] && kad_next_request(n->nodes[i], &request, n->now)) {
                carry(n, i, &request);
                busy = true;
            }
        }
    }
}

static void pass(net *n, uint64_t time) {
    for (uint64_t end = n->now + time; n->now < end;) {
        n->now += 300 * SECOND;
        for (int i = 0; i < n->count; i++)
            if (n->nodes[i]) kad_expire(n->nodes[i], n->now);
        settle_net(n);
    }
}

/* Walks to the end; returns what DONE says, and the providers found. */
static size_t walk_end(net *n, int node, uint64_t walk, cal_peer_id *ret_found, size_t *ret_count) {
    kad_result result;
    size_t found = 0;
    settle_net(n);
    while (kad_next_result(n->nodes[node], &result)) {
        if (result.walk != walk) continue;
        if (result.kind == KAD_DONE) {
            if (ret_count) *ret_count = found;
            return result.count;
        }
        if (ret_found) *ret_found = result.peer;
        found++;
    }
    fail_msg("the walk did not end");
    return 0;
}

static void test_put_and_get(void **state) {
    (void)state;
    net n;
    uint64_t walk;
    size_t found;
    cal_peer_id provider;
    uint8_t key[KAD_KEY_LEN] = {1, 2, 3};
    net_begin(&n, NODES_MAX);
    pass(&n, 600 * SECOND);
    for (int i = 0; i < NODES_MAX; i++) assert_true(stats_of(n.nodes[i]).peers > KAD_REPLICATION);
    cal_buffer value = value_of(17, key, 777);
    assert_int_equal(kad_put(n.nodes[17], key, cal_buffer_slice(&value), n.now, &walk), 0);
    assert_int_equal(walk_end(&n, 17, walk, NULL, NULL), KAD_REPLICATION);
    for (int i = 0; i < NODES_MAX; i++) {
        assert_int_equal(kad_get(n.nodes[i], key, n.now, &walk), 0);
        assert_int_equal(walk_end(&n, i, walk, &provider, &found), 1);
        assert_true(cal_peer_id_equal(&provider, &n.ids[17]));
    }
    /* Half of the network goes, also most that hold it: it is put again, and found again. */
    for (int i = 0; i < NODES_MAX; i += 2) {
        kad_free(n.nodes[i]);
        n.nodes[i] = NULL;
    }
    pass(&n, KAD_REPUBLISH_NS + 1200 * SECOND);
    assert_int_equal(kad_get(n.nodes[5], key, n.now, &walk), 0);
    assert_int_equal(walk_end(&n, 5, walk, &provider, NULL), 1);
    pass(&n, 2 * KAD_TTL_NS); /* longer than a record lives: it was renewed */
    assert_int_equal(kad_get(n.nodes[7], key, n.now, &walk), 0);
    assert_int_equal(walk_end(&n, 7, walk, &provider, NULL), 1);
    assert_int_equal(kad_forget(n.nodes[17], key, &walk), 0);
    assert_int_equal(kad_forget(n.nodes[17], key, &walk), CAL_ENOTFOUND);
    pass(&n, KAD_TTL_NS + 1200 * SECOND);
    assert_int_equal(kad_get(n.nodes[7], key, n.now, &walk), 0);
    assert_int_equal(walk_end(&n, 7, walk, &provider, NULL), 0);
    cal_buffer_deinit(&value);
    net_end(&n);
}

static void test_find_peer(void **state) {
    (void)state;
    net n;
    uint64_t walk;
    cal_peer_id found;
    net_begin(&n, 30);
    pass(&n, 600 * SECOND);
    assert_int_equal(kad_find(n.nodes[29], &n.ids[3], n.now, &walk), 0);
    assert_true(walk_end(&n, 29, walk, &found, NULL) > 0);
    assert_true(cal_peer_id_equal(&found, &n.ids[3]));
    net_end(&n);
}

static void test_alone(void **state) {
    (void)state;
    net n;
    uint64_t walk;
    size_t found;
    uint8_t key[KAD_KEY_LEN] = {1};
    net_begin(&n, 1);
    cal_buffer value = value_of(0, key, 1);
    assert_int_equal(kad_put(n.nodes[0], key, cal_slice_text("unsigned"), n.now, &walk),
                     CAL_EVERIFY);
    assert_int_equal(kad_put(n.nodes[0], key, cal_buffer_slice(&value), n.now, &walk), 0);
    assert_int_equal(walk_end(&n, 0, walk, NULL, NULL), 0); /* nobody to store it with */
    assert_int_equal(kad_get(n.nodes[0], key, n.now, &walk), 0);
    assert_int_equal(walk_end(&n, 0, walk, NULL, &found), 1); /* but here it is */
    assert_int_equal(kad_put(n.nodes[0], key, cal_buffer_slice(&value), n.now, &walk), CAL_EEXISTS);
    /* Regression: it waited six hours more when it was put before anybody was known. */
    n.nodes[1] = begin(1);
    n.ids[1] = peer_of(1);
    n.count = 2;
    kad_seen(n.nodes[0], &n.ids[1], NULL, 0, n.now);
    settle_net(&n);
    assert_int_equal(stats_of(n.nodes[0]).records_put, 1);
    assert_int_equal(stats_of(n.nodes[1]).records_taken, 1);
    cal_buffer_deinit(&value);
    net_end(&n);
}

/* Peers that stay silent, or answer nonsense, end a walk no later than its deadline. */
static void test_silence(void **state) {
    (void)state;
    cal_kad *kad = begin(0);
    uint64_t walk, now = START;
    kad_request request;
    kad_result result;
    uint8_t key[KAD_KEY_LEN] = {1};
    for (unsigned i = 1; i <= 40; i++) {
        cal_peer_id id = peer_of(i);
        kad_seen(kad, &id, NULL, 0, now);
    }
    assert_int_equal(kad_get(kad, key, now, &walk), 0);
    for (size_t asked = 0; !kad_next_result(kad, &result);) {
        while (kad_next_request(kad, &request, now))
            if (asked++ % 5 == 0) kad_response(kad, request.number, true, cal_slice_text("?"), now);
        now = kad_deadline(kad);
        kad_expire(kad, now);
    }
    assert_int_equal(result.kind, KAD_DONE);
    assert_true(now <= START + KAD_WALK_NS);
    assert_true(stats_of(kad).peers < 40); /* those who failed are out of the table */
    cal_peer_id again = peer_of(1);
    kad_seen(kad, &again, NULL, 0, now);
    for (int i = 0; i < KAD_WALKS_MAX + 10 && stats_of(kad).walks < KAD_WALKS_MAX; i++)
        kad_get(kad, key, now, &walk);
    assert_int_equal(kad_get(kad, key, now, &walk), CAL_EOVERLOAD);
    kad_free(kad);
}

/* More records than may be on their way at once all get there, each told once. */
static void test_many_puts(void **state) {
    (void)state;
    net n;
    uint64_t walks[100];
    kad_result result;
    int done = 0;
    net_begin(&n, 3);
    for (unsigned i = 0; i < 100; i++) {
        uint8_t key[KAD_KEY_LEN] = {7, (uint8_t)i};
        cal_buffer value = value_of(1, key, i);
        assert_int_equal(kad_put(n.nodes[1], key, cal_buffer_slice(&value), n.now, &walks[i]), 0);
        cal_buffer_deinit(&value);
    }
    settle_net(&n);
    while (kad_next_result(n.nodes[1], &result)) {
        assert_int_equal(result.kind, KAD_DONE);
        assert_int_equal(result.count, 2);
        assert_int_equal(result.answered, 4); /* both were asked, and told */
        done++;
    }
    assert_int_equal(done, 100);
    assert_int_equal(stats_of(n.nodes[1]).records_put, 200);
    uint8_t key[KAD_KEY_LEN] = {8};
    cal_buffer value = value_of(1, key, 1);
    kad_put(n.nodes[1], key, cal_buffer_slice(&value), n.now, &walks[0]);
    assert_int_equal(kad_forget(n.nodes[1], key, &walks[1]), 0);
    assert_int_equal(walks[0], walks[1]); /* before it began: nothing follows */
    settle_net(&n);
    assert_false(kad_next_result(n.nodes[1], &result));
    cal_buffer_deinit(&value);
    net_end(&n);
}

static void test_not_listed_itself(void **state) {
    (void)state;
    cal_kad *kad = begin(7);
    cal_peer_id self = peer_of(7), other = peer_of(8);
    kad_seen(kad, &self, NULL, 0, START);
    assert_null(kad_contact_find(kad, &self));
    kad_seen(kad, &other, NULL, 0, START);
    assert_non_null(kad_contact_find(kad, &other));
    assert_int_equal(stats_of(kad).peers, 1);
    kad_free(kad);
}

/* A peer stays through two failures; one that failed gives way to a new one. */
static void test_failures(void **state) {
    (void)state;
    cal_kad *kad = begin(0);
    cal_peer_id ids[KAD_BUCKET + 1];
    unsigned count = 0;
    for (unsigned i = 1; count <= KAD_BUCKET; i++) { /* those that share no bit with us */
        uint8_t place[CAL_HASH_SIZE];
        ids[count] = peer_of(i);
        kad_place((cal_slice){ids[count].bytes, ids[count].len}, place);
        count += (place[0] ^ kad->place[0]) >> 7;
    }
    for (unsigned i = 0; i <= KAD_BUCKET; i++) kad_seen(kad, &ids[i], NULL, 0, START);
    assert_null(kad_contact_find(kad, &ids[KAD_BUCKET]));
    assert_int_equal(stats_of(kad).peers_refused, 1);
    kad_failed(kad, &ids[3]);
    kad_failed(kad, &ids[3]);
    kad_answered(kad, &ids[3]);
    kad_failed(kad, &ids[3]);
    kad_failed(kad, &ids[4]);
    kad_failed(kad, &ids[4]);
    assert_non_null(kad_contact_find(kad, &ids[4]));
    kad_seen(kad, &ids[KAD_BUCKET], NULL, 0, START);
    assert_non_null(kad_contact_find(kad, &ids[KAD_BUCKET]));
    assert_null(kad_contact_find(kad, &ids[4])); /* it had failed more often */
    kad_failed(kad, &ids[3]);
    kad_failed(kad, &ids[3]);
    assert_null(kad_contact_find(kad, &ids[3]));
    assert_int_equal(stats_of(kad).peers_dropped, 1);
    kad_free(kad);
}

/* Loopback addresses go to, and come from, this machine only. */
static void test_loopback(void **state) {
    (void)state;
    static const char *const texts[] = {"/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1"};
    cal_multiaddr addresses[2];
    cal_kad *kad = begin(0), *asker = begin(9);
    cal_peer_id peers[] = {peer_of(0), peer_of(1), peer_of(2), peer_of(9)};
    for (int i = 0; i < 2; i++) assert_int_equal(cal_multiaddr_parse(texts[i], &addresses[i]), 0);
    kad_seen(kad, &peers[1], addresses, 2, START);
    kad_seen(kad, &peers[2], addresses, 1, START);
    kad_seen(asker, &peers[0], NULL, 0, START);
    for (int nears = 0; nears < 4; nears++) { /* one bit for each end */
        kad_request request;
        kad_result result;
        uint64_t walk;
        cal_buffer response;
        size_t found = 0;
        cal_buffer_init(&response, KAD_MESSAGE_MAX + 1);
        assert_int_equal(kad_find(asker, &peers[1], START, &walk), 0);
        while (kad_next_request(asker, &request, START)) {
            cal_buffer_reset(&response);
            if (cal_peer_id_equal(&request.peer, &peers[0]))
                assert_int_equal(
                    kad_answer(kad, &peers[3], nears & 1, request.bytes, START, &response), 0);
            kad_response(asker, request.number, nears & 2, cal_buffer_slice(&response), START);
        }
        while (kad_next_result(asker, &result))
            if (result.kind == KAD_FOUND) found += result.address_count;
        assert_int_equal(found, nears == 3 ? 2 : 1);
        cal_buffer_deinit(&response);
    }
    kad_free(asker);
    kad_free(kad);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_record),      cmocka_unit_test(test_table),
        cmocka_unit_test(test_server),      cmocka_unit_test(test_records_are_bounded),
        cmocka_unit_test(test_put_and_get), cmocka_unit_test(test_find_peer),
        cmocka_unit_test(test_alone),       cmocka_unit_test(test_silence),
        cmocka_unit_test(test_many_puts),   cmocka_unit_test(test_not_listed_itself),
        cmocka_unit_test(test_failures),    cmocka_unit_test(test_loopback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
