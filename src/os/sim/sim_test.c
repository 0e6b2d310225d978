/* The simulated disk and world: what survives the loss of power, ordered failures, quota, locks,
 * repeatable randomness. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "os/sim/sim.h"

#include <stdlib.h>

static int setup(void **state) {
    *state = cal_sim_new(7);
    return *state ? 0 : 1;
}

static int teardown(void **state) {
    cal_sim_free(*state);
    return 0;
}

static cal_os_file *make(cal_sim *sim, const char *path, const char *content) {
    const cal_os *os = cal_sim_os(sim);
    cal_os_file *file = NULL;
    assert_int_equal(os->open(os->user, path, CAL_OS_WRITE | CAL_OS_CREATE, &file), 0);
    assert_int_equal(os->write_at(file, 0, content, strlen(content)), 0);
    return file;
}

static int content(cal_sim *sim, const char *path, char ret_text[64]) {
    const cal_os *os = cal_sim_os(sim);
    cal_os_file *file;
    size_t len = 0;
    int error = os->open(os->user, path, CAL_OS_READ, &file);
    if (error) return error;
    assert_int_equal(os->read_at(file, 0, ret_text, 63, &len), 0);
    ret_text[len] = 0;
    os->close(file);
    return 0;
}

static void test_survival(void **state) {
    cal_sim *sim = *state;
    const cal_os *os = cal_sim_os(sim);
    char text[64];
    cal_os_file *file = make(sim, "/a", "synced");
    assert_int_equal(os->sync(file), 0);
    cal_sim_power_off(sim);
    assert_int_equal(os->write_at(file, 0, "x", 1), CAL_EIO);
    cal_sim_power_on(sim, CAL_SIM_DROP); /* the content was synced, the name was not */
    assert_int_equal(content(sim, "/a", text), CAL_ENOTFOUND);
    assert_int_equal(os->write_at(file, 0, "x", 1), CAL_EIO); /* a handle from before */
    os->close(file);

    file = make(sim, "/a", "synced");
    assert_int_equal(os->sync(file), 0);
    assert_int_equal(os->sync_dir(os->user, "/"), 0);
    assert_int_equal(os->write_at(file, 0, "later!", 6), 0);
    assert_int_equal(os->rename(os->user, "/a", "/b"), 0);
    assert_int_equal(content(sim, "/b", text), 0);
    assert_string_equal(text, "later!");
    os->close(file);
    cal_sim_power_off(sim);
    cal_sim_power_on(sim, CAL_SIM_DROP);
    assert_int_equal(content(sim, "/b", text), CAL_ENOTFOUND);
    assert_int_equal(content(sim, "/a", text), 0);
    assert_string_equal(text, "synced");

    assert_int_equal(os->remove(os->user, "/a"), 0);
    os->close(make(sim, "//./c", "kept"));
    cal_sim_power_off(sim);
    cal_sim_power_on(sim, CAL_SIM_KEEP);
    assert_int_equal(content(sim, "/a", text), CAL_ENOTFOUND);
    assert_int_equal(content(sim, "/c", text), 0);
    assert_string_equal(text, "kept");
    assert_int_equal(os->remove(os->user, "/c"), 0);
}

/* Tearing gives every outcome sooner or later, each whole at the sector, and nothing synced is ever
 * lost. */
static void test_tearing(void **state) {
    cal_sim *sim = *state;
    const cal_os *os = cal_sim_os(sim);
    static uint8_t old[1024], new[1024], seen[1024];
    memset(old, 'o', sizeof old);
    memset(new, 'n', sizeof new);
    int outcomes[4] = {0};
    for (int i = 0; i < 200; i++) {
        cal_os_file *file;
        size_t len;
        assert_int_equal(os->open(os->user, "/t", CAL_OS_WRITE | CAL_OS_CREATE, &file), 0);
        os->write_at(file, 0, old, sizeof old);
        os->sync(file);
        os->sync_dir(os->user, "/");
        os->write_at(file, 0, new, sizeof new);
        os->close(file);
        cal_sim_power_off(sim);
        cal_sim_power_on(sim, CAL_SIM_TEAR);
        assert_int_equal(os->open(os->user, "/t", CAL_OS_READ, &file), 0);
        assert_int_equal(os->read_at(file, 0, seen, sizeof seen, &len), 0);
        assert_int_equal(len, sizeof seen);
        os->close(file);
        outcomes[(seen[0] == 'n') + 2 * (seen[1023] == 'n')]++;
    }
    for (int i = 0; i < 4; i++) assert_true(outcomes[i] > 0);
}

static void test_ordered_failures(void **state) {
    cal_sim *sim = *state;
    const cal_os *os = cal_sim_os(sim);
    cal_os_file *file = make(sim, "/f", "x");
    cal_sim_fail(sim, CAL_SIM_WRITE, 2, 1, CAL_EIO);
    assert_int_equal(os->write_at(file, 0, "1", 1), 0);
    assert_int_equal(os->write_at(file, 0, "2", 1), CAL_EIO);
    assert_int_equal(os->write_at(file, 0, "3", 1), 0);
    cal_sim_fail(sim, CAL_SIM_SYNC, 1, UINT64_MAX, CAL_EIO);
    assert_int_equal(os->sync(file), CAL_EIO);
    assert_int_equal(os->sync(file), CAL_EIO);
    cal_sim_fail(sim, 0, 0, 0, 0);
    assert_int_equal(os->sync(file), 0);
    cal_sim_power_off_at(sim, CAL_SIM_WRITE, 2);
    assert_int_equal(os->write_at(file, 0, "4", 1), 0);
    assert_false(cal_sim_is_off(sim));
    assert_int_equal(os->write_at(file, 0, "5", 1), CAL_EIO);
    assert_true(cal_sim_is_off(sim));
    cal_sim_power_on(sim, CAL_SIM_DROP);
    os->close(file);
}

static void test_quota_and_locks(void **state) {
    cal_sim *sim = *state;
    const cal_os *os = cal_sim_os(sim);
    cal_os_file *file = make(sim, "/q", "1234"), *again;
    cal_os_stat stat;
    cal_sim_quota(sim, 6);
    assert_int_equal(os->write_at(file, 4, "567", 3), CAL_EFULL);
    assert_int_equal(os->write_at(file, 0, "567", 3), 0);
    assert_int_equal(os->write_at(file, 4, "56", 2), 0);
    assert_int_equal(cal_sim_used(sim), 6);
    assert_int_equal(os->truncate(file, 2), 0);
    assert_int_equal(cal_sim_used(sim), 2);
    assert_int_equal(os->open(os->user, "/q", CAL_OS_WRITE, &again), 0);
    assert_int_equal(os->lock(file), 0);
    assert_int_equal(os->lock(again), CAL_EBUSY);
    os->close(file);
    assert_int_equal(os->lock(again), 0);
    os->close(again);
    assert_int_equal(
        os->open(os->user, "/q", CAL_OS_WRITE | CAL_OS_CREATE | CAL_OS_EXCLUSIVE, &again),
        CAL_EEXISTS);
    assert_int_equal(os->make_dir(os->user, "/d/e"), CAL_ENOTFOUND);
    assert_int_equal(os->make_dir(os->user, "/d"), 0);
    assert_int_equal(os->make_dir(os->user, "/d"), 0);
    assert_int_equal(os->make_dir(os->user, "/d/e/"), 0);
    assert_int_equal(os->stat(os->user, "/d/./e", &stat), 0);
    assert_true(stat.directory);
    assert_int_equal(os->remove(os->user, "/d"), CAL_EIO);
    assert_int_equal(os->remove(os->user, "/d/e"), 0);
    assert_int_equal(os->remove(os->user, "/d"), 0);
}

/* A copy has what was on the other disk at that time, all of it durable, and is a disk of its own.
 */
static void test_copied_disk(void **state) {
    cal_sim *sim = *state, *copy = cal_sim_new(8);
    const cal_os *os = cal_sim_os(sim), *other = cal_sim_os(copy);
    cal_buffer content;
    cal_buffer_init(&content, 100);
    assert_int_equal(os->make_dir(os->user, "/d"), 0);
    cal_os_file *file;
    assert_int_equal(os->open(os->user, "/d/f", CAL_OS_WRITE | CAL_OS_CREATE, &file), 0);
    assert_int_equal(os->write_at(file, 0, "first", 5), 0); /* not synced, nor the folder */
    assert_int_equal(os->lock(file), 0);
    cal_sim_copy_disk(copy, sim);
    assert_int_equal(os->write_at(file, 0, "later", 5), 0);
    os->close(file);
    assert_int_equal(cal_sim_used(copy), 5);
    cal_sim_power_off(copy);
    cal_sim_power_on(copy, CAL_SIM_DROP);
    assert_int_equal(cal_os_read_file(other, "/d/f", 100, &content, NULL), 0);
    assert_int_equal(content.len, 5);
    assert_memory_equal(content.data, "first", 5);
    assert_int_equal(other->open(other->user, "/d/f", CAL_OS_WRITE, &file), 0);
    assert_int_equal(other->lock(file), 0);
    other->close(file);
    assert_int_equal(other->remove(other->user, "/d/f"), 0);
    cal_buffer_reset(&content);
    assert_int_equal(cal_os_read_file(os, "/d/f", 100, &content, NULL), 0);
    assert_memory_equal(content.data, "later", 5);
    cal_buffer_deinit(&content);
    cal_sim_free(copy);
}

static int answer(void *user, const char *host, cal_os_address *ret_addresses, size_t *ret_count) {
    (void)user, (void)host;
    ret_addresses[0] = (cal_os_address){{127, 0, 0, 1}, 4};
    *ret_count = 1;
    return 0;
}

static void test_world(void **state) {
    cal_sim *sim = *state, *twin = cal_sim_new(7), *other = cal_sim_new(8);
    const cal_os *os = cal_sim_os(sim);
    uint8_t a[33], b[33], c[33];
    os->random(os->user, a, sizeof a);
    cal_sim_os(twin)->random(cal_sim_os(twin)->user, b, sizeof b);
    cal_sim_os(other)->random(cal_sim_os(other)->user, c, sizeof c);
    assert_memory_equal(a, b, sizeof a);
    assert_memory_not_equal(a, c, sizeof a);
    uint64_t mono = os->mono_ns(os->user), wall = os->wall_ns(os->user);
    cal_sim_advance(sim, 5);
    assert_int_equal(os->mono_ns(os->user), mono + 5);
    assert_int_equal(os->wall_ns(os->user), wall + 5);
    cal_sim_set_wall(sim, 1);
    assert_int_equal(os->wall_ns(os->user), 1);
    assert_int_equal(os->mono_ns(os->user), mono + 5);
    cal_os_address addresses[CAL_OS_ADDRESSES_MAX];
    size_t count;
    assert_int_equal(os->resolve(os->user, "x", addresses, &count), CAL_EUNREACHABLE);
    cal_sim_network(sim, answer, NULL, NULL);
    assert_int_equal(os->resolve(os->user, "x", addresses, &count), 0);
    assert_int_equal(count, 1);
    cal_sim_free(twin);
    cal_sim_free(other);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_survival),        TEST(test_tearing), TEST(test_ordered_failures),
        TEST(test_quota_and_locks), TEST(test_world),   TEST(test_copied_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
