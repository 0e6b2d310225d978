/* Accounts against the recorded statements (tests/vectors/account.json). */
#include "gov/account.h"

#include "golden.h"

static void check_signed(yyjson_val *item, const uint8_t *digest, const uint8_t *signature,
                         cal_buffer *encoded) {
    golden_equal(cal_slice_of(digest, 32), item, "hash");
    golden_equal(cal_slice_of(signature, 64), item, "signature");
    golden_equal(cal_buffer_slice(encoded), item, "hex");
    cal_buffer_reset(encoded);
}

static void test_ids(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("account.json");
    yyjson_val *item;
    size_t seen = 0;
    for (size_t index = 0; (item = golden_next(yyjson_doc_get_root(doc), "genesis/", &index));
         seen++) {
        yyjson_val *in = yyjson_obj_get(item, "inputs");
        cal_secret root;
        uint8_t nonce[GOV_DEVICE_NONCE_SIZE];
        gov_genesis genesis = {.version = GOV_GENESIS_VERSION};
        cal_account_id account;
        cal_device_id device;
        golden_bytes(in, "root_seed", root.bytes, 32);
        golden_bytes(in, "device_nonce", nonce, sizeof nonce);
        cal_sign_public_key(&root, genesis.root_key);
        golden_equal(cal_slice_of(genesis.root_key, 32), item, "root_pk");
        gov_account_id(&genesis, &account);
        gov_device_id(&account, nonce, &device);
        golden_equal(cal_slice_of(account.bytes, 32), item, "account");
        golden_equal(cal_slice_of(device.bytes, 32), item, "device");
        cal_buffer out;
        cal_buffer_init(&out, 64);
        assert_int_equal(gov_genesis_write(&genesis, &out), 0);
        golden_equal(cal_buffer_slice(&out), item, "hex");
        cal_buffer_deinit(&out);
    }
    assert_int_equal(seen, 3);
    yyjson_doc_free(doc);
}

static void test_statements(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("account.json");
    yyjson_val *root = yyjson_doc_get_root(doc), *item;
    cal_secret key;
    uint8_t digest[32];
    cal_buffer out;
    cal_buffer_init(&out, 1024);
    for (size_t index = 0; (item = golden_next(root, "device_cert/", &index));) {
        yyjson_val *in = yyjson_obj_get(item, "inputs");
        gov_cert cert = {.key_epoch = (uint32_t)golden_u64(in, "key_epoch"),
                         .device_epoch = (uint32_t)golden_u64(in, "device_epoch")};
        golden_bytes(in, "signing_root_seed", key.bytes, 32);
        golden_bytes(in, "account", cert.account.bytes, 32);
        golden_bytes(in, "device", cert.device.bytes, 32);
        golden_bytes(in, "sign_pk", cert.sign_key, 32);
        golden_bytes(in, "kem_pk", cert.kem_key, 32);
        gov_cert_sign(&cert, &key);
        gov_cert_digest(&cert, digest);
        gov_cert_write(&cert, &out);
        check_signed(item, digest, cert.signature, &out);
    }
    for (size_t index = 0; (item = golden_next(root, "handoff/", &index));) {
        yyjson_val *in = yyjson_obj_get(item, "inputs");
        gov_handoff handoff = {.from_epoch = (uint32_t)golden_u64(in, "from_epoch")};
        uint8_t outgoing[32];
        golden_bytes(in, "current_root_seed", key.bytes, 32);
        golden_bytes(in, "account", handoff.account.bytes, 32);
        golden_bytes(in, "new_root_pk", handoff.new_root_key, 32);
        gov_handoff_sign(&handoff, &key);
        gov_handoff_digest(&handoff, digest);
        gov_handoff_write(&handoff, &out);
        check_signed(item, digest, handoff.signature, &out);
        cal_sign_public_key(&key, outgoing);
        assert_true(gov_handoff_verify(&handoff, outgoing, NULL));
        handoff.from_epoch ^= 1;
        assert_false(gov_handoff_verify(&handoff, outgoing, NULL));
    }
    for (size_t index = 0; (item = golden_next(root, "revocation/", &index));) {
        yyjson_val *in = yyjson_obj_get(item, "inputs");
        gov_revocation revocation = {.key_epoch = (uint32_t)golden_u64(in, "key_epoch")};
        golden_bytes(in, "root_seed", key.bytes, 32);
        golden_bytes(in, "account", revocation.account.bytes, 32);
        golden_bytes(in, "device", revocation.device.bytes, 32);
        gov_revocation_sign(&revocation, &key);
        gov_revocation_digest(&revocation, digest);
        gov_revocation_write(&revocation, &out);
        check_signed(item, digest, revocation.signature, &out);
    }
    for (size_t index = 0; (item = golden_next(root, "endorsement/", &index));) {
        yyjson_val *in = yyjson_obj_get(item, "inputs");
        gov_endorsement endorsement;
        golden_bytes(in, "member_seed", key.bytes, 32);
        golden_bytes(in, "account", endorsement.account.bytes, 32);
        golden_bytes(in, "member", endorsement.member_key, 32);
        gov_endorsement_sign(&endorsement, &key);
        gov_endorsement_digest(&endorsement, digest);
        gov_endorsement_write(&endorsement, &out);
        check_signed(item, digest, endorsement.signature, &out);
        assert_true(gov_endorsement_verify(&endorsement, NULL));
        endorsement.account.bytes[0] ^= 1;
        assert_false(gov_endorsement_verify(&endorsement, NULL));
    }
    cal_buffer_deinit(&out);
    yyjson_doc_free(doc);
}

static gov_proof_verdict verdict_of(const char *name) {
    static const struct {
        const char *name;
        gov_proof_verdict verdict;
    } known[] = {
        {"ok", GOV_PROOF_OK},
        {"GenesisMismatch", GOV_PROOF_GENESIS},
        {"CertAccountMismatch", GOV_PROOF_ACCOUNT},
        {"UnsupportedVersion", GOV_PROOF_VERSION},
        {"CertSignatureInvalid", GOV_PROOF_SIGNATURE},
        {"EpochOutOfRange", GOV_PROOF_EPOCH},
        {"HandoffSignatureInvalid", GOV_PROOF_HANDOFF_SIGNATURE},
        {"HandoffAccountMismatch", GOV_PROOF_HANDOFF_ACCOUNT},
        {"ChainTooLong", GOV_PROOF_CHAIN_LENGTH},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, name) == 0) return known[i].verdict;
    fail_msg("no verdict %s", name);
    return GOV_PROOF_OK;
}

/* The recorded bytes, or their parts repeated where the file gives only those. */
static cal_slice proof_bytes(yyjson_val *item) {
    if (yyjson_obj_get(item, "hex")) return golden_hex(item, "hex");
    yyjson_val *in = yyjson_obj_get(item, "inputs");
    cal_slice genesis = golden_hex(in, "genesis"), element = golden_hex(in, "chain_element");
    cal_slice statement = golden_hex(in, "statement");
    uint32_t count = (uint32_t)golden_u64(in, "chain_len");
    cal_buffer out;
    cal_buffer_init(&out, 1 << 20);
    cal_buffer_append_slice(&out, genesis);
    cal_buffer_append_u32le(&out, count);
    for (uint32_t i = 0; i < count; i++) cal_buffer_append_slice(&out, element);
    cal_buffer_append_slice(&out, statement);
    golden_free(genesis);
    golden_free(element);
    golden_free(statement);
    size_t len;
    uint8_t *bytes = cal_buffer_detach(&out, &len);
    return cal_slice_of(bytes, len);
}

static void test_proofs(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("account.json");
    yyjson_val *item;
    size_t seen = 0;
    for (size_t index = 0; (item = golden_next(yyjson_doc_get_root(doc), "proof/", &index));
         seen++) {
        cal_slice bytes = proof_bytes(item);
        cal_borsh in = cal_borsh_read(bytes);
        cal_arena arena;
        cal_arena_init(&arena, 1 << 20);
        cal_buffer out;
        cal_buffer_init(&out, 1 << 20);
        gov_proof_verdict verdict;
        if (strstr(golden_name(item), "revocation")) {
            gov_revocation_proof proof;
            gov_revocation_proof_read(&in, &arena, &proof);
            verdict = gov_revocation_verify(&proof, &proof.revocation.account, NULL);
            gov_revocation_proof_write(&proof, &out);
        } else {
            gov_credential credential;
            cal_account_id claimed;
            golden_bytes(yyjson_obj_get(item, "inputs"), "claimed_account", claimed.bytes, 32);
            gov_credential_read(&in, &arena, &credential);
            verdict = gov_credential_verify(&credential, &claimed, NULL);
            gov_credential_write(&credential, &out);
        }
        assert_int_equal(cal_borsh_end(&in), 0);
        if (verdict != verdict_of(yyjson_get_str(yyjson_obj_get(item, "verdict"))))
            fail_msg("%s: %s", golden_name(item), gov_proof_text(verdict));
        assert_true(cal_slice_equal(cal_buffer_slice(&out), bytes));
        cal_buffer_deinit(&out);
        cal_arena_deinit(&arena);
        golden_free(bytes);
    }
    assert_int_equal(seen, 14);
    yyjson_doc_free(doc);
}

static void test_pairing(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("account.json");
    yyjson_val *item;
    size_t seen = 0;
    for (size_t index = 0; (item = golden_next(yyjson_doc_get_root(doc), "pairing/", &index));
         seen++) {
        yyjson_val *in = yyjson_obj_get(item, "inputs");
        cal_account_id account;
        cal_device_id device;
        cal_secret key;
        uint8_t kem[32], sign[32], digest[32], signature[64];
        char code[GOV_PAIRING_CODE_MAX];
        golden_bytes(in, "device_seed", key.bytes, 32);
        golden_bytes(in, "account", account.bytes, 32);
        golden_bytes(in, "device", device.bytes, 32);
        golden_bytes(in, "kem_pk", kem, 32);
        golden_bytes(in, "sign_pk", sign, 32);
        gov_pairing_digest(&account, &device, kem, sign, digest);
        cal_sign(&key, cal_slice_of(digest, 32), signature);
        golden_equal(cal_slice_of(digest, 32), item, "hash");
        golden_equal(cal_slice_of(signature, 64), item, "signature");
        gov_pairing_code(&account, &device, kem, sign, code);
        assert_string_equal(code, yyjson_get_str(yyjson_obj_get(item, "code")));
        yyjson_val *pair, *list = yyjson_obj_get(item, "code_matches");
        for (size_t i = 0; i < yyjson_arr_size(list); i++) {
            pair = yyjson_arr_get(list, i);
            assert_int_equal(gov_pairing_code_equal(code, yyjson_get_str(yyjson_arr_get(pair, 0))),
                             yyjson_get_bool(yyjson_arr_get(pair, 1)));
        }
    }
    assert_int_equal(seen, 2);
    yyjson_doc_free(doc);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_statements),
        cmocka_unit_test(test_proofs),
        cmocka_unit_test(test_pairing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
