/* What is left of a deleted context goes in steps, see store/removal.h. */
#include "context/internal.h"
#include "context/past.h"

static const cal_column columns[] = {CAL_COLUMN_STATE, CAL_COLUMN_INDEX, CAL_COLUMN_INDEX_META,
                                     CAL_COLUMN_DELTA, CAL_COLUMN_PRIVATE_STATE};
enum { SHARED_COLUMNS = 4 /* all but the private state, which no other node knows of */ };
const cal_removal cal_context_removal = {"context/removed/", columns,
                                         sizeof columns / sizeof *columns};

int cal_context_remove(cal_batch *batch, const cal_context_id *id) {
    int rc = cal_batch_delete(batch, CAL_COLUMN_CONTEXT, cal_slice_of(id->bytes, CAL_ID_SIZE));
    if (rc == 0) rc = cal_past_remove(id, batch);
    return rc == 0 ? cal_removal_mark(&cal_context_removal, id->bytes, batch) : rc;
}

int context_has_rows(cal_snapshot *snapshot, const cal_context_id *id) {
    cal_slice prefix = cal_slice_of(id->bytes, CAL_ID_SIZE), key;
    cal_buffer end;
    cal_buffer_init(&end, CAL_ID_SIZE);
    cal_prefix_end(prefix, &end);
    int rc = CAL_ENOTFOUND;
    for (size_t i = 0; rc == CAL_ENOTFOUND && i < SHARED_COLUMNS; i++) {
        cal_cursor *cursor = NULL;
        rc = cal_cursor_open(snapshot, columns[i], prefix, cal_buffer_slice(&end), false, &cursor);
        if (rc == 0) rc = cal_cursor_next(cursor, &key, NULL);
        cal_cursor_free(cursor);
    }
    cal_buffer_deinit(&end);
    return rc == 0 ? 1 : rc == CAL_ENOTFOUND ? 0 : rc;
}
