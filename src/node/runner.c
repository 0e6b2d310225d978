/* How work comes to the loop and to the workers of the node's world, and how others wait for it. */
#include "node/internal.h"

static void post(void *user, cal_task *task) { node_post(user, task); }

static void to_guests(void *user, cal_task *task) {
    const node_world *world = ((cal_node *)user)->world;
    world->work(world->user, NODE_WORKER_GUEST, task);
}

void node_post(cal_node *node, cal_task *task) { node->world->post(node->world->user, task); }

void node_slow(cal_node *node, cal_task *task) {
    node->world->work(node->world->user, NODE_WORKER_SLOW, task);
}

void node_install(cal_node *node, cal_task *task) {
    node->world->work(node->world->user, NODE_WORKER_INSTALL, task);
}

bool cal_node_on_loop(const cal_node *node) { return node->world->on_loop(node->world->user); }

const cal_runner *cal_node_runner(cal_node *node) {
    node->runner = (cal_runner){.user = node, .on_loop = post, .on_worker = to_guests};
    return &node->runner;
}

void node_enter(cal_node *node, cal_task *task) {
    if (cal_node_on_loop(node))
        task->run(task);
    else
        node_post(node, task);
}

static void begin(cal_task *task) {
    node_operation *operation = CAL_CONTAINER_OF(task, node_operation, task);
    operation->node->operations++;
    operation->start(operation);
}

void node_begin(cal_node *node, node_operation *operation,
                void (*start)(node_operation *operation)) {
    operation->node = node;
    operation->start = start;
    operation->task.run = begin;
    node_enter(node, &operation->task);
}

/* --- waiting --- */

int node_no_waiting(cal_error *err) {
    return cal_fail(err, CAL_ESTATE,
                    "a _wait form blocks and cannot be used on the node's loop thread: use the one "
                    "with a callback");
}

void node_waiter_init(node_waiter *waiter, cal_node *node) {
    *waiter = (node_waiter){.world = node->world};
}

void node_waiter_finish(node_waiter *waiter) {
    const node_world *world = waiter->world;
    world->wake(world->user, waiter);
}

void node_waiter_wait(node_waiter *waiter) {
    const node_world *world = waiter->world;
    world->wait(world->user, waiter);
}

struct run_here {
    cal_task task;
    void (*fn)(void *arg);
    void *arg;
    node_waiter waiter;
};

static void run_here(cal_task *task) {
    struct run_here *run = CAL_CONTAINER_OF(task, struct run_here, task);
    run->fn(run->arg);
    node_waiter_finish(&run->waiter);
}

void cal_node_run(cal_node *node, void (*fn)(void *arg), void *arg) {
    if (cal_node_on_loop(node)) {
        fn(arg);
        return;
    }
    struct run_here run = {.task.run = run_here, .fn = fn, .arg = arg};
    node_waiter_init(&run.waiter, node);
    node_post(node, &run.task);
    node_waiter_wait(&run.waiter);
}
