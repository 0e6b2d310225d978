/* What becomes of modules and of guests that end badly: validation, linking, names, traps, gas,
 * deadline, stack, memory (runtime-abi.md 1, 5, 15-17). */
#include "support/guest.h"

#include <inttypes.h>

#define MODULE(body) "(module (memory (export \"memory\") 1) " body ")"
#define RUN(body) MODULE("(func (export \"run\") " body ")")

/* --- modules --- */

static int compile_code(guest_world *world, const char *text, cal_error *err) {
    cal_buffer wasm = guest_binary(text);
    cal_vm_module *module = NULL;
    int code = guest_compile(world->vm, cal_buffer_slice(&wasm), &module, err);
    cal_vm_module_unref(module);
    cal_buffer_deinit(&wasm);
    return code;
}

static void refused(guest_world *world, const char *text, const char *start) {
    cal_error err = {0};
    assert_int_equal(compile_code(world, text, &err), CAL_EGUEST);
    if (strncmp(err.message, start, strlen(start)) != 0) fail_msg("%s", err.message);
}

static void validation_follows_its_order(void **state) {
    static const char *const rejected = "module rejected by validation: ";
    refused(*state, "(module (import \"x\" \"y\" (memory 1)) (func (export \"_start\")))",
            "module rejected by validation: it imports the memory `x::y`");
    refused(*state,
            "(module (import \"env\" \"memory\" (memory 1)) (export \"memory\" (memory 0)))",
            rejected);
    refused(*state, "(module (func (export \"_start\")))",
            "module rejected by validation: it exports a function `_start`");
    refused(*state, MODULE("(func (export \"_start\"))"), /* the lone reason */
            "module rejected by validation: it exports a function `_start`");
    refused(*state, "(module)",
            "module rejected by validation: it exports no memory named `memory`");
    refused(*state, "(module (memory (export \"mem\") 1))", rejected);
    refused(*state, "(module (func (export \"memory\")))", rejected);
    cal_error err = {0};
    /* A global of that name is no entry point. */
    assert_int_equal(
        compile_code(*state, MODULE("(global (export \"_start\") i32 (i32.const 0))"), &err), 0);
}

static void what_is_no_module_does_not_compile(void **state) {
    guest_world *world = *state;
    static const char *const bad[] = {"", "x", "\0asm", "\0asm\1\0\0\0\1"};
    static const size_t lens[] = {0, 1, 4, 9};
    for (size_t i = 0; i < 4; i++) {
        cal_vm_module *module = NULL;
        cal_error err = {0};
        assert_int_equal(guest_compile(world->vm, cal_slice_of(bad[i], lens[i]), &module, &err),
                         CAL_EGUEST);
        assert_memory_equal(err.message, "compilation error: ", 19);
    }
}

static void only_the_listed_features_compile(void **state) {
    static const char *const accepted[] = {
        RUN("(drop (i32.extend8_s (i32.const 1))) (drop (i32.trunc_sat_f32_s (f32.const 1)))"),
        RUN("(memory.fill (i32.const 0) (i32.const 1) (i32.const 8))"),
        RUN("(drop (i32x4.add (v128.const i32x4 1 2 3 4) (v128.const i32x4 1 2 3 4)))"),
        MODULE("(func (result i32 i32) i32.const 1 i32.const 2)"),
        MODULE("(table 2 funcref) (func (export \"run\") (drop (table.size 0)))"),
    };
    static const char *const off[] = {
        MODULE("(func $f (return_call $f))"),
        MODULE("(memory 1)"),
        "(module (memory (export \"memory\") i64 1))",
        "(module (memory (export \"memory\") 1 2 shared))",
        RUN("(drop (i32.atomic.load (i32.const 0)))"),
        RUN("(drop (i32x4.relaxed_trunc_f32x4_s (v128.const i32x4 1 2 3 4)))"),
        MODULE("(tag) (func (throw 0))"),
        MODULE("(type (struct (field i32)))"),
        MODULE("(table 1 externref)"),
    };
    for (size_t i = 0; i < sizeof accepted / sizeof *accepted; i++) {
        cal_error err = {0};
        if (compile_code(*state, accepted[i], &err) != 0)
            fail_msg("%s: %s", accepted[i], err.message);
    }
    for (size_t i = 0; i < sizeof off / sizeof *off; i++)
        refused(*state, off[i], "compilation error: ");
}

/* A module of exactly `size` bytes, filled up with a custom section of that name. */
static cal_buffer padded(const char *name, size_t size) {
    cal_buffer wasm = guest_binary(RUN(""));
    size_t name_len = strlen(name), content = size - wasm.len - 6;
    cal_buffer_append_u8(&wasm, 0);
    for (int i = 0; i < 5; i++) /* the length in its longest form */
        cal_buffer_append_u8(&wasm, (uint8_t)((content >> (7 * i)) & 0x7f) | (i < 4 ? 0x80 : 0));
    cal_buffer_append_u8(&wasm, (uint8_t)name_len);
    cal_buffer_append_text(&wasm, name);
    size_t filler = content - 1 - name_len;
    uint8_t *at = cal_buffer_reserve(&wasm, filler);
    assert_non_null(at);
    memset(at, 0x55, filler);
    wasm.len += filler;
    assert_int_equal(wasm.len, size);
    return wasm;
}

static void a_module_has_twenty_mebibytes(void **state) {
    guest_world *world = *state;
    static const struct {
        const char *section;
        size_t size;
        int code;
    } cases[] = {
        {"pad", CAL_VM_MODULE_MAX, 0},
        {"pad", CAL_VM_MODULE_MAX + 1, CAL_EGUEST},
        {".debug_info", CAL_VM_MODULE_MAX + 1000, 0},
        {".debug", CAL_VM_MODULE_MAX + 1, CAL_EGUEST},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cal_buffer wasm = padded(cases[i].section, cases[i].size);
        cal_vm_module *module = NULL;
        cal_error err = {0};
        assert_int_equal(guest_compile(world->vm, cal_buffer_slice(&wasm), &module, &err),
                         cases[i].code);
        if (cases[i].code != 0)
            assert_string_equal(err.message,
                                "module size limit (max_module_size) exceeded: 20971521 bytes > "
                                "20971520 bytes limit");
        cal_vm_module_unref(module);
        cal_buffer_deinit(&wasm);
    }
}

static void artefacts_load_or_are_refused(void **state) {
    guest_world *world = *state;
    cal_buffer wasm = guest_binary(RUN("")), artifact;
    cal_buffer_init(&artifact, SIZE_MAX);
    cal_error err = {0};
    assert_int_equal(cal_vm_compile(world->vm, cal_buffer_slice(&wasm), &artifact, &err), 0);
    cal_vm_module *module = NULL;
    assert_int_equal(cal_vm_load(world->vm, cal_slice_of(NULL, 0), &module, &err), CAL_ECORRUPT);
    assert_int_equal(cal_vm_load(world->vm, cal_buffer_slice(&wasm), &module, &err), CAL_ECORRUPT);
    assert_int_equal(cal_vm_load(world->vm, cal_slice_of(artifact.data, 40), &module, &err),
                     CAL_ECORRUPT);
    assert_int_equal(cal_vm_load(world->vm, cal_buffer_slice(&artifact), &module, &err), 0);
    assert_ptr_equal(cal_vm_module_ref(module), module);
    cal_vm_module_unref(module);
    assert_true(cal_vm_module_exports(module, "run"));
    assert_false(cal_vm_module_exports(module, "memory"));
    cal_vm_module_unref(module);
    cal_buffer_deinit(&wasm);
    cal_buffer_deinit(&artifact);
}

static void a_small_artifact_buffer_is_said_so(void **state) {
    guest_world *world = *state;
    cal_buffer wasm = guest_binary(RUN("")), artifact;
    cal_buffer_init(&artifact, 100);
    cal_error err = {0};
    assert_int_equal(cal_vm_compile(world->vm, cal_buffer_slice(&wasm), &artifact, &err),
                     CAL_ELIMIT);
    cal_buffer_deinit(&wasm);
    cal_buffer_deinit(&artifact);
}

static void one_build_has_one_fingerprint(void **state) {
    guest_world *world = *state;
    uint8_t one[32], two[32] = {0};
    cal_vm *other = NULL;
    assert_int_equal(cal_vm_new(&world->os.os, NULL, &other, NULL), 0);
    cal_vm_fingerprint(world->vm, one);
    cal_vm_fingerprint(other, two);
    assert_memory_equal(one, two, 32);
    cal_vm_free(other);
}

static void operators_stay_below_the_ceilings(void **state) {
    guest_world *world = *state;
    cal_vm *vm = NULL;
    cal_error err = {0};
    cal_vm_limits logs = {.max_logs = VM_LOGS_CEILING + 1},
                  size = {.max_log_size = VM_LOG_SIZE_CEILING + 1};
    assert_int_equal(cal_vm_new(&world->os.os, &logs, &vm, &err), CAL_EINVAL);
    assert_int_equal(cal_vm_new(&world->os.os, &size, &vm, &err), CAL_EINVAL);
    assert_null(vm);
    cal_vm_free(NULL);
}

static void custom_sections_are_found(void **state) {
    (void)state;
    cal_buffer wasm = guest_binary(
        "(module (@custom \"a\" \"one\") (memory 1) (@custom \"b\" \"\") (@custom \"a\" \"two\"))");
    cal_slice content;
    assert_int_equal(cal_wasm_custom_section(cal_buffer_slice(&wasm), "a", &content), 0);
    assert_true(cal_slice_equal(content, cal_slice_text("two")));
    assert_int_equal(cal_wasm_custom_section(cal_buffer_slice(&wasm), "b", &content), 0);
    assert_int_equal(content.len, 0);
    assert_int_equal(cal_wasm_custom_section(cal_buffer_slice(&wasm), "c", &content),
                     CAL_ENOTFOUND);
    size_t ends =
        0; /* a cut at the end of a section leaves a shorter module, any other is malformed */
    for (size_t len = 0; len < wasm.len; len++) {
        int code = cal_wasm_custom_section(cal_slice_of(wasm.data, len), "zz", &content);
        assert_true(code == CAL_EDECODE || code == CAL_ENOTFOUND);
        if (code == CAL_ENOTFOUND) ends++;
    }
    assert_int_equal(ends, 4);
    cal_buffer_deinit(&wasm);
    /* A name that reaches into what follows its section: there it would be another one. */
    static const uint8_t header[] = {0, 'a', 's', 'm', 1, 0, 0, 0};
    for (uint8_t len = 1; len <= 2; len++) {
        uint8_t bytes[14] = {[9] = 2, [10] = len, [11] = 'a', [12] = 'b'};
        memcpy(bytes, header, sizeof header);
        assert_int_equal(cal_wasm_custom_section(cal_slice_of(bytes, sizeof bytes), "ab", &content),
                         len == 1 ? CAL_ENOTFOUND : CAL_EDECODE);
    }
}

/* --- methods --- */

static void method_fails(guest_world *world, const char *method, const char *error) {
    world->call.method = method;
    cal_vm_outcome outcome =
        guest_run(world, MODULE("(func (export \"ok\")) (func (export \"takes\") (param i32)) "
                                "(func (export \"gives\") (result "
                                "i64) i64.const 0) (global (export \"glob\") i32 (i32.const 0))"));
    assert_string_equal(outcome.error, error);
    assert_int_equal(outcome.failure, CAL_VM_FAIL_METHOD);
    assert_false(outcome.has_gas);
    cal_vm_outcome_deinit(&outcome);
}

static void names_are_checked_first(void **state) {
    method_fails(*state, "", "method name is empty");
    method_fails(*state, "a-b", "method name contains invalid character at position 1: '-'");
    method_fails(*state, "ab\n", "method name contains invalid character at position 2: '\\n'");
    method_fails(*state, "'", "method name contains invalid character at position 0: '\\''");
    method_fails(*state, "\x1b", "method name contains invalid character at position 0: '\\u{1b}'");
    method_fails(*state, "a\xc3\xa9",
                 "method name contains invalid character at position 1: '\xc3\xa9'");
    method_fails(*state, "a\xff",
                 "method name contains invalid character at position 1: '\xef\xbf\xbd'");
    method_fails(*state, "a b", "method name contains invalid character at position 1: ' '");
    char name[CAL_VM_METHOD_MAX + 2], error[600];
    memset(name, 'x', sizeof name);
    name[CAL_VM_METHOD_MAX + 1] = '\0';
    method_fails(*state, name, "method name too long: 257 bytes (max: 256)");
    name[CAL_VM_METHOD_MAX] = '\0';
    snprintf(error, sizeof error, "method \"%s\" not found", name);
    method_fails(*state, name, error);
}

static void methods_are_functions_without_arguments(void **state) {
    method_fails(*state, "missing", "method \"missing\" not found");
    method_fails(*state, "memory", "method \"memory\" not found");
    method_fails(*state, "glob", "method \"glob\" not found");
    method_fails(
        *state, "takes",
        "method \"takes\" has invalid signature: expected no arguments and no return value");
    method_fails(
        *state, "gives",
        "method \"gives\" has invalid signature: expected no arguments and no return value");
    guest_world *world = *state;
    world->call.method = "run";
    guest_passes(world, RUN(""));
}

/* --- linking and starting --- */

static void link_fails(guest_world *world, const char *text) {
    cal_vm_outcome outcome = guest_run(world, text);
    assert_int_equal(outcome.failure, CAL_VM_FAIL_LINK);
    assert_memory_equal(outcome.error, "link error: ", 12);
    assert_false(outcome.has_gas);
    cal_vm_outcome_deinit(&outcome);
}

static void unknown_imports_fail_to_link(void **state) {
    link_fails(*state, "(module (import \"env\" \"nothing\" (func)) (memory (export \"memory\") 1) "
                       "(func (export \"run\")))");
    link_fails(
        *state,
        "(module (import \"other\" \"input\" (func (param i64))) (memory (export \"memory\") 1))");
    link_fails(
        *state,
        "(module (import \"env\" \"input\" (func (param i32))) (memory (export \"memory\") 1))");
    link_fails(*state, "(module (import \"env\" \"input\" (func (param i64) (result i32))) (memory "
                       "(export \"memory\") 1))");
    link_fails(*state,
               "(module (import \"env\" \"input\" (global i32)) (memory (export \"memory\") 1))");
    link_fails(*state,
               "(module (import \"env\" \"t\" (table 1 funcref)) (memory (export \"memory\") 1))");
    link_fails(*state, "(module (import \"env\" \"js_crdt_map_new\" (func (param i64) (result "
                       "i32))) (memory (export \"memory\") 1))");
    link_fails(*state, "(module (import \"env\" \"js_std_d_print\" (func (param i64 i64 i64) "
                       "(result i32))) (memory (export \"memory\") 1))");
}

static void start_sections_run_before_the_host_is_there(void **state) {
    guest_passes(
        *state,
        MODULE(
            "(global $g (mut i32) (i32.const 0)) (func $s (global.set $g (i32.const 1))) (start $s)"
            "(func (export \"run\") (if (i32.ne (global.get $g) (i32.const 1)) (then "
            "unreachable)))"));
    guest_fails(*state, MODULE("(func $s unreachable) (start $s)"), CAL_VM_FAIL_TRAP,
                "unreachable code reached");
    guest_fails(*state, MODULE("(func $s (loop br 0)) (start $s)"), CAL_VM_FAIL_GAS,
                "execution exhausted its gas limit of 1000000000 points");
    guest_fails(*state,
                "(module (import \"env\" \"input\" (func $input (param i64))) (memory (export "
                "\"memory\") 1)"
                "(func $s (call $input (i64.const 0))) (start $s) (func (export \"run\")))",
                CAL_VM_FAIL_HOST,
                "host panicked: `input` was called by the module's start function, before the "
                "module was ready");
    guest_fails(*state, MODULE("(data (i32.const 65535) \"ab\") (func (export \"run\"))"),
                CAL_VM_FAIL_TRAP, "memory out of bounds");
}

/* --- traps --- */

static void every_trap_has_its_text(void **state) {
    static const struct {
        const char *text, *error;
    } cases[] = {
        {RUN("unreachable"), "unreachable code reached"},
        {RUN("(drop (i32.load (i32.const 65533)))"), "memory out of bounds"},
        {RUN("(i64.store (i32.const -1) (i64.const 0))"), "memory out of bounds"},
        {RUN("(memory.fill (i32.const 65535) (i32.const 0) (i32.const 2))"),
         "memory out of bounds"},
        {MODULE("(table 1 funcref) (func (export \"run\") (call_indirect (i32.const 1)))"),
         "memory out of bounds"},
        {MODULE("(table 1 funcref) (func (export \"run\") (drop (table.get 0 (i32.const 9))))"),
         "memory out of bounds"},
        {MODULE("(table 1 funcref) (func (export \"run\") (call_indirect (i32.const 0)))"),
         "indirect call to null"},
        {MODULE("(table 1 funcref) (elem (i32.const 0) $f) (func $f (param i32))"
                "(func (export \"run\") (call_indirect (i32.const 0)))"),
         "bad signature"},
        {RUN("(drop (i32.div_s (i32.const 1) (i32.const 0)))"), "illegal arithmetic operation"},
        {RUN("(drop (i64.rem_u (i64.const 1) (i64.const 0)))"), "illegal arithmetic operation"},
        {RUN("(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))"),
         "illegal arithmetic operation"},
        {RUN("(drop (i32.trunc_f32_s (f32.const nan)))"), "illegal arithmetic operation"},
        {RUN("(drop (i32.trunc_f64_u (f64.const 1e20)))"), "illegal arithmetic operation"},
        {MODULE("(func $f (export \"run\") (call $f))"), "stack overflow"},
        {MODULE("(func $f (param i64) (result i64) (i64.add (call $f (local.get 0)) (call $f "
                "(local.get 0))))"
                "(func (export \"run\") (drop (call $f (i64.const 1))))"),
         "stack overflow"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        guest_fails(*state, cases[i].text, CAL_VM_FAIL_TRAP, cases[i].error);
}

/* --- gas --- */

static void endless_loops_run_out_of_gas(void **state) {
    guest_world *world = *state;
    world->call.max_gas = 100000;
    cal_vm_outcome outcome = guest_run(world, RUN("(loop br 0)"));
    assert_int_equal(outcome.failure, CAL_VM_FAIL_GAS);
    assert_string_equal(outcome.error, "execution exhausted its gas limit of 100000 points");
    assert_true(outcome.has_gas);
    assert_int_equal(outcome.gas_used, 100000);
    cal_vm_outcome_deinit(&outcome);
    world->call.max_gas = 0;
    guest_fails(world, RUN("(loop br 0)"), CAL_VM_FAIL_GAS,
                "execution exhausted its gas limit of 1000000000 points");
}

static void gas_is_enough_or_not(void **state) {
    guest_world *world = *state;
    static const char *const text =
        RUN("(local $i i32) (local.set $i (i32.const 100)) (loop (local.set $i (i32.sub "
            "(local.get $i) (i32.const 1))) (br_if 0 (local.get $i)))");
    cal_vm_outcome outcome = guest_run(world, text);
    assert_int_equal(outcome.failure, CAL_VM_FINE);
    assert_true(outcome.has_gas);
    uint64_t used = outcome.gas_used;
    cal_vm_outcome_deinit(&outcome);
    assert_in_range(used, 300, 1000);
    world->call.max_gas = used + 1;
    guest_passes(world, text);
    world->call.max_gas = used - 10;
    outcome = guest_run(world, text);
    assert_int_equal(outcome.failure, CAL_VM_FAIL_GAS);
    cal_vm_outcome_deinit(&outcome);
}

static void start_functions_do_not_eat_into_the_budget(void **state) {
    guest_world *world = *state;
    cal_vm_outcome outcome = guest_run(
        world,
        MODULE("(func $s (local $i i32) (loop (local.set $i (i32.add (local.get $i) (i32.const 1)))"
               "(br_if 0 (i32.lt_u (local.get $i) (i32.const 1000))))) (start $s) (func (export "
               "\"run\"))"));
    assert_int_equal(outcome.failure, CAL_VM_FINE);
    assert_in_range(outcome.gas_used, 0, 10);
    cal_vm_outcome_deinit(&outcome);
}

/* --- the merge registration --- */

#define MERGE(type, body, run)                                                                     \
    MODULE(                                                                                        \
        "(global $g (mut i32) (i32.const 0)) (func (export \"__calimero_register_merge\") " type   \
        " " body ")"                                                                               \
        "(func (export \"run\") " run ")")
#define SET "(global.set $g (i32.const 1))"
#define WAS(n) "(if (i32.ne (global.get $g) (i32.const " #n ")) (then unreachable))"

static void registration_runs_first_and_may_fail(void **state) {
    guest_world *world = *state;
    guest_passes(world, MERGE("", SET, WAS(1)));
    guest_passes(world, MERGE("(param i32)", SET, WAS(0)));
    guest_passes(world, MERGE("(result i32)", SET " i32.const 0", WAS(0)));
    guest_passes(world, MERGE("", SET "unreachable", WAS(1)));
    /* A host error of it is forgotten too, but its gas is not. */
    guest_passes(world, "(module (import \"env\" \"input\" (func $i (param i64))) (import \"env\" "
                        "\"commit\" (func $c "
                        "(param i64 i64))) (memory (export \"memory\") 1) (func (export "
                        "\"__calimero_register_merge\") "
                        "(call $c (i64.const -1) (i64.const 0))) (func (export \"run\")))");
    guest_fails(world, MERGE("", "(loop br 0)", ""), CAL_VM_FAIL_GAS,
                "execution exhausted its gas limit of 1000000000 points");
}

static void a_failing_node_is_not_forgotten(void **state) {
    guest_world *world = *state;
    world->storage.fail_at = 1;
    world->storage.fail_code = CAL_EIO;
    cal_vm_outcome outcome = guest_run(
        world,
        "(module (import \"env\" \"storage_read\" (func $r (param i64 i64) (result i32))) (memory "
        "(export "
        "\"memory\") 1) (data (i32.const 8) \"\\20\") (func (export \"__calimero_register_merge\") "
        "(drop (call $r (i64.const 0) (i64.const 0)))) (func (export \"run\")))");
    assert_int_equal(outcome.failure, CAL_VM_FAIL_NODE);
    assert_int_equal(outcome.node_error, CAL_EIO);
    assert_non_null(strstr(outcome.error, "the node could not carry out the call"));
    cal_vm_outcome_deinit(&outcome);
}

/* --- deadline --- */

static void endless_loops_meet_the_deadline(void **state) {
    guest_world *world = *state;
    world->os.mono_step = UINT64_C(1000000000); /* each look at the clock finds a second gone */
    world->call.deadline_ms = 3000;
    world->call.max_gas = UINT64_MAX;
    guest_fails(world, RUN("(loop br 0)"), CAL_VM_FAIL_DEADLINE,
                "execution exceeded its time limit of 3000 ms (runtime.call_deadline_ms)");
    guest_passes(world, RUN(""));
    guest_fails(world, MODULE("(func $s (loop br 0)) (start $s)"), CAL_VM_FAIL_DEADLINE,
                "execution exceeded its time limit of 3000 ms (runtime.call_deadline_ms)");
    guest_fails(world, MERGE("", "(loop br 0)", "(loop br 0)"), CAL_VM_FAIL_DEADLINE,
                "execution exceeded its time limit of 3000 ms (runtime.call_deadline_ms)");
}

static void gas_ends_what_the_deadline_does_not(void **state) {
    guest_world *world = *state; /* time stands still */
    world->call.deadline_ms = 1;
    world->call.max_gas = 100000000;
    guest_fails(world, RUN("(loop br 0)"), CAL_VM_FAIL_GAS,
                "execution exhausted its gas limit of 100000000 points");
}

/* --- memory and tables --- */

#define GROW(by, answer)                                                                           \
    "(if (i32.ne (memory.grow (i32.const " #by ")) (i32.const " #answer ")) (then unreachable))"

static void memory_grows_to_its_cap(void **state) {
    guest_world *world = *state;
    guest_passes(world, RUN(GROW(1023, 1) GROW(1, -1)
                                GROW(0, 1024) "(i32.store8 (i32.const 67108863) (i32.const 1))"));
    guest_passes(world, RUN(GROW(1024, -1) GROW(65535, -1) GROW(1, 1)));
    world->call.memory_max = 2 * 65536;
    guest_passes(world, RUN(GROW(1, 1) GROW(1, -1)));
    guest_passes(world, "(module (memory (export \"memory\") 2) (func (export \"run\")))");
    link_fails(world, "(module (memory (export \"memory\") 3) (func (export \"run\")))");
    world->call.memory_max = UINT64_C(1) << 30;
    guest_passes(world, RUN(GROW(16383, 1) GROW(1, -1)));
}

static void tables_are_bounded(void **state) {
    guest_passes(
        *state,
        MODULE(
            "(table 10 funcref) (func (export \"run\") (if (i32.ne (table.grow 0 (ref.null func) "
            "(i32.const 1000000)) (i32.const -1)) (then unreachable)))"));
    refused(*state, MODULE("(table 1000000 funcref) (func (export \"run\"))"),
            "compilation error: ");
}

static void nothing_survives_a_call(void **state) {
    guest_world *world = *state;
    cal_vm_module *module = guest_module(
        world->vm, MODULE("(func (export \"run\") (if (i32.load (i32.const 0)) (then unreachable))"
                          "(i32.store (i32.const 0) (i32.const 1)))"));
    world->call.method = "run";
    for (int i = 0; i < 3; i++) {
        cal_vm_outcome outcome;
        cal_vm_run(world->vm, module, &world->call, &outcome);
        assert_int_equal(outcome.failure, CAL_VM_FINE);
        cal_vm_outcome_deinit(&outcome);
    }
    cal_vm_module_unref(module);
}

/* --- threads --- */

typedef struct worker {
    guest_world *world;
    cal_vm_module *module;
    const char *method;
    cal_vm_failure wanted;
    size_t wrong;
} worker;

static void *work(void *user) {
    worker *self = user;
    cal_vm_call call = self->world->call;
    call.method = self->method;
    call.max_gas = 200000;
    call.deadline_ms = 1000; /* time stands still, but every tick is looked at */
    for (int i = 0; i < 200; i++) {
        cal_vm_outcome outcome;
        cal_vm_run(self->world->vm, self->module, &call, &outcome);
        if (outcome.failure != self->wanted) self->wrong++;
        cal_vm_outcome_deinit(&outcome);
    }
    return NULL;
}

/* On the smallest stack that vm.h allows, so that deep recursion is known to end as a trap there.
 */
static void calls_run_side_by_side(void **state) {
    guest_world *world = *state;
    enum { WORKERS = 4 };
    cal_vm_module *module = guest_module(
        world->vm,
        MODULE("(func (export \"fine\") (i32.store (i32.const 0) (i32.const 1)))"
               "(func $deep (export \"deep\") call $deep) (func (export \"trap\") unreachable)"
               "(func (export \"spin\") (loop br 0))"));
    worker workers[WORKERS] = {{world, module, "fine", CAL_VM_FINE, 0},
                               {world, module, "deep", CAL_VM_FAIL_TRAP, 0},
                               {world, module, "trap", CAL_VM_FAIL_TRAP, 0},
                               {world, module, "spin", CAL_VM_FAIL_GAS, 0}};
    pthread_t threads[WORKERS];
    pthread_attr_t attributes;
    engine_signals_use();
    assert_int_equal(pthread_attr_init(&attributes), 0);
    assert_int_equal(pthread_attr_setstacksize(&attributes, CAL_VM_THREAD_STACK), 0);
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&threads[i], &attributes, work, &workers[i]), 0);
    for (int i = 0; i < WORKERS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(workers[i].wrong, 0);
    }
    pthread_attr_destroy(&attributes);
    cal_vm_module_unref(module);
}

static void errors_of_applications_are_byte_lists(void **state) {
    (void)state;
    cal_buffer text;
    cal_buffer_init(&text, 1000);
    cal_vm_format_err(cal_slice_text("\"k\""), &text);
    assert_string_equal(cal_buffer_cstr(&text), "the method call returned an error: [34, 107, 34]");
    cal_buffer_reset(&text);
    cal_vm_format_err(cal_slice_text(""), &text);
    assert_string_equal(cal_buffer_cstr(&text), "the method call returned an error: []");
    cal_buffer_deinit(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        GUEST_TEST(validation_follows_its_order),
        GUEST_TEST(what_is_no_module_does_not_compile),
        GUEST_TEST(only_the_listed_features_compile),
        GUEST_TEST(a_module_has_twenty_mebibytes),
        GUEST_TEST(artefacts_load_or_are_refused),
        GUEST_TEST(a_small_artifact_buffer_is_said_so),
        GUEST_TEST(one_build_has_one_fingerprint),
        GUEST_TEST(operators_stay_below_the_ceilings),
        GUEST_TEST(custom_sections_are_found),
        GUEST_TEST(names_are_checked_first),
        GUEST_TEST(methods_are_functions_without_arguments),
        GUEST_TEST(unknown_imports_fail_to_link),
        GUEST_TEST(start_sections_run_before_the_host_is_there),
        GUEST_TEST(every_trap_has_its_text),
        GUEST_TEST(endless_loops_run_out_of_gas),
        GUEST_TEST(gas_is_enough_or_not),
        GUEST_TEST(start_functions_do_not_eat_into_the_budget),
        GUEST_TEST(registration_runs_first_and_may_fail),
        GUEST_TEST(a_failing_node_is_not_forgotten),
        GUEST_TEST(endless_loops_meet_the_deadline),
        GUEST_TEST(gas_ends_what_the_deadline_does_not),
        GUEST_TEST(memory_grows_to_its_cap),
        GUEST_TEST(tables_are_bounded),
        GUEST_TEST(nothing_survives_a_call),
        GUEST_TEST(calls_run_side_by_side),
        GUEST_TEST(errors_of_applications_are_byte_lists),
    };
    return cmocka_run_group_tests(tests, guest_world_new, guest_world_free);
}
