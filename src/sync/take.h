/* Taking a context's whole state from a peer on the stream of a comparison (network-sync.md 8.4):
 * boundary, pages, verification, installation. When the stream breaks off what has come is kept for
 * a while with the context, and the next one to be taken goes on from there, with whoever still
 * hands out the same state. Loop thread. */
#ifndef CAL_SYNC_TAKE_H
#define CAL_SYNC_TAKE_H

#include "sync/context.h"
#include "sync/session.h"

typedef struct sync_take sync_take;

/* Goes on with what is kept, if anything is. done comes once, on the loop, never inside a call: 0
 * once the state is durable, or why not with words. The session stays the caller's, who passes each
 * answer on (sync_take_answer). CAL_ENOMEM, and what asking answers. */
int sync_take_new(sync_context *context, sync_session *session,
                  void (*done)(void *user, int result, const char *why), void *user,
                  sync_take **ret_take);
/* Nothing more is asked of the peer: what came is being verified or installed. */
bool sync_take_has_all(const sync_take *take);
void sync_take_answer(sync_take *take, const sync_message *message);
/* The session is gone: done is not called, and what has come is kept. */
void sync_take_leave(sync_take *take);
/* Something is kept, and the last stream has brought some of it. */
bool sync_take_moves(const sync_context *context);
/* What is kept goes: there is a state, or the context goes, or the node stops. */
void sync_take_forget(sync_context *context);
void sync_take_look(sync_context *context, uint64_t now_ms); /* ... or it is too old */

#endif
