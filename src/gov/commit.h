/* One change made durable: wait for the namespace to be idle, prepare, commit it together with the
 * rows it brings, make it visible. Embedded in what wants it. Loop thread. */
#ifndef CAL_GOV_COMMIT_H
#define CAL_GOV_COMMIT_H

#include "base/task.h"
#include "gov/gov.h"

/* Where changes go. */
typedef struct gov_committer {
    cal_gov *gov;
    cal_store *store;
    const cal_runner *runner;
} gov_committer;

typedef struct gov_commit gov_commit;
struct gov_commit {
    cal_task task;
    const gov_committer *committer;
    void *owner;               /* for the callbacks */
    cal_group_id namespace_id; /* whose changes it waits for */
    cal_batch *batch;          /* rows to commit along with it; NULL allowed, taken */
    gov_change *change;
    int result;
    bool asking, idle; /* commit.c's */
    /* Makes the change: called when no other one is open in the namespace. 0 or a code with err. A
     * change that stays NULL: rows only. NULL: rows only. */
    int (*prepare)(gov_commit *commit, cal_error *err);
    /* Durable, and just before the change becomes visible and goes. NULL allowed. */
    void (*durable)(gov_commit *commit);
    /* The end: err NULL when durable. Owns the struct. */
    void (*finished)(gov_commit *commit, const cal_error *err);
};
void gov_commit_run(gov_commit *commit);

#endif
