/* Uploads, deletions and collections that lose power: afterwards every acknowledged blob is whole,
 * no record misses a chunk, and a collection leaves exactly the chunks that are listed. A failing
 * run prints its seed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "blob/blob.h"
#include "os/sim/sim.h"
#include "seeds.h"
#include "store/key.h"

#include <stdlib.h>

enum { SEEDS_DEFAULT = 40, BLOBS = 6, STEPS = 16, SIZE_MAX_BYTES = 2 * CAL_BLOB_CHUNK_SIZE + 100 };

typedef enum fate { FATE_ABSENT, FATE_PRESENT, FATE_UNKNOWN } fate;

typedef struct run {
    uint64_t seed;
    cal_sim *sim;
    cal_store_options options;
    cal_store *store;
    cal_blobs *blobs;
    cal_blob_id ids[BLOBS];
    fate fates[BLOBS];
} run;

static uint8_t content[SIZE_MAX_BYTES], seen[SIZE_MAX_BYTES];
static const cal_key_source key = {CAL_KEY_FILE, "/s/master"};

#define RUN_CHECK(r, condition, ...)                                                               \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            print_error("repeat with CAL_SIM_SEED=%llu: ", (unsigned long long)(r)->seed);         \
            print_error(__VA_ARGS__);                                                              \
            fail();                                                                                \
        }                                                                                          \
    } while (0)

/* The blobs share their first chunk when they are long enough. */
static cal_slice blob_content(int number) {
    static const size_t sizes[BLOBS] = {
        1, 5000, CAL_BLOB_CHUNK_SIZE, CAL_BLOB_CHUNK_SIZE + 1, SIZE_MAX_BYTES - 1, SIZE_MAX_BYTES};
    for (size_t i = 0; i < sizes[number]; i++) content[i] = (uint8_t)(i * 7 + i / 4096);
    if (sizes[number] < 2) content[0] = 99;
    return cal_slice_of(content, sizes[number]);
}

static void open_all(run *r) {
    cal_error err = {0};
    int error = cal_store_open(&r->options, &r->store, &err);
    RUN_CHECK(r, error == 0, "opening: %s", err.message);
    RUN_CHECK(r, cal_blobs_open(r->store, r->options.os, &r->blobs, NULL) == 0,
              "opening the blobs");
}

static void upload(run *r, int number) {
    cal_slice bytes = blob_content(number);
    cal_blobs_writer *writer;
    if (cal_blobs_create(r->blobs, UINT64_MAX, &writer, NULL)) return;
    bool abort_it = cal_sim_random(r->sim, 5) == 0;
    int error = cal_blobs_write(writer, bytes, NULL);
    if (error || abort_it) {
        cal_blobs_abort(writer);
        return;
    }
    error = cal_blobs_finish(writer, NULL, &(cal_blobs_info){0}, NULL);
    if (error == 0)
        r->fates[number] = FATE_PRESENT;
    else if (r->fates[number] == FATE_ABSENT)
        r->fates[number] = FATE_UNKNOWN;
}

static void step(run *r) {
    int number = (int)cal_sim_random(r->sim, BLOBS);
    uint64_t kind = cal_sim_random(r->sim, 8);
    if (kind < 5) {
        upload(r, number);
    } else if (kind < 7) {
        int error = cal_blobs_delete(r->blobs, &r->ids[number], NULL);
        if (error == 0)
            r->fates[number] = FATE_ABSENT;
        else if (error != CAL_ENOTFOUND && r->fates[number] == FATE_PRESENT)
            r->fates[number] = FATE_UNKNOWN;
    } else {
        cal_blobs_collect(r->blobs, NULL, NULL);
    }
}

static void note(void *user, const char *finding) {
    run *r = user;
    RUN_CHECK(r, strstr(finding, "no blob lists"), "%s", finding);
}

static void no_note(void *user, const char *finding) {
    run *r = user;
    RUN_CHECK(r, false, "after collecting: %s", finding);
}

static void verify(run *r) {
    for (int i = 0; i < BLOBS; i++) {
        cal_blobs_reader *reader;
        int error = cal_blobs_read_open(r->blobs, &r->ids[i], &reader, NULL, NULL);
        bool present = error == 0;
        RUN_CHECK(r, error == 0 || error == CAL_ENOTFOUND, "blob %d: %s", i, cal_error_name(error));
        RUN_CHECK(r, r->fates[i] == FATE_UNKNOWN || present == (r->fates[i] == FATE_PRESENT),
                  "blob %d: %d", i, present);
        r->fates[i] = present ? FATE_PRESENT : FATE_ABSENT;
        if (!present) continue;
        cal_slice bytes = blob_content(i);
        RUN_CHECK(r,
                  cal_blobs_read(reader, seen, sizeof seen) == (int64_t)bytes.len &&
                      memcmp(seen, bytes.data, bytes.len) == 0,
                  "blob %d has other content", i);
        cal_blobs_read_close(reader);
    }
    cal_error err = {0};
    RUN_CHECK(r, cal_blobs_check(r->blobs, note, r, &err) == 0, "%s", err.message);
    RUN_CHECK(r, cal_blobs_collect(r->blobs, NULL, &err) == 0, "%s", err.message);
    RUN_CHECK(r, cal_blobs_check(r->blobs, no_note, r, &err) == 0, "%s", err.message);
}

static void run_seed(uint64_t seed) {
    run r = {.seed = seed, .sim = cal_sim_new(seed)};
    const cal_os *os = cal_sim_os(r.sim);
    r.options = (cal_store_options){.os = os, .folder = "/s", .key = &key};
    os->make_dir(os->user, "/s");
    os->sync_dir(os->user, "/");
    RUN_CHECK(&r, cal_store_create(&r.options, NULL) == 0, "creating");
    for (int i = 0; i < BLOBS; i++)
        RUN_CHECK(&r, cal_blob_id_of(blob_content(i), &r.ids[i]) == 0, "id");
    for (int round = 0; round < 2; round++) {
        open_all(&r);
        cal_sim_power_off_at(r.sim, CAL_SIM_WRITE | CAL_SIM_SYNC, 1 + cal_sim_random(r.sim, 6000));
        for (int i = 0; i < STEPS && !cal_sim_is_off(r.sim); i++) step(&r);
        cal_sim_power_off(r.sim);
        cal_blobs_close(r.blobs);
        cal_store_close(r.store);
        cal_sim_power_on(r.sim, (cal_sim_survival)cal_sim_random(r.sim, 3));
        open_all(&r);
        verify(&r);
        cal_blobs_close(r.blobs);
        cal_store_close(r.store);
    }
    cal_sim_free(r.sim);
}

static void test_blobs_survive(void **state) {
    (void)state;
    sim_seeds seeds = sim_seeds_from(SEEDS_DEFAULT);
    for (uint64_t seed = seeds.first; seed < seeds.end; seed++) run_seed(seed);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_blobs_survive)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
