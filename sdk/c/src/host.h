/* The node's functions, as imports of module "env" (runtime-abi.md 2, 4). Natively (tests) whoever
 * links the SDK defines them. */
#ifndef APP_HOST_H
#define APP_HOST_H

#include <stdint.h>

#ifdef __wasm__
#define HOST_IMPORT(name) __attribute__((import_module("env"), import_name(#name)))
#else
#define HOST_IMPORT(name)
#endif

typedef struct host_buffer {
    uint64_t ptr, len;
} host_buffer;

typedef struct host_location {
    host_buffer file;
    uint32_t line, column;
} host_location;

typedef struct host_event {
    host_buffer kind, data;
} host_event;

typedef struct host_xcall {
    host_buffer context_id, function, params;
} host_xcall;

typedef struct host_return {
    uint64_t tag; /* 0 Ok, 1 Err */
    host_buffer payload;
} host_return;

/* Every address is that of one of the structures above. */
HOST_IMPORT(panic_utf8) void env_panic_utf8(uint64_t message, uint64_t location);
HOST_IMPORT(register_len) uint64_t env_register_len(uint64_t reg);
HOST_IMPORT(read_register) uint32_t env_read_register(uint64_t reg, uint64_t buffer);
HOST_IMPORT(context_id) void env_context_id(uint64_t reg);
HOST_IMPORT(account_id) void env_account_id(uint64_t reg);
HOST_IMPORT(device_id) void env_device_id(uint64_t reg);
HOST_IMPORT(xcall_origin) uint32_t env_xcall_origin(uint64_t reg);
HOST_IMPORT(input) void env_input(uint64_t reg);
HOST_IMPORT(value_return) void env_value_return(uint64_t value);
HOST_IMPORT(log_utf8) void env_log_utf8(uint64_t buffer);
HOST_IMPORT(emit) void env_emit(uint64_t event);
HOST_IMPORT(emit_with_handler) void env_emit_with_handler(uint64_t event, uint64_t handler);
HOST_IMPORT(xcall) void env_xcall(uint64_t xcall);
HOST_IMPORT(commit) void env_commit(uint64_t root_hash, uint64_t artifact);
HOST_IMPORT(storage_read) uint32_t env_storage_read(uint64_t key, uint64_t reg);
HOST_IMPORT(storage_remove) uint32_t env_storage_remove(uint64_t key, uint64_t reg);
HOST_IMPORT(storage_write) uint32_t env_storage_write(uint64_t key, uint64_t value, uint64_t reg);
HOST_IMPORT(private_storage_read) uint32_t env_private_storage_read(uint64_t key, uint64_t reg);
HOST_IMPORT(private_storage_write) uint32_t env_private_storage_write(uint64_t key, uint64_t value);
HOST_IMPORT(random_bytes) void env_random_bytes(uint64_t buffer);
HOST_IMPORT(time_now) void env_time_now(uint64_t buffer);
HOST_IMPORT(ed25519_verify)
uint32_t env_ed25519_verify(uint64_t signature, uint64_t public_key, uint64_t message);

#ifndef __wasm__
extern unsigned char *app_native_heap; /* a test's stand-in for the instance's memory */
extern unsigned long app_native_heap_size;
#endif

#endif
