/* What the files of vm share: the engine and module objects, the state of one running call, and the
 * helpers that host functions are written with.
 *
 * A `vm_state` belongs to the thread that runs the call. Host functions return 0, or nonzero after
 * a vm_fail_*: the caller (host.c) then ends the guest with a trap, and call.c reads from the state
 * why. */
#ifndef CAL_VM_INTERNAL_H
#define CAL_VM_INTERNAL_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <wasmtime.h>

#include "base/arena.h"
#include "vm/vm.h"
#include "vm/vm_limits.h"

/* Raises the engine's epoch every VM_TICK_MS while a call with a deadline runs, so that such a call
 * looks at the clock. */
typedef struct vm_ticker {
    wasm_engine_t *engine;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool started;
    bool stopping;
    uint32_t calls; /* with a deadline, running now */
} vm_ticker;

struct cal_vm {
    const cal_os *os;
    cal_vm_limits limits; /* defaults filled in */
    wasm_engine_t *engine;
    wasmtime_linker_t *linker; /* the host functions, read-only after cal_vm_new */
    vm_ticker ticker;
    sem_t instances; /* places of the engine's pool that are free: further calls wait */
    uint8_t fingerprint[32];
};

typedef struct vm_export {
    char *name;
    bool plain; /* () -> () */
} vm_export;

struct cal_vm_module {
    atomic_uint refs;
    wasmtime_module_t *module;
    wasmtime_instance_pre_t
        *pre; /* NULL when an import is missing: every call then ends with link_error */
    char *link_error;
    vm_export *functions; /* exported functions, by name */
    size_t function_count;
    bool has_register_merge;
};

/* An exported function of any signature, or NULL. */
const vm_export *vm_module_function(const cal_vm_module *module, const char *name);

/* --- one call --- */

typedef struct vm_buffer {
    uint64_t ptr, len;
} vm_buffer; /* a guest descriptor, not yet checked */

typedef struct vm_register {
    uint64_t id;
    cal_buffer content;
} vm_register;

typedef struct vm_registers {
    vm_register slots[VM_REGISTERS_MAX];
    size_t count;
    uint64_t total; /* bytes counted, section 3 */
} vm_registers;

typedef struct vm_blob {
    uint64_t fd;
    bool writing;
    void *handle;
    uint8_t id[32]; /* of a reader */
} vm_blob;

/* The memory behind an outcome. */
struct cal_vm_arena_holder {
    cal_arena arena; /* logs, events, xcalls, panic texts: their counts and sizes are bounded */
    cal_buffer returned, artifact,
        witness; /* these may be set again and again, so each has one buffer */
    size_t log_capacity;
};

typedef struct vm_state {
    cal_vm *vm;
    const cal_vm_call *call;
    const cal_os *os;
    cal_vm_outcome *outcome;
    wasmtime_memory_t memory;
    bool ready; /* instantiated: the memory may be reached */
    uint8_t
        *base; /* guest memory, fetched afresh for each host call since it moves when it grows */
    uint64_t size;
    vm_registers registers;
    cal_buffer scratch; /* a value on its way into a register */
    uint64_t write_count, write_bytes;
    uint64_t blob_bytes;
    vm_blob blobs[VM_BLOB_HANDLES_MAX];
    size_t blob_count;
    uint64_t last_fd;
    bool committed;
    bool deadline_passed;
    uint64_t deadline_ns; /* on os->mono_ns */
} vm_state;

/* --- failing; each returns nonzero --- */
int vm_fail_host(vm_state *state, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int vm_fail_memory(vm_state *state);         /* InvalidMemoryAccess */
int vm_fail_node(vm_state *state, int code); /* not the guest's doing */
int vm_fail_panic(vm_state *state, cal_slice message, cal_slice file, uint32_t line,
                  uint32_t column);
void vm_forget_failure(vm_state *state); /* of __calimero_register_merge; a node failure stays */

/* --- outcome.c --- */
int vm_outcome_init(cal_vm_outcome *outcome, const cal_vm_limits *limits); /* 0 or CAL_ENOMEM */
void vm_outcome_fail(cal_vm_outcome *outcome, cal_vm_failure failure, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* A copy that lives as long as the outcome. 0 or nonzero with the state failed. */
int vm_keep(vm_state *state, cal_slice bytes, cal_slice *ret_copy);
int vm_keep_log(vm_state *state, cal_slice text);
int vm_keep_in(vm_state *state, cal_buffer *buffer, cal_slice bytes, cal_slice *ret_copy);
void vm_cut_text(char *text, size_t size,
                 size_t wanted); /* repairs a UTF-8 text that was cut at size - 1 */

/* --- memory.c: section 2 --- */
int vm_read_buffer(vm_state *state, uint64_t address, vm_buffer *ret_buffer);
int vm_read_raw(vm_state *state, uint64_t address, size_t len, const uint8_t **ret_bytes);
vm_buffer vm_buffer_at(const uint8_t *bytes);
int vm_bytes(vm_state *state, vm_buffer buffer, cal_slice *ret_bytes);
int vm_text(vm_state *state, vm_buffer buffer, cal_slice *ret_text); /* valid UTF-8 */
int vm_fixed(vm_state *state, vm_buffer buffer, size_t len, const uint8_t **ret_bytes);
int vm_writable(vm_state *state, vm_buffer buffer, uint8_t **ret_bytes);
bool vm_in_memory(const vm_state *state, vm_buffer buffer);

/* --- registers.c: section 3 --- */
const cal_buffer *vm_register_get(const vm_registers *registers, uint64_t id); /* NULL when unset */
int vm_register_set(vm_state *state, uint64_t id, cal_slice bytes);
int vm_register_take(vm_state *state, uint64_t id,
                     cal_buffer *bytes); /* swaps the buffers, no copy */
void vm_registers_deinit(vm_registers *registers);

/* --- host functions --- */
typedef int (*vm_host_run)(vm_state *state, const uint64_t *args, uint64_t *ret_value);

enum { VM_HOST_PARAMS_MAX = 5 };

typedef struct vm_host_function {
    const char *name;
    int params; /* all i64 */
    int result; /* 0, 32 or 64 bits */
    vm_host_run run;
} vm_host_function;

/* One table a file, ended by a NULL name. */
extern const vm_host_function vm_host_system[], vm_host_storage[], vm_host_index[],
    vm_host_utility[], vm_host_blob[];

int vm_host_define(wasmtime_linker_t *linker, cal_error *err); /* host.c */
int vm_charge_write(vm_state *state, uint64_t bytes);          /* host_storage.c: section 4.3 */
void vm_blobs_abandon(vm_state *state); /* host_blob.c: at the end of the call */

/* --- engine --- */
int vm_ticker_init(vm_ticker *ticker, wasm_engine_t *engine);
void vm_ticker_deinit(vm_ticker *ticker);
int vm_ticker_enter(vm_ticker *ticker); /* CAL_ENOMEM when the thread does not start */
void vm_ticker_leave(vm_ticker *ticker);

/* The engine's words on one line; deletes error. */
void vm_engine_text(wasmtime_error_t *error, char *ret_text, size_t size);

/* Bytes of a module that count for its limit: all but the custom sections named .debug_*. */
uint64_t vm_module_size(cal_slice wasm);

#endif
