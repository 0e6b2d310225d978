/* Fetching group keys (governance.md 10.8, 11): of operations that are kept sealed, of deltas that
 * wait, and of groups in which this node is a member without a key. Whoever hears the namespace is
 * asked, one after the other, until somebody hands one out. Nobody says why not. */
#include <stdlib.h>
#include <string.h>

#include "gov/members.h"
#include "sync/session.h"

enum { SESSION_MS = 20000, WANTS_MAX = 16 };

typedef struct sync_key_pull {
    sync_namespace *ns;
    sync_session *session;
    bool over;       /* the session is gone */
    bool committing; /* a key is being stored */
    gov_commit commit;
    gov_key_want wants[WANTS_MAX];
    size_t count, at;
    size_t taken;
    uint32_t peers; /* that could have been asked */
    gov_envelope envelope;
    cal_buffer bytes; /* what the envelope borrows from */
    cal_public_key responder;
} sync_key_pull;

static void end_pull(sync_key_pull *pull) {
    sync_namespace *ns = pull->ns;
    uint64_t now = sync_now_ms(ns->sync);
    ns->pull = NULL;
    if (pull->taken == pull->count) {
        ns->pull_failures = 0;
        ns->pull_due_ms = now; /* there may be more that are wanted now */
    } else {
        uint32_t shift = ns->pull_failures / pull->peers; /* each has its turn */
        if (shift > 6) shift = 6;
        ns->pull_failures++;
        ns->pull_due_ms = now + ((uint64_t)SYNC_RETRY_MIN_MS << shift);
    }
    pull->ns = NULL;
    if (!pull->over) {
        sync_session_finish(pull->session); /* goes with it */
        return;
    }
    cal_buffer_deinit(&pull->bytes);
    free(pull);
}

static void ask_next(sync_key_pull *pull) {
    sync_namespace *ns = pull->ns;
    const gov_identity *self = gov_self(ns->sync->options.gov);
    if (pull->at == pull->count || pull->over) {
        end_pull(pull);
        return;
    }
    const gov_key_want *want = &pull->wants[pull->at];
    sync_request request = {.kind = SYNC_KEY,
                            .namespace_id = ns->id,
                            .group = want->group,
                            .key = self->sign_key,
                            .has_device = true,
                            .has_key_id = !want->any,
                            .key_id = want->key_id};
    if (gov_acting_device(ns->sync->options.gov, &want->group, &request.device))
        request.device = self->device; /* a group that is not known yet */
    ns->sync->stats.keys_asked++;
    if (sync_session_ask(pull->session, NULL, &request)) end_pull(pull);
}

static int prepare(gov_commit *commit, cal_error *err) {
    sync_key_pull *pull = CAL_CONTAINER_OF(commit, sync_key_pull, commit);
    cal_sync *sync = commit->owner;
    return gov_key_take(sync->options.gov, &commit->namespace_id, &pull->wants[pull->at],
                        &pull->envelope, &pull->responder, &commit->change, err);
}

static void finished(gov_commit *commit, const cal_error *err) {
    sync_key_pull *pull = CAL_CONTAINER_OF(commit, sync_key_pull, commit);
    cal_sync *sync = commit->owner;
    pull->committing = false;
    if (!err) {
        pull->taken++;
        sync->stats.keys_taken++;
    } else {
        cal_log(CAL_LOG_DEBUG, "sync", "a key was not taken: %s", err->message);
    }
    pull->at++;
    if (pull->ns) {
        ask_next(pull);
    } else if (pull->over) { /* given up meanwhile */
        cal_buffer_deinit(&pull->bytes);
        free(pull);
    }
    sync_release(sync);
}

static void take(sync_key_pull *pull, const sync_answer *answer) {
    cal_sync *sync = pull->ns->sync;
    cal_buffer_reset(&pull->bytes);
    int rc = cal_buffer_append(&pull->bytes, answer->bytes.data, answer->bytes.len);
    if (rc == 0) {
        cal_borsh in = cal_borsh_read(cal_buffer_slice(&pull->bytes));
        gov_envelope_read(&in, &pull->envelope);
        rc = cal_borsh_end(&in);
    }
    if (rc != 0) {
        sync->stats.malformed++;
        pull->at++;
        ask_next(pull);
        return;
    }
    pull->responder = answer->author;
    pull->commit = (gov_commit){.committer = sync->options.committer,
                                .owner = sync,
                                .namespace_id = pull->ns->id,
                                .prepare = prepare,
                                .finished = finished};
    pull->committing = true;
    sync_hold(sync);
    gov_commit_run(&pull->commit);
}

static void on_answer(void *user, sync_session *session, const sync_message *message) {
    sync_key_pull *pull = user;
    (void)session;
    if (!pull->ns || pull->committing) return;
    if (message->kind == SYNC_MESSAGE && message->answer.kind == SYNC_ANSWER_KEY &&
        message->answer.bytes.len > 0) {
        take(pull, &message->answer);
        return;
    }
    pull->at++; /* this peer does not have it, or does not say */
    ask_next(pull);
}

static void on_ended(void *user, sync_session *session, int reason) {
    sync_key_pull *pull = user;
    (void)session, (void)reason;
    pull->over = true;
    if (pull->committing) return; /* its end ends the pull */
    if (pull->ns) {
        end_pull(pull);
        return;
    }
    cal_buffer_deinit(&pull->bytes);
    free(pull);
}

static const sync_session_events events = {.answer = on_answer, .ended = on_ended};

void sync_keys_soon(sync_namespace *ns) {
    uint64_t soon = sync_now_ms(ns->sync) + (ns->pull_failures ? SYNC_RETRY_MIN_MS : 0);
    ns->pull_wanted = true;
    if (ns->pull_due_ms > soon) ns->pull_due_ms = soon; /* news end a long pause */
}

/* Who said no may say yes now, and who was not there is: each has its turn soon. */
void sync_keys_again(sync_namespace *ns) {
    sync_keys_soon(ns);
    ns->pull_failures = 0;
}

static int compare_peers(const void *a, const void *b) {
    const cal_peer_id *x = a, *y = b;
    return memcmp(x->bytes, y->bytes, sizeof x->bytes);
}

/* Those who hear the namespace, in turn from the one after who was asked last: whoever hands out
 * what cannot be taken keeps nobody else from being asked. While this node joins, nobody but who
 * answered it knows it. */
static int open_pull(sync_key_pull *pull) {
    sync_namespace *ns = pull->ns;
    cal_peer_id peers[SYNC_PEERS_ASKED_MAX];
    size_t count = sync_hearers(ns->sync, ns->topic, peers, SYNC_PEERS_ASKED_MAX), first = 0;
    pull->peers = count > 0 ? (uint32_t)count : 1;
    qsort(peers, count, sizeof *peers, compare_peers);
    while (first < count && compare_peers(&peers[first], &ns->pull_peer) <= 0) first++;
    if (ns->helper.len > 0 && gov_namespace_joining(ns->sync->options.gov, &ns->id))
        return sync_session_open(ns->sync, &ns->helper, SESSION_MS, &events, pull, &pull->session);
    for (size_t i = 0; i < count; i++) {
        ns->pull_peer = peers[(first + i) % count];
        if (!sync_session_open(ns->sync, &ns->pull_peer, SESSION_MS, &events, pull, &pull->session))
            return 0;
    }
    return CAL_EUNREACHABLE;
}

void sync_keys_tick(sync_namespace *ns, uint64_t now_ms) {
    cal_sync *sync = ns->sync;
    if (!ns->pull_wanted || ns->pull || now_ms < ns->pull_due_ms || sync->stopping) return;
    sync_key_pull *pull = calloc(1, sizeof *pull);
    if (!pull) return;
    pull->ns = ns;
    cal_buffer_init(&pull->bytes, NET_MESSAGE_MAX);
    pull->count =
        gov_keys_wanted(sync->options.gov, &ns->id, ns->pull_turn++, pull->wants, WANTS_MAX);
    if (pull->count > WANTS_MAX) pull->count = WANTS_MAX;
    if (pull->count == 0 || open_pull(pull) != 0) {
        if (pull->count == 0) ns->pull_wanted = false;
        ns->pull_due_ms = now_ms + SYNC_RETRY_MIN_MS;
        free(pull);
        return;
    }
    ns->pull = pull;
    ask_next(pull);
}

void sync_keys_free(sync_namespace *ns) {
    sync_key_pull *pull = ns->pull;
    if (!pull) return;
    ns->pull = NULL;
    pull->ns = NULL;
    if (!pull->over) sync_session_finish(pull->session);
}
