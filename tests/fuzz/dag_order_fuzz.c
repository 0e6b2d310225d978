/* The DAG under operations in an order, with parents, that the input chooses: it keeps its own
 * accounts. Three bytes an operation: its number and two parents, 16 bits of numbers in all. What
 * is applied goes to a store of its own now and then, or is taken back, as the numbers say. */
#include <stdlib.h>

#include "calimero/error.h"
#include "dag/dag.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OPS_MAX = 512, IDS = 256 };

typedef struct { /* by the first byte of the id */
    bool stored[IDS];
    uint32_t generation[IDS];
    cal_hash parents[IDS][2];
    uint32_t parent_count[IDS];
} shelf;

static cal_hash id_of(uint8_t number) {
    cal_hash id = {{number}}; /* 0 is the zero id */
    return id;
}

static void check(bool condition) {
    if (!condition) abort();
}

static int find(void *user, const cal_hash *id, uint32_t *ret_generation, cal_buffer *ret_parents) {
    const shelf *self = user;
    uint8_t at = id->bytes[0];
    if (!self->stored[at]) return CAL_ENOTFOUND;
    *ret_generation = self->generation[at];
    if (ret_parents)
        cal_buffer_append(ret_parents, self->parents[at],
                          self->parent_count[at] * sizeof(cal_hash));
    return 0;
}

static void settle(cal_dag *dag, shelf *self, const dag_op *unsettled, size_t *count) {
    for (size_t i = 0; i < *count; i++) {
        uint8_t at = unsettled[i].id.bytes[0];
        self->stored[at] = true;
        check(dag_generation(dag, &unsettled[i].id, &self->generation[at]) == 0);
        self->parent_count[at] = unsettled[i].parent_count;
        for (uint32_t p = 0; p < unsettled[i].parent_count; p++)
            self->parents[at][p] = unsettled[i].parents[p];
    }
    check(dag_unsettled(dag) == *count);
    dag_settle(dag, *count);
    check(dag_known(dag) <= DAG_RECENT_MAX);
    *count = 0;
}

static void check_heads(const cal_dag *dag, const shelf *self, const dag_op *unsettled,
                        size_t count) {
    const cal_hash *heads;
    size_t head_count = dag_heads(dag, &heads), applied = count;
    for (size_t i = 0; i < IDS; i++) applied += self->stored[i];
    for (size_t i = 0; i < count; i++) check(dag_applied(dag, &unsettled[i].id) == 0);
    check(head_count <= applied);
    for (size_t i = 0; i < head_count; i++) check(dag_applied(dag, &heads[i]) == 0);
    cal_arena arena;
    dag_entry *entries;
    size_t total;
    cal_arena_init(&arena, 1 << 20);
    check(dag_ancestry(dag, heads, head_count, &arena, &entries, &total) == 0);
    check(total == applied); /* the heads' ancestry is everything */
    cal_arena_deinit(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static dag_op list[OPS_MAX], unsettled[OPS_MAX];
    static cal_hash parents[OPS_MAX][2];
    static shelf self;
    size_t order[OPS_MAX], count = 0, pending = 0;
    if (size > 3 * OPS_MAX) return 0;
    memset(&self, 0, sizeof self);
    const dag_store table = {&self, find};
    cal_dag *dag = dag_new(size, &table);
    if (!dag) return 0;
    for (size_t i = 0; i + 3 <= size; i += 3, count++) {
        parents[count][0] = id_of(data[i + 1]);
        parents[count][1] = id_of(data[i + 2]);
        list[count] =
            (dag_op){id_of((uint8_t)(data[i] | 1)), parents[count], data[i] & 2 ? 2 : data[i] & 1};
        const dag_op *op = &list[count];
        cal_hash sender = id_of(data[i] & 15);
        dag_op next;
        cal_slice bytes;
        dag_verdict verdict;
        check(dag_check(dag, op, &verdict) == 0);
        if (verdict == DAG_DUPLICATE)
            check(dag_park(dag, op, (cal_slice){0}, &sender) == CAL_EEXISTS);
        else if (verdict == DAG_WAITING)
            check(dag_park(dag, op, cal_slice_of(data + i, 3), &sender) == 0);
        else {
            check(dag_apply(dag, op) == 0);
            unsettled[pending++] = *op;
        }
        while (dag_next_ready(dag, &next, &bytes)) {
            check(bytes.len == 3 && dag_check(dag, &next, &verdict) == 0 && verdict == DAG_READY);
            if (bytes.data[1] == 0xFF) continue; /* some are refused */
            size_t at = (size_t)(bytes.data[0] | 1);
            for (size_t j = 0; j < count; j++) /* its parents outlive the call */
                if (list[j].id.bytes[0] == at && list[j].parent_count == next.parent_count &&
                    memcmp(list[j].parents, next.parents, next.parent_count * 32) == 0)
                    unsettled[pending] = list[j];
            check(dag_apply(dag, &next) == 0);
            pending++;
        }
        if (data[i] % 16 == 5) settle(dag, &self, unsettled, &pending);
        if (data[i] % 32 == 9) {
            dag_revert(dag);
            pending = 0;
        }
        check_heads(dag, &self, unsettled, pending);
    }
    cal_hash missing[OPS_MAX];
    check(dag_missing(dag, missing, OPS_MAX) > 0 || dag_waiting_count(dag) == 0 || count > 0);
    if (dag_sort(list, count, order) == 0)
        for (size_t i = 0; i < count; i++) check(order[i] < count);
    dag_free(dag);
    return 0;
}
