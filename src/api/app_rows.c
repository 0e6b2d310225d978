/* Applications and packages: http-api.md 5.1. */
#include "api/api.h"

#include <ctype.h>
#include <limits.h>
#include <stdlib.h>

enum {
    METADATA_MAX = 64 * 1024,
    PACKAGE_MAX = 128,
    VERSION_MAX = 64,
    PATH_LENGTH_MAX = 4096,
    URL_LENGTH_MAX = 2048,
};

static const uint8_t NO_ID[32];

/* --- installing --- */

static void on_installed(void *user, const cal_error *err, const cal_application_id *id) {
    http_exchange *exchange = user;
    if (err) {
        json_reply_refusal(exchange, err);
        return;
    }
    json_out out = json_out_new();
    json_add_base58(&out, json_out_data(&out), "applicationId", id->bytes);
    json_reply(exchange, 200, &out);
}

/* Fields that both installs share. */
static void read_options(json_in *in, cal_install_options *options) {
    cal_slice metadata = {0};
    /* newer clients leave metadata out (http-api.md 15) */
    if (json_bytes(in, json_top(in), "metadata", false, &metadata)) {
        options->metadata = metadata.data;
        options->metadata_len = metadata.len;
    }
    options->package = json_text(in, json_top(in), "package", false);
    options->version = json_text(in, json_top(in), "version", false);
}

static void check_options(json_in *in, const cal_install_options *options) {
    if (options->metadata_len > METADATA_MAX)
        json_invalid(in, "Field 'metadata' exceeds maximum size of %d bytes (got %zu)",
                     METADATA_MAX, options->metadata_len);
    json_check_length(in, "package", options->package, PACKAGE_MAX);
    json_check_length(in, "version", options->version, VERSION_MAX);
}

static bool climbs(const char *path) {
    for (const char *at = path; (at = strstr(at, "..")); at += 2)
        if ((at == path || at[-1] == '/') && (at[2] == '/' || at[2] == 0)) return true;
    return false;
}

static void check_path(json_in *in, const char *path) {
    if (strlen(path) > PATH_LENGTH_MAX)
        json_check_length(in, "path", path, PATH_LENGTH_MAX);
    else if (climbs(path))
        json_invalid(
            in, "Field 'path' has invalid format: path must not contain '..' traversal components");
    else if (path[0] != '/')
        json_invalid(in, "Field 'path' has invalid format: path must be absolute");
}

/* MEROD_DEV_INSTALL_ROOT: what is installed must lie in it, symbolic links followed. */
static bool inside_root(const char *path) {
    const char *root = getenv("MEROD_DEV_INSTALL_ROOT");
    char real_root[PATH_MAX], real_path[PATH_MAX];
    if (!root || !root[0]) return true;
    if (!realpath(root, real_root) || !realpath(path, real_path)) return false;
    size_t len = strlen(real_root);
    return strncmp(real_path, real_root, len) == 0 && (len == 1 || real_path[len] == '/');
}

void app_install_file(http_exchange *exchange) {
    json_in in;
    cal_install_options options = {0};
    if (!json_open(&in, exchange, JSON_VALIDATED, false)) return;
    const char *path = json_text(&in, json_top(&in), "path", true);
    read_options(&in, &options);
    if (path) check_path(&in, path);
    check_options(&in, &options);
    if (!json_ok(&in)) return;
    if (inside_root(path))
        cal_install_file(api_node(exchange), path, &options, on_installed, exchange);
    else
        json_reply_error(exchange, 403,
                         "path must lie inside the folder named by MEROD_DEV_INSTALL_ROOT");
    json_close(&in);
}

void app_install_url(http_exchange *exchange) {
    json_in in;
    cal_install_options options = {0};
    cal_blob_id hash;
    if (!json_open(&in, exchange, JSON_VALIDATED, false)) return;
    const char *url = json_text(&in, json_top(&in), "url", true);
    if (json_id(&in, json_top(&in), "hash", false, hash.bytes)) options.expected_hash = &hash;
    read_options(&in, &options);
    json_check_length(&in, "url", url, URL_LENGTH_MAX);
    check_options(&in, &options);
    if (!json_ok(&in)) return;
    options.package = options.version =
        NULL; /* a URL install does not use them (http-api.md 5.1) */
    cal_install_url(api_node(exchange), url, &options, on_installed, exchange);
    json_close(&in);
}

static void on_removed(void *user, const cal_error *err) {
    http_exchange *exchange = user;
    cal_application_id id;
    if (err)
        json_reply_refusal(exchange, err);
    else if (cal_id_parse(http_param(exchange, "id"), id.bytes) == 0)
        on_installed(exchange, NULL, &id);
    else
        json_reply_code(exchange, CAL_EINTERNAL);
}

void app_remove(http_exchange *exchange) {
    cal_application_id id;
    if (api_param_id(exchange, "id", NULL, id.bytes))
        cal_uninstall(api_node(exchange), &id, on_removed, exchange);
}

/* --- reading --- */

typedef struct listing {
    json_out out;
    yyjson_mut_val *into;
} listing;

static void write_app(json_out *out, yyjson_mut_val *item, const cal_app_info *app) {
    json_add_base58(out, item, "id", app->id.bytes);
    yyjson_mut_val *blob = json_add_object(out, item, "blob");
    json_add_base58(out, blob, "bytecode", app->bytecode.bytes);
    json_add_base58(out, blob, "compiled", NO_ID);
    json_add_u64(out, item, "size", app->size);
    json_add_text(out, item, "source", app->source ? app->source : "");
    json_add_bytes(out, item, "metadata", cal_slice_of(app->metadata, app->metadata_len));
    json_add_text(out, item, "signer_id", app->signer_id);
    if (app->package && app->package[0]) json_add_text(out, item, "package", app->package);
    json_add_text(out, item, "version", app->version);
    if (app->service_count == 0) return;
    yyjson_mut_val *services = json_add_object(out, item, "services");
    for (size_t i = 0; i < app->service_count; i++) {
        yyjson_mut_val *service = yyjson_mut_obj(out->doc),
                       *name = yyjson_mut_strcpy(out->doc, app->services[i].name);
        if (!service || !name || !yyjson_mut_obj_add(services, name, service)) out->root = NULL;
        json_add_base58(out, service, "bytecode", app->services[i].bytecode.bytes);
        json_add_base58(out, service, "compiled", NO_ID);
    }
}

static void visit_listed(void *user, const cal_app_info *app) {
    listing *list = user;
    write_app(&list->out, json_push_object(&list->out, list->into), app);
}

void app_list(http_exchange *exchange) {
    listing list = {.out = json_out_new()};
    list.into = json_add_array(&list.out, json_out_data(&list.out), "apps");
    int error = cal_app_each(api_node(exchange), visit_listed, &list);
    if (error) list.out.root = NULL;
    json_reply(exchange, 200, &list.out);
}

static void visit_one(void *user, const cal_app_info *app) {
    listing *list = user;
    write_app(&list->out, json_add_object(&list->out, json_out_data(&list->out), "application"),
              app);
}

/* Answers with what was collected, 404 with `missing`, or the code. */
static void reply_listing(http_exchange *exchange, listing *list, int error, const char *missing) {
    if (!error) {
        json_reply(exchange, 200, &list->out);
        return;
    }
    yyjson_mut_doc_free(list->out.doc);
    if (error == CAL_ENOTFOUND)
        json_reply_error(exchange, 404, missing);
    else
        json_reply_code(exchange, error);
}

void app_get(http_exchange *exchange) {
    cal_application_id id;
    if (!api_param_id(exchange, "id", NULL, id.bytes)) return;
    listing list = {.out = json_out_new()};
    int error = cal_app_get(api_node(exchange), &id, visit_one, &list);
    reply_listing(exchange, &list, error, "Application not found");
}

static void visit_version(void *user, const char *version, const cal_blob_id *blob, uint64_t size,
                          const char *package) {
    listing *list = user;
    yyjson_mut_val *item = json_push_object(&list->out, list->into);
    json_add_text(&list->out, item, "version", version);
    json_add_base58(&list->out, item, "blobId", blob->bytes);
    json_add_u64(&list->out, item, "size", size);
    json_add_text(&list->out, item, "package", package);
}

void app_versions(http_exchange *exchange) {
    cal_application_id id;
    if (!api_param_id(exchange, "id", NULL, id.bytes)) return;
    listing list = {.out = json_out_new()};
    list.into = json_add_array(&list.out, list.out.root, "data");
    int error = cal_app_versions(api_node(exchange), &id, visit_version, &list);
    reply_listing(exchange, &list, error, "Application not found");
}

static void on_abi(void *user, const cal_error *err, const char *abi_json, size_t len) {
    http_exchange *exchange = user;
    if (err) {
        json_reply_refusal(exchange, err);
        return;
    }
    json_out out = json_out_new();
    json_add_raw(&out, out.root, "data", cal_slice_of(abi_json, len));
    json_reply(exchange, 200, &out);
}

void app_abi(http_exchange *exchange) {
    cal_application_id id;
    if (api_param_id(exchange, "id", NULL, id.bytes))
        cal_app_abi(api_node(exchange), &id, http_query(exchange, "service_name"), on_abi,
                    exchange);
}

/* --- packages --- A package is what the installed applications that carry its name have in common.
 */

static const char *package_of(const cal_app_info *app) {
    return app->package && app->package[0] ? app->package : "unknown";
}

static bool holds(yyjson_mut_val *array, const char *text) {
    size_t index, count;
    yyjson_mut_val *item;
    yyjson_mut_arr_foreach(array, index, count, item) {
        if (yyjson_mut_equals_str(item, text)) return true;
    }
    return false;
}

static void visit_package(void *user, const cal_app_info *app) {
    listing *list = user;
    if (!holds(list->into, package_of(app)))
        json_push_text(&list->out, list->into, package_of(app));
}

void package_list(http_exchange *exchange) {
    listing list = {.out = json_out_new()};
    list.into = json_add_array(&list.out, list.out.root, "packages");
    int error = cal_app_each(api_node(exchange), visit_package, &list);
    if (error) list.out.root = NULL;
    json_reply(exchange, 200, &list.out);
}

/* Three numbers, then a release before its pre-releases, as semantic versions order. */
static int compare_versions(const char *a, const char *b) {
    for (int i = 0; i < 3; i++) {
        char *a_end, *b_end;
        unsigned long long x = strtoull(a, &a_end, 10), y = strtoull(b, &b_end, 10);
        if (x != y) return x < y ? -1 : 1;
        a = *a_end == '.' ? a_end + 1 : a_end;
        b = *b_end == '.' ? b_end + 1 : b_end;
    }
    if ((*a == '-') != (*b == '-')) return *a == '-' ? -1 : 1;
    return strcmp(a, b);
}

typedef struct package_search {
    listing list;
    const char *package;
    cal_application_id *ids; /* in the arena */
    size_t count, capacity;
    const char *version; /* the highest so far */
    cal_application_id id, at;
    cal_arena *arena;
} package_search;

static void visit_member(void *user, const cal_app_info *app) {
    package_search *search = user;
    if (strcmp(package_of(app), search->package) != 0) return;
    if (search->count == search->capacity) {
        size_t capacity = search->capacity ? 2 * search->capacity : 8;
        cal_application_id *ids = cal_arena_alloc_array(search->arena, capacity, sizeof *ids);
        if (!ids) {
            search->list.out.root = NULL;
            return;
        }
        if (search->count) memcpy(ids, search->ids, search->count * sizeof *ids);
        search->ids = ids;
        search->capacity = capacity;
    }
    search->ids[search->count++] = app->id;
}

static void visit_package_version(void *user, const char *version, const cal_blob_id *blob,
                                  uint64_t size, const char *package) {
    (void)blob, (void)size, (void)package;
    package_search *search = user;
    if (!version) return;
    if (search->list.into && !holds(search->list.into, version))
        json_push_text(&search->list.out, search->list.into, version);
    if (search->version && compare_versions(version, search->version) <= 0) return;
    search->version = cal_arena_text(search->arena, cal_slice_text(version));
    search->id = search->at;
}

static int search_package(http_exchange *exchange, package_search *search) {
    search->package = http_param(exchange, "package");
    search->arena = http_arena(exchange);
    int error = cal_app_each(api_node(exchange), visit_member, search);
    for (size_t i = 0; i < search->count && !error; i++) {
        search->at = search->ids[i];
        error =
            cal_app_versions(api_node(exchange), &search->ids[i], visit_package_version, search);
        if (error == CAL_ENOTFOUND) error = 0; /* removed meanwhile */
    }
    return error;
}

void package_versions(http_exchange *exchange) {
    package_search search = {.list.out = json_out_new()};
    search.list.into = json_add_array(&search.list.out, search.list.out.root, "versions");
    int error = search_package(exchange, &search);
    reply_listing(exchange, &search.list, error, "package not found");
}

void package_latest(http_exchange *exchange) {
    package_search search = {.list.out = json_out_new()};
    int error = search_package(exchange, &search);
    json_out *out = &search.list.out;
    if (search.version) {
        json_add_base58(out, out->root, "applicationId", search.id.bytes);
        json_add_text(out, out->root, "version", search.version);
    } else {
        json_add_null(out, out->root, "applicationId");
        json_add_null(out, out->root, "version");
    }
    reply_listing(exchange, &search.list, error, "package not found");
}
