/* What is said on /calimero-c/sync/1: there and back, cut short, and at its bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/error.h"
#include "sync/bulk.h"

enum { ARENA_MAX = 64 << 20 };

typedef struct fixture {
    cal_arena arena;
    cal_buffer out;
} fixture;

static int begin(void **state) {
    fixture *f = calloc(1, sizeof *f);
    if (!f) return -1;
    cal_arena_init(&f->arena, ARENA_MAX);
    cal_buffer_init(&f->out, 16 << 20);
    *state = f;
    return 0;
}
static int finish(void **state) {
    fixture *f = *state;
    cal_arena_deinit(&f->arena);
    cal_buffer_deinit(&f->out);
    free(f);
    return 0;
}

static cal_hash ids[SYNC_BULK_IDS_MAX + 1];

static sync_bulk_request request_of(uint8_t kind) {
    sync_bulk_request request = {.kind = kind,
                                 .context = {{1}},
                                 .party = {{2}},
                                 .root = {{3}},
                                 .namespace_id = {{4}},
                                 .ids = {ids, 3},
                                 .known = {ids, 2},
                                 .max = 77};
    static const uint8_t marks[5 * CAL_PAST_MARK_SIZE] = {8, 9};
    if (kind != SYNC_BULK_HISTORY) request.marks = cal_slice_of(marks, 3 * CAL_PAST_MARK_SIZE);
    request.proof[5] = 6;
    return request;
}

static void requests_go_there_and_back(void **state) {
    fixture *f = *state;
    for (uint8_t kind = 0; kind < SYNC_BULK_KIND_COUNT; kind++) {
        sync_bulk_request request = request_of(kind), back;
        cal_buffer_reset(&f->out);
        assert_int_equal(sync_bulk_request_write(&request, &f->out), 0);
        cal_slice bytes = cal_buffer_slice(&f->out);
        assert_int_equal(sync_bulk_request_decode(bytes, &f->arena, &back), 0);
        assert_int_equal(back.kind, kind);
        assert_int_equal(back.ids.count, 3);
        if (kind == SYNC_BULK_DELTAS) {
            assert_int_equal(back.max, 77);
            assert_int_equal(back.known.count, 2);
        }
        if (kind != SYNC_BULK_HISTORY) {
            assert_true(cal_slice_equal(back.marks, request.marks));
            assert_memory_equal(back.proof, request.proof, sizeof back.proof);
            assert_memory_equal(&back.context, &request.context, 32);
        }
        for (size_t len = 0; len < bytes.len; len++)
            assert_int_not_equal(
                sync_bulk_request_decode(cal_slice_of(bytes.data, len), &f->arena, &back), 0);
        cal_buffer_append_u8(&f->out, 0);
        assert_int_equal(sync_bulk_request_decode(cal_buffer_slice(&f->out), &f->arena, &back),
                         CAL_EDECODE);
    }
}

/* Each id asked about has one, or none has. */
static void marks_are_as_many_as_ids(void **state) {
    fixture *f = *state;
    for (size_t marks = 0; marks < 5; marks++) {
        sync_bulk_request request = request_of(SYNC_BULK_COVERED), back;
        request.marks.len = marks * CAL_PAST_MARK_SIZE;
        cal_buffer_reset(&f->out);
        assert_int_equal(sync_bulk_request_write(&request, &f->out), 0);
        assert_int_equal(sync_bulk_request_decode(cal_buffer_slice(&f->out), &f->arena, &back),
                         marks == 0 || marks == 3 ? 0 : CAL_EDECODE);
    }
}

static sync_bulk_answer answer_of(uint8_t kind) {
    static const uint8_t covered[] = {1, 0, 1};
    static const sync_bulk_delta deltas[] = {
        {.bytes = {(const uint8_t *)"causal", 6}, .author = {{9}}, .root = {{8}}},
        {.bytes = {(const uint8_t *)"c", 1},
         .has_position = true,
         .position = {(const uint8_t *)"pos", 3},
         .has_signature = true,
         .signature = {7},
         .events = {(const uint8_t *)"[]", 2},
         .has_app_key = true,
         .app_key = {{5}}}};
    static const sync_op ops[] = {{{{1}}, {(const uint8_t *)"op", 2}},
                                  {{{2}}, {(const uint8_t *)"another", 7}}};
    sync_bulk_answer answer = {.kind = kind, .end = SYNC_BULK_PART};
    if (kind == SYNC_BULK_DELTAS) {
        answer.deltas = deltas;
        answer.delta_count = 2;
    } else if (kind == SYNC_BULK_COVERED) {
        answer.covered = cal_slice_of(covered, sizeof covered);
    } else {
        answer.ops = (sync_ops){ops, 2};
    }
    return answer;
}

static void answers_go_there_and_back(void **state) {
    fixture *f = *state;
    for (uint8_t kind = 0; kind < SYNC_BULK_KIND_COUNT; kind++) {
        sync_bulk_answer answer = answer_of(kind), back;
        cal_buffer_reset(&f->out);
        assert_int_equal(sync_bulk_answer_write(&answer, &f->out), 0);
        cal_slice bytes = cal_buffer_slice(&f->out);
        assert_int_equal(sync_bulk_answer_decode(bytes, &f->arena, &back), 0);
        assert_int_equal(back.end, SYNC_BULK_PART);
        assert_int_equal(back.delta_count, answer.delta_count);
        assert_int_equal(back.ops.count, answer.ops.count);
        assert_true(cal_slice_equal(back.covered, answer.covered));
        for (uint32_t i = 0; i < back.delta_count; i++) {
            assert_true(cal_slice_equal(back.deltas[i].bytes, answer.deltas[i].bytes));
            assert_true(cal_slice_equal(back.deltas[i].events, answer.deltas[i].events));
            assert_int_equal(back.deltas[i].has_app_key, answer.deltas[i].has_app_key);
        }
        for (size_t len = 0; len < bytes.len; len++)
            assert_int_not_equal(
                sync_bulk_answer_decode(cal_slice_of(bytes.data, len), &f->arena, &back), 0);
    }
}

static void what_is_too_much_is_refused_both_ways(void **state) {
    fixture *f = *state;
    sync_bulk_request request = request_of(SYNC_BULK_DELTAS), back;
    request.ids.count = SYNC_BULK_IDS_MAX;
    assert_int_equal(sync_bulk_request_write(&request, &f->out), 0);
    assert_int_equal(sync_bulk_request_decode(cal_buffer_slice(&f->out), &f->arena, &back), 0);
    cal_buffer_reset(&f->out);
    request.ids.count++;
    assert_int_equal(sync_bulk_request_write(&request, &f->out), CAL_ELIMIT);

    sync_bulk_answer answer = {.kind = SYNC_BULK_DELTAS}, answered;
    sync_bulk_delta *deltas = calloc(SYNC_BULK_ITEMS_MAX + 1, sizeof *deltas);
    assert_non_null(deltas);
    answer.deltas = deltas;
    answer.delta_count = SYNC_BULK_ITEMS_MAX;
    cal_buffer_reset(&f->out);
    assert_int_equal(sync_bulk_answer_write(&answer, &f->out), 0);
    assert_int_equal(sync_bulk_answer_decode(cal_buffer_slice(&f->out), &f->arena, &answered), 0);
    cal_write_u32le(f->out.data + 1, SYNC_BULK_ITEMS_MAX + 1);
    assert_int_equal(sync_bulk_answer_decode(cal_buffer_slice(&f->out), &f->arena, &answered),
                     CAL_ELIMIT);
    cal_write_u32le(f->out.data + 1, UINT32_MAX);
    assert_int_not_equal(sync_bulk_answer_decode(cal_buffer_slice(&f->out), &f->arena, &answered),
                         0);
    answer.delta_count++;
    cal_buffer_reset(&f->out);
    assert_int_equal(sync_bulk_answer_write(&answer, &f->out), CAL_ELIMIT);
    free(deltas);

    static const uint8_t two[] = {2};
    answer = (sync_bulk_answer){.kind = SYNC_BULK_COVERED, .covered = cal_slice_of(two, 1)};
    cal_buffer_reset(&f->out);
    assert_int_equal(sync_bulk_answer_write(&answer, &f->out), 0);
    assert_int_equal(sync_bulk_answer_decode(cal_buffer_slice(&f->out), &f->arena, &answered),
                     CAL_EDECODE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(requests_go_there_and_back, begin, finish),
        cmocka_unit_test_setup_teardown(marks_are_as_many_as_ids, begin, finish),
        cmocka_unit_test_setup_teardown(answers_go_there_and_back, begin, finish),
        cmocka_unit_test_setup_teardown(what_is_too_much_is_refused_both_ways, begin, finish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
