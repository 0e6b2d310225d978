/* One run of a guest in a context: the module, an overlay over what the context holds, the outcome
 * and the words for a failure (runtime-abi.md 5). Calls, genesis and received deltas use it; one
 * thread at a time. */
#ifndef CAL_CONTEXT_GUEST_H
#define CAL_CONTEXT_GUEST_H

#include "context/internal.h"

struct guest {
    cal_contexts *contexts;
    cal_context_id id;
    cal_executor executor;
    cal_blob_id code;
    cal_loaded_module module;
    cal_overlay overlay;
    cal_vm_storage storage; /* the overlay, as the guest sees it */
    cal_vm_outcome outcome;
    bool ran; /* outcome holds */
    cal_arena arena;

    cal_call_status status;
    int error;
    char message[CAL_ERROR_MESSAGE_MAX];
    cal_slice guest_error;
};

typedef struct guest_call {
    const char *method;
    cal_slice input;
    const uint8_t *xcall_origin; /* NULL: none */
    bool read_only;
    uint64_t memory_max;
    uint32_t deadline_ms;
} guest_call;

void guest_init(struct guest *guest, cal_contexts *contexts, const cal_context_id *id);
void guest_deinit(struct guest *guest);
/* Ready for another run with the same module; the arena starts anew. */
void guest_reset(struct guest *guest);

void guest_fail(struct guest *guest, cal_call_status status, int error, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The module of guest.code; 0 or the failure, which is then in the guest. */
int guest_load(struct guest *guest, const char *service);
void guest_unload(struct guest *guest);

/* What its overlay lies on: nothing yet (as guest_init leaves it); the tip of the context whose
 * turn runs; or a snapshot of its own. CAL_E* of the store. */
int guest_over_tip(struct guest *guest, struct context *context, const cal_overlay *top);
int guest_over_snapshot(struct guest *guest, struct context *context, cal_snapshot **ret_snapshot);

/* Drops what only the commit needed; the return value, logs, events and xcalls remain: so many
 * bytes of them. */
size_t guest_shrink(struct guest *guest);

/* Runs; the outcome's failure, or the application's own error, becomes the guest's. */
void guest_run(struct guest *guest, const guest_call *call);

#endif
