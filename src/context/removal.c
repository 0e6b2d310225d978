/* What is left of a deleted context goes in steps, see store/removal.h. */
#include "context/context.h"

static const cal_column columns[] = {CAL_COLUMN_STATE, CAL_COLUMN_PRIVATE_STATE, CAL_COLUMN_INDEX,
                                     CAL_COLUMN_INDEX_META, CAL_COLUMN_DELTA};
const cal_removal cal_context_removal = {"context/removed/", columns,
                                         sizeof columns / sizeof *columns};

int cal_context_remove(cal_batch *batch, const cal_context_id *id) {
    int rc = cal_batch_delete(batch, CAL_COLUMN_CONTEXT, cal_slice_of(id->bytes, CAL_ID_SIZE));
    return rc == 0 ? cal_removal_mark(&cal_context_removal, id->bytes, batch) : rc;
}
