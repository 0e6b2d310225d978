/* One signed operation into a namespace: the frame around the handlers (governance.md 6).
 *
 * Order: decode, version and bounds and signature, place in the DAG, who signs, the handler's gate
 * and effect, then the operation itself and the new heads. An operation of a group whose key we
 * lack is kept for causality without an effect. Everything lands in the change or nothing does.
 * Loop thread. */
#include <assert.h>
#include <stdlib.h>

#include "base/error.h"
#include "gov/graph.h"

/* The operation's bytes, kept by the change for gossip and for the decoder. */
static gov_logged *keep_bytes(gov_change *change, cal_slice bytes) {
    gov_logged *kept = malloc(sizeof *kept + bytes.len);
    if (!kept) return NULL;
    kept->len = bytes.len;
    memcpy(kept->bytes, bytes.data, bytes.len);
    cal_list_push(&change->ops, &kept->link);
    change->op_count++;
    return kept;
}

static bool cites(const gov_ids *parents, const uint8_t id[32]) {
    for (uint32_t i = 0; i < parents->count; i++)
        if (gov_id_equal(parents->items[i].bytes, id)) return true;
    return false;
}

/* The operation must have seen exactly what this node has: then the present rows are the rows at
 * its own cut. */
static int check_position(const gov_apply *apply) {
    cal_slice heads = gov_heads_get(&apply->view);
    bool same = (size_t)apply->op->parents.count * 32 == heads.len;
    for (size_t at = 0; same && at < heads.len; at += 32)
        same = cites(&apply->op->parents, heads.data + at);
    if (same) return 0;
    return cal_fail(apply->err, CAL_ESTATE,
                    "the operation's parents are not the namespace's heads");
}

/* --- sealed operations --- */

static bool find_key(const gov_apply *apply, const cal_group_id *group, const cal_hash *key_id,
                     gov_group_key *ret_key) {
    return gov_key_find(&apply->view, group, key_id, ret_key) ||
           gov_key_find(&apply->view, &apply->view.namespace_id, key_id, ret_key);
}

/* A rotation rides beside the sealed operation: adopted only from an admin, only if it is for us
 * and is what it says. What is wrong with it is no reason to refuse the operation (governance.md
 * 11). */
static void take_rotation(gov_apply *apply, const cal_group_id *group,
                          const gov_rotation *rotation) {
    const gov_identity *self = &apply->change->gov->identity;
    if (!rotation->present || !apply->attributed || !gov_admin(apply->cut, group, &apply->signer))
        return;
    for (uint32_t i = 0; i < rotation->count; i++) {
        cal_secret key;
        cal_hash id;
        if (gov_envelope_open(&rotation->envelopes[i], group, &self->sign_seed, &self->device,
                              &self->kem_secret, apply->op->signer, &key))
            continue;
        gov_key_id(&key, &id);
        if (gov_id_equal(id.bytes, rotation->new_key_id.bytes))
            gov_put_key(apply->change, group, &key, gov_sequence_get(&apply->view) + 1);
        cal_secret_wipe(&key);
    }
}

/* Nonces of others' group operations; our own cannot repeat, and their identity is the log's. */
static int check_nonce(gov_apply *apply, const cal_group_id *group, bool *ret_seen) {
    *ret_seen = false;
    if (gov_id_equal(apply->op->signer, apply->change->gov->identity.sign_key.bytes)) return 0;
    gov_key key = gov_key_of(ROW_NONCES, group->bytes, apply->op->signer, NULL);
    gov_nonce_window window = {0};
    cal_slice row;
    bool fresh, ignored;
    int result = 0;
    if (gov_view_get(&apply->view, &key, &row)) {
        window.floor = cal_read_u64le(row.data);
        for (size_t at = 8; at < row.len && !result; at += 8)
            result = gov_nonce_record(&window, cal_read_u64le(row.data + at), &ignored);
    }
    if (!result) result = gov_nonce_record(&window, apply->op->nonce, &fresh);
    if (!result) *ret_seen = !fresh;
    cal_buffer value;
    cal_buffer_init(&value, 8 * (GOV_NONCE_SET_MAX + 1));
    cal_buffer_append_u64le(&value, window.floor);
    for (size_t i = 0; i < window.count; i++) cal_buffer_append_u64le(&value, window.above[i]);
    if (!result) result = value.error;
    if (!result && fresh) gov_change_put(apply->change, key, cal_buffer_slice(&value));
    cal_buffer_deinit(&value);
    gov_nonce_window_deinit(&window);
    return result;
}

static int apply_sealed(gov_apply *apply, gov_group_op *ret_plain, bool *ret_opaque) {
    const gov_op *op = &apply->op->op;
    gov_group_key key;
    *ret_opaque = !find_key(apply, &op->group_id, &op->key_id, &key);
    if (*ret_opaque) return 0;
    int result =
        gov_group_op_open(op->sealed, op->nonce, &key.key, &apply->change->arena, ret_plain);
    cal_secret_wipe(&key.key);
    if (!result) result = gov_group_op_check(ret_plain);
    if (result)
        return cal_fail(apply->err, result,
                        "the sealed operation is malformed or not sealed with its key");
    if (!gov_meta_get(&apply->view, &op->group_id, NULL))
        return cal_fail(apply->err, CAL_ENOTFOUND,
                        "the operation is for a group that this namespace does not have");
    bool seen;
    result = check_nonce(apply, &op->group_id, &seen);
    if (result) return cal_fail(apply->err, result, "no memory for an operation's number");
    if (seen) return 0;
    take_rotation(apply, &op->group_id, &op->rotation);
    return gov_apply_group(apply, &op->group_id, ret_plain);
}

int gov_apply_op(gov_change *change, cal_slice bytes, cal_error *err) {
    gov_signed_op op;
    gov_logged *kept = keep_bytes(change, bytes);
    if (!kept) return cal_fail(err, CAL_ENOMEM, "no memory for a governance operation");
    int result = gov_signed_op_decode(cal_slice_of(kept->bytes, kept->len), &change->arena, &op);
    if (result) return cal_fail(err, result, "the governance operation is malformed");
    if ((result = gov_signed_op_check(&op, err))) return result;
    if (!gov_id_equal(op.namespace_id.bytes, change->ns->id.bytes))
        return cal_fail(err, CAL_EINVAL, "the governance operation is of another namespace");
    gov_apply apply = {.change = change, .op = &op, .view = gov_change_view(change), .err = err};
    apply.cut = &apply.view;
    gov_signed_op_id(&op, &apply.id);
    if ((result = check_position(&apply))) return result;
    apply.attributed = gov_account_of_key(apply.cut, op.signer, &apply.signer);
    bool opaque = false;
    gov_group_op plain;
    result =
        op.op.group ? apply_sealed(&apply, &plain, &opaque) : gov_apply_root(&apply, &op.op.root);
    if (result) return result;
    if (change->error)
        return cal_fail(err, change->error, "the operation's rows could not be kept");
    gov_noted noted = {.id = apply.id,
                       .op = &op,
                       .bytes = bytes,
                       .effect = opaque ? GOV_EFFECT_OPAQUE : GOV_EFFECT_FULL,
                       .plain = op.op.group && !opaque ? &plain : NULL,
                       .author = apply.attributed ? &apply.signer : NULL};
    return gov_graph_note(change, &noted, err);
}

/* --- authoring --- */

static int author(gov_change *change, gov_op op, cal_error *err) {
    gov_view view = gov_change_view(change);
    cal_slice heads = gov_heads_get(&view);
    cal_hash *parents = cal_arena_copy(&change->arena, heads.data, heads.len);
    if (!parents) return cal_fail(err, CAL_ENOMEM, "no memory for a governance operation");
    gov_signed_op signed_op = {
        .namespace_id = change->ns->id,
        .parents = {parents, (uint32_t)(heads.len / 32)},
        .nonce = gov_sequence_get(&view) + 1,
        .op = op,
    };
    cal_buffer bytes;
    cal_hash id;
    cal_buffer_init(&bytes, GOV_OP_MAX);
    int result = gov_signed_op_sign(&signed_op, &change->gov->identity.sign_seed, &bytes, &id);
    if (result)
        cal_fail(err, result, "the governance operation could not be encoded: %s",
                 cal_error_text(result));
    else
        result = gov_apply_op(change, cal_buffer_slice(&bytes), err);
    cal_buffer_deinit(&bytes);
    return result;
}

int gov_author_root(gov_change *change, const gov_root_op *op, cal_error *err) {
    return author(change, (gov_op){.root = *op}, err);
}

/* Sealed under the group's own key or, on an open chain, the namespace's. A change of visibility is
 * judged from the parent, so that those who lose sight of the group still read why (governance.md
 * 6). */
int gov_author_group(gov_change *change, const cal_group_id *group, const gov_group_op *op,
                     cal_error *err) {
    gov_view view = gov_change_view(change);
    cal_group_id from = *group, sealing;
    gov_group_key key;
    gov_op sealed = {.group = true, .group_id = *group};
    bool from_parent = op->kind == GOV_VISIBILITY_SET && gov_group_parent(&view, group, &from);
    sealing = gov_key_group(&view, &from);
    if (from_parent && !gov_id_equal(sealing.bytes, view.namespace_id.bytes)) sealing = *group;
    if (!gov_key_current(&view, &sealing, &key))
        return cal_fail(err, CAL_ESTATE,
                        "this node has no key of the group yet; wait until a member delivers it");
    sealed.key_id = key.id;
    cal_random(sealed.nonce, sizeof sealed.nonce);
    cal_buffer ciphertext;
    cal_buffer_init(&ciphertext, GOV_SEALED_OP_MAX);
    int result = gov_group_op_seal(op, &key.key, sealed.nonce, &ciphertext);
    sealed.sealed = cal_buffer_slice(&ciphertext);
    if (result)
        cal_fail(err, result, "the governance operation could not be sealed: %s",
                 cal_error_text(result));
    else
        result = author(change, sealed, err);
    cal_secret_wipe(&key.key);
    cal_buffer_deinit(&ciphertext);
    return result;
}
