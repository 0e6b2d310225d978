/* The per-call overlay, see overlay.h. */
#include "context/overlay.h"

#include <assert.h>
#include <stdlib.h>

#include "context/cache.h"

static const cal_column space_column[] = {
    [CAL_VM_STATE] = CAL_COLUMN_STATE,
    [CAL_VM_PRIVATE] = CAL_COLUMN_PRIVATE_STATE,
    [CAL_VM_INDEX] = CAL_COLUMN_INDEX,
    [CAL_VM_INDEX_META] = CAL_COLUMN_INDEX_META,
};

static bool is_sorted(cal_vm_space space) {
    return space == CAL_VM_INDEX || space == CAL_VM_INDEX_META;
}

static int row_at(cal_vm_space space) { return space == CAL_VM_STATE ? 0 : 1; }
static int index_at(cal_vm_space space) { return space == CAL_VM_INDEX ? 0 : 1; }

void cal_overlay_init(cal_overlay *overlay, const uint8_t context_id[32], cal_snapshot *snapshot,
                      cal_context_cache *cache, uint64_t cache_version) {
    *overlay = (cal_overlay){.snapshot = snapshot, .cache = cache, .cache_version = cache_version};
    memcpy(overlay->context_id, context_id, 32);
    for (int i = 0; i < 2; i++) {
        cal_map_init(&overlay->rows[i], cal_read_u64le(context_id));
        cal_sorted_init(&overlay->index[i]);
    }
    cal_sorted_init(&overlay->removed);
    cal_map_init(&overlay->deltas, cal_read_u64le(context_id));
    cal_buffer_init(&overlay->scratch, CAL_STORE_KEY_MAX);
}

static void free_rows(cal_map *map) {
    cal_map_cursor cursor = {0};
    void *row;
    while (cal_map_next(map, &cursor, NULL, &row)) free(row);
    cal_map_deinit(map);
}

static void free_index(cal_sorted *index) {
    for (cal_sorted_node *node = index->head[0]; node; node = node->next[0]) free(node->value);
    cal_sorted_deinit(index);
}

void cal_overlay_clear(cal_overlay *overlay) {
    for (int i = 0; i < 2; i++) {
        free_rows(&overlay->rows[i]);
        free_index(&overlay->index[i]);
    }
    cal_sorted_deinit(&overlay->removed);
    cal_map_deinit(&overlay->deltas);
    overlay->bytes = 0;
}

void cal_overlay_deinit(cal_overlay *overlay) {
    cal_overlay_clear(overlay);
    cal_buffer_deinit(&overlay->scratch);
}

/* The key with the context in front, as the store has it; valid until the next call. */
static int store_key(cal_overlay *overlay, cal_slice key, cal_slice *ret_key) {
    cal_buffer_reset(&overlay->scratch);
    cal_buffer_append(&overlay->scratch, overlay->context_id, 32);
    int rc = cal_buffer_append_slice(&overlay->scratch, key);
    if (rc == 0) *ret_key = cal_buffer_slice(&overlay->scratch);
    return rc;
}

/* Whether a committed index key is hidden by a removed prefix: the greatest prefix not above it is
 * the only candidate, since none of them starts with another. */
static bool hidden(const cal_overlay *overlay, cal_slice key) {
    const cal_sorted_node *exact = cal_sorted_from(&overlay->removed, key);
    if (exact && cal_slice_equal(exact->key, key)) return true;
    const cal_sorted_node *below = cal_sorted_before(&overlay->removed, &key);
    return below && below->key.len <= key.len &&
           memcmp(below->key.data, key.data, below->key.len) == 0;
}

static cal_row *written_row(const cal_overlay *overlay, cal_vm_space space, cal_slice key) {
    return is_sorted(space) ? cal_sorted_get(&overlay->index[index_at(space)], key)
                            : cal_map_get(&overlay->rows[row_at(space)], key);
}

static int read_committed(cal_overlay *overlay, cal_vm_space space, cal_slice key,
                          cal_buffer *ret_value) {
    if (!overlay->snapshot) return 0;
    bool cached = space == CAL_VM_STATE && overlay->cache;
    if (cached) {
        int hit = cal_context_cache_get(overlay->cache, overlay->cache_version, key, ret_value);
        if (hit != CAL_CACHE_UNKNOWN) return hit;
    }
    cal_slice full;
    int rc = store_key(overlay, key, &full);
    size_t before = ret_value ? ret_value->len : 0;
    if (rc == 0) rc = cal_snapshot_get(overlay->snapshot, space_column[space], full, ret_value);
    if (rc != 0 && rc != CAL_ENOTFOUND) return rc;
    if (cached && ret_value) {
        cal_slice value = rc == 0 ? cal_slice_of(ret_value->data + before, ret_value->len - before)
                                  : (cal_slice){0};
        cal_context_cache_add(overlay->cache, overlay->cache_version, key, rc == 0 ? &value : NULL);
    }
    return rc == 0;
}

int cal_overlay_read(cal_overlay *overlay, cal_vm_space space, cal_slice key,
                     cal_buffer *ret_value) {
    const cal_row *row = NULL;
    for (const cal_overlay *at = overlay; at && !row; at = at->below) {
        row = written_row(at, space, key);
        if (!row && space == CAL_VM_INDEX && hidden(at, key)) return 0;
    }
    if (!row) return read_committed(overlay, space, key, ret_value);
    if (row->removed) return 0;
    if (!ret_value) return 1;
    int rc = cal_buffer_append(ret_value, row->bytes, row->len);
    return rc == 0 ? 1 : rc;
}

/* Puts a row in place of what the overlay has; takes it, also when that fails. */
static int place_row(cal_overlay *overlay, cal_vm_space space, cal_slice key, cal_row *row) {
    cal_row *old = NULL;
    void *replaced = NULL;
    int rc = row ? 0 : CAL_ENOMEM;
    if (rc == 0 && is_sorted(space)) {
        rc = cal_sorted_put(&overlay->index[index_at(space)], key, row, &replaced);
        old = replaced;
    } else if (rc == 0) {
        old = cal_map_get(&overlay->rows[row_at(space)], key);
        rc = cal_map_put(&overlay->rows[row_at(space)], key, row);
    }
    if (rc != 0) {
        free(row);
        return rc;
    }
    overlay->bytes += cal_row_cost(row) + key.len;
    if (old) overlay->bytes -= cal_row_cost(old) + key.len;
    free(old);
    return 0;
}

int cal_overlay_write(cal_overlay *overlay, cal_vm_space space, cal_slice key, cal_slice value,
                      cal_buffer *ret_old) {
    int had = ret_old ? cal_overlay_read(overlay, space, key, ret_old) : 0;
    if (had < 0) return had;
    int rc = place_row(overlay, space, key, cal_row_new(&value));
    return rc == 0 ? had : rc;
}

int cal_overlay_remove(cal_overlay *overlay, cal_vm_space space, cal_slice key,
                       cal_buffer *ret_old) {
    int had = cal_overlay_read(overlay, space, key, ret_old);
    if (had <= 0) return had;
    int rc = place_row(overlay, space, key, cal_row_new(NULL));
    return rc == 0 ? 1 : rc;
}

static bool starts_with(cal_slice key, cal_slice prefix) {
    return key.len >= prefix.len &&
           (prefix.len == 0 || memcmp(key.data, prefix.data, prefix.len) == 0);
}

static int remove_prefix(void *user, cal_slice prefix) {
    cal_overlay *overlay = user;
    cal_sorted *index = &overlay->index[index_at(CAL_VM_INDEX)];
    for (cal_sorted_node *node = cal_sorted_from(index, prefix), *next;
         node && starts_with(node->key, prefix); node = next) {
        next = node->next[0];
        overlay->bytes -= cal_row_cost(node->value) + node->key.len;
        free(cal_sorted_remove(index, node->key));
    }
    if (hidden(overlay, prefix)) return 0;
    for (cal_sorted_node *node = cal_sorted_from(&overlay->removed, prefix), *next;
         node && starts_with(node->key, prefix); node = next) {
        next = node->next[0];
        cal_sorted_remove(&overlay->removed, node->key);
    }
    overlay->bytes += CAL_ROW_OVERHEAD + prefix.len; /* an upper bound, when it was there before */
    return cal_sorted_put(&overlay->removed, prefix, overlay, NULL);
}

/* --- the merged walk over written and committed index pairs --- */

typedef struct index_walk {
    const cal_overlay *layers[CAL_OVERLAYS_MAX]; /* topmost first */
    const cal_sorted_node *written[CAL_OVERLAYS_MAX];
    int layer_count;
    cal_slice lo, hi;
    cal_cursor *cursor; /* committed pairs; NULL: none left */
    cal_slice committed_key, committed_value;
    bool backwards;
} index_walk;

/* Whether one of the first `count` layers has removed a prefix of the key. */
static bool hidden_above(const index_walk *walk, int count, cal_slice key) {
    for (int i = 0; i < count; i++)
        if (hidden(walk->layers[i], key)) return true;
    return false;
}

static int next_committed(index_walk *walk) {
    while (walk->cursor) {
        int rc = cal_cursor_next(walk->cursor, &walk->committed_key, &walk->committed_value);
        if (rc == CAL_ENOTFOUND) {
            cal_cursor_free(walk->cursor);
            walk->cursor = NULL;
            return 0;
        }
        if (rc != 0) return rc;
        walk->committed_key.data += 32; /* the context id */
        walk->committed_key.len -= 32;
        if (!hidden_above(walk, walk->layer_count, walk->committed_key)) return 0;
    }
    return 0;
}

static const cal_sorted_node *inside(const index_walk *walk, const cal_sorted_node *node) {
    if (!node) return NULL;
    bool is = walk->backwards ? cal_slice_compare(node->key, walk->lo) >= 0
                              : cal_slice_compare(node->key, walk->hi) < 0;
    return is ? node : NULL;
}

static const cal_sorted_node *step(const index_walk *walk, int layer, const cal_sorted_node *node) {
    const cal_sorted *index = &walk->layers[layer]->index[index_at(CAL_VM_INDEX)];
    return inside(walk, walk->backwards ? cal_sorted_before(index, &node->key) : node->next[0]);
}

/* Moves a layer on to its next pair that no layer above hides; from `node` itself on. */
static void settle_layer(index_walk *walk, int layer, const cal_sorted_node *node) {
    while (node && hidden_above(walk, layer, node->key)) node = step(walk, layer, node);
    walk->written[layer] = node;
}

static int walk_begin(index_walk *walk, cal_overlay *overlay, cal_slice lo, cal_slice hi,
                      bool backwards) {
    *walk = (index_walk){.lo = lo, .hi = hi, .backwards = backwards};
    for (const cal_overlay *at = overlay; at; at = at->below) {
        assert(walk->layer_count < CAL_OVERLAYS_MAX);
        walk->layers[walk->layer_count++] = at;
    }
    for (int i = 0; i < walk->layer_count; i++) {
        const cal_sorted *index = &walk->layers[i]->index[index_at(CAL_VM_INDEX)];
        settle_layer(
            walk, i,
            inside(walk, backwards ? cal_sorted_before(index, &hi) : cal_sorted_from(index, lo)));
    }
    if (!overlay->snapshot) return 0;
    cal_buffer from, to;
    cal_buffer_init(&from, CAL_STORE_KEY_MAX);
    cal_buffer_init(&to, CAL_STORE_KEY_MAX);
    cal_buffer_append(&from, overlay->context_id, 32);
    cal_buffer_append(&to, overlay->context_id, 32);
    cal_buffer_append_slice(&from, lo);
    cal_buffer_append_slice(&to, hi);
    int rc = from.error ? from.error : to.error;
    if (rc == 0)
        rc = cal_cursor_open(overlay->snapshot, CAL_COLUMN_INDEX, cal_buffer_slice(&from),
                             cal_buffer_slice(&to), backwards, &walk->cursor);
    cal_buffer_deinit(&from);
    cal_buffer_deinit(&to);
    return rc == 0 ? next_committed(walk) : rc;
}

enum { FROM_STORE = CAL_OVERLAYS_MAX, NOBODY };

/* Which source has the next key: the topmost layer of those that share it. */
static int next_source(const index_walk *walk, cal_slice *ret_key) {
    int source = NOBODY;
    for (int i = 0; i < walk->layer_count; i++) {
        if (!walk->written[i]) continue;
        int order = source == NOBODY ? -1 : cal_slice_compare(walk->written[i]->key, *ret_key);
        if (source == NOBODY || (walk->backwards ? order > 0 : order < 0)) {
            source = i;
            *ret_key = walk->written[i]->key;
        }
    }
    if (!walk->cursor) return source;
    int order = source == NOBODY ? -1 : cal_slice_compare(walk->committed_key, *ret_key);
    if (source != NOBODY && !(walk->backwards ? order > 0 : order < 0)) return source;
    *ret_key = walk->committed_key;
    return FROM_STORE;
}

/* Past this key, which `source` has, in every source that has it too. */
static int walk_past(index_walk *walk, int source, cal_slice key) {
    int rc = 0;
    if (walk->cursor && (source == FROM_STORE || cal_slice_equal(walk->committed_key, key)))
        rc = next_committed(walk);
    if (source == FROM_STORE) return rc;
    for (int i = walk->layer_count - 1; i >= source; i--) /* the key lives in `source`: last */
        if (walk->written[i] && cal_slice_equal(walk->written[i]->key, key))
            settle_layer(walk, i, step(walk, i, walk->written[i]));
    return rc;
}

/* The next live pair. 1, 0 at the end, or CAL_E*. The pair is valid until the walk goes on. */
static int walk_next(index_walk *walk, cal_slice *ret_key, cal_slice *ret_value, int *ret_source) {
    for (;;) {
        int source = next_source(walk, ret_key);
        if (source == NOBODY) return 0;
        const cal_row *row = source == FROM_STORE ? NULL : walk->written[source]->value;
        if (row && row->removed) {
            int rc = walk_past(walk, source, *ret_key);
            if (rc != 0) return rc;
            continue;
        }
        *ret_value = row ? cal_slice_of(row->bytes, row->len) : walk->committed_value;
        *ret_source = source;
        return 1;
    }
}

static int scan(void *user, cal_slice lo, cal_slice hi, uint64_t skip, uint64_t max, bool last_only,
                int (*pair)(void *user, cal_slice key, cal_slice value), void *pair_user) {
    if (cal_slice_compare(lo, hi) >= 0 || max == 0) return 0;
    index_walk walk;
    int rc = walk_begin(&walk, user, lo, hi, last_only);
    cal_slice key, value;
    int source = NOBODY;
    while (rc == 0 && max > 0 && (rc = walk_next(&walk, &key, &value, &source)) == 1) {
        rc = 0;
        if (skip > 0) {
            skip--;
        } else {
            rc = pair(pair_user, key, value);
            max = last_only ? 0 : max - 1;
        }
        if (rc == 0) rc = walk_past(&walk, source, key);
    }
    cal_cursor_free(walk.cursor);
    return rc > 0 ? 0 : rc;
}

static int storage_read(void *user, cal_vm_space space, cal_slice key, cal_buffer *ret_value) {
    return cal_overlay_read(user, space, key, ret_value);
}

static int storage_write(void *user, cal_vm_space space, cal_slice key, cal_slice value,
                         cal_buffer *ret_old) {
    return cal_overlay_write(user, space, key, value, ret_old);
}

static int storage_remove(void *user, cal_vm_space space, cal_slice key, cal_buffer *ret_old) {
    return cal_overlay_remove(user, space, key, ret_old);
}

cal_vm_storage cal_overlay_storage(cal_overlay *overlay) {
    return (cal_vm_storage){.user = overlay,
                            .read = storage_read,
                            .write = storage_write,
                            .remove = storage_remove,
                            .remove_prefix = remove_prefix,
                            .scan = scan};
}

/* --- becoming a batch --- */

static void flush_row(const cal_overlay *overlay, cal_batch *batch, cal_column column,
                      cal_slice key, const cal_row *row, cal_buffer *full) {
    cal_buffer_reset(full);
    cal_buffer_append(full, overlay->context_id, 32);
    cal_buffer_append_slice(full, key);
    if (row->removed)
        cal_batch_delete(batch, column, cal_buffer_slice(full));
    else
        cal_batch_put(batch, column, cal_buffer_slice(full), cal_slice_of(row->bytes, row->len));
}

bool cal_overlay_has_private_changes(const cal_overlay *overlay) {
    return overlay->rows[row_at(CAL_VM_PRIVATE)].count > 0;
}

bool cal_overlay_has_index_changes(const cal_overlay *overlay) {
    return overlay->index[0].count || overlay->index[1].count || overlay->removed.count;
}

int cal_overlay_flush(const cal_overlay *overlay, bool state, bool index, cal_batch *batch) {
    cal_buffer full;
    cal_buffer_init(&full, CAL_STORE_KEY_MAX);
    static const cal_column row_columns[] = {CAL_COLUMN_STATE, CAL_COLUMN_PRIVATE_STATE};
    static const cal_column index_columns[] = {CAL_COLUMN_INDEX, CAL_COLUMN_INDEX_META};
    for (int i = 0; i < 2 && state; i++) {
        cal_map_cursor cursor = {0};
        cal_slice key;
        void *row;
        while (cal_map_next(&overlay->rows[i], &cursor, &key, &row))
            flush_row(overlay, batch, row_columns[i], key, row, &full);
    }
    for (const cal_sorted_node *node = overlay->removed.head[0]; node && index;
         node = node->next[0]) {
        cal_buffer_reset(&full);
        cal_buffer_append(&full, overlay->context_id, 32);
        cal_buffer_append_slice(&full, node->key);
        cal_batch_delete_prefix(batch, CAL_COLUMN_INDEX, cal_buffer_slice(&full));
    }
    for (int i = 0; i < 2 && index; i++)
        for (const cal_sorted_node *node = overlay->index[i].head[0]; node; node = node->next[0])
            flush_row(overlay, batch, index_columns[i], node->key, node->value, &full);
    int rc = full.error;
    cal_buffer_deinit(&full);
    return rc;
}

/* --- on top of one another --- */

bool cal_overlay_is_empty(const cal_overlay *overlay) {
    return overlay->rows[0].count == 0 && overlay->rows[1].count == 0 &&
           overlay->deltas.count == 0 && !cal_overlay_has_index_changes(overlay);
}

int cal_overlay_add_delta(cal_overlay *overlay, const cal_hash *id) {
    overlay->bytes += CAL_ROW_OVERHEAD;
    return cal_map_put(&overlay->deltas, cal_slice_of(id->bytes, 32), overlay);
}

bool cal_overlay_has_delta(const cal_overlay *overlay, const cal_hash *id) {
    for (const cal_overlay *at = overlay; at; at = at->below)
        if (cal_map_get(&at->deltas, cal_slice_of(id->bytes, 32))) return true;
    return false;
}

static int merge_rows(cal_overlay *into, cal_overlay *from) {
    static const cal_vm_space spaces[] = {CAL_VM_STATE, CAL_VM_PRIVATE};
    int rc = 0;
    for (int i = 0; i < 2; i++) {
        cal_map_cursor cursor = {0};
        cal_slice key;
        void *row;
        while (cal_map_next(&from->rows[i], &cursor, &key, &row)) {
            int placed = place_row(into, spaces[i], key, row);
            if (placed != 0) rc = placed;
        }
        cal_map_deinit(&from->rows[i]);
    }
    return rc;
}

static int merge_index(cal_overlay *into, cal_overlay *from) {
    static const cal_vm_space spaces[] = {CAL_VM_INDEX, CAL_VM_INDEX_META};
    int rc = 0;
    for (const cal_sorted_node *node = from->removed.head[0]; node; node = node->next[0]) {
        int removed = remove_prefix(into, node->key);
        if (removed != 0) rc = removed;
    }
    for (int i = 0; i < 2; i++) {
        for (cal_sorted_node *node = from->index[i].head[0]; node; node = node->next[0]) {
            int placed = place_row(into, spaces[i], node->key, node->value);
            if (placed != 0) rc = placed;
            node->value = NULL; /* moved */
        }
    }
    return rc;
}

static int merge_deltas(cal_overlay *into, const cal_overlay *from) {
    cal_map_cursor cursor = {0};
    cal_slice key;
    void *present;
    int rc = 0;
    while (rc == 0 && cal_map_next(&from->deltas, &cursor, &key, &present)) {
        rc = cal_map_put(&into->deltas, key, into);
        into->bytes += CAL_ROW_OVERHEAD;
    }
    return rc;
}

int cal_overlay_merge(cal_overlay *into, cal_overlay *from, bool state, bool index) {
    int rc = state ? merge_rows(into, from) : 0;
    int index_rc = index ? merge_index(into, from) : 0;
    int deltas_rc = merge_deltas(into, from);
    cal_overlay_clear(from);
    return rc != 0 ? rc : index_rc != 0 ? index_rc : deltas_rc;
}

void cal_overlay_give_state(cal_overlay *overlay,
                            void (*take)(void *user, cal_slice key, cal_row *row), void *user) {
    cal_map_cursor cursor = {0};
    cal_slice key;
    void *row;
    while (cal_map_next(&overlay->rows[0], &cursor, &key, &row)) take(user, key, row);
    cal_map_deinit(&overlay->rows[0]);
    cal_overlay_clear(overlay);
}
