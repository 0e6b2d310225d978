/* WebSockets over the connection filter: frames as bytes, cut anywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "api/connection.h"
#include "api/ws.h"
#include "base/buffer.h"
#include "base/limits.h"

typedef struct world {
    http_env env;
    uint64_t now_us;
    ws_socket *socket;
    size_t messages, closed;
    size_t last_len;
    bool hold; /* do not answer */
} world;

static uint64_t clock_us(void *user) { return ((world *)user)->now_us; }
static void on_wake(void *owner) { (void)owner; }

static void on_message(ws_socket *socket, cal_slice text) {
    world *w = ws_user(socket);
    w->messages++;
    w->last_len = text.len;
    if (!w->hold) ws_reply(socket, text);
}
static void on_closed(ws_socket *socket) {
    world *w = ws_user(socket);
    w->closed++;
    w->socket = NULL;
}
static const ws_callbacks callbacks = {on_message, on_closed};

static void open_ws(http_exchange *exchange) {
    world *w = http_user(exchange);
    w->socket = ws_accept(exchange, &callbacks, w);
}

static const http_route routes[] = {{HTTP_VERB_GET, "/ws", HTTP_BODY_NONE, open_ws, true}};

#define HEAD_LINES                                                                                 \
    "host: [::1]:2528\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: "     \
    "13\r\n"
static const char UPGRADE[] =
    "GET /ws HTTP/1.1\r\n" HEAD_LINES "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/* The answer to the key that RFC 6455 uses as its example. */
static const char ACCEPTED[] =
    "HTTP/1.1 101 Switching Protocols\r\n"
    "vary: origin, access-control-request-method, access-control-request-headers\r\n"
    "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: "
    "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

static void world_init(world *w) {
    *w = (world){0};
    w->env = (http_env){.routes = routes,
                        .route_count = 1,
                        .prefix = "",
                        .timeouts = http_timeouts_default,
                        .ws_ping_interval_ms = 30000,
                        .ws_pong_timeout_ms = 10000,
                        .clock_us = clock_us,
                        .clock_user = w,
                        .user = w};
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

/* A masked client frame. */
static void frame(cal_buffer *out, uint8_t first, cal_slice payload) {
    static const uint8_t mask[4] = {1, 2, 3, 4};
    cal_buffer_append_u8(out, first);
    if (payload.len < 126)
        cal_buffer_append_u8(out, (uint8_t)(0x80 | payload.len));
    else {
        uint8_t size[8];
        cal_buffer_append_u8(out, 0x80 | 127);
        cal_write_u64be(size, payload.len);
        cal_buffer_append(out, size, sizeof size);
    }
    cal_buffer_append(out, mask, 4);
    for (size_t i = 0; i < payload.len; i++)
        cal_buffer_append_u8(out, payload.data[i] ^ mask[i % 4]);
}

static http_connection *open_socket(world *w, cal_buffer *out) {
    http_connection *connection = http_connection_new(&w->env, on_wake, w);
    cal_buffer_init(out, 64 * 1024 * 1024);
    http_connection_feed(connection, cal_slice_text(UPGRADE));
    take(connection, out);
    assert_string_equal(cal_buffer_cstr(out), ACCEPTED);
    cal_buffer_reset(out);
    assert_non_null(w->socket);
    return connection;
}

static void test_echo_in_any_split(void **state) {
    (void)state;
    cal_buffer input, out;
    cal_buffer_init(&input, 65536);
    cal_buffer_append_text(&input, UPGRADE);
    frame(&input, 0x81, cal_slice_text("hello"));
    frame(&input, 0x01, cal_slice_text("two "));
    frame(&input, 0x89, cal_slice_text("ping")); /* between the fragments */
    frame(&input, 0x80, cal_slice_text("parts"));
    frame(&input, 0x82, cal_slice_text("binary"));
    frame(&input, 0x88, cal_slice_of("\x03\xe8", 2));
    for (size_t step = 1; step <= input.len; step += 11) {
        world w;
        world_init(&w);
        cal_buffer_init(&out, 65536);
        http_connection *connection = http_connection_new(&w.env, on_wake, &w);
        for (size_t at = 0; at < input.len; at += step) {
            size_t len = step < input.len - at ? step : input.len - at;
            http_connection_feed(connection, cal_slice_of(input.data + at, len));
            take(connection, &out);
        }
        const char expected[] = "\x81\x05hello\x8a\x04ping\x81\x09two parts\x88\x02\x03\xe8";
        assert_int_equal(out.len, strlen(ACCEPTED) + sizeof expected - 1);
        assert_memory_equal(out.data + strlen(ACCEPTED), expected, sizeof expected - 1);
        assert_int_equal(w.messages, 2);
        assert_int_equal(http_connection_fate(connection), HTTP_FATE_FINISH);
        http_connection_free(connection);
        assert_int_equal(w.closed, 1);
        cal_buffer_deinit(&out);
    }
    cal_buffer_deinit(&input);
}

static void test_refusals(void **state) {
    (void)state;
    const char *inputs[] = {
        "GET /ws HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET /ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        "GET /ws HTTP/1.1\r\n" HEAD_LINES "\r\n",
        "GET /ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        "sec-websocket-version: 8\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
        world w;
        world_init(&w);
        cal_buffer out;
        cal_buffer_init(&out, 65536);
        http_connection *connection = http_connection_new(&w.env, on_wake, &w);
        http_connection_feed(connection, cal_slice_text(inputs[i]));
        http_connection_feed(connection,
                             cal_slice_text("GET /zzz HTTP/1.1\r\nhost: localhost\r\n\r\n"));
        take(connection, &out);
        assert_ptr_equal(strstr(cal_buffer_cstr(&out), "HTTP/1.1 400 Bad Request"), out.data);
        assert_non_null(strstr(cal_buffer_cstr(&out), "Invalid WebSocket upgrade request: "));
        assert_non_null(
            strstr(cal_buffer_cstr(&out), "HTTP/1.1 404 ")); /* the connection goes on */
        http_connection_free(connection);
        cal_buffer_deinit(&out);
    }
    world w; /* another site's page may not open a socket */
    world_init(&w);
    cal_buffer out;
    cal_buffer_init(&out, 65536);
    http_connection *connection = http_connection_new(&w.env, on_wake, &w);
    http_connection_feed(
        connection, cal_slice_text("GET /ws HTTP/1.1\r\norigin: https://evil.example\r\n" HEAD_LINES
                                   "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"));
    take(connection, &out);
    assert_ptr_equal(strstr(cal_buffer_cstr(&out), "HTTP/1.1 403 "), out.data);
    assert_null(w.socket);
    http_connection_free(connection);
    cal_buffer_deinit(&out);
}

static void test_requests_limit(void **state) {
    (void)state;
    world w;
    world_init(&w);
    cal_buffer out, input;
    http_connection *connection = open_socket(&w, &out);
    cal_buffer_init(&input, 1024 * 1024);
    w.hold = true;
    for (int i = 0; i < 2000; i++) {
        if (i == CAL_WS_REQUESTS_MAX) {
            assert_true(http_connection_wants_read(connection));
            http_connection_feed(connection, cal_buffer_slice(&input));
            assert_false(http_connection_wants_read(connection)); /* though none waits yet */
            cal_buffer_reset(&input);
        }
        frame(&input, 0x81, cal_slice_text("x"));
    }
    http_connection_feed(connection, cal_buffer_slice(&input));
    assert_int_equal(w.messages, CAL_WS_REQUESTS_MAX);
    assert_false(http_connection_wants_read(connection));
    size_t answered = 0;
    while (answered < w.messages) {
        ws_reply(w.socket, cal_slice_text("y"));
        answered++;
    }
    assert_int_equal(answered, 2000);
    assert_true(http_connection_wants_read(connection));
    take(connection, &out);
    assert_int_equal(out.len, 2000 * 3);
    http_connection_free(connection);
    cal_buffer_deinit(&input);
    cal_buffer_deinit(&out);
}

static void test_push_limit(void **state) {
    (void)state;
    world w;
    world_init(&w);
    cal_buffer out;
    http_connection *connection = open_socket(&w, &out);
    for (int i = 0; i < CAL_WS_QUEUE_MAX; i++) assert_true(ws_push(w.socket, cal_slice_text("e")));
    assert_false(ws_push(w.socket, cal_slice_text("e")));
    take(connection, &out);
    assert_int_equal(out.len, CAL_WS_QUEUE_MAX * 3);
    assert_true(ws_push(w.socket, cal_slice_text("e")));
    http_connection_free(connection);
    cal_buffer_deinit(&out);
}

static void test_message_limit(void **state) {
    (void)state;
    for (int over = 0; over <= 1; over++) {
        world w;
        world_init(&w);
        cal_buffer out, input;
        http_connection *connection = open_socket(&w, &out);
        size_t len = CAL_WS_MESSAGE_MAX + (size_t)over;
        uint8_t *text = malloc(len);
        memset(text, 'a', len);
        cal_buffer_init(&input, len + 64);
        frame(&input, 0x81, cal_slice_of(text, len));
        w.hold = true;
        for (size_t at = 0; at < input.len; at += 65536)
            http_connection_feed(
                connection,
                cal_slice_of(input.data + at, input.len - at < 65536 ? input.len - at : 65536));
        take(connection, &out);
        if (over) {
            assert_memory_equal(out.data, "\x88\x02\x03\xf1", 4); /* 1009 */
            assert_int_equal(http_connection_fate(connection), HTTP_FATE_FINISH);
        } else
            assert_int_equal(w.last_len, len);
        http_connection_free(connection);
        cal_buffer_deinit(&input);
        cal_buffer_deinit(&out);
        free(text);
    }
}

static void test_keep_alive(void **state) {
    (void)state;
    world w;
    world_init(&w);
    cal_buffer out, input;
    http_connection *connection = open_socket(&w, &out);
    cal_buffer_init(&input, 256);
    w.now_us += 30000000;
    http_connection_expire(connection);
    take(connection, &out);
    assert_int_equal(out.len, 2);
    assert_memory_equal(out.data, "\x89\x00", 2);
    cal_buffer_reset(&out);
    frame(&input, 0x8a, cal_slice_of(NULL, 0));
    http_connection_feed(connection, cal_buffer_slice(&input));
    w.now_us += 29000000;
    http_connection_expire(connection);
    take(connection, &out);
    assert_int_equal(out.len, 0); /* answered: not late */
    w.now_us += 1000000;
    http_connection_expire(connection);
    w.hold = true;
    cal_buffer_reset(&input);
    frame(&input, 0x81, cal_slice_text("no pong"));
    http_connection_feed(connection, cal_buffer_slice(&input));
    w.now_us += 10000000;
    http_connection_expire(connection);
    take(connection, &out);
    const char expected[] = "\x89\x00\x88\x0e\x03\xeaPing timeout";
    assert_int_equal(out.len, sizeof expected - 1);
    assert_memory_equal(out.data, expected, out.len);
    assert_int_equal(http_connection_fate(connection), HTTP_FATE_FINISH);
    http_connection_free(connection);
    cal_buffer_deinit(&input);
    cal_buffer_deinit(&out);
}

static void test_bad_frames(void **state) {
    (void)state;
    const struct {
        const char *bytes;
        size_t len;
    } cases[] = {{"\x81\x01x", 3},                /* not masked */
                 {"\xc1\x81\0\0\0\0x", 7},        /* reserved bit */
                 {"\x81\x82\0\0\0\0\xff\xfe", 8}, /* not UTF-8 */
                 {"\x83\x80\0\0\0\0", 6},         /* unknown opcode */
                 {"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 14}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        world w;
        world_init(&w);
        cal_buffer out;
        http_connection *connection = open_socket(&w, &out);
        http_connection_feed(connection, cal_slice_of(cases[i].bytes, cases[i].len));
        take(connection, &out);
        assert_int_not_equal(http_connection_fate(connection), HTTP_FATE_OPEN);
        assert_int_equal(w.messages, 0);
        http_connection_free(connection);
        cal_buffer_deinit(&out);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_echo_in_any_split), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_requests_limit),    cmocka_unit_test(test_push_limit),
        cmocka_unit_test(test_message_limit),     cmocka_unit_test(test_keep_alive),
        cmocka_unit_test(test_bad_frames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
