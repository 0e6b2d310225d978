/* What a peer sends: decoded under a bound of memory, then subscriptions, messages and control,
 * each with its limit between two heartbeats. Signatures come after the check for duplicates,
 * because they cost the most, and before anything is remembered, because a forged message must not
 * be able to hide the true one. network-sync.md 1; gossipsub specifications 1.0 to 1.2. */
#include <assert.h>
#include <stdlib.h>

#include "net/gossip_internal.h"

static cal_slice slice_of(const ProtobufCBinaryData *data) {
    return (cal_slice){data->data, data->len};
}

/* --- decoding --- */

typedef struct decoder {
    cal_arena arena;
    bool full;
} decoder;

static void *decoder_alloc(void *user, size_t size) {
    decoder *into = user;
    void *memory = cal_arena_alloc(&into->arena, size);
    if (!memory) into->full = true;
    return memory;
}

static void decoder_free(void *user, void *memory) {
    (void)user;
    (void)memory;
}

/* --- subscriptions --- */

static void take_subscription(gossip_peer *peer, const GossipPb__SubOpts *option) {
    cal_gossip *gossip = peer->gossip;
    if (!option->has_topic || peer->subscribes++ >= GOSSIP_SUBSCRIBES_MAX) {
        gossip->stats.subscriptions_refused++;
        return;
    }
    cal_slice name = slice_of(&option->topic);
    gossip_sub *sub;
    if (option->subscribe) {
        int result = gossip_sub_add(peer, name, &sub);
        if (result && result != CAL_EEXISTS) {
            gossip->stats.subscriptions_refused++;
            return;
        }
        if (!result) gossip_mesh_met(sub);
        /* Told again when it is said again: who came anew before we missed it knows nothing of what
         * was said to the one before. */
        if (sub->topic->own) gossip_tell(gossip, GOSSIP_SUBSCRIBED, peer, name, NULL, 0);
        return;
    }
    sub = gossip_sub_find(peer, name);
    if (!sub) return;
    if (sub->topic->own) gossip_tell(gossip, GOSSIP_UNSUBSCRIBED, peer, name, NULL, 0);
    gossip_sub_remove(sub);
}

/* --- messages --- */

static bool same_id(const cal_peer_id *a, const cal_peer_id *b) {
    return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

/* A message is good: keeps it for those who ask, and passes it on. */
void gossip_accept(cal_gossip *gossip, gossip_message *message, gossip_topic *topic,
                   const cal_peer_id *source) {
    if (gossip_cache_add(gossip, message, topic)) return; /* no memory: not passed on */
    for (cal_list *at = topic->subs.next; at != &topic->subs; at = at->next) {
        gossip_sub *sub = CAL_CONTAINER_OF(at, gossip_sub, topic_link);
        if (!sub->mesh || same_id(&sub->peer->id, source) ||
            same_id(&sub->peer->id, &message->from))
            continue;
        if (gossip_peer_has(sub->peer, message->hash))
            gossip_hold_learn(sub, message);
        else if (gossip_hold(sub, message))
            continue;
        if (gossip_queue_message(sub->peer, message, false)) gossip->stats.forwarded++;
    }
}

static void said_it_has(gossip_peer *peer, uint64_t brief) {
    gossip_has(peer, gossip_brief_hash(peer->gossip, brief));
    gossip_hold_note(peer, brief);
}

static void spare_mesh(gossip_peer *source, const gossip_topic *topic,
                       const gossip_message *message) {
    if (message->data.len <= GOSSIP_LARGE) return;
    for (cal_list *at = topic->subs.next; at != &topic->subs; at = at->next) {
        gossip_sub *sub = CAL_CONTAINER_OF(at, gossip_sub, topic_link);
        if (sub->mesh && sub->peer != source && sub->peer->version >= GOSSIP_1_2)
            gossip_send_idontwant(sub->peer, message);
    }
}

/* First seen and signed by its author. */
static void take_new(gossip_peer *peer, gossip_topic *topic, const GossipPb__Message *received,
                     cal_slice id) {
    cal_gossip *gossip = peer->gossip;
    gossip_message *message;
    if (gossip_message_make(gossip, received, id, &message)) {
        gossip->stats.messages_refused++;
        return;
    }
    if (gossip_seen_add(gossip, id)) {
        gossip->stats.messages_refused++;
        gossip_message_unref(message);
        return;
    }
    gossip_want_done(gossip, id);
    message->via = gossip_via(gossip, &peer->id);
    gossip_has(peer, message->hash);
    spare_mesh(peer, topic, message);
    if (topic->validate) {
        gossip_wait(peer, message);
    } else if (gossip_tell(gossip, GOSSIP_MESSAGE, peer, (cal_slice){0}, message, 0)) {
        gossip->stats.messages_refused++;
    } else {
        gossip->stats.delivered++;
        gossip_accept(gossip, message, topic, &peer->id);
    }
    gossip_message_unref(message);
}

/* Who brought too much is not read until the next heartbeat: his window closes, and nothing honest
 * is lost. */
static void pause_reading(gossip_peer *peer) {
    if (peer->paused) return;
    peer->paused = true;
    peer->gossip->stats.peers_paused++;
}

/* A signature was looked at. */
static void verified(gossip_peer *peer, bool good) {
    cal_gossip *gossip = peer->gossip;
    peer->verifies++;
    gossip->verifies++;
    if (!good) peer->forged++;
    bool crowded = gossip->verifies >= GOSSIP_VERIFIES_ALL_MAX &&
                   peer->verifies >= GOSSIP_VERIFIES_ALL_MAX / gossip->peers.count;
    if (peer->verifies >= GOSSIP_VERIFIES_MAX || peer->forged >= GOSSIP_FORGED_MAX || crowded)
        pause_reading(peer);
}

static void take_message(gossip_peer *peer, GossipPb__Message *message) {
    cal_gossip *gossip = peer->gossip;
    uint8_t id_bytes[GOSSIP_ID_MAX];
    cal_peer_id from;
    uint64_t seqno;
    gossip->stats.received++;
    gossip_topic *topic =
        message->has_topic ? gossip_topic_find(gossip, slice_of(&message->topic)) : NULL;
    if (!topic || !topic->own) {
        gossip->stats.foreign++;
        return;
    }
    if (gossip_message_check(message, &from, &seqno)) {
        gossip->stats.invalid++;
        return;
    }
    if (same_id(&from, &gossip->self)) {
        gossip->stats.echoes++;
        return;
    }
    cal_slice id = {id_bytes, gossip_message_id(gossip, &from, seqno, id_bytes)};
    if (gossip_seen_has(gossip, id)) {
        gossip->stats.duplicates++;
        said_it_has(peer, gossip_brief(id)); /* do not send it back */
        return;
    }
    if (peer->forged >= GOSSIP_FORGED_MAX) { /* honest peers pass on what verified: none at all */
        gossip->stats.messages_refused++;
        return;
    }
    int result = gossip_message_verify(message, &from);
    verified(peer, result == 0);
    if (result) {
        gossip->stats.invalid++;
        return;
    }
    take_new(peer, topic, message, id);
}

/* --- control --- */

static bool take_graft_limit(gossip_peer *peer) {
    if (peer->grafts++ < GOSSIP_GRAFTS_MAX) return true;
    peer->gossip->stats.control_refused++;
    return false;
}

static void take_graft(gossip_peer *peer, cal_slice name) {
    cal_gossip *gossip = peer->gossip;
    gossip_topic *topic = gossip_topic_find(gossip, name);
    if (!take_graft_limit(peer)) return;
    if (!topic || !topic->own) { /* unasked for: no answer, so that none can be provoked */
        gossip->stats.grafts_refused++;
        return;
    }
    gossip_sub *sub;
    int result = gossip_sub_add(peer, name, &sub); /* who grafts us hears the topic */
    if (result && result != CAL_EEXISTS) return;
    if (result == 0) gossip_tell(gossip, GOSSIP_SUBSCRIBED, peer, name, NULL, 0);
    if (sub->mesh) return;
    bool early = gossip_backing_off(gossip, topic, &peer->id, 0);
    if (early || (topic->mesh_count >= GOSSIP_MESH_HIGH && !peer->outgoing)) {
        gossip->stats.grafts_refused++;
        gossip_backoff(gossip, topic, &peer->id, GOSSIP_BACKOFF_S);
        gossip_send_prune(peer, topic);
        return;
    }
    gossip->stats.grafts++;
    gossip_mesh_grafted(sub);
}

static void take_prune(gossip_peer *peer, const GossipPb__Prune *prune) {
    cal_gossip *gossip = peer->gossip;
    gossip_topic *topic = gossip_topic_find(gossip, slice_of(&prune->topic));
    if (!take_graft_limit(peer)) return;
    gossip->stats.prunes++;
    gossip->stats.exchange_ignored += prune->n_peers;
    if (!topic || !topic->own) return;
    gossip_sub *sub = gossip_sub_find(peer, topic->name);
    if (sub) gossip_mesh_remove(sub);
    uint64_t seconds = prune->has_backoff && prune->backoff ? prune->backoff : GOSSIP_BACKOFF_S;
    gossip_backoff(gossip, topic, &peer->id, seconds);
}

static void take_ihave(gossip_peer *peer, const GossipPb__IHave *ihave, cal_arena *arena) {
    cal_gossip *gossip = peer->gossip;
    const gossip_topic *topic =
        ihave->has_topic ? gossip_topic_find(gossip, slice_of(&ihave->topic)) : NULL;
    if (!topic || !topic->own) return;
    size_t count = 0;
    cal_slice *asked = cal_arena_alloc_array(arena, ihave->n_ids, sizeof *asked);
    if (!asked) {
        gossip->stats.ihave_refused += ihave->n_ids;
        return;
    }
    for (size_t i = 0; i < ihave->n_ids; i++) {
        cal_slice id = slice_of(&ihave->ids[i]);
        if (id.len == 0 || id.len > GOSSIP_ID_MAX || peer->ihave_ids++ >= GOSSIP_IHAVE_IDS_MAX) {
            gossip->stats.ihave_refused++;
            continue;
        }
        if (gossip_seen_has(gossip, id)) {
            gossip_has(peer,
                       gossip_brief_hash(gossip, gossip_brief(id))); /* it is not to be told */
            continue;
        }
        if (gossip_want_add(peer, id)) asked[count++] = id;
    }
    if (count) gossip_send_iwant(peer, asked, count);
}

/* How often a peer asked for a message; false: often enough. */
static bool may_serve(gossip_message *message, const gossip_peer *peer) {
    for (size_t i = 0; i < message->served_count; i++) {
        struct gossip_served *served = &message->served[i];
        if (served->serial != peer->serial) continue;
        if (served->count >= GOSSIP_IWANT_REPEAT_MAX) return false;
        served->count++;
        return true;
    }
    cal_gossip *gossip = peer->gossip;
    size_t one = sizeof *message->served, size = (message->served_count + 1) * one;
    if (message->served_count == GOSSIP_SERVED_MAX ||
        gossip->message_bytes + one > GOSSIP_MESSAGE_BYTES_MAX)
        return false;
    struct gossip_served *more = realloc(message->served, size);
    if (!more) return false;
    gossip->message_bytes += one;
    message->served = more;
    more[message->served_count].serial = peer->serial;
    more[message->served_count++].count = 1;
    return true;
}

static void take_iwant(gossip_peer *peer, const GossipPb__IWant *iwant) {
    cal_gossip *gossip = peer->gossip;
    for (size_t i = 0; i < iwant->n_ids; i++) {
        if (peer->iwant_ids++ >= GOSSIP_IWANT_IDS_MAX) {
            gossip->stats.iwant_refused++;
            continue;
        }
        gossip_message *message = cal_map_get(&gossip->cache, slice_of(&iwant->ids[i]));
        if (!message) continue;
        if (!may_serve(message, peer)) {
            gossip->stats.iwant_refused++;
            continue;
        }
        if (gossip_queue_message(peer, message, true)) gossip->stats.iwant_served++;
    }
}

static void take_idontwant(gossip_peer *peer, const GossipPb__IDontWant *idontwant) {
    cal_gossip *gossip = peer->gossip;
    for (size_t i = 0; i < idontwant->n_ids; i++) {
        cal_slice id = slice_of(&idontwant->ids[i]);
        if (peer->idontwant_ids++ >= GOSSIP_IDONTWANT_IDS_MAX) {
            gossip->stats.idontwant_refused++;
            continue;
        }
        said_it_has(peer, gossip_brief(id));
    }
}

static void take_brief(gossip_peer *peer, cal_slice bytes) {
    cal_gossip *gossip = peer->gossip;
    peer->brief = true;
    for (size_t at = 0; at + 8 <= bytes.len; at += 8) {
        if (peer->idontwant_ids++ >= GOSSIP_IDONTWANT_IDS_MAX)
            gossip->stats.idontwant_refused++;
        else
            said_it_has(peer, cal_read_u64le(bytes.data + at));
    }
}

static void take_control(gossip_peer *peer, const GossipPb__Control *control, cal_arena *arena) {
    if (control->n_ihave > 0 && peer->ihaves++ >= GOSSIP_IHAVES_MAX) {
        peer->gossip->stats.ihave_refused++;
    } else {
        for (size_t i = 0; i < control->n_ihave; i++) take_ihave(peer, control->ihave[i], arena);
    }
    for (size_t i = 0; i < control->n_iwant; i++) take_iwant(peer, control->iwant[i]);
    for (size_t i = 0; i < control->n_graft; i++)
        if (control->graft[i]->has_topic) take_graft(peer, slice_of(&control->graft[i]->topic));
    for (size_t i = 0; i < control->n_prune; i++)
        if (control->prune[i]->has_topic) take_prune(peer, control->prune[i]);
    for (size_t i = 0; i < control->n_idontwant; i++) take_idontwant(peer, control->idontwant[i]);
}

/* --- one RPC --- */

bool gossip_ready(const gossip_peer *peer) {
    return !peer->paused && !peer->closing && peer->gossip->news_count < GOSSIP_EVENTS_MAX;
}

static void take_rpc(gossip_peer *peer, GossipPb__Rpc *rpc, cal_arena *arena) {
    for (size_t i = 0; i < rpc->n_subscriptions; i++)
        take_subscription(peer, rpc->subscriptions[i]);
    for (size_t i = 0; i < rpc->n_publish; i++) {
        if (i < GOSSIP_RPC_MESSAGES_MAX)
            take_message(peer, rpc->publish[i]);
        else
            peer->gossip->stats.messages_refused++;
    }
    if (rpc->control) take_control(peer, rpc->control, arena);
    if (rpc->has_brief) take_brief(peer, slice_of(&rpc->brief));
}

int gossip_receive(gossip_peer *peer, cal_slice bytes, uint64_t now_ns) {
    cal_gossip *gossip = peer->gossip;
    gossip_clock(gossip, now_ns);
    gossip->stats.rpcs++;
    if (++peer->rpcs >= GOSSIP_RPCS_MAX) pause_reading(peer);
    if (bytes.len > GOSSIP_RPC_MAX) {
        gossip->stats.rpcs_refused++;
        return CAL_ELIMIT;
    }
    decoder into = {0};
    cal_arena_init(&into.arena, GOSSIP_RPC_MEMORY_MAX);
    ProtobufCAllocator allocator = {decoder_alloc, decoder_free, &into};
    int result = 0;
    GossipPb__Rpc *rpc = gossip_pb__rpc__unpack(&allocator, bytes.len, bytes.data);
    if (rpc) {
        take_rpc(peer, rpc, &into.arena);
    } else if (into.full) {
        gossip->stats.rpcs_refused++;
        result = CAL_ELIMIT;
    } else {
        gossip->stats.rpcs_malformed++;
        result = CAL_EDECODE;
    }
    cal_arena_deinit(&into.arena);
    return result;
}
