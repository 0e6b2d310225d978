/* Writing bundles: what `meroctl app pack|sign` does (runtime-abi.md 25).
 *
 * The same input gives the same bytes: manifest.json first (a reader looks for it in the first 8
 * MiB), then the files in byte order of their paths, no times, owners or modes of the machine that
 * packed. Blocking only where files are read. */
#include <archive.h>
#include <archive_entry.h>
#include <stdio.h>
#include <stdlib.h>

#include "app/internal.h"

enum { FOLDER_PATH_MAX = 4096 };

/* --- the archive --- */
static la_ssize_t write_output(struct archive *tar, void *user, const void *bytes, size_t len) {
    cal_buffer *out = user;
    if (cal_buffer_append(out, bytes, len) == 0) return (la_ssize_t)len;
    archive_set_error(tar, out->error, "%s", cal_error_text(out->error));
    return -1;
}

static bool write_entry(struct archive *tar, const char *path, cal_slice content) {
    struct archive_entry *entry = archive_entry_new();
    if (!entry) return false;
    archive_entry_set_pathname(entry, path);
    archive_entry_set_size(entry, (la_int64_t)content.len);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_mtime(entry, 0, 0);
    /* A path that the locale cannot write is a warning, and is stored as it is. */
    bool ok = archive_write_header(tar, entry) >= ARCHIVE_WARN &&
              (content.len == 0 ||
               archive_write_data(tar, content.data, content.len) == (la_ssize_t)content.len);
    archive_entry_free(entry);
    return ok;
}

static int write_archive(cal_slice manifest, const cal_bundle_file *files, size_t count,
                         cal_buffer *ret_archive, cal_error *err) {
    struct archive *tar = archive_write_new();
    if (!tar) return cal_fail(err, CAL_ENOMEM, "out of memory packing the bundle");
    size_t before = ret_archive->len;
    archive_write_set_format_pax_restricted(tar);
    archive_write_add_filter_gzip(tar);
    archive_write_set_bytes_in_last_block(tar, 1); /* no padding after the gzip stream */
    bool ok =
        archive_write_set_options(tar, "gzip:!timestamp,gzip:compression-level=9") == ARCHIVE_OK &&
        archive_write_open(tar, ret_archive, NULL, write_output, NULL) == ARCHIVE_OK &&
        write_entry(tar, "manifest.json", manifest);
    for (size_t i = 0; ok && i < count; i++) ok = write_entry(tar, files[i].path, files[i].content);
    ok = ok && archive_write_close(tar) == ARCHIVE_OK;
    int rc = 0;
    if (!ok) {
        rc = ret_archive->error ? ret_archive->error : CAL_EINVAL;
        const char *why = archive_error_string(tar);
        cal_fail(err, rc, "cannot pack the bundle: %s", why ? why : cal_error_text(rc));
    }
    archive_write_free(tar);
    if (rc != 0) ret_archive->len = before;
    return rc;
}

/* --- the files a manifest names --- */
typedef struct file_list {
    cal_bundle_file *files; /* sorted by path; paths are clean and malloc'ed */
    size_t count;
} file_list;

static int compare_files(const void *a, const void *b) {
    const cal_bundle_file *left = a, *right = b;
    return strcmp(left->path, right->path);
}

static void free_list(file_list *list) {
    for (size_t i = 0; i < list->count; i++) free((void *)(uintptr_t)list->files[i].path);
    free(list->files);
}

static const cal_bundle_file *find_file(const file_list *list, const char *path) {
    char clean[APP_ENTRY_PATH_MAX];
    if (!app_clean_path(path, clean) || list->count == 0) return NULL;
    cal_bundle_file wanted = {.path = clean};
    return bsearch(&wanted, list->files, list->count, sizeof wanted, compare_files);
}

static int make_list(const cal_bundle_file *files, size_t count, file_list *ret_list,
                     cal_error *err) {
    file_list list = {.files = calloc(count ? count : 1, sizeof *files)};
    int rc = list.files ? 0 : cal_fail(err, CAL_ENOMEM, "out of memory packing the bundle");
    for (size_t i = 0; rc == 0 && i < count; i++) {
        char clean[APP_ENTRY_PATH_MAX];
        if (!app_clean_path(files[i].path, clean) || strcmp(clean, "manifest.json") == 0) {
            rc = cal_fail(err, CAL_EINVAL, "\"%.100s\" cannot be a file inside a bundle",
                          files[i].path);
            break;
        }
        char *path = strdup(clean);
        if (!path) rc = cal_fail(err, CAL_ENOMEM, "out of memory packing the bundle");
        if (rc == 0)
            list.files[list.count++] = (cal_bundle_file){.path = path, .content = files[i].content};
    }
    qsort(list.files, list.count, sizeof *list.files, compare_files);
    for (size_t i = 1; rc == 0 && i < list.count; i++)
        if (strcmp(list.files[i - 1].path, list.files[i].path) == 0)
            rc = cal_fail(err, CAL_EINVAL, "\"%s\" is given twice", list.files[i].path);
    if (rc == 0)
        *ret_list = list;
    else
        free_list(&list);
    return rc;
}

/* --- filling in hash and size --- */
static int fill_artifact(yyjson_mut_doc *doc, yyjson_mut_val *artifact, const file_list *list,
                         cal_error *err) {
    if (!yyjson_mut_is_obj(artifact)) return 0;
    const char *path = yyjson_mut_get_str(yyjson_mut_obj_get(artifact, "path"));
    if (!path) return cal_fail(err, CAL_EINVAL, "the manifest names an artifact without a path");
    const cal_bundle_file *file = find_file(list, path);
    if (!file)
        return cal_fail(err, CAL_ENOTFOUND,
                        "the manifest names %.100s, which is not among the files", path);
    uint8_t hash[CAL_HASH_SIZE];
    char text[2 * CAL_HASH_SIZE + 1];
    cal_sha256(file->content, hash);
    cal_hex_encode(cal_slice_of(hash, sizeof hash), text);
    yyjson_mut_obj_remove_key(artifact, "hash");
    yyjson_mut_obj_remove_key(artifact, "size");
    return yyjson_mut_obj_add_strcpy(doc, artifact, "hash", text) &&
                   yyjson_mut_obj_add_uint(doc, artifact, "size", file->content.len)
               ? 0
               : cal_fail(err, CAL_ENOMEM, "out of memory packing the bundle");
}

static int fill_pair(yyjson_mut_doc *doc, yyjson_mut_val *object, const file_list *list,
                     cal_error *err) {
    int rc = fill_artifact(doc, yyjson_mut_obj_get(object, "wasm"), list, err);
    return rc == 0 ? fill_artifact(doc, yyjson_mut_obj_get(object, "abi"), list, err) : rc;
}

static int fill_manifest(yyjson_mut_doc *doc, const file_list *list, cal_error *err) {
    yyjson_mut_val *root = yyjson_mut_doc_get_root(doc);
    if (!yyjson_mut_is_obj(root))
        return cal_fail(err, CAL_EDECODE, "manifest.json is not an object");
    int rc = fill_pair(doc, root, list, err);
    yyjson_mut_val *services = yyjson_mut_obj_get(root, "services");
    if (!yyjson_mut_is_arr(services)) return rc;
    yyjson_mut_arr_iter iter;
    yyjson_mut_arr_iter_init(services, &iter);
    for (yyjson_mut_val *item; rc == 0 && (item = yyjson_mut_arr_iter_next(&iter));)
        rc = yyjson_mut_is_obj(item)
                 ? fill_pair(doc, item, list, err)
                 : cal_fail(err, CAL_EDECODE, "manifest.json has a service that is no object");
    return rc;
}

/* The manifest with its artifacts filled in, not yet signed. Any old signature no longer holds and
 * goes. */
static int complete_manifest(cal_slice json, const file_list *list, cal_buffer *ret_json,
                             cal_error *err) {
    yyjson_doc *source = NULL;
    int rc = app_json_read(json, "manifest.json", &source, err);
    if (rc != 0) return rc;
    yyjson_mut_doc *doc = yyjson_doc_mut_copy(source, NULL);
    yyjson_doc_free(source);
    if (!doc) return cal_fail(err, CAL_ENOMEM, "out of memory packing the bundle");
    rc = fill_manifest(doc, list, err);
    if (rc == 0) yyjson_mut_obj_remove_key(yyjson_mut_doc_get_root(doc), "signature");
    size_t len = 0;
    char *text = rc == 0 ? yyjson_mut_write(doc, 0, &len) : NULL;
    if (rc == 0 && !text) rc = cal_fail(err, CAL_ENOMEM, "out of memory packing the bundle");
    if (rc == 0 && cal_buffer_append(ret_json, text, len) != 0)
        rc =
            cal_fail(err, ret_json->error, "manifest.json is larger than %zu bytes", ret_json->max);
    free(text);
    yyjson_mut_doc_free(doc);
    return rc;
}

/* Every file must be vouched for: what nobody names would travel unsigned. */
static int check_all_named(const cal_manifest *manifest, const file_list *list, cal_error *err) {
    const cal_manifest_service *services = NULL, *top = cal_manifest_service_named(manifest, NULL);
    size_t count = cal_manifest_services(manifest, &services);
    if (count == 0)
        return cal_fail(err, CAL_EINVAL,
                        "the manifest declares no wasm: it needs `wasm` or `services`");
    bool *named = calloc(list->count ? list->count : 1, sizeof *named);
    if (!named) return cal_fail(err, CAL_ENOMEM, "out of memory packing the bundle");
    for (size_t i = 0; i <= count; i++) {
        const cal_manifest_service *service = i < count ? &services[i] : top;
        if (!service) continue;
        const cal_bundle_file *wasm = find_file(list, service->wasm.path);
        const cal_bundle_file *abi = service->has_abi ? find_file(list, service->abi.path) : NULL;
        if (wasm) named[wasm - list->files] = true;
        if (abi) named[abi - list->files] = true;
    }
    int rc = 0;
    for (size_t i = 0; i < list->count && rc == 0; i++)
        if (!named[i])
            rc = cal_fail(err, CAL_EINVAL, "the manifest does not name %s: it would be unsigned",
                          list->files[i].path);
    free(named);
    return rc;
}

/* Signs when there is a key, checks the result as an installer would, and writes it. */
static int seal_and_write(cal_slice json, const file_list *list, const cal_secret *seed,
                          cal_buffer *ret_archive, cal_error *err) {
    cal_buffer signed_json;
    cal_manifest *manifest = NULL;
    cal_buffer_init(&signed_json, CAL_BUNDLE_MANIFEST_MAX);
    int rc = seed ? cal_manifest_sign(json, seed, &signed_json, err)
                  : cal_buffer_append_slice(&signed_json, json);
    if (rc == 0) rc = cal_manifest_parse(cal_buffer_slice(&signed_json), &manifest, err);
    if (rc == 0) rc = check_all_named(manifest, list, err);
    if (rc == 0)
        rc = write_archive(cal_buffer_slice(&signed_json), list->files, list->count, ret_archive,
                           err);
    cal_manifest_free(manifest);
    cal_buffer_deinit(&signed_json);
    return rc;
}

int cal_bundle_pack(cal_slice manifest_json, const cal_bundle_file *files, size_t count,
                    const cal_secret *seed, cal_buffer *ret_archive, cal_error *err) {
    file_list list;
    int rc = make_list(files, count, &list, err);
    if (rc != 0) return rc;
    cal_buffer json;
    cal_buffer_init(&json, CAL_BUNDLE_MANIFEST_MAX);
    rc = complete_manifest(manifest_json, &list, &json, err);
    if (rc == 0) rc = seal_and_write(cal_buffer_slice(&json), &list, seed, ret_archive, err);
    cal_buffer_deinit(&json);
    free_list(&list);
    return rc;
}

/* --- from a folder --- */
typedef struct folder_read {
    const cal_os *os;
    const char *folder;
    cal_bundle_file files[2 * (CAL_BUNDLE_SERVICES_MAX + 1)];
    size_t count;
} folder_read;

static int join_path(const char *folder, const char *name, char ret_path[FOLDER_PATH_MAX],
                     cal_error *err) {
    if (snprintf(ret_path, FOLDER_PATH_MAX, "%s/%s", folder, name) < FOLDER_PATH_MAX) return 0;
    return cal_fail(err, CAL_EINVAL, "the path of %.100s is too long", name);
}

static int read_named(folder_read *read, yyjson_val *artifact, cal_error *err) {
    if (!yyjson_is_obj(artifact)) return 0;
    const char *path = app_json_text(artifact, "path");
    char clean[APP_ENTRY_PATH_MAX], full[FOLDER_PATH_MAX];
    if (!path || !app_clean_path(path, clean))
        return cal_fail(
            err, CAL_EINVAL,
            "the manifest names an artifact whose path \"%.100s\" is not inside the folder",
            path ? path : "");
    for (size_t i = 0; i < read->count; i++)
        if (strcmp(read->files[i].path, clean) == 0) return 0;
    if (read->count >= sizeof read->files / sizeof *read->files)
        return cal_fail(err, CAL_ELIMIT, "the manifest names more than %d services",
                        CAL_BUNDLE_SERVICES_MAX);
    int rc = join_path(read->folder, clean, full, err);
    if (rc != 0) return rc;
    cal_buffer content;
    cal_buffer_init(&content, CAL_APP_MODULE_MAX);
    rc = cal_os_read_file(read->os, full, CAL_APP_MODULE_MAX, &content, err);
    char *name = rc == 0 ? strdup(clean) : NULL;
    if (!name) {
        cal_buffer_deinit(&content);
        return rc != 0 ? rc : cal_fail(err, CAL_ENOMEM, "out of memory packing the bundle");
    }
    size_t len = 0;
    uint8_t *bytes = cal_buffer_detach(&content, &len);
    read->files[read->count++] =
        (cal_bundle_file){.path = name, .content = cal_slice_of(bytes, len)};
    return 0;
}

static int read_folder(folder_read *read, yyjson_val *root, cal_error *err) {
    int rc = read_named(read, yyjson_obj_get(root, "wasm"), err);
    if (rc == 0) rc = read_named(read, yyjson_obj_get(root, "abi"), err);
    yyjson_val *services = yyjson_obj_get(root, "services");
    if (rc != 0 || !yyjson_is_arr(services)) return rc;
    yyjson_arr_iter iter;
    yyjson_arr_iter_init(services, &iter);
    for (yyjson_val *item; rc == 0 && (item = yyjson_arr_iter_next(&iter));) {
        rc = read_named(read, yyjson_obj_get(item, "wasm"), err);
        if (rc == 0) rc = read_named(read, yyjson_obj_get(item, "abi"), err);
    }
    return rc;
}

int cal_bundle_pack_folder(const cal_os *os, const char *folder, const cal_secret *seed,
                           cal_buffer *ret_archive, cal_error *err) {
    char path[FOLDER_PATH_MAX];
    int rc = join_path(folder, "manifest.json", path, err);
    if (rc != 0) return rc;
    cal_buffer json;
    cal_buffer_init(&json, CAL_BUNDLE_MANIFEST_MAX);
    yyjson_doc *doc = NULL;
    folder_read *read = calloc(1, sizeof *read);
    if (!read) return cal_fail(err, CAL_ENOMEM, "out of memory packing the bundle");
    *read = (folder_read){.os = os, .folder = folder};
    rc = cal_os_read_file(os, path, CAL_BUNDLE_MANIFEST_MAX, &json, err);
    if (rc == 0) rc = app_json_read(cal_buffer_slice(&json), path, &doc, err);
    if (rc == 0) rc = read_folder(read, yyjson_doc_get_root(doc), err);
    if (rc == 0)
        rc = cal_bundle_pack(cal_buffer_slice(&json), read->files, read->count, seed, ret_archive,
                             err);
    for (size_t i = 0; i < read->count; i++) {
        free((void *)(uintptr_t)read->files[i].path);
        free((void *)(uintptr_t)read->files[i].content.data);
    }
    free(read);
    yyjson_doc_free(doc);
    cal_buffer_deinit(&json);
    return rc;
}

/* --- signing what is packed --- */
typedef struct unpacked {
    cal_buffer manifest;
    cal_bundle_file files[2 * (CAL_BUNDLE_SERVICES_MAX + 1)];
    size_t count;
} unpacked;

static int collect(void *user, app_archive *archive, const char *path, cal_error *err) {
    unpacked *all = user;
    if (strcmp(path, "manifest.json") == 0) {
        if (all->manifest.len > 0)
            return cal_fail(err, CAL_EDECODE, "the bundle holds manifest.json twice");
        return app_archive_read(archive, path, CAL_BUNDLE_MANIFEST_MAX, &all->manifest, err);
    }
    if (all->count >= sizeof all->files / sizeof *all->files)
        return cal_fail(err, CAL_ELIMIT, "the bundle holds too many files");
    cal_buffer content;
    cal_buffer_init(&content, CAL_APP_MODULE_MAX);
    int rc = app_archive_read(archive, path, CAL_APP_MODULE_MAX, &content, err);
    char *name = rc == 0 ? strdup(path) : NULL;
    if (!name) {
        cal_buffer_deinit(&content);
        return rc != 0 ? rc : cal_fail(err, CAL_ENOMEM, "out of memory signing the bundle");
    }
    size_t len = 0;
    uint8_t *bytes = cal_buffer_detach(&content, &len);
    all->files[all->count++] = (cal_bundle_file){.path = name, .content = cal_slice_of(bytes, len)};
    return 0;
}

int cal_bundle_sign(cal_slice archive, const cal_secret *seed, cal_buffer *ret_archive,
                    cal_error *err) {
    unpacked *all = calloc(1, sizeof *all);
    if (!all) return cal_fail(err, CAL_ENOMEM, "out of memory signing the bundle");
    cal_buffer_init(&all->manifest, CAL_BUNDLE_MANIFEST_MAX);
    cal_app_memory memory;
    cal_app_input input = cal_app_input_memory(&memory, archive);
    int rc = app_archive_walk(&input, CAL_BUNDLE_UNPACKED_MAX, collect, all, err);
    if (rc == 0 && all->manifest.len == 0)
        rc = cal_fail(err, CAL_EDECODE, "the bundle has no manifest.json");
    if (rc == 0)
        rc = cal_bundle_pack(cal_buffer_slice(&all->manifest), all->files, all->count, seed,
                             ret_archive, err);
    for (size_t i = 0; i < all->count; i++) {
        free((void *)(uintptr_t)all->files[i].path);
        free((void *)(uintptr_t)all->files[i].content.data);
    }
    cal_buffer_deinit(&all->manifest);
    free(all);
    return rc;
}

/* --- a manifest from options --- */
static bool add_optional(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *key,
                         const char *text) {
    return !text || yyjson_mut_obj_add_str(doc, object, key, text);
}

static yyjson_mut_val *make_artifact(yyjson_mut_doc *doc, const char *path) {
    yyjson_mut_val *artifact = yyjson_mut_obj(doc);
    bool ok =
        yyjson_mut_obj_add_str(doc, artifact, "path", path) && /* the rest comes with packing */
        yyjson_mut_obj_add_str(doc, artifact, "hash", "") &&
        yyjson_mut_obj_add_uint(doc, artifact, "size", 0);
    return ok ? artifact : NULL;
}

static bool add_modules(yyjson_mut_doc *doc, yyjson_mut_val *root,
                        const cal_manifest_options *options) {
    if (options->wasm_path)
        return yyjson_mut_obj_add_val(doc, root, "wasm", make_artifact(doc, options->wasm_path));
    yyjson_mut_val *services = yyjson_mut_arr(doc);
    bool ok = yyjson_mut_obj_add_val(doc, root, "services", services);
    for (size_t i = 0; ok && i < options->service_count; i++) {
        yyjson_mut_val *service = yyjson_mut_obj(doc);
        ok = yyjson_mut_obj_add_str(doc, service, "name", options->service_names[i]) &&
             yyjson_mut_obj_add_val(doc, service, "wasm",
                                    make_artifact(doc, options->service_paths[i])) &&
             yyjson_mut_arr_append(services, service);
    }
    return ok;
}

static bool add_manifest(yyjson_mut_doc *doc, const cal_manifest_options *options) {
    const char *runtime = options->min_runtime_version;
    yyjson_mut_val *root = yyjson_mut_obj(doc), *metadata = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    /* A description needs a name beside it in this format: the package is better than none. */
    bool shown = options->name || options->description || options->author || options->license;
    const char *name = options->name ? options->name : options->package;
    return yyjson_mut_obj_add_str(doc, root, "version", "1.0") &&
           yyjson_mut_obj_add_str(doc, root, "package", options->package) &&
           yyjson_mut_obj_add_str(doc, root, "appVersion", options->app_version) &&
           yyjson_mut_obj_add_str(doc, root, "minRuntimeVersion",
                                  runtime ? runtime : CAL_APP_RUNTIME_VERSION) &&
           (!shown || (yyjson_mut_obj_add_str(doc, metadata, "name", name) &&
                       add_optional(doc, metadata, "description", options->description) &&
                       add_optional(doc, metadata, "author", options->author) &&
                       add_optional(doc, metadata, "license", options->license) &&
                       yyjson_mut_obj_add_val(doc, root, "metadata", metadata))) &&
           add_modules(doc, root, options);
}

int cal_manifest_make(const cal_manifest_options *options, cal_buffer *ret_json, cal_error *err) {
    if (!options->package || !options->app_version)
        return cal_fail(err, CAL_EINVAL, "a manifest needs a package and a version");
    if ((options->wasm_path != NULL) == (options->service_count > 0))
        return cal_fail(err, CAL_EINVAL, "a manifest needs either one wasm or services");
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    size_t len = 0;
    char *text = doc && add_manifest(doc, options) ? yyjson_mut_write(doc, 0, &len) : NULL;
    yyjson_mut_doc_free(doc);
    cal_manifest *manifest = NULL;
    int rc = text ? cal_manifest_parse(cal_slice_of(text, len), &manifest, err)
                  : cal_fail(err, CAL_EINVAL, "the manifest's texts are not UTF-8");
    cal_manifest_free(manifest);
    if (rc == 0 && (rc = cal_buffer_append(ret_json, text, len)) != 0)
        cal_fail(err, rc, "cannot hold the manifest: %s", cal_error_text(rc));
    free(text);
    return rc;
}
