/* What is written can be read: every limit of the records, and one above it. */
#include "context/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "calimero/error.h"

enum { BYTES_MAX = 1 << 20 };

static cal_hash *many_ids(size_t count) {
    cal_hash *ids = calloc(count, sizeof *ids);
    assert_non_null(ids);
    for (size_t i = 0; i < count; i++) memcpy(ids[i].bytes, &i, sizeof i);
    return ids;
}

static void test_heads(void **state) {
    (void)state;
    cal_hash *ids = many_ids(CAL_CONTEXT_HEADS_MAX + 1);
    cal_context_record record = {.heads = ids, .head_count = CAL_CONTEXT_HEADS_MAX}, read;
    cal_buffer bytes;
    cal_arena arena;
    cal_buffer_init(&bytes, BYTES_MAX);
    cal_arena_init(&arena, BYTES_MAX);
    assert_int_equal(cal_context_record_encode(&record, &bytes), 0);
    assert_int_equal(cal_context_record_decode(cal_buffer_slice(&bytes), &arena, &read), 0);
    assert_int_equal(read.head_count, CAL_CONTEXT_HEADS_MAX);
    assert_memory_equal(read.heads, ids, CAL_CONTEXT_HEADS_MAX * sizeof *ids);
    cal_buffer_reset(&bytes);
    record.head_count++;
    assert_int_equal(cal_context_record_encode(&record, &bytes), CAL_ELIMIT);
    assert_int_equal(bytes.len, 0);
    char service[512];
    memset(service, 'a', sizeof service);
    service[256] = 0;
    record = (cal_context_record){.service = service};
    assert_int_equal(cal_context_record_encode(&record, &bytes), 0);
    assert_int_equal(cal_context_record_decode(cal_buffer_slice(&bytes), &arena, &read), 0);
    assert_string_equal(read.service, service);
    service[256] = 'a';
    service[257] = 0;
    assert_int_equal(cal_context_record_encode(&record, &bytes), CAL_ELIMIT);
    cal_arena_deinit(&arena);
    cal_buffer_deinit(&bytes);
    free(ids);
}

static int round_trip(const cal_delta_record *record, cal_buffer *bytes) {
    cal_delta_record read;
    cal_buffer_reset(bytes);
    int result = cal_delta_record_encode(record, bytes);
    if (result) return result;
    result = cal_delta_record_decode(cal_buffer_slice(bytes), &read);
    assert_int_equal(read.parent_count, record->parent_count);
    assert_int_equal(read.position_count, record->position_count);
    return result;
}

static void test_deltas(void **state) {
    (void)state;
    cal_hash *ids = many_ids(CAL_DELTA_PARENTS_MAX + 1);
    const uint8_t(*bare)[32] = (const uint8_t(*)[32])(const void *)ids;
    cal_delta_record record = {.parents = bare, .parent_count = CAL_DELTA_PARENTS_MAX};
    cal_buffer bytes;
    record.hlc.id[0] = 1;
    cal_buffer_init(&bytes, BYTES_MAX);
    assert_int_equal(round_trip(&record, &bytes), 0);
    record.parent_count++;
    assert_int_equal(round_trip(&record, &bytes), CAL_ELIMIT);
    record.parent_count = 1;
    record.has_position = true;
    record.position = bare;
    record.position_count = CAL_DELTA_POSITION_MAX;
    assert_int_equal(round_trip(&record, &bytes), 0);
    record.position_count++;
    assert_int_equal(round_trip(&record, &bytes), CAL_ELIMIT);
    cal_buffer_deinit(&bytes);
    free(ids);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_deltas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
