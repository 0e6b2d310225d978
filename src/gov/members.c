/* Who is in a group, and as what: see members.h (governance.md 4.3, 8, 11).
 *
 * The verdict on an operation is the one function's (gov_apply_op), for ours too. What is checked
 * here beside it is what that function lets pass and nobody wants, and what deserves better words
 * than its own. Loop thread. */
#include <stdlib.h>

#include "base/error.h"
#include "codec/utf8.h"
#include "gov/graph.h"

int gov_check_role(gov_role role, cal_error *err) {
    if (role >= GOV_ROLE_COUNT) return cal_fail(err, CAL_EINVAL, "there is no such role");
    if (role == GOV_ROLE_READ_ONLY_TEE)
        return cal_fail(err, CAL_EINVAL, "%s", gov_reason_text(GOV_WHY_ROLE_ATTESTED));
    return 0;
}

/* Of accounts that lie `stride` bytes apart. */
static int check_accounts(const void *accounts, size_t count, size_t stride, cal_error *err) {
    const uint8_t *bytes = accounts;
    if (count == 0) return cal_fail(err, CAL_EINVAL, "no account is named");
    if (count > GOV_MEMBERS_CALL_MAX)
        return cal_fail(err, CAL_ELIMIT, "%zu accounts in one call, at most %d are possible", count,
                        GOV_MEMBERS_CALL_MAX);
    for (size_t i = 0; i < count; i++) {
        if (gov_id_zero(bytes + i * stride))
            return cal_fail(err, CAL_EINVAL, "the all-zero account is nobody");
        for (size_t j = 0; j < i; j++)
            if (gov_id_equal(bytes + i * stride, bytes + j * stride))
                return cal_fail(err, CAL_EINVAL, "an account is named twice");
    }
    return 0;
}

/* --- adding --- */

/* A member that comes back, or gets a row in a group with a key of its own, has devices here
 * already: they get the key. Others ask for it. */
static int add_member(gov_change *change, const cal_group_id *group, const gov_member_spec *spec,
                      cal_error *err) {
    gov_view view = gov_change_view(change);
    cal_group_id sealing = gov_key_group(&view, group);
    bool was = gov_path_of(&view, &sealing, &spec->account, NULL) != GOV_PATH_NONE;
    size_t delivered = 0;
    gov_group_op op = {
        .kind = GOV_MEMBER_ADDED, .account = spec->account, .role = (uint8_t)spec->role};
    int result = gov_author_group(change, group, &op, err);
    if (result || was || !gov_id_equal(sealing.bytes, group->bytes)) return result;
    return gov_author_delivery(change, group, &spec->account, NULL, &delivered, err);
}

int gov_members_add(cal_gov *gov, const cal_group_id *group, const gov_member_spec *members,
                    size_t count, gov_change **ret_change, cal_error *err) {
    gov_change *change;
    int result = check_accounts(&members->account, count, sizeof *members, err);
    for (size_t i = 0; i < count && !result; i++) result = gov_check_role(members[i].role, err);
    if (!result) result = gov_change_begin_in(gov, group, &change, err);
    if (result) return result;
    for (size_t i = 0; i < count && !result; i++)
        result = add_member(change, group, &members[i], err);
    return gov_change_finish(change, result, ret_change, err);
}

/* --- removing --- */

static int compare_roots(const void *a, const void *b) {
    const gov_context_root *x = a, *y = b;
    return memcmp(x->context.bytes, y->context.bytes, 32);
}

/* Peers ignore a list that is not strictly sorted. */
static int sort_roots(gov_change *change, gov_context_roots roots, gov_context_roots *ret_roots,
                      cal_error *err) {
    *ret_roots = (gov_context_roots){0};
    if (roots.count == 0) return 0;
    gov_context_root *items =
        cal_arena_copy(&change->arena, roots.items, roots.count * sizeof *items);
    if (!items) return cal_fail(err, CAL_ENOMEM, "no memory for the roots of contexts");
    qsort(items, roots.count, sizeof *items, compare_roots);
    for (uint32_t i = 1; i < roots.count; i++)
        if (compare_roots(&items[i - 1], &items[i]) == 0)
            return cal_fail(err, CAL_EINVAL, "a context's root is given twice");
    ret_roots->items = items;
    ret_roots->count = roots.count < GOV_REMOVAL_ROOTS_MAX ? roots.count : GOV_REMOVAL_ROOTS_MAX;
    return 0;
}

/* That there is a row to remove, and that removing it would change something. */
static int check_removal(const gov_change *change, const cal_group_id *group,
                         const cal_account_id *account, cal_error *err) {
    gov_view view = gov_change_view(change);
    cal_account_id self = gov_acting(change->gov, &view);
    gov_meta meta = {0};
    gov_path path = gov_path_of(&view, group, account, NULL);
    if (gov_id_equal(self.bytes, account->bytes))
        return cal_fail(err, CAL_EINVAL,
                        "a node does not remove its own account; leave the group instead");
    if (path == GOV_PATH_NONE)
        return cal_fail(err, CAL_ENOTFOUND, "%s", gov_reason_text(GOV_WHY_NO_MEMBER));
    if (path == GOV_PATH_INHERITED)
        return cal_fail(err, CAL_EINVAL,
                        "the account inherits its membership; remove it from the group above");
    gov_meta_get(&view, group, &meta);
    if (gov_id_equal(meta.admin.bytes, account->bytes) && !gov_owner(&view, group, account))
        return cal_fail(err, CAL_EDENIED,
                        "the account is the group's named admin; name another one first");
    return 0;
}

static int hash_without(const gov_change *change, const cal_group_id *group,
                        const cal_account_id *account, cal_hash *ret_hash, cal_error *err) {
    gov_view view = gov_change_view(change);
    int result = gov_group_hash_of(&view, group, account, ret_hash);
    return result ? cal_fail(err, result, "no memory for the group's hash") : 0;
}

static int remove_member(gov_change *change, const cal_group_id *group,
                         const cal_account_id *account, gov_context_roots roots, cal_error *err) {
    gov_view view = gov_change_view(change);
    gov_group_op op = {.kind = GOV_MEMBER_REMOVED, .account = *account, .roots = roots};
    int result = check_removal(change, group, account, err);
    if (!result) result = hash_without(change, group, account, &op.group_hash, err);
    if (result) return result;
    return gov_has_own_key(&view, group)
               ? gov_author_rotating(change, group, &op, account, NULL, err)
               : gov_author_group(change, group, &op, err);
}

int gov_members_remove(cal_gov *gov, const cal_group_id *group, const cal_account_id *accounts,
                       size_t count, gov_context_roots roots, gov_change **ret_change,
                       cal_error *err) {
    gov_change *change;
    gov_context_roots sorted;
    int result = check_accounts(accounts, count, sizeof *accounts, err);
    if (!result) result = gov_change_begin_in(gov, group, &change, err);
    if (result) return result;
    result = sort_roots(change, roots, &sorted, err);
    for (size_t i = 0; i < count && !result; i++)
        result = remove_member(change, group, &accounts[i], sorted, err);
    return gov_change_finish(change, result, ret_change, err);
}

/* --- leaving --- */

static int stays_in(const gov_view *view, const cal_group_id *group, const cal_account_id *self,
                    cal_error *err) {
    gov_key key = gov_key_of(ROW_GROUP_DATA, group->bytes, NULL, NULL);
    gov_metadata data = {0};
    char id[CAL_ID_TEXT_MAX];
    cal_id_to_hex(group->bytes, id);
    gov_metadata_get(view, &key, &data);
    const char *name = data.name ? data.name : id;
    if (gov_owner(view, group, self))
        return cal_fail(err, CAL_EDENIED,
                        "this account owns \"%s\": the owner stays; transfer the ownership first",
                        name);
    if (gov_last_admin(view, group, self))
        return cal_fail(err, CAL_EDENIED,
                        "this account is the last admin of \"%s\"; make another one first", name);
    return 0;
}

/* Whoever leaves the namespace leaves every group in it, or none. */
static int check_leaving(const gov_view *view, const cal_group_id *group,
                         const cal_account_id *self, cal_error *err) {
    gov_path path = gov_path_of(view, group, self, NULL);
    if (path == GOV_PATH_NONE)
        return cal_fail(err, CAL_ENOTFOUND, "this node is not a member of the group");
    if (path == GOV_PATH_INHERITED)
        return cal_fail(err, CAL_EINVAL,
                        "this node inherits its membership; it can leave the group above");
    int result = stays_in(view, group, self, err);
    if (result || !gov_id_equal(group->bytes, view->namespace_id.bytes)) return result;
    gov_walk walk = gov_walk_start(view, ROW_MEMBER, NULL, NULL);
    cal_slice rest, value;
    while (!result && gov_walk_next(&walk, &rest, &value)) {
        cal_group_id other;
        memcpy(other.bytes, rest.data, 32);
        if (gov_id_equal(rest.data + 32, self->bytes)) result = stays_in(view, &other, self, err);
    }
    return result;
}

int gov_leave(cal_gov *gov, const cal_group_id *group, gov_context_roots roots,
              gov_change **ret_change, cal_error *err) {
    gov_change *change;
    int result = gov_change_begin_in(gov, group, &change, err);
    if (result) return result;
    gov_view view = gov_change_view(change);
    gov_group_op op = {.kind = GOV_MEMBER_LEFT, .account = gov_acting(gov, &view)};
    result = check_leaving(&view, group, &op.account, err);
    if (!result) result = sort_roots(change, roots, &op.roots, err);
    if (!result) result = hash_without(change, group, &op.account, &op.group_hash, err);
    if (!result) result = gov_author_group(change, group, &op, err);
    return gov_change_finish(change, result, ret_change, err);
}

/* --- what a member is --- */

int gov_member_set_role(cal_gov *gov, const cal_group_id *group, const cal_account_id *account,
                        gov_role role, gov_change **ret_change, cal_error *err) {
    gov_group_op op = {.kind = GOV_MEMBER_ROLE_SET, .account = *account, .role = (uint8_t)role};
    int result = gov_check_role(role, err);
    return result ? result : gov_group_change(gov, group, &op, ret_change, err);
}

int gov_member_follow(cal_gov *gov, const cal_group_id *group, const cal_account_id *account,
                      gov_follow *ret_follow) {
    gov_view view;
    gov_member member;
    if (!gov_find_group(gov, group, &view) || !gov_member_get(&view, group, account, &member))
        return CAL_ENOTFOUND;
    *ret_follow = (gov_follow){member.follow_contexts, member.follow_subgroups};
    return 0;
}

int gov_member_set_follow(cal_gov *gov, const cal_group_id *group, const cal_account_id *account,
                          gov_follow follow, gov_change **ret_change, cal_error *err) {
    gov_group_op op = {.kind = GOV_AUTO_FOLLOW_SET,
                       .account = *account,
                       .follow_contexts = follow.contexts,
                       .follow_subgroups = follow.subgroups};
    return gov_group_change(gov, group, &op, ret_change, err);
}

/* A namespace's founder is its admin by the genesis alone: once another is named, no cut says that
 * it is a member (as in the reference), though its row stays. So its row becomes an operation
 * first. */
static int keep_standing(gov_change *change, cal_error *err) {
    gov_view view = gov_change_view(change), cut;
    cal_account_id self = gov_acting(change->gov, &view);
    cal_slice heads = gov_heads_get(&view);
    gov_member member;
    gov_wait wait;
    if (!gov_member_get(&view, &view.namespace_id, &self, &member)) return 0;
    int result = gov_cut_view(change, (const cal_hash *)(const void *)heads.data,
                              (uint32_t)(heads.len / 32), &cut, &wait);
    if (result)
        return cal_fail(err, result, "the namespace's history could not be read: %s",
                        cal_error_text(result));
    if (gov_member_get(&cut, &view.namespace_id, &self, NULL)) return 0;
    gov_group_op op = {.kind = GOV_MEMBER_ADDED, .account = self, .role = member.role};
    return gov_author_group(change, &view.namespace_id, &op, err);
}

int gov_group_transfer(cal_gov *gov, const cal_group_id *group, const cal_account_id *owner,
                       gov_change **ret_change, cal_error *err) {
    gov_change *change;
    gov_group_op op = {.kind = GOV_OWNERSHIP_TRANSFERRED, .account = *owner};
    int result = gov_change_begin_in(gov, group, &change, err);
    if (result) return result;
    gov_view view = gov_change_view(change);
    cal_account_id self = gov_acting(gov, &view);
    if (!gov_owner(&view, group, &self))
        result = cal_fail(err, CAL_EDENIED, "%s", gov_reason_text(GOV_WHY_NOT_OWNER));
    if (!result && gov_id_equal(group->bytes, view.namespace_id.bytes))
        result = keep_standing(change, err);
    if (!result) result = gov_author_group(change, group, &op, err);
    return gov_change_finish(change, result, ret_change, err);
}

static int root_change(cal_gov *gov, const cal_group_id *group, const gov_root_op *op,
                       gov_change **ret_change, cal_error *err) {
    gov_change *change;
    int result = gov_change_begin_in(gov, group, &change, err);
    if (result) return result;
    if (op->kind == GOV_ADMIN_CHANGED) result = keep_standing(change, err);
    if (!result) result = gov_author_root(change, op, err);
    return gov_change_finish(change, result, ret_change, err);
}

int gov_namespace_set_admin(cal_gov *gov, const cal_group_id *namespace_id,
                            const cal_account_id *admin, gov_change **ret_change, cal_error *err) {
    gov_root_op op = {.kind = GOV_ADMIN_CHANGED, .account = *admin};
    gov_view view;
    if (!gov_find_group(gov, namespace_id, &view) ||
        !gov_id_equal(view.namespace_id.bytes, namespace_id->bytes))
        return cal_fail(err, CAL_ENOTFOUND, "no such namespace on this node");
    cal_account_id self = gov_acting(gov, &view);
    if (!gov_admin(&view, namespace_id, &self))
        return cal_fail(err, CAL_EDENIED, "%s", gov_reason_text(GOV_WHY_NOT_NAMESPACE_ADMIN));
    return root_change(gov, namespace_id, &op, ret_change, err);
}

int gov_group_reparent(cal_gov *gov, const cal_group_id *group, const cal_group_id *parent,
                       gov_change **ret_change, cal_error *err) {
    gov_root_op op = {.kind = GOV_GROUP_REPARENTED, .group = *group, .parent = *parent};
    return root_change(gov, group, &op, ret_change, err);
}

/* --- metadata --- */

static gov_key metadata_row(const gov_metadata_key *key) {
    const uint8_t *group = key->group.bytes;
    switch (key->of) {
    case GOV_METADATA_MEMBER:
        return gov_key_of(ROW_MEMBER_DATA, group, key->account.bytes, NULL);
    case GOV_METADATA_CONTEXT:
        return gov_key_of(ROW_CONTEXT_DATA, group, key->context.bytes, NULL);
    case GOV_METADATA_GROUP:
        break;
    }
    return gov_key_of(ROW_GROUP_DATA, group, NULL, NULL);
}

int gov_metadata_read(cal_gov *gov, const gov_metadata_key *key, gov_record *ret_record) {
    gov_key row = metadata_row(key);
    gov_metadata data = {0};
    gov_view view;
    cal_slice value;
    if (!gov_find_group(gov, &key->group, &view) || !gov_view_get(&view, &row, &value))
        return CAL_ENOTFOUND;
    gov_metadata_get(&view, &row, &data);
    cal_borsh in = cal_borsh_read(value); /* the row has its shape */
    cal_borsh_take(&in, 8 + 32);
    if (cal_borsh_bool(&in)) cal_borsh_bytes(&in, UINT32_MAX);
    *ret_record = (gov_record){.name = data.name, .updated_at_ms = data.updated_at_ms};
    memcpy(ret_record->updated_by.bytes, data.updated_by, 32);
    ret_record->entries = cal_borsh_count(&in, GOV_METADATA_LIST_MAX, 8);
    ret_record->rest = cal_borsh_take(&in, in.left);
    return 0;
}

bool gov_record_next(gov_record *record, cal_slice *ret_key, cal_slice *ret_value) {
    if (record->entries == 0) return false;
    cal_borsh in = cal_borsh_read(record->rest);
    *ret_key = cal_borsh_bytes(&in, GOV_METADATA_TEXT_MAX);
    *ret_value = cal_borsh_bytes(&in, GOV_METADATA_TEXT_MAX);
    record->rest = cal_borsh_take(&in, in.left);
    record->entries--;
    return true;
}

static int compare_entries(const void *a, const void *b) {
    const gov_entry *x = a, *y = b;
    return cal_slice_compare(x->key, y->key);
}

static int check_entries(const gov_entry *entries, size_t count, cal_error *err) {
    if (count > GOV_METADATA_ENTRIES_MAX)
        return cal_fail(err, CAL_EINVAL, "metadata has at most %d entries, these are %zu",
                        GOV_METADATA_ENTRIES_MAX, count);
    for (size_t i = 0; i < count; i++) {
        const gov_entry *entry = &entries[i];
        if (entry->key.len < 1 || entry->key.len > GOV_METADATA_KEY_MAX)
            return cal_fail(err, CAL_EINVAL,
                            "a key of metadata has 1 to %d bytes, this one has %zu",
                            GOV_METADATA_KEY_MAX, entry->key.len);
        if (entry->value.len > GOV_METADATA_VALUE_MAX)
            return cal_fail(err, CAL_EINVAL,
                            "a value of metadata has at most %d bytes, this one has %zu",
                            GOV_METADATA_VALUE_MAX, entry->value.len);
        if (!cal_utf8_valid(entry->key) || !cal_utf8_valid(entry->value))
            return cal_fail(err, CAL_EINVAL, "metadata is not UTF-8");
    }
    return 0;
}

static int sort_entries(gov_change *change, const gov_entry *entries, size_t count,
                        gov_entries *ret_entries, cal_error *err) {
    if (count == 0) return 0;
    gov_entry *items = cal_arena_copy(&change->arena, entries, count * sizeof *items);
    if (!items) return cal_fail(err, CAL_ENOMEM, "no memory for metadata");
    qsort(items, count, sizeof *items, compare_entries);
    for (size_t i = 1; i < count; i++)
        if (compare_entries(&items[i - 1], &items[i]) == 0)
            return cal_fail(err, CAL_EINVAL, "a key of metadata is given twice");
    *ret_entries = (gov_entries){items, (uint32_t)count};
    return 0;
}

int gov_metadata_set(cal_gov *gov, const gov_metadata_key *key, const char *name,
                     const gov_entry *entries, size_t count, gov_change **ret_change,
                     cal_error *err) {
    static const uint8_t kinds[] = {[GOV_METADATA_GROUP] = GOV_GROUP_METADATA_SET,
                                    [GOV_METADATA_MEMBER] = GOV_MEMBER_METADATA_SET,
                                    [GOV_METADATA_CONTEXT] = GOV_CONTEXT_METADATA_SET};
    gov_change *change;
    gov_group_op op = {.kind = kinds[key->of],
                       .account = key->account,
                       .context = key->context,
                       .name = gov_optional_text(name)};
    int result = gov_check_name(name, err);
    if (!result) result = check_entries(entries, count, err);
    if (!result) result = gov_change_begin_in(gov, &key->group, &change, err);
    if (result) return result;
    gov_view view = gov_change_view(change);
    if (key->of == GOV_METADATA_MEMBER &&
        gov_path_of(&view, &key->group, &key->account, NULL) == GOV_PATH_NONE)
        result = cal_fail(err, CAL_ENOTFOUND, "%s", gov_reason_text(GOV_WHY_NO_MEMBER));
    if (!result) result = sort_entries(change, entries, count, &op.data, err);
    if (!result) result = gov_author_group(change, &key->group, &op, err);
    return gov_change_finish(change, result, ret_change, err);
}

size_t gov_member_joins(cal_gov *gov, const cal_group_id *group, const cal_account_id *account) {
    gov_view view;
    cal_slice rest;
    size_t count = 0;
    if (!gov_find_group(gov, group, &view)) return 0;
    gov_walk walk = gov_walk_start(&view, ROW_CONSUMED, group->bytes, account->bytes);
    while (gov_walk_next(&walk, &rest, NULL)) count++;
    return count;
}
