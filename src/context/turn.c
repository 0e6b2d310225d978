/* Queue, hand-over and settling of turns, see turn.h.
 *
 * The place says who has the context: PLACE_LOOP, or PLACE_WORKER during a run. A run that ends
 * leaves PLACE_LEFT, and the loop takes the place back when it next looks (a turn comes back, or a
 * new one enters): one call at a time never pays for a message of its own. When the loop has looked
 * in vain it leaves PLACE_WORKER_CALLED, and the worker that ends sends that message. */
#include "context/turn.h"

#include <assert.h>
#include <stdlib.h>

#include "context/internal.h"

void turn_init(struct turn *turn, const turn_kind *kind, cal_contexts *contexts, size_t cost) {
    *turn = (struct turn){.kind = kind, .contexts = contexts, .cost = cost};
    cal_list_init(&turn->link);
}

void turn_deinit(struct turn *turn) {
    cal_batch_free(turn->batch);
    free(turn->heads);
}

bool turns_idle(const struct context *context) {
    return atomic_load(&context->place) == PLACE_LOOP && context->flight_count == 0 &&
           context->waiting_count == 0 && !context->holder;
}

void turns_halt(struct context *context) { atomic_store(&context->halt, true); }

/* --- the queue --- */

static void wait_before(struct context *context, struct turn *turn, cal_list *next) {
    cal_list_push(next, &turn->link);
    context->waiting_count++;
    context->waiting_bytes += turn->cost;
    context->contexts->stats.waiting++;
}

static struct turn *take_waiting(struct context *context) {
    struct turn *turn = CAL_CONTAINER_OF(context->waiting.next, struct turn, link);
    cal_list_remove(&turn->link);
    context->waiting_count--;
    context->waiting_bytes -= turn->cost;
    context->contexts->stats.waiting--;
    return turn;
}

static void refuse_list(cal_list *refused, int error, const char *why) {
    for (cal_list *link; (link = cal_list_pop(refused)) != NULL;) {
        struct turn *turn = CAL_CONTAINER_OF(link, struct turn, link);
        turn->kind->refused(turn, error, why);
    }
}

void turns_refuse(struct context *context, int error, const char *why) {
    cal_list refused;
    cal_list_init(&refused);
    while (context->waiting_count > 0) cal_list_push(&refused, &take_waiting(context)->link);
    refuse_list(&refused, error, why);
}

void turn_enter(struct turn *turn, struct context *context) {
    turn->context = context;
    if (context->waiting_count >= CAL_CALL_QUEUE_MAX) {
        turn->kind->refused(turn, CAL_EOVERLOAD,
                            "too many calls are waiting for this context: try again later");
    } else if (context->waiting_count > 0 &&
               context->waiting_bytes + turn->cost > CAL_CALL_QUEUE_BYTES_MAX) {
        turn->kind->refused(turn, CAL_EOVERLOAD,
                            "the calls that are waiting for this context hold too many bytes: try "
                            "again later");
    } else {
        wait_before(context, turn, &context->waiting);
        turns_go(context);
    }
}

/* --- a run: worker --- */

static void back_on_loop(cal_task *task);

static void post_back(struct turn *turn) {
    const cal_runner *runner = turn->contexts->options.runner;
    turn->task.run = back_on_loop;
    runner->on_loop(runner->user, &turn->task);
}

static void stored(void *user, int result) { /* the store's writer */
    struct turn *turn = user;
    turn->result = result;
    post_back(turn);
}

int turn_take(struct turn *turn, cal_overlay *overlay, bool state, bool index) {
    cal_tip *tip = &turn->context->tip;
    int rc = cal_tip_take(tip, overlay, state, index);
    turn->number = tip->number;
    return rc;
}

int turn_leave(struct turn *turn, const cal_context_record *record) {
    cal_tip *tip = &turn->context->tip;
    cal_hash *copy = malloc(record->head_count * sizeof *copy + 1);
    int rc = copy ? cal_tip_move(tip, record) : CAL_ENOMEM;
    if (rc != 0) {
        free(copy);
        tip->spoiled = true; /* its rows may be in already */
        return rc;
    }
    if (record->head_count) memcpy(copy, record->heads, record->head_count * sizeof *copy);
    free(turn->heads);
    turn->heads = copy;
    turn->head_count = record->head_count;
    turn->root = record->root;
    turn->latest = record->latest;
    turn->moved = true;
    return 0;
}

/* Whether another turn may run before some have become durable. */
static bool has_room(struct context *context) {
    return cal_tip_bytes(&context->tip) + atomic_load(&context->flight_bytes) <
           CAL_TURNS_TIP_BYTES_MAX;
}

/* What a turn has left goes to the store; one that left nothing goes back. The turn is not ours
 * afterwards. */
static void hand_in(struct context *context, struct turn *turn) {
    if (context->tip.spoiled) { /* nothing may be built on what is missing */
        cal_batch_free(turn->batch);
        turn->batch = NULL;
        if (turn->result == 0) turn->result = CAL_ENOMEM;
    }
    atomic_fetch_add(&context->flight_bytes, turn->kept);
    if (!turn->batch) {
        post_back(turn);
        return;
    }
    if (!context->tip.closed) cal_context_cache_commit_begin(context->cache);
    context->tip.closed = true;
    turn->stored = true;
    cal_batch *batch = turn->batch;
    turn->batch = NULL;
    cal_store_submit_on(context->contexts->options.store, &context->lane, batch, stored, turn);
}

/* The first turn of a run has begun when it was handed over: only governance may call it back. */
static bool run_goes_on(struct context *context, uint64_t began_ns, bool first) {
    const cal_os *os = context->contexts->options.os;
    if (!grant_holds(context)) return false;
    return first || (!atomic_load(&context->halt) && !context->tip.spoiled && has_room(context) &&
                     os->mono_ns(os->user) - began_ns < CAL_TURNS_RUN_NS);
}

static void left_on_loop(cal_task *task);

/* The run is over. With turns that it did not come to nobody else would send for the loop. */
static void leave(struct context *context) {
    const cal_runner *runner = context->contexts->options.runner;
    int place = PLACE_WORKER;
    if (context->run)
        atomic_store(&context->place, PLACE_WORKER_CALLED);
    else if (atomic_compare_exchange_strong(&context->place, &place, PLACE_LEFT))
        return;
    context->left_task.run = left_on_loop;
    runner->on_loop(runner->user, &context->left_task);
}

static void run_on_worker(cal_task *task) {
    struct context *context = CAL_CONTAINER_OF(task, struct context, run_task);
    const cal_os *os = context->contexts->options.os;
    uint64_t began_ns = os->mono_ns(os->user);
    for (bool first = true; context->run && run_goes_on(context, began_ns, first); first = false) {
        struct turn *turn = context->run;
        context->run = turn->next;
        turn->kind->run(turn);
        hand_in(context, turn);
    }
    cal_snapshot_free(context->snapshot);
    context->snapshot = NULL;
    leave(context);
}

static void settle_new(cal_task *task) {
    struct turn *turn = CAL_CONTAINER_OF(task, struct turn, task);
    turn->kind->settled(turn);
}

static void run_new(cal_task *task) {
    struct turn *turn = CAL_CONTAINER_OF(task, struct turn, task);
    const cal_runner *runner = turn->contexts->options.runner;
    turn->kind->run(turn);
    turn->task.run = settle_new;
    runner->on_loop(runner->user, &turn->task);
}

void turn_enter_new(struct turn *turn) {
    const cal_runner *runner = turn->contexts->options.runner;
    turn->task.run = run_new;
    runner->on_worker(runner->user, &turn->task);
}

/* --- hand-over: loop --- */

static const char *const being_deleted = "the context is being deleted";
static const char *const stopping = "the node is stopping";

/* The loop has the place. What the run did not come to waits again, in front. */
static void take_place(struct context *context) {
    cal_contexts *contexts = context->contexts;
    bool refuse = context->deleting || contexts->draining;
    cal_list *front = context->waiting.next, refused;
    cal_list_init(&refused);
    for (struct turn *turn = context->run; turn; turn = turn->next) {
        cal_list_remove(&turn->link);
        context->flight_count--;
        if (context->holder == turn) context->holder = NULL;
        if (refuse)
            cal_list_push(&refused, &turn->link);
        else
            wait_before(context, turn, front);
    }
    context->run = NULL;
    atomic_store(&context->place, PLACE_LOOP);
    contexts->held--; /* for the run. Whoever looks holds on to something: this ends no drain */
    assert(contexts->open > 0 || contexts->held > 0);
    if (context->deleting)
        refuse_list(&refused, CAL_ENOTFOUND, being_deleted);
    else
        refuse_list(&refused, CAL_ECANCELED, stopping);
}

/* Whether the loop has the place, or gets it now; otherwise the worker will send for the loop. */
static bool reach_place(struct context *context) {
    int place = PLACE_WORKER;
    if (atomic_load(&context->place) == PLACE_LOOP) return true;
    if (atomic_compare_exchange_strong(&context->place, &place, PLACE_WORKER_CALLED)) return false;
    if (place != PLACE_LEFT) return false;
    take_place(context);
    return atomic_load(&context->place) == PLACE_LOOP; /* refusing may have handed over anew */
}

/* Takes the first of the waiting into the run that is being put together. */
static void add_to_run(struct context *context, struct turn ***end) {
    struct turn *turn = take_waiting(context);
    turn->next = NULL;
    **end = turn;
    *end = &turn->next;
    cal_list_push(&context->flight, &turn->link);
    context->flight_count++;
}

static const struct turn *next_waiting(const struct context *context) {
    return context->waiting_count == 0 ? NULL
                                       : CAL_CONTAINER_OF(context->waiting.next, struct turn, link);
}

static void start_run(struct context *context) {
    cal_contexts *contexts = context->contexts;
    grant_refresh(context);
    atomic_store(&context->halt, false);
    atomic_store(&context->place, context->waiting_count > 0 ? PLACE_WORKER_CALLED : PLACE_WORKER);
    contexts_hold(contexts);
    context->run_task.run = run_on_worker;
    contexts->options.runner->on_worker(contexts->options.runner->user, &context->run_task);
}

static void start_exclusive(struct context *context) {
    struct turn **end = &context->run,
                *turn = CAL_CONTAINER_OF(context->waiting.next, struct turn, link);
    context->holder = turn;
    if (turn->kind->run) {
        add_to_run(context, &end);
        start_run(context);
    } else {
        take_waiting(context);
        turn->kind->settled(turn);
    }
}

static void start_next(struct context *context) {
    const struct turn *next = next_waiting(context);
    if (!next || context->holder) return;
    if (next->kind->exclusive) {
        if (context->flight_count == 0 && cal_tip_is_empty(&context->tip)) start_exclusive(context);
        return;
    }
    if (!has_room(context)) return;
    struct turn **end = &context->run;
    for (uint32_t count = 0; count < CAL_TURNS_RUN_MAX && next && !next->kind->exclusive &&
                             context->flight_count < CAL_TURNS_FLIGHT_MAX;
         count++) {
        add_to_run(context, &end);
        next = next_waiting(context);
    }
    if (context->run) start_run(context);
}

/* After a failed batch: once all it took along are answered, what they left is forgotten and the
 * queue goes on. Whether it does. */
static bool mend(struct context *context) {
    if (!context->broken && !context->tip.spoiled) return true;
    if (context->flight_count > 0) return false;
    if (cal_tip_drop(&context->tip, &context->record, context->cache) != 0) {
        turns_refuse(context, CAL_ENOMEM, "out of memory");
        return false;
    }
    if (context->broken) cal_store_lane_mend(context->contexts->options.store, &context->lane);
    context->broken = false;
    context->durable = context->tip.number;
    return true;
}

void turns_go(struct context *context) {
    if (!reach_place(context) || !mend(context)) return;
    cal_tip_settle(&context->tip, context->durable, context->cache);
    start_next(context);
}

/* --- settling: loop --- */

/* Brings the record in memory to what is now on disk. */
static void keep(struct context *context, struct turn *turn) {
    if (turn->number > 0) context->durable = turn->number;
    if (!turn->moved) return;
    free(context->record.heads);
    context->record.root = turn->root;
    context->record.heads = turn->heads;
    context->record.head_count = turn->head_count;
    context->record.latest = turn->latest;
    turn->heads = NULL;
}

static void settle(struct context *context, struct turn *turn) {
    cal_list_remove(&turn->link);
    context->flight_count--;
    atomic_fetch_sub(&context->flight_bytes, turn->kept);
    turn->kept = 0;
    if (context->broken && turn->result == 0) {
        assert(!turn->stored); /* the store's lane fails them all */
        turn->result = CAL_ECANCELED;
    }
    if (turn->result == 0) {
        keep(context, turn);
    } else if (turn->stored) {
        context->broken = true;
        turns_halt(context);
    }
    turn->kind->settled(turn);
}

static void settle_more(cal_task *task);

/* Settles what is answered in front. Not more at a time than the loop may take: turns that left
 * nothing have all been waiting for the same batch. */
static void settle_answered(struct context *context) {
    const cal_runner *runner = context->contexts->options.runner;
    for (int settled = 0; context->flight_count > 0; settled++) {
        struct turn *turn = CAL_CONTAINER_OF(context->flight.next, struct turn, link);
        if (!turn->answered) return;
        if (settled == CAL_TURNS_RUN_MAX) break;
        settle(context, turn);
    }
    if (context->flight_count == 0 || context->settling) return;
    context->settling = true;
    context->pins++;
    contexts_hold(context->contexts);
    context->settle_task.run = settle_more;
    runner->on_loop(runner->user, &context->settle_task);
}

/* Whatever the loop does in a context: the functions below are all that comes from elsewhere. */
static void look_after(struct context *context) {
    cal_contexts *contexts = context->contexts;
    contexts_hold(contexts);
    context->pins++;
    settle_answered(context);
    turns_go(context);
    handlers_go(context);
    context->pins--;
    contexts_used(context);
    contexts_release(contexts);
}

static void back_on_loop(cal_task *task) {
    struct turn *turn = CAL_CONTAINER_OF(task, struct turn, task);
    turn->answered = true;
    look_after(turn->context);
}

static void settle_more(cal_task *task) {
    struct context *context = CAL_CONTAINER_OF(task, struct context, settle_task);
    context->settling = false;
    context->pins--;
    context->contexts->held--; /* look_after holds on */
    look_after(context);
}

static void left_on_loop(cal_task *task) {
    struct context *context = CAL_CONTAINER_OF(task, struct context, left_task);
    atomic_store(&context->place, PLACE_LEFT);
    look_after(context);
}

int turn_again(struct turn *turn) {
    struct context *context = turn->context;
    if (context->deleting) return CAL_ENOTFOUND;
    if (context->contexts->draining) return CAL_ECANCELED;
    turn->answered = turn->stored = turn->moved = false;
    turn->number = 0;
    context->holder = NULL;
    wait_before(context, turn, context->waiting.next);
    turns_go(context);
    return 0;
}

void turn_end(struct context *context) {
    context->holder = NULL;
    turns_go(context);
}
