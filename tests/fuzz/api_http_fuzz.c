/* Any bytes, cut anywhere, into the HTTP connection filter, WebSocket upgrade included. The first
 * byte of the input seeds the cuts; handlers answer at once, later, in pieces or not at all. */
#include <stdlib.h>

#include "api/connection.h"
#include "api/ws.h"

static http_exchange *held;
static uint64_t now_us;

static uint64_t clock_us(void *user) { return (void)user, now_us; }
static void on_wake(void *owner) { (void)owner; }

static void on_gone(http_exchange *exchange) { (void)exchange; }
static void whole(http_exchange *exchange) {
    const char *id = http_param(exchange, "id"), *q = http_query(exchange, "q");
    http_reply_text(exchange, 200, id ? id : q ? q : "x");
}
static void later(http_exchange *exchange) {
    if (held) {
        http_reply(exchange, 200, "application/json", http_body(exchange));
        return;
    }
    held = exchange;
    http_on_close(exchange, on_gone);
}
static void data(http_exchange *exchange, cal_slice bytes) {
    http_pause_body(exchange, bytes.len % 3 == 0);
}
static void end(http_exchange *exchange) {
    http_begin(exchange, 200, "text/plain", -1);
    http_write(exchange, cal_slice_text("piece"));
    http_end(exchange);
}
static const http_sink sink = {data, end};
static void stream(http_exchange *exchange) { http_set_sink(exchange, &sink); }
static void aborted(http_exchange *exchange) {
    if (http_get_user(exchange)) return;
    http_abort(exchange);
}
static void stream_gone(http_exchange *exchange) { aborted(exchange); }
static void stream_open(http_exchange *exchange) {
    stream(exchange);
    http_on_close(exchange, stream_gone);
}

static void on_message(ws_socket *socket, cal_slice text) { ws_reply(socket, text); }
static void on_closed(ws_socket *socket) { (void)socket; }
static const ws_callbacks callbacks = {on_message, on_closed};
static void upgrade(http_exchange *exchange) { ws_accept(exchange, &callbacks, NULL); }

static const http_route routes[] = {
    {HTTP_VERB_GET, "/a/:id", HTTP_BODY_NONE, whole, true},
    {HTTP_VERB_POST, "/a/:id", HTTP_BODY_WHOLE, later, true},
    {HTTP_VERB_PUT, "/b", HTTP_BODY_STREAM, stream_open, false},
    {HTTP_VERB_GET, "/ws", HTTP_BODY_NONE, upgrade, false},
};

static void take(http_connection *connection) {
    uint8_t *bytes;
    size_t len;
    while (http_connection_drain(connection, &bytes, &len)) {
        free(bytes);
        http_connection_drained(connection);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
    http_env env = {.routes = routes,
                    .route_count = sizeof routes / sizeof *routes,
                    .prefix = "",
                    .timeouts = http_timeouts_default,
                    .ws_ping_interval_ms = 30000,
                    .ws_pong_timeout_ms = 10000,
                    .clock_us = clock_us};
    if (size == 0) return 0;
    uint32_t seed = input[0] + 1u;
    http_connection *connection = http_connection_new(&env, on_wake, NULL);
    held = NULL;
    for (size_t at = 1; at < size;) {
        seed = seed * 1664525u + 1013904223u;
        size_t len = 1 + (seed >> 16) % 97;
        if (len > size - at) len = size - at;
        if (!http_connection_wants_read(connection) && held) {
            http_reply_text(held, 200, "late");
            held = NULL;
        }
        http_connection_feed(connection, cal_slice_of(input + at, len));
        at += len;
        if (seed & 0x100) take(connection);
        now_us += (seed & 0x3000) == 0x3000 ? 9000000u : 1000u;
        http_connection_expire(connection);
    }
    http_connection_eof(connection);
    take(connection);
    http_connection_free(connection);
    if (held) http_reply_text(held, 200, "nobody");
    return 0;
}
