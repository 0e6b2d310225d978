/* A WebSocket on a connection that was upgraded: whole text messages in and out, keep-alive,
 * limits. Framing is wslay's.
 *
 * Each message is a request that the user works on and answers with ws_reply; while
 * CAL_WS_REQUESTS_MAX are being worked on, the next ones wait and the client is not read. A push to
 * a client that does not keep up is dropped when CAL_WS_QUEUE_MAX wait already. Binary messages are
 * ignored. Loop thread only. Specification: http-api.md 7. */
#ifndef CAL_API_WS_H
#define CAL_API_WS_H

#include "api/http.h"

typedef struct ws_socket ws_socket;

typedef struct ws_callbacks {
    void (*message)(
        ws_socket *socket,
        cal_slice text); /* UTF-8; valid during the call; end it with ws_reply or ws_done */
    void (*closed)(ws_socket *socket); /* the last call; the socket is freed after it */
} ws_callbacks;

enum { WS_CLOSE_GOING_AWAY = 1001, WS_CLOSE_PROTOCOL = 1002 };

/* Answers the exchange: with 101, returning the socket, or with 400 text, returning NULL.
 * callbacks: static storage. */
ws_socket *ws_accept(http_exchange *exchange, const ws_callbacks *callbacks, void *user);
void *ws_user(const ws_socket *socket);

void ws_reply(ws_socket *socket, cal_slice text); /* also ends the work on one message */
void ws_done(ws_socket *socket);                  /* ends the work on one message without a reply */
bool ws_push(ws_socket *socket, cal_slice text);  /* false: dropped */
void ws_close(ws_socket *socket, int code, const char *reason);

#endif
