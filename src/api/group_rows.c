/* Groups and what they are set to: http-api.md 5.5. */
#include "api/api.h"
#include "api/share_rows.h"

typedef struct group_listing {
    json_out out;
    yyjson_mut_val *into;
    api_page page;
    cal_node *node;
} group_listing;

bool api_reply_listing(http_exchange *exchange, json_out *out, int error, const char *missing) {
    if (!error) {
        json_reply(exchange, 200, out);
        return true;
    }
    yyjson_mut_doc_free(out->doc);
    *out = (json_out){0};
    if (error == CAL_ENOTFOUND)
        json_reply_error(exchange, 404, missing);
    else if (error == CAL_EDENIED)
        json_reply_error(exchange, 403, "this node may not see this: it is no member of the group");
    else
        json_reply_code(exchange, error);
    return false;
}

static bool is_hex(const char *text) { return text[strspn(text, "0123456789abcdefABCDEF")] == 0; }

/* 64 hex digits; base58 is tolerated (http-api.md 15). */
bool api_param_group(http_exchange *exchange, const char *name, cal_group_id *ret_id) {
    static const char BAD_HEX[] = "Invalid group id format: expected hex-encoded 32 bytes";
    static const char BAD_LENGTH[] = "Invalid group id: must be exactly 32 bytes";
    const char *text = http_param(exchange, name);
    bool hex = is_hex(text) && strlen(text) % 2 == 0;
    return api_param_id(exchange, name, hex ? BAD_LENGTH : BAD_HEX, ret_id->bytes);
}

void api_done_empty(void *exchange, const cal_error *err) {
    if (err)
        json_reply_refusal(exchange, err);
    else
        http_reply(exchange, 200, "application/json", cal_slice_text("{}"));
}

void json_group_id(json_in *in, const char *name, bool required, bool *ret_given,
                   cal_group_id *ret_id) {
    const char *text = json_text(in, json_top(in), name, required);
    if (ret_given) *ret_given = text != NULL;
    if (text && cal_id_parse(text, ret_id->bytes) != 0)
        json_invalid(in, "Invalid %s: expected hex-encoded 32 bytes", name);
}

/* --- one group --- */

static void write_metadata(json_out *out, yyjson_mut_val *record, const cal_metadata *metadata) {
    if (metadata->name)
        json_add_text(out, record, "name", metadata->name);
    else
        json_add_null(out, record, "name");
    yyjson_mut_val *data = json_add_object(out, record, "data");
    for (size_t i = 0; i < metadata->entry_count; i++) {
        const cal_metadata_entry *entry = &metadata->entries[i];
        json_add_pair(out, data, cal_slice_of(entry->key, entry->key_len),
                      cal_slice_of(entry->value, entry->value_len));
    }
    json_add_u64(out, record, "updatedAt", metadata->updated_at_ms);
    json_add_base58(out, record, "updatedBy", metadata->updated_by.bytes);
}

static void add_metadata(void *user, const cal_metadata *metadata) {
    group_listing *list = user;
    if (metadata)
        write_metadata(&list->out, json_add_object(&list->out, list->into, "metadata"), metadata);
}

static void write_group(void *user, const cal_group_details *group) {
    group_listing *list = user;
    json_out *out = &list->out;
    yyjson_mut_val *data = list->into = json_out_data(out);
    cal_metadata_key key = {.of = CAL_METADATA_GROUP, .group = group->id};
    json_add_hex(out, data, "groupId", group->id.bytes);
    json_add_hex(out, data, "appKey", group->app_key.bytes);
    json_add_base58(out, data, "targetApplicationId", group->application.bytes);
    json_add_u64(out, data, "memberCount", group->members);
    json_add_u64(out, data, "contextCount", group->contexts);
    json_add_u64(out, data, "defaultCapabilities", group->default_capabilities);
    json_add_text(out, data, "subgroupVisibility", group->open ? "open" : "restricted");
    if (cal_metadata_get(list->node, &key, add_metadata, list) != 0) out->root = NULL;
    json_add_hex(out, data, "groupStateHash", group->state_hash.bytes);
    /* ours: what a person asks next */
    json_add_hex(out, data, "namespaceId", group->namespace_id.bytes);
    if (memcmp(&group->parent, &group->id, sizeof group->id) != 0)
        json_add_hex(out, data, "parentId", group->parent.bytes);
    json_add_hex(out, data, "ownerAccount", group->owner.bytes);
    json_add_hex(out, data, "adminAccount", group->admin.bytes);
}

void group_get(http_exchange *exchange) {
    cal_group_id id;
    if (!api_param_group(exchange, "id", &id)) return;
    group_listing list = {.out = json_out_new(), .node = api_node(exchange)};
    int error = cal_group_get(list.node, &id, write_group, &list);
    api_reply_listing(exchange, &list.out, error, "Group not found");
}

static void visit_subgroup(void *user, const cal_group_info *info) {
    group_listing *list = user;
    if (!info->open && cal_member_self(list->node, &info->id, NULL, NULL, NULL) != 0) return;
    yyjson_mut_val *item = json_push_object(&list->out, list->into);
    json_add_hex(&list->out, item, "groupId", info->id.bytes);
    json_add_text(&list->out, item, "name", info->name);
}

/* Restricted ones are hidden from who is no member of them. */
void group_subgroups(http_exchange *exchange) {
    cal_group_id id;
    if (!api_param_group(exchange, "id", &id)) return;
    group_listing list = {.out = json_out_new(), .node = api_node(exchange)};
    list.into = json_add_array(&list.out, list.out.root, "subgroups");
    int error = cal_group_each(list.node, &id, visit_subgroup, &list);
    api_reply_listing(exchange, &list.out, error, "Group not found");
}

static void write_synced(void *user, const cal_group_details *group) {
    group_listing *list = user;
    yyjson_mut_val *data = json_out_data(&list->out);
    json_add_hex(&list->out, data, "groupId", group->id.bytes);
    json_add_hex(&list->out, data, "appKey", group->app_key.bytes);
    json_add_base58(&list->out, data, "targetApplicationId", group->application.bytes);
    json_add_u64(&list->out, data, "memberCount", group->members);
    json_add_u64(&list->out, data, "contextCount", group->contexts);
}

static void ignore_done(void *user, const cal_error *err) { (void)user, (void)err; }

static void sync_one(void *user, const cal_context_info *info) {
    cal_context_sync(user, &info->id, ignore_done, NULL);
}

/* Answers at once; the contexts' status tells how it went. */
void group_sync(http_exchange *exchange) {
    cal_group_id id;
    if (!api_param_group(exchange, "id", &id)) return;
    group_listing list = {.out = json_out_new(), .node = api_node(exchange)};
    int error = cal_group_get(list.node, &id, write_synced, &list);
    if (!error) error = cal_context_each(list.node, NULL, &id, sync_one, list.node);
    api_reply_listing(exchange, &list.out, error, "Group not found");
}

/* --- creating and deleting --- */

static void on_created(void *user, const cal_error *err, const cal_group_id *id) {
    if (err) {
        json_reply_refusal(user, err);
        return;
    }
    json_out out = json_out_new();
    json_add_hex(&out, json_out_data(&out), "groupId", id->bytes);
    json_reply(user, 200, &out);
}

void group_create_any(http_exchange *exchange) {
    json_in in;
    cal_application_id application;
    cal_group_id id, parent, app_key;
    bool has_id, has_parent, has_key;
    if (!json_open(&in, exchange, JSON_VALIDATED, false)) return;
    json_id(&in, json_top(&in), "applicationId", true, application.bytes);
    json_group_id(&in, "groupId", false, &has_id, &id);
    json_group_id(&in, "appKey", false, &has_key, &app_key);
    json_group_id(&in, "parentGroupId", false, &has_parent, &parent);
    const char *name = json_text(&in, json_top(&in), "name", false);
    if (!json_ok(&in)) return;
    cal_blob_id key;
    memcpy(key.bytes, app_key.bytes, has_key ? sizeof key.bytes : 0);
    cal_group_options options = {.parent = has_parent ? &parent : NULL,
                                 .id = has_id ? &id : NULL,
                                 .name = name,
                                 .application = &application,
                                 .app_key = has_key ? &key : NULL};
    cal_group_create_as(api_node(exchange), &options, on_created, exchange);
    json_close(&in);
}

static void on_deleted(void *user, const cal_error *err) {
    if (err) {
        json_reply_refusal(user, err);
        return;
    }
    json_out out = json_out_new();
    json_add_bool(&out, json_out_data(&out), "isDeleted", true);
    json_reply(user, 200, &out);
}

void group_remove(http_exchange *exchange) {
    cal_group_id id;
    if (api_param_group(exchange, "id", &id))
        cal_group_delete(api_node(exchange), &id, on_deleted, exchange);
}

static void on_reparented(void *user, const cal_error *err) {
    if (err) {
        json_reply_refusal(user, err);
        return;
    }
    http_reply(user, 200, "application/json", cal_slice_text("{\"reparented\":true}"));
}

void group_reparent(http_exchange *exchange) {
    json_in in;
    cal_group_id id, parent;
    if (!api_param_group(exchange, "id", &id) || !json_open(&in, exchange, JSON_VALIDATED, false))
        return;
    json_group_id(&in, "newParentId", true, NULL, &parent);
    if (!json_ok(&in)) return;
    json_close(&in);
    cal_group_reparent(api_node(exchange), &id, &parent, on_reparented, exchange);
}

void group_context_remove(http_exchange *exchange) {
    cal_group_id id;
    cal_context_id context;
    if (api_param_group(exchange, "id", &id) &&
        api_param_id(exchange, "context", "Invalid context id", context.bytes))
        cal_context_detach(api_node(exchange), &id, &context, api_done_empty, exchange);
}

/* --- settings --- */

bool json_u32(json_in *in, const char *name, uint32_t *ret_value) {
    uint64_t value = 0;
    if (!json_u64(in, json_top(in), name, true, &value)) return false;
    if (value > UINT32_MAX)
        json_fault(in, "%s: invalid value: integer `%llu`, expected u32", name,
                   (unsigned long long)value);
    *ret_value = (uint32_t)value;
    return value <= UINT32_MAX;
}

void group_set_default_capabilities(http_exchange *exchange) {
    json_in in;
    cal_group_id id;
    uint32_t capabilities = 0;
    if (!api_param_group(exchange, "id", &id) || !json_open(&in, exchange, JSON_VALIDATED, false))
        return;
    json_u32(&in, "defaultCapabilities", &capabilities);
    if (!json_ok(&in)) return;
    json_close(&in);
    cal_group_set_default_capabilities(api_node(exchange), &id, capabilities, api_done_empty,
                                       exchange);
}

void group_set_visibility(http_exchange *exchange) {
    json_in in;
    cal_group_id id;
    if (!api_param_group(exchange, "id", &id) || !json_open(&in, exchange, JSON_VALIDATED, false))
        return;
    const char *text = json_text(&in, json_top(&in), "subgroupVisibility", true);
    bool open = text && strcmp(text, "open") == 0;
    if (text && !open && strcmp(text, "restricted") != 0)
        json_invalid(&in, "Invalid subgroup visibility: expected 'open' or 'restricted'");
    if (!json_ok(&in)) return;
    json_close(&in);
    cal_group_set_open(api_node(exchange), &id, open, api_done_empty, exchange);
}

/* --- metadata --- */

/* The record that the path names; false: answered. */
static bool param_record(http_exchange *exchange, cal_metadata_key *ret_key) {
    *ret_key = (cal_metadata_key){.of = CAL_METADATA_GROUP};
    if (!api_param_group(exchange, "id", &ret_key->group)) return false;
    if (http_param(exchange, "account")) {
        ret_key->of = CAL_METADATA_MEMBER;
        return api_param_account(exchange, &ret_key->group, &ret_key->account);
    }
    if (!http_param(exchange, "context")) return true;
    ret_key->of = CAL_METADATA_CONTEXT;
    return api_param_id(exchange, "context", "Invalid context id", ret_key->context.bytes);
}

static void add_record(void *user, const cal_metadata *metadata) {
    group_listing *list = user;
    if (metadata)
        write_metadata(&list->out, json_out_data(&list->out), metadata);
    else
        json_add_null(&list->out, list->out.root, "data");
}

void metadata_get(http_exchange *exchange) {
    cal_metadata_key key;
    if (!param_record(exchange, &key)) return;
    group_listing list = {.out = json_out_new()};
    int error = cal_metadata_get(api_node(exchange), &key, add_record, &list);
    api_reply_listing(exchange, &list.out, error, "Group not found");
}

/* The entries of `data`; they live as long as the document. */
static cal_metadata_entry *read_entries(json_in *in, size_t *ret_count) {
    yyjson_val *data = in->root ? yyjson_obj_get(in->root, "data") : NULL, *key, *value;
    size_t index, count, at = 0;
    *ret_count = 0;
    if (!data || yyjson_is_null(data)) return NULL;
    if (!yyjson_is_obj(data)) {
        json_fault(in, "data: invalid type: %s, expected a map", yyjson_get_type_desc(data));
        return NULL;
    }
    cal_metadata_entry *entries =
        cal_arena_alloc_array(http_arena(in->exchange), yyjson_obj_size(data) + 1, sizeof *entries);
    if (!entries) {
        json_fault(in, "data: out of memory");
        return NULL;
    }
    yyjson_obj_foreach(data, index, count, key, value) {
        if (!yyjson_is_str(value)) {
            json_fault(in, "data.%s: invalid type: %s, expected a string", yyjson_get_str(key),
                       yyjson_get_type_desc(value));
            return NULL;
        }
        entries[at++] = (cal_metadata_entry){.key = yyjson_get_str(key),
                                             .value = yyjson_get_str(value),
                                             .key_len = yyjson_get_len(key),
                                             .value_len = yyjson_get_len(value)};
    }
    *ret_count = at;
    return entries;
}

void metadata_set(http_exchange *exchange) {
    json_in in;
    cal_metadata_key key;
    size_t count;
    if (!param_record(exchange, &key) || !json_open(&in, exchange, JSON_VALIDATED, false)) return;
    const char *name = json_text(&in, json_top(&in), "name", false);
    cal_metadata_entry *entries = read_entries(&in, &count);
    if (!json_ok(&in)) return;
    cal_metadata_set(api_node(exchange), &key, name, entries, count, api_done_empty, exchange);
    json_close(&in);
}

/* --- what this node does not do --- */

void api_no_upgrades(http_exchange *exchange) {
    json_reply_error(exchange, 501,
                     "upgrades and migrations of groups are not supported by this node yet: "
                     "install the new version, and make a new group for it");
}

void api_no_tee(http_exchange *exchange) {
    json_reply_error(exchange, 501,
                     "attestation is not supported by this node: it runs outside of a trusted "
                     "execution environment");
}
