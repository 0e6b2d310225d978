/* The turn of state that came without its deltas: leaves and tombstones of another replica's tree
 * (network-sync.md 9.6). The node applies them itself, to the rows as the turns before left them,
 * and stores rows, hashes and the record with the new root as one batch; heads stay. The guest is
 * asked for nothing but to merge its own state. */
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "context/commit.h"

enum { MERGE_ARENA_MAX = 512 * 1024 * 1024, MERGE_ANSWER_MAX = CAL_MERGE_BYTES_MAX };

struct merge {
    struct turn turn;
    struct guest guest; /* its overlay takes what is written */
    const cal_merge_item *items;
    size_t count;
    cal_merge_outcome *outcomes;
    cal_arena arena;
    crdt_store *store;
    bool loaded; /* the module is */
    size_t taken;
    int error;
    cal_context_record record;
    cal_merge_done done;
    void *user;
};

/* --- rows: worker --- */

static int read_row(void *user, const uint8_t key[32], crdt_bytes *ret_value) {
    struct merge *merge = user;
    cal_buffer row;
    cal_buffer_init(&row, CAL_STORE_VALUE_MAX);
    int found = cal_overlay_read(&merge->guest.overlay, CAL_VM_STATE, cal_slice_of(key, 32), &row);
    if (found == 1) {
        uint8_t *copy = cal_arena_copy(&merge->arena, row.data, row.len);
        *ret_value = crdt_bytes_of(copy, row.len);
        if (!copy) found = CAL_ENOMEM;
    }
    cal_buffer_deinit(&row);
    return found;
}

static int write_row(void *user, const uint8_t key[32], crdt_bytes value) {
    struct merge *merge = user;
    return cal_overlay_write(&merge->guest.overlay, CAL_VM_STATE, cal_slice_of(key, 32),
                             cal_slice_of(value.data, value.len), NULL);
}

static int remove_row(void *user, const uint8_t key[32]) {
    struct merge *merge = user;
    int rc = cal_overlay_remove(&merge->guest.overlay, CAL_VM_STATE, cal_slice_of(key, 32), NULL);
    return rc < 0 ? rc : 0;
}

/* The guest rebuilds the order of a collection's entries when their marker is gone. */
static void clear_marker(void *user, const crdt_id *parent) {
    struct merge *merge = user;
    int rc = cal_overlay_remove(&merge->guest.overlay, CAL_VM_INDEX_META,
                                cal_slice_of(parent->bytes, 32), NULL);
    if (rc < 0 && merge->error == 0) merge->error = rc;
}

static bool verify(void *user, const uint8_t public_key[32], const uint8_t payload[32],
                   const uint8_t signature[64]) {
    (void)user;
    return cal_verify_lax(public_key, cal_slice_of(payload, 32), signature);
}

/* --- the application merges its own state --- */

static int write_question(struct merge *merge, const crdt_state_entry *state, const crdt_leaf *leaf,
                          crdt_bytes *ret_input) {
    crdt_memory memory = cal_crdt_memory(&merge->arena);
    crdt_writer writer = crdt_writer_of(&memory);
    crdt_write_bytes(&writer, state->value);
    crdt_write_bytes(&writer, leaf->value);
    crdt_write_u64(&writer, state->created_at);
    crdt_write_u64(&writer, state->updated_at);
    crdt_write_u64(&writer, leaf->updated_at);
    return crdt_write_end(&writer, ret_input);
}

/* What it made of both; CAL_EGUEST: it did not. */
static int read_answer(struct merge *merge, crdt_bytes *ret_value) {
    const struct guest *guest = &merge->guest;
    if (guest->status != CAL_CALL_OK) return CAL_EGUEST;
    cal_slice output = guest->outcome.return_value;
    uint8_t *copy = cal_arena_copy(&merge->arena, output.data, output.len);
    if (!copy) return CAL_ENOMEM;
    crdt_memory memory = cal_crdt_memory(&merge->arena);
    crdt_reader reader = crdt_reader_of(crdt_bytes_of(copy, output.len), &memory);
    bool refused = crdt_read_u8(&reader) != 0;
    crdt_bytes value = crdt_read_bytes(&reader);
    if (crdt_read_end(&reader) != 0 || refused || value.len > MERGE_ANSWER_MAX) return CAL_EGUEST;
    *ret_value = value;
    return 0;
}

static int load_module(struct merge *merge) {
    if (merge->loaded) return 0;
    int rc = guest_load(&merge->guest, merge->turn.context->record.service);
    merge->loaded = rc == 0;
    return rc;
}

/* Nothing has been written yet when it runs: what it may leave in the overlay goes. */
static int ask_guest(struct merge *merge, crdt_bytes input, crdt_bytes *ret_value) {
    struct guest *guest = &merge->guest;
    const cal_overlay *below = guest->overlay.below;
    int rc = load_module(merge);
    if (rc == CAL_ENOMEM) return rc;
    if (rc != 0) return CAL_EGUEST;
    guest_run(guest, &(guest_call){.method = "__calimero_merge_root_state",
                                   .input = cal_slice_of(input.data, input.len),
                                   .read_only = true,
                                   .memory_max = guest->contexts->options.memory_max});
    rc = read_answer(merge, ret_value);
    guest_reset(guest);
    return guest_over_tip(guest, merge->turn.context, below) == 0 ? rc : CAL_EIO;
}

static int merge_state(struct merge *merge, const crdt_leaf *leaf, crdt_leaf_result *ret_result) {
    crdt_state_entry state;
    crdt_bytes input, value = {0};
    const cal_os *os = merge->guest.contexts->options.os;
    *ret_result = CRDT_LEAF_REFUSED;
    if (leaf->updated_at > os->wall_ns(os->user) + UINT64_C(5000000000)) return 0;
    int rc = crdt_store_get_state(merge->store, &leaf->id, &state);
    if (rc == 0) rc = write_question(merge, &state, leaf, &input);
    if (rc == 0) rc = ask_guest(merge, input, &value);
    if (rc == CAL_EGUEST) return 0;
    if (rc != 0) return rc;
    *ret_result = crdt_bytes_equal(value, leaf->value) ? CRDT_LEAF_TAKEN : CRDT_LEAF_KEPT;
    if (crdt_bytes_equal(value, state.value)) return 0;
    return crdt_store_put_state(merge->store, &leaf->id, value, leaf->updated_at);
}

/* --- items --- */

static int merge_one(struct merge *merge, const cal_merge_item *item,
                     crdt_leaf_result *ret_result) {
    const cal_os *os = merge->guest.contexts->options.os;
    const cal_blob_id *code = &merge->turn.context->grant.code;
    crdt_apply_context context = {
        .now_ns = os->wall_ns(os->user), .verify = verify, .has_signer_account = item->has_signer};
    memcpy(context.signer_account.bytes, item->signer.bytes, 32);
    if (item->is_deletion)
        return crdt_store_take_deletion(merge->store, &item->id, item->deleted_at, &item->metadata,
                                        &context, ret_result);
    *ret_result = CRDT_LEAF_DEFERRED;
    if (item->has_app_key && memcmp(&item->app_key, code, sizeof *code) != 0) return 0;
    int rc = crdt_store_take_leaf(merge->store, &item->leaf, &context, ret_result);
    if (rc == 0 && *ret_result == CRDT_LEAF_MERGES)
        rc = merge_state(merge, &item->leaf, ret_result);
    return rc;
}

static bool has_state(const cal_context_record *record) {
    static const cal_hash zero;
    return memcmp(&record->root, &zero, sizeof zero) != 0;
}

static int begin(struct merge *merge) {
    struct context *context = merge->turn.context;
    struct guest *guest = &merge->guest;
    crdt_env env = cal_crdt_env(&merge->arena);
    crdt_rows rows = {merge, read_row, write_row, remove_row, clear_marker};
    crdt_id root;
    int rc = context->grant.result;
    if (rc != 0) return rc;
    if (!has_state(&context->tip.record)) return CAL_ESTATE;
    guest->executor = context->grant.executor;
    guest->code = context->grant.code;
    memcpy(root.bytes, context->id.bytes, 32);
    rc = guest_over_tip(guest, context, cal_tip_top(&context->tip));
    return rc == 0 ? crdt_store_open(&env, &rows, &root, &merge->store) : rc;
}

static int finish(struct merge *merge) {
    struct turn *turn = &merge->turn;
    crdt_hash root;
    const cal_context_record *tip = &turn->context->tip.record;
    merge->record = *tip;
    /* The tip's own are freed while it takes the record. */
    merge->record.heads =
        cal_arena_copy(&merge->arena, tip->heads, tip->head_count * sizeof *tip->heads);
    turn->batch = cal_batch_new();
    if (!turn->batch || !merge->record.heads) return CAL_ENOMEM;
    int rc = crdt_store_flush(merge->store);
    if (rc == 0) rc = crdt_store_root_hash(merge->store, &root);
    if (rc == 0) rc = merge->error;
    if (rc != 0) return rc;
    memcpy(merge->record.root.bytes, root.bytes, 32);
    rc = cal_overlay_flush(&merge->guest.overlay, true, true, turn->batch);
    if (rc == 0) rc = commit_put_record(turn->batch, &turn->context->id, &merge->record);
    if (rc == 0) rc = turn_take(turn, &merge->guest.overlay, true, true);
    return rc == 0 ? turn_leave(turn, &merge->record) : rc;
}

static void merge_run(struct turn *turn) {
    struct merge *merge = CAL_CONTAINER_OF(turn, struct merge, turn);
    int rc = begin(merge);
    for (size_t i = 0; rc == 0 && i < merge->count; i++) {
        rc = merge_one(merge, &merge->items[i], &merge->outcomes[i].result);
        merge->taken += rc == 0 && merge->outcomes[i].result <= CRDT_LEAF_KEPT &&
                        merge->outcomes[i].result != CRDT_LEAF_SAME;
    }
    if (rc == 0 && merge->taken > 0) rc = finish(merge);
    if (merge->loaded) guest_unload(&merge->guest);
    guest_reset(&merge->guest);
    merge->store = NULL;
    cal_arena_deinit(&merge->arena);
    merge->error = rc;
    if (rc == 0 && merge->taken > 0) return;
    cal_batch_free(turn->batch);
    turn->batch = NULL;
}

/* --- in and out: loop --- */

static void answer(struct merge *merge) {
    cal_contexts *contexts = merge->guest.contexts;
    const cal_contexts_options *options = &contexts->options;
    size_t bytes = merge->turn.cost;
    bool changed = merge->error == 0 && merge->taken > 0;
    cal_event event = {
        .type = CAL_EVENT_STATE_MUTATION, .context = merge->guest.id, .root = merge->record.root};
    merge->done(merge->user, merge->error, merge->outcomes, merge->error ? 0 : merge->count);
    if (changed) options->event(options->event_user, &event);
    turn_deinit(&merge->turn);
    guest_deinit(&merge->guest);
    cal_arena_deinit(&merge->arena);
    free(merge->outcomes);
    free(merge);
    contexts_closed(contexts, bytes);
}

static void merge_settled(struct turn *turn) {
    struct merge *merge = CAL_CONTAINER_OF(turn, struct merge, turn);
    if (merge->error == 0) merge->error = turn->result;
    answer(merge);
}

static void merge_refused(struct turn *turn, int error, const char *why) {
    struct merge *merge = CAL_CONTAINER_OF(turn, struct merge, turn);
    (void)why;
    turn->contexts->stats.refused++;
    merge->error = error;
    answer(merge);
}

static const turn_kind merge_kind = {
    .run = merge_run, .settled = merge_settled, .refused = merge_refused};

static size_t bytes_of(const cal_merge_item *items, size_t count) {
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += sizeof items[i] + (items[i].is_deletion ? 0 : items[i].leaf.value.len);
    return bytes;
}

void cal_contexts_merge(cal_contexts *contexts, const cal_context_id *id,
                        const cal_merge_item *items, size_t count, cal_merge_done done,
                        void *user) {
    size_t bytes = sizeof(struct merge) + bytes_of(items, count);
    const char *why = NULL;
    struct context *context = NULL;
    struct merge *merge = calloc(1, sizeof *merge);
    cal_merge_outcome *outcomes = calloc(count + 1, sizeof *outcomes);
    if (!merge || !outcomes || count > CAL_MERGE_ITEMS_MAX ||
        bytes > CAL_MERGE_BYTES_MAX + sizeof *merge + count * sizeof *items) {
        bool short_of = !merge || !outcomes;
        free(merge);
        free(outcomes);
        done(user, short_of ? CAL_ENOMEM : CAL_ELIMIT, NULL, 0);
        return;
    }
    turn_init(&merge->turn, &merge_kind, contexts, bytes);
    guest_init(&merge->guest, contexts, id);
    cal_arena_init(&merge->arena, MERGE_ARENA_MAX);
    merge->items = items;
    merge->count = count;
    merge->outcomes = outcomes;
    merge->done = done;
    merge->user = user;
    int rc = contexts_admit(contexts, bytes, &why);
    contexts_opened(contexts, bytes);
    if (rc == 0) rc = contexts_find(contexts, id, &context);
    if (rc == 0 && context->deleting) rc = CAL_ENOTFOUND;
    if (rc == 0)
        turn_enter(&merge->turn, context);
    else
        merge_refused(&merge->turn, rc, why);
}
