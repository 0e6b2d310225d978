/* Contexts that others made: a member of their group gets a record of them, without a state, hears
 * them, and catches up; who is no member any more stops hearing them (governance.md 8,
 * "Auto-follow"; 10.9, 12). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gov/members.h"
#include "sync/context.h"

enum { WHY_MAX = sizeof((sync_context *)0)->code_why };

typedef struct adoption {
    cal_list link; /* in sync.adoptions */
    cal_task task;
    cal_sync *sync;
    cal_context_id id;
    int result;
} adoption;

/* --- the code that a context runs --- */

/* What its group runs now, and whose code that is: what the context was registered with, unless an
 * administrator has changed the group's target since. */
static int code_of(cal_sync *sync, const cal_context_id *id, cal_application_id *ret_application,
                   cal_blob_id *ret_code) {
    gov_context_info info;
    gov_group_info group;
    int rc = gov_context_get(sync->options.gov, id, &info);
    if (rc == 0) rc = gov_group_code(sync->options.gov, &info.group, ret_code);
    if (rc != 0) return rc;
    *ret_application = info.application;
    if (memcmp(ret_code, &info.blob, sizeof info.blob) == 0) return 0;
    rc = gov_group_get(sync->options.gov, &info.group, &group);
    if (rc == 0) *ret_application = group.application;
    return rc;
}

bool sync_context_codeless(sync_context *context) {
    const cal_sync_options *options = &context->sync->options;
    cal_application_id application;
    cal_blob_id code;
    if (code_of(context->sync, &context->id, &application, &code)) return context->codeless;
    bool was = context->codeless && memcmp(&context->code, &code, sizeof code) == 0;
    context->codeless = !options->code_here(options->user, &application, &code);
    if (!context->codeless) return false;
    context->code = code;
    if (!was) snprintf(context->code_why, WHY_MAX, "its application is being fetched");
    options->code_wanted(options->user, &context->id, &application, &code);
    return true;
}

void cal_sync_code_state(cal_sync *sync, const cal_blob_id *code, const char *why) {
    cal_map_cursor cursor = {0};
    void *value;
    while (cal_map_next(&sync->contexts, &cursor, NULL, &value)) {
        sync_context *context = value;
        if (context->codeless && memcmp(&context->code, code, sizeof *code) == 0)
            snprintf(context->code_why, WHY_MAX, "%s", why);
    }
}

void cal_sync_code_came(cal_sync *sync, const cal_blob_id *code) {
    cal_map_cursor cursor = {0};
    void *value;
    if (sync->stopping) return;
    while (cal_map_next(&sync->contexts, &cursor, NULL, &value)) {
        sync_context *context = value;
        if (!context->codeless || memcmp(&context->code, code, sizeof *code) != 0) continue;
        if (context->gone || sync_context_codeless(context)) continue; /* it runs another one now */
        sync_context_stated(context);
        sync_compare_want(context, NULL);
    }
}

/* --- contexts of others --- */

static void hear(cal_sync *sync, const cal_context_id *id) {
    const cal_sync_options *options = &sync->options;
    if (sync_context_add(sync, id)) return; /* the next start finds it */
    options->hear_context(options->user, id, true);
    sync_context_codeless(sync_context_get(sync, id));
}

static void adopted(cal_task *task) {
    adoption *adopts = CAL_CONTAINER_OF(task, adoption, task);
    cal_sync *sync = adopts->sync;
    if (adopts->result)
        cal_log(CAL_LOG_WARN, "sync", "a context of others could not be taken in: %s",
                cal_error_text(adopts->result));
    else if (!sync->stopping)
        hear(sync, &adopts->id);
    cal_list_remove(&adopts->link);
    free(adopts);
    sync_release(sync);
}

static void stored(void *user, int result) { /* the store's writer thread */
    adoption *adopts = user;
    const cal_runner *runner = adopts->sync->options.runner;
    adopts->result = result;
    adopts->task.run = adopted;
    runner->on_loop(runner->user, &adopts->task);
}

static bool being_adopted(const cal_sync *sync, const cal_context_id *id) {
    for (cal_list *at = sync->adoptions.next; at != &sync->adoptions; at = at->next)
        if (memcmp(&CAL_CONTAINER_OF(at, adoption, link)->id, id, sizeof *id) == 0) return true;
    return false;
}

static void adopt(cal_sync *sync, const gov_context_info *info) {
    const cal_sync_options *options = &sync->options;
    if (being_adopted(sync, &info->id)) return;
    adoption *adopts = calloc(1, sizeof *adopts);
    cal_batch *batch = cal_batch_new();
    cal_context_genesis context = {.id = info->id,
                                   .group = info->group,
                                   .application = info->application,
                                   .service = info->service_name};
    int rc =
        adopts && batch ? gov_group_code(options->gov, &info->group, &context.code) : CAL_ENOMEM;
    if (rc == 0) rc = cal_contexts_adopt(options->contexts, &context, sync_wall_ms(sync), batch);
    if (rc != 0) {
        cal_batch_free(batch);
        free(adopts);
        return;
    }
    *adopts = (adoption){.sync = sync, .id = info->id};
    cal_list_push(&sync->adoptions, &adopts->link);
    sync_hold(sync);
    cal_store_submit(options->store, batch, stored, adopts);
}

/* Whether the context has a record here. */
static bool is_here(cal_sync *sync, const cal_context_id *id) {
    cal_arena arena;
    cal_context_record record;
    cal_arena_init(&arena, SYNC_ARENA_MAX);
    int rc = cal_contexts_get(sync->options.contexts, id, &arena, &record);
    cal_arena_deinit(&arena);
    return rc == 0;
}

static bool takes_part(const cal_sync *sync, const cal_context_id *id) {
    const cal_sync_options *options = &sync->options;
    cal_account_id account;
    return gov_context_read(options->gov, id, &account, NULL) == 0 &&
           !(options->left && options->left(options->user, id));
}

/* Whether this node wants what others create in the group (governance.md 8, "Auto-follow"): what
 * its own row says, or the one that it inherits its membership from. */
static bool follows(const cal_sync *sync, const cal_group_id *group) {
    cal_gov *gov = sync->options.gov;
    cal_account_id account;
    cal_group_id at = *group;
    gov_group_info info;
    gov_follow follow;
    if (gov_acting_account(gov, group, &account)) return true;
    for (int depth = 0; depth <= GOV_DEPTH_MAX; depth++) {
        if (gov_member_follow(gov, &at, &account, &follow) == 0) return follow.contexts;
        if (gov_group_get(gov, &at, &info) || memcmp(&info.parent, &at, sizeof at) == 0) break;
        at = info.parent;
    }
    return true;
}

static void look_at(void *user, const gov_context_info *info) {
    cal_sync *sync = user;
    const cal_sync_options *options = &sync->options;
    bool member = takes_part(sync, &info->id);
    if (!member && sync_context_get(sync, &info->id)) {
        sync_context_drop(sync, &info->id);
        options->hear_context(options->user, &info->id, false);
    } else if (member && !sync_context_get(sync, &info->id)) {
        if (is_here(sync, &info->id))
            hear(sync, &info->id);
        else if (follows(sync, &info->group))
            adopt(sync, info);
    }
}

static void look_at_stored(void *user, const gov_context_info *info) {
    cal_sync *sync = user;
    if (takes_part(sync, &info->id) && is_here(sync, &info->id)) hear(sync, &info->id);
}

void sync_follow_stored(cal_sync *sync, const cal_group_id *namespace_id) {
    gov_namespace_contexts(sync->options.gov, namespace_id, look_at_stored, sync);
}

void sync_follow_namespace(cal_sync *sync, const cal_group_id *namespace_id) {
    gov_namespace_contexts(sync->options.gov, namespace_id, look_at, sync);
}

static void look_at_change(void *user, const cal_group_id *group, const cal_context_id *context,
                           bool registered) {
    cal_sync *sync = user;
    gov_context_info info;
    (void)group;
    if (registered && gov_context_get(sync->options.gov, context, &info) == 0)
        look_at(sync, &info);
    else if (!registered)
        sync_context_drop(sync, context);
}

void sync_follow_change(cal_sync *sync, const gov_change *change) {
    if (gov_change_touches_members(change))
        sync_follow_namespace(sync, gov_change_namespace(change));
    gov_change_contexts(change, look_at_change, sync);
}

/* Asked for by hand: whatever its member follows by itself. */
void cal_sync_follow(cal_sync *sync, const cal_context_id *id) {
    gov_context_info info;
    if (gov_context_get(sync->options.gov, id, &info)) return;
    if (takes_part(sync, id) && !is_here(sync, id))
        adopt(sync, &info);
    else
        look_at(sync, &info);
}
