/* Two hosts over real sockets on one loop: connections, streams, limits. */
#include "net/testing.h"

enum { LARGE = 64 * 1024 * 1024, SMALL_STREAMS = 1000, CHUNK = 64 * 1024 };

/* --- a peer that sends LARGE bytes and hashes what it gets --- */

typedef struct transfer {
    cal_sha256_stream sent_hash, got_hash;
    uint8_t sent[32], got[32];
    size_t to_send, received;
    uint64_t random;
    uint8_t chunk[CHUNK];
    size_t chunk_at, chunk_len;
    bool finished, ended, closed;
    int reason;
} transfer;

static void transfer_init(transfer *t, uint64_t seed) {
    memset(t, 0, sizeof *t);
    t->to_send = LARGE;
    t->random = seed;
    cal_sha256_begin(&t->sent_hash);
    cal_sha256_begin(&t->got_hash);
}

static void transfer_more(void *user, cal_p2p_stream *stream) {
    transfer *t = user;
    while (!t->finished) {
        if (t->chunk_at == t->chunk_len) {
            t->chunk_len = t->to_send < CHUNK ? t->to_send : CHUNK;
            t->chunk_at = 0;
            t->to_send -= t->chunk_len;
            if (t->chunk_len == 0) break;
            for (size_t i = 0; i < t->chunk_len; i += 8) {
                t->random = t->random * 6364136223846793005u + 1442695040888963407u;
                memcpy(t->chunk + i, &t->random, 8);
            }
            cal_sha256_feed(&t->sent_hash, cal_slice_of(t->chunk, t->chunk_len));
        }
        size_t n = cal_p2p_stream_write(stream, t->chunk + t->chunk_at, t->chunk_len - t->chunk_at);
        t->chunk_at += n;
        if (t->chunk_at < t->chunk_len) return;
    }
    if (t->finished) return;
    t->finished = true;
    cal_sha256_end(&t->sent_hash, t->sent);
    cal_p2p_stream_finish(stream);
}

static void transfer_read(void *user, cal_p2p_stream *stream) {
    transfer *t = user;
    const uint8_t *bytes;
    size_t len;
    while ((len = cal_p2p_stream_peek(stream, &bytes)) > 0) {
        cal_sha256_feed(&t->got_hash, cal_slice_of(bytes, len));
        t->received += len;
        cal_p2p_stream_consume(stream, len);
    }
    if (cal_p2p_stream_ended(stream) && !t->ended) {
        t->ended = true;
        cal_sha256_end(&t->got_hash, t->got);
    }
}

static void transfer_closed(void *user, cal_p2p_stream *stream, int reason) {
    transfer *t = user;
    (void)stream;
    t->closed = true;
    t->reason = reason;
}

static const cal_p2p_stream_events transfer_events = {transfer_more, transfer_read, transfer_more,
                                                      transfer_closed};

static bool both_closed(void *user) {
    transfer **pair = user;
    return pair[0]->closed && pair[1]->closed;
}

static void test_large_both_ways(void **state) {
    (void)state;
    testing_net net;
    testing_net_init(&net);
    cal_p2p *a = testing_host(&net, NULL), *b = testing_host(&net, NULL);
    transfer *mine = test_malloc(sizeof *mine), *theirs = test_malloc(sizeof *theirs);
    transfer_init(mine, 1);
    transfer_init(theirs, 2);
    const char *const id[] = {"/large/1"};
    assert_int_equal(
        cal_p2p_handle(
            b, &(cal_p2p_protocol){.id = id[0], .events = &transfer_events, .user = theirs}),
        0);
    testing_connect(&net, a, b);
    cal_peer_id b_id;
    cal_p2p_stream *stream;
    cal_p2p_id(b, &b_id);
    assert_int_equal(cal_p2p_open(a, &b_id, id, 1, &transfer_events, mine, &stream), 0);
    uint64_t start = uv_hrtime();
    testing_until(&net, both_closed, (transfer *[]){mine, theirs});
    print_message("%d MiB each way: %.0f MB/s in all\n", LARGE >> 20,
                  2.0 * LARGE * 1e3 / (double)(uv_hrtime() - start));
    assert_int_equal(mine->reason, 0);
    assert_int_equal(theirs->reason, 0);
    assert_int_equal(mine->received, LARGE);
    assert_int_equal(theirs->received, LARGE);
    assert_memory_equal(mine->sent, theirs->got, 32);
    assert_memory_equal(theirs->sent, mine->got, 32);
    test_free(mine);
    test_free(theirs);
    testing_net_deinit(&net);
}

/* --- 1,000 streams, each says its number and hears it again --- */

static void echo_read(void *user, cal_p2p_stream *stream) {
    const uint8_t *bytes;
    size_t len;
    (void)user;
    while ((len = cal_p2p_stream_peek(stream, &bytes)) > 0) {
        size_t n = cal_p2p_stream_write(stream, bytes, len);
        cal_p2p_stream_consume(stream, n);
        if (n < len) return;
    }
    if (cal_p2p_stream_ended(stream)) cal_p2p_stream_finish(stream);
}
static const cal_p2p_stream_events echo_events = {.readable = echo_read, .writable = echo_read};

struct many {
    cal_p2p *host;
    cal_peer_id peer;
    int opened, closed, good, bad;
};

static void many_next(struct many *many);

static void many_read(void *user, cal_p2p_stream *stream) {
    struct many *many = user;
    const uint8_t *bytes;
    size_t len = cal_p2p_stream_peek(stream, &bytes);
    if (len == 5 && memcmp(bytes, "hello", 5) == 0) many->good++;
    cal_p2p_stream_consume(stream, len);
}
static void many_closed(void *user, cal_p2p_stream *stream, int reason) {
    struct many *many = user;
    (void)stream;
    many->closed++;
    many->bad += reason != 0;
    if (many->opened < SMALL_STREAMS) many_next(many);
}
static const cal_p2p_stream_events many_events = {.readable = many_read, .closed = many_closed};

static void many_next(struct many *many) {
    const char *const id[] = {"/nobody/1", "/echo/1"};
    cal_p2p_stream *stream;
    assert_int_equal(cal_p2p_open(many->host, &many->peer, id, 2, &many_events, many, &stream), 0);
    assert_int_equal(cal_p2p_stream_write(stream, "hello", 5), 5);
    cal_p2p_stream_finish(stream);
    many->opened++;
}
static bool many_done(void *user) { return ((struct many *)user)->closed == SMALL_STREAMS; }

static void test_many_streams(void **state) {
    (void)state;
    testing_net net;
    testing_net_init(&net);
    cal_p2p *a = testing_host(&net, NULL), *b = testing_host(&net, NULL);
    cal_p2p_handle(b, &(cal_p2p_protocol){.id = "/echo/1", .events = &echo_events});
    testing_connect(&net, a, b);
    struct many many = {.host = a};
    cal_p2p_id(b, &many.peer);
    for (int i = 0; i < 50; i++) many_next(&many);
    testing_until(&net, many_done, &many);
    assert_int_equal(many.good, SMALL_STREAMS);
    assert_int_equal(many.bad, 0);
    testing_net_deinit(&net);
}

/* --- who is there --- */

struct seen {
    int connected, disconnected, identified;
    bool speaks_echo;
    char agent[64];
};
static void on_connected(void *user, const cal_peer_id *peer) {
    (void)peer;
    ((struct seen *)user)->connected++;
}
static void on_disconnected(void *user, const cal_peer_id *peer) {
    (void)peer;
    ((struct seen *)user)->disconnected++;
}
static void on_identified(void *user, const cal_p2p_peer *peer) {
    struct seen *seen = user;
    seen->identified++;
    snprintf(seen->agent, sizeof seen->agent, "%s", peer->agent);
    seen->speaks_echo = false;
    for (size_t i = 0; i < peer->protocol_count; i++)
        if (strcmp(peer->protocols[i], "/echo/1") == 0) seen->speaks_echo = true;
}
static const cal_p2p_peer_events seen_events = {on_connected, on_disconnected, on_identified};

static bool is_identified(void *user) { return ((struct seen *)user)->identified > 0; }
static bool is_disconnected(void *user) { return ((struct seen *)user)->disconnected > 0; }
static bool hears_echo(void *user) { return ((struct seen *)user)->speaks_echo; }

static void test_identify_and_push(void **state) {
    (void)state;
    testing_net net;
    testing_net_init(&net);
    cal_p2p *a = testing_host(&net, NULL);
    cal_p2p *b = testing_host(&net, &(cal_p2p_options){.agent = "bee/1"});
    struct seen seen = {0};
    assert_int_equal(cal_p2p_observe(a, &seen_events, &seen), 0);
    testing_connect(&net, a, b);
    testing_until(&net, is_identified, &seen);
    assert_int_equal(seen.connected, 1);
    assert_string_equal(seen.agent, "bee/1");
    assert_false(seen.speaks_echo);
    /* A new protocol is pushed once b knows that a takes pushes. */
    struct seen other = {0};
    cal_p2p_observe(b, &seen_events, &other);
    cal_peer_id a_id, b_id;
    cal_p2p_id(a, &a_id);
    cal_p2p_id(b, &b_id);
    while (!peer_find(b, &a_id)->identified) uv_run(&net.loop, UV_RUN_ONCE);
    cal_p2p_handle(b, &(cal_p2p_protocol){.id = "/echo/1", .events = &echo_events});
    testing_until(&net, hears_echo, &seen);
    /* The listener learned where to find the dialer again. */
    cal_multiaddr known[4], listens;
    assert_true(cal_p2p_known(b, &a_id, known, 4) >= 1);
    cal_p2p_addresses(a, &listens, 1);
    assert_true(cal_multiaddr_equal(&known[0], &listens));
    cal_p2p_disconnect(a, &b_id);
    testing_until(&net, is_disconnected, &other);
    assert_false(cal_p2p_is_connected(a, &b_id));
    testing_net_deinit(&net);
}

struct answer {
    bool told;
    int code;
    char message[200];
};
static void on_answer(void *user, const cal_error *err, const cal_peer_id *peer) {
    struct answer *answer = user;
    (void)peer;
    answer->told = true;
    answer->code = err ? err->code : 0;
    if (err) snprintf(answer->message, sizeof answer->message, "%s", err->message);
}
static bool is_told(void *user) { return ((struct answer *)user)->told; }

static void test_wrong_peer_refused(void **state) {
    (void)state;
    testing_net net;
    testing_net_init(&net);
    cal_p2p *a = testing_host(&net, NULL), *b = testing_host(&net, NULL);
    cal_peer_id stranger;
    cal_multiaddr address;
    struct answer answer = {0};
    cal_peer_id_of_key((const uint8_t[32]){1}, &stranger);
    testing_address(b, &address);
    cal_multiaddr_set_peer(&address, &stranger);
    cal_p2p_connect(a, &stranger, &address, 1, on_answer, &answer);
    assert_false(answer.told); /* no callback inside the call */
    testing_until(&net, is_told, &answer);
    assert_int_equal(answer.code, CAL_EVERIFY);
    cal_p2p_stats stats;
    cal_p2p_stats_get(a, &stats);
    assert_int_equal(stats.identities_unexpected, 1);
    assert_int_equal(stats.connections, 0);
    testing_net_deinit(&net);
}

static void test_nobody_there(void **state) {
    (void)state;
    testing_net net;
    testing_net_init(&net);
    cal_p2p *a = testing_host(&net, NULL), *b = testing_host(&net, NULL);
    cal_multiaddr address;
    struct answer answer = {0};
    testing_address(b, &address);
    testing_drop(&net, 1);
    cal_p2p_connect(a, NULL, &address, 1, on_answer, &answer);
    testing_until(&net, is_told, &answer);
    assert_int_equal(answer.code, CAL_EUNREACHABLE);
    /* And oneself. */
    answer.told = false;
    testing_address(a, &address);
    cal_multiaddr_set_peer(&address, NULL);
    cal_p2p_connect(a, NULL, &address, 1, on_answer, &answer);
    testing_until(&net, is_told, &answer);
    assert_int_equal(answer.code, CAL_EINVAL);
    testing_net_deinit(&net);
}

static bool one_each(void *user) {
    struct testing_both *both = user;
    return testing_see_each_other(user) && both->a->connection_count == 1 &&
           both->b->connection_count == 1 && cal_list_empty(&both->a->pending) &&
           cal_list_empty(&both->b->pending);
}

static void test_simultaneous_dial_keeps_one(void **state) {
    (void)state;
    testing_net net;
    testing_net_init(&net);
    cal_p2p *a = testing_host(&net, NULL), *b = testing_host(&net, NULL);
    cal_multiaddr to_a, to_b;
    testing_address(a, &to_a);
    testing_address(b, &to_b);
    cal_p2p_connect(a, NULL, &to_b, 1, NULL, NULL);
    cal_p2p_connect(b, NULL, &to_a, 1, NULL, NULL);
    testing_until(&net, one_each, &(struct testing_both){a, b});
    testing_net_deinit(&net);
}

static bool kept_again(void *user) { return testing_see_each_other(user); }

static void test_kept_peer_is_dialled_again(void **state) {
    (void)state;
    testing_net net;
    testing_net_init(&net);
    cal_p2p *a = testing_host(&net, NULL), *b = testing_host(&net, NULL);
    testing_connect(&net, a, b);
    cal_peer_id b_id;
    cal_p2p_id(b, &b_id);
    cal_p2p_keep(a, &b_id, true);
    connection_close(peer_active(peer_find(a, &b_id)), CAL_EIO);
    assert_false(cal_p2p_is_connected(a, &b_id));
    testing_until(&net, kept_again, &(struct testing_both){a, b});
    testing_net_deinit(&net);
}

/* A bootstrap address that is a name and says no id: whoever answers is kept. */
/* --- nothing is told inside the call that causes it --- */

typedef struct told {
    int connected, disconnected, closed;
} told;

static void told_connected(void *user, const cal_error *err, const cal_peer_id *peer) {
    (void)err, (void)peer;
    ((told *)user)->connected++;
}
static void told_disconnected(void *user, const cal_peer_id *peer) {
    (void)peer;
    ((told *)user)->disconnected++;
}
static void told_closed(void *user, cal_p2p_stream *stream, int reason) {
    (void)stream;
    assert_int_equal(reason, CAL_ECANCELED);
    ((told *)user)->closed++;
}
static bool all_told(void *user) {
    const told *t = user;
    return t->connected == 1 && t->disconnected == 1 && t->closed == 1;
}

static void test_nothing_is_told_inside_a_call(void **state) {
    (void)state;
    static const cal_p2p_stream_events stream_events = {.closed = told_closed};
    static const cal_p2p_peer_events peer_events = {.disconnected = told_disconnected};
    const char *const id[] = {"/nobody/1"};
    testing_net net;
    told t = {0};
    cal_peer_id peer;
    cal_p2p_stream *stream;
    testing_net_init(&net);
    cal_p2p *a = testing_host(&net, NULL), *b = testing_host(&net, NULL);
    cal_p2p_observe(a, &peer_events, &t);
    testing_connect(&net, a, b);
    cal_p2p_id(b, &peer);
    assert_int_equal(cal_p2p_open(a, &peer, id, 1, &stream_events, &t, &stream), 0);
    cal_p2p_stream_reset(stream);
    cal_p2p_connect(a, &peer, NULL, 0, told_connected, &t);
    cal_p2p_disconnect(a, &peer);
    assert_int_equal(t.connected + t.disconnected + t.closed, 0);
    testing_until(&net, all_told, &t);
    testing_net_deinit(&net);
}

/* --- a machine whose addresses change --- */

static struct {
    bool moved;
    size_t (*real)(void *user, const net_endpoint *at, net_endpoint *ret_endpoints, size_t max);
} machine;

/* Once it has moved, 127.0.0.1 is not its address any more. */
static size_t changing_interfaces(void *user, const net_endpoint *at, net_endpoint *ret_endpoints,
                                  size_t max) {
    if (!machine.moved || at->address.len != 4) return machine.real(user, at, ret_endpoints, max);
    ret_endpoints[0] = (net_endpoint){.address = {{192, 0, 2, 7}, 4}, .port = at->port};
    return 1;
}

static bool connected_anew(void *user) {
    struct testing_both *both = user;
    cal_p2p_stats stats;
    cal_p2p_stats_get(both->a, &stats);
    return stats.connections_out >= 2 && testing_see_each_other(user);
}

static void test_moved_machine_connects_anew(void **state) {
    (void)state;
    testing_net net;
    testing_net_init(&net);
    const char *const anywhere[] = {"/ip4/0.0.0.0/tcp/0"};
    cal_p2p *a = testing_host(&net, &(cal_p2p_options){.listen = anywhere, .listen_count = 1});
    cal_p2p *b = testing_host(&net, NULL);
    cal_peer_id id;
    memset(&machine, 0, sizeof machine);
    machine.real = net.transports[0]->interfaces;
    net.transports[0]->interfaces = changing_interfaces;
    testing_connect(&net, a, b);
    cal_p2p_id(b, &id);
    cal_p2p_keep(a, &id, true);
    machine.moved = true;
    testing_until(&net, connected_anew, &(struct testing_both){a, b});
    machine.moved = false;
    testing_net_deinit(&net);
}

static void test_bootstrap_by_name(void **state) {
    (void)state;
    testing_net net;
    testing_net_init(&net);
    cal_p2p *b = testing_host(&net, NULL);
    char text[64];
    snprintf(text, sizeof text, "/dns4/localhost/tcp/%u", b->listens[0].port);
    const char *const bootstrap[] = {text};
    cal_p2p *a =
        testing_host(&net, &(cal_p2p_options){.bootstrap = bootstrap, .bootstrap_count = 1});
    testing_until(&net, kept_again, &(struct testing_both){a, b});
    cal_peer_id b_id;
    cal_p2p_id(b, &b_id);
    while (!peer_find(a, &b_id)->keep) uv_run(&net.loop, UV_RUN_ONCE);
    /* Names that do not resolve, and none that TCP can dial, are answered. */
    struct answer answer = {0};
    cal_multiaddr address;
    assert_int_equal(cal_multiaddr_parse("/dns4/nobody.invalid/tcp/1", &address), 0);
    cal_p2p_connect(a, NULL, &address, 1, on_answer, &answer);
    testing_until(&net, is_told, &answer);
    assert_int_equal(answer.code, CAL_EUNREACHABLE);
    answer.told = false;
    assert_int_equal(cal_multiaddr_parse("/ip4/127.0.0.1/udp/1/quic-v1", &address), 0);
    cal_p2p_connect(a, NULL, &address, 1, on_answer, &answer);
    testing_until(&net, is_told, &answer);
    assert_int_equal(answer.code, CAL_EUNREACHABLE);
    testing_net_deinit(&net);
}

static bool gone_idle(void *user) {
    cal_p2p_stats stats;
    cal_p2p_stats_get(user, &stats);
    return stats.connections == 0 && stats.connections_idle == 1;
}

static void test_idle_connection_closes(void **state) {
    (void)state;
    testing_net net;
    testing_net_init(&net);
    cal_p2p *a = testing_host(&net, &(cal_p2p_options){.limits = {.idle_timeout_ms = 100}});
    cal_p2p *b = testing_host(&net, NULL);
    testing_connect(&net, a, b);
    testing_until(&net, gone_idle, a);
    testing_net_deinit(&net);
}

static bool measured(void *user) {
    struct testing_both *both = user;
    cal_peer_id b;
    cal_p2p_id(both->b, &b);
    return peer_find(both->a, &b)->rtt_ns > 0;
}

static void test_ping_measures(void **state) {
    (void)state;
    testing_net net;
    testing_net_init(&net);
    cal_p2p *a = testing_host(&net, NULL), *b = testing_host(&net, NULL);
    testing_connect(&net, a, b);
    testing_until(&net, measured, &(struct testing_both){a, b});
    testing_net_deinit(&net);
}

static void on_stopped(void *user) { *(bool *)user = true; }
static bool is_true(void *user) { return *(bool *)user; }

static void test_shutdown_says_goodbye(void **state) {
    (void)state;
    testing_net net;
    testing_net_init(&net);
    cal_p2p *a = testing_host(&net, NULL), *b = testing_host(&net, NULL);
    struct seen seen = {0};
    bool stopped = false;
    cal_p2p_observe(b, &seen_events, &seen);
    testing_connect(&net, a, b);
    net_host_shutdown(a, on_stopped, &stopped);
    assert_false(stopped);
    testing_until(&net, is_true, &stopped);
    testing_until(&net, is_disconnected, &seen);
    testing_net_deinit(&net);
}

static void stop_it(void *arg) { cal_p2p_stop(arg); }

static void count_post(void *arg) { ++*(int *)arg; }

struct poster {
    cal_p2p *host;
    int accepted, ran;
};
static void post_late(void *user, const cal_error *err, const cal_peer_id *peer) {
    struct poster *p = user;
    (void)peer;
    assert_int_equal(err ? err->code : 0, CAL_ECANCELED);
    p->accepted += cal_p2p_post(p->host, count_post, &p->ran) == 0;
}
static void dial_and_stop(void *arg) {
    struct poster *p = arg;
    cal_multiaddr address;
    assert_int_equal(cal_multiaddr_parse("/ip4/127.0.0.1/tcp/9", &address), 0);
    assert_int_equal(cal_p2p_connect(p->host, NULL, &address, 1, post_late, p), 0);
    cal_p2p_stop(p->host);
}

/* What cal_p2p_post took is run, also when it comes while the host stops, or never began. */
static void test_posts_are_run(void **state) {
    (void)state;
    struct poster p = {0};
    assert_int_equal(cal_p2p_new(&(cal_p2p_options){0}, &p.host, NULL), 0);
    assert_int_equal(cal_p2p_post(p.host, dial_and_stop, &p), 0);
    assert_int_equal(cal_p2p_run(p.host), 0);
    assert_int_equal(p.accepted, 1); /* told in the stop's last round */
    assert_int_equal(p.ran, 1);
    cal_p2p_free(p.host);
    p.ran = 0;
    assert_int_equal(cal_p2p_new(&(cal_p2p_options){0}, &p.host, NULL), 0);
    assert_int_equal(cal_p2p_post(p.host, count_post, &p.ran), 0);
    cal_p2p_free(p.host);
    assert_int_equal(p.ran, 1);
}

static void test_own_loop(void **state) {
    (void)state;
    cal_p2p *host;
    cal_error err;
    const char *const listen[] = {"/ip4/127.0.0.1/tcp/0"};
    cal_p2p_options options = {.listen = listen, .listen_count = 1};
    assert_int_equal(cal_p2p_new(&options, &host, &err), 0);
    /* Nothing that was started keeps the loop running once it is stopped. */
    assert_int_equal(cal_p2p_gossip_start(host, &(cal_p2p_gossip_options){0}), 0);
    assert_int_equal(cal_p2p_kad_start(host), 0);
    assert_int_equal(cal_p2p_mdns_start(host, &err), 0);
    assert_int_equal(cal_p2p_post(host, stop_it, host), 0);
    assert_int_equal(cal_p2p_run(host), 0);
    assert_int_equal(cal_p2p_post(host, stop_it, host), CAL_ESTATE); /* nobody would run it */
    cal_p2p_stop(host);
    cal_p2p_free(host);
    assert_int_equal(cal_p2p_new(&options, &host, &err), 0);
    cal_p2p_free(host);
    const char *const bad[] = {"/ip4/127.0.0.1/udp/4"};
    options.listen = bad;
    assert_int_equal(cal_p2p_new(&options, &host, &err), CAL_EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_identify_and_push),
        cmocka_unit_test(test_many_streams),
        cmocka_unit_test(test_large_both_ways),
        cmocka_unit_test(test_wrong_peer_refused),
        cmocka_unit_test(test_nobody_there),
        cmocka_unit_test(test_simultaneous_dial_keeps_one),
        cmocka_unit_test(test_kept_peer_is_dialled_again),
        cmocka_unit_test(test_nothing_is_told_inside_a_call),
        cmocka_unit_test(test_moved_machine_connects_anew),
        cmocka_unit_test(test_bootstrap_by_name),
        cmocka_unit_test(test_idle_connection_closes),
        cmocka_unit_test(test_ping_measures),
        cmocka_unit_test(test_shutdown_says_goodbye),
        cmocka_unit_test(test_posts_are_run),
        cmocka_unit_test(test_own_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
