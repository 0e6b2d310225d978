/* WebSocket messages over wslay, see ws.h. */
#include "api/ws.h"

#include <assert.h>
#include <stdlib.h>
#include <strings.h>
#include <wslay/wslay.h>

#include "api/exchange.h"
#include "base/list.h"
#include "codec/text.h"
#include "crypto/crypto.h"

enum { SHA1_SIZE = 20, KEY_TEXT_LEN = 24, ACCEPT_TEXT_MAX = 32, UPGRADE_REFUSED_MAX = 160 };

/* A message that waits because enough others are being worked on. wslay reads 4 KiB ahead, so a few
 * may. */
typedef struct waiting {
    cal_list node;
    size_t len;
    uint8_t text[];
} waiting;

struct ws_socket {
    http_connection *connection;
    wslay_event_context_ptr wslay;
    const ws_callbacks *callbacks;
    void *user;
    cal_slice in; /* what wslay has not taken of the present feed */
    cal_list waiting;
    uint32_t requests;   /* messages being worked on */
    uint64_t ping_at_ms; /* UINT64_MAX: never */
    uint64_t pong_by_ms; /* UINT64_MAX: no ping is out */
    bool closing;
    bool delivering;
};

void *ws_user(const ws_socket *socket) { return socket->user; }

/* --- bytes --- */

static ssize_t on_recv(wslay_event_context_ptr wslay, uint8_t *buffer, size_t len, int flags,
                       void *user) {
    (void)flags;
    ws_socket *socket = user;
    if (socket->in.len == 0 || !ws_wants_read(socket)) {
        wslay_event_set_error(wslay, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    size_t taken = len < socket->in.len ? len : socket->in.len;
    memcpy(buffer, socket->in.data, taken);
    socket->in = cal_slice_of(socket->in.data + taken, socket->in.len - taken);
    return (ssize_t)taken;
}

static ssize_t on_send(wslay_event_context_ptr wslay, const uint8_t *bytes, size_t len, int flags,
                       void *user) {
    (void)flags;
    ws_socket *socket = user;
    if (cal_buffer_append(&socket->connection->out, bytes, len) == 0) return (ssize_t)len;
    wslay_event_set_error(wslay, WSLAY_ERR_CALLBACK_FAILURE);
    return -1;
}

static void flush(ws_socket *socket) {
    http_connection *connection = socket->connection;
    if (wslay_event_send(socket->wslay) != 0) connection->fate = HTTP_FATE_CLOSE;
    if (wslay_event_get_close_sent(socket->wslay)) {
        socket->closing = true;
        connection_finish(connection);
    }
    connection_wake(connection);
}

static void send_frame(ws_socket *socket, uint8_t opcode, cal_slice payload) {
    if (socket->closing || socket->connection->fate != HTTP_FATE_OPEN) return;
    struct wslay_event_msg message = {opcode, payload.data, payload.len};
    if (wslay_event_queue_msg(socket->wslay, &message) != 0)
        socket->connection->fate = HTTP_FATE_CLOSE;
    else
        flush(socket);
}

/* --- messages --- */

static void deliver(ws_socket *socket, cal_slice text) {
    socket->requests++;
    socket->callbacks->message(socket, text);
}

static void on_message(wslay_event_context_ptr wslay,
                       const struct wslay_event_on_msg_recv_arg *message, void *user) {
    (void)wslay;
    ws_socket *socket = user;
    if (message->opcode == WSLAY_PONG) socket->pong_by_ms = UINT64_MAX;
    if (message->opcode != WSLAY_TEXT_FRAME || socket->closing) return;
    if (socket->requests < CAL_WS_REQUESTS_MAX && cal_list_empty(&socket->waiting)) {
        deliver(socket, cal_slice_of(message->msg, message->msg_length));
        return;
    }
    waiting *entry = malloc(sizeof *entry + message->msg_length);
    if (!entry) {
        socket->connection->fate = HTTP_FATE_CLOSE;
        return;
    }
    entry->len = message->msg_length;
    if (entry->len) memcpy(entry->text, message->msg, entry->len);
    cal_list_push(&socket->waiting, &entry->node);
}

size_t ws_feed(ws_socket *socket, cal_slice bytes) {
    socket->in = bytes;
    int error = wslay_event_recv(socket->wslay);
    size_t taken = bytes.len - socket->in.len;
    socket->in = cal_slice_of(NULL, 0);
    if (error)
        socket->connection->fate = HTTP_FATE_CLOSE;
    else
        flush(socket);
    /* wslay takes no more after a close frame or an error it answers with one */
    return wslay_event_get_read_enabled(socket->wslay) ? taken : bytes.len;
}

bool ws_wants_read(const ws_socket *socket) {
    return !socket->closing && socket->requests < CAL_WS_REQUESTS_MAX &&
           cal_list_empty(&socket->waiting) && !connection_congested(socket->connection);
}

void ws_done(ws_socket *socket) {
    assert(socket->requests > 0);
    socket->requests--;
    if (socket->delivering) return; /* the loop below goes on by itself */
    socket->delivering = true;
    while (socket->requests < CAL_WS_REQUESTS_MAX && !socket->closing &&
           !cal_list_empty(&socket->waiting)) {
        waiting *entry = CAL_CONTAINER_OF(cal_list_pop(&socket->waiting), waiting, node);
        deliver(socket, cal_slice_of(entry->text, entry->len));
        free(entry);
    }
    socket->delivering = false;
    http_connection *connection = socket->connection;
    if (connection->feeding) return; /* whoever feeds goes on by itself */
    connection->feeding = true;
    connection_resume(connection);
    connection->feeding = false;
    connection_wake(connection);
}

void ws_reply(ws_socket *socket, cal_slice text) {
    send_frame(socket, WSLAY_TEXT_FRAME, text);
    ws_done(socket);
}

bool ws_push(ws_socket *socket, cal_slice text) {
    http_connection *connection = socket->connection;
    if (connection->out_events >= CAL_WS_QUEUE_MAX) return false;
    if (text.len > (OUT_MAX - connection->out.len) / 2) return false;
    connection->out_events++;
    send_frame(socket, WSLAY_TEXT_FRAME, text);
    return true;
}

void ws_close(ws_socket *socket, int code, const char *reason) {
    if (socket->closing || socket->connection->fate != HTTP_FATE_OPEN) return;
    if (wslay_event_queue_close(socket->wslay, (uint16_t)code, (const uint8_t *)reason,
                                strlen(reason)) != 0)
        socket->connection->fate = HTTP_FATE_CLOSE;
    else
        flush(socket);
}

void ws_stop(ws_socket *socket) { ws_close(socket, WS_CLOSE_GOING_AWAY, "node is stopping"); }

/* --- keep-alive --- */

static void schedule_ping(ws_socket *socket, uint64_t now_ms) {
    uint32_t interval = socket->connection->env->ws_ping_interval_ms;
    socket->ping_at_ms = interval ? now_ms + interval : UINT64_MAX;
}

uint64_t ws_deadline_ms(const ws_socket *socket) {
    return socket->ping_at_ms < socket->pong_by_ms ? socket->ping_at_ms : socket->pong_by_ms;
}

void ws_expire(ws_socket *socket, uint64_t now_ms) {
    if (now_ms >= socket->pong_by_ms) {
        ws_close(socket, WS_CLOSE_PROTOCOL, "Ping timeout");
        return;
    }
    if (now_ms < socket->ping_at_ms) return;
    schedule_ping(socket, now_ms);
    if (socket->pong_by_ms == UINT64_MAX)
        socket->pong_by_ms = now_ms + socket->connection->env->ws_pong_timeout_ms;
    send_frame(socket, WSLAY_PING, cal_slice_of(NULL, 0));
}

/* --- life --- */

static const char *upgrade_fault(const http_exchange *exchange) {
    const char *key = http_header(exchange, "sec-websocket-key");
    const char *version = http_header(exchange, "sec-websocket-version");
    if (exchange->http_1_0) return "HTTP version must be at least 1.1";
    if (!exchange->upgrade)
        return "Connection header did not include 'upgrade' or Upgrade header 'websocket'";
    if (!version || strcmp(version, "13") != 0)
        return "Sec-WebSocket-Version header did not include '13'";
    if (!key || strlen(key) != KEY_TEXT_LEN)
        return "Sec-WebSocket-Key header missing or not 16 bytes in base64";
    return NULL;
}

static void set_accept_header(http_exchange *exchange) {
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* RFC 6455, 1.3 */
    char joined[KEY_TEXT_LEN + sizeof guid];
    uint8_t digest[SHA1_SIZE];
    cal_buffer accept;
    cal_buffer_init(&accept, ACCEPT_TEXT_MAX);
    memcpy(joined, http_header(exchange, "sec-websocket-key"), KEY_TEXT_LEN);
    memcpy(joined + KEY_TEXT_LEN, guid, sizeof guid);
    cal_sha1(cal_slice_of(joined, sizeof joined - 1), digest);
    cal_base64_encode(CAL_BASE64_PADDED, cal_slice_of(digest, sizeof digest), &accept);
    const char *text = cal_buffer_cstr(&accept);
    if (text) http_set_header(exchange, "sec-websocket-accept", text);
    cal_buffer_deinit(&accept);
}

static ws_socket *socket_new(http_connection *connection, const ws_callbacks *callbacks,
                             void *user) {
    static const struct wslay_event_callbacks table = {
        .recv_callback = on_recv, .send_callback = on_send, .on_msg_recv_callback = on_message};
    ws_socket *socket = calloc(1, sizeof *socket);
    if (!socket) return NULL;
    if (wslay_event_context_server_init(&socket->wslay, &table, socket) != 0) {
        free(socket);
        return NULL;
    }
    wslay_event_config_set_max_recv_msg_length(socket->wslay, CAL_WS_MESSAGE_MAX);
    socket->connection = connection;
    socket->callbacks = callbacks;
    socket->user = user;
    socket->pong_by_ms = UINT64_MAX;
    cal_list_init(&socket->waiting);
    schedule_ping(socket, connection_now_ms(connection));
    return socket;
}

ws_socket *ws_accept(http_exchange *exchange, const ws_callbacks *callbacks, void *user) {
    http_connection *connection = exchange->connection;
    const char *fault = upgrade_fault(exchange);
    if (fault || !connection || !exchange->complete) {
        char text[UPGRADE_REFUSED_MAX] = "Invalid WebSocket upgrade request: ";
        strncat(text, fault ? fault : "the client is gone", sizeof text - strlen(text) - 1);
        http_reply_text(exchange, 400, text);
        return NULL;
    }
    ws_socket *socket = socket_new(connection, callbacks, user);
    if (!socket) {
        http_reply_empty(exchange, 503);
        return NULL;
    }
    http_set_header(exchange, "connection", "upgrade");
    http_set_header(exchange, "upgrade", "websocket");
    set_accept_header(exchange);
    exchange->keep_alive = true;
    http_begin(exchange, 101, NULL, -1);
    connection->ws = socket;
    http_end(exchange);
    return socket;
}

void ws_free(ws_socket *socket) {
    if (!socket) return;
    socket->closing = true;
    socket->callbacks->closed(socket);
    for (cal_list *node; (node = cal_list_pop(&socket->waiting));)
        free(CAL_CONTAINER_OF(node, waiting, node));
    wslay_event_context_free(socket->wslay);
    free(socket);
}
