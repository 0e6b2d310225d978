/* Serving blobs to peers, see blobs.h.
 *
 * A transfer is a stream and a task. The task works on a worker (looks, then reads one chunk ahead
 * of what is being sent) or it is idle on the loop; `working` says which, and only the loop looks
 * at it. While the worker has it, reader, chunk, bytes and result are the worker's. So a transfer
 * is freed when its stream is gone and it is not working. */
#include <assert.h>
#include <stdlib.h>

#include "base/error.h"
#include "sync/blobs.h"

enum {
    CHUNK_FRAME_MAX = 4 + SYNC_BLOB_CHUNK_MAX,
    RESPONSE_MAX = 256,
    REQUEST_SIGNED = 72,
    OFFSET_SIZE = 8,
};

struct sync_blob_server {
    cal_p2p *host;
    cal_blobs *blobs;
    const cal_runner *runner;
    sync_blob_questions questions;
    net_messages_protocol protocol, rest;
    cal_list transfers;
    uint32_t count;
    bool stopping;
    void (*done)(void *user);
    void *done_user;
    cal_task end_task;
    sync_blob_served served;
};

typedef struct transfer {
    cal_list link; /* server->transfers */
    sync_blob_server *server;
    net_messages *messages; /* NULL: gone */
    cal_peer_id peer;
    sync_blob_request request;
    cal_task task;
    bool asked, working;
    bool rest; /* from the offset on */
    uint64_t offset;
    bool sending, ready, last; /* a frame is on its way; the next one is made; it ends the blob */
    /* the worker's while it works */
    bool opened, check;
    int result;
    cal_blobs_reader *reader;
    cal_blobs_info info;
    cal_buffer frame; /* to be sent next */
} transfer;

/* --- life --- */

static void end_run(cal_task *task) {
    sync_blob_server *server = CAL_CONTAINER_OF(task, sync_blob_server, end_task);
    void (*done)(void *user) = server->done;
    void *user = server->done_user;
    free(server);
    if (done) done(user);
}

static void end_when_idle(sync_blob_server *server) {
    if (!server->stopping || server->count > 0) return;
    server->end_task.run = end_run;
    server->runner->on_loop(server->runner->user, &server->end_task);
}

static void free_when_idle(transfer *t) {
    if (t->messages || t->working) return;
    sync_blob_server *server = t->server;
    cal_list_remove(&t->link);
    cal_blobs_read_close(t->reader);
    cal_buffer_deinit(&t->frame);
    free(t);
    server->count--;
    end_when_idle(server);
}

static void give_up(transfer *t) {
    if (t->messages) net_messages_reset(t->messages);
}

/* --- sending --- */

static void work(transfer *t, void (*run)(cal_task *task)) {
    assert(!t->working);
    t->working = true;
    t->task.run = run;
    t->server->runner->on_worker(t->server->runner->user, &t->task);
}

static void read_ahead(cal_task *task);

/* Sends what is made, and has the next one made. */
static void send_ready(transfer *t) {
    if (!t->messages || !t->ready || t->sending) return;
    if (net_messages_send(t->messages, cal_buffer_slice(&t->frame))) {
        t->server->served.failed++;
        give_up(t);
        return;
    }
    t->server->served.bytes += t->frame.len;
    t->ready = false;
    t->sending = true;
    if (t->last) {
        net_messages_finish(t->messages);
        t->server->served.served += t->reader != NULL;
    } else {
        work(t, read_ahead);
    }
}

static void made(cal_task *task) {
    transfer *t = CAL_CONTAINER_OF(task, transfer, task);
    t->working = false;
    t->ready = t->result == 0;
    if (t->result && t->messages) {
        t->server->served.failed++;
        give_up(t);
    }
    send_ready(t);
    free_when_idle(t);
}

/* On a worker: the next chunk as a frame; the empty one after the last. */
static void read_ahead(cal_task *task) {
    transfer *t = CAL_CONTAINER_OF(task, transfer, task);
    cal_slice chunk = {0};
    cal_buffer_reset(&t->frame);
    t->result = cal_blobs_read_chunk(t->reader, &chunk);
    if (!t->result) t->result = sync_blob_chunk_write(chunk, &t->frame);
    t->last = chunk.len == 0;
    task->run = made;
    t->server->runner->on_loop(t->server->runner->user, task);
}

/* --- the request --- */

static bool signature_holds(const sync_blob_request *request) {
    cal_buffer bytes;
    cal_buffer_init(&bytes, REQUEST_SIGNED);
    bool holds =
        sync_blob_request_signable(request, &bytes) == 0 &&
        cal_verify_strict(request->key.bytes, cal_buffer_slice(&bytes), request->signature);
    cal_buffer_deinit(&bytes);
    return holds;
}

static void answered(cal_task *task) {
    transfer *t = CAL_CONTAINER_OF(task, transfer, task);
    if (t->result == CAL_EDENIED) t->server->served.refused++;
    if (t->result == CAL_ENOTFOUND) t->server->served.not_found++;
    if (t->result == CAL_EDENIED || t->result == CAL_ENOTFOUND) t->result = 0; /* "found": false */
    t->opened = true;
    made(task);
}

/* On a worker: may they have it, is it here; the response. */
static void look(cal_task *task) {
    transfer *t = CAL_CONTAINER_OF(task, transfer, task);
    if (t->check && !signature_holds(&t->request)) t->result = CAL_EDENIED;
    if (!t->result)
        t->result =
            cal_blobs_read_open(t->server->blobs, &t->request.blob, &t->reader, &t->info, NULL);
    if (!t->result && t->rest) cal_blobs_seek(t->reader, t->offset);
    sync_blob_response response = {
        .found = t->result == 0, .has_size = t->result == 0, .size = t->info.size};
    t->last = !response.found;
    if (t->result == 0 || t->result == CAL_EDENIED || t->result == CAL_ENOTFOUND) {
        int result = sync_blob_response_write(&response, &t->frame);
        if (result) t->result = result;
    }
    task->run = answered;
    t->server->runner->on_loop(t->server->runner->user, task);
}

/* Whether a signature would make a difference: a member, and said in time. */
static bool may_prove(transfer *t) {
    const sync_blob_questions *ask = &t->server->questions;
    const cal_os *os = net_os(t->server->host);
    uint64_t now_s = os->wall_ns(os->user) / 1000000000u, said_s = t->request.timestamp_s;
    return t->request.has_auth && said_s <= now_s + SYNC_BLOB_AUTH_AHEAD_S &&
           (said_s >= now_s || now_s - said_s <= SYNC_BLOB_AUTH_AGE_S) &&
           ask->is_member(ask->user, &t->request.context, &t->request.key);
}

static void on_message(void *user, net_messages *messages, cal_slice bytes) {
    transfer *t = user;
    const sync_blob_questions *ask = &t->server->questions;
    if (!t || t->asked) return;
    t->asked = true;
    t->server->served.requests++;
    if (t->rest && bytes.len >= OFFSET_SIZE) {
        t->offset = cal_read_u64le(bytes.data);
        bytes = cal_slice_of(bytes.data + OFFSET_SIZE, bytes.len - OFFSET_SIZE);
    }
    if (sync_blob_request_decode(bytes, &t->request)) {
        t->server->served.malformed++;
        net_messages_reset(messages);
        return;
    }
    if (!ask->is_code(ask->user, &t->request.context, &t->request.blob)) {
        t->check = may_prove(t);
        if (!t->check) t->result = CAL_EDENIED;
    }
    work(t, look);
}

static bool has_room(sync_blob_server *server, const cal_peer_id *peer) {
    uint32_t same = 0;
    for (cal_list *at = server->transfers.next; at != &server->transfers; at = at->next)
        same += cal_peer_id_equal(&CAL_CONTAINER_OF(at, transfer, link)->peer, peer);
    return !server->stopping && same < SYNC_BLOB_SERVED_PEER_MAX &&
           server->count < SYNC_BLOB_SERVED_MAX;
}

static void open_transfer(sync_blob_server *server, net_messages *messages, bool rest) {
    cal_peer_id peer;
    net_messages_peer(messages, &peer);
    transfer *t = has_room(server, &peer) ? calloc(1, sizeof *t) : NULL;
    net_messages_set_user(messages, t);
    if (!t) {
        server->served.refused++;
        net_messages_reset(messages);
        return;
    }
    t->server = server;
    t->messages = messages;
    t->peer = peer;
    t->rest = rest;
    cal_buffer_init(&t->frame, CHUNK_FRAME_MAX > RESPONSE_MAX ? CHUNK_FRAME_MAX : RESPONSE_MAX);
    cal_list_push(&server->transfers, &t->link);
    server->count++;
}

static void on_opened(void *user, net_messages *messages) { open_transfer(user, messages, false); }
static void on_rest_opened(void *user, net_messages *messages) {
    open_transfer(user, messages, true);
}

static void on_sent(void *user, net_messages *messages) {
    transfer *t = user;
    if (!t) return;
    t->sending = false;
    /* who has got all and does not end keeps his place no longer than a chunk would take */
    if (!t->working && !t->ready && t->last) net_messages_expect(messages, SYNC_BLOB_WAIT_MS);
    send_ready(t);
}

static void on_ended(void *user, net_messages *messages, int reason) {
    transfer *t = user;
    (void)messages, (void)reason;
    if (!t) return;
    t->messages = NULL;
    free_when_idle(t);
}

static const net_messages_events events = {on_opened, on_message, on_sent, on_ended},
                                 rest_events = {on_rest_opened, on_message, on_sent, on_ended};

/* --- the server --- */

int sync_blobs_serve(cal_p2p *host, cal_blobs *blobs, const cal_runner *runner,
                     const sync_blob_questions *questions, sync_blob_server **ret_server) {
    sync_blob_server *server = calloc(1, sizeof *server);
    if (!server) return CAL_ENOMEM;
    server->host = host;
    server->blobs = blobs;
    server->runner = runner;
    server->questions = *questions;
    cal_list_init(&server->transfers);
    server->protocol = (net_messages_protocol){.id = NET_BLOB_PROTOCOL,
                                               .session_ms = NET_BLOB_SERVE_TIMEOUT_MS,
                                               .peer_streams_max = SYNC_BLOB_SERVED_PEER_MAX,
                                               .events = &events,
                                               .user = server};
    server->rest = server->protocol;
    server->rest.id = NET_BLOB_REST_PROTOCOL;
    server->rest.events = &rest_events;
    int result = net_messages_serve(host, &server->protocol);
    if (result == 0 && (result = net_messages_serve(host, &server->rest)) != 0)
        net_messages_unserve(host, &server->protocol);
    if (result) {
        free(server);
        return result;
    }
    *ret_server = server;
    return 0;
}

void sync_blobs_unserve(sync_blob_server *server, void (*done)(void *user), void *user) {
    assert(!server->stopping);
    server->stopping = true;
    server->done = done;
    server->done_user = user;
    net_messages_unserve(server->host, &server->protocol);
    net_messages_unserve(server->host, &server->rest);
    for (cal_list *at = server->transfers.next; at != &server->transfers; at = at->next)
        give_up(CAL_CONTAINER_OF(at, transfer, link));
    end_when_idle(server);
}

void sync_blobs_server_free(sync_blob_server *server) { free(server); }

void sync_blob_served_get(const sync_blob_server *server, sync_blob_served *ret_served) {
    *ret_served = server->served;
}
