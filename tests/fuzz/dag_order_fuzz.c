/* Sorting operations whose ids and parents the input chooses. Three bytes an operation: its number
 * and two parents. Whatever comes is either a cycle or put in an order that its edges allow. */
#include <stdlib.h>

#include "calimero/error.h"
#include "dag/dag.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OPS_MAX = 512, IDS = 256 };

static void check(bool condition) {
    if (!condition) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static dag_op list[OPS_MAX];
    static cal_hash parents[OPS_MAX][2];
    bool listed[IDS] = {false}, out[IDS] = {false};
    size_t order[OPS_MAX], count = 0;
    if (size > 3 * OPS_MAX) return 0;
    for (size_t i = 0; i + 3 <= size; i += 3) {
        if (listed[data[i]]) continue; /* ids are hashes: none comes twice */
        listed[data[i]] = true;
        parents[count][0] = (cal_hash){{data[i + 1]}};
        parents[count][1] = (cal_hash){{data[i + 2]}};
        list[count] = (dag_op){{{data[i]}}, parents[count], data[i] % 3};
        count++;
    }
    int rc = dag_sort(list, count, order);
    check(rc == 0 || rc == CAL_EDECODE);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        check(order[i] < count);
        const dag_op *op = &list[order[i]];
        check(!out[op->id.bytes[0]]);
        for (uint32_t p = 0; p < op->parent_count; p++) {
            uint8_t parent = op->parents[p].bytes[0];
            check(!listed[parent] || out[parent]);
        }
        out[op->id.bytes[0]] = true;
    }
    return 0;
}
