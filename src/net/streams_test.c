/* How streams and messages end, whatever their owners forget and whenever peers do what: a host in
 * virtual time, and a peer whose every frame the test says. */
#include "net/hostile.h"
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_left_unread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
