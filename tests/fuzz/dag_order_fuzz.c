/* The DAG under operations in an order, with parents, that the input chooses: it keeps its own
 * accounts. Three bytes an operation: its number and two parents, 16 bits of numbers in all. */
#include <stdlib.h>

#include "calimero/error.h"
#include "dag/dag.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static cal_hash id_of(uint8_t number) {
    cal_hash id = {{number}}; /* 0 is the zero id */
    return id;
}

static void check(bool condition) {
    if (!condition) abort();
}

static void check_heads(const cal_dag *dag) {
    const cal_hash *heads;
    size_t count = dag_heads(dag, &heads);
    check(count <= dag_applied_count(dag));
    for (size_t i = 0; i < count; i++) check(dag_applied(dag, &heads[i]));
    cal_arena arena;
    dag_entry *entries;
    size_t total;
    cal_arena_init(&arena, 1 << 20);
    check(dag_ancestry(dag, heads, count, &arena, &entries, &total) == 0);
    check(total == dag_applied_count(dag)); /* the heads' ancestry is everything */
    cal_arena_deinit(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > 3 * 512) return 0;
    cal_dag *dag = dag_new(size);
    if (!dag) return 0;
    static dag_op list[512];
    static cal_hash parents[512][2];
    size_t order[512], count = 0;
    for (size_t i = 0; i + 3 <= size; i += 3, count++) {
        parents[count][0] = id_of(data[i + 1]);
        parents[count][1] = id_of(data[i + 2]);
        list[count] =
            (dag_op){id_of((uint8_t)(data[i] | 1)), parents[count], data[i] & 2 ? 2 : data[i] & 1};
        const dag_op *op = &list[count];
        dag_op next;
        cal_slice bytes;
        switch (dag_check(dag, op)) {
        case DAG_DUPLICATE:
            check(dag_park(dag, op, (cal_slice){0}) == CAL_EEXISTS);
            break;
        case DAG_WAITING:
            check(dag_park(dag, op, cal_slice_of(data + i, 3)) == 0);
            break;
        case DAG_READY:
            check(dag_apply(dag, op) == 0);
            break;
        }
        while (dag_next_ready(dag, &next, &bytes)) {
            check(bytes.len == 3 && dag_check(dag, &next) == DAG_READY);
            if (bytes.data[1] != 0xFF) check(dag_apply(dag, &next) == 0); /* some are refused */
        }
        check_heads(dag);
    }
    cal_hash missing[512];
    check((dag_missing(dag, missing, 512) > 0) || dag_waiting_count(dag) == 0 || count > 0);
    if (dag_sort(list, count, order) == 0)
        for (size_t i = 0; i < count; i++) check(order[i] < count);
    dag_free(dag);
    return 0;
}
