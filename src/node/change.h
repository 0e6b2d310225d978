/* One change of governance that the public API asks for: from the call to its answer.
 *
 * Embedded first in what wants one. Its life: node_change_new on any thread, node_change_run hands
 * it to the loop, there `prepare` is called (once more when another change was in the way), and
 * `answer` at the end; then it is freed, with its arena. */
#ifndef CAL_NODE_CHANGE_H
#define CAL_NODE_CHANGE_H

#include "gov/members.h"
#include "node/internal.h"

typedef struct node_change node_change;
struct node_change {
    node_operation operation;
    gov_commit commit;
    cal_group_id group; /* its namespace is changed */
    int refusal;        /* node_change_refuse: what it ends with, and why */
    const char *why;
    bool rows_only;  /* no namespace: `prepare` only fills in commit.batch */
    cal_arena arena; /* of copied arguments; lives as long as this does */
    int (*prepare)(node_change *change, cal_error *err);
    void (*answer)(node_change *change, const cal_error *err);
    cal_simple_done done; /* what the usual answer calls */
    void *user;
};

/* Zeroed but for what the arguments say; `size` of the struct that embeds it. NULL: no memory;
 * then the caller was told so already, if it gave a `done`. */
void *node_change_new(size_t size, const cal_group_id *group,
                      int (*prepare)(node_change *change, cal_error *err), cal_simple_done done,
                      void *user);
void node_change_run(cal_node *node, node_change *change);
/* Instead of running it: answers with this error, on the loop. `why`: static. */
void node_change_refuse(cal_node *node, node_change *change, int code, const char *why);

static inline cal_gov *node_change_gov(const node_change *change) {
    return change->operation.node->gov;
}

/* For the _wait forms of what answers with a cal_simple_done. */
typedef struct node_wait {
    node_waiter waiter;
    int code;
    cal_error *err;
} node_wait;
bool node_wait_begin(node_wait *wait, cal_node *node, cal_error *err); /* false: on the loop */
void node_wait_done(void *wait, const cal_error *err);
int node_wait_end(node_wait *wait);

/* The roots of the contexts that the group holds, as a removal reports them; in the arena. */
int node_context_roots(cal_node *node, const cal_group_id *group, cal_arena *arena,
                       gov_context_roots *ret_roots);

#endif
