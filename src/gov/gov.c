/* Opening governance: the node's identity, and every namespace's rows into memory. See gov.h.
 *
 * The identity is one row of column NODE, minted at the first open; only the account's root key is
 * ever handed over (devices.c). The store encrypts it at rest. */
#include "gov/gov.h"

#include <assert.h>
#include <stdlib.h>

#include "base/error.h"
#include "gov/graph.h"

static const char identity_key[] = "gov/identity";
enum {
    IDENTITY_FIRST = 1,   /* three secrets and a nonce */
    IDENTITY_VERSION = 2, /* and the first root key, and the handoffs since */
    IDENTITY_MAX = 1 + 4 * 32 + GOV_DEVICE_NONCE_SIZE + 4 + GOV_HANDOFFS_MAX * 132,
};

uint64_t gov_now_s(const cal_gov *gov) { return gov->os->wall_ns(gov->os->user) / 1000000000u; }
uint64_t gov_now_ms(const cal_gov *gov) { return gov->os->wall_ns(gov->os->user) / 1000000u; }

/* --- identity --- */

/* Everything that follows from the secrets. The genesis key is the first root key: of the row when
 * there have been handoffs, else the one in force. */
static void identity_derive(gov_identity *self, const uint8_t *genesis_key, gov_chain chain) {
    gov_cert *cert = &self->credential.cert;
    self->credential =
        (gov_credential){.genesis = {.version = GOV_GENESIS_VERSION}, .chain = chain};
    if (genesis_key)
        memcpy(self->root_key.bytes, genesis_key, 32);
    else
        cal_sign_public_key(&self->root_seed, self->root_key.bytes);
    cal_sign_public_key(&self->sign_seed, self->sign_key.bytes);
    cal_agree_public_key(&self->kem_secret, self->kem_key);
    memcpy(self->credential.genesis.root_key, self->root_key.bytes, 32);
    gov_account_id(&self->credential.genesis, &self->account);
    gov_device_id(&self->account, self->device_nonce, &self->device);
    cert->account = self->account;
    cert->device = self->device;
    memcpy(cert->sign_key, self->sign_key.bytes, 32);
    memcpy(cert->kem_key, self->kem_key, 32);
    cert->key_epoch = cert->device_epoch = chain.count; /* certified anew by each root key */
    gov_cert_sign(cert, &self->root_seed);
}

/* A node that never handed its root key over keeps the row of the first version. */
int gov_identity_put(const gov_identity *self, cal_batch *batch) {
    const gov_chain *chain = &self->credential.chain;
    cal_buffer row;
    cal_buffer_init(&row, IDENTITY_MAX);
    cal_buffer_append_u8(&row, chain->count ? IDENTITY_VERSION : IDENTITY_FIRST);
    cal_buffer_append(&row, self->root_seed.bytes, 32);
    cal_buffer_append(&row, self->sign_seed.bytes, 32);
    cal_buffer_append(&row, self->kem_secret.bytes, 32);
    cal_buffer_append(&row, self->device_nonce, sizeof self->device_nonce);
    if (chain->count) {
        cal_buffer_append(&row, self->root_key.bytes, 32);
        gov_chain_write(chain, &row);
    }
    int result = row.error;
    if (!result)
        result = cal_batch_put(batch, CAL_COLUMN_NODE, cal_slice_text(identity_key),
                               cal_buffer_slice(&row));
    if (row.data) cal_wipe(row.data, row.len);
    cal_buffer_deinit(&row);
    return result;
}

static int identity_mint(cal_gov *gov, cal_error *err) {
    gov_identity *self = &gov->identity;
    cal_random(gov->os, self->root_seed.bytes, 32);
    cal_random(gov->os, self->sign_seed.bytes, 32);
    cal_random(gov->os, self->kem_secret.bytes, 32);
    cal_random(gov->os, self->device_nonce, sizeof self->device_nonce);
    cal_batch *batch = cal_batch_new();
    if (!batch || gov_identity_put(self, batch)) {
        cal_batch_free(batch);
        return cal_fail(err, CAL_ENOMEM, "no memory for the node's identity");
    }
    int result = cal_store_commit(gov->store, batch, err);
    if (!result) identity_derive(self, NULL, (gov_chain){0});
    return result;
}

static int identity_read(cal_gov *gov, cal_slice row, cal_error *err) {
    gov_identity *self = &gov->identity;
    cal_borsh in = cal_borsh_read(row);
    uint8_t version = cal_borsh_u8(&in), genesis_key[32];
    gov_chain chain = {0};
    if (!in.error && version > IDENTITY_VERSION)
        return cal_fail(err, CAL_EVERSION, "the node's identity was written by a newer version");
    cal_borsh_fixed(&in, self->root_seed.bytes, 32);
    cal_borsh_fixed(&in, self->sign_seed.bytes, 32);
    cal_borsh_fixed(&in, self->kem_secret.bytes, 32);
    cal_borsh_fixed(&in, self->device_nonce, sizeof self->device_nonce);
    if (version == IDENTITY_VERSION) {
        cal_borsh_fixed(&in, genesis_key, 32);
        gov_chain_read(&in, &gov->identity_arena, &chain);
    }
    int result = cal_borsh_end(&in);
    if (result == CAL_ENOMEM) return cal_fail(err, result, "no memory for the node's identity");
    if (!result) identity_derive(self, version == IDENTITY_VERSION ? genesis_key : NULL, chain);
    if (result || gov_credential_verify(&self->credential, &self->account, NULL) != GOV_PROOF_OK)
        return cal_fail(err, CAL_ECORRUPT, "the node's identity is damaged; restore a backup");
    return 0;
}

static int identity_load(cal_gov *gov, cal_snapshot *snapshot, cal_error *err) {
    cal_buffer row;
    cal_buffer_init(&row, IDENTITY_MAX);
    int result = cal_snapshot_get(snapshot, CAL_COLUMN_NODE, cal_slice_text(identity_key), &row);
    if (result == 0)
        result = identity_read(gov, cal_buffer_slice(&row), err);
    else if (result == CAL_ENOTFOUND)
        result = identity_mint(gov, err);
    else
        cal_fail(err, result, "the node's identity could not be read: %s", cal_error_text(result));
    if (row.data) cal_wipe(row.data, row.len);
    cal_buffer_deinit(&row);
    return result;
}

const gov_identity *gov_self(const cal_gov *gov) { return &gov->identity; }

void gov_sign(const cal_gov *gov, cal_slice message, uint8_t ret_signature[CAL_SIGNATURE_SIZE]) {
    cal_sign_as(&gov->identity.sign_seed, gov->identity.sign_key.bytes, message, ret_signature);
}

/* --- rows --- */

static int load_row(cal_gov *gov, cal_slice stored, cal_slice value, cal_error *err) {
    cal_slice key = {stored.data + 32, stored.len - 32};
    if (stored.len <= 32 || !gov_row_fits(key, value))
        return cal_fail(err, CAL_ECORRUPT, "a governance row is damaged; restore a backup");
    cal_group_id id;
    memcpy(id.bytes, stored.data, 32);
    gov_namespace *ns = gov_namespace_add(gov, &id);
    gov_row *row = ns ? malloc(sizeof *row + value.len) : NULL;
    if (!row) return cal_fail(err, CAL_ENOMEM, "no memory for governance rows");
    row->len = value.len;
    if (value.len) memcpy(row->bytes, value.data, value.len);
    if (cal_sorted_put(&ns->rows, key, row, NULL)) {
        free(row);
        return cal_fail(err, CAL_ENOMEM, "no memory for governance rows");
    }
    if (gov_count_reserve(ns, key))
        return cal_fail(err, CAL_ENOMEM, "no memory for governance rows");
    gov_count_row(ns, key, true);
    cal_map *index = gov_index_of_row(gov, key);
    cal_slice object = cal_slice_of(key.data + 1, index ? 32 : 0);
    if (index && cal_map_get(index, object)) /* governance.md 18.1, T26 */
        return cal_fail(err, CAL_ECORRUPT,
                        "two namespaces hold the same group or context; restore a backup");
    if (index && cal_map_put(index, object, ns))
        return cal_fail(err, CAL_ENOMEM, "no memory for governance rows");
    return 0;
}

/* Those that were deleted and whose rows are not gone yet. */
static int note_removed(void *user, const uint8_t id[32]) {
    return cal_map_put(user, cal_slice_of(id, 32), user);
}

static int load_rows(cal_gov *gov, cal_snapshot *snapshot, cal_error *err) {
    cal_cursor *cursor;
    cal_slice key, value;
    cal_map removed;
    cal_map_init(&removed, gov->groups.seed);
    int result = cal_removal_each(&gov_removal, snapshot, note_removed, &removed);
    if (!result)
        result = cal_cursor_open(snapshot, CAL_COLUMN_GROUP, (cal_slice){0}, (cal_slice){0}, false,
                                 &cursor);
    if (result) cal_map_deinit(&removed);
    if (result)
        return cal_fail(err, result, "governance rows could not be read: %s",
                        cal_error_text(result));
    while ((result = cal_cursor_next(cursor, &key, &value)) == 0) {
        if (key.len >= 32 && cal_map_get(&removed, cal_slice_of(key.data, 32))) continue;
        if ((result = load_row(gov, key, value, err))) break;
    }
    cal_map_deinit(&removed);
    if (result == CAL_ENOTFOUND)
        result = 0;
    else if (err && err->code != result)
        cal_fail(err, result, "governance rows could not be read: %s", cal_error_text(result));
    cal_cursor_free(cursor);
    return result;
}

static int load_graphs(cal_gov *gov, cal_snapshot *snapshot, cal_error *err) {
    cal_sorted_node *node = cal_sorted_from(&gov->namespaces, (cal_slice){0});
    int result = 0;
    for (; node && !result; node = node->next[0]) {
        result = gov_graph_load(gov, node->value, snapshot, err);
        if (!result) gov_unseal_note(node->value);
    }
    return result;
}

int gov_open(cal_store *store, const cal_os *os, cal_gov **ret_gov, cal_error *err) {
    cal_snapshot *snapshot = NULL;
    uint64_t seeds[2];
    cal_gov *self = calloc(1, sizeof *self);
    if (!self) return cal_fail(err, CAL_ENOMEM, "no memory for governance");
    self->store = store;
    self->os = os;
    os->random(os->user, seeds, sizeof seeds);
    cal_sorted_init(&self->namespaces);
    cal_map_init(&self->groups, seeds[0]);
    cal_map_init(&self->contexts, seeds[1]);
    cal_list_init(&self->retired);
    cal_arena_init(&self->identity_arena, GOV_HANDOFFS_MAX * 2 * sizeof(gov_handoff));
    if (err) err->code = 0;
    int result = cal_store_snapshot(store, &snapshot);
    if (result) cal_fail(err, result, "the store could not be read: %s", cal_error_text(result));
    if (!result) result = load_rows(self, snapshot, err);
    if (!result) result = identity_load(self, snapshot, err);
    if (!result) result = gov_paired_load(self, snapshot, err);
    if (!result) result = load_graphs(self, snapshot, err);
    cal_snapshot_free(snapshot);
    if (result)
        gov_close(self);
    else
        *ret_gov = self;
    return result;
}

void gov_close(cal_gov *gov) {
    if (!gov) return;
    for (cal_sorted_node *node; (node = cal_sorted_from(&gov->namespaces, (cal_slice){0}));)
        gov_namespace_drop(gov, node->value);
    while (gov_sweep(gov)) continue;
    cal_sorted_deinit(&gov->namespaces);
    cal_map_deinit(&gov->groups);
    cal_map_deinit(&gov->contexts);
    cal_wipe(&gov->identity, sizeof gov->identity);
    cal_arena_deinit(&gov->identity_arena);
    gov_proofs_deinit(&gov->proofs);
    free(gov);
}
