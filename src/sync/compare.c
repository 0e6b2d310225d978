/* Catching up with a peer (network-sync.md 8.1, 8.2).
 *
 * Heads are compared first. Those of the peer that are not here are fetched, with what they descend
 * from, until everything hangs together; what came goes the way of every delta (pipeline.c). Then
 * heads are compared again: "in sync" is said only after equal roots. A peer that does not have
 * what it names, or says no, costs a pause; then another one is asked. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sync/bulk.h"
#include "sync/rejoin.h"
#include "sync/session.h"
#include "sync/take.h"
#include "sync/tree.h"

enum {
    TREES_MAX = 2, /* comparisons of trees in one session */
    SESSION_MS = 10 * 60 * 1000,
    ROUNDS_MAX = 16,        /* comparisons in one session */
    SAME_PEER_MAX = 4,      /* streams in a row for a state that breaks off */
    GOSSIP_GRACE_MS = 1000, /* for what is on its way by itself */
    SHOW_AGAIN_MS = 5000,
    HEADS_MANY = 8,        /* that do not become fewer by themselves */
    LOOK_AGAIN_MS = 10000, /* while others may still be ahead */
    ABSENT_MAX = 64,       /* deltas that a peer did not have, remembered */
    SINGLES_MAX = 4,       /* deltas fetched one by one before the peer is asked for all at once */
};

typedef enum compare_phase {
    COMPARE_HEADS,
    COMPARE_STATE,  /* all of it is being taken */
    COMPARE_DELTAS, /* those that are missing are */
    COMPARE_APPLY,
    COMPARE_TREE,   /* what differs is exchanged */
    COMPARE_REJOIN, /* nothing does: it is settled whose heads stand */
} compare_phase;

typedef struct sync_compare {
    sync_context *context;
    sync_session *session;
    sync_take *take;
    sync_tree *tree;
    uint32_t trees; /* that were compared */
    sync_rejoin *rejoin;
    bool rejoined;      /* heads were settled */
    bool behind_asked;  /* whether the peer has all that is here */
    cal_hash peer_root; /* with its heads, as it said last */
    cal_hash *peer_heads;
    size_t peer_head_count;
    sync_gap *gap;    /* many deltas are on their way */
    bool gap_over;    /* the peer does not bring more that way */
    uint32_t singles; /* that were fetched one by one since */
    cal_peer_id peer;
    compare_phase phase;
    bool over; /* the session is gone */
    uint32_t rounds;
    cal_hash *wanted; /* deltas to ask for, last first */
    size_t wanted_count, wanted_capacity;
    cal_map seen; /* ids that are or were in it */
    cal_hash asked;
    bool lacks; /* the peer did not have one: */
    cal_hash absent[ABSENT_MAX];
    size_t absent_count;
} sync_compare;

typedef struct waiter { /* of cal_sync_now */
    cal_list link;
    struct waiting *waiting;
} waiter;

typedef struct waiting {
    cal_simple_done done;
    void *user;
    size_t count;
    cal_error err; /* the first that went wrong */
} waiting;

/* --- the end --- */

static void tell_waiters(sync_context *context, const cal_error *err) {
    cal_list told, *at;
    cal_list_init(&told);
    cal_list_append(&told, &context->waiters);
    cal_list_init(&context->waiters);
    while ((at = cal_list_pop(&told))) {
        waiter *each = CAL_CONTAINER_OF(at, waiter, link);
        waiting *all = each->waiting;
        if (err && !all->err.code) all->err = *err;
        if (--all->count == 0) {
            all->done(all->user, all->err.code ? &all->err : NULL);
            free(all);
        }
        free(each);
    }
}

static void free_compare(sync_compare *compare) {
    cal_map_deinit(&compare->seen);
    free(compare->wanted);
    free(compare->peer_heads);
    free(compare);
}

static void let_go(sync_compare *compare) {
    sync_cover_leave(compare->context);
    compare->context = NULL;
    if (compare->gap) sync_gap_leave(compare->gap);
    compare->gap = NULL;
    if (compare->take) sync_take_leave(compare->take);
    compare->take = NULL;
    if (compare->tree) sync_tree_leave(compare->tree);
    compare->tree = NULL;
    if (compare->rejoin) sync_rejoin_leave(compare->rejoin);
    compare->rejoin = NULL;
    if (compare->over)
        free_compare(compare);
    else
        sync_session_finish(compare->session); /* goes with it */
}

static void succeed(sync_compare *compare, cal_sync_state state) {
    cal_hash one;
    sync_context *context = compare->context;
    uint64_t now = sync_now_ms(context->sync);
    context->compare = NULL;
    context->failures = 0;
    context->status.failures = 0;
    context->status.state = state;
    context->status.peer = compare->peer;
    context->status.compared_ms = sync_wall_ms(context->sync);
    if (state == CAL_SYNC_EQUAL) context->status.why[0] = 0;
    bool lacks = sync_context_missing(context, &one, 1) > 0; /* since the heads were asked for */
    context->compare_wanted = context->ahead.len > 0 || lacks || state != CAL_SYNC_EQUAL;
    context->compare_due_ms = now + (context->ahead.len ? 0
                                     : lacks            ? GOSSIP_GRACE_MS
                                                        : LOOK_AGAIN_MS);
    context->sync->stats.comparisons++;
    let_go(compare);
    sync_context_alarm(context);
    tell_waiters(context, NULL);
}

static void fail_compare(sync_compare *compare, int code, const char *why) {
    sync_context *context = compare->context;
    cal_error err;
    cal_peer_id peers[SYNC_PEERS_ASKED_MAX];
    size_t hearers = sync_hearers(context->sync, context->topic, peers, SYNC_PEERS_ASKED_MAX);
    uint32_t most = code == CAL_ESTATE ? 3 : 7; /* who has nothing yet will have it soon */
    uint32_t shift = context->failures / (hearers ? (uint32_t)hearers : 1); /* each has its turn */
    if (shift > most) shift = most;
    context->compare = NULL;
    context->tried = compare->peer;
    context->failures++;
    context->status.failures = context->failures;
    context->status.state = CAL_SYNC_UNKNOWN;
    snprintf(context->status.why, sizeof context->status.why, "%s", why);
    context->compare_wanted = true;
    context->compare_due_ms = sync_now_ms(context->sync) + ((uint64_t)SYNC_RETRY_MIN_MS << shift);
    if (code == CAL_ESTATE && context->failures < hearers) { /* the next one, without a pause */
        context->compare_due_ms = sync_now_ms(context->sync);
        context->compare_began_ms = 0;
    }
    cal_fail(&err, code, "%s", why);
    cal_peer_id peer = compare->peer;
    let_go(compare);
    /* It still has the state that was begun with; but nobody is asked for ever. */
    if (sync_take_moves(context) && context->failures % SAME_PEER_MAX != 0) context->helper = peer;
    sync_context_alarm(context);
    tell_waiters(context, &err);
}

/* --- deltas --- */

static bool is_here(const sync_context *context, const cal_hash *id) {
    static const cal_hash zero;
    return memcmp(id, &zero, sizeof zero) == 0 || sync_context_holds(context, id) ||
           sync_deltas_stored(context, (sync_ids){id, 1});
}

/* 0, CAL_ENOMEM, CAL_ELIMIT. */
static int want(sync_compare *compare, const cal_hash *id) {
    static char mark;
    cal_slice key = cal_slice_of(id->bytes, sizeof id->bytes);
    if (is_here(compare->context, id) || cal_map_get(&compare->seen, key)) return 0;
    if (compare->seen.count >= SYNC_WAITING_MAX) return CAL_ELIMIT;
    if (compare->wanted_count == compare->wanted_capacity) {
        size_t capacity = compare->wanted_capacity ? 2 * compare->wanted_capacity : 16;
        cal_hash *grown = realloc(compare->wanted, capacity * sizeof *grown);
        if (!grown) return CAL_ENOMEM;
        compare->wanted = grown;
        compare->wanted_capacity = capacity;
    }
    compare->wanted[compare->wanted_count++] = *id;
    return cal_map_put(&compare->seen, key, &mark);
}

static void ask_heads(sync_compare *compare);
static bool reopen(sync_compare *compare);
static void ask_delta(sync_compare *compare);

/* Some of what was wanted may have come, or be covered. */
static void ask_what_is_left(sync_compare *compare) {
    size_t kept = 0;
    for (size_t i = 0; i < compare->wanted_count; i++)
        if (!is_here(compare->context, &compare->wanted[i]))
            compare->wanted[kept++] = compare->wanted[i];
    compare->wanted_count = kept;
    ask_delta(compare);
}

static void on_covered(void *user) { ask_what_is_left(user); }

/* Many came: what is still missing is seen once they are applied. Otherwise one by one. */
static void on_gap(void *user, int result, size_t taken) {
    sync_compare *compare = user;
    sync_context *context = compare->context;
    bool broke_off = result != 0 && result != CAL_ELIMIT && taken > 0;
    compare->gap = NULL;
    compare->gap_over = !broke_off;
    compare->singles = 0;
    if (result == CAL_EVERIFY || result == CAL_EDECODE) {
        fail_compare(compare, CAL_EVERIFY, "the peer answered with something else than deltas");
    } else if (taken > 0) {
        compare->wanted_count = 0;
        cal_map_deinit(&compare->seen);
        cal_map_init(&compare->seen, context->sync->seed);
        compare->phase = COMPARE_APPLY;
        sync_compare_moved(context);
    } else if (!reopen(compare)) {
        fail_compare(compare, CAL_EUNREACHABLE, "the peer could not be asked for a delta");
    } else {
        ask_what_is_left(compare);
    }
}

static void ask_delta(sync_compare *compare) {
    sync_context *context = compare->context;
    if (compare->wanted_count == 0) {
        compare->phase = COMPARE_APPLY;
        sync_compare_moved(context);
        return;
    }
    compare->phase = COMPARE_DELTAS;
    if (sync_cover_ask(context, &compare->peer, compare->wanted, compare->wanted_count, on_covered,
                       compare))
        return;
    if (!compare->gap_over && compare->singles++ >= SINGLES_MAX &&
        sync_gap_new(context, &compare->peer, compare->wanted, compare->wanted_count, on_gap,
                     compare, &compare->gap) == 0)
        return;
    compare->asked = compare->wanted[--compare->wanted_count];
    sync_request request = {.kind = SYNC_DELTA, .context = context->id, .id = compare->asked};
    if (sync_session_ask(compare->session, &context->id, &request))
        fail_compare(compare, CAL_EUNREACHABLE, "the peer could not be asked for a delta");
}

static void on_delta(sync_compare *compare, const sync_answer *answer) {
    sync_context *context = compare->context;
    if (answer->kind == SYNC_ANSWER_DELTA_NOT_FOUND) {
        compare->lacks = true;
        if (compare->absent_count < ABSENT_MAX)
            compare->absent[compare->absent_count++] = compare->asked;
        ask_delta(compare);
        return;
    }
    sync_delta *delta = answer->kind == SYNC_ANSWER_DELTA
                            ? sync_delta_of_answer(context, &compare->peer, answer)
                            : NULL;
    if (!delta || memcmp(&delta->record.id, &compare->asked, sizeof compare->asked) != 0) {
        sync_delta_free(delta);
        context->sync->stats.malformed++;
        fail_compare(compare, CAL_EVERIFY,
                     "the peer answered with something else than it was asked for");
        return;
    }
    int rc = 0;
    bool had = sync_past_has(context, &delta->record); /* then what is below it was here, too */
    for (size_t i = 0; rc == 0 && !had && i < delta->record.parent_count; i++) {
        cal_hash parent;
        memcpy(parent.bytes, delta->record.parents[i], sizeof parent.bytes);
        rc = want(compare, &parent);
    }
    context->sync->stats.deltas_fetched++;
    bool taken = rc == 0 && sync_context_take(context, delta);
    if (context->compare != compare) return; /* it ended meanwhile */
    if (rc != 0) {
        sync_delta_free(delta);
        fail_compare(compare, rc, "too many deltas are missing to fetch them one by one");
    } else if (!taken && !is_here(context, &compare->asked)) {
        fail_compare(compare, CAL_ELIMIT, "too many deltas wait already");
    } else {
        ask_delta(compare);
    }
}

/* --- the whole state --- */

static void on_taken(void *user, int result, const char *why) {
    sync_compare *compare = user;
    compare->take = NULL;
    if (result != 0) {
        fail_compare(compare, result, why);
        return;
    }
    sync_context_took(compare->context, &compare->peer);
    sync_cover_note(compare->context, &compare->peer);
    sync_context_stated(compare->context);
    if (compare->context) ask_heads(compare);
}

/* Whoever hears the topic may answer; a state, or a promise to be in step, is taken from a member
 * only, and given to none but members. Members show themselves when they compare with this node. */
static bool is_member(const sync_compare *compare) {
    return sync_met_member(compare->context, &compare->peer);
}

static void take_state(sync_compare *compare) {
    sync_context *context = compare->context;
    if (!is_member(compare)) {
        context->awaits_member = true;
        fail_compare(compare, CAL_ESTATE, "the peer has not shown yet that it is a member");
        return;
    }
    context->status.state = CAL_SYNC_BEHIND;
    compare->phase = COMPARE_STATE;
    sync_context_took(context, &compare->peer);
    if (sync_take_new(context, compare->session, on_taken, compare, &compare->take))
        fail_compare(compare, CAL_EUNREACHABLE, "the peer could not be asked for its state");
}

static void fail_different(sync_compare *compare, int code, const char *why) {
    sync_context *context = compare->context;
    fail_compare(compare, code, why);
    context->status.state = CAL_SYNC_DIFFERENT;
}

/* --- heads that no delta leads to any more --- */

static int note_heads(sync_compare *compare, const sync_answer *answer) {
    size_t size = answer->heads.count * sizeof *compare->peer_heads;
    cal_hash *heads = malloc(size + 1);
    if (!heads) return CAL_ENOMEM;
    if (size) memcpy(heads, answer->heads.items, size);
    free(compare->peer_heads);
    compare->peer_heads = heads;
    compare->peer_head_count = answer->heads.count;
    compare->peer_root = answer->root;
    return 0;
}

static sync_answer noted_heads(const sync_compare *compare) {
    return (sync_answer){.kind = SYNC_ANSWER_HEADS,
                         .root = compare->peer_root,
                         .heads = {compare->peer_heads, (uint32_t)compare->peer_head_count}};
}

static void on_rejoined(void *user, int result, bool behind) {
    sync_compare *compare = user;
    (void)behind;
    compare->rejoin = NULL;
    if (result != 0 && result != CAL_EBUSY) {
        fail_compare(compare, result, "the heads of the peer could not be stored");
        return;
    }
    if (result == 0) {
        compare->context->sync->stats.heads_taken_over++;
        compare->lacks = false;
        sync_cover_note(compare->context, &compare->peer);
        sync_context_stated(compare->context);
    }
    if (compare->context) ask_heads(compare);
}

static bool may_rejoin(const sync_compare *compare) {
    return !compare->rejoined && compare->peer_head_count > 0 && is_member(compare);
}

static void take_over(sync_compare *compare) {
    sync_answer heads = noted_heads(compare);
    compare->rejoined = true;
    compare->phase = COMPARE_REJOIN;
    if (sync_rejoin_new(compare->context, &compare->peer, &heads, true, on_rejoined, compare,
                        &compare->rejoin))
        fail_compare(compare, CAL_ENOMEM, "out of memory");
}

static void on_behind(void *user, int result, bool behind) {
    sync_compare *compare = user;
    compare->rejoin = NULL;
    if (result != 0 || !behind)
        fail_different(compare, CAL_EBUSY,
                       "the states still differ after what may be exchanged was");
    else if (!reopen(compare))
        fail_compare(compare, CAL_EUNREACHABLE, "the peer could not be asked for its state");
    else
        take_state(compare);
}

/* What trees do not bring comes with the whole state, when there is nothing here that the peer does
 * not have. false: it was asked already, or all deltas can be had. */
static bool take_instead(sync_compare *compare) {
    sync_answer heads = noted_heads(compare);
    if (!compare->lacks || compare->behind_asked || compare->peer_head_count == 0) return false;
    compare->behind_asked = true;
    compare->phase = COMPARE_REJOIN;
    return sync_rejoin_new(compare->context, &compare->peer, &heads, false, on_behind, compare,
                           &compare->rejoin) == 0;
}

/* --- trees: deltas cannot make the states the same --- */

static void on_trees(void *user, int result, const char *why) {
    sync_compare *compare = user;
    compare->tree = NULL;
    sync_context_took(compare->context, &compare->peer);
    if (result != 0 && !take_instead(compare))
        fail_different(compare, result, why);
    else if (result == 0)
        ask_heads(compare);
}

static void compare_trees(sync_compare *compare, const cal_hash *root) {
    sync_context *context = compare->context;
    compare->phase = COMPARE_TREE;
    if (!is_member(compare))
        fail_compare(compare, CAL_ESTATE, "the peer has not shown yet that it is a member");
    else if (sync_context_held(context, &compare->peer))
        fail_compare(compare, CAL_ESTATE,
                     "the history of the peer whose state was taken is not here yet");
    else if (compare->trees++ >= TREES_MAX) {
        if (!take_instead(compare))
            fail_different(compare, CAL_EBUSY,
                           "the states still differ after what may be exchanged was");
    } else {
        sync_context_took(context, &compare->peer);
        if (sync_tree_new(context, compare->session, root, on_trees, compare, &compare->tree))
            fail_different(compare, CAL_EUNREACHABLE, "the peer could not be asked for its tree");
    }
}

/* --- heads --- */

/* The state is a member's. What waits here for a delta that it does not have will not be part of it
 * that way: it goes, and comes again with the heads of whoever builds on it. Else it would be asked
 * for again and again, when that delta was compacted away everywhere. */
static void forget_orphans(sync_compare *compare) {
    for (size_t i = 0; i < compare->absent_count; i++)
        sync_context_orphans(compare->context, &compare->absent[i]);
    compare->absent_count = 0;
}

/* Whether the peer names every head that is here. Whatever else it names and is known lies below
 * them: nodes of the reference keep some heads for good, and count deltas as applied that changed
 * nothing with them. */
static bool names_all(const cal_context_record *record, sync_ids heads) {
    for (size_t k = 0; k < record->head_count; k++) {
        bool found = false;
        for (uint32_t i = 0; i < heads.count && !found; i++)
            found = memcmp(&record->heads[k], &heads.items[i], sizeof(cal_hash)) == 0;
        if (!found) return false;
    }
    return record->head_count > 0;
}

static void fold_heads(const cal_context_record *record, cal_hash *ret_heads) {
    *ret_heads = (cal_hash){0};
    for (size_t i = 0; i < record->head_count; i++)
        for (size_t k = 0; k < sizeof ret_heads->bytes; k++)
            ret_heads->bytes[k] ^= record->heads[i].bytes[k];
}

static void note_level(sync_context *context, const cal_peer_id *peer,
                       const cal_context_record *record) {
    size_t place = context->level_at;
    for (size_t i = 0; i < SYNC_LEVEL_PEERS_MAX; i++)
        if (cal_peer_id_equal(&context->level[i].peer, peer)) place = i;
    if (place == context->level_at)
        context->level_at = (context->level_at + 1) % SYNC_LEVEL_PEERS_MAX;
    context->level[place].peer = *peer;
    fold_heads(record, &context->level[place].heads);
}

bool sync_compare_level(const sync_context *context, const cal_peer_id *peer) {
    cal_context_record record;
    cal_arena arena;
    cal_hash heads;
    bool level = false;
    cal_arena_init(&arena, SYNC_ARENA_MAX);
    int rc = cal_contexts_get(context->sync->options.contexts, &context->id, &arena, &record);
    if (rc == 0) fold_heads(&record, &heads);
    for (size_t i = 0; rc == 0 && i < SYNC_LEVEL_PEERS_MAX; i++)
        level = level || (cal_peer_id_equal(&context->level[i].peer, peer) &&
                          memcmp(&context->level[i].heads, &heads, sizeof heads) == 0);
    cal_arena_deinit(&arena);
    return level;
}

/* With the same state it has all that is here, whatever the heads. */
static void note_common(sync_context *context, const cal_peer_id *peer,
                        const cal_context_record *record, bool equal, sync_ids heads) {
    const sync_ids ours = {record->heads, (uint32_t)record->head_count};
    sync_past_common(context, peer, equal ? ours : heads);
}

/* What came by gossip may hang on something that did not. */
static int want_missing(sync_compare *compare) {
    enum { MISSING_MAX = 256 };
    cal_hash ids[MISSING_MAX];
    size_t count = sync_context_missing(compare->context, ids, MISSING_MAX);
    int rc = 0;
    for (size_t i = 0; i < count && rc == 0; i++) rc = want(compare, &ids[i]);
    return rc;
}

static void on_heads(sync_compare *compare, const sync_answer *answer) {
    static const cal_hash none;
    sync_context *context = compare->context;
    cal_context_record record;
    cal_arena arena;
    cal_arena_init(&arena, SYNC_ARENA_MAX);
    int rc = cal_contexts_get(context->sync->options.contexts, &context->id, &arena, &record);
    bool peer_empty = memcmp(&answer->root, &none, sizeof none) == 0;
    bool empty = rc == 0 && memcmp(&record.root, &none, sizeof none) == 0;
    for (uint32_t i = 0; rc == 0 && !empty && i < answer->heads.count; i++)
        rc = want(compare, &answer->heads.items[i]);
    if (rc == 0 && !empty) rc = want_missing(compare);
    bool equal = rc == 0 && memcmp(&answer->root, &record.root, sizeof record.root) == 0;
    bool same = rc == 0 && names_all(&record, answer->heads);
    if (same) note_level(context, &compare->peer, &record);
    bool many = rc == 0 && record.head_count > 1; /* some may lie below the peer's */
    if (rc == 0 && !empty) note_common(context, &compare->peer, &record, equal, answer->heads);
    cal_arena_deinit(&arena);
    if (rc == 0) rc = note_heads(compare, answer);
    if (rc == 0 && !empty) sync_context_stated(context); /* however the state came */
    if (context->compare != compare) return;
    if (rc != 0) {
        fail_compare(compare, rc, "the comparison with a peer failed");
    } else if (empty && !peer_empty) {
        take_state(compare);
    } else if (compare->wanted_count > 0) {
        context->status.state = CAL_SYNC_BEHIND;
        ask_delta(compare);
    } else if (peer_empty) {
        fail_compare(compare, CAL_ESTATE, "the peer has no state of the context yet");
    } else if (equal && !same && (compare->lacks || many) && may_rejoin(compare)) {
        take_over(compare);
    } else if (equal) {
        if (is_member(compare)) forget_orphans(compare);
        succeed(compare, is_member(compare) ? CAL_SYNC_EQUAL : CAL_SYNC_UNKNOWN);
    } else if (same || compare->lacks || (compare->trees > 0 && answer->heads.count == 0)) {
        /* after trees, the reference names no heads */
        compare_trees(compare, &answer->root);
    } else { /* the peer is behind, or what it has waits here for something */
        bool waits = sync_context_waiting(context);
        succeed(compare, waits ? CAL_SYNC_WAITING : CAL_SYNC_UNKNOWN);
        if (!waits) sync_context_heartbeat(context); /* it has not heard of what is here */
    }
}

static void ask_heads(sync_compare *compare) {
    sync_context *context = compare->context;
    sync_request request = {.kind = SYNC_HEADS, .context = context->id};
    compare->phase = COMPARE_HEADS;
    if (compare->rounds++ >= ROUNDS_MAX)
        fail_compare(compare, CAL_ETIMEOUT, "the peer moves on faster than it is caught up with");
    else if (!reopen(compare) || sync_session_ask(compare->session, &context->id, &request))
        fail_compare(compare, CAL_EUNREACHABLE, "the peer could not be asked for its heads");
}

/* What was fetched has been applied, or waits for something else than this peer. */
void sync_compare_moved(sync_context *context) {
    sync_compare *compare = context->compare;
    if (!compare) return;
    if (compare->gap)
        sync_gap_moved(compare->gap);
    else if (compare->phase == COMPARE_APPLY && sync_context_idle(context))
        ask_heads(compare);
}

/* --- the session --- */

static void on_answer(void *user, sync_session *session, const sync_message *message) {
    sync_compare *compare = user;
    (void)session;
    if (!compare->context) return;
    if (compare->take)
        sync_take_answer(compare->take, message);
    else if (compare->tree)
        sync_tree_answer(compare->tree, message);
    else if (message->kind == SYNC_NOT_MATERIALIZED)
        fail_compare(compare, CAL_ESTATE, "the peer does not have the context yet");
    else if (message->kind != SYNC_MESSAGE)
        fail_compare(compare, CAL_EDENIED,
                     "the peer does not answer: it may not know of this node's membership yet");
    else if (compare->phase == COMPARE_DELTAS)
        on_delta(compare, &message->answer);
    else if (compare->phase == COMPARE_HEADS && message->answer.kind == SYNC_ANSWER_HEADS)
        on_heads(compare, &message->answer);
    else
        fail_compare(compare, CAL_EDECODE, "the peer answered with something else than its heads");
}

static void on_ended(void *user, sync_session *session, int reason) {
    sync_compare *compare = user;
    (void)session;
    bool unused = compare->gap || compare->rejoin || compare->phase == COMPARE_APPLY ||
                  (compare->take && sync_take_has_all(compare->take));
    compare->over = true;
    if (compare->context && unused) return; /* another one is opened when it is needed */
    if (compare->context)
        fail_compare(compare, reason ? reason : CAL_EUNREACHABLE, "the stream to the peer ended");
    else
        free_compare(compare);
}

static const sync_session_events events = {.answer = on_answer, .ended = on_ended};

/* A peer ends a stream on which it was not asked anything for a while. */
static bool reopen(sync_compare *compare) {
    if (!compare->over) return true;
    if (sync_session_open(compare->context->sync, &compare->peer, SESSION_MS, &events, compare,
                          &compare->session))
        return false;
    compare->over = false;
    return true;
}

static bool start(sync_context *context, const cal_peer_id *peer) {
    sync_compare *compare = calloc(1, sizeof *compare);
    if (!compare) return false;
    compare->context = context;
    compare->peer = *peer;
    cal_map_init(&compare->seen, context->sync->seed);
    if (sync_session_open(context->sync, peer, SESSION_MS, &events, compare, &compare->session)) {
        free_compare(compare);
        return false;
    }
    context->compare = compare;
    context->compare_wanted = false;
    context->compare_began_ms = sync_now_ms(context->sync);
    ask_heads(compare);
    return true;
}

/* --- when --- */

/* News of a peer end the long pauses: they were for want of any. */
void sync_compare_want(sync_context *context, const cal_peer_id *peer) {
    uint64_t soon = sync_now_ms(context->sync) + (context->failures ? SYNC_RETRY_MIN_MS : 0);
    if (peer) context->ahead = *peer;
    context->compare_wanted = true;
    if ((peer || context->failures == 0) && context->compare_due_ms > soon)
        context->compare_due_ms = soon;
    sync_context_alarm(context);
}

/* A state was not taken for want of a member to take it from. */
void sync_compare_met(sync_context *context, const cal_peer_id *peer) {
    if (!context->awaits_member || !sync_met_member(context, peer)) return;
    context->awaits_member = false;
    context->ahead = *peer;
    context->compare_wanted = true;
    context->compare_due_ms = sync_now_ms(context->sync);
    context->compare_began_ms = 0;
    sync_context_alarm(context);
}

void sync_compare_soon(sync_context *context, const cal_peer_id *peer) {
    uint64_t grace = sync_now_ms(context->sync) + GOSSIP_GRACE_MS;
    bool wanted = context->compare_wanted;
    sync_compare_want(context, peer);
    if (!wanted && context->compare_due_ms < grace) context->compare_due_ms = grace;
    sync_context_alarm(context);
}

static void on_shown(void *user, sync_session *session, const sync_message *message) {
    (void)user, (void)message;
    sync_session_finish(session);
}

static void on_shown_end(void *user, sync_session *session, int reason) {
    (void)user, (void)session, (void)reason;
}

/* Where to note that the peer was shown it; SYNC_SHOWN_MAX: it was, or too many others were, not
 * long ago. Showing is a question like any other, which the peer answers by showing itself: without
 * a bound three nodes would go on for ever. */
static size_t place_to_show(const sync_context *context, const cal_peer_id *peer, uint64_t now) {
    size_t place = SYNC_SHOWN_MAX;
    for (size_t i = 0; i < SYNC_SHOWN_MAX; i++) {
        bool recent = context->shown[i].peer.len && now < context->shown[i].at_ms + SHOW_AGAIN_MS;
        if (recent && cal_peer_id_equal(&context->shown[i].peer, peer)) return SYNC_SHOWN_MAX;
        if (!recent) place = i;
    }
    return place;
}

void sync_compare_show(sync_context *context, const cal_peer_id *peer) {
    static const sync_session_events shown = {.answer = on_shown, .ended = on_shown_end};
    sync_request request = {.kind = SYNC_HEADS, .context = context->id};
    uint64_t now = sync_now_ms(context->sync);
    sync_session *session;
    size_t place = place_to_show(context, peer, now);
    if (place == SYNC_SHOWN_MAX) return;
    if (sync_session_open(context->sync, peer, SHOW_AGAIN_MS, &shown, NULL, &session)) return;
    context->shown[place].peer = *peer;
    context->shown[place].at_ms = now;
    if (sync_session_ask(session, &context->id, &request)) sync_session_finish(session);
}

/* Not while something that came is not judged or applied: what is missing may be among it. And not
 * two within a tick, whatever peers say. */
uint64_t sync_compare_due(const sync_context *context) {
    uint64_t again = context->compare_began_ms + CAL_SYNC_TICK_MS;
    if (context->compare || !context->compare_wanted || !sync_context_idle(context))
        return UINT64_MAX;
    return context->compare_due_ms > again ? context->compare_due_ms : again;
}

void sync_compare_tick(sync_context *context, uint64_t now_ms) {
    cal_peer_id peers[SYNC_PEERS_ASKED_MAX], helper = context->helper, ahead = context->ahead;
    size_t count = sync_hearers(context->sync, context->topic, peers, SYNC_PEERS_ASKED_MAX);
    context->helper.len = context->ahead.len = 0;
    if (helper.len && start(context, &helper)) return;
    /* Who was of no use may always have news: the others have their turn all the same. */
    bool again = context->failures > 0 && cal_peer_id_equal(&ahead, &context->tried);
    if (ahead.len && !(again && count > 1) && start(context, &ahead)) return;
    for (size_t i = 0; i < count; i++)
        if ((count == 1 || !cal_peer_id_equal(&peers[i], &context->tried)) &&
            start(context, &peers[i]))
            return;
    context->compare_due_ms = now_ms + SYNC_RETRY_MIN_MS;
    if (count == 0) { /* who comes is asked at once */
        cal_error err;
        context->compare_due_ms = now_ms + SYNC_RETRY_MAX_MS;
        context->status.state = CAL_SYNC_ALONE;
        cal_fail(&err, CAL_EUNREACHABLE, "nobody who hears the context is connected");
        tell_waiters(context, &err);
    }
}

void sync_compare_heard(sync_context *context, const sync_heartbeat *heartbeat,
                        const cal_peer_id *peer) {
    cal_context_record record;
    cal_arena arena;
    bool ahead = false;
    cal_arena_init(&arena, SYNC_ARENA_MAX);
    int rc = cal_contexts_get(context->sync->options.contexts, &context->id, &arena, &record);
    for (uint32_t i = 0; rc == 0 && !ahead && i < heartbeat->heads.count; i++)
        ahead = !is_here(context, &heartbeat->heads.items[i]);
    bool equal = rc == 0 && memcmp(&heartbeat->root, &record.root, sizeof record.root) == 0;
    bool same = rc == 0 && names_all(&record, heartbeat->heads);
    if (same) note_level(context, peer, &record);
    size_t record_heads = rc == 0 ? record.head_count : 0;
    if (rc == 0 && !ahead) note_common(context, peer, &record, equal, heartbeat->heads);
    bool too_many = record_heads > HEADS_MANY && record_heads > heartbeat->heads.count;
    if (ahead || (same && !equal) || (equal && too_many)) {
        sync_compare_soon(context, peer);
    } else if (rc == 0 && !same && !equal) {
        sync_context_heartbeat(context); /* it is behind, and may not know */
    } else if (equal && same && sync_met_member(context, peer)) {
        context->status.state = CAL_SYNC_EQUAL;
        context->status.peer = *peer;
        context->status.compared_ms = sync_wall_ms(context->sync);
    }
    cal_arena_deinit(&arena);
}

void sync_compare_free(sync_context *context) {
    sync_compare *compare = context->compare;
    cal_error err;
    context->compare = NULL;
    if (compare) let_go(compare);
    cal_fail(&err, CAL_ECANCELED, "the context is not shared any more");
    tell_waiters(context, &err);
}

/* --- by hand --- */

static bool add_waiter(sync_context *context, waiting *all) {
    waiter *each = calloc(1, sizeof *each);
    if (!each) return false;
    each->waiting = all;
    all->count++;
    cal_list_push(&context->waiters, &each->link);
    context->failures = 0;
    sync_compare_want(context, NULL);
    return true;
}

void cal_sync_now(cal_sync *sync, const cal_context_id *context, cal_simple_done done, void *user) {
    cal_error err = {0};
    waiting *all = calloc(1, sizeof *all);
    cal_map_cursor cursor = {0};
    void *value;
    sync_context *one = context ? sync_context_get(sync, context) : NULL;
    if (!all)
        cal_fail(&err, CAL_ENOMEM, "out of memory");
    else if (context && !one)
        cal_fail(&err, CAL_ENOTFOUND, "the context is not on this node");
    if (err.code) {
        free(all);
        done(user, &err);
        return;
    }
    *all = (waiting){.done = done, .user = user, .count = 1};
    bool ok = one ? add_waiter(one, all) : true;
    while (!one && ok && cal_map_next(&sync->contexts, &cursor, NULL, &value))
        ok = ((sync_context *)value)->gone || add_waiter(value, all);
    if (!ok) cal_fail(&all->err, CAL_ENOMEM, "out of memory");
    if (--all->count > 0) return;
    done(user, all->err.code ? &all->err : NULL);
    free(all);
}

int cal_sync_status_get(cal_sync *sync, const cal_context_id *id, cal_sync_status *ret_status) {
    const sync_context *context = sync_context_get(sync, id);
    if (!context) return CAL_ENOTFOUND;
    *ret_status = (cal_sync_status){.state = context->status.state,
                                    .peer = context->status.peer,
                                    .compared_ms = context->status.compared_ms,
                                    .waiting = sync_context_waiting(context),
                                    .failures = context->status.failures};
    memcpy(ret_status->why, context->status.why, sizeof context->status.why);
    if (ret_status->waiting > 0 && ret_status->state == CAL_SYNC_EQUAL) {
        ret_status->state = CAL_SYNC_WAITING; /* they came since */
        snprintf(ret_status->why, sizeof ret_status->why,
                 "%zu changes of others wait for what they build on", (size_t)ret_status->waiting);
    }
    if (context->codeless) {
        ret_status->state = CAL_SYNC_WAITING;
        snprintf(ret_status->why, sizeof ret_status->why, "%s", sync_context_code_why(context));
    }
    sync_foreign_tell(context, ret_status);
    return 0;
}
