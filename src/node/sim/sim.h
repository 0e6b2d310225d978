/* Production nodes in a simulated world: many in one process and on one thread, over net_sim's heap
 * of events and virtual clock, each on a disk of its own (os/sim).
 *
 * It is the whole node: store, governance, contexts, guests (they run for real, on the caller's
 * stack), the host with all its protocols. What real.c does with threads are events here, each
 * after a delay that the seed draws: a task of the loop, a task of a worker, a step of the store.
 * So whatever may happen in between can happen in between: a second call between a call's run and
 * its commit, a loss of power between submit and durable. No thread is made, and the same seed with
 * the same calls gives the same run (net_sim_trace).
 *
 * What differs from a real world: a worker's task happens at one instant, as on a machine with
 * enough processors whose guests take no time; guests have no deadline but their gas; downloads
 * answer CAL_EUNREACHABLE (os/sim resolves no names); there is no loop of libuv for servers.
 *
 * The caller is outside of every event (net_sim_at's, callbacks') when it starts, stops or cuts off
 * a place and when it waits (the _wait forms, cal_node_run and whatever reads through it, which let
 * time pass until they are answered). Inside of a node's callback its reading functions answer at
 * once, as on a real loop. The thread needs CAL_VM_THREAD_STACK bytes of stack. */
#ifndef CAL_NODE_SIM_H
#define CAL_NODE_SIM_H

#include "calimero/node.h"
#include "net/sim/sim.h"
#include "vm/vm.h"

typedef struct node_sim node_sim;
typedef struct node_sim_place node_sim_place;

/* How long things take at most; 0: the defaults. One in sixteen takes up to ten times as long. */
typedef struct node_sim_options {
    net_sim_options net;
    cal_vm *engine;   /* shared by all nodes; required */
    uint64_t post_ns; /* from posting to running on the loop; 100 us */
    uint64_t work_ns; /* from a worker's task to its running; 2 ms */
    uint64_t step_ns; /* from submitting to the store's next transaction; 4 ms */
} node_sim_options;

/* CAL_ENOMEM. */
int node_sim_new(uint64_t seed, const node_sim_options *options, node_sim **ret_sim);
/* Cuts off the nodes that still run. NULL allowed. */
void node_sim_free(node_sim *sim);
net_sim *node_sim_net(node_sim *sim);
/* Lets time pass; as net_sim_run, for so long. */
int node_sim_run(node_sim *sim, uint64_t for_ns, bool (*done)(void *user), void *user);

/* A machine with that address and a copy of the image's disk; NULL: with a new home. CAL_ENOMEM,
 * CAL_EINVAL, CAL_EEXISTS and what making a home answers. Freed with the simulation. */
int node_sim_place_new(node_sim *sim, const char *address, cal_sim *image,
                       node_sim_place **ret_place, cal_error *err);
/* As cal_node_start, with the home of the place, which must be off. */
int node_sim_start(node_sim_place *place, const cal_node_options *options, cal_error *err);
/* As cal_node_stop. */
void node_sim_stop(node_sim_place *place);
/* The power goes, in the middle of everything: peers hear nothing, unsynced writes meet the fate
 * that `survival` says. Whoever waits for an answer gets one before this returns, which no client
 * would have got: see node_sim_is_off. */
void node_sim_cut_off(node_sim_place *place, cal_sim_survival survival);
bool node_sim_is_off(const node_sim_place *place); /* also while it is being cut off */
cal_node *node_sim_node(node_sim_place *place);    /* NULL: off */
net_sim_machine *node_sim_machine(node_sim_place *place);
cal_sim *node_sim_disk(node_sim_place *place);

typedef struct node_sim_stats {
    uint64_t posts, works, steps; /* tasks of loops and workers, steps of stores */
} node_sim_stats;
void node_sim_stats_get(const node_sim *sim, node_sim_stats *ret_stats);

/* --- homes.c: images, and what is on a place's disk while it is off --- */

/* A disk with a new home, with keys of that seed. Freed with cal_sim_free. */
int node_sim_home_new(uint64_t seed, cal_sim **ret_image, cal_error *err);
/* Puts the applications that are installed in one home into another one, with their compiled code.
 */
int node_sim_home_install(cal_sim *image, cal_sim *from, cal_error *err);
/* As cal_node_check, on a place's disk. */
int node_sim_check(cal_sim *disk, void (*report)(void *user, const char *finding), void *user,
                   cal_error *err);

#endif
