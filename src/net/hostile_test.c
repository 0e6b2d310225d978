/* Peers that break the rules inside a connection (docs/design/net.md, Bounds): nothing at all in
 * any number, frames that overlap, handshakes played back, forged signatures, answers never read.
 */
#include "net/hostile.h"
#include "net/messages.h"

/* --- a protocol that only counts --- */

static struct {
    size_t opened, readable, closed, bytes;
    cal_p2p_stream *last;
} seen;
static void on_opened(void *user, cal_p2p_stream *stream) {
    (void)user;
    seen.opened++;
    seen.last = stream;
}
static void on_readable(void *user, cal_p2p_stream *stream) {
    const uint8_t *bytes;
    (void)user;
    seen.readable++;
    for (size_t len; (len = cal_p2p_stream_peek(stream, &bytes)) > 0;) {
        seen.bytes += len;
        cal_p2p_stream_consume(stream, len);
    }
}
static void on_closed(void *user, cal_p2p_stream *stream, int reason) {
    (void)user, (void)stream, (void)reason;
    seen.closed++;
}
static const cal_p2p_stream_events counting = {on_opened, on_readable, NULL, on_closed};
static const cal_p2p_stream_events deaf_events = {.opened = on_opened};

static cal_p2p *host_counting(void) {
    cal_p2p *host = host_new(NULL);
    memset(&seen, 0, sizeof seen);
    assert_int_equal(
        cal_p2p_handle(host, &(cal_p2p_protocol){.id = "/count/1", .events = &counting}), 0);
    assert_int_equal(
        cal_p2p_handle(host, &(cal_p2p_protocol){.id = "/deaf/1", .events = &deaf_events}), 0);
    return host;
}
static net_connection *first_connection(cal_p2p *host) {
    return CAL_CONTAINER_OF(host->connections.next, net_connection, link);
}
static yamux_stream *stream_of(cal_p2p *host, uint32_t id) {
    yamux *mux = &first_connection(host)->mux;
    for (cal_list *at = mux->streams.next; at != &mux->streams; at = at->next) {
        yamux_stream *stream = CAL_CONTAINER_OF(at, yamux_stream, link);
        if (stream->id == id) return stream;
    }
    return NULL;
}

/* --- nothing, in any number --- */

static void test_empty_noise_messages(void **state) {
    (void)state;
    hostile h;
    cal_p2p *host = host_counting();
    hostile_start(&h, host, 1);
    size_t sent = h.wire->sent.len;
    cal_buffer all;
    cal_buffer_init(&all, 1 << 20);
    for (int i = 0; i < 10000; i++) { /* sealed, and nothing in them: what noise_seal never makes */
        uint8_t *to = cal_buffer_reserve(&all, 2 + CAL_AEAD_TAG_SIZE);
        cal_write_u16be(to, CAL_AEAD_TAG_SIZE);
        assert_int_equal(cal_chacha_seal(&h.channel.sealing, h.channel.sealed++, (cal_slice){0},
                                         (cal_slice){0}, to + 2),
                         0);
        all.len += 2 + CAL_AEAD_TAG_SIZE;
    }
    hostile_raw(&h, all.data, all.len);
    cal_buffer_deinit(&all);
    assert_true(h.wire->open);
    assert_int_equal(h.wire->sent.len, sent);
    assert_int_equal(first_connection(host)->channel.partial.capacity, 0);
    hostile_raw(&h, "\0\0", 2); /* without even a tag */
    assert_false(h.wire->open);
    assert_int_equal(stats_of(host).frames_refused, 1);
    host_drop(host);
    hostile_stop(&h);
}

static void test_empty_handshakes(void **state) {
    (void)state;
    cal_p2p *host = host_counting();
    const char *const starts[] = {"\0", "\x01\n", "\x13/multistream/1.0.0\n\0",
                                  "\x13/multistream/1.0.0\n\x01\n\x01\n"};
    const size_t lens[] = {1, 2, 21, 24};
    for (int i = 0; i < 4; i++) {
        net_wire *wire = host_accept(host);
        assert_non_null(wire);
        transport.events->received(wire->owner, (const uint8_t *)starts[i], lens[i]);
        assert_int_equal(wire->open, i == 3); /* an empty name is a name not spoken here */
    }
    net_wire *wire = &world.wires[3];
    for (int i = 0; wire->open && i < 100; i++)
        transport.events->received(wire->owner, (const uint8_t *)"\x01\n", 2);
    assert_false(wire->open);
    assert_true(wire->sent.len < 200);
    wire = host_accept(host);
    transport.events->received(wire->owner, (const uint8_t *)hostile_choose,
                               sizeof hostile_choose - 1);
    assert_true(wire->open);
    transport.events->received(wire->owner, (const uint8_t *)"\0\0", 2); /* an empty message 1 */
    assert_false(wire->open);
    assert_int_equal(stats_of(host).handshakes_failed, 5);
    assert_int_equal(stats_of(host).pending, 0);
    host_drop(host);
}

/* Data frames of no bytes, windows of nothing: no event, no memory, no answer. */
static void test_empty_frames(void **state) {
    enum { FRAMES = 4000 };
    (void)state;
    hostile h;
    static uint8_t frames[FRAMES * YAMUX_HEADER];
    cal_p2p *host = host_counting();
    hostile_start(&h, host, 1);
    hostile_open(&h, 1, "/count/1");
    assert_int_equal(seen.opened, 1);
    pass(host, 10);
    hostile_hear(&h);
    size_t sent = h.wire->sent.len;
    for (int round = 0; round < 25; round++) {
        size_t at = 0;
        for (int i = 0; i < FRAMES; i++)
            at += hostile_put(frames + at, i % 2 ? Y_DATA : Y_WINDOW, i % 4 < 2 ? 0 : Y_ACK,
                              i % 3 ? 1 : 99, 0);
        hostile_say(&h, frames, at);
    }
    assert_true(h.wire->open);
    assert_int_equal(seen.readable, 0);
    assert_int_equal(h.wire->sent.len, sent);
    const yamux_stream *stream = stream_of(host, 1);
    assert_true(!stream->received.first && !stream->sending.first);
    assert_int_equal(stream->receive_window, YAMUX_WINDOW - 30);
    hostile_data(&h, 0, 1, "x", 1); /* it works as before */
    assert_int_equal(seen.bytes, 1);
    host_drop(host);
    hostile_stop(&h);
}

/* On a stream: a message of no bytes before a protocol, and names of none. */
static void test_empty_names(void **state) {
    (void)state;
    hostile h;
    cal_p2p *host = host_counting();
    hostile_start(&h, host, 1);
    hostile_hear(&h);
    hostile_data(&h, Y_SYN, 1, "\0", 1);
    assert_int_equal(hostile_count(hostile_hear(&h), 1, Y_RST), 1);
    hostile_data(&h, Y_SYN, 3, "\x13/multistream/1.0.0\n", 20);
    for (int i = 0; i < MULTISTREAM_TRIES_MAX - 1; i++) hostile_data(&h, 0, 3, "\x01\n", 2);
    assert_int_equal(hostile_count(hostile_hear(&h), 3, Y_RST), 0);
    hostile_data(&h, 0, 3, "\x01\n", 2);
    assert_int_equal(hostile_count(hostile_hear(&h), 3, Y_RST), 1);
    assert_int_equal(stats_of(host).streams_unsupported, 1);
    hostile_frame(&h, Y_DATA, Y_SYN | Y_FIN, 5, 0); /* nothing at all was said on it */
    assert_int_equal(hostile_count(hostile_hear(&h), 5, Y_RST), 1);
    assert_int_equal(cal_p2p_handle(host, &(cal_p2p_protocol){.id = "", .events = &counting}),
                     CAL_EINVAL);
    assert_int_equal(cal_p2p_handle(host, &(cal_p2p_protocol){.events = &counting}), CAL_EINVAL);
    assert_int_equal(seen.opened, 0);
    host_drop(host);
    hostile_stop(&h);
}

/* Messages of no bytes to those who decode them. */
static void test_empty_messages(void **state) {
    static const char *const ids[] = {"/ipfs/id/push/1.0.0", "/calimero/kad/1.0.0",
                                      "/meshsub/1.1.0"};
    (void)state;
    hostile h;
    cal_multiaddr address;
    cal_peer_id id;
    cal_p2p *host = host_counting();
    assert_int_equal(cal_p2p_gossip_start(host, &(cal_p2p_gossip_options){0}), 0);
    assert_int_equal(cal_p2p_kad_start(host), 0);
    hostile_start(&h, host, 1);
    hostile_hear(&h);
    static const uint8_t none[1000];
    for (uint32_t i = 0; i < 3; i++) {
        hostile_open(&h, 1 + 2 * i, ids[i]);
        hostile_data(&h, 0, 1 + 2 * i, none, sizeof none);
    }
    cal_slice heard = hostile_hear(&h);
    assert_int_equal(hostile_count(heard, 1, Y_RST), 1); /* ten are the most on a stream */
    assert_int_equal(hostile_count(heard, 3, Y_RST), 1);
    assert_int_equal(hostile_count(heard, 5, Y_RST), 0); /* an empty RPC is one */
    cal_p2p_gossip_stats gossip;
    cal_p2p_kad_stats kad;
    cal_p2p_gossip_stats_get(host, &gossip);
    cal_p2p_kad_stats_get(host, &kad);
    assert_int_equal(gossip.rpcs, 1000);
    assert_int_equal(kad.malformed, 1);
    /* An identify with an empty address, an empty name and an empty key: nothing of it is kept. */
    hostile_open(&h, 7, "/ipfs/id/push/1.0.0");
    hostile_data(&h, Y_FIN, 7, "\x06\x12\0\x1a\0\x2a\0", 7);
    assert_int_equal(cal_p2p_known(host, &first_connection(host)->channel.peer, &address, 1), 0);
    assert_int_equal(cal_multiaddr_from_bytes("", 0, &address), CAL_EDECODE);
    assert_int_equal(cal_multiaddr_parse("", &address), CAL_EDECODE);
    assert_int_equal(cal_peer_id_from_bytes("", 0, &id), CAL_EDECODE);
    assert_int_equal(cal_peer_id_parse("", &id), CAL_EDECODE);
    transport.events->datagram(host, none, 0);
    assert_true(h.wire->open);
    host_drop(host);
    hostile_stop(&h);
}

/* What somebody says under another's key is not about him, nor about the other. */
static void test_identify_of_another(void **state) {
    (void)state;
    hostile h;
    cal_multiaddr known;
    cal_p2p *host = host_new(NULL);
    hostile_start(&h, host, 1);
    const cal_peer_id *id = &first_connection(host)->channel.peer;
    for (unsigned own = 0; own < 2; own++) {
        /* A length; field 1, a key; field 2, /ip4/10.0.0.7/tcp/80. */
        uint8_t message[49] = {48, 0x0a, 36, 8, 1, 0x12, 32, [39] = 0x12, 8,
                               4,  10,   0,  0, 7, 6,    0,  80};
        if (own)
            assert_int_equal(cal_peer_id_key(id, message + 7), 0);
        else
            cal_sign_public_key(&(cal_secret){{9}}, message + 7);
        hostile_open(&h, 7 + 2 * own, "/ipfs/id/push/1.0.0");
        hostile_data(&h, Y_FIN, 7 + 2 * own, message, sizeof message);
        assert_int_equal(cal_p2p_known(host, id, &known, 1), own);
        assert_int_equal(peer_find(host, id)->identified, own);
    }
    host_drop(host);
    hostile_stop(&h);
}

/* --- frames that overlap --- */

static void expect_refused(const uint8_t *frames, size_t len) {
    hostile h;
    cal_p2p *host = host_counting();
    hostile_start(&h, host, 1);
    hostile_say(&h, frames, len);
    assert_false(h.wire->open);
    assert_int_equal(stats_of(host).frames_refused, 1);
    assert_int_equal(stats_of(host).connections, 0);
    pass(host, 1);
    assert_int_equal(stats_of(host).streams, 0);
    host_drop(host);
    hostile_stop(&h);
}

static void test_frames_that_end_it(void **state) {
    static const struct frame {
        uint8_t type;
        uint16_t flags;
        uint32_t id, len;
    } cases[][2] = {
        {{Y_DATA, Y_SYN, 1, 0}, {Y_DATA, Y_SYN, 1, 0}},          /* opened twice */
        {{Y_DATA, Y_SYN, 2, 0}, {Y_PING, 0, 0, 0}},              /* of our parity */
        {{Y_DATA, Y_SYN, 0, 0}, {Y_PING, 0, 0, 0}},              /* the session itself */
        {{Y_DATA, Y_SYN | Y_FIN, 1, 0}, {Y_DATA, 0, 1, 1}},      /* more after the end */
        {{Y_WINDOW, Y_SYN, 1, 0}, {Y_WINDOW, 0, 1, UINT32_MAX}}, /* a window past all bounds */
        {{Y_PING, 0, 0, 0}, {Y_AWAY + 1, 0, 0, 0}},              /* of no type */
        {{Y_PING, 0, 0, 0}, {Y_DATA, 16, 1, 0}},                 /* a flag there is not */
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t frames[2 * YAMUX_HEADER];
        size_t at = 0;
        for (int j = 0; j < 2; j++)
            at += hostile_put(frames + at, cases[i][j].type, cases[i][j].flags, cases[i][j].id,
                              cases[i][j].len);
        expect_refused(frames, at);
    }
}

/* Frames for streams there are not, or no more: passed over, whatever they claim. */
static void test_frames_for_nobody(void **state) {
    (void)state;
    hostile h;
    static uint8_t body[YAMUX_WINDOW];
    cal_p2p *host = host_counting();
    hostile_start(&h, host, 1);
    hostile_open(&h, 1, "/count/1");
    hostile_frame(&h, Y_WINDOW, Y_RST, 1, 0);
    assert_int_equal(seen.closed, 1);
    assert_int_equal(stats_of(host).streams_reset, 1);
    for (int i = 0; i < 8; i++) hostile_data(&h, 0, 1, body, sizeof body); /* past any window */
    hostile_frame(&h, Y_WINDOW, 0, 1, UINT32_MAX);
    hostile_frame(&h, Y_WINDOW, Y_FIN, 1, 0);
    hostile_frame(&h, Y_WINDOW, Y_RST, 1, 0);
    hostile_data(&h, Y_ACK, 77, body, 100);
    hostile_frame(&h, Y_WINDOW, Y_ACK | Y_FIN, 200, UINT32_MAX); /* one of ours, that is not */
    hostile_frame(&h, Y_DATA, Y_RST, 99, 500);                   /* a body after a reset */
    hostile_say(&h, body, 500);
    assert_true(h.wire->open);
    assert_int_equal(stats_of(host).unread_bytes, 0);
    assert_int_equal(stats_of(host).frames_ignored, 8 + 3 + 3);
    assert_int_equal(seen.bytes, 0);
    host_drop(host);
    hostile_stop(&h);
}

/* An id used again is a new stream: nothing of the old one is in it, nor half a frame. */
static void test_id_used_again(void **state) {
    (void)state;
    hostile h;
    uint8_t frames[2 * YAMUX_HEADER + 40] = {0};
    cal_p2p *host = host_counting();
    hostile_start(&h, host, 1);
    hostile_open(&h, 1, "/deaf/1");
    hostile_data(&h, 0, 1, "old", 3);
    assert_int_equal(stats_of(host).unread_bytes, 3);
    hostile_frame(&h, Y_WINDOW, Y_RST, 1, 0);
    pass(host, 1);
    assert_int_equal(stats_of(host).unread_bytes, 0);
    hostile_open(&h, 1, "/count/1");
    assert_int_equal(seen.opened, 2);
    assert_int_equal(seen.bytes, 0);
    hostile_data(&h, 0, 1, "new", 3);
    assert_int_equal(seen.bytes, 3);
    /* We reset it in the middle of a body; the rest belongs to nobody, then it is opened anew. */
    hostile_put(frames, Y_DATA, 0, 1, 40);
    hostile_say(&h, frames, YAMUX_HEADER + 10);
    cal_p2p_stream_reset(seen.last);
    pass(host, 1);
    hostile_say(&h, frames + YAMUX_HEADER, 30);
    hostile_open(&h, 1, "/count/1");
    assert_int_equal(seen.opened, 3);
    assert_int_equal(seen.bytes, 13);
    hostile_frame(&h, Y_WINDOW, Y_FIN, 1, 0); /* twice is once */
    hostile_frame(&h, Y_DATA, Y_FIN, 1, 0);
    assert_true(cal_p2p_stream_ended(seen.last));
    assert_true(h.wire->open);
    host_drop(host);
    hostile_stop(&h);
}

/* It said that it goes: it gets no new streams, what is open goes on, saying it again changes
 * nothing, and it may not open streams while it still does. */
static void test_goes_away_again_and_again(void **state) {
    (void)state;
    hostile h;
    cal_p2p_stream *stream;
    static const char *const id = "/count/1";
    cal_p2p *host = host_counting();
    hostile_start(&h, host, 1);
    hostile_open(&h, 1, "/count/1");
    for (int i = 0; i < 1000; i++) hostile_frame(&h, Y_AWAY, 0, 0, 0);
    assert_int_equal(
        cal_p2p_open(host, &first_connection(host)->channel.peer, &id, 1, NULL, NULL, &stream),
        CAL_EUNREACHABLE);
    hostile_data(&h, 0, 1, "x", 1);
    assert_int_equal(seen.bytes, 1);
    hostile_frame(&h, Y_WINDOW, Y_RST, 1, 0);
    pass(host, 11000); /* its own streams of the host are over, too */
    assert_int_equal(stats_of(host).connections, 0);
    host_drop(host);
    hostile_stop(&h);
}

/* --- handshakes --- */

/* All that an honest dialer said, played again byte for byte. */
static void test_dialer_played_back(void **state) {
    (void)state;
    hostile h;
    cal_buffer said;
    cal_p2p *host = host_new(NULL);
    cal_buffer_init(&said, 1 << 20);
    net_wire *wire = host_accept(host);
    cal_secret seed = {{3}};
    memset(&h, 0, sizeof h);
    cal_buffer_init(&h.out, 1 << 20);
    cal_buffer_init(&h.plain, 1 << 20);
    assert_int_equal(noise_identity_init(&h.identity, &seed, cal_os_posix()), 0);
    cal_buffer_append(&said, hostile_choose, sizeof hostile_choose - 1);
    transport.events->received(wire->owner, said.data, said.len);
    size_t at = wire->sent.len, used, first;
    assert_int_equal(noise_init(&h.channel, &h.identity, true, cal_os_posix(), &h.out), 0);
    transport.events->received(wire->owner, h.out.data, h.out.len);
    cal_buffer_append(&said, h.out.data, h.out.len);
    first = said.len;
    cal_buffer_reset(&h.out);
    assert_int_equal(
        noise_feed(&h.channel, wire->sent.data + at, wire->sent.len - at, &h.out, &h.plain, &used),
        0);
    assert_int_equal(
        noise_seal(&h.channel, cal_slice_of(hostile_muxer, sizeof hostile_muxer - 1), &h.out), 0);
    transport.events->received(wire->owner, h.out.data, h.out.len);
    cal_buffer_append(&said, h.out.data, h.out.len);
    assert_int_equal(stats_of(host).connections, 1);
    for (unsigned i = 1; i <= 20; i++) { /* at once, and with the answer in between */
        wire = host_accept(host);
        transport.events->received(wire->owner, said.data, i % 2 ? said.len : first);
        if (wire->open)
            transport.events->received(wire->owner, said.data + first, said.len - first);
        assert_false(wire->open);
        assert_int_equal(stats_of(host).identities_refused, i);
        assert_int_equal(stats_of(host).handshakes_failed, i);
    }
    assert_int_equal(stats_of(host).connections, 1);
    assert_int_equal(stats_of(host).connections_in, 1);
    cal_buffer_deinit(&said);
    host_drop(host);
    hostile_stop(&h);
}

static int dialled;
static void on_dialled(void *user, const cal_error *err, const cal_peer_id *peer) {
    (void)user, (void)peer;
    dialled = err ? err->code : 0;
}

static void dial_somebody(cal_p2p *host) {
    cal_multiaddr address;
    dialled = 1;
    assert_int_equal(cal_multiaddr_parse("/ip4/10.0.0.9/tcp/1", &address), 0);
    cal_p2p_connect(host, NULL, &address, 1, on_dialled, NULL);
}

/* All that an honest listener said, played to the next dial. */
static void test_listener_played_back(void **state) {
    (void)state;
    static const char choose[] = "\x13/multistream/1.0.0\n\x07/noise\n";
    hostile h;
    cal_buffer said;
    net_endpoint local = {{{10, 0, 0, 2}, 4}, 9};
    cal_p2p *host = host_new(NULL);
    cal_secret seed = {{3}};
    memset(&h, 0, sizeof h);
    cal_buffer_init(&said, 1 << 20);
    cal_buffer_init(&h.out, 1 << 20);
    cal_buffer_init(&h.plain, 1 << 20);
    assert_int_equal(noise_identity_init(&h.identity, &seed, cal_os_posix()), 0);
    dial_somebody(host);
    net_wire *wire = &world.wires[0];
    transport.events->connected(wire->owner, &local);
    cal_buffer_append(&said, choose, sizeof choose - 1);
    size_t at = wire->sent.len, used;
    transport.events->received(wire->owner, (const uint8_t *)choose, sizeof choose - 1);
    assert_int_equal(noise_init(&h.channel, &h.identity, false, cal_os_posix(), &h.out), 0);
    assert_int_equal(
        noise_feed(&h.channel, wire->sent.data + at, wire->sent.len - at, &h.out, &h.plain, &used),
        0);
    cal_buffer_append(&said, h.out.data, h.out.len);
    at = wire->sent.len;
    transport.events->received(wire->owner, h.out.data, h.out.len);
    cal_buffer_reset(&h.out);
    assert_int_equal(
        noise_feed(&h.channel, wire->sent.data + at, wire->sent.len - at, &h.out, &h.plain, &used),
        0);
    assert_int_equal(h.channel.state, NOISE_OPEN);
    assert_int_equal(
        noise_seal(&h.channel, cal_slice_of(hostile_muxer, sizeof hostile_muxer - 1), &h.out), 0);
    cal_buffer_append(&said, h.out.data, h.out.len);
    transport.events->received(wire->owner, h.out.data, h.out.len);
    assert_int_equal(dialled, 0);
    cal_p2p_disconnect(host, &first_connection(host)->channel.peer);
    pass(host, 1);
    for (unsigned i = 1; i <= 5; i++) {
        dial_somebody(host);
        wire = &world.wires[world.count - 1];
        transport.events->connected(wire->owner, &local);
        transport.events->received(wire->owner, said.data, said.len);
        assert_false(wire->open);
        assert_int_equal(dialled, CAL_EVERIFY);
        assert_int_equal(stats_of(host).identities_refused, i);
    }
    assert_int_equal(stats_of(host).connections_out, 1);
    cal_buffer_deinit(&said);
    host_drop(host);
    hostile_stop(&h);
}

/* A static key that its identity did not sign: of another key, of other bytes, none, too short. */
static void test_forged_identities(void **state) {
    (void)state;
    cal_p2p *host = host_new(NULL);
    for (unsigned i = 0; i < 4; i++) {
        hostile h;
        cal_secret seed = {{4}};
        memset(&h, 0, sizeof h);
        cal_buffer_init(&h.out, 1 << 20);
        cal_buffer_init(&h.plain, 1 << 20);
        assert_int_equal(noise_identity_init(&h.identity, &seed, cal_os_posix()), 0);
        noise_identity *identity = &h.identity;
        if (i == 0) identity->static_secret.bytes[0] ^= 8;
        if (i == 0) cal_agree_public_key(&identity->static_secret, identity->static_public);
        if (i == 1) identity->payload[identity->payload_len - 1] ^= 1;
        if (i == 2) identity->payload_len -= 2 + CAL_SIGNATURE_SIZE;
        if (i == 3) {
            identity->payload[identity->payload_len - CAL_SIGNATURE_SIZE - 1]--;
            identity->payload_len--;
        }
        net_wire *wire = host_accept(host);
        transport.events->received(wire->owner, (const uint8_t *)hostile_choose,
                                   sizeof hostile_choose - 1);
        size_t at = wire->sent.len, used;
        assert_int_equal(noise_init(&h.channel, identity, true, cal_os_posix(), &h.out), 0);
        transport.events->received(wire->owner, h.out.data, h.out.len);
        cal_buffer_reset(&h.out);
        assert_int_equal(noise_feed(&h.channel, wire->sent.data + at, wire->sent.len - at, &h.out,
                                    &h.plain, &used),
                         0);
        transport.events->received(wire->owner, h.out.data, h.out.len);
        assert_false(wire->open);
        assert_int_equal(stats_of(host).identities_refused, i + 1);
        hostile_stop(&h);
    }
    assert_int_equal(stats_of(host).connections_in, 0);
    host_drop(host);
}

/* --- answers never read --- */

static size_t pushed;
static uint8_t block[256 * 1024];
static void push(void *user, cal_p2p_stream *stream) {
    (void)user;
    for (size_t taken; (taken = cal_p2p_stream_write(stream, block, sizeof block)) > 0;)
        pushed += taken;
}
static const cal_p2p_stream_events pushing = {.opened = push, .writable = push};

/* Many streams written to that nobody reads: each its megabyte, until the bound of all; then a
 * small share, so that the others can go on. */
static void test_unsent_in_all(void **state) {
    enum { STREAMS = 60, MAX = 16 * 1024 * 1024 };
    (void)state;
    hostile h, honest;
    cal_p2p *host = host_new(&(cal_p2p_limits){.unsent_bytes_max = MAX});
    pushed = 0;
    assert_int_equal(cal_p2p_handle(host, &(cal_p2p_protocol){.id = "/push/1", .events = &pushing}),
                     0);
    hostile_start(&h, host, 1);
    h.wire->deaf = true;
    for (uint32_t i = 0; i < STREAMS; i++) hostile_open(&h, 1 + 2 * i, "/push/1");
    uint64_t most = MAX + YAMUX_SEND_MAX + STREAMS * YAMUX_SEND_SHARE;
    assert_in_range(stats_of(host).unsent_bytes, MAX - YAMUX_WINDOW, most);
    hostile_start(&honest, host, 2);
    honest.wire->deaf = true;
    size_t before = pushed;
    hostile_open(&honest, 1, "/push/1");
    assert_true(pushed > before); /* is served, in smaller pieces */
    assert_true(stats_of(host).writes_short >= STREAMS);
    for (int i = 0; i < 100; i++) {
        hostile_frame(&honest, Y_WINDOW, 0, 1, YAMUX_WINDOW);
        assert_true(stats_of(host).unsent_bytes <= most + YAMUX_SEND_SHARE);
    }
    assert_true(pushed - before >= 100u * YAMUX_SEND_SHARE);
    for (uint32_t i = 0; i < STREAMS; i++) hostile_frame(&h, Y_WINDOW, Y_RST, 1 + 2 * i, 0);
    assert_in_range(stats_of(host).unsent_bytes, 0, 2 * YAMUX_SEND_MAX);
    host_drop(host);
    hostile_stop(&h);
    hostile_stop(&honest);
}

static int frame_result;
static void push_frame(void *user, cal_p2p_stream *stream) {
    (void)user;
    if (frame_result != CAL_EBUSY) return;
    frame_result = cal_p2p_frames_write(stream, CAL_P2P_FRAME_U32BE, block, 100000);
}
static const cal_p2p_stream_events framing = {.opened = push_frame, .writable = push_frame};

/* A message longer than the share waits for the others; it is told of room though nothing of its
 * own is on its way. */
static void test_message_waits_for_others(void **state) {
    (void)state;
    hostile h, honest;
    cal_p2p *host = host_new(&(cal_p2p_limits){.unsent_bytes_max = 1024 * 1024});
    cal_p2p_handle(host, &(cal_p2p_protocol){.id = "/push/1", .events = &pushing});
    cal_p2p_handle(host, &(cal_p2p_protocol){.id = "/frame/1", .events = &framing});
    hostile_start(&h, host, 1);
    hostile_start(&honest, host, 2);
    h.wire->deaf = honest.wire->deaf = true;
    for (uint32_t i = 0; i < 4; i++) hostile_open(&h, 1 + 2 * i, "/push/1");
    frame_result = CAL_EBUSY;
    hostile_open(&honest, 1, "/frame/1");
    pass(host, 3000);
    assert_int_equal(frame_result, CAL_EBUSY);
    for (uint32_t i = 0; i < 4; i++) hostile_frame(&h, Y_WINDOW, Y_RST, 1 + 2 * i, 0);
    assert_int_equal(frame_result, CAL_EBUSY);
    pass(host, 1100);
    assert_int_equal(frame_result, 0);
    host_drop(host);
    hostile_stop(&h);
    hostile_stop(&honest);
}

/* --- messages --- */

static int overloads, taken_messages;
static uint8_t *large;
static void on_request(void *user, net_messages *messages, cal_slice bytes) {
    (void)user, (void)bytes;
    int result = net_messages_send(messages, cal_slice_of(large, NET_MESSAGE_MAX));
    overloads += result == CAL_EOVERLOAD;
    taken_messages += result == 0;
    if (result) net_messages_reset(messages);
}
static void on_ended(void *user, net_messages *messages, int reason) {
    (void)user, (void)messages, (void)reason;
}

/* Short requests, long answers, nobody reads: the bound is on all of them. */
static void test_long_answers(void **state) {
    (void)state;
    static const net_messages_events events = {.message = on_request, .ended = on_ended};
    static const net_messages_protocol serving = {.id = "/long/1", .events = &events};
    hostile h;
    cal_p2p *host = host_new(NULL);
    large = calloc(1, NET_MESSAGE_MAX);
    overloads = taken_messages = 0;
    assert_int_equal(net_messages_serve(host, &serving), 0);
    hostile_start(&h, host, 1);
    h.wire->deaf = true;
    for (uint32_t i = 0; i < 30; i++) {
        hostile_open(&h, 1 + 2 * i, "/long/1");
        hostile_data(&h, 0, 1 + 2 * i, "\0\0\0\x01?", 5);
    }
    assert_int_equal(taken_messages, NET_MESSAGES_OUT_MAX / NET_MESSAGE_MAX);
    assert_int_equal(overloads, 30 - taken_messages);
    assert_int_equal(stats_of(host).sends_refused, overloads);
    pass(host, 11000); /* nobody reads and nobody pings; what is left goes with the connection */
    for (uint32_t i = 0; i < 30; i++) hostile_frame(&h, Y_WINDOW, Y_RST, 1 + 2 * i, 0);
    assert_int_equal(host->message_bytes, 0);
    host_drop(host);
    free(large);
    hostile_stop(&h);
}

/* --- what waits to be read --- */

static void hostile_block(hostile *h, uint32_t id, size_t len) {
    for (size_t left = len; left > 0;) {
        size_t part = left < 65536 ? left : 65536;
        hostile_data(h, 0, id, block, part);
        left -= part;
    }
}

static void half_message(hostile *h, uint32_t id, size_t len) {
    hostile_open(h, id, "/never/1");
    hostile_data(h, 0, id, "\0\x7f\0\0", 4); /* of almost eight megabytes */
    hostile_block(h, id, len);
}

/* Half messages: one peer has a share, whatever its connections, a smaller one once half of all is
 * taken; all of them have a bound, and beyond it each has enough for what the network says all the
 * time. */
static void test_half_messages(void **state) {
    enum { MIB = 1024 * 1024 };
    (void)state;
    static const net_messages_events events = {.ended = on_ended};
    static const net_messages_protocol serving = {.id = "/never/1", .events = &events};
    enum { PEERS = 7 };
    static hostile peers[PEERS];
    cal_p2p *host =
        host_new(&(cal_p2p_limits){.frame_bytes_max = 8 * MIB, .frame_bytes_each_max = 5 * MIB});
    assert_int_equal(net_messages_serve(host, &serving), 0);
    for (unsigned i = 0; i < PEERS; i++) {
        hostile_start(&peers[i], host, i > 1 ? i : 1); /* two of them are one peer */
        peers[i].wire->deaf = true;
    }
    for (uint32_t i = 0; i < 10; i++) half_message(&peers[0], 1 + 2 * i, MIB - 4);
    assert_int_equal(stats_of(host).frame_bytes, 4 * MIB);
    assert_int_equal(stats_of(host).messages_refused, 6);
    for (uint32_t i = 0; i < 10; i++) half_message(&peers[1], 1 + 2 * i, MIB - 4);
    assert_int_equal(stats_of(host).frame_bytes, 4 * MIB);
    assert_int_equal(stats_of(host).messages_refused, 6 + 10);
    for (unsigned k = 2; k < PEERS; k++) { /* the last has what is sure */
        for (uint32_t i = 0; i < 2; i++) half_message(&peers[k], 1 + 2 * i, MIB - 4);
        assert_int_equal(stats_of(host).frame_bytes, (3 + k) * MIB);
        assert_int_equal(stats_of(host).messages_refused, 16 + (k - 1));
    }
    assert_true(stats_of(host).frame_bytes <= 8 * MIB + NET_FRAMES_SURE);
    pass(host, 11000); /* a request takes no longer */
    assert_int_equal(stats_of(host).frame_bytes, 0);
    host_drop(host);
    for (int i = 0; i < PEERS; i++) hostile_stop(&peers[i]);
}

/* One peer leaves all unread that may be: the others are heard all the same. */
static void test_unread_in_all(void **state) {
    (void)state;
    hostile h, honest;
    memset(&seen, 0, sizeof seen);
    cal_p2p *host = host_new(&(cal_p2p_limits){.unread_bytes_max = 1024 * 1024});
    cal_p2p_handle(host, &(cal_p2p_protocol){.id = "/deaf/1", .events = &deaf_events});
    cal_p2p_handle(host, &(cal_p2p_protocol){.id = "/count/1", .events = &counting});
    hostile_start(&h, host, 1);
    hostile_start(&honest, host, 2);
    h.wire->deaf = honest.wire->deaf = true;
    for (uint32_t i = 0; i < 8; i++) {
        hostile_open(&h, 1 + 2 * i, "/deaf/1");
        hostile_block(&h, 1 + 2 * i, 200 * 1024);
    }
    uint64_t full = stats_of(host).unread_bytes;
    assert_in_range(full, 1024 * 1024 - 65536, 1024 * 1024);
    uint64_t refused = stats_of(host).streams_refused;
    assert_true(refused >= 2);
    hostile_open(&honest, 1, "/count/1");
    hostile_block(&honest, 1, 200 * 1024);
    assert_int_equal(seen.bytes, 200 * 1024);
    hostile_open(&honest, 3, "/deaf/1");
    hostile_block(&honest, 3, 200 * 1024);
    assert_int_equal(stats_of(host).streams_refused, refused);
    assert_int_equal(stats_of(host).unread_bytes, full + 200 * 1024);
    hostile_open(&honest, 5, "/deaf/1");
    hostile_block(&honest, 5, 200 * 1024);
    assert_int_equal(stats_of(host).streams_refused, refused + 1);
    assert_true(stats_of(host).unread_bytes <= 1024 * 1024 + 2 * YAMUX_UNREAD_SURE);
    host_drop(host);
    hostile_stop(&h);
    hostile_stop(&honest);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_noise_messages),
        cmocka_unit_test(test_empty_handshakes),
        cmocka_unit_test(test_empty_frames),
        cmocka_unit_test(test_empty_names),
        cmocka_unit_test(test_empty_messages),
        cmocka_unit_test(test_identify_of_another),
        cmocka_unit_test(test_frames_that_end_it),
        cmocka_unit_test(test_frames_for_nobody),
        cmocka_unit_test(test_id_used_again),
        cmocka_unit_test(test_goes_away_again_and_again),
        cmocka_unit_test(test_dialer_played_back),
        cmocka_unit_test(test_listener_played_back),
        cmocka_unit_test(test_forged_identities),
        cmocka_unit_test(test_unsent_in_all),
        cmocka_unit_test(test_message_waits_for_others),
        cmocka_unit_test(test_long_answers),
        cmocka_unit_test(test_half_messages),
        cmocka_unit_test(test_unread_in_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
