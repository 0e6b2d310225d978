/* Nodes in one test that author and receive: several cal_gov, and the bytes of their operations
 * between them. */
#ifndef CAL_TESTS_GOV_NODES_H
#define CAL_TESTS_GOV_NODES_H

#include "gov/members.h"
#include "support/gov_world.h"

enum { GOV_NET_NODES = 6, GOV_NET_PACKETS = 512 };

typedef struct gov_net {
    cal_group_id ns;
    gov_replica nodes[GOV_NET_NODES];
    size_t count;
    gov_packet packets[GOV_NET_PACKETS];
    size_t packet_count;
    size_t seen[GOV_NET_NODES]; /* packets that a node has got, from the start */
    bool away[GOV_NET_NODES];   /* gets nothing */
    gov_change *change;         /* of the last call */
    cal_error err;
    gov_receipt last; /* of the packet delivered last */
} gov_net;

static inline cal_account_id gov_net_account(const gov_net *net, size_t node) {
    return gov_self(net->nodes[node].gov)->account;
}

/* The change of an authoring call becomes durable on its node, and its operations packets. */
static inline void gov_net_commit(gov_net *net, size_t node, int result) {
    if (result) print_error("%d %s\n", result, net->err.message);
    assert_int_equal(result, 0);
    for (size_t i = 0; i < gov_change_ops(net->change); i++) {
        gov_verified *op;
        cal_slice bytes = gov_change_op(net->change, i);
        gov_packet *p = &net->packets[net->packet_count++];
        assert_true(net->packet_count < GOV_NET_PACKETS);
        cal_buffer_init(&p->bytes, GOV_OP_MAX);
        cal_buffer_append_slice(&p->bytes, bytes);
        assert_int_equal(gov_verify(bytes, &op), 0);
        p->id = *gov_verified_id(op);
        gov_verified_free(op);
    }
    gov_replica_commit(&net->nodes[node], net->change);
}

static inline gov_receipt gov_net_give(gov_net *net, size_t node, size_t packet) {
    return net->last = gov_replica_take(&net->nodes[node], &net->ns, &net->packets[packet]);
}

/* Everybody who is not away gets what it has not got, in order. */
static inline void gov_net_sync(gov_net *net) {
    for (size_t n = 0; n < net->count; n++)
        for (; !net->away[n] && net->seen[n] < net->packet_count; net->seen[n]++)
            gov_net_give(net, n, net->seen[n]);
}

#define gov_net_do(net, node, call)                                                                \
    do {                                                                                           \
        gov_net_commit(net, node, call);                                                           \
        gov_net_sync(net);                                                                         \
    } while (0)

/* What the call gives, and that it says why. */
#define gov_net_refused(net, code, call)                                                           \
    do {                                                                                           \
        (net)->err.message[0] = 0;                                                                 \
        assert_int_equal(call, code);                                                              \
        assert_true((net)->err.message[0] != 0);                                                   \
    } while (0)

static inline cal_gov *gov_net_gov(gov_net *net, size_t node) { return net->nodes[node].gov; }

static inline bool gov_net_current(const gov_net *net, size_t node, const cal_group_id *group,
                                   gov_group_key *ret_key) {
    gov_view view = gov_replica_view(&net->nodes[node], &net->ns);
    return gov_key_current(&view, group, ret_key);
}

static inline bool gov_net_has_key(const gov_net *net, size_t node, const cal_group_id *group,
                                   const cal_hash *id) {
    gov_view view = gov_replica_view(&net->nodes[node], &net->ns);
    gov_group_key key;
    return gov_key_find(&view, group, id, &key);
}

/* As the pull of a key does: the current one of a node. */
static inline void gov_net_pull(gov_net *net, size_t from, size_t to, const cal_group_id *group) {
    gov_group_key key;
    assert_true(gov_net_current(net, from, group, &key));
    gov_replica_key(&net->nodes[to], &net->ns, group, &key.key);
}

/* As the pull of keys by their ids: those that operations were kept sealed under. */
static inline void gov_net_pull_sealed(gov_net *net, size_t from, size_t to) {
    for (bool found = true; found;) {
        gov_view view = gov_replica_view(&net->nodes[to], &net->ns),
                 theirs = gov_replica_view(&net->nodes[from], &net->ns);
        gov_walk walk = gov_walk_start(&view, ROW_SEALED, NULL, NULL);
        cal_slice rest, value;
        found = false;
        while (!found && gov_walk_next(&walk, &rest, &value)) {
            cal_group_id group;
            gov_group_key key;
            cal_hash id;
            memcpy(group.bytes, rest.data, 32);
            memcpy(id.bytes, value.data, 32);
            found =
                !gov_net_has_key(net, to, &group, &id) && gov_key_find(&theirs, &group, &id, &key);
            if (found) gov_replica_key(&net->nodes[to], &net->ns, &group, &key.key);
        }
    }
}

static inline void gov_net_join(gov_net *net, size_t inviter, size_t node, gov_role role) {
    cal_gov *gov = gov_net_gov(net, node);
    gov_root_op op = {.kind = GOV_MEMBER_JOINED_AT,
                      .account = gov_net_account(net, node),
                      .credential = gov_self(gov)->credential,
                      .joined_at_s = 1};
    assert_int_equal(gov_invite_as(gov_net_gov(net, inviter), &net->ns, role, 0, &op.invitation,
                                   NULL, &net->err),
                     0);
    op.invitation.signature = cal_slice_text(op.invitation.signature_text);
    gov_net_pull(net, inviter, node, &net->ns);
    assert_int_equal(gov_change_begin(gov, &net->ns, &net->change, &net->err), 0);
    int result = gov_author_root(net->change, &op, &net->err);
    gov_net_do(net, node, gov_change_finish(net->change, result, &net->change, &net->err));
}

static inline cal_group_id gov_net_group(gov_net *net, size_t node, cal_group_id parent,
                                         bool open) {
    gov_group_spec spec = {.parent = parent, .open = open};
    cal_group_id id;
    gov_net_do(net, node,
               gov_group_create(gov_net_gov(net, node), &spec, &id, &net->change, &net->err));
    return id;
}

/* Node 0 founds; the others know the history and are nobody yet. */
static inline void gov_net_start(gov_net *net, size_t count) {
    gov_namespace_spec spec = {.application = {{1}}, .app_key = {{2}}, .name = "net"};
    memset(net, 0, sizeof *net);
    net->count = count;
    for (size_t n = 0; n < count; n++) gov_replica_start(&net->nodes[n]);
    int result = gov_namespace_create(net->nodes[0].gov, &spec, &net->ns, &net->change, &net->err);
    gov_net_do(net, 0, result);
}

/* Everybody is a member of the namespace. */
static inline void gov_net_start_joined(gov_net *net, size_t count) {
    gov_net_start(net, count);
    for (size_t n = 1; n < count; n++) gov_net_join(net, 0, n, GOV_ROLE_MEMBER);
}

static inline void gov_net_stop(gov_net *net) {
    for (size_t n = 0; n < net->count; n++) {
        gov_replica_check(&net->nodes[n]);
        gov_replica_stop(&net->nodes[n]);
    }
    for (size_t i = 0; i < net->packet_count; i++) gov_packet_free(&net->packets[i]);
}

#endif
