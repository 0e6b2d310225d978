/* A DAG of operations known by their ids: what is applied, what waits for its parents, what the
 * heads are.
 *
 * Used by governance (one DAG for each namespace, governance.md 6) and by state deltas (one for
 * each context, network-sync.md 6). It holds no operation that is applied, only ids, parents and
 * numbers; an operation that waits brings its bytes. It decides nothing about validity: the owner
 * asks what to do with an operation, applies it, and says so.
 *
 *     dag_check -> DAG_READY:     apply it; when that worked, dag_apply, then take what became
 * ready with dag_next_ready
 *               -> DAG_WAITING:   dag_park, fetch what dag_missing lists
 *               -> DAG_DUPLICATE: nothing
 *
 * No I/O, no clock; one owner, one thread. */
#ifndef CAL_DAG_H
#define CAL_DAG_H

#include "base/arena.h"
#include "base/bytes.h"
#include "calimero/identity.h"

enum {
    DAG_PARENTS_MAX = 4096,
    DAG_WAITING_MAX = 10000, /* operations that wait for parents; the oldest give way */
    DAG_WAITING_BYTES_MAX = 64 * 1024 * 1024, /* of their bytes, likewise */
};

typedef struct cal_dag cal_dag;

typedef struct dag_op {
    cal_hash id;
    const cal_hash *parents;
    uint32_t parent_count;
} dag_op;

typedef enum dag_verdict { DAG_READY, DAG_WAITING, DAG_DUPLICATE } dag_verdict;

cal_dag *dag_new(uint64_t seed); /* seed of its hash maps, random; NULL out of memory */
void dag_free(cal_dag *dag);     /* NULL allowed */

/* READY: every parent is applied (the all-zero id counts as applied). DUPLICATE: applied, or
 * waiting already. */
dag_verdict dag_check(const cal_dag *dag, const dag_op *op);
/* Notes the operation as applied and moves the heads: cited parents go, it comes. Its parents must
 * be applied. CAL_ENOMEM (and nothing changed), CAL_EEXISTS, CAL_ESTATE (a parent is not applied).
 */
int dag_apply(cal_dag *dag, const dag_op *op);
/* Keeps an operation, with a copy of its bytes, until its parents are applied. CAL_ENOMEM,
 * CAL_ELIMIT (parents or bytes). */
int dag_park(cal_dag *dag, const dag_op *op, cal_slice bytes);
/* An operation that waited and whose parents are now all applied; oldest first. It leaves the DAG:
 * apply it or drop it. The op and its bytes are valid until the next call on the DAG. false: none.
 */
bool dag_next_ready(cal_dag *dag, dag_op *ret_op, cal_slice *ret_bytes);
/* Parents that some operation waits for and that are not here at all, up to max of them; their
 * number. */
size_t dag_missing(const cal_dag *dag, cal_hash *ret_ids, size_t max);

size_t dag_heads(const cal_dag *dag,
                 const cal_hash **ret_heads); /* in the order in which they became heads */
size_t dag_applied_count(const cal_dag *dag);
size_t dag_waiting_count(const cal_dag *dag);
uint64_t dag_evicted(const cal_dag *dag); /* operations that gave way since dag_new */
bool dag_applied(const cal_dag *dag, const cal_hash *id);
/* Longest path from an operation without parents: 0 for those. CAL_ENOTFOUND when it is not
 * applied. */
int dag_generation(const cal_dag *dag, const cal_hash *id, uint32_t *ret_generation);

/* The applied operations that `cut` is or descends from, each after its parents, otherwise in the
 * order in which they were applied. The list is in the arena. CAL_ENOTFOUND (the cut names an
 * operation that is not applied), CAL_ENOMEM. */
typedef struct dag_entry {
    cal_hash id;
    uint32_t generation;
} dag_entry;
int dag_ancestry(const cal_dag *dag, const cal_hash *cut, size_t count, cal_arena *arena,
                 dag_entry **ret_entries, size_t *ret_count);

/* Sorts operations so that each comes after its parents, keeping their order otherwise; parents
 * that are not in the list do not matter. ret_order: count indexes. CAL_EDECODE when they form a
 * cycle (no honest ids do), CAL_ENOMEM. Pure. */
int dag_sort(const dag_op *ops, size_t count, size_t *ret_order);

#endif
