/* Joining a namespace: what the responder answers, and what the joiner keeps and publishes
 * (governance.md 10). See share.h.
 *
 * The responder judges by its present rows and changes nothing: what makes the joiner a member is
 * the joiner's own operation, which every node judges again at its cut.
 *
 * The joiner starts with rows of its own only: a namespace without an admin, known by what the
 * invitation hints (18.1, T6, T7), which grants nobody anything. The founder comes from the history
 * alone. Before it publishes, the joiner asks of that history whether the inviter, whose signature
 * is the only thing it could check, may invite there (18.2, G13): whoever feeds it a namespace of
 * its own making under the same id has no such member. Loop thread. */
#include "base/error.h"
#include "gov/draft.h"
#include "gov/share.h"

int gov_credential_bytes(const cal_gov *gov, cal_buffer *ret_bytes) {
    return gov_credential_write(&gov->identity.credential, ret_bytes);
}

static bool is_member(const gov_view *view, const cal_group_id *group,
                      const cal_account_id *account) {
    return gov_path_of(view, group, account, NULL) != GOV_PATH_NONE;
}

static bool is_joining(const gov_view *view) {
    gov_key key = gov_key_of(ROW_JOINING, NULL, NULL, NULL);
    return gov_view_get(view, &key, NULL);
}

bool gov_namespace_joining(cal_gov *gov, const cal_group_id *namespace_id) {
    const gov_namespace *ns = gov_namespace_find(gov, namespace_id);
    if (!ns) return false;
    gov_view view = gov_view_of(ns);
    return is_joining(&view);
}

/* --- the responder --- */

/* The namespace, of which this node must be a member itself. */
static int answering(cal_gov *gov, const cal_group_id *namespace_id, gov_view *ret_view,
                     cal_error *err) {
    const gov_namespace *ns = gov_find_group(gov, namespace_id, ret_view);
    if (!ns || !gov_id_equal(ns->id.bytes, namespace_id->bytes) ||
        !is_member(ret_view, namespace_id, &gov->identity.account))
        return cal_fail(err, CAL_ENOTFOUND, "this node is no member of the namespace");
    return 0;
}

static int check_inviter(cal_gov *gov, const gov_view *view, const gov_invitation *invitation,
                         cal_error *err) {
    cal_account_id inviter;
    if (!gov_meta_get(view, &invitation->group, NULL))
        return cal_fail(err, CAL_ENOTFOUND,
                        "the group of the invitation does not exist in this namespace");
    if (!gov_invitation_verify(invitation, &gov->proofs))
        return cal_fail(err, CAL_EVERIFY, "the invitation's signature is wrong");
    if (!gov_account_of_key(view, invitation->inviter_key, &inviter) ||
        !gov_allowed(view, &invitation->group, &inviter, GOV_CAN_INVITE_MEMBERS))
        return cal_fail(err, CAL_EDENIED, "whoever signed the invitation may not invite any more");
    if (invitation->role == GOV_ROLE_ADMIN && !gov_admin(view, &invitation->group, &inviter))
        return cal_fail(err, CAL_EDENIED, "only an admin may invite an admin");
    if (gov_invitation_expired(invitation, gov_now_s(gov)))
        return cal_fail(err, CAL_EDENIED, "the invitation has expired; ask for a new one");
    return 0;
}

/* governance.md 18.1, T11: the credential is the joiner's own, and of the key that speaks. */
static int check_joiner(cal_gov *gov, const gov_view *view, const gov_credential *credential,
                        const cal_public_key *joiner, cal_error *err) {
    const gov_cert *cert = &credential->cert;
    gov_key revoked = gov_key_of(ROW_REVOKED, cert->device.bytes, NULL, NULL);
    gov_proof_verdict verdict = gov_credential_verify(credential, &cert->account, &gov->proofs);
    if (verdict != GOV_PROOF_OK)
        return cal_fail(err, CAL_EVERIFY, "the joiner's credential does not hold: %s",
                        gov_proof_text(verdict));
    if (!gov_id_equal(cert->sign_key, joiner->bytes))
        return cal_fail(err, CAL_EDENIED, "the credential certifies another key than the joiner's");
    if (gov_view_get(view, &revoked, NULL))
        return cal_fail(err, CAL_EDENIED, "the joiner's device has been revoked");
    return 0;
}

/* governance.md 10.7: who was removed, and an invitation used before. */
static int check_reentry(const gov_view *view, const gov_invitation *invitation,
                         const cal_account_id *account, cal_error *err) {
    gov_key reentry = gov_key_of(ROW_REENTRY, invitation->group.bytes, account->bytes, NULL);
    gov_key consumed =
        gov_key_of(ROW_CONSUMED, invitation->group.bytes, account->bytes, invitation->nonce);
    cal_slice why;
    if (gov_path_of(view, &invitation->group, account, NULL) == GOV_PATH_DIRECT) return 0;
    if (gov_view_get(view, &reentry, &why) && why.data[0] == GOV_REENTRY_REMOVED)
        return cal_fail(err, CAL_EDENIED, "a removed member comes back only when an admin adds it");
    if (gov_view_get(view, &consumed, NULL))
        return cal_fail(err, CAL_EDENIED,
                        "the account has used this invitation before; ask for a new one");
    return 0;
}

/* Those of the group, and of the groups below it that its members see into. */
static void gather_contexts(const gov_view *view, const cal_group_id *group, cal_buffer *ret) {
    gov_walk contexts = gov_walk_start(view, ROW_CONTEXT, group->bytes, NULL);
    gov_walk children = gov_walk_start(view, ROW_CHILD, group->bytes, NULL);
    cal_slice id, value;
    while (gov_walk_next(&contexts, &id, &value)) cal_buffer_append(ret, id.data, 32);
    while (gov_walk_next(&children, &id, NULL)) {
        cal_group_id child;
        memcpy(child.bytes, id.data, 32);
        if (gov_group_open(view, &child)) gather_contexts(view, &child, ret);
    }
}

static int add_contexts(const gov_view *view, const cal_group_id *group, cal_arena *arena,
                        gov_join_answer *answer) {
    cal_buffer ids;
    cal_buffer_init(&ids, CAL_STORE_VALUE_MAX);
    gather_contexts(view, group, &ids);
    answer->context_count = ids.len / 32;
    answer->contexts = ids.len ? cal_arena_copy(arena, ids.data, ids.len) : NULL;
    int result = ids.error ? ids.error : ids.len && !answer->contexts ? CAL_ENOMEM : 0;
    cal_buffer_deinit(&ids);
    return result;
}

/* Member-addressed: the joiner has no device here yet. */
static int seal_current(const cal_gov *gov, const gov_view *view, const cal_group_id *group,
                        const cal_public_key *member, gov_envelope *ret_envelope) {
    gov_group_key key;
    cal_account_id account;
    bool known = gov_account_of_key(view, member->bytes, &account);
    if (!gov_key_current(view, group, &key)) return CAL_ENOTFOUND;
    if (!gov_key_settled(gov, view, group, &key.id, known ? &account : NULL)) {
        cal_secret_wipe(&key.key);
        return CAL_ENOTFOUND; /* whoever has read more hands it out, when it is asked for */
    }
    int result = gov_envelope_seal_member(gov->os, group, &key.key, member->bytes,
                                          &gov->identity.sign_seed, NULL, NULL, ret_envelope);
    cal_secret_wipe(&key.key);
    return result;
}

static int answer_join(cal_gov *gov, const gov_view *view, const gov_invitation *invitation,
                       const cal_public_key *joiner, const gov_cert *cert, cal_arena *arena,
                       gov_join_answer *ret_answer, cal_error *err) {
    gov_join_answer answer = {
        .has_envelope = true,
        .joiner = {.key = *joiner, .account = cert->account, .device = cert->device}};
    gov_key defaults = gov_key_of(ROW_DEFAULTS, invitation->group.bytes, NULL, NULL);
    gov_meta meta;
    cal_slice value;
    gov_meta_get(view, &invitation->group, &meta);
    answer.application = meta.application;
    if (gov_view_get(view, &defaults, &value))
        answer.default_capabilities = cal_read_u32le(value.data);
    int result = seal_current(gov, view, &invitation->group, joiner, &answer.envelope);
    if (result == CAL_EVERIFY)
        return cal_fail(err, result, "the joiner's key is not one that can be sealed for");
    if (result == CAL_ENOTFOUND) {
        answer.has_envelope = false;
        result = 0;
    }
    answer.joiner.has_key =
        answer.has_envelope && gov_key_highest(view, &view->namespace_id, &answer.joiner.key_id);
    if (!result) result = add_contexts(view, &invitation->group, arena, &answer);
    if (result) return cal_fail(err, result, "no memory for the answer to a joiner");
    *ret_answer = answer;
    ret_answer->envelope.sealed = /* which points into itself */
        cal_slice_of(ret_answer->envelope.sealed_bytes, sizeof ret_answer->envelope.sealed_bytes);
    return 0;
}

int gov_join_answer_make(cal_gov *gov, const cal_group_id *namespace_id, cal_slice invitation,
                         cal_slice credential, const cal_public_key *joiner, cal_arena *arena,
                         gov_join_answer *ret_answer, cal_error *err) {
    gov_view view;
    gov_invitation invited;
    gov_credential proof;
    cal_borsh in = cal_borsh_read(credential);
    int result = answering(gov, namespace_id, &view, err);
    if (result) return result;
    if (gov_invitation_decode(invitation, &invited))
        return cal_fail(err, CAL_EDECODE, "the invitation is malformed");
    gov_credential_read(&in, arena, &proof);
    if (cal_borsh_end(&in))
        return in.error == CAL_ENOMEM
                   ? cal_fail(err, CAL_ENOMEM, "no memory for the joiner's credential")
                   : cal_fail(err, CAL_EDECODE, "the joiner's credential is malformed");
    result = check_inviter(gov, &view, &invited, err);
    if (!result) result = check_joiner(gov, &view, &proof, joiner, err);
    if (!result) result = check_reentry(&view, &invited, &proof.cert.account, err);
    return result ? result
                  : answer_join(gov, &view, &invited, joiner, &proof.cert, arena, ret_answer, err);
}

int gov_join_open_answer(cal_gov *gov, const cal_group_id *namespace_id,
                         const cal_group_id *subgroup, const cal_public_key *joiner,
                         gov_envelope *ret_envelope, cal_error *err) {
    gov_view view;
    cal_account_id account;
    int result = answering(gov, namespace_id, &view, err);
    if (result) return result;
    if (!gov_meta_get(&view, subgroup, NULL))
        return cal_fail(err, CAL_ENOTFOUND, "the group does not exist in this namespace");
    if (!gov_account_of_key(&view, joiner->bytes, &account))
        return cal_fail(err, CAL_EDENIED, "the joiner's key speaks for no member here");
    gov_key reentry = gov_key_of(ROW_REENTRY, subgroup->bytes, account.bytes, NULL);
    if (!is_member(&view, subgroup, &account) || gov_view_get(&view, &reentry, NULL))
        return cal_fail(err, CAL_EDENIED, "the joiner is no member of the group");
    result = seal_current(gov, &view, subgroup, joiner, ret_envelope);
    return result == CAL_ENOTFOUND
               ? cal_fail(err, result, "this node has no key of the group to give")
           : result ? cal_fail(err, result, "the group's key could not be sealed: %s",
                               cal_error_text(result))
                    : 0;
}

static bool turned_away(const gov_view *view, const gov_joiner *joiner) {
    const uint8_t *group = view->namespace_id.bytes;
    gov_key revoked = gov_key_of(ROW_REVOKED, joiner->device.bytes, NULL, NULL);
    gov_key reentry = gov_key_of(ROW_REENTRY, group, joiner->account.bytes, NULL);
    cal_slice why;
    return gov_view_get(view, &revoked, NULL) ||
           (gov_view_get(view, &reentry, &why) && why.data[0] == GOV_REENTRY_REMOVED);
}

/* None that came after the one it was given: that one may have been made to keep it out. */
int gov_join_key_serve(cal_gov *gov, const cal_group_id *namespace_id, const gov_joiner *joiner,
                       const cal_hash *key_id, gov_envelope *ret_envelope) {
    gov_view view;
    cal_error err;
    gov_group_key given = {.order = 0}, key = {.order = 0};
    gov_key doubt = gov_key_of(ROW_KEY_DOUBT, namespace_id->bytes, key_id->bytes, NULL);
    int result = answering(gov, namespace_id, &view, &err);
    if (!result &&
        (!joiner->has_key || turned_away(&view, joiner) || gov_view_get(&view, &doubt, NULL) ||
         !gov_key_find(&view, namespace_id, &joiner->key_id, &given) ||
         !gov_key_find(&view, namespace_id, key_id, &key) || gov_key_compare(&key, &given) > 0 ||
         !gov_key_settled(gov, &view, namespace_id, key_id, &joiner->account)))
        result = CAL_ENOTFOUND;
    if (!result)
        result = gov_envelope_seal_member(gov->os, namespace_id, &key.key, joiner->key.bytes,
                                          &gov->identity.sign_seed, NULL, NULL, ret_envelope);
    cal_secret_wipe(&given.key);
    cal_secret_wipe(&key.key);
    return result ? CAL_ENOTFOUND : 0;
}

/* --- the joiner --- */

static int check_invitation(cal_gov *gov, const gov_invitation *invitation, cal_error *err) {
    if (!gov_invitation_verify(invitation, &gov->proofs))
        return cal_fail(err, CAL_EVERIFY, "the invitation's signature is wrong");
    if (gov_invitation_expired(invitation, gov_now_s(gov)))
        return cal_fail(err, CAL_ETIMEOUT, "the invitation has expired; ask for a new one");
    if (!invitation->has_application || gov_id_zero(invitation->application.bytes))
        return cal_fail(err, CAL_EINVAL, "the invitation does not name an application");
    return 0;
}

static void put_since(gov_change *change) {
    uint8_t since[8];
    cal_write_u64le(since, gov_now_s(change->gov));
    gov_change_put(change, gov_key_of(ROW_JOINING, NULL, NULL, NULL),
                   cal_slice_of(since, sizeof since));
}

/* Nothing of the hints becomes an admin or a member (governance.md 18.1, T7). */
static void put_placeholder(gov_change *change, const gov_invitation *invitation,
                            const char *name) {
    gov_meta meta = {.application = invitation->application,
                     .created_at_s = gov_now_s(change->gov)};
    if (invitation->has_app_key) meta.app_key = invitation->app_key;
    gov_put_meta(change, &invitation->group, &meta);
    put_since(change);
    if (name && *name)
        gov_put_metadata(change, gov_key_of(ROW_GROUP_DATA, invitation->group.bytes, NULL, NULL),
                         (gov_optional){true, cal_slice_text(name)}, NULL, invitation->inviter_key);
}

/* The history is here: of an earlier membership, or it came before this node began to join. What it
 * does not say of the application, which is a founder's own row, the invitation does. */
static void put_joining(gov_change *change, const gov_view *view,
                        const gov_invitation *invitation) {
    gov_meta meta;
    put_since(change);
    if (!gov_meta_get(view, &invitation->group, &meta) || !gov_id_zero(meta.app_key.bytes)) return;
    if (invitation->has_app_key) meta.app_key = invitation->app_key;
    if (gov_id_zero(meta.application.bytes)) meta.application = invitation->application;
    gov_put_meta(change, &invitation->group, &meta);
}

int gov_join_begin(cal_gov *gov, const gov_invitation *invitation, const char *name,
                   gov_change **ret_change, cal_error *err) {
    gov_change *change;
    gov_view view;
    const cal_group_id *id = &invitation->group;
    const gov_namespace *ns = gov_find_group(gov, id, &view);
    int result = check_invitation(gov, invitation, err);
    if (result) return result;
    if (name && strlen(name) > GOV_NAME_MAX)
        return cal_fail(err, CAL_EINVAL, "a name has at most %d bytes", GOV_NAME_MAX);
    if (ns && !gov_id_equal(ns->id.bytes, id->bytes))
        return cal_fail(err, CAL_EINVAL, "the invitation is to a group inside a namespace");
    if (ns && is_member(&view, id, &gov->identity.account))
        return cal_fail(err, CAL_EEXISTS, "this node is a member of the namespace already");
    if (cal_removal_pending(&gov_removal, id->bytes, gov->store) == 0)
        return cal_fail(err, CAL_EBUSY,
                        "the namespace is still being removed from this node; try again later");
    *ret_change = NULL;
    if (ns && is_joining(&view)) return 0;
    if ((result = gov_change_begin(gov, id, &change, err))) return result;
    if (ns)
        put_joining(change, &view, invitation);
    else
        put_placeholder(change, invitation, name);
    return gov_change_finish(change, 0, ret_change, err);
}

int gov_join_take(cal_gov *gov, const gov_invitation *invitation, const gov_envelope *envelope,
                  const cal_public_key *responder, uint32_t default_capabilities,
                  gov_change **ret_change, cal_error *err) {
    const gov_identity *self = &gov->identity;
    const cal_group_id *group = &invitation->group;
    gov_view view;
    gov_change *change;
    cal_secret key;
    gov_namespace *ns = gov_find_group(gov, group, &view);
    if (!ns) return cal_fail(err, CAL_ENOTFOUND, "this node is not joining the namespace");
    int result = gov_envelope_open(envelope, group, &self->sign_seed, &self->device,
                                   &self->kem_secret, responder ? responder->bytes : NULL, &key);
    if (result)
        return cal_fail(err, result == CAL_ENOMEM || result == CAL_ENOTFOUND ? result : CAL_EVERIFY,
                        result == CAL_ENOTFOUND ? "the key in the answer is not for this node"
                                                : "the key in the answer could not be opened");
    result = gov_change_begin(gov, &ns->id, &change, err);
    if (result) {
        cal_secret_wipe(&key);
        return result;
    }
    gov_put_key_doubtful(change, group, &key, envelope->sender, false);
    cal_secret_wipe(&key);
    gov_key defaults = gov_key_of(ROW_DEFAULTS, group->bytes, NULL, NULL);
    if (!gov_view_get(&view, &defaults, NULL)) gov_put_u32(change, defaults, default_capabilities);
    result = gov_apply_unsealed(change, err);
    if (!result) result = gov_unseal_step(change, err);
    if (!result) gov_keys_settle(change);
    return gov_change_finish(change, result, ret_change, err);
}

static bool may_invite(const gov_view *view, const gov_invitation *invitation) {
    cal_account_id inviter;
    return gov_account_of_key(view, invitation->inviter_key, &inviter) &&
           gov_allowed(view, &invitation->group, &inviter, GOV_CAN_INVITE_MEMBERS);
}

bool gov_join_inviter_known(cal_gov *gov, const gov_invitation *invitation) {
    gov_view view;
    return gov_find_group(gov, &invitation->group, &view) && may_invite(&view, invitation);
}

/* governance.md 18.2, G13. What is sealed with keys that are not here may still say otherwise. */
static int check_history(const gov_view *view, const gov_invitation *invitation, cal_error *err) {
    gov_meta meta;
    gov_walk sealed = gov_walk_start(view, ROW_SEALED, NULL, NULL);
    cal_slice rest, value;
    if (!gov_meta_get(view, &view->namespace_id, &meta) || gov_id_zero(meta.admin.bytes))
        return cal_fail(err, CAL_ESTATE, "the namespace's history has not arrived yet");
    if (may_invite(view, invitation)) return 0;
    if (gov_walk_next(&sealed, &rest, &value)) return 0; /* who may read it judges it */
    return cal_fail(err, CAL_EDENIED,
                    "whoever signed the invitation may not invite into this namespace: it is not "
                    "the one that was meant, or the inviter was removed");
}

/* A member whose device is bound has nothing left to publish. */
static bool is_bound_member(const cal_gov *gov, const gov_view *view, const cal_group_id *group) {
    cal_account_id account;
    return gov_path_of(view, group, &gov->identity.account, NULL) == GOV_PATH_DIRECT &&
           gov_account_of_key(view, gov->identity.sign_key.bytes, &account) &&
           gov_id_equal(account.bytes, gov->identity.account.bytes);
}

int gov_join_publish(cal_gov *gov, const gov_invitation *invitation, gov_change **ret_change,
                     cal_error *err) {
    gov_view view;
    gov_change *change;
    gov_namespace *ns = gov_find_group(gov, &invitation->group, &view);
    if (!ns) return cal_fail(err, CAL_ENOTFOUND, "this node is not joining the namespace");
    int result = check_history(&view, invitation, err);
    if (result) return result;
    if (is_bound_member(gov, &view, &invitation->group))
        return cal_fail(err, CAL_EEXISTS, "this node is a member already");
    if ((result = gov_change_begin(gov, &ns->id, &change, err))) return result;
    gov_root_op op = {.kind = GOV_MEMBER_JOINED_AT,
                      .account = gov->identity.account,
                      .invitation = *invitation,
                      .joined_at_s = gov_now_s(gov),
                      .credential = gov->identity.credential};
    result = gov_author_root(change, &op, err);
    if (!result) gov_keys_settle(change);
    return gov_change_finish(change, result, ret_change, err);
}

int gov_join_open(cal_gov *gov, const cal_group_id *group, gov_change **ret_change,
                  cal_error *err) {
    gov_view view;
    gov_change *change;
    gov_namespace *ns = gov_find_group(gov, group, &view);
    if (!ns) return cal_fail(err, CAL_ENOTFOUND, "no such group on this node");
    int result = gov_change_begin(gov, &ns->id, &change, err);
    if (result) return result;
    gov_root_op op = {.kind = GOV_MEMBER_JOINED_OPEN,
                      .account = gov->identity.account,
                      .group = *group,
                      .credential = gov->identity.credential};
    result = gov_author_root(change, &op, err);
    return gov_change_finish(change, result, ret_change, err);
}

/* Rows that came with an attempt and nothing else: they go at once, so that the next attempt need
 * not wait for a removal. */
static void delete_rows(gov_change *change) {
    const cal_sorted *rows = &change->ns->rows;
    cal_sorted_node *node = cal_sorted_from(rows, (cal_slice){0});
    for (; node; node = node->next[0]) { /* what it deletes is noted in the change */
        gov_key key = {.len = node->key.len};
        memcpy(key.bytes, node->key.data, node->key.len);
        gov_change_delete(change, key);
    }
}

int gov_join_abandon(cal_gov *gov, const cal_group_id *namespace_id, gov_change **ret_change,
                     cal_error *err) {
    gov_change *change;
    gov_view view;
    gov_namespace *ns = gov_find_group(gov, namespace_id, &view);
    if (!ns || !gov_id_equal(ns->id.bytes, namespace_id->bytes) || !is_joining(&view))
        return cal_fail(err, CAL_ENOTFOUND, "this node is not joining the namespace");
    int result = gov_change_begin(gov, namespace_id, &change, err);
    if (result) return result;
    gov_key was = gov_key_of(ROW_REENTRY, namespace_id->bytes, gov->identity.account.bytes, NULL);
    if (gov_view_get(&view, &was, NULL)) /* a former member keeps what it has */
        gov_change_delete(change, gov_key_of(ROW_JOINING, NULL, NULL, NULL));
    else if (ns->graph->count == 0 && ns->parking.count == 0)
        delete_rows(change);
    else {
        change->purge = true;
        change->error = cal_removal_mark(&gov_removal, namespace_id->bytes, change->batch);
    }
    return gov_change_finish(change, 0, ret_change, err);
}
