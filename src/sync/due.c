/* When a context needs looking at: its next heartbeat, its next comparison. A node may share tens
 * of thousands, so no tick looks at all of them: each stands in the slot of a timing wheel of the
 * tick that it is next due in. What is due by now has its turn at once, and a turn of the loop
 * looks at no more of them than it has time for. */
#include "sync/context.h"

enum { TURN_NS = 1000000 };

static void look_at_due(cal_sync *sync);

void sync_due_init(cal_sync *sync) {
    for (size_t i = 0; i < SYNC_DUE_SLOTS; i++) cal_list_init(&sync->due.slots[i]);
    cal_list_init(&sync->due.now);
    sync->due.tick = sync_now_ms(sync) / CAL_SYNC_TICK_MS;
}

static void go_on(cal_task *task) {
    cal_sync *sync = CAL_CONTAINER_OF(task, cal_sync, due.task);
    sync->due.posted = false;
    look_at_due(sync);
    sync_release(sync);
}

static void post(cal_sync *sync) {
    if (sync->due.posted || sync->stopping || cal_list_empty(&sync->due.now)) return;
    sync->due.posted = true;
    sync->due.task.run = go_on;
    sync_hold(sync);
    sync->options.runner->on_loop(sync->options.runner->user, &sync->due.task);
}

static void look_at_due(cal_sync *sync) {
    const cal_os *os = sync->options.os;
    uint64_t began = os->mono_ns(os->user), now_ms = sync_now_ms(sync);
    cal_list *at;
    while (!sync->stopping && (at = cal_list_pop(&sync->due.now))) {
        sync_context_look(CAL_CONTAINER_OF(at, sync_context, due_link), now_ms);
        if (os->mono_ns(os->user) - began >= TURN_NS) break;
    }
    post(sync);
}

void sync_context_alarm(sync_context *context) {
    cal_sync *sync = context->sync;
    uint64_t due_ms = context->heartbeat_due_ms, compare_ms = sync_compare_due(context);
    if (compare_ms < due_ms) due_ms = compare_ms;
    cal_list_remove(&context->due_link);
    if (due_ms <= sync_now_ms(sync)) {
        cal_list_push(&sync->due.now, &context->due_link);
        post(sync);
        return;
    }
    /* What is due later than the wheel is long is looked at in vain when it has gone round. */
    uint64_t tick = due_ms / CAL_SYNC_TICK_MS + (due_ms % CAL_SYNC_TICK_MS != 0);
    uint64_t last = sync->due.tick + SYNC_DUE_SLOTS - 1;
    if (tick <= sync->due.tick) tick = sync->due.tick + 1;
    if (tick > last) tick = last;
    cal_list_push(&sync->due.slots[tick % SYNC_DUE_SLOTS], &context->due_link);
}

void sync_contexts_tick(cal_sync *sync, uint64_t now_ms) {
    uint64_t tick = now_ms / CAL_SYNC_TICK_MS;
    for (size_t i = 0; i < SYNC_DUE_SLOTS && sync->due.tick < tick; i++)
        cal_list_append(&sync->due.now, &sync->due.slots[++sync->due.tick % SYNC_DUE_SLOTS]);
    sync->due.tick = tick; /* after a long pause the wheel has gone round once */
    look_at_due(sync);
}
