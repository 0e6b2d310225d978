/* The reading half of a connection and its deadlines, see connection.h. Answers are written in
 * exchange.c. */
#include "api/exchange.h"

#include <assert.h>
#include <stdlib.h>
#include <strings.h>

#include "calimero/error.h"

enum { US_PER_MS = 1000, PENDING_MAX = 2 * READ_MAX };

const http_timeouts http_timeouts_default = {
    .idle = 75000, .headers = 15000, .body = 60000, .write = 120000, .linger = 2000};

static const http_refusal BAD_REQUEST = {400, NULL, NULL}, NOT_FOUND = {404, NULL, NULL},
                          WRONG_VERB = {405, NULL, NULL}, PREFLIGHT = {200, NULL, NULL},
                          URL_TOO_LONG = {414, NULL, NULL}, EXPECTATION = {417, NULL, NULL},
                          HEADERS_TOO_LARGE = {431, NULL, NULL}, TIMED_OUT = {408, NULL, NULL},
                          NO_MEMORY = {503, NULL, NULL}, VERSION = {505, NULL, NULL};
static const http_refusal BAD_URL = {
    400, "text/plain; charset=utf-8",
    "Invalid URL: malformed percent-encoding, not UTF-8, or too many parameters"};
static const http_refusal TOO_LARGE = {413, "text/plain; charset=utf-8",
                                       "Failed to buffer the request body: length limit exceeded"};
static const http_refusal TOO_LARGE_CHECKED = {
    400, "application/json", "{\"error\":\"Failed to read request body: length limit exceeded\"}"};
static const http_refusal FOREIGN_HOST = {
    403, "application/json",
    "{\"error\":\"this API has no authentication and answers only requests addressed to this "
    "machine "
    "(Host: localhost, 127.x.x.x or [::1]); use such an address, or start the node with "
    "--allow-unauthenticated\"}"};
static const http_refusal FOREIGN_ORIGIN = {403, "application/json",
                                            "{\"error\":\"web pages of this origin may not use "
                                            "this API; add the origin to server.allowed_origins in "
                                            "config.toml\"}"};

uint64_t connection_now_ms(const http_connection *connection) {
    return connection->env->clock_us(connection->env->clock_user) / US_PER_MS;
}

void connection_wake(http_connection *connection) {
    if (!connection->feeding) connection->wake(connection->owner);
}

bool connection_congested(const http_connection *connection) {
    return connection->out.len > OUT_HIGH_WATER;
}

void connection_finish(http_connection *connection) {
    if (connection->fate != HTTP_FATE_OPEN) return;
    bool sent = !connection->in_flight && connection->out.len == 0;
    connection->fate = sent && connection->eof ? HTTP_FATE_CLOSE : HTTP_FATE_FINISH;
    connection->since_ms = connection_now_ms(connection);
    cal_buffer_deinit(&connection->pending);
}

/* --- the request's head --- */

static http_connection *of(llhttp_t *parser) { return parser->data; }

static int refuse_now(http_connection *connection, const http_refusal *refusal) {
    http_exchange *exchange = connection->exchange;
    exchange->keep_alive = false;
    exchange_refuse(exchange, refusal);
    return HPE_USER;
}

static int on_message_begin(llhttp_t *parser) {
    http_connection *connection = of(parser);
    assert(!connection->exchange);
    connection->exchange = exchange_new(connection);
    if (!connection->exchange) {
        connection->fate = HTTP_FATE_CLOSE;
        return HPE_USER;
    }
    connection->reading_headers = true;
    connection->since_ms = connection_now_ms(connection);
    return 0;
}

static int append_head(http_connection *connection, const char *at, size_t len) {
    cal_buffer *head = &connection->exchange->head;
    if (cal_buffer_append(head, at, len) == 0) return 0;
    return refuse_now(connection, head->error == CAL_ELIMIT ? &HEADERS_TOO_LARGE : &NO_MEMORY);
}

static int on_url(llhttp_t *parser, const char *at, size_t len) {
    http_connection *connection = of(parser);
    if (connection->exchange->head.len + len > HTTP_URL_MAX)
        return refuse_now(connection, &URL_TOO_LONG);
    return append_head(connection, at, len);
}

static int on_url_complete(llhttp_t *parser) { return append_head(of(parser), "", 1); }

/* Ends the value being read, without its trailing blanks. */
static int end_value(http_connection *connection) {
    http_exchange *exchange = connection->exchange;
    cal_buffer *head = &exchange->head;
    while (head->len > exchange->value_at &&
           (head->data[head->len - 1] == ' ' || head->data[head->len - 1] == '\t'))
        head->len--;
    exchange->headers[exchange->header_count++].value = exchange->value_at;
    exchange->value_at = 0;
    return append_head(connection, "", 1);
}

static int on_header_field(llhttp_t *parser, const char *at, size_t len) {
    http_connection *connection = of(parser);
    http_exchange *exchange = connection->exchange;
    if (!connection->reading_headers) return 0; /* trailers are read and forgotten */
    if (exchange->value_at && end_value(connection) != 0) return HPE_USER;
    if (exchange->header_count == HTTP_HEADER_COUNT_MAX)
        return refuse_now(connection, &HEADERS_TOO_LARGE);
    uint32_t *name = &exchange->headers[exchange->header_count].name;
    if (*name == 0) *name = (uint32_t)exchange->head.len;
    return append_head(connection, at, len);
}

static int on_header_field_complete(llhttp_t *parser) {
    http_connection *connection = of(parser);
    if (!connection->reading_headers) return 0;
    if (append_head(connection, "", 1) != 0) return HPE_USER;
    connection->exchange->value_at = (uint32_t)connection->exchange->head.len;
    return 0;
}

static int on_header_value(llhttp_t *parser, const char *at, size_t len) {
    http_connection *connection = of(parser);
    return connection->reading_headers ? append_head(connection, at, len) : 0;
}

static int on_header_value_complete(llhttp_t *parser) {
    http_connection *connection = of(parser);
    return connection->reading_headers && connection->exchange->value_at ? end_value(connection)
                                                                         : 0;
}

static size_t count_header(const http_exchange *exchange, const char *name) {
    size_t count = 0;
    for (size_t i = 0; i < exchange->header_count; i++)
        count +=
            strcasecmp((const char *)exchange->head.data + exchange->headers[i].name, name) == 0;
    return count;
}

static unsigned verb_of(http_exchange *exchange, uint8_t method) {
    exchange->head_only = method == HTTP_HEAD;
    exchange->preflight = method == HTTP_OPTIONS;
    switch (method) {
    case HTTP_GET:
    case HTTP_HEAD:
        return HTTP_VERB_GET;
    case HTTP_POST:
        return HTTP_VERB_POST;
    case HTTP_PUT:
        return HTTP_VERB_PUT;
    case HTTP_DELETE:
        return HTTP_VERB_DELETE;
    default:
        return 0;
    }
}

/* Who asks, for what: the refusal, or NULL when a handler is to run. */
static const http_refusal *judge(http_connection *connection, cal_slice target) {
    http_exchange *exchange = connection->exchange;
    const http_env *env = connection->env;
    const char *host = http_header(exchange, "host"), *origin = http_header(exchange, "origin");
    cal_slice authority = router_authority(target);
    if (count_header(exchange, "host") != 1) return &BAD_REQUEST;
    if (!policy_host_allowed(&env->policy, cal_slice_text(host)) ||
        (authority.len && !policy_host_allowed(&env->policy, authority)))
        return &FOREIGN_HOST;
    exchange->origin_granted =
        origin && policy_origin_allowed(&env->policy, cal_slice_text(origin));
    if (origin && !exchange->origin_granted) return &FOREIGN_ORIGIN;
    if (exchange->preflight) return &PREFLIGHT;
    int error = router_resolve(env->routes, env->route_count, env->prefix, (unsigned)exchange->verb,
                               target, &exchange->arena, &exchange->target);
    if (error) return error == CAL_ENOMEM ? &NO_MEMORY : &BAD_URL;
    if (!exchange->target.route) return exchange->target.verbs ? &WRONG_VERB : &NOT_FOUND;
    return NULL;
}

static void run_handler(http_exchange *exchange) {
    exchange->handled = true;
    exchange->env->unanswered++;
    exchange->target.route->handle(exchange);
}

static const http_refusal *too_large(const http_exchange *exchange) {
    const http_route *route = exchange->target.route;
    return route && route->body == HTTP_BODY_CHECKED ? &TOO_LARGE_CHECKED : &TOO_LARGE;
}

/* Decides about the body before any of it is read. 0, or HPE_USER after an immediate answer. */
static int admit_body(http_connection *connection) {
    http_exchange *exchange = connection->exchange;
    const llhttp_t *parser = &connection->parser;
    bool has_body = (parser->flags & F_CHUNKED) || parser->content_length > 0;
    bool streams = !exchange->refuse && exchange->target.route->body == HTTP_BODY_STREAM;
    const char *expect = http_header(exchange, "expect");
    if (!has_body) return 0;
    if (expect && strcasecmp(expect, "100-continue") != 0)
        return refuse_now(connection, &EXPECTATION);
    if (exchange->refuse && (expect || parser->content_length > CAL_HTTP_BODY_MAX))
        return refuse_now(connection, exchange->refuse);
    if (!streams && !(parser->flags & F_CHUNKED) && parser->content_length > CAL_HTTP_BODY_MAX)
        return refuse_now(connection, too_large(exchange));
    if (expect && !exchange->http_1_0)
        cal_buffer_append_text(&connection->out, "HTTP/1.1 100 Continue\r\n\r\n");
    return 0;
}

static int on_headers_complete(llhttp_t *parser) {
    http_connection *connection = of(parser);
    http_exchange *exchange = connection->exchange;
    if (exchange->value_at && end_value(connection) != 0) return HPE_USER;
    connection->reading_headers = false;
    connection->since_ms = connection_now_ms(connection);
    exchange->http_1_0 = parser->http_major == 1 && parser->http_minor == 0;
    exchange->keep_alive = llhttp_should_keep_alive(parser) != 0;
    exchange->verb = (http_verb)verb_of(exchange, parser->method);
    if (parser->http_major != 1) return refuse_now(connection, &VERSION);
    exchange->refuse = judge(connection, cal_slice_text((const char *)exchange->head.data));
    const char *upgrade = http_header(exchange, "upgrade");
    exchange->upgrade = parser->upgrade && parser->method == HTTP_GET && upgrade &&
                        strcasecmp(upgrade, "websocket") == 0 && !exchange->refuse;
    parser->upgrade = exchange->upgrade;
    if (admit_body(connection) != 0) return HPE_USER;
    if (!exchange->refuse && exchange->target.route->body == HTTP_BODY_STREAM)
        run_handler(exchange);
    return connection->fate == HTTP_FATE_OPEN ? 0 : HPE_USER;
}

/* --- the request's body --- */

static int on_body(llhttp_t *parser, const char *at, size_t len) {
    http_connection *connection = of(parser);
    http_exchange *exchange = connection->exchange;
    cal_slice bytes = cal_slice_of(at, len);
    exchange->body_len += len;
    bool streams = !exchange->refuse && exchange->target.route->body == HTTP_BODY_STREAM;
    if (streams) {
        connection->since_ms = connection_now_ms(connection);
        if (exchange->sink && exchange->phase == PHASE_REQUEST)
            exchange->sink->data(exchange, bytes);
        return connection->fate == HTTP_FATE_OPEN ? 0 : HPE_USER;
    }
    if (exchange->body_len > CAL_HTTP_BODY_MAX)
        return refuse_now(connection, exchange->refuse ? exchange->refuse : too_large(exchange));
    if (exchange->refuse || exchange->target.route->body == HTTP_BODY_NONE) return 0;
    if (cal_buffer_append_slice(&exchange->body, bytes) != 0)
        return refuse_now(connection, &NO_MEMORY);
    return 0;
}

static int on_message_complete(llhttp_t *parser) {
    http_connection *connection = of(parser);
    http_exchange *exchange = connection->exchange;
    exchange->complete = true;
    if (exchange->phase == PHASE_ANSWERED)
        return HPE_USER; /* answered early: the connection is closing */
    if (exchange->refuse)
        exchange_refuse(exchange, exchange->refuse);
    else if (exchange->target.route->body != HTTP_BODY_STREAM)
        run_handler(exchange);
    else if (exchange->sink)
        exchange->sink->end(exchange);
    if (connection->fate != HTTP_FATE_OPEN) return HPE_USER;
    return connection->exchange || connection_congested(connection) ? HPE_PAUSED : 0;
}

static const llhttp_settings_t settings = {
    .on_message_begin = on_message_begin,
    .on_url = on_url,
    .on_url_complete = on_url_complete,
    .on_header_field = on_header_field,
    .on_header_field_complete = on_header_field_complete,
    .on_header_value = on_header_value,
    .on_header_value_complete = on_header_value_complete,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

/* --- bytes in --- */

static bool may_parse(const http_connection *connection) {
    if (connection->fate != HTTP_FATE_OPEN) return false;
    if (connection->ws) return ws_wants_read(connection->ws);
    bool answering = connection->exchange && connection->exchange->complete;
    return !answering && !connection_congested(connection);
}

/* Not a request: says so, if nothing was said yet, and ends. */
static void refuse_garbage(http_connection *connection) {
    http_exchange *exchange = connection->exchange;
    if (exchange && exchange->phase == PHASE_REQUEST) {
        exchange->complete = false;
        refuse_now(connection, &BAD_REQUEST);
    } else if (exchange && exchange->phase == PHASE_STREAM)
        connection->fate = HTTP_FATE_CLOSE;
    else
        connection_finish(connection);
}

static void stash(http_connection *connection, cal_slice bytes) {
    if (connection->fate != HTTP_FATE_OPEN || bytes.len == 0) return;
    if (cal_buffer_append_slice(&connection->pending, bytes) != 0)
        connection->fate = HTTP_FATE_CLOSE;
}

/* Parses as much as may be parsed now and keeps the rest. */
static void parse(http_connection *connection, cal_slice bytes) {
    while (bytes.len && may_parse(connection)) {
        if (connection->ws) {
            size_t taken = ws_feed(connection->ws, bytes);
            bytes = cal_slice_of(bytes.data + taken, bytes.len - taken);
            continue;
        }
        llhttp_t *parser = &connection->parser;
        llhttp_errno_t error = llhttp_execute(parser, (const char *)bytes.data, bytes.len);
        if (connection->fate != HTTP_FATE_OPEN || error == HPE_OK) return;
        if (error == HPE_PAUSED)
            llhttp_resume(parser);
        else if (error == HPE_PAUSED_UPGRADE)
            llhttp_resume_after_upgrade(parser);
        else {
            refuse_garbage(connection);
            return;
        }
        size_t eaten = (size_t)(llhttp_get_error_pos(parser) - (const char *)bytes.data);
        assert(eaten <= bytes.len);
        bytes = cal_slice_of(bytes.data + eaten, bytes.len - eaten);
    }
    stash(connection, bytes);
}

void connection_resume(http_connection *connection) {
    if (connection->pending.len == 0 || !may_parse(connection)) return;
    size_t len;
    uint8_t *bytes = cal_buffer_detach(&connection->pending, &len);
    parse(connection, cal_slice_of(bytes, len));
    free(bytes);
}

void http_connection_feed(http_connection *connection, cal_slice bytes) {
    if (connection->fate != HTTP_FATE_OPEN || bytes.len == 0) return;
    assert(!connection->feeding);
    connection->feeding = true;
    if (connection->pending.len)
        stash(connection, bytes);
    else
        parse(connection, bytes);
    connection_resume(connection);
    connection->feeding = false;
}

void http_connection_eof(http_connection *connection) {
    http_exchange *exchange = connection->exchange;
    connection->eof = true;
    bool answering =
        exchange && exchange->complete && exchange->phase != PHASE_ANSWERED && !exchange->on_tick;
    bool sending = connection->in_flight || connection->out.len;
    if (connection->ws || (exchange && !answering && connection->fate == HTTP_FATE_OPEN))
        connection->fate = HTTP_FATE_CLOSE;
    else if (answering || connection->pending.len)
        return; /* the last answer ends it */
    else if (!sending)
        connection->fate = HTTP_FATE_CLOSE;
    else
        connection_finish(connection);
}

/* --- bytes out --- */

bool http_connection_drain(http_connection *connection, uint8_t **ret_bytes, size_t *ret_len) {
    if (connection->in_flight || connection->out.len == 0 || connection->fate == HTTP_FATE_CLOSE)
        return false;
    *ret_bytes = cal_buffer_detach(&connection->out, ret_len);
    connection->in_flight = true;
    connection->out_events = 0;
    connection->taken_ms = connection_now_ms(connection);
    return true;
}

void http_connection_drained(http_connection *connection) {
    http_exchange *exchange = connection->exchange;
    connection->in_flight = false;
    connection->taken_ms = connection_now_ms(connection);
    if (connection->fate == HTTP_FATE_FINISH) {
        connection->since_ms = connection->taken_ms;
        if (connection->eof && connection->out.len == 0) connection->fate = HTTP_FATE_CLOSE;
    }
    if (connection->fate != HTTP_FATE_OPEN) return;
    connection->feeding = true;
    if (exchange && exchange->waits_writable && !connection_congested(connection)) {
        exchange->waits_writable = false;
        if (exchange->on_writable) exchange->on_writable(exchange);
    }
    connection_resume(connection);
    connection->feeding = false;
}

/* --- state --- */

bool http_connection_wants_read(const http_connection *connection) {
    if (connection->eof || connection->fate == HTTP_FATE_CLOSE) return false;
    if (connection->fate == HTTP_FATE_FINISH) return true; /* thrown away */
    if (connection->pending.len || connection->paused || connection_congested(connection))
        return false;
    if (connection->ws) return ws_wants_read(connection->ws);
    /* While an answer is made we read on to learn that the client left; feed keeps what comes,
     * once. */
    return true;
}

http_fate http_connection_fate(const http_connection *connection) { return connection->fate; }

bool http_connection_idle(const http_connection *connection) {
    return !connection->exchange && !connection->ws && !connection->in_flight &&
           connection->out.len == 0;
}

static uint64_t earlier(uint64_t a, uint64_t b) { return a < b ? a : b; }

uint64_t http_connection_deadline_ms(const http_connection *connection) {
    const http_timeouts *timeouts = &connection->env->timeouts;
    const http_exchange *exchange = connection->exchange;
    uint64_t at = UINT64_MAX;
    if (connection->in_flight) at = connection->taken_ms + timeouts->write;
    if (connection->fate == HTTP_FATE_FINISH)
        return connection->in_flight ? at : connection->since_ms + timeouts->linger;
    if (connection->fate == HTTP_FATE_CLOSE) return 0;
    if (connection->ws) return earlier(at, ws_deadline_ms(connection->ws));
    if (!exchange) return earlier(at, connection->since_ms + timeouts->idle);
    if (connection->reading_headers) return earlier(at, connection->since_ms + timeouts->headers);
    if (!exchange->complete && !connection->paused)
        at = earlier(at, connection->since_ms + timeouts->body);
    if (exchange->on_tick) at = earlier(at, exchange->tick_at_ms);
    return at;
}

static void expire_request(http_connection *connection, uint64_t now_ms) {
    http_exchange *exchange = connection->exchange;
    if (exchange->complete || connection->paused) return;
    uint32_t timeout = connection->reading_headers ? connection->env->timeouts.headers
                                                   : connection->env->timeouts.body;
    if (now_ms < connection->since_ms + timeout) return;
    if (exchange->phase == PHASE_REQUEST && !exchange->handled)
        refuse_now(connection, &TIMED_OUT);
    else
        connection->fate = HTTP_FATE_CLOSE;
}

void http_connection_expire(http_connection *connection) {
    uint64_t now_ms = connection_now_ms(connection);
    if (now_ms < http_connection_deadline_ms(connection)) return;
    bool stalled =
        connection->in_flight && now_ms >= connection->taken_ms + connection->env->timeouts.write;
    if (stalled || connection->fate != HTTP_FATE_OPEN) {
        connection->fate = HTTP_FATE_CLOSE;
        return;
    }
    connection->feeding = true;
    http_exchange *exchange = connection->exchange;
    if (connection->ws)
        ws_expire(connection->ws, now_ms);
    else if (!exchange)
        connection->fate = HTTP_FATE_CLOSE;
    else if (exchange->on_tick && now_ms >= exchange->tick_at_ms) {
        exchange->tick_at_ms = now_ms + exchange->tick_interval_ms;
        exchange->on_tick(exchange);
    } else
        expire_request(connection, now_ms);
    connection->feeding = false;
}

void http_connection_stop(http_connection *connection) {
    http_exchange *exchange = connection->exchange;
    connection->stopping = true;
    if (connection->fate != HTTP_FATE_OPEN) return;
    if (connection->ws)
        ws_stop(connection->ws);
    else if (exchange && !connection->reading_headers)
        return;
    else if (http_connection_idle(connection))
        connection->fate = HTTP_FATE_CLOSE;
    else
        connection_finish(connection);
}

/* --- life --- */

http_connection *http_connection_new(http_env *env, void (*wake)(void *owner), void *owner) {
    http_connection *connection = calloc(1, sizeof *connection);
    if (!connection) return NULL;
    connection->env = env;
    connection->wake = wake;
    connection->owner = owner;
    connection->since_ms = connection_now_ms(connection);
    llhttp_init(&connection->parser, HTTP_REQUEST, &settings);
    connection->parser.data = connection;
    cal_buffer_init(&connection->pending, PENDING_MAX);
    cal_buffer_init(&connection->out, OUT_MAX);
    return connection;
}

void http_connection_free(http_connection *connection) {
    if (!connection) return;
    connection->feeding = true; /* nobody to wake any more */
    http_exchange *exchange = connection->exchange;
    if (exchange) {
        exchange->connection = NULL;
        if (exchange->phase == PHASE_ANSWERED || !exchange->handled)
            exchange_free(exchange);
        else if (exchange->on_close)
            exchange->on_close(exchange);
    }
    ws_free(connection->ws);
    cal_buffer_deinit(&connection->pending);
    cal_buffer_deinit(&connection->out);
    free(connection);
}
