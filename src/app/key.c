/* Keys that sign bundles: files of 64 hex digits; the key files of the reference's tools are read
 * too, so that a publisher keeps the identity that users know. runtime-abi.md 25. */
#include "app/internal.h"

enum { KEY_FILE_MAX = 4096, KEY_TEXT = 2 * CAL_KEY_SIZE };

void cal_bundle_dev_key(cal_secret *ret_seed) {
    cal_sha256(cal_slice_text("calimero-dev-signing-key-v1"), ret_seed->bytes);
}

int cal_bundle_key_generate(const cal_os *os, const char *path, char ret_signer_id[CAL_DID_KEY_MAX],
                            cal_error *err) {
    cal_secret seed;
    char text[KEY_TEXT + 2];
    cal_os_file *file = NULL;
    int rc = os->open(os->user, path, CAL_OS_WRITE | CAL_OS_CREATE | CAL_OS_EXCLUSIVE, &file);
    if (rc == CAL_EEXISTS)
        return cal_fail(err, rc, "%s exists: a signing key is never overwritten, name another file",
                        path);
    if (rc != 0) return cal_fail(err, rc, "cannot create %s: %s", path, cal_error_text(rc));
    cal_random(os, seed.bytes, sizeof seed.bytes);
    cal_hex_encode(cal_slice_of(seed.bytes, sizeof seed.bytes), text);
    text[KEY_TEXT] = '\n';
    rc = os->write_at(file, 0, text, KEY_TEXT + 1);
    if (rc == 0) rc = os->sync(file);
    os->close(file);
    uint8_t key[32];
    cal_sign_public_key(&seed, key);
    cal_secret_wipe(&seed);
    cal_wipe(text, sizeof text);
    if (rc != 0) {
        os->remove(os->user, path);
        return cal_fail(err, rc, "cannot write %s: %s", path, cal_error_text(rc));
    }
    cal_did_key_encode(key, ret_signer_id);
    return 0;
}

/* {"private_key": base64url of the seed, ...}, as `mero-sign` writes it. */
static int read_json_key(cal_slice content, cal_secret *ret_seed) {
    yyjson_doc *doc = NULL;
    if (app_json_read(content, "the key file", &doc, NULL) != 0) return CAL_EDECODE;
    yyjson_val *text = yyjson_obj_get(yyjson_doc_get_root(doc), "private_key");
    cal_buffer bytes;
    cal_buffer_init(&bytes, CAL_KEY_SIZE + 4); /* the decoder reserves whole groups */
    bool ok =
        yyjson_is_str(text) &&
        cal_base64_decode(CAL_BASE64URL, cal_slice_of(yyjson_get_str(text), yyjson_get_len(text)),
                          &bytes) == 0 &&
        bytes.len == CAL_KEY_SIZE;
    if (ok) memcpy(ret_seed->bytes, bytes.data, CAL_KEY_SIZE);
    if (bytes.data) cal_wipe(bytes.data, bytes.len);
    cal_buffer_deinit(&bytes);
    yyjson_doc_free(doc);
    return ok ? 0 : CAL_EDECODE;
}

int cal_bundle_key_read(const cal_os *os, const char *path, cal_secret *ret_seed, cal_error *err) {
    cal_buffer content;
    cal_buffer_init(&content, KEY_FILE_MAX);
    int rc = cal_os_read_file(os, path, KEY_FILE_MAX, &content, err);
    if (rc == 0) {
        cal_slice text = cal_buffer_slice(&content);
        while (text.len > 0 && strchr(" \r\n\t", text.data[text.len - 1])) text.len--;
        rc = text.len > 0 && text.data[0] == '{'
                 ? read_json_key(text, ret_seed)
                 : cal_hex_decode(text, ret_seed->bytes, CAL_KEY_SIZE);
        if (rc != 0)
            rc = cal_fail(err, CAL_EDECODE, "%s is not a signing key: it must hold 64 hex digits",
                          path);
    }
    if (content.data) cal_wipe(content.data, content.len);
    cal_buffer_deinit(&content);
    return rc;
}
