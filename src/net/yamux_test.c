/* Yamux: streams between two sessions in any split, windows, hostile frames. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "calimero/error.h"
#include "net/yamux.h"

enum { UNREAD_MAX = 16 * 1024 * 1024, STREAMS_MAX = 256 };

typedef struct pair {
    yamux a, b;
    size_t a_unread, b_unread;
    cal_buffer wire;
} pair;

static void pair_init(pair *p) {
    memset(p, 0, sizeof *p);
    yamux_init(&p->a, true, STREAMS_MAX, sizeof(yamux_stream), &p->a_unread, UNREAD_MAX);
    yamux_init(&p->b, false, STREAMS_MAX, sizeof(yamux_stream), &p->b_unread, UNREAD_MAX);
    cal_buffer_init(&p->wire, 4 << 20);
}
static void pair_deinit(pair *p) {
    yamux_deinit(&p->a);
    yamux_deinit(&p->b);
    assert_int_equal(p->a_unread, 0);
    assert_int_equal(p->b_unread, 0);
    cal_buffer_deinit(&p->wire);
}
static int carry(pair *p, yamux *from, yamux *to, size_t split) {
    int result = 0;
    cal_buffer_reset(&p->wire);
    assert_int_equal(yamux_drain(from, &p->wire, 1 << 20), 0);
    for (size_t at = 0; at < p->wire.len && !result; at += split)
        result =
            yamux_feed(to, p->wire.data + at, p->wire.len - at < split ? p->wire.len - at : split);
    return result;
}
static yamux_stream *expect_event(yamux *session, unsigned expected) {
    unsigned events;
    yamux_stream *stream = yamux_next(session, &events);
    assert_non_null(stream);
    assert_int_equal(events & expected, expected);
    return stream;
}

static bool silent(yamux *session) {
    cal_buffer out;
    cal_buffer_init(&out, 1 << 20);
    assert_int_equal(yamux_drain(session, &out, 65536), 0);
    bool nothing = out.len == 0;
    cal_buffer_deinit(&out);
    return nothing;
}

static void test_life_of_a_stream(void **state) {
    (void)state;
    static const size_t splits[] = {1, 5, 12, 13, 4096};
    for (size_t i = 0; i < sizeof splits / sizeof *splits; i++) {
        pair p;
        yamux_stream *mine, *theirs;
        pair_init(&p);
        assert_int_equal(yamux_open(&p.a, &mine), 0);
        assert_int_equal(mine->id, 1);
        assert_int_equal(yamux_write(mine, "question", 8), 8);
        yamux_finish(mine);
        assert_int_equal(carry(&p, &p.a, &p.b, splits[i]), 0);
        theirs = expect_event(&p.b, YAMUX_NEW | YAMUX_READABLE);
        assert_true(theirs->incoming && theirs->peer_finished);
        assert_memory_equal(net_queue_peek(&theirs->received).data, "question", 8);
        yamux_consume(theirs, 8);
        assert_int_equal(yamux_write(theirs, "answer", 6), 6);
        yamux_finish(theirs);
        assert_int_equal(carry(&p, &p.b, &p.a, splits[i]), 0);
        assert_ptr_equal(expect_event(&p.b, YAMUX_DONE), theirs);
        assert_ptr_equal(expect_event(&p.a, YAMUX_READABLE | YAMUX_DONE), mine);
        yamux_consume(mine, 6);
        yamux_release(mine);
        yamux_release(theirs);
        assert_int_equal(p.a.stream_count + p.b.stream_count, 0);
        assert_true(silent(&p.a) && silent(&p.b)); /* no resets */
        pair_deinit(&p);
    }
}

/* A reader that does not read stops the writer after one window. */
static void test_back_pressure(void **state) {
    (void)state;
    static uint8_t data[2 * YAMUX_WINDOW];
    pair p;
    yamux_stream *mine, *theirs;
    pair_init(&p);
    assert_int_equal(yamux_open(&p.a, &mine), 0);
    assert_int_equal(yamux_write(mine, data, sizeof data), sizeof data);
    for (int i = 0; i < 4; i++) assert_int_equal(carry(&p, &p.a, &p.b, 65536), 0);
    theirs = expect_event(&p.b, YAMUX_NEW);
    assert_int_equal(theirs->received.len, YAMUX_WINDOW);
    assert_int_equal(p.b_unread, YAMUX_WINDOW);
    assert_int_equal(mine->sending.len, YAMUX_WINDOW);
    /* Beyond its own bound the writer takes nothing. */
    size_t room = yamux_room(mine), took = 0, n;
    while ((n = yamux_write(mine, data, sizeof data))) took += n;
    assert_int_equal(took, room);
    while (theirs->received.len) yamux_consume(theirs, net_queue_peek(&theirs->received).len);
    assert_int_equal(carry(&p, &p.b, &p.a, 65536), 0);
    assert_int_equal(carry(&p, &p.a, &p.b, 65536), 0);
    assert_int_equal(theirs->received.len, YAMUX_WINDOW);
    pair_deinit(&p);
}

static void put_frame(uint8_t *to, uint8_t type, uint16_t flags, uint32_t id, uint32_t len) {
    to[0] = 0;
    to[1] = type;
    cal_write_u16be(to + 2, flags);
    cal_write_u32be(to + 4, id);
    cal_write_u32be(to + 8, len);
}
static int feed_frame(pair *p, uint8_t type, uint16_t flags, uint32_t id, uint32_t len) {
    uint8_t frame[YAMUX_HEADER];
    put_frame(frame, type, flags, id, len);
    return yamux_feed(&p->b, frame, sizeof frame);
}

static void test_hostile_frames(void **state) {
    (void)state;
    static const struct {
        uint8_t type;
        uint16_t flags;
        uint32_t id, len;
        int expected;
    } rows[] = {
        {4, 0, 0, 0, CAL_EDECODE},               /* no such type */
        {0, 16, 1, 0, CAL_EDECODE},              /* no such flag */
        {0, 1, 2, 0, CAL_EDECODE},               /* a stream of ours opened by the peer */
        {0, 1, 0, 0, CAL_EDECODE},               /* the session as a stream */
        {0, 1, 1, YAMUX_WINDOW + 1, CAL_ELIMIT}, /* past the window */
        {0, 1, 1, UINT32_MAX, CAL_ELIMIT},
        {1, 1, 1, UINT32_MAX, CAL_EDECODE}, /* our window overflows */
        {0, 0, 9, 0, 0},                    /* a stream that is gone: passes */
        {1, 8, 9, 0, 0},
        {0, 1 | 4 | 8, 1, 0, 0}, /* opened, finished and reset at once */
        {2, 2, 0, 5, 0},         /* an answer to no ping */
        {3, 0, 0, 2, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        pair p;
        pair_init(&p);
        assert_int_equal(feed_frame(&p, rows[i].type, rows[i].flags, rows[i].id, rows[i].len),
                         rows[i].expected);
        pair_deinit(&p);
    }
    pair p;
    pair_init(&p);
    assert_int_equal(yamux_feed(&p.b, (const uint8_t *)"\1\0\0\0\0\0\0\0\0\0\0\0", 12),
                     CAL_EDECODE); /* version */
    pair_deinit(&p);
    pair_init(&p);
    assert_int_equal(feed_frame(&p, 0, 1, 1, 0), 0);
    assert_int_equal(feed_frame(&p, 0, 1, 1, 0), CAL_EDECODE); /* the same id again */
    pair_deinit(&p);
    pair_init(&p);
    assert_int_equal(feed_frame(&p, 0, 1 | 4, 1, 0), 0);
    assert_int_equal(feed_frame(&p, 0, 0, 1, 1), CAL_EDECODE); /* data after the end */
    pair_deinit(&p);
}

static void test_stream_limit(void **state) {
    (void)state;
    pair p;
    pair_init(&p);
    for (uint32_t i = 0; i < STREAMS_MAX + 10; i++)
        assert_int_equal(feed_frame(&p, 0, 1, 1 + 2 * i, 0), 0);
    assert_int_equal(p.b.stream_count, STREAMS_MAX);
    assert_int_equal(p.b.refused, 10);
    yamux_stream *stream;
    assert_int_equal(yamux_open(&p.b, &stream), CAL_ELIMIT);
    pair_deinit(&p);
}

static void test_ping_flood_is_bounded(void **state) {
    (void)state;
    pair p;
    pair_init(&p);
    int result = 0, count = 0;
    while (!(result = feed_frame(&p, 2, 1, 0, 1)) && count < 1000000) count++;
    assert_int_equal(result, CAL_EOVERLOAD);
    assert_in_range(count, 1000, YAMUX_CONTROL_MAX / YAMUX_HEADER);
    pair_deinit(&p);
}

static void test_unread_bound_is_shared(void **state) {
    (void)state;
    static uint8_t data[YAMUX_WINDOW];
    pair p;
    pair_init(&p);
    p.b.unread_max = YAMUX_WINDOW + 100;
    yamux_stream *first, *second;
    assert_int_equal(yamux_open(&p.a, &first), 0);
    assert_int_equal(yamux_open(&p.a, &second), 0);
    yamux_write(first, data, sizeof data);
    yamux_write(second, data, sizeof data);
    for (int i = 0; i < 4; i++) assert_int_equal(carry(&p, &p.a, &p.b, 65536), 0);
    assert_true(p.b_unread <= p.b.unread_max);
    assert_int_equal(p.b.refused, 1);
    assert_int_equal(carry(&p, &p.b, &p.a, 65536), 0);
    size_t resets = 0;
    for (unsigned events; yamux_next(&p.a, &events);) resets += (events & YAMUX_RESET) != 0;
    assert_int_equal(resets, 1);
    pair_deinit(&p);
}

/* Regression: what a reset stream still lends was given back twice, when it was consumed after. */
static void test_consumed_after_reset(void **state) {
    (void)state;
    pair p;
    yamux_stream *mine;
    unsigned events;
    pair_init(&p);
    assert_int_equal(yamux_open(&p.a, &mine), 0);
    assert_int_equal(yamux_write(mine, "lent", 4), 4);
    assert_int_equal(carry(&p, &p.a, &p.b, 4096), 0);
    yamux_stream *theirs = yamux_next(&p.b, &events);
    assert_int_equal(p.b_unread, 4);
    yamux_reset(theirs);
    assert_int_equal(p.b_unread, 0);
    yamux_consume(theirs, net_queue_peek(&theirs->received).len);
    assert_int_equal(p.b_unread, 0);
    pair_deinit(&p);
    assert_int_equal(p.b_unread, 0);
}

static void test_going_away(void **state) {
    (void)state;
    pair p;
    yamux_stream *stream;
    pair_init(&p);
    yamux_go_away(&p.a, 0);
    assert_int_equal(carry(&p, &p.a, &p.b, 64), 0);
    assert_int_equal(yamux_open(&p.b, &stream), CAL_ECANCELED);
    assert_int_equal(yamux_open(&p.a, &stream), CAL_ECANCELED);
    pair_deinit(&p);
}

/* Regression: the end came with a window, and rust-libp2p's older Yamux did not wake its readers.
 */
static void test_end_is_a_data_frame(void **state) {
    (void)state;
    static const uint8_t end[YAMUX_HEADER] = {0, 0 /* data */, 0, 4 /* FIN */, 0, 0, 0, 1, 0, 0, 0,
                                              0};
    pair p;
    yamux_stream *mine;
    pair_init(&p);
    assert_int_equal(yamux_open(&p.a, &mine), 0);
    assert_int_equal(yamux_write(mine, "last", 4), 4);
    yamux_finish(mine);
    assert_int_equal(carry(&p, &p.a, &p.b, 4096), 0);
    assert_int_equal(p.wire.len, YAMUX_HEADER + 4 + YAMUX_HEADER);
    assert_memory_equal(p.wire.data + YAMUX_HEADER + 4, end, sizeof end);
    pair_deinit(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life_of_a_stream),       cmocka_unit_test(test_end_is_a_data_frame),
        cmocka_unit_test(test_back_pressure),          cmocka_unit_test(test_hostile_frames),
        cmocka_unit_test(test_stream_limit),           cmocka_unit_test(test_ping_flood_is_bounded),
        cmocka_unit_test(test_unread_bound_is_shared), cmocka_unit_test(test_going_away),
        cmocka_unit_test(test_consumed_after_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
