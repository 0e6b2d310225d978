/* The hot-entity cache: what it may answer, and when it must not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "context/cache.h"

static cal_slice text(const char *s) { return cal_slice_text(s); }

static int get(cal_context_cache *cache, uint64_t version, const char *key, char *ret_value) {
    cal_buffer value;
    cal_buffer_init(&value, 100);
    int rc = cal_context_cache_get(cache, version, text(key), &value);
    if (rc == 1) snprintf(ret_value, 100, "%.*s", (int)value.len, (const char *)value.data);
    cal_buffer_deinit(&value);
    return rc;
}

static void answers_only_for_its_version(void **state) {
    (void)state;
    cal_context_cache *cache = cal_context_cache_new(100000, 7);
    uint64_t version = cal_context_cache_version(cache);
    char value[100];
    assert_int_equal(get(cache, version, "a", value), CAL_CACHE_UNKNOWN);
    cal_slice one = text("1");
    cal_context_cache_add(cache, version, text("a"), &one);
    cal_context_cache_add(cache, version, text("b"), NULL);
    assert_int_equal(get(cache, version, "a", value), 1);
    assert_string_equal(value, "1");
    assert_int_equal(get(cache, version, "b", value), 0);
    assert_int_equal(get(cache, version + 1, "a", value), CAL_CACHE_UNKNOWN);
    cal_context_cache_free(cache);
}

static void is_closed_while_a_commit_is_on_its_way(void **state) {
    (void)state;
    cal_context_cache *cache = cal_context_cache_new(100000, 7);
    uint64_t version = cal_context_cache_version(cache);
    char value[100];
    cal_slice one = text("1"), two = text("2");
    cal_context_cache_add(cache, version, text("a"), &one);
    cal_context_cache_commit_begin(cache);
    assert_true(cal_context_cache_version(cache) == CAL_CACHE_NONE);
    assert_int_equal(get(cache, version, "a", value), CAL_CACHE_UNKNOWN);
    assert_int_equal(get(cache, version + 1, "a", value), CAL_CACHE_UNKNOWN); /* nor is it that */
    cal_context_cache_add(cache, version, text("a"),
                          &one); /* a late reader of the old version changes nothing */
    cal_context_cache_commit_put(cache, text("a"), cal_row_new(&two));
    cal_context_cache_commit_end(cache);
    assert_int_equal(get(cache, version, "a", value), CAL_CACHE_UNKNOWN);
    assert_int_equal(get(cache, cal_context_cache_version(cache), "a", value), 1);
    assert_string_equal(value, "2");
    cal_context_cache_free(cache);
}

static void forgets_what_is_not_used(void **state) {
    (void)state;
    cal_context_cache *cache = cal_context_cache_new(20000, 7);
    uint64_t version = cal_context_cache_version(cache);
    char key[20], value[100];
    cal_slice one = text("1");
    cal_context_cache_add(cache, version, text("hot"), &one);
    for (int i = 0; i < 10000; i++) {
        snprintf(key, sizeof key, "%d", i);
        cal_context_cache_add(cache, version, text(key), &one);
        assert_int_equal(get(cache, version, "hot", value), 1);
        assert_true(cal_context_cache_bytes(cache) <= 20000);
    }
    assert_int_equal(get(cache, version, "0", value), CAL_CACHE_UNKNOWN);
    cal_context_cache_free(cache);
}

static void counts_what_it_holds(void **state) {
    (void)state;
    cal_context_cache *cache = cal_context_cache_new(100000, 7);
    uint64_t version = cal_context_cache_version(cache);
    cal_slice one = text("1");
    cal_context_cache_add(cache, version, text("a"), &one);
    size_t bytes = cal_context_cache_bytes(cache);
    for (int i = 0; i < 100; i++) cal_context_cache_add(cache, version, text("a"), &one);
    assert_true(bytes > 0 && cal_context_cache_bytes(cache) == bytes);
    cal_context_cache_clear(cache);
    assert_int_equal(cal_context_cache_bytes(cache), 0);
    cal_context_cache_free(cache);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_only_for_its_version),
        cmocka_unit_test(is_closed_while_a_commit_is_on_its_way),
        cmocka_unit_test(forgets_what_is_not_used),
        cmocka_unit_test(counts_what_it_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
