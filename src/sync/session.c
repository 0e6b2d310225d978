/* Asking a peer, see session.h. */
#include "sync/session.h"

#include <stdlib.h>

struct sync_session {
    cal_sync *sync;
    net_messages *messages;
    const sync_session_events *events;
    void *user;
    bool asked;    /* an answer is awaited */
    bool finished; /* by its owner: it hears of nothing but the end */
};

static void on_message(void *user, net_messages *messages, cal_slice bytes) {
    sync_session *session = user;
    cal_arena arena;
    sync_message message;
    if (session->finished || !session->asked) return;
    cal_arena_init(&arena, SYNC_ARENA_MAX);
    int rc = sync_message_decode(bytes, &arena, &message);
    if (rc == 0 && message.kind == SYNC_INIT) rc = CAL_EDECODE;
    if (rc == 0) {
        session->asked = false;
        session->events->answer(session->user, session, &message);
    } else {
        session->sync->stats.malformed++;
        net_messages_reset(messages);
    }
    cal_arena_deinit(&arena);
}

static void on_ended(void *user, net_messages *messages, int reason) {
    sync_session *session = user;
    cal_sync *sync = session->sync;
    if (reason == CAL_EUNSUPPORTED) {
        cal_peer_id peer;
        net_messages_peer(messages, &peer);
        sync_foreign_mute(sync, &peer);
    }
    session->events->ended(session->user, session, session->finished ? 0 : reason);
    free(session);
    sync_release(sync);
}

static void on_opened(void *user, net_messages *messages) {
    sync_session *session = user;
    cal_peer_id peer;
    net_messages_peer(messages, &peer);
    sync_foreign_speaks(session->sync, &peer);
}

static const net_messages_events session_events = {
    .opened = on_opened, .message = on_message, .ended = on_ended};

int sync_session_open(cal_sync *sync, const cal_peer_id *peer, uint32_t session_ms,
                      const sync_session_events *events, void *user, sync_session **ret_session) {
    if (sync->stopping) return CAL_ECANCELED;
    sync_session *session = calloc(1, sizeof *session);
    if (!session) return CAL_ENOMEM;
    *session = (sync_session){.sync = sync, .events = events, .user = user};
    int rc = net_messages_open(sync->options.host, peer, NET_STREAM_PROTOCOL, session_ms,
                               &session_events, session, &session->messages);
    if (rc != 0) {
        free(session);
        return rc;
    }
    sync_hold(sync);
    *ret_session = session;
    return 0;
}

int sync_session_ask(sync_session *session, const cal_context_id *context,
                     const sync_request *request) {
    cal_sync *sync = session->sync;
    sync_message message = {.kind = SYNC_INIT, .init = {.request = *request}};
    sync_init *init = &message.init;
    cal_peer_id self;
    if (session->finished || sync->stopping) return CAL_ESTATE;
    if (context) init->context = *context;
    init->party = gov_self(sync->options.gov)->sign_key;
    cal_random(sync->options.os, init->next_nonce, sizeof init->next_nonce);
    cal_p2p_id(sync->options.host, &self);
    int rc = 0;
    if (sync_request_needs_proof(request->kind)) {
        init->has_proof = true;
        rc = sync_proof_sign(init, &self, sync_sign, sync, init->proof);
    }
    cal_buffer bytes;
    cal_buffer_init(&bytes, NET_MESSAGE_MAX);
    if (rc == 0) rc = sync_message_write(&message, &bytes);
    if (rc == 0) rc = net_messages_send(session->messages, cal_buffer_slice(&bytes));
    cal_buffer_deinit(&bytes);
    if (rc == 0) sync_session_expect(session);
    return rc;
}

void sync_session_expect(sync_session *session) {
    session->asked = true;
    net_messages_expect(session->messages, NET_ANSWER_TIMEOUT_MS);
}

void sync_session_finish(sync_session *session) {
    if (session->finished) return;
    session->finished = true;
    /* The responder waits for a next request for as long as it likes: nobody is served by that. */
    net_messages_reset(session->messages);
}

void sync_session_peer(const sync_session *session, cal_peer_id *ret_peer) {
    net_messages_peer(session->messages, ret_peer);
}
