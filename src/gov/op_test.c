/* Operations and invitations against governance.json and decode_edge.json. */
#include "gov/op.h"

#include "base/error.h"
#include "golden.h"

typedef struct {
    cal_arena arena;
    cal_buffer out;
} fixture;

static int setup(void **state) {
    fixture *f = malloc(sizeof *f);
    if (!f) return -1;
    cal_arena_init(&f->arena, 64 << 20);
    cal_buffer_init(&f->out, 64 << 20);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    cal_arena_deinit(&f->arena);
    cal_buffer_deinit(&f->out);
    free(f);
    return 0;
}

/* Every recorded op decodes, verifies, has the recorded id, and encodes to the same bytes. */
static void check_signed_op(fixture *f, yyjson_val *item, gov_signed_op *ret_op) {
    cal_error err;
    cal_hash id;
    cal_slice bytes = golden_hex(item, "hex");
    const uint8_t *kept = cal_arena_copy(&f->arena, bytes.data, bytes.len);
    if (gov_signed_op_decode(cal_slice_of(kept, bytes.len), &f->arena, ret_op))
        fail_msg("%s", golden_name(item));
    assert_int_equal(gov_signed_op_check(ret_op, &err), 0);
    gov_signed_op_id(ret_op, &id);
    golden_equal(cal_slice_of(id.bytes, 32), item, "id");
    cal_buffer_reset(&f->out);
    assert_int_equal(gov_signed_op_write(ret_op, &f->out), 0);
    golden_equal(cal_buffer_slice(&f->out), item, "hex");
    cal_buffer_reset(&f->out);
    assert_int_equal(gov_op_write(&ret_op->op, &f->out), 0);
    golden_equal(cal_buffer_slice(&f->out), item, "op_hex");
    /* and signing again gives the same */
    yyjson_val *in = yyjson_obj_get(item, "inputs");
    cal_secret signer;
    golden_bytes(in, "signer_seed", signer.bytes, 32);
    cal_buffer_reset(&f->out);
    assert_int_equal(gov_signed_op_sign(ret_op, &signer, &f->out, &id), 0);
    golden_equal(cal_buffer_slice(&f->out), item, "hex");
    golden_equal(cal_slice_of(id.bytes, 32), item, "id");
    golden_free(bytes);
}

static void test_root_ops(void **state) {
    fixture *f = *state;
    yyjson_doc *doc = golden_load("governance.json");
    yyjson_val *item;
    unsigned kinds = 0;
    for (size_t index = 0; (item = golden_next(yyjson_doc_get_root(doc), "root_op/", &index));) {
        gov_signed_op op;
        check_signed_op(f, item, &op);
        yyjson_val *recorded = yyjson_obj_get(yyjson_obj_get(item, "inputs"), "op");
        assert_false(op.op.group);
        assert_int_equal(op.op.root.kind, golden_u64(recorded, "variant_index"));
        assert_string_equal(gov_root_kind_text(op.op.root.kind),
                            yyjson_get_str(yyjson_obj_get(recorded, "variant")));
        kinds |= 1u << op.op.root.kind;
    }
    assert_int_equal(kinds, (1u << GOV_ROOT_KIND_COUNT) - 1);
    yyjson_doc_free(doc);
}

static void test_group_ops(void **state) {
    fixture *f = *state;
    yyjson_doc *doc = golden_load("governance.json");
    yyjson_val *item;
    unsigned kinds = 0;
    for (size_t index = 0; (item = golden_next(yyjson_doc_get_root(doc), "group_op/", &index));) {
        gov_signed_op op;
        gov_group_op plain;
        cal_secret key;
        check_signed_op(f, item, &op);
        yyjson_val *recorded = yyjson_obj_get(yyjson_obj_get(item, "inputs"), "op");
        golden_bytes(recorded, "group_key", key.bytes, 32);
        assert_true(op.op.group);
        assert_int_equal(gov_group_op_open(op.op.sealed, op.op.nonce, &key, &f->arena, &plain), 0);
        assert_int_equal(gov_group_op_check(&plain), 0);
        assert_int_equal(plain.kind, golden_u64(recorded, "variant_index"));
        assert_string_equal(gov_group_kind_text(plain.kind),
                            yyjson_get_str(yyjson_obj_get(recorded, "variant")));
        cal_buffer_reset(&f->out);
        assert_int_equal(gov_group_op_seal(&plain, &key, op.op.nonce, &f->out), 0);
        assert_true(cal_slice_equal(cal_buffer_slice(&f->out), op.op.sealed));
        key.bytes[0] ^= 1;
        assert_int_equal(gov_group_op_open(op.op.sealed, op.op.nonce, &key, &f->arena, &plain),
                         CAL_EVERIFY);
        kinds |= 1u << golden_u64(recorded, "variant_index");
    }
    assert_int_equal(kinds, (1u << GOV_GROUP_KIND_COUNT) - 1);
    yyjson_doc_free(doc);
}

static void test_local_group_op(void **state) {
    fixture *f = *state;
    yyjson_doc *doc = golden_load("governance.json");
    yyjson_val *item = golden_find(yyjson_doc_get_root(doc), "signed_group_op/MemberAdded");
    yyjson_val *in = yyjson_obj_get(item, "inputs"), *recorded = yyjson_obj_get(in, "op");
    cal_secret signer;
    cal_group_id group;
    cal_hash parent;
    uint8_t key[32], signature[64];
    golden_bytes(in, "signer_seed", signer.bytes, 32);
    golden_bytes(in, "group_id", group.bytes, 32);
    cal_slice bytes = golden_hex_value(yyjson_arr_get(yyjson_obj_get(in, "parent_op_hashes"), 0));
    memcpy(parent.bytes, bytes.data, 32);
    golden_free(bytes);
    gov_group_op op = {.kind = GOV_MEMBER_ADDED, .role = 1};
    golden_bytes(recorded, "member", op.account.bytes, 32);
    cal_sign_public_key(&signer, key);
    assert_int_equal(gov_group_op_signable(&group, &(gov_ids){&parent, 1}, key,
                                           golden_u64(in, "nonce"), &op, &f->out),
                     0);
    golden_equal(cal_buffer_slice(&f->out), item, "signable");
    cal_sign(&signer, cal_buffer_slice(&f->out), signature);
    golden_equal(cal_slice_of(signature, 64), item, "signature");
    yyjson_doc_free(doc);
}

/* Decodes by the recorded type's name and encodes again. CAL_EUNSUPPORTED: another module's type.
 */
static int recode(fixture *f, const char *type, cal_slice bytes) {
    cal_buffer_reset(&f->out);
    if (strcmp(type, "GroupOp") == 0) {
        gov_group_op op;
        int result = gov_group_op_decode(bytes, &f->arena, &op);
        return result ? result : gov_group_op_write(&op, &f->out);
    }
    if (strcmp(type, "NamespaceOp") == 0) {
        gov_op op;
        int result = gov_op_decode(bytes, &f->arena, &op);
        return result ? result : gov_op_write(&op, &f->out);
    }
    if (strcmp(type, "SignedNamespaceOp") == 0) {
        gov_signed_op op;
        int result = gov_signed_op_decode(bytes, &f->arena, &op);
        return result ? result : gov_signed_op_write(&op, &f->out);
    }
    if (strcmp(type, "SignedGroupOpenInvitation") == 0) {
        gov_invitation invitation;
        int result = gov_invitation_decode(bytes, &invitation);
        return result ? result : gov_invitation_write(&invitation, &f->out);
    }
    if (strcmp(type, "SealedDeltaPayload") == 0) {
        gov_delta_payload payload;
        int result = gov_delta_payload_decode(bytes, &payload);
        return result ? result : gov_delta_payload_write(&payload, &f->out);
    }
    cal_borsh in = cal_borsh_read(bytes);
    if (strcmp(type, "JoinAccountCredential") == 0) {
        gov_credential credential;
        gov_credential_read(&in, &f->arena, &credential);
        return cal_borsh_end(&in) ? in.error : gov_credential_write(&credential, &f->out);
    }
    if (strcmp(type, "KeyEnvelope") == 0) {
        gov_envelope envelope;
        gov_envelope_read(&in, &envelope);
        return cal_borsh_end(&in) ? in.error : gov_envelope_write(&envelope, &f->out);
    }
    if (strcmp(type, "HybridTimestamp") == 0) {
        gov_hlc hlc;
        gov_hlc_read(&in, &hlc);
        return cal_borsh_end(&in) ? in.error : gov_hlc_write(&hlc, &f->out);
    }
    return CAL_EUNSUPPORTED;
}

static void test_pinned(void **state) {
    fixture *f = *state;
    yyjson_doc *doc = golden_load("governance.json");
    yyjson_val *item;
    size_t seen = 0;
    for (size_t index = 0; (item = golden_next(yyjson_doc_get_root(doc), "pinned/", &index));
         seen++) {
        cal_slice bytes = golden_hex(item, "hex");
        const char *type = yyjson_get_str(yyjson_obj_get(yyjson_obj_get(item, "inputs"), "type"));
        if (recode(f, type, bytes)) fail_msg("%s", golden_name(item));
        assert_true(cal_slice_equal(cal_buffer_slice(&f->out), bytes));
        golden_free(bytes);
    }
    assert_true(seen > 30);
    yyjson_doc_free(doc);
}

static void test_odd_encodings(void **state) {
    fixture *f = *state;
    yyjson_doc *doc = golden_load("decode_edge.json");
    yyjson_val *item;
    size_t seen = 0;
    for (size_t index = 0; (item = golden_next(yyjson_doc_get_root(doc), "decode/", &index));) {
        cal_slice bytes = golden_hex(item, "hex");
        int result = recode(
            f, yyjson_get_str(yyjson_obj_get(yyjson_obj_get(item, "inputs"), "type")), bytes);
        bool decodes = yyjson_get_bool(yyjson_obj_get(item, "decodes"));
        if (result != CAL_EUNSUPPORTED) {
            if ((result == 0) != decodes) fail_msg("%s: %d", golden_name(item), result);
            if (decodes) {
                bool same = yyjson_get_bool(yyjson_obj_get(item, "reencoded_same"));
                if (same)
                    assert_true(cal_slice_equal(cal_buffer_slice(&f->out), bytes));
                else
                    golden_equal(cal_buffer_slice(&f->out), item, "reencoded");
            }
            seen++;
        }
        golden_free(bytes);
    }
    assert_true(seen >= 25);
    yyjson_doc_free(doc);
}

static void test_verdicts(void **state) {
    fixture *f = *state;
    yyjson_doc *doc = golden_load("decode_edge.json");
    yyjson_val *item;
    size_t seen = 0;
    for (size_t index = 0; (item = golden_next(yyjson_doc_get_root(doc), "verify_op/", &index));
         seen++) {
        cal_slice bytes = golden_hex(yyjson_obj_get(item, "inputs"), "signed_namespace_op");
        gov_signed_op op;
        assert_int_equal(gov_signed_op_decode(bytes, &f->arena, &op), 0);
        assert_int_equal(gov_signed_op_check(&op, NULL) == 0,
                         yyjson_get_bool(yyjson_obj_get(item, "accepted")));
        golden_free(bytes);
    }
    assert_int_equal(seen, 6);
    yyjson_doc_free(doc);
}

/* T1: no byte of a valid operation can change. */
static void test_every_byte_is_signed(void **state) {
    fixture *f = *state;
    yyjson_doc *doc = golden_load("decode_edge.json");
    yyjson_val *item = golden_find(yyjson_doc_get_root(doc), "verify_op/valid");
    cal_slice recorded = golden_hex(yyjson_obj_get(item, "inputs"), "signed_namespace_op");
    uint8_t *bytes = malloc(recorded.len);
    assert_non_null(bytes);
    for (size_t i = 0; i < recorded.len; i++) {
        gov_signed_op op;
        memcpy(bytes, recorded.data, recorded.len);
        bytes[i] ^= 0x10;
        int result = gov_signed_op_decode(cal_slice_of(bytes, recorded.len), &f->arena, &op);
        if (!result) result = gov_signed_op_check(&op, NULL);
        assert_int_not_equal(result, 0);
    }
    free(bytes);
    golden_free(recorded);
    yyjson_doc_free(doc);
}

static int sign_and_check(fixture *f, gov_signed_op *op) {
    cal_secret signer = {{9}};
    cal_hash id;
    gov_signed_op decoded;
    cal_buffer_reset(&f->out);
    assert_int_equal(gov_signed_op_sign(op, &signer, &f->out, &id), 0);
    int result = gov_signed_op_decode(cal_buffer_slice(&f->out), &f->arena, &decoded);
    return result ? result : gov_signed_op_check(&decoded, NULL);
}

static void test_bounds(void **state) {
    fixture *f = *state;
    cal_hash *ids = calloc(GOV_ID_LIST_MAX + 1, sizeof *ids);
    uint8_t *blob = calloc(1, GOV_SEALED_OP_MAX + 1);
    assert_true(ids && blob);
    gov_signed_op op = {.op = {.root = {.kind = GOV_POLICY_UPDATED}},
                        .parents = {ids, GOV_PARENTS_MAX}};
    assert_int_equal(sign_and_check(f, &op), 0);
    op.parents.count++;
    assert_int_equal(sign_and_check(f, &op), CAL_ELIMIT);
    op = (gov_signed_op){.op = {.group = true, .sealed = {blob, GOV_SEALED_OP_MAX}}};
    assert_int_equal(sign_and_check(f, &op), 0);
    op.op.sealed.len++;
    assert_int_equal(sign_and_check(f, &op), CAL_ELIMIT);
    op = (gov_signed_op){
        .op = {.root = {.kind = GOV_GROUP_DELETED, .groups = {ids, GOV_ID_LIST_MAX}}}};
    assert_int_equal(sign_and_check(f, &op), 0);
    op.op.root.groups.count++;
    assert_int_equal(sign_and_check(f, &op), CAL_ELIMIT);
    op = (gov_signed_op){
        .op = {.root = {.kind = GOV_POLICY_UPDATED, .policy = {blob, GOV_BLOB_MAX + 1}}}};
    assert_int_equal(sign_and_check(f, &op), CAL_ELIMIT);
    gov_entry *entries = calloc(GOV_METADATA_LIST_MAX + 1, sizeof *entries);
    assert_non_null(entries);
    gov_group_op plain = {.kind = GOV_GROUP_METADATA_SET, .data = {entries, GOV_METADATA_LIST_MAX}};
    assert_int_equal(gov_group_op_check(&plain), 0);
    plain.data.count++;
    assert_int_equal(gov_group_op_check(&plain), CAL_ELIMIT);
    plain.data.count = 1;
    entries[0].value = cal_slice_of(blob, GOV_METADATA_TEXT_MAX);
    assert_int_equal(gov_group_op_check(&plain), 0);
    entries[0].value.len++;
    assert_int_equal(gov_group_op_check(&plain), CAL_ELIMIT);
    free(entries);
    free(ids);
    free(blob);
}

static void test_invitations(void **state) {
    fixture *f = *state;
    yyjson_doc *doc = golden_load("governance.json");
    yyjson_val *item;
    size_t seen = 0;
    for (size_t index = 0; (item = golden_next(yyjson_doc_get_root(doc), "invitation/", &index));
         seen++) {
        cal_slice bytes = golden_hex(item, "hex");
        gov_invitation invitation, again;
        uint8_t digest[32], signature[64];
        cal_secret inviter;
        assert_int_equal(gov_invitation_decode(bytes, &invitation), 0);
        cal_buffer_reset(&f->out);
        gov_invitation_body(&invitation, &f->out);
        golden_equal(cal_buffer_slice(&f->out), item, "body");
        gov_invitation_digest(&invitation, digest);
        golden_equal(cal_slice_of(digest, 32), item, "hash");
        assert_true(gov_invitation_verify(&invitation, NULL));
        /* the recorded JSON reads as the same, and ours reads as the same */
        const char *text = yyjson_get_str(yyjson_obj_get(item, "json_text"));
        assert_int_equal(gov_invitation_read_json(cal_slice_text(text), &again, NULL), 0);
        cal_buffer_reset(&f->out);
        gov_invitation_write(&again, &f->out);
        golden_equal(cal_buffer_slice(&f->out), item, "hex");
        cal_buffer_reset(&f->out);
        assert_int_equal(gov_invitation_write_json(&invitation, &f->out), 0);
        assert_int_equal(gov_invitation_read_json(cal_buffer_slice(&f->out), &again, NULL), 0);
        cal_buffer_reset(&f->out);
        gov_invitation_write(&again, &f->out);
        golden_equal(cal_buffer_slice(&f->out), item, "hex");
        golden_bytes(yyjson_obj_get(item, "inputs"), "inviter_seed", inviter.bytes, 32);
        gov_invitation_sign(&again, &inviter);
        golden_bytes(item, "signature", signature, 64);
        cal_buffer_reset(&f->out);
        gov_invitation_write(&again, &f->out);
        golden_equal(cal_buffer_slice(&f->out), item, "hex");
        again.role ^= 2;
        assert_false(gov_invitation_verify(&again, NULL));
        golden_free(bytes);
    }
    assert_int_equal(seen, 4);
    yyjson_doc_free(doc);
}

static void test_invitation_refusals(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "{}",
        "{\"invitation\":{}}",
        "{\"invitation\":{\"inviter_identity\":[1,2,3]}}",
    };
    gov_invitation invitation;
    cal_error err;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(gov_invitation_read_json(cal_slice_text(bad[i]), &invitation, &err),
                         CAL_EDECODE);
    gov_invitation timed = {.expires_at_s = 5};
    assert_false(gov_invitation_expired(&timed, 5));
    assert_true(gov_invitation_expired(&timed, 6));
    timed.expires_at_s = 0;
    assert_false(gov_invitation_expired(&timed, UINT64_MAX));
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_root_ops),
        T(test_group_ops),
        T(test_local_group_op),
        T(test_pinned),
        T(test_odd_encodings),
        T(test_verdicts),
        T(test_every_byte_is_signed),
        T(test_bounds),
        T(test_invitations),
        T(test_invitation_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
