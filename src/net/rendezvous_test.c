/* The rendezvous client against a point that the test plays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "net/rendezvous.h"
#include "rendezvous.pb-c.h"

#define SECOND UINT64_C(1000000000)
#define START (1000 * SECOND)

static cal_secret secret_of(uint8_t number) { return (cal_secret){{number, 77}}; }

static cal_multiaddr address_of(const char *text) {
    cal_multiaddr address;
    assert_int_equal(cal_multiaddr_parse(text, &address), 0);
    return address;
}

static cal_buffer record_of(uint8_t number) {
    cal_secret key = secret_of(number);
    cal_multiaddr address = address_of("/ip4/10.1.2.3/tcp/2428");
    cal_buffer record;
    cal_buffer_init(&record, 4096);
    assert_int_equal(rendezvous_record_sign(&key, 5, &address, 1, &record), 0);
    return record;
}

static void test_record(void **state) {
    (void)state;
    cal_buffer record = record_of(1);
    rendezvous_found found;
    uint8_t spoiled[1024], public_key[32];
    cal_secret key = secret_of(1);
    cal_peer_id id;
    cal_sign_public_key(&key, public_key);
    cal_peer_id_of_key(public_key, &id);
    assert_int_equal(rendezvous_record_verify(cal_buffer_slice(&record), &found), 0);
    assert_true(cal_peer_id_equal(&found.peer, &id));
    assert_int_equal(found.count, 1);
    /* key, type, then the payload: peer id, seq 5, one address */
    assert_memory_equal(record.data, "\x0a\x24\x08\x01\x12\x20", 6);
    assert_memory_equal(record.data + 38, "\x12\x1c/libp2p/routing-state-record\x1a", 31);
    assert_memory_equal(record.data + 70 + 40, "\x10\x05\x1a\x0a\x0a\x08\x04\x0a\x01\x02\x03\x06",
                        12);
    for (size_t i = 0; i < record.len; i++) {
        memcpy(spoiled, record.data, record.len);
        spoiled[i] ^= 1;
        assert_int_not_equal(rendezvous_record_verify((cal_slice){spoiled, record.len}, &found), 0);
        assert_int_not_equal(rendezvous_record_verify((cal_slice){record.data, i}, &found), 0);
    }
    cal_buffer_deinit(&record);
}

/* --- a point --- */

typedef struct point {
    cal_rendezvous *client;
    uint64_t now;
    uint32_t register_status, discover_status;
    uint64_t ttl;
    int registers, unregisters, discovers;
    char cookie_seen[16];
    const cal_buffer *registered; /* record told to everybody who asks without a cookie */
} point;

static void reply(point *p, uint64_t number, const RendezvousPb__Message *message) {
    uint8_t bytes[4096];
    assert_true(rendezvous_pb__message__get_packed_size(message) <= sizeof bytes);
    size_t len = rendezvous_pb__message__pack(message, bytes);
    assert_int_equal(rendezvous_response(p->client, number, (cal_slice){bytes, len}, p->now), 0);
}

static void reply_registered(point *p, uint64_t number) {
    RendezvousPb__Message message = RENDEZVOUS_PB__MESSAGE__INIT;
    RendezvousPb__RegisterResponse response = RENDEZVOUS_PB__REGISTER_RESPONSE__INIT;
    p->registers++;
    message.has_type = response.has_status = response.has_ttl = true;
    message.type = 1;
    response.status = p->register_status;
    response.ttl = p->ttl;
    message.register_response = &response;
    reply(p, number, &message);
}

static void reply_discovered(point *p, uint64_t number, const RendezvousPb__Discover *asked) {
    RendezvousPb__Message message = RENDEZVOUS_PB__MESSAGE__INIT;
    RendezvousPb__DiscoverResponse response = RENDEZVOUS_PB__DISCOVER_RESPONSE__INIT;
    RendezvousPb__Register one = RENDEZVOUS_PB__REGISTER__INIT, *list = &one;
    p->discovers++;
    snprintf(p->cookie_seen, sizeof p->cookie_seen, "%.*s",
             asked->has_cookie ? (int)asked->cookie.len : 0, (const char *)asked->cookie.data);
    message.has_type = response.has_status = response.has_cookie = true;
    message.type = 4;
    response.status = p->discover_status;
    response.cookie = (ProtobufCBinaryData){6, (uint8_t *)(uintptr_t) "cookie"};
    if (p->registered && !asked->has_cookie) {
        one.has_record = true;
        one.record = (ProtobufCBinaryData){p->registered->len, p->registered->data};
        response.n_registrations = 1;
        response.registrations = &list;
    }
    message.discover_response = &response;
    reply(p, number, &message);
}

/* Answers all that is asked until `end`. */
static void serve(point *p, uint64_t end) {
    rendezvous_request request;
    while (rendezvous_deadline(p->client) <= end) {
        if (rendezvous_deadline(p->client) > p->now) p->now = rendezvous_deadline(p->client);
        if (!rendezvous_next_request(p->client, p->now, &request)) continue;
        RendezvousPb__Message *message =
            rendezvous_pb__message__unpack(NULL, request.bytes.len, request.bytes.data);
        assert_non_null(message);
        assert_int_equal(request.answered, message->unregister == NULL);
        if (message->register_) reply_registered(p, request.number);
        if (message->discover) reply_discovered(p, request.number, message->discover);
        p->unregisters += message->unregister != NULL;
        rendezvous_pb__message__free_unpacked(message, NULL);
    }
    p->now = end;
}

static point begin(void) {
    cal_secret key = secret_of(9);
    point p = {.now = START, .ttl = 7200};
    assert_int_equal(rendezvous_new(&key, START, &p.client), 0);
    return p;
}

static void announce(point *p) {
    cal_multiaddr address = address_of("/ip4/10.0.0.9/tcp/2428");
    assert_int_equal(rendezvous_announce(p->client, 1, &address, 1, p->now), 0);
}

static cal_p2p_rendezvous_stats stats_of(const point *p) {
    cal_p2p_rendezvous_stats stats = {0};
    rendezvous_stats_add(p->client, &stats);
    return stats;
}

static void test_register_and_discover(void **state) {
    (void)state;
    point p = begin();
    cal_buffer other = record_of(1);
    rendezvous_found found;
    p.registered = &other;
    announce(&p);
    assert_int_equal(rendezvous_join(p.client, cal_slice_text("/calimero/devnet/global"), p.now),
                     0);
    assert_int_equal(rendezvous_join(p.client, cal_slice_text("/calimero/devnet/global"), p.now),
                     CAL_EEXISTS);
    serve(&p, START);
    assert_int_equal(p.registers, 1);
    assert_int_equal(p.discovers, 1);
    assert_int_equal(rendezvous_registrations(p.client, p.now), 1);
    assert_int_equal(rendezvous_registrations(p.client, p.now + 7200 * SECOND), 0);
    assert_true(rendezvous_next(p.client, &found));
    assert_false(rendezvous_next(p.client, &found));
    serve(&p, START + 60 * SECOND);
    assert_int_equal(p.discovers, 5); /* every fifteen seconds, with the cookie */
    assert_string_equal(p.cookie_seen, "cookie");
    assert_false(rendezvous_next(p.client, &found));
    serve(&p, START + 3601 * SECOND);
    assert_int_equal(p.registers, 2); /* at half its time */
    assert_int_equal(rendezvous_leave(p.client, cal_slice_text("/calimero/devnet/global")), 0);
    assert_int_equal(rendezvous_leave(p.client, cal_slice_text("/calimero/devnet/global")),
                     CAL_ENOTFOUND);
    serve(&p, p.now + 3600 * SECOND);
    assert_int_equal(p.unregisters, 1);
    assert_true(rendezvous_deadline(p.client) == UINT64_MAX);
    cal_buffer_deinit(&other);
    rendezvous_free(p.client);
}

static void test_refusals(void **state) {
    (void)state;
    point p = begin();
    p.register_status = 400;
    p.discover_status = 103; /* the cookie is not known there any more */
    announce(&p);
    rendezvous_join(p.client, cal_slice_text("a"), p.now);
    serve(&p, START + 50 * SECOND);
    assert_int_equal(p.registers, 1); /* not at once again */
    assert_int_equal(rendezvous_registrations(p.client, p.now), 0);
    assert_string_equal(p.cookie_seen, "");
    p.register_status = p.discover_status = 0;
    p.ttl = 1; /* however short, not more than once a minute */
    serve(&p, START + 600 * SECOND);
    assert_in_range(p.registers, 8, 12);
    assert_string_equal(p.cookie_seen, "cookie");
    rendezvous_free(p.client);
}

static void test_silence_and_nonsense(void **state) {
    (void)state;
    point p = begin();
    rendezvous_request request;
    announce(&p);
    rendezvous_join(p.client, cal_slice_text("a"), p.now);
    assert_true(rendezvous_next_request(p.client, p.now, &request));
    assert_false(rendezvous_next_request(p.client, p.now, &request)); /* one at a time */
    assert_int_equal(rendezvous_response(p.client, request.number + 1, cal_slice_text("x"), p.now),
                     0);
    assert_int_equal(rendezvous_response(p.client, request.number, cal_slice_text("\xff"), p.now),
                     CAL_EDECODE);
    assert_true(rendezvous_next_request(p.client, p.now, &request));      /* the question */
    assert_int_equal(rendezvous_leave(p.client, cal_slice_text("a")), 0); /* while it is out */
    p.now = rendezvous_deadline(p.client);
    assert_true(rendezvous_next_request(p.client, p.now, &request));
    assert_false(request.answered);
    assert_false(rendezvous_next_request(p.client, p.now, &request));
    assert_int_equal(stats_of(&p).unanswered, 2);
    assert_int_equal(stats_of(&p).malformed, 1);
    rendezvous_free(p.client);
}

static void test_many(void **state) {
    (void)state;
    point p = begin();
    char name[300];
    announce(&p);
    memset(name, 'n', sizeof name);
    assert_int_equal(rendezvous_join(p.client, cal_slice_of(name, 256), p.now), CAL_EINVAL);
    assert_int_equal(rendezvous_join(p.client, cal_slice_of(name, 0), p.now), CAL_EINVAL);
    for (int i = 0; i < RENDEZVOUS_NAMESPACES_MAX; i++) {
        snprintf(name, sizeof name, "namespace %d", i);
        assert_int_equal(rendezvous_join(p.client, cal_slice_text(name), p.now), 0);
    }
    assert_int_equal(rendezvous_join(p.client, cal_slice_text("more"), p.now), CAL_ELIMIT);
    cal_buffer other = record_of(1);
    p.registered = &other;
    serve(&p, START);
    assert_int_equal(p.registers, RENDEZVOUS_NAMESPACES_MAX);
    assert_int_equal(p.discovers, RENDEZVOUS_NAMESPACES_MAX);
    assert_int_equal(stats_of(&p).found, RENDEZVOUS_FOUND_MAX);
    assert_int_equal(stats_of(&p).found_dropped, RENDEZVOUS_NAMESPACES_MAX - RENDEZVOUS_FOUND_MAX);
    serve(&p, START + 1800 * SECOND);
    assert_true(p.discovers <= 2 * RENDEZVOUS_NAMESPACES_MAX); /* about eight each tick */
    cal_buffer_deinit(&other);
    rendezvous_free(p.client);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_record),   cmocka_unit_test(test_register_and_discover),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_silence_and_nonsense),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
