/* Sorting a list of operations, see dag.h. */
#include <stdlib.h>

#include "base/map.h"
#include "calimero/error.h"
#include "dag/dag.h"

static cal_slice key_of(const cal_hash *id) { return cal_slice_of(id->bytes, sizeof id->bytes); }

typedef struct {
    cal_map index;                                      /* id -> 1 + position in the list */
    size_t *lacking, *first_child, *next_child, *child; /* edges as linked lists in arrays */
    size_t edges;
} sorter;

static int sorter_build(sorter *s, const dag_op *ops, size_t count) {
    size_t edges = 0;
    for (size_t i = 0; i < count; i++) edges += ops[i].parent_count;
    s->lacking = calloc(count + 1, sizeof(size_t));
    s->first_child = calloc(count + 1, sizeof(size_t));
    s->next_child = calloc(edges + 1, sizeof(size_t));
    s->child = calloc(edges + 1, sizeof(size_t));
    if (!s->lacking || !s->first_child || !s->next_child || !s->child) return CAL_ENOMEM;
    for (size_t i = 0; i < count; i++)
        if (cal_map_put(&s->index, key_of(&ops[i].id), (void *)(uintptr_t)(i + 1)))
            return CAL_ENOMEM;
    for (size_t i = 0; i < count; i++)
        for (uint32_t p = 0; p < ops[i].parent_count; p++) {
            size_t parent = (size_t)(uintptr_t)cal_map_get(&s->index, key_of(&ops[i].parents[p]));
            if (!parent) continue;
            s->edges++;
            s->child[s->edges] = i;
            s->next_child[s->edges] = s->first_child[parent - 1];
            s->first_child[parent - 1] = s->edges;
            s->lacking[i]++;
        }
    return 0;
}

/* A binary heap of list positions, smallest first: it keeps the given order among what is ready. */
static void heap_push(size_t *heap, size_t *count, size_t value) {
    size_t at = (*count)++;
    for (; at > 0 && heap[(at - 1) / 2] > value; at = (at - 1) / 2) heap[at] = heap[(at - 1) / 2];
    heap[at] = value;
}

static size_t heap_pop(size_t *heap, size_t *count) {
    size_t least = heap[0], last = heap[--*count], at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= *count) break;
        if (child + 1 < *count && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= last) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return least;
}

int dag_sort(const dag_op *ops, size_t count, size_t *ret_order) {
    sorter s = {.edges = 0};
    size_t *heap = calloc(count + 1, sizeof *heap), waiting = 0, done = 0;
    cal_map_init(&s.index, count);
    int result = heap ? sorter_build(&s, ops, count) : CAL_ENOMEM;
    for (size_t i = 0; i < count && !result; i++)
        if (s.lacking[i] == 0) heap_push(heap, &waiting, i);
    while (!result && waiting) {
        size_t at = heap_pop(heap, &waiting);
        ret_order[done++] = at;
        for (size_t edge = s.first_child[at]; edge; edge = s.next_child[edge])
            if (--s.lacking[s.child[edge]] == 0) heap_push(heap, &waiting, s.child[edge]);
    }
    if (!result && done < count) result = CAL_EDECODE;
    free(heap);
    free(s.lacking);
    free(s.first_child);
    free(s.next_child);
    free(s.child);
    cal_map_deinit(&s.index);
    return result;
}
