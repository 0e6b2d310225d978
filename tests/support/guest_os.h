/* The clock and randomness of the recordings (tests/vectors/README.md), and a monotonic clock that
 * may leap: only what a guest reaches of an os table. Any thread for mono_ns, one thread for the
 * rest. */
#ifndef CAL_TESTS_GUEST_OS_H
#define CAL_TESTS_GUEST_OS_H

#include <stdatomic.h>

#include "crypto/crypto.h"
#include "os/os.h"

typedef struct guest_os {
    cal_os os;
    uint64_t t0, wall_reads; /* the n-th read, from 1, is t0 + 1000 n */
    uint64_t random_counter; /* the stream is SHA-256("rnd" || u64le(counter)), counter from 1 */
    uint8_t random_block[32];
    size_t random_left;
    atomic_ullong mono;
    uint64_t mono_step; /* added at each read */
} guest_os;

static inline uint64_t guest_os_wall(void *user) {
    guest_os *os = user;
    return os->t0 + 1000 * ++os->wall_reads;
}

static inline uint64_t guest_os_mono(void *user) {
    guest_os *os = user;
    return atomic_fetch_add(&os->mono, os->mono_step);
}

static inline void guest_os_random(void *user, void *ret_bytes, size_t len) {
    guest_os *os = user;
    uint8_t *out = ret_bytes;
    while (len > 0) {
        if (os->random_left == 0) {
            uint8_t seed[11] = "rnd";
            cal_write_u64le(seed + 3, ++os->random_counter);
            cal_sha256(cal_slice_of(seed, sizeof seed), os->random_block);
            os->random_left = sizeof os->random_block;
        }
        size_t part = len < os->random_left ? len : os->random_left;
        memcpy(out, os->random_block + sizeof os->random_block - os->random_left, part);
        os->random_left -= part;
        out += part;
        len -= part;
    }
}

static inline void guest_os_init(guest_os *os) {
    *os = (guest_os){.t0 = UINT64_C(1700000000000000000)};
    os->os = (cal_os){
        .user = os, .wall_ns = guest_os_wall, .mono_ns = guest_os_mono, .random = guest_os_random};
}

#endif
