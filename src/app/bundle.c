/* Reading bundles: manifest first, its signature, then the artifacts it vouches for (runtime-abi.md
 * 25).
 *
 * Two walks. The first reads no further than the scan limit, because nothing is authenticated yet;
 * the second goes through the whole archive, since only its end proves that no second manifest and
 * no second copy of an artifact follows. */
#include <stdlib.h>

#include "app/internal.h"

struct cal_bundle {
    const cal_app_input *input;
    cal_app_input copy;
    cal_manifest *manifest;
};

static bool is_manifest(const char *path) { return strcmp(path, "manifest.json") == 0; }

bool cal_bundle_looks_like(cal_slice head) {
    return head.len >= 2 && head.data[0] == 0x1f && head.data[1] == 0x8b;
}

/* --- first walk --- */
static int find_manifest(void *user, app_archive *archive, const char *path, cal_error *err) {
    cal_buffer *content = user;
    if (!is_manifest(path)) return 0;
    int rc = app_archive_read(archive, path, CAL_BUNDLE_MANIFEST_MAX, content, err);
    if (rc != 0) return rc;
    if (content->len == 0) return cal_fail(err, CAL_EDECODE, "the bundle's manifest.json is empty");
    return APP_ARCHIVE_STOP;
}

static int read_manifest(cal_bundle *bundle, cal_error *err) {
    cal_buffer content;
    cal_buffer_init(&content, CAL_BUNDLE_MANIFEST_MAX);
    cal_error why = {0};
    int rc = app_archive_walk(bundle->input, CAL_BUNDLE_SCAN_MAX, find_manifest, &content, &why);
    if (rc == CAL_ELIMIT)
        rc = cal_fail(err, rc,
                      "the bundle has no manifest.json of at most %d bytes within its first %d "
                      "bytes: pack it first",
                      CAL_BUNDLE_MANIFEST_MAX, CAL_BUNDLE_SCAN_MAX);
    else if (rc != 0)
        rc = cal_fail(err, rc, "%s", why.message);
    else if (content.len == 0)
        rc = cal_fail(err, CAL_EDECODE, "the bundle has no manifest.json at its top level");
    if (rc == 0) rc = cal_manifest_parse(cal_buffer_slice(&content), &bundle->manifest, err);
    if (rc == 0) rc = cal_manifest_check_runtime(bundle->manifest, err);
    if (rc == 0) rc = cal_manifest_verify(bundle->manifest, NULL, err);
    cal_buffer_deinit(&content);
    return rc;
}

int cal_bundle_open(const cal_app_input *input, cal_bundle **ret_bundle, cal_error *err) {
    cal_bundle *bundle = calloc(1, sizeof *bundle);
    if (!bundle) return cal_fail(err, CAL_ENOMEM, "out of memory reading the bundle");
    bundle->copy = *input;
    bundle->input = &bundle->copy;
    int rc = read_manifest(bundle, err);
    if (rc != 0) {
        cal_bundle_free(bundle);
        return rc;
    }
    *ret_bundle = bundle;
    return 0;
}

void cal_bundle_free(cal_bundle *bundle) {
    if (!bundle) return;
    cal_manifest_free(bundle->manifest);
    free(bundle);
}

const cal_manifest *cal_bundle_manifest(const cal_bundle *bundle) { return bundle->manifest; }

/* --- second walk --- */
typedef struct check {
    const cal_manifest_service *services;
    size_t count;
    bool found[CAL_BUNDLE_SERVICES_MAX + 1];
    unsigned manifests;
    cal_buffer content;
    cal_bundle_wasm wasm;
    void *user;
} check;

static bool same_path(const char *declared, const char *path) {
    char clean[APP_ENTRY_PATH_MAX];
    return app_clean_path(declared, clean) && strcmp(clean, path) == 0;
}

static int check_digest(const cal_manifest_artifact *artifact, cal_slice bytes, cal_error *err) {
    uint8_t actual[CAL_HASH_SIZE], declared[CAL_HASH_SIZE];
    cal_sha256(bytes, actual);
    if (cal_hex_decode(cal_slice_text(artifact->hash), declared, sizeof declared) == 0 &&
        memcmp(actual, declared, sizeof actual) == 0)
        return 0;
    char text[2 * CAL_HASH_SIZE + 1];
    cal_hex_encode(cal_slice_of(actual, sizeof actual), text);
    return cal_fail(err, CAL_EVERIFY,
                    "the bundle's %.100s was changed: the manifest's hash is %.64s, the file's %s",
                    artifact->path, artifact->hash, text);
}

static int visit(void *user, app_archive *archive, const char *path, cal_error *err) {
    check *state = user;
    if (is_manifest(path) && ++state->manifests > 1)
        return cal_fail(err, CAL_EDECODE, "the bundle holds manifest.json twice");
    bool wanted = false;
    for (size_t i = 0; i < state->count; i++) {
        if (!same_path(state->services[i].wasm.path, path)) continue;
        if (state->found[i]) return cal_fail(err, CAL_EDECODE, "the bundle holds %s twice", path);
        state->found[i] = wanted = true;
    }
    if (!wanted) return 0;
    cal_buffer_reset(&state->content);
    int rc = app_archive_read(archive, path, CAL_APP_MODULE_MAX, &state->content, err);
    /* Services may share a path and still declare different digests: each is checked. */
    for (size_t i = 0; rc == 0 && i < state->count; i++) {
        const cal_manifest_service *service = &state->services[i];
        if (!same_path(service->wasm.path, path)) continue;
        rc = check_digest(&service->wasm, cal_buffer_slice(&state->content), err);
        if (rc == 0 && state->wasm)
            rc = state->wasm(state->user, service, cal_buffer_slice(&state->content), err);
    }
    return rc;
}

static int walk_services(cal_bundle *bundle, const cal_manifest_service *services, size_t count,
                         cal_bundle_wasm wasm, void *user, cal_error *err) {
    check *state = calloc(1, sizeof *state);
    if (!state) return cal_fail(err, CAL_ENOMEM, "out of memory reading the bundle");
    *state = (check){.services = services, .count = count, .wasm = wasm, .user = user};
    cal_buffer_init(&state->content, CAL_APP_MODULE_MAX);
    int rc = app_archive_walk(bundle->input, CAL_BUNDLE_UNPACKED_MAX, visit, state, err);
    for (size_t i = 0; rc == 0 && i < count; i++)
        if (!state->found[i])
            rc = cal_fail(err, CAL_EDECODE, "the bundle lacks %.100s, which its manifest names",
                          services[i].wasm.path);
    cal_buffer_deinit(&state->content);
    free(state);
    return rc;
}

int cal_bundle_check(cal_bundle *bundle, cal_bundle_wasm wasm, void *user, cal_error *err) {
    const cal_manifest_service *services = NULL;
    size_t count = cal_manifest_services(bundle->manifest, &services);
    if (count == 0)
        return cal_fail(err, CAL_EINVAL,
                        "the bundle's manifest declares no wasm: it needs `wasm` or `services`");
    return walk_services(bundle, services, count, wasm, user, err);
}

static int keep_wasm(void *user, const cal_manifest_service *service, cal_slice wasm,
                     cal_error *err) {
    cal_buffer *target = user;
    int rc = cal_buffer_append_slice(target, wasm);
    return rc == 0 ? 0
                   : cal_fail(err, rc, "cannot hold %.100s: %s", service->wasm.path,
                              cal_error_text(rc));
}

int cal_bundle_read_wasm(cal_bundle *bundle, const char *service, cal_buffer *ret_wasm,
                         cal_error *err) {
    const cal_manifest_service *wanted = cal_manifest_service_named(bundle->manifest, service);
    if (!wanted && service)
        return cal_fail(err, CAL_ENOTFOUND, "the bundle %s has no service \"%.100s\"",
                        cal_manifest_package(bundle->manifest), service);
    if (!wanted)
        return cal_fail(err, CAL_ENOTFOUND, "the bundle %s has only named services: name one",
                        cal_manifest_package(bundle->manifest));
    size_t before = ret_wasm->len;
    int rc = walk_services(bundle, wanted, 1, keep_wasm, ret_wasm, err);
    if (rc != 0) ret_wasm->len = before;
    return rc;
}
