/* What nodes of one namespace do with each other: governance and state over gossip and streams,
 * joining, catching up, applications and blobs (governance.md 5, 6, 10; network-sync.md 5, 6, 8,
 * 10). docs/design/sync.md tells how it is built.
 *
 * What is durable here goes out, what comes in is judged, applied and made durable before anybody
 * sees it. Nothing waits by sleeping: whatever cannot go on yet waits for the operation, key, delta
 * or peer that it needs, and a tick looks after deadlines. Loop thread, for everything. */
#ifndef CAL_SYNC_SYNC_H
#define CAL_SYNC_SYNC_H

#include "calimero/share.h"
#include "context/context.h"
#include "gov/commit.h"
#include "gov/gov.h"

typedef struct cal_sync cal_sync;

enum { CAL_SYNC_TICK_MS = 250 };

/* What sync needs of the node around it. */
typedef struct cal_sync_options {
    const cal_os *os;
    cal_store *store;
    cal_gov *gov;
    cal_contexts *contexts;
    struct cal_blobs *blobs; /* of which a context's code is handed out */
    const gov_committer *committer;
    const cal_runner *runner;
    cal_p2p *host; /* it stops before sync is freed */
    void *user;
    /* A namespace or context is to be heard, or no longer: its topic. */
    void (*hear_namespace)(void *user, const cal_group_id *id, bool hears);
    void (*hear_context)(void *user, const cal_context_id *id, bool hears);
    /* Rows of a namespace that was given up are left: they go in the background. */
    void (*rows_left)(void *user);
    /* The code that a context runs is not here: it is to be fetched from whoever hears the context,
     * and cal_sync_code_came called when it is here. */
    void (*code_wanted)(void *user, const cal_context_id *context,
                        const cal_application_id *application, const cal_blob_id *code);
    /* Whether it is: installed, as this application's. */
    bool (*code_here)(void *user, const cal_application_id *application, const cal_blob_id *code);
    /* The application's version that this code is; "": not known. NULL: none is. */
    void (*code_version)(void *user, const cal_application_id *application, const cal_blob_id *code,
                         char *ret_version, size_t size);
    /* Whether this node takes no part in the context though it may. NULL: in all it may. */
    bool (*left)(void *user, const cal_context_id *context);
} cal_sync_options;

/* CAL_ENOMEM, and what serving a protocol answers. */
int cal_sync_new(const cal_sync_options *options, cal_sync **ret_sync);
/* Reads what is there: namespaces and contexts that are to be heard. Once, before the loop runs. */
int cal_sync_open(cal_sync *sync, cal_error *err);
void cal_sync_tick(cal_sync *sync); /* every CAL_SYNC_TICK_MS */
/* Begins nothing more, and asks nothing of the host: before a host is freed that drain did not
 * close. */
void cal_sync_quit(cal_sync *sync);
/* Quits; done once nothing of it is under way, perhaps at once. */
void cal_sync_drain(cal_sync *sync, void (*done)(void *user), void *user);
void cal_sync_free(cal_sync *sync); /* after drain, or when the loop never ran; NULL allowed */

/* --- what the node passes on --- */
void cal_sync_gossip(cal_sync *sync, const cal_p2p_message *message);
void cal_sync_subscribed(cal_sync *sync, const char *topic, const cal_peer_id *peer, bool hears);
void cal_sync_authored(cal_sync *sync, const cal_authored_delta *delta);
void cal_sync_code_came(cal_sync *sync, const cal_blob_id *code);
/* How it stands with code that was wanted: for the status of the contexts that wait for it. */
void cal_sync_code_state(cal_sync *sync, const cal_blob_id *code, const char *why);
/* Looks again whether this node takes part in a registered context: `left` answers otherwise. */
void cal_sync_follow(cal_sync *sync, const cal_context_id *id);
/* A context is here (created or adopted), or gone. */
void cal_sync_context(cal_sync *sync, const cal_context_id *id, bool here);

/* --- joining --- */
enum { CAL_SYNC_JOIN_TIMEOUT_MS = 60000 };
/* Joins the namespace of an invitation (copied): at these addresses, and through whoever else is
 * connected. CAL_EINVAL, CAL_EVERIFY, CAL_ETIMEOUT (expired), CAL_EDENIED (a member refused, with
 * its words), CAL_EUNREACHABLE (no member could be reached in time). */
void cal_sync_join(cal_sync *sync, const gov_invitation *invitation, const char *name,
                   const cal_multiaddr *addresses, size_t address_count, cal_join_done done,
                   void *user);

/* --- catching up by hand --- */
/* Compares with a peer that hears the context, and takes what is missing. NULL: every context; then
 * done comes when each was compared once, or could not be. */
void cal_sync_now(cal_sync *sync, const cal_context_id *context, cal_simple_done done, void *user);

/* --- compaction --- */
/* Old deltas of the context were taken away. */
void cal_sync_compacted(cal_sync *sync, const cal_context_id *context);
/* Heads of which a member has said that it has them, and that are here, too; 0: no member has
 * lately. CAL_SYNC_ALONE_HERE: nobody but this node could have any. */
enum { CAL_SYNC_COMMON_MAX = 32, CAL_SYNC_ALONE_HERE = -1 };
int cal_sync_common(cal_sync *sync, const cal_context_id *context,
                    cal_hash ret_heads[CAL_SYNC_COMMON_MAX]);
/* Worker: when the oldest delta was made (hlc) that is here and not below these heads, or one of
 * them; UINT64_MAX: there is none. */
int cal_sync_unsent(cal_store *store, const cal_context_id *context, const cal_hash *common,
                    size_t count, uint64_t *ret_time);
/* It is catching up, or a peer has just been fetching deltas of it. */
bool cal_sync_moves(cal_sync *sync, const cal_context_id *context);

/* --- what is known --- */
int cal_sync_status_get(cal_sync *sync, const cal_context_id *context,
                        cal_sync_status *ret_status); /* CAL_ENOTFOUND */

const cal_sync_stats *cal_sync_figures(const cal_sync *sync);

#endif
