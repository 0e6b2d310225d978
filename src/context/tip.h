/* The tip of a context: what its turns have left that the store has not made durable yet.
 *
 * Rows lie in two overlays, so that looking one up costs the same however many turns are under way:
 * `young` takes what turns leave; the turns of `old` have all been submitted. When the last of them
 * is durable, its rows go to the cache of committed rows and young becomes old. A turn reads its
 * own rows, then young, old, and then the cache or a snapshot taken while these two stood: so a row
 * is either in one of them or as the snapshot has it.
 *
 * Belongs to whoever has the context: the worker during a run, the loop between runs (turn.h). */
#ifndef CAL_CONTEXT_TIP_H
#define CAL_CONTEXT_TIP_H

#include "context/overlay.h"
#include "context/record.h"

typedef struct cal_tip {
    cal_overlay young, old;
    uint64_t number;               /* of the last turn that left something */
    uint64_t young_last, old_last; /* the last of those whose rows are in each */
    cal_context_record record;     /* as the last turn left it; the service is another's string */
    bool closed;                   /* the cache is: batches are under way */
    bool spoiled; /* rows are missing for want of memory: no further turn may build on it */
} cal_tip;

/* The record is the durable one. CAL_ENOMEM. */
int cal_tip_init(cal_tip *tip, const cal_context_id *id, const cal_context_record *record);
void cal_tip_deinit(cal_tip *tip);

/* What a turn's overlay lies on; NULL: on the snapshot alone. */
const cal_overlay *cal_tip_top(const cal_tip *tip);
size_t cal_tip_bytes(const cal_tip *tip);
bool cal_tip_is_empty(const cal_tip *tip);

/* Lays a turn's rows over it; spoils the tip on CAL_ENOMEM. */
int cal_tip_take(cal_tip *tip, cal_overlay *overlay, bool state, bool index);
/* Root, heads (copied) and latest time become those of the record. CAL_ENOMEM: nothing changed. */
int cal_tip_move(cal_tip *tip, const cal_context_record *record);

/* Between runs: all turns up to `durable` are. Their rows go to the cache, as far as no later turn
 * is in the same overlay; young becomes old when there is room. Opens the cache when nothing is
 * left. */
void cal_tip_settle(cal_tip *tip, uint64_t durable, struct cal_context_cache *cache);
/* Forgets what never became durable, after all turns have been answered: the record is the durable
 * one again, and the cache is emptied. CAL_ENOMEM: try again. */
int cal_tip_drop(cal_tip *tip, const cal_context_record *record, struct cal_context_cache *cache);

#endif
