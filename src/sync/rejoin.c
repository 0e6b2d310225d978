/* Between two states lie deltas that cannot be had any more: they were compacted away, or came with
 * a state. Trees make the states the same; what is left to settle is the heads (rejoin.h).
 *
 *     heads here, with their marks (worker) --> which of them lie below the peer's? --> the turn
 *
 * A peer that does not answer the question knows of none. */
#include "sync/rejoin.h"

#include <stdlib.h>
#include <string.h>

#include "sync/bulk.h"

struct sync_rejoin {
    cal_sync *sync;
    cal_context_id id;
    cal_peer_id peer;
    sync_rejoin_done done; /* NULL: left */
    void *user;
    bool takes_over;
    cal_context_state state; /* the peer's root and heads */
    cal_hash *theirs, *ours; /* ours: those below theirs first, once it was asked */
    size_t our_count, below;
    uint8_t (*marks)[CAL_PAST_MARK_SIZE];
    bool answered;
    sync_bulk *bulk;
    cal_task task;
    int result;
};

static void free_rejoin(sync_rejoin *rejoin) {
    cal_sync *sync = rejoin->sync;
    free(rejoin->theirs);
    free(rejoin->ours);
    free(rejoin->marks);
    free(rejoin);
    sync_release(sync);
}

static void finish(sync_rejoin *rejoin, int result) {
    bool behind = rejoin->answered && rejoin->below == rejoin->our_count;
    if (rejoin->done) rejoin->done(rejoin->user, result, behind);
    free_rejoin(rejoin);
}

static void taken_over(void *user, int error) { finish(user, error); }

static void settle(sync_rejoin *rejoin) {
    if (!rejoin->done || !rejoin->takes_over)
        finish(rejoin, 0);
    else
        cal_contexts_rejoin(rejoin->sync->options.contexts, &rejoin->id, &rejoin->state,
                            rejoin->ours, rejoin->below, taken_over, rejoin);
}

/* --- the question --- */

static bool on_answer(void *user, const sync_bulk_answer *answer) {
    sync_rejoin *rejoin = user;
    if (answer->covered.len != rejoin->our_count || rejoin->answered) return true;
    rejoin->answered = true;
    for (size_t i = 0; i < rejoin->our_count; i++) {
        cal_hash head = rejoin->ours[i];
        if (!answer->covered.data[i]) continue;
        rejoin->ours[i] = rejoin->ours[rejoin->below];
        rejoin->ours[rejoin->below++] = head;
    }
    return true;
}

static void on_ended(void *user, int result) {
    sync_rejoin *rejoin = user;
    (void)result;
    rejoin->bulk = NULL;
    settle(rejoin);
}

static const sync_bulk_events events = {.answer = on_answer, .ended = on_ended};

static void ask(cal_task *task) { /* loop */
    sync_rejoin *rejoin = CAL_CONTAINER_OF(task, sync_rejoin, task);
    sync_bulk_request request = {.kind = SYNC_BULK_COVERED,
                                 .context = rejoin->id,
                                 .root = rejoin->state.root,
                                 .ids = {rejoin->ours, (uint32_t)rejoin->our_count},
                                 .known = {rejoin->theirs, (uint32_t)rejoin->state.head_count},
                                 .marks = cal_slice_of((const uint8_t *)rejoin->marks,
                                                       rejoin->our_count * sizeof *rejoin->marks)};
    if (rejoin->result != 0)
        finish(rejoin, rejoin->result);
    else if (!rejoin->done || sync_bulk_ask(rejoin->sync, &rejoin->peer, &request, &events, rejoin,
                                            &rejoin->bulk) != 0)
        settle(rejoin);
}

static int read_mark(const sync_rejoin *rejoin, size_t i) {
    cal_delta_record record;
    cal_buffer row;
    cal_buffer_init(&row, CAL_STORE_VALUE_MAX);
    int rc =
        cal_context_delta_read(rejoin->sync->options.store, &rejoin->id, &rejoin->ours[i], &row);
    if (rc == 0) rc = cal_delta_record_decode(cal_buffer_slice(&row), &record);
    if (rc == 0 && record.has_author) {
        memcpy(rejoin->marks[i], record.author.bytes, sizeof record.author.bytes);
        cal_write_u64le(rejoin->marks[i] + sizeof record.author.bytes, record.hlc.time);
    }
    cal_buffer_deinit(&row);
    return rc == CAL_ENOTFOUND ? 0 : rc;
}

static void read_marks(cal_task *task) { /* worker */
    sync_rejoin *rejoin = CAL_CONTAINER_OF(task, sync_rejoin, task);
    const cal_runner *runner = rejoin->sync->options.runner;
    for (size_t i = 0; rejoin->result == 0 && i < rejoin->our_count; i++)
        rejoin->result = read_mark(rejoin, i);
    rejoin->task.run = ask;
    runner->on_loop(runner->user, &rejoin->task);
}

static int copy_heads(sync_rejoin *rejoin, const sync_answer *heads) {
    cal_context_record record;
    cal_arena arena;
    cal_arena_init(&arena, SYNC_ARENA_MAX);
    int rc = cal_contexts_get(rejoin->sync->options.contexts, &rejoin->id, &arena, &record);
    if (rc == 0) {
        rejoin->our_count =
            record.head_count < SYNC_BULK_IDS_MAX ? record.head_count : SYNC_BULK_IDS_MAX;
        rejoin->ours = calloc(rejoin->our_count + 1, sizeof *rejoin->ours);
        rejoin->marks = calloc(rejoin->our_count + 1, sizeof *rejoin->marks);
        rejoin->theirs = calloc(heads->heads.count + 1, sizeof *rejoin->theirs);
        if (!rejoin->ours || !rejoin->marks || !rejoin->theirs) rc = CAL_ENOMEM;
    }
    if (rc == 0) {
        memcpy(rejoin->ours, record.heads, rejoin->our_count * sizeof *rejoin->ours);
        memcpy(rejoin->theirs, heads->heads.items, heads->heads.count * sizeof *rejoin->theirs);
        rejoin->state = (cal_context_state){
            .root = heads->root, .heads = rejoin->theirs, .head_count = heads->heads.count};
    }
    cal_arena_deinit(&arena);
    return rc;
}

int sync_rejoin_new(sync_context *context, const cal_peer_id *peer, const sync_answer *heads,
                    bool takes_over, sync_rejoin_done done, void *user, sync_rejoin **ret_rejoin) {
    const cal_runner *runner = context->sync->options.runner;
    sync_rejoin *rejoin = calloc(1, sizeof *rejoin);
    if (!rejoin) return CAL_ENOMEM;
    *rejoin = (sync_rejoin){.sync = context->sync,
                            .id = context->id,
                            .peer = *peer,
                            .takes_over = takes_over,
                            .done = done,
                            .user = user};
    sync_hold(rejoin->sync);
    int rc = copy_heads(rejoin, heads);
    if (rc != 0) {
        free_rejoin(rejoin);
        return rc;
    }
    *ret_rejoin = rejoin;
    rejoin->task.run = read_marks;
    runner->on_worker(runner->user, &rejoin->task);
    return 0;
}

void sync_rejoin_leave(sync_rejoin *rejoin) {
    rejoin->done = NULL;
    if (!rejoin->bulk) return; /* it goes with its task, or with its turn */
    sync_bulk_leave(rejoin->bulk);
    free_rejoin(rejoin);
}
