/* Members of groups: include/calimero/members.h. */
#include "calimero/members.h"

#include <assert.h>
#include <string.h>

#include "gov/share.h"
#include "node/change.h"

static_assert((int)CAL_ROLE_ADMIN == GOV_ROLE_ADMIN && (int)CAL_ROLE_MEMBER == GOV_ROLE_MEMBER &&
                  (int)CAL_ROLE_READ_ONLY == GOV_ROLE_READ_ONLY &&
                  (int)CAL_ROLE_READ_ONLY_TEE == GOV_ROLE_READ_ONLY_TEE,
              "roles are handed on as they are");

static const char *const role_texts[] = {[CAL_ROLE_ADMIN] = "Admin",
                                         [CAL_ROLE_MEMBER] = "Member",
                                         [CAL_ROLE_READ_ONLY] = "ReadOnly",
                                         [CAL_ROLE_READ_ONLY_TEE] = "ReadOnlyTee"};
enum { ROLES = sizeof role_texts / sizeof *role_texts };

const char *cal_role_text(cal_role role) {
    return (size_t)role < ROLES ? role_texts[role] : "unknown";
}

int cal_role_parse(const char *text, cal_role *ret_role) {
    for (size_t i = 0; i < ROLES; i++)
        if (strcmp(text, role_texts[i]) == 0) {
            *ret_role = (cal_role)i;
            return 0;
        }
    return CAL_EDECODE;
}

/* --- reading --- */

struct member_look {
    cal_node *node;
    const cal_group_id *group;
    const cal_account_id *account;
    const cal_public_key *key;
    void (*visit)(void *user, const cal_member_info *info);
    void *user;
    cal_account_id found;
    gov_role role;
    gov_path path;
    uint32_t capabilities;
    int result;
};

static void visit_member(void *user, const gov_member_info *info) {
    struct member_look *look = user;
    cal_gov *gov = look->node->gov;
    gov_follow follow = {0};
    gov_member_follow(gov, look->group, &info->account, &follow);
    cal_member_info member = {.account = info->account,
                              .role = (cal_role)info->role,
                              .capabilities =
                                  gov_member_capabilities(gov, look->group, &info->account),
                              .follows_contexts = follow.contexts,
                              .follows_subgroups = follow.subgroups,
                              .name = info->name};
    look->visit(look->user, &member);
}

static void each_member(void *arg) {
    struct member_look *look = arg;
    look->result = gov_group_members(look->node->gov, look->group, visit_member, look);
}

int cal_member_each(cal_node *node, const cal_group_id *group,
                    void (*visit)(void *user, const cal_member_info *info), void *user) {
    struct member_look look = {.node = node, .group = group, .visit = visit, .user = user};
    cal_node_run(node, each_member, &look);
    return look.result;
}

static void look_at_self(void *arg) {
    struct member_look *look = arg;
    look->result = gov_acting_account(look->node->gov, look->group, &look->found);
    if (look->result != 0) return;
    look->path = gov_member_path(look->node->gov, look->group, &look->found, &look->role);
    if (look->path == GOV_PATH_NONE) look->result = CAL_EDENIED;
}

int cal_member_self(cal_node *node, const cal_group_id *group, cal_account_id *ret_account,
                    cal_role *ret_role, bool *ret_inherited) {
    struct member_look look = {.node = node, .group = group};
    cal_node_run(node, look_at_self, &look);
    if (look.result != 0) return look.result;
    if (ret_account) *ret_account = look.found;
    if (ret_role) *ret_role = (cal_role)look.role;
    if (ret_inherited) *ret_inherited = look.path == GOV_PATH_INHERITED;
    return 0;
}

static void look_at_capabilities(void *arg) {
    struct member_look *look = arg;
    cal_gov *gov = look->node->gov;
    if (gov_member_path(gov, look->group, look->account, NULL) == GOV_PATH_NONE)
        look->result = CAL_ENOTFOUND;
    else
        look->capabilities = gov_member_capabilities(gov, look->group, look->account);
}

int cal_member_capabilities(cal_node *node, const cal_group_id *group,
                            const cal_account_id *account, uint32_t *ret_capabilities) {
    struct member_look look = {.node = node, .group = group, .account = account};
    cal_node_run(node, look_at_capabilities, &look);
    if (look.result == 0) *ret_capabilities = look.capabilities;
    return look.result;
}

static void look_for_account(void *arg) {
    struct member_look *look = arg;
    cal_group_id namespace_id;
    look->result = gov_group_namespace(look->node->gov, look->group, &namespace_id);
    if (look->result == 0)
        look->result = gov_account_of(look->node->gov, &namespace_id, look->key, &look->found);
}

int cal_member_account(cal_node *node, const cal_group_id *group, const cal_public_key *key,
                       cal_account_id *ret_account) {
    struct member_look look = {.node = node, .group = group, .key = key};
    cal_node_run(node, look_for_account, &look);
    if (look.result == 0) *ret_account = look.found;
    return look.result;
}

/* --- several at once --- */

struct members_change {
    node_change base;
    const gov_member_spec *members;
    const cal_account_id *accounts;
    size_t count;
};

static int prepare_add(node_change *base, cal_error *err) {
    struct members_change *change = CAL_CONTAINER_OF(base, struct members_change, base);
    return gov_members_add(node_change_gov(base), &base->group, change->members, change->count,
                           &base->commit.change, err);
}

void cal_members_add(cal_node *node, const cal_group_id *group, const cal_member_spec *members,
                     size_t count, cal_simple_done done, void *user) {
    struct members_change *change = node_change_new(sizeof *change, group, prepare_add, done, user);
    if (!change) return;
    if (count > GOV_MEMBERS_CALL_MAX) {
        node_change_refuse(node, &change->base, CAL_ELIMIT,
                           "more than 256 members in one call: name them in several");
        return;
    }
    gov_member_spec *specs =
        cal_arena_alloc_array(&change->base.arena, count ? count : 1, sizeof *specs);
    for (size_t i = 0; specs && i < count; i++)
        specs[i] = (gov_member_spec){members[i].account, (gov_role)members[i].role};
    change->members = specs;
    change->count = count;
    if (specs)
        node_change_run(node, &change->base);
    else
        node_change_refuse(node, &change->base, CAL_ENOMEM, "out of memory");
}

int cal_members_add_wait(cal_node *node, const cal_group_id *group, const cal_member_spec *members,
                         size_t count, cal_error *err) {
    node_wait wait;
    if (!node_wait_begin(&wait, node, err)) return CAL_ESTATE;
    cal_members_add(node, group, members, count, node_wait_done, &wait);
    return node_wait_end(&wait);
}

static int prepare_remove(node_change *base, cal_error *err) {
    struct members_change *change = CAL_CONTAINER_OF(base, struct members_change, base);
    gov_context_roots roots = {0};
    int rc = node_context_roots(base->operation.node, &base->group, &base->arena, &roots);
    if (rc != 0) return cal_fail(err, rc, "the roots of the group's contexts cannot be read");
    return gov_members_remove(node_change_gov(base), &base->group, change->accounts, change->count,
                              roots, &base->commit.change, err);
}

void cal_members_remove(cal_node *node, const cal_group_id *group, const cal_account_id *accounts,
                        size_t count, cal_simple_done done, void *user) {
    struct members_change *change =
        node_change_new(sizeof *change, group, prepare_remove, done, user);
    if (!change) return;
    if (count > GOV_MEMBERS_CALL_MAX) {
        node_change_refuse(node, &change->base, CAL_ELIMIT,
                           "more than 256 members in one call: name them in several");
        return;
    }
    change->count = count;
    change->accounts =
        count ? cal_arena_copy(&change->base.arena, accounts, count * sizeof *accounts) : accounts;
    if (change->accounts || count == 0)
        node_change_run(node, &change->base);
    else
        node_change_refuse(node, &change->base, CAL_ENOMEM, "out of memory");
}

int cal_members_remove_wait(cal_node *node, const cal_group_id *group,
                            const cal_account_id *accounts, size_t count, cal_error *err) {
    node_wait wait;
    if (!node_wait_begin(&wait, node, err)) return CAL_ESTATE;
    cal_members_remove(node, group, accounts, count, node_wait_done, &wait);
    return node_wait_end(&wait);
}

/* --- one --- */

struct member_change {
    node_change base;
    cal_account_id account;
    gov_role role;
    uint32_t capabilities;
    gov_follow follow;
};

static struct member_change *new_member_change(const cal_group_id *group,
                                               const cal_account_id *account,
                                               int (*prepare)(node_change *, cal_error *),
                                               cal_simple_done done, void *user) {
    struct member_change *change = node_change_new(sizeof *change, group, prepare, done, user);
    if (change && account) change->account = *account;
    return change;
}

static int prepare_role(node_change *base, cal_error *err) {
    struct member_change *change = CAL_CONTAINER_OF(base, struct member_change, base);
    return gov_member_set_role(node_change_gov(base), &base->group, &change->account, change->role,
                               &base->commit.change, err);
}

void cal_member_set_role(cal_node *node, const cal_group_id *group, const cal_account_id *account,
                         cal_role role, cal_simple_done done, void *user) {
    struct member_change *change = new_member_change(group, account, prepare_role, done, user);
    if (!change) return;
    change->role = (gov_role)role;
    node_change_run(node, &change->base);
}

int cal_member_set_role_wait(cal_node *node, const cal_group_id *group,
                             const cal_account_id *account, cal_role role, cal_error *err) {
    node_wait wait;
    if (!node_wait_begin(&wait, node, err)) return CAL_ESTATE;
    cal_member_set_role(node, group, account, role, node_wait_done, &wait);
    return node_wait_end(&wait);
}

static int prepare_capabilities(node_change *base, cal_error *err) {
    struct member_change *change = CAL_CONTAINER_OF(base, struct member_change, base);
    return gov_member_set_capabilities(node_change_gov(base), &base->group, &change->account,
                                       change->capabilities, &base->commit.change, err);
}

void cal_member_set_capabilities(cal_node *node, const cal_group_id *group,
                                 const cal_account_id *account, uint32_t capabilities,
                                 cal_simple_done done, void *user) {
    struct member_change *change =
        new_member_change(group, account, prepare_capabilities, done, user);
    if (!change) return;
    change->capabilities = capabilities;
    node_change_run(node, &change->base);
}

static int prepare_follow(node_change *base, cal_error *err) {
    struct member_change *change = CAL_CONTAINER_OF(base, struct member_change, base);
    return gov_member_set_follow(node_change_gov(base), &base->group, &change->account,
                                 change->follow, &base->commit.change, err);
}

void cal_member_set_follow(cal_node *node, const cal_group_id *group, const cal_account_id *account,
                           bool contexts, bool subgroups, cal_simple_done done, void *user) {
    struct member_change *change = new_member_change(group, account, prepare_follow, done, user);
    if (!change) return;
    change->follow = (gov_follow){contexts, subgroups};
    node_change_run(node, &change->base);
}

static int prepare_transfer(node_change *base, cal_error *err) {
    struct member_change *change = CAL_CONTAINER_OF(base, struct member_change, base);
    return gov_group_transfer(node_change_gov(base), &base->group, &change->account,
                              &base->commit.change, err);
}

void cal_group_transfer(cal_node *node, const cal_group_id *group, const cal_account_id *owner,
                        cal_simple_done done, void *user) {
    struct member_change *change = new_member_change(group, owner, prepare_transfer, done, user);
    if (change) node_change_run(node, &change->base);
}

static int prepare_admin(node_change *base, cal_error *err) {
    struct member_change *change = CAL_CONTAINER_OF(base, struct member_change, base);
    return gov_namespace_set_admin(node_change_gov(base), &base->group, &change->account,
                                   &base->commit.change, err);
}

void cal_namespace_set_admin(cal_node *node, const cal_group_id *namespace_id,
                             const cal_account_id *admin, cal_simple_done done, void *user) {
    struct member_change *change =
        new_member_change(namespace_id, admin, prepare_admin, done, user);
    if (change) node_change_run(node, &change->base);
}

/* --- coming and going --- */

static int prepare_leave(node_change *change, cal_error *err) {
    gov_context_roots roots = {0};
    int rc = node_context_roots(change->operation.node, &change->group, &change->arena, &roots);
    if (rc != 0) return cal_fail(err, rc, "the roots of the group's contexts cannot be read");
    return gov_leave(node_change_gov(change), &change->group, roots, &change->commit.change, err);
}

void cal_group_leave(cal_node *node, const cal_group_id *group, cal_simple_done done, void *user) {
    node_change *change = node_change_new(sizeof *change, group, prepare_leave, done, user);
    if (change) node_change_run(node, change);
}

int cal_group_leave_wait(cal_node *node, const cal_group_id *group, cal_error *err) {
    node_wait wait;
    if (!node_wait_begin(&wait, node, err)) return CAL_ESTATE;
    cal_group_leave(node, group, node_wait_done, &wait);
    return node_wait_end(&wait);
}

struct open_join {
    node_change base;
    bool was_inherited;
    cal_group_joined done;
};

/* A row of its own already: nothing to do, and nothing to store. */
static int prepare_open_join(node_change *base, cal_error *err) {
    struct open_join *join = CAL_CONTAINER_OF(base, struct open_join, base);
    cal_gov *gov = node_change_gov(base);
    cal_account_id self;
    gov_path path = GOV_PATH_NONE;
    if (gov_acting_account(gov, &base->group, &self) == 0)
        path = gov_member_path(gov, &base->group, &self, NULL);
    if (path == GOV_PATH_NONE)
        return cal_fail(err, CAL_EDENIED,
                        "this node may not join the group by itself: it is restricted, or the node "
                        "is no member of the group above who may join open ones; ask an admin to "
                        "add it");
    join->was_inherited = path == GOV_PATH_INHERITED;
    if (!join->was_inherited) return 0;
    return gov_join_open(gov, &base->group, &base->commit.change, err);
}

static void answer_open_join(node_change *base, const cal_error *err) {
    struct open_join *join = CAL_CONTAINER_OF(base, struct open_join, base);
    join->done(base->user, err, !err && join->was_inherited);
}

void cal_group_join_open(cal_node *node, const cal_group_id *group, cal_group_joined done,
                         void *user) {
    struct open_join *join = node_change_new(sizeof *join, group, prepare_open_join, NULL, user);
    if (!join) {
        cal_error err;
        cal_fail(&err, CAL_ENOMEM, "out of memory");
        done(user, &err, false);
        return;
    }
    join->done = done;
    join->base.answer = answer_open_join;
    node_change_run(node, &join->base);
}
