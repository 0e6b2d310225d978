/* Requests as handlers read them, and the writing of answers. See http.h for the promises.
 *
 * Every answer carries the CORS headers of http-api.md 14 (for an origin that policy.h grants) and
 * `vary`. An answer given before the request was read to its end closes the connection after it,
 * because what follows could not be told from the next request. */
#include "api/exchange.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "calimero/error.h"

enum { ARENA_MAX = 16 * 1024 * 1024, FIELDS_MAX = 16 * 1024, CHUNK_HEAD_MAX = 24 };

const char *http_status_text(int status) {
    static const struct {
        int status;
        const char *text;
    } known[] = {
        {101, "Switching Protocols"},
        {200, "OK"},
        {400, "Bad Request"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {413, "Payload Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Entity"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {507, "Insufficient Storage"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].status == status) return known[i].text;
    return "Unknown";
}

/* --- life --- */

http_exchange *exchange_new(http_connection *connection) {
    http_exchange *exchange = calloc(1, sizeof *exchange);
    if (!exchange) return NULL;
    exchange->connection = connection;
    exchange->env = connection->env;
    exchange->started_us = connection->env->clock_us(connection->env->clock_user);
    cal_arena_init(&exchange->arena, ARENA_MAX);
    cal_buffer_init(&exchange->head, CAL_HTTP_HEADERS_MAX + 2 * HTTP_HEADER_COUNT_MAX + 2);
    cal_buffer_init(&exchange->body, CAL_HTTP_BODY_MAX);
    cal_buffer_init(&exchange->fields, FIELDS_MAX);
    return exchange;
}

void exchange_free(http_exchange *exchange) {
    if (!exchange) return;
    cal_arena_deinit(&exchange->arena);
    cal_buffer_deinit(&exchange->head);
    cal_buffer_deinit(&exchange->body);
    cal_buffer_deinit(&exchange->fields);
    free(exchange);
}

/* A client that knows the length sends its next request as soon as it has the last byte of an
 * answer, which may be before the answer has ended here: then nothing is left to be sent, and
 * nothing but this would go on with what came. */
static void go_on(http_connection *connection) {
    if (!connection->feeding) {
        connection->feeding = true;
        connection_resume(connection);
        connection->feeding = false;
    }
    connection_wake(connection);
}

void exchange_answered(http_exchange *exchange) {
    http_connection *connection = exchange->connection;
    assert(exchange->phase != PHASE_ANSWERED);
    exchange->phase = PHASE_ANSWERED;
    if (exchange->handled) exchange->env->unanswered--;
    if (!connection) {
        exchange_free(exchange);
        return;
    }
    http_env *env = connection->env;
    if (env->answered && exchange->status)
        env->answered(env->user, exchange->target.route, exchange->verb, exchange->status,
                      env->clock_us(env->clock_user) - exchange->started_us);
    bool close = !exchange->complete || !exchange->keep_alive || connection->stopping ||
                 (connection->eof && connection->pending.len == 0);
    if (exchange->complete) {
        connection->exchange = NULL;
        exchange_free(exchange);
    }
    if (close) connection_finish(connection);
    connection->paused = false;
    connection->since_ms = connection_now_ms(connection);
    go_on(connection);
}

/* --- the request --- */

void *http_user(const http_exchange *exchange) { return exchange->env->user; }
bool http_is_head(const http_exchange *exchange) { return exchange->head_only; }
bool http_client_gone(const http_exchange *exchange) { return !exchange->connection; }
cal_arena *http_arena(http_exchange *exchange) { return &exchange->arena; }
cal_slice http_body(const http_exchange *exchange) { return cal_buffer_slice(&exchange->body); }
void http_set_user(http_exchange *exchange, void *user) { exchange->handler_user = user; }
void *http_get_user(const http_exchange *exchange) { return exchange->handler_user; }
void http_set_sink(http_exchange *exchange, const http_sink *sink) { exchange->sink = sink; }

static const char *pair_of(const router_pair *pairs, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(pairs[i].name, name) == 0) return pairs[i].value;
    return NULL;
}

const char *http_param(const http_exchange *exchange, const char *name) {
    return pair_of(exchange->target.params, exchange->target.param_count, name);
}

const char *http_query(const http_exchange *exchange, const char *name) {
    return pair_of(exchange->target.query, exchange->target.query_count, name);
}

const char *http_header(const http_exchange *exchange, const char *name) {
    const char *head = (const char *)exchange->head.data;
    for (size_t i = 0; i < exchange->header_count; i++)
        if (strcasecmp(head + exchange->headers[i].name, name) == 0)
            return head + exchange->headers[i].value;
    return NULL;
}

void http_pause_body(http_exchange *exchange, bool paused) {
    http_connection *connection = exchange->connection;
    if (!connection || connection->paused == paused) return;
    connection->paused = paused;
    connection->since_ms = connection_now_ms(connection);
    connection_wake(connection);
}

/* --- the answer --- */

void http_set_header(http_exchange *exchange, const char *name, const char *value) {
    assert(!strpbrk(value, "\r\n"));
    cal_buffer_printf(&exchange->fields, "%s: %s\r\n", name, value);
}

static void write_cors(http_exchange *exchange, cal_buffer *out) {
    cal_buffer_append_text(
        out, "vary: origin, access-control-request-method, access-control-request-headers\r\n");
    const char *origin = http_header(exchange, "origin");
    if (!exchange->origin_granted || !origin) return;
    cal_buffer_printf(out, "access-control-allow-origin: %s\r\n", origin);
    if (!exchange->preflight) {
        cal_buffer_append_text(
            out, "access-control-expose-headers: x-auth-error,x-auth-user,x-auth-permissions\r\n");
        return;
    }
    cal_buffer_append_text(out, "access-control-allow-methods: POST,GET,DELETE,PUT,OPTIONS\r\n"
                                "access-control-allow-headers: *\r\n");
    const char *private_network = http_header(exchange, "access-control-request-private-network");
    if (private_network && strcasecmp(private_network, "true") == 0)
        cal_buffer_append_text(out, "access-control-allow-private-network: true\r\n");
}

/* length < 0: unknown. */
static void write_head(http_exchange *exchange, int status, const char *content_type,
                       int64_t length) {
    http_connection *connection = exchange->connection;
    cal_buffer *out = &connection->out;
    exchange->status = status;
    cal_buffer_printf(out, "HTTP/1.1 %d %s\r\n", status, http_status_text(status));
    if (content_type) cal_buffer_printf(out, "content-type: %s\r\n", content_type);
    write_cors(exchange, out);
    cal_buffer_append_slice(out, cal_buffer_slice(&exchange->fields));
    if (length >= 0) cal_buffer_printf(out, "content-length: %lld\r\n", (long long)length);
    exchange->chunked = length < 0 && !exchange->http_1_0 && status != 101;
    if (exchange->chunked) cal_buffer_append_text(out, "transfer-encoding: chunked\r\n");
    if (length < 0 && exchange->http_1_0) exchange->keep_alive = false;
    if (status != 101 && (!exchange->keep_alive || !exchange->complete || connection->stopping))
        cal_buffer_append_text(out, "connection: close\r\n");
    else if (exchange->http_1_0)
        cal_buffer_append_text(out, "connection: keep-alive\r\n");
    if (connection->env->date[0]) cal_buffer_printf(out, "date: %s\r\n", connection->env->date);
    cal_buffer_append_text(out, "\r\n");
}

void http_reply(http_exchange *exchange, int status, const char *content_type, cal_slice body) {
    assert(exchange->phase == PHASE_REQUEST);
    http_connection *connection = exchange->connection;
    if (connection) {
        write_head(exchange, status, content_type, (int64_t)body.len);
        if (!exchange->head_only) cal_buffer_append_slice(&connection->out, body);
        if (connection->out.error) connection->fate = HTTP_FATE_CLOSE;
    }
    exchange_answered(exchange);
}

void http_reply_text(http_exchange *exchange, int status, const char *text) {
    http_reply(exchange, status, "text/plain; charset=utf-8", cal_slice_text(text));
}

void http_reply_empty(http_exchange *exchange, int status) {
    http_reply(exchange, status, NULL, cal_slice_of(NULL, 0));
}

void http_begin(http_exchange *exchange, int status, const char *content_type, int64_t length) {
    assert(exchange->phase == PHASE_REQUEST);
    exchange->phase = PHASE_STREAM;
    if (!exchange->connection) return;
    write_head(exchange, status, content_type, length);
    connection_wake(exchange->connection);
}

static void append_piece(http_exchange *exchange, cal_slice bytes) {
    cal_buffer *out = &exchange->connection->out;
    if (exchange->chunked) cal_buffer_printf(out, "%zx\r\n", bytes.len);
    cal_buffer_append_slice(out, bytes);
    if (exchange->chunked) cal_buffer_append_text(out, "\r\n");
    if (out->error) exchange->connection->fate = HTTP_FATE_CLOSE;
}

bool http_write(http_exchange *exchange, cal_slice bytes) {
    assert(exchange->phase == PHASE_STREAM);
    http_connection *connection = exchange->connection;
    if (!connection || exchange->head_only) return true;
    if (bytes.len) append_piece(exchange, bytes);
    bool room = !connection_congested(connection);
    exchange->waits_writable = !room;
    connection_wake(connection);
    return room;
}

bool http_write_event(http_exchange *exchange, cal_slice bytes) {
    assert(exchange->phase == PHASE_STREAM);
    http_connection *connection = exchange->connection;
    if (!connection || exchange->head_only) return true;
    if (connection->out_events >= CAL_WS_QUEUE_MAX) return false;
    if (bytes.len + CHUNK_HEAD_MAX > OUT_MAX - connection->out.len) return false;
    connection->out_events++;
    append_piece(exchange, bytes);
    connection_wake(connection);
    return true;
}

void http_end(http_exchange *exchange) {
    assert(exchange->phase == PHASE_STREAM);
    if (exchange->connection && exchange->chunked && !exchange->head_only)
        cal_buffer_append_text(&exchange->connection->out, "0\r\n\r\n");
    exchange_answered(exchange);
}

void http_abort(http_exchange *exchange) {
    if (exchange->connection) exchange->connection->fate = HTTP_FATE_CLOSE;
    exchange_answered(exchange);
}

void exchange_refuse(http_exchange *exchange, const http_refusal *refusal) {
    if (refusal->status == 405) {
        static const struct {
            http_verb verb;
            const char *text;
        } verbs[] = {{HTTP_VERB_GET, "GET,HEAD"},
                     {HTTP_VERB_POST, "POST"},
                     {HTTP_VERB_PUT, "PUT"},
                     {HTTP_VERB_DELETE, "DELETE"}};
        char allow[32] = "";
        for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
            if (!(exchange->target.verbs & (unsigned)verbs[i].verb)) continue;
            if (allow[0]) strcat(allow, ",");
            strcat(allow, verbs[i].text);
        }
        http_set_header(exchange, "allow", allow);
    }
    http_reply(exchange, refusal->status, refusal->content_type,
               cal_slice_text(refusal->body ? refusal->body : ""));
}

/* --- callbacks --- */

void http_on_close(http_exchange *exchange, void (*callback)(http_exchange *)) {
    exchange->on_close = callback;
}
void http_on_writable(http_exchange *exchange, void (*callback)(http_exchange *)) {
    exchange->on_writable = callback;
}

void http_on_tick(http_exchange *exchange, uint32_t interval_ms,
                  void (*callback)(http_exchange *)) {
    exchange->on_tick = callback;
    exchange->tick_interval_ms = interval_ms;
    if (exchange->connection)
        exchange->tick_at_ms = connection_now_ms(exchange->connection) + interval_ms;
}
