/* Group operations, opened: who may, and what follows (governance.md 4.3).
 *
 * As in apply_root.c: rights are asked of the rows at the operation's cut, and a handler gives the
 * reason for its verdict. Loop thread. */
#include "gov/internal.h"

typedef struct {
    gov_apply *apply;
    const cal_group_id *group;
    const gov_group_op *op;
} sealed_op;

static bool is_admin(const sealed_op *s) {
    return s->apply->attributed && gov_admin(&s->apply->cut, s->group, &s->apply->signer);
}

static bool may(const sealed_op *s, uint32_t capability) {
    return s->apply->attributed &&
           gov_allowed(&s->apply->cut, s->group, &s->apply->signer, capability);
}

static bool by_self(const sealed_op *s) {
    return s->apply->attributed && gov_id_equal(s->op->account.bytes, s->apply->signer.bytes);
}

static gov_key group_key(const sealed_op *s, gov_row_kind kind) {
    return gov_key_of(kind, s->group->bytes, NULL, NULL);
}
static gov_key account_key(const sealed_op *s, gov_row_kind kind) {
    return gov_key_of(kind, s->group->bytes, s->op->account.bytes, NULL);
}
static gov_key context_key(const sealed_op *s, gov_row_kind kind) {
    return gov_key_of(kind, s->group->bytes, s->op->context.bytes, NULL);
}

/* --- members --- */

static gov_reason member_added(const sealed_op *s) {
    gov_member member = {.follow_contexts = true};
    uint32_t defaults;
    cal_slice value;
    if (!may(s, GOV_MANAGE_MEMBERS)) return GOV_WHY_NO_MANAGE_MEMBERS;
    if (s->op->role == GOV_ROLE_ADMIN && !is_admin(s)) return GOV_WHY_ADMIN_BY_ADMIN;
    if (s->op->role == GOV_ROLE_READ_ONLY_TEE) return GOV_WHY_ROLE_ATTESTED;
    gov_member_get(&s->apply->view, s->group, &s->op->account, &member);
    member.role = s->op->role;
    gov_put_member(s->apply->change, s->group, &s->op->account, &member);
    gov_change_delete(s->apply->change, account_key(s, ROW_REENTRY));
    gov_key key = group_key(s, ROW_DEFAULTS), own = account_key(s, ROW_CAPABILITIES);
    if (gov_view_get(&s->apply->view, &own, NULL) || member.role == GOV_ROLE_ADMIN ||
        !gov_view_get(&s->apply->view, &key, &value))
        return GOV_WHY_FINE;
    defaults = cal_read_u32le(value.data);
    if (defaults) gov_put_u32(s->apply->change, own, defaults);
    return GOV_WHY_FINE;
}

static bool is_owner(const sealed_op *s, const cal_account_id *account) {
    return gov_owner(&s->apply->cut, s->group, account);
}

/* With a row of its own, or named by what made the group. */
static bool is_direct(const sealed_op *s) {
    return gov_path_of(&s->apply->cut, s->group, &s->op->account, NULL) == GOV_PATH_DIRECT;
}

static void remove_member(const sealed_op *s, uint8_t reason) {
    gov_change *change = s->apply->change;
    gov_change_delete(change, account_key(s, ROW_MEMBER));
    gov_change_delete(change, account_key(s, ROW_CAPABILITIES));
    gov_change_delete(change, account_key(s, ROW_MEMBER_DATA));
    gov_change_put(change, account_key(s, ROW_REENTRY), cal_slice_of(&reason, 1));
}

/* The group hash and context roots in these operations only detect divergence; they never refuse
 * (governance.md 4.3). */
static gov_reason member_removed(const sealed_op *s) {
    if (!may(s, GOV_MANAGE_MEMBERS)) return GOV_WHY_NO_MANAGE_MEMBERS;
    if (gov_admin_direct(&s->apply->cut, s->group, &s->op->account) && !is_admin(s))
        return GOV_WHY_ADMIN_BY_ADMIN;
    if (is_owner(s, &s->op->account)) return GOV_WHY_OWNER_STAYS;
    if (gov_last_admin(&s->apply->cut, s->group, &s->op->account)) return GOV_WHY_LAST_ADMIN;
    remove_member(s, GOV_REENTRY_REMOVED);
    return GOV_WHY_FINE;
}

/* Of one group: whether the leaver may, and what goes with it. */
static gov_reason check_leaver(const sealed_op *s) {
    if (is_owner(s, &s->op->account)) return GOV_WHY_OWNER_STAYS;
    return gov_last_admin(&s->apply->cut, s->group, &s->op->account) ? GOV_WHY_LAST_ADMIN
                                                                     : GOV_WHY_FINE;
}

/* Of a row that it got beside the leave nothing is said but that it goes, as when the leave comes
 * first. */
static void leave(const sealed_op *s) {
    gov_key reentry = account_key(s, ROW_REENTRY);
    bool was = gov_view_get(&s->apply->view, &reentry, NULL);
    remove_member(s, GOV_REENTRY_LEFT);
    if (!is_direct(s) && !was) gov_change_delete(s->apply->change, reentry);
}

static void add_rows_of(const sealed_op *s, const gov_view *view, cal_buffer *ret_groups) {
    gov_walk walk = gov_walk_start(view, ROW_MEMBER, NULL, NULL);
    cal_slice rest, value;
    while (gov_walk_next(&walk, &rest, &value)) {
        cal_group_id group;
        bool known = false;
        if (!gov_id_equal(rest.data + 32, s->op->account.bytes)) continue;
        for (size_t at = 0; at < ret_groups->len && !known; at += 32)
            known = gov_id_equal(rest.data, ret_groups->data + at);
        memcpy(group.bytes, rest.data, 32);
        if (!known && gov_meta_get(&s->apply->view, &group, NULL))
            cal_buffer_append(ret_groups, group.bytes, 32);
    }
}

/* The group and, of a namespace, all groups in which the account has a row of its own, or had one
 * when it left: a removal beside the leave may have come first. */
static int rows_of_leaver(const sealed_op *s, bool all, cal_buffer *ret_groups) {
    cal_buffer_append(ret_groups, s->group->bytes, 32);
    if (all) add_rows_of(s, &s->apply->view, ret_groups);
    if (all) add_rows_of(s, &s->apply->cut, ret_groups);
    return ret_groups->error;
}

/* Whoever leaves the namespace leaves every group in it, or none. */
static gov_reason member_left(const sealed_op *s) {
    bool root = gov_id_equal(s->group->bytes, s->apply->view.namespace_id.bytes);
    gov_reason reason = GOV_WHY_FINE;
    cal_buffer groups;
    if (!by_self(s)) return GOV_WHY_NOT_SELF;
    if (!is_direct(s)) return GOV_WHY_NO_MEMBER;
    cal_buffer_init(&groups, CAL_STORE_VALUE_MAX);
    int result = rows_of_leaver(s, root, &groups);
    if (result) s->apply->change->error = result;
    for (int pass = 0; pass < 2; pass++) /* all may be left before any is */
        for (size_t at = 0; at < groups.len && reason == GOV_WHY_FINE; at += 32) {
            const sealed_op one = {s->apply, (const cal_group_id *)(const void *)(groups.data + at),
                                   s->op};
            if (pass == 0)
                reason = check_leaver(&one);
            else
                leave(&one);
        }
    cal_buffer_deinit(&groups);
    return reason;
}

static gov_reason member_role_set(const sealed_op *s) {
    gov_member member = {.follow_contexts = true};
    if (!is_admin(s)) return GOV_WHY_NOT_ADMIN;
    if (s->op->role == GOV_ROLE_READ_ONLY_TEE) return GOV_WHY_ROLE_ATTESTED;
    if (!is_direct(s)) return GOV_WHY_NO_MEMBER;
    if (s->op->role != GOV_ROLE_ADMIN && gov_last_admin(&s->apply->cut, s->group, &s->op->account))
        return GOV_WHY_LAST_ADMIN;
    gov_member_get(&s->apply->view, s->group, &s->op->account, &member);
    member.role = s->op->role;
    gov_put_member(s->apply->change, s->group, &s->op->account, &member);
    gov_change_delete(s->apply->change, account_key(s, ROW_REENTRY)); /* of a leave beside it */
    return GOV_WHY_FINE;
}

static gov_reason member_capability_set(const sealed_op *s) {
    if (!is_admin(s)) return GOV_WHY_NOT_ADMIN;
    gov_put_u32(s->apply->change, account_key(s, ROW_CAPABILITIES), s->op->capabilities);
    return GOV_WHY_FINE;
}

static gov_reason auto_follow_set(const sealed_op *s) {
    gov_member member;
    if (!is_admin(s) && !by_self(s)) return GOV_WHY_NOT_ADMIN_OR_SELF;
    if (!gov_member_get(&s->apply->view, s->group, &s->op->account, &member))
        return GOV_WHY_NO_MEMBER;
    member.follow_contexts = s->op->follow_contexts;
    member.follow_subgroups = s->op->follow_subgroups;
    gov_put_member(s->apply->change, s->group, &s->op->account, &member);
    return GOV_WHY_FINE;
}

static gov_reason ownership_transferred(const sealed_op *s) {
    gov_meta meta;
    if (!s->apply->attributed || !is_owner(s, &s->apply->signer)) return GOV_WHY_NOT_OWNER;
    if (!gov_admin_direct(&s->apply->cut, s->group, &s->op->account))
        return GOV_WHY_OWNER_NOT_ADMIN;
    gov_meta_get(&s->apply->view, s->group, &meta);
    meta.owner = meta.admin = s->op->account;
    gov_put_meta(s->apply->change, s->group, &meta);
    if (gov_id_equal(
            s->group->bytes,
            s->apply->view.namespace_id.bytes)) /* of a group it would reach too far (18.2, G4) */
        gov_change_put(s->apply->change, gov_key_of(ROW_ROOT_ADMIN, NULL, NULL, NULL),
                       cal_slice_of(s->op->account.bytes, 32));
    return GOV_WHY_FINE;
}

/* --- settings --- */

static gov_reason default_capabilities_set(const sealed_op *s) {
    if (!is_admin(s)) return GOV_WHY_NOT_ADMIN;
    gov_put_u32(s->apply->change, group_key(s, ROW_DEFAULTS), s->op->capabilities);
    return GOV_WHY_FINE;
}

static void set_target(const sealed_op *s, const cal_group_id *group, gov_meta meta) {
    meta.application = s->op->application;
    meta.app_key = s->op->app_key;
    gov_put_meta(s->apply->change, group, &meta);
}

static gov_reason target_application_set(const sealed_op *s) {
    gov_meta meta;
    if (!may(s, GOV_MANAGE_APPLICATION)) return GOV_WHY_NO_MANAGE_APPLICATION;
    gov_meta_get(&s->apply->view, s->group, &meta);
    set_target(s, s->group, meta);
    return GOV_WHY_FINE;
}

/* The group and every group below it that runs the old code (governance.md 14). */
static void cascade(const sealed_op *s, const cal_group_id *group) {
    gov_meta meta;
    gov_walk walk = gov_walk_start(&s->apply->view, ROW_CHILD, group->bytes, NULL);
    cal_slice id;
    if (gov_meta_get(&s->apply->view, group, &meta) &&
        gov_id_equal(meta.app_key.bytes, s->op->from_app_key.bytes)) {
        set_target(s, group, meta);
        if (s->op->migration.present)
            gov_change_put(s->apply->change, gov_key_of(ROW_MIGRATION, group->bytes, NULL, NULL),
                           s->op->migration.bytes);
    }
    while (gov_walk_next(&walk, &id, NULL)) {
        cal_group_id child;
        memcpy(child.bytes, id.data, 32);
        cascade(s, &child);
    }
}

static gov_reason cascade_upgrade(const sealed_op *s) {
    if (!may(s, GOV_MANAGE_APPLICATION)) return GOV_WHY_NO_MANAGE_APPLICATION;
    cascade(s, s->group);
    return GOV_WHY_FINE;
}

static gov_reason migration_set(const sealed_op *s) {
    gov_key key = group_key(s, ROW_MIGRATION);
    if (!may(s, GOV_MANAGE_APPLICATION)) return GOV_WHY_NO_MANAGE_APPLICATION;
    if (s->op->migration.present)
        gov_change_put(s->apply->change, key, s->op->migration.bytes);
    else
        gov_change_delete(s->apply->change, key);
    return GOV_WHY_FINE;
}

static gov_reason visibility_set(const sealed_op *s) {
    if (!may(s, GOV_CAN_MANAGE_VISIBILITY)) return GOV_WHY_NO_MANAGE_VISIBILITY;
    gov_change_put(s->apply->change, group_key(s, ROW_VISIBILITY),
                   cal_slice_of(&s->op->visibility, 1));
    return GOV_WHY_FINE;
}

static gov_reason put_metadata(const sealed_op *s, gov_key key) {
    gov_put_metadata(s->apply->change, key, s->op->name, &s->op->data, s->apply->op->signer);
    return GOV_WHY_FINE;
}

static gov_reason group_metadata_set(const sealed_op *s) {
    if (!may(s, GOV_CAN_MANAGE_METADATA)) return GOV_WHY_NO_MANAGE_METADATA;
    return put_metadata(s, group_key(s, ROW_GROUP_DATA));
}

static gov_reason member_metadata_set(const sealed_op *s) {
    bool own =
        by_self(s) && gov_path_of(&s->apply->cut, s->group, &s->op->account, NULL) != GOV_PATH_NONE;
    if (!own && !may(s, GOV_CAN_MANAGE_METADATA)) return GOV_WHY_NO_MANAGE_METADATA;
    return put_metadata(s, account_key(s, ROW_MEMBER_DATA));
}

static gov_reason context_metadata_set(const sealed_op *s) {
    if (!may(s, GOV_CAN_MANAGE_METADATA)) return GOV_WHY_NO_MANAGE_METADATA;
    if (!gov_context_row_get(&s->apply->view, s->group, &s->op->context, NULL))
        return GOV_WHY_NO_CONTEXT;
    return put_metadata(s, context_key(s, ROW_CONTEXT_DATA));
}

static gov_reason tee_policy_set(const sealed_op *s) {
    if (!is_admin(s)) return GOV_WHY_NOT_ADMIN;
    if (!gov_id_equal(s->group->bytes, s->apply->view.namespace_id.bytes))
        return GOV_WHY_POLICY_PLACE;
    return GOV_WHY_FINE; /* no attested node is admitted by this node: nothing to keep beyond the
                            operation */
}

static gov_reason group_delete(const sealed_op *s) {
    if (gov_id_equal(s->group->bytes, s->apply->view.namespace_id.bytes))
        return GOV_WHY_NAMESPACE_STAYS;
    if (!s->apply->attributed || !is_owner(s, &s->apply->signer)) return GOV_WHY_NOT_OWNER;
    if (gov_walk_count(&s->apply->view, ROW_CONTEXT, s->group->bytes) ||
        gov_walk_count(&s->apply->view, ROW_CHILD, s->group->bytes))
        return GOV_WHY_NOT_EMPTY;
    gov_delete_group_rows(s->apply, s->group);
    return GOV_WHY_FINE;
}

/* --- contexts --- */

static gov_reason context_registered(const sealed_op *s) {
    gov_meta meta;
    if (!may(s, GOV_CAN_CREATE_CONTEXT)) return GOV_WHY_NO_CREATE_CONTEXT;
    gov_reason reason = gov_context_free(s->apply, &s->op->context);
    if (reason != GOV_WHY_FINE) return reason;
    gov_put_context(s->apply->change, s->group, s->op);
    if (gov_meta_get(&s->apply->view, s->group, &meta) && gov_id_zero(meta.application.bytes)) {
        meta.application = s->op->application;
        gov_put_meta(s->apply->change, s->group, &meta);
    }
    return GOV_WHY_FINE;
}

static gov_reason context_detached(const sealed_op *s) {
    if (!is_admin(s)) return GOV_WHY_NOT_ADMIN;
    if (!gov_context_row_get(&s->apply->view, s->group, &s->op->context, NULL))
        return GOV_WHY_NO_CONTEXT;
    gov_change_delete(s->apply->change, context_key(s, ROW_CONTEXT));
    gov_change_delete(s->apply->change, context_key(s, ROW_CONTEXT_DATA));
    gov_change_delete(s->apply->change,
                      gov_key_of(ROW_CONTEXT_GROUP, s->op->context.bytes, NULL, NULL));
    return GOV_WHY_FINE;
}

static gov_reason context_capability(const sealed_op *s) {
    gov_key key =
        gov_key_of(ROW_CONTEXT_MASK, s->group->bytes, s->op->context.bytes, s->op->account.bytes);
    cal_slice value;
    uint8_t mask = gov_view_get(&s->apply->view, &key, &value) ? value.data[0] : 0;
    if (!may(s, GOV_MANAGE_MEMBERS)) return GOV_WHY_NO_MANAGE_MEMBERS;
    if (!gov_context_row_get(&s->apply->view, s->group, &s->op->context, NULL))
        return GOV_WHY_NO_CONTEXT;
    if (!gov_member_get(&s->apply->view, s->group, &s->op->account, NULL)) return GOV_WHY_NO_MEMBER;
    if (s->op->kind == GOV_CONTEXT_CAPABILITY_GRANTED)
        mask |= s->op->mask;
    else
        mask = (uint8_t)(mask & ~s->op->mask);
    gov_change_put(s->apply->change, key, cal_slice_of(&mask, 1));
    return GOV_WHY_FINE;
}

/* --- accounts and keys --- */

/* Refusals of the link itself are not refusals of the operation. */
static gov_reason device_linked(const sealed_op *s) {
    const gov_group_op *op = s->op;
    cal_account_id endorser;
    if (!gov_id_equal(op->endorsement.account.bytes, op->cert.account.bytes) ||
        !gov_endorsement_verify(&op->endorsement, &s->apply->change->gov->proofs))
        return GOV_WHY_NOT_ENDORSED;
    if (!gov_account_of_key(&s->apply->cut, op->endorsement.member_key, &endorser) ||
        gov_path_of(&s->apply->cut, s->group, &endorser, NULL) == GOV_PATH_NONE)
        return GOV_WHY_ENDORSER;
    gov_credential credential = {.genesis = op->genesis, .chain = op->chain, .cert = op->cert};
    if (gov_link_device(s->apply, &credential) == GOV_WHY_FINE)
        gov_change_put(s->apply->change,
                       gov_key_of(ROW_ENDORSER, op->cert.account.bytes, endorser.bytes, NULL),
                       (cal_slice){0});
    return GOV_WHY_FINE;
}

static void put_device_gone(const sealed_op *s, const uint8_t *group, cal_slice sequence) {
    gov_key key = gov_key_of(ROW_DEVICE_GONE, group, s->op->device.bytes, NULL);
    if (!gov_view_get(&s->apply->view, &key, NULL)) gov_change_put(s->apply->change, key, sequence);
}

/* The device knows the key of every group that its account is in. */
static void note_device_gone(const sealed_op *s) {
    gov_key revoked = gov_key_of(ROW_REVOKED, s->op->device.bytes, NULL, NULL);
    uint8_t number[8];
    uint64_t sequence = 0;
    int result = gov_apply_place(s->apply, &sequence);
    if (result && !s->apply->change->error) s->apply->change->error = result;
    cal_write_u64le(number, sequence);
    put_device_gone(s, s->group->bytes, cal_slice_of(number, sizeof number));
    if (gov_view_get(&s->apply->view, &revoked, NULL)) return; /* gone since then */
    gov_walk walk = gov_walk_start(&s->apply->view, ROW_MEMBER, NULL, NULL);
    cal_slice rest, value;
    while (gov_walk_next(&walk, &rest, &value)) {
        cal_group_id group;
        memcpy(group.bytes, rest.data, 32);
        if (gov_id_equal(rest.data + 32, s->op->account.bytes) &&
            gov_has_own_key(&s->apply->view, &group))
            put_device_gone(s, group.bytes, cal_slice_of(number, sizeof number));
    }
}

static gov_reason device_unlinked(const sealed_op *s) {
    const gov_group_op *op = s->op;
    gov_binding binding;
    bool proven = op->has_proof && gov_binding_get(&s->apply->view, &op->device, &binding) &&
                  gov_id_equal(binding.account.bytes, op->account.bytes) &&
                  gov_id_equal(op->proof.revocation.device.bytes, op->device.bytes) &&
                  gov_revocation_verify(&op->proof, &op->account, &s->apply->change->gov->proofs) ==
                      GOV_PROOF_OK;
    if (!proven && !is_admin(s)) return GOV_WHY_UNLINK_PROOF;
    note_device_gone(s);
    gov_change_put(s->apply->change, gov_key_of(ROW_REVOKED, op->device.bytes, NULL, NULL),
                   (cal_slice){0});
    return GOV_WHY_FINE;
}

/* It must continue the chain as of the cut. Of two that continue it at once the frame takes the one
 * that every node takes (settle in apply.c). */
static gov_reason account_keys_rotated(const sealed_op *s) {
    const gov_handoff *handoff = &s->op->handoff;
    uint8_t current[32], epoch[32] = {0};
    uint32_t known = gov_root_epoch(&s->apply->cut, &handoff->account, NULL);
    if (!s->apply->attributed ||
        !gov_id_equal(handoff->account.bytes, s->apply->signer.bytes)) /* 18.1, T14 */
        return GOV_WHY_HANDOFF_OTHER;
    cal_write_u32be(epoch + 28, known);
    gov_key key = gov_key_of(ROW_ROOT_KEY, handoff->account.bytes, epoch, NULL);
    cal_slice value;
    if (!gov_view_get(&s->apply->cut, &key, &value)) return GOV_WHY_NO_ROOT_KEY;
    memcpy(current, value.data, 32);
    if (handoff->from_epoch != known || known == UINT32_MAX ||
        !gov_handoff_verify(handoff, current, &s->apply->change->gov->proofs))
        return GOV_WHY_HANDOFF;
    cal_write_u32be(epoch + 28, known + 1);
    gov_change_put(s->apply->change, gov_key_of(ROW_ROOT_KEY, handoff->account.bytes, epoch, NULL),
                   cal_slice_of(handoff->new_root_key, 32));
    return GOV_WHY_FINE;
}

static gov_reason key_rotated(const sealed_op *s) {
    return is_admin(s) ? GOV_WHY_FINE : GOV_WHY_NOT_ADMIN;
}

static gov_reason noop(const sealed_op *s) {
    return s->apply->attributed &&
                   gov_path_of(&s->apply->cut, s->group, &s->apply->signer, NULL) != GOV_PATH_NONE
               ? GOV_WHY_FINE
               : GOV_WHY_STRANGER;
}

static gov_reason tee_joined(const sealed_op *s) {
    (void)s;
    return GOV_WHY_ATTESTED;
}

gov_reason gov_apply_group(gov_apply *apply, const cal_group_id *group, const gov_group_op *op) {
    static gov_reason (*const handlers[GOV_GROUP_KIND_COUNT])(const sealed_op *s) = {
        [GOV_NOOP] = noop,
        [GOV_MEMBER_ADDED] = member_added,
        [GOV_MEMBER_REMOVED] = member_removed,
        [GOV_MEMBER_LEFT] = member_left,
        [GOV_MEMBER_ROLE_SET] = member_role_set,
        [GOV_MEMBER_CAPABILITY_SET] = member_capability_set,
        [GOV_DEFAULT_CAPABILITIES_SET] = default_capabilities_set,
        [GOV_TARGET_APPLICATION_SET] = target_application_set,
        [GOV_CONTEXT_REGISTERED] = context_registered,
        [GOV_CONTEXT_DETACHED] = context_detached,
        [GOV_VISIBILITY_SET] = visibility_set,
        [GOV_GROUP_METADATA_SET] = group_metadata_set,
        [GOV_MEMBER_METADATA_SET] = member_metadata_set,
        [GOV_CONTEXT_METADATA_SET] = context_metadata_set,
        [GOV_GROUP_DELETE] = group_delete,
        [GOV_MIGRATION_SET] = migration_set,
        [GOV_CONTEXT_CAPABILITY_GRANTED] = context_capability,
        [GOV_CONTEXT_CAPABILITY_REVOKED] = context_capability,
        [GOV_TEE_POLICY_SET] = tee_policy_set,
        [GOV_GROUP_MEMBER_JOINED_TEE] = tee_joined,
        [GOV_AUTO_FOLLOW_SET] = auto_follow_set,
        [GOV_OWNERSHIP_TRANSFERRED] = ownership_transferred,
        [GOV_CASCADE_UPGRADE] = cascade_upgrade,
        [GOV_KEY_ROTATED] = key_rotated,
        [GOV_DEVICE_LINKED] = device_linked,
        [GOV_DEVICE_UNLINKED] = device_unlinked,
        [GOV_ACCOUNT_KEYS_ROTATED] = account_keys_rotated,
        [GOV_KEY_ROTATED_FOR_DEVICE] = key_rotated,
    };
    sealed_op s = {apply, group, op};
    return handlers[op->kind](&s);
}
