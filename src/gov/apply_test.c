/* Operations of others: who may and who may not (governance.md 4.3, 10, 18.1). Signed by seeds of
 * this test, applied to a namespace of the node through the one way in. */
#include <ftw.h>
#include <stdio.h>
#include <unistd.h>

#include "golden.h"
#include "gov/internal.h"
#include "store/key.h"

typedef struct { /* another node */
    cal_secret root, sign, kem;
    cal_account_id account;
    gov_credential credential;
    uint8_t key[32];
} actor;

typedef struct {
    char folder[64], key_file[96];
    cal_key_source key;
    cal_store_options options;
    cal_store *store;
    cal_gov *gov;
    cal_error err;
    cal_group_id ns, group; /* a restricted group */
    gov_group_key ns_key, group_key;
    actor alice, bob;
    gov_receipt receipt; /* of the operation just received */
} fixture;

static void make_actor(actor *a, uint8_t fill) {
    uint8_t nonce[GOV_DEVICE_NONCE_SIZE];
    gov_cert *cert = &a->credential.cert;
    memset(a, 0, sizeof *a);
    memset(a->root.bytes, fill, 32);
    memset(a->sign.bytes, fill + 1, 32);
    memset(a->kem.bytes, fill + 2, 32);
    memset(nonce, fill + 3, sizeof nonce);
    a->credential.genesis.version = GOV_GENESIS_VERSION;
    cal_sign_public_key(&a->root, a->credential.genesis.root_key);
    cal_sign_public_key(&a->sign, a->key);
    gov_account_id(&a->credential.genesis, &a->account);
    cert->account = a->account;
    gov_device_id(&a->account, nonce, &cert->device);
    memcpy(cert->sign_key, a->key, 32);
    cal_agree_public_key(&a->kem, cert->kem_key);
    gov_cert_sign(cert, &a->root);
}

static int remove_entry(const char *path, const struct stat *stat, int kind, struct FTW *walk) {
    (void)stat, (void)kind, (void)walk;
    return remove(path);
}

static void commit(fixture *f, gov_change *change) {
    cal_batch *batch = cal_batch_new();
    assert_int_equal(cal_batch_merge(batch, gov_change_batch(change)), 0);
    assert_int_equal(cal_store_commit(f->store, batch, &f->err), 0);
    gov_change_commit(change);
}

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    gov_change *change;
    gov_view view;
    strcpy(f->folder, "/tmp/cal_gov_XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->key_file, sizeof f->key_file, "%s/master.key", f->folder);
    f->key = (cal_key_source){CAL_KEY_FILE, f->key_file};
    f->options =
        (cal_store_options){.folder = f->folder, .durability = CAL_DURABLE_PROCESS, .key = &f->key};
    assert_int_equal(cal_store_create(&f->options, &f->err), 0);
    assert_int_equal(cal_store_open(&f->options, &f->store, &f->err), 0);
    assert_int_equal(gov_open(f->store, cal_os_posix(), &f->gov, &f->err), 0);
    gov_namespace_spec spec = {.app_key = {{1}}};
    assert_int_equal(gov_namespace_create(f->gov, &spec, &f->ns, &change, &f->err), 0);
    commit(f, change);
    gov_group_spec group = {.parent = f->ns};
    assert_int_equal(gov_group_create(f->gov, &group, &f->group, &change, &f->err), 0);
    commit(f, change);
    gov_find_group(f->gov, &f->ns, &view);
    assert_true(gov_key_current(&view, &f->ns, &f->ns_key) &&
                gov_key_current(&view, &f->group, &f->group_key));
    make_actor(&f->alice, 0x10);
    make_actor(&f->bob, 0x20);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    gov_close(f->gov);
    cal_store_close(f->store);
    nftw(f->folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

/* Signs an op at the present heads and receives it. The code of the reason, 0 when it applies. */
static int apply_signed(fixture *f, const cal_secret *signer, gov_op op, const gov_ids *parents) {
    static uint64_t nonce = 1000;
    gov_change *change;
    gov_verified *received;
    gov_view view;
    gov_find_group(f->gov, &f->ns, &view);
    cal_slice heads = gov_heads_get(&view);
    cal_hash copy[8];
    assert_true(heads.len <= sizeof copy);
    memcpy(copy, heads.data, heads.len);
    gov_signed_op signed_op = {.namespace_id = f->ns,
                               .nonce = nonce++,
                               .op = op,
                               .parents = {copy, (uint32_t)(heads.len / 32)}};
    if (parents) signed_op.parents = *parents;
    cal_buffer bytes;
    cal_hash id;
    size_t count;
    cal_buffer_init(&bytes, GOV_OP_MAX);
    assert_int_equal(gov_signed_op_sign(&signed_op, signer, &bytes, &id), 0);
    assert_int_equal(gov_verify(cal_buffer_slice(&bytes), &received), 0);
    assert_int_equal(gov_receive(f->gov, &f->ns, &received, 1, 1, &change, &f->err), 0);
    assert_null(received);
    const gov_receipt *receipts = gov_change_receipts(change, &count);
    assert_true(count >= 1);
    assert_memory_equal(&receipts[0].id, &id, 32);
    f->receipt = receipts[0];
    commit(f, change);
    cal_buffer_deinit(&bytes);
    return gov_reason_code(f->receipt.reason);
}

static int apply_root(fixture *f, const cal_secret *signer, gov_root_op op) {
    return apply_signed(f, signer, (gov_op){.root = op}, NULL);
}

static int apply_group(fixture *f, const cal_secret *signer, cal_group_id group, gov_group_op op) {
    bool own = memcmp(group.bytes, f->group.bytes, 32) == 0;
    const gov_group_key *key = own ? &f->group_key : &f->ns_key;
    gov_op sealed = {.group = true, .group_id = group, .key_id = key->id};
    cal_buffer bytes;
    cal_buffer_init(&bytes, GOV_SEALED_OP_MAX);
    assert_int_equal(gov_group_op_seal(&op, &key->key, sealed.nonce, &bytes), 0);
    sealed.sealed = cal_buffer_slice(&bytes);
    int result = apply_signed(f, signer, sealed, NULL);
    cal_buffer_deinit(&bytes);
    return result;
}

static const cal_secret *self(const fixture *f) { return &f->gov->identity.sign_seed; }

static gov_root_op join_op(fixture *f, const actor *who, const cal_group_id *group) {
    gov_root_op op = {.kind = GOV_MEMBER_JOINED_AT,
                      .account = who->account,
                      .credential = who->credential,
                      .joined_at_s = gov_now_s(f->gov)};
    assert_int_equal(gov_invite(f->gov, group, 0, &op.invitation, NULL, &f->err), 0);
    return op;
}

/* The invitation's signature lies in the op itself: point at this copy. */
static int join(fixture *f, const actor *who, gov_root_op op) {
    op.invitation.signature = cal_slice_text(op.invitation.signature_text);
    return apply_root(f, &who->sign, op);
}

static gov_role role_of(fixture *f, cal_group_id group, const actor *who) {
    gov_role role = GOV_ROLE_COUNT;
    gov_member_path(f->gov, &group, &who->account, &role);
    return role;
}

static bool is_member(fixture *f, cal_group_id group, const actor *who) {
    return gov_member_path(f->gov, &group, &who->account, NULL) != GOV_PATH_NONE;
}

static void test_join(void **state) {
    fixture *f = *state;
    assert_int_equal(join(f, &f->alice, join_op(f, &f->alice, &f->ns)), 0);
    assert_int_equal(role_of(f, f->ns, &f->alice), GOV_ROLE_MEMBER);
    assert_false(is_member(f, f->group, &f->alice)); /* restricted */
    assert_false(gov_member_can(f->gov, &f->ns, &f->alice.account, GOV_CAN_CREATE_CONTEXT));
    assert_true(gov_member_can(f->gov, &f->ns, &f->alice.account, GOV_CAN_JOIN_OPEN_SUBGROUPS));
    assert_int_equal(join(f, &f->alice, join_op(f, &f->alice, &f->ns)), 0); /* again: nothing */
}

static void test_join_refusals(void **state) {
    fixture *f = *state;
    gov_root_op op = join_op(f, &f->alice, &f->ns);
    op.invitation.role = 0; /* T9: the role is signed */
    assert_int_equal(join(f, &f->alice, op), CAL_EDENIED);
    op = join_op(f, &f->alice, &f->ns);
    op.joined_at_s = op.invitation.expires_at_s + 1;
    assert_int_equal(join(f, &f->alice, op), CAL_EDENIED);
    op = join_op(f, &f->alice, &f->ns);
    op.kind = GOV_MEMBER_JOINED; /* without a time only invitations that never expire */
    assert_int_equal(join(f, &f->alice, op), CAL_EDENIED);
    op = join_op(f, &f->alice, &f->ns);
    op.credential = f->bob.credential; /* T11: another's credential */
    assert_int_equal(join(f, &f->alice, op), CAL_EDENIED);
    op = join_op(f, &f->alice, &f->ns);
    assert_int_equal(join(f, &f->bob, op), CAL_EDENIED);
    op = join_op(f, &f->alice, &f->ns);
    gov_invitation_sign(&op.invitation, &f->bob.sign); /* T8: an inviter without the right */
    assert_int_equal(join(f, &f->alice, op), CAL_EDENIED);
    assert_false(is_member(f, f->ns, &f->alice));
    op = join_op(f, &f->alice, &f->ns);
    op.credential.cert.signature[0] ^= 1; /* membership without a device */
    assert_int_equal(join(f, &f->alice, op), 0);
    assert_true(is_member(f, f->ns, &f->alice));
    assert_int_equal(
        apply_group(f, &f->alice.sign, f->ns,
                    (gov_group_op){.kind = GOV_MEMBER_METADATA_SET, .account = f->alice.account}),
        CAL_EDENIED); /* its key speaks for nobody */
}

static void test_leave_and_return(void **state) {
    fixture *f = *state;
    gov_root_op first = join_op(f, &f->alice, &f->ns);
    gov_group_op leave = {.kind = GOV_MEMBER_LEFT, .account = f->alice.account};
    assert_int_equal(join(f, &f->alice, first), 0);
    assert_int_equal(apply_group(f, self(f), f->ns, leave),
                     CAL_EDENIED); /* nobody leaves for another */
    assert_int_equal(apply_group(f, &f->alice.sign, f->ns, leave), 0);
    assert_false(is_member(f, f->ns, &f->alice));
    assert_int_equal(join(f, &f->alice, first), CAL_EDENIED); /* T10: used before */
    assert_int_equal(join(f, &f->alice, join_op(f, &f->alice, &f->ns)), 0);
    gov_group_op removal = {.kind = GOV_MEMBER_REMOVED, .account = f->alice.account};
    assert_int_equal(apply_group(f, self(f), f->ns, removal), 0);
    assert_int_equal(join(f, &f->alice, join_op(f, &f->alice, &f->ns)), CAL_EDENIED);
    gov_group_op add = {
        .kind = GOV_MEMBER_ADDED, .account = f->alice.account, .role = GOV_ROLE_MEMBER};
    assert_int_equal(apply_group(f, self(f), f->ns, add), 0);
    assert_true(is_member(f, f->ns, &f->alice));
    leave.account = f->gov->identity.account;
    assert_int_equal(apply_group(f, self(f), f->ns, leave), CAL_EDENIED); /* the owner stays */
}

static void test_members_may_little(void **state) {
    fixture *f = *state;
    const cal_secret *alice = &f->alice.sign;
    assert_int_equal(join(f, &f->alice, join_op(f, &f->alice, &f->ns)), 0);
    static const gov_group_op ops[] = {
        {.kind = GOV_MEMBER_ADDED, .role = GOV_ROLE_MEMBER},
        {.kind = GOV_MEMBER_REMOVED},
        {.kind = GOV_MEMBER_ROLE_SET},
        {.kind = GOV_MEMBER_CAPABILITY_SET},
        {.kind = GOV_DEFAULT_CAPABILITIES_SET},
        {.kind = GOV_TARGET_APPLICATION_SET},
        {.kind = GOV_CONTEXT_REGISTERED},
        {.kind = GOV_CONTEXT_DETACHED},
        {.kind = GOV_VISIBILITY_SET},
        {.kind = GOV_GROUP_METADATA_SET},
        {.kind = GOV_CONTEXT_METADATA_SET},
        {.kind = GOV_GROUP_DELETE},
        {.kind = GOV_MIGRATION_SET},
        {.kind = GOV_CONTEXT_CAPABILITY_GRANTED, .mask = 1},
        {.kind = GOV_TEE_POLICY_SET},
        {.kind = GOV_AUTO_FOLLOW_SET},
        {.kind = GOV_OWNERSHIP_TRANSFERRED},
        {.kind = GOV_CASCADE_UPGRADE, .hlc = {.id = {1, 0}}},
        {.kind = GOV_KEY_ROTATED},
        {.kind = GOV_DEVICE_UNLINKED},
        {.kind = GOV_KEY_ROTATED_FOR_DEVICE},
    };
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        int result = apply_group(f, alice, f->ns, ops[i]);
        if (result != CAL_EDENIED) fail_msg("%s: %d", gov_group_kind_text(ops[i].kind), result);
    }
    gov_root_op roots[] = {
        {.kind = GOV_GROUP_CREATED, .group = {{7}}, .parent = f->ns, .account = f->alice.account},
        {.kind = GOV_GROUP_REPARENTED, .group = f->group, .parent = f->ns},
        {.kind = GOV_GROUP_DELETED, .group = f->group},
        {.kind = GOV_ADMIN_CHANGED, .account = f->alice.account},
        {.kind = GOV_POLICY_UPDATED},
    };
    for (size_t i = 0; i < sizeof roots / sizeof *roots; i++)
        assert_int_equal(apply_root(f, alice, roots[i]), CAL_EDENIED);
    /* what any member may */
    assert_int_equal(apply_group(f, alice, f->ns, (gov_group_op){.kind = GOV_NOOP}), 0);
    assert_int_equal(
        apply_group(f, alice, f->ns,
                    (gov_group_op){.kind = GOV_MEMBER_METADATA_SET, .account = f->alice.account}),
        0);
    assert_int_equal(
        apply_group(f, alice, f->ns,
                    (gov_group_op){.kind = GOV_AUTO_FOLLOW_SET, .account = f->alice.account}),
        0);
}

static void test_capabilities_open_doors(void **state) {
    fixture *f = *state;
    const cal_secret *alice = &f->alice.sign;
    assert_int_equal(join(f, &f->alice, join_op(f, &f->alice, &f->ns)), 0);
    gov_group_op grant = {.kind = GOV_MEMBER_CAPABILITY_SET,
                          .account = f->alice.account,
                          .capabilities = GOV_CAN_CREATE_CONTEXT | GOV_CAN_CREATE_SUBGROUP |
                                          GOV_MANAGE_MEMBERS};
    assert_int_equal(apply_group(f, self(f), f->ns, grant), 0);
    gov_group_op context = {.kind = GOV_CONTEXT_REGISTERED, .context = {{9}}};
    assert_int_equal(apply_group(f, alice, f->ns, context), 0);
    cal_group_id where;
    assert_int_equal(gov_context_group(f->gov, &context.context, &where, NULL), 0);
    assert_memory_equal(&where, &f->ns, 32);
    assert_int_equal(apply_group(f, self(f), f->group, context),
                     CAL_EEXISTS); /* in another group already */
    gov_group_op add = {
        .kind = GOV_MEMBER_ADDED, .account = f->bob.account, .role = GOV_ROLE_ADMIN};
    assert_int_equal(apply_group(f, alice, f->ns, add),
                     CAL_EDENIED); /* admins are made by admins */
    add.role = GOV_ROLE_READ_ONLY;
    assert_int_equal(apply_group(f, alice, f->ns, add), 0);
    assert_int_equal(gov_member_capabilities(f->gov, &f->ns, &f->bob.account),
                     GOV_CAPABILITIES_DEFAULT);
    gov_group_op remove_admin = {.kind = GOV_MEMBER_REMOVED, .account = f->gov->identity.account};
    assert_int_equal(apply_group(f, alice, f->ns, remove_admin), CAL_EDENIED);
    gov_root_op create = {
        .kind = GOV_GROUP_CREATED, .group = {{7}}, .parent = f->ns, .account = f->bob.account};
    assert_int_equal(apply_root(f, alice, create), CAL_EDENIED); /* its admin is its creator */
    create.account = f->alice.account;
    assert_int_equal(apply_root(f, alice, create), 0);
    assert_true(gov_member_admin(f->gov, &create.group, &f->alice.account));
    create = (gov_root_op){
        .kind = GOV_GROUP_CREATED, .group = {{8}}, .parent = {{7}}, .account = f->alice.account};
    assert_int_equal(apply_root(f, alice, create),
                     CAL_EDENIED); /* nested groups need an admin of the namespace */
    gov_root_op delete_group = {.kind = GOV_GROUP_DELETED, .group = {{7}}};
    assert_int_equal(apply_root(f, alice, delete_group), 0); /* its owner */
}

static void test_last_admin_and_owner(void **state) {
    fixture *f = *state;
    gov_group_op demote = {
        .kind = GOV_MEMBER_ROLE_SET, .account = f->gov->identity.account, .role = GOV_ROLE_MEMBER};
    assert_int_equal(apply_group(f, self(f), f->ns, demote), CAL_EDENIED);
    assert_int_equal(join(f, &f->alice, join_op(f, &f->alice, &f->ns)), 0);
    gov_group_op transfer = {.kind = GOV_OWNERSHIP_TRANSFERRED, .account = f->alice.account};
    assert_int_equal(apply_group(f, self(f), f->ns, transfer), CAL_EDENIED); /* to an admin only */
    gov_group_op promote = {
        .kind = GOV_MEMBER_ROLE_SET, .account = f->alice.account, .role = GOV_ROLE_ADMIN};
    assert_int_equal(apply_group(f, self(f), f->ns, promote), 0);
    assert_int_equal(apply_group(f, self(f), f->ns, transfer), 0);
    gov_group_info info;
    assert_int_equal(gov_group_get(f->gov, &f->ns, &info), 0);
    assert_memory_equal(&info.owner, &f->alice.account, 32);
    assert_memory_equal(&info.admin, &f->alice.account, 32);
    /* whoever governed before is an admin no more, once the cut names another */
    assert_int_equal(apply_group(f, self(f), f->ns, demote), CAL_EDENIED);
    assert_int_equal(apply_group(f, &f->alice.sign, f->ns, demote),
                     CAL_ENOTFOUND); /* nor a member */
    demote.kind = GOV_MEMBER_ADDED;
    assert_int_equal(apply_group(f, &f->alice.sign, f->ns, demote), 0);
    assert_int_equal(role_of(f, f->ns, &f->alice), GOV_ROLE_ADMIN);
    demote.kind = GOV_MEMBER_ROLE_SET;
    demote.account = f->alice.account;
    assert_int_equal(apply_group(f, &f->alice.sign, f->ns, demote), CAL_EDENIED);
}

static void test_open_groups_inherit(void **state) {
    fixture *f = *state;
    assert_int_equal(join(f, &f->alice, join_op(f, &f->alice, &f->ns)), 0);
    gov_root_op enter = {.kind = GOV_MEMBER_JOINED_OPEN,
                         .account = f->alice.account,
                         .group = f->group,
                         .credential = f->alice.credential};
    assert_int_equal(apply_root(f, &f->alice.sign, enter), CAL_EDENIED);
    assert_int_equal(apply_group(f, self(f), f->group,
                                 (gov_group_op){.kind = GOV_VISIBILITY_SET, .visibility = 0}),
                     0);
    assert_int_equal(gov_member_path(f->gov, &f->group, &f->alice.account, NULL),
                     GOV_PATH_INHERITED);
    assert_int_equal(apply_root(f, &f->alice.sign, enter), 0);
    gov_group_op none = {
        .kind = GOV_MEMBER_CAPABILITY_SET, .account = f->alice.account, .capabilities = 0};
    assert_int_equal(apply_group(f, self(f), f->ns, none), 0);
    assert_false(is_member(f, f->group, &f->alice)); /* without the capability to join */
    assert_true(is_member(f, f->ns, &f->alice));
}

/* T5: the first genesis counts, and later ones change nothing. */
static void test_second_genesis(void **state) {
    fixture *f = *state;
    gov_root_op genesis = {
        .kind = GOV_NAMESPACE_CREATED, .account = f->bob.account, .credential = f->bob.credential};
    gov_group_info info;
    apply_root(f, &f->bob.sign, genesis);
    assert_int_equal(f->receipt.reason, GOV_WHY_FOUNDED);
    assert_int_equal(f->receipt.verdict, GOV_KEPT);
    assert_int_equal(gov_group_get(f->gov, &f->ns, &info), 0);
    assert_memory_equal(&info.admin, &f->gov->identity.account, 32);
    assert_false(is_member(f, f->ns, &f->bob));
}

static void test_wrong_place(void **state) {
    fixture *f = *state;
    cal_hash unknown = {{0xEE}};
    gov_ids parents = {&unknown, 1};
    gov_op noop = {.root = {.kind = GOV_POLICY_UPDATED}};
    assert_int_equal(apply_signed(f, self(f), noop, &parents), CAL_ESTATE);
    assert_int_equal(f->receipt.verdict, GOV_WAITING);
    assert_int_equal(f->receipt.wait.kind, GOV_WAIT_PARENT);
    assert_memory_equal(&f->receipt.wait.id, &unknown, 32);
    /* T26: a group of another namespace */
    gov_root_op create = {.kind = GOV_GROUP_CREATED,
                          .group = {{7}},
                          .parent = {{0x77}},
                          .account = f->gov->identity.account};
    assert_int_equal(apply_root(f, self(f), create), CAL_ENOTFOUND);
    create = (gov_root_op){.kind = GOV_GROUP_CREATED,
                           .group = f->group,
                           .parent = f->ns,
                           .account = f->gov->identity.account};
    assert_int_equal(apply_root(f, self(f), create), CAL_EEXISTS);
    /* T28: no cycles */
    gov_root_op move = {.kind = GOV_GROUP_REPARENTED, .group = f->group, .parent = f->group};
    assert_int_equal(apply_root(f, self(f), move), CAL_EINVAL);
    move.group = f->ns;
    assert_int_equal(apply_root(f, self(f), move), CAL_EDENIED);
    /* T27: a deletion must list what it deletes */
    assert_int_equal(apply_group(f, self(f), f->group,
                                 (gov_group_op){.kind = GOV_CONTEXT_REGISTERED, .context = {{5}}}),
                     0);
    gov_root_op deletion = {.kind = GOV_GROUP_DELETED, .group = f->group};
    assert_int_equal(apply_root(f, self(f), deletion), CAL_ESTATE);
}

/* Sealed with a key that is not here: kept for causality, without an effect. */
static void test_opaque(void **state) {
    fixture *f = *state;
    gov_group_key kept = f->ns_key;
    gov_group_info info;
    memset(f->ns_key.key.bytes, 9, 32);
    gov_key_id(&f->ns_key.key, &f->ns_key.id);
    gov_group_op op = {.kind = GOV_DEFAULT_CAPABILITIES_SET, .capabilities = 0x1ff};
    apply_group(f, self(f), f->ns, op);
    assert_int_equal(f->receipt.reason, GOV_WHY_SEALED);
    assert_int_equal(f->receipt.verdict, GOV_KEPT);
    assert_int_equal(gov_group_get(f->gov, &f->ns, &info), 0);
    assert_int_equal(info.default_capabilities, GOV_CAPABILITIES_DEFAULT);
    f->ns_key.id = kept.id; /* the right name on the wrong key */
    assert_int_equal(apply_group(f, self(f), f->ns, op), CAL_EVERIFY);
}

static void test_delivered_keys(void **state) {
    fixture *f = *state;
    const gov_identity *me = gov_self(f->gov);
    cal_secret fresh = {{0x5A}};
    gov_group_key current;
    gov_view view;
    gov_root_op op = {.kind = GOV_KEY_DELIVERY, .group = f->group};
    assert_int_equal(gov_envelope_seal_device(cal_os_posix(), &f->group, &fresh, &me->device,
                                              me->kem_key, &f->bob.sign, NULL, NULL, &op.envelope),
                     0);
    op.envelope.sealed = cal_slice_of(op.envelope.sealed_bytes, sizeof op.envelope.sealed_bytes);
    apply_root(f, &f->bob.sign, op); /* a stranger's: in the DAG, not taken (18.2, G1) */
    assert_int_equal(f->receipt.reason, GOV_WHY_KEY_STRANGER);
    assert_int_equal(f->receipt.verdict, GOV_KEPT);
    gov_find_group(f->gov, &f->group, &view);
    assert_true(gov_key_current(&view, &f->group, &current));
    assert_memory_equal(&current.id, &f->group_key.id, 32);
    assert_int_equal(apply_root(f, &f->alice.sign, op), CAL_EVERIFY); /* not the sender's */
    /* a rotation beside an admin's operation is taken */
    gov_op sealed = {.group = true, .group_id = f->group, .key_id = f->group_key.id};
    gov_envelope envelope;
    cal_buffer bytes;
    cal_buffer_init(&bytes, 4096);
    assert_int_equal(gov_envelope_seal_device(cal_os_posix(), &f->group, &fresh, &me->device,
                                              me->kem_key, self(f), NULL, NULL, &envelope),
                     0);
    envelope.sealed = cal_slice_of(envelope.sealed_bytes, sizeof envelope.sealed_bytes);
    gov_group_op rotated = {.kind = GOV_KEY_ROTATED};
    assert_int_equal(gov_group_op_seal(&rotated, &f->group_key.key, sealed.nonce, &bytes), 0);
    sealed.sealed = cal_buffer_slice(&bytes);
    sealed.rotation =
        (gov_rotation){.present = true, .envelopes = &envelope, .count = 1, .new_key_id = {{1}}};
    assert_int_equal(apply_signed(f, self(f), sealed, NULL), 0);
    assert_true(gov_key_current(&view, &f->group, &current));
    assert_memory_equal(&current.id, &f->group_key.id, 32); /* T21: the id did not match */
    gov_key_id(&fresh, &sealed.rotation.new_key_id);
    assert_int_equal(apply_signed(f, self(f), sealed, NULL), 0);
    assert_true(gov_key_current(&view, &f->group, &current));
    assert_memory_equal(&current.id, &sealed.rotation.new_key_id, 32);
    assert_true(current.epoch > 0);
    cal_buffer_deinit(&bytes);
}

/* T15, T16, T17: superseded and revoked devices. */
static void test_devices(void **state) {
    fixture *f = *state;
    assert_int_equal(join(f, &f->alice, join_op(f, &f->alice, &f->ns)), 0);
    gov_group_op link = {.kind = GOV_DEVICE_LINKED,
                         .genesis = f->alice.credential.genesis,
                         .cert = f->alice.credential.cert};
    cal_secret next = {{0x77}};
    cal_sign_public_key(&next, link.cert.sign_key);
    link.cert.device_epoch = 1;
    gov_cert_sign(&link.cert, &f->alice.root);
    link.endorsement.account = f->alice.account;
    memcpy(link.endorsement.member_key, f->alice.key, 32);
    gov_endorsement_sign(&link.endorsement, &f->alice.sign);
    assert_int_equal(apply_group(f, &f->alice.sign, f->ns, link), 0);
    gov_group_op own = {.kind = GOV_MEMBER_METADATA_SET, .account = f->alice.account};
    assert_int_equal(apply_group(f, &f->alice.sign, f->ns, own),
                     CAL_EDENIED); /* the old key is retired */
    assert_int_equal(apply_group(f, &next, f->ns, own), 0);
    link.cert =
        f->alice.credential.cert; /* the old certificate cannot come back; the op itself stands */
    link.endorsement.account = f->alice.account;
    cal_sign_public_key(&next, link.endorsement.member_key);
    gov_endorsement_sign(&link.endorsement, &next);
    assert_int_equal(apply_group(f, &next, f->ns, link), 0);
    assert_int_equal(apply_group(f, &f->alice.sign, f->ns, own), CAL_EDENIED);
    gov_group_op unlink = {.kind = GOV_DEVICE_UNLINKED,
                           .account = f->alice.account,
                           .device = f->alice.credential.cert.device,
                           .has_proof = true};
    unlink.proof.genesis = f->alice.credential.genesis;
    unlink.proof.revocation =
        (gov_revocation){.account = f->alice.account, .device = unlink.device};
    gov_revocation_sign(&unlink.proof.revocation, &f->bob.root);
    assert_int_equal(apply_group(f, &next, f->ns, unlink), CAL_EDENIED);
    gov_revocation_sign(&unlink.proof.revocation, &f->alice.root);
    assert_int_equal(apply_group(f, &next, f->ns, unlink), 0);
    assert_int_equal(apply_group(f, &next, f->ns, own), CAL_EDENIED); /* for good */
}

static void test_root_rotation(void **state) {
    fixture *f = *state;
    assert_int_equal(join(f, &f->alice, join_op(f, &f->alice, &f->ns)), 0);
    cal_secret root = {{0x66}};
    gov_group_op rotate = {.kind = GOV_ACCOUNT_KEYS_ROTATED,
                           .handoff = {.account = f->alice.account}};
    cal_sign_public_key(&root, rotate.handoff.new_root_key);
    gov_handoff_sign(&rotate.handoff, &f->bob.root);
    assert_int_equal(apply_group(f, &f->alice.sign, f->ns, rotate), CAL_EDENIED);
    gov_handoff_sign(&rotate.handoff, &f->alice.root);
    assert_int_equal(apply_group(f, &f->alice.sign, f->ns, rotate), 0);
    gov_group_op own = {.kind = GOV_MEMBER_METADATA_SET, .account = f->alice.account};
    assert_int_equal(apply_group(f, &f->alice.sign, f->ns, own),
                     CAL_EDENIED); /* certified by a root key of the past */
}

static void test_replays(void **state) {
    fixture *f = *state;
    assert_int_equal(join(f, &f->alice, join_op(f, &f->alice, &f->ns)), 0);
    gov_view view;
    gov_find_group(f->gov, &f->ns, &view);
    uint64_t before = gov_sequence_get(&view);
    assert_int_equal(apply_group(f, &f->alice.sign, f->ns, (gov_group_op){.kind = GOV_NOOP}), 0);
    gov_find_group(f->gov, &f->ns, &view);
    assert_int_equal(gov_sequence_get(&view), before + 1);
    assert_int_equal(gov_heads_get(&view).len, 32);
    gov_key key = gov_key_of(ROW_NONCES, f->ns.bytes, f->alice.key, NULL);
    cal_slice window;
    assert_true(gov_view_get(&view, &key, &window));
    assert_int_equal(window.len, 16); /* floor 0 and one number above it */
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_join),
        T(test_join_refusals),
        T(test_leave_and_return),
        T(test_members_may_little),
        T(test_capabilities_open_doors),
        T(test_last_admin_and_owner),
        T(test_open_groups_inherit),
        T(test_second_genesis),
        T(test_wrong_place),
        T(test_opaque),
        T(test_delivered_keys),
        T(test_devices),
        T(test_root_rotation),
        T(test_replays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
