/* How streams and messages end, whatever their owners forget and whenever peers do what: a host in
 * virtual time, and a peer whose every frame the test says. */
#include "net/hostile.h"
#include "net/kad.h"
#include "net/messages.h"

/* Streams of one protocol, both ways. */
static size_t streams_of_protocol(const cal_p2p *host, const char *protocol) {
    size_t count = 0;
    for (cal_list *at = host->connections.next; at != &host->connections; at = at->next) {
        net_connection *connection = CAL_CONTAINER_OF(at, net_connection, link);
        for (cal_list *s = connection->mux.streams.next; s != &connection->mux.streams; s = s->next)
            count += strcmp(cal_p2p_stream_protocol(CAL_CONTAINER_OF(s, cal_p2p_stream, mux.link)),
                            protocol) == 0;
    }
    return count;
}

/* --- an owner that leaves --- */

static void leave_unread(void *user, cal_p2p_stream *stream) {
    (void)user;
    if (cal_p2p_stream_waiting(stream) == 0) return;
    cal_p2p_stream_set_events(stream, NULL, NULL);
    cal_p2p_stream_finish(stream);
}
static const cal_p2p_stream_events leaving = {.readable = leave_unread};

/* What was never consumed does not keep a stream that both ends have finished. */
static void test_left_unread(void **state) {
    (void)state;
    hostile h;
    cal_p2p *host = host_new(NULL);
    assert_int_equal(cal_p2p_handle(host, &(cal_p2p_protocol){.id = "/left/1", .events = &leaving}),
                     0);
    hostile_start(&h, host, 1);
    h.wire->deaf = true;
    hostile_open(&h, 1, "/left/1");
    hostile_data(&h, 0, 1, "never read", 10);
    assert_int_equal(streams_of_protocol(host, "/left/1"), 1);
    hostile_data(&h, Y_FIN, 1, "", 0);
    pass(host, 10);
    assert_int_equal(streams_of_protocol(host, "/left/1"), 0);
    hostile_open(&h, 3, "/left/1"); /* and when the peer was first */
    hostile_data(&h, Y_FIN, 3, "never read", 10);
    pass(host, 10);
    assert_int_equal(streams_of_protocol(host, "/left/1"), 0);
    assert_int_equal(stats_of(host).unread_bytes, 0);
    host_drop(host);
    hostile_stop(&h);
}

/* --- a handler that goes --- */

static void stop_kad(void *user, cal_p2p_stream *stream) {
    const uint8_t *bytes;
    size_t len = cal_p2p_stream_peek(stream, &bytes);
    cal_p2p_stream_consume(stream, len);
    if (len == 0) return;
    cal_p2p_kad_stop(user);
    cal_p2p_gossip_stop(user);
    cal_p2p_unhandle(user, "/mine/1");
}
static const cal_p2p_stream_events stopping = {.readable = stop_kad};
static void never_opened(void *user, cal_p2p_stream *stream) {
    (void)user, (void)stream;
    fail_msg("told of a stream after the handler was gone");
}
static const cal_p2p_stream_events mine = {.opened = never_opened};

/* Streams that were agreed and not yet told when their handler goes are reset without a word: what
 * `user` was may be freed. */
static void test_unhandled_before_told(void **state) {
    (void)state;
    static const char *const protocols[] = {KAD_PROTOCOL, "/meshsub/1.1.0", "/mine/1"};
    enum { COUNT = sizeof protocols / sizeof *protocols };
    uint8_t said[1024];
    hostile h;
    cal_p2p *host = host_new(NULL);
    assert_int_equal(
        cal_p2p_handle(host,
                       &(cal_p2p_protocol){.id = "/stop/1", .events = &stopping, .user = host}),
        0);
    assert_int_equal(cal_p2p_handle(host, &(cal_p2p_protocol){.id = "/mine/1", .events = &mine}),
                     0);
    assert_int_equal(cal_p2p_kad_start(host), 0);
    assert_int_equal(cal_p2p_gossip_start(host, &(cal_p2p_gossip_options){0}), 0);
    hostile_start(&h, host, 1);
    hostile_open(&h, 1, "/stop/1");
    pass(host, 10);
    hostile_hear(&h);
    size_t at = hostile_put(said, Y_DATA, 0, 1, 1);
    said[at++] = 'x';
    for (uint32_t i = 0; i < COUNT; i++) { /* all in one message: agreed before anything is told */
        size_t body = at + YAMUX_HEADER;
        int len =
            snprintf((char *)said + body, sizeof said - body, "\x13/multistream/1.0.0\n%c%s\n",
                     (char)(strlen(protocols[i]) + 1), protocols[i]);
        at += hostile_put(said + at, Y_DATA, Y_SYN, 3 + 2 * i, (uint32_t)len) + (size_t)len;
    }
    hostile_say(&h, said, at);
    pass(host, 10);
    cal_slice heard = hostile_hear(&h);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(streams_of_protocol(host, protocols[i]), 0);
        assert_int_equal(hostile_count(heard, 3 + 2 * i, Y_RST), 1);
    }
    host_drop(host);
    hostile_stop(&h);
}

/* --- frames --- */

static int wrote;
static void write_after_finish(void *user, cal_p2p_stream *stream) {
    (void)user;
    cal_p2p_stream_finish(stream);
    wrote = cal_p2p_frames_write(stream, CAL_P2P_FRAME_VARINT, "late", 4);
}
static const cal_p2p_stream_events late = {.opened = write_after_finish};

/* A finished stream never has room again: who waited for `writable` would wait for ever. */
static void test_frame_after_finish(void **state) {
    (void)state;
    hostile h;
    wrote = 1;
    cal_p2p *host = host_new(NULL);
    assert_int_equal(cal_p2p_handle(host, &(cal_p2p_protocol){.id = "/late/1", .events = &late}),
                     0);
    hostile_start(&h, host, 1);
    hostile_open(&h, 1, "/late/1");
    pass(host, 10);
    assert_int_equal(wrote, CAL_ESTATE);
    host_drop(host);
    hostile_stop(&h);
}

/* --- messages --- */

static struct {
    int heard, ended, reason;
    bool resets;
    uint8_t last;
} told;

/* Answers once and expects no more, as the server of blobs does. */
static void answer_once(void *user, net_messages *messages, cal_slice bytes) {
    (void)user;
    told.heard++;
    if (told.resets)
        net_messages_reset(messages);
    else if (net_messages_send(messages, cal_slice_text("none")) == 0)
        net_messages_finish(messages);
    told.last = bytes.len ? bytes.data[bytes.len - 1] : 0; /* still lent */
}
static void note_end(void *user, net_messages *messages, int reason) {
    (void)user, (void)messages;
    told.ended++;
    told.reason = reason;
}
static const net_messages_events answering = {.message = answer_once, .ended = note_end};
static const net_messages_protocol answers = {
    .id = NET_BLOB_PROTOCOL, .session_ms = NET_BLOB_SERVE_TIMEOUT_MS, .events = &answering};

static cal_p2p *serve_answers(hostile *h) {
    cal_p2p *host = host_new(NULL);
    memset(&told, 0, sizeof told);
    assert_int_equal(net_messages_serve(host, &answers), 0);
    hostile_start(h, host, 1);
    h->wire->deaf = true;
    return host;
}

/* More requests than streams are allowed at once, one after the other; the end of each comes apart
 * or with what was asked, and with one more question that nobody hears. */
static void test_requests_end(void **state) {
    (void)state;
    enum { REQUESTS = 96 };
    hostile h;
    cal_p2p *host = serve_answers(&h);
    for (uint32_t i = 0; i < REQUESTS; i++) {
        uint32_t id = 1 + 2 * i;
        static const uint8_t asked[] = {0, 0, 0, 2, '{', '}', 0, 0, 0, 2, '{', '}'};
        hostile_open(&h, id, NET_BLOB_PROTOCOL);
        if (i % 3 == 0) {
            hostile_data(&h, Y_FIN, id, asked, 6);
        } else {
            hostile_data(&h, 0, id, asked, i % 3 == 1 ? 6 : sizeof asked);
            hostile_data(&h, Y_FIN, id, "", 0);
        }
        pass(host, 10);
        assert_int_equal(told.ended, i + 1);
        assert_int_equal(told.reason, 0);
    }
    assert_int_equal(told.heard, REQUESTS);
    assert_int_equal(stats_of(host).streams_refused, 0);
    assert_int_equal(streams_of_protocol(host, NET_BLOB_PROTOCOL), 0);
    host_drop(host);
    hostile_stop(&h);
}

/* What was lent stays valid to the end of the callback, also after a reset in it. */
static void test_reset_inside_message(void **state) {
    (void)state;
    hostile h;
    cal_p2p *host = serve_answers(&h);
    told.resets = true;
    hostile_open(&h, 1, NET_BLOB_PROTOCOL);
    hostile_data(&h, 0, 1, "\0\0\0\3ask", 7);
    pass(host, 10);
    assert_int_equal(told.last, 'k');
    assert_int_equal(told.ended, 1);
    assert_int_equal(told.reason, CAL_ECANCELED);
    assert_int_equal(stats_of(host).unread_bytes, 0);
    host_drop(host);
    hostile_stop(&h);
}

/* --- a peer that goes away --- */

static const cal_p2p_stream_events kept = {0};

/* A peer that takes no more streams is not connected, is dialled again where it is kept, and holds
 * its old connection only while something that counts goes on there. */
static void test_away(void **state) {
    (void)state;
    hostile h, again;
    cal_p2p_stream *stream;
    const char *const id = "/kept/1";
    cal_multiaddr address;
    cal_p2p *host = host_new(NULL);
    assert_int_equal(cal_p2p_handle(host, &(cal_p2p_protocol){.id = id, .events = &kept}), 0);
    hostile_start(&h, host, 1);
    h.wire->deaf = true;
    hostile_open(&h, 1, id);
    cal_peer_id peer = CAL_CONTAINER_OF(host->connections.next, net_connection, link)->peer->id;
    assert_int_equal(cal_multiaddr_parse("/ip4/10.0.0.9/tcp/1", &address), 0);
    assert_int_equal(cal_p2p_learn(host, &peer, &address, 1), 0);
    assert_int_equal(cal_p2p_keep(host, &peer, true), 0);
    pass(host, 10);
    assert_true(cal_p2p_is_connected(host, &peer));
    hostile_frame(&h, Y_AWAY, 0, 0, 0);
    assert_false(cal_p2p_is_connected(host, &peer));
    assert_int_equal(cal_p2p_open(host, &peer, &id, 1, &kept, NULL, &stream), CAL_EUNREACHABLE);
    pass(host, 5000);
    assert_true(world.dials > 0);
    assert_int_equal(streams_of_protocol(host, id), 1); /* its stream goes on */
    hostile_start(&again, host, 1);
    again.wire->deaf = true;
    pass(host, 10);
    assert_true(cal_p2p_is_connected(host, &peer));
    assert_int_equal(cal_p2p_open(host, &peer, &id, 1, &kept, NULL, &stream), 0);
    cal_p2p_stream_reset(stream);
    hostile_frame(&h, Y_DATA, Y_RST, 1, 0);
    pass(host, NET_DRAIN_MS + 2 * NET_TICK_MS); /* our own ping does not hold it */
    assert_false(h.wire->open);
    assert_true(again.wire->open);
    assert_true(cal_p2p_is_connected(host, &peer));
    host_drop(host);
    hostile_stop(&h);
    hostile_stop(&again);
}

/* --- observers --- */

static struct {
    cal_p2p *host;
    int once, always, added;
} seen;

static void note_added(void *user, const cal_peer_id *peer) {
    (void)user, (void)peer;
    seen.added++;
}
static const cal_p2p_peer_events added = {.connected = note_added};
static void note_once(void *user, const cal_peer_id *peer);
static const cal_p2p_peer_events once = {.connected = note_once};
static void note_always(void *user, const cal_peer_id *peer) {
    (void)user, (void)peer;
    seen.always++;
}
static const cal_p2p_peer_events always = {.connected = note_always};
static void note_once(void *user, const cal_peer_id *peer) {
    (void)user, (void)peer;
    seen.once++;
    cal_p2p_unobserve(seen.host, &once, NULL);
    cal_p2p_unobserve(seen.host, &added, NULL);
}

/* An observer that goes, and takes another along, hides nothing from those after it. */
static void test_observers_go(void **state) {
    (void)state;
    hostile h[2];
    memset(&seen, 0, sizeof seen);
    cal_p2p *host = seen.host = host_new(NULL);
    assert_int_equal(cal_p2p_observe(host, &once, NULL), 0);
    assert_int_equal(cal_p2p_observe(host, &always, NULL), 0);
    assert_int_equal(cal_p2p_observe(host, &added, NULL), 0);
    hostile_start(&h[0], host, 1);
    pass(host, 10);
    assert_int_equal(seen.always, 1);
    hostile_start(&h[1], host, 2);
    pass(host, 10);
    assert_int_equal(seen.once, 1);
    assert_int_equal(seen.always, 2);
    assert_int_equal(seen.added, 0);
    host_drop(host);
    hostile_stop(&h[0]);
    hostile_stop(&h[1]);
}

/* --- a stop --- */

enum { LARGE = 900000, MORE = 256 * 1024 };

static void write_large(void *user, cal_p2p_stream *stream) {
    static uint8_t large[LARGE];
    (void)user;
    assert_int_equal(cal_p2p_stream_write(stream, large, sizeof large), sizeof large);
    cal_p2p_stream_finish(stream);
}
static const cal_p2p_stream_events writing = {.opened = write_large};
static void note_done(void *user) { ++*(int *)user; }

static cal_p2p *stop_while_sending(hostile *h, int *done) {
    cal_p2p *host = host_new(NULL);
    assert_int_equal(
        cal_p2p_handle(host, &(cal_p2p_protocol){.id = "/large/1", .events = &writing}), 0);
    hostile_start(h, host, 1);
    hostile_open(h, 1, "/large/1");
    hostile_hear(h);
    net_host_shutdown(host, note_done, done);
    return host;
}

/* What was written to a stream and finished still goes when the host stops, as the peer reads. */
static void test_stop_sends_what_is_finished(void **state) {
    (void)state;
    hostile h;
    int done = 0;
    size_t sent = 0;
    cal_p2p *host = stop_while_sending(&h, &done);
    for (int round = 0; h.wire->open && round < 8; round++) {
        pass(host, 100);
        assert_int_equal(done, 0);
        cal_slice heard = hostile_hear(&h);
        sent += heard.len;
        hostile_frame(&h, Y_WINDOW, 0, 1, MORE);
    }
    cal_slice rest = hostile_hear(&h);
    assert_int_equal(hostile_count(rest, 1, Y_FIN), 1);
    assert_true(sent + rest.len > LARGE - MORE);
    assert_false(h.wire->open);
    pass(host, 1);
    assert_int_equal(done, 1);
    host_drop(host);
    hostile_stop(&h);
}

/* A peer that reads no more holds a stop up only so long. */
static void test_stop_is_bounded(void **state) {
    (void)state;
    hostile h;
    int done = 0;
    cal_p2p *host = stop_while_sending(&h, &done);
    cal_peer_id peer = CAL_CONTAINER_OF(host->connections.next, net_connection, link)->peer->id;
    cal_p2p_disconnect(host, &peer); /* says nothing new, and returns */
    pass(host, NET_GOODBYE_MS - 1);
    assert_int_equal(done, 0);
    assert_true(h.wire->open);
    pass(host, 2);
    assert_int_equal(done, 1);
    assert_false(h.wire->open);
    host_drop(host);
    hostile_stop(&h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_left_unread),
        cmocka_unit_test(test_unhandled_before_told),
        cmocka_unit_test(test_frame_after_finish),
        cmocka_unit_test(test_requests_end),
        cmocka_unit_test(test_reset_inside_message),
        cmocka_unit_test(test_away),
        cmocka_unit_test(test_observers_go),
        cmocka_unit_test(test_stop_sends_what_is_finished),
        cmocka_unit_test(test_stop_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
