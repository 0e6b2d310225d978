/* Whole hosts, 3 to 50 of them, over a simulated network in virtual time (net/sim): multistream,
 * Noise, Yamux, identify, ping, dialling and gossip, under loss, reordering, cuts in one or both
 * directions, partitions, crashes of processes and machines, restarts, moves to other addresses,
 * machines that stand still, and wall clocks that jump.
 *
 * What must hold (issue 4, section 3):
 *  - A message reaches every subscriber that has a live path from its author, from publishing until
 *    10 virtual seconds later: a chain of subscribers in which each two neighbours, all that time,
 *    both call the other connected (by a connection made at the address each has) and both know
 *    that the other hears the topic, while no direction between them is cut and TCP is not stalled
 *    (net_sim_stalled_until).
 *  - Who is connected in this way for 10 seconds knows what the other hears. (Not counted: see
 *    `unnoticed`.)
 *  - It is delivered once to each run of a node, on its topic, with its author.
 *  - When all cuts are mended and all nodes are up, the bootstrap connections are back within
 *    RETURN_NS (LONG_RETURN_NS after a long partition), and stay.
 *  - Honest hosts never find each other at fault, and stay within their bounds, also in bytes.
 *  - Where Kademlia runs (a fifth of the seeds), every search is answered once, and in the end,
 * among at most 20, everybody finds who holds something.
 *  - All say goodbye in time, and nothing is left.
 *  - The same seed gives the same run.
 * CAL_SIM_SEEDS=n runs n seeds (default 100), CAL_SIM_SEED=s repeats one. */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/error.h"
#include "net/gossip.h"
#include "net/sim/sim.h"
#include "seeds.h"

enum { SEEDS_DEFAULT = 100 };

enum {
    NODES_MAX = 50,
    TOPICS = 3,
    JUDGED = 2, /* the topic whose messages wait for a verdict */
    MESSAGES_MAX = 60,
    BOOTSTRAP_MAX = 6,
    SHELF_MAX = 64,
    RECORD_MAX = 2048,
    HAPPENINGS_MAX = 4096,
    SEARCHES_MAX = 128,
    KAD_NEAR = 20, /* peers that keep a record: all, where there are no more */
    PORT = 2428,
    MESSAGE_MAX = 64 * 1024,
    NARROW_MESSAGE_MAX = 4096,
};
#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)
#define HOUR (3600 * SECOND)
#define START (2 * SECOND)
#define QUIET (START + 8 * SECOND) /* before, nothing is published */
#define CHAOS_END (QUIET + 40 * SECOND)
#define OUTAGE_NS (25 * SECOND)       /* nothing but a long partition lasts longer */
#define LONG_OUTAGE_NS (110 * SECOND) /* than which that is shorter */
/* All are connected again after: three pings of 20 s until a half-open connection is found out,
 * and pauses between dials, each at most three times as long as what was tried before. */
#define RETURN_NS (90 * SECOND + 3 * OUTAGE_NS)
#define LONG_RETURN_NS (90 * SECOND + 3 * LONG_OUTAGE_NS)
/* Bytes that a node may hold, with its part of the network's buffers: its connections to some, and
 * the messages of the last seconds. */
#define NODE_BYTES_MAX (3u * 1024 * 1024)
#define GOODBYE_NS (5 * SECOND)
#define STREAMS_EACH 8 /* of a connection, when nothing is asked */
#define DEADLINE (10 * SECOND)
#define SEARCH_NS (60 * SECOND) /* to tell others what one holds, or to find it */
#define KNOWN_NS (10 * SECOND)
#define YOUNG_NS (4 * SECOND)

static const char *const topics[TOPICS] = {"ns/00", "ctx-one", "ctx-two"};

typedef struct sim sim;

typedef struct shelved {
    cal_peer_id peer;
    size_t len;
    uint8_t record[RECORD_MAX];
} shelved;

typedef struct node {
    sim *sim;
    int index;
    cal_sim *world;
    net_sim_machine *machine;
    cal_p2p *host; /* NULL: down */
    uint8_t seed[32];
    cal_peer_id id;
    char address[24];
    unsigned moves, incarnation;
    uint64_t moved_ns; /* to another address, while it was up */
    bool leaving;
    uint64_t frozen_until_ns;
    int bootstrap[BOOTSTRAP_MAX], bootstrap_count;
    bool hears[TOPICS];
    uint64_t subscribed[TOPICS]; /* since then; 0: not now */
    unsigned had[MESSAGES_MAX];  /* the incarnation that was given the message */
    uint64_t connected[NODES_MAX], knows[TOPICS][NODES_MAX]; /* of each other node; since then */
    /* Others whose run ended just after this node connected to it, unnoticed: their next run's
     * dial looks like a simultaneous one, and it may take three pings until that is used. */
    bool unnoticed[NODES_MAX];
    shelved shelf[SHELF_MAX];
    size_t shelf_count;
} node;

typedef enum kind {
    BEGIN,
    KILL,
    POWER_OFF,
    LEAVE,
    MOVE,
    CUT,
    MEND,
    TOGGLE,
    DISCONNECT,
    MEET,
    CLOCK,
    FREEZE,
    RESET,
    SEARCH,
    PUBLISH,
    CHECK,
    VERDICT,
} kind;

typedef struct happening {
    sim *sim;
    kind kind;
    int a, b;
    uint64_t ticket;
} happening;

typedef struct sent {
    int from, topic;
    uint64_t time;
    bool out;
    bool first[NODES_MAX]; /* connected nodes that the author knew to hear the topic */
} sent;

typedef struct search {
    node *n;
    unsigned incarnation, answers, found;
    uint64_t asked_ns;
} search;

struct sim {
    uint64_t seed;
    cal_sim *world;
    net_sim *net;
    int node_count, message_count;
    bool names, kad, shutting;
    size_t message_max; /* in narrow networks a large one takes seconds for each hop */
    search searches[SEARCHES_MAX];
    size_t search_count;
    node nodes[NODES_MAX];
    uint64_t cut_until[NODES_MAX][NODES_MAX]; /* unordered, a < b; UINT64_MAX: cut now */
    int cuts[NODES_MAX][NODES_MAX];
    sent messages[MESSAGES_MAX];
    happening happenings[HAPPENINGS_MAX];
    size_t happening_count, checked, delivered, streams_peak; /* of one connection */
    uint64_t mended_ns, return_ns, returned_ns;
    size_t bytes_before, bytes_peak; /* of each node */
};

static uint64_t now_of(const sim *s) { return net_sim_now(s->net); }

static void fail_sim(const sim *s, const char *what, int a, int b) {
    fprintf(stderr, "seed %llu at %.3f s: %s (%d, %d); repeat with CAL_SIM_SEED=%llu\n",
            (unsigned long long)s->seed, (double)now_of(s) / 1e9, what, a, b,
            (unsigned long long)s->seed);
    fail();
}

static uint64_t below(sim *s, uint64_t bound) { return cal_sim_random(s->world, bound); }
static bool chance(sim *s, unsigned percent) { return below(s, 100) < percent; }
static int any_node(sim *s) { return (int)below(s, (uint64_t)s->node_count); }

static void happen(void *user);

static void plan(sim *s, uint64_t at, happening what) {
    if (s->happening_count == HAPPENINGS_MAX) fail_sim(s, "too much to plan", 0, 0);
    happening *kept = &s->happenings[s->happening_count++];
    *kept = what;
    kept->sim = s;
    net_sim_at(s->net, at, happen, kept);
}

static int node_of(const sim *s, const cal_peer_id *id) {
    for (int i = 0; i < s->node_count; i++)
        if (cal_peer_id_equal(&s->nodes[i].id, id)) return i;
    fail_sim(s, "a stranger", 0, 0);
    return -1;
}

/* Whether a node can be asked for something. */
static bool acts(const node *n) {
    return n->host && !n->leaving && n->frozen_until_ns <= now_of(n->sim);
}

/* --- what a node sees --- */

static void on_connected(void *user, const cal_peer_id *peer) {
    node *n = user;
    int other = node_of(n->sim, peer);
    if (n->connected[other]) fail_sim(n->sim, "connected twice", n->index, other);
    n->connected[other] = now_of(n->sim);
}

static void on_disconnected(void *user, const cal_peer_id *peer) {
    node *n = user;
    int other = node_of(n->sim, peer);
    if (!n->connected[other]) fail_sim(n->sim, "disconnected twice", n->index, other);
    n->connected[other] = 0;
    n->unnoticed[other] = false;
    for (int t = 0; t < TOPICS; t++) n->knows[t][other] = 0;
}

static const cal_p2p_peer_events peer_events = {on_connected, on_disconnected, NULL};

static int topic_of(const sim *s, const char *name) {
    for (int t = 0; t < TOPICS; t++)
        if (strcmp(topics[t], name) == 0) return t;
    fail_sim(s, "an unknown topic", 0, 0);
    return -1;
}

static void on_subscribed(void *user, const char *topic, const cal_peer_id *peer, bool hears) {
    node *n = user;
    n->knows[topic_of(n->sim, topic)][node_of(n->sim, peer)] = hears ? now_of(n->sim) : 0;
}

static void on_message(void *user, const cal_p2p_message *message) {
    node *n = user;
    sim *s = n->sim;
    unsigned index = 0;
    if (message->len < 8 || sscanf((const char *)message->data, "m%u", &index) != 1 ||
        index >= (unsigned)s->message_count)
        fail_sim(s, "an unknown message", n->index, 0);
    const sent *m = &s->messages[index];
    int topic = topic_of(s, message->topic);
    if (topic != m->topic || !m->out) fail_sim(s, "of another topic", n->index, (int)index);
    if (!n->subscribed[topic]) fail_sim(s, "delivered without asking", n->index, (int)index);
    if (node_of(s, &message->author) != m->from)
        fail_sim(s, "of another author", n->index, (int)index);
    if (n->had[index] == n->incarnation) fail_sim(s, "delivered twice", n->index, (int)index);
    n->had[index] = n->incarnation;
    s->delivered++;
    net_sim_note(s->net, (uint64_t)n->index << 32 | index);
    if (!message->ticket) return;
    if (chance(s, 50))
        cal_p2p_judge(n->host, message->ticket, CAL_P2P_ACCEPT);
    else
        plan(s, now_of(s) + below(s, 200 * MS),
             (happening){.kind = VERDICT,
                         .a = n->index,
                         .b = (int)n->incarnation,
                         .ticket = message->ticket});
}

static void shelf_drop(void *user, const cal_peer_id *peer) {
    node *n = user;
    for (size_t i = 0; i < n->shelf_count; i++)
        if (cal_peer_id_equal(&n->shelf[i].peer, peer)) n->shelf[i] = n->shelf[--n->shelf_count];
}

static void shelf_save(void *user, const cal_peer_id *peer, const uint8_t *record, size_t len) {
    node *n = user;
    shelf_drop(user, peer);
    if (n->shelf_count == SHELF_MAX || len > RECORD_MAX)
        fail_sim(n->sim, "the shelf is full", n->index, (int)len);
    shelved *kept = &n->shelf[n->shelf_count++];
    kept->peer = *peer;
    kept->len = len;
    memcpy(kept->record, record, len);
}

/* --- nodes come and go --- */

typedef struct knowing {
    node *n;
    int topic;
} knowing;

static void note_known(void *user, const cal_peer_id *peer, bool mesh) {
    knowing *k = user;
    (void)mesh;
    k->n->knows[k->topic][node_of(k->n->sim, peer)] = now_of(k->n->sim);
}

/* Those who hear it already are not told. */
static void subscribe(node *n, int topic) {
    cal_error err = {0};
    if (cal_p2p_subscribe(n->host, topics[topic], topic == JUDGED, &err))
        fail_sim(n->sim, err.message, n->index, topic);
    n->subscribed[topic] = now_of(n->sim);
    cal_p2p_topic_peers(n->host, topics[topic], note_known, &(knowing){n, topic});
}

static void give_address(node *n) {
    const char *list[] = {n->address};
    char name[32];
    if (n->address[0]) net_sim_address_remove(n->machine, n->address);
    snprintf(n->address, sizeof n->address, "10.%u.0.%d", n->moves++, n->index + 1);
    assert_int_equal(net_sim_address_add(n->machine, n->address), 0);
    snprintf(name, sizeof name, "node%d.sim", n->index);
    assert_int_equal(net_sim_name(n->sim->net, name, list, 1), 0);
}

static void bootstrap_text(const node *of, char ret_text[160]) {
    char id[CAL_PEER_ID_TEXT_MAX];
    cal_peer_id_text(&of->id, id);
    if (of->sim->names)
        snprintf(ret_text, 160, "/dns4/node%d.sim/tcp/%d/p2p/%s", of->index, PORT, id);
    else
        snprintf(ret_text, 160, "/ip4/%s/tcp/%d/p2p/%s", of->address, PORT, id);
}

static void node_begin(node *n) {
    sim *s = n->sim;
    char texts[BOOTSTRAP_MAX][160];
    const char *bootstrap[BOOTSTRAP_MAX], *listen[] = {"/ip4/0.0.0.0/tcp/2428"};
    cal_p2p_gossip_options gossip = {on_message, on_subscribed, n,
                                     .mesh_publish = s->seed % 4 == 3};
    cal_error err = {0};
    if (n->host || s->shutting) return;
    for (int i = 0; i < n->bootstrap_count; i++) {
        bootstrap_text(&s->nodes[n->bootstrap[i]], texts[i]);
        bootstrap[i] = texts[i];
    }
    cal_p2p_options options = {.seed = n->seed,
                               .listen = listen,
                               .listen_count = 1,
                               .bootstrap = bootstrap,
                               .bootstrap_count = (size_t)n->bootstrap_count,
                               .shelf = {n, shelf_save, shelf_drop}};
    if (net_host_new(&options, net_sim_start(n->machine), net_sim_os(n->machine), &n->host, &err))
        fail_sim(s, err.message, n->index, 0);
    n->incarnation++;
    for (size_t i = 0; i < n->shelf_count; i++) {
        shelved kept = n->shelf[i]; /* restoring may save it anew */
        assert_int_equal(cal_p2p_restore(n->host, &kept.peer, kept.record, kept.len), 0);
    }
    assert_int_equal(cal_p2p_observe(n->host, &peer_events, n), 0);
    assert_int_equal(cal_p2p_gossip_start(n->host, &gossip), 0);
    if (s->kad) assert_int_equal(cal_p2p_kad_start(n->host), 0);
    for (int t = 0; t < TOPICS; t++)
        if (n->hears[t]) subscribe(n, t);
}

static void at_most(const node *n, const char *what, uint64_t value, uint64_t most) {
    char text[100];
    if (value <= most) return;
    snprintf(text, sizeof text, "%s over %llu", what, (unsigned long long)most);
    fail_sim(n->sim, text, n->index, (int)value);
}

#define NEVER(figure) at_most(n, #figure, stats.figure, 0)
#define BOUND(figure, most) at_most(n, #figure, stats.figure, most)

/* ihave_refused may be: after a stall the IHAVEs of many heartbeats come at once. */
static void check_gossip(const node *n) {
    cal_p2p_gossip_stats stats;
    assert_int_equal(cal_p2p_gossip_stats_get(n->host, &stats), 0);
    NEVER(invalid), NEVER(rpcs_malformed), NEVER(rpcs_refused), NEVER(messages_refused);
    NEVER(subscriptions_refused), NEVER(control_refused);
    NEVER(idontwant_refused), NEVER(validations_refused), NEVER(validations_expired);
    NEVER(peers_closed), NEVER(peers_paused), NEVER(seen_evicted), NEVER(cache_evicted);
    BOUND(peers, (uint64_t)n->sim->node_count);
    BOUND(seen, MESSAGES_MAX), BOUND(cached, MESSAGES_MAX), BOUND(wants, MESSAGES_MAX);
    BOUND(message_bytes, MESSAGES_MAX * (MESSAGE_MAX + 4096));
}

/* What never happens among honest hosts, and what never grows over its bound. */
static void check_bounds(const node *n) {
    uint64_t nodes = (uint64_t)n->sim->node_count;
    cal_p2p_stats stats;
    if (!n->host) return;
    cal_p2p_stats_get(n->host, &stats);
    NEVER(identities_refused), NEVER(identities_unexpected), NEVER(frames_refused);
    NEVER(windows_exceeded), NEVER(floods_closed), NEVER(streams_refused);
    NEVER(streams_unsupported), NEVER(messages_refused), NEVER(connections_refused);
    BOUND(connections, 8 * nodes), BOUND(pending, 256), BOUND(known_peers, nodes);
    BOUND(streams, 16 * stats.connections + 16);
    BOUND(frame_bytes, nodes * (MESSAGE_MAX + 4096));
    check_gossip(n);
}

static void note_since(void *user, const cal_p2p_peer *peer) { *(uint64_t *)user = peer->since_ns; }

/* The host of a process that ended. */
static void node_gone(node *n) {
    for (int i = 0; i < n->sim->node_count; i++) {
        node *other = &n->sim->nodes[i];
        uint64_t made;
        if (other->host && !cal_p2p_peer_get(other->host, &n->id, note_since, &made))
            other->unnoticed[n->index] = now_of(n->sim) < made + YOUNG_NS;
    }
    net_host_free(n->host);
    n->host = NULL;
    n->leaving = false;
    n->moved_ns = n->frozen_until_ns = 0;
    memset(n->connected, 0, sizeof n->connected);
    memset(n->unnoticed, 0, sizeof n->unnoticed);
    memset(n->knows, 0, sizeof n->knows);
    memset(n->subscribed, 0, sizeof n->subscribed);
}

static void on_left(void *user) {
    node *n = user;
    check_bounds(n);
    net_sim_kill(n->machine);
    node_gone(n);
    if (!n->sim->shutting)
        plan(n->sim, now_of(n->sim) + below(n->sim, 5 * SECOND),
             (happening){.kind = BEGIN, .a = n->index});
}

static void node_leave(node *n) {
    if (!acts(n)) return;
    n->leaving = true;
    net_host_shutdown(n->host, on_left, n);
}

static void node_end(node *n, bool power) {
    sim *s = n->sim;
    if (!n->host || n->leaving) return;
    check_bounds(n);
    if (power)
        net_sim_power_off(n->machine);
    else
        net_sim_kill(n->machine);
    node_gone(n);
    if (power && s->names && chance(s, 40)) give_address(n);
    plan(s, now_of(s) + 200 * MS + below(s, power ? 15 * SECOND : 4 * SECOND),
         (happening){.kind = BEGIN, .a = n->index});
}

/* --- what the test does to them --- */

static uint64_t *cut_until(sim *s, int a, int b) {
    return &s->cut_until[a < b ? a : b][a < b ? b : a];
}

/* ways: 1 from a to b, 2 from b to a, 3 both */
static void cut(sim *s, int a, int b, uint64_t ways) {
    s->cuts[a < b ? a : b][a < b ? b : a]++;
    *cut_until(s, a, b) = UINT64_MAX;
    if (ways & 1) net_sim_cut(s->nodes[a].machine, s->nodes[b].machine);
    if (ways & 2) net_sim_cut(s->nodes[b].machine, s->nodes[a].machine);
}

static void mend(sim *s, int a, int b, uint64_t ways) {
    if (--s->cuts[a < b ? a : b][a < b ? b : a] == 0) *cut_until(s, a, b) = now_of(s);
    if (ways & 1) net_sim_mend(s->nodes[a].machine, s->nodes[b].machine);
    if (ways & 2) net_sim_mend(s->nodes[b].machine, s->nodes[a].machine);
}

static void toggle(node *n, int topic) {
    if (!acts(n)) return;
    n->hears[topic] = !n->hears[topic];
    if (n->hears[topic]) {
        subscribe(n, topic);
        return;
    }
    n->subscribed[topic] = 0;
    memset(n->knows[topic], 0, sizeof n->knows[topic]);
    assert_int_equal(cal_p2p_unsubscribe(n->host, topics[topic]), 0);
}

/* Both dial the other at the same time. */
static void meet(sim *s, int a, int b) {
    for (int i = 0; i < 2; i++) {
        node *from = &s->nodes[i ? b : a], *to = &s->nodes[i ? a : b];
        char text[160];
        cal_multiaddr address;
        bootstrap_text(to, text);
        assert_int_equal(cal_multiaddr_parse(text, &address), 0);
        if (acts(from) && a != b) cal_p2p_connect(from->host, &to->id, &address, 1, NULL, NULL);
    }
}

static void jump_clock(node *n) {
    sim *s = n->sim;
    const cal_os *os = net_sim_os(n->machine);
    uint64_t wall = os->wall_ns(os->user), by = below(s, 10 * HOUR);
    cal_sim_set_wall(n->world, chance(s, 50) ? wall + by : wall - by);
}

/* A pause of a virtual machine: for its host, time jumps. */
static void freeze(node *n) {
    if (!acts(n)) return;
    n->frozen_until_ns = now_of(n->sim) + below(n->sim, OUTAGE_NS);
    net_sim_freeze(n->machine, n->frozen_until_ns);
}

typedef struct hearers {
    const sim *s;
    sent *m;
} hearers;

static void note_first(void *user, const cal_peer_id *peer, bool mesh) {
    hearers *f = user;
    (void)mesh;
    f->m->first[node_of(f->s, peer)] = true;
}

static void publish(sim *s, int index) {
    static uint8_t data[MESSAGE_MAX];
    sent *m = &s->messages[index];
    node *n = &s->nodes[m->from];
    cal_error err = {0};
    if (!acts(n)) return;
    size_t len = chance(s, 70) ? 8 + below(s, 200) : chance(s, 70) ? 2000 : s->message_max;
    snprintf((char *)data, 8, "m%u", (unsigned)index);
    m->time = now_of(s);
    m->out = true;
    n->had[index] = n->incarnation; /* not delivered to oneself: it would be a second time */
    cal_p2p_topic_peers(n->host, topics[m->topic], note_first, &(hearers){s, m});
    if (cal_p2p_publish(n->host, topics[m->topic], data, len, NULL, &err))
        fail_sim(s, err.message, index, 0);
    plan(s, m->time + DEADLINE, (happening){.kind = CHECK, .a = index, .b = (int)n->incarnation});
}

/* --- the promise --- */

static uint64_t later(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* Since when two nodes have held each other connected, with connections that were made at the
 * addresses they have, over a path that lives; UINT64_MAX: they do not. */
static uint64_t lives_since(sim *s, int a, int b) {
    const node *ends[] = {&s->nodes[a], &s->nodes[b]};
    uint64_t moved = later(ends[0]->moved_ns, ends[1]->moved_ns);
    uint64_t since =
        later(*cut_until(s, a, b), net_sim_stalled_until(ends[0]->machine, ends[1]->machine));
    for (int i = 0; i < 2; i++) {
        const node *n = ends[i], *other = ends[!i];
        uint64_t made;
        if (!n->connected[other->index] || n->leaving || n->unnoticed[other->index] ||
            cal_p2p_peer_get(n->host, &other->id, note_since, &made))
            return UINT64_MAX;
        if (made < moved) return UINT64_MAX;
        since = later(since, later(n->connected[other->index], moved ? made : 0));
        since = later(since, n->frozen_until_ns);
    }
    return since;
}

/* Who is connected soon knows what the other hears. */
static void check_known(sim *s) {
    uint64_t long_ago = now_of(s) - KNOWN_NS;
    for (int a = 0; a < s->node_count; a++)
        for (int b = 0; b < s->node_count; b++) {
            if (a == b || lives_since(s, a, b) > long_ago) continue;
            for (int t = 0; t < TOPICS; t++) {
                uint64_t one = s->nodes[a].subscribed[t], two = s->nodes[b].subscribed[t];
                if (one && two && later(one, two) <= long_ago && !s->nodes[a].knows[t][b])
                    fail_sim(s, "does not know what a peer hears", a, b);
            }
        }
}

static bool heard_since(const node *n, int topic, int other, uint64_t time) {
    return n->knows[topic][other] && n->knows[topic][other] <= time;
}

static void check(sim *s, int index, unsigned incarnation) {
    const sent *m = &s->messages[index];
    int queue[NODES_MAX], count = 0;
    bool reached[NODES_MAX] = {false};
    const node *author = &s->nodes[m->from];
    for (int i = 0; i < s->node_count; i++) check_bounds(&s->nodes[i]);
    check_known(s);
    if (!author->host || author->incarnation != incarnation || author->leaving) return;
    queue[count++] = m->from;
    reached[m->from] = true;
    for (int at = 0; at < count; at++) {
        const node *from = &s->nodes[queue[at]];
        for (int i = 0; i < s->node_count; i++) {
            const node *n = &s->nodes[i];
            uint64_t since = n->subscribed[m->topic];
            if (reached[i] || !since || since > m->time || n->leaving ||
                lives_since(s, queue[at], i) > m->time)
                continue;
            bool known = at == 0 ? m->first[i] : heard_since(from, m->topic, i, m->time);
            bool knows = (at == 0 && !from->subscribed[m->topic]) ||
                         heard_since(n, m->topic, queue[at], m->time);
            if (!known || !knows) continue;
            if (n->had[index] != n->incarnation) fail_sim(s, "not delivered", i, index);
            reached[i] = true;
            queue[count++] = i;
            s->checked++;
        }
    }
}

/* --- memory --- */

#ifdef __SANITIZE_ADDRESS__
size_t __sanitizer_get_current_allocated_bytes(void);
static size_t allocated(void) { return __sanitizer_get_current_allocated_bytes(); }
#else
static size_t allocated(void) {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}
#endif

static void check_memory(sim *s) {
    size_t now = allocated(), each = now > s->bytes_before ? now - s->bytes_before : 0;
    each /= (size_t)s->node_count;
    if (each > s->bytes_peak) s->bytes_peak = each;
    if (each > NODE_BYTES_MAX) fail_sim(s, "too much memory", (int)each, 0);
}

/* --- Kademlia --- */

static const uint8_t held[CAL_P2P_KEY_SIZE] = "what the provider holds";

static int provider_of(const sim *s) { return (int)(s->seed % (uint64_t)s->node_count); }

static void on_found(void *user, const cal_p2p_provider *provider) {
    search *sought = user;
    sim *s = sought->n->sim;
    sought->found++;
    if (node_of(s, &provider->peer) != provider_of(s) || provider->size != 1000)
        fail_sim(s, "a provider that holds nothing", sought->n->index, 0);
}

static void on_searched(void *user, const cal_error *err, size_t count) {
    search *sought = user;
    (void)err, (void)count;
    if (++sought->answers > 1) fail_sim(sought->n->sim, "answered twice", sought->n->index, 0);
}

static void seek(node *n, bool provides) {
    sim *s = n->sim;
    if (!acts(n) || !s->kad) return;
    if (s->search_count == SEARCHES_MAX) fail_sim(s, "too many searches", 0, 0);
    search *sought = &s->searches[s->search_count++];
    *sought = (search){.n = n, .incarnation = n->incarnation, .asked_ns = now_of(s)};
    assert_int_equal(provides ? cal_p2p_provide(n->host, held, 1000, on_searched, sought)
                              : cal_p2p_providers(n->host, held, on_found, on_searched, sought),
                     0);
}

static void check_searches(sim *s, uint64_t final_ns) {
    for (size_t i = 0; i < s->search_count; i++) {
        const search *sought = &s->searches[i];
        const node *n = sought->n;
        if (n->incarnation != sought->incarnation) continue;
        if (!sought->answers) fail_sim(s, "a search is not answered", n->index, (int)i);
        if (sought->asked_ns >= final_ns && s->node_count <= KAD_NEAR && !sought->found)
            fail_sim(s, "the provider is not found", n->index, (int)i);
    }
}

/* --- one seed --- */

static void happen(void *user) {
    happening *what = user;
    sim *s = what->sim;
    int b = what->b;
    node *n = &s->nodes[what->a < NODES_MAX ? what->a : 0];
    switch (what->kind) {
    case BEGIN:
        node_begin(n);
        break;
    case KILL:
        node_end(n, false);
        break;
    case POWER_OFF:
        node_end(n, true);
        break;
    case LEAVE:
        node_leave(n);
        break;
    case MOVE:
        if (!n->host || !s->names) break;
        give_address(n);
        n->moved_ns = now_of(s);
        break;
    case CUT:
        cut(s, what->a, b, what->ticket);
        break;
    case MEND:
        mend(s, what->a, b, what->ticket);
        break;
    case TOGGLE:
        toggle(n, b);
        break;
    case DISCONNECT:
        if (acts(n)) cal_p2p_disconnect(n->host, &s->nodes[b].id);
        break;
    case MEET:
        meet(s, what->a, b);
        break;
    case CLOCK:
        jump_clock(n);
        break;
    case FREEZE:
        freeze(n);
        break;
    case RESET:
        net_sim_reset(n->machine, s->nodes[b].machine);
        break;
    case SEARCH:
        seek(n, b != 0);
        break;
    case PUBLISH:
        publish(s, what->a);
        break;
    case CHECK:
        check_memory(s);
        check(s, what->a, (unsigned)b);
        break;
    case VERDICT:
        if (!n->host || n->incarnation != (unsigned)b) break;
        if (acts(n))
            cal_p2p_judge(n->host, what->ticket, CAL_P2P_ACCEPT);
        else
            plan(s, now_of(s) + SECOND, *what);
        break;
    }
}

static net_sim_options network(sim *s) {
    return (net_sim_options){
        .path = {.delay_ns = MS + below(s, 30 * MS),
                 .jitter_ns = 1 + below(s, 20 * MS),
                 .late_ns = 1 + below(s, 400 * MS),
                 .late_ppm = chance(s, 50) ? 5000 : 0,
                 .loss_ppm = chance(s, 70) ? (uint32_t)below(s, 30000) : 0,
                 .duplicate_ppm = chance(s, 50) ? 5000 : 0,
                 .bytes_per_s = chance(s, 30) ? 4000000 : 0},
        .send_buffer = chance(s, 30) ? 4096 + (uint32_t)below(s, 20000) : 0,
        .receive_buffer = chance(s, 30) ? 4096 + (uint32_t)below(s, 20000) : 0,
        .segment_max = chance(s, 50) ? 1460 : 0,
    };
}

static void add_bootstrap(node *n, int other) {
    if (other == n->index || n->bootstrap_count == BOOTSTRAP_MAX) return;
    for (int i = 0; i < n->bootstrap_count; i++)
        if (n->bootstrap[i] == other) return;
    n->bootstrap[n->bootstrap_count++] = other;
}

static void build(sim *s) {
    net_sim_options options = network(s);
    assert_int_equal(net_sim_new(&options, s->world, &s->net), 0);
    s->node_count = 3 + (int)below(s, chance(s, 25) ? 48 : 10);
    bool narrow = options.send_buffer || options.receive_buffer;
    s->message_max = narrow ? NARROW_MESSAGE_MAX : MESSAGE_MAX;
    s->names = chance(s, 50);
    s->kad = chance(s, 20); /* it connects everybody to everybody, which takes time */
    for (int i = 0; i < s->node_count; i++) {
        node *n = &s->nodes[i];
        uint8_t key[32];
        n->sim = s;
        n->index = i;
        cal_write_u64le(n->seed, s->seed);
        n->seed[31] = (uint8_t)(i + 1);
        cal_secret secret;
        memcpy(secret.bytes, n->seed, sizeof n->seed);
        cal_sign_public_key(&secret, key);
        cal_peer_id_of_key(key, &n->id);
        n->world = cal_sim_new(s->seed * 1000 + (uint64_t)i);
        assert_int_equal(net_sim_machine_new(s->net, n->world, &n->machine), 0);
        give_address(n);
        for (int t = 0; t < TOPICS; t++) n->hears[t] = chance(s, t == 0 ? 95 : 60);
        if (i > 0) add_bootstrap(n, (int)below(s, (uint64_t)i)); /* a tree, so all are connected */
        plan(s, START + below(s, 2 * SECOND), (happening){.kind = BEGIN, .a = i});
    }
    int more = (int)below(s, (uint64_t)s->node_count * 2);
    for (int i = 0; i < more; i++) add_bootstrap(&s->nodes[any_node(s)], any_node(s));
}

static uint64_t some_time(sim *s) { return QUIET + below(s, CHAOS_END - QUIET); }

static void plan_cut(sim *s, int a, int b, uint64_t ways, uint64_t from, uint64_t to) {
    if (a == b) return;
    plan(s, from, (happening){.kind = CUT, .a = a, .b = b, .ticket = ways});
    plan(s, to, (happening){.kind = MEND, .a = a, .b = b, .ticket = ways});
}

static void plan_some(sim *s, kind what, uint64_t most) {
    uint64_t count = below(s, most + 1);
    for (uint64_t i = 0; i < count; i++) {
        int a = any_node(s), b = what == TOGGLE ? (int)below(s, TOPICS) : any_node(s);
        if (what != DISCONNECT || a != b)
            plan(s, some_time(s), (happening){.kind = what, .a = a, .b = b});
    }
}

static void plan_chaos(sim *s) {
    uint64_t cuts = below(s, (uint64_t)s->node_count * 2);
    for (uint64_t i = 0; i < cuts; i++) {
        uint64_t from = some_time(s);
        plan_cut(s, any_node(s), any_node(s), 1 + below(s, 3), from, from + below(s, 10 * SECOND));
    }
    bool is_long = chance(s, 10);
    s->mended_ns = CHAOS_END + (is_long ? LONG_OUTAGE_NS : OUTAGE_NS);
    s->return_ns = is_long ? LONG_RETURN_NS : RETURN_NS;
    if (is_long || chance(s, 50)) { /* a partition: all paths between two halves */
        uint64_t from = some_time(s), to = from + 2 * SECOND + below(s, 20 * SECOND);
        if (is_long) to += 80 * SECOND;
        uint64_t side = below(s, UINT64_MAX), ways = chance(s, 70) ? 3 : 1 + below(s, 2);
        for (int a = 0; a < s->node_count; a++)
            for (int b = a + 1; b < s->node_count; b++)
                if ((side >> a & 1) != (side >> b & 1)) plan_cut(s, a, b, ways, from, to);
    }
    plan_some(s, KILL, 3);
    plan_some(s, POWER_OFF, 3);
    plan_some(s, LEAVE, 2);
    plan_some(s, MOVE, 2);
    plan_some(s, TOGGLE, 8);
    plan_some(s, DISCONNECT, 3);
    plan_some(s, MEET, 6);
    plan_some(s, CLOCK, 4);
    plan_some(s, FREEZE, 3);
    plan_some(s, RESET, 20);
    for (uint64_t i = below(s, 20); i > 0; i--)
        plan(s, some_time(s), (happening){.kind = SEARCH, .a = any_node(s)});
}

static void plan_messages(sim *s) {
    s->message_count = 10 + (int)below(s, s->node_count > 20 ? 20 : MESSAGES_MAX - 10);
    for (int i = 0; i < s->message_count; i++) {
        s->messages[i].from = any_node(s);
        s->messages[i].topic = (int)below(s, TOPICS);
        plan(s, i % 5 ? some_time(s) : s->mended_ns + s->return_ns + below(s, 5 * SECOND),
             (happening){.kind = PUBLISH, .a = i});
    }
}

static bool all_connected(void *user) {
    sim *s = user;
    for (int i = 0; i < s->node_count; i++) {
        const node *n = &s->nodes[i];
        if (!n->host) return false;
        for (int k = 0; k < n->bootstrap_count; k++) {
            int other = n->bootstrap[k];
            if (!n->connected[other] || !s->nodes[other].connected[i]) return false;
        }
    }
    return true;
}

static bool all_gone(void *user) {
    sim *s = user;
    for (int i = 0; i < s->node_count; i++)
        if (s->nodes[i].host) return false;
    return true;
}

/* Streams end with what they were opened for: some stay (ping, gossip), and some are under way. */
static void check_streams(sim *s) {
    for (int i = 0; i < s->node_count; i++) {
        cal_p2p_stats stats;
        if (!s->nodes[i].host) continue;
        cal_p2p_stats_get(s->nodes[i].host, &stats);
        if (stats.connections && stats.streams / stats.connections > s->streams_peak)
            s->streams_peak = stats.streams / stats.connections;
        if (stats.streams > stats.connections * STREAMS_EACH)
            fail_sim(s, "streams are left", i, (int)stats.streams);
    }
}

static void say_goodbye(sim *s) {
    net_sim_stats stats;
    s->shutting = true;
    for (int i = 0; i < s->node_count; i++) node_leave(&s->nodes[i]);
    if (net_sim_run(s->net, now_of(s) + GOODBYE_NS, all_gone, s))
        fail_sim(s, "a host does not end", 0, 0);
    if (net_sim_run(s->net, now_of(s) + 3600 * SECOND, NULL, NULL))
        fail_sim(s, "the network does not come to rest", 0, 0);
    net_sim_stats_get(s->net, &stats);
    if (stats.connections || stats.queued)
        fail_sim(s, "something is left", (int)stats.connections, (int)stats.queued);
}

static void run(sim *s, uint64_t until) {
    if (net_sim_run(s->net, until, NULL, NULL)) fail_sim(s, "a host goes round in circles", 0, 0);
}

/* Returns the trace. */
static uint64_t run_seed(uint64_t seed, sim *totals) {
    sim *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->seed = seed;
    s->world = cal_sim_new(seed);
    build(s);
    plan_chaos(s);
    plan_messages(s);
    s->bytes_before = allocated();
    run(s, s->mended_ns);
    if (net_sim_run(s->net, s->mended_ns + s->return_ns, all_connected, s))
        fail_sim(s, "a bootstrap connection does not come back", 0, 0);
    s->returned_ns = now_of(s) - s->mended_ns;
    uint64_t final = s->mended_ns + s->return_ns;
    plan(s, final, (happening){.kind = SEARCH, .a = provider_of(s), .b = 1});
    for (int i = 0; i < s->node_count; i++)
        plan(s, final + SEARCH_NS, (happening){.kind = SEARCH, .a = i});
    run(s, final + 2 * SEARCH_NS);
    check_searches(s, final + SEARCH_NS);
    if (!all_connected(s)) fail_sim(s, "a bootstrap connection was lost again", 0, 0);
    check_streams(s);
    say_goodbye(s);
    uint64_t trace = net_sim_trace(s->net);
    net_sim_free(s->net);
    for (int i = 0; i < s->node_count; i++) cal_sim_free(s->nodes[i].world);
    cal_sim_free(s->world);
    totals->checked += s->checked;
    totals->delivered += s->delivered;
    if (s->streams_peak > totals->streams_peak) totals->streams_peak = s->streams_peak;
    if (s->returned_ns > totals->returned_ns) totals->returned_ns = s->returned_ns;
    if (s->bytes_peak > totals->bytes_peak) totals->bytes_peak = s->bytes_peak;
    free(s);
    return trace;
}

static void test_everyone_hears(void **state) {
    (void)state;
    sim_seeds seeds = sim_seeds_from(SEEDS_DEFAULT);
    uint64_t count = seeds.end - seeds.first;
    sim *totals = calloc(1, sizeof *totals);
    for (uint64_t seed = seeds.first; seed < seeds.end; seed++) run_seed(seed, totals);
    assert_true(count == 1 || totals->checked > 0); /* else nothing was checked */
    printf("%llu seeds, %zu deliveries, %zu of them had to happen; all connected again after at "
           "most %.1f s; at most %zu KiB a node, %zu streams a connection\n",
           (unsigned long long)count, totals->delivered, totals->checked,
           (double)totals->returned_ns / 1e9, totals->bytes_peak / 1024, totals->streams_peak);
    free(totals);
}

static void test_same_seed_same_run(void **state) {
    (void)state;
    sim *totals = calloc(1, sizeof *totals);
    for (uint64_t seed = 1; seed <= 3; seed++) {
        uint64_t first = run_seed(seed, totals);
        assert_true(first == run_seed(seed, totals));
        assert_true(first != run_seed(seed + 1, totals));
    }
    free(totals);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everyone_hears),
        cmocka_unit_test(test_same_seed_same_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
