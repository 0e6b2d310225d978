/* Reading the JSON files of tests/vectors in unit tests: byte strings are hex, numbers beyond 2^53
 * decimal strings. Fails the test (or stops it, outside one) on anything missing. */
#ifndef CAL_TESTS_GOLDEN_H
#define CAL_TESTS_GOLDEN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <yyjson.h>

#include "base/bytes.h"

static inline yyjson_doc *golden_load(const char *file) {
    char path[1024];
    snprintf(path, sizeof path, "%s/tests/vectors/%s", CAL_SOURCE_DIR, file);
    yyjson_doc *doc = yyjson_read_file(path, 0, NULL, NULL);
    assert_non_null(doc);
    return doc;
}

/* Walks the cases whose name starts with prefix: golden_next(root, "ed25519/", &index). */
static inline yyjson_val *golden_next(yyjson_val *root, const char *prefix, size_t *index) {
    while (*index < yyjson_arr_size(root)) {
        yyjson_val *item = yyjson_arr_get(root, (*index)++);
        const char *name = yyjson_get_str(yyjson_obj_get(item, "name"));
        if (name && strncmp(name, prefix, strlen(prefix)) == 0) return item;
    }
    return NULL;
}

static inline yyjson_val *golden_find(yyjson_val *root, const char *name) {
    size_t index = 0;
    yyjson_val *item;
    while ((item = golden_next(root, name, &index)))
        if (strcmp(yyjson_get_str(yyjson_obj_get(item, "name")), name) == 0) return item;
    fail_msg("no recorded case %s", name);
    return NULL;
}

static inline const char *golden_name(yyjson_val *item) {
    const char *name = yyjson_get_str(yyjson_obj_get(item, "name"));
    return name ? name : "(unnamed)";
}

/* The bytes of a hex string; release with free((void *)slice.data). */
static inline cal_slice golden_hex_value(yyjson_val *value) {
    const char *text = yyjson_get_str(value);
    assert_non_null(text);
    size_t len = strlen(text) / 2;
    uint8_t *bytes = malloc(len + 1);
    assert_non_null(bytes);
    for (size_t i = 0; i < len; i++) {
        char pair[3] = {text[2 * i], text[2 * i + 1], 0};
        bytes[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    return cal_slice_of(bytes, len);
}

static inline cal_slice golden_hex(yyjson_val *item, const char *key) {
    return golden_hex_value(yyjson_obj_get(item, key));
}

/* A hex string of exactly len bytes. */
static inline void golden_bytes(yyjson_val *item, const char *key, void *ret_bytes, size_t len) {
    cal_slice bytes = golden_hex(item, key);
    assert_int_equal(bytes.len, len);
    memcpy(ret_bytes, bytes.data, len);
    free((void *)(uintptr_t)bytes.data);
}

static inline void golden_equal(cal_slice actual, yyjson_val *item, const char *key) {
    cal_slice expected = golden_hex(item, key);
    if (actual.len != expected.len) {
        fprintf(stderr, "%s: %zu bytes, expected %zu\n",
                golden_name(item) ? golden_name(item) : key, actual.len, expected.len);
    }
    assert_int_equal(actual.len, expected.len);
    if (actual.len) assert_memory_equal(actual.data, expected.data, actual.len);
    free((void *)(uintptr_t)expected.data);
}

static inline uint64_t golden_u64(yyjson_val *item, const char *key) {
    yyjson_val *value = yyjson_obj_get(item, key);
    if (yyjson_is_str(value)) return strtoull(yyjson_get_str(value), NULL, 10);
    return yyjson_get_uint(value);
}

static inline void golden_free(cal_slice bytes) { free((void *)(uintptr_t)bytes.data); }

#endif
