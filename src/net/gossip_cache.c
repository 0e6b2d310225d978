/* What gossip remembers of messages: ids seen, messages that can be asked for, ids asked for.
 *
 * A want knows several peers that have the message: when the one asked goes away or stays silent
 * for GOSSIP_WANT_NS the next is asked. Told once is therefore enough, see docs/design/gossip.md.
 */
#include <assert.h>
#include <stdlib.h>

#include "net/gossip_internal.h"

/* --- seen --- */

bool gossip_seen_has(const cal_gossip *gossip, cal_slice id) {
    return cal_map_get(&gossip->seen, id) != NULL;
}

static void seen_free(cal_gossip *gossip, gossip_seen *seen) {
    cal_list_remove(&seen->link);
    cal_map_remove(&gossip->seen, seen->id);
    free(seen);
}

static gossip_seen *seen_oldest(cal_gossip *gossip) {
    return CAL_CONTAINER_OF(gossip->seen_list.next, gossip_seen, link);
}

/* CAL_ENOMEM. */
int gossip_seen_add(cal_gossip *gossip, cal_slice id) {
    gossip_seen *seen = calloc(1, sizeof *seen + id.len);
    if (!seen) return CAL_ENOMEM;
    memcpy(seen->bytes, id.data, id.len);
    seen->id = (cal_slice){seen->bytes, id.len};
    seen->expires = gossip->now + GOSSIP_SEEN_NS;
    if (cal_map_put(&gossip->seen, seen->id, seen)) {
        free(seen);
        return CAL_ENOMEM;
    }
    cal_list_push(&gossip->seen_list, &seen->link);
    if (gossip->seen.count > GOSSIP_SEEN_MAX) {
        gossip->stats.seen_evicted++;
        seen_free(gossip, seen_oldest(gossip));
    }
    return 0;
}

size_t gossip_seen_expire(cal_gossip *gossip, size_t most) {
    size_t freed = 0;
    for (; freed < most && !cal_list_empty(&gossip->seen_list) &&
           seen_oldest(gossip)->expires <= gossip->now;
         freed++)
        seen_free(gossip, seen_oldest(gossip));
    return freed;
}

/* --- messages for IWANT --- */

static gossip_message *cache_oldest(cal_gossip *gossip) {
    return CAL_CONTAINER_OF(gossip->cache_list.next, gossip_message, cache_link);
}

void gossip_cache_drop(gossip_message *message) {
    cal_gossip *gossip = message->gossip;
    gossip_topic *topic = message->topic;
    cal_list_remove(&message->cache_link);
    cal_list_remove(&message->topic_link);
    cal_map_remove(&gossip->cache, message->id);
    cal_slice brief = {message->brief_key, sizeof message->brief_key};
    if (cal_map_get(&gossip->briefs, brief) == message) cal_map_remove(&gossip->briefs, brief);
    gossip->cache_bytes -= message->size;
    message->topic = NULL;
    topic->cached--;
    gossip_topic_release(gossip, topic);
    gossip_message_unref(message);
}

/* CAL_ENOMEM. */
int gossip_cache_add(cal_gossip *gossip, gossip_message *message, gossip_topic *topic) {
    assert(!message->topic);
    topic->cached++; /* first: dropping another message must not release this topic */
    while (gossip->cache.count > 0 &&
           (gossip->cache.count >= GOSSIP_CACHE_MAX ||
            gossip->cache_bytes + message->size > GOSSIP_CACHE_BYTES_MAX)) {
        gossip->stats.cache_evicted++;
        gossip_cache_drop(cache_oldest(gossip));
    }
    if (cal_map_put(&gossip->cache, message->id, message)) {
        topic->cached--;
        return CAL_ENOMEM;
    }
    /* Without it, it is only not known who has it from elsewhere. */
    cal_map_put(&gossip->briefs, (cal_slice){message->brief_key, sizeof message->brief_key},
                message);
    message->topic = topic;
    message->tick = gossip->tick;
    message->refs++;
    gossip->cache_bytes += message->size;
    cal_list_push(&gossip->cache_list, &message->cache_link);
    cal_list_push(&topic->recent, &message->topic_link);
    return 0;
}

size_t gossip_cache_expire(cal_gossip *gossip, size_t most) {
    size_t freed = 0;
    for (; freed < most && !cal_list_empty(&gossip->cache_list) &&
           cache_oldest(gossip)->tick + GOSSIP_HISTORY <= gossip->tick;
         freed++)
        gossip_cache_drop(cache_oldest(gossip));
    return freed;
}

/* Frees memory for a message of this size: first at the cost of the peer that is slowest to take
 * what waits for it, then of the oldest messages. False: all is held by the application. */
bool gossip_make_room(cal_gossip *gossip, size_t size) {
    while (gossip->message_bytes + size > GOSSIP_MESSAGE_BYTES_MAX) {
        gossip_peer *slowest = NULL;
        for (cal_list *at = gossip->peer_list.next; at != &gossip->peer_list; at = at->next) {
            gossip_peer *peer = CAL_CONTAINER_OF(at, gossip_peer, link);
            if (!slowest || peer->queue_bytes > slowest->queue_bytes) slowest = peer;
        }
        /* Half of what it has, so that looking for it is worth the while. */
        size_t least = slowest ? slowest->queue_bytes / 2 : 0, shed = 0;
        while (slowest && slowest->queue_bytes > least &&
               gossip->message_bytes + size > GOSSIP_MESSAGE_BYTES_MAX &&
               gossip_queue_shed(slowest))
            shed++;
        if (shed) continue;
        if (cal_list_empty(&gossip->cache_list)) return false;
        gossip->stats.cache_evicted++;
        gossip_cache_drop(cache_oldest(gossip));
    }
    return true;
}

/* --- ids asked for --- */

static void want_free(cal_gossip *gossip, gossip_want *want) {
    if (want->source_count) want->sources[0]->wants--;
    cal_list_remove(&want->link);
    cal_map_remove(&gossip->wants, want->id);
    free(want);
}

bool gossip_want_add(gossip_peer *source, cal_slice id) {
    cal_gossip *gossip = source->gossip;
    gossip_want *want = cal_map_get(&gossip->wants, id);
    if (want) {
        for (size_t i = 0; i < want->source_count; i++)
            if (want->sources[i] == source) return false;
        if (want->source_count < GOSSIP_WANT_SOURCES_MAX)
            want->sources[want->source_count++] = source;
        return false;
    }
    /* A few that tell of what does not exist must not keep the others from being asked. */
    size_t most =
        gossip->wants.count < GOSSIP_WANTS_MAX / 2 ? GOSSIP_PEER_WANTS_MAX : GOSSIP_WANTS_SHARE;
    if (gossip->wants.count >= GOSSIP_WANTS_MAX || source->wants >= most) {
        gossip->stats.ihave_refused++;
        return false;
    }
    want = calloc(1, sizeof *want + id.len);
    if (!want) return false;
    memcpy(want->bytes, id.data, id.len);
    want->id = (cal_slice){want->bytes, id.len};
    if (cal_map_put(&gossip->wants, want->id, want)) {
        free(want);
        return false;
    }
    want->sources[0] = source;
    want->source_count = 1;
    source->wants++;
    want->deadline = gossip->now + GOSSIP_WANT_NS;
    cal_list_push(&gossip->want_list, &want->link);
    return true;
}

void gossip_want_done(cal_gossip *gossip, cal_slice id) {
    gossip_want *want = cal_map_get(&gossip->wants, id);
    if (want) want_free(gossip, want);
}

static void want_remove_source(gossip_want *want, size_t index) {
    if (index == 0) want->sources[0]->wants--;
    want->source_count--;
    for (size_t i = index; i < want->source_count; i++) want->sources[i] = want->sources[i + 1];
    if (index == 0 && want->source_count) want->sources[0]->wants++;
}

/* The peer asked will not answer: asks the next, or gives up. */
static void want_next(cal_gossip *gossip, gossip_want *want) {
    want_remove_source(want, 0);
    if (want->source_count == 0) {
        gossip->stats.iwant_lost++;
        want_free(gossip, want);
        return;
    }
    cal_list_remove(&want->link);
    want->deadline = gossip->now + GOSSIP_WANT_NS;
    cal_list_push(&gossip->want_list, &want->link); /* newest deadline: at the end */
    gossip_send_iwant(want->sources[0], &want->id, 1);
}

void gossip_want_forget(gossip_peer *peer) {
    cal_gossip *gossip = peer->gossip;
    size_t left = gossip->wants.count;
    for (cal_list *at = gossip->want_list.next, *next; left > 0; left--, at = next) {
        gossip_want *want = CAL_CONTAINER_OF(at, gossip_want, link);
        next = at->next;
        for (size_t i = want->source_count; i-- > 1;)
            if (want->sources[i] == peer) want_remove_source(want, i);
        if (want->sources[0] == peer) want_next(gossip, want);
    }
    assert(peer->wants == 0);
}

void gossip_want_expire(cal_gossip *gossip) {
    while (!cal_list_empty(&gossip->want_list)) {
        gossip_want *want = CAL_CONTAINER_OF(gossip->want_list.next, gossip_want, link);
        if (want->deadline > gossip->now) return;
        want_next(gossip, want);
    }
}

void gossip_caches_free(cal_gossip *gossip) {
    while (!cal_list_empty(&gossip->cache_list)) gossip_cache_drop(cache_oldest(gossip));
    while (!cal_list_empty(&gossip->seen_list)) seen_free(gossip, seen_oldest(gossip));
    while (!cal_list_empty(&gossip->want_list))
        want_free(gossip, CAL_CONTAINER_OF(gossip->want_list.next, gossip_want, link));
}
