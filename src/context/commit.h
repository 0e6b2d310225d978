/* What a guest's run becomes in the store. */
#ifndef CAL_CONTEXT_COMMIT_H
#define CAL_CONTEXT_COMMIT_H

#include "context/guest.h"

struct commit {
    struct guest *guest;            /* its overlay gets signatures, and log entries */
    const cal_context_record *base; /* as it stands before; heads: the parents */
    const cal_grant *grant;         /* position and key; NULL: a genesis, which has neither */
    crdt_clock *clock;              /* of the context */
    cal_buffer *message;            /* the delta as it is published; initialised by commit_build */
    /* After commit_build: */
    cal_batch *batch; /* the caller's */
    cal_hash root, head;
    cal_context_record record; /* as it stands after; one head */
};

/* One batch: rows, signed delta, record; and the sealed message, when the grant says that it is
 * heard. CAL_E*; the words are in the guest, when there are better
 * ones than those of the code. */
int commit_build(struct commit *commit);

/* Add a delta's row, and the context's own, to a batch. */
int commit_put_delta(cal_batch *batch, const cal_context_id *id, const cal_delta_record *delta);
int commit_put_record(cal_batch *batch, const cal_context_id *id, const cal_context_record *record);

#endif
