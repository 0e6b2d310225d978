/* Asking on /calimero-c/sync/1, see bulk.h. Loop thread. */
#include "sync/bulk.h"

#include <stdlib.h>

enum { ASK_MS = 10 * 60 * 1000 };

struct sync_bulk {
    cal_sync *sync;
    net_messages *messages;
    const sync_bulk_events *events;
    void *user;
    uint8_t kind;
    bool left;   /* nobody waits for it */
    bool paused; /* until it is resumed */
    bool ended;  /* by an answer: with this result */
    int result;
};

static void end_bulk(sync_bulk *bulk, int result) {
    bulk->ended = true;
    bulk->result = result;
    net_messages_reset(bulk->messages);
}

void sync_bulk_cut(sync_bulk *bulk, int result) {
    if (!bulk->left && !bulk->ended) end_bulk(bulk, result);
}

static int result_of(uint8_t end) {
    return end == SYNC_BULK_WHOLE ? 0 : end == SYNC_BULK_PART ? CAL_ELIMIT : CAL_EDENIED;
}

static void on_message(void *user, net_messages *messages, cal_slice bytes) {
    sync_bulk *bulk = user;
    sync_bulk_answer answer;
    cal_arena arena;
    (void)messages;
    if (bulk->left || bulk->ended) return;
    cal_arena_init(&arena, SYNC_ARENA_MAX);
    int rc = sync_bulk_answer_decode(bytes, &arena, &answer);
    if (rc == 0 && answer.kind != bulk->kind) rc = CAL_EDECODE;
    if (rc != 0) {
        bulk->sync->stats.malformed++;
        end_bulk(bulk, rc == CAL_ELIMIT ? CAL_EDECODE : rc);
    } else {
        bulk->sync->stats.bulk_frames++;
        bulk->paused = true;
        bool more = bulk->events->answer(bulk->user, &answer);
        if (!bulk->left && !bulk->ended && answer.end != SYNC_BULK_MORE)
            end_bulk(bulk, result_of(answer.end));
        else if (more)
            sync_bulk_resume(bulk);
    }
    cal_arena_deinit(&arena);
}

static void on_ended(void *user, net_messages *messages, int reason) {
    sync_bulk *bulk = user;
    cal_sync *sync = bulk->sync;
    (void)messages;
    int result = bulk->ended ? bulk->result : reason ? reason : CAL_EUNREACHABLE;
    if (!bulk->left) bulk->events->ended(bulk->user, result);
    free(bulk);
    sync_release(sync);
}

static const net_messages_events bulk_events = {.message = on_message, .ended = on_ended};

static int sign(cal_sync *sync, sync_bulk_request *request) {
    sync_init init = {.request = {.kind = SYNC_HEADS}, .context = request->context};
    cal_peer_id self;
    if (request->kind == SYNC_BULK_HISTORY) return 0;
    request->party = gov_self(sync->options.gov)->sign_key;
    init.party = request->party;
    cal_p2p_id(sync->options.host, &self);
    return sync_proof_sign(&init, &self, sync_sign, sync, request->proof);
}

int sync_bulk_ask(cal_sync *sync, const cal_peer_id *peer, sync_bulk_request *request,
                  const sync_bulk_events *events, void *user, sync_bulk **ret_bulk) {
    cal_buffer bytes;
    if (sync->stopping) return CAL_ECANCELED;
    sync_bulk *bulk = calloc(1, sizeof *bulk);
    if (!bulk) return CAL_ENOMEM;
    *bulk = (sync_bulk){.sync = sync, .events = events, .user = user, .kind = request->kind};
    cal_buffer_init(&bytes, NET_MESSAGE_MAX);
    int rc = sign(sync, request);
    if (rc == 0) rc = sync_bulk_request_write(request, &bytes);
    if (rc == 0)
        rc = net_messages_open(sync->options.host, peer, SYNC_BULK_PROTOCOL, ASK_MS, &bulk_events,
                               bulk, &bulk->messages);
    if (rc != 0) {
        cal_buffer_deinit(&bytes);
        free(bulk);
        return rc;
    }
    sync_hold(sync);
    sync->stats.bulk_asked++;
    rc = net_messages_send(bulk->messages, cal_buffer_slice(&bytes));
    cal_buffer_deinit(&bytes);
    if (rc != 0)
        end_bulk(bulk, rc); /* told as an end */
    else
        net_messages_expect(bulk->messages, NET_ANSWER_TIMEOUT_MS);
    *ret_bulk = bulk;
    return 0;
}

void sync_bulk_resume(sync_bulk *bulk) {
    if (bulk->left || bulk->ended || !bulk->paused) return;
    bulk->paused = false;
    net_messages_expect(bulk->messages, NET_ANSWER_TIMEOUT_MS);
}

void sync_bulk_leave(sync_bulk *bulk) {
    if (bulk->left) return;
    bulk->left = true;
    net_messages_reset(bulk->messages);
}
