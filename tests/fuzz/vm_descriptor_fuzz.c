/* A guest that calls host functions with whatever the input says: up to eight calls in one
 * instance, each with five arguments, on a memory image that the input fills.
 *
 * Input: a byte of flags (1 blobs, 2 private store, 4 read-only, 8 xcall origin); eight steps of 11
 * bytes, a function and five u16 arguments (an address or register as it is; from 0xff00 on one of
 * the numbers in `odd`); the rest is the memory from IMAGE on. Below IMAGE stand descriptors of
 * good buffers, so that an argument of 16 n means something. */
#include <stdio.h>
#include <stdlib.h>

#include "support/guest_os.h"
#include "support/guest_text.h"
#include "support/memory_storage.h"

enum {
    STEPS = 8,
    STEP_BYTES = 11,
    HEADER = 1 + STEPS * STEP_BYTES,
    MEMORY = 2 * 65536,
    PROGRAM = 65536, /* each step: u32 function at 0, arguments from 8, result at 48 */
    STEP_SIZE = 64,
    SCRATCH = PROGRAM + 1024,
    IMAGE = 256,
    GAS = 1000000,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint64_t odd[] = {
    UINT64_MAX,
    UINT64_MAX - 15,
    UINT64_MAX - 47,
    MEMORY,
    MEMORY - 1,
    MEMORY - 16,
    MEMORY - 32,
    UINT64_C(1) << 32,
    UINT64_C(1) << 63,
    0xffffffff,
    0xfffffffe,
    0,
    1,
    99,
    100,
    INT64_MAX,
};

/* --- the guest --- */

static void add_wrapper(cal_buffer *text, const vm_host_function *function) {
    cal_buffer_printf(text, "(func $w_%s (param i32) local.get 0 ", function->name);
    for (int i = 0; i < function->params; i++)
        cal_buffer_printf(text, "(i64.load offset=%d (local.get 0))", 8 + 8 * i);
    cal_buffer_printf(text, " call $%s ", function->name);
    if (function->result == 0) cal_buffer_append_text(text, "drop)\n");
    if (function->result == 32)
        cal_buffer_append_text(text, "i64.extend_i32_u i64.store offset=48)\n");
    if (function->result == 64) cal_buffer_append_text(text, "i64.store offset=48)\n");
}

static size_t write_guest(cal_buffer *text) {
    size_t count = 0;
    cal_buffer_append_text(text, "(module ");
    guest_imports(text);
    cal_buffer_append_text(text,
                           "(type $step (func (param i32))) (memory (export \"memory\") 2)\n");
    for (int i = 0; i < GUEST_TABLES; i++)
        for (const vm_host_function *f = guest_tables[i]; f->name; f++, count++)
            add_wrapper(text, f);
    cal_buffer_printf(text, "(table %zu funcref) (elem (i32.const 0)", count);
    for (int i = 0; i < GUEST_TABLES; i++)
        for (const vm_host_function *f = guest_tables[i]; f->name; f++)
            cal_buffer_printf(text, " $w_%s", f->name);
    cal_buffer_printf(
        text,
        ")(func (export \"run\") (local $at i32) (call $input (i64.const 77))"
        "(i64.store (i32.const %d) (i64.const 0)) (i64.store (i32.const %d) (i64.const %d))"
        "(drop (call $read_register (i64.const 77) (i64.const %d))) (local.set $at (i32.const %d))"
        "(loop (call_indirect (type $step) (local.get $at) (i32.load (local.get $at)))"
        "(local.set $at (i32.add (local.get $at) (i32.const %d)))"
        "(br_if 0 (i32.lt_u (local.get $at) (i32.const %d))))))",
        SCRATCH, SCRATCH + 8, MEMORY, SCRATCH, PROGRAM, STEP_SIZE, PROGRAM + STEPS * STEP_SIZE);
    return count;
}

typedef struct world {
    guest_os os;
    cal_vm *vm;
    cal_vm_module *module;
    size_t functions;
} world;

static void set_up(world *w) {
    cal_buffer text, artifact;
    wasm_byte_vec_t wasm;
    cal_buffer_init(&text, SIZE_MAX);
    cal_buffer_init(&artifact, SIZE_MAX);
    guest_os_init(&w->os);
    if (cal_crypto_init() != 0 || cal_vm_new(&w->os.os, NULL, &w->vm, NULL) != 0) abort();
    w->functions = write_guest(&text);
    wasmtime_error_t *error = wasmtime_wat2wasm((const char *)text.data, text.len, &wasm);
    if (error) {
        char message[512];
        vm_engine_text(error, message, sizeof message);
        fprintf(stderr, "%s\n", message);
        abort();
    }
    if (cal_vm_compile(w->vm, cal_slice_of(wasm.data, wasm.size), &artifact, NULL) != 0) abort();
    if (cal_vm_load(w->vm, cal_buffer_slice(&artifact), &w->module, NULL) != 0) abort();
    wasm_byte_vec_delete(&wasm);
    cal_buffer_deinit(&text);
    cal_buffer_deinit(&artifact);
}

/* --- its memory --- */

static void write_image(const world *w, const uint8_t *data, size_t size, uint8_t memory[MEMORY]) {
    static const uint16_t lens[] = {0,   1,   3,   8,     31,    32, 33, 64,
                                    100, 256, 257, 16384, 16385, 5,  9,  2};
    memset(memory, 0, MEMORY);
    for (uint64_t i = 0; i < IMAGE / 16; i++) {
        cal_write_u64le(memory + 16 * i, 1024 + i);
        cal_write_u64le(memory + 16 * i + 8, lens[i]);
    }
    for (size_t step = 0; step < STEPS; step++) {
        const uint8_t *from = data + 1 + step * STEP_BYTES;
        uint8_t *to = memory + PROGRAM + step * STEP_SIZE;
        cal_write_u32le(to, (uint32_t)(from[0] % w->functions));
        for (size_t i = 0; i < VM_HOST_PARAMS_MAX; i++) {
            uint16_t arg = cal_read_u16be(from + 1 + 2 * i);
            cal_write_u64le(to + 8 + 8 * i,
                            arg < 0xff00 ? arg : odd[arg % (sizeof odd / sizeof *odd)]);
        }
    }
    size_t rest = size - HEADER < PROGRAM - IMAGE ? size - HEADER : PROGRAM - IMAGE;
    memcpy(memory + IMAGE, data + HEADER, rest);
}

/* --- a blob service that remembers its handles --- */

static int take(void *user, void **ret_handle) {
    (void)user;
    *ret_handle = malloc(1);
    return *ret_handle ? 0 : CAL_ENOMEM;
}
static int open_blob(void *user, const uint8_t id[32], void **ret_handle) {
    return id[31] == 7 ? CAL_EIO : take(user, ret_handle);
}
static int write_blob(void *user, void *writer, cal_slice bytes) {
    (void)user;
    (void)writer;
    return bytes.len == 3 ? CAL_EFULL : 0;
}
static int finish(void *user, void *writer, uint8_t ret_id[32]) {
    (void)user;
    free(writer);
    memset(ret_id, 1, 32);
    return 0;
}
static void end(void *user, void *blob) {
    (void)user;
    free(blob);
}
static int64_t read_blob(void *user, void *reader, uint8_t *ret_bytes, size_t len) {
    (void)user;
    (void)reader;
    memset(ret_bytes, 2, len);
    return (int64_t)len;
}
static int announce(void *user, const uint8_t id[32], const uint8_t context[32]) {
    (void)user;
    return memcmp(id, context, 32) == 0 ? 0 : CAL_ENOTFOUND;
}
static const cal_vm_blobs blobs = {.create = take,
                                   .write = write_blob,
                                   .finish = finish,
                                   .abort = end,
                                   .open = open_blob,
                                   .read = read_blob,
                                   .close = end,
                                   .announce = announce};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static world w;
    static uint8_t memory[MEMORY];
    if (size < HEADER) return 0;
    if (!w.vm) set_up(&w);
    write_image(&w, data, size, memory);
    memory_storage storage;
    memory_storage_init(&storage);
    cal_vm_storage table = memory_storage_table(&storage);
    cal_vm_call call = {
        .method = "run", .input = {memory, MEMORY}, .storage = &table, .max_gas = GAS};
    call.blobs = data[0] & 1 ? &blobs : NULL;
    call.has_private = data[0] & 2;
    call.read_only = data[0] & 4;
    call.xcall_origin = data[0] & 8 ? memory : NULL;
    cal_vm_outcome outcome;
    cal_vm_run(w.vm, w.module, &call, &outcome);
    if (outcome.failure == CAL_VM_FAIL_NODE || outcome.failure == CAL_VM_FAIL_LINK) abort();
    if (outcome.failure == CAL_VM_FAIL_HOST && !outcome.host_error_name) abort();
    cal_vm_outcome_deinit(&outcome);
    memory_storage_deinit(&storage);
    return 0;
}
