/* What waits for a peer: control RPCs, then messages. Control goes first and whole, so the stream
 * never changes from one to the other inside a frame. Messages are shared, not copied. */
#include <assert.h>
#include <stdlib.h>

#include "codec/varint.h"
#include "net/gossip_internal.h"

static void has_output(gossip_peer *peer) {
    if (cal_list_empty(&peer->output_link))
        cal_list_push(&peer->gossip->output, &peer->output_link);
}

gossip_peer *gossip_next_output(cal_gossip *gossip) {
    cal_list *link = cal_list_pop(&gossip->output);
    return link ? CAL_CONTAINER_OF(link, gossip_peer, output_link) : NULL;
}

/* --- messages --- */

static uint64_t has_entry(uint64_t hash, uint64_t tick) {
    return (hash & ~UINT64_C(0xffff)) | (tick & 0xffff);
}

void gossip_has(gossip_peer *peer, uint64_t hash) {
    uint64_t *set = peer->has[hash >> 16 & (GOSSIP_HAS_SETS - 1)];
    size_t at = 0;
    while (at < GOSSIP_HAS_WAYS - 1 && (set[at] ^ hash) >> 16 != 0) at++;
    memmove(set + 1, set, at * sizeof *set); /* the newest first */
    set[0] = has_entry(hash, peer->gossip->tick);
}

bool gossip_peer_has(const gossip_peer *peer, uint64_t hash) {
    const uint64_t *set = peer->has[hash >> 16 & (GOSSIP_HAS_SETS - 1)];
    for (size_t i = 0; i < GOSSIP_HAS_WAYS; i++)
        if ((set[i] ^ hash) >> 16 == 0 && (uint16_t)(peer->gossip->tick - set[i]) < GOSSIP_HISTORY)
            return true;
    return false;
}

static gossip_queued *queue_head(gossip_peer *peer) {
    return CAL_CONTAINER_OF(peer->queue.next, gossip_queued, link);
}

static void queue_drop(gossip_peer *peer, gossip_queued *queued) {
    cal_list_remove(&queued->link);
    peer->queue_count--;
    peer->queue_bytes -= queued->message->frame.len;
    gossip_message_unref(queued->message);
    free(queued);
}

/* A copy that was not sent is owed: the peer is told the id, as one that is not in the mesh. */
static void owe(gossip_peer *peer, const gossip_message *message) {
    gossip_sub *sub = gossip_sub_find(peer, message->topic_name);
    if (sub) sub->owed_tick = peer->gossip->tick + GOSSIP_HISTORY_TOLD;
}

bool gossip_queue_message(gossip_peer *peer, gossip_message *message, bool asked) {
    cal_gossip *gossip = peer->gossip;
    if (!peer->open || peer->closing) return false;
    if (!asked && gossip_peer_has(peer, message->hash)) {
        gossip->stats.idontwant_spared++;
        return false;
    }
    gossip_queued *queued = NULL;
    if (peer->queue_count < GOSSIP_QUEUE_MAX &&
        peer->queue_bytes + message->frame.len <= GOSSIP_QUEUE_BYTES_MAX)
        queued = calloc(1, sizeof *queued);
    if (!queued) {
        gossip->stats.queue_dropped++;
        owe(peer, message);
        return false;
    }
    queued->message = message;
    queued->asked = asked;
    queued->expires = gossip->now + GOSSIP_QUEUED_NS;
    message->refs++;
    cal_list_push(&peer->queue, &queued->link);
    peer->queue_count++;
    peer->queue_bytes += message->frame.len;
    has_output(peer);
    return true;
}

bool gossip_queue_shed(gossip_peer *peer) {
    cal_list *last = peer->queue.prev;
    if (last == &peer->queue || (last == peer->queue.next && peer->head_sent)) return false;
    gossip_queued *queued = CAL_CONTAINER_OF(last, gossip_queued, link);
    peer->gossip->stats.queue_dropped++;
    owe(peer, queued->message);
    queue_drop(peer, queued);
    return true;
}

/* What waits for the peer changed. */
static void count_control(gossip_peer *peer) {
    size_t now = peer->control.len - peer->control_sent + peer->ihave.len;
    peer->gossip->control_bytes += now - peer->counted;
    peer->counted = now;
}

/* No place for so much more: too much waits for all peers, and more than its share for this one. */
static bool crowded(const gossip_peer *peer, size_t len) {
    return peer->gossip->control_bytes + len > GOSSIP_CONTROL_ALL_MAX &&
           peer->counted + len > GOSSIP_CONTROL_SHARE;
}

void gossip_queue_clear(gossip_peer *peer) {
    while (!cal_list_empty(&peer->queue)) queue_drop(peer, queue_head(peer));
    cal_buffer_deinit(&peer->control);
    cal_buffer_deinit(&peer->ihave);
    peer->control_sent = peer->head_sent = 0;
    memset(peer->has, 0, sizeof peer->has); /* what was sent last may not have arrived */
    count_control(peer);
}

cal_slice gossip_output(gossip_peer *peer, uint64_t now_ns) {
    cal_gossip *gossip = peer->gossip;
    gossip_clock(gossip, now_ns);
    cal_list_remove(&peer->output_link);
    if (!peer->open) return (cal_slice){0};
    if (peer->head_sent == 0 && peer->control.len > 0)
        return (cal_slice){peer->control.data + peer->control_sent,
                           peer->control.len - peer->control_sent};
    while (!cal_list_empty(&peer->queue)) {
        gossip_queued *head = queue_head(peer);
        cal_slice frame = head->message->frame;
        if (peer->head_sent > 0)
            return (cal_slice){frame.data + peer->head_sent, frame.len - peer->head_sent};
        if (head->expires <= gossip->now) {
            gossip->stats.queue_expired++;
            owe(peer, head->message);
        } else if (!head->asked && gossip_peer_has(peer, head->message->hash)) {
            gossip->stats.idontwant_spared++;
        } else {
            return frame;
        }
        queue_drop(peer, head);
    }
    return (cal_slice){0};
}

void gossip_sent(gossip_peer *peer, size_t len) {
    if (len == 0) return;
    if (peer->head_sent == 0 && peer->control.len > 0) {
        assert(len <= peer->control.len - peer->control_sent);
        peer->control_sent += len;
        count_control(peer);
        if (peer->control_sent == peer->control.len) {
            cal_buffer_deinit(&peer->control); /* an idle peer holds no memory for it */
            peer->control_sent = 0;
        }
        return;
    }
    assert(!cal_list_empty(&peer->queue));
    gossip_queued *head = queue_head(peer);
    peer->head_sent += len;
    assert(peer->head_sent <= head->message->frame.len);
    if (peer->head_sent < head->message->frame.len) return;
    peer->head_sent = 0;
    gossip_has(peer, head->message->hash);
    queue_drop(peer, head);
}

/* --- control --- */

static void give_up(gossip_peer *peer) {
    cal_gossip *gossip = peer->gossip;
    peer->closing = true;
    gossip->stats.peers_closed++;
    /* Without memory for the news the peer stays silent: its queue takes no more either way. */
    gossip_tell(gossip, GOSSIP_CLOSE, peer, (cal_slice){0}, NULL, 0);
}

/* Appends one RPC of two pieces. `must`: it changes the peer's picture of us (subscriptions, GRAFT,
 * PRUNE). Its loss would leave the two with different meshes, so a peer that does not take it is
 * given up. */
static void queue_bytes(gossip_peer *peer, cal_slice head, cal_slice body, bool must) {
    if (!peer->open || peer->closing) return;
    size_t len = head.len + body.len, waiting = peer->control.len - peer->control_sent;
    bool full = crowded(peer, len);
    if (!must && (full || waiting + len > GOSSIP_CONTROL_IDLE_MAX)) {
        peer->gossip->stats.gossip_dropped++;
        peer->owed_tick = peer->gossip->tick + GOSSIP_HISTORY_TOLD;
        return;
    }
    if (peer->control_sent > 0) {
        cal_buffer_consume(&peer->control, peer->control_sent);
        peer->control_sent = 0;
    }
    if (full || !cal_buffer_reserve(&peer->control, len + CAL_VARINT_MAX)) {
        peer->control.error = 0;
        if (must)
            give_up(peer);
        else
            peer->gossip->stats.gossip_dropped++;
        return;
    }
    cal_varint_append(&peer->control, len); /* all fits: it was reserved */
    cal_buffer_append_slice(&peer->control, head);
    cal_buffer_append_slice(&peer->control, body);
    count_control(peer);
    has_output(peer);
}

static void queue_control(gossip_peer *peer, const GossipPb__Rpc *rpc, bool must) {
    if (!peer->open || peer->closing) return;
    size_t len = gossip_pb__rpc__get_packed_size(rpc);
    uint8_t small[1024], *bytes = len <= sizeof small ? small : malloc(len);
    if (!bytes) {
        if (must) give_up(peer);
        return;
    }
    gossip_pb__rpc__pack(rpc, bytes);
    queue_bytes(peer, (cal_slice){bytes, len}, (cal_slice){0}, must);
    if (bytes != small) free(bytes);
}

static ProtobufCBinaryData binary(cal_slice slice) {
    return (ProtobufCBinaryData){slice.len, (uint8_t *)(uintptr_t)slice.data};
}

enum { SUBSCRIPTIONS_PER_RPC = 64 };

void gossip_send_subscriptions(gossip_peer *peer) {
    GossipPb__SubOpts options[SUBSCRIPTIONS_PER_RPC], *list[SUBSCRIPTIONS_PER_RPC];
    GossipPb__Rpc rpc = GOSSIP_PB__RPC__INIT;
    rpc.subscriptions = list;
    rpc.has_brief = true; /* we understand it */
    cal_map_cursor cursor = {0};
    void *value;
    while (cal_map_next(&peer->gossip->topics, &cursor, NULL, &value)) {
        const gossip_topic *topic = value;
        if (!topic->own) continue;
        GossipPb__SubOpts *option = &options[rpc.n_subscriptions];
        gossip_pb__sub_opts__init(option);
        option->has_subscribe = option->subscribe = option->has_topic = true;
        option->topic = binary(topic->name);
        list[rpc.n_subscriptions++] = option;
        if (rpc.n_subscriptions < SUBSCRIPTIONS_PER_RPC) continue;
        queue_control(peer, &rpc, true);
        rpc.n_subscriptions = 0;
    }
    if (rpc.n_subscriptions > 0) queue_control(peer, &rpc, true);
}

void gossip_send_subscription(gossip_peer *peer, const gossip_topic *topic, bool subscribe) {
    GossipPb__SubOpts option = GOSSIP_PB__SUB_OPTS__INIT, *list = &option;
    GossipPb__Rpc rpc = GOSSIP_PB__RPC__INIT;
    option.has_subscribe = option.has_topic = true;
    option.subscribe = subscribe;
    option.topic = binary(topic->name);
    rpc.n_subscriptions = 1;
    rpc.subscriptions = &list;
    rpc.has_brief = subscribe;
    queue_control(peer, &rpc, true);
}

void gossip_send_graft(gossip_peer *peer, const gossip_topic *topic) {
    GossipPb__Graft graft = GOSSIP_PB__GRAFT__INIT, *list = &graft;
    GossipPb__Control control = GOSSIP_PB__CONTROL__INIT;
    GossipPb__Rpc rpc = GOSSIP_PB__RPC__INIT;
    graft.has_topic = true;
    graft.topic = binary(topic->name);
    control.n_graft = 1;
    control.graft = &list;
    rpc.control = &control;
    queue_control(peer, &rpc, true);
}

void gossip_send_prune(gossip_peer *peer, const gossip_topic *topic) {
    GossipPb__Prune prune = GOSSIP_PB__PRUNE__INIT, *list = &prune;
    GossipPb__Control control = GOSSIP_PB__CONTROL__INIT;
    GossipPb__Rpc rpc = GOSSIP_PB__RPC__INIT;
    prune.has_topic = true;
    prune.topic = binary(topic->name);
    prune.has_backoff = peer->version >= GOSSIP_1_1;
    prune.backoff = GOSSIP_BACKOFF_S;
    control.n_prune = 1;
    control.prune = &list;
    rpc.control = &control;
    queue_control(peer, &rpc, true);
}

/* Slices become what protobuf-c packs, piece by piece on the stack. */
enum { IDS_PER_RPC = 512 };

static size_t pack_ids(ProtobufCBinaryData ret_ids[IDS_PER_RPC], const cal_slice *ids,
                       size_t count) {
    if (count > IDS_PER_RPC) count = IDS_PER_RPC;
    for (size_t i = 0; i < count; i++) ret_ids[i] = binary(ids[i]);
    return count;
}

/* Each id is asked for in an RPC of its own: js-libp2p puts all that one RPC asks for into one
 * answer, which can then be longer than an RPC may be. */
void gossip_send_iwant(gossip_peer *peer, const cal_slice *ids, size_t count) {
    for (size_t i = 0; i < count; i++) {
        ProtobufCBinaryData id = binary(ids[i]);
        GossipPb__IWant iwant = GOSSIP_PB__IWANT__INIT, *list = &iwant;
        GossipPb__Control control = GOSSIP_PB__CONTROL__INIT;
        GossipPb__Rpc rpc = GOSSIP_PB__RPC__INIT;
        iwant.ids = &id;
        iwant.n_ids = 1;
        control.n_iwant = 1;
        control.iwant = &list;
        rpc.control = &control;
        queue_control(peer, &rpc, false);
    }
}

/* Every IHAVE of a heartbeat goes into one RPC (gossip_flush_ihave): a peer takes only
 * GOSSIP_IHAVES_MAX RPCs with any between heartbeats. */
bool gossip_add_ihave(gossip_peer *peer, const gossip_topic *topic, const cal_slice *ids,
                      size_t count) {
    ProtobufCBinaryData packed[IDS_PER_RPC];
    if (!peer->open || peer->closing) return false;
    for (size_t at = 0; at < count;) {
        GossipPb__IHave ihave = GOSSIP_PB__IHAVE__INIT;
        ihave.has_topic = true;
        ihave.topic = binary(topic->name);
        ihave.ids = packed;
        ihave.n_ids = pack_ids(packed, ids + at, count - at);
        at += ihave.n_ids;
        size_t len = gossip_pb__ihave__get_packed_size(&ihave);
        if (crowded(peer, len) || !cal_buffer_reserve(&peer->ihave, 1 + CAL_VARINT_MAX + len)) {
            peer->ihave.error = 0;
            peer->gossip->stats.gossip_dropped++;
            return false;
        }
        cal_buffer_append_u8(&peer->ihave, 1 << 3 | 2); /* field 1 of the control message */
        cal_varint_append(&peer->ihave, len);
        peer->ihave.len += gossip_pb__ihave__pack(&ihave, peer->ihave.data + peer->ihave.len);
        count_control(peer);
    }
    return true;
}

void gossip_flush_ihave(gossip_peer *peer) {
    if (peer->ihave.len == 0) return;
    uint8_t bytes[1 + CAL_VARINT_MAX];
    cal_buffer inner, ihave = peer->ihave;
    cal_buffer_init(&peer->ihave, ihave.max); /* out of it: it is not to be counted twice */
    count_control(peer);
    cal_buffer_init(&inner, sizeof bytes);
    bytes[0] = 3 << 3 | 2; /* field 3 of the RPC */
    cal_varint_append(&inner, ihave.len);
    if (!inner.error) {
        memcpy(bytes + 1, inner.data, inner.len);
        queue_bytes(peer, (cal_slice){bytes, 1 + inner.len}, cal_buffer_slice(&ihave), false);
    }
    cal_buffer_deinit(&inner);
    cal_buffer_deinit(&ihave);
}

static void send_brief(gossip_peer *peer, const gossip_message *message) {
    GossipPb__Rpc rpc = GOSSIP_PB__RPC__INIT;
    rpc.has_brief = true;
    rpc.brief = binary((cal_slice){message->brief_key, sizeof message->brief_key});
    queue_control(peer, &rpc, false);
}

void gossip_send_idontwant(gossip_peer *peer, const gossip_message *message) {
    if (peer->brief) {
        send_brief(peer, message);
        return;
    }
    ProtobufCBinaryData id = binary(message->id);
    GossipPb__IDontWant idontwant = GOSSIP_PB__IDONT_WANT__INIT, *list = &idontwant;
    GossipPb__Control control = GOSSIP_PB__CONTROL__INIT;
    GossipPb__Rpc rpc = GOSSIP_PB__RPC__INIT;
    idontwant.n_ids = 1;
    idontwant.ids = &id;
    control.n_idontwant = 1;
    control.idontwant = &list;
    rpc.control = &control;
    queue_control(peer, &rpc, false);
}
