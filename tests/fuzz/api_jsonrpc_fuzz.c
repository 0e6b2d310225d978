/* Any body into any row of the API, JSON-RPC first of all, and any text into its WebSocket; every
 * JSON answer must be JSON.
 *
 * The node is the one below and in api_jsonrpc_node.c: it answers each question at once, with
 * success or, by a bit of the input, with an error, and its own texts come from the input too.
 * Input: row, flags, then the body. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "api_jsonrpc_node.h"
#include "calimero/log.h"

bool refuse;
char text[256];
const cal_slice *bytes;
static cal_error refusal;
static const cal_application_id some_id = {{1}};
static cal_event_handler on_event;
static void *on_event_user;
const cal_error *outcome(void) { return refuse ? &refusal : NULL; }
int code(void) { return refuse ? refusal.code : 0; }

/* --- the node --- */

struct cal_subscription {
    char nothing;
};
struct cal_blob_writer {
    char nothing;
};
struct cal_blob_reader {
    bool read;
};
static cal_subscription subscription;

int cal_node_health(cal_node *node) { return (void)node, code(); }
bool cal_node_stopping(const cal_node *node) { return (void)node, refuse; }
const cal_os *cal_node_os(cal_node *node) { return (void)node, cal_os_posix(); }
uv_loop_t *cal_node_loop(cal_node *node) { return (void)node, NULL; }
int cal_node_backup(cal_node *node, const char *folder, cal_maintenance_progress progress,
                    void *user, cal_error *err) {
    return (void)node, (void)folder, (void)progress, (void)user, (void)err, CAL_EUNSUPPORTED;
}
void cal_node_identity_get(cal_node *node, cal_node_identity *ret_identity) {
    (void)node;
    memset(ret_identity, 7, sizeof *ret_identity);
}
/* A host of its own that is in the network for itself; none while the node stops. */
cal_p2p *cal_node_p2p(cal_node *node) {
    static cal_p2p *host;
    (void)node;
    if (!host) {
        const char *const listen[] = {"/ip4/127.0.0.1/tcp/0"};
        const cal_p2p_options options = {.listen = listen, .listen_count = 1};
        if (cal_p2p_new(&options, &host, NULL) ||
            cal_p2p_gossip_start(host, &(cal_p2p_gossip_options){0}) || cal_p2p_kad_start(host) ||
            cal_p2p_rendezvous_start(host, NULL) || cal_p2p_subscribe(host, "ns/00", false, NULL))
            abort();
    }
    return refuse ? NULL : host;
}
void cal_node_peer_id(cal_node *node, cal_peer_id *ret_id) {
    (void)node;
    cal_peer_id_of_key((const uint8_t[32]){7}, ret_id);
}
void cal_network_stats_get(cal_node *node, cal_network_stats *ret_stats) {
    (void)node;
    *ret_stats = (cal_network_stats){0};
}
int cal_node_row_get(cal_node *node, const char *key, cal_buffer *ret_value) {
    (void)node, (void)key;
    return refuse ? CAL_ENOTFOUND : cal_buffer_append_slice(ret_value, *bytes);
}
void cal_node_row_put(cal_node *node, const char *key, cal_slice value, cal_simple_done done,
                      void *user) {
    (void)node, (void)key, (void)value;
    done(user, outcome());
}
int cal_node_row_each(cal_node *node, const char *prefix,
                      void (*visit)(void *, const char *, cal_slice), void *user) {
    (void)node, (void)prefix;
    visit(user, "sse/7", *bytes);
    return 0;
}
cal_subscription *cal_subscribe(cal_node *node, const cal_context_id *context,
                                cal_event_handler handler, void *user) {
    (void)node, (void)context;
    on_event = handler;
    on_event_user = user;
    return &subscription;
}
void cal_unsubscribe(cal_node *node, cal_subscription *gone) { (void)node, (void)gone; }

static void visit_app(void (*visit)(void *, const cal_app_info *), void *user) {
    const cal_app_service service = {text, {{2}}};
    const cal_app_info info = {.source = text,
                               .metadata = bytes->data,
                               .metadata_len = bytes->len,
                               .signer_id = text,
                               .package = text,
                               .version = text,
                               .services = &service,
                               .service_count = 1};
    visit(user, &info);
}
int cal_app_get(cal_node *node, const cal_application_id *id,
                void (*visit)(void *, const cal_app_info *), void *user) {
    (void)node, (void)id;
    if (!refuse) visit_app(visit, user);
    return code();
}
int cal_app_each(cal_node *node, void (*visit)(void *, const cal_app_info *), void *user) {
    (void)node;
    visit_app(visit, user);
    return code();
}
int cal_app_versions(cal_node *node, const cal_application_id *id,
                     void (*visit)(void *, const char *, const cal_blob_id *, uint64_t,
                                   const char *),
                     void *user) {
    (void)node, (void)id;
    const cal_blob_id blob = {{3}};
    visit(user, text, &blob, 1, text);
    return code();
}
void cal_app_abi(cal_node *node, const cal_application_id *id, const char *service,
                 cal_app_abi_done done, void *user) {
    (void)node, (void)id, (void)service;
    done(user, outcome(), "{}", 2);
}
void cal_install_file(cal_node *node, const char *path, const cal_install_options *options,
                      cal_app_done done, void *user) {
    (void)node;
    assert(path[0] == '/' && (options->metadata_len == 0 || options->metadata));
    done(user, outcome(), &some_id);
}
void cal_install_url(cal_node *node, const char *url, const cal_install_options *options,
                     cal_app_done done, void *user) {
    (void)node, (void)options;
    assert(url);
    done(user, outcome(), &some_id);
}
void cal_uninstall(cal_node *node, const cal_application_id *id, cal_simple_done done, void *user) {
    (void)node, (void)id;
    done(user, outcome());
}

void cal_context_create(cal_node *node, const cal_context_create_options *options,
                        cal_context_create_done done, void *user) {
    (void)node;
    assert(options->init_params_len <= 1024 * 1024);
    cal_context_created created = {0};
    done(user, outcome(), &created);
}
void cal_context_delete(cal_node *node, const cal_context_id *id, cal_simple_done done,
                        void *user) {
    (void)node, (void)id;
    done(user, outcome());
}
static void visit_context(void (*visit)(void *, const cal_context_info *), void *user) {
    const cal_hash head = {{4}};
    const cal_context_info info = {.service = text,
                                   .name = text,
                                   .application_version = text,
                                   .heads = &head,
                                   .head_count = 1};
    visit(user, &info);
}
int cal_context_get(cal_node *node, const cal_context_id *id,
                    void (*visit)(void *, const cal_context_info *), void *user) {
    (void)node, (void)id;
    if (!refuse) visit_context(visit, user);
    return code();
}
int cal_context_each(cal_node *node, const cal_application_id *application,
                     const cal_group_id *group, void (*visit)(void *, const cal_context_info *),
                     void *user) {
    (void)node, (void)application, (void)group;
    visit_context(visit, user);
    return code();
}
int cal_context_identities(cal_node *node, const cal_context_id *id, bool owned,
                           void (*visit)(void *, const cal_public_key *), void *user) {
    (void)node, (void)id, (void)owned;
    const cal_public_key key = {{5}};
    visit(user, &key);
    return code();
}
void cal_context_size(cal_node *node, const cal_context_id *id, cal_size_done done, void *user) {
    (void)node, (void)id;
    done(user, outcome(), 1);
}
void cal_execute(cal_node *node, const cal_context_id *context, const char *method,
                 const void *args, size_t len, cal_call_done done, void *user) {
    (void)node;
    assert(method[0] && len > 0 && json_is_valid(cal_slice_of(args, len)));
    const cal_call_result result = {.status = (cal_call_status)(bytes->len % 7),
                                    .message = text,
                                    .output = refuse ? NULL : args,
                                    .output_len = refuse ? 0 : len,
                                    .guest_error = bytes->data,
                                    .guest_error_len = bytes->len};
    const cal_app_event app_event = {text, bytes->data, bytes->len, refuse ? text : NULL};
    const cal_event event = {.type = bytes->len % 2 ? CAL_EVENT_XCALL : CAL_EVENT_STATE_MUTATION,
                             .context = *context,
                             .events = &app_event,
                             .event_count = 1,
                             .xcall_function = text,
                             .xcall_status = (cal_xcall_status)(bytes->len % 3),
                             .xcall_detail = text};
    on_event(on_event_user, &event);
    done(user, &result);
}

void cal_namespace_create(cal_node *node, const cal_application_id *application,
                          const cal_blob_id *app_key, const char *name, cal_group_done done,
                          void *user) {
    (void)node, (void)application, (void)app_key, (void)name;
    const cal_group_id id = {{6}};
    done(user, outcome(), &id);
}
void cal_namespace_delete(cal_node *node, const cal_group_id *id, cal_simple_done done,
                          void *user) {
    (void)node, (void)id;
    done(user, outcome());
}
void cal_group_create(cal_node *node, const cal_group_id *parent, const char *name, bool open,
                      cal_group_done done, void *user) {
    (void)node, (void)name, (void)open;
    done(user, outcome(), parent);
}
static void visit_namespace(void (*visit)(void *, const cal_namespace_info *), void *user) {
    const cal_namespace_info info = {.name = text, .app_version = text};
    visit(user, &info);
}
int cal_namespace_get(cal_node *node, const cal_group_id *id,
                      void (*visit)(void *, const cal_namespace_info *), void *user) {
    (void)node, (void)id;
    if (!refuse) visit_namespace(visit, user);
    return code();
}
int cal_namespace_each(cal_node *node, const cal_application_id *application,
                       void (*visit)(void *, const cal_namespace_info *), void *user) {
    (void)node, (void)application;
    visit_namespace(visit, user);
    return code();
}
int cal_group_each(cal_node *node, const cal_group_id *id,
                   void (*visit)(void *, const cal_group_info *), void *user) {
    (void)node, (void)id;
    const cal_group_info info = {.name = text};
    visit(user, &info);
    return code();
}
void cal_namespace_usage_each(cal_node *node, cal_usage_visitor visit, cal_simple_done done,
                              void *user) {
    (void)node;
    const cal_namespace_usage usage = {0};
    visit(user, &usage);
    done(user, outcome());
}

void cal_alias_create(cal_node *node, cal_alias_kind kind, const char *name,
                      const uint8_t id[CAL_ID_SIZE], cal_simple_done done, void *user) {
    (void)node, (void)kind, (void)id;
    assert(strlen(name) >= 1 && strlen(name) <= 50);
    done(user, outcome());
}
void cal_alias_delete(cal_node *node, cal_alias_kind kind, const char *name, cal_simple_done done,
                      void *user) {
    (void)node, (void)kind, (void)name;
    done(user, outcome());
}
int cal_alias_lookup(cal_node *node, cal_alias_kind kind, const char *name,
                     uint8_t ret_id[CAL_ID_SIZE]) {
    (void)node, (void)kind, (void)name;
    memset(ret_id, 8, CAL_ID_SIZE);
    return code();
}
int cal_alias_each(cal_node *node, cal_alias_kind kind,
                   void (*visit)(void *, const char *, const uint8_t *), void *user) {
    (void)node, (void)kind;
    visit(user, "name", some_id.bytes);
    return code();
}

cal_blob_writer *cal_blob_create(cal_node *node) {
    return (void)node, calloc(1, sizeof(cal_blob_writer));
}
void cal_blob_write(cal_blob_writer *writer, const void *data, size_t len, cal_simple_done done,
                    void *user) {
    (void)writer, (void)data, (void)len;
    done(user, outcome());
}
void cal_blob_finish(cal_blob_writer *writer, const cal_blob_id *expected, cal_blob_done done,
                     void *user) {
    (void)expected;
    free(writer);
    const cal_blob_info info = {.size = 1};
    done(user, outcome(), &info);
}
void cal_blob_abort(cal_blob_writer *writer) { free(writer); }
int cal_blob_open(cal_node *node, const cal_blob_id *id, cal_blob_reader **ret_reader,
                  cal_blob_info *ret_info) {
    (void)node;
    if (refuse) return CAL_ENOTFOUND;
    *ret_reader = calloc(1, sizeof **ret_reader);
    *ret_info = (cal_blob_info){.id = *id, .size = bytes->len, .mime = "text/plain"};
    return 0;
}
void cal_blob_read(cal_blob_reader *reader, cal_blob_chunk_done done, void *user) {
    bool first = !reader->read;
    reader->read = true;
    done(user, NULL, bytes->data, first ? bytes->len : 0);
}
void cal_blob_close(cal_blob_reader *reader) { free(reader); }
int cal_blob_each(cal_node *node, void (*visit)(void *, const cal_blob_info *), void *user) {
    (void)node;
    const cal_blob_info info = {.size = 1};
    visit(user, &info);
    return code();
}
void cal_blob_fetch(cal_node *node, const cal_blob_id *id, const cal_context_id *context,
                    cal_blob_progress progress, cal_blob_done done, void *user) {
    (void)node, (void)id, (void)context, (void)progress;
    const cal_blob_info info = {.size = 1};
    const cal_error *err = outcome();
    done(user, err, err ? NULL : &info);
}
int cal_blob_announce(cal_node *node, const cal_blob_id *id, const cal_context_id *context,
                      cal_error *err) {
    (void)node, (void)id, (void)context, (void)err;
    return code();
}
void cal_sync_stats_get(cal_node *node, cal_sync_stats *ret_stats) {
    (void)node;
    *ret_stats = (cal_sync_stats){0};
}
void cal_blob_delete(cal_node *node, const cal_blob_id *id, cal_simple_done done, void *user) {
    (void)node, (void)id;
    done(user, outcome());
}

/* --- the harness --- */

static uint64_t now_us;
static uint64_t clock_us(void *user) { return (void)user, now_us++; }
static void on_wake(void *owner) { (void)owner; }

/* A JSON answer must be JSON. */
static void check(const char *answer, size_t len) {
    const char *body = strstr(answer, "\r\n\r\n");
    const char *type = strstr(answer, "content-type: application/json");
    if (!body || strncmp(answer, "HTTP/1.1 ", 9) != 0 || !type || type > body) return;
    body += 4;
    if (!json_is_valid(cal_slice_of(body, len - (size_t)(body - answer)))) {
        fprintf(stderr, "not JSON: %s\n", answer);
        abort();
    }
}

static void take(http_connection *connection, bool checked) {
    uint8_t *out;
    size_t len;
    while (http_connection_drain(connection, &out, &len)) {
        char *answer = malloc(len + 1);
        memcpy(answer, out, len);
        answer[len] = 0;
        if (checked) check(answer, len);
        free(answer);
        free(out);
        http_connection_drained(connection);
    }
}

/* The row's pattern with ids, or something else, for its parameters. */
static void write_path(cal_buffer *out, const char *pattern, bool ids) {
    while (*pattern) {
        if (*pattern != ':') {
            cal_buffer_append_u8(out, (uint8_t)*pattern++);
            continue;
        }
        cal_buffer_append_text(out, ids ? "4vJ9JU1bJJE96FWSJKvHsmmFADCg4gpZQff4P3bkLKi" : "7");
        pattern += strcspn(pattern, "/");
    }
}

static void feed_frame(http_connection *connection, cal_slice payload) {
    cal_buffer frame;
    uint8_t len[8];
    cal_buffer_init(&frame, payload.len + 16);
    cal_buffer_append(&frame, "\x81\xff", 2);
    cal_write_u64be(len, payload.len);
    if (payload.len < 65536) frame.data[1] = 0xfe;
    if (payload.len < 126)
        frame.data[1] = (uint8_t)(0x80 | payload.len);
    else
        cal_buffer_append(&frame, payload.len < 65536 ? len + 6 : len, payload.len < 65536 ? 2 : 8);
    cal_buffer_append(&frame, "\0\0\0\0", 4);
    cal_buffer_append_slice(&frame, payload);
    http_connection_feed(connection, cal_buffer_slice(&frame));
    cal_buffer_deinit(&frame);
}

static void run(http_env *env, const http_route *route, uint8_t flags, cal_slice body) {
    static const char *const verbs[] = {[HTTP_VERB_GET] = "GET",
                                        [HTTP_VERB_POST] = "POST",
                                        [HTTP_VERB_PUT] = "PUT",
                                        [HTTP_VERB_DELETE] = "DELETE"};
    http_connection *connection = http_connection_new(env, on_wake, NULL);
    cal_buffer request;
    cal_buffer_init(&request, body.len + 1024);
    bool websocket = strcmp(route->pattern, "/ws") == 0;
    cal_buffer_printf(&request, "%s ", verbs[route->verb]);
    write_path(&request, route->pattern, flags & 2);
    cal_buffer_append_text(&request, flags & 4 ? "?limit=1&offset=0" : "");
    cal_buffer_append_text(&request, " HTTP/1.1\r\nhost: localhost\r\n");
    if (websocket)
        cal_buffer_append_text(
            &request, "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
                      "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    else {
        cal_buffer_printf(
            &request,
            "content-type: application/json\r\nlast-event-id: 7-1\r\ncontent-length: %zu\r\n\r\n",
            body.len);
        cal_buffer_append_slice(&request, body);
    }
    http_connection_feed(connection, cal_buffer_slice(&request));
    if (websocket) {
        static const char watch[] = "{\"method\":\"subscribe\",\"params\":{\"contextIds\":["
                                    "\"4vJ9JU1bJJE96FWSJKvHsmmFADCg4gpZQff4P3bkLKi\"],"
                                    "\"groupIds\":[\"4vJ9JU1bJJE96FWSJKvHsmmFADCg4gpZQff4P3bkLKi"
                                    "\"]}}";
        feed_frame(connection, cal_slice_text(watch));
        member_came();
        feed_frame(connection, body);
        member_came();
    }
    take(connection, !websocket);
    http_connection_free(connection);
    cal_buffer_deinit(&request);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
    size_t count;
    const api_row *rows = api_rows(&count);
    if (size < 2) return 0;
    const http_route *route = &rows[input[0] % count].route;
    cal_slice body = cal_slice_of(input + 2, size - 2);
    if (strcmp(route->pattern, "/admin-api/backup") == 0)
        return 0; /* works on a thread of its own */
    static const int codes[] = {CAL_ENOTFOUND, CAL_EDENIED,  CAL_EINVAL,       CAL_ESTATE,
                                CAL_EVERIFY,   CAL_ETIMEOUT, CAL_EUNREACHABLE, CAL_ENOMEM};
    refuse = input[1] & 1;
    refusal = (cal_error){.code = codes[input[1] >> 3 & 7]};
    bytes = &body;
    snprintf(text, sizeof text, "%.*s", (int)(body.len < 40 ? body.len : 40),
             (const char *)body.data);
    snprintf(refusal.message, sizeof refusal.message, "no: %s", text);
    cal_error err;
    api_state state = {.metrics = metrics_new()};
    state.live = live_new(&state, &err);
    http_env env = {.routes = route,
                    .route_count = 1,
                    .prefix = "",
                    .timeouts = http_timeouts_default,
                    .clock_us = clock_us,
                    .user = &state};
    cal_log_set_level(CAL_LOG_ERROR);
    run(&env, route, input[1], body);
    assert(env.unanswered == 0 && state.calls == 0);
    live_free(state.live);
    metrics_free(state.metrics);
    return 0;
}
