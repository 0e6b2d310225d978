/* HTTP as handlers see it: a table of routes, one exchange for each request, and answers whole or
 * streamed.
 *
 * Nothing here knows a socket or a clock. A connection (connection.h) turns bytes into exchanges
 * and answers into bytes; the listener (listener.h) moves those bytes over libuv. So all of it runs
 * in a test or a simulator as well.
 *
 * Life of an exchange: the connection calls the route's handler once. The handler answers exactly
 * once, now or later on the loop thread: http_reply*, or http_begin .. http_end. After that call
 * the exchange is gone for the handler. When the client leaves first, on_close is called; the
 * exchange stays valid until the handler has answered, and what it answers goes nowhere.
 *
 * Loop thread only. Specification: http-api.md 1, 3. */
#ifndef CAL_API_HTTP_H
#define CAL_API_HTTP_H

#include "base/arena.h"
#include "base/bytes.h"

enum {
    HTTP_PARAMS_MAX = 4,
    HTTP_QUERY_MAX = 16,         /* pairs of a query string; more is a 400 */
    HTTP_HEADER_COUNT_MAX = 100, /* more is a 431 */
    HTTP_URL_MAX = 16 * 1024,    /* longer is a 414 */
    HTTP_STATUS_CLASSES = 6,     /* status / 100 */
};

typedef enum http_verb {
    HTTP_VERB_GET = 1,
    HTTP_VERB_POST = 2,
    HTTP_VERB_PUT = 4,
    HTTP_VERB_DELETE = 8
} http_verb;

typedef enum http_body_mode {
    HTTP_BODY_NONE,    /* the handler runs when the body, if any, has been read and thrown away */
    HTTP_BODY_WHOLE,   /* the handler runs with the whole body, at most CAL_HTTP_BODY_MAX */
    HTTP_BODY_CHECKED, /* the same; a larger one is a 400 with JSON instead of a 413 with text, as
                          the reference's validated handlers have it */
    HTTP_BODY_STREAM,  /* the handler runs after the headers and sets a sink */
} http_body_mode;

typedef struct http_exchange http_exchange;

typedef void (*http_handler)(http_exchange *exchange);

/* One row of the table. Rows whose patterns overlap stand in order of precedence, literal before
 * parameter; rows of one pattern stand together. A GET row answers HEAD as well. */
typedef struct http_route {
    http_verb verb;
    const char *pattern; /* "/a/:name/b": a segment that starts with ':' is a parameter */
    http_body_mode body;
    http_handler handle;
    bool prefixed; /* NODE_PATH_PREFIX goes in front */
} http_route;

/* --- the request --- Texts are NUL-terminated, decoded, valid UTF-8, and live as long as the
 * exchange. */
void *http_user(const http_exchange *exchange); /* what the environment was given */
bool http_is_head(const http_exchange *exchange);
const char *http_param(const http_exchange *exchange,
                       const char *name); /* NULL: the pattern has none */
const char *http_query(const http_exchange *exchange, const char *name); /* NULL: absent */
const char *http_header(const http_exchange *exchange,
                        const char *name);          /* NULL: absent; the first one; raw bytes */
cal_slice http_body(const http_exchange *exchange); /* HTTP_BODY_WHOLE */
cal_arena *http_arena(http_exchange *exchange);

/* --- a streamed request body --- */
typedef struct http_sink {
    void (*data)(http_exchange *exchange, cal_slice bytes); /* valid during the call */
    void (*end)(http_exchange *exchange);                   /* the whole body was passed to data */
} http_sink;
void http_set_sink(http_exchange *exchange, const http_sink *sink); /* static storage */
/* While paused no more is read from the client; what the last read brought (64 KiB at most) is
 * still delivered. */
void http_pause_body(http_exchange *exchange, bool paused);

/* --- the answer --- */
void http_set_header(http_exchange *exchange, const char *name,
                     const char *value); /* before reply or begin; copied */
void http_reply(http_exchange *exchange, int status, const char *content_type, cal_slice body);
void http_reply_text(http_exchange *exchange, int status, const char *text);
void http_reply_empty(http_exchange *exchange, int status);

/* Streamed. length -1: unknown. A HEAD request gets the headers alone; its writes are dropped. */
void http_begin(http_exchange *exchange, int status, const char *content_type, int64_t length);
/* false: more than enough is waiting for the client; hold back until on_writable. Empty writes are
 * allowed. */
bool http_write(http_exchange *exchange, cal_slice bytes);
void http_end(http_exchange *exchange);
/* The rest cannot be had: cuts the connection, so that the client does not take the part for the
 * whole. */
void http_abort(http_exchange *exchange);

/* Writes one event of an endless stream, unless CAL_WS_QUEUE_MAX already wait for a slow client:
 * then false. */
bool http_write_event(http_exchange *exchange, cal_slice bytes);

/* --- what may happen meanwhile --- A callback of NULL unsets. */
void http_set_user(http_exchange *exchange, void *user); /* the handler's own */
void *http_get_user(const http_exchange *exchange);
void http_on_close(http_exchange *exchange,
                   void (*callback)(http_exchange *exchange)); /* the client is gone */
void http_on_writable(http_exchange *exchange, void (*callback)(http_exchange *exchange));
void http_on_tick(http_exchange *exchange, uint32_t interval_ms,
                  void (*callback)(http_exchange *exchange));
bool http_client_gone(const http_exchange *exchange);

#endif
