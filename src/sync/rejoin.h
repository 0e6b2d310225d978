/* Heads that no delta leads to any more. When a peer does not have what its heads descend from,
 * trees make the states the same; from then on either's heads stand for what both have, and are
 * taken over. Loop thread. */
#ifndef CAL_SYNC_REJOIN_H
#define CAL_SYNC_REJOIN_H

#include "sync/context.h"

typedef struct sync_rejoin sync_rejoin;

/* Once, on the loop, never inside a call. 0; CAL_EBUSY: the root is another one by now; and what
 * else a turn may end with. behind: all that is here lies below the peer's heads, as it says. */
typedef void (*sync_rejoin_done)(void *user, int result, bool behind);

/* The peer's answer to HEADS. takes_over: its root is ours, its heads become ours, too; otherwise
 * it is only asked whether there is anything here that it does not have. CAL_ENOMEM. */
int sync_rejoin_new(sync_context *context, const cal_peer_id *peer, const sync_answer *heads,
                    bool takes_over, sync_rejoin_done done, void *user, sync_rejoin **ret_rejoin);
void sync_rejoin_leave(sync_rejoin *rejoin); /* done is not called */

#endif
