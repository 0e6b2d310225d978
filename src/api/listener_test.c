/* The listener on real sockets of the loopback interface, client and server on one loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/listener.h"
#include "base/buffer.h"
#include "calimero/log.h"

enum { DOWNLOAD_SIZE = 20 * 1024 * 1024, UPLOAD_SIZE = 20 * 1024 * 1024 };

typedef struct visitor {
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    cal_buffer out;
    cal_buffer in;
    bool closed, reads;
    bool close_on_answer;
} visitor;

typedef struct world {
    uv_loop_t loop;
    http_env env;
    api_listener *listener;
    http_exchange *held;
    uint64_t streamed;
    bool stopped;
} world;

static uint64_t clock_us(void *user) { return (void)user, uv_hrtime() / 1000; }
static void hello(http_exchange *exchange) { http_reply_text(exchange, 200, "hello"); }
static void hold(http_exchange *exchange) { ((world *)http_user(exchange))->held = exchange; }

static void on_data(http_exchange *exchange, cal_slice bytes) {
    ((world *)http_user(exchange))->streamed += bytes.len;
}
static void on_end(http_exchange *exchange) { http_reply_text(exchange, 200, "uploaded"); }
static const http_sink sink = {on_data, on_end};
static void upload(http_exchange *exchange) { http_set_sink(exchange, &sink); }

static void pump(http_exchange *exchange) {
    static uint8_t block[256 * 1024];
    world *w = http_user(exchange);
    while (w->streamed < DOWNLOAD_SIZE) {
        w->streamed += sizeof block;
        if (!http_write(exchange, cal_slice_of(block, sizeof block))) return;
    }
    http_end(exchange);
}
static void download(http_exchange *exchange) {
    ((world *)http_user(exchange))->streamed = 0;
    http_begin(exchange, 200, "application/octet-stream", DOWNLOAD_SIZE);
    http_on_writable(exchange, pump);
    pump(exchange);
}

static const http_route routes[] = {
    {HTTP_VERB_GET, "/hello", HTTP_BODY_NONE, hello, false},
    {HTTP_VERB_GET, "/hold", HTTP_BODY_NONE, hold, false},
    {HTTP_VERB_PUT, "/upload", HTTP_BODY_STREAM, upload, false},
    {HTTP_VERB_GET, "/download", HTTP_BODY_NONE, download, false},
};

static void world_init(world *w, uint32_t connections_max) {
    *w = (world){0};
    uv_loop_init(&w->loop);
    w->env = (http_env){.routes = routes,
                        .route_count = sizeof routes / sizeof *routes,
                        .prefix = "",
                        .timeouts = http_timeouts_default,
                        .clock_us = clock_us,
                        .user = w};
    const char *addresses[] = {"/ip4/127.0.0.1/tcp/0"};
    api_listener_options options = {addresses, 1, false, connections_max};
    cal_error err;
    assert_int_equal(api_listener_start(&w->loop, &w->env, &options, &w->listener, &err), 0);
    assert_true(api_listener_port(w->listener, 0) > 0);
}

static void on_stopped(void *user) { ((world *)user)->stopped = true; }

static void world_deinit(world *w) {
    if (w->listener) api_listener_stop(w->listener, 1000, on_stopped, w);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_true(w->stopped);
    assert_int_equal(uv_loop_close(&w->loop), 0);
}

/* --- the client --- */

static void on_visitor_closed(uv_handle_t *handle) { ((visitor *)handle->data)->closed = true; }
static void leave(visitor *v) {
    if (!uv_is_closing((uv_handle_t *)&v->tcp)) uv_close((uv_handle_t *)&v->tcp, on_visitor_closed);
}
static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf) {
    (void)handle;
    *buf = uv_buf_init(malloc(size), (unsigned)size);
}
static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf) {
    visitor *v = stream->data;
    if (len > 0) cal_buffer_append(&v->in, buf->base, (size_t)len);
    free(buf->base);
    if (len < 0) leave(v);
}
static void on_written(uv_write_t *request, int status) { (void)request, (void)status; }
static void on_connect(uv_connect_t *request, int status) {
    visitor *v = request->data;
    assert_int_equal(status, 0);
    uv_buf_t buf = uv_buf_init((char *)v->out.data, (unsigned)v->out.len);
    uv_write(&v->write, (uv_stream_t *)&v->tcp, &buf, 1, on_written);
    if (v->reads) uv_read_start((uv_stream_t *)&v->tcp, on_alloc, on_read);
}

static void visit(world *w, visitor *v, const char *request) {
    struct sockaddr_in address;
    v->reads = true;
    uv_ip4_addr("127.0.0.1", api_listener_port(w->listener, 0), &address);
    cal_buffer_init(&v->out, 64 * 1024 * 1024);
    cal_buffer_init(&v->in, 64 * 1024 * 1024);
    cal_buffer_append_text(&v->out, request);
    uv_tcp_init(&w->loop, &v->tcp);
    v->tcp.data = v->connect.data = v;
    uv_tcp_connect(&v->connect, &v->tcp, (const struct sockaddr *)&address, on_connect);
}

static void wait_for(world *w, visitor *v, const char *text) {
    while (!strstr(cal_buffer_cstr(&v->in), text)) {
        assert_false(v->closed);
        uv_run(&w->loop, UV_RUN_ONCE);
    }
}

static void wait_closed(world *w, visitor *v) {
    while (!v->closed) uv_run(&w->loop, UV_RUN_ONCE);
}

static void visitor_deinit(visitor *v) {
    cal_buffer_deinit(&v->in);
    cal_buffer_deinit(&v->out);
}

#define HOST "host: localhost\r\n"

static void test_answers_and_stays_open(void **state) {
    (void)state;
    world w;
    visitor v = {0};
    world_init(&w, 0);
    visit(&w, &v, "GET /hello HTTP/1.1\r\n" HOST "\r\nGET /nope HTTP/1.1\r\n" HOST "\r\n");
    wait_for(&w, &v, "HTTP/1.1 404 ");
    assert_non_null(strstr(cal_buffer_cstr(&v.in), "hello"));
    assert_non_null(strstr(cal_buffer_cstr(&v.in), "date: "));
    assert_false(v.closed);
    assert_int_equal(api_listener_connections(w.listener), 1);
    world_deinit(&w); /* the idle connection is closed by the stop */
    wait_closed(&w, &v);
    visitor_deinit(&v);
}

static void test_connection_close(void **state) {
    (void)state;
    world w;
    visitor v = {0};
    world_init(&w, 0);
    visit(&w, &v, "GET /hello HTTP/1.1\r\n" HOST "connection: close\r\n\r\n");
    wait_closed(&w, &v);
    assert_non_null(strstr(cal_buffer_cstr(&v.in), "connection: close"));
    world_deinit(&w);
    visitor_deinit(&v);
}

static void test_upload_and_download(void **state) {
    (void)state;
    world w;
    visitor up = {0}, down = {0};
    world_init(&w, 0);
    char head[128];
    snprintf(head, sizeof head,
             "PUT /upload HTTP/1.1\r\n" HOST "connection: close\r\ncontent-length: %d\r\n\r\n",
             UPLOAD_SIZE);
    visit(&w, &up, head);
    memset(cal_buffer_reserve(&up.out, UPLOAD_SIZE), 'x', UPLOAD_SIZE);
    up.out.len += UPLOAD_SIZE;
    wait_closed(&w, &up);
    assert_non_null(strstr(cal_buffer_cstr(&up.in), "uploaded"));
    assert_int_equal(w.streamed, UPLOAD_SIZE);

    visit(&w, &down, "GET /download HTTP/1.1\r\n" HOST "connection: close\r\n\r\n");
    wait_closed(&w, &down);
    assert_true(down.in.len > DOWNLOAD_SIZE);
    world_deinit(&w);
    visitor_deinit(&up);
    visitor_deinit(&down);
}

static void test_too_many(void **state) {
    (void)state;
    world w;
    visitor a = {0}, others[5] = {0}, last = {0};
    const size_t count = sizeof others / sizeof *others;
    world_init(&w, 1);
    visit(&w, &a, "GET /hello HTTP/1.1\r\n" HOST "\r\n");
    wait_for(&w, &a, "hello");
    for (size_t i = 0; i < count; i++) visit(&w, &others[i], "");
    for (size_t i = 0; i < count; i++) {
        wait_closed(&w, &others[i]);
        assert_ptr_equal(strstr(cal_buffer_cstr(&others[i].in), "HTTP/1.1 503 "),
                         others[i].in.data);
        visitor_deinit(&others[i]);
    }
    leave(&a);
    wait_closed(&w, &a);
    while (api_listener_connections(w.listener) > 0) uv_run(&w.loop, UV_RUN_ONCE);
    visit(&w, &last, "GET /hello HTTP/1.1\r\n" HOST "connection: close\r\n\r\n");
    wait_closed(&w, &last); /* those turned away did not stop it from accepting */
    assert_non_null(strstr(cal_buffer_cstr(&last.in), "hello"));
    world_deinit(&w);
    visitor_deinit(&a);
    visitor_deinit(&last);
}

static void test_graceful_stop(void **state) {
    (void)state;
    world w;
    visitor v = {0};
    world_init(&w, 0);
    visit(&w, &v, "GET /hold HTTP/1.1\r\n" HOST "\r\n");
    while (!w.held) uv_run(&w.loop, UV_RUN_ONCE);
    api_listener_stop(w.listener, 5000, on_stopped, &w);
    w.listener = NULL;
    uv_run(&w.loop, UV_RUN_NOWAIT);
    assert_false(w.stopped);
    http_reply_text(w.held, 200, "finished");
    world_deinit(&w);
    wait_closed(&w, &v);
    assert_non_null(strstr(cal_buffer_cstr(&v.in), "finished"));
    visitor_deinit(&v);
}

static void test_addresses(void **state) {
    (void)state;
    world w;
    world_init(&w, 0);
    cal_error err;
    api_listener *other = NULL;
    char taken[64];
    snprintf(taken, sizeof taken, "/ip4/127.0.0.1/tcp/%u", api_listener_port(w.listener, 0));
    assert_string_equal(api_listener_address(w.listener, 0), taken);
    const struct {
        const char *first, *last;
        int error;
    } cases[] = {
        {taken, "/ip4/127.0.0.1/tcp/0", 0}, /* tolerated */
        {"/ip4/127.0.0.1/tcp/0", taken, CAL_EBUSY},
        {"/ip4/0.0.0.0/tcp/0", "/ip4/127.0.0.1/tcp/0", CAL_EDENIED},
        {"/ip4/127.0.0.1/tcp/0", "/ip6/::/tcp/0", CAL_EDENIED},
        {"/ip4/127.0.0.1/tcp/0", "/dns4/localhost/tcp/0", CAL_EINVAL},
        {"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/65536", CAL_EINVAL},
        {"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/", CAL_EINVAL},
        {"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/1/ws", CAL_EINVAL},
        {"/ip4/127.0.0.1/tcp/0", "/ip4/localhost/tcp/1", CAL_EINVAL},
    };
    cal_log_set_level(CAL_LOG_ERROR);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *addresses[] = {cases[i].first, cases[i].last};
        api_listener_options options = {addresses, 2, false, 0};
        int error = api_listener_start(&w.loop, &w.env, &options, &other, &err);
        assert_int_equal(error, cases[i].error);
        if (error == CAL_EDENIED) assert_non_null(strstr(err.message, "--allow-unauthenticated"));
        if (error == 0) {
            assert_int_equal(api_listener_port(other, 1), 0); /* one door opened */
            api_listener_stop(other, 0, NULL, NULL);
        }
    }
    world_deinit(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_and_stays_open), cmocka_unit_test(test_connection_close),
        cmocka_unit_test(test_upload_and_download),    cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_graceful_stop),          cmocka_unit_test(test_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
