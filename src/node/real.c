/* The real world of a node (world.h): a libuv loop on a thread of its own, three pools of threads,
 * TCP, this machine. The only file of node/ with libuv or pthreads.
 *
 * Tasks come from any thread: those for the loop wait in a list under `posted_lock`, and the first
 * one wakes the loop; those for workers wait in their pool. Whoever waits for the loop from outside
 * sleeps on a condition of its own, under one lock for all.
 *
 * What wakes the loop is an event descriptor and not a uv_async_t: with that the loop, once awake,
 * spins until the thread that woke it has left uv_async_send, and where that one was put aside in
 * it (fewer processors than threads) the loop spun for a sixth of its time, up to 36 ms at once.
 *
 * The watchdog: a turn is what the loop does between two times of having nothing to do, measured
 * without the wait itself. One of more than CAL_LOOP_TURN_MS kept everybody waiting; it is counted,
 * and now and then one is told of in the log, with the task that took most of it. */
#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "base/error.h"
#include "base/log.h"
#include "net/tcp.h"
#include "node/internal.h"
#include "vm/vm.h"

#define TURN_TASKS_NS UINT64_C(1000000)               /* for posted tasks in a row */
#define TURN_LOG_PAUSE_NS (UINT64_C(60) * 1000000000) /* between two lines about late turns */

/* A pool of threads that take tasks in order. */
typedef struct real_pool {
    bool background; /* gives way to whoever is waited for */
    pthread_mutex_t lock;
    pthread_cond_t ready;
    cal_list tasks;
    bool closing;
    pthread_t threads[NODE_WORKERS_MAX];
    uint32_t thread_count;
} real_pool;

/* The turn under way; loop thread. */
typedef struct real_turn {
    uint64_t began_ns, idle_ns, processor_ns; /* readings of the three clocks at its beginning */
    uint64_t tasks, longest_ns;               /* of the posted tasks in it, the longest */
    void (*longest)(cal_task *task);
    uint64_t told_ns, untold; /* the last line in the log; late turns since */
} real_turn;

typedef struct real_world {
    node_world world;
    uv_loop_t loop;
    int wake_fd; /* an eventfd: readable while tasks wait */
    uv_poll_t wake;
    uv_timer_t timer;
    uv_prepare_t turn_end;
    real_turn turn;
    node_turns turns;
    bool ended; /* the handles are closed or closing */
    void (*tick)(void *user);
    void *tick_user;
    uint32_t period_ms;
    void (*first)(void *user);
    void *first_user;
    uv_thread_t thread;
    pthread_mutex_t posted_lock;
    cal_list posted;
    real_pool pools[NODE_WORKER_KINDS];
    pthread_mutex_t waiting_lock;
} real_world;

static uint32_t processors(void) {
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 2 ? (uint32_t)count : 2;
}

/* --- pools --- */

enum { BACKGROUND_NICE = 5 };

static void *pool_thread(void *user) {
    real_pool *pool = user;
    if (pool->background) setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), BACKGROUND_NICE);
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

static void pool_init(real_pool *pool) {
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->ready, NULL);
    cal_list_init(&pool->tasks);
}

static int pool_start(real_pool *pool, uint32_t threads, bool background) {
    pool->background = background;
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

/* Runs what is queued, then joins. */
static void pool_stop(real_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    pool->closing = true;
    pthread_cond_broadcast(&pool->ready);
    pthread_mutex_unlock(&pool->lock);
    for (uint32_t i = 0; i < pool->thread_count; i++) pthread_join(pool->threads[i], NULL);
    pool->thread_count = 0;
}

static void stop_pools(real_world *real) {
    for (size_t i = 0; i < NODE_WORKER_KINDS; i++) pool_stop(&real->pools[i]);
}

static void real_work(void *user, node_worker worker, cal_task *task) {
    real_pool *pool = &((real_world *)user)->pools[worker];
    pthread_mutex_lock(&pool->lock);
    cal_list_push(&pool->tasks, &task->link);
    pthread_cond_signal(&pool->ready);
    pthread_mutex_unlock(&pool->lock);
}

/* --- the watchdog --- */

static uint64_t processor_ns(void) {
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

static void turn_begin(real_world *real) {
    real_turn *turn = &real->turn;
    turn->began_ns = uv_hrtime();
    turn->idle_ns = uv_metrics_idle_time(&real->loop);
    turn->processor_ns = processor_ns();
    turn->tasks = turn->longest_ns = 0;
    turn->longest = NULL;
}

/* Where the code of a task is, as addr2line wants it: tasks have no names. */
static void task_text(void (*run)(cal_task *task), char *ret_text, size_t max) {
    Dl_info place;
    void *address;
    memcpy(&address, &run, sizeof address);
    if (!dladdr(address, &place) || !place.dli_fname) {
        snprintf(ret_text, max, "%p", address);
        return;
    }
    const char *slash = strrchr(place.dli_fname, '/');
    snprintf(ret_text, max, "%s+0x%" PRIxPTR, slash ? slash + 1 : place.dli_fname,
             (uintptr_t)address - (uintptr_t)place.dli_fbase);
}

static void tell_late(real_turn *turn, uint64_t now_ns, uint64_t took_ns, uint64_t used_ns) {
    char longest[160] = "sockets and timers";
    if (turn->told_ns && now_ns - turn->told_ns < TURN_LOG_PAUSE_NS) {
        turn->untold++;
        return;
    }
    if (2 * turn->longest_ns > took_ns) task_text(turn->longest, longest, sizeof longest);
    cal_log(
        CAL_LOG_WARN, "node",
        "the loop was busy for %.1f ms without a pause (%.1f ms of processor time), mostly with "
        "%s (%.1f ms; %" PRIu64 " tasks in all); %" PRIu64 " late turns since the last such line",
        (double)took_ns / 1e6, (double)used_ns / 1e6, longest, (double)turn->longest_ns / 1e6,
        turn->tasks, turn->untold);
    turn->told_ns = now_ns;
    turn->untold = 0;
}

/* Called before each wait for events: what was waited for since the last time is not the turn's. */
static void on_turn_end(uv_prepare_t *prepare) {
    real_world *real = prepare->data;
    real_turn *turn = &real->turn;
    uint64_t now_ns = uv_hrtime(), waited_ns = uv_metrics_idle_time(&real->loop) - turn->idle_ns;
    uint64_t took_ns = now_ns - turn->began_ns;
    took_ns = took_ns > waited_ns ? took_ns - waited_ns : 0;
    uint64_t used_ns = processor_ns() - turn->processor_ns;
    bool late = took_ns > NET_MS(CAL_LOOP_TURN_MS);
    real->turns.turns++;
    real->turns.busy_ns += took_ns;
    real->turns.late += late;
    real->turns.late_by_itself += used_ns > NET_MS(CAL_LOOP_TURN_MS);
    if (took_ns > real->turns.longest_ns) real->turns.longest_ns = took_ns;
    if (used_ns > real->turns.longest_processor_ns) real->turns.longest_processor_ns = used_ns;
    if (late) tell_late(turn, now_ns, took_ns, used_ns);
    turn_begin(real);
}

static void real_turns_get(void *user, node_turns *ret_turns) {
    *ret_turns = ((real_world *)user)->turns;
}

/* --- tasks of the loop --- */

/* It cannot fail: no sum of wakes comes near the counter's end. */
static void wake_loop(real_world *real) {
    while (eventfd_write(real->wake_fd, 1) != 0 && errno == EINTR) continue;
}

static void real_post(void *user, cal_task *task) {
    real_world *real = user;
    pthread_mutex_lock(&real->posted_lock);
    bool was_empty = cal_list_empty(&real->posted);
    cal_list_push(&real->posted, &task->link);
    pthread_mutex_unlock(&real->posted_lock);
    if (was_empty) wake_loop(real);
}

static void run_timed(real_turn *turn, cal_task *task) {
    void (*run)(cal_task * task) = task->run;
    uint64_t began_ns = uv_hrtime();
    run(task);
    uint64_t took_ns = uv_hrtime() - began_ns;
    turn->tasks++;
    if (took_ns <= turn->longest_ns) return;
    turn->longest_ns = took_ns;
    turn->longest = run;
}

static void take_posted(real_world *real, cal_list *taken) {
    pthread_mutex_lock(&real->posted_lock);
    cal_list_append(taken, &real->posted);
    pthread_mutex_unlock(&real->posted_lock);
}

/* Takes what is there and no more: what these tasks post belongs to the next turn, so that sockets
 * and timers are not kept waiting by tasks that go on by posting themselves. And no more than a
 * part of a turn's time: the rest is taken up again after a look at the sockets. When the loop ends
 * there is no other turn: all of them. */
static void on_wake(uv_poll_t *wake, int status, int events) {
    real_world *real = wake->data;
    uint64_t until_ns = uv_hrtime() + TURN_TASKS_NS;
    eventfd_t count;
    cal_list taken;
    (void)status, (void)events;
    cal_list_init(&taken);
    eventfd_read(real->wake_fd, &count); /* before the list is looked at: what comes later wakes */
    take_posted(real, &taken);
    while ((real->ended || uv_hrtime() < until_ns) && !cal_list_empty(&taken)) {
        run_timed(&real->turn, CAL_CONTAINER_OF(cal_list_pop(&taken), cal_task, link));
        if (real->ended) take_posted(real, &taken);
    }
    if (cal_list_empty(&taken)) return;
    pthread_mutex_lock(&real->posted_lock);
    cal_list_append(&taken, &real->posted); /* these came first */
    cal_list_append(&real->posted, &taken);
    pthread_mutex_unlock(&real->posted_lock);
    wake_loop(real);
}

static bool real_on_loop(void *user) {
    const real_world *real = user;
    uv_thread_t self = uv_thread_self();
    return uv_thread_equal(&self, &real->thread) != 0;
}

/* --- waiting --- */

static void real_wait(void *user, node_waiter *waiter) {
    real_world *real = user;
    pthread_cond_t woken;
    pthread_cond_init(&woken, NULL);
    pthread_mutex_lock(&real->waiting_lock);
    waiter->sleeper = &woken;
    while (!waiter->finished) pthread_cond_wait(&woken, &real->waiting_lock);
    pthread_mutex_unlock(&real->waiting_lock);
    pthread_cond_destroy(&woken);
}

static void real_wake(void *user, node_waiter *waiter) {
    real_world *real = user;
    pthread_mutex_lock(&real->waiting_lock);
    waiter->finished = true;
    if (waiter->sleeper) pthread_cond_signal(waiter->sleeper);
    pthread_mutex_unlock(&real->waiting_lock);
}

/* --- timer and transport --- */

static void on_timer(uv_timer_t *timer) {
    real_world *real = timer->data;
    real->tick(real->tick_user);
}

static void real_every(void *user, uint32_t period_ms, void (*tick)(void *tick_user),
                       void *tick_user) {
    real_world *real = user;
    real->tick = tick;
    real->tick_user = tick_user;
    uv_timer_start(&real->timer, on_timer, period_ms, period_ms);
}

static int real_transport_new(void *user, net_transport **ret_transport) {
    return net_tcp_new(&((real_world *)user)->loop, ret_transport);
}

static void real_transport_free(void *user, net_transport *transport, void (*done)(void *done_user),
                                void *done_user) {
    (void)user;
    net_tcp_free(transport, done, done_user);
}

/* --- life --- */

static void loop_thread(void *user) {
    real_world *real = user;
    cal_os_block_sigpipe();
    turn_begin(real);
    real->first(real->first_user);
    uv_run(&real->loop, UV_RUN_DEFAULT);
}

static int real_run(void *user, uint32_t guests, void (*first)(void *first_user),
                    void *first_user) {
    real_world *real = user;
    real->first = first;
    real->first_user = first_user;
    int rc = pool_start(&real->pools[NODE_WORKER_GUEST], guests, false);
    if (rc == 0) rc = pool_start(&real->pools[NODE_WORKER_SLOW], NODE_SLOW_WORKERS, true);
    if (rc == 0) rc = pool_start(&real->pools[NODE_WORKER_INSTALL], NODE_SLOW_WORKERS, true);
    if (rc == 0 && uv_thread_create(&real->thread, loop_thread, real) != 0) rc = CAL_ENOMEM;
    if (rc != 0) stop_pools(real);
    return rc;
}

static void real_end(void *user) {
    real_world *real = user;
    if (real->ended) return;
    real->ended = true;
    uv_close((uv_handle_t *)&real->timer, NULL);
    uv_close((uv_handle_t *)&real->turn_end, NULL);
    uv_close((uv_handle_t *)&real->wake, NULL); /* the last handles: the loop ends */
}

static void real_join(void *user) {
    real_world *real = user;
    uv_thread_join(&real->thread);
    stop_pools(real);
    uv_run(&real->loop, UV_RUN_DEFAULT);
}

static void real_free(void *user) {
    real_world *real = user;
    real_end(real); /* it never ran */
    uv_run(&real->loop, UV_RUN_DEFAULT);
    uv_loop_close(&real->loop);
    close(real->wake_fd);
    for (size_t i = 0; i < NODE_WORKER_KINDS; i++) {
        pthread_cond_destroy(&real->pools[i].ready);
        pthread_mutex_destroy(&real->pools[i].lock);
    }
    pthread_mutex_destroy(&real->posted_lock);
    pthread_mutex_destroy(&real->waiting_lock);
    free(real);
}

int node_real_new(const node_world **ret_world, cal_error *err) {
    real_world *real = calloc(1, sizeof *real);
    if (!real) return cal_fail(err, CAL_ENOMEM, "out of memory while starting the node");
    real->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (real->wake_fd < 0 || uv_loop_init(&real->loop) != 0) {
        if (real->wake_fd >= 0) close(real->wake_fd);
        free(real);
        return cal_fail(err, CAL_EIO, "the node's loop cannot be had: too many open files?");
    }
    uv_loop_configure(&real->loop, UV_METRICS_IDLE_TIME);
    uv_poll_init(&real->loop, &real->wake, real->wake_fd);
    uv_poll_start(&real->wake, UV_READABLE, on_wake);
    uv_timer_init(&real->loop, &real->timer);
    uv_prepare_init(&real->loop, &real->turn_end);
    uv_prepare_start(&real->turn_end, on_turn_end);
    real->wake.data = real->timer.data = real->turn_end.data = real;
    cal_list_init(&real->posted);
    pthread_mutex_init(&real->posted_lock, NULL);
    pthread_mutex_init(&real->waiting_lock, NULL);
    for (size_t i = 0; i < NODE_WORKER_KINDS; i++) pool_init(&real->pools[i]);
    real->world = (node_world){.user = real,
                               .os = cal_os_posix(),
                               .processors = processors(),
                               .post = real_post,
                               .work = real_work,
                               .on_loop = real_on_loop,
                               .wait = real_wait,
                               .wake = real_wake,
                               .every = real_every,
                               .transport_new = real_transport_new,
                               .transport_free = real_transport_free,
                               .run = real_run,
                               .end = real_end,
                               .join = real_join,
                               .free = real_free,
                               .turns = real_turns_get,
                               .loop = &real->loop};
    *ret_world = &real->world;
    return 0;
}

void node_real_home(node_world *ret_home) {
    *ret_home = (node_world){.os = cal_os_posix(), .processors = processors()};
}
