/* Members of groups: http-api.md 5.5. */
#include "api/share_rows.h"

enum { MEMBERS_MAX = 256 };

typedef struct member_listing {
    json_out out;
    yyjson_mut_val *into, *devices;
    api_page page;
    cal_account_id account; /* whose devices are being listed */
    bool any, shown;
} member_listing;

/* A hex text is an account; base58 is a key, and whose it is the namespace knows. */
static int read_account(cal_node *node, const cal_group_id *group, const char *text,
                        cal_account_id *ret_account) {
    cal_public_key key;
    if (strlen(text) == 2 * CAL_ID_SIZE) return cal_id_parse(text, ret_account->bytes);
    int error = cal_id_parse(text, key.bytes);
    return error ? error : cal_member_account(node, group, &key, ret_account);
}

bool api_param_account(http_exchange *exchange, const cal_group_id *group,
                       cal_account_id *ret_account) {
    int error =
        read_account(api_node(exchange), group, http_param(exchange, "account"), ret_account);
    if (error == CAL_ENOTFOUND)
        json_reply_error(exchange, 404,
                         "this key speaks for no account in the namespace; name the account by its "
                         "64 hex digits");
    else if (error)
        json_reply_error(exchange, 400,
                         "Invalid account format: expected 64 hex characters (32 bytes)");
    return error == 0;
}

/* --- reading --- */

static void visit_member(void *user, const cal_member_info *info) {
    member_listing *list = user;
    if (!api_page_takes(&list->page)) return;
    yyjson_mut_val *item = json_push_object(&list->out, list->into);
    json_add_hex(&list->out, item, "identity", info->account.bytes);
    json_add_text(&list->out, item, "role", cal_role_text(info->role));
    json_add_text(&list->out, item, "name", info->name);
}

void member_list(http_exchange *exchange) {
    cal_group_id id;
    member_listing list = {0};
    if (!api_param_group(exchange, "id", &id) || !api_page_read(exchange, &list.page)) return;
    list.out = json_out_new();
    list.into = json_add_array(&list.out, list.out.root, "members");
    int error = cal_member_each(api_node(exchange), &id, visit_member, &list);
    api_reply_listing(exchange, &list.out, error, "Group not found");
}

static void visit_device(void *user, const cal_device_info *info) {
    member_listing *list = user;
    bool same = list->any && memcmp(&list->account, &info->account, sizeof info->account) == 0;
    if (!same) {
        list->any = true;
        list->account = info->account;
        list->shown = api_page_takes(&list->page);
        if (list->shown) {
            yyjson_mut_val *item = json_push_object(&list->out, list->into);
            json_add_hex(&list->out, item, "account", info->account.bytes);
            list->devices = json_add_array(&list->out, item, "devices");
        }
    }
    if (!list->shown) return;
    yyjson_mut_val *device = json_push_object(&list->out, list->devices);
    json_add_hex(&list->out, device, "deviceId", info->device.bytes);
    json_add_base58(&list->out, device, "signingKey", info->sign_key.bytes);
}

void member_devices(http_exchange *exchange) {
    cal_group_id id;
    member_listing list = {0};
    if (!api_param_group(exchange, "id", &id) || !api_page_read(exchange, &list.page)) return;
    list.out = json_out_new();
    list.into = json_add_array(&list.out, list.out.root, "members");
    int error = cal_device_each(api_node(exchange), &id, visit_device, &list);
    api_reply_listing(exchange, &list.out, error, "Group not found");
}

void member_capabilities(http_exchange *exchange) {
    cal_group_id id;
    cal_account_id account;
    uint32_t capabilities = 0;
    if (!api_param_group(exchange, "id", &id) || !api_param_account(exchange, &id, &account))
        return;
    int error = cal_member_capabilities(api_node(exchange), &id, &account, &capabilities);
    json_out out = json_out_new();
    json_add_u64(&out, json_out_data(&out), "capabilities", capabilities);
    api_reply_listing(exchange, &out, error, "the account is no member of the group");
}

/* --- adding and removing --- */

static bool read_role(json_in *in, json_place place, const char *where, cal_role *ret_role) {
    const char *text = json_text(in, place, "role", true);
    if (!text) return false;
    if (cal_role_parse(text, ret_role) == 0) return true;
    json_fault(in,
               "%srole: unknown variant `%.64s`, expected one of `Admin`, `Member`, `ReadOnly`, "
               "`ReadOnlyTee`",
               where, text);
    return false;
}

static void refuse_tee(json_in *in, cal_role role) {
    if (role == CAL_ROLE_READ_ONLY_TEE)
        json_invalid(in, "Field 'role' has invalid format: ReadOnlyTee comes by attestation alone");
}

/* The array of the body; NULL: a fault was noted. */
static yyjson_val *members_of(json_in *in) {
    yyjson_val *members = in->root ? yyjson_obj_get(in->root, "members") : NULL;
    if (!yyjson_is_arr(members)) {
        json_fault(in, members ? "members: invalid type, expected a sequence"
                               : "missing field `members`");
        return NULL;
    }
    if (yyjson_arr_size(members) == 0)
        json_invalid(in, "Field 'members' is required but was empty");
    if (yyjson_arr_size(members) > MEMBERS_MAX)
        json_invalid(in, "Field 'members' exceeds maximum size of %d entries (got %zu)",
                     MEMBERS_MAX, yyjson_arr_size(members));
    return in->fault[0] || in->invalid_count ? NULL : members;
}

static void check_account(json_in *in, int error, const char *text) {
    if (error == CAL_ENOTFOUND)
        json_invalid(in,
                     "the key %.64s speaks for no account in this namespace: name the account by "
                     "its 64 hex digits (GET /admin-api/identity of its node shows it)",
                     text);
    else if (error)
        json_invalid(in, "Invalid identity '%.64s': expected a 64-hex account or a base58 key",
                     text);
}

void member_add(http_exchange *exchange) {
    json_in in;
    cal_group_id id;
    if (!api_param_group(exchange, "id", &id) || !json_open(&in, exchange, JSON_VALIDATED, false))
        return;
    cal_member_spec specs[MEMBERS_MAX];
    size_t count = 0, index, max;
    yyjson_val *members = members_of(&in), *item;
    if (members) yyjson_arr_foreach(members, index, max, item) {
            json_place place = {yyjson_is_obj(item) ? item : NULL, "members", 1};
            const char *identity = json_text(&in, place, "identity", true);
            cal_member_spec *spec = &specs[count++];
            if (!identity || !read_role(&in, place, "members.", &spec->role)) break;
            check_account(&in, read_account(api_node(exchange), &id, identity, &spec->account),
                          identity);
            refuse_tee(&in, spec->role);
        }
    if (!json_ok(&in)) return;
    cal_members_add(api_node(exchange), &id, specs, count, api_done_empty, exchange);
    json_close(&in);
}

void member_remove(http_exchange *exchange) {
    json_in in;
    cal_group_id id;
    if (!api_param_group(exchange, "id", &id) || !json_open(&in, exchange, JSON_VALIDATED, false))
        return;
    cal_account_id accounts[MEMBERS_MAX];
    size_t count = 0, index, max;
    yyjson_val *members = members_of(&in), *item;
    if (members) yyjson_arr_foreach(members, index, max, item) {
            const char *text = yyjson_get_str(item);
            if (!text) {
                json_fault(&in, "members: invalid type: %s, expected a string",
                           yyjson_get_type_desc(item));
                break;
            }
            check_account(&in, read_account(api_node(exchange), &id, text, &accounts[count++]),
                          text);
        }
    if (!json_ok(&in)) return;
    cal_members_remove(api_node(exchange), &id, accounts, count, api_done_empty, exchange);
    json_close(&in);
}

/* --- one member --- */

/* The path's ids and the body; false: answered. */
static bool open_member(http_exchange *exchange, json_in *in, cal_group_id *ret_id,
                        cal_account_id *ret_account) {
    return api_param_group(exchange, "id", ret_id) &&
           api_param_account(exchange, ret_id, ret_account) &&
           json_open(in, exchange, JSON_VALIDATED, false);
}

void member_set_role(http_exchange *exchange) {
    json_in in;
    cal_group_id id;
    cal_account_id account;
    cal_role role = CAL_ROLE_MEMBER;
    if (!open_member(exchange, &in, &id, &account)) return;
    if (read_role(&in, json_top(&in), "", &role)) refuse_tee(&in, role);
    if (!json_ok(&in)) return;
    json_close(&in);
    cal_member_set_role(api_node(exchange), &id, &account, role, api_done_empty, exchange);
}

void member_set_capabilities(http_exchange *exchange) {
    json_in in;
    cal_group_id id;
    cal_account_id account;
    uint32_t capabilities = 0;
    if (!open_member(exchange, &in, &id, &account)) return;
    json_u32(&in, "capabilities", &capabilities);
    if (!json_ok(&in)) return;
    json_close(&in);
    cal_member_set_capabilities(api_node(exchange), &id, &account, capabilities, api_done_empty,
                                exchange);
}

static bool required_bool(json_in *in, const char *name) {
    if (in->root && !yyjson_obj_get(in->root, name)) json_fault(in, "missing field `%s`", name);
    return json_bool(in, json_top(in), name);
}

void member_set_follow(http_exchange *exchange) {
    json_in in;
    cal_group_id id;
    cal_account_id account;
    if (!open_member(exchange, &in, &id, &account)) return;
    bool contexts = required_bool(&in, "autoFollowContexts");
    bool subgroups = required_bool(&in, "autoFollowSubgroups");
    if (!json_ok(&in)) return;
    json_close(&in);
    cal_member_set_follow(api_node(exchange), &id, &account, contexts, subgroups, api_done_empty,
                          exchange);
}

/* Ours: the owner cannot leave, so it must be able to hand the group over. */
void group_set_owner(http_exchange *exchange) {
    json_in in;
    cal_group_id id;
    cal_account_id account;
    if (!api_param_group(exchange, "id", &id) || !json_open(&in, exchange, JSON_VALIDATED, false))
        return;
    const char *text = json_text(&in, json_top(&in), "newOwner", true);
    if (text) check_account(&in, read_account(api_node(exchange), &id, text, &account), text);
    if (!json_ok(&in)) return;
    json_close(&in);
    cal_group_transfer(api_node(exchange), &id, &account, api_done_empty, exchange);
}

/* --- coming and going --- */

static void reply_self(http_exchange *exchange, const char *field, const char *was_inherited) {
    cal_node_identity self;
    cal_group_id id;
    if (!api_param_group(exchange, "id", &id)) return;
    cal_node_identity_get(api_node(exchange), &self);
    json_out out = json_out_new();
    yyjson_mut_val *data = json_out_data(&out);
    json_add_hex(&out, data, field, id.bytes);
    json_add_base58(&out, data, "memberPublicKey", self.public_key.bytes);
    if (was_inherited) json_add_bool(&out, data, "wasInherited", was_inherited[0] == 'y');
    json_reply(exchange, 200, &out);
}

static void on_left_group(void *user, const cal_error *err) {
    if (err)
        json_reply_refusal(user, err);
    else
        reply_self(user, "groupId", NULL);
}

static void on_left_namespace(void *user, const cal_error *err) {
    if (err)
        json_reply_refusal(user, err);
    else
        reply_self(user, "namespaceId", NULL);
}

void group_leave(http_exchange *exchange) {
    cal_group_id id;
    if (api_param_group(exchange, "id", &id))
        cal_group_leave(api_node(exchange), &id, on_left_group, exchange);
}

static void ignore_namespace(void *user, const cal_namespace_info *info) { (void)user, (void)info; }

void namespace_leave(http_exchange *exchange) {
    cal_group_id id;
    if (!api_param_group(exchange, "id", &id)) return;
    if (cal_namespace_get(api_node(exchange), &id, ignore_namespace, NULL) == 0)
        cal_group_leave(api_node(exchange), &id, on_left_namespace, exchange);
    else
        json_reply_error(exchange, 404, "Namespace not found");
}

static void on_joined_open(void *user, const cal_error *err, bool was_inherited) {
    if (err && err->code == CAL_ENOTFOUND)
        json_reply_error(user, 404,
                         "group not found: it is not known here yet, or in a namespace that this "
                         "node is not in");
    else if (err)
        json_reply_refusal(user, err);
    else
        reply_self(user, "groupId", was_inherited ? "yes" : "no");
}

void group_join_open(http_exchange *exchange) {
    cal_group_id id;
    if (api_param_group(exchange, "id", &id))
        cal_group_join_open(api_node(exchange), &id, on_joined_open, exchange);
}
