/* The keys of groups move on: who gets the next one, who takes it, who owes one (governance.md 11;
 * 18.2, G6 and G14).
 *
 * A rotation rides beside an operation. Its key is current by the generation of that operation,
 * which is the same on every node, and then by its id; so nodes that saw two admins rotate at once,
 * in any order, seal under the same key. That a rotation brought a key is noted (ROW_KEY_EPOCH)
 * also where the key itself has not come: it takes its place when it does, and until then this node
 * seals nothing in the group.
 *
 * Loop thread. */
#include "base/error.h"
#include "gov/draft.h"

/* Operation and topic message around sealed bytes, parents and envelopes: what has a fixed size,
 * and room. */
enum { FRAME_SIZE = 512, ENVELOPE_SIZE = 225 };

bool gov_has_own_key(const gov_view *view, const cal_group_id *group) {
    cal_group_id keyed = gov_key_group(view, group);
    return gov_id_equal(keyed.bytes, group->bytes);
}

/* --- taking --- */

int gov_apply_place(const gov_apply *apply, uint64_t *ret_sequence) {
    uint32_t generation;
    int result = gov_graph_locate(apply->change, &apply->id, ret_sequence, &generation);
    if (result != CAL_ENOTFOUND) return result;
    *ret_sequence = gov_graph_top(apply->change) + 1;
    return 0;
}

static int generation_of(const gov_apply *apply, uint32_t *ret_generation) {
    const gov_ids *parents = &apply->op->parents;
    uint32_t generation = 0, above;
    uint64_t sequence;
    for (uint32_t i = 0; i < parents->count; i++) {
        if (gov_id_zero(parents->items[i].bytes)) continue;
        int result = gov_graph_locate(apply->change, &parents->items[i], &sequence, &above);
        if (result) return result;
        if (above + 1 > generation) generation = above + 1;
    }
    *ret_generation = generation;
    return 0;
}

/* What is wrong with a rotation is no reason against its operation. One whose envelope for us is
 * not what it says is as if it were not there; who gets no envelope asks for the key. */
void gov_take_rotation(gov_apply *apply, const cal_group_id *group, const gov_rotation *rotation) {
    uint32_t generation = 0;
    uint64_t sequence = 0;
    bool wrong = false, ours = false;
    cal_secret next = {0};
    if (!rotation->present || !apply->attributed || !gov_admin(&apply->cut, group, &apply->signer))
        return;
    int result = generation_of(apply, &generation);
    if (!result) result = gov_apply_place(apply, &sequence);
    if (result && !apply->change->error) apply->change->error = result;
    for (uint32_t i = 0; i < rotation->count && !result && !ours; i++) {
        cal_secret key;
        cal_hash id;
        int opened = gov_open_envelope(apply->change->gov, &rotation->envelopes[i], group,
                                       apply->op->signer, &key);
        if (opened == CAL_ENOTFOUND) continue;
        if (!opened) gov_key_id(&key, &id);
        ours = !opened && gov_id_equal(id.bytes, rotation->new_key_id.bytes);
        wrong = wrong || !ours;
        if (ours) next = key;
        if (!opened) cal_secret_wipe(&key);
    }
    if (!result && (ours || !wrong)) {
        uint64_t epoch = GOV_EPOCH_CAUSAL | generation;
        gov_note_rotation(apply->change, group, &rotation->new_key_id, epoch, sequence,
                          &apply->signer);
        if (ours) gov_put_key(apply->change, group, &next, epoch);
    }
    cal_secret_wipe(&next);
}

/* --- making --- */

/* Whoever is no admin at the heads would take a key of its own that nobody else accepts; who is not
 * in the group has no business with it. */
static int need_rotator(gov_change *change, const cal_group_id *group, cal_error *err) {
    gov_view cut;
    cal_account_id account;
    gov_wait wait;
    cal_buffer ids;
    cal_buffer_init(&ids, GOV_HEADS_MAX * 32);
    int result = gov_citable(change, group, GOV_CITES_GOVERN, &ids);
    if (!result)
        result = gov_cut_view(change, (const cal_hash *)(const void *)ids.data,
                              (uint32_t)(ids.len / 32), &cut, &wait);
    cal_buffer_deinit(&ids);
    if (!result) result = gov_cut_readable(&cut, group, &wait);
    if (result == CAL_ESTATE)
        return cal_fail(err, CAL_ESTATE,
                        "the namespace's history is not complete here; try again later");
    if (result)
        return cal_fail(err, result, "the namespace's history could not be read: %s",
                        cal_error_text(result));
    if (!gov_account_of_key(&cut, change->gov->identity.sign_key.bytes, &account) ||
        !gov_admin(&cut, group, &account) ||
        gov_path_of(&cut, group, &account, NULL) == GOV_PATH_NONE)
        return cal_fail(err, CAL_EDENIED,
                        "this changes the group's key, and only an admin of the group may");
    return 0;
}

/* How many envelopes can be gossiped with this operation; at least our own. */
static int envelopes_max(const gov_change *change, const gov_group_op *op, size_t *ret_max) {
    gov_view view = gov_change_view(change);
    cal_buffer plain;
    cal_buffer_init(&plain, GOV_SEALED_OP_MAX);
    int result = gov_group_op_write(op, &plain);
    size_t used = FRAME_SIZE + gov_heads_get(&view).len + plain.len;
    *ret_max =
        used + ENVELOPE_SIZE < GOV_OP_GOSSIP_MAX ? (GOV_OP_GOSSIP_MAX - used) / ENVELOPE_SIZE : 1;
    cal_buffer_deinit(&plain);
    return result;
}

typedef struct {
    gov_change *change;
    const cal_group_id *group;
    const cal_secret *key;
    gov_envelope *items;
    size_t count, max;
} wrapping;

/* A device whose key is no point that may be used gets nothing. */
static int wrap(wrapping *w, const cal_device_id *device, const uint8_t kem_key[32]) {
    const cal_gov *gov = w->change->gov;
    int result =
        gov_envelope_seal_device(gov->os, w->group, w->key, device, kem_key,
                                 &gov->identity.sign_seed, NULL, NULL, &w->items[w->count]);
    if (!result) w->count++;
    return result == CAL_EVERIFY ? 0 : result;
}

/* Our own device first, then those of the direct members in the order of device ids. */
static int wrap_all(wrapping *w, const cal_account_id *without,
                    const cal_device_id *without_device) {
    gov_view view = gov_change_view(w->change);
    const gov_identity *self = &w->change->gov->identity;
    int result = 0;
    for (int own = 1; own >= 0 && !result; own--) {
        gov_walk walk = gov_walk_start(&view, ROW_BINDING, NULL, NULL);
        cal_slice id, value;
        while (!result && w->count < w->max && gov_walk_next(&walk, &id, &value)) {
            gov_binding binding = gov_binding_read(value);
            cal_device_id device;
            memcpy(device.bytes, id.data, 32);
            if (gov_id_equal(binding.sign_key, self->sign_key.bytes) != (own == 1)) continue;
            if (without && gov_id_equal(binding.account.bytes, without->bytes)) continue;
            if (without_device && gov_id_equal(device.bytes, without_device->bytes)) continue;
            if ((!own && !gov_member_get(&view, w->group, &binding.account, NULL)) ||
                !gov_device_live(&view, id, &binding))
                continue;
            result = wrap(w, &device, binding.kem_key);
        }
    }
    return result;
}

int gov_author_rotating(gov_change *change, const cal_group_id *group, const gov_group_op *op,
                        const cal_account_id *without, const cal_device_id *without_device,
                        cal_error *err) {
    gov_rotation rotation = {.present = true};
    wrapping w = {.change = change, .group = group};
    gov_group_key taken;
    cal_secret key;
    int result = need_rotator(change, group, err);
    if (result) return result;
    result = envelopes_max(change, op, &w.max);
    if (!result) w.items = cal_arena_alloc_array(&change->arena, w.max, sizeof *w.items);
    if (result || !w.items)
        return cal_fail(err, result ? result : CAL_ENOMEM,
                        "the group's next key could not be made");
    cal_random(change->gov->os, key.bytes, sizeof key.bytes);
    w.key = &key;
    result = wrap_all(&w, without, without_device);
    if (result)
        cal_fail(err, result, "the group's next key could not be sealed: %s",
                 cal_error_text(result));
    else {
        gov_key_id(&key, &rotation.new_key_id);
        rotation.envelopes = w.items;
        rotation.count = (uint32_t)w.count;
        result = gov_author_sealed(change, group, op, &rotation, err);
    }
    cal_secret_wipe(&key);
    if (result) return result;
    gov_view view = gov_change_view(change);
    if (!gov_key_find(&view, group, &rotation.new_key_id, &taken))
        return cal_fail(err, CAL_EINTERNAL, "the group's next key was not taken by its author");
    cal_secret_wipe(&taken.key);
    return 0;
}

/* --- delivering --- */

static int deliver(gov_change *change, const cal_group_id *group, const cal_device_id *device,
                   const gov_binding *binding, size_t *ret_count, cal_error *err) {
    const cal_gov *gov = change->gov;
    gov_view view = gov_change_view(change);
    gov_root_op op = {.kind = GOV_KEY_DELIVERY, .group = *group};
    gov_group_key key;
    if (!gov_key_current(&view, group, &key)) return 0; /* it asks somebody who has it */
    int result = gov_envelope_seal_device(gov->os, group, &key.key, device, binding->kem_key,
                                          &gov->identity.sign_seed, NULL, NULL, &op.envelope);
    cal_secret_wipe(&key.key);
    if (result == CAL_EVERIFY) return 0;
    if (result)
        return cal_fail(err, result, "a group's key could not be sealed: %s",
                        cal_error_text(result));
    op.envelope.sealed = cal_slice_of(op.envelope.sealed_bytes, sizeof op.envelope.sealed_bytes);
    result = gov_author_root(change, &op, err);
    if (!result) ++*ret_count;
    return result;
}

int gov_author_delivery(gov_change *change, const cal_group_id *group,
                        const cal_account_id *account, const cal_device_id *device,
                        size_t *ret_count, cal_error *err) {
    enum { DEVICES_MAX = 64 };
    struct {
        cal_device_id id;
        gov_binding binding;
    } found[DEVICES_MAX]; /* authoring changes the rows walked over */
    size_t count = 0;
    gov_view view = gov_change_view(change);
    gov_walk walk = gov_walk_start(&view, ROW_BINDING, NULL, NULL);
    cal_slice id, value;
    int result = 0;
    while (count < DEVICES_MAX && gov_walk_next(&walk, &id, &value)) {
        gov_binding binding = gov_binding_read(value);
        if (!gov_id_equal(binding.account.bytes, account->bytes) ||
            (device && !gov_id_equal(id.data, device->bytes)) ||
            gov_id_equal(binding.sign_key, change->gov->identity.sign_key.bytes) ||
            !gov_device_live(&view, id, &binding))
            continue;
        memcpy(found[count].id.bytes, id.data, 32);
        found[count++].binding = binding;
    }
    for (size_t i = 0; i < count && !result; i++)
        result = deliver(change, group, &found[i].id, &found[i].binding, ret_count, err);
    return result;
}

/* --- debts --- */

static bool may_pay(const cal_gov *gov, const gov_view *view, const cal_group_id *group) {
    cal_account_id self = gov_acting(gov, view);
    gov_group_key key;
    if (!gov_meta_get(view, group, NULL) || !gov_has_own_key(view, group) ||
        !gov_admin(view, group, &self) || gov_path_of(view, group, &self, NULL) == GOV_PATH_NONE ||
        !gov_key_current(view, group, &key))
        return false;
    cal_secret_wipe(&key.key);
    return true;
}

size_t gov_rotation_due(cal_gov *gov, const cal_group_id *namespace_id, gov_debt *ret_debts,
                        size_t max) {
    const gov_namespace *ns = gov_namespace_find(gov, namespace_id);
    size_t count = 0;
    if (!ns || ns->retired) return 0;
    gov_view view = gov_view_of(ns);
    gov_walk walk = gov_walk_start(&view, ROW_ROTATION_DUE, NULL, NULL);
    cal_slice rest;
    while (count < max && gov_walk_next(&walk, &rest, NULL)) {
        gov_debt debt = {0};
        gov_key revoked = gov_key_of(ROW_REVOKED, rest.data + 32, NULL, NULL);
        memcpy(debt.group.bytes, rest.data, 32);
        memcpy(debt.subject, rest.data + 32, 32);
        debt.of_device = gov_view_get(&view, &revoked, NULL);
        if (may_pay(gov, &view, &debt.group)) ret_debts[count++] = debt;
    }
    return count;
}

int gov_rotate(cal_gov *gov, const gov_debt *debt, gov_change **ret_change, cal_error *err) {
    gov_change *change;
    gov_group_op op = {.kind = debt->of_device ? GOV_KEY_ROTATED_FOR_DEVICE : GOV_KEY_ROTATED};
    memcpy(debt->of_device ? op.device.bytes : op.account.bytes, debt->subject, 32);
    int result = gov_change_begin_in(gov, &debt->group, &change, err);
    if (result) return result;
    gov_view view = gov_change_view(change);
    gov_key due = gov_key_of(ROW_ROTATION_DUE, debt->group.bytes, debt->subject, NULL);
    if (!gov_view_get(&view, &due, NULL))
        result = cal_fail(err, CAL_ENOTFOUND, "the group owes no rotation for this any more");
    else if (!gov_has_own_key(&view, &debt->group))
        result = cal_fail(err, CAL_ESTATE, "the group has no key of its own");
    else
        result = gov_author_rotating(change, &debt->group, &op, NULL, NULL, err);
    return gov_change_finish(change, result, ret_change, err);
}

/* --- heads --- */

/* A group in which this node may say something: the namespace, or one that it has a row in. */
static bool speaks_in(const cal_gov *gov, const gov_view *view, cal_group_id *ret_group) {
    cal_account_id self = gov_acting(gov, view), bound;
    gov_walk walk = gov_walk_start(view, ROW_MEMBER, NULL, NULL);
    cal_slice rest, value;
    cal_group_id group = view->namespace_id;
    bool more = true;
    if (!gov_account_of_key(view, gov->identity.sign_key.bytes, &bound) ||
        !gov_id_equal(bound.bytes, self.bytes))
        return false;
    while (more) {
        cal_group_id sealing = gov_key_group(view, &group);
        gov_group_key key;
        if (gov_path_of(view, &group, &self, NULL) != GOV_PATH_NONE &&
            gov_key_current(view, &sealing, &key)) {
            cal_secret_wipe(&key.key);
            *ret_group = group;
            return true;
        }
        do more = gov_walk_next(&walk, &rest, &value);
        while (more && !gov_id_equal(rest.data + 32, self.bytes));
        if (more) memcpy(group.bytes, rest.data, 32);
    }
    return false;
}

bool gov_heads_merge_due(cal_gov *gov, const cal_group_id *namespace_id) {
    const gov_namespace *ns = gov_namespace_find(gov, namespace_id);
    cal_group_id group;
    if (!ns || ns->retired) return false;
    gov_view view = gov_view_of(ns);
    return gov_heads_get(&view).len > (size_t)GOV_HEADS_MERGE * 32 && speaks_in(gov, &view, &group);
}

int gov_heads_merge(cal_gov *gov, const cal_group_id *namespace_id, gov_change **ret_change,
                    cal_error *err) {
    gov_view view;
    cal_group_id group;
    gov_group_op op = {.kind = GOV_NOOP};
    if (!gov_find_group(gov, namespace_id, &view)) return gov_group_missing(err);
    if (!speaks_in(gov, &view, &group))
        return cal_fail(err, CAL_ESTATE,
                        "this node is in no group of the namespace whose key is here");
    return gov_group_change(gov, &group, &op, ret_change, err);
}
