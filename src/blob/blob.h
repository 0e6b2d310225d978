/* Blobs: bytes of any size, named by their content (network-sync.md 10, runtime-abi.md 19).
 *
 * A blob is cut into chunks of CAL_BLOB_CHUNK_SIZE; a chunk's id is its SHA-256, the blob's id the
 * SHA-256 of the chunk ids one after another (so SHA-256("") for the empty blob). Chunks are rows
 * of CAL_COLUMN_BLOB_CHUNK, shared by all blobs that hold them; a record in CAL_COLUMN_BLOB lists
 * them with the size, the SHA-256 of the whole content and a sniffed type.
 *
 * Promises:
 *  - a blob is there once its finish succeeded, durably and as a whole; before that, nobody sees
 * anything of it;
 *  - memory is bounded: a writer holds the chunk it fills and at most CAL_BLOBS_IN_FLIGHT on their
 * way to the store, a reader one chunk;
 *  - chunks that no blob lists any more (deleted blobs, aborted uploads, a crash) are removed by
 * deletion and by collecting, never one that a running writer or reader uses. Any thread; a writer
 * or reader belongs to one thread at a time. */
#ifndef CAL_BLOB_BLOB_H
#define CAL_BLOB_BLOB_H

#include "base/limits.h"
#include "calimero/identity.h"
#include "store/store.h"

enum {
    CAL_BLOBS_IN_FLIGHT = 4, /* chunks of one writer that the store has not acknowledged */
    CAL_BLOBS_PIECE_MAX = 2 * CAL_BLOB_CHUNK_SIZE, /* one cal_blobs_write_async */
};

typedef struct cal_blobs cal_blobs;
typedef struct cal_blobs_writer cal_blobs_writer;
typedef struct cal_blobs_reader cal_blobs_reader;

typedef struct cal_blobs_info {
    cal_blob_id id;
    uint64_t size;               /* bytes */
    uint8_t hash[CAL_HASH_SIZE]; /* SHA-256 of the content */
    uint32_t chunks;
    const char *mime; /* static; "application/octet-stream" when unknown */
} cal_blobs_info;

int cal_blobs_open(cal_store *store, const cal_os *os, cal_blobs **ret_blobs, cal_error *err);
/* Before the store. Every writer and reader was consumed; waits for what aborted ones still have on
 * its way. NULL allowed. */
void cal_blobs_close(cal_blobs *blobs);

/* --- writing --- */

/* `max`: a longer content fails with CAL_ELIMIT. CAL_ENOMEM. */
int cal_blobs_create(cal_blobs *blobs, uint64_t max, cal_blobs_writer **ret_writer, cal_error *err);
/* Takes bytes, any number; waits while CAL_BLOBS_IN_FLIGHT chunks are on their way. Not on the
 * loop, not on the store's writer thread. After a failure only abort is left. CAL_ELIMIT,
 * CAL_EFULL, CAL_EIO, CAL_ENOMEM. */
int cal_blobs_write(cal_blobs_writer *writer, cal_slice bytes, cal_error *err);
/* Stores what is left and the record. Consumes the writer, also when it fails. `expected` (NULL:
 * any) refuses another id with CAL_EVERIFY. ret_info may be NULL. */
int cal_blobs_finish(cal_blobs_writer *writer, const cal_blob_id *expected,
                     cal_blobs_info *ret_info, cal_error *err);
/* Never waits; consumes the writer. Not while a `ready` is outstanding. NULL allowed. */
void cal_blobs_abort(cal_blobs_writer *writer);

/* The same without waiting, for the loop. The callbacks run on the store's writer thread: pass the
 * news on and return. */
typedef void (*cal_blobs_ready)(void *user, int result);
/* Takes (copies) the bytes, at most CAL_BLOBS_PIECE_MAX. 0: go on at once. CAL_EBUSY: taken, but
 * wait: `ready` will be called once, when there is room again or the writer has failed. Anything
 * else: failed, only abort is left. */
int cal_blobs_write_async(cal_blobs_writer *writer, cal_slice bytes, cal_blobs_ready ready,
                          void *user);
/* Consumes the writer. `done` is called exactly once, on this thread when it fails before it has to
 * wait. info is NULL unless result is 0. Not while a `ready` is outstanding. */
typedef void (*cal_blobs_done)(void *user, int result, const cal_blobs_info *info);
void cal_blobs_finish_async(cal_blobs_writer *writer, const cal_blob_id *expected,
                            cal_blobs_done done, void *user);

/* --- reading --- */

/* CAL_ENOTFOUND. Until it is closed the blob stays readable, also when it is deleted meanwhile.
 * ret_info may be NULL. */
int cal_blobs_read_open(cal_blobs *blobs, const cal_blob_id *id, cal_blobs_reader **ret_reader,
                        cal_blobs_info *ret_info, cal_error *err);
/* Fills as much as there is; 0 at the end; < 0 a CAL_E*. */
int64_t cal_blobs_read(cal_blobs_reader *reader, uint8_t *ret_bytes, size_t len);
/* The rest of the present chunk, or the next one, without copying; valid until the next call. Empty
 * at the end. */
int cal_blobs_read_chunk(cal_blobs_reader *reader, cal_slice *ret_bytes);
void cal_blobs_seek(cal_blobs_reader *reader, uint64_t offset); /* past the end: reads nothing */
void cal_blobs_read_close(cal_blobs_reader *reader);            /* NULL allowed */

int cal_blobs_stat(cal_blobs *blobs, const cal_blob_id *id,
                   cal_blobs_info *ret_info); /* CAL_ENOTFOUND; ret_info may be NULL */
/* Every blob in the order of ids; a non-zero answer of `visit` ends it with that code. */
int cal_blobs_each(cal_blobs *blobs, int (*visit)(void *user, const cal_blobs_info *info),
                   void *user, cal_error *err);

/* --- removing --- */

/* Blocking. Forgets the blob, then removes the chunks that nothing else uses. CAL_ENOTFOUND. */
int cal_blobs_delete(cal_blobs *blobs, const cal_blob_id *id, cal_error *err);
/* Blocking, from a worker, beside anything else: removes all chunks that no blob lists and nobody
 * uses. The node does it after a start and when cal_blobs_garbage says so. ret_removed may be NULL.
 */
int cal_blobs_collect(cal_blobs *blobs, uint64_t *ret_removed, cal_error *err);
bool cal_blobs_garbage(
    cal_blobs *blobs); /* something was left for a collection since the last one */

/* --- checking --- Walks every record and chunk of an idle store: `report` gets a line for each
 * missing, wrong or unlisted chunk (an unlisted one is no damage). CAL_ECORRUPT when something is
 * missing or wrong. */
int cal_blobs_check(cal_blobs *blobs, void (*report)(void *user, const char *finding), void *user,
                    cal_error *err);

/* The id of bytes that are already in memory. CAL_ENOMEM. */
int cal_blob_id_of(cal_slice bytes, cal_blob_id *ret_id);

#endif
