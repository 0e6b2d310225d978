/* Creating, calling, listing and deleting contexts: include/calimero/context.h. */
#include <stdlib.h>
#include <string.h>

#include "gov/members.h"
#include "node/internal.h"

static void fail_now(cal_simple_done done, void *user) {
    cal_error err;
    cal_fail(&err, CAL_ENOMEM, "out of memory");
    done(user, &err);
}

/* --- creating: init on a worker, then the registering operation and the state in one transaction
 * --- */

struct creation {
    node_operation operation;
    node_claim claim;
    gov_commit change;
    cal_context_create_options options; /* strings and bytes are its own */
    cal_context_genesis genesis;
    cal_context_create_done done;
    void *user;
};

static void free_creation(struct creation *creation) {
    free((char *)(uintptr_t)creation->options.service);
    free((char *)(uintptr_t)creation->options.name);
    free((uint8_t *)(uintptr_t)creation->options.init_params);
    free((uint8_t *)(uintptr_t)creation->options.seed);
    free(creation);
}

static void creation_finished(gov_commit *change, const cal_error *err) {
    struct creation *creation = CAL_CONTAINER_OF(change, struct creation, change);
    cal_node *node = node_of(change);
    cal_context_created created = {.id = creation->genesis.id,
                                   .group = creation->options.group,
                                   .member = gov_self(node->gov)->sign_key};
    node_unclaim(&creation->claim);
    if (!err) {
        node_hear_context(node, &created.id, true);
        cal_contexts_created(node->contexts, &creation->genesis);
    }
    creation->done(creation->user, err, err ? NULL : &created);
    free_creation(creation);
    node_end(node);
}

/* Where the application came from, for the registering operation. */
static void application_source(cal_node *node, const cal_application_id *id, cal_arena *arena,
                               const char **ret_source) {
    cal_snapshot *snapshot = NULL;
    cal_application application;
    *ret_source = "";
    if (cal_store_snapshot(node->store, &snapshot) == 0 &&
        cal_application_get(snapshot, id, arena, &application) == 0)
        *ret_source = application.source;
    cal_snapshot_free(snapshot);
}

static int prepare_creation(gov_commit *change, cal_error *err) {
    struct creation *creation = CAL_CONTAINER_OF(change, struct creation, change);
    if (node_namespace_closing(node_of(change), &change->namespace_id))
        return cal_fail(err, CAL_ESTATE, "the namespace is being deleted");
    if (cal_removal_pending(&cal_context_removal, creation->genesis.id.bytes,
                            node_of(change)->store) == 0)
        return cal_fail(err, CAL_EBUSY,
                        "a context with this id is still being removed; try again later");
    cal_arena arena;
    cal_arena_init(&arena, NODE_ARENA_MAX);
    gov_context_spec spec = {.context = creation->genesis.id,
                             .group = creation->options.group,
                             .application = creation->options.application,
                             .blob = creation->genesis.code,
                             .service_name = creation->options.service,
                             .name = creation->options.name};
    application_source(node_of(change), &spec.application, &arena, &spec.source);
    int rc = gov_context_register(node_of(change)->gov, &spec, &change->change, err);
    cal_arena_deinit(&arena);
    return rc;
}

static void creation_ready(void *user, const cal_error *err, const cal_context_genesis *genesis,
                           cal_batch *batch) {
    struct creation *creation = user;
    if (err) {
        creation_finished(&creation->change, err);
        return;
    }
    creation->genesis = *genesis;
    creation->genesis.service = creation->options.service;
    creation->change.batch = batch;
    node_commit(&creation->change);
}

static void start_creation(node_operation *operation) {
    struct creation *creation = CAL_CONTAINER_OF(operation, struct creation, operation);
    cal_node *node = operation->node;
    creation->change.owner = node;
    creation->change.prepare = prepare_creation;
    creation->change.finished = creation_finished;
    cal_error err = {0};
    gov_context_plan plan;
    int rc = gov_context_prepare(node->gov, &creation->options.group, &plan, &err);
    if (rc == 0 &&
        memcmp(&plan.application, &creation->options.application, sizeof plan.application) != 0) {
        char target[CAL_ID_TEXT_MAX];
        cal_id_to_base58(plan.application.bytes, target);
        rc = cal_fail(&err, CAL_EINVAL,
                      "the group runs application %s, a context in it cannot run another one",
                      target);
    }
    if (rc == 0)
        rc = node_claim_application(node, &creation->claim, &plan.application, false, &err);
    if (rc != 0) {
        creation_finished(&creation->change, &err);
        return;
    }
    creation->change.namespace_id = plan.namespace_id;
    cal_contexts_create(node->contexts, &creation->options, creation_ready, creation);
}

static void *copy_bytes(const void *bytes, size_t len, bool *failed) {
    if (!bytes || len == 0) return NULL;
    void *copy = malloc(len);
    if (copy)
        memcpy(copy, bytes, len);
    else
        *failed = true;
    return copy;
}

static char *copy_text(const char *text, bool *failed) {
    return text ? copy_bytes(text, strlen(text) + 1, failed) : NULL;
}

void cal_context_create(cal_node *node, const cal_context_create_options *options,
                        cal_context_create_done done, void *user) {
    struct creation *creation = calloc(1, sizeof *creation);
    bool failed = creation == NULL;
    if (creation) {
        creation->options = *options;
        creation->options.service = copy_text(options->service, &failed);
        creation->options.name = copy_text(options->name, &failed);
        creation->options.init_params =
            copy_bytes(options->init_params, options->init_params_len, &failed);
        creation->options.seed = copy_bytes(options->seed, 32, &failed);
        creation->done = done;
        creation->user = user;
    }
    if (failed) {
        if (creation) free_creation(creation);
        cal_error err;
        cal_fail(&err, CAL_ENOMEM, "out of memory");
        done(user, &err, NULL);
        return;
    }
    node_begin(node, &creation->operation, start_creation);
}

struct creation_wait {
    node_waiter waiter;
    int code;
    cal_error *err;
    cal_context_created *created;
};

static void creation_wait_done(void *user, const cal_error *err,
                               const cal_context_created *created) {
    struct creation_wait *wait = user;
    wait->code = err ? err->code : 0;
    if (err && wait->err) *wait->err = *err;
    if (created) *wait->created = *created;
    node_waiter_finish(&wait->waiter);
}

int cal_context_create_wait(cal_node *node, const cal_context_create_options *options,
                            cal_context_created *ret_created, cal_error *err) {
    if (cal_node_on_loop(node)) return node_no_waiting(err);
    struct creation_wait wait = {.err = err, .created = ret_created};
    node_waiter_init(&wait.waiter, node);
    cal_context_create(node, options, creation_wait_done, &wait);
    node_waiter_wait(&wait.waiter);
    return wait.code;
}

/* --- deleting --- */

struct deletion {
    node_operation operation;
    gov_commit change;
    cal_context_id id;
    bool held;
    cal_simple_done done;
    void *user;
};

static void deletion_finished(gov_commit *change, const cal_error *err) {
    struct deletion *deletion = CAL_CONTAINER_OF(change, struct deletion, change);
    cal_node *node = node_of(change);
    if (deletion->held) cal_contexts_delete_end(node->contexts, &deletion->id, err == NULL);
    if (!err) node_hear_context(node, &deletion->id, false);
    if (!err) node_remove(node);
    node_deletion_ended(node);
    deletion->done(deletion->user, err);
    free(deletion);
    node_end(node);
}

static int prepare_deletion(gov_commit *change, cal_error *err) {
    struct deletion *deletion = CAL_CONTAINER_OF(change, struct deletion, change);
    return gov_context_detach(node_of(change)->gov, &deletion->id, &change->change, err);
}

static void deletion_ready(void *user, const cal_error *err, cal_batch *batch) {
    struct deletion *deletion = user;
    if (err) {
        deletion_finished(&deletion->change, err);
        return;
    }
    deletion->held = true;
    deletion->change.batch = batch;
    cal_group_id group;
    if (gov_context_group(node_of(&deletion->change)->gov, &deletion->id, &group,
                          &deletion->change.namespace_id) != 0)
        deletion->change.prepare =
            NULL; /* registered nowhere: its rows are all there is to remove */
    node_commit(&deletion->change);
}

static void start_deletion(node_operation *operation) {
    struct deletion *deletion = CAL_CONTAINER_OF(operation, struct deletion, operation);
    deletion->change.owner = operation->node;
    deletion->change.prepare = prepare_deletion;
    deletion->change.finished = deletion_finished;
    cal_contexts_delete(operation->node->contexts, &deletion->id, deletion_ready, deletion);
}

void cal_context_delete(cal_node *node, const cal_context_id *id, cal_simple_done done,
                        void *user) {
    struct deletion *deletion = calloc(1, sizeof *deletion);
    if (!deletion) {
        fail_now(done, user);
        return;
    }
    deletion->id = *id;
    deletion->done = done;
    deletion->user = user;
    node_begin(node, &deletion->operation, start_deletion);
}

/* --- reading --- */

struct reading {
    cal_node *node;
    const cal_context_id *id;
    const cal_application_id *application;
    const cal_group_id *group;
    bool owned;
    void (*context)(void *user, const cal_context_info *info);
    void (*key)(void *user, const cal_public_key *key);
    void *user;
    cal_arena arena; /* of the versions */
    bool version_known;
    cal_blob_id code;
    cal_application_id version_of;
    const char *version;
    int result;
};

/* The version of the code that the context's group runs. The last answer is kept: contexts that
 * follow one another in a list mostly run the same code, and asking the registry for each would
 * hold the loop up. */
static const char *executing_version(struct reading *reading, const cal_context_record *record) {
    cal_blob_id code;
    if (gov_group_code(reading->node->gov, &record->group, &code) != 0) return NULL;
    bool same = reading->version_known &&
                memcmp(&reading->code, &code, sizeof reading->code) == 0 &&
                memcmp(&reading->version_of, &record->application, sizeof reading->version_of) == 0;
    if (same) return reading->version;
    reading->version_known = true;
    reading->code = code;
    reading->version_of = record->application;
    reading->version =
        node_code_version(reading->node, &record->application, &code, &reading->arena);
    return reading->version;
}

static int visit_context(void *user, const cal_context_id *id, const cal_context_record *record) {
    struct reading *reading = user;
    if (reading->application &&
        memcmp(reading->application, &record->application, sizeof record->application) != 0)
        return 0;
    if (reading->group && memcmp(reading->group, &record->group, sizeof record->group) != 0)
        return 0;
    gov_context_info registered = {.name = NULL};
    if (gov_context_get(reading->node->gov, id, &registered) != 0) registered.name = NULL;
    cal_context_info info = {.id = *id,
                             .application = record->application,
                             .group = record->group,
                             .service = record->service,
                             .name = registered.name,
                             .application_version = executing_version(reading, record),
                             .root = record->root,
                             .heads = record->heads,
                             .head_count = record->head_count};
    reading->context(reading->user, &info);
    return 0;
}

static void get_context(void *arg) {
    struct reading *reading = arg;
    cal_arena arena;
    cal_arena_init(&arena, NODE_ARENA_MAX);
    cal_context_record record;
    reading->result = cal_contexts_get(reading->node->contexts, reading->id, &arena, &record);
    if (reading->result == 0) visit_context(reading, reading->id, &record);
    cal_arena_deinit(&arena);
}

int cal_context_get(cal_node *node, const cal_context_id *id,
                    void (*visit)(void *user, const cal_context_info *info), void *user) {
    struct reading reading = {.node = node, .id = id, .context = visit, .user = user};
    cal_arena_init(&reading.arena, NODE_ARENA_MAX);
    cal_node_run(node, get_context, &reading);
    cal_arena_deinit(&reading.arena);
    return reading.result;
}

static void each_context(void *arg) {
    struct reading *reading = arg;
    reading->result = cal_contexts_each(reading->node->contexts, visit_context, reading);
}

int cal_context_each(cal_node *node, const cal_application_id *application,
                     const cal_group_id *group,
                     void (*visit)(void *user, const cal_context_info *info), void *user) {
    struct reading reading = {
        .node = node, .application = application, .group = group, .context = visit, .user = user};
    cal_arena_init(&reading.arena, NODE_ARENA_MAX);
    cal_node_run(node, each_context, &reading);
    cal_arena_deinit(&reading.arena);
    return reading.result;
}

static void visit_device(void *user, const gov_device_info *info) {
    struct reading *reading = user;
    reading->key(reading->user, &info->sign_key);
}

/* The live keys of the group's members; owned: the one of this node. */
static void each_identity(void *arg) {
    struct reading *reading = arg;
    cal_gov *gov = reading->node->gov;
    cal_account_id account;
    cal_group_id group, namespace_id;
    cal_arena arena;
    cal_arena_init(&arena, NODE_ARENA_MAX);
    cal_context_record record;
    reading->result = cal_contexts_get(reading->node->contexts, reading->id, &arena, &record);
    cal_arena_deinit(&arena);
    if (reading->result != 0 || gov_context_read(gov, reading->id, &account, NULL) != 0) return;
    if (reading->owned)
        reading->key(reading->user, &gov_self(gov)->sign_key);
    else if (gov_context_group(gov, reading->id, &group, &namespace_id) == 0)
        reading->result = gov_group_devices(gov, &group, NULL, visit_device, reading);
}

int cal_context_identities(cal_node *node, const cal_context_id *id, bool owned,
                           void (*visit)(void *user, const cal_public_key *key), void *user) {
    struct reading reading = {.node = node, .id = id, .owned = owned, .key = visit, .user = user};
    cal_node_run(node, each_identity, &reading);
    return reading.result;
}

/* --- calls --- */

struct execution {
    node_operation operation;
    cal_context_id context;
    cal_call_done done;
    void *user;
    char *method;
    uint8_t *args;
    size_t args_len;
};

static void execution_done(void *user, const cal_call_result *result) {
    struct execution *execution = user;
    cal_node *node = execution->operation.node;
    execution->done(execution->user, result);
    free(execution->method);
    free(execution->args);
    free(execution);
    node_end(node);
}

static void start_execution(node_operation *operation) {
    struct execution *execution = CAL_CONTAINER_OF(operation, struct execution, operation);
    cal_contexts_execute(operation->node->contexts, &execution->context, execution->method,
                         cal_slice_of(execution->args, execution->args_len), execution_done,
                         execution);
}

void cal_execute(cal_node *node, const cal_context_id *context, const char *method,
                 const void *args, size_t args_len, cal_call_done done, void *user) {
    struct execution *execution = calloc(1, sizeof *execution);
    bool failed = execution == NULL;
    if (execution) {
        execution->method = copy_text(method, &failed);
        execution->args = copy_bytes(args, args_len, &failed);
    }
    if (failed) {
        if (execution) {
            free(execution->method);
            free(execution->args);
        }
        free(execution);
        done(user, &(cal_call_result){.status = CAL_CALL_INTERNAL,
                                      .error = CAL_ENOMEM,
                                      .message = "out of memory"});
        return;
    }
    execution->context = *context;
    execution->args_len = args_len;
    execution->done = done;
    execution->user = user;
    node_begin(node, &execution->operation, start_execution);
}

struct execution_wait {
    node_waiter waiter;
    cal_call_done visit;
    void *user;
    int code;
    cal_error *err;
};

static void execution_wait_done(void *user, const cal_call_result *result) {
    struct execution_wait *wait = user;
    wait->code = result->error;
    if (result->error != 0) cal_fail(wait->err, result->error, "%s", result->message);
    if (wait->visit) wait->visit(wait->user, result);
    node_waiter_finish(&wait->waiter);
}

int cal_execute_wait(cal_node *node, const cal_context_id *context, const char *method,
                     const void *args, size_t args_len, cal_call_done visit, void *user,
                     cal_error *err) {
    if (cal_node_on_loop(node)) return node_no_waiting(err);
    struct execution_wait wait = {.visit = visit, .user = user, .err = err};
    node_waiter_init(&wait.waiter, node);
    cal_execute(node, context, method, args, args_len, execution_wait_done, &wait);
    node_waiter_wait(&wait.waiter);
    return wait.code;
}
