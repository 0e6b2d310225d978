/* What lies below some deltas and not below others, see bulk.h.
 *
 * The newest delta that is not looked at yet is always next, whichever side it is of: what lies
 * below a known one becomes known before it is reached from the other side, unless somebody's times
 * run backwards; then some that are known are found, too, which costs no more than sending them. It
 * is over when nothing is left to look at but what is known. Times and parents are all that is kept
 * of a delta: some 64 bytes each. */
#include <stdlib.h>
#include <string.h>

#include "sync/bulk.h"

enum {
    NODE_KNOWN = 1,  /* below what is known, or it */
    NODE_READ = 2,   /* looked up in the store */
    NODE_QUEUED = 4, /* in the heap */
    NODE_FOUND = 8,  /* taken from it as not known */
    EDGES_MAX = 8 * 1000 * 1000,
    NONE = 0, /* in the table: no node; others are counted from 1 */
};

typedef struct node {
    cal_hash id;
    uint64_t time;
    uint32_t edges, edge_count;
    uint8_t flags;
} node;

struct sync_walk {
    uint64_t seed;
    uint32_t max;
    node *nodes;
    uint32_t node_count, node_capacity;
    uint32_t *table, table_size; /* a power of two, or 0 */
    uint32_t *edges, edge_count, edge_capacity;
    uint32_t *heap, heap_count, heap_capacity; /* the newest first */
    uint32_t *found, found_count, found_capacity;
    uint32_t open; /* of the heap, those that are not known */
    bool begun, short_of, known_absent;
    const cal_past *past; /* NULL: none */
    cal_buffer row;
};

sync_walk *sync_walk_new(uint64_t seed, uint32_t max) {
    sync_walk *walk = calloc(1, sizeof *walk);
    if (!walk) return NULL;
    walk->seed = seed;
    walk->max = max < SYNC_BULK_WALK_MAX ? max : SYNC_BULK_WALK_MAX;
    cal_buffer_init(&walk->row, CAL_STORE_VALUE_MAX);
    return walk;
}

void sync_walk_free(sync_walk *walk) {
    if (!walk) return;
    cal_buffer_deinit(&walk->row);
    free(walk->nodes);
    free(walk->table);
    free(walk->edges);
    free(walk->heap);
    free(walk->found);
    free(walk);
}

static int grow(void *array_pointer, uint32_t *capacity, size_t needed, size_t size) {
    void **array = array_pointer;
    if (needed <= *capacity) return 0;
    size_t next = *capacity ? (size_t)*capacity * 2 : 64;
    void *grown = realloc(*array, next * size);
    if (!grown) return CAL_ENOMEM;
    *array = grown;
    *capacity = (uint32_t)next;
    return 0;
}

/* --- the table --- */

static uint32_t place_of(const sync_walk *walk, const cal_hash *id) {
    uint64_t mixed = walk->seed;
    for (size_t i = 0; i < sizeof id->bytes; i += 8)
        mixed = (mixed ^ cal_read_u64le(id->bytes + i)) * 0x9e3779b97f4a7c15u + (mixed >> 29);
    return (uint32_t)(mixed >> 32) & (walk->table_size - 1);
}

static void put_in_table(sync_walk *walk, uint32_t index) {
    uint32_t at = place_of(walk, &walk->nodes[index].id);
    while (walk->table[at] != NONE) at = (at + 1) & (walk->table_size - 1);
    walk->table[at] = index + 1;
}

static int make_table(sync_walk *walk) {
    if ((uint64_t)walk->node_count * 2 < walk->table_size) return 0;
    uint32_t size = walk->table_size ? walk->table_size * 2 : 256;
    uint32_t *table = calloc(size, sizeof *table);
    if (!table) return CAL_ENOMEM;
    free(walk->table);
    walk->table = table;
    walk->table_size = size;
    for (uint32_t i = 0; i < walk->node_count; i++) put_in_table(walk, i);
    return 0;
}

static int intern(sync_walk *walk, const cal_hash *id, uint32_t *ret_index) {
    int rc = make_table(walk);
    if (rc != 0) return rc;
    for (uint32_t at = place_of(walk, id); walk->table[at] != NONE;
         at = (at + 1) & (walk->table_size - 1)) {
        *ret_index = walk->table[at] - 1;
        if (memcmp(&walk->nodes[*ret_index].id, id, sizeof *id) == 0) return 0;
    }
    if (walk->node_count >= walk->max) return CAL_ELIMIT;
    rc =
        grow(&walk->nodes, &walk->node_capacity, (size_t)walk->node_count + 1, sizeof *walk->nodes);
    if (rc != 0) return rc;
    *ret_index = walk->node_count;
    walk->nodes[walk->node_count++] = (node){.id = *id};
    put_in_table(walk, *ret_index);
    return 0;
}

void sync_walk_past(sync_walk *walk, const cal_past *past) { walk->past = past; }

int sync_walk_add(sync_walk *walk, const cal_hash *id, bool known) {
    static const cal_hash zero;
    uint32_t index;
    if (memcmp(id, &zero, sizeof zero) == 0) return 0;
    int rc = intern(walk, id, &index);
    if (rc == 0 && known) walk->nodes[index].flags |= NODE_KNOWN;
    return rc;
}

/* --- the heap --- */

static bool newer(const sync_walk *walk, uint32_t a, uint32_t b) {
    const node *first = &walk->nodes[a], *second = &walk->nodes[b];
    if (first->time != second->time) return first->time > second->time;
    return memcmp(&first->id, &second->id, sizeof first->id) < 0;
}

static int heap_push(sync_walk *walk, uint32_t index) {
    int rc =
        grow(&walk->heap, &walk->heap_capacity, (size_t)walk->heap_count + 1, sizeof *walk->heap);
    if (rc != 0) return rc;
    uint32_t at = walk->heap_count++;
    for (; at > 0 && newer(walk, index, walk->heap[(at - 1) / 2]); at = (at - 1) / 2)
        walk->heap[at] = walk->heap[(at - 1) / 2];
    walk->heap[at] = index;
    walk->nodes[index].flags |= NODE_QUEUED;
    if (!(walk->nodes[index].flags & NODE_KNOWN)) walk->open++;
    return 0;
}

static uint32_t heap_pop(sync_walk *walk) {
    uint32_t first = walk->heap[0], last = walk->heap[--walk->heap_count], at = 0;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= walk->heap_count) break;
        if (child + 1 < walk->heap_count && newer(walk, walk->heap[child + 1], walk->heap[child]))
            child++;
        if (!newer(walk, walk->heap[child], last)) break;
        walk->heap[at] = walk->heap[child];
        at = child;
    }
    walk->heap[at] = last;
    walk->nodes[first].flags &= (uint8_t)~NODE_QUEUED;
    if (!(walk->nodes[first].flags & NODE_KNOWN)) walk->open--;
    return first;
}

static void become_known(sync_walk *walk, uint32_t index) {
    node *of = &walk->nodes[index];
    if (of->flags & NODE_KNOWN) return;
    of->flags |= NODE_KNOWN;
    if (of->flags & NODE_QUEUED) walk->open--;
}

/* --- steps --- */

static int note_parents(sync_walk *walk, uint32_t index, const cal_delta_record *record) {
    static const uint8_t zero[32];
    uint32_t first = walk->edge_count;
    for (size_t i = 0; i < record->parent_count; i++) {
        cal_hash id;
        uint32_t parent;
        if (memcmp(record->parents[i], zero, sizeof zero) == 0) continue;
        if (walk->edge_count >= EDGES_MAX) return CAL_ELIMIT;
        memcpy(id.bytes, record->parents[i], sizeof id.bytes);
        int rc = intern(walk, &id, &parent);
        if (rc == 0)
            rc = grow(&walk->edges, &walk->edge_capacity, (size_t)walk->edge_count + 1,
                      sizeof *walk->edges);
        if (rc != 0) return rc;
        walk->edges[walk->edge_count++] = parent;
    }
    walk->nodes[index].edges = first;
    walk->nodes[index].edge_count = walk->edge_count - first;
    return 0;
}

/* What is not here, or stands for what is below it, has nothing to look at. */
static int look_up(sync_walk *walk, cal_snapshot *snapshot, const cal_context_id *context,
                   uint32_t index) {
    uint8_t key[64];
    cal_delta_record record;
    if (walk->nodes[index].flags & NODE_READ) return 0;
    walk->nodes[index].flags |= NODE_READ;
    memcpy(key, context->bytes, 32);
    memcpy(key + 32, walk->nodes[index].id.bytes, 32);
    cal_buffer_reset(&walk->row);
    int rc =
        cal_snapshot_get(snapshot, CAL_COLUMN_DELTA, cal_slice_of(key, sizeof key), &walk->row);
    if (rc == 0) rc = cal_delta_record_decode(cal_buffer_slice(&walk->row), &record);
    if (rc == CAL_ENOTFOUND || (rc == 0 && cal_delta_is_checkpoint(&record))) {
        if (walk->nodes[index].flags & NODE_KNOWN)
            walk->known_absent = true;
        else
            walk->short_of = true;
        return 0;
    }
    if (rc != 0) return rc;
    walk->nodes[index].time = record.hlc.time;
    if (walk->past && record.has_author &&
        cal_past_has(walk->past, &record.author, record.hlc.time))
        walk->nodes[index].flags |= NODE_KNOWN;
    rc = note_parents(walk, index, &record);
    return rc ? rc : heap_push(walk, index);
}

static int take_next(sync_walk *walk, cal_snapshot *snapshot, const cal_context_id *context,
                     uint32_t *rows) {
    uint32_t index = heap_pop(walk);
    bool known = walk->nodes[index].flags & NODE_KNOWN;
    if (!known) {
        int rc = grow(&walk->found, &walk->found_capacity, (size_t)walk->found_count + 1,
                      sizeof *walk->found);
        if (rc != 0) return rc;
        walk->found[walk->found_count++] = index;
        walk->nodes[index].flags |= NODE_FOUND;
    }
    for (uint32_t i = 0; i < walk->nodes[index].edge_count; i++) {
        uint32_t parent = walk->edges[walk->nodes[index].edges + i];
        if (known) become_known(walk, parent);
        if (*rows > 0) --*rows;
        int rc = look_up(walk, snapshot, context, parent);
        if (rc != 0) return rc;
    }
    return 0;
}

static int go_on(sync_walk *walk, cal_snapshot *snapshot, const cal_context_id *context,
                 uint32_t rows) {
    uint32_t given = walk->begun ? 0 : walk->node_count;
    walk->begun = true;
    for (uint32_t i = 0; i < given; i++) {
        int rc = look_up(walk, snapshot, context, i);
        if (rc != 0) return rc;
    }
    while (walk->open > 0) {
        if (rows == 0) return CAL_EBUSY;
        rows--;
        int rc = take_next(walk, snapshot, context, &rows);
        if (rc != 0) return rc;
    }
    return 0;
}

int sync_walk_step(sync_walk *walk, cal_store *store, const cal_context_id *context,
                   uint32_t rows) {
    cal_snapshot *snapshot;
    int rc = cal_store_snapshot(store, &snapshot);
    if (rc != 0) return rc;
    rc = go_on(walk, snapshot, context, rows);
    cal_snapshot_free(snapshot);
    return rc;
}

/* --- what was found --- */

size_t sync_walk_count(const sync_walk *walk) { return walk->found_count; }

const cal_hash *sync_walk_at(const sync_walk *walk, size_t i) {
    const node *of = &walk->nodes[walk->found[walk->found_count - 1 - i]];
    return of->flags & NODE_KNOWN ? NULL : &of->id;
}

uint64_t sync_walk_oldest(const sync_walk *walk) {
    uint64_t oldest = UINT64_MAX;
    for (size_t i = 0; i < walk->found_count; i++) {
        const node *of = &walk->nodes[walk->found[i]];
        if (!(of->flags & NODE_KNOWN) && of->time < oldest) oldest = of->time;
    }
    return oldest;
}

bool sync_walk_knows(const sync_walk *walk, const cal_hash *id) {
    for (uint32_t at = walk->table_size ? place_of(walk, id) : 0;
         walk->table_size && walk->table[at] != NONE; at = (at + 1) & (walk->table_size - 1)) {
        const node *of = &walk->nodes[walk->table[at] - 1];
        if (memcmp(&of->id, id, sizeof *id) == 0) return of->flags & NODE_KNOWN;
    }
    return false;
}

bool sync_walk_knows_all(const sync_walk *walk) { return !walk->known_absent; }

bool sync_walk_ended_short(const sync_walk *walk) { return walk->short_of; }
