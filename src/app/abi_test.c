/* The embedded ABI: what is read from a sound one, and that anything unsound counts as absent. */
#include "app/testing.h"

#define HEAD "{\"schema_version\":\"wasm-abi/1\","
#define EMPTY "\"types\":{},\"methods\":[],\"events\":[]}"

static cal_abi_status status_of(const char *json) {
    cal_abi abi;
    char reason[CAL_ERROR_MESSAGE_MAX];
    assert_int_equal(cal_abi_parse(cal_slice_text(json), &abi, reason), 0);
    cal_abi_status status = abi.status;
    assert_true((status == CAL_ABI_SUPPORTED) == (reason[0] == '\0'));
    cal_abi_deinit(&abi);
    return status;
}

static const char sample[] =
    "{\"schema_version\":\"wasm-abi/"
    "1.2\",\"types\":{\"A\":{\"kind\":\"record\",\"fields\":[{\"name\":\"x\",\"type\":"
    "{\"kind\":\"map\",\"key\":\"string\",\"value\":{\"$ref\":\"B\"},\"crdt_type\":\"unordered_"
    "map\"}}]},"
    "\"B\":{\"kind\":\"variant\",\"variants\":[{\"name\":\"V\",\"payload\":{\"kind\":\"bytes\","
    "\"size\":32}}]},"
    "\"C\":{\"kind\":\"alias\",\"target\":{\"kind\":\"list\",\"items\":{\"kind\":\"tuple\","
    "\"elements\":[{\"kind\":\"u64\"},{\"$ref\":\"A\"}]}}}},"
    "\"methods\":[{\"name\":\"get\",\"params\":[{\"name\":\"k\",\"type\":{\"kind\":\"string\"},"
    "\"nullable\":true}],"
    "\"returns\":{\"$ref\":\"A\"},\"intent\":\"read_only\"},"
    "{\"name\":\"set\",\"params\":[],\"intent\":\"mutating\",\"xcall_callable\":true,\"xcall_"
    "callers\":\"same_app\"},"
    "{\"name\":\"zap\",\"params\":[],\"errors\":[{\"code\":\"E\"}]}],"
    "\"events\":[{\"name\":\"E\",\"payload\":{\"$ref\":\"B\"}},{\"name\":\"F\"}],"
    "\"state_root\":\"A\",\"state_version\":3,\"migrations\":[{\"method\":\"up\",\"fromVersion\":2}"
    "],\"later\":[1]}";

static void reads_all_of_it(void **state) {
    (void)state;
    cal_abi abi;
    char reason[CAL_ERROR_MESSAGE_MAX];
    assert_int_equal(cal_abi_parse(cal_slice_text(sample), &abi, reason), 0);
    assert_string_equal(reason, "");
    assert_int_equal(abi.status, CAL_ABI_SUPPORTED);
    assert_string_equal(abi.schema_version, "wasm-abi/1.2");
    assert_int_equal(abi.method_count, 3);
    assert_int_equal(abi.state_version, 3);
    assert_true(abi.gates_xcalls);
    assert_int_equal(abi.migration_count, 1);
    assert_string_equal(abi.migrations[0].method, "up");
    assert_int_equal(abi.migrations[0].from_version, 2);
    assert_int_equal(cal_abi_find(&abi, "get")->intent, CAL_INTENT_READ_ONLY);
    assert_false(cal_abi_find(&abi, "get")->xcall_callable);
    assert_int_equal(cal_abi_find(&abi, "set")->intent, CAL_INTENT_MUTATING);
    assert_true(cal_abi_find(&abi, "set")->xcall_same_app);
    assert_int_equal(cal_abi_find(&abi, "zap")->intent, CAL_INTENT_UNSPECIFIED);
    assert_null(cal_abi_find(&abi, "a"));
    assert_null(cal_abi_find(&abi, "zz"));
    assert_true(cal_slice_equal(abi.json, cal_slice_text(sample)));
    cal_abi_deinit(&abi);
    cal_abi_deinit(&abi);
}

#define TYPES(t) HEAD "\"types\":{" t "},\"methods\":[],\"events\":[]}"
#define FIELD(t) TYPES("\"A\":{\"kind\":\"record\",\"fields\":[{\"name\":\"x\",\"type\":" t "}]}")
#define METHODS(m) HEAD "\"types\":{},\"methods\":[" m "],\"events\":[]}"
#define EVENTS(e) HEAD "\"types\":{},\"methods\":[],\"events\":[" e "]}"

static void unsound_is_absent(void **state) {
    (void)state;
    static const struct {
        const char *json;
        cal_abi_status status;
    } cases[] = {
        {HEAD EMPTY, CAL_ABI_SUPPORTED},
        {"", CAL_ABI_ABSENT},
        {"null", CAL_ABI_ABSENT},
        {"{" EMPTY, CAL_ABI_ABSENT},
        {"{\"schema_version\":\"wasm-abi/2\"," EMPTY, CAL_ABI_UNSUPPORTED},
        {"{\"schema_version\":\"wasm-abi/2\"}", CAL_ABI_UNSUPPORTED},
        {"{\"schema_version\":\"wasm-abi/0\"}", CAL_ABI_UNSUPPORTED},
        {"{\"schema_version\":\"wasm-abi/1.9\"," EMPTY, CAL_ABI_SUPPORTED},
        {"{\"schema_version\":\"wasm-abi/\"," EMPTY, CAL_ABI_ABSENT},
        {"{\"schema_version\":\"wasm-abi/1x\"," EMPTY, CAL_ABI_ABSENT},
        {"{\"schema_version\":\"abi/1\"," EMPTY, CAL_ABI_ABSENT},
        {"{\"schema_version\":\"wasm-abi/99999999999\"," EMPTY, CAL_ABI_ABSENT},
        {HEAD "\"methods\":[],\"events\":[]}", CAL_ABI_ABSENT},
        {HEAD "\"types\":{},\"events\":[]}", CAL_ABI_ABSENT},
        {HEAD "\"types\":{},\"methods\":[]}", CAL_ABI_ABSENT},
        {HEAD "\"types\":{},\"types\":{},\"methods\":[],\"events\":[]}", CAL_ABI_ABSENT},
        {METHODS("{\"name\":\"a\",\"params\":[]},{\"name\":\"b\",\"params\":[]}"),
         CAL_ABI_SUPPORTED},
        {METHODS("{\"name\":\"a\",\"params\":[]},{\"name\":\"a\",\"params\":[]}"),
         CAL_ABI_SUPPORTED},
        {METHODS("{\"name\":\"b\",\"params\":[]},{\"name\":\"a\",\"params\":[]}"), CAL_ABI_ABSENT},
        {METHODS("{\"name\":\"a\"}"), CAL_ABI_ABSENT},
        {METHODS("{\"params\":[]}"), CAL_ABI_ABSENT},
        {METHODS("{\"name\":\"a\",\"params\":[],\"intent\":\"other\"}"), CAL_ABI_ABSENT},
        {METHODS("{\"name\":\"a\",\"params\":[],\"intent\":null}"), CAL_ABI_ABSENT},
        {METHODS("{\"name\":\"a\",\"params\":[],\"xcall_callable\":1}"), CAL_ABI_ABSENT},
        {METHODS("{\"name\":\"a\",\"params\":[],\"xcall_callers\":\"nobody\"}"), CAL_ABI_ABSENT},
        {METHODS("{\"name\":\"a\",\"params\":[],\"returns\":{\"$ref\":\"X\"}}"), CAL_ABI_ABSENT},
        {METHODS("{\"name\":\"a\",\"params\":[],\"returns\":null}"), CAL_ABI_SUPPORTED},
        {EVENTS("{\"name\":\"b\"},{\"name\":\"a\"}"), CAL_ABI_ABSENT},
        {EVENTS("{\"name\":\"a\",\"payload\":{\"$ref\":\"X\"}}"), CAL_ABI_ABSENT},
        {EVENTS("{\"name\":\"a\",\"payload\":{\"kind\":\"bytes\",\"size\":0}}"), CAL_ABI_SUPPORTED},
        {FIELD("{\"kind\":\"bytes\",\"size\":0}"), CAL_ABI_ABSENT},
        {FIELD("{\"kind\":\"bytes\",\"size\":1}"), CAL_ABI_SUPPORTED},
        {FIELD("{\"kind\":\"bytes\",\"size\":-1}"), CAL_ABI_ABSENT},
        {FIELD("{\"kind\":\"map\",\"key\":{\"kind\":\"u32\"},\"value\":{\"kind\":\"u32\"}}"),
         CAL_ABI_ABSENT},
        {FIELD("{\"kind\":\"map\",\"key\":{\"kind\":\"string\"},\"value\":{\"kind\":\"u32\"}}"),
         CAL_ABI_SUPPORTED},
        {FIELD("{\"kind\":\"map\",\"key\":\"u32\",\"value\":{\"kind\":\"u32\"}}"), CAL_ABI_ABSENT},
        {FIELD("{\"kind\":\"list\"}"), CAL_ABI_ABSENT},
        {FIELD("{\"kind\":\"i128\"}"), CAL_ABI_ABSENT},
        {FIELD("\"u32\""), CAL_ABI_ABSENT},
        {FIELD("{\"kind\":\"record\",\"fields\":[],\"crdt_type\":\"lww_register\",\"inner_type\":{"
               "\"$ref\":\"A\"}}"),
         CAL_ABI_SUPPORTED},
        {FIELD("{\"kind\":\"record\",\"fields\":[],\"crdt_type\":\"lww_register\",\"inner_type\":{"
               "\"$ref\":\"Z\"}}"),
         CAL_ABI_ABSENT},
        {FIELD("{\"kind\":\"record\",\"fields\":[],\"crdt_type\":\"other\"}"), CAL_ABI_ABSENT},
        {TYPES("\"A\":{\"kind\":\"alias\"}"), CAL_ABI_ABSENT},
        {TYPES("\"A\":{\"kind\":\"variant\",\"variants\":[{\"name\":\"x\",\"code\":1}]}"),
         CAL_ABI_ABSENT},
        {HEAD "\"state_version\":4294967295," EMPTY, CAL_ABI_SUPPORTED},
        {HEAD "\"state_version\":4294967296," EMPTY, CAL_ABI_ABSENT},
        {HEAD "\"state_version\":null," EMPTY, CAL_ABI_SUPPORTED},
        {HEAD "\"migrations\":[{\"method\":\"m\",\"from_version\":1}]," EMPTY, CAL_ABI_ABSENT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (status_of(cases[i].json) != cases[i].status) fail_msg("%s", cases[i].json);
}

static void add_section(cal_buffer *wasm, const char *name, const char *json) {
    size_t len = 1 + strlen(name) + strlen(json);
    assert_true(strlen(name) < 128 && len < 128 * 128);
    cal_buffer_append_u8(wasm, 0);
    cal_buffer_append_u8(wasm, (uint8_t)(0x80 | (len & 0x7f)));
    cal_buffer_append_u8(wasm, (uint8_t)(len >> 7));
    cal_buffer_append_u8(wasm, (uint8_t)strlen(name));
    cal_buffer_append_text(wasm, name);
    cal_buffer_append_text(wasm, json);
}

static cal_abi_status module_status(const char *const *sections, size_t cut,
                                    uint32_t *ret_state_version) {
    cal_buffer wasm;
    cal_buffer_init(&wasm, 1 << 20);
    cal_buffer_append(&wasm, "\0asm\1\0\0\0", 8);
    add_section(&wasm, "name", "x");
    for (; *sections; sections++) add_section(&wasm, "calimero_abi_v1", *sections);
    cal_abi abi;
    assert_int_equal(cal_abi_read(cal_slice_of(wasm.data, wasm.len - cut), &abi), 0);
    cal_abi_status status = abi.status;
    *ret_state_version = abi.state_version;
    cal_abi_deinit(&abi);
    cal_buffer_deinit(&wasm);
    return status;
}

static void last_supported_section_wins(void **state) {
    (void)state;
    static const char one[] = HEAD "\"state_version\":1," EMPTY,
                      two[] = HEAD "\"state_version\":2," EMPTY,
                      newer[] = "{\"schema_version\":\"wasm-abi/2\"}", broken[] = "{";
    static const struct {
        const char *sections[5];
        size_t cut;
        cal_abi_status status;
        uint32_t version;
    } cases[] = {
        {{NULL}, 0, CAL_ABI_ABSENT, 0},
        {{one, NULL}, 0, CAL_ABI_SUPPORTED, 1},
        {{one, two, NULL}, 0, CAL_ABI_SUPPORTED, 2},
        {{two, one, NULL}, 0, CAL_ABI_SUPPORTED, 1},
        {{one, newer, NULL}, 0, CAL_ABI_SUPPORTED, 1},
        {{newer, one, broken, NULL}, 0, CAL_ABI_SUPPORTED, 1},
        {{newer, broken, NULL}, 0, CAL_ABI_UNSUPPORTED, 0},
        {{broken, NULL}, 0, CAL_ABI_ABSENT, 0},
        {{one, NULL}, 1, CAL_ABI_ABSENT, 0},
        {{one, two, NULL}, 1, CAL_ABI_SUPPORTED, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t version = 9;
        cal_abi_status status = module_status(cases[i].sections, cases[i].cut, &version);
        if (status != cases[i].status ||
            version != (status == CAL_ABI_SUPPORTED ? cases[i].version : 0))
            fail_msg("case %zu: %d, version %u", i, status, version);
    }
    cal_abi abi;
    assert_int_equal(cal_abi_read((cal_slice){0}, &abi), 0);
    assert_int_equal(abi.status, CAL_ABI_ABSENT);
    assert_int_equal(cal_abi_read(cal_slice_text("not wasm at all"), &abi), 0);
    assert_int_equal(abi.status, CAL_ABI_ABSENT);
}

static void nesting_is_bounded(void **state) {
    (void)state;
    cal_buffer json;
    cal_buffer_init(&json, 1 << 20);
    for (size_t extra = 0; extra < 2;
         extra++) { /* each list is one level; four stand around them */
        size_t levels = APP_JSON_DEPTH_MAX - 3 + extra;
        cal_buffer_reset(&json);
        cal_buffer_append_text(&json, HEAD "\"types\":{\"A\":{\"kind\":\"alias\",\"target\":");
        for (size_t i = 0; i + 1 < levels; i++)
            cal_buffer_append_text(&json, "{\"kind\":\"list\",\"items\":");
        cal_buffer_append_text(&json, "{\"kind\":\"u8\"}");
        json.len -= 3;
        cal_buffer_append_text(&json, "32\"}");
        for (size_t i = 0; i + 1 < levels; i++) cal_buffer_append_u8(&json, '}');
        cal_buffer_append_text(&json, "}},\"methods\":[],\"events\":[]}");
        assert_int_equal(status_of(cal_buffer_cstr(&json)),
                         extra ? CAL_ABI_ABSENT : CAL_ABI_SUPPORTED);
    }
    cal_buffer_deinit(&json);
}

/* The section's size, its number in a module, and a state version beyond 32 bits. */
static void sizes_are_bounded(void **state) {
    (void)state;
    cal_buffer text, wasm;
    cal_buffer_init(&text, CAL_ABI_SECTION_MAX + 2);
    for (size_t extra = 0; extra < 2; extra++) {
        cal_buffer_reset(&text);
        cal_buffer_append_text(&text, HEAD EMPTY);
        while (text.len < CAL_ABI_SECTION_MAX + extra) cal_buffer_append_u8(&text, ' ');
        assert_int_equal(status_of(cal_buffer_cstr(&text)),
                         extra ? CAL_ABI_ABSENT : CAL_ABI_SUPPORTED);
    }
    cal_buffer_deinit(&text);
    static const char section[] = "\x0f"
                                  "calimero_abi_v1" HEAD EMPTY;
    for (unsigned count = 16; count <= 17; count++) {
        cal_buffer_init(&wasm, 1 << 16);
        cal_buffer_append(&wasm, "\0asm\1\0\0\0", 8);
        for (unsigned i = 0; i < count; i++) {
            cal_buffer_append_u8(&wasm, 0);
            cal_buffer_append_u8(&wasm, sizeof section - 1);
            cal_buffer_append(&wasm, section, sizeof section - 1);
        }
        cal_abi abi;
        assert_int_equal(cal_abi_read(cal_buffer_slice(&wasm), &abi), 0);
        assert_int_equal(abi.status, count > 16 ? CAL_ABI_ABSENT : CAL_ABI_SUPPORTED);
        cal_abi_deinit(&abi);
        cal_buffer_deinit(&wasm);
    }
    assert_int_equal(status_of(HEAD "\"state_version\":4294967295," EMPTY), CAL_ABI_SUPPORTED);
    assert_int_equal(status_of(HEAD "\"state_version\":4294967296," EMPTY), CAL_ABI_ABSENT);
}

int main(void) {
    if (cal_crypto_init() != 0) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_all_of_it),
        cmocka_unit_test(unsound_is_absent),
        cmocka_unit_test(last_supported_section_wins),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(sizes_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
