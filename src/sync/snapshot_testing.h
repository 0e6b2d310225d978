/* For the tests of snapshots: two stores, contexts made in memory or recorded, and a transfer from
 * one to the other, as it crosses the wire. */
#ifndef CAL_SYNC_SNAPSHOT_TESTING_H
#define CAL_SYNC_SNAPSHOT_TESTING_H

#include "os/sim/sim.h"
#include "store/key.h"
#include "support/crdt.h"
#include "sync/snapshot.h"

#define NS_PER_S UINT64_C(1000000000)
enum { RECORD_MAX = 4 << 20 };

/* A store on a disk of its own; one thread does everything. */
typedef struct place {
    cal_sim *sim;
    cal_key_source key;
    cal_store_options options;
    cal_store *store;
} place;

static inline void place_open(place *p) {
    p->sim = cal_sim_new(3);
    cal_sim_set_wall(p->sim, UINT64_C(1900000000000000000)); /* after all recordings */
    p->key = (cal_key_source){CAL_KEY_FILE, "/s/key"};
    const cal_os *os = cal_sim_os(p->sim);
    os->make_dir(os->user, "/s");
    os->sync_dir(os->user, "/");
    p->options = (cal_store_options){.os = os, .folder = "/s", .key = &p->key, .stepped = true};
    assert_int_equal(cal_store_create(&p->options, NULL), 0);
    assert_int_equal(cal_store_open(&p->options, &p->store, NULL), 0);
}

static inline void place_close(place *p) {
    cal_store_close(p->store);
    cal_sim_free(p->sim);
}

static place server, client;
static sync_views *views;
static uint64_t now_ns;

static inline void begin(void) {
    cal_crypto_init();
    place_open(&server);
    place_open(&client);
    now_ns = NS_PER_S;
    assert_int_equal(sync_views_new(server.store, &views), 0);
}

static inline void finish(void) {
    sync_views_free(views);
    place_close(&server);
    place_close(&client);
}

/* --- a context's rows, in memory first --- */

typedef struct rows {
    cal_arena arena;
    crdt_env env;
    test_rows table;
    crdt_id root;
    crdt_hash hash;
    yyjson_val *steps; /* of a recorded case: who signs for whom */
} rows;

static inline void rows_open(rows *r) {
    memset(r, 0, sizeof *r);
    cal_arena_init(&r->arena, SIZE_MAX);
    r->env = test_crdt_env(&r->arena);
    test_rows_init(&r->table, &r->arena);
}

static inline void rows_close(rows *r) {
    test_rows_deinit(&r->table);
    cal_arena_deinit(&r->arena);
}

static inline void rows_root(rows *r) {
    uint8_t key[32];
    crdt_bytes record;
    crdt_storage_key(test_crdt_sha256, CRDT_KEY_INDEX, &r->root, key);
    assert_int_equal(test_rows_read(&r->table, key, &record), 1);
    assert_int_equal(crdt_index_full_hash(record, &r->hash), 0);
}

/* Puts the rows into a store as a context's, instead of what is there. */
static inline void rows_store(const rows *r, cal_store *store) {
    cal_context_record record = {.head_count = 2};
    cal_hash heads[2] = {{{1}}, {{2}}};
    cal_buffer bytes;
    cal_batch *batch = cal_batch_new();
    cal_slice context = cal_slice_of(r->root.bytes, 32);
    record.heads = heads;
    memcpy(record.root.bytes, r->hash.bytes, 32);
    cal_buffer_init(&bytes, 4096);
    assert_int_equal(cal_context_record_encode(&record, &bytes), 0);
    cal_batch_put(batch, CAL_COLUMN_CONTEXT, context, cal_buffer_slice(&bytes));
    cal_batch_delete_prefix(batch, CAL_COLUMN_STATE, context);
    for (const cal_sorted_node *at = r->table.rows.head[0]; at; at = at->next[0]) {
        const test_row *row = at->value;
        uint8_t key[64];
        memcpy(key, r->root.bytes, 32);
        memcpy(key + 32, at->key.data, 32);
        cal_batch_put(batch, CAL_COLUMN_STATE, cal_slice_of(key, 64),
                      cal_slice_of(row->bytes, row->len));
    }
    assert_int_equal(cal_store_commit(store, batch, NULL), 0);
    cal_buffer_deinit(&bytes);
}

static inline bool has_entry(const rows *r, cal_slice index) {
    uint8_t key[32];
    crdt_id id;
    memcpy(id.bytes, index.data, 32);
    crdt_storage_key(test_crdt_sha256, CRDT_KEY_ENTRY, &id, key);
    return cal_sorted_get(&r->table.rows, cal_slice_of(key, 32)) != NULL;
}

static inline bool is_index(const cal_sorted_node *at) {
    const test_row *row = at->value;
    uint8_t key[32];
    crdt_id id;
    if (row->len < 32) return false;
    memcpy(id.bytes, row->bytes, 32);
    crdt_storage_key(test_crdt_sha256, CRDT_KEY_INDEX, &id, key);
    return memcmp(key, at->key.data, 32) == 0;
}

static inline size_t live_entities(const rows *r) {
    size_t count = 0;
    for (const cal_sorted_node *at = r->table.rows.head[0]; at; at = at->next[0]) {
        const test_row *row = at->value;
        count += is_index(at) && has_entry(r, cal_slice_of(row->bytes, row->len));
    }
    return count;
}

/* --- making states --- */

static inline crdt_store *store_open(rows *r) {
    crdt_store *store;
    crdt_rows table = test_rows_table(&r->table);
    assert_int_equal(crdt_store_open(&r->env, &table, &r->root, &store), 0);
    return store;
}

static inline void store_flush(rows *r, crdt_store *store) {
    assert_int_equal(crdt_store_flush(store), 0);
    rows_root(r);
}

static inline bool believe(void *user, const uint8_t key[32], const uint8_t payload[32],
                           const uint8_t signature[64]) {
    (void)user, (void)key, (void)payload, (void)signature;
    return true;
}

/* Whatever it is, and whoever says so. */
static inline void apply_as(crdt_store *store, const crdt_action *action, const crdt_id *account) {
    crdt_refusal refusal;
    crdt_apply_context context = {.now_ns = UINT64_C(1900000000000000000),
                                  .verify = believe,
                                  .has_signer_account = account != NULL,
                                  .has_delta = account != NULL,
                                  .delta_id = {{(uint8_t)action->metadata.updated_at}},
                                  .delta_hlc = {.time = action->metadata.updated_at, .id = {1}}};
    if (account) context.signer_account = *account;
    assert_int_equal(crdt_store_apply(store, action, &context, &refusal), 0);
    assert_int_equal(refusal, CRDT_APPLIED);
}

static inline crdt_children under(rows *r, const crdt_id *parent) {
    crdt_child *list = cal_arena_alloc_array(&r->arena, 2, sizeof *list);
    list[0].id = *parent;
    list[1].id = r->root;
    return (crdt_children){list, memcmp(parent, &r->root, 32) == 0 ? 1 : 2};
}

static const crdt_id collection = {{0xc0}};

/* The root and a collection. */
static inline void make_base(rows *r) {
    crdt_store *store = store_open(r);
    crdt_action root = {.kind = CRDT_ACTION_ADD,
                        .id = r->root,
                        .data = crdt_bytes_of(r->root.bytes, 32),
                        .metadata = {.created_at = 1, .updated_at = 1}};
    crdt_action map = {.kind = CRDT_ACTION_ADD,
                       .id = collection,
                       .data = crdt_bytes_of(collection.bytes, 32),
                       .ancestors = under(r, &r->root),
                       .metadata = {.created_at = 2, .updated_at = 2}};
    apply_as(store, &root, NULL);
    apply_as(store, &map, NULL);
    store_flush(r, store);
}

static inline crdt_id entry_id(uint32_t n) {
    crdt_id id;
    uint8_t bytes[4];
    cal_write_u32le(bytes, n);
    cal_sha256(cal_slice_of(bytes, 4), id.bytes);
    return id;
}

/* Entries `from` to `to` of the collection, of so many bytes each. */
static inline void make_entries(rows *r, uint32_t from, uint32_t to, size_t size) {
    crdt_store *store = store_open(r);
    for (uint32_t n = from; n < to; n++) {
        uint8_t *data = cal_arena_alloc(&r->arena, size);
        for (size_t i = 0; i < size; i++) data[i] = (uint8_t)(n * 31 + i * i);
        crdt_action action = {.kind = CRDT_ACTION_ADD,
                              .id = entry_id(n),
                              .data = crdt_bytes_of(data, size),
                              .ancestors = under(r, &collection),
                              .metadata = {.created_at = 10 + n, .updated_at = 10 + n}};
        apply_as(store, &action, NULL);
    }
    store_flush(r, store);
}

static inline void make_context(rows *r, uint32_t entries, size_t size) {
    rows_open(r);
    memset(r->root.bytes, 0x60, 32);
    make_base(r);
    make_entries(r, 0, entries, size);
}

/* --- a transfer --- */

static inline int no_account(void *user, const cal_public_key *device,
                             cal_account_id *ret_account) {
    (void)user, (void)device, (void)ret_account;
    return CAL_ENOTFOUND;
}

static int (*account_of)(void *user, const cal_public_key *device,
                         cal_account_id *ret_account) = no_account;

static inline sync_snapshot *intake_for(const rows *r) {
    sync_snapshot *intake;
    cal_hash heads[] = {{{1}}, {{2}}};
    sync_snapshot_options options = {.store = client.store,
                                     .os = cal_sim_os(client.sim),
                                     .heads = heads,
                                     .head_count = 2,
                                     .account = account_of,
                                     .user = (void *)(uintptr_t)r};
    memcpy(options.context.bytes, r->root.bytes, 32);
    memcpy(options.root.bytes, r->hash.bytes, 32);
    assert_int_equal(sync_snapshot_new(&options, &intake, NULL), 0);
    return intake;
}

static inline sync_view *view_for(const rows *r) {
    sync_view *view;
    cal_context_id context;
    cal_hash root;
    memcpy(context.bytes, r->root.bytes, 32);
    memcpy(root.bytes, r->hash.bytes, 32);
    assert_int_equal(sync_views_take(views, &context, &root, now_ns, &view), 0);
    return view;
}

typedef struct page_limits {
    uint16_t pages;
    uint32_t bytes;
    unsigned stop_after; /* pages of the answer; 0: never */
} page_limits;

/* One request and its answer, as they cross the wire. */
static inline int one_burst(sync_snapshot *intake, sync_view *view, page_limits limits,
                            sync_snapshot_next *ret_next, cal_error *err) {
    sync_burst burst;
    sync_request request;
    sync_answer answer;
    unsigned pages = 0;
    uint64_t last_total = 0;
    int rc;
    sync_snapshot_request(intake, &request);
    if (limits.pages) request.page_limit = limits.pages;
    if (limits.bytes) request.byte_limit = limits.bytes;
    assert_int_equal(sync_burst_init(&burst, view, &request), 0);
    *ret_next = SYNC_NEXT_PAGE;
    while ((rc = sync_burst_next(&burst, now_ns, &answer)) == 0) {
        cal_arena arena;
        cal_buffer bytes;
        sync_message sent = {.kind = SYNC_MESSAGE, .answer = answer}, got;
        cal_arena_init(&arena, 1 << 20);
        cal_buffer_init(&bytes, 8 << 20);
        assert_int_equal(*ret_next, SYNC_NEXT_PAGE);
        assert_true(answer.total_records >= last_total);
        last_total = answer.total_records;
        assert_int_equal(sync_message_write(&sent, &bytes), 0);
        assert_int_equal(sync_message_decode(cal_buffer_slice(&bytes), &arena, &got), 0);
        rc = sync_snapshot_take(intake, &got.answer, ret_next, err);
        cal_buffer_deinit(&bytes);
        cal_arena_deinit(&arena);
        if (rc || ++pages == limits.stop_after) break;
    }
    if (rc == CAL_ENOTFOUND) {
        assert_int_not_equal(*ret_next, SYNC_NEXT_PAGE);
        rc = 0;
    }
    sync_burst_deinit(&burst);
    return rc;
}

static inline int transfer(sync_snapshot *intake, sync_view *view, page_limits limits,
                           cal_error *err) {
    sync_snapshot_next next = SYNC_NEXT_BURST;
    int rc = 0;
    while (!rc && next != SYNC_NEXT_WHOLE) rc = one_burst(intake, view, limits, &next, err);
    return rc;
}

/* What the intake gives is what the rows hold, but for entities without an Entry. */
static inline void expect_state(sync_snapshot *intake, const rows *r) {
    cal_context_state state;
    cal_slice key, value;
    size_t count = 0;
    assert_int_equal(sync_snapshot_state(intake, &state), 0);
    assert_memory_equal(&state.root, &r->hash, 32);
    assert_int_equal(state.head_count, 2);
    assert_int_equal(state.heads[1].bytes[0], 2);
    while (state.next(state.user, &key, &value) == 0) {
        const test_row *row = cal_sorted_get(&r->table.rows, key);
        assert_non_null(row);
        assert_true(cal_slice_equal(value, cal_slice_of(row->bytes, row->len)));
        count++;
    }
    assert_int_equal(count, 2 * live_entities(r));
}

static inline size_t count_rows(const place *p, cal_column column) {
    cal_snapshot *snapshot;
    cal_cursor *cursor;
    cal_slice key;
    size_t count = 0;
    assert_int_equal(cal_store_snapshot(p->store, &snapshot), 0);
    assert_int_equal(
        cal_cursor_open(snapshot, column, (cal_slice){0}, (cal_slice){0}, false, &cursor), 0);
    while (cal_cursor_next(cursor, &key, NULL) == 0) count++;
    cal_cursor_free(cursor);
    cal_snapshot_free(snapshot);
    return count;
}

static inline void drop(sync_snapshot *intake) {
    assert_int_equal(sync_snapshot_drop(intake), 0);
    assert_int_equal(count_rows(&client, CAL_COLUMN_STATE), 0);
    assert_int_equal(count_rows(&client, CAL_COLUMN_NODE), 0);
}

/* Serves the rows and takes them: the result of the transfer, or of the verification. */
static inline int hand_over(const rows *r, page_limits limits, bool expect, cal_error *err) {
    rows_store(r, server.store);
    sync_view *view = view_for(r);
    sync_snapshot *intake = intake_for(r);
    int rc = transfer(intake, view, limits, err);
    if (!rc) rc = sync_snapshot_verify(intake, err);
    if (!rc && expect) expect_state(intake, r);
    cal_context_state state;
    if (rc) assert_int_equal(sync_snapshot_state(intake, &state), CAL_ESTATE);
    drop(intake);
    sync_views_give(views, view, now_ns);
    now_ns += 100 * NS_PER_S;
    sync_views_expire(views, now_ns);
    return rc;
}

#endif
