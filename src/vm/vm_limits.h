/* Limits of the guest ABI (runtime-abi.md 15) that no operator changes, and our own bounds on the
 * engine. A size equal to its limit passes; a count fails once it is at its limit. */
#ifndef CAL_VM_LIMITS_H
#define CAL_VM_LIMITS_H

enum {
    VM_REGISTERS_MAX = 100,
    VM_REGISTER_SIZE_MAX = 100 * 1024 * 1024,
    VM_REGISTERS_TOTAL_MAX = 1024 * 1024 * 1024,
    VM_REGISTER_OVERHEAD = 8, /* what each register counts besides its bytes */

    VM_EVENTS_MAX = 100,
    VM_EVENT_KIND_MAX = 100,
    VM_EVENT_DATA_MAX = 16384,

    VM_XCALLS_MAX = 8,
    VM_XCALL_FUNCTION_MAX = 100,
    VM_XCALL_PARAMS_MAX = 16384,

    VM_STORAGE_KEY_MAX = 1024 * 1024,
    VM_STORAGE_VALUE_MAX = 10 * 1024 * 1024,
    VM_STORAGE_WRITES_MAX = 100000,
    VM_STORAGE_WRITE_BYTES_MAX = 128 * 1024 * 1024,
    VM_INDEX_SCAN_MAX = 100000,
    VM_STATE_KEY_SIZE = 32, /* the only length that state and private storage keep, section 4.4 */

    VM_RETURN_MAX = 16 * 1024 * 1024,
    VM_ARTIFACT_MAX = 16 * 1024 * 1024,

    VM_BLOB_HANDLES_MAX = 100,
    VM_BLOB_CHUNK_MAX = 10 * 1024 * 1024,
    VM_BLOB_TOTAL_MAX = 512 * 1024 * 1024,

    VM_WASM_STACK = 200 * 1024,

    /* Not in the specification: what a guest may make the node hold otherwise. */
    VM_MEMORY_MAX = 64 * 1024 * 1024,
    VM_TABLES_MAX = 16,
    VM_TABLE_ELEMENTS_MAX = 128 * 1024,
    VM_INSTANCES_MAX = 64, /* at one time; each reserves 4 GiB of addresses, not of memory */
    VM_INSTANCE_SIZE_MAX = 64 * 1024 * 1024, /* the engine's own bytes for one */
    VM_KEEP_RESIDENT = 256 * 1024,    /* of an unused memory: cleared instead of given back */
    VM_PANIC_MESSAGE_MAX = 64 * 1024, /* the rest of a longer message is cut */
    VM_PANIC_FILE_MAX = 4096,
    VM_LOGS_CEILING = 1000000, /* what an operator may set at most, section 15 */
    VM_LOG_SIZE_CEILING = 10 * 1024 * 1024,
    VM_TICK_MS = 10, /* how finely a deadline is met */
};

#define VM_DEFAULT_MAX_GAS UINT64_C(1000000000)
enum { VM_DEFAULT_MAX_LOGS = 1024, VM_DEFAULT_MAX_LOG_SIZE = 16384 };

#endif
