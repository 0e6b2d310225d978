/* What the tests of attacks and of lying peers have in common: members, and places whose hosts say
 * what the test wants. */
#ifndef CAL_TESTS_ATTACK_WORLD_H
#define CAL_TESTS_ATTACK_WORLD_H

#define node_of node_of_commit /* share_world.h has another one */
#include "node/internal.h"
#undef node_of
#include "share_world.h"
#include "sync/context.h"

typedef struct shared {
    cal_group_id ns;
    cal_context_id context;
} shared;

static inline shared found(place *p) {
    shared s;
    OK(p->world, cal_namespace_create_wait(node_at(p), &application, "test", &s.ns, &err));
    cal_context_create_options create = {.application = application, .group = s.ns};
    cal_context_created created;
    OK(p->world, cal_context_create_wait(node_at(p), &create, &created, &err));
    s.context = created.id;
    return s;
}

static inline void join(place *founder, place *joiner, const shared *s) {
    char json[TEXT_MAX];
    cal_joined joined;
    invite(founder, &s->ns, json);
    OK(joiner->world, cal_namespace_join_wait(node_at(joiner), json, "ours", &joined, &err));
}

static inline void pass(world *w, uint64_t ns) { node_sim_run(w->sim, ns, NULL, NULL); }

static inline bool holds_within(place *p, const shared *s, const char *key, const char *value,
                                uint64_t within) {
    uint64_t end = net_sim_now(node_sim_net(p->world->sim)) + within;
    while (!holds(p, &s->context, key, value)) {
        if (net_sim_now(node_sim_net(p->world->sim)) > end) return false;
        pass(p->world, 50 * MS);
    }
    return true;
}

static inline void until_holds(place *p, const shared *s, const char *key, const char *value) {
    cal_sync_status status = {0};
    if (holds_within(p, s, key, value, 60 * SECOND)) return;
    cal_context_sync_status(node_at(p), &s->context, &status);
    CHECK(p->world, false, "place %zu never holds %s = %s (%s: %s)", p->index, key, value,
          cal_sync_state_text(status.state), status.why);
}

static inline void cut(place *one, place *other, bool is_cut) {
    net_sim_machine *first = node_sim_machine(one->sim), *second = node_sim_machine(other->sim);
    (is_cut ? net_sim_cut : net_sim_mend)(first, second);
    (is_cut ? net_sim_cut : net_sim_mend)(second, first);
}

static inline void connect_to_place(void *arg) {
    place **both = arg;
    char text[64];
    cal_multiaddr address;
    snprintf(text, sizeof text, "/ip4/10.0.0.%zu/tcp/2428", both[1]->index + 1);
    assert_int_equal(cal_multiaddr_parse(text, &address), 0);
    cal_p2p_connect(cal_node_p2p(node_at(both[0])), &both[1]->id, &address, 1, NULL, NULL);
}
static inline void connect_places(place *from, place *to) {
    place *both[] = {from, to};
    cal_node_run(node_at(from), connect_to_place, both);
    pass(from->world, SECOND);
}

static inline cal_account_id account_of(place *p) {
    cal_node_identity identity;
    cal_node_identity_get(node_at(p), &identity);
    return identity.account;
}

static inline cal_sync_stats stats_of(place *p) {
    cal_sync_stats stats;
    cal_sync_stats_get(node_at(p), &stats);
    return stats;
}

/* --- what is said on a topic --- */

static inline void topic_of(const shared *s, char ret_topic[CAL_ID_TEXT_MAX]) {
    cal_id_to_base58(s->context.bytes, ret_topic);
}

typedef struct gossiped {
    place *to, *from;
    const char *topic;
    cal_slice bytes;
} gossiped;
static inline void hear_it(void *arg) {
    const gossiped *g = arg;
    const cal_p2p_message message = {.topic = g->topic,
                                     .author = g->from->id,
                                     .via = g->from->id,
                                     .data = g->bytes.data,
                                     .len = g->bytes.len};
    cal_sync_gossip(node_at(g->to)->sync, &message);
}
/* As if it had come from that place, which need not have a connection. */
static inline void gossip(place *to, place *from, const char *topic, cal_slice bytes) {
    gossiped g = {to, from, topic, bytes};
    cal_node_run(node_at(to), hear_it, &g);
}

/* A place that does nothing with what it hears but keep it. */
typedef struct wiretap {
    const char *topic;
    cal_buffer bytes[64];
    size_t count;
} wiretap;
static wiretap tap;

static inline void note_heard(void *user, const cal_p2p_message *message) {
    wiretap *t = user;
    if (strcmp(message->topic, t->topic) != 0 || message->len == 0 || message->data[0] != 0) return;
    assert_true(t->count < 64);
    cal_buffer_init(&t->bytes[t->count], 1 << 21);
    cal_buffer_append(&t->bytes[t->count++], message->data, message->len);
}
static inline void start_tap(void *arg) {
    cal_p2p *host = cal_node_p2p(node_at(arg));
    const cal_p2p_gossip_options options = {.message = note_heard, .user = &tap};
    cal_p2p_gossip_stop(host);
    assert_int_equal(cal_p2p_gossip_start(host, &options), 0);
    assert_int_equal(cal_p2p_subscribe(host, tap.topic, false, &err), 0);
}
static inline void tap_deltas(place *p, const char *topic) {
    tap = (wiretap){.topic = topic};
    cal_node_run(node_at(p), start_tap, p);
    pass(p->world, 8 * SECOND); /* for gossip to find it */
}
static inline void free_tap(void) {
    while (tap.count > 0) cal_buffer_deinit(&tap.bytes[--tap.count]);
}

/* --- deltas that the test makes up --- */

static inline gov_position position_at(place *p, const shared *s) {
    gov_position position = {0};
    position.count = (uint32_t)gov_heads(node_at(p)->gov, &s->ns, position.heads, 32);
    return position;
}

/* Writes it as gossip has it, signed unless it has a signature. */
static inline void write_delta(gov_state_delta *delta, const cal_secret *author, cal_buffer *out) {
    cal_buffer_init(out, 1 << 21);
    if (!delta->has_signature) {
        delta->has_signature = true;
        cal_sign_public_key(author, delta->author_key);
        assert_int_equal(gov_delta_sign(author, &delta->context, &delta->delta, &delta->position,
                                        &delta->hlc, delta->signature),
                         0);
    }
    assert_int_equal(gov_state_delta_write(delta, out), 0);
}

static inline sync_context *context_at(place *p, const shared *s) {
    return sync_context_get(node_at(p)->sync, &s->context);
}

static inline int tell_seed(void **state) {
    (void)state;
    if (now.sim)
        print_error("seed %llu was running, at %.6f s\n", (unsigned long long)now.seed,
                    (double)net_sim_now(node_sim_net(now.sim)) / 1e9);
    return 0;
}

#endif
