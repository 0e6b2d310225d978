/* What lies below some deltas and not below others: chains, forks, times that lie, ends and limits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "os/sim/sim.h"
#include "store/key.h"
#include "sync/bulk.h"

enum { MANY = 600 };

static cal_sim *sim;
static cal_key_source key = {CAL_KEY_FILE, "/s/key"};
static cal_store *store;
static const cal_context_id context = {{7}};

static int begin(void **state) {
    (void)state;
    cal_crypto_init();
    sim = cal_sim_new(3);
    const cal_os *os = cal_sim_os(sim);
    os->make_dir(os->user, "/s");
    const cal_store_options options = {.os = os, .folder = "/s", .key = &key, .stepped = true};
    assert_int_equal(cal_store_create(&options, NULL), 0);
    assert_int_equal(cal_store_open(&options, &store, NULL), 0);
    return 0;
}
static int finish(void **state) {
    (void)state;
    cal_store_close(store);
    cal_sim_free(sim);
    return 0;
}

static cal_hash id_of(uint32_t n) {
    cal_hash id = {{0}};
    if (n) cal_sha256(cal_slice_of(&n, sizeof n), id.bytes);
    return id;
}

/* A delta with at most two parents; 0: none. */
static void put(uint32_t n, uint32_t first, uint32_t second, uint64_t time) {
    uint8_t parents[2][32], row_key[64];
    cal_hash id = id_of(n), ids[2] = {id_of(first), id_of(second)};
    memcpy(parents[0], ids[0].bytes, 32);
    memcpy(parents[1], ids[1].bytes, 32);
    cal_delta_record record = {.id = id,
                               .parents = (const uint8_t(*)[32])(const void *)parents,
                               .parent_count = second ? 2 : 1,
                               .artifact = cal_slice_text("x"),
                               .hlc = {.time = time, .id = {1}},
                               .has_author = true,
                               .author = {{1}}};
    cal_buffer row;
    cal_batch *batch = cal_batch_new();
    cal_buffer_init(&row, 4096);
    assert_int_equal(cal_delta_record_encode(&record, &row), 0);
    memcpy(row_key, context.bytes, 32);
    memcpy(row_key + 32, id.bytes, 32);
    cal_batch_put(batch, CAL_COLUMN_DELTA, cal_slice_of(row_key, 64), cal_buffer_slice(&row));
    assert_int_equal(cal_store_commit(store, batch, NULL), 0);
    cal_buffer_deinit(&row);
}

static void put_checkpoint(uint32_t n) {
    cal_hash id = id_of(n);
    cal_delta_record record;
    cal_buffer row;
    uint8_t row_key[64];
    cal_batch *batch = cal_batch_new();
    cal_buffer_init(&row, 4096);
    cal_delta_checkpoint(&id, 0, &record);
    assert_int_equal(cal_delta_record_encode(&record, &row), 0);
    memcpy(row_key, context.bytes, 32);
    memcpy(row_key + 32, id.bytes, 32);
    cal_batch_put(batch, CAL_COLUMN_DELTA, cal_slice_of(row_key, 64), cal_buffer_slice(&row));
    assert_int_equal(cal_store_commit(store, batch, NULL), 0);
    cal_buffer_deinit(&row);
}

static sync_walk *walk_of(uint32_t wanted, uint32_t known, uint32_t max) {
    sync_walk *walk = sync_walk_new(5, max);
    cal_hash ids[] = {id_of(wanted), id_of(known)};
    assert_non_null(walk);
    assert_int_equal(sync_walk_add(walk, &ids[0], false), 0);
    if (known) assert_int_equal(sync_walk_add(walk, &ids[1], true), 0);
    return walk;
}

static int run(sync_walk *walk) {
    int rc;
    while ((rc = sync_walk_step(walk, store, &context, 7)) == CAL_EBUSY) continue;
    return rc;
}

static void expect_chain(const sync_walk *walk, uint32_t from, uint32_t to) {
    assert_int_equal(sync_walk_count(walk), to - from + 1);
    for (uint32_t n = from; n <= to; n++) {
        cal_hash id = id_of(n);
        assert_memory_equal(sync_walk_at(walk, n - from), &id, sizeof id);
    }
}

static void a_chain(void **state) {
    (void)state;
    for (uint32_t n = 1; n <= MANY; n++) put(n, n - 1, 0, n);
    sync_walk *walk = walk_of(MANY, 250, UINT32_MAX);
    assert_int_equal(run(walk), 0);
    expect_chain(walk, 251, MANY);
    assert_false(sync_walk_ended_short(walk));
    assert_true(sync_walk_knows_all(walk));
    sync_walk_free(walk);

    walk = walk_of(MANY, 0, UINT32_MAX);
    assert_int_equal(run(walk), 0);
    expect_chain(walk, 1, MANY);
    sync_walk_free(walk);

    walk = walk_of(MANY, 250, 100);
    assert_int_equal(run(walk), CAL_ELIMIT);
    sync_walk_free(walk);

    walk = walk_of(MANY, MANY + 1, UINT32_MAX); /* one that is not here */
    assert_int_equal(run(walk), 0);
    assert_int_equal(sync_walk_count(walk), MANY);
    assert_false(sync_walk_knows_all(walk));
    sync_walk_free(walk);

    walk = walk_of(250, MANY, UINT32_MAX); /* below what is known */
    cal_hash below = id_of(250), above = id_of(MANY), absent = id_of(MANY + 1);
    assert_int_equal(run(walk), 0);
    assert_true(sync_walk_knows(walk, &below) && sync_walk_knows(walk, &above));
    assert_false(sync_walk_knows(walk, &absent));
    for (size_t i = 0; i < sync_walk_count(walk); i++) assert_null(sync_walk_at(walk, i));
    sync_walk_free(walk);
}

/* 1 .. 100, from there two branches, 200 .. 250 and 300 .. 350, merged in 400. */
static void a_fork(void **state) {
    (void)state;
    for (uint32_t n = 1; n <= 100; n++) put(n, n - 1, 0, n);
    for (uint32_t n = 200; n <= 250; n++) put(n, n == 200 ? 100 : n - 1, 0, n);
    for (uint32_t n = 300; n <= 350; n++) put(n, n == 300 ? 100 : n - 1, 0, n - 100);
    put(400, 250, 350, 400);
    sync_walk *walk = walk_of(400, 220, UINT32_MAX);
    assert_int_equal(run(walk), 0);
    assert_int_equal(sync_walk_count(walk), 1 + 30 + 51);
    sync_walk_free(walk);
    walk = walk_of(350, 250, UINT32_MAX);
    assert_int_equal(run(walk), 0);
    expect_chain(walk, 300, 350);
    sync_walk_free(walk);
}

/* Whatever the times say, nothing that is missing is left out. */
static void times_that_lie(void **state) {
    (void)state;
    uint32_t random = 12345;
    for (uint32_t n = 1; n <= MANY; n++) {
        random = random * 1664525 + 1013904223;
        put(n, n - 1, 0, random >> 8);
    }
    sync_walk *walk = walk_of(MANY, 300, UINT32_MAX);
    assert_int_equal(run(walk), 0);
    for (uint32_t n = 301; n <= MANY; n++) {
        cal_hash id = id_of(n);
        bool found = false;
        for (size_t i = 0; i < sync_walk_count(walk) && !found; i++) {
            const cal_hash *at = sync_walk_at(walk, i);
            found = at && memcmp(at, &id, sizeof id) == 0;
        }
        assert_true(found);
    }
    sync_walk_free(walk);
}

static void a_checkpoint_ends_it(void **state) {
    (void)state;
    put_checkpoint(10);
    for (uint32_t n = 11; n <= 20; n++) put(n, n - 1, 0, n);
    sync_walk *walk = walk_of(20, 0, UINT32_MAX);
    assert_int_equal(run(walk), 0);
    expect_chain(walk, 11, 20);
    assert_true(sync_walk_ended_short(walk));
    sync_walk_free(walk);
    walk = walk_of(20, 10, UINT32_MAX);
    assert_int_equal(run(walk), 0);
    assert_false(sync_walk_ended_short(walk));
    assert_false(sync_walk_knows_all(walk));
    sync_walk_free(walk);
}

/* What the asker has compacted away it had, with all below it. */
static void marks_are_known(void **state) {
    (void)state;
    for (uint32_t n = 1; n <= 30; n++) put(n, n - 1, 0, n);
    cal_past past = {0};
    assert_int_equal(cal_past_note(&past, &(cal_public_key){{1}}, 12), 0);
    sync_walk *walk = walk_of(30, 0, UINT32_MAX);
    sync_walk_past(walk, &past);
    assert_int_equal(run(walk), 0);
    expect_chain(walk, 13, 30);
    assert_false(sync_walk_ended_short(walk));
    assert_int_equal(sync_walk_oldest(walk), 13);
    sync_walk_free(walk);
    walk = walk_of(30, 30, UINT32_MAX);
    assert_int_equal(run(walk), 0);
    assert_true(sync_walk_oldest(walk) == UINT64_MAX);
    sync_walk_free(walk);
    cal_past_deinit(&past);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_chain, begin, finish),
        cmocka_unit_test_setup_teardown(a_fork, begin, finish),
        cmocka_unit_test_setup_teardown(times_that_lie, begin, finish),
        cmocka_unit_test_setup_teardown(a_checkpoint_ends_it, begin, finish),
        cmocka_unit_test_setup_teardown(marks_are_known, begin, finish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
