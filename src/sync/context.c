/* A context on its topic, and its life. See context.h. */
#include <stdlib.h>
#include <string.h>

#include "sync/bulk.h"
#include "sync/take.h"

enum { HEARTBEAT_SOON_MS = 2000 };

/* --- the topic --- */

static void send_heartbeat(sync_context *context, uint64_t now_ms) {
    cal_sync *sync = context->sync;
    cal_context_record record;
    cal_peer_id hearer;
    cal_arena arena;
    cal_buffer bytes;
    context->heartbeat_due_ms =
        now_ms + SYNC_HEARTBEAT_MS + sync_random(sync, SYNC_HEARTBEAT_MS / 4);
    if (sync_hearers(sync, context->topic, &hearer, 1) == 0) return;
    cal_arena_init(&arena, SYNC_ARENA_MAX);
    cal_buffer_init(&bytes, SYNC_HEADS_MAX * 32 + 128);
    static const cal_hash none;
    if (cal_contexts_get(sync->options.contexts, &context->id, &arena, &record) == 0 &&
        memcmp(&record.root, &none, sizeof none) != 0) {
        sync_heartbeat heartbeat = {.context = context->id,
                                    .root = record.root,
                                    .heads = {record.heads, (uint32_t)record.head_count}};
        if (sync_heartbeat_write(&heartbeat, &bytes) == 0)
            sync_publish(sync, context->topic, cal_buffer_slice(&bytes));
    }
    cal_buffer_deinit(&bytes);
    cal_arena_deinit(&arena);
}

void sync_context_heartbeat(sync_context *context) {
    uint64_t due = sync_now_ms(context->sync) + HEARTBEAT_SOON_MS;
    if (due >= context->heartbeat_due_ms) return;
    context->heartbeat_due_ms = due;
    sync_context_alarm(context);
}

static void hear_heartbeat(sync_context *context, const cal_p2p_message *message) {
    sync_heartbeat heartbeat;
    cal_arena arena;
    cal_arena_init(&arena, SYNC_ARENA_MAX);
    if (sync_heartbeat_decode(cal_slice_of(message->data, message->len), &arena, &heartbeat)) {
        context->sync->stats.malformed++;
    } else {
        context->sync->stats.heartbeats_received++;
        sync_compare_heard(context, &heartbeat, &message->author);
    }
    cal_arena_deinit(&arena);
}

void sync_context_gossip(sync_context *context, const cal_p2p_message *message) {
    enum { STATE_DELTA, HEARTBEAT };
    uint8_t variant = message->len ? message->data[0] : UINT8_MAX;
    if (context->gone) return;
    if (variant == HEARTBEAT) {
        hear_heartbeat(context, message);
    } else if (variant == STATE_DELTA) {
        sync_delta *delta = sync_delta_of_gossip(context, message);
        if (!delta) {
            context->sync->stats.malformed++;
            return;
        }
        context->sync->stats.deltas_received++;
        if (memcmp(&delta->record.author, &gov_self(context->sync->options.gov)->sign_key, 32) ==
                0 &&
            !context->compare) {
            sync_delta_free(delta); /* this node's own, come back */
            return;
        }
        sync_context_take(context, delta);
    }
}

static void listen(sync_context *context) {
    cal_peer_id hearer;
    bool heard = sync_hearers(context->sync, context->topic, &hearer, 1) > 0;
    cal_contexts_listen(context->sync->options.contexts, &context->id, heard);
    if (!heard) context->status.state = CAL_SYNC_ALONE;
}

void sync_context_hearer(sync_context *context, const cal_peer_id *peer, bool hears) {
    listen(context);
    if (hears) sync_compare_want(context, peer);
}

void sync_context_look(sync_context *context, uint64_t now_ms) {
    if (context->gone) return;
    sync_context_forget_strangers(context, now_ms);
    sync_take_look(context, now_ms);
    if (now_ms >= context->heartbeat_due_ms) send_heartbeat(context, now_ms);
    if (now_ms >= sync_compare_due(context)) sync_compare_tick(context, now_ms);
    sync_context_alarm(context);
}

void cal_sync_authored(cal_sync *sync, const cal_authored_delta *delta) {
    sync_context *context = sync_context_get(sync, &delta->context);
    if (!context || sync->stopping) return;
    if (context->status.state == CAL_SYNC_EQUAL) context->status.state = CAL_SYNC_UNKNOWN;
    if (delta->message.len == 0) return;
    sync_publish(sync, context->topic, delta->message);
    sync->stats.deltas_published++;
}

/* --- life --- */

sync_context *sync_context_get(cal_sync *sync, const cal_context_id *id) {
    sync_context *context = cal_map_get(&sync->contexts, cal_slice_of(id->bytes, sizeof id->bytes));
    return context && !context->gone ? context : NULL;
}

/* Of what a join has brought whoever answered it is asked first: it is a member, and knows of this
 * node's membership; of others who hear the topic neither is known. */
static void ask_helper_first(sync_context *context) {
    const sync_namespace *ns = sync_namespace_of(context->sync, &context->id);
    if (ns && ns->helper.len > 0 && cal_p2p_is_connected(context->sync->options.host, &ns->helper))
        context->helper = ns->helper;
}

int sync_context_add(cal_sync *sync, const cal_context_id *id) {
    cal_slice key = cal_slice_of(id->bytes, sizeof id->bytes);
    sync_context *context = cal_map_get(&sync->contexts, key);
    if (context) {
        context->gone = false;
        sync_context_alarm(context);
        return 0;
    }
    context = calloc(1, sizeof *context);
    if (!context) return CAL_ENOMEM;
    context->sync = sync;
    context->id = *id;
    cal_id_to_base58(id->bytes, context->topic);
    cal_map_init(&context->by_id, sync->seed);
    cal_map_init(&context->buckets, sync->seed);
    cal_map_init(&context->covered, sync->seed);
    cal_map_init(&context->shares, sync->seed);
    cal_list *lists[] = {&context->unproved,     &context->came,          &context->judged,
                         &context->governed,     &context->strangers,     &context->stateless,
                         &context->to_open,      &context->doubtful,      &context->ready,
                         &context->waiters,      &context->governed_link, &context->due_link,
                         &context->codeless_link};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) cal_list_init(lists[i]);
    context->heartbeat_due_ms = sync_now_ms(sync) + sync_random(sync, SYNC_HEARTBEAT_MS);
    context->compare_wanted = true;
    int rc = cal_map_put(&sync->contexts, key, context);
    if (rc != 0) {
        free(context);
        return rc;
    }
    ask_helper_first(context);
    listen(context);
    sync_context_alarm(context);
    return 0;
}

static void free_list(cal_list *list) {
    while (!cal_list_empty(list)) sync_delta_drop(CAL_CONTAINER_OF(list->next, sync_delta, link));
}

static void free_context(sync_context *context) {
    cal_map_cursor cursor = {0};
    void *value;
    sync_compare_free(context);
    sync_take_forget(context);
    sync_cover_free(context);
    free_list(&context->unproved);
    free_list(&context->judged);
    free_list(&context->strangers);
    while (cal_map_next(&context->by_id, &cursor, NULL, &value)) sync_delta_drop(value);
    sync_past_free(context);
    cursor = (cal_map_cursor){0};
    while (cal_map_next(&context->buckets, &cursor, NULL, &value)) free(value);
    cal_map_deinit(&context->by_id);
    cal_map_deinit(&context->buckets);
    cal_map_deinit(&context->covered);
    cal_map_deinit(&context->shares);
    cal_list_remove(&context->governed_link);
    cal_list_remove(&context->due_link);
    cal_list_remove(&context->codeless_link);
    free(context);
}

/* With steps under way it goes when they have ended. */
void sync_context_drop(cal_sync *sync, const cal_context_id *id) {
    cal_slice key = cal_slice_of(id->bytes, sizeof id->bytes);
    sync_context *context = cal_map_get(&sync->contexts, key);
    if (!context) return;
    context->gone = true;
    if (context->intake || context->applying) return;
    cal_map_remove(&sync->contexts, key);
    free_context(context);
}

void cal_sync_context(cal_sync *sync, const cal_context_id *id, bool here) {
    if (!here)
        sync_context_drop(sync, id);
    else if (sync_context_add(sync, id))
        cal_log(CAL_LOG_WARN, "sync", "no memory to share a context");
}

void sync_contexts_quit(cal_sync *sync) {
    cal_map_cursor cursor = {0};
    void *value;
    while (cal_map_next(&sync->contexts, &cursor, NULL, &value)) sync_take_forget(value);
}

void sync_contexts_free(cal_sync *sync) {
    cal_map_cursor cursor = {0};
    void *value;
    while (cal_map_next(&sync->contexts, &cursor, NULL, &value)) free_context(value);
}
