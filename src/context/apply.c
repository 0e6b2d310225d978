/* The turn of received deltas (runtime-abi.md 13; network-sync.md 6.6). Each runs the guest's
 * __calimero_sync_next on what those before it left; what all of them left goes to the store as one
 * batch, so that rows which most deltas change, the root above all, are written once. */
#include <stdio.h>
#include <stdlib.h>
#include <yyjson.h>

#include "base/error.h"
#include "context/commit.h"

struct apply {
    struct turn turn;
    struct guest guest;
    const cal_received_delta *deltas;
    size_t count;
    cal_apply_outcome *outcomes;
    cal_overlay sum;           /* of the deltas applied so far */
    cal_context_record record; /* as they leave it; heads are our own, with room for all */
    size_t applied;
    cal_apply_done done;
    void *user;
};

static void fail_one(cal_apply_outcome *outcome, int error, const char *why) {
    outcome->error = error;
    snprintf(outcome->message, sizeof outcome->message, "%s", why);
}

static void fail_rest(struct apply *apply, int error, const char *why) {
    for (size_t i = 0; i < apply->count; i++) {
        cal_apply_outcome *outcome = &apply->outcomes[i];
        if (outcome->error == 0) fail_one(outcome, error, why);
        outcome->before = false; /* what applied it before may be what could not be stored */
    }
}

static void free_apply(struct apply *apply) {
    if (!apply) return;
    turn_deinit(&apply->turn);
    guest_deinit(&apply->guest);
    cal_overlay_deinit(&apply->sum);
    free(apply->record.heads);
    free(apply->outcomes);
    free(apply);
}

/* --- one delta: worker --- */

static bool same_hash(const void *a, const void *b) { return memcmp(a, b, 32) == 0; }

/* Whether one of this turn that failed is its parent. */
static bool orphaned(const struct apply *apply, size_t at) {
    const cal_delta_record *record = &apply->deltas[at].record;
    for (size_t i = 0; i < at; i++) {
        if (apply->outcomes[i].error == 0) continue;
        for (size_t k = 0; k < record->parent_count; k++)
            if (same_hash(record->parents[k], apply->deltas[i].record.id.bytes)) return true;
    }
    return false;
}

/* What is applied takes its parents from the heads, so one whose parent is a head is not; in order,
 * that is nearly all, and spares looking it up. */
static bool builds_on_head(const struct apply *apply, const cal_delta_record *record) {
    for (size_t i = 0; i < record->parent_count; i++)
        for (size_t k = 0; k < apply->record.head_count; k++)
            if (same_hash(record->parents[i], apply->record.heads[k].bytes)) return true;
    return false;
}

/* 1, 0 or CAL_E*. */
static int is_stored(const struct apply *apply, const cal_hash *id) {
    uint8_t key[64];
    memcpy(key, apply->guest.id.bytes, 32);
    memcpy(key + 32, id->bytes, 32);
    int rc = cal_snapshot_get(apply->guest.overlay.snapshot, CAL_COLUMN_DELTA,
                              cal_slice_of(key, sizeof key), NULL);
    return rc == 0 ? 1 : rc == CAL_ENOTFOUND ? 0 : rc;
}

/* The borsh of CausalActions: the actions as they came, which decoding has found to be nothing but
 * that, then what only this node may say of them. */
static int build_input(struct apply *apply, const cal_received_delta *delta,
                       cal_buffer *ret_input) {
    crdt_memory memory = cal_crdt_memory(&apply->guest.arena);
    cal_slice artifact = delta->record.artifact;
    crdt_delta decoded, causal = {.kind = CRDT_DELTA_CAUSAL_ACTIONS,
                                  .hlc = delta->record.hlc,
                                  .writers = delta->writers,
                                  .writer_count = delta->writer_count,
                                  .has_signer_account = delta->signer != NULL};
    memcpy(causal.id.bytes, delta->record.id.bytes, 32);
    if (delta->signer) memcpy(causal.signer_account.bytes, delta->signer->bytes, 32);
    int rc = crdt_delta_decode(&memory, crdt_bytes_of(artifact.data, artifact.len), &decoded);
    if (rc == 0 && decoded.kind != CRDT_DELTA_ACTIONS) rc = CAL_EDECODE;
    crdt_bytes without_actions;
    if (rc == 0) rc = crdt_delta_encode(&memory, &causal, &without_actions);
    if (rc != 0) return rc;
    enum { EMPTY_LEN = 5 }; /* kind and a count of 0 */
    cal_buffer_append_u8(ret_input, CRDT_DELTA_CAUSAL_ACTIONS);
    if (artifact.len > 0)
        cal_buffer_append(ret_input, artifact.data + 1, artifact.len - 1);
    else
        cal_buffer_append_u32le(ret_input, 0);
    return cal_buffer_append(ret_input, without_actions.data + EMPTY_LEN,
                             without_actions.len - EMPTY_LEN);
}

/* heads -= parents, += id. */
static void move_heads(cal_context_record *record, const cal_delta_record *delta) {
    size_t kept = 0;
    for (size_t i = 0; i < record->head_count; i++) {
        bool is_parent = false;
        for (size_t k = 0; k < delta->parent_count && !is_parent; k++)
            is_parent = same_hash(record->heads[i].bytes, delta->parents[k]);
        if (!is_parent) record->heads[kept++] = record->heads[i];
    }
    record->heads[kept++] = delta->id;
    record->head_count = kept;
}

static bool is_zero(const void *hash) {
    static const uint8_t zero[32];
    return same_hash(hash, zero);
}

static bool is_genesis(const cal_delta_record *record) {
    return !record->has_author && record->parent_count == 1 && is_zero(record->parents[0]);
}

/* Why it may not stand where the context is now; NULL. */
static const char *misplaced(const struct apply *apply, const cal_delta_record *record,
                             int *ret_error) {
    bool bare = is_zero(&apply->record.root);
    *ret_error = CAL_EINVAL;
    if (record->parent_count == 0) return "a delta without parents";
    if (!bare && !record->has_author)
        return "a delta without an author: the context has its genesis";
    *ret_error = CAL_ESTATE;
    if (bare && !is_genesis(record)) return "the context is not initialised yet";
    *ret_error = CAL_ELIMIT;
    return apply->record.head_count >= CAL_CONTEXT_HEADS_MAX ? "the context has too many heads"
                                                             : NULL;
}

/* Whether it can be run at all; otherwise its outcome says why not, or that there is no need. */
static bool admit(struct apply *apply, size_t at) {
    const cal_delta_record *record = &apply->deltas[at].record;
    cal_apply_outcome *outcome = &apply->outcomes[at];
    const cal_os *os = apply->guest.contexts->options.os;
    struct context *context = apply->turn.context;
    const cal_overlay *top =
        cal_overlay_is_empty(&apply->sum) ? cal_tip_top(&context->tip) : &apply->sum;
    if (orphaned(apply, at)) {
        fail_one(outcome, CAL_ECANCELED, "a delta that it descends from was not applied");
        return false;
    }
    int rc = guest_over_tip(&apply->guest, context, top), error = 0;
    int known = rc;
    const char *why = misplaced(apply, record, &error);
    if (rc == 0 && !builds_on_head(apply, record))
        known = top && cal_overlay_has_delta(top, &record->id) ? 1 : is_stored(apply, &record->id);
    if (known < 0)
        fail_one(outcome, known, "the store cannot be read");
    else if (known == 1)
        outcome->before = true;
    else if (why)
        fail_one(outcome, error, why);
    else if (crdt_clock_observe(&context->clock, &record->hlc, os->wall_ns(os->user)) != 0)
        fail_one(outcome, CAL_ELIMIT, "the delta's time is more than 5 s ahead of this clock");
    return outcome->error == 0 && !outcome->before;
}

/* Keeps what a delta left: in the sum, in the record, and its own row in the batch. */
static int keep_one(struct apply *apply, size_t at) {
    const cal_delta_record *delta = &apply->deltas[at].record;
    struct guest *guest = &apply->guest;
    bool changed = guest->outcome.has_root;
    int rc = commit_put_delta(apply->turn.batch, &guest->id, delta);
    if (rc == 0) rc = cal_overlay_add_delta(&guest->overlay, &delta->id);
    if (rc == 0) rc = cal_overlay_merge(&apply->sum, &guest->overlay, changed, true);
    if (rc != 0) return rc;
    if (changed) memcpy(apply->record.root.bytes, guest->outcome.root_hash, 32);
    move_heads(&apply->record, delta);
    if (delta->hlc.time > apply->record.latest) apply->record.latest = delta->hlc.time;
    apply->outcomes[at].root = apply->record.root;
    apply->applied++;
    return 0;
}

/* CAL_E*: the whole turn fails. */
static int apply_one(struct apply *apply, size_t at) {
    struct guest *guest = &apply->guest;
    cal_apply_outcome *outcome = &apply->outcomes[at];
    guest_reset(guest);
    if (!admit(apply, at)) return 0;
    cal_buffer input;
    cal_buffer_init(&input, CAL_STORE_VALUE_MAX);
    int rc = build_input(apply, &apply->deltas[at], &input);
    if (rc != 0) {
        fail_one(outcome, rc, "the delta's artifact is not a list of actions");
    } else { /* gas alone bounds it (runtime-abi.md 13) */
        guest_run(guest, &(guest_call){.method = "__calimero_sync_next",
                                       .input = cal_buffer_slice(&input),
                                       .memory_max = guest->contexts->options.memory_max});
        if (guest->status != CAL_CALL_OK)
            fail_one(outcome, guest->error, guest->message);
        else if (is_zero(&apply->record.root) &&
                 (!guest->outcome.has_root || is_zero(guest->outcome.root_hash)))
            fail_one(outcome, CAL_EGUEST, "the genesis delta left no state");
    }
    cal_buffer_deinit(&input);
    return outcome->error == 0 ? keep_one(apply, at) : 0;
}

/* --- the turn: worker --- */

/* A context without a state takes its genesis when nothing is here that an earlier state or half an
 * installation has left: only another installation makes that good. */
static int check_bare(struct apply *apply) {
    struct context *context = apply->turn.context;
    if (!is_genesis(&apply->deltas[0].record)) return CAL_ESTATE;
    int rc = guest_over_tip(&apply->guest, context, NULL);
    if (rc == 0) rc = context_has_rows(context->snapshot, &context->id);
    return rc == 1 ? CAL_ESTATE : rc;
}

static int begin(struct apply *apply) {
    struct context *context = apply->turn.context;
    const cal_context_record *tip = &context->tip.record;
    int rc = context->grant.result;
    if (rc != 0) {
        fail_rest(apply, rc, "the context's group does not answer");
        return rc;
    }
    if (apply->count > 0 && is_zero(&tip->root)) rc = check_bare(apply);
    if (rc != 0) {
        fail_rest(apply, rc,
                  rc == CAL_ESTATE ? "the context is not initialised yet" : cal_error_text(rc));
        return rc;
    }
    apply->guest.executor = context->grant.executor;
    apply->guest.code = context->grant.code;
    rc = guest_load(&apply->guest, context->record.service);
    if (rc != 0) {
        fail_rest(apply, rc, apply->guest.message);
        return rc;
    }
    apply->sum.below = cal_tip_top(&context->tip);
    apply->record = *tip;
    apply->record.heads = malloc((tip->head_count + apply->count) * sizeof *tip->heads);
    apply->turn.batch = cal_batch_new();
    if (!apply->record.heads || !apply->turn.batch) {
        fail_rest(apply, CAL_ENOMEM, cal_error_text(CAL_ENOMEM));
        return CAL_ENOMEM;
    }
    if (tip->head_count)
        memcpy(apply->record.heads, tip->heads, tip->head_count * sizeof *tip->heads);
    return 0;
}

static int finish(struct apply *apply) {
    cal_batch *batch = apply->turn.batch;
    int rc = cal_overlay_flush(&apply->sum, true, true, batch);
    if (rc == 0) rc = commit_put_record(batch, &apply->guest.id, &apply->record);
    if (rc == 0) rc = turn_take(&apply->turn, &apply->sum, true, true);
    return rc == 0 ? turn_leave(&apply->turn, &apply->record) : rc;
}

static void apply_run(struct turn *turn) {
    struct apply *apply = CAL_CONTAINER_OF(turn, struct apply, turn);
    int rc = begin(apply);
    if (rc == 0) {
        for (size_t i = 0; rc == 0 && i < apply->count; i++) rc = apply_one(apply, i);
        if (rc == 0 && apply->applied > 0) rc = finish(apply);
        if (rc != 0) fail_rest(apply, rc, cal_error_text(rc));
    }
    guest_unload(&apply->guest);
    guest_reset(&apply->guest);
    if (rc == 0 && apply->applied > 0) return;
    cal_batch_free(turn->batch);
    turn->batch = NULL;
}

/* --- in and out: loop --- */

/* The events as they travelled, see encode_events. Nothing when they do not read. */
static size_t read_events(yyjson_doc *doc, cal_arena *arena, cal_app_event **ret_events) {
    yyjson_val *list = yyjson_doc_get_root(doc), *item;
    size_t count = yyjson_is_arr(list) ? yyjson_arr_size(list) : 0, at, max, used = 0;
    cal_app_event *events = cal_arena_alloc_array(arena, count, sizeof *events);
    if (!events) return 0;
    yyjson_arr_foreach(list, at, max, item) {
        yyjson_val *data = yyjson_obj_get(item, "data"), *byte;
        const char *kind = yyjson_get_str(yyjson_obj_get(item, "kind"));
        uint8_t *bytes = cal_arena_alloc(arena, yyjson_arr_size(data));
        size_t i, len;
        if (!kind || !bytes) continue;
        yyjson_arr_foreach(data, i, len, byte) bytes[i] = (uint8_t)yyjson_get_uint(byte);
        events[used++] =
            (cal_app_event){.kind = kind,
                            .data = bytes,
                            .data_len = yyjson_arr_size(data),
                            .handler = yyjson_get_str(yyjson_obj_get(item, "handler"))};
    }
    *ret_events = events;
    return used;
}

/* Handlers run where a change arrives, not where it was made. */
static void start_handlers(const struct apply *apply, size_t at, const cal_app_event *events,
                           size_t count) {
    const cal_delta_record *record = &apply->deltas[at].record;
    if (record->has_author && same_hash(&record->author, &apply->guest.executor.device)) return;
    for (size_t i = 0; i < count; i++)
        if (events[i].handler)
            handlers_add(apply->turn.context, events[i].handler,
                         cal_slice_of(events[i].data, events[i].data_len));
}

static void announce(const struct apply *apply, size_t at) {
    const cal_contexts_options *options = &apply->guest.contexts->options;
    cal_slice json = apply->deltas[at].record.events;
    cal_arena arena;
    cal_arena_init(&arena, CALL_ARENA_MAX);
    cal_event event = {.type = CAL_EVENT_STATE_MUTATION,
                       .context = apply->guest.id,
                       .root = apply->outcomes[at].root};
    yyjson_doc *doc = json.len ? yyjson_read((const char *)json.data, json.len, 0) : NULL;
    cal_app_event *events = NULL;
    if (doc) event.event_count = read_events(doc, &arena, &events);
    event.events = events;
    options->event(options->event_user, &event);
    start_handlers(apply, at, events, event.event_count);
    yyjson_doc_free(doc);
    cal_arena_deinit(&arena);
}

/* What is announced after `done`, which may free the deltas; without memory nothing is. */
static void keep_events(struct apply *apply, cal_arena *arena) {
    cal_received_delta *kept = cal_arena_alloc_array(arena, apply->count, sizeof *kept);
    for (size_t i = 0; kept && i < apply->count; i++) {
        cal_slice *events = &kept[i].record.events;
        kept[i] = apply->deltas[i];
        events->data = cal_arena_copy(arena, events->data, events->len);
        if (!events->data) events->len = 0;
    }
    apply->deltas = kept;
}

static void answer(struct apply *apply) {
    cal_contexts *contexts = apply->guest.contexts;
    size_t bytes = apply->turn.cost;
    cal_arena arena;
    for (size_t i = 0; i < apply->count; i++) {
        contexts->stats.applied += apply->outcomes[i].error == 0 && !apply->outcomes[i].before;
        contexts->stats.apply_failed += apply->outcomes[i].error != 0;
    }
    cal_arena_init(&arena, CALL_ARENA_MAX);
    keep_events(apply, &arena);
    apply->done(apply->user, apply->outcomes, apply->count);
    for (size_t i = 0; apply->deltas && i < apply->count; i++)
        if (apply->outcomes[i].error == 0 && !apply->outcomes[i].before) announce(apply, i);
    cal_arena_deinit(&arena);
    free_apply(apply);
    contexts_closed(contexts, bytes);
}

static void apply_settled(struct turn *turn) {
    struct apply *apply = CAL_CONTAINER_OF(turn, struct apply, turn);
    if (turn->result == CAL_ECANCELED)
        fail_rest(apply, turn->result, "an earlier turn of this context could not be stored");
    else if (turn->result != 0)
        fail_rest(apply, turn->result, cal_error_text(turn->result));
    answer(apply);
}

static void apply_refused(struct turn *turn, int error, const char *why) {
    struct apply *apply = CAL_CONTAINER_OF(turn, struct apply, turn);
    turn->contexts->stats.refused++;
    fail_rest(apply, error, why);
    answer(apply);
}

static const turn_kind apply_kind = {
    .run = apply_run, .settled = apply_settled, .refused = apply_refused};

static struct apply *new_apply(cal_contexts *contexts, const cal_context_id *id,
                               const cal_received_delta *deltas, size_t count) {
    struct apply *apply = calloc(1, sizeof *apply);
    size_t bytes = 0;
    if (!apply) return NULL;
    for (size_t i = 0; i < count; i++)
        bytes += sizeof *deltas + deltas[i].record.artifact.len + deltas[i].record.events.len;
    turn_init(&apply->turn, &apply_kind, contexts, bytes);
    guest_init(&apply->guest, contexts, id);
    cal_overlay_init(&apply->sum, id->bytes, NULL, NULL, CAL_CACHE_NONE);
    apply->deltas = deltas;
    apply->count = count;
    apply->outcomes = calloc(count + 1, sizeof *apply->outcomes);
    if (apply->outcomes) return apply;
    free_apply(apply);
    return NULL;
}

/* Why so many cannot be taken in at once; NULL. */
static const char *too_much(const cal_received_delta *deltas, size_t count) {
    size_t bytes = 0;
    if (count > CAL_APPLY_DELTAS_MAX) return "too many deltas for one turn";
    for (size_t i = 0; i < count; i++) bytes += deltas[i].record.artifact.len;
    return count > 1 && bytes > CAL_APPLY_BYTES_MAX ? "too many bytes of deltas for one turn"
                                                    : NULL;
}

void cal_contexts_apply(cal_contexts *contexts, const cal_context_id *id,
                        const cal_received_delta *deltas, size_t count, cal_apply_done done,
                        void *user) {
    struct apply *apply = new_apply(contexts, id, deltas, count);
    struct context *context = NULL;
    if (!apply) {
        done(user, &(cal_apply_outcome){.error = CAL_ENOMEM, .message = "out of memory"}, 0);
        return;
    }
    apply->done = done;
    apply->user = user;
    const char *why = too_much(deltas, count);
    int rc = why ? CAL_ELIMIT : contexts_admit(contexts, apply->turn.cost, &why);
    contexts_opened(contexts, apply->turn.cost);
    if (rc == 0) rc = contexts_find(contexts, id, &context);
    if (rc == 0 && context->deleting) rc = CAL_ENOTFOUND;
    if (rc == 0) {
        turn_enter(&apply->turn, context);
        return;
    }
    apply_refused(&apply->turn, rc, why ? why : cal_error_text(rc));
}
