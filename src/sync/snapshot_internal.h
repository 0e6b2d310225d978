/* What the files of taking a snapshot share: the intake and its staged rows. */
#ifndef CAL_SYNC_SNAPSHOT_INTERNAL_H
#define CAL_SYNC_SNAPSHOT_INTERNAL_H

#include <pthread.h>

#include "base/error.h"
#include "sync/snapshot.h"

enum { STAGED_KEY = 64 }; /* staging id, row key */

enum { SUM_WORDS = 4 };

/* Triples (parent, entity, full hash) under a secret key, summed up. */
typedef struct staged_triples {
    uint64_t count, sum[SUM_WORDS];
} staged_triples;

/* What entities list, and what there is of them. */
typedef struct staged_sums {
    uint8_t secret[32];
    staged_triples listed, present;
    uint64_t entities;
    bool root_seen;
} staged_sums;

struct sync_snapshot {
    sync_snapshot_options options;
    cal_hash *heads;
    uint8_t staging[32]; /* the rows' id while they wait: random */
    cal_batch *batch;    /* of what is not committed yet */
    size_t batch_bytes;
    cal_store_lane lane; /* of those that are on their way: */
    pthread_mutex_t mutex;
    pthread_cond_t stored;
    size_t waiting; /* no answer yet */
    int failure;    /* of the first that failed */
    cal_buffer page;
    bool has_cursor, verified;
    uint8_t cursor[SYNC_CURSOR_MAX]; /* at the end of the last whole answer */
    size_t cursor_len;
    uint64_t sent, burst_records; /* of the answer that is coming */
    sync_snapshot_figures figures;
    /* Summed up as they come. They count only when nothing came twice: keys in order, no answer
     * broken off; and when no entity is one that has to be judged by others. */
    staged_sums sums;
    uint8_t last_key[32];
    bool has_last, looks_again;
    uint64_t entry_bytes;   /* memory that all Entry rows would take */
    struct staged_out *out; /* while the state is read out */
};

/* A staged entity: one row, under the key of its Index row, in the order in which they come: u32le
 * length of the Entry, the Entry, the Index record. */
typedef struct staged_entity {
    cal_slice entry, index;
} staged_entity;

/* In the arena: 1, 0 there is none, or a CAL_E*. */
int staged_read(const sync_snapshot *intake, cal_snapshot *snapshot, const uint8_t index_key[32],
                cal_arena *arena, staged_entity *ret_entity);
/* The next one of staged_cursor, valid until the next call. CAL_ENOTFOUND at the end. */
int staged_next(cal_cursor *cursor, const uint8_t **ret_index_key, staged_entity *ret_entity);
void staged_row_key(uint8_t tag, const void *id, uint8_t ret_key[32]);
int staged_cursor(const sync_snapshot *intake, cal_snapshot *snapshot, cal_cursor **ret_cursor);
/* snapshot_out.c: all rows of the state in the order of their keys, valid until the next call.
 * CAL_ENOTFOUND at the end. */
typedef struct staged_out staged_out;
int staged_out_new(sync_snapshot *intake, staged_out **ret_out);
int staged_out_next(staged_out *out, cal_slice *ret_key, cal_slice *ret_value);
void staged_out_free(staged_out *out); /* NULL allowed */

/* snapshot_verify.c */
void staged_sums_begin(staged_sums *sums, const cal_os *os);
void staged_sums_add(staged_sums *sums, const sync_snapshot_options *options,
                     const crdt_index *index);
/* Every entity but the root is listed by its parent, with its hash; nothing else is listed. */
bool staged_sums_agree(const staged_sums *sums);

int staged_flush(sync_snapshot *intake, cal_error *err);
int staged_failed(int result, cal_error *err);

#endif
