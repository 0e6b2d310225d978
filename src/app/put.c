/* Storing a blob so that it can be taken back.
 *
 * A refused file must leave nothing behind, and must not take away a blob that somebody else had
 * stored before. So the id is worked out while the bytes pass (network-sync.md 10: SHA-256 over the
 * chunks' SHA-256) and looked up before the end. The same pass gives the content's SHA-256, which
 * an installation may ask for. One thread. */
#include "app/internal.h"
#include "base/limits.h"

static void release(app_put *put) {
    cal_sha256_end(&put->content, NULL);
    cal_sha256_end(&put->chunk, NULL);
    cal_sha256_end(&put->ids, NULL);
}

int app_put_begin(app_put *put, const cal_app_blobs *blobs, cal_error *err) {
    *put = (app_put){.blobs = blobs};
    int rc = cal_sha256_begin(&put->content) || cal_sha256_begin(&put->chunk) ||
                     cal_sha256_begin(&put->ids)
                 ? cal_fail(err, CAL_ENOMEM, "out of memory storing a blob")
                 : blobs->create(blobs->user, &put->writer, err);
    if (rc != 0) release(put);
    return rc;
}

static int end_chunk(app_put *put) {
    uint8_t id[CAL_HASH_SIZE];
    cal_sha256_end(&put->chunk, id);
    cal_sha256_feed(&put->ids, cal_slice_of(id, sizeof id));
    put->filled = 0;
    return cal_sha256_begin(&put->chunk);
}

int app_put_write(app_put *put, cal_slice bytes, cal_error *err) {
    cal_sha256_feed(&put->content, bytes);
    put->size += bytes.len;
    for (cal_slice rest = bytes; rest.len > 0;) {
        size_t room = CAL_BLOB_CHUNK_SIZE - put->filled, len = rest.len < room ? rest.len : room;
        cal_sha256_feed(&put->chunk, cal_slice_of(rest.data, len));
        put->filled += len;
        rest = cal_slice_of(rest.data + len, rest.len - len);
        if (put->filled == CAL_BLOB_CHUNK_SIZE && end_chunk(put) != 0)
            return cal_fail(err, CAL_ENOMEM, "out of memory storing a blob");
    }
    return put->blobs->write(put->blobs->user, put->writer, bytes, err);
}

/* Whether the blob is there already. When that cannot be told it counts as there, and is never
 * taken back. */
static bool exists(const cal_app_blobs *blobs, const cal_blob_id *id) {
    void *reader = NULL;
    uint64_t size = 0;
    int rc = blobs->open(blobs->user, id, &reader, &size, NULL);
    if (rc == 0) blobs->close(blobs->user, reader);
    return rc != CAL_ENOTFOUND;
}

static int check_content(const uint8_t actual[CAL_HASH_SIZE], const uint8_t *expected,
                         cal_error *err) {
    if (!expected || memcmp(actual, expected, CAL_HASH_SIZE) == 0) return 0;
    char got[CAL_ID_TEXT_MAX], wanted[CAL_ID_TEXT_MAX];
    cal_id_to_base58(actual, got);
    cal_id_to_base58(expected, wanted);
    return cal_fail(err, CAL_EVERIFY,
                    "the file's SHA-256 is %s, expected was %s: it is not the file that was meant",
                    got, wanted);
}

int app_put_finish(app_put *put, const uint8_t *expected, app_stored *ret_blob, cal_error *err) {
    const cal_app_blobs *blobs = put->blobs;
    uint8_t content[CAL_HASH_SIZE];
    app_stored blob;
    int rc = put->filled > 0 && end_chunk(put) != 0
                 ? cal_fail(err, CAL_ENOMEM, "out of memory storing a blob")
                 : 0;
    cal_sha256_end(&put->ids, blob.id.bytes);
    cal_sha256_end(&put->content, content);
    release(put);
    if (rc == 0) rc = check_content(content, expected, err);
    if (rc != 0) {
        blobs->abort(blobs->user, put->writer);
        return rc;
    }
    blob.fresh = !exists(blobs, &blob.id);
    rc = blobs->finish(blobs->user, put->writer, &blob.id, err);
    if (rc == 0) *ret_blob = blob;
    return rc;
}

void app_put_abort(app_put *put) {
    put->blobs->abort(put->blobs->user, put->writer);
    release(put);
}

void app_put_forget(const cal_app_blobs *blobs, const app_stored *blob) {
    if (blob->fresh && blobs->remove) blobs->remove(blobs->user, &blob->id);
}
