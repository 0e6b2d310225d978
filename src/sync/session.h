/* Asking a peer on one stream: a request, its answer, the next request (network-sync.md 2). Loop
 * thread. */
#ifndef CAL_SYNC_SESSION_H
#define CAL_SYNC_SESSION_H

#include "sync/internal.h"
#include "sync/message.h"

typedef struct sync_session sync_session;
typedef struct sync_session_events {
    /* The answer to the last request, valid during the call, in which the next may be asked:
     * SYNC_MESSAGE, SYNC_OPAQUE_ERROR or SYNC_NOT_MATERIALIZED. */
    void (*answer)(void *user, sync_session *session, const sync_message *message);
    /* It is over, exactly once, never inside a call into this module. 0: finished here or there. */
    void (*ended)(void *user, sync_session *session, int reason);
} sync_session_events;

/* CAL_EUNREACHABLE, CAL_ELIMIT, CAL_ENOMEM, CAL_ECANCELED (sync stops). session_ms: all of it. */
int sync_session_open(cal_sync *sync, const cal_peer_id *peer, uint32_t session_ms,
                      const sync_session_events *events, void *user, sync_session **ret_session);
/* One at a time. context NULL: a request about a namespace. */
int sync_session_ask(sync_session *session, const cal_context_id *context,
                     const sync_request *request);
void sync_session_expect(sync_session *session); /* one more answer to the same request */
void sync_session_finish(sync_session *session); /* `ended` follows; nothing else does */
void sync_session_peer(const sync_session *session, cal_peer_id *ret_peer);

#endif
