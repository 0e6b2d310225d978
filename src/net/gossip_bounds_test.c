/* Gossip among peers that misbehave: each bound of gossip.h is reached, counted, and holds. */
#include "net/gossip_testing.h"

static void test_malformed(void **state) {
    (void)state;
    world w;
    world_start(&w);
    gossip_peer *a = meet(&w, 1);
    static const uint8_t bad[] = {0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f, 0};
    assert_int_equal(gossip_receive(a, (cal_slice){bad, sizeof bad}, w.now), CAL_EDECODE);
    assert_int_equal(gossip_receive(a, (cal_slice){bad, 0}, w.now), 0); /* an empty RPC is one */
    assert_int_equal(world_stats(&w).rpcs_malformed, 1);
    uint8_t *large = calloc(1, GOSSIP_RPC_MAX + 1);
    assert_int_equal(gossip_receive(a, (cal_slice){large, GOSSIP_RPC_MAX + 1}, w.now), CAL_ELIMIT);
    /* A small RPC that decodes to much: half a million empty subscriptions. */
    for (size_t i = 0; i < GOSSIP_RPC_MAX; i += 2) large[i] = 0x0a;
    assert_int_equal(gossip_receive(a, (cal_slice){large, GOSSIP_RPC_MAX}, w.now), CAL_ELIMIT);
    assert_int_equal(world_stats(&w).rpcs_refused, 2);
    free(large);
    world_end(&w);
}

static void test_topic_names(void **state) {
    (void)state;
    world w;
    world_start(&w);
    gossip_peer *a = meet(&w, 1);
    char name[GOSSIP_TOPIC_MAX + 2];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = 0;
    cal_error err;
    assert_int_equal(gossip_subscribe(w.gossip, text(name), false, w.now, &err), CAL_EINVAL);
    assert_int_equal(gossip_subscribe(w.gossip, text(""), false, w.now, &err), CAL_EINVAL);
    assert_int_equal(gossip_subscribe(w.gossip, text("\xff"), false, w.now, &err), CAL_EINVAL);
    assert_int_equal(gossip_publish(w.gossip, text(name), text("x"), w.now, NULL, &err),
                     CAL_EINVAL);
    say_subscribe(&w, a, name, true);
    say_subscribe(&w, a, "", true);
    say_subscribe(&w, a, "\xff", true);
    assert_int_equal(world_stats(&w).subscriptions_refused, 3);
    assert_int_equal(world_stats(&w).foreign_topics, 0);
    world_subscribe(&w, "ok", false);
    assert_int_equal(gossip_subscribe(w.gossip, text("ok"), false, w.now, &err), CAL_EEXISTS);
    world_end(&w);
}

static void test_own_topics_limit(void **state) {
    (void)state;
    world w;
    char name[32];
    world_start(&w);
    for (int i = 0; i < GOSSIP_OWN_TOPICS_MAX; i++) {
        snprintf(name, sizeof name, "topic %d", i);
        world_subscribe(&w, name, false);
    }
    assert_int_equal(gossip_subscribe(w.gossip, text("more"), false, w.now, NULL), CAL_ELIMIT);
    gossip_peer *a = meet(&w, 1); /* one greeting takes them all */
    assert_int_equal(hear(&w, a).subscribes, GOSSIP_OWN_TOPICS_MAX);
    world_end(&w);
}

static void test_subscription_flood(void **state) {
    (void)state;
    world w;
    char name[32];
    world_start(&w);
    world_subscribe(&w, "news", false);
    gossip_peer *a = meet(&w, 1);
    for (int i = 0; i < GOSSIP_PEER_TOPICS_MAX + 10; i++) {
        snprintf(name, sizeof name, "topic %d", i);
        say_subscribe(&w, a, name, true);
    }
    cal_p2p_gossip_stats stats = world_stats(&w);
    assert_int_equal(stats.foreign_topics, GOSSIP_PEER_TOPICS_MAX);
    assert_int_equal(stats.subscriptions_refused, 10);
    say_subscribe(&w, a, "news", true); /* ours is heard even then */
    world_events(&w);
    assert_int_equal(w.subscribed, 1);
    /* On and off again, until the heartbeat's limit. */
    for (int i = 0; i < GOSSIP_SUBSCRIBES_MAX; i++) say_subscribe(&w, a, "storm", i % 2 == 0);
    assert_true(world_stats(&w).subscriptions_refused > 4000);
    world_events(&w);
    gossip_peer_remove(a, w.now);
    assert_int_equal(world_stats(&w).foreign_topics, 0);
    world_end(&w);
}

static void test_graft_storm(void **state) {
    (void)state;
    world w;
    world_start(&w);
    world_subscribe(&w, "news", false);
    gossip_peer *a = meet(&w, 1);
    for (int i = 0; i < GOSSIP_GRAFTS_MAX; i++) {
        if (i % 2)
            say_prune(&w, a, "news", UINT64_MAX); /* a backoff for ever is one hour */
        else
            say_graft(&w, a, i % 4 ? "news" : "unknown");
    }
    cal_p2p_gossip_stats stats = world_stats(&w);
    heard h = hear(&w, a);
    assert_true(h.prunes <= GOSSIP_GRAFTS_MAX / 2);
    say_graft(&w, a, "news");
    say_prune(&w, a, "news", 1);
    assert_int_equal(world_stats(&w).control_refused, stats.control_refused + 2);
    assert_int_equal(hear(&w, a).prunes, 0); /* no answer at all */
    pass(&w, 6);
    say_subscribe(&w, a, "news", true);
    pass(&w, 3500);
    assert_int_equal(hear(&w, a).grafts, 0);
    pass(&w, 200);
    assert_int_equal(hear(&w, a).grafts, 1);
    world_end(&w);
}

static void test_ihave_flood(void **state) {
    (void)state;
    world w;
    static char names[WORLD_IDS][24];
    static cal_slice ids[WORLD_IDS];
    world_start(&w);
    world_subscribe(&w, "news", false);
    gossip_peer *a = meet(&w, 1);
    for (int i = 0; i < WORLD_IDS; i++) {
        snprintf(names[i], sizeof names[i], "id %d", i);
        ids[i] = text(names[i]);
    }
    hear(&w, a);
    say_ids(&w, a, SAY_IHAVE, "news", ids, WORLD_IDS);
    heard asked = hear(&w, a);
    assert_int_equal(asked.iwants, GOSSIP_PEER_WANTS_MAX);
    /* One id an RPC: an answer to more may be longer than an RPC may be. */
    assert_int_equal(asked.rpcs, GOSSIP_PEER_WANTS_MAX);
    assert_int_equal(world_stats(&w).wants, GOSSIP_PEER_WANTS_MAX);
    for (int i = 0; i < 2 * GOSSIP_IHAVES_MAX; i++) say_id(&w, a, SAY_IHAVE, "news", "id again");
    uint64_t refused = world_stats(&w).ihave_refused;
    assert_true(refused >= WORLD_IDS - GOSSIP_PEER_WANTS_MAX + GOSSIP_IHAVES_MAX);
    for (int i = 0; i < 20; i++) { /* many peers: the table holds */
        gossip_peer *peer = meet(&w, (unsigned)i + 10);
        for (int j = 0; j < WORLD_IDS; j++) snprintf(names[j], sizeof names[j], "%d %d", i, j);
        for (int j = 0; j < WORLD_IDS; j++) ids[j] = text(names[j]);
        say_ids(&w, peer, SAY_IHAVE, "news", ids, WORLD_IDS);
    }
    assert_true(world_stats(&w).wants <= GOSSIP_WANTS_MAX);
    pass(&w, 8);
    assert_int_equal(world_stats(&w).wants, 0);
    char longest[GOSSIP_ID_MAX + 2];
    memset(longest, 'i', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    say_id(&w, a, SAY_IHAVE, "news", longest);
    say_id(&w, a, SAY_IHAVE, "news", "");
    assert_int_equal(world_stats(&w).wants, 0);
    world_end(&w);
}

/* Ids beyond the limit of a heartbeat are not looked at, whatever the others were. */
static void test_ihave_ids_of_a_heartbeat(void **state) {
    enum { EACH = GOSSIP_IHAVE_IDS_MAX / (GOSSIP_IHAVES_MAX - 1) };
    (void)state;
    world w;
    static cal_slice ids[EACH];
    char known[128];
    world_start(&w);
    world_subscribe(&w, "news", false);
    gossip_peer *a = meet(&w, 1);
    say_message(&w, a, 9, 1, "news", "known");
    id_of(9, 1, known);
    for (int i = 0; i < EACH; i++) ids[i] = text(known);
    hear(&w, a);
    for (int more = 1; more >= 0; more--) {
        for (int i = 0; i < GOSSIP_IHAVES_MAX - 1; i++)
            say_ids(&w, a, SAY_IHAVE, "news", ids, EACH);
        cal_slice last[GOSSIP_IHAVES_MAX + 1];
        int count = GOSSIP_IHAVE_IDS_MAX - (GOSSIP_IHAVES_MAX - 1) * EACH - !more;
        for (int i = 0; i < count; i++) last[i] = text(known);
        last[count] = text("another");
        say_ids(&w, a, SAY_IHAVE, "news", last, (size_t)count + 1);
        assert_int_equal(hear(&w, a).iwants, !more);
        pass(&w, 8);
        hear(&w, a);
    }
    world_end(&w);
}

/* An RPC may be as long as the limit. */
static void test_longest_rpc(void **state) {
    (void)state;
    static uint8_t bytes[GOSSIP_RPC_MAX + 1];
    world w;
    world_start(&w);
    gossip_peer *a = meet(&w, 1);
    for (int over = 0; over < 2; over++) { /* one field that nobody knows */
        size_t len = GOSSIP_RPC_MAX + (size_t)over, rest = len - 4;
        bytes[0] = 15 << 3 | 2;
        bytes[1] = (uint8_t)(0x80 | (rest & 0x7f));
        bytes[2] = (uint8_t)(0x80 | (rest >> 7 & 0x7f));
        bytes[3] = (uint8_t)(rest >> 14);
        assert_int_equal(gossip_receive(a, cal_slice_of(bytes, len), w.now), over ? CAL_ELIMIT : 0);
    }
    assert_int_equal(world_stats(&w).rpcs_refused, 1);
    world_end(&w);
}

/* More ids than one RPC may bring to go-libp2p: the rest is left out. */
static void test_ihave_in_one_rpc(void **state) {
    enum { TOPICS = 4, MESSAGES = 3000 };
    (void)state;
    world w;
    char topic[] = "topic 0";
    world_start(&w);
    gossip_peer *a = meet(&w, 1);
    pass(&w, 6);
    for (int i = 0; i < TOPICS; i++, topic[6]++) {
        say_subscribe(&w, a, topic, true);
        for (int j = 0; j < MESSAGES; j++)
            assert_int_equal(gossip_publish(w.gossip, text(topic), text(""), w.now, NULL, NULL), 0);
    }
    hear(&w, a);
    pass(&w, 1);
    cal_slice out = gossip_output(a, w.now);
    assert_true(out.len > GOSSIP_RPC_CONTROL_MAX / 2 && out.len <= GOSSIP_RPC_CONTROL_MAX + 3);
    assert_true(world_stats(&w).gossip_dropped > 0);
    world_end(&w);
}

static void test_iwant_flood(void **state) {
    (void)state;
    world w;
    static cal_slice ids[WORLD_IDS];
    char id[128];
    world_start(&w);
    world_subscribe(&w, "news", false);
    gossip_peer *a = meet(&w, 1);
    gossip_publish(w.gossip, text("news"), text("hello"), w.now, NULL, NULL);
    hear(&w, a);
    id_of(0, 42, id);
    for (int i = 0; i < WORLD_IDS; i++) ids[i] = text(id);
    say_ids(&w, a, SAY_IWANT, NULL, ids, WORLD_IDS);
    assert_int_equal(hear(&w, a).messages, GOSSIP_IWANT_REPEAT_MAX);
    assert_int_equal(world_stats(&w).iwant_refused, WORLD_IDS - GOSSIP_IWANT_REPEAT_MAX);
    world_end(&w);
}

static void test_idontwant_flood(void **state) {
    (void)state;
    world w;
    static cal_slice ids[WORLD_IDS];
    world_start(&w);
    gossip_peer *a = meet(&w, 1);
    for (int i = 0; i < WORLD_IDS; i++) ids[i] = text("whatever");
    say_ids(&w, a, SAY_IDONTWANT, NULL, ids, WORLD_IDS);
    assert_int_equal(world_stats(&w).idontwant_refused, WORLD_IDS - GOSSIP_IDONTWANT_IDS_MAX);
    world_end(&w);
}

/* A peer that reads nothing: its queue, and all memory together, stay under their bounds. */
static void test_slow_readers(void **state) {
    (void)state;
    world w;
    world_start(&w);
    gossip_peer *slow[30];
    for (unsigned i = 0; i < 30; i++) {
        char topic[16];
        snprintf(topic, sizeof topic, "topic %u", i);
        slow[i] = meet(&w, i + 1);
        say_subscribe(&w, slow[i], topic, true);
    }
    uint8_t *data = calloc(1, 512 * 1024);
    for (int i = 0; i < 600; i++) {
        char topic[16];
        snprintf(topic, sizeof topic, "topic %d", i % 30);
        assert_int_equal(
            gossip_publish(w.gossip, text(topic), (cal_slice){data, 512 * 1024}, w.now, NULL, NULL),
            0);
        assert_true(world_stats(&w).message_bytes <= GOSSIP_MESSAGE_BYTES_MAX);
    }
    cal_p2p_gossip_stats stats = world_stats(&w);
    assert_true(stats.queue_dropped > 400);
    assert_true(stats.cache_evicted > 400);
    for (unsigned i = 0; i < 30; i++) {
        heard h = hear(&w, slow[i]);
        assert_true(h.bytes <= GOSSIP_QUEUE_BYTES_MAX);
    }
    pass(&w, 10);
    assert_int_equal(world_stats(&w).message_bytes, 0);
    free(data);
    world_end(&w);
}

static void test_queue_grows_old(void **state) {
    (void)state;
    world w;
    world_start(&w);
    gossip_peer *a = meet(&w, 1);
    say_subscribe(&w, a, "news", true);
    gossip_publish(w.gossip, text("news"), text("stale"), w.now, NULL, NULL);
    pass(&w, 3);
    gossip_publish(w.gossip, text("news"), text("fresh"), w.now, NULL, NULL);
    pass(&w, 3);
    assert_int_equal(hear(&w, a).messages, 1);
    assert_int_equal(world_stats(&w).queue_expired, 1);
    world_end(&w);
}

/* Control that must not be lost waits up to a bound; then the peer is given up. */
static void test_control_not_taken(void **state) {
    (void)state;
    world w;
    char name[GOSSIP_TOPIC_MAX + 1];
    world_start(&w);
    gossip_peer *a = meet(&w, 1);
    memset(name, 't', sizeof name - 1);
    name[sizeof name - 1] = 0;
    for (int i = 0; i < 20000 && !w.closed; i++) {
        memcpy(name, "topic", 5);
        assert_int_equal(gossip_subscribe(w.gossip, text(name), false, w.now, NULL), 0);
        assert_int_equal(gossip_unsubscribe(w.gossip, text(name), w.now), 0);
        world_events(&w);
    }
    assert_int_equal(w.closed, 1);
    assert_int_equal(world_stats(&w).peers_closed, 1);
    assert_false(gossip_ready(a));
    gossip_peer_open(a, GOSSIP_1_1, w.now); /* a new stream is a new start */
    assert_true(gossip_ready(a));
    assert_int_equal(hear(&w, a).subscribes, 0);
    world_end(&w);
}

/* Forged signatures cost us more than their sender, who writes anything: few are looked at. */
static void test_forged_signatures(void **state) {
    (void)state;
    world w;
    world_start(&w);
    world_subscribe(&w, "news", false);
    gossip_peer *a = meet(&w, 1), *b = meet(&w, 3);
    letter l;
    letter_write(&l, 2, 1, "news", text("spam"));
    int taken = 0;
    while (gossip_ready(a) && taken < 10000) {
        cal_write_u64be(l.seqno, (uint64_t)taken++ + 100);
        say_letter(&w, a, &l);
    }
    assert_int_equal(taken, GOSSIP_FORGED_MAX);
    assert_int_equal(world_stats(&w).invalid, GOSSIP_FORGED_MAX);
    assert_int_equal(world_stats(&w).peers_paused, 1);
    static GossipPb__Message *list[1000]; /* nor more of them in one RPC */
    GossipPb__Rpc rpc = GOSSIP_PB__RPC__INIT;
    for (size_t i = 0; i < 1000; i++) list[i] = &l.message;
    rpc.n_publish = 1000;
    rpc.publish = list;
    cal_write_u64be(l.seqno, 1000000);
    assert_int_equal(say(&w, b, &rpc), 0);
    assert_int_equal(world_stats(&w).invalid, 2 * GOSSIP_FORGED_MAX);
    assert_int_equal(world_stats(&w).messages_refused, 1000 - GOSSIP_FORGED_MAX);
    world_events(&w);
    assert_int_equal(w.ready, 0);
    pass(&w, 5);
    world_events(&w);
    assert_int_equal(w.ready, 2);
    assert_true(gossip_ready(a));
    world_end(&w);
}

static uint64_t say_until_paused(world *w, gossip_peer *peer, uint64_t *seqno) {
    uint64_t taken = 0;
    letter l;
    letter_write(&l, 2, 0, "news", text("new"));
    while (gossip_ready(peer)) {
        cal_write_u64be(l.seqno, (*seqno)++);
        letter_sign(&l, 2);
        say_letter(w, peer, &l);
        world_events(w);
        taken++;
    }
    return taken;
}

/* Good ones are passed on, up to what one peer, and all peers together, may have us verify. */
static void test_signature_flood(void **state) {
    (void)state;
    world w;
    uint64_t seqno = 1, taken[6];
    world_start(&w);
    world_subscribe(&w, "news", false);
    gossip_peer *peers[6];
    for (unsigned i = 0; i < 6; i++) peers[i] = meet(&w, i + 10);
    for (int i = 0; i < 6; i++) taken[i] = say_until_paused(&w, peers[i], &seqno);
    assert_int_equal(taken[0], GOSSIP_VERIFIES_MAX);
    assert_int_equal(taken[1], GOSSIP_VERIFIES_MAX); /* now all are used up */
    for (int i = 2; i < 6; i++) assert_int_equal(taken[i], GOSSIP_VERIFIES_ALL_MAX / 6);
    assert_int_equal(world_stats(&w).peers_paused, 6);
    assert_int_equal(world_stats(&w).delivered, seqno - 1); /* none was lost */
    pass(&w, 5);
    world_events(&w);
    assert_int_equal(w.ready, 6);
    world_end(&w);
}

/* RPCs that say nothing cost a byte each. */
static void test_empty_rpcs(void **state) {
    (void)state;
    world w;
    world_start(&w);
    gossip_peer *a = meet(&w, 1);
    int taken = 0;
    for (; gossip_ready(a) && taken < 100000; taken++)
        assert_int_equal(gossip_receive(a, (cal_slice){0}, w.now), 0);
    assert_int_equal(taken, GOSSIP_RPCS_MAX);
    assert_int_equal(world_stats(&w).peers_paused, 1);
    pass(&w, 5);
    assert_true(gossip_ready(a));
    world_end(&w);
}

/* Peers that prune and leave: what is remembered of them is bounded in one topic and in all, and
 * goes with its time. */
static void test_backoffs_of_peers_that_left(void **state) {
    enum { TOPICS = 80, PEERS = 1100 };
    (void)state;
    world w;
    char topic[16];
    world_start(&w);
    for (int i = 0; i < TOPICS; i++) {
        snprintf(topic, sizeof topic, "topic %d", i);
        world_subscribe(&w, topic, false);
    }
    for (unsigned i = 0; i < PEERS; i++) {
        cal_peer_id id = {.len = 38, .bytes = {(uint8_t)i, (uint8_t)(i >> 8)}};
        gossip_peer *peer;
        assert_int_equal(gossip_peer_add(w.gossip, &id, false, NULL, w.now, &peer), 0);
        for (int j = 0; j < TOPICS; j++) {
            snprintf(topic, sizeof topic, "topic %d", j);
            say_prune(&w, peer, topic, UINT64_MAX);
        }
        gossip_peer_remove(peer, w.now);
    }
    cal_p2p_gossip_stats stats = world_stats(&w);
    assert_int_equal(stats.backoffs, GOSSIP_BACKOFFS_ALL_MAX);
    assert_int_equal(stats.backoffs_refused, TOPICS * PEERS - GOSSIP_BACKOFFS_ALL_MAX);
    w.now += 3700 * SECOND; /* an hour in one heartbeat */
    gossip_expire(w.gossip, w.now);
    assert_int_equal(world_stats(&w).backoffs, 0);
    world_end(&w);
    world_start(&w);
    world_subscribe(&w, "news", false);
    for (unsigned i = 0; i < PEERS; i++) {
        cal_peer_id id = {.len = 38, .bytes = {(uint8_t)i, (uint8_t)(i >> 8)}};
        gossip_peer *peer;
        assert_int_equal(gossip_peer_add(w.gossip, &id, false, NULL, w.now, &peer), 0);
        say_prune(&w, peer, "news", 10);
        gossip_peer_remove(peer, w.now);
    }
    assert_int_equal(world_stats(&w).backoffs, GOSSIP_BACKOFFS_MAX);
    world_end(&w);
}

/* Who asked for a message is remembered within the bound of all messages. */
static void test_many_ask_for_one_message(void **state) {
    (void)state;
    world w;
    char id[128];
    world_start(&w);
    world_subscribe(&w, "news", false);
    gossip_publish(w.gossip, text("news"), text("hello"), w.now, NULL, NULL);
    id_of(0, 42, id);
    uint64_t before = world_stats(&w).message_bytes;
    for (unsigned i = 0; i < GOSSIP_SERVED_MAX + 50; i++) {
        cal_peer_id peer_id = {.len = 38, .bytes = {(uint8_t)i, (uint8_t)(i >> 8)}};
        gossip_peer *peer;
        assert_int_equal(gossip_peer_add(w.gossip, &peer_id, false, NULL, w.now, &peer), 0);
        gossip_peer_open(peer, GOSSIP_1_2, w.now);
        say_id(&w, peer, SAY_IWANT, NULL, id);
        assert_int_equal(hear(&w, peer).messages, i < GOSSIP_SERVED_MAX);
        gossip_peer_remove(peer, w.now); /* it comes again as another */
    }
    assert_int_equal(world_stats(&w).iwant_served, GOSSIP_SERVED_MAX);
    assert_int_equal(world_stats(&w).iwant_refused, 50);
    assert_in_range(world_stats(&w).message_bytes - before, GOSSIP_SERVED_MAX * 9,
                    GOSSIP_SERVED_MAX * 16);
    pass(&w, 11);
    assert_int_equal(world_stats(&w).message_bytes, 0);
    world_end(&w);
}

/* A few peers that tell of messages there are not leave room to ask others. */
static void test_wants_are_shared(void **state) {
    (void)state;
    world w;
    static char names[WORLD_IDS][24];
    static cal_slice ids[WORLD_IDS];
    world_start(&w);
    world_subscribe(&w, "news", false);
    for (unsigned i = 0; i < 12; i++) {
        gossip_peer *peer = meet(&w, i + 10);
        for (int j = 0; j < GOSSIP_IHAVE_IDS_MAX; j++) {
            snprintf(names[j], sizeof names[j], "%u %d", i, j);
            ids[j] = text(names[j]);
        }
        say_ids(&w, peer, SAY_IHAVE, "news", ids, GOSSIP_IHAVE_IDS_MAX);
    }
    assert_in_range(world_stats(&w).wants, GOSSIP_WANTS_MAX / 2,
                    GOSSIP_WANTS_MAX / 2 + 12 * GOSSIP_WANTS_SHARE);
    gossip_peer *honest = meet(&w, 1);
    hear(&w, honest);
    say_id(&w, honest, SAY_IHAVE, "news", "true");
    assert_int_equal(hear(&w, honest).iwants, 1);
    world_end(&w);
}

static int say_grafts(world *w, gossip_peer *peer, const char *topic, size_t count) {
    static GossipPb__Graft *list[GOSSIP_GRAFTS_MAX];
    GossipPb__Graft graft = GOSSIP_PB__GRAFT__INIT;
    GossipPb__Control control = GOSSIP_PB__CONTROL__INIT;
    graft.has_topic = true;
    graft.topic = binary(text(topic));
    for (size_t i = 0; i < count; i++) list[i] = &graft;
    control.n_graft = count;
    control.graft = list;
    return say_control(w, peer, &control);
}

/* Answers that many peers provoke and do not read: the bound is on all of them together. */
static void test_control_of_many_peers(void **state) {
    enum { PEERS = 200, GRAFTS = 3000 };
    (void)state;
    world w;
    char topic[GOSSIP_TOPIC_MAX + 1];
    world_start(&w);
    memset(topic, 't', sizeof topic - 1);
    topic[sizeof topic - 1] = 0;
    world_subscribe(&w, topic, false);
    for (unsigned i = 0; i < PEERS; i++) {
        gossip_peer *peer = meet(&w, i + 10);
        say_prune(&w, peer, topic, 3600); /* so that each GRAFT is answered with PRUNE */
        for (int j = 0; j < GRAFTS; j += 1000) say_grafts(&w, peer, topic, 1000);
        assert_true(world_stats(&w).control_bytes <=
                    GOSSIP_CONTROL_ALL_MAX + PEERS * GOSSIP_CONTROL_SHARE);
    }
    cal_p2p_gossip_stats stats = world_stats(&w);
    assert_true(stats.control_bytes > GOSSIP_CONTROL_ALL_MAX / 2);
    assert_true(stats.peers_closed > 50); /* those that did not read when there was no room */
    gossip_peer *honest = meet(&w, 1);    /* has its share */
    assert_int_equal(hear(&w, honest).subscribes, 1);
    world_end(&w);
}

static void test_events_not_taken(void **state) {
    (void)state;
    world w;
    world_start(&w);
    world_subscribe(&w, "news", false);
    gossip_peer *a = meet(&w, 1);
    uint64_t taken = 0;
    while (gossip_ready(a)) say_message(&w, a, 2, taken++, "news", "event");
    assert_int_equal(taken, GOSSIP_EVENTS_MAX);
    world_events(&w);
    assert_int_equal(w.messages, GOSSIP_EVENTS_MAX);
    assert_true(gossip_ready(a));
    world_end(&w);
}

static void test_verdicts_not_given(void **state) {
    (void)state;
    world w;
    world_start(&w);
    world_subscribe(&w, "news", true);
    gossip_peer *a = meet(&w, 1);
    for (uint64_t i = 0; i < GOSSIP_VALIDATIONS_MAX + 5; i++) {
        say_message(&w, a, 2, i, "news", "judge");
        world_events(&w);
    }
    assert_int_equal(world_stats(&w).validations_refused, 5);
    world_end(&w);
}

static void test_many_messages_in_one_rpc(void **state) {
    (void)state;
    world w;
    world_start(&w);
    world_subscribe(&w, "news", false);
    gossip_peer *a = meet(&w, 1);
    static GossipPb__Message *list[GOSSIP_RPC_MESSAGES_MAX + 7];
    letter l;
    letter_write(&l, 2, 1, "news", text(""));
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) list[i] = &l.message;
    GossipPb__Rpc rpc = GOSSIP_PB__RPC__INIT;
    rpc.n_publish = sizeof list / sizeof *list;
    rpc.publish = list;
    assert_int_equal(say(&w, a, &rpc), 0);
    assert_int_equal(world_stats(&w).messages_refused, 7);
    assert_int_equal(world_stats(&w).delivered, 1);
    world_end(&w);
}

static void test_seen_is_bounded(void **state) {
    (void)state;
    world w;
    world_start(&w);
    for (int i = 0; i < GOSSIP_SEEN_MAX + 3; i++)
        gossip_publish(w.gossip, text("news"), text(""), w.now, NULL, NULL);
    cal_p2p_gossip_stats stats = world_stats(&w);
    assert_int_equal(stats.seen, GOSSIP_SEEN_MAX);
    assert_int_equal(stats.seen_evicted, 3);
    assert_int_equal(stats.cached, GOSSIP_CACHE_MAX);
    pass(&w, GOSSIP_SEEN_NS / GOSSIP_HEARTBEAT_NS + 10);
    assert_int_equal(world_stats(&w).seen, 0);
    world_end(&w);
}

/* What has expired is freed in parts, so that a second of many messages costs no long turn. */
static void test_much_expires_in_parts(void **state) {
    enum { MESSAGES = 2000, AT_ONCE_MAX = 256 };
    (void)state;
    world w;
    world_start(&w);
    for (int i = 0; i < MESSAGES; i++)
        gossip_publish(w.gossip, text("news"), text(""), w.now, NULL, NULL);
    assert_int_equal(world_stats(&w).cached, MESSAGES);
    uint64_t end = w.now + GOSSIP_SEEN_NS + 2 * GOSSIP_HEARTBEAT_NS;
    size_t steps = 0;
    for (uint64_t at = gossip_deadline(w.gossip); at <= end; at = gossip_deadline(w.gossip)) {
        cal_p2p_gossip_stats before = world_stats(&w), after;
        if (at > w.now) w.now = at;
        gossip_expire(w.gossip, w.now);
        after = world_stats(&w);
        size_t freed = before.cached - after.cached + before.seen - after.seen;
        assert_true(freed <= AT_ONCE_MAX);
        steps += freed > 0;
    }
    assert_int_equal(world_stats(&w).cached, 0);
    assert_int_equal(world_stats(&w).seen, 0);
    assert_true(steps >= 2 * MESSAGES / AT_ONCE_MAX);
    world_end(&w);
}

static void test_too_many_peers(void **state) {
    (void)state;
    world w;
    world_start(&w);
    cal_peer_id id = {.len = 38};
    gossip_peer *peer;
    for (unsigned i = 0; i < GOSSIP_PEERS_MAX; i++) {
        cal_write_u32le(id.bytes, i);
        assert_int_equal(gossip_peer_add(w.gossip, &id, false, NULL, w.now, &peer), 0);
    }
    assert_int_equal(gossip_peer_add(w.gossip, &id, false, NULL, w.now, &peer), CAL_EEXISTS);
    cal_write_u32le(id.bytes, GOSSIP_PEERS_MAX);
    assert_int_equal(gossip_peer_add(w.gossip, &id, false, NULL, w.now, &peer), CAL_ELIMIT);
    world_end(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_topic_names),
        cmocka_unit_test(test_own_topics_limit),
        cmocka_unit_test(test_subscription_flood),
        cmocka_unit_test(test_graft_storm),
        cmocka_unit_test(test_ihave_flood),
        cmocka_unit_test(test_ihave_in_one_rpc),
        cmocka_unit_test(test_ihave_ids_of_a_heartbeat),
        cmocka_unit_test(test_longest_rpc),
        cmocka_unit_test(test_iwant_flood),
        cmocka_unit_test(test_idontwant_flood),
        cmocka_unit_test(test_slow_readers),
        cmocka_unit_test(test_queue_grows_old),
        cmocka_unit_test(test_control_not_taken),
        cmocka_unit_test(test_signature_flood),
        cmocka_unit_test(test_events_not_taken),
        cmocka_unit_test(test_empty_rpcs),
        cmocka_unit_test(test_forged_signatures),
        cmocka_unit_test(test_backoffs_of_peers_that_left),
        cmocka_unit_test(test_many_ask_for_one_message),
        cmocka_unit_test(test_wants_are_shared),
        cmocka_unit_test(test_control_of_many_peers),
        cmocka_unit_test(test_verdicts_not_given),
        cmocka_unit_test(test_many_messages_in_one_rpc),
        cmocka_unit_test(test_seen_is_bounded),
        cmocka_unit_test(test_much_expires_in_parts),
        cmocka_unit_test(test_too_many_peers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
