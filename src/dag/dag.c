/* Operations, heads, waiting, causal order: see dag.h.
 *
 * What is applied and not settled is kept whole, so that it can be taken back; of what is settled
 * the last few are remembered by id and generation, to spare the store the usual question. A
 * waiting operation knows how many parents it still lacks, each lacking parent knows who waits for
 * it, and each sender what it makes us keep. */
#include "dag/dag.h"

#include <assert.h>
#include <stdlib.h>

#include "base/list.h"
#include "base/map.h"
#include "calimero/error.h"

typedef struct {
    cal_list link; /* of unsettled or settled, oldest first */
    cal_hash id;
    uint32_t generation;
    uint32_t parent_count; /* kept until it is settled; without a store, for good */
    cal_hash parents[];
} applied_op;

typedef struct {
    cal_list ops; /* of waiting_op.of_sender, oldest first; not those that are ready */
    cal_hash id;
    size_t count, cost;
} sender_share;

typedef struct {
    cal_list link;      /* of queue, in order of arrival, or of ready */
    cal_list of_sender; /* while it is in the queue */
    sender_share *sender;
    dag_op op;
    cal_hash *parents;
    uint32_t lacking;
    size_t cost, len;
    uint8_t bytes[];
} waiting_op;

typedef struct {
    cal_hash id;
    waiting_op **children;
    size_t count, capacity;
} lacking_parent;

typedef struct {
    cal_hash *ids;
    size_t count, capacity;
} head_list;

struct cal_dag {
    dag_store store; /* find NULL: none */
    cal_map applied; /* id -> applied_op */
    cal_list unsettled, settled;
    size_t unsettled_count, settled_count;
    head_list heads, settled_heads; /* now, and as they are in the store */
    cal_map waiting;                /* id -> waiting_op */
    cal_map lacking;                /* id -> lacking_parent */
    cal_map senders;                /* id -> sender_share */
    cal_list queue, ready;
    size_t waiting_count, waiting_cost;
    uint64_t evicted;
    waiting_op *taken; /* the last one handed out */
};

static cal_slice key_of(const cal_hash *id) { return cal_slice_of(id->bytes, sizeof id->bytes); }

static bool is_zero(const cal_hash *id) {
    static const cal_hash zero;
    return memcmp(id, &zero, sizeof zero) == 0;
}

static bool same(const cal_hash *a, const cal_hash *b) { return memcmp(a, b, sizeof *a) == 0; }

cal_dag *dag_new(uint64_t seed, const dag_store *store) {
    cal_dag *dag = calloc(1, sizeof *dag);
    if (!dag) return NULL;
    if (store) dag->store = *store;
    cal_map_init(&dag->applied, seed);
    cal_map_init(&dag->waiting, seed + 1);
    cal_map_init(&dag->lacking, seed + 2);
    cal_map_init(&dag->senders, seed + 3);
    cal_list_init(&dag->unsettled);
    cal_list_init(&dag->settled);
    cal_list_init(&dag->queue);
    cal_list_init(&dag->ready);
    return dag;
}

static void free_waiting(waiting_op *op) {
    if (!op) return;
    free(op->parents);
    free(op);
}

static void free_waiting_list(cal_list *list) {
    for (cal_list *link; (link = cal_list_pop(list));)
        free_waiting(CAL_CONTAINER_OF(link, waiting_op, link));
}

static void free_applied_list(cal_list *list) {
    for (cal_list *link; (link = cal_list_pop(list));)
        free(CAL_CONTAINER_OF(link, applied_op, link));
}

void dag_free(cal_dag *dag) {
    if (!dag) return;
    cal_map_cursor lacking = {0}, senders = {0};
    cal_slice key;
    void *value;
    while (cal_map_next(&dag->lacking, &lacking, &key, &value)) {
        free(((lacking_parent *)value)->children);
        free(value);
    }
    while (cal_map_next(&dag->senders, &senders, &key, &value)) free(value);
    free_waiting_list(&dag->queue);
    free_waiting_list(&dag->ready);
    free_waiting(dag->taken);
    free_applied_list(&dag->unsettled);
    free_applied_list(&dag->settled);
    free(dag->heads.ids);
    free(dag->settled_heads.ids);
    cal_map_deinit(&dag->applied);
    cal_map_deinit(&dag->waiting);
    cal_map_deinit(&dag->lacking);
    cal_map_deinit(&dag->senders);
    free(dag);
}

/* --- what is applied --- */

int dag_generation(const cal_dag *dag, const cal_hash *id, uint32_t *ret_generation) {
    const applied_op *op = cal_map_get(&dag->applied, key_of(id));
    if (op) {
        *ret_generation = op->generation;
        return 0;
    }
    return dag->store.find ? dag->store.find(dag->store.user, id, ret_generation, NULL)
                           : CAL_ENOTFOUND;
}

int dag_applied(const cal_dag *dag, const cal_hash *id) {
    uint32_t ignored;
    return dag_generation(dag, id, &ignored);
}

static int parent_present(const cal_dag *dag, const cal_hash *id) {
    return is_zero(id) ? 0 : dag_applied(dag, id);
}

int dag_check(const cal_dag *dag, const dag_op *op, dag_verdict *ret_verdict) {
    dag_verdict verdict = DAG_READY;
    int result = cal_map_get(&dag->waiting, key_of(&op->id)) ? 0 : dag_applied(dag, &op->id);
    if (result == 0) {
        *ret_verdict = DAG_DUPLICATE;
        return 0;
    }
    for (uint32_t i = 0; i < op->parent_count && result == CAL_ENOTFOUND && verdict == DAG_READY;
         i++) {
        int present = parent_present(dag, &op->parents[i]);
        if (present == CAL_ENOTFOUND)
            verdict = DAG_WAITING;
        else if (present)
            result = present;
    }
    if (result != CAL_ENOTFOUND) return result;
    *ret_verdict = verdict;
    return 0;
}

static int grow(void *array_pointer, size_t *capacity, size_t needed, size_t size) {
    void **array = array_pointer;
    if (needed <= *capacity) return 0;
    size_t next = *capacity ? *capacity * 2 : 4;
    while (next < needed) next *= 2;
    void *grown = realloc(*array, next * size);
    if (!grown) return CAL_ENOMEM;
    *array = grown;
    *capacity = next;
    return 0;
}

static int reserve_heads(head_list *heads, size_t more) {
    return grow(&heads->ids, &heads->capacity, heads->count + more, sizeof *heads->ids);
}

/* governance.md 6: cited heads go, the operation becomes one. Its place has been reserved. */
static void move_heads(head_list *heads, const cal_hash *id, const cal_hash *parents,
                       uint32_t count) {
    size_t kept = 0;
    for (size_t j = 0; j < heads->count; j++) {
        bool cited = false;
        for (uint32_t i = 0; i < count && !cited; i++) cited = same(&heads->ids[j], &parents[i]);
        if (!cited) heads->ids[kept++] = heads->ids[j];
    }
    assert(kept < heads->capacity);
    heads->ids[kept++] = *id;
    heads->count = kept;
}

int dag_load(cal_dag *dag, const cal_hash *heads, size_t count) {
    assert(dag->heads.count == 0);
    if (count > DAG_HEADS_MAX) return CAL_ELIMIT;
    if (grow(&dag->heads.ids, &dag->heads.capacity, count, sizeof *heads) ||
        grow(&dag->settled_heads.ids, &dag->settled_heads.capacity, count, sizeof *heads))
        return CAL_ENOMEM;
    if (count) {
        memcpy(dag->heads.ids, heads, count * sizeof *heads);
        memcpy(dag->settled_heads.ids, heads, count * sizeof *heads);
    }
    dag->heads.count = dag->settled_heads.count = count;
    return 0;
}

static size_t heads_left(const cal_dag *dag, const dag_op *op) {
    size_t left = 0;
    if (dag->heads.count < DAG_HEADS_MAX) return dag->heads.count;
    for (size_t j = 0; j < dag->heads.count; j++) {
        bool cited = false;
        for (uint32_t i = 0; i < op->parent_count && !cited; i++)
            cited = same(&dag->heads.ids[j], &op->parents[i]);
        left += !cited;
    }
    return left;
}

static void enqueue_ready(cal_dag *dag, waiting_op *op) {
    cal_list_remove(&op->link);
    cal_list_push(&dag->ready, &op->link);
    cal_list_remove(&op->of_sender);
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

static int generation_of(const cal_dag *dag, const dag_op *op, uint32_t *ret_generation) {
    uint32_t highest = 0;
    for (uint32_t i = 0; i < op->parent_count; i++) {
        uint32_t generation;
        if (is_zero(&op->parents[i])) continue;
        int result = dag_generation(dag, &op->parents[i], &generation);
        if (result) return result == CAL_ENOTFOUND ? CAL_ESTATE : result;
        if (generation == UINT32_MAX) return CAL_ELIMIT;
        if (generation + 1 > highest) highest = generation + 1;
    }
    *ret_generation = highest;
    return 0;
}

int dag_apply(cal_dag *dag, const dag_op *op) {
    uint32_t generation = 0;
    int result = dag_applied(dag, &op->id);
    if (result != CAL_ENOTFOUND) return result ? result : CAL_EEXISTS;
    if (op->parent_count > DAG_PARENTS_MAX || heads_left(dag, op) >= DAG_HEADS_MAX)
        return CAL_ELIMIT;
    if ((result = generation_of(dag, op, &generation))) return result;
    applied_op *applied = malloc(sizeof *applied + op->parent_count * sizeof *op->parents);
    if (!applied || reserve_heads(&dag->heads, 1) ||
        reserve_heads(&dag->settled_heads, dag->unsettled_count + 1) ||
        cal_map_put(&dag->applied, key_of(&op->id), applied)) {
        free(applied);
        return CAL_ENOMEM;
    }
    applied->id = op->id;
    applied->generation = generation;
    applied->parent_count = op->parent_count;
    if (op->parent_count)
        memcpy(applied->parents, op->parents, op->parent_count * sizeof *op->parents);
    cal_list_push(&dag->unsettled, &applied->link);
    dag->unsettled_count++;
    move_heads(&dag->heads, &op->id, op->parents, op->parent_count);
    waiting_op *waited =
        cal_map_get(&dag->waiting, key_of(&op->id)); /* it came again by another way */
    if (waited) remove_waiting(dag, waited);
    release_children(dag, &op->id);
    if (!dag->store.find) dag_settle(dag, 1);
    return 0;
}

static void forget_oldest(cal_dag *dag) {
    cal_list *link = cal_list_pop(&dag->settled);
    applied_op *op = CAL_CONTAINER_OF(link, applied_op, link);
    cal_map_remove(&dag->applied, key_of(&op->id));
    free(op);
    dag->settled_count--;
}

/* Each head in turn takes its place among the settled ones; room was reserved by dag_apply, one for
 * each operation that was applied. */
void dag_settle(cal_dag *dag, size_t count) {
    assert(count <= dag->unsettled_count);
    for (; count; count--) {
        cal_list *link = cal_list_pop(&dag->unsettled);
        applied_op *op = CAL_CONTAINER_OF(link, applied_op, link);
        dag->unsettled_count--;
        move_heads(&dag->settled_heads, &op->id, op->parents, op->parent_count);
        cal_list_push(&dag->settled, &op->link);
        dag->settled_count++;
        if (!dag->store.find) continue; /* nobody else would know it */
        if (dag->settled_count > DAG_RECENT_MAX) forget_oldest(dag);
        if (op->parent_count == 0) continue;
        op->parent_count = 0; /* from now on the store knows them */
        applied_op *slim = realloc(op, sizeof *op);
        if (!slim) continue;
        slim->link.prev->next = slim->link.next->prev = &slim->link;
        cal_map_put(&dag->applied, key_of(&slim->id), slim); /* replaces: cannot fail */
    }
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

static void leave_sender(cal_dag *dag, waiting_op *op) {
    sender_share *sender = op->sender;
    cal_list_remove(&op->of_sender);
    sender->count--;
    sender->cost -= op->cost;
    if (sender->count) return;
    cal_map_remove(&dag->senders, key_of(&sender->id));
    free(sender);
}

/* Out of every table and list, not freed. */
static void detach(cal_dag *dag, waiting_op *op) {
    for (uint32_t i = 0; i < op->op.parent_count; i++) forget_child(dag, &op->parents[i], op);
    cal_map_remove(&dag->waiting, key_of(&op->op.id));
    cal_list_remove(&op->link);
    dag->waiting_count--;
    dag->waiting_cost -= op->cost;
    leave_sender(dag, op);
}

static void remove_waiting(cal_dag *dag, waiting_op *op) {
    detach(dag, op);
    free_waiting(op);
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
    if (parent->count && parent->children[parent->count - 1] == child) return 0; /* cited twice */
    if (grow(&parent->children, &parent->capacity, parent->count + 1, sizeof *parent->children)) {
        forget_child(dag, id, child); /* drops the parent when nobody waits for it */
        return CAL_ENOMEM;
    }
    parent->children[parent->count++] = child;
    child->lacking++;
    return 0;
}

/* The sender that takes the most room, counting what the newcomer would take for its own. */
static sender_share *heaviest(const cal_dag *dag, bool by_cost, const cal_hash *newcomer,
                              size_t cost) {
    cal_map_cursor cursor = {0};
    cal_slice key;
    void *value;
    sender_share *found = NULL;
    size_t most = 0;
    while (cal_map_next(&dag->senders, &cursor, &key, &value)) {
        sender_share *sender = value;
        size_t own = same(&sender->id, newcomer) ? (by_cost ? cost : 1) : 0;
        size_t weight = own + (by_cost ? sender->cost : sender->count);
        if (cal_list_empty(&sender->ops) || weight <= most) continue;
        most = weight;
        found = sender;
    }
    return found && most >= (by_cost ? cost : 1) ? found : NULL;
}

static int make_room(cal_dag *dag, const cal_hash *sender, size_t cost) {
    for (;;) {
        bool count = dag->waiting_count >= DAG_WAITING_MAX,
             bytes = dag->waiting_cost > DAG_WAITING_BYTES_MAX - cost;
        if (!count && !bytes) return 0;
        sender_share *heavy = heaviest(dag, bytes, sender, cost);
        if (!heavy) return CAL_ELIMIT; /* the newcomer itself, or all the room is what is ready */
        remove_waiting(dag, CAL_CONTAINER_OF(heavy->ops.next, waiting_op, of_sender));
        dag->evicted++;
    }
}

static sender_share *share_of(cal_dag *dag, const cal_hash *id) {
    sender_share *sender = cal_map_get(&dag->senders, key_of(id));
    if (sender) return sender;
    sender = calloc(1, sizeof *sender);
    if (!sender) return NULL;
    sender->id = *id;
    cal_list_init(&sender->ops);
    if (cal_map_put(&dag->senders, key_of(id), sender)) {
        free(sender);
        return NULL;
    }
    return sender;
}

static waiting_op *waiting_new(const dag_op *op, cal_slice bytes, size_t cost) {
    waiting_op *waiting = calloc(1, sizeof *waiting + bytes.len);
    cal_hash *parents = malloc(op->parent_count * sizeof *parents);
    if (!waiting || !parents) {
        free(waiting);
        free(parents);
        return NULL;
    }
    memcpy(parents, op->parents, op->parent_count * sizeof *parents);
    waiting->parents = parents;
    waiting->op = (dag_op){op->id, parents, op->parent_count};
    waiting->len = bytes.len;
    waiting->cost = cost;
    if (bytes.len) memcpy(waiting->bytes, bytes.data, bytes.len);
    cal_list_init(&waiting->link);
    cal_list_init(&waiting->of_sender);
    return waiting;
}

int dag_park(cal_dag *dag, const dag_op *op, cal_slice bytes, const cal_hash *sender) {
    dag_verdict verdict;
    if (op->parent_count > DAG_PARENTS_MAX) return CAL_ELIMIT;
    size_t cost = op->parent_count * (size_t)DAG_WAITING_PARENT_COST;
    if (bytes.len > DAG_WAITING_BYTES_MAX - cost) return CAL_ELIMIT;
    cost += bytes.len;
    int result = dag_check(dag, op, &verdict);
    if (!result && verdict != DAG_WAITING) result = CAL_EEXISTS;
    if (!result) result = make_room(dag, sender, cost);
    if (result) return result;
    waiting_op *waiting = waiting_new(op, bytes, cost);
    sender_share *share = waiting ? share_of(dag, sender) : NULL;
    if (!share || cal_map_put(&dag->waiting, key_of(&op->id), waiting)) {
        if (share && share->count == 0) {
            cal_map_remove(&dag->senders, key_of(sender));
            free(share);
        }
        free_waiting(waiting);
        return CAL_ENOMEM;
    }
    waiting->sender = share;
    share->count++;
    share->cost += cost;
    cal_list_push(&share->ops, &waiting->of_sender);
    cal_list_push(&dag->queue, &waiting->link);
    dag->waiting_count++;
    dag->waiting_cost += cost;
    for (uint32_t i = 0; i < op->parent_count && !result; i++) {
        result = parent_present(dag, &waiting->parents[i]);
        if (result == CAL_ENOTFOUND) result = wait_for(dag, &waiting->parents[i], waiting);
    }
    if (result) remove_waiting(dag, waiting);
    return result;
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

/* --- taking back --- */

/* Whoever cites one of those that go lacks it again. Without memory for that it stays as ready as
 * it was, and its owner finds out when it checks it. */
static void wait_again(cal_dag *dag, const cal_map *gone, cal_list *list) {
    for (cal_list *link = list->next, *next; link != list; link = next) {
        waiting_op *op = CAL_CONTAINER_OF(link, waiting_op, link);
        uint32_t before = op->lacking;
        next = link->next;
        for (uint32_t i = 0; i < op->op.parent_count; i++)
            if (cal_map_get(gone, key_of(&op->parents[i])) && wait_for(dag, &op->parents[i], op))
                break;
        if (before || !op->lacking) continue;
        cal_list_remove(&op->link);
        cal_list_push(&dag->queue, &op->link);
        cal_list_push(&op->sender->ops, &op->of_sender);
    }
}

void dag_revert(cal_dag *dag) {
    cal_map gone;
    cal_map_init(&gone, dag->applied.seed);
    for (cal_list *link; (link = cal_list_pop(&dag->unsettled));) {
        applied_op *op = CAL_CONTAINER_OF(link, applied_op, link);
        cal_map_remove(&dag->applied, key_of(&op->id));
        cal_map_put(&gone, key_of(&op->id), dag);
        free(op);
    }
    dag->unsettled_count = 0;
    assert(dag->settled_heads.count <= dag->heads.capacity || !dag->settled_heads.count);
    if (dag->settled_heads.count)
        memcpy(dag->heads.ids, dag->settled_heads.ids,
               dag->settled_heads.count * sizeof *dag->heads.ids);
    dag->heads.count = dag->settled_heads.count;
    wait_again(dag, &gone, &dag->queue);
    wait_again(dag, &gone, &dag->ready);
    cal_map_deinit(&gone);
}

/* --- reading --- */

size_t dag_heads(const cal_dag *dag, const cal_hash **ret_heads) {
    *ret_heads = dag->heads.ids;
    return dag->heads.count;
}

size_t dag_known(const cal_dag *dag) { return dag->applied.count; }
size_t dag_unsettled(const cal_dag *dag) { return dag->unsettled_count; }
size_t dag_waiting_count(const cal_dag *dag) { return dag->waiting_count; }
uint64_t dag_evicted(const cal_dag *dag) { return dag->evicted; }

static int node_of(const cal_dag *dag, const cal_hash *id, uint32_t *ret_generation,
                   cal_buffer *ret_parents) {
    const applied_op *op = cal_map_get(&dag->applied, key_of(id));
    cal_buffer_reset(ret_parents);
    if (op && (!dag->store.find || op->parent_count)) {
        *ret_generation = op->generation;
        return cal_buffer_append(ret_parents, op->parents, op->parent_count * sizeof(cal_hash));
    }
    if (op && op->generation == 0) {
        *ret_generation = 0;
        return 0;
    }
    return dag->store.find ? dag->store.find(dag->store.user, id, ret_generation, ret_parents)
                           : CAL_ENOTFOUND;
}

static int by_generation(const void *a, const void *b) {
    const dag_entry *x = a, *y = b;
    if (x->generation != y->generation) return x->generation < y->generation ? -1 : 1;
    return memcmp(&x->id, &y->id, sizeof x->id);
}

typedef struct {
    cal_map seen;
    cal_buffer found, parents; /* of dag_entry; ids */
} ancestry;

static int visit(ancestry *a, const cal_hash *id) {
    dag_entry entry = {*id, 0};
    if (is_zero(id) || cal_map_get(&a->seen, key_of(id))) return 0;
    if (cal_map_put(&a->seen, key_of(id), a)) return CAL_ENOMEM;
    return cal_buffer_append(&a->found, &entry, sizeof entry);
}

int dag_ancestry(const cal_dag *dag, const cal_hash *cut, size_t count, cal_arena *arena,
                 dag_entry **ret_entries, size_t *ret_count) {
    ancestry a = {.seen = {0}};
    int result = 0;
    cal_map_init(&a.seen, dag->applied.seed);
    cal_buffer_init(&a.found, arena->max);
    cal_buffer_init(&a.parents, DAG_PARENTS_MAX * sizeof(cal_hash));
    for (size_t i = 0; i < count && !result; i++) result = visit(&a, &cut[i]);
    for (size_t at = 0; at < a.found.len / sizeof(dag_entry) && !result; at++) {
        dag_entry *entry = (dag_entry *)(void *)a.found.data + at;
        cal_hash id = entry->id; /* the list moves as it grows */
        result = node_of(dag, &id, &entry->generation, &a.parents);
        for (size_t p = 0; p < a.parents.len && !result; p += sizeof(cal_hash)) {
            cal_hash parent;
            memcpy(&parent, a.parents.data + p, sizeof parent);
            result = visit(&a, &parent);
        }
    }
    size_t total = a.found.len / sizeof(dag_entry);
    dag_entry *entries = result ? NULL : cal_arena_copy(arena, a.found.data, a.found.len);
    if (!result && !entries) result = CAL_ENOMEM;
    if (!result) {
        if (total) qsort(entries, total, sizeof *entries, by_generation);
        *ret_entries = entries;
        *ret_count = total;
    }
    cal_map_deinit(&a.seen);
    cal_buffer_deinit(&a.found);
    cal_buffer_deinit(&a.parents);
    return result;
}
