/* A row as the overlay, the tip and the cache of a context hold it: one block, handed on from one
 * to the next, so that a value is copied once on its way from the guest to the cache. */
#ifndef CAL_CONTEXT_ROW_H
#define CAL_CONTEXT_ROW_H

#include <stdlib.h>

#include "base/bytes.h"

typedef struct cal_row {
    bool removed; /* then it has no bytes */
    size_t len;
    uint8_t bytes[];
} cal_row;

enum { CAL_ROW_OVERHEAD = 96 }; /* bytes of memory that a row takes beside its value, about */

/* value NULL: a removed row. NULL: out of memory. */
static inline cal_row *cal_row_new(const cal_slice *value) {
    cal_row *row = malloc(sizeof *row + (value ? value->len : 0));
    if (!row) return NULL;
    *row = (cal_row){.removed = !value, .len = value ? value->len : 0};
    if (row->len) memcpy(row->bytes, value->data, row->len);
    return row;
}

static inline size_t cal_row_cost(const cal_row *row) { return row->len + CAL_ROW_OVERHEAD; }

#endif
