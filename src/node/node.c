/* The composition root: opens the store, puts the modules together on one loop, takes them apart
 * again (architecture.md). */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/app.h"
#include "crypto/crypto.h"
#include "node/internal.h"
#include "sync/snapshot.h"

const char *cal_version(void) { return NODE_VERSION; }
const char *cal_runtime_version(void) { return CAL_APP_RUNTIME_VERSION; }

struct uv_loop_s *cal_node_loop(cal_node *node) {
    assert(node->world->loop); /* what has sockets of its own is not simulated */
    return node->world->loop;
}
const cal_os *cal_node_os(cal_node *node) { return node->os; }
bool cal_node_stopping(const cal_node *node) { return node->stopping; }

int cal_node_health(cal_node *node) { return cal_store_health(node->store); }

void cal_node_identity_get(cal_node *node, cal_node_identity *ret_identity) {
    const gov_identity *self = gov_self(node->gov);
    *ret_identity = (cal_node_identity){.account = self->account,
                                        .device = self->device,
                                        .public_key = self->sign_key,
                                        .account_root_key = self->root_key};
}

static uint32_t worker_count(const node_world *world, const cal_node_options *options) {
    uint32_t wanted = options->workers ? options->workers : world->processors;
    return wanted > NODE_WORKERS_MAX ? NODE_WORKERS_MAX : wanted;
}

/* --- the store of a home --- */

static int join_path(char ret_path[NODE_PATH_MAX], const char *folder, const char *name,
                     cal_error *err) {
    if ((size_t)snprintf(ret_path, NODE_PATH_MAX, "%s/%s", folder, name) < NODE_PATH_MAX) return 0;
    return cal_fail(err, CAL_EINVAL, "the path of the home has more than %d bytes", NODE_PATH_MAX);
}

int node_store_options(const node_world *world, const cal_node_options *options,
                       char folder[NODE_PATH_MAX], char key_path[NODE_PATH_MAX],
                       cal_key_source *ret_key, cal_store_options *ret_options, cal_error *err) {
    if (!options->home || !options->home[0])
        return cal_fail(err, CAL_EINVAL, "no home folder is given");
    int rc = join_path(folder, options->home, "data", err);
    if (rc == 0) rc = join_path(key_path, options->home, "master.key", err);
    if (rc != 0) return rc;
    static const cal_key_kind kinds[] = {[CAL_NODE_KEY_FILE] = CAL_KEY_FILE,
                                         [CAL_NODE_KEY_PASSPHRASE] = CAL_KEY_PASSPHRASE,
                                         [CAL_NODE_KEY_COMMAND] = CAL_KEY_COMMAND};
    const char *text = options->key.text;
    if (!text && options->key.kind != CAL_NODE_KEY_FILE)
        return cal_fail(err, CAL_EINVAL, "no %s is given to open the node's store with",
                        options->key.kind == CAL_NODE_KEY_PASSPHRASE ? "passphrase"
                                                                     : "key command");
    *ret_key = (cal_key_source){.kind = kinds[options->key.kind], .text = text ? text : key_path};
    *ret_options = (cal_store_options){
        .os = world->os,
        .folder = folder,
        .durability = options->durability == CAL_NODE_DURABLE_PROCESS ? CAL_DURABLE_PROCESS
                                                                      : CAL_DURABLE_FULL,
        .readers_max = worker_count(world, options) + NODE_SLOW_WORKERS + 2,
        .key = ret_key,
        .stepped = world->stepped,
        .due = world->store_due,
        .due_user = world->user};
    return 0;
}

int node_open_store(const node_world *world, const cal_node_options *options, cal_store **ret_store,
                    cal_error *err) {
    char folder[NODE_PATH_MAX], key_path[NODE_PATH_MAX];
    cal_key_source key;
    cal_store_options store;
    int rc = cal_crypto_init();
    if (rc != 0) return cal_fail(err, rc, "the cryptographic libraries refuse to start");
    rc = node_store_options(world, options, folder, key_path, &key, &store, err);
    return rc == 0 ? cal_store_open(&store, ret_store, err) : rc;
}

int node_init_in(const node_world *world, const cal_node_options *options, cal_peer_id *ret_peer_id,
                 cal_error *err) {
    char folder[NODE_PATH_MAX], key_path[NODE_PATH_MAX];
    cal_key_source key;
    cal_store_options store_options;
    int rc = cal_crypto_init();
    if (rc != 0) return cal_fail(err, rc, "the cryptographic libraries refuse to start");
    rc = node_store_options(world, options, folder, key_path, &key, &store_options, err);
    if (rc == 0) rc = cal_os_make_dirs(world->os, folder, err);
    if (rc == 0) rc = cal_store_create(&store_options, err);
    cal_store *store = NULL;
    cal_gov *governance = NULL;
    if (rc == 0) rc = cal_store_open(&store_options, &store, err);
    if (rc == 0) rc = gov_open(store, world->os, &governance, err); /* mints the node's keys */
    gov_close(governance);
    cal_secret seed = {{0}};
    uint8_t public_key[32];
    if (rc == 0) rc = node_network_key(store, world->os, &options->network, &seed, err);
    if (rc == 0 && ret_peer_id) {
        cal_sign_public_key(&seed, public_key);
        cal_peer_id_of_key(public_key, ret_peer_id);
    }
    cal_secret_wipe(&seed);
    cal_store_close(store);
    return rc;
}

int cal_node_init(const cal_node_options *options, cal_peer_id *ret_peer_id, cal_error *err) {
    node_world home;
    node_real_home(&home);
    return node_init_in(&home, options, ret_peer_id, err);
}

/* --- start --- */

static int open_engine(cal_node *node, cal_error *err) {
    const cal_node_options *options = &node->options;
    cal_vm_limits limits = {.max_gas = options->max_gas,
                            .max_logs = options->max_logs,
                            .max_log_size = options->max_log_size};
    node->vm = node->world->engine;
    return node->vm ? 0 : cal_vm_new(node->os, &limits, &node->vm, err);
}

static uint32_t guest_deadline_ms(const cal_node *node) {
    if (node->world->stepped) return 0;
    return node->options.call_deadline_ms ? node->options.call_deadline_ms : CAL_CALL_DEADLINE_MS;
}

static int open_modules(cal_node *node, cal_error *err) {
    const cal_node_options *options = &node->options;
    int rc = node_open_store(node->world, options, &node->store, err);
    if (rc == 0) rc = node_removals_recover(node->store, err);
    if (rc == 0 && !options->read_only && (rc = sync_staging_clear(node->store)) != 0)
        cal_fail(err, rc, "what a transfer left cannot be cleared: %s", cal_error_text(rc));
    if (rc == 0) rc = open_engine(node, err);
    if (rc == 0) rc = gov_open(node->store, node->os, &node->gov, err);
    if (rc == 0) rc = cal_blobs_open(node->store, node->os, &node->blobs, err);
    if (rc != 0) return rc;
    node->committer = (gov_committer){node->gov, node->store, cal_node_runner(node)};
    rc = node_left_open(node);
    if (rc != 0) return cal_fail(err, rc, "the contexts that were left cannot be read");
    node_lend(node);
    cal_contexts_options contexts = {
        .os = node->os,
        .store = node->store,
        .vm = node->vm,
        .runner = cal_node_runner(node),
        .code = &node->app_blobs,
        .blobs = &node->vm_blobs,
        .authority = node_authority(node),
        .event = node_event,
        .event_user = node,
        .authored = node_share_authored,
        .authored_user = node,
        .deadline_ms = guest_deadline_ms(node),
        .memory_max = options->guest_memory_max ? options->guest_memory_max : CAL_GUEST_MEMORY_MAX,
        .read_only = options->read_only,
    };
    rc = cal_contexts_new(&contexts, &node->contexts);
    return rc == 0 ? 0 : cal_fail(err, rc, "the node could not start: %s", cal_error_text(rc));
}

static void close_modules(cal_node *node) {
    node_blobs_free(node);
    cal_sync_free(node->sync);
    cal_contexts_free(node->contexts);
    cal_blobs_close(node->blobs);
    gov_close(node->gov);
    if (!node->world->engine) cal_vm_free(node->vm);
    cal_store_close(node->store);
}

static void tick(void *user) {
    cal_node *node = user;
    cal_sync_tick(node->sync);
    node_debts_tick(node);
    node_watch_tick(node);
    node_code_tick(node);
    node_compact_tick(node);
    if (++node->ticks < NODE_HOUSEKEEPING_MS / NODE_TICK_MS) return;
    node->ticks = 0;
    if (cal_blobs_garbage(node->blobs)) node_collect(node);
    if (node->removal_failed) node_remove(node);
    node_purges_retry(node);
}

static void begin(void *user) { /* what a crash left */
    node_collect(user);
    node_remove(user);
}

static void free_node(cal_node *node) {
    close_modules(node);
    node_left_close(node);
    node_compact_close(node);
    node->world->free(node->world->user);
    free(node->home);
    free(node);
}

static cal_node *new_node(const node_world *world, const cal_node_options *options) {
    cal_node *node = calloc(1, sizeof *node);
    if (!node) return NULL;
    node->world = world;
    node->options = *options;
    node->os = world->os;
    cal_list_init(&node->subscriptions);
    cal_list_init(&node->claims);
    cal_list_init(&node->purges);
    cal_list_init(&node->new_rows);
    cal_map_init(&node->code.wanted, cal_random_seed(node->os));
    cal_list_init(&node->code.gets);
    cal_list_init(&node->code.announced);
    cal_list_init(&node->watches);
    cal_map_init(&node->left, cal_random_seed(node->os));
    node->home = options->home ? strdup(options->home) : NULL;
    node->options.home = node->home;
    return node;
}

int node_start_in(const node_world *world, const cal_node_options *options, cal_node **ret_node,
                  cal_error *err) {
    cal_node *node = new_node(world, options);
    if (!node) {
        world->free(world->user);
        return cal_fail(err, CAL_ENOMEM, "out of memory while starting the node");
    }
    int rc = open_modules(node, err);
    if (rc == 0) rc = node_compact_open(node, err);
    node->options.key.text = NULL; /* the caller's, and perhaps a secret */
    if (rc == 0) {
        world->every(world->user, NODE_TICK_MS, tick, node);
        rc = node_network_open(node, err);
    }
    node->options.network = (cal_network_options){0}; /* the caller's texts */
    if (rc == 0) {
        rc = world->run(world->user, worker_count(world, options), begin, node);
        if (rc != 0) cal_fail(err, rc, "the node's threads could not be started");
    }
    if (rc != 0) {
        node_network_free(node);
        free_node(node);
        return rc;
    }
    *ret_node = node;
    return 0;
}

int cal_node_start(const cal_node_options *options, cal_node **ret_node, cal_error *err) {
    const node_world *world;
    int rc = node_real_new(&world, err);
    return rc == 0 ? node_start_in(world, options, ret_node, err) : rc;
}

/* --- stop: parts, then calls, then the loop --- */

int cal_node_attach(cal_node *node, const cal_node_part *part) {
    if (node->part_count == NODE_PARTS_MAX || node->stopping) return CAL_ELIMIT;
    node->parts[node->part_count++] = *part;
    return 0;
}

void cal_node_detach(cal_node *node, void *user) {
    for (size_t i = 0; i < node->part_count; i++) {
        if (node->parts[i].user != user) continue;
        node->parts[i] = node->parts[--node->part_count];
        return;
    }
}

static void end_if_done(cal_node *node) {
    if (node->stopping && node->stops_pending == 0 && node->operations == 0)
        node->world->end(node->world->user);
}

void node_end(cal_node *node) {
    node->operations--;
    end_if_done(node);
}

static void stop_finished(void *user) {
    cal_node *node = user;
    node->stops_pending--;
    end_if_done(node);
}

static void begin_stop(cal_task *task) {
    cal_node *node = CAL_CONTAINER_OF(task, cal_node, stop);
    node->stopping = true;
    node->stops_pending = (uint32_t)node->part_count + 4;
    cal_node_part parts[NODE_PARTS_MAX];
    size_t count = node->part_count;
    memcpy(parts, node->parts, sizeof parts);
    for (size_t i = 0; i < count; i++) parts[i].stop(parts[i].user, stop_finished, node);
    cal_contexts_drain(node->contexts, stop_finished, node);
    cal_sync_drain(node->sync, stop_finished, node);
    node_blobs_close(node, stop_finished, node); /* before the host */
    node_network_close(node, stop_finished, node);
    node_purges_stop(node);
}

void cal_node_stop(cal_node *node) {
    if (!node) return;
    node->stop.run = begin_stop;
    node_post(node, &node->stop);
    node->world->join(node->world->user);
    node_events_close(node);
    node_watch_close(node);
    free_node(node);
}

/* --- figures --- */

struct stats_request {
    cal_node *node;
    cal_node_stats *stats;
};

static void gather_stats(void *arg) {
    struct stats_request *request = arg;
    cal_contexts_stats calls;
    cal_store_stats store;
    cal_contexts_stats_get(request->node->contexts, &calls);
    cal_store_stats_get(request->node->store, &store);
    node_turns turns = {0};
    const node_world *world = request->node->world;
    if (world->turns) world->turns(world->user, &turns);
    *request->stats = (cal_node_stats){
        .calls = calls.calls,
        .calls_failed = calls.failed,
        .calls_waiting = calls.waiting,
        .calls_refused = calls.refused,
        .call_ns_total = calls.call_ns,
        .guest_gas_total = calls.gas,
        .deltas_compacted = calls.compacted,
        .modules_loaded = calls.modules_loaded,
        .modules_compiled = calls.modules_compiled,
        .store_batches = store.batches,
        .store_transactions = store.transactions,
        .store_flush_ns_total = store.flush_ns_total,
        .store_bytes = store.bytes,
        .store_damaged = store.damaged,
        .store_failed = store.failed,
        .events = request->node->events,
        .loop_turns = turns.turns,
        .loop_busy_ns_total = turns.busy_ns,
        .loop_late = turns.late,
        .loop_late_by_itself = turns.late_by_itself,
        .loop_longest_ns = turns.longest_ns,
        .loop_longest_processor_ns = turns.longest_processor_ns,
    };
}

void cal_node_stats_get(cal_node *node, cal_node_stats *ret_stats) {
    struct stats_request request = {node, ret_stats};
    cal_node_run(node, gather_stats, &request);
}
