/* Tasks: to the loop thread, and to the two pools of threads. Guests have a pool of their own, and
 * so have installs, so that a download or a backup never keeps a call waiting. */
#include "node/internal.h"

static void *pool_thread(void *user) {
    node_pool *pool = user;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        cal_list *next = cal_list_pop(&pool->tasks);
        if (next) {
            pthread_mutex_unlock(&pool->lock);
            cal_task *task = CAL_CONTAINER_OF(next, cal_task, link);
            task->run(task);
            pthread_mutex_lock(&pool->lock);
        } else if (pool->closing) {
            break;
        } else {
            pthread_cond_wait(&pool->ready, &pool->lock);
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

int node_pool_start(node_pool *pool, uint32_t threads) {
    *pool = (node_pool){.thread_count = 0};
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->ready, NULL);
    cal_list_init(&pool->tasks);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, CAL_VM_THREAD_STACK);
    int rc = 0;
    for (uint32_t i = 0; i < threads && i < NODE_WORKERS_MAX && rc == 0; i++) {
        rc = pthread_create(&pool->threads[i], &attributes, pool_thread, pool);
        if (rc == 0) pool->thread_count++;
    }
    pthread_attr_destroy(&attributes);
    return rc == 0 ? 0 : CAL_ENOMEM;
}

void node_pool_stop(node_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    pool->closing = true;
    pthread_cond_broadcast(&pool->ready);
    pthread_mutex_unlock(&pool->lock);
    for (uint32_t i = 0; i < pool->thread_count; i++) pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->ready);
    pthread_mutex_destroy(&pool->lock);
}

static void pool_push(node_pool *pool, cal_task *task) {
    pthread_mutex_lock(&pool->lock);
    cal_list_push(&pool->tasks, &task->link);
    pthread_cond_signal(&pool->ready);
    pthread_mutex_unlock(&pool->lock);
}

void node_slow(cal_node *node, cal_task *task) { pool_push(&node->slow, task); }
void node_install(cal_node *node, cal_task *task) { pool_push(&node->installs, task); }

static void on_worker(void *user, cal_task *task) { pool_push(&((cal_node *)user)->guests, task); }

static void on_loop(void *user, cal_task *task) { node_post(user, task); }

void node_post(cal_node *node, cal_task *task) {
    pthread_mutex_lock(&node->posted_lock);
    bool was_empty = cal_list_empty(&node->posted);
    cal_list_push(&node->posted, &task->link);
    pthread_mutex_unlock(&node->posted_lock);
    if (was_empty) uv_async_send(&node->wake);
}

void node_run_posted(cal_node *node) {
    for (;;) {
        pthread_mutex_lock(&node->posted_lock);
        cal_list *next = cal_list_pop(&node->posted);
        pthread_mutex_unlock(&node->posted_lock);
        if (!next) return;
        cal_task *task = CAL_CONTAINER_OF(next, cal_task, link);
        task->run(task);
    }
}

bool cal_node_on_loop(const cal_node *node) {
    uv_thread_t self = uv_thread_self();
    return uv_thread_equal(&self, &node->loop_thread) != 0;
}

const cal_runner *cal_node_runner(cal_node *node) {
    node->runner = (cal_runner){.user = node, .on_loop = on_loop, .on_worker = on_worker};
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

void node_waiter_init(node_waiter *waiter) {
    *waiter = (node_waiter){.finished = false};
    pthread_mutex_init(&waiter->lock, NULL);
    pthread_cond_init(&waiter->done, NULL);
}

void node_waiter_finish(node_waiter *waiter) {
    pthread_mutex_lock(&waiter->lock);
    waiter->finished = true;
    pthread_cond_signal(&waiter->done);
    pthread_mutex_unlock(&waiter->lock);
}

void node_waiter_wait(node_waiter *waiter) {
    pthread_mutex_lock(&waiter->lock);
    while (!waiter->finished) pthread_cond_wait(&waiter->done, &waiter->lock);
    pthread_mutex_unlock(&waiter->lock);
    pthread_cond_destroy(&waiter->done);
    pthread_mutex_destroy(&waiter->lock);
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
    node_waiter_init(&run.waiter);
    node_post(node, &run.task);
    node_waiter_wait(&run.waiter);
}
