/* Which seeds a simulation runs: CAL_SIM_SEEDS=n that many, from 1 on or from CAL_SIM_SEED=s on;
 * CAL_SIM_SEED=s alone that one. `make sim` sets both. */
#ifndef CAL_TESTS_SIM_SEEDS_H
#define CAL_TESTS_SIM_SEEDS_H

#include <stdint.h>
#include <stdlib.h>

typedef struct sim_seeds {
    uint64_t first, end; /* not with it */
} sim_seeds;

static inline sim_seeds sim_seeds_from(uint64_t count_otherwise) {
    const char *one = getenv("CAL_SIM_SEED"), *many = getenv("CAL_SIM_SEEDS");
    uint64_t first = one ? strtoull(one, NULL, 10) : 1;
    uint64_t count = many ? strtoull(many, NULL, 10) : one ? 1 : count_otherwise;
    return (sim_seeds){first, first + count};
}

#endif
