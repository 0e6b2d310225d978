/* Deltas of a context that are missing, from a peer that has them, see bulk.h.
 *
 * What is known here is told by a sample of it: the heads, then deltas below them, the further down
 * the fewer, so that the peer meets one that it knows though it has never seen what was written
 * here since. What comes is taken as any delta is; while there is much of it that is not applied
 * yet nothing more is read. */
#include <stdlib.h>

#include "sync/bulk.h"

enum {
    SAMPLE_ROWS = 16384, /* deltas looked at here */
    SAMPLE_NEAR = 64,    /* of which all the newest ones are told */
    AHEAD_BYTES_MAX = 4 * 1024 * 1024,
};

struct sync_gap {
    cal_sync *sync;
    sync_context *context; /* NULL: left */
    cal_context_id id;
    cal_peer_id peer;
    void (*done)(void *user, int result, size_t taken);
    void *user;
    cal_hash *wanted, *known;
    cal_buffer marks; /* what was compacted away here */
    uint32_t wanted_count, known_count;
    sync_walk *walk;
    sync_bulk *bulk;
    bool paused, answering; /* in an answer: it is freed after it */
    size_t taken, came;
    int result; /* of the worker, or why it was given up here */
    cal_task task;
};

static void free_gap(sync_gap *gap) {
    cal_sync *sync = gap->sync;
    sync_walk_free(gap->walk);
    free(gap->wanted);
    free(gap->known);
    cal_buffer_deinit(&gap->marks);
    free(gap);
    sync_release(sync);
}

static void finish(sync_gap *gap, int result) {
    if (gap->context) gap->done(gap->user, gap->result ? gap->result : result, gap->taken);
    free_gap(gap);
}

/* --- what comes --- */

static bool take_one(sync_gap *gap, const sync_bulk_delta *bulk) {
    sync_context *context = gap->context;
    sync_answer answer = {.kind = SYNC_ANSWER_DELTA,
                          .bytes = bulk->bytes,
                          .author = bulk->author,
                          .has_position = bulk->has_position,
                          .has_signature = bulk->has_signature,
                          .position = bulk->position};
    memcpy(answer.signature, bulk->signature, sizeof answer.signature);
    sync_delta *delta = sync_delta_of_answer(context, &gap->peer, &answer);
    /* Its events are signed by nobody, and their handlers would run as this node: left out. */
    if (delta && !sync_delta_add(delta, bulk->root, (cal_slice){0},
                                 bulk->has_app_key ? &bulk->app_key : NULL)) {
        sync_delta_free(delta);
        delta = NULL;
    }
    if (!delta) {
        context->sync->stats.malformed++;
        gap->result = CAL_EVERIFY;
        return false;
    }
    cal_hash id = delta->record.id;
    context->sync->stats.deltas_bulk++;
    if (sync_context_take(context, delta)) {
        gap->taken++;
    } else if (gap->context && !sync_context_holds(context, &id)) {
        gap->result = CAL_EOVERLOAD; /* too many wait already */
        return false;
    }
    return true;
}

static size_t waiting_bytes(const sync_gap *gap) {
    return gap->context->used[SYNC_ROOM_WAITING].bytes;
}

static bool on_answer(void *user, const sync_bulk_answer *answer) {
    sync_gap *gap = user;
    gap->came += answer->delta_count;
    gap->answering = true;
    if (gap->came > SYNC_BULK_WALK_MAX) gap->result = CAL_ELIMIT;
    for (uint32_t i = 0; i < answer->delta_count && gap->context && gap->result == 0; i++)
        if (!take_one(gap, &answer->deltas[i])) break;
    gap->answering = false;
    if (!gap->context) {
        free_gap(gap);
        return false;
    }
    if (gap->result != 0) { /* told as the end of the stream */
        sync_bulk_cut(gap->bulk, gap->result);
        return false;
    }
    gap->paused = waiting_bytes(gap) > AHEAD_BYTES_MAX && !sync_context_idle(gap->context);
    return !gap->paused;
}

static void on_ended(void *user, int result) {
    sync_gap *gap = user;
    gap->bulk = NULL;
    finish(gap, result);
}

static const sync_bulk_events gap_events = {.answer = on_answer, .ended = on_ended};

/* Early enough that the next ones are here before these are applied. */
void sync_gap_moved(sync_gap *gap) {
    if (!gap->paused || !gap->bulk) return;
    if (waiting_bytes(gap) > AHEAD_BYTES_MAX / 2 && !sync_context_idle(gap->context)) return;
    gap->paused = false;
    sync_bulk_resume(gap->bulk);
}

/* --- what is known here --- */

static void ask(cal_task *task) { /* loop */
    sync_gap *gap = CAL_CONTAINER_OF(task, sync_gap, task);
    sync_bulk_request request = {.kind = SYNC_BULK_DELTAS,
                                 .context = gap->id,
                                 .ids = {gap->wanted, gap->wanted_count},
                                 .known = {gap->known, gap->known_count},
                                 .marks = cal_buffer_slice(&gap->marks),
                                 .max = SYNC_BULK_WALK_MAX};
    int rc = gap->result;
    if (rc == 0 && !gap->context) rc = CAL_ECANCELED;
    if (rc == 0) rc = sync_bulk_ask(gap->sync, &gap->peer, &request, &gap_events, gap, &gap->bulk);
    if (rc != 0) finish(gap, rc);
}

static void add_known(sync_gap *gap, const cal_hash *id) {
    if (id && gap->known_count < SYNC_BULK_IDS_MAX) gap->known[gap->known_count++] = *id;
}

static int read_marks(sync_gap *gap) {
    cal_snapshot *snapshot = NULL;
    cal_past past = {0};
    int rc = cal_store_snapshot(gap->sync->options.store, &snapshot);
    if (rc == 0) rc = cal_past_read(snapshot, &gap->id, &past);
    if (rc == 0) rc = cal_past_encode(&past, SYNC_BULK_IDS_MAX, &gap->marks);
    cal_past_deinit(&past);
    cal_snapshot_free(snapshot);
    return rc;
}

/* The newest stand last in a walk. Every one of those near, then each further by a sixteenth. */
static void sample(cal_task *task) { /* worker */
    sync_gap *gap = CAL_CONTAINER_OF(task, sync_gap, task);
    const cal_runner *runner = gap->sync->options.runner;
    int rc = sync_walk_step(gap->walk, gap->sync->options.store, &gap->id, SAMPLE_ROWS);
    gap->result = rc == CAL_EBUSY || rc == CAL_ELIMIT ? 0 : rc;
    size_t count = sync_walk_count(gap->walk);
    for (size_t i = 0; i < count; i += i < SAMPLE_NEAR ? 1 : i / 16)
        add_known(gap, sync_walk_at(gap->walk, count - 1 - i));
    sync_walk_free(gap->walk);
    gap->walk = NULL;
    if (gap->result == 0) gap->result = read_marks(gap);
    gap->task.run = ask;
    runner->on_loop(runner->user, &gap->task);
}

static int start_sample(sync_gap *gap) {
    cal_context_record record;
    cal_arena arena;
    cal_arena_init(&arena, SYNC_ARENA_MAX);
    int rc = cal_contexts_get(gap->sync->options.contexts, &gap->id, &arena, &record);
    for (size_t i = 0; rc == 0 && i < record.head_count; i++) {
        if (i < SYNC_BULK_IDS_MAX / 2) add_known(gap, &record.heads[i]); /* checkpoints, too */
        rc = sync_walk_add(gap->walk, &record.heads[i], false);
    }
    cal_arena_deinit(&arena);
    sync_ids covered = sync_cover_heads(gap->context);
    for (uint32_t i = 0; i < covered.count && i < SYNC_BULK_IDS_MAX / 4; i++)
        add_known(gap, &covered.items[i]);
    return rc;
}

int sync_gap_new(sync_context *context, const cal_peer_id *peer, const cal_hash *wanted,
                 size_t count, void (*done)(void *user, int result, size_t taken), void *user,
                 sync_gap **ret_gap) {
    const cal_runner *runner = context->sync->options.runner;
    sync_gap *gap = calloc(1, sizeof *gap);
    if (!gap) return CAL_ENOMEM;
    *gap = (sync_gap){.sync = context->sync,
                      .context = context,
                      .id = context->id,
                      .peer = *peer,
                      .done = done,
                      .user = user};
    sync_hold(gap->sync);
    cal_buffer_init(&gap->marks, SYNC_BULK_IDS_MAX * CAL_PAST_MARK_SIZE);
    if (count > SYNC_BULK_IDS_MAX) count = SYNC_BULK_IDS_MAX;
    gap->wanted = malloc((count + 1) * sizeof *gap->wanted);
    gap->known = malloc(SYNC_BULK_IDS_MAX * sizeof *gap->known);
    gap->walk = sync_walk_new(gap->sync->seed, 4 * SAMPLE_ROWS);
    int rc = gap->wanted && gap->known && gap->walk ? start_sample(gap) : CAL_ENOMEM;
    if (rc != 0) {
        free_gap(gap);
        return rc;
    }
    memcpy(gap->wanted, wanted, count * sizeof *wanted);
    gap->wanted_count = (uint32_t)count;
    *ret_gap = gap;
    gap->task.run = sample;
    runner->on_worker(runner->user, &gap->task);
    return 0;
}

/* Without a stream yet it goes with its task. */
void sync_gap_leave(sync_gap *gap) {
    gap->context = NULL;
    if (!gap->bulk) return;
    sync_bulk_leave(gap->bulk);
    if (!gap->answering) free_gap(gap);
}
