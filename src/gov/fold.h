/* Inside gov/: the fold of operations into rows (governance.md 7.1), for authority at any cut.
 *
 * An operation is a list of writes, each of one value into one slot with a rank, and the slot takes
 * the greatest rank. What an operation writes depends on nothing but itself, so the order of adding
 * does not matter, a fold can be moved forward by one operation, and what a cut leaves out can be
 * taken out slot by slot. Ranks: nearly everywhere (generation, id), so that a descendant, whose
 * generation is larger, always wins over its ancestors; a device takes its greatest epoch, and
 * belongs to the account that claimed it first.
 *
 * Rows follow from slots: most are the slot's value; those of a group follow from whether it
 * exists, root keys from the handoffs that verify. The rows are read through a view by the same
 * functions that read the present rows. With generation 0 for all it is the reference's streaming
 * state, whose hash its nodes may compare (7.3).
 *
 * A fold may lie over another: it holds what differs, and an absent row where it has less.
 *
 * Pure but for memory; one owner. */
#ifndef CAL_GOV_FOLD_H
#define CAL_GOV_FOLD_H

#include "gov/internal.h"

enum {
    ROW_EXISTS = 'e',   /* group -> 0 or 1; only inside a fold, as all that follow */
    ROW_RULES = 'r',    /* -> PolicyUpdated's bytes */
    SLOT_TARGET = 't',  /* group -> nothing: its application; as those of metadata and migration */
    SLOT_FOLLOW = 'f',  /* group, account -> nothing: what the member follows */
    SLOT_HANDOFF = 'h', /* account, epoch, new key, signature -> nothing */
    SLOT_BINDING = 'b', /* device, account -> as ROW_BINDING */
    SLOT_CLAIM = 'c',   /* device, account -> nothing: the first claim wins */
    SLOT_LEFT = 'l',    /* account -> nothing: when it left the namespace */
    SLOT_FOUNDER = 'n', /* -> the namespace's admin as of the cut */
    GOV_RANK_SIZE = 4 + 4 + 32,
    GOV_SLOT_HEADER =
        GOV_RANK_SIZE + 8 + 1, /* rank, number of the operation, whether there is a value */
};

typedef struct gov_fold {
    const struct gov_fold *base; /* NULL, or what this one lies over */
    cal_sorted slots;            /* key -> gov_row: header, value */
    cal_sorted rows;             /* key -> gov_row, what follows from the slots */
    cal_group_id namespace_id;
    /* For authority: the namespace's admin is the founder until an operation says otherwise, and
     * who takes over a group is no admin of others (governance.md 18.2, G4). False: exactly as the
     * reference folds. */
    bool judges;
    gov_proofs *proofs; /* of handoffs, as that of the base; NULL */
    int error;          /* CAL_ENOMEM sticks */
} gov_fold;

typedef struct gov_fold_op {
    cal_hash id;
    uint32_t generation;
    uint64_t sequence;            /* its number on this node */
    const cal_account_id *author; /* whom the signer speaks for; NULL: nobody known */
    const gov_root_op *root;      /* one of the two; both NULL: unreadable */
    const gov_group_op *group_op;
    cal_group_id group;     /* of a group operation */
    const cal_hash *key_id; /* of one that is unreadable: what it is sealed with */
    bool was_opaque;        /* it had been folded as unreadable before */
    const cal_group_id *namespace_id;
    gov_proofs *proofs; /* NULL */
} gov_fold_op;

typedef struct gov_write {
    gov_key key;
    uint8_t rank[GOV_RANK_SIZE];
    uint64_t sequence;
    bool present; /* false: the slot is emptied */
    cal_slice value;
} gov_write;

/* All that the operation writes, in no particular order; the value is valid during the call. */
typedef void (*gov_write_visitor)(void *user, const gov_write *write);
void gov_fold_writes(const gov_fold_op *op, gov_write_visitor visit, void *user);

/* A write as it is kept, in a slot or in the store, and back. A read write borrows. */
gov_row *gov_slot_new(const gov_write *write);      /* NULL out of memory */
bool gov_slot_fits(cal_slice key, cal_slice value); /* as it comes from the disk */
void gov_slot_read(cal_slice key, cal_slice value, gov_write *ret_write);

void gov_fold_init(gov_fold *fold, const cal_group_id *namespace_id, const gov_fold *base);
void gov_fold_deinit(gov_fold *fold);
/* The slot as it stands; false: nothing was ever written. */
bool gov_fold_slot(const gov_fold *fold, const gov_key *key, gov_write *ret_write);
/* Takes the write if its rank is above the slot's; true: it won. The rows are behind afterwards. */
bool gov_fold_put(gov_fold *fold, const gov_write *write);
/* Whatever the ranks; NULL: as if nothing had been written. */
void gov_fold_set(gov_fold *fold, const gov_key *key, const gov_write *write);
void gov_fold_settle(gov_fold *fold, const gov_key *key); /* the rows that follow from this slot */
void gov_fold_add(gov_fold *fold, const gov_fold_op *op); /* puts and settles all its writes */
/* After the last operation. founder (NULL: not known, or it judges by itself): the account that the
 * namespace's genesis made its admin. CAL_ENOMEM. */
int gov_fold_finish(gov_fold *fold, const cal_account_id *founder);
gov_view gov_fold_view(const gov_fold *fold, uint32_t capability_base);
gov_view gov_fold_slots(const gov_fold *fold); /* for walks over slots */

/* governance_hash of a finished fold, and the root over it. CAL_ENOMEM. */
int gov_fold_hash(const gov_fold *fold, cal_hash *ret_hash);
void gov_scope_root(const cal_hash *entities, const cal_hash *acl, const cal_hash *governance,
                    cal_hash *ret_root);

#endif
