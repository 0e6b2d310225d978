/* Actions, StorageDelta, delta ids and signing. Freestanding; see action.h. runtime-abi.md 11, 12.
 */
#include "crdt/action.h"

enum {
    DELETE_MIN = 1 + 32 + 8 + 20, /* the shortest action */
    ENTITY_WRITERS_MIN = 32 + 4,
};

/* Storage types as they are numbered in what is signed (traps.md 12). */
static const uint8_t SIGNED_TAGS[] = {
    [CRDT_PUBLIC] = 0, [CRDT_FROZEN] = 1,        [CRDT_USER] = 2,
    [CRDT_SHARED] = 3, [CRDT_SHARED_MEMBER] = 4,
};

/* --- codec --- */

void crdt_read_action(crdt_reader *reader, crdt_action *ret_action) {
    *ret_action = (crdt_action){0};
    uint8_t tag = crdt_read_u8(reader);
    if (tag != CRDT_ACTION_ADD && tag != CRDT_ACTION_DELETE && tag != CRDT_ACTION_UPDATE) {
        crdt_read_fail(reader, CRDT_EDECODE);
        return;
    }
    ret_action->kind = (crdt_action_kind)tag;
    crdt_read_fixed(reader, &ret_action->id, 32);
    if (ret_action->kind == CRDT_ACTION_DELETE) {
        ret_action->deleted_at = crdt_read_u64(reader);
    } else {
        ret_action->data = crdt_read_bytes(reader);
        crdt_read_children(reader, &ret_action->ancestors);
    }
    crdt_read_metadata(reader, &ret_action->metadata);
}

void crdt_write_action(crdt_writer *writer, const crdt_action *action) {
    crdt_write_u8(writer, (uint8_t)action->kind);
    crdt_write_fixed(writer, &action->id, 32);
    if (action->kind == CRDT_ACTION_DELETE) {
        crdt_write_u64(writer, action->deleted_at);
    } else {
        crdt_write_bytes(writer, action->data);
        crdt_write_children(writer, action->ancestors);
    }
    crdt_write_metadata(writer, &action->metadata);
}

int crdt_action_decode(const crdt_memory *memory, crdt_bytes bytes, crdt_action *ret_action) {
    crdt_reader reader = crdt_reader_of(bytes, memory);
    crdt_action action;
    crdt_read_action(&reader, &action);
    int result = crdt_read_end(&reader);
    if (!result) *ret_action = action;
    return result;
}

int crdt_action_encode(const crdt_memory *memory, const crdt_action *action,
                       crdt_bytes *ret_bytes) {
    crdt_writer writer = crdt_writer_of(memory);
    crdt_write_action(&writer, action);
    return crdt_write_end(&writer, ret_bytes);
}

static void read_actions(crdt_reader *reader, crdt_delta *delta) {
    uint32_t count = crdt_read_count(reader, DELETE_MIN);
    if (count == 0) return;
    crdt_action *actions = crdt_alloc_array(reader->memory, count, sizeof *actions);
    if (!actions) {
        crdt_read_fail(reader, CRDT_ENOMEM);
        return;
    }
    for (uint32_t i = 0; i < count && !reader->error; i++) crdt_read_action(reader, &actions[i]);
    delta->actions = actions;
    delta->action_count = count;
}

static int entity_order(const void *a, const void *b) {
    return crdt_compare(&((const crdt_entity_writers *)a)->entity,
                        &((const crdt_entity_writers *)b)->entity, 32);
}

/* Sorted by entity, the last of equals kept, like any map (traps.md 10). */
static void read_writers(crdt_reader *reader, crdt_delta *delta) {
    uint32_t count = crdt_read_count(reader, ENTITY_WRITERS_MIN);
    if (count == 0) return;
    crdt_entity_writers *writers = crdt_alloc_array(reader->memory, count, sizeof *writers);
    if (!writers) {
        crdt_read_fail(reader, CRDT_ENOMEM);
        return;
    }
    for (uint32_t i = 0; i < count && !reader->error; i++) {
        crdt_read_fixed(reader, &writers[i].entity, 32);
        crdt_read_grants(reader, &writers[i].writers);
    }
    if (reader->error) return;
    int result = crdt_sort(reader->memory, writers, count, sizeof *writers, entity_order);
    if (result) crdt_read_fail(reader, result);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (kept && entity_order(&writers[kept - 1], &writers[i]) == 0) kept--;
        writers[kept++] = writers[i];
    }
    delta->writers = writers;
    delta->writer_count = kept;
}

int crdt_delta_decode(const crdt_memory *memory, crdt_bytes bytes, crdt_delta *ret_delta) {
    crdt_delta delta = {0};
    if (bytes.len == 0) {
        *ret_delta = delta;
        return 0;
    }
    crdt_reader reader = crdt_reader_of(bytes, memory);
    uint8_t tag = crdt_read_u8(&reader);
    if (tag != CRDT_DELTA_ACTIONS && tag != CRDT_DELTA_CAUSAL_ACTIONS) return CRDT_EDECODE;
    delta.kind = (crdt_delta_kind)tag;
    read_actions(&reader, &delta);
    if (delta.kind == CRDT_DELTA_CAUSAL_ACTIONS) {
        crdt_read_fixed(&reader, &delta.id, 32);
        crdt_read_hlc(&reader, &delta.hlc);
        read_writers(&reader, &delta);
        delta.has_signer_account = crdt_read_bool(&reader);
        if (delta.has_signer_account) crdt_read_fixed(&reader, &delta.signer_account, 32);
    }
    int result = crdt_read_end(&reader);
    if (!result) *ret_delta = delta;
    return result;
}

int crdt_delta_encode(const crdt_memory *memory, const crdt_delta *delta, crdt_bytes *ret_bytes) {
    crdt_writer writer = crdt_writer_of(memory);
    crdt_write_u8(&writer, (uint8_t)delta->kind);
    crdt_write_u32(&writer, delta->action_count);
    for (uint32_t i = 0; i < delta->action_count; i++)
        crdt_write_action(&writer, &delta->actions[i]);
    if (delta->kind == CRDT_DELTA_CAUSAL_ACTIONS) {
        crdt_write_fixed(&writer, &delta->id, 32);
        crdt_write_hlc(&writer, &delta->hlc);
        crdt_write_u32(&writer, delta->writer_count);
        for (uint32_t i = 0; i < delta->writer_count; i++) {
            const crdt_entity_writers *entry = &delta->writers[i];
            crdt_write_fixed(&writer, &entry->entity, 32);
            crdt_write_u32(&writer, entry->writers.count);
            for (uint32_t k = 0; k < entry->writers.count; k++) {
                crdt_write_fixed(&writer, &entry->writers.items[k].account, 32);
                crdt_write_u8(&writer, entry->writers.items[k].mask);
            }
        }
        crdt_write_u8(&writer, delta->has_signer_account);
        if (delta->has_signer_account) crdt_write_fixed(&writer, &delta->signer_account, 32);
    }
    return crdt_write_end(&writer, ret_bytes);
}

/* --- delta id --- */

static void write_text(crdt_writer *writer, const char *text) {
    crdt_write_fixed(writer, text, __builtin_strlen(text));
}

static void write_unsigned_type(crdt_writer *writer, const crdt_storage_type *type) {
    crdt_storage_type bare = *type;
    crdt_signature signature;
    if (type->signature) {
        signature = *type->signature;
        __builtin_memset(signature.signature, 0, sizeof signature.signature);
        bare.signature = &signature;
    }
    crdt_write_storage_type(writer, &bare);
}

int crdt_delta_id(const crdt_env *env, const uint8_t (*parents)[32], size_t parent_count,
                  const crdt_action *actions, size_t action_count, crdt_hash *ret_id) {
    crdt_writer writer = crdt_writer_of(&env->memory);
    for (size_t i = 0; i < parent_count; i++) crdt_write_fixed(&writer, parents[i], 32);
    for (size_t i = 0; i < action_count; i++) {
        const crdt_action *action = &actions[i];
        if (action->kind == CRDT_ACTION_DELETE) {
            write_text(&writer, "delete");
            crdt_write_fixed(&writer, &action->id, 32);
            crdt_write_u64(&writer, action->deleted_at);
        } else {
            write_text(&writer, action->kind == CRDT_ACTION_ADD ? "add" : "update");
            crdt_write_fixed(&writer, &action->id, 32);
            crdt_write_fixed(&writer, action->data.data, action->data.len);
            crdt_write_children(&writer, action->ancestors);
            crdt_write_u64(&writer, action->metadata.updated_at);
        }
        write_unsigned_type(&writer, &action->metadata.storage);
    }
    crdt_bytes preimage;
    int result = crdt_write_end(&writer, &preimage);
    if (!result) env->sha256(&preimage, 1, ret_id->bytes);
    return result;
}

/* --- signing --- */

int crdt_action_payload(const crdt_env *env, const crdt_action *action, uint8_t ret_payload[32]) {
    const crdt_storage_type *storage = &action->metadata.storage;
    crdt_writer writer = crdt_writer_of(&env->memory);
    write_text(&writer, action->kind == CRDT_ACTION_DELETE ? "v2_delete" : "v2_upsert");
    crdt_write_fixed(&writer, &action->id, 32);
    if (action->kind == CRDT_ACTION_DELETE)
        crdt_write_u64(&writer, action->deleted_at);
    else
        crdt_write_fixed(&writer, action->data.data, action->data.len);
    crdt_write_u8(&writer, SIGNED_TAGS[storage->kind]);
    if (storage->kind == CRDT_USER || storage->kind == CRDT_SHARED_MEMBER)
        crdt_write_fixed(&writer, &storage->subject, 32);
    if (storage->kind == CRDT_SHARED) {
        crdt_write_u32(&writer, storage->writers.count);
        for (uint32_t i = 0; i < storage->writers.count; i++) {
            crdt_write_fixed(&writer, &storage->writers.items[i].account, 32);
            crdt_write_u8(&writer, storage->writers.items[i].mask);
        }
    }
    if (storage->kind != CRDT_PUBLIC && storage->kind != CRDT_FROZEN) {
        crdt_write_u8(&writer, storage->signature != NULL);
        if (storage->signature) {
            crdt_write_u64(&writer, storage->signature->nonce);
            crdt_write_u8(&writer, storage->signature->has_signer);
            if (storage->signature->has_signer)
                crdt_write_fixed(&writer, &storage->signature->signer, 32);
        }
    }
    crdt_bytes preimage;
    int result = crdt_write_end(&writer, &preimage);
    if (!result) env->sha256(&preimage, 1, ret_payload);
    return result;
}

bool crdt_action_is_placeholder(const crdt_action *action) {
    static const uint8_t placeholder[64];
    const crdt_signature *signature = action->metadata.storage.signature;
    return signature && crdt_compare(signature->signature, placeholder, 64) == 0;
}

static int sign_action(const crdt_env *env, crdt_action *action, crdt_sign_fn sign, void *user) {
    crdt_signature *signature = crdt_alloc_array(&env->memory, 1, sizeof *signature);
    if (!signature) return CRDT_ENOMEM;
    *signature = *action->metadata.storage.signature;
    signature->nonce =
        action->kind == CRDT_ACTION_DELETE ? action->deleted_at : action->metadata.updated_at;
    action->metadata.storage.signature = signature;
    uint8_t payload[32];
    int result = crdt_action_payload(env, action, payload);
    return result ? result : sign(user, payload, signature->signature);
}

int crdt_delta_sign(const crdt_env *env, crdt_bytes artifact, crdt_sign_fn sign, void *user,
                    crdt_signed_delta *ret_signed) {
    crdt_signed_delta signed_delta = {0};
    int result = crdt_delta_decode(&env->memory, artifact, &signed_delta.delta);
    if (result) return result;
    if (signed_delta.delta.kind != CRDT_DELTA_ACTIONS) return CRDT_EDECODE;
    uint32_t count = signed_delta.delta.action_count;
    crdt_action *actions = crdt_alloc_array(&env->memory, count, sizeof *actions);
    uint32_t *signed_at = crdt_alloc_array(&env->memory, count, sizeof *signed_at);
    if (!actions || !signed_at) return CRDT_ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        actions[i] = signed_delta.delta.actions[i];
        if (!crdt_action_is_placeholder(&actions[i])) continue;
        result = sign_action(env, &actions[i], sign, user);
        if (result) return result;
        signed_at[signed_delta.signed_count++] = i;
    }
    signed_delta.delta.actions = actions;
    signed_delta.signed_at = signed_at;
    result = crdt_delta_encode(&env->memory, &signed_delta.delta, &signed_delta.artifact);
    if (!result) *ret_signed = signed_delta;
    return result;
}
