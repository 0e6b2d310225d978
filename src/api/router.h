/* From a request target to a row of the route table, with its parameters and query decoded.
 *
 * The first pattern that fits decides, as in the reference's router: a verb it does not have is a
 * 405 that lists the verbs of that pattern. One slash at the end is tolerated (http-api.md 1, 15).
 * Loop thread, no state. */
#ifndef CAL_API_ROUTER_H
#define CAL_API_ROUTER_H

#include "api/http.h"

typedef struct router_pair {
    const char *name, *value;
} router_pair;

typedef struct router_target {
    const http_route *route; /* the row that answers; NULL with `verbs` set: wrong verb; NULL
                                without: unknown path */
    unsigned verbs;          /* bits of http_verb that the pattern has */
    router_pair params[HTTP_PARAMS_MAX];
    size_t param_count;
    router_pair query[HTTP_QUERY_MAX];
    size_t query_count;
} router_target;

/* target: as in the request line, "/path?query" or absolute form. Names and values go to the arena.
 * 0, CAL_EDECODE when an escape is malformed or what it stands for is not text, CAL_ENOMEM. verb 0:
 * none of ours. */
int router_resolve(const http_route *routes, size_t count, const char *prefix, unsigned verb,
                   cal_slice target, cal_arena *arena, router_target *ret_target);

/* The part of an absolute-form target that names the host; empty for "/path". */
cal_slice router_authority(cal_slice target);

#endif
