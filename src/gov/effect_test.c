/* What single operations leave behind that no verdict tells, and what they must not. */
#include "support/gov_world.h"

#include "gov/draft.h"

typedef struct {
    gov_replica r;
    gov_world w;
    gov_actor alice, bob;
    cal_hash last;
} fixture;

static void take(fixture *f, gov_packet p, gov_reason reason) {
    gov_receipt receipt = gov_replica_take(&f->r, &f->w.ns, &p);
    if (receipt.reason != reason)
        fail_msg("%s instead of %s", gov_reason_name(receipt.reason), gov_reason_name(reason));
    if (reason == GOV_WHY_FINE) f->last = p.id;
    gov_packet_free(&p);
}

static void by(fixture *f, const gov_actor *who, cal_group_id group, gov_group_op op) {
    take(f, gov_world_group(&f->w, &who->sign, &f->last, 1, group, op), GOV_WHY_FINE);
}

static void by_owner(fixture *f, gov_group_op op) { by(f, &f->w.owner, f->w.ns, op); }

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    gov_replica_start(&f->r);
    gov_world_init(&f->w, 1);
    gov_actor_make(&f->alice, 0x20);
    gov_actor_make(&f->bob, 0x30);
    take(f, gov_world_genesis(&f->w), GOV_WHY_FINE);
    gov_replica_key(&f->r, &f->w.ns, &f->w.ns, &f->w.ns_key);
    const gov_actor *actors[] = {&f->alice, &f->bob};
    for (int i = 0; i < 2; i++)
        take(f,
             gov_world_root(&f->w, &actors[i]->sign, &f->last, 1,
                            gov_world_join(actors[i], &f->w.owner, f->w.ns, 1, 1)),
             GOV_WHY_FINE);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    gov_replica_check(&f->r);
    gov_replica_stop(&f->r);
    free(f);
    return 0;
}

static gov_view now(const fixture *f) { return gov_replica_view(&f->r, &f->w.ns); }

static gov_group_op link_of(const gov_actor *who, const cal_device_id *device, uint32_t epoch,
                            uint8_t fill) {
    gov_group_op link = {.kind = GOV_DEVICE_LINKED,
                         .genesis = who->credential.genesis,
                         .cert = who->credential.cert,
                         .endorsement = {.account = who->account}};
    cal_secret key;
    memset(key.bytes, fill, 32);
    cal_sign_public_key(&key, link.cert.sign_key);
    link.cert.device = *device;
    link.cert.device_epoch = epoch;
    gov_cert_sign(&link.cert, &who->root);
    memcpy(link.endorsement.member_key, who->key, 32);
    gov_endorsement_sign(&link.endorsement, &who->sign);
    return link;
}

static void expect_key(const fixture *f, const gov_actor *who) {
    gov_view view = now(f);
    gov_binding binding;
    assert_true(gov_binding_get(&view, &who->device, &binding));
    assert_memory_equal(binding.account.bytes, who->account.bytes, 32);
    assert_memory_equal(binding.sign_key, who->key, 32);
}

/* A device stays with its account, and a revoked one stays revoked, whatever is certified. */
static void test_devices(void **state) {
    fixture *f = *state;
    by(f, &f->alice, f->w.ns, link_of(&f->alice, &f->bob.device, 1, 0x77));
    expect_key(f, &f->bob);
    by(f, &f->bob, f->w.ns, /* who speaks for it at every cut, too */
       (gov_group_op){.kind = GOV_MEMBER_METADATA_SET, .account = f->bob.account});
    by_owner(f, (gov_group_op){.kind = GOV_DEVICE_UNLINKED,
                               .account = f->bob.account,
                               .device = f->bob.device});
    gov_group_op link = link_of(&f->bob, &f->bob.device, 1, 0x78);
    memcpy(link.endorsement.member_key, f->alice.key, 32);
    gov_endorsement_sign(&link.endorsement, &f->alice.sign);
    by(f, &f->alice, f->w.ns, link);
    expect_key(f, &f->bob);
    gov_view view = now(f);
    cal_account_id account;
    assert_false(gov_account_of_key(&view, link.cert.sign_key, &account));
    assert_false(gov_account_of_key(&view, f->bob.key, &account));
}

static void test_last_admin(void **state) {
    fixture *f = *state;
    gov_group_op role = {
        .kind = GOV_MEMBER_ROLE_SET, .account = f->alice.account, .role = GOV_ROLE_ADMIN};
    gov_view view = now(f);
    assert_true(gov_last_admin(&view, &f->w.ns, &f->w.owner.account));
    by_owner(f, role);
    view = now(f);
    assert_false(gov_last_admin(&view, &f->w.ns, &f->w.owner.account));
    role.role = GOV_ROLE_MEMBER;
    by_owner(f, role);
    view = now(f);
    assert_true(gov_last_admin(&view, &f->w.ns, &f->w.owner.account));
}

static void test_masks(void **state) {
    fixture *f = *state;
    gov_group_op op = {
        .kind = GOV_CONTEXT_REGISTERED, .context = {{9}}, .account = f->alice.account};
    static const struct {
        gov_group_kind kind;
        uint8_t mask, after;
    } steps[] = {
        {GOV_CONTEXT_CAPABILITY_GRANTED, 1, 1}, {GOV_CONTEXT_CAPABILITY_GRANTED, 2, 3},
        {GOV_CONTEXT_CAPABILITY_REVOKED, 1, 2}, {GOV_CONTEXT_CAPABILITY_REVOKED, 1, 2},
        {GOV_CONTEXT_CAPABILITY_GRANTED, 2, 2}, {GOV_CONTEXT_CAPABILITY_REVOKED, 3, 0},
    };
    by_owner(f, op);
    gov_key key =
        gov_key_of(ROW_CONTEXT_MASK, f->w.ns.bytes, op.context.bytes, f->alice.account.bytes);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        op.kind = steps[i].kind;
        op.mask = steps[i].mask;
        by_owner(f, op);
        gov_view view = now(f);
        cal_slice value;
        assert_true(gov_view_get(&view, &key, &value));
        assert_int_equal(value.data[0], steps[i].after);
    }
}

static void expect_code(const fixture *f, const cal_group_id *group, uint8_t code) {
    cal_blob_id app_key, expected = {{code}};
    assert_int_equal(gov_group_code(f->r.gov, group, &app_key), 0);
    assert_memory_equal(app_key.bytes, expected.bytes, 32);
}

/* An upgrade reaches what runs the old code, at any depth, also below what does not. */
static void test_cascade(void **state) {
    fixture *f = *state;
    cal_group_id chain[4] = {f->w.ns, {{7}}, {{8}}, {{9}}};
    static const uint8_t codes[] = {1, 2, 1, 3};
    for (int i = 0; i < 4; i++) {
        if (i > 0)
            take(f,
                 gov_world_root(&f->w, &f->w.owner.sign, &f->last, 1,
                                (gov_root_op){.kind = GOV_GROUP_CREATED,
                                              .group = chain[i],
                                              .parent = chain[i - 1],
                                              .account = f->w.owner.account}),
                 GOV_WHY_FINE);
        by(f, &f->w.owner, chain[i],
           (gov_group_op){.kind = GOV_TARGET_APPLICATION_SET, .app_key = {{codes[i]}}});
    }
    for (int i = 0; i < 4; i++) expect_code(f, &chain[i], codes[i]);
    by_owner(f, (gov_group_op){.kind = GOV_CASCADE_UPGRADE,
                               .from_app_key = {{1}},
                               .app_key = {{5}},
                               .hlc = {.id = {1, 0}}});
    for (int i = 0; i < 4; i++) expect_code(f, &chain[i], codes[i] == 1 ? 5 : codes[i]);
}

/* A number is used once by its signer in a group, whatever it was used for. */
static void test_number_twice(void **state) {
    fixture *f = *state;
    gov_group_op op = {.kind = GOV_DEFAULT_CAPABILITIES_SET, .capabilities = 7};
    by_owner(f, op);
    f->w.nonce--;
    op.capabilities = 8;
    take(f, gov_world_group(&f->w, &f->w.owner.sign, &f->last, 1, f->w.ns, op),
         GOV_WHY_NUMBER_USED);
    gov_group_info info;
    assert_int_equal(gov_group_get(f->r.gov, &f->w.ns, &info), 0);
    assert_int_equal(info.default_capabilities, 7);
}

/* Beside what a member may do the key that it sends is not adopted; beside the same of an admin it
 * is. */
static void test_rotations(void **state) {
    fixture *f = *state;
    const gov_identity *me = gov_self(f->r.gov);
    const gov_actor *senders[] = {&f->alice, &f->w.owner};
    for (int admin = 0; admin < 2; admin++) {
        const gov_actor *sender = senders[admin];
        cal_secret fresh = {{(uint8_t)(0x51 + admin)}};
        cal_hash id;
        gov_envelope envelope;
        gov_group_op own = {.kind = GOV_MEMBER_METADATA_SET, .account = sender->account};
        gov_op sealed = {.group = true, .group_id = f->w.ns};
        cal_buffer bytes;
        assert_int_equal(gov_envelope_seal_device(cal_os_posix(), &f->w.ns, &fresh, &me->device,
                                                  me->kem_key, &sender->sign, NULL, NULL,
                                                  &envelope),
                         0);
        envelope.sealed = cal_slice_of(envelope.sealed_bytes, sizeof envelope.sealed_bytes);
        gov_key_id(&f->w.ns_key, &sealed.key_id);
        gov_key_id(&fresh, &id);
        cal_buffer_init(&bytes, GOV_SEALED_OP_MAX);
        assert_int_equal(gov_group_op_seal(&own, &f->w.ns_key, sealed.nonce, &bytes), 0);
        sealed.sealed = cal_buffer_slice(&bytes);
        sealed.rotation =
            (gov_rotation){.present = true, .new_key_id = id, .envelopes = &envelope, .count = 1};
        take(f, gov_world_sign(&f->w, &sender->sign, &f->last, 1, sealed), GOV_WHY_FINE);
        cal_buffer_deinit(&bytes);
        gov_view view = now(f);
        gov_group_key found;
        assert_int_equal(gov_key_find(&view, &f->w.ns, &id, &found), admin);
    }
}

/* A stored operation cites what was stored before it. */
static void test_nodes(void **state) {
    (void)state;
    static const struct {
        uint64_t parent;
        int result;
    } cases[] = {{0, CAL_ECORRUPT}, {1, 0}, {6, 0}, {7, CAL_ECORRUPT}, {8, CAL_ECORRUPT}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t parents[] = {1, cases[i].parent};
        gov_node node = {.id = {{3}}, .generation = 2, .parents = parents, .parent_count = 2}, read;
        cal_buffer bytes;
        cal_buffer_init(&bytes, 1024);
        assert_int_equal(gov_node_write(&node, &bytes), 0);
        assert_int_equal(gov_node_read(cal_buffer_slice(&bytes), 7, &read), cases[i].result);
        if (cases[i].result == 0) free(read.parents);
        cal_buffer_deinit(&bytes);
    }
}

/* A forged handoff, which comes first in every way, does not keep the true one from counting. */
static void test_forged_handoff(void **state) {
    fixture *f = *state;
    gov_handoff forged = {.account = f->alice.account};
    gov_handoff_sign(&forged, &f->bob.root); /* to the key of all zeros: the first by its bytes */
    gov_group_op link = link_of(&f->alice, &f->alice.device, 0, 0x79);
    link.cert = f->alice.credential.cert;
    link.chain = (gov_chain){.items = &forged, .count = 1};
    by(f, &f->alice, f->w.ns, link);
    expect_key(f, &f->alice);
    cal_secret next = {{0x66}};
    gov_group_op rotate = {.kind = GOV_ACCOUNT_KEYS_ROTATED,
                           .handoff = {.account = f->alice.account}};
    cal_sign_public_key(&next, rotate.handoff.new_root_key);
    gov_handoff_sign(&rotate.handoff, &f->alice.root);
    by(f, &f->alice, f->w.ns, rotate);
    gov_group_op own = {.kind = GOV_MEMBER_METADATA_SET, .account = f->alice.account};
    gov_packet p = gov_world_group(&f->w, &f->alice.sign, &f->last, 1, f->w.ns, own);
    gov_receipt receipt = gov_replica_take(&f->r, &f->w.ns, &p);
    assert_int_not_equal(receipt.reason, GOV_WHY_FINE); /* certified by the root key of before */
    gov_packet_free(&p);
}

static gov_handoff handoff_of(const gov_actor *who, uint32_t from, const cal_secret *old,
                              const cal_secret *next) {
    gov_handoff handoff = {.account = who->account, .from_epoch = from};
    cal_sign_public_key(next, handoff.new_root_key);
    gov_handoff_sign(&handoff, old);
    return handoff;
}

/* The owner endorses alice's device anew, certified by a root key of epoch 1. */
static gov_group_op certified(fixture *f, const gov_handoff *handoff, const cal_secret *root,
                              uint32_t device_epoch) {
    gov_group_op link = link_of(&f->alice, &f->alice.device, device_epoch, 0);
    memcpy(link.cert.sign_key, f->alice.key, 32);
    link.cert.key_epoch = 1;
    gov_cert_sign(&link.cert, root);
    link.chain = (gov_chain){.items = handoff, .count = 1};
    memcpy(link.endorsement.member_key, f->w.owner.key, 32);
    gov_endorsement_sign(&link.endorsement, &f->w.owner.sign);
    return link;
}

/* Of two handoffs at once the one that loses takes along what followed it. */
static void test_shorter_chain(void **state) {
    fixture *f = *state;
    cal_secret wins = {{0x61}}, loses = {{0x62}}, follows = {{0x63}};
    gov_handoff by_first = handoff_of(&f->alice, 0, &f->alice.root, &wins),
                by_second = handoff_of(&f->alice, 0, &f->alice.root, &loses);
    if (memcmp(by_first.new_root_key, by_second.new_root_key, 32) > 0) {
        gov_handoff other = by_first;
        cal_secret secret = wins;
        by_first = by_second, by_second = other;
        wins = loses, loses = secret;
    }
    gov_group_op rotate = {.kind = GOV_ACCOUNT_KEYS_ROTATED, .handoff = by_second};
    cal_hash base = f->last;
    by(f, &f->alice, f->w.ns, rotate);
    by_owner(f, certified(f, &by_second, &loses, 1));
    rotate.handoff = handoff_of(&f->alice, 1, &loses, &follows);
    by(f, &f->alice, f->w.ns, rotate);
    cal_hash heads[2] = {f->last};
    rotate.handoff = by_first;
    gov_packet p = gov_world_group(&f->w, &f->alice.sign, &base, 1, f->w.ns, rotate);
    heads[1] = p.id;
    take(f, p, GOV_WHY_FINE);
    take(f,
         gov_world_group(&f->w, &f->w.owner.sign, heads, 2, f->w.ns,
                         certified(f, &by_first, &wins, 2)),
         GOV_WHY_FINE);
    by(f, &f->alice, f->w.ns,
       (gov_group_op){.kind = GOV_MEMBER_METADATA_SET, .account = f->alice.account});
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_devices),      T(test_forged_handoff), T(test_shorter_chain),
        T(test_last_admin),   T(test_masks),          T(test_cascade),
        T(test_number_twice), T(test_rotations),      cmocka_unit_test(test_nodes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
