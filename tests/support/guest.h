/* Guests in WebAssembly text for the sandbox tests: compile and run a text, and a module made from
 * the table of host functions that calls any of them on a memory image of the test's choosing. */
#ifndef CAL_TESTS_GUEST_H
#define CAL_TESTS_GUEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/engine_signals.h"
#include "support/guest_os.h"
#include "support/guest_text.h"
#include "support/memory_storage.h"
#include "vm/internal.h"

typedef struct guest_world {
    cal_vm *vm;
    guest_os os;
    memory_storage storage;
    cal_vm_storage table;
    cal_vm_call call;
    cal_vm_module *caller;
    cal_buffer image;
} guest_world;

/* --- from text --- */

static inline cal_buffer guest_binary(const char *text) {
    wasm_byte_vec_t bytes;
    wasmtime_error_t *error = wasmtime_wat2wasm(text, strlen(text), &bytes);
    if (error) {
        char message[1024];
        vm_engine_text(error, message, sizeof message);
        fail_msg("the test's text is wrong: %s", message);
    }
    cal_buffer wasm;
    cal_buffer_init(&wasm, SIZE_MAX);
    cal_buffer_append(&wasm, bytes.data, bytes.size);
    wasm_byte_vec_delete(&bytes);
    return wasm;
}

static inline int guest_compile(cal_vm *vm, cal_slice wasm, cal_vm_module **ret_module,
                                cal_error *err) {
    cal_buffer artifact;
    cal_buffer_init(&artifact, SIZE_MAX);
    int code = cal_vm_compile(vm, wasm, &artifact, err);
    if (code == 0) code = cal_vm_load(vm, cal_buffer_slice(&artifact), ret_module, err);
    cal_buffer_deinit(&artifact);
    return code;
}

static inline cal_vm_module *guest_module(cal_vm *vm, const char *text) {
    cal_buffer wasm = guest_binary(text);
    cal_vm_module *module = NULL;
    cal_error err = {0};
    if (guest_compile(vm, cal_buffer_slice(&wasm), &module, &err) != 0) fail_msg("%s", err.message);
    cal_buffer_deinit(&wasm);
    return module;
}

/* Runs a text's method `run` (or another) with the world's call. */
static inline cal_vm_outcome guest_run(guest_world *world, const char *text) {
    cal_vm_module *module = guest_module(world->vm, text);
    cal_vm_outcome outcome;
    engine_signals_use();
    if (!world->call.method) world->call.method = "run";
    cal_vm_run(world->vm, module, &world->call, &outcome);
    cal_vm_module_unref(module);
    return outcome;
}

static inline void guest_fails(guest_world *world, const char *text, cal_vm_failure failure,
                               const char *error) {
    cal_vm_outcome outcome = guest_run(world, text);
    assert_string_equal(outcome.error, error);
    assert_int_equal(outcome.failure, failure);
    cal_vm_outcome_deinit(&outcome);
}

static inline void guest_passes(guest_world *world, const char *text) {
    guest_fails(world, text, CAL_VM_FINE, "");
}

/* --- the module that calls every host function ---
 *
 * `call_NAME` copies the input to address 0, reads up to five arguments from address 0, repeats the
 * call as often as address 40 says, and returns: the last result (8 bytes), GUEST_OUT_SIZE bytes at
 * GUEST_OUT, then what register GUEST_REGISTER holds. */

enum {
    GUEST_PAGES = 640,
    GUEST_MEMORY = GUEST_PAGES * 65536,
    GUEST_REGISTER = 5,
    GUEST_IMAGE_REGISTER = 99,
    GUEST_OUT = 64, /* inside the image */
    GUEST_OUT_SIZE = 64,
    GUEST_DATA = 128,            /* where images put what they like */
    GUEST_SCRATCH = 400 * 65536, /* descriptors of the module itself */
    GUEST_RESULT = GUEST_SCRATCH + 4096,
};

static inline void guest_export(cal_buffer *text, const vm_host_function *function) {
    cal_buffer_printf(text, "(func (export \"call_%s\") (local $n i64) call $load\n",
                      function->name);
    cal_buffer_append_text(text, "(local.set $n (i64.load (i32.const 40)))\n(loop $again ");
    if (function->result) cal_buffer_printf(text, "i32.const %d ", GUEST_RESULT);
    for (int i = 0; i < function->params; i++)
        cal_buffer_printf(text, "(i64.load (i32.const %d)) ", 8 * i);
    cal_buffer_printf(text, "call $%s ", function->name);
    if (function->result == 32) cal_buffer_append_text(text, "i64.extend_i32_u ");
    if (function->result) cal_buffer_append_text(text, "i64.store ");
    cal_buffer_append_text(text, "(local.set $n (i64.sub (local.get $n) (i64.const 1)))"
                                 "(br_if $again (i64.gt_s (local.get $n) (i64.const 0))))\n");
    if (strcmp(function->name, "value_return") != 0) cal_buffer_append_text(text, "call $finish");
    cal_buffer_append_text(text, ")\n");
}

static inline void guest_caller_text(cal_buffer *text) {
    cal_buffer_append_text(text, "(module\n");
    guest_imports(text);
    cal_buffer_printf(text, "(memory (export \"memory\") %d)\n", GUEST_PAGES);
    cal_buffer_append_text(text,
                           "(func $buf (param i32 i64 i64) (i64.store (local.get 0) (local.get 1))"
                           "(i64.store offset=8 (local.get 0) (local.get 2)))\n");
    cal_buffer_printf(text,
                      "(func $load (call $input (i64.const %d))"
                      "(call $buf (i32.const %d) (i64.const 0) (call $register_len (i64.const %d)))"
                      "(drop (call $read_register (i64.const %d) (i64.const %d))))\n",
                      GUEST_IMAGE_REGISTER, GUEST_SCRATCH, GUEST_IMAGE_REGISTER,
                      GUEST_IMAGE_REGISTER, GUEST_SCRATCH);
    int answer = GUEST_RESULT + 8 + GUEST_OUT_SIZE;
    cal_buffer_printf(
        text,
        "(func $finish (local $n i64) (memory.copy (i32.const %d) (i32.const %d) (i32.const %d))"
        "(local.set $n (call $register_len (i64.const %d)))"
        "(if (i64.eq (local.get $n) (i64.const -1)) (then (local.set $n (i64.const 0)))"
        "(else (call $buf (i32.const %d) (i64.const %d) (local.get $n))"
        "(drop (call $read_register (i64.const %d) (i64.const %d)))))"
        "(i64.store (i32.const %d) (i64.const 0))"
        "(call $buf (i32.const %d) (i64.const %d) (i64.add (local.get $n) (i64.const %d)))"
        "(call $value_return (i64.const %d)))\n",
        GUEST_RESULT + 8, GUEST_OUT, GUEST_OUT_SIZE, GUEST_REGISTER, GUEST_SCRATCH, answer,
        GUEST_REGISTER, GUEST_SCRATCH, GUEST_SCRATCH, GUEST_SCRATCH + 8, GUEST_RESULT,
        8 + GUEST_OUT_SIZE, GUEST_SCRATCH);
    for (int i = 0; i < GUEST_TABLES; i++)
        for (const vm_host_function *function = guest_tables[i]; function->name; function++)
            guest_export(text, function);
    cal_buffer_append_text(text, ")");
}

/* --- images --- */

static inline void guest_image_reset(guest_world *world) {
    cal_buffer_reset(&world->image);
    static const uint8_t zero[GUEST_DATA];
    cal_buffer_append(&world->image, zero, sizeof zero);
    cal_write_u64le(world->image.data + 40, 1);
}

static inline void guest_arg(guest_world *world, int index, uint64_t value) {
    cal_write_u64le(world->image.data + 8 * index, value);
}

static inline void guest_repeat(guest_world *world, uint64_t count) {
    cal_write_u64le(world->image.data + 40, count);
}

/* Adds bytes to the image; their address. */
static inline uint64_t guest_put(guest_world *world, const void *bytes, size_t len) {
    uint64_t address = world->image.len;
    assert_int_equal(cal_buffer_append(&world->image, bytes, len), 0);
    return address;
}

/* Adds a descriptor to the image; its address. */
static inline uint64_t guest_descriptor(guest_world *world, uint64_t ptr, uint64_t len) {
    uint8_t bytes[16];
    cal_write_u64le(bytes, ptr);
    cal_write_u64le(bytes + 8, len);
    return guest_put(world, bytes, sizeof bytes);
}

static inline uint64_t guest_buffer(guest_world *world, const void *bytes, size_t len) {
    uint64_t ptr = guest_put(world, bytes, len);
    return guest_descriptor(world, ptr, len);
}

static inline uint64_t guest_text(guest_world *world, const char *text) {
    return guest_buffer(world, text, strlen(text));
}

/* --- a call --- */

typedef struct guest_answer {
    cal_vm_outcome outcome;
    uint64_t result;
    const uint8_t *out; /* GUEST_OUT_SIZE bytes */
    cal_slice content;  /* of the register */
} guest_answer;

static inline guest_answer guest_call(guest_world *world, const char *function) {
    char method[64];
    snprintf(method, sizeof method, "call_%s", function);
    guest_answer answer = {0};
    engine_signals_use();
    world->call.method = method;
    world->call.input = cal_buffer_slice(&world->image);
    cal_vm_run(world->vm, world->caller, &world->call, &answer.outcome);
    world->call.method = NULL;
    cal_slice value = answer.outcome.return_value;
    if (answer.outcome.failure == CAL_VM_FINE && value.len >= 8 + GUEST_OUT_SIZE) {
        answer.result = cal_read_u64le(value.data);
        answer.out = value.data + 8;
        answer.content =
            cal_slice_of(value.data + 8 + GUEST_OUT_SIZE, value.len - 8 - GUEST_OUT_SIZE);
    }
    return answer;
}

static inline void guest_call_fails(guest_world *world, const char *function, const char *name,
                                    const char *error) {
    guest_answer answer = guest_call(world, function);
    assert_string_equal(answer.outcome.error, error);
    assert_int_equal(answer.outcome.failure, CAL_VM_FAIL_HOST);
    assert_string_equal(answer.outcome.host_error_name, name);
    cal_vm_outcome_deinit(&answer.outcome);
}

/* The call succeeds with this result; the register then holds `content` (NULL: not compared). */
static inline void guest_call_gives(guest_world *world, const char *function, uint64_t result,
                                    const char *content) {
    guest_answer answer = guest_call(world, function);
    assert_string_equal(answer.outcome.error, "");
    assert_int_equal(answer.result, result);
    if (content) {
        assert_int_equal(answer.content.len, strlen(content));
        assert_memory_equal(answer.content.data, content, strlen(content));
    }
    cal_vm_outcome_deinit(&answer.outcome);
}

/* --- the world --- */

static inline int guest_world_new(void **state) {
    guest_world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    assert_int_equal(cal_crypto_init(), 0);
    guest_os_init(&world->os);
    cal_error err = {0};
    if (cal_vm_new(&world->os.os, NULL, &world->vm, &err) != 0) fail_msg("%s", err.message);
    engine_signals_learn();
    cal_buffer_init(&world->image, SIZE_MAX);
    cal_buffer text;
    cal_buffer_init(&text, SIZE_MAX);
    guest_caller_text(&text);
    assert_int_equal(text.error, 0);
    world->caller = guest_module(world->vm, cal_buffer_cstr(&text));
    cal_buffer_deinit(&text);
    *state = world;
    return 0;
}

static inline int guest_world_free(void **state) {
    guest_world *world = *state;
    cal_vm_module_unref(world->caller);
    cal_vm_free(world->vm);
    cal_buffer_deinit(&world->image);
    free(world);
    return 0;
}

/* Before each test: empty storage, a plain call, an empty image. */
static inline int guest_world_reset(void **state) {
    guest_world *world = *state;
    guest_os_init(&world->os);
    memory_storage_init(&world->storage);
    world->table = memory_storage_table(&world->storage);
    world->call = (cal_vm_call){.storage = &world->table, .has_private = true};
    memset(world->call.context_id, 0xc0, 32);
    memset(world->call.account_id, 0xac, 32);
    memset(world->call.device_id, 0xde, 32);
    guest_image_reset(world);
    return 0;
}

static inline int guest_world_clear(void **state) {
    guest_world *world = *state;
    memory_storage_deinit(&world->storage);
    return 0;
}

#define GUEST_TEST(function)                                                                       \
    cmocka_unit_test_setup_teardown(function, guest_world_reset, guest_world_clear)

#endif
