/* How many members, contexts and subgroups each group has, kept beside the rows so that asking
 * costs nothing: a namespace may hold tens of thousands of contexts, and every list shows their
 * number.
 *
 * Follows the rows in memory and nothing else: loaded with them, moved with each change that is
 * committed. Making room is apart from counting, because a commit must not fail. Loop thread. */
#include <assert.h>
#include <stdlib.h>

#include "gov/internal.h"

static uint64_t *counter(gov_counts *counts, uint8_t kind) {
    return kind == ROW_MEMBER    ? &counts->members
           : kind == ROW_CONTEXT ? &counts->contexts
           : kind == ROW_CHILD   ? &counts->subgroups
                                 : NULL;
}

static gov_counts *find(const gov_namespace *ns, const uint8_t *group) {
    return cal_sorted_get(&ns->counts, cal_slice_of(group, 32));
}

int gov_count_reserve(gov_namespace *ns, cal_slice row_key) {
    if (!counter(&ns->total, row_key.data[0]) || find(ns, row_key.data + 1)) return 0;
    gov_counts *counts = calloc(1, sizeof *counts);
    if (!counts) return CAL_ENOMEM;
    int rc = cal_sorted_put(&ns->counts, cal_slice_of(row_key.data + 1, 32), counts, NULL);
    if (rc != 0) free(counts);
    return rc;
}

void gov_count_row(gov_namespace *ns, cal_slice row_key, bool added) {
    uint8_t kind = row_key.data[0];
    if (kind == ROW_META && !added) /* the group goes; what rows it still has go uncounted */
        free(cal_sorted_remove(&ns->counts, cal_slice_of(row_key.data + 1, 32)));
    uint64_t *total = counter(&ns->total, kind);
    if (!total) return;
    gov_counts *counts = find(ns, row_key.data + 1);
    assert(counts || !added);
    *total += added ? 1 : UINT64_MAX;
    if (counts) *counter(counts, kind) += added ? 1 : UINT64_MAX;
}

gov_counts gov_counts_of(const gov_namespace *ns, const cal_group_id *group) {
    const gov_counts *counts = find(ns, group->bytes);
    return counts ? *counts : (gov_counts){.members = 0};
}

void gov_counts_free(gov_namespace *ns) {
    for (cal_sorted_node *node = cal_sorted_from(&ns->counts, (cal_slice){0}); node;
         node = node->next[0])
        free(node->value);
    cal_sorted_deinit(&ns->counts);
}
