/* Installing applications, and taking their code out of the stored blobs again (runtime-abi.md
 * 25-26, http-api.md 5.1).
 *
 * The bytes go into the blob store first, under a hash of what was really read, and are judged from
 * there: nobody can change them between the check and the use. A blob that was not there before
 * goes again when the file is refused. Nothing is visible until the caller commits the batch.
 * Blocking, on a worker; an installer may serve several threads. */
#include <stdio.h>
#include <stdlib.h>

#include "app/internal.h"
#include "base/limits.h"

/* --- a stored blob as an input that can be read again --- */
typedef struct blob_input {
    const cal_app_blobs *blobs;
    cal_blob_id id;
    void *reader;
    uint64_t size;
} blob_input;

static int rewind_blob(void *user) {
    blob_input *input = user;
    if (input->reader) input->blobs->close(input->blobs->user, input->reader);
    input->reader = NULL;
    return input->blobs->open(input->blobs->user, &input->id, &input->reader, &input->size, NULL);
}

static int64_t read_blob(void *user, uint8_t *ret_bytes, size_t len) {
    blob_input *input = user;
    return input->reader ? input->blobs->read(input->blobs->user, input->reader, ret_bytes, len)
                         : CAL_EINTERNAL;
}

static cal_app_input input_of(blob_input *input) {
    return (cal_app_input){.user = input, .rewind = rewind_blob, .read = read_blob};
}

static void close_blob(blob_input *input) {
    if (input->reader) input->blobs->close(input->blobs->user, input->reader);
    input->reader = NULL;
}

/* --- checking what the caller gave --- */
static bool has_parent_step(const char *path) {
    while (*path) {
        size_t len = strcspn(path, "/");
        if (len == 2 && path[0] == '.' && path[1] == '.') return true;
        path += len + (path[len] == '/');
    }
    return false;
}

static int check_request(const cal_app_install *what, cal_error *err) {
    if ((what->path != NULL) == (what->url != NULL))
        return cal_fail(err, CAL_EINVAL, "an installation needs either a path or a URL");
    if (what->metadata.len > CAL_APP_METADATA_MAX)
        return cal_fail(err, CAL_ELIMIT, "the metadata is larger than %d bytes",
                        CAL_APP_METADATA_MAX);
    if (what->package && strlen(what->package) > CAL_APP_PACKAGE_MAX)
        return cal_fail(err, CAL_ELIMIT, "the package is longer than %d bytes",
                        CAL_APP_PACKAGE_MAX);
    if (what->version && strlen(what->version) > CAL_APP_VERSION_MAX)
        return cal_fail(err, CAL_ELIMIT, "the version is longer than %d bytes",
                        CAL_APP_VERSION_MAX);
    if (!what->path) return 0;
    if (strlen(what->path) > CAL_APP_PATH_MAX)
        return cal_fail(err, CAL_ELIMIT, "the path is longer than %d bytes", CAL_APP_PATH_MAX);
    if (what->path[0] != '/')
        return cal_fail(err, CAL_EINVAL, "the path %.200s is not absolute", what->path);
    if (has_parent_step(what->path))
        return cal_fail(err, CAL_EINVAL, "the path %.200s holds `..`: give the path without it",
                        what->path);
    return 0;
}

static int real_path(const cal_os *os, const char *path, cal_buffer *ret_real, cal_error *err) {
    int rc = os->real_path ? os->real_path(os->user, path, ret_real)
                           : cal_buffer_append_text(ret_real, path);
    if (rc == 0 && !cal_buffer_cstr(ret_real)) rc = ret_real->error;
    return rc == 0 ? 0 : cal_fail(err, rc, "cannot read %.200s: %s", path, cal_error_text(rc));
}

/* The real path of the file, which must lie in the root when there is one. */
static int locate(const cal_os *os, const cal_app_install *what, cal_buffer *ret_real,
                  cal_error *err) {
    int rc = real_path(os, what->path, ret_real, err);
    if (rc != 0 || !what->root) return rc;
    cal_buffer root;
    cal_buffer_init(&root, CAL_APP_PATH_MAX + 1);
    rc = real_path(os, what->root, &root, err);
    if (rc == 0) {
        size_t len = root.len;
        while (len > 0 && root.data[len - 1] == '/') len--;
        bool inside = ret_real->len > len && memcmp(ret_real->data, root.data, len) == 0 &&
                      ret_real->data[len] == '/';
        if (!inside)
            rc = cal_fail(err, CAL_EDENIED,
                          "%.200s is outside of %.200s, from where this node installs "
                          "(MEROD_DEV_INSTALL_ROOT)",
                          what->path, what->root);
    }
    cal_buffer_deinit(&root);
    return rc;
}

/* file:// and the path, escaped as the reference's URL library does. */
static void append_file_url(cal_buffer *out, const char *path) {
    cal_buffer_append_text(out, "file://");
    for (const char *p = path; *p; p++) {
        unsigned char c = (unsigned char)*p;
        if (c <= ' ' || c >= 0x7f || strchr("\"#%<>?`{}\\", c))
            cal_buffer_printf(out, "%%%02X", c);
        else
            cal_buffer_append_u8(out, c);
    }
}

/* --- the bytes on their way into the blob store --- */
typedef struct sink {
    const cal_app_installer *installer;
    app_put put;
    bool bundle;
    uint64_t max;
    uint8_t head[4];
} sink;

static int check_head(const sink *into, cal_error *err) {
    cal_slice head =
        cal_slice_of(into->head, into->put.size < sizeof into->head ? (size_t)into->put.size
                                                                    : sizeof into->head);
    bool gzip = cal_bundle_looks_like(head),
         module = head.len == 4 && memcmp(head.data, "\0asm", 4) == 0;
    if (into->bundle && !gzip)
        return cal_fail(err, CAL_EDECODE,
                        "the .mpk file is no bundle: it is not compressed with gzip");
    if (!into->bundle && gzip)
        return cal_fail(
            err, CAL_EINVAL,
            "the file is compressed: a bundle must be named .mpk to be installed as one");
    if (!into->bundle && !module)
        return cal_fail(err, CAL_EINVAL, "the file is no WebAssembly module");
    return 0;
}

static int sink_write(void *user, cal_slice bytes, cal_error *err) {
    sink *into = user;
    uint64_t size = into->put.size;
    if (bytes.len > into->max - size)
        return cal_fail(err, CAL_ELIMIT, "the file is larger than %llu bytes",
                        (unsigned long long)into->max);
    bool known = size >= sizeof into->head;
    for (size_t i = 0; i < bytes.len && size + i < sizeof into->head; i++)
        into->head[size + i] = bytes.data[i];
    int rc = app_put_write(&into->put, bytes, err);
    return rc == 0 && !known && into->put.size >= sizeof into->head ? check_head(into, err) : rc;
}

/* Ends the writing: `rc` is what came of it so far. */
static int sink_end(sink *into, int rc, const uint8_t *expected, app_stored *ret_blob,
                    cal_error *err) {
    if (rc == 0 && into->put.size < sizeof into->head) rc = check_head(into, err);
    if (rc == 0) return app_put_finish(&into->put, expected, ret_blob, err);
    app_put_abort(&into->put);
    return rc;
}

static int report(const cal_app_installer *installer, uint64_t done, uint64_t total,
                  cal_error *err) {
    if (!installer->progress || installer->progress(installer->progress_user, done, total) == 0)
        return 0;
    return cal_fail(err, CAL_ECANCELED, "the installation was canceled");
}

static int copy_file(sink *into, cal_os_file *file, const char *path, uint64_t total,
                     cal_error *err) {
    const cal_os *os = into->installer->os;
    uint8_t *chunk = malloc(APP_IO_CHUNK);
    if (!chunk) return cal_fail(err, CAL_ENOMEM, "out of memory installing");
    int rc = 0;
    for (;;) {
        size_t len = 0;
        rc = os->read_at(file, into->put.size, chunk, APP_IO_CHUNK, &len);
        if (rc != 0) cal_fail(err, rc, "cannot read %.200s: %s", path, cal_error_text(rc));
        if (rc != 0 || len == 0) break;
        rc = sink_write(into, cal_slice_of(chunk, len), err);
        if (rc == 0) rc = report(into->installer, into->put.size, total, err);
        if (rc != 0) break;
    }
    free(chunk);
    return rc;
}

static int store_file(sink *into, const char *path, app_stored *ret_blob, cal_error *err) {
    const cal_os *os = into->installer->os;
    cal_os_file *file = NULL;
    cal_os_stat stat = {0};
    int rc = os->stat(os->user, path, &stat);
    if (rc == 0 && stat.directory) return cal_fail(err, CAL_EINVAL, "%.200s is a folder", path);
    if (rc == 0 && stat.special)
        return cal_fail(err, CAL_EINVAL, "%.200s is a pipe, socket or device: give a file", path);
    if (rc == 0) rc = os->open(os->user, path, CAL_OS_READ, &file);
    if (rc != 0) return cal_fail(err, rc, "cannot read %.200s: %s", path, cal_error_text(rc));
    rc = app_put_begin(&into->put, into->installer->blobs, err);
    if (rc == 0) {
        rc = copy_file(into, file, path, stat.size, err);
        rc = sink_end(into, rc, NULL, ret_blob, err);
    }
    os->close(file);
    return rc;
}

static int fetch_body(void *user, cal_slice bytes, cal_error *err) {
    return sink_write(user, bytes, err);
}

static int fetch_progress(void *user, uint64_t done, uint64_t total) {
    const sink *into = user;
    return report(into->installer, done, total, NULL);
}

static int store_url(sink *into, const char *url, const uint8_t *expected, app_stored *ret_blob,
                     cal_error *err) {
    app_fetch fetch = {.os = into->installer->os,
                       .url = url,
                       .max = into->max,
                       .body = fetch_body,
                       .progress = fetch_progress,
                       .user = into};
    int rc = app_put_begin(&into->put, into->installer->blobs, err);
    if (rc != 0) return rc;
    rc = app_fetch_run(&fetch, err);
    return sink_end(into, rc, expected, ret_blob, err);
}

/* --- records --- */
static int put_record(cal_batch *batch, const cal_application *application,
                      cal_application *ret_application, cal_error *err) {
    int rc = cal_application_put(batch, application);
    if (rc != 0) return cal_fail(err, rc, "cannot record the application: %s", cal_error_text(rc));
    *ret_application = *application;
    return 0;
}

static int install_raw(const cal_app_install *what, const cal_blob_id *blob, uint64_t size,
                       const char *source, cal_batch *batch, cal_arena *arena,
                       cal_application *ret_application, cal_error *err) {
    bool file = what->path != NULL; /* the reference takes package and version only with files */
    const char *package = file && what->package ? what->package : CAL_APP_DEFAULT_PACKAGE;
    const char *version = file && what->version ? what->version : CAL_APP_DEFAULT_VERSION;
    cal_application application = {.bytecode = *blob, .size = size, .signer_id = ""};
    application.source = cal_arena_text(arena, cal_slice_text(source));
    application.package = cal_arena_text(arena, cal_slice_text(package));
    application.version = cal_arena_text(arena, cal_slice_text(version));
    application.metadata = cal_slice_of(
        cal_arena_copy(arena, what->metadata.data, what->metadata.len), what->metadata.len);
    if (!application.source || !application.package || !application.version ||
        !application.metadata.data)
        return cal_fail(err, CAL_ENOMEM, "out of memory installing");
    cal_application_id_raw(blob, size, source, what->metadata, &application.id);
    return put_record(batch, &application, ret_application, err);
}

/* --- what a run stored --- */
static void note_stored(cal_app_stored *stored, const app_stored *blob) {
    const size_t max = sizeof stored->ids / sizeof *stored->ids;
    if (blob->fresh && stored->count < max) stored->ids[stored->count++] = blob->id;
}

static void forget_stored(const cal_app_blobs *blobs, const cal_app_stored *stored) {
    for (size_t i = 0; i < stored->count; i++) {
        app_stored blob = {stored->ids[i], true};
        app_put_forget(blobs, &blob);
    }
}

static void hand_over(const cal_app_installer *installer, const cal_app_stored *stored) {
    for (size_t i = 0; installer->stored && i < stored->count; i++) {
        app_stored blob = {stored->ids[i], true};
        note_stored(installer->stored, &blob);
    }
}

void cal_app_install_undo(const cal_app_installer *installer, cal_snapshot *snapshot) {
    cal_app_stored *stored = installer->stored;
    for (size_t i = 0; stored && i < stored->count; i++) {
        bool used = false;
        app_stored blob = {stored->ids[i], true};
        int rc = snapshot ? cal_application_uses_blob(snapshot, &blob.id, &used) : 0;
        if (rc == 0 && !used) app_put_forget(installer->blobs, &blob);
    }
    if (stored) stored->count = 0;
}

/* Services on their way into the record. */
typedef struct bundle_install {
    const cal_app_installer *installer;
    cal_arena *arena;
    cal_application_service *services;
    size_t count;
    cal_app_stored stored;
    uint32_t state_version;
} bundle_install;

static int put_blob(const cal_app_blobs *blobs, cal_slice bytes, app_stored *ret_blob,
                    cal_error *err) {
    app_put put;
    int rc = app_put_begin(&put, blobs, err);
    if (rc != 0) return rc;
    rc = app_put_write(&put, bytes, err);
    if (rc == 0) return app_put_finish(&put, NULL, ret_blob, err);
    app_put_abort(&put);
    return rc;
}

static int take_wasm(void *user, const cal_manifest_service *service, cal_slice wasm,
                     cal_error *err) {
    bundle_install *install = user;
    if (wasm.len < 4 || memcmp(wasm.data, "\0asm", 4) != 0)
        return cal_fail(err, CAL_EINVAL, "the bundle's %.100s is no WebAssembly module",
                        service->wasm.path);
    cal_abi abi;
    int rc = cal_abi_read(wasm, &abi);
    if (rc != 0)
        return cal_fail(err, rc, "cannot read the ABI of %.100s: %s", service->wasm.path,
                        cal_error_text(rc));
    if (abi.state_version > install->state_version) install->state_version = abi.state_version;
    cal_abi_deinit(&abi);
    if (!service->name) return 0;
    cal_application_service *target = &install->services[install->count];
    target->name = cal_arena_text(install->arena, cal_slice_text(service->name));
    if (!target->name) return cal_fail(err, CAL_ENOMEM, "out of memory installing");
    app_stored blob = {0};
    rc = put_blob(install->installer->blobs, wasm, &blob, err);
    if (rc != 0) return rc;
    target->bytecode = blob.id;
    install->count++;
    note_stored(&install->stored, &blob);
    return 0;
}

static int compare_services(const void *a, const void *b) {
    const cal_application_service *left = a, *right = b;
    return strcmp(left->name, right->name);
}

static int describe(const cal_manifest *manifest, const bundle_install *install, const char *source,
                    cal_application *application, cal_error *err) {
    cal_arena *arena = install->arena;
    cal_buffer metadata;
    cal_buffer_init(&metadata, 2 * CAL_BUNDLE_MANIFEST_MAX);
    int rc = cal_manifest_metadata(manifest, &metadata);
    if (rc == 0) {
        application->metadata =
            cal_slice_of(cal_arena_copy(arena, metadata.data, metadata.len), metadata.len);
        application->source = cal_arena_text(arena, cal_slice_text(source));
        application->signer_id =
            cal_arena_text(arena, cal_slice_text(cal_manifest_signer_id(manifest)));
        application->package =
            cal_arena_text(arena, cal_slice_text(cal_manifest_package(manifest)));
        application->version =
            cal_arena_text(arena, cal_slice_text(cal_manifest_app_version(manifest)));
        if (!application->metadata.data || !application->source || !application->signer_id ||
            !application->package || !application->version)
            rc = CAL_ENOMEM;
    }
    cal_buffer_deinit(&metadata);
    if (rc != 0) return cal_fail(err, rc, "cannot record the application: %s", cal_error_text(rc));
    application->bundle = true;
    application->state_version = install->state_version;
    application->services = install->services;
    application->service_count = install->count;
    cal_application_id_bundle(application->package, application->signer_id, &application->id);
    return 0;
}

int cal_app_install_blob(const cal_app_installer *installer, const cal_blob_id *blob,
                         const char *source, cal_batch *batch, cal_arena *arena,
                         cal_application *ret_application, cal_error *err) {
    blob_input state = {.blobs = installer->blobs, .id = *blob};
    cal_app_input input = input_of(&state);
    bundle_install install = {.installer = installer, .arena = arena};
    cal_bundle *bundle = NULL;
    cal_application application = {.bytecode = *blob};
    const cal_manifest_service *services = NULL;
    int rc = cal_bundle_open(&input, &bundle, err);
    if (rc == 0) {
        size_t count = cal_manifest_services(cal_bundle_manifest(bundle), &services);
        install.services = cal_arena_alloc_array(arena, count, sizeof *install.services);
        rc = install.services ? cal_bundle_check(bundle, take_wasm, &install, err)
                              : cal_fail(err, CAL_ENOMEM, "out of memory installing");
    }
    application.size = state.size;
    if (rc == 0 && install.count)
        qsort(install.services, install.count, sizeof *install.services, compare_services);
    if (rc == 0) rc = describe(cal_bundle_manifest(bundle), &install, source, &application, err);
    if (rc == 0) rc = put_record(batch, &application, ret_application, err);
    if (rc == 0)
        hand_over(installer, &install.stored);
    else
        forget_stored(installer->blobs, &install.stored);
    cal_bundle_free(bundle);
    close_blob(&state);
    return rc;
}

static bool names_bundle(const char *path) {
    size_t len = strlen(path);
    return len > 4 && strcmp(path + len - 4, ".mpk") == 0 && path[len - 5] != '/';
}

int cal_app_install_run(const cal_app_installer *installer, const cal_app_install *what,
                        cal_batch *batch, cal_arena *arena, cal_application *ret_application,
                        cal_error *err) {
    cal_buffer path, source;
    app_stored blob = {0};
    sink into = {.installer = installer};
    cal_buffer_init(&path, CAL_APP_PATH_MAX + 1);
    cal_buffer_init(&source, 4 * CAL_APP_PATH_MAX);
    int rc = check_request(what, err);
    if (rc == 0 && what->path) {
        rc = locate(installer->os, what, &path, err);
        if (rc == 0) {
            append_file_url(&source, cal_buffer_cstr(&path));
            into.bundle = names_bundle(cal_buffer_cstr(&path));
        }
    } else if (rc == 0) {
        rc = app_url_normalize(what->url, &source, &into.bundle, err);
    }
    into.max = into.bundle ? CAL_APP_DOWNLOAD_MAX : CAL_APP_MODULE_MAX;
    if (rc == 0 && !cal_buffer_cstr(&source))
        rc = cal_fail(err, source.error, "the source is too long");
    if (rc == 0)
        rc = what->path
                 ? store_file(&into, cal_buffer_cstr(&path), &blob, err)
                 : store_url(&into, cal_buffer_cstr(&source), what->expected_hash, &blob, err);
    if (rc == 0)
        rc = into.bundle ? cal_app_install_blob(installer, &blob.id, cal_buffer_cstr(&source),
                                                batch, arena, ret_application, err)
                         : install_raw(what, &blob.id, into.put.size, cal_buffer_cstr(&source),
                                       batch, arena, ret_application, err);
    if (rc != 0)
        app_put_forget(installer->blobs, &blob);
    else if (installer->stored)
        note_stored(installer->stored, &blob);
    cal_buffer_deinit(&source);
    cal_buffer_deinit(&path);
    return rc;
}

/* --- code --- */
static int read_module(blob_input *state, cal_buffer *ret_wasm) {
    int rc = rewind_blob(state);
    if (rc != 0) return rc;
    if (state->size > ret_wasm->max - ret_wasm->len) return CAL_ELIMIT;
    size_t size = (size_t)state->size, at = 0;
    uint8_t *room = cal_buffer_reserve(ret_wasm, size);
    if (!room) return ret_wasm->error;
    while (at < size) {
        int64_t len = read_blob(state, room + at, size - at);
        if (len <= 0) return len < 0 ? (int)len : CAL_ECORRUPT; /* shorter than its record says */
        at += (size_t)len;
    }
    ret_wasm->len += size;
    return 0;
}

int cal_app_load_code(const cal_app_blobs *blobs, const cal_blob_id *bytecode, const char *service,
                      cal_buffer *ret_wasm, cal_error *err) {
    blob_input state = {.blobs = blobs, .id = *bytecode};
    cal_app_input input = input_of(&state);
    uint8_t head[2];
    char text[CAL_ID_TEXT_MAX];
    cal_id_to_base58(bytecode->bytes, text);
    int rc = rewind_blob(&state);
    int64_t len = rc == 0 ? read_blob(&state, head, sizeof head) : rc;
    if (len < 0) {
        close_blob(&state);
        return cal_fail(err, (int)len, "cannot read the application's blob %s: %s", text,
                        cal_error_text((int)len));
    }
    if (cal_bundle_looks_like(cal_slice_of(head, (size_t)len))) {
        cal_bundle *bundle = NULL;
        rc = cal_bundle_open(&input, &bundle, err);
        if (rc == 0) rc = cal_bundle_read_wasm(bundle, service, ret_wasm, err);
        cal_bundle_free(bundle);
    } else {
        rc = read_module(&state, ret_wasm);
        if (rc != 0)
            cal_fail(err, rc, "cannot read the application's module %s: %s", text,
                     cal_error_text(rc));
    }
    close_blob(&state);
    return rc;
}
