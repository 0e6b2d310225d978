/* For gossip's tests: one gossip with peers that the test plays itself, RPC by RPC. */
#ifndef CAL_NET_GOSSIP_TESTING_H
#define CAL_NET_GOSSIP_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "codec/text.h"
#include "codec/varint.h"
#include "gossip.pb-c.h"
#include "net/gossip.h"

enum { WORLD_IDS = 8192 };
#define SECOND UINT64_C(1000000000)

typedef struct world {
    cal_gossip *gossip;
    uint64_t now;
    cal_secret key;
    /* what the events said since world_events was called last */
    int messages, validates, subscribed, unsubscribed, ready, closed;
    uint64_t ticket;
    cal_peer_id from;
    char data[64]; /* of the last message, cut */
} world;

/* What a peer was sent since `hear` was called last. */
typedef struct heard {
    size_t rpcs, bytes, subscribes, unsubscribes, messages, grafts, prunes, ihaves, iwants,
        idontwants, briefs;
    uint64_t backoff;
    uint8_t brief[8];                            /* the last one */
    char ihave[128], iwant[128], idontwant[128]; /* the last id of each */
    uint8_t message[2048];                       /* the last message, packed */
    size_t message_len;
} heard;

static inline cal_slice text(const char *value) { return cal_slice_text(value); }

static inline cal_secret world_key(unsigned number) {
    cal_secret key = {{1}};
    cal_write_u32le(key.bytes + 4, number);
    return key;
}

static inline cal_peer_id world_id(unsigned number) {
    cal_secret key = world_key(number);
    uint8_t public_key[32];
    cal_peer_id id;
    cal_sign_public_key(&key, public_key);
    cal_peer_id_of_key(public_key, &id);
    return id;
}

static inline void world_start_with(world *w, gossip_options options) {
    *w = (world){.now = 1000 * SECOND, .key = world_key(0)};
    options.key = &w->key;
    if (!options.random) options.random = 7;
    options.first_seqno = 41;
    assert_int_equal(gossip_new(&options, w->now, &w->gossip), 0);
}
static inline void world_start(world *w) { world_start_with(w, (gossip_options){0}); }
static inline void world_end(world *w) { gossip_free(w->gossip); }

static inline gossip_peer *meet_as(world *w, unsigned number, gossip_version version,
                                   bool outgoing) {
    cal_peer_id id = world_id(number);
    gossip_peer *peer;
    assert_int_equal(gossip_peer_add(w->gossip, &id, outgoing, NULL, w->now, &peer), 0);
    gossip_peer_open(peer, version, w->now);
    return peer;
}
static inline gossip_peer *meet(world *w, unsigned number) {
    return meet_as(w, number, GOSSIP_1_2, false);
}

static inline void world_subscribe(world *w, const char *topic, bool validate) {
    assert_int_equal(gossip_subscribe(w->gossip, text(topic), validate, w->now, NULL), 0);
}

static inline void world_events(world *w) {
    gossip_event event;
    w->messages = w->validates = w->subscribed = w->unsubscribed = w->ready = w->closed = 0;
    while (gossip_next_event(w->gossip, &event)) {
        if (event.kind == GOSSIP_SUBSCRIBED) w->subscribed++;
        if (event.kind == GOSSIP_UNSUBSCRIBED) w->unsubscribed++;
        if (event.kind == GOSSIP_READY) w->ready++;
        if (event.kind == GOSSIP_CLOSE) w->closed++;
        if (event.kind != GOSSIP_MESSAGE && event.kind != GOSSIP_VALIDATE) continue;
        w->messages += event.kind == GOSSIP_MESSAGE;
        w->validates += event.kind == GOSSIP_VALIDATE;
        w->ticket = event.ticket;
        w->from = event.from;
        snprintf(w->data, sizeof w->data, "%.*s", (int)event.data.len,
                 (const char *)event.data.data);
    }
}

/* Lets time pass, heartbeat by heartbeat. */
static inline void pass(world *w, uint64_t seconds) {
    uint64_t end = w->now + seconds * SECOND;
    while (gossip_deadline(w->gossip) <= end) {
        if (gossip_deadline(w->gossip) > w->now) w->now = gossip_deadline(w->gossip);
        gossip_expire(w->gossip, w->now);
    }
    w->now = end;
}

static inline int say(world *w, gossip_peer *peer, const GossipPb__Rpc *rpc) {
    size_t len = gossip_pb__rpc__get_packed_size(rpc);
    uint8_t *bytes = malloc(len ? len : 1);
    gossip_pb__rpc__pack(rpc, bytes);
    int result = gossip_receive(peer, (cal_slice){bytes, len}, w->now);
    free(bytes);
    return result;
}

static inline ProtobufCBinaryData binary(cal_slice slice) {
    return (ProtobufCBinaryData){slice.len, (uint8_t *)(uintptr_t)slice.data};
}

static inline int say_subscribe(world *w, gossip_peer *peer, const char *topic, bool subscribe) {
    GossipPb__SubOpts option = GOSSIP_PB__SUB_OPTS__INIT, *list = &option;
    GossipPb__Rpc rpc = GOSSIP_PB__RPC__INIT;
    option.has_subscribe = option.has_topic = true;
    option.subscribe = subscribe;
    option.topic = binary(text(topic));
    rpc.n_subscriptions = 1;
    rpc.subscriptions = &list;
    return say(w, peer, &rpc);
}

static inline int say_control(world *w, gossip_peer *peer, GossipPb__Control *control) {
    GossipPb__Rpc rpc = GOSSIP_PB__RPC__INIT;
    rpc.control = control;
    return say(w, peer, &rpc);
}

static inline int say_graft(world *w, gossip_peer *peer, const char *topic) {
    GossipPb__Graft graft = GOSSIP_PB__GRAFT__INIT, *list = &graft;
    GossipPb__Control control = GOSSIP_PB__CONTROL__INIT;
    graft.has_topic = true;
    graft.topic = binary(text(topic));
    control.n_graft = 1;
    control.graft = &list;
    return say_control(w, peer, &control);
}

static inline int say_prune(world *w, gossip_peer *peer, const char *topic, uint64_t backoff) {
    GossipPb__PeerInfo info = GOSSIP_PB__PEER_INFO__INIT, *infos[] = {&info, &info};
    GossipPb__Prune prune = GOSSIP_PB__PRUNE__INIT, *list = &prune;
    GossipPb__Control control = GOSSIP_PB__CONTROL__INIT;
    prune.has_topic = true;
    prune.topic = binary(text(topic));
    prune.has_backoff = backoff > 0;
    prune.backoff = backoff;
    prune.n_peers = 2;
    prune.peers = infos;
    control.n_prune = 1;
    control.prune = &list;
    return say_control(w, peer, &control);
}

typedef enum say_kind { SAY_IHAVE, SAY_IWANT, SAY_IDONTWANT } say_kind;

static inline int say_ids(world *w, gossip_peer *peer, say_kind kind, const char *topic,
                          const cal_slice *ids, size_t count) {
    static ProtobufCBinaryData packed[WORLD_IDS];
    GossipPb__IHave ihave = GOSSIP_PB__IHAVE__INIT, *ihaves = &ihave;
    GossipPb__IWant iwant = GOSSIP_PB__IWANT__INIT, *iwants = &iwant;
    GossipPb__IDontWant idontwant = GOSSIP_PB__IDONT_WANT__INIT, *idontwants = &idontwant;
    GossipPb__Control control = GOSSIP_PB__CONTROL__INIT;
    for (size_t i = 0; i < count; i++) packed[i] = binary(ids[i]);
    ihave.n_ids = iwant.n_ids = idontwant.n_ids = count;
    ihave.ids = iwant.ids = idontwant.ids = packed;
    control.ihave = &ihaves;
    control.iwant = &iwants;
    control.idontwant = &idontwants;
    control.n_ihave = kind == SAY_IHAVE;
    control.n_iwant = kind == SAY_IWANT;
    control.n_idontwant = kind == SAY_IDONTWANT;
    if (topic) {
        ihave.has_topic = true;
        ihave.topic = binary(text(topic));
    }
    return say_control(w, peer, &control);
}

static inline int say_id(world *w, gossip_peer *peer, say_kind kind, const char *topic,
                         const char *id) {
    cal_slice slice = text(id);
    return say_ids(w, peer, kind, topic, &slice, 1);
}

/* The id that Calimero's network gives a message. */
static inline void id_of(unsigned author, uint64_t seqno, char ret_id[128]) {
    cal_peer_id id = world_id(author);
    cal_base58_encode((cal_slice){id.bytes, id.len}, ret_id, 128);
    snprintf(ret_id + strlen(ret_id), 128 - strlen(ret_id), "%llu", (unsigned long long)seqno);
}

/* A message by an author, and room for the parts that a test may spoil before it is said. */
typedef struct letter {
    GossipPb__Message message;
    cal_peer_id from;
    uint8_t seqno[8], signature[64];
} letter;

static inline void letter_sign(letter *l, unsigned author) {
    static uint8_t bytes[2 * GOSSIP_RPC_MAX];
    static const char prefix[] = "libp2p-pubsub:";
    cal_secret key = world_key(author);
    l->message.has_signature = false;
    memcpy(bytes, prefix, sizeof prefix - 1);
    size_t len = gossip_pb__message__pack(&l->message, bytes + sizeof prefix - 1);
    cal_sign(&key, (cal_slice){bytes, sizeof prefix - 1 + len}, l->signature);
    l->message.has_signature = true;
    l->message.signature = (ProtobufCBinaryData){sizeof l->signature, l->signature};
}

static inline void letter_write(letter *l, unsigned author, uint64_t seqno, const char *topic,
                                cal_slice data) {
    gossip_pb__message__init(&l->message);
    l->from = world_id(author);
    cal_write_u64be(l->seqno, seqno);
    l->message.has_from = l->message.has_data = l->message.has_seqno = l->message.has_topic = true;
    l->message.from = (ProtobufCBinaryData){l->from.len, l->from.bytes};
    l->message.data = binary(data);
    l->message.seqno = (ProtobufCBinaryData){8, l->seqno};
    l->message.topic = binary(text(topic));
    letter_sign(l, author);
}

static inline int say_letter(world *w, gossip_peer *peer, letter *l) {
    GossipPb__Message *list = &l->message;
    GossipPb__Rpc rpc = GOSSIP_PB__RPC__INIT;
    rpc.n_publish = 1;
    rpc.publish = &list;
    return say(w, peer, &rpc);
}

static inline int say_message(world *w, gossip_peer *peer, unsigned author, uint64_t seqno,
                              const char *topic, const char *data) {
    letter l;
    letter_write(&l, author, seqno, topic, text(data));
    return say_letter(w, peer, &l);
}

static inline void hear_text(char ret_text[128], ProtobufCBinaryData data) {
    snprintf(ret_text, 128, "%.*s", (int)data.len, (const char *)data.data);
}

static inline void hear_control(heard *h, const GossipPb__Control *control) {
    h->grafts += control->n_graft;
    h->prunes += control->n_prune;
    if (control->n_prune) h->backoff = control->prune[0]->backoff;
    for (size_t i = 0; i < control->n_ihave; i++) {
        h->ihaves += control->ihave[i]->n_ids;
        for (size_t j = 0; j < control->ihave[i]->n_ids; j++)
            hear_text(h->ihave, control->ihave[i]->ids[j]);
    }
    for (size_t i = 0; i < control->n_iwant; i++) {
        h->iwants += control->iwant[i]->n_ids;
        for (size_t j = 0; j < control->iwant[i]->n_ids; j++)
            hear_text(h->iwant, control->iwant[i]->ids[j]);
    }
    for (size_t i = 0; i < control->n_idontwant; i++) {
        h->idontwants += control->idontwant[i]->n_ids;
        hear_text(h->idontwant, control->idontwant[i]->ids[0]);
    }
}

static inline void hear_rpc(heard *h, cal_slice bytes) {
    GossipPb__Rpc *rpc = gossip_pb__rpc__unpack(NULL, bytes.len, bytes.data);
    assert_non_null(rpc);
    h->rpcs++;
    h->bytes += bytes.len;
    h->messages += rpc->n_publish;
    for (size_t i = 0; i < rpc->n_publish; i++) {
        h->message_len = gossip_pb__message__get_packed_size(rpc->publish[i]);
        if (h->message_len <= sizeof h->message)
            gossip_pb__message__pack(rpc->publish[i], h->message);
    }
    for (size_t i = 0; i < rpc->n_subscriptions; i++) {
        if (rpc->subscriptions[i]->subscribe)
            h->subscribes++;
        else
            h->unsubscribes++;
    }
    if (rpc->control) hear_control(h, rpc->control);
    h->briefs += rpc->has_brief ? 1 : 0;
    if (rpc->has_brief && rpc->brief.len == 8) memcpy(h->brief, rpc->brief.data, 8);
    gossip_pb__rpc__free_unpacked(rpc, NULL);
}

/* Takes all that waits for a peer, `step` bytes at a time. */
static inline heard hear_by(world *w, gossip_peer *peer, size_t step) {
    heard h = {0};
    cal_buffer bytes;
    cal_buffer_init(&bytes, 64 * GOSSIP_RPC_MAX);
    for (cal_slice out; (out = gossip_output(peer, w->now)).len > 0;) {
        size_t len = out.len < step ? out.len : step;
        assert_int_equal(cal_buffer_append(&bytes, out.data, len), 0);
        gossip_sent(peer, len);
    }
    for (size_t at = 0; at < bytes.len;) {
        uint64_t len;
        size_t head;
        cal_slice rest = {bytes.data + at, bytes.len - at};
        assert_int_equal(cal_varint_decode(rest, &len, &head), 0);
        assert_true(len <= rest.len - head);
        hear_rpc(&h, (cal_slice){rest.data + head, (size_t)len});
        at += head + (size_t)len;
    }
    cal_buffer_deinit(&bytes);
    return h;
}
static inline heard hear(world *w, gossip_peer *peer) { return hear_by(w, peer, 1 << 20); }

static inline cal_p2p_gossip_stats world_stats(const world *w) {
    cal_p2p_gossip_stats stats;
    gossip_stats_get(w->gossip, &stats);
    return stats;
}

#endif
