/* multistream-select: agreement in any split, refusals, hostile messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "calimero/error.h"
#include "net/multistream.h"

static const char *match(void *user, cal_slice name) {
    return cal_slice_equal(name, cal_slice_text(user)) ? user : NULL;
}

static void carry(multistream *to, cal_buffer *from, cal_buffer *answers, size_t split) {
    for (size_t at = 0; at < from->len; at += split) {
        size_t part = from->len - at < split ? from->len - at : split;
        if (to->state == MULTISTREAM_GOING)
            assert_int_equal(multistream_feed(to, from->data + at, part, answers), part);
    }
    cal_buffer_reset(from);
}

static void test_agreement(void **state) {
    (void)state;
    static const char *const choices[] = {"/a/2", "/a/1"};
    static char spoken[] = "/a/1", other[] = "/b/1";
    for (int known = 0; known < 2; known++) {
        for (size_t split = 1; split < 40; split++) {
            multistream dialer, listener;
            cal_buffer out, back;
            cal_buffer_init(&out, 4096);
            cal_buffer_init(&back, 4096);
            multistream_dial(&dialer, choices, 2, &out);
            multistream_listen(&listener, match, known ? spoken : other);
            for (int turn = 0; turn < 4; turn++) {
                carry(&listener, &out, &back, split);
                carry(&dialer, &back, &out, split);
            }
            if (known) {
                assert_int_equal(dialer.state, MULTISTREAM_AGREED);
                assert_int_equal(listener.state, MULTISTREAM_AGREED);
                assert_string_equal(dialer.agreed, "/a/1");
                assert_ptr_equal(listener.agreed, spoken);
            } else {
                assert_int_equal(dialer.state, MULTISTREAM_FAILED);
                assert_int_equal(dialer.failure, CAL_EUNSUPPORTED);
                assert_int_equal(listener.state, MULTISTREAM_GOING);
            }
            cal_buffer_deinit(&out);
            cal_buffer_deinit(&back);
        }
    }
}

/* The bytes of the connections specification. */
static void test_bytes_on_the_wire(void **state) {
    (void)state;
    static const char *const choices[] = {"/noise"};
    static const char expected[] = "\x13/multistream/1.0.0\n\x07/noise\n";
    multistream dialer;
    cal_buffer out;
    cal_buffer_init(&out, 256);
    multistream_dial(&dialer, choices, 1, &out);
    assert_int_equal(out.len, sizeof expected - 1);
    assert_memory_equal(out.data, expected, out.len);
    /* What follows the agreement is left for the protocol. */
    cal_buffer none;
    cal_buffer_init(&none, 16);
    cal_buffer_append(&out, "rest", 4);
    assert_int_equal(multistream_feed(&dialer, out.data, out.len, &none), out.len - 4);
    assert_int_equal(dialer.state, MULTISTREAM_AGREED);
    cal_buffer_deinit(&out);
    cal_buffer_deinit(&none);
}

static void test_hostile(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
    } rows[] = {
        {"\0", 1},                        /* an empty message */
        {"\xff\xff\x7f", 3},              /* too long */
        {"\x80\x00", 2},                  /* a length longer than it needs to be */
        {"\x04GET\n", 5},                 /* another protocol */
        {"\x13/multistream/1.0.0 ", 20},  /* no line feed */
        {"\x13/multistream/2.0.0\n", 20}, /* another version */
    };
    static char name[] = "/x";
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        multistream listener;
        cal_buffer out;
        cal_buffer_init(&out, 4096);
        multistream_listen(&listener, match, name);
        multistream_feed(&listener, (const uint8_t *)rows[i].bytes, rows[i].len, &out);
        assert_int_equal(listener.state, MULTISTREAM_FAILED);
        assert_int_equal(listener.failure, CAL_EDECODE);
        cal_buffer_deinit(&out);
    }
    /* Endless proposals come to an end. */
    multistream listener;
    cal_buffer out;
    cal_buffer_init(&out, 65536);
    multistream_listen(&listener, match, name);
    multistream_feed(&listener, (const uint8_t *)"\x13/multistream/1.0.0\n", 20, &out);
    int tries = 0;
    for (; listener.state == MULTISTREAM_GOING && tries < 1000; tries++)
        multistream_feed(&listener, (const uint8_t *)"\x03/y\n", 4, &out);
    assert_int_equal(tries, MULTISTREAM_TRIES_MAX);
    cal_buffer_deinit(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agreement),
        cmocka_unit_test(test_bytes_on_the_wire),
        cmocka_unit_test(test_hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
