/* What this node does to its namespaces: each function prepares one change of signed operations
 * (gov.h). Loop thread.
 *
 * As in the reference, creating a namespace or group publishes one operation; its target
 * application, name, default capabilities and first key are local rows until an operation says
 * otherwise. */
#include <assert.h>

#include "base/error.h"
#include "codec/utf8.h"
#include "gov/internal.h"
#include "gov/share.h"

int gov_check_name(const char *name, cal_error *err) {
    if (!name) return 0;
    cal_slice text = cal_slice_text(name);
    if (text.len < 1 || text.len > GOV_NAME_MAX)
        return cal_fail(err, CAL_EINVAL, "a name has 1 to %d bytes, this one has %zu", GOV_NAME_MAX,
                        text.len);
    if (!cal_utf8_valid(text)) return cal_fail(err, CAL_EINVAL, "the name is not UTF-8");
    return 0;
}

gov_optional gov_optional_text(const char *text) {
    return text ? (gov_optional){true, cal_slice_text(text)} : (gov_optional){0};
}

static void pick_id(const cal_os *os, const cal_group_id *given, cal_group_id *ret_id) {
    if (given)
        *ret_id = *given;
    else
        cal_random(os, ret_id->bytes, sizeof ret_id->bytes);
}

/* The rows that a creator has before its first operation: a fresh key, the default capabilities,
 * the name. */
static void put_local_rows(gov_change *change, const cal_group_id *group, const char *name) {
    cal_secret key;
    cal_random(change->gov->os, key.bytes, sizeof key.bytes);
    gov_put_key(change, group, &key, 0);
    cal_secret_wipe(&key);
    gov_put_u32(change, gov_key_of(ROW_DEFAULTS, group->bytes, NULL, NULL),
                GOV_CAPABILITIES_DEFAULT);
    if (name)
        gov_put_metadata(change, gov_key_of(ROW_GROUP_DATA, group->bytes, NULL, NULL),
                         gov_optional_text(name), NULL, change->gov->identity.sign_key.bytes);
}

int gov_group_missing(cal_error *err) {
    return cal_fail(err, CAL_ENOTFOUND, "no such group on this node");
}

int gov_change_begin_in(cal_gov *gov, const cal_group_id *group, gov_change **ret_change,
                        cal_error *err) {
    gov_view view;
    gov_namespace *ns = gov_find_group(gov, group, &view);
    return ns ? gov_change_begin(gov, &ns->id, ret_change, err) : gov_group_missing(err);
}

/* --- namespaces --- */

int gov_namespace_create(cal_gov *gov, const gov_namespace_spec *spec, cal_group_id *ret_id,
                         gov_change **ret_change, cal_error *err) {
    gov_change *change;
    cal_group_id id;
    int result = gov_check_name(spec->name, err);
    if (result) return result;
    if (gov_id_zero(spec->app_key.bytes))
        return cal_fail(err, CAL_EINVAL, "the application's code version is all zero");
    pick_id(gov->os, spec->id, &id);
    if (cal_map_get(&gov->groups, cal_slice_of(id.bytes, 32)))
        return cal_fail(err, CAL_EEXISTS, "a namespace or group with this id exists already");
    if (spec->id && cal_removal_pending(&gov_removal, id.bytes, gov->store) == 0)
        return cal_fail(err, CAL_EBUSY,
                        "a namespace with this id is still being removed; try again later");
    if ((result = gov_change_begin(gov, &id, &change, err))) return result;
    gov_put_meta(change, &id,
                 &(gov_meta){.application = spec->application,
                             .app_key = spec->app_key,
                             .created_at_s = gov_now_s(gov)});
    put_local_rows(change, &id, spec->name);
    gov_root_op op = {.kind = GOV_NAMESPACE_CREATED,
                      .account = gov->identity.account,
                      .credential = gov->identity.credential};
    result = gov_author_root(change, &op, err);
    result = gov_change_finish(change, result, ret_change, err);
    if (!result) *ret_id = id;
    return result;
}

int gov_namespace_delete(cal_gov *gov, const cal_group_id *namespace_id, gov_change **ret_change,
                         cal_error *err) {
    gov_change *change;
    gov_view view;
    gov_namespace *ns = gov_find_group(gov, namespace_id, &view);
    if (!ns || !gov_id_equal(ns->id.bytes, namespace_id->bytes))
        return cal_fail(err, CAL_ENOTFOUND, "no such namespace on this node");
    cal_account_id self = gov_acting(gov, &view);
    bool left = gov_path_of(&view, namespace_id, &self, NULL) == GOV_PATH_NONE &&
                !gov_namespace_joining(gov, namespace_id); /* or was removed */
    if (!left && !gov_admin(&view, namespace_id, &self))
        return cal_fail(err, CAL_EDENIED,
                        "only an admin of a namespace may delete it from a node: leave it first");
    int result = gov_change_begin(gov, namespace_id, &change, err);
    if (result) return result;
    change->purge = true;
    change->error = cal_removal_mark(&gov_removal, namespace_id->bytes, change->batch);
    return gov_change_finish(change, 0, ret_change, err);
}

/* --- groups --- */

int gov_group_create(cal_gov *gov, const gov_group_spec *spec, cal_group_id *ret_id,
                     gov_change **ret_change, cal_error *err) {
    gov_change *change;
    cal_group_id id;
    int result = gov_check_name(spec->name, err);
    if (!result) result = gov_change_begin_in(gov, &spec->parent, &change, err);
    if (result) return result;
    gov_view view = gov_change_view(change);
    pick_id(gov->os, spec->id, &id);
    gov_root_op op = {.kind = GOV_GROUP_CREATED,
                      .group = id,
                      .parent = spec->parent,
                      .restricted = !spec->open,
                      .account = gov_acting(gov, &view)};
    result = gov_author_root(change, &op, err);
    if (!result) put_local_rows(change, &id, spec->name);
    result = gov_change_finish(change, result, ret_change, err);
    if (!result) *ret_id = id;
    return result;
}

typedef struct {
    cal_buffer groups, contexts;
} subtree;

/* Children before parents. */
static void collect(const gov_view *view, const cal_group_id *group, subtree *found) {
    gov_walk children = gov_walk_start(view, ROW_CHILD, group->bytes, NULL);
    gov_walk contexts = gov_walk_start(view, ROW_CONTEXT, group->bytes, NULL);
    cal_slice id, value;
    while (gov_walk_next(&children, &id, NULL)) {
        cal_group_id child;
        memcpy(child.bytes, id.data, 32);
        collect(view, &child, found);
        cal_buffer_append(&found->groups, child.bytes, 32);
    }
    while (gov_walk_next(&contexts, &id, &value)) cal_buffer_append(&found->contexts, id.data, 32);
}

static gov_ids ids_of(gov_change *change, const cal_buffer *bytes) {
    const cal_hash *items = cal_arena_copy(&change->arena, bytes->data, bytes->len);
    if (!items || bytes->error) change->error = bytes->error ? bytes->error : CAL_ENOMEM;
    return (gov_ids){items, items ? (uint32_t)(bytes->len / 32) : 0};
}

int gov_group_delete(cal_gov *gov, const cal_group_id *group, gov_change **ret_change,
                     cal_error *err) {
    gov_change *change;
    int result = gov_change_begin_in(gov, group, &change, err);
    if (result) return result;
    gov_view view = gov_change_view(change);
    subtree found;
    cal_buffer_init(&found.groups, GOV_ID_LIST_MAX * 32);
    cal_buffer_init(&found.contexts, GOV_ID_LIST_MAX * 32);
    collect(&view, group, &found);
    gov_root_op op = {.kind = GOV_GROUP_DELETED,
                      .group = *group,
                      .groups = ids_of(change, &found.groups),
                      .contexts = ids_of(change, &found.contexts)};
    cal_buffer_deinit(&found.groups);
    cal_buffer_deinit(&found.contexts);
    if (!change->error) result = gov_author_root(change, &op, err);
    return gov_change_finish(change, result, ret_change, err);
}

int gov_group_change(cal_gov *gov, const cal_group_id *group, const gov_group_op *op,
                     gov_change **ret_change, cal_error *err) {
    gov_change *change;
    int result = gov_change_begin_in(gov, group, &change, err);
    if (result) return result;
    result = gov_author_group(change, group, op, err);
    return gov_change_finish(change, result, ret_change, err);
}

int gov_group_set_metadata(cal_gov *gov, const cal_group_id *group, const char *name,
                           gov_change **ret_change, cal_error *err) {
    int result = gov_check_name(name, err);
    gov_group_op op = {.kind = GOV_GROUP_METADATA_SET, .name = gov_optional_text(name)};
    return result ? result : gov_group_change(gov, group, &op, ret_change, err);
}

int gov_group_set_visibility(cal_gov *gov, const cal_group_id *group, bool open,
                             gov_change **ret_change, cal_error *err) {
    gov_group_op op = {.kind = GOV_VISIBILITY_SET, .visibility = open ? 0 : 1};
    return gov_group_change(gov, group, &op, ret_change, err);
}

int gov_group_set_default_capabilities(cal_gov *gov, const cal_group_id *group,
                                       uint32_t capabilities, gov_change **ret_change,
                                       cal_error *err) {
    gov_group_op op = {.kind = GOV_DEFAULT_CAPABILITIES_SET, .capabilities = capabilities};
    return gov_group_change(gov, group, &op, ret_change, err);
}

int gov_group_set_target(cal_gov *gov, const cal_group_id *group,
                         const cal_application_id *application, const cal_blob_id *app_key,
                         gov_change **ret_change, cal_error *err) {
    gov_group_op op = {
        .kind = GOV_TARGET_APPLICATION_SET, .application = *application, .app_key = *app_key};
    return gov_group_change(gov, group, &op, ret_change, err);
}

int gov_member_set_capabilities(cal_gov *gov, const cal_group_id *group,
                                const cal_account_id *account, uint32_t capabilities,
                                gov_change **ret_change, cal_error *err) {
    gov_group_op op = {
        .kind = GOV_MEMBER_CAPABILITY_SET, .account = *account, .capabilities = capabilities};
    return gov_group_change(gov, group, &op, ret_change, err);
}

/* --- contexts --- */

int gov_context_prepare(cal_gov *gov, const cal_group_id *group, gov_context_plan *ret_plan,
                        cal_error *err) {
    gov_view view;
    gov_meta meta;
    gov_group_key key;
    gov_namespace *ns = gov_find_group(gov, group, &view);
    if (!ns) return gov_group_missing(err);
    const cal_account_id self = gov_acting(gov, &view), *account = &self;
    if (gov_path_of(&view, group, account, NULL) == GOV_PATH_NONE)
        return cal_fail(err, CAL_EDENIED, "this node is not a member of the group");
    if (!gov_allowed(&view, group, account, GOV_CAN_CREATE_CONTEXT))
        return cal_fail(err, CAL_EDENIED, "this node may not create contexts in the group");
    cal_group_id sealing = gov_key_group(&view, group);
    if (!gov_key_current(&view, &sealing, &key))
        return cal_fail(err, CAL_ESTATE,
                        "this node has no key of the group yet; wait until a member delivers it");
    cal_secret_wipe(&key.key);
    gov_meta_get(&view, group, &meta);
    *ret_plan = (gov_context_plan){*group, ns->id, meta.application, meta.app_key, *account};
    return 0;
}

int gov_context_register(cal_gov *gov, const gov_context_spec *spec, gov_change **ret_change,
                         cal_error *err) {
    gov_change *change;
    gov_context_plan plan;
    int result = gov_check_name(spec->name, err);
    if (!result) result = gov_context_prepare(gov, &spec->group, &plan, err);
    if (result) return result;
    if (cal_map_get(&gov->contexts, cal_slice_of(spec->context.bytes, 32)))
        return cal_fail(err, CAL_EEXISTS, "a context with this id is registered already");
    gov_group_op op = {
        .kind = GOV_CONTEXT_REGISTERED,
        .context = spec->context,
        .application = spec->application,
        .blob = spec->blob,
        .source = cal_slice_text(spec->source ? spec->source : ""),
        .service_name = gov_optional_text(spec->service_name),
    };
    gov_group_op naming = {.kind = GOV_CONTEXT_METADATA_SET,
                           .context = spec->context,
                           .name = gov_optional_text(spec->name)};
    if ((result = gov_change_begin(gov, &plan.namespace_id, &change, err))) return result;
    result = gov_author_group(change, &spec->group, &op, err);
    if (!result && spec->name) {
        gov_view view = gov_change_view(change);
        if (gov_allowed(&view, &spec->group, &plan.account, GOV_CAN_MANAGE_METADATA))
            result = gov_author_group(change, &spec->group, &naming, err);
        else
            result = cal_fail(err, CAL_EDENIED,
                              "this node may create a context in the group, but not name it");
    }
    return gov_change_finish(change, result, ret_change, err);
}

int gov_context_detach(cal_gov *gov, const cal_context_id *context, gov_change **ret_change,
                       cal_error *err) {
    cal_group_id group;
    gov_group_op op = {.kind = GOV_CONTEXT_DETACHED, .context = *context};
    if (gov_context_group(gov, context, &group, NULL))
        return cal_fail(err, CAL_ENOTFOUND, "the context is in no group of this node");
    return gov_group_change(gov, &group, &op, ret_change, err);
}

/* --- invitations --- */

/* The inviter is whom the signing key speaks for; the rights are asked as the joiner's operation
 * will ask them (governance.md 10, step 7). */
int gov_invite_as(cal_gov *gov, const cal_group_id *group, gov_role role, uint64_t valid_s,
                  gov_invitation *ret_invitation, const char **ret_name, cal_error *err) {
    gov_view view;
    gov_meta meta;
    gov_metadata data = {0};
    int result = gov_check_role(role, err);
    if (result) return result;
    if (!gov_find_group(gov, group, &view)) return gov_group_missing(err);
    cal_account_id self = gov_acting(gov, &view);
    if (!gov_allowed(&view, group, &self, GOV_CAN_INVITE_MEMBERS))
        return cal_fail(err, CAL_EDENIED, "this node may not invite into the group");
    if (role == GOV_ROLE_ADMIN && !gov_admin(&view, group, &self))
        return cal_fail(err, CAL_EDENIED, "only an admin may invite an admin");
    uint64_t now = gov_now_s(gov), valid = valid_s ? valid_s : GOV_INVITATION_DEFAULT_VALID_S;
    if (valid > UINT64_MAX - now)
        return cal_fail(err, CAL_EINVAL, "the invitation would be valid for too long");
    gov_meta_get(&view, group, &meta);
    *ret_invitation = (gov_invitation){
        .group = *group,
        .expires_at_s = now + valid,
        .role = (uint8_t)role,
        .has_inviter_account = true,
        .has_application = true,
        .has_app_key = true,
        .inviter_account = self,
        .application = meta.application,
        .app_key = meta.app_key,
    };
    cal_random(gov->os, ret_invitation->nonce, sizeof ret_invitation->nonce);
    gov_invitation_sign(ret_invitation, &gov->identity.sign_seed);
    gov_key key = gov_key_of(ROW_GROUP_DATA, group->bytes, NULL, NULL);
    gov_metadata_get(&view, &key, &data);
    if (ret_name) *ret_name = data.name;
    return 0;
}

int gov_invite(cal_gov *gov, const cal_group_id *group, uint64_t valid_s,
               gov_invitation *ret_invitation, const char **ret_name, cal_error *err) {
    return gov_invite_as(gov, group, GOV_ROLE_MEMBER, valid_s, ret_invitation, ret_name, err);
}
