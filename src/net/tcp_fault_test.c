/* tcp.c when memory or the loop fails it. In the middle of a send: what was not taken is sent in a
 * moment, not when pings find the connection dead. When somebody comes in: he is taken in a moment,
 * and those behind him. The file is included, its allocator and libuv's
 * writes replaced. */
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

static struct {
    int short_tries, no_memory, no_write, no_wire; /* how many of the next calls fail */
    int failed;
    bool time_stands; /* no timer of tcp.c starts */
    size_t wires_closed;
} fault;

static void *fault_malloc(size_t size) {
    if (fault.no_memory == 0) return malloc(size);
    fault.no_memory--;
    fault.failed++;
    return NULL;
}
static void *fault_calloc(size_t count, size_t size) {
    if (fault.no_wire == 0) return calloc(count, size);
    fault.no_wire--;
    fault.failed++;
    return NULL;
}
static int fault_try_write(uv_stream_t *stream, const uv_buf_t *bufs, unsigned count) {
    if (fault.short_tries == 0) return uv_try_write(stream, bufs, count);
    fault.short_tries--;
    return UV_EAGAIN;
}
static int fault_write(uv_write_t *request, uv_stream_t *stream, const uv_buf_t *bufs,
                       unsigned count, uv_write_cb done) {
    if (fault.no_write == 0) return uv_write(request, stream, bufs, count, done);
    fault.no_write--;
    fault.failed++;
    return UV_ENOMEM;
}
static int fault_timer_start(uv_timer_t *timer, uv_timer_cb done, uint64_t timeout,
                             uint64_t repeat) {
    return fault.time_stands ? 0 : uv_timer_start(timer, done, timeout, repeat);
}

#define malloc fault_malloc
#define calloc fault_calloc
#define uv_try_write fault_try_write
#define uv_write fault_write
#define uv_timer_start fault_timer_start
#include "net/tcp.c" /* NOLINT: the unit under test, with its calls replaced */
#undef malloc
#undef calloc
#undef uv_try_write
#undef uv_write
#undef uv_timer_start

#include "net/testing.h"

enum { TOTAL = 2 * 1024 * 1024 };

static struct {
    size_t got, sent;
    const cal_p2p *host;
} flow;

static void on_readable(void *user, cal_p2p_stream *stream) {
    const uint8_t *bytes;
    (void)user;
    for (size_t len; (len = cal_p2p_stream_peek(stream, &bytes)) > 0;) {
        flow.got += len;
        cal_p2p_stream_consume(stream, len);
    }
}
static void on_room(void *user, cal_p2p_stream *stream) {
    static const uint8_t block[16 * 1024];
    (void)user;
    while (flow.sent < TOTAL) {
        size_t len = TOTAL - flow.sent < sizeof block ? TOTAL - flow.sent : sizeof block;
        size_t taken = cal_p2p_stream_write(stream, block, len);
        flow.sent += taken;
        if (taken < len) return;
    }
    cal_p2p_stream_finish(stream);
}
static const cal_p2p_stream_events sink = {.readable = on_readable};
static const cal_p2p_stream_events source = {.opened = on_room, .writable = on_room};

static bool all_there(void *user) {
    (void)user;
    return flow.got >= TOTAL;
}

static void send_all(testing_net *net, cal_p2p *a, const cal_peer_id *b) {
    static const char *const id = "/sink/1";
    cal_p2p_stream *stream;
    flow.got = flow.sent = 0;
    fault.failed = 0;
    assert_int_equal(cal_p2p_open(a, b, &id, 1, &source, NULL, &stream), 0);
    testing_until(net, all_there, NULL);
    assert_int_equal(flow.got, TOTAL);
}

static void test_send_that_cannot_wait(void **state) {
    (void)state;
    testing_net net;
    testing_net_init(&net);
    /* Pings would find it dead in the end: here they come too late to help. */
    cal_p2p_options options = {.limits = {.ping_interval_ms = 3600000}};
    cal_p2p *a = testing_host(&net, &options), *b = testing_host(&net, &options);
    cal_peer_id id;
    cal_p2p_id(b, &id);
    assert_int_equal(cal_p2p_handle(b, &(cal_p2p_protocol){.id = "/sink/1", .events = &sink}), 0);
    testing_connect(&net, a, b);
    fault.short_tries = fault.no_memory = 3;
    send_all(&net, a, &id);
    assert_int_equal(fault.failed, 3);
    fault.short_tries = fault.no_write = 3;
    send_all(&net, a, &id);
    assert_int_equal(fault.failed, 3);
    testing_net_deinit(&net);
}

/* --- accepts --- */

static bool all_failed(void *user) {
    (void)user;
    return fault.no_wire == 0;
}

/* libuv hears no more of a socket until what came in was taken off it. */
static void test_accept_without_memory(void **state) {
    (void)state;
    testing_net net;
    cal_multiaddr address;
    net_endpoint endpoint;
    struct sockaddr_storage to;
    cal_p2p_stats stats;
    testing_net_init(&net);
    cal_p2p *a = testing_host(&net, NULL), *b = testing_host(&net, NULL);
    testing_address(a, &address);
    assert_int_equal(net_endpoint_of(&address, &endpoint), 0);
    assert_int_equal(to_sockaddr(&endpoint, &to), 0);
    fault.no_wire = 1;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(struct sockaddr_in)), 0);
    testing_until(&net, all_failed, NULL);
    fault.failed = 0;
    testing_connect(&net, b, a);
    cal_p2p_stats_get(a, &stats);
    assert_int_equal(stats.accepts_failed, 1);
    on_connection((uv_stream_t *)&((tcp_transport *)net.transports[0])->doors[0]->tcp, UV_EMFILE);
    cal_p2p_stats_get(a, &stats);
    assert_int_equal(stats.accepts_failed, 2);
    close(fd);
    testing_net_deinit(&net);
}

/* --- wires that linger --- */

static void *no_owner(void *user, net_wire *wire, const net_endpoint *remote,
                      const net_endpoint *local) {
    (void)remote, (void)local;
    *(net_wire **)user = wire;
    return user;
}
static void nothing_connected(void *owner, const net_endpoint *local) { (void)owner, (void)local; }
static void nothing_received(void *owner, const uint8_t *bytes, size_t len) {
    (void)owner, (void)bytes, (void)len;
}
static void nothing_writable(void *owner) { (void)owner; }
static void nothing_closed(void *owner, int result) { (void)owner, (void)result; }
static void nothing_woken(void *user) { (void)user; }

static bool came_in(void *user) { return *(net_wire **)user != NULL; }

/* Peers that read nothing of a goodbye hold at most so many descriptors, the oldest goes first.
 * Time stands: on a busy machine the first of them would have lingered for long enough before the
 * last. */
static void test_few_wires_linger(void **state) {
    (void)state;
    testing_net net;
    net_transport *table;
    net_wire *wire = NULL, *dialled;
    const net_transport_events events = {.user = &wire,
                                         .accepted = no_owner,
                                         .connected = nothing_connected,
                                         .received = nothing_received,
                                         .writable = nothing_writable,
                                         .closed = nothing_closed,
                                         .wake = nothing_woken};
    net_endpoint here = {{{127, 0, 0, 1}, 4}, 0}, bound;
    static const uint8_t block[1024 * 1024];
    fault.time_stands = true;
    testing_net_init(&net);
    assert_int_equal(net_tcp_new(&net.loop, &table), 0);
    table->events = &events;
    assert_int_equal(table->listen(table->user, &here, &bound, NULL), 0);
    const tcp_transport *transport = (tcp_transport *)table;
    size_t idle = transport->handles;
    for (int i = 0; i < LINGERING_MAX + 10; i++) {
        wire = NULL;
        assert_int_equal(table->dial(table->user, &bound, table, &dialled), 0);
        testing_until(&net, came_in, &wire);
        table->pause(dialled, true);
        while (table->send(wire, block, sizeof block) > 0) continue; /* until nothing is taken */
        table->close(wire, false);
        assert_true(transport->lingering_count <= LINGERING_MAX);
    }
    assert_int_equal(transport->lingering_count, LINGERING_MAX);
    uv_run(&net.loop, UV_RUN_NOWAIT);
    /* Each has its dialled end beside it, of which those whose other end was cut are gone. */
    assert_true(transport->handles <= idle + 2 * LINGERING_MAX + 10);
    fault.time_stands = false;
    net_tcp_free(table, NULL, NULL);
    testing_net_deinit(&net);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_send_that_cannot_wait),
        cmocka_unit_test(test_accept_without_memory),
        cmocka_unit_test(test_few_wires_linger),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
