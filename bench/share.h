/* What the files of the benchmark's part on sharing have in common: nodes of libcalimero, each in a
 * process of its own (share_node.c), told what to do over a pipe by the process that measures
 * (share.c, share_child.c). One line asks, one line answers; times in them are of the monotonic
 * clock, which all processes of a machine have in common. */
#ifndef BENCH_SHARE_H
#define BENCH_SHARE_H

#include <stdio.h>

#include "bench.h"
#include "calimero/context.h"

enum {
    SHARE_LINE = 16 * 1024,
    SHARE_NODES_MAX = 8,
    SHARE_PATIENCE_S = 300, /* for whatever is waited for */
};

/* --- share_child.c: a node's process, seen from outside --- */

typedef struct share_child {
    pid_t pid;
    FILE *in, *out;
    char line[SHARE_LINE]; /* the last answer */
} share_child;

/* NAME is the node's folder in `folder`. */
void share_child_start(share_child *c, const char *folder, const char *name);
void share_child_stop(share_child *c);
/* Asks and waits for the answer, in c->line. */
void share_tell(share_child *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Asks only; share_hear waits. */
void share_ask(share_child *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
void share_hear(share_child *c);
/* The number at this place of the last answer. */
uint64_t share_number(const share_child *c, unsigned place);
double share_cpu_s(const share_child *c);

/* Counters of a node that figures are made of. */
typedef struct share_counters {
    uint64_t bytes_in, bytes_out, published, published_bytes, received, duplicates, connections;
    uint64_t heads_served, trees_served, tree_hashes_served, trees_compared, leaves_taken;
    uint64_t deltas_received, deltas_bulk, deltas_fetched, bulk_asked;
} share_counters;
share_counters share_count(share_child *c);

/* --- share_grow.c: state that no delta made, as a replica's that is merged --- */
/* Every `step`th of the entities `from` to `to` of `total`, in about as many groups as a group has
 * entities. Those of one salt are equal everywhere; those of a higher one win. */
void share_grow(cal_node *node, const cal_context_id *context, uint32_t from, uint32_t to,
                uint32_t total, uint32_t step, uint8_t salt);

/* --- share_cost.c, share.c: the figures --- */

typedef struct share_run {
    const char *wasm, *folder;
    bool longer;
    share_child nodes[SHARE_NODES_MAX];
    double set_us, apply_rate; /* of the guest alone */
    double others;             /* percent of a core that others used, in the last look */
} share_run;
/* Bytes on the wire, idle processor time. */
void share_measure_cost(share_run *r);

/* A figure that must be at most (or at least) the limit; a miss in company is not judged. */
void share_report(const share_run *r, const char *name, double value, double limit, bool at_least,
                  const char *unit, const char *formula);
typedef struct share_watch {
    double busy_s, cpu_s;
    uint64_t since_ns;
} share_watch;
share_watch share_watch_begin(const share_run *r);
void share_watch_end(share_run *r, const share_watch *watch);
void share_found(share_run *r, share_child *founder, char ret_context[BENCH_ID_MAX],
                 char ret_code[SHARE_LINE]);
void share_join(share_child *joiner, const char *context, const char *code);
void share_until_equal(share_child *a, share_child *b);

#endif
