/* Contexts that others made: a member of their group gets a record of them, without a state, hears
 * them, and catches up; who is no member any more stops hearing them (governance.md 8,
 * "Auto-follow"; 10.9, 12).
 *
 * A namespace may have tens of thousands of contexts, and each change of members concerns all of
 * them: they are looked at in turn, a millisecond of it in a turn of the loop. So are those whose
 * code has come. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gov/members.h"
#include "sync/context.h"

enum { TURN_NS = 1000000, LOOKS = 16 /* between two looks at the clock */ };

typedef struct adoption {
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

/* How it stands with code that is not here. */
typedef struct code_state {
    char why[160];
} code_state;

static cal_slice key_of(const uint8_t id[CAL_ID_SIZE]) { return cal_slice_of(id, CAL_ID_SIZE); }

static void move_to(sync_context *context, cal_list *list) {
    cal_list_remove(&context->codeless_link);
    cal_list_push(list, &context->codeless_link);
}

bool sync_context_codeless(sync_context *context) {
    cal_sync *sync = context->sync;
    const cal_sync_options *options = &sync->options;
    cal_application_id application;
    cal_blob_id code;
    if (code_of(sync, &context->id, &application, &code)) return context->codeless;
    context->codeless = !options->code_here(options->user, &application, &code);
    if (!context->codeless) {
        cal_list_remove(&context->codeless_link);
        return false;
    }
    context->code = code;
    move_to(context, &sync->follow.codeless);
    options->code_wanted(options->user, &context->id, &application, &code);
    return true;
}

const char *sync_context_code_why(const sync_context *context) {
    const code_state *state =
        cal_map_get(&context->sync->follow.codes, key_of(context->code.bytes));
    return state ? state->why : "its application is being fetched";
}

void cal_sync_code_state(cal_sync *sync, const cal_blob_id *code, const char *why) {
    code_state *state = cal_map_get(&sync->follow.codes, key_of(code->bytes));
    if (!state) {
        state = calloc(1, sizeof *state);
        if (!state || cal_map_put(&sync->follow.codes, key_of(code->bytes), state)) {
            free(state);
            return;
        }
    }
    snprintf(state->why, sizeof state->why, "%s", why);
}

static void go_on(cal_sync *sync);

void cal_sync_code_came(cal_sync *sync, const cal_blob_id *code) {
    cal_list *at = sync->follow.codeless.next;
    free(cal_map_remove(&sync->follow.codes, key_of(code->bytes)));
    if (sync->stopping) return;
    while (at != &sync->follow.codeless) {
        sync_context *context = CAL_CONTAINER_OF(at, sync_context, codeless_link);
        at = at->next;
        if (memcmp(&context->code, code, sizeof *code) == 0)
            move_to(context, &sync->follow.recoded);
    }
    go_on(sync);
}

/* It may run another one by now. */
static void look_at_recoded(sync_context *context) {
    cal_list_remove(&context->codeless_link);
    if (context->gone || sync_context_codeless(context)) return;
    sync_context_stated(context);
    sync_compare_want(context, NULL);
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
    cal_map_remove(&sync->adoptions, key_of(adopts->id.bytes));
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

static void adopt(cal_sync *sync, const gov_context_info *info) {
    const cal_sync_options *options = &sync->options;
    if (cal_map_get(&sync->adoptions, key_of(info->id.bytes))) return;
    adoption *adopts = calloc(1, sizeof *adopts);
    cal_batch *batch = cal_batch_new();
    cal_context_genesis context = {.id = info->id,
                                   .group = info->group,
                                   .application = info->application,
                                   .service = info->service_name};
    int rc =
        adopts && batch ? gov_group_code(options->gov, &info->group, &context.code) : CAL_ENOMEM;
    if (rc == 0) rc = cal_contexts_adopt(options->contexts, &context, sync_wall_ms(sync), batch);
    if (rc == 0) rc = cal_map_put(&sync->adoptions, key_of(info->id.bytes), adopts);
    if (rc != 0) {
        cal_batch_free(batch);
        free(adopts);
        return;
    }
    *adopts = (adoption){.sync = sync, .id = info->id};
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

/* --- in turn --- */

/* The next ones of the namespace that has waited longest. */
static void look_at_some(cal_sync *sync) {
    sync_namespace *ns =
        CAL_CONTAINER_OF(cal_list_pop(&sync->follow.namespaces), sync_namespace, follow_link);
    size_t count = gov_namespace_contexts_from(sync->options.gov, &ns->id, &ns->follow_at, LOOKS,
                                               look_at, sync);
    if (count < LOOKS) {
        ns->follow_at = (gov_context_place){0};
        if (!ns->follow_again) return;
        ns->follow_again = false;
    }
    cal_list_push(&sync->follow.namespaces, &ns->follow_link);
}

static bool has_more(const cal_sync *sync) {
    return !sync->stopping &&
           (!cal_list_empty(&sync->follow.namespaces) || !cal_list_empty(&sync->follow.recoded));
}

static void look_in_turn(cal_task *task) {
    cal_sync *sync = CAL_CONTAINER_OF(task, cal_sync, follow.task);
    const cal_os *os = sync->options.os;
    uint64_t began = os->mono_ns(os->user);
    sync->follow.posted = false;
    while (has_more(sync) && os->mono_ns(os->user) - began < TURN_NS) {
        if (!cal_list_empty(&sync->follow.namespaces)) look_at_some(sync);
        for (size_t i = 0; i < LOOKS && !cal_list_empty(&sync->follow.recoded); i++)
            look_at_recoded(
                CAL_CONTAINER_OF(sync->follow.recoded.next, sync_context, codeless_link));
    }
    go_on(sync);
    sync_release(sync);
}

static void go_on(cal_sync *sync) {
    const cal_runner *runner = sync->options.runner;
    if (sync->follow.posted || !has_more(sync)) return;
    sync->follow.posted = true;
    sync->follow.task.run = look_in_turn;
    sync_hold(sync);
    runner->on_loop(runner->user, &sync->follow.task);
}

void sync_follow_namespace(cal_sync *sync, const cal_group_id *namespace_id) {
    sync_namespace *ns = sync_namespace_get(sync, namespace_id, true);
    if (!ns || ns->gone) return; /* no memory: its next change is another occasion */
    if (!cal_list_empty(&ns->follow_link))
        ns->follow_again = true;
    else
        cal_list_push(&sync->follow.namespaces, &ns->follow_link);
    go_on(sync);
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

/* --- life --- */

void sync_follow_init(cal_sync *sync) {
    cal_list_init(&sync->follow.namespaces);
    cal_list_init(&sync->follow.recoded);
    cal_list_init(&sync->follow.codeless);
    cal_map_init(&sync->follow.codes, sync->seed);
    cal_map_init(&sync->adoptions, sync->seed);
}

void sync_follow_free(cal_sync *sync) {
    cal_map_cursor cursor = {0};
    void *value;
    while (cal_map_next(&sync->follow.codes, &cursor, NULL, &value)) free(value);
    cal_map_deinit(&sync->follow.codes);
    cal_map_deinit(&sync->adoptions);
}
