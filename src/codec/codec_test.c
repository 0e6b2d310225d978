/* Text forms, borsh, varint, canonical JSON: known values, every bound, and the recorded manifests.
 */
#include "calimero/error.h"
#include "calimero/identity.h"
#include "codec/borsh.h"
#include "codec/jcs.h"
#include "codec/text.h"
#include "codec/utf8.h"
#include "codec/varint.h"
#include "golden.h"

static void test_hex(void **state) {
    (void)state;
    char text[7];
    uint8_t bytes[3] = {0};
    cal_hex_encode(cal_slice_of("\x01\xab\xff", 3), text);
    assert_string_equal(text, "01abff");
    cal_hex_encode((cal_slice){0}, text);
    assert_string_equal(text, "");
    assert_int_equal(cal_hex_decode(cal_slice_text("01ABff"), bytes, 3), 0);
    assert_memory_equal(bytes, "\x01\xab\xff", 3);
    assert_int_equal(cal_hex_decode(cal_slice_text("01abf"), bytes, 2), CAL_EDECODE);
    assert_int_equal(cal_hex_decode(cal_slice_text("01abff"), bytes, 2), CAL_EDECODE);
    assert_int_equal(cal_hex_decode(cal_slice_text("0g"), bytes, 1), CAL_EDECODE);
    assert_int_equal(cal_hex_decode(cal_slice_text("01 bff"), bytes, 3), CAL_EDECODE);
    assert_int_equal(cal_hex_decode((cal_slice){0}, bytes, 0), 0);
}

static void test_base58(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
        const char *text;
    } known[] = {
        {"", 0, ""},
        {"\0", 1, "1"},
        {"\0\0\x01", 3, "112"},
        {"Hello World!", 12, "2NEpo7TZRRrLZSi2U"},
        {"\x61", 1, "2g"},
        {"\x51\x6b\x6f\xcd\x0f", 5, "ABnLTmg"},
        {"\x10\xc8\x51\x1e", 4, "Rt5zm"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        char text[64];
        uint8_t bytes[64];
        size_t len = 99;
        assert_int_equal(
            cal_base58_encode(cal_slice_of(known[i].bytes, known[i].len), text, sizeof text), 0);
        assert_string_equal(text, known[i].text);
        assert_int_equal(cal_base58_encode(cal_slice_of(known[i].bytes, known[i].len), text,
                                           strlen(known[i].text)),
                         CAL_ELIMIT);
        assert_int_equal(
            cal_base58_decode(cal_slice_text(known[i].text), bytes, sizeof bytes, &len), 0);
        assert_int_equal(len, known[i].len);
        assert_memory_equal(bytes, known[i].bytes, len);
        if (len)
            assert_int_equal(cal_base58_decode(cal_slice_text(known[i].text), bytes, len - 1, &len),
                             CAL_ELIMIT);
    }
    uint8_t big[CAL_BASE58_BYTES_MAX + 1], back[CAL_BASE58_BYTES_MAX + 1];
    char text[2048];
    size_t len = 0;
    memset(big, 0xff, sizeof big);
    assert_int_equal(cal_base58_encode(cal_slice_of(big, sizeof big), text, sizeof text),
                     CAL_ELIMIT);
    assert_int_equal(cal_base58_encode(cal_slice_of(big, sizeof big - 1), text, sizeof text), 0);
    assert_int_equal(cal_base58_decode(cal_slice_text(text), back, sizeof back, &len), 0);
    assert_int_equal(len, CAL_BASE58_BYTES_MAX);
    assert_memory_equal(big, back, len);
    assert_int_equal(cal_base58_decode(cal_slice_text("0"), back, 8, &len), CAL_EDECODE);
    assert_int_equal(cal_base58_decode(cal_slice_text("a b"), back, 8, &len), CAL_EDECODE);
    assert_int_equal(cal_base58_decode(cal_slice_of("a\0", 2), back, 8, &len), CAL_EDECODE);
}

static void test_ids(void **state) {
    (void)state;
    uint8_t id[32], back[32];
    char text[CAL_ID_TEXT_MAX];
    for (int fill = 0; fill < 256; fill += 51) {
        memset(id, fill, 32);
        cal_id_to_base58(id, text);
        assert_int_equal(cal_id_parse(text, back), 0);
        assert_memory_equal(id, back, 32);
        cal_id_to_hex(id, text);
        assert_int_equal(strlen(text), 64);
        assert_int_equal(cal_id_parse(text, back), 0);
        assert_memory_equal(id, back, 32);
    }
    memset(id, 0, 32);
    cal_id_to_base58(id, text);
    assert_string_equal(text, "11111111111111111111111111111111");
    assert_int_equal(cal_id_parse("", back), CAL_EDECODE);
    assert_int_equal(cal_id_parse("1111111111111111111111111111111", back), CAL_EDECODE);
    assert_int_equal(cal_id_parse("111111111111111111111111111111111", back), CAL_EDECODE);
}

static void check_base64(cal_base64_form form, const char *bytes, const char *text) {
    cal_buffer out;
    cal_buffer_init(&out, 64);
    assert_int_equal(cal_base64_encode(form, cal_slice_text(bytes), &out), 0);
    assert_true(cal_slice_equal(cal_buffer_slice(&out), cal_slice_text(text)));
    cal_buffer_reset(&out);
    assert_int_equal(cal_base64_decode(form, cal_slice_text(text), &out), 0);
    assert_true(cal_slice_equal(cal_buffer_slice(&out), cal_slice_text(bytes)));
    cal_buffer_deinit(&out);
}

static void test_base64(void **state) {
    (void)state;
    check_base64(CAL_BASE64, "", "");
    check_base64(CAL_BASE64, "f", "Zg");
    check_base64(CAL_BASE64_PADDED, "f", "Zg==");
    check_base64(CAL_BASE64, "foobar", "Zm9vYmFy");
    check_base64(CAL_BASE64, "\xfb\xff", "+/8");
    check_base64(CAL_BASE64URL, "\xfb\xff", "-_8");
    cal_buffer out;
    cal_buffer_init(&out, 64);
    const char *bad[] = {"Zg==", "Z", "Zh", "Zm9v Yg", "-_8", "Zm\xff\xff"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(cal_base64_decode(CAL_BASE64, cal_slice_text(bad[i]), &out), CAL_EDECODE);
    assert_int_equal(out.len, 0);
    cal_buffer_deinit(&out);
}

static void test_did_key(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("bundle.json");
    yyjson_val *item;
    size_t index = 0, seen = 0;
    while ((item = golden_next(yyjson_doc_get_root(doc), "signer_id/", &index))) {
        uint8_t key[32], back[32];
        char text[CAL_DID_KEY_MAX];
        golden_bytes(yyjson_obj_get(item, "inputs"), "public_key", key, 32);
        cal_did_key_encode(key, text);
        assert_string_equal(text, yyjson_get_str(yyjson_obj_get(item, "signer_id")));
        assert_int_equal(cal_did_key_decode(text, back), 0);
        assert_memory_equal(key, back, 32);
        text[strlen(text) - 1] = 0;
        assert_int_equal(cal_did_key_decode(text, back), CAL_EDECODE);
        seen++;
    }
    assert_true(seen > 0);
    uint8_t back[32];
    assert_int_equal(cal_did_key_decode("did:key:m", back), CAL_EDECODE);
    /* Keys of other kinds: X25519, and one that differs in the second byte of the prefix. */
    static const uint8_t kinds[][2] = {{0xED, 0x01}, {0xEC, 0x01}, {0xED, 0x02}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        uint8_t bytes[34] = {kinds[i][0], kinds[i][1], 7};
        char text[CAL_DID_KEY_MAX] = "did:key:z";
        assert_int_equal(cal_base58_encode(cal_slice_of(bytes, sizeof bytes), text + strlen(text),
                                           sizeof text - strlen(text)),
                         0);
        assert_int_equal(cal_did_key_decode(text, back), i ? CAL_EDECODE : 0);
    }
    yyjson_doc_free(doc);
}

static void test_varint(void **state) {
    (void)state;
    const uint64_t values[] = {0, 1, 127, 128, 300, 1ull << 32, UINT64_MAX};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        cal_buffer out;
        cal_buffer_init(&out, 16);
        assert_int_equal(cal_varint_append(&out, values[i]), 0);
        uint64_t value = 7;
        size_t len = 0;
        assert_int_equal(cal_varint_decode(cal_buffer_slice(&out), &value, &len), 0);
        assert_true(value == values[i] && len == out.len);
        for (size_t cut = 0; cut < out.len; cut++)
            assert_int_equal(cal_varint_decode(cal_slice_of(out.data, cut), &value, &len),
                             CAL_ESTATE);
        cal_buffer_deinit(&out);
    }
    uint64_t value;
    size_t len;
    assert_int_equal(cal_varint_decode(cal_slice_of("\x80\0", 2), &value, &len), CAL_EDECODE);
    assert_int_equal(
        cal_varint_decode(cal_slice_text("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), &value, &len),
        CAL_EDECODE);
    assert_int_equal(
        cal_varint_decode(cal_slice_text("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), &value,
                          &len),
        CAL_EDECODE);
}

static void test_borsh(void **state) {
    (void)state;
    cal_buffer out;
    cal_buffer_init(&out, 256);
    cal_buffer_append_u8(&out, 7);
    cal_borsh_put_u16(&out, 0x1234);
    cal_buffer_append_u32le(&out, 0xdeadbeef);
    cal_buffer_append_u64le(&out, UINT64_MAX - 1);
    cal_borsh_put_u128(&out, (cal_u128){.low = 1, .high = 2});
    cal_borsh_put_bool(&out, true);
    cal_borsh_put_bytes(&out, cal_slice_text("text"));
    cal_borsh_put_bytes(&out, cal_slice_of("\xff", 1));
    for (size_t cut = 0; cut <= out.len; cut++) {
        cal_borsh in = cal_borsh_read(cal_slice_of(out.data, cut));
        uint8_t a = cal_borsh_u8(&in);
        uint16_t b = cal_borsh_u16(&in);
        uint32_t c = cal_borsh_u32(&in);
        uint64_t d = cal_borsh_u64(&in);
        cal_u128 e = cal_borsh_u128(&in);
        bool f = cal_borsh_bool(&in);
        cal_slice text = cal_borsh_text(&in, 4), bytes = cal_borsh_bytes(&in, 1);
        if (cut < out.len) {
            assert_int_equal(cal_borsh_end(&in), CAL_EDECODE);
            continue;
        }
        assert_int_equal(cal_borsh_end(&in), 0);
        assert_true(a == 7 && b == 0x1234 && c == 0xdeadbeef && d == UINT64_MAX - 1 && e.low == 1 &&
                    e.high == 2 && f);
        assert_true(cal_slice_equal(text, cal_slice_text("text")));
        assert_int_equal(bytes.len, 1);
    }
    cal_buffer_deinit(&out);
}

static void test_borsh_refusals(void **state) {
    (void)state;
    cal_borsh in = cal_borsh_read(cal_slice_of("\x02", 1));
    cal_borsh_bool(&in);
    assert_int_equal(cal_borsh_end(&in), CAL_EDECODE);
    in = cal_borsh_read(cal_slice_of("\x01\0\0\0\xff", 5));
    cal_borsh_text(&in, 9);
    assert_int_equal(cal_borsh_end(&in), CAL_EDECODE);
    in = cal_borsh_read(cal_slice_of("\x02\0\0\0ab", 6));
    cal_borsh_bytes(&in, 1);
    assert_int_equal(cal_borsh_end(&in), CAL_ELIMIT);
    in = cal_borsh_read(cal_slice_of("\xff\xff\xff\xff", 4));
    assert_int_equal(cal_borsh_count(&in, UINT32_MAX, 32), 0);
    assert_int_equal(cal_borsh_end(&in), CAL_EDECODE);
    in =
        cal_borsh_read(cal_slice_of("\x02\0\0\0abc", 7)); /* as many bytes as items, not for them */
    assert_int_equal(cal_borsh_count(&in, UINT32_MAX, 2), 0);
    assert_int_equal(cal_borsh_end(&in), CAL_EDECODE);
    in = cal_borsh_read(cal_slice_of("\x02\0\0\0abcd", 8));
    assert_int_equal(cal_borsh_count(&in, UINT32_MAX, 2), 2);
    in = cal_borsh_read(cal_slice_of("ab", 2));
    cal_borsh_u8(&in);
    assert_int_equal(cal_borsh_end(&in), CAL_EDECODE);
    in = cal_borsh_read((cal_slice){0});
    uint8_t fixed[4] = {1, 2, 3, 4};
    cal_borsh_fixed(&in, fixed, 4);
    assert_memory_equal(fixed, "\0\0\0\0", 4);
    assert_int_equal(cal_borsh_u8(&in), 0);
    assert_int_equal(cal_borsh_end(&in), CAL_EDECODE);
}

static void test_utf8(void **state) {
    (void)state;
    const char *good[] = {"",
                          "a",
                          "\xc2\x80",
                          "\xe0\xa0\x80",
                          "\xed\x9f\xbf",
                          "\xee\x80\x80",
                          "\xf0\x90\x80\x80",
                          "\xf4\x8f\xbf\xbf"};
    const char *bad[] = {"\x80",
                         "\xc0\x80",
                         "\xc1\xbf",
                         "\xe0\x9f\xbf",
                         "\xed\xa0\x80",
                         "\xf0\x8f\xbf\xbf",
                         "\xf4\x90\x80\x80",
                         "\xf5\x80\x80\x80",
                         "\xe2\x82",
                         "a\xc2",
                         "\xe2\x28\xa1",
                         "\xff"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(cal_utf8_valid(cal_slice_text(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(cal_utf8_valid(cal_slice_text(bad[i])));
    assert_true(cal_utf8_valid(cal_slice_of("a\0b", 3)));
}

static bool unsigned_part(cal_slice name) {
    return !cal_slice_equal(name, cal_slice_text("signature")) &&
           !(name.len && name.data[0] == '_');
}

static void check_manifest(yyjson_val *item, const char *text, const char *expected) {
    cal_buffer out;
    cal_buffer_init(&out, 1 << 20);
    yyjson_doc *manifest = yyjson_read(text, strlen(text), 0);
    assert_non_null(manifest);
    assert_int_equal(cal_jcs_write(yyjson_doc_get_root(manifest), unsigned_part, &out), 0);
    golden_equal(cal_buffer_slice(&out), item, expected);
    yyjson_doc_free(manifest);
    cal_buffer_deinit(&out);
}

static void test_jcs_manifests(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("bundle.json");
    yyjson_val *item;
    size_t index = 0, seen = 0;
    while ((item = golden_next(yyjson_doc_get_root(doc), "manifest/", &index))) {
        check_manifest(
            item, yyjson_get_str(yyjson_obj_get(yyjson_obj_get(item, "inputs"), "manifest_text")),
            "canonical_unsigned");
        check_manifest(item, yyjson_get_str(yyjson_obj_get(item, "signed_manifest_text")),
                       "canonical");
        seen++;
    }
    assert_int_equal(seen, 4);
    yyjson_doc_free(doc);
}

static int jcs(const char *text, char *ret_text, size_t size) {
    cal_buffer out;
    cal_buffer_init(&out, size - 1);
    yyjson_doc *doc = yyjson_read(text, strlen(text), YYJSON_READ_ALLOW_INF_AND_NAN);
    assert_non_null(doc);
    int result = cal_jcs_write(yyjson_doc_get_root(doc), NULL, &out);
    if (!result) snprintf(ret_text, size, "%s", cal_buffer_cstr(&out));
    yyjson_doc_free(doc);
    cal_buffer_deinit(&out);
    return result;
}

/* RFC 8785, appendix B and 3.2.3. */
static void test_jcs_values(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"0", "0"},
        {"-0.0", "0"},
        {"5e-324", "5e-324"},
        {"-5e-324", "-5e-324"},
        {"1.7976931348623157e308", "1.7976931348623157e+308"},
        {"9007199254740992", "9007199254740992"},
        {"295147905179352830000", "295147905179352830000"},
        {"9.999999999999997e22", "9.999999999999997e+22"},
        {"1e23", "1e+23"},
        {"1e21", "1e+21"},
        {"1e20", "100000000000000000000"},
        {"0.000001", "0.000001"},
        {"9.999999999999997e-7", "9.999999999999997e-7"},
        {"1e-7", "1e-7"},
        {"333333333.33333329", "333333333.3333333"},
        {"4.50", "4.5"},
        {"2e-3", "0.002"},
        {"0.000000000000000000000000001", "1e-27"},
        {"123.456e5", "12345600"},
        {"-1.5", "-1.5"},
        {"{\"b\":[1,{}],\"a\":null}", "{\"a\":null,\"b\":[1,{}]}"},
        {"[]", "[]"},
        {"\"\\u007f\\/\\u2028\"", "\"\x7f/\xe2\x80\xa8\""},
    };
    char text[256];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(jcs(cases[i][0], text, sizeof text), 0);
        assert_string_equal(text, cases[i][1]);
    }
    assert_int_equal(jcs("{\"a\":1,\"a\":2}", text, sizeof text), CAL_EDECODE);
    assert_int_equal(jcs("[NaN]", text, sizeof text), CAL_EDECODE);
    assert_int_equal(jcs("[\"0123456789\"]", text, 8), CAL_ELIMIT);
    for (size_t extra = 0; extra < 2; extra++) { /* levels below the outermost value */
        char deep[512] = {0}, back[512];
        size_t levels = 129 + extra;
        memset(deep, '[', levels);
        memset(deep + levels, ']', levels);
        assert_int_equal(jcs(deep, back, sizeof back), extra ? CAL_ELIMIT : 0);
    }
}

/* Names go by UTF-16 code units, in whatever order they come: characters beyond U+FFFF stand
 * before U+E000. */
static void test_jcs_order(void **state) {
    (void)state;
    static const char *const sorted[] = {
        "",
        "\x7f",
        "\xc3\xbf",
        "\xed\x9f\xbf",
        "\xf0\x90\x80\x80",
        "\xf4\x8f\xbf\xbf",
        "\xee\x80\x80",
        "\xef\xbf\xbd",
        "\xef\xbf\xbd\xf0\x90\x80\x80",
    };
    enum { COUNT = sizeof sorted / sizeof *sorted };
    char text[256], both[2][128];
    for (int i = 0; i < COUNT; i++)
        for (int j = i + 1; j < COUNT; j++)
            for (int turn = 0; turn < 2; turn++) {
                const char *first = sorted[turn ? j : i], *second = sorted[turn ? i : j];
                snprintf(both[0], sizeof both[0], "{\"%s\":1,\"%s\":1}", first, second);
                snprintf(both[1], sizeof both[1], "{\"%s\":1,\"%s\":1}", sorted[i], sorted[j]);
                assert_int_equal(jcs(both[0], text, sizeof text), 0);
                assert_string_equal(text, both[1]);
            }
}

static bool not_x(cal_slice name) { return !cal_slice_equal(name, cal_slice_text("x")); }

/* What is left out is left out at the top alone. */
static void test_jcs_keep(void **state) {
    (void)state;
    static const char json[] = "{\"x\":1,\"a\":{\"x\":2},\"b\":[{\"x\":3}]}";
    cal_buffer out;
    cal_buffer_init(&out, 256);
    yyjson_doc *doc = yyjson_read(json, strlen(json), 0);
    assert_int_equal(cal_jcs_write(yyjson_doc_get_root(doc), not_x, &out), 0);
    assert_string_equal(cal_buffer_cstr(&out), "{\"a\":{\"x\":2},\"b\":[{\"x\":3}]}");
    yyjson_doc_free(doc);
    cal_buffer_deinit(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hex),        cmocka_unit_test(test_base58),
        cmocka_unit_test(test_ids),        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_did_key),    cmocka_unit_test(test_varint),
        cmocka_unit_test(test_borsh),      cmocka_unit_test(test_borsh_refusals),
        cmocka_unit_test(test_utf8),       cmocka_unit_test(test_jcs_manifests),
        cmocka_unit_test(test_jcs_values), cmocka_unit_test(test_jcs_order),
        cmocka_unit_test(test_jcs_keep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
