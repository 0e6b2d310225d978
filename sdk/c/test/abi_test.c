/* The ABI section of C applications, as the node reads it (runtime-abi.md 24). */
#include "golden.h"

#include "app/app.h"

static cal_slice read_module(const char *name) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s.wasm", CAL_APPS_DIR, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    uint8_t *bytes = malloc(1 << 20);
    assert_non_null(bytes);
    size_t len = fread(bytes, 1, 1 << 20, file);
    fclose(file);
    return cal_slice_of(bytes, len);
}

static void check_module(const char *name, size_t methods, size_t views) {
    cal_slice wasm = read_module(name);
    cal_abi abi;
    assert_int_equal(cal_abi_read(wasm, &abi), 0);
    assert_int_equal(abi.status, CAL_ABI_SUPPORTED);
    assert_int_equal(abi.method_count, methods);
    size_t seen = 0;
    for (size_t i = 0; i < abi.method_count; i++) {
        assert_int_not_equal(abi.methods[i].intent, CAL_INTENT_UNSPECIFIED);
        if (abi.methods[i].intent == CAL_INTENT_READ_ONLY) seen++;
    }
    assert_int_equal(seen, views);
    assert_true(wasm.len < 100 * 1024);
    cal_abi_deinit(&abi);
    golden_free(wasm);
}

static void test_modules(void **state) {
    (void)state;
    check_module("kv-store", 11, 5);
    check_module("counter", 7, 2);
    check_module("test-collections", 22, 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_modules)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
