/* A received delta: read, opened, located (network-sync.md 5, 6.1, 6.2, 6.6). See context.h. */
#include <stdlib.h>
#include <string.h>

#include "sync/context.h"

static const cal_hash zero;

enum { DELTA_ARENA_MAX = 16 * 1024 * 1024, DELTA_OVERHEAD = 1024 };

static sync_delta *new_delta(sync_context *context, const cal_peer_id *peer, cal_slice bytes) {
    sync_delta *delta = calloc(1, sizeof *delta + bytes.len);
    if (!delta) return NULL;
    delta->context = context;
    delta->peer = *peer;
    delta->len = bytes.len;
    memcpy(delta->bytes, bytes.data, bytes.len);
    delta->cost = sizeof *delta + 2 * bytes.len + DELTA_OVERHEAD;
    delta->came_ms = sync_now_ms(context->sync);
    cal_arena_init(&delta->arena, DELTA_ARENA_MAX);
    cal_list_init(&delta->link);
    return delta;
}

void sync_delta_free(sync_delta *delta) {
    if (!delta) return;
    for (size_t i = 0; i < delta->absent_count; i++)
        if (delta->absent[i].delta) cal_list_remove(&delta->absent[i].link);
    cal_secret_wipe(&delta->key);
    cal_arena_deinit(&delta->arena);
    free(delta);
}

static void set_position(sync_delta *delta) {
    delta->record.has_position = delta->wire.has_position;
    delta->record.position = (const uint8_t(*)[32])(const void *)delta->wire.position.heads;
    delta->record.position_count = delta->wire.position.count;
}

static void set_hlc(sync_delta *delta) {
    delta->record.hlc.time = delta->wire.hlc.time;
    cal_write_u64le(delta->record.hlc.id, delta->wire.hlc.id.low);
    cal_write_u64le(delta->record.hlc.id + 8, delta->wire.hlc.id.high);
}

/* What either form must have: some parent (no more than the decoders take), and a genesis, of which
 * nobody is the author, only the zero one (governance.md 18.2, G10). */
static bool well_formed(const sync_delta *delta) {
    const cal_delta_record *record = &delta->record;
    bool first = record->parent_count == 1 && memcmp(record->parents[0], &zero, 32) == 0;
    return record->parent_count > 0 && (record->has_author || first);
}

sync_delta *sync_delta_of_gossip(sync_context *context, const cal_p2p_message *message) {
    const cal_peer_id *via = message->via.len ? &message->via : &message->author;
    sync_delta *delta = new_delta(context, via, cal_slice_of(message->data, message->len));
    if (!delta) return NULL;
    gov_state_delta *wire = &delta->wire;
    int rc = gov_state_delta_decode(cal_slice_of(delta->bytes, delta->len), &delta->arena, wire);
    delta->sealed = true;
    delta->record = (cal_delta_record){
        .id = wire->delta,
        .parents = (const uint8_t(*)[32])(const void *)wire->parents,
        .parent_count = wire->parent_count,
        .has_author = true,
        .has_app_key = wire->has_app_key,
        .app_key = wire->app_key,
    };
    memcpy(delta->record.author.bytes, wire->author_key, 32);
    memcpy(delta->record.signature, wire->signature, sizeof delta->record.signature);
    if (rc == 0) {
        set_position(delta);
        set_hlc(delta);
    }
    if (rc == 0 && memcmp(&wire->context, &context->id, sizeof context->id) == 0 &&
        well_formed(delta) && wire->has_signature && wire->has_position)
        return delta;
    sync_delta_free(delta);
    return NULL;
}

static int read_answer(sync_delta *delta, const sync_answer *answer) {
    sync_causal_delta causal;
    gov_state_delta *wire = &delta->wire;
    int rc =
        sync_causal_delta_decode(cal_slice_of(delta->bytes, delta->len), &delta->arena, &causal);
    if (rc != 0) return rc;
    uint8_t *artifact = cal_arena_alloc(&delta->arena, causal.actions.len + 1);
    if (!artifact) return CAL_ENOMEM;
    artifact[0] = CRDT_DELTA_ACTIONS;
    memcpy(artifact + 1, causal.actions.data, causal.actions.len);
    wire->hlc = (gov_hlc){
        .time = causal.hlc_time,
        .id = {.low = cal_read_u64le(causal.hlc_id), .high = cal_read_u64le(causal.hlc_id + 8)}};
    wire->has_position = answer->has_position;
    if (answer->has_position) {
        cal_borsh in = cal_borsh_read(answer->position);
        gov_position_read(&in, &wire->position);
        if (cal_borsh_end(&in)) return CAL_EDECODE;
    }
    wire->has_signature = answer->has_signature;
    delta->record =
        (cal_delta_record){.id = causal.id,
                           .parents = (const uint8_t(*)[32])(const void *)causal.parents,
                           .parent_count = causal.parent_count,
                           .artifact = cal_slice_of(artifact, causal.actions.len + 1),
                           .has_author = memcmp(&answer->author, &zero, 32) != 0,
                           .author = answer->author};
    if (wire->hlc.id.low == 0 && wire->hlc.id.high == 0) return CAL_EDECODE;
    memcpy(delta->record.signature, answer->signature, sizeof delta->record.signature);
    set_position(delta);
    set_hlc(delta);
    return 0;
}

sync_delta *sync_delta_of_answer(sync_context *context, const cal_peer_id *peer,
                                 const sync_answer *answer) {
    sync_delta *delta = new_delta(context, peer, answer->bytes);
    if (!delta) return NULL;
    delta->fetched = true;
    bool ok = read_answer(delta, answer) == 0 && well_formed(delta);
    if (ok && delta->record.has_author) ok = delta->wire.has_signature && delta->wire.has_position;
    if (ok) return delta;
    sync_delta_free(delta);
    return NULL;
}

bool sync_delta_add(sync_delta *delta, cal_hash root, cal_slice events,
                    const cal_blob_id *app_key) {
    uint8_t *copy = cal_arena_copy(&delta->arena, events.data, events.len);
    if (events.len && !copy) return false;
    delta->record.events = cal_slice_of(copy, events.len);
    delta->record.root = root;
    delta->record.has_app_key = app_key != NULL;
    if (app_key) delta->record.app_key = *app_key;
    delta->cost += events.len;
    return true;
}

/* --- on a worker --- */

static int refuse(sync_delta *delta, int code, const char *why) {
    delta->why = why;
    return code;
}

int sync_delta_stored(cal_snapshot *snapshot, const cal_context_id *context, const uint8_t id[32]) {
    uint8_t key[64];
    memcpy(key, context->bytes, 32);
    memcpy(key + 32, id, 32);
    return cal_snapshot_get(snapshot, CAL_COLUMN_DELTA, cal_slice_of(key, sizeof key), NULL);
}

int sync_delta_prove(sync_delta *delta, cal_snapshot *snapshot) {
    const cal_delta_record *record = &delta->record;
    if (snapshot && sync_delta_stored(snapshot, &delta->context->id, record->id.bytes) == 0)
        return CAL_EEXISTS;
    /* nobody's: its place in the graph is all that vouches for it */
    delta->proved = !record->has_author ||
                    gov_delta_verify(record->author.bytes, &delta->context->id, &record->id,
                                     &delta->wire.position, &delta->wire.hlc, record->signature);
    return delta->proved ? 0 : refuse(delta, CAL_EVERIFY, "its author's signature is wrong");
}

static int open_seal(sync_delta *delta) {
    gov_delta_payload payload;
    cal_buffer plain;
    if (!delta->sealed) return 0;
    cal_buffer_init(&plain, 2 * GOV_DELTA_PLAIN_MAX);
    int rc = gov_delta_open(&delta->key, delta->wire.nonce, delta->wire.sealed, &plain, &payload);
    uint8_t *artifact = NULL, *events = NULL;
    if (rc == 0) {
        artifact = cal_arena_copy(&delta->arena, payload.artifact.data, payload.artifact.len);
        events = cal_arena_copy(&delta->arena, payload.events.data,
                                payload.has_events ? payload.events.len : 0);
        if (!artifact || !events) rc = CAL_ENOMEM;
    }
    if (rc == 0) {
        delta->record.root = payload.root;
        delta->record.artifact = cal_slice_of(artifact, payload.artifact.len);
        delta->record.events = cal_slice_of(events, payload.has_events ? payload.events.len : 0);
        delta->sealed = false;
    }
    cal_secret_wipe(&delta->key);
    cal_buffer_deinit(&plain);
    return rc == 0 ? 0 : refuse(delta, rc, "it is not sealed with the key that it names");
}

static bool touches_writers(const crdt_delta *decoded) {
    for (uint32_t i = 0; i < decoded->action_count; i++) {
        crdt_storage_kind kind = decoded->actions[i].metadata.storage.kind;
        if (kind == CRDT_SHARED || kind == CRDT_SHARED_MEMBER) return true;
    }
    return false;
}

static int check_address(sync_delta *delta) {
    cal_delta_record *record = &delta->record;
    cal_arena arena; /* the decoded actions are of no use afterwards */
    cal_arena_init(&arena, DELTA_ARENA_MAX);
    crdt_env env = cal_crdt_env(&arena);
    crdt_delta decoded;
    crdt_hash id;
    int rc = crdt_delta_decode(
        &env.memory, crdt_bytes_of(record->artifact.data, record->artifact.len), &decoded);
    if (rc == 0 && decoded.kind != CRDT_DELTA_ACTIONS) rc = CAL_EDECODE;
    if (rc == 0)
        rc = crdt_delta_id(&env, record->parents, record->parent_count, decoded.actions,
                           decoded.action_count, &id);
    if (rc == 0) delta->shared = touches_writers(&decoded);
    if (rc == 0 && memcmp(id.bytes, record->id.bytes, sizeof id.bytes) != 0) rc = CAL_EVERIFY;
    cal_arena_deinit(&arena);
    if (rc == CAL_ENOMEM) return rc;
    return rc == 0 ? 0 : refuse(delta, rc, "its id is not that of its parents and actions");
}

int sync_delta_open(sync_delta *delta) {
    if (delta->opened) return 0;
    int rc = open_seal(delta);
    if (rc == 0) rc = check_address(delta);
    delta->opened = rc == 0;
    return rc;
}

int sync_delta_locate(sync_delta *delta, cal_snapshot *snapshot, const cal_past *past) {
    const cal_delta_record *record = &delta->record;
    const cal_context_id *context = &delta->context->id;
    int rc = sync_delta_stored(snapshot, context, record->id.bytes);
    if (rc != CAL_ENOTFOUND) return rc == 0 ? CAL_EEXISTS : rc;
    delta->compacted = record->has_author && cal_past_has(past, &record->author, record->hlc.time);
    if (delta->compacted) return CAL_EEXISTS;
    delta->absent_count = 0;
    delta->absent =
        cal_arena_alloc_array(&delta->arena, record->parent_count, sizeof *delta->absent);
    if (!delta->absent) return CAL_ENOMEM;
    for (size_t i = 0; i < record->parent_count; i++) {
        if (memcmp(record->parents[i], &zero, 32) == 0) continue;
        rc = sync_delta_stored(snapshot, context, record->parents[i]);
        if (rc != 0 && rc != CAL_ENOTFOUND) return rc;
        if (rc == CAL_ENOTFOUND)
            delta->absent[delta->absent_count++] = (sync_absent){.parent = (uint32_t)i};
    }
    return 0;
}

int sync_delta_writers(sync_delta *delta) {
    if (!delta->shared) return 0;
    return cal_context_writers(delta->context->sync->options.store, &delta->context->id,
                               &delta->record, &delta->arena, &delta->writers,
                               &delta->writer_count);
}
