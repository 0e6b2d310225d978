/* Deltas that were compacted away, here or at a peer (context/past.h): what came is told from what
 * is new, and who is just fetching is let to. */
#include "context/past.h"

#include "sync/bulk.h"

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

bool cal_sync_moves(cal_sync *sync, const cal_context_id *id) {
    const sync_context *context = sync_context_get(sync, id);
    return context &&
           (context->compare || context->step || sync_now_ms(sync) < context->fetched_ms);
}
