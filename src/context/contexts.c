/* The table of contexts, and the module's face. Loop thread. */
#include <assert.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/log.h"
#include "context/call.h"

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
    cal_tip_deinit(&context->tip);
    grant_deinit(&context->grant);
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
    return turns_idle(context) && context->views == 0 && context->pins == 0;
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

static struct context *new_context(cal_contexts *contexts, const cal_context_id *id,
                                   const cal_context_record *record) {
    struct context *context = calloc(1, sizeof *context);
    if (!context) return NULL;
    context->contexts = contexts;
    context->id = *id;
    cal_list_init(&context->recent);
    cal_list_init(&context->handlers);
    cal_list_init(&context->waiting);
    cal_list_init(&context->flight);
    context->cache =
        cal_context_cache_new(CONTEXT_CACHE_MAX, cal_random_seed(contexts->options.os));
    int rc = context->cache ? context_record_copy(record, &context->record) : CAL_ENOMEM;
    if (rc == 0) rc = cal_tip_init(&context->tip, id, &context->record);
    crdt_clock_init(&context->clock, contexts->clock_id);
    crdt_clock_raise(&context->clock, record->latest);
    if (rc == 0) return context;
    free_context(context);
    return NULL;
}

/* The latest time of the heads, for a record that does not say. */
static int latest_of_heads(cal_contexts *contexts, const cal_context_id *id,
                           cal_context_record *record) {
    cal_buffer row;
    cal_buffer_init(&row, CAL_STORE_VALUE_MAX);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < record->head_count; i++) {
        cal_delta_record delta;
        cal_buffer_reset(&row);
        rc = cal_context_delta_read(contexts->options.store, id, &record->heads[i], &row);
        if (rc == 0) rc = cal_delta_record_decode(cal_buffer_slice(&row), &delta);
        if (rc == 0 && delta.hlc.time > record->latest) record->latest = delta.hlc.time;
        if (rc == CAL_ENOTFOUND)
            rc = 0; /* a head whose delta is not here has no time to be behind */
    }
    cal_buffer_deinit(&row);
    return rc;
}

static int load_context(cal_contexts *contexts, const cal_context_id *id,
                        struct context **ret_context) {
    cal_arena arena;
    cal_arena_init(&arena, CALL_ARENA_MAX);
    cal_context_record record;
    int rc = read_record(contexts, id, &arena, &record);
    if (rc == 0 && record.latest == 0) rc = latest_of_heads(contexts, id, &record);
    struct context *context = rc == 0 ? new_context(contexts, id, &record) : NULL;
    cal_arena_deinit(&arena);
    if (rc != 0) return rc;
    if (!context) return CAL_ENOMEM;
    if (cal_map_put(&contexts->table, cal_slice_of(id->bytes, CAL_ID_SIZE), context) != 0) {
        free_context(context);
        return CAL_ENOMEM;
    }
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

enum { BALANCE_LOOKS_MAX = 32 };

/* Gives up what was not used for longest; `used` itself is on the list and stays. A look at a few
 * each time: thousands may be in use at once, held by the deletion of their namespace. */
static void contexts_balance(cal_contexts *contexts, struct context *used) {
    size_t now = cal_context_cache_bytes(used->cache);
    contexts->cache_bytes += now - used->cache_bytes;
    used->cache_bytes = now;
    bool too_many = contexts->loaded > CONTEXTS_LOADED_MAX,
         too_large = contexts->cache_bytes > CONTEXTS_CACHE_MAX;
    for (int looks = 0; looks < BALANCE_LOOKS_MAX && (too_many || too_large); looks++) {
        cal_list *at = contexts->recent.next;
        struct context *context = CAL_CONTAINER_OF(at, struct context, recent);
        if (context == used || !is_idle(context)) { /* in use: not among the oldest any more */
            cal_list_remove(at);
            cal_list_push(&contexts->recent, at);
            continue;
        }
        unload(contexts, context);
        too_many = contexts->loaded > CONTEXTS_LOADED_MAX;
        too_large = contexts->cache_bytes > CONTEXTS_CACHE_MAX;
    }
}

void contexts_used(struct context *context) {
    contexts_balance(context->contexts, context);
    if (context->deleted && is_idle(context)) unload(context->contexts, context);
}

/* --- what is open --- */

int contexts_admit(const cal_contexts *contexts, size_t bytes, const char **ret_why) {
    if (contexts->draining) {
        *ret_why = "the node is stopping";
        return CAL_ECANCELED;
    }
    if (contexts->open >= CAL_CALLS_MAX) {
        *ret_why = "too many calls are waiting on this node: try again later";
        return CAL_EOVERLOAD;
    }
    if (contexts->open > 0 && contexts->open_bytes + bytes > CAL_CALLS_BYTES_MAX) {
        *ret_why = "the calls that are waiting on this node hold too many bytes: try again later";
        return CAL_EOVERLOAD;
    }
    return 0;
}

void contexts_opened(cal_contexts *contexts, size_t bytes) {
    contexts->open++;
    contexts->open_bytes += bytes;
}

static void come_to_rest(cal_contexts *contexts) {
    if (contexts->open > 0 || contexts->held > 0 || !contexts->draining || !contexts->idle) return;
    void (*idle)(void *user) = contexts->idle;
    contexts->idle = NULL;
    idle(contexts->idle_user);
}

void contexts_closed(cal_contexts *contexts, size_t bytes) {
    assert(contexts->open > 0 && contexts->open_bytes >= bytes);
    contexts->open--;
    contexts->open_bytes -= bytes;
    come_to_rest(contexts);
}

void contexts_hold(cal_contexts *contexts) { contexts->held++; }

void contexts_release(cal_contexts *contexts) {
    assert(contexts->held > 0);
    contexts->held--;
    come_to_rest(contexts);
}

/* --- who hears what is written --- */

void cal_contexts_listen(cal_contexts *contexts, const cal_context_id *id, bool heard) {
    cal_slice key = cal_slice_of(id->bytes, CAL_ID_SIZE);
    if (!heard)
        cal_map_remove(&contexts->heard, key);
    else if (cal_map_put(&contexts->heard, key, contexts) != 0)
        cal_log(CAL_LOG_ERROR, "context",
                "out of memory: changes of a context will not be sent to its other members");
}

bool contexts_heard(const cal_contexts *contexts, const cal_context_id *id) {
    return cal_map_get(&contexts->heard, cal_slice_of(id->bytes, CAL_ID_SIZE)) != NULL;
}

void contexts_tell(const cal_contexts *contexts, const cal_authored_delta *delta) {
    const cal_contexts_options *options = &contexts->options;
    if (options->authored) options->authored(options->authored_user, delta);
}

/* --- the module's face --- */

int cal_contexts_new(const cal_contexts_options *options, cal_contexts **ret_contexts) {
    cal_contexts *contexts = calloc(1, sizeof *contexts);
    if (!contexts) return CAL_ENOMEM;
    contexts->options = *options;
    int rc = cal_modules_new(options->store, options->vm, options->code,
                             cal_random_seed(options->os), &contexts->modules);
    if (rc != 0) {
        free(contexts);
        return rc;
    }
    uint64_t seed;
    options->os->random(options->os->user, contexts->clock_id, sizeof contexts->clock_id);
    options->os->random(options->os->user, &seed, sizeof seed);
    cal_map_init(&contexts->table, seed);
    cal_map_init(&contexts->heard, seed);
    cal_list_init(&contexts->recent);
    *ret_contexts = contexts;
    return 0;
}

/* What has not begun will not: a stop waits for the calls that run, not for those behind them. */
static void refuse_waiting(cal_contexts *contexts) {
    cal_map_cursor cursor = {0};
    void *found;
    while (cal_map_next(&contexts->table, &cursor, NULL, &found)) {
        turns_halt(found);
        handlers_drop(found);
        turns_refuse(found, CAL_ECANCELED, "the node is stopping");
    }
}

void cal_contexts_drain(cal_contexts *contexts, void (*idle)(void *user), void *user) {
    contexts->draining = true;
    contexts_hold(contexts); /* the last refusal below must not end the drain yet */
    refuse_waiting(contexts);
    contexts->idle = idle;
    contexts->idle_user = user;
    contexts_release(contexts);
}

void cal_contexts_free(cal_contexts *contexts) {
    if (!contexts) return;
    while (!cal_list_empty(&contexts->recent))
        unload(contexts, CAL_CONTAINER_OF(contexts->recent.next, struct context, recent));
    cal_map_deinit(&contexts->table);
    cal_map_deinit(&contexts->heard);
    cal_modules_free(contexts->modules);
    free(contexts);
}

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
    if (method_is_reserved(method)) {
        contexts_opened(contexts, call->turn.cost);
        guest_fail(&call->guest, CAL_CALL_FAILED, CAL_EDENIED,
                   "method \"%.64s\" is reserved for the node and cannot be called", method);
        call_answer(call);
        call_close(call);
        return;
    }
    call_submit(call);
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

int cal_context_delta_read(cal_store *store, const cal_context_id *id, const cal_hash *delta,
                           cal_buffer *ret_row) {
    uint8_t key[2 * CAL_ID_SIZE];
    memcpy(key, id->bytes, CAL_ID_SIZE);
    memcpy(key + CAL_ID_SIZE, delta->bytes, CAL_ID_SIZE);
    return cal_store_get(store, CAL_COLUMN_DELTA, cal_slice_of(key, sizeof key), ret_row);
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
