/* The call: memory, the node's functions under C names, and what happens before and after a method
 * (runtime-abi.md 5).
 *
 * Memory is one growing region that is never given back: the instance ends with the call. */
#include "runtime.h"

app_runtime app;

/* --- memory --- */

enum { ALIGNMENT = 16, PAGE_SIZE = 65536, SCRATCH_BLOCK = 65536 };

static uintptr_t heap_at, heap_end;

#ifdef __wasm__
extern unsigned char __heap_base;

void app_memory_reset(void) {
    heap_at = (uintptr_t)&__heap_base;
    heap_end = (uintptr_t)__builtin_wasm_memory_size(0) * PAGE_SIZE;
}

static bool heap_grow(size_t len) {
    size_t pages = (len + PAGE_SIZE - 1) / PAGE_SIZE;
    size_t ahead = pages < 4 ? 4 : pages;
    if (__builtin_wasm_memory_grow(0, ahead) == SIZE_MAX) {
        ahead = pages; /* the last pages below the node's limit */
        if (__builtin_wasm_memory_grow(0, ahead) == SIZE_MAX) return false;
    }
    heap_end += ahead * PAGE_SIZE;
    return true;
}
#else
void app_memory_reset(void) {
    heap_at = (uintptr_t)app_native_heap;
    heap_end = heap_at + app_native_heap_size;
}

static bool heap_grow(size_t len) { return len == 0; }
#endif

static void *heap_take(void *user, size_t len) {
    (void)user;
    if (!heap_at) app_memory_reset();
    uintptr_t start = (heap_at + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1);
    if (start < heap_at || len > SIZE_MAX / 2) return NULL;
    if (start > heap_end || len > heap_end - start) {
        size_t room = start > heap_end ? 0 : heap_end - start;
        if (!heap_grow(len - room + ALIGNMENT)) return NULL;
    }
    heap_at = start + len;
    return (void *)start; /* NOLINT: the heap is a range of addresses */
}

void *app_alloc(size_t len) {
    void *memory = heap_take(NULL, len);
    if (!memory) app_panic("out of memory");
    __builtin_memset(memory, 0, len);
    return memory;
}

static void *scratch_take(void *user, size_t len) {
    app_scratch *scratch = user;
    len = (len + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    app_scratch_block **link = scratch->at ? &scratch->at->next : &scratch->first;
    if (scratch->at && len <= scratch->at->capacity - scratch->used) link = NULL;
    while (link && *link && (*link)->capacity < len) link = &(*link)->next;
    if (link && !*link) {
        size_t capacity = len > SCRATCH_BLOCK ? len : SCRATCH_BLOCK;
        app_scratch_block *block = heap_take(NULL, sizeof *block + ALIGNMENT + capacity);
        if (!block) return NULL;
        *block = (app_scratch_block){.capacity = capacity};
        *link = block;
    }
    if (link) {
        scratch->at = *link;
        scratch->used = 0;
    }
    uint8_t *start = (uint8_t *)scratch->at + ALIGNMENT + scratch->used;
    scratch->used += len;
    return start;
}

void app_scratch_init(app_scratch *scratch) {
    *scratch = (app_scratch){.memory = {scratch, scratch_take}};
}

void app_scratch_rewind(app_scratch *scratch) {
    scratch->at = scratch->first;
    scratch->used = 0;
}

/* --- the node's functions --- */

uint64_t app_address(const void *object) { return (uint64_t)(uintptr_t)object; }

host_buffer app_buffer(const void *data, size_t len) {
    return (host_buffer){app_address(data), len};
}

_Noreturn void app_panic_at(const char *file, int line, const char *format, ...) {
    va_list list;
    va_start(list, format);
    app_text message = app_format_list(format, list);
    va_end(list);
    host_buffer text = app_buffer(message.data, message.len);
    host_location location = {.file = app_buffer(file, __builtin_strlen(file)),
                              .line = (uint32_t)line};
    env_panic_utf8(app_address(&text), app_address(&location));
    __builtin_trap();
}

void app_must(int result) {
    if (result == CRDT_ENOMEM) app_panic("out of memory");
    if (result) app_panic("the context's state is damaged (%d)", result);
}

crdt_bytes app_register_read(const crdt_memory *memory) {
    uint64_t len = env_register_len(APP_REGISTER);
    void *data = len == UINT64_MAX ? NULL : memory->alloc(memory->user, (size_t)len);
    if (!data) app_panic("out of memory");
    host_buffer buffer = app_buffer(data, (size_t)len);
    if (env_read_register(APP_REGISTER, app_address(&buffer)) != 1)
        app_panic("the register changed while it was read");
    return crdt_bytes_of(data, (size_t)len);
}

static void read_id(void (*read)(uint64_t), crdt_id *ret_id, bool *has) {
    if (*has) return;
    read(APP_REGISTER);
    crdt_bytes id = app_register_read(&app.env.memory);
    if (id.len != 32) app_panic("the node gave an id of %zu bytes", id.len);
    __builtin_memcpy(ret_id->bytes, id.data, 32);
    *has = true;
}

const uint8_t *app_context_id(void) {
    read_id(env_context_id, &app.context, &app.has_context);
    return app.context.bytes;
}

const uint8_t *app_account_id(void) {
    read_id(env_account_id, &app.account, &app.has_account);
    return app.account.bytes;
}

const uint8_t *app_device_id(void) {
    read_id(env_device_id, &app.device, &app.has_device);
    return app.device.bytes;
}

bool app_xcall_origin(uint8_t ret_context_id[32]) {
    if (!env_xcall_origin(APP_REGISTER)) return false;
    crdt_bytes id = app_register_read(&app.env.memory);
    if (id.len != 32) app_panic("the node gave an id of %zu bytes", id.len);
    __builtin_memcpy(ret_context_id, id.data, 32);
    return true;
}

uint64_t app_time_ns(void) {
    uint64_t time = 0;
    host_buffer buffer = app_buffer(&time, sizeof time);
    env_time_now(app_address(&buffer));
    return time;
}

void app_random(void *ret_bytes, size_t len) {
    host_buffer buffer = app_buffer(ret_bytes, len);
    env_random_bytes(app_address(&buffer));
}

void app_log(const char *format, ...) {
    va_list list;
    va_start(list, format);
    app_text line = app_format_list(format, list);
    va_end(list);
    host_buffer buffer = app_buffer(line.data, line.len);
    env_log_utf8(app_address(&buffer));
}

void app_xcall(const uint8_t context_id[32], const char *method, app_text params_json) {
    host_xcall xcall = {
        .context_id = app_buffer(context_id, 32),
        .function = app_buffer(method, __builtin_strlen(method)),
        .params = app_buffer(params_json.data, params_json.len),
    };
    env_xcall(app_address(&xcall));
}

void app_emit_event(const char *name, const char *handler, const app_param *params,
                    size_t param_count, const void *payload) {
    app_json json = {0};
    if (param_count) app_json_open(&json, '{');
    for (size_t i = 0; i < param_count; i++) {
        const void *value = (const char *)payload + params[i].offset;
        app_json_key(&json, app_text_of(params[i].name));
        switch (params[i].type) {
        case APP_PARAM_NULLABLE_STRING:
        case APP_PARAM_STRING: {
            const app_text *text = value;
            if (!text->data && params[i].type == APP_PARAM_NULLABLE_STRING)
                app_json_null(&json);
            else
                app_json_string(&json, *text);
            break;
        }
        case APP_PARAM_BOOL:
            app_json_bool(&json, *(const bool *)value);
            break;
        case APP_PARAM_U32:
            app_json_u64(&json, *(const uint32_t *)value);
            break;
        case APP_PARAM_U64:
            app_json_u64(&json, *(const uint64_t *)value);
            break;
        case APP_PARAM_I32:
            app_json_i64(&json, *(const int32_t *)value);
            break;
        default:
            app_json_i64(&json, *(const int64_t *)value);
            break;
        }
    }
    if (param_count) app_json_close(&json, '}');
    host_event event = {
        .kind = app_buffer(name, __builtin_strlen(name)),
        .data = app_buffer(json.data, json.len),
    };
    app.touched = true;
    if (!handler) {
        env_emit(app_address(&event));
        return;
    }
    host_buffer method = app_buffer(handler, __builtin_strlen(handler));
    env_emit_with_handler(app_address(&event), app_address(&method));
}

/* --- private storage: key = SHA-256(name), as runtime-abi.md 20 --- */

static void private_key(const char *name, uint8_t ret_key[32]) {
    crdt_bytes part = crdt_bytes_of(name, __builtin_strlen(name));
    app_sha256(&part, 1, ret_key);
}

bool app_private_get(const char *name, app_text *ret_value) {
    uint8_t key[32];
    private_key(name, key);
    host_buffer buffer = app_buffer(key, 32);
    if (!env_private_storage_read(app_address(&buffer), APP_REGISTER)) return false;
    *ret_value = app_text_from(app_register_read(&app.env.memory));
    return true;
}

void app_private_set(const char *name, app_text value) {
    uint8_t key[32];
    private_key(name, key);
    host_buffer buffers[2] = {app_buffer(key, 32), app_buffer(value.data, value.len)};
    env_private_storage_write(app_address(&buffers[0]), app_address(&buffers[1]));
    app.touched = true;
}

/* --- rows --- */

static int row_read(void *user, const uint8_t key[32], crdt_bytes *ret_value) {
    (void)user;
    host_buffer buffer = app_buffer(key, 32);
    if (!env_storage_read(app_address(&buffer), APP_REGISTER)) return 0;
    *ret_value = app_register_read(app.row_memory);
    return 1;
}

static int row_write(void *user, const uint8_t key[32], crdt_bytes value) {
    (void)user;
    host_buffer buffers[2] = {app_buffer(key, 32), app_buffer(value.data, value.len)};
    env_storage_write(app_address(&buffers[0]), app_address(&buffers[1]), APP_REGISTER);
    return 0;
}

static int row_remove(void *user, const uint8_t key[32]) {
    (void)user;
    host_buffer buffer = app_buffer(key, 32);
    env_storage_remove(app_address(&buffer), APP_REGISTER);
    return 0;
}

static void runtime_init(void) {
    app_memory_reset();
    app = (app_runtime){.env = {.memory = {NULL, heap_take}, .sha256 = app_sha256}};
    app.row_memory = &app.env.memory;
}

void app_open_store(void) {
    static const crdt_rows rows = {NULL, row_read, row_write, row_remove, NULL};
    runtime_init();
    app_context_id();
    app_must(crdt_store_open(&app.env, &rows, &app.context, &app.store));
}

uint64_t app_write_time(void) {
    if (!app.now_ns) app.now_ns = app_time_ns() & ~(uint64_t)1;
    return app.now_ns + 2 * app.writes++;
}

crdt_hlc app_tick(void) {
    if (!app.has_clock) {
        crdt_clock_init_device(&app.clock, app_sha256, app_device_id());
        app.has_clock = true;
    }
    return crdt_clock_tick(&app.clock, app_time_ns());
}

/* --- before and after a method --- */

app_text app_text_from(crdt_bytes bytes) { return (app_text){(const char *)bytes.data, bytes.len}; }

crdt_bytes app_bytes_from(app_text text) { return crdt_bytes_of(text.data, text.len); }

void app_return(uint64_t tag, app_text payload) {
    host_return value = {tag, app_buffer(payload.data, payload.len)};
    env_value_return(app_address(&value));
}

void app_fail_json(app_text json) {
    app.failed = true;
    app_return(1, json);
}

void app_fail(app_text message) {
    app_json json = {0};
    app_json_string(&json, message);
    app_fail_json((app_text){json.data, json.len});
}

/* The ABI section is only valid sorted (runtime-abi.md 24): said when the first context is made. */
static void check_sorted(const char *const *names, const char *what) {
    for (; names[0] && names[1]; names++)
        if (app_text_compare(app_text_of(names[0]), app_text_of(names[1])) >= 0)
            app_panic("the list of %s is not sorted: %s stands before %s", what, names[0],
                      names[1]);
}

app_json *app_begin(const app_method_info *info, void *args) {
    app_open_store();
    for (size_t i = 0; i < info->field_count; i++) ((app_field *)info->fields[i])->is_open = false;
    env_input(APP_REGISTER);
    app_read_args(info, app_text_from(app_register_read(&app.env.memory)), args);
    crdt_bytes entry;
    int result = crdt_store_get(app.store, &CRDT_STATE_ID, &entry);
    if (result && result != CRDT_ENOTFOUND) app_must(result);
    if (info->effect == APP_EFFECT_INIT) {
        if (!result) app_panic("Cannot initialize over already existing state.");
        check_sorted(info->method_names, "methods");
        check_sorted(info->event_names, "events");
        app_create_state(info);
    } else if (result) {
        app_panic("Failed to find or read app state");
    }
    return &app.result;
}

/* Changed rows, then the root hash and what to tell the others (runtime-abi.md 11). */
void app_commit(void) {
    app_must(crdt_store_flush(app.store));
    crdt_hash root_hash;
    crdt_bytes artifact;
    app_must(crdt_store_root_hash(app.store, &root_hash));
    app_must(crdt_store_artifact(app.store, &artifact));
    host_buffer buffers[2] = {app_buffer(&root_hash, 32), app_buffer(artifact.data, artifact.len)};
    env_commit(app_address(&buffers[0]), app_address(&buffers[1]));
}

void app_end(const app_method_info *info) {
    if (app.failed) return;
    bool is_view = info->effect == APP_EFFECT_VIEW;
    if (is_view && crdt_store_changed(app.store))
        app_panic("%s is declared a VIEW but changed the state", info->name);
    if (info->effect != APP_EFFECT_INIT) {
        if (app.result.len == 0) app_json_null(&app.result);
        app_return(0, (app_text){app.result.data, app.result.len});
    }
    if (is_view) return;
    crdt_bytes entry;
    if (!crdt_store_changed(app.store)) {
        if (!app.touched) return; /* nothing happened: no delta either */
        /* Events and private values travel and stay only with a commit, and a commit needs an
         * action: write the root again. */
        app_must(crdt_store_get(app.store, &app.context, &entry));
        crdt_put put = {.id = app.context, .data = entry, .now_ns = app_write_time()};
        app_must(crdt_store_put(app.store, &put));
    }
    app_commit();
}
