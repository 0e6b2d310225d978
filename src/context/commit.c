/* What a run changed, as one batch (runtime-abi.md 6.4, 12; network-sync.md 6.3-6.5): the
 * overlay's rows with their signatures, the signed delta, and the context's record with the new
 * root and head. On the worker that has the context's place, or makes a new context. */
#include "context/commit.h"

#include <yyjson.h>

#include "gov/delta.h"

/* Beside what is sealed: ids, parents, position. */
enum { MESSAGE_MAX = 2 * GOV_DELTA_PLAIN_MAX };

static int sign_payload(void *user, const uint8_t payload[32], uint8_t ret_signature[64]) {
    const struct guest *guest = user;
    const cal_context_authority *authority = &guest->contexts->options.authority;
    authority->sign(authority->user, cal_slice_of(payload, 32), ret_signature);
    return 0;
}

/* Writes the signature of one action into the Index row of its entity, when there is one. */
static int patch_row(struct guest *guest, const crdt_env *env, const crdt_action *action) {
    uint8_t key[32];
    crdt_storage_key(env->sha256, CRDT_KEY_INDEX, &action->id, key);
    cal_buffer row;
    cal_buffer_init(&row, CAL_STORE_VALUE_MAX);
    int found = cal_overlay_read(&guest->overlay, CAL_VM_STATE, cal_slice_of(key, 32), &row);
    int rc = found < 0 ? found : 0;
    if (found == 1) {
        crdt_bytes patched;
        rc = crdt_index_patch_signature(&env->memory, crdt_bytes_of(row.data, row.len),
                                        &action->metadata.storage, &patched);
        if (rc == 0)
            rc = cal_overlay_write(&guest->overlay, CAL_VM_STATE, cal_slice_of(key, 32),
                                   cal_slice_of(patched.data, patched.len), NULL);
        else if (rc == CRDT_EINVAL)
            rc = 0; /* stored under another owner meanwhile: its own signature stands */
    }
    cal_buffer_deinit(&row);
    return rc < 0 ? rc : 0;
}

static crdt_hlc tick(const struct commit *commit) {
    const cal_os *os = commit->guest->contexts->options.os;
    return crdt_clock_tick(commit->clock, os->wall_ns(os->user));
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

static int sign_envelope(const struct guest *guest, cal_delta_record *delta) {
    gov_position position;
    gov_hlc hlc;
    cal_delta_envelope(delta, &position, &hlc);
    cal_buffer envelope;
    cal_buffer_init(&envelope, CAL_STORE_VALUE_MAX);
    int rc =
        gov_delta_signable(&guest->id, &delta->id, delta->author.bytes, &position, &hlc, &envelope);
    const cal_context_authority *authority = &guest->contexts->options.authority;
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

int commit_put_delta(cal_batch *batch, const cal_context_id *id, const cal_delta_record *delta) {
    cal_buffer row;
    cal_buffer_init(&row, CAL_STORE_VALUE_MAX);
    int rc = cal_delta_record_encode(delta, &row);
    if (rc == 0) rc = put_row(batch, CAL_COLUMN_DELTA, id, &delta->id, &row);
    cal_buffer_deinit(&row);
    return rc;
}

int commit_put_record(cal_batch *batch, const cal_context_id *id,
                      const cal_context_record *record) {
    cal_buffer row;
    cal_buffer_init(&row, CAL_STORE_VALUE_MAX);
    int rc = cal_context_record_encode(record, &row);
    if (rc == 0) rc = put_row(batch, CAL_COLUMN_CONTEXT, id, NULL, &row);
    cal_buffer_deinit(&row);
    return rc;
}

/* The delta as it is published (network-sync.md 5; governance.md 13). */
static int seal(const struct commit *commit, const cal_delta_record *delta) {
    struct guest *guest = commit->guest;
    const cal_grant *grant = commit->grant;
    if (grant->seal_result != 0) {
        guest_fail(guest, CAL_CALL_INTERNAL, grant->seal_result,
                   "this node has no key to seal the change with, nothing was kept: %s",
                   cal_error_text(grant->seal_result));
        return grant->seal_result;
    }
    gov_delta_payload payload = {.root = delta->root,
                                 .artifact = delta->artifact,
                                 .has_events = delta->events.len > 0,
                                 .events = delta->events};
    gov_state_delta message = {.context = guest->id,
                               .delta = delta->id,
                               .parents = (const cal_hash *)(const void *)delta->parents,
                               .parent_count = (uint32_t)delta->parent_count,
                               .has_position = delta->has_position,
                               .key_id = grant->key_id,
                               .has_signature = true,
                               .has_app_key = delta->has_app_key,
                               .app_key = delta->app_key};
    memcpy(message.author_key, delta->author.bytes, sizeof message.author_key);
    memcpy(message.signature, delta->signature, sizeof message.signature);
    cal_delta_envelope(delta, &message.position, &message.hlc);
    cal_random(guest->contexts->options.os, message.nonce, sizeof message.nonce);
    cal_buffer sealed;
    cal_buffer_init(&sealed, GOV_DELTA_PLAIN_MAX + CAL_AEAD_TAG_SIZE);
    int rc = gov_delta_seal(&grant->key, message.nonce, &payload, &sealed);
    if (rc == CAL_ELIMIT)
        guest_fail(guest, CAL_CALL_FAILED, rc,
                   "the call changes %zu bytes (with its events), at most %d can be sent to the "
                   "other members: nothing was kept, change less in one call",
                   delta->artifact.len + delta->events.len, (int)GOV_DELTA_PLAIN_MAX);
    message.sealed = cal_buffer_slice(&sealed);
    if (rc == 0) rc = gov_state_delta_write(&message, commit->message);
    cal_buffer_deinit(&sealed);
    return rc;
}

static int put_delta(const struct commit *commit, cal_delta_record *delta) {
    const struct guest *guest = commit->guest;
    cal_buffer events;
    cal_buffer_init(&events, CAL_STORE_VALUE_MAX);
    int rc = encode_events(&guest->outcome, &events);
    delta->events = cal_buffer_slice(&events);
    if (rc == 0 && commit->grant) rc = sign_envelope(guest, delta);
    if (rc == 0 && commit->grant && commit->grant->seals) rc = seal(commit, delta);
    if (rc == 0) rc = commit_put_delta(commit->batch, &guest->id, delta);
    cal_buffer_deinit(&events);
    return rc;
}

/* --- the author's own rotations of Shared writer sets: peers log them when they apply the delta,
 * the author here --- */

static int overlay_row(void *user, const uint8_t key[32], crdt_bytes *ret_value) {
    struct guest *guest = user;
    cal_buffer row;
    cal_buffer_init(&row, CAL_STORE_VALUE_MAX);
    int found = cal_overlay_read(&guest->overlay, CAL_VM_STATE, cal_slice_of(key, 32), &row);
    if (found == 1) {
        uint8_t *copy = cal_arena_copy(&guest->arena, row.data, row.len);
        if (copy)
            *ret_value = crdt_bytes_of(copy, row.len);
        else
            found = CAL_ENOMEM;
    }
    cal_buffer_deinit(&row);
    return found;
}

static int overlay_write(void *user, const uint8_t key[32], crdt_bytes value) {
    struct guest *guest = user;
    return cal_overlay_write(&guest->overlay, CAL_VM_STATE, cal_slice_of(key, 32),
                             cal_slice_of(value.data, value.len), NULL);
}

static int overlay_remove(void *user, const uint8_t key[32]) {
    struct guest *guest = user;
    int rc = cal_overlay_remove(&guest->overlay, CAL_VM_STATE, cal_slice_of(key, 32), NULL);
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
static int log_rotations(struct commit *commit, const crdt_delta *delta,
                         const cal_delta_record *record) {
    if (!changes_writers(delta)) return 0;
    struct guest *guest = commit->guest;
    const cal_os *os = guest->contexts->options.os;
    crdt_env env = cal_crdt_env(&guest->arena);
    crdt_rows rows = {
        .user = guest, .read = overlay_row, .write = overlay_write, .remove = overlay_remove};
    crdt_apply_context context = {
        .now_ns = os->wall_ns(os->user), .has_delta = true, .delta_hlc = record->hlc};
    memcpy(context.delta_id.bytes, record->id.bytes, 32);
    crdt_id root;
    memcpy(root.bytes, guest->id.bytes, 32);
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
    if (rc == 0) memcpy(commit->root.bytes, root_hash.bytes, 32);
    return rc;
}

/* Signs the artifact and makes the delta's content address. */
static int build_delta(struct commit *commit, cal_delta_record *ret_delta) {
    static const uint8_t no_parent[1][32];
    struct guest *guest = commit->guest;
    const cal_context_record *base = commit->base;
    crdt_env env = cal_crdt_env(&guest->arena);
    crdt_signed_delta signed_delta;
    cal_slice artifact = guest->outcome.artifact;
    int rc = crdt_delta_sign(&env, crdt_bytes_of(artifact.data, artifact.len), sign_payload, guest,
                             &signed_delta);
    for (uint32_t i = 0; rc == 0 && i < signed_delta.signed_count; i++)
        rc = patch_row(guest, &env, &signed_delta.delta.actions[signed_delta.signed_at[i]]);
    if (rc != 0) return rc;
    const cal_grant *grant = commit->grant;
    bool first = base->head_count == 0;
    *ret_delta = (cal_delta_record){
        .parents = first ? no_parent : (const uint8_t(*)[32])(const void *)base->heads,
        .parent_count = first ? 1 : base->head_count,
        .artifact = cal_slice_of(signed_delta.artifact.data, signed_delta.artifact.len),
        .hlc = tick(commit),
        .has_author = grant != NULL,
        .author = guest->executor.device,
        .has_position = grant != NULL,
        .position = grant ? (const uint8_t(*)[32])(const void *)grant->position.data : NULL,
        .position_count = grant ? grant->position.len / 32 : 0,
        .root = commit->root,
        .has_app_key = true,
        .app_key = guest->code,
    };
    crdt_hash id;
    rc = crdt_delta_id(&env, ret_delta->parents, ret_delta->parent_count,
                       signed_delta.delta.actions, signed_delta.delta.action_count, &id);
    if (rc != 0) return rc;
    memcpy(ret_delta->id.bytes, id.bytes, 32);
    rc = log_rotations(commit, &signed_delta.delta, ret_delta);
    ret_delta->root = commit->root;
    return rc;
}

int commit_build(struct commit *commit) {
    struct guest *guest = commit->guest;
    memcpy(commit->root.bytes, guest->outcome.root_hash, 32);
    if (commit->message) cal_buffer_init(commit->message, MESSAGE_MAX);
    cal_delta_record delta;
    int rc = build_delta(commit, &delta);
    if (rc == CAL_EDECODE)
        guest_fail(guest, CAL_CALL_INTERNAL, CAL_EGUEST,
                   "the application committed an artifact that is not a list of actions");
    if (rc != 0) return rc;
    commit->head = delta.id;
    commit->batch = cal_batch_new();
    if (!commit->batch) return CAL_ENOMEM;
    rc = cal_overlay_flush(&guest->overlay, true, true, commit->batch);
    if (rc == 0) rc = cal_overlay_add_delta(&guest->overlay, &commit->head);
    if (rc == 0) rc = put_delta(commit, &delta);
    if (rc != 0) return rc;
    commit->record = *commit->base;
    commit->record.root = commit->root;
    commit->record.heads = &commit->head;
    commit->record.head_count = 1;
    commit->record.latest = delta.hlc.time; /* the clock was behind none before */
    return commit_put_record(commit->batch, &guest->id, &commit->record);
}
