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
    cal_dag *dag = dag_new(1);
    test_op t;
    uint32_t generation;
    cal_hash zero = {{0}};
    dag_op genesis = {id_of(0), &zero, 1};
    assert_int_equal(dag_check(dag, &genesis), DAG_READY);
    assert_int_equal(dag_apply(dag, &genesis), 0);
    assert_int_equal(dag_check(dag, &genesis), DAG_DUPLICATE);
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
    assert_int_equal(dag_applied_count(dag), 6);
    dag_free(dag);
}

/* What an owner does with an operation that arrives. */
static void receive(cal_dag *dag, const dag_op *op) {
    switch (dag_check(dag, op)) {
    case DAG_DUPLICATE:
        return;
    case DAG_WAITING:
        assert_int_equal(dag_park(dag, op, cal_slice_of(op->id.bytes, 4)), 0);
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
        cal_dag *dag = dag_new(round);
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
        assert_int_equal(dag_applied_count(dag), OPS);
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
    cal_dag *dag = dag_new(1);
    test_op t;
    cal_hash missing[4], expected = id_of(1);
    receive(dag, OP(&t, 3, 2));
    receive(dag, OP(&t, 2, 1));
    assert_int_equal(dag_missing(dag, missing, 4), 1);
    assert_memory_equal(&missing[0], &expected, 32);
    assert_int_equal(dag_waiting_count(dag), 2);
    assert_int_equal(dag_park(dag, OP(&t, 2, 1), (cal_slice){0}), CAL_EEXISTS);
    receive(dag, ROOT(&t, 1));
    assert_int_equal(dag_applied_count(dag), 3);
    /* an operation that waited and was refused may come again */
    receive(dag, OP(&t, 6, 5));
    dag_op next;
    cal_slice bytes;
    assert_int_equal(dag_apply(dag, ROOT(&t, 5)), 0);
    assert_true(dag_next_ready(dag, &next, &bytes));
    assert_false(dag_next_ready(dag, &next, &bytes));
    assert_int_equal(dag_check(dag, OP(&t, 6, 5)), DAG_READY);
    dag_free(dag);
}

static void test_room_is_bounded(void **state) {
    (void)state;
    cal_dag *dag = dag_new(1);
    test_op t;
    for (uint32_t i = 0; i < DAG_WAITING_MAX + 5; i++)
        assert_int_equal(dag_park(dag, OP(&t, 2 * i + 1, 2 * i + 2), (cal_slice){0}), 0);
    assert_int_equal(dag_waiting_count(dag), DAG_WAITING_MAX);
    assert_int_equal(dag_evicted(dag), 5);
    assert_int_equal(dag_check(dag, OP(&t, 1, 2)), DAG_WAITING); /* the oldest went */
    assert_int_equal(dag_check(dag, OP(&t, 11, 12)), DAG_DUPLICATE);
    dag_free(dag);
    dag = dag_new(1);
    uint8_t *bytes = malloc(DAG_WAITING_BYTES_MAX + 1);
    assert_non_null(bytes);
    memset(bytes, 1, DAG_WAITING_BYTES_MAX + 1);
    assert_int_equal(dag_park(dag, OP(&t, 1, 2), cal_slice_of(bytes, DAG_WAITING_BYTES_MAX + 1)),
                     CAL_ELIMIT);
    assert_int_equal(dag_park(dag, OP(&t, 1, 2), cal_slice_of(bytes, DAG_WAITING_BYTES_MAX)), 0);
    assert_int_equal(dag_park(dag, OP(&t, 3, 2), cal_slice_of(bytes, 1)), 0);
    assert_int_equal(dag_waiting_count(dag), 1);
    free(bytes);
    dag_free(dag);
}

static void test_ancestry(void **state) {
    (void)state;
    cal_dag *dag = dag_new(1);
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
        cmocka_unit_test(test_ancestry),
        cmocka_unit_test(test_sort),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
