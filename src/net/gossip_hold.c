/* Copies that are held back for a moment, because the peer is believed to have the message from
 * elsewhere.
 *
 * Where everybody hears everybody, a message reaches most peers at once, and what each of them
 * passes on comes too late: IDONTWANT is still on its way when the copy is sent. So who came too
 * late once does not send at once again: a peer that said IDONTWANT to a message (or sent it) that
 * came to us from X gets the next ones from X GOSSIP_HOLD_NS later, unless it says so again in
 * time. When it does not, the copy goes, and for a while every copy at once: the other way is gone,
 * or the peer's IDONTWANTs do not mean what we think. Nothing new is on the wire; a peer that does
 * not speak 1.2, and a message too small for IDONTWANT, are never waited for. */
#include <stdlib.h>

#include "net/gossip_internal.h"

enum { HELD_MAX = 4096, HELD_BYTES_MAX = 8 * 1024 * 1024 };

typedef struct held {
    cal_list link; /* oldest first */
    uint64_t deadline;
    gossip_peer *peer;
    gossip_message *message;
} held;

static held *held_of(cal_list *link) { return CAL_CONTAINER_OF(link, held, link); }

static bool can_say(const gossip_peer *peer, const gossip_message *message) {
    return peer->version >= GOSSIP_1_2 && message->data.len > GOSSIP_LARGE;
}

static bool believed(const gossip_sub *sub, uint32_t via) {
    for (size_t i = 0; i < GOSSIP_ELSEWHERE; i++)
        if (sub->elsewhere[i] == via) return true;
    return false;
}

void gossip_hold_learn(gossip_sub *sub, const gossip_message *message) {
    const gossip_peer *peer = sub->peer;
    if (message->via == 0 || !can_say(peer, message) || believed(sub, message->via)) return;
    if (sub->doubt_tick >= peer->gossip->tick) return;
    sub->elsewhere[sub->elsewhere_at++ % GOSSIP_ELSEWHERE] = message->via;
}

/* The peer has what we have: it sent it too, or says so. */
void gossip_hold_note(gossip_peer *peer, uint64_t brief) {
    uint8_t key[8];
    cal_write_u64le(key, brief);
    const gossip_message *message =
        cal_map_get(&peer->gossip->briefs, (cal_slice){key, sizeof key});
    if (!message || message->via == gossip_via(peer->gossip, &peer->id)) return;
    gossip_sub *sub = gossip_sub_find(peer, message->topic_name);
    if (sub) gossip_hold_learn(sub, message);
}

uint32_t gossip_via(const cal_gossip *gossip, const cal_peer_id *source) {
    uint32_t via = (uint32_t)gossip_hash(gossip, (cal_slice){source->bytes, source->len});
    return via ? via : 1; /* 0: nobody, our own */
}

bool gossip_hold(gossip_sub *sub, gossip_message *message) {
    gossip_peer *peer = sub->peer;
    cal_gossip *gossip = peer->gossip;
    if (message->via == 0 || !can_say(peer, message) || !believed(sub, message->via)) return false;
    if (gossip->held_count >= HELD_MAX || gossip->held_bytes + message->frame.len > HELD_BYTES_MAX)
        return false;
    held *h = malloc(sizeof *h);
    if (!h) return false;
    *h = (held){.deadline = gossip->now + GOSSIP_HOLD_NS, .peer = peer, .message = message};
    message->refs++;
    cal_list_init(&h->link);
    cal_list_push(&gossip->held, &h->link);
    peer->held++;
    gossip->held_count++;
    gossip->held_bytes += message->frame.len;
    return true;
}

static void held_free(held *h) {
    cal_gossip *gossip = h->peer->gossip;
    cal_list_remove(&h->link);
    h->peer->held--;
    gossip->held_count--;
    gossip->held_bytes -= h->message->frame.len;
    gossip_message_unref(h->message);
    free(h);
}

/* It was waited for in vain: the other way is not there. What else waits for it goes too. */
static void release(gossip_peer *peer, gossip_sub *sub) {
    cal_gossip *gossip = peer->gossip;
    memset(sub->elsewhere, 0, sizeof sub->elsewhere);
    sub->doubt_tick = gossip->tick + GOSSIP_DOUBT;
    for (cal_list *at = gossip->held.next, *next; at != &gossip->held && peer->held > 0;
         at = next) {
        held *h = held_of(at);
        next = at->next;
        if (h->peer != peer || !cal_slice_equal(h->message->topic_name, sub->topic->name)) continue;
        if (gossip_queue_message(peer, h->message, false)) gossip->stats.held_sent++;
        held_free(h);
    }
}

void gossip_hold_expire(cal_gossip *gossip) {
    while (!cal_list_empty(&gossip->held)) {
        held *h = held_of(gossip->held.next);
        if (h->deadline > gossip->now) return;
        gossip_sub *sub = gossip_sub_find(h->peer, h->message->topic_name);
        if (sub && !gossip_peer_has(h->peer, h->message->hash)) {
            release(h->peer, sub);
            continue;
        }
        if (sub) gossip->stats.idontwant_spared++;
        held_free(h);
    }
}

uint64_t gossip_hold_deadline(const cal_gossip *gossip) {
    return cal_list_empty(&gossip->held) ? UINT64_MAX : held_of(gossip->held.next)->deadline;
}

void gossip_hold_forget(gossip_peer *peer) {
    cal_gossip *gossip = peer->gossip;
    for (cal_list *at = gossip->held.next, *next; peer->held > 0; at = next) {
        next = at->next;
        if (held_of(at)->peer == peer) held_free(held_of(at));
    }
}
