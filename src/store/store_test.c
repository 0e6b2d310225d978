/* The promises of store.h on the real machine: order, atomicity, group commit, snapshots, cursors,
 * prefix deletion, one process, keys and damage, copies, verification. What needs a failing disk is
 * in tests/sim. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "store/engine_internal.h"
#include "store/internal.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct fixture {
    char folder[64], key_file[96];
    cal_key_source key;
    cal_store_options options;
    cal_store *store;
} fixture;

static int remove_entry(const char *path, const struct stat *stat, int kind, struct FTW *walk) {
    (void)stat, (void)kind, (void)walk;
    return remove(path);
}

static void remove_tree(const char *path) { nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS); }

static void must(int result, const cal_error *err) {
    if (result) print_error("%s: %s\n", cal_error_name(result), err ? err->message : "");
    assert_int_equal(result, 0);
}

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    cal_error err = {0};
    strcpy(f->folder, "/tmp/cal_store_XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->key_file, sizeof f->key_file, "%s/master.key", f->folder);
    f->key = (cal_key_source){CAL_KEY_FILE, f->key_file};
    f->options =
        (cal_store_options){.folder = f->folder, .durability = CAL_DURABLE_PROCESS, .key = &f->key};
    must(cal_store_create(&f->options, &err), &err);
    must(cal_store_open(&f->options, &f->store, &err), &err);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    cal_store_close(f->store);
    remove_tree(f->folder);
    free(f);
    return 0;
}

static void reopen(fixture *f) {
    cal_error err = {0};
    cal_store_close(f->store);
    f->store = NULL;
    must(cal_store_open(&f->options, &f->store, &err), &err);
}

static void put(cal_store *store, cal_column column, const char *key, const char *value) {
    cal_batch *batch = cal_batch_new();
    cal_error err = {0};
    cal_batch_put(batch, column, cal_slice_text(key), cal_slice_text(value));
    must(cal_store_commit(store, batch, &err), &err);
}

static int get(cal_store *store, cal_column column, const char *key, char ret_value[64]) {
    cal_buffer value;
    cal_buffer_init(&value, 63);
    int error = cal_store_get(store, column, cal_slice_text(key), &value);
    if (!error) snprintf(ret_value, 64, "%.*s", (int)value.len, (const char *)value.data);
    cal_buffer_deinit(&value);
    return error;
}

static void test_put_get(void **state) {
    fixture *f = *state;
    char value[64];
    for (int column = 0; column < CAL_COLUMN_COUNT; column++) {
        put(f->store, (cal_column)column, "key", "first");
        put(f->store, (cal_column)column, "key", "second");
        put(f->store, (cal_column)column, "", "empty key");
        put(f->store, (cal_column)column, "empty value", "");
        assert_int_equal(get(f->store, (cal_column)column, "key", value), 0);
        assert_string_equal(value, "second");
        assert_int_equal(get(f->store, (cal_column)column, "", value), 0);
        assert_string_equal(value, "empty key");
        assert_int_equal(get(f->store, (cal_column)column, "empty value", value), 0);
        assert_string_equal(value, "");
        assert_int_equal(get(f->store, (cal_column)column, "ke", value), CAL_ENOTFOUND);
        assert_int_equal(cal_store_get(f->store, (cal_column)column, cal_slice_text("key"), NULL),
                         0);
        assert_int_equal(cal_store_get(f->store, (cal_column)column, cal_slice_text("kez"), NULL),
                         CAL_ENOTFOUND);
    }
    cal_buffer small;
    cal_buffer_init(&small, 3);
    assert_int_equal(cal_store_get(f->store, CAL_COLUMN_NODE, cal_slice_text("key"), &small),
                     CAL_ELIMIT);
    cal_buffer_deinit(&small);
    reopen(f);
    assert_int_equal(get(f->store, CAL_COLUMN_STATE, "key", value), 0);
    assert_string_equal(value, "second");
}

static void test_operations_in_order(void **state) {
    fixture *f = *state;
    cal_error err = {0};
    char value[64];
    cal_batch *batch = cal_batch_new(), *more = cal_batch_new();
    cal_batch_put(batch, CAL_COLUMN_STATE, cal_slice_text("a1"), cal_slice_text("x"));
    cal_batch_put(batch, CAL_COLUMN_STATE, cal_slice_text("a2"), cal_slice_text("x"));
    cal_batch_put(batch, CAL_COLUMN_STATE, cal_slice_text("b"), cal_slice_text("x"));
    cal_batch_delete_prefix(batch, CAL_COLUMN_STATE, cal_slice_text("a"));
    cal_batch_put(more, CAL_COLUMN_STATE, cal_slice_text("a1"), cal_slice_text("y"));
    cal_batch_delete(more, CAL_COLUMN_STATE, cal_slice_text("b"));
    assert_int_equal(cal_batch_merge(batch, more), 0);
    assert_int_equal(cal_batch_count(batch), 6);
    assert_int_equal(cal_batch_count(more), 0);
    cal_batch_free(more);
    must(cal_store_commit(f->store, batch, &err), &err);
    assert_int_equal(get(f->store, CAL_COLUMN_STATE, "a1", value), 0);
    assert_string_equal(value, "y");
    assert_int_equal(get(f->store, CAL_COLUMN_STATE, "a2", value), CAL_ENOTFOUND);
    assert_int_equal(get(f->store, CAL_COLUMN_STATE, "b", value), CAL_ENOTFOUND);
}

static void test_batch_limits(void **state) {
    fixture *f = *state;
    uint8_t *big = calloc(1, CAL_STORE_VALUE_MAX + 1);
    char value[64];
    cal_batch *batch = cal_batch_new();
    cal_batch_put(batch, CAL_COLUMN_STATE, cal_slice_text("good"), cal_slice_text("x"));
    assert_int_equal(cal_batch_put(batch, CAL_COLUMN_STATE,
                                   cal_slice_of(big, CAL_STORE_KEY_MAX + 1), cal_slice_text("x")),
                     CAL_ELIMIT);
    assert_int_equal(
        cal_batch_put(batch, CAL_COLUMN_STATE, cal_slice_text("late"), cal_slice_text("x")),
        CAL_ELIMIT);
    assert_int_equal(cal_store_commit(f->store, batch, NULL), CAL_ELIMIT);
    assert_int_equal(get(f->store, CAL_COLUMN_STATE, "good", value), CAL_ENOTFOUND);
    batch = cal_batch_new();
    assert_int_equal(cal_batch_put(batch, CAL_COLUMN_STATE, cal_slice_text("k"),
                                   cal_slice_of(big, CAL_STORE_VALUE_MAX + 1)),
                     CAL_ELIMIT);
    cal_batch_free(batch);
    batch = cal_batch_new();
    assert_int_equal(cal_batch_delete_prefix(batch, CAL_COLUMN_STATE, (cal_slice){0}), CAL_EINVAL);
    cal_batch_free(batch);
    assert_int_equal(cal_store_health(f->store), 0);

    /* The largest key and value go through. */
    big[CAL_STORE_VALUE_MAX - 1] = 7;
    batch = cal_batch_new();
    cal_batch_put(batch, CAL_COLUMN_STATE, cal_slice_of(big, CAL_STORE_KEY_MAX),
                  cal_slice_text("long key"));
    cal_batch_put(batch, CAL_COLUMN_BLOB_CHUNK, cal_slice_text("big"),
                  cal_slice_of(big, CAL_STORE_VALUE_MAX));
    assert_int_equal(cal_store_commit(f->store, batch, NULL), 0);
    cal_buffer out;
    cal_buffer_init(&out, CAL_STORE_VALUE_MAX);
    assert_int_equal(cal_store_get(f->store, CAL_COLUMN_BLOB_CHUNK, cal_slice_text("big"), &out),
                     0);
    assert_int_equal(out.len, CAL_STORE_VALUE_MAX);
    assert_int_equal(out.data[out.len - 1], 7);
    cal_buffer_deinit(&out);
    assert_int_equal(
        cal_store_get(f->store, CAL_COLUMN_STATE, cal_slice_of(big, CAL_STORE_KEY_MAX), NULL), 0);
    free(big);
}

/* --- group commit --- */

enum { SUBMITTERS = 16, SUBMISSIONS = 64 };

typedef struct submitter {
    cal_store *store;
    pthread_t thread;
    int number;
    _Atomic int answered; /* in order, so also the number of the last */
    _Atomic int wrong;
} submitter;

typedef struct submission {
    submitter *by;
    int index;
} submission;

static void answered(void *user, int result) {
    submission *s = user;
    if (result || atomic_fetch_add(&s->by->answered, 1) != s->index)
        atomic_fetch_add(&s->by->wrong, 1);
    free(s);
}

static void *submit_all(void *arg) {
    submitter *by = arg;
    for (int i = 0; i < SUBMISSIONS; i++) {
        char key[32], value[32];
        snprintf(key, sizeof key, "%d/%d", by->number, i);
        snprintf(value, sizeof value, "%d", i);
        cal_batch *batch = cal_batch_new();
        cal_batch_put(batch, CAL_COLUMN_DELTA, cal_slice_text(key), cal_slice_text(value));
        cal_batch_put(batch, CAL_COLUMN_STATE, cal_slice_text("last"), cal_slice_text(key));
        submission *s = malloc(sizeof *s);
        *s = (submission){by, i};
        cal_store_submit(by->store, batch, answered, s);
    }
    return NULL;
}

static void test_group_commit(void **state) {
    fixture *f = *state;
    submitter all[SUBMITTERS] = {0};
    f->options.durability = CAL_DURABLE_FULL;
    reopen(f);
    for (int i = 0; i < SUBMITTERS; i++) {
        all[i].store = f->store;
        all[i].number = i;
        pthread_create(&all[i].thread, NULL, submit_all, &all[i]);
    }
    for (int i = 0; i < SUBMITTERS; i++) pthread_join(all[i].thread, NULL);
    put(f->store, CAL_COLUMN_STATE, "last", "end"); /* comes after all of them */
    cal_store_stats stats;
    cal_store_stats_get(f->store, &stats);
    for (int i = 0; i < SUBMITTERS; i++) {
        assert_int_equal(all[i].wrong, 0);
        assert_int_equal(all[i].answered, SUBMISSIONS);
    }
    assert_int_equal(stats.batches, SUBMITTERS * SUBMISSIONS + 1);
    assert_true(stats.transactions < stats.batches / 2);
    assert_int_equal(stats.failed, 0);
    char value[64];
    assert_int_equal(get(f->store, CAL_COLUMN_STATE, "last", value), 0);
    assert_string_equal(value, "end");
    reopen(f);
    for (int i = 0; i < SUBMITTERS; i++) {
        char key[32];
        snprintf(key, sizeof key, "%d/%d", i, SUBMISSIONS - 1);
        assert_int_equal(get(f->store, CAL_COLUMN_DELTA, key, value), 0);
    }
}

static void note_result(void *user, int result) { *(_Atomic int *)user = result; }

/* One bad batch in the queue fails alone, and keeps its place. */
static void test_bad_batch_alone(void **state) {
    fixture *f = *state;
    _Atomic int results[3] = {1, 1, 1};
    for (int i = 0; i < 3; i++) {
        char key[2] = {(char)('a' + i), 0};
        cal_batch *batch = cal_batch_new();
        cal_batch_put(batch, CAL_COLUMN_STATE, cal_slice_text(key), cal_slice_text("x"));
        if (i == 1) cal_batch_delete_prefix(batch, CAL_COLUMN_STATE, (cal_slice){0});
        cal_store_submit(f->store, batch, note_result, &results[i]);
    }
    put(f->store, CAL_COLUMN_STATE, "z", "x");
    assert_int_equal(results[0], 0);
    assert_int_equal(results[1], CAL_EINVAL);
    assert_int_equal(results[2], 0);
}

/* --- snapshots and cursors --- */

static void test_snapshot_isolation(void **state) {
    fixture *f = *state;
    cal_snapshot *before, *after;
    cal_buffer value;
    cal_buffer_init(&value, 64);
    put(f->store, CAL_COLUMN_STATE, "k", "old");
    assert_int_equal(cal_store_snapshot(f->store, &before), 0);
    put(f->store, CAL_COLUMN_STATE, "k",
        "new"); /* not blocked by the snapshot, and not seen by it */
    put(f->store, CAL_COLUMN_STATE, "l", "new");
    assert_int_equal(cal_store_snapshot(f->store, &after), 0);
    assert_int_equal(cal_snapshot_get(before, CAL_COLUMN_STATE, cal_slice_text("k"), &value), 0);
    assert_memory_equal(value.data, "old", 3);
    assert_int_equal(cal_snapshot_get(before, CAL_COLUMN_STATE, cal_slice_text("l"), NULL),
                     CAL_ENOTFOUND);
    cal_buffer_reset(&value);
    assert_int_equal(cal_snapshot_get(after, CAL_COLUMN_STATE, cal_slice_text("k"), &value), 0);
    assert_memory_equal(value.data, "new", 3);
    cal_snapshot_free(before);
    cal_snapshot_free(after);
    cal_buffer_deinit(&value);
}

/* Walks and returns the keys joined by spaces. */
static void walk(cal_snapshot *snapshot, const char *lo, const char *hi, bool descending,
                 char ret_keys[256]) {
    cal_cursor *cursor;
    ret_keys[0] = 0;
    assert_int_equal(cal_cursor_open(snapshot, CAL_COLUMN_INDEX, cal_slice_text(lo),
                                     cal_slice_text(hi), descending, &cursor),
                     0);
    cal_slice key, value;
    int error;
    while ((error = cal_cursor_next(cursor, &key, &value)) == 0) {
        assert_true(cal_slice_equal(key, value));
        size_t at = strlen(ret_keys);
        snprintf(ret_keys + at, 256 - at, "%.*s ", (int)key.len, (const char *)key.data);
    }
    assert_int_equal(error, CAL_ENOTFOUND);
    assert_int_equal(cal_cursor_next(cursor, &key, NULL), CAL_ENOTFOUND);
    cal_cursor_free(cursor);
}

static void test_cursors(void **state) {
    fixture *f = *state;
    static const char *const keys[] = {"b", "a", "ab", "c", "\xff", "\xff\xff", "aa"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        put(f->store, CAL_COLUMN_INDEX, keys[i], keys[i]);
    cal_snapshot *snapshot;
    assert_int_equal(cal_store_snapshot(f->store, &snapshot), 0);
    char seen[256];
    walk(snapshot, "", "", false, seen);
    assert_string_equal(seen, "a aa ab b c \xff \xff\xff ");
    walk(snapshot, "", "", true, seen);
    assert_string_equal(seen, "\xff\xff \xff c b ab aa a ");
    walk(snapshot, "aa", "c", false, seen);
    assert_string_equal(seen, "aa ab b ");
    walk(snapshot, "aa", "c", true, seen);
    assert_string_equal(seen, "b ab aa ");
    walk(snapshot, "aaa", "", true, seen);
    assert_string_equal(seen, "\xff\xff \xff c b ab ");
    walk(snapshot, "d", "e", false, seen);
    assert_string_equal(seen, "");
    cal_cursor *first, *second; /* two of the same shape at once */
    cal_slice key;
    assert_int_equal(
        cal_cursor_open(snapshot, CAL_COLUMN_INDEX, (cal_slice){0}, (cal_slice){0}, false, &first),
        0);
    assert_int_equal(
        cal_cursor_open(snapshot, CAL_COLUMN_INDEX, (cal_slice){0}, (cal_slice){0}, false, &second),
        0);
    assert_int_equal(cal_cursor_next(first, &key, NULL), 0);
    assert_int_equal(cal_cursor_next(first, &key, NULL), 0);
    assert_true(cal_slice_equal(key, cal_slice_text("aa")));
    assert_int_equal(cal_cursor_next(second, &key, NULL), 0);
    assert_true(cal_slice_equal(key, cal_slice_text("a")));
    cal_cursor_free(first);
    cal_cursor_free(second);
    uint64_t bytes;
    assert_int_equal(cal_snapshot_size(snapshot, CAL_COLUMN_INDEX, cal_slice_text("a"), &bytes), 0);
    assert_int_equal(bytes, 2 * (1 + 2 + 2));
    assert_int_equal(cal_snapshot_size(snapshot, CAL_COLUMN_INDEX, cal_slice_text("\xff"), &bytes),
                     0);
    assert_int_equal(bytes, 2 * (1 + 2));
    assert_int_equal(cal_snapshot_size(snapshot, CAL_COLUMN_INDEX, cal_slice_text("q"), &bytes), 0);
    assert_int_equal(bytes, 0);
    cal_snapshot_free(snapshot);
}

static void test_prefixes(void **state) {
    fixture *f = *state;
    cal_buffer end;
    cal_buffer_init(&end, 8);
    cal_prefix_end(cal_slice_text("ab"), &end);
    assert_true(cal_slice_equal(cal_buffer_slice(&end), cal_slice_text("ac")));
    cal_prefix_end(cal_slice_text("a\xff\xff"), &end);
    assert_true(cal_slice_equal(cal_buffer_slice(&end), cal_slice_text("b")));
    cal_prefix_end(cal_slice_text("\xff\xff"), &end);
    assert_int_equal(end.len, 0);
    cal_buffer_deinit(&end);
    static const char *const keys[] = {"a", "ab", "abc", "ac", "\xff", "\xff\xff", "\xfe"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        put(f->store, CAL_COLUMN_INDEX, keys[i], keys[i]);
    cal_batch *batch = cal_batch_new();
    cal_batch_delete_prefix(batch, CAL_COLUMN_INDEX, cal_slice_text("ab"));
    cal_batch_delete_prefix(batch, CAL_COLUMN_INDEX, cal_slice_text("\xff"));
    must(cal_store_commit(f->store, batch, NULL), NULL);
    cal_snapshot *snapshot;
    char seen[256];
    assert_int_equal(cal_store_snapshot(f->store, &snapshot), 0);
    walk(snapshot, "", "", false, seen);
    assert_string_equal(seen, "a ac \xfe ");
    cal_snapshot_free(snapshot);
}

static void write_round(cal_store *store, int round) {
    static uint8_t chunk[256 * 1024];
    char value[16];
    snprintf(value, sizeof value, "%d", round);
    memset(chunk, round, sizeof chunk);
    cal_batch *batch = cal_batch_new();
    cal_batch_put(batch, CAL_COLUMN_BLOB_CHUNK, cal_slice_text("chunk"),
                  cal_slice_of(chunk, sizeof chunk));
    cal_batch_put(batch, CAL_COLUMN_STATE, cal_slice_text("k"), cal_slice_text(value));
    must(cal_store_commit(store, batch, NULL), NULL);
}

/* A snapshot keeps its moment while the log grows past every threshold; when it goes, the log
 * starts over under a busy writer. */
static void test_checkpoints(void **state) {
    fixture *f = *state;
    cal_snapshot *old;
    char value[64], expected[16];
    f->options.durability =
        CAL_DURABLE_FULL; /* the writer's pace is the disk's, as the caretaker's is */
    reopen(f);
    put(f->store, CAL_COLUMN_STATE, "k", "old");
    assert_int_equal(cal_store_snapshot(f->store, &old), 0);
    int round = 0;
    while (round < 100) write_round(f->store, round++);
    assert_true(atomic_load(&f->store->log_pages) > 100 * 64);
    cal_buffer seen;
    cal_buffer_init(&seen, 8);
    assert_int_equal(cal_snapshot_get(old, CAL_COLUMN_STATE, cal_slice_text("k"), &seen), 0);
    assert_memory_equal(seen.data, "old", 3);
    cal_buffer_deinit(&seen);
    cal_snapshot_free(old);
    uint64_t before;
    do {
        before = atomic_load(&f->store->log_pages);
        write_round(f->store, round++);
        assert_true(round < 5000);
    } while (atomic_load(&f->store->log_pages) >= before);
    reopen(f);
    snprintf(expected, sizeof expected, "%d", round - 1);
    assert_int_equal(get(f->store, CAL_COLUMN_STATE, "k", value), 0);
    assert_string_equal(value, expected);
}

/* --- opening and refusing --- */

static void test_second_open_refused(void **state) {
    fixture *f = *state;
    cal_store *second = NULL;
    cal_error err = {0};
    assert_int_equal(cal_store_open(&f->options, &second, &err), CAL_EBUSY);
    assert_non_null(strstr(err.message, "another process"));
    assert_int_equal(cal_store_create(&f->options, &err), CAL_EBUSY);
    assert_int_equal(cal_store_rekey(&f->options, &f->key, &err), CAL_EBUSY);
    assert_null(second);
}

static void test_create_and_absence(void **state) {
    fixture *f = *state;
    cal_error err = {0};
    cal_store *store;
    cal_store_close(f->store);
    f->store = NULL;
    assert_int_equal(cal_store_create(&f->options, &err), CAL_EEXISTS);
    char folder[96];
    snprintf(folder, sizeof folder, "%s/none", f->folder);
    cal_store_options options = f->options;
    options.folder = folder;
    assert_int_equal(cal_store_open(&options, &store, &err), CAL_ENOTFOUND);
    assert_int_equal(cal_os_posix()->make_dir(cal_os_posix()->user, folder), 0);
    assert_int_equal(cal_store_open(&options, &store, &err), CAL_ENOTFOUND);
    must(cal_store_create(&options, &err),
         &err); /* the master key file that exists is used again */
    must(cal_store_open(&options, &store, &err), &err);
    cal_store_close(store);
}

static void store_file(const fixture *f, const char *name, char ret_path[128]) {
    snprintf(ret_path, 128, "%s/%s", f->folder, name);
}

static void flip(const char *path, long at) {
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    fseek(file, at, SEEK_SET);
    int byte = fgetc(file);
    fseek(file, at, SEEK_SET);
    fputc(byte ^ 1, file);
    fclose(file);
}

static long length(const char *path) {
    FILE *file = fopen(path, "rb");
    fseek(file, 0, SEEK_END);
    long len = ftell(file);
    fclose(file);
    return len;
}

static void test_wrong_keys(void **state) {
    fixture *f = *state;
    cal_error err = {0};
    cal_store *store = NULL;
    cal_store_close(f->store);
    f->store = NULL;
    char other[128];
    store_file(f, "other.key", other);
    FILE *file = fopen(other, "w");
    for (int i = 0; i < 32; i++) fputs("5a", file);
    fclose(file);
    cal_key_source wrong = {CAL_KEY_FILE, other};
    cal_store_options options = f->options;
    options.key = &wrong;
    static const mode_t seen[] = {0640, 0620, 0610, 0604, 0602, 0601, 0644}; /* by anybody else */
    for (size_t i = 0; i < sizeof seen / sizeof *seen; i++) {
        chmod(other, seen[i]);
        assert_int_equal(cal_store_open(&options, &store, &err), CAL_EDENIED);
    }
    chmod(other, 0600);
    assert_int_equal(cal_store_open(&options, &store, &err), CAL_EKEY);
    assert_non_null(strstr(err.message, "wrong master key"));
    wrong.text = "/nonexistent/key";
    assert_int_equal(cal_store_open(&options, &store, &err), CAL_EKEY);
    wrong = (cal_key_source){CAL_KEY_PASSPHRASE, "hello"};
    assert_int_equal(cal_store_open(&options, &store, &err), CAL_EKEY);
    assert_non_null(strstr(err.message, "from a file"));
    cal_key_kind kind;
    assert_int_equal(cal_key_kind_read(NULL, f->folder, &kind, &err), 0);
    assert_int_equal(kind, CAL_KEY_FILE);
}

static void test_damaged_key_file(void **state) {
    fixture *f = *state;
    cal_store_close(f->store);
    f->store = NULL;
    char path[128];
    store_file(f, "key.json", path);
    long len = length(path);
    assert_true(len > 100);
    for (long at = 0; at < len; at++) {
        cal_error err = {0};
        cal_store *store = NULL;
        flip(path, at);
        int result = cal_store_open(&f->options, &store, &err);
        if (result != CAL_ECORRUPT) print_error("byte %ld: %s\n", at, err.message);
        assert_int_equal(result, CAL_ECORRUPT);
        assert_non_null(strstr(err.message, "key file"));
        flip(path, at);
    }
    assert_int_equal(truncate(path, len - 1), 0);
    assert_int_equal(cal_store_open(&f->options, &f->store, NULL), CAL_ECORRUPT);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(cal_store_open(&f->options, &f->store, NULL), CAL_ECORRUPT);
    assert_int_equal(remove(path), 0);
    assert_int_equal(cal_store_open(&f->options, &f->store, NULL), CAL_ECORRUPT);
}

static void test_damaged_first_page(void **state) {
    fixture *f = *state;
    cal_store_close(f->store);
    f->store = NULL;
    char path[128];
    store_file(f, "store.db", path);
    for (long at = 0; at < 4096; at += 97) {
        cal_error err = {0};
        flip(path, at);
        int result = cal_store_open(&f->options, &f->store, &err);
        if (result != CAL_ECORRUPT) print_error("byte %ld: %s\n", at, err.message);
        assert_int_equal(result, CAL_ECORRUPT);
        assert_non_null(strstr(err.message, "database"));
        flip(path, at);
    }
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(cal_store_open(&f->options, &f->store, NULL), CAL_ECORRUPT);
}

static void count_finding(void *user, const char *finding) {
    (void)finding;
    ++*(int *)user;
}

/* One damaged page fails what needs it, and nothing else; a check finds it. */
static void test_damage_met_later(void **state) {
    fixture *f = *state;
    cal_error err = {0};
    char path[128], key[32];
    static uint8_t value[1000];
    for (int i = 0; i < 400; i++) {
        cal_batch *batch = cal_batch_new();
        snprintf(key, sizeof key, "%06d", i);
        cal_batch_put(batch, CAL_COLUMN_STATE, cal_slice_text(key),
                      cal_slice_of(value, sizeof value));
        must(cal_store_commit(f->store, batch, &err), &err);
    }
    int findings = 0;
    must(cal_store_verify(f->store, count_finding, &findings, &err), &err);
    assert_int_equal(findings, 0);
    cal_store_close(f->store);
    f->store = NULL;
    store_file(f, "store.db", path);
    flip(path, length(path) - 2 * 4096 + 100);
    must(cal_store_open(&f->options, &f->store, &err), &err);
    int damaged = 0, good = 0;
    for (int i = 0; i < 400; i++) {
        snprintf(key, sizeof key, "%06d", i);
        int result = cal_store_get(f->store, CAL_COLUMN_STATE, cal_slice_text(key), NULL);
        assert_true(result == 0 || result == CAL_ECORRUPT);
        if (result)
            damaged++;
        else
            good++;
    }
    assert_true(damaged > 0 && damaged < 10);
    assert_int_equal(good + damaged, 400);
    assert_int_equal(cal_store_health(f->store), CAL_ECORRUPT);
    cal_store_stats stats;
    cal_store_stats_get(f->store, &stats);
    assert_int_equal(stats.damaged, damaged);
    put(f->store, CAL_COLUMN_NODE, "still", "writes");
    int refused = 0;
    for (int i = 0; i < 400; i++) { /* writing to the damaged page fails alone too */
        cal_batch *batch = cal_batch_new();
        snprintf(key, sizeof key, "%06d", i);
        cal_batch_put(batch, CAL_COLUMN_STATE, cal_slice_text(key), cal_slice_text("new"));
        int result = cal_store_commit(f->store, batch, &err);
        assert_true(result == 0 || result == CAL_ECORRUPT);
        refused += result != 0;
    }
    assert_true(refused > 0);
    cal_store_stats_get(f->store, &stats);
    assert_int_equal(stats.damaged, damaged + refused); /* and is remembered */
    put(f->store, CAL_COLUMN_NODE, "still", "writes");
    assert_int_equal(cal_store_verify(f->store, count_finding, &findings, &err), CAL_ECORRUPT);
    assert_true(findings > 0);
}

static void test_newer_version_refused(void **state) {
    fixture *f = *state;
    cal_error err = {0};
    cal_store_close(f->store);
    f->store = NULL;
    char path[128];
    store_file(f, "store.db", path);
    cal_secret key;
    const cal_engine *engine = cal_engine_sqlcipher();
    cal_engine_db *db;
    cal_engine_conn *conn;
    must(key_open(cal_os_posix(), f->folder, &f->key, &key, &err), &err);
    cal_engine_config config = {.os = cal_os_posix(), .path = path, .key = &key, .cache_kib = 256};
    must(engine->attach(&config, &db, &err), &err);
    must(engine->connect(db, CAL_ENGINE_WRITER, &conn, &err), &err);
    must(engine_exec(conn, "PRAGMA user_version = 99"), NULL);
    engine->disconnect(conn);
    engine->detach(db);
    assert_int_equal(cal_store_open(&f->options, &f->store, &err), CAL_EVERSION);
    assert_non_null(strstr(err.message, "99"));
}

/* --- keys --- */

static void test_passphrase_and_rekey(void **state) {
    fixture *f = *state;
    cal_error err = {0};
    char value[64];
    put(f->store, CAL_COLUMN_STATE, "k", "kept");
    cal_store_close(f->store);
    f->store = NULL;
    cal_key_source phrase = {CAL_KEY_PASSPHRASE, "correct horse"},
                   wrong = {CAL_KEY_PASSPHRASE, "correct house"};
    cal_key_source command = {CAL_KEY_COMMAND, "printf 'line of a command\\n'"};
    cal_key_source digits = {CAL_KEY_COMMAND,
                             "for i in 1 2 3 4 5 6 7 8; do printf 0123abcd; done; echo"};
    cal_key_source failing = {CAL_KEY_COMMAND, "exit 3"},
                   two_lines = {CAL_KEY_COMMAND, "echo a; echo b"};
    must(cal_store_rekey(&f->options, &phrase, &err), &err);
    assert_int_equal(cal_store_open(&f->options, &f->store, &err), CAL_EKEY);
    f->options.key = &wrong;
    assert_int_equal(cal_store_open(&f->options, &f->store, &err), CAL_EKEY);
    assert_non_null(strstr(err.message, "wrong passphrase"));
    assert_int_equal(cal_store_rekey(&f->options, &command, &err), CAL_EKEY);
    f->options.key = &phrase;
    assert_int_equal(cal_store_rekey(&f->options, &failing, &err), CAL_EKEY);
    assert_int_equal(cal_store_rekey(&f->options, &two_lines, &err), CAL_EKEY);
    must(cal_store_rekey(&f->options, &command, &err), &err);
    f->options.key = &command;
    must(cal_store_open(&f->options, &f->store, &err), &err);
    cal_store_close(f->store);
    f->store = NULL;
    must(cal_store_rekey(&f->options, &digits, &err), &err);
    f->options.key = &digits;
    must(cal_store_open(&f->options, &f->store, &err), &err);
    assert_int_equal(get(f->store, CAL_COLUMN_STATE, "k", value), 0);
    assert_string_equal(value, "kept");
}

/* --- copies --- */

typedef struct backup_writer {
    cal_store *store;
    atomic_bool stop;
    int written;
} backup_writer;

static void *write_on(void *arg) {
    backup_writer *w = arg;
    while (!atomic_load(&w->stop)) {
        char number[16];
        snprintf(number, sizeof number, "%08d", w->written);
        cal_batch *batch = cal_batch_new();
        cal_batch_put(batch, CAL_COLUMN_STATE, cal_slice_text(number), cal_slice_text(number));
        cal_batch_put(batch, CAL_COLUMN_NODE, cal_slice_text("count"), cal_slice_text(number));
        if (cal_store_commit(w->store, batch, NULL)) return NULL;
        w->written++;
    }
    return w;
}

static void note_progress(void *user, uint64_t done, uint64_t total) {
    uint64_t *last = user;
    assert_true(done <= total);
    *last = done == total ? total : 0;
}

static void test_backup_under_writes(void **state) {
    fixture *f = *state;
    cal_error err = {0};
    static uint8_t chunk[1 << 20];
    for (int i = 0; i < 8; i++) {
        char key[8];
        snprintf(key, sizeof key, "%d", i);
        cal_batch *batch = cal_batch_new();
        cal_batch_put(batch, CAL_COLUMN_BLOB_CHUNK, cal_slice_text(key),
                      cal_slice_of(chunk, sizeof chunk));
        must(cal_store_commit(f->store, batch, NULL), NULL);
    }
    backup_writer writer = {.store = f->store};
    pthread_t thread;
    void *ended;
    pthread_create(&thread, NULL, write_on, &writer);
    char folder[96], path[128];
    uint64_t last = 0;
    snprintf(folder, sizeof folder, "%s/copy", f->folder);
    must(cal_store_backup(f->store, folder, note_progress, &last, &err), &err);
    assert_true(last > 8 * 256);
    assert_int_equal(cal_store_backup(f->store, folder, NULL, NULL, &err), CAL_EEXISTS);
    atomic_store(&writer.stop, true);
    pthread_join(thread, &ended);
    assert_ptr_equal(ended, &writer);
    snprintf(path, sizeof path, "%s/README.txt", folder);
    assert_true(length(path) > 0);

    cal_store_options options = f->options;
    options.folder = folder;
    cal_store *copy;
    must(cal_store_open(&options, &copy, &err), &err);
    must(cal_store_verify(copy, NULL, NULL, &err), &err);
    char count[64], row[64];
    if (get(copy, CAL_COLUMN_NODE, "count", count) ==
        0) { /* one moment: the last counted row is there and no later one */
        assert_int_equal(get(copy, CAL_COLUMN_STATE, count, row), 0);
        char next[64];
        snprintf(next, sizeof next, "%08d", atoi(count) + 1);
        assert_int_equal(get(copy, CAL_COLUMN_STATE, next, row), CAL_ENOTFOUND);
    }
    assert_int_equal(cal_store_get(copy, CAL_COLUMN_BLOB_CHUNK, cal_slice_text("7"), NULL), 0);
    cal_store_close(copy);
}

/* Nothing written can be read from the files. */
static void test_nothing_readable_on_disk(void **state) {
    fixture *f = *state;
    put(f->store, CAL_COLUMN_STATE, "a recognisable key", "a recognisable value");
    static const char *const names[] = {"store.db", "store.db-wal"};
    for (size_t i = 0; i < 2; i++) {
        char path[128];
        store_file(f, names[i], path);
        FILE *file = fopen(path, "rb");
        assert_non_null(file);
        static uint8_t bytes[1 << 20];
        size_t got = fread(bytes, 1, sizeof bytes, file);
        fclose(file);
        assert_true(got > 4096);
        assert_null(memmem(bytes, got, "recognisable", 12));
        assert_null(memmem(bytes, got, "SQLite", 6));
        assert_null(memmem(bytes, got, "private_state", 13));
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_put_get),
        TEST(test_operations_in_order),
        TEST(test_batch_limits),
        TEST(test_group_commit),
        TEST(test_bad_batch_alone),
        TEST(test_snapshot_isolation),
        TEST(test_cursors),
        TEST(test_prefixes),
        TEST(test_checkpoints),
        TEST(test_second_open_refused),
        TEST(test_create_and_absence),
        TEST(test_wrong_keys),
        TEST(test_damaged_key_file),
        TEST(test_damaged_first_page),
        TEST(test_damage_met_later),
        TEST(test_newer_version_refused),
        TEST(test_passphrase_and_rekey),
        TEST(test_backup_under_writes),
        TEST(test_nothing_readable_on_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
