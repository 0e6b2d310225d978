/* What governance says of this node in a context. The tables that answer belong to the loop thread
 * and cost more than a call's own work in a large namespace, so they are asked once for each
 * version of governance, and any thread can tell whether that was the present one. */
#include "context/internal.h"

static uint64_t governance_version(const cal_contexts *contexts) {
    const cal_context_authority *authority = &contexts->options.authority;
    return authority->version(authority->user);
}

static int ask(const struct context *context, cal_executor *ret_executor, cal_blob_id *ret_code) {
    const cal_context_authority *authority = &context->contexts->options.authority;
    int rc = authority->executor(authority->user, &context->record.group, ret_executor);
    if (rc == 0) rc = authority->code(authority->user, &context->record.group, ret_code);
    return rc;
}

/* The key is here only while turns may need it. */
static void take_key(struct context *context) {
    const cal_context_authority *authority = &context->contexts->options.authority;
    cal_grant *grant = &context->grant;
    bool seals = contexts_heard(context->contexts, &context->id) && grant->result == 0 &&
                 !grant->executor.read_only;
    if (seals == grant->seals) return;
    cal_secret_wipe(&grant->key);
    grant->seals = seals;
    grant->seal_result = 0;
    if (seals)
        grant->seal_result =
            authority->seal_key(authority->user, &context->id, &grant->key, &grant->key_id);
}

bool grant_holds(const struct context *context) {
    return context->grant.known && context->grant.version == governance_version(context->contexts);
}

void grant_refresh(struct context *context) {
    if (grant_holds(context)) {
        take_key(context);
        return;
    }
    const cal_context_authority *authority = &context->contexts->options.authority;
    cal_grant *grant = &context->grant;
    grant_deinit(grant);
    grant->version = governance_version(context->contexts);
    grant->result = ask(context, &grant->executor, &grant->code);
    cal_buffer_init(&grant->position, CAL_DELTA_POSITION_MAX * 32);
    if (grant->result == 0 && !grant->executor.read_only) /* who changes nothing cites nothing */
        grant->position_result =
            authority->position(authority->user, &context->id, &grant->position);
    grant->known = true;
    take_key(context);
}

int grant_view(struct context *context, cal_executor *ret_executor, cal_blob_id *ret_code) {
    if (!grant_holds(context)) {
        if (atomic_load(&context->place) != PLACE_LOOP) return ask(context, ret_executor, ret_code);
        grant_refresh(context);
    }
    *ret_executor = context->grant.executor;
    *ret_code = context->grant.code;
    return context->grant.result;
}

void grant_deinit(cal_grant *grant) {
    if (grant->known) cal_buffer_deinit(&grant->position);
    cal_secret_wipe(&grant->key);
    *grant = (cal_grant){.known = false};
}
