/* Inside gov/: the fold of operations into rows (governance.md 7.1), for authority at any cut.
 *
 * Slot by slot the larger stamp wins: (generation, operation id). A descendant has a larger
 * generation than its ancestors, so it always wins over them; concurrent operations tie-break by
 * id. The order of adding does not matter. The result is rows, read through a view by the same
 * functions that read the present rows. With generation 0 for all it is the reference's streaming
 * state, whose hash its nodes may compare (7.3).
 *
 * Pure but for memory; one owner. */
#ifndef CAL_GOV_FOLD_H
#define CAL_GOV_FOLD_H

#include "gov/internal.h"

typedef struct gov_fold {
    cal_sorted rows;     /* key -> gov_row */
    cal_sorted stamps;   /* key -> the winning stamp, also of slots that are empty now */
    cal_sorted handoffs; /* account, epoch, new key, signature -> gov_handoff */
    cal_group_id namespace_id;
    int error; /* CAL_ENOMEM sticks */
} gov_fold;

typedef struct gov_fold_op {
    cal_hash id;
    uint32_t generation;
    const cal_account_id *author; /* whom the signer speaks for; NULL: nobody known */
    const gov_root_op *root;      /* one of the two; both NULL: unreadable */
    const gov_group_op *group_op;
    cal_group_id group;     /* of a group operation */
    const cal_hash *key_id; /* of one that is unreadable: what it is sealed with */
} gov_fold_op;

void gov_fold_init(gov_fold *fold, const cal_group_id *namespace_id);
void gov_fold_deinit(gov_fold *fold);
void gov_fold_add(gov_fold *fold, const gov_fold_op *op);
/* After the last operation: groups that do not exist lose their rows, root keys follow from the
 * handoffs. founder (NULL: unknown) is the account that the namespace's genesis made its admin.
 * CAL_ENOMEM. */
int gov_fold_finish(gov_fold *fold, const cal_account_id *founder);
gov_view gov_fold_view(const gov_fold *fold, uint32_t capability_base);

/* governance_hash of a finished fold, and the root over it. CAL_ENOMEM. */
int gov_fold_hash(const gov_fold *fold, cal_hash *ret_hash);
void gov_scope_root(const cal_hash *entities, const cal_hash *acl, const cal_hash *governance,
                    cal_hash *ret_root);

#endif
