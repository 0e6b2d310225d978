/* What groups are: creating them below others, their settings, their place: members.h. */
#include "calimero/members.h"

#include "node/change.h"

/* --- reading --- */

struct group_look {
    cal_node *node;
    const cal_group_id *group;
    void (*visit)(void *user, const cal_group_details *info);
    void *user;
    int result;
};

static void look_at_group(void *arg) {
    struct group_look *look = arg;
    gov_group_info info;
    look->result = gov_group_get(look->node->gov, look->group, &info);
    if (look->result == 0 && info.joining) look->result = CAL_ENOTFOUND;
    if (look->result != 0) return;
    cal_group_details details = {.id = info.id,
                                 .namespace_id = info.namespace_id,
                                 .parent = info.parent,
                                 .application = info.application,
                                 .app_key = info.app_key,
                                 .admin = info.admin,
                                 .owner = info.owner,
                                 .created_at_s = info.created_at_s,
                                 .name = info.name,
                                 .open = info.open,
                                 .default_capabilities = info.default_capabilities,
                                 .members = info.members,
                                 .contexts = info.contexts,
                                 .subgroups = info.subgroups};
    look->result = gov_group_hash(look->node->gov, look->group, &details.state_hash);
    if (look->result == 0) look->visit(look->user, &details);
}

int cal_group_get(cal_node *node, const cal_group_id *group,
                  void (*visit)(void *user, const cal_group_details *info), void *user) {
    struct group_look look = {.node = node, .group = group, .visit = visit, .user = user};
    cal_node_run(node, look_at_group, &look);
    return look.result;
}

/* --- changing --- */

struct group_change {
    node_change base;
    cal_group_id parent;
    cal_context_id context;
    uint32_t capabilities;
    bool open;
};

static struct group_change *new_group_change(const cal_group_id *group,
                                             int (*prepare)(node_change *, cal_error *),
                                             cal_simple_done done, void *user) {
    return node_change_new(sizeof(struct group_change), group, prepare, done, user);
}

static int prepare_delete(node_change *base, cal_error *err) {
    if (memcmp(&base->group, &base->commit.namespace_id, sizeof base->group) == 0)
        return cal_fail(err, CAL_EINVAL,
                        "this is a namespace, and its groups go with it: delete the namespace");
    return gov_group_delete(node_change_gov(base), &base->group, &base->commit.change, err);
}

void cal_group_delete(cal_node *node, const cal_group_id *group, cal_simple_done done, void *user) {
    struct group_change *change = new_group_change(group, prepare_delete, done, user);
    if (change) node_change_run(node, &change->base);
}

static int prepare_reparent(node_change *base, cal_error *err) {
    struct group_change *change = CAL_CONTAINER_OF(base, struct group_change, base);
    return gov_group_reparent(node_change_gov(base), &base->group, &change->parent,
                              &base->commit.change, err);
}

void cal_group_reparent(cal_node *node, const cal_group_id *group, const cal_group_id *parent,
                        cal_simple_done done, void *user) {
    struct group_change *change = new_group_change(group, prepare_reparent, done, user);
    if (!change) return;
    change->parent = *parent;
    node_change_run(node, &change->base);
}

static int prepare_open(node_change *base, cal_error *err) {
    struct group_change *change = CAL_CONTAINER_OF(base, struct group_change, base);
    return gov_group_set_visibility(node_change_gov(base), &base->group, change->open,
                                    &base->commit.change, err);
}

void cal_group_set_open(cal_node *node, const cal_group_id *group, bool open, cal_simple_done done,
                        void *user) {
    struct group_change *change = new_group_change(group, prepare_open, done, user);
    if (!change) return;
    change->open = open;
    node_change_run(node, &change->base);
}

static int prepare_default(node_change *base, cal_error *err) {
    struct group_change *change = CAL_CONTAINER_OF(base, struct group_change, base);
    return gov_group_set_default_capabilities(node_change_gov(base), &base->group,
                                              change->capabilities, &base->commit.change, err);
}

void cal_group_set_default_capabilities(cal_node *node, const cal_group_id *group,
                                        uint32_t capabilities, cal_simple_done done, void *user) {
    struct group_change *change = new_group_change(group, prepare_default, done, user);
    if (!change) return;
    change->capabilities = capabilities;
    node_change_run(node, &change->base);
}

static int prepare_detach(node_change *base, cal_error *err) {
    struct group_change *change = CAL_CONTAINER_OF(base, struct group_change, base);
    cal_group_id group, namespace_id;
    if (gov_context_group(node_change_gov(base), &change->context, &group, &namespace_id) != 0 ||
        memcmp(&group, &base->group, sizeof group) != 0)
        return cal_fail(err, CAL_ENOTFOUND, "the context is not in this group");
    return gov_context_detach(node_change_gov(base), &change->context, &base->commit.change, err);
}

void cal_context_detach(cal_node *node, const cal_group_id *group, const cal_context_id *context,
                        cal_simple_done done, void *user) {
    struct group_change *change = new_group_change(group, prepare_detach, done, user);
    if (!change) return;
    change->context = *context;
    node_change_run(node, &change->base);
}
