/* Namespaces and the groups below them: http-api.md 5.4 and the cheap rows of 5.5. */
#include "api/share_rows.h"

#include <stdlib.h>
#include <strings.h>

typedef struct listing {
    json_out out;
    yyjson_mut_val *into;
    api_page page;
} listing;

static void reply_listing(http_exchange *exchange, listing *list, int error, const char *missing) {
    if (!error) {
        json_reply(exchange, 200, &list->out);
        return;
    }
    yyjson_mut_doc_free(list->out.doc);
    if (error == CAL_ENOTFOUND)
        json_reply_error(exchange, 404, missing);
    else
        json_reply_code(exchange, error);
}

static bool param_group(http_exchange *exchange, cal_group_id *ret_id) {
    return api_param_group(exchange, "id", ret_id);
}

/* --- creating and deleting --- */

static void reply_group(http_exchange *exchange, const cal_error *err, const cal_group_id *id,
                        const char *name) {
    if (err) {
        json_reply_refusal(exchange, err);
        return;
    }
    json_out out = json_out_new();
    json_add_hex(&out, json_out_data(&out), name, id->bytes);
    json_reply(exchange, 200, &out);
}

static void on_namespace_created(void *user, const cal_error *err, const cal_group_id *id) {
    reply_group(user, err, id, "namespaceId");
}

static void on_group_created(void *user, const cal_error *err, const cal_group_id *id) {
    reply_group(user, err, id, "groupId");
}

void namespace_create(http_exchange *exchange) {
    json_in in;
    cal_application_id application;
    cal_blob_id app_key;
    bool pinned = false;
    if (!json_open(&in, exchange, JSON_VALIDATED, false)) return;
    json_id(&in, json_top(&in), "applicationId", true, application.bytes);
    const char *name = json_text(&in, json_top(&in), "name", false);
    const char *key = json_text(&in, json_top(&in), "appKey", false);
    if (key) {
        pinned = cal_id_parse(key, app_key.bytes) == 0;
        if (!pinned) json_invalid(&in, "Invalid appKey: expected hex-encoded 32 bytes");
    }
    if (!json_ok(&in)) return;
    cal_namespace_create(api_node(exchange), &application, pinned ? &app_key : NULL, name,
                         on_namespace_created, exchange);
    json_close(&in);
}

static void on_deleted(void *user, const cal_error *err) {
    http_exchange *exchange = user;
    if (err && err->code == CAL_ENOTFOUND)
        json_reply_error(exchange, 404, "Namespace not found");
    else if (err)
        json_reply_refusal(exchange, err);
    else {
        json_out out = json_out_new();
        json_add_bool(&out, json_out_data(&out), "isDeleted", true);
        json_reply(exchange, 200, &out);
    }
}

/* The reference wants a body here and uses nothing of it; none is needed (http-api.md 15). */
void namespace_remove(http_exchange *exchange) {
    cal_group_id id;
    if (param_group(exchange, &id))
        cal_namespace_delete(api_node(exchange), &id, on_deleted, exchange);
}

void group_create(http_exchange *exchange) {
    json_in in;
    cal_group_id id;
    if (!param_group(exchange, &id) || !json_open(&in, exchange, JSON_PLAIN, true)) return;
    const char *name = json_text(&in, json_top(&in), "groupName", false);
    const char *visibility = json_text(&in, json_top(&in), "visibility", false);
    bool open = visibility && strcasecmp(visibility, "open") == 0;
    if (visibility && !open && strcasecmp(visibility, "restricted") != 0)
        json_invalid(&in, "visibility must be 'open' or 'restricted'");
    if (!json_ok(&in)) return;
    cal_group_create(api_node(exchange), &id, name, open, on_group_created, exchange);
    json_close(&in);
}

/* --- reading --- */

static void write_namespace(json_out *out, yyjson_mut_val *item, const cal_namespace_info *info) {
    json_add_hex(out, item, "namespaceId", info->id.bytes);
    json_add_hex(out, item, "appKey", info->app_key.bytes);
    json_add_base58(out, item, "targetApplicationId", info->application.bytes);
    json_add_u64(out, item, "createdAt", info->created_at_s);
    json_add_text(out, item, "name", info->name);
    json_add_u64(out, item, "memberCount", info->members);
    json_add_u64(out, item, "contextCount", info->contexts);
    json_add_u64(out, item, "subgroupCount", info->subgroups);
    json_add_text(out, item, "appVersion", info->app_version);
}

static void visit_listed(void *user, const cal_namespace_info *info) {
    listing *list = user;
    if (!api_page_takes(&list->page)) return;
    write_namespace(&list->out, json_push_object(&list->out, list->into), info);
}

static void list_namespaces(http_exchange *exchange, const cal_application_id *application) {
    listing list = {0};
    if (!api_page_read(exchange, &list.page)) return;
    list.out = json_out_new();
    list.into = json_add_array(&list.out, list.out.root, "data");
    int error = cal_namespace_each(api_node(exchange), application, visit_listed, &list);
    reply_listing(exchange, &list, error, "Namespace not found");
}

void namespace_list(http_exchange *exchange) { list_namespaces(exchange, NULL); }

void namespace_for_application(http_exchange *exchange) {
    cal_application_id id;
    if (api_param_id(exchange, "application", "Invalid application id", id.bytes))
        list_namespaces(exchange, &id);
}

static void visit_one(void *user, const cal_namespace_info *info) {
    listing *list = user;
    write_namespace(&list->out, json_out_data(&list->out), info);
}

void namespace_get(http_exchange *exchange) {
    cal_group_id id;
    if (!param_group(exchange, &id)) return;
    listing list = {.out = json_out_new()};
    int error = cal_namespace_get(api_node(exchange), &id, visit_one, &list);
    reply_listing(exchange, &list, error, "Namespace not found");
}

static void visit_group(void *user, const cal_group_info *info) {
    listing *list = user;
    yyjson_mut_val *item = json_push_object(&list->out, list->into);
    json_add_hex(&list->out, item, "groupId", info->id.bytes);
    json_add_text(&list->out, item, "name", info->name);
}

void group_list(http_exchange *exchange) {
    cal_group_id id;
    if (!param_group(exchange, &id)) return;
    listing list = {.out = json_out_new()};
    list.into = json_add_array(&list.out, list.out.root, "data");
    int error = cal_group_each(api_node(exchange), &id, visit_group, &list);
    reply_listing(exchange, &list, error, "Namespace not found");
}

static void visit_context(void *user, const cal_context_info *info) {
    listing *list = user;
    if (!api_page_takes(&list->page)) return;
    yyjson_mut_val *item = json_push_object(&list->out, list->into);
    json_add_base58(&list->out, item, "contextId", info->id.bytes);
    json_add_text(&list->out, item, "name", info->name);
}

void group_contexts(http_exchange *exchange) {
    cal_group_id id;
    listing list = {0};
    if (!param_group(exchange, &id) || !api_page_read(exchange, &list.page)) return;
    list.out = json_out_new();
    list.into = json_add_array(&list.out, list.out.root, "data");
    int error = cal_context_each(api_node(exchange), NULL, &id, visit_context, &list);
    reply_listing(exchange, &list, error, "Group not found");
}
