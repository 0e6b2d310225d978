/* The manifest of a bundle: what it must hold, what its signature covers, how it is signed
 * (runtime-abi.md 25).
 *
 * A manifest keeps its parsed JSON: the typed view is for us, the signature covers the whole text
 * including fields nobody here knows. Immutable once parsed. Pure functions, any thread. */
#include <stdio.h>
#include <stdlib.h>

#include "app/internal.h"
#include "codec/jcs.h"

struct cal_manifest {
    yyjson_doc *doc;
    cal_manifest_service top; /* the top-level wasm; path NULL when there is none */
    cal_manifest_service *services;
    size_t service_count;
};

/* --- shape: what the reference's typed reader demands --- */
static const app_json_field artifact_fields[] = {
    {.name = "path", .kind = APP_JSON_TEXT, .required = true},
    {.name = "hash", .kind = APP_JSON_TEXT, .required = true},
    {.name = "size", .kind = APP_JSON_U64, .required = true},
    {0},
};
static const app_json_field service_fields[] = {
    {.name = "name", .kind = APP_JSON_TEXT, .required = true},
    {.name = "wasm", .kind = APP_JSON_OBJECT, .required = true, .inner = artifact_fields},
    {.name = "abi", .kind = APP_JSON_OBJECT, .nullable = true, .inner = artifact_fields},
    {0},
};
static const app_json_field metadata_fields[] = {
    {.name = "name", .kind = APP_JSON_TEXT, .required = true},
    {.name = "description", .kind = APP_JSON_TEXT, .nullable = true},
    {.name = "author", .kind = APP_JSON_TEXT, .nullable = true},
    {.name = "icon", .kind = APP_JSON_TEXT, .nullable = true},
    {.name = "tags", .kind = APP_JSON_TEXTS},
    {.name = "license", .kind = APP_JSON_TEXT, .nullable = true},
    {0},
};
static const app_json_field handlers_fields[] = {
    {.name = "slug", .kind = APP_JSON_TEXT, .nullable = true},
    {0},
};
static const app_json_field interfaces_fields[] = {
    {.name = "exports", .kind = APP_JSON_TEXTS},
    {.name = "uses", .kind = APP_JSON_TEXTS},
    {0},
};
static const app_json_field links_fields[] = {
    {.name = "frontend", .kind = APP_JSON_TEXT, .nullable = true},
    {.name = "github", .kind = APP_JSON_TEXT, .nullable = true},
    {.name = "docs", .kind = APP_JSON_TEXT, .nullable = true},
    {0},
};
static const app_json_field signature_fields[] = {
    {.name = "algorithm", .kind = APP_JSON_TEXT, .required = true},
    {.name = "publicKey", .kind = APP_JSON_TEXT, .required = true},
    {.name = "signature", .kind = APP_JSON_TEXT, .required = true},
    {.name = "signedAt", .kind = APP_JSON_TEXT, .nullable = true},
    {0},
};
static const app_json_field manifest_fields[] = {
    {.name = "version", .kind = APP_JSON_TEXT, .required = true},
    {.name = "package", .kind = APP_JSON_TEXT, .required = true},
    {.name = "appVersion", .kind = APP_JSON_TEXT, .required = true},
    {.name = "signerId", .kind = APP_JSON_TEXT, .nullable = true},
    {.name = "minRuntimeVersion", .kind = APP_JSON_TEXT, .required = true},
    {.name = "metadata", .kind = APP_JSON_OBJECT, .nullable = true, .inner = metadata_fields},
    {.name = "handlers", .kind = APP_JSON_OBJECT, .nullable = true, .inner = handlers_fields},
    {.name = "interfaces", .kind = APP_JSON_OBJECT, .nullable = true, .inner = interfaces_fields},
    {.name = "wasm", .kind = APP_JSON_OBJECT, .nullable = true, .inner = artifact_fields},
    {.name = "abi", .kind = APP_JSON_OBJECT, .nullable = true, .inner = artifact_fields},
    {.name = "services", .kind = APP_JSON_OBJECTS, .nullable = true, .inner = service_fields},
    {.name = "links", .kind = APP_JSON_OBJECT, .nullable = true, .inner = links_fields},
    {.name = "signature", .kind = APP_JSON_OBJECT, .nullable = true, .inner = signature_fields},
    {0},
};

/* --- fields fit for use --- */
static bool has_nul(yyjson_val *text) {
    return strlen(yyjson_get_str(text)) != yyjson_get_len(text);
}

/* package and appVersion become parts of names and paths elsewhere. */
static int check_component(yyjson_val *root, const char *field, size_t max, cal_error *err) {
    yyjson_val *value = yyjson_obj_get(root, field);
    const char *text = yyjson_get_str(value);
    size_t len = yyjson_get_len(value);
    if (len == 0) return cal_fail(err, CAL_EINVAL, "the manifest's %s is empty", field);
    if (len > max)
        return cal_fail(err, CAL_ELIMIT, "the manifest's %s is longer than %zu bytes", field, max);
    if (has_nul(value)) return cal_fail(err, CAL_EINVAL, "the manifest's %s holds a NUL", field);
    if (strstr(text, "..") || strpbrk(text, "/\\") || text[1] == ':')
        return cal_fail(err, CAL_EINVAL,
                        "the manifest's %s \"%s\" looks like a path: `..`, slashes and drive "
                        "prefixes are not allowed",
                        field, text);
    return 0;
}

bool app_clean_path(const char *path, char ret_path[APP_ENTRY_PATH_MAX]) {
    if (path[0] == '/' || strchr(path, '\\') || (path[0] != '\0' && path[1] == ':')) return false;
    size_t at = 0;
    while (*path) {
        size_t len = strcspn(path, "/");
        bool skip = len == 0 || (len == 1 && path[0] == '.');
        if (len == 2 && path[0] == '.' && path[1] == '.') return false;
        if (!skip) {
            if (at + len + 2 > APP_ENTRY_PATH_MAX) return false;
            if (at) ret_path[at++] = '/';
            memcpy(ret_path + at, path, len);
            at += len;
        }
        path += len + (path[len] == '/');
    }
    ret_path[at] = '\0';
    return at > 0;
}

static int read_artifact(yyjson_val *object, const char *field, cal_manifest_artifact *ret_artifact,
                         cal_error *err) {
    yyjson_val *path = yyjson_obj_get(object, "path"), *hash = yyjson_obj_get(object, "hash");
    char clean[APP_ENTRY_PATH_MAX];
    if (has_nul(path) || !app_clean_path(yyjson_get_str(path), clean))
        return cal_fail(
            err, CAL_EINVAL,
            "the manifest's %s.path \"%.100s\" is not a relative path inside the bundle", field,
            yyjson_get_str(path));
    *ret_artifact =
        (cal_manifest_artifact){.path = yyjson_get_str(path),
                                .hash = yyjson_get_str(hash),
                                .size = yyjson_get_uint(yyjson_obj_get(object, "size"))};
    return 0;
}

/* wasm and abi of the manifest itself or of one service. */
static int read_pair(yyjson_val *object, const char *field, cal_manifest_service *service,
                     cal_error *err) {
    char name[64];
    yyjson_val *wasm = yyjson_obj_get(object, "wasm"), *abi = yyjson_obj_get(object, "abi");
    int rc = 0;
    if (yyjson_is_obj(wasm)) {
        snprintf(name, sizeof name, "%swasm", field);
        rc = read_artifact(wasm, name, &service->wasm, err);
    }
    if (rc == 0 && yyjson_is_obj(abi)) {
        snprintf(name, sizeof name, "%sabi", field);
        service->has_abi = true;
        rc = read_artifact(abi, name, &service->abi, err);
    }
    return rc;
}

static int read_services(cal_manifest *manifest, yyjson_val *root, cal_error *err) {
    yyjson_val *list = yyjson_obj_get(root, "services");
    size_t count = yyjson_arr_size(list);
    if (count == 0) return 0;
    if (count > CAL_BUNDLE_SERVICES_MAX)
        return cal_fail(err, CAL_ELIMIT, "the manifest names %zu services, at most %d are allowed",
                        count, CAL_BUNDLE_SERVICES_MAX);
    manifest->services = calloc(count, sizeof *manifest->services);
    if (!manifest->services) return cal_fail(err, CAL_ENOMEM, "out of memory reading the manifest");
    yyjson_arr_iter iter;
    yyjson_arr_iter_init(list, &iter);
    for (yyjson_val *item; (item = yyjson_arr_iter_next(&iter));) {
        char field[32];
        snprintf(field, sizeof field, "services[%zu].", manifest->service_count);
        yyjson_val *name = yyjson_obj_get(item, "name");
        if (yyjson_get_len(name) == 0 || yyjson_get_len(name) > CAL_APP_SERVICE_NAME_MAX ||
            has_nul(name))
            return cal_fail(err, CAL_EINVAL, "the manifest's %sname must have 1 to %d bytes", field,
                            CAL_APP_SERVICE_NAME_MAX);
        for (size_t i = 0; i < manifest->service_count; i++)
            if (strcmp(manifest->services[i].name, yyjson_get_str(name)) == 0)
                return cal_fail(err, CAL_EINVAL, "the manifest names the service \"%s\" twice",
                                yyjson_get_str(name));
        cal_manifest_service *service = &manifest->services[manifest->service_count++];
        service->name = yyjson_get_str(name);
        int rc = read_pair(item, field, service, err);
        if (rc != 0) return rc;
    }
    return 0;
}

static int check_version(yyjson_val *root, cal_error *err) {
    const char *wanted = app_json_text(root, "minRuntimeVersion");
    int order = 0;
    if (!has_nul(yyjson_obj_get(root, "minRuntimeVersion")) &&
        cal_version_compare(wanted, CAL_APP_RUNTIME_VERSION, &order) == 0)
        return 0;
    return cal_fail(err, CAL_EINVAL,
                    "the manifest's minRuntimeVersion \"%.64s\" is not a semantic version", wanted);
}

int cal_manifest_check_runtime(const cal_manifest *manifest, cal_error *err) {
    const char *wanted = cal_manifest_min_runtime_version(manifest);
    int order = 0;
    if (cal_version_compare(wanted, CAL_APP_RUNTIME_VERSION, &order) == 0 && order <= 0) return 0;
    return cal_fail(err, CAL_EVERSION,
                    "the bundle needs runtime version %.64s, this node has %s: upgrade the node",
                    wanted, CAL_APP_RUNTIME_VERSION);
}

static int read_manifest(cal_manifest *manifest, cal_error *err) {
    yyjson_val *root = app_manifest_root(manifest);
    int rc = app_json_shape(root, manifest_fields, "manifest.json", err);
    if (rc == 0) rc = check_component(root, "package", CAL_APP_PACKAGE_MAX, err);
    if (rc == 0) rc = check_component(root, "appVersion", CAL_APP_VERSION_MAX, err);
    if (rc == 0) rc = read_pair(root, "", &manifest->top, err);
    if (rc == 0) rc = read_services(manifest, root, err);
    return rc == 0 ? check_version(root, err) : rc;
}

int cal_manifest_parse(cal_slice json, cal_manifest **ret_manifest, cal_error *err) {
    if (json.len > CAL_BUNDLE_MANIFEST_MAX)
        return cal_fail(err, CAL_ELIMIT, "manifest.json is larger than %d bytes",
                        CAL_BUNDLE_MANIFEST_MAX);
    cal_manifest *manifest = calloc(1, sizeof *manifest);
    if (!manifest) return cal_fail(err, CAL_ENOMEM, "out of memory reading manifest.json");
    int rc = app_json_read(json, "manifest.json", &manifest->doc, err);
    if (rc == 0) rc = read_manifest(manifest, err);
    if (rc != 0) {
        cal_manifest_free(manifest);
        return rc;
    }
    *ret_manifest = manifest;
    return 0;
}

void cal_manifest_free(cal_manifest *manifest) {
    if (!manifest) return;
    yyjson_doc_free(manifest->doc);
    free(manifest->services);
    free(manifest);
}

yyjson_val *app_manifest_root(const cal_manifest *manifest) {
    return yyjson_doc_get_root(manifest->doc);
}

const char *cal_manifest_package(const cal_manifest *manifest) {
    return app_json_text(app_manifest_root(manifest), "package");
}
const char *cal_manifest_app_version(const cal_manifest *manifest) {
    return app_json_text(app_manifest_root(manifest), "appVersion");
}
const char *cal_manifest_min_runtime_version(const cal_manifest *manifest) {
    return app_json_text(app_manifest_root(manifest), "minRuntimeVersion");
}
const char *cal_manifest_signer_id(const cal_manifest *manifest) {
    return app_json_text(app_manifest_root(manifest), "signerId");
}

size_t cal_manifest_services(const cal_manifest *manifest,
                             const cal_manifest_service **ret_services) {
    if (manifest->service_count > 0) {
        *ret_services = manifest->services;
        return manifest->service_count;
    }
    *ret_services = &manifest->top;
    return manifest->top.wasm.path ? 1 : 0;
}

const cal_manifest_service *cal_manifest_service_named(const cal_manifest *manifest,
                                                       const char *name) {
    if (!name) return manifest->top.wasm.path ? &manifest->top : NULL;
    for (size_t i = 0; i < manifest->service_count; i++)
        if (strcmp(manifest->services[i].name, name) == 0) return &manifest->services[i];
    return NULL;
}

/* --- display metadata --- */
static bool copy_fields(yyjson_mut_doc *doc, yyjson_mut_val *target, yyjson_val *source,
                        const char *const *names) {
    bool ok = true;
    for (; *names; names++) {
        yyjson_val *value = yyjson_obj_get(source, *names);
        if (!value || yyjson_is_null(value) ||
            (yyjson_is_arr(value) && yyjson_arr_size(value) == 0))
            continue;
        ok = ok && yyjson_mut_obj_add_val(doc, target, *names, yyjson_val_mut_copy(doc, value));
    }
    return ok;
}

int cal_manifest_metadata(const cal_manifest *manifest, cal_buffer *ret_json) {
    static const char *const shown[] = {"name", "description", "author", "icon",
                                        "tags", "license",     NULL};
    static const char *const linked[] = {"frontend", "github", "docs", NULL};
    yyjson_val *root = app_manifest_root(manifest);
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    if (!doc) return CAL_ENOMEM;
    yyjson_mut_val *flat = yyjson_mut_obj(doc), *links = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, flat);
    bool ok =
        yyjson_mut_obj_add_str(doc, flat, "package", cal_manifest_package(manifest)) &&
        yyjson_mut_obj_add_str(doc, flat, "version", cal_manifest_app_version(manifest)) &&
        copy_fields(doc, flat, yyjson_obj_get(root, "metadata"), shown) &&
        copy_fields(doc, links, yyjson_obj_get(root, "links"), linked) &&
        (yyjson_mut_obj_size(links) == 0 || yyjson_mut_obj_add_val(doc, flat, "links", links));
    size_t len = 0;
    char *text = ok ? yyjson_mut_write(doc, 0, &len) : NULL;
    int rc = text ? cal_buffer_append(ret_json, text, len) : CAL_ENOMEM;
    free(text);
    yyjson_mut_doc_free(doc);
    return rc;
}

/* --- signature --- */
static bool is_signed_field(cal_slice name) {
    return !(name.len > 0 && name.data[0] == '_') &&
           !cal_slice_equal(name, cal_slice_text("signature"));
}

/* The SHA-256 of the canonical form without the signature and the fields that start with `_`. */
static int signed_hash(yyjson_val *root, uint8_t ret_hash[CAL_HASH_SIZE], cal_error *err) {
    cal_buffer canonical;
    cal_buffer_init(&canonical, 8 * CAL_BUNDLE_MANIFEST_MAX); /* numbers and escapes may grow */
    int rc = cal_jcs_write(root, is_signed_field, &canonical);
    if (rc == 0)
        cal_sha256(cal_buffer_slice(&canonical), ret_hash);
    else
        cal_fail(err, rc, "manifest.json has no canonical form: %s", cal_error_text(rc));
    cal_buffer_deinit(&canonical);
    return rc;
}

static int decode_fixed(yyjson_val *signature, const char *field, uint8_t *ret_bytes, size_t len,
                        cal_error *err) {
    yyjson_val *text = yyjson_obj_get(signature, field);
    cal_buffer bytes;
    cal_buffer_init(&bytes, len + 4); /* the decoder reserves whole groups */
    int rc = cal_base64_decode(CAL_BASE64URL,
                               cal_slice_of(yyjson_get_str(text), yyjson_get_len(text)), &bytes);
    bool fits = rc == 0 && bytes.len == len;
    if (fits) memcpy(ret_bytes, bytes.data, len);
    cal_buffer_deinit(&bytes);
    if (rc == CAL_ENOMEM)
        return cal_fail(err, rc, "out of memory reading the manifest's signature");
    return fits ? 0
                : cal_fail(
                      err, CAL_EVERIFY,
                      "the manifest's signature.%s is not %zu bytes in base64url without padding",
                      field, len);
}

int cal_manifest_verify(const cal_manifest *manifest, uint8_t ret_hash[CAL_HASH_SIZE],
                        cal_error *err) {
    yyjson_val *root = app_manifest_root(manifest), *signature = yyjson_obj_get(root, "signature");
    if (!yyjson_is_obj(signature))
        return cal_fail(err, CAL_EVERIFY,
                        "the manifest is not signed: sign the bundle before installing it");
    if (strcmp(app_json_text(signature, "algorithm"), "ed25519") != 0)
        return cal_fail(err, CAL_EVERIFY,
                        "the manifest is signed with \"%.32s\", only \"ed25519\" is known",
                        app_json_text(signature, "algorithm"));
    uint8_t key[32], bytes[CAL_SIGNATURE_SIZE], hash[CAL_HASH_SIZE];
    int rc = decode_fixed(signature, "publicKey", key, sizeof key, err);
    if (rc == 0) rc = decode_fixed(signature, "signature", bytes, sizeof bytes, err);
    if (rc == 0) rc = signed_hash(root, hash, err);
    if (rc != 0) return rc;
    /* The reference takes small-order keys here, under which anybody can sign anything (traps.md
     * 2). */
    if (!cal_public_key_decodes(key) || cal_public_key_small_order(key))
        return cal_fail(err, CAL_EVERIFY,
                        "the manifest's signature.publicKey is not a usable Ed25519 key");
    if (!cal_verify_lax(key, cal_slice_of(hash, sizeof hash), bytes))
        return cal_fail(
            err, CAL_EVERIFY,
            "the manifest's signature does not match its content: it was changed after signing");
    char derived[CAL_DID_KEY_MAX];
    cal_did_key_encode(key, derived);
    const char *declared = cal_manifest_signer_id(manifest);
    if (!declared || has_nul(yyjson_obj_get(root, "signerId")) || strcmp(declared, derived) != 0)
        return cal_fail(err, CAL_EVERIFY, "the manifest's signerId is %.100s, but its key is %s",
                        declared ? declared : "missing", derived);
    if (ret_hash) memcpy(ret_hash, hash, sizeof hash);
    return 0;
}

static bool add_text(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *key,
                     const char *text) {
    return yyjson_mut_obj_add_strcpy(doc, object, key, text);
}

static bool add_base64(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *key,
                       cal_slice bytes) {
    cal_buffer text;
    cal_buffer_init(&text, 128);
    cal_base64_encode(CAL_BASE64URL, bytes, &text);
    const char *value = cal_buffer_cstr(&text);
    bool ok = value && add_text(doc, object, key, value);
    cal_buffer_deinit(&text);
    return ok;
}

/* The document with another signerId and no signature. */
static yyjson_mut_doc *with_signer(yyjson_doc *source, const char *signer_id) {
    yyjson_mut_doc *doc = yyjson_doc_mut_copy(source, NULL);
    if (!doc) return NULL;
    yyjson_mut_val *root = yyjson_mut_doc_get_root(doc);
    yyjson_mut_obj_remove_key(root, "signature");
    yyjson_mut_obj_remove_key(root, "signerId");
    if (add_text(doc, root, "signerId", signer_id)) return doc;
    yyjson_mut_doc_free(doc);
    return NULL;
}

static int sign_doc(yyjson_mut_doc *doc, const cal_secret *seed, cal_error *err) {
    yyjson_doc *plain = yyjson_mut_doc_imut_copy(doc, NULL);
    if (!plain) return cal_fail(err, CAL_ENOMEM, "out of memory signing the manifest");
    uint8_t hash[CAL_HASH_SIZE], key[32], signature[CAL_SIGNATURE_SIZE];
    int rc = signed_hash(yyjson_doc_get_root(plain), hash, err);
    yyjson_doc_free(plain);
    if (rc != 0) return rc;
    cal_sign_public_key(seed, key);
    cal_sign(seed, cal_slice_of(hash, sizeof hash), signature);
    yyjson_mut_val *object = yyjson_mut_obj(doc);
    bool ok = add_text(doc, object, "algorithm", "ed25519") &&
              add_base64(doc, object, "publicKey", cal_slice_of(key, sizeof key)) &&
              add_base64(doc, object, "signature", cal_slice_of(signature, sizeof signature)) &&
              yyjson_mut_obj_add_val(doc, yyjson_mut_doc_get_root(doc), "signature", object);
    return ok ? 0 : cal_fail(err, CAL_ENOMEM, "out of memory signing the manifest");
}

int cal_manifest_sign(cal_slice json, const cal_secret *seed, cal_buffer *ret_json,
                      cal_error *err) {
    yyjson_doc *source = NULL;
    int rc = app_json_read(json, "manifest.json", &source, err);
    if (rc != 0) return rc;
    char signer_id[CAL_DID_KEY_MAX];
    uint8_t key[32];
    cal_sign_public_key(seed, key);
    cal_did_key_encode(key, signer_id);
    yyjson_mut_doc *doc = NULL;
    if (!yyjson_is_obj(yyjson_doc_get_root(source)))
        rc = cal_fail(err, CAL_EDECODE, "manifest.json is not an object");
    else if (!(doc = with_signer(source, signer_id)))
        rc = cal_fail(err, CAL_ENOMEM, "out of memory signing the manifest");
    if (rc == 0) rc = sign_doc(doc, seed, err);
    size_t len = 0;
    char *text = rc == 0 ? yyjson_mut_write(doc, 0, &len) : NULL;
    if (rc == 0) {
        rc = text ? cal_buffer_append(ret_json, text, len) : CAL_ENOMEM;
        if (rc != 0) cal_fail(err, rc, "out of memory signing the manifest");
    }
    free(text);
    yyjson_mut_doc_free(doc);
    yyjson_doc_free(source);
    return rc;
}
