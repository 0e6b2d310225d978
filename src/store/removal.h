/* Large things go in steps: a deletion is a mark, and the rows follow.
 *
 * The mark is a row in column NODE. It stands in one transaction with the decision, which therefore
 * costs the same for ten rows and for ten million; no other writer waits for more than a step.
 * Whoever reads such rows looks for the mark first, as if they were gone; whoever owns the
 * process's time takes them away step by step, the mark last. A crash in between loses nothing: the
 * mark is still there. While it is, nothing may be made again under the same id. Any thread. */
#ifndef CAL_STORE_REMOVAL_H
#define CAL_STORE_REMOVAL_H

#include "store/store.h"

/* A kind of thing that is removed so: its rows begin with its 32-byte id in each of the columns. */
typedef struct cal_removal {
    const char *mark; /* how its marks begin, ending in '/' */
    const cal_column *columns;
    size_t column_count;
} cal_removal;

int cal_removal_mark(const cal_removal *removal, const uint8_t id[32], cal_batch *batch);
/* 0: its rows are being removed; CAL_ENOTFOUND: they are not. */
int cal_removal_pending(const cal_removal *removal, const uint8_t id[32], cal_store *store);
/* Every mark; visit returns 0 to go on. */
int cal_removal_each(const cal_removal *removal, cal_snapshot *snapshot,
                     int (*visit)(void *user, const uint8_t id[32]), void *user);
/* Adds the next step to the batch. ret_last: nothing is left after this one. */
int cal_removal_step(const cal_removal *removal, const uint8_t id[32], cal_store *store,
                     cal_batch *batch, bool *ret_last);

#endif
