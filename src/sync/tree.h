/* Comparing the trees of a context with a peer (network-sync.md 8.3): what is served of ours, and
 * the machine that asks. Loop thread. */
#ifndef CAL_SYNC_TREE_H
#define CAL_SYNC_TREE_H

#include "sync/context.h"
#include "sync/serve.h"
#include "sync/session.h"
#include "sync/tree_view.h"

/* --- judging what comes --- */

/* Who may bring what, as governance stands now. */
typedef struct sync_judge {
    cal_gov *gov;
    cal_context_id context;
    cal_group_id group, ns;
    gov_position now;
    bool known; /* the last key that was looked up: */
    cal_public_key key;
    bool may;
    cal_account_id account;
} sync_judge;

/* CAL_ENOTFOUND: the context is in no group. */
int sync_judge_begin(cal_sync *sync, const cal_context_id *context, sync_judge *ret_judge);
/* Whether the key may write to the context, and for whom it speaks. */
bool sync_judge_key(sync_judge *judge, const cal_public_key *key, cal_account_id *ret_account);
/* What was brought by one who may write. In the arena. false: nobody who may write has signed it,
 * or it makes no sense. */
bool sync_judge_leaf(sync_judge *judge, const sync_leaf *leaf, cal_arena *arena,
                     cal_merge_item *ret_item);
bool sync_judge_deletion(sync_judge *judge, const sync_deletion *deletion, cal_arena *arena,
                         cal_merge_item *ret_item);

/* Members that have proved a key on a stream of theirs, by peer: a peer answers without proof. */
void sync_met(sync_context *context, const cal_peer_id *peer, const cal_public_key *party);
/* Whether the peer has proved a key that speaks for a member now. */
bool sync_met_member(const sync_context *context, const cal_peer_id *peer);
/* Whether the peer has proved a key that may write to the context now. */
bool sync_met_writer(sync_context *context, const cal_peer_id *peer);

/* --- tree_serve.c --- TreeNodeRequest, LevelWiseRequest, EntityPush, EntityDeletePush. */
void sync_serve_tree(sync_serving *serving);
void sync_serving_tree_free(sync_serving *serving);

/* --- tree_compare.c --- */
typedef struct sync_tree sync_tree;
/* What differs was exchanged as far as it may be (0): heads are to be compared again. Otherwise why
 * not. It is gone then. */
typedef void (*sync_tree_done)(void *user, int result, const char *why);
/* root: the peer's. 0, or why it could not begin. */
int sync_tree_new(sync_context *context, sync_session *session, const cal_hash *root,
                  sync_tree_done done, void *user, sync_tree **ret_tree);
void sync_tree_answer(sync_tree *tree, const sync_message *message);
void sync_tree_leave(sync_tree *tree); /* before it is done: nothing more is heard of it */

#endif
