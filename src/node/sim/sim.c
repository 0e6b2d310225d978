/* The simulated world: see sim.h and node/world.h.
 *
 * Each posted task plans an event that takes the first one of its place's list, so that the order
 * of posting is kept whatever the delays; each task for workers plans one that takes any of them.
 * A step of the store plans the next one while there is more. Events of a life that ended do not
 * happen (net_sim_on).
 *
 * Losing power. A node cannot be torn out of memory: what its operations own would leak. So disk
 * and network are switched off first, and what was under way runs to its end against them, at the
 * same instant and without randomness of the simulation: nothing of it reaches anybody. */
#include <assert.h>
#include <stdlib.h>

#include "base/error.h"
#include "node/sim/internal.h"

#define POST_NS UINT64_C(100000)
#define WORK_NS UINT64_C(2000000)
#define STEP_NS UINT64_C(4000000)
#define STOP_NS                                                                                    \
    (UINT64_C(600) * 1000000000) /* a stop or an answer that takes longer never comes              \
                                  */
enum { LATE_ONE_IN = 16, LATE_TIMES = 10 };
enum { NOTE_POSTED = 200, NOTE_WORKED, NOTE_STEPPED, NOTE_ENDED, NOTE_CUT_OFF };

static void note(const node_sim_place *place, uint64_t what, uint64_t value) {
    net_sim_note(place->sim->net, net_sim_now(place->sim->net));
    net_sim_note(place->sim->net, what * SIM_PLACES_MAX + place->index);
    net_sim_note(place->sim->net, value);
}

/* Plans something of the place after a while. */
static void plan(node_sim_place *place, uint64_t most_ns, void (*fn)(void *user)) {
    node_sim *sim = place->sim;
    if (place->cut_off) return;
    uint64_t after_ns = 1 + cal_sim_random(sim->world, most_ns);
    if (cal_sim_random(sim->world, LATE_ONE_IN) == 0)
        after_ns += cal_sim_random(sim->world, most_ns * LATE_TIMES);
    net_sim_on(place->machine, net_sim_now(sim->net) + after_ns, fn, place);
}

/* --- tasks --- */

static void run(node_sim_place *place, cal_list *link, sim_role role) {
    cal_task *task = CAL_CONTAINER_OF(link, cal_task, link);
    assert(place->role == SIM_OUTSIDE);
    place->role = role;
    task->run(task);
    place->role = SIM_OUTSIDE;
}

static bool run_posted(node_sim_place *place) {
    cal_list *link = cal_list_pop(&place->posted);
    if (!link) return false;
    note(place, NOTE_POSTED, place->sim->stats.posts++);
    run(place, link, SIM_LOOP);
    return true;
}

static bool run_working(node_sim_place *place, size_t which) {
    if (place->working_count == 0) return false;
    cal_list *link = place->working.next;
    while (which-- > 0) link = link->next;
    cal_list_remove(link);
    place->working_count--;
    note(place, NOTE_WORKED, place->sim->stats.works++);
    run(place, link, SIM_WORKER);
    return true;
}

static void on_posted(void *user) { run_posted(user); }

static void on_working(void *user) {
    node_sim_place *place = user;
    run_working(place, cal_sim_random(place->sim->world, place->working_count));
}

static void sim_post(void *user, cal_task *task) {
    node_sim_place *place = user;
    cal_list_push(&place->posted, &task->link);
    plan(place, place->sim->options.post_ns, on_posted);
}

static void sim_work(void *user, node_worker worker, cal_task *task) {
    node_sim_place *place = user;
    (void)worker; /* there is always a free one, of each kind */
    cal_list_push(&place->working, &task->link);
    place->working_count++;
    plan(place, place->sim->options.work_ns, on_working);
}

/* --- the store --- */

static bool step_store(node_sim_place *place) {
    assert(place->role == SIM_OUTSIDE);
    place->role = SIM_STORE;
    bool more = cal_store_step(place->node->store);
    place->role = SIM_OUTSIDE;
    note(place, NOTE_STEPPED, place->sim->stats.steps++);
    return more;
}

static void on_step(void *user) {
    node_sim_place *place = user;
    if (place->node && step_store(place)) plan(place, place->sim->options.step_ns, on_step);
}

static void sim_store_due(void *user) {
    node_sim_place *place = user;
    plan(place, place->sim->options.step_ns, on_step);
}

/* --- waiting --- */

static bool sim_on_loop(void *user) {
    const node_sim_place *place = user;
    return place->role == SIM_LOOP ||
           (place->role == SIM_OUTSIDE && net_sim_inside(place->machine));
}

static bool is_finished(void *user) { return ((const node_waiter *)user)->finished; }

static void sim_wait(void *user, node_waiter *waiter) {
    node_sim_place *place = user;
    int rc = node_sim_run(place->sim, STOP_NS, is_finished, waiter);
    if (rc != 0) cal_log(CAL_LOG_ERROR, "sim", "an answer never comes: %s", cal_error_text(rc));
    assert(rc == 0);
}

static void sim_wake(void *user, node_waiter *waiter) {
    (void)user;
    waiter->finished = true;
}

/* --- the loop's own --- */

static void on_tick(void *user) {
    node_sim_place *place = user;
    if (place->ended) return;
    net_sim_on(place->machine, net_sim_now(place->sim->net) + place->period_ns, on_tick, place);
    place->role = SIM_LOOP;
    place->tick(place->tick_user);
    place->role = SIM_OUTSIDE;
}

static void sim_every(void *user, uint32_t period_ms, void (*tick)(void *tick_user),
                      void *tick_user) {
    node_sim_place *place = user;
    place->tick = tick;
    place->tick_user = tick_user;
    place->period_ns = NET_MS(period_ms);
    net_sim_on(place->machine, net_sim_now(place->sim->net) + place->period_ns, on_tick, place);
}

static int sim_transport_new(void *user, net_transport **ret_transport) {
    *ret_transport = ((node_sim_place *)user)->transport;
    return 0;
}

static void on_transport_gone(void *user) {
    node_sim_place *place = user;
    place->role = SIM_LOOP;
    place->transport_gone(place->transport_user);
    place->role = SIM_OUTSIDE;
}

static void sim_transport_free(void *user, net_transport *transport, void (*done)(void *done_user),
                               void *done_user) {
    node_sim_place *place = user;
    if (!transport) return;
    if (!place->cut_off) net_sim_hang_up(place->machine);
    if (!done) return;
    place->transport_gone = done;
    place->transport_user = done_user;
    plan(place, place->sim->options.post_ns, on_transport_gone);
}

/* --- life --- */

static void on_first(void *user) {
    node_sim_place *place = user;
    place->role = SIM_LOOP;
    place->first(place->first_user);
    place->role = SIM_OUTSIDE;
}

static int sim_begin(void *user, uint32_t guests, void (*first)(void *first_user),
                     void *first_user) {
    node_sim_place *place = user;
    (void)guests;
    place->first = first;
    place->first_user = first_user;
    plan(place, place->sim->options.post_ns, on_first);
    return 0;
}

static void sim_end(void *user) {
    node_sim_place *place = user;
    place->ended = true;
    note(place, NOTE_ENDED, 0);
}

static bool is_ended(void *user) { return ((const node_sim_place *)user)->ended; }

/* Without power: everything that is under way, at once. */
static void run_down(node_sim_place *place) {
    while (!place->ended) {
        bool ran = run_posted(place) || run_working(place, 0);
        if (!ran) ran = step_store(place) || !cal_list_empty(&place->posted);
        assert(ran); /* an operation waits for something that never comes */
    }
}

static void sim_join(void *user) {
    node_sim_place *place = user;
    if (place->cut_off) {
        run_down(place);
        return;
    }
    int rc = node_sim_run(place->sim, STOP_NS, is_ended, place);
    if (rc != 0) cal_log(CAL_LOG_ERROR, "sim", "a stop never ends: %s", cal_error_text(rc));
    assert(rc == 0);
    while (run_posted(place) || run_working(place, 0)) { /* refused, what came too late */
    }
}

static void sim_free(void *user) {
    node_sim_place *place = user;
    if (!place->cut_off) net_sim_kill(place->machine);
    place->node = NULL;
    place->transport = NULL;
    cal_list_init(&place->posted);
    cal_list_init(&place->working);
    place->working_count = 0;
}

/* --- places --- */

int node_sim_place_new(node_sim *sim, const char *address, cal_sim *image,
                       node_sim_place **ret_place, cal_error *err) {
    if (sim->place_count == SIM_PLACES_MAX)
        return cal_fail(err, CAL_ELIMIT, "at most %d places", SIM_PLACES_MAX);
    uint64_t seed = cal_sim_random(sim->world, UINT64_MAX);
    node_sim_place *place = calloc(1, sizeof *place);
    if (!place) return cal_fail(err, CAL_ENOMEM, "no memory for a place");
    place->sim = sim;
    place->index = sim->place_count;
    cal_list_init(&place->posted);
    cal_list_init(&place->working);
    int rc = 0;
    if (image) {
        place->disk = cal_sim_new(seed);
        if (place->disk) cal_sim_copy_disk(place->disk, image);
        if (!place->disk) rc = cal_fail(err, CAL_ENOMEM, "no memory for a disk");
    } else {
        rc = node_sim_home_new(seed, &place->disk, err);
    }
    if (rc == 0 && (rc = net_sim_machine_new(sim->net, place->disk, &place->machine)) != 0)
        cal_fail(err, rc, "no machine: %s", cal_error_text(rc));
    if (rc == 0 && (rc = net_sim_address_add(place->machine, address)) != 0)
        cal_fail(err, rc, "the address %s: %s", address, cal_error_text(rc));
    if (rc != 0) {
        if (!place->machine) cal_sim_free(place->disk);
        if (!place->machine) free(place);
        return rc; /* one with a machine goes with the network */
    }
    sim->places[sim->place_count++] = place;
    *ret_place = place;
    return 0;
}

int node_sim_start(node_sim_place *place, const cal_node_options *options, cal_error *err) {
    assert(!place->node && place->role == SIM_OUTSIDE && !net_sim_running(place->sim->net));
    cal_node_options here = *options;
    here.home = node_sim_home;
    here.key = (cal_node_key){.kind = CAL_NODE_KEY_FILE};
    place->cut_off = place->ended = false;
    place->transport = net_sim_start(place->machine);
    place->world = (node_world){.user = place,
                                .os = net_sim_os(place->machine),
                                .processors = 2,
                                .engine = place->sim->options.engine,
                                .stepped = true,
                                .store_due = sim_store_due,
                                .post = sim_post,
                                .work = sim_work,
                                .on_loop = sim_on_loop,
                                .wait = sim_wait,
                                .wake = sim_wake,
                                .every = sim_every,
                                .transport_new = sim_transport_new,
                                .transport_free = sim_transport_free,
                                .run = sim_begin,
                                .end = sim_end,
                                .join = sim_join,
                                .free = sim_free};
    return node_start_in(&place->world, &here, &place->node, err);
}

void node_sim_stop(node_sim_place *place) {
    assert(place->role == SIM_OUTSIDE && !net_sim_running(place->sim->net));
    cal_node_stop(place->node);
}

void node_sim_cut_off(node_sim_place *place, cal_sim_survival survival) {
    assert(place->node && place->role == SIM_OUTSIDE && !net_sim_running(place->sim->net));
    note(place, NOTE_CUT_OFF, survival);
    net_sim_power_off(place->machine);
    cal_sim_power_off(place->disk);
    place->cut_off = true;
    node_network_free(place->node);
    cal_node_stop(place->node);
    cal_sim_power_on(place->disk, survival);
}

bool node_sim_is_off(const node_sim_place *place) { return !place->node || place->cut_off; }
cal_node *node_sim_node(node_sim_place *place) { return place->node; }
net_sim_machine *node_sim_machine(node_sim_place *place) { return place->machine; }
cal_sim *node_sim_disk(node_sim_place *place) { return place->disk; }

/* --- the simulation --- */

int node_sim_new(uint64_t seed, const node_sim_options *options, node_sim **ret_sim) {
    node_sim *sim = calloc(1, sizeof *sim);
    if (!sim) return CAL_ENOMEM;
    sim->options = *options;
    if (!sim->options.post_ns) sim->options.post_ns = POST_NS;
    if (!sim->options.work_ns) sim->options.work_ns = WORK_NS;
    if (!sim->options.step_ns) sim->options.step_ns = STEP_NS;
    sim->world = cal_sim_new(seed);
    int rc = sim->world ? net_sim_new(&options->net, sim->world, &sim->net) : CAL_ENOMEM;
    if (rc != 0) {
        cal_sim_free(sim->world);
        free(sim);
        return rc;
    }
    *ret_sim = sim;
    return 0;
}

void node_sim_free(node_sim *sim) {
    if (!sim) return;
    for (size_t i = 0; i < sim->place_count; i++)
        if (sim->places[i]->node) node_sim_cut_off(sim->places[i], CAL_SIM_DROP);
    net_sim_free(sim->net);
    for (size_t i = 0; i < sim->place_count; i++) {
        cal_sim_free(sim->places[i]->disk);
        free(sim->places[i]);
    }
    cal_sim_free(sim->world);
    free(sim);
}

net_sim *node_sim_net(node_sim *sim) { return sim->net; }

int node_sim_run(node_sim *sim, uint64_t for_ns, bool (*done)(void *user), void *user) {
    return net_sim_run(sim->net, net_sim_now(sim->net) + for_ns, done, user);
}

void node_sim_stats_get(const node_sim *sim, node_sim_stats *ret_stats) { *ret_stats = sim->stats; }
