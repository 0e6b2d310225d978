/* What the node shares with others is the module sync's; here is what it lends to it and passes on.
 * Loop thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gov/invitation_code.h"
#include "node/internal.h"

static bool code_here(void *user, const cal_application_id *application, const cal_blob_id *code) {
    return node_code_here(user, application, code);
}

static void code_version(void *user, const cal_application_id *application, const cal_blob_id *code,
                         char *ret_version, size_t size) {
    cal_arena arena;
    cal_arena_init(&arena, NODE_ARENA_MAX);
    const char *version = node_code_version(user, application, code, &arena);
    snprintf(ret_version, size, "%s", version ? version : "");
    cal_arena_deinit(&arena);
}

static void code_wanted(void *user, const cal_context_id *context,
                        const cal_application_id *application, const cal_blob_id *code) {
    node_code_want(user, context, application, code);
}

static void hear_namespace(void *user, const cal_group_id *id, bool hears) {
    node_hear_namespace(user, id, hears);
}

static void rows_left(void *user) {
    node_remove(user);
    node_sweep(user);
}

static void hear_context(void *user, const cal_context_id *id, bool hears) {
    node_hear_context(user, id, hears);
}

int node_share_start(cal_node *node) {
    cal_sync_options options = {.os = node->os,
                                .store = node->store,
                                .gov = node->gov,
                                .contexts = node->contexts,
                                .blobs = node->blobs,
                                .committer = &node->committer,
                                .runner = &node->runner,
                                .host = node->network.host,
                                .user = node,
                                .hear_namespace = hear_namespace,
                                .hear_context = hear_context,
                                .rows_left = rows_left,
                                .code_wanted = code_wanted,
                                .code_here = code_here,
                                .code_version = code_version,
                                .left = node_context_left};
    return cal_sync_new(&options, &node->sync);
}

void node_share_heard(void *user, const cal_p2p_message *message) {
    cal_sync_gossip(((cal_node *)user)->sync, message);
}

void node_share_subscribed(void *user, const char *topic, const cal_peer_id *peer, bool hears) {
    cal_sync_subscribed(((cal_node *)user)->sync, topic, peer, hears);
    if (hears) node_code_heard(user, topic);
}

void node_share_authored(void *user, const cal_authored_delta *delta) {
    cal_sync *sync = ((cal_node *)user)->sync;
    if (sync) cal_sync_authored(sync, delta);
}

/* --- include/calimero/share.h --- */

const char *cal_sync_state_text(cal_sync_state state) {
    static const char *const texts[] = {
        [CAL_SYNC_ALONE] = "alone",         [CAL_SYNC_UNKNOWN] = "not compared",
        [CAL_SYNC_BEHIND] = "catching up",  [CAL_SYNC_EQUAL] = "in sync",
        [CAL_SYNC_DIFFERENT] = "different", [CAL_SYNC_WAITING] = "waiting"};
    return (size_t)state < sizeof texts / sizeof *texts ? texts[state] : "unknown";
}

struct join {
    node_operation operation;
    char *invitation, *name;
    cal_join_done done;
    void *user;
};

static void free_join(struct join *join) {
    free(join->invitation);
    free(join->name);
    free(join);
}

static void join_done(void *user, const cal_error *err, const cal_joined *joined) {
    struct join *join = user;
    cal_node *node = join->operation.node;
    join->done(join->user, err, joined);
    free_join(join);
    node_end(node);
}

static void start_join(node_operation *operation) {
    struct join *join = CAL_CONTAINER_OF(operation, struct join, operation);
    cal_error err;
    gov_invitation_code *code = calloc(1, sizeof *code);
    int rc = code ? gov_invitation_code_read_any(cal_slice_text(join->invitation), code, &err)
                  : cal_fail(&err, CAL_ENOMEM, "out of memory");
    size_t count = 0;
    for (size_t i = 0; rc == 0 && i < code->address_count; i++) { /* nobody signed them */
        const cal_multiaddr *address = &code->addresses[i];
        cal_multiaddr checked;
        if (cal_multiaddr_from_bytes(address->bytes, address->len, &checked) == 0)
            code->addresses[count++] = checked;
    }
    const char *name = join->name || rc != 0 || !code->name[0] ? join->name : code->name;
    if (rc != 0)
        join_done(join, &err, NULL);
    else
        cal_sync_join(operation->node->sync, &code->invitation, name, code->addresses, count,
                      join_done, join);
    free(code);
}

void cal_namespace_join(cal_node *node, const char *invitation, const char *name,
                        cal_join_done done, void *user) {
    struct join *join = calloc(1, sizeof *join);
    if (join) join->invitation = strdup(invitation);
    if (join && name) join->name = strdup(name);
    if (!join || !join->invitation || (name && !join->name)) {
        cal_error err;
        if (join) free_join(join);
        cal_fail(&err, CAL_ENOMEM, "out of memory");
        done(user, &err, NULL);
        return;
    }
    join->done = done;
    join->user = user;
    node_begin(node, &join->operation, start_join);
}

struct join_wait {
    node_waiter waiter;
    int code;
    cal_error *err;
    cal_joined *joined;
};

static void join_wait_done(void *user, const cal_error *err, const cal_joined *joined) {
    struct join_wait *wait = user;
    wait->code = err ? err->code : 0;
    if (err && wait->err) *wait->err = *err;
    if (joined && wait->joined) *wait->joined = *joined;
    node_waiter_finish(&wait->waiter);
}

int cal_namespace_join_wait(cal_node *node, const char *invitation, const char *name,
                            cal_joined *ret_joined, cal_error *err) {
    if (cal_node_on_loop(node)) return node_no_waiting(err);
    struct join_wait wait = {.err = err, .joined = ret_joined};
    node_waiter_init(&wait.waiter, node);
    cal_namespace_join(node, invitation, name, join_wait_done, &wait);
    node_waiter_wait(&wait.waiter);
    return wait.code;
}

struct sync_by_hand {
    node_operation operation;
    bool all;
    cal_context_id context;
    cal_simple_done done;
    void *user;
};

static void sync_done(void *user, const cal_error *err) {
    struct sync_by_hand *request = user;
    cal_node *node = request->operation.node;
    request->done(request->user, err);
    free(request);
    node_end(node);
}

static void start_sync(node_operation *operation) {
    struct sync_by_hand *request = CAL_CONTAINER_OF(operation, struct sync_by_hand, operation);
    cal_sync_now(operation->node->sync, request->all ? NULL : &request->context, sync_done,
                 request);
}

void cal_context_sync(cal_node *node, const cal_context_id *context, cal_simple_done done,
                      void *user) {
    struct sync_by_hand *request = calloc(1, sizeof *request);
    if (!request) {
        cal_error err;
        cal_fail(&err, CAL_ENOMEM, "out of memory");
        done(user, &err);
        return;
    }
    request->all = context == NULL;
    if (context) request->context = *context;
    request->done = done;
    request->user = user;
    node_begin(node, &request->operation, start_sync);
}

static void sync_wait_done(void *user, const cal_error *err) { join_wait_done(user, err, NULL); }

int cal_context_sync_wait(cal_node *node, const cal_context_id *context, cal_error *err) {
    if (cal_node_on_loop(node)) return node_no_waiting(err);
    struct join_wait wait = {.err = err};
    node_waiter_init(&wait.waiter, node);
    cal_context_sync(node, context, sync_wait_done, &wait);
    node_waiter_wait(&wait.waiter);
    return wait.code;
}

struct look {
    cal_node *node;
    const cal_context_id *context;
    cal_sync_status *status;
    cal_sync_stats *stats;
    int result;
};

static void look_at_status(void *arg) {
    struct look *look = arg;
    look->result = cal_sync_status_get(look->node->sync, look->context, look->status);
}

int cal_context_sync_status(cal_node *node, const cal_context_id *context,
                            cal_sync_status *ret_status) {
    struct look look = {.node = node, .context = context, .status = ret_status};
    cal_node_run(node, look_at_status, &look);
    return look.result;
}

static void look_at_stats(void *arg) {
    struct look *look = arg;
    const node_code *code = &look->node->code;
    sync_blob_served served = {0};
    if (code->server) sync_blob_served_get(code->server, &served);
    *look->stats = *cal_sync_figures(look->node->sync);
    look->stats->blobs_served = served.served;
    look->stats->blobs_refused = served.refused;
    look->stats->blobs_fetched = code->fetched;
}

void cal_sync_stats_get(cal_node *node, cal_sync_stats *ret_stats) {
    struct look look = {.node = node, .stats = ret_stats};
    cal_node_run(node, look_at_stats, &look);
}
