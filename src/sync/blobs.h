/* Blobs between peers over /calimero/blob/0.0.2 (network-sync.md 10, path B): one stream a blob, a
 * request, a response, then the chunks and an empty one.
 *
 * Both sides live on the loop thread and wait for nothing there: the store's answers and the work
 * that blocks (reading chunks, checking signatures) come back through a cal_runner. At any time a
 * transfer holds one chunk or two, so a slow peer costs its own transfer and no memory.
 *
 * Serving. Who may have a blob: anybody who knows a context of ours and asks for that context's own
 * code; else a member of the context, who proves it with a signature of the last
 * SYNC_BLOB_AUTH_AGE_S seconds. Everybody else is told what those are told who ask for a blob that
 * is not here.
 *
 * Fetching. The peers of a list are asked one after the other; whoever has it not, sends something
 * else, too much, too little or nothing costs its turn and no more: nothing is there until the id
 * of all that came is the one asked for.
 *
 * Going on. When a stream ends early what came is kept, and the next peer, or the same one in
 * another round, is asked for the rest over NET_BLOB_REST_PROTOCOL, which only nodes of this kind
 * speak: the offset (u64, little-endian) before the same request, then all as before. Who does not
 * speak it is asked for all of it. Bytes of several peers that are not the blob together: none of
 * them is believed, and all of it is asked for again, whole. */
#ifndef CAL_SYNC_BLOBS_H
#define CAL_SYNC_BLOBS_H

#include "base/task.h"
#include "blob/blob.h"
#include "net/messages.h"
#include "sync/message.h"

enum {
    SYNC_BLOB_AUTH_AGE_S = 30,
    SYNC_BLOB_AUTH_AHEAD_S = 10,
    SYNC_BLOB_WAIT_MS = 30000, /* for an answer, and for each chunk */
    /* All of a transfer, at its requester: as long as a server gives it. The reference's requesters
     * give up after a minute (NET_BLOB_TIMEOUT_MS), and so never get a large blob over a slow line.
     */
    SYNC_BLOB_FETCH_MS = NET_BLOB_SERVE_TIMEOUT_MS,
    SYNC_BLOB_PEERS_MAX = 64,      /* asked in one fetch */
    SYNC_BLOB_ROUNDS_MAX = 64,     /* of asking them for the rest: 5 hours for a blob */
    SYNC_BLOB_SERVED_MAX = 64,     /* transfers served at once */
    SYNC_BLOB_SERVED_PEER_MAX = 4, /* to one peer */
};

/* --- serving --- */

/* What the node answers, at once, on the loop. */
typedef struct sync_blob_questions {
    void *user;
    /* The context is known here, and the blob is the code that its members run. */
    bool (*is_code)(void *user, const cal_context_id *context, const cal_blob_id *blob);
    /* The context is known here, and the key is one of a member of it. */
    bool (*is_member)(void *user, const cal_context_id *context, const cal_public_key *key);
} sync_blob_questions;

typedef struct sync_blob_server sync_blob_server;

typedef struct sync_blob_served { /* since the start */
    uint64_t requests, served, not_found, refused, malformed, failed, bytes;
} sync_blob_served;

/* All four outlive it; `questions` is copied. CAL_ENOMEM, CAL_EEXISTS the protocol is served
 * already. */
int sync_blobs_serve(cal_p2p *host, cal_blobs *blobs, const cal_runner *runner,
                     const sync_blob_questions *questions, sync_blob_server **ret_server);
/* Takes no more requests and ends the transfers; frees the server, then calls done (may be NULL) on
 * the loop, never inside this call. The host may be freed meanwhile; the blobs and the runner may
 * not before done. */
void sync_blobs_unserve(sync_blob_server *server, void (*done)(void *user), void *user);
/* Instead, when the loop never ran and the host is gone. NULL allowed. */
void sync_blobs_server_free(sync_blob_server *server);
void sync_blob_served_get(const sync_blob_server *server, sync_blob_served *ret_served);

/* --- fetching --- */

typedef struct sync_blob_fetch sync_blob_fetch;

typedef struct sync_blob_wanted {
    cal_blob_id blob;
    cal_context_id context;
    const cal_peer_id *peers; /* copied; SYNC_BLOB_PEERS_MAX at most, asked in this order */
    size_t peer_count;
    uint64_t size_max; /* bytes; 0: CAL_BLOB_UPLOAD_MAX, which it never exceeds */
    /* Our key in the context, and what signs with it; sign NULL: the request is not signed, which
     * suffices for a context's code. */
    cal_public_key key;
    void (*sign)(void *user, cal_slice message, uint8_t ret_signature[CAL_SIGNATURE_SIZE]);
    /* On the loop; may be NULL. size 0: the peer did not say. May start again from 0. */
    void (*progress)(void *user, uint64_t received, uint64_t size);
    /* On the loop; may be NULL. A peer whose turn is over without the blob: CAL_ENOTFOUND it says
     * that it has none (or not for us), CAL_EUNREACHABLE, CAL_ETIMEOUT, CAL_ELIMIT too much,
     * CAL_EVERIFY something else, CAL_EDECODE nonsense, or how the stream ended. */
    void (*turned)(void *user, const cal_peer_id *peer, int result, const char *why);
    /* On the loop, once, never inside a call: 0 and the blob that is in the store now; else why
     * (info is NULL, err says it in words): CAL_ENOTFOUND no peer has it, CAL_ECANCELED, what the
     * last peer did that did not say so, or what kept the store from taking it. */
    void (*done)(void *user, int result, const cal_blobs_info *info, const cal_error *err);
    void *user;
} sync_blob_wanted;

/* `host`, `blobs` and `runner` outlive the fetch. CAL_EINVAL no peers, CAL_ELIMIT too many,
 * CAL_ENOMEM. */
int sync_blobs_fetch(cal_p2p *host, cal_blobs *blobs, const cal_runner *runner,
                     const sync_blob_wanted *wanted, sync_blob_fetch **ret_fetch);
/* Asks nobody any more; `done` follows soon, with CAL_ECANCELED unless all was there already. Not
 * after done. The host may be freed once every fetch was cancelled. */
void sync_blobs_cancel(sync_blob_fetch *fetch);

#endif
