/* The example applications on the real vm: answers, errors and events as the reference's, replay to
 * the author's root, and replicas that meet in the same tree whatever the order. */
#include "world.h"

static cal_vm *vm;
static cal_vm_module *kv, *counter;

static int open_vm(void **state) {
    (void)state;
    static guest_os os;
    guest_os_init(&os);
    cal_error err;
    if (cal_crypto_init() != 0 || cal_vm_new(&os.os, NULL, &vm, &err) != 0) return 1;
    kv = load_app(vm, "kv-store");
    counter = load_app(vm, "counter");
    return 0;
}

static int close_vm(void **state) {
    (void)state;
    cal_vm_module_unref(kv);
    cal_vm_module_unref(counter);
    cal_vm_free(vm);
    return 0;
}

static cal_slice compact(yyjson_val *input) {
    if (yyjson_is_str(input)) return golden_hex_value(input);
    size_t len;
    char *text = yyjson_val_write(input, 0, &len);
    return cal_slice_of(text, len);
}

static void expect_event(const cal_vm_event *event, yyjson_val *recorded) {
    const char *kind = yyjson_get_str(yyjson_arr_get(recorded, 0));
    const char *data = yyjson_get_str(yyjson_arr_get(recorded, 1));
    assert_true(cal_slice_equal(event->kind, cal_slice_text(kind)));
    assert_true(cal_slice_equal(event->data, cal_slice_text(data)));
    assert_false(event->has_handler);
}

/* Everything a client sees of the reference's kv-store, except the words of panics about arguments.
 */
static void test_kv_store_recording(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("apps/kv_store.json");
    replica r;
    replica_init(&r, vm, kv, 0xDE);
    size_t index, max, i;
    yyjson_val *step;
    yyjson_arr_foreach(yyjson_obj_get(yyjson_doc_get_root(doc), "steps"), index, max, step) {
        cal_slice input = compact(yyjson_obj_get(step, "input"));
        cal_vm_outcome outcome;
        replica_run(&r, yyjson_get_str(yyjson_obj_get(step, "method")), input, &outcome);
        yyjson_val *returns = yyjson_obj_get(step, "returns"),
                   *error = yyjson_obj_get(step, "error");
        assert_int_equal(outcome.failure, yyjson_is_null(error) ? CAL_VM_FINE : CAL_VM_FAIL_PANIC);
        if (yyjson_is_null(returns)) {
            assert_int_equal(outcome.return_kind, CAL_VM_RETURN_NONE);
        } else {
            const char *kind = yyjson_get_str(yyjson_arr_get(returns, 0));
            assert_int_equal(outcome.return_kind,
                             strcmp(kind, "ok") == 0 ? CAL_VM_RETURN_OK : CAL_VM_RETURN_ERR);
            const char *value = yyjson_get_str(yyjson_arr_get(returns, 1));
            assert_true(cal_slice_equal(outcome.return_value, cal_slice_text(value)));
        }
        yyjson_val *logs = yyjson_obj_get(step, "logs"), *events = yyjson_obj_get(step, "events");
        assert_int_equal(outcome.log_count, yyjson_arr_size(logs));
        for (i = 0; i < outcome.log_count; i++)
            assert_true(cal_slice_equal(outcome.logs[i],
                                        cal_slice_text(yyjson_get_str(yyjson_arr_get(logs, i)))));
        assert_int_equal(outcome.event_count, yyjson_arr_size(events));
        for (i = 0; i < outcome.event_count; i++)
            expect_event(&outcome.events[i], yyjson_arr_get(events, i));
        assert_int_equal(outcome.has_root, yyjson_is_str(yyjson_obj_get(step, "root_hash")));
        assert_int_equal(outcome.artifact.len > 0, outcome.has_root);
        cal_vm_outcome_deinit(&outcome);
        free((void *)(uintptr_t)input.data);
        if (index) replica_verify(&r);
    }
    replica_deinit(&r);
    yyjson_doc_free(doc);
}

static void expect_panic(replica *r, const char *method, const char *json, const char *message) {
    cal_vm_outcome outcome;
    replica_call(r, method, json, &outcome);
    assert_int_equal(outcome.failure, CAL_VM_FAIL_PANIC);
    if (!cal_slice_equal(outcome.panic_message, cal_slice_text(message)))
        fail_msg("%s(%s): %.*s", method, json, (int)outcome.panic_message.len,
                 (const char *)outcome.panic_message.data);
    cal_vm_outcome_deinit(&outcome);
}

static void test_arguments(void **state) {
    (void)state;
    replica r;
    replica_init(&r, vm, kv, 1);
    expect_panic(&r, "get", "{\"key\":\"a\"}", "Failed to find or read app state");
    replica_expect(&r, "init", "", NULL);
    expect_panic(&r, "init", "{}", "Cannot initialize over already existing state.");
#define WANT "get: failed to deserialize arguments (expected { key: string }): "
    expect_panic(&r, "get", "", WANT "expected an object");
    expect_panic(&r, "get", "{}", WANT "missing field `key`");
    expect_panic(&r, "get", "{\"key\":\"a\",\"b\":1}", WANT "unknown field `b`");
    expect_panic(&r, "get", "{\"key\":\"a\",\"key\":\"a\"}", WANT "duplicate field `key`");
    expect_panic(&r, "get", "{\"key\":1}", WANT "field `key`: expected a string");
    expect_panic(&r, "get", "{\"key\":null}", WANT "field `key`: expected a string");
    expect_panic(&r, "get", "{\"key\":\"a\"} x", WANT "trailing characters");
    expect_panic(&r, "get", "{\"key\":\"a\"", WANT "expected `,` or `}`");
    expect_panic(&r, "get", "{\"key\":\"\\ud800\"}",
                 WANT "field `key`: lone leading surrogate in hex escape");
    expect_panic(&r, "len", "{\"x\":[1,{\"y\":null}]}",
                 "len: takes no arguments, but the call sent unknown field(s): [\"x\"]");
    replica_expect(&r, "len", "", "0");
    replica_expect(&r, "len", "{}", "0");
    replica_expect(&r, "len", "[1]", "0");
    const char *odd =
        "{ \"value\" : \"q\\\"\\\\\\n\\u0001\\u00e9\\ud83d\\ude00\" , \"key\":\"k\\/\" }";
    replica_expect(&r, "set", odd, "null");
    replica_expect(&r, "get", "{\"key\":\"k/\"}",
                   "\"q\\\"\\\\\\n\\u0001\xC3\xA9\xF0\x9F\x98\x80\"");
    replica_deinit(&r);
}

/* The author's root is what a peer reaches by replaying (no temporary collections: traps.md 9). */
static void test_replay(void **state) {
    (void)state;
    replica a, b;
    replica_init(&a, vm, kv, 1);
    replica_init(&b, vm, kv, 2);
    static const char *const calls[][2] = {
        {"init", ""},
        {"set", "{\"key\":\"a\",\"value\":\"1\"}"},
        {"set", "{\"key\":\"b\",\"value\":\"2\"}"},
        {"set", "{\"key\":\"a\",\"value\":\"3\"}"},
        {"remove", "{\"key\":\"b\"}"},
        {"set", "{\"key\":\"b\",\"value\":\"4\"}"},
        {"get_or_insert", "{\"key\":\"c\",\"value\":\"5\"}"},
        {"clear", "{}"},
        {"set", "{\"key\":\"a\",\"value\":\"6\"}"},
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        cal_slice delta = replica_delta(&a, calls[i][0], calls[i][1]);
        replica_deliver(&b, delta);
        assert_memory_equal(a.root_hash, b.root_hash, 32);
        replica_verify(&a);
        replica_verify(&b);
        golden_free(delta);
    }
    replica_expect(&b, "entries", "{}", "{\"a\":\"6\"}");
    replica_deinit(&a);
    replica_deinit(&b);
}

/* Nothing changed: no root, no delta. An event alone makes one. */
static void test_no_change(void **state) {
    (void)state;
    replica r;
    cal_vm_outcome outcome;
    replica_init(&r, vm, kv, 1);
    replica_expect(&r, "init", "", NULL);
    replica_call(&r, "remove", "{\"key\":\"none\"}", &outcome);
    assert_int_equal(outcome.failure, CAL_VM_FINE);
    assert_false(outcome.has_root);
    assert_int_equal(outcome.event_count, 0);
    cal_vm_outcome_deinit(&outcome);
    replica_deinit(&r);
}

enum { WRITERS = 3, ROUNDS = 40, KEYS = 12 };

static uint64_t random_next(uint64_t *seed) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

/* Three replicas write, overwrite and remove the same few keys without hearing of each other, then
 * hear everything in different orders (each author's own deltas in theirs): same root, same
 * entries, trees sound. */
static void converge(uint64_t seed) {
    replica r[WRITERS];
    cal_slice deltas[WRITERS][ROUNDS];
    for (int i = 0; i < WRITERS; i++) replica_init(&r[i], vm, kv, (uint8_t)(i + 1));
    cal_slice first = replica_delta(&r[0], "init", "");
    for (int i = 1; i < WRITERS; i++) replica_deliver(&r[i], first);
    for (int i = 0; i < WRITERS; i++) {
        for (int k = 0; k < ROUNDS; k++) {
            char json[96];
            r[i].os.wall_reads += random_next(&seed) % 5;
            int key = (int)(random_next(&seed) % KEYS);
            snprintf(json, sizeof json, "{\"key\":\"k%d\"}", key);
            cal_vm_outcome outcome;
            replica_call(&r[i], "get", json, &outcome);
            bool there = outcome.return_value.len != 4;
            cal_vm_outcome_deinit(&outcome);
            bool removes = there && random_next(&seed) % 2;
            if (!removes)
                snprintf(json, sizeof json, "{\"key\":\"k%d\",\"value\":\"%d.%d\"}", key, i, k);
            deltas[i][k] = replica_delta(&r[i], removes ? "remove" : "set", json);
        }
    }
    for (int to = 0; to < WRITERS; to++) {
        int next[WRITERS] = {0}, left = (WRITERS - 1) * ROUNDS;
        while (left) {
            int from = (int)(random_next(&seed) % WRITERS);
            if (from == to || next[from] == ROUNDS) continue;
            replica_deliver(&r[to], deltas[from][next[from]++]);
            left--;
        }
    }
    for (int i = 0; i < WRITERS; i++) {
        replica_verify(&r[i]);
        assert_memory_equal(r[i].root_hash, r[0].root_hash, 32);
        for (int k = 0; k < ROUNDS; k++) golden_free(deltas[i][k]);
    }
    golden_free(first);
    for (int i = 0; i < WRITERS; i++) replica_deinit(&r[i]);
}

static void test_convergence(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) converge(seed);
}

static void test_counter(void **state) {
    (void)state;
    replica a, b;
    replica_init(&a, vm, counter, 1);
    replica_init(&b, vm, counter, 2);
    cal_slice first = replica_delta(&a, "init", "{}");
    replica_deliver(&b, first);
    assert_memory_equal(a.root_hash, b.root_hash, 32);
    cal_slice from_a[3], from_b[2];
    from_a[0] = replica_delta(&a, "increment_by", "{\"amount\":40}");
    from_a[1] = replica_delta(&a, "increment", "{}");
    from_a[2] = replica_delta(&a, "set_title", "{\"title\":\"from a\"}");
    from_b[0] = replica_delta(&b, "decrement", "{}");
    b.os.wall_reads += 100; /* b's title is later */
    from_b[1] = replica_delta(&b, "set_title", "{\"title\":\"from b\"}");
    for (int i = 0; i < 3; i++) replica_deliver(&b, from_a[i]);
    for (int i = 0; i < 2; i++) replica_deliver(&a, from_b[i]);
    replica_expect(&a, "get", "", "40");
    replica_expect(&b, "get", "", "40");
    replica_expect(&a, "get_title", "", "\"from b\"");
    replica_expect(&b, "get_title", "", "\"from b\"");
    assert_memory_equal(a.root_hash, b.root_hash, 32);
    replica_verify(&a);
    replica_verify(&b);
    expect_panic(
        &a, "increment_by", "{\"amount\":18446744073709551616}",
        "increment_by: failed to deserialize arguments (expected { amount: u64 }): field `amount`: "
        "invalid type or range: expected an integer");
    expect_panic(&a, "increment_by", "{\"amount\":18446744073709551615}", "counter count is full");
    for (int i = 0; i < 3; i++) golden_free(from_a[i]);
    for (int i = 0; i < 2; i++) golden_free(from_b[i]);
    golden_free(first);
    replica_deinit(&a);
    replica_deinit(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kv_store_recording),
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_replay),
        cmocka_unit_test(test_no_change),
        cmocka_unit_test(test_convergence),
        cmocka_unit_test(test_counter),
    };
    return cmocka_run_group_tests(tests, open_vm, close_vm);
}
