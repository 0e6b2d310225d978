/* One HTTP/1.1 connection as a filter: bytes in, bytes out, deadlines; no socket, no clock of its
 * own.
 *
 * feed() takes what the client sent and runs handlers; drain() hands over what is to be sent;
 * expire() acts on a deadline that has passed. One request is worked on at a time; the ones a
 * client pipelines behind it wait unparsed, and no more is read meanwhile, so a client can make us
 * hold at most one read of its bytes. Parsing is llhttp's, WebSocket frames wslay's.
 *
 * Invariants: a connection has at most one exchange; `pending` holds bytes only while the
 * connection does not want to read; nothing is fed to the parser after the connection started
 * closing. Loop thread only. Specification: http-api.md 1. */
#ifndef CAL_API_CONNECTION_H
#define CAL_API_CONNECTION_H

#include "api/http.h"
#include "api/policy.h"

typedef struct http_connection http_connection;

typedef struct http_timeouts { /* milliseconds */
    uint32_t idle;             /* between requests */
    uint32_t headers;          /* from the first byte of a request to the end of its headers */
    uint32_t body;             /* for a whole body; for a streamed one between two reads */
    uint32_t write;            /* without the client taking anything of what waits for it */
    uint32_t linger;           /* after our last byte, for the client to read it */
} http_timeouts;

extern const http_timeouts http_timeouts_default;

/* What all connections of one server share. Filled in by the owner before the first connection, who
 * also keeps `date`. */
typedef struct http_env {
    const http_route *routes; /* in order of precedence */
    size_t route_count;
    const char *prefix; /* "" or "/name" */
    http_policy policy;
    http_timeouts timeouts;
    uint32_t ws_ping_interval_ms; /* 0: no pings */
    uint32_t ws_pong_timeout_ms;
    char date[32];                          /* IMF-fixdate for the Date header; "" leaves it out */
    uint64_t (*clock_us)(void *clock_user); /* monotonic */
    void *clock_user;
    void *user; /* http_user */
    /* Told of each answered request; route NULL when none matched. May be NULL. */
    void (*answered)(void *user, const http_route *route, http_verb verb, int status,
                     uint64_t duration_us);
    size_t unanswered; /* exchanges that a handler has and did not answer yet: the env must live */
} http_env;

typedef enum http_fate {
    HTTP_FATE_OPEN,
    HTTP_FATE_FINISH, /* send what is drained, then end our side and wait for the client's end or
                         the deadline */
    HTTP_FATE_CLOSE,  /* close now */
} http_fate;

/* wake: something happened outside feed, eof, drained and expire; drain and ask wants_read and fate
 * again. NULL: memory. */
http_connection *http_connection_new(http_env *env, void (*wake)(void *owner), void *owner);
void http_connection_free(http_connection *connection); /* the client is gone; NULL allowed */

void http_connection_feed(http_connection *connection, cal_slice bytes);
void http_connection_eof(http_connection *connection);

/* Takes all that waits to be sent, if nothing taken before is still on its way. The caller frees
 * the bytes with free() and calls drained() when the client has them. */
bool http_connection_drain(http_connection *connection, uint8_t **ret_bytes, size_t *ret_len);
void http_connection_drained(http_connection *connection);

bool http_connection_wants_read(const http_connection *connection);
http_fate http_connection_fate(const http_connection *connection);
uint64_t http_connection_deadline_ms(
    const http_connection *connection); /* of the env's clock; UINT64_MAX: none */
void http_connection_expire(http_connection *connection);

/* Finish what is being answered, take nothing new, then close. */
void http_connection_stop(http_connection *connection);
bool http_connection_idle(const http_connection *connection);

#endif
