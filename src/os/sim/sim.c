/* The seeded world: randomness, clocks, power, ordered failures, the network's hooks. The disk is
 * in disk.c.
 *
 * Everything is under one mutex. Randomness is xoshiro256** seeded by splitmix64: repeatable, not
 * secret; a simulated node's keys are as public as its seed. */
#include "os/sim/internal.h"

#include <stdlib.h>

#define SIM_WALL_START_NS UINT64_C(1750000000000000000)
#define SIM_MONO_START_NS UINT64_C(1000000000)

static uint64_t sim_rotate(uint64_t x, int by) { return (x << by) | (x >> (64 - by)); }

uint64_t sim_next(cal_sim *sim) {
    uint64_t *s = sim->random, result = sim_rotate(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = sim_rotate(s[3], 45);
    return result;
}

uint64_t sim_below(cal_sim *sim, uint64_t bound) { return bound ? sim_next(sim) % bound : 0; }

static void sim_seed(cal_sim *sim, uint64_t seed) {
    for (int i = 0; i < 4; i++) {
        uint64_t z = (seed += UINT64_C(0x9e3779b97f4a7c15));
        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        sim->random[i] = z ^ (z >> 31);
    }
}

int sim_begin(cal_sim *sim, int kind) {
    for (int i = 0; i < 6; i++) {
        if (kind == 1 << i) sim->counts[i]++;
    }
    if (sim->off) return CAL_EIO;
    if (sim->fail_in && (sim->fail_kinds & kind)) {
        if (sim->fail_in > 1) {
            sim->fail_in--;
        } else {
            if (sim->fail_times != UINT64_MAX && --sim->fail_times == 0) sim->fail_in = 0;
            return sim->fail_error;
        }
    }
    return 0;
}

static uint64_t sim_wall(void *user) {
    cal_sim *sim = user;
    pthread_mutex_lock(&sim->mutex);
    uint64_t now = sim->wall_ns;
    pthread_mutex_unlock(&sim->mutex);
    return now;
}

static uint64_t sim_mono(void *user) {
    cal_sim *sim = user;
    pthread_mutex_lock(&sim->mutex);
    uint64_t now = sim->mono_ns;
    pthread_mutex_unlock(&sim->mutex);
    return now;
}

static void sim_random(void *user, void *ret_bytes, size_t len) {
    cal_sim *sim = user;
    uint8_t *out = ret_bytes;
    pthread_mutex_lock(&sim->mutex);
    for (size_t at = 0; at < len; at += 8) {
        uint8_t word[8];
        cal_write_u64le(word, sim_next(sim));
        memcpy(out + at, word, len - at < 8 ? len - at : 8);
    }
    pthread_mutex_unlock(&sim->mutex);
}

static int sim_resolve(void *user, const char *host, cal_os_address *ret_addresses,
                       size_t *ret_count) {
    cal_sim *sim = user;
    return sim->resolve ? sim->resolve(sim->network_user, host, ret_addresses, ret_count)
                        : CAL_EUNREACHABLE;
}

static int sim_connect(void *user, const cal_os_address *address, uint16_t port,
                       uint32_t timeout_ms, int *ret_socket) {
    cal_sim *sim = user;
    return sim->connect ? sim->connect(sim->network_user, address, port, timeout_ms, ret_socket)
                        : CAL_EUNREACHABLE;
}

cal_sim *cal_sim_new(uint64_t seed) {
    cal_sim *sim = calloc(1, sizeof *sim);
    if (!sim) return NULL;
    sim->os.user = sim;
    sim->os.wall_ns = sim_wall;
    sim->os.mono_ns = sim_mono;
    sim->os.random = sim_random;
    sim->os.resolve = sim_resolve;
    sim->os.connect = sim_connect;
    pthread_mutex_init(&sim->mutex, NULL);
    sim_seed(sim, seed);
    sim->wall_ns = SIM_WALL_START_NS;
    sim->mono_ns = SIM_MONO_START_NS;
    sim->quota = UINT64_MAX;
    sim_disk_init(sim);
    return sim;
}

void cal_sim_free(cal_sim *sim) {
    if (!sim) return;
    sim_disk_deinit(sim);
    pthread_mutex_destroy(&sim->mutex);
    free(sim);
}

const cal_os *cal_sim_os(cal_sim *sim) { return &sim->os; }

uint64_t cal_sim_random(cal_sim *sim, uint64_t bound) {
    pthread_mutex_lock(&sim->mutex);
    uint64_t number = sim_below(sim, bound);
    pthread_mutex_unlock(&sim->mutex);
    return number;
}

void cal_sim_advance(cal_sim *sim, uint64_t ns) {
    pthread_mutex_lock(&sim->mutex);
    sim->wall_ns += ns;
    sim->mono_ns += ns;
    pthread_mutex_unlock(&sim->mutex);
}

void cal_sim_set_wall(cal_sim *sim, uint64_t ns) {
    pthread_mutex_lock(&sim->mutex);
    sim->wall_ns = ns;
    pthread_mutex_unlock(&sim->mutex);
}

void cal_sim_power_off(cal_sim *sim) {
    pthread_mutex_lock(&sim->mutex);
    sim->off = true;
    pthread_mutex_unlock(&sim->mutex);
}

void cal_sim_power_off_at(cal_sim *sim, int kinds, uint64_t nth) {
    pthread_mutex_lock(&sim->mutex);
    sim->off_kinds = kinds;
    sim->off_in = nth;
    pthread_mutex_unlock(&sim->mutex);
}

void cal_sim_power_on(cal_sim *sim, cal_sim_survival survival) {
    pthread_mutex_lock(&sim->mutex);
    sim->epoch++;
    sim->off = false;
    sim->off_in = 0;
    sim_disk_survive(sim, survival);
    pthread_mutex_unlock(&sim->mutex);
}

bool cal_sim_is_off(cal_sim *sim) {
    pthread_mutex_lock(&sim->mutex);
    bool off = sim->off;
    pthread_mutex_unlock(&sim->mutex);
    return off;
}

void cal_sim_fail(cal_sim *sim, int kinds, uint64_t nth, uint64_t times, int error) {
    pthread_mutex_lock(&sim->mutex);
    sim->fail_kinds = kinds;
    sim->fail_in = nth;
    sim->fail_times = times;
    sim->fail_error = error;
    pthread_mutex_unlock(&sim->mutex);
}

uint64_t cal_sim_count(cal_sim *sim, int kinds) {
    uint64_t count = 0;
    pthread_mutex_lock(&sim->mutex);
    for (int i = 0; i < 6; i++) {
        if (kinds & (1 << i)) count += sim->counts[i];
    }
    pthread_mutex_unlock(&sim->mutex);
    return count;
}

void cal_sim_quota(cal_sim *sim, uint64_t bytes) {
    pthread_mutex_lock(&sim->mutex);
    sim->quota = bytes;
    pthread_mutex_unlock(&sim->mutex);
}

uint64_t cal_sim_used(cal_sim *sim) {
    pthread_mutex_lock(&sim->mutex);
    uint64_t used = sim->used;
    pthread_mutex_unlock(&sim->mutex);
    return used;
}

void cal_sim_network(cal_sim *sim, cal_sim_resolve resolve, cal_sim_connect connect, void *user) {
    sim->resolve = resolve;
    sim->connect = connect;
    sim->network_user = user;
}
