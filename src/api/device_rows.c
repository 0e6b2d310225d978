/* Devices of accounts and ownership proofs: http-api.md 5.4 and 5.5. */
#include <stdlib.h>

#include "api/share_rows.h"
#include "base/limits.h"
#include "codec/text.h"

enum { PROOF_BYTES_MAX = 256 * 1024, TEXT_AUDIENCE_MAX = 256, TEXT_SUBJECT_MAX = 512 };

static void add_hex_bytes(json_out *out, yyjson_mut_val *object, const char *name,
                          const uint8_t bytes[64]) {
    char text[2 * 64 + 1];
    cal_hex_encode(cal_slice_of(bytes, 64), text);
    json_add_text(out, object, name, text);
}

/* 64 hex digits, or base58. */
static void read_id(json_in *in, const char *name, uint8_t ret_id[CAL_ID_SIZE]) {
    const char *text = json_text(in, json_top(in), name, true);
    if (text && cal_id_parse(text, ret_id) != 0)
        json_invalid(in, "%s must be %d hex chars (%d bytes), or base58 of as many bytes", name,
                     2 * CAL_ID_SIZE, CAL_ID_SIZE);
}

/* Hex digits alone. */
static bool read_bytes(json_in *in, const char *name, uint8_t *ret_bytes, size_t len) {
    const char *text = json_text(in, json_top(in), name, true);
    if (!text) return false;
    if (cal_hex_decode(cal_slice_text(text), ret_bytes, len) == 0) return true;
    json_invalid(in, "%s must be %zu hex chars (%zu bytes)", name, 2 * len, len);
    return false;
}

/* --- pairing --- */

static void on_begun(void *user, const cal_error *err, const cal_pairing *pairing) {
    if (err) {
        json_reply_refusal(user, err);
        return;
    }
    json_out out = json_out_new();
    yyjson_mut_val *data = json_out_data(&out);
    json_add_hex(&out, data, "accountId", pairing->account.bytes);
    json_add_hex(&out, data, "deviceId", pairing->device.bytes);
    json_add_hex(&out, data, "kemPublicKey", pairing->kem_key);
    json_add_hex(&out, data, "signPublicKey", pairing->sign_key.bytes);
    add_hex_bytes(&out, data, "statement", pairing->statement);
    json_add_text(&out, data, "confirmationCode", pairing->code);
    json_reply(user, 200, &out);
}

/* The namespace of the path is not looked at: a new device is in none yet. */
void pair_begin(http_exchange *exchange) {
    json_in in;
    cal_group_id id;
    cal_public_key root_key;
    if (!api_param_group(exchange, "id", &id) || !json_open(&in, exchange, JSON_VALIDATED, false))
        return;
    bool other = in.root && yyjson_obj_get(in.root, "accountRootKey");
    read_id(&in, other ? "accountRootKey" : "accountRootPublicKey", root_key.bytes);
    if (!json_ok(&in)) return;
    json_close(&in);
    cal_pair_begin(api_node(exchange), &root_key, on_begun, exchange);
}

static void on_completed(void *user, const cal_error *err, const cal_pairing *pairing,
                         size_t keys) {
    if (err) {
        json_reply_refusal(user, err);
        return;
    }
    json_out out = json_out_new();
    yyjson_mut_val *data = json_out_data(&out);
    json_add_hex(&out, data, "accountId", pairing->account.bytes);
    json_add_hex(&out, data, "deviceId", pairing->device.bytes);
    json_add_bool(&out, data, "keyDelivered", keys > 0);
    json_add_text(&out, data, "confirmationCode", pairing->code);
    json_reply(user, 200, &out);
}

void pair_complete(http_exchange *exchange) {
    json_in in;
    cal_group_id id;
    cal_pairing pairing = {0};
    if (!api_param_group(exchange, "id", &id) || !json_open(&in, exchange, JSON_VALIDATED, false))
        return;
    read_id(&in, "deviceId", pairing.device.bytes);
    read_id(&in, "kemPublicKey", pairing.kem_key);
    read_id(&in, "signPublicKey", pairing.sign_key.bytes);
    read_bytes(&in, "statement", pairing.statement, sizeof pairing.statement);
    const char *code = json_text(&in, json_top(&in), "confirmationCode", true);
    if (code && strlen(code) >= sizeof pairing.code)
        json_invalid(&in, "confirmationCode must look like 0123-4567-89AB-CDEF");
    if (!json_ok(&in)) return;
    memcpy(pairing.code, code, strlen(code) + 1);
    json_close(&in);
    cal_pair_complete(api_node(exchange), &id, &pairing, on_completed, exchange);
}

/* --- revoking --- */

static void on_revoked(void *user, const cal_error *err, const cal_revoked *revoked) {
    if (err) {
        json_reply_refusal(user, err);
        return;
    }
    json_out out = json_out_new();
    yyjson_mut_val *data = json_out_data(&out);
    json_add_hex(&out, data, "accountId", revoked->account.bytes);
    json_add_hex(&out, data, "deviceId", revoked->device.bytes);
    json_add_bool(&out, data, "keyRotated",
                  revoked->namespace_count > 0 && revoked->namespaces[0].key_rotated);
    yyjson_mut_val *list = json_add_array(&out, data, "revokedIn");
    for (size_t i = 0; i < revoked->namespace_count; i++) {
        yyjson_mut_val *item = json_push_object(&out, list);
        json_add_hex(&out, item, "namespaceId", revoked->namespaces[i].namespace_id.bytes);
        json_add_bool(&out, item, "keyRotated", revoked->namespaces[i].key_rotated);
    }
    json_reply(user, 200, &out);
}

static cal_slice read_proof(json_in *in) {
    const char *text = json_text(in, json_top(in), "proof", false);
    size_t len = text ? strlen(text) : 0;
    if (len == 0) return cal_slice_of(NULL, 0);
    uint8_t *bytes =
        len <= 2 * PROOF_BYTES_MAX ? cal_arena_alloc(http_arena(in->exchange), len / 2 + 1) : NULL;
    if (!bytes || len % 2 || cal_hex_decode(cal_slice_text(text), bytes, len / 2) != 0) {
        json_invalid(in, "proof is not valid hex");
        return cal_slice_of(NULL, 0);
    }
    return cal_slice_of(bytes, len / 2);
}

void device_revoke(http_exchange *exchange) {
    json_in in;
    cal_group_id id;
    cal_device_id device;
    if (!api_param_group(exchange, "id", &id) || !json_open(&in, exchange, JSON_VALIDATED, false))
        return;
    read_id(&in, "deviceId", device.bytes);
    cal_slice proof = read_proof(&in);
    if (!json_ok(&in)) return;
    json_close(&in);
    cal_device_revoke(api_node(exchange), &id, &device, proof.data, proof.len, on_revoked,
                      exchange);
}

static void on_revocation(void *user, const uint8_t *proof, size_t len) {
    json_out *out = user;
    char *hex = malloc(2 * len + 1);
    if (!hex) {
        out->root = NULL;
        return;
    }
    cal_hex_encode(cal_slice_of(proof, len), hex);
    json_add_text(out, yyjson_mut_obj_get(out->root, "data"), "proof", hex);
    free(hex);
}

/* Ours: what `proof` of a revocation takes, made where the account's root key is. */
void device_prove_revocation(http_exchange *exchange) {
    json_in in;
    cal_device_id device;
    cal_node_identity self;
    if (!json_open(&in, exchange, JSON_VALIDATED, false)) return;
    read_id(&in, "deviceId", device.bytes);
    if (!json_ok(&in)) return;
    json_close(&in);
    cal_node_identity_get(api_node(exchange), &self);
    json_out out = json_out_new();
    yyjson_mut_val *data = json_out_data(&out);
    json_add_hex(&out, data, "accountId", self.account.bytes);
    json_add_hex(&out, data, "deviceId", device.bytes);
    int error = cal_device_revocation(api_node(exchange), &device, on_revocation, &out);
    api_reply_listing(exchange, &out, error, "the proof cannot be made");
}

/* --- ownership proofs --- */

static void check_text(json_in *in, const char *name, const char *text, size_t max) {
    if (text && !text[0])
        json_invalid(in, "Field '%s' is required but was empty", name);
    else
        json_check_length(in, name, text, max);
}

static void check_nonce(json_in *in, const char *nonce) {
    size_t len = nonce ? strlen(nonce) : 32;
    if (len < 32 || len > 128)
        json_invalid(in, "Field 'nonce' has invalid format: nonce must be hex-encoded, 32..=128 "
                         "characters");
    else if (nonce && nonce[strspn(nonce, "0123456789abcdefABCDEF")])
        json_invalid(in, "Field 'nonce' contains invalid hex encoding: nonce must be valid hex");
    else if (len % 2)
        json_invalid(in,
                     "Field 'nonce' has invalid format: nonce hex string must have even length");
}

static void on_proof(void *user, const cal_ownership_proof *proof) {
    json_out *out = user;
    cal_buffer text;
    cal_buffer_init(&text, CAL_HTTP_BODY_MAX);
    json_add_base58(out, out->root, "signerPublicKey", proof->signer.bytes);
    cal_base64_encode(CAL_BASE64_PADDED, cal_slice_of(proof->payload, proof->payload_len), &text);
    json_add_text(out, out->root, "signedPayload", cal_buffer_cstr(&text));
    cal_buffer_reset(&text);
    cal_base64_encode(CAL_BASE64_PADDED, cal_slice_of(proof->signature, sizeof proof->signature),
                      &text);
    json_add_text(out, out->root, "signature", cal_buffer_cstr(&text));
    if (text.error) out->root = NULL;
    cal_buffer_deinit(&text);
}

static void prove(http_exchange *exchange, bool of_context) {
    json_in in;
    cal_context_id context;
    cal_ownership_claim claim = {.context = of_context ? &context : NULL};
    if (!api_param_group(exchange, "id", &claim.group) ||
        !json_open(&in, exchange, JSON_VALIDATED, false))
        return;
    claim.audience = json_text(&in, json_top(&in), "audience", true);
    claim.subject = json_text(&in, json_top(&in), "subject", true);
    claim.nonce = json_text(&in, json_top(&in), "nonce", true);
    json_u64(&in, json_top(&in), "expiresAtMs", true, &claim.expires_at_ms);
    const char *id = of_context ? json_text(&in, json_top(&in), "contextId", true) : NULL;
    if (id && cal_id_parse(id, context.bytes) != 0)
        json_invalid(&in, "Invalid context id format: expected base58 or hex-encoded 32 bytes");
    check_text(&in, "audience", claim.audience, TEXT_AUDIENCE_MAX);
    check_text(&in, "subject", claim.subject, TEXT_SUBJECT_MAX);
    check_nonce(&in, claim.nonce);
    if (!json_ok(&in)) return;
    json_close(&in);
    json_out out = json_out_new();
    cal_error err;
    if (cal_ownership_prove(api_node(exchange), &claim, on_proof, &out, &err) == 0) {
        json_reply(exchange, 200, &out);
        return;
    }
    yyjson_mut_doc_free(out.doc);
    json_reply_refusal(exchange, &err);
}

void ownership_prove(http_exchange *exchange) { prove(exchange, true); }
void ownership_prove_namespace(http_exchange *exchange) { prove(exchange, false); }
