/* The limit of a call: the application's module in a bare loop of the engine, fuel on, a fresh
 * store and instance a call as the procedure asks (runtime-abi.md 5), and the least host functions
 * that let kv-store run: registers, input, and storage in a hash table. No descriptor is checked
 * twice, no limit kept, no event collected. Functions that it does not name trap. One thread. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <wasmtime.h>

#include "bench.h"

enum {
    SLOTS = 1 << 16,
    REGISTERS = 16,
    KEY_SIZE = 32,
    FUEL = 1000000000,
    KEEP_RESIDENT = 256 * 1024
};

typedef struct bytes {
    uint8_t *data;
    size_t len, capacity;
} bytes;

typedef struct slot {
    bool used;
    uint8_t key[KEY_SIZE];
    bytes value; /* data NULL: removed */
} slot;

struct guest {
    wasm_engine_t *engine;
    wasmtime_linker_t *linker;
    wasmtime_module_t *module;
    wasmtime_instance_pre_t *pre;
    bool has_register_merge;
    const char *input;
    uint8_t *memory;
    size_t memory_size;
    uint64_t ids[REGISTERS];
    bytes registers[REGISTERS];
    size_t register_count;
    slot *slots;
};

static void check(wasmtime_error_t *error, wasm_trap_t *trap, const char *what) {
    wasm_name_t text;
    if (!error && !trap) return;
    if (error)
        wasmtime_error_message(error, &text);
    else
        wasm_trap_message(trap, &text);
    bench_die("the bare engine: %s: %.*s", what, (int)text.size, text.data);
}

/* --- memory, registers, storage --- */

typedef struct view {
    const uint8_t *data;
    size_t len;
} view;

static view at(const guest *g, uint64_t address) {
    uint64_t buffer[2];
    if (address > g->memory_size - 16) bench_die("the bare engine: bad descriptor");
    memcpy(buffer, g->memory + address, 16);
    if (buffer[1] > g->memory_size || buffer[0] > g->memory_size - buffer[1])
        bench_die("the bare engine: bad buffer");
    return (view){g->memory + buffer[0], (size_t)buffer[1]};
}

static void set(bytes *target, const void *data, size_t len) {
    if (len > target->capacity) {
        target->capacity = len * 2;
        target->data = realloc(target->data, target->capacity);
        if (!target->data) bench_die("no memory");
    }
    if (len) memcpy(target->data, data, len);
    target->len = len;
}

static bytes *find_register(guest *g, uint64_t id, bool make) {
    for (size_t i = 0; i < g->register_count; i++)
        if (g->ids[i] == id) return &g->registers[i];
    if (!make) return NULL;
    if (g->register_count == REGISTERS) bench_die("the bare engine: too many registers");
    g->ids[g->register_count] = id;
    return &g->registers[g->register_count++];
}

/* The slot of the key, or the free one where it would be. */
static slot *find_slot(guest *g, view key) {
    uint64_t hash;
    if (key.len != KEY_SIZE) bench_die("the bare engine: a key of %zu bytes", key.len);
    memcpy(&hash, key.data + 8, 8);
    hash *= UINT64_C(0x9e3779b97f4a7c15);
    for (size_t i = (size_t)(hash >> 48);; i++) {
        slot *s = &g->slots[i % SLOTS];
        if (!s->used || memcmp(s->key, key.data, KEY_SIZE) == 0) return s;
    }
}

/* --- host functions --- */

typedef void (*host_function)(guest *g, wasmtime_val_raw_t *values);

static void host_nothing(guest *g, wasmtime_val_raw_t *values) {
    (void)g;
    (void)values;
}

static void host_view(guest *g, wasmtime_val_raw_t *values) { at(g, (uint64_t)values[0].i64); }

static void host_input(guest *g, wasmtime_val_raw_t *values) {
    set(find_register(g, (uint64_t)values[0].i64, true), g->input, strlen(g->input));
}

static void host_identity(guest *g, wasmtime_val_raw_t *values) {
    static const uint8_t id[KEY_SIZE] = {7};
    set(find_register(g, (uint64_t)values[0].i64, true), id, sizeof id);
}

static void host_register_len(guest *g, wasmtime_val_raw_t *values) {
    const bytes *content = find_register(g, (uint64_t)values[0].i64, false);
    values[0].i64 = content ? (int64_t)content->len : -1;
}

static void host_read_register(guest *g, wasmtime_val_raw_t *values) {
    const bytes *content = find_register(g, (uint64_t)values[0].i64, false);
    view target = at(g, (uint64_t)values[1].i64);
    values[0].i64 = content && content->len == target.len;
    if (values[0].i64 && content->len)
        memcpy((uint8_t *)(uintptr_t)target.data, content->data, content->len);
}

static void host_storage_read(guest *g, wasmtime_val_raw_t *values) {
    const slot *s = find_slot(g, at(g, (uint64_t)values[0].i64));
    bool hit = s->used && s->value.data;
    if (hit) set(find_register(g, (uint64_t)values[1].i64, true), s->value.data, s->value.len);
    values[0].i64 = hit;
}

static void host_storage_write(guest *g, wasmtime_val_raw_t *values) {
    view key = at(g, (uint64_t)values[0].i64), value = at(g, (uint64_t)values[1].i64);
    slot *s = find_slot(g, key);
    bool hit = s->used && s->value.data;
    if (hit) set(find_register(g, (uint64_t)values[2].i64, true), s->value.data, s->value.len);
    s->used = true;
    memcpy(s->key, key.data, KEY_SIZE);
    set(&s->value, value.data, value.len);
    values[0].i64 = hit;
}

static void host_storage_remove(guest *g, wasmtime_val_raw_t *values) {
    slot *s = find_slot(g, at(g, (uint64_t)values[0].i64));
    bool hit = s->used && s->value.data;
    if (hit) {
        set(find_register(g, (uint64_t)values[1].i64, true), s->value.data, s->value.len);
        free(s->value.data);
        s->value = (bytes){0};
    }
    values[0].i64 = hit;
}

static void host_time_now(guest *g, wasmtime_val_raw_t *values) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t ns = (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
    memcpy((uint8_t *)(uintptr_t)at(g, (uint64_t)values[0].i64).data, &ns, sizeof ns);
}

typedef struct host_row {
    const char *name;
    size_t params;
    int result; /* bits */
    host_function run;
} host_row;

static const host_row host_rows[] = {
    {"input", 1, 0, host_input},
    {"register_len", 1, 64, host_register_len},
    {"read_register", 2, 32, host_read_register},
    {"context_id", 1, 0, host_identity},
    {"account_id", 1, 0, host_identity},
    {"device_id", 1, 0, host_identity},
    {"value_return", 1, 0, host_nothing},
    {"log_utf8", 1, 0, host_view},
    {"emit", 1, 0, host_view},
    {"emit_with_handler", 2, 0, host_view},
    {"commit", 2, 0, host_view},
    {"storage_read", 2, 32, host_storage_read},
    {"storage_write", 3, 32, host_storage_write},
    {"storage_remove", 2, 32, host_storage_remove},
    {"time_now", 1, 0, host_time_now},
};

static wasm_trap_t *enter(void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *values,
                          size_t count) {
    const host_row *row = env;
    wasmtime_context_t *context = wasmtime_caller_context(caller);
    guest *g = wasmtime_context_get_data(context);
    wasmtime_extern_t item;
    (void)count;
    if (!wasmtime_caller_export_get(caller, "memory", 6, &item)) bench_die("no memory exported");
    g->memory = wasmtime_memory_data(context, &item.of.memory);
    g->memory_size = wasmtime_memory_data_size(context, &item.of.memory);
    row->run(g, values);
    return NULL;
}

static void define(guest *g, const host_row *row) {
    wasm_valtype_t *params[4], *result[1];
    wasm_valtype_vec_t param_types, result_types;
    for (size_t i = 0; i < row->params; i++) params[i] = wasm_valtype_new(WASM_I64);
    if (row->result) result[0] = wasm_valtype_new(row->result == 32 ? WASM_I32 : WASM_I64);
    wasm_valtype_vec_new(&param_types, row->params, params);
    wasm_valtype_vec_new(&result_types, row->result ? 1 : 0, result);
    wasm_functype_t *type = wasm_functype_new(&param_types, &result_types);
    check(wasmtime_linker_define_func_unchecked(g->linker, "env", 3, row->name, strlen(row->name),
                                                type, enter, (void *)(uintptr_t)row, NULL),
          NULL, row->name);
    wasm_functype_delete(type);
}

/* --- the loop --- */

static void read_file(const char *path, wasm_byte_vec_t *ret_content) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0) bench_die("%s: %s", path, strerror(errno));
    wasm_byte_vec_new_uninitialized(ret_content, (size_t)ftell(file));
    rewind(file);
    if (fread(ret_content->data, 1, ret_content->size, file) != ret_content->size)
        bench_die("%s: %s", path, strerror(errno));
    fclose(file);
}

static bool exports(const wasmtime_module_t *module, const char *name) {
    wasm_exporttype_vec_t all;
    bool found = false;
    wasmtime_module_exports(module, &all);
    for (size_t i = 0; i < all.size; i++) {
        const wasm_name_t *n = wasm_exporttype_name(all.data[i]);
        found = found || (n->size == strlen(name) && memcmp(n->data, name, n->size) == 0);
    }
    wasm_exporttype_vec_delete(&all);
    return found;
}

/* The engine's fastest way to a fresh instance, which the node takes too (src/vm/engine.c): without
 * it the limit would be twice as loose. */
static void use_pool(wasm_config_t *config) {
    wasmtime_pooling_allocation_config_t *pool = wasmtime_pooling_allocation_config_new();
    wasmtime_pooling_allocation_config_total_core_instances_set(pool, 4);
    wasmtime_pooling_allocation_config_total_memories_set(pool, 4);
    wasmtime_pooling_allocation_config_total_tables_set(pool, 4);
    wasmtime_pooling_allocation_config_linear_memory_keep_resident_set(pool, KEEP_RESIDENT);
    wasmtime_pooling_allocation_strategy_set(config, pool);
    wasmtime_pooling_allocation_config_delete(pool);
}

guest *guest_open(const char *wasm_path, double *ret_load_us) {
    guest *g = calloc(1, sizeof *g);
    wasm_config_t *config = wasm_config_new();
    if (!g || !config) bench_die("no memory");
    g->slots = calloc(SLOTS, sizeof *g->slots);
    if (!g->slots) bench_die("no memory");
    wasmtime_config_consume_fuel_set(config, true);
    use_pool(config);
    g->engine = wasm_engine_new_with_config(config);
    g->linker = wasmtime_linker_new(g->engine);
    for (size_t i = 0; i < sizeof host_rows / sizeof *host_rows; i++) define(g, &host_rows[i]);
    wasm_byte_vec_t wasm, artefact;
    wasmtime_module_t *compiled;
    read_file(wasm_path, &wasm);
    check(wasmtime_module_new(g->engine, (const uint8_t *)wasm.data, wasm.size, &compiled), NULL,
          "compiling");
    check(wasmtime_module_serialize(compiled, &artefact), NULL, "serializing");
    check(wasmtime_linker_define_unknown_imports_as_traps(g->linker, compiled), NULL, "linking");
    wasmtime_module_delete(compiled);
    uint64_t began = bench_now_ns();
    check(wasmtime_module_deserialize(g->engine, (const uint8_t *)artefact.data, artefact.size,
                                      &g->module),
          NULL, "loading");
    check(wasmtime_linker_instantiate_pre(g->linker, g->module, &g->pre), NULL, "linking");
    *ret_load_us = (double)(bench_now_ns() - began) / 1e3;
    g->has_register_merge = exports(g->module, "__calimero_register_merge");
    wasm_byte_vec_delete(&wasm);
    wasm_byte_vec_delete(&artefact);
    return g;
}

static void call_export(wasmtime_context_t *context, const wasmtime_instance_t *instance,
                        const char *name) {
    wasmtime_extern_t item;
    wasmtime_val_raw_t none[1] = {0};
    wasm_trap_t *trap = NULL;
    if (!wasmtime_instance_export_get(context, instance, name, strlen(name), &item))
        bench_die("the module exports no %s", name);
    check(wasmtime_func_call_unchecked(context, &item.of.func, none, 1, &trap), trap, name);
}

void guest_call(guest *g, const char *method, const char *args, guest_times *times) {
    wasm_trap_t *trap = NULL;
    wasmtime_instance_t instance;
    g->input = args;
    g->register_count = 0;
    uint64_t began = bench_now_ns();
    wasmtime_store_t *store = wasmtime_store_new(g->engine, g, NULL);
    wasmtime_context_t *context = wasmtime_store_context(store);
    check(wasmtime_context_set_fuel(context, FUEL), NULL, "fuel");
    check(wasmtime_instance_pre_instantiate(g->pre, context, &instance, &trap), trap,
          "instantiating");
    uint64_t ready = bench_now_ns();
    if (g->has_register_merge) call_export(context, &instance, "__calimero_register_merge");
    call_export(context, &instance, method);
    uint64_t returned = bench_now_ns();
    wasmtime_store_delete(store);
    uint64_t ended = bench_now_ns();
    if (!times) return;
    samples_add(&times->call, (double)(ended - began) / 1e3);
    samples_add(&times->instantiate, (double)(ready - began + (ended - returned)) / 1e3);
    samples_add(&times->method, (double)(returned - ready) / 1e3);
}

void guest_close(guest *g) {
    for (size_t i = 0; i < SLOTS; i++) free(g->slots[i].value.data);
    for (size_t i = 0; i < REGISTERS; i++) free(g->registers[i].data);
    wasmtime_instance_pre_delete(g->pre);
    wasmtime_module_delete(g->module);
    wasmtime_linker_delete(g->linker);
    wasm_engine_delete(g->engine);
    free(g->slots);
    free(g);
}
