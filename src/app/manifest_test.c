/* Manifests, their signatures, versions and application ids, against recorded data and at every
 * limit. */
#include "app/testing.h"
#include "codec/jcs.h"

#define HEAD "{\"version\":\"1.0\",\"package\":\"p\",\"appVersion\":\"1\","
#define TAIL "\"minRuntimeVersion\":\"0.1.0\"}"
#define WASM(path) HEAD "\"wasm\":{\"path\":\"" path "\",\"hash\":\"\",\"size\":0}," TAIL

static int parse(const char *json, cal_error *err) {
    cal_manifest *manifest = NULL;
    int rc = cal_manifest_parse(cal_slice_text(json), &manifest, err);
    if (rc == 0) rc = cal_manifest_check_runtime(manifest, err);
    cal_manifest_free(manifest);
    return rc;
}

/* A signed manifest, ours or the recorded one, is the recorded one in all that matters. */
static bool check_signed(yyjson_val *item, const char *text) {
    yyjson_doc *doc = NULL;
    assert_int_equal(app_json_read(cal_slice_text(text), "the manifest", &doc, NULL), 0);
    yyjson_val *root = yyjson_doc_get_root(doc);
    assert_string_equal(app_json_text(root, "signerId"), app_json_text(item, "signer_id"));
    cal_buffer bytes;
    cal_buffer_init(&bytes, 2 * CAL_SIGNATURE_SIZE);
    cal_base64_decode(CAL_BASE64URL,
                      cal_slice_text(app_json_text(yyjson_obj_get(root, "signature"), "signature")),
                      &bytes);
    golden_equal(cal_buffer_slice(&bytes), item, "signature");
    cal_buffer_deinit(&bytes);
    yyjson_doc_free(doc);
    cal_manifest *manifest = NULL;
    cal_error err = {0};
    if (cal_manifest_parse(cal_slice_text(text), &manifest, &err) != 0) return false;
    uint8_t hash[CAL_HASH_SIZE];
    if (cal_manifest_verify(manifest, hash, &err) != 0)
        fail_msg("%s: %s", golden_name(item), err.message);
    golden_equal(cal_slice_of(hash, sizeof hash), item, "hash");
    cal_application_id id;
    cal_application_id_bundle(cal_manifest_package(manifest), cal_manifest_signer_id(manifest),
                              &id);
    golden_equal(cal_slice_of(id.bytes, sizeof id.bytes), item, "application_id");
    cal_manifest_free(manifest);
    return true;
}

static void signs_as_recorded(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("bundle.json");
    size_t index = 0, cases = 0, whole = 0;
    for (yyjson_val *item; (item = golden_next(yyjson_doc_get_root(doc), "manifest/", &index));
         cases++) {
        yyjson_val *inputs = yyjson_obj_get(item, "inputs");
        cal_secret seed;
        golden_bytes(inputs, "signer_seed", seed.bytes, sizeof seed.bytes);
        cal_buffer json;
        cal_buffer_init(&json, CAL_BUNDLE_MANIFEST_MAX);
        assert_int_equal(cal_manifest_sign(cal_slice_text(app_json_text(inputs, "manifest_text")),
                                           &seed, &json, NULL),
                         0);
        check_signed(item, cal_buffer_cstr(&json));
        whole += check_signed(item, app_json_text(item, "signed_manifest_text"));
        cal_buffer_deinit(&json);
    }
    assert_int_equal(cases, 4);
    assert_int_equal(whole, 2); /* the others exercise canonical JSON and are no manifests */
    yyjson_doc_free(doc);
}

static void verifies_as_recorded(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("bundle.json");
    size_t index = 0, cases = 0;
    for (yyjson_val *item; (item = golden_next(yyjson_doc_get_root(doc), "verify/", &index));
         cases++) {
        yyjson_val *inputs = yyjson_obj_get(item, "inputs");
        const char *text = yyjson_get_str(yyjson_obj_get(inputs, "manifest_text"));
        bool expected = yyjson_get_bool(yyjson_obj_get(item, "accepted"));
        /* Under the identity point as key anybody signs anything: refused here (traps.md 2). */
        if (strcmp(golden_name(item), "verify/identity_point_key_and_zero_s") == 0) {
            assert_true(expected);
            expected = false;
        }
        cal_manifest *manifest = NULL;
        cal_error err = {0};
        int rc = cal_manifest_parse(cal_slice_text(text), &manifest, &err);
        if (rc == 0) rc = cal_manifest_verify(manifest, NULL, &err);
        if ((rc == 0) != expected) fail_msg("%s: %s", golden_name(item), err.message);
        cal_manifest_free(manifest);
    }
    assert_int_equal(cases, 7);
    yyjson_doc_free(doc);
}

static int verify(const char *json) {
    cal_manifest *manifest = NULL;
    assert_int_equal(cal_manifest_parse(cal_slice_text(json), &manifest, NULL), 0);
    int rc = cal_manifest_verify(manifest, NULL, NULL);
    cal_manifest_free(manifest);
    return rc;
}

#define PLAIN                                                                                      \
    "{\"version\":\"1.0\",\"package\":\"p\",\"appVersion\":\"1\","                                 \
    "\"minRuntimeVersion\":\"0.1.0\",\"my_field\":\"one\",\"_note\":\"one\","                      \
    "\"signature_\":\"one\",\"deep\":{\"_note\":\"one\",\"signature\":\"one\"}"

/* Only fields at the top whose names start with `_`, and the signature, are left out of it. */
static void covers_all_but_notes(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool covered;
    } fields[] = {
        {"\"my_field\":\"one\"", true},
        {"\"signature_\":\"one\"", true},
        {"\"deep\":{\"_note\":\"one\"", true},
        {"\"signature\":\"one\"", true},
        {"\"_note\":\"one\",\"signature_\"", false},
    };
    cal_secret seed = testing_seed(4);
    cal_buffer json;
    cal_buffer_init(&json, CAL_BUNDLE_MANIFEST_MAX);
    assert_int_equal(cal_manifest_sign(cal_slice_text(PLAIN "}"), &seed, &json, NULL), 0);
    char *text = (char *)(uintptr_t)cal_buffer_cstr(&json);
    assert_int_equal(verify(text), 0);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        char *value = strstr(strstr(text, fields[i].text), "one");
        *value = 'O';
        assert_int_equal(verify(text), fields[i].covered ? CAL_EVERIFY : 0);
        *value = 'o';
    }
    cal_buffer_deinit(&json);
}

/* A well signed manifest that says somebody else had signed it. */
static void names_its_own_signer(void **state) {
    (void)state;
    cal_secret seeds[2] = {testing_seed(4), testing_seed(5)};
    for (int named = 0; named < 2; named++) {
        uint8_t key[32], hash[CAL_HASH_SIZE], signature[CAL_SIGNATURE_SIZE];
        char signer[CAL_DID_KEY_MAX];
        cal_buffer json, canonical, key_text, signature_text;
        cal_buffer_init(&json, CAL_BUNDLE_MANIFEST_MAX);
        cal_buffer_init(&canonical, CAL_BUNDLE_MANIFEST_MAX);
        cal_buffer_init(&key_text, 128);
        cal_buffer_init(&signature_text, 128);
        cal_sign_public_key(&seeds[named], key);
        cal_did_key_encode(key, signer);
        cal_buffer_printf(&json, HEAD "\"signerId\":\"%s\"," TAIL, signer);
        yyjson_doc *doc = NULL;
        assert_int_equal(app_json_read(cal_buffer_slice(&json), "it", &doc, NULL), 0);
        assert_int_equal(cal_jcs_write(yyjson_doc_get_root(doc), NULL, &canonical), 0);
        yyjson_doc_free(doc);
        cal_sha256(cal_buffer_slice(&canonical), hash);
        cal_sign(&seeds[0], cal_slice_of(hash, sizeof hash), signature);
        cal_sign_public_key(&seeds[0], key);
        cal_base64_encode(CAL_BASE64URL, cal_slice_of(key, sizeof key), &key_text);
        cal_base64_encode(CAL_BASE64URL, cal_slice_of(signature, sizeof signature),
                          &signature_text);
        json.len--; /* the brace */
        cal_buffer_printf(&json,
                          ",\"signature\":{\"algorithm\":\"ed25519\",\"publicKey\":\"%s\","
                          "\"signature\":\"%s\"}}",
                          cal_buffer_cstr(&key_text), cal_buffer_cstr(&signature_text));
        assert_int_equal(verify(cal_buffer_cstr(&json)), named ? CAL_EVERIFY : 0);
        cal_buffer_deinit(&signature_text);
        cal_buffer_deinit(&key_text);
        cal_buffer_deinit(&canonical);
        cal_buffer_deinit(&json);
    }
}

static void derives_ids_as_recorded(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("bundle.json");
    yyjson_val *root = yyjson_doc_get_root(doc);
    size_t index = 0;
    for (yyjson_val *item; (item = golden_next(root, "signer_id/", &index));) {
        uint8_t key[32];
        char text[CAL_DID_KEY_MAX];
        golden_bytes(yyjson_obj_get(item, "inputs"), "public_key", key, sizeof key);
        cal_did_key_encode(key, text);
        assert_string_equal(text, yyjson_get_str(yyjson_obj_get(item, "signer_id")));
    }
    cal_application_id id;
    yyjson_val *item = golden_find(root, "application_id_bundle/plain"),
               *inputs = yyjson_obj_get(item, "inputs");
    cal_application_id_bundle(app_json_text(inputs, "package"), app_json_text(inputs, "signer_id"),
                              &id);
    golden_equal(cal_slice_of(id.bytes, sizeof id.bytes), item, "id");
    item = golden_find(root, "application_id_raw/plain");
    inputs = yyjson_obj_get(item, "inputs");
    cal_blob_id blob;
    golden_bytes(inputs, "bytecode_blob_id", blob.bytes, sizeof blob.bytes);
    cal_application_id_raw(&blob, yyjson_get_uint(yyjson_obj_get(inputs, "size")),
                           app_json_text(inputs, "source"), (cal_slice){0}, &id);
    golden_equal(cal_slice_of(id.bytes, sizeof id.bytes), item, "id");
    yyjson_doc_free(doc);
}

static void dev_key_is_the_known_one(void **state) {
    (void)state;
    cal_secret seed;
    uint8_t key[32];
    char text[CAL_DID_KEY_MAX];
    cal_bundle_dev_key(&seed);
    cal_sign_public_key(&seed, key);
    cal_did_key_encode(key, text);
    assert_string_equal(text, "did:key:z6MknF3p5L5FDHJQ7FREUapuX4Wmp4MtF6WrHYaXS2B3eZQd");
}

static void refuses_unfit_fields(void **state) {
    (void)state;
    static const struct {
        const char *json;
        int code;
    } cases[] = {
        {HEAD TAIL, 0},
        {WASM("a/b.wasm"), 0},
        {WASM("./a..b/c"), 0},
        {"", CAL_EDECODE},
        {"[]", CAL_EDECODE},
        {"{", CAL_EDECODE},
        {"{\"version\":\"1.0\",\"package\":\"p\"," TAIL, CAL_EDECODE},
        {"{\"version\":\"1.0\",\"package\":\"p\",\"package\":\"q\",\"appVersion\":\"1\"," TAIL,
         CAL_EDECODE},
        {HEAD "\"x\":{\"a\":1,\"a\":2}," TAIL, CAL_EDECODE},
        {HEAD "\"metadata\":{}," TAIL, CAL_EDECODE},
        {HEAD "\"metadata\":{\"name\":\"n\",\"tags\":[1]}," TAIL, CAL_EDECODE},
        {HEAD "\"metadata\":null,\"services\":null,\"links\":null," TAIL, 0},
        {HEAD "\"signature\":{\"algorithm\":\"ed25519\"}," TAIL, CAL_EDECODE},
        {HEAD "\"wasm\":{\"path\":\"a\",\"hash\":\"\",\"size\":-1}," TAIL, CAL_EDECODE},
        {WASM(""), CAL_EINVAL},
        {WASM("/a"), CAL_EINVAL},
        {WASM("../a"), CAL_EINVAL},
        {WASM("a/../b"), CAL_EINVAL},
        {WASM("a\\\\b"), CAL_EINVAL},
        {WASM("c:a"), CAL_EINVAL},
        {WASM("a\\u0000b"), CAL_EINVAL},
        {WASM("."), CAL_EINVAL},
        {HEAD "\"services\":[{\"name\":\"a\",\"wasm\":{\"path\":\"a\",\"hash\":\"\",\"size\":0}},"
              "{\"name\":\"a\",\"wasm\":{\"path\":\"b\",\"hash\":\"\",\"size\":0}}]," TAIL,
         CAL_EINVAL},
        {HEAD "\"minRuntimeVersion\":\"1\"}", CAL_EINVAL},
        {HEAD "\"minRuntimeVersion\":\"" CAL_APP_RUNTIME_VERSION "\"}", 0},
        {HEAD "\"minRuntimeVersion\":\"0.11.0-rc.26\"}", CAL_EVERSION},
        {HEAD "\"minRuntimeVersion\":\"0.11.0\"}", CAL_EVERSION},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cal_error err = {0};
        int rc = parse(cases[i].json, &err);
        if (rc != cases[i].code) fail_msg("case %zu answered %d (%s)", i, rc, err.message);
    }
}

static void names_are_no_paths(void **state) {
    (void)state;
    static const char *const bad[] = {"", "..", "a..b", "a/b", "a\\\\b", "c:", "a\\u0000b"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char json[512];
        snprintf(json, sizeof json,
                 "{\"version\":\"1\",\"package\":\"%s\",\"appVersion\":\"1\"," TAIL, bad[i]);
        assert_int_equal(parse(json, NULL), CAL_EINVAL);
        snprintf(json, sizeof json,
                 "{\"version\":\"1\",\"package\":\"p\",\"appVersion\":\"%s\"," TAIL, bad[i]);
        assert_int_equal(parse(json, NULL), CAL_EINVAL);
    }
}

static void limits_hold_at_their_edge(void **state) {
    (void)state;
    char json[1024], name[200];
    for (size_t extra = 0; extra < 2; extra++) {
        memset(name, 'p', sizeof name);
        name[CAL_APP_PACKAGE_MAX + extra] = '\0';
        snprintf(json, sizeof json,
                 "{\"version\":\"1\",\"package\":\"%s\",\"appVersion\":\"1\"," TAIL, name);
        assert_int_equal(parse(json, NULL), extra ? CAL_ELIMIT : 0);
    }
    cal_buffer text;
    cal_buffer_init(&text, 2 * CAL_BUNDLE_MANIFEST_MAX);
    for (size_t extra = 0; extra < 2; extra++) { /* services */
        cal_buffer_reset(&text);
        cal_buffer_append_text(&text, HEAD "\"services\":[");
        for (size_t i = 0; i < CAL_BUNDLE_SERVICES_MAX + extra; i++)
            cal_buffer_printf(
                &text, "%s{\"name\":\"s%zu\",\"wasm\":{\"path\":\"a\",\"hash\":\"\",\"size\":0}}",
                i ? "," : "", i);
        cal_buffer_append_text(&text, "]," TAIL);
        assert_int_equal(parse(cal_buffer_cstr(&text), NULL), extra ? CAL_ELIMIT : 0);
    }
    for (size_t extra = 0; extra < 2; extra++) { /* bytes */
        cal_buffer_reset(&text);
        cal_buffer_append_text(&text, HEAD TAIL);
        while (text.len < CAL_BUNDLE_MANIFEST_MAX + extra) cal_buffer_append_u8(&text, ' ');
        assert_int_equal(parse(cal_buffer_cstr(&text), NULL), extra ? CAL_ELIMIT : 0);
    }
    for (size_t extra = 0; extra < 2; extra++) { /* nesting, in a field nobody knows */
        cal_buffer_reset(&text);
        cal_buffer_append_text(&text, HEAD "\"x\":");
        for (size_t i = 0; i < APP_JSON_DEPTH_MAX - 1 + extra; i++)
            cal_buffer_append_u8(&text, '[');
        for (size_t i = 0; i < APP_JSON_DEPTH_MAX - 1 + extra; i++)
            cal_buffer_append_u8(&text, ']');
        cal_buffer_append_text(&text, "," TAIL);
        assert_int_equal(parse(cal_buffer_cstr(&text), NULL), extra ? CAL_EDECODE : 0);
    }
    cal_buffer_deinit(&text);
}

static void metadata_is_flat(void **state) {
    (void)state;
    static const char json[] =
        HEAD "\"metadata\":{\"tags\":[\"b\",\"a\"],\"name\":\"N\",\"description\":null},"
             "\"links\":{\"docs\":\"d\",\"frontend\":\"f\"},\"other\":1," TAIL;
    cal_manifest *manifest = NULL;
    assert_int_equal(cal_manifest_parse(cal_slice_text(json), &manifest, NULL), 0);
    cal_buffer out;
    cal_buffer_init(&out, 4096);
    assert_int_equal(cal_manifest_metadata(manifest, &out), 0);
    assert_string_equal(
        cal_buffer_cstr(&out),
        "{\"package\":\"p\",\"version\":\"1\",\"name\":\"N\",\"tags\":[\"b\",\"a\"],"
        "\"links\":{\"frontend\":\"f\",\"docs\":\"d\"}}");
    cal_buffer_deinit(&out);
    cal_manifest_free(manifest);
}

static void versions_order(void **state) {
    (void)state;
    static const char *const ascending[] = {
        "0.0.0",         "0.1.0-0",    "0.1.0-2",     "0.1.0-11", "0.1.0-alpha",
        "0.1.0-alpha.1", "0.1.0-rc.9", "0.1.0-rc.25", "0.1.0",    "0.1.1",
        "0.2.0",         "1.0.0",      "10.0.0"};
    enum { COUNT = sizeof ascending / sizeof *ascending };
    for (int i = 0; i < COUNT; i++)
        for (int j = 0; j < COUNT; j++) {
            int order = 9;
            assert_int_equal(cal_version_compare(ascending[i], ascending[j], &order), 0);
            assert_int_equal(order, (i > j) - (i < j));
        }
    int order = 9;
    assert_int_equal(cal_version_compare("1.2.3+a", "1.2.3+b", &order), 0);
    assert_int_equal(order, 0);
    static const char *const bad[] = {"",
                                      "1",
                                      "1.2",
                                      "1.2.3.4",
                                      "01.2.3",
                                      "1.2.3-",
                                      "1.2.3-01",
                                      "1.2.3-a..b",
                                      "1.2.3+",
                                      "v1.2.3",
                                      " 1.2.3",
                                      "1.2.3 ",
                                      "1.2.99999999999999999999",
                                      "1.2.3-\xc3\xa9"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(cal_version_compare(bad[i], "1.0.0", &order), CAL_EDECODE);
}

int main(void) {
    if (cal_crypto_init() != 0) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signs_as_recorded),
        cmocka_unit_test(verifies_as_recorded),
        cmocka_unit_test(covers_all_but_notes),
        cmocka_unit_test(names_its_own_signer),
        cmocka_unit_test(derives_ids_as_recorded),
        cmocka_unit_test(dev_key_is_the_known_one),
        cmocka_unit_test(refuses_unfit_fields),
        cmocka_unit_test(names_are_no_paths),
        cmocka_unit_test(limits_hold_at_their_edge),
        cmocka_unit_test(metadata_is_flat),
        cmocka_unit_test(versions_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
