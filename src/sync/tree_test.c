/* Trees compared across the wire, in both forms: between two stores, until their states are the
 * same; recorded histories, wide collections, and peers that lie. */
#include "golden.h"

#include "sync/snapshot_testing.h"
#include "sync/tree_found.h"

enum { ROUNDS_MAX = 4 };

typedef struct side {
    rows r;
    place *at;
    const rows *signers; /* of a recorded case */
} side;

static struct {
    size_t questions, nodes, leaves, pushed, deletions, bytes;
    uint64_t lies; /* one byte of so many is wrong; 0: none */
    size_t refused, changed;
} figures;

static uint64_t dice_state;
static uint64_t dice(uint64_t below) {
    dice_state += 0x9e3779b97f4a7c15u;
    uint64_t z = dice_state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % below;
}

/* --- the wire --- */

static int cross(const sync_message *message, cal_arena *arena, sync_message *ret_message) {
    cal_buffer bytes;
    cal_buffer_init(&bytes, 8 << 20);
    assert_int_equal(sync_message_write(message, &bytes), 0);
    figures.bytes += bytes.len;
    uint8_t *copy = cal_arena_copy(arena, bytes.data, bytes.len);
    for (size_t i = 0; figures.lies && i < 1 + bytes.len / figures.lies; i++)
        copy[dice(bytes.len)] ^= (uint8_t)(1u << dice(8));
    int rc = sync_message_decode(cal_slice_of(copy, bytes.len), arena, ret_message);
    if (!figures.lies) assert_int_equal(rc, 0);
    cal_buffer_deinit(&bytes);
    return rc;
}

/* --- taking --- */

static bool account_for(const side *s, const crdt_storage_type *storage, crdt_id *ret_account) {
    cal_public_key key;
    cal_account_id account;
    if (!s->signers || !storage || !storage->signature || !storage->signature->has_signer)
        return false;
    memcpy(key.bytes, storage->signature->signer.bytes, 32);
    if (account_of((void *)(uintptr_t)s->signers, &key, &account) != 0) return false;
    memcpy(ret_account->bytes, account.bytes, 32);
    return true;
}

static void take_leaf(side *s, crdt_store *store, const sync_leaf *leaf, sync_tree_found *found) {
    crdt_leaf opened;
    crdt_leaf_result result;
    crdt_apply_context context = {.now_ns = UINT64_C(1900000000000000000),
                                  .verify = test_crdt_verify};
    if (sync_leaf_open(leaf, &s->r.arena, &opened) != 0) {
        assert_true(figures.lies > 0);
        return;
    }
    context.has_signer_account = account_for(s, opened.authorization, &context.signer_account);
    assert_int_equal(crdt_store_take_leaf(store, &opened, &context, &result), 0);
    figures.leaves++;
    figures.refused += result >= CRDT_LEAF_DEFERRED;
    figures.changed += result == CRDT_LEAF_TAKEN;
    if (found && result == CRDT_LEAF_KEPT) sync_tree_found_push(found, &leaf->id, false);
}

static void take_deletion(side *s, crdt_store *store, const sync_deletion *deletion,
                          sync_tree_found *found) {
    crdt_metadata metadata;
    crdt_leaf_result result;
    crdt_id id;
    crdt_apply_context context = {.now_ns = UINT64_C(1900000000000000000),
                                  .verify = test_crdt_verify};
    if (sync_deletion_open(deletion, &s->r.arena, &metadata) != 0) return;
    memcpy(&id, &deletion->id, 32);
    context.has_signer_account = account_for(s, &metadata.storage, &context.signer_account);
    assert_int_equal(
        crdt_store_take_deletion(store, &id, deletion->deleted_at, &metadata, &context, &result),
        0);
    figures.deletions++;
    figures.changed += result == CRDT_LEAF_TAKEN;
    if (found && result == CRDT_LEAF_KEPT) sync_tree_found_push(found, &deletion->id, true);
}

static void take_found(side *s, sync_tree_found *found) {
    crdt_store *store = store_open(&s->r);
    for (size_t i = 0; i < found->leaf_count; i++) take_leaf(s, store, found->leaves[i], found);
    for (size_t i = 0; i < found->deletion_count; i++)
        take_deletion(s, store, found->deletions[i], found);
    store_flush(&s->r, store);
    sync_tree_found_reset(found);
}

/* --- asking --- */

static void expect_valid(const sync_tree_node *node) {
    assert_true(node->children.count <= SYNC_CHILDREN_MAX);
    assert_true(node->has_leaf != (node->children.count + node->deleted.count > 0));
}

/* CAL_EDECODE: the answer made no sense. */
static int one_question(side *here, sync_tree_found *found, sync_tree_view *there, bool ours) {
    enum { PAIRS_MAX = 500 };
    cal_arena *arena = &here->r.arena;
    cal_hash pairs[2 * PAIRS_MAX];
    size_t left = found->ask_count - found->ask_at;
    size_t asked = ours ? left < PAIRS_MAX ? left : PAIRS_MAX : 1;
    sync_message message = {.kind = SYNC_MESSAGE}, got;
    for (size_t i = 0; i < asked; i++) {
        pairs[2 * i] = found->asks[found->ask_at + i].id;
        pairs[2 * i + 1] = found->asks[found->ask_at + i].range;
    }
    figures.questions++;
    int rc = ours ? sync_tree_answer_ranges(there, (sync_ids){pairs, (uint32_t)(2 * asked)}, NULL,
                                            arena, &message.answer)
                  : sync_tree_answer_nodes(there, pairs, 1, NULL, arena, &message.answer);
    assert_int_equal(rc, 0);
    for (uint32_t i = 0; i < message.answer.nodes.count; i++)
        expect_valid(&message.answer.nodes.items[i]);
    figures.nodes += message.answer.level_nodes.count + message.answer.nodes.count;
    rc = cross(&message, arena, &got);
    if (rc == 0 && got.kind != SYNC_MESSAGE) rc = CAL_EDECODE;
    if (rc == 0 && got.answer.kind != message.answer.kind) rc = CAL_EDECODE;
    if (rc != 0) return rc;
    if (ours) return sync_tree_compare_ranges(found, asked, &got.answer);
    found->ask_at++;
    return got.answer.not_found ? 0 : sync_tree_compare_nodes(found, &pairs[0], got.answer.nodes);
}

static void push_all(side *there, sync_tree_found *found) {
    cal_arena *arena = &there->r.arena;
    crdt_store *store = store_open(&there->r);
    while (found->push_count > 0) {
        sync_tree_push at = found->pushes[--found->push_count];
        sync_message message = {.kind = SYNC_INIT}, got;
        sync_leaf leaf;
        int hit = sync_tree_view_leaf(found->view, &at.id, NULL, arena, &leaf);
        assert_true(hit >= 0);
        if (hit == 0 && !at.deep) assert_int_equal(sync_tree_found_gone(found, &at.id), 0);
        if (at.deep) assert_int_equal(sync_tree_found_push_below(found, &at.id), 0);
        if (hit == 0) continue;
        message.init.request = (sync_request){.kind = SYNC_PUSH, .leaves = {&leaf, 1}};
        figures.pushed++;
        assert_int_equal(cross(&message, arena, &got), 0);
        take_leaf(there, store, &got.init.request.leaves.items[0], NULL);
    }
    for (size_t i = 0; i < found->gone_count; i++) {
        sync_deletion deletion;
        if (sync_tree_view_deletion(found->view, &found->gone[i], arena, &deletion) == 1)
            take_deletion(there, store, &deletion, NULL);
    }
    store_flush(&there->r, store);
    rows_store(&there->r, there->at->store);
}

/* One comparison; what the other one is told, too, unless it lies. */
static int compare(side *here, side *there, bool ours) {
    sync_tree_found found;
    sync_tree_view *view;
    cal_context_id context;
    cal_hash root;
    static const cal_hash all;
    int rc = 0;
    memcpy(context.bytes, here->r.root.bytes, 32);
    memcpy(root.bytes, here->r.root.bytes, 32);
    assert_int_equal(sync_tree_view_open(there->at->store, &context, 1, &view), 0);
    assert_int_equal(sync_tree_found_init(&found, here->at->store, &context, 1), 0);
    assert_int_equal(sync_tree_found_ask(&found, &root, &all), 0);
    while (rc == 0 && found.ask_at < found.ask_count && figures.questions < 100000) {
        rc = one_question(here, &found, view, ours);
        if (rc == 0) take_found(here, &found);
    }
    sync_tree_view_free(view);
    rows_store(&here->r, here->at->store);
    assert_int_equal(sync_tree_found_renew(&found, 2), 0);
    if (rc == 0 && !figures.lies) push_all(there, &found);
    sync_tree_found_deinit(&found);
    return rc;
}

static bool same(const side *a, const side *b) {
    return memcmp(&a->r.hash, &b->r.hash, sizeof a->r.hash) == 0;
}

static uint64_t flaws_of(side *s) {
    crdt_tree_summary summary;
    assert_int_equal(test_tree_verify(&s->r.table, &s->r.root, false, &summary), 0);
    return summary.flaws;
}

static void open_sides(side *a, side *b) {
    begin();
    memset(a, 0, sizeof *a);
    memset(b, 0, sizeof *b);
    a->at = &client;
    b->at = &server;
    memset(&figures, 0, sizeof figures);
}

static void close_sides(side *a, side *b) {
    rows_close(&a->r);
    rows_close(&b->r);
    finish();
}

static void store_sides(side *a, side *b) {
    rows_root(&a->r);
    rows_root(&b->r);
    rows_store(&a->r, a->at->store);
    rows_store(&b->r, b->at->store);
}

/* --- histories of chance --- */

static crdt_id container_id(uint32_t n) { return entry_id(1000000 + n); }

/* Containers hang below the collection, entries below those; a few of them nest. */
static void change(side *s, uint32_t n, uint64_t time, bool deletes) {
    rows *r = &s->r;
    crdt_store *store = store_open(r);
    crdt_id container = container_id(n % 7);
    crdt_child *list = cal_arena_alloc_array(&r->arena, 3, sizeof *list);
    uint8_t *data = cal_arena_alloc(&r->arena, 40);
    memset(data, (int)time, 40);
    crdt_action action = {.kind = deletes ? CRDT_ACTION_DELETE : CRDT_ACTION_ADD,
                          .id = entry_id(n),
                          .data = crdt_bytes_of(data, 40),
                          .deleted_at = time,
                          .metadata = {.created_at = 10 + n, .updated_at = time}};
    crdt_action map = {.kind = CRDT_ACTION_ADD,
                       .id = container,
                       .data = crdt_bytes_of(cal_arena_copy(&r->arena, &container, 32), 32),
                       .ancestors = under(r, &collection),
                       .metadata = {.created_at = 5, .updated_at = 5}};
    crdt_refusal refusal;
    crdt_apply_context context = {.now_ns = UINT64_C(1900000000000000000), .verify = believe};
    list[0].id = container;
    list[1].id = collection;
    list[2].id = r->root;
    action.ancestors = (crdt_children){list, 3};
    assert_int_equal(crdt_store_apply(store, &map, &context, &refusal), 0);
    assert_int_equal(crdt_store_apply(store, &action, &context, &refusal), 0);
    store_flush(r, store);
}

static void random_history(uint64_t seed, bool ours) {
    side a, b;
    open_sides(&a, &b);
    dice_state = seed;
    make_context(&a.r, 5, 20);
    make_context(&b.r, 5, 20);
    for (uint32_t n = 0; n < 60; n++) {
        change(&a, n, 100, false);
        change(&b, n, 100, false);
    }
    for (int i = 0; i < 40; i++) {
        uint64_t time = 200 + 2 * dice(50);
        bool deletes = dice(3) == 0;
        change(dice(2) ? &a : &b, (uint32_t)dice(90), time + deletes, deletes);
    }
    store_sides(&a, &b);
    for (int i = 0; i < ROUNDS_MAX && !same(&a, &b); i++)
        assert_int_equal(i % 2 ? compare(&b, &a, ours) : compare(&a, &b, ours), 0);
    if (!same(&a, &b)) fail_msg("seed %llu, %s", (unsigned long long)seed, ours ? "ours" : "plain");
    assert_int_equal(flaws_of(&a) + flaws_of(&b), 0);
    close_sides(&a, &b);
}

static void test_chance(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        random_history(seed, true);
        random_history(seed, false);
    }
}

/* A node of the reference makes ancestors that it lacks of what the leaf lists, as it does for an
 * action, and takes the hash beside each for that of its bytes. */
static void test_ancestors_by_the_way(void **state) {
    (void)state;
    side a, b;
    sync_tree_view *view;
    cal_context_id context;
    open_sides(&a, &b);
    make_context(&a.r, 5, 20);
    make_context(&b.r, 5, 20);
    for (uint32_t n = 0; n < 20; n++) change(&a, n, 100, false);
    store_sides(&a, &b);
    memcpy(context.bytes, a.r.root.bytes, 32);
    assert_int_equal(sync_tree_view_open(a.at->store, &context, 1, &view), 0);
    crdt_store *store = store_open(&b.r);
    for (uint32_t n = 0; n < 20; n++) {
        sync_leaf leaf;
        crdt_leaf opened;
        crdt_refusal refusal;
        cal_hash id;
        crdt_apply_context apply = {.now_ns = UINT64_C(1900000000000000000), .verify = believe};
        crdt_id entry = entry_id(n);
        memcpy(&id, &entry, sizeof id);
        assert_int_equal(sync_tree_view_leaf(view, &id, NULL, &b.r.arena, &leaf), 1);
        assert_int_equal(sync_leaf_open(&leaf, &b.r.arena, &opened), 0);
        crdt_action action = {
            .kind = CRDT_ACTION_ADD,
            .id = opened.id,
            .data = opened.value,
            .ancestors = opened.ancestors,
            .metadata = {.created_at = opened.created_at, .updated_at = opened.updated_at}};
        assert_int_equal(crdt_store_apply(store, &action, &apply, &refusal), 0);
    }
    store_flush(&b.r, store);
    rows_root(&b.r);
    assert_true(same(&a, &b));
    sync_tree_view_free(view);
    close_sides(&a, &b);
}

/* --- wide collections --- */

static void test_wide(void **state) {
    enum { COUNT = 6000, DIFFERENT = 10 };
    (void)state;
    side a, b;
    open_sides(&a, &b);
    make_context(&a.r, COUNT, 24);
    make_context(&b.r, COUNT, 24);
    crdt_store *store = store_open(&b.r);
    for (uint32_t i = 0; i < DIFFERENT; i++) {
        uint8_t *data = cal_arena_alloc(&b.r.arena, 24);
        crdt_action action = {.kind = CRDT_ACTION_UPDATE,
                              .id = entry_id(i * (COUNT / DIFFERENT)),
                              .data = crdt_bytes_of(data, 24),
                              .metadata = {.created_at = 10, .updated_at = 1000000 + i}};
        apply_as(store, &action, NULL);
    }
    store_flush(&b.r, store);
    store_sides(&a, &b);
    assert_int_equal(compare(&a, &b, true), 0);
    assert_true(same(&a, &b));
    print_message("%d of %d differ: %zu questions, %zu hashes, %zu bytes\n", DIFFERENT, COUNT,
                  figures.questions, figures.nodes, figures.bytes);
    assert_int_equal(figures.leaves, DIFFERENT);
    assert_true(figures.questions <= 5);
    assert_true(figures.nodes <= 1500);
    close_sides(&a, &b);
}

/* --- recorded histories --- */

static int recorded_account(void *user, const cal_public_key *device, cal_account_id *ret_account) {
    const rows *r = user;
    yyjson_val *step;
    size_t at, max;
    yyjson_arr_foreach(r->steps, at, max, step) {
        crdt_action action =
            test_crdt_action((cal_arena *)(uintptr_t)&r->arena, yyjson_obj_get(step, "action"));
        const crdt_signature *signature = action.metadata.storage.signature;
        if (signature && signature->has_signer &&
            memcmp(signature->signer.bytes, device->bytes, 32) == 0 &&
            test_crdt_id(yyjson_obj_get(step, "signer_account"), ret_account->bytes))
            return 0;
    }
    return CAL_ENOTFOUND;
}

static void apply_recorded(rows *r, yyjson_val *step) {
    crdt_refusal refusal;
    crdt_store *store = store_open(r);
    crdt_action action = test_crdt_action(&r->arena, yyjson_obj_get(step, "action"));
    crdt_apply_context context = {.now_ns = UINT64_C(1900000000000000000),
                                  .verify = test_crdt_verify};
    context.has_signer_account =
        test_crdt_id(yyjson_obj_get(step, "signer_account"), &context.signer_account);
    context.has_delta = test_crdt_id(yyjson_obj_get(step, "delta_id"), &context.delta_id);
    context.delta_hlc = (crdt_hlc){.time = 1, .id = {1}};
    assert_int_equal(crdt_store_apply(store, &action, &context, &refusal), 0);
    assert_int_equal(crdt_store_flush(store), 0);
}

/* Those that trees alone do not make the same: a container that is known only as an ancestor, on
 * both sides otherwise; an entity that two parents list (traps.md 6); a rotation log, by which a
 * peer could say who may write. Deltas and snapshots do. */
static bool heals(const char *name) {
    static const char *const apart[] = {"leaf_first_creates_ancestors", "move_to_other_parent",
                                        "shared_writers"};
    for (size_t i = 0; i < sizeof apart / sizeof *apart; i++)
        if (strstr(name, apart[i])) return false;
    return true;
}

/* One side has seen half of it. */
static bool half_of(yyjson_val *item, bool ours) {
    side a, b;
    yyjson_val *step;
    size_t index, max;
    open_sides(&a, &b);
    rows_open(&a.r);
    rows_open(&b.r);
    golden_bytes(yyjson_obj_get(item, "inputs"), "context_id", &a.r.root, 32);
    b.r.root = a.r.root;
    a.r.steps = b.r.steps = yyjson_obj_get(item, "steps");
    a.signers = b.signers = &a.r;
    account_of = recorded_account;
    yyjson_arr_foreach(a.r.steps, index, max, step) {
        if (index == 0 || index < max / 2) apply_recorded(&a.r, step);
        apply_recorded(&b.r, step);
    }
    store_sides(&a, &b);
    for (int i = 0; i < ROUNDS_MAX && !same(&a, &b); i++)
        assert_int_equal(i % 2 ? compare(&b, &a, ours) : compare(&a, &b, ours), 0);
    bool equal = same(&a, &b);
    assert_int_equal(flaws_of(&a), 0);
    account_of = no_account;
    close_sides(&a, &b);
    return equal;
}

static void test_recorded(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("storage.json");
    yyjson_val *item;
    int seen = 0;
    for (size_t at = 0; (item = golden_next(yyjson_doc_get_root(doc), "apply/", &at));) {
        bool ours = half_of(item, true), plain = half_of(item, false);
        if (ours != heals(golden_name(item)) || plain != heals(golden_name(item)))
            fail_msg("%s: %d %d", golden_name(item), ours, plain);
        seen++;
    }
    assert_int_equal(seen, 23);
    yyjson_doc_free(doc);
}

/* --- liars --- */

static void test_liars(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        side a, b;
        open_sides(&a, &b);
        make_context(&a.r, 30, 20);
        make_context(&b.r, 200, 20);
        for (uint32_t n = 0; n < 20; n++) {
            change(&a, n, 100, false);
            change(&b, n, 300, n % 3 == 0);
        }
        store_sides(&a, &b);
        dice_state = seed;
        figures.lies = 50 + dice(2000);
        compare(&a, &b, seed % 2);
        assert_int_equal(flaws_of(&a), 0); /* whatever it was told: a tree */
        figures.lies = 0;
        close_sides(&a, &b);
    }
}

/* --- recorded messages --- */

static sync_message recorded(yyjson_doc *doc, const char *name, cal_arena *arena) {
    yyjson_val *item;
    sync_message message = {0};
    for (size_t at = 0; (item = golden_next(yyjson_doc_get_root(doc), name, &at));) {
        if (strcmp(golden_name(item), name) != 0) continue;
        cal_slice bytes = golden_hex_value(yyjson_obj_get(item, "hex"));
        uint8_t *copy = cal_arena_copy(arena, bytes.data, bytes.len);
        assert_int_equal(sync_message_decode(cal_slice_of(copy, bytes.len), arena, &message), 0);
        golden_free(bytes);
        return message;
    }
    fail_msg("%s is not recorded", name);
    return message;
}

/* What the reference sends is what crdt takes. */
static void test_messages(void **state) {
    (void)state;
    cal_arena arena;
    crdt_leaf leaf;
    crdt_metadata metadata;
    yyjson_doc *doc = golden_load("stream.json");
    cal_arena_init(&arena, SIZE_MAX);
    sync_message push = recorded(doc, "init/EntityPush", &arena);
    sync_leaves leaves = push.init.request.leaves;
    assert_true(leaves.count > 0);
    assert_int_equal(sync_leaf_open(&leaves.items[0], &arena, &leaf), 0);
    assert_null(leaf.type); /* "Opaque" is how none travels */
    assert_null(leaf.authorization);
    assert_true(leaf.has_parent);
    assert_int_equal(leaf.parent.bytes[0], 0xc1);
    assert_int_equal(leaf.ancestors.count, 2);
    assert_int_equal(leaf.ancestors.items[0].metadata.type->kind, CRDT_TYPE_UNORDERED_MAP);
    assert_int_equal(leaf.ancestors.items[1].id.bytes[0], 0x60);
    assert_true(leaf.updated_at == 1700000000000000009 && leaf.created_at == 1700000000000000003);
    push = recorded(doc, "init/EntityDeletePush", &arena);
    sync_deletions deletions = push.init.request.deletions;
    assert_int_equal(deletions.count, 2);
    assert_int_equal(sync_deletion_open(&deletions.items[1], &arena, &metadata), 0);
    assert_int_equal(metadata.storage.kind, CRDT_SHARED_MEMBER);
    assert_non_null(metadata.storage.signature);
    cal_arena_deinit(&arena);
    yyjson_doc_free(doc);
}

/* --- ranges --- */

static void test_ranges(void **state) {
    (void)state;
    cal_hash id, range, inner;
    memset(&id, 0xff, sizeof id);
    sync_range_of(&id, 11, &range);
    assert_int_equal(range.bytes[0], 0xff);
    assert_int_equal(range.bytes[1], 0xe0);
    assert_int_equal(sync_range_bits(&range), 11);
    assert_true(sync_range_valid(&range));
    assert_true(sync_range_has(&range, &id));
    sync_range_of(&id, 12, &inner);
    assert_true(sync_range_within(&inner, &range));
    assert_false(sync_range_within(&range, &inner));
    assert_false(sync_range_within(&range, &range));
    id.bytes[1] = 0xdf;
    assert_false(sync_range_has(&range, &id));
    range.bytes[2] = 1;
    assert_false(sync_range_valid(&range));
    range = (cal_hash){0};
    range.bytes[31] = SYNC_TREE_BITS_MAX + 1;
    assert_false(sync_range_valid(&range));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranges),   cmocka_unit_test(test_chance),
        cmocka_unit_test(test_wide),     cmocka_unit_test(test_recorded),
        cmocka_unit_test(test_liars),    cmocka_unit_test(test_ancestors_by_the_way),
        cmocka_unit_test(test_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
