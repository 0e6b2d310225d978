/* Contexts: http-api.md 5.2. */
#include "api/share_rows.h"

#include "base/limits.h"

static const char BAD_ID[] = "Invalid context id";

typedef struct listing {
    json_out out;
    yyjson_mut_val *into;
    api_page page;
    bool with_group, executors;
    cal_node *node;
    cal_group_id group; /* of the one looked at last */
    bool found;
} listing;

static void reply_listing(http_exchange *exchange, listing *list, int error) {
    if (!error) {
        json_reply(exchange, 200, &list->out);
        return;
    }
    yyjson_mut_doc_free(list->out.doc);
    if (error == CAL_ENOTFOUND)
        json_reply_error(exchange, 404, "Context not found");
    else
        json_reply_code(exchange, error);
}

static void write_context(json_out *out, yyjson_mut_val *item, const cal_context_info *context,
                          bool with_group) {
    json_add_base58(out, item, "id", context->id.bytes);
    json_add_base58(out, item, "applicationId", context->application.bytes);
    json_add_text(out, item, "serviceName", context->service);
    json_add_base58(out, item, "contextStateHash", context->root.bytes);
    if (context->head_count > 0) {
        yyjson_mut_val *heads = json_add_array(out, item, "dagHeads");
        for (size_t i = 0; i < context->head_count; i++) {
            yyjson_mut_val *head =
                yyjson_mut_arr_with_uint8(out->doc, context->heads[i].bytes, CAL_ID_SIZE);
            if (!head || !yyjson_mut_arr_append(heads, head)) out->root = NULL;
        }
    }
    json_add_text(out, item, "applicationVersion", context->application_version);
    json_add_text(out, item, "name", context->name);
    if (with_group) json_add_hex(out, item, "groupId", context->group.bytes);
}

/* --- creating and deleting --- */

static void on_created(void *user, const cal_error *err, const cal_context_created *created) {
    http_exchange *exchange = user;
    if (err && err->code == CAL_EGUEST) {
        static const char lead[] = "application initialization failed: ";
        char text[sizeof lead + CAL_ERROR_MESSAGE_MAX];
        bool has_lead = strncmp(err->message, lead, sizeof lead - 1) == 0;
        snprintf(text, sizeof text, "%s%s", has_lead ? "" : lead, err->message);
        json_reply_error(exchange, 400, text);
        return;
    }
    if (err) {
        json_reply_refusal(exchange, err);
        return;
    }
    json_out out = json_out_new();
    yyjson_mut_val *data = json_out_data(&out);
    json_add_base58(&out, data, "contextId", created->id.bytes);
    json_add_base58(&out, data, "memberPublicKey", created->member.bytes);
    json_add_hex(&out, data, "groupId", created->group.bytes);
    json_add_bool(&out, data, "groupCreated", false);
    json_reply(exchange, 200, &out);
}

/* 64 hex digits with the reference's two messages; groups also in base58. */
static bool read_hex(json_in *in, const char *field, const char *label, bool required,
                     uint8_t ret_id[32]) {
    const char *text = json_text(in, json_top(in), field, required);
    if (!text) return false;
    bool group = strcmp(label, "group_id") == 0;
    if (group && strlen(text) < 2 * CAL_ID_SIZE && cal_id_parse(text, ret_id) == 0) return true;
    if (text[strspn(text, "0123456789abcdefABCDEF")] || strlen(text) % 2)
        json_invalid(in, "Invalid %s: expected hex-encoded 32 bytes", label);
    else if (strlen(text) != 2 * CAL_ID_SIZE || cal_id_parse(text, ret_id) != 0)
        json_invalid(in, "Invalid %s: must be exactly 32 bytes", label);
    else
        return true;
    return false;
}

void context_create(http_exchange *exchange) {
    json_in in;
    cal_context_create_options options = {0};
    cal_slice params = {0};
    uint8_t seed[CAL_ID_SIZE], secret[CAL_ID_SIZE];
    bool has_secret = false;
    if (!json_open(&in, exchange, JSON_VALIDATED, false)) return;
    json_place top = json_top(&in);
    json_id(&in, top, "applicationId", true, options.application.bytes);
    read_hex(&in, "groupId", "group_id", true, options.group.bytes);
    json_bytes(&in, top, "initializationParams", true, &params);
    if (json_id(&in, top, "contextSeed", false, seed)) options.seed = seed;
    has_secret = read_hex(&in, "identitySecret", "identity_secret", false, secret);
    if (has_secret)
        json_invalid(&in, "identitySecret is not taken: a node signs everything with the one key "
                          "that GET /admin-api/identity shows; leave the field out");
    options.service = json_text(&in, top, "serviceName", false);
    options.name = json_text(&in, top, "name", false);
    if (params.len > CAL_INIT_PARAMS_MAX)
        json_invalid(&in,
                     "Field 'initialization_params' exceeds maximum size of %d bytes (got %zu)",
                     CAL_INIT_PARAMS_MAX, params.len);
    if (!json_ok(&in)) return;
    options.init_params = params.data;
    options.init_params_len = params.len;
    cal_context_create(api_node(exchange), &options, on_created, exchange);
    json_close(&in);
}

static void on_deleted(void *user, const cal_error *err) {
    http_exchange *exchange = user;
    if (err && err->code == CAL_ENOTFOUND) {
        json_reply_error(exchange, 404, "Context not found");
        return;
    }
    if (err) {
        json_reply_refusal(exchange, err);
        return;
    }
    json_out out = json_out_new();
    json_add_bool(&out, json_out_data(&out), "isDeleted", true);
    json_reply(exchange, 200, &out);
}

void context_remove(http_exchange *exchange) {
    cal_context_id id;
    if (api_param_id(exchange, "id", BAD_ID, id.bytes))
        cal_context_delete(api_node(exchange), &id, on_deleted, exchange);
}

/* --- reading --- */

static void visit_listed(void *user, const cal_context_info *context) {
    listing *list = user;
    if (!api_page_takes(&list->page)) return;
    write_context(&list->out, json_push_object(&list->out, list->into), context, true);
}

static void list_contexts(http_exchange *exchange, const cal_application_id *application) {
    listing list = {.page.limit = API_PAGE_DEFAULT};
    if (!api_page_read(exchange, &list.page)) return;
    list.out = json_out_new();
    list.into = json_add_array(&list.out, json_out_data(&list.out), "contexts");
    int error = cal_context_each(api_node(exchange), application, NULL, visit_listed, &list);
    reply_listing(exchange, &list, error);
}

void context_list(http_exchange *exchange) { list_contexts(exchange, NULL); }

void context_for_application(http_exchange *exchange) {
    cal_application_id id;
    if (api_param_id(exchange, "application", NULL, id.bytes)) list_contexts(exchange, &id);
}

/* Ours: how it stands with others. */
static void write_status(json_out *out, yyjson_mut_val *item, cal_node *node,
                         const cal_context_id *id) {
    cal_sync_status status;
    char peer[CAL_PEER_ID_TEXT_MAX];
    if (cal_context_sync_status(node, id, &status) != 0) {
        json_add_text(out, item, "state", "not shared");
        return;
    }
    json_add_text(out, item, "state", cal_sync_state_text(status.state));
    if (status.peer.len) {
        cal_peer_id_text(&status.peer, peer);
        json_add_text(out, item, "peer", peer);
        json_add_u64(out, item, "comparedAt", status.compared_ms);
    }
    json_add_u64(out, item, "waiting", status.waiting);
    json_add_u64(out, item, "failures", status.failures);
    if (status.why[0]) json_add_text(out, item, "why", status.why);
}

static void visit_one(void *user, const cal_context_info *context) {
    listing *list = user;
    yyjson_mut_val *data = json_out_data(&list->out);
    write_context(&list->out, data, context, false);
    write_status(&list->out, json_add_object(&list->out, data, "syncStatus"), list->node,
                 &context->id);
}

void context_get(http_exchange *exchange) {
    cal_context_id id;
    if (!api_param_id(exchange, "id", NULL, id.bytes)) return;
    listing list = {.out = json_out_new(), .node = api_node(exchange)};
    int error = cal_context_get(api_node(exchange), &id, visit_one, &list);
    reply_listing(exchange, &list, error);
}

static void ignore_context(void *user, const cal_context_info *context) {
    (void)user, (void)context;
}

static void visit_key(void *user, const cal_public_key *key) {
    listing *list = user;
    list->found = true;
    json_push_base58(&list->out, list->into, key->bytes);
}

static void reply_identities(http_exchange *exchange, bool owned) {
    cal_context_id id;
    if (!api_param_id(exchange, "id", NULL, id.bytes)) return;
    listing list = {.out = json_out_new()};
    list.into = json_add_array(&list.out, json_out_data(&list.out), "identities");
    int error = cal_context_identities(api_node(exchange), &id, owned, visit_key, &list);
    reply_listing(exchange, &list, error);
}

void context_identities(http_exchange *exchange) { reply_identities(exchange, false); }
void context_identities_owned(http_exchange *exchange) { reply_identities(exchange, true); }

static void visit_executors(void *user, const cal_context_info *context) {
    listing *list = user;
    yyjson_mut_val *item = json_push_object(&list->out, list->into), *all = list->into;
    json_add_base58(&list->out, item, "id", context->id.bytes);
    json_add_base58(&list->out, item, "application_id", context->application.bytes);
    json_add_base58(&list->out, item, "contextStateHash", context->root.bytes);
    list->into = json_add_array(&list->out, item, "executors");
    int error = cal_context_identities(list->node, &context->id, true, visit_key, list);
    if (error && error != CAL_ENOTFOUND) list->out.root = NULL;
    list->into = all;
}

void context_with_executors(http_exchange *exchange) {
    cal_application_id id;
    if (!api_param_id(exchange, "application", NULL, id.bytes)) return;
    listing list = {.out = json_out_new(), .node = api_node(exchange)};
    list.into = json_add_array(&list.out, list.out.root, "contexts");
    int error = cal_context_each(list.node, &id, NULL, visit_executors, &list);
    reply_listing(exchange, &list, error);
}

static void visit_group(void *user, const cal_context_info *context) {
    listing *list = user;
    list->group = context->group;
}

void context_group(http_exchange *exchange) {
    cal_context_id id;
    if (!api_param_id(exchange, "id", NULL, id.bytes)) return;
    listing list = {.out = json_out_new()};
    int error = cal_context_get(api_node(exchange), &id, visit_group, &list);
    if (!error) json_add_hex(&list.out, list.out.root, "data", list.group.bytes);
    reply_listing(exchange, &list, error);
}

static void on_size(void *user, const cal_error *err, uint64_t bytes) {
    listing list = {.out = json_out_new()};
    json_add_u64(&list.out, json_out_data(&list.out), "sizeInBytes", bytes);
    reply_listing(user, &list, err ? err->code : 0);
}

void context_storage(http_exchange *exchange) {
    cal_context_id id;
    if (api_param_id(exchange, "id", "Invalid context ID format", id.bytes))
        cal_context_size(api_node(exchange), &id, on_size, exchange);
}

/* --- with others --- */

static void reply_self(http_exchange *exchange) {
    cal_context_id id;
    cal_node_identity self;
    if (!api_param_id(exchange, "id", BAD_ID, id.bytes)) return;
    cal_node_identity_get(api_node(exchange), &self);
    json_out out = json_out_new();
    yyjson_mut_val *data = json_out_data(&out);
    json_add_base58(&out, data, "contextId", id.bytes);
    json_add_base58(&out, data, "memberPublicKey", self.public_key.bytes);
    json_reply(exchange, 200, &out);
}

static void on_part_changed(void *user, const cal_error *err) {
    if (err)
        json_reply_refusal(user, err);
    else
        reply_self(user);
}

static bool param_context(http_exchange *exchange, cal_context_id *ret_id) {
    return api_param_id(exchange, "id",
                        "Invalid context id format: expected base58 or hex-encoded 32 bytes",
                        ret_id->bytes);
}

/* By membership of its group; a read-only server only says who this node is in it. */
void context_join(http_exchange *exchange) {
    cal_context_id id;
    bool read_only = ((api_state *)http_user(exchange))->read_only;
    if (!param_context(exchange, &id)) return;
    if (!read_only)
        cal_context_join(api_node(exchange), &id, on_part_changed, exchange);
    else if (cal_context_get(api_node(exchange), &id, ignore_context, NULL) == 0)
        reply_self(exchange);
    else
        api_refuse_write(exchange);
}

void context_leave(http_exchange *exchange) {
    cal_context_id id;
    if (param_context(exchange, &id))
        cal_context_leave(api_node(exchange), &id, on_part_changed, exchange);
}

/* Nobody there to compare with is no failure of the request, as in the reference: the context's
 * status says so. */
static void on_synced(void *user, const cal_error *err) {
    if (err && err->code == CAL_ENOTFOUND)
        json_reply_error(user, 404, "Context not found");
    else if (err && err->code != CAL_EUNREACHABLE && err->code != CAL_ETIMEOUT)
        json_reply_refusal(user, err);
    else
        json_reply_data_null(user);
}

void context_sync_all(http_exchange *exchange) {
    cal_context_sync(api_node(exchange), NULL, on_synced, exchange);
}

/* An id that is none stands for all of them. */
void context_sync(http_exchange *exchange) {
    cal_context_id id;
    bool one = cal_id_parse(http_param(exchange, "id"), id.bytes) == 0;
    cal_context_sync(api_node(exchange), one ? &id : NULL, on_synced, exchange);
}

static void ignore_done(void *user, const cal_error *err) { (void)user, (void)err; }

/* Begins a comparison, which takes whatever is missing; nothing here is thrown away for it, so
 * `force` changes nothing. */
void context_resync(http_exchange *exchange) {
    json_in in;
    cal_context_id id;
    if (!api_param_id(exchange, "id", BAD_ID, id.bytes) ||
        !json_open(&in, exchange, JSON_VALIDATED, true))
        return;
    json_bool(&in, json_top(&in), "force");
    if (!json_ok(&in)) return;
    json_close(&in);
    if (cal_context_get(api_node(exchange), &id, ignore_context, NULL) != 0) {
        json_reply_error(exchange, 404, "Context not found");
        return;
    }
    cal_context_sync(api_node(exchange), &id, ignore_done, NULL);
    json_out out = json_out_new();
    json_add_hex(&out, out.root, "contextId", id.bytes);
    json_add_bool(&out, out.root, "resyncStarted", true);
    json_reply(exchange, 200, &out);
}
