/* Invitations in one line, see invitation_code.h.
 *
 * Bytes: flags, inviter key, group, expiry (u64le), nonce, role, signature, the hints that the
 * flags name, name (u8 length), addresses (u8 count; each u16le length), and the first four bytes
 * of SHA-256("calimero1" || all before). Text: five bits a character, the last one filled up with
 * zeros. One invitation has one code: whatever else decodes to it is refused. */
#include "gov/invitation_code.h"

#include "base/error.h"
#include "codec/text.h"
#include "codec/utf8.h"

static const char prefix[] = "calimero1", alphabet[] = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
enum { PREFIX_LEN = sizeof prefix - 1, CHECK_SIZE = 4 };
enum { HAS_ACCOUNT = 1, HAS_APPLICATION = 2, HAS_APP_KEY = 4, FLAGS_ALL = 7 };

static void checksum(cal_slice bytes, uint8_t ret_check[CHECK_SIZE]) {
    const cal_slice parts[] = {cal_slice_text(prefix), bytes};
    uint8_t hash[CAL_HASH_SIZE];
    cal_sha256_parts(parts, 2, hash);
    memcpy(ret_check, hash, CHECK_SIZE);
}

/* --- writing --- */

static int put_text(cal_slice bytes, cal_buffer *out) {
    uint32_t bits = 0, held = 0;
    cal_buffer_append_text(out, prefix);
    for (size_t i = 0; i < bytes.len; i++) {
        held = (held << 8 | bytes.data[i]) & 0xFFF;
        for (bits += 8; bits >= 5; bits -= 5)
            cal_buffer_append_u8(out, (uint8_t)alphabet[held >> (bits - 5) & 31]);
    }
    if (bits) cal_buffer_append_u8(out, (uint8_t)alphabet[held << (5 - bits) & 31]);
    return out->error;
}

static int put_bytes(const gov_invitation_code *code, cal_buffer *out, cal_error *err) {
    const gov_invitation *invitation = &code->invitation;
    uint8_t signature[CAL_SIGNATURE_SIZE];
    cal_slice name = cal_slice_text(code->name);
    if (cal_hex_decode(invitation->signature, signature, sizeof signature))
        return cal_fail(err, CAL_EINVAL, "the invitation's signature is none");
    if (name.len > GOV_CODE_NAME_MAX || !cal_utf8_valid(name))
        return cal_fail(err, CAL_EINVAL, "the name is longer than %d bytes, or not UTF-8",
                        GOV_CODE_NAME_MAX);
    if (code->address_count > GOV_CODE_ADDRESSES_MAX)
        return cal_fail(err, CAL_EINVAL, "an invitation carries at most %d addresses",
                        GOV_CODE_ADDRESSES_MAX);
    cal_buffer_append_u8(out, (uint8_t)((invitation->has_inviter_account ? HAS_ACCOUNT : 0) |
                                        (invitation->has_application ? HAS_APPLICATION : 0) |
                                        (invitation->has_app_key ? HAS_APP_KEY : 0)));
    gov_invitation_body(invitation, out);
    cal_buffer_append(out, signature, sizeof signature);
    if (invitation->has_inviter_account)
        cal_buffer_append(out, invitation->inviter_account.bytes, 32);
    if (invitation->has_application) cal_buffer_append(out, invitation->application.bytes, 32);
    if (invitation->has_app_key) cal_buffer_append(out, invitation->app_key.bytes, 32);
    cal_buffer_append_u8(out, (uint8_t)name.len);
    cal_buffer_append_slice(out, name);
    cal_buffer_append_u8(out, (uint8_t)code->address_count);
    for (size_t i = 0; i < code->address_count; i++) {
        const cal_multiaddr *address = &code->addresses[i];
        if (address->len < 1 || address->len > CAL_MULTIADDR_MAX)
            return cal_fail(err, CAL_EINVAL, "an address to dial is empty or too long");
        cal_borsh_put_u16(out, address->len);
        cal_buffer_append(out, address->bytes, address->len);
    }
    return out->error ? cal_fail(err, out->error, "no memory for an invitation") : 0;
}

int gov_invitation_code_write(const gov_invitation_code *code, cal_buffer *out, cal_error *err) {
    uint8_t check[CHECK_SIZE];
    cal_buffer bytes;
    cal_buffer_init(&bytes, GOV_CODE_BYTES_MAX);
    int result = put_bytes(code, &bytes, err);
    if (!result) {
        checksum(cal_buffer_slice(&bytes), check);
        result = cal_buffer_append(&bytes, check, sizeof check);
        if (!result) result = put_text(cal_buffer_slice(&bytes), out);
        if (result) cal_fail(err, result, "no memory for an invitation");
    }
    cal_buffer_deinit(&bytes);
    return result;
}

/* --- reading --- */

static bool is_space(uint8_t c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static uint8_t lower(uint8_t c) { return c >= 'A' && c <= 'Z' ? (uint8_t)(c - 'A' + 'a') : c; }

static void skip_space(cal_slice *text) {
    for (; text->len && is_space(text->data[0]); text->len--) text->data++;
}

/* The next character that is no white space, in lower case; 0 at the end. */
static uint8_t next_char(cal_slice *text) {
    skip_space(text);
    if (!text->len) return 0;
    text->len--;
    return lower(*text->data++);
}

/* The name of the form; what stands after it is its version. */
static bool take_prefix(cal_slice *text) {
    for (size_t i = 0; i < PREFIX_LEN - 1; i++)
        if (next_char(text) != (uint8_t)prefix[i]) return false;
    return true;
}

bool gov_invitation_code_is(cal_slice text) { return take_prefix(&text); }

static int take_bytes(cal_slice text, cal_buffer *out, cal_error *err) {
    uint32_t bits = 0, held = 0;
    uint8_t c;
    for (size_t at = 1; (c = next_char(&text)); at++) {
        const char *found = strchr(alphabet, c);
        if (!found)
            return cal_fail(err, CAL_EDECODE,
                            c > ' ' && c < 127 ? "the invitation code has a \"%c\" in it, which "
                                                 "no code has; copy it again"
                                               : "the invitation code has a character in it which "
                                                 "no code has (byte %d); copy it again",
                            c);
        held = (held << 5 | (uint32_t)(found - alphabet)) & 0xFFF;
        if ((bits += 5) >= 8) cal_buffer_append_u8(out, (uint8_t)(held >> (bits -= 8)));
        if (out->error)
            return cal_fail(err, out->error == CAL_ELIMIT ? CAL_EDECODE : out->error,
                            "the invitation code is longer than any");
    }
    if (bits >= 5 || held & ((1u << bits) - 1))
        return cal_fail(err, CAL_EDECODE,
                        "the invitation code is cut off at its end; copy all of it");
    return 0;
}

static int read_bytes(cal_slice bytes, gov_invitation_code *code) {
    gov_invitation *invitation = &code->invitation;
    uint8_t signature[CAL_SIGNATURE_SIZE];
    cal_borsh in = cal_borsh_read(bytes);
    uint8_t flags = cal_borsh_u8(&in);
    if (flags > FLAGS_ALL) return CAL_EDECODE;
    cal_borsh_fixed(&in, invitation->inviter_key, 32);
    cal_borsh_fixed(&in, invitation->group.bytes, 32);
    invitation->expires_at_s = cal_borsh_u64(&in);
    cal_borsh_fixed(&in, invitation->nonce, 32);
    invitation->role = cal_borsh_u8(&in);
    cal_borsh_fixed(&in, signature, sizeof signature);
    cal_hex_encode(cal_slice_of(signature, sizeof signature), invitation->signature_text);
    invitation->signature = cal_slice_text(invitation->signature_text);
    invitation->has_inviter_account = flags & HAS_ACCOUNT;
    invitation->has_application = flags & HAS_APPLICATION;
    invitation->has_app_key = flags & HAS_APP_KEY;
    if (flags & HAS_ACCOUNT) cal_borsh_fixed(&in, invitation->inviter_account.bytes, 32);
    if (flags & HAS_APPLICATION) cal_borsh_fixed(&in, invitation->application.bytes, 32);
    if (flags & HAS_APP_KEY) cal_borsh_fixed(&in, invitation->app_key.bytes, 32);
    cal_slice name = cal_borsh_take(&in, cal_borsh_u8(&in));
    if (in.error || name.len > GOV_CODE_NAME_MAX || !cal_utf8_valid(name) ||
        (name.len && memchr(name.data, 0, name.len)))
        return CAL_EDECODE;
    if (name.len) memcpy(code->name, name.data, name.len);
    code->address_count = cal_borsh_u8(&in);
    if (code->address_count > GOV_CODE_ADDRESSES_MAX) return CAL_EDECODE;
    for (size_t i = 0; i < code->address_count && !in.error; i++) {
        cal_multiaddr *address = &code->addresses[i];
        address->len = cal_borsh_u16(&in);
        if (address->len < 1 || address->len > CAL_MULTIADDR_MAX) return CAL_EDECODE;
        cal_borsh_fixed(&in, address->bytes, address->len);
    }
    return cal_borsh_end(&in);
}

int gov_invitation_code_read(cal_slice text, gov_invitation_code *ret_code, cal_error *err) {
    uint8_t check[CHECK_SIZE], version;
    cal_buffer bytes;
    if (text.len > GOV_CODE_INPUT_MAX)
        return cal_fail(err, CAL_EDECODE, "the invitation code is longer than any");
    if (!take_prefix(&text))
        return cal_fail(err, CAL_EDECODE, "this is no invitation code: one begins with \"%s\"",
                        prefix);
    version = next_char(&text);
    if (version >= '0' && version <= '9' && version != '1')
        return cal_fail(err, CAL_EVERSION,
                        "the invitation code is of version %c, which this program does not know; "
                        "use a newer one",
                        version);
    if (version != '1')
        return cal_fail(err, CAL_EDECODE, "this is no invitation code: one begins with \"%s\"",
                        prefix);
    cal_buffer_init(&bytes, GOV_CODE_BYTES_MAX);
    memset(ret_code, 0, sizeof *ret_code);
    int result = take_bytes(text, &bytes, err);
    if (!result && bytes.len < CHECK_SIZE)
        result = cal_fail(err, CAL_EDECODE, "the invitation code ends too early; copy all of it");
    if (!result) {
        cal_slice body = {bytes.data, bytes.len - CHECK_SIZE};
        checksum(body, check);
        if (memcmp(check, bytes.data + body.len, CHECK_SIZE) != 0)
            result = cal_fail(err, CAL_EDECODE,
                              "a character of the invitation code is wrong or missing; copy it "
                              "again, from the first to the last");
        else if (read_bytes(body, ret_code))
            result = cal_fail(err, CAL_EDECODE, "the invitation code holds no invitation");
    }
    cal_buffer_deinit(&bytes);
    return result;
}

int gov_invitation_code_read_any(cal_slice text, gov_invitation_code *ret_code, cal_error *err) {
    skip_space(&text);
    if (!text.len || text.data[0] != '{') return gov_invitation_code_read(text, ret_code, err);
    memset(ret_code, 0, sizeof *ret_code);
    return gov_invitation_read_json(text, &ret_code->invitation, err);
}
