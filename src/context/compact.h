/* Compaction: the table of deltas of a context is kept within bounds (dag_compaction of
 * config.toml).
 *
 * Above `above` deltas, beside the heads, the newest `keep` of them stay, and the heads. Of those
 * before them, the newest become checkpoints, rows that only say that the delta is in the state,
 * and so do all that one that stays descends from directly; what is before these goes, and the
 * marks of authors (past.h) say that it was there. So every row that stays has its parents' rows,
 * what is said of what went costs forty bytes an author, and the table has at most `above` deltas
 * and cal_compact_shadows(keep) checkpoints, beside those.
 *
 * A plan is made on a worker from a snapshot; then steps take turns of the context, one after the
 * other, each a short transaction: what it takes away and what is then said of it become durable
 * together, so it may end after any of them. */
#ifndef CAL_CONTEXT_COMPACT_H
#define CAL_CONTEXT_COMPACT_H

#include "context/context.h"

typedef struct cal_compact_bounds {
    uint32_t above, keep; /* keep < above */
    uint64_t before;      /* what was made then (hlc) or later stays, whatever its number */
} cal_compact_bounds;

enum { CAL_COMPACT_STEP_ROWS = 128, CAL_COMPACT_STEP_BYTES = 512 * 1024 };

typedef struct cal_compact cal_compact; /* a plan */

/* Worker. Rows of the table, without reading them. */
int cal_compact_count(cal_store *store, const cal_context_id *id, uint64_t *ret_rows);
/* Worker. CAL_ENOTFOUND: there is nothing to do. One plan takes away so many at most, the oldest
 * ones: cal_compact_more says that another is needed then. */
int cal_compact_plan(cal_store *store, const cal_context_id *id, const cal_compact_bounds *bounds,
                     cal_compact **ret_plan);
bool cal_compact_more(const cal_compact *plan);
size_t cal_compact_left(const cal_compact *plan); /* rows that steps still have to look at */
void cal_compact_free(cal_compact *plan);         /* NULL allowed */
uint32_t cal_compact_shadows(uint32_t keep);

/* Loop. The next step of the plan, which stays where it is until `done`: 0 once it is durable, with
 * the number of deltas of which no actions are left; CAL_ENOTFOUND: the context is gone;
 * CAL_ECANCELED, CAL_EOVERLOAD, and what the store says. A step that failed may be tried again. */
typedef void (*cal_compact_done)(void *user, int error, uint32_t compacted);
void cal_contexts_compact(cal_contexts *contexts, const cal_context_id *id, cal_compact *plan,
                          cal_compact_done done, void *user);

#endif
