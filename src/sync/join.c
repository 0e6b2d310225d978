/* Joining a namespace (governance.md 10).
 *
 *   begin    the placeholder rows are stored, the topic is heard, the addresses are dialled
 *   find     whoever was dialled, or hears the topic, is asked in turn: on a stream, not the mesh
 *   take     the key that an answer brought is stored
 *   history  its operations, and then all that they cite, are fetched and judged; where members
 *            were removed, the keys from before are asked of who answered
 *   publish  this node's own operation makes it a member
 *
 * A refusal or a silence only costs that peer its turn; several refusals, or the deadline, end it,
 * with the words of whoever refused. What a failed join left is taken away again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sync/session.h"

enum {
    ADDRESSES_MAX = 8,
    ASKED_MAX = 16,
    REFUSALS_MAX = 5,
    ASK_AGAIN_MS = 3000,
    HISTORY_PATIENCE_MS = 5000,
    KEYS_TRIED_MAX = 3, /* questions for keys, one after the other, that bring not all of them */
    SESSION_MS = 10000, /* for an answer: a few who say nothing leave time for others */
};

typedef enum join_state {
    JOIN_BEGIN,
    JOIN_FIND,
    JOIN_ASK,
    JOIN_TAKE,
    JOIN_HISTORY,
    JOIN_PUBLISH,
    JOIN_ABANDON,
    JOIN_ENDED, /* answered; goes when nothing of it is under way */
} join_state;

typedef struct asked {
    cal_peer_id peer;
    uint64_t again_ms;
} asked;

typedef struct sync_join {
    cal_list link; /* in sync.joins */
    cal_sync *sync;
    join_state state;
    gov_invitation invitation;
    char *name;
    cal_group_id namespace_id;
    uint64_t deadline_ms, history_by_ms;
    cal_peer_id dialled[ADDRESSES_MAX]; /* who answered at the addresses */
    size_t dialled_count;
    uint32_t dials, dials_failed;
    cal_error dial_failure; /* of the last */
    asked asked[ASKED_MAX];
    size_t asked_count;
    uint32_t refusals;
    cal_error refusal; /* of the last who refused */
    cal_error failure; /* how it ends; code 0: it has worked */
    cal_peer_id peer;  /* being asked, or whose answer was taken */
    sync_session *session;
    uint32_t under_way; /* dials, commits, sessions */
    gov_commit commit, abandon;
    cal_buffer bytes; /* of the envelope */
    gov_envelope envelope;
    cal_public_key responder;
    uint32_t default_capabilities;
    bool existed;     /* a member already */
    bool taken;       /* a key came */
    bool last;        /* the time is up: what cannot be read is no reason any more */
    bool begin_again; /* with the next tick */
    cal_join_done done;
    void *user;
} sync_join;

static void fail_join(sync_join *join, int code, const char *why);
static void find(sync_join *join, uint64_t now_ms);

static void answer_caller(sync_join *join) {
    cal_gov *gov = join->sync->options.gov;
    cal_joined joined = {.namespace_id = join->namespace_id,
                         .member = gov_self(gov)->sign_key,
                         .account = gov_self(gov)->account};
    bool failed = join->failure.code != 0;
    join->state = JOIN_ENDED;
    if (join->done) join->done(join->user, failed ? &join->failure : NULL, failed ? NULL : &joined);
    join->done = NULL;
}

static void free_if_over(sync_join *join) {
    cal_sync *sync = join->sync;
    if (join->state != JOIN_ENDED || join->under_way > 0) return;
    cal_list_remove(&join->link);
    cal_buffer_deinit(&join->bytes);
    free(join->name);
    free(join);
    sync_release(sync);
}

static void leave_step(sync_join *join) {
    join->under_way--;
    free_if_over(join);
}

static void run_commit(sync_join *join, gov_commit *commit,
                       int (*prepare)(gov_commit *commit, cal_error *err),
                       void (*finished)(gov_commit *commit, const cal_error *err)) {
    *commit = (gov_commit){.committer = join->sync->options.committer,
                           .owner = join,
                           .namespace_id = join->namespace_id,
                           .prepare = prepare,
                           .finished = finished};
    join->under_way++;
    gov_commit_run(commit);
}

/* --- the end --- */

static int prepare_abandon(gov_commit *commit, cal_error *err) {
    sync_join *join = commit->owner;
    return gov_join_abandon(join->sync->options.gov, &join->namespace_id, &commit->change, err);
}

/* Who was a member before keeps the history, and hears the topic: it may be added again. */
static void abandoned(gov_commit *commit, const cal_error *err) {
    sync_join *join = commit->owner;
    gov_group_info info;
    if (err)
        cal_log(CAL_LOG_DEBUG, "sync", "a failed join is not taken back: %s", err->message);
    else if (gov_group_get(join->sync->options.gov, &join->namespace_id, &info) != 0)
        join->sync->options.hear_namespace(join->sync->options.user, &join->namespace_id, false);
    if (!err) join->sync->options.rows_left(join->sync->options.user);
    answer_caller(join);
    leave_step(join);
}

static void fail_join(sync_join *join, int code, const char *why) {
    bool begun = join->state != JOIN_BEGIN;
    if (join->state >= JOIN_ABANDON) return;
    cal_fail(&join->failure, code, "%s", why);
    join->state = JOIN_ABANDON;
    if (join->session) sync_session_finish(join->session);
    if (join->sync->stopping || !begun ||
        !gov_namespace_joining(join->sync->options.gov, &join->namespace_id)) {
        answer_caller(join);
        return;
    }
    run_commit(join, &join->abandon, prepare_abandon, abandoned);
}

/* --- publish --- */

static int prepare_publish(gov_commit *commit, cal_error *err) {
    sync_join *join = commit->owner;
    return gov_join_publish(join->sync->options.gov, &join->invitation, &commit->change, err);
}

static void published(gov_commit *commit, const cal_error *err) {
    sync_join *join = commit->owner;
    if (err) cal_log(CAL_LOG_DEBUG, "sync", "a join is not published: %s", err->message);
    if (join->state == JOIN_PUBLISH && err && err->code == CAL_ESTATE) {
        join->state = JOIN_FIND; /* this peer had no history of it; another one may */
    } else if (join->state == JOIN_PUBLISH && err && err->code != CAL_EEXISTS) {
        fail_join(join, err->code, err->message);
    } else if (join->state == JOIN_PUBLISH) {
        answer_caller(join);
    }
    leave_step(join);
}

/* --- history --- */

/* Nothing that can be read says that the inviter may invite, and not everything can be read. What
 * is published then says that it did not know of it: nobody takes it but nodes of the reference,
 * which ask what they know themselves. */
static bool is_unread(const sync_join *join, const sync_namespace *ns) {
    cal_gov *gov = join->sync->options.gov;
    return !gov_join_inviter_known(gov, &join->invitation) && gov_keys_lacking(gov, &ns->id);
}

/* Whether all that anybody mentioned is here and judged; what nobody has is not waited for: anybody
 * may mention what there is not. */
static void look_at_history(sync_join *join) {
    cal_hash one;
    sync_namespace *ns = sync_namespace_get(join->sync, &join->namespace_id, false);
    bool patient = sync_now_ms(join->sync) < join->history_by_ms;
    if (!ns || sync_namespace_busy(ns)) return;
    bool unread = is_unread(join, ns) && !join->last;
    if (patient && (ns->history || ns->behind.len ||
                    gov_missing(join->sync->options.gov, &ns->id, &one, 1) > 0 ||
                    (unread && ns->pull_failures < KEYS_TRIED_MAX)))
        return;
    if (unread) { /* whoever answered is gone or has not the keys; somebody else may have them */
        join->state = JOIN_FIND;
        return;
    }
    join->state = JOIN_PUBLISH;
    run_commit(join, &join->commit, prepare_publish, published);
}

void sync_joins_judged(sync_namespace *ns) {
    for (cal_list *at = ns->sync->joins.next, *next; at != &ns->sync->joins; at = next) {
        sync_join *join = CAL_CONTAINER_OF(at, sync_join, link);
        next = at->next;
        if (join->state == JOIN_HISTORY && memcmp(&join->namespace_id, &ns->id, 32) == 0)
            look_at_history(join);
    }
}

/* --- take --- */

static int prepare_take(gov_commit *commit, cal_error *err) {
    sync_join *join = commit->owner;
    return gov_join_take(join->sync->options.gov, &join->invitation, &join->envelope,
                         &join->responder, join->default_capabilities, &commit->change, err);
}

static void taken(gov_commit *commit, const cal_error *err) {
    sync_join *join = commit->owner;
    sync_namespace *ns = sync_namespace_get(join->sync, &join->namespace_id, true);
    if (join->state == JOIN_TAKE && err) {
        cal_log(CAL_LOG_INFO, "sync", "the answer to a join is of no use: %s", err->message);
        join->state = JOIN_FIND;
    } else if (join->state == JOIN_TAKE && ns) {
        join->state = JOIN_HISTORY;
        join->taken = true;
        join->history_by_ms = sync_now_ms(join->sync) + HISTORY_PATIENCE_MS;
        sync_history_want(ns, &join->peer, true);
        ns->helper = join->peer;
        sync_keys_again(ns);
        look_at_history(join);
    }
    leave_step(join);
}

static int read_envelope(sync_join *join, cal_slice bytes) {
    cal_buffer_reset(&join->bytes);
    int rc = cal_buffer_append(&join->bytes, bytes.data, bytes.len);
    if (rc != 0) return rc;
    cal_borsh in = cal_borsh_read(cal_buffer_slice(&join->bytes));
    gov_envelope_read(&in, &join->envelope);
    return cal_borsh_end(&in);
}

static void take_answer(sync_join *join, const sync_answer *answer) {
    cal_sync *sync = join->sync;
    sync_namespace *ns = sync_namespace_get(sync, &join->namespace_id, true);
    for (uint32_t i = 0; ns && i < answer->op_bytes.count; i++)
        sync_namespace_take(ns, &join->peer, false, answer->op_bytes.items[i]);
    join->default_capabilities = answer->default_capabilities;
    if (answer->bytes.len == 0 || !ns || read_envelope(join, answer->bytes)) {
        join->state = JOIN_FIND; /* no key: somebody else may have it */
        return;
    }
    memcpy(join->responder.bytes, join->envelope.sender, sizeof join->responder.bytes);
    join->state = JOIN_TAKE;
    run_commit(join, &join->commit, prepare_take, taken);
}

/* --- find and ask --- */

static void on_answer(void *user, sync_session *session, const sync_message *message) {
    sync_join *join = user;
    if (join->state != JOIN_ASK) return;
    const sync_answer *answer = &message->answer;
    if (message->kind == SYNC_MESSAGE && answer->kind == SYNC_ANSWER_JOIN) {
        take_answer(join, answer);
    } else {
        join->state = JOIN_FIND;
        if (message->kind == SYNC_MESSAGE && answer->kind == SYNC_ANSWER_JOIN_REJECTED) {
            int len = answer->bytes.len < 200 ? (int)answer->bytes.len : 200;
            join->refusals++;
            cal_fail(&join->refusal, CAL_EDENIED, "a member refused: %.*s", len,
                     (const char *)answer->bytes.data);
        }
    }
    sync_session_finish(session);
}

static void on_ended(void *user, sync_session *session, int reason) {
    sync_join *join = user;
    (void)session, (void)reason;
    join->session = NULL;
    if (join->state == JOIN_ASK) join->state = JOIN_FIND;
    leave_step(join);
}

static const sync_session_events events = {.answer = on_answer, .ended = on_ended};

static int ask(sync_join *join, const cal_peer_id *peer) {
    cal_sync *sync = join->sync;
    cal_buffer invitation, credential;
    cal_buffer_init(&invitation, SYNC_CREDENTIAL_MAX);
    cal_buffer_init(&credential, SYNC_CREDENTIAL_MAX);
    int rc = gov_invitation_write(&join->invitation, &invitation);
    if (rc == 0) rc = gov_credential_bytes(sync->options.gov, &credential);
    if (rc == 0) rc = sync_session_open(sync, peer, SESSION_MS, &events, join, &join->session);
    if (rc == 0) {
        sync_request request = {.kind = SYNC_JOIN,
                                .namespace_id = join->namespace_id,
                                .invitation = cal_buffer_slice(&invitation),
                                .credential = cal_buffer_slice(&credential),
                                .key = gov_self(sync->options.gov)->sign_key};
        join->under_way++;
        join->peer = *peer;
        join->state = JOIN_ASK;
        rc = sync_session_ask(join->session, NULL, &request);
        if (rc != 0) {
            join->state = JOIN_FIND;
            sync_session_finish(join->session);
        }
    }
    cal_buffer_deinit(&invitation);
    cal_buffer_deinit(&credential);
    return rc;
}

static size_t place_of(const sync_join *join, const cal_peer_id *peer) {
    size_t at = 0;
    while (at < join->asked_count && !cal_peer_id_equal(&join->asked[at].peer, peer)) at++;
    return at;
}

/* When the peer may be asked: 0 when it never was, UINT64_MAX when there is no room to note it. */
static uint64_t its_turn(const sync_join *join, const cal_peer_id *peer) {
    size_t at = place_of(join, peer);
    if (at < join->asked_count) return join->asked[at].again_ms;
    return at < ASKED_MAX ? 0 : UINT64_MAX;
}

static void note_asked(sync_join *join, const cal_peer_id *peer, uint64_t now_ms) {
    size_t at = place_of(join, peer);
    if (at == join->asked_count) join->asked_count++;
    join->asked[at] = (asked){.peer = *peer, .again_ms = now_ms + ASK_AGAIN_MS};
}

static void find(sync_join *join, uint64_t now_ms) {
    cal_sync *sync = join->sync;
    cal_peer_id peers[ASKED_MAX];
    char topic[GOV_TOPIC_TEXT_MAX];
    size_t count = 0;
    if (join->session || sync->stopping) return; /* the last one is being put away */
    for (; count < join->dialled_count; count++) peers[count] = join->dialled[count];
    gov_topic_text(&join->namespace_id, topic);
    count += sync_hearers(sync, topic, peers + count, ASKED_MAX - count);
    for (;;) { /* who was not asked yet comes first, then who was asked longest ago */
        const cal_peer_id *next = NULL;
        uint64_t turn = now_ms + 1;
        for (size_t i = 0; i < count; i++) {
            uint64_t own = its_turn(join, &peers[i]);
            if (own >= turn || !cal_p2p_is_connected(sync->options.host, &peers[i])) continue;
            next = &peers[i];
            turn = own;
        }
        if (!next) return;
        note_asked(join, next, now_ms);
        if (ask(join, next) == 0) return;
    }
}

static void on_dialled(void *user, const cal_error *err, const cal_peer_id *peer) {
    sync_join *join = user;
    if (err) {
        join->dials_failed++;
        join->dial_failure = *err;
    }
    if (!err && peer && !join->sync->stopping && join->dialled_count < ADDRESSES_MAX) {
        cal_p2p_keep(join->sync->options.host, peer, true);
        join->dialled[join->dialled_count++] = *peer;
        if (join->state == JOIN_FIND) find(join, sync_now_ms(join->sync));
    }
    leave_step(join);
}

/* --- begin --- */

static int prepare_begin(gov_commit *commit, cal_error *err) {
    sync_join *join = commit->owner;
    int rc = gov_join_begin(join->sync->options.gov, &join->invitation, join->name, &commit->change,
                            err);
    join->existed = rc == CAL_EEXISTS;
    return rc;
}

static void begun(gov_commit *commit, const cal_error *err) {
    sync_join *join = commit->owner;
    cal_sync *sync = join->sync;
    if (join->state != JOIN_BEGIN) { /* given up meanwhile */
        if (!err && !sync->stopping) run_commit(join, &join->abandon, prepare_abandon, abandoned);
        leave_step(join);
        return;
    }
    sync_namespace *ns = sync_namespace_get(sync, &join->namespace_id, true);
    if (join->existed) {
        answer_caller(join);
    } else if (err && err->code == CAL_EBUSY) {
        join->begin_again = true; /* an earlier one is still being taken away */
    } else if (err) {
        fail_join(join, err->code, err->message);
    } else if (!ns) {
        fail_join(join, CAL_ENOMEM, "out of memory");
    } else {
        ns->gone = false;
        sync->options.hear_namespace(sync->options.user, &join->namespace_id, true);
        join->state = JOIN_FIND;
        find(join, sync_now_ms(sync));
    }
    leave_step(join);
}

static void begin(sync_join *join) {
    join->begin_again = false;
    run_commit(join, &join->commit, prepare_begin, begun);
}

static sync_join *new_join(cal_sync *sync, const gov_invitation *invitation, const char *name) {
    sync_join *join = calloc(1, sizeof *join);
    if (!join) return NULL;
    join->sync = sync;
    join->invitation = *invitation;
    if (invitation->signature.len < sizeof join->invitation.signature_text)
        memcpy(join->invitation.signature_text, invitation->signature.data,
               invitation->signature.len);
    join->invitation.signature =
        cal_slice_of(join->invitation.signature_text, invitation->signature.len);
    join->namespace_id = invitation->group;
    cal_buffer_init(&join->bytes, NET_MESSAGE_MAX);
    if (name && !(join->name = strdup(name))) {
        free(join);
        return NULL;
    }
    return join;
}

void cal_sync_join(cal_sync *sync, const gov_invitation *invitation, const char *name,
                   const cal_multiaddr *addresses, size_t address_count, cal_join_done done,
                   void *user) {
    cal_error err;
    if (invitation->signature.len != 2 * CAL_SIGNATURE_SIZE)
        cal_fail(&err, CAL_EVERIFY, "the invitation's signature is malformed");
    else
        err.code = sync->stopping ? cal_fail(&err, CAL_ECANCELED, "the node is stopping") : 0;
    sync_join *join = err.code ? NULL : new_join(sync, invitation, name);
    if (!join) {
        if (!err.code) cal_fail(&err, CAL_ENOMEM, "out of memory");
        done(user, &err, NULL);
        return;
    }
    join->done = done;
    join->user = user;
    join->deadline_ms = sync_now_ms(sync) + CAL_SYNC_JOIN_TIMEOUT_MS;
    cal_list_push(&sync->joins, &join->link);
    sync_hold(sync);
    join->under_way++; /* until the dials are begun */
    begin(join);
    for (size_t i = 0; i < address_count && i < ADDRESSES_MAX && join->state < JOIN_ABANDON; i++) {
        join->under_way++;
        join->dials++;
        if (cal_p2p_connect(sync->options.host, NULL, &addresses[i], 1, on_dialled, join)) {
            join->under_way--;
            join->dials--;
        }
    }
    leave_step(join);
}

/* The time is up: what it was spent with. */
static void fail_late(sync_join *join) {
    enum { SECONDS = CAL_SYNC_JOIN_TIMEOUT_MS / 1000 };
    char why[CAL_ERROR_MESSAGE_MAX];
    int len =
        snprintf(why, sizeof why, "no member of the namespace could be reached in %d s: ", SECONDS);
    char *rest = why + len;
    size_t room = sizeof why - (size_t)len;
    if (join->state == JOIN_HISTORY)
        snprintf(why, sizeof why, "the namespace's history did not arrive in %d s", SECONDS);
    else if (join->dialled_count > 0)
        snprintf(rest, room, "who was dialled is connected, and did not let this node in");
    else if (join->asked_count > 0)
        snprintf(rest, room, "%zu connected peer%s asked, and did not let this node in",
                 join->asked_count, join->asked_count == 1 ? " was" : "s were");
    else if (join->dials == 0)
        snprintf(rest, room,
                 "no address to dial was given, and no peer that is connected to this "
                 "node hears the namespace. Is a node of the inviter's running, and "
                 "connected to this one?");
    else if (join->dials_failed > 0)
        snprintf(rest, room,
                 "%u of %u addresses could not be dialled (the last: %.300s). Is a "
                 "node of the inviter's running there?",
                 join->dials_failed, join->dials, join->dial_failure.message);
    else
        snprintf(rest, room,
                 "nobody answers at the %u address%s. Is a node of the inviter's "
                 "running there?",
                 join->dials, join->dials == 1 ? "" : "es");
    fail_join(join, CAL_EUNREACHABLE, why);
}

/* Nobody has refused, and nobody has the keys. */
static void try_last(sync_join *join) {
    join->last = true;
    join->deadline_ms += HISTORY_PATIENCE_MS;
    if (join->state == JOIN_FIND) join->state = JOIN_HISTORY;
    if (join->state == JOIN_HISTORY) look_at_history(join);
}

void sync_joins_tick(cal_sync *sync, uint64_t now_ms) {
    for (cal_list *at = sync->joins.next, *next; at != &sync->joins; at = next) {
        sync_join *join = CAL_CONTAINER_OF(at, sync_join, link);
        next = at->next;
        if (join->state >= JOIN_ABANDON) continue;
        join->under_way++; /* a step may come to its end at once */
        bool late = now_ms >= join->deadline_ms;
        if (join->refusals >= REFUSALS_MAX || (late && join->refusals > 0))
            fail_join(join, join->refusal.code, join->refusal.message);
        else if (late && join->taken && !join->last)
            try_last(join);
        else if (late)
            fail_late(join);
        else if (join->begin_again)
            begin(join);
        else if (join->state == JOIN_FIND)
            find(join, now_ms);
        else if (join->state == JOIN_HISTORY)
            look_at_history(join);
        leave_step(join);
    }
}

void sync_joins_drain(cal_sync *sync) {
    for (cal_list *at = sync->joins.next, *next; at != &sync->joins; at = next) {
        sync_join *join = CAL_CONTAINER_OF(at, sync_join, link);
        next = at->next;
        join->under_way++;
        fail_join(join, CAL_ECANCELED, "the node is stopping");
        leave_step(join);
    }
}
