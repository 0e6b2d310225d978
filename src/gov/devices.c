/* Devices of accounts: pairing, revocation, lists (governance.md 2, 3; members.h).
 *
 * A node has one signing key, one KEM key and one nonce; as a device of another account it has
 * another device id, which follows from that account and the nonce. So pairing keeps nothing but
 * the account: one row of column NODE for each, written when the offer is made, because keys sealed
 * for that device may come before the operation that links it can be read.
 *
 * Loop thread. */
#include <stdlib.h>

#include "base/error.h"
#include "gov/internal.h"

static const char paired_prefix[] = "gov/paired/";
enum { PAIRED_KEY_SIZE = sizeof paired_prefix - 1 + 32 };

/* --- whose device this node is --- */

cal_account_id gov_acting(const cal_gov *gov, const gov_view *view) {
    cal_account_id account;
    if (gov->paired_count && gov_account_of_key(view, gov->identity.sign_key.bytes, &account))
        return account;
    return gov->identity.account;
}

int gov_acting_account(cal_gov *gov, const cal_group_id *group, cal_account_id *ret_account) {
    gov_view view;
    if (!gov_find_group(gov, group, &view)) return CAL_ENOTFOUND;
    *ret_account = gov_acting(gov, &view);
    return 0;
}

int gov_acting_device(cal_gov *gov, const cal_group_id *group, cal_device_id *ret_device) {
    cal_account_id account;
    int result = gov_acting_account(gov, group, &account);
    if (!result) gov_device_id(&account, gov->identity.device_nonce, ret_device);
    return result;
}

int gov_open_envelope(const cal_gov *gov, const gov_envelope *envelope, const cal_group_id *group,
                      const uint8_t *sender, cal_secret *ret_key) {
    const gov_identity *self = &gov->identity;
    cal_device_id device = self->device;
    if (sender && !gov_id_equal(envelope->sender, sender)) return CAL_EVERIFY;
    if (!envelope->device && !gov_id_equal(envelope->address, self->sign_key.bytes))
        return CAL_ENOTFOUND;
    for (size_t i = 0; envelope->device && !gov_id_equal(envelope->address, device.bytes); i++) {
        if (i == gov->paired_count) return CAL_ENOTFOUND;
        gov_device_id(&gov->paired[i], self->device_nonce, &device);
    }
    return gov_envelope_open(envelope, group, &self->sign_seed, &device, &self->kem_secret, sender,
                             ret_key);
}

static bool is_paired(const cal_gov *gov, const cal_account_id *account) {
    for (size_t i = 0; i < gov->paired_count; i++)
        if (gov_id_equal(gov->paired[i].bytes, account->bytes)) return true;
    return false;
}

int gov_paired_load(cal_gov *gov, cal_snapshot *snapshot, cal_error *err) {
    cal_slice from = cal_slice_text(paired_prefix), key, value;
    uint8_t end[sizeof paired_prefix - 1];
    cal_cursor *cursor;
    memcpy(end, paired_prefix, sizeof end);
    end[sizeof end - 1]++;
    int result = cal_cursor_open(snapshot, CAL_COLUMN_NODE, from, cal_slice_of(end, sizeof end),
                                 false, &cursor);
    if (result)
        return cal_fail(err, result, "the node's pairings could not be read: %s",
                        cal_error_text(result));
    while ((result = cal_cursor_next(cursor, &key, &value)) == 0) {
        if (key.len != PAIRED_KEY_SIZE || gov->paired_count == GOV_PAIRED_MAX) {
            result = CAL_ECORRUPT;
            break;
        }
        memcpy(gov->paired[gov->paired_count++].bytes, key.data + key.len - 32, 32);
    }
    cal_cursor_free(cursor);
    return result == CAL_ENOTFOUND ? 0
                                   : cal_fail(err, result, "the node's pairings are damaged: %s",
                                              cal_error_text(result));
}

/* --- pairing, the new device --- */

int gov_pair_begin(cal_gov *gov, const cal_public_key *root_key, gov_pairing *ret_pairing,
                   cal_batch **ret_batch, cal_error *err) {
    const gov_identity *self = &gov->identity;
    gov_genesis genesis = {.version = GOV_GENESIS_VERSION};
    gov_pairing pairing = {.sign_key = self->sign_key};
    uint8_t key[PAIRED_KEY_SIZE], digest[CAL_HASH_SIZE];
    if (!cal_public_key_decodes(root_key->bytes) || cal_public_key_small_order(root_key->bytes))
        return cal_fail(err, CAL_EINVAL, "the account's root key is no key of its curve");
    memcpy(genesis.root_key, root_key->bytes, 32);
    gov_account_id(&genesis, &pairing.account);
    if (gov_id_equal(pairing.account.bytes, self->account.bytes))
        return cal_fail(err, CAL_EINVAL, "this node is a device of that account already: its own");
    bool known = is_paired(gov, &pairing.account);
    if (!known && gov->paired_count == GOV_PAIRED_MAX)
        return cal_fail(err, CAL_ELIMIT, "this node has offered to be a device of %d accounts",
                        GOV_PAIRED_MAX);
    gov_device_id(&pairing.account, self->device_nonce, &pairing.device);
    memcpy(pairing.kem_key, self->kem_key, 32);
    gov_pairing_digest(&pairing.account, &pairing.device, pairing.kem_key, self->sign_key.bytes,
                       digest);
    gov_sign(gov, cal_slice_of(digest, sizeof digest), pairing.statement);
    gov_pairing_code(&pairing.account, &pairing.device, pairing.kem_key, self->sign_key.bytes,
                     pairing.code);
    memcpy(key, paired_prefix, sizeof paired_prefix - 1);
    memcpy(key + sizeof paired_prefix - 1, pairing.account.bytes, 32);
    cal_batch *batch = cal_batch_new();
    if (!batch ||
        cal_batch_put(batch, CAL_COLUMN_NODE, cal_slice_of(key, sizeof key), (cal_slice){0})) {
        cal_batch_free(batch);
        return cal_fail(err, CAL_ENOMEM, "no memory for a pairing");
    }
    if (!known) gov->paired[gov->paired_count++] = pairing.account;
    *ret_batch = batch;
    *ret_pairing = pairing;
    return 0;
}

/* --- pairing, the account --- */

int gov_pairing_verify(const gov_pairing *pairing, cal_error *err) {
    const uint8_t *sign_key = pairing->sign_key.bytes;
    uint8_t digest[CAL_HASH_SIZE];
    char code[GOV_PAIRING_CODE_MAX];
    gov_pairing_code(&pairing->account, &pairing->device, pairing->kem_key, sign_key, code);
    if (!gov_pairing_code_equal(pairing->code, code))
        return cal_fail(err, CAL_EVERIFY,
                        "the confirmation code is not the one of this device and account; compare "
                        "it again, and pair anew if it differs");
    gov_pairing_digest(&pairing->account, &pairing->device, pairing->kem_key, sign_key, digest);
    if (!cal_verify_strict(sign_key, cal_slice_of(digest, sizeof digest), pairing->statement))
        return cal_fail(err, CAL_EVERIFY, "the device has not signed this pairing");
    return 0;
}

/* As a link of it would be judged, in words for whoever pairs. */
static int check_new_device(const gov_view *view, const gov_identity *self,
                            const cal_device_id *device, const uint8_t sign_key[32],
                            uint32_t *ret_epoch, cal_error *err) {
    gov_key revoked = gov_key_of(ROW_REVOKED, device->bytes, NULL, NULL);
    gov_binding known;
    cal_account_id other;
    *ret_epoch = 0;
    if (gov_view_get(view, &revoked, NULL))
        return cal_fail(err, CAL_EDENIED,
                        "the device has been revoked, which is for good; it needs a new identity");
    if (gov_account_of_key(view, sign_key, &other) &&
        !gov_id_equal(other.bytes, self->account.bytes))
        return cal_fail(err, CAL_EEXISTS,
                        "the device speaks for another account in this namespace already");
    if (!gov_binding_get(view, device, &known)) return 0;
    if (!gov_id_equal(known.account.bytes, self->account.bytes))
        return cal_fail(err, CAL_EDENIED, "%s", gov_reason_text(GOV_WHY_DEVICE_TAKEN));
    if (known.device_epoch == UINT32_MAX)
        return cal_fail(err, CAL_ELIMIT, "the device's certificates are used up");
    *ret_epoch = known.device_epoch + 1;
    return 0;
}

/* The keys of all groups that the account may read and that have one of their own. */
static int deliver_all(gov_change *change, const cal_account_id *account,
                       const cal_device_id *device, size_t *ret_count, cal_error *err) {
    gov_view view = gov_change_view(change);
    gov_walk walk = gov_walk_start(&view, ROW_META, NULL, NULL);
    cal_slice id, value;
    cal_buffer groups; /* authoring changes the rows walked over */
    int result = 0;
    cal_buffer_init(&groups, CAL_STORE_VALUE_MAX);
    while (gov_walk_next(&walk, &id, &value)) {
        cal_group_id group;
        memcpy(group.bytes, id.data, 32);
        if (gov_has_own_key(&view, &group) &&
            gov_path_of(&view, &group, account, NULL) != GOV_PATH_NONE)
            cal_buffer_append(&groups, group.bytes, 32);
    }
    if (groups.error) result = cal_fail(err, groups.error, "no memory for the keys of a device");
    for (size_t at = 0; at < groups.len && !result; at += 32) {
        cal_group_id group;
        memcpy(group.bytes, groups.data + at, 32);
        result = gov_author_delivery(change, &group, account, device, ret_count, err);
    }
    cal_buffer_deinit(&groups);
    return result;
}

static void certify(const gov_identity *self, const gov_pairing *pairing, uint32_t epoch,
                    gov_group_op *ret_op) {
    *ret_op = (gov_group_op){.kind = GOV_DEVICE_LINKED,
                             .genesis = self->credential.genesis,
                             .chain = self->credential.chain};
    gov_cert *cert = &ret_op->cert;
    cert->account = self->account;
    cert->device = pairing->device;
    memcpy(cert->sign_key, pairing->sign_key.bytes, 32);
    memcpy(cert->kem_key, pairing->kem_key, 32);
    cert->key_epoch = self->credential.cert.key_epoch;
    cert->device_epoch = epoch;
    gov_cert_sign(cert, &self->root_seed);
    ret_op->endorsement.account = self->account;
    memcpy(ret_op->endorsement.member_key, self->sign_key.bytes, 32);
    gov_endorsement_sign(&ret_op->endorsement, &self->sign_seed);
}

static bool is_linked(const gov_change *change, const gov_pairing *pairing) {
    gov_view view = gov_change_view(change);
    gov_binding binding;
    return gov_binding_get(&view, &pairing->device, &binding) &&
           gov_id_equal(binding.sign_key, pairing->sign_key.bytes) &&
           gov_device_live(&view, cal_slice_of(pairing->device.bytes, 32), &binding);
}

int gov_pair_complete(cal_gov *gov, const cal_group_id *namespace_id, const gov_pairing *pairing,
                      size_t *ret_keys, gov_change **ret_change, cal_error *err) {
    const gov_identity *self = &gov->identity;
    gov_pairing mine = *pairing;
    gov_change *change;
    gov_group_op op;
    size_t keys = 0;
    uint32_t epoch;
    mine.account = self->account;
    if (gov_id_equal(mine.sign_key.bytes, self->sign_key.bytes))
        return cal_fail(err, CAL_EINVAL, "a node is not paired to itself");
    int result = gov_pairing_verify(&mine, err);
    if (!result) result = gov_change_begin_in(gov, namespace_id, &change, err);
    if (result) return result;
    gov_view view = gov_change_view(change);
    cal_account_id acting = gov_acting(gov, &view);
    if (!gov_id_equal(acting.bytes, self->account.bytes))
        result =
            cal_fail(err, CAL_EDENIED,
                     "this node acts for another account in this namespace; pair with the node "
                     "that holds that account's root key");
    if (!result)
        result = check_new_device(&view, self, &mine.device, mine.sign_key.bytes, &epoch, err);
    if (!result) {
        certify(self, &mine, epoch, &op);
        result = gov_author_group(change, &view.namespace_id, &op, err);
    }
    if (!result && !is_linked(change, &mine)) /* a link that is refused still applies */
        result = cal_fail(err, CAL_EDENIED, "the device could not be linked to this account");
    if (!result) result = deliver_all(change, &self->account, &mine.device, &keys, err);
    result = gov_change_finish(change, result, ret_change, err);
    if (!result && ret_keys) *ret_keys = keys;
    return result;
}

/* --- revoking --- */

void gov_device_revocation(const cal_gov *gov, const cal_device_id *device,
                           gov_revocation_proof *ret_proof) {
    const gov_identity *self = &gov->identity;
    *ret_proof = (gov_revocation_proof){.genesis = self->credential.genesis,
                                        .chain = self->credential.chain};
    ret_proof->revocation.key_epoch = self->credential.cert.key_epoch;
    ret_proof->revocation.account = self->account;
    ret_proof->revocation.device = *device;
    gov_revocation_sign(&ret_proof->revocation, &self->root_seed);
}

/* The namespace, and the groups with a key of their own in which the account has a row. */
static int groups_of_device(const gov_view *view, const cal_account_id *account,
                            cal_buffer *ret_groups) {
    gov_walk walk = gov_walk_start(view, ROW_MEMBER, NULL, NULL);
    cal_slice rest, value;
    cal_buffer_append(ret_groups, view->namespace_id.bytes, 32);
    while (gov_walk_next(&walk, &rest, &value)) {
        cal_group_id group;
        memcpy(group.bytes, rest.data, 32);
        if (gov_id_equal(rest.data + 32, account->bytes) && gov_has_own_key(view, &group) &&
            !gov_id_equal(group.bytes, view->namespace_id.bytes))
            cal_buffer_append(ret_groups, group.bytes, 32);
    }
    return ret_groups->error;
}

static bool can_seal(const gov_change *change, const cal_group_id *group) {
    gov_view view = gov_change_view(change);
    gov_group_key key;
    if (!gov_key_current(&view, group, &key)) return false;
    cal_secret_wipe(&key.key);
    return true;
}

/* Others than the namespace's whose key is not here are left to an admin who has it: the device is
 * revoked in the whole namespace all the same. */
static int revoke_in(gov_change *change, const cal_group_id *group, const gov_group_op *op,
                     bool *ret_rotated, cal_error *err) {
    gov_view view = gov_change_view(change);
    cal_account_id self = gov_acting(change->gov, &view);
    *ret_rotated = gov_admin(&view, group, &self);
    return *ret_rotated ? gov_author_rotating(change, group, op, NULL, &op->device, err)
                        : gov_author_group(change, group, op, err);
}

static int check_proof(const gov_identity *self, const gov_binding *binding,
                       const gov_revocation_proof *given, gov_group_op *op, cal_error *err) {
    bool own = gov_id_equal(binding->account.bytes, self->account.bytes);
    if (given) op->proof = *given;
    op->has_proof = given || own;
    if (!op->has_proof) return 0;
    if (!gov_id_equal(op->proof.revocation.device.bytes, op->device.bytes))
        return cal_fail(err, CAL_EVERIFY, "the proof revokes another device");
    gov_proof_verdict verdict = gov_revocation_verify(&op->proof, &binding->account, NULL);
    return verdict == GOV_PROOF_OK
               ? 0
               : cal_fail(err, CAL_EVERIFY, "the proof does not revoke the device: %s",
                          gov_proof_text(verdict));
}

static int revoke_all(gov_change *change, const gov_group_op *op, bool *ret_rotated,
                      cal_error *err) {
    gov_view view = gov_change_view(change);
    cal_buffer groups;
    bool rotated;
    cal_buffer_init(&groups, CAL_STORE_VALUE_MAX);
    int result = groups_of_device(&view, &op->account, &groups);
    if (result) cal_fail(err, result, "no memory for the groups of a device");
    for (size_t at = 0; at < groups.len && !result; at += 32) {
        cal_group_id group;
        memcpy(group.bytes, groups.data + at, 32);
        if (at > 0 && !can_seal(change, &group)) continue;
        result = revoke_in(change, &group, op, &rotated, err);
        if (at == 0) *ret_rotated = rotated;
    }
    cal_buffer_deinit(&groups);
    return result;
}

int gov_device_revoke(cal_gov *gov, const cal_group_id *namespace_id, const cal_device_id *device,
                      const gov_revocation_proof *proof, bool *ret_rotated, gov_change **ret_change,
                      cal_error *err) {
    const gov_identity *self = &gov->identity;
    gov_change *change;
    gov_binding binding;
    gov_group_op op = {.kind = GOV_DEVICE_UNLINKED, .device = *device};
    bool rotated = false;
    int result = gov_change_begin_in(gov, namespace_id, &change, err);
    if (result) return result;
    gov_view view = gov_change_view(change);
    gov_key revoked = gov_key_of(ROW_REVOKED, device->bytes, NULL, NULL);
    if (!gov_binding_get(&view, device, &binding))
        result = cal_fail(err, CAL_ENOTFOUND, "no such device in the namespace");
    else if (gov_view_get(&view, &revoked, NULL))
        result = cal_fail(err, CAL_EEXISTS, "the device has been revoked already");
    else if (gov_id_equal(binding.sign_key, self->sign_key.bytes))
        result = cal_fail(err, CAL_EINVAL,
                          "a node does not revoke the device that it is; do it from another one");
    if (!result) {
        op.account = binding.account;
        gov_device_revocation(gov, device, &op.proof);
        result = check_proof(self, &binding, proof, &op, err);
    }
    if (!result) result = revoke_all(change, &op, &rotated, err);
    result = gov_change_finish(change, result, ret_change, err);
    if (!result && ret_rotated) *ret_rotated = rotated;
    return result;
}

/* --- a new root key --- */

int gov_handoff_make(cal_gov *gov, cal_batch **ret_batch, cal_error *err) {
    gov_identity next = gov->identity;
    gov_chain *chain = &next.credential.chain;
    if (chain->count == GOV_HANDOFFS_MAX)
        return cal_fail(err, CAL_ELIMIT, "the account's root key was handed over %d times",
                        GOV_HANDOFFS_MAX);
    cal_batch *batch = cal_batch_new();
    gov_handoff *items = calloc(chain->count + 1, sizeof *items);
    int result = batch && items ? 0 : CAL_ENOMEM;
    if (!result) {
        if (chain->count) memcpy(items, chain->items, chain->count * sizeof *items);
        gov_handoff *handoff = &items[chain->count];
        handoff->account = next.account;
        handoff->from_epoch = chain->count;
        cal_random(gov->os, next.root_seed.bytes, 32);
        cal_sign_public_key(&next.root_seed, handoff->new_root_key);
        gov_handoff_sign(handoff, &gov->identity.root_seed);
        *chain = (gov_chain){items, chain->count + 1};
        result = gov_identity_put(&next, batch);
    }
    free(items);
    cal_wipe(&next, sizeof next);
    if (!result)
        *ret_batch = batch;
    else
        cal_batch_free(batch);
    return result ? cal_fail(err, result, "the new root key could not be prepared") : 0;
}

bool gov_handoff_due(cal_gov *gov, const cal_group_id *namespace_id) {
    const gov_identity *self = &gov->identity;
    gov_binding binding;
    gov_view view;
    return gov_find_group(gov, namespace_id, &view) &&
           gov_binding_get(&view, &self->device, &binding) &&
           gov_root_epoch(&view, &self->account, NULL) < self->credential.chain.count;
}

/* Devices that the root key before had certified; this node's first. */
static int account_devices(const gov_view *view, const gov_identity *self,
                           cal_buffer *ret_devices) {
    gov_walk walk = gov_walk_start(view, ROW_BINDING, NULL, NULL);
    cal_slice id, value;
    cal_buffer_append(ret_devices, self->device.bytes, 32);
    while (gov_walk_next(&walk, &id, &value)) {
        gov_binding binding = gov_binding_read(value);
        if (gov_id_equal(binding.account.bytes, self->account.bytes) &&
            !gov_id_equal(id.data, self->device.bytes) && gov_device_live(view, id, &binding))
            cal_buffer_append(ret_devices, id.data, 32);
    }
    return ret_devices->error;
}

static int certify_again(gov_change *change, const cal_device_id *device, cal_error *err) {
    gov_view view = gov_change_view(change);
    const gov_identity *self = &change->gov->identity;
    gov_pairing pairing = {.device = *device};
    gov_binding binding;
    gov_group_op op;
    if (!gov_binding_get(&view, device, &binding) || binding.device_epoch == UINT32_MAX) return 0;
    memcpy(pairing.sign_key.bytes, binding.sign_key, 32);
    memcpy(pairing.kem_key, binding.kem_key, 32);
    uint32_t epoch = binding.device_epoch + 1;
    if (gov_id_equal(device->bytes, self->device.bytes) &&
        epoch < self->credential.cert.device_epoch)
        epoch = self->credential.cert.device_epoch; /* as in what this node joins with */
    certify(self, &pairing, epoch, &op);
    return gov_author_group(change, &view.namespace_id, &op, err);
}

/* All cite the same heads, at which every device still speaks for the account: after the handoff
 * alone none would, and after a certificate, which carries the handoff, the handoff would continue
 * nothing. */
int gov_handoff_publish(cal_gov *gov, const cal_group_id *namespace_id, gov_change **ret_change,
                        cal_error *err) {
    const gov_identity *self = &gov->identity;
    gov_group_op op = {.kind = GOV_ACCOUNT_KEYS_ROTATED};
    gov_change *change;
    cal_buffer devices;
    int result = gov_change_begin_in(gov, namespace_id, &change, err);
    if (result) return result;
    gov_view view = gov_change_view(change);
    cal_slice heads = gov_heads_get(&view);
    uint32_t known = gov_root_epoch(&view, &self->account, NULL);
    cal_buffer_init(&devices, CAL_STORE_VALUE_MAX);
    const cal_hash *parents = cal_arena_copy(&change->arena, heads.data, heads.len);
    if (known >= self->credential.chain.count)
        result = cal_fail(err, CAL_EEXISTS, "the namespace knows the account's root key already");
    else if (!parents || account_devices(&view, self, &devices))
        result = cal_fail(err, CAL_ENOMEM, "no memory for the account's devices");
    if (!result) change->beside = (gov_ids){parents, (uint32_t)(heads.len / 32)};
    for (size_t at = 0; at < devices.len && !result; at += 32) {
        cal_device_id device;
        memcpy(device.bytes, devices.data + at, 32);
        result = certify_again(change, &device, err);
    }
    if (!result) {
        op.handoff = self->credential.chain.items[known];
        result = gov_author_group(change, &change->ns->id, &op, err);
    }
    change->beside = (gov_ids){0};
    cal_buffer_deinit(&devices);
    return gov_change_finish(change, result, ret_change, err);
}

/* --- lists --- */

int gov_group_devices(cal_gov *gov, const cal_group_id *group, const cal_account_id *account,
                      gov_device_visitor visit, void *user) {
    gov_view view;
    if (!gov_find_group(gov, group, &view)) return CAL_ENOTFOUND;
    gov_walk members = gov_walk_start(&view, ROW_MEMBER, group->bytes, NULL);
    cal_slice who, value, id;
    while (gov_walk_next(&members, &who, &value)) {
        if (account && !gov_id_equal(who.data, account->bytes)) continue;
        gov_walk devices = gov_walk_start(&view, ROW_BINDING, NULL, NULL);
        while (gov_walk_next(&devices, &id, &value)) {
            gov_binding binding = gov_binding_read(value);
            gov_device_info info = {.account = binding.account};
            if (!gov_id_equal(binding.account.bytes, who.data) ||
                !gov_device_live(&view, id, &binding))
                continue;
            memcpy(info.device.bytes, id.data, 32);
            memcpy(info.sign_key.bytes, binding.sign_key, 32);
            memcpy(info.kem_key, binding.kem_key, 32);
            visit(user, &info);
        }
    }
    return 0;
}
