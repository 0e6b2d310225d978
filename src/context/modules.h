/* The compiled modules of applications, by bytecode blob and service: in memory (at most
 * CAL_MODULES_LOADED_MAX), on disk (column MODULE, which the store authenticates: the vm must never
 * load forged bytes), compiled from the stored bundle when neither has it.
 *
 * Any thread; a miss blocks, so misses belong on workers. One thread compiles a module while the
 * others that want it wait. */
#ifndef CAL_CONTEXT_MODULES_H
#define CAL_CONTEXT_MODULES_H

#include "app/app.h"
#include "store/store.h"
#include "vm/vm.h"

typedef struct cal_modules cal_modules;

/* A module in use: keeps it and its ABI alive. */
typedef struct cal_loaded_module {
    cal_vm_module *module;
    const cal_abi *abi;
    struct module_entry *entry;
} cal_loaded_module;

int cal_modules_new(cal_store *store, cal_vm *vm, const cal_app_blobs *blobs, uint64_t seed,
                    cal_modules **ret_modules);
void cal_modules_free(cal_modules *modules); /* nothing in use; NULL allowed */

/* CAL_ENOTFOUND (no such blob or service), CAL_EGUEST (does not compile; its words in err),
 * CAL_EVERIFY, CAL_ECORRUPT, ... */
int cal_modules_get(cal_modules *modules, const cal_blob_id *code, const char *service,
                    cal_loaded_module *ret_module, cal_error *err);
void cal_modules_put(cal_modules *modules, cal_loaded_module *module);

/* Whether the method is declared read-only, for a module that is in memory; false when it is not:
 * the call then runs as a writer. */
bool cal_modules_known_view(cal_modules *modules, const cal_blob_id *code, const char *service,
                            const char *method);

/* Adds the removal of a code's artefacts to the batch. */
void cal_modules_forget(cal_modules *modules, const cal_blob_id *code, cal_batch *batch);
/* Removes artefacts that another engine made. Blocks; from a worker. */
int cal_modules_sweep(cal_modules *modules, cal_error *err);

void cal_modules_counts(cal_modules *modules, uint64_t *ret_loaded, uint64_t *ret_compiled);

#endif
