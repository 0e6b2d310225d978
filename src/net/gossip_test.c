/* What gossip does among peers that behave; those that do not are in gossip_bounds_test.c. */
#include "net/gossip_testing.h"

/* --- publishing and receiving --- */

static void test_publish(void **state) {
    (void)state;
    world w;
    world_start(&w);
    gossip_peer *a = meet(&w, 1), *b = meet(&w, 2);
    say_subscribe(&w, a, "news", true);
    size_t sent;
    assert_int_equal(gossip_publish(w.gossip, text("news"), text("hello"), w.now, &sent, NULL), 0);
    assert_int_equal(sent, 1); /* flood publish: every subscriber, and nobody else */
    heard h = hear(&w, a);
    assert_int_equal(h.messages, 1);
    assert_int_equal(hear(&w, b).messages, 0);

    /* The bytes, as the specification has them: from, data, seqno, topic, signature; no key. */
    cal_peer_id self = world_id(0);
    uint8_t expected[256] = {0x0a, 38};
    size_t len = 2;
    memcpy(expected + len, self.bytes, 38);
    len += 38;
    memcpy(expected + len, "\x12\x05hello\x1a\x08\0\0\0\0\0\0\0\x2a\x22\x04news", 23);
    len += 23;
    assert_memory_equal(h.message, expected, len);
    assert_int_equal(h.message_len, len + 2 + 64);
    assert_int_equal(h.message[len], 0x2a);
    uint8_t preimage[300] = "libp2p-pubsub:", public_key[32];
    memcpy(preimage + 14, expected, len);
    cal_sign_public_key(&w.key, public_key);
    assert_true(
        cal_verify_strict(public_key, (cal_slice){preimage, 14 + len}, h.message + len + 2));
    world_end(&w);
}

static void test_deliver_and_forward(void **state) {
    (void)state;
    world w;
    world_start(&w);
    world_subscribe(&w, "news", false);
    gossip_peer *peers[4];
    for (unsigned i = 0; i < 4; i++) {
        peers[i] = meet(&w, i + 1);
        assert_int_equal(hear(&w, peers[i]).subscribes, 1); /* the greeting */
        say_subscribe(&w, peers[i], "news", true);
        say_graft(&w, peers[i], "news");
        hear(&w, peers[i]);
    }
    world_events(&w);
    assert_int_equal(w.subscribed, 4);
    say_subscribe(&w, peers[0], "news", true); /* it came anew: told again */
    world_events(&w);
    assert_int_equal(w.subscribed, 1);
    say_message(&w, peers[0], 2, 5, "news", "one"); /* written by peers[1] */
    world_events(&w);
    assert_int_equal(w.messages, 1);
    assert_string_equal(w.data, "one");
    cal_peer_id author = world_id(2);
    assert_true(cal_peer_id_equal(&w.from, &author));
    assert_int_equal(hear(&w, peers[0]).messages, 0); /* it came from there */
    assert_int_equal(hear(&w, peers[1]).messages, 0); /* it is by them */
    assert_int_equal(hear(&w, peers[2]).messages, 1);
    /* Once more, from another: neither delivered nor passed on. */
    say_message(&w, peers[2], 2, 5, "news", "one");
    world_events(&w);
    assert_int_equal(w.messages, 0);
    /* A peer that sent us the message is not sent it, though it waits in its queue. */
    assert_int_equal(hear(&w, peers[3]).messages, 1);
    say_message(&w, peers[0], 9, 1, "news", "two");
    say_message(&w, peers[3], 9, 1, "news", "two");
    assert_int_equal(hear(&w, peers[3]).messages, 0);
    assert_int_equal(hear(&w, peers[2]).messages, 1);
    world_events(&w);
    assert_int_equal(w.messages, 1);
    cal_p2p_gossip_stats stats = world_stats(&w);
    assert_int_equal(stats.delivered, 2);
    assert_int_equal(stats.duplicates, 2);
    world_end(&w);
}

static void test_not_ours(void **state) {
    (void)state;
    world w;
    world_start(&w);
    gossip_peer *a = meet(&w, 1);
    say_message(&w, a, 1, 1, "other", "x");
    world_subscribe(&w, "news", false);
    say_message(&w, a, 0, 1, "news", "x"); /* by ourselves, from an earlier life */
    world_events(&w);
    assert_int_equal(w.messages, 0);
    assert_int_equal(world_stats(&w).foreign, 1);
    assert_int_equal(world_stats(&w).echoes, 1);
    world_end(&w);
}

/* --- strict signing --- */

static void test_refuses_spoofed(void **state) {
    (void)state;
    world w;
    world_start(&w);
    world_subscribe(&w, "news", false);
    gossip_peer *a = meet(&w, 1);
    static uint8_t zero[64], nine[9] = {[7] = 7};
    for (int spoil = 0; spoil < 13; spoil++) {
        letter l;
        letter_write(&l, 2, 7, "news", text("mine"));
        if (spoil == 0) l.message.data = binary(text("yours")); /* changed on the way */
        if (spoil == 1) l.message.has_signature = false;
        if (spoil == 2) letter_sign(&l, 3); /* by somebody else */
        if (spoil == 3) l.message.signature.len = 63;
        if (spoil == 4) l.message.has_seqno = false;
        if (spoil == 5) l.message.seqno.len = 7, letter_sign(&l, 2);
        if (spoil == 6) l.message.has_from = false, letter_sign(&l, 2);
        if (spoil == 7) l.message.from.len = 37, letter_sign(&l, 2);
        if (spoil == 8) l.message.has_topic = false, letter_sign(&l, 2);
        if (spoil == 9) l.message.has_key = true, l.message.key = binary(text("another key"));
        if (spoil == 10) l.message.signature.data = zero;
        if (spoil == 11) l.from.bytes[1] = 0x25; /* no identity of an Ed25519 key */
        if (spoil == 12) /* its first eight bytes are those of another message */
            l.message.seqno = (ProtobufCBinaryData){sizeof nine, nine}, letter_sign(&l, 2);
        assert_int_equal(say_letter(&w, a, &l), 0);
        world_events(&w);
        assert_int_equal(w.messages, 0);
    }
    cal_p2p_gossip_stats stats = world_stats(&w);
    assert_int_equal(stats.invalid + stats.foreign, 13);
    /* None of them hides the true one; the key sent along is fine when it is the author's. */
    letter l;
    letter_write(&l, 2, 7, "news", text("mine"));
    l.message.has_key = true;
    l.message.key = (ProtobufCBinaryData){36, l.from.bytes + 2};
    say_letter(&w, a, &l);
    world_events(&w);
    assert_int_equal(w.messages, 1);
    world_end(&w);
}

static void test_empty_data(void **state) {
    (void)state;
    world w;
    world_start(&w);
    world_subscribe(&w, "news", false);
    gossip_peer *a = meet(&w, 1);
    letter l;
    letter_write(&l, 2, 1, "news", text(""));
    say_letter(&w, a, &l);
    l.message.has_data = false; /* absent is not the same bytes */
    cal_write_u64be(l.seqno, 2);
    letter_sign(&l, 2);
    say_letter(&w, a, &l);
    world_events(&w);
    assert_int_equal(w.messages, 2);
    world_end(&w);
}

static void test_size_limit(void **state) {
    (void)state;
    world w;
    world_start(&w);
    gossip_peer *a = meet(&w, 1);
    say_subscribe(&w, a, "news", true);
    uint8_t *data = calloc(1, GOSSIP_RPC_MAX + 1);
    cal_error err;
    for (size_t len = GOSSIP_RPC_MAX + 1; len > GOSSIP_RPC_MAX - 200; len--) {
        size_t sent = 0;
        int result =
            gossip_publish(w.gossip, text("news"), (cal_slice){data, len}, w.now, &sent, &err);
        if (result) {
            assert_int_equal(result, CAL_ELIMIT);
            assert_non_null(strstr(err.message, "1048576 bytes"));
            continue;
        }
        heard h = hear(&w, a); /* the longest that passes is a full RPC and not a byte more */
        assert_int_equal(h.messages, 1);
        assert_int_equal(h.bytes, GOSSIP_RPC_MAX);
        break;
    }
    assert_int_equal(hear(&w, a).messages, 0);
    free(data);
    world_end(&w);
}

/* --- meshes --- */

static size_t mesh_of(world *w, const char *topic) {
    size_t peers, mesh;
    gossip_topic_count(w->gossip, text(topic), &peers, &mesh);
    return mesh;
}

static void test_mesh_grows(void **state) {
    (void)state;
    world w;
    world_start(&w);
    world_subscribe(&w, "news", false);
    gossip_peer *peers[10];
    size_t grafts = 0;
    for (unsigned i = 0; i < 10; i++) {
        peers[i] = meet(&w, i + 1);
        say_subscribe(&w, peers[i], "news", true);
        grafts += hear(&w, peers[i]).grafts;
    }
    assert_int_equal(mesh_of(&w, "news"), GOSSIP_MESH_LOW); /* at once, not at a heartbeat */
    assert_int_equal(grafts, GOSSIP_MESH_LOW);
    for (unsigned i = 0; i < 10; i++)
        if (gossip_in_mesh(peers[i], text("news"))) gossip_peer_remove(peers[i], w.now);
    assert_int_equal(mesh_of(&w, "news"), 0);
    pass(&w, 6);
    assert_int_equal(mesh_of(&w, "news"), GOSSIP_MESH);
    world_end(&w);
}

static void test_join_and_leave(void **state) {
    (void)state;
    world w;
    world_start(&w);
    gossip_peer *peers[6];
    for (unsigned i = 0; i < 6; i++) {
        peers[i] = meet_as(&w, i + 1, i == 5 ? GOSSIP_1_0 : GOSSIP_1_1, false);
        say_subscribe(&w, peers[i], "news", true);
    }
    gossip_peer_score(peers[5], 1); /* so that it is in the mesh */
    world_subscribe(&w, "news", false);
    assert_int_equal(mesh_of(&w, "news"), GOSSIP_MESH);
    assert_true(gossip_in_mesh(peers[5], text("news")));
    for (unsigned i = 0; i < 6; i++) hear(&w, peers[i]);
    assert_int_equal(gossip_unsubscribe(w.gossip, text("news"), w.now), 0);
    size_t prunes = 0;
    for (unsigned i = 0; i < 6; i++) {
        heard h = hear(&w, peers[i]);
        assert_int_equal(h.unsubscribes, 1);
        if (h.prunes) assert_int_equal(h.backoff, i == 5 ? 0 : GOSSIP_BACKOFF_S);
        prunes += h.prunes;
    }
    assert_int_equal(prunes, GOSSIP_MESH);
    assert_int_equal(gossip_unsubscribe(w.gossip, text("news"), w.now), CAL_ENOTFOUND);
    /* Back at once: those just pruned wait for their backoff. */
    world_subscribe(&w, "news", false);
    assert_int_equal(mesh_of(&w, "news"), 2);
    world_end(&w);
}

static void test_mesh_cut_down(void **state) {
    (void)state;
    world w;
    world_start(&w);
    world_subscribe(&w, "news", false);
    gossip_peer *peers[12];
    for (unsigned i = 0; i < 12; i++) { /* outgoing ones are taken beyond the limit */
        peers[i] = meet_as(&w, i + 1, GOSSIP_1_1, i >= 8);
        if (i < 3) gossip_peer_score(peers[i], 10);
        say_subscribe(&w, peers[i], "news", true);
        say_graft(&w, peers[i], "news");
        hear(&w, peers[i]);
    }
    assert_int_equal(mesh_of(&w, "news"), 12);
    gossip_peer *late = meet(&w, 99);
    say_graft(&w, late, "news"); /* incoming: refused */
    heard h = hear(&w, late);
    assert_int_equal(h.prunes, 1);
    assert_false(gossip_in_mesh(late, text("news")));
    pass(&w, 6);
    assert_int_equal(mesh_of(&w, "news"), GOSSIP_MESH);
    size_t outgoing = 0, prunes = 0;
    for (unsigned i = 0; i < 12; i++) {
        if (i < 3) assert_true(gossip_in_mesh(peers[i], text("news"))); /* members stay */
        if (i >= 8) outgoing += gossip_in_mesh(peers[i], text("news"));
        prunes += hear(&w, peers[i]).prunes;
    }
    assert_true(outgoing >= GOSSIP_MESH_OUTGOING);
    assert_int_equal(prunes, 12 - GOSSIP_MESH);
    world_end(&w);
}

static void test_backoff(void **state) {
    (void)state;
    world w;
    world_start(&w);
    world_subscribe(&w, "news", false);
    gossip_peer *a = meet(&w, 1);
    say_subscribe(&w, a, "news", true);
    assert_int_equal(hear(&w, a).grafts, 1);
    say_prune(&w, a, "news", 20);
    assert_int_equal(mesh_of(&w, "news"), 0);
    assert_int_equal(world_stats(&w).exchange_ignored, 2);
    say_graft(&w, a, "news"); /* too early, even from the one who pruned */
    heard h = hear(&w, a);
    assert_int_equal(h.prunes, 1);
    pass(&w, 19);
    assert_int_equal(hear(&w, a).grafts, 0);
    pass(&w, 3);
    assert_int_equal(hear(&w, a).grafts, 1);
    /* It holds through a reconnection. */
    say_prune(&w, a, "news", 20);
    gossip_peer_remove(a, w.now);
    a = meet(&w, 1);
    say_subscribe(&w, a, "news", true);
    pass(&w, 10);
    assert_int_equal(hear(&w, a).grafts, 0);
    pass(&w, 13);
    assert_int_equal(hear(&w, a).grafts, 1);
    world_end(&w);
}

static void test_members_preferred(void **state) {
    (void)state;
    world w;
    world_start(&w);
    gossip_peer *peers[20];
    for (unsigned i = 0; i < 20; i++) {
        peers[i] = meet(&w, i + 1);
        if (i >= 17) gossip_peer_score(peers[i], 5);
        say_subscribe(&w, peers[i], "news", true);
    }
    world_subscribe(&w, "news", false);
    for (unsigned i = 17; i < 20; i++) assert_true(gossip_in_mesh(peers[i], text("news")));
    assert_int_equal(mesh_of(&w, "news"), GOSSIP_MESH); /* and one stranger */
    size_t sent;
    gossip_publish(w.gossip, text("news"), text("all"), w.now, &sent, NULL);
    assert_int_equal(sent, 20); /* strangers hear everything */
    world_end(&w);
}

/* A mesh of strangers finds the members that came later. */
static void test_better_grafted(void **state) {
    (void)state;
    world w;
    world_start(&w);
    world_subscribe(&w, "news", false);
    gossip_peer *peers[6];
    for (unsigned i = 0; i < 6; i++) {
        peers[i] = meet(&w, i + 1);
        if (i >= 4) gossip_peer_score(peers[i], 5);
        say_subscribe(&w, peers[i], "news", true);
        if (i < 4) say_graft(&w, peers[i], "news");
    }
    assert_false(gossip_in_mesh(peers[5], text("news")));
    pass(&w, 70);
    assert_true(gossip_in_mesh(peers[4], text("news")));
    assert_true(gossip_in_mesh(peers[5], text("news")));
    world_end(&w);
}

static void test_fanout(void **state) {
    (void)state;
    world w;
    world_start_with(&w, (gossip_options){.mesh_publish = true});
    gossip_peer *peers[10];
    for (unsigned i = 0; i < 10; i++) {
        peers[i] = meet(&w, i + 1);
        say_subscribe(&w, peers[i], "news", true);
    }
    size_t sent, first[10], again = 0;
    gossip_publish(w.gossip, text("news"), text("1"), w.now, &sent, NULL);
    assert_int_equal(sent, GOSSIP_MESH);
    for (unsigned i = 0; i < 10; i++) first[i] = hear(&w, peers[i]).messages;
    gossip_publish(w.gossip, text("news"), text("2"), w.now, &sent, NULL);
    for (unsigned i = 0; i < 10; i++) again += first[i] && hear(&w, peers[i]).messages;
    assert_int_equal(again, GOSSIP_MESH); /* the same ones */
    world_subscribe(&w, "news", false);   /* and they become the mesh */
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(gossip_in_mesh(peers[i], text("news")), first[i] > 0);
    world_end(&w);
}

static void test_fanout_ends(void **state) {
    (void)state;
    world w;
    world_start_with(&w, (gossip_options){.mesh_publish = true});
    assert_int_equal(gossip_publish(w.gossip, text("news"), text("1"), w.now, NULL, NULL), 0);
    pass(&w, 70);
    gossip_peer *a = meet(&w, 1); /* nobody hears the topic, so nothing is left of it */
    assert_int_equal(world_stats(&w).message_bytes, 0);
    gossip_peer_remove(a, w.now);
    world_end(&w);
}

/* --- telling and asking --- */

static void test_told_and_asked(void **state) {
    (void)state;
    world w;
    world_start(&w);
    world_subscribe(&w, "news", false);
    gossip_peer *source = meet(&w, 1), *peers[20];
    for (unsigned i = 0; i < 20; i++) {
        peers[i] = meet(&w, i + 10);
        say_subscribe(&w, peers[i], "news", true);
        hear(&w, peers[i]);
    }
    pass(&w, 10);
    for (unsigned i = 0; i < 20; i++) hear(&w, peers[i]);
    say_message(&w, source, 1, 33, "news", "told");
    /* In three heartbeats everybody was sent it or told of it. */
    size_t told[20] = {0};
    for (int beat = 0; beat < 3; beat++) {
        pass(&w, 1);
        for (unsigned i = 0; i < 20; i++) {
            heard h = hear(&w, peers[i]);
            told[i] += h.messages + h.ihaves;
        }
    }
    for (unsigned i = 0; i < 20; i++) assert_true(told[i] >= 1);
    char id[128];
    id_of(1, 33, id);
    for (int i = 0; i < 5; i++) say_id(&w, peers[0], SAY_IWANT, NULL, id);
    assert_int_equal(hear(&w, peers[0]).messages, GOSSIP_IWANT_REPEAT_MAX);
    assert_true(world_stats(&w).iwant_refused >= 2);
    pass(&w, 3); /* no longer kept */
    say_id(&w, peers[1], SAY_IWANT, NULL, id);
    assert_int_equal(hear(&w, peers[1]).messages, 0);
    world_end(&w);
}

static void test_asks_the_next(void **state) {
    (void)state;
    world w;
    world_start(&w);
    world_subscribe(&w, "news", false);
    gossip_peer *a = meet(&w, 1), *b = meet(&w, 2), *c = meet(&w, 3);
    gossip_peer *all[] = {a, b, c};
    char id[128];
    id_of(9, 1, id);
    for (int i = 0; i < 3; i++) {
        hear(&w, all[i]);
        say_id(&w, all[i], SAY_IHAVE, "news", id);
    }
    assert_string_equal(hear(&w, a).iwant, id);
    assert_int_equal(hear(&w, b).iwants, 0); /* one at a time */
    gossip_peer_remove(a, w.now);
    assert_string_equal(hear(&w, b).iwant, id); /* gone: at once the next */
    pass(&w, 2);
    assert_string_equal(hear(&w, c).iwant, id); /* silent: the next in time */
    say_message(&w, c, 9, 1, "news", "found");
    world_events(&w);
    assert_int_equal(w.messages, 1);
    assert_int_equal(world_stats(&w).wants, 0);
    say_id(&w, b, SAY_IHAVE, "news", id); /* known: not asked for */
    assert_int_equal(hear(&w, b).iwants, 0);
    id_of(9, 2, id);
    say_id(&w, b, SAY_IHAVE, "other", id); /* a topic that is not ours */
    assert_int_equal(hear(&w, b).iwants, 0);
    say_id(&w, b, SAY_IHAVE, "news", id);
    pass(&w, 3);
    assert_int_equal(world_stats(&w).iwant_lost, 1);
    assert_int_equal(world_stats(&w).wants, 0);
    world_end(&w);
}

/* A peer grafted after a message was published is told of it though it is in the mesh. */
static void test_grafted_late_is_told(void **state) {
    (void)state;
    world w;
    world_start(&w);
    world_subscribe(&w, "news", false);
    gossip_publish(w.gossip, text("news"), text("early"), w.now, NULL, NULL);
    gossip_peer *a = meet(&w, 1);
    say_subscribe(&w, a, "news", true);
    assert_int_equal(hear(&w, a).grafts, 1);
    pass(&w, 5);
    assert_int_equal(hear(&w, a).ihaves, 1);
    world_end(&w);
}

/* A peer in the mesh for which a copy had no room is told of it, so that it can ask. */
static void test_dropped_copy_is_told(void **state) {
    (void)state;
    world w;
    char id[128];
    world_start(&w);
    world_subscribe(&w, "news", false);
    gossip_peer *a = meet(&w, 1);
    say_subscribe(&w, a, "news", true);
    pass(&w, 10); /* it was grafted long ago */
    hear(&w, a);
    const size_t len = 512 * 1024, fit = GOSSIP_QUEUE_BYTES_MAX / (512 * 1024) - 1;
    uint8_t *data = calloc(1, len);
    for (size_t i = 0; i <= fit; i++)
        gossip_publish(w.gossip, text("news"), (cal_slice){data, len}, w.now, NULL, NULL);
    free(data);
    assert_int_equal(world_stats(&w).queue_dropped, 1);
    heard h = hear(&w, a);
    assert_int_equal(h.messages, fit);
    assert_int_equal(h.ihaves, 0);
    pass(&w, 1);
    h = hear(&w, a);
    assert_int_equal(h.ihaves, 1); /* it was sent the others */
    id_of(0, 42 + fit, id);
    say_id(&w, a, SAY_IWANT, NULL, id);
    assert_int_equal(hear(&w, a).messages, 1);
    world_end(&w);
}

static void test_idontwant(void **state) {
    (void)state;
    world w;
    world_start(&w);
    world_subscribe(&w, "news", false);
    gossip_peer *a = meet(&w, 1), *old = meet_as(&w, 2, GOSSIP_1_1, false), *b = meet(&w, 3);
    gossip_peer *all[] = {a, old, b};
    for (int i = 0; i < 3; i++) {
        say_subscribe(&w, all[i], "news", true);
        say_graft(&w, all[i], "news");
        hear(&w, all[i]);
    }
    char large[GOSSIP_LARGE + 2], id[128];
    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = 0;
    id_of(9, 1, id);
    say_id(&w, b, SAY_IDONTWANT, NULL, id);
    say_message(&w, a, 9, 1, "news", large);
    heard from = hear(&w, a), plain = hear(&w, old), spared = hear(&w, b);
    assert_int_equal(from.idontwants, 0); /* it sent the message itself */
    assert_int_equal(plain.idontwants, 0);
    assert_int_equal(plain.messages, 1);
    assert_string_equal(spared.idontwant, id);
    assert_int_equal(spared.messages, 0); /* it has it */
    assert_int_equal(world_stats(&w).idontwant_spared, 1);
    say_id(&w, b, SAY_IWANT, NULL, id); /* asking counts for more */
    assert_int_equal(hear(&w, b).messages, 1);
    say_message(&w, a, 9, 2, "news", "small");
    assert_int_equal(hear(&w, b).idontwants, 0);
    /* Said while the copy waits in the queue: it is not sent. */
    id_of(9, 3, id);
    say_message(&w, a, 9, 3, "news", "queued");
    say_id(&w, b, SAY_IDONTWANT, NULL, id);
    assert_int_equal(hear(&w, b).messages, 0);
    /* Said long before: it may be asked for again by now. */
    id_of(9, 4, id);
    say_id(&w, b, SAY_IDONTWANT, NULL, id);
    pass(&w, 2 * GOSSIP_HISTORY + 2);
    hear(&w, b);
    say_message(&w, a, 9, 4, "news", "late");
    assert_int_equal(hear(&w, b).messages, 1);
    world_end(&w);
}

/* Who has such messages from elsewhere is given a moment to say so. */
static void test_held_back(void **state) {
    (void)state;
    world w;
    world_start(&w);
    world_subscribe(&w, "news", false);
    gossip_peer *a = meet(&w, 1), *b = meet(&w, 2);
    gossip_peer *both[] = {a, b};
    char large[GOSSIP_LARGE + 2], id[128];
    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = 0;
    for (int i = 0; i < 2; i++) {
        say_subscribe(&w, both[i], "news", true);
        say_graft(&w, both[i], "news");
        hear(&w, both[i]);
    }
    say_message(&w, a, 9, 1, "news", large);
    assert_int_equal(hear(&w, b).messages, 1); /* nothing is known of it */
    id_of(9, 1, id);
    say_id(&w, b, SAY_IDONTWANT, NULL, id); /* it came too late */
    say_message(&w, a, 9, 2, "news", "small");
    assert_int_equal(hear(&w, b).messages, 1); /* nobody says IDONTWANT to that */
    say_message(&w, a, 9, 3, "news", large);
    assert_int_equal(hear(&w, b).messages, 0);
    id_of(9, 3, id);
    say_id(&w, b, SAY_IDONTWANT, NULL, id);
    pass(&w, 1);
    assert_int_equal(hear(&w, b).messages, 0);
    assert_int_equal(world_stats(&w).idontwant_spared, 1);
    say_message(&w, a, 9, 4, "news", large); /* and now it has no other way */
    assert_int_equal(hear(&w, b).messages, 0);
    w.now += GOSSIP_HOLD_NS;
    gossip_expire(w.gossip, w.now);
    assert_int_equal(hear(&w, b).messages, 1);
    assert_int_equal(world_stats(&w).held_sent, 1);
    say_message(&w, a, 9, 5, "news", large);
    assert_int_equal(hear(&w, b).messages, 1);
    id_of(9, 5, id);
    say_id(&w, b, SAY_IDONTWANT, NULL, id); /* not believed for a while */
    say_message(&w, a, 9, 6, "news", large);
    assert_int_equal(hear(&w, b).messages, 1);
    pass(&w, 12);
    say_message(&w, a, 9, 7, "news", large);
    id_of(9, 7, id);
    say_id(&w, b, SAY_IDONTWANT, NULL, id);
    hear(&w, b);
    say_message(&w, a, 9, 8, "news", large); /* held, and the peer goes */
    gossip_peer_remove(b, w.now);
    pass(&w, 1);
    world_end(&w);
}

/* Between nodes of ours IDONTWANT is eight bytes. */
static void test_brief(void **state) {
    (void)state;
    world w;
    uint8_t bytes[CAL_HASH_SIZE];
    char large[GOSSIP_LARGE + 2], id[128];
    world_start(&w);
    world_subscribe(&w, "news", false);
    gossip_peer *a = meet(&w, 1), *b = meet(&w, 2), *c = meet(&w, 3);
    gossip_peer *all[] = {a, b, c};
    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = 0;
    GossipPb__Rpc rpc = GOSSIP_PB__RPC__INIT;
    rpc.has_brief = true;
    for (int i = 0; i < 3; i++) {
        say_subscribe(&w, all[i], "news", true);
        say_graft(&w, all[i], "news");
        assert_int_equal(hear(&w, all[i]).briefs, 1); /* with what we subscribe to */
    }
    say(&w, b, &rpc); /* it understands; c does not */
    id_of(9, 1, id);
    cal_sha256(cal_slice_text(id), bytes);
    rpc.brief = (ProtobufCBinaryData){8, bytes};
    say(&w, b, &rpc); /* it has the message that comes */
    say_message(&w, a, 9, 1, "news", large);
    heard at_b = hear(&w, b), at_c = hear(&w, c);
    assert_int_equal(at_b.idontwants, 0);
    assert_int_equal(at_b.briefs, 1);
    assert_memory_equal(at_b.brief, bytes, 8);
    assert_int_equal(at_b.messages, 0);
    assert_int_equal(at_c.idontwants, 1);
    assert_int_equal(at_c.briefs, 0);
    assert_int_equal(at_c.messages, 1);
    world_end(&w);
}

/* An id is told once, and not to who has it. */
static void test_told_once(void **state) {
    (void)state;
    world w;
    char id[128];
    world_start_with(&w, (gossip_options){.mesh_publish = true});
    world_subscribe(&w, "news", false);
    gossip_peer *a = meet(&w, 1), *b = meet(&w, 2), *c = meet(&w, 3), *d = meet(&w, 4);
    gossip_peer *all[] = {a, b, c, d};
    for (int i = 0; i < 4; i++) {
        say_subscribe(&w, all[i], "news", true); /* the first two are grafted */
        hear(&w, all[i]);
    }
    pass(&w, 10);
    say_message(&w, a, 9, 1, "news", "x");
    id_of(9, 1, id);
    say_id(&w, d, SAY_IHAVE, "news", id);
    pass(&w, 5);
    assert_int_equal(hear(&w, b).ihaves, 0); /* it was sent the message */
    assert_int_equal(hear(&w, c).ihaves, 1);
    assert_int_equal(hear(&w, d).ihaves, 0);
    world_end(&w);
}

/* --- verdicts --- */

static void test_validation(void **state) {
    (void)state;
    world w;
    world_start(&w);
    world_subscribe(&w, "news", true);
    gossip_peer *a = meet(&w, 1), *b = meet(&w, 2);
    gossip_peer *all[] = {a, b};
    for (int i = 0; i < 2; i++) {
        say_subscribe(&w, all[i], "news", true);
        hear(&w, all[i]);
    }
    static const cal_p2p_verdict verdicts[] = {CAL_P2P_ACCEPT, CAL_P2P_REJECT, CAL_P2P_IGNORE};
    for (uint64_t i = 0; i < 3; i++) {
        say_message(&w, a, 9, i, "news", "judge");
        assert_int_equal(hear(&w, b).messages, 0); /* waits */
        world_events(&w);
        assert_int_equal(w.validates, 1);
        assert_int_equal(gossip_validated(w.gossip, w.ticket, verdicts[i], w.now), 0);
        assert_int_equal(hear(&w, b).messages, verdicts[i] == CAL_P2P_ACCEPT);
        assert_int_equal(gossip_validated(w.gossip, w.ticket, verdicts[i], w.now), CAL_ENOTFOUND);
        say_message(&w, b, 9, i, "news", "judge"); /* judged once */
        world_events(&w);
        assert_int_equal(w.validates, 0);
    }
    say_message(&w, a, 9, 7, "news", "silence");
    world_events(&w);
    pass(&w, 32);
    assert_int_equal(gossip_validated(w.gossip, w.ticket, CAL_P2P_ACCEPT, w.now), CAL_ENOTFOUND);
    cal_p2p_gossip_stats stats = world_stats(&w);
    assert_int_equal(stats.delivered, 1);
    assert_int_equal(stats.rejected, 1);
    assert_int_equal(stats.ignored, 1);
    assert_int_equal(stats.validations_expired, 1);
    world_end(&w);
}

/* --- streams and time --- */

static void test_output_in_pieces(void **state) {
    (void)state;
    world w;
    world_start(&w);
    gossip_peer *a = meet(&w, 1);
    say_subscribe(&w, a, "news", true);
    for (int i = 0; i < 20; i++) {
        gossip_publish(w.gossip, text("news"), text("piece"), w.now, NULL, NULL);
        cal_slice out = gossip_output(a, w.now);
        gossip_sent(a, out.len / 2); /* stops inside a frame, control comes in between */
        if (i == 10) world_subscribe(&w, "more", false);
    }
    gossip_publish(w.gossip, text("news"), text("last"), w.now, NULL, NULL);
    assert_ptr_equal(gossip_next_output(w.gossip), a);
    assert_null(gossip_next_output(w.gossip));
    world_end(&w);
    for (size_t step = 1; step < 200; step += 13) {
        world_start(&w);
        a = meet(&w, 1);
        say_subscribe(&w, a, "news", true);
        for (int i = 0; i < 5; i++) {
            gossip_publish(w.gossip, text("news"), text("piece"), w.now, NULL, NULL);
            if (i % 2) world_subscribe(&w, i == 1 ? "x" : "y", false);
        }
        heard h = hear_by(&w, a, step);
        assert_int_equal(h.messages, 5);
        assert_int_equal(h.subscribes, 2);
        world_end(&w);
    }
}

static void test_stream_lost(void **state) {
    (void)state;
    world w;
    world_start(&w);
    world_subscribe(&w, "news", false);
    gossip_peer *a = meet(&w, 1);
    say_subscribe(&w, a, "news", true);
    assert_true(gossip_in_mesh(a, text("news")));
    gossip_peer_shut(a, w.now);
    assert_int_equal(gossip_output(a, w.now).len, 0);
    size_t sent;
    gossip_publish(w.gossip, text("news"), text("missed"), w.now, &sent, NULL);
    assert_int_equal(sent, 0);
    gossip_peer_open(a, GOSSIP_1_1, w.now);
    pass(&w, 5);
    heard h = hear(&w, a);
    assert_int_equal(h.subscribes, 1); /* greeted anew */
    assert_int_equal(h.grafts, 1);
    assert_int_equal(h.ihaves, 1); /* and told what it missed */
    world_end(&w);
}

static void test_clock_jumps(void **state) {
    (void)state;
    world w;
    world_start(&w);
    world_subscribe(&w, "news", false);
    gossip_peer *a = meet(&w, 1);
    say_message(&w, a, 9, 1, "news", "once");
    gossip_expire(w.gossip, w.now - 500 * SECOND); /* back: stands still */
    say_message(&w, a, 9, 1, "news", "once");
    w.now += 100000 * SECOND; /* forward: one heartbeat, not a hundred thousand */
    gossip_expire(w.gossip, w.now);
    assert_true(gossip_deadline(w.gossip) == w.now + GOSSIP_HEARTBEAT_NS);
    world_events(&w);
    assert_int_equal(w.messages, 1);
    gossip_expire(w.gossip, UINT64_MAX / 2);
    say_message(&w, a, 9, 2, "news", "later");
    world_events(&w);
    assert_int_equal(w.messages, 1);
    world_end(&w);
}

static void test_plain_ids(void **state) {
    (void)state;
    world w;
    world_start_with(&w, (gossip_options){.plain_ids = true});
    world_subscribe(&w, "news", false);
    gossip_peer *a = meet(&w, 1);
    letter l;
    letter_write(&l, 9, 0x4142434445464748, "news", text("x"));
    say_letter(&w, a, &l);
    gossip_event event;
    assert_true(gossip_next_event(w.gossip, &event));
    assert_int_equal(event.id.len, 46);
    assert_memory_equal(event.id.data, l.from.bytes, 38);
    assert_memory_equal(event.id.data + 38, "ABCDEFGH", 8);
    world_end(&w);
}

static void test_versions(void **state) {
    (void)state;
    static const char *const ids[] = GOSSIP_PROTOCOLS;
    assert_int_equal(gossip_version_of(ids[0]), GOSSIP_1_2);
    assert_int_equal(gossip_version_of(ids[1]), GOSSIP_1_1);
    assert_int_equal(gossip_version_of(ids[2]), GOSSIP_1_0);
    assert_int_equal(gossip_version_of("/floodsub/1.0.0"), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_publish),
        cmocka_unit_test(test_deliver_and_forward),
        cmocka_unit_test(test_not_ours),
        cmocka_unit_test(test_refuses_spoofed),
        cmocka_unit_test(test_empty_data),
        cmocka_unit_test(test_size_limit),
        cmocka_unit_test(test_mesh_grows),
        cmocka_unit_test(test_join_and_leave),
        cmocka_unit_test(test_mesh_cut_down),
        cmocka_unit_test(test_backoff),
        cmocka_unit_test(test_members_preferred),
        cmocka_unit_test(test_better_grafted),
        cmocka_unit_test(test_fanout),
        cmocka_unit_test(test_fanout_ends),
        cmocka_unit_test(test_told_and_asked),
        cmocka_unit_test(test_asks_the_next),
        cmocka_unit_test(test_grafted_late_is_told),
        cmocka_unit_test(test_dropped_copy_is_told),
        cmocka_unit_test(test_idontwant),
        cmocka_unit_test(test_held_back),
        cmocka_unit_test(test_brief),
        cmocka_unit_test(test_told_once),
        cmocka_unit_test(test_validation),
        cmocka_unit_test(test_output_in_pieces),
        cmocka_unit_test(test_stream_lost),
        cmocka_unit_test(test_clock_jumps),
        cmocka_unit_test(test_plain_ids),
        cmocka_unit_test(test_versions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
