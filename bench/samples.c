/* Lists of measured times and their quantiles. */
#include <math.h>
#include <stdlib.h>

#include "bench.h"

void samples_add(samples *all, double value) {
    if (all->count == all->capacity) {
        all->capacity = all->capacity ? all->capacity * 2 : 1024;
        all->values = realloc(all->values, all->capacity * sizeof *all->values);
        if (!all->values) bench_die("no memory for %zu samples", all->capacity);
    }
    all->values[all->count++] = value;
    all->sorted = false;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double samples_at(samples *all, double quantile) {
    if (all->count == 0) return 0;
    if (!all->sorted) qsort(all->values, all->count, sizeof *all->values, ascending);
    all->sorted = true;
    size_t rank = (size_t)ceil(quantile * (double)all->count);
    return all->values[rank > 0 ? rank - 1 : 0];
}

void samples_free(samples *all) {
    free(all->values);
    *all = (samples){0};
}
