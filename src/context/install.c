/* The turn that replaces a context's state by one that was received whole.
 *
 * It holds the place over many short transactions, so that a large state keeps no other context
 * waiting: the record loses its root and heads first, then the old rows go, then the new ones come,
 * and the record with the new root and heads is the last. So a crash leaves the state as it was, or
 * a record without a root: the context is then not initialised, takes neither calls nor deltas,
 * and whoever installs begins anew. */
#include <stdatomic.h>
#include <stdlib.h>

#include "base/error.h"
#include "context/commit.h"

enum { STEP_BYTES_MAX = 1024 * 1024, STEP_ROWS_MAX = 8192, STEPS_MAX = 4 /* of a run */ };

typedef enum install_phase { PHASE_MARK, PHASE_CLEAR, PHASE_FILL, PHASE_DONE } install_phase;

struct install {
    struct turn turn;
    cal_context_state state; /* heads are the caller's */
    install_phase phase;
    int error;             /* of the source, or of the worker */
    atomic_int step_error; /* of a step that went before the turn's own batch */
    cal_install_done done;
    void *user;
};

static void close_install(struct install *install, int error) {
    cal_contexts *contexts = install->turn.contexts;
    size_t bytes = install->turn.cost;
    install->done(install->user, error);
    turn_deinit(&install->turn);
    free(install);
    contexts_closed(contexts, bytes);
}

/* --- steps: worker --- */

/* What the record says while the rows are neither the old nor the new ones. */
static int mark(struct install *install) {
    cal_context_record record = install->turn.context->tip.record;
    record.root = (cal_hash){{0}};
    record.head_count = 0;
    int rc = commit_put_record(install->turn.batch, &install->turn.context->id, &record);
    return rc == 0 ? turn_leave(&install->turn, &record) : rc;
}

/* State, and the index, which the guest makes from it; private state is not part of a snapshot.
 * They go in the steps of a removal, but without its mark: the record says that they are no state.
 */
static const cal_column cleared_columns[] = {CAL_COLUMN_STATE, CAL_COLUMN_INDEX,
                                             CAL_COLUMN_INDEX_META};
static const cal_removal cleared = {"context/cleared/", cleared_columns,
                                    sizeof cleared_columns / sizeof *cleared_columns};

static int clear_some(struct install *install, bool *ret_last) {
    const struct context *context = install->turn.context;
    return cal_removal_step(&cleared, context->id.bytes, context->contexts->options.store,
                            install->turn.batch, ret_last);
}

static void step_stored(void *user, int result) { /* the store's writer */
    struct install *install = user;
    int none = 0;
    if (result != 0) atomic_compare_exchange_strong(&install->step_error, &none, result);
}

/* What is filled goes ahead of the turn's own batch, on the same lane: the store works on it while
 * the next rows are read, and answers it first. */
static int step_ahead(struct install *install) {
    struct context *context = install->turn.context;
    cal_batch *next = cal_batch_new();
    if (!next) return CAL_ENOMEM;
    cal_store_submit_on(context->contexts->options.store, &context->lane, install->turn.batch,
                        step_stored, install);
    install->turn.batch = next;
    return 0;
}

/* 1 when more may follow, 0 at the end, or CAL_E*. */
static int fill_some(struct install *install) {
    const cal_context_state *state = &install->state;
    size_t bytes = 0;
    uint8_t key[2 * CAL_ID_SIZE];
    memcpy(key, install->turn.context->id.bytes, CAL_ID_SIZE);
    for (int rows = 0; rows < STEP_ROWS_MAX && bytes < STEP_BYTES_MAX; rows++) {
        cal_slice row_key, value;
        int rc = state->next(state->user, &row_key, &value);
        if (rc == CAL_ENOTFOUND) return 0;
        if (rc == 0 && row_key.len != CAL_ID_SIZE) rc = CAL_EDECODE;
        if (rc != 0) return rc;
        memcpy(key + CAL_ID_SIZE, row_key.data, CAL_ID_SIZE);
        rc = cal_batch_put(install->turn.batch, CAL_COLUMN_STATE, cal_slice_of(key, sizeof key),
                           value);
        if (rc != 0) return rc;
        bytes += value.len + sizeof key;
    }
    return 1;
}

/* Each head stands for what it descends from, which did not come, unless it is here itself. */
static int put_checkpoints(struct install *install) {
    const cal_context_state *state = &install->state;
    const cal_context_id *id = &install->turn.context->id;
    cal_store *store = install->turn.contexts->options.store;
    int rc = 0;
    for (size_t i = 0; i < state->head_count && rc == 0; i++) {
        cal_buffer row;
        cal_delta_record checkpoint;
        cal_buffer_init(&row, CAL_STORE_VALUE_MAX);
        int here = cal_context_delta_read(store, id, &state->heads[i], &row);
        cal_buffer_deinit(&row);
        if (here == 0) continue;
        if (here != CAL_ENOTFOUND) return here;
        cal_delta_checkpoint(&state->heads[i], state->latest, &checkpoint);
        rc = commit_put_delta(install->turn.batch, id, &checkpoint);
    }
    return rc;
}

/* What was installed: a row like a checkpoint's, under an id that no delta can have. Its time says
 * that nothing newer lies below: deltas from further ahead of the clock are not taken. */
void cal_context_boundary_id(const cal_context_id *context, cal_hash *ret_id) {
    static const char domain[] = "calimero-c:context:boundary";
    const cal_slice parts[] = {{(const uint8_t *)domain, sizeof domain - 1},
                               {context->bytes, sizeof context->bytes}};
    cal_sha256_parts(parts, 2, ret_id->bytes);
}

uint64_t context_now_hlc(const cal_contexts *contexts) {
    const cal_os *os = contexts->options.os;
    return os->wall_ns(os->user) / 1000000000 << 32;
}

int context_put_boundary(const struct context *context, const cal_context_state *state,
                         cal_batch *batch) {
    static const uint64_t ahead = UINT64_C(6) << 32;
    cal_hash row;
    cal_delta_record boundary;
    cal_context_boundary_id(&context->id, &row);
    cal_delta_checkpoint(&row, context_now_hlc(context->contexts) + ahead, &boundary);
    boundary.root = state->root;
    boundary.parents = (const uint8_t(*)[32])(const void *)state->heads;
    boundary.parent_count = state->head_count;
    return commit_put_delta(batch, &context->id, &boundary);
}

int cal_context_boundary(cal_store *store, const cal_context_id *id, cal_buffer *ret_row) {
    cal_hash row;
    cal_context_boundary_id(id, &row);
    return cal_context_delta_read(store, id, &row, ret_row);
}

/* The record that says that all is there. */
static int complete(struct install *install) {
    const cal_context_state *state = &install->state;
    struct context *context = install->turn.context;
    cal_context_record record = context->tip.record;
    record.root = state->root;
    record.heads = (cal_hash *)(uintptr_t)state->heads; /* only read */
    record.head_count = state->head_count;
    if (state->latest > record.latest) record.latest = state->latest;
    crdt_clock_raise(&context->clock, record.latest);
    install->phase = PHASE_DONE;
    int rc = put_checkpoints(install);
    if (rc == 0) rc = context_put_boundary(context, state, install->turn.batch);
    if (rc == 0) rc = commit_put_record(install->turn.batch, &context->id, &record);
    return rc == 0 ? turn_leave(&install->turn, &record) : rc;
}

static int take_step(struct install *install) {
    if (install->phase == PHASE_MARK) {
        install->phase = PHASE_CLEAR;
        return mark(install);
    }
    if (install->phase == PHASE_CLEAR) {
        bool last;
        int rc = clear_some(install, &last);
        if (rc != 0 || !last) return rc;
        install->phase = PHASE_FILL;
    }
    int more = fill_some(install);
    for (int steps = 1; more == 1 && steps < STEPS_MAX; steps++) {
        int rc = step_ahead(install);
        if (rc != 0) return rc;
        more = fill_some(install);
    }
    return more == 0 ? complete(install) : more < 0 ? more : 0;
}

static void install_run(struct turn *turn) {
    struct install *install = CAL_CONTAINER_OF(turn, struct install, turn);
    turn->batch = cal_batch_new();
    install->error = turn->batch ? take_step(install) : CAL_ENOMEM;
    if (install->error == 0) return;
    cal_batch_free(turn->batch);
    turn->batch = NULL;
}

/* --- in and out: loop --- */

static void install_settled(struct turn *turn) {
    struct install *install = CAL_CONTAINER_OF(turn, struct install, turn);
    struct context *context = turn->context;
    int error = install->error != 0 ? install->error : turn->result;
    int step_error = atomic_load(&install->step_error);
    if (step_error != 0 && (error == 0 || error == CAL_ECANCELED)) error = step_error;
    cal_context_cache_clear(context->cache); /* before views may ask it again */
    if (error == 0 && install->phase != PHASE_DONE) {
        error = turn_again(turn);
        if (error == 0) return;
    }
    turn_end(context);
    close_install(install, error);
}

static void install_refused(struct turn *turn, int error, const char *why) {
    (void)why;
    close_install(CAL_CONTAINER_OF(turn, struct install, turn), error);
}

static const turn_kind install_kind = {
    .exclusive = true, .run = install_run, .settled = install_settled, .refused = install_refused};

void cal_contexts_install(cal_contexts *contexts, const cal_context_id *id,
                          const cal_context_state *state, cal_install_done done, void *user) {
    struct context *context = NULL;
    const char *why;
    int rc = contexts_admit(contexts, sizeof(struct install), &why);
    if (rc == 0 && state->head_count > CAL_CONTEXT_HEADS_MAX) rc = CAL_ELIMIT;
    if (rc == 0) rc = contexts_find(contexts, id, &context);
    if (rc == 0 && context->deleting) rc = CAL_ENOTFOUND;
    struct install *install = rc == 0 ? calloc(1, sizeof *install) : NULL;
    if (!install) {
        done(user, rc == 0 ? CAL_ENOMEM : rc);
        return;
    }
    install->state = *state;
    install->done = done;
    install->user = user;
    turn_init(&install->turn, &install_kind, contexts, sizeof *install);
    contexts_opened(contexts, sizeof *install);
    turn_enter(&install->turn, context);
}

void cal_contexts_cover(cal_contexts *contexts, const cal_context_id *id, const cal_hash *deltas,
                        size_t count) {
    struct context *context = NULL;
    cal_batch *batch = NULL;
    int rc = contexts_find(contexts, id, &context);
    if (rc == 0 && !context->deleting) batch = cal_batch_new();
    if (!batch) return;
    for (size_t i = 0; i < count && rc == 0; i++) {
        cal_delta_record checkpoint;
        cal_buffer row;
        cal_buffer_init(&row, CAL_STORE_VALUE_MAX);
        int here = cal_context_delta_read(contexts->options.store, id, &deltas[i], &row);
        cal_buffer_deinit(&row);
        if (here != CAL_ENOTFOUND) continue; /* it came meanwhile, and is worth more */
        cal_delta_checkpoint(&deltas[i], context_now_hlc(contexts), &checkpoint);
        rc = commit_put_delta(batch, id, &checkpoint);
    }
    if (rc == 0)
        cal_store_submit(contexts->options.store, batch, NULL, NULL);
    else
        cal_batch_free(batch);
}
