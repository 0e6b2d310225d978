/* How often something may be done: so many times a second, and `burst` times at once after a pause.
 * A rate is one number, the time at which all that was taken is earned again. */
#ifndef CAL_NET_RATE_H
#define CAL_NET_RATE_H

#include <stdbool.h>
#include <stdint.h>

#define NET_RATE_SECOND UINT64_C(1000000000)

/* Starts zeroed. */
typedef struct net_rate {
    uint64_t even_ns;
} net_rate;

/* Takes `count` whether they are there or not; returns how long ago they should have been earned
 * at the latest: 0 when they were there. */
static inline uint64_t net_rate_owe(net_rate *rate, uint32_t per_s, uint32_t burst, uint64_t count,
                                    uint64_t now_ns) {
    uint64_t each = NET_RATE_SECOND / per_s, least = now_ns + burst * each;
    if (rate->even_ns < now_ns) rate->even_ns = now_ns;
    rate->even_ns += count * each;
    return rate->even_ns > least ? rate->even_ns - least : 0;
}

/* Takes one when there is one. */
static inline bool net_rate_take(net_rate *rate, uint32_t per_s, uint32_t burst, uint64_t now_ns) {
    net_rate after = *rate;
    if (net_rate_owe(&after, per_s, burst, 1, now_ns)) return false;
    *rate = after;
    return true;
}

#endif
