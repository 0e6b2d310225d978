/* What the files of blob/ share. */
#ifndef CAL_BLOB_INTERNAL_H
#define CAL_BLOB_INTERNAL_H

#include "base/error.h"
#include "base/list.h"
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
    BLOB_LOCK_STEP = 256,     /* chunks gone through in one hold of the mutex: some 50 us */
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

/* A page of chunks that may be unused, while somebody finds out (collect.c). */
typedef struct blob_collection {
    cal_list node;
    cal_map candidates; /* chunk id -> anything */
} blob_collection;

/* Where two threads may come between one another: tests do, at every point. */
typedef enum blob_point {
    BLOB_AT_LOCKED,       /* the mutex was taken */
    BLOB_AT_UNLOCKING,    /* and is given back */
    BLOB_AT_UNRECORDED,   /* a blob's record is gone, its chunks are not */
    BLOB_AT_REGISTERED,   /* a collection has its candidates */
    BLOB_AT_STRUCK,       /* those that a record lists are struck */
    BLOB_AT_REMOVING,     /* a removal is on its way */
    BLOB_AT_REMOVED,      /* and durable */
    BLOB_AT_READ_RECORD,  /* a reader has the record and no pins */
    BLOB_AT_READ_PINNED,  /* its pins, and has not looked again */
    BLOB_AT_WRITE_PINNED, /* a writer has pinned a chunk and not looked for it */
    BLOB_AT_WRITE_SOUGHT, /* it has looked and not submitted */
    BLOB_AT_POINTS
} blob_point;

/* A chunk that a writer or reader uses is pinned. */
struct cal_blobs {
    cal_store *store;
    pthread_mutex_t mutex; /* guards down to `unused`; held for BLOB_LOCK_STEP chunks at most */
    cal_map pins;          /* chunk id -> how often, and whether a collection spared it */
    cal_map removing;      /* chunk id -> how many removals of it are on the way to the store */
    cal_list collections;  /* of blob_collection */
    uint32_t users;        /* writers and readers */
    pthread_cond_t unused;
    atomic_bool garbage;
    void (*at)(void *user, blob_point point); /* NULL outside tests */
    void *at_user;
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
/* listed: a durable record lists them now. */
void blob_unpin(cal_blobs *blobs, const uint8_t *chunk_ids, size_t count, bool listed);
/* Whether somebody uses it, whose unpinning then says that it may be garbage. The mutex is held. */
bool blob_spare(cal_blobs *blobs, const uint8_t *chunk_id);
void blob_lock(cal_blobs *blobs);
void blob_unlock(cal_blobs *blobs);

/* Takes out of `candidates` (chunk ids, under the mutex) every one that some record lists. */
int blob_strike_listed(cal_blobs *blobs, cal_map *candidates);
/* The next page of chunk ids from `last` on, which moves on behind them. Fewer than
 * BLOB_COLLECT_PAGE: that was the end. */
int blob_next_page(cal_blobs *blobs, cal_buffer *last, cal_buffer *ret_ids);
/* collect.c: removes those of the candidates that nothing uses. */
int blob_remove_unused(cal_blobs *blobs, const uint8_t *chunk_ids, size_t count, uint64_t *removed,
                       cal_error *err);

static inline void blob_at(cal_blobs *blobs, blob_point point) {
    if (blobs->at) blobs->at(blobs->at_user, point);
}

static inline cal_slice blob_chunk_key(const uint8_t *chunk_id) {
    return cal_slice_of(chunk_id, CAL_HASH_SIZE);
}

#endif
