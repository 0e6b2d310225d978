/* Namespaces and groups of include/calimero/node.h. */
#include <stdlib.h>
#include <string.h>

#include "app/app.h"
#include "calimero/members.h"
#include "node/internal.h"

/* --- changes: create and delete --- */

struct group_operation {
    node_operation operation;
    gov_commit change;
    cal_application_id application;
    bool has_app_key;
    cal_blob_id app_key;
    node_claim claim;
    cal_group_id parent, new_id;
    bool has_new_id, has_application;
    cal_group_id id; /* what was created */
    char *name;
    bool open;
    cal_group_done done;
    void *user;
};

static void free_group_operation(struct group_operation *op) {
    free(op->name);
    free(op);
}

static int prepare_namespace(gov_commit *change, cal_error *err);

static void group_finished(gov_commit *change, const cal_error *err) {
    struct group_operation *op = CAL_CONTAINER_OF(change, struct group_operation, change);
    cal_node *node = node_of(change);
    node_unclaim(&op->claim);
    if (!err && change->prepare == prepare_namespace) node_hear_namespace(node, &op->id, true);
    op->done(op->user, err, err ? NULL : &op->id);
    free_group_operation(op);
    node_end(node);
}

/* The installed version's code, unless one is pinned; a pinned one must be a version of the same
 * application. */
static int find_app_key(struct group_operation *op, cal_error *err) {
    cal_snapshot *snapshot = NULL;
    cal_arena arena;
    cal_arena_init(&arena, NODE_ARENA_MAX);
    cal_application application;
    int rc = cal_store_snapshot(node_of(&op->change)->store, &snapshot);
    if (rc == 0) rc = cal_application_get(snapshot, &op->application, &arena, &application);
    if (rc == 0 && !op->has_app_key) op->app_key = application.bytecode;
    bool known = !op->has_app_key;
    if (rc == 0 && op->has_app_key) {
        cal_application_version *versions;
        size_t count = 0;
        rc = cal_application_versions(snapshot, &op->application, &arena, &versions, &count);
        for (size_t i = 0; rc == 0 && i < count; i++)
            known = known || memcmp(&versions[i].bytecode, &op->app_key, sizeof op->app_key) == 0;
    }
    cal_snapshot_free(snapshot);
    cal_arena_deinit(&arena);
    if (rc == CAL_ENOTFOUND)
        return cal_fail(err, rc, "the application is not installed on this node: install it first");
    if (rc != 0)
        return cal_fail(err, rc, "the application's record cannot be read: %s", cal_error_text(rc));
    if (!known)
        return cal_fail(err, CAL_ENOTFOUND, "appKey names no installed version of the application");
    return 0;
}

static int prepare_namespace(gov_commit *change, cal_error *err) {
    struct group_operation *op = CAL_CONTAINER_OF(change, struct group_operation, change);
    int rc = find_app_key(op, err);
    gov_namespace_spec spec = {.id = op->has_new_id ? &op->new_id : NULL,
                               .application = op->application,
                               .app_key = op->app_key,
                               .name = op->name};
    return rc == 0
               ? gov_namespace_create(node_of(change)->gov, &spec, &op->id, &change->change, err)
               : rc;
}

static int prepare_group(gov_commit *change, cal_error *err) {
    struct group_operation *op = CAL_CONTAINER_OF(change, struct group_operation, change);
    gov_group_spec spec = {.id = op->has_new_id ? &op->new_id : NULL,
                           .parent = op->parent,
                           .name = op->name,
                           .open = op->open};
    gov_group_info parent;
    if (gov_group_get(node_of(change)->gov, &op->parent, &parent) != 0)
        return cal_fail(err, CAL_ENOTFOUND, "no such group on this node");
    bool other_application = op->has_application && memcmp(&parent.application, &op->application,
                                                           sizeof op->application) != 0;
    bool other_code =
        op->has_app_key && memcmp(&parent.app_key, &op->app_key, sizeof op->app_key) != 0;
    if (other_application || other_code)
        return cal_fail(err, CAL_EINVAL,
                        "a group runs what the group above it runs, and this is another %s",
                        other_application ? "application" : "version of it");
    return gov_group_create(node_of(change)->gov, &spec, &op->id, &change->change, err);
}

static void start_group(node_operation *operation) {
    struct group_operation *op = CAL_CONTAINER_OF(operation, struct group_operation, operation);
    op->change.owner = operation->node;
    op->change.finished = group_finished;
    cal_error err = {0};
    bool creates_namespace = op->change.prepare == prepare_namespace;
    if (creates_namespace)
        node_claim_application(operation->node, &op->claim, &op->application, false, &err);
    else if (gov_group_namespace(operation->node->gov, &op->parent, &op->change.namespace_id) != 0)
        cal_fail(&err, CAL_ENOTFOUND, "no such group on this node");
    else if (node_namespace_closing(operation->node, &op->change.namespace_id))
        cal_fail(&err, CAL_ESTATE, "the namespace is being deleted");
    if (err.code == 0)
        node_commit(&op->change);
    else
        group_finished(&op->change, &err);
}

static struct group_operation *new_group_operation(const char *name, cal_group_done done,
                                                   void *user) {
    struct group_operation *op = calloc(1, sizeof *op);
    if (op && name && !(op->name = strdup(name))) {
        free(op);
        op = NULL;
    }
    if (op) {
        op->done = done;
        op->user = user;
        return op;
    }
    cal_error err;
    cal_fail(&err, CAL_ENOMEM, "out of memory");
    done(user, &err, NULL);
    return NULL;
}

void cal_namespace_create(cal_node *node, const cal_application_id *application,
                          const cal_blob_id *app_key, const char *name, cal_group_done done,
                          void *user) {
    struct group_operation *op = new_group_operation(name, done, user);
    if (!op) return;
    op->application = *application;
    op->has_app_key = app_key != NULL;
    if (app_key) op->app_key = *app_key;
    op->change.prepare = prepare_namespace;
    node_begin(node, &op->operation, start_group);
}

void cal_group_create(cal_node *node, const cal_group_id *namespace_id, const char *name, bool open,
                      cal_group_done done, void *user) {
    struct group_operation *op = new_group_operation(name, done, user);
    if (!op) return;
    op->parent = *namespace_id;
    op->open = open;
    op->change.prepare = prepare_group;
    node_begin(node, &op->operation, start_group);
}

void cal_group_create_as(cal_node *node, const cal_group_options *options, cal_group_done done,
                         void *user) {
    cal_error err;
    if (!options->parent && !options->application) {
        cal_fail(&err, CAL_EINVAL, "a namespace needs an application");
        done(user, &err, NULL);
        return;
    }
    struct group_operation *op = new_group_operation(options->name, done, user);
    if (!op) return;
    op->has_new_id = options->id != NULL;
    op->has_application = options->application != NULL;
    op->has_app_key = options->app_key != NULL;
    if (options->parent) op->parent = *options->parent;
    if (options->id) op->new_id = *options->id;
    if (options->application) op->application = *options->application;
    if (options->app_key) op->app_key = *options->app_key;
    op->open = options->open;
    op->change.prepare = options->parent ? prepare_group : prepare_namespace;
    node_begin(node, &op->operation, start_group);
}

struct group_wait {
    node_waiter waiter;
    int code;
    cal_error *err;
    cal_group_id *id;
};

static void group_wait_done(void *user, const cal_error *err, const cal_group_id *id) {
    struct group_wait *wait = user;
    wait->code = err ? err->code : 0;
    if (err && wait->err) *wait->err = *err;
    if (!err) *wait->id = *id;
    node_waiter_finish(&wait->waiter);
}

int cal_namespace_create_wait(cal_node *node, const cal_application_id *application,
                              const char *name, cal_group_id *ret_id, cal_error *err) {
    if (cal_node_on_loop(node)) return node_no_waiting(err);
    struct group_wait wait = {.err = err, .id = ret_id};
    node_waiter_init(&wait.waiter, node);
    cal_namespace_create(node, application, NULL, name, group_wait_done, &wait);
    node_waiter_wait(&wait.waiter);
    return wait.code;
}

int cal_group_create_wait(cal_node *node, const cal_group_options *options, cal_group_id *ret_id,
                          cal_error *err) {
    if (cal_node_on_loop(node)) return node_no_waiting(err);
    struct group_wait wait = {.err = err, .id = ret_id};
    node_waiter_init(&wait.waiter, node);
    cal_group_create_as(node, options, group_wait_done, &wait);
    node_waiter_wait(&wait.waiter);
    return wait.code;
}

/* --- reading --- */

struct walk {
    cal_node *node;
    const cal_group_id *id;
    const cal_application_id *application;
    void (*namespace_visit)(void *user, const cal_namespace_info *info);
    void (*group_visit)(void *user, const cal_group_info *info);
    void *user;
    int result;
};

static void visit_namespace(void *user, const gov_group_info *group) {
    struct walk *walk = user;
    if (group->joining) return; /* nothing of it is known but hints */
    if (walk->application &&
        memcmp(walk->application, &group->application, sizeof group->application) != 0)
        return;
    cal_arena arena;
    cal_arena_init(&arena, NODE_ARENA_MAX);
    cal_namespace_info info = {
        .id = group->id,
        .application = group->application,
        .app_key = group->app_key,
        .created_at_s = group->created_at_s,
        .name = group->name,
        .app_version = node_code_version(walk->node, &group->application, &group->app_key, &arena),
        .members = group->members,
        .contexts = group->contexts,
        .subgroups = group->subgroups};
    walk->namespace_visit(walk->user, &info);
    cal_arena_deinit(&arena);
}

static void get_namespace(void *arg) {
    struct walk *walk = arg;
    gov_group_info info;
    walk->result = gov_group_get(walk->node->gov, walk->id, &info);
    if (walk->result == 0 &&
        (info.joining || memcmp(&info.id, &info.namespace_id, sizeof info.id) != 0))
        walk->result = CAL_ENOTFOUND;
    if (walk->result == 0) visit_namespace(walk, &info);
}

int cal_namespace_get(cal_node *node, const cal_group_id *id,
                      void (*visit)(void *user, const cal_namespace_info *info), void *user) {
    struct walk walk = {.node = node, .id = id, .namespace_visit = visit, .user = user};
    cal_node_run(node, get_namespace, &walk);
    return walk.result;
}

static void each_namespace(void *arg) {
    struct walk *walk = arg;
    gov_namespace_each(walk->node->gov, visit_namespace, walk);
}

int cal_namespace_each(cal_node *node, const cal_application_id *application,
                       void (*visit)(void *user, const cal_namespace_info *info), void *user) {
    struct walk walk = {
        .node = node, .application = application, .namespace_visit = visit, .user = user};
    cal_node_run(node, each_namespace, &walk);
    return walk.result;
}

static void visit_group(void *user, const gov_group_info *group) {
    struct walk *walk = user;
    walk->group_visit(walk->user, &(cal_group_info){.id = group->id,
                                                    .namespace_id = group->namespace_id,
                                                    .name = group->name,
                                                    .open = group->open});
}

static void each_group(void *arg) {
    struct walk *walk = arg;
    walk->result = gov_group_children(walk->node->gov, walk->id, visit_group, walk);
}

int cal_group_each(cal_node *node, const cal_group_id *namespace_id,
                   void (*visit)(void *user, const cal_group_info *info), void *user) {
    struct walk walk = {.node = node, .id = namespace_id, .group_visit = visit, .user = user};
    cal_node_run(node, each_group, &walk);
    return walk.result;
}
