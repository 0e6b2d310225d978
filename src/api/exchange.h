/* The insides that connection.c (reading), exchange.c (answering) and ws.c (frames) share. Not for
 * handlers. */
#ifndef CAL_API_EXCHANGE_H
#define CAL_API_EXCHANGE_H

#include <llhttp.h>

#include "api/connection.h"
#include "api/router.h"
#include "base/buffer.h"
#include "base/limits.h"

enum {
    OUT_HIGH_WATER =
        256 * 1024, /* more than this waiting: writers hold back and the client is not read */
    OUT_MAX = 64 * 1024 * 1024, /* what a single answer may need at most */
    READ_MAX = 64 * 1024,       /* the most that one feed should bring */
};

typedef struct ws_socket ws_socket;

/* A fixed answer given without a handler. */
typedef struct http_refusal {
    int status;
    const char *content_type; /* NULL: empty body */
    const char *body;
} http_refusal;

typedef enum exchange_phase {
    PHASE_REQUEST,  /* not answered */
    PHASE_STREAM,   /* http_begin was called */
    PHASE_ANSWERED, /* the handler is done with it */
} exchange_phase;

struct http_exchange {
    http_connection *connection; /* NULL: the client is gone */
    http_env *env;
    cal_arena arena;
    cal_buffer head;   /* the target, then names and values, each with a NUL behind */
    cal_buffer body;   /* HTTP_BODY_WHOLE */
    cal_buffer fields; /* header lines set by the handler */
    struct {
        uint32_t name, value;
    } headers[HTTP_HEADER_COUNT_MAX]; /* offsets into head */
    size_t header_count;
    uint32_t value_at; /* where the value being read starts; 0 while a name is read */
    router_target target;
    const http_sink *sink;
    void *handler_user;
    void (*on_close)(http_exchange *exchange);
    void (*on_writable)(http_exchange *exchange);
    void (*on_tick)(http_exchange *exchange);
    uint32_t tick_interval_ms;
    uint64_t tick_at_ms;
    uint64_t started_us;
    uint64_t body_len; /* bytes of body that came so far */
    exchange_phase phase;
    http_verb verb;             /* of the route; 0 when none of ours */
    int status;                 /* sent, for the metrics */
    const http_refusal *refuse; /* what the request is answered with once its body is thrown away;
                                   NULL: a handler runs */
    bool head_only;             /* HEAD */
    bool preflight;             /* OPTIONS */
    bool http_1_0;
    bool chunked;    /* the answer */
    bool handled;    /* the handler was called */
    bool complete;   /* the request was read to its end */
    bool keep_alive; /* as the client asked */
    bool origin_granted;
    bool waits_writable;
    bool upgrade; /* asks for a WebSocket in due form */
};

struct http_connection {
    http_env *env;
    void (*wake)(void *owner);
    void *owner;
    llhttp_t parser;
    http_exchange *exchange; /* being read or answered */
    ws_socket *ws;           /* after an upgrade */
    cal_buffer pending;      /* unparsed bytes behind the request being answered */
    cal_buffer out;
    uint64_t since_ms;   /* when the present wait began: for a request, its headers, or its body */
    uint64_t taken_ms;   /* when bytes were last taken or delivered */
    uint32_t out_events; /* http_write_event and ws pushes in `out` */
    http_fate fate;
    bool feeding;   /* inside feed, eof, expire or drained: no wake */
    bool in_flight; /* drained, and not yet delivered */
    bool paused;    /* a streaming handler holds back */
    bool stopping;  /* close after the present answer */
    bool eof;       /* the client sends no more */
    bool reading_headers;
};

uint64_t connection_now_ms(const http_connection *connection);
void connection_wake(http_connection *connection);
void connection_finish(
    http_connection *connection); /* send what waits, then end; drops further input */
void connection_resume(http_connection *connection); /* parse what is pending, when possible */
bool connection_congested(const http_connection *connection);

http_exchange *exchange_new(http_connection *connection);
void exchange_free(http_exchange *exchange);
/* The handler is done and the answer is written: frees the exchange, or lets the connection do so
 * when the request is still being read. */
void exchange_answered(http_exchange *exchange);
void exchange_refuse(http_exchange *exchange, const http_refusal *refusal);

size_t ws_feed(ws_socket *socket,
               cal_slice bytes); /* how many were taken: all, unless too much is being worked on */
void ws_free(ws_socket *socket);
void ws_stop(ws_socket *socket);
void ws_expire(ws_socket *socket, uint64_t now_ms);
uint64_t ws_deadline_ms(const ws_socket *socket);
bool ws_wants_read(const ws_socket *socket);

const char *http_status_text(int status);

#endif
