/* The table of contexts and their queues. Loop thread. */
#include <assert.h>
#include <stdlib.h>

#include "base/error.h"
#include "context/internal.h"

/* --- calls --- */

struct call *call_new(cal_contexts *contexts, const cal_context_id *id, const char *method,
                      cal_slice args) {
    struct call *call = calloc(1, sizeof *call);
    if (!call) return NULL;
    *call = (struct call){.contexts = contexts, .id = *id, .method = strdup(method)};
    cal_list_init(&call->link);
    cal_buffer_init(&call->args, CAL_CALL_ARGS_MAX);
    cal_buffer_init(&call->position, CAL_DELTA_POSITION_MAX * 32);
    cal_arena_init(&call->arena, CALL_ARENA_MAX);
    cal_overlay_init(&call->overlay, id->bytes, NULL, NULL, CAL_CACHE_NONE);
    call->began_ns = contexts->options.os->mono_ns(contexts->options.os->user);
    if (!call->method || cal_buffer_append_slice(&call->args, args) != 0) {
        call_free(call);
        return NULL;
    }
    return call;
}

void call_free(struct call *call) {
    if (!call) return;
    if (call->ran) cal_vm_outcome_deinit(&call->outcome);
    cal_overlay_deinit(&call->overlay);
    cal_batch_free(call->batch);
    cal_arena_deinit(&call->arena);
    cal_buffer_deinit(&call->args);
    cal_buffer_deinit(&call->position);
    free(call->service);
    free(call->method);
    free(call);
}

/* --- records in memory --- */

int context_record_copy(const cal_context_record *from, cal_context_record *ret_record) {
    cal_context_record record = *from;
    record.service = from->service ? strdup(from->service) : NULL;
    record.heads = malloc(from->head_count * sizeof *record.heads + 1);
    if ((from->service && !record.service) || !record.heads) {
        context_record_deinit(&record);
        return CAL_ENOMEM;
    }
    if (from->head_count)
        memcpy(record.heads, from->heads, from->head_count * sizeof *record.heads);
    *ret_record = record;
    return 0;
}

void context_record_deinit(cal_context_record *record) {
    free((char *)(uintptr_t)record->service);
    free(record->heads);
    *record = (cal_context_record){0};
}

static void free_context(struct context *context) {
    context_record_deinit(&context->record);
    cal_context_cache_free(context->cache);
    free(context);
}

static void unload(cal_contexts *contexts, struct context *context) {
    cal_map_remove(&contexts->table, cal_slice_of(context->id.bytes, CAL_ID_SIZE));
    cal_list_remove(&context->recent);
    contexts->cache_bytes -= context->cache_bytes;
    contexts->loaded--;
    free_context(context);
}

static bool is_idle(const struct context *context) {
    return !context->writer && context->views == 0 && context->waiting_count == 0;
}

static int read_record(cal_contexts *contexts, const cal_context_id *id, cal_arena *arena,
                       cal_context_record *ret_record) {
    cal_buffer row;
    cal_buffer_init(&row, CAL_STORE_VALUE_MAX);
    int rc = cal_store_get(contexts->options.store, CAL_COLUMN_CONTEXT,
                           cal_slice_of(id->bytes, CAL_ID_SIZE), &row);
    if (rc == 0) rc = cal_context_record_decode(cal_buffer_slice(&row), arena, ret_record);
    cal_buffer_deinit(&row);
    return rc;
}

static int load_context(cal_contexts *contexts, const cal_context_id *id,
                        struct context **ret_context) {
    cal_arena arena;
    cal_arena_init(&arena, CALL_ARENA_MAX);
    cal_context_record record;
    int rc = read_record(contexts, id, &arena, &record);
    struct context *context = rc == 0 ? calloc(1, sizeof *context) : NULL;
    if (rc == 0 && !context) rc = CAL_ENOMEM;
    if (rc == 0) {
        context->id = *id;
        cal_list_init(&context->recent);
        cal_list_init(&context->waiting);
        context->cache = cal_context_cache_new(CONTEXT_CACHE_MAX);
        rc = context->cache ? context_record_copy(&record, &context->record) : CAL_ENOMEM;
        if (rc == 0)
            rc = cal_map_put(&contexts->table, cal_slice_of(id->bytes, CAL_ID_SIZE), context);
        if (rc != 0) free_context(context);
    }
    cal_arena_deinit(&arena);
    if (rc != 0) return rc;
    cal_list_push(&contexts->recent, &context->recent);
    contexts->loaded++;
    *ret_context = context;
    return 0;
}

int contexts_find(cal_contexts *contexts, const cal_context_id *id, struct context **ret_context) {
    struct context *context = cal_map_get(&contexts->table, cal_slice_of(id->bytes, CAL_ID_SIZE));
    if (!context) return load_context(contexts, id, ret_context);
    cal_list_remove(&context->recent);
    cal_list_push(&contexts->recent, &context->recent);
    *ret_context = context;
    return 0;
}

static void contexts_balance(cal_contexts *contexts, struct context *used) {
    size_t now = cal_context_cache_bytes(used->cache);
    contexts->cache_bytes += now - used->cache_bytes;
    used->cache_bytes = now;
    bool too_many = contexts->loaded > CONTEXTS_LOADED_MAX,
         too_large = contexts->cache_bytes > CONTEXTS_CACHE_MAX;
    for (cal_list *at = contexts->recent.next;
         at != &contexts->recent && (too_many || too_large);) {
        struct context *context = CAL_CONTAINER_OF(at, struct context, recent);
        at = at->next;
        if (context == used || !is_idle(context)) continue;
        unload(contexts, context);
        too_many = contexts->loaded > CONTEXTS_LOADED_MAX;
        too_large = contexts->cache_bytes > CONTEXTS_CACHE_MAX;
    }
}

/* --- queues --- */

static void start(struct call *call) {
    struct context *context = call->context;
    const cal_context_authority *authority = &call->contexts->options.authority;
    int rc = authority->executor(authority->user, &context->record.group, &call->executor);
    if (rc == 0) rc = authority->code(authority->user, &context->record.group, &call->code);
    if (rc == 0 && !call->view)
        rc = authority->position(authority->user, &call->id, &call->position);
    static const cal_hash zero;
    if (rc == CAL_EDENIED)
        call_fail(call, CAL_CALL_UNAUTHORIZED, rc, "this node is no member of the context's group");
    else if (rc != 0)
        call_fail(call, CAL_CALL_INTERNAL, rc, "the context's group does not answer: %s",
                  cal_error_text(rc));
    else if (memcmp(&context->record.root, &zero, sizeof zero) == 0)
        call_fail(call, CAL_CALL_UNINITIALIZED, CAL_ESTATE, "the context is not initialised yet");
    call->root = context->record.root;
    if (call->view)
        context->views++;
    else
        context->writer = true;
    if (call->status != CAL_CALL_OK) {
        call_post_finish(call);
        return;
    }
    call->task.run = call_run;
    call->contexts->options.runner->on_worker(call->contexts->options.runner->user, &call->task);
}

static void removal_ready(struct context *context) {
    context->writer = true; /* holds the place until cal_contexts_delete_end */
    cal_context_delete_ready ready = context->delete_ready;
    context->delete_ready = NULL;
    cal_batch *batch = cal_batch_new();
    cal_error err = {0};
    if (!batch) {
        context->writer = context->deleting = false;
        cal_fail(&err, CAL_ENOMEM, "out of memory while removing a context");
        ready(context->delete_user, &err, NULL);
        return;
    }
    cal_context_remove(batch, &context->id); /* a failure sticks to the batch */
    ready(context->delete_user, NULL, batch);
}

static void writer_left(cal_contexts *contexts, struct context *context) {
    context->writer = false;
    if (context->delete_ready) {
        removal_ready(context);
        return;
    }
    cal_list *next = cal_list_pop(&context->waiting);
    if (!next) return;
    context->waiting_count--;
    contexts->stats.waiting--;
    start(CAL_CONTAINER_OF(next, struct call, link));
}

void contexts_left(cal_contexts *contexts, struct context *context, bool view) {
    contexts_balance(contexts, context);
    if (!view) {
        writer_left(contexts, context);
        return;
    }
    context->views--;
    if (context->deleted && is_idle(context)) unload(contexts, context);
}

static void refuse(struct call *call, cal_call_status status, int error, const char *text) {
    call_fail(call, status, error, "%s", text);
    call->contexts->stats.refused++;
    call_reply(call);
    call_close(call);
}

/* Views start at once; a writer starts when no other one runs, or waits its turn. */
static void enqueue(cal_contexts *contexts, struct call *call) {
    struct context *context = call->context;
    cal_blob_id code;
    const cal_context_authority *authority = &contexts->options.authority;
    call->view =
        authority->code(authority->user, &context->record.group, &code) == 0 &&
        cal_modules_known_view(contexts->modules, &code, context->record.service, call->method);
    if (call->view || !context->writer) {
        start(call);
    } else if (context->waiting_count >= CAL_CALL_QUEUE_MAX) {
        refuse(call, CAL_CALL_INTERNAL, CAL_EOVERLOAD,
               "too many calls are waiting for this context: try again later");
    } else {
        cal_list_push(&context->waiting, &call->link);
        context->waiting_count++;
        contexts->stats.waiting++;
    }
}

void contexts_submit(cal_contexts *contexts, struct call *call) {
    contexts->calls_open++;
    struct context *context = NULL;
    int rc = contexts->draining ? CAL_ECANCELED : contexts_find(contexts, &call->id, &context);
    if (rc == 0 && context->deleting) rc = CAL_ENOTFOUND;
    if (rc == CAL_ENOTFOUND) {
        refuse(call, CAL_CALL_NOT_FOUND, rc, "No owned identity found for this context");
    } else if (rc == CAL_ECANCELED) {
        refuse(call, CAL_CALL_INTERNAL, rc, "the node is stopping");
    } else if (rc != 0) {
        refuse(call, CAL_CALL_INTERNAL, rc, "the context's record cannot be read");
    } else if (contexts->calls_open > CAL_CALLS_MAX) {
        refuse(call, CAL_CALL_INTERNAL, CAL_EOVERLOAD,
               "too many calls are waiting on this node: try again later");
    } else {
        call->context = context;
        enqueue(contexts, call);
    }
}

void contexts_call_closed(cal_contexts *contexts) {
    assert(contexts->calls_open > 0);
    contexts->calls_open--;
    if (contexts->calls_open == 0 && contexts->draining && contexts->idle) {
        void (*idle)(void *user) = contexts->idle;
        contexts->idle = NULL;
        idle(contexts->idle_user);
    }
}

/* --- the module's face --- */

int cal_contexts_new(const cal_contexts_options *options, cal_contexts **ret_contexts) {
    cal_contexts *contexts = calloc(1, sizeof *contexts);
    if (!contexts) return CAL_ENOMEM;
    contexts->options = *options;
    int rc = cal_modules_new(options->store, options->vm, options->code, &contexts->modules);
    if (rc != 0) {
        free(contexts);
        return rc;
    }
    uint8_t clock_id[16];
    options->os->random(options->os->user, clock_id, sizeof clock_id);
    crdt_clock_init(&contexts->clock, clock_id);
    pthread_mutex_init(&contexts->clock_lock, NULL);
    cal_map_init(&contexts->table, cal_read_u64le(clock_id));
    cal_list_init(&contexts->recent);
    *ret_contexts = contexts;
    return 0;
}

/* What has not begun will not: a stop waits for the calls that run, not for those behind them. */
static void refuse_waiting(cal_contexts *contexts) {
    cal_map_cursor cursor = {0};
    void *found;
    while (cal_map_next(&contexts->table, &cursor, NULL, &found)) {
        struct context *context = found;
        for (cal_list *waiting; (waiting = cal_list_pop(&context->waiting)) != NULL;) {
            context->waiting_count--;
            contexts->stats.waiting--;
            refuse(CAL_CONTAINER_OF(waiting, struct call, link), CAL_CALL_INTERNAL, CAL_ECANCELED,
                   "the node is stopping");
        }
    }
}

void cal_contexts_drain(cal_contexts *contexts, void (*idle)(void *user), void *user) {
    contexts->draining = true;
    contexts->calls_open++; /* the last refusal below must not end the drain yet */
    refuse_waiting(contexts);
    contexts->calls_open--;
    if (contexts->calls_open == 0) {
        idle(user);
        return;
    }
    contexts->idle = idle;
    contexts->idle_user = user;
}

void cal_contexts_free(cal_contexts *contexts) {
    if (!contexts) return;
    while (!cal_list_empty(&contexts->recent))
        unload(contexts, CAL_CONTAINER_OF(contexts->recent.next, struct context, recent));
    cal_map_deinit(&contexts->table);
    cal_modules_free(contexts->modules);
    pthread_mutex_destroy(&contexts->clock_lock);
    free(contexts);
}

/* Names that the node calls itself, never a client (runtime-abi.md 7, hardening notes). */
static bool is_internal(const char *method) { return strncmp(method, "__calimero", 10) == 0; }

static void answer_out_of_memory(cal_call_done done, void *user) {
    done(user, &(cal_call_result){
                   .status = CAL_CALL_INTERNAL, .error = CAL_ENOMEM, .message = "out of memory"});
}

void cal_contexts_execute(cal_contexts *contexts, const cal_context_id *id, const char *method,
                          cal_slice args, cal_call_done done, void *user) {
    struct call *call = args.len <= CAL_CALL_ARGS_MAX ? call_new(contexts, id, method, args) : NULL;
    if (!call) {
        if (args.len > CAL_CALL_ARGS_MAX)
            done(user, &(cal_call_result){.status = CAL_CALL_INTERNAL,
                                          .error = CAL_ELIMIT,
                                          .message = "the arguments have more than 10 MiB"});
        else
            answer_out_of_memory(done, user);
        return;
    }
    call->done = done;
    call->user = user;
    if (is_internal(method)) {
        contexts->calls_open++;
        call_fail(call, CAL_CALL_FAILED, CAL_EDENIED,
                  "method \"%.64s\" is reserved for the node and cannot be called", method);
        call_reply(call);
        call_close(call);
        return;
    }
    contexts_submit(contexts, call);
}

int cal_contexts_get(cal_contexts *contexts, const cal_context_id *id, cal_arena *arena,
                     cal_context_record *ret_record) {
    const struct context *context =
        cal_map_get(&contexts->table, cal_slice_of(id->bytes, CAL_ID_SIZE));
    if (!context) return read_record(contexts, id, arena, ret_record);
    if (context->deleted) return CAL_ENOTFOUND;
    cal_context_record record = context->record;
    record.service = record.service ? cal_arena_text(arena, cal_slice_text(record.service)) : NULL;
    record.heads = cal_arena_copy(arena, record.heads, record.head_count * sizeof *record.heads);
    if (!record.heads || (context->record.service && !record.service)) return CAL_ENOMEM;
    *ret_record = record;
    return 0;
}

int cal_contexts_each(cal_contexts *contexts,
                      int (*visit)(void *user, const cal_context_id *id,
                                   const cal_context_record *record),
                      void *user) {
    cal_snapshot *snapshot = NULL;
    cal_cursor *cursor = NULL;
    int rc = cal_store_snapshot(contexts->options.store, &snapshot);
    if (rc == 0)
        rc = cal_cursor_open(snapshot, CAL_COLUMN_CONTEXT, (cal_slice){0}, (cal_slice){0}, false,
                             &cursor);
    cal_slice key, value;
    while (rc == 0 && (rc = cal_cursor_next(cursor, &key, &value)) == 0) {
        cal_context_id id;
        cal_arena arena;
        cal_arena_init(&arena, CALL_ARENA_MAX);
        cal_context_record record;
        if (key.len != CAL_ID_SIZE) rc = CAL_ECORRUPT;
        if (rc == 0) {
            memcpy(id.bytes, key.data, CAL_ID_SIZE);
            rc = cal_context_record_decode(value, &arena, &record);
        }
        if (rc == 0) rc = visit(user, &id, &record);
        cal_arena_deinit(&arena);
    }
    cal_cursor_free(cursor);
    cal_snapshot_free(snapshot);
    return rc == CAL_ENOTFOUND ? 0 : rc;
}

void cal_contexts_delete(cal_contexts *contexts, const cal_context_id *id,
                         cal_context_delete_ready ready, void *user) {
    struct context *context = NULL;
    int rc = contexts_find(contexts, id, &context);
    if (rc == 0 && context->deleting) rc = context->deleted ? CAL_ENOTFOUND : CAL_EBUSY;
    if (rc != 0) {
        cal_error err;
        cal_fail(&err, rc,
                 rc == CAL_ENOTFOUND ? "Context not found"
                 : rc == CAL_EBUSY   ? "the context is being deleted"
                                     : "the context's record cannot be read");
        ready(user, &err, NULL);
        return;
    }
    context->deleting = true;
    context->delete_ready = ready;
    context->delete_user = user;
    for (cal_list *waiting; (waiting = cal_list_pop(&context->waiting)) != NULL;) {
        context->waiting_count--;
        contexts->stats.waiting--;
        refuse(CAL_CONTAINER_OF(waiting, struct call, link), CAL_CALL_NOT_FOUND, CAL_ENOTFOUND,
               "the context is being deleted");
    }
    if (!context->writer) removal_ready(context);
}

void cal_contexts_delete_end(cal_contexts *contexts, const cal_context_id *id, bool deleted) {
    struct context *context = cal_map_get(&contexts->table, cal_slice_of(id->bytes, CAL_ID_SIZE));
    assert(context && context->deleting);
    context->deleting = context->deleted = deleted;
    context->writer = false;
    if (deleted && is_idle(context)) unload(contexts, context);
}

int cal_contexts_prepare_code(cal_contexts *contexts, const cal_blob_id *code, const char *service,
                              cal_error *err) {
    cal_loaded_module module;
    int rc = cal_modules_get(contexts->modules, code, service, &module, err);
    if (rc == 0) cal_modules_put(contexts->modules, &module);
    return rc;
}

void cal_contexts_forget_code(cal_contexts *contexts, const cal_blob_id *code, cal_batch *batch) {
    cal_modules_forget(contexts->modules, code, batch);
}

int cal_contexts_sweep(cal_contexts *contexts, cal_error *err) {
    return cal_modules_sweep(contexts->modules, err);
}

void cal_contexts_stats_get(cal_contexts *contexts, cal_contexts_stats *ret_stats) {
    *ret_stats = contexts->stats;
    cal_modules_counts(contexts->modules, &ret_stats->modules_loaded, &ret_stats->modules_compiled);
}
