/* The store on a disk that loses power, tears writes, fails and fills up.
 *
 * A model keeps what each committed batch made of the rows. After each loss of power the store must
 * open, and its rows must equal the model after some prefix of the batches: with CAL_DURABLE_FULL
 * one that holds every acknowledged batch, with CAL_DURABLE_PROCESS any. Each batch bumps a counter
 * row, so the prefix is known and a half batch shows. Every other seed runs a stepped store. A
 * failing run prints its seed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "os/sim/sim.h"
#include "seeds.h"
#include "store/key.h"
#include "store/store.h"

#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 48, STEPS = 40, ROUNDS = 3, SEEDS_DEFAULT = 200, VALUE_MAX = 40000 };

static const cal_key_source key = {CAL_KEY_FILE, "/home/master.key"};

/* What a row holds after n batches follows from the row's last writer alone: the value is made from
 * (row, batch). */
typedef struct model {
    uint32_t writer[ROWS]; /* 0: absent, else the number of the batch that wrote it */
} model;

typedef struct run {
    uint64_t seed;
    cal_sim *sim;
    cal_store_options options;
    model *history; /* after each batch; [0] is the empty store */
    uint32_t issued, acknowledged;
} run;

#define RUN_CHECK(r, condition, ...)                                                               \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            print_error("seed %llu: ", (unsigned long long)(r)->seed);                             \
            print_error(__VA_ARGS__);                                                              \
            print_error("\nrepeat with CAL_SIM_SEED=%llu\n", (unsigned long long)(r)->seed);       \
            fail();                                                                                \
        }                                                                                          \
    } while (0)

static size_t row_value(uint32_t row, uint32_t batch, uint8_t ret_value[VALUE_MAX]) {
    uint32_t mix = row * 2654435761u ^ batch * 40503u;
    size_t len = mix % 7 == 0 ? 5000 + mix % (VALUE_MAX - 5000) : mix % 600;
    for (size_t i = 0; i < len; i++) ret_value[i] = (uint8_t)((mix >> (i % 4 * 8)) + i);
    return len;
}

static cal_column row_column(uint32_t row) {
    return row % 3 == 0 ? CAL_COLUMN_BLOB_CHUNK : CAL_COLUMN_STATE;
}

static cal_slice row_key(uint32_t row, char text[16]) {
    snprintf(text, 16, "%c%03u", 'a' + (int)(row % 4), row);
    return cal_slice_text(text);
}

/* A random batch on top of the newest state of the model. */
static cal_batch *random_batch(run *r) {
    uint32_t number = ++r->issued;
    model *now = &r->history[number];
    *now = r->history[number - 1];
    cal_batch *batch = cal_batch_new();
    static uint8_t value[VALUE_MAX];
    char text[16];
    uint32_t count = 1 + (uint32_t)cal_sim_random(r->sim, 12);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t row = (uint32_t)cal_sim_random(r->sim, ROWS),
                 kind = (uint32_t)cal_sim_random(r->sim, 10);
        if (kind == 0) { /* all rows of one column that begin with a letter */
            char letter = (char)('a' + (int)(row % 4));
            cal_batch_delete_prefix(batch, CAL_COLUMN_STATE, cal_slice_of(&letter, 1));
            for (uint32_t other = row % 4; other < ROWS; other += 4) {
                if (row_column(other) == CAL_COLUMN_STATE) now->writer[other] = 0;
            }
        } else if (kind < 3) {
            cal_batch_delete(batch, row_column(row), row_key(row, text));
            now->writer[row] = 0;
        } else {
            size_t len = row_value(row, number, value);
            cal_batch_put(batch, row_column(row), row_key(row, text), cal_slice_of(value, len));
            now->writer[row] = number;
        }
    }
    uint8_t counter[4];
    cal_write_u32le(counter, number);
    cal_batch_put(batch, CAL_COLUMN_NODE, cal_slice_text("counter"), cal_slice_of(counter, 4));
    return batch;
}

static uint32_t stored_counter(run *r, cal_snapshot *snapshot) {
    cal_buffer value;
    cal_buffer_init(&value, 4);
    int error = cal_snapshot_get(snapshot, CAL_COLUMN_NODE, cal_slice_text("counter"), &value);
    RUN_CHECK(r, error == 0 || error == CAL_ENOTFOUND, "the counter: %s", cal_error_name(error));
    uint32_t number = value.len == 4 ? cal_read_u32le(value.data) : 0;
    cal_buffer_deinit(&value);
    return number;
}

/* The store holds exactly the model after some batch; returns which. */
static uint32_t verify_rows(run *r, cal_store *store) {
    cal_snapshot *snapshot;
    int error = cal_store_snapshot(store, &snapshot);
    RUN_CHECK(r, error == 0, "snapshot: %s", cal_error_name(error));
    uint32_t at = stored_counter(r, snapshot);
    RUN_CHECK(r, at <= r->issued, "counter %u of %u", at, r->issued);
    static uint8_t expected[VALUE_MAX];
    cal_buffer value;
    cal_buffer_init(&value, VALUE_MAX);
    for (uint32_t row = 0; row < ROWS; row++) {
        char text[16];
        uint32_t writer = r->history[at].writer[row];
        cal_buffer_reset(&value);
        error = cal_snapshot_get(snapshot, row_column(row), row_key(row, text), &value);
        RUN_CHECK(r, error == (writer ? 0 : CAL_ENOTFOUND), "row %u after batch %u: %s", row, at,
                  cal_error_name(error));
        size_t len = writer ? row_value(row, writer, expected) : 0;
        RUN_CHECK(r, value.len == len && (len == 0 || memcmp(value.data, expected, len) == 0),
                  "row %u after batch %u has other content", row, at);
    }
    cal_buffer_deinit(&value);
    cal_snapshot_free(snapshot);
    return at;
}

static cal_store *open_store(run *r) {
    cal_store *store = NULL;
    cal_error err = {0};
    int error = cal_store_open(&r->options, &store, &err);
    RUN_CHECK(r, error == 0, "the store does not open: %s: %s", cal_error_name(error), err.message);
    return store;
}

/* Creation itself loses power a few times; a folder is then either whole or can be made again. */
static void create_store(run *r) {
    for (int attempt = 0;; attempt++) {
        cal_error err = {0};
        const cal_os *os = cal_sim_os(r->sim);
        os->make_dir(os->user, "/home");
        os->sync_dir(os->user, "/");
        if (attempt < 3)
            cal_sim_power_off_at(r->sim, CAL_SIM_WRITE | CAL_SIM_SYNC | CAL_SIM_NAME,
                                 1 + cal_sim_random(r->sim, 60));
        int error = cal_store_create(&r->options, &err);
        bool off = cal_sim_is_off(r->sim);
        cal_sim_power_off_at(r->sim, 0, 0);
        if (error == 0 && !off) return;
        if (!off) {
            RUN_CHECK(r, error == CAL_EEXISTS && attempt > 0, "creating: %s: %s",
                      cal_error_name(error), err.message);
            return;
        }
        cal_sim_power_on(r->sim, CAL_SIM_TEAR);
    }
}

static void crash_rounds(run *r) {
    for (int round = 0; round < ROUNDS; round++) {
        cal_store *store = open_store(r);
        uint32_t base = r->issued;
        cal_sim_power_off_at(r->sim, CAL_SIM_WRITE | CAL_SIM_SYNC | CAL_SIM_NAME,
                             1 + cal_sim_random(r->sim, 900));
        for (int step = 0; step < STEPS && !cal_sim_is_off(r->sim); step++) {
            cal_batch *batch = random_batch(r);
            int error = cal_store_commit(store, batch, NULL);
            if (error == 0) r->acknowledged = r->issued;
            RUN_CHECK(r, error == 0 || cal_sim_is_off(r->sim), "batch %u: %s", r->issued,
                      cal_error_name(error));
        }
        if (cal_sim_random(r->sim, 4) ==
            0) { /* the power may also go while the store closes, or after */
            cal_store_close(store);
            cal_sim_power_off(r->sim);
        } else {
            cal_sim_power_off(r->sim);
            cal_store_close(store);
        }
        cal_sim_power_on(r->sim, (cal_sim_survival)cal_sim_random(r->sim, 3));
        store = open_store(r);
        uint32_t at = verify_rows(r, store);
        if (r->options.durability == CAL_DURABLE_FULL)
            RUN_CHECK(r, at >= r->acknowledged, "acknowledged batch %u is gone, the store is at %u",
                      r->acknowledged, at);
        cal_error err = {0};
        int error = cal_store_verify(store, NULL, NULL, &err);
        RUN_CHECK(r, error == 0, "verify: %s", err.message);
        cal_store_close(store);
        (void)base;
        r->issued = r->acknowledged = at; /* history goes on from what survived */
    }
}

static void run_seed(uint64_t seed, cal_durability durability) {
    run r = {.seed = seed, .sim = cal_sim_new(seed)};
    r.history = calloc(1 + (size_t)STEPS * ROUNDS, sizeof *r.history);
    r.options = (cal_store_options){.os = cal_sim_os(r.sim),
                                    .folder = "/home",
                                    .durability = durability,
                                    .key = &key,
                                    .readers_max = 1,
                                    .cache_kib = 256,
                                    .stepped = seed % 2 == 0};
    create_store(&r);
    crash_rounds(&r);
    free(r.history);
    cal_sim_free(r.sim);
}

static void run_seeds(cal_durability durability) {
    sim_seeds seeds = sim_seeds_from(SEEDS_DEFAULT);
    for (uint64_t seed = seeds.first; seed < seeds.end; seed++) run_seed(seed, durability);
}

static void test_power_loss_full(void **state) {
    (void)state;
    run_seeds(CAL_DURABLE_FULL);
}

static void test_power_loss_process(void **state) {
    (void)state;
    run_seeds(CAL_DURABLE_PROCESS);
}

/* --- each I/O operation fails in turn --- */

/* Opens, writes, reads and closes while the nth operation (and `times` in a row) fails. Nothing
 * acknowledged may be missing afterwards, and nothing may crash or hang. Returns whether the
 * failure was reached. */
static bool torture_once(int kinds, uint64_t nth, uint64_t times, int error_code) {
    run r = {.seed = nth, .sim = cal_sim_new(nth)};
    r.history = calloc(16, sizeof *r.history);
    r.options = (cal_store_options){
        .os = cal_sim_os(r.sim), .folder = "/home", .key = &key, .readers_max = 1, .cache_kib = 64};
    const cal_os *os = cal_sim_os(r.sim);
    os->make_dir(os->user, "/home");
    RUN_CHECK(&r, cal_store_create(&r.options, NULL) == 0, "creating");
    cal_sim_fail(r.sim, kinds, nth, times, error_code);
    uint64_t before = cal_sim_count(r.sim, kinds);
    cal_store *store = NULL;
    if (cal_store_open(&r.options, &store, NULL) == 0) {
        uint32_t last = 0; /* the newest state whose batch was acknowledged */
        for (int i = 0; i < 8; i++) {
            int error = cal_store_commit(store, random_batch(&r), NULL);
            if (error == 0)
                last = r.issued;
            else
                r.history[r.issued] = r.history[last]; /* refused: it must have left nothing */
            if (error == 0) continue;
            RUN_CHECK(&r,
                      error == error_code || error == CAL_EIO || error == CAL_EFULL ||
                          error == CAL_ENOMEM,
                      "batch: %s", cal_error_name(error));
        }
        cal_sim_fail(r.sim, 0, 0, 0, 0);
        RUN_CHECK(&r, cal_store_commit(store, random_batch(&r), NULL) == 0,
                  "the store does not recover");
        RUN_CHECK(&r, cal_store_health(store) == 0, "health: %s",
                  cal_error_name(cal_store_health(store)));
        RUN_CHECK(&r, verify_rows(&r, store) == r.issued, "rows");
        cal_store_close(store);
    }
    bool reached = cal_sim_count(r.sim, kinds) - before >= nth;
    cal_sim_fail(r.sim, 0, 0, 0, 0);
    store = open_store(&r);
    RUN_CHECK(&r, verify_rows(&r, store) == r.issued, "rows after opening again");
    cal_store_close(store);
    free(r.history);
    cal_sim_free(r.sim);
    return reached;
}

static void torture(int kinds, uint64_t times, int error_code) {
    for (uint64_t nth = 1; torture_once(kinds, nth, times, error_code); nth++)
        assert_true(nth < 5000);
}

static void test_torture_writes(void **state) {
    (void)state;
    torture(CAL_SIM_WRITE, 1, CAL_EIO);
    torture(CAL_SIM_WRITE, UINT64_MAX, CAL_EFULL);
}

static void test_torture_syncs(void **state) {
    (void)state;
    torture(CAL_SIM_SYNC, 1, CAL_EIO);
    torture(CAL_SIM_SYNC, UINT64_MAX, CAL_EIO);
}

static void test_torture_others(void **state) {
    (void)state;
    torture(CAL_SIM_READ, 1, CAL_EIO);
    torture(CAL_SIM_OPEN | CAL_SIM_NAME, 1, CAL_EIO);
    torture(CAL_SIM_STAT, 1, CAL_EIO);
}

/* --- a full disk --- */

static void test_full_disk(void **state) {
    (void)state;
    run r = {.seed = 1, .sim = cal_sim_new(1)};
    static uint8_t big[200000];
    cal_error err = {0};
    r.options = (cal_store_options){.os = cal_sim_os(r.sim), .folder = "/home", .key = &key};
    const cal_os *os = cal_sim_os(r.sim);
    os->make_dir(os->user, "/home");
    assert_int_equal(cal_store_create(&r.options, &err), 0);
    cal_store *store = open_store(&r);
    cal_sim_quota(r.sim, cal_sim_used(r.sim) + 1000000);
    int written = 0, error = 0;
    while (!error && written < 100) {
        char text[16];
        snprintf(text, sizeof text, "%d", written);
        cal_batch *batch = cal_batch_new();
        cal_batch_put(batch, CAL_COLUMN_BLOB_CHUNK, cal_slice_text(text),
                      cal_slice_of(big, sizeof big));
        error = cal_store_commit(store, batch, &err);
        if (!error) written++;
    }
    assert_int_equal(error, CAL_EFULL);
    assert_non_null(strstr(err.message, "disk is full"));
    assert_true(written >= 2);
    assert_int_equal(cal_store_health(store), CAL_EFULL);
    for (int i = 0; i < written; i++) { /* reads go on */
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        assert_int_equal(cal_store_get(store, CAL_COLUMN_BLOB_CHUNK, cal_slice_text(text), NULL),
                         0);
    }
    assert_int_equal(cal_store_get(store, CAL_COLUMN_BLOB_CHUNK, cal_slice_text("100"), NULL),
                     CAL_ENOTFOUND);
    cal_sim_quota(r.sim, UINT64_MAX);
    cal_batch *batch = cal_batch_new();
    cal_batch_put(batch, CAL_COLUMN_BLOB_CHUNK, cal_slice_text("room"),
                  cal_slice_of(big, sizeof big));
    assert_int_equal(cal_store_commit(store, batch, &err), 0);
    assert_int_equal(cal_store_health(store), 0);
    cal_store_stats stats;
    cal_store_stats_get(store, &stats);
    assert_int_equal(stats.failed, 1);
    assert_int_equal(cal_store_verify(store, NULL, NULL, &err), 0);
    cal_store_close(store);
    cal_sim_free(r.sim);
}

/* A write that cannot happen must leave the key file as it was. */
static void test_rekey_is_atomic(void **state) {
    (void)state;
    for (uint64_t nth = 1; nth < 40; nth++) {
        cal_sim *sim = cal_sim_new(nth);
        const cal_os *os = cal_sim_os(sim);
        cal_key_source other = {CAL_KEY_FILE, "/home/other.key"};
        cal_store_options options = {.os = os, .folder = "/home", .key = &key};
        os->make_dir(os->user, "/home");
        assert_int_equal(cal_store_create(&options, NULL), 0);
        os->sync_dir(os->user, "/");
        cal_sim_power_off_at(sim, CAL_SIM_WRITE | CAL_SIM_SYNC | CAL_SIM_NAME, nth);
        int error = cal_store_rekey(&options, &other, NULL);
        bool off = cal_sim_is_off(sim);
        cal_sim_power_off(sim);
        cal_sim_power_on(sim, CAL_SIM_TEAR);
        cal_store *store = NULL;
        int opened = cal_store_open(&options, &store, NULL);
        if (opened == CAL_EKEY) {
            options.key = &other;
            opened = cal_store_open(&options, &store, NULL);
        } else {
            assert_int_not_equal(error, 0); /* acknowledged means changed */
        }
        assert_int_equal(opened, 0);
        cal_store_close(store);
        cal_sim_free(sim);
        if (!off) {
            assert_int_equal(error, 0);
            return;
        }
    }
    fail();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_disk),          cmocka_unit_test(test_rekey_is_atomic),
        cmocka_unit_test(test_torture_writes),     cmocka_unit_test(test_torture_syncs),
        cmocka_unit_test(test_torture_others),     cmocka_unit_test(test_power_loss_full),
        cmocka_unit_test(test_power_loss_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
