/* The way of a delta from its arrival until it is applied, see context.h.
 *
 * Two steps of a context are under way at once, each for many deltas: one takes in (it proves, or
 * opens), the other applies. The one that opens looks at the store as it was when it began; what is
 * applied meanwhile is noted with it, so that no delta waits for a parent that has just landed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sync/bulk.h"
#include "sync/take.h"

enum {
    STEP_MAX = CAL_APPLY_DELTAS_MAX,
    STEP_BYTES_MAX = CAL_APPLY_BYTES_MAX,
};

typedef struct sync_bucket {
    cal_list waiting; /* of sync_absent */
} sync_bucket;

/* Deltas that are being proved, opened, or applied. */
struct sync_step {
    cal_task task;
    sync_context *context;
    sync_step **place; /* where the context has it */
    bool aside;        /* of what came unasked alone: nobody waits for it */
    cal_map landed;    /* taking in: ids that were applied since it began */
    bool landed_lost;  /* and not all of them are in there: no memory */
    size_t count;
    sync_delta *deltas[STEP_MAX];
    cal_received_delta received[STEP_MAX];
};

/* --- what is here --- */

static cal_slice key_of(const cal_hash *id) { return cal_slice_of(id->bytes, sizeof id->bytes); }

bool sync_context_holds(const sync_context *context, const cal_hash *id) {
    for (size_t i = 0; i < SYNC_REFUSED_MAX; i++)
        if (memcmp(&context->refused[i], id, sizeof *id) == 0) return true;
    if (cal_map_get(&context->covered, key_of(id))) return true;
    /* Before it is opened it only says what its id is; it may not keep the real one away. */
    const sync_delta *delta = cal_map_get(&context->by_id, key_of(id));
    return delta && (delta->opened || delta->fetched);
}

size_t sync_context_waiting(const sync_context *context) { return context->by_id.count; }

/* It leaves: applied, refused, or for want of room. */
void sync_delta_drop(sync_delta *delta) {
    sync_context *context = delta->context;
    cal_list_remove(&delta->link);
    if (delta->listed) cal_map_remove(&context->by_id, key_of(&delta->record.id));
    sync_room_leave(delta);
    sync_delta_free(delta);
}

static void refuse(sync_delta *delta, const char *why) {
    sync_context *context = delta->context;
    char id[CAL_ID_TEXT_MAX];
    cal_id_to_base58(delta->record.id.bytes, id);
    cal_log(CAL_LOG_DEBUG, "sync", "context %s: delta %s is refused: %s", context->topic, id,
            why ? why : "");
    context->sync->stats.deltas_refused++;
    if (delta->opened) { /* else the id may be another delta's, which is yet to come */
        context->refused[context->refused_at] = delta->record.id;
        context->refused_at = (context->refused_at + 1) % SYNC_REFUSED_MAX;
    }
    if (delta->listed) /* else anybody could say what stands there */
        snprintf(context->status.why, sizeof context->status.why, "a delta was refused: %s",
                 why ? why : "");
    sync_delta_drop(delta);
}

static void wait_in(sync_delta *delta, cal_list *list) {
    cal_list_remove(&delta->link);
    cal_list_push(list, &delta->link);
}

/* --- judged --- */

/* Whether one of that id keeps this one out: not one that has yet to be opened, when this one was
 * asked for or can be (which key it names, nobody has signed). In a step it stays where it is. */
static bool is_taken(sync_context *context, const sync_delta *delta) {
    sync_delta *old = cal_map_get(&context->by_id, key_of(&delta->record.id));
    if (sync_context_holds(context, &delta->record.id)) return true;
    if (!old) return false;
    if ((!delta->fetched && !delta->keyed) || cal_list_empty(&old->link)) return true;
    sync_delta_drop(old);
    return false;
}

/* It is known by its id from now on. false: it is not, and is gone. */
static bool admit(sync_delta *delta) {
    sync_context *context = delta->context;
    delta->listed =
        delta->listed || (!is_taken(context, delta) &&
                          cal_map_put(&context->by_id, key_of(&delta->record.id), delta) == 0);
    if (delta->listed && sync_room_enter(delta, SYNC_ROOM_WAITING)) return true;
    sync_delta_drop(delta);
    return false;
}

static bool is_stranger(const sync_delta *delta) {
    cal_gov *gov = delta->context->sync->options.gov;
    cal_group_id group, ns;
    return gov_context_group(gov, &delta->context->id, &group, &ns) ||
           !gov_key_is_member(gov, &group, &delta->record.author);
}

static void wait_for_governance(sync_delta *delta, bool stranger) {
    sync_context *context = delta->context;
    if (!stranger) {
        if (!admit(delta)) return;
        wait_in(delta, &context->governed);
    } else if (delta->room == SYNC_ROOM_STRANGERS || sync_room_enter(delta, SYNC_ROOM_STRANGERS)) {
        wait_in(delta, &context->strangers);
    } else {
        sync_delta_drop(delta);
        return;
    }
    cal_list_remove(&context->governed_link);
    cal_list_push(&context->sync->governed, &context->governed_link);
}

void sync_context_forget_strangers(sync_context *context, uint64_t now_ms) {
    while (!cal_list_empty(&context->strangers)) {
        sync_delta *delta = CAL_CONTAINER_OF(context->strangers.next, sync_delta, link);
        if (now_ms - delta->came_ms < SYNC_STRANGERS_MS) return;
        sync_delta_drop(delta);
    }
}

/* The key that it is sealed with: fetched from other members, who have it. */
static void wish_for_key(const sync_delta *delta) {
    cal_sync *sync = delta->context->sync;
    sync_namespace *ns = sync_namespace_of(sync, &delta->context->id);
    gov_key_wish(sync->options.gov, &delta->context->id, &delta->signer, &delta->wire.key_id);
    if (ns) sync_keys_soon(ns);
}

/* The author at the cut that it cites, and the key: answered from memory. */
static void judge(sync_delta *delta) {
    sync_context *context = delta->context;
    cal_gov *gov = context->sync->options.gov;
    const cal_delta_record *record = &delta->record;
    gov_author author;
    cal_error err;
    if (record->has_author) {
        int rc = gov_author_judge(gov, &context->id, &record->author, &delta->wire.position,
                                  &author, &err);
        if (rc != 0 || author.verdict == GOV_AUTHOR_UNKNOWN) {
            wait_for_governance(delta, is_stranger(delta));
            return;
        }
        if (author.verdict == GOV_AUTHOR_NOT) {
            refuse(delta, author.why);
            return;
        }
        delta->signer = author.account;
        sync_foreign_code(delta);
    }
    delta->keyed =
        !delta->sealed || gov_context_key(gov, &context->id, &delta->wire.key_id, &delta->key) == 0;
    if (!delta->keyed) {
        wish_for_key(delta);
        wait_for_governance(delta, false);
        return;
    }
    if (admit(delta)) wait_in(delta, &context->to_open);
}

/* --- parents --- */

/* false: out of memory. Of those in `ready` it need not wait: lacking may be 0 afterwards. */
static bool wait_for_parents(sync_delta *delta) {
    sync_context *context = delta->context;
    delta->lacking = 0;
    for (size_t i = 0; i < delta->absent_count; i++) {
        sync_absent *absent = &delta->absent[i];
        cal_slice key = cal_slice_of(delta->record.parents[absent->parent], 32);
        const sync_delta *parent = cal_map_get(&context->by_id, key);
        if (parent && parent->ready) continue; /* it stands before its child there */
        if (cal_map_get(&context->covered, key)) continue;
        if (cal_map_get(&context->intake->landed, key))
            continue; /* since the store was looked at */
        sync_bucket *bucket = cal_map_get(&context->buckets, key);
        if (!bucket) {
            bucket = malloc(sizeof *bucket);
            if (!bucket || cal_map_put(&context->buckets, key, bucket)) {
                free(bucket);
                return false;
            }
            cal_list_init(&bucket->waiting);
        }
        absent->delta = delta;
        cal_list_push(&bucket->waiting, &absent->link);
        delta->lacking++;
    }
    return true;
}

/* Whoever waited for this parent waits for it no more; those that wait for nothing else join todo.
 */
static void release_children(sync_context *context, const cal_hash *parent, cal_list *todo) {
    sync_bucket *bucket = cal_map_remove(&context->buckets, key_of(parent));
    cal_list *at;
    while (bucket && (at = cal_list_pop(&bucket->waiting))) {
        sync_absent *absent = CAL_CONTAINER_OF(at, sync_absent, link);
        sync_delta *child = absent->delta;
        absent->delta = NULL;
        if (--child->lacking == 0) wait_in(child, todo);
    }
    free(bucket);
}

static void all_ready(sync_context *context, cal_list *todo) {
    while (!cal_list_empty(todo)) {
        sync_delta *delta = CAL_CONTAINER_OF(todo->next, sync_delta, link);
        wait_in(delta, &context->ready);
        delta->ready = true;
        release_children(context, &delta->record.id, todo);
    }
}

static void make_ready(sync_delta *delta) {
    cal_list todo;
    cal_list_init(&todo);
    wait_in(delta, &todo);
    all_ready(delta->context, &todo);
}

void sync_context_cover(sync_context *context, const cal_hash *id) {
    static char mark;
    cal_list todo;
    cal_list_init(&todo);
    if (context->covered.count >= SYNC_COVERED_MAX) return;
    if (cal_map_put(&context->covered, key_of(id), &mark)) return;
    sync_delta *delta = cal_map_get(&context->by_id, key_of(id));
    if (delta && delta->doubted) sync_delta_drop(delta);
    release_children(context, id, &todo);
    all_ready(context, &todo);
}

/* Whether the context has a state. */
static bool has_state(const sync_context *context) {
    static const cal_hash none;
    cal_arena arena;
    cal_context_record record;
    cal_arena_init(&arena, SYNC_ARENA_MAX);
    int rc = cal_contexts_get(context->sync->options.contexts, &context->id, &arena, &record);
    cal_arena_deinit(&arena);
    return rc == 0 && memcmp(&record.root, &none, sizeof none) != 0;
}

size_t sync_context_missing(const sync_context *context, cal_hash *ret_ids, size_t max) {
    cal_map_cursor cursor = {0};
    cal_slice key;
    void *value;
    size_t count = 0;
    while (count < max && cal_map_next(&context->buckets, &cursor, &key, &value)) {
        const sync_bucket *bucket = value;
        if (cal_list_empty(&bucket->waiting)) continue;
        memcpy(ret_ids[count].bytes, key.data, 32);
        if (!sync_context_holds(context, &ret_ids[count])) count++;
    }
    return count;
}

/* --- steps --- */

static void end_step(sync_step *step) {
    sync_context *context = step->context;
    cal_sync *sync = context->sync;
    *step->place = NULL;
    cal_map_deinit(&step->landed);
    free(step);
    if (context->gone)
        sync_context_drop(sync, &context->id);
    else
        sync_context_go(context);
    sync_release(sync);
}

static sync_step *new_step(sync_context *context, sync_step **place) {
    sync_step *step = calloc(1, sizeof *step);
    if (!step) return NULL;
    step->context = context;
    step->place = place;
    *place = step;
    cal_map_init(&step->landed, context->sync->seed);
    sync_hold(context->sync);
    return step;
}

static void step_add(sync_step *step, sync_delta *delta) {
    cal_list_remove(&delta->link);
    cal_list_init(&delta->link);
    step->deltas[step->count++] = delta;
}

static void to_worker(sync_step *step, void (*run)(cal_task *task)) {
    const cal_runner *runner = step->context->sync->options.runner;
    step->task.run = run;
    runner->on_worker(runner->user, &step->task);
}

static void to_loop(sync_step *step, void (*run)(cal_task *task)) {
    const cal_runner *runner = step->context->sync->options.runner;
    step->task.run = run;
    runner->on_loop(runner->user, &step->task);
}

/* --- proving --- */

static void proved(cal_task *task) {
    sync_step *step = CAL_CONTAINER_OF(task, sync_step, task);
    for (size_t i = 0; i < step->count; i++) {
        sync_delta *delta = step->deltas[i];
        if (delta->result == CAL_EEXISTS) {
            step->context->sync->stats.deltas_known++;
            sync_delta_drop(delta);
        } else if (delta->result != 0) {
            refuse(delta, delta->why);
        } else {
            judge(delta);
        }
    }
    end_step(step);
}

static void prove_all(cal_task *task) { /* worker */
    sync_step *step = CAL_CONTAINER_OF(task, sync_step, task);
    cal_snapshot *snapshot = NULL;
    cal_store_snapshot(step->context->sync->options.store, &snapshot);
    for (size_t i = 0; i < step->count; i++)
        step->deltas[i]->result = sync_delta_prove(step->deltas[i], snapshot);
    cal_snapshot_free(snapshot);
    to_loop(step, proved);
}

/* What was asked for goes first. */
static void start_proving(sync_context *context) {
    sync_step *step = new_step(context, &context->intake);
    if (!step) return;
    step->aside = cal_list_empty(&context->came);
    cal_list *from[] = {&context->came, &context->unproved};
    for (size_t i = 0; i < 2; i++)
        while (!cal_list_empty(from[i]) && step->count < STEP_MAX)
            step_add(step, CAL_CONTAINER_OF(from[i]->next, sync_delta, link));
    to_worker(step, prove_all);
}

/* --- opening --- */

/* The state has it: so does a row, that nobody asks for it again. */
static void cover(sync_context *context, const cal_hash *id) {
    sync_context_cover(context, id);
    cal_contexts_cover(context->sync->options.contexts, &context->id, id, 1);
}

static void opened(cal_task *task) {
    sync_step *step = CAL_CONTAINER_OF(task, sync_step, task);
    sync_context *context = step->context;
    for (size_t i = 0; i < step->count; i++) {
        sync_delta *delta = step->deltas[i];
        if (step->landed_lost) {
            wait_in(delta, &context->to_open); /* with another look at the store */
        } else if (delta->result == CAL_EEXISTS ||
                   cal_map_get(&context->covered, key_of(&delta->record.id))) {
            cal_hash id = delta->record.id;
            bool again = delta->compacted && delta->result == CAL_EEXISTS;
            context->sync->stats.deltas_known++;
            sync_delta_drop(delta);
            if (again) cover(context, &id);
        } else if (delta->result == CAL_EVERIFY || delta->result == CAL_EDECODE ||
                   delta->result == CAL_ELIMIT) {
            if (!delta->fetched) sync_compare_soon(context, NULL); /* others have the true one */
            refuse(delta, delta->why);
        } else if (delta->result != 0) {
            sync_delta_drop(delta); /* the node's own trouble: it is fetched again */
            sync_compare_want(context, NULL);
        } else if (!delta->record.has_author && has_state(context)) {
            cal_hash genesis = delta->record.id; /* below whatever state there is */
            bool waited = cal_map_get(&context->buckets, key_of(&genesis)) != NULL;
            sync_delta_drop(delta);
            if (waited) cover(context, &genesis); /* else nobody asked for it */
        } else if (sync_cover_doubts(delta)) {
            delta->doubted = true;
            wait_in(delta, &context->doubtful);
        } else if (!wait_for_parents(delta)) {
            sync_delta_drop(delta);
        } else if (delta->lacking == 0) {
            make_ready(delta);
        } else if (!context->compare) { /* else it is being fetched */
            sync_compare_soon(context, &delta->peer);
        }
    }
    end_step(step);
}

static void open_all(cal_task *task) { /* worker */
    sync_step *step = CAL_CONTAINER_OF(task, sync_step, task);
    cal_snapshot *snapshot = NULL;
    cal_past past = {0};
    int rc = cal_store_snapshot(step->context->sync->options.store, &snapshot);
    if (rc == 0) rc = cal_past_read(snapshot, &step->context->id, &past);
    for (size_t i = 0; i < step->count; i++) {
        sync_delta *delta = step->deltas[i];
        delta->result = rc ? rc : sync_delta_open(delta);
        if (delta->result == 0) delta->result = sync_delta_locate(delta, snapshot, &past);
    }
    cal_past_deinit(&past);
    cal_snapshot_free(snapshot);
    to_loop(step, opened);
}

static void start_opening(sync_context *context) {
    sync_step *step = new_step(context, &context->intake);
    if (!step) return;
    while (!cal_list_empty(&context->to_open) && step->count < STEP_MAX)
        step_add(step, CAL_CONTAINER_OF(context->to_open.next, sync_delta, link));
    to_worker(step, open_all);
}

/* --- applying --- */

static bool has_parent(const sync_delta *delta, const cal_hash *id) {
    for (size_t i = 0; i < delta->record.parent_count; i++)
        if (memcmp(delta->record.parents[i], id, sizeof *id) == 0) return true;
    return false;
}

/* What is ready and descends from one that failed goes with it; it comes again with it. */
static void drop_descendants(sync_context *context, const cal_hash *failed);

/* One that waits for another parent still. */
static sync_delta *waiting_child(const sync_context *context, const cal_hash *parent) {
    cal_map_cursor cursor = {0};
    void *value;
    while (cal_map_next(&context->by_id, &cursor, NULL, &value)) {
        sync_delta *delta = value;
        if (delta->lacking > 0 && has_parent(delta, parent)) return delta;
    }
    return NULL;
}

static void drop_descendants(sync_context *context, const cal_hash *failed) {
    for (sync_delta *child; (child = waiting_child(context, failed));) {
        cal_hash id = child->record.id;
        sync_delta_drop(child);
        drop_descendants(context, &id);
    }
    for (cal_list *at = context->ready.next, *next; at != &context->ready; at = next) {
        sync_delta *delta = CAL_CONTAINER_OF(at, sync_delta, link);
        next = at->next;
        if (!has_parent(delta, failed)) continue;
        cal_hash id = delta->record.id;
        sync_delta_drop(delta);
        drop_descendants(context, &id);
        next = context->ready.next;
    }
}

void sync_context_orphans(sync_context *context, const cal_hash *parent) {
    drop_descendants(context, parent);
}

/* It has a row now, and is known no more: a delta that is being opened may have it for a parent. */
static void note_landed(sync_context *context, const cal_hash *id) {
    static char mark;
    sync_step *intake = context->intake;
    if (intake && cal_map_put(&intake->landed, key_of(id), &mark)) intake->landed_lost = true;
}

static void applied(void *user, const cal_apply_outcome *outcomes, size_t count) {
    sync_step *step = user;
    sync_context *context = step->context;
    bool any = false;
    for (size_t i = 0; i < step->count; i++) {
        sync_delta *delta = step->deltas[i];
        int error = i < count ? outcomes[i].error : CAL_ENOMEM;
        cal_hash id = delta->record.id;
        if (error == 0) {
            any = true;
            sync_delta_drop(delta);
            note_landed(context, &id);
            continue;
        }
        delta->ready = false;
        if (error == CAL_ESTATE || (error == CAL_ENOTFOUND && sync_context_codeless(context))) {
            wait_in(delta, &context->stateless);
            continue;
        }
        if (error == CAL_EGUEST || error == CAL_EDECODE || error == CAL_EINVAL)
            refuse(delta, outcomes[i].message);
        else
            sync_delta_drop(delta); /* too far ahead of this clock, or this node's own trouble */
        drop_descendants(context, &id);
        sync_compare_want(context, NULL);
    }
    if (any) {
        if (context->status.state == CAL_SYNC_EQUAL) context->status.state = CAL_SYNC_UNKNOWN;
        sync_context_heartbeat(context);
    }
    end_step(step);
}

static void apply_all(cal_task *task) { /* loop */
    sync_step *step = CAL_CONTAINER_OF(task, sync_step, task);
    for (size_t i = 0; i < step->count; i++) {
        const sync_delta *delta = step->deltas[i];
        step->received[i] = (cal_received_delta){.record = delta->record,
                                                 .writers = delta->writers,
                                                 .writer_count = delta->writer_count};
        if (delta->record.has_author) step->received[i].signer = &delta->signer;
    }
    cal_contexts_apply(step->context->sync->options.contexts, &step->context->id, step->received,
                       step->count, applied, step);
}

static void find_writers(cal_task *task) { /* worker */
    sync_step *step = CAL_CONTAINER_OF(task, sync_step, task);
    if (sync_delta_writers(step->deltas[0])) step->deltas[0]->writer_count = 0;
    to_loop(step, apply_all);
}

static void start_applying(sync_context *context) {
    sync_step *step = new_step(context, &context->applying);
    size_t bytes = 0;
    if (!step) return;
    while (!cal_list_empty(&context->ready) && step->count < STEP_MAX) {
        sync_delta *delta = CAL_CONTAINER_OF(context->ready.next, sync_delta, link);
        bytes += delta->record.artifact.len;
        if (step->count && (delta->shared || bytes > STEP_BYTES_MAX)) break;
        step_add(step, delta);
        if (delta->shared) break;
    }
    if (step->deltas[0]->shared)
        to_worker(step, find_writers);
    else
        apply_all(&step->task);
}

/* --- going on --- */

/* Those that are proved already: governance has moved. */
static void judge_again(sync_context *context) {
    cal_list again;
    cal_list_init(&again);
    cal_list_append(&again, &context->judged);
    while (!cal_list_empty(&again)) judge(CAL_CONTAINER_OF(again.next, sync_delta, link));
}

bool sync_context_idle(const sync_context *context) {
    return !context->applying && (!context->intake || context->intake->aside) &&
           cal_list_empty(&context->came) && cal_list_empty(&context->judged) &&
           cal_list_empty(&context->to_open) && cal_list_empty(&context->ready) &&
           cal_list_empty(&context->doubtful);
}

static void take_in(sync_context *context) {
    if (!cal_list_empty(&context->to_open))
        start_opening(context);
    else if (!cal_list_empty(&context->came) || !cal_list_empty(&context->unproved))
        start_proving(context);
}

void sync_context_go(sync_context *context) {
    if (context->gone || context->sync->stopping) return;
    judge_again(context);
    if (!context->applying && !cal_list_empty(&context->ready)) start_applying(context);
    if (!context->intake) take_in(context);
    bool still = !context->applying && (!context->intake || context->intake->aside);
    if (still && !cal_list_empty(&context->doubtful)) {
        sync_cover_look(context);
        return;
    }
    if (still) sync_context_alarm(context);
    sync_compare_moved(context); /* may be its end: whoever waited may drop it */
}

/* What was asked for is known by its id at once, so that it is not asked for again. */
bool sync_context_take(sync_context *context, sync_delta *delta) {
    bool taken = !context->gone;
    if (delta->fetched)
        taken = taken && !is_taken(context, delta);
    else
        taken = taken && !sync_context_holds(context, &delta->record.id);
    if (taken && delta->fetched)
        taken = delta->listed = cal_map_put(&context->by_id, key_of(&delta->record.id), delta) == 0;
    taken =
        taken && sync_room_enter(delta, delta->fetched ? SYNC_ROOM_WAITING : SYNC_ROOM_UNPROVED);
    if (!taken) {
        sync_delta_drop(delta);
        return false;
    }
    cal_list_push(delta->fetched ? &context->came : &context->unproved, &delta->link);
    sync_context_go(context);
    return true;
}

void sync_context_stated(sync_context *context) {
    sync_take_forget(context);
    cal_list_append(&context->to_open, &context->stateless);
    cal_list_init(&context->stateless);
    sync_context_go(context);
}

void sync_contexts_governed(cal_sync *sync) {
    cal_list waiting;
    cal_list_init(&waiting);
    cal_list_append(&waiting, &sync->governed);
    cal_list_init(&sync->governed);
    while (!cal_list_empty(&waiting)) {
        sync_context *context = CAL_CONTAINER_OF(waiting.next, sync_context, governed_link);
        cal_list_remove(&context->governed_link);
        cal_list_init(&context->governed_link);
        cal_list_append(&context->judged, &context->governed);
        cal_list_append(&context->judged, &context->strangers);
        sync_context_go(context);
    }
}
