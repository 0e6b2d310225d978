/* JSON-RPC: the envelope, the three methods and their errors. See rpc.h. */
#include "api/rpc.h"

#include "calimero/share.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

#include "api/live.h"
#include "base/limits.h"

enum { METHOD_NAME_MAX = 256, EPHEMERAL_MAX = 16384, BODY_SLACK = 256 };

static const char NOT_OWNED[] = "No owned identity found for this context";
static const char TARGET[] = "Failed to deserialize the JSON body into the target type: ";

yyjson_doc *rpc_read(cal_slice text) {
    return yyjson_read_opts((char *)(uintptr_t)text.data, text.len, YYJSON_READ_NUMBER_AS_RAW, NULL,
                            NULL);
}

bool rpc_u64(yyjson_val *value, uint64_t *ret_value) {
    const char *text = yyjson_is_raw(value) ? yyjson_get_raw(value) : NULL;
    size_t len = yyjson_get_len(value);
    char *end;
    if (!text || len == 0 || !isdigit((unsigned char)text[0])) return false;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno || (size_t)(end - text) != len) return false;
    *ret_value = number;
    return true;
}

/* --- bodies --- */

static void send_body(cal_buffer *body, rpc_done done, void *user) {
    if (!body->error)
        done(user, cal_buffer_slice(body));
    else
        done(user, cal_slice_text("\"error\":{\"type\":\"InternalError\",\"data\":{}}"));
    cal_buffer_deinit(body);
}

/* Sends `"NAME":<document>`; frees the document. */
static void send_document(const char *name, json_out *out, rpc_done done, void *user) {
    cal_buffer body;
    cal_buffer_init(&body, API_TEXT_MAX);
    cal_buffer_printf(&body, "\"%s\":", name);
    int error = json_out_write(out, &body);
    if (error) body.error = error;
    send_body(&body, done, user);
}

/* {"type": type} and data to fill in. */
static json_out error_of(const char *type) {
    json_out out = json_out_new();
    json_add_text(&out, out.root, "type", type);
    return out;
}

static void send_error_text(const char *type, const char *text, rpc_done done, void *user) {
    json_out out = error_of(type);
    json_add_text(&out, out.root, "data", text);
    send_document("error", &out, done, user);
}

static void send_error_id(const char *type, const char *field, const uint8_t id[32], rpc_done done,
                          void *user) {
    json_out out = error_of(type);
    json_add_base58(&out, json_add_object(&out, out.root, "data"), field, id);
    send_document("error", &out, done, user);
}

void rpc_parse_error(const char *reason, rpc_done done, void *user) {
    send_error_text("ParseError", reason, done, user);
}

/* --- params --- */

/* A member of params; false: `reason` says what is missing. */
static bool member(yyjson_val *params, const char *name, yyjson_val **ret_value,
                   char reason[RPC_REASON_MAX]) {
    if (!params)
        snprintf(reason, RPC_REASON_MAX, "missing field `params`");
    else if (!yyjson_is_obj(params))
        snprintf(reason, RPC_REASON_MAX, "invalid type: %s, expected a map",
                 yyjson_get_type_desc(params));
    else if (!(*ret_value = yyjson_obj_get(params, name)))
        snprintf(reason, RPC_REASON_MAX, "missing field `%s`", name);
    else
        return true;
    return false;
}

static bool read_id(yyjson_val *value, uint8_t ret_id[32], char reason[RPC_REASON_MAX]) {
    const char *text = yyjson_get_str(value);
    if (!text || strlen(text) != yyjson_get_len(value))
        snprintf(reason, RPC_REASON_MAX, "invalid type: %s, expected a base58 encoded hash",
                 yyjson_get_type_desc(value));
    else if (cal_id_parse(text, ret_id) != 0)
        json_id_fault(text, reason, RPC_REASON_MAX);
    else
        return true;
    return false;
}

static bool context_of(yyjson_val *params, cal_context_id *ret_id, char reason[RPC_REASON_MAX]) {
    yyjson_val *value;
    return member(params, "contextId", &value, reason) && read_id(value, ret_id->bytes, reason);
}

bool rpc_ids(yyjson_val *params, const char *name, uint8_t (*ret_ids)[32], size_t max,
             size_t *ret_count, char reason[RPC_REASON_MAX]) {
    yyjson_val *list = yyjson_is_obj(params) ? yyjson_obj_get(params, name) : NULL, *item;
    size_t index, total, count = 0;
    *ret_count = 0;
    if (!params) {
        snprintf(reason, RPC_REASON_MAX, "missing field `params`");
        return false;
    }
    if (!yyjson_is_obj(params) || (list && !yyjson_is_arr(list))) {
        snprintf(reason, RPC_REASON_MAX, "invalid type: %s, expected %s",
                 yyjson_get_type_desc(list ? list : params), list ? "a sequence" : "a map");
        return false;
    }
    if (!list) return true;
    yyjson_arr_foreach(list, index, total, item) {
        if (count == max) break;
        if (!read_id(item, ret_ids[count], reason)) return false;
        count++;
    }
    *ret_count = count;
    return true;
}

/* --- execute --- */

typedef struct rpc_call {
    api_state *state;
    cal_context_id context;
    rpc_done done;
    void *user;
} rpc_call;

/* The guest's own error: its text as the reference has it, and beside it what a person can read
 * (http-api.md 14). */
static void send_failure(const rpc_call *call, const cal_call_result *result) {
    json_out out = error_of("FunctionCallError");
    json_add_text(&out, out.root, "data", result->message);
    cal_slice guest = cal_slice_of(result->guest_error, result->guest_error_len);
    if (result->guest_error && json_is_valid(guest))
        json_add_raw(&out, out.root, "error", guest);
    else if (result->guest_error) {
        char *text = strndup((const char *)guest.data, guest.len);
        json_add_text(&out, out.root, "error", text);
        free(text);
    }
    send_document("error", &out, call->done, call->user);
}

static void send_unauthorized(const rpc_call *call) {
    cal_node_identity identity;
    cal_node_identity_get(call->state->node, &identity);
    json_out out = error_of("Unauthorized");
    yyjson_mut_val *data = json_add_object(&out, out.root, "data");
    json_add_base58(&out, data, "context_id", call->context.bytes);
    json_add_base58(&out, data, "public_key", identity.public_key.bytes);
    send_document("error", &out, call->done, call->user);
}

static void send_internal(const rpc_call *call, const char *message) {
    json_out out = error_of("InternalError");
    json_add_text(&out, json_add_object(&out, out.root, "data"), "kind", "other");
    json_add_text(&out, out.root, "error",
                  message); /* why, for a person: the reference says nothing */
    send_document("error", &out, call->done, call->user);
}

static void send_output(const rpc_call *call, const cal_call_result *result) {
    cal_slice output = cal_slice_of(result->output, result->output_len);
    if (result->output && !json_is_valid(output)) {
        json_out out = error_of("SerdeError");
        json_add_text(&out, json_add_object(&out, out.root, "data"), "message",
                      "the method returned bytes that are not JSON");
        send_document("error", &out, call->done, call->user);
        return;
    }
    cal_buffer body;
    cal_buffer_init(&body, output.len + BODY_SLACK);
    cal_buffer_append_text(&body, "\"result\":{\"output\":");
    if (result->output)
        cal_buffer_append_slice(&body, output);
    else
        cal_buffer_append_text(&body, "null");
    cal_buffer_append_text(&body, "}");
    send_body(&body, call->done, call->user);
}

static void on_called(void *user, const cal_call_result *result) {
    rpc_call *call = user;
    switch (result->status) {
    case CAL_CALL_OK:
        send_output(call, result);
        break;
    case CAL_CALL_FAILED:
        send_failure(call, result);
        break;
    case CAL_CALL_NOT_FOUND:
        send_error_text("FunctionCallError", NOT_OWNED, call->done, call->user);
        break;
    case CAL_CALL_UNINITIALIZED: {
        json_out out = error_of("Uninitialized");
        send_document("error", &out, call->done, call->user);
        break;
    }
    case CAL_CALL_UNAUTHORIZED:
        send_unauthorized(call);
        break;
    case CAL_CALL_NOT_INSTALLED:
        send_error_id("ApplicationNotInstalled", "application_id", result->application.bytes,
                      call->done, call->user);
        break;
    case CAL_CALL_INTERNAL:
        send_internal(call, result->message);
        break;
    }
    call->state->calls--;
    free(call);
}

/* false: `reason` holds the reference's words. */
static bool check_method(yyjson_val *value, const char **ret_method, char reason[RPC_REASON_MAX]) {
    const char *method = yyjson_get_str(value);
    size_t len = yyjson_get_len(value);
    if (!method) {
        snprintf(reason, RPC_REASON_MAX, "invalid type: %s, expected a string",
                 yyjson_get_type_desc(value));
        return false;
    }
    if (len == 0)
        snprintf(reason, RPC_REASON_MAX, "Field 'method' is required but was empty");
    else if (len > METHOD_NAME_MAX)
        snprintf(reason, RPC_REASON_MAX,
                 "Field 'method' exceeds maximum length of %d characters (got %zu)",
                 METHOD_NAME_MAX, len);
    else {
        for (size_t i = 0; i < len; i++) {
            unsigned char c = (unsigned char)method[i];
            if (c >= 0x20 && c != 0x7f) continue;
            const char *escape = c == '\t' ? "\\t" : c == '\n' ? "\\n" : c == '\r' ? "\\r" : NULL;
            char code[16];
            snprintf(code, sizeof code, "\\u{%x}", c);
            snprintf(reason, RPC_REASON_MAX,
                     "Field 'method' has invalid format: contains control character '%s' which is "
                     "not allowed",
                     escape ? escape : code);
            return false;
        }
        *ret_method = method;
        return true;
    }
    return false;
}

void rpc_execute(api_state *state, yyjson_val *params, rpc_done done, void *user) {
    char reason[RPC_REASON_MAX];
    yyjson_val *method_value = NULL, *args_value = NULL;
    const char *method = NULL;
    cal_context_id context;
    if (state->read_only) {
        send_error_text("FunctionCallError", API_READ_ONLY, done, user);
        return;
    }
    if (!context_of(params, &context, reason) || !member(params, "method", &method_value, reason) ||
        !member(params, "argsJson", &args_value, reason) ||
        !check_method(method_value, &method, reason)) {
        rpc_parse_error(reason, done, user);
        return;
    }
    size_t len = 0;
    char *args = yyjson_val_write(args_value, YYJSON_WRITE_NOFLAG, &len);
    rpc_call *call = args ? malloc(sizeof *call) : NULL;
    if (args && len > CAL_CALL_ARGS_MAX) {
        snprintf(reason, sizeof reason,
                 "Field 'args_json' exceeds maximum size of %d bytes (got %zu)", CAL_CALL_ARGS_MAX,
                 len);
        rpc_parse_error(reason, done, user);
        free(call);
    } else if (!call)
        done(user, cal_slice_text("\"error\":{\"type\":\"InternalError\",\"data\":{}}"));
    else {
        *call = (rpc_call){state, context, done, user};
        state->calls++;
        cal_execute(state->node, &context, method, args, len, on_called, call);
    }
    free(args);
}

/* --- sync_status, set_ephemeral --- */

static void note_initialised(void *user, const cal_context_info *info) {
    static const cal_hash none;
    *(bool *)user = memcmp(info->root.bytes, none.bytes, sizeof none.bytes) != 0;
}

/* What is waited for is under way; an initialised context never waits for peers (http-api.md 6). */
static const char *state_word(const cal_sync_status *status, bool initialised) {
    switch (status->state) {
    case CAL_SYNC_BEHIND:
    case CAL_SYNC_DIFFERENT:
    case CAL_SYNC_WAITING:
        return "syncing";
    case CAL_SYNC_ALONE:
    case CAL_SYNC_UNKNOWN:
    case CAL_SYNC_EQUAL:
        break;
    }
    return initialised ? "idle" : "waitingForPeers";
}

void rpc_write_sync_status(json_out *out, yyjson_mut_val *object, cal_node *node,
                           const cal_context_id *context, bool initialised) {
    cal_sync_status status = {.state = CAL_SYNC_ALONE};
    cal_context_sync_status(node, context, &status); /* not shared: alone */
    json_add_text(out, json_add_object(out, object, "syncState"), "state",
                  state_word(&status, initialised));
    json_add_u64(out, object, "failureCount", status.failures);
    if (status.why[0]) json_add_text(out, object, "lastError", status.why);
}

void rpc_sync_status(api_state *state, yyjson_val *params, rpc_done done, void *user) {
    char reason[RPC_REASON_MAX];
    cal_context_id context;
    bool initialised = false;
    if (!context_of(params, &context, reason)) {
        rpc_parse_error(reason, done, user);
        return;
    }
    if (cal_context_get(state->node, &context, note_initialised, &initialised) != 0) {
        json_out out = error_of("ContextNotFound");
        send_document("error", &out, done, user);
        return;
    }
    json_out out = json_out_new();
    json_add_base58(&out, out.root, "contextId", context.bytes);
    json_add_bool(&out, out.root, "isInitialized", initialised);
    rpc_write_sync_status(&out, out.root, state->node, &context, initialised);
    send_document("result", &out, done, user);
}

typedef struct owned_key {
    cal_public_key key;
    bool found;
} owned_key;

static void note_key(void *user, const cal_public_key *key) {
    owned_key *owned = user;
    if (!owned->found) *owned = (owned_key){*key, true};
}

static bool read_state(yyjson_val *value, uint8_t *ret_bytes, size_t *ret_len,
                       char reason[RPC_REASON_MAX]) {
    yyjson_val *item;
    size_t index, count;
    if (!yyjson_is_arr(value)) {
        snprintf(reason, RPC_REASON_MAX, "invalid type: %s, expected a sequence",
                 yyjson_get_type_desc(value));
        return false;
    }
    yyjson_arr_foreach(value, index, count, item) {
        uint64_t number;
        if (!rpc_u64(item, &number) || number > UINT8_MAX) {
            snprintf(reason, RPC_REASON_MAX, "invalid value at index %zu, expected u8", index);
            return false;
        }
        if (index < EPHEMERAL_MAX) ret_bytes[index] = (uint8_t)number;
    }
    *ret_len = yyjson_arr_size(value);
    return true;
}

void rpc_set_ephemeral(api_state *state, yyjson_val *params, rpc_done done, void *user) {
    char reason[RPC_REASON_MAX];
    cal_context_id context;
    yyjson_val *value = NULL;
    uint8_t bytes[EPHEMERAL_MAX];
    size_t len = 0;
    owned_key owned = {0};
    if (!context_of(params, &context, reason) || !member(params, "state", &value, reason) ||
        !read_state(value, bytes, &len, reason)) {
        rpc_parse_error(reason, done, user);
        return;
    }
    int error = cal_context_identities(state->node, &context, true, note_key, &owned);
    if (error || !owned.found) {
        json_out out = error_of("NoOwnedIdentity");
        send_document("error", &out, done, user);
    } else if (len > EPHEMERAL_MAX) {
        json_out out = error_of("SliceTooLarge");
        yyjson_mut_val *data = json_add_object(&out, out.root, "data");
        json_add_u64(&out, data, "size", len);
        json_add_u64(&out, data, "max", EPHEMERAL_MAX);
        send_document("error", &out, done, user);
    } else {
        error = live_set_presence(state->live, &context, &owned.key, cal_slice_of(bytes, len));
        json_out out = error ? error_of("InternalError") : json_out_new();
        if (error) json_add_text(&out, out.root, "data", cal_error_text(error));
        send_document(error ? "error" : "result", &out, done, user);
    }
}

/* --- POST /jsonrpc --- */

int rpc_envelope(yyjson_val *root, cal_buffer *ret_head, char reason[RPC_REASON_MAX]) {
    yyjson_val *version = yyjson_is_obj(root) ? yyjson_obj_get(root, "jsonrpc") : NULL;
    yyjson_val *id = version ? yyjson_obj_get(root, "id") : NULL;
    uint64_t number = 0;
    if (!yyjson_is_obj(root))
        snprintf(reason, RPC_REASON_MAX, "%sinvalid type: %s, expected a map", TARGET,
                 yyjson_get_type_desc(root));
    else if (!version)
        snprintf(reason, RPC_REASON_MAX, "%smissing field `jsonrpc`", TARGET);
    else if (!yyjson_equals_str(version, "2.0"))
        snprintf(reason, RPC_REASON_MAX, "%sjsonrpc: Invalid JSON-RPC version", TARGET);
    else if (!id)
        snprintf(reason, RPC_REASON_MAX, "%smissing field `id`", TARGET);
    else if (!yyjson_is_null(id) && !yyjson_is_str(id) && !rpc_u64(id, &number))
        snprintf(reason, RPC_REASON_MAX,
                 "%sid: data did not match any variant of untagged enum RequestId", TARGET);
    else {
        char *text = yyjson_val_write(id, YYJSON_WRITE_NOFLAG, NULL);
        cal_buffer_printf(ret_head, "{\"jsonrpc\":\"2.0\",\"id\":%s,", text ? text : "null");
        free(text);
        return 0;
    }
    return 422;
}

static void on_rpc_done(void *user, cal_slice body) {
    http_exchange *exchange = user;
    cal_buffer *reply = http_get_user(exchange);
    reply->max += body.len + 1;
    cal_buffer_append_slice(reply, body);
    cal_buffer_append_u8(reply, '}');
    cal_buffer text = *reply; /* the exchange takes its arena along, and `reply` with it */
    if (text.error)
        json_reply_code(exchange, text.error);
    else
        http_reply(exchange, 200, "application/json", cal_buffer_slice(&text));
    cal_buffer_deinit(&text);
}

static void dispatch(http_exchange *exchange, yyjson_val *root) {
    static const char unknown[] =
        "unknown variant `%.200s`, expected one of `execute`, `sync_status`, `set_ephemeral`";
    api_state *state = http_user(exchange);
    yyjson_val *method = yyjson_obj_get(root, "method"), *params = yyjson_obj_get(root, "params");
    const char *name = yyjson_get_str(method);
    char reason[RPC_REASON_MAX];
    if (!method)
        rpc_parse_error("missing field `method`", on_rpc_done, exchange);
    else if (!name)
        rpc_parse_error("invalid type for `method`, expected a string", on_rpc_done, exchange);
    else if (strcmp(name, "execute") == 0)
        rpc_execute(state, params, on_rpc_done, exchange);
    else if (strcmp(name, "sync_status") == 0)
        rpc_sync_status(state, params, on_rpc_done, exchange);
    else if (strcmp(name, "set_ephemeral") == 0)
        rpc_set_ephemeral(state, params, on_rpc_done, exchange);
    else {
        snprintf(reason, sizeof reason, unknown, name);
        rpc_parse_error(reason, on_rpc_done, exchange);
    }
}

void rpc_post(http_exchange *exchange) {
    char reason[RPC_REASON_MAX];
    if (!json_has_type(exchange)) {
        http_reply_text(exchange, 415, "Expected request with `Content-Type: application/json`");
        return;
    }
    yyjson_doc *doc = rpc_read(http_body(exchange));
    cal_buffer *reply = cal_arena_alloc(http_arena(exchange), sizeof *reply);
    if (!doc || !reply) {
        if (!doc)
            http_reply_text(exchange, 400, "Failed to parse the request body as JSON");
        else
            json_reply_code(exchange, CAL_ENOMEM);
        yyjson_doc_free(doc);
        return;
    }
    cal_buffer_init(reply, CAL_HTTP_BODY_MAX * 2);
    int status = rpc_envelope(yyjson_doc_get_root(doc), reply, reason);
    if (status) {
        cal_buffer_deinit(reply);
        http_reply_text(exchange, status, reason);
    } else {
        http_set_user(exchange, reply);
        dispatch(exchange, yyjson_doc_get_root(doc));
    }
    yyjson_doc_free(doc);
}
