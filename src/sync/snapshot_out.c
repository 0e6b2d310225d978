/* Reading a staged state out in the order of its keys, see snapshot.h.
 *
 * The store takes rows in order some ten times as fast as in none: each page is then written once,
 * and not again with nearly every step. Index rows lie in order as they are staged; the keys of
 * Entry rows come in none. So these are gathered part by part of the range of keys, as many as fit
 * into memory, put in order and merged with the others. A small state is one part; a large one is
 * read through once for each, which costs far less than it saves. */
#include <stdlib.h>

#include "sync/snapshot_internal.h"

enum { PART_BYTES = 24 * 1024 * 1024, PART_BYTES_MAX = 48 * 1024 * 1024, ITEM_COST = 64 };

typedef struct out_entry {
    uint8_t key[32];
    size_t at;
    uint32_t len;
} out_entry;

struct staged_out {
    sync_snapshot *intake;
    cal_snapshot *snapshot;
    cal_cursor *rows; /* over the Index rows; the next one: */
    const uint8_t *index_key;
    staged_entity entity;
    bool has_row, rows_over;
    /* the Entry rows whose keys begin with first to last: */
    uint64_t first, last, width;
    bool gathered;
    out_entry *entries;
    size_t count, capacity, at;
    cal_buffer values;
};

static bool add(staged_out *out, const uint8_t key[32], cal_slice value) {
    if (out->count == out->capacity) {
        size_t capacity = out->capacity ? 2 * out->capacity : 1024;
        out_entry *entries = realloc(out->entries, capacity * sizeof *entries);
        if (!entries) return false;
        out->entries = entries;
        out->capacity = capacity;
    }
    out_entry *entry = &out->entries[out->count];
    *entry = (out_entry){.at = out->values.len, .len = (uint32_t)value.len};
    memcpy(entry->key, key, sizeof entry->key);
    if (cal_buffer_append_slice(&out->values, value)) return false;
    out->count++;
    return true;
}

static int by_key(const void *a, const void *b) {
    return memcmp(((const out_entry *)a)->key, ((const out_entry *)b)->key, 32);
}

/* CAL_ELIMIT: more than fits. */
static int gather_range(staged_out *out) {
    cal_cursor *cursor = NULL;
    const uint8_t *index_key;
    staged_entity entity;
    uint8_t key[32];
    out->count = out->at = 0;
    cal_buffer_reset(&out->values);
    int rc = staged_cursor(out->intake, out->snapshot, &cursor);
    while (!rc && (rc = staged_next(cursor, &index_key, &entity)) == 0) {
        staged_row_key(CRDT_KEY_ENTRY, entity.index.data, key);
        uint64_t place = cal_read_u64be(key);
        if (place < out->first || place > out->last) continue;
        if (out->count > 0 &&
            out->count * ITEM_COST + out->values.len + entity.entry.len > PART_BYTES_MAX)
            rc = CAL_ELIMIT;
        else if (!add(out, key, entity.entry))
            rc = CAL_ENOMEM;
    }
    cal_cursor_free(cursor);
    if (rc != CAL_ENOTFOUND) return rc;
    if (out->count) qsort(out->entries, out->count, sizeof *out->entries, by_key);
    return 0;
}

/* The part from `first` on. Whoever made the ids can make most keys alike: then it is narrowed. */
static int gather(staged_out *out) {
    int rc;
    for (;;) {
        out->last = UINT64_MAX - out->first < out->width ? UINT64_MAX : out->first + out->width;
        rc = gather_range(out);
        if (rc != CAL_ELIMIT || out->width == 0) break;
        out->width /= 2;
    }
    out->gathered = rc == 0;
    return rc;
}

/* Sees to it that the next Index row is known, if there is one. */
static int look(staged_out *out) {
    if (out->has_row || out->rows_over) return 0;
    int rc = staged_next(out->rows, &out->index_key, &out->entity);
    out->has_row = rc == 0;
    out->rows_over = rc == CAL_ENOTFOUND;
    return rc == CAL_ENOTFOUND ? 0 : rc;
}

static void give_row(staged_out *out, cal_slice *ret_key, cal_slice *ret_value) {
    *ret_key = cal_slice_of(out->index_key, 32);
    *ret_value = out->entity.index;
    out->has_row = false; /* the next call reads on */
}

static void give_entry(staged_out *out, cal_slice *ret_key, cal_slice *ret_value) {
    const out_entry *entry = &out->entries[out->at++];
    *ret_key = cal_slice_of(entry->key, sizeof entry->key);
    *ret_value = cal_slice_of(out->values.data + entry->at, entry->len);
}

int staged_out_next(staged_out *out, cal_slice *ret_key, cal_slice *ret_value) {
    for (;;) {
        int rc = out->gathered ? look(out) : gather(out);
        if (!rc) rc = look(out);
        if (rc) return rc;
        bool entries = out->at < out->count;
        bool row = out->has_row && cal_read_u64be(out->index_key) <= out->last;
        if (row && (!entries || memcmp(out->index_key, out->entries[out->at].key, 32) < 0)) {
            give_row(out, ret_key, ret_value);
            return 0;
        }
        if (entries) {
            give_entry(out, ret_key, ret_value);
            return 0;
        }
        if (out->last == UINT64_MAX) return CAL_ENOTFOUND;
        out->first = out->last + 1;
        out->gathered = false;
    }
}

int staged_out_new(sync_snapshot *intake, staged_out **ret_out) {
    staged_out *out = calloc(1, sizeof *out);
    if (!out) return CAL_ENOMEM;
    out->intake = intake;
    out->width = UINT64_MAX / (1 + intake->entry_bytes / PART_BYTES);
    cal_buffer_init(&out->values, PART_BYTES_MAX + SYNC_PAGE_MAX);
    int rc = cal_store_snapshot(intake->options.store, &out->snapshot);
    if (!rc) rc = staged_cursor(intake, out->snapshot, &out->rows);
    if (rc)
        staged_out_free(out);
    else
        *ret_out = out;
    return rc;
}

void staged_out_free(staged_out *out) {
    if (!out) return;
    cal_cursor_free(out->rows);
    cal_snapshot_free(out->snapshot);
    cal_buffer_deinit(&out->values);
    free(out->entries);
    free(out);
}
