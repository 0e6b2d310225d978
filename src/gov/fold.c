/* Operations into writes, writes into slots, slots into rows: see fold.h. */
#include "gov/fold.h"

#include <assert.h>
#include <stdlib.h>

enum {
    HANDOFF_CANDIDATES = 8, /* for each account and epoch, the lowest by (key, signature) */
    HANDOFF_EPOCH = 1 + 32, /* where a handoff's slot key has its epoch */
    HANDOFF_KEY = HANDOFF_EPOCH + 4,
    HANDOFF_SIGNATURE = HANDOFF_KEY + 32,
    HANDOFF_SLOT = HANDOFF_SIGNATURE + 64,
    META_SIZE = 136,
    BINDING_SIZE = 104,
    SLOT_SEQUENCE = GOV_RANK_SIZE,
    SLOT_PRESENT = GOV_RANK_SIZE + 8,
};

_Static_assert((int)HANDOFF_SLOT <= (int)GOV_KEY_MAX, "a handoff's slot fits a key");

static gov_key key1(int kind, const void *a) {
    return gov_key_of((gov_row_kind)kind, a, NULL, NULL);
}

static gov_key key2(int kind, const void *a, const void *b) {
    return gov_key_of((gov_row_kind)kind, a, b, NULL);
}

/* --- what an operation writes --- */

typedef struct {
    const gov_fold_op *op;
    gov_write_visitor visit;
    void *user;
} emitter;

enum { CLASS_PLAIN = 0, CLASS_ABOVE = 1 }; /* the first number of a rank */

static void rank_stamp(const gov_fold_op *op, uint32_t first, bool inverted,
                       uint8_t ret_rank[GOV_RANK_SIZE]) {
    cal_write_u32be(ret_rank, first);
    cal_write_u32be(ret_rank + 4, op->generation);
    memcpy(ret_rank + 8, op->id.bytes, 32);
    for (int i = 4; i < GOV_RANK_SIZE && inverted; i++) ret_rank[i] = (uint8_t)~ret_rank[i];
}

static void emit(emitter *e, gov_key key, uint32_t first, bool inverted, bool present,
                 cal_slice value) {
    gov_write write = {.key = key, .sequence = e->op->sequence, .present = present, .value = value};
    rank_stamp(e->op, first, inverted, write.rank);
    e->visit(e->user, &write);
}

static void set_slot(emitter *e, gov_key key, const void *value, size_t len) {
    emit(e, key, CLASS_PLAIN, false, true, cal_slice_of(value, len));
}

static void set_member(emitter *e, const cal_group_id *group, const cal_account_id *account,
                       uint8_t role) {
    uint8_t value[] = {role, true, false};
    set_slot(e, key2(ROW_MEMBER, group->bytes, account->bytes), value, sizeof value);
}

static void set_exists(emitter *e, const cal_group_id *group, bool exists) {
    uint8_t value = exists;
    set_slot(e, key1(ROW_EXISTS, group->bytes), &value, 1);
}

static void set_visibility(emitter *e, const cal_group_id *group, bool restricted) {
    uint8_t value = restricted;
    set_slot(e, key1(ROW_VISIBILITY, group->bytes), &value, 1);
}

static void group_created(emitter *e, const gov_root_op *root) {
    uint8_t meta[META_SIZE] = {0}; /* nothing but the admin */
    memcpy(meta, root->account.bytes, 32);
    set_slot(e, key1(ROW_PARENT, root->group.bytes), root->parent.bytes, 32);
    set_visibility(e, &root->group, root->restricted);
    set_exists(e, &root->group, true);
    set_slot(e, key1(ROW_META, root->group.bytes), meta, sizeof meta);
    set_slot(e, key1(ROW_OWNER, root->group.bytes), root->account.bytes, 32);
}

/* Who governs the namespace: the founder, until an operation names another. Of several founders the
 * first counts. */
static void set_founder(emitter *e, const cal_account_id *account, bool named) {
    emit(e, key1(SLOT_FOUNDER, NULL), named ? CLASS_ABOVE : CLASS_PLAIN, !named, true,
         cal_slice_of(account->bytes, 32));
}

/* Of the namespace likewise: its founder, until it passes it on. */
static void set_namespace_owner(emitter *e, const cal_account_id *account, bool passed) {
    if (e->op->namespace_id)
        emit(e, key1(ROW_OWNER, e->op->namespace_id->bytes), passed ? CLASS_ABOVE : CLASS_PLAIN,
             !passed, true, cal_slice_of(account->bytes, 32));
}

/* A slot without a value, of a row that decides about nobody's rights: only who wrote it last. */
static void claim_slot(emitter *e, gov_key key) { set_slot(e, key, NULL, 0); }

/* Which of several is real is decided when all are known: a forged one must not be able to displace
 * it by coming first. */
static void absorb_handoff(emitter *e, const gov_handoff *handoff) {
    gov_key key = key1(SLOT_HANDOFF, handoff->account.bytes);
    cal_write_u32be(key.bytes + HANDOFF_EPOCH, handoff->from_epoch);
    memcpy(key.bytes + HANDOFF_KEY, handoff->new_root_key, 32);
    memcpy(key.bytes + HANDOFF_SIGNATURE, handoff->signature, 64);
    key.len = HANDOFF_SLOT;
    emit(e, key, CLASS_PLAIN, false, true, (cal_slice){0});
}

static void link_device(emitter *e, const gov_credential *credential) {
    const gov_cert *cert = &credential->cert;
    uint8_t value[BINDING_SIZE], epoch[32] = {0};
    cal_account_id derived;
    gov_account_id(&credential->genesis, &derived);
    if (gov_id_equal(derived.bytes, cert->account.bytes) &&
        credential->chain.count <= GOV_HANDOFFS_MAX) {
        set_slot(e, key2(ROW_ROOT_KEY, cert->account.bytes, epoch), credential->genesis.root_key,
                 32);
        for (uint32_t i = 0; i < credential->chain.count; i++)
            if (gov_id_equal(credential->chain.items[i].account.bytes, cert->account.bytes))
                absorb_handoff(e, &credential->chain.items[i]);
    }
    if (gov_credential_verify(credential, &cert->account, e->op->proofs) != GOV_PROOF_OK) return;
    memcpy(value, cert->account.bytes, 32);
    memcpy(value + 32, cert->sign_key, 32);
    memcpy(value + 64, cert->kem_key, 32);
    cal_write_u32le(value + 96, cert->key_epoch);
    cal_write_u32le(value + 100, cert->device_epoch);
    emit(e, key2(SLOT_CLAIM, cert->device.bytes, cert->account.bytes), CLASS_PLAIN, true, true,
         (cal_slice){0});
    emit(e, key2(SLOT_BINDING, cert->device.bytes, cert->account.bytes), cert->device_epoch, true,
         true, cal_slice_of(value, sizeof value));
}

/* The same predicate on both planes: the credential is the member's, and valid. */
static bool credential_binds(const gov_root_op *op, gov_proofs *proofs) {
    const gov_cert *cert = &op->credential.cert;
    bool named = op->kind == GOV_MEMBER_JOINED_TEE
                     ? gov_id_equal(cert->sign_key, op->member_key)
                     : gov_id_equal(cert->account.bytes, op->account.bytes);
    return named && gov_credential_verify(&op->credential, &cert->account, proofs) == GOV_PROOF_OK;
}

static void write_root(emitter *e) {
    const gov_root_op *root = e->op->root;
    uint8_t role = root->invitation.role == 0   ? GOV_ROLE_ADMIN
                   : root->invitation.role == 2 ? GOV_ROLE_READ_ONLY
                                                : GOV_ROLE_MEMBER;
    switch ((gov_root_kind)root->kind) {
    case GOV_GROUP_CREATED:
        group_created(e, root);
        break;
    case GOV_GROUP_REPARENTED:
        set_slot(e, key1(ROW_PARENT, root->group.bytes), root->parent.bytes, 32);
        set_exists(e, &root->group, true);
        break;
    case GOV_GROUP_DELETED:
        set_exists(e, &root->group, false);
        break;
    case GOV_ADMIN_CHANGED:
        set_slot(e, key1(ROW_ROOT_ADMIN, NULL), root->account.bytes, 32);
        set_founder(e, &root->account, true);
        break;
    case GOV_POLICY_UPDATED:
        set_slot(e, key1(ROW_RULES, NULL), root->policy.data, root->policy.len);
        break;
    case GOV_MEMBER_JOINED:
    case GOV_MEMBER_JOINED_AT:
        set_member(e, &root->invitation.group, &root->account, role);
        if (credential_binds(root, e->op->proofs)) link_device(e, &root->credential);
        break;
    case GOV_MEMBER_JOINED_TEE:
        if (!credential_binds(root, e->op->proofs)) break;
        set_member(e, &root->group, &root->credential.cert.account, root->role);
        link_device(e, &root->credential);
        break;
    case GOV_NAMESPACE_CREATED:
        set_founder(e, &root->account, false);
        set_namespace_owner(e, &root->account, false);
        /* fall through */
    case GOV_MEMBER_JOINED_OPEN:
        if (credential_binds(root, e->op->proofs)) link_device(e, &root->credential);
        break;
    case GOV_KEY_DELIVERY:
    case GOV_ROOT_KIND_COUNT:
        break;
    }
}

static void write_group(emitter *e) {
    const gov_group_op *plain = e->op->group_op;
    const cal_group_id *group = &e->op->group;
    uint8_t capabilities[4];
    gov_credential credential = {
        .genesis = plain->genesis, .chain = plain->chain, .cert = plain->cert};
    cal_write_u32le(capabilities, plain->capabilities);
    switch ((gov_group_kind)plain->kind) {
    case GOV_MEMBER_ADDED:
    case GOV_MEMBER_ROLE_SET:
    case GOV_GROUP_MEMBER_JOINED_TEE:
        set_member(e, group, &plain->account, plain->role);
        break;
    case GOV_MEMBER_LEFT:
        if (e->op->namespace_id && gov_id_equal(group->bytes, e->op->namespace_id->bytes))
            set_slot(e, key1(SLOT_LEFT, plain->account.bytes), NULL, 0);
        /* fall through */
    case GOV_MEMBER_REMOVED:
        emit(e, key2(ROW_MEMBER, group->bytes, plain->account.bytes), CLASS_PLAIN, false, false,
             (cal_slice){0});
        break;
    case GOV_OWNERSHIP_TRANSFERRED: /* as the reference, in any group (governance.md 18.2, G4) */
        set_slot(e, key1(ROW_ROOT_ADMIN, NULL), plain->account.bytes, 32);
        if (e->op->namespace_id && gov_id_equal(group->bytes, e->op->namespace_id->bytes)) {
            set_founder(e, &plain->account, true);
            set_namespace_owner(e, &plain->account, true);
        } else
            set_slot(e, key1(ROW_OWNER, group->bytes), plain->account.bytes, 32);
        break;
    case GOV_VISIBILITY_SET:
        set_visibility(e, group, plain->visibility == 1);
        set_exists(e, group, true);
        break;
    case GOV_DEFAULT_CAPABILITIES_SET:
        set_slot(e, key1(ROW_DEFAULTS, group->bytes), capabilities, 4);
        break;
    case GOV_MEMBER_CAPABILITY_SET:
        set_slot(e, key2(ROW_CAPABILITIES, group->bytes, plain->account.bytes), capabilities, 4);
        break;
    case GOV_DEVICE_LINKED:
        link_device(e, &credential);
        break;
    case GOV_DEVICE_UNLINKED: /* terminal: no later link brings it back */
        set_slot(e, key1(ROW_REVOKED, plain->device.bytes), NULL, 0);
        break;
    case GOV_ACCOUNT_KEYS_ROTATED: /* only the account itself may hand over its keys */
        if (e->op->author && gov_id_equal(e->op->author->bytes, plain->handoff.account.bytes))
            absorb_handoff(e, &plain->handoff);
        break;
    case GOV_GROUP_METADATA_SET:
        claim_slot(e, key1(ROW_GROUP_DATA, group->bytes));
        break;
    case GOV_MEMBER_METADATA_SET:
        claim_slot(e, key2(ROW_MEMBER_DATA, group->bytes, plain->account.bytes));
        break;
    case GOV_CONTEXT_METADATA_SET:
        claim_slot(e, key2(ROW_CONTEXT_DATA, group->bytes, plain->context.bytes));
        break;
    case GOV_MIGRATION_SET:
        claim_slot(e, key1(ROW_MIGRATION, group->bytes));
        break;
    case GOV_TARGET_APPLICATION_SET:
        claim_slot(e, key1(SLOT_TARGET, group->bytes));
        break;
    case GOV_AUTO_FOLLOW_SET:
        claim_slot(e, key2(SLOT_FOLLOW, group->bytes, plain->account.bytes));
        break;
    default:
        break; /* everything else readable folds to nothing */
    }
}

void gov_fold_writes(const gov_fold_op *op, gov_write_visitor visit, void *user) {
    emitter e = {op, visit, user};
    gov_key opaque = key2(ROW_OPAQUE, op->group.bytes, op->id.bytes);
    if (op->was_opaque) emit(&e, opaque, CLASS_ABOVE, false, false, (cal_slice){0});
    if (op->root)
        write_root(&e);
    else if (op->group_op)
        write_group(&e);
    else if (op->key_id)
        set_slot(&e, opaque, op->key_id->bytes, 32);
}

/* --- slots --- */

gov_row *gov_slot_new(const gov_write *write) {
    gov_row *row = malloc(sizeof *row + GOV_SLOT_HEADER + write->value.len);
    if (!row) return NULL;
    row->len = GOV_SLOT_HEADER + write->value.len;
    memcpy(row->bytes, write->rank, GOV_RANK_SIZE);
    cal_write_u64le(row->bytes + SLOT_SEQUENCE, write->sequence);
    row->bytes[SLOT_PRESENT] = write->present;
    if (write->value.len) memcpy(row->bytes + GOV_SLOT_HEADER, write->value.data, write->value.len);
    return row;
}

void gov_slot_read(cal_slice key, cal_slice value, gov_write *ret_write) {
    assert(key.len <= GOV_KEY_MAX && value.len >= GOV_SLOT_HEADER);
    memcpy(ret_write->key.bytes, key.data, key.len);
    ret_write->key.len = key.len;
    memcpy(ret_write->rank, value.data, GOV_RANK_SIZE);
    ret_write->sequence = cal_read_u64le(value.data + SLOT_SEQUENCE);
    ret_write->present = value.data[SLOT_PRESENT] != 0;
    ret_write->value = cal_slice_of(value.data + GOV_SLOT_HEADER, value.len - GOV_SLOT_HEADER);
}

bool gov_slot_fits(cal_slice key, cal_slice value) {
    static const struct {
        int kind;
        size_t key_len, value_len;
    } own[] = {
        {ROW_EXISTS, 1 + 32, 1},       {SLOT_HANDOFF, HANDOFF_SLOT, 0},
        {SLOT_CLAIM, 1 + 64, 0},       {SLOT_BINDING, 1 + 64, BINDING_SIZE},
        {SLOT_FOUNDER, 1, 32},         {ROW_OPAQUE, 1 + 64, 32},
        {SLOT_LEFT, 1 + 32, 0},        {ROW_OWNER, 1 + 32, 32},
        {ROW_GROUP_DATA, 1 + 32, 0},   {ROW_MEMBER_DATA, 1 + 64, 0},
        {ROW_CONTEXT_DATA, 1 + 64, 0}, {ROW_MIGRATION, 1 + 32, 0},
        {SLOT_TARGET, 1 + 32, 0},      {SLOT_FOLLOW, 1 + 64, 0},
    };
    if (key.len == 0 || key.len > GOV_KEY_MAX || value.len < GOV_SLOT_HEADER ||
        value.data[SLOT_PRESENT] > 1)
        return false;
    cal_slice content = {value.data + GOV_SLOT_HEADER, value.len - GOV_SLOT_HEADER};
    bool present = value.data[SLOT_PRESENT] == 1;
    if (!present) /* what is emptied has no value; only these ever are */
        return content.len == 0 && (key.data[0] == ROW_MEMBER || key.data[0] == ROW_OPAQUE) &&
               key.len == 1 + 64;
    if (key.data[0] == ROW_RULES) return key.len == 1;
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (key.data[0] == own[i].kind)
            return key.len == own[i].key_len && content.len == own[i].value_len;
    switch ((gov_row_kind)key.data[0]) {
    case ROW_META:
    case ROW_MEMBER:
    case ROW_CAPABILITIES:
    case ROW_DEFAULTS:
    case ROW_VISIBILITY:
    case ROW_PARENT:
    case ROW_ROOT_KEY:
    case ROW_REVOKED:
    case ROW_ROOT_ADMIN:
        return gov_row_fits(key, content);
    default:
        return false;
    }
}

void gov_fold_init(gov_fold *fold, const cal_group_id *namespace_id, const gov_fold *base) {
    *fold = (gov_fold){.namespace_id = *namespace_id, .base = base};
    fold->judges = base && base->judges;
    fold->proofs = base ? base->proofs : NULL;
    cal_sorted_init(&fold->slots);
    cal_sorted_init(&fold->rows);
}

static void free_values(cal_sorted *map) {
    for (cal_sorted_node *node = cal_sorted_from(map, (cal_slice){0}); node; node = node->next[0])
        if (node->value != &gov_row_absent) free(node->value);
    cal_sorted_deinit(map);
}

void gov_fold_deinit(gov_fold *fold) {
    free_values(&fold->rows);
    free_values(&fold->slots);
}

gov_view gov_fold_view(const gov_fold *fold, uint32_t capability_base) {
    return (gov_view){.base = fold->base ? &fold->base->rows : &fold->rows,
                      .changed = fold->base ? &fold->rows : NULL,
                      .namespace_id = fold->namespace_id,
                      .capability_base = capability_base};
}

gov_view gov_fold_slots(const gov_fold *fold) {
    return (gov_view){.base = fold->base ? &fold->base->slots : &fold->slots,
                      .changed = fold->base ? &fold->slots : NULL,
                      .namespace_id = fold->namespace_id};
}

/* NULL: out of memory, which the fold remembers. */
static void put(gov_fold *fold, cal_sorted *map, const gov_key *key, gov_row *row) {
    void *old = NULL;
    if (!row || cal_sorted_put(map, cal_slice_of(key->bytes, key->len), row, &old)) {
        if (row != &gov_row_absent) free(row);
        fold->error = CAL_ENOMEM;
        return;
    }
    if (old != &gov_row_absent) free(old);
}

/* Over another fold what is gone leaves a mark. */
static void drop(gov_fold *fold, cal_sorted *map, const gov_key *key) {
    if (fold->base) {
        put(fold, map, key, &gov_row_absent);
        return;
    }
    void *old = cal_sorted_remove(map, cal_slice_of(key->bytes, key->len));
    if (old != &gov_row_absent) free(old);
}

bool gov_fold_slot(const gov_fold *fold, const gov_key *key, gov_write *ret_write) {
    gov_view slots = gov_fold_slots(fold);
    cal_slice value;
    if (!gov_view_get(&slots, key, &value)) return false;
    gov_slot_read(cal_slice_of(key->bytes, key->len), value, ret_write);
    return true;
}

void gov_fold_set(gov_fold *fold, const gov_key *key, const gov_write *write) {
    if (write)
        put(fold, &fold->slots, key, gov_slot_new(write));
    else
        drop(fold, &fold->slots, key);
}

bool gov_fold_put(gov_fold *fold, const gov_write *write) {
    gov_write known;
    if (gov_fold_slot(fold, &write->key, &known) &&
        memcmp(write->rank, known.rank, GOV_RANK_SIZE) <= 0)
        return false;
    gov_fold_set(fold, &write->key, write);
    return true;
}

/* --- rows --- */

static void put_row(gov_fold *fold, gov_key key, cal_slice value) {
    gov_row *row = malloc(sizeof *row + value.len);
    if (row) {
        row->len = value.len;
        if (value.len) memcpy(row->bytes, value.data, value.len);
    }
    put(fold, &fold->rows, &key, row);
}

static void put_or_drop(gov_fold *fold, gov_key key, bool present, cal_slice value) {
    if (present)
        put_row(fold, key, value);
    else
        drop(fold, &fold->rows, &key);
}

static bool value_of(const gov_fold *fold, gov_key key, gov_write *ret_write) {
    return gov_fold_slot(fold, &key, ret_write) && ret_write->present;
}

static void copy_row(gov_fold *fold, const gov_key *key) {
    gov_write slot = {.present = false};
    put_or_drop(fold, *key, value_of(fold, *key, &slot), slot.value);
}

/* A group counts when it exists; without a word about its visibility it is open, as in the
 * reference's fold. */
static void settle_group(gov_fold *fold, const uint8_t group[32]) {
    gov_key exists_key = key1(ROW_EXISTS, group), parent_key = key1(ROW_PARENT, group),
            visibility_key = key1(ROW_VISIBILITY, group);
    gov_write exists, parent, visibility;
    uint8_t open = 0;
    bool said = value_of(fold, exists_key, &exists);
    bool gone = said && !exists.value.data[0];
    bool has_parent = value_of(fold, parent_key, &parent) && !gone;
    bool has_visibility = value_of(fold, visibility_key, &visibility) && !gone;
    put_or_drop(fold, exists_key, said, said ? exists.value : (cal_slice){0});
    put_or_drop(fold, parent_key, has_parent, has_parent ? parent.value : (cal_slice){0});
    put_or_drop(fold, visibility_key, has_visibility || (said && !gone),
                has_visibility ? visibility.value : cal_slice_of(&open, 1));
}

/* The account that claimed the device first, with its greatest epoch; nobody once it is revoked. */
static void settle_device(gov_fold *fold, const uint8_t device[32]) {
    gov_view slots = gov_fold_slots(fold);
    gov_walk walk = gov_walk_start(&slots, (gov_row_kind)SLOT_CLAIM, device, NULL);
    cal_slice account, claim;
    const uint8_t *best = NULL, *owner = NULL;
    gov_write revoked, binding;
    while (gov_walk_next(&walk, &account, &claim)) {
        if (best && memcmp(claim.data, best, GOV_RANK_SIZE) <= 0) continue;
        best = claim.data;
        owner = account.data;
    }
    bool bound = owner && !value_of(fold, key1(ROW_REVOKED, device), &revoked) &&
                 value_of(fold, key2(SLOT_BINDING, device, owner), &binding);
    put_or_drop(fold, key1(ROW_BINDING, device), bound, bound ? binding.value : (cal_slice){0});
}

/* Of the lowest candidates for an epoch the first that verifies. */
static bool next_root_key(const gov_fold *fold, const uint8_t account[32], uint32_t epoch,
                          uint8_t key[32]) {
    gov_view slots = gov_fold_slots(fold);
    gov_walk walk = {.prefix = key1(SLOT_HANDOFF, account)};
    cal_slice rest, value;
    cal_write_u32be(walk.prefix.bytes + HANDOFF_EPOCH, epoch);
    walk.prefix.len = HANDOFF_KEY;
    cal_slice prefix = cal_slice_of(walk.prefix.bytes, walk.prefix.len);
    walk.base = cal_sorted_from(slots.base, prefix);
    walk.changed = slots.changed ? cal_sorted_from(slots.changed, prefix) : NULL;
    for (int i = 0; i < HANDOFF_CANDIDATES && gov_walk_next(&walk, &rest, &value); i++) {
        gov_handoff handoff = {.from_epoch = epoch};
        memcpy(handoff.account.bytes, account, 32);
        memcpy(handoff.new_root_key, rest.data, 32);
        memcpy(handoff.signature, rest.data + 32, 64);
        if (!gov_handoff_verify(&handoff, key, fold->proofs)) continue;
        memcpy(key, handoff.new_root_key, 32);
        return true;
    }
    return false;
}

static gov_key root_key_row(const uint8_t account[32], uint32_t epoch) {
    uint8_t number[32] = {0};
    cal_write_u32be(number + 28, epoch);
    return key2(ROW_ROOT_KEY, account, number);
}

static bool row_is(const gov_fold *fold, gov_key key, const uint8_t value[32]) {
    gov_view view = gov_fold_view(fold, 0);
    cal_slice row;
    return gov_view_get(&view, &key, &row) && memcmp(row.data, value, 32) == 0;
}

/* Follows the account's handoffs from the key of `epoch`, whose slot has changed, until the keys
 * are those that stand there: what an account's whole chain costs does not depend on how often it
 * grew. */
static void settle_root_keys(gov_fold *fold, const uint8_t account[32], uint32_t epoch) {
    gov_view view = gov_fold_view(fold, 0);
    gov_key at = root_key_row(account, epoch);
    gov_write genesis;
    cal_slice row;
    uint8_t key[32];
    bool known = true;
    if (epoch == 0) {
        known = value_of(fold, at, &genesis);
        if (known) memcpy(key, genesis.value.data, 32);
        if (known && !row_is(fold, at, key)) put_row(fold, at, cal_slice_of(key, 32));
    } else if (!gov_view_get(&view, &at, &row))
        return; /* the chain does not come here */
    else
        memcpy(key, row.data, 32);
    while (known && epoch < UINT32_MAX) {
        known = next_root_key(fold, account, epoch++, key);
        at = root_key_row(account, epoch);
        if (known && row_is(fold, at, key)) return;
        if (known) put_row(fold, at, cal_slice_of(key, 32));
    }
    for (;; epoch++) { /* a shorter chain than before leaves nothing behind */
        gov_key beyond = root_key_row(account, epoch);
        if (!gov_view_get(&view, &beyond, NULL)) break;
        drop(fold, &fold->rows, &beyond);
    }
}

static void settle_founder(gov_fold *fold) {
    gov_write founder, meta;
    uint8_t value[META_SIZE] = {0};
    gov_key meta_key = key1(ROW_META, fold->namespace_id.bytes),
            admin_key = key1(ROW_ROOT_ADMIN, NULL);
    if (!fold->judges) return;
    bool known = value_of(fold, key1(SLOT_FOUNDER, NULL), &founder);
    bool named = known && cal_read_u32be(founder.rank) == CLASS_ABOVE;
    put_or_drop(fold, admin_key, named, known ? founder.value : (cal_slice){0});
    if (known) {
        memcpy(value, founder.value.data, 32);
        put_row(fold, meta_key, cal_slice_of(value, sizeof value));
    } else
        put_or_drop(fold, meta_key, value_of(fold, meta_key, &meta), meta.value);
}

/* Whoever left the namespace left every group in it, unless it has come into one since. */
static void settle_member(gov_fold *fold, const gov_key *key) {
    gov_key left_key = key1(SLOT_LEFT, key->bytes + 1 + 32);
    gov_write member = {.present = false}, left;
    bool present = value_of(fold, *key, &member);
    if (present && fold->judges && gov_fold_slot(fold, &left_key, &left) &&
        memcmp(left.rank, member.rank, GOV_RANK_SIZE) > 0)
        present = false;
    put_or_drop(fold, *key, present, present ? member.value : (cal_slice){0});
}

static void settle_left(gov_fold *fold, const uint8_t account[32]) {
    gov_view slots = gov_fold_slots(fold);
    gov_walk walk = gov_walk_start(&slots, ROW_MEMBER, NULL, NULL);
    cal_slice rest, value;
    while (gov_walk_next(&walk, &rest, &value)) {
        gov_key key = key2(ROW_MEMBER, rest.data, rest.data + 32);
        if (gov_id_equal(rest.data + 32, account)) settle_member(fold, &key);
    }
}

void gov_fold_settle(gov_fold *fold, const gov_key *key) {
    switch (key->bytes[0]) {
    case ROW_MEMBER:
        settle_member(fold, key);
        break;
    case SLOT_LEFT:
        settle_left(fold, key->bytes + 1);
        break;
    case ROW_EXISTS:
    case ROW_PARENT:
    case ROW_VISIBILITY:
        settle_group(fold, key->bytes + 1);
        break;
    case ROW_REVOKED:
        copy_row(fold, key);
        settle_device(fold, key->bytes + 1);
        break;
    case SLOT_CLAIM:
    case SLOT_BINDING:
        settle_device(fold, key->bytes + 1);
        break;
    case SLOT_HANDOFF:
        settle_root_keys(fold, key->bytes + 1, cal_read_u32be(key->bytes + HANDOFF_EPOCH));
        break;
    case ROW_ROOT_KEY:
        settle_root_keys(fold, key->bytes + 1, 0);
        break;
    case ROW_META:
        copy_row(fold, key);
        if (gov_id_equal(key->bytes + 1, fold->namespace_id.bytes)) settle_founder(fold);
        break;
    case SLOT_FOUNDER:
        settle_founder(fold);
        break;
    case ROW_ROOT_ADMIN:
        if (!fold->judges) copy_row(fold, key);
        break;
    case ROW_GROUP_DATA:
    case ROW_MEMBER_DATA:
    case ROW_CONTEXT_DATA:
    case ROW_MIGRATION:
    case SLOT_TARGET:
    case SLOT_FOLLOW:
        break;
    default:
        copy_row(fold, key);
        break;
    }
}

static void add_write(void *user, const gov_write *write) {
    gov_fold *fold = user;
    if (gov_fold_put(fold, write) && !fold->error) gov_fold_settle(fold, &write->key);
}

void gov_fold_add(gov_fold *fold, const gov_fold_op *op) { gov_fold_writes(op, add_write, fold); }

int gov_fold_finish(gov_fold *fold, const cal_account_id *founder) {
    uint8_t meta[META_SIZE] = {0};
    if (founder) {
        memcpy(meta, founder->bytes, 32);
        put_row(fold, key1(ROW_META, fold->namespace_id.bytes), cal_slice_of(meta, sizeof meta));
    }
    return fold->error;
}
