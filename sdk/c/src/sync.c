/* What the node calls by itself: taking a remote delta in, and merging state bytes (runtime-abi.md
 * 7, 13). */
#include "runtime.h"

#ifdef __wasm__
#define SYNC_EXPORT(name) __attribute__((export_name(#name)))
#else
#define SYNC_EXPORT(name)
#endif

SYNC_EXPORT(__calimero_register_merge) void app_export_register_merge(void);
SYNC_EXPORT(__calimero_sync_next) void app_export_sync_next(void);
SYNC_EXPORT(__calimero_merge_root_state) void app_export_merge_root_state(void);

/* Nothing to register: the state entry only names its collections, and each of these merges by the
 * rules of all entities. */
void app_export_register_merge(void) {}

static bool verify(void *user, const uint8_t public_key[32], const uint8_t payload[32],
                   const uint8_t signature[64]) {
    (void)user;
    host_buffer buffers[3] = {app_buffer(signature, 64), app_buffer(public_key, 32),
                              app_buffer(payload, 32)};
    return env_ed25519_verify(app_address(&buffers[0]), app_address(&buffers[1]),
                              app_address(&buffers[2])) == 1;
}

void app_export_sync_next(void) {
    app_open_store();
    env_input(APP_REGISTER);
    crdt_delta delta;
    if (crdt_delta_decode(&app.env.memory, app_register_read(&app.env.memory), &delta))
        app_panic("fatal: sync failed: the delta does not decode");
    crdt_apply_context context = {
        .now_ns = app_time_ns(),
        .verify = verify,
        .has_signer_account = delta.has_signer_account,
        .signer_account = delta.signer_account,
        .writers = delta.writers,
        .writer_count = delta.writer_count,
        .has_delta = delta.kind == CRDT_DELTA_CAUSAL_ACTIONS,
        .delta_id = delta.id,
        .delta_hlc = delta.hlc,
    };
    if (!context.has_delta) {
        context.has_signer_account = true;
        __builtin_memcpy(context.signer_account.bytes, app_account_id(), 32);
    }
    for (uint32_t i = 0; i < delta.action_count; i++) {
        crdt_refusal refusal;
        app_must(crdt_store_apply(app.store, &delta.actions[i], &context, &refusal));
        if (refusal > CRDT_REFUSED_FATAL)
            app_panic("fatal: sync failed: action %u of %u is refused (%d)", i + 1,
                      delta.action_count, (int)refusal);
        if (refusal)
            app_log("sync: dropped action %u of %u (%d)", i + 1, delta.action_count, (int)refusal);
    }
    app_commit();
}

/* Two state entries of one application are the same list of ids; should they differ (another
 * version added fields), the newer stands, and of equally new ones the larger, on every node alike.
 */
void app_export_merge_root_state(void) {
    app_open_store();
    env_input(APP_REGISTER);
    crdt_reader reader = crdt_reader_of(app_register_read(&app.env.memory), &app.env.memory);
    crdt_bytes existing = crdt_read_bytes(&reader), incoming = crdt_read_bytes(&reader);
    uint64_t existing_created_at = crdt_read_u64(&reader);
    uint64_t existing_time = crdt_read_u64(&reader), incoming_time = crdt_read_u64(&reader);
    crdt_writer writer = crdt_writer_of(&app.env.memory);
    if (crdt_read_end(&reader)) {
        crdt_write_u8(&writer, 1);
        crdt_write_bytes(&writer, app_bytes_from(APP_LITERAL("the request does not decode")));
    } else {
        app_text a = app_text_from(existing), b = app_text_from(incoming);
        bool bootstrap = existing_created_at == existing_time;
        bool take = bootstrap || incoming_time > existing_time ||
                    (incoming_time == existing_time && app_text_compare(b, a) > 0);
        crdt_write_u8(&writer, 0);
        crdt_write_bytes(&writer, take ? incoming : existing);
    }
    crdt_bytes response;
    app_must(crdt_write_end(&writer, &response));
    app_return(0, app_text_from(response));
}
