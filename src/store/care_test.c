/* The care of a whole store: a copy is one moment whatever is written beside it, and what it leaves
 * is complete; several stores and several copies that meet in one file or folder; what a new master
 * key changes and what it does not. What happens beside is forced by the calls themselves: a copy's
 * progress, and an os whose stat and rename let another creation in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "os/sim/sim.h"
#include "store/internal.h"

#include <stdio.h>
#include <stdlib.h>

static const cal_key_source key = {CAL_KEY_FILE, "/keys/master.key"};

typedef struct fixture {
    cal_sim *sim;
    const cal_os *os;
    cal_store_options options;
    cal_store *store;
} fixture;

static void must(int result, const cal_error *err) {
    if (result) print_error("%s: %s\n", cal_error_name(result), err ? err->message : "");
    assert_int_equal(result, 0);
}

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    cal_error err = {0};
    f->sim = cal_sim_new(1);
    f->os = cal_sim_os(f->sim);
    f->options = (cal_store_options){.os = f->os, .folder = "/home", .key = &key, .stepped = true};
    f->os->make_dir(f->os->user, "/home");
    f->os->make_dir(f->os->user, "/keys");
    must(cal_store_create(&f->options, &err), &err);
    must(cal_store_open(&f->options, &f->store, &err), &err);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    cal_store_close(f->store);
    cal_sim_free(f->sim);
    free(f);
    return 0;
}

static cal_batch *numbered(uint32_t number, size_t len) {
    static uint8_t value[64 * 1024];
    char text[16];
    assert_true(len <= sizeof value);
    snprintf(text, sizeof text, "%06u", number);
    memset(value, (int)number, len);
    cal_batch *batch = cal_batch_new();
    cal_batch_put(batch, CAL_COLUMN_BLOB_CHUNK, cal_slice_text(text), cal_slice_of(value, len));
    cal_batch_put(batch, CAL_COLUMN_NODE, cal_slice_text("last"), cal_slice_text(text));
    return batch;
}

/* How many rows numbered() has made there, which must be all up to the last. */
static uint32_t count_rows(cal_store *store) {
    cal_snapshot *snapshot;
    cal_cursor *cursor;
    cal_slice at, value;
    cal_buffer last;
    uint32_t count = 0;
    char text[16] = "";
    cal_buffer_init(&last, 16);
    must(cal_store_snapshot(store, &snapshot), NULL);
    must(cal_cursor_open(snapshot, CAL_COLUMN_BLOB_CHUNK, (cal_slice){0}, (cal_slice){0}, false,
                         &cursor),
         NULL);
    while (cal_cursor_next(cursor, &at, &value) == 0) {
        snprintf(text, sizeof text, "%06u", count);
        assert_true(cal_slice_equal(at, cal_slice_text(text)));
        for (size_t i = 0; i < value.len; i++) assert_int_equal(value.data[i], (uint8_t)count);
        count++;
    }
    cal_cursor_free(cursor);
    must(cal_snapshot_get(snapshot, CAL_COLUMN_NODE, cal_slice_text("last"), &last), NULL);
    assert_true(cal_slice_equal(cal_buffer_slice(&last), cal_slice_text(text)));
    cal_snapshot_free(snapshot);
    cal_buffer_deinit(&last);
    return count;
}

/* --- copies --- */

typedef struct beside {
    fixture *f;
    uint32_t next;
    int calls;
    const char *second; /* a copy that is tried meanwhile */
    uint64_t done, total;
} beside;

static void write_beside(void *user, uint64_t done, uint64_t total) {
    beside *b = user;
    assert_true(done >= b->done && done <= total);
    b->done = done;
    b->total = total;
    b->calls++;
    must(cal_store_commit(b->f->store, numbered(b->next++, 60000), NULL), NULL);
    if (b->second && b->calls == 1)
        assert_int_equal(cal_store_backup(b->f->store, b->second, NULL, NULL, NULL), CAL_EBUSY);
}

static uint64_t file_size(fixture *f, const char *path) {
    cal_os_stat stat;
    int error = f->os->stat(f->os->user, path, &stat);
    assert_true(error == 0 || error == CAL_ENOTFOUND);
    return error ? 0 : stat.size;
}

/* Rows are written between every two pieces of the copy, and checkpoints move them: the copy holds
 * those from before it and no other. */
static void test_copy_is_one_moment(void **state) {
    fixture *f = *state;
    cal_error err = {0};
    enum { ROWS = 200 };
    beside b = {.f = f, .next = ROWS, .second = "/copy"};
    for (uint32_t i = 0; i < ROWS; i++)
        must(cal_store_commit(f->store, numbered(i, 60000), NULL), NULL);
    must(cal_store_backup(f->store, "/copy", write_beside, &b, &err), &err);
    assert_true(b.calls > 8);
    assert_int_equal(b.done, b.total);
    assert_int_equal(count_rows(f->store), b.next);

    cal_store_options options = f->options;
    cal_store *copy;
    options.folder = "/copy";
    must(cal_store_open(&options, &copy, &err), &err);
    assert_int_equal(count_rows(copy), ROWS);
    must(cal_store_verify(copy, NULL, NULL, &err), &err);
    must(cal_store_commit(copy, numbered(ROWS, 10), &err), &err); /* a store of its own */
    assert_int_equal(count_rows(copy), ROWS + 1);
    assert_int_equal(count_rows(f->store), b.next);
    cal_store_close(copy);
    /* All that belongs to it, and nothing that was only on the way. */
    assert_true(file_size(f, "/copy/store.db") > ROWS * 60000);
    assert_int_equal(file_size(f, "/copy/key.json"), file_size(f, "/home/key.json"));
    assert_true(file_size(f, "/copy/README.txt") > 0);
    assert_int_equal(file_size(f, "/copy/store.db.new"), 0);
    assert_int_equal(cal_store_backup(f->store, "/copy", NULL, NULL, &err), CAL_EEXISTS);
}

static void expect_opens(const cal_store_options *options, const char *folder) {
    cal_store_options own = *options;
    cal_store *store;
    cal_error err = {0};
    own.folder = folder;
    must(cal_store_open(&own, &store, &err), &err);
    cal_store_close(store);
}

/* A copy that fails leaves a folder that can be copied into, and a store that goes on. */
static void test_copy_that_fails(void **state) {
    fixture *f = *state;
    cal_error err = {0};
    for (uint32_t i = 0; i < 20; i++)
        must(cal_store_commit(f->store, numbered(i, 60000), NULL), NULL);
    uint32_t failures = 0;
    int error = CAL_EIO;
    for (uint64_t nth = 1; error; nth += 3) {
        cal_sim_fail(f->sim, CAL_SIM_WRITE | CAL_SIM_SYNC | CAL_SIM_NAME, nth, 1, CAL_EIO);
        error = cal_store_backup(f->store, "/copy", NULL, NULL, &err);
        cal_sim_fail(f->sim, 0, 0, 0, 0);
        if (!error) break;
        failures++;
        assert_true(nth < 5000);
        assert_int_equal(file_size(f, "/copy/store.db.new"), 0);
        if (file_size(f, "/copy/store.db")) { /* only making its name durable failed */
            expect_opens(&f->options, "/copy");
            f->os->remove(f->os->user, "/copy/store.db");
        }
        f->os->remove(f->os->user, "/copy/key.json"); /* of the step before the name */
    }
    assert_true(failures > 5);
    assert_int_equal(cal_store_health(f->store), 0);
    assert_int_equal(count_rows(f->store), 20);
}

/* --- one master key file --- */

typedef struct intruder {
    cal_os os;
    fixture *f;
    bool at_rename; /* instead of at the first look for the file */
    bool done;
    int result;
} intruder;

static intruder *intruding; /* os functions of the disk get the disk's own user */

static void create_other(intruder *i) {
    cal_store_options options = i->f->options;
    i->done = true;
    options.folder = "/other";
    i->result = cal_store_create(&options, NULL);
}

static int stat_and_let_in(void *user, const char *path, cal_os_stat *ret_stat) {
    intruder *i = intruding;
    int error = i->f->os->stat(user, path, ret_stat);
    if (!i->at_rename && !i->done && error == CAL_ENOTFOUND && strcmp(path, "/keys/shared") == 0)
        create_other(i);
    return error;
}

static int rename_and_let_in(void *user, const char *from, const char *to) {
    intruder *i = intruding;
    if (i->at_rename && !i->done && strcmp(to, "/keys/shared") == 0) create_other(i);
    return i->f->os->rename(user, from, to);
}

/* Two stores are created at the same time with one key file that is not there yet: neither loses
 * its key. */
static void test_two_creations_with_one_key_file(void **state) {
    fixture *f = *state;
    cal_error err = {0};
    cal_key_source shared = {CAL_KEY_FILE, "/keys/shared"};
    for (int at_rename = 0; at_rename < 2; at_rename++) {
        f->os->remove(f->os->user, "/keys/shared");
        intruder i = {.os = *f->os, .f = f, .at_rename = at_rename};
        intruding = &i;
        i.os.stat = stat_and_let_in;
        i.os.rename = rename_and_let_in;
        f->options.key = &shared;
        f->os->make_dir(f->os->user, "/one");
        f->os->make_dir(f->os->user, "/other");
        cal_store_options options = f->options;
        options.os = &i.os;
        options.folder = "/one";
        must(cal_store_create(&options, &err), &err);
        assert_true(i.done);
        assert_int_equal(i.result,
                         at_rename ? CAL_EBUSY : 0); /* refused while the other makes it */
        expect_opens(&f->options, "/one");
        if (at_rename) {
            options = f->options;
            options.folder = "/other";
            must(cal_store_create(&options, &err), &err);
        }
        expect_opens(&f->options, "/other");
        assert_int_equal(file_size(f, "/keys/shared.new"), 0);
        static const char *const left[] = {"/one/store.db", "/one/key.json", "/other/store.db",
                                           "/other/key.json"};
        for (size_t at = 0; at < sizeof left / sizeof *left; at++)
            assert_int_equal(f->os->remove(f->os->user, left[at]), 0);
    }
}

/* Each failure while the key file is made leaves no half one, and creating again goes well. */
static void test_key_file_that_fails(void **state) {
    fixture *f = *state;
    cal_key_source fresh = {CAL_KEY_FILE, "/keys/fresh"};
    cal_store_options options = f->options;
    options.key = &fresh;
    options.folder = "/one";
    f->os->make_dir(f->os->user, "/one");
    int error = CAL_EIO;
    for (uint64_t nth = 1; error; nth++) {
        cal_sim_fail(f->sim, CAL_SIM_WRITE | CAL_SIM_SYNC | CAL_SIM_NAME, nth, 1, CAL_EIO);
        error = cal_store_create(&options, NULL);
        cal_sim_fail(f->sim, 0, 0, 0, 0);
        uint64_t size = file_size(f, "/keys/fresh");
        assert_true(size == 0 || size == 65);
        assert_true(nth < 1000);
    }
    expect_opens(&options, "/one");
}

/* --- a new master key --- */

static void test_rekey_changes_one_file(void **state) {
    fixture *f = *state;
    cal_error err = {0};
    cal_key_source other = {CAL_KEY_FILE, "/keys/other"};
    cal_store *store = NULL;
    for (uint32_t i = 0; i < 5; i++)
        must(cal_store_commit(f->store, numbered(i, 1000), NULL), NULL);
    cal_store_close(f->store);
    f->store = NULL;
    cal_buffer before, after;
    cal_buffer_init(&before, 1 << 22);
    cal_buffer_init(&after, 1 << 22);
    must(cal_os_read_file(f->os, "/home/store.db", 1 << 22, &before, NULL), NULL);
    must(cal_store_rekey(&f->options, &other, &err), &err);
    must(cal_os_read_file(f->os, "/home/store.db", 1 << 22, &after, NULL), NULL);
    assert_true(cal_slice_equal(cal_buffer_slice(&before), cal_buffer_slice(&after)));
    cal_buffer_deinit(&before);
    cal_buffer_deinit(&after);
    assert_int_equal(cal_store_open(&f->options, &store, &err), CAL_EKEY);
    assert_int_equal(cal_store_rekey(&f->options, &other, &err), CAL_EKEY);
    f->options.key = &other;
    must(cal_store_open(&f->options, &f->store, &err), &err);
    assert_int_equal(count_rows(f->store), 5);
    f->options.key = &key;
}

/* --- figures --- */

static void test_figures(void **state) {
    fixture *f = *state;
    cal_store_stats stats;
    cal_store_stats_get(f->store, &stats);
    assert_int_equal(stats.batches, 0);
    assert_int_equal(stats.bytes,
                     file_size(f, "/home/store.db") + file_size(f, "/home/store.db-wal"));
    for (uint32_t i = 0; i < 3; i++) cal_store_submit(f->store, numbered(i, 10), NULL, NULL);
    cal_sim_advance(f->sim, 1000);
    cal_store_step(f->store);
    cal_batch *bad = numbered(3, 10);
    cal_batch_delete_prefix(bad, CAL_COLUMN_STATE, (cal_slice){0});
    assert_int_equal(cal_store_commit(f->store, bad, NULL), CAL_EINVAL);
    cal_store_stats_get(f->store, &stats);
    assert_int_equal(stats.batches, 3);
    assert_int_equal(stats.transactions, 1);
    assert_int_equal(stats.failed, 1);
    assert_int_equal(stats.last_error, CAL_EINVAL);
    assert_int_equal(stats.damaged, 0);
    assert_int_equal(stats.bytes,
                     file_size(f, "/home/store.db") + file_size(f, "/home/store.db-wal"));
    /* A full disk stays said until something is written, whatever else fails meanwhile. */
    cal_sim_quota(f->sim, cal_sim_used(f->sim));
    int error = 0;
    for (uint32_t i = 3; !error && i < 100; i++)
        error = cal_store_commit(f->store, numbered(i, 60000), NULL);
    assert_int_equal(error, CAL_EFULL);
    bad = cal_batch_new();
    cal_batch_delete_prefix(bad, CAL_COLUMN_STATE, (cal_slice){0});
    assert_int_equal(cal_store_commit(f->store, bad, NULL), CAL_EINVAL);
    assert_int_equal(cal_store_health(f->store), CAL_EFULL);
    cal_sim_quota(f->sim, UINT64_MAX);
    must(cal_store_commit(f->store, cal_batch_new(), NULL), NULL);
    assert_int_equal(cal_store_health(f->store), 0);
    cal_store_stats_get(f->store, &stats);
    assert_int_equal(stats.failed, 3);
    assert_int_equal(stats.last_error, 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_copy_is_one_moment),
        TEST(test_copy_that_fails),
        TEST(test_two_creations_with_one_key_file),
        TEST(test_key_file_that_fails),
        TEST(test_rekey_changes_one_file),
        TEST(test_figures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
