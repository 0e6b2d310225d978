/* Taking snapshots, see snapshot.h: pages become rows that wait in column STATE under an id that
 * nobody else uses. The mark of their removal stands before the first of them, so whatever happens
 * they go at the next start at the latest; drop removes rows and mark. */
#include <stdio.h>
#include <stdlib.h>

#include "codec/borsh.h"
#include "sync/snapshot_internal.h"

enum {
    BATCH_BYTES = 1024 * 1024,
    AHEAD_MAX = 4, /* batches on their way to the store */
    RECORD_MEMORY_MAX = 64 * 1024 * 1024,
    STAGED_MAX = 4 + SYNC_PAGE_MAX,
};
/* What a writer's clock may be ahead (network-sync.md 9.6), and the server's. */
#define AHEAD_NS UINT64_C(10000000000)

static const cal_column staged_columns[] = {CAL_COLUMN_STATE};
const cal_removal sync_staging = {
    .mark = "sync/staging/", .columns = staged_columns, .column_count = 1};

/* --- staged rows --- */

int staged_failed(int result, cal_error *err) {
    return cal_fail(err, result, "the snapshot's rows cannot be kept: %s", cal_error_text(result));
}

void staged_row_key(uint8_t tag, const void *id, uint8_t ret_key[32]) {
    uint8_t tagged[33] = {tag};
    memcpy(tagged + 1, id, 32);
    cal_sha256(cal_slice_of(tagged, sizeof tagged), ret_key);
}

static void staged_key(const sync_snapshot *intake, const uint8_t key[32],
                       uint8_t ret_key[STAGED_KEY]) {
    memcpy(ret_key, intake->staging, 32);
    memcpy(ret_key + 32, key, 32);
}

static int split(cal_slice row, staged_entity *ret_entity) {
    if (row.len < 4 || row.len - 4 < cal_read_u32le(row.data)) return CAL_ECORRUPT;
    uint32_t len = cal_read_u32le(row.data);
    *ret_entity = (staged_entity){cal_slice_of(row.data + 4, len),
                                  cal_slice_of(row.data + 4 + len, row.len - 4 - len)};
    return ret_entity->index.len < 32 ? CAL_ECORRUPT : 0;
}

int staged_read(const sync_snapshot *intake, cal_snapshot *snapshot, const uint8_t index_key[32],
                cal_arena *arena, staged_entity *ret_entity) {
    uint8_t key[STAGED_KEY];
    cal_buffer value;
    staged_key(intake, index_key, key);
    cal_buffer_init(&value, STAGED_MAX);
    int rc = cal_snapshot_get(snapshot, CAL_COLUMN_STATE, cal_slice_of(key, sizeof key), &value);
    if (rc == 0) {
        const uint8_t *copy = cal_arena_copy(arena, value.data, value.len);
        rc = copy ? split(cal_slice_of(copy, value.len), ret_entity) : CAL_ENOMEM;
    }
    cal_buffer_deinit(&value);
    return rc == 0 ? 1 : rc == CAL_ENOTFOUND ? 0 : rc;
}

int staged_next(cal_cursor *cursor, const uint8_t **ret_index_key, staged_entity *ret_entity) {
    cal_slice key, row;
    int rc = cal_cursor_next(cursor, &key, &row);
    if (rc) return rc;
    if (key.len != STAGED_KEY) return CAL_ECORRUPT;
    *ret_index_key = key.data + 32;
    return split(row, ret_entity);
}

int staged_cursor(const sync_snapshot *intake, cal_snapshot *snapshot, cal_cursor **ret_cursor) {
    cal_slice prefix = cal_slice_of(intake->staging, sizeof intake->staging);
    cal_buffer end;
    cal_buffer_init(&end, sizeof intake->staging);
    cal_prefix_end(prefix, &end);
    int rc = cal_cursor_open(snapshot, CAL_COLUMN_STATE, prefix, cal_buffer_slice(&end), false,
                             ret_cursor);
    cal_buffer_deinit(&end);
    return rc;
}

static void on_stored(void *user, int result) { /* the store's writer */
    sync_snapshot *intake = user;
    pthread_mutex_lock(&intake->mutex);
    if (result && !intake->failure) intake->failure = result;
    intake->waiting--;
    pthread_cond_signal(&intake->stored);
    pthread_mutex_unlock(&intake->mutex);
}

static bool has_room(const void *user) {
    return ((const sync_snapshot *)user)->waiting < AHEAD_MAX;
}
static bool has_all(const void *user) { return ((const sync_snapshot *)user)->waiting == 0; }

static int wait_stored(sync_snapshot *intake, bool (*reached)(const void *user)) {
    pthread_mutex_lock(&intake->mutex);
    cal_store_wait(intake->options.store, &intake->mutex, &intake->stored, reached, intake);
    int rc = intake->failure;
    pthread_mutex_unlock(&intake->mutex);
    return rc;
}

/* Rows go to the store while the next ones come. */
static int send_batch(sync_snapshot *intake, cal_error *err) {
    cal_batch *batch = intake->batch;
    intake->batch = NULL;
    intake->batch_bytes = 0;
    int rc = batch ? wait_stored(intake, has_room) : 0;
    if (rc) {
        cal_batch_free(batch);
        return staged_failed(rc, err);
    }
    if (!batch) return 0;
    pthread_mutex_lock(&intake->mutex);
    intake->waiting++;
    pthread_mutex_unlock(&intake->mutex);
    cal_store_submit_on(intake->options.store, &intake->lane, batch, on_stored, intake);
    return 0;
}

int staged_flush(sync_snapshot *intake, cal_error *err) {
    int rc = send_batch(intake, err);
    if (rc) return rc;
    rc = wait_stored(intake, has_all);
    return rc ? staged_failed(rc, err) : 0;
}

static int stage(sync_snapshot *intake, const sync_record *record) {
    uint8_t index_key[32], key[STAGED_KEY];
    cal_buffer row;
    if (!intake->batch) intake->batch = cal_batch_new();
    if (!intake->batch) return CAL_ENOMEM;
    staged_row_key(CRDT_KEY_INDEX, record->id.bytes, index_key);
    staged_key(intake, index_key, key);
    cal_buffer_init(&row, STAGED_MAX);
    cal_borsh_put_bytes(&row, record->entry);
    int rc = cal_buffer_append_slice(&row, record->index);
    if (!rc) {
        intake->batch_bytes += sizeof key + row.len;
        rc = cal_batch_put(intake->batch, CAL_COLUMN_STATE, cal_slice_of(key, sizeof key),
                           cal_buffer_slice(&row));
    }
    cal_buffer_deinit(&row);
    return rc;
}

/* --- life --- */

/* The mark comes before the rows. */
static int begin(sync_snapshot *intake, cal_error *err) {
    const cal_os *os = intake->options.os;
    os->random(os->user, intake->staging, sizeof intake->staging);
    staged_sums_begin(&intake->sums, os);
    cal_batch *batch = cal_batch_new();
    if (!batch) return staged_failed(CAL_ENOMEM, err);
    cal_removal_mark(&sync_staging, intake->staging, batch);
    int rc = cal_store_commit(intake->options.store, batch, NULL);
    return rc ? staged_failed(rc, err) : 0;
}

static void intake_free(sync_snapshot *intake) {
    staged_out_free(intake->out);
    cal_batch_free(intake->batch);
    cal_buffer_deinit(&intake->page);
    pthread_mutex_destroy(&intake->mutex);
    pthread_cond_destroy(&intake->stored);
    free(intake->heads);
    free(intake);
}

int sync_snapshot_new(const sync_snapshot_options *options, sync_snapshot **ret_intake,
                      cal_error *err) {
    if (options->head_count > SYNC_HEADS_MAX)
        return cal_fail(err, CAL_ELIMIT, "a snapshot with %zu heads", options->head_count);
    sync_snapshot *intake = calloc(1, sizeof *intake);
    if (!intake) return staged_failed(CAL_ENOMEM, err);
    intake->options = *options;
    pthread_mutex_init(&intake->mutex, NULL);
    pthread_cond_init(&intake->stored, NULL);
    if (intake->options.bytes_max == 0) intake->options.bytes_max = SYNC_TAKE_BYTES_MAX;
    cal_buffer_init(&intake->page, SYNC_PAGE_MAX + 1);
    intake->heads = calloc(options->head_count + 1, sizeof *intake->heads);
    int rc = intake->heads ? 0 : staged_failed(CAL_ENOMEM, err);
    if (!rc && options->head_count)
        memcpy(intake->heads, options->heads, options->head_count * sizeof *intake->heads);
    intake->options.heads = intake->heads;
    if (!rc) rc = begin(intake, err);
    if (rc) {
        intake_free(intake);
        return rc;
    }
    *ret_intake = intake;
    return 0;
}

/* All steps of one removal. */
static int remove_staged(cal_store *store, const uint8_t id[32]) {
    bool last = false;
    int rc = 0;
    while (!rc && !last) {
        cal_batch *batch = cal_batch_new();
        if (!batch) return CAL_ENOMEM;
        rc = cal_removal_step(&sync_staging, id, store, batch, &last);
        if (rc)
            cal_batch_free(batch);
        else
            rc = cal_store_commit(store, batch, NULL);
    }
    return rc;
}

static void stop_reading(sync_snapshot *intake) {
    staged_out_free(intake->out);
    intake->out = NULL;
}

int sync_snapshot_drop(sync_snapshot *intake) {
    if (!intake) return 0;
    stop_reading(intake);
    wait_stored(intake, has_all);
    int rc = remove_staged(intake->options.store, intake->staging);
    intake_free(intake);
    return rc;
}

int sync_snapshot_restart(sync_snapshot *intake, cal_error *err) {
    stop_reading(intake);
    cal_batch_free(intake->batch);
    intake->batch = NULL;
    intake->batch_bytes = 0;
    intake->has_cursor = intake->verified = false;
    intake->figures = (sync_snapshot_figures){0};
    intake->entry_bytes = 0;
    intake->has_last = intake->looks_again = false;
    intake->burst_records = 0;
    if (wait_stored(intake, has_all)) {
        cal_store_lane_mend(intake->options.store, &intake->lane);
        intake->failure = 0;
    }
    int rc = remove_staged(intake->options.store, intake->staging);
    return rc ? staged_failed(rc, err) : begin(intake, err);
}

static int clear_one(void *user, const uint8_t id[32]) {
    memcpy(user, id, 32);
    return 1; /* one at a time: removing it moves what the walk stands on */
}

int sync_staging_clear(cal_store *store) {
    for (;;) {
        cal_snapshot *snapshot = NULL;
        uint8_t id[32];
        int rc = cal_store_snapshot(store, &snapshot);
        if (!rc) rc = cal_removal_each(&sync_staging, snapshot, clear_one, id);
        cal_snapshot_free(snapshot);
        if (rc != 1) return rc;
        rc = remove_staged(store, id);
        if (rc) return rc;
    }
}

/* --- asking and taking --- */

void sync_snapshot_request(sync_snapshot *intake, sync_request *ret_request) {
    if (intake->burst_records) intake->looks_again = true; /* some may come again, or not */
    intake->sent = intake->burst_records = 0;
    *ret_request = (sync_request){
        .kind = SYNC_SNAPSHOT_STREAM,
        .context = intake->options.context,
        .id = intake->options.root,
        .page_limit = SYNC_TAKE_PAGES,
        .byte_limit = SYNC_TAKE_PAGE_BYTES,
        .has_cursor = intake->has_cursor,
        .cursor = cal_slice_of(intake->cursor, intake->cursor_len),
    };
}

static int wrong(cal_error *err, const char *what) {
    return cal_fail(err, CAL_EVERIFY, "a snapshot that cannot be right: %s", what);
}

static void count(sync_snapshot *intake, const crdt_index *index) {
    uint8_t key[32];
    staged_row_key(CRDT_KEY_INDEX, index->id.bytes, key);
    if (intake->has_last && memcmp(key, intake->last_key, sizeof key) <= 0)
        intake->looks_again = true;
    if (index->metadata.storage.kind != CRDT_PUBLIC) intake->looks_again = true;
    memcpy(intake->last_key, key, sizeof key);
    intake->has_last = true;
    staged_sums_add(&intake->sums, &intake->options, index);
}

/* What a record can be judged by alone: it decodes, is what it says it is, and its hashes are those
 * of what it holds. So most lies end a transfer at their page. */
static int check_record(sync_snapshot *intake, const sync_record *record, uint64_t now_ns,
                        cal_error *err) {
    cal_arena arena;
    crdt_index index;
    crdt_hash own, full;
    if (record->kind != SYNC_RECORD_ENTITY) return wrong(err, "a record that is no entity");
    cal_arena_init(&arena, RECORD_MEMORY_MAX);
    crdt_env env = cal_crdt_env(&arena);
    int rc = crdt_index_decode(&env.memory, crdt_bytes_of(record->index.data, record->index.len),
                               &index);
    if (rc == CRDT_EDECODE) {
        rc = cal_fail(err, CAL_EDECODE, "a snapshot with a malformed index record");
    } else if (rc == 0) {
        crdt_own_hash(env.sha256, crdt_bytes_of(record->entry.data, record->entry.len), &own);
        rc = crdt_full_hash(&env, &index.own_hash, index.children, &full);
        if (rc == 0 && memcmp(&index.id, &record->id, 32) != 0)
            rc = wrong(err, "a record that is another entity's");
        else if (rc == 0 && index.is_deleted)
            rc = wrong(err, "an entity that is deleted");
        else if (rc == 0 && index.metadata.updated_at > now_ns + AHEAD_NS)
            rc = wrong(err, "an entity from the future, that nothing could change before");
        else if (rc == 0 && memcmp(&own, &index.own_hash, 32) != 0)
            rc = wrong(err, "an entity with another content than its hash says");
        else if (rc == 0 && memcmp(&full, &index.full_hash, 32) != 0)
            rc = wrong(err, "an entity with other children than its hash says");
        if (rc == 0) count(intake, &index);
    }
    cal_arena_deinit(&arena);
    return rc == CRDT_ENOMEM ? staged_failed(CAL_ENOMEM, err) : rc;
}

static int take_records(sync_snapshot *intake, cal_error *err) {
    const cal_os *os = intake->options.os;
    sync_record record;
    size_t offset = 0;
    int rc;
    while ((rc = sync_record_next(cal_buffer_slice(&intake->page), &offset, &record)) == 0) {
        rc = check_record(intake, &record, os->wall_ns(os->user), err);
        if (rc) return rc;
        intake->figures.records++;
        intake->burst_records++;
        intake->figures.bytes += record.entry.len + record.index.len + STAGED_KEY;
        intake->entry_bytes += record.entry.len + STAGED_KEY;
        if (intake->figures.bytes > intake->options.bytes_max)
            return cal_fail(err, CAL_ELIMIT, "a snapshot of more than %llu bytes",
                            (unsigned long long)intake->options.bytes_max);
        rc = stage(intake, &record);
        if (rc) return staged_failed(rc, err);
        if (intake->batch_bytes >= BATCH_BYTES && (rc = send_batch(intake, err))) return rc;
    }
    return rc == CAL_ENOTFOUND
               ? 0
               : cal_fail(err, CAL_EDECODE, "a snapshot page with a malformed record");
}

static int take_refusal(const sync_snapshot_error *error, cal_error *err) {
    static const char *const words[SYNC_SNAPSHOT_PROBLEM_COUNT] = {
        [SYNC_SNAPSHOT_REQUIRED] = "a snapshot is required",
        [SYNC_SNAPSHOT_BOUNDARY] = "its root is another one now",
        [SYNC_SNAPSHOT_CURSOR] = "it does not know where to go on",
        [SYNC_SNAPSHOT_INITIALISED] = "the context is initialised",
        [SYNC_SNAPSHOT_ROOT] = "the roots differ",
        [SYNC_SNAPSHOT_INTERRUPTED] = "the transfer was interrupted",
        [SYNC_SNAPSHOT_DECOMPRESSION] = "decompression failed",
        [SYNC_SNAPSHOT_COUNT] = "the number of entities differs",
        [SYNC_SNAPSHOT_PAGES] = "pages are missing",
    };
    return cal_fail(err, error->kind == SYNC_SNAPSHOT_BOUNDARY ? CAL_EINVAL : CAL_ESTATE,
                    "the peer refuses the snapshot: %s", words[error->kind]);
}

/* The last page of an answer: where to go on, if anywhere. */
static int end_burst(sync_snapshot *intake, const sync_answer *answer, sync_snapshot_next *ret_next,
                     cal_error *err) {
    if (!answer->has_cursor) {
        *ret_next = SYNC_NEXT_WHOLE;
        return staged_flush(intake, err);
    }
    bool same = intake->has_cursor &&
                cal_slice_equal(answer->cursor, cal_slice_of(intake->cursor, intake->cursor_len));
    if (same || answer->cursor.len > SYNC_CURSOR_MAX || intake->burst_records == 0)
        return wrong(err, "an answer that does not go on");
    intake->has_cursor = true;
    intake->cursor_len = answer->cursor.len;
    memcpy(intake->cursor, answer->cursor.data, answer->cursor.len);
    intake->burst_records = 0;
    *ret_next = SYNC_NEXT_BURST;
    return 0;
}

int sync_snapshot_take(sync_snapshot *intake, const sync_answer *answer,
                       sync_snapshot_next *ret_next, cal_error *err) {
    intake->verified = false;
    if (answer->kind == SYNC_ANSWER_SNAPSHOT_ERROR) return take_refusal(&answer->error, err);
    if (answer->kind != SYNC_ANSWER_PAGE)
        return cal_fail(err, CAL_EDECODE, "a %s where a snapshot page was expected",
                        sync_answer_name(answer->kind));
    bool nothing = answer->uncompressed_len == 0 && answer->page_count == 0;
    if (!nothing &&
        (answer->sent_count != intake->sent + 1 || answer->sent_count > answer->page_count ||
         answer->sent_count > SYNC_TAKE_PAGES))
        return wrong(err, "pages that are not the next ones");
    intake->sent++;
    intake->figures.pages++;
    cal_buffer_reset(&intake->page);
    int rc = sync_page_expand(answer->bytes, answer->uncompressed_len, &intake->page);
    if (rc == CAL_ENOMEM) return staged_failed(rc, err);
    if (rc) return cal_fail(err, rc, "a snapshot page that does not unpack");
    rc = take_records(intake, err);
    if (rc) return rc;
    if (nothing || answer->sent_count == answer->page_count)
        return end_burst(intake, answer, ret_next, err);
    *ret_next = SYNC_NEXT_PAGE;
    return 0;
}

/* --- reading it out --- */

static int next_row(void *user, cal_slice *ret_key, cal_slice *ret_value) {
    return staged_out_next(((sync_snapshot *)user)->out, ret_key, ret_value);
}

int sync_snapshot_state(sync_snapshot *intake, cal_context_state *ret_state) {
    if (!intake->verified) return CAL_ESTATE;
    stop_reading(intake);
    int rc = staged_out_new(intake, &intake->out);
    if (rc) return rc;
    *ret_state = (cal_context_state){.user = intake,
                                     .next = next_row,
                                     .root = intake->options.root,
                                     .heads = intake->heads,
                                     .head_count = intake->options.head_count};
    return 0;
}

void sync_snapshot_figures_get(const sync_snapshot *intake, sync_snapshot_figures *ret_figures) {
    *ret_figures = intake->figures;
}
