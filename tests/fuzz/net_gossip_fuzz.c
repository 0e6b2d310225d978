/* Gossip as a state machine: RPCs of four peers, heartbeats, publishes, joins and partial writes in
 * an order that the input chooses. A step is one byte that says what, one that says how long, and
 * so many bytes. What it keeps stays under its bounds, and nothing is left when all peers are gone.
 */
#include <stdlib.h>

#include "net/gossip.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PEERS = 4 };

static void check(bool condition) {
    if (!condition) abort();
}

static void take(cal_gossip *gossip, gossip_peer *peer, uint64_t now, size_t len) {
    gossip_event event;
    while (gossip_next_event(gossip, &event))
        if (event.kind == GOSSIP_VALIDATE)
            gossip_validated(gossip, event.ticket, (cal_p2p_verdict)(len % 3), now);
    cal_slice out = gossip_output(peer, now);
    gossip_sent(peer, out.len < len ? out.len : len);
    while (gossip_next_output(gossip)) continue;
}

static void step(cal_gossip *gossip, gossip_peer *peers[PEERS], uint8_t what, cal_slice bytes,
                 uint64_t *now) {
    gossip_peer *peer = peers[what % PEERS];
    switch (what / PEERS % 8) {
    case 0:
        *now = gossip_deadline(gossip);
        gossip_expire(gossip, *now);
        break;
    case 1:
        gossip_publish(gossip, bytes, bytes, *now, NULL, NULL);
        break;
    case 2:
        gossip_subscribe(gossip, bytes, what & 128, *now, NULL);
        break;
    case 3:
        gossip_unsubscribe(gossip, bytes, *now);
        break;
    case 4:
        gossip_peer_shut(peer, *now);
        break;
    case 5:
        gossip_peer_open(peer, GOSSIP_1_0 + what % 3u, *now);
        break;
    case 6:
        take(gossip, peer, *now, bytes.len);
        break;
    default:
        gossip_receive(peer, bytes, *now);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cal_secret key = {{1}};
    gossip_options options = {.key = &key, .random = size, .first_seqno = 1};
    cal_gossip *gossip;
    gossip_peer *peers[PEERS];
    uint64_t now = 1;
    check(gossip_new(&options, now, &gossip) == 0);
    for (uint8_t i = 0; i < PEERS; i++) {
        cal_peer_id id = {.len = 38, .bytes = {i}};
        check(gossip_peer_add(gossip, &id, i & 1, NULL, now, &peers[i]) == 0);
        gossip_peer_open(peers[i], GOSSIP_1_2, now);
    }
    gossip_subscribe(gossip, cal_slice_text("news"), false, now, NULL);
    for (size_t at = 0; at + 2 <= size;) {
        size_t len = data[at + 1] < size - at - 2 ? data[at + 1] : size - at - 2;
        step(gossip, peers, data[at], (cal_slice){data + at + 2, len}, &now);
        at += 2 + len;
        cal_p2p_gossip_stats stats;
        gossip_stats_get(gossip, &stats);
        check(stats.message_bytes <= GOSSIP_MESSAGE_BYTES_MAX && stats.wants <= GOSSIP_WANTS_MAX);
    }
    gossip_event event;
    while (gossip_next_event(gossip, &event)) continue;
    for (int i = 0; i < PEERS; i++) gossip_peer_remove(peers[i], now);
    for (uint64_t forgotten = now + GOSSIP_SEEN_NS + 10 * GOSSIP_HEARTBEAT_NS; now < forgotten;) {
        now += GOSSIP_HEARTBEAT_NS;
        gossip_expire(gossip, now);
    }
    cal_p2p_gossip_stats stats;
    gossip_stats_get(gossip, &stats);
    check(stats.message_bytes == 0 && stats.seen == 0 && stats.foreign_topics == 0);
    gossip_free(gossip);
    return 0;
}
