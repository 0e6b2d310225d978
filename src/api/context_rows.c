/* Contexts: http-api.md 5.2. */
#include "api/api.h"

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

/* 64 hex digits with the reference's two messages. */
static void read_hex(json_in *in, const char *field, const char *label, bool required,
                     uint8_t ret_id[32]) {
    const char *text = json_text(in, json_top(in), field, required);
    if (!text) return;
    if (text[strspn(text, "0123456789abcdefABCDEF")] || strlen(text) % 2)
        json_invalid(in, "Invalid %s: expected hex-encoded 32 bytes", label);
    else if (strlen(text) != 2 * CAL_ID_SIZE || cal_id_parse(text, ret_id) != 0)
        json_invalid(in, "Invalid %s: must be exactly 32 bytes", label);
}

void context_create(http_exchange *exchange) {
    json_in in;
    cal_context_create_options options = {0};
    cal_slice params = {0};
    uint8_t seed[CAL_ID_SIZE], secret[CAL_ID_SIZE];
    if (!json_open(&in, exchange, JSON_VALIDATED, false)) return;
    json_place top = json_top(&in);
    json_id(&in, top, "applicationId", true, options.application.bytes);
    read_hex(&in, "groupId", "group_id", true, options.group.bytes);
    json_bytes(&in, top, "initializationParams", true, &params);
    if (json_id(&in, top, "contextSeed", false, seed)) options.seed = seed;
    read_hex(&in, "identitySecret", "identity_secret", false, secret);
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

static void visit_one(void *user, const cal_context_info *context) {
    listing *list = user;
    write_context(&list->out, json_out_data(&list->out), context, false);
}

void context_get(http_exchange *exchange) {
    cal_context_id id;
    if (!api_param_id(exchange, "id", NULL, id.bytes)) return;
    listing list = {.out = json_out_new()};
    int error = cal_context_get(api_node(exchange), &id, visit_one, &list);
    reply_listing(exchange, &list, error);
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

static void visit_member(void *user, const cal_public_key *key) {
    listing *list = user;
    if (list->found) return;
    list->found = true;
    json_add_base58(&list->out, list->into, "memberPublicKey", key->bytes);
}

/* Joining a context that is here says who this node is in it; any other needs a peer to ask, and
 * there is none yet. */
void context_join(http_exchange *exchange) {
    cal_context_id id;
    if (!api_param_id(exchange, "id",
                      "Invalid context id format: expected base58 or hex-encoded 32 bytes",
                      id.bytes))
        return;
    listing list = {.out = json_out_new()};
    list.into = json_out_data(&list.out);
    json_add_base58(&list.out, list.into, "contextId", id.bytes);
    int error = cal_context_identities(api_node(exchange), &id, true, visit_member, &list);
    if (!error && list.found) {
        json_reply(exchange, 200, &list.out);
        return;
    }
    yyjson_mut_doc_free(list.out.doc);
    if (error && error != CAL_ENOTFOUND)
        json_reply_code(exchange, error);
    else
        json_reply_error(exchange, 504,
                         "could not reach any member of this context: this node has no peers");
}

/* Without peers every context is as much in sync as it can be. */
void context_sync(http_exchange *exchange) { json_reply_data_null(exchange); }
