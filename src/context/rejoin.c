/* The turn in which a context takes over a peer's heads: its own state was found to be the peer's,
 * by equal roots, though deltas that lie between the two cannot be had any more. What the heads
 * stand for is in the state, so checkpoints stand for them, as if the state had come whole. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "context/commit.h"

struct rejoin {
    struct turn turn;
    cal_context_state state; /* root and heads; the caller's */
    const cal_hash *below;
    size_t below_count;
    cal_hash *heads; /* as they are afterwards */
    int error;
    cal_install_done done;
    void *user;
};

static bool is_among(const cal_hash *ids, size_t count, const cal_hash *id) {
    for (size_t i = 0; i < count; i++)
        if (memcmp(&ids[i], id, sizeof *id) == 0) return true;
    return false;
}

/* What is stored is applied: it is a head here, or below one. 1, 0 or CAL_E*. */
static int is_stored(const struct rejoin *rejoin, const cal_hash *id) {
    cal_buffer row;
    cal_buffer_init(&row, CAL_STORE_VALUE_MAX);
    int rc = cal_context_delta_read(rejoin->turn.contexts->options.store, &rejoin->turn.context->id,
                                    id, &row);
    cal_buffer_deinit(&row);
    return rc == 0 ? 1 : rc == CAL_ENOTFOUND ? 0 : rc;
}

static int add_heads(struct rejoin *rejoin, cal_context_record *record) {
    const cal_context_state *state = &rejoin->state;
    const struct context *context = rejoin->turn.context;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < state->head_count; i++) {
        cal_delta_record checkpoint;
        int here = is_stored(rejoin, &state->heads[i]);
        if (here < 0) return here;
        if (here == 1) continue;
        if (record->head_count >= CAL_CONTEXT_HEADS_MAX) return CAL_ELIMIT;
        cal_delta_checkpoint(&state->heads[i], context_now_hlc(context->contexts), &checkpoint);
        rc = commit_put_delta(rejoin->turn.batch, &context->id, &checkpoint);
        rejoin->heads[record->head_count++] = state->heads[i];
    }
    return rc;
}

/* No batch: there is nothing to change. */
static int take_over(struct rejoin *rejoin) {
    const struct context *context = rejoin->turn.context;
    const cal_context_state *state = &rejoin->state;
    cal_context_record record = context->tip.record;
    if (memcmp(&record.root, &state->root, sizeof record.root) != 0) return CAL_EBUSY;
    rejoin->heads = calloc(record.head_count + state->head_count + 1, sizeof *rejoin->heads);
    if (!rejoin->heads) return CAL_ENOMEM;
    size_t count = record.head_count;
    record.head_count = 0;
    for (size_t i = 0; i < count; i++)
        if (!is_among(rejoin->below, rejoin->below_count, &record.heads[i]) ||
            is_among(state->heads, state->head_count, &record.heads[i]))
            rejoin->heads[record.head_count++] = record.heads[i];
    record.heads = rejoin->heads;
    size_t before = record.head_count;
    int rc = add_heads(rejoin, &record);
    bool added = record.head_count > before;
    if (rc == 0 && before == count && !added) {
        cal_batch_free(rejoin->turn.batch);
        rejoin->turn.batch = NULL;
        return 0;
    }
    if (rc == 0 && added) rc = context_put_boundary(context, state, rejoin->turn.batch);
    if (rc == 0) rc = commit_put_record(rejoin->turn.batch, &context->id, &record);
    return rc == 0 ? turn_leave(&rejoin->turn, &record) : rc;
}

static void rejoin_run(struct turn *turn) {
    struct rejoin *rejoin = CAL_CONTAINER_OF(turn, struct rejoin, turn);
    turn->batch = cal_batch_new();
    rejoin->error = turn->batch ? take_over(rejoin) : CAL_ENOMEM;
    if (rejoin->error == 0) return;
    cal_batch_free(turn->batch);
    turn->batch = NULL;
}

static void close_rejoin(struct rejoin *rejoin, int error) {
    cal_contexts *contexts = rejoin->turn.contexts;
    size_t bytes = rejoin->turn.cost;
    rejoin->done(rejoin->user, error);
    turn_deinit(&rejoin->turn);
    free(rejoin->heads);
    free(rejoin);
    contexts_closed(contexts, bytes);
}

static void rejoin_settled(struct turn *turn) {
    struct rejoin *rejoin = CAL_CONTAINER_OF(turn, struct rejoin, turn);
    int error = rejoin->error ? rejoin->error : turn->result;
    turn_end(turn->context);
    close_rejoin(rejoin, error);
}

static void rejoin_refused(struct turn *turn, int error, const char *why) {
    (void)why;
    close_rejoin(CAL_CONTAINER_OF(turn, struct rejoin, turn), error);
}

/* Exclusive: what is stored is all that was applied. */
static const turn_kind rejoin_kind = {
    .exclusive = true, .run = rejoin_run, .settled = rejoin_settled, .refused = rejoin_refused};

void cal_contexts_rejoin(cal_contexts *contexts, const cal_context_id *id,
                         const cal_context_state *state, const cal_hash *below, size_t below_count,
                         cal_install_done done, void *user) {
    struct context *context = NULL;
    const char *why;
    int rc = contexts_admit(contexts, sizeof(struct rejoin), &why);
    if (rc == 0 && state->head_count > CAL_CONTEXT_HEADS_MAX) rc = CAL_ELIMIT;
    if (rc == 0) rc = contexts_find(contexts, id, &context);
    if (rc == 0 && context->deleting) rc = CAL_ENOTFOUND;
    struct rejoin *rejoin = rc == 0 ? calloc(1, sizeof *rejoin) : NULL;
    if (!rejoin) {
        done(user, rc == 0 ? CAL_ENOMEM : rc);
        return;
    }
    rejoin->state = *state;
    rejoin->below = below;
    rejoin->below_count = below_count;
    rejoin->done = done;
    rejoin->user = user;
    turn_init(&rejoin->turn, &rejoin_kind, contexts, sizeof *rejoin);
    contexts_opened(contexts, sizeof *rejoin);
    turn_enter(&rejoin->turn, context);
}
