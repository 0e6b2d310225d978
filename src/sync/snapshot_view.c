/* Serving snapshots, see snapshot.h: the table of held views, and pages read from one.
 *
 * A row of a context is found again by its key alone: an Index record begins with its entity's id,
 * and its key is SHA-256(00 || id). So a walk over the rows in key order meets the Index records
 * without an index of their ids, and the key of the last one sent is where to go on. */
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "sync/snapshot.h"

enum {
    NS_PER_MS = 1000000,
    ROW_KEY = 64,          /* context id, row key */
    CACHE_KIB = 64 * 1024, /* of a view while it is read: Entry rows come in no order */
    RECORD_OVERHEAD = 4 + 1 + 32 + 4 + 4 + 1 + 32,
};

struct sync_view {
    cal_context_id context;
    cal_snapshot *snapshot;
    cal_hash root;
    cal_hash *heads;
    uint32_t head_count;
    uint64_t made_ns, given_ns;
    bool taken;
};

struct sync_views {
    cal_store *store;
    pthread_mutex_t mutex;
    sync_view *items[SYNC_VIEWS_MAX]; /* NULL: a free place */
    size_t opening;                   /* places promised to views that are being opened */
};

int sync_views_new(cal_store *store, sync_views **ret_views) {
    sync_views *views = calloc(1, sizeof *views);
    if (!views) return CAL_ENOMEM;
    views->store = store;
    pthread_mutex_init(&views->mutex, NULL);
    *ret_views = views;
    return 0;
}

static void view_free(sync_view *view) {
    if (!view) return;
    cal_snapshot_free(view->snapshot);
    free(view->heads);
    free(view);
}

void sync_views_free(sync_views *views) {
    if (!views) return;
    for (size_t i = 0; i < SYNC_VIEWS_MAX; i++) {
        assert(!views->items[i] || !views->items[i]->taken);
        view_free(views->items[i]);
    }
    pthread_mutex_destroy(&views->mutex);
    free(views);
}

static bool too_old(const sync_view *view, uint64_t now_ns) {
    return now_ns - view->made_ns >= (uint64_t)SYNC_VIEW_AGE_MS * NS_PER_MS;
}

/* --- taking and giving --- */

static bool has_heads(const sync_view *view, const sync_ids *heads) {
    if (!heads) return true;
    return view->head_count == heads->count &&
           (heads->count == 0 ||
            memcmp(view->heads, heads->items, heads->count * sizeof *view->heads) == 0);
}

static sync_view *take_waiting(sync_views *views, const cal_context_id *context,
                               const cal_hash *root, const sync_ids *heads, uint64_t now_ns) {
    for (size_t i = 0; i < SYNC_VIEWS_MAX; i++) {
        sync_view *view = views->items[i];
        if (!view || view->taken || too_old(view, now_ns) ||
            memcmp(&view->context, context, sizeof *context) != 0 ||
            memcmp(&view->root, root, sizeof *root) != 0 || !has_heads(view, heads))
            continue;
        view->taken = true;
        return view;
    }
    return NULL;
}

/* Promises a place, by letting go of the view that has waited longest if need be. *ret_old: to be
 * freed, outside the lock. */
static bool reserve(sync_views *views, sync_view **ret_old) {
    size_t used = views->opening, oldest = SYNC_VIEWS_MAX;
    *ret_old = NULL;
    for (size_t i = 0; i < SYNC_VIEWS_MAX; i++) {
        const sync_view *view = views->items[i];
        if (!view) continue;
        used++;
        if (!view->taken &&
            (oldest == SYNC_VIEWS_MAX || view->given_ns < views->items[oldest]->given_ns))
            oldest = i;
    }
    if (used >= SYNC_VIEWS_MAX && oldest < SYNC_VIEWS_MAX) {
        *ret_old = views->items[oldest];
        views->items[oldest] = NULL;
        used--;
    }
    if (used >= SYNC_VIEWS_MAX) return false;
    views->opening++;
    return true;
}

static void put(sync_views *views, sync_view *view) {
    pthread_mutex_lock(&views->mutex);
    views->opening--;
    size_t i = 0;
    while (view && views->items[i]) i++; /* there is room: it was promised */
    if (view) views->items[i] = view;
    pthread_mutex_unlock(&views->mutex);
}

/* The record as of the view. */
static int read_boundary(sync_view *view) {
    cal_arena arena;
    cal_buffer row;
    cal_context_record record;
    cal_arena_init(&arena, CAL_CONTEXT_HEADS_MAX * 32 + 4096);
    cal_buffer_init(&row, CAL_CONTEXT_HEADS_MAX * 32 + 4096);
    int rc = cal_snapshot_get(view->snapshot, CAL_COLUMN_CONTEXT,
                              cal_slice_of(view->context.bytes, 32), &row);
    if (!rc) rc = cal_context_record_decode(cal_buffer_slice(&row), &arena, &record);
    if (!rc) {
        static const cal_hash zero;
        view->root = record.root;
        view->head_count = (uint32_t)record.head_count;
        view->heads = calloc(record.head_count + 1, sizeof *view->heads);
        if (!view->heads)
            rc = CAL_ENOMEM;
        else if (record.head_count)
            memcpy(view->heads, record.heads, record.head_count * sizeof *view->heads);
        if (memcmp(&view->root, &zero, sizeof zero) == 0) rc = CAL_ESTATE;
    }
    cal_buffer_deinit(&row);
    cal_arena_deinit(&arena);
    return rc;
}

static int open_view(cal_store *store, const cal_context_id *context, const cal_hash *root,
                     uint64_t now_ns, sync_view **ret_view) {
    sync_view *view = calloc(1, sizeof *view);
    if (!view) return CAL_ENOMEM;
    view->context = *context;
    view->made_ns = view->given_ns = now_ns;
    view->taken = true;
    int rc = cal_removal_pending(&cal_context_removal, context->bytes, store);
    rc = rc == CAL_ENOTFOUND ? 0 : rc == 0 ? CAL_ENOTFOUND : rc;
    if (!rc) rc = cal_store_snapshot(store, &view->snapshot);
    if (!rc) rc = read_boundary(view);
    if (!rc && root && memcmp(root, &view->root, sizeof *root) != 0) rc = CAL_EINVAL;
    if (rc)
        view_free(view);
    else
        *ret_view = view;
    return rc;
}

int sync_views_take_at(sync_views *views, const cal_context_id *context, const cal_hash *root,
                       const sync_ids *heads, uint64_t now_ns, sync_view **ret_view) {
    sync_view *old = NULL, *view = NULL;
    pthread_mutex_lock(&views->mutex);
    if (root) view = take_waiting(views, context, root, heads, now_ns);
    bool room = view || reserve(views, &old);
    pthread_mutex_unlock(&views->mutex);
    view_free(old);
    if (view) {
        *ret_view = view;
        return 0;
    }
    if (!room) return CAL_EOVERLOAD;
    int rc = open_view(views->store, context, root, now_ns, &view);
    if (rc == 0 && !has_heads(view, heads)) {
        view_free(view);
        rc = CAL_EINVAL;
    }
    put(views, rc ? NULL : view);
    if (!rc) *ret_view = view;
    return rc;
}

int sync_views_take(sync_views *views, const cal_context_id *context, const cal_hash *root,
                    uint64_t now_ns, sync_view **ret_view) {
    return sync_views_take_at(views, context, root, NULL, now_ns, ret_view);
}

void sync_views_give(sync_views *views, sync_view *view, uint64_t now_ns) {
    pthread_mutex_lock(&views->mutex);
    assert(view->taken);
    view->taken = false;
    view->given_ns = now_ns;
    pthread_mutex_unlock(&views->mutex);
}

uint64_t sync_views_expire(sync_views *views, uint64_t now_ns) {
    sync_view *gone[SYNC_VIEWS_MAX] = {0};
    uint64_t next = UINT64_MAX, idle_ns = (uint64_t)SYNC_VIEW_IDLE_MS * NS_PER_MS;
    pthread_mutex_lock(&views->mutex);
    for (size_t i = 0; i < SYNC_VIEWS_MAX; i++) {
        sync_view *view = views->items[i];
        if (!view || view->taken) continue;
        if (now_ns - view->given_ns >= idle_ns || too_old(view, now_ns)) {
            gone[i] = view;
            views->items[i] = NULL;
        } else if (view->given_ns + idle_ns < next) {
            next = view->given_ns + idle_ns;
        }
    }
    pthread_mutex_unlock(&views->mutex);
    for (size_t i = 0; i < SYNC_VIEWS_MAX; i++) view_free(gone[i]);
    return next;
}

size_t sync_views_count(sync_views *views) {
    size_t count = 0;
    pthread_mutex_lock(&views->mutex);
    for (size_t i = 0; i < SYNC_VIEWS_MAX; i++) count += views->items[i] != NULL;
    pthread_mutex_unlock(&views->mutex);
    return count;
}

void sync_view_boundary(const sync_view *view, cal_hash *ret_root, sync_ids *ret_heads) {
    *ret_root = view->root;
    *ret_heads = (sync_ids){view->heads, view->head_count};
}

/* All that is applied is stored, or a checkpoint stands for it. */
int sync_view_covers(const sync_view *view, const cal_hash *delta) {
    uint8_t key[ROW_KEY];
    memcpy(key, view->context.bytes, 32);
    memcpy(key + 32, delta->bytes, 32);
    return cal_snapshot_get(view->snapshot, CAL_COLUMN_DELTA, cal_slice_of(key, sizeof key), NULL);
}

int sync_view_past(const sync_view *view, cal_past *ret_past) {
    return cal_past_read(view->snapshot, &view->context, ret_past);
}

/* --- pages --- */

int sync_burst_init(sync_burst *burst, sync_view *view, const sync_request *request) {
    *burst = (sync_burst){.view = view};
    cal_buffer_init(&burst->page, SYNC_PAGE_MAX);
    cal_buffer_init(&burst->payload, SYNC_PAGE_PAYLOAD_MAX);
    if (request->has_cursor && request->cursor.len != sizeof burst->cursor) return CAL_EDECODE;
    cal_snapshot_cache(view->snapshot, CACHE_KIB);
    burst->has_cursor = request->has_cursor;
    if (burst->has_cursor) memcpy(&burst->cursor, request->cursor.data, sizeof burst->cursor);
    burst->page_limit = request->page_limit;
    if (burst->page_limit == 0) burst->page_limit = 1;
    if (burst->page_limit > SYNC_PAGES_MAX) burst->page_limit = SYNC_PAGES_MAX;
    burst->byte_limit = request->byte_limit;
    if (burst->byte_limit < SYNC_PAGE_BYTES_MIN) burst->byte_limit = SYNC_PAGE_BYTES_MIN;
    if (burst->byte_limit > SYNC_PAGE_MAX) burst->byte_limit = SYNC_PAGE_MAX;
    return 0;
}

void sync_burst_deinit(sync_burst *burst) {
    cal_buffer_deinit(&burst->page);
    cal_buffer_deinit(&burst->payload);
}

static void row_key(const cal_context_id *context, const uint8_t key[32],
                    uint8_t ret_key[ROW_KEY]) {
    memcpy(ret_key, context->bytes, 32);
    memcpy(ret_key + 32, key, 32);
}

/* The entity's Entry. 1 there is one, 0 there is none (a tombstone, a placeholder), or a CAL_E*. */
static int read_entry(const sync_view *view, const cal_hash *id, cal_buffer *ret_entry) {
    uint8_t key[32], row[ROW_KEY], tagged[33] = {CRDT_KEY_ENTRY};
    memcpy(tagged + 1, id, 32);
    cal_sha256(cal_slice_of(tagged, sizeof tagged), key);
    row_key(&view->context, key, row);
    cal_buffer_reset(ret_entry);
    int rc = cal_snapshot_get(view->snapshot, CAL_COLUMN_STATE, cal_slice_of(row, sizeof row),
                              ret_entry);
    return rc == 0 ? 1 : rc == CAL_ENOTFOUND ? 0 : rc;
}

static bool is_index(cal_slice key, cal_slice value) {
    uint8_t tagged[33] = {CRDT_KEY_INDEX}, expected[32];
    if (key.len != ROW_KEY || value.len < 32) return false;
    memcpy(tagged + 1, value.data, 32);
    cal_sha256(cal_slice_of(tagged, sizeof tagged), expected);
    return memcmp(expected, key.data + 32, 32) == 0;
}

/* Adds the entity of a row if it is one that is sent. 1 added, 0 passed over, CAL_ELIMIT the page
 * is full, or another CAL_E*. */
static int add_row(sync_burst *burst, cal_slice key, cal_slice value, cal_buffer *entry) {
    sync_record record = {.index = value, .has_app_key = burst->has_app_key};
    if (!is_index(key, value)) return 0;
    memcpy(&record.id, value.data, 32);
    int rc = read_entry(burst->view, &record.id, entry);
    if (rc <= 0) return rc;
    record.entry = cal_buffer_slice(entry);
    record.app_key = burst->app_key;
    size_t size = RECORD_OVERHEAD + record.entry.len + record.index.len;
    if (burst->page.len > 1 && burst->page.len + size > burst->byte_limit) return CAL_ELIMIT;
    if (1 + size > SYNC_PAGE_MAX) return CAL_EUNSUPPORTED;
    rc = sync_record_write(&record, &burst->page);
    return rc ? rc : 1;
}

/* One page from where the cursor stands. *ret_more: rows are left. */
static int fill_page(sync_burst *burst, bool *ret_more) {
    const sync_view *view = burst->view;
    uint8_t from[ROW_KEY + 1] = {0};
    cal_slice key, value;
    cal_buffer entry, end;
    cal_cursor *cursor = NULL;
    cal_buffer_init(&entry, CAL_STORE_VALUE_MAX);
    cal_buffer_init(&end, 32);
    memcpy(from, view->context.bytes, 32);
    if (burst->has_cursor) memcpy(from + 32, &burst->cursor, 32); /* and a 0: the next key */
    cal_prefix_end(cal_slice_of(view->context.bytes, 32), &end);
    cal_buffer_reset(&burst->page);
    cal_buffer_append_u8(&burst->page, SYNC_PAGE_MARKER);
    *ret_more = false;
    int rc = cal_cursor_open(view->snapshot, CAL_COLUMN_STATE,
                             cal_slice_of(from, burst->has_cursor ? sizeof from : 32),
                             cal_buffer_slice(&end), false, &cursor);
    while (!rc && (rc = cal_cursor_next(cursor, &key, &value)) == 0) {
        rc = add_row(burst, key, value, &entry);
        if (rc == 1) {
            burst->has_cursor = true;
            memcpy(&burst->cursor, key.data + 32, 32);
            burst->records++;
            rc = 0;
        }
    }
    *ret_more = rc == CAL_ELIMIT;
    if (rc == CAL_ENOTFOUND || rc == CAL_ELIMIT) rc = 0;
    cal_cursor_free(cursor);
    cal_buffer_deinit(&entry);
    cal_buffer_deinit(&end);
    return rc == CAL_EUNSUPPORTED ? CAL_ELIMIT : rc;
}

int sync_burst_next(sync_burst *burst, uint64_t now_ns, sync_answer *ret_answer) {
    bool more;
    if (burst->over) return CAL_ENOTFOUND;
    if (too_old(burst->view, now_ns)) return CAL_ETIMEOUT;
    uint64_t before = burst->records;
    int rc = fill_page(burst, &more);
    cal_slice page = cal_buffer_slice(&burst->page);
    if (burst->records == before) page.len = 0; /* nothing, or nothing more */
    cal_buffer_reset(&burst->payload);
    if (!rc) rc = sync_page_compress(page, &burst->payload);
    if (rc) return rc;
    burst->sent += page.len > 0;
    burst->total += burst->records - before;
    burst->over = !more || burst->sent >= burst->page_limit;
    *ret_answer = (sync_answer){
        .kind = SYNC_ANSWER_PAGE,
        .bytes = cal_buffer_slice(&burst->payload),
        .uncompressed_len = (uint32_t)page.len,
        .has_cursor = more,
        .cursor = cal_slice_of(burst->cursor.bytes, sizeof burst->cursor.bytes),
        /* how many come is known when the last one is made; until then it is no less than this */
        .page_count = burst->over ? burst->sent : burst->page_limit,
        .sent_count = burst->sent,
        .total_records = burst->total,
    };
    return 0;
}

void sync_snapshot_refusal(int result, uint64_t sent, sync_answer *ret_answer) {
    *ret_answer = (sync_answer){.kind = SYNC_ANSWER_SNAPSHOT_ERROR};
    switch (result) {
    case CAL_EINVAL:
        ret_answer->error.kind = SYNC_SNAPSHOT_BOUNDARY;
        break;
    case CAL_EDECODE:
        ret_answer->error.kind = SYNC_SNAPSHOT_CURSOR;
        break;
    default:
        ret_answer->error.kind = SYNC_SNAPSHOT_INTERRUPTED;
        ret_answer->error.first = sent;
    }
}
