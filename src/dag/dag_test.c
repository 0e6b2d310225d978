/* The DAG: order of arrival must not matter, room is bounded, heads follow governance.md 6. */
#include "dag/dag.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "calimero/error.h"

static cal_hash id_of(uint32_t number) {
    cal_hash id = {{0}};
    cal_write_u32le(id.bytes, number + 1);
    return id;
}

typedef struct {
    dag_op op;
    cal_hash parents[4];
} test_op;

static test_op *op_of(test_op *op, uint32_t id, size_t count, const uint32_t *parents) {
    op->op = (dag_op){id_of(id), op->parents, (uint32_t)count};
    for (size_t i = 0; i < count; i++) op->parents[i] = id_of(parents[i]);
    return op;
}
#define OP(store, id, ...)                                                                         \
    (&op_of((store), (id), sizeof((uint32_t[]){__VA_ARGS__}) / 4, (uint32_t[]){__VA_ARGS__})->op)
#define ROOT(store, id) (&op_of((store), (id), 0, (uint32_t[]){0})->op)

static const cal_hash nobody;

static dag_verdict verdict_of(const cal_dag *dag, const dag_op *op) {
    dag_verdict verdict;
    assert_int_equal(dag_check(dag, op, &verdict), 0);
    return verdict;
}

static void assert_heads(const cal_dag *dag, size_t count, const uint32_t *expected) {
    const cal_hash *heads;
    assert_int_equal(dag_heads(dag, &heads), count);
    for (size_t i = 0; i < count; i++) {
        cal_hash id = id_of(expected[i]);
        assert_memory_equal(&heads[i], &id, sizeof id);
    }
}
#define HEADS(dag, ...)                                                                            \
    assert_heads((dag), sizeof((uint32_t[]){__VA_ARGS__}) / 4, (uint32_t[]){__VA_ARGS__})

static void test_heads_and_generations(void **state) {
    (void)state;
    cal_dag *dag = dag_new(1, NULL);
    test_op t;
    uint32_t generation;
    cal_hash zero = {{0}};
    dag_op genesis = {id_of(0), &zero, 1};
    assert_int_equal(verdict_of(dag, &genesis), DAG_READY);
    assert_int_equal(dag_apply(dag, &genesis), 0);
    assert_int_equal(verdict_of(dag, &genesis), DAG_DUPLICATE);
    assert_int_equal(dag_apply(dag, &genesis), CAL_EEXISTS);
    assert_int_equal(dag_apply(dag, OP(&t, 1, 0)), 0);
    assert_int_equal(dag_apply(dag, OP(&t, 2, 0)), 0);
    HEADS(dag, 1, 2);
    assert_int_equal(dag_apply(dag, OP(&t, 3, 1)), 0);
    HEADS(dag, 2, 3);
    assert_int_equal(dag_apply(dag, OP(&t, 4, 3, 2)), 0);
    HEADS(dag, 4);
    assert_int_equal(dag_apply(dag, ROOT(&t, 5)), 0);
    HEADS(dag, 4, 5);
    assert_int_equal(dag_apply(dag, OP(&t, 6, 9)), CAL_ESTATE);
    cal_hash id = id_of(4);
    assert_int_equal(dag_generation(dag, &id, &generation), 0);
    assert_int_equal(generation, 3);
    id = id_of(6);
    assert_int_equal(dag_generation(dag, &id, &generation), CAL_ENOTFOUND);
    assert_int_equal(dag_known(dag), 6);
    dag_free(dag);
}

/* What an owner does with an operation that arrives. */
static void receive(cal_dag *dag, const dag_op *op) {
    switch (verdict_of(dag, op)) {
    case DAG_DUPLICATE:
        return;
    case DAG_WAITING:
        assert_int_equal(dag_park(dag, op, cal_slice_of(op->id.bytes, 4), &nobody), 0);
        return;
    case DAG_READY:
        break;
    }
    assert_int_equal(dag_apply(dag, op), 0);
    dag_op next;
    cal_slice bytes;
    while (dag_next_ready(dag, &next, &bytes)) {
        assert_memory_equal(bytes.data, next.id.bytes, 4);
        assert_int_equal(dag_apply(dag, &next), 0);
    }
}

static void test_any_order_arrives_at_the_same(void **state) {
    (void)state;
    enum { OPS = 200 };
    static test_op ops[OPS];
    srand(7);
    op_of(&ops[0], 0, 0, (uint32_t[]){0});
    for (uint32_t i = 1; i < OPS; i++) {
        uint32_t parents[3] = {(uint32_t)rand() % i, (uint32_t)rand() % i, i - 1};
        op_of(&ops[i], i, 1 + (size_t)rand() % 3, parents);
    }
    size_t order[OPS];
    for (size_t round = 0; round < 20; round++) {
        cal_dag *dag = dag_new(round, NULL);
        for (size_t i = 0; i < OPS; i++) order[i] = i;
        for (size_t i = OPS - 1; i > 0; i--) {
            size_t j = (size_t)rand() % (i + 1), swap = order[i];
            order[i] = order[j];
            order[j] = swap;
        }
        for (size_t i = 0; i < OPS; i++) {
            receive(dag, &ops[order[i]].op);
            receive(dag, &ops[order[i / 2]].op);
        }
        assert_int_equal(dag_known(dag), OPS);
        assert_int_equal(dag_waiting_count(dag), 0);
        cal_hash missing[4];
        assert_int_equal(dag_missing(dag, missing, 4), 0);
        for (uint32_t i = 0; i < OPS;
             i++) { /* heads are exactly the operations that nobody cites */
            bool cited = false, head = false;
            for (size_t j = 0; j < OPS; j++)
                for (uint32_t p = 0; p < ops[j].op.parent_count; p++)
                    cited |= memcmp(&ops[j].parents[p], &ops[i].op.id, 32) == 0;
            const cal_hash *heads;
            size_t count = dag_heads(dag, &heads);
            for (size_t h = 0; h < count; h++) head |= memcmp(&heads[h], &ops[i].op.id, 32) == 0;
            assert_int_equal(head, !cited);
        }
        dag_free(dag);
    }
}

static void test_missing_parents(void **state) {
    (void)state;
    cal_dag *dag = dag_new(1, NULL);
    test_op t;
    cal_hash missing[4], expected = id_of(1);
    receive(dag, OP(&t, 3, 2));
    receive(dag, OP(&t, 2, 1));
    assert_int_equal(dag_missing(dag, missing, 4), 1);
    assert_memory_equal(&missing[0], &expected, 32);
    assert_int_equal(dag_waiting_count(dag), 2);
    assert_int_equal(dag_park(dag, OP(&t, 2, 1), (cal_slice){0}, &nobody), CAL_EEXISTS);
    receive(dag, ROOT(&t, 1));
    assert_int_equal(dag_known(dag), 3);
    /* an operation that waited and was refused may come again */
    receive(dag, OP(&t, 6, 5));
    dag_op next;
    cal_slice bytes;
    assert_int_equal(dag_apply(dag, ROOT(&t, 5)), 0);
    assert_true(dag_next_ready(dag, &next, &bytes));
    assert_false(dag_next_ready(dag, &next, &bytes));
    assert_int_equal(verdict_of(dag, OP(&t, 6, 5)), DAG_READY);
    dag_free(dag);
}

static void test_room_is_bounded(void **state) {
    (void)state;
    cal_dag *dag = dag_new(1, NULL);
    test_op t;
    for (uint32_t i = 0; i < DAG_WAITING_MAX + 5; i++)
        assert_int_equal(dag_park(dag, OP(&t, 2 * i + 1, 2 * i + 2), (cal_slice){0}, &nobody), 0);
    assert_int_equal(dag_waiting_count(dag), DAG_WAITING_MAX);
    assert_int_equal(dag_evicted(dag), 5);
    assert_int_equal(verdict_of(dag, OP(&t, 1, 2)), DAG_WAITING); /* the oldest went */
    assert_int_equal(verdict_of(dag, OP(&t, 11, 12)), DAG_DUPLICATE);
    dag_free(dag);
    dag = dag_new(1, NULL);
    enum { ALL = DAG_WAITING_BYTES_MAX - DAG_WAITING_PARENT_COST };
    uint8_t *bytes = malloc(ALL + 1);
    assert_non_null(bytes);
    memset(bytes, 1, ALL + 1);
    assert_int_equal(dag_park(dag, OP(&t, 1, 2), cal_slice_of(bytes, ALL + 1), &nobody),
                     CAL_ELIMIT);
    assert_int_equal(dag_park(dag, OP(&t, 1, 2), cal_slice_of(bytes, ALL), &nobody), 0);
    assert_int_equal(dag_park(dag, OP(&t, 3, 2), cal_slice_of(bytes, 1), &nobody), 0);
    assert_int_equal(dag_waiting_count(dag), 1);
    free(bytes);
    dag_free(dag);
}

static bool waits(const cal_dag *dag, const dag_op *op) {
    return verdict_of(dag, op) == DAG_DUPLICATE;
}

/* One sender fills everything; whoever comes after it finds room, and only the one that took most
 * gives way, its oldest first. */
static void test_no_sender_fills_it_for_others(void **state) {
    (void)state;
    cal_dag *dag = dag_new(1, NULL);
    test_op t;
    const cal_hash loud = {{1}}, quiet = {{2}}, third = {{3}};
    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(dag_park(dag, OP(&t, 2 * i, 1), (cal_slice){0}, &quiet), 0);
    for (uint32_t i = 10; i < 2 * DAG_WAITING_MAX; i++)
        assert_int_equal(dag_park(dag, OP(&t, 2 * i, 1), (cal_slice){0}, &loud), 0);
    assert_int_equal(dag_waiting_count(dag), DAG_WAITING_MAX);
    for (uint32_t i = 0; i < 10; i++) assert_true(waits(dag, OP(&t, 2 * i, 1)));
    uint32_t oldest = 2 * (DAG_WAITING_MAX + 10); /* of those that the loud one still has */
    assert_true(waits(dag, OP(&t, oldest, 1)));
    assert_int_equal(dag_park(dag, OP(&t, 1001, 1), (cal_slice){0}, &third), 0);
    assert_false(waits(dag, OP(&t, oldest, 1)));
    assert_true(waits(dag, OP(&t, oldest + 2, 1)));
    for (uint32_t i = 0; i < 10; i++) assert_true(waits(dag, OP(&t, 2 * i, 1)));
    dag_free(dag);
}

/* By bytes: many small ones of others do not give way to one that is larger than any of them, and
 * cited parents count. */
static void test_shares_of_bytes(void **state) {
    (void)state;
    cal_dag *dag = dag_new(1, NULL);
    test_op t;
    enum { SMALL = 512 * 1024, HALF = DAG_WAITING_BYTES_MAX / 2 };
    const cal_hash loud = {{99}};
    uint8_t *bytes = calloc(1, HALF + SMALL);
    assert_non_null(bytes);
    for (uint32_t i = 0; i < 90; i++) {
        cal_hash sender = {{(uint8_t)i}};
        assert_int_equal(dag_park(dag, OP(&t, 2 * i, 1), cal_slice_of(bytes, SMALL), &sender), 0);
    }
    assert_int_equal(dag_park(dag, OP(&t, 1001, 1), cal_slice_of(bytes, HALF), &loud), CAL_ELIMIT);
    assert_int_equal(dag_waiting_count(dag), 90);
    assert_int_equal(dag_park(dag, OP(&t, 1001, 1), cal_slice_of(bytes, HALF / 2), &loud), 0);
    assert_int_equal(dag_park(dag, OP(&t, 1003, 1), cal_slice_of(bytes, HALF / 2), &loud), 0);
    assert_false(waits(dag, OP(&t, 1001, 1))); /* its own older one */
    assert_int_equal(dag_evicted(dag), 1);
    dag_free(dag);
    dag = dag_new(1, NULL); /* what the newcomer brings makes its sender the one that has most */
    const cal_hash more = {{98}};
    assert_int_equal(dag_park(dag, OP(&t, 1, 5), cal_slice_of(bytes, 30 << 20), &more), 0);
    assert_int_equal(dag_park(dag, OP(&t, 2, 5), cal_slice_of(bytes, 20 << 20), &loud), 0);
    assert_int_equal(dag_park(dag, OP(&t, 3, 5), cal_slice_of(bytes, 20 << 20), &loud), 0);
    assert_true(waits(dag, OP(&t, 1, 5)));
    assert_false(waits(dag, OP(&t, 2, 5)));
    free(bytes);
    dag_free(dag);
    dag = dag_new(1, NULL);
    cal_hash *parents = calloc(DAG_PARENTS_MAX + 1, sizeof *parents);
    assert_non_null(parents);
    for (uint32_t i = 0; i <= DAG_PARENTS_MAX; i++) parents[i] = id_of(7000000 + i);
    for (uint32_t i = 0; i < 100; i++) {
        dag_op op = {id_of(i), parents, DAG_PARENTS_MAX};
        assert_int_equal(dag_park(dag, &op, (cal_slice){0}, &loud), 0);
    }
    assert_int_equal(dag_waiting_count(dag),
                     DAG_WAITING_BYTES_MAX / (DAG_PARENTS_MAX * DAG_WAITING_PARENT_COST));
    dag_op over = {id_of(5000), parents, DAG_PARENTS_MAX + 1};
    assert_int_equal(dag_park(dag, &over, (cal_slice){0}, &loud), CAL_ELIMIT);
    free(parents);
    dag_free(dag);
}

/* --- over a store --- */

enum { STORED_MAX = 8192 };
typedef struct {
    test_op ops[STORED_MAX];
    uint32_t generations[STORED_MAX];
    size_t count, asked, fails_after; /* lookups that still work */
    int fails;
} test_store;

static int find_stored(void *user, const cal_hash *id, uint32_t *ret_generation,
                       cal_buffer *ret_parents) {
    test_store *store = user;
    store->asked++;
    if (store->fails && store->asked > store->fails_after) return store->fails;
    for (size_t i = store->count; i-- > 0;) {
        if (memcmp(&store->ops[i].op.id, id, sizeof *id) != 0) continue;
        *ret_generation = store->generations[i];
        for (uint32_t p = 0; p < store->ops[i].op.parent_count && ret_parents; p++)
            cal_buffer_append(ret_parents, &store->ops[i].parents[p], sizeof(cal_hash));
        return 0;
    }
    return CAL_ENOTFOUND;
}

static void apply_stored(cal_dag *dag, test_store *store, const dag_op *op) {
    assert_int_equal(dag_apply(dag, op), 0);
    test_op *kept = &store->ops[store->count];
    memcpy(kept->parents, op->parents, op->parent_count * sizeof *op->parents);
    kept->op = (dag_op){op->id, kept->parents, op->parent_count};
    assert_int_equal(dag_generation(dag, &op->id, &store->generations[store->count]), 0);
    store->count++;
}

/* Memory does not grow with history, and everything is still known. */
static void test_over_a_store(void **state) {
    (void)state;
    static test_store store;
    const dag_store table = {&store, find_stored};
    cal_dag *dag = dag_new(1, &table);
    test_op t;
    apply_stored(dag, &store, ROOT(&t, 0));
    for (uint32_t i = 1; i < 5000; i++) {
        apply_stored(dag, &store, OP(&t, i, i - 1));
        if (i % 10 == 0) dag_settle(dag, dag_unsettled(dag));
    }
    dag_settle(dag, dag_unsettled(dag));
    assert_int_equal(dag_known(dag), DAG_RECENT_MAX);
    HEADS(dag, 4999);
    uint32_t generation;
    cal_hash old = id_of(17), missing = id_of(6000), zero = {{0}};
    assert_int_equal(dag_generation(dag, &old, &generation), 0);
    assert_int_equal(generation, 17);
    assert_int_equal(dag_applied(dag, &missing), CAL_ENOTFOUND);
    assert_int_equal(verdict_of(dag, OP(&t, 17, 16)), DAG_DUPLICATE);
    assert_int_equal(verdict_of(dag, OP(&t, 6000, 17, 4999)), DAG_READY);
    store.asked = 0;
    assert_int_equal(dag_applied(dag, &(cal_hash){.bytes = {0}}), CAL_ENOTFOUND);
    store.asked = 0;
    dag_op next = {id_of(6000), (cal_hash[]){id_of(4999), zero}, 2};
    assert_int_equal(dag_apply(dag, &next), 0);
    assert_int_equal(store.asked, 1); /* whether it is there already; its parent is known */
    dag_revert(dag);
    store.fails = CAL_EIO;
    dag_verdict verdict = DAG_READY;
    assert_int_equal(dag_check(dag, &next, &verdict), CAL_EIO);
    store.asked = 0; /* the operation is looked up, its parent is not */
    store.fails_after = 1;
    assert_int_equal(dag_check(dag, OP(&t, 6000, 17), &verdict), CAL_EIO);
    store.fails_after = 0;
    assert_int_equal(dag_apply(dag, &next), CAL_EIO);
    assert_int_equal(dag_park(dag, &next, (cal_slice){0}, &nobody), CAL_EIO);
    store.fails = 0;
    cal_dag *again = dag_new(2, &table);
    const cal_hash *heads;
    size_t count = dag_heads(dag, &heads);
    assert_int_equal(dag_load(again, heads, count), 0);
    HEADS(again, 4999);
    assert_int_equal(dag_apply(again, OP(&t, 7000, 4999, 3)), 0);
    assert_int_equal(dag_generation(again, &(cal_hash[]){id_of(7000)}[0], &generation), 0);
    assert_int_equal(generation, 5000);
    HEADS(again, 7000);
    dag_free(again);
    dag_free(dag);
}

/* What was not settled is as if it had never been applied: heads, and who waited for it. */
static void test_revert(void **state) {
    (void)state;
    static test_store store;
    const dag_store table = {&store, find_stored};
    cal_dag *dag = dag_new(1, &table);
    test_op t;
    dag_op next;
    cal_slice bytes;
    apply_stored(dag, &store, ROOT(&t, 0));
    apply_stored(dag, &store, OP(&t, 1, 0));
    dag_settle(dag, 2);
    receive(dag, OP(&t, 9, 2, 3)); /* waits for both */
    receive(dag, OP(&t, 8, 2));
    assert_int_equal(dag_apply(dag, OP(&t, 2, 1)), 0);
    assert_int_equal(dag_apply(dag, ROOT(&t, 3)), 0);
    HEADS(dag, 2, 3);
    dag_revert(dag);
    HEADS(dag, 1);
    assert_int_equal(dag_unsettled(dag), 0);
    assert_false(dag_next_ready(dag, &next, &bytes));
    assert_int_equal(dag_waiting_count(dag), 2);
    cal_hash missing[4];
    assert_int_equal(dag_missing(dag, missing, 4), 2);
    apply_stored(dag, &store, OP(&t, 2, 1));
    assert_true(dag_next_ready(dag, &next, &bytes));
    assert_memory_equal(&next.id, &(cal_hash[]){id_of(8)}[0], 32);
    assert_false(dag_next_ready(dag, &next, &bytes));
    apply_stored(dag, &store, ROOT(&t, 3));
    assert_true(dag_next_ready(dag, &next, &bytes));
    assert_memory_equal(&next.id, &(cal_hash[]){id_of(9)}[0], 32);
    dag_settle(dag, 1); /* one of two: the other may still go */
    dag_revert(dag);
    HEADS(dag, 2);
    dag_free(dag);
}

static void test_limits(void **state) {
    (void)state;
    cal_dag *dag = dag_new(1, NULL);
    test_op t;
    for (uint32_t i = 0; i < DAG_HEADS_MAX; i++) assert_int_equal(dag_apply(dag, ROOT(&t, i)), 0);
    assert_int_equal(dag_apply(dag, ROOT(&t, DAG_HEADS_MAX)), CAL_ELIMIT);
    assert_int_equal(dag_apply(dag, OP(&t, DAG_HEADS_MAX, 5)), 0); /* takes one's place */
    cal_hash *parents = calloc(DAG_PARENTS_MAX + 1, sizeof *parents);
    assert_non_null(parents);
    const cal_hash *heads;
    size_t count = dag_heads(dag, &heads);
    assert_int_equal(count, DAG_PARENTS_MAX);
    memcpy(parents, heads, count * sizeof *heads);
    parents[count] = id_of(5);
    dag_op merge = {id_of(9000), parents, DAG_PARENTS_MAX + 1};
    assert_int_equal(dag_apply(dag, &merge), CAL_ELIMIT);
    merge.parent_count--;
    cal_dag *loaded = dag_new(2, NULL);
    assert_int_equal(dag_load(loaded, parents, DAG_HEADS_MAX + 1), CAL_ELIMIT);
    assert_int_equal(dag_load(loaded, parents, DAG_HEADS_MAX), 0);
    assert_int_equal(dag_apply(dag, &merge), 0);
    HEADS(dag, 9000);
    free(parents);
    dag_free(loaded);
    dag_free(dag);
}

static void test_ancestry(void **state) {
    (void)state;
    cal_dag *dag = dag_new(1, NULL);
    test_op t;
    dag_apply(dag, ROOT(&t, 0));
    dag_apply(dag, OP(&t, 1, 0));
    dag_apply(dag, OP(&t, 2, 0));
    dag_apply(dag, OP(&t, 3, 1));
    dag_apply(dag, OP(&t, 4, 2, 3));
    cal_arena arena;
    dag_entry *entries;
    size_t count;
    cal_arena_init(&arena, 1 << 16);
    cal_hash cut[2] = {id_of(3), id_of(1)}, nowhere = id_of(77),
             expected[] = {id_of(0), id_of(1), id_of(3)};
    assert_int_equal(dag_ancestry(dag, cut, 2, &arena, &entries, &count), 0);
    assert_int_equal(count, 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_memory_equal(&entries[i].id, &expected[i], 32);
        assert_int_equal(entries[i].generation, i);
    }
    dag_apply(dag, OP(&t, 9, 4)); /* a child whose id is below its parent's */
    dag_apply(dag, OP(&t, 8, 9));
    cut[0] = id_of(8);
    assert_int_equal(dag_ancestry(dag, cut, 1, &arena, &entries, &count), 0);
    assert_int_equal(count, 7);
    assert_memory_equal(&entries[6].id, &cut[0], 32);
    assert_int_equal(dag_ancestry(dag, NULL, 0, &arena, &entries, &count), 0);
    assert_int_equal(count, 0);
    assert_int_equal(dag_ancestry(dag, &nowhere, 1, &arena, &entries, &count), CAL_ENOTFOUND);
    cal_arena_deinit(&arena);
    dag_free(dag);
}

static void test_sort(void **state) {
    (void)state;
    test_op t[5];
    size_t order[5];
    dag_op ops[5] = {*OP(&t[0], 4, 3), *OP(&t[1], 1, 0), *OP(&t[2], 3, 1, 99), *ROOT(&t[3], 0),
                     *ROOT(&t[4], 7)};
    const size_t expected[] = {3, 1, 2, 0, 4};
    assert_int_equal(dag_sort(ops, 5, order), 0);
    assert_memory_equal(order, expected, sizeof expected);
    dag_op cycle[2] = {*OP(&t[0], 1, 2), *OP(&t[1], 2, 1)};
    assert_int_equal(dag_sort(cycle, 2, order), CAL_EDECODE);
    assert_int_equal(dag_sort(NULL, 0, order), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads_and_generations),
        cmocka_unit_test(test_any_order_arrives_at_the_same),
        cmocka_unit_test(test_missing_parents),
        cmocka_unit_test(test_room_is_bounded),
        cmocka_unit_test(test_no_sender_fills_it_for_others),
        cmocka_unit_test(test_shares_of_bytes),
        cmocka_unit_test(test_over_a_store),
        cmocka_unit_test(test_revert),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_ancestry),
        cmocka_unit_test(test_sort),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
