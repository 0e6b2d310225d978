/* Root operations: who may, and what follows (governance.md 3, 4.3, 10).
 *
 * Who may is asked of the rows at the operation's cut, whether what it names exists and is free of
 * the present rows. A handler gives the reason for its verdict and puts rows; the frame (apply.c)
 * undoes them unless the operation applies. Loop thread. */
#include "gov/graph.h"

#include <stdlib.h>

static gov_reason need_admin(const gov_apply *apply) {
    return apply->attributed && gov_admin(&apply->cut, &apply->view.namespace_id, &apply->signer)
               ? GOV_WHY_FINE
               : GOV_WHY_NOT_NAMESPACE_ADMIN;
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
            !gov_handoff_verify(handoff, key, &apply->change->gov->proofs))
            break;
        key = handoff->new_root_key;
    }
}

gov_reason gov_link_device(gov_apply *apply, const gov_credential *credential) {
    const gov_cert *cert = &credential->cert;
    gov_binding known, binding = {cert->account, {0}, {0}, cert->key_epoch, cert->device_epoch};
    memcpy(binding.sign_key, cert->sign_key, 32);
    memcpy(binding.kem_key, cert->kem_key, 32);
    if (credential->chain.count > GOV_HANDOFFS_MAX) return GOV_WHY_CREDENTIAL;
    note_root_keys(apply, credential);
    if (gov_credential_verify(credential, &cert->account, &apply->change->gov->proofs) !=
        GOV_PROOF_OK)
        return GOV_WHY_CREDENTIAL;
    gov_key revoked = gov_key_of(ROW_REVOKED, cert->device.bytes, NULL, NULL);
    if (gov_view_get(&apply->view, &revoked, NULL)) return GOV_WHY_DEVICE_REVOKED;
    if (gov_binding_get(&apply->view, &cert->device, &known)) {
        if (!gov_id_equal(known.account.bytes, cert->account.bytes)) return GOV_WHY_DEVICE_TAKEN;
        bool same = gov_id_equal(known.sign_key, cert->sign_key) &&
                    gov_id_equal(known.kem_key, cert->kem_key) &&
                    known.key_epoch == cert->key_epoch && known.device_epoch == cert->device_epoch;
        if (same) return GOV_WHY_FINE;
        if (cert->device_epoch <= known.device_epoch) return GOV_WHY_DEVICE_SUPERSEDED;
    }
    gov_put_binding(apply->change, &cert->device, &binding);
    return GOV_WHY_FINE;
}

/* A joiner's credential: its own, and for the key that signs. */
static gov_reason check_credential(const gov_apply *apply, const gov_credential *credential,
                                   const cal_account_id *account) {
    if (!gov_id_equal(credential->cert.account.bytes, account->bytes))
        return GOV_WHY_CREDENTIAL_ACCOUNT;
    if (gov_credential_verify(credential, account, &apply->change->gov->proofs) != GOV_PROOF_OK)
        return GOV_WHY_CREDENTIAL;
    return gov_id_equal(credential->cert.sign_key, apply->op->signer) ? GOV_WHY_FINE
                                                                      : GOV_WHY_CREDENTIAL_KEY;
}

/* --- namespace and groups --- */

static gov_reason namespace_created(gov_apply *apply, const gov_root_op *op) {
    cal_group_id id = apply->view.namespace_id;
    gov_meta meta = {.created_at_s = gov_now_s(apply->change->gov)};
    if (gov_meta_get(&apply->view, &id, &meta) && !gov_id_zero(meta.admin.bytes))
        return GOV_WHY_FOUNDED; /* the first one counts */
    if (apply->op->parents.count) return GOV_WHY_FOUNDER_PARENTS;
    gov_reason reason = check_credential(apply, &op->credential, &op->account);
    if (reason == GOV_WHY_FINE) reason = gov_link_device(apply, &op->credential);
    if (reason != GOV_WHY_FINE) return reason;
    meta.admin = meta.owner = op->account;
    gov_put_meta(apply->change, &id, &meta);
    gov_put_member(apply->change, &id, &op->account, &(gov_member){GOV_ROLE_ADMIN, true, false});
    gov_change_put(apply->change,
                   gov_key_of(ROW_ENDORSER, op->account.bytes, op->account.bytes, NULL),
                   (cal_slice){0});
    gov_key defaults = key_of(ROW_DEFAULTS, &id);
    if (!gov_view_get(&apply->view, &defaults, NULL))
        gov_put_u32(apply->change, defaults, GOV_CAPABILITIES_DEFAULT);
    return GOV_WHY_FINE;
}

/* Edges from the group up to the namespace. */
static int depth_of(const gov_view *view, cal_group_id group) {
    int depth = 0;
    while (depth <= GOV_DEPTH_MAX && gov_group_parent(view, &group, &group)) depth++;
    return depth;
}

static gov_reason group_created(gov_apply *apply, const gov_root_op *op) {
    const cal_group_id ns = apply->view.namespace_id;
    gov_meta parent, meta = {.admin = op->account,
                             .owner = op->account,
                             .created_at_s = gov_now_s(apply->change->gov)};
    bool at_root = gov_id_equal(op->parent.bytes, ns.bytes);
    if (!apply->attributed ||
        !(gov_admin(&apply->cut, &ns, &apply->signer) ||
          (at_root && gov_allowed(&apply->cut, &ns, &apply->signer, GOV_CAN_CREATE_SUBGROUP))))
        return GOV_WHY_NO_CREATE_GROUP;
    if (!gov_meta_get(&apply->view, &op->parent, &parent)) return GOV_WHY_NO_PARENT_GROUP;
    gov_reason reason = gov_group_free(apply, &op->group);
    if (reason != GOV_WHY_FINE) return reason;
    if (!gov_id_equal(op->account.bytes, apply->signer.bytes)) return GOV_WHY_GROUP_ADMIN_OTHER;
    if (depth_of(&apply->view, op->parent) + 1 > GOV_DEPTH_MAX) return GOV_WHY_TOO_DEEP;
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
    return GOV_WHY_FINE;
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

static gov_reason group_reparented(gov_apply *apply, const gov_root_op *op) {
    cal_group_id old;
    gov_reason reason = need_admin(apply);
    if (reason != GOV_WHY_FINE) return reason;
    if (!gov_meta_get(&apply->view, &op->group, NULL)) return GOV_WHY_NO_GROUP;
    if (!gov_meta_get(&apply->view, &op->parent, NULL)) return GOV_WHY_NO_PARENT_GROUP;
    if (!gov_group_parent(&apply->view, &op->group, &old)) return GOV_WHY_NAMESPACE_STAYS;
    if (is_below(&apply->view, op->parent, &op->group)) return GOV_WHY_CYCLE;
    if (depth_of(&apply->view, op->parent) + 1 + height_of(&apply->view, &op->group) >
        GOV_DEPTH_MAX)
        return GOV_WHY_TOO_DEEP;
    gov_change_delete(apply->change, gov_key_of(ROW_CHILD, old.bytes, op->group.bytes, NULL));
    gov_change_put(apply->change, key_of(ROW_PARENT, &op->group),
                   cal_slice_of(op->parent.bytes, 32));
    gov_change_put(apply->change, gov_key_of(ROW_CHILD, op->parent.bytes, op->group.bytes, NULL),
                   (cal_slice){0});
    return GOV_WHY_FINE;
}

/* --- deletion --- */

/* What a deletion lists, in order: a list may have as many ids as a group has contexts. */
typedef struct {
    cal_hash *groups, *contexts;
    const gov_root_op *op;
} deletion;

static int compare_ids(const void *a, const void *b) { return memcmp(a, b, sizeof(cal_hash)); }

static int sort_ids(const gov_ids *ids, cal_hash **ret_sorted) {
    *ret_sorted = malloc(ids->count * sizeof(cal_hash) + 1);
    if (!*ret_sorted) return CAL_ENOMEM;
    if (!ids->count) return 0;
    memcpy(*ret_sorted, ids->items, ids->count * sizeof(cal_hash));
    qsort(*ret_sorted, ids->count, sizeof(cal_hash), compare_ids);
    return 0;
}

static bool listed(const cal_hash *sorted, size_t count, const uint8_t id[32]) {
    return count && bsearch(id, sorted, count, sizeof(cal_hash), compare_ids);
}

/* Everything below must be in the operation: it may not delete what its author did not know. */
static bool subtree_listed(const gov_view *view, const cal_group_id *group, const deletion *list) {
    gov_walk contexts = gov_walk_start(view, ROW_CONTEXT, group->bytes, NULL);
    gov_walk children = gov_walk_start(view, ROW_CHILD, group->bytes, NULL);
    cal_slice id, value;
    while (gov_walk_next(&contexts, &id, &value))
        if (!listed(list->contexts, list->op->contexts.count, id.data)) return false;
    while (gov_walk_next(&children, &id, NULL)) {
        cal_group_id child;
        memcpy(child.bytes, id.data, 32);
        if (!listed(list->groups, list->op->groups.count, child.bytes) ||
            !subtree_listed(view, &child, list))
            return false;
    }
    return true;
}

static bool all_listed(gov_apply *apply, const gov_root_op *op) {
    deletion list = {.op = op};
    int result = sort_ids(&op->groups, &list.groups);
    if (!result) result = sort_ids(&op->contexts, &list.contexts);
    if (result) apply->change->error = result;
    bool all = !result && subtree_listed(&apply->view, &op->group, &list);
    free(list.groups);
    free(list.contexts);
    return all;
}

/* Deletes all rows of a kind under the group, some at a time: deleting changes what is walked over,
 * and leaves marks that each walk passes again. */
static void delete_all(gov_apply *apply, gov_row_kind kind, const cal_group_id *group) {
    enum { PAGE = 128 };
    gov_key page[PAGE];
    size_t count;
    do {
        gov_walk walk = gov_walk_start(&apply->view, kind, group->bytes, NULL);
        cal_slice rest;
        for (count = 0; count < PAGE && gov_walk_next(&walk, &rest, NULL); count++) {
            page[count] = gov_key_of(kind, group->bytes, NULL, NULL);
            memcpy(page[count].bytes + page[count].len, rest.data, rest.len);
            page[count].len += rest.len;
        }
        for (size_t i = 0; i < count; i++) gov_change_delete(apply->change, page[i]);
    } while (count == PAGE && !apply->change->error);
}

void gov_delete_group_rows(gov_apply *apply, const cal_group_id *group) {
    static const gov_row_kind kinds[] = {
        ROW_CONTEXT,      ROW_CONTEXT_DATA, ROW_CONTEXT_MASK, ROW_MEMBER,     ROW_MEMBER_DATA,
        ROW_CAPABILITIES, ROW_DEFAULTS,     ROW_VISIBILITY,   ROW_GROUP_DATA, ROW_POLICY,
        ROW_MIGRATION,    ROW_NONCES,       ROW_ROTATION_DUE, ROW_REENTRY,    ROW_CONSUMED,
        ROW_META,         ROW_KEY_CLOSED,   ROW_DEVICE_GONE,
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

static gov_reason group_deleted(gov_apply *apply, const gov_root_op *op) {
    const cal_group_id *ns = &apply->view.namespace_id;
    if (gov_id_equal(op->group.bytes, ns->bytes)) return GOV_WHY_NAMESPACE_STAYS;
    if (!gov_meta_get(&apply->view, &op->group, NULL)) return GOV_WHY_NO_GROUP;
    if (!apply->attributed ||
        !(gov_owner(&apply->cut, &op->group, &apply->signer) ||
          gov_allowed(&apply->cut, ns, &apply->signer, GOV_CAN_DELETE_SUBGROUP)))
        return GOV_WHY_NO_DELETE_GROUP;
    if (!all_listed(apply, op)) return GOV_WHY_NOT_LISTED;
    delete_subtree(apply, &op->group);
    return GOV_WHY_FINE;
}

/* --- members --- */

static gov_reason admin_changed(gov_apply *apply, const gov_root_op *op) {
    cal_group_id ns = apply->view.namespace_id;
    gov_meta meta = {0};
    gov_member member = {.follow_contexts = true};
    gov_reason reason = need_admin(apply);
    if (reason != GOV_WHY_FINE) return reason;
    if (gov_path_of(&apply->cut, &ns, &op->account, NULL) == GOV_PATH_NONE)
        return GOV_WHY_NO_MEMBER;
    gov_meta_get(&apply->view, &ns, &meta);
    gov_member_get(&apply->view, &ns, &op->account, &member);
    meta.admin = op->account;
    member.role = GOV_ROLE_ADMIN;
    gov_put_meta(apply->change, &ns, &meta);
    gov_put_member(apply->change, &ns, &op->account, &member);
    gov_change_put(apply->change, gov_key_of(ROW_ROOT_ADMIN, NULL, NULL, NULL),
                   cal_slice_of(op->account.bytes, 32));
    return GOV_WHY_FINE;
}

static uint8_t invited_role(uint8_t byte) {
    return byte == 0 ? GOV_ROLE_ADMIN : byte == 2 ? GOV_ROLE_READ_ONLY : GOV_ROLE_MEMBER;
}

/* After a rotation the joiner cannot read what it joins before it is a member, and so cannot say
 * whether the inviter may invite: a member judged that when it answered, and all do when they get
 * the operation (governance.md 10, step 7). */
bool gov_joins_itself(const gov_apply *apply) {
    const gov_op *op = &apply->op->op;
    return !op->group && op->root.kind == GOV_MEMBER_JOINED_AT &&
           gov_id_equal(apply->op->signer, apply->change->gov->identity.sign_key.bytes);
}

/* Signature, time, and whether the inviter may invite with that role (governance.md 10, step 7). */
static gov_reason check_invitation(const gov_apply *apply, const gov_root_op *op) {
    const gov_invitation *invitation = &op->invitation;
    cal_account_id inviter;
    if (!gov_invitation_verify(invitation, &apply->change->gov->proofs))
        return GOV_WHY_INVITATION_SIGNATURE;
    if (op->kind == GOV_MEMBER_JOINED ? invitation->expires_at_s != 0
                                      : gov_invitation_expired(invitation, op->joined_at_s))
        return GOV_WHY_INVITATION_EXPIRED;
    if (!gov_meta_get(&apply->view, &invitation->group, NULL)) return GOV_WHY_NO_GROUP;
    gov_wait unread;
    if (gov_joins_itself(apply) &&
        gov_cut_readable(&apply->cut, &invitation->group, &unread) == CAL_ESTATE)
        return GOV_WHY_FINE;
    if (!gov_account_of_key(&apply->cut, invitation->inviter_key, &inviter) ||
        !gov_allowed(&apply->cut, &invitation->group, &inviter, GOV_CAN_INVITE_MEMBERS))
        return GOV_WHY_INVITER;
    return invited_role(invitation->role) == GOV_ROLE_ADMIN &&
                   !gov_admin(&apply->cut, &invitation->group, &inviter)
               ? GOV_WHY_INVITER_ADMIN
               : GOV_WHY_FINE;
}

/* A refused device is a member without one. */
static void link_joiner(gov_apply *apply, const gov_root_op *op) {
    gov_link_device(apply, &op->credential);
    gov_change_put(apply->change,
                   gov_key_of(ROW_ENDORSER, op->account.bytes, op->account.bytes, NULL),
                   (cal_slice){0});
}

static gov_reason member_joined(gov_apply *apply, const gov_root_op *op) {
    const gov_invitation *invitation = &op->invitation;
    const cal_group_id *group = &invitation->group;
    const gov_cert *cert = &op->credential.cert;
    if (!gov_id_equal(cert->account.bytes, op->account.bytes)) return GOV_WHY_CREDENTIAL_ACCOUNT;
    if (!gov_id_equal(cert->sign_key, apply->op->signer)) return GOV_WHY_CREDENTIAL_KEY;
    gov_reason reason = check_invitation(apply, op);
    if (reason != GOV_WHY_FINE) return reason;
    gov_key consumed = gov_key_of(ROW_CONSUMED, group->bytes, op->account.bytes, invitation->nonce);
    gov_key reentry = gov_key_of(ROW_REENTRY, group->bytes, op->account.bytes, NULL);
    gov_member known = {.follow_contexts = true};
    cal_slice why;
    if (gov_path_of(&apply->cut, group, &op->account, NULL) == GOV_PATH_DIRECT) {
        /* another device of a member; its role is the invitation's, as at every cut from here, but
         * in the present rows nobody else's certificate gives a member another role */
        if (gov_admin_direct(&apply->cut, group, &op->account) &&
            invited_role(invitation->role) != GOV_ROLE_ADMIN)
            return GOV_WHY_ADMIN_ALREADY;
        bool is = gov_member_get(&apply->view, group, &op->account, &known);
        if (!is || gov_credential_verify(&op->credential, &op->account,
                                         &apply->change->gov->proofs) == GOV_PROOF_OK)
            known.role = invited_role(invitation->role);
        gov_put_member(apply->change, group, &op->account, &known);
        link_joiner(apply, op);
        return GOV_WHY_FINE;
    }
    if (gov_view_get(&apply->view, &reentry, &why) && why.data[0] == GOV_REENTRY_REMOVED)
        return GOV_WHY_REMOVED_BEFORE;
    if (gov_view_get(&apply->view, &consumed, NULL)) return GOV_WHY_INVITATION_USED;
    gov_put_member(apply->change, group, &op->account,
                   &(gov_member){invited_role(invitation->role), true, false});
    link_joiner(apply, op);
    gov_change_put(apply->change, consumed, (cal_slice){0});
    gov_change_delete(apply->change, reentry);
    return GOV_WHY_FINE;
}

static gov_reason member_joined_open(gov_apply *apply, const gov_root_op *op) {
    gov_reason reason = check_credential(apply, &op->credential, &op->account);
    if (reason != GOV_WHY_FINE) return reason;
    gov_key reentry = gov_key_of(ROW_REENTRY, op->group.bytes, op->account.bytes, NULL);
    if (!gov_meta_get(&apply->view, &op->group, NULL)) return GOV_WHY_NO_GROUP;
    if (gov_view_get(&apply->view, &reentry, NULL)) return GOV_WHY_LEFT_BEFORE;
    if (gov_path_of(&apply->cut, &op->group, &op->account, NULL) != GOV_PATH_INHERITED)
        return GOV_WHY_NOT_INHERITED;
    return gov_link_device(apply, &op->credential);
}

/* Stricter than the reference (governance.md 18.2, G1): only a member's key is taken. Who is in a
 * closed group may be sealed with the very key that is delivered: from somebody in the namespace it
 * is taken with doubt, and seals nothing before it has shown that members have it. */
static gov_reason key_delivery(gov_apply *apply, const gov_root_op *op) {
    cal_secret key;
    int result =
        gov_open_envelope(apply->change->gov, &op->envelope, &op->group, apply->op->signer, &key);
    if (result == CAL_ENOTFOUND) return GOV_WHY_FINE; /* for somebody else */
    if (result == CAL_ENOMEM) apply->change->error = result;
    if (result) return GOV_WHY_KEY_UNOPENED;
    bool member = apply->attributed &&
                  gov_path_of(&apply->cut, &op->group, &apply->signer, NULL) != GOV_PATH_NONE &&
                  gov_meta_get(&apply->view, &op->group, NULL);
    gov_wait unread;
    bool near =
        !member && apply->attributed && gov_meta_get(&apply->view, &op->group, NULL) &&
        gov_cut_readable(&apply->cut, &op->group, &unread) == CAL_ESTATE &&
        gov_path_of(&apply->cut, &apply->view.namespace_id, &apply->signer, NULL) != GOV_PATH_NONE;
    if (member) gov_put_key(apply->change, &op->group, &key, 0);
    if (near) gov_put_key_doubtful(apply->change, &op->group, &key, apply->op->signer, false);
    cal_secret_wipe(&key);
    return member || near ? GOV_WHY_FINE : GOV_WHY_KEY_STRANGER;
}

gov_reason gov_apply_root(gov_apply *apply, const gov_root_op *op) {
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
        return GOV_WHY_ATTESTED;
    case GOV_ROOT_KIND_COUNT:
        break;
    }
    return GOV_WHY_MALFORMED; /* the decoder knows no others */
}

/* --- what an id names, in the whole node --- */

/* An id that another namespace's change is storing is free again when that change is aborted. */
static gov_reason id_free(const gov_apply *apply, const cal_map *index, gov_key key) {
    const gov_namespace *other = cal_map_get(index, cal_slice_of(key.bytes + 1, 32));
    if (gov_view_get(&apply->view, &key, NULL)) return GOV_WHY_GROUP_TAKEN;
    if (!other || other == apply->change->ns || other->retired) return GOV_WHY_FINE;
    gov_view view = gov_view_of(other);
    return gov_view_get(&view, &key, NULL) ? GOV_WHY_GROUP_TAKEN : GOV_WHY_OBJECT_OPEN;
}

/* A namespace without rows is nothing yet: something waits in it, or a change of it is open. */
gov_reason gov_group_free(const gov_apply *apply, const cal_group_id *group) {
    const cal_gov *gov = apply->change->gov;
    const gov_namespace *ns = gov_namespace_find(gov, group);
    gov_reason reason = id_free(apply, &gov->groups, key_of(ROW_META, group));
    return reason == GOV_WHY_FINE && ns && ns->rows.count ? GOV_WHY_GROUP_TAKEN : reason;
}

gov_reason gov_context_free(const gov_apply *apply, const cal_context_id *context) {
    gov_reason reason = id_free(apply, &apply->change->gov->contexts,
                                gov_key_of(ROW_CONTEXT_GROUP, context->bytes, NULL, NULL));
    return reason == GOV_WHY_GROUP_TAKEN ? GOV_WHY_CONTEXT_TAKEN : reason;
}
