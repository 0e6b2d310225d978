/* What a run becomes: signatures in the delta and in the stored rows, rotations in the root, and
 * all of it in the sealed message. The state is made as a guest makes it, without one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "context/commit.h"

enum { TIME = 10 };

typedef struct world {
    cal_contexts contexts;
    cal_secret seed; /* of the device */
    cal_grant grant;
    crdt_clock clock;
    struct guest guest;
    cal_context_record base;
    cal_buffer message, plain;
    cal_batch *batch;
} world;

static const crdt_id account = {{9}}, plain_entity = {{1}}, owned = {{2}}, shared = {{3}};
static const crdt_grant grants[] = {{{{9}}, CRDT_MASK_FULL}};

static void sign(void *user, cal_slice message, uint8_t ret_signature[64]) {
    cal_sign(&((world *)user)->seed, message, ret_signature);
}

/* --- the guest's part --- */

static int read_row(void *user, const uint8_t key[32], crdt_bytes *ret_value) {
    world *w = user;
    cal_buffer row;
    cal_buffer_init(&row, CAL_STORE_VALUE_MAX);
    int found = cal_overlay_read(&w->guest.overlay, CAL_VM_STATE, cal_slice_of(key, 32), &row);
    if (found == 1)
        *ret_value = crdt_bytes_of(cal_arena_copy(&w->guest.arena, row.data, row.len), row.len);
    cal_buffer_deinit(&row);
    return found;
}

static int write_row(void *user, const uint8_t key[32], crdt_bytes value) {
    world *w = user;
    return cal_overlay_write(&w->guest.overlay, CAL_VM_STATE, cal_slice_of(key, 32),
                             cal_slice_of(value.data, value.len), NULL);
}

static int remove_row(void *user, const uint8_t key[32]) {
    (void)user, (void)key;
    fail();
    return 0;
}

static bool verify(void *user, const uint8_t public_key[32], const uint8_t payload[32],
                   const uint8_t signature[64]) {
    (void)user, (void)public_key, (void)payload, (void)signature;
    return true; /* placeholders */
}

static void index_of(world *w, const crdt_id *id, crdt_index *ret_index) {
    crdt_env env = cal_crdt_env(&w->guest.arena);
    uint8_t key[32];
    crdt_bytes row;
    crdt_storage_key(env.sha256, CRDT_KEY_INDEX, id, key);
    assert_int_equal(read_row(w, key, &row), 1);
    assert_int_equal(crdt_index_decode(&env.memory, row, ret_index), 0);
}

static crdt_id root_id(const world *w) {
    crdt_id id;
    memcpy(id.bytes, w->guest.id.bytes, 32);
    return id;
}

/* Applies them to the overlay, and leaves them and the root as the outcome. */
static void run(world *w, crdt_action *actions, uint32_t count) {
    crdt_env env = cal_crdt_env(&w->guest.arena);
    crdt_rows rows = {.user = w, .read = read_row, .write = write_row, .remove = remove_row};
    crdt_id id = root_id(w);
    crdt_child *root = cal_arena_alloc(&w->guest.arena, sizeof *root);
    *root = (crdt_child){.id = id};
    crdt_apply_context context = {
        .now_ns = TIME, .verify = verify, .has_signer_account = true, .signer_account = account};
    crdt_store *store;
    crdt_hash hash;
    assert_int_equal(crdt_store_open(&env, &rows, &id, &store), 0);
    for (uint32_t i = 0; i < count; i++) {
        crdt_refusal refusal;
        actions[i].ancestors = (crdt_children){root, 1};
        crdt_action applied = actions[i];
        if (applied.metadata.storage.signature) { /* rules for peers refuse a placeholder */
            crdt_signature *other = cal_arena_alloc(&w->guest.arena, sizeof *other);
            *other = *applied.metadata.storage.signature;
            other->signature[0] = 1;
            applied.metadata.storage.signature = other;
        }
        assert_int_equal(crdt_store_apply(store, &applied, &context, &refusal), 0);
        assert_int_equal(refusal, CRDT_APPLIED);
    }
    assert_int_equal(crdt_store_flush(store), 0);
    assert_int_equal(crdt_store_root_hash(store, &hash), 0);
    crdt_delta delta = {.actions = actions, .action_count = count};
    crdt_bytes artifact;
    assert_int_equal(crdt_delta_encode(&env.memory, &delta, &artifact), 0);
    w->guest.outcome = (cal_vm_outcome){.has_root = true,
                                        .has_artifact = true,
                                        .artifact = cal_slice_of(artifact.data, artifact.len)};
    memcpy(w->guest.outcome.root_hash, hash.bytes, 32);
}

static crdt_action add(crdt_id id, crdt_storage_type storage) {
    crdt_action action = {.kind = CRDT_ACTION_ADD, .id = id, .data = crdt_bytes_of("value", 5)};
    action.metadata.created_at = action.metadata.updated_at = TIME;
    action.metadata.storage = storage;
    return action;
}

/* --- the world --- */

static void world_init(world *w) {
    *w = (world){
        .contexts = {.options = {.os = cal_os_posix(), .authority = {.user = w, .sign = sign}}},
        .grant = {.known = true, .seals = true, .key_id = {{7}}}};
    memset(w->seed.bytes, 5, sizeof w->seed.bytes);
    memset(w->grant.key.bytes, 6, sizeof w->grant.key.bytes);
    guest_init(&w->guest, &w->contexts, &(cal_context_id){{0x60}});
    cal_sign_public_key(&w->seed, w->guest.executor.device.bytes);
    cal_buffer_init(&w->grant.position, 32);
    cal_buffer_append(&w->grant.position, (uint8_t[32]){4}, 32);
    cal_buffer_init(&w->plain, SIZE_MAX);
    crdt_clock_init(&w->clock, (uint8_t[16]){1});
}

static void world_deinit(world *w) {
    cal_batch_free(w->batch);
    cal_buffer_deinit(&w->message);
    cal_buffer_deinit(&w->plain);
    cal_buffer_deinit(&w->grant.position);
    guest_deinit(&w->guest);
}

static void build(world *w, struct commit *ret_commit, gov_delta_payload *ret_payload) {
    gov_state_delta sealed;
    *ret_commit = (struct commit){.guest = &w->guest,
                                  .base = &w->base,
                                  .grant = &w->grant,
                                  .clock = &w->clock,
                                  .message = &w->message};
    assert_int_equal(commit_build(ret_commit), 0);
    w->batch = ret_commit->batch;
    assert_int_equal(
        gov_state_delta_decode(cal_buffer_slice(&w->message), &w->guest.arena, &sealed), 0);
    assert_memory_equal(&sealed.delta, &ret_commit->head, 32);
    assert_true(gov_delta_verify(w->guest.executor.device.bytes, &w->guest.id, &sealed.delta,
                                 &sealed.position, &sealed.hlc, sealed.signature));
    assert_int_equal(
        gov_delta_open(&w->grant.key, sealed.nonce, sealed.sealed, &w->plain, ret_payload), 0);
    assert_memory_equal(&ret_payload->root, &ret_commit->root, 32);
    assert_memory_equal(&ret_commit->record.root, &ret_commit->root, 32);
}

static void check_signature(world *w, const crdt_action *action) {
    crdt_env env = cal_crdt_env(&w->guest.arena);
    const crdt_signature *signature = action->metadata.storage.signature;
    uint8_t payload[32];
    assert_non_null(signature);
    assert_int_equal(crdt_action_payload(&env, action, payload), 0);
    assert_true(cal_verify_lax(w->guest.executor.device.bytes, cal_slice_of(payload, 32),
                               signature->signature));
}

/* --- tests --- */

static void signatures_reach_delta_and_rows(void **state) {
    (void)state;
    world w;
    world_init(&w);
    crdt_signature placeholder = {.nonce = TIME, .has_signer = true};
    memcpy(placeholder.signer.bytes, w.guest.executor.device.bytes, 32);
    crdt_action actions[] = {
        add(plain_entity, (crdt_storage_type){.kind = CRDT_PUBLIC}),
        add(owned,
            (crdt_storage_type){.kind = CRDT_USER, .subject = account, .signature = &placeholder}),
    };
    run(&w, actions, 2);
    struct commit commit;
    gov_delta_payload payload;
    build(&w, &commit, &payload);
    assert_memory_equal(&commit.root, w.guest.outcome.root_hash, 32);
    crdt_memory memory = cal_crdt_memory(&w.guest.arena);
    crdt_delta delta;
    crdt_index row;
    assert_int_equal(crdt_delta_decode(&memory,
                                       crdt_bytes_of(payload.artifact.data, payload.artifact.len),
                                       &delta),
                     0);
    assert_int_equal(delta.action_count, 2);
    assert_null(delta.actions[0].metadata.storage.signature);
    check_signature(&w, &delta.actions[1]);
    index_of(&w, &owned, &row);
    assert_memory_equal(row.metadata.storage.signature, delta.actions[1].metadata.storage.signature,
                        sizeof(crdt_signature));
    index_of(&w, &plain_entity, &row);
    assert_null(row.metadata.storage.signature);
    world_deinit(&w);
}

static void a_rotation_moves_the_root(void **state) {
    (void)state;
    world w;
    world_init(&w);
    crdt_signature placeholder = {.nonce = TIME, .has_signer = true};
    memcpy(placeholder.signer.bytes, w.guest.executor.device.bytes, 32);
    crdt_action action =
        add(shared, (crdt_storage_type){
                        .kind = CRDT_SHARED, .writers = {grants, 1}, .signature = &placeholder});
    run(&w, &action, 1);
    struct commit commit;
    gov_delta_payload payload;
    build(&w, &commit, &payload);
    crdt_index row;
    crdt_id root = root_id(&w);
    index_of(&w, &root, &row);
    assert_memory_not_equal(&commit.root, w.guest.outcome.root_hash, 32);
    assert_memory_equal(&commit.root, &row.full_hash, 32);
    world_deinit(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signatures_reach_delta_and_rows),
        cmocka_unit_test(a_rotation_moves_the_root),
    };
    if (cal_crypto_init() != 0) return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
