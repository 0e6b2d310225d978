/* A new context: its id, its init, its genesis delta (runtime-abi.md 22; governance.md 12). */
#include <stdlib.h>

#include "base/error.h"
#include "context/internal.h"

static void created(cal_task *task) {
    struct call *call = CAL_CONTAINER_OF(task, struct call, task);
    cal_contexts *contexts = call->contexts;
    cal_error err = {0};
    cal_batch *batch = call->batch;
    call->batch = NULL;
    if (call->status == CAL_CALL_OK) {
        call->genesis_done(call->user, NULL, &call->genesis, batch);
    } else {
        cal_batch_free(batch);
        cal_fail(&err, call->error, "%s", call->message);
        call->genesis_done(call->user, &err, NULL, NULL);
    }
    call_free(call);
    contexts_call_closed(contexts);
}

/* What init left behind: nothing to say, and state. */
static void take_init(struct call *call) {
    call_take_failure(call);
    if (call->status == CAL_CALL_OK && call->outcome.return_kind != CAL_VM_RETURN_NONE)
        call_fail(call, CAL_CALL_FAILED, CAL_EGUEST,
                  "init returned a value, it must return nothing");
    if (call->status != CAL_CALL_OK) return;
    int rc;
    if (call->outcome.has_root) {
        rc = commit_build(call, true);
    } else {
        call_fail(call, CAL_CALL_FAILED, CAL_EGUEST, "init committed no state");
        return;
    }
    if (rc != 0 && call->status == CAL_CALL_OK)
        call_fail(call, CAL_CALL_INTERNAL, rc,
                  "the context's first state could not be recorded: %s", cal_error_text(rc));
}

void create_run(cal_task *task) {
    struct call *call = CAL_CONTAINER_OF(task, struct call, task);
    cal_contexts *contexts = call->contexts;
    cal_error err = {0};
    int rc = cal_modules_get(contexts->modules, &call->code, call->service, &call->module, &err);
    cal_vm_call guest;
    if (rc != 0)
        call_fail(call, CAL_CALL_INTERNAL, rc, "the application's code cannot be loaded: %s",
                  err.message);
    else if ((rc = call_prepare_guest(call, &guest)) != 0)
        call_fail(call, CAL_CALL_INTERNAL, rc, "%s", cal_error_text(rc));
    if (rc == 0) {
        cal_vm_run(contexts->options.vm, call->module.module, &guest, &call->outcome);
        call->ran = true;
        take_init(call);
    }
    cal_modules_put(contexts->modules, &call->module);
    call->task.run = created;
    contexts->options.runner->on_loop(contexts->options.runner->user, &call->task);
}

/* A context id is the public key of a key pair whose secret is thrown away. */
static void make_id(const cal_contexts *contexts, const uint8_t *seed, cal_context_id *ret_id) {
    cal_secret secret;
    if (seed) {
        cal_slice part = cal_slice_of(seed, 32);
        cal_domain_hash("calimero.context.seed.v1", &part, 1, secret.bytes);
    } else {
        contexts->options.os->random(contexts->options.os->user, secret.bytes, sizeof secret.bytes);
    }
    cal_sign_public_key(&secret, ret_id->bytes);
    cal_secret_wipe(&secret);
}

static int authorize(cal_contexts *contexts, struct call *call, cal_error *err) {
    const cal_context_authority *authority = &contexts->options.authority;
    int rc = contexts->draining ? CAL_ECANCELED
             : contexts->calls_open >= CAL_CALLS_MAX
                 ? CAL_EOVERLOAD
                 : authority->executor(authority->user, &call->genesis.group, &call->executor);
    if (rc == 0) rc = authority->code(authority->user, &call->genesis.group, &call->code);
    if (rc == 0) return 0;
    const char *why = rc == CAL_ENOTFOUND ? "the group is not known to this node"
                      : rc == CAL_EDENIED ? "this node is no member of the group"
                                          : cal_error_text(rc);
    return cal_fail(err, rc, "%s", why);
}

void cal_contexts_create(cal_contexts *contexts, const cal_context_create_options *options,
                         cal_context_genesis_done done, void *user) {
    cal_context_id id;
    make_id(contexts, options->seed, &id);
    cal_error err = {0};
    struct call *call = NULL;
    if (options->init_params_len > CAL_INIT_PARAMS_MAX)
        cal_fail(&err, CAL_ELIMIT, "the init parameters have %zu bytes, at most %d are allowed",
                 options->init_params_len, (int)CAL_INIT_PARAMS_MAX);
    else if (!(call = call_new(contexts, &id, "init",
                               cal_slice_of(options->init_params, options->init_params_len))))
        cal_fail(&err, CAL_ENOMEM, "out of memory while creating a context");
    if (call) {
        if (options->service && !(call->service = strdup(options->service)))
            cal_fail(&err, CAL_ENOMEM, "out of memory while creating a context");
        call->genesis = (cal_context_genesis){.id = id,
                                              .group = options->group,
                                              .application = options->application,
                                              .service = call->service};
        if (err.code == 0) authorize(contexts, call, &err);
    }
    if (err.code != 0) {
        call_free(call);
        done(user, &err, NULL, NULL);
        return;
    }
    call->genesis.code = call->code;
    call->genesis_done = done;
    call->user = user;
    contexts->calls_open++;
    call->task.run = create_run;
    contexts->options.runner->on_worker(contexts->options.runner->user, &call->task);
}
