/* Leaves and tombstones made from arbitrary bytes, taken by a context with users', shared and
 * frozen entities: the tree that is left has no flaw, and what is signed is as it was. Nobody's
 * signature verifies. The bytes: leaves and deletions as they cross the wire. */
#include <stdlib.h>
#include <string.h>

#include "base/sorted.h"
#include "context/record.h"
#include "crdt/crdt.h"
#include "crypto/crypto.h"
#include "sync/tree_view.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NOW UINT64_C(1900000000000000000)

typedef struct row {
    size_t len;
    uint8_t bytes[];
} row;
static cal_sorted rows;
static cal_arena arena;

static int read_row(void *user, const uint8_t key[32], crdt_bytes *ret_value) {
    const row *at = cal_sorted_get(&rows, cal_slice_of(key, 32));
    (void)user;
    if (!at) return 0;
    void *copy = cal_arena_copy(&arena, at->bytes, at->len);
    *ret_value = crdt_bytes_of(copy, at->len);
    return copy ? 1 : CRDT_ENOMEM;
}
static int write_row(void *user, const uint8_t key[32], crdt_bytes value) {
    row *new = malloc(sizeof *new + value.len + 1);
    void *old = NULL;
    (void)user;
    new->len = value.len;
    if (value.len) memcpy(new->bytes, value.data, value.len);
    if (cal_sorted_put(&rows, cal_slice_of(key, 32), new, &old)) abort();
    free(old);
    return 0;
}
static int remove_row(void *user, const uint8_t key[32]) {
    (void)user;
    free(cal_sorted_remove(&rows, cal_slice_of(key, 32)));
    return 0;
}
static bool believe;
static bool verify(void *user, const uint8_t key[32], const uint8_t payload[32],
                   const uint8_t signature[64]) {
    (void)user, (void)key, (void)payload, (void)signature;
    return believe;
}

static crdt_store *open_store(const crdt_id *root) {
    static const crdt_rows table = {NULL, read_row, write_row, remove_row, NULL};
    crdt_store *store;
    crdt_env env = cal_crdt_env(&arena);
    if (crdt_store_open(&env, &table, root, &store)) abort();
    return store;
}

static const crdt_id root_id = {{0x60}}, map_id = {{0xc0}}, user_id = {{0xa1}},
                     shared_id = {{0xa2}}, frozen_id = {{0xa3}}, plain_id = {{0xa4}};
static const crdt_id account = {{7}};

static void add(crdt_store *store, const crdt_id *id, const crdt_id *parent, crdt_bytes data,
                crdt_storage_type storage) {
    static const crdt_signature signature = {.signature = {1}, .nonce = 100, .has_signer = true};
    crdt_child list[2] = {{.id = parent ? *parent : root_id}, {.id = root_id}};
    crdt_action action = {.kind = CRDT_ACTION_ADD,
                          .id = *id,
                          .data = data,
                          .metadata = {.created_at = 100, .updated_at = 100, .storage = storage}};
    crdt_apply_context context = {
        .now_ns = NOW, .verify = verify, .has_signer_account = true, .signer_account = account};
    crdt_refusal refusal;
    if (parent) action.ancestors = (crdt_children){list, crdt_id_equal(parent, &root_id) ? 1u : 2u};
    if (storage.kind == CRDT_USER || storage.kind == CRDT_SHARED)
        action.metadata.storage.signature = &signature;
    if (crdt_store_apply(store, &action, &context, &refusal) || refusal) abort();
}

static void make_state(void) {
    static crdt_grant grant = {{{7}}, CRDT_MASK_FULL};
    crdt_store *store = open_store(&root_id);
    uint8_t frozen[3 + 64] = {0};
    cal_sha256(cal_slice_of("abc", 3), frozen);
    memcpy(frozen + 32, "abc", 3);
    memcpy(frozen + 35, frozen_id.bytes, 32);
    believe = true;
    add(store, &root_id, NULL, crdt_bytes_of(root_id.bytes, 32), (crdt_storage_type){0});
    add(store, &map_id, &root_id, crdt_bytes_of(map_id.bytes, 32), (crdt_storage_type){0});
    add(store, &user_id, &map_id, crdt_bytes_of("user", 4),
        (crdt_storage_type){.kind = CRDT_USER, .subject = account});
    add(store, &shared_id, &map_id, crdt_bytes_of("shared", 6),
        (crdt_storage_type){.kind = CRDT_SHARED, .writers = {&grant, 1}});
    add(store, &frozen_id, &map_id, crdt_bytes_of(frozen, sizeof frozen),
        (crdt_storage_type){.kind = CRDT_FROZEN});
    add(store, &plain_id, &map_id, crdt_bytes_of("plain", 5), (crdt_storage_type){0});
    if (crdt_store_flush(store)) abort();
    believe = false;
}

/* --- the tree --- */

static cal_arena levels[CRDT_TREE_DEPTH_MAX + 1];
static int level;
static int enter(void *user, crdt_memory *ret_memory) {
    (void)user;
    cal_arena_init(&levels[level], 64 << 20);
    *ret_memory = cal_crdt_memory(&levels[level++]);
    return 0;
}
static void leave(void *user) {
    (void)user;
    cal_arena_deinit(&levels[--level]);
}
static int flaw(void *user, crdt_flaw kind, const crdt_id *id, const crdt_id *parent) {
    (void)user, (void)kind, (void)id, (void)parent;
    abort();
}

static void check_entry(const crdt_id *id, const char *value) {
    uint8_t key[32];
    crdt_storage_key(cal_crdt_env(&arena).sha256, CRDT_KEY_ENTRY, id, key);
    const row *at = cal_sorted_get(&rows, cal_slice_of(key, 32));
    if (!at || (value && (at->len != strlen(value) || memcmp(at->bytes, value, at->len) != 0)))
        abort();
}

static void check_tree(void) {
    crdt_tree_summary summary;
    crdt_tree_check check = {.sha256 = cal_crdt_env(&arena).sha256,
                             .enter = enter,
                             .leave = leave,
                             .read = read_row,
                             .flaw = flaw,
                             .entity_max = 100000};
    if (crdt_tree_verify(&check, &root_id, &summary)) abort();
}

/* --- input --- */

static void take(const sync_request *request, bool *ret_deleted) {
    crdt_store *store = open_store(&root_id);
    crdt_apply_context context = {
        .now_ns = NOW, .verify = verify, .has_signer_account = true, .signer_account = account};
    crdt_leaf_result result;
    for (uint32_t i = 0; i < request->leaves.count; i++) {
        crdt_leaf leaf;
        if (sync_leaf_open(&request->leaves.items[i], &arena, &leaf)) continue;
        if (crdt_store_take_leaf(store, &leaf, &context, &result)) abort();
    }
    for (uint32_t i = 0; i < request->deletions.count; i++) {
        crdt_metadata metadata;
        crdt_id id;
        memcpy(&id, &request->deletions.items[i].id, 32);
        if (sync_deletion_open(&request->deletions.items[i], &arena, &metadata)) continue;
        if (crdt_store_take_deletion(store, &id, request->deletions.items[i].deleted_at, &metadata,
                                     &context, &result))
            abort();
        if (result == CRDT_LEAF_TAKEN) *ret_deleted = true;
    }
    if (crdt_store_flush(store)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    sync_message message;
    bool deleted = false;
    if (size > 64 * 1024) return 0;
    cal_arena_init(&arena, 256 << 20);
    cal_sorted_init(&rows);
    make_state();
    if (sync_message_decode(cal_slice_of(data, size), &arena, &message) == 0 &&
        message.kind == SYNC_INIT) {
        take(&message.init.request, &deleted);
        check_tree();
        /* A collection of anybody's may be deleted by anybody, with all that is in it. */
        if (!deleted) {
            check_entry(&user_id, "user");
            check_entry(&shared_id, "shared");
        }
        check_entry(&frozen_id, NULL);
        check_entry(&root_id, NULL);
    }
    for (cal_sorted_node *node = rows.head[0]; node; node = node->next[0]) free(node->value);
    cal_sorted_deinit(&rows);
    cal_arena_deinit(&arena);
    return 0;
}
