/* The per-call overlay, see overlay.h. */
#include "context/overlay.h"

#include <assert.h>
#include <stdlib.h>

#include "context/cache.h"

/* A written row; removed rows have no bytes. */
typedef struct overlay_row {
    bool removed;
    size_t len;
    uint8_t bytes[];
} overlay_row;

static const cal_column space_column[] = {
    [CAL_VM_STATE] = CAL_COLUMN_STATE,
    [CAL_VM_PRIVATE] = CAL_COLUMN_PRIVATE_STATE,
    [CAL_VM_INDEX] = CAL_COLUMN_INDEX,
    [CAL_VM_INDEX_META] = CAL_COLUMN_INDEX_META,
};

static bool is_sorted(cal_vm_space space) {
    return space == CAL_VM_INDEX || space == CAL_VM_INDEX_META;
}

static cal_map *rows_of(cal_overlay *overlay, cal_vm_space space) {
    return &overlay->rows[space == CAL_VM_STATE ? 0 : 1];
}

static cal_sorted *index_of(cal_overlay *overlay, cal_vm_space space) {
    return &overlay->index[space == CAL_VM_INDEX ? 0 : 1];
}

void cal_overlay_init(cal_overlay *overlay, const uint8_t context_id[32], cal_snapshot *snapshot,
                      cal_context_cache *cache, uint64_t cache_version) {
    *overlay = (cal_overlay){.snapshot = snapshot, .cache = cache, .cache_version = cache_version};
    memcpy(overlay->context_id, context_id, 32);
    for (int i = 0; i < 2; i++) {
        cal_map_init(&overlay->rows[i], cal_read_u64le(context_id));
        cal_sorted_init(&overlay->index[i]);
    }
    cal_sorted_init(&overlay->removed);
    cal_buffer_init(&overlay->scratch, CAL_STORE_KEY_MAX);
}

static void free_rows(cal_map *map) {
    cal_map_cursor cursor = {0};
    void *row;
    while (cal_map_next(map, &cursor, NULL, &row)) free(row);
    cal_map_deinit(map);
}

void cal_overlay_deinit(cal_overlay *overlay) {
    for (int i = 0; i < 2; i++) {
        free_rows(&overlay->rows[i]);
        for (cal_sorted_node *node = overlay->index[i].head[0]; node; node = node->next[0])
            free(node->value);
        cal_sorted_deinit(&overlay->index[i]);
    }
    cal_sorted_deinit(&overlay->removed);
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

static overlay_row *written_row(cal_overlay *overlay, cal_vm_space space, cal_slice key) {
    return is_sorted(space) ? cal_sorted_get(index_of(overlay, space), key)
                            : cal_map_get(rows_of(overlay, space), key);
}

static int read_committed(cal_overlay *overlay, cal_vm_space space, cal_slice key,
                          cal_buffer *ret_value) {
    if (!overlay->snapshot) return 0;
    if (space == CAL_VM_INDEX && hidden(overlay, key)) return 0;
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
    const overlay_row *row = written_row(overlay, space, key);
    if (!row) return read_committed(overlay, space, key, ret_value);
    if (row->removed) return 0;
    if (!ret_value) return 1;
    int rc = cal_buffer_append(ret_value, row->bytes, row->len);
    return rc == 0 ? 1 : rc;
}

/* Puts a row (value NULL: removed) in place of what the overlay has. */
static int put_row(cal_overlay *overlay, cal_vm_space space, cal_slice key,
                   const cal_slice *value) {
    overlay_row *row = malloc(sizeof *row + (value ? value->len : 0));
    if (!row) return CAL_ENOMEM;
    *row = (overlay_row){.removed = !value, .len = value ? value->len : 0};
    if (row->len) memcpy(row->bytes, value->data, row->len);
    void *old = NULL;
    int rc;
    if (is_sorted(space)) {
        rc = cal_sorted_put(index_of(overlay, space), key, row, &old);
    } else {
        old = cal_map_get(rows_of(overlay, space), key);
        rc = cal_map_put(rows_of(overlay, space), key, row);
    }
    free(rc == 0 ? old : (void *)row);
    return rc;
}

int cal_overlay_write(cal_overlay *overlay, cal_vm_space space, cal_slice key, cal_slice value,
                      cal_buffer *ret_old) {
    int had = ret_old ? cal_overlay_read(overlay, space, key, ret_old) : 0;
    if (had < 0) return had;
    int rc = put_row(overlay, space, key, &value);
    return rc == 0 ? had : rc;
}

int cal_overlay_remove(cal_overlay *overlay, cal_vm_space space, cal_slice key,
                       cal_buffer *ret_old) {
    int had = cal_overlay_read(overlay, space, key, ret_old);
    if (had <= 0) return had;
    int rc = put_row(overlay, space, key, NULL);
    return rc == 0 ? 1 : rc;
}

static bool starts_with(cal_slice key, cal_slice prefix) {
    return key.len >= prefix.len &&
           (prefix.len == 0 || memcmp(key.data, prefix.data, prefix.len) == 0);
}

static int remove_prefix(void *user, cal_slice prefix) {
    cal_overlay *overlay = user;
    cal_sorted *index = index_of(overlay, CAL_VM_INDEX);
    for (cal_sorted_node *node = cal_sorted_from(index, prefix), *next;
         node && starts_with(node->key, prefix); node = next) {
        next = node->next[0];
        free(cal_sorted_remove(index, node->key));
    }
    if (hidden(overlay, prefix)) return 0;
    for (cal_sorted_node *node = cal_sorted_from(&overlay->removed, prefix), *next;
         node && starts_with(node->key, prefix); node = next) {
        next = node->next[0];
        cal_sorted_remove(&overlay->removed, node->key);
    }
    return cal_sorted_put(&overlay->removed, prefix, overlay, NULL);
}

/* --- the merged walk over written and committed index pairs --- */

typedef struct index_walk {
    cal_overlay *overlay;
    cal_slice lo, hi;
    cal_cursor *cursor; /* committed pairs; NULL: none left */
    cal_slice committed_key, committed_value;
    const cal_sorted_node *written;
    bool backwards;
} index_walk;

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
        if (!hidden(walk->overlay, walk->committed_key)) return 0;
    }
    return 0;
}

static void bound_written(index_walk *walk) {
    if (!walk->written) return;
    bool inside = walk->backwards ? cal_slice_compare(walk->written->key, walk->lo) >= 0
                                  : cal_slice_compare(walk->written->key, walk->hi) < 0;
    if (!inside) walk->written = NULL;
}

static int walk_begin(index_walk *walk, cal_overlay *overlay, cal_slice lo, cal_slice hi,
                      bool backwards) {
    *walk = (index_walk){.overlay = overlay, .lo = lo, .hi = hi, .backwards = backwards};
    const cal_sorted *index = index_of(overlay, CAL_VM_INDEX);
    walk->written = backwards ? cal_sorted_before(index, &hi) : cal_sorted_from(index, lo);
    bound_written(walk);
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

static void step_written(index_walk *walk) {
    walk->written = walk->backwards ? cal_sorted_before(index_of(walk->overlay, CAL_VM_INDEX),
                                                        &walk->written->key)
                                    : walk->written->next[0];
    bound_written(walk);
}

/* The next live pair. 1, 0 at the end, or CAL_E*. The pair is valid until the walk goes on.
 * `advance` says which side it came from. */
static int walk_next(index_walk *walk, cal_slice *ret_key, cal_slice *ret_value,
                     bool *ret_from_store) {
    for (;;) {
        if (!walk->written && !walk->cursor) return 0;
        int order = !walk->cursor    ? -1
                    : !walk->written ? 1
                                     : cal_slice_compare(walk->written->key, walk->committed_key);
        if (walk->cursor && walk->written && walk->backwards) order = -order;
        if (order == 0) { /* the written row replaces the committed one */
            int rc = next_committed(walk);
            if (rc != 0) return rc;
            continue;
        }
        if (order > 0) {
            *ret_key = walk->committed_key;
            *ret_value = walk->committed_value;
            *ret_from_store = true;
            return 1;
        }
        const overlay_row *row = walk->written->value;
        if (row->removed) {
            step_written(walk);
            continue;
        }
        *ret_key = walk->written->key;
        *ret_value = cal_slice_of(row->bytes, row->len);
        *ret_from_store = false;
        return 1;
    }
}

static int scan(void *user, cal_slice lo, cal_slice hi, uint64_t skip, uint64_t max, bool last_only,
                int (*pair)(void *user, cal_slice key, cal_slice value), void *pair_user) {
    if (cal_slice_compare(lo, hi) >= 0 || max == 0) return 0;
    index_walk walk;
    int rc = walk_begin(&walk, user, lo, hi, last_only);
    cal_slice key, value;
    bool from_store = false;
    while (rc == 0 && max > 0 && (rc = walk_next(&walk, &key, &value, &from_store)) == 1) {
        rc = 0;
        if (skip > 0) {
            skip--;
        } else {
            rc = pair(pair_user, key, value);
            max = last_only ? 0 : max - 1;
        }
        if (rc != 0) break;
        if (from_store)
            rc = next_committed(&walk);
        else
            step_written(&walk);
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
                      cal_slice key, const overlay_row *row, cal_buffer *full) {
    cal_buffer_reset(full);
    cal_buffer_append(full, overlay->context_id, 32);
    cal_buffer_append_slice(full, key);
    if (row->removed)
        cal_batch_delete(batch, column, cal_buffer_slice(full));
    else
        cal_batch_put(batch, column, cal_buffer_slice(full), cal_slice_of(row->bytes, row->len));
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

void cal_overlay_each_state(const cal_overlay *overlay,
                            void (*visit)(void *user, cal_slice key, const cal_slice *value),
                            void *user) {
    cal_map_cursor cursor = {0};
    cal_slice key;
    void *found;
    while (cal_map_next(&overlay->rows[0], &cursor, &key, &found)) {
        const overlay_row *row = found;
        cal_slice value = cal_slice_of(row->bytes, row->len);
        visit(user, key, row->removed ? NULL : &value);
    }
}
