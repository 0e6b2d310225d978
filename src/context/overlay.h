/* What one call has written, over a snapshot of what is committed: the guest reads through it, and
 * on success it becomes one batch. Dropped without a trace otherwise. One call, one thread.
 * Protocol: runtime-abi.md 4.4, 6.
 *
 * Overlays stack: what earlier turns have left, and the store does not have yet, lies between a
 * call's own rows and the snapshot (tip.h). The topmost row of a key counts, and a prefix that was
 * removed hides all that lies below.
 *
 * Unlike the reference, index writes are part of it too (traps and failed calls leave none behind).
 */
#ifndef CAL_CONTEXT_OVERLAY_H
#define CAL_CONTEXT_OVERLAY_H

#include "base/map.h"
#include "base/sorted.h"
#include "calimero/identity.h"
#include "context/row.h"
#include "store/store.h"
#include "vm/vm.h"

struct cal_context_cache;

typedef struct cal_overlay {
    const struct cal_overlay *below; /* NULL: nothing before the snapshot */
    cal_snapshot *snapshot;          /* NULL: nothing is committed (a context being created) */
    struct cal_context_cache *cache; /* NULL allowed */
    uint64_t cache_version;          /* of the snapshot */
    uint8_t context_id[32];
    cal_map rows[2];     /* STATE, PRIVATE: key -> overlay row */
    cal_sorted index[2]; /* INDEX, INDEX_META: key -> overlay row */
    cal_sorted
        removed;    /* index prefixes removed from what is committed; none starts with another */
    cal_map deltas; /* ids of the deltas that are stored along with it */
    cal_buffer scratch; /* a store key being built */
    size_t bytes;       /* that its rows take, about */
} cal_overlay;

enum { CAL_OVERLAYS_MAX = 4 }; /* that lie on one another */

void cal_overlay_init(cal_overlay *overlay, const uint8_t context_id[32], cal_snapshot *snapshot,
                      struct cal_context_cache *cache, uint64_t cache_version);
void cal_overlay_deinit(cal_overlay *overlay); /* the snapshot is the caller's */

/* The table that hands it to vm; `overlay` must outlive the call. */
cal_vm_storage cal_overlay_storage(cal_overlay *overlay);

/* Reads and writes as the guest does, for the node's own touches (signatures into index records). 1
 * hit, 0 miss, or CAL_E*. */
int cal_overlay_read(cal_overlay *overlay, cal_vm_space space, cal_slice key,
                     cal_buffer *ret_value);
int cal_overlay_write(cal_overlay *overlay, cal_vm_space space, cal_slice key, cal_slice value,
                      cal_buffer *ret_old);
int cal_overlay_remove(cal_overlay *overlay, cal_vm_space space, cal_slice key,
                       cal_buffer *ret_old);

/* The deltas that go with what was written, so that one that comes again is known before it can be
 * looked up in the store. has: also those of the layers below; not what the store has. */
int cal_overlay_add_delta(cal_overlay *overlay, const cal_hash *id);
bool cal_overlay_has_delta(const cal_overlay *overlay, const cal_hash *id);

/* Adds what was written to the batch: state and private rows (`state`), index rows (`index`). */
int cal_overlay_flush(const cal_overlay *overlay, bool state, bool index, cal_batch *batch);
bool cal_overlay_has_index_changes(const cal_overlay *overlay);
bool cal_overlay_has_private_changes(const cal_overlay *overlay);

/* Whether it changes nothing at all. */
bool cal_overlay_is_empty(const cal_overlay *overlay);
/* Lays what `from` has written (state and private rows: `state`; index rows: `index`) over what
 * `into` has, and drops the rest of it: `from` is empty afterwards. CAL_ENOMEM: then `into` is of
 * no use any more. */
int cal_overlay_merge(cal_overlay *into, cal_overlay *from, bool state, bool index);
/* Hands out the state rows, each to its new owner, and drops the others: empty afterwards. */
void cal_overlay_give_state(cal_overlay *overlay,
                            void (*take)(void *user, cal_slice key, cal_row *row), void *user);
void cal_overlay_clear(cal_overlay *overlay);

#endif
