/* The HTTP connection filter driven with bytes: every answer must be the same however the bytes are
 * cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/connection.h"
#include "base/buffer.h"
#include "base/limits.h"

typedef struct world {
    http_env env;
    uint64_t now_us;
    size_t wakes, answered, closed;
    int last_status;
    http_exchange *held;
    uint64_t streamed;
} world;

static uint64_t clock_us(void *user) { return ((world *)user)->now_us; }
static void on_wake(void *owner) { ((world *)owner)->wakes++; }

static void on_answered(void *user, const http_route *route, http_verb verb, int status,
                        uint64_t duration_us) {
    (void)route, (void)verb, (void)duration_us;
    world *w = user;
    w->answered++;
    w->last_status = status;
}

static void say_hello(http_exchange *exchange) { http_reply_text(exchange, 200, "hello"); }

static void echo(http_exchange *exchange) {
    http_reply(exchange, 200, "application/json", http_body(exchange));
}

static void show_target(http_exchange *exchange) {
    char text[256];
    const char *q = http_query(exchange, "q");
    snprintf(text, sizeof text, "id=%s q=%s", http_param(exchange, "id"), q ? q : "-");
    http_reply_text(exchange, 200, text);
}

static void on_held_closed(http_exchange *exchange) { ((world *)http_user(exchange))->closed++; }

static void hold(http_exchange *exchange) {
    world *w = http_user(exchange);
    w->held = exchange;
    http_on_close(exchange, on_held_closed);
}

static void upload_data(http_exchange *exchange, cal_slice bytes) {
    ((world *)http_user(exchange))->streamed += bytes.len;
}
static void upload_end(http_exchange *exchange) {
    char text[32];
    snprintf(text, sizeof text, "%llu",
             (unsigned long long)((world *)http_user(exchange))->streamed);
    http_reply_text(exchange, 200, text);
}
static const http_sink upload_sink = {upload_data, upload_end};

static void upload(http_exchange *exchange) {
    world *w = http_user(exchange);
    w->held = exchange;
    w->streamed = 0;
    http_set_sink(exchange, &upload_sink);
    http_on_close(exchange, on_held_closed);
}

static void stream_twice(http_exchange *exchange) {
    http_begin(exchange, 200, "text/plain", -1);
    http_write(exchange, cal_slice_text("one"));
    http_write(exchange, cal_slice_text("two!"));
    http_end(exchange);
}

static const http_route routes[] = {
    {HTTP_VERB_GET, "/hello", HTTP_BODY_NONE, say_hello, false},
    {HTTP_VERB_POST, "/echo", HTTP_BODY_WHOLE, echo, false},
    {HTTP_VERB_POST, "/admin-api/things/sync", HTTP_BODY_NONE, say_hello, true},
    {HTTP_VERB_GET, "/admin-api/things/:id", HTTP_BODY_NONE, show_target, true},
    {HTTP_VERB_DELETE, "/admin-api/things/:id", HTTP_BODY_NONE, show_target, true},
    {HTTP_VERB_POST, "/hold", HTTP_BODY_WHOLE, hold, false},
    {HTTP_VERB_PUT, "/upload", HTTP_BODY_STREAM, upload, false},
    {HTTP_VERB_GET, "/stream", HTTP_BODY_NONE, stream_twice, false},
};

static void world_init(world *w) {
    *w = (world){0};
    w->env = (http_env){.routes = routes,
                        .route_count = sizeof routes / sizeof *routes,
                        .prefix = "",
                        .timeouts = http_timeouts_default,
                        .clock_us = clock_us,
                        .clock_user = w,
                        .user = w,
                        .answered = on_answered};
}

static http_connection *open_connection(world *w) {
    http_connection *connection = http_connection_new(&w->env, on_wake, w);
    assert_non_null(connection);
    return connection;
}

static void take(http_connection *connection, cal_buffer *out) {
    uint8_t *bytes;
    size_t len;
    while (http_connection_drain(connection, &bytes, &len)) {
        assert_int_equal(cal_buffer_append(out, bytes, len), 0);
        free(bytes);
        http_connection_drained(connection);
    }
}

/* Feeds the input in pieces of `step` bytes and returns what came out as text. */
static char *talk(world *w, const char *input, size_t len, size_t step, http_fate *ret_fate) {
    http_connection *connection = open_connection(w);
    cal_buffer out;
    cal_buffer_init(&out, 8 * 1024 * 1024);
    for (size_t at = 0; at < len; at += step) {
        http_connection_feed(connection,
                             cal_slice_of(input + at, step < len - at ? step : len - at));
        take(connection, &out);
    }
    if (ret_fate) *ret_fate = http_connection_fate(connection);
    http_connection_free(connection);
    char *text = strdup(out.len ? cal_buffer_cstr(&out) : "");
    cal_buffer_deinit(&out);
    return text;
}

static char *ask(world *w, const char *input) {
    return talk(w, input, strlen(input), strlen(input), NULL);
}

static void expect(world *w, const char *input, const char *expected) {
    size_t steps[] = {strlen(input), 1, 2, 7};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        char *text = talk(w, input, strlen(input), steps[i], NULL);
        assert_string_equal(text, expected);
        free(text);
    }
}

#define VARY "vary: origin, access-control-request-method, access-control-request-headers\r\n"
#define HOST "host: localhost:2528\r\n"

static void test_answers(void **state) {
    (void)state;
    world w;
    world_init(&w);
    expect(&w, "GET /hello HTTP/1.1\r\n" HOST "\r\n",
           "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\n" VARY
           "content-length: 5\r\n\r\nhello");
    expect(&w, "HEAD /hello/ HTTP/1.1\r\n" HOST "\r\n",
           "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\n" VARY
           "content-length: 5\r\n\r\n");
    expect(&w, "GET /nope HTTP/1.1\r\n" HOST "\r\n",
           "HTTP/1.1 404 Not Found\r\n" VARY "content-length: 0\r\n\r\n");
    expect(&w, "PUT /hello HTTP/1.1\r\n" HOST "content-length: 3\r\n\r\nabc",
           "HTTP/1.1 405 Method Not Allowed\r\n" VARY
           "allow: GET,HEAD\r\ncontent-length: 0\r\n\r\n");
    expect(&w, "PATCH /admin-api/things/9 HTTP/1.1\r\n" HOST "\r\n",
           "HTTP/1.1 405 Method Not Allowed\r\n" VARY
           "allow: GET,HEAD,DELETE\r\ncontent-length: 0\r\n\r\n");
    expect(&w, "DELETE /admin-api/things/sync HTTP/1.1\r\n" HOST "\r\n",
           "HTTP/1.1 405 Method Not Allowed\r\n" VARY "allow: POST\r\ncontent-length: 0\r\n\r\n");
    expect(&w, "GET /stream HTTP/1.1\r\n" HOST "\r\n",
           "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n" VARY
           "transfer-encoding: chunked\r\n\r\n3\r\none\r\n4\r\ntwo!\r\n0\r\n\r\n");
    expect(&w, "GET /stream HTTP/1.0\r\n" HOST "\r\n",
           "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n" VARY
           "connection: close\r\n\r\nonetwo!");
}

static void test_targets(void **state) {
    (void)state;
    world w;
    world_init(&w);
    const struct {
        const char *target, *body;
    } cases[] = {
        {"/admin-api/things/a%2Fb%20c?q=x+y%26z&other", "id=a/b c q=x y&z"},
        {"/admin-api/things/7/", "id=7 q=-"},
        {"http://localhost:2528/admin-api/things/7?q=", "id=7 q="},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char request[256];
        snprintf(request, sizeof request, "GET %s HTTP/1.1\r\n" HOST "\r\n", cases[i].target);
        char *text = ask(&w, request);
        assert_non_null(strstr(text, cases[i].body));
        free(text);
    }
    const char *bad[] = {"/admin-api/things/%zz", "/admin-api/things/%4", "/admin-api/things/%00",
                         "/admin-api/things/%ff", "/admin-api/things/a?q=%e2%28"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char request[256];
        snprintf(request, sizeof request, "GET %s HTTP/1.1\r\n" HOST "\r\n", bad[i]);
        char *text = ask(&w, request);
        assert_ptr_equal(strstr(text, "HTTP/1.1 400"), text);
        assert_non_null(strstr(text, "Invalid URL: "));
        free(text);
    }
}

static void test_prefix(void **state) {
    (void)state;
    world w;
    world_init(&w);
    w.env.prefix = "/node1";
    const struct {
        const char *target;
        int status;
    } cases[] = {{"/node1/admin-api/things/7", 200},
                 {"/admin-api/things/7", 404},
                 {"/node12/admin-api/things/7", 404},
                 {"/hello", 200},
                 {"/node1/hello", 404},
                 {"/node1", 404}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char request[256];
        snprintf(request, sizeof request, "GET %s HTTP/1.1\r\n" HOST "\r\n", cases[i].target);
        free(ask(&w, request));
        assert_int_equal(w.last_status, cases[i].status);
    }
}

static void test_pipelining(void **state) {
    (void)state;
    world w;
    world_init(&w);
    const char *input = "POST /echo HTTP/1.1\r\n" HOST "content-length: 2\r\n\r\nab"
                        "POST /echo HTTP/1.1\r\n" HOST
                        "transfer-encoding: chunked\r\n\r\n2\r\ncd\r\n1\r\ne\r\n0\r\n\r\n"
                        "GET /hello HTTP/1.1\r\n" HOST "connection: close\r\n\r\n";
    for (size_t step = 1; step <= strlen(input); step += 13) {
        http_fate fate;
        char *text = talk(&w, input, strlen(input), step, &fate);
        const char *ab = strstr(text, "\r\n\r\nab"), *cde = strstr(text, "\r\n\r\ncde");
        const char *hello = strstr(text, "\r\n\r\nhello");
        assert_true(ab && cde && hello && ab < cde && cde < hello);
        assert_non_null(strstr(text, "connection: close"));
        assert_int_equal(fate, HTTP_FATE_FINISH);
        free(text);
    }
}

static void test_one_at_a_time(void **state) {
    (void)state;
    world w;
    world_init(&w);
    http_connection *connection = open_connection(&w);
    cal_buffer out;
    cal_buffer_init(&out, 65536);
    const char *input = "POST /hold HTTP/1.1\r\n" HOST
                        "content-length: 0\r\n\r\nGET /hello HTTP/1.1\r\n" HOST "\r\n";
    http_connection_feed(connection, cal_slice_text(input));
    take(connection, &out);
    assert_int_equal(out.len, 0);
    assert_false(http_connection_wants_read(connection)); /* the second request waits */
    assert_int_equal(http_connection_deadline_ms(connection), UINT64_MAX);
    http_reply_text(w.held, 200, "late");
    assert_true(w.wakes > 0);
    take(connection, &out);
    assert_non_null(strstr(cal_buffer_cstr(&out), "late"));
    assert_non_null(strstr(cal_buffer_cstr(&out), "hello"));
    assert_true(http_connection_wants_read(connection));
    http_connection_free(connection);
    cal_buffer_deinit(&out);
}

/* The client has all of an answer, and asks again, before the answer ends on this side. */
static void test_asks_before_the_end(void **state) {
    (void)state;
    world w;
    world_init(&w);
    http_connection *connection = open_connection(&w);
    cal_buffer out;
    cal_buffer_init(&out, 65536);
    http_connection_feed(
        connection, cal_slice_text("POST /hold HTTP/1.1\r\n" HOST "content-length: 0\r\n\r\n"));
    http_begin(w.held, 200, "application/octet-stream", 3);
    http_write(w.held, cal_slice_text("abc"));
    take(connection, &out);
    assert_non_null(strstr(cal_buffer_cstr(&out), "\r\n\r\nabc"));
    http_connection_feed(connection, cal_slice_text("GET /hello HTTP/1.1\r\n" HOST "\r\n"));
    http_end(w.held);
    take(connection, &out);
    assert_non_null(strstr(cal_buffer_cstr(&out), "\r\n\r\nhello"));
    assert_true(http_connection_wants_read(connection));
    http_connection_free(connection);
    cal_buffer_deinit(&out);
}

static void test_client_leaves(void **state) {
    (void)state;
    world w;
    world_init(&w);
    http_connection *connection = open_connection(&w);
    http_connection_feed(connection, cal_slice_text("POST /hold HTTP/1.1\r\n" HOST "\r\n"));
    http_connection_free(connection);
    assert_int_equal(w.closed, 1);
    assert_true(http_client_gone(w.held));
    http_reply_text(w.held, 200, "to nobody"); /* frees it; the sanitizer watches */

    connection = open_connection(&w);
    http_connection_feed(connection, cal_slice_text("PUT /upload HTTP/1.1\r\n" HOST
                                                    "content-length: 10\r\n\r\nabc"));
    http_connection_eof(connection);
    assert_int_equal(http_connection_fate(connection), HTTP_FATE_CLOSE);
    http_connection_free(connection);
    assert_int_equal(w.closed, 2);
    http_reply_empty(w.held, 500);

    /* A half-closed client still gets its answer. */
    cal_buffer out;
    cal_buffer_init(&out, 65536);
    connection = open_connection(&w);
    http_connection_feed(connection, cal_slice_text("POST /hold HTTP/1.1\r\n" HOST "\r\n"));
    http_connection_eof(connection);
    assert_int_equal(http_connection_fate(connection), HTTP_FATE_OPEN);
    http_reply_text(w.held, 200, "late");
    take(connection, &out);
    assert_non_null(strstr(cal_buffer_cstr(&out), "late"));
    assert_int_equal(http_connection_fate(connection), HTTP_FATE_CLOSE);
    http_connection_free(connection);
    cal_buffer_deinit(&out);
}

static void expect_status(world *w, const char *request, int status) {
    char start[32];
    snprintf(start, sizeof start, "HTTP/1.1 %d ", status);
    char *text = ask(w, request);
    if (strncmp(text, start, strlen(start)) != 0) print_error("%s -> %s\n", request, text);
    assert_int_equal(strncmp(text, start, strlen(start)), 0);
    free(text);
}

static void test_who_may_ask(void **state) {
    (void)state;
    world w;
    world_init(&w);
    const char *hosts[] = {"localhost", "LocalHost:80", "127.0.0.1:2528",
                           "127.8.9.1", "[::1]:2528",   "[::1]"};
    const char *foreign[] = {"example.com",
                             "localhost.example.com",
                             "127.0.0.1.example.com",
                             "10.0.0.1:2528",
                             "[::2]",
                             "localhost:",
                             "1270.0.0.1",
                             "[::1",
                             "localhost:80x",
                             "user@localhost"};
    char request[256];
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        snprintf(request, sizeof request, "GET /hello HTTP/1.1\r\nHost: %s\r\n\r\n", hosts[i]);
        expect_status(&w, request, 200);
    }
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
        if (strcmp(foreign[i], "localhost:") == 0) continue; /* an empty port is none */
        snprintf(request, sizeof request, "GET /hello HTTP/1.1\r\nHost: %s\r\n\r\n", foreign[i]);
        expect_status(&w, request, 403);
    }
    expect_status(&w, "GET http://example.com/hello HTTP/1.1\r\n" HOST "\r\n", 403);
    expect_status(&w, "GET /hello HTTP/1.1\r\n\r\n", 400);
    expect_status(&w, "GET /hello HTTP/1.1\r\n" HOST HOST "\r\n", 400);
    w.env.policy.any_host = true;
    expect_status(&w, "GET /hello HTTP/1.1\r\nHost: example.com\r\n\r\n", 200);
}

static void test_origins(void **state) {
    (void)state;
    world w;
    world_init(&w);
    const char *allowed[] = {"https://app.example.com"};
    w.env.policy.allowed_origins = allowed;
    w.env.policy.allowed_origin_count = 1;
    expect(&w, "GET /nope HTTP/1.1\r\n" HOST "origin: http://localhost:5173\r\n\r\n",
           "HTTP/1.1 404 Not Found\r\n" VARY
           "access-control-allow-origin: http://localhost:5173\r\n"
           "access-control-expose-headers: "
           "x-auth-error,x-auth-user,x-auth-permissions\r\ncontent-length: 0\r\n\r\n");
    expect(&w,
           "OPTIONS /anything HTTP/1.1\r\n" HOST "origin: https://app.example.com\r\n"
           "access-control-request-method: POST\r\naccess-control-request-private-network: "
           "true\r\n\r\n",
           "HTTP/1.1 200 OK\r\n" VARY "access-control-allow-origin: https://app.example.com\r\n"
           "access-control-allow-methods: "
           "POST,GET,DELETE,PUT,OPTIONS\r\naccess-control-allow-headers: *\r\n"
           "access-control-allow-private-network: true\r\ncontent-length: 0\r\n\r\n");
    const char *foreign[] = {"https://evil.example.com",
                             "null",
                             "http://localhost.evil.com",
                             "http://127.0.0.1.evil.com",
                             "https://app.example.com.evil.com",
                             "http://localhost:80@evil.com",
                             "http://"};
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
        char request[256];
        snprintf(request, sizeof request,
                 "POST /echo HTTP/1.1\r\n" HOST "origin: %s\r\ncontent-length: 2\r\n\r\n{}",
                 foreign[i]);
        char *text = ask(&w, request);
        assert_ptr_equal(strstr(text, "HTTP/1.1 403"), text);
        assert_null(strstr(text, "access-control-allow-origin"));
        assert_non_null(strstr(text, "server.allowed_origins"));
        free(text);
    }
}

static void test_body_limits(void **state) {
    (void)state;
    world w;
    world_init(&w);
    http_fate fate;
    char head[256];
    snprintf(head, sizeof head, "POST /echo HTTP/1.1\r\n" HOST "content-length: %d\r\n\r\n",
             CAL_HTTP_BODY_MAX + 1);
    char *text = talk(&w, head, strlen(head), strlen(head), &fate);
    assert_ptr_equal(
        strstr(text, "HTTP/1.1 413 Payload Too Large\r\ncontent-type: text/plain; charset=utf-8"),
        text);
    assert_non_null(
        strstr(text, "\r\n\r\nFailed to buffer the request body: length limit exceeded"));
    assert_non_null(strstr(text, "connection: close"));
    assert_int_equal(fate, HTTP_FATE_FINISH);
    free(text);

    /* The same without a length, and at the limit exactly, with and without one. */
    for (int form = 0; form <= 2; form++) {
        cal_buffer request;
        cal_buffer_init(&request, 8 * 1024 * 1024);
        bool over = form == 1;
        size_t len = CAL_HTTP_BODY_MAX + (size_t)over;
        cal_buffer_append_text(&request, "POST /echo HTTP/1.1\r\n" HOST);
        if (form == 2)
            cal_buffer_printf(&request, "content-length: %zu\r\n\r\n", len);
        else
            cal_buffer_printf(&request, "transfer-encoding: chunked\r\n\r\n%zx\r\n", len);
        memset(cal_buffer_reserve(&request, len), 'x', len);
        request.len += len;
        if (form < 2) cal_buffer_append_text(&request, "\r\n0\r\n\r\n");
        text = talk(&w, (const char *)request.data, request.len, 64 * 1024, &fate);
        assert_int_equal(w.last_status, over ? 413 : 200);
        assert_int_equal(fate, over ? HTTP_FATE_FINISH : HTTP_FATE_OPEN);
        free(text);
        cal_buffer_deinit(&request);
    }
}

static void test_header_limits(void **state) {
    (void)state;
    world w;
    world_init(&w);
    cal_buffer request;
    cal_buffer_init(&request, 1024 * 1024);
    cal_buffer_append_text(&request, "GET /hello HTTP/1.1\r\n" HOST "x: ");
    memset(cal_buffer_reserve(&request, CAL_HTTP_HEADERS_MAX + 1024), 'a',
           CAL_HTTP_HEADERS_MAX + 1024);
    request.len += CAL_HTTP_HEADERS_MAX + 1024;
    cal_buffer_append_text(&request, "\r\n\r\n");
    expect_status(&w, cal_buffer_cstr(&request), 431);

    cal_buffer_reset(&request);
    cal_buffer_append_text(&request, "GET /hello HTTP/1.1\r\n" HOST);
    for (int i = 0; i < HTTP_HEADER_COUNT_MAX; i++) cal_buffer_printf(&request, "x%d: y\r\n", i);
    cal_buffer_append_text(&request, "\r\n");
    expect_status(&w, cal_buffer_cstr(&request), 431);

    cal_buffer_reset(&request);
    cal_buffer_append_text(&request, "GET /");
    memset(cal_buffer_reserve(&request, HTTP_URL_MAX), 'a', HTTP_URL_MAX);
    request.len += HTTP_URL_MAX;
    cal_buffer_append_text(&request, " HTTP/1.1\r\n" HOST "\r\n");
    expect_status(&w, cal_buffer_cstr(&request), 414);
    free(talk(&w, cal_buffer_cstr(&request), request.len, 1000, NULL));
    assert_int_equal(w.last_status, 414); /* in pieces, each of which is short */
    memmove(request.data + 5, request.data + 6, request.len - 6);
    request.len--;
    expect_status(&w, cal_buffer_cstr(&request), 404); /* a path as long as allowed */
    cal_buffer_deinit(&request);
}

static void test_garbage(void **state) {
    (void)state;
    world w;
    world_init(&w);
    const char *inputs[] = {
        "\x16\x03\x01\x02 hello over TLS",
        "GET /hello HTTP/9.9\r\n" HOST "\r\n",
        "POST /echo HTTP/1.1\r\n" HOST "content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        "POST /echo HTTP/1.1\r\n" HOST "content-length: -1\r\n\r\n",
        "POST /echo HTTP/1.1\r\n" HOST "transfer-encoding: chunked\r\n\r\nzz\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"};
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
        http_fate fate;
        free(talk(&w, inputs[i], strlen(inputs[i]), 1, &fate));
        assert_int_not_equal(fate, HTTP_FATE_OPEN);
    }
}

static void test_expect_continue(void **state) {
    (void)state;
    world w;
    world_init(&w);
    const char *head =
        "POST /echo HTTP/1.1\r\n" HOST "expect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    http_connection *connection = open_connection(&w);
    cal_buffer out;
    cal_buffer_init(&out, 65536);
    http_connection_feed(connection, cal_slice_text(head));
    take(connection, &out);
    assert_string_equal(cal_buffer_cstr(&out), "HTTP/1.1 100 Continue\r\n\r\n");
    http_connection_feed(connection, cal_slice_text("ok"));
    take(connection, &out);
    assert_non_null(strstr(cal_buffer_cstr(&out), "\r\n\r\nok"));
    http_connection_free(connection);
    cal_buffer_deinit(&out);
    /* A request that will be refused is refused before its body is sent. */
    expect_status(
        &w, "POST /nope HTTP/1.1\r\n" HOST "expect: 100-continue\r\ncontent-length: 2\r\n\r\n",
        404);
    expect_status(&w, "POST /echo HTTP/1.1\r\n" HOST "expect: magic\r\ncontent-length: 2\r\n\r\n",
                  417);
}

static void test_upload(void **state) {
    (void)state;
    world w;
    world_init(&w);
    http_connection *connection = open_connection(&w);
    cal_buffer out;
    cal_buffer_init(&out, 65536);
    static uint8_t block[65536];
    http_connection_feed(connection, cal_slice_text("PUT /upload HTTP/1.1\r\n" HOST
                                                    "content-length: 8388608\r\n\r\n"));
    for (int i = 0; i < 128; i++) {
        http_connection_feed(connection, cal_slice_of(block, sizeof block));
        if (i == 127) break; /* answered: the exchange is gone */
        http_pause_body(w.held, true);
        assert_false(http_connection_wants_read(connection));
        http_pause_body(w.held, false);
        assert_true(http_connection_wants_read(connection));
    }
    take(connection, &out);
    assert_non_null(strstr(cal_buffer_cstr(&out), "\r\n\r\n8388608"));
    http_connection_free(connection);
    cal_buffer_deinit(&out);
}

static void fill_writer(http_exchange *exchange) {
    static const uint8_t block[64 * 1024];
    world *w = http_user(exchange);
    bool room = true;
    while (room && w->streamed < 100) {
        room = http_write(exchange, cal_slice_of(block, sizeof block));
        w->streamed++;
    }
    if (room) http_end(exchange);
}

static void test_download_back_pressure(void **state) {
    (void)state;
    world w;
    world_init(&w);
    http_connection *connection = open_connection(&w);
    http_connection_feed(connection, cal_slice_text("POST /hold HTTP/1.1\r\n" HOST "\r\n"));
    http_begin(w.held, 200, "application/octet-stream", 100 * 64 * 1024);
    http_on_writable(w.held, fill_writer);
    fill_writer(w.held);
    assert_true(w.streamed < 10); /* held back */
    size_t total = 0, len;
    uint8_t *bytes;
    while (http_connection_drain(connection, &bytes, &len)) {
        assert_true(len < 1024 * 1024);
        total += len;
        free(bytes);
        http_connection_drained(connection);
    }
    assert_int_equal(w.streamed, 100);
    assert_true(total > 100 * 64 * 1024);
    assert_int_equal(w.answered, 1);
    http_connection_free(connection);
}

static void test_deadlines(void **state) {
    (void)state;
    world w;
    world_init(&w);
    http_connection *connection = open_connection(&w);
    assert_int_equal(http_connection_deadline_ms(connection), http_timeouts_default.idle);
    http_connection_feed(connection, cal_slice_text("GET /he"));
    w.now_us += 14999000;
    http_connection_feed(connection, cal_slice_text("ll"));
    http_connection_expire(connection);
    assert_int_equal(http_connection_fate(connection), HTTP_FATE_OPEN);
    w.now_us += 1000;
    http_connection_expire(connection);
    assert_int_equal(http_connection_fate(connection), HTTP_FATE_FINISH);
    assert_int_equal(w.last_status, 408);
    http_connection_free(connection);

    /* A client that takes nothing. */
    connection = open_connection(&w);
    uint8_t *bytes;
    size_t len;
    http_connection_feed(connection, cal_slice_text("GET /hello HTTP/1.1\r\n" HOST "\r\n"));
    assert_true(http_connection_drain(connection, &bytes, &len));
    free(bytes);
    w.now_us += (uint64_t)http_timeouts_default.write * 1000;
    http_connection_expire(connection);
    assert_int_equal(http_connection_fate(connection), HTTP_FATE_CLOSE);
    http_connection_free(connection);

    connection = open_connection(&w);
    w.now_us += (uint64_t)http_timeouts_default.idle * 1000;
    http_connection_expire(connection);
    assert_int_equal(http_connection_fate(connection), HTTP_FATE_CLOSE);
    http_connection_free(connection);
}

static void test_stop(void **state) {
    (void)state;
    world w;
    world_init(&w);
    http_connection *idle = open_connection(&w);
    http_connection_stop(idle);
    assert_int_equal(http_connection_fate(idle), HTTP_FATE_CLOSE);
    http_connection_free(idle);

    http_connection *busy = open_connection(&w);
    cal_buffer out;
    cal_buffer_init(&out, 65536);
    http_connection_feed(busy, cal_slice_text("POST /hold HTTP/1.1\r\n" HOST "\r\n"));
    http_connection_stop(busy);
    assert_int_equal(http_connection_fate(busy), HTTP_FATE_OPEN);
    http_reply_text(w.held, 200, "done");
    take(busy, &out);
    assert_non_null(strstr(cal_buffer_cstr(&out), "connection: close"));
    assert_int_equal(http_connection_fate(busy), HTTP_FATE_FINISH);
    http_connection_free(busy);
    cal_buffer_deinit(&out);
}

static void count_tick(http_exchange *exchange) {
    assert_true(http_write_event(exchange, cal_slice_text(": \n\n")));
}

static void test_events(void **state) {
    (void)state;
    world w;
    world_init(&w);
    http_connection *connection = open_connection(&w);
    http_connection_feed(connection, cal_slice_text("POST /hold HTTP/1.1\r\n" HOST "\r\n"));
    http_begin(w.held, 200, "text/event-stream", -1);
    http_on_tick(w.held, 15000, count_tick);
    uint8_t *bytes;
    size_t len, sent = 0;
    assert_true(http_connection_drain(connection, &bytes, &len));
    free(bytes);
    while (http_write_event(w.held, cal_slice_text("data: x\n\n"))) sent++;
    assert_int_equal(sent, CAL_WS_QUEUE_MAX);
    http_connection_drained(connection);
    assert_true(http_connection_drain(connection, &bytes, &len));
    free(bytes);
    http_connection_drained(connection);
    assert_int_equal(http_connection_deadline_ms(connection), 15000);
    w.now_us += 15000000;
    http_connection_expire(connection);
    assert_true(http_connection_drain(connection, &bytes, &len));
    assert_memory_equal(bytes, "4\r\n: \n\n\r\n", len);
    free(bytes);
    http_connection_drained(connection);
    http_connection_eof(connection); /* an endless stream ends with its client */
    assert_int_equal(http_connection_fate(connection), HTTP_FATE_CLOSE);
    http_connection_free(connection);
    assert_int_equal(w.closed, 1);
    http_end(w.held);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_targets),
        cmocka_unit_test(test_prefix),
        cmocka_unit_test(test_pipelining),
        cmocka_unit_test(test_one_at_a_time),
        cmocka_unit_test(test_asks_before_the_end),
        cmocka_unit_test(test_client_leaves),
        cmocka_unit_test(test_who_may_ask),
        cmocka_unit_test(test_origins),
        cmocka_unit_test(test_body_limits),
        cmocka_unit_test(test_header_limits),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_expect_continue),
        cmocka_unit_test(test_upload),
        cmocka_unit_test(test_download_back_pressure),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
