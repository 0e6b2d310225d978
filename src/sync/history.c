/* Fetching governance operations that are missing (governance.md 5.4, 6; network-sync.md 7.3).
 *
 * One peer is asked at a time. First, if it is one of this kind, for all that it has above a sample
 * of what is here (bulk.h); otherwise, or if that leaves something out, for everything, when
 * nothing is known of what is missing: a peer answers with at most 500 operations, those with the
 * smallest ids. Then for the parents that some operation cites and that are not here, again and
 * again, until none is missing. An answer is judged before the next question is made from what is
 * missing then; a peer that brings nothing new gives way to another. */
#include <stdlib.h>
#include <string.h>

#include "sync/bulk.h"
#include "sync/session.h"

enum {
    SESSION_MS = 60000,
    IDS_MAX = SYNC_OPS_MAX,
    ROUNDS_MAX = 20000,
    KNOWN_MAX = 256,  /* of the sample */
    AHEAD_MAX = 1024, /* operations not judged yet while more are read */
};

typedef struct sync_history {
    sync_namespace *ns;
    sync_bulk *bulk; /* comes first; then: */
    sync_session *session;
    cal_peer_id peer;
    bool all;       /* the first question */
    bool wants_all; /* nothing was known of what is missing */
    bool judging;   /* an answer is being judged: the next question comes then */
    bool over;      /* there is no session, or none any more */
    size_t brought; /* operations of the last answer that were not here */
    uint32_t rounds;
} sync_history;

static void end_history(sync_history *history, bool success) {
    sync_namespace *ns = history->ns;
    uint64_t now = sync_now_ms(ns->sync);
    ns->history = NULL;
    sync_owed_answered(ns, &history->peer, success);
    if (success) {
        ns->history_failures = 0;
        ns->history_due_ms = now;
        ns->history_tried.len = 0;
    } else {
        uint32_t shift = ns->history_failures < 7 ? ns->history_failures : 7;
        ns->history_failures++;
        ns->history_tried = history->peer; /* another one is asked the same */
        ns->behind_all = ns->behind_all || history->wants_all;
        ns->history_due_ms = now + ((uint64_t)SYNC_RETRY_MIN_MS << shift);
    }
    if (!history->over) sync_session_finish(history->session);
    if (history->over)
        free(history);
    else
        history->ns = NULL; /* goes with its session */
    if (!success) return;
    sync_joins_judged(ns); /* who joins waits for no more than this */
    sync_servings_look(ns->sync, now);
}

static const sync_session_events events;

static int ask_peer(sync_history *history, const sync_request *request) {
    sync_namespace *ns = history->ns;
    if (history->rounds++ >= ROUNDS_MAX) return CAL_ELIMIT;
    if (history->over) {
        int rc = sync_session_open(ns->sync, &history->peer, SESSION_MS, &events, history,
                                   &history->session);
        if (rc != 0) return rc;
        history->over = false;
    }
    ns->sync->stats.backfills++;
    return sync_session_ask(history->session, NULL, request);
}

/* Asks for what is missing now. */
static void ask(sync_history *history) {
    sync_namespace *ns = history->ns;
    cal_hash *ids = malloc(IDS_MAX * sizeof *ids);
    sync_request request = {.kind = SYNC_BACKFILL, .namespace_id = ns->id};
    size_t missing = ids ? gov_missing(ns->sync->options.gov, &ns->id, ids, IDS_MAX) : 0;
    if (!history->all) request.ids = (sync_ids){ids, (uint32_t)missing};
    int rc = ids ? 0 : CAL_ENOMEM;
    bool done = rc == 0 && !history->all && missing == 0;
    if (rc == 0 && !done) rc = ask_peer(history, &request);
    free(ids);
    history->all = false;
    if (done) gov_history_complete(ns->sync->options.gov, &ns->id);
    if (rc != 0 || done) end_history(history, done);
}

/* Takes those that are not here. */
static void take_ops(sync_history *history, const sync_ops *ops) {
    sync_namespace *ns = history->ns;
    for (uint32_t i = 0; i < ops->count; i++) {
        const sync_op *op = &ops->items[i];
        if (gov_knows_op(ns->sync->options.gov, &ns->id, &op->id) == 0) continue;
        if (!sync_namespace_take(ns, &history->peer, false, op->bytes)) break;
        history->brought++;
    }
}

static void on_answer(void *user, sync_session *session, const sync_message *message) {
    sync_history *history = user;
    sync_namespace *ns = history->ns;
    (void)session;
    if (!ns) return;
    const sync_answer *answer = &message->answer;
    if (message->kind != SYNC_MESSAGE || answer->kind != SYNC_ANSWER_BACKFILL) {
        end_history(history, false);
        return;
    }
    history->brought = 0;
    take_ops(history, &answer->ops);
    history->judging = true;
    if (!sync_namespace_busy(ns)) sync_history_judged(ns);
}

static void on_ended(void *user, sync_session *session, int reason) {
    sync_history *history = user;
    (void)session, (void)reason;
    history->over = true;
    if (!history->ns)
        free(history);
    else
        end_history(history, false);
}

static const sync_session_events events = {.answer = on_answer, .ended = on_ended};

/* --- all at once --- */

static bool on_bulk(void *user, const sync_bulk_answer *answer) {
    sync_history *history = user;
    history->ns->sync->stats.ops_bulk += answer->ops.count;
    take_ops(history, &answer->ops);
    return history->ns->intake_used.count < AHEAD_MAX;
}

/* Whatever it left out is asked for when what came is judged. */
static void on_bulk_ended(void *user, int result) {
    sync_history *history = user;
    history->bulk = NULL;
    if (result == 0) history->all = false;
    history->brought = 1;
    history->judging = true;
    if (!sync_namespace_busy(history->ns)) sync_history_judged(history->ns);
}

static const sync_bulk_events bulk_events = {.answer = on_bulk, .ended = on_bulk_ended};

static int ask_bulk(sync_history *history) {
    sync_namespace *ns = history->ns;
    cal_hash known[KNOWN_MAX];
    size_t count = gov_history_sample(ns->sync->options.gov, &ns->id, known, KNOWN_MAX);
    sync_bulk_request request = {
        .kind = SYNC_BULK_HISTORY, .namespace_id = ns->id, .ids = {known, (uint32_t)count}};
    return sync_bulk_ask(ns->sync, &history->peer, &request, &bulk_events, history, &history->bulk);
}

/* What the last answer brought has been judged. */
void sync_history_judged(sync_namespace *ns) {
    sync_history *history = ns->history;
    cal_hash one;
    if (history && history->bulk) sync_bulk_resume(history->bulk);
    if (!history || !history->judging) return;
    history->judging = false;
    bool missing = gov_missing(ns->sync->options.gov, &ns->id, &one, 1) > 0;
    if (missing && history->brought == 0)
        end_history(history, false); /* this peer does not have it */
    else
        ask(history);
}

static bool start(sync_namespace *ns, const cal_peer_id *peer, bool all) {
    sync_history *history = calloc(1, sizeof *history);
    if (!history) return false;
    *history = (sync_history){.ns = ns, .peer = *peer, .all = all, .wants_all = all, .over = true};
    if (ask_bulk(history) != 0) {
        free(history);
        return false;
    }
    ns->history = history;
    sync_owed_asked(ns, peer);
    return true;
}

void sync_history_want(sync_namespace *ns, const cal_peer_id *peer, bool all) {
    if (ns->gone || ns->sync->stopping) return;
    ns->behind = *peer;
    ns->behind_all = ns->behind_all || all;
    uint64_t now = sync_now_ms(ns->sync);
    uint64_t soon = now + (ns->history_failures ? SYNC_RETRY_MIN_MS : 0);
    if (ns->history_due_ms > soon) ns->history_due_ms = soon; /* news end a long pause */
    sync_history_tick(ns, now);
}

/* Whoever is known to have more, else somebody who hears the topic; who was of no use, last. */
void sync_history_tick(sync_namespace *ns, uint64_t now_ms) {
    cal_peer_id peers[SYNC_PEERS_ASKED_MAX];
    cal_hash one;
    if (ns->history || now_ms < ns->history_due_ms || ns->sync->stopping || ns->gone) return;
    bool missing = gov_missing(ns->sync->options.gov, &ns->id, &one, 1) > 0;
    const cal_peer_id *owes = sync_owed_next(ns, now_ms);
    bool news = missing || ns->behind_all || ns->behind.len > 0;
    if (!news && !owes) return;
    if (sync_namespace_busy(ns)) return; /* what is missing may be among it */
    bool all = ns->behind_all || !missing;
    cal_peer_id peer = news ? ns->behind : *owes;
    ns->behind.len = 0;
    ns->behind_all = false;
    bool tried = peer.len && cal_peer_id_equal(&peer, &ns->history_tried);
    if (peer.len && !tried && start(ns, &peer, all)) return;
    size_t count = sync_hearers(ns->sync, ns->topic, peers, SYNC_PEERS_ASKED_MAX);
    for (size_t i = 0; i < count; i++)
        if (!cal_peer_id_equal(&peers[i], &ns->history_tried) && start(ns, &peers[i], all)) return;
    if (ns->history_tried.len && start(ns, &ns->history_tried, all)) return;
    ns->history_due_ms = now_ms + SYNC_RETRY_MIN_MS;
}

void sync_history_free(sync_namespace *ns) {
    sync_history *history = ns->history;
    if (!history) return;
    ns->history = NULL;
    history->ns = NULL;
    if (history->bulk) sync_bulk_leave(history->bulk);
    if (history->over)
        free(history);
    else
        sync_session_finish(history->session);
}
