/* What the files of blob/ share. */
#ifndef CAL_BLOB_INTERNAL_H
#define CAL_BLOB_INTERNAL_H

#include "base/error.h"
#include "base/map.h"
#include "blob/blob.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    BLOB_RECORD_VERSION = 1,
    BLOB_RECORD_HEADER =
        1 + 8 + CAL_HASH_SIZE + 1, /* version, size, hash, mime; then the chunk ids */
    BLOB_RECORD_MAX = BLOB_RECORD_HEADER + 2 * 1024 * 1024, /* 64 Ki chunks: 64 GiB */
    BLOB_SNIFF_SIZE = 16,
    BLOB_COLLECT_PAGE = 4096, /* candidate chunks looked at together */
    BLOB_COLLECT_BATCH = 4,   /* chunks removed in one transaction: freeing a MiB takes 10 ms */
};

typedef struct blob_chunk_id {
    uint8_t bytes[CAL_HASH_SIZE];
} blob_chunk_id;

typedef struct blob_record {
    uint64_t size;
    uint8_t hash[CAL_HASH_SIZE];
    uint8_t mime; /* index into the table of record.c: never reorder it */
    uint32_t chunk_count;
    const uint8_t *chunk_ids; /* chunk_count * CAL_HASH_SIZE */
} blob_record;

/* A chunk that a writer or reader uses is pinned. While a collection runs, unpinning is put off to
 * its end: the collection's snapshot may be older than the record that the unpinned chunks now
 * belong to. */
struct cal_blobs {
    cal_store *store;
    pthread_mutex_t mutex; /* guards down to `late_capacity` */
    cal_map pins;          /* chunk id -> how often, as a pointer */
    cal_map removing;      /* chunk id -> anything: its removal is on the way to the store */
    uint32_t collecting;
    uint32_t users; /* writers and readers */
    pthread_cond_t unused;
    blob_chunk_id *late; /* to unpin when no collection runs any more */
    size_t late_count, late_capacity;
    pthread_mutex_t collect_mutex; /* one collection at a time */
    atomic_bool garbage;
};

/* record.c */
uint8_t blob_sniff(cal_slice start);
const char *blob_mime(uint8_t mime);
int blob_record_write(const blob_record *record, cal_buffer *ret_bytes);
int blob_record_read(cal_slice bytes, blob_record *ret_record); /* borrows; CAL_ECORRUPT */
void blob_record_info(const cal_blob_id *id, const blob_record *record, cal_blobs_info *ret_info);
uint32_t blob_chunk_size(const blob_record *record, uint32_t index);
void blob_id_of_chunks(const uint8_t *chunk_ids, size_t count, cal_blob_id *ret_id);

/* blob.c */
void blob_enter(cal_blobs *blobs);
void blob_leave(cal_blobs *blobs); /* blobs may be gone when this returns */
int blob_pin(cal_blobs *blobs, const uint8_t *chunk_id,
             bool *ret_removing); /* CAL_ENOMEM; ret_removing may be NULL */
void blob_unpin(cal_blobs *blobs, const uint8_t *chunk_ids, size_t count);
bool blob_pinned(const cal_blobs *blobs, const uint8_t *chunk_id); /* the mutex is held */

/* Between the two, unpinning is put off; one collection at a time. */
void blob_collect_begin(cal_blobs *blobs);
void blob_collect_end(cal_blobs *blobs);

/* Takes out of `candidates` (chunk ids) every one that some record lists. */
int blob_strike_listed(cal_blobs *blobs, cal_map *candidates);
/* The next page of chunk ids from `last` on, which moves on behind them. Fewer than
 * BLOB_COLLECT_PAGE: that was the end. */
int blob_next_page(cal_blobs *blobs, cal_buffer *last, cal_buffer *ret_ids);
/* collect.c: removes those of the candidates that nothing uses. */
int blob_remove_unused(cal_blobs *blobs, const uint8_t *chunk_ids, size_t count, uint64_t *removed,
                       cal_error *err);

static inline cal_slice blob_chunk_key(const uint8_t *chunk_id) {
    return cal_slice_of(chunk_id, CAL_HASH_SIZE);
}

#endif
