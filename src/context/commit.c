/* What a call changed, as one batch (runtime-abi.md 6.4, 12; network-sync.md 6.3-6.5): the
 * overlay's rows with their signatures, the signed delta, and the context's record with the new
 * root and head. Runs on the call's worker; the context's writer is exclusive. */
#include <yyjson.h>

#include "context/internal.h"
#include "gov/delta.h"

static int sign_payload(void *user, const uint8_t payload[32], uint8_t ret_signature[64]) {
    const cal_context_authority *authority = &((struct call *)user)->contexts->options.authority;
    authority->sign(authority->user, cal_slice_of(payload, 32), ret_signature);
    return 0;
}

/* Writes the signature of one action into the Index row of its entity, when there is one. */
static int patch_row(struct call *call, const crdt_env *env, const crdt_action *action) {
    uint8_t key[32];
    crdt_storage_key(env->sha256, CRDT_KEY_INDEX, &action->id, key);
    cal_buffer row;
    cal_buffer_init(&row, CAL_STORE_VALUE_MAX);
    int found = cal_overlay_read(&call->overlay, CAL_VM_STATE, cal_slice_of(key, 32), &row);
    int rc = found < 0 ? found : 0;
    if (found == 1) {
        crdt_bytes patched;
        rc = crdt_index_patch_signature(&env->memory, crdt_bytes_of(row.data, row.len),
                                        &action->metadata.storage, &patched);
        if (rc == 0)
            rc = cal_overlay_write(&call->overlay, CAL_VM_STATE, cal_slice_of(key, 32),
                                   cal_slice_of(patched.data, patched.len), NULL);
        else if (rc == CRDT_EINVAL)
            rc = 0; /* stored under another owner meanwhile: its own signature stands */
    }
    cal_buffer_deinit(&row);
    return rc < 0 ? rc : 0;
}

static crdt_hlc tick(cal_contexts *contexts) {
    pthread_mutex_lock(&contexts->clock_lock);
    crdt_hlc now = crdt_clock_tick(&contexts->clock,
                                   contexts->options.os->wall_ns(contexts->options.os->user));
    pthread_mutex_unlock(&contexts->clock_lock);
    return now;
}

/* The events as they travel: [{"kind":text,"data":[bytes],"handler":text or null}]. Nothing when
 * there are none. */
static int encode_events(const cal_vm_outcome *outcome, cal_buffer *ret_json) {
    if (outcome->event_count == 0) return 0;
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    if (!doc) return CAL_ENOMEM;
    yyjson_mut_val *list = yyjson_mut_arr(doc);
    yyjson_mut_doc_set_root(doc, list);
    for (size_t i = 0; i < outcome->event_count; i++) {
        const cal_vm_event *event = &outcome->events[i];
        yyjson_mut_val *item = yyjson_mut_arr_add_obj(doc, list);
        yyjson_mut_obj_add_strn(doc, item, "kind", (const char *)event->kind.data, event->kind.len);
        yyjson_mut_val *data = yyjson_mut_obj_add_arr(doc, item, "data");
        for (size_t at = 0; at < event->data.len; at++)
            yyjson_mut_arr_add_uint(doc, data, event->data.data[at]);
        if (event->has_handler)
            yyjson_mut_obj_add_strn(doc, item, "handler", (const char *)event->handler.data,
                                    event->handler.len);
        else
            yyjson_mut_obj_add_null(doc, item, "handler");
    }
    size_t len = 0;
    char *text = yyjson_mut_write(doc, 0, &len);
    int rc = text ? cal_buffer_append(ret_json, text, len) : CAL_ENOMEM;
    free(text);
    yyjson_mut_doc_free(doc);
    return rc;
}

static int sign_envelope(struct call *call, cal_delta_record *delta) {
    gov_position position;
    gov_hlc hlc;
    cal_delta_envelope(delta, &position, &hlc);
    cal_buffer envelope;
    cal_buffer_init(&envelope, CAL_STORE_VALUE_MAX);
    int rc =
        gov_delta_signable(&call->id, &delta->id, delta->author.bytes, &position, &hlc, &envelope);
    const cal_context_authority *authority = &call->contexts->options.authority;
    if (rc == 0) authority->sign(authority->user, cal_buffer_slice(&envelope), delta->signature);
    cal_buffer_deinit(&envelope);
    return rc;
}

static int put_row(cal_batch *batch, cal_column column, const cal_context_id *id,
                   const cal_hash *second, cal_buffer *value) {
    uint8_t key[64];
    memcpy(key, id->bytes, 32);
    if (second) memcpy(key + 32, second->bytes, 32);
    if (value->error) return value->error;
    return cal_batch_put(batch, column, cal_slice_of(key, second ? 64 : 32),
                         cal_buffer_slice(value));
}

static int put_delta(struct call *call, cal_delta_record *delta, bool genesis) {
    cal_buffer events, row;
    cal_buffer_init(&events, CAL_STORE_VALUE_MAX);
    cal_buffer_init(&row, CAL_STORE_VALUE_MAX);
    int rc = encode_events(&call->outcome, &events);
    delta->events = cal_buffer_slice(&events);
    if (rc == 0 && !genesis) rc = sign_envelope(call, delta);
    if (rc == 0) rc = cal_delta_record_encode(delta, &row);
    if (rc == 0) rc = put_row(call->batch, CAL_COLUMN_DELTA, &call->id, &delta->id, &row);
    cal_buffer_deinit(&events);
    cal_buffer_deinit(&row);
    return rc;
}

static int put_record(struct call *call, const cal_context_record *base) {
    cal_context_record record = *base;
    record.root = call->root;
    record.heads = &call->head;
    record.head_count = 1;
    cal_buffer row;
    cal_buffer_init(&row, CAL_STORE_VALUE_MAX);
    int rc = cal_context_record_encode(&record, &row);
    if (rc == 0) rc = put_row(call->batch, CAL_COLUMN_CONTEXT, &call->id, NULL, &row);
    cal_buffer_deinit(&row);
    return rc;
}

/* --- the author's own rotations of Shared writer sets: peers log them when they apply the delta,
 * the author here --- */

static int overlay_row(void *user, const uint8_t key[32], crdt_bytes *ret_value) {
    struct call *call = user;
    cal_buffer row;
    cal_buffer_init(&row, CAL_STORE_VALUE_MAX);
    int found = cal_overlay_read(&call->overlay, CAL_VM_STATE, cal_slice_of(key, 32), &row);
    if (found == 1) {
        uint8_t *copy = cal_arena_copy(&call->arena, row.data, row.len);
        if (copy)
            *ret_value = crdt_bytes_of(copy, row.len);
        else
            found = CAL_ENOMEM;
    }
    cal_buffer_deinit(&row);
    return found;
}

static int overlay_write(void *user, const uint8_t key[32], crdt_bytes value) {
    struct call *call = user;
    return cal_overlay_write(&call->overlay, CAL_VM_STATE, cal_slice_of(key, 32),
                             cal_slice_of(value.data, value.len), NULL);
}

static int overlay_remove(void *user, const uint8_t key[32]) {
    struct call *call = user;
    int rc = cal_overlay_remove(&call->overlay, CAL_VM_STATE, cal_slice_of(key, 32), NULL);
    return rc < 0 ? rc : 0;
}

static bool changes_writers(const crdt_delta *delta) {
    for (uint32_t i = 0; i < delta->action_count; i++)
        if (delta->actions[i].kind != CRDT_ACTION_DELETE &&
            delta->actions[i].metadata.storage.kind == CRDT_SHARED)
            return true;
    return false;
}

/* runtime-abi.md 6, step 4f. The root moves when something was logged. */
static int log_rotations(struct call *call, const crdt_delta *delta,
                         const cal_delta_record *record) {
    if (!changes_writers(delta)) return 0;
    crdt_env env = cal_crdt_env(&call->arena);
    crdt_rows rows = {
        .user = call, .read = overlay_row, .write = overlay_write, .remove = overlay_remove};
    crdt_apply_context context = {
        .now_ns = call->contexts->options.os->wall_ns(call->contexts->options.os->user),
        .has_delta = true,
        .delta_hlc = record->hlc};
    memcpy(context.delta_id.bytes, record->id.bytes, 32);
    crdt_id root;
    memcpy(root.bytes, call->id.bytes, 32);
    crdt_store *store = NULL;
    bool changed = false;
    crdt_hash root_hash;
    int rc = crdt_store_open(&env, &rows, &root, &store);
    if (rc == 0)
        rc = crdt_store_log_rotations(store, delta->actions, delta->action_count, &context,
                                      &changed);
    if (rc != 0 || !changed) return rc;
    rc = crdt_store_flush(store);
    if (rc == 0) rc = crdt_store_root_hash(store, &root_hash);
    if (rc == 0) memcpy(call->root.bytes, root_hash.bytes, 32);
    return rc;
}

/* Signs the artifact and makes the delta's content address. */
static int build_delta(struct call *call, const cal_context_record *base, bool genesis,
                       cal_delta_record *ret_delta) {
    static const uint8_t no_parent[1][32];
    crdt_env env = cal_crdt_env(&call->arena);
    crdt_signed_delta signed_delta;
    cal_slice artifact = call->outcome.artifact;
    int rc = crdt_delta_sign(&env, crdt_bytes_of(artifact.data, artifact.len), sign_payload, call,
                             &signed_delta);
    for (uint32_t i = 0; rc == 0 && i < signed_delta.signed_count; i++)
        rc = patch_row(call, &env, &signed_delta.delta.actions[signed_delta.signed_at[i]]);
    if (rc != 0) return rc;
    bool first = genesis || base->head_count == 0;
    *ret_delta = (cal_delta_record){
        .parents = first ? no_parent : (const uint8_t(*)[32])(const void *)base->heads,
        .parent_count = first ? 1 : base->head_count,
        .artifact = cal_slice_of(signed_delta.artifact.data, signed_delta.artifact.len),
        .hlc = tick(call->contexts),
        .has_author = !genesis,
        .author = call->executor.device,
        .has_position = !genesis,
        .position = (const uint8_t(*)[32])(const void *)call->position.data,
        .position_count = call->position.len / 32,
        .root = call->root,
        .has_app_key = true,
        .app_key = call->code,
    };
    crdt_hash id;
    rc = crdt_delta_id(&env, ret_delta->parents, ret_delta->parent_count,
                       signed_delta.delta.actions, signed_delta.delta.action_count, &id);
    if (rc != 0) return rc;
    memcpy(ret_delta->id.bytes, id.bytes, 32);
    rc = log_rotations(call, &signed_delta.delta, ret_delta);
    ret_delta->root = call->root;
    return rc;
}

int commit_build(struct call *call, bool genesis) {
    cal_context_record fresh = {
        .application = call->genesis.application,
        .group = call->genesis.group,
        .service = call->service,
        .created_at_ms =
            call->contexts->options.os->wall_ns(call->contexts->options.os->user) / 1000000};
    const cal_context_record *base = genesis ? &fresh : &call->context->record;
    memcpy(call->root.bytes, call->outcome.root_hash, 32);
    cal_delta_record delta;
    int rc = build_delta(call, base, genesis, &delta);
    if (rc == CAL_EDECODE) {
        call_fail(call, CAL_CALL_INTERNAL, CAL_EGUEST,
                  "the application committed an artifact that is not a list of actions");
        return rc;
    }
    if (rc != 0) return rc;
    call->head = delta.id;
    call->batch = cal_batch_new();
    if (!call->batch) return CAL_ENOMEM;
    rc = cal_overlay_flush(&call->overlay, true, true, call->batch);
    if (rc == 0) rc = put_delta(call, &delta, genesis);
    if (rc == 0) rc = put_record(call, base);
    call->changed = rc == 0;
    return rc;
}
