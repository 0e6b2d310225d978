/* Removal in steps: what is marked goes row by row, whatever happens in between, and nothing else
 * does. */
#include "store/removal.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/key.h"

enum { ROWS = 700 };

static const cal_column columns[] = {CAL_COLUMN_STATE, CAL_COLUMN_DELTA};
static const cal_removal kind = {"test/removed/", columns, 2};

static char folder[64], key_file[96];
static cal_key_source key;
static cal_store_options options;
static cal_store *store;
static cal_error err;

static int remove_entry(const char *path, const struct stat *stat, int type, struct FTW *walk) {
    (void)stat, (void)type, (void)walk;
    return remove(path);
}

static int setup(void **state) {
    (void)state;
    strcpy(folder, "/tmp/cal_removal_XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(key_file, sizeof key_file, "%s/master.key", folder);
    key = (cal_key_source){CAL_KEY_FILE, key_file};
    options = (cal_store_options){.folder = folder, .durability = CAL_DURABLE_PROCESS, .key = &key};
    assert_int_equal(cal_store_create(&options, &err), 0);
    assert_int_equal(cal_store_open(&options, &store, &err), 0);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    cal_store_close(store);
    nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    return 0;
}

static void commit(cal_batch *batch) {
    assert_non_null(batch);
    assert_int_equal(cal_store_commit(store, batch, &err), 0);
}

static void fill(const uint8_t id[32]) {
    cal_batch *batch = cal_batch_new();
    uint8_t row[64] = {0};
    memcpy(row, id, 32);
    for (unsigned i = 0; i < ROWS; i++) {
        cal_write_u32be(row + 32, i);
        cal_batch_put(batch, CAL_COLUMN_STATE, cal_slice_of(row, 64), cal_slice_text("state"));
        cal_batch_put(batch, CAL_COLUMN_DELTA, cal_slice_of(row, 64), cal_slice_text("delta"));
    }
    commit(batch);
}

static uint64_t bytes(const uint8_t id[32]) {
    cal_snapshot *snapshot = NULL;
    uint64_t state = 0, delta = 0;
    assert_int_equal(cal_store_snapshot(store, &snapshot), 0);
    assert_int_equal(cal_snapshot_size(snapshot, CAL_COLUMN_STATE, cal_slice_of(id, 32), &state),
                     0);
    assert_int_equal(cal_snapshot_size(snapshot, CAL_COLUMN_DELTA, cal_slice_of(id, 32), &delta),
                     0);
    cal_snapshot_free(snapshot);
    return state + delta;
}

static bool step(const uint8_t id[32]) {
    bool last = false;
    cal_batch *batch = cal_batch_new();
    assert_int_equal(cal_removal_step(&kind, id, store, batch, &last), 0);
    commit(batch);
    return last;
}

static int count(void *user, const uint8_t id[32]) {
    (void)id;
    ++*(int *)user;
    return 0;
}

static int marks(void) {
    cal_snapshot *snapshot = NULL;
    int found = 0;
    assert_int_equal(cal_store_snapshot(store, &snapshot), 0);
    assert_int_equal(cal_removal_each(&kind, snapshot, count, &found), 0);
    cal_snapshot_free(snapshot);
    return found;
}

static void mark(const uint8_t id[32]) {
    cal_batch *batch = cal_batch_new();
    assert_int_equal(cal_removal_mark(&kind, id, batch), 0);
    commit(batch);
}

/* Ids that stand next to each other, and the highest of all, which no key follows. */
static const uint8_t ids[][32] = {{1, [31] = 0xff}, {2}, {2, [31] = 1}};
static uint8_t highest[32];

static void it_goes_in_steps_and_alone(void **state) {
    (void)state;
    memset(highest, 0xff, sizeof highest);
    const uint8_t *all[] = {ids[0], ids[1], ids[2], highest};
    for (size_t i = 0; i < 4; i++) fill(all[i]);
    uint64_t full = bytes(ids[0]);
    mark(ids[1]);
    mark(highest);
    assert_int_equal(marks(), 2);
    assert_int_equal(cal_removal_pending(&kind, ids[1], store), 0);
    assert_int_equal(cal_removal_pending(&kind, ids[0], store), CAL_ENOTFOUND);
    for (size_t i = 1; i < 4; i += 2) {
        uint64_t before = bytes(all[i]);
        int steps = 0;
        while (!step(all[i])) {
            uint64_t now = bytes(all[i]);
            assert_true(now < before);
            before = now;
            steps++;
        }
        assert_true(steps >= 6 && steps < 20); /* 1,400 rows, 256 at a time */
        assert_int_equal(bytes(all[i]), 0);
        assert_int_equal(cal_removal_pending(&kind, all[i], store), CAL_ENOTFOUND);
    }
    assert_int_equal(marks(), 0);
    assert_int_equal(bytes(ids[0]), full);
    assert_int_equal(bytes(ids[2]), full);
}

static void a_restart_goes_on_where_it_was(void **state) {
    (void)state;
    fill(ids[0]);
    mark(ids[0]);
    int restarts = 0;
    for (bool last = false; !last; restarts++) {
        assert_int_equal(marks(), 1);
        last = step(ids[0]);
        cal_store_close(store);
        assert_int_equal(cal_store_open(&options, &store, &err), 0);
    }
    assert_true(restarts >= 7);
    assert_int_equal(marks(), 0);
    assert_int_equal(bytes(ids[0]), 0);
}

/* A few rows of a MiB each are as much as many small ones: they do not go in one transaction. */
static void large_rows_go_few_at_a_time(void **state) {
    (void)state;
    enum { LARGE = 5, SIZE = 1 << 20 };
    uint8_t row[64] = {0}, *value = calloc(1, SIZE);
    assert_non_null(value);
    memcpy(row, ids[0], 32);
    cal_batch *batch = cal_batch_new();
    for (uint8_t i = 0; i < LARGE; i++) {
        row[63] = i;
        cal_batch_put(batch, CAL_COLUMN_STATE, cal_slice_of(row, 64), cal_slice_of(value, SIZE));
    }
    commit(batch);
    free(value);
    mark(ids[0]);
    for (uint64_t left = LARGE; left > 0; left--) {
        assert_int_equal(bytes(ids[0]), left * (SIZE + sizeof row));
        assert_false(step(ids[0]));
    }
    assert_int_equal(bytes(ids[0]), 0);
    assert_true(step(ids[0]));
}

static void nothing_to_remove_is_one_step(void **state) {
    (void)state;
    mark(ids[0]);
    assert_true(step(ids[0]));
    assert_int_equal(marks(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_goes_in_steps_and_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(a_restart_goes_on_where_it_was, setup, teardown),
        cmocka_unit_test_setup_teardown(large_rows_go_few_at_a_time, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_to_remove_is_one_step, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
