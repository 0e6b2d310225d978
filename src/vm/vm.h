/* Running an application's WebAssembly module: one fresh instance a call, metered, bounded, and
 * reaching nothing but what the tables below hand it. Protocol: runtime-abi.md 1-5, 15-17, 19.
 *
 * `cal_vm` and `cal_vm_module` may be used from any thread; a call runs on the calling thread,
 * which needs a stack of at least CAL_VM_THREAD_STACK bytes. Nothing is kept between calls. */
#ifndef CAL_VM_H
#define CAL_VM_H

#include "base/buffer.h"
#include "base/bytes.h"
#include "calimero/error.h"
#include "os/os.h"

enum {
    CAL_VM_THREAD_STACK = 2 * 1024 * 1024,
    CAL_VM_MODULE_MAX =
        20 * 1024 *
        1024, /* code and data; debug sections (custom sections named .debug_*) are not counted */
    CAL_VM_METHOD_MAX = 256,
};

typedef struct cal_vm cal_vm;
typedef struct cal_vm_module cal_vm_module; /* counted references */

/* What an operator may tune (runtime-abi.md 15); 0 means the default. */
typedef struct cal_vm_limits {
    uint64_t max_gas;      /* 1,000,000,000 */
    uint32_t max_logs;     /* 1024 */
    uint32_t max_log_size; /* 16384 bytes */
} cal_vm_limits;

int cal_vm_new(const cal_os *os, const cal_vm_limits *limits, cal_vm **ret_vm, cal_error *err);
void cal_vm_free(cal_vm *vm); /* all modules and calls done before; NULL allowed */

/* Names this engine build and configuration; part of the cache key, so that an artefact of another
 * one is never loaded. */
void cal_vm_fingerprint(const cal_vm *vm, uint8_t ret_fingerprint[32]);

/* Validates (section 1, in its order) and compiles; slow (about 1 s for 500 KiB). The artefact is
 * for cal_vm_load. CAL_EGUEST with the display text of section 17 in err. */
int cal_vm_compile(cal_vm *vm, cal_slice wasm, cal_buffer *ret_artifact, cal_error *err);
/* `artifact` MUST be authentic: loading forged bytes runs them. CAL_ECORRUPT when it does not load.
 */
int cal_vm_load(cal_vm *vm, cal_slice artifact, cal_vm_module **ret_module, cal_error *err);
cal_vm_module *cal_vm_module_ref(cal_vm_module *module);
void cal_vm_module_unref(cal_vm_module *module); /* NULL allowed */
bool cal_vm_module_exports(const cal_vm_module *module,
                           const char *name); /* a function () -> () of that name */

/* --- what a call reaches --- All functions run on the calling thread, inside the call. */

typedef enum cal_vm_space {
    CAL_VM_STATE,
    CAL_VM_PRIVATE,
    CAL_VM_INDEX,
    CAL_VM_INDEX_META
} cal_vm_space;

/* Storage. Results are 0/1 as the guest sees them, or a negative CAL_E*: then the call ends, leaves
 * no trace and reports that code (a failing disk is not the guest's doing). Keys of other lengths
 * than 32 in STATE and PRIVATE have been dealt with by vm (section 4.4). `read_only` is dealt with
 * by vm too. */
typedef struct cal_vm_storage {
    void *user;
    int (*read)(void *user, cal_vm_space space, cal_slice key,
                cal_buffer *ret_value); /* 1 hit, 0 miss */
    int (*write)(void *user, cal_vm_space space, cal_slice key, cal_slice value,
                 cal_buffer *ret_old); /* 1 replaced; ret_old may be NULL */
    int (*remove)(void *user, cal_vm_space space, cal_slice key,
                  cal_buffer *ret_old);                 /* 1 existed; ret_old may be NULL */
    int (*remove_prefix)(void *user, cal_slice prefix); /* INDEX only; 0 */
    /* INDEX: pairs in [lo, hi) in order (or only the last one), after `skip`, at most `max`; `pair`
     * is called for each and returns 0 to go on or a negative code to stop with it. Returns 0 or
     * negative. */
    int (*scan)(void *user, cal_slice lo, cal_slice hi, uint64_t skip, uint64_t max, bool last_only,
                int (*pair)(void *user, cal_slice key, cal_slice value), void *pair_user);
} cal_vm_storage;

/* Blobs (section 19); NULL table: every blob function traps BlobsNotSupported. Handles are the
 * implementation's, freed by close or abort. Negative results as in storage become the trap the
 * section names. */
typedef struct cal_vm_blobs {
    void *user;
    int (*create)(void *user, void **ret_writer);
    int (*write)(void *user, void *writer, cal_slice bytes);
    int (*finish)(void *user, void *writer, uint8_t ret_id[32]); /* consumes the writer */
    void (*abort)(void *user, void *writer);
    int (*open)(void *user, const uint8_t id[32],
                void **ret_reader); /* also for a blob that is not there */
    int64_t (*read)(void *user, void *reader, uint8_t *ret_bytes,
                    size_t len); /* fills as much as there is; 0 at the end */
    void (*close)(void *user, void *reader);
    int (*announce)(void *user, const uint8_t id[32],
                    const uint8_t context[32]); /* CAL_ENOTFOUND when not local */
} cal_vm_blobs;

typedef struct cal_vm_call {
    const char *method;
    cal_slice input;
    uint8_t context_id[32], account_id[32], device_id[32];
    const uint8_t *xcall_origin; /* 32 bytes, or NULL */
    const cal_vm_storage *storage;
    bool has_private;          /* false: the private space is absent (migrations) */
    const cal_vm_blobs *blobs; /* NULL allowed */
    const cal_os *os;          /* clock and randomness of this call; NULL: the vm's */
    bool read_only;            /* storage writes ignored (section 4.4) */
    uint64_t memory_max;       /* bytes; 0: 64 MiB */
    uint32_t deadline_ms;      /* wall clock; 0: none (gas alone bounds it) */
    uint64_t max_gas;          /* 0: the vm's */
} cal_vm_call;

typedef enum cal_vm_return {
    CAL_VM_RETURN_NONE,
    CAL_VM_RETURN_OK,
    CAL_VM_RETURN_ERR
} cal_vm_return;

/* Why a call failed. The order is that of section 17. */
typedef enum cal_vm_failure {
    CAL_VM_FINE,
    CAL_VM_FAIL_METHOD, /* bad name, not found, bad signature */
    CAL_VM_FAIL_LINK,
    CAL_VM_FAIL_TRAP,
    CAL_VM_FAIL_PANIC, /* the guest's own panic */
    CAL_VM_FAIL_HOST,  /* a host function refused */
    CAL_VM_FAIL_GAS,
    CAL_VM_FAIL_DEADLINE,
    CAL_VM_FAIL_NODE, /* not the guest's doing: storage or memory failed; `node_error` says what */
} cal_vm_failure;

typedef struct cal_vm_event {
    cal_slice kind, data, handler;
    bool has_handler;
} cal_vm_event;
typedef struct cal_vm_xcall {
    uint8_t context_id[32];
    cal_slice function, params;
} cal_vm_xcall;

/* Everything in it lives until cal_vm_outcome_deinit. The lists are those collected so far also
 * when the call failed. */
typedef struct cal_vm_outcome {
    cal_vm_failure failure;
    int node_error;
    char error[1024]; /* display text of section 17, "" when fine. An application's Err is not a
                         failure here: see return_kind */
    /* A guest panic, apart (replay compares it): empty otherwise. */
    cal_slice panic_message, panic_file;
    uint32_t panic_line, panic_column;
    const char *host_error_name; /* "KeyLengthOverflow" ... of a host error, else NULL */
    cal_vm_return return_kind;
    cal_slice return_value;
    bool has_root, has_artifact, has_witness;
    uint8_t root_hash[32];
    cal_slice artifact, witness;
    cal_slice *logs;
    size_t log_count;
    cal_vm_event *events;
    size_t event_count;
    cal_vm_xcall *xcalls;
    size_t xcall_count;
    bool has_gas;
    uint64_t gas_used;
    struct cal_vm_arena_holder *owner; /* vm's memory behind the slices */
} cal_vm_outcome;

/* Runs one call (section 5). Always fills ret_outcome; returns nothing else, since every failure is
 * in the outcome. */
void cal_vm_run(cal_vm *vm, cal_vm_module *module, const cal_vm_call *call,
                cal_vm_outcome *ret_outcome);
void cal_vm_outcome_deinit(cal_vm_outcome *outcome);
/* Frees artifact and witness before the rest, for an outcome that is kept. */
void cal_vm_outcome_drop_artifact(cal_vm_outcome *outcome);

/* Appends the display text of an application's own error (return_kind ERR): its bytes as a decimal
 * list. */
void cal_vm_format_err(cal_slice err_bytes, cal_buffer *ret_text);

/* The bytes of a custom section of a module (the last with that name), borrowed from wasm.
 * CAL_ENOTFOUND, CAL_EDECODE. */
int cal_wasm_custom_section(cal_slice wasm, const char *name, cal_slice *ret_content);

#endif
