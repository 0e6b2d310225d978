/* What the files of node/sim share. */
#ifndef CAL_NODE_SIM_INTERNAL_H
#define CAL_NODE_SIM_INTERNAL_H

#include "node/internal.h"
#include "node/sim/sim.h"

enum { SIM_PLACES_MAX = NET_SIM_MACHINES_MAX };

/* What a place's own code is doing; besides, its host may be told something (net_sim_inside). */
typedef enum sim_role { SIM_OUTSIDE, SIM_LOOP, SIM_WORKER, SIM_STORE } sim_role;

struct node_sim_place {
    node_sim *sim;
    size_t index;
    net_sim_machine *machine;
    cal_sim *disk;
    node_world world;
    cal_node *node; /* NULL: off */
    sim_role role;
    bool cut_off; /* being cut off: tasks run where they are queued, no time passes */
    bool ended;   /* the loop */
    net_transport *transport;
    cal_list posted, working; /* tasks */
    size_t working_count;
    void (*first)(void *user);
    void *first_user;
    void (*tick)(void *user);
    void *tick_user;
    uint64_t period_ns;
    void (*transport_gone)(void *user);
    void *transport_user;
};

struct node_sim {
    node_sim_options options;
    cal_sim *world; /* randomness of the network and of all delays */
    net_sim *net;
    node_sim_place *places[SIM_PLACES_MAX];
    size_t place_count;
    node_sim_stats stats;
};

/* The home of every place: there is one on its disk. */
extern const char node_sim_home[];
/* homes.c: a world for a home whose node does not run. */
void sim_home_world(cal_sim *disk, node_world *ret_world);

#endif
