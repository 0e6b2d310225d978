/* The registry of installed applications: rows of the column APPLICATION (see app.h for their
 * keys).
 *
 * A record and a version row are versioned by their first byte and written in borsh. Reading copies
 * into the caller's arena, so that nothing points into a snapshot that is gone. http-api.md 5.1. */
#include <stdio.h>
#include <stdlib.h>

#include "app/internal.h"
#include "codec/borsh.h"

enum {
    RECORD_FORMAT = 1,
    RECORD_MAX = 1024 * 1024,
    TEXT_MAX = 8192,
    METADATA_MAX = 2 * CAL_BUNDLE_MANIFEST_MAX, /* a bundle's may hold an icon */
    APPLICATIONS_MAX = 65536,
    VERSION_KEY_SIZE = 2 * CAL_ID_SIZE,
};

/* --- records --- */
int cal_application_encode(const cal_application *application, cal_buffer *out) {
    cal_buffer_append_u8(out, RECORD_FORMAT);
    cal_buffer_append(out, application->bytecode.bytes, CAL_ID_SIZE);
    cal_buffer_append_u64le(out, application->size);
    cal_borsh_put_bytes(out, cal_slice_text(application->source));
    cal_borsh_put_bytes(out, application->metadata);
    cal_borsh_put_bytes(out, cal_slice_text(application->signer_id));
    cal_borsh_put_bytes(out, cal_slice_text(application->package));
    cal_borsh_put_bytes(out, cal_slice_text(application->version));
    cal_buffer_append_u32le(out, application->state_version);
    cal_borsh_put_bool(out, application->bundle);
    cal_buffer_append_u32le(out, (uint32_t)application->service_count);
    for (size_t i = 0; i < application->service_count; i++) {
        cal_borsh_put_bytes(out, cal_slice_text(application->services[i].name));
        cal_buffer_append(out, application->services[i].bytecode.bytes, CAL_ID_SIZE);
    }
    return out->error;
}

/* A text of the record, copied. A NUL inside is damage: nothing here writes one. */
static const char *take_text(cal_borsh *in, cal_arena *arena, size_t max) {
    cal_slice text = cal_borsh_text(in, max);
    if (text.len && memchr(text.data, '\0', text.len)) cal_borsh_fail(in, CAL_EDECODE);
    const char *copy = cal_arena_text(arena, text);
    if (!copy) cal_borsh_fail(in, CAL_ENOMEM);
    return copy;
}

static void take_services(cal_borsh *in, cal_arena *arena, cal_application *application) {
    uint32_t count = cal_borsh_count(in, CAL_BUNDLE_SERVICES_MAX, 4 + CAL_ID_SIZE);
    cal_application_service *services = cal_arena_alloc_array(arena, count, sizeof *services);
    if (!services) cal_borsh_fail(in, CAL_ENOMEM);
    for (uint32_t i = 0; i < count && in->error == 0; i++) {
        services[i].name = take_text(in, arena, CAL_APP_SERVICE_NAME_MAX);
        cal_borsh_fixed(in, services[i].bytecode.bytes, CAL_ID_SIZE);
    }
    application->services = services;
    application->service_count = count;
}

int cal_application_decode(cal_arena *arena, const cal_application_id *id, cal_slice bytes,
                           cal_application *ret_application) {
    cal_borsh in = cal_borsh_read(bytes);
    cal_application application = {.id = *id};
    if (cal_borsh_u8(&in) != RECORD_FORMAT) return CAL_ECORRUPT;
    cal_borsh_fixed(&in, application.bytecode.bytes, CAL_ID_SIZE);
    application.size = cal_borsh_u64(&in);
    application.source = take_text(&in, arena, TEXT_MAX);
    cal_slice metadata = cal_borsh_bytes(&in, METADATA_MAX);
    application.metadata =
        cal_slice_of(cal_arena_copy(arena, metadata.data, metadata.len), metadata.len);
    if (!application.metadata.data) cal_borsh_fail(&in, CAL_ENOMEM);
    application.signer_id = take_text(&in, arena, CAL_DID_KEY_MAX);
    application.package = take_text(&in, arena, CAL_APP_PACKAGE_MAX);
    application.version = take_text(&in, arena, CAL_APP_VERSION_MAX);
    application.state_version = cal_borsh_u32(&in);
    application.bundle = cal_borsh_bool(&in);
    take_services(&in, arena, &application);
    int rc = cal_borsh_end(&in);
    if (rc != 0) return rc == CAL_ENOMEM ? rc : CAL_ECORRUPT;
    *ret_application = application;
    return 0;
}

/* --- version rows --- the services belong to the version: their blobs live as long as it does. */
static void version_key(const cal_application_id *id, const cal_blob_id *blob,
                        uint8_t ret_key[VERSION_KEY_SIZE]) {
    memcpy(ret_key, id->bytes, CAL_ID_SIZE);
    memcpy(ret_key + CAL_ID_SIZE, blob->bytes, CAL_ID_SIZE);
}

static int encode_row(const cal_application *application, cal_buffer *record) {
    cal_buffer_init(record, RECORD_MAX + METADATA_MAX);
    return cal_application_encode(application, record);
}

int cal_application_put(cal_batch *batch, const cal_application *application) {
    cal_buffer record;
    uint8_t key[VERSION_KEY_SIZE];
    int rc = encode_row(application, &record);
    if (rc == 0)
        rc = cal_batch_put(batch, CAL_COLUMN_APPLICATION,
                           cal_slice_of(application->id.bytes, CAL_ID_SIZE),
                           cal_buffer_slice(&record));
    cal_buffer_deinit(&record);
    if (rc != 0) return rc;
    /* What tells versions apart; source and metadata are those of the record. */
    cal_application version = *application;
    version.source = "";
    version.metadata = (cal_slice){0};
    version_key(&application->id, &application->bytecode, key);
    rc = encode_row(&version, &record);
    if (rc == 0)
        rc = cal_batch_put(batch, CAL_COLUMN_APPLICATION, cal_slice_of(key, sizeof key),
                           cal_buffer_slice(&record));
    cal_buffer_deinit(&record);
    return rc;
}

/* --- walking --- */
typedef int (*visit_row)(void *user, const cal_application *row, bool version);

/* Decodes every row whose key starts with prefix (empty: all), each into a short-lived arena unless
 * one is given. */
static int walk(cal_snapshot *snapshot, cal_slice prefix, cal_arena *arena, visit_row visit,
                void *user) {
    cal_cursor *cursor = NULL;
    cal_buffer end;
    cal_buffer_init(&end, VERSION_KEY_SIZE);
    if (prefix.len) cal_prefix_end(prefix, &end);
    int rc = cal_cursor_open(snapshot, CAL_COLUMN_APPLICATION, prefix, cal_buffer_slice(&end),
                             false, &cursor);
    cal_slice key, value;
    while (rc == 0 && (rc = cal_cursor_next(cursor, &key, &value)) == 0) {
        if (key.len != CAL_ID_SIZE && key.len != VERSION_KEY_SIZE) {
            rc = CAL_ECORRUPT;
            break;
        }
        cal_arena scratch;
        cal_application_id id;
        cal_application row;
        cal_arena_init(&scratch, 2 * RECORD_MAX + METADATA_MAX);
        memcpy(id.bytes, key.data, CAL_ID_SIZE);
        rc = cal_application_decode(arena ? arena : &scratch, &id, value, &row);
        if (rc == 0) rc = visit(user, &row, key.len == VERSION_KEY_SIZE);
        cal_arena_deinit(&scratch);
    }
    cal_cursor_free(cursor);
    cal_buffer_deinit(&end);
    return rc == CAL_ENOTFOUND ? 0 : rc;
}

int cal_application_get(cal_snapshot *snapshot, const cal_application_id *id, cal_arena *arena,
                        cal_application *ret_application) {
    cal_buffer record;
    cal_buffer_init(&record, RECORD_MAX + METADATA_MAX);
    int rc = cal_snapshot_get(snapshot, CAL_COLUMN_APPLICATION,
                              cal_slice_of(id->bytes, CAL_ID_SIZE), &record);
    if (rc == 0) rc = cal_application_decode(arena, id, cal_buffer_slice(&record), ret_application);
    cal_buffer_deinit(&record);
    return rc;
}

/* A list that grows in an arena: by doubling, the old copies stay until the arena goes. */
typedef struct row_list {
    cal_arena *arena;
    cal_application *rows;
    size_t count, capacity;
    bool versions;       /* collect version rows, else records */
    const char *package; /* only of this package; NULL: all */
} row_list;

static int keep_row(void *user, const cal_application *row, bool version) {
    row_list *list = user;
    if (version != list->versions || (list->package && strcmp(list->package, row->package) != 0))
        return 0;
    if (list->count == list->capacity) {
        if (list->count >= APPLICATIONS_MAX) return CAL_ELIMIT;
        size_t capacity = list->capacity ? 2 * list->capacity : 16;
        cal_application *rows = cal_arena_alloc_array(list->arena, capacity, sizeof *rows);
        if (!rows) return CAL_ENOMEM;
        if (list->count) memcpy(rows, list->rows, list->count * sizeof *rows);
        list->rows = rows;
        list->capacity = capacity;
    }
    list->rows[list->count++] = *row;
    return 0;
}

int cal_application_list(cal_snapshot *snapshot, cal_arena *arena,
                         cal_application **ret_applications, size_t *ret_count) {
    row_list list = {.arena = arena};
    int rc = walk(snapshot, (cal_slice){0}, arena, keep_row, &list);
    if (rc != 0) return rc;
    *ret_applications = list.rows;
    *ret_count = list.count;
    return 0;
}

/* --- versions and packages --- */
/* Semantic versions by their order, above all other texts, which go by bytes. */
static int compare_versions(const char *a, const char *b) {
    int order = 0, same = 0;
    bool good_a = cal_version_compare(a, a, &same) == 0,
         good_b = cal_version_compare(b, b, &same) == 0;
    if (good_a != good_b) return good_a ? 1 : -1;
    if (good_a && cal_version_compare(a, b, &order) == 0 && order != 0) return order;
    return strcmp(a, b);
}

static int newest_first(const void *a, const void *b) {
    const cal_application *left = a, *right = b;
    int order = compare_versions(right->version, left->version);
    return order ? order : memcmp(left->bytecode.bytes, right->bytecode.bytes, CAL_ID_SIZE);
}

static void sort_rows(row_list *list) {
    if (list->count) qsort(list->rows, list->count, sizeof *list->rows, newest_first);
}

int cal_application_versions(cal_snapshot *snapshot, const cal_application_id *id, cal_arena *arena,
                             cal_application_version **ret_versions, size_t *ret_count) {
    row_list list = {.arena = arena, .versions = true};
    cal_slice key = cal_slice_of(id->bytes, CAL_ID_SIZE);
    int rc = cal_snapshot_get(snapshot, CAL_COLUMN_APPLICATION, key, NULL);
    if (rc == 0) rc = walk(snapshot, key, arena, keep_row, &list);
    if (rc != 0) return rc;
    sort_rows(&list);
    cal_application_version *versions = cal_arena_alloc_array(arena, list.count, sizeof *versions);
    if (!versions) return CAL_ENOMEM;
    for (size_t i = 0; i < list.count; i++)
        versions[i] = (cal_application_version){.version = list.rows[i].version,
                                                .package = list.rows[i].package,
                                                .bytecode = list.rows[i].bytecode,
                                                .size = list.rows[i].size};
    *ret_versions = versions;
    *ret_count = list.count;
    return 0;
}

static int compare_texts(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int cal_package_list(cal_snapshot *snapshot, cal_arena *arena, const char ***ret_packages,
                     size_t *ret_count) {
    cal_application *rows = NULL;
    size_t count = 0, kept = 0;
    int rc = cal_application_list(snapshot, arena, &rows, &count);
    if (rc != 0) return rc;
    const char **packages = cal_arena_alloc_array(arena, count, sizeof *packages);
    if (!packages) return CAL_ENOMEM;
    for (size_t i = 0; i < count; i++) packages[i] = rows[i].package;
    if (count) qsort(packages, count, sizeof *packages, compare_texts);
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || strcmp(packages[kept - 1], packages[i]) != 0)
            packages[kept++] = packages[i];
    *ret_packages = packages;
    *ret_count = kept;
    return 0;
}

int cal_package_versions(cal_snapshot *snapshot, const char *package, cal_arena *arena,
                         const char ***ret_versions, size_t *ret_count) {
    row_list list = {.arena = arena, .versions = true, .package = package};
    size_t kept = 0;
    int rc = walk(snapshot, (cal_slice){0}, arena, keep_row, &list);
    if (rc != 0) return rc;
    sort_rows(&list);
    const char **versions = cal_arena_alloc_array(arena, list.count, sizeof *versions);
    if (!versions) return CAL_ENOMEM;
    for (size_t i = 0; i < list.count; i++)
        if (kept == 0 || strcmp(versions[kept - 1], list.rows[i].version) != 0)
            versions[kept++] = list.rows[i].version;
    *ret_versions = versions;
    *ret_count = kept;
    return 0;
}

int cal_package_latest(cal_snapshot *snapshot, const char *package, cal_arena *arena,
                       cal_application *ret_application) {
    row_list list = {.arena = arena, .package = package};
    int rc = walk(snapshot, (cal_slice){0}, arena, keep_row, &list);
    if (rc != 0) return rc;
    if (list.count == 0) return CAL_ENOTFOUND;
    sort_rows(&list);
    *ret_application = list.rows[0];
    return 0;
}

/* --- blobs and removal --- */
typedef struct each_blob {
    int (*blob)(void *user, const cal_blob_id *id);
    void *user;
} each_blob;

static int visit_blobs(void *user, const cal_application *row, bool version) {
    each_blob *each = user;
    (void)version;
    int rc = each->blob(each->user, &row->bytecode);
    for (size_t i = 0; rc == 0 && i < row->service_count; i++)
        rc = each->blob(each->user, &row->services[i].bytecode);
    return rc;
}

int cal_application_each_blob(cal_snapshot *snapshot,
                              int (*blob)(void *user, const cal_blob_id *id), void *user) {
    each_blob each = {.blob = blob, .user = user};
    return walk(snapshot, (cal_slice){0}, NULL, visit_blobs, &each);
}

enum { FOUND = 1 };

static int is_wanted(void *user, const cal_blob_id *id) {
    return memcmp(user, id->bytes, CAL_ID_SIZE) == 0 ? FOUND : 0;
}

int cal_application_uses_blob(cal_snapshot *snapshot, const cal_blob_id *blob, bool *ret_uses) {
    cal_blob_id wanted = *blob;
    int rc = cal_application_each_blob(snapshot, is_wanted, wanted.bytes);
    if (rc < 0) return rc;
    *ret_uses = rc == FOUND;
    return 0;
}

int cal_application_uninstall(cal_snapshot *snapshot, const cal_application_id *id,
                              cal_application_in_use in_use, void *user, cal_batch *batch,
                              cal_error *err) {
    char text[CAL_ID_TEXT_MAX], who[160] = "";
    cal_id_to_base58(id->bytes, text);
    cal_slice key = cal_slice_of(id->bytes, CAL_ID_SIZE);
    int rc = cal_snapshot_get(snapshot, CAL_COLUMN_APPLICATION, key, NULL);
    if (rc == CAL_ENOTFOUND) return cal_fail(err, rc, "the application %s is not installed", text);
    if (rc != 0)
        return cal_fail(err, rc, "cannot read the application %s: %s", text, cal_error_text(rc));
    if (in_use && in_use(user, id, who, sizeof who))
        return cal_fail(err, CAL_ESTATE, "the application %s is used by %s: remove that first",
                        text, who);
    rc = cal_batch_delete_prefix(batch, CAL_COLUMN_APPLICATION, key);
    return rc == 0 ? 0
                   : cal_fail(err, rc, "cannot remove the application %s: %s", text,
                              cal_error_text(rc));
}

int cal_app_pick_service(const cal_application *application, const char *requested,
                         const char **ret_service, cal_error *err) {
    size_t count = application->service_count, at = 0;
    if (requested && count == 0)
        return cal_fail(err, CAL_EINVAL, "application has no named services; omit service_name");
    if (!requested && count <= 1) {
        *ret_service = count ? application->services[0].name : NULL;
        return 0;
    }
    char names[512] = "";
    for (size_t i = 0; i < count; i++) {
        if (requested && strcmp(requested, application->services[i].name) == 0) {
            *ret_service = application->services[i].name;
            return 0;
        }
        if (at < sizeof names)
            at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", i ? ", " : "",
                                   application->services[i].name);
    }
    if (!requested)
        return cal_fail(err, CAL_EINVAL,
                        "application has multiple services; pass service_name (available: %s)",
                        names);
    return cal_fail(err, CAL_EINVAL, "service \"%.64s\" not found (available: %s)", requested,
                    names);
}
