/* Root operations: who may, and what follows (governance.md 3, 4.3, 10). Loop thread. */
#include "base/error.h"
#include "gov/internal.h"

enum { REENTRY_REMOVED = 1, REENTRY_LEFT = 2 };

static int denied(const gov_apply *apply, const char *what) {
    return cal_fail(apply->err, CAL_EDENIED, "%s", what);
}

static int need_admin(const gov_apply *apply) {
    if (apply->attributed && gov_admin(apply->cut, &apply->view.namespace_id, &apply->signer))
        return 0;
    return denied(apply, "only an admin of the namespace may do this");
}

static gov_key key_of(gov_row_kind kind, const cal_group_id *group) {
    return gov_key_of(kind, group->bytes, NULL, NULL);
}

/* --- devices (governance.md 3) --- */

/* Root keys that the chain proves, from epoch 0; noted even when the device itself is refused. */
static void note_root_keys(gov_apply *apply, const gov_credential *credential) {
    const cal_account_id *account = &credential->cert.account;
    cal_account_id derived;
    gov_account_id(&credential->genesis, &derived);
    if (credential->genesis.version != GOV_GENESIS_VERSION ||
        !gov_id_equal(derived.bytes, account->bytes))
        return;
    const uint8_t *key = credential->genesis.root_key;
    for (uint32_t i = 0; i <= credential->chain.count; i++) {
        uint8_t epoch[32] = {0};
        cal_write_u32be(epoch + 28, i);
        gov_key row = gov_key_of(ROW_ROOT_KEY, account->bytes, epoch, NULL);
        if (!gov_view_get(&apply->view, &row, NULL))
            gov_change_put(apply->change, row, cal_slice_of(key, 32));
        if (i == credential->chain.count) break;
        const gov_handoff *handoff = &credential->chain.items[i];
        if (handoff->from_epoch != i || !gov_id_equal(handoff->account.bytes, account->bytes) ||
            !gov_handoff_verify(handoff, key))
            break;
        key = handoff->new_root_key;
    }
}

int gov_link_device(gov_apply *apply, const gov_credential *credential) {
    const gov_cert *cert = &credential->cert;
    gov_binding known, binding = {cert->account, {0}, {0}, cert->key_epoch, cert->device_epoch};
    memcpy(binding.sign_key, cert->sign_key, 32);
    memcpy(binding.kem_key, cert->kem_key, 32);
    if (credential->chain.count > GOV_HANDOFFS_MAX)
        return denied(apply, gov_proof_text(GOV_PROOF_CHAIN_LENGTH));
    note_root_keys(apply, credential);
    gov_proof_verdict verdict = gov_credential_verify(credential, &cert->account);
    if (verdict != GOV_PROOF_OK) return denied(apply, gov_proof_text(verdict));
    gov_key revoked = gov_key_of(ROW_REVOKED, cert->device.bytes, NULL, NULL);
    if (gov_view_get(&apply->view, &revoked, NULL))
        return denied(apply, "the device has been revoked");
    if (gov_binding_get(&apply->view, &cert->device, &known)) {
        if (!gov_id_equal(known.account.bytes, cert->account.bytes))
            return denied(apply, "the device belongs to another account");
        bool same = gov_id_equal(known.sign_key, cert->sign_key) &&
                    gov_id_equal(known.kem_key, cert->kem_key) &&
                    known.key_epoch == cert->key_epoch && known.device_epoch == cert->device_epoch;
        if (same) return 0;
        if (cert->device_epoch <= known.device_epoch)
            return denied(apply, "the device's certificate is superseded");
    }
    gov_put_binding(apply->change, &cert->device, &binding);
    return 0;
}

/* A joiner's credential: its own, and for the key that signs. */
static int check_credential(const gov_apply *apply, const gov_credential *credential,
                            const cal_account_id *account) {
    gov_proof_verdict verdict = gov_credential_verify(credential, account);
    if (verdict != GOV_PROOF_OK) return denied(apply, gov_proof_text(verdict));
    if (!gov_id_equal(credential->cert.sign_key, apply->op->signer))
        return denied(apply, "the credential certifies another key than the one that signs");
    return 0;
}

/* --- namespace and groups --- */

static int namespace_created(gov_apply *apply, const gov_root_op *op) {
    cal_group_id id = apply->view.namespace_id;
    gov_meta meta = {.created_at_s = gov_now_s(apply->change->gov)};
    if (gov_meta_get(&apply->view, &id, &meta) && !gov_id_zero(meta.admin.bytes))
        return 0; /* the first one counts */
    if (apply->op->parents.count)
        return denied(apply, "a namespace's first operation has no parents");
    int result = check_credential(apply, &op->credential, &op->account);
    if (!result) result = gov_link_device(apply, &op->credential);
    if (result) return result;
    meta.admin = meta.owner = op->account;
    gov_put_meta(apply->change, &id, &meta);
    gov_put_member(apply->change, &id, &op->account, &(gov_member){GOV_ROLE_ADMIN, true, false});
    gov_change_put(apply->change,
                   gov_key_of(ROW_ENDORSER, op->account.bytes, op->account.bytes, NULL),
                   (cal_slice){0});
    gov_key defaults = key_of(ROW_DEFAULTS, &id);
    if (!gov_view_get(&apply->view, &defaults, NULL))
        gov_put_u32(apply->change, defaults, GOV_CAPABILITIES_DEFAULT);
    return 0;
}

/* Edges from the group up to the namespace. */
static int depth_of(const gov_view *view, cal_group_id group) {
    int depth = 0;
    while (depth <= GOV_DEPTH_MAX && gov_group_parent(view, &group, &group)) depth++;
    return depth;
}

static int group_created(gov_apply *apply, const gov_root_op *op) {
    const cal_group_id ns = apply->view.namespace_id;
    gov_meta parent, meta = {.admin = op->account,
                             .owner = op->account,
                             .created_at_s = gov_now_s(apply->change->gov)};
    bool at_root = gov_id_equal(op->parent.bytes, ns.bytes);
    if (!apply->attributed ||
        !(gov_admin(apply->cut, &ns, &apply->signer) ||
          (at_root && gov_allowed(apply->cut, &ns, &apply->signer, GOV_CAN_CREATE_SUBGROUP))))
        return denied(
            apply,
            "creating a group here needs an admin of the namespace or the right to create groups");
    if (!gov_meta_get(&apply->view, &op->parent, &parent))
        return cal_fail(apply->err, CAL_ENOTFOUND,
                        "the parent group does not exist in this namespace");
    if (cal_map_get(&apply->change->gov->groups, cal_slice_of(op->group.bytes, 32)))
        return cal_fail(apply->err, CAL_EEXISTS, "a group with this id exists already");
    if (!gov_id_equal(op->account.bytes, apply->signer.bytes))
        return denied(apply, "a group's first admin is the account that creates it");
    if (depth_of(&apply->view, op->parent) + 1 > GOV_DEPTH_MAX)
        return cal_fail(apply->err, CAL_ELIMIT, "groups nest at most %d deep", GOV_DEPTH_MAX);
    meta.application = parent.application;
    meta.app_key = parent.app_key;
    gov_put_meta(apply->change, &op->group, &meta);
    gov_put_member(apply->change, &op->group, &op->account,
                   &(gov_member){GOV_ROLE_ADMIN, true, false});
    gov_change_put(apply->change, key_of(ROW_PARENT, &op->group),
                   cal_slice_of(op->parent.bytes, 32));
    gov_change_put(apply->change, gov_key_of(ROW_CHILD, op->parent.bytes, op->group.bytes, NULL),
                   (cal_slice){0});
    gov_key visibility = key_of(ROW_VISIBILITY, &op->group);
    uint8_t restricted = op->restricted;
    if (!gov_view_get(&apply->view, &visibility, NULL))
        gov_change_put(apply->change, visibility, cal_slice_of(&restricted, 1));
    return 0;
}

/* Whether `group` is `above` or lies below it. */
static bool is_below(const gov_view *view, cal_group_id group, const cal_group_id *above) {
    for (int steps = 0; steps <= GOV_ROOT_WALK_MAX; steps++) {
        if (gov_id_equal(group.bytes, above->bytes)) return true;
        if (!gov_group_parent(view, &group, &group)) return false;
    }
    return true; /* deeper than any tree: as good as a cycle */
}

/* Levels below the group; the tree is at most GOV_DEPTH_MAX deep, so this ends. */
static int height_of(const gov_view *view, const cal_group_id *group) {
    gov_walk walk = gov_walk_start(view, ROW_CHILD, group->bytes, NULL);
    cal_slice child;
    int height = 0;
    while (gov_walk_next(&walk, &child, NULL)) {
        cal_group_id id;
        memcpy(id.bytes, child.data, 32);
        int below = 1 + height_of(view, &id);
        if (below > height) height = below;
    }
    return height;
}

static int group_reparented(gov_apply *apply, const gov_root_op *op) {
    cal_group_id old;
    int result = need_admin(apply);
    if (result) return result;
    if (!gov_meta_get(&apply->view, &op->group, NULL) ||
        !gov_meta_get(&apply->view, &op->parent, NULL))
        return cal_fail(apply->err, CAL_ENOTFOUND,
                        "the group or its new parent does not exist in this namespace");
    if (!gov_group_parent(&apply->view, &op->group, &old))
        return denied(apply, "a namespace cannot be moved");
    if (is_below(&apply->view, op->parent, &op->group))
        return cal_fail(apply->err, CAL_EINVAL, "a group cannot be moved below itself");
    if (depth_of(&apply->view, op->parent) + 1 + height_of(&apply->view, &op->group) >
        GOV_DEPTH_MAX)
        return cal_fail(apply->err, CAL_ELIMIT, "groups nest at most %d deep", GOV_DEPTH_MAX);
    gov_change_delete(apply->change, gov_key_of(ROW_CHILD, old.bytes, op->group.bytes, NULL));
    gov_change_put(apply->change, key_of(ROW_PARENT, &op->group),
                   cal_slice_of(op->parent.bytes, 32));
    gov_change_put(apply->change, gov_key_of(ROW_CHILD, op->parent.bytes, op->group.bytes, NULL),
                   (cal_slice){0});
    return 0;
}

/* --- deletion --- */

static bool listed(const gov_ids *ids, const uint8_t id[32]) {
    for (uint32_t i = 0; i < ids->count; i++)
        if (gov_id_equal(ids->items[i].bytes, id)) return true;
    return false;
}

/* Everything below must be in the operation: it may not delete what its author did not know. */
static bool subtree_listed(const gov_view *view, const cal_group_id *group, const gov_root_op *op) {
    gov_walk contexts = gov_walk_start(view, ROW_CONTEXT, group->bytes, NULL);
    gov_walk children = gov_walk_start(view, ROW_CHILD, group->bytes, NULL);
    cal_slice id, value;
    while (gov_walk_next(&contexts, &id, &value))
        if (!listed(&op->contexts, id.data)) return false;
    while (gov_walk_next(&children, &id, NULL)) {
        cal_group_id child;
        memcpy(child.bytes, id.data, 32);
        if (!listed(&op->groups, child.bytes) || !subtree_listed(view, &child, op)) return false;
    }
    return true;
}

/* Deletes all rows of a kind under the group. The walk starts anew each time: deleting changes what
 * it walks over. */
static void delete_all(gov_apply *apply, gov_row_kind kind, const cal_group_id *group) {
    for (;;) {
        gov_walk walk = gov_walk_start(&apply->view, kind, group->bytes, NULL);
        cal_slice rest;
        if (apply->change->error || !gov_walk_next(&walk, &rest, NULL)) return;
        gov_key key = gov_key_of(kind, group->bytes, NULL, NULL);
        memcpy(key.bytes + key.len, rest.data, rest.len);
        key.len += rest.len;
        gov_change_delete(apply->change, key);
    }
}

void gov_delete_group_rows(gov_apply *apply, const cal_group_id *group) {
    static const gov_row_kind kinds[] = {
        ROW_CONTEXT,      ROW_CONTEXT_DATA, ROW_CONTEXT_MASK, ROW_MEMBER,
        ROW_MEMBER_DATA,  ROW_CAPABILITIES, ROW_DEFAULTS,     ROW_VISIBILITY,
        ROW_GROUP_DATA,   ROW_POLICY,       ROW_MIGRATION,    ROW_NONCES,
        ROW_ROTATION_DUE, ROW_REENTRY,      ROW_CONSUMED,     ROW_META,
    };
    gov_walk walk = gov_walk_start(&apply->view, ROW_CONTEXT, group->bytes, NULL);
    cal_slice context, value;
    cal_group_id parent;
    while (gov_walk_next(&walk, &context, &value)) /* deletes other rows than it walks over */
        gov_change_delete(apply->change, gov_key_of(ROW_CONTEXT_GROUP, context.data, NULL, NULL));
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) delete_all(apply, kinds[i], group);
    if (!gov_group_parent(&apply->view, group, &parent)) return;
    gov_change_delete(apply->change, gov_key_of(ROW_CHILD, parent.bytes, group->bytes, NULL));
    gov_change_delete(apply->change,
                      key_of(ROW_PARENT, group)); /* its keys stay: they read its history */
}

static void delete_subtree(gov_apply *apply, const cal_group_id *group) {
    for (;;) {
        gov_walk walk = gov_walk_start(&apply->view, ROW_CHILD, group->bytes, NULL);
        cal_slice id;
        if (apply->change->error || !gov_walk_next(&walk, &id, NULL)) break;
        cal_group_id child;
        memcpy(child.bytes, id.data, 32);
        delete_subtree(apply, &child);
    }
    gov_delete_group_rows(apply, group);
}

static int group_deleted(gov_apply *apply, const gov_root_op *op) {
    const cal_group_id *ns = &apply->view.namespace_id;
    gov_meta meta;
    if (gov_id_equal(op->group.bytes, ns->bytes))
        return denied(apply, "a namespace is not deleted by an operation");
    if (!gov_meta_get(&apply->view, &op->group, &meta))
        return cal_fail(apply->err, CAL_ENOTFOUND, "the group does not exist in this namespace");
    if (!apply->attributed ||
        !(gov_id_equal(meta.owner.bytes, apply->signer.bytes) ||
          gov_allowed(apply->cut, ns, &apply->signer, GOV_CAN_DELETE_SUBGROUP)))
        return denied(
            apply,
            "only the group's owner, or whoever may delete groups in the namespace, may do this");
    if (!subtree_listed(&apply->view, &op->group, op))
        return cal_fail(apply->err, CAL_ESTATE,
                        "the deletion does not list everything below the group");
    delete_subtree(apply, &op->group);
    return 0;
}

/* --- members --- */

static int admin_changed(gov_apply *apply, const gov_root_op *op) {
    cal_group_id ns = apply->view.namespace_id;
    gov_meta meta;
    gov_member member;
    int result = need_admin(apply);
    if (result) return result;
    if (!gov_meta_get(&apply->view, &ns, &meta) ||
        !gov_member_get(&apply->view, &ns, &op->account, &member))
        return cal_fail(apply->err, CAL_ENOTFOUND,
                        "the new admin is not a member of the namespace");
    meta.admin = op->account;
    member.role = GOV_ROLE_ADMIN;
    gov_put_meta(apply->change, &ns, &meta);
    gov_put_member(apply->change, &ns, &op->account, &member);
    gov_change_put(apply->change, gov_key_of(ROW_ROOT_ADMIN, NULL, NULL, NULL),
                   cal_slice_of(op->account.bytes, 32));
    return 0;
}

static uint8_t invited_role(uint8_t byte) {
    return byte == 0 ? GOV_ROLE_ADMIN : byte == 2 ? GOV_ROLE_READ_ONLY : GOV_ROLE_MEMBER;
}

/* Signature, time, and whether the inviter may invite with that role (governance.md 10, step 7). */
static int check_invitation(const gov_apply *apply, const gov_root_op *op) {
    const gov_invitation *invitation = &op->invitation;
    cal_account_id inviter;
    if (!gov_invitation_verify(invitation))
        return denied(apply, "the invitation's signature is wrong");
    if (op->kind == GOV_MEMBER_JOINED ? invitation->expires_at_s != 0
                                      : gov_invitation_expired(invitation, op->joined_at_s))
        return denied(apply, "the invitation had expired");
    if (!gov_meta_get(&apply->view, &invitation->group, NULL))
        return cal_fail(apply->err, CAL_ENOTFOUND,
                        "the invitation is for a group that this namespace does not have");
    if (!gov_account_of_key(apply->cut, invitation->inviter_key, &inviter) ||
        !gov_allowed(apply->cut, &invitation->group, &inviter, GOV_CAN_INVITE_MEMBERS))
        return denied(apply, "the inviter may not invite into this group");
    if (invited_role(invitation->role) == GOV_ROLE_ADMIN &&
        !gov_admin(apply->cut, &invitation->group, &inviter))
        return denied(apply, "only an admin may invite an admin");
    return 0;
}

static int member_joined(gov_apply *apply, const gov_root_op *op) {
    const gov_invitation *invitation = &op->invitation;
    const cal_group_id *group = &invitation->group;
    const gov_cert *cert = &op->credential.cert;
    if (!gov_id_equal(cert->account.bytes, op->account.bytes) ||
        !gov_id_equal(cert->sign_key, apply->op->signer))
        return denied(apply, "the joiner's credential is another's");
    int result = check_invitation(apply, op);
    if (result) return result;
    gov_key consumed = gov_key_of(ROW_CONSUMED, group->bytes, op->account.bytes, invitation->nonce);
    gov_key reentry = gov_key_of(ROW_REENTRY, group->bytes, op->account.bytes, NULL);
    cal_slice reason;
    if (gov_member_get(&apply->view, group, &op->account, NULL)) return 0;
    if (gov_view_get(&apply->view, &reentry, &reason) && reason.data[0] == REENTRY_REMOVED)
        return denied(apply, "a removed member comes back only when an admin adds it");
    if (gov_view_get(&apply->view, &consumed, NULL))
        return denied(apply, "this invitation has been used before");
    gov_put_member(apply->change, group, &op->account,
                   &(gov_member){invited_role(invitation->role), true, false});
    cal_error ignored;
    gov_apply quiet = *apply;
    quiet.err = &ignored;
    gov_link_device(&quiet, &op->credential); /* a refused device is a member without one */
    gov_change_put(apply->change,
                   gov_key_of(ROW_ENDORSER, op->account.bytes, op->account.bytes, NULL),
                   (cal_slice){0});
    gov_change_put(apply->change, consumed, (cal_slice){0});
    gov_change_delete(apply->change, reentry);
    return 0;
}

static int member_joined_open(gov_apply *apply, const gov_root_op *op) {
    int result = check_credential(apply, &op->credential, &op->account);
    if (result) return result;
    gov_key reentry = gov_key_of(ROW_REENTRY, op->group.bytes, op->account.bytes, NULL);
    if (!gov_meta_get(&apply->view, &op->group, NULL))
        return cal_fail(apply->err, CAL_ENOTFOUND, "the group does not exist in this namespace");
    if (gov_view_get(&apply->view, &reentry, NULL))
        return denied(apply, "a former member does not come back by itself");
    if (gov_path_of(apply->cut, &op->group, &op->account, NULL) != GOV_PATH_INHERITED)
        return denied(apply, "the account does not inherit membership of this group");
    return gov_link_device(apply, &op->credential);
}

/* Stricter than the reference (governance.md 18.2, G1): only a member's key is taken. */
static int key_delivery(gov_apply *apply, const gov_root_op *op) {
    const gov_identity *self = &apply->change->gov->identity;
    cal_secret key;
    int result = gov_envelope_open(&op->envelope, &op->group, &self->sign_seed, &self->device,
                                   &self->kem_secret, apply->op->signer, &key);
    if (result == CAL_ENOTFOUND) return 0; /* for somebody else */
    if (result) return cal_fail(apply->err, result, "the delivered key could not be opened");
    if (apply->attributed &&
        gov_path_of(apply->cut, &op->group, &apply->signer, NULL) != GOV_PATH_NONE)
        gov_put_key(apply->change, &op->group, &key, 0);
    cal_secret_wipe(&key);
    return 0;
}

int gov_apply_root(gov_apply *apply, const gov_root_op *op) {
    switch ((gov_root_kind)op->kind) {
    case GOV_GROUP_CREATED:
        return group_created(apply, op);
    case GOV_GROUP_REPARENTED:
        return group_reparented(apply, op);
    case GOV_GROUP_DELETED:
        return group_deleted(apply, op);
    case GOV_ADMIN_CHANGED:
        return admin_changed(apply, op);
    case GOV_POLICY_UPDATED:
        return need_admin(apply);
    case GOV_MEMBER_JOINED:
    case GOV_MEMBER_JOINED_AT:
        return member_joined(apply, op);
    case GOV_KEY_DELIVERY:
        return key_delivery(apply, op);
    case GOV_MEMBER_JOINED_OPEN:
        return member_joined_open(apply, op);
    case GOV_NAMESPACE_CREATED:
        return namespace_created(apply, op);
    case GOV_MEMBER_JOINED_TEE:
        return cal_fail(apply->err, CAL_EUNSUPPORTED,
                        "admission of attested nodes is not supported");
    case GOV_ROOT_KIND_COUNT:
        break;
    }
    return cal_fail(apply->err, CAL_EDECODE, "unknown kind of operation");
}
