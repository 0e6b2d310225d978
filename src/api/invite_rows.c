/* Inviting and joining: http-api.md 5.4 and 5.5.
 *
 * Ours beside it: {"code": true} in a request for an invitation asks for its one-line form too, and
 * {"role": ...} says as what; a request to join may have the one-line form in place of the object.
 */
#include "api/share_rows.h"

#include <stdlib.h>

enum { INVITED_ROLE_MAX = 2 };

/* --- inviting --- */

typedef struct invite_work {
    http_exchange *exchange;
    bool recursive, code;
    json_out out;
    yyjson_mut_val *into;
    const char *missing;
} invite_work;

static void on_invitation(void *user, const cal_invitation *invitation) {
    invite_work *invite = user;
    json_out *out = &invite->out;
    yyjson_mut_val *item = invite->recursive ? json_push_object(out, invite->into) : invite->into;
    if (invite->recursive) json_add_hex(out, item, "groupId", invitation->group.bytes);
    json_add_raw(out, item, "invitation", cal_slice_text(invitation->json));
    json_add_text(out, item, "groupName", invitation->group_name);
    if (invite->code) json_add_text(out, item, "code", invitation->code);
}

static void on_invited(void *user, const cal_error *err) {
    invite_work *invite = user;
    if (!err)
        json_reply(invite->exchange, 200, &invite->out);
    else {
        yyjson_mut_doc_free(invite->out.doc);
        if (err->code == CAL_ENOTFOUND)
            json_reply_error(invite->exchange, 404, invite->missing);
        else
            json_reply_refusal(invite->exchange, err);
    }
    free(invite);
}

static void read_role(json_in *in, bool *ret_given, cal_role *ret_role) {
    const char *text = json_text(in, json_top(in), "role", false);
    *ret_given = text != NULL;
    if (text && (cal_role_parse(text, ret_role) != 0 || *ret_role == CAL_ROLE_READ_ONLY_TEE))
        json_invalid(in, "Field 'role' has invalid format: expected Admin, Member or ReadOnly");
}

static void ignore_namespace(void *user, const cal_namespace_info *info) { (void)user, (void)info; }

static void ignore_group(void *user, const cal_group_details *info) { (void)user, (void)info; }

static void refuse_no_namespace(http_exchange *exchange, const cal_group_id *id) {
    if (cal_group_get(api_node(exchange), id, ignore_group, NULL) == 0)
        json_reply_error(exchange, 400,
                         "this is a group, not a namespace: POST /admin-api/groups/:id/invite");
    else
        json_reply_error(exchange, 404, "Namespace not found");
}

static void invite(http_exchange *exchange, bool to_namespace) {
    json_in in;
    cal_group_id id;
    cal_role role = CAL_ROLE_MEMBER;
    bool has_role = false;
    cal_invite_options options = {0};
    if (!api_param_group(exchange, "id", &id) || !json_open(&in, exchange, JSON_VALIDATED, true))
        return;
    bool timed = json_u64(&in, json_top(&in), "expirationTimestamp", false, &options.valid_s);
    options.recursive = json_bool(&in, json_top(&in), "recursive") && to_namespace;
    bool code = json_bool(&in, json_top(&in), "code");
    read_role(&in, &has_role, &role);
    if (timed && options.valid_s == 0)
        json_invalid(&in, "Field 'expirationTimestamp' value 0 is below minimum of 1: it is a "
                          "number of seconds from now");
    if (!json_ok(&in)) return;
    json_close(&in);
    if (has_role) options.role = &role;
    if (to_namespace &&
        cal_namespace_get(api_node(exchange), &id, ignore_namespace, NULL) == CAL_ENOTFOUND) {
        refuse_no_namespace(exchange, &id);
        return;
    }
    invite_work *work = calloc(1, sizeof *work);
    if (!work) {
        json_reply_code(exchange, CAL_ENOMEM);
        return;
    }
    *work = (invite_work){.exchange = exchange,
                          .recursive = options.recursive,
                          .code = code,
                          .out = json_out_new(),
                          .missing = to_namespace ? "Namespace not found" : "Group not found"};
    work->into = json_out_data(&work->out);
    if (options.recursive) work->into = json_add_array(&work->out, work->into, "invitations");
    cal_invite(api_node(exchange), &id, &options, on_invitation, on_invited, work);
}

void namespace_invite(http_exchange *exchange) { invite(exchange, true); }
void group_invite(http_exchange *exchange) { invite(exchange, false); }

/* --- joining --- */

static void check_bytes32(json_in *in, json_place place, const char *name, bool required,
                          cal_slice *ret_bytes) {
    if (json_bytes(in, place, name, required, ret_bytes) && ret_bytes->len != CAL_ID_SIZE)
        json_fault(in, "%s.%s: invalid length %zu, expected an array of length 32", place.path,
                   name, ret_bytes->len);
}

/* Its form, in the reference's words; what it says is judged by the node. */
static void check_invitation(json_in *in, cal_slice *ret_group) {
    cal_slice bytes;
    uint64_t number = 0;
    json_place outer = json_inside(in, json_top(in), "invitation");
    if (!outer.object) return;
    json_place inner = json_inside(in, outer, "invitation");
    if (!inner.object) return;
    inner.path = "invitation.invitation";
    check_bytes32(in, inner, "inviter_identity", true, &bytes);
    check_bytes32(in, inner, "group_id", true, ret_group);
    json_u64(in, inner, "expiration_timestamp", true, &number);
    check_bytes32(in, inner, "secret_salt", true, &bytes);
    if (json_u64(in, inner, "invited_role", false, &number) && number > INVITED_ROLE_MAX)
        json_fault(in,
                   "invitation.invitation.invited_role: invalid value: integer `%llu`, expected u8 "
                   "up to %d",
                   (unsigned long long)number, INVITED_ROLE_MAX);
    json_text(in, outer, "inviter_signature", true);
}

/* The invitation as the node takes it: the one-line form, or the object's own text. In the arena;
 * NULL: a fault was noted. */
static const char *read_invitation(json_in *in, cal_slice *ret_group) {
    yyjson_val *value = in->root ? yyjson_obj_get(in->root, "invitation") : NULL;
    if (yyjson_is_str(value)) return json_text(in, json_top(in), "invitation", true);
    check_invitation(in, ret_group);
    if (in->fault[0]) return NULL;
    size_t len = 0;
    char *text = yyjson_val_write(value, YYJSON_WRITE_NOFLAG, &len);
    char *copy = text ? cal_arena_text(http_arena(in->exchange), cal_slice_of(text, len)) : NULL;
    free(text);
    if (!copy) json_fault(in, "invitation: out of memory");
    return copy;
}

static void refuse_join(http_exchange *exchange, const cal_error *err) {
    if (err->code == CAL_ETIMEOUT) /* not a time that ran out while we tried */
        json_reply_error(exchange, 410, err->message);
    else
        json_reply_refusal(exchange, err);
}

static void on_joined(void *user, const cal_error *err, const cal_joined *joined) {
    http_exchange *exchange = user;
    if (err) {
        refuse_join(exchange, err);
        return;
    }
    json_out out = json_out_new();
    yyjson_mut_val *data = json_out_data(&out);
    json_add_hex(&out, data, http_get_user(exchange), joined->namespace_id.bytes);
    json_add_base58(&out, data, "memberIdentity", joined->member.bytes);
    json_add_hex(&out, data, "memberAccount", joined->account.bytes);
    json_reply(exchange, 200, &out);
}

/* `id` NULL: whatever the invitation is for. */
static void join(http_exchange *exchange, const cal_group_id *id, char *field) {
    json_in in;
    cal_slice group = {0};
    cal_group_id invited;
    if (!json_open(&in, exchange, JSON_VALIDATED, false)) return;
    const char *invitation = read_invitation(&in, &group);
    const char *name = json_text(&in, json_top(&in), "groupName", false);
    if (invitation && group.len == 0 && cal_invitation_group(invitation, &invited, NULL) == 0)
        group = cal_slice_of(invited.bytes, sizeof invited.bytes);
    if (id && group.len == CAL_ID_SIZE && !in.fault[0] &&
        memcmp(group.data, id->bytes, CAL_ID_SIZE) != 0)
        json_invalid(&in, "invitation group_id does not match namespace_id in path");
    if (!json_ok(&in)) return;
    http_set_user(exchange, field);
    cal_namespace_join(api_node(exchange), invitation, name, on_joined, exchange);
    json_close(&in);
}

void namespace_join(http_exchange *exchange) {
    static char field[] = "namespaceId";
    cal_group_id id;
    if (api_param_group(exchange, "id", &id)) join(exchange, &id, field);
}

void group_join(http_exchange *exchange) {
    static char field[] = "groupId";
    join(exchange, NULL, field);
}
