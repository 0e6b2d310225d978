/* mDNS: packets byte for byte, two machines in virtual time, and packets that are up to no good. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "crypto/crypto.h"
#include "net/mdns.h"

#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)
#define START (1000 * SECOND)
#define NAME32 "abcdefghijklmnopqrstuvwxyz012345"
#define SERVICE "\x04_p2p\x04_udp\x05local\0"
enum { SERVICE_LEN = 17 };

static cal_peer_id peer_of(uint8_t number) {
    cal_secret key = {{number}};
    uint8_t public_key[32];
    cal_peer_id id;
    cal_sign_public_key(&key, public_key);
    cal_peer_id_of_key(public_key, &id);
    return id;
}

static cal_mdns *begin(uint8_t number) {
    cal_mdns *mdns;
    cal_peer_id id = peer_of(number);
    assert_int_equal(mdns_new(&id, number, START, &mdns), 0);
    return mdns;
}

static void announce(cal_mdns *mdns, int count, uint64_t now) {
    cal_multiaddr addresses[MDNS_ADDRESSES_MAX];
    for (int i = 0; i < count; i++) {
        char text[64];
        snprintf(text, sizeof text, "/ip4/192.168.7.%d/tcp/2428", i + 1);
        assert_int_equal(cal_multiaddr_parse(text, &addresses[i]), 0);
    }
    mdns_announce(mdns, addresses, (size_t)count, now);
}

static cal_p2p_mdns_stats stats_of(const cal_mdns *mdns) {
    cal_p2p_mdns_stats stats;
    mdns_stats_get(mdns, &stats);
    return stats;
}

/* --- packets --- */

static const uint8_t query_bytes[] =
    "\0\0\0\0\0\x01\0\0\0\0\0\0" SERVICE "\0\x0c\0\x01"; /* and the NUL of the literal */

static void test_query(void **state) {
    (void)state;
    cal_buffer out;
    mdns_packet packet;
    cal_buffer_init(&out, MDNS_PACKET_MAX);
    assert_int_equal(mdns_write_query(&out), 0);
    assert_int_equal(out.len, sizeof query_bytes - 1);
    assert_memory_equal(out.data, query_bytes, out.len);
    assert_int_equal(mdns_read(cal_buffer_slice(&out), &packet), 0);
    assert_true(packet.asks_peers && !packet.asks_services && !packet.answer);
    cal_buffer_deinit(&out);
}

static void test_answer(void **state) {
    (void)state;
    static const char *const texts[] = {"/ip4/10.0.0.1/tcp/1/p2p/x"};
    static const uint8_t expected[] =
        "\0\0\x84\0\0\0\0\x01\0\0\0\x01" SERVICE "\0\x0c\0\x01\0\0\x01\x68\0\x32\x20" NAME32 SERVICE
        "\x20" NAME32 SERVICE "\0\x10\0\x01\0\0\x01\x68\0\x22"
        "\x21"
        "dnsaddr=/ip4/10.0.0.1/tcp/1/p2p/x";
    cal_buffer out;
    mdns_packet packet;
    size_t used;
    cal_buffer_init(&out, MDNS_PACKET_MAX);
    assert_int_equal(mdns_write_answer(&out, NAME32, texts, 1, &used), 0);
    assert_int_equal(used, 1);
    assert_int_equal(out.len, sizeof expected - 1);
    assert_memory_equal(out.data, expected, out.len);
    assert_int_equal(mdns_read(cal_buffer_slice(&out), &packet), 0);
    assert_true(packet.answer);
    assert_int_equal(packet.count, 1);
    assert_int_equal(packet.addresses[0].ttl, MDNS_TTL_S);
    assert_memory_equal(packet.addresses[0].text.data, texts[0], packet.addresses[0].text.len);
    /* Cut anywhere it is refused, and nothing is read behind its end. */
    for (size_t len = 0; len < out.len; len++) {
        uint8_t *cut = malloc(len ? len : 1);
        memcpy(cut, out.data, len);
        assert_int_equal(mdns_read((cal_slice){cut, len}, &packet), CAL_EDECODE);
        free(cut);
    }
    cal_buffer_deinit(&out);
}

/* As zeroconf libraries answer: pointers, upper case, flushed cache, two strings in a TXT. */
static void test_compressed(void **state) {
    (void)state;
    static const uint8_t bytes[] = "\0\0\x84\0\0\0\0\x01\0\0\0\x01"
                                   "\x04_P2P\x04_udp\x05local\0\0\x0c\0\x01\0\0\0\x78\0\x04\x01"
                                   "a\xc0\x0c"
                                   "\xc0\x27\0\x10\x80\x01\0\0\0\x78\0\x17\x03"
                                   "k=v\x12"
                                   "dnsaddr=/ip4/1.2.3";
    mdns_packet packet;
    assert_int_equal(mdns_read((cal_slice){bytes, sizeof bytes - 1}, &packet), 0);
    assert_int_equal(packet.count, 1);
    assert_int_equal(packet.addresses[0].ttl, 120);
    assert_memory_equal(packet.addresses[0].text.data, "/ip4/1.2.3", 10);
}

static void test_bad_names(void **state) {
    (void)state;
    static const struct {
        const char *name;
        size_t len;
    } names[] = {
        {"\xc0\x0c", 2},         /* points at itself */
        {"\xc0\x0e\xc0\x0c", 4}, /* forward, and back */
        {"\x01"
         "a\xc0\x0c",
         4},         /* a loop through a label */
        {"\x7f", 1}, /* neither a label nor a pointer */
        {"\x20short", 6},
        {"\xc0", 1},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        uint8_t bytes[64] = {[5] = 1};
        mdns_packet packet;
        memcpy(bytes + 12, names[i].name, names[i].len);
        assert_int_equal(mdns_read((cal_slice){bytes, 12 + names[i].len}, &packet), CAL_EDECODE);
    }
    uint8_t many[12] = {[4] = 0xff, [5] = 0xff};
    mdns_packet packet;
    assert_int_equal(mdns_read((cal_slice){many, sizeof many}, &packet), CAL_EDECODE);
}

/* --- machines --- */

/* Gives what one sends to all, itself too, as the network does; until `end`. */
static void run(cal_mdns *const *all, size_t count, uint64_t *now, uint64_t end) {
    cal_buffer packet;
    cal_buffer_init(&packet, 2 * MDNS_PACKET_MAX);
    for (;;) {
        size_t next = 0;
        for (size_t i = 1; i < count; i++)
            if (mdns_deadline(all[i]) < mdns_deadline(all[next])) next = i;
        if (mdns_deadline(all[next]) > end) break;
        if (mdns_deadline(all[next]) > *now) *now = mdns_deadline(all[next]);
        while (mdns_output(all[next], &packet, *now)) {
            assert_true(packet.len <= MDNS_PACKET_MAX);
            for (size_t i = 0; i < count; i++)
                assert_int_equal(mdns_receive(all[i], cal_buffer_slice(&packet), *now), 0);
            cal_buffer_reset(&packet);
        }
    }
    *now = end;
    cal_buffer_deinit(&packet);
}

static int discoveries(cal_mdns *mdns, uint8_t number, uint64_t now) {
    cal_peer_id peer, expected = peer_of(number);
    cal_multiaddr address;
    int count = 0;
    while (mdns_next(mdns, &peer, &address, now)) {
        assert_true(cal_peer_id_equal(&peer, &expected));
        count++;
    }
    return count;
}

static void test_find_each_other(void **state) {
    (void)state;
    cal_mdns *all[] = {begin(1), begin(2)};
    uint64_t now = START;
    announce(all[0], MDNS_ADDRESSES_MAX, now); /* more than one packet */
    announce(all[1], 1, now);
    run(all, 2, &now, START + 2 * SECOND);
    assert_int_equal(discoveries(all[0], 2, now), 1);
    assert_int_equal(discoveries(all[1], 1, now), MDNS_ADDRESSES_MAX);
    run(all, 2, &now, START + 50 * SECOND); /* known: not told again */
    assert_int_equal(discoveries(all[0], 2, now), 0);
    assert_int_equal(discoveries(all[1], 1, now), 0);
    run(all, 2, &now, START + 3600 * SECOND); /* asked ever more rarely, and told as rarely */
    assert_int_equal(discoveries(all[0], 2, now), 1);
    assert_int_equal(discoveries(all[1], 1, now), MDNS_ADDRESSES_MAX);
    assert_int_equal(stats_of(all[0]).discovered, 1);
    assert_true(stats_of(all[0]).queries < 24);
    /* Gone for longer than its word was good: new when it comes back. */
    run(all, 1, &now, now + 2 * MDNS_TTL_MAX_S * SECOND);
    run(all, 2, &now, now + 600 * SECOND);
    assert_int_equal(discoveries(all[0], 2, now), 1);
    for (int i = 0; i < 2; i++) mdns_free(all[i]);
}

static void test_answers_rarely(void **state) {
    (void)state;
    cal_mdns *all[] = {begin(1)};
    uint64_t now = START;
    announce(all[0], 1, now);
    run(all, 1, &now, START + 500 * MS);
    uint64_t before = stats_of(all[0]).answers;
    for (int i = 0; i < 10000; i++) { /* ten seconds of questions */
        mdns_receive(all[0], (cal_slice){query_bytes, sizeof query_bytes - 1}, now);
        run(all, 1, &now, now + MS);
    }
    assert_in_range(stats_of(all[0]).answers - before, 5, 11);
    mdns_free(all[0]);
}

static void test_flood_of_addresses(void **state) {
    (void)state;
    cal_mdns *mdns = begin(1);
    cal_buffer packet;
    cal_buffer_init(&packet, 2 * MDNS_PACKET_MAX);
    for (int i = 0; i < MDNS_KNOWN_MAX + 20; i++) {
        char text[CAL_MULTIADDR_TEXT_MAX], id[CAL_PEER_ID_TEXT_MAX];
        const char *texts[] = {text, "/ip4/1.2.3.4/tcp/1", "nonsense"};
        cal_peer_id peer = peer_of(2);
        size_t used;
        cal_peer_id_text(&peer, id);
        snprintf(text, sizeof text, "/ip4/1.2.3.4/tcp/%d/p2p/%s", i + 1, id);
        cal_buffer_reset(&packet);
        mdns_write_answer(&packet, NAME32, texts, 3, &used);
        assert_int_equal(mdns_receive(mdns, cal_buffer_slice(&packet), START), 0);
    }
    assert_int_equal(discoveries(mdns, 2, START), MDNS_KNOWN_MAX);
    assert_int_equal(stats_of(mdns).refused, 20 + 2 * (MDNS_KNOWN_MAX + 20));
    cal_buffer_deinit(&packet);
    mdns_free(mdns);
}

static void test_services(void **state) {
    (void)state;
    static const uint8_t question[] =
        "\0\0\0\0\0\x01\0\0\0\0\0\0\x09_services\x07_dns-sd\x04_udp\x05local\0\0\x0c\0\x01";
    cal_mdns *mdns = begin(1);
    cal_buffer out;
    cal_buffer_init(&out, 2 * MDNS_PACKET_MAX);
    while (mdns_output(mdns, &out, START)) cal_buffer_reset(&out);
    mdns_receive(mdns, (cal_slice){question, sizeof question - 1}, START);
    assert_true(mdns_output(mdns, &out, START));
    assert_memory_equal(out.data + out.len - SERVICE_LEN, SERVICE, SERVICE_LEN);
    cal_buffer_deinit(&out);
    mdns_free(mdns);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_query),
        cmocka_unit_test(test_answer),
        cmocka_unit_test(test_compressed),
        cmocka_unit_test(test_bad_names),
        cmocka_unit_test(test_find_each_other),
        cmocka_unit_test(test_answers_rarely),
        cmocka_unit_test(test_flood_of_addresses),
        cmocka_unit_test(test_services),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
