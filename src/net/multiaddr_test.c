/* Peer ids and multiaddrs against the specifications' examples. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "calimero/error.h"
#include "codec/text.h"
#include "net/identity.h"
#include "net/multiaddr.h"

/* peer-ids specification: the Ed25519 test vector, and the three examples of text forms. */
static void test_peer_id_vectors(void **state) {
    (void)state;
    static const char serialised[] =
        "080112201ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e";
    static const char seed[] = "7e0830617c4a7de83925dfb2694556b12936c477a0e1feb2e148ec9da60fee7d";
    uint8_t key[NET_KEY_SIZE], made[NET_KEY_SIZE], public_key[32], parsed[32];
    cal_secret secret;
    cal_peer_id id, again;
    char text[CAL_PEER_ID_TEXT_MAX];
    assert_int_equal(cal_hex_decode(cal_slice_text(serialised), key, sizeof key), 0);
    assert_int_equal(cal_hex_decode(cal_slice_text(seed), secret.bytes, 32), 0);
    cal_sign_public_key(&secret, public_key);
    net_key_serialise(public_key, made);
    assert_memory_equal(made, key, sizeof key);
    assert_int_equal(net_key_parse(cal_slice_of(key, sizeof key), parsed), 0);
    assert_memory_equal(parsed, public_key, 32);
    cal_peer_id_of_key(public_key, &id);
    assert_int_equal(id.len, 38);
    assert_int_equal(cal_peer_id_key(&id, parsed), 0);
    cal_peer_id_text(&id, text);
    assert_memory_equal(text, "12D3KooW", 8);
    assert_int_equal(cal_peer_id_parse(text, &again), 0);
    assert_true(cal_peer_id_equal(&id, &again));

    static const char sha[] = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N";
    static const char cid[] = "bafzbeie5745rpv2m6tjyuugywy4d5ewrqgqqhfnf445he3omzpjbx5xqxe";
    assert_int_equal(cal_peer_id_parse(sha, &id), 0);
    assert_int_equal(cal_peer_id_parse(cid, &again), 0);
    assert_true(cal_peer_id_equal(&id, &again)); /* the same peer in two forms */
    cal_peer_id_text(&again, text);
    assert_string_equal(text, sha);
    assert_int_equal(cal_peer_id_key(&id, parsed), CAL_ENOTFOUND);
    assert_int_equal(cal_peer_id_parse("12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA", &id),
                     0);
    static const char *const bad[] = {"",
                                      "1",
                                      "Qm",
                                      "b",
                                      "bafzbeie5745",
                                      "12D3KooW",
                                      "zQmabc",
                                      "0",
                                      "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5Sl"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(cal_peer_id_parse(bad[i], &id), CAL_EDECODE);
}

static void test_other_keys_refused(void **state) {
    (void)state;
    static const char secp[] =
        "08021221037777e994e452c21604f91de093ce415f5432f701dd8cd1a7a6fea0e630bfca99";
    uint8_t bytes[37], key[32];
    assert_int_equal(cal_hex_decode(cal_slice_text(secp), bytes, sizeof bytes), 0);
    assert_int_equal(net_key_parse(cal_slice_of(bytes, sizeof bytes), key), CAL_EUNSUPPORTED);
    assert_int_equal(net_key_parse(cal_slice_of(bytes, 5), key), CAL_EDECODE);
    assert_int_equal(net_key_parse((cal_slice){0}, key), CAL_EDECODE);
}

static void test_text_and_bytes(void **state) {
    (void)state;
    static const struct {
        const char *text, *hex;
    } rows[] = {
        /* multiaddr's own tests */
        {"/ip4/127.0.0.1/udp/1234", "047f000001910204d2"},
        {"/ip4/127.0.0.1/tcp/4321", "047f0000010610e1"},
        {"/ip6/2601:9:4f81:9700:803e:ca65:66e8:c21/udp/1234/quic",
         "29260100094f819700803eca6566e80c21910204d2cc03"},
        {"/dns4/example.com/tcp/443/wss", "360b6578616d706c652e636f6d0601bbde03"},
        {"/p2p/QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC",
         "a503221220d52ebb89d85b02a284948203a62ff28389c57c9f42beec4ec20db76a68911c0b"},
        {"/ip6zone/x/ip6/fe80::1", "2a017829fe800000000000000000000000000001"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cal_multiaddr address, again;
        char text[CAL_MULTIADDR_TEXT_MAX], hex[CAL_MULTIADDR_MAX * 2 + 1];
        assert_int_equal(cal_multiaddr_parse(rows[i].text, &address), 0);
        cal_hex_encode(cal_slice_of(address.bytes, address.len), hex);
        assert_string_equal(hex, rows[i].hex);
        assert_int_equal(cal_multiaddr_from_bytes(address.bytes, address.len, &again), 0);
        cal_multiaddr_text(&again, text);
        assert_string_equal(text, rows[i].text);
        for (uint16_t cut = 1; cut < address.len; cut++) /* a part at most is missing: no crash */
            cal_multiaddr_from_bytes(address.bytes, cut, &again);
    }
}

static void test_bad_addresses(void **state) {
    (void)state;
    static const char *const bad[] = {"",
                                      "/",
                                      "ip4/1.2.3.4",
                                      "/ip4",
                                      "/ip4/",
                                      "/ip4/1.2.3",
                                      "/ip4/1.2.3.4/tcp",
                                      "/ip4/1.2.3.4/tcp/65536",
                                      "/ip4/1.2.3.4/tcp/-1",
                                      "/ip4/1.2.3.4/tcp/+1",
                                      "/ip4/1.2.3.4/tcp/1x",
                                      "/ip6/1.2.3.4",
                                      "/dns4//tcp/1",
                                      "/p2p/nobody",
                                      "/nothing/1"};
    cal_multiaddr address;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_not_equal(cal_multiaddr_parse(bad[i], &address), 0);
}

static void test_targets(void **state) {
    (void)state;
    cal_multiaddr address;
    multiaddr_target target;
    cal_peer_id id, found;
    assert_int_equal(cal_multiaddr_parse("/ip4/10.0.0.1/tcp/2428", &address), 0);
    assert_int_equal(multiaddr_target_of(&address, &target), 0);
    assert_int_equal(target.endpoint.port, 2428);
    assert_false(target.has_peer);
    assert_int_equal(cal_multiaddr_peer(&address, &found), CAL_ENOTFOUND);
    cal_peer_id_of_key((const uint8_t[32]){7}, &id);
    assert_int_equal(cal_multiaddr_set_peer(&address, &id), 0);
    assert_int_equal(cal_multiaddr_set_peer(&address, &id), 0); /* replaces */
    assert_int_equal(multiaddr_target_of(&address, &target), 0);
    assert_true(target.has_peer && cal_peer_id_equal(&target.peer, &id));
    assert_int_equal(cal_multiaddr_peer(&address, &found), 0);
    assert_true(cal_peer_id_equal(&id, &found));
    assert_int_equal(cal_multiaddr_set_peer(&address, NULL), 0);
    net_endpoint endpoint;
    cal_multiaddr again;
    assert_int_equal(net_endpoint_of(&address, &endpoint), 0);
    net_endpoint_address(&endpoint, &again);
    assert_true(cal_multiaddr_equal(&address, &again));
    static const char *const others[] = {"/ip4/1.2.3.4/udp/1/quic-v1", "/ip4/1.2.3.4/tcp/1/ws",
                                         "/dnsaddr/example.com", "/ip4/1.2.3.4"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_int_equal(cal_multiaddr_parse(others[i], &address), 0);
        assert_int_equal(multiaddr_target_of(&address, &target), CAL_EUNSUPPORTED);
    }
}

static void test_dialable(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int result;
        const char *says;
    } rows[] = {
        {"/ip4/10.0.0.1/tcp/2428", 0, NULL},
        {"/dns4/example.org/tcp/1/p2p/12D3KooWR5V4zmisVtVdGE6i8jfFwtgRNq5t8eDGxfckKuhXu7Eh", 0,
         NULL},
        {"/ip4/10.0.0.1/udp/1/quic-v1", CAL_EUNSUPPORTED, "/tcp"},
        {"/dnsaddr/example.org", CAL_EUNSUPPORTED, "/tcp"},
        {"/ip4/10.0.0.1", CAL_EUNSUPPORTED, "/tcp"},
        {"/newer/thing", CAL_EUNSUPPORTED, "/tcp"},
        {"/ip4/10.0.0.1/tcp/2428/p2p/PEER_ID", CAL_EINVAL, "no peer id"},
        {"/ip4/10.0.0.1/tcp/2428/p2p/12D3KooWR5V4zmis", CAL_EINVAL, "no peer id"},
        {"/ip4/10.0.0.1/tcp/99999", CAL_EINVAL, "no address"},
        {"nonsense", CAL_EINVAL, "no address"},
        {"", CAL_EINVAL, "no address"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cal_error err = {.message = ""};
        assert_int_equal(cal_multiaddr_dialable(rows[i].text, &err), rows[i].result);
        if (rows[i].says) assert_non_null(strstr(err.message, rows[i].says));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_peer_id_vectors), cmocka_unit_test(test_other_keys_refused),
        cmocka_unit_test(test_text_and_bytes),  cmocka_unit_test(test_bad_addresses),
        cmocka_unit_test(test_targets),         cmocka_unit_test(test_dialable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
