/* Production nodes in the simulated world: many in one process, with real guests, on disks that
 * lose power in the middle of everything.
 *
 * Each place has a namespace and a context of the kv-store, and clients that write to it, several
 * at once. A model keeps what was asked, answered and refused. After each loss of power the context
 * must be as it was after some write of the order of asking: not before one that was answered, and
 * without any that was refused. Meanwhile the nodes find each other by a boot node's address and
 * hear each other's topics. A failing run prints its seed: CAL_SIM_SEED repeats it, CAL_SIM_SEEDS
 * says how many are run. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <calimero/calimero.h>

#include "node/sim/sim.h"
#include "seeds.h"
#include "support/engine_signals.h"

enum { PLACES_MAX = 20, KEYS = 6, WRITES_MAX = 600, IN_FLIGHT_MAX = 6 };
#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)
#define WITHIN (120 * SECOND)

static const char *app_path;
static cal_vm *engine;
static cal_sim *images[PLACES_MAX];
static cal_application_id application;
static const char topic[] = "sim/all";

/* --- one run --- */

typedef enum fate { ASKED, DONE, REFUSED, LOST } fate;

struct run;
typedef struct place {
    struct run *run;
    size_t index;
    node_sim_place *sim;
    cal_peer_id id;
    cal_group_id ns;
    cal_context_id context;
    /* writes in the order of asking; number n writes n to its key */
    struct {
        uint8_t key;
        fate fate;
    } writes[WRITES_MAX];
    size_t write_count, in_flight;
    bool reading; /* clients wait */
    uint64_t refused;
} place;

typedef struct run {
    uint64_t seed, random;
    node_sim *sim;
    place places[PLACES_MAX];
    size_t count;
    bool busy; /* clients write */
    uint64_t answers, cuts;
} run;

enum { OTHERS_MAX = 4 };
typedef enum other_state { OTHER_NONE, OTHER_COMING, OTHER_THERE, OTHER_GOING } other_state;
typedef struct other {
    place *place;
    other_state state;
    bool is_namespace;
    uint8_t id[CAL_ID_SIZE];
} other;

static other others[PLACES_MAX][OTHERS_MAX];

static cal_error err;

#define CHECK(r, condition, ...)                                                                   \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            print_error("seed %llu, at %.6f s: ", (unsigned long long)(r)->seed,                   \
                        (double)net_sim_now(node_sim_net((r)->sim)) / 1e9);                        \
            print_error(__VA_ARGS__);                                                              \
            print_error("\nrepeat with CAL_SIM_SEED=%llu\n", (unsigned long long)(r)->seed);       \
            fail();                                                                                \
        }                                                                                          \
    } while (0)
#define OK(r, call)                                                                                \
    do {                                                                                           \
        err.message[0] = 0;                                                                        \
        int code_ = (call);                                                                        \
        CHECK(r, code_ == 0, "%s: %s: %s", #call, cal_error_name(code_), err.message);             \
    } while (0)

/* The test's own choices: not the simulation's sequence, so that neither disturbs the other. */
static uint64_t below(run *r, uint64_t bound) {
    r->random += 0x9e3779b97f4a7c15u;
    uint64_t z = r->random;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % bound;
}

static cal_node *node_of(place *p) { return node_sim_node(p->sim); }
static void wait_for(run *r, bool (*done)(void *user), void *user, const char *what) {
    int rc = node_sim_run(r->sim, WITHIN, done, user);
    CHECK(r, rc == 0, "%s: %s", what, cal_error_name(rc));
}

static void place_start(place *p) {
    static const char *const listen[] = {"/ip4/0.0.0.0/tcp/2428"};
    static const char *const boot[] = {"/ip4/10.0.0.1/tcp/2428"};
    cal_node_options options = {
        .network = {.listen = listen, .listen_count = 1, .bootstrap = boot}};
    options.network.bootstrap_count = p->index > 0;
    cal_sim *disk = node_sim_disk(p->sim);
    if (cal_sim_is_off(disk)) cal_sim_power_on(disk, CAL_SIM_TEAR);
    cal_sim_power_off_at(disk, 0, 0);
    cal_sim_fail(disk, 0, 0, 0, 0);
    cal_sim_quota(disk, UINT64_MAX);
    OK(p->run, node_sim_start(p->sim, &options, &err));
    cal_node_peer_id(node_of(p), &p->id);
}

static void run_open(run *r, uint64_t seed, size_t count) {
    *r = (run){.seed = seed, .random = seed, .count = count};
    const node_sim_options options = {
        .net = {.path = {.delay_ns = 5 * MS, .jitter_ns = 2 * MS, .loss_ppm = 1000}},
        .engine = engine};
    assert_int_equal(node_sim_new(seed, &options, &r->sim), 0);
    for (size_t i = 0; i < count; i++) {
        char address[32];
        place *p = &r->places[i];
        p->run = r;
        p->index = i;
        for (int k = 0; k < OTHERS_MAX; k++) others[i][k] = (other){.place = p};
        snprintf(address, sizeof address, "10.0.0.%zu", i + 1);
        OK(r, node_sim_place_new(r->sim, address, images[i], &p->sim, &err));
        place_start(p);
    }
}

/* --- the network --- */

static bool all_connected(void *user) {
    run *r = user;
    for (size_t i = 1; i < r->count; i++) {
        place *p = &r->places[i];
        if (!cal_p2p_is_connected(cal_node_p2p(node_of(p)), &r->places[0].id) ||
            !cal_p2p_is_connected(cal_node_p2p(node_of(&r->places[0])), &p->id))
            return false;
    }
    return true;
}

typedef struct audience {
    const char *topic;
    size_t peers;
    bool heard;
} audience;

static void note_topic(void *user, const char *name, size_t peers, size_t mesh) {
    audience *a = user;
    (void)mesh;
    if (strcmp(name, a->topic) != 0) return;
    a->peers = peers;
    a->heard = true;
}

static bool all_subscribed(void *user) {
    run *r = user;
    for (size_t i = 0; i < r->count; i++) {
        audience a = {.topic = topic};
        cal_p2p_topics(cal_node_p2p(node_of(&r->places[i])), note_topic, &a);
        if (a.peers == 0) return false;
    }
    return true;
}

static uint64_t delivered(place *p) {
    cal_p2p_gossip_stats stats;
    assert_int_equal(cal_p2p_gossip_stats_get(cal_node_p2p(node_of(p)), &stats), 0);
    return stats.delivered;
}

static bool all_heard(void *user) {
    run *r = user;
    for (size_t i = 0; i < r->count; i++)
        if (delivered(&r->places[i]) < r->count - 1) return false;
    return true;
}

static void subscribe(void *arg) {
    place *p = arg;
    OK(p->run, cal_p2p_subscribe(cal_node_p2p(node_of(p)), topic, false, &err));
}
static void publish(void *arg) {
    place *p = arg;
    size_t peers;
    char words[32];
    snprintf(words, sizeof words, "from %zu", p->index);
    OK(p->run,
       cal_p2p_publish(cal_node_p2p(node_of(p)), topic, words, strlen(words), &peers, &err));
}

/* As over sockets (network_test): each says something that all hear, once. */
static void hear_each_other(run *r) {
    wait_for(r, all_connected, r, "the nodes do not find each other");
    for (size_t i = 0; i < r->count; i++)
        cal_node_run(node_of(&r->places[i]), subscribe, &r->places[i]);
    wait_for(r, all_subscribed, r, "a topic is not heard");
    node_sim_run(r->sim, 3 * SECOND, NULL, NULL); /* meshes */
    for (size_t i = 0; i < r->count; i++)
        cal_node_run(node_of(&r->places[i]), publish, &r->places[i]);
    wait_for(r, all_heard, r, "a message is not heard by all");
}

/* The node hears the topic of its namespace. */
static void hears_its_namespace(place *p) {
    char name[3 + 2 * CAL_ID_SIZE + 1] = "ns/";
    for (size_t i = 0; i < CAL_ID_SIZE; i++) snprintf(name + 3 + 2 * i, 3, "%02x", p->ns.bytes[i]);
    audience a = {.topic = name};
    cal_p2p_topics(cal_node_p2p(node_of(p)), note_topic, &a);
    CHECK(p->run, a.heard, "place %zu does not hear its namespace", p->index);
}

/* --- clients --- */

static void place_create(place *p) {
    run *r = p->run;
    OK(r, cal_namespace_create_wait(node_of(p), &application, "test", &p->ns, &err));
    cal_context_create_options create = {.application = application, .group = p->ns};
    cal_context_created created;
    OK(r, cal_context_create_wait(node_of(p), &create, &created, &err));
    p->context = created.id;
}

typedef struct asked {
    place *place;
    size_t number;
} asked;

static void do_something_else(place *p);

static void answered(void *user, const cal_call_result *result) {
    asked *a = user;
    place *p = a->place;
    bool off = node_sim_is_off(p->sim); /* nobody is there to hear it */
    p->in_flight--;
    if (!off && p->writes[a->number].fate == ASKED) {
        p->writes[a->number].fate = result->error == 0 ? DONE : REFUSED;
        p->refused += result->error != 0;
        p->run->answers++;
        net_sim_note(node_sim_net(p->run->sim), a->number * 2 + (result->error != 0));
    }
    free(a);
}

static void write_one(place *p) {
    asked *a = malloc(sizeof *a);
    char args[100];
    assert_non_null(a);
    *a = (asked){p, p->write_count++};
    unsigned key = (unsigned)below(p->run, KEYS);
    p->writes[a->number].key = (uint8_t)key;
    p->writes[a->number].fate = ASKED;
    p->in_flight++;
    snprintf(args, sizeof args, "{\"key\":\"k%u\",\"value\":\"%zu\"}", key, a->number);
    cal_execute(node_of(p), &p->context, "set", args, strlen(args), answered, a);
}

/* Writes now and then, sometimes several at once. */
static void client(void *user) {
    place *p = user;
    run *r = p->run;
    if (!r->busy) return;
    uint64_t burst = 1 + below(r, 3);
    while (!node_sim_is_off(p->sim) && !p->reading && burst-- > 0 && p->in_flight < IN_FLIGHT_MAX &&
           p->write_count < WRITES_MAX)
        write_one(p);
    if (!node_sim_is_off(p->sim) && !p->reading && below(r, 6) == 0) do_something_else(p);
    net_sim *net = node_sim_net(r->sim);
    net_sim_at(net, net_sim_now(net) + 1 + below(r, 40 * MS), client, p);
}

/* --- what else goes on: contexts and namespaces that come and go, blobs, aliases --- */

static void other_came(other *o, const cal_error *e, const uint8_t *id) {
    if (node_sim_is_off(o->place->sim)) return;
    o->state = e ? OTHER_NONE : OTHER_THERE;
    if (!e) memcpy(o->id, id, CAL_ID_SIZE);
    net_sim_note(node_sim_net(o->place->run->sim), e ? (uint64_t)-e->code : 1000);
}
static void context_came(void *user, const cal_error *e, const cal_context_created *created) {
    other_came(user, e, created ? created->id.bytes : NULL);
}
static void namespace_came(void *user, const cal_error *e, const cal_group_id *id) {
    other_came(user, e, id ? id->bytes : NULL);
}
static void other_went(void *user, const cal_error *e) {
    other *o = user;
    if (node_sim_is_off(o->place->sim)) return;
    o->state = e ? OTHER_THERE : OTHER_NONE;
    net_sim_note(node_sim_net(o->place->run->sim), e ? (uint64_t)-e->code : 1001);
}
static void nothing_done(void *user, const cal_error *e) { (void)user, (void)e; }

static void change_other(other *o) {
    place *p = o->place;
    if (o->state == OTHER_THERE) {
        o->state = OTHER_GOING;
        if (o->is_namespace)
            cal_namespace_delete(node_of(p), (const cal_group_id *)o->id, other_went, o);
        else
            cal_context_delete(node_of(p), (const cal_context_id *)o->id, other_went, o);
    } else if (o->state == OTHER_NONE) {
        o->state = OTHER_COMING;
        o->is_namespace = below(p->run, 2);
        cal_context_create_options create = {.application = application, .group = p->ns};
        if (o->is_namespace)
            cal_namespace_create(node_of(p), &application, NULL, "other", namespace_came, o);
        else
            cal_context_create(node_of(p), &create, context_came, o);
    }
}

static void do_something_else(place *p) {
    run *r = p->run;
    uint8_t bytes[3000], id[CAL_ID_SIZE];
    cal_blob_id blob;
    char name[16];
    switch (below(r, 4)) {
    case 0:
        for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)below(r, 256);
        if (cal_blob_put_wait(node_of(p), bytes, 1 + below(r, sizeof bytes - 1), &blob, NULL) ==
                0 &&
            below(r, 2))
            cal_blob_delete(node_of(p), &blob, nothing_done, NULL);
        break;
    case 1:
        snprintf(name, sizeof name, "n%u", (unsigned)below(r, 10));
        memset(id, 7, sizeof id);
        if (below(r, 2))
            cal_alias_create(node_of(p), CAL_ALIAS_CONTEXT, name, id, nothing_done, NULL);
        else
            cal_alias_delete(node_of(p), CAL_ALIAS_CONTEXT, name, nothing_done, NULL);
        break;
    default:
        change_other(&others[p->index][below(r, OTHERS_MAX)]);
        break;
    }
}

static void no_visit(void *user, const cal_context_info *info) { (void)user, (void)info; }
static void no_namespace(void *user, const cal_namespace_info *info) { (void)user, (void)info; }

/* What was there and not asked to go is there; what was on its way came or not, whole. */
static void check_others(place *p) {
    p->reading = true;
    for (other *o = others[p->index]; o < others[p->index] + OTHERS_MAX; o++) {
        if (o->state == OTHER_THERE || o->state == OTHER_GOING) {
            int rc = o->is_namespace
                         ? cal_namespace_get(node_of(p), (cal_group_id *)o->id, no_namespace, NULL)
                         : cal_context_get(node_of(p), (cal_context_id *)o->id, no_visit, NULL);
            CHECK(p->run, rc == 0 || (rc == CAL_ENOTFOUND && o->state == OTHER_GOING),
                  "place %zu: a %s that was created answers %s", p->index,
                  o->is_namespace ? "namespace" : "context", cal_error_name(rc));
            o->state = rc == 0 ? OTHER_THERE : OTHER_NONE;
        } else {
            o->state = OTHER_NONE;
        }
    }
    p->reading = false;
}

/* --- what the context holds --- */

typedef struct contents {
    long values[KEYS]; /* -1: nothing */
} contents;

static void read_entries(void *user, const cal_call_result *result) {
    contents *c = user;
    char text[2000];
    snprintf(text, sizeof text, "%.*s", (int)result->output_len,
             result->output ? (const char *)result->output : "");
    for (int i = 0; i < KEYS; i++) {
        char name[16];
        snprintf(name, sizeof name, "\"k%d\":\"", i);
        const char *at = strstr(text, name);
        c->values[i] = at ? strtol(at + strlen(name), NULL, 10) : -1;
    }
}

/* What it must hold when the writes up to and with `last` took effect. */
static contents expected(const place *p, long last) {
    contents c;
    for (int i = 0; i < KEYS; i++) c.values[i] = -1;
    for (long n = 0; n <= last; n++)
        if (p->writes[n].fate == ASKED || p->writes[n].fate == DONE) c.values[p->writes[n].key] = n;
    return c;
}

/* After a restart: no answered write is lost, none that was refused or came behind one that is lost
 * is there. */
static void check_contents(place *p) {
    run *r = p->run;
    contents c;
    long last = -1;
    p->reading = true;
    OK(r, cal_execute_wait(node_of(p), &p->context, "entries", "{}", 2, read_entries, &c, &err));
    for (int i = 0; i < KEYS; i++) {
        CHECK(r, c.values[i] < (long)p->write_count, "place %zu holds what nobody wrote", p->index);
        if (c.values[i] > last) last = c.values[i];
    }
    for (long n = last + 1; n < (long)p->write_count; n++) {
        CHECK(r, p->writes[n].fate != DONE, "place %zu: write %ld of k%d was answered and is lost",
              p->index, n, p->writes[n].key);
        if (p->writes[n].fate == ASKED) p->writes[n].fate = LOST;
    }
    contents wanted = expected(p, last);
    for (int i = 0; i < KEYS; i++)
        CHECK(r, c.values[i] == wanted.values[i],
              "place %zu: k%d is of write %ld, and should be of %ld (last one there: %ld)",
              p->index, i, c.values[i], wanted.values[i], last);
    for (long n = 0; n <= last; n++)
        if (p->writes[n].fate == ASKED) p->writes[n].fate = DONE;
}

/* --- chaos --- */

static void cut_off(place *p) {
    static const cal_sim_survival survivals[] = {CAL_SIM_KEEP, CAL_SIM_DROP, CAL_SIM_TEAR};
    node_sim_cut_off(p->sim, survivals[below(p->run, 3)]);
    CHECK(p->run, p->in_flight == 0, "place %zu: %zu calls were never answered", p->index,
          p->in_flight);
    p->run->cuts++;
}

static bool power_went(void *user) {
    run *r = user;
    for (size_t i = 0; i < r->count; i++)
        if (!node_sim_is_off(r->places[i].sim) && cal_sim_is_off(node_sim_disk(r->places[i].sim)))
            return true;
    return false;
}

static void trouble(run *r) {
    place *p = &r->places[below(r, r->count)];
    cal_sim *disk = node_sim_disk(p->sim);
    if (node_sim_is_off(p->sim)) {
        place_start(p);
        check_contents(p);
        check_others(p);
        hears_its_namespace(p);
        return;
    }
    const cal_os *os = cal_sim_os(disk);
    net_sim *net = node_sim_net(r->sim);
    switch (below(r, 7)) {
    case 0: /* between two events */
        cut_off(p);
        break;
    case 1: /* in the middle of a transaction */
        cal_sim_power_off_at(disk, CAL_SIM_WRITE | CAL_SIM_SYNC, 1 + below(r, 20));
        break;
    case 2:
        cal_sim_fail(disk, CAL_SIM_WRITE | CAL_SIM_SYNC, 1 + below(r, 10), 1 + below(r, 3),
                     CAL_EIO);
        break;
    case 3: /* full for a while */
        cal_sim_quota(disk, cal_sim_used(disk) + below(r, 100000));
        break;
    case 4: /* the whole machine stands still */
        net_sim_freeze(node_sim_machine(p->sim), net_sim_now(net) + below(r, SECOND));
        break;
    case 5: /* its clock is set, back or forward */
        cal_sim_set_wall(disk, os->wall_ns(os->user) - 1800 * SECOND + below(r, 3600 * SECOND));
        break;
    default:
        cal_sim_quota(disk, UINT64_MAX);
        p->reading = true; /* nobody uses a node that is about to be freed */
        node_sim_stop(p->sim);
        p->reading = false;
        CHECK(r, p->in_flight == 0, "place %zu stopped without answering", p->index);
        break;
    }
}

static void live(run *r, unsigned troubles) {
    r->busy = true;
    for (size_t i = 0; i < r->count; i++) client(&r->places[i]);
    while (troubles-- > 0) {
        node_sim_run(r->sim, below(r, 100 * MS), power_went, r);
        for (size_t i = 0; i < r->count; i++)
            if (!node_sim_is_off(r->places[i].sim) &&
                cal_sim_is_off(node_sim_disk(r->places[i].sim)))
                cut_off(&r->places[i]);
        trouble(r);
    }
    r->busy = false;
}

/* Everything is answered, all is there, on disks without a flaw. */
static void settle(run *r) {
    for (size_t i = 0; i < r->count; i++) {
        place *p = &r->places[i];
        cal_sim *disk = node_sim_disk(p->sim);
        cal_sim_power_off_at(disk, 0, 0);
        cal_sim_fail(disk, 0, 0, 0, 0);
        cal_sim_quota(disk, UINT64_MAX);
        if (!node_sim_is_off(p->sim) && cal_sim_is_off(disk)) cut_off(p);
        if (node_sim_is_off(p->sim)) place_start(p);
    }
    node_sim_run(r->sim, 5 * SECOND, NULL, NULL);
    wait_for(r, all_connected, r, "the nodes do not find each other again");
    for (size_t i = 0; i < r->count; i++) {
        place *p = &r->places[i];
        CHECK(r, p->in_flight == 0, "place %zu: %zu calls are not answered", p->index,
              p->in_flight);
        check_contents(p);
        check_others(p);
        hears_its_namespace(p);
        node_sim_stop(p->sim);
    }
}

/* A blob that was being written when the power went leaves chunks to the collection of the next
 * start: no damage. */
static void report(void *user, const char *finding) {
    run *r = user;
    if (strstr(finding, "the next collection removes it")) return;
    CHECK(r, false, "the check finds: %s", finding);
}

static void check_disks(run *r) {
    for (size_t i = 0; i < r->count; i++) {
        int rc = node_sim_check(node_sim_disk(r->places[i].sim), report, r, &err);
        CHECK(r, rc == 0 || rc == CAL_ECORRUPT, "the check fails: %s", err.message);
    }
}

static uint64_t run_seed(run *r, uint64_t seed, size_t count, unsigned troubles) {
    run_open(r, seed, count);
    hear_each_other(r);
    for (size_t i = 0; i < count; i++) place_create(&r->places[i]);
    live(r, troubles);
    settle(r);
    check_disks(r);
    uint64_t trace = net_sim_trace(node_sim_net(r->sim));
    return trace;
}

/* --- figures --- */

static uint64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

static size_t thread_count(void) {
    DIR *tasks = opendir("/proc/self/task");
    size_t count = 0;
    assert_non_null(tasks);
    while (readdir(tasks)) count++;
    closedir(tasks);
    return count;
}

typedef struct totals {
    uint64_t cpu_ns, real_ns, virtual_ns, answers, cuts, refused;
    node_sim_stats tasks;
    size_t seeds;
} totals;

static run now; /* too large for the stack */

static uint64_t measured(uint64_t seed, size_t count, unsigned troubles, totals *t) {
    uint64_t cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID), real = clock_ns(CLOCK_MONOTONIC);
    uint64_t trace = run_seed(&now, seed, count, troubles);
    node_sim_stats tasks;
    node_sim_stats_get(now.sim, &tasks);
    t->virtual_ns += net_sim_now(node_sim_net(now.sim)) - SECOND;
    t->answers += now.answers;
    t->cuts += now.cuts;
    for (size_t i = 0; i < count; i++) t->refused += now.places[i].refused;
    t->tasks.posts += tasks.posts;
    t->tasks.works += tasks.works;
    t->tasks.steps += tasks.steps;
    node_sim_free(now.sim);
    now.sim = NULL;
    t->cpu_ns += clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    t->real_ns += clock_ns(CLOCK_MONOTONIC) - real;
    t->seeds++;
    return trace;
}

static void print_totals(const char *what, const totals *t) {
    double seeds = (double)t->seeds;
    print_message(
        "%s: %zu seeds, %.1f ms of processor a seed, %.1f virtual seconds a second of "
        "the processor's (%.1f a real one); %.0f writes answered (%.0f refused), %.0f "
        "cuts, %.0f loop tasks, %.0f worker tasks, %.0f store steps in all\n",
        what, t->seeds, (double)t->cpu_ns / 1e6 / seeds, (double)t->virtual_ns / (double)t->cpu_ns,
        (double)t->virtual_ns / (double)t->real_ns, (double)t->answers, (double)t->refused,
        (double)t->cuts, (double)t->tasks.posts, (double)t->tasks.works, (double)t->tasks.steps);
}

/* --- tests --- */

/* One seed of each `apart`; no thread is made. */
static void run_seeds(const char *what, size_t least, size_t more, unsigned troubles,
                      uint64_t apart) {
    engine_signals_use();
    totals t = {.seeds = 0};
    sim_seeds seeds = sim_seeds_from(100);
    size_t threads = thread_count();
    for (uint64_t seed = seeds.first; seed < seeds.end; seed += apart)
        measured(seed, least + seed % (more + 1), troubles, &t);
    assert_int_equal(thread_count(), threads);
    print_totals(what, &t);
}

static void two_nodes(void **state) {
    (void)state;
    run_seeds("2 to 4 nodes", 2, 2, 8, 1);
}

static void twenty_nodes(void **state) {
    (void)state;
    run_seeds("20 nodes", 20, 0, 40, 200);
}

static void the_same_seed_gives_the_same_run(void **state) {
    (void)state;
    engine_signals_use();
    totals t = {.seeds = 0};
    for (uint64_t seed = 1000; seed < 1003; seed++) {
        uint64_t first = measured(seed, 4, 20, &t), second = measured(seed, 4, 20, &t);
        print_message("seed %llu: trace %016llx\n", (unsigned long long)seed,
                      (unsigned long long)first);
        assert_int_equal(first, second);
    }
}

/* --- one node: a loss of power at every point --- */

typedef struct countdown {
    uint64_t left;
    place *place;
} countdown;

static bool all_answered(void *user) { return ((place *)user)->in_flight == 0; }

static bool counted(void *user) {
    countdown *c = user;
    return c->place->in_flight == 0 || c->left-- == 0;
}

/* Three writes at once; the power goes after so many events, or within the nth operation of the
 * disk. Returns whether that came before the answers. */
static bool cut_at(uint64_t seed, uint64_t events, uint64_t operations, cal_sim_survival survival) {
    run *r = &now;
    place *p = &r->places[0];
    run_open(r, seed, 1);
    place_create(p);
    check_contents(p);
    net_sim_note(node_sim_net(r->sim), events);
    if (operations)
        cal_sim_power_off_at(node_sim_disk(p->sim), CAL_SIM_WRITE | CAL_SIM_SYNC, operations);
    for (int i = 0; i < 3; i++) write_one(p);
    countdown c = {events, p};
    node_sim_run(r->sim, SECOND, operations ? power_went : counted, operations ? (void *)r : &c);
    bool before = p->in_flight > 0;
    node_sim_cut_off(p->sim, survival);
    place_start(p);
    check_contents(p);
    write_one(p);
    wait_for(r, all_answered, p, "a write after the restart");
    CHECK(r, p->writes[3].fate == DONE, "a write after the restart is refused");
    check_contents(p);
    node_sim_stop(p->sim);
    check_disks(r);
    node_sim_free(r->sim);
    r->sim = NULL;
    return before;
}

static void power_goes_at_every_event(void **state) {
    (void)state;
    engine_signals_use();
    uint64_t points = 0;
    for (int survival = CAL_SIM_KEEP; survival <= CAL_SIM_TEAR; survival++)
        for (uint64_t events = 0; cut_at(7, events, 0, (cal_sim_survival)survival); events++)
            points++;
    print_message("%llu points between events\n", (unsigned long long)points);
    assert_true(points >= 3 * 10);
}

static void power_goes_at_every_operation_of_the_disk(void **state) {
    (void)state;
    engine_signals_use();
    uint64_t points = 0;
    for (int survival = CAL_SIM_KEEP; survival <= CAL_SIM_TEAR; survival++)
        for (uint64_t nth = 1; cut_at(8, 0, nth, (cal_sim_survival)survival); nth++) points++;
    print_message("%llu points within transactions\n", (unsigned long long)points);
    assert_true(points >= 3 * 4);
}

/* An operation of the disk fails, the write is answered, and then the power goes: what was refused
 * is not there afterwards. Returns whether the disk still had something to fail. */
static bool fails_at(uint64_t nth, cal_sim_survival survival) {
    run *r = &now;
    place *p = &r->places[0];
    run_open(r, 9, 1);
    place_create(p);
    write_one(p);
    wait_for(r, all_answered, p, "a write");
    cal_sim *disk = node_sim_disk(p->sim);
    uint64_t before = cal_sim_count(disk, CAL_SIM_WRITE | CAL_SIM_SYNC);
    cal_sim_fail(disk, CAL_SIM_WRITE | CAL_SIM_SYNC, nth, 1, CAL_EIO);
    write_one(p);
    wait_for(r, all_answered, p, "a write to a disk that fails");
    bool failed = cal_sim_count(disk, CAL_SIM_WRITE | CAL_SIM_SYNC) - before >= nth;
    node_sim_cut_off(p->sim, survival);
    place_start(p);
    check_contents(p);
    node_sim_free(r->sim);
    r->sim = NULL;
    return failed;
}

static void what_the_disk_refused_is_not_there(void **state) {
    (void)state;
    engine_signals_use();
    uint64_t points = 0;
    for (int survival = CAL_SIM_KEEP; survival <= CAL_SIM_TEAR; survival++)
        for (uint64_t nth = 1; fails_at(nth, (cal_sim_survival)survival); nth++) points++;
    print_message("%llu operations that fail\n", (unsigned long long)points);
    assert_true(points >= 3 * 4);
}

static int named; /* 1: not answered yet */
static void naming_answered(void *user, const cal_error *e) {
    (void)user;
    named = e ? e->code : 0;
}
static bool naming_is_answered(void *user) { return (void)user, named != 1; }

static void a_name_that_was_not_stored_is_refused(void **state) {
    (void)state;
    engine_signals_use();
    run *r = &now;
    place *p = &r->places[0];
    uint8_t id[CAL_ID_SIZE] = {7};
    run_open(r, 10, 1);
    place_create(p);
    cal_sim *disk = node_sim_disk(p->sim);
    cal_sim_fail(disk, CAL_SIM_WRITE | CAL_SIM_SYNC, 1, UINT64_MAX, CAL_EFULL);
    named = 1;
    cal_alias_create(node_of(p), CAL_ALIAS_CONTEXT, "lost", id, naming_answered, NULL);
    wait_for(r, naming_is_answered, NULL, "a name on a full disk");
    assert_int_not_equal(named, 0);
    cal_sim_fail(disk, 0, 0, 0, 0);
    node_sim_stop(p->sim);
    place_start(p);
    assert_int_equal(cal_alias_lookup(node_of(p), CAL_ALIAS_CONTEXT, "lost", id), CAL_ENOTFOUND);
    node_sim_free(r->sim);
    r->sim = NULL;
}

/* --- deleting a namespace --- */

static int purged; /* 1: not answered yet */
static void purge_answered(void *user, const cal_error *e) {
    if (!node_sim_is_off(((place *)user)->sim)) purged = e ? e->code : 0;
}
static bool purge_is_answered(void *user) { return (void)user, purged != 1; }

static void count_contexts(void *user, const cal_context_info *info) {
    (void)info;
    ++*(size_t *)user;
}

/* From the nth operation on the disk refuses everything, or the power goes there, while a namespace
 * of many contexts is deleted; then a stop, which waits for no disk, and another start. What was
 * decided is completed and nothing else is touched. Returns whether it came so far. */
static bool purge_meets(uint64_t nth, bool power) {
    enum { CONTEXTS = 70 }; /* more than one step */
    run *r = &now;
    place *p = &r->places[0];
    run_open(r, 12, 1);
    place_create(p);
    write_one(p);
    cal_group_id doomed;
    OK(r, cal_namespace_create_wait(node_of(p), &application, "doomed", &doomed, &err));
    cal_context_create_options create = {.application = application, .group = doomed};
    cal_context_created created;
    for (int i = 0; i < CONTEXTS; i++)
        OK(r, cal_context_create_wait(node_of(p), &create, &created, &err));
    cal_sim *disk = node_sim_disk(p->sim);
    if (power)
        cal_sim_power_off_at(disk, CAL_SIM_WRITE | CAL_SIM_SYNC, nth);
    else
        cal_sim_fail(disk, CAL_SIM_WRITE | CAL_SIM_SYNC, nth, UINT64_MAX, CAL_EFULL);
    uint64_t before = cal_sim_count(disk, CAL_SIM_WRITE | CAL_SIM_SYNC);
    purged = 1;
    cal_namespace_delete(node_of(p), &doomed, purge_answered, p);
    node_sim_run(r->sim, 3 * SECOND, power ? power_went : purge_is_answered, r);
    bool met = cal_sim_count(disk, CAL_SIM_WRITE | CAL_SIM_SYNC) - before >= nth;
    int answer = purged;
    if (power)
        node_sim_cut_off(p->sim, CAL_SIM_TEAR);
    else
        node_sim_stop(p->sim);
    cal_sim_fail(disk, 0, 0, 0, 0);
    if (!power) check_disks(r); /* also with half of it still to be removed */
    place_start(p);
    check_contents(p);
    size_t left = 0;
    int there = cal_namespace_get(node_of(p), &doomed, no_namespace, NULL);
    OK(r, cal_context_each(node_of(p), NULL, &doomed, count_contexts, &left));
    CHECK(r, there == 0 || there == CAL_ENOTFOUND, "the namespace: %s", cal_error_name(there));
    CHECK(r, left == (there == 0 ? CONTEXTS : 0), "%zu contexts are left of a namespace that %s",
          left, there == 0 ? "was not deleted" : "was");
    if (answer == 0) CHECK(r, there == CAL_ENOTFOUND, "a deletion that was answered is undone");
    node_sim_run(r->sim, 5 * SECOND, NULL, NULL);
    node_sim_stop(p->sim);
    check_disks(r);
    node_sim_free(r->sim);
    r->sim = NULL;
    return met;
}

static void a_deletion_is_whole_whatever_the_disk_does(void **state) {
    (void)state;
    engine_signals_use();
    uint64_t points = 0;
    for (int power = 0; power <= 1; power++)
        for (uint64_t nth = 1; purge_meets(nth, power) && nth < 40; nth += 1 + nth / 4) points++;
    print_message("%llu points in a deletion\n", (unsigned long long)points);
    assert_true(points >= 10);
}

/* --- the world's own promises --- */

static int url_code;
static void url_answered(void *user, const cal_error *e, const cal_application_id *id) {
    (void)user, (void)id;
    url_code = e ? e->code : 0;
}
static bool url_is_answered(void *user) {
    (void)user;
    return url_code != 0;
}

typedef struct posting {
    place *place;
    int order[40], count, refused;
} posting;

static void waiting_is_refused(void *user, const cal_call_result *result) {
    posting *t = user;
    cal_group_id id;
    (void)result;
    t->refused = cal_namespace_create_wait(node_of(t->place), &application, "x", &id, NULL);
    cal_node_stats stats;
    cal_node_stats_get(node_of(t->place), &stats); /* here already: at once */
    assert_true(stats.calls > 0);
}

static posting posted;
static void note_order(void *user, const cal_error *e) {
    (void)e;
    posted.order[posted.count++] = (int)(intptr_t)user;
}

/* What is posted runs in that order, though each has a delay of its own; a callback may not wait,
 * and reads at once; a stop answers what is under way. */
static void the_loop_keeps_its_promises(void **state) {
    (void)state;
    engine_signals_use();
    run *r = &now;
    place *p = &r->places[0];
    run_open(r, 3, 1);
    place_create(p);
    posted = (posting){.place = p};
    for (int i = 0; i < 40; i++) /* refused on the loop: nothing is written for such a name */
        cal_alias_create(node_of(p), CAL_ALIAS_CONTEXT, "no name", application.bytes, note_order,
                         (void *)(intptr_t)i);
    assert_int_equal(cal_execute_wait(node_of(p), &p->context, "entries", "{}", 2,
                                      waiting_is_refused, &posted, NULL),
                     0);
    assert_int_equal(posted.refused, CAL_ESTATE);
    assert_int_equal(posted.count, 40);
    for (int i = 0; i < 40; i++) assert_int_equal(posted.order[i], i);
    for (int i = 0; i < 5; i++) write_one(p);
    node_sim_stop(p->sim);
    assert_int_equal(p->in_flight, 0);
    assert_true(node_sim_is_off(p->sim));

    /* One that cannot start leaves nothing behind; then it starts where it may. */
    static const char *const elsewhere[] = {"/ip4/10.9.9.9/tcp/2428"};
    const cal_node_options options = {.network = {.listen = elsewhere, .listen_count = 1}};
    assert_int_equal(node_sim_start(p->sim, &options, &err), CAL_EIO);
    assert_true(node_sim_is_off(p->sim));
    place_start(p);
    check_contents(p);
    cal_application_id id;
    cal_install_url(node_of(p), "https://example.com/app.mpk", NULL, url_answered, &id);
    wait_for(r, url_is_answered, NULL, "a download");
    assert_int_equal(url_code, CAL_EUNREACHABLE);
    node_sim_free(r->sim); /* while it runs */
    r->sim = NULL;
}

/* A run that an assertion or a signal ended. */
static int tell_seed(void **state) {
    (void)state;
    if (now.sim)
        print_error("seed %llu was running, at %.6f s\nrepeat with CAL_SIM_SEED=%llu\n",
                    (unsigned long long)now.seed, (double)net_sim_now(node_sim_net(now.sim)) / 1e9,
                    (unsigned long long)now.seed);
    return 0;
}

static void on_abort(int number) {
    tell_seed(NULL);
    signal(number, SIG_DFL);
    raise(number);
}

/* --- images --- */

static cal_sim *installed; /* a home with the application, compiled */
static node_sim *maker;

static int make_images(void **state) {
    (void)state;
    node_sim_place *spot;
    cal_buffer bytes;
    cal_log_set_level(getenv("CAL_SIM_LOG") ? CAL_LOG_DEBUG : CAL_LOG_ERROR);
    assert_int_equal(cal_vm_new(cal_os_posix(), &(cal_vm_limits){0}, &engine, &err), 0);
    engine_signals_learn();
    const node_sim_options options = {.engine = engine};
    assert_int_equal(node_sim_new(0, &options, &maker), 0);
    if (node_sim_place_new(maker, "10.0.0.1", NULL, &spot, &err)) fail_msg("%s", err.message);
    installed = node_sim_disk(spot);
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
            node_sim_home_install(images[i], installed, &err))
            fail_msg("%s", err.message);
    return 0;
}

static int free_images(void **state) {
    (void)state;
    for (size_t i = 0; i < PLACES_MAX; i++) cal_sim_free(images[i]);
    node_sim_free(maker);
    cal_vm_free(engine);
    return 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(the_loop_keeps_its_promises, tell_seed),
        cmocka_unit_test_teardown(power_goes_at_every_event, tell_seed),
        cmocka_unit_test_teardown(power_goes_at_every_operation_of_the_disk, tell_seed),
        cmocka_unit_test_teardown(what_the_disk_refused_is_not_there, tell_seed),
        cmocka_unit_test_teardown(a_name_that_was_not_stored_is_refused, tell_seed),
        cmocka_unit_test_teardown(a_deletion_is_whole_whatever_the_disk_does, tell_seed),
        cmocka_unit_test_teardown(two_nodes, tell_seed),
        cmocka_unit_test_teardown(twenty_nodes, tell_seed),
        cmocka_unit_test_teardown(the_same_seed_gives_the_same_run, tell_seed),
    };
    if (argc != 2) {
        fprintf(stderr, "usage: %s KV_STORE_WASM\n", argv[0]);
        return 2;
    }
    app_path = argv[1];
    signal(SIGABRT, on_abort);
    return cmocka_run_group_tests(tests, make_images, free_images);
}
