/* The keys of groups, as rows of a namespace: which there are, which one seals what this node
 * writes, and which are not confirmed yet (governance.md 11; 18.2, G1). Loop thread.
 *
 * Whoever answers a joiner may be anybody, so a key that a peer hands us is doubtful: it opens what
 * others sealed, which does no harm, and seals nothing of ours until something shows that members
 * have it: one of their operations was opened with it, an admin's rotation names it, or who sent it
 * turns out to be a member. A doubtful key has a row beside its own, so the key's row is as it was
 * before there was doubt.
 *
 * Which key is current follows from rotations: each names its key in the clear of the graph, and
 * its place there is the key's epoch, on every node the same (18.2, G6); of these the highest
 * counts that keeps out all who are gone (closed.c). Keys that no rotation names have epoch 0, and
 * among them the one that came last as "the current one" counts; keys that were fetched to read
 * history come before them all. */
#include <assert.h>

#include "gov/internal.h"

static gov_group_key key_read(cal_slice id, cal_slice value) {
    gov_group_key key;
    assert(value.len == GOV_KEY_ROW_SIZE && id.len == 32);
    memcpy(key.key.bytes, value.data, 32);
    memcpy(key.id.bytes, id.data, 32);
    key.epoch = cal_read_u64le(value.data + 32);
    key.order = cal_read_u64le(value.data + 40);
    return key;
}

static bool doubtful(const gov_view *view, const cal_group_id *group, const void *key_id) {
    gov_key key = gov_key_of(ROW_KEY_DOUBT, group->bytes, key_id, NULL);
    return gov_view_get(view, &key, NULL);
}

bool gov_key_current(const gov_view *view, const cal_group_id *group, gov_group_key *ret_key) {
    gov_key closed = gov_key_of(ROW_KEY_CLOSED, group->bytes, NULL, NULL);
    cal_slice chosen;
    if (gov_view_get(view, &closed, &chosen)) {
        cal_hash key_id;
        memcpy(key_id.bytes, chosen.data, sizeof key_id.bytes);
        return gov_key_find(view, group, &key_id, ret_key);
    }
    gov_walk walk = gov_walk_start(view, ROW_KEY, group->bytes, NULL);
    cal_slice id, value;
    bool found = false;
    while (gov_walk_next(&walk, &id, &value)) {
        gov_group_key key = key_read(id, value);
        bool better =
            !doubtful(view, group, id.data) && (!found || gov_key_compare(&key, ret_key) > 0);
        if (better) *ret_key = key;
        found = found || better;
        cal_secret_wipe(&key.key);
    }
    walk = gov_walk_start(view, ROW_KEY_EPOCH, group->bytes, NULL);
    while (found && gov_walk_next(&walk, &id, &value)) {
        gov_group_key known = {.epoch = cal_read_u64le(value.data)};
        memcpy(known.id.bytes, id.data, 32);
        found = gov_key_compare(&known, ret_key) <= 0;
    }
    return found;
}

bool gov_key_highest(const gov_view *view, const cal_group_id *group, cal_hash *ret_key_id) {
    gov_walk walk = gov_walk_start(view, ROW_KEY, group->bytes, NULL);
    gov_group_key highest = {.order = 0};
    cal_slice id, value;
    bool found = false;
    for (; gov_walk_next(&walk, &id, &value); found = true) {
        gov_group_key key = key_read(id, value);
        if (!found || gov_key_compare(&key, &highest) > 0) highest = key;
        cal_secret_wipe(&key.key);
    }
    *ret_key_id = highest.id;
    cal_secret_wipe(&highest.key);
    return found;
}

bool gov_key_find(const gov_view *view, const cal_group_id *group, const cal_hash *key_id,
                  gov_group_key *ret_key) {
    gov_key key = gov_key_of(ROW_KEY, group->bytes, key_id->bytes, NULL);
    cal_slice value;
    if (!gov_view_get(view, &key, &value)) return false;
    *ret_key = key_read(cal_slice_of(key_id->bytes, 32), value);
    return true;
}

static uint64_t epoch_of(const gov_view *view, const cal_group_id *group, const cal_hash *key_id) {
    gov_key key = gov_key_of(ROW_KEY_EPOCH, group->bytes, key_id->bytes, NULL);
    cal_slice value;
    return gov_view_get(view, &key, &value) ? cal_read_u64le(value.data) : 0;
}

/* Of somebody whose word could be a removal: an admin's, or who asks, who may have left. What the
 * members of other groups keep among themselves says nothing here. */
static bool may_remove(const cal_gov *gov, const gov_view *view, const uint8_t *group,
                       const uint8_t *signer, const cal_account_id *account) {
    cal_account_id author, self = gov_acting(gov, view);
    cal_group_id id;
    memcpy(id.bytes, group, sizeof id.bytes);
    if (!gov_account_of_key(view, signer, &author)) return false;
    if (account && gov_id_equal(author.bytes, account->bytes)) return true;
    return gov_admin(view, &id, &author) && gov_path_of(view, &id, &self, NULL) != GOV_PATH_NONE;
}

bool gov_removal_unread(const cal_gov *gov, const gov_view *view, const cal_group_id *group,
                        const cal_account_id *account) {
    gov_walk sealed = gov_walk_start(view, ROW_SEALED, group ? group->bytes : NULL, NULL);
    cal_slice rest, value;
    while (gov_walk_next(&sealed, &rest, &value))
        if (may_remove(gov, view, group ? group->bytes : rest.data, value.data + 32, account))
            return true;
    return false;
}

bool gov_key_settled(const cal_gov *gov, const gov_view *view, const cal_group_id *group,
                     const cal_hash *key_id, const cal_account_id *account) {
    return epoch_of(view, group, key_id) > 0 || !gov_removal_unread(gov, view, NULL, account);
}

/* --- writing --- */

static void put_row(gov_change *change, const cal_group_id *group, const gov_group_key *key) {
    uint8_t value[GOV_KEY_ROW_SIZE];
    memcpy(value, key->key.bytes, 32);
    cal_write_u64le(value + 32, key->epoch);
    cal_write_u64le(value + 40, key->order);
    gov_change_put(change, gov_key_of(ROW_KEY, group->bytes, key->id.bytes, NULL),
                   cal_slice_of(value, sizeof value));
    cal_wipe(value, sizeof value);
}

/* A key that is already there keeps its place. */
static void put_key(gov_change *change, const cal_group_id *group, const cal_secret *secret,
                    uint64_t epoch, bool old) {
    gov_view view = gov_change_view(change);
    gov_group_key known = {.order = 0}, key = {.key = *secret};
    gov_key_id(secret, &key.id);
    if (gov_key_find(&view, group, &key.id, &known))
        key.order = known.order;
    else if (!old) /* never 0, which is that of keys fetched to read history */
        key.order = gov_walk_count(&view, ROW_KEY, group->bytes) + 1;
    key.epoch = epoch_of(&view, group, &key.id);
    if (epoch > key.epoch) key.epoch = epoch;
    if (known.epoch > key.epoch) key.epoch = known.epoch;
    put_row(change, group, &key);
    cal_secret_wipe(&known.key);
    cal_secret_wipe(&key.key);
}

void gov_put_key(gov_change *change, const cal_group_id *group, const cal_secret *key,
                 uint64_t epoch) {
    cal_hash id;
    gov_key_id(key, &id);
    put_key(change, group, key, epoch, false);
    gov_key_confirm(change, group, &id);
}

void gov_put_key_doubtful(gov_change *change, const cal_group_id *group, const cal_secret *key,
                          const uint8_t sender[32], bool old) {
    gov_view view = gov_change_view(change);
    cal_hash id;
    gov_key_id(key, &id);
    gov_key row = gov_key_of(ROW_KEY, group->bytes, id.bytes, NULL);
    bool known = gov_view_get(&view, &row, NULL);
    if (known && !doubtful(&view, group, id.bytes)) return;
    if (!known) put_key(change, group, key, 0, old);
    if (epoch_of(&view, group, &id) == 0) /* else an admin has named it */
        gov_change_put(change, gov_key_of(ROW_KEY_DOUBT, group->bytes, id.bytes, NULL),
                       cal_slice_of(sender, 32));
}

void gov_key_confirm(gov_change *change, const cal_group_id *group, const cal_hash *key_id) {
    gov_change_delete(change, gov_key_of(ROW_KEY_DOUBT, group->bytes, key_id->bytes, NULL));
}

void gov_note_rotation(gov_change *change, const cal_group_id *group, const cal_hash *key_id,
                       uint64_t epoch, uint64_t sequence, const cal_account_id *author) {
    gov_view view = gov_change_view(change);
    gov_group_key known;
    uint8_t value[GOV_EPOCH_ROW_SIZE];
    if (epoch <= epoch_of(&view, group, key_id)) return;
    cal_write_u64le(value, epoch);
    cal_write_u64le(value + 8, sequence);
    memcpy(value + 16, author->bytes, sizeof author->bytes);
    gov_change_put(change, gov_key_of(ROW_KEY_EPOCH, group->bytes, key_id->bytes, NULL),
                   cal_slice_of(value, sizeof value));
    if (!gov_key_find(&view, group, key_id, &known)) return;
    if (known.epoch < epoch) {
        known.epoch = epoch;
        put_row(change, group, &known);
    }
    gov_key_confirm(change, group, key_id);
    cal_secret_wipe(&known.key);
}

static bool sent_by_member(const gov_view *view, cal_slice doubt, cal_slice sender) {
    cal_group_id group;
    cal_account_id account;
    memcpy(group.bytes, doubt.data, 32);
    return gov_account_of_key(view, sender.data, &account) &&
           gov_path_of(view, &group, &account, NULL) != GOV_PATH_NONE;
}

void gov_keys_settle(gov_change *change) {
    gov_view view = gov_change_view(change);
    gov_key joining = gov_key_of(ROW_JOINING, NULL, NULL, NULL);
    cal_account_id self = gov_acting(change->gov, &view);
    cal_slice rest, sender;
    bool more = true;
    while (more && !change->error) { /* deleting changes what is walked over */
        gov_walk walk = gov_walk_start(&view, ROW_KEY_DOUBT, NULL, NULL);
        while ((more = gov_walk_next(&walk, &rest, &sender)))
            if (sent_by_member(&view, rest, sender)) {
                gov_key row = gov_key_of(ROW_KEY_DOUBT, rest.data, rest.data + 32, NULL);
                gov_change_delete(change, row);
                break;
            }
    }
    if (gov_view_get(&view, &joining, NULL) &&
        gov_path_of(&view, &view.namespace_id, &self, NULL) != GOV_PATH_NONE)
        gov_change_delete(change, joining);
}
