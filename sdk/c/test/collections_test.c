/* Sets, vectors, events and private values on the real vm, and the cost of a write as a map grows
 * (issue: into 100,000 entries at most three times as much as into 100). */
#include "world.h"

#include <time.h>

static cal_vm *vm;
static cal_vm_module *app;

static int open_vm(void **state) {
    (void)state;
    static guest_os os;
    guest_os_init(&os);
    cal_error err;
    cal_vm_limits limits = {.max_gas = 100000000000u};
    if (cal_crypto_init() != 0 || cal_vm_new(&os.os, &limits, &vm, &err) != 0) return 1;
    app = load_app(vm, "test-collections");
    return 0;
}

static int close_vm(void **state) {
    (void)state;
    cal_vm_module_unref(app);
    cal_vm_free(vm);
    return 0;
}

static void test_set(void **state) {
    (void)state;
    replica r;
    replica_init(&r, vm, app, 1);
    replica_expect(&r, "init", "", NULL);
    replica_expect(&r, "set_insert", "{\"value\":\"a\"}", "true");
    replica_expect(&r, "set_insert", "{\"value\":\"a\"}", "false");
    replica_expect(&r, "set_insert", "{\"value\":\"\"}", "true");
    replica_expect(&r, "set_len", "", "2");
    replica_expect(&r, "set_remove", "{\"value\":\"a\"}", "true");
    replica_expect(&r, "set_remove", "{\"value\":\"a\"}", "false");
    replica_expect(&r, "set_has", "{\"value\":\"a\"}", "false");
    replica_expect(&r, "set_has", "{\"value\":\"\"}", "true");
    replica_expect(&r, "set_insert", "{\"value\":\"a\"}", "true");
    replica_expect(&r, "set_clear", "", "null");
    replica_expect(&r, "set_len", "", "0");
    replica_verify(&r);
    replica_deinit(&r);
}

static void test_vector(void **state) {
    (void)state;
    replica a, b;
    replica_init(&a, vm, app, 1);
    replica_init(&b, vm, app, 2);
    cal_slice first = replica_delta(&a, "init", "");
    replica_deliver(&b, first);
    cal_slice pushed = replica_delta(&a, "push_many", "{\"count\":70}");
    replica_deliver(&b, pushed);
    assert_memory_equal(a.root_hash, b.root_hash, 32);
    replica_expect(&b, "vector_get", "{\"index\":0}", "\"0\"");
    replica_expect(&b, "vector_get", "{\"index\":69}", "\"69\"");
    replica_expect(&b, "vector_get", "{\"index\":70}", "null");
    /* b's clock is behind: its push still comes after what it has seen. */
    b.os.t0 -= 1000000000;
    cal_slice from_b = replica_delta(&b, "push", "{\"value\":\"b\"}");
    replica_expect(&b, "vector_get", "{\"index\":70}", "\"b\"");
    cal_slice from_a = replica_delta(&a, "vector_set", "{\"index\":33,\"value\":\"changed\"}");
    replica_deliver(&a, from_b);
    replica_deliver(&b, from_a);
    assert_memory_equal(a.root_hash, b.root_hash, 32);
    replica_expect(&a, "vector_get", "{\"index\":33}", "\"changed\"");
    cal_slice popped = replica_delta(&a, "vector_pop", "");
    replica_deliver(&b, popped);
    replica_expect(&b, "vector_len", "", "70");
    for (int i = 0; i < 70; i++) {
        cal_slice pop = replica_delta(&a, "vector_pop", "");
        replica_deliver(&b, pop);
        golden_free(pop);
    }
    replica_expect(&a, "vector_len", "", "0");
    replica_expect(&a, "vector_pop", "", "null");
    replica_expect(&a, "push", "{\"value\":\"again\"}", "1");
    replica_expect(&a, "vector_all", "", "[\"again\"]");
    replica_verify(&a);
    replica_verify(&b);
    golden_free(first);
    golden_free(pushed);
    golden_free(from_a);
    golden_free(from_b);
    golden_free(popped);
    replica_deinit(&a);
    replica_deinit(&b);
}

static void test_answers(void **state) {
    (void)state;
    replica r;
    cal_vm_outcome outcome;
    replica_init(&r, vm, app, 1);
    replica_expect(&r, "init", "", NULL);
    replica_call(&r, "args",
                 "{\"flag\":true,\"u\":4294967295,\"i\":-2147483648,\"l\":-9223372036854775808}",
                 &outcome);
    assert_int_equal(outcome.failure, CAL_VM_FINE);
    assert_true(cal_slice_equal(
        outcome.return_value,
        cal_slice_text("\"(none) 1 4294967295 -2147483648 -9223372036854775808\"")));
    assert_int_equal(outcome.event_count, 1);
    assert_true(outcome.events[0].has_handler);
    assert_true(cal_slice_equal(outcome.events[0].handler, cal_slice_text("on_mixed")));
    assert_true(cal_slice_equal(
        outcome.events[0].data,
        cal_slice_text(
            "{\"none\":null,\"yes\":true,\"low\":-2147483648,\"high\":18446744073709551615}")));
    assert_true(outcome.has_root && outcome.artifact.len > 0); /* an event travels with a delta */
    cal_vm_outcome_deinit(&outcome);
    cal_slice ping = replica_delta(&r, "ping", "");
    golden_free(ping);
    replica_call(&r, "fail_after_write", "", &outcome);
    assert_int_equal(outcome.return_kind, CAL_VM_RETURN_ERR);
    assert_true(cal_slice_equal(outcome.return_value, cal_slice_text("\"no \\\"luck\\\"\"")));
    assert_false(outcome.has_root);
    cal_vm_outcome_deinit(&outcome);
    replica_expect(&r, "map_get", "{\"key\":\"lost\"}", "null");
    replica_expect(&r, "note_get", "", "null");
    cal_slice note = replica_delta(&r, "note", "{\"text\":\"mine\"}");
    golden_free(note);
    replica_expect(&r, "note_get", "", "\"mine\"");
    replica_verify(&r);
    replica_deinit(&r);
}

/* --- the cost of a write --- */

typedef struct cost {
    uint64_t bytes, gas, calls;
    double milliseconds;
} cost;

static double now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* The mean of writes to keys spread over the map, new ones and overwrites alike. */
static cost measure(replica *r, unsigned entries, bool overwrite) {
    enum { SAMPLES = 64 };
    cost total = {0};
    uint64_t bytes = r->bytes_read + r->bytes_written, calls = r->reads + r->writes;
    double start = now_ms();
    for (unsigned i = 0; i < SAMPLES; i++) {
        char json[96];
        unsigned key = i * (entries / SAMPLES + 1) % entries;
        snprintf(json, sizeof json, "{\"key\":\"%s-%u\",\"value\":\"a value of a usual size\"}",
                 overwrite ? "key" : "new", overwrite ? key : entries + i);
        cal_vm_outcome outcome;
        replica_call(r, "map_set", json, &outcome);
        assert_true(outcome.failure == CAL_VM_FINE && outcome.has_gas);
        total.gas += outcome.gas_used / SAMPLES;
        cal_vm_outcome_deinit(&outcome);
    }
    total.milliseconds = (now_ms() - start) / SAMPLES;
    total.bytes = (r->bytes_read + r->bytes_written - bytes) / SAMPLES;
    total.calls = (r->reads + r->writes - calls) / SAMPLES;
    printf("  %-9s into %6u: %6llu bytes, %3llu rows, %8llu gas, %.3f ms\n",
           overwrite ? "overwrite" : "insert", entries, (unsigned long long)total.bytes,
           (unsigned long long)total.calls, (unsigned long long)total.gas, total.milliseconds);
    return total;
}

static void fill(replica *r, unsigned from, unsigned to) {
    enum { STEP = 2500 };
    for (unsigned at = from; at < to; at += STEP) {
        char json[64];
        snprintf(json, sizeof json, "{\"from\":%u,\"count\":%u}", at,
                 to - at < STEP ? to - at : STEP);
        replica_expect(r, "fill", json, "null");
    }
}

static void test_growth(void **state) {
    (void)state;
    replica r;
    replica_init(&r, vm, app, 1);
    replica_expect(&r, "init", "", NULL);
    fill(&r, 0, 100);
    cost small = measure(&r, 100, true), small_new = measure(&r, 100, false);
    fill(&r, 100, 100000);
    cost large = measure(&r, 100000, true), large_new = measure(&r, 100000, false);
    assert_true(large.bytes <= 3 * small.bytes && large_new.bytes <= 3 * small_new.bytes);
    assert_true(large.gas <= 3 * small.gas && large_new.gas <= 3 * small_new.gas);
    double start = now_ms();
    replica_expect(&r, "map_len", "", "100128");
    printf("  len of 100128: %.1f ms\n", now_ms() - start);
    replica_verify(&r);
    replica_deinit(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_vector),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_growth),
    };
    return cmocka_run_group_tests(tests, open_vm, close_vm);
}
