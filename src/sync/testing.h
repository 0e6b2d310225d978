/* For the tests of sync: a few machines on the simulated network, each with a host, a store that
 * commits in steps, blobs and a runner; one thread, virtual time. */
#ifndef CAL_SYNC_TESTING_H
#define CAL_SYNC_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/task.h"
#include "blob/blob.h"
#include "net/sim/sim.h"
#include "store/key.h"

#define TESTING_MS UINT64_C(1000000)
#define TESTING_SECOND (1000 * TESTING_MS)

enum { TESTING_NODES_MAX = 4 };

typedef struct testing_node {
    struct testing_world *in;
    cal_sim *world;
    net_sim_machine *machine;
    cal_p2p *host;
    cal_peer_id id;
    char address[64];
    cal_store_options options;
    cal_store *store;
    cal_blobs *blobs;
    cal_runner runner;
    bool stepping;
} testing_node;

typedef struct testing_world {
    cal_sim *world;
    net_sim *net;
    testing_node nodes[TESTING_NODES_MAX];
    int count;
} testing_world;

static cal_key_source testing_key = {CAL_KEY_FILE, "/s/key"};

static void testing_run_task(void *user) {
    cal_task *task = user;
    task->run(task);
}
static void testing_on_loop(void *user, cal_task *task) {
    testing_node *n = user;
    net_sim_at(n->in->net, net_sim_now(n->in->net), testing_run_task, task);
}
static void testing_on_worker(void *user, cal_task *task) {
    testing_node *n = user;
    net_sim_at(n->in->net, net_sim_now(n->in->net) + TESTING_MS, testing_run_task, task);
}

static void testing_store_step(void *user) {
    testing_node *n = user;
    n->stepping = false;
    if (!n->store || !cal_store_step(n->store)) return;
    n->stepping = true;
    net_sim_at(n->in->net, net_sim_now(n->in->net) + TESTING_MS, testing_store_step, n);
}
static void testing_store_due(void *user) {
    testing_node *n = user;
    if (n->stepping) return;
    n->stepping = true;
    net_sim_at(n->in->net, net_sim_now(n->in->net) + TESTING_MS, testing_store_step, n);
}

static inline void testing_node_begin(testing_world *w, int i) {
    testing_node *n = &w->nodes[i];
    char at[32];
    const char *listen[] = {at};
    uint8_t seed[32] = {(uint8_t)(i + 1)};
    n->in = w;
    n->world = cal_sim_new(100 + (uint64_t)i);
    assert_int_equal(net_sim_machine_new(w->net, n->world, &n->machine), 0);
    snprintf(at, sizeof at, "10.0.0.%d", i + 1);
    assert_int_equal(net_sim_address_add(n->machine, at), 0);
    snprintf(n->address, sizeof n->address, "/ip4/10.0.0.%d/tcp/2428", i + 1);
    snprintf(at, sizeof at, "/ip4/0.0.0.0/tcp/2428");
    cal_p2p_options options = {.seed = seed, .listen = listen, .listen_count = 1};
    options.limits.idle_timeout_ms = 3600 * 1000; /* nodes stay connected by their gossip */
    net_transport *transport = net_sim_start(n->machine);
    assert_int_equal(net_host_new(&options, transport, net_sim_os(n->machine), &n->host, NULL), 0);
    cal_p2p_id(n->host, &n->id);
    const cal_os *os = cal_sim_os(n->world);
    os->make_dir(os->user, "/s");
    n->options = (cal_store_options){.os = os,
                                     .folder = "/s",
                                     .key = &testing_key,
                                     .stepped = true,
                                     .due = testing_store_due,
                                     .due_user = n};
    assert_int_equal(cal_store_create(&n->options, NULL), 0);
    assert_int_equal(cal_store_open(&n->options, &n->store, NULL), 0);
    assert_int_equal(cal_blobs_open(n->store, os, &n->blobs, NULL), 0);
    n->runner = (cal_runner){n, testing_on_loop, testing_on_worker};
}

static inline void testing_host_end(testing_node *n) {
    if (!n->host) return;
    net_sim_hang_up(n->machine);
    net_host_free(n->host);
    n->host = NULL;
}

/* Runs until `done` holds, no longer than so many virtual seconds. */
static inline bool testing_until(testing_world *w, uint64_t seconds, bool (*done)(void *user),
                                 void *user) {
    return net_sim_run(w->net, net_sim_now(w->net) + seconds * TESTING_SECOND, done, user) == 0;
}
static inline void testing_pass(testing_world *w, uint64_t ns) {
    net_sim_run(w->net, net_sim_now(w->net) + ns, NULL, NULL);
}

static inline void testing_connect(testing_world *w, int from, int to) {
    cal_multiaddr address;
    assert_int_equal(cal_multiaddr_parse(w->nodes[to].address, &address), 0);
    cal_p2p_connect(w->nodes[from].host, NULL, &address, 1, NULL, NULL);
    testing_pass(w, TESTING_SECOND);
    assert_true(cal_p2p_is_connected(w->nodes[from].host, &w->nodes[to].id));
}

/* `count` machines, the first connected to all others. */
static inline void testing_world_begin(testing_world *w, int count) {
    net_sim_options options = {.path = {.delay_ns = TESTING_MS, .bytes_per_s = 50 * 1000 * 1000}};
    memset(w, 0, sizeof *w);
    w->world = cal_sim_new(7);
    w->count = count;
    assert_int_equal(net_sim_new(&options, w->world, &w->net), 0);
    for (int i = 0; i < count; i++) testing_node_begin(w, i);
    for (int i = 1; i < count; i++) testing_connect(w, 0, i);
}

static inline void testing_world_end(testing_world *w) {
    for (int i = 0; i < w->count; i++) testing_host_end(&w->nodes[i]);
    testing_pass(w, TESTING_SECOND); /* what hosts told their owners at the end */
    for (int i = 0; i < w->count; i++) {
        cal_blobs_close(w->nodes[i].blobs);
        cal_store_close(w->nodes[i].store);
        w->nodes[i].store = NULL;
    }
    testing_pass(w, TESTING_SECOND);
    net_sim_free(w->net);
    for (int i = 0; i < w->count; i++) cal_sim_free(w->nodes[i].world);
    cal_sim_free(w->world);
}

#endif
