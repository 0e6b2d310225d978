/* State in numbers that calls would take too long to make, and differences that no delta tells of:
 * entities are merged into a context's tree as those of another replica are. They hang in groups,
 * since a collection's record lists all its children and must fit a page of a snapshot. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "crypto/crypto.h"
#include "node/internal.h"
#include "share.h"
#include "sync/tree_view.h"

enum { CHILDREN_MAX = 16, VALUE = 32, TIME = 5000 };

typedef struct growing {
    cal_node *node;
    const cal_context_id *context;
    crdt_id collection;
    cal_merge_item items[CAL_MERGE_ITEMS_MAX];
    uint8_t values[CAL_MERGE_ITEMS_MAX][VALUE];
    size_t count;
    pthread_mutex_t lock;
    pthread_cond_t merged;
    bool done;
} growing;

static crdt_id id_of(uint8_t kind, uint32_t n) {
    crdt_id id;
    cal_slice parts[] = {cal_slice_of(&kind, 1), cal_slice_of(&n, sizeof n)};
    cal_sha256_parts(parts, 2, id.bytes);
    return id;
}

/* The collection that has the entries: the root's child that has most of them. */
static crdt_id find_collection(cal_node *node, const cal_context_id *context) {
    sync_tree_view *view;
    cal_hash ids[CHILDREN_MAX], at;
    crdt_id found = {{0}};
    size_t most = 0;
    memcpy(&at, context, sizeof at);
    if (sync_tree_view_open(node->store, context, 1, &view) || sync_tree_view_load(view, &at))
        bench_die("the context's tree cannot be read");
    size_t count = view->child_count < CHILDREN_MAX ? view->child_count : CHILDREN_MAX;
    for (size_t i = 0; i < count; i++) ids[i] = view->children[i].id;
    for (size_t i = 0; i < count; i++) {
        if (sync_tree_view_load(view, &ids[i])) bench_die("the context's tree cannot be read");
        if (view->child_count <= most) continue;
        most = view->child_count;
        memcpy(&found, &ids[i], sizeof found);
    }
    if (most == 0) bench_die("a context without an entry does not grow");
    sync_tree_view_free(view);
    return found;
}

static void on_merged(void *user, int error, const cal_merge_outcome *outcomes, size_t count) {
    growing *g = user;
    if (error) bench_die("entities: %s", cal_error_name(error));
    for (size_t i = 0; i < count; i++)
        if (outcomes[i].result > CRDT_LEAF_KEPT)
            bench_die("entity %zu of a merge: %d", i, (int)outcomes[i].result);
    pthread_mutex_lock(&g->lock);
    g->done = true;
    pthread_cond_signal(&g->merged);
    pthread_mutex_unlock(&g->lock);
}

static void merge(void *arg) {
    growing *g = arg;
    cal_contexts_merge(g->node->contexts, g->context, g->items, g->count, on_merged, g);
}

static void flush(growing *g) {
    if (g->count == 0) return;
    g->done = false;
    cal_node_run(g->node, merge, g);
    pthread_mutex_lock(&g->lock);
    while (!g->done) pthread_cond_wait(&g->merged, &g->lock);
    pthread_mutex_unlock(&g->lock);
    g->count = 0;
}

static void put(growing *g, crdt_id id, crdt_id parent, uint8_t salt) {
    if (g->count == CAL_MERGE_ITEMS_MAX) flush(g);
    uint8_t *value = g->values[g->count];
    memcpy(value, id.bytes, VALUE);
    value[0] = salt;
    cal_merge_item *item = &g->items[g->count++];
    *item = (cal_merge_item){.leaf = {.id = id,
                                      .value = crdt_bytes_of(value, VALUE),
                                      .created_at = TIME,
                                      .updated_at = TIME + salt,
                                      .has_parent = true,
                                      .parent = parent}};
}

static uint32_t group_size(uint32_t total) {
    uint32_t size = 1;
    while (size * size < total) size++;
    return size;
}

void share_grow(cal_node *node, const cal_context_id *context, uint32_t from, uint32_t to,
                uint32_t total, uint32_t step, uint8_t salt) {
    growing *g = calloc(1, sizeof *g);
    if (!g) bench_die("no memory");
    g->node = node;
    g->context = context;
    g->collection = find_collection(node, context);
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->merged, NULL);
    uint32_t size = group_size(total), group = UINT32_MAX;
    for (uint32_t n = from; n < to; n += step) {
        if (n / size != group && salt == 0) put(g, id_of(1, n / size), g->collection, 0);
        group = n / size;
        put(g, id_of(2, n), id_of(1, group), salt);
    }
    flush(g);
    pthread_cond_destroy(&g->merged);
    pthread_mutex_destroy(&g->lock);
    free(g);
}
