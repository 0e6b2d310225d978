/* Blobs: bytes named by their content (1 MiB chunks; the id is the SHA-256 of the chunks'
 * SHA-256s). Threads, errors and pointers as node.h says. */
#ifndef CALIMERO_BLOB_H
#define CALIMERO_BLOB_H

#include "calimero/node.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cal_blob_info {
    cal_blob_id id;
    uint64_t size;    /* bytes */
    cal_hash hash;    /* SHA-256 of the whole content */
    const char *mime; /* sniffed, "application/octet-stream" when unknown */
} cal_blob_info;

typedef struct cal_blob_writer cal_blob_writer;
typedef struct cal_blob_reader cal_blob_reader;
typedef void (*cal_blob_done)(void *user, const cal_error *err, const cal_blob_info *info);

/* Writing in pieces. One operation at a time for each writer: wait for its callback. Pieces of any
 * size; copied. */
cal_blob_writer *cal_blob_create(cal_node *node); /* NULL: out of memory */
void cal_blob_write(cal_blob_writer *writer, const void *bytes, size_t len, cal_simple_done done,
                    void *user);
void cal_blob_finish(cal_blob_writer *writer, const cal_blob_id *expected /* NULL: any */,
                     cal_blob_done done, void *user); /* frees the writer */
void cal_blob_abort(
    cal_blob_writer *writer); /* frees the writer; NULL allowed; not while an operation runs */

/* Reading in pieces: `done` gets the next chunk (at most 1 MiB), len 0 at the end. One operation at
 * a time. */
typedef void (*cal_blob_chunk_done)(void *user, const cal_error *err, const uint8_t *bytes,
                                    size_t len);
int cal_blob_open(cal_node *node, const cal_blob_id *id, cal_blob_reader **ret_reader,
                  cal_blob_info *ret_info); /* CAL_ENOTFOUND */
void cal_blob_read(cal_blob_reader *reader, cal_blob_chunk_done done, void *user);
void cal_blob_close(cal_blob_reader *reader); /* NULL allowed; not while an operation runs */

int cal_blob_stat(cal_node *node, const cal_blob_id *id,
                  cal_blob_info *ret_info); /* CAL_ENOTFOUND */
int cal_blob_each(cal_node *node, void (*visit)(void *user, const cal_blob_info *info), void *user);
void cal_blob_delete(
    cal_node *node, const cal_blob_id *id, cal_simple_done done,
    void *user); /* CAL_ENOTFOUND; CAL_EDENIED for code of an installed application */

/* A blob of a context: when it is not here it is fetched from the context's other members,
 * verified, and kept. `progress` (NULL: nobody asks) is told on the loop; size 0: not known; it may
 * start again from 0 with another peer. CAL_ENOTFOUND (nobody who was reached has it; no such
 * context), CAL_EDENIED (this node is no member of the context), CAL_EOVERLOAD, CAL_EUNREACHABLE,
 * CAL_ETIMEOUT, CAL_EVERIFY. */
typedef void (*cal_blob_progress)(void *user, uint64_t received, uint64_t size);
void cal_blob_fetch(cal_node *node, const cal_blob_id *id, const cal_context_id *context,
                    cal_blob_progress progress, cal_blob_done done, void *user);
int cal_blob_fetch_wait(cal_node *node, const cal_blob_id *id, const cal_context_id *context,
                        cal_error *err);
/* Tells the network that this node has a blob of the context: until the blob is deleted or the node
 * stops, and only the last 1,000 are told of. CAL_ENOTFOUND (no such blob here), CAL_EDENIED (no
 * member of the context), CAL_ECANCELED. */
int cal_blob_announce(cal_node *node, const cal_blob_id *id, const cal_context_id *context,
                      cal_error *err);

/* Whole blobs, blocking. */
int cal_blob_put_wait(cal_node *node, const void *bytes, size_t len, cal_blob_id *ret_id,
                      cal_error *err);
int cal_blob_get_wait(cal_node *node, const cal_blob_id *id, uint8_t **ret_bytes /* free() it */,
                      size_t *ret_len, cal_error *err);

#ifdef __cplusplus
}
#endif
#endif
