/* Thousands of cycles of open, write, checkpoint, remove and restart: what is on the disk, in
 * memory, open and running is the same after them as after the first few. CAL_SIM_SEEDS=n makes n
 * cycles of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "blob/blob.h"
#include "os/sim/sim.h"
#include "store/internal.h"

#include <dirent.h>
#include <malloc.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    CYCLES_DEFAULT = 240,
    WARM = 8,  /* a part of 8 of the cycles warms caches and free lists up */
    ROWS = 64, /* live at once, in two tables */
    VALUE_MAX = 3000,
    BLOB_SIZE = 100000,
    /* What may come and go between two measurements. */
    SLACK_MEMORY = 512 * 1024, /* the simulated disk is in it */
    SLACK_DISK = 64 * STORE_PAGE_SIZE,
};

typedef struct figures {
    uint64_t disk, memory, sqlite;
    int descriptors, threads;
} figures;

static int count_entries(const char *path) {
    DIR *folder = opendir(path);
    int count = 0;
    assert_non_null(folder);
    while (readdir(folder)) count++;
    closedir(folder);
    return count;
}

static figures measure(uint64_t disk) {
    struct mallinfo2 memory = mallinfo2();
    return (figures){.disk = disk,
                     .memory = memory.uordblks + memory.hblkhd,
                     .sqlite = (uint64_t)sqlite3_memory_used(),
                     .descriptors = count_entries("/proc/self/fd"),
                     .threads = count_entries("/proc/self/task")};
}

static void expect_flat(const char *what, figures early, figures late) {
    bool flat = late.disk <= early.disk + SLACK_DISK &&
                late.memory <= early.memory + SLACK_MEMORY &&
                late.sqlite <= early.sqlite + SLACK_MEMORY &&
                late.descriptors == early.descriptors && late.threads == early.threads;
    if (!flat)
        print_error("%s: disk %llu then %llu, memory %llu then %llu, SQLite's %llu then %llu, "
                    "descriptors %d then %d, threads %d then %d\n",
                    what, (unsigned long long)early.disk, (unsigned long long)late.disk,
                    (unsigned long long)early.memory, (unsigned long long)late.memory,
                    (unsigned long long)early.sqlite, (unsigned long long)late.sqlite,
                    early.descriptors, late.descriptors, early.threads, late.threads);
    assert_true(flat);
}

static uint64_t cycles(uint64_t otherwise) {
    const char *text = getenv("CAL_SIM_SEEDS");
    return text ? strtoull(text, NULL, 10) : otherwise;
}

/* Writes rows that replace older ones, and removes about as many. */
static void write_and_remove(cal_store *store, uint64_t cycle) {
    uint8_t value[VALUE_MAX];
    memset(value, (int)cycle, sizeof value);
    for (uint64_t i = 0; i < 4; i++) {
        char text[16];
        uint64_t mix = (cycle * 4 + i) * 2654435761u;
        snprintf(text, sizeof text, "%c%02u", 'a' + (int)(mix % 3), (unsigned)(mix / 7 % ROWS));
        cal_batch *batch = cal_batch_new();
        cal_batch_put(batch, CAL_COLUMN_STATE, cal_slice_text(text),
                      cal_slice_of(value, mix / 11 % VALUE_MAX));
        cal_batch_put(batch, CAL_COLUMN_DELTA, cal_slice_text(text),
                      cal_slice_of(value, mix / 13 % VALUE_MAX));
        if (i == 3) cal_batch_delete_some(batch, CAL_COLUMN_DELTA, cal_slice_of(text, 1), 4);
        if (cycle % 16 == 0)
            cal_batch_delete_prefix(batch, CAL_COLUMN_STATE, cal_slice_of(text, 1));
        assert_int_equal(cal_store_commit(store, batch, NULL), 0);
    }
    cal_snapshot *snapshot;
    cal_cursor *cursor;
    cal_slice key;
    assert_int_equal(cal_store_snapshot(store, &snapshot), 0);
    assert_int_equal(cal_cursor_open(snapshot, CAL_COLUMN_STATE, (cal_slice){0}, (cal_slice){0},
                                     cycle % 2, &cursor),
                     0);
    while (cal_cursor_next(cursor, &key, NULL) == 0) {
    }
    cal_cursor_free(cursor);
    cal_snapshot_free(snapshot);
}

/* A blob comes, is read and goes; another upload is given up. */
static void blobs_come_and_go(cal_blobs *blobs, uint64_t cycle) {
    static uint8_t bytes[BLOB_SIZE];
    cal_blobs_writer *writer;
    cal_blobs_reader *reader;
    cal_blobs_info info;
    cal_slice got;
    memset(bytes, (int)cycle, sizeof bytes);
    assert_int_equal(cal_blobs_create(blobs, BLOB_SIZE, &writer, NULL), 0);
    assert_int_equal(cal_blobs_write(writer, cal_slice_of(bytes, sizeof bytes), NULL), 0);
    assert_int_equal(cal_blobs_finish(writer, NULL, &info, NULL), 0);
    assert_int_equal(cal_blobs_read_open(blobs, &info.id, &reader, NULL, NULL), 0);
    assert_int_equal(cal_blobs_read_chunk(reader, &got), 0);
    assert_int_equal(got.len, BLOB_SIZE);
    if (cycle % 2) cal_blobs_read_close(reader);
    assert_int_equal(cal_blobs_delete(blobs, &info.id, NULL), 0);
    if (cycle % 2 == 0) cal_blobs_read_close(reader);
    assert_int_equal(cal_blobs_create(blobs, BLOB_SIZE, &writer, NULL), 0);
    assert_int_equal(cal_blobs_write(writer, cal_slice_of(bytes, 1000), NULL), 0);
    cal_blobs_abort(writer);
    if (cal_blobs_garbage(blobs)) assert_int_equal(cal_blobs_collect(blobs, NULL, NULL), 0);
    assert_false(cal_blobs_garbage(blobs));
}

static const cal_key_source key = {CAL_KEY_FILE, "/home/key"};

typedef struct world {
    cal_sim *sim;
    cal_store_options options;
    cal_store *store;
    cal_blobs *blobs;
} world;

static void world_start(world *w) {
    *w = (world){.sim = cal_sim_new(1)};
    const cal_os *os = cal_sim_os(w->sim);
    w->options = (cal_store_options){.os = os, .folder = "/home", .key = &key, .stepped = true};
    os->make_dir(os->user, "/home");
    os->sync_dir(os->user, "/");
    assert_int_equal(cal_store_create(&w->options, NULL), 0);
}

static void world_open(world *w) {
    assert_int_equal(cal_store_open(&w->options, &w->store, NULL), 0);
    assert_int_equal(cal_blobs_open(w->store, w->options.os, &w->blobs, NULL), 0);
    assert_int_equal(cal_blobs_collect(w->blobs, NULL, NULL),
                     0); /* as a node does when it starts */
}

/* What has a name; the simulated disk also keeps what a loss of power may bring back. */
static uint64_t world_disk(const world *w) {
    static const char *const paths[] = {"/home/store.db", "/home/store.db-wal"};
    uint64_t size = 0;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        cal_os_stat stat;
        if (w->options.os->stat(w->options.os->user, paths[i], &stat) == 0) size += stat.size;
    }
    return size;
}

static void world_close(world *w) {
    cal_blobs_close(w->blobs);
    cal_store_close(w->store);
}

/* Every cycle ends the process's use of the store, every third one by a loss of power. */
static void test_restarts(void **state) {
    (void)state;
    world w;
    world_start(&w);
    figures early = {0};
    uint64_t count = cycles(CYCLES_DEFAULT);
    for (uint64_t cycle = 1; cycle <= count; cycle++) {
        world_open(&w);
        write_and_remove(w.store, cycle);
        blobs_come_and_go(w.blobs, cycle);
        bool crash = cycle % 3 == 0 && cycle != count / WARM && cycle != count;
        if (crash) cal_sim_power_off(w.sim);
        world_close(&w);
        if (crash) cal_sim_power_on(w.sim, (cal_sim_survival)(cycle / 3 % 3));
        if (cycle == count / WARM) early = measure(world_disk(&w));
    }
    expect_flat("restarts", early, measure(world_disk(&w)));
    world_open(&w);
    assert_int_equal(cal_store_verify(w.store, NULL, NULL, NULL), 0);
    world_close(&w);
    cal_sim_free(w.sim);
}

/* The store stays open; a snapshot is held over many cycles now and then, so that the log grows and
 * has to shrink again. */
static void test_one_long_run(void **state) {
    (void)state;
    world w;
    world_start(&w);
    world_open(&w);
    figures early = {0};
    uint64_t count = 10 * cycles(CYCLES_DEFAULT / 4), most = 0;
    cal_snapshot *held = NULL;
    for (uint64_t cycle = 1; cycle <= count; cycle++) {
        if (cycle % 64 == 0) assert_int_equal(cal_store_snapshot(w.store, &held), 0);
        write_and_remove(w.store, cycle);
        blobs_come_and_go(w.blobs, cycle);
        if (cycle % 64 == 16) {
            cal_snapshot_free(held);
            held = NULL;
        }
        uint64_t pages = atomic_load(&w.store->log_pages);
        if (pages > most) most = pages;
        if (cycle == count / WARM) early = measure(world_disk(&w));
    }
    cal_snapshot_free(held);
    assert_true(most > STORE_CHECKPOINT_PAGES && most < 8 * STORE_CHECKPOINT_PAGES);
    figures late = measure(world_disk(&w));
    /* The log keeps the length it had when the snapshot was held longest. */
    early.disk += most * STORE_PAGE_SIZE;
    early.memory += 2 * most * STORE_PAGE_SIZE; /* the simulated disk is in memory */
    expect_flat("one long run", early, late);
    world_close(&w);
    world_open(&w);
    assert_int_equal(cal_store_verify(w.store, NULL, NULL, NULL), 0);
    world_close(&w);
    cal_sim_free(w.sim);
}

/* The same with the threads and files of the real machine. */
static void test_restarts_for_real(void **state) {
    (void)state;
    char folder[] = "/tmp/cal_long_XXXXXX", key_file[64], path[96];
    assert_non_null(mkdtemp(folder));
    snprintf(key_file, sizeof key_file, "%s/key", folder);
    snprintf(path, sizeof path, "%s/store.db", folder);
    cal_key_source source = {CAL_KEY_FILE, key_file};
    cal_store_options options = {
        .folder = folder, .key = &source, .durability = CAL_DURABLE_PROCESS};
    assert_int_equal(cal_store_create(&options, NULL), 0);
    figures early = {0}, late = {0};
    uint64_t count = cycles(CYCLES_DEFAULT) / 4;
    for (uint64_t cycle = 1; cycle <= count; cycle++) {
        cal_store *store;
        cal_blobs *blobs;
        cal_os_stat stat;
        assert_int_equal(cal_store_open(&options, &store, NULL), 0);
        assert_int_equal(cal_blobs_open(store, NULL, &blobs, NULL), 0);
        write_and_remove(store, cycle);
        blobs_come_and_go(blobs, cycle);
        cal_blobs_close(blobs);
        cal_store_close(store);
        assert_int_equal(cal_os_posix()->stat(cal_os_posix()->user, path, &stat), 0);
        late = measure(stat.size);
        if (cycle == count / WARM) early = late;
    }
    expect_flat("restarts for real", early, late);
    static const char *const names[] = {"store.db", "key.json", "lock", "key"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        assert_int_equal(remove(path), 0);
    }
    assert_int_equal(rmdir(folder), 0); /* and there is nothing else */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_restarts),
        cmocka_unit_test(test_one_long_run),
        cmocka_unit_test(test_restarts_for_real),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
