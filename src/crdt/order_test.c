/* The same actions in every order. Each order is applied twice, as one delta an action and as one
 * delta together, and its rows are compared with a plain model written from runtime-abi.md 13 and
 * traps.md: entities in an array, a bit for each child. Where replicas must agree, all
 * orders give one outcome; where the specification lets the order decide (traps.md 4 to 8), the
 * number of outcomes is pinned, so that nobody mends it here and differs from others. */
#include "support/crdt.h"

/* The tree: the root holds the collections C and D, C holds K; E, F below C and M below K are there
 * from the start, the others come with actions. N, and O below it, are collections that nobody has
 * heard of. */
enum { R, C, D, K, E, F, M, G, H, N, Z, O, P, IDS };
enum { STEPS_MAX = 6, BASE = 6, OUTCOMES_MAX = 64 };

typedef enum step_kind { PUT, FREEZE, DELETE } step_kind;

typedef struct step {
    step_kind kind;
    int id, parent; /* parent -1: the action names no ancestors */
    char value;
    uint64_t time;
} step;

static const int birth_parent[IDS] = {-1, R, R, C, C, C, K, C, N, R, C, N, O};
static const uint64_t birth[IDS] = {1, 1, 1, 1, 2, 2, 2, 3, 6, 5, 14, 5, 8};

/* --- the plain model --- */

typedef struct plain {
    bool known, frozen, deleted;
    char value; /* 0: none */
    int parent;
    uint64_t updated_at, deleted_at;
    uint32_t children, deleted_children;
} plain;

static void plain_link(plain *all, int parent, int id) {
    all[id].parent = parent;
    all[id].deleted = false;
    all[parent].children |= 1u << id;
    all[parent].deleted_children &= ~(1u << id);
}

/* Ancestors that are not known come to be with the times that the action lists for them. */
static void plain_ancestors(plain *all, int id) {
    if (all[id].known) return;
    if (birth_parent[id] >= 0) plain_ancestors(all, birth_parent[id]);
    all[id] = (plain){.known = true, .parent = -1, .updated_at = birth[id]};
    if (birth_parent[id] >= 0) plain_link(all, birth_parent[id], id);
}

static bool larger(char a, char b) {
    uint8_t hash_a[32], hash_b[32];
    cal_sha256(cal_slice_of(&a, 1), hash_a);
    cal_sha256(cal_slice_of(&b, 1), hash_b);
    return memcmp(hash_a, hash_b, 32) > 0;
}

static crdt_refusal plain_put(plain *all, const step *s) {
    plain *at = &all[s->id];
    if (s->parent >= 0) plain_ancestors(all, s->parent);
    if (!at->known) *at = (plain){.known = true, .parent = -1, .frozen = s->kind == FREEZE};
    if (s->time < at->updated_at) return CRDT_APPLIED;
    bool keep = at->value && s->time == at->updated_at && larger(at->value, s->value);
    if (!keep) at->value = s->value;
    at->updated_at = s->time;
    if (s->parent >= 0) plain_link(all, s->parent, s->id);
    if (s->time > at->deleted_at) at->deleted = false;
    return CRDT_APPLIED;
}

static void plain_bury(plain *at, uint64_t time) {
    if (!at->deleted || time > at->deleted_at) at->deleted_at = time;
    if (time > at->updated_at) at->updated_at = time;
    at->deleted = true;
}

static void plain_bury_below(plain *all, int id, uint64_t time) {
    for (int child = 0; child < IDS; child++) {
        plain *at = &all[child];
        if (!(all[id].children & 1u << child) || at->frozen) continue;
        plain_bury_below(all, child, time);
        if (time < at->updated_at) continue;
        plain_bury(at, time);
        at->value = 0;
    }
}

static crdt_refusal plain_delete(plain *all, const step *s) {
    plain *at = &all[s->id];
    if (!at->known) return CRDT_REFUSED_INDEX_NOT_FOUND;
    if (at->frozen) return CRDT_REFUSED_NOT_ALLOWED;
    if (!at->deleted && s->time < at->updated_at) return CRDT_APPLIED;
    if (!at->deleted) {
        plain_bury_below(all, s->id, s->time);
        all[at->parent].children &= ~(1u << s->id);
        all[at->parent].deleted_children |= 1u << s->id;
        at->value = 0;
    }
    plain_bury(at, s->time);
    return CRDT_APPLIED;
}

/* --- the same through the store --- */

typedef struct replica {
    cal_arena arena;
    crdt_env env;
    test_rows rows;
    crdt_id root;
    crdt_store *store; /* of the delta at hand */
} replica;

static crdt_id id_of(int id) { return (crdt_id){{(uint8_t)(0x40 + id), 1}}; }

static void open_replica(replica *r) {
    cal_arena_init(&r->arena, SIZE_MAX);
    r->env = test_crdt_env(&r->arena);
    r->root = id_of(R);
    r->store = NULL;
    test_rows_init(&r->rows, &r->arena);
}

static void close_replica(replica *r) {
    test_rows_deinit(&r->rows);
    cal_arena_deinit(&r->arena);
}

static void open_delta(replica *r) {
    crdt_rows rows = test_rows_table(&r->rows);
    assert_int_equal(crdt_store_open(&r->env, &rows, &r->root, &r->store), 0);
}

static void close_delta(replica *r) { assert_int_equal(crdt_store_flush(r->store), 0); }

static crdt_bytes entry_of(replica *r, const step *s) {
    if (s->kind != FREEZE) return crdt_bytes_of(cal_arena_copy(&r->arena, &s->value, 1), 1);
    uint8_t entry[65] = {[32] = (uint8_t)s->value}; /* hash of the value, the value, the id */
    cal_sha256(cal_slice_of(&s->value, 1), entry);
    crdt_id id = id_of(s->id);
    memcpy(entry + 33, &id, 32);
    return crdt_bytes_of(cal_arena_copy(&r->arena, entry, sizeof entry), sizeof entry);
}

static crdt_action action_of(replica *r, const step *s) {
    crdt_action action = {
        .kind = s->kind == DELETE ? CRDT_ACTION_DELETE : CRDT_ACTION_ADD,
        .id = id_of(s->id),
        .deleted_at = s->time,
        .metadata = {.created_at = birth[s->id], .updated_at = s->time},
    };
    if (s->kind == DELETE) return action;
    if (s->kind == FREEZE) action.metadata.storage.kind = CRDT_FROZEN;
    action.data = entry_of(r, s);
    crdt_child *chain = cal_arena_alloc_array(&r->arena, IDS, sizeof *chain);
    uint32_t count = 0;
    for (int at = s->parent; at >= 0; at = birth_parent[at]) {
        chain[count] = (crdt_child){.id = id_of(at), .metadata = {.created_at = birth[at]}};
        chain[count].metadata.updated_at = birth[at];
        char own = (char)('A' + at); /* what its value will hash to */
        cal_sha256(cal_slice_of(&own, 1), chain[count++].merkle_hash.bytes);
    }
    action.ancestors = (crdt_children){chain, count};
    return action;
}

static void apply_step(replica *r, const step *s, crdt_refusal expected) {
    crdt_apply_context context = {.now_ns = 1000000};
    crdt_action action = action_of(r, s);
    crdt_refusal refusal;
    assert_int_equal(crdt_store_apply(r->store, &action, &context, &refusal), 0);
    assert_int_equal(refusal, expected);
}

static uint32_t mask_of(crdt_children children) {
    uint32_t mask = 0;
    for (uint32_t i = 0; i < children.count; i++)
        mask |= 1u << (children.items[i].id.bytes[0] - 0x40);
    return mask;
}

static void compare_entity(replica *r, int id, const plain *model) {
    uint8_t key[32];
    crdt_bytes row = {0}, entry = {0};
    crdt_index index;
    crdt_id at = id_of(id);
    crdt_storage_key(test_crdt_sha256, CRDT_KEY_INDEX, &at, key);
    assert_int_equal(test_rows_read(&r->rows, key, &row), model->known);
    if (!model->known) return;
    assert_int_equal(crdt_index_decode(&r->env.memory, row, &index), 0);
    assert_int_equal(index.is_deleted, model->deleted);
    if (model->deleted) assert_int_equal(index.deleted_at, model->deleted_at);
    assert_int_equal(index.metadata.updated_at, model->updated_at);
    assert_int_equal(index.has_parent, model->parent >= 0);
    if (index.has_parent) assert_int_equal(index.parent.bytes[0] - 0x40, model->parent);
    assert_int_equal(mask_of(index.children), model->children);
    uint32_t deleted = 0;
    for (uint32_t i = 0; i < index.deleted_child_count; i++)
        deleted |= 1u << (index.deleted_children[i].bytes[0] - 0x40);
    assert_int_equal(deleted, model->deleted_children);
    crdt_storage_key(test_crdt_sha256, CRDT_KEY_ENTRY, &at, key);
    assert_int_equal(test_rows_read(&r->rows, key, &entry), model->value != 0);
    if (model->value) assert_int_equal(entry.data[model->frozen ? 32 : 0], model->value);
}

/* --- orders --- */

typedef struct scenario {
    const char *name;
    step steps[STEPS_MAX];
    int readouts, roots; /* how many different ones all orders give */
} scenario;

typedef struct outcomes {
    char readouts[OUTCOMES_MAX][IDS];
    uint8_t roots[OUTCOMES_MAX][32];
    int readout_count, root_count;
} outcomes;

static const step base[BASE] = {
    {PUT, C, R, 'A' + C, 1}, {PUT, D, R, 'A' + D, 1}, {PUT, K, C, 'A' + K, 1},
    {PUT, E, C, 'e', 2},     {PUT, F, C, 'f', 2},     {PUT, M, K, 'm', 2},
};

static void run_order(const step *steps, int count, bool together, outcomes *seen) {
    replica r;
    plain all[IDS] = {{0}};
    open_replica(&r);
    for (int i = 0; i < BASE + count; i++) {
        const step *s = i < BASE ? &base[i] : &steps[i - BASE];
        if (i <= BASE || !together) open_delta(&r);
        apply_step(&r, s, s->kind == DELETE ? plain_delete(all, s) : plain_put(all, s));
        if (i < BASE || !together || i == BASE + count - 1) close_delta(&r);
    }
    char readout[IDS];
    for (int id = 0; id < IDS; id++) {
        compare_entity(&r, id, &all[id]);
        readout[id] = all[id].value;
    }
    crdt_tree_summary summary;
    assert_int_equal(test_tree_verify(&r.rows, &r.root, false, &summary), 0);
    assert_true(summary.flaws == 0 && summary.has_root);
    int at = 0;
    while (at < seen->readout_count && memcmp(seen->readouts[at], readout, IDS) != 0) at++;
    if (at == seen->readout_count) memcpy(seen->readouts[seen->readout_count++], readout, IDS);
    at = 0;
    while (at < seen->root_count && memcmp(seen->roots[at], &summary.root_hash, 32) != 0) at++;
    if (at == seen->root_count) memcpy(seen->roots[seen->root_count++], &summary.root_hash, 32);
    assert_true(seen->readout_count < OUTCOMES_MAX && seen->root_count < OUTCOMES_MAX);
    close_replica(&r);
}

static void run_orders(step *steps, int count, int fixed, outcomes *seen) {
    if (fixed == count) {
        run_order(steps, count, false, seen);
        run_order(steps, count, true, seen);
        return;
    }
    for (int i = fixed; i < count; i++) {
        step swap = steps[fixed];
        steps[fixed] = steps[i];
        steps[i] = swap;
        run_orders(steps, count, fixed + 1, seen);
        steps[i] = steps[fixed];
        steps[fixed] = swap;
    }
}

static void run_scenarios(const scenario *scenarios, size_t count) {
    for (size_t i = 0; i < count; i++) {
        scenario at = scenarios[i];
        outcomes seen = {.readout_count = 0};
        int steps = 0;
        while (steps < STEPS_MAX && at.steps[steps].time) steps++;
        printf("  %s\n", at.name);
        run_orders(at.steps, steps, 0, &seen);
        if (seen.readout_count != at.readouts || seen.root_count != at.roots)
            fail_msg("%s: %d readouts, %d roots", at.name, seen.readout_count, seen.root_count);
    }
}

/* Replicas agree, whatever came first. */
static void test_agree(void **state) {
    (void)state;
    static const scenario scenarios[] = {
        {"equal stamps",
         {{PUT, E, C, 'x', 10}, {PUT, E, C, 'y', 10}, {PUT, E, C, 'z', 10}, {PUT, E, C, 'w', 9}},
         1,
         1},
        {"deletions between values",
         {{PUT, E, C, 'x', 10}, {DELETE, E, C, 0, 11}, {PUT, E, C, 'y', 12}, {DELETE, E, C, 0, 9}},
         1,
         1},
        {"two deletions are the later one",
         {{PUT, E, C, 'x', 10}, {DELETE, E, C, 0, 11}, {DELETE, E, C, 0, 14}, {PUT, E, C, 'y', 13}},
         1,
         1},
        {"children newer than the deletion of their parent",
         {{DELETE, C, R, 0, 15}, {PUT, E, C, 'x', 20}, {PUT, F, C, 'y', 14}, {PUT, M, K, 'z', 16}},
         1,
         1},
        {"children deleted before and after their parent",
         {{DELETE, C, R, 0, 15},
          {DELETE, E, C, 0, 12},
          {DELETE, F, C, 0, 17},
          {DELETE, K, C, 0, 9}},
         1,
         1},
        {"a frozen child outlives its parent",
         {{DELETE, C, R, 0, 15}, {FREEZE, Z, C, 'z', 14}, {PUT, E, C, 'x', 3}},
         1,
         1},
        {"a child before its unknown parent",
         {{PUT, H, N, 'h', 6}, {PUT, N, R, 'A' + N, 5}, {PUT, H, N, 'i', 7}},
         1,
         1},
        {"a child before two unknown collections above it",
         {{PUT, P, O, 'p', 8},
          {PUT, N, R, 'A' + N, 5},
          {PUT, O, N, 'A' + O, 5},
          {PUT, P, O, 'q', 9}},
         1,
         1},
        {"moved by the newer action", {{PUT, E, D, 'x', 12}, {PUT, E, C, 'y', 10}}, 1, 1},
        {"siblings, one stamp",
         {{PUT, E, C, 'x', 10}, {PUT, F, C, 'x', 10}, {PUT, M, K, 'x', 10}, {PUT, G, C, 'x', 10}},
         1,
         1},
    };
    run_scenarios(scenarios, sizeof scenarios / sizeof *scenarios);
}

/* The order decides, by specification. */
static void test_pinned(void **state) {
    (void)state;
    static const scenario scenarios[] = {
        /* traps.md 4: the value revives, the deletion deletes, whichever comes last. */
        {"value and deletion of one stamp", {{PUT, E, C, 'x', 10}, {DELETE, E, C, 0, 10}}, 2, 2},
        {"two values and a deletion of one stamp",
         {{PUT, E, C, 'x', 10}, {PUT, E, C, 'y', 10}, {DELETE, E, C, 0, 10}},
         3,
         3},
        /* Below a deleted parent nothing is hashed: readouts differ, roots do not. */
        {"a child as new as the deletion of its parent",
         {{DELETE, C, R, 0, 15}, {PUT, F, C, 'y', 15}},
         2,
         1},
        {"an older child that the deletion did not know",
         {{DELETE, C, R, 0, 15}, {PUT, G, C, 'x', 14}},
         2,
         1},
        {"a child deleted before its parent, and a value in between",
         {{DELETE, C, R, 0, 15}, {DELETE, E, C, 0, 12}, {PUT, E, C, 'x', 14}},
         2,
         1},
        /* The parent comes back: what was below it is dead where the deletion came first. A
         * tombstone stays listed with the hash that it had (merkle.h). */
        {"the parent comes back", {{DELETE, C, R, 0, 15}, {PUT, C, R, 'c', 16}}, 2, 1},
        {"the parent comes back, and a child",
         {{DELETE, C, R, 0, 15}, {PUT, C, R, 'c', 16}, {PUT, E, C, 'x', 17}},
         2,
         1},
        /* traps.md 6: the first parent keeps what an older action no longer reaches. */
        {"two parents", {{PUT, E, D, 'x', 10}, {PUT, E, C, 'y', 12}}, 1, 2},
        /* Without ancestors nothing is linked again: of one stamp the mark of deletion stays beside
         * the value, a later value takes it away and hangs nowhere. */
        {"a value without ancestors and a deletion of one stamp",
         {{PUT, E, -1, 'x', 10}, {DELETE, E, C, 0, 10}},
         2,
         1},
        {"a later value without ancestors", {{PUT, E, -1, 'x', 11}, {DELETE, E, C, 0, 10}}, 1, 2},
        /* traps.md 8: a placeholder is deleted like its entity; before either there is nothing. */
        {"deletion of a parent that is not there yet",
         {{PUT, N, R, 'A' + N, 5}, {PUT, H, N, 'h', 6}, {DELETE, N, R, 0, 7}},
         3,
         2},
    };
    run_scenarios(scenarios, sizeof scenarios / sizeof *scenarios);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agree),
        cmocka_unit_test(test_pinned),
    };
    if (cal_crypto_init() != 0) return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
