/* Sorting operations, compared with a plain model: again and again the first of the list whose
 * parents are all out. */
#include "golden.h"

#include "calimero/error.h"
#include "dag/dag.h"

enum { OPS_MAX = 40, PARENTS = 4, ROUNDS = 400 };

static uint64_t seed = 88172645463325252u;

static size_t below(size_t bound) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (size_t)(seed >> 33) % bound;
}

static cal_hash id_of(size_t number) { return (cal_hash){{(uint8_t)(number + 1), 9}}; }

/* 0, or CAL_EDECODE when a circle is left. */
static int plain_sort(const dag_op *ops, size_t count, size_t *ret_order) {
    bool out[OPS_MAX] = {false};
    for (size_t done = 0; done < count; done++) {
        size_t at = 0;
        for (; at < count; at++) {
            bool ready = !out[at];
            for (uint32_t p = 0; p < ops[at].parent_count && ready; p++)
                for (size_t i = 0; i < count; i++)
                    if (!out[i] && memcmp(&ops[i].id, &ops[at].parents[p], 32) == 0) ready = false;
            if (ready) break;
        }
        if (at == count) return CAL_EDECODE;
        out[at] = true;
        ret_order[done] = at;
    }
    return 0;
}

static void compare(const dag_op *ops, size_t count) {
    size_t order[OPS_MAX], expected[OPS_MAX];
    int result = plain_sort(ops, count, expected);
    assert_int_equal(dag_sort(ops, count, order), result);
    for (size_t i = 0; i < count && !result; i++) assert_int_equal(order[i], expected[i]);
}

/* Lists in any order, with parents in the list and outside, some cited twice. */
static void test_random(void **state) {
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        dag_op ops[OPS_MAX];
        cal_hash parents[OPS_MAX][PARENTS];
        size_t count = below(OPS_MAX) + 1, number[OPS_MAX];
        for (size_t i = 0; i < count; i++) number[i] = i;
        for (size_t i = count; i > 1; i--) {
            size_t other = below(i), swap = number[i - 1];
            number[i - 1] = number[other];
            number[other] = swap;
        }
        for (size_t i = 0; i < count; i++) {
            uint32_t citing = (uint32_t)below(PARENTS + 1);
            for (uint32_t p = 0; p < citing; p++) /* older numbers, or nobody here */
                parents[i][p] = id_of(number[i] && below(4) ? below(number[i]) : 100 + below(50));
            ops[i] =
                (dag_op){.id = id_of(number[i]), .parents = parents[i], .parent_count = citing};
        }
        compare(ops, count);
    }
}

/* Many at once that wait for nobody keep their order. */
static void test_independent(void **state) {
    (void)state;
    dag_op ops[OPS_MAX];
    cal_hash parent = id_of(200);
    for (size_t i = 0; i < OPS_MAX; i++)
        ops[i] = (dag_op){.id = id_of(i), .parents = &parent, .parent_count = 1};
    for (size_t count = 0; count <= OPS_MAX; count++) compare(ops, count);
}

static void test_circles(void **state) {
    (void)state;
    cal_hash parents[3] = {id_of(1), id_of(2), id_of(0)};
    dag_op ops[4];
    for (size_t i = 0; i < 3; i++)
        ops[i] = (dag_op){.id = id_of(i), .parents = &parents[i], .parent_count = 1};
    ops[3] = (dag_op){.id = id_of(3)};
    size_t order[4];
    assert_int_equal(dag_sort(ops, 4, order), CAL_EDECODE);
    parents[2] = id_of(3);
    compare(ops, 4);
    parents[0] = id_of(0); /* its own parent */
    assert_int_equal(dag_sort(ops, 1, order), CAL_EDECODE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_independent),
        cmocka_unit_test(test_circles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
