/* Deltas that were compacted away, here or at a peer (context/past.h): what came is told from what
 * is new, who is just fetching is let to, and what no other member has is not compacted away. */
#include "context/past.h"

#include <string.h>

#include "sync/bulk.h"
#include "sync/tree.h"

enum { FETCHING_MS = 10000 };

void sync_past_free(sync_context *context) {
    cal_past_deinit(&context->past);
    context->past_read = false;
}

/* Read when it is first asked for. What was taken away since does not matter to who asks here: a
 * worker that locates a delta looks itself. */
static const cal_past *past_of(sync_context *context) {
    cal_snapshot *snapshot = NULL;
    if (context->past_read) return &context->past;
    int rc = cal_store_snapshot(context->sync->options.store, &snapshot);
    if (rc == 0) rc = cal_past_read(snapshot, &context->id, &context->past);
    cal_snapshot_free(snapshot);
    context->past_read = rc == 0;
    return &context->past;
}

bool sync_past_has(sync_context *context, const cal_delta_record *delta) {
    return delta->has_author && cal_past_has(past_of(context), &delta->author, delta->hlc.time);
}

void sync_past_fetched(sync_context *context) {
    context->fetched_ms = sync_now_ms(context->sync) + FETCHING_MS;
}

void cal_sync_compacted(cal_sync *sync, const cal_context_id *id) {
    sync_context *context = sync_context_get(sync, id);
    if (context) sync_past_free(context);
}

/* --- what another member has, too --- */

bool sync_deltas_stored(const sync_context *context, sync_ids ids) {
    cal_snapshot *snapshot = NULL;
    int rc = cal_store_snapshot(context->sync->options.store, &snapshot);
    for (uint32_t i = 0; rc == 0 && i < ids.count; i++)
        rc = sync_delta_stored(snapshot, &context->id, ids.items[i].bytes);
    cal_snapshot_free(snapshot);
    return rc == 0;
}

void sync_past_common(sync_context *context, const cal_peer_id *peer, sync_ids heads) {
    if (heads.count == 0 || heads.count > CAL_SYNC_COMMON_MAX || !sync_met_member(context, peer) ||
        !sync_deltas_stored(context, heads))
        return;
    memcpy(context->common, heads.items, heads.count * sizeof *context->common);
    context->common_count = heads.count;
}

static void count_device(void *user, const cal_public_key *key, const cal_account_id *account) {
    (void)key, (void)account;
    ++*(size_t *)user;
}

int cal_sync_common(cal_sync *sync, const cal_context_id *id,
                    cal_hash ret_heads[CAL_SYNC_COMMON_MAX]) {
    const sync_context *context = sync_context_get(sync, id);
    cal_group_id group, ns;
    size_t devices = 0;
    if (gov_context_group(sync->options.gov, id, &group, &ns) == 0)
        gov_devices_ever(sync->options.gov, &ns, count_device, &devices);
    if (devices <= 1) return CAL_SYNC_ALONE_HERE;
    if (!context) return 0;
    memcpy(ret_heads, context->common, context->common_count * sizeof *ret_heads);
    return (int)context->common_count;
}

static int add_heads(sync_walk *walk, cal_store *store, const cal_context_id *id) {
    cal_arena arena;
    cal_buffer row;
    cal_context_record record;
    cal_arena_init(&arena, SYNC_ARENA_MAX);
    cal_buffer_init(&row, CAL_STORE_VALUE_MAX);
    int rc = cal_store_get(store, CAL_COLUMN_CONTEXT, cal_slice_of(id->bytes, 32), &row);
    if (rc == 0) rc = cal_context_record_decode(cal_buffer_slice(&row), &arena, &record);
    for (size_t i = 0; rc == 0 && i < record.head_count; i++)
        rc = sync_walk_add(walk, &record.heads[i], false);
    cal_buffer_deinit(&row);
    cal_arena_deinit(&arena);
    return rc;
}

int cal_sync_unsent(cal_store *store, const cal_context_id *id, const cal_hash *common,
                    size_t count, uint64_t *ret_time) {
    enum { STEP_ROWS = 16384 };
    sync_walk *walk = sync_walk_new(0, SYNC_BULK_WALK_MAX);
    if (!walk) return CAL_ENOMEM;
    int rc = add_heads(walk, store, id);
    for (size_t i = 0; rc == 0 && i < count; i++) rc = sync_walk_add(walk, &common[i], true);
    do {
        if (rc == 0 || rc == CAL_EBUSY) rc = sync_walk_step(walk, store, id, STEP_ROWS);
    } while (rc == CAL_EBUSY);
    *ret_time = sync_walk_oldest(walk);
    sync_walk_free(walk);
    return rc;
}

/* --- */

bool cal_sync_moves(cal_sync *sync, const cal_context_id *id) {
    const sync_context *context = sync_context_get(sync, id);
    return context && (context->compare || context->intake || context->applying ||
                       sync_now_ms(sync) < context->fetched_ms);
}
