/* Devices: pairing, what a paired node may do, revocation and the keys after it (governance.md 2,
 * 3; 18.1 T15-T18, T22). */
#include "support/gov_nodes.h"

static gov_net net;
#define GOV(n) gov_net_gov(&net, n)
#define OUT &net.change, &net.err
enum { OWNER, HOLDER, DEVICE, OTHER };
static cal_group_id closed; /* has a key of its own; owner and holder are in it */

static int teardown(void **state) {
    (void)state;
    gov_net_stop(&net);
    return 0;
}

/* The holder has the account's root; the device is nobody yet. */
static int setup(void **state) {
    (void)state;
    gov_net_start(&net, 4);
    gov_net_join(&net, OWNER, HOLDER, GOV_ROLE_MEMBER);
    gov_net_join(&net, OWNER, OTHER, GOV_ROLE_MEMBER);
    closed = gov_net_group(&net, OWNER, net.ns, false);
    gov_member_spec spec = {gov_net_account(&net, HOLDER), GOV_ROLE_MEMBER};
    gov_net_do(&net, OWNER, gov_members_add(GOV(OWNER), &closed, &spec, 1, OUT));
    return 0;
}

static gov_pairing begin(size_t node) {
    gov_pairing pairing;
    cal_batch *batch;
    int result =
        gov_pair_begin(GOV(node), &gov_self(GOV(HOLDER))->root_key, &pairing, &batch, &net.err);
    assert_int_equal(result, 0);
    assert_int_equal(cal_store_commit(net.nodes[node].store, batch, &net.err), 0);
    return pairing;
}

static gov_pairing pair(size_t *ret_keys) {
    gov_pairing pairing = begin(DEVICE);
    gov_net_do(&net, HOLDER, gov_pair_complete(GOV(HOLDER), &net.ns, &pairing, ret_keys, OUT));
    return pairing;
}

static void test_golden_pairings(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("account.json");
    yyjson_val *item;
    size_t index = 0, seen = 0;
    cal_error err;
    for (; (item = golden_next(yyjson_doc_get_root(doc), "pairing/", &index)); seen++) {
        yyjson_val *in = yyjson_obj_get(item, "inputs");
        gov_pairing pairing = {.code = {0}};
        golden_bytes(in, "account", pairing.account.bytes, 32);
        golden_bytes(in, "device", pairing.device.bytes, 32);
        golden_bytes(in, "kem_pk", pairing.kem_key, 32);
        golden_bytes(in, "sign_pk", pairing.sign_key.bytes, 32);
        golden_bytes(item, "signature", pairing.statement, sizeof pairing.statement);
        strcpy(pairing.code, yyjson_get_str(yyjson_obj_get(item, "code")));
        assert_int_equal(gov_pairing_verify(&pairing, &err), 0);
        /* T18: nothing of it may be exchanged, not even with a code that fits */
        for (size_t at = 0; at < offsetof(gov_pairing, code); at++) {
            gov_pairing other = pairing;
            ((uint8_t *)&other)[at] ^= 1;
            err.message[0] = 0;
            assert_int_equal(gov_pairing_verify(&other, &err), CAL_EVERIFY);
            assert_true(err.message[0]);
            gov_pairing_code(&other.account, &other.device, other.kem_key, other.sign_key.bytes,
                             other.code);
            assert_int_equal(gov_pairing_verify(&other, &err), CAL_EVERIFY);
        }
    }
    assert_int_equal(seen, 2);
    yyjson_doc_free(doc);
}

static void test_pairing(void **state) {
    (void)state;
    gov_pairing pairing = begin(DEVICE), wrong = pairing;
    cal_account_id account = gov_net_account(&net, HOLDER), acting;
    gov_group_key ours, theirs;
    cal_batch *batch;
    size_t keys = 0;
    assert_memory_equal(&pairing.account, &account, 32);
    gov_net_refused(
        &net, CAL_EINVAL,
        gov_pair_begin(GOV(HOLDER), &gov_self(GOV(HOLDER))->root_key, &pairing, &batch, &net.err));
    cal_public_key bad = {{0}};
    gov_net_refused(&net, CAL_EINVAL,
                    gov_pair_begin(GOV(DEVICE), &bad, &pairing, &batch, &net.err));
    wrong.code[0] = wrong.code[0] == '0' ? '1' : '0';
    gov_net_refused(&net, CAL_EVERIFY, gov_pair_complete(GOV(HOLDER), &net.ns, &wrong, NULL, OUT));
    assert_non_null(strstr(net.err.message, "code"));
    gov_net_refused(&net, CAL_EVERIFY, /* another account's device has another code */
                    gov_pair_complete(GOV(OWNER), &net.ns, &pairing, NULL, OUT));
    gov_net_refused(&net, CAL_ENOTFOUND,
                    gov_pair_complete(GOV(HOLDER), &(cal_group_id){{9}}, &pairing, NULL, OUT));
    assert_false(gov_net_current(&net, DEVICE, &net.ns, &theirs));
    gov_replica_reopen(&net.nodes[DEVICE]); /* the offer is remembered */
    gov_net_do(&net, HOLDER, gov_pair_complete(GOV(HOLDER), &net.ns, &pairing, &keys, OUT));
    assert_int_equal(keys, 2);
    assert_true(gov_net_current(&net, OWNER, &net.ns, &ours));
    assert_true(gov_net_current(&net, DEVICE, &net.ns, &theirs));
    assert_memory_equal(&ours.id, &theirs.id, 32);
    /* who is in the closed group was sealed with its key: taken with doubt, which is over */
    assert_true(gov_net_current(&net, DEVICE, &closed, &theirs));
    assert_int_equal(gov_acting_account(GOV(DEVICE), &closed, &acting), 0);
    assert_memory_equal(&acting, &account, 32);
    /* it writes as its account, and everybody takes it */
    gov_metadata_key mine = {.of = GOV_METADATA_MEMBER, .group = closed, .account = account};
    gov_record record;
    gov_net_do(&net, DEVICE, gov_metadata_set(GOV(DEVICE), &mine, "laptop", NULL, 0, OUT));
    assert_int_equal(gov_metadata_read(GOV(OWNER), &mine, &record), 0);
    assert_string_equal(record.name, "laptop");
    assert_memory_equal(&record.updated_by, &pairing.sign_key, 32);
    gov_net_refused(&net, CAL_EINVAL, /* to itself */
                    gov_pair_complete(GOV(DEVICE), &net.ns, &pairing, NULL, OUT));
    /* the next key reaches it too */
    cal_account_id other = gov_net_account(&net, OTHER);
    gov_net_do(&net, OWNER,
               gov_members_remove(GOV(OWNER), &net.ns, &other, 1, (gov_context_roots){0}, OUT));
    assert_true(gov_net_current(&net, OWNER, &net.ns, &ours));
    assert_true(gov_net_has_key(&net, DEVICE, &net.ns, &ours.id));
    assert_false(gov_net_has_key(&net, OTHER, &net.ns, &ours.id));
}

static gov_pairing signed_pairing(cal_device_id device, const cal_secret *sign) {
    gov_pairing pairing = {.account = gov_net_account(&net, HOLDER), .device = device};
    uint8_t digest[CAL_HASH_SIZE];
    cal_sign_public_key(sign, pairing.sign_key.bytes);
    cal_agree_public_key(sign, pairing.kem_key);
    gov_pairing_digest(&pairing.account, &pairing.device, pairing.kem_key, pairing.sign_key.bytes,
                       digest);
    cal_sign(sign, cal_slice_of(digest, sizeof digest), pairing.statement);
    gov_pairing_code(&pairing.account, &pairing.device, pairing.kem_key, pairing.sign_key.bytes,
                     pairing.code);
    return pairing;
}

/* Whoever pairs may say that it is a device of somebody else. */
static void test_device_of_another_account(void **state) {
    (void)state;
    gov_pairing pairing = signed_pairing(gov_self(GOV(OTHER))->device, &(cal_secret){{5}});
    gov_net_refused(&net, CAL_EDENIED,
                    gov_pair_complete(GOV(HOLDER), &net.ns, &pairing, NULL, OUT));
    assert_string_equal(net.err.message, gov_reason_text(GOV_WHY_DEVICE_TAKEN));
}

/* An account leaves a group, whose key it has until an admin makes the next one. */
static void test_no_keys_of_groups_left(void **state) {
    (void)state;
    gov_group_key key;
    size_t keys = 0;
    gov_net_do(&net, HOLDER, gov_leave(GOV(HOLDER), &closed, (gov_context_roots){0}, OUT));
    assert_true(gov_net_current(&net, HOLDER, &closed, &key));
    (void)pair(&keys);
    assert_int_equal(keys, 1);
    assert_false(gov_net_has_key(&net, DEVICE, &closed, &key.id));
    assert_true(gov_net_current(&net, DEVICE, &net.ns, &key));
}

static void count_device(void *user, const gov_device_info *info) {
    gov_device_info *list = user;
    size_t i = 0;
    while (!gov_id_zero(list[i].device.bytes)) i++;
    assert_true(i < 8);
    list[i] = *info;
}

/* The account has two devices; one of them is this one, with these keys. */
static void is_listed(const cal_device_id *device, const cal_public_key *sign_key,
                      const uint8_t kem_key[32]) {
    gov_device_info own[8] = {{.account = {{0}}}};
    cal_account_id account = gov_net_account(&net, HOLDER);
    assert_int_equal(gov_group_devices(GOV(OTHER), &net.ns, &account, count_device, own), 0);
    assert_true(gov_id_zero(own[2].device.bytes));
    size_t at = gov_id_equal(own[0].device.bytes, device->bytes) ? 0 : 1;
    assert_memory_equal(&own[at].device, device, 32);
    assert_memory_equal(&own[at].sign_key, sign_key, 32);
    assert_memory_equal(own[at].kem_key, kem_key, 32);
}

static void test_lists(void **state) {
    (void)state;
    gov_device_info all[8] = {{.account = {{0}}}};
    gov_pairing pairing = pair(NULL);
    assert_int_equal(gov_group_devices(GOV(OWNER), &net.ns, NULL, count_device, all), 0);
    assert_false(gov_id_zero(all[3].device.bytes));
    assert_true(gov_id_zero(all[4].device.bytes));
    is_listed(&pairing.device, &pairing.sign_key, pairing.kem_key);
    assert_int_equal(gov_group_devices(GOV(OWNER), &(cal_group_id){{9}}, NULL, count_device, all),
                     CAL_ENOTFOUND);
}

/* A device that comes back with other keys: its new certificate replaces the old one. */
static void test_paired_again(void **state) {
    (void)state;
    gov_pairing first = pair(NULL), again = signed_pairing(first.device, &(cal_secret){{5}});
    gov_net_do(&net, HOLDER, gov_pair_complete(GOV(HOLDER), &net.ns, &again, NULL, OUT));
    is_listed(&first.device, &again.sign_key, again.kem_key);
}

static void device_is_out(const gov_pairing *pairing) {
    gov_group_key key;
    assert_true(gov_net_current(&net, OWNER, &net.ns, &key));
    assert_false(gov_net_has_key(&net, DEVICE, &net.ns, &key.id));
    assert_true(gov_net_has_key(&net, HOLDER, &net.ns, &key.id));
    assert_true(gov_net_has_key(&net, OTHER, &net.ns, &key.id));
    gov_net_do(&net, OWNER, gov_group_set_default_capabilities(GOV(OWNER), &net.ns, 7, OUT));
    gov_view view = gov_replica_view(&net.nodes[DEVICE], &net.ns);
    assert_true(gov_walk_count(&view, ROW_SEALED, net.ns.bytes) > 0);
    gov_net_refused(&net, CAL_EDENIED, gov_pair_complete(GOV(HOLDER), &net.ns, pairing, NULL, OUT));
    assert_non_null(strstr(net.err.message, "revoked"));
}

/* Whoever holds the account's root revokes without being an admin; admins owe the keys. */
static void test_revocation_by_its_account(void **state) {
    (void)state;
    gov_debt debts[4];
    bool rotated = true;
    gov_pairing pairing = pair(NULL);
    cal_device_id own = gov_self(GOV(HOLDER))->device;
    gov_net_refused(&net, CAL_EINVAL,
                    gov_device_revoke(GOV(HOLDER), &net.ns, &own, NULL, NULL, OUT));
    gov_net_refused(
        &net, CAL_ENOTFOUND,
        gov_device_revoke(GOV(HOLDER), &net.ns, &(cal_device_id){{9}}, NULL, NULL, OUT));
    gov_net_refused(&net, CAL_EDENIED,
                    gov_device_revoke(GOV(OTHER), &net.ns, &pairing.device, NULL, NULL, OUT));
    gov_revocation_proof proof;
    gov_device_revocation(GOV(OTHER), &pairing.device, &proof); /* not the account's root */
    gov_net_refused(&net, CAL_EVERIFY,
                    gov_device_revoke(GOV(OTHER), &net.ns, &pairing.device, &proof, NULL, OUT));
    gov_device_revocation(GOV(HOLDER), &own, &proof); /* of another device */
    gov_net_refused(&net, CAL_EVERIFY,
                    gov_device_revoke(GOV(OTHER), &net.ns, &pairing.device, &proof, NULL, OUT));
    gov_net_do(&net, HOLDER,
               gov_device_revoke(GOV(HOLDER), &net.ns, &pairing.device, NULL, &rotated, OUT));
    assert_false(rotated);
    gov_net_refused(&net, CAL_EEXISTS,
                    gov_device_revoke(GOV(HOLDER), &net.ns, &pairing.device, NULL, NULL, OUT));
    size_t count = gov_rotation_due(GOV(OWNER), &net.ns, debts, 4);
    assert_int_equal(count, 2);
    for (size_t i = 0; i < count; i++) {
        assert_true(debts[i].of_device);
        assert_memory_equal(debts[i].subject, pairing.device.bytes, 32);
        gov_net_do(&net, OWNER, gov_rotate(GOV(OWNER), &debts[i], OUT));
    }
    assert_int_equal(gov_rotation_due(GOV(OWNER), &net.ns, debts, 4), 0);
    device_is_out(&pairing);
}

/* In every group whose own key the device may have. */
static void test_revocation_reaches_groups(void **state) {
    (void)state;
    gov_debt debts[4];
    gov_pairing pairing;
    gov_group_key key;
    pairing = pair(NULL);
    gov_net_do(&net, HOLDER,
               gov_device_revoke(GOV(HOLDER), &net.ns, &pairing.device, NULL, NULL, OUT));
    assert_int_equal(gov_rotation_due(GOV(OWNER), &net.ns, debts, 4), 2);
    for (size_t i = 0; i < 2; i++) gov_net_do(&net, OWNER, gov_rotate(GOV(OWNER), &debts[i], OUT));
    assert_true(gov_net_current(&net, HOLDER, &closed, &key));
    assert_false(gov_net_has_key(&net, DEVICE, &closed, &key.id));
    device_is_out(&pairing);
}

/* Somebody else publishes what the account's root has signed. */
static void test_revocation_by_proof(void **state) {
    (void)state;
    gov_revocation_proof proof;
    gov_debt debts[4];
    gov_pairing pairing = pair(NULL);
    gov_device_revocation(GOV(HOLDER), &pairing.device, &proof);
    gov_net_do(&net, OTHER,
               gov_device_revoke(GOV(OTHER), &net.ns, &pairing.device, &proof, NULL, OUT));
    assert_int_equal(gov_rotation_due(GOV(OWNER), &net.ns, debts, 4), 2); /* OTHER is in one only */
    for (size_t i = 0; i < 2; i++) gov_net_do(&net, OWNER, gov_rotate(GOV(OWNER), &debts[i], OUT));
    device_is_out(&pairing);
}

/* A key that is made beside a revocation is one that the device gets. */
static void test_revocation_beside_a_rotation(void **state) {
    (void)state;
    gov_debt debts[4];
    static const gov_context_roots no_roots;
    gov_pairing pairing = pair(NULL);
    cal_account_id other = gov_net_account(&net, OTHER);
    gov_net_commit(&net, OWNER, gov_members_remove(GOV(OWNER), &net.ns, &other, 1, no_roots, OUT));
    gov_net_commit(&net, HOLDER,
                   gov_device_revoke(GOV(HOLDER), &net.ns, &pairing.device, NULL, NULL, OUT));
    gov_net_give(&net, HOLDER, net.packet_count - 2); /* after its own */
    gov_net_sync(&net);
    assert_int_equal(gov_rotation_due(GOV(OWNER), &net.ns, debts, 4), 2);
    gov_view view = gov_replica_view(&net.nodes[HOLDER], &net.ns);
    assert_int_equal(gov_walk_count(&view, ROW_ROTATION_DUE, net.ns.bytes), 1);
    for (size_t i = 0; i < 2; i++) gov_net_do(&net, OWNER, gov_rotate(GOV(OWNER), &debts[i], OUT));
    gov_group_key key;
    assert_true(gov_net_current(&net, HOLDER, &net.ns, &key));
    assert_false(gov_net_has_key(&net, DEVICE, &net.ns, &key.id));
    assert_int_equal(gov_rotation_due(GOV(OWNER), &net.ns, debts, 4), 0);
}

/* An admin needs no proof, and brings the next keys at once: no debt is left. */
static void test_revocation_by_an_admin(void **state) {
    (void)state;
    gov_debt debts[4];
    bool rotated = false;
    gov_group_key key;
    gov_pairing pairing = pair(NULL);
    gov_net_do(&net, OWNER,
               gov_device_revoke(GOV(OWNER), &net.ns, &pairing.device, NULL, &rotated, OUT));
    assert_true(rotated);
    for (size_t n = 0; n < net.count; n++) {
        gov_view view = gov_replica_view(&net.nodes[n], &net.ns);
        assert_int_equal(gov_walk_count(&view, ROW_ROTATION_DUE, NULL), 0);
    }
    assert_int_equal(gov_rotation_due(GOV(OWNER), &net.ns, debts, 4), 0);
    assert_true(gov_net_current(&net, HOLDER, &closed, &key));
    assert_false(gov_net_has_key(&net, DEVICE, &closed, &key.id));
    device_is_out(&pairing);
}

/* The account's root key is handed over: its devices stay its devices, an old certificate is of no
 * use any more, and what the new key certifies and revokes counts. */
static void test_new_root_key(void **state) {
    (void)state;
    gov_device_info own[8] = {{.account = {{0}}}};
    cal_account_id account = gov_net_account(&net, HOLDER), acting;
    cal_secret old_root = gov_self(GOV(HOLDER))->root_seed;
    cal_batch *batch;
    gov_pairing pairing = pair(NULL);
    assert_false(gov_handoff_due(GOV(HOLDER), &net.ns));
    gov_net_refused(&net, CAL_EEXISTS, gov_handoff_publish(GOV(HOLDER), &net.ns, OUT));
    for (uint32_t round = 1; round <= 2; round++) {
        assert_int_equal(gov_handoff_make(GOV(HOLDER), &batch, &net.err), 0);
        assert_int_equal(cal_store_commit(net.nodes[HOLDER].store, batch, &net.err), 0);
        gov_replica_reopen(&net.nodes[HOLDER]);
        assert_memory_equal(&gov_self(GOV(HOLDER))->account, &account, 32);
        assert_memory_not_equal(&gov_self(GOV(HOLDER))->root_seed, &old_root, 32);
        assert_true(gov_handoff_due(GOV(HOLDER), &net.ns));
        gov_net_do(&net, HOLDER, gov_handoff_publish(GOV(HOLDER), &net.ns, OUT));
        assert_false(gov_handoff_due(GOV(HOLDER), &net.ns));
        for (size_t n = 0; n < net.count; n++) {
            gov_view view = gov_replica_view(&net.nodes[n], &net.ns);
            assert_int_equal(gov_root_epoch(&view, &account, NULL), round);
        }
        gov_net_do(&net, HOLDER, gov_heads_merge(GOV(HOLDER), &net.ns, OUT));
        assert_int_equal(net.last.reason, GOV_WHY_FINE);
        gov_net_do(&net, DEVICE, gov_heads_merge(GOV(DEVICE), &net.ns, OUT));
        assert_int_equal(net.last.reason, GOV_WHY_FINE);
    }
    assert_int_equal(gov_group_devices(GOV(OWNER), &net.ns, &account, count_device, own), 0);
    assert_false(gov_id_zero(own[1].device.bytes));
    assert_int_equal(gov_acting_account(GOV(DEVICE), &net.ns, &acting), 0);
    assert_memory_equal(&acting, &account, 32);
    gov_revocation_proof proof;
    gov_net_do(&net, HOLDER,
               gov_device_revoke(GOV(HOLDER), &net.ns, &pairing.device, NULL, NULL, OUT));
    gov_device_revocation(GOV(HOLDER), &pairing.device, &proof);
    assert_int_equal(proof.chain.count, 2);
    assert_int_equal(gov_revocation_verify(&proof, &account, NULL), GOV_PROOF_OK);
    gov_net_refused(&net, CAL_EEXISTS,
                    gov_device_revoke(GOV(HOLDER), &net.ns, &pairing.device, NULL, NULL, OUT));
}

static void test_offers_are_bounded(void **state) {
    (void)state;
    gov_pairing pairing;
    cal_batch *batch;
    for (int i = 0; i < GOV_PAIRED_MAX + 1; i++) {
        cal_secret root = {{(uint8_t)i, 1}};
        cal_public_key key;
        cal_sign_public_key(&root, key.bytes);
        int result = gov_pair_begin(GOV(DEVICE), &key, &pairing, &batch, &net.err);
        assert_int_equal(result, i < GOV_PAIRED_MAX ? 0 : CAL_ELIMIT);
        if (!result)
            assert_int_equal(cal_store_commit(net.nodes[DEVICE].store, batch, &net.err), 0);
    }
    gov_replica_reopen(&net.nodes[DEVICE]);
    assert_int_equal(GOV(DEVICE)->paired_count, GOV_PAIRED_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_pairings),
        cmocka_unit_test_setup_teardown(test_pairing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_device_of_another_account, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_keys_of_groups_left, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lists, setup, teardown),
        cmocka_unit_test_setup_teardown(test_paired_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_revocation_by_its_account, setup, teardown),
        cmocka_unit_test_setup_teardown(test_revocation_reaches_groups, setup, teardown),
        cmocka_unit_test_setup_teardown(test_revocation_by_proof, setup, teardown),
        cmocka_unit_test_setup_teardown(test_revocation_beside_a_rotation, setup, teardown),
        cmocka_unit_test_setup_teardown(test_revocation_by_an_admin, setup, teardown),
        cmocka_unit_test_setup_teardown(test_new_root_key, setup, teardown),
        cmocka_unit_test_setup_teardown(test_offers_are_bounded, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
