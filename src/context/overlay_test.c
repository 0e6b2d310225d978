/* The overlay against a plain model, over a real store: random writes, removals, prefix removals
 * and walks give what a single sorted map would give, before and after flushing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "context/cache.h"
#include "context/overlay.h"
#include "context/tip.h"
#include "crypto/crypto.h"
#include "store/key.h"

enum { KEYS = 64 };

static char folder[] = "/tmp/overlay_test_XXXXXX";
static char key_path[200];
static cal_store *store;
static const uint8_t context_id[32] = {7};

static int open_store(void **state) {
    (void)state;
    if (!mkdtemp(folder)) return -1;
    snprintf(key_path, sizeof key_path, "%s/key", folder);
    cal_key_source key = {CAL_KEY_FILE, key_path};
    char data[200];
    snprintf(data, sizeof data, "%s/data", folder);
    cal_store_options options = {
        .os = cal_os_posix(), .folder = data, .durability = CAL_DURABLE_PROCESS, .key = &key};
    cal_crypto_init();
    cal_error err;
    if (cal_os_make_dirs(cal_os_posix(), data, &err) != 0) return -1;
    return cal_store_create(&options, &err) == 0 ? cal_store_open(&options, &store, &err) : -1;
}

static int close_store(void **state) {
    (void)state;
    cal_store_close(store);
    char command[300];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

/* Keys of two bytes, so that prefixes have something to take: first byte i / 8, second i % 8. */
static cal_slice key_of(int i, uint8_t bytes[2]) {
    bytes[0] = (uint8_t)(i / 8);
    bytes[1] = (uint8_t)(i % 8);
    return cal_slice_of(bytes, 2);
}

struct walked {
    int at[KEYS];
    int value[KEYS];
    int count;
};

static int collect(void *user, cal_slice key, cal_slice value) {
    struct walked *walked = user;
    assert_int_equal(key.len, 2);
    walked->at[walked->count] = key.data[0] * 8 + key.data[1];
    walked->value[walked->count++] = value.data[0];
    return 0;
}

static void compare(cal_overlay *overlay, const int *model, int lo, int hi) {
    cal_vm_storage storage = cal_overlay_storage(overlay);
    uint8_t lo_bytes[2], hi_bytes[2];
    struct walked walked = {.count = 0};
    assert_int_equal(storage.scan(storage.user, key_of(lo, lo_bytes), key_of(hi, hi_bytes), 0,
                                  UINT64_MAX, false, collect, &walked),
                     0);
    int seen = 0, last = -1;
    for (int i = lo; i < hi; i++) {
        if (model[i] < 0) continue;
        assert_true(seen < walked.count);
        assert_int_equal(walked.at[seen], i);
        assert_int_equal(walked.value[seen], model[i]);
        seen++;
        last = i;
    }
    assert_int_equal(seen, walked.count);
    walked.count = 0;
    assert_int_equal(storage.scan(storage.user, cal_slice_of(lo_bytes, 2),
                                  cal_slice_of(hi_bytes, 2), 0, 1, true, collect, &walked),
                     0);
    assert_int_equal(walked.count, last >= 0);
    if (last >= 0) assert_int_equal(walked.at[0], last);
}

static void step(cal_overlay *overlay, int *model, unsigned random) {
    cal_vm_storage storage = cal_overlay_storage(overlay);
    uint8_t bytes[2];
    int at = (int)(random >> 8) % KEYS;
    switch (random % 5) {
    case 0:
    case 1:
    case 2: {
        uint8_t value = (uint8_t)(random >> 20);
        assert_true(storage.write(storage.user, CAL_VM_INDEX, key_of(at, bytes),
                                  cal_slice_of(&value, 1), NULL) >= 0);
        model[at] = value;
        break;
    }
    case 3:
        assert_int_equal(storage.remove(storage.user, CAL_VM_INDEX, key_of(at, bytes), NULL),
                         model[at] >= 0);
        model[at] = -1;
        break;
    default: {
        size_t len = random % 3 ? 2 : 1;
        key_of(at, bytes);
        assert_int_equal(storage.remove_prefix(storage.user, cal_slice_of(bytes, len)), 0);
        for (int i = 0; i < KEYS; i++)
            if (i == at || (len == 1 && i / 8 == at / 8)) model[i] = -1;
    }
    }
}

static void behaves_like_one_sorted_map(void **state) {
    (void)state;
    int model[KEYS];
    for (int i = 0; i < KEYS; i++) model[i] = -1;
    srand(1);
    for (int round = 0; round < 100; round++) {
        cal_snapshot *snapshot = NULL;
        assert_int_equal(cal_store_snapshot(store, &snapshot), 0);
        cal_overlay overlay;
        cal_overlay_init(&overlay, context_id, snapshot, NULL, CAL_CACHE_NONE);
        int before[KEYS];
        memcpy(before, model, sizeof model);
        for (int i = 0; i < 30; i++) {
            step(&overlay, model, (unsigned)rand());
            compare(&overlay, model, 0, KEYS - 1);
        }
        compare(&overlay, model, 10, 40);
        cal_batch *batch = cal_batch_new();
        assert_int_equal(cal_overlay_flush(&overlay, true, true, batch), 0);
        cal_overlay_deinit(&overlay);
        cal_snapshot_free(snapshot);
        if (round % 4 == 3) { /* a failed call: nothing of it stays */
            cal_batch_free(batch);
            memcpy(model, before, sizeof model);
        } else {
            assert_int_equal(cal_store_commit(store, batch, NULL), 0);
        }
    }
}

static void rows_read_through_to_the_snapshot(void **state) {
    (void)state;
    uint8_t key[32] = {1}, row[64];
    memcpy(row, context_id, 32);
    memcpy(row + 32, key, 32);
    cal_batch *batch = cal_batch_new();
    cal_batch_put(batch, CAL_COLUMN_STATE, cal_slice_of(row, 64), cal_slice_text("old"));
    assert_int_equal(cal_store_commit(store, batch, NULL), 0);
    cal_snapshot *snapshot = NULL;
    assert_int_equal(cal_store_snapshot(store, &snapshot), 0);
    cal_overlay overlay;
    cal_overlay_init(&overlay, context_id, snapshot, NULL, CAL_CACHE_NONE);
    cal_buffer value;
    cal_buffer_init(&value, 100);
    assert_int_equal(cal_overlay_write(&overlay, CAL_VM_STATE, cal_slice_of(key, 32),
                                       cal_slice_text("new"), &value),
                     1);
    assert_memory_equal(value.data, "old", 3);
    cal_buffer_reset(&value);
    assert_int_equal(cal_overlay_read(&overlay, CAL_VM_PRIVATE, cal_slice_of(key, 32), &value), 0);
    assert_int_equal(cal_overlay_remove(&overlay, CAL_VM_STATE, cal_slice_of(key, 32), &value), 1);
    assert_memory_equal(value.data, "new", 3);
    assert_int_equal(cal_overlay_read(&overlay, CAL_VM_STATE, cal_slice_of(key, 32), &value), 0);
    cal_buffer_deinit(&value);
    cal_overlay_deinit(&overlay);
    cal_snapshot_free(snapshot);
}

/* What is private stays apart from what is shared, on disk, too. */
static void private_rows_have_a_place_of_their_own(void **state) {
    (void)state;
    static const cal_column columns[] = {CAL_COLUMN_STATE, CAL_COLUMN_PRIVATE_STATE};
    static const char *const values[] = {"shared", "private"};
    uint8_t key[32] = {2}, row[64];
    memcpy(row, context_id, 32);
    memcpy(row + 32, key, 32);
    cal_snapshot *snapshot = NULL;
    assert_int_equal(cal_store_snapshot(store, &snapshot), 0);
    cal_overlay overlay;
    cal_overlay_init(&overlay, context_id, snapshot, NULL, CAL_CACHE_NONE);
    for (int i = 0; i < 2; i++)
        assert_int_equal(cal_overlay_write(&overlay, i ? CAL_VM_PRIVATE : CAL_VM_STATE,
                                           cal_slice_of(key, 32), cal_slice_text(values[i]), NULL),
                         0);
    cal_batch *batch = cal_batch_new();
    assert_int_equal(cal_overlay_flush(&overlay, true, true, batch), 0);
    assert_int_equal(cal_store_commit(store, batch, NULL), 0);
    for (int i = 0; i < 2; i++) {
        cal_buffer value;
        cal_buffer_init(&value, 100);
        assert_int_equal(cal_store_get(store, columns[i], cal_slice_of(row, 64), &value), 0);
        assert_true(cal_slice_equal(cal_buffer_slice(&value), cal_slice_text(values[i])));
        cal_buffer_deinit(&value);
    }
    cal_overlay_deinit(&overlay);
    cal_snapshot_free(snapshot);
}

/* --- the tip: turns on turns that the store does not have yet --- */

enum { UNDER_WAY_MAX = 12 };

struct under_way { /* batches that were submitted and are not durable */
    cal_batch *batches[UNDER_WAY_MAX];
    int models[UNDER_WAY_MAX][KEYS]; /* after each */
    int count;
    uint64_t durable; /* number of the last turn whose batch is */
    int model[KEYS];  /* as the store has it */
};

static void make_durable(struct under_way *way, int count) {
    for (int i = 0; i < count; i++)
        assert_int_equal(cal_store_commit(store, way->batches[i], NULL), 0);
    if (count > 0) memcpy(way->model, way->models[count - 1], sizeof way->model);
    way->durable += (uint64_t)count;
    way->count -= count;
    memmove(way->batches, way->batches + count, (size_t)way->count * sizeof *way->batches);
    memmove(way->models, way->models + count, (size_t)way->count * sizeof *way->models);
}

/* The model's index rows also stand as state rows, so that the cache is seen, too. */
static void mirror(cal_overlay *overlay, const int *model) {
    for (int i = 0; i < KEYS; i++) {
        uint8_t key[32] = {(uint8_t)i}, value = (uint8_t)model[i];
        cal_slice at = cal_slice_of(key, 32);
        cal_buffer read;
        cal_buffer_init(&read, 10);
        int found = cal_overlay_read(overlay, CAL_VM_STATE, at, &read);
        if (model[i] < 0)
            cal_overlay_remove(overlay, CAL_VM_STATE, at, NULL);
        else if (found != 1 || read.data[0] != value)
            cal_overlay_write(overlay, CAL_VM_STATE, at, cal_slice_of(&value, 1), NULL);
        cal_buffer_deinit(&read);
    }
}

static void mirrors(cal_overlay *overlay, const int *model) {
    for (int i = 0; i < KEYS; i++) {
        uint8_t key[32] = {(uint8_t)i};
        cal_buffer read;
        cal_buffer_init(&read, 10);
        int found = cal_overlay_read(overlay, CAL_VM_STATE, cal_slice_of(key, 32), &read);
        assert_int_equal(found, model[i] >= 0);
        if (found) assert_int_equal(read.data[0], model[i]);
        cal_buffer_deinit(&read);
    }
}

static void take_a_turn(cal_tip *tip, cal_context_cache *cache, struct under_way *way, int *model) {
    cal_snapshot *snapshot = NULL;
    assert_int_equal(cal_store_snapshot(store, &snapshot), 0);
    cal_overlay overlay;
    cal_overlay_init(&overlay, context_id, snapshot, cache, CAL_CACHE_HOLDER);
    overlay.below = cal_tip_top(tip);
    int before[KEYS];
    memcpy(before, model, sizeof before);
    compare(&overlay, model, 0, KEYS - 1);
    mirrors(&overlay, model);
    for (int i = rand() % 8; i >= 0; i--) {
        step(&overlay, model, (unsigned)rand());
        compare(&overlay, model, 0, KEYS - 1);
    }
    compare(&overlay, model, 10, 40);
    mirror(&overlay, model);
    if (rand() % 5 == 0) { /* a call that failed leaves nothing */
        memcpy(model, before, sizeof before);
    } else {
        cal_batch *batch = cal_batch_new();
        assert_int_equal(cal_overlay_flush(&overlay, true, true, batch), 0);
        if (!tip->closed) cal_context_cache_commit_begin(cache);
        tip->closed = true;
        assert_int_equal(cal_tip_take(tip, &overlay, true, true), 0);
        assert_true(cal_overlay_is_empty(&overlay));
        way->batches[way->count] = batch;
        memcpy(way->models[way->count++], model, sizeof before);
    }
    cal_overlay_deinit(&overlay);
    cal_snapshot_free(snapshot);
}

static void turns_on_turns_are_like_one_map(void **state) {
    (void)state;
    cal_context_id id;
    memcpy(id.bytes, context_id, 32);
    cal_hash head = {{1}};
    cal_context_record record = {.heads = &head, .head_count = 1};
    cal_context_cache *cache = cal_context_cache_new(4096, 7);
    cal_tip tip;
    static struct under_way way;
    int model[KEYS];
    cal_batch *empty = cal_batch_new();
    cal_batch_delete_prefix(empty, CAL_COLUMN_INDEX, cal_slice_of(context_id, 32));
    cal_batch_delete_prefix(empty, CAL_COLUMN_STATE, cal_slice_of(context_id, 32));
    assert_int_equal(cal_store_commit(store, empty, NULL), 0);
    assert_int_equal(cal_tip_init(&tip, &id, &record), 0);
    for (int i = 0; i < KEYS; i++) way.model[i] = model[i] = -1;
    srand(2);
    for (int round = 0; round < 600; round++) {
        for (int i = rand() % 3; i >= 0 && way.count < UNDER_WAY_MAX; i--)
            take_a_turn(&tip, cache, &way, model);
        make_durable(&way, rand() % (way.count + 1));
        if (rand() % 20 == 0) { /* the next one fails, and those on it with it */
            while (way.count > 0) cal_batch_free(way.batches[--way.count]);
            assert_int_equal(cal_tip_drop(&tip, &record, cache), 0);
            way.durable = tip.number;
            memcpy(model, way.model, sizeof model);
        } else if (rand() % 3) {
            cal_tip_settle(&tip, way.durable, cache);
        }
        if (way.count == UNDER_WAY_MAX) make_durable(&way, way.count);
        if (way.durable == tip.number) {
            cal_tip_settle(&tip, way.durable, cache);
            assert_true(cal_tip_is_empty(&tip));
            assert_int_equal(cal_tip_bytes(&tip), 0);
        }
    }
    while (way.count > 0) cal_batch_free(way.batches[--way.count]);
    cal_tip_deinit(&tip);
    cal_context_cache_free(cache);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(behaves_like_one_sorted_map),
        cmocka_unit_test(rows_read_through_to_the_snapshot),
        cmocka_unit_test(private_rows_have_a_place_of_their_own),
        cmocka_unit_test(turns_on_turns_are_like_one_map),
    };
    return cmocka_run_group_tests(tests, open_store, close_store);
}
