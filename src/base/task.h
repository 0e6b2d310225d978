/* Work handed between the loop thread and the workers. A task is embedded in what it works on; it
 * is queued at most once at a time and its memory belongs to whoever runs it next. */
#ifndef CAL_BASE_TASK_H
#define CAL_BASE_TASK_H

#include "base/list.h"

typedef struct cal_task {
    cal_list link;
    void (*run)(struct cal_task *task);
} cal_task;

/* Filled in by the node (libuv loop, thread pool) or by a simulator (one thread, a fixed order).
 * Both functions may be called from any thread and never run the task before they return. */
typedef struct cal_runner {
    void *user;
    void (*on_loop)(void *user,
                    cal_task *task); /* soon, on the loop thread, in the order of posting */
    void (*on_worker)(void *user,
                      cal_task *task); /* on a thread that may block and has a guest-sized stack */
} cal_runner;

#endif
