/* Operations into rows, see fold.h. */
#include "gov/fold.h"

#include <assert.h>
#include <stdlib.h>

enum {
    ROW_EXISTS = 'e',       /* group -> 0 or 1; only inside a fold */
    ROW_RULES = 'r',        /* -> PolicyUpdated's bytes; only inside a fold */
    HANDOFF_CANDIDATES = 8, /* for each account and epoch, the lowest by (key, signature) */
    STAMP_SIZE = 4 + 32,
    HANDOFF_KEY = 32 + 4 + 32 + 64,
};

void gov_fold_init(gov_fold *fold, const cal_group_id *namespace_id) {
    *fold = (gov_fold){.namespace_id = *namespace_id};
    cal_sorted_init(&fold->rows);
    cal_sorted_init(&fold->stamps);
    cal_sorted_init(&fold->handoffs);
}

static void free_values(cal_sorted *map) {
    for (cal_sorted_node *node = cal_sorted_from(map, (cal_slice){0}); node; node = node->next[0])
        free(node->value);
    cal_sorted_deinit(map);
}

void gov_fold_deinit(gov_fold *fold) {
    free_values(&fold->rows);
    free_values(&fold->stamps);
    free_values(&fold->handoffs);
}

gov_view gov_fold_view(const gov_fold *fold, uint32_t capability_base) {
    return (gov_view){.base = &fold->rows,
                      .namespace_id = fold->namespace_id,
                      .capability_base = capability_base};
}

/* --- slots --- */

static void put_row(gov_fold *fold, gov_key key, cal_slice value) {
    gov_row *row = malloc(sizeof *row + value.len);
    void *old = NULL;
    if (row) {
        row->len = value.len;
        if (value.len) memcpy(row->bytes, value.data, value.len);
    }
    if (!row || cal_sorted_put(&fold->rows, cal_slice_of(key.bytes, key.len), row, &old)) {
        free(row);
        fold->error = CAL_ENOMEM;
        return;
    }
    free(old);
}

static void drop_row(gov_fold *fold, gov_key key) {
    free(cal_sorted_remove(&fold->rows, cal_slice_of(key.bytes, key.len)));
}

/* Whether the operation's stamp is above the slot's; if so it becomes the slot's. Generation first,
 * then id, bytewise. */
static bool wins(gov_fold *fold, const gov_fold_op *op, gov_key key) {
    uint8_t stamp[STAMP_SIZE];
    cal_write_u32be(stamp, op->generation);
    memcpy(stamp + 4, op->id.bytes, 32);
    uint8_t *known = cal_sorted_get(&fold->stamps, cal_slice_of(key.bytes, key.len));
    if (known && memcmp(stamp, known, STAMP_SIZE) <= 0) return false;
    if (!known) {
        known = malloc(STAMP_SIZE);
        if (!known ||
            cal_sorted_put(&fold->stamps, cal_slice_of(key.bytes, key.len), known, NULL)) {
            free(known);
            fold->error = CAL_ENOMEM;
            return false;
        }
    }
    memcpy(known, stamp, STAMP_SIZE);
    return true;
}

static void set_slot(gov_fold *fold, const gov_fold_op *op, gov_key key, const void *value,
                     size_t len) {
    if (wins(fold, op, key)) put_row(fold, key, cal_slice_of(value, len));
}

static gov_key key1(int kind, const void *a) {
    return gov_key_of((gov_row_kind)kind, a, NULL, NULL);
}

/* --- members and groups --- */

static void set_member(gov_fold *fold, const gov_fold_op *op, const cal_group_id *group,
                       const cal_account_id *account, uint8_t role) {
    uint8_t value[] = {role, true, false};
    set_slot(fold, op, gov_key_of(ROW_MEMBER, group->bytes, account->bytes, NULL), value,
             sizeof value);
}

static void clear_member(gov_fold *fold, const gov_fold_op *op, const cal_group_id *group,
                         const cal_account_id *account) {
    gov_key key = gov_key_of(ROW_MEMBER, group->bytes, account->bytes, NULL);
    if (wins(fold, op, key)) drop_row(fold, key);
}

static void set_exists(gov_fold *fold, const gov_fold_op *op, const cal_group_id *group,
                       bool exists) {
    uint8_t value = exists;
    set_slot(fold, op, key1(ROW_EXISTS, group->bytes), &value, 1);
}

static void set_visibility(gov_fold *fold, const gov_fold_op *op, const cal_group_id *group,
                           bool restricted) {
    uint8_t value = restricted;
    set_slot(fold, op, key1(ROW_VISIBILITY, group->bytes), &value, 1);
}

/* A meta row with nothing but the admin. */
static void put_admin(gov_fold *fold, const cal_group_id *group, const cal_account_id *admin) {
    uint8_t meta[136] = {0};
    memcpy(meta, admin->bytes, 32);
    put_row(fold, key1(ROW_META, group->bytes), cal_slice_of(meta, sizeof meta));
}

static void group_created(gov_fold *fold, const gov_fold_op *op) {
    const gov_root_op *root = op->root;
    set_slot(fold, op, key1(ROW_PARENT, root->group.bytes), root->parent.bytes, 32);
    set_visibility(fold, op, &root->group, root->restricted);
    set_exists(fold, op, &root->group, true);
    if (wins(fold, op, key1(ROW_META, root->group.bytes)))
        put_admin(fold, &root->group, &root->account);
}

/* --- accounts: grow-only, without stamps --- */

static void put_root_key(gov_fold *fold, const cal_account_id *account, uint32_t epoch,
                         const uint8_t key[32]) {
    uint8_t number[32] = {0};
    cal_write_u32be(number + 28, epoch);
    put_row(fold, gov_key_of(ROW_ROOT_KEY, account->bytes, number, NULL), cal_slice_of(key, 32));
}

/* Nodes of one account and epoch, from the lowest. */
static cal_sorted_node *candidates(const gov_fold *fold, const cal_account_id *account,
                                   uint32_t epoch, uint8_t prefix[36]) {
    memcpy(prefix, account->bytes, 32);
    cal_write_u32be(prefix + 32, epoch);
    return cal_sorted_from(&fold->handoffs, cal_slice_of(prefix, 36));
}

static bool candidate_of(const cal_sorted_node *node, const uint8_t prefix[36]) {
    return node && memcmp(node->key.data, prefix, 36) == 0;
}

/* Which of several is real is decided when all are known: a forged one must not be able to displace
 * it by coming first. */
static void absorb_handoff(gov_fold *fold, const gov_handoff *handoff) {
    uint8_t key[HANDOFF_KEY], prefix[36];
    gov_handoff *kept = malloc(sizeof *kept);
    void *old = NULL;
    memcpy(key, handoff->account.bytes, 32);
    cal_write_u32be(key + 32, handoff->from_epoch);
    memcpy(key + 36, handoff->new_root_key, 32);
    memcpy(key + 68, handoff->signature, 64);
    if (kept) *kept = *handoff;
    if (!kept || cal_sorted_put(&fold->handoffs, cal_slice_of(key, sizeof key), kept, &old)) {
        free(kept);
        fold->error = CAL_ENOMEM;
        return;
    }
    free(old);
    cal_sorted_node *node = candidates(fold, &handoff->account, handoff->from_epoch, prefix);
    for (int i = 0; candidate_of(node, prefix); i++) {
        cal_sorted_node *next = node->next[0];
        if (i >= HANDOFF_CANDIDATES) {
            memcpy(key, node->key.data, sizeof key); /* the node's own key goes with it */
            free(cal_sorted_remove(&fold->handoffs, cal_slice_of(key, sizeof key)));
        }
        node = next;
    }
}

static void link_device(gov_fold *fold, const gov_credential *credential) {
    const gov_cert *cert = &credential->cert;
    gov_view view = gov_fold_view(fold, 0);
    gov_binding known;
    cal_account_id derived;
    gov_account_id(&credential->genesis, &derived);
    if (gov_id_equal(derived.bytes, cert->account.bytes) &&
        credential->chain.count <= GOV_HANDOFFS_MAX) {
        put_root_key(fold, &cert->account, 0, credential->genesis.root_key);
        for (uint32_t i = 0; i < credential->chain.count; i++)
            if (gov_id_equal(credential->chain.items[i].account.bytes, cert->account.bytes))
                absorb_handoff(fold, &credential->chain.items[i]);
    }
    gov_key revoked = key1(ROW_REVOKED, cert->device.bytes);
    if (gov_view_get(&view, &revoked, NULL) ||
        gov_credential_verify(credential, &cert->account) != GOV_PROOF_OK)
        return;
    if (gov_binding_get(&view, &cert->device, &known) &&
        (!gov_id_equal(known.account.bytes, cert->account.bytes) ||
         cert->device_epoch <= known.device_epoch))
        return; /* the same certificate again changes nothing either */
    uint8_t value[104];
    memcpy(value, cert->account.bytes, 32);
    memcpy(value + 32, cert->sign_key, 32);
    memcpy(value + 64, cert->kem_key, 32);
    cal_write_u32le(value + 96, cert->key_epoch);
    cal_write_u32le(value + 100, cert->device_epoch);
    put_row(fold, key1(ROW_BINDING, cert->device.bytes), cal_slice_of(value, sizeof value));
}

/* The same predicate on both planes: the credential is the member's, and valid. */
static bool credential_binds(const gov_root_op *op) {
    const gov_cert *cert = &op->credential.cert;
    bool named = op->kind == GOV_MEMBER_JOINED_TEE
                     ? gov_id_equal(cert->sign_key, op->member_key)
                     : gov_id_equal(cert->account.bytes, op->account.bytes);
    return named && gov_credential_verify(&op->credential, &cert->account) == GOV_PROOF_OK;
}

/* --- operations --- */

static void add_root(gov_fold *fold, const gov_fold_op *op) {
    const gov_root_op *root = op->root;
    uint8_t role = root->invitation.role == 0   ? GOV_ROLE_ADMIN
                   : root->invitation.role == 2 ? GOV_ROLE_READ_ONLY
                                                : GOV_ROLE_MEMBER;
    switch ((gov_root_kind)root->kind) {
    case GOV_GROUP_CREATED:
        group_created(fold, op);
        break;
    case GOV_GROUP_REPARENTED:
        set_slot(fold, op, key1(ROW_PARENT, root->group.bytes), root->parent.bytes, 32);
        set_exists(fold, op, &root->group, true);
        break;
    case GOV_GROUP_DELETED:
        set_exists(fold, op, &root->group, false);
        break;
    case GOV_ADMIN_CHANGED:
        set_slot(fold, op, key1(ROW_ROOT_ADMIN, NULL), root->account.bytes, 32);
        break;
    case GOV_POLICY_UPDATED:
        set_slot(fold, op, key1(ROW_RULES, NULL), root->policy.data, root->policy.len);
        break;
    case GOV_MEMBER_JOINED:
    case GOV_MEMBER_JOINED_AT:
        set_member(fold, op, &root->invitation.group, &root->account, role);
        if (credential_binds(root)) link_device(fold, &root->credential);
        break;
    case GOV_MEMBER_JOINED_TEE:
        if (!credential_binds(root)) break;
        set_member(fold, op, &root->group, &root->credential.cert.account, root->role);
        link_device(fold, &root->credential);
        break;
    case GOV_MEMBER_JOINED_OPEN:
    case GOV_NAMESPACE_CREATED:
        if (credential_binds(root)) link_device(fold, &root->credential);
        break;
    case GOV_KEY_DELIVERY:
    case GOV_ROOT_KIND_COUNT:
        break;
    }
}

static void add_group(gov_fold *fold, const gov_fold_op *op) {
    const gov_group_op *plain = op->group_op;
    uint8_t capabilities[4];
    gov_credential credential = {
        .genesis = plain->genesis, .chain = plain->chain, .cert = plain->cert};
    cal_write_u32le(capabilities, plain->capabilities);
    switch ((gov_group_kind)plain->kind) {
    case GOV_MEMBER_ADDED:
    case GOV_MEMBER_ROLE_SET:
    case GOV_GROUP_MEMBER_JOINED_TEE:
        set_member(fold, op, &op->group, &plain->account, plain->role);
        break;
    case GOV_MEMBER_REMOVED:
    case GOV_MEMBER_LEFT:
        clear_member(fold, op, &op->group, &plain->account);
        break;
    case GOV_OWNERSHIP_TRANSFERRED: /* as the reference, in any group (governance.md 18.2, G4) */
        set_slot(fold, op, key1(ROW_ROOT_ADMIN, NULL), plain->account.bytes, 32);
        break;
    case GOV_VISIBILITY_SET:
        set_visibility(fold, op, &op->group, plain->visibility == 1);
        set_exists(fold, op, &op->group, true);
        break;
    case GOV_DEFAULT_CAPABILITIES_SET:
        set_slot(fold, op, key1(ROW_DEFAULTS, op->group.bytes), capabilities, 4);
        break;
    case GOV_MEMBER_CAPABILITY_SET:
        set_slot(fold, op,
                 gov_key_of(ROW_CAPABILITIES, op->group.bytes, plain->account.bytes, NULL),
                 capabilities, 4);
        break;
    case GOV_DEVICE_LINKED:
        link_device(fold, &credential);
        break;
    case GOV_DEVICE_UNLINKED:
        put_row(fold, key1(ROW_REVOKED, plain->device.bytes), (cal_slice){0});
        drop_row(fold, key1(ROW_BINDING, plain->device.bytes));
        break;
    case GOV_ACCOUNT_KEYS_ROTATED: /* only the account itself may hand over its keys */
        if (op->author && gov_id_equal(op->author->bytes, plain->handoff.account.bytes))
            absorb_handoff(fold, &plain->handoff);
        break;
    default:
        break; /* everything else readable folds to nothing */
    }
}

void gov_fold_add(gov_fold *fold, const gov_fold_op *op) {
    if (op->root)
        add_root(fold, op);
    else if (op->group_op)
        add_group(fold, op);
    else if (op->key_id)
        put_row(fold, gov_key_of(ROW_OPAQUE, op->group.bytes, op->id.bytes, NULL),
                cal_slice_of(op->key_id->bytes, 32));
}

/* --- finishing --- */

/* Follows each account's handoffs from its genesis key: at every epoch the first candidate that
 * verifies. */
static void resolve_root_keys(gov_fold *fold) {
    gov_view view = gov_fold_view(fold, 0);
    gov_walk walk = gov_walk_start(&view, ROW_ROOT_KEY, NULL, NULL);
    cal_slice rest, value;
    while (gov_walk_next(
        &walk, &rest,
        &value)) { /* new rows of an account come after the one we stand on: they are no genesis */
        cal_account_id account;
        uint8_t key[32], prefix[36];
        if (cal_read_u32be(rest.data + 60) != 0) continue;
        memcpy(account.bytes, rest.data, 32);
        memcpy(key, value.data, 32);
        for (uint32_t epoch = 0; epoch < UINT32_MAX; epoch++) {
            cal_sorted_node *node = candidates(fold, &account, epoch, prefix);
            while (candidate_of(node, prefix) && !gov_handoff_verify(node->value, key))
                node = node->next[0];
            if (!candidate_of(node, prefix)) break;
            memcpy(key, ((const gov_handoff *)node->value)->new_root_key, 32);
            put_root_key(fold, &account, epoch + 1, key);
        }
    }
}

/* A group counts when it exists; without a word about its visibility it is open, as in the
 * reference's fold. */
static void settle_groups(gov_fold *fold) {
    gov_view view = gov_fold_view(fold, 0);
    gov_walk walk = gov_walk_start(&view, (gov_row_kind)ROW_EXISTS, NULL, NULL);
    cal_slice id, exists;
    while (gov_walk_next(&walk, &id, &exists)) {
        gov_key parent = key1(ROW_PARENT, id.data), visibility = key1(ROW_VISIBILITY, id.data);
        uint8_t open = 0;
        if (!exists.data[0]) {
            drop_row(fold, parent);
            drop_row(fold, visibility);
        } else if (!gov_view_get(&view, &visibility, NULL))
            put_row(fold, visibility, cal_slice_of(&open, 1));
    }
}

int gov_fold_finish(gov_fold *fold, const cal_account_id *founder) {
    if (founder) put_admin(fold, &fold->namespace_id, founder);
    resolve_root_keys(fold);
    settle_groups(fold);
    return fold->error;
}

/* --- hashes (governance.md 7.3) --- */

static void feed(cal_sha256_stream *stream, const void *bytes, size_t len) {
    cal_sha256_feed(stream, cal_slice_of(bytes, len));
}

static void hash_members(const gov_view *view, cal_sha256_stream *stream) {
    gov_walk walk = gov_walk_start(view, ROW_MEMBER, NULL, NULL);
    cal_slice rest, value;
    uint8_t group[32];
    bool first = true;
    while (gov_walk_next(&walk, &rest, &value)) {
        if (first || memcmp(group, rest.data, 32) != 0) feed(stream, rest.data, 32);
        memcpy(group, rest.data, 32);
        first = false;
        feed(stream, rest.data + 32, 32);
        feed(stream, value.data, 1);
    }
}

static void hash_settings(const gov_view *view, cal_sha256_stream *stream) {
    gov_key admin = key1(ROW_ROOT_ADMIN, NULL), rules = key1(ROW_RULES, NULL);
    cal_slice value = {0}, rest;
    uint8_t some = gov_view_get(view, &admin, &value), len[8];
    feed(stream, &some, 1);
    if (some) feed(stream, value.data, 32);
    value = (cal_slice){0};
    gov_view_get(view, &rules, &value);
    cal_write_u64le(len, value.len);
    feed(stream, len, sizeof len);
    cal_sha256_feed(stream, value);
    gov_walk walk = gov_walk_start(view, (gov_row_kind)ROW_EXISTS, NULL, NULL);
    while (gov_walk_next(&walk, &rest, &value)) {
        gov_key parent = key1(ROW_PARENT, rest.data), visibility = key1(ROW_VISIBILITY, rest.data);
        cal_slice found;
        if (!value.data[0]) continue;
        feed(stream, rest.data, 32);
        if (gov_view_get(view, &parent, &found)) feed(stream, found.data, 32);
        if (gov_view_get(view, &visibility, &found)) feed(stream, found.data, 1);
    }
}

/* Key parts and value of every row of a kind, as they lie. */
static void hash_rows(const gov_view *view, gov_row_kind kind, size_t value_len,
                      cal_sha256_stream *stream) {
    gov_walk walk = gov_walk_start(view, kind, NULL, NULL);
    cal_slice rest, value;
    while (gov_walk_next(&walk, &rest, &value)) {
        cal_sha256_feed(stream, rest);
        feed(stream, value.data, value_len);
    }
}

static void hash_accounts(const gov_view *view, cal_sha256_stream *stream) {
    gov_walk walk = gov_walk_start(view, ROW_ROOT_KEY, NULL, NULL);
    cal_slice rest, value;
    while (gov_walk_next(&walk, &rest, &value)) {
        cal_account_id account;
        uint8_t key[32], epoch[4];
        if (cal_read_u32be(rest.data + 60) != 0) continue; /* once for each account */
        memcpy(account.bytes, rest.data, 32);
        cal_write_u32le(epoch, gov_root_epoch(view, &account, key));
        feed(stream, account.bytes, 32);
        feed(stream, epoch, sizeof epoch);
        feed(stream, key, 32);
    }
}

static void hash_devices(const gov_view *view, cal_sha256_stream *stream) {
    gov_walk walk = gov_walk_start(view, ROW_BINDING, NULL, NULL);
    cal_slice device, value;
    while (gov_walk_next(&walk, &device, &value)) {
        gov_binding binding = gov_binding_read(value);
        uint8_t epoch[4];
        if (!gov_device_live(view, device, &binding)) continue;
        cal_write_u32le(epoch, binding.device_epoch);
        feed(stream, device.data, 32);
        feed(stream, binding.account.bytes, 32);
        feed(stream, binding.sign_key, 32);
        feed(stream, binding.kem_key, 32);
        feed(stream, epoch, sizeof epoch);
    }
    hash_rows(view, ROW_REVOKED, 0, stream);
}

/* The admins that GroupCreated named; the founder is none of them. */
static void hash_group_admins(const gov_fold *fold, const gov_view *view,
                              cal_sha256_stream *stream) {
    gov_walk walk = gov_walk_start(view, ROW_META, NULL, NULL);
    cal_slice group, value;
    while (gov_walk_next(&walk, &group, &value)) {
        gov_key key = key1(ROW_META, group.data);
        if (!cal_sorted_get(&fold->stamps, cal_slice_of(key.bytes, key.len))) continue;
        feed(stream, group.data, 32);
        feed(stream, value.data, 32);
    }
}

int gov_fold_hash(const gov_fold *fold, cal_hash *ret_hash) {
    gov_view view = gov_fold_view(fold, 0);
    cal_sha256_stream stream;
    int result = cal_sha256_begin(&stream);
    if (result) return result;
    hash_members(&view, &stream);
    hash_settings(&view, &stream);
    hash_rows(&view, ROW_DEFAULTS, 4, &stream);
    hash_rows(&view, ROW_CAPABILITIES, 4, &stream);
    hash_accounts(&view, &stream);
    hash_devices(&view, &stream);
    hash_group_admins(fold, &view, &stream);
    cal_sha256_end(&stream, ret_hash->bytes);
    return 0;
}

void gov_scope_root(const cal_hash *entities, const cal_hash *acl, const cal_hash *governance,
                    cal_hash *ret_root) {
    const cal_slice parts[] = {{entities->bytes, 32}, {acl->bytes, 32}, {governance->bytes, 32}};
    cal_sha256_parts(parts, 3, ret_root->bytes);
}
