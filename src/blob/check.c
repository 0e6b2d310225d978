/* Checking that every listed chunk is there and right, and telling of chunks that nobody lists.
 * Reads everything; for a stopped node's `check`, which is why nothing is held against writers.
 * Blocking; any worker. */
#include "blob/internal.h"

#include "codec/text.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct check_state {
    cal_blobs *blobs;
    void (*report)(void *user, const char *finding);
    void *user;
    uint64_t wrong;
} check_state;

static void check_say(check_state *check, const uint8_t id[CAL_HASH_SIZE], const char *what) {
    char line[256], text[2 * CAL_HASH_SIZE + 1];
    cal_hex_encode(cal_slice_of(id, CAL_HASH_SIZE), text);
    snprintf(line, sizeof line, "%s: %s", text, what);
    if (check->report) check->report(check->user, line);
}

static void check_wrong(check_state *check, const uint8_t id[CAL_HASH_SIZE], const char *what) {
    check->wrong++;
    check_say(check, id, what);
}

/* Returns a failure only of the store or of memory; findings are counted. */
static int check_chunk(check_state *check, const blob_record *record, uint32_t index,
                       cal_sha256_stream *content, cal_buffer *chunk) {
    const uint8_t *id = record->chunk_ids + (size_t)index * CAL_HASH_SIZE;
    uint8_t hash[CAL_HASH_SIZE];
    cal_buffer_reset(chunk);
    int error =
        cal_store_get(check->blobs->store, CAL_COLUMN_BLOB_CHUNK, blob_chunk_key(id), chunk);
    if (error == CAL_ENOTFOUND)
        check_wrong(check, id, "a chunk that a blob lists is missing");
    else if (error == CAL_ECORRUPT)
        check_wrong(check, id, "a chunk is on a damaged page");
    else if (error == CAL_ELIMIT)
        check_wrong(check, id, "a chunk is too long");
    else if (error)
        return error;
    if (error) return 0;
    cal_sha256(cal_buffer_slice(chunk), hash);
    if (memcmp(hash, id, sizeof hash) != 0 || chunk->len != blob_chunk_size(record, index))
        check_wrong(check, id, "a chunk has other content than its id says");
    cal_sha256_feed(content, cal_buffer_slice(chunk));
    return 0;
}

static int check_blob(check_state *check, const cal_blob_id *id) {
    cal_buffer bytes, chunk;
    blob_record record;
    cal_buffer_init(&bytes, BLOB_RECORD_MAX);
    cal_buffer_init(&chunk, CAL_BLOB_CHUNK_SIZE);
    cal_sha256_stream content = {0};
    uint64_t before = check->wrong;
    int error = cal_store_get(check->blobs->store, CAL_COLUMN_BLOB,
                              cal_slice_of(id->bytes, sizeof id->bytes), &bytes);
    if (!error) error = blob_record_read(cal_buffer_slice(&bytes), &record);
    bool readable = !error;
    if (error == CAL_ECORRUPT) {
        check_wrong(check, id->bytes, "the record of a blob is damaged");
        error = 0;
    }
    if (readable) error = cal_sha256_begin(&content);
    if (readable && !error) {
        uint8_t hash[CAL_HASH_SIZE];
        cal_blob_id root;
        for (uint32_t i = 0; i < record.chunk_count && !error; i++)
            error = check_chunk(check, &record, i, &content, &chunk);
        cal_sha256_end(&content, hash);
        blob_id_of_chunks(record.chunk_ids, record.chunk_count, &root);
        if (memcmp(root.bytes, id->bytes, sizeof root.bytes) != 0)
            check_wrong(check, id->bytes, "a blob's chunks do not make its id");
        else if (!error && check->wrong == before && memcmp(hash, record.hash, sizeof hash) != 0)
            check_wrong(check, id->bytes, "a blob's content does not have its hash");
    }
    cal_buffer_deinit(&bytes);
    cal_buffer_deinit(&chunk);
    return error;
}

/* The ids of all blobs; a record is read again on its own, so that a damaged one does not end the
 * walk. */
static int check_list(cal_blobs *blobs, cal_buffer *ret_ids) {
    cal_snapshot *snapshot;
    cal_cursor *cursor = NULL;
    cal_slice key;
    int error = cal_store_snapshot(blobs->store, &snapshot);
    if (error) return error;
    error =
        cal_cursor_open(snapshot, CAL_COLUMN_BLOB, (cal_slice){0}, (cal_slice){0}, false, &cursor);
    while (!error && (error = cal_cursor_next(cursor, &key, NULL)) == 0) {
        if (key.len == CAL_HASH_SIZE) error = cal_buffer_append_slice(ret_ids, key);
    }
    cal_cursor_free(cursor);
    cal_snapshot_free(snapshot);
    return error == CAL_ENOTFOUND ? 0 : error;
}

static int check_unlisted_page(check_state *check, const cal_buffer *ids) {
    cal_map candidates;
    int error = 0;
    cal_map_init(&candidates, check->blobs->pins.seed);
    for (size_t at = 0; at < ids->len && !error; at += CAL_HASH_SIZE)
        error = cal_map_put(&candidates, blob_chunk_key(ids->data + at), check);
    if (!error) error = blob_strike_listed(check->blobs, &candidates);
    cal_map_cursor cursor = {0};
    cal_slice key;
    void *value;
    while (!error && cal_map_next(&candidates, &cursor, &key, &value))
        check_say(check, key.data, "no blob lists this chunk: the next collection removes it");
    cal_map_deinit(&candidates);
    return error == CAL_ECORRUPT ? 0 : error; /* a damaged record is a finding already */
}

static int check_unlisted(check_state *check) {
    cal_buffer last, ids;
    cal_buffer_init(&last, CAL_HASH_SIZE + 1);
    cal_buffer_init(&ids, (size_t)BLOB_COLLECT_PAGE * CAL_HASH_SIZE);
    int error = 0;
    bool more = true;
    while (more && !error) {
        cal_buffer_reset(&ids);
        error = blob_next_page(check->blobs, &last, &ids);
        if (!error) error = check_unlisted_page(check, &ids);
        more = ids.len == (size_t)BLOB_COLLECT_PAGE * CAL_HASH_SIZE;
    }
    cal_buffer_deinit(&last);
    cal_buffer_deinit(&ids);
    return error;
}

int cal_blobs_check(cal_blobs *blobs, void (*report)(void *user, const char *finding), void *user,
                    cal_error *err) {
    check_state check = {blobs, report, user, 0};
    cal_buffer ids;
    cal_buffer_init(&ids, (size_t)256 * 1024 * 1024);
    int error = check_list(blobs, &ids);
    for (size_t at = 0; at < ids.len && !error; at += CAL_HASH_SIZE) {
        cal_blob_id id;
        memcpy(id.bytes, ids.data + at, sizeof id.bytes);
        error = check_blob(&check, &id);
    }
    cal_buffer_deinit(&ids);
    if (!error) error = check_unlisted(&check);
    if (error)
        return cal_fail(err, error, "the blobs cannot be checked: %s", cal_error_text(error));
    if (check.wrong)
        return cal_fail(err, CAL_ECORRUPT, "%llu findings in the blobs: restore a backup",
                        (unsigned long long)check.wrong);
    return 0;
}
