/* Deltas that lie below a state that was taken whole: they are not stored, and nobody need fetch
 * them. Only the peer that the state came from can tell which they are, for as long as it keeps the
 * view that the state was read from; what it says is kept (cal_contexts_cover). */
#include <stdlib.h>

#include "sync/bulk.h"

struct sync_cover {
    sync_context *context;
    cal_peer_id peer;
    cal_hash root, *heads; /* of the state */
    uint32_t head_count;
    uint64_t latest; /* time of its newest delta; 0: not known */
    cal_map asked;   /* ids, each once */
    sync_bulk *bulk;
    cal_hash *ids; /* in the question */
    uint32_t count;
    bool over; /* the peer cannot tell any more */
    void (*done)(void *user);
    void *user;
};

void sync_cover_free(sync_context *context) {
    struct sync_cover *cover = context->cover;
    context->cover = NULL;
    if (!cover) return;
    if (cover->bulk) sync_bulk_leave(cover->bulk);
    cal_map_deinit(&cover->asked);
    free(cover->ids);
    free(cover->heads);
    free(cover);
}

/* --- doubts --- */

static bool was_asked(const struct sync_cover *cover, const cal_hash *id) {
    return cal_map_get(&cover->asked, cal_slice_of(id->bytes, sizeof id->bytes)) != NULL;
}

bool sync_cover_doubts(const sync_delta *delta) {
    const struct sync_cover *cover = delta->context->cover;
    if (!cover || cover->over || (cover->latest && delta->record.hlc.time > cover->latest))
        return false;
    return cover->bulk || !was_asked(cover, &delta->record.id);
}

/* Those that were asked about and are still here go on; all do once nobody can tell. */
static void settle_doubts(sync_context *context) {
    const struct sync_cover *cover = context->cover;
    for (cal_list *at = context->doubtful.next, *next; at != &context->doubtful; at = next) {
        sync_delta *delta = CAL_CONTAINER_OF(at, sync_delta, link);
        next = at->next;
        if (cover && !cover->over && !was_asked(cover, &delta->record.id)) continue;
        delta->doubted = false;
        cal_list_remove(&delta->link);
        cal_list_push(&context->to_open, &delta->link);
    }
}

/* What waited for parents before there was a state. */
static void doubt_waiting(sync_context *context) {
    cal_map_cursor cursor = {0};
    void *value;
    while (cal_map_next(&context->by_id, &cursor, NULL, &value)) {
        sync_delta *delta = value;
        if (delta->lacking == 0 || !sync_cover_doubts(delta)) continue;
        for (size_t i = 0; i < delta->absent_count; i++) {
            if (delta->absent[i].delta) cal_list_remove(&delta->absent[i].link);
            delta->absent[i].delta = NULL;
        }
        delta->lacking = 0;
        delta->doubted = true;
        cal_list_remove(&delta->link);
        cal_list_push(&context->doubtful, &delta->link);
    }
}

void sync_cover_note(sync_context *context, const cal_peer_id *peer, const cal_hash *root,
                     sync_ids heads, uint64_t latest) {
    sync_cover_free(context);
    struct sync_cover *cover = calloc(1, sizeof *cover);
    if (!cover) return; /* then they are fetched */
    cover->context = context;
    cover->peer = *peer;
    cover->root = *root;
    cover->latest = latest;
    cal_map_init(&cover->asked, context->sync->seed);
    context->cover = cover;
    cover->heads = malloc((heads.count + 1) * sizeof *cover->heads);
    cover->ids = malloc(SYNC_BULK_IDS_MAX * sizeof *cover->ids);
    if (!cover->heads || !cover->ids) {
        sync_cover_free(context);
        return;
    }
    if (heads.count) memcpy(cover->heads, heads.items, heads.count * sizeof *heads.items);
    cover->head_count = heads.count;
    doubt_waiting(context);
}

void sync_cover_leave(sync_context *context) {
    if (context->cover) context->cover->done = NULL;
}

/* --- the answer --- */

static bool on_answer(void *user, const sync_bulk_answer *answer) {
    struct sync_cover *cover = user;
    sync_context *context = cover->context;
    cal_sync *sync = context->sync;
    uint32_t count = 0;
    if (answer->end == SYNC_BULK_REFUSED) cover->over = true;
    if (answer->covered.len != cover->count) return false;
    for (uint32_t i = 0; i < cover->count; i++)
        if (answer->covered.data[i]) cover->ids[count++] = cover->ids[i];
    sync->stats.deltas_covered += count;
    if (count) cal_contexts_cover(sync->options.contexts, &context->id, cover->ids, count);
    for (uint32_t i = 0; i < count; i++) sync_context_cover(context, &cover->ids[i]);
    return false;
}

static void on_ended(void *user, int result) {
    struct sync_cover *cover = user;
    void (*done)(void *user) = cover->done;
    sync_context *context = cover->context;
    void *done_user = cover->user;
    cover->bulk = NULL;
    cover->done = NULL;
    if (result != 0) cover->over = true;
    settle_doubts(context);
    if (cover->over) sync_cover_free(context);
    if (done) done(done_user);
    sync_context_go(context);
}

static const sync_bulk_events cover_events = {.answer = on_answer, .ended = on_ended};

/* --- the question --- */

static int add(struct sync_cover *cover, const cal_hash *id) {
    static char mark;
    if (cover->count >= SYNC_BULK_IDS_MAX || was_asked(cover, id)) return 0;
    if (cover->asked.count >= SYNC_COVERED_MAX) return CAL_ELIMIT;
    int rc = cal_map_put(&cover->asked, cal_slice_of(id->bytes, sizeof id->bytes), &mark);
    if (rc == 0) cover->ids[cover->count++] = *id;
    return rc;
}

static int ask(struct sync_cover *cover, const cal_hash *ids, size_t count) {
    sync_context *context = cover->context;
    int rc = 0;
    cover->count = 0;
    for (const cal_list *at = context->doubtful.next; rc == 0 && at != &context->doubtful;
         at = at->next)
        rc = add(cover, &CAL_CONTAINER_OF(at, sync_delta, link)->record.id);
    for (size_t i = 0; i < count && rc == 0; i++) rc = add(cover, &ids[i]);
    if (rc == 0 && cover->count == 0) rc = CAL_ENOTFOUND;
    if (rc != 0) return rc;
    sync_bulk_request request = {.kind = SYNC_BULK_COVERED,
                                 .context = context->id,
                                 .root = cover->root,
                                 .ids = {cover->ids, cover->count},
                                 .known = {cover->heads, cover->head_count}};
    return sync_bulk_ask(context->sync, &cover->peer, &request, &cover_events, cover, &cover->bulk);
}

/* One question after the other. When nobody can be asked any more the cover goes, and what is
 * missing is fetched. */
bool sync_cover_ask(sync_context *context, const cal_hash *ids, size_t count,
                    void (*done)(void *user), void *user) {
    struct sync_cover *cover = context->cover;
    int rc = !cover ? CAL_ENOTFOUND : cover->bulk ? 0 : ask(cover, ids, count);
    if (rc == 0) {
        cover->done = done;
        cover->user = user;
    } else if (rc != CAL_ENOTFOUND) {
        cover->over = true;
        settle_doubts(context);
        sync_cover_free(context);
    }
    return rc == 0;
}

void sync_cover_look(sync_context *context) {
    struct sync_cover *cover = context->cover;
    if (cover && cover->bulk) return;
    if (cover && sync_cover_ask(context, NULL, 0, NULL, NULL)) return;
    settle_doubts(context);
    sync_context_go(context);
}
