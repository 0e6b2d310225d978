/* Meshes: whom we pass messages of a topic on to at once, and whom we tell what there is.
 *
 * gossipsub 1.0 "Heartbeat", 1.1 "Outbound Mesh Quotas" and "Opportunistic Grafting". Scores are
 * never negative, so nobody is excluded; they only decide who is preferred. Two things go beyond
 * the specification, both within its messages (docs/design/gossip.md): who is told ids outside the
 * mesh is chosen in turn, so that in GOSSIP_HISTORY_TOLD heartbeats everybody was; and a peer that
 * was just grafted, or that missed a copy, is told too. */
#include <assert.h>
#include <stdlib.h>

#include "net/gossip_internal.h"

enum { GRAFT_BETTER_TICKS = 60, GRAFT_BETTER = 2, TOLD_IDS_MAX = 5000 };
#define BACKOFF_MAX_S 3600u /* whatever a peer asks for */
#define SECOND_NS UINT64_C(1000000000)

static gossip_sub *sub_of(cal_list *link) { return CAL_CONTAINER_OF(link, gossip_sub, topic_link); }

/* --- backoff --- */

static gossip_pause *backoff_find(const gossip_topic *topic, const cal_peer_id *id) {
    return cal_map_get(&topic->backoffs, (cal_slice){id->bytes, id->len});
}

/* They outlive their peers, so that leaving is no way around them: peers that come and go can only
 * fill what there is for all. */
static gossip_pause *backoff_make(cal_gossip *gossip, gossip_topic *topic, const cal_peer_id *id) {
    gossip_pause *backoff = NULL;
    if (topic->backoffs.count < GOSSIP_BACKOFFS_MAX && gossip->backoffs < GOSSIP_BACKOFFS_ALL_MAX)
        backoff = calloc(1, sizeof *backoff);
    if (!backoff || cal_map_put(&topic->backoffs, (cal_slice){id->bytes, id->len}, backoff)) {
        free(backoff);
        gossip->stats.backoffs_refused++;
        return NULL;
    }
    gossip->backoffs++;
    return backoff;
}

void gossip_backoff(cal_gossip *gossip, gossip_topic *topic, const cal_peer_id *id,
                    uint64_t seconds) {
    if (seconds > BACKOFF_MAX_S) seconds = BACKOFF_MAX_S;
    uint64_t until = gossip->now + seconds * SECOND_NS;
    gossip_pause *backoff = backoff_find(topic, id);
    if (!backoff) backoff = backoff_make(gossip, topic, id);
    if (backoff && until > backoff->until) backoff->until = until;
}

bool gossip_backing_off(const cal_gossip *gossip, const gossip_topic *topic, const cal_peer_id *id,
                        uint64_t slack_ns) {
    const gossip_pause *backoff = backoff_find(topic, id);
    return backoff && gossip->now < backoff->until + slack_ns;
}

/* Kept a heartbeat longer than they hold: the slack before we graft again. */
static void backoffs_expire(cal_gossip *gossip, gossip_topic *topic) {
    cal_map_cursor cursor = {0};
    cal_slice id;
    void *value;
    if (topic->backoffs.count == 0) return;
    while (cal_map_next(&topic->backoffs, &cursor, &id, &value)) {
        gossip_pause *backoff = value;
        if (backoff->until + GOSSIP_HEARTBEAT_NS > gossip->now) continue;
        cal_map_remove(&topic->backoffs, id);
        free(backoff);
        gossip->backoffs--;
    }
    if (topic->backoffs.count == 0) gossip_backoffs_free(gossip, topic); /* its memory too */
}

void gossip_backoffs_free(cal_gossip *gossip, gossip_topic *topic) {
    cal_map_cursor cursor = {0};
    void *backoff;
    while (cal_map_next(&topic->backoffs, &cursor, NULL, &backoff)) {
        free(backoff);
        gossip->backoffs--;
    }
    cal_map_deinit(&topic->backoffs);
    cal_map_init(&topic->backoffs, gossip_random(gossip));
}

/* --- choosing --- */

static int by_score(const void *a, const void *b) {
    const gossip_sub *x = *(gossip_sub *const *)a, *y = *(gossip_sub *const *)b;
    if (x->peer->score != y->peer->score) return x->peer->score < y->peer->score ? 1 : -1;
    return (x->order > y->order) - (x->order < y->order);
}

static int by_told(const void *a, const void *b) {
    const gossip_sub *x = *(gossip_sub *const *)a, *y = *(gossip_sub *const *)b;
    if (x->told_tick != y->told_tick) return x->told_tick > y->told_tick ? 1 : -1;
    return (x->order > y->order) - (x->order < y->order);
}

static void sort_chosen(cal_gossip *gossip, size_t first, size_t count,
                        int (*order)(const void *, const void *)) {
    for (size_t i = 0; i < count; i++) gossip->chosen[first + i]->order = gossip_random(gossip);
    qsort(gossip->chosen + first, count, sizeof *gossip->chosen, order);
}

static bool can_graft(const cal_gossip *gossip, const gossip_sub *sub) {
    return sub->peer->open && !sub->peer->closing && !sub->mesh &&
           !gossip_backing_off(gossip, sub->topic, &sub->peer->id, GOSSIP_HEARTBEAT_NS);
}

static void graft(cal_gossip *gossip, gossip_sub *sub) {
    assert(sub->topic->own);
    gossip_mesh_grafted(sub);
    gossip_send_graft(sub->peer, sub->topic);
    (void)gossip;
}

static void prune(cal_gossip *gossip, gossip_sub *sub) {
    gossip_mesh_remove(sub);
    gossip_backoff(gossip, sub->topic, &sub->peer->id, GOSSIP_BACKOFF_S);
    gossip_send_prune(sub->peer, sub->topic);
}

/* Grafts up to `count` more, the best first; only those we dialled, or of a score above `above`. */
static void graft_more(cal_gossip *gossip, gossip_topic *topic, size_t count, bool outgoing,
                       int64_t above) {
    size_t found = 0;
    for (cal_list *at = topic->subs.next; at != &topic->subs; at = at->next) {
        gossip_sub *sub = sub_of(at);
        if ((outgoing && !sub->peer->outgoing) || (int64_t)sub->peer->score <= above) continue;
        if (can_graft(gossip, sub)) gossip->chosen[found++] = sub;
    }
    sort_chosen(gossip, 0, found, by_score);
    for (size_t i = 0; i < found && i < count; i++) graft(gossip, gossip->chosen[i]);
}

/* --- events of one peer --- */

void gossip_mesh_grafted(gossip_sub *sub) {
    if (sub->mesh) return;
    sub->mesh = true;
    sub->fanout = false;
    sub->owed_tick = sub->peer->gossip->tick + GOSSIP_HISTORY_TOLD;
    sub->topic->mesh_count++;
}

void gossip_mesh_remove(gossip_sub *sub) {
    sub->fanout = false;
    if (!sub->mesh) return;
    sub->mesh = false;
    sub->topic->mesh_count--;
}

void gossip_mesh_met(gossip_sub *sub) {
    cal_gossip *gossip = sub->peer->gossip;
    if (sub->topic->own && sub->topic->mesh_count < GOSSIP_MESH_LOW && can_graft(gossip, sub))
        graft(gossip, sub);
}

void gossip_mesh_join(cal_gossip *gossip, gossip_topic *topic) {
    topic->fanout_until = 0;
    for (cal_list *at = topic->subs.next; at != &topic->subs; at = at->next) {
        gossip_sub *sub = sub_of(at);
        if (sub->fanout && topic->mesh_count < GOSSIP_MESH && can_graft(gossip, sub))
            graft(gossip, sub);
        sub->fanout = false;
    }
    if (topic->mesh_count < GOSSIP_MESH)
        graft_more(gossip, topic, GOSSIP_MESH - topic->mesh_count, false, -1);
}

void gossip_mesh_leave(cal_gossip *gossip, gossip_topic *topic) {
    for (cal_list *at = topic->subs.next; at != &topic->subs; at = at->next)
        if (sub_of(at)->mesh) prune(gossip, sub_of(at));
}

/* Peers that publishes to a topic not our own go to, into chosen. */
size_t gossip_fanout(cal_gossip *gossip, gossip_topic *topic) {
    size_t kept = 0, found = 0;
    for (cal_list *at = topic->subs.next; at != &topic->subs; at = at->next)
        if (sub_of(at)->fanout) gossip->chosen[kept++] = sub_of(at);
    for (cal_list *at = topic->subs.next; at != &topic->subs; at = at->next)
        if (!sub_of(at)->fanout && sub_of(at)->peer->open)
            gossip->chosen[kept + found++] = sub_of(at);
    sort_chosen(gossip, kept, found, by_score);
    for (size_t i = 0; i < found && kept < GOSSIP_MESH; i++) gossip->chosen[kept++]->fanout = true;
    topic->fanout_until = gossip->now + GOSSIP_FANOUT_NS;
    return kept;
}

/* --- heartbeat --- */

static void fanout_maintain(cal_gossip *gossip, gossip_topic *topic) {
    if (topic->fanout_until == 0 || topic->fanout_until > gossip->now) return;
    topic->fanout_until = 0;
    for (cal_list *at = topic->subs.next; at != &topic->subs; at = at->next)
        sub_of(at)->fanout = false;
}

/* Collects the mesh into chosen, best first. */
static size_t mesh_sorted(cal_gossip *gossip, gossip_topic *topic) {
    size_t count = 0;
    for (cal_list *at = topic->subs.next; at != &topic->subs; at = at->next)
        if (sub_of(at)->mesh) gossip->chosen[count++] = sub_of(at);
    assert(count == topic->mesh_count);
    sort_chosen(gossip, 0, count, by_score);
    return count;
}

/* Cuts a mesh down: keeps the best, then anybody, but some that we dialled. */
static void cut_down(cal_gossip *gossip, gossip_topic *topic) {
    gossip_sub **chosen = gossip->chosen;
    size_t count = mesh_sorted(gossip, topic), outgoing = 0;
    for (size_t i = count - 1; i > GOSSIP_MESH_BEST; i--) { /* the rest in any order */
        size_t j = GOSSIP_MESH_BEST + gossip_random(gossip) % (i - GOSSIP_MESH_BEST + 1);
        gossip_sub *other = chosen[i];
        chosen[i] = chosen[j];
        chosen[j] = other;
    }
    for (size_t i = 0; i < GOSSIP_MESH; i++) outgoing += chosen[i]->peer->outgoing;
    for (size_t i = GOSSIP_MESH; i < count && outgoing < GOSSIP_MESH_OUTGOING; i++) {
        if (!chosen[i]->peer->outgoing) continue;
        gossip_sub *other = chosen[i];
        chosen[i] = chosen[GOSSIP_MESH - 1];
        chosen[GOSSIP_MESH - 1] = other;
        outgoing++;
    }
    for (size_t i = GOSSIP_MESH; i < count; i++) prune(gossip, chosen[i]);
}

static void mesh_maintain(cal_gossip *gossip, gossip_topic *topic) {
    if (topic->mesh_count < GOSSIP_MESH_LOW)
        graft_more(gossip, topic, GOSSIP_MESH - topic->mesh_count, false, -1);
    if (topic->mesh_count > GOSSIP_MESH_HIGH) cut_down(gossip, topic);
    size_t count = mesh_sorted(gossip, topic), outgoing = 0;
    for (size_t i = 0; i < count; i++) outgoing += gossip->chosen[i]->peer->outgoing;
    int64_t median = count ? gossip->chosen[count / 2]->peer->score : 0;
    if (count >= GOSSIP_MESH_LOW && outgoing < GOSSIP_MESH_OUTGOING)
        graft_more(gossip, topic, GOSSIP_MESH_OUTGOING - outgoing, true, -1);
    if (count > 0 && gossip->tick % GRAFT_BETTER_TICKS == 0)
        graft_more(gossip, topic, GRAFT_BETTER, false, median);
}

static size_t told_messages(const cal_gossip *gossip, const gossip_topic *topic,
                            const gossip_message *ret_messages[TOLD_IDS_MAX]) {
    size_t count = 0;
    for (cal_list *at = topic->recent.prev; at != &topic->recent && count < TOLD_IDS_MAX;
         at = at->prev) {
        const gossip_message *message = CAL_CONTAINER_OF(at, gossip_message, topic_link);
        if (message->tick + GOSSIP_HISTORY_TOLD < gossip->tick) break;
        ret_messages[count++] = message;
    }
    return count;
}

typedef struct told { /* scratch of a heartbeat */
    const gossip_message *messages[TOLD_IDS_MAX];
    size_t count;
    cal_slice ids[TOLD_IDS_MAX];
} told;

/* Tells what the peer is not known to have: once, unless something is owed or was left out. */
static void tell_peer(gossip_sub *sub, told *t) {
    uint64_t tick = sub->peer->gossip->tick;
    bool again = sub->owed_tick >= tick || sub->peer->owed_tick >= tick;
    uint64_t since = again ? 0 : sub->told_tick;
    size_t ids = 0;
    for (size_t i = 0; i < t->count && t->messages[i]->tick >= since; i++) /* newest first */
        if (!gossip_peer_has(sub->peer, t->messages[i]->hash)) t->ids[ids++] = t->messages[i]->id;
    if (ids == 0 || gossip_add_ihave(sub->peer, sub->topic, t->ids, ids)) sub->told_tick = tick;
}

/* Tells what there is: those outside the mesh in turn, and whom something is owed. */
static void tell_ids(cal_gossip *gossip, gossip_topic *topic, told *t) {
    if (topic->cached == 0) return;
    size_t found = 0;
    t->count = told_messages(gossip, topic, t->messages);
    if (t->count == 0) return;
    for (cal_list *at = topic->subs.next; at != &topic->subs; at = at->next) {
        gossip_sub *sub = sub_of(at);
        if (!sub->peer->open || sub->peer->closing) continue;
        if (!sub->mesh)
            gossip->chosen[found++] = sub;
        else if (sub->owed_tick >= gossip->tick)
            tell_peer(sub, t);
    }
    sort_chosen(gossip, 0, found, by_told);
    size_t third = (found + GOSSIP_HISTORY_TOLD - 1) / GOSSIP_HISTORY_TOLD;
    size_t most = third > GOSSIP_LAZY ? third : GOSSIP_LAZY;
    for (size_t i = 0; i < found && i < most; i++) tell_peer(gossip->chosen[i], t);
}

static void peer_refresh(gossip_peer *peer) {
    peer->ihaves = peer->ihave_ids = peer->iwant_ids = peer->idontwant_ids = 0;
    peer->grafts = peer->subscribes = peer->verifies = peer->forged = peer->rpcs = 0;
    gossip_flush_ihave(peer);
    if (!peer->paused) return;
    peer->paused = false;
    if (gossip_tell(peer->gossip, GOSSIP_READY, peer, (cal_slice){0}, NULL, 0))
        peer->paused = true; /* no memory to say so: at the next heartbeat */
}

void gossip_heartbeat(cal_gossip *gossip) {
    told *scratch = malloc(sizeof *scratch);
    gossip->tick++;
    gossip->verifies = 0;
    cal_map_cursor cursor = {0};
    void *value;
    while (cal_map_next(&gossip->topics, &cursor, NULL, &value)) {
        gossip_topic *topic = value;
        backoffs_expire(gossip, topic);
        fanout_maintain(gossip, topic);
        if (topic->own) mesh_maintain(gossip, topic);
        if (scratch) tell_ids(gossip, topic, scratch);
        gossip_topic_release(gossip, topic);
    }
    free(scratch);
    for (cal_list *at = gossip->peer_list.next; at != &gossip->peer_list; at = at->next)
        peer_refresh(CAL_CONTAINER_OF(at, gossip_peer, link));
    gossip_waiting_expire(gossip);
}
