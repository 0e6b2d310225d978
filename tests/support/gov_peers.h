/* Nodes that really author, and pass bytes to one another by hand: what joins, keys and deltas need
 * beside gov_world.h. */
#ifndef CAL_TESTS_GOV_PEERS_H
#define CAL_TESTS_GOV_PEERS_H

#include "gov/share.h"
#include "gov_world.h"

typedef struct gov_bag { /* operations as they travel */
    gov_packet packets[2048];
    size_t count;
} gov_bag;

static inline void gov_bag_free(gov_bag *bag) {
    for (size_t i = 0; i < bag->count; i++) gov_packet_free(&bag->packets[i]);
    bag->count = 0;
}

static inline int gov_bag_add(void *user, const cal_hash *id, cal_slice bytes) {
    gov_bag *bag = user;
    assert_true(bag->count < sizeof bag->packets / sizeof *bag->packets);
    gov_packet *p = &bag->packets[bag->count++];
    p->id = *id;
    cal_buffer_init(&p->bytes, GOV_OP_MAX);
    cal_buffer_append_slice(&p->bytes, bytes);
    return 0;
}

static inline void gov_bag_fill(gov_bag *bag, const gov_replica *from, const cal_group_id *ns) {
    bag->count = 0;
    assert_int_equal(
        gov_history_read(from->store, ns, NULL, 0, NULL, SIZE_MAX, SIZE_MAX, gov_bag_add, bag), 0);
}

/* Deterministic: the same seed, the same order. */
static inline void gov_bag_shuffle(gov_bag *bag, uint32_t seed) {
    for (size_t i = bag->count; i > 1; i--) {
        seed = seed * 1664525u + 1013904223u;
        size_t other = (seed >> 8) % i;
        gov_packet kept = bag->packets[i - 1];
        bag->packets[i - 1] = bag->packets[other];
        bag->packets[other] = kept;
    }
}

static inline void gov_peer_drain(gov_replica *to, const cal_group_id *ns) {
    for (int turns = 0; gov_receive_pending(to->gov, ns); turns++) {
        assert_true(turns < 100000);
        gov_replica_commit(to, gov_replica_receive(to, ns, NULL, 0));
    }
}

static inline void gov_bag_give(gov_bag *bag, gov_replica *to, const cal_group_id *ns,
                                size_t step) {
    const gov_packet *packets[GOV_RECEIVE_OPS_MAX];
    for (size_t at = 0; at < bag->count;) {
        size_t n = 0;
        while (n < step && at < bag->count) packets[n++] = &bag->packets[at++];
        gov_replica_commit(to, gov_replica_receive(to, ns, packets, n));
    }
    gov_peer_drain(to, ns);
}

/* All that `from` has, in an order of its own. */
static inline void gov_peer_copy(const gov_replica *from, gov_replica *to, const cal_group_id *ns,
                                 uint32_t seed) {
    gov_bag *bag = calloc(1, sizeof *bag);
    gov_bag_fill(bag, from, ns);
    if (seed) gov_bag_shuffle(bag, seed);
    gov_bag_give(bag, to, ns, 3);
    gov_bag_free(bag);
    free(bag);
}

#define gov_peer_do(replica, call)                                                                 \
    do {                                                                                           \
        gov_change *change = NULL;                                                                 \
        cal_error *err = &(replica)->err;                                                          \
        int result = (call);                                                                       \
        if (result) print_error("%s\n", (replica)->err.message);                                   \
        assert_int_equal(result, 0);                                                               \
        if (change) gov_replica_commit(replica, change);                                           \
    } while (0)

static inline cal_group_id gov_peer_found(gov_replica *r) {
    gov_namespace_spec spec = {.application = {{0xA9}}, .app_key = {{0xB1}}, .name = "story"};
    cal_group_id id;
    gov_peer_do(r, gov_namespace_create(r->gov, &spec, &id, &change, err));
    return id;
}

static inline cal_group_id gov_peer_group(gov_replica *r, cal_group_id parent, bool open) {
    gov_group_spec spec = {.parent = parent, .open = open};
    cal_group_id id;
    gov_peer_do(r, gov_group_create(r->gov, &spec, &id, &change, err));
    return id;
}

static inline cal_context_id gov_peer_context(gov_replica *r, cal_group_id group, uint8_t fill) {
    gov_context_spec spec = {
        .group = group, .application = {{0xA9}}, .blob = {{0xB1}}, .name = "chat"};
    memset(spec.context.bytes, fill, 32);
    gov_peer_do(r, gov_context_register(r->gov, &spec, &change, err));
    return spec.context;
}

static inline int gov_peer_author(gov_replica *r, const cal_group_id *ns, const cal_group_id *group,
                                  gov_group_op op, gov_change **ret_change, cal_error *err) {
    int result = gov_change_begin(r->gov, ns, ret_change, err);
    if (result) return result;
    result = gov_author_group(*ret_change, group, &op, err);
    return gov_change_finish(*ret_change, result, ret_change, err);
}

static inline gov_position gov_peer_position(gov_replica *r, const cal_group_id *ns) {
    gov_position position;
    position.count = (uint32_t)gov_heads(r->gov, ns, position.heads, GOV_POSITION_HEADS_MAX);
    return position;
}

/* --- joining --- */

static inline gov_invitation gov_peer_invite(gov_replica *r, cal_group_id group, uint8_t role) {
    gov_invitation invitation;
    assert_int_equal(gov_invite(r->gov, &group, 0, &invitation, NULL, &r->err), 0);
    invitation.role = role;
    gov_invitation_sign(&invitation, &gov_self(r->gov)->sign_seed);
    invitation.signature = cal_slice_text(invitation.signature_text);
    return invitation;
}

static inline int gov_peer_answer(gov_replica *responder, const cal_group_id *ns,
                                  const gov_invitation *invitation, gov_replica *joiner,
                                  cal_arena *arena, gov_join_answer *ret_answer) {
    cal_buffer invited, credential;
    gov_invitation copy = *invitation;
    cal_buffer_init(&invited, 4096);
    cal_buffer_init(&credential, 4096);
    copy.signature = cal_slice_text(copy.signature_text);
    assert_int_equal(gov_invitation_write(&copy, &invited), 0);
    assert_int_equal(gov_credential_bytes(joiner->gov, &credential), 0);
    int result = gov_join_answer_make(
        responder->gov, ns, cal_buffer_slice(&invited), cal_buffer_slice(&credential),
        &gov_self(joiner->gov)->sign_key, arena, ret_answer, &responder->err);
    cal_buffer_deinit(&invited);
    cal_buffer_deinit(&credential);
    return result;
}

/* Begins and takes the answer's key. */
static inline void gov_peer_begin(gov_replica *joiner, gov_replica *responder,
                                  const gov_invitation *invitation) {
    gov_join_answer answer;
    cal_arena arena;
    cal_arena_init(&arena, 1 << 20);
    gov_peer_do(joiner, gov_join_begin(joiner->gov, invitation, "story", &change, err));
    assert_int_equal(
        gov_peer_answer(responder, &invitation->group, invitation, joiner, &arena, &answer), 0);
    assert_true(answer.has_envelope);
    gov_peer_do(joiner, gov_join_take(joiner->gov, invitation, &answer.envelope,
                                      &gov_self(responder->gov)->sign_key,
                                      answer.default_capabilities, &change, err));
    cal_arena_deinit(&arena);
}

static inline void gov_peer_join(gov_replica *joiner, gov_replica *responder, cal_group_id ns,
                                 uint8_t role) {
    gov_invitation invitation = gov_peer_invite(responder, ns, role);
    invitation.signature = cal_slice_text(invitation.signature_text);
    gov_peer_begin(joiner, responder, &invitation);
    gov_peer_copy(responder, joiner, &ns, 7);
    gov_peer_do(joiner, gov_join_publish(joiner->gov, &invitation, &change, err));
    gov_peer_copy(joiner, responder, &ns, 0);
}

#endif
