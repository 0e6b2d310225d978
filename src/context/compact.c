/* Compaction of a context's deltas, see compact.h. */
#include "context/compact.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "context/commit.h"
#include "context/past.h"

enum {
    PLAN_MAX = 131072, /* rows of one plan: the oldest ones of a table that has more */
    SHADOWS_PER_KEPT = 4,
    SHADOWS_MAX = 65536,
};

typedef struct entry {
    uint64_t time;
    cal_hash id;
    bool full; /* has actions; else it is a checkpoint */
    bool goes; /* altogether; else its actions do */
} entry;

struct cal_compact {
    entry *entries; /* the oldest first */
    size_t count, capacity, at;
    uint64_t full, shadows; /* in the table, without the heads */
    cal_hash *heads;        /* as the snapshot has them */
    size_t head_count;
    bool cut; /* there were more than entries has room for */
    bool more;
};

uint32_t cal_compact_shadows(uint32_t keep) {
    return keep > SHADOWS_MAX / SHADOWS_PER_KEPT ? SHADOWS_MAX : keep * SHADOWS_PER_KEPT;
}

void cal_compact_free(cal_compact *plan) {
    if (!plan) return;
    free(plan->entries);
    free(plan->heads);
    free(plan);
}

bool cal_compact_more(const cal_compact *plan) { return plan->more; }

size_t cal_compact_left(const cal_compact *plan) { return plan->count - plan->at; }

/* --- the plan: worker --- */

static int older(const void *a, const void *b) {
    const entry *first = a, *second = b;
    if (first->time != second->time) return first->time < second->time ? -1 : 1;
    return memcmp(&first->id, &second->id, sizeof first->id);
}

static int by_id(const void *a, const void *b) {
    return memcmp(&(*(entry *const *)a)->id, &(*(entry *const *)b)->id, sizeof(cal_hash));
}

/* Room for twice as many as are kept, so that sorting is worth its while. */
static int add_entry(cal_compact *plan, const entry *one) {
    if (plan->count == 2 * (size_t)PLAN_MAX) {
        qsort(plan->entries, plan->count, sizeof *plan->entries, older);
        plan->count = PLAN_MAX;
        plan->cut = true;
    }
    if (plan->count == plan->capacity) {
        size_t capacity = plan->capacity ? 2 * plan->capacity : 256;
        entry *entries = realloc(plan->entries, capacity * sizeof *entries);
        if (!entries) return CAL_ENOMEM;
        plan->entries = entries;
        plan->capacity = capacity;
    }
    plan->entries[plan->count++] = *one;
    return 0;
}

typedef int (*visitor)(void *user, const cal_delta_record *delta);

/* Every delta of the context, in no order; but for the row that is none (cal_context_boundary). */
static int each_delta(cal_snapshot *snapshot, const cal_context_id *id, visitor visit, void *user) {
    cal_slice prefix = cal_slice_of(id->bytes, CAL_ID_SIZE), key, value;
    cal_buffer end;
    cal_cursor *cursor = NULL;
    cal_hash boundary;
    cal_context_boundary_id(id, &boundary);
    cal_buffer_init(&end, CAL_ID_SIZE);
    cal_prefix_end(prefix, &end);
    int rc =
        cal_cursor_open(snapshot, CAL_COLUMN_DELTA, prefix, cal_buffer_slice(&end), false, &cursor);
    while (rc == 0 && (rc = cal_cursor_next(cursor, &key, visit ? &value : NULL)) == 0) {
        cal_delta_record delta;
        if (key.len == 64 && memcmp(key.data + 32, &boundary, sizeof boundary) == 0) continue;
        if (visit) rc = cal_delta_record_decode(value, &delta);
        if (visit && rc == 0) rc = visit(user, &delta);
        if (!visit) ++*(uint64_t *)user;
    }
    cal_cursor_free(cursor);
    cal_buffer_deinit(&end);
    return rc == CAL_ENOTFOUND ? 0 : rc;
}

static bool is_among(const void *ids, size_t count, const cal_hash *id) {
    for (size_t i = 0; i < count; i++)
        if (memcmp((const cal_hash *)ids + i, id, sizeof *id) == 0) return true;
    return false;
}

static int note_delta(void *user, const cal_delta_record *delta) {
    cal_compact *plan = user;
    if (is_among(plan->heads, plan->head_count, &delta->id)) return 0;
    entry one = {.time = delta->hlc.time, .id = delta->id, .full = !cal_delta_is_checkpoint(delta)};
    plan->full += one.full;
    plan->shadows += !one.full;
    return add_entry(plan, &one);
}

/* Of the oldest, whose actions go and which go altogether; the list is then of these alone. */
static void choose(cal_compact *plan, const cal_compact_bounds *bounds) {
    uint64_t strip = plan->full > bounds->above ? plan->full - bounds->keep : 0;
    uint64_t shadows = cal_compact_shadows(bounds->keep);
    uint64_t after = plan->shadows + strip, drop = after > shadows ? after - shadows : 0;
    size_t kept = 0, count = plan->count;
    qsort(plan->entries, plan->count, sizeof *plan->entries, older);
    if (count > PLAN_MAX) {
        plan->cut = true;
        count = PLAN_MAX;
    }
    for (size_t i = 0; i < count && (strip > 0 || drop > 0); i++) {
        entry one = plan->entries[i];
        if (one.time >= bounds->before) break;
        if (one.full && strip == 0) continue;
        strip -= one.full;
        one.goes = drop > 0;
        drop -= one.goes;
        if (one.full || one.goes) plan->entries[kept++] = one;
    }
    plan->count = kept;
    plan->more = plan->cut && (strip > 0 || drop > 0);
}

struct parents {
    entry **by_id; /* of what goes altogether */
    size_t count;
    const cal_compact *plan;
};

/* What stays has its parents' rows. */
static int spare_parents(void *user, const cal_delta_record *delta) {
    struct parents *parents = user;
    const cal_compact *plan = parents->plan;
    entry self = {.time = delta->hlc.time, .id = delta->id}, *key = &self;
    bool stays = is_among(plan->heads, plan->head_count, &delta->id) ||
                 older(&self, &plan->entries[plan->count - 1]) > 0;
    if (cal_delta_is_checkpoint(delta) || !stays) return 0;
    for (size_t i = 0; i < delta->parent_count; i++) {
        memcpy(self.id.bytes, delta->parents[i], sizeof self.id.bytes);
        entry **found = bsearch(&key, parents->by_id, parents->count, sizeof key, by_id);
        if (found) (*found)->goes = false;
    }
    return 0;
}

static int spare(cal_compact *plan, cal_snapshot *snapshot, const cal_context_id *id) {
    struct parents parents = {.plan = plan, .by_id = malloc(plan->count * sizeof *parents.by_id)};
    if (!parents.by_id) return CAL_ENOMEM;
    for (size_t i = 0; i < plan->count; i++)
        if (plan->entries[i].goes) parents.by_id[parents.count++] = &plan->entries[i];
    qsort(parents.by_id, parents.count, sizeof *parents.by_id, by_id);
    int rc = parents.count ? each_delta(snapshot, id, spare_parents, &parents) : 0;
    free(parents.by_id);
    return rc;
}

static int read_heads(cal_compact *plan, cal_snapshot *snapshot, const cal_context_id *id) {
    cal_arena arena;
    cal_buffer row;
    cal_context_record record = {.head_count = 0};
    cal_arena_init(&arena, CAL_STORE_VALUE_MAX);
    cal_buffer_init(&row, CAL_STORE_VALUE_MAX);
    int rc =
        cal_snapshot_get(snapshot, CAL_COLUMN_CONTEXT, cal_slice_of(id->bytes, CAL_ID_SIZE), &row);
    if (rc == 0) rc = cal_context_record_decode(cal_buffer_slice(&row), &arena, &record);
    if (rc == 0) plan->heads = malloc((record.head_count + 1) * sizeof *plan->heads);
    if (rc == 0 && !plan->heads) rc = CAL_ENOMEM;
    if (rc == 0 && record.head_count)
        memcpy(plan->heads, record.heads, record.head_count * sizeof *plan->heads);
    if (rc == 0) plan->head_count = record.head_count;
    cal_buffer_deinit(&row);
    cal_arena_deinit(&arena);
    return rc;
}

int cal_compact_count(cal_store *store, const cal_context_id *id, uint64_t *ret_rows) {
    cal_snapshot *snapshot = NULL;
    *ret_rows = 0;
    int rc = cal_store_snapshot(store, &snapshot);
    if (rc == 0) rc = each_delta(snapshot, id, NULL, ret_rows);
    cal_snapshot_free(snapshot);
    return rc;
}

int cal_compact_plan(cal_store *store, const cal_context_id *id, const cal_compact_bounds *bounds,
                     cal_compact **ret_plan) {
    cal_snapshot *snapshot = NULL;
    cal_compact *plan = calloc(1, sizeof *plan);
    uint64_t shadows_max = (uint64_t)cal_compact_shadows(bounds->keep) + bounds->above;
    if (!plan) return CAL_ENOMEM;
    int rc = cal_store_snapshot(store, &snapshot);
    if (rc == 0) rc = read_heads(plan, snapshot, id);
    if (rc == 0) rc = each_delta(snapshot, id, note_delta, plan);
    if (rc == 0 && plan->full <= bounds->above && plan->shadows <= shadows_max) rc = CAL_ENOTFOUND;
    if (rc == 0) choose(plan, bounds);
    if (rc == 0 && plan->count == 0) rc = CAL_ENOTFOUND;
    if (rc == 0) rc = spare(plan, snapshot, id);
    cal_snapshot_free(snapshot);
    if (rc == 0)
        *ret_plan = plan;
    else
        cal_compact_free(plan);
    return rc;
}

/* --- a step --- */

struct compact {
    struct turn turn;
    cal_compact *plan;
    size_t next; /* where the plan stands after it */
    uint32_t compacted;
    cal_delta_record boundary; /* during the run; no parents: there is none */
    int error;
    cal_compact_done done;
    void *user;
};

/* The heads of a state that came whole, or was taken over: what is known of it is told by them. */
static int read_boundary(struct compact *compact, cal_buffer *row) {
    int rc = cal_context_boundary(compact->turn.contexts->options.store, &compact->turn.context->id,
                                  row);
    if (rc == 0) rc = cal_delta_record_decode(cal_buffer_slice(row), &compact->boundary);
    return rc == CAL_ENOTFOUND ? 0 : rc;
}

/* What is not a head of the context any more cannot become one again. */
static int take_one(struct compact *compact, cal_snapshot *snapshot, const entry *one,
                    cal_past *past, size_t *bytes) {
    const struct context *context = compact->turn.context;
    cal_batch *batch = compact->turn.batch;
    uint8_t key[2 * CAL_ID_SIZE];
    cal_buffer row;
    cal_delta_record delta, checkpoint;
    const cal_context_record *tip = &context->tip.record;
    const cal_delta_record *boundary = &compact->boundary;
    if (is_among(tip->heads, tip->head_count, &one->id) ||
        is_among(boundary->parents, boundary->parent_count, &one->id))
        return 0;
    memcpy(key, context->id.bytes, CAL_ID_SIZE);
    memcpy(key + CAL_ID_SIZE, one->id.bytes, CAL_ID_SIZE);
    cal_buffer_init(&row, CAL_STORE_VALUE_MAX);
    int rc = cal_snapshot_get(snapshot, CAL_COLUMN_DELTA, cal_slice_of(key, sizeof key), &row);
    if (rc == 0) rc = cal_delta_record_decode(cal_buffer_slice(&row), &delta);
    if (rc == 0 && delta.has_author) rc = cal_past_note(past, &delta.author, delta.hlc.time);
    if (rc == 0 && !cal_delta_is_checkpoint(&delta)) compact->compacted++;
    if (rc == 0 && one->goes) {
        rc = cal_batch_delete(batch, CAL_COLUMN_DELTA, cal_slice_of(key, sizeof key));
    } else if (rc == 0 && !cal_delta_is_checkpoint(&delta)) {
        cal_delta_checkpoint(&one->id, delta.hlc.time, &checkpoint);
        checkpoint.parents = delta.parents; /* who may write is found along them: writers.c */
        checkpoint.parent_count = delta.parent_count;
        rc = commit_put_delta(batch, &context->id, &checkpoint);
    }
    *bytes += row.len;
    cal_buffer_deinit(&row);
    return rc == CAL_ENOTFOUND ? 0 : rc; /* gone already: the step was stored and told as failed */
}

/* The newest of the plan first: so what still has its actions has its parents' rows. */
static int take_some(struct compact *compact) {
    const cal_compact *plan = compact->plan;
    const struct context *context = compact->turn.context;
    cal_snapshot *snapshot = NULL;
    cal_past past = {0};
    cal_buffer row;
    size_t bytes = 0;
    cal_buffer_init(&row, CAL_STORE_VALUE_MAX);
    int rc = cal_store_snapshot(context->contexts->options.store, &snapshot);
    if (rc == 0) rc = read_boundary(compact, &row);
    if (rc == 0) rc = cal_past_read(snapshot, &context->id, &past);
    compact->next = plan->at;
    for (int rows = 0; rc == 0 && rows < CAL_COMPACT_STEP_ROWS && bytes < CAL_COMPACT_STEP_BYTES &&
                       compact->next < plan->count;
         rows++)
        rc = take_one(compact, snapshot, &plan->entries[plan->count - ++compact->next], &past,
                      &bytes);
    if (rc == 0) rc = cal_past_write(&past, &context->id, compact->turn.batch);
    compact->boundary = (cal_delta_record){0};
    cal_buffer_deinit(&row);
    cal_past_deinit(&past);
    cal_snapshot_free(snapshot);
    return rc;
}

static void compact_run(struct turn *turn) {
    struct compact *compact = CAL_CONTAINER_OF(turn, struct compact, turn);
    turn->batch = cal_batch_new();
    compact->error = turn->batch ? take_some(compact) : CAL_ENOMEM;
    if (compact->error == 0) return;
    cal_batch_free(turn->batch);
    turn->batch = NULL;
}

static void end(struct compact *compact, int error) {
    cal_contexts *contexts = compact->turn.contexts;
    size_t bytes = compact->turn.cost;
    if (error == 0) {
        compact->plan->at = compact->next;
        contexts->stats.compacted += compact->compacted;
    }
    compact->done(compact->user, error, error ? 0 : compact->compacted);
    turn_deinit(&compact->turn);
    free(compact);
    contexts_closed(contexts, bytes);
}

static void compact_settled(struct turn *turn) {
    struct compact *compact = CAL_CONTAINER_OF(turn, struct compact, turn);
    end(compact, compact->error ? compact->error : turn->result);
}

static void compact_refused(struct turn *turn, int error, const char *why) {
    (void)why;
    end(CAL_CONTAINER_OF(turn, struct compact, turn), error);
}

static const turn_kind compact_kind = {
    .run = compact_run, .settled = compact_settled, .refused = compact_refused};

void cal_contexts_compact(cal_contexts *contexts, const cal_context_id *id, cal_compact *plan,
                          cal_compact_done done, void *user) {
    struct context *context = NULL;
    const char *why;
    int rc = contexts_admit(contexts, sizeof(struct compact), &why);
    if (rc == 0) rc = contexts_find(contexts, id, &context);
    if (rc == 0 && context->deleting) rc = CAL_ENOTFOUND;
    struct compact *compact = rc == 0 ? calloc(1, sizeof *compact) : NULL;
    if (!compact) {
        done(user, rc == 0 ? CAL_ENOMEM : rc, 0);
        return;
    }
    compact->plan = plan;
    compact->done = done;
    compact->user = user;
    turn_init(&compact->turn, &compact_kind, contexts, sizeof *compact);
    contexts_opened(contexts, sizeof *compact);
    turn_enter(&compact->turn, context);
}
