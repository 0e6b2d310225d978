/* Messages on streams between two hosts: sizes, one at a time, limits, times. */
#include "net/messages.h"
#include "net/testing.h"

/* One end: what it was told, and what it does when asked. */
typedef struct end {
    net_messages *messages;
    bool answers; /* sends each message back, then expects the next */
    int opened, heard, sent, ended, reason;
    size_t last_len, total;
    uint8_t last_byte;
} end;

static testing_net net;
static end server; /* whoever was accepted last */
static cal_p2p *hosts[2];
static uint64_t skipped_ns; /* by which the hosts' clocks are ahead */

static void on_opened(void *user, net_messages *messages) {
    end *e = user;
    e->messages = messages;
    e->opened++;
}
static void on_message(void *user, net_messages *messages, cal_slice bytes) {
    end *e = user;
    e->heard++;
    e->last_len = bytes.len;
    e->total += bytes.len;
    if (bytes.len) e->last_byte = bytes.data[bytes.len - 1];
    if (e->answers) assert_int_equal(net_messages_send(messages, bytes), 0);
}
static void on_sent(void *user, net_messages *messages) {
    end *e = user;
    e->sent++;
    if (e->answers) net_messages_expect(messages, NET_REQUEST_TIMEOUT_MS);
}
static void on_ended(void *user, net_messages *messages, int reason) {
    end *e = user;
    (void)messages;
    e->ended++;
    e->reason = reason;
    e->messages = NULL;
}
static const net_messages_events events = {on_opened, on_message, on_sent, on_ended};
static const net_messages_protocol protocol = {
    .id = NET_STREAM_PROTOCOL, .events = &events, .user = &server, .peer_streams_max = 4};

static uint64_t skipping_now(void *user) {
    (void)user;
    return uv_hrtime() + skipped_ns;
}
static void (*real_wake_at)(void *user, uint64_t at_ns);
static void skipping_wake_at(void *user, uint64_t at_ns) {
    real_wake_at(user, at_ns == NET_NEVER ? at_ns : at_ns - skipped_ns);
}

static void begin(void) {
    memset(&server, 0, sizeof server);
    server.answers = true;
    skipped_ns = 0;
    testing_net_init(&net);
    for (int i = 0; i < 2; i++) {
        hosts[i] = testing_host(&net, NULL);
        net.transports[i]->now_ns = skipping_now;
        real_wake_at = net.transports[i]->wake_at;
        net.transports[i]->wake_at = skipping_wake_at;
    }
    assert_int_equal(net_messages_serve(hosts[1], &protocol), 0);
    testing_connect(&net, hosts[0], hosts[1]);
}

static void finish(void) {
    net_messages_unserve(hosts[1], &protocol);
    testing_net_deinit(&net);
}

static void client_open(end *client, uint32_t session_ms) {
    cal_peer_id peer;
    cal_p2p_id(hosts[1], &peer);
    memset(client, 0, sizeof *client);
    assert_int_equal(net_messages_open(hosts[0], &peer, NET_STREAM_PROTOCOL, session_ms, &events,
                                       client, &client->messages),
                     0);
}

static bool has_heard(void *user) { return ((end *)user)->heard > 0; }
static bool has_ended(void *user) { return ((end *)user)->ended > 0; }
static bool is_open(void *user) { return ((end *)user)->opened > 0; }
static bool has_sent(void *user) { return ((end *)user)->sent > 0; }

static void test_sizes(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 1, 4096, 1024 * 1024, NET_MESSAGE_MAX};
    uint8_t *bytes = malloc(NET_MESSAGE_MAX + 1);
    memset(bytes, 7, NET_MESSAGE_MAX + 1);
    end client;
    begin();
    client_open(&client, NET_SESSION_TIMEOUT_MS);
    assert_int_equal(net_messages_send(client.messages, (cal_slice){bytes, NET_MESSAGE_MAX + 1}),
                     CAL_ELIMIT);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        client.heard = client.sent = 0;
        if (sizes[i]) bytes[sizes[i] - 1] = (uint8_t)i;
        assert_int_equal(net_messages_send(client.messages, (cal_slice){bytes, sizes[i]}), 0);
        assert_int_equal(net_messages_send(client.messages, (cal_slice){bytes, 1}), CAL_EBUSY);
        assert_int_equal(client.heard + client.sent, 0); /* nothing is told inside a call */
        net_messages_expect(client.messages, NET_ANSWER_TIMEOUT_MS);
        testing_until(&net, has_heard, &client);
        testing_until(&net, has_sent, &client);
        assert_int_equal(client.last_len, sizes[i]);
        if (sizes[i]) assert_int_equal(client.last_byte, i);
    }
    assert_int_equal(client.opened, 1);
    net_messages_finish(client.messages);
    assert_int_equal(net_messages_send(client.messages, (cal_slice){bytes, 1}), CAL_ESTATE);
    testing_until(&net, has_ended, &server); /* it finishes when its peer has */
    net_messages_expect(client.messages, NET_ANSWER_TIMEOUT_MS);
    testing_until(&net, has_ended, &client);
    assert_int_equal(client.reason, 0);
    assert_int_equal(server.reason, 0);
    finish();
    free(bytes);
}

/* Who asks and expects one answer is told the end without expecting more. */
static void test_asker_ends(void **state) {
    (void)state;
    end client;
    begin();
    client_open(&client, 10 * NET_SESSION_TIMEOUT_MS);
    net_messages_send(client.messages, (cal_slice){(const uint8_t *)"ask", 3});
    net_messages_expect(client.messages, NET_ANSWER_TIMEOUT_MS);
    testing_until(&net, has_heard, &client);
    net_messages_finish(client.messages);
    testing_until(&net, has_ended, &server);
    testing_until(&net, has_ended, &client);
    assert_int_equal(client.reason, 0);
    assert_int_equal(server.reason, 0);
    finish();
}

/* A peer that asks faster than it is answered waits; nothing is heard that is not expected. */
static void test_one_at_a_time(void **state) {
    (void)state;
    end client;
    begin();
    server.answers = false;
    client_open(&client, NET_SESSION_TIMEOUT_MS);
    for (int i = 0; i < 3; i++) {
        client.sent = 0;
        net_messages_send(client.messages, (cal_slice){(const uint8_t *)"ask", 3});
        testing_until(&net, has_sent, &client);
    }
    testing_until(&net, has_heard, &server);
    net_messages_send(server.messages, (cal_slice){(const uint8_t *)"answer", 6});
    net_messages_expect(client.messages, NET_ANSWER_TIMEOUT_MS);
    testing_until(&net, has_heard, &client);
    assert_int_equal(server.heard, 1);
    for (int i = 2; i <= 3; i++) {
        server.heard = 0;
        net_messages_expect(server.messages, NET_REQUEST_TIMEOUT_MS);
        testing_until(&net, has_heard, &server);
    }
    net_messages_reset(client.messages);
    assert_int_equal(client.ended, 0);
    testing_until(&net, has_ended, &client);
    testing_until(&net, has_ended, &server);
    assert_int_equal(client.reason, CAL_ECANCELED);
    assert_int_equal(server.reason, CAL_ECANCELED);
    finish();
}

static void note_done(void *user) { ++*(int *)user; }
static bool is_done(void *user) { return *(int *)user > 0; }

/* A message that was sent and finished still arrives when its host stops, over real sockets. */
static void test_stop_sends_what_is_finished(void **state) {
    (void)state;
    uint8_t *bytes = calloc(1, NET_MESSAGE_MAX);
    int done = 0;
    end client;
    begin();
    server.answers = false;
    client_open(&client, NET_SESSION_TIMEOUT_MS);
    testing_until(&net, is_open, &server);
    assert_int_equal(net_messages_send(client.messages, (cal_slice){bytes, NET_MESSAGE_MAX}), 0);
    net_messages_finish(client.messages);
    net_host_shutdown(hosts[0], note_done, &done);
    testing_until(&net, is_done, &done);
    testing_until(&net, has_ended, &server);
    assert_int_equal(server.heard, 1);
    assert_int_equal(server.last_len, NET_MESSAGE_MAX);
    finish();
    free(bytes);
}

/* --- times --- */

static void test_requests_come_in_time(void **state) {
    (void)state;
    end client;
    begin();
    client_open(&client, 10 * NET_SESSION_TIMEOUT_MS);
    testing_until(&net, is_open, &server);
    skipped_ns = NET_MS(NET_REQUEST_TIMEOUT_MS - 2000);
    net_messages_send(client.messages, (cal_slice){(const uint8_t *)"x", 1});
    net_messages_expect(client.messages, 2 * NET_ANSWER_TIMEOUT_MS);
    testing_until(&net, has_heard, &client);
    assert_int_equal(server.ended, 0);
    skipped_ns += NET_MS(NET_REQUEST_TIMEOUT_MS);
    testing_until(&net, has_ended, &server);
    assert_int_equal(server.reason, CAL_ETIMEOUT);
    testing_until(&net, has_ended, &client);
    assert_int_equal(client.reason, CAL_ECANCELED);
    finish();
}

static void test_answers_come_in_time(void **state) {
    (void)state;
    end client;
    begin();
    server.answers = false;
    client_open(&client, NET_SESSION_TIMEOUT_MS); /* the session's time */
    testing_until(&net, is_open, &client);
    skipped_ns += NET_MS(NET_SESSION_TIMEOUT_MS);
    testing_until(&net, has_ended, &client);
    assert_int_equal(client.reason, CAL_ETIMEOUT);
    client_open(&client, 10 * NET_SESSION_TIMEOUT_MS); /* one answer's */
    testing_until(&net, is_open, &client);
    net_messages_expect(client.messages, 5000);
    skipped_ns += NET_MS(5000);
    testing_until(&net, has_ended, &client);
    assert_int_equal(client.reason, CAL_ETIMEOUT);
    finish();
}

/* --- what peers may try --- */

typedef struct raw {
    const char *bytes;
    size_t len;
    bool closed;
} raw;
static bool raw_is_over(void *user) { return ((raw *)user)->closed; }
static void raw_opened(void *user, cal_p2p_stream *stream) {
    raw *r = user;
    cal_p2p_stream_write(stream, r->bytes, r->len);
    cal_p2p_stream_finish(stream);
}
static void raw_closed(void *user, cal_p2p_stream *stream, int reason) {
    (void)stream, (void)reason;
    ((raw *)user)->closed = true;
}
static const cal_p2p_stream_events raw_events = {.opened = raw_opened, .closed = raw_closed};

static void check_refused(const char *bytes, size_t len, int reason) {
    const char *const id[] = {NET_STREAM_PROTOCOL};
    cal_p2p_stream *stream;
    cal_peer_id peer;
    raw r = {bytes, len, false};
    server.ended = 0;
    cal_p2p_id(hosts[1], &peer);
    assert_int_equal(cal_p2p_open(hosts[0], &peer, id, 1, &raw_events, &r, &stream), 0);
    testing_until(&net, has_ended, &server);
    testing_until(&net, raw_is_over, &r);
    assert_int_equal(server.reason, reason);
}

static void test_bad_frames(void **state) {
    (void)state;
    begin();
    check_refused("\x00\x80\x00\x01", 4, CAL_ELIMIT); /* one byte more than there may be */
    check_refused("\xff\xff\xff\xff", 4, CAL_ELIMIT);
    check_refused("\x00\x00\x00\x05shor", 8, CAL_EDECODE); /* ends inside */
    check_refused("\x00\x00", 2, CAL_EDECODE);
    check_refused("", 0, 0); /* asks nothing and leaves */
    finish();
}

static void test_protocol_not_spoken(void **state) {
    (void)state;
    end client = {0};
    cal_peer_id peer;
    begin();
    cal_p2p_id(hosts[1], &peer);
    assert_int_equal(net_messages_open(hosts[0], &peer, NET_BLOB_PROTOCOL, NET_BLOB_TIMEOUT_MS,
                                       &events, &client, &client.messages),
                     0);
    testing_until(&net, has_ended, &client);
    assert_int_equal(client.reason, CAL_EUNSUPPORTED);
    cal_p2p_disconnect(hosts[0], &peer);
    assert_int_equal(net_messages_open(hosts[0], &peer, NET_BLOB_PROTOCOL, NET_BLOB_TIMEOUT_MS,
                                       &events, &client, &client.messages),
                     CAL_EUNREACHABLE);
    finish();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_asker_ends),
        cmocka_unit_test(test_one_at_a_time),
        cmocka_unit_test(test_stop_sends_what_is_finished),
        cmocka_unit_test(test_requests_come_in_time),
        cmocka_unit_test(test_answers_come_in_time),
        cmocka_unit_test(test_bad_frames),
        cmocka_unit_test(test_protocol_not_spoken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
