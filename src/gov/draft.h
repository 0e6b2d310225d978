/* Inside gov/: what a change adds to the graph, until it is committed. */
#ifndef CAL_GOV_DRAFT_H
#define CAL_GOV_DRAFT_H

#include "gov/fold.h"
#include "gov/graph.h"

enum { GOV_LOG_HEADER = 9 /* number, effect */ };

typedef struct gov_draft_op {
    cal_hash id;
    gov_effect effect;
    size_t len;
    uint8_t *bytes;
} gov_draft_op;

typedef struct gov_draft {
    gov_draft_op *ops;
    size_t count;
    gov_fold **cuts; /* what gov_cut_view gave out */
    size_t cut_count;
} gov_draft;

const gov_draft_op *gov_draft_find(const gov_change *change, const cal_hash *id);

#endif
