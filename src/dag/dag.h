/* Operations that are known by an id and cite their parents: what governance (governance.md 6) and
 * deltas (network-sync.md 6) have in common. Each keeps its own graph: gov/graph.c for operations,
 * which also wait for keys and history, sync/pipeline.c and context/ for deltas. */
#ifndef CAL_DAG_H
#define CAL_DAG_H

#include "base/arena.h"
#include "base/buffer.h"
#include "base/bytes.h"
#include "calimero/identity.h"

/* One limit for heads and parents, in writing and reading, of governance and of deltas: who may
 * have that many heads must be able to cite them all. */
enum { DAG_PARENTS_MAX = 4096, DAG_HEADS_MAX = DAG_PARENTS_MAX };

typedef struct dag_op {
    cal_hash id;
    const cal_hash *parents;
    uint32_t parent_count;
} dag_op;

/* Sorts operations so that each comes after its parents, keeping their order otherwise; parents
 * that are not in the list do not matter. ret_order: count indexes. CAL_EDECODE when they form a
 * cycle (no honest ids do), CAL_ENOMEM. Pure. */
int dag_sort(const dag_op *ops, size_t count, size_t *ret_order);

#endif
