/* Who may bring leaves and tombstones (network-sync.md 9.6): whoever brings them must be one who
 * may write to the context now, since most of them say of themselves nothing that could be
 * verified; and of what is signed the signer must be one, too. */
#include <string.h>

#include "sync/tree.h"

int sync_judge_begin(cal_sync *sync, const cal_context_id *context, sync_judge *ret_judge) {
    *ret_judge = (sync_judge){.gov = sync->options.gov, .context = *context};
    if (gov_context_group(ret_judge->gov, context, &ret_judge->group, &ret_judge->ns))
        return CAL_ENOTFOUND;
    ret_judge->now.count = (uint32_t)gov_heads(ret_judge->gov, &ret_judge->ns, ret_judge->now.heads,
                                               GOV_POSITION_HEADS_MAX);
    return 0;
}

bool sync_judge_key(sync_judge *judge, const cal_public_key *key, cal_account_id *ret_account) {
    if (!judge->known || memcmp(&judge->key, key, sizeof *key) != 0) {
        gov_author author;
        int rc = gov_author_judge(judge->gov, &judge->context, key, &judge->now, &author, NULL);
        judge->known = true;
        judge->key = *key;
        judge->may = rc == 0 && author.verdict == GOV_AUTHOR_MAY;
        if (judge->may) judge->account = author.account;
    }
    if (judge->may && ret_account) *ret_account = judge->account;
    return judge->may;
}

/* Of what is signed: whether its signer may; unsigned, it is not asked for. */
static bool judge_signer(sync_judge *judge, const crdt_storage_type *storage,
                         cal_merge_item *item) {
    cal_public_key key;
    if (!storage || !storage->signature) return true;
    if (!storage->signature->has_signer) return false;
    memcpy(key.bytes, storage->signature->signer.bytes, sizeof key.bytes);
    item->has_signer = true;
    return sync_judge_key(judge, &key, &item->signer);
}

bool sync_judge_leaf(sync_judge *judge, const sync_leaf *leaf, cal_arena *arena,
                     cal_merge_item *ret_item) {
    *ret_item = (cal_merge_item){.has_app_key = leaf->has_app_key, .app_key = leaf->app_key};
    return sync_leaf_open(leaf, arena, &ret_item->leaf) == 0 &&
           judge_signer(judge, ret_item->leaf.authorization, ret_item);
}

bool sync_judge_deletion(sync_judge *judge, const sync_deletion *deletion, cal_arena *arena,
                         cal_merge_item *ret_item) {
    *ret_item = (cal_merge_item){.is_deletion = true, .deleted_at = deletion->deleted_at};
    memcpy(&ret_item->id, &deletion->id, sizeof ret_item->id);
    return sync_deletion_open(deletion, arena, &ret_item->metadata) == 0 &&
           judge_signer(judge, &ret_item->metadata.storage, ret_item);
}

/* --- who peers are --- */

static bool is_member(const sync_context *context, const cal_public_key *party) {
    cal_gov *gov = context->sync->options.gov;
    cal_group_id group, ns;
    return gov_context_group(gov, &context->id, &group, &ns) == 0 &&
           gov_key_may_read(gov, &group, party);
}

bool sync_met_member(const sync_context *context, const cal_peer_id *peer) {
    for (size_t i = 0; i < SYNC_MET_MAX; i++)
        if (cal_peer_id_equal(&context->met[i].peer, peer) &&
            is_member(context, &context->met[i].party))
            return true;
    return false;
}

void sync_met(sync_context *context, const cal_peer_id *peer, const cal_public_key *party) {
    size_t place = context->met_at;
    for (size_t i = 0; i < SYNC_MET_MAX; i++)
        if (cal_peer_id_equal(&context->met[i].peer, peer) &&
            memcmp(&context->met[i].party, party, sizeof *party) == 0)
            return;
    /* Strangers, and those of whom nothing is known yet, take no member's place. */
    for (size_t i = 0; i < SYNC_MET_MAX; i++)
        if (context->met[i].peer.len == 0 || !is_member(context, &context->met[i].party)) place = i;
    if (place == context->met_at) context->met_at = (context->met_at + 1) % SYNC_MET_MAX;
    context->met[place].peer = *peer;
    context->met[place].party = *party;
}

bool sync_met_writer(sync_context *context, const cal_peer_id *peer) {
    sync_judge judge;
    if (sync_judge_begin(context->sync, &context->id, &judge) != 0) return false;
    for (size_t i = 0; i < SYNC_MET_MAX; i++)
        if (cal_peer_id_equal(&context->met[i].peer, peer) &&
            sync_judge_key(&judge, &context->met[i].party, NULL))
            return true;
    return false;
}
