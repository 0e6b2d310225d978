/* Invitations, see invitation.h. */
#include "gov/invitation.h"

#include <stdlib.h>
#include <yyjson.h>

#include "base/error.h"
#include "codec/text.h"
#include "gov/proofs.h"

enum { SIGNATURE_TEXT_MAX = 8192 };

static bool read_hint(cal_borsh *in, uint8_t ret_id[CAL_ID_SIZE]) {
    if (!cal_borsh_bool(in)) return false;
    cal_borsh_fixed(in, ret_id, CAL_ID_SIZE);
    return true;
}

void gov_invitation_read(cal_borsh *in, gov_invitation *ret_invitation) {
    *ret_invitation = (gov_invitation){0};
    cal_borsh_fixed(in, ret_invitation->inviter_key, 32);
    cal_borsh_fixed(in, ret_invitation->group.bytes, 32);
    ret_invitation->expires_at_s = cal_borsh_u64(in);
    cal_borsh_fixed(in, ret_invitation->nonce, 32);
    ret_invitation->role = cal_borsh_u8(in);
    ret_invitation->signature = cal_borsh_text(in, SIGNATURE_TEXT_MAX);
    ret_invitation->has_inviter_account = read_hint(in, ret_invitation->inviter_account.bytes);
    ret_invitation->has_application = read_hint(in, ret_invitation->application.bytes);
    ret_invitation->has_app_key = read_hint(in, ret_invitation->app_key.bytes);
}

int gov_invitation_decode(cal_slice bytes, gov_invitation *ret_invitation) {
    cal_borsh in = cal_borsh_read(bytes);
    gov_invitation_read(&in, ret_invitation);
    return cal_borsh_end(&in);
}

int gov_invitation_body(const gov_invitation *invitation, cal_buffer *out) {
    cal_buffer_append(out, invitation->inviter_key, 32);
    cal_buffer_append(out, invitation->group.bytes, 32);
    cal_buffer_append_u64le(out, invitation->expires_at_s);
    cal_buffer_append(out, invitation->nonce, 32);
    return cal_buffer_append_u8(out, invitation->role);
}

static void write_hint(bool present, const uint8_t id[CAL_ID_SIZE], cal_buffer *out) {
    cal_borsh_put_bool(out, present);
    if (present) cal_buffer_append(out, id, CAL_ID_SIZE);
}

int gov_invitation_write(const gov_invitation *invitation, cal_buffer *out) {
    gov_invitation_body(invitation, out);
    cal_borsh_put_bytes(out, invitation->signature);
    write_hint(invitation->has_inviter_account, invitation->inviter_account.bytes, out);
    write_hint(invitation->has_application, invitation->application.bytes, out);
    write_hint(invitation->has_app_key, invitation->app_key.bytes, out);
    return out->error;
}

/* Written by hand into fixed bytes: a digest must not fail for want of memory. */
void gov_invitation_digest(const gov_invitation *invitation, uint8_t ret_digest[CAL_HASH_SIZE]) {
    uint8_t expires[8];
    cal_write_u64le(expires, invitation->expires_at_s);
    const cal_slice parts[] = {
        cal_slice_of(invitation->inviter_key, 32),
        cal_slice_of(invitation->group.bytes, 32),
        cal_slice_of(expires, 8),
        cal_slice_of(invitation->nonce, 32),
        cal_slice_of(&invitation->role, 1),
    };
    cal_sha256_parts(parts, sizeof parts / sizeof *parts, ret_digest);
}

void gov_invitation_sign(gov_invitation *invitation, const cal_secret *inviter) {
    uint8_t digest[CAL_HASH_SIZE], signature[CAL_SIGNATURE_SIZE];
    cal_sign_public_key(inviter, invitation->inviter_key);
    gov_invitation_digest(invitation, digest);
    cal_sign(inviter, cal_slice_of(digest, sizeof digest), signature);
    cal_hex_encode(cal_slice_of(signature, sizeof signature), invitation->signature_text);
    invitation->signature = cal_slice_text(invitation->signature_text);
}

bool gov_invitation_verify(const gov_invitation *invitation, gov_proofs *proofs) {
    uint8_t digest[CAL_HASH_SIZE], signature[CAL_SIGNATURE_SIZE];
    if (cal_hex_decode(invitation->signature, signature, sizeof signature)) return false;
    gov_invitation_digest(invitation, digest);
    return gov_proofs_signature(proofs, invitation->inviter_key, digest, signature);
}

bool gov_invitation_expired(const gov_invitation *invitation, uint64_t now_s) {
    return invitation->expires_at_s != 0 && now_s > invitation->expires_at_s;
}

/* --- JSON --- */

static void put_numbers(cal_buffer *out, const char *name, const uint8_t bytes[32]) {
    cal_buffer_printf(out, "\"%s\":[", name);
    for (size_t i = 0; i < 32; i++) cal_buffer_printf(out, i ? ",%u" : "%u", (unsigned)bytes[i]);
    cal_buffer_append_u8(out, ']');
}

int gov_invitation_write_json(const gov_invitation *invitation, cal_buffer *out) {
    uint8_t signature[CAL_SIGNATURE_SIZE];
    char text[2 * CAL_SIGNATURE_SIZE + 1];
    if (cal_hex_decode(invitation->signature, signature, sizeof signature)) return CAL_EINVAL;
    cal_hex_encode(cal_slice_of(signature, sizeof signature), text);
    cal_buffer_append_text(out, "{\"invitation\":{");
    put_numbers(out, "inviter_identity", invitation->inviter_key);
    cal_buffer_append_u8(out, ',');
    put_numbers(out, "group_id", invitation->group.bytes);
    cal_buffer_printf(out, ",\"expiration_timestamp\":%llu,",
                      (unsigned long long)invitation->expires_at_s);
    put_numbers(out, "secret_salt", invitation->nonce);
    cal_buffer_printf(out, ",\"invited_role\":%u},\"inviter_signature\":\"%s\"",
                      (unsigned)invitation->role, text);
    if (invitation->has_inviter_account) {
        char account[CAL_ID_TEXT_MAX];
        cal_id_to_hex(invitation->inviter_account.bytes, account);
        cal_buffer_printf(out, ",\"inviter_account\":\"%s\"", account);
    }
    if (invitation->has_application) {
        cal_buffer_append_u8(out, ',');
        put_numbers(out, "application_id", invitation->application.bytes);
    }
    if (invitation->has_app_key) {
        cal_buffer_append_u8(out, ',');
        put_numbers(out, "app_key", invitation->app_key.bytes);
    }
    return cal_buffer_append_u8(out, '}');
}

static bool get_numbers(yyjson_val *object, const char *name, uint8_t ret_bytes[32]) {
    yyjson_val *list = yyjson_obj_get(object, name);
    if (yyjson_arr_size(list) != 32) return false;
    yyjson_arr_iter iter = yyjson_arr_iter_with(list);
    yyjson_val *item;
    for (size_t i = 0; (item = yyjson_arr_iter_next(&iter)); i++) {
        if (!yyjson_is_uint(item) || yyjson_get_uint(item) > UINT8_MAX) return false;
        ret_bytes[i] = (uint8_t)yyjson_get_uint(item);
    }
    return true;
}

/* A hint that is absent or null is none. */
static bool get_hint(yyjson_val *root, const char *name, bool *ret_present, uint8_t ret_bytes[32]) {
    yyjson_val *value = yyjson_obj_get(root, name);
    *ret_present = value && !yyjson_is_null(value);
    return !*ret_present || get_numbers(root, name, ret_bytes);
}

static bool get_account(yyjson_val *root, gov_invitation *invitation) {
    yyjson_val *value = yyjson_obj_get(root, "inviter_account");
    invitation->has_inviter_account = value && !yyjson_is_null(value);
    return !invitation->has_inviter_account ||
           (yyjson_is_str(value) &&
            cal_hex_decode(cal_slice_of(yyjson_get_str(value), yyjson_get_len(value)),
                           invitation->inviter_account.bytes, 32) == 0);
}

static const char *read_fields(yyjson_val *root, gov_invitation *invitation) {
    yyjson_val *body = yyjson_obj_get(root, "invitation"),
               *signature = yyjson_obj_get(root, "inviter_signature");
    yyjson_val *expires = yyjson_obj_get(body, "expiration_timestamp"),
               *role = yyjson_obj_get(body, "invited_role");
    uint8_t bytes[CAL_SIGNATURE_SIZE];
    if (!get_numbers(body, "inviter_identity", invitation->inviter_key))
        return "invitation.inviter_identity";
    if (!get_numbers(body, "group_id", invitation->group.bytes)) return "invitation.group_id";
    if (!yyjson_is_uint(expires)) return "invitation.expiration_timestamp";
    if (!get_numbers(body, "secret_salt", invitation->nonce)) return "invitation.secret_salt";
    if (role && (!yyjson_is_uint(role) || yyjson_get_uint(role) > UINT8_MAX))
        return "invitation.invited_role";
    if (!yyjson_is_str(signature) ||
        cal_hex_decode(cal_slice_of(yyjson_get_str(signature), yyjson_get_len(signature)), bytes,
                       sizeof bytes))
        return "inviter_signature";
    if (!get_account(root, invitation)) return "inviter_account";
    if (!get_hint(root, "application_id", &invitation->has_application,
                  invitation->application.bytes))
        return "application_id";
    if (!get_hint(root, "app_key", &invitation->has_app_key, invitation->app_key.bytes))
        return "app_key";
    invitation->expires_at_s = yyjson_get_uint(expires);
    invitation->role = role ? (uint8_t)yyjson_get_uint(role) : 1;
    memcpy(invitation->signature_text, yyjson_get_str(signature), 2 * CAL_SIGNATURE_SIZE);
    return NULL;
}

int gov_invitation_read_json(cal_slice json, gov_invitation *ret_invitation, cal_error *err) {
    if (json.len > GOV_INVITATION_JSON_MAX)
        return cal_fail(err, CAL_ELIMIT, "the invitation is longer than %d bytes",
                        GOV_INVITATION_JSON_MAX);
    yyjson_doc *doc = yyjson_read((const char *)json.data, json.len, 0);
    if (!doc) return cal_fail(err, CAL_EDECODE, "the invitation is not JSON");
    gov_invitation invitation = {0};
    const char *wrong = read_fields(yyjson_doc_get_root(doc), &invitation);
    yyjson_doc_free(doc);
    if (wrong)
        return cal_fail(err, CAL_EDECODE, "the invitation's %s is missing or malformed", wrong);
    *ret_invitation = invitation;
    ret_invitation->signature = cal_slice_text(ret_invitation->signature_text);
    return 0;
}
