/* Contexts: create, call, subscribe. Threads, errors and pointers as node.h says. */
#ifndef CALIMERO_CONTEXT_H
#define CALIMERO_CONTEXT_H

#include "calimero/node.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cal_context_info {
    cal_context_id id;
    cal_application_id application;
    cal_group_id group;
    const char *service;             /* NULL: none */
    const char *name;                /* NULL: none */
    const char *application_version; /* the one executing; NULL: unknown */
    cal_hash root;                   /* state root; all zero: not initialised */
    const cal_hash *heads;
    size_t head_count;
} cal_context_info;

typedef struct cal_context_create_options {
    cal_application_id application;
    cal_group_id group;
    const char *service;        /* NULL: none */
    const char *name;           /* NULL: none */
    const uint8_t *init_params; /* JSON text; len 0: no arguments; at most 1 MiB */
    size_t init_params_len;
    const uint8_t *seed; /* 32 bytes that determine the context id; NULL: random */
} cal_context_create_options;

typedef struct cal_context_created {
    cal_context_id id;
    cal_group_id group;
    cal_public_key member; /* this node's key in it */
} cal_context_created;

typedef void (*cal_context_create_done)(void *user, const cal_error *err,
                                        const cal_context_created *created);

/* CAL_EGUEST: init refused, the message holds its words. CAL_ENOTFOUND: application or group.
 * CAL_EDENIED: may not create contexts there. */
void cal_context_create(cal_node *node, const cal_context_create_options *options,
                        cal_context_create_done done, void *user);
int cal_context_create_wait(cal_node *node, const cal_context_create_options *options,
                            cal_context_created *ret_created, cal_error *err);
void cal_context_delete(cal_node *node, const cal_context_id *id, cal_simple_done done,
                        void *user); /* local wipe and detach; CAL_ENOTFOUND */
int cal_context_get(cal_node *node, const cal_context_id *id,
                    void (*visit)(void *user, const cal_context_info *info), void *user);
/* Filters may be NULL. In ascending id order. */
int cal_context_each(cal_node *node, const cal_application_id *application,
                     const cal_group_id *group,
                     void (*visit)(void *user, const cal_context_info *info), void *user);
/* Member keys known in the context; `owned`: only those whose secret half this node holds.
 * CAL_ENOTFOUND. */
int cal_context_identities(cal_node *node, const cal_context_id *id, bool owned,
                           void (*visit)(void *user, const cal_public_key *key), void *user);
/* Bytes of its state and private state. Reads every row, on a worker: seconds for a gigabyte.
 * CAL_ENOTFOUND. */
typedef void (*cal_size_done)(void *user, const cal_error *err, uint64_t bytes);
void cal_context_size(cal_node *node, const cal_context_id *id, cal_size_done done, void *user);

/* --- calls --- */

typedef enum cal_call_status {
    CAL_CALL_OK,        /* `output` is what the method returned, NULL when nothing */
    CAL_CALL_FAILED,    /* trap, panic, limit, or the method returned an error: `message` is the
                           display text. `error` CAL_EDENIED: the call changes the state, and this
                           node may only read there: nothing was kept */
    CAL_CALL_NOT_FOUND, /* no such context here */
    CAL_CALL_UNINITIALIZED,
    CAL_CALL_UNAUTHORIZED,
    CAL_CALL_NOT_INSTALLED, /* the application's code is missing; `application` says which */
    CAL_CALL_INTERNAL, /* the node failed: `error` says why (CAL_EFULL, CAL_ECORRUPT, ...), nothing
                          was changed */
} cal_call_status;

typedef struct cal_call_result {
    cal_call_status status;
    int error;             /* CAL_E* that goes with the status, 0 when OK */
    const char *message;   /* NUL-terminated; "" when OK */
    const uint8_t *output; /* return bytes, JSON for applications made with the SDKs */
    size_t output_len;
    const uint8_t
        *guest_error; /* the bytes of the application's own Err, when it returned one; else NULL */
    size_t guest_error_len;
    cal_application_id application; /* with CAL_CALL_NOT_INSTALLED */
    cal_hash root;                  /* state root after the call */
    bool changed;                   /* the call changed the state, durably */
    uint64_t gas_used;
    const char *const *logs; /* what the application logged */
    size_t log_count;
} cal_call_result;

typedef void (*cal_call_done)(void *user, const cal_call_result *result);

/* Runs `method` with `args` (JSON text; len 0: none). `done` comes after the change is durable.
 * Copies its arguments. */
void cal_execute(cal_node *node, const cal_context_id *context, const char *method,
                 const void *args, size_t args_len, cal_call_done done, void *user);
/* Blocking form. `visit` gets the result on the loop thread before this returns; NULL allowed.
 * Returns result->error and fills err from it. */
int cal_execute_wait(cal_node *node, const cal_context_id *context, const char *method,
                     const void *args, size_t args_len, cal_call_done visit, void *user,
                     cal_error *err);

/* --- events --- */

typedef struct cal_app_event {
    const char *kind;
    const uint8_t *data; /* JSON text of the payload */
    size_t data_len;
    const char *handler; /* NULL: none */
} cal_app_event;

typedef enum cal_event_type { CAL_EVENT_STATE_MUTATION, CAL_EVENT_XCALL } cal_event_type;
typedef enum cal_xcall_status { CAL_XCALL_OK, CAL_XCALL_DENIED, CAL_XCALL_ERROR } cal_xcall_status;

typedef struct cal_event {
    cal_event_type type;
    cal_context_id context;
    /* CAL_EVENT_STATE_MUTATION */
    cal_hash root;
    const cal_app_event *events;
    size_t event_count;
    /* CAL_EVENT_XCALL: `context` is the source */
    cal_context_id xcall_target;
    const char *xcall_function;
    cal_xcall_status xcall_status;
    const char *xcall_detail; /* reason or message; "" when ok */
} cal_event;

typedef void (*cal_event_handler)(void *user, const cal_event *event);
typedef struct cal_subscription cal_subscription;

/* Events of one context, or of all with NULL; handlers run on the loop thread, after the change is
 * durable. NULL when out of memory. */
cal_subscription *cal_subscribe(cal_node *node, const cal_context_id *context,
                                cal_event_handler handler, void *user);
/* No handler runs after this returns, unless it is called from one. NULL allowed. */
void cal_unsubscribe(cal_node *node, cal_subscription *subscription);

#ifdef __cplusplus
}
#endif
#endif
