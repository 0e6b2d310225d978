/* Event streams: http-api.md 8. Sessions outlive their connections and the process; what happens
 * while nobody is connected is not kept for later.
 *
 * A session with subscriptions is a row "sse/ID" of the node, written when they change and when its
 * connection ends; one without has nothing to keep. In memory are those that were connected since
 * the start; a row is read when its client comes back. Both are at most CAL_SSE_SESSIONS_MAX: a
 * session beyond that lives in memory only. Rows older than SESSION_LIFE_S are removed at start, by
 * sse_sweep and when met. */
#include <errno.h>
#include <stdlib.h>

#include "api/live.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/log.h"
#include "crypto/crypto.h"

enum {
    SESSION_LIFE_S = 24 * 60 * 60, /* since the last subscribe or unsubscribe */
    KEEP_ALIVE_MS = 15000,
    RETRY_MS = 3000,
    ROW_NAME_MAX = 32,
    ROW_MAX = 1024 * 1024,
    FRAME_MAX = 64 * 1024 * 1024,
    IDS_AT_ONCE = 1024,
};

typedef struct sse_entry {
    live_watcher watcher;
    sse_table *table;
    cal_list node; /* in the table, the one connected last at the end */
    uint64_t id;
    uint64_t counter;      /* number of the next event */
    uint64_t active_at_s;  /* last subscribe or unsubscribe */
    http_exchange *stream; /* NULL: not connected */
    bool stored;           /* has a row */
} sse_entry;

struct sse_table {
    live_hub *hub;
    cal_map by_id; /* u64 -> sse_entry */
    cal_list sessions;
    size_t rows; /* stored */
    bool stopping;
};

static const cal_os *sse_os(const sse_table *table) { return cal_node_os(table->hub->state->node); }

static uint64_t now_s(const sse_table *table) {
    const cal_os *os = sse_os(table);
    return os->wall_ns(os->user) / 1000000000u;
}

static cal_slice key_of(const uint64_t *id) { return cal_slice_of(id, sizeof *id); }

static bool is_expired(uint64_t active_at_s, uint64_t now) {
    return now > active_at_s && now - active_at_s > SESSION_LIFE_S;
}

/* --- rows --- */

static void row_name(uint64_t id, char ret_name[ROW_NAME_MAX]) {
    snprintf(ret_name, ROW_NAME_MAX, "sse/%llu", (unsigned long long)id);
}

static void ignore_done(void *user, const cal_error *err) {
    (void)user;
    if (err)
        cal_log(CAL_LOG_WARN, "api", "an event-stream session could not be kept: %s", err->message);
}

static void write_ids(json_out *out, yyjson_mut_val *object, const char *name, const cal_map *ids,
                      bool hex) {
    yyjson_mut_val *array = json_add_array(out, object, name);
    cal_map_cursor cursor = {0};
    cal_slice id;
    void *value;
    while (cal_map_next(ids, &cursor, &id, &value))
        if (hex)
            json_push_hex(out, array, id.data);
        else
            json_push_base58(out, array, id.data);
}

static void write_row(const sse_entry *session) {
    char name[ROW_NAME_MAX];
    cal_buffer text;
    json_out out = json_out_new();
    write_ids(&out, out.root, "contexts", &session->watcher.contexts, false);
    write_ids(&out, out.root, "groups", &session->watcher.groups, true);
    json_add_u64(&out, out.root, "counter", session->counter);
    json_add_u64(&out, out.root, "active_at", session->active_at_s);
    cal_buffer_init(&text, ROW_MAX);
    row_name(session->id, name);
    if (json_out_write(&out, &text) == 0)
        cal_node_row_put(session->table->hub->state->node, name, cal_buffer_slice(&text),
                         ignore_done, NULL);
    cal_buffer_deinit(&text);
}

static void remove_row(sse_table *table, uint64_t id) {
    char name[ROW_NAME_MAX];
    row_name(id, name);
    if (table->rows > 0) table->rows--;
    cal_node_row_put(table->hub->state->node, name, cal_slice_of(NULL, 0), ignore_done, NULL);
}

/* Makes the row say what the session is: none without subscriptions, or without room for another.
 */
static void save(sse_entry *session) {
    sse_table *table = session->table;
    if (session->watcher.contexts.count == 0 && session->watcher.groups.count == 0) {
        if (session->stored) remove_row(table, session->id);
        session->stored = false;
        return;
    }
    if (!session->stored && table->rows >= CAL_SSE_SESSIONS_MAX) return;
    if (!session->stored) table->rows++;
    session->stored = true;
    write_row(session);
}

static void read_ids(yyjson_val *array, cal_map *ids) {
    size_t index, count;
    yyjson_val *item;
    uint8_t id[CAL_ID_SIZE];
    yyjson_arr_foreach(array, index, count, item) {
        const char *text = yyjson_get_str(item);
        if (text && cal_id_parse(text, id) == 0) live_watch(ids, id);
    }
}

/* Fills in a fresh session from its row. CAL_ENOTFOUND, CAL_EDECODE. */
static int load(sse_entry *session) {
    char name[ROW_NAME_MAX];
    cal_buffer text;
    cal_buffer_init(&text, ROW_MAX);
    row_name(session->id, name);
    int error = cal_node_row_get(session->table->hub->state->node, name, &text);
    yyjson_doc *doc = error ? NULL : yyjson_read((const char *)text.data, text.len, 0);
    yyjson_val *root = yyjson_doc_get_root(doc);
    if (!error && !yyjson_is_obj(root)) error = CAL_EDECODE;
    if (!error) {
        read_ids(yyjson_obj_get(root, "contexts"), &session->watcher.contexts);
        read_ids(yyjson_obj_get(root, "groups"), &session->watcher.groups);
        session->counter = yyjson_get_uint(yyjson_obj_get(root, "counter"));
        session->active_at_s = yyjson_get_uint(yyjson_obj_get(root, "active_at"));
        session->stored = true;
    }
    yyjson_doc_free(doc);
    cal_buffer_deinit(&text);
    return error;
}

/* --- sessions --- */

static bool deliver_sse(live_watcher *watcher, cal_slice event);

static sse_entry *session_new(sse_table *table, uint64_t id) {
    sse_entry *session = calloc(1, sizeof *session);
    if (!session) return NULL;
    live_watcher_init(&session->watcher, sse_os(table), deliver_sse);
    cal_list_init(&session->node);
    session->table = table;
    session->id = id;
    session->counter = 1;
    session->active_at_s = now_s(table);
    return session;
}

static void session_free(sse_entry *session) {
    cal_list_remove(&session->node);
    live_watcher_deinit(&session->watcher);
    free(session);
}

static void forget(sse_entry *session) {
    cal_map_remove(&session->table->by_id, key_of(&session->id));
    session_free(session);
}

/* Makes room among the sessions in memory: the one that has been without a client for longest goes.
 */
static bool make_room(sse_table *table) {
    if (table->by_id.count < CAL_SSE_SESSIONS_MAX) return true;
    for (cal_list *node = table->sessions.next; node != &table->sessions; node = node->next) {
        sse_entry *session = CAL_CONTAINER_OF(node, sse_entry, node);
        if (session->stream) continue;
        forget(session);
        return true;
    }
    return false;
}

static bool keep(sse_entry *session) {
    sse_table *table = session->table;
    if (!make_room(table) || cal_map_put(&table->by_id, key_of(&session->id), session) != 0) {
        session_free(session);
        return false;
    }
    cal_list_push(&table->sessions, &session->node);
    return true;
}

/* The session that a client comes back to: in memory or as a row, and not expired. NULL: none. */
static sse_entry *find_session(sse_table *table, uint64_t id) {
    sse_entry *session = cal_map_get(&table->by_id, key_of(&id));
    if (!session) {
        session = session_new(table, id);
        if (session && load(session) != 0) {
            session_free(session);
            session = NULL;
        }
        if (!session || !keep(session)) return NULL;
    }
    if (!is_expired(session->active_at_s, now_s(table))) return session;
    if (session->stored) remove_row(table, id);
    session->stored = false;
    if (!session->stream) forget(session);
    return NULL;
}

static sse_entry *fresh_session(sse_table *table) {
    uint64_t id;
    do cal_random(sse_os(table), &id, sizeof id);
    while (id == 0 || cal_map_get(&table->by_id, key_of(&id)));
    sse_entry *session = session_new(table, id);
    return session && keep(session) ? session : NULL;
}

/* --- streams --- */

/* One event, numbered. `lead` stands before the JSON, `tail` behind. */
static bool send_event(sse_entry *session, const char *lead, cal_slice json, const char *tail) {
    cal_buffer frame;
    if (!session->stream) return false;
    cal_buffer_init(&frame, FRAME_MAX);
    cal_buffer_printf(&frame, "event: message\nid: %llu-%llu\ndata: %s",
                      (unsigned long long)session->id, (unsigned long long)session->counter, lead);
    cal_buffer_append_slice(&frame, json);
    cal_buffer_printf(&frame, "%s\n\n", tail);
    bool sent = !frame.error && http_write_event(session->stream, cal_buffer_slice(&frame));
    cal_buffer_deinit(&frame);
    session->counter++; /* a gap tells the client that it missed one */
    return sent;
}

static bool deliver_sse(live_watcher *watcher, cal_slice event) {
    return send_event(CAL_CONTAINER_OF(watcher, sse_entry, watcher), "{\"result\":", event, "}");
}

/* Ends the session's stream from our side, saying why. */
static void close_stream(sse_entry *session, const char *reason) {
    http_exchange *stream = session->stream;
    if (!stream) return;
    send_event(session, "{\"type\":\"close\",\"reason\":\"", cal_slice_text(reason), "\"}");
    session->stream = NULL;
    cal_list_remove(&session->watcher.node);
    http_on_close(stream, NULL);
    http_on_tick(stream, KEEP_ALIVE_MS, NULL);
    http_end(stream);
}

static void on_stream_closed(http_exchange *exchange) {
    sse_entry *session = http_get_user(exchange);
    session->stream = NULL;
    cal_list_remove(&session->watcher.node);
    http_end(exchange);
    save(session);
}

static void on_stream_tick(http_exchange *exchange) {
    http_write_event(exchange, cal_slice_text(":\n\n"));
}

static sse_entry *session_for(http_exchange *exchange, sse_table *table, bool *ret_reconnect) {
    const char *last = http_header(exchange, "last-event-id");
    char *end = NULL;
    errno = 0;
    unsigned long long id = last ? strtoull(last, &end, 10) : 0;
    bool named = last && end != last && errno == 0 && (*end == '-' || *end == 0);
    sse_entry *session = named ? find_session(table, id) : NULL;
    *ret_reconnect = session != NULL;
    return session ? session : fresh_session(table);
}

void sse_open(http_exchange *exchange) {
    live_hub *hub = ((api_state *)http_user(exchange))->live;
    sse_table *table = hub->sse;
    bool reconnect;
    char id[ROW_NAME_MAX];
    sse_entry *session = table->stopping ? NULL : session_for(exchange, table, &reconnect);
    if (!session) {
        json_reply_error(exchange, 503, "too many event streams: try again later");
        return;
    }
    snprintf(id, sizeof id, "%llu", (unsigned long long)session->id);
    http_set_header(exchange, "cache-control", "no-cache");
    http_set_header(exchange, "x-sse-session-id", id);
    http_set_header(exchange, "x-sse-reconnect", reconnect ? "true" : "false");
    http_begin(exchange, 200, "text/event-stream", -1);
    if (http_is_head(exchange)) {
        http_end(exchange);
        if (!reconnect) forget(session);
        return;
    }
    close_stream(session, "replaced by a new connection");
    session->stream = exchange;
    http_set_user(exchange, session);
    http_on_close(exchange, on_stream_closed);
    http_on_tick(exchange, KEEP_ALIVE_MS, on_stream_tick);
    cal_list_push(&hub->watchers, &session->watcher.node);
    cal_list_remove(&session->node);
    cal_list_push(&table->sessions, &session->node);
    char hello[256];
    snprintf(hello, sizeof hello,
             "event: message\nid: %s-0\nretry: %d\ndata: "
             "{\"type\":\"connect\",\"session_id\":\"%s\",\"reconnect\":%s}\n\n",
             id, RETRY_MS, id, reconnect ? "true" : "false");
    http_write_event(exchange, cal_slice_text(hello));
    save(session);
}

/* --- POST /sse/subscription --- */

static void reply_parse_error(http_exchange *exchange, const char *reason) {
    json_out out = json_out_new();
    yyjson_mut_val *error = json_add_object(&out, out.root, "error");
    json_add_text(&out, error, "type", "ParseError");
    json_add_text(&out, error, "data", reason);
    json_reply(exchange, 400, &out);
}

typedef struct id_list {
    uint8_t ids[IDS_AT_ONCE][CAL_ID_SIZE];
    size_t count;
} id_list;

static bool read_list(yyjson_val *params, const char *name, id_list *ret_list, char *reason,
                      size_t size) {
    yyjson_val *array = yyjson_obj_get(params, name), *item;
    size_t index, total;
    ret_list->count = 0;
    if (!array) return true;
    if (!yyjson_is_arr(array)) {
        snprintf(reason, size, "invalid type: %s, expected a sequence",
                 yyjson_get_type_desc(array));
        return false;
    }
    yyjson_arr_foreach(array, index, total, item) {
        const char *text = yyjson_get_str(item);
        if (ret_list->count == IDS_AT_ONCE) break;
        if (!text)
            snprintf(reason, size, "invalid type: %s, expected a string",
                     yyjson_get_type_desc(item));
        else if (cal_id_parse(text, ret_list->ids[ret_list->count]) != 0)
            json_id_fault(text, reason, size);
        else {
            ret_list->count++;
            continue;
        }
        return false;
    }
    return true;
}

static void reply_subscribed(http_exchange *exchange, sse_entry *session, id_list *contexts,
                             id_list *groups) {
    json_out out = json_out_new();
    yyjson_mut_val *result = json_add_object(&out, out.root, "result");
    json_add_text(&out, result, "status", "subscribed");
    yyjson_mut_val *array = json_add_array(&out, result, "contexts");
    for (size_t i = 0; i < contexts->count; i++)
        if (live_watch(&session->watcher.contexts, contexts->ids[i]) == 0) {
            json_push_base58(&out, array, contexts->ids[i]);
            live_replay(session->table->hub, &session->watcher, contexts->ids[i]);
        }
    array = json_add_array(&out, result, "groups");
    for (size_t i = 0; i < groups->count; i++)
        if (live_watch(&session->watcher.groups, groups->ids[i]) == 0)
            json_push_hex(&out, array, groups->ids[i]);
    live_share_look(session->table->hub);
    json_reply(exchange, 200, &out);
}

static void reply_unsubscribed(http_exchange *exchange, sse_entry *session, id_list *contexts,
                               id_list *groups) {
    json_out out = json_out_new();
    yyjson_mut_val *result = json_add_object(&out, out.root, "result");
    json_add_text(&out, result, "status", "unsubscribed");
    yyjson_mut_val *array = json_add_array(&out, result, "unsubscribed");
    for (size_t i = 0; i < contexts->count; i++)
        if (live_unwatch(&session->watcher.contexts, contexts->ids[i]))
            json_push_base58(&out, array, contexts->ids[i]);
    for (size_t i = 0; i < groups->count; i++)
        live_unwatch(&session->watcher.groups, groups->ids[i]);
    array = json_add_array(&out, result, "requested");
    for (size_t i = 0; i < contexts->count; i++) json_push_base58(&out, array, contexts->ids[i]);
    json_reply(exchange, 200, &out);
}

static void change_subscriptions(http_exchange *exchange, sse_entry *session, yyjson_val *root) {
    const char *method = yyjson_get_str(yyjson_obj_get(root, "method"));
    yyjson_val *params = yyjson_obj_get(root, "params");
    char reason[320];
    bool on = method && strcmp(method, "subscribe") == 0;
    if (!method || (!on && strcmp(method, "unsubscribe") != 0) || !yyjson_is_obj(params)) {
        if (!method)
            snprintf(reason, sizeof reason, "missing field `method`");
        else if (!on && strcmp(method, "unsubscribe") != 0)
            snprintf(reason, sizeof reason,
                     "unknown variant `%.200s`, expected `subscribe` or `unsubscribe`", method);
        else
            snprintf(reason, sizeof reason, "missing field `params`");
        reply_parse_error(exchange, reason);
        return;
    }
    id_list *contexts = cal_arena_alloc(http_arena(exchange), sizeof *contexts);
    id_list *groups = cal_arena_alloc(http_arena(exchange), sizeof *groups);
    if (!contexts || !groups)
        json_reply_code(exchange, CAL_ENOMEM);
    else if (!read_list(params, "contextIds", contexts, reason, sizeof reason) ||
             !read_list(params, "groupIds", groups, reason, sizeof reason))
        reply_parse_error(exchange, reason);
    else if (!session)
        json_reply_error(exchange, 404,
                         "Session not found. Please reconnect to SSE endpoint first.");
    else {
        session->active_at_s = now_s(session->table);
        if (on)
            reply_subscribed(exchange, session, contexts, groups);
        else
            reply_unsubscribed(exchange, session, contexts, groups);
        save(session);
    }
}

static bool parse_session_id(const char *text, uint64_t *ret_id) {
    char *end;
    errno = 0;
    unsigned long long id = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || errno) return false;
    *ret_id = id;
    return true;
}

void sse_subscription(http_exchange *exchange) {
    json_in in;
    uint64_t id;
    sse_table *table = ((api_state *)http_user(exchange))->live->sse;
    if (!json_open(&in, exchange, JSON_PLAIN, false)) return;
    const char *text = json_text(&in, json_top(&in), "id", true);
    if (!json_ok(&in)) return;
    if (!parse_session_id(text, &id))
        json_reply_error(exchange, 400, "Invalid Session Id");
    else
        change_subscriptions(exchange, cal_map_get(&table->by_id, key_of(&id)), in.root);
    json_close(&in);
}

/* --- GET /sse/session/:id --- */

static void reply_session(http_exchange *exchange, const sse_entry *session, const char *status) {
    json_out out = json_out_new();
    yyjson_mut_val *result = json_add_object(&out, out.root, "result");
    json_add_u64(&out, result, "session_id", session->id);
    write_ids(&out, result, "subscriptions", &session->watcher.contexts, false);
    json_add_u64(&out, result, "event_counter", session->counter);
    json_add_text(&out, result, "status", status);
    json_reply(exchange, 200, &out);
}

void sse_session(http_exchange *exchange) {
    uint64_t id;
    sse_table *table = ((api_state *)http_user(exchange))->live->sse;
    if (!parse_session_id(http_param(exchange, "id"), &id)) {
        http_reply_text(exchange, 400, "Invalid URL: Cannot parse `session_id` to a `u64`");
        return;
    }
    sse_entry *session = cal_map_get(&table->by_id, key_of(&id)), *stored = NULL;
    if (!session) {
        stored = session_new(table, id);
        if (stored && load(stored) == 0) session = stored;
    }
    if (!session)
        json_reply_error(exchange, 404, "Session not found");
    else if (is_expired(session->active_at_s, now_s(table)))
        json_reply_error(exchange, 410, "Session expired");
    else
        reply_session(exchange, session, stored ? "persisted" : "active");
    if (stored) session_free(stored);
}

/* --- life --- */

typedef struct row_sweep {
    sse_table *table;
    uint64_t now;
} row_sweep;

static void visit_row(void *user, const char *key, cal_slice value) {
    row_sweep *sweep = user;
    uint64_t id;
    yyjson_doc *doc = yyjson_read((const char *)value.data, value.len, 0);
    uint64_t active = yyjson_get_uint(yyjson_obj_get(yyjson_doc_get_root(doc), "active_at"));
    yyjson_doc_free(doc);
    sse_table *table = sweep->table;
    if (!parse_session_id(key + strlen("sse/"), &id)) return;
    table->rows++;
    sse_entry *session = cal_map_get(&table->by_id, key_of(&id));
    if (session && session->stream) return; /* its client is here */
    if (!is_expired(active, sweep->now) && table->rows <= CAL_SSE_SESSIONS_MAX) return;
    if (session) session->stored = false;
    remove_row(table, id);
}

/* Counts the rows anew, and removes those that are expired or too many. */
static int sweep_rows(sse_table *table) {
    row_sweep sweep = {table, now_s(table)};
    table->rows = 0;
    return cal_node_row_each(table->hub->state->node, "sse/", visit_row, &sweep);
}

void sse_sweep(sse_table *table) {
    int error = sweep_rows(table);
    if (error)
        cal_log(CAL_LOG_WARN, "api", "the event-stream sessions cannot be read: %s",
                cal_error_text(error));
    uint64_t now = now_s(table);
    for (cal_list *node = table->sessions.next, *next; node != &table->sessions; node = next) {
        next = node->next;
        sse_entry *session = CAL_CONTAINER_OF(node, sse_entry, node);
        if (!session->stream && is_expired(session->active_at_s, now)) forget(session);
    }
}

sse_table *sse_new(live_hub *hub, cal_error *err) {
    uint64_t seed;
    sse_table *table = calloc(1, sizeof *table);
    if (!table) {
        cal_fail(err, CAL_ENOMEM, "out of memory");
        return NULL;
    }
    table->hub = hub;
    cal_random(sse_os(table), &seed, sizeof seed);
    cal_map_init(&table->by_id, seed);
    cal_list_init(&table->sessions);
    int error = sweep_rows(table);
    if (error) {
        cal_fail(err, error, "the event-stream sessions cannot be read: %s", cal_error_text(error));
        sse_free(table);
        return NULL;
    }
    return table;
}

void sse_stop(sse_table *table) {
    table->stopping = true;
    for (cal_list *node = table->sessions.next; node != &table->sessions; node = node->next) {
        sse_entry *session = CAL_CONTAINER_OF(node, sse_entry, node);
        if (!session->stream) continue;
        close_stream(session, "node is stopping");
        save(session);
    }
}

void sse_free(sse_table *table) {
    if (!table) return;
    for (cal_list *node; (node = cal_list_pop(&table->sessions));)
        session_free(CAL_CONTAINER_OF(node, sse_entry, node));
    cal_map_deinit(&table->by_id);
    free(table);
}
