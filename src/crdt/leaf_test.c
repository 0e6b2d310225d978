/* What leaves and tombstones of another replica may change, and what they may not. */
#include "crdt/leaf.h"

#include "support/crdt.h"

#define NOW UINT64_C(1900000000000000000)

typedef struct world {
    cal_arena arena;
    crdt_env env;
    test_rows rows;
    crdt_id root;
    bool believe;
} world;
static world now;

static const crdt_id map_id = {{0xc0}}, user_id = {{0xa1}}, shared_id = {{0xa2}},
                     frozen_id = {{0xa3}}, plain_id = {{0xa4}}, new_id = {{0xb1}};
static const crdt_id account = {{7}};
static const crdt_hash delta_id = {{0xdd}};
static crdt_grant grant = {{{7}}, CRDT_MASK_FULL};

static bool verify(void *user, const uint8_t key[32], const uint8_t payload[32],
                   const uint8_t signature[64]) {
    (void)key, (void)payload, (void)signature;
    return ((world *)user)->believe;
}

static crdt_apply_context context_of(world *w) {
    return (crdt_apply_context){.now_ns = NOW,
                                .verify_user = w,
                                .verify = verify,
                                .has_signer_account = true,
                                .signer_account = account};
}

static crdt_store *open_store(world *w) {
    crdt_store *store;
    crdt_rows table = test_rows_table(&w->rows);
    assert_int_equal(crdt_store_open(&w->env, &table, &w->root, &store), 0);
    return store;
}

static void add(world *w, const crdt_id *id, const crdt_id *parent, crdt_bytes data,
                crdt_storage_type storage) {
    static const crdt_signature signature = {.signature = {1}, .nonce = 100, .has_signer = true};
    crdt_child list[2] = {{.id = parent ? *parent : w->root}, {.id = w->root}};
    crdt_action action = {.kind = CRDT_ACTION_ADD,
                          .id = *id,
                          .data = data,
                          .metadata = {.created_at = 100, .updated_at = 100, .storage = storage}};
    crdt_apply_context context = context_of(w);
    crdt_refusal refusal;
    crdt_store *store = open_store(w);
    if (parent) action.ancestors = (crdt_children){list, crdt_id_equal(parent, &w->root) ? 1u : 2u};
    if (storage.kind == CRDT_USER || storage.kind == CRDT_SHARED)
        action.metadata.storage.signature = &signature;
    context.has_delta = storage.kind == CRDT_SHARED;
    context.delta_id = delta_id;
    context.delta_hlc = (crdt_hlc){.time = 1, .id = {1}};
    assert_int_equal(crdt_store_apply(store, &action, &context, &refusal), 0);
    assert_int_equal(refusal, CRDT_APPLIED);
    assert_int_equal(crdt_store_flush(store), 0);
}

static int set_up(void **state) {
    world *w = *state = &now;
    *w = (world){.root = {{0x60}}, .believe = true};
    cal_arena_init(&w->arena, SIZE_MAX);
    w->env = test_crdt_env(&w->arena);
    test_rows_init(&w->rows, &w->arena);
    uint8_t *frozen = cal_arena_alloc(&w->arena, 67);
    cal_sha256(cal_slice_of("abc", 3), frozen);
    memcpy(frozen + 32, "abc", 3);
    memcpy(frozen + 35, frozen_id.bytes, 32);
    add(w, &w->root, NULL, crdt_bytes_of(w->root.bytes, 32), (crdt_storage_type){0});
    add(w, &map_id, &w->root, crdt_bytes_of(map_id.bytes, 32), (crdt_storage_type){0});
    add(w, &CRDT_STATE_ID, &w->root, crdt_bytes_of("state", 5), (crdt_storage_type){0});
    add(w, &user_id, &map_id, crdt_bytes_of("user", 4),
        (crdt_storage_type){.kind = CRDT_USER, .subject = account});
    add(w, &shared_id, &map_id, crdt_bytes_of("shared", 6),
        (crdt_storage_type){.kind = CRDT_SHARED, .writers = {&grant, 1}});
    add(w, &frozen_id, &map_id, crdt_bytes_of(frozen, 67),
        (crdt_storage_type){.kind = CRDT_FROZEN});
    add(w, &plain_id, &map_id, crdt_bytes_of("plain", 5), (crdt_storage_type){0});
    w->believe = false;
    return 0;
}

static int tear_down(void **state) {
    world *w = *state;
    test_rows_deinit(&w->rows);
    cal_arena_deinit(&w->arena);
    return 0;
}

static crdt_leaf leaf_of(const crdt_id *id, const char *value, uint64_t time) {
    return (crdt_leaf){.id = *id,
                       .value = crdt_bytes_of(value, strlen(value)),
                       .created_at = 100,
                       .updated_at = time};
}

/* Takes it; what is left is a tree. */
static crdt_leaf_result take(world *w, crdt_leaf leaf) {
    crdt_leaf_result result;
    crdt_tree_summary summary;
    crdt_apply_context context = context_of(w);
    crdt_store *store = open_store(w);
    assert_int_equal(crdt_store_take_leaf(store, &leaf, &context, &result), 0);
    assert_int_equal(crdt_store_flush(store), 0);
    assert_int_equal(test_tree_verify(&w->rows, &w->root, false, &summary), 0);
    assert_int_equal(summary.flaws, 0);
    return result;
}

static crdt_leaf_result drop(world *w, const crdt_id *id, uint64_t time) {
    crdt_leaf_result result;
    static const crdt_metadata metadata;
    crdt_apply_context context = context_of(w);
    crdt_store *store = open_store(w);
    assert_int_equal(crdt_store_take_deletion(store, id, time, &metadata, &context, &result), 0);
    assert_int_equal(crdt_store_flush(store), 0);
    return result;
}

static void test_values(void **state) {
    world *w = *state;
    assert_int_equal(take(w, leaf_of(&plain_id, "plain", 500)), CRDT_LEAF_SAME);
    assert_int_equal(take(w, leaf_of(&plain_id, "older", 50)), CRDT_LEAF_KEPT);
    assert_int_equal(take(w, leaf_of(&plain_id, "newer", 200)), CRDT_LEAF_TAKEN);
    assert_int_equal(take(w, leaf_of(&plain_id, "ahead", NOW + 6000000000)), CRDT_LEAF_REFUSED);
    assert_int_equal(drop(w, &plain_id, 150), CRDT_LEAF_KEPT);
    assert_int_equal(drop(w, &plain_id, 300), CRDT_LEAF_TAKEN);
    assert_int_equal(drop(w, &plain_id, 300), CRDT_LEAF_SAME);
    assert_int_equal(take(w, leaf_of(&plain_id, "late", 250)), CRDT_LEAF_KEPT);
    assert_int_equal(take(w, leaf_of(&plain_id, "again", 400)), CRDT_LEAF_TAKEN);
    assert_int_equal(drop(w, &new_id, 300), CRDT_LEAF_SAME);
}

static void test_places(void **state) {
    static const crdt_type map = {.kind = CRDT_TYPE_UNORDERED_MAP};
    world *w = *state;
    crdt_leaf leaf = leaf_of(&new_id, "new", 200);
    crdt_child list[3] = {{.id = {{0xb2}}}, {.id = {{0xb3}}}, {.id = map_id}};
    assert_int_equal(take(w, leaf), CRDT_LEAF_DEFERRED); /* nobody says where */
    leaf.has_parent = true;
    leaf.parent = list[0].id;
    assert_int_equal(take(w, leaf), CRDT_LEAF_DEFERRED); /* below something unknown */
    leaf.ancestors = (crdt_children){list, 2};
    assert_int_equal(take(w, leaf), CRDT_LEAF_DEFERRED); /* that leads nowhere */
    list[1].id = new_id;
    leaf.ancestors.count = 3;
    assert_int_equal(take(w, leaf), CRDT_LEAF_DEFERRED); /* below itself */
    list[1].id = list[0].id;
    assert_int_equal(take(w, leaf), CRDT_LEAF_DEFERRED); /* a knot */
    list[1] = (crdt_child){.id = {{0xb3}}, .metadata = {.storage = {.kind = CRDT_SHARED}}};
    assert_int_equal(take(w, leaf), CRDT_LEAF_DEFERRED); /* an anchor by hearsay */
    list[1].metadata = (crdt_metadata){.type = &map};
    assert_int_equal(take(w, leaf), CRDT_LEAF_TAKEN);
    crdt_bytes entry; /* a map's bytes are its id */
    assert_int_equal(crdt_store_get(open_store(w), &list[1].id, &entry), 0);
    assert_true(crdt_bytes_equal(entry, crdt_bytes_of(list[1].id.bytes, 32)));
    assert_int_equal(crdt_store_get(open_store(w), &list[0].id, &entry), CRDT_ENOTFOUND);
}

static void test_signed(void **state) {
    world *w = *state;
    crdt_signature signature = {.signature = {1}, .nonce = 200, .has_signer = true};
    crdt_storage_type mine = {.kind = CRDT_USER, .subject = account, .signature = &signature};
    crdt_leaf leaf = leaf_of(&user_id, "theirs", NOW);
    assert_int_equal(take(w, leaf), CRDT_LEAF_REFUSED); /* unsigned */
    leaf.authorization = &mine;
    assert_int_equal(take(w, leaf), CRDT_LEAF_REFUSED); /* does not verify */
    assert_int_equal(drop(w, &user_id, 500), CRDT_LEAF_REFUSED);
    w->believe = true;
    assert_int_equal(take(w, leaf), CRDT_LEAF_TAKEN);
    /* The time is the signed one: what the owner signs next is not older. */
    signature.nonce = 300;
    leaf = leaf_of(&user_id, "next", 300);
    leaf.authorization = &mine;
    assert_int_equal(take(w, leaf), CRDT_LEAF_TAKEN);
    w->believe = false;
    assert_int_equal(take(w, leaf_of(&frozen_id, "melted", 500)), CRDT_LEAF_REFUSED);
    assert_int_equal(drop(w, &frozen_id, 500), CRDT_LEAF_REFUSED);
    assert_int_equal(take(w, leaf_of(&shared_id, "theirs", 500)), CRDT_LEAF_REFUSED);
}

static void test_rotation_log(void **state) {
    world *w = *state;
    crdt_id log, entry;
    crdt_bytes value;
    crdt_entry_id(test_crdt_sha256, &shared_id, crdt_bytes_of("__calimero_rotation_log__", 25),
                  &log);
    crdt_entry_id(test_crdt_sha256, &log, crdt_bytes_of(delta_id.bytes, 32), &entry);
    assert_int_equal(crdt_store_get(open_store(w), &entry, &value), 0);
    assert_int_equal(drop(w, &log, NOW), CRDT_LEAF_REFUSED);
    assert_int_equal(drop(w, &entry, NOW), CRDT_LEAF_REFUSED);
    assert_int_equal(take(w, leaf_of(&log, "gone", NOW)), CRDT_LEAF_REFUSED);
    assert_int_equal(take(w, leaf_of(&entry, "gone", NOW)), CRDT_LEAF_REFUSED);
    /* One more, in somebody else's favour. */
    crdt_leaf leaf = leaf_of(&new_id, "", NOW);
    uint8_t *forged = cal_arena_copy(&w->arena, value.data, value.len);
    forged[0] ^= 1;
    forged[32] ^= 1;
    leaf.value = crdt_bytes_of(forged, value.len);
    leaf.has_parent = true;
    leaf.parent = log;
    assert_int_equal(take(w, leaf), CRDT_LEAF_REFUSED);
}

static void test_roots(void **state) {
    static const crdt_type typed = {.kind = CRDT_TYPE_UNORDERED_MAP};
    world *w = *state;
    crdt_state_entry entry;
    assert_int_equal(drop(w, &w->root, NOW), CRDT_LEAF_REFUSED);
    assert_int_equal(drop(w, &CRDT_STATE_ID, NOW), CRDT_LEAF_REFUSED);
    assert_int_equal(take(w, leaf_of(&w->root, "another", NOW)), CRDT_LEAF_SAME);
    assert_int_equal(take(w, leaf_of(&CRDT_STATE_ID, "older", 50)), CRDT_LEAF_KEPT);
    assert_int_equal(take(w, leaf_of(&CRDT_STATE_ID, "ahead", NOW + 6000000000)),
                     CRDT_LEAF_REFUSED);
    assert_int_equal(take(w, leaf_of(&CRDT_STATE_ID, "state 2", 200)), CRDT_LEAF_TAKEN);
    /* Of equally new ones the same stands whatever the order. */
    crdt_leaf_result there = take(w, leaf_of(&CRDT_STATE_ID, "state 3", 200));
    crdt_leaf_result back = take(w, leaf_of(&CRDT_STATE_ID, "state 2", 200));
    assert_true(there == CRDT_LEAF_TAKEN || there == CRDT_LEAF_KEPT);
    assert_int_equal(back, CRDT_LEAF_TAKEN == there ? CRDT_LEAF_KEPT : CRDT_LEAF_SAME);
    crdt_leaf leaf = leaf_of(&CRDT_STATE_ID, "merged", 300);
    leaf.type = &typed;
    assert_int_equal(take(w, leaf), CRDT_LEAF_MERGES);
    crdt_store *store = open_store(w);
    assert_int_equal(crdt_store_put_state(store, &CRDT_STATE_ID, leaf.value, 300), 0);
    assert_int_equal(crdt_store_put_state(store, &new_id, leaf.value, 300), CRDT_ENOTFOUND);
    assert_int_equal(crdt_store_flush(store), 0);
    assert_int_equal(crdt_store_get_state(open_store(w), &CRDT_STATE_ID, &entry), 0);
    assert_int_equal(entry.updated_at, 300);
    assert_true(crdt_bytes_equal(entry.value, leaf.value));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_values, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_places, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_signed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_rotation_log, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_roots, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
