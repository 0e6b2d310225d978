/* Walking a closed store: pages, contexts with their trees and deltas, applications with their
 * blobs, blobs with their chunks. Reports, and repairs nothing. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "app/app.h"
#include "base/map.h"
#include "calimero/maintenance.h"
#include "context/past.h"
#include "crdt/crdt.h"
#include "node/internal.h"

struct check {
    cal_store *store;
    cal_snapshot *snapshot;
    cal_gov *gov;    /* while governance is checked */
    cal_arena arena; /* of the context, delta or blob being looked at */
    void (*report)(void *user, const char *finding);
    void *user;
    cal_map removed; /* contexts whose rows are being removed: nothing is expected of them */
    cal_check_summary summary;
};

static void finding(struct check *check, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void finding(struct check *check, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    check->summary.findings++;
    if (check->report) check->report(check->user, text);
}

static void page_finding(void *user, const char *text) { finding(user, "%s", text); }

static const char *base58(const uint8_t id[32], char text[CAL_ID_TEXT_MAX]) {
    cal_id_to_base58(id, text);
    return text;
}

/* Walks a column's rows with a prefix, with a fresh arena for each; visit's negative code ends it.
 */
typedef int (*row_visit)(struct check *check, cal_slice key, cal_slice value);

static int each_row(struct check *check, cal_column column, cal_slice prefix, row_visit visit) {
    cal_buffer end;
    cal_buffer_init(&end, CAL_STORE_KEY_MAX);
    if (prefix.len) cal_prefix_end(prefix, &end);
    cal_cursor *cursor = NULL;
    int rc =
        cal_cursor_open(check->snapshot, column, prefix, cal_buffer_slice(&end), false, &cursor);
    cal_slice key, value;
    while (rc == 0 && (rc = cal_cursor_next(cursor, &key, &value)) == 0)
        rc = visit(check, key, value);
    cal_cursor_free(cursor);
    cal_buffer_deinit(&end);
    if (rc == CAL_ENOTFOUND) return 0;
    if (rc == CAL_ECORRUPT) {
        finding(check, "a row could not be read: its page is damaged");
        return 0;
    }
    return rc;
}

/* --- what deletions have left --- */

static int note_context(void *user, const uint8_t id[32]) {
    return cal_map_put(user, cal_slice_of(id, 32), user);
}

static int note_context_of_namespace(void *user, const cal_context_id *id) {
    return note_context(user, id->bytes);
}

static int note_namespace(void *user, const uint8_t id[32]) {
    struct check *check = user;
    cal_group_id namespace_id;
    memcpy(namespace_id.bytes, id, 32);
    return gov_stored_contexts(check->store, &namespace_id, note_context_of_namespace,
                               &check->removed);
}

static int note_removed(struct check *check) {
    int rc = cal_removal_each(&cal_context_removal, check->snapshot, note_context, &check->removed);
    return rc == 0 ? cal_removal_each(&gov_removal, check->snapshot, note_namespace, check) : rc;
}

static bool is_removed(const struct check *check, const uint8_t id[32]) {
    return cal_map_get(&check->removed, cal_slice_of(id, 32)) != NULL;
}

/* --- a context's tree --- */

struct tree {
    struct check *check;
    const cal_context_id *id;
    cal_arena records[CRDT_TREE_DEPTH_MAX + 1]; /* one for each record on the way from the root */
    size_t open;
};

static int enter_record(void *user, crdt_memory *ret_memory) {
    struct tree *tree = user;
    cal_arena *arena = &tree->records[tree->open++];
    cal_arena_init(arena, NODE_ARENA_MAX);
    *ret_memory = cal_crdt_memory(arena);
    return 0;
}

static void leave_record(void *user) {
    struct tree *tree = user;
    cal_arena_deinit(&tree->records[--tree->open]);
}

static int read_state(void *user, const uint8_t key[32], crdt_bytes *ret_value) {
    struct tree *tree = user;
    uint8_t full[64];
    memcpy(full, tree->id->bytes, 32);
    memcpy(full + 32, key, 32);
    cal_buffer value;
    cal_buffer_init(&value, CAL_STORE_VALUE_MAX);
    int rc = cal_snapshot_get(tree->check->snapshot, CAL_COLUMN_STATE,
                              cal_slice_of(full, sizeof full), &value);
    if (rc == 0) {
        uint8_t *copy = cal_arena_copy(&tree->records[tree->open - 1], value.data, value.len);
        if (copy)
            *ret_value = crdt_bytes_of(copy, value.len);
        else
            rc = CAL_ENOMEM;
    }
    cal_buffer_deinit(&value);
    return rc == 0 ? 1 : rc == CAL_ENOTFOUND ? 0 : rc;
}

/* Whether any row is an entity's record. A guest made without an SDK keeps none: its root is its
 * own word, and nothing here can tell. */
static bool has_entities(const struct tree *tree) {
    cal_buffer end;
    cal_buffer_init(&end, CAL_STORE_KEY_MAX);
    cal_slice prefix = cal_slice_of(tree->id->bytes, CAL_ID_SIZE);
    cal_prefix_end(prefix, &end);
    cal_cursor *cursor = NULL;
    bool found = false;
    int rc = cal_cursor_open(tree->check->snapshot, CAL_COLUMN_STATE, prefix,
                             cal_buffer_slice(&end), false, &cursor);
    cal_slice key, value;
    while (rc == 0 && !found && (rc = cal_cursor_next(cursor, &key, &value)) == 0) {
        cal_arena arena;
        cal_arena_init(&arena, NODE_ARENA_MAX);
        crdt_memory memory = cal_crdt_memory(&arena);
        crdt_index index;
        found = crdt_index_decode(&memory, crdt_bytes_of(value.data, value.len), &index) == 0;
        cal_arena_deinit(&arena);
    }
    cal_cursor_free(cursor);
    cal_buffer_deinit(&end);
    return found;
}

static int tree_flaw(void *user, crdt_flaw flaw, const crdt_id *id, const crdt_id *parent) {
    (void)parent;
    struct tree *tree = user;
    if (flaw == CRDT_FLAW_ROOT_MISSING && !has_entities(tree)) return 0;
    char context[CAL_ID_TEXT_MAX], entity[CAL_ID_TEXT_MAX];
    cal_id_to_hex(id->bytes, entity);
    finding(tree->check, "context %s, entity %s: %s", base58(tree->id->bytes, context), entity,
            crdt_flaw_text(flaw));
    return 0;
}

static int check_tree(struct check *check, const cal_context_id *id,
                      const cal_context_record *record) {
    static const cal_hash none;
    if (memcmp(&record->root, &none, sizeof none) == 0) return 0; /* a snapshot came half way */
    struct tree tree = {.check = check, .id = id};
    crdt_tree_check walk = {.sha256 = cal_crdt_env(NULL).sha256,
                            .user = &tree,
                            .enter = enter_record,
                            .leave = leave_record,
                            .read = read_state,
                            .flaw = tree_flaw,
                            .entity_max = UINT32_MAX};
    crdt_id root;
    memcpy(root.bytes, id->bytes, 32);
    crdt_tree_summary summary;
    int rc = crdt_tree_verify(&walk, &root, &summary);
    char text[CAL_ID_TEXT_MAX];
    if (rc != 0) {
        finding(check, "context %s: its state cannot be walked: %s", base58(id->bytes, text),
                cal_error_text(rc));
        return rc == CAL_ENOMEM ? rc : 0;
    }
    check->summary.entities += summary.entities;
    if (summary.has_root && memcmp(summary.root_hash.bytes, record->root.bytes, 32) != 0)
        finding(check, "context %s: the recorded state root is not that of its entities",
                base58(id->bytes, text));
    return 0;
}

/* --- deltas --- */

static bool has_delta(struct check *check, const uint8_t context[32], const uint8_t delta[32]) {
    uint8_t key[64];
    memcpy(key, context, 32);
    memcpy(key + 32, delta, 32);
    return cal_snapshot_get(check->snapshot, CAL_COLUMN_DELTA, cal_slice_of(key, sizeof key),
                            NULL) == 0;
}

/* The id is the content's, and the author signed it. */
static const char *delta_flaw(const cal_context_id *context, const cal_delta_record *record) {
    cal_arena arena;
    cal_arena_init(&arena, NODE_ARENA_MAX);
    crdt_env env = cal_crdt_env(&arena);
    crdt_delta delta;
    crdt_hash id = {{0}};
    int rc = crdt_delta_decode(&env.memory,
                               crdt_bytes_of(record->artifact.data, record->artifact.len), &delta);
    if (rc == 0)
        rc = crdt_delta_id(&env, record->parents, record->parent_count, delta.actions,
                           delta.action_count, &id);
    cal_arena_deinit(&arena);
    if (rc != 0) return "cannot be decoded";
    if (memcmp(id.bytes, record->id.bytes, 32) != 0) return "has other content than its id says";
    if (!record->has_author) return NULL;
    gov_position position;
    gov_hlc hlc;
    cal_delta_envelope(record, &position, &hlc);
    cal_hash delta_id = record->id;
    bool verified =
        gov_delta_verify(record->author.bytes, context, &delta_id,
                         record->has_position ? &position : NULL, &hlc, record->signature);
    return verified ? NULL : "does not bear its author's signature";
}

/* Deltas of the context were taken away: one that came late may have such a parent. */
static bool is_compacted(struct check *check, const cal_context_id *context) {
    cal_past past = {0};
    int rc = cal_past_read(check->snapshot, context, &past);
    if (rc != 0) finding(check, "the marks of compacted deltas are malformed");
    bool compacted = past.count > 0;
    cal_past_deinit(&past);
    return compacted;
}

static int check_delta(struct check *check, cal_slice key, cal_slice value) {
    static const uint8_t none[32];
    if (key.len != 64) {
        finding(check, "a delta row has a key of %zu bytes", key.len);
        return 0;
    }
    cal_context_id context;
    memcpy(context.bytes, key.data, 32);
    if (is_removed(check, context.bytes)) return 0;
    char text[CAL_ID_TEXT_MAX];
    cal_id_to_hex(key.data + 32, text);
    cal_delta_record record;
    check->summary.deltas++;
    if (cal_delta_record_decode(value, &record) != 0 ||
        memcmp(record.id.bytes, key.data + 32, 32) != 0) {
        finding(check, "delta %s: its record is malformed", text);
        return 0;
    }
    bool stands_for =
        cal_delta_is_checkpoint(&record); /* what came with a state: it has no content */
    const char *flaw = stands_for ? NULL : delta_flaw(&context, &record);
    if (flaw) finding(check, "delta %s %s", text, flaw);
    for (size_t i = 0; i < record.parent_count; i++)
        if (memcmp(record.parents[i], none, 32) != 0 &&
            !has_delta(check, context.bytes, record.parents[i]) && !is_compacted(check, &context))
            finding(check, "delta %s: a parent is missing", text);
    if (cal_snapshot_get(check->snapshot, CAL_COLUMN_CONTEXT, cal_slice_of(context.bytes, 32),
                         NULL) == CAL_ENOTFOUND)
        finding(check, "delta %s belongs to no context", text);
    return 0;
}

static int check_context(struct check *check, cal_slice key, cal_slice value) {
    cal_context_id id;
    cal_context_record record;
    check->summary.contexts++;
    cal_arena_deinit(&check->arena);
    cal_arena_init(&check->arena, SIZE_MAX);
    if (key.len != 32 || cal_context_record_decode(value, &check->arena, &record) != 0) {
        finding(check, "a context's record is malformed");
        return 0;
    }
    memcpy(id.bytes, key.data, 32);
    char text[CAL_ID_TEXT_MAX];
    for (size_t i = 0; i < record.head_count; i++)
        if (!has_delta(check, id.bytes, record.heads[i].bytes))
            finding(check, "context %s: a head names a delta that is missing",
                    base58(id.bytes, text));
    if (cal_snapshot_get(check->snapshot, CAL_COLUMN_APPLICATION,
                         cal_slice_of(record.application.bytes, 32), NULL) == CAL_ENOTFOUND)
        finding(check, "context %s: its application is not installed", base58(id.bytes, text));
    return check_tree(check, &id, &record);
}

static int check_application_blob(void *user, const cal_blob_id *id) {
    struct check *check = user;
    char text[CAL_ID_TEXT_MAX];
    if (cal_snapshot_get(check->snapshot, CAL_COLUMN_BLOB, cal_slice_of(id->bytes, 32), NULL) ==
        CAL_ENOTFOUND)
        finding(check, "an installed application's blob %s is missing", base58(id->bytes, text));
    return 0;
}

static int check_orphan_state(struct check *check) {
    /* State rows of no context: what a removal should have taken. One probe a context, not one a
     * row. */
    cal_cursor *cursor = NULL;
    uint8_t from[33] = {0};
    size_t from_len = 0;
    for (;;) {
        int rc = cal_cursor_open(check->snapshot, CAL_COLUMN_STATE, cal_slice_of(from, from_len),
                                 (cal_slice){0}, false, &cursor);
        cal_slice key, value;
        if (rc == 0) rc = cal_cursor_next(cursor, &key, &value);
        if (rc == 0 && key.len >= 32) {
            memcpy(from, key.data, 32);
            char text[CAL_ID_TEXT_MAX];
            if (!is_removed(check, from) &&
                cal_snapshot_get(check->snapshot, CAL_COLUMN_CONTEXT, cal_slice_of(from, 32),
                                 NULL) == CAL_ENOTFOUND)
                finding(check, "state rows of context %s, which is not there", base58(from, text));
        }
        cal_cursor_free(cursor);
        cursor = NULL;
        if (rc != 0) return rc == CAL_ENOTFOUND ? 0 : rc;
        int at = 31; /* the next context id */
        while (at >= 0 && ++from[at] == 0) at--;
        if (at < 0) return 0;
        from_len = 32;
    }
}

static int count_blob(void *user, const cal_blobs_info *info) {
    struct check *check = user;
    check->summary.blobs++;
    check->summary.chunks += info->chunks;
    return 0;
}

static int check_blobs(struct check *check, const cal_os *os, cal_error *err) {
    cal_blobs *blobs = NULL;
    int rc = cal_blobs_open(check->store, os, &blobs, err);
    if (rc == 0) rc = cal_blobs_each(blobs, count_blob, check, err);
    if (rc == 0) rc = cal_blobs_check(blobs, page_finding, check, err);
    cal_blobs_close(blobs);
    return rc == CAL_ECORRUPT ? 0 : rc; /* its findings are counted */
}

static int check_registration(struct check *check, cal_slice key, cal_slice value) {
    (void)value;
    cal_context_id id;
    cal_group_id group, namespace_id;
    char text[CAL_ID_TEXT_MAX];
    if (key.len != sizeof id.bytes || is_removed(check, key.data)) return 0;
    memcpy(id.bytes, key.data, sizeof id.bytes);
    if (gov_context_group(check->gov, &id, &group, &namespace_id) != 0)
        finding(check, "context %s is registered in no group", base58(id.bytes, text));
    return 0;
}

/* Operations by their own checker, and each registered context that should be here. gov_open mints
 * no identity: the store has one. */
static int check_governance(struct check *check, const cal_os *os, cal_error *err) {
    cal_gov *gov = NULL;
    int rc = gov_open(check->store, os, &gov, err);
    if (rc == CAL_ECORRUPT) {
        finding(check, "governance cannot be loaded: %s",
                err ? err->message : "its rows are malformed");
        return 0;
    }
    if (rc == 0) rc = gov_check(gov, check->snapshot, page_finding, check);
    check->gov = gov;
    if (rc == 0 || rc == CAL_ECORRUPT) {
        int walked = each_row(check, CAL_COLUMN_CONTEXT, (cal_slice){0}, check_registration);
        if (walked != 0) rc = walked;
    }
    gov_close(gov);
    return rc == CAL_ECORRUPT ? 0 : rc; /* its findings are counted */
}

static int count_operation(struct check *check, cal_slice key, cal_slice value) {
    (void)value; /* namespace id || 'N' || number; of an older layout namespace id || id */
    check->summary.operations += (key.len == 41 && key.data[32] == 'N') || key.len == 64;
    return 0;
}

int node_check_store(cal_store *store, const cal_os *os,
                     void (*report)(void *user, const char *finding), void *user,
                     cal_check_summary *ret_summary, cal_error *err) {
    struct check check = {.store = store, .report = report, .user = user};
    int rc = cal_store_verify(store, page_finding, &check, err);
    if (rc == CAL_ECORRUPT) rc = 0; /* reported; the rest is still looked at */
    if (rc == 0) rc = cal_store_snapshot(store, &check.snapshot);
    if (rc == 0) {
        cal_arena_init(&check.arena, SIZE_MAX);
        cal_map_init(&check.removed, 0);
        rc = note_removed(&check);
        if (rc == 0) rc = each_row(&check, CAL_COLUMN_CONTEXT, (cal_slice){0}, check_context);
        if (rc == 0) rc = each_row(&check, CAL_COLUMN_DELTA, (cal_slice){0}, check_delta);
        if (rc == 0) rc = check_orphan_state(&check);
        if (rc == 0) rc = each_row(&check, CAL_COLUMN_GOVERNANCE, (cal_slice){0}, count_operation);
        if (rc == 0) rc = check_governance(&check, os, err);
        if (rc == 0) rc = cal_application_each_blob(check.snapshot, check_application_blob, &check);
        cal_map_deinit(&check.removed);
        cal_arena_deinit(&check.arena);
        cal_snapshot_free(check.snapshot);
    }
    if (rc == 0) rc = check_blobs(&check, os, err);
    *ret_summary = check.summary;
    if (rc != 0) return cal_fail(err, rc, "the check could not go on: %s", cal_error_text(rc));
    if (check.summary.findings > 0)
        return cal_fail(err, CAL_ECORRUPT, "%llu findings",
                        (unsigned long long)check.summary.findings);
    return 0;
}
