/* The world that a node runs in: everything that the files of node/ would otherwise ask of the
 * system, as one table.
 *
 * real.c fills it in with a libuv loop, threads and sockets (cal_node_start); sim/ with virtual
 * time, a seeded network and a seeded disk, for many nodes on one thread. Everything else in node/
 * knows only this table, so it is the same node that runs in both.
 *
 * A world serves one node: it is made, given to node_start_in (which owns it from then on, also
 * when it fails), and freed with the node. Its life: transport_new and every, then run; end from
 * the loop, join from outside, free. A world that was never run is freed without end and join.
 *
 * Promises to the node, in every world:
 *  - there is one loop: what was posted, the timer, the transport's events and `first` of run are
 *    called on it one at a time, and never from inside post, work, every or a transport's function;
 *  - posted tasks run in the order of posting; tasks for workers run in any order, some at once;
 *  - a worker may block, and has a stack that holds a guest (CAL_VM_THREAD_STACK). */
#ifndef CAL_NODE_WORLD_H
#define CAL_NODE_WORLD_H

#include "base/task.h"
#include "net/net.h"
#include "os/os.h"

/* Who runs a task that is not the loop's. Each kind has workers of its own: a download keeps
 * neither a call nor a blob waiting. */
typedef enum node_worker {
    NODE_WORKER_GUEST,   /* runs applications */
    NODE_WORKER_SLOW,    /* blobs, ABIs */
    NODE_WORKER_INSTALL, /* downloads and installs */
    NODE_WORKER_KINDS
} node_worker;

/* Somebody outside the loop who waits for an answer from it. Embedded; `sleeper` is the world's. */
typedef struct node_waiter {
    const struct node_world *world;
    bool finished;
    void *sleeper;
} node_waiter;

/* How long the loop went without a pause (the watchdog's figures; since the start). */
typedef struct node_turns {
    uint64_t turns, busy_ns; /* from having waited to waiting again; the waits do not count */
    uint64_t late;           /* of more than CAL_LOOP_TURN_MS */
    uint64_t late_by_itself; /* that used this much processor time: not for want of a processor */
    uint64_t longest_ns, longest_processor_ns;
} node_turns;

typedef struct node_world node_world;
struct node_world {
    void *user;
    const cal_os *os;    /* clocks, randomness, the disk with the home */
    uint32_t processors; /* how many guests run at once when the options do not say */
    /* An engine that several nodes share; it outlives them, and its limits hold instead of those of
     * the options. NULL: the node makes its own. */
    struct cal_vm *engine;
    /* There is one thread and none may be made: the store commits by cal_store_step, which
     * store_due (any place; after it became due once) asks for, and guests have no deadline but
     * their gas, since the clock stands still while one runs. */
    bool stepped;
    void (*store_due)(void *user);

    /* --- tasks; any thread, nothing runs before they return --- */
    void (*post)(void *user, cal_task *task);
    void (*work)(void *user, node_worker worker, cal_task *task);

    /* --- waiting for the loop --- */
    /* Whether the caller is on the loop. Any thread. */
    bool (*on_loop)(void *user);
    /* Returns when wake was called with that waiter, which may have been before. Never called on
     * the loop. The real world blocks the caller. A simulated one, where nobody else could bring
     * the answer, lets its time pass until it is there; so there the caller must be outside of
     * every event. */
    void (*wait)(void *user, node_waiter *waiter);
    void (*wake)(void *user, node_waiter *waiter); /* any thread; the waiter is gone afterwards */

    /* --- the loop's own --- */
    /* The one timer: from run on, tick(tick_user) once a period until end. Before run. */
    void (*every)(void *user, uint32_t period_ms, void (*tick)(void *tick_user), void *tick_user);
    /* The transport of the node's host. One. CAL_ENOMEM, CAL_EIO. Before run. */
    int (*transport_new)(void *user, net_transport **ret_transport);
    /* After its host was freed; done (NULL allowed) is called on the loop when nothing of it is
     * left. NULL transport: nothing, and no done. */
    void (*transport_free)(void *user, net_transport *transport, void (*done)(void *done_user),
                           void *done_user);

    void (*turns)(void *user, node_turns *ret_turns); /* NULL: its loop takes no time */

    /* --- life --- */
    /* Starts the workers (`guests` of the first kind) and the loop, which calls first. CAL_ENOMEM:
     * nothing runs. */
    int (*run)(void *user, uint32_t guests, void (*first)(void *first_user), void *first_user);
    void (*end)(void *user); /* on the loop: it ends, nothing comes any more */
    /* Not on the loop: returns when the loop and all workers have ended. */
    void (*join)(void *user);
    void (*free)(void *user);

    /* libuv's loop, for sockets of the program above; NULL in a world that has none. */
    struct uv_loop_s *loop;
};

/* The real world, with a loop of its own. CAL_ENOMEM, CAL_EIO. */
int node_real_new(const node_world **ret_world, cal_error *err);
/* As much of one as a home needs whose node does not run: os and processors. */
void node_real_home(node_world *ret_home);

#endif
