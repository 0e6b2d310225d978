/* Histories made from arbitrary bytes, applied and written locally over a small set of entities:
 * the tree that is left has no flaw. Each step is a few bytes: what, which entity, which ancestors,
 * when. Then the same bytes as a delta from a peer. */
#include <stdlib.h>

#include "base/arena.h"
#include "base/sorted.h"
#include "crdt/crdt.h"
#include "crypto/crypto.h"

enum { MEMORY_MAX = 64 << 20, STEP_SIZE = 6, STEPS_MAX = 64, IDS = 8 };

typedef struct row {
    size_t len;
    uint8_t bytes[];
} row;

typedef struct world {
    cal_arena arena, levels[CRDT_TREE_DEPTH_MAX + 1];
    size_t open;
    cal_sorted rows;
} world;

static void *take(void *user, size_t len) { return cal_arena_alloc(user, len); }

static void sha256(const crdt_bytes *parts, size_t count, uint8_t ret_hash[32]) {
    cal_slice slices[4];
    if (count > 4) abort();
    for (size_t i = 0; i < count; i++) slices[i] = cal_slice_of(parts[i].data, parts[i].len);
    cal_sha256_parts(slices, count, ret_hash);
}

static int read_row(void *user, const uint8_t key[32], crdt_bytes *ret_value) {
    world *w = user;
    const row *found = cal_sorted_get(&w->rows, cal_slice_of(key, 32));
    if (!found) return 0;
    void *copy =
        cal_arena_copy(w->open ? &w->levels[w->open - 1] : &w->arena, found->bytes, found->len);
    if (!copy) return CRDT_ENOMEM;
    *ret_value = crdt_bytes_of(copy, found->len);
    return 1;
}

static int write_row(void *user, const uint8_t key[32], crdt_bytes value) {
    world *w = user;
    void *old = NULL;
    row *made = malloc(sizeof *made + value.len + 1);
    if (!made) return CRDT_ENOMEM;
    made->len = value.len;
    if (value.len) memcpy(made->bytes, value.data, value.len);
    if (cal_sorted_put(&w->rows, cal_slice_of(key, 32), made, &old) != 0) {
        free(made);
        return CRDT_ENOMEM;
    }
    free(old);
    return 0;
}

static int remove_row(void *user, const uint8_t key[32]) {
    world *w = user;
    free(cal_sorted_remove(&w->rows, cal_slice_of(key, 32)));
    return 0;
}

/* A signature is good when it starts with 1: the fuzzer shall get through. */
static bool verify(void *user, const uint8_t public_key[32], const uint8_t payload[32],
                   const uint8_t signature[64]) {
    (void)user, (void)public_key, (void)payload;
    return signature[0] == 1;
}

static int enter(void *user, crdt_memory *ret_memory) {
    world *w = user;
    cal_arena *arena = &w->levels[w->open++];
    cal_arena_init(arena, MEMORY_MAX);
    *ret_memory = (crdt_memory){arena, take};
    return 0;
}

static void leave(void *user) {
    world *w = user;
    cal_arena_deinit(&w->levels[--w->open]);
}

static int flaw(void *user, crdt_flaw found, const crdt_id *id, const crdt_id *parent) {
    (void)user, (void)found, (void)id, (void)parent;
    abort();
}

static crdt_id id_of(unsigned number) {
    crdt_id id;
    memset(&id, (int)(number % IDS + 1), sizeof id);
    return id;
}

/* The shape of a context: id 1 is the root; some ids are of other storage types. */
static crdt_storage_type storage_of(unsigned number, const crdt_signature *signature) {
    static const crdt_grant grants[] = {{{{9}}, CRDT_MASK_FULL}};
    crdt_storage_type type = {0};
    if (number % IDS == 5) type = (crdt_storage_type){.kind = CRDT_USER, .signature = signature};
    if (number % IDS == 6)
        type.kind = CRDT_SHARED, type.writers = (crdt_grants){grants, 1},
        type.signature = signature;
    if (number % IDS == 7)
        type = (crdt_storage_type){
            .kind = CRDT_SHARED_MEMBER, .subject = id_of(6), .signature = signature};
    return type;
}

static int local_step(crdt_store *store, const uint8_t *step) {
    crdt_id id = id_of(step[1]), parent = id_of(step[2]);
    const crdt_index *above;
    int result;
    if (step[0] & 1) {
        result = crdt_store_delete(store, &id, step[3]);
        return result == CRDT_ENOTFOUND ? 0 : result;
    }
    bool is_root = step[1] % IDS == 0;
    if (!is_root && (crdt_id_equal(&id, &parent) || crdt_store_index(store, &parent, &above) != 0))
        return 0;
    crdt_put put = {.id = id,
                    .parent = is_root ? NULL : &parent,
                    .data = crdt_bytes_of(step, STEP_SIZE),
                    .now_ns = step[3]};
    return crdt_store_put(store, &put);
}

/* What an action points to must outlive the flush. */
static int remote_step(crdt_store *store, const crdt_memory *memory, const uint8_t *step) {
    crdt_signature *signature = crdt_alloc_array(memory, 1, sizeof *signature);
    if (!signature) return CRDT_ENOMEM;
    *signature = (crdt_signature){.signature = {step[5] & 1}, .nonce = step[3], .has_signer = true};
    crdt_child ancestors[2] = {{.id = id_of(step[2])}, {.id = id_of(step[2] >> 4)}};
    crdt_action action = {
        .kind = step[0] & 1   ? CRDT_ACTION_DELETE
                : step[0] & 2 ? CRDT_ACTION_UPDATE
                              : CRDT_ACTION_ADD,
        .id = id_of(step[1]),
        .data = crdt_bytes_of(step, step[5] % STEP_SIZE),
        .ancestors = {ancestors, step[4] % 3},
        .deleted_at = step[3],
        .metadata = {.created_at = step[4],
                     .updated_at = step[3],
                     .storage = storage_of(step[1], signature)},
    };
    crdt_apply_context context = {
        .now_ns = 1000, .verify = verify, .has_signer_account = true, .has_delta = true};
    context.signer_account = step[1] % IDS == 5 ? (crdt_id){{0}} : (crdt_id){{9}};
    context.delta_id.bytes[0] = step[3];
    context.delta_hlc = (crdt_hlc){.time = step[3], .id = {1}};
    crdt_refusal refusal;
    int result = crdt_store_apply(store, &action, &context, &refusal);
    return result ? result : refusal > CRDT_REFUSED_FATAL ? CRDT_EDENIED : 0;
}

static void check_tree(world *w) {
    crdt_tree_check check = {.sha256 = sha256,
                             .user = w,
                             .enter = enter,
                             .leave = leave,
                             .read = read_row,
                             .flaw = flaw,
                             .entity_max = 10000};
    crdt_tree_summary summary;
    crdt_id root = id_of(0);
    uint8_t key[32];
    crdt_bytes record;
    crdt_storage_key(sha256, CRDT_KEY_INDEX, &root, key);
    if (read_row(w, key, &record) == 1) crdt_tree_verify(&check, &root, &summary);
}

static void apply_peer_delta(crdt_store *store, const crdt_memory *memory, crdt_bytes bytes) {
    crdt_delta delta;
    crdt_apply_context context = {.now_ns = UINT64_MAX, .verify = verify, .has_delta = true};
    crdt_refusal refusal;
    if (crdt_delta_decode(memory, bytes, &delta) != 0) return;
    for (uint32_t i = 0; i < delta.action_count; i++)
        if (crdt_store_apply(store, &delta.actions[i], &context, &refusal) ||
            refusal > CRDT_REFUSED_FATAL)
            return;
    crdt_store_flush(store);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static world w;
    crdt_rows table = {&w, read_row, write_row, remove_row, NULL};
    crdt_env env = {{&w.arena, take}, sha256};
    crdt_id root = id_of(0);
    crdt_store *store;
    crdt_bytes artifact;
    cal_arena_init(&w.arena, MEMORY_MAX);
    cal_sorted_init(&w.rows);
    for (size_t i = 0; i < STEPS_MAX && (i + 1) * STEP_SIZE <= size; i++) {
        const uint8_t *step = data + i * STEP_SIZE;
        if (crdt_store_open(&env, &table, &root, &store)) break;
        int result = step[0] & 4 ? local_step(store, step) : remote_step(store, &env.memory, step);
        if (result || crdt_store_flush(store) || crdt_store_artifact(store, &artifact)) continue;
        check_tree(&w);
    }
    if (crdt_store_open(&env, &table, &root, &store) == 0)
        apply_peer_delta(store, &env.memory, crdt_bytes_of(data, size));
    for (cal_sorted_node *node = w.rows.head[0]; node; node = node->next[0]) free(node->value);
    cal_sorted_deinit(&w.rows);
    cal_arena_deinit(&w.arena);
    return 0;
}
