/* Delivery of events and the WebSocket protocol of http-api.md 7 and 9. See live.h. */
#include "api/live.h"

#include <stdlib.h>

#include "api/rpc.h"
#include "api/ws.h"
#include "base/error.h"
#include "crypto/crypto.h"

enum { EVENT_MAX = 64 * 1024 * 1024, IDS_AT_ONCE = 1024 };

/* --- watchers --- */

static char present[1]; /* what a set's keys map to */

void live_watcher_init(live_watcher *watcher, const cal_os *os,
                       bool (*deliver)(live_watcher *watcher, cal_slice event)) {
    uint64_t seed = cal_random_seed(os);
    cal_list_init(&watcher->node);
    cal_map_init(&watcher->contexts, seed);
    cal_map_init(&watcher->groups, seed);
    watcher->deliver = deliver;
}

void live_watcher_deinit(live_watcher *watcher) {
    cal_list_remove(&watcher->node);
    cal_map_deinit(&watcher->contexts);
    cal_map_deinit(&watcher->groups);
}

int live_watch(cal_map *ids, const uint8_t id[32]) {
    cal_slice key = cal_slice_of(id, CAL_ID_SIZE);
    if (ids->count >= LIVE_IDS_MAX && !cal_map_get(ids, key)) return CAL_ELIMIT;
    return cal_map_put(ids, key, present);
}

bool live_unwatch(cal_map *ids, const uint8_t id[32]) {
    return cal_map_remove(ids, cal_slice_of(id, CAL_ID_SIZE)) != NULL;
}

/* --- events --- */

static void deliver(live_hub *hub, bool group, const uint8_t id[32], cal_slice event) {
    cal_slice key = cal_slice_of(id, CAL_ID_SIZE);
    for (cal_list *node = hub->watchers.next, *next; node != &hub->watchers; node = next) {
        next = node->next;
        live_watcher *watcher = CAL_CONTAINER_OF(node, live_watcher, node);
        if (!cal_map_get(group ? &watcher->groups : &watcher->contexts, key)) continue;
        metrics_add(watcher->deliver(watcher, event) ? hub->delivered : hub->dropped, 1);
    }
}

void live_publish(live_hub *hub, bool group, const uint8_t id[32], json_out *out) {
    cal_buffer text;
    cal_buffer_init(&text, EVENT_MAX);
    if (json_out_write(out, &text) == 0)
        deliver(hub, group, id, cal_buffer_slice(&text));
    else
        metrics_add(hub->dropped, 1);
    cal_buffer_deinit(&text);
}

static void publish(live_hub *hub, const cal_context_id *context, json_out *out) {
    live_publish(hub, false, context->bytes, out);
}

yyjson_mut_val *live_begin_event(json_out *out, bool group, const uint8_t id[32],
                                 const char *type) {
    *out = json_out_new();
    if (group)
        json_add_hex(out, out->root, "groupId", id);
    else
        json_add_base58(out, out->root, "contextId", id);
    json_add_text(out, out->root, "type", type);
    return json_add_object(out, out->root, "data");
}

static yyjson_mut_val *begin_event(json_out *out, const cal_context_id *context, const char *type) {
    return live_begin_event(out, false, context->bytes, type);
}

static void write_mutation(json_out *out, const cal_event *event) {
    yyjson_mut_val *data = begin_event(out, &event->context, "StateMutation");
    json_add_base58(out, data, "newRoot", event->root.bytes);
    yyjson_mut_val *events = json_add_array(out, data, "events");
    for (size_t i = 0; i < event->event_count; i++) {
        const cal_app_event *app_event = &event->events[i];
        yyjson_mut_val *item = json_push_object(out, events);
        json_add_text(out, item, "kind", app_event->kind);
        json_add_bytes(out, item, "data", cal_slice_of(app_event->data, app_event->data_len));
        if (app_event->handler)
            json_add_text(out, item, "handler", app_event->handler);
        else
            json_add_null(out, item, "handler");
    }
}

static void write_xcall(json_out *out, const cal_event *event) {
    yyjson_mut_val *data = begin_event(out, &event->context, "XCall");
    json_add_base58(out, data, "targetContextId", event->xcall_target.bytes);
    json_add_text(out, data, "function", event->xcall_function);
    yyjson_mut_val *outcome = json_add_object(out, data, "outcome");
    switch (event->xcall_status) {
    case CAL_XCALL_OK:
        json_add_text(out, outcome, "status", "ok");
        break;
    case CAL_XCALL_DENIED:
        json_add_text(out, outcome, "status", "denied");
        json_add_text(out, json_add_object(out, outcome, "detail"), "reason", event->xcall_detail);
        break;
    case CAL_XCALL_ERROR:
        json_add_text(out, outcome, "status", "exec_error");
        json_add_text(out, json_add_object(out, outcome, "detail"), "message", event->xcall_detail);
        break;
    }
}

static bool is_watched(const live_hub *hub, const cal_context_id *context) {
    cal_slice key = cal_slice_of(context->bytes, CAL_ID_SIZE);
    for (const cal_list *node = hub->watchers.next; node != &hub->watchers; node = node->next)
        if (cal_map_get(&CAL_CONTAINER_OF(node, live_watcher, node)->contexts, key)) return true;
    return false;
}

static void on_event(void *user, const cal_event *event) {
    live_hub *hub = user;
    json_out out;
    if (!is_watched(hub, &event->context)) return; /* nobody to write it for */
    if (event->type == CAL_EVENT_XCALL)
        write_xcall(&out, event);
    else
        write_mutation(&out, event);
    publish(hub, &event->context, &out);
}

/* --- presence --- This node's own slices: in memory only, and as old as the node says, so 0. */

typedef struct live_presence {
    cal_public_key author;
    size_t len;
    uint8_t state[];
} live_presence;

static void write_presence(json_out *out, const uint8_t context[32], const live_presence *presence,
                           bool replayed) {
    cal_context_id id;
    memcpy(id.bytes, context, sizeof id.bytes);
    yyjson_mut_val *data = begin_event(out, &id, "Ephemeral");
    json_add_base58(out, data, "author", presence->author.bytes);
    json_add_bytes(out, data, "state", cal_slice_of(presence->state, presence->len));
    if (replayed) json_add_u64(out, data, "ageMs", 0);
}

int live_set_presence(live_hub *hub, const cal_context_id *context, const cal_public_key *author,
                      cal_slice state) {
    cal_slice key = cal_slice_of(context->bytes, CAL_ID_SIZE);
    live_presence *old = cal_map_get(&hub->presence, key);
    if (!old && hub->presence.count >= LIVE_PRESENCES_MAX) return CAL_ELIMIT;
    live_presence *presence = malloc(sizeof *presence + state.len);
    if (!presence) return CAL_ENOMEM;
    presence->author = *author;
    presence->len = state.len;
    if (state.len) memcpy(presence->state, state.data, state.len);
    if (cal_map_put(&hub->presence, key, presence) != 0) {
        free(presence);
        return CAL_ENOMEM;
    }
    free(old);
    json_out out;
    write_presence(&out, context->bytes, presence, false);
    publish(hub, context, &out);
    return 0;
}

void live_replay(live_hub *hub, live_watcher *watcher, const uint8_t context[32]) {
    const live_presence *presence = cal_map_get(&hub->presence, cal_slice_of(context, CAL_ID_SIZE));
    if (!presence) return;
    json_out out;
    cal_buffer text;
    cal_buffer_init(&text, EVENT_MAX);
    write_presence(&out, context, presence, true);
    bool sent =
        json_out_write(&out, &text) == 0 && watcher->deliver(watcher, cal_buffer_slice(&text));
    metrics_add(sent ? hub->delivered : hub->dropped, 1);
    cal_buffer_deinit(&text);
}

/* --- WebSocket --- */

/* One socket. Calls in flight hold a reference each, the socket one. */
typedef struct ws_session {
    live_watcher watcher;
    api_state *state;
    ws_socket *socket; /* NULL: the client is gone */
    size_t references;
} ws_session;

typedef struct ws_request {
    ws_session *session;
    char head[RPC_ID_TEXT_MAX + 16]; /* {"id":7, */
} ws_request;

static void session_unref(ws_session *session) {
    if (--session->references) return;
    live_watcher_deinit(&session->watcher);
    free(session);
}

static bool deliver_ws(live_watcher *watcher, cal_slice event) {
    ws_session *session = CAL_CONTAINER_OF(watcher, ws_session, watcher);
    cal_buffer text;
    cal_buffer_init(&text, EVENT_MAX);
    cal_buffer_append_text(&text, "{\"id\":null,\"result\":");
    cal_buffer_append_slice(&text, event);
    cal_buffer_append_text(&text, "}");
    bool sent = session->socket && !text.error && ws_push(session->socket, cal_buffer_slice(&text));
    cal_buffer_deinit(&text);
    return sent;
}

static void on_request_done(void *user, cal_slice body) {
    ws_request *request = user;
    ws_session *session = request->session;
    if (session->socket) {
        cal_buffer text;
        cal_buffer_init(&text, sizeof request->head + body.len + 1);
        cal_buffer_append_text(&text, request->head);
        cal_buffer_append_slice(&text, body);
        cal_buffer_append_u8(&text, '}');
        if (text.error)
            ws_done(session->socket);
        else
            ws_reply(session->socket, cal_buffer_slice(&text));
        cal_buffer_deinit(&text);
    }
    free(request);
    session_unref(session);
}

typedef struct id_lists {
    uint8_t contexts[IDS_AT_ONCE][CAL_ID_SIZE], groups[IDS_AT_ONCE][CAL_ID_SIZE];
    size_t context_count, group_count;
} id_lists;

/* The ids of a request, echoed: `"result":{"contextIds":[...],"groupIds":[...]}` */
static void reply_ids(ws_request *request, const id_lists *ids) {
    json_out out = json_out_new();
    yyjson_mut_val *contexts = json_add_array(&out, out.root, "contextIds");
    for (size_t i = 0; i < ids->context_count; i++)
        json_push_base58(&out, contexts, ids->contexts[i]);
    if (ids->group_count > 0) {
        yyjson_mut_val *groups = json_add_array(&out, out.root, "groupIds");
        for (size_t i = 0; i < ids->group_count; i++) json_push_hex(&out, groups, ids->groups[i]);
    }
    cal_buffer body;
    cal_buffer_init(&body, EVENT_MAX);
    cal_buffer_append_text(&body, "\"result\":");
    if (json_out_write(&out, &body) == 0)
        on_request_done(request, cal_buffer_slice(&body));
    else
        on_request_done(request,
                        cal_slice_text("\"error\":{\"type\":\"InternalError\",\"data\":{}}"));
    cal_buffer_deinit(&body);
}

/* Keeps the ids that were taken; the rest is dropped without a word (http-api.md 7). */
static void watch_all(cal_map *set, uint8_t (*ids)[CAL_ID_SIZE], size_t *count) {
    size_t kept = 0;
    for (size_t i = 0; i < *count; i++)
        if (live_watch(set, ids[i]) == 0) memmove(ids[kept++], ids[i], CAL_ID_SIZE);
    *count = kept;
}

static void subscribe(ws_request *request, yyjson_val *params, bool on) {
    live_watcher *watcher = &request->session->watcher;
    char reason[RPC_REASON_MAX];
    id_lists *ids = malloc(sizeof *ids);
    if (!ids) {
        on_request_done(request,
                        cal_slice_text("\"error\":{\"type\":\"InternalError\",\"data\":{}}"));
        return;
    }
    if (!rpc_ids(params, "contextIds", ids->contexts, IDS_AT_ONCE, &ids->context_count, reason) ||
        !rpc_ids(params, "groupIds", ids->groups, IDS_AT_ONCE, &ids->group_count, reason))
        rpc_parse_error(reason, on_request_done, request);
    else {
        if (on) {
            watch_all(&watcher->contexts, ids->contexts, &ids->context_count);
            watch_all(&watcher->groups, ids->groups, &ids->group_count);
            live_hub *hub = request->session->state->live;
            for (size_t i = 0; i < ids->context_count; i++)
                live_replay(hub, watcher, ids->contexts[i]);
            live_share_look(hub);
        } else {
            for (size_t i = 0; i < ids->context_count; i++)
                live_unwatch(&watcher->contexts, ids->contexts[i]);
            for (size_t i = 0; i < ids->group_count; i++)
                live_unwatch(&watcher->groups, ids->groups[i]);
        }
        reply_ids(request, ids);
    }
    free(ids);
}

static void dispatch(ws_request *request, yyjson_val *root) {
    yyjson_val *method = yyjson_obj_get(root, "method"), *params = yyjson_obj_get(root, "params");
    const char *name = yyjson_get_str(method);
    char reason[RPC_REASON_MAX];
    if (!name)
        rpc_parse_error("missing field `method`", on_request_done, request);
    else if (strcmp(name, "subscribe") == 0)
        subscribe(request, params, true);
    else if (strcmp(name, "unsubscribe") == 0)
        subscribe(request, params, false);
    else if (strcmp(name, "execute") == 0)
        rpc_execute(request->session->state, params, on_request_done, request);
    else {
        snprintf(reason, sizeof reason,
                 "unknown variant `%.200s`, expected one of `subscribe`, `unsubscribe`, `execute`",
                 name);
        rpc_parse_error(reason, on_request_done, request);
    }
}

/* A frame that is no JSON object, or whose id is neither a u64 nor null, gets no reply. */
static bool read_head(yyjson_val *root, char *ret_head, size_t size) {
    yyjson_val *id = yyjson_is_obj(root) ? yyjson_obj_get(root, "id") : NULL;
    uint64_t number;
    if (!yyjson_is_obj(root)) return false;
    if (!id || yyjson_is_null(id))
        snprintf(ret_head, size, "{\"id\":null,");
    else if (rpc_u64(id, &number))
        snprintf(ret_head, size, "{\"id\":%llu,", (unsigned long long)number);
    else
        return false;
    return true;
}

static void on_message(ws_socket *socket, cal_slice text) {
    ws_session *session = ws_user(socket);
    yyjson_doc *doc = rpc_read(text);
    ws_request *request = doc ? malloc(sizeof *request) : NULL;
    if (!request || !read_head(yyjson_doc_get_root(doc), request->head, sizeof request->head)) {
        free(request);
        yyjson_doc_free(doc);
        ws_done(socket);
        return;
    }
    request->session = session;
    session->references++;
    dispatch(request, yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
}

static void on_closed(ws_socket *socket) {
    ws_session *session = ws_user(socket);
    session->socket = NULL;
    cal_list_remove(&session->watcher.node);
    session_unref(session);
}

void live_ws(http_exchange *exchange) {
    static const ws_callbacks callbacks = {on_message, on_closed};
    api_state *state = http_user(exchange);
    ws_session *session = calloc(1, sizeof *session);
    if (!session) {
        json_reply_code(exchange, CAL_ENOMEM);
        return;
    }
    live_watcher_init(&session->watcher, cal_node_os(state->node), deliver_ws);
    session->state = state;
    session->references = 1;
    session->socket = ws_accept(exchange, &callbacks, session);
    if (session->socket)
        cal_list_push(&state->live->watchers, &session->watcher.node);
    else
        session_unref(session);
}

/* --- life --- */

live_hub *live_new(api_state *state, cal_error *err) {
    live_hub *hub = calloc(1, sizeof *hub);
    if (!hub) {
        cal_fail(err, CAL_ENOMEM, "out of memory");
        return NULL;
    }
    hub->state = state;
    cal_list_init(&hub->watchers);
    cal_map_init(&hub->presence, cal_random_seed(cal_node_os(state->node)));
    live_share_open(hub);
    hub->delivered = metrics_get(state->metrics, METRICS_COUNTER, "api_events_delivered",
                                 "Events handed to WebSockets and event streams.", "");
    hub->dropped = metrics_get(state->metrics, METRICS_COUNTER, "api_events_dropped",
                               "Events that a client was too slow for.", "");
    hub->subscription = cal_subscribe(state->node, NULL, on_event, hub);
    hub->sse = hub->subscription ? sse_new(hub, err) : NULL;
    if (!hub->subscription) cal_fail(err, CAL_ENOMEM, "out of memory");
    if (!hub->sse) {
        live_free(hub);
        return NULL;
    }
    return hub;
}

void live_tick(live_hub *hub) { sse_sweep(hub->sse); }

void live_stop(live_hub *hub) { sse_stop(hub->sse); }

void live_free(live_hub *hub) {
    if (!hub) return;
    cal_unsubscribe(hub->state->node, hub->subscription);
    live_share_close(hub);
    sse_free(hub->sse);
    cal_map_cursor cursor = {0};
    void *presence;
    while (cal_map_next(&hub->presence, &cursor, NULL, &presence)) free(presence);
    cal_map_deinit(&hub->presence);
    free(hub);
}
