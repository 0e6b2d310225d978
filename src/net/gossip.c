/* Lifecycle of gossip: peers, topics, subscriptions, publishing, time. See gossip.h.
 *
 * A topic exists while we are subscribed to it, a peer is, a message of it is cached, or a backoff
 * or fan-out for it runs. One thread. */
#include "net/gossip.h"

#include <assert.h>
#include <stdlib.h>

#include "base/error.h"
#include "codec/utf8.h"
#include "codec/varint.h"
#include "net/gossip_internal.h"

enum { SWEEP_MAX = 256 }; /* what is freed at once of what has expired */

gossip_version gossip_version_of(const char *protocol) {
    if (strcmp(protocol, "/meshsub/1.2.0") == 0) return GOSSIP_1_2;
    if (strcmp(protocol, "/meshsub/1.1.0") == 0) return GOSSIP_1_1;
    if (strcmp(protocol, "/meshsub/1.0.0") == 0) return GOSSIP_1_0;
    return 0;
}

/* splitmix64: enough for choosing among peers, and repeatable. */
uint64_t gossip_random(cal_gossip *gossip) {
    uint64_t z = gossip->random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t gossip_hash(const cal_gossip *gossip, cal_slice bytes) {
    uint64_t hash = 0xcbf29ce484222325u ^ gossip->hash_seed;
    for (size_t i = 0; i < bytes.len; i++) hash = (hash ^ bytes.data[i]) * 0x100000001b3u;
    hash ^= hash >> 32;
    return hash * 0x9e3779b97f4a7c15u;
}

uint64_t gossip_brief(cal_slice id) {
    uint8_t hash[CAL_HASH_SIZE];
    cal_sha256(id, hash);
    return cal_read_u64le(hash);
}

uint64_t gossip_brief_hash(const cal_gossip *gossip, uint64_t brief) {
    return (brief ^ gossip->hash_seed) * 0x9e3779b97f4a7c15u;
}

/* A clock that went back stands still until it has caught up. */
void gossip_clock(cal_gossip *gossip, uint64_t now_ns) {
    if (now_ns > gossip->now) gossip->now = now_ns;
}

int gossip_new(const gossip_options *options, uint64_t now_ns, cal_gossip **ret_gossip) {
    cal_gossip *gossip = calloc(1, sizeof *gossip);
    if (!gossip) return CAL_ENOMEM;
    uint8_t public_key[32];
    cal_sign_public_key(options->key, public_key);
    gossip->key = *options->key;
    cal_peer_id_of_key(public_key, &gossip->self);
    gossip->random = options->random;
    gossip->seqno = options->first_seqno;
    gossip->plain_ids = options->plain_ids;
    gossip->mesh_publish = options->mesh_publish;
    gossip->now = now_ns;
    gossip->next_heartbeat = now_ns + GOSSIP_FIRST_HEARTBEAT_NS;
    gossip->tick = GOSSIP_HISTORY; /* so that "so many ticks ago" never goes below 0 */
    gossip->hash_seed = gossip_random(gossip);
    cal_map *maps[] = {&gossip->peers, &gossip->topics, &gossip->seen,
                       &gossip->cache, &gossip->wants,  &gossip->briefs};
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++)
        cal_map_init(maps[i], gossip_random(gossip));
    cal_list *lists[] = {&gossip->peer_list, &gossip->seen_list, &gossip->cache_list,
                         &gossip->want_list, &gossip->news,      &gossip->waiting,
                         &gossip->output,    &gossip->held};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) cal_list_init(lists[i]);
    *ret_gossip = gossip;
    return 0;
}

void gossip_free(cal_gossip *gossip) {
    if (!gossip) return;
    gossip_events_free(gossip);
    while (!cal_list_empty(&gossip->peer_list)) {
        gossip_peer_remove(CAL_CONTAINER_OF(gossip->peer_list.next, gossip_peer, link),
                           gossip->now);
        gossip_events_free(gossip);
    }
    gossip_caches_free(gossip);
    cal_map_cursor cursor = {0};
    void *value;
    while (cal_map_next(&gossip->topics, &cursor, NULL, &value)) {
        gossip_topic *topic = value;
        gossip_backoffs_free(gossip, topic);
        free(topic);
    }
    cal_map *maps[] = {&gossip->peers, &gossip->topics, &gossip->seen,
                       &gossip->cache, &gossip->wants,  &gossip->briefs};
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) cal_map_deinit(maps[i]);
    assert(gossip->message_bytes == 0 && gossip->control_bytes == 0 && gossip->backoffs == 0);
    cal_secret_wipe(&gossip->key);
    free(gossip);
}

/* --- topics --- */

bool gossip_topic_name_valid(cal_slice name) {
    return name.len > 0 && name.len <= GOSSIP_TOPIC_MAX && cal_utf8_valid(name);
}

gossip_topic *gossip_topic_find(const cal_gossip *gossip, cal_slice name) {
    return cal_map_get(&gossip->topics, name);
}

gossip_topic *gossip_topic_make(cal_gossip *gossip, cal_slice name) {
    gossip_topic *topic = gossip_topic_find(gossip, name);
    if (topic) return topic;
    topic = calloc(1, sizeof *topic + name.len + 1); /* the name is text: NUL-terminated */
    if (!topic) return NULL;
    memcpy(topic->bytes, name.data, name.len);
    topic->name = (cal_slice){topic->bytes, name.len};
    cal_list_init(&topic->subs);
    cal_list_init(&topic->recent);
    cal_map_init(&topic->backoffs, gossip_random(gossip));
    if (cal_map_put(&gossip->topics, topic->name, topic)) {
        free(topic);
        return NULL;
    }
    return topic;
}

void gossip_topic_release(cal_gossip *gossip, gossip_topic *topic) {
    if (topic->own || topic->sub_count || topic->cached || topic->backoffs.count ||
        topic->fanout_until)
        return;
    assert(topic->mesh_count == 0);
    cal_map_remove(&gossip->topics, topic->name);
    cal_map_deinit(&topic->backoffs);
    free(topic);
}

/* --- who hears what --- */

gossip_sub *gossip_sub_find(const gossip_peer *peer, cal_slice topic) {
    return cal_map_get(&peer->subs, topic);
}

/* CAL_EEXISTS with the one that is there; CAL_EINVAL, CAL_ELIMIT, CAL_ENOMEM. */
int gossip_sub_add(gossip_peer *peer, cal_slice name, gossip_sub **ret_sub) {
    cal_gossip *gossip = peer->gossip;
    *ret_sub = gossip_sub_find(peer, name);
    if (*ret_sub) return CAL_EEXISTS;
    if (!gossip_topic_name_valid(name)) return CAL_EINVAL;
    gossip_topic *topic = gossip_topic_find(gossip, name);
    bool own = topic && topic->own;
    /* Topics that we hear ourselves are few: others can fill the table only with foreign ones. */
    if (!own &&
        (peer->foreign >= GOSSIP_PEER_TOPICS_MAX || gossip->foreign >= GOSSIP_FOREIGN_TOPICS_MAX))
        return CAL_ELIMIT;
    topic = gossip_topic_make(gossip, name);
    gossip_sub *sub = calloc(1, sizeof *sub);
    if (!topic || !sub || cal_map_put(&peer->subs, topic->name, sub)) {
        free(sub);
        if (topic) gossip_topic_release(gossip, topic);
        return CAL_ENOMEM;
    }
    sub->topic = topic;
    sub->peer = peer;
    cal_list_push(&topic->subs, &sub->topic_link);
    topic->sub_count++;
    if (!own) {
        peer->foreign++;
        gossip->foreign++;
    }
    *ret_sub = sub;
    return 0;
}

void gossip_sub_remove(gossip_sub *sub) {
    gossip_topic *topic = sub->topic;
    gossip_peer *peer = sub->peer;
    gossip_mesh_remove(sub);
    cal_list_remove(&sub->topic_link);
    topic->sub_count--;
    if (!topic->own) {
        peer->foreign--;
        peer->gossip->foreign--;
    }
    cal_map_remove(&peer->subs, topic->name);
    free(sub);
    gossip_topic_release(peer->gossip, topic);
}

/* The same subscriptions count as foreign or not, as we leave or join. */
static void recount_foreign(cal_gossip *gossip, gossip_topic *topic) {
    for (cal_list *at = topic->subs.next; at != &topic->subs; at = at->next) {
        gossip_peer *peer = CAL_CONTAINER_OF(at, gossip_sub, topic_link)->peer;
        if (topic->own) {
            peer->foreign--;
            gossip->foreign--;
        } else {
            peer->foreign++;
            gossip->foreign++;
        }
    }
}

static void announce(cal_gossip *gossip, const gossip_topic *topic, bool subscribe) {
    for (cal_list *at = gossip->peer_list.next; at != &gossip->peer_list; at = at->next)
        gossip_send_subscription(CAL_CONTAINER_OF(at, gossip_peer, link), topic, subscribe);
}

int gossip_subscribe(cal_gossip *gossip, cal_slice name, bool validate, uint64_t now_ns,
                     cal_error *err) {
    gossip_clock(gossip, now_ns);
    if (!gossip_topic_name_valid(name))
        return cal_fail(err, CAL_EINVAL, "a topic's name is 1 to %d bytes of UTF-8",
                        GOSSIP_TOPIC_MAX);
    gossip_topic *topic = gossip_topic_find(gossip, name);
    if (topic && topic->own)
        return cal_fail(err, CAL_EEXISTS, "already subscribed to %.*s", (int)name.len,
                        (const char *)name.data);
    if (gossip->own_topics >= GOSSIP_OWN_TOPICS_MAX)
        return cal_fail(err, CAL_ELIMIT, "subscribed to %d topics already, leave one first",
                        GOSSIP_OWN_TOPICS_MAX);
    topic = gossip_topic_make(gossip, name);
    if (!topic) return cal_fail(err, CAL_ENOMEM, "no memory to subscribe");
    topic->own = true;
    topic->validate = validate;
    gossip->own_topics++;
    recount_foreign(gossip, topic);
    announce(gossip, topic, true);
    gossip_mesh_join(gossip, topic);
    for (cal_list *at = topic->subs.next; at != &topic->subs; at = at->next) /* who does already */
        gossip_tell(gossip, GOSSIP_SUBSCRIBED, CAL_CONTAINER_OF(at, gossip_sub, topic_link)->peer,
                    topic->name, NULL, 0);
    return 0;
}

int gossip_unsubscribe(cal_gossip *gossip, cal_slice name, uint64_t now_ns) {
    gossip_clock(gossip, now_ns);
    gossip_topic *topic = gossip_topic_find(gossip, name);
    if (!topic || !topic->own) return CAL_ENOTFOUND;
    announce(gossip, topic, false);
    gossip_mesh_leave(gossip, topic);
    topic->own = false;
    gossip->own_topics--;
    recount_foreign(gossip, topic);
    gossip_topic_release(gossip, topic);
    return 0;
}

/* --- publishing --- */

static size_t send_published(cal_gossip *gossip, gossip_topic *topic, gossip_message *message) {
    size_t count = 0, sent = 0;
    if (gossip->mesh_publish && !topic->own) {
        count = gossip_fanout(gossip, topic);
    } else {
        for (cal_list *at = topic->subs.next; at != &topic->subs; at = at->next) {
            gossip_sub *sub = CAL_CONTAINER_OF(at, gossip_sub, topic_link);
            if (sub->mesh || !gossip->mesh_publish) gossip->chosen[count++] = sub;
        }
    }
    for (size_t i = 0; i < count; i++)
        if (gossip_queue_message(gossip->chosen[i]->peer, message, false)) sent++;
    return sent;
}

static int make_own(cal_gossip *gossip, cal_slice topic, cal_slice data,
                    gossip_message **ret_message) {
    uint8_t seqno[8], signature[CAL_SIGNATURE_SIZE], id[GOSSIP_ID_MAX];
    GossipPb__Message message = GOSSIP_PB__MESSAGE__INIT;
    cal_write_u64be(seqno, gossip->seqno);
    message.has_from = message.has_data = message.has_seqno = message.has_topic = true;
    message.from = (ProtobufCBinaryData){gossip->self.len, gossip->self.bytes};
    message.data = (ProtobufCBinaryData){data.len, (uint8_t *)(uintptr_t)data.data};
    message.seqno = (ProtobufCBinaryData){sizeof seqno, seqno};
    message.topic = (ProtobufCBinaryData){topic.len, (uint8_t *)(uintptr_t)topic.data};
    int result = gossip_message_sign(gossip, &message, signature);
    if (result) return result;
    message.has_signature = true;
    message.signature = (ProtobufCBinaryData){sizeof signature, signature};
    size_t id_len = gossip_message_id(gossip, &gossip->self, gossip->seqno, id);
    return gossip_message_make(gossip, &message, (cal_slice){id, id_len}, ret_message);
}

int gossip_publish(cal_gossip *gossip, cal_slice name, cal_slice data, uint64_t now_ns,
                   size_t *ret_peers, cal_error *err) {
    gossip_clock(gossip, now_ns);
    if (!gossip_topic_name_valid(name))
        return cal_fail(err, CAL_EINVAL, "a topic's name is 1 to %d bytes of UTF-8",
                        GOSSIP_TOPIC_MAX);
    gossip_message *message = NULL;
    int result = data.len > GOSSIP_RPC_MAX ? CAL_ELIMIT : 0;
    gossip->seqno++;
    if (!result) result = make_own(gossip, name, data, &message);
    if (result == CAL_ELIMIT) {
        gossip->stats.publish_refused++;
        return cal_fail(err, result,
                        "a message of %zu bytes does not fit into the network's limit of %d bytes "
                        "with its signature; send less, or by a stream",
                        data.len, GOSSIP_RPC_MAX);
    }
    if (result == CAL_EOVERLOAD)
        return cal_fail(err, result, "%d bytes of messages are waiting for slow peers; try later",
                        GOSSIP_MESSAGE_BYTES_MAX);
    if (result) return cal_fail(err, result, "no memory to publish");
    gossip_topic *topic = gossip_topic_make(gossip, name);
    if (!topic || gossip_seen_add(gossip, message->id) ||
        gossip_cache_add(gossip, message, topic)) {
        if (topic) gossip_topic_release(gossip, topic);
        gossip_message_unref(message);
        return cal_fail(err, CAL_ENOMEM, "no memory to publish");
    }
    size_t sent = send_published(gossip, topic, message);
    gossip->stats.published++;
    gossip->stats.published_bytes += data.len;
    gossip_message_unref(message);
    if (ret_peers) *ret_peers = sent;
    return 0;
}

/* --- peers --- */

static cal_slice id_slice(const cal_peer_id *id) { return (cal_slice){id->bytes, id->len}; }

int gossip_peer_add(cal_gossip *gossip, const cal_peer_id *id, bool outgoing, void *user,
                    uint64_t now_ns, gossip_peer **ret_peer) {
    gossip_clock(gossip, now_ns);
    if (cal_map_get(&gossip->peers, id_slice(id))) return CAL_EEXISTS;
    if (gossip->peers.count >= GOSSIP_PEERS_MAX) return CAL_ELIMIT;
    gossip_peer *peer = calloc(1, sizeof *peer);
    if (!peer) return CAL_ENOMEM;
    if (cal_map_put(&gossip->peers, id_slice(id), peer)) {
        free(peer);
        return CAL_ENOMEM;
    }
    peer->gossip = gossip;
    peer->id = *id;
    peer->user = user;
    peer->outgoing = outgoing;
    peer->serial = ++gossip->next_serial;
    cal_map_init(&peer->subs, gossip_random(gossip));
    cal_buffer_init(&peer->control, GOSSIP_CONTROL_BYTES_MAX);
    cal_buffer_init(&peer->ihave, GOSSIP_RPC_CONTROL_MAX - 1 - CAL_VARINT_MAX);
    cal_list_init(&peer->queue);
    cal_list_init(&peer->output_link);
    cal_list_push(&gossip->peer_list, &peer->link);
    *ret_peer = peer;
    return 0;
}

void gossip_peer_remove(gossip_peer *peer, uint64_t now_ns) {
    cal_gossip *gossip = peer->gossip;
    gossip_clock(gossip, now_ns);
    peer->open = false;
    gossip_want_forget(peer);
    gossip_hold_forget(peer);
    gossip_queue_clear(peer);
    cal_map_cursor cursor = {0};
    void *value;
    while (cal_map_next(&peer->subs, &cursor, NULL, &value)) {
        gossip_sub *sub = value;
        if (sub->topic->own)
            gossip_tell(gossip, GOSSIP_UNSUBSCRIBED, peer, sub->topic->name, NULL, 0);
        gossip_sub_remove(sub);
    }
    gossip_events_forget(peer);
    cal_map_deinit(&peer->subs);
    cal_buffer_deinit(&peer->control);
    cal_buffer_deinit(&peer->ihave);
    cal_list_remove(&peer->output_link);
    cal_list_remove(&peer->link);
    cal_map_remove(&gossip->peers, id_slice(&peer->id));
    free(peer);
}

void gossip_peer_open(gossip_peer *peer, gossip_version version, uint64_t now_ns) {
    gossip_clock(peer->gossip, now_ns);
    if (peer->open) gossip_peer_shut(peer, now_ns);
    peer->open = true;
    peer->closing = false;
    peer->version = version;
    gossip_send_subscriptions(peer);
    cal_map_cursor cursor = {0};
    void *value;
    while (cal_map_next(&peer->subs, &cursor, NULL, &value)) {
        gossip_sub *sub = value;
        if (sub->mesh) /* it grafted us before we could answer, and missed what came since */
            sub->owed_tick = peer->gossip->tick + GOSSIP_HISTORY_TOLD;
        else
            gossip_mesh_met(sub);
    }
}

void gossip_peer_shut(gossip_peer *peer, uint64_t now_ns) {
    gossip_clock(peer->gossip, now_ns);
    peer->open = false;
    gossip_want_forget(peer);
    gossip_hold_forget(peer);
    gossip_queue_clear(peer);
    cal_map_cursor cursor = {0};
    void *sub;
    while (cal_map_next(&peer->subs, &cursor, NULL, &sub)) {
        gossip_mesh_remove(sub);
        ((gossip_sub *)sub)->told_tick = 0; /* it may not have heard it */
    }
}

void gossip_peer_score(gossip_peer *peer, uint32_t score) { peer->score = score; }
void *gossip_peer_user(const gossip_peer *peer) { return peer->user; }
const cal_peer_id *gossip_peer_id(const gossip_peer *peer) { return &peer->id; }

/* --- time and figures --- */

uint64_t gossip_deadline(const cal_gossip *gossip) {
    uint64_t deadline = gossip->sweeping ? gossip->now : gossip->next_heartbeat;
    if (!cal_list_empty(&gossip->want_list)) {
        uint64_t want = CAL_CONTAINER_OF(gossip->want_list.next, gossip_want, link)->deadline;
        if (want < deadline) deadline = want;
    }
    uint64_t held = gossip_hold_deadline(gossip);
    return held < deadline ? held : deadline;
}

/* After a second of many messages thousands of them expire at once: not in one turn of the loop. */
static void sweep(cal_gossip *gossip) {
    size_t freed = gossip_cache_expire(gossip, SWEEP_MAX);
    freed += gossip_seen_expire(gossip, SWEEP_MAX - freed);
    gossip->sweeping = freed == SWEEP_MAX;
}

/* However late it is, there is one heartbeat: a jump of the clock is not a hundred of them. */
void gossip_expire(cal_gossip *gossip, uint64_t now_ns) {
    gossip_clock(gossip, now_ns);
    gossip_want_expire(gossip);
    gossip_hold_expire(gossip);
    bool beats = gossip->now >= gossip->next_heartbeat;
    if (beats) {
        gossip->next_heartbeat = gossip->now + GOSSIP_HEARTBEAT_NS;
        gossip_heartbeat(gossip);
    }
    if (beats || gossip->sweeping) sweep(gossip);
}

void gossip_stats_get(const cal_gossip *gossip, cal_p2p_gossip_stats *ret_stats) {
    *ret_stats = gossip->stats;
    ret_stats->peers = gossip->peers.count;
    ret_stats->own_topics = gossip->own_topics;
    ret_stats->foreign_topics = gossip->foreign;
    ret_stats->seen = gossip->seen.count;
    ret_stats->cached = gossip->cache.count;
    ret_stats->wants = gossip->wants.count;
    ret_stats->message_bytes = gossip->message_bytes;
    ret_stats->control_bytes = gossip->control_bytes;
    ret_stats->backoffs = gossip->backoffs;
}

void gossip_topic_count(const cal_gossip *gossip, cal_slice name, size_t *ret_peers,
                        size_t *ret_mesh) {
    const gossip_topic *topic = gossip_topic_find(gossip, name);
    *ret_peers = topic ? topic->sub_count : 0;
    *ret_mesh = topic ? topic->mesh_count : 0;
}

void gossip_topics(const cal_gossip *gossip,
                   void (*visit)(void *user, const char *topic, size_t peers, size_t mesh),
                   void *user) {
    cal_map_cursor cursor = {0};
    void *value;
    while (cal_map_next(&gossip->topics, &cursor, NULL, &value)) {
        const gossip_topic *topic = value;
        if (topic->own)
            visit(user, (const char *)topic->bytes, topic->sub_count, topic->mesh_count);
    }
}

bool gossip_in_mesh(const gossip_peer *peer, cal_slice topic) {
    const gossip_sub *sub = gossip_sub_find(peer, topic);
    return sub && sub->mesh;
}

void gossip_topic_peers(const cal_gossip *gossip, cal_slice name,
                        void (*visit)(void *user, gossip_peer *peer, bool mesh), void *user) {
    const gossip_topic *topic = gossip_topic_find(gossip, name);
    if (!topic) return;
    for (cal_list *at = topic->subs.next; at != &topic->subs; at = at->next) {
        gossip_sub *sub = CAL_CONTAINER_OF(at, gossip_sub, topic_link);
        visit(user, sub->peer, sub->mesh);
    }
}
