/* Installing, listing and removing applications: include/calimero/app.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/app.h"
#include "calimero/app.h"
#include "node/internal.h"

/* --- installing: everything that blocks on a slow worker; the answer on the loop --- */

struct installation {
    node_operation operation;
    cal_task work, answer;
    char *path, *url, *package, *version;
    uint8_t *metadata;
    size_t metadata_len;
    bool has_hash;
    uint8_t hash[32];
    void (*progress)(void *user, uint64_t done_bytes, uint64_t total_bytes);
    void *progress_user;
    cal_application_id id;
    cal_blob_id code;
    cal_app_stored stored;
    cal_error err;
    cal_app_done done;
    void *user;
};

static void free_installation(struct installation *installation) {
    free(installation->path);
    free(installation->url);
    free(installation->package);
    free(installation->version);
    free(installation->metadata);
    free(installation);
}

static void answer_installation(cal_task *task) {
    struct installation *installation = CAL_CONTAINER_OF(task, struct installation, answer);
    cal_node *node = installation->operation.node;
    bool failed = installation->err.code != 0;
    if (!failed) node_code_installed(node, &installation->code);
    installation->done(installation->user, failed ? &installation->err : NULL,
                       failed ? NULL : &installation->id);
    free_installation(installation);
    node_end(node);
}

static int report_progress(void *user, uint64_t done, uint64_t total) {
    const struct installation *installation = user;
    if (installation->progress) installation->progress(installation->progress_user, done, total);
    return atomic_load(&installation->operation.node->stopping) ? CAL_ECANCELED : 0;
}

int node_compile(cal_node *node, const cal_application *application, cal_error *err) {
    int rc = 0;
    if (application->service_count == 0)
        rc = cal_contexts_prepare_code(node->contexts, &application->bytecode, NULL, err);
    for (size_t i = 0; i < application->service_count && rc == 0; i++)
        rc = cal_contexts_prepare_code(node->contexts, &application->bytecode,
                                       application->services[i].name, err);
    return rc;
}

static int install(struct installation *installation, cal_batch *batch, cal_arena *arena) {
    cal_node *node = installation->operation.node;
    cal_app_installer installer = {.os = node->os,
                                   .blobs = &node->app_blobs,
                                   .progress = report_progress,
                                   .progress_user = installation,
                                   .stored = &installation->stored};
    cal_app_install what = {.path = installation->path,
                            .url = installation->url,
                            .root = installation->path ? getenv("MEROD_DEV_INSTALL_ROOT") : NULL,
                            .expected_hash = installation->has_hash ? installation->hash : NULL,
                            .metadata =
                                cal_slice_of(installation->metadata, installation->metadata_len),
                            .package = installation->package,
                            .version = installation->version};
    cal_application application;
    int rc = cal_app_install_run(&installer, &what, batch, arena, &application, &installation->err);
    if (rc == 0) rc = node_compile(node, &application, &installation->err);
    if (rc == 0) {
        installation->id = application.id;
        installation->code = application.bytecode;
    }
    return rc;
}

/* The code does not compile or the rows are not committed: what was stored for them goes again. */
static void undo(struct installation *installation) {
    cal_node *node = installation->operation.node;
    cal_snapshot *snapshot = NULL;
    const cal_app_installer installer = {.blobs = &node->app_blobs,
                                         .stored = &installation->stored};
    if (installation->stored.count == 0) return;
    int rc = cal_store_snapshot(node->store, &snapshot);
    if (rc == 0)
        cal_app_install_undo(&installer, snapshot);
    else
        cal_log(CAL_LOG_WARN, "node", "a refused installation left its blobs behind: %s",
                cal_error_text(rc));
    cal_snapshot_free(snapshot);
}

static void work_installation(cal_task *task) {
    struct installation *installation = CAL_CONTAINER_OF(task, struct installation, work);
    cal_node *node = installation->operation.node;
    cal_arena arena;
    cal_arena_init(&arena, NODE_ARENA_MAX);
    cal_batch *batch = cal_batch_new();
    int rc = atomic_load(&node->stopping)
                 ? cal_fail(&installation->err, CAL_ECANCELED, "the node is stopping")
             : batch ? install(installation, batch, &arena)
                     : cal_fail(&installation->err, CAL_ENOMEM, "out of memory");
    if (rc == 0)
        rc = cal_store_commit(node->store, batch, &installation->err);
    else
        cal_batch_free(batch);
    if (rc != 0) undo(installation);
    if (rc != 0 && installation->err.code == 0)
        cal_fail(&installation->err, rc, "the application could not be installed: %s",
                 cal_error_text(rc));
    cal_arena_deinit(&arena);
    node_post(node, &installation->answer);
}

static void start_installation(node_operation *operation) {
    struct installation *installation = CAL_CONTAINER_OF(operation, struct installation, operation);
    installation->work.run = work_installation;
    installation->answer.run = answer_installation;
    if (!operation->node->stopping) {
        node_install(operation->node, &installation->work);
        return;
    }
    cal_fail(&installation->err, CAL_ECANCELED, "the node is stopping");
    answer_installation(&installation->answer);
}

static bool copy_text(const char *text, char **ret_copy) {
    *ret_copy = text ? strdup(text) : NULL;
    return !text || *ret_copy;
}

static void install_from(cal_node *node, const char *path, const char *url,
                         const cal_install_options *options, cal_app_done done, void *user) {
    static const cal_install_options no_options;
    if (!options) options = &no_options;
    struct installation *installation = calloc(1, sizeof *installation);
    bool copied = installation && copy_text(path, &installation->path) &&
                  copy_text(url, &installation->url) &&
                  copy_text(options->package, &installation->package) &&
                  copy_text(options->version, &installation->version);
    if (copied && options->metadata_len)
        copied = (installation->metadata = malloc(options->metadata_len)) != NULL;
    if (!copied) {
        if (installation) free_installation(installation);
        cal_error err;
        cal_fail(&err, CAL_ENOMEM, "out of memory");
        done(user, &err, NULL);
        return;
    }
    if (options->metadata_len)
        memcpy(installation->metadata, options->metadata, options->metadata_len);
    installation->metadata_len = options->metadata_len;
    installation->has_hash = options->expected_hash != NULL;
    if (options->expected_hash)
        memcpy(installation->hash, options->expected_hash->bytes, sizeof installation->hash);
    installation->progress = options->progress;
    installation->progress_user = options->progress_user;
    installation->done = done;
    installation->user = user;
    node_begin(node, &installation->operation, start_installation);
}

void cal_install_file(cal_node *node, const char *path, const cal_install_options *options,
                      cal_app_done done, void *user) {
    install_from(node, path, NULL, options, done, user);
}

void cal_install_url(cal_node *node, const char *url, const cal_install_options *options,
                     cal_app_done done, void *user) {
    install_from(node, NULL, url, options, done, user);
}

struct install_wait {
    node_waiter waiter;
    int code;
    cal_error *err;
    cal_application_id *id;
};

static void install_wait_done(void *user, const cal_error *err, const cal_application_id *id) {
    struct install_wait *wait = user;
    wait->code = err ? err->code : 0;
    if (err && wait->err) *wait->err = *err;
    if (id) *wait->id = *id;
    node_waiter_finish(&wait->waiter);
}

int cal_install_file_wait(cal_node *node, const char *path, const cal_install_options *options,
                          cal_application_id *ret_id, cal_error *err) {
    if (cal_node_on_loop(node)) return node_no_waiting(err);
    struct install_wait wait = {.err = err, .id = ret_id};
    node_waiter_init(&wait.waiter, node);
    cal_install_file(node, path, options, install_wait_done, &wait);
    node_waiter_wait(&wait.waiter);
    return wait.code;
}

/* --- removing --- */

int node_claim_application(cal_node *node, node_claim *claim, const cal_application_id *application,
                           bool removal, cal_error *err) {
    for (cal_list *at = node->claims.next; at != &node->claims; at = at->next) {
        const node_claim *other = CAL_CONTAINER_OF(at, node_claim, link);
        if (!(removal || other->removal) ||
            memcmp(&other->application, application, sizeof *application) != 0)
            continue;
        return cal_fail(err, CAL_ESTATE,
                        removal
                            ? "the application is being used by an operation under way: try again"
                            : "the application is being removed");
    }
    claim->application = *application;
    claim->removal = removal;
    cal_list_push(&node->claims, &claim->link);
    return 0;
}

void node_unclaim(node_claim *claim) {
    if (claim->link.next) cal_list_remove(&claim->link);
}

struct removal {
    node_operation operation;
    node_claim claim;
    cal_task answer;
    cal_application_id id;
    int result;
    cal_error err;
    cal_simple_done done;
    void *user;
};

static void answer_removal(cal_task *task) {
    struct removal *removal = CAL_CONTAINER_OF(task, struct removal, answer);
    cal_node *node = removal->operation.node;
    if (removal->result != 0 && removal->err.code == 0)
        cal_fail(&removal->err, removal->result, "the application could not be removed: %s",
                 cal_error_text(removal->result));
    node_unclaim(&removal->claim);
    removal->done(removal->user, removal->result == 0 ? NULL : &removal->err);
    free(removal);
    node_end(node);
}

static void removal_stored(void *user, int result) { /* the store's writer thread */
    struct removal *removal = user;
    removal->result = result;
    node_post(removal->operation.node, &removal->answer);
}

struct use_search {
    const cal_application_id *id;
    char *text;
    size_t max;
    bool found;
};

static int look_for_use(void *user, const cal_context_id *id, const cal_context_record *record) {
    struct use_search *search = user;
    if (search->found || memcmp(&record->application, search->id, sizeof *search->id) != 0)
        return 0;
    char name[CAL_ID_TEXT_MAX];
    cal_id_to_base58(id->bytes, name);
    snprintf(search->text, search->max, "context %s", name);
    search->found = true;
    return 0;
}

static void look_for_namespace(void *user, const gov_group_info *info) {
    struct use_search *search = user;
    if (search->found || memcmp(&info->application, search->id, sizeof *search->id) != 0) return;
    char name[CAL_ID_TEXT_MAX];
    cal_id_to_hex(info->id.bytes, name);
    snprintf(search->text, search->max, "namespace %s", name);
    search->found = true;
}

static bool in_use(void *user, const cal_application_id *id, char *ret_user, size_t max) {
    cal_node *node = user;
    struct use_search search = {.id = id, .text = ret_user, .max = max};
    if (cal_contexts_each(node->contexts, look_for_use, &search) !=
        0) { /* what cannot be read may use it */
        snprintf(ret_user, max, "a context that cannot be read");
        search.found = true;
    }
    if (!search.found) gov_namespace_each(node->gov, look_for_namespace, &search);
    return search.found;
}

/* Its compiled modules go with it. */
static int forget_modules(cal_node *node, cal_snapshot *snapshot, const cal_application_id *id,
                          cal_batch *batch) {
    cal_arena arena;
    cal_arena_init(&arena, NODE_ARENA_MAX);
    cal_application_version *versions;
    size_t count = 0;
    int rc = cal_application_versions(snapshot, id, &arena, &versions, &count);
    for (size_t i = 0; rc == 0 && i < count; i++)
        cal_contexts_forget_code(node->contexts, &versions[i].bytecode, batch);
    cal_arena_deinit(&arena);
    return rc == CAL_ENOTFOUND ? 0 : rc; /* not installed: uninstalling says so */
}

static void start_removal(node_operation *operation) {
    struct removal *removal = CAL_CONTAINER_OF(operation, struct removal, operation);
    cal_node *node = operation->node;
    removal->answer.run = answer_removal;
    cal_snapshot *snapshot = NULL;
    cal_batch *batch = cal_batch_new();
    removal->result =
        batch ? node_claim_application(node, &removal->claim, &removal->id, true, &removal->err)
              : CAL_ENOMEM;
    if (removal->result == 0) removal->result = cal_store_snapshot(node->store, &snapshot);
    if (removal->result == 0) removal->result = forget_modules(node, snapshot, &removal->id, batch);
    if (removal->result == 0)
        removal->result =
            cal_application_uninstall(snapshot, &removal->id, in_use, node, batch, &removal->err);
    cal_snapshot_free(snapshot);
    if (removal->result == 0) {
        cal_store_submit(node->store, batch, removal_stored, removal);
        return;
    }
    cal_batch_free(batch);
    answer_removal(&removal->answer);
}

void cal_uninstall(cal_node *node, const cal_application_id *id, cal_simple_done done, void *user) {
    struct removal *removal = calloc(1, sizeof *removal);
    if (!removal) {
        cal_error err;
        cal_fail(&err, CAL_ENOMEM, "out of memory");
        done(user, &err);
        return;
    }
    removal->id = *id;
    removal->done = done;
    removal->user = user;
    node_begin(node, &removal->operation, start_removal);
}

/* --- reading --- */

struct app_reading {
    cal_node *node;
    const cal_application_id *id;
    void (*app)(void *user, const cal_app_info *info);
    void (*version)(void *user, const char *version, const cal_blob_id *blob, uint64_t size,
                    const char *package);
    void *user;
    int result;
};

static void show(const struct app_reading *reading, const cal_application *application,
                 cal_arena *arena) {
    cal_app_service *services =
        cal_arena_alloc_array(arena, application->service_count, sizeof *services);
    if (!services) return;
    for (size_t i = 0; i < application->service_count; i++)
        services[i] =
            (cal_app_service){application->services[i].name, application->services[i].bytecode};
    reading->app(
        reading->user,
        &(cal_app_info){.id = application->id,
                        .bytecode = application->bytecode,
                        .size = application->size,
                        .source = application->source,
                        .metadata = application->metadata.data,
                        .metadata_len = application->metadata.len,
                        .signer_id = application->signer_id[0] ? application->signer_id : NULL,
                        .package = application->package,
                        .version = application->version[0] ? application->version : NULL,
                        .services = services,
                        .service_count = application->service_count});
}

static void read_apps(void *arg) {
    struct app_reading *reading = arg;
    cal_snapshot *snapshot = NULL;
    cal_arena arena;
    cal_arena_init(&arena, NODE_ARENA_MAX);
    cal_application one, *all = &one;
    size_t count = 1;
    int rc = cal_store_snapshot(reading->node->store, &snapshot);
    if (rc == 0)
        rc = reading->id ? cal_application_get(snapshot, reading->id, &arena, &one)
                         : cal_application_list(snapshot, &arena, &all, &count);
    for (size_t i = 0; rc == 0 && i < count; i++) show(reading, &all[i], &arena);
    cal_snapshot_free(snapshot);
    cal_arena_deinit(&arena);
    reading->result = rc;
}

int cal_app_get(cal_node *node, const cal_application_id *id,
                void (*visit)(void *user, const cal_app_info *info), void *user) {
    struct app_reading reading = {.node = node, .id = id, .app = visit, .user = user};
    cal_node_run(node, read_apps, &reading);
    return reading.result;
}

int cal_app_each(cal_node *node, void (*visit)(void *user, const cal_app_info *info), void *user) {
    struct app_reading reading = {.node = node, .app = visit, .user = user};
    cal_node_run(node, read_apps, &reading);
    return reading.result;
}

static void read_versions(void *arg) {
    struct app_reading *reading = arg;
    cal_snapshot *snapshot = NULL;
    cal_arena arena;
    cal_arena_init(&arena, NODE_ARENA_MAX);
    cal_application_version *versions;
    size_t count = 0;
    int rc = cal_store_snapshot(reading->node->store, &snapshot);
    if (rc == 0) rc = cal_application_versions(snapshot, reading->id, &arena, &versions, &count);
    for (size_t i = 0; rc == 0 && i < count; i++)
        reading->version(reading->user, versions[i].version, &versions[i].bytecode,
                         versions[i].size, versions[i].package);
    cal_snapshot_free(snapshot);
    cal_arena_deinit(&arena);
    reading->result = rc;
}

int cal_app_versions(cal_node *node, const cal_application_id *id,
                     void (*visit)(void *user, const char *version, const cal_blob_id *blob,
                                   uint64_t size, const char *package),
                     void *user) {
    struct app_reading reading = {.node = node, .id = id, .version = visit, .user = user};
    cal_node_run(node, read_versions, &reading);
    return reading.result;
}

const char *node_code_version(cal_node *node, const cal_application_id *application,
                              const cal_blob_id *code, cal_arena *arena) {
    cal_snapshot *snapshot = NULL;
    cal_application_version *versions;
    size_t count = 0;
    const char *version = NULL;
    if (cal_store_snapshot(node->store, &snapshot) == 0 &&
        cal_application_versions(snapshot, application, arena, &versions, &count) == 0)
        for (size_t i = 0; i < count && !version; i++)
            if (memcmp(&versions[i].bytecode, code, sizeof *code) == 0)
                version = versions[i].version;
    cal_snapshot_free(snapshot);
    return version;
}

/* --- the ABI: taken out of the bundle again, on a slow worker --- */

struct abi_request {
    node_operation operation;
    cal_task work, answer;
    cal_application_id id;
    char *service;
    cal_abi abi;
    cal_error err;
    cal_app_abi_done done;
    void *user;
};

static void answer_abi(cal_task *task) {
    struct abi_request *request = CAL_CONTAINER_OF(task, struct abi_request, answer);
    cal_node *node = request->operation.node;
    if (request->err.code != 0)
        request->done(request->user, &request->err, NULL, 0);
    else
        request->done(request->user, NULL, (const char *)request->abi.json.data,
                      request->abi.json.len);
    cal_abi_deinit(&request->abi);
    free(request->service);
    free(request);
    node_end(node);
}

static int load_abi(struct abi_request *request, cal_arena *arena, cal_buffer *wasm) {
    cal_node *node = request->operation.node;
    cal_snapshot *snapshot = NULL;
    cal_application application;
    const char *service = NULL;
    int rc = cal_store_snapshot(node->store, &snapshot);
    if (rc == 0) rc = cal_application_get(snapshot, &request->id, arena, &application);
    cal_snapshot_free(snapshot);
    if (rc == CAL_ENOTFOUND) return cal_fail(&request->err, rc, "Application not found");
    if (rc == 0) rc = cal_app_pick_service(&application, request->service, &service, &request->err);
    if (rc == 0)
        rc = cal_app_load_code(&node->app_blobs, &application.bytecode, service, wasm,
                               &request->err);
    if (rc == 0) rc = cal_abi_read(cal_buffer_slice(wasm), &request->abi);
    if (rc != 0) return rc;
    if (request->abi.status == CAL_ABI_UNSUPPORTED)
        return cal_fail(&request->err, CAL_EVERSION,
                        "the application's ABI has schema version %s, this node reads wasm-abi/1",
                        request->abi.schema_version);
    if (request->abi.status == CAL_ABI_ABSENT)
        return cal_fail(&request->err, CAL_EINVAL, "the application has no embedded ABI");
    return 0;
}

static void work_abi(cal_task *task) {
    struct abi_request *request = CAL_CONTAINER_OF(task, struct abi_request, work);
    cal_arena arena;
    cal_buffer wasm;
    cal_arena_init(&arena, NODE_ARENA_MAX);
    cal_buffer_init(&wasm, CAL_APP_MODULE_MAX);
    int rc = load_abi(request, &arena, &wasm);
    if (rc != 0 && request->err.code == 0)
        cal_fail(&request->err, rc, "the ABI cannot be read: %s", cal_error_text(rc));
    cal_buffer_deinit(&wasm);
    cal_arena_deinit(&arena);
    node_post(request->operation.node, &request->answer);
}

static void start_abi(node_operation *operation) {
    struct abi_request *request = CAL_CONTAINER_OF(operation, struct abi_request, operation);
    request->work.run = work_abi;
    request->answer.run = answer_abi;
    node_slow(operation->node, &request->work);
}

void cal_app_abi(cal_node *node, const cal_application_id *id, const char *service,
                 cal_app_abi_done done, void *user) {
    struct abi_request *request = calloc(1, sizeof *request);
    if (!request || (service && !(request->service = strdup(service)))) {
        free(request);
        cal_error err;
        cal_fail(&err, CAL_ENOMEM, "out of memory");
        done(user, &err, NULL, 0);
        return;
    }
    request->id = *id;
    request->done = done;
    request->user = user;
    node_begin(node, &request->operation, start_abi);
}
