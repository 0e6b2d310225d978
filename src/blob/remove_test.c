/* Removing a blob while others use its chunks: whatever is done at whatever point of the removal, a
 * reader that is open reads all, a blob that was written is whole, and in the end exactly the
 * listed chunks are left. One thread on a stepped store does both sides, so every interleaving is
 * forced. Then the removal of a large blob on the real disk, beside a writer and reader: nobody
 * waits for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "blob/internal.h"
#include "os/sim/sim.h"
#include "store/key.h"

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum {
    SIZE = CAL_BLOB_CHUNK_SIZE + 1,                           /* two chunks */
    LONG_SIZE = BLOB_COLLECT_BATCH * CAL_BLOB_CHUNK_SIZE + 1, /* two removals */
    OTHER_SIZE = CAL_BLOB_CHUNK_SIZE + 2, /* its first chunk is the others', too */
};

static const cal_key_source key = {CAL_KEY_FILE, "/s/key"};

typedef struct fixture {
    cal_sim *sim;
    cal_store_options options;
    cal_store *store;
    cal_blobs *blobs;
    size_t size; /* of the blob that is removed */
    cal_blob_id id, other;
    /* What happens at which point. */
    blob_point point;
    int at, seen; /* the how-manieth time */
    void (*action)(struct fixture *f);
    cal_blobs_reader *reader;
    cal_blobs_writer *writer;
    bool written, other_written;
} fixture;

static void act(void *user, blob_point point) {
    fixture *f = user;
    if (point != f->point || f->seen++ != f->at) return;
    f->blobs->at = NULL; /* once, and not within itself */
    f->action(f);
}

static uint8_t *content(void) {
    static uint8_t bytes[LONG_SIZE + 2];
    if (!bytes[1]) {
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)(i * 7 + i / 4096 + (i >> 20));
    }
    return bytes;
}

static void open_all(fixture *f) {
    assert_int_equal(cal_store_open(&f->options, &f->store, NULL), 0);
    assert_int_equal(cal_blobs_open(f->store, f->options.os, &f->blobs, NULL), 0);
}

static cal_blobs_writer *begin(fixture *f, size_t size) {
    cal_blobs_writer *writer;
    assert_int_equal(cal_blobs_create(f->blobs, UINT64_MAX, &writer, NULL), 0);
    assert_int_equal(cal_blobs_write(writer, cal_slice_of(content(), size), NULL), 0);
    return writer;
}

static void write_blob(fixture *f, size_t size, cal_blob_id *ret_id) {
    cal_blobs_info info;
    assert_int_equal(cal_blobs_finish(begin(f, size), NULL, &info, NULL), 0);
    *ret_id = info.id;
}

static void read_all(cal_blobs_reader *reader, size_t size) {
    size_t at = 0;
    cal_slice bytes;
    while (assert_int_equal(cal_blobs_read_chunk(reader, &bytes), 0), bytes.len > 0) {
        assert_memory_equal(bytes.data, content() + at, bytes.len);
        at += bytes.len;
    }
    assert_int_equal(at, size);
    cal_blobs_read_close(reader);
}

static size_t chunks_left(fixture *f) {
    cal_snapshot *snapshot;
    cal_cursor *cursor;
    cal_slice at;
    size_t count = 0;
    assert_int_equal(cal_store_snapshot(f->store, &snapshot), 0);
    assert_int_equal(cal_cursor_open(snapshot, CAL_COLUMN_BLOB_CHUNK, (cal_slice){0},
                                     (cal_slice){0}, false, &cursor),
                     0);
    while (cal_cursor_next(cursor, &at, NULL) == 0) count++;
    cal_cursor_free(cursor);
    cal_snapshot_free(snapshot);
    return count;
}

static void setup(fixture *f, size_t size) {
    *f = (fixture){.sim = cal_sim_new(1), .size = size};
    const cal_os *os = cal_sim_os(f->sim);
    f->options = (cal_store_options){.os = os, .folder = "/s", .key = &key, .stepped = true};
    os->make_dir(os->user, "/s");
    os->sync_dir(os->user, "/");
    assert_int_equal(cal_store_create(&f->options, NULL), 0);
    open_all(f);
    write_blob(f, size, &f->id);
}

/* Ends what the action has begun, and looks at everything. Garbage that is told now was left by the
 * action or spared for a reader that has closed. */
static void finish(fixture *f) {
    f->blobs->at = NULL;
    while (cal_store_step(f->store)) {
    } /* answers that nobody waited for */
    if (f->writer) {
        cal_blobs_info info;
        assert_int_equal(cal_blobs_finish(f->writer, &f->id, &info, NULL), 0);
        f->written = true;
    }
    if (f->reader) read_all(f->reader, f->size);
    bool present = cal_blobs_stat(f->blobs, &f->id, NULL) == 0;
    assert_int_equal(present, f->written);
    cal_blobs_reader *reader;
    if (f->written) {
        assert_int_equal(cal_blobs_read_open(f->blobs, &f->id, &reader, NULL, NULL), 0);
        read_all(reader, f->size);
    }
    if (f->other_written) {
        assert_int_equal(cal_blobs_read_open(f->blobs, &f->other, &reader, NULL, NULL), 0);
        read_all(reader, OTHER_SIZE);
    }
    assert_int_equal(cal_blobs_check(f->blobs, NULL, NULL, NULL), 0);
    size_t listed = f->written ? f->size / CAL_BLOB_CHUNK_SIZE + 1 : 0;
    if (f->other_written) listed += f->written ? 1 : 2; /* they share the first */
    /* What is left is told, and the next collection has it. */
    for (int i = 0; i < 3 && cal_blobs_garbage(f->blobs); i++)
        assert_int_equal(cal_blobs_collect(f->blobs, NULL, NULL), 0);
    assert_false(cal_blobs_garbage(f->blobs));
    assert_int_equal(chunks_left(f), listed);
    assert_int_equal(f->blobs->pins.count, 0);
    assert_int_equal(f->blobs->removing.count, 0);
    assert_true(cal_list_empty(&f->blobs->collections));
    cal_blobs_close(f->blobs);
    cal_store_close(f->store);
    cal_sim_free(f->sim);
}

/* --- what others do --- */

static void open_reader(fixture *f) {
    int error = cal_blobs_read_open(f->blobs, &f->id, &f->reader, NULL, NULL);
    assert_true(error == 0 || error == CAL_ENOTFOUND);
    if (error) f->reader = NULL;
}

static void write_again(fixture *f) {
    write_blob(f, f->size, &f->id);
    f->written = true;
}

static void begin_writing(fixture *f) { f->writer = begin(f, f->size); }
static void write_and_abort(fixture *f) { cal_blobs_abort(begin(f, f->size)); }

static void write_other(fixture *f) {
    write_blob(f, OTHER_SIZE, &f->other);
    f->other_written = true;
}

static void write_and_delete_other(fixture *f) { /* a removal does not wait for a removal */
    write_blob(f, OTHER_SIZE, &f->other);
    assert_int_equal(cal_blobs_delete(f->blobs, &f->other, NULL), 0);
}

static void collect(fixture *f) { assert_int_equal(cal_blobs_collect(f->blobs, NULL, NULL), 0); }

static void write_again_and_delete(fixture *f) {
    write_blob(f, f->size, &f->id);
    assert_int_equal(cal_blobs_delete(f->blobs, &f->id, NULL), 0);
}

static void delete_it(fixture *f) {
    int error = cal_blobs_delete(f->blobs, &f->id, NULL);
    assert_true(error == 0 || error == CAL_ENOTFOUND);
    f->written = false;
}

static void delete_and_collect(fixture *f) {
    delete_it(f);
    collect(f);
}

/* --- every action at every point --- */

static void removal_meets(size_t size, blob_point point, int at, void (*action)(fixture *f)) {
    fixture f;
    setup(&f, size);
    f.point = point;
    f.at = at;
    f.action = action;
    f.blobs->at = act;
    f.blobs->at_user = &f;
    assert_int_equal(cal_blobs_delete(f.blobs, &f.id, NULL), 0);
    assert_null(f.blobs->at); /* the point was reached */
    finish(&f);
}

static void test_removal_meets_others(void **state) {
    (void)state;
    static void (*const actions[])(fixture *) = {
        open_reader,
        write_again,
        begin_writing,
        write_and_abort,
        write_other,
        collect,
        write_and_delete_other,
        delete_it,
        write_again_and_delete,
    };
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) {
        for (int point = BLOB_AT_UNRECORDED; point <= BLOB_AT_REMOVED; point++)
            removal_meets(SIZE, (blob_point)point, 0, actions[i]);
        removal_meets(LONG_SIZE, BLOB_AT_REMOVED, 0, actions[i]); /* between two transactions */
        removal_meets(LONG_SIZE, BLOB_AT_REMOVING, 1, actions[i]);
    }
}

static void open_meets(blob_point point, void (*action)(fixture *f)) {
    fixture f;
    setup(&f, SIZE);
    f.written = true;
    f.point = point;
    f.action = action;
    f.blobs->at = act;
    f.blobs->at_user = &f;
    cal_blobs_reader *reader;
    int error = cal_blobs_read_open(f.blobs, &f.id, &reader, NULL, NULL);
    assert_null(f.blobs->at);
    assert_int_equal(error, f.written ? 0 : CAL_ENOTFOUND);
    if (!error) f.reader = reader;
    finish(&f);
}

/* The chunks may be there already, listed or not, when a writer comes to them. */
static void write_meets(blob_point point, int at, bool there, void (*action)(fixture *f)) {
    fixture f;
    setup(&f, SIZE);
    if (!there) assert_int_equal(cal_blobs_delete(f.blobs, &f.id, NULL), 0);
    f.point = point;
    f.at = at;
    f.action = action;
    f.blobs->at = act;
    f.blobs->at_user = &f;
    write_blob(&f, SIZE, &f.id);
    assert_null(f.blobs->at);
    f.written = true;
    finish(&f);
}

static void test_readers_and_writers_meet_removal(void **state) {
    (void)state;
    static void (*const actions[])(fixture *) = {delete_it, delete_and_collect, collect,
                                                 write_and_abort, write_again_and_delete};
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) {
        bool deletes = actions[i] != collect && actions[i] != write_and_abort;
        for (int point = BLOB_AT_READ_RECORD; point <= BLOB_AT_READ_PINNED; point++) {
            if (actions[i] != write_again_and_delete) open_meets((blob_point)point, actions[i]);
        }
        for (int point = BLOB_AT_WRITE_PINNED; point <= BLOB_AT_WRITE_SOUGHT; point++) {
            for (int at = 0; at < 2; at++) {
                write_meets((blob_point)point, at, true, actions[i]);
                if (!deletes || actions[i] == write_again_and_delete)
                    write_meets((blob_point)point, at, false, actions[i]);
            }
        }
    }
}

/* --- two removals of one chunk at once --- */

typedef struct second {
    fixture f;
    pthread_t thread;
    sem_t removed, go_on;
} second;

/* The first stops when its removal is durable and its mark still there; the second lets it go on
 * when its own removal is on the way, and writes the blob again. */
static void meet_second(void *user, blob_point point) {
    second *s = user;
    bool first = pthread_equal(pthread_self(), s->thread);
    if (first && point == BLOB_AT_REMOVED) {
        sem_post(&s->removed);
        sem_wait(&s->go_on);
    } else if (!first && point == BLOB_AT_REMOVING) {
        sem_post(&s->go_on);
        pthread_join(s->thread, NULL);
        s->f.blobs->at = NULL;
        write_again(&s->f);
    }
}

static void *remove_first(void *arg) {
    second *s = arg;
    s->thread = pthread_self();
    if (cal_blobs_delete(s->f.blobs, &s->f.id, NULL)) return NULL;
    return s;
}

static void test_two_removals_of_a_chunk(void **state) {
    (void)state;
    static second s;
    setup(&s.f, SIZE);
    sem_init(&s.removed, 0, 0);
    sem_init(&s.go_on, 0, 0);
    s.f.blobs->at = meet_second;
    s.f.blobs->at_user = &s;
    pthread_t thread;
    pthread_create(&thread, NULL, remove_first, &s);
    sem_wait(&s.removed); /* from here one of the two runs at a time */
    write_and_abort(&s.f);
    while (cal_store_step(s.f.store)) {
    }
    collect(&s.f);
    assert_true(s.f.written);
    finish(&s.f);
    sem_destroy(&s.removed);
    sem_destroy(&s.go_on);
}

/* --- crashes --- */

static void power_off(fixture *f) { cal_sim_power_off(f->sim); }

/* The power goes at a point of the removal: afterwards the blob is whole or gone, nothing misses a
 * chunk, and a collection leaves exactly what is listed. */
static void test_removal_crashes(void **state) {
    (void)state;
    for (int survival = CAL_SIM_KEEP; survival <= CAL_SIM_TEAR; survival++) {
        for (int point = BLOB_AT_UNRECORDED; point <= BLOB_AT_REMOVED; point++) {
            fixture f;
            setup(&f, LONG_SIZE);
            write_other(&f);
            f.point = (blob_point)point;
            f.action = power_off;
            f.blobs->at = act;
            f.blobs->at_user = &f;
            assert_int_equal(cal_blobs_delete(f.blobs, &f.id, NULL), 0); /* the record is gone */
            cal_blobs_close(f.blobs);
            cal_store_close(f.store);
            cal_sim_power_on(f.sim, (cal_sim_survival)survival);
            open_all(&f);
            collect(&f);
            finish(&f);
        }
    }
}

/* --- what is left over --- */

static void disk_fails(fixture *f) {
    cal_sim_fail(f->sim, CAL_SIM_WRITE | CAL_SIM_SYNC, 1, UINT64_MAX, CAL_EIO);
}

/* The record is gone and the chunks cannot be removed: a collection is asked for. */
static void test_removal_that_fails(void **state) {
    (void)state;
    for (int point = BLOB_AT_UNRECORDED; point <= BLOB_AT_REMOVING; point++) {
        fixture f;
        setup(&f, SIZE);
        f.point = (blob_point)point;
        f.action = disk_fails;
        f.blobs->at = act;
        f.blobs->at_user = &f;
        assert_int_equal(cal_blobs_delete(f.blobs, &f.id, NULL), 0);
        cal_sim_fail(f.sim, 0, 0, 0, 0);
        assert_true(cal_blobs_garbage(f.blobs));
        finish(&f);
    }
}

enum { UNLISTED = BLOB_COLLECT_PAGE + 10, LISTED = BLOB_COLLECT_PAGE + 300 };

static void chunk_id(uint32_t number, bool listed, uint8_t ret_id[CAL_HASH_SIZE]) {
    uint8_t text[5] = {listed};
    cal_write_u32le(text + 1, number);
    cal_sha256(cal_slice_of(text, sizeof text), ret_id);
}

/* More chunks than a page of candidates, and a record that lists more than a page: exactly the
 * unlisted ones go. The rows are short, which a collection does not look at. */
static void test_collecting_pages(void **state) {
    (void)state;
    fixture f;
    setup(&f, SIZE);
    uint8_t *ids = malloc((size_t)LISTED * CAL_HASH_SIZE), id[CAL_HASH_SIZE];
    cal_batch *batch = cal_batch_new();
    cal_buffer bytes;
    cal_buffer_init(&bytes, BLOB_RECORD_MAX);
    for (uint32_t i = 0; i < LISTED; i++) {
        chunk_id(i, true, ids + (size_t)i * CAL_HASH_SIZE);
        cal_batch_put(batch, CAL_COLUMN_BLOB_CHUNK,
                      cal_slice_of(ids + (size_t)i * CAL_HASH_SIZE, CAL_HASH_SIZE),
                      cal_slice_text("x"));
    }
    for (uint32_t i = 0; i < UNLISTED; i++) {
        chunk_id(i, false, id);
        cal_batch_put(batch, CAL_COLUMN_BLOB_CHUNK, cal_slice_of(id, sizeof id),
                      cal_slice_text("x"));
    }
    blob_record record = {
        .size = (uint64_t)LISTED * CAL_BLOB_CHUNK_SIZE, .chunk_count = LISTED, .chunk_ids = ids};
    assert_int_equal(blob_record_write(&record, &bytes), 0);
    cal_batch_put(batch, CAL_COLUMN_BLOB, cal_slice_text("0123456789abcdef0123456789abcdef"),
                  cal_buffer_slice(&bytes));
    assert_int_equal(cal_store_commit(f.store, batch, NULL), 0);
    uint64_t removed;
    assert_int_equal(cal_blobs_collect(f.blobs, &removed, NULL), 0);
    assert_int_equal(removed, UNLISTED);
    assert_int_equal(chunks_left(&f), LISTED + 2);
    for (uint32_t i = 0; i < LISTED; i++)
        assert_int_equal(cal_store_get(f.store, CAL_COLUMN_BLOB_CHUNK,
                                       cal_slice_of(ids + (size_t)i * CAL_HASH_SIZE, CAL_HASH_SIZE),
                                       NULL),
                         0);
    batch = cal_batch_new();
    cal_batch_delete(batch, CAL_COLUMN_BLOB, cal_slice_text("0123456789abcdef0123456789abcdef"));
    assert_int_equal(cal_store_commit(f.store, batch, NULL), 0);
    assert_int_equal(cal_blobs_collect(f.blobs, &removed, NULL), 0);
    assert_int_equal(removed, LISTED);
    cal_buffer_deinit(&bytes);
    free(ids);
    f.written = true; /* what setup wrote */
    finish(&f);
}

/* --- a large one --- */

typedef struct beside {
    cal_blobs *blobs;
    pthread_t thread;
    atomic_bool stop;
    atomic_int rounds;
    uint64_t longest_ns;
} beside;

static uint64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* How long a thread works while it holds the mutex: its own time on a processor, so that others on
 * the machine do not count. */
static _Thread_local uint64_t locked_at;
static _Atomic uint64_t longest_hold_ns;

static void measure_hold(void *user, blob_point point) {
    (void)user;
    if (point == BLOB_AT_LOCKED) locked_at = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    if (point != BLOB_AT_UNLOCKING) return;
    uint64_t held = clock_ns(CLOCK_THREAD_CPUTIME_ID) - locked_at, most = longest_hold_ns;
    while (held > most && !atomic_compare_exchange_weak(&longest_hold_ns, &most, held)) {
    }
}

/* Writes a small blob, reads it, deletes it, again and again. */
static void *use_beside(void *arg) {
    beside *b = arg;
    while (!atomic_load(&b->stop)) {
        char text[32];
        cal_blobs_writer *writer;
        cal_blobs_reader *reader;
        cal_blobs_info info;
        cal_slice got;
        int len = snprintf(text, sizeof text, "round %d", b->rounds);
        uint64_t before = clock_ns(CLOCK_MONOTONIC);
        if (cal_blobs_create(b->blobs, 100, &writer, NULL) ||
            cal_blobs_write(writer, cal_slice_of(text, (size_t)len), NULL) ||
            cal_blobs_finish(writer, NULL, &info, NULL) ||
            cal_blobs_read_open(b->blobs, &info.id, &reader, NULL, NULL))
            return NULL;
        int error = cal_blobs_read_chunk(reader, &got);
        if (error || !cal_slice_equal(got, cal_slice_of(text, (size_t)len))) return NULL;
        cal_blobs_read_close(reader);
        if (cal_blobs_delete(b->blobs, &info.id, NULL)) return NULL;
        uint64_t took = clock_ns(CLOCK_MONOTONIC) - before;
        if (took > b->longest_ns) b->longest_ns = took;
        b->rounds++;
    }
    return b;
}

static void write_large(cal_blobs *blobs, uint32_t chunks, cal_blob_id *ret_id) {
    cal_blobs_writer *writer;
    cal_blobs_info info;
    uint8_t *chunk = calloc(1, CAL_BLOB_CHUNK_SIZE);
    assert_int_equal(cal_blobs_create(blobs, UINT64_MAX, &writer, NULL), 0);
    for (uint32_t i = 0; i < chunks; i++) {
        memcpy(chunk, &i, sizeof i);
        assert_int_equal(cal_blobs_write(writer, cal_slice_of(chunk, CAL_BLOB_CHUNK_SIZE), NULL),
                         0);
    }
    assert_int_equal(cal_blobs_finish(writer, NULL, &info, NULL), 0);
    assert_int_equal(info.chunks, chunks);
    *ret_id = info.id;
    free(chunk);
}

static void remove_store(const char *folder) {
    static const char *const names[] = {"store.db", "store.db-wal", "key.json", "lock", "key"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[96];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        remove(path);
    }
    assert_int_equal(rmdir(folder), 0);
}

/* 1 GiB in the campaign. */
static void test_large_removal_holds_nobody(void **state) {
    (void)state;
    uint32_t chunks = getenv("CAL_CAMPAIGN") ? 1024 : 64;
    char folder[] = "/tmp/cal_remove_XXXXXX", key_file[64];
    assert_non_null(mkdtemp(folder));
    snprintf(key_file, sizeof key_file, "%s/key", folder);
    cal_key_source source = {CAL_KEY_FILE, key_file};
    cal_store_options options = {
        .folder = folder, .durability = CAL_DURABLE_PROCESS, .key = &source};
    cal_store *store;
    cal_blob_id id;
    beside b = {.rounds = 0};
    assert_int_equal(cal_store_create(&options, NULL), 0);
    assert_int_equal(cal_store_open(&options, &store, NULL), 0);
    assert_int_equal(cal_blobs_open(store, NULL, &b.blobs, NULL), 0);
    write_large(b.blobs, chunks, &id);
    cal_blobs_reader *reader; /* pins all, and lets go of all, beside a removal */
    assert_int_equal(cal_blobs_read_open(b.blobs, &id, &reader, NULL, NULL), 0);
    b.blobs->at = measure_hold;
    cal_store_stats before, after;
    cal_store_stats_get(store, &before);
    pthread_create(&b.thread, NULL, use_beside, &b);
    cal_blobs_read_close(reader);
    uint64_t start = clock_ns(CLOCK_MONOTONIC);
    assert_int_equal(cal_blobs_delete(b.blobs, &id, NULL), 0);
    uint64_t took = clock_ns(CLOCK_MONOTONIC) - start;
    int rounds = b.rounds;
    atomic_store(&b.stop, true);
    void *ended;
    pthread_join(b.thread, &ended);
    assert_ptr_equal(ended, &b);
    cal_store_stats_get(store, &after);
    printf("%u MiB removed in %llu ms, %d rounds beside it (the longest %llu ms), the mutex held "
           "for %llu us at most\n",
           chunks, (unsigned long long)took / 1000000, rounds,
           (unsigned long long)b.longest_ns / 1000000, (unsigned long long)longest_hold_ns / 1000);
    assert_true(after.transactions - before.transactions >= chunks / BLOB_COLLECT_BATCH);
    assert_true(rounds > 2); /* each waits for some transactions of the removal, none for all */
    assert_true(b.longest_ns < took);
    assert_true(longest_hold_ns < 5000000);
    b.blobs->at = NULL;
    assert_int_equal(cal_blobs_collect(b.blobs, NULL, NULL), 0);
    assert_int_equal(chunks_left(&(fixture){.store = store}), 0);
    cal_blobs_close(b.blobs);
    cal_store_close(store);
    remove_store(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_removal_meets_others),
        cmocka_unit_test(test_readers_and_writers_meet_removal),
        cmocka_unit_test(test_two_removals_of_a_chunk),
        cmocka_unit_test(test_removal_crashes),
        cmocka_unit_test(test_removal_that_fails),
        cmocka_unit_test(test_collecting_pages),
        cmocka_unit_test(test_large_removal_holds_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
