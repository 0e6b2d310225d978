/* Who watches a node's namespaces, and who is who in them as of now (share.h). Loop thread. */
#include "gov/share.h"

#include "gov/internal.h"

/* --- who watches --- */

void gov_observe(cal_gov *gov, const gov_observer *observer, void *user) {
    gov->observer = observer;
    gov->observer_user = user;
}

/* The rows of a change that is visible have moved to where they belong; those it deleted are gone
 * there. */
static bool row_stays(const gov_change *change, const cal_sorted_node *node) {
    const gov_row *row = change->visible ? cal_sorted_get(&change->ns->rows, node->key)
                                         : (const gov_row *)node->value;
    return row && row != &gov_row_absent;
}

static const cal_sorted_node *first_of(const gov_change *change, gov_row_kind kind) {
    const uint8_t prefix = (uint8_t)kind;
    const cal_sorted_node *node = cal_sorted_from(&change->changed, cal_slice_of(&prefix, 1));
    return node && node->key.data[0] == prefix ? node : NULL;
}

static const cal_sorted_node *next_of(const cal_sorted_node *node) {
    const cal_sorted_node *next = node->next[0];
    return next && next->key.data[0] == node->key.data[0] ? next : NULL;
}

void gov_change_contexts(const gov_change *change,
                         void (*visit)(void *user, const cal_group_id *group,
                                       const cal_context_id *context, bool registered),
                         void *user) {
    for (const cal_sorted_node *node = first_of(change, ROW_CONTEXT); node; node = next_of(node)) {
        cal_group_id group;
        cal_context_id context;
        memcpy(group.bytes, node->key.data + 1, 32);
        memcpy(context.bytes, node->key.data + 33, 32);
        visit(user, &group, &context, row_stays(change, node));
    }
}

/* Whatever a question about members, roles, devices and rights reads. */
bool gov_change_touches_members(const gov_change *change) {
    static const gov_row_kind kinds[] = {
        ROW_META,   ROW_MEMBER,  ROW_CAPABILITIES, ROW_DEFAULTS, ROW_VISIBILITY,
        ROW_PARENT, ROW_BINDING, ROW_ROOT_KEY,     ROW_REVOKED,  ROW_ROOT_ADMIN,
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (first_of(change, kinds[i])) return true;
    return false;
}

/* Also when what was sealed under one of before has been judged now. */
bool gov_change_brings_keys(const gov_change *change) {
    if (first_of(change, ROW_KEY)) return true;
    for (const cal_sorted_node *node = first_of(change, ROW_SEALED); node; node = next_of(node))
        if (!row_stays(change, node)) return true;
    return false;
}

/* --- who somebody is --- */

int gov_account_of(cal_gov *gov, const cal_group_id *namespace_id, const cal_public_key *key,
                   cal_account_id *ret_account) {
    const gov_namespace *ns = gov_namespace_find(gov, namespace_id);
    if (!ns) return CAL_ENOTFOUND;
    gov_view view = gov_view_of(ns);
    return gov_account_of_key(&view, key->bytes, ret_account) ? 0 : CAL_ENOTFOUND;
}

int gov_devices_ever(cal_gov *gov, const cal_group_id *namespace_id,
                     void (*visit)(void *user, const cal_public_key *key,
                                   const cal_account_id *account),
                     void *user) {
    gov_view view;
    cal_slice device, value;
    if (!gov_find_group(gov, namespace_id, &view)) return CAL_ENOTFOUND;
    gov_walk walk = gov_walk_start(&view, ROW_BINDING, NULL, NULL);
    while (gov_walk_next(&walk, &device, &value)) {
        gov_binding binding = gov_binding_read(value);
        cal_public_key key;
        memcpy(key.bytes, binding.sign_key, sizeof key.bytes);
        visit(user, &key, &binding.account);
    }
    return 0;
}

static bool find_member(cal_gov *gov, const cal_group_id *group, const cal_public_key *key,
                        gov_view *ret_view, cal_account_id *ret_account) {
    return gov_find_group(gov, group, ret_view) &&
           gov_account_of_key(ret_view, key->bytes, ret_account) &&
           gov_path_of(ret_view, group, ret_account, NULL) != GOV_PATH_NONE;
}

bool gov_key_is_member(cal_gov *gov, const cal_group_id *group, const cal_public_key *key) {
    gov_view view;
    cal_account_id account;
    return find_member(gov, group, key, &view, &account);
}

bool gov_key_may_read(cal_gov *gov, const cal_group_id *group, const cal_public_key *key) {
    gov_view view;
    cal_account_id account;
    cal_group_id at = *group;
    if (!find_member(gov, group, key, &view, &account)) return false;
    for (int steps = 0; steps <= GOV_ROOT_WALK_MAX; steps++) {
        if (gov_removal_unread(gov, &view, &at, &account)) return false;
        if (!gov_group_parent(&view, &at, &at)) break;
    }
    return true;
}
