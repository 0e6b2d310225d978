/* Who may talk to an API that has no authentication yet: programs on this machine, and the web
 * pages they serve.
 *
 * A web page anywhere can make its reader's browser send requests to 127.0.0.1. Two facts tell such
 * requests apart: the Host header (a rebound DNS name is not a loopback name) and the Origin
 * header. So the API answers loopback Host names only, refuses requests that carry an Origin it
 * does not know, and names the origin it grants, never `*`.
 *
 * Specification: http-api.md 1 and 14, made stricter by the project's own rule. Pure functions, any
 * thread. */
#ifndef CAL_API_POLICY_H
#define CAL_API_POLICY_H

#include "base/bytes.h"

typedef struct http_policy {
    const char *const *allowed_origins; /* besides loopback ones */
    size_t allowed_origin_count;
    bool any_host; /* allow_unauthenticated: the operator answers for who can reach the API */
} http_policy;

/* The value of a Host header: a loopback name or address, with or without a port. */
bool policy_host_is_loopback(cal_slice host);
bool policy_host_allowed(const http_policy *policy, cal_slice host);
bool policy_origin_allowed(const http_policy *policy, cal_slice origin);

/* An IP address as text, without brackets. */
bool policy_address_is_loopback(const char *address);

#endif
