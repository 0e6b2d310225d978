/* Buffer, arena, map, sorted map, list and the error table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/error.h"
#include "base/list.h"
#include "base/map.h"
#include "base/sorted.h"

static void buffer_stops_at_its_maximum(void **state) {
    (void)state;
    cal_buffer buffer;
    cal_buffer_init(&buffer, 4);
    assert_int_equal(cal_buffer_append_text(&buffer, "abcd"), 0);
    assert_int_equal(cal_buffer_append_u8(&buffer, 'e'), CAL_ELIMIT);
    assert_int_equal(buffer.len, 4);
    assert_int_equal(cal_buffer_append(&buffer, "", 0), CAL_ELIMIT); /* the failure sticks */
    cal_buffer_reset(&buffer);
    assert_int_equal(cal_buffer_printf(&buffer, "%d", 1234), 0);
    assert_string_equal(cal_buffer_cstr(&buffer), "1234");
    cal_buffer_consume(&buffer, 3);
    assert_memory_equal(buffer.data, "4", 1);
    cal_buffer_deinit(&buffer);
}

/* What came too late leaves a hole: nothing after it may close it. */
static void buffer_failure_sticks(void **state) {
    (void)state;
    cal_buffer buffer;
    cal_buffer_init(&buffer, 4);
    assert_int_equal(cal_buffer_append_text(&buffer, "ab"), 0);
    assert_int_equal(cal_buffer_append_text(&buffer, "cde"), CAL_ELIMIT);
    assert_int_equal(cal_buffer_append_u8(&buffer, 'f'), CAL_ELIMIT); /* would fit */
    assert_int_equal(cal_buffer_printf(&buffer, "g"), CAL_ELIMIT);
    assert_null(cal_buffer_reserve(&buffer, 1));
    assert_int_equal(buffer.len, 2);
    cal_buffer_reset(&buffer);
    assert_int_equal(cal_buffer_append_text(&buffer, "abcd"), 0);
    cal_buffer_deinit(&buffer);
}

static void buffer_integers_are_little_endian(void **state) {
    (void)state;
    cal_buffer buffer;
    cal_buffer_init(&buffer, 100);
    cal_buffer_append_u32le(&buffer, 0x01020304u);
    cal_buffer_append_u64le(&buffer, 0x0102030405060708u);
    static const uint8_t expected[] = {4, 3, 2, 1, 8, 7, 6, 5, 4, 3, 2, 1};
    assert_int_equal(buffer.len, sizeof expected);
    assert_memory_equal(buffer.data, expected, sizeof expected);
    size_t len = 0;
    uint8_t *bytes = cal_buffer_detach(&buffer, &len);
    assert_int_equal(len, sizeof expected);
    free(bytes);
    assert_null(buffer.data);
}

static void arena_is_bounded_and_zeroed(void **state) {
    (void)state;
    cal_arena arena;
    cal_arena_init(&arena, 100000);
    uint8_t *small = cal_arena_alloc(&arena, 10);
    for (int i = 0; i < 10; i++) assert_int_equal(small[i], 0);
    assert_non_null(cal_arena_alloc(&arena, 50000)); /* larger than a block */
    assert_null(cal_arena_alloc(&arena, 60000));
    assert_null(cal_arena_alloc_array(&arena, SIZE_MAX / 2, 3));
    assert_string_equal(cal_arena_text(&arena, cal_slice_text("text")), "text");
    cal_arena_deinit(&arena);
}

static void map_keeps_what_is_put(void **state) {
    (void)state;
    enum { COUNT = 5000 };
    static int values[COUNT];
    cal_map map;
    cal_map_init(&map, 42);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(cal_map_put(&map, cal_slice_of(&i, sizeof i), &values[i]), 0);
    for (uint32_t i = 0; i < COUNT; i += 2)
        assert_ptr_equal(cal_map_remove(&map, cal_slice_of(&i, sizeof i)), &values[i]);
    assert_int_equal(map.count, COUNT / 2);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_ptr_equal(cal_map_get(&map, cal_slice_of(&i, sizeof i)), i % 2 ? &values[i] : NULL);
    cal_map_cursor cursor = {0};
    size_t walked = 0;
    void *value;
    while (cal_map_next(&map, &cursor, NULL, &value)) walked++;
    assert_int_equal(walked, COUNT / 2);
    assert_int_equal(cal_map_put(&map, cal_slice_of(NULL, 0), &values[0]),
                     0); /* the empty key is a key */
    assert_ptr_equal(cal_map_get(&map, cal_slice_of(NULL, 0)), &values[0]);
    cal_map_deinit(&map);
}

/* Who does not know the seed cannot choose keys that fall together. */
static void map_seed_decides_where(void **state) {
    (void)state;
    enum { COUNT = 64 };
    cal_map maps[2];
    int differ = 0;
    for (uint64_t i = 0; i < 2; i++) cal_map_init(&maps[i], i * 7 + 1);
    for (uint32_t i = 0; i < COUNT; i++)
        for (int m = 0; m < 2; m++)
            assert_int_equal(cal_map_put(&maps[m], cal_slice_of(&i, sizeof i), maps), 0);
    cal_map_cursor cursors[2] = {{0}, {0}};
    for (uint32_t i = 0; i < COUNT; i++) {
        cal_slice keys[2];
        void *value;
        for (int m = 0; m < 2; m++)
            assert_true(cal_map_next(&maps[m], &cursors[m], &keys[m], &value));
        differ += !cal_slice_equal(keys[0], keys[1]);
    }
    assert_true(differ > COUNT / 2);
    for (int m = 0; m < 2; m++) cal_map_deinit(&maps[m]);
}

static void sorted_map_hands_back_what_it_replaces(void **state) {
    (void)state;
    int one, two;
    void *old = &two;
    cal_sorted map;
    cal_sorted_init(&map);
    assert_int_equal(cal_sorted_put(&map, cal_slice_text("k"), &one, &old), 0);
    assert_null(old);
    assert_int_equal(cal_sorted_put(&map, cal_slice_text("k"), &two, &old), 0);
    assert_ptr_equal(old, &one);
    assert_ptr_equal(cal_sorted_get(&map, cal_slice_text("k")), &two);
    assert_int_equal(map.count, 1);
    assert_ptr_equal(cal_sorted_remove(&map, cal_slice_text("k")), &two);
    cal_sorted_deinit(&map);
}

/* Against a plain table of what is there. */
static void sorted_map_walks_in_byte_order(void **state) {
    (void)state;
    enum { COUNT = 2000 };
    static int present[COUNT];
    cal_sorted map;
    cal_sorted_init(&map);
    uint32_t random = 1;
    for (int i = 0; i < 20000; i++) {
        random = random * 1664525u + 1013904223u;
        uint32_t at = (random >> 8) % COUNT;
        uint8_t key[4];
        cal_write_u32be(key, at);
        if (random & 1) {
            assert_int_equal(cal_sorted_put(&map, cal_slice_of(key, 4), &present[at], NULL), 0);
            present[at] = 1;
        } else {
            assert_int_equal(cal_sorted_remove(&map, cal_slice_of(key, 4)) != NULL, present[at]);
            present[at] = 0;
        }
    }
    uint32_t at = 0;
    for (cal_sorted_node *node = cal_sorted_from(&map, cal_slice_of("", 0)); node;
         node = node->next[0], at++) {
        while (!present[at]) at++;
        assert_int_equal(cal_read_u32be(node->key.data), at);
    }
    uint8_t key[4];
    cal_write_u32be(key, COUNT / 2);
    cal_slice middle = cal_slice_of(key, 4);
    uint32_t below = COUNT / 2 - 1;
    while (!present[below]) below--;
    assert_int_equal(cal_read_u32be(cal_sorted_before(&map, &middle)->key.data), below);
    uint32_t last = COUNT - 1;
    while (!present[last]) last--;
    assert_int_equal(cal_read_u32be(cal_sorted_before(&map, NULL)->key.data), last);
    cal_sorted_deinit(&map);
}

static void lists_are_joined_in_order(void **state) {
    (void)state;
    cal_list list, from, nodes[4];
    cal_list_init(&list);
    cal_list_init(&from);
    cal_list_append(&list, &from);
    assert_true(cal_list_empty(&list));
    for (int i = 0; i < 4; i++) cal_list_push(i < 2 ? &list : &from, &nodes[i]);
    cal_list_append(&list, &from);
    assert_true(cal_list_empty(&from));
    for (int i = 0; i < 4; i++) assert_ptr_equal(cal_list_pop(&list), &nodes[i]);
    assert_true(cal_list_empty(&list));
    cal_list_push(&from, &nodes[0]);
    cal_list_append(&list, &from);
    assert_ptr_equal(cal_list_pop(&list), &nodes[0]);
    assert_null(cal_list_pop(&list));
}

static void list_is_first_in_first_out(void **state) {
    (void)state;
    cal_list list, a, b;
    cal_list_init(&list);
    cal_list_init(&a);
    cal_list_init(&b);
    cal_list_push(&list, &a);
    cal_list_push(&list, &b);
    assert_ptr_equal(cal_list_pop(&list), &a);
    cal_list_remove(&b);
    cal_list_remove(&b); /* harmless */
    assert_null(cal_list_pop(&list));
}

static void errors_say_what_and_why(void **state) {
    (void)state;
    cal_error err;
    assert_int_equal(cal_fail(&err, CAL_ENOTFOUND, "no file %s", "x"), CAL_ENOTFOUND);
    assert_int_equal(cal_fail_context(&err, CAL_EIO, "while opening"), CAL_EIO);
    assert_string_equal(err.message, "while opening: no file x");
    assert_int_equal(err.code, CAL_EIO);
    assert_int_equal(cal_fail(NULL, CAL_EIO, "ignored"), CAL_EIO);
    assert_string_equal(cal_error_name(CAL_EFULL), "CAL_EFULL");
    assert_int_equal(cal_error_http_status(CAL_EDENIED), 403);
    assert_true(cal_error_retryable(CAL_EBUSY));
    assert_string_equal(cal_error_text(-12345), "unknown error");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buffer_stops_at_its_maximum),
        cmocka_unit_test(buffer_failure_sticks),
        cmocka_unit_test(buffer_integers_are_little_endian),
        cmocka_unit_test(arena_is_bounded_and_zeroed),
        cmocka_unit_test(map_keeps_what_is_put),
        cmocka_unit_test(map_seed_decides_where),
        cmocka_unit_test(sorted_map_hands_back_what_it_replaces),
        cmocka_unit_test(sorted_map_walks_in_byte_order),
        cmocka_unit_test(list_is_first_in_first_out),
        cmocka_unit_test(lists_are_joined_in_order),
        cmocka_unit_test(errors_say_what_and_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
