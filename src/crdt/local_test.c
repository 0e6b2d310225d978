/* Local writes against what their artifact does elsewhere, with clocks that stand still and run
 * back. */
#include "support/crdt.h"

typedef struct side {
    cal_arena arena;
    crdt_env env;
    test_rows rows;
    crdt_rows table;
    crdt_id root;
    crdt_hash root_hash;
} side;

static void open_side(side *s) {
    cal_arena_init(&s->arena, SIZE_MAX);
    s->env = test_crdt_env(&s->arena);
    test_rows_init(&s->rows, &s->arena);
    s->table = test_rows_table(&s->rows);
    memset(&s->root, 0x60, sizeof s->root);
}

static void close_side(side *s) {
    test_rows_deinit(&s->rows);
    cal_arena_deinit(&s->arena);
}

static crdt_store *begin(side *s) {
    crdt_store *store;
    assert_int_equal(crdt_store_open(&s->env, &s->table, &s->root, &store), 0);
    return store;
}

static crdt_bytes commit(side *s, crdt_store *store) {
    crdt_bytes artifact;
    assert_int_equal(crdt_store_flush(store), 0);
    assert_int_equal(crdt_store_root_hash(store, &s->root_hash), 0);
    assert_int_equal(crdt_store_artifact(store, &artifact), 0);
    return artifact;
}

static void deliver(side *s, crdt_bytes artifact) {
    crdt_delta delta;
    crdt_refusal refusal;
    crdt_apply_context context = {.now_ns = 5000, .verify = test_crdt_verify};
    crdt_store *store = begin(s);
    assert_int_equal(crdt_delta_decode(&s->env.memory, artifact, &delta), 0);
    for (uint32_t i = 0; i < delta.action_count; i++) {
        assert_int_equal(crdt_store_apply(store, &delta.actions[i], &context, &refusal), 0);
        assert_int_equal(refusal, CRDT_APPLIED);
    }
    commit(s, store);
}

static void put(side *s, crdt_store *store, uint8_t id, uint8_t parent, const char *data,
                uint64_t now) {
    crdt_put value = {.data = crdt_bytes_of(data, strlen(data)), .now_ns = now};
    crdt_id above;
    memset(&value.id, id, 32);
    memset(&above, parent, 32);
    if (crdt_id_equal(&value.id, &s->root))
        value.parent = NULL;
    else
        value.parent = &above;
    assert_int_equal(crdt_store_put(store, &value), 0);
}

static void delete (crdt_store *store, uint8_t id, uint64_t now) {
    crdt_id entity;
    memset(&entity, id, 32);
    assert_int_equal(crdt_store_delete(store, &entity, now), 0);
}

static void expect_same(side *author, side *peer) {
    crdt_tree_summary summary;
    assert_memory_equal(&author->root_hash, &peer->root_hash, 32);
    assert_int_equal(test_tree_verify(&author->rows, &author->root, false, &summary), 0);
    assert_true(summary.flaws == 0);
    assert_int_equal(test_tree_verify(&peer->rows, &peer->root, false, &summary), 0);
    assert_true(summary.flaws == 0);
}

static void test_replays(void **state) {
    (void)state;
    side author, peer;
    open_side(&author);
    open_side(&peer);
    crdt_store *store = begin(&author);
    put(&author, store, 0x60, 0, "root", 1000);
    put(&author, store, 1, 0x60, "collection", 1000);
    put(&author, store, 2, 1, "entry", 1000);
    put(&author, store, 2, 1, "entry again", 1000);
    deliver(&peer, commit(&author, store));
    expect_same(&author, &peer);
    store = begin(&author);
    delete (store, 2, 1000);
    put(&author, store, 3, 1, "other", 10); /* the clock ran back */
    deliver(&peer, commit(&author, store));
    expect_same(&author, &peer);
    store = begin(&author);
    put(&author, store, 2, 1, "back", 10);
    deliver(&peer, commit(&author, store));
    expect_same(&author, &peer);
    store = begin(&author);
    delete (store, 1, 10); /* with all that hangs below */
    deliver(&peer, commit(&author, store));
    expect_same(&author, &peer);
    crdt_bytes entry;
    crdt_id gone;
    memset(&gone, 3, 32);
    store = begin(&peer);
    assert_int_equal(crdt_store_get(store, &gone, &entry), CRDT_ENOTFOUND);
    assert_int_equal(crdt_store_delete(store, &gone, 10), CRDT_ENOTFOUND);
    close_side(&author);
    close_side(&peer);
}

/* Times of one entity only grow; values have even ones and deletions odd ones (traps.md 4). */
static void test_times(void **state) {
    (void)state;
    side author;
    open_side(&author);
    crdt_store *store = begin(&author);
    put(&author, store, 0x60, 0, "root", 1001);
    for (int i = 0; i < 5; i++) {
        put(&author, store, 1, 0x60, "x", 1001 - (uint64_t)i);
        put(&author, store, 1, 0x60, "y", 1001);
        delete (store, 1, 1001);
    }
    crdt_delta delta;
    uint64_t last = 0;
    assert_int_equal(crdt_delta_decode(&author.env.memory, commit(&author, store), &delta), 0);
    assert_int_equal(delta.action_count, 16);
    for (uint32_t i = 1; i < delta.action_count; i++) {
        const crdt_action *action = &delta.actions[i];
        bool is_delete = action->kind == CRDT_ACTION_DELETE;
        uint64_t time = is_delete ? action->deleted_at : action->metadata.updated_at;
        assert_true(time > last);
        assert_int_equal(time & 1, is_delete);
        last = time;
    }
    close_side(&author);
}

/* Memory that runs out anywhere ends the operation with CRDT_ENOMEM and writes nothing. */
static void test_no_memory(void **state) {
    (void)state;
    for (size_t max = 0;; max += 64) {
        side s;
        open_side(&s);
        s.arena.max = max;
        crdt_store *store;
        int result = crdt_store_open(&s.env, &s.table, &s.root, &store);
        for (uint8_t i = 0; i < 20 && !result; i++) {
            crdt_put value = {
                .data = crdt_bytes_of("data", 4), .now_ns = 10, .parent = i ? &s.root : NULL};
            if (i)
                memset(&value.id, i, 32);
            else
                value.id = s.root;
            result = crdt_store_put(store, &value);
        }
        if (!result) result = crdt_store_flush(store);
        crdt_bytes artifact;
        if (!result) result = crdt_store_artifact(store, &artifact);
        close_side(&s);
        if (!result) break;
        assert_int_equal(result, CRDT_ENOMEM);
        assert_true(max < 1u << 20);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replays),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_no_memory),
    };
    if (cal_crypto_init() != 0) return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
