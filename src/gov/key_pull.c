/* Keys that members hand to one another (governance.md 11; share.h); what is wanted of others:
 * key_wish.c.
 *
 * The one who answers is a member itself, and gives a key to nobody but a live device of a member,
 * sealed for that device; every refusal looks the same (18.1, T16, T25). Who joins has the newest
 * key before it can read whom that was made to keep out. Loop thread. */
#include "base/error.h"
#include "gov/draft.h"
#include "gov/share.h"

/* --- serving --- */

static bool is_member(const gov_view *view, const cal_group_id *group,
                      const cal_account_id *account) {
    return gov_path_of(view, group, account, NULL) != GOV_PATH_NONE;
}

/* The key of the group; by its id also the namespace's, for whoever is in the namespace. None that
 * is not confirmed: it may be anybody's. None while what may have removed who asks is not read: it
 * may have been made to keep them out. */
static bool key_to_give(const cal_gov *gov, const gov_view *view, const cal_group_id *group,
                        const cal_account_id *account, const cal_hash *key_id,
                        gov_group_key *ret_key) {
    const cal_group_id *holders[] = {group, &view->namespace_id};
    bool found = false;
    if (!key_id) {
        found = gov_key_current(view, group, ret_key) &&
                gov_key_settled(gov, view, group, &ret_key->id, account);
    } else {
        for (size_t i = 0; i < 2 && !found; i++) {
            gov_key doubt = gov_key_of(ROW_KEY_DOUBT, holders[i]->bytes, key_id->bytes, NULL);
            found = !gov_view_get(view, &doubt, NULL) && is_member(view, holders[i], account) &&
                    gov_key_find(view, holders[i], key_id, ret_key) &&
                    gov_key_settled(gov, view, holders[i], key_id, account);
        }
    }
    if (!found) cal_secret_wipe(&ret_key->key);
    return found;
}

int gov_key_serve(cal_gov *gov, const cal_group_id *namespace_id, const cal_group_id *group,
                  const cal_public_key *requester, const cal_device_id *device,
                  const cal_hash *key_id, gov_envelope *ret_envelope) {
    gov_view view;
    cal_account_id account;
    gov_binding binding;
    gov_group_key key;
    const gov_namespace *ns = gov_find_group(gov, group, &view);
    if (!ns || !gov_id_equal(ns->id.bytes, namespace_id->bytes) || !device) return CAL_ENOTFOUND;
    cal_account_id self = gov_acting(gov, &view);
    if (!is_member(&view, group, &self)) return CAL_ENOTFOUND;
    if (!gov_account_of_key(&view, requester->bytes, &account) ||
        !is_member(&view, group, &account) || !gov_binding_get(&view, device, &binding) ||
        !gov_id_equal(binding.account.bytes, account.bytes) ||
        !gov_device_live(&view, cal_slice_of(device->bytes, 32), &binding) ||
        !key_to_give(gov, &view, group, &account, key_id, &key))
        return CAL_ENOTFOUND;
    int result = gov_envelope_seal_device(gov->os, group, &key.key, device, binding.kem_key,
                                          &gov->identity.sign_seed, NULL, NULL, ret_envelope);
    cal_secret_wipe(&key.key);
    return result ? CAL_ENOTFOUND : 0;
}

/* --- taking --- */

static int check_taken(const gov_view *view, const gov_key_want *want, const cal_hash *id,
                       const cal_public_key *responder, cal_error *err) {
    cal_account_id account;
    gov_key row = gov_key_of(ROW_KEY, want->group.bytes, id->bytes, NULL);
    gov_key doubt = gov_key_of(ROW_KEY_DOUBT, want->group.bytes, id->bytes, NULL);
    bool known = gov_account_of_key(view, responder->bytes, &account);
    bool member = known && is_member(view, &want->group, &account);
    if (!want->any && !gov_id_equal(id->bytes, want->key_id.bytes))
        return cal_fail(err, CAL_EVERIFY, "the key that came is not the one that was asked for");
    if (known && !member)
        return cal_fail(err, CAL_EDENIED, "who sent the key is no member of the group");
    if (gov_view_get(view, &row, NULL) && !(member && gov_view_get(view, &doubt, NULL)))
        return cal_fail(err, CAL_EEXISTS, "the key is here already");
    return 0;
}

int gov_key_take(cal_gov *gov, const cal_group_id *namespace_id, const gov_key_want *want,
                 const gov_envelope *envelope, const cal_public_key *responder,
                 gov_change **ret_change, cal_error *err) {
    gov_view view;
    gov_change *change;
    cal_secret key;
    cal_hash id;
    const gov_namespace *ns = gov_find_group(gov, &want->group, &view);
    if (!ns || !gov_id_equal(ns->id.bytes, namespace_id->bytes))
        return cal_fail(err, CAL_ENOTFOUND, "the key's group is not in the namespace");
    int result = gov_open_envelope(gov, envelope, &want->group, responder->bytes, &key);
    if (result == CAL_ENOTFOUND)
        return cal_fail(err, result, "the key that came is not for this node");
    if (result)
        return cal_fail(err, result == CAL_ENOMEM ? result : CAL_EVERIFY,
                        "the key that came could not be opened");
    gov_key_id(&key, &id);
    result = check_taken(&view, want, &id, responder, err);
    if (!result) result = gov_change_begin(gov, namespace_id, &change, err);
    if (!result) gov_put_key_doubtful(change, &want->group, &key, responder->bytes, !want->any);
    cal_secret_wipe(&key);
    if (result) return result;
    result = gov_apply_unsealed(change, err);
    if (!result) result = gov_unseal_step(change, err);
    if (!result) gov_keys_settle(change);
    return gov_change_finish(change, result, ret_change, err);
}
