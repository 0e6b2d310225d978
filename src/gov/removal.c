/* A deleted namespace: its rows go in steps behind a mark (store/removal.h), and so does what
 * memory holds of it. It is out of every index that is asked at once, and is taken apart by
 * gov_sweep. Loop thread. */
#include <stdlib.h>

#include "gov/internal.h"

enum { SWEEP_ROWS = 2000 }; /* about half a millisecond */

static const cal_column columns[] = {CAL_COLUMN_GOVERNANCE, CAL_COLUMN_GROUP};
const cal_removal gov_removal = {"gov/removed/", columns, sizeof columns / sizeof *columns};

void gov_namespace_retire(cal_gov *gov, gov_namespace *ns) {
    cal_sorted_remove(&gov->namespaces, cal_slice_of(ns->id.bytes, 32));
    ns->retired = true;
    cal_list_push(&gov->retired, &ns->retired_link);
}

bool gov_sweep(cal_gov *gov) {
    cal_list *link = gov->retired.next;
    if (link == &gov->retired) return false;
    gov_namespace *ns = CAL_CONTAINER_OF(link, gov_namespace, retired_link);
    if (gov_namespace_shrink(gov, ns, SWEEP_ROWS)) return true;
    cal_list_remove(&ns->retired_link);
    gov_namespace_free(ns);
    return !cal_list_empty(&gov->retired);
}
