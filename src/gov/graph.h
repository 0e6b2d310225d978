/* Inside gov/: the graph of a namespace's operations and the rows at a cut of it (governance.md 6
 * and 7).
 *
 * Whoever judges an operation asks gov_cut_view for the rows as they stood at its parents, asks
 * gov_cut_readable whether they say anything about the group in question, and, when a verdict
 * stands, gives the operation its place with gov_graph_note, last of all. Nothing of it shows, in
 * memory or on disk, before the change it belongs to is committed. Loop thread. */
#ifndef CAL_GOV_GRAPH_H
#define CAL_GOV_GRAPH_H

#include "gov/internal.h"

struct gov_fold;

/* --- the rows at a cut --- */

/* The rows as they stand at the parents: without any, the present rows with the change's own laid
 * over them; otherwise the fold of exactly the operations that the parents are or descend from, the
 * change's own among them. The view is valid until the change ends or notes an operation. ESTATE:
 * not decidable yet, *ret_wait says what is missing. CAL_EIO, CAL_ECORRUPT, CAL_ENOMEM. */
int gov_cut_view(gov_change *change, const cal_hash *parents, uint32_t count, gov_view *ret_view,
                 gov_wait *ret_wait);
/* The fold at the operation with this number, itself included, for its slots. Valid as long. */
int gov_cut_at(gov_change *change, uint64_t sequence, const struct gov_fold **ret_fold);
/* Whether the cut answers for this group: not while an operation of it or of a group above it,
 * that nobody here could read yet, lies below the cut. 0, or CAL_ESTATE with what it waits for. */
int gov_cut_readable(const gov_view *cut, const cal_group_id *group, gov_wait *ret_wait);

/* --- citable.c --- */

typedef enum gov_citing { GOV_CITES_WRITE, GOV_CITES_GOVERN, GOV_CITES_JOIN } gov_citing;
/* Ids that a delta of ours in the group cites, an operation, or this node's own join: the heads, or
 * some below them that others can judge. */
int gov_citable(gov_change *change, const cal_group_id *group, gov_citing citing,
                cal_buffer *ret_ids);
/* The same for a delta of this account; CAL_ELIMIT: more than a write may cite. */
int gov_position_of(cal_gov *gov, gov_namespace *ns, const cal_group_id *group,
                    const cal_account_id *self, gov_position *ret_position);

/* --- placing operations --- */

/* What became of an operation that has its place. */
typedef enum gov_effect {
    GOV_EFFECT_FULL,   /* its rows are there, the fold counts it */
    GOV_EFFECT_OPAQUE, /* nobody here could read it yet: cuts above it do not answer for its group
                        */
    GOV_EFFECT_NONE,   /* kept for causality: changes nothing, hides nothing */
} gov_effect;

typedef struct gov_noted {
    cal_hash id;
    const gov_signed_op *op;
    cal_slice bytes; /* borsh(SignedNamespaceOp), kept as received */
    gov_effect effect;
    bool aside; /* kept, but no head: nobody else would place what cites it (gov_reason_cited) */
    const gov_group_op *plain;    /* of a sealed operation that was opened; NULL */
    const cal_account_id *author; /* whom the signer speaks for at its cut; NULL: nobody known */
} gov_noted;

/* Gives the operation its number, makes it a head in place of its parents (which must be here) and
 * folds its effect: whole or not at all. CAL_ELIMIT: the namespace would have more heads than an
 * operation may cite. It must not have its place already (gov_graph_find). */
int gov_graph_note(gov_change *change, const gov_noted *noted, cal_error *err);
/* An operation that was opaque has been opened and judged: FULL with its plain text, or NONE. */
int gov_graph_settle(gov_change *change, const gov_noted *noted, cal_error *err);

/* Whether the operation has its place already, in the store or in this change: 0, CAL_ENOTFOUND, or
 * why it could not be looked up. ret_effect may be NULL. */
int gov_graph_find(const gov_change *change, const cal_hash *id, gov_effect *ret_effect);

/* --- what was sealed, when its key has come (unseal.c) --- */

/* An operation that was kept sealed, judged again. */
typedef struct gov_late {
    bool decided; /* settled; else it stays sealed */
    gov_effect effect;
    bool attributed;
    cal_account_id author;
} gov_late;
/* cut: the rows at its parents, or NULL: to be found. */
int gov_apply_late(gov_change *change, gov_verified *op, const gov_view *cut,
                   gov_group_op *ret_plain, gov_late *ret_late, cal_error *err);
/* Goes on with what became readable, a bounded part of it, and says in ns->unsealing whether there
 * is more. */
int gov_unseal_step(gov_change *change, cal_error *err);
/* Judged again when the next change goes on: at start, and after a change that went. */
void gov_unseal_note(gov_namespace *ns);
void gov_unseal_drop(gov_namespace *ns);

/* --- for change.c and gov.c --- */
struct gov_graph *gov_graph_new(const cal_group_id *namespace_id,
                                gov_proofs *proofs); /* NULL out of memory */
void gov_graph_free(struct gov_graph *graph);
/* Frees up to max pieces of a graph that is of no use any more; true: there are more. */
bool gov_graph_shrink(struct gov_graph *graph, size_t max);
/* The fold of a namespace whose rows are in memory; brings an older layout forward. CAL_ECORRUPT,
 * CAL_EVERSION, CAL_EIO, CAL_ENOMEM. Blocks. */
int gov_graph_load(cal_gov *gov, gov_namespace *ns, cal_snapshot *snapshot, cal_error *err);
/* A place with this number, without moving the heads; for bringing forward. */
int gov_graph_place(gov_change *change, const gov_noted *noted, uint64_t sequence, cal_error *err);
int gov_graph_reserve(gov_change *change); /* so that the commit cannot fail; CAL_ENOMEM */
void gov_graph_commit(gov_change *change); /* the batch is durable */
void gov_graph_forget(gov_change *change); /* the change ends: what it noted is freed */

#endif
