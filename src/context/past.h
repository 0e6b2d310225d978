/* What a context's table of deltas has had and no longer has (compact.c): for each author the time
 * of the latest delta that was taken away. An author's deltas descend from one another and their
 * times only rise, so whatever of its is not later was applied here, and is below what is kept;
 * whatever is later was not taken away. So a row of forty bytes an author says of every delta that
 * was ever removed that it was. Who goes back behind its own clock makes others take no notice of
 * deltas; a comparison of trees then finds what they changed.
 *
 * One row (column NODE), written in the transaction that takes deltas away. */
#ifndef CAL_CONTEXT_PAST_H
#define CAL_CONTEXT_PAST_H

#include "calimero/identity.h"
#include "store/store.h"

enum { CAL_PAST_AUTHORS_MAX = 16384, CAL_PAST_MARK_SIZE = 40 };

typedef struct cal_past_mark {
    cal_public_key author;
    uint64_t time; /* hlc */
} cal_past_mark;

typedef struct cal_past { /* zeroed: nothing was taken away */
    cal_past_mark *marks; /* by author, ascending */
    uint32_t count, capacity;
} cal_past;

/* Nothing taken away yet is no error. CAL_ECORRUPT, CAL_ENOMEM, and what the store says. Any
 * thread. */
int cal_past_read(cal_snapshot *snapshot, const cal_context_id *context, cal_past *ret_past);
int cal_past_write(const cal_past *past, const cal_context_id *context, cal_batch *batch);
/* With the context itself. */
int cal_past_remove(const cal_context_id *context, cal_batch *batch);
void cal_past_deinit(cal_past *past);

/* Pure. */
bool cal_past_has(const cal_past *past, const cal_public_key *author, uint64_t time);
int cal_past_note(cal_past *past, const cal_public_key *author, uint64_t time); /* CAL_ELIMIT,
                                                                                   CAL_ENOMEM */
/* As in the row and in a message: one mark after the other, authors ascending. */
int cal_past_encode(const cal_past *past, uint32_t max, cal_buffer *out);
int cal_past_decode(cal_slice bytes, cal_past *ret_past); /* CAL_ECORRUPT, CAL_ENOMEM */

#endif
