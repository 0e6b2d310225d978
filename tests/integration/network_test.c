/* Nodes that find, keep and hear each other, through the public API: by a boot node's address,
 * after restarts, after a change of address; what they answer on the network's streams; their key.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <calimero/calimero.h>

#include "sync/message.h"

enum { WAIT_MS = 30000, STEP_MS = 5, TEXT_MAX = 700 };

static char root[] = "/tmp/network_test_XXXXXX";
static cal_error err;

#define OK(call)                                                                                   \
    do {                                                                                           \
        err.message[0] = 0;                                                                        \
        int code_ = (call);                                                                        \
        if (code_ != 0) fail_msg("%s: %s: %s", #call, cal_error_name(code_), err.message);         \
    } while (0)

typedef struct place {
    char home[200], listen[64], boot[TEXT_MAX];
    const char *listens[1], *boots[1];
    cal_node_options options;
    cal_node *node;
    cal_peer_id id;
} place;

static void place_start(place *p) {
    p->listens[0] = p->listen;
    p->boots[0] = p->boot;
    p->options = (cal_node_options){.home = p->home, .durability = CAL_NODE_DURABLE_PROCESS};
    p->options.network =
        (cal_network_options){.listen = p->listens, .listen_count = 1, .bootstrap = p->boots};
    p->options.network.bootstrap_count = p->boot[0] != 0;
    OK(cal_node_start(&p->options, &p->node, &err));
}

static void place_new(place *p, const char *name, const char *boot) {
    *p = (place){.node = NULL};
    snprintf(p->home, sizeof p->home, "%s/%s", root, name);
    snprintf(p->listen, sizeof p->listen, "/ip4/127.0.0.1/tcp/0");
    snprintf(p->boot, sizeof p->boot, "%s", boot);
    cal_node_options options = {.home = p->home, .durability = CAL_NODE_DURABLE_PROCESS};
    cal_peer_id id;
    OK(cal_node_init(&options, &p->id, &err));
    place_start(p);
    cal_node_peer_id(p->node, &id);
    assert_true(cal_peer_id_equal(&id, &p->id));
}

/* --- asking a node's host on its loop --- */

typedef struct question {
    place *from;
    const cal_peer_id *about;
    char *text;
    bool yes;
} question;

static void ask_address(void *arg) {
    question *q = arg;
    cal_multiaddr address;
    cal_p2p *host = cal_node_p2p(q->from->node);
    assert_true(cal_p2p_addresses(host, &address, 1) >= 1);
    if (q->about) cal_multiaddr_set_peer(&address, q->about);
    cal_multiaddr_text(&address, q->text);
}
/* Where a node is reached, with its peer id. */
static void address_of(place *p, char ret_text[TEXT_MAX]) {
    question q = {.from = p, .about = &p->id, .text = ret_text};
    cal_node_run(p->node, ask_address, &q);
}

static void ask_connected(void *arg) {
    question *q = arg;
    q->yes = cal_p2p_is_connected(cal_node_p2p(q->from->node), q->about);
}
static bool sees(place *from, const cal_peer_id *peer) {
    question q = {.from = from, .about = peer};
    cal_node_run(from->node, ask_connected, &q);
    return q.yes;
}
/* Events of other threads' loops: looked for often, for a bounded time. */
#define UNTIL(holds)                                                                               \
    do {                                                                                           \
        int left_ = WAIT_MS / STEP_MS;                                                             \
        while (!(holds) && left_-- > 0) usleep(STEP_MS * 1000);                                    \
        if (left_ < 0) fail_msg("not within %d s: %s", WAIT_MS / 1000, #holds);                    \
    } while (0)
static void meet(place *a, place *b) { UNTIL(sees(a, &b->id) && sees(b, &a->id)); }

/* --- tests --- */

/* Over IPv6, where this machine has it. */
static void test_ip6(void **state) {
    (void)state;
    place a, b;
    char address[TEXT_MAX];
    place_new(&a, "six-a", "");
    cal_node_stop(a.node);
    snprintf(a.listen, sizeof a.listen, "/ip6/::1/tcp/0");
    a.options.network.listen = a.listens;
    if (cal_node_start(&a.options, &a.node, &err) != 0) {
        print_message("skipped: no IPv6 here (%s)\n", err.message);
        skip();
    }
    address_of(&a, address);
    assert_memory_equal(address, "/ip6/::1/tcp/", 13);
    place_new(&b, "six-b", address);
    meet(&a, &b);
    cal_node_stop(a.node);
    cal_node_stop(b.node);
}

/* One has the other's address. Each restarts at the same address; then the one whose address is in
 * the list comes back elsewhere, and finds the other through what it remembers. */
static void test_stay_connected(void **state) {
    (void)state;
    place a, b;
    char address[TEXT_MAX], again[TEXT_MAX];
    place_new(&a, "stay-a", "");
    address_of(&a, address);
    place_new(&b, "stay-b", address);
    meet(&a, &b);

    cal_node_stop(b.node);
    UNTIL(!sees(&a, &b.id));
    place_start(&b);
    meet(&a, &b);

    cal_node_stop(a.node);
    *strstr(address, "/p2p/") = 0;
    snprintf(a.listen, sizeof a.listen, "%s", address); /* the port it had */
    place_start(&a);
    meet(&a, &b);

    cal_node_stop(a.node);
    snprintf(a.listen, sizeof a.listen, "/ip4/127.0.0.1/tcp/0");
    place_start(&a);
    address_of(&a, again);
    assert_null(strstr(again, address));
    meet(&a, &b);
    cal_node_stop(a.node);
    cal_node_stop(b.node);
}

/* --- topics --- */

typedef struct gathering {
    place *from;
    const char *topic, *words;
    size_t peers, heard_topics;
    bool hears;
} gathering;

static void note_topic(void *user, const char *topic, size_t peers, size_t mesh) {
    gathering *g = user;
    (void)mesh;
    g->heard_topics++;
    if (strcmp(topic, g->topic) != 0) return;
    g->hears = true;
    g->peers = peers;
}
static void ask_topic(void *arg) {
    gathering *g = arg;
    g->hears = false;
    g->peers = g->heard_topics = 0;
    cal_p2p_topics(cal_node_p2p(g->from->node), note_topic, g);
}
static void subscribe(void *arg) {
    gathering *g = arg;
    OK(cal_p2p_subscribe(cal_node_p2p(g->from->node), g->topic, false, &err));
}
static void publish(void *arg) {
    gathering *g = arg;
    OK(cal_p2p_publish(cal_node_p2p(g->from->node), g->topic, g->words, strlen(g->words), &g->peers,
                       &err));
}
static bool has_audience(gathering *g) {
    cal_node_run(g->from->node, ask_topic, g);
    return g->peers == 1;
}
static uint64_t delivered_at(place *p);
static void ask_delivered(void *arg) {
    struct {
        place *p;
        uint64_t count;
    } *q = arg;
    cal_p2p_gossip_stats stats;
    assert_int_equal(cal_p2p_gossip_stats_get(cal_node_p2p(q->p->node), &stats), 0);
    q->count = stats.delivered;
}
static uint64_t delivered_at(place *p) {
    struct {
        place *p;
        uint64_t count;
    } q = {p, 0};
    cal_node_run(p->node, ask_delivered, &q);
    return q.count;
}

static void test_hear_each_other(void **state) {
    (void)state;
    place a, b;
    char address[TEXT_MAX];
    place_new(&a, "hear-a", "");
    address_of(&a, address);
    place_new(&b, "hear-b", address);
    gathering at_a = {&a, "ns/test", "from a", 0, 0, false},
              at_b = {&b, "ns/test", "from b", 0, 0, false};
    cal_node_run(a.node, subscribe, &at_a);
    cal_node_run(b.node, subscribe, &at_b);
    UNTIL(has_audience(&at_a) && has_audience(&at_b));
    cal_node_run(a.node, publish, &at_a);
    assert_int_equal(at_a.peers, 1);
    UNTIL(delivered_at(&b) == 1);
    cal_node_run(b.node, publish, &at_b);
    UNTIL(delivered_at(&a) == 1);
    cal_node_stop(a.node);
    cal_node_stop(b.node);
}

/* --- the network's streams --- */

typedef struct request {
    place *from, *to;
    const char *protocol;
    uint8_t frame[512], answer[64];
    size_t frame_len, answer_len, wanted;
    atomic_bool over;
    int reason;
} request;

static void on_answer(void *user, cal_p2p_stream *stream) {
    request *r = user;
    const uint8_t *bytes;
    for (size_t len; (len = cal_p2p_stream_peek(stream, &bytes)) > 0;) {
        assert_true(r->answer_len + len <= sizeof r->answer);
        memcpy(r->answer + r->answer_len, bytes, len);
        r->answer_len += len;
        cal_p2p_stream_consume(stream, len);
    }
    if (r->answer_len >= r->wanted) cal_p2p_stream_finish(stream);
}
static void on_over(void *user, cal_p2p_stream *stream, int reason) {
    request *r = user;
    (void)stream;
    r->reason = reason;
    r->over = true;
}
static const cal_p2p_stream_events request_events = {.readable = on_answer, .closed = on_over};

static void send_request(void *arg) {
    request *r = arg;
    cal_p2p_stream *stream;
    OK(cal_p2p_open(cal_node_p2p(r->from->node), &r->to->id, &r->protocol, 1, &request_events, r,
                    &stream));
    assert_int_equal(cal_p2p_stream_write(stream, r->frame, r->frame_len), r->frame_len);
}
static void ask_over(void *arg) { (void)arg; /* what the loop wrote is seen after this */ }
static bool is_over(request *r) {
    cal_node_run(r->from->node, ask_over, NULL);
    return r->over;
}

enum { REFUSAL_LEN = 5 };
#define ID "4vJ9JU1bJJE96FWSJKvHsmmFADCg4gpZQff4P3bkLKi" /* 01 in each byte */

static void test_streams_are_answered(void **state) {
    (void)state;
    place a, b;
    char address[TEXT_MAX];
    place_new(&a, "stream-a", "");
    address_of(&a, address);
    place_new(&b, "stream-b", address);
    meet(&a, &b);
    /* Heads of a context that nobody knows, without a proof; twice on one stream: OpaqueError. */
    const sync_message init = {.kind = SYNC_INIT,
                               .init = {.context = {{1}},
                                        .request = {.kind = SYNC_HEADS, .context = {{1}}},
                                        .has_proof = true}};
    cal_buffer bytes;
    request sync = {
        .from = &b, .to = &a, .protocol = "/calimero/stream/0.0.2", .wanted = 2 * REFUSAL_LEN};
    cal_buffer_init(&bytes, sizeof sync.frame);
    for (int i = 0; i < 2; i++) {
        size_t at = bytes.len;
        cal_buffer_append(&bytes, "\0\0\0", 4);
        assert_int_equal(sync_message_write(&init, &bytes), 0);
        bytes.data[at + 3] = (uint8_t)(bytes.len - at - 4);
    }
    sync.frame_len = bytes.len;
    memcpy(sync.frame, bytes.data, bytes.len);
    cal_buffer_deinit(&bytes);
    cal_node_run(b.node, send_request, &sync);
    UNTIL(is_over(&sync));
    assert_int_equal(sync.reason, 0);
    assert_int_equal(sync.answer_len, 2 * REFUSAL_LEN);
    for (size_t i = 0; i < 2; i++)
        assert_memory_equal(sync.answer + i * REFUSAL_LEN, "\0\0\0\1\2", REFUSAL_LEN);
    /* A context that nobody knows: what those hear for whom a blob is not here. */
    static const char no_blob[] = "\0\0\0\x1b{\"found\":false,\"size\":null}";
    static const char ask[] =
        "\0\0\0\x80{\"blob_id\":\"" ID "\",\"context_id\":\"" ID "\",\"auth\":null}";
    request blob = {.from = &a,
                    .to = &b,
                    .protocol = "/calimero/blob/0.0.2",
                    .frame_len = sizeof ask - 1,
                    .wanted = sizeof no_blob - 1};
    memcpy(blob.frame, ask, sizeof ask - 1);
    cal_node_run(a.node, send_request, &blob);
    UNTIL(is_over(&blob));
    assert_int_equal(blob.reason, 0);
    assert_int_equal(blob.answer_len, sizeof no_blob - 1);
    assert_memory_equal(blob.answer, no_blob, sizeof no_blob - 1);
    /* What is no request is not answered. */
    static const char *const protocols[] = {"/calimero/blob/0.0.2", "/calimero/stream/0.0.2"};
    for (size_t i = 0; i < 2; i++) {
        request nonsense = {.from = &a,
                            .to = &b,
                            .protocol = protocols[i],
                            .frame = {0, 0, 0, 2, '{', '}'},
                            .frame_len = 6,
                            .wanted = 1};
        cal_node_run(a.node, send_request, &nonsense);
        UNTIL(is_over(&nonsense));
        assert_int_equal(nonsense.reason, CAL_ECANCELED);
        assert_int_equal(nonsense.answer_len, 0);
    }
    cal_sync_stats stats;
    cal_sync_stats_get(a.node, &stats);
    assert_int_equal(stats.requests_declined, 2);
    cal_sync_stats_get(b.node, &stats);
    assert_int_equal(stats.blobs_refused, 1);
    assert_int_equal(stats.malformed, 1);
    cal_node_stop(a.node);
    cal_node_stop(b.node);
}

/* --- addresses and keys --- */

static void test_addresses(void **state) {
    (void)state;
    place a, b;
    char address[TEXT_MAX];
    place_new(&a, "address-a", "");
    address_of(&a, address);
    *strstr(address, "/p2p/") = 0;
    const char *const listen[] = {address};
    snprintf(b.home, sizeof b.home, "%s/address-b", root);
    cal_node_options options = {.home = b.home};
    OK(cal_node_init(&options, NULL, &err));
    options.network = (cal_network_options){.listen = listen, .listen_count = 1};
    assert_int_equal(cal_node_start(&options, &b.node, &err), CAL_EIO);
    assert_non_null(strstr(err.message, address)); /* and it says which */
    /* Boot nodes that TCP cannot dial are left out, what is no address is refused. */
    const char *boot[] = {"/ip4/203.0.113.7/udp/4001/quic-v1", "nonsense"};
    options.network = (cal_network_options){.bootstrap = boot, .bootstrap_count = 1};
    cal_log_set_level(CAL_LOG_ERROR);
    OK(cal_node_start(&options, &b.node, &err));
    cal_node_stop(b.node);
    options.network.bootstrap_count = 2;
    assert_int_equal(cal_node_start(&options, &b.node, &err), CAL_EINVAL);
    assert_non_null(strstr(err.message, "nonsense"));
    cal_node_stop(a.node);
}

enum { LEARNED = 1100 }; /* more than a host takes back at its start (known_peers_max) */

static void learn_many(void *arg) {
    cal_multiaddr address;
    OK(cal_multiaddr_parse("/ip4/127.0.0.1/tcp/1", &address)); /* nobody there */
    for (unsigned i = 0; i < LEARNED; i++) {
        cal_peer_id peer;
        cal_peer_id_of_key((const uint8_t[32]){(uint8_t)i, (uint8_t)(i >> 8), 1}, &peer);
        OK(cal_p2p_learn(cal_node_p2p(((place *)arg)->node), &peer, &address, 1));
    }
}

static void note_left_out(void *user, cal_log_level level, const char *area, const char *message) {
    (void)level, (void)area;
    *(int *)user += strstr(message, "left out") != NULL;
}

/* Known peers for which there is no room are left out once, not at each start. */
static void test_too_many_known_peers(void **state) {
    (void)state;
    place a;
    int left_out = 0;
    place_new(&a, "known", "");
    cal_node_run(a.node, learn_many, &a);
    cal_node_stop(a.node);
    cal_log_set_level(CAL_LOG_WARN);
    cal_log_set_sink(note_left_out, &left_out);
    place_start(&a);
    cal_node_stop(a.node);
    assert_int_equal(left_out, 1);
    place_start(&a);
    cal_node_stop(a.node);
    assert_int_equal(left_out, 1);
    cal_log_set_sink(NULL, NULL);
}

/* A key of another implementation becomes the node's own, and stays. */
static void test_keypair(void **state) {
    (void)state;
    place a = {.node = NULL};
    static const char seed_one[] = /* protobuf of the seed 01 02 .. 20, in base58 */
        "23jhTaZr634ThMawuz8v8EmFYCtYqC7TNzgta8dDbPMAzpW8bMFbj51MLD2JwZvS1nnLoD9PkLcBoL8KeksX1mHFSm"
        "4yR";
    snprintf(a.home, sizeof a.home, "%s/keypair", root);
    cal_node_options options = {.home = a.home};
    cal_peer_id made, taken;
    char text[CAL_PEER_ID_TEXT_MAX];
    OK(cal_node_init(&options, &made, &err));
    options.network.keypair = "not a key";
    assert_int_equal(cal_node_start(&options, &a.node, &err), CAL_EINVAL);
    options.network.keypair = seed_one;
    options.network.peer_id = "12D3KooWR5V4zmisVtVdGE6i8jfFwtgRNq5t8eDGxfckKuhXu7Eh";
    assert_int_equal(cal_node_start(&options, &a.node, &err), CAL_EINVAL);
    options.network.peer_id = NULL;
    OK(cal_node_start(&options, &a.node, &err));
    cal_node_peer_id(a.node, &taken);
    assert_false(cal_peer_id_equal(&taken, &made));
    cal_peer_id_text(&taken, text);
    cal_node_stop(a.node);
    options.network.keypair = NULL; /* kept in the store */
    options.network.peer_id = text;
    OK(cal_node_start(&options, &a.node, &err));
    cal_node_peer_id(a.node, &made);
    assert_true(cal_peer_id_equal(&taken, &made));
    cal_node_stop(a.node);
}

static int make_root(void **state) {
    (void)state;
    return mkdtemp(root) ? 0 : -1;
}
static int remove_root(void **state) {
    (void)state;
    char command[300];
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ip6),
        cmocka_unit_test(test_stay_connected),
        cmocka_unit_test(test_hear_each_other),
        cmocka_unit_test(test_streams_are_answered),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_too_many_known_peers),
        cmocka_unit_test(test_keypair),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
