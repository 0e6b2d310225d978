/* A DAG of operations known by their ids: what is applied, what waits for its parents, what the
 * heads are.
 *
 * Used for governance (one DAG for each namespace, governance.md 6) and for state deltas (one for
 * each context, network-sync.md 6). What is applied and durable stands in the owner's store and is
 * asked for through dag_store; in memory are the heads, what waits with its bytes, and a bounded
 * window of what was applied last, so that memory does not grow with history. It decides nothing
 * about validity: the owner asks what to do with an operation, applies it, and says so.
 *
 *     dag_check -> DAG_READY:     apply it; when that worked, dag_apply, then take what became
 * ready with dag_next_ready
 *               -> DAG_WAITING:   dag_park, fetch what dag_missing lists
 *               -> DAG_DUPLICATE: nothing
 *
 * What is applied counts at once; dag_settle says that the store answers for it from now on, and
 * dag_revert takes back all that has not been settled.
 *
 * No clock and no I/O but what the owner's table does; one owner, one thread. */
#ifndef CAL_DAG_H
#define CAL_DAG_H

#include "base/arena.h"
#include "base/buffer.h"
#include "base/bytes.h"
#include "calimero/identity.h"

/* One limit for heads and parents, in writing and reading, of governance and of deltas: who may
 * have that many heads must be able to cite them all. */
enum {
    DAG_PARENTS_MAX = 4096,
    DAG_HEADS_MAX = DAG_PARENTS_MAX,
    DAG_WAITING_MAX = 10000,                  /* operations that wait for parents */
    DAG_WAITING_BYTES_MAX = 64 * 1024 * 1024, /* of what they take: bytes, and PARENT_COST each */
    DAG_WAITING_PARENT_COST = 192,            /* what a cited parent takes in memory */
    DAG_RECENT_MAX = 32, /* settled operations that are still known without asking the store */
};

typedef struct cal_dag cal_dag;

typedef struct dag_op {
    cal_hash id;
    const cal_hash *parents;
    uint32_t parent_count;
} dag_op;

/* Where applied operations are looked up. */
typedef struct dag_store {
    void *user;
    /* 0: it is applied; its generation, and its parents' ids appended (ret_parents NULL: not asked
     * for). CAL_ENOTFOUND: it is not. Anything else: could not be looked up. */
    int (*find)(void *user, const cal_hash *id, uint32_t *ret_generation, cal_buffer *ret_parents);
} dag_store;

typedef enum dag_verdict { DAG_READY, DAG_WAITING, DAG_DUPLICATE } dag_verdict;

/* seed of its hash maps, random. store (copied) NULL: applied is what is applied here, at once
 * settled and all of it kept in memory. NULL out of memory. */
cal_dag *dag_new(uint64_t seed, const dag_store *store);
void dag_free(cal_dag *dag); /* NULL allowed */
/* The heads as they are stored; of a DAG in which nothing is applied yet. CAL_ELIMIT, CAL_ENOMEM.
 */
int dag_load(cal_dag *dag, const cal_hash *heads, size_t count);

/* READY: every parent is applied (the all-zero id counts as applied). DUPLICATE: applied, or
 * waiting already. What the store answers, but CAL_ENOTFOUND. */
int dag_check(const cal_dag *dag, const dag_op *op, dag_verdict *ret_verdict);
/* Notes the operation as applied and moves the heads: cited parents go, it comes. Its parents must
 * be applied. Nothing changed: CAL_ENOMEM, CAL_EEXISTS, CAL_ESTATE (a parent is not applied),
 * CAL_ELIMIT (parents, or more than DAG_HEADS_MAX heads). */
int dag_apply(cal_dag *dag, const dag_op *op);
/* The oldest `count` applied operations that are not settled are in the store now. */
void dag_settle(cal_dag *dag, size_t count);
/* None of those that are not settled was applied: heads as before, who was ready waits again. */
void dag_revert(cal_dag *dag);

/* Keeps an operation, with a copy of its bytes, until its parents are applied. sender: who brought
 * it, any 32 bytes. When there is no room, the oldest operation of the sender who takes the most
 * room gives way, which is safe because whoever needs it fetches it again; who would take the most
 * itself and has nothing to give is refused. CAL_ENOMEM, CAL_EEXISTS, CAL_ELIMIT. */
int dag_park(cal_dag *dag, const dag_op *op, cal_slice bytes, const cal_hash *sender);
/* An operation that waited and whose parents were all applied; oldest first. It leaves the DAG:
 * check it again, then apply it or drop it. The op and its bytes are valid until the next call.
 * false: none. */
bool dag_next_ready(cal_dag *dag, dag_op *ret_op, cal_slice *ret_bytes);
/* Parents that some operation waits for and that are not here at all, up to max of them; their
 * number. */
size_t dag_missing(const cal_dag *dag, cal_hash *ret_ids, size_t max);

size_t dag_heads(const cal_dag *dag,
                 const cal_hash **ret_heads); /* in the order in which they became heads */
size_t dag_known(const cal_dag *dag);         /* applied operations held in memory */
size_t dag_unsettled(const cal_dag *dag);
size_t dag_waiting_count(const cal_dag *dag);
uint64_t dag_evicted(const cal_dag *dag); /* operations that gave way since dag_new */
int dag_applied(const cal_dag *dag, const cal_hash *id); /* 0, CAL_ENOTFOUND, or what went wrong */
/* Longest path from an operation without parents: 0 for those. As dag_applied. */
int dag_generation(const cal_dag *dag, const cal_hash *id, uint32_t *ret_generation);

/* The applied operations that `cut` is or descends from, each after its parents: by generation,
 * then id. A walk over all of them; the list is in the arena. CAL_ENOTFOUND (the cut names an
 * operation that is not applied), CAL_ENOMEM, CAL_ELIMIT (the arena). */
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
