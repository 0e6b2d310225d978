/* A store that lost power, with any damage to its files: opening refuses or works, and what was
 * opened can be read, checked and written without a crash. The input is a list of changes: file,
 * offset, and a byte to mix in; 0xff in place of a file cuts one short. */
#include "base/log.h"
#include "os/sim/sim.h"
#include "store/internal.h"

#include <stdlib.h>

enum { FILES = 3, ROWS = 60 };

static const char *const paths[FILES] = {"/s/store.db", "/s/store.db-wal", "/s/key.json"};
static const cal_key_source key = {CAL_KEY_FILE, "/s/master"};
static cal_buffer images[FILES + 1]; /* the last: the master key */

static void must(int error) {
    if (error) abort();
}

/* A database with rows in it and more in a log that was never moved. */
static void make_images(void) {
    cal_sim *sim = cal_sim_new(1);
    const cal_os *os = cal_sim_os(sim);
    cal_store_options options = {.os = os, .folder = "/s", .key = &key};
    static uint8_t value[3000];
    must(os->make_dir(os->user, "/s"));
    must(os->sync_dir(os->user, "/"));
    must(cal_store_create(&options, NULL));
    for (int round = 0; round < 2; round++) {
        cal_store *store;
        must(cal_store_open(&options, &store, NULL));
        cal_batch *batch = cal_batch_new();
        for (uint8_t i = 0; i < ROWS; i++) {
            uint8_t name[2] = {i, (uint8_t)round};
            cal_batch_put(batch, (cal_column)(i % CAL_COLUMN_COUNT), cal_slice_of(name, 2),
                          cal_slice_of(value, (size_t)i * 50));
        }
        must(cal_store_commit(store, batch, NULL));
        if (round == 1) cal_sim_power_off(sim);
        cal_store_close(store);
    }
    cal_sim_power_on(sim, CAL_SIM_KEEP);
    for (int i = 0; i <= FILES; i++) {
        cal_buffer_init(&images[i], 16 * 1024 * 1024);
        must(cal_os_read_file(os, i < FILES ? paths[i] : key.text, 16 * 1024 * 1024, &images[i],
                              NULL));
    }
    cal_sim_free(sim);
}

static void write_images(const cal_os *os, const uint8_t *data, size_t size) {
    cal_buffer files[FILES];
    for (int i = 0; i < FILES; i++) {
        cal_buffer_init(&files[i], 16 * 1024 * 1024);
        cal_buffer_append_slice(&files[i], cal_buffer_slice(&images[i]));
        /* Of the log only its head matters: the rest are zeros. */
        if (i == 1 && files[i].len > 300000) files[i].len = 300000;
    }
    for (; size >= 5; data += 5, size -= 5) {
        cal_buffer *file = &files[data[0] % FILES];
        size_t offset = (size_t)data[1] << 16 | (size_t)data[2] << 8 | data[3];
        if (file->len == 0) continue;
        if (data[0] == 0xff)
            files[data[4] % FILES].len = offset % (files[data[4] % FILES].len + 1);
        else
            file->data[offset % file->len] ^= data[4];
    }
    for (int i = 0; i < FILES; i++) {
        must(cal_os_write_file(os, paths[i], cal_buffer_slice(&files[i]), NULL));
        cal_buffer_deinit(&files[i]);
    }
    must(cal_os_write_file(os, key.text, cal_buffer_slice(&images[FILES]), NULL));
}

static void walk(cal_store *store) {
    for (int column = 0; column < CAL_COLUMN_COUNT; column++) {
        cal_snapshot *snapshot;
        cal_cursor *cursor;
        cal_slice name, value;
        if (cal_store_snapshot(store, &snapshot)) continue;
        if (cal_cursor_open(snapshot, (cal_column)column, (cal_slice){0}, (cal_slice){0},
                            column & 1, &cursor) == 0) {
            while (cal_cursor_next(cursor, &name, &value) == 0) {
            }
            cal_cursor_free(cursor);
        }
        cal_snapshot_free(snapshot);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static bool made;
    if (!made) {
        cal_log_set_level(CAL_LOG_ERROR);
        make_images();
        made = true;
    }
    cal_sim *sim = cal_sim_new(1);
    const cal_os *os = cal_sim_os(sim);
    cal_store_options options = {.os = os, .folder = "/s", .key = &key, .readers_max = 1};
    must(os->make_dir(os->user, "/s"));
    write_images(os, data, size < 500 ? size : 500);
    cal_store *store;
    cal_error err;
    if (cal_store_open(&options, &store, &err) == 0) {
        walk(store);
        cal_batch *batch = cal_batch_new();
        cal_batch_put(batch, CAL_COLUMN_STATE, cal_slice_text("new"), cal_slice_text("row"));
        cal_store_commit(store, batch, NULL);
        cal_store_verify(store, NULL, NULL, &err);
        cal_store_close(store);
    }
    cal_sim_free(sim);
    return 0;
}
