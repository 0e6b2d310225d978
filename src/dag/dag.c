/* Operations, heads, waiting, causal order: see dag.h.
 *
 * Applied operations live in an array in the order in which they were applied, so a parent's index
 * is always below its child's; that makes ancestry a walk down the indexes. A waiting operation
 * knows how many parents it still lacks, and each lacking parent knows who waits for it. */
#include "dag/dag.h"

#include <assert.h>
#include <stdlib.h>

#include "base/list.h"
#include "base/map.h"
#include "calimero/error.h"

typedef struct {
    cal_hash id;
    uint32_t generation;
    uint32_t parent_count;
    uint32_t *parents; /* indexes of applied operations; the zero parent is left out */
} applied_op;

typedef struct {
    cal_list link; /* of waiting, in order of arrival, or of ready */
    dag_op op;
    cal_hash *parents;
    uint32_t lacking;
    size_t len;
    uint8_t bytes[];
} waiting_op;

typedef struct {
    cal_hash id;
    waiting_op **children;
    size_t count, capacity;
} lacking_parent;

struct cal_dag {
    applied_op *applied;
    size_t applied_count, applied_capacity;
    cal_map index;   /* id -> 1 + position, as a pointer */
    cal_map waiting; /* id -> waiting_op */
    cal_map lacking; /* id -> lacking_parent */
    cal_list queue, ready;
    size_t waiting_count, waiting_bytes;
    cal_hash *heads;
    size_t head_count, head_capacity;
    uint64_t evicted;
    waiting_op *taken; /* the last one handed out */
};

static cal_slice key_of(const cal_hash *id) { return cal_slice_of(id->bytes, sizeof id->bytes); }

static bool is_zero(const cal_hash *id) {
    static const cal_hash zero;
    return memcmp(id, &zero, sizeof zero) == 0;
}

cal_dag *dag_new(uint64_t seed) {
    cal_dag *dag = calloc(1, sizeof *dag);
    if (!dag) return NULL;
    cal_map_init(&dag->index, seed);
    cal_map_init(&dag->waiting, seed + 1);
    cal_map_init(&dag->lacking, seed + 2);
    cal_list_init(&dag->queue);
    cal_list_init(&dag->ready);
    return dag;
}

static void free_list(cal_list *list) {
    for (cal_list *link; (link = cal_list_pop(list));) {
        waiting_op *op = CAL_CONTAINER_OF(link, waiting_op, link);
        free(op->parents);
        free(op);
    }
}

static void free_waiting(waiting_op *op) {
    if (!op) return;
    free(op->parents);
    free(op);
}

void dag_free(cal_dag *dag) {
    if (!dag) return;
    cal_map_cursor cursor = {0};
    cal_slice key;
    void *value;
    while (cal_map_next(&dag->lacking, &cursor, &key, &value)) {
        free(((lacking_parent *)value)->children);
        free(value);
    }
    free_list(&dag->queue);
    free_list(&dag->ready);
    free_waiting(dag->taken);
    for (size_t i = 0; i < dag->applied_count; i++) free(dag->applied[i].parents);
    free(dag->applied);
    free(dag->heads);
    cal_map_deinit(&dag->index);
    cal_map_deinit(&dag->waiting);
    cal_map_deinit(&dag->lacking);
    free(dag);
}

/* 1 + position among the applied, 0 when it is not applied. */
static size_t position_of(const cal_dag *dag, const cal_hash *id) {
    return (size_t)(uintptr_t)cal_map_get(&dag->index, key_of(id));
}

bool dag_applied(const cal_dag *dag, const cal_hash *id) { return position_of(dag, id) != 0; }

static bool parent_present(const cal_dag *dag, const cal_hash *id) {
    return is_zero(id) || dag_applied(dag, id);
}

dag_verdict dag_check(const cal_dag *dag, const dag_op *op) {
    if (dag_applied(dag, &op->id) || cal_map_get(&dag->waiting, key_of(&op->id)))
        return DAG_DUPLICATE;
    for (uint32_t i = 0; i < op->parent_count; i++)
        if (!parent_present(dag, &op->parents[i])) return DAG_WAITING;
    return DAG_READY;
}

/* --- applying --- */

static int grow(void *array_pointer, size_t *capacity, size_t needed, size_t size) {
    void **array = array_pointer;
    if (needed <= *capacity) return 0;
    size_t next = *capacity ? *capacity * 2 : 16;
    void *grown = realloc(*array, next * size);
    if (!grown) return CAL_ENOMEM;
    *array = grown;
    *capacity = next;
    return 0;
}

static void move_heads(cal_dag *dag, const dag_op *op) {
    for (uint32_t i = 0; i < op->parent_count; i++)
        for (size_t j = 0; j < dag->head_count; j++) {
            if (memcmp(&dag->heads[j], &op->parents[i], sizeof(cal_hash)) != 0) continue;
            memmove(dag->heads + j, dag->heads + j + 1,
                    (dag->head_count - j - 1) * sizeof *dag->heads);
            dag->head_count--;
            break;
        }
    dag->heads[dag->head_count++] = op->id;
}

static void enqueue_ready(cal_dag *dag, waiting_op *op) {
    cal_list_remove(&op->link);
    cal_list_push(&dag->ready, &op->link);
}

/* Whoever waited for this id waits for one parent less. */
static void release_children(cal_dag *dag, const cal_hash *id) {
    lacking_parent *parent = cal_map_remove(&dag->lacking, key_of(id));
    if (!parent) return;
    for (size_t i = 0; i < parent->count; i++) {
        assert(parent->children[i]->lacking > 0);
        if (--parent->children[i]->lacking == 0) enqueue_ready(dag, parent->children[i]);
    }
    free(parent->children);
    free(parent);
}

static void remove_waiting(cal_dag *dag, waiting_op *op);

int dag_apply(cal_dag *dag, const dag_op *op) {
    if (dag_applied(dag, &op->id)) return CAL_EEXISTS;
    applied_op applied = {.id = op->id};
    if (grow(&dag->applied, &dag->applied_capacity, dag->applied_count + 1, sizeof *dag->applied) ||
        grow(&dag->heads, &dag->head_capacity, dag->head_count + 1, sizeof *dag->heads))
        return CAL_ENOMEM;
    if (op->parent_count && !(applied.parents = malloc(op->parent_count * sizeof *applied.parents)))
        return CAL_ENOMEM;
    int result = 0;
    for (uint32_t i = 0; i < op->parent_count && !result; i++) {
        size_t position = position_of(dag, &op->parents[i]);
        if (is_zero(&op->parents[i])) continue;
        if (!position) {
            result = CAL_ESTATE;
            break;
        }
        uint32_t generation = dag->applied[position - 1].generation + 1;
        if (generation > applied.generation) applied.generation = generation;
        applied.parents[applied.parent_count++] = (uint32_t)(position - 1);
    }
    if (!result)
        result =
            cal_map_put(&dag->index, key_of(&op->id), (void *)(uintptr_t)(dag->applied_count + 1));
    if (result) {
        free(applied.parents);
        return result;
    }
    dag->applied[dag->applied_count++] = applied;
    move_heads(dag, op);
    waiting_op *waited =
        cal_map_get(&dag->waiting, key_of(&op->id)); /* it came again by another way */
    if (waited) remove_waiting(dag, waited);
    release_children(dag, &op->id);
    return 0;
}

/* --- waiting --- */

static void forget_child(cal_dag *dag, const cal_hash *parent_id, const waiting_op *child) {
    lacking_parent *parent = cal_map_get(&dag->lacking, key_of(parent_id));
    size_t kept = 0;
    if (!parent) return;
    for (size_t i = 0; i < parent->count; i++)
        if (parent->children[i] != child) parent->children[kept++] = parent->children[i];
    parent->count = kept;
    if (kept) return;
    cal_map_remove(&dag->lacking, key_of(parent_id));
    free(parent->children);
    free(parent);
}

/* Out of every table and list, not freed. */
static void detach(cal_dag *dag, waiting_op *op) {
    for (uint32_t i = 0; i < op->op.parent_count; i++) forget_child(dag, &op->parents[i], op);
    cal_map_remove(&dag->waiting, key_of(&op->op.id));
    cal_list_remove(&op->link);
    dag->waiting_count--;
    dag->waiting_bytes -= op->len;
}

static void remove_waiting(cal_dag *dag, waiting_op *op) {
    detach(dag, op);
    free_waiting(op);
}

static bool evict_oldest(cal_dag *dag) {
    cal_list *oldest = !cal_list_empty(&dag->queue) ? dag->queue.next : NULL;
    if (!oldest) return false;
    remove_waiting(dag, CAL_CONTAINER_OF(oldest, waiting_op, link));
    dag->evicted++;
    return true;
}

static int wait_for(cal_dag *dag, const cal_hash *id, waiting_op *child) {
    lacking_parent *parent = cal_map_get(&dag->lacking, key_of(id));
    if (!parent) {
        parent = calloc(1, sizeof *parent);
        if (!parent) return CAL_ENOMEM;
        parent->id = *id;
        if (cal_map_put(&dag->lacking, key_of(id), parent)) {
            free(parent);
            return CAL_ENOMEM;
        }
    }
    for (size_t i = 0; i < parent->count; i++)
        if (parent->children[i] == child) return 0; /* cited twice */
    if (grow(&parent->children, &parent->capacity, parent->count + 1, sizeof *parent->children)) {
        forget_child(dag, id, child); /* drops the parent when nobody waits for it */
        return CAL_ENOMEM;
    }
    parent->children[parent->count++] = child;
    child->lacking++;
    return 0;
}

int dag_park(cal_dag *dag, const dag_op *op, cal_slice bytes) {
    if (op->parent_count > DAG_PARENTS_MAX || bytes.len > DAG_WAITING_BYTES_MAX) return CAL_ELIMIT;
    if (dag_check(dag, op) != DAG_WAITING) return CAL_EEXISTS;
    while (dag->waiting_count >= DAG_WAITING_MAX ||
           dag->waiting_bytes > DAG_WAITING_BYTES_MAX - bytes.len)
        if (!evict_oldest(dag)) return CAL_ELIMIT; /* all the room is taken by what is ready */
    waiting_op *waiting = calloc(1, sizeof *waiting + bytes.len);
    cal_hash *parents = malloc(op->parent_count * sizeof *parents);
    if (!waiting || !parents || cal_map_put(&dag->waiting, key_of(&op->id), waiting)) {
        free(waiting);
        free(parents);
        return CAL_ENOMEM;
    }
    memcpy(parents, op->parents, op->parent_count * sizeof *parents);
    waiting->parents = parents;
    waiting->op = (dag_op){op->id, parents, op->parent_count};
    waiting->len = bytes.len;
    if (bytes.len) memcpy(waiting->bytes, bytes.data, bytes.len);
    cal_list_push(&dag->queue, &waiting->link);
    dag->waiting_count++;
    dag->waiting_bytes += bytes.len;
    for (uint32_t i = 0; i < op->parent_count; i++) {
        if (parent_present(dag, &parents[i])) continue;
        if (wait_for(dag, &parents[i], waiting)) {
            remove_waiting(dag, waiting);
            return CAL_ENOMEM;
        }
    }
    return 0;
}

bool dag_next_ready(cal_dag *dag, dag_op *ret_op, cal_slice *ret_bytes) {
    free_waiting(dag->taken);
    dag->taken = NULL;
    if (cal_list_empty(&dag->ready)) return false;
    waiting_op *op = CAL_CONTAINER_OF(dag->ready.next, waiting_op, link);
    detach(dag, op);
    dag->taken = op;
    *ret_op = op->op;
    *ret_bytes = cal_slice_of(op->bytes, op->len);
    return true;
}

size_t dag_missing(const cal_dag *dag, cal_hash *ret_ids, size_t max) {
    cal_map_cursor cursor = {0};
    cal_slice key;
    void *value;
    size_t count = 0;
    while (count < max && cal_map_next(&dag->lacking, &cursor, &key, &value)) {
        const lacking_parent *parent = value;
        if (!cal_map_get(&dag->waiting, key)) ret_ids[count++] = parent->id;
    }
    return count;
}

/* --- reading --- */

size_t dag_heads(const cal_dag *dag, const cal_hash **ret_heads) {
    *ret_heads = dag->heads;
    return dag->head_count;
}

size_t dag_applied_count(const cal_dag *dag) { return dag->applied_count; }
size_t dag_waiting_count(const cal_dag *dag) { return dag->waiting_count; }
uint64_t dag_evicted(const cal_dag *dag) { return dag->evicted; }

int dag_generation(const cal_dag *dag, const cal_hash *id, uint32_t *ret_generation) {
    size_t position = position_of(dag, id);
    if (!position) return CAL_ENOTFOUND;
    *ret_generation = dag->applied[position - 1].generation;
    return 0;
}

int dag_ancestry(const cal_dag *dag, const cal_hash *cut, size_t count, cal_arena *arena,
                 dag_entry **ret_entries, size_t *ret_count) {
    bool *inside = cal_arena_alloc_array(arena, dag->applied_count + 1, sizeof *inside);
    size_t total = 0, top = 0;
    if (!inside) return CAL_ENOMEM;
    for (size_t i = 0; i < count; i++) {
        if (is_zero(&cut[i])) continue;
        size_t position = position_of(dag, &cut[i]);
        if (!position) return CAL_ENOTFOUND;
        inside[position - 1] = true;
        if (position > top) top = position;
    }
    for (size_t i = top; i-- > 0;) { /* parents have lower indexes: one walk down finds them all */
        if (!inside[i]) continue;
        total++;
        for (uint32_t p = 0; p < dag->applied[i].parent_count; p++)
            inside[dag->applied[i].parents[p]] = true;
    }
    dag_entry *entries = cal_arena_alloc_array(arena, total + 1, sizeof *entries);
    if (!entries) return CAL_ENOMEM;
    for (size_t i = 0, at = 0; i < top; i++)
        if (inside[i]) entries[at++] = (dag_entry){dag->applied[i].id, dag->applied[i].generation};
    *ret_entries = entries;
    *ret_count = total;
    return 0;
}

/* --- sorting a list --- */

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
