/* Fetching a blob from peers, see blobs.h.
 *
 * One turn: a stream to one peer, and a writer once it has answered. Everything happens on the
 * loop, except that the store's thread says when the writer has room and when it is done; it leaves
 * its word in `stored` and posts store_task, of which there is one at a time since the writer has
 * one answer outstanding at a time. A turn is over when its stream is gone and no answer is
 * outstanding; only then is the next one begun, from step_task, never inside an event. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "sync/blobs.h"

typedef enum turn_stage {
    TURN_ASKED,   /* for its response */
    TURN_CHUNKS,  /* which come */
    TURN_STORING, /* all came: the store says whether it is the blob */
    TURN_OVER,
} turn_stage;

struct sync_blob_fetch {
    cal_p2p *host;
    cal_blobs *blobs;
    const cal_runner *runner;
    sync_blob_wanted wanted;
    cal_peer_id peers[SYNC_BLOB_PEERS_MAX];
    size_t next;
    bool canceled, step_posted;
    cal_task step_task, store_task;
    int local; /* why the store does not take it: nobody else is asked */
    cal_error err;
    /* what came in turns before; the writer then has it */
    uint32_t rounds;
    bool whole;  /* no rest is asked for: it was not the blob */
    bool broken; /* in this round a stream ended that had brought something */
    /* the turn */
    bool turning;
    bool rest;      /* what came before is gone on with */
    uint64_t began; /* bytes that had come when it began */
    turn_stage stage;
    int result;      /* of a turn that is over */
    const char *why; /* static */
    net_messages *messages;
    cal_blobs_writer *writer;
    uint64_t received, size;
    bool has_size, storing; /* storing: an answer of the store is outstanding */
    int stored;             /* that answer */
    cal_blobs_info info;
};

enum { REQUEST_MAX = 4096, SIGNED_MAX = 72 };

static void step_later(sync_blob_fetch *fetch) {
    if (fetch->step_posted) return;
    fetch->step_posted = true;
    fetch->runner->on_loop(fetch->runner->user, &fetch->step_task);
}

/* --- the end of a turn --- */

static void turn_end(sync_blob_fetch *fetch, int result, const char *why) {
    if (fetch->stage == TURN_OVER) return;
    fetch->stage = TURN_OVER;
    fetch->result = result;
    fetch->why = why;
    if (fetch->messages) net_messages_reset(fetch->messages);
    step_later(fetch);
}

/* What the store answers to bytes it does not take: too many are the peer's fault, all else ours.
 */
static void store_failed(sync_blob_fetch *fetch, int result) {
    if (result == CAL_ELIMIT) {
        turn_end(fetch, result, "it sent more than it announced");
        return;
    }
    if (result == CAL_EVERIFY) {
        turn_end(fetch, result, "what it sent is another content");
        return;
    }
    fetch->local = result;
    turn_end(fetch, result, "the store does not take it");
}

/* --- the store's answers --- */

static void stored(cal_task *task) {
    sync_blob_fetch *fetch = CAL_CONTAINER_OF(task, sync_blob_fetch, store_task);
    fetch->storing = false;
    if (fetch->stage == TURN_STORING) {
        if (fetch->stored) {
            store_failed(fetch, fetch->stored);
        } else {
            fetch->stage = TURN_OVER;
            fetch->result = 0;
        }
        step_later(fetch);
    } else if (fetch->stage == TURN_CHUNKS) {
        if (fetch->stored)
            store_failed(fetch, fetch->stored);
        else
            net_messages_expect(fetch->messages, SYNC_BLOB_WAIT_MS);
    } else {
        step_later(fetch);
    }
}

/* These two on the store's thread, or on the loop. */
static void on_room(void *user, int result) {
    sync_blob_fetch *fetch = user;
    fetch->stored = result;
    fetch->runner->on_loop(fetch->runner->user, &fetch->store_task);
}

static void on_stored(void *user, int result, const cal_blobs_info *info) {
    sync_blob_fetch *fetch = user;
    fetch->stored = result;
    if (info) fetch->info = *info;
    fetch->runner->on_loop(fetch->runner->user, &fetch->store_task);
}

/* --- what the peer says --- */

static uint64_t limit(const sync_blob_fetch *fetch) {
    uint64_t max = fetch->wanted.size_max;
    return max && max < CAL_BLOB_UPLOAD_MAX ? max : CAL_BLOB_UPLOAD_MAX;
}

static void take_response(sync_blob_fetch *fetch, cal_slice bytes) {
    sync_blob_response response;
    if (sync_blob_response_decode(bytes, &response)) {
        turn_end(fetch, CAL_EDECODE, "its response is malformed");
        return;
    }
    if (!response.found) {
        turn_end(fetch, CAL_ENOTFOUND, "it has no such blob, or not for us");
        return;
    }
    if (response.has_size && response.size > limit(fetch)) {
        turn_end(fetch, CAL_ELIMIT, "it announced more bytes than are allowed");
        return;
    }
    if (fetch->rest) {
        bool same = fetch->has_size == response.has_size && fetch->size == response.size;
        fetch->stage = TURN_CHUNKS;
        if (same)
            net_messages_expect(fetch->messages, SYNC_BLOB_WAIT_MS);
        else
            turn_end(fetch, CAL_EVERIFY, "it has another size of it");
        return;
    }
    fetch->has_size = response.has_size;
    fetch->size = response.size;
    int result = cal_blobs_create(fetch->blobs, response.has_size ? response.size : limit(fetch),
                                  &fetch->writer, NULL);
    if (result) {
        fetch->writer = NULL;
        store_failed(fetch, result);
        return;
    }
    fetch->stage = TURN_CHUNKS;
    net_messages_expect(fetch->messages, SYNC_BLOB_WAIT_MS);
}

static void take_end(sync_blob_fetch *fetch) {
    if (fetch->has_size && fetch->received != fetch->size) {
        turn_end(fetch, CAL_EVERIFY, "it sent less than it announced");
        return;
    }
    cal_blobs_writer *writer = fetch->writer;
    fetch->writer = NULL;
    fetch->stage = TURN_STORING;
    fetch->storing = true;
    net_messages_finish(fetch->messages);
    cal_blobs_finish_async(writer, &fetch->wanted.blob, on_stored, fetch);
}

static void take_chunk(sync_blob_fetch *fetch, cal_slice bytes) {
    cal_slice chunk;
    if (sync_blob_chunk_decode(bytes, &chunk)) {
        turn_end(fetch, CAL_EDECODE, "a chunk is malformed");
        return;
    }
    if (chunk.len == 0) {
        take_end(fetch);
        return;
    }
    fetch->received += chunk.len;
    int result = cal_blobs_write_async(fetch->writer, chunk, on_room, fetch);
    fetch->storing = result == CAL_EBUSY;
    if (result && result != CAL_EBUSY) {
        store_failed(fetch, result);
        return;
    }
    if (fetch->wanted.progress)
        fetch->wanted.progress(fetch->wanted.user, fetch->received, fetch->size);
    if (!fetch->storing && fetch->stage == TURN_CHUNKS)
        net_messages_expect(fetch->messages, SYNC_BLOB_WAIT_MS);
}

static void on_message(void *user, net_messages *messages, cal_slice bytes) {
    sync_blob_fetch *fetch = user;
    (void)messages;
    if (!fetch) return;
    if (fetch->stage == TURN_ASKED)
        take_response(fetch, bytes);
    else if (fetch->stage == TURN_CHUNKS)
        take_chunk(fetch, bytes);
}

static const char *ended_text(int reason) {
    switch (reason) {
    case CAL_ETIMEOUT:
        return "it said nothing for too long";
    case CAL_EUNSUPPORTED:
        return "it does not serve blobs";
    case CAL_EDECODE:
    case CAL_ELIMIT:
        return "it sent something that is no message";
    default:
        return "the stream ended early";
    }
}

static void on_ended(void *user, net_messages *messages, int reason) {
    sync_blob_fetch *fetch = user;
    (void)messages;
    if (!fetch) return;
    fetch->messages = NULL;
    if (reason == 0 || reason == CAL_ECANCELED) reason = CAL_EUNREACHABLE; /* it was not us */
    if (fetch->stage == TURN_ASKED || fetch->stage == TURN_CHUNKS)
        turn_end(fetch, reason, ended_text(reason));
    else
        step_later(fetch);
}

/* --- asking --- */

static int sign_request(sync_blob_fetch *fetch, sync_blob_request *request) {
    const cal_os *os = net_os(fetch->host);
    cal_buffer bytes;
    request->has_auth = true;
    request->key = fetch->wanted.key;
    request->timestamp_s = os->wall_ns(os->user) / 1000000000u;
    cal_buffer_init(&bytes, SIGNED_MAX);
    int result = sync_blob_request_signable(request, &bytes);
    if (!result)
        fetch->wanted.sign(fetch->wanted.user, cal_buffer_slice(&bytes), request->signature);
    cal_buffer_deinit(&bytes);
    return result;
}

static void on_opened(void *user, net_messages *messages) {
    sync_blob_fetch *fetch = user;
    sync_blob_request request = {.blob = fetch->wanted.blob, .context = fetch->wanted.context};
    cal_buffer bytes;
    if (!fetch || fetch->stage != TURN_ASKED) return;
    cal_buffer_init(&bytes, REQUEST_MAX);
    uint8_t offset[8];
    cal_write_u64le(offset, fetch->received);
    int result = fetch->wanted.sign ? sign_request(fetch, &request) : 0;
    if (!result && fetch->rest) result = cal_buffer_append(&bytes, offset, sizeof offset);
    if (!result) result = sync_blob_request_write(&request, &bytes);
    if (!result) result = net_messages_send(messages, cal_buffer_slice(&bytes));
    cal_buffer_deinit(&bytes);
    if (result)
        turn_end(fetch, result, "the request could not be sent");
    else
        net_messages_expect(messages, SYNC_BLOB_WAIT_MS);
}

static const net_messages_events events = {on_opened, on_message, NULL, on_ended};

static void turn_begin(sync_blob_fetch *fetch) {
    const cal_peer_id *peer = &fetch->peers[fetch->next++];
    fetch->turning = true;
    fetch->stage = TURN_ASKED;
    fetch->rest = fetch->writer != NULL;
    if (!fetch->rest) {
        fetch->received = fetch->size = 0;
        fetch->has_size = false;
    }
    fetch->began = fetch->received;
    int result = net_messages_open(fetch->host, peer,
                                   fetch->rest ? NET_BLOB_REST_PROTOCOL : NET_BLOB_PROTOCOL,
                                   SYNC_BLOB_FETCH_MS, &events, fetch, &fetch->messages);
    if (!result) return;
    fetch->messages = NULL;
    turn_end(fetch, result, "it is not connected");
}

/* --- from turn to turn --- */

static void end(sync_blob_fetch *fetch, int result) {
    cal_blobs_abort(fetch->writer); /* NULL allowed */
    sync_blob_wanted wanted = fetch->wanted;
    cal_blobs_info info = fetch->info;
    cal_error err = fetch->err;
    char blob[CAL_ID_TEXT_MAX];
    cal_id_to_base58(wanted.blob.bytes, blob);
    if (result == CAL_ENOTFOUND)
        cal_fail(&err, result, "none of the %zu peers asked has the blob %s", fetch->next, blob);
    else if (result == CAL_ECANCELED)
        cal_fail(&err, result, "fetching the blob %s was cancelled", blob);
    free(fetch);
    wanted.done(wanted.user, result, result ? NULL : &info, result ? &err : NULL);
}

/* Notes how the turn went. What a peer did wrong is worth more to know than that another has
 * nothing. */
static void note_turn(sync_blob_fetch *fetch) {
    const cal_peer_id *peer = &fetch->peers[fetch->next - 1];
    char blob[CAL_ID_TEXT_MAX], text[CAL_PEER_ID_TEXT_MAX];
    if (fetch->result != CAL_ENOTFOUND) {
        cal_id_to_base58(fetch->wanted.blob.bytes, blob);
        cal_peer_id_text(peer, text);
        cal_fail(&fetch->err, fetch->result, "the blob %s did not come from peer %s: %s", blob,
                 text, fetch->why);
    }
    if (fetch->wanted.turned && !fetch->canceled)
        fetch->wanted.turned(fetch->wanted.user, peer, fetch->result, fetch->why);
}

static void let_go(sync_blob_fetch *fetch) {
    cal_blobs_abort(fetch->writer);
    fetch->writer = NULL;
}

/* It does not speak of rests, which is nothing wrong. */
static bool is_plain(const sync_blob_fetch *fetch) {
    return fetch->rest && fetch->result == CAL_EUNSUPPORTED;
}

/* What came stays when nothing is wrong with it: the stream ended early, or this peer has none. */
static void keep_or_let_go(sync_blob_fetch *fetch) {
    bool ended = fetch->result == CAL_ETIMEOUT || fetch->result == CAL_EUNREACHABLE;
    bool kept = fetch->writer && fetch->has_size && fetch->received > 0 && !fetch->whole &&
                !fetch->canceled && !fetch->local &&
                (ended || (fetch->rest && fetch->received == fetch->began));
    if (kept && fetch->received > fetch->began) fetch->broken = true;
    if (!kept || is_plain(fetch)) let_go(fetch);
}

static void ask_for_all(sync_blob_fetch *fetch) {
    let_go(fetch);
    fetch->next--;
}

static void next_round(sync_blob_fetch *fetch) {
    if (fetch->next < fetch->wanted.peer_count || !fetch->broken ||
        fetch->rounds == SYNC_BLOB_ROUNDS_MAX)
        return;
    fetch->rounds++;
    fetch->broken = false;
    fetch->next = 0;
}

static void step(cal_task *task) {
    sync_blob_fetch *fetch = CAL_CONTAINER_OF(task, sync_blob_fetch, step_task);
    fetch->step_posted = false;
    if (fetch->turning) {
        if (fetch->stage != TURN_OVER || fetch->storing) return;
        if (fetch->messages && fetch->result) return; /* its end is on the way */
        if (fetch->messages) {                        /* all came, and the peer does not end */
            net_messages_set_user(fetch->messages, NULL);
            net_messages_reset(fetch->messages);
            fetch->messages = NULL;
        }
        bool parts = fetch->rest && fetch->result == CAL_EVERIFY && !fetch->whole;
        keep_or_let_go(fetch);
        fetch->turning = false;
        if (fetch->result == 0) {
            end(fetch, 0);
            return;
        }
        if (parts) { /* which of those that brought them was wrong is not known */
            fetch->whole = true;
            ask_for_all(fetch);
        } else if (!is_plain(fetch)) {
            note_turn(fetch);
        } else if (fetch->rounds == 0) { /* in later ones it was asked already */
            ask_for_all(fetch);
        }
        next_round(fetch);
    }
    if (fetch->canceled)
        end(fetch, CAL_ECANCELED);
    else if (fetch->local)
        end(fetch, fetch->local);
    else if (fetch->next < fetch->wanted.peer_count)
        turn_begin(fetch);
    else
        end(fetch, fetch->err.code ? fetch->err.code : CAL_ENOTFOUND);
}

int sync_blobs_fetch(cal_p2p *host, cal_blobs *blobs, const cal_runner *runner,
                     const sync_blob_wanted *wanted, sync_blob_fetch **ret_fetch) {
    if (wanted->peer_count == 0) return CAL_EINVAL;
    if (wanted->peer_count > SYNC_BLOB_PEERS_MAX) return CAL_ELIMIT;
    sync_blob_fetch *fetch = calloc(1, sizeof *fetch);
    if (!fetch) return CAL_ENOMEM;
    fetch->host = host;
    fetch->blobs = blobs;
    fetch->runner = runner;
    fetch->wanted = *wanted;
    memcpy(fetch->peers, wanted->peers, wanted->peer_count * sizeof *wanted->peers);
    fetch->wanted.peers = fetch->peers;
    fetch->step_task.run = step;
    fetch->store_task.run = stored;
    step_later(fetch);
    *ret_fetch = fetch;
    return 0;
}

void sync_blobs_cancel(sync_blob_fetch *fetch) {
    fetch->canceled = true;
    if (fetch->turning && fetch->stage != TURN_STORING)
        turn_end(fetch, CAL_ECANCELED, "it was cancelled");
    step_later(fetch);
}
