/* What the tests of crdt/ and sdk/c share: memory from an arena, SHA-256, rows in a sorted map, and
 * structures built from the recorded JSON. One thread. */
#ifndef CAL_TESTS_CRDT_H
#define CAL_TESTS_CRDT_H

#include "golden.h"

#include "base/arena.h"
#include "base/sorted.h"
#include "crdt/crdt.h"
#include "crypto/crypto.h"

static inline void *test_crdt_alloc(void *user, size_t len) { return cal_arena_alloc(user, len); }

static inline void test_crdt_sha256(const crdt_bytes *parts, size_t count, uint8_t ret_hash[32]) {
    cal_slice slices[4];
    assert_true(count <= 4);
    for (size_t i = 0; i < count; i++) slices[i] = cal_slice_of(parts[i].data, parts[i].len);
    cal_sha256_parts(slices, count, ret_hash);
}

static inline crdt_env test_crdt_env(cal_arena *arena) {
    return (crdt_env){.memory = {arena, test_crdt_alloc}, .sha256 = test_crdt_sha256};
}

static inline bool test_crdt_verify(void *user, const uint8_t public_key[32],
                                    const uint8_t payload[32], const uint8_t signature[64]) {
    (void)user;
    return cal_verify_lax(public_key, cal_slice_of(payload, 32), signature);
}

/* --- rows --- */

typedef struct test_row {
    size_t len;
    uint8_t bytes[];
} test_row;

typedef struct test_rows {
    cal_sorted rows;
    cal_arena *arena; /* reads are copied into it, as a node's are */
    uint64_t reads, writes, bytes_read, bytes_written;
} test_rows;

static inline void test_rows_init(test_rows *rows, cal_arena *arena) {
    *rows = (test_rows){.arena = arena};
    cal_sorted_init(&rows->rows);
}

static inline void test_rows_deinit(test_rows *rows) {
    for (cal_sorted_node *node = rows->rows.head[0]; node; node = node->next[0]) free(node->value);
    cal_sorted_deinit(&rows->rows);
}

static inline int test_rows_read(void *user, const uint8_t key[32], crdt_bytes *ret_value) {
    test_rows *rows = user;
    const test_row *row = cal_sorted_get(&rows->rows, cal_slice_of(key, 32));
    rows->reads++;
    if (!row) return 0;
    rows->bytes_read += row->len;
    void *copy = cal_arena_copy(rows->arena, row->bytes, row->len);
    if (!copy) return CRDT_ENOMEM;
    *ret_value = crdt_bytes_of(copy, row->len);
    return 1;
}

static inline int test_rows_write(void *user, const uint8_t key[32], crdt_bytes value) {
    test_rows *rows = user;
    test_row *row = malloc(sizeof *row + value.len + 1);
    assert_non_null(row);
    row->len = value.len;
    if (value.len) memcpy(row->bytes, value.data, value.len);
    void *old = NULL;
    assert_int_equal(cal_sorted_put(&rows->rows, cal_slice_of(key, 32), row, &old), 0);
    free(old);
    rows->writes++;
    rows->bytes_written += value.len;
    return 0;
}

static inline int test_rows_remove(void *user, const uint8_t key[32]) {
    test_rows *rows = user;
    free(cal_sorted_remove(&rows->rows, cal_slice_of(key, 32)));
    return 0;
}

static inline crdt_rows test_rows_table(test_rows *rows) {
    return (crdt_rows){rows, test_rows_read, test_rows_write, test_rows_remove, NULL};
}

/* --- the tree --- */

typedef struct test_tree {
    test_rows *rows;
    cal_arena arenas[CRDT_TREE_DEPTH_MAX + 1];
    size_t open;
    uint64_t flaws;
    bool quiet;
} test_tree;

static inline int test_tree_enter(void *user, crdt_memory *ret_memory) {
    test_tree *tree = user;
    cal_arena *arena = &tree->arenas[tree->open++];
    cal_arena_init(arena, SIZE_MAX);
    *ret_memory = (crdt_memory){arena, test_crdt_alloc};
    tree->rows->arena = arena;
    return 0;
}

static inline void test_tree_leave(void *user) {
    test_tree *tree = user;
    cal_arena_deinit(&tree->arenas[--tree->open]);
}

static inline int test_tree_read(void *user, const uint8_t key[32], crdt_bytes *ret_value) {
    return test_rows_read(((test_tree *)user)->rows, key, ret_value);
}

static inline int test_tree_flaw(void *user, crdt_flaw flaw, const crdt_id *id,
                                 const crdt_id *parent) {
    test_tree *tree = user;
    (void)parent;
    tree->flaws++;
    if (!tree->quiet)
        fprintf(stderr, "flaw: %s (%02x%02x..)\n", crdt_flaw_text(flaw), id->bytes[0],
                id->bytes[1]);
    return 0;
}

/* Verifies the rows of a context; a result other than 0 is a broken walk, not a flaw. */
static inline int test_tree_verify(test_rows *rows, const crdt_id *root, bool quiet,
                                   crdt_tree_summary *ret_summary) {
    test_tree tree = {.rows = rows, .quiet = quiet};
    cal_arena *arena = rows->arena;
    crdt_tree_check check = {
        .sha256 = test_crdt_sha256,
        .user = &tree,
        .enter = test_tree_enter,
        .leave = test_tree_leave,
        .read = test_tree_read,
        .flaw = test_tree_flaw,
        .entity_max = 1000000,
    };
    int result = crdt_tree_verify(&check, root, ret_summary);
    rows->arena = arena;
    assert_int_equal(tree.open, 0);
    return result;
}

/* --- structures from JSON; bytes live in the arena --- */

static inline crdt_bytes test_crdt_hex(cal_arena *arena, yyjson_val *value) {
    cal_slice bytes = golden_hex_value(value);
    void *copy = cal_arena_copy(arena, bytes.data, bytes.len);
    golden_free(bytes);
    return crdt_bytes_of(copy, bytes.len);
}

static inline bool test_crdt_id(yyjson_val *value, void *ret_id) {
    if (!value || yyjson_is_null(value)) return false;
    cal_slice bytes = golden_hex_value(value);
    assert_int_equal(bytes.len, 32);
    memcpy(ret_id, bytes.data, 32);
    golden_free(bytes);
    return true;
}

/* A decimal u128 as 16 little-endian bytes. */
static inline void test_crdt_u128(const char *text, uint8_t ret_bytes[16]) {
    memset(ret_bytes, 0, 16);
    for (; *text; text++) {
        unsigned carry = (unsigned)(*text - '0');
        for (int i = 0; i < 16; i++) {
            carry += ret_bytes[i] * 10u;
            ret_bytes[i] = (uint8_t)carry;
            carry >>= 8;
        }
    }
}

static inline crdt_hlc test_crdt_hlc(yyjson_val *value) {
    crdt_hlc hlc = {.time = golden_u64(value, "time")};
    test_crdt_u128(yyjson_get_str(yyjson_obj_get(value, "id")), hlc.id);
    return hlc;
}

static inline crdt_grants test_crdt_grants(cal_arena *arena, yyjson_val *list) {
    size_t count = yyjson_arr_size(list);
    crdt_grant *grants = cal_arena_alloc_array(arena, count, sizeof *grants);
    for (size_t i = 0; i < count; i++) {
        yyjson_val *pair = yyjson_arr_get(list, i);
        test_crdt_id(yyjson_arr_get(pair, 0), &grants[i].account);
        grants[i].mask = (uint8_t)yyjson_get_uint(yyjson_arr_get(pair, 1));
    }
    return (crdt_grants){grants, (uint32_t)count};
}

static inline crdt_storage_type test_crdt_storage(cal_arena *arena, yyjson_val *value) {
    static const char *const names[] = {"Public", "User", "Frozen", "Shared", "SharedMember"};
    const char *name = yyjson_get_str(yyjson_obj_get(value, "type"));
    crdt_storage_type storage = {0};
    while (strcmp(names[storage.kind], name) != 0) storage.kind++;
    if (!test_crdt_id(yyjson_obj_get(value, "owner"), &storage.subject))
        test_crdt_id(yyjson_obj_get(value, "anchor"), &storage.subject);
    storage.writers = test_crdt_grants(arena, yyjson_obj_get(value, "writers"));
    yyjson_val *data = yyjson_obj_get(value, "signature_data");
    if (data && !yyjson_is_null(data)) {
        crdt_signature *signature = cal_arena_alloc(arena, sizeof *signature);
        golden_bytes(data, "signature", signature->signature, 64);
        signature->nonce = golden_u64(data, "nonce");
        signature->has_signer = test_crdt_id(yyjson_obj_get(data, "signer"), &signature->signer);
        storage.signature = signature;
    }
    return storage;
}

static inline crdt_type test_crdt_type(yyjson_val *value) {
    static const char *const names[] = {
        "LwwRegister",   "GCounter",      "PnCounter", "Rga",        "UnorderedMap",
        "SortedMap",     "UnorderedSet",  "SortedSet", "Vector",     "UserStorage",
        "FrozenStorage", "SharedStorage", "Custom",    "RotationLog"};
    yyjson_val *inner = NULL;
    const char *name = yyjson_get_str(value);
    if (!name) {
        yyjson_obj_iter iter = yyjson_obj_iter_with(value);
        yyjson_val *key = yyjson_obj_iter_next(&iter);
        name = yyjson_get_str(key);
        inner = yyjson_obj_iter_get_val(key);
    }
    crdt_type type = {0};
    while (strcmp(names[type.kind], name) != 0) type.kind++;
    if (yyjson_is_str(inner)) {
        type.names[0] = crdt_bytes_of(yyjson_get_str(inner), yyjson_get_len(inner));
    } else if (inner) {
        yyjson_obj_iter iter = yyjson_obj_iter_with(inner);
        for (int i = 0; i < 2; i++) {
            yyjson_val *key = yyjson_obj_iter_next(&iter);
            if (!key) break;
            yyjson_val *text = yyjson_obj_iter_get_val(key);
            type.names[i] = crdt_bytes_of(yyjson_get_str(text), yyjson_get_len(text));
        }
    }
    return type;
}

static inline crdt_metadata test_crdt_metadata(cal_arena *arena, yyjson_val *value) {
    crdt_metadata metadata = {
        .created_at = golden_u64(value, "created_at"),
        .updated_at = golden_u64(value, "updated_at"),
        .storage = test_crdt_storage(arena, yyjson_obj_get(value, "storage_type")),
    };
    yyjson_val *type = yyjson_obj_get(value, "crdt_type");
    if (type && !yyjson_is_null(type)) {
        crdt_type parsed = test_crdt_type(type);
        metadata.type = cal_arena_copy(arena, &parsed, sizeof parsed);
    }
    yyjson_val *field = yyjson_obj_get(value, "field_name");
    metadata.has_field_name = yyjson_is_str(field);
    if (metadata.has_field_name)
        metadata.field_name = crdt_bytes_of(yyjson_get_str(field), yyjson_get_len(field));
    yyjson_val *schema = yyjson_obj_get(value, "schema_version");
    metadata.has_schema_version = yyjson_is_uint(schema);
    metadata.schema_version = (uint32_t)yyjson_get_uint(schema);
    return metadata;
}

static inline crdt_children test_crdt_children(cal_arena *arena, yyjson_val *list) {
    size_t count = yyjson_arr_size(list);
    crdt_child *children = cal_arena_alloc_array(arena, count, sizeof *children);
    for (size_t i = 0; i < count; i++) {
        yyjson_val *value = yyjson_arr_get(list, i);
        test_crdt_id(yyjson_obj_get(value, "id"), &children[i].id);
        test_crdt_id(yyjson_obj_get(value, "merkle_hash"), &children[i].merkle_hash);
        children[i].metadata = test_crdt_metadata(arena, yyjson_obj_get(value, "metadata"));
    }
    return (crdt_children){children, (uint32_t)count};
}

static inline crdt_action test_crdt_action(cal_arena *arena, yyjson_val *value) {
    const char *kind = yyjson_get_str(yyjson_obj_get(value, "kind"));
    crdt_action action = {.metadata = test_crdt_metadata(arena, yyjson_obj_get(value, "metadata"))};
    test_crdt_id(yyjson_obj_get(value, "id"), &action.id);
    if (strcmp(kind, "DeleteRef") == 0) {
        action.kind = CRDT_ACTION_DELETE;
        action.deleted_at = golden_u64(value, "deleted_at");
        return action;
    }
    action.kind = strcmp(kind, "Add") == 0 ? CRDT_ACTION_ADD : CRDT_ACTION_UPDATE;
    action.data = test_crdt_hex(arena, yyjson_obj_get(value, "data"));
    action.ancestors = test_crdt_children(arena, yyjson_obj_get(value, "ancestors"));
    return action;
}

static inline void test_crdt_expect(crdt_bytes actual, yyjson_val *item, const char *key) {
    golden_equal(cal_slice_of(actual.data, actual.len), item, key);
}

#endif
