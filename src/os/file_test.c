/* Whole files: written so that the loss of power at any moment leaves the old content or the new
 * one, read under a bound, and what the real machine does with flags and locks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/sim/sim.h"

enum { OPERATIONS_MAX = 20 };

static int read_text(const cal_os *os, const char *path, cal_buffer *ret_text) {
    cal_buffer_reset(ret_text);
    return cal_os_read_file(os, path, ret_text->max, ret_text, NULL);
}

static bool has(const cal_buffer *text, const char *wanted) {
    return cal_slice_equal(cal_buffer_slice(text), cal_slice_text(wanted));
}

/* Power goes at each operation in turn, with every kind of survival. */
static void written_whole_or_not_at_all(void **state) {
    (void)state;
    static const cal_sim_survival survivals[] = {CAL_SIM_KEEP, CAL_SIM_DROP, CAL_SIM_TEAR};
    int acknowledged = 0, cut = 0;
    for (uint64_t nth = 1; nth <= OPERATIONS_MAX; nth++)
        for (size_t i = 0; i < sizeof survivals / sizeof *survivals; i++) {
            cal_sim *sim = cal_sim_new(nth);
            const cal_os *os = cal_sim_os(sim);
            cal_buffer text;
            cal_buffer_init(&text, 100);
            assert_int_equal(cal_os_write_file(os, "/f", cal_slice_text("old"), NULL), 0);
            cal_sim_power_off_at(sim, CAL_SIM_ALL, nth);
            int rc = cal_os_write_file(os, "/f", cal_slice_text("the new one"), NULL);
            if (!cal_sim_is_off(sim)) cal_sim_power_off(sim);
            cal_sim_power_on(sim, survivals[i]);
            assert_int_equal(read_text(os, "/f", &text), 0);
            assert_true(has(&text, "the new one") || (rc != 0 && has(&text, "old")));
            acknowledged += rc == 0;
            cut += rc != 0;
            cal_buffer_deinit(&text);
            cal_sim_free(sim);
        }
    assert_true(acknowledged > 0 && cut > 0);
}

/* Each operation fails in turn: the old content stays, or the new one is there and only its
 * durability is in doubt; no half is left behind. */
static void failures_leave_nothing_behind(void **state) {
    (void)state;
    int failed = 0;
    for (uint64_t nth = 1; nth <= OPERATIONS_MAX; nth++) {
        cal_sim *sim = cal_sim_new(nth);
        const cal_os *os = cal_sim_os(sim);
        cal_buffer text;
        cal_os_stat stat;
        cal_buffer_init(&text, 100);
        assert_int_equal(cal_os_write_file(os, "/f", cal_slice_text("old"), NULL), 0);
        cal_sim_fail(sim, CAL_SIM_ALL, nth, 1, CAL_EFULL);
        int rc = cal_os_write_file(os, "/f", cal_slice_text("new"), NULL);
        cal_sim_fail(sim, 0, 0, 0, 0);
        failed += rc != 0;
        assert_true(rc == 0 || rc == CAL_EFULL);
        assert_int_equal(read_text(os, "/f", &text), 0);
        assert_true(has(&text, "new") || (rc != 0 && has(&text, "old")));
        assert_int_equal(os->stat(os->user, "/f.new", &stat), CAL_ENOTFOUND);
        cal_buffer_deinit(&text);
        cal_sim_free(sim);
    }
    assert_true(failed >= 4);
}

static void read_under_a_bound(void **state) {
    (void)state;
    cal_sim *sim = cal_sim_new(1);
    const cal_os *os = cal_sim_os(sim);
    cal_buffer text;
    cal_buffer_init(&text, 100);
    assert_int_equal(cal_os_write_file(os, "/f", cal_slice_text("12345"), NULL), 0);
    assert_int_equal(cal_os_read_file(os, "/f", 4, &text, NULL), CAL_ELIMIT);
    assert_int_equal(text.len, 0);
    assert_int_equal(cal_os_read_file(os, "/f", 5, &text, NULL), 0);
    assert_true(has(&text, "12345"));
    assert_int_equal(cal_os_read_file(os, "/none", 5, &text, NULL), CAL_ENOTFOUND);
    cal_buffer_deinit(&text);
    cal_sim_free(sim);
}

/* --- the real machine --- */

static void flags_and_locks(void **state) {
    (void)state;
    const cal_os *os = cal_os_posix();
    char folder[] = "/tmp/cal_os_file_XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/f", folder);
    cal_os_file *file, *again;
    int fresh = CAL_OS_WRITE | CAL_OS_CREATE | CAL_OS_EXCLUSIVE;
    assert_int_equal(os->open(os->user, path, CAL_OS_WRITE, &file), CAL_ENOTFOUND);
    assert_int_equal(os->open(os->user, path, fresh, &file), 0);
    assert_int_equal(os->write_at(file, 0, "text", 4), 0);
    assert_int_equal(os->open(os->user, path, fresh, &again), CAL_EEXISTS);
    assert_int_equal(os->open(os->user, path, CAL_OS_WRITE | CAL_OS_CREATE, &again), 0);
    uint64_t size = 0;
    assert_int_equal(os->size(again, &size), 0);
    assert_int_equal(size, 4); /* created only where it is missing */
    assert_int_equal(os->lock(file), 0);
    assert_int_equal(os->lock(again), CAL_EBUSY);
    os->close(file);
    assert_int_equal(os->lock(again), 0); /* ends with the handle */
    os->close(again);
    assert_int_equal(os->open(os->user, path, CAL_OS_WRITE | CAL_OS_TRUNCATE, &file), 0);
    assert_int_equal(os->size(file, &size), 0);
    assert_int_equal(size, 0);
    os->close(file);
    cal_os_stat stat;
    assert_int_equal(os->stat(os->user, path, &stat), 0);
    assert_int_equal(stat.mode, 0600); /* nobody else reads what a node writes */
    assert_int_equal(os->remove(os->user, path), 0);
    rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_whole_or_not_at_all),
        cmocka_unit_test(failures_leave_nothing_behind),
        cmocka_unit_test(read_under_a_bound),
        cmocka_unit_test(flags_and_locks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
