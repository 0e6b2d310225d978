/* A client's call, or an xcall: a turn, or beside the turns when its method is a view. */
#ifndef CAL_CONTEXT_CALL_H
#define CAL_CONTEXT_CALL_H

#include "context/guest.h"

struct call {
    struct turn turn; /* its task also carries a view to its worker and back */
    struct guest guest;
    bool view;
    cal_snapshot *snapshot; /* a view's */
    uint64_t version;       /* of the cache, when the loop looked at the record for a view */

    char *method;
    cal_buffer args;
    bool in_order; /* takes a turn, also when its method is a view */
    bool is_xcall;
    cal_context_id origin;
    cal_application_id origin_application;
    uint32_t depth;
    const char *denied; /* of an xcall: why it was not run */

    bool changed;       /* the state */
    cal_hash root;      /* after it, or as it saw it */
    cal_hash delta;     /* of a change */
    cal_buffer message; /* and as it is published; empty: nobody hears it */
    uint64_t began_ns;
    cal_call_done done;
    void *user;
};

/* call.c, loop */
struct call *call_new(cal_contexts *contexts, const cal_context_id *id, const char *method,
                      cal_slice args); /* NULL: out of memory */
void call_free(struct call *call);
/* Queues or starts it; answers at once when it cannot. */
void call_submit(struct call *call);

/* answer.c, loop */
void call_answer(struct call *call); /* the caller's callback, then events and xcalls */
void call_close(struct call *call);  /* frees it; a drain may end here */

#endif
