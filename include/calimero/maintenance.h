/* Care of a node's data: backup, check, change of the master key. Blocking; see node.h for errors.
 */
#ifndef CALIMERO_MAINTENANCE_H
#define CALIMERO_MAINTENANCE_H

#include "calimero/node.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef void (*cal_maintenance_progress)(void *user, uint64_t done, uint64_t total);

/* Copies a running node into an empty or missing folder, which can then be started with the same
 * master key. */
int cal_node_backup(cal_node *node, const char *folder, cal_maintenance_progress progress,
                    void *user, cal_error *err);

/* Walks a stopped node: every page, every state root recomputed, every reference resolved. One call
 * of `report` for each finding; repairs nothing. 0 when clean, CAL_ECORRUPT when there were
 * findings, otherwise why it could not be walked. */
typedef struct cal_check_summary {
    uint64_t contexts, entities, deltas, blobs, chunks, operations, findings;
} cal_check_summary;
int cal_node_check(const cal_node_options *options, void (*report)(void *user, const char *finding),
                   void *user, cal_check_summary *ret_summary, cal_error *err);

/* Changes the master key of a stopped node without rewriting its data. */
int cal_node_rekey(const cal_node_options *options, const cal_node_key *new_key, cal_error *err);

#ifdef __cplusplus
}
#endif
#endif
