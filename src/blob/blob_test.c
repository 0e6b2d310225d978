/* Blobs: recorded ids, writing in any pieces, both forms, refusals, sharing of chunks, removal
 * beside writers and readers, checking. */
#include "golden.h"

#include "blob/internal.h"
#include "os/sim/sim.h"
#include "store/key.h"

typedef struct fixture {
    cal_sim *sim;
    cal_key_source key;
    cal_store_options options;
    cal_store *store;
    cal_blobs *blobs;
} fixture;

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    f->sim = cal_sim_new(1);
    const cal_os *os = cal_sim_os(f->sim);
    f->key = (cal_key_source){CAL_KEY_FILE, "/s/key"};
    f->options = (cal_store_options){.os = os, .folder = "/s", .key = &f->key};
    os->make_dir(os->user, "/s");
    assert_int_equal(cal_store_create(&f->options, NULL), 0);
    assert_int_equal(cal_store_open(&f->options, &f->store, NULL), 0);
    assert_int_equal(cal_blobs_open(f->store, os, &f->blobs, NULL), 0);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    cal_blobs_close(f->blobs);
    cal_store_close(f->store);
    cal_sim_free(f->sim);
    free(f);
    return 0;
}

/* The content of the recorded cases: byte i = i mod 251. `shift` makes others. */
static uint8_t *pattern(size_t size, size_t shift) {
    uint8_t *bytes = malloc(size + 1);
    for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)((i + shift) % 251);
    return bytes;
}

static int put_max(fixture *f, cal_slice bytes, size_t piece, uint64_t max,
                   const cal_blob_id *expected, cal_blobs_info *ret_info, cal_error *err) {
    cal_blobs_writer *writer;
    int error = cal_blobs_create(f->blobs, max, &writer, err);
    if (error) return error;
    for (size_t at = 0; at < bytes.len && !error; at += piece) {
        size_t len = bytes.len - at < piece ? bytes.len - at : piece;
        error = cal_blobs_write(writer, cal_slice_of(bytes.data + at, len), err);
    }
    if (!error) return cal_blobs_finish(writer, expected, ret_info, err);
    cal_blobs_abort(writer);
    return error;
}

static cal_blobs_info put(fixture *f, cal_slice bytes, size_t piece) {
    cal_blobs_info info;
    assert_int_equal(put_max(f, bytes, piece, UINT64_MAX, NULL, &info, NULL), 0);
    return info;
}

static void expect_content(fixture *f, const cal_blob_id *id, cal_slice bytes, size_t piece) {
    cal_blobs_reader *reader;
    cal_blobs_info info;
    assert_int_equal(cal_blobs_read_open(f->blobs, id, &reader, &info, NULL), 0);
    assert_int_equal(info.size, bytes.len);
    uint8_t *got = malloc(piece);
    size_t at = 0;
    int64_t len;
    while ((len = cal_blobs_read(reader, got, piece)) > 0) {
        assert_true(at + (size_t)len <= bytes.len);
        assert_memory_equal(got, bytes.data + at, (size_t)len);
        at += (size_t)len;
    }
    assert_int_equal(len, 0);
    assert_int_equal(at, bytes.len);
    free(got);
    cal_blobs_read_close(reader);
}

static size_t count_chunks(fixture *f) {
    cal_snapshot *snapshot;
    cal_cursor *cursor;
    cal_slice key;
    size_t count = 0;
    assert_int_equal(cal_store_snapshot(f->store, &snapshot), 0);
    assert_int_equal(cal_cursor_open(snapshot, CAL_COLUMN_BLOB_CHUNK, (cal_slice){0},
                                     (cal_slice){0}, false, &cursor),
                     0);
    while (cal_cursor_next(cursor, &key, NULL) == 0) count++;
    cal_cursor_free(cursor);
    cal_snapshot_free(snapshot);
    return count;
}

static void expect_hex(yyjson_val *item, const char *name, const uint8_t *bytes) {
    cal_slice expected = golden_hex_value(yyjson_obj_get(item, name));
    assert_int_equal(expected.len, CAL_HASH_SIZE);
    assert_memory_equal(expected.data, bytes, CAL_HASH_SIZE);
    free((void *)(uintptr_t)expected.data);
}

static void test_recorded_ids(void **state) {
    fixture *f = *state;
    yyjson_doc *doc = golden_load("blobs.json");
    size_t index = 0, cases = 0;
    yyjson_val *item;
    while ((item = golden_next(yyjson_doc_get_root(doc), "root_id/", &index))) {
        yyjson_val *size_value = yyjson_obj_get(yyjson_obj_get(item, "inputs"), "size");
        size_t size = (size_t)yyjson_get_uint(size_value);
        uint8_t *bytes = pattern(size, 0);
        cal_blob_id id;
        cal_blobs_info info = put(f, cal_slice_of(bytes, size), 100000);
        expect_hex(item, "id", info.id.bytes);
        expect_hex(item, "content_sha256", info.hash);
        yyjson_val *chunks = yyjson_obj_get(item, "chunk_ids");
        assert_int_equal(info.chunks, yyjson_arr_size(chunks));
        for (size_t i = 0; i < info.chunks; i++) {
            cal_slice chunk = golden_hex_value(yyjson_arr_get(chunks, i));
            assert_int_equal(cal_store_get(f->store, CAL_COLUMN_BLOB_CHUNK, chunk, NULL), 0);
            free((void *)(uintptr_t)chunk.data);
        }
        assert_int_equal(cal_blob_id_of(cal_slice_of(bytes, size), &id), 0);
        assert_memory_equal(id.bytes, info.id.bytes, sizeof id.bytes);
        expect_content(f, &info.id, cal_slice_of(bytes, size), 70001);
        free(bytes);
        cases++;
    }
    assert_true(cases > 4);
    yyjson_doc_free(doc);
    assert_int_equal(cal_blobs_check(f->blobs, NULL, NULL, NULL), 0);
}

static void test_pieces_and_seeking(void **state) {
    fixture *f = *state;
    const size_t size = 2 * CAL_BLOB_CHUNK_SIZE + 12345;
    uint8_t *bytes = pattern(size, 3);
    static const size_t pieces[] = {4097, CAL_BLOB_CHUNK_SIZE, CAL_BLOB_CHUNK_SIZE + 1,
                                    3 * CAL_BLOB_CHUNK_SIZE};
    cal_blobs_info first = put(f, cal_slice_of(bytes, size), size);
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        cal_blobs_info info = put(f, cal_slice_of(bytes, size), pieces[i]);
        assert_memory_equal(&info.id, &first.id, sizeof info.id);
        expect_content(f, &info.id, cal_slice_of(bytes, size), pieces[i]);
    }
    assert_int_equal(count_chunks(f), 3);
    cal_blobs_reader *reader;
    uint8_t got[16];
    assert_int_equal(cal_blobs_read_open(f->blobs, &first.id, &reader, NULL, NULL), 0);
    cal_blobs_seek(reader, CAL_BLOB_CHUNK_SIZE - 8);
    assert_int_equal(cal_blobs_read(reader, got, 16), 16); /* across two chunks */
    assert_memory_equal(got, bytes + CAL_BLOB_CHUNK_SIZE - 8, 16);
    cal_slice rest;
    assert_int_equal(cal_blobs_read_chunk(reader, &rest), 0);
    assert_int_equal(rest.len, CAL_BLOB_CHUNK_SIZE - 8);
    cal_blobs_seek(reader, UINT64_MAX);
    assert_int_equal(cal_blobs_read(reader, got, 16), 0);
    cal_blobs_read_close(reader);
    free(bytes);
}

static void test_refusals(void **state) {
    fixture *f = *state;
    uint8_t *bytes = pattern(3 * CAL_BLOB_CHUNK_SIZE, 0);
    cal_error err = {0};
    cal_blobs_info info;
    cal_blob_id other = {{1}};
    cal_slice content = cal_slice_of(bytes, CAL_BLOB_CHUNK_SIZE + 5);
    assert_int_equal(put_max(f, content, 1000, CAL_BLOB_CHUNK_SIZE + 4, NULL, NULL, &err),
                     CAL_ELIMIT);
    assert_int_equal(put_max(f, content, 1000, CAL_BLOB_CHUNK_SIZE + 5, &other, NULL, &err),
                     CAL_EVERIFY);
    assert_true(cal_blobs_garbage(f->blobs));
    cal_blobs_reader *reader;
    assert_int_equal(cal_blobs_read_open(f->blobs, &other, &reader, NULL, &err), CAL_ENOTFOUND);
    assert_int_equal(cal_blobs_stat(f->blobs, &other, &info), CAL_ENOTFOUND);
    assert_int_equal(cal_blobs_delete(f->blobs, &other, &err), CAL_ENOTFOUND);
    uint64_t removed;
    assert_int_equal(count_chunks(f), 2);
    assert_int_equal(cal_blobs_collect(f->blobs, &removed, &err), 0);
    assert_int_equal(removed, 2);
    assert_int_equal(count_chunks(f), 0);
    assert_false(cal_blobs_garbage(f->blobs));
    cal_sim_quota(f->sim, cal_sim_used(f->sim) + 1024 * 1024);
    uint8_t *many = pattern(12 * CAL_BLOB_CHUNK_SIZE, 9);
    assert_int_equal(put_max(f, cal_slice_of(many, 12 * (size_t)CAL_BLOB_CHUNK_SIZE), 60000,
                             UINT64_MAX, NULL, NULL, &err),
                     CAL_EFULL);
    assert_non_null(strstr(err.message, "disk is full"));
    cal_sim_quota(f->sim, UINT64_MAX);
    info = put(f, content, 1000);
    expect_content(f, &info.id, content, 1000);
    free(bytes);
    free(many);
}

static void test_types(void **state) {
    fixture *f = *state;
    cal_blobs_info info = put(f, cal_slice_of("\0asm\1\0\0\0", 8), 3);
    assert_string_equal(info.mime, "application/wasm");
    assert_int_equal(cal_blobs_stat(f->blobs, &info.id, &info), 0);
    assert_string_equal(info.mime, "application/wasm");
    info = put(f, cal_slice_of("\x1f\x8b\x08", 3), 1);
    assert_string_equal(info.mime, "application/gzip");
    info = put(f, cal_slice_text("plain"), 1);
    assert_string_equal(info.mime, "application/octet-stream");
}

static int count_blob(void *user, const cal_blobs_info *info) {
    ++*(int *)user;
    return info->size == 77 ? 42 : 0;
}

/* Two blobs share a chunk: deleting one leaves it to the other; a reader keeps a deleted blob
 * readable. */
static void test_sharing_and_deleting(void **state) {
    fixture *f = *state;
    uint8_t *bytes = pattern(2 * CAL_BLOB_CHUNK_SIZE, 0);
    bytes[2 * CAL_BLOB_CHUNK_SIZE - 1] ^= 1;
    cal_slice both = cal_slice_of(bytes, 2 * (size_t)CAL_BLOB_CHUNK_SIZE),
              one = cal_slice_of(bytes, CAL_BLOB_CHUNK_SIZE);
    cal_blobs_info long_blob = put(f, both, 50000), short_blob = put(f, one, 50000);
    assert_int_equal(count_chunks(f), 2);
    int count = 0;
    assert_int_equal(cal_blobs_each(f->blobs, count_blob, &count, NULL), 0);
    assert_int_equal(count, 2);
    assert_int_equal(cal_blobs_delete(f->blobs, &long_blob.id, NULL), 0);
    assert_int_equal(count_chunks(f), 1);
    expect_content(f, &short_blob.id, one, 9999);

    cal_blobs_reader *reader;
    assert_int_equal(cal_blobs_read_open(f->blobs, &short_blob.id, &reader, NULL, NULL), 0);
    assert_int_equal(cal_blobs_delete(f->blobs, &short_blob.id, NULL), 0);
    assert_int_equal(cal_blobs_stat(f->blobs, &short_blob.id, NULL), CAL_ENOTFOUND);
    uint64_t removed = 7;
    assert_int_equal(cal_blobs_collect(f->blobs, &removed, NULL), 0);
    assert_int_equal(removed, 0);
    cal_slice got;
    assert_int_equal(cal_blobs_read_chunk(reader, &got), 0);
    assert_true(cal_slice_equal(got, one));
    cal_blobs_read_close(reader);
    assert_int_equal(cal_blobs_collect(f->blobs, &removed, NULL), 0);
    assert_int_equal(removed, 1);
    put(f, cal_slice_of(bytes, 77), 77);
    assert_int_equal(cal_blobs_each(f->blobs, count_blob, &count, NULL), 42);
    free(bytes);
}

/* A collection between the chunks and the record of an upload, also of chunks that were garbage
 * before it, removes nothing of it. */
static void test_collecting_during_upload(void **state) {
    fixture *f = *state;
    const size_t size = 3 * CAL_BLOB_CHUNK_SIZE;
    uint8_t *bytes = pattern(size, 0);
    cal_blobs_writer *aborted, *writer;
    assert_int_equal(cal_blobs_create(f->blobs, size, &aborted, NULL), 0);
    assert_int_equal(cal_blobs_write(aborted, cal_slice_of(bytes, size), NULL), 0);
    cal_blobs_abort(aborted);
    assert_int_equal(cal_blobs_create(f->blobs, size, &writer, NULL), 0);
    assert_int_equal(cal_blobs_write(writer, cal_slice_of(bytes, size), NULL), 0);
    uint64_t removed;
    assert_int_equal(cal_blobs_collect(f->blobs, &removed, NULL), 0);
    assert_int_equal(removed, 0);
    cal_blobs_info info;
    assert_int_equal(cal_blobs_finish(writer, NULL, &info, NULL), 0);
    assert_int_equal(cal_blobs_collect(f->blobs, &removed, NULL), 0);
    assert_int_equal(removed, 0);
    expect_content(f, &info.id, cal_slice_of(bytes, size), 100000);
    free(bytes);
}

/* A chunk whose removal is on its way is written again, whatever stands there still. */
static void test_upload_of_a_chunk_that_goes(void **state) {
    fixture *f = *state;
    uint8_t *bytes = pattern(1000, 3), id[CAL_HASH_SIZE];
    cal_slice content = cal_slice_of(bytes, 1000), key = blob_chunk_key(id);
    cal_sha256(content, id);
    cal_batch *batch = cal_batch_new();
    cal_batch_put(batch, CAL_COLUMN_BLOB_CHUNK, key, cal_slice_text("as good as gone"));
    assert_int_equal(cal_store_commit(f->store, batch, NULL), 0);
    pthread_mutex_lock(&f->blobs->mutex);
    assert_int_equal(cal_map_put(&f->blobs->removing, key, (void *)1), 0);
    pthread_mutex_unlock(&f->blobs->mutex);
    cal_blobs_info info = put(f, content, 1000);
    pthread_mutex_lock(&f->blobs->mutex);
    cal_map_remove(&f->blobs->removing, key);
    pthread_mutex_unlock(&f->blobs->mutex);
    expect_content(f, &info.id, content, 1000);
    free(bytes);
}

enum { UPLOADERS = 3, UPLOADS = 12 };

typedef struct uploader {
    fixture *f;
    pthread_t thread;
    int wrong;
} uploader;

/* Uploads the same few blobs again and again, reads them back, deletes them: others do the same at
 * the same time. */
static void *upload(void *arg) {
    uploader *u = arg;
    uint8_t *got = malloc(CAL_BLOB_CHUNK_SIZE);
    for (size_t i = 0; i < UPLOADS; i++) {
        size_t size = CAL_BLOB_CHUNK_SIZE / 8 + i % 3;
        uint8_t *bytes = pattern(size, i % 2);
        cal_blobs_info info;
        cal_blobs_reader *reader;
        if (put_max(u->f, cal_slice_of(bytes, size), 65536, size, NULL, &info, NULL)) u->wrong++;
        int error = cal_blobs_read_open(u->f->blobs, &info.id, &reader, NULL, NULL);
        if (error == 0) {
            if (cal_blobs_read(reader, got, CAL_BLOB_CHUNK_SIZE) != (int64_t)size ||
                memcmp(got, bytes, size) != 0)
                u->wrong++;
            cal_blobs_read_close(reader);
        } else if (error != CAL_ENOTFOUND) {
            u->wrong++;
        }
        error = cal_blobs_delete(u->f->blobs, &info.id, NULL);
        if (error && error != CAL_ENOTFOUND) u->wrong++;
        free(bytes);
    }
    free(got);
    return NULL;
}

static void test_everything_at_once(void **state) {
    fixture *f = *state;
    uploader all[UPLOADERS] = {0};
    for (int i = 0; i < UPLOADERS; i++) {
        all[i].f = f;
        pthread_create(&all[i].thread, NULL, upload, &all[i]);
    }
    for (int i = 0; i < 20; i++) assert_int_equal(cal_blobs_collect(f->blobs, NULL, NULL), 0);
    for (int i = 0; i < UPLOADERS; i++) {
        pthread_join(all[i].thread, NULL);
        assert_int_equal(all[i].wrong, 0);
    }
    assert_int_equal(cal_blobs_check(f->blobs, NULL, NULL, NULL), 0);
    assert_int_equal(cal_blobs_collect(f->blobs, NULL, NULL), 0);
    assert_int_equal(count_chunks(f), 0);
    assert_int_equal(f->blobs->pins.count, 0);
}

/* --- without waiting --- */

typedef struct loop {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int ready, done;
    int result;
    cal_blobs_info info;
} loop;

static void loop_ready(void *user, int result) {
    loop *l = user;
    pthread_mutex_lock(&l->mutex);
    l->ready++;
    l->result = result;
    pthread_cond_signal(&l->changed);
    pthread_mutex_unlock(&l->mutex);
}

static void loop_done(void *user, int result, const cal_blobs_info *info) {
    loop *l = user;
    pthread_mutex_lock(&l->mutex);
    l->done++;
    l->result = result;
    if (info) l->info = *info;
    pthread_cond_signal(&l->changed);
    pthread_mutex_unlock(&l->mutex);
}

static void loop_wait(loop *l, const int *count, int until) {
    pthread_mutex_lock(&l->mutex);
    while (*count < until) pthread_cond_wait(&l->changed, &l->mutex);
    pthread_mutex_unlock(&l->mutex);
}

static int put_async(fixture *f, cal_slice bytes, const cal_blob_id *expected, loop *l,
                     int *ret_waits) {
    cal_blobs_writer *writer;
    assert_int_equal(cal_blobs_create(f->blobs, UINT64_MAX, &writer, NULL), 0);
    int waits = 0, error = 0;
    const size_t piece = CAL_BLOBS_PIECE_MAX;
    for (size_t at = 0; at < bytes.len && !error; at += piece) {
        size_t len = bytes.len - at < piece ? bytes.len - at : piece;
        error = cal_blobs_write_async(writer, cal_slice_of(bytes.data + at, len), loop_ready, l);
        if (error != CAL_EBUSY) continue;
        loop_wait(l, &l->ready, ++waits);
        error = l->result;
    }
    if (ret_waits) *ret_waits = waits;
    if (error) {
        cal_blobs_abort(writer);
        return error;
    }
    int before = l->done;
    cal_blobs_finish_async(writer, expected, loop_done, l);
    loop_wait(l, &l->done, before + 1);
    return l->result;
}

static void test_async(void **state) {
    fixture *f = *state;
    loop l = {.ready = 0};
    pthread_mutex_init(&l.mutex, NULL);
    pthread_cond_init(&l.changed, NULL);
    const size_t size = 17 * CAL_BLOB_CHUNK_SIZE + 1;
    uint8_t *bytes = malloc(size);
    for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)(i >> 3 ^ i >> 13 ^ i);
    int waits;
    cal_blob_id id, other = {{9}};
    assert_int_equal(put_async(f, cal_slice_of(bytes, size), NULL, &l, &waits), 0);
    assert_int_equal(cal_blob_id_of(cal_slice_of(bytes, size), &id), 0);
    assert_memory_equal(&id, &l.info.id, sizeof id);
    expect_content(f, &id, cal_slice_of(bytes, size), 1000000);
    l.ready = 0;
    assert_int_equal(put_async(f, cal_slice_of(bytes, 1000), &other, &l, NULL), CAL_EVERIFY);
    l.ready = 0;
    cal_sim_quota(f->sim, cal_sim_used(f->sim));
    for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)(bytes[i] + 1);
    assert_int_equal(put_async(f, cal_slice_of(bytes, size), NULL, &l, NULL), CAL_EFULL);
    cal_sim_quota(f->sim, UINT64_MAX);
    l.ready = 0;
    assert_int_equal(put_async(f, (cal_slice){0}, NULL, &l, NULL), 0);
    assert_int_equal(l.info.size, 0);
    cal_store_close(f->store); /* waits for what the aborted writer still had under way */
    assert_int_equal(f->blobs->users, 0);
    assert_int_equal(cal_store_open(&f->options, &f->store, NULL), 0);
    f->blobs->store = f->store;
    pthread_mutex_destroy(&l.mutex);
    pthread_cond_destroy(&l.changed);
    free(bytes);
}

/* --- checking --- */

static void note_finding(void *user, const char *finding) {
    cal_buffer *all = user;
    cal_buffer_append_text(all, finding);
    cal_buffer_append_text(all, "\n");
}

static void test_check(void **state) {
    fixture *f = *state;
    uint8_t *bytes = pattern(2 * CAL_BLOB_CHUNK_SIZE, 0);
    cal_blobs_info info = put(f, cal_slice_of(bytes, 2 * (size_t)CAL_BLOB_CHUNK_SIZE), 300000);
    cal_buffer findings, record;
    cal_buffer_init(&findings, 65536);
    cal_buffer_init(&record, 65536);
    assert_int_equal(cal_blobs_check(f->blobs, note_finding, &findings, NULL), 0);
    assert_int_equal(findings.len, 0);
    assert_int_equal(
        cal_store_get(f->store, CAL_COLUMN_BLOB, cal_slice_of(info.id.bytes, 32), &record), 0);
    cal_slice first = cal_slice_of(record.data + BLOB_RECORD_HEADER, 32),
              second = cal_slice_of(first.data + 32, 32);
    cal_batch *batch = cal_batch_new();
    cal_batch_put(batch, CAL_COLUMN_BLOB_CHUNK, first, cal_slice_text("other"));
    cal_batch_delete(batch, CAL_COLUMN_BLOB_CHUNK, second);
    cal_batch_put(batch, CAL_COLUMN_BLOB_CHUNK, cal_slice_of(info.hash, 32),
                  cal_slice_text("nobody's"));
    cal_batch_put(batch, CAL_COLUMN_BLOB, cal_slice_of(info.hash, 32), cal_slice_text("short"));
    assert_int_equal(cal_store_commit(f->store, batch, NULL), 0);
    assert_int_equal(cal_blobs_check(f->blobs, note_finding, &findings, NULL), CAL_ECORRUPT);
    const char *text = cal_buffer_cstr(&findings);
    assert_non_null(strstr(text, "other content"));
    assert_non_null(strstr(text, "missing"));
    assert_non_null(strstr(text, "record of a blob is damaged"));
    assert_int_equal(cal_blobs_collect(f->blobs, NULL, NULL),
                     CAL_ECORRUPT); /* removes nothing while it cannot know */
    batch = cal_batch_new();
    cal_batch_delete(batch, CAL_COLUMN_BLOB, cal_slice_of(info.hash, 32));
    assert_int_equal(cal_store_commit(f->store, batch, NULL), 0);
    cal_buffer_reset(&findings);
    assert_int_equal(cal_blobs_check(f->blobs, note_finding, &findings, NULL), CAL_ECORRUPT);
    assert_non_null(strstr(cal_buffer_cstr(&findings), "no blob lists"));
    cal_blobs_reader *reader;
    uint8_t got[4];
    assert_int_equal(cal_blobs_read_open(f->blobs, &info.id, &reader, NULL, NULL), 0);
    assert_int_equal(cal_blobs_read(reader, got, 4), CAL_ECORRUPT);
    cal_blobs_seek(reader, CAL_BLOB_CHUNK_SIZE);
    assert_int_equal(cal_blobs_read(reader, got, 4), CAL_ECORRUPT);
    cal_blobs_read_close(reader);
    cal_buffer_deinit(&findings);
    cal_buffer_deinit(&record);
    free(bytes);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_recorded_ids),
        TEST(test_pieces_and_seeking),
        TEST(test_refusals),
        TEST(test_types),
        TEST(test_sharing_and_deleting),
        TEST(test_collecting_during_upload),
        TEST(test_upload_of_a_chunk_that_goes),
        TEST(test_everything_at_once),
        TEST(test_async),
        TEST(test_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
