/* Sockets of the HTTP server: listens, moves bytes between libuv and connections, keeps their
 * deadlines.
 *
 * One 64 KiB read buffer serves all connections; a connection has at most one write on its way; one
 * timer ticks once a second while there are connections. Loop thread only. Specification:
 * http-api.md 1. */
#ifndef CAL_API_LISTENER_H
#define CAL_API_LISTENER_H

#include <uv.h>

#include "api/connection.h"
#include "calimero/error.h"

typedef struct api_listener api_listener;

enum { LISTENER_ADDRESSES_MAX = 16, LISTENER_ADDRESS_TEXT_MAX = 80 };

typedef struct api_listener_options {
    const char *const *addresses; /* "/ip4/A/tcp/P" or "/ip6/A/tcp/P"; port 0: any free one */
    size_t address_count;
    bool any_address;         /* not only loopback ones */
    uint32_t connections_max; /* 0: CAL_HTTP_CONNECTIONS_MAX */
} api_listener_options;

/* Binds all addresses; one that fails is logged and left out, unless it is the last one
 * (http-api.md 1). `env` outlives the listener; its date is kept here. CAL_EINVAL for a malformed
 * address, CAL_EDENIED for one that is not loopback, CAL_EBUSY or CAL_EIO when the last one cannot
 * be bound. */
int api_listener_start(uv_loop_t *loop, http_env *env, const api_listener_options *options,
                       api_listener **ret_listener, cal_error *err);

/* Accepts no more, lets requests in flight finish (grace_ms at most), closes everything, then calls
 * done; the listener is freed before that. */
void api_listener_stop(api_listener *listener, uint32_t grace_ms, void (*done)(void *user),
                       void *user);

/* The addresses in use, with their real ports. NULL past the end. */
const char *api_listener_address(const api_listener *listener, size_t index);
uint16_t api_listener_port(const api_listener *listener, size_t index);
size_t api_listener_connections(const api_listener *listener);

#endif
