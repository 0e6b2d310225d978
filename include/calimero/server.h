/* The HTTP, JSON-RPC, WebSocket and event-stream API of a node (protocol http-api.md), served from
 * the node's own loop.
 *
 * Until the API has authentication it answers only programs on this machine: it listens on loopback
 * addresses, for loopback `Host` names, and grants web pages of loopback origins and of
 * `allowed_origins`. `allow_unauthenticated` lifts the first two.
 *
 * Threads: every function may be called from any thread but not from a node's callback; they block
 * for a short time. */
#ifndef CALIMERO_SERVER_H
#define CALIMERO_SERVER_H

#include "calimero/node.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cal_server cal_server;

/* Zero-initialise, then set what differs; 0 and NULL mean the default. Everything is copied. */
typedef struct cal_server_options {
    const char *const
        *addresses; /* "/ip4/ADDRESS/tcp/PORT" or "/ip6/..."; default /ip4/127.0.0.1/tcp/2528 and
                    /ip6/::1/tcp/2528. Port 0: any free one. One that cannot be bound is left out,
                    unless it is the last. */
    size_t address_count;
    const char *const *allowed_origins; /* "https://app.example.com": web pages that may use the
                                           API, besides loopback ones */
    size_t allowed_origin_count;
    bool allow_unauthenticated; /* listen on any address and answer any host name: only where all
                                   who can reach it are trusted */
    bool read_only; /* show, and change nothing: no /jsonrpc, and 403 for every change. Set it where
                       cal_node_options.read_only is set */
    bool no_admin, no_jsonrpc, no_websocket, no_sse; /* leave a part out */
    uint32_t ping_interval_s; /* of WebSockets; default 30; UINT32_MAX: no pings */
    uint32_t pong_timeout_s;  /* default 10 */
    const char *path_prefix;  /* before /admin-api, /jsonrpc and /ws: "/node1"; default: environment
                                 NODE_PATH_PREFIX, or none */
    uint32_t connections_max; /* default 10,240; more are answered 503 */
    uint32_t stop_grace_ms;   /* for requests in flight when stopping; default 10,000 */
} cal_server_options;

/* CAL_EINVAL: a malformed address or prefix. CAL_EDENIED: not a loopback address. CAL_EBUSY,
 * CAL_EIO: the last address cannot be bound. */
int cal_server_start(cal_node *node, const cal_server_options *options, cal_server **ret_server,
                     cal_error *err);

/* Accepts no more, finishes what is being answered, closes, frees. A node that stops first closes
 * the server too; it is still to be freed by this. NULL allowed. */
void cal_server_stop(cal_server *server);

/* The addresses in use, in the form above with their real ports; NULL past the end. Valid until the
 * server is stopped. */
const char *cal_server_address(cal_server *server, size_t index);

#ifdef __cplusplus
}
#endif
#endif
