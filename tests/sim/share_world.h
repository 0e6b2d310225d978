/* Production nodes in the simulated world that share namespaces: what its tests have in common. */
#ifndef CAL_TESTS_SHARE_WORLD_H
#define CAL_TESTS_SHARE_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <calimero/calimero.h>

#include "node/sim/sim.h"
#include "support/engine_signals.h"

enum { PLACES_MAX = 20, TEXT_MAX = 16384 };
#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)
#define WITHIN (180 * SECOND)

typedef struct place {
    struct world *world;
    size_t index;
    node_sim_place *sim;
    cal_peer_id id;
} place;

typedef struct world {
    uint64_t seed, random;
    node_sim *sim;
    place places[PLACES_MAX];
    size_t count;
} world;

static const char *app_path;
static cal_vm *engine;
static cal_sim *images[PLACES_MAX]; /* homes with the application installed */
static cal_sim *bare[PLACES_MAX];   /* homes without it */
static cal_application_id application;
static cal_error err;
static world now; /* too large for the stack */
static cal_compaction_options compaction; /* of all places that are started from now on */

#define CHECK(w, condition, ...)                                                                   \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            print_error("seed %llu, at %.6f s: ", (unsigned long long)(w)->seed,                   \
                        (double)net_sim_now(node_sim_net((w)->sim)) / 1e9);                        \
            print_error(__VA_ARGS__);                                                              \
            print_error("\nrepeat with CAL_SIM_SEED=%llu\n", (unsigned long long)(w)->seed);       \
            fail();                                                                                \
        }                                                                                          \
    } while (0)
#define OK(w, call)                                                                                \
    do {                                                                                           \
        err.message[0] = 0;                                                                        \
        int code_ = (call);                                                                        \
        CHECK(w, code_ == 0, "%s: %s: %s", #call, cal_error_name(code_), err.message);             \
    } while (0)

/* The test's own choices: not the simulation's sequence, so that neither disturbs the other. */
static inline uint64_t below(world *w, uint64_t bound) {
    w->random += 0x9e3779b97f4a7c15u;
    uint64_t z = w->random;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % bound;
}

static inline cal_node *node_at(place *p) { return node_sim_node(p->sim); }

static inline void wait_for(world *w, bool (*done)(void *user), void *user, const char *what) {
    int rc = node_sim_run(w->sim, WITHIN, done, user);
    CHECK(w, rc == 0, "%s: %s", what, cal_error_name(rc));
}

static inline void place_start(place *p) {
    static const char *const listen[] = {"/ip4/0.0.0.0/tcp/2428"};
    static const char *const boot[] = {"/ip4/10.0.0.1/tcp/2428"};
    cal_node_options options = {
        .network = {.listen = listen, .listen_count = 1, .bootstrap = boot}};
    options.network.bootstrap_count = p->index > 0;
    options.compaction = compaction;
    cal_sim *disk = node_sim_disk(p->sim);
    if (cal_sim_is_off(disk)) cal_sim_power_on(disk, CAL_SIM_TEAR);
    cal_sim_power_off_at(disk, 0, 0);
    cal_sim_fail(disk, 0, 0, 0, 0);
    cal_sim_quota(disk, UINT64_MAX);
    OK(p->world, node_sim_start(p->sim, &options, &err));
    cal_node_peer_id(node_at(p), &p->id);
}

/* with_app: how many of the places, the first ones, have the application. */
static inline void world_open(world *w, uint64_t seed, size_t count, size_t with_app) {
    *w = (world){.seed = seed, .random = seed, .count = count};
    const node_sim_options options = {
        .net = {.path = {.delay_ns = 5 * MS, .jitter_ns = 2 * MS, .loss_ppm = 1000}},
        .engine = engine};
    assert_int_equal(node_sim_new(seed, &options, &w->sim), 0);
    for (size_t i = 0; i < count; i++) {
        char address[32];
        place *p = &w->places[i];
        p->world = w;
        p->index = i;
        snprintf(address, sizeof address, "10.0.0.%zu", i + 1);
        OK(w,
           node_sim_place_new(w->sim, address, i < with_app ? images[i] : bare[i], &p->sim, &err));
        place_start(p);
    }
}

static inline void world_close(world *w) {
    for (size_t i = 0; i < w->count; i++)
        if (!node_sim_is_off(w->places[i].sim)) node_sim_stop(w->places[i].sim);
    node_sim_free(w->sim);
    w->sim = NULL;
}

/* --- what people do --- */

typedef struct invited {
    bool here;
    int code;
    char *json;
} invited;
static inline void note_invitation(void *user, const cal_group_id *group, const char *name,
                                   const char *json) {
    (void)group, (void)name;
    snprintf(((invited *)user)->json, TEXT_MAX, "%s", json);
}
static inline void note_invited(void *user, const cal_error *e) {
    invited *i = user;
    i->here = true;
    i->code = e ? e->code : 0;
}
static inline bool is_invited(void *user) { return ((invited *)user)->here; }

static inline void invite(place *p, const cal_group_id *ns, char ret_json[TEXT_MAX]) {
    invited i = {.json = ret_json};
    cal_namespace_invite(node_at(p), ns, 0, false, note_invitation, note_invited, &i);
    wait_for(p->world, is_invited, &i, "an invitation");
    CHECK(p->world, i.code == 0, "an invitation is refused: %s", cal_error_name(i.code));
}

typedef struct output {
    int status;
    char text[4096];
} output;
static inline void note_output(void *user, const cal_call_result *result) {
    output *o = user;
    o->status = (int)result->status;
    snprintf(o->text, sizeof o->text, "%.*s", (int)result->output_len,
             result->output ? (const char *)result->output : result->message);
}
static inline int call(place *p, const cal_context_id *context, const char *method,
                       const char *args, output *ret_output) {
    return cal_execute_wait(node_at(p), context, method, args, strlen(args), note_output,
                            ret_output, &err);
}
static inline void set(place *p, const cal_context_id *context, const char *key,
                       const char *value) {
    char args[256];
    output o;
    snprintf(args, sizeof args, "{\"key\":\"%s\",\"value\":\"%s\"}", key, value);
    OK(p->world, call(p, context, "set", args, &o));
}
static inline bool holds(place *p, const cal_context_id *context, const char *key,
                         const char *value) {
    char args[128], wanted[256];
    output o = {0};
    snprintf(args, sizeof args, "{\"key\":\"%s\"}", key);
    snprintf(wanted, sizeof wanted, "\"%s\"", value);
    return call(p, context, "get", args, &o) == 0 && strcmp(o.text, wanted) == 0;
}

static inline void note_root(void *user, const cal_context_info *info) {
    *(cal_hash *)user = info->root;
}
static inline bool root_of(place *p, const cal_context_id *context, cal_hash *ret_root) {
    return cal_context_get(node_at(p), context, note_root, ret_root) == 0;
}

/* --- images --- */

static inline int make_images(void **state) {
    (void)state;
    node_sim *maker;
    node_sim_place *spot;
    cal_buffer bytes;
    cal_log_set_level(getenv("CAL_SIM_LOG") ? CAL_LOG_DEBUG : CAL_LOG_ERROR);
    assert_int_equal(cal_vm_new(cal_os_posix(), &(cal_vm_limits){0}, &engine, &err), 0);
    engine_signals_learn();
    const node_sim_options options = {.engine = engine};
    assert_int_equal(node_sim_new(0, &options, &maker), 0);
    if (node_sim_place_new(maker, "10.0.0.1", NULL, &spot, &err)) fail_msg("%s", err.message);
    cal_sim *installed = node_sim_disk(spot);
    cal_buffer_init(&bytes, 1 << 24);
    if (cal_os_read_file(cal_os_posix(), app_path, 1 << 24, &bytes, &err) ||
        cal_os_write_file(cal_sim_os(installed), "/kv-store.wasm", cal_buffer_slice(&bytes), &err))
        fail_msg("%s", err.message);
    cal_buffer_deinit(&bytes);
    const cal_node_options quiet = {0};
    if (node_sim_start(spot, &quiet, &err) ||
        cal_install_file_wait(node_sim_node(spot), "/kv-store.wasm", NULL, &application, &err))
        fail_msg("%s", err.message);
    node_sim_stop(spot);
    for (size_t i = 0; i < PLACES_MAX; i++)
        if (node_sim_home_new(100 + i, &images[i], &err) ||
            node_sim_home_new(100 + i, &bare[i], &err) ||
            node_sim_home_install(images[i], installed, &err))
            fail_msg("%s", err.message);
    node_sim_free(maker);
    return 0;
}

static inline int free_images(void **state) {
    (void)state;
    for (size_t i = 0; i < PLACES_MAX; i++) {
        cal_sim_free(images[i]);
        cal_sim_free(bare[i]);
    }
    cal_vm_free(engine);
    return 0;
}

#endif
