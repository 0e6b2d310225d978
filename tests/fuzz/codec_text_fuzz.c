/* Text codecs: whatever decodes encodes to a form that decodes to the same. */
#include <stdlib.h>
#include <string.h>

#include "calimero/identity.h"
#include "codec/jcs.h"
#include "codec/text.h"
#include "codec/utf8.h"
#include "codec/varint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool condition) {
    if (!condition) abort();
}

static void base58(cal_slice text) {
    uint8_t bytes[CAL_BASE58_BYTES_MAX], again[CAL_BASE58_BYTES_MAX];
    char written[CAL_BASE58_BYTES_MAX * 138 / 100 + 2];
    size_t len = 0, again_len = 0;
    if (cal_base58_decode(text, bytes, sizeof bytes, &len)) return;
    check(cal_base58_encode(cal_slice_of(bytes, len), written, sizeof written) == 0);
    check(cal_slice_equal(cal_slice_text(written), text));
    check(cal_base58_decode(cal_slice_text(written), again, sizeof again, &again_len) == 0);
    check(again_len == len && memcmp(bytes, again, len) == 0);
}

static void base64(cal_base64_form form, cal_slice text) {
    cal_buffer bytes, written;
    cal_buffer_init(&bytes, 1 << 20);
    cal_buffer_init(&written, 2 << 20);
    if (cal_base64_decode(form, text, &bytes) == 0) {
        check(cal_base64_encode(form, cal_buffer_slice(&bytes), &written) == 0);
        check(cal_slice_equal(cal_buffer_slice(&written), text));
    }
    cal_buffer_deinit(&bytes);
    cal_buffer_deinit(&written);
}

static void json(cal_slice text) {
    yyjson_doc *doc = yyjson_read((const char *)text.data, text.len, 0);
    cal_buffer once, twice;
    cal_buffer_init(&once, 1 << 20);
    cal_buffer_init(&twice, 1 << 20);
    if (doc && cal_jcs_write(yyjson_doc_get_root(doc), NULL, &once) == 0) {
        yyjson_doc *canonical = yyjson_read((const char *)once.data, once.len, 0);
        check(canonical && cal_jcs_write(yyjson_doc_get_root(canonical), NULL, &twice) == 0);
        check(cal_slice_equal(cal_buffer_slice(&once), cal_buffer_slice(&twice)));
        yyjson_doc_free(canonical);
    }
    yyjson_doc_free(doc);
    cal_buffer_deinit(&once);
    cal_buffer_deinit(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > 64 * 1024) return 0;
    cal_slice input = {data, size};
    uint8_t id[CAL_ID_SIZE];
    uint64_t number;
    size_t len;
    base58(input);
    base64(CAL_BASE64, input);
    base64(CAL_BASE64URL, input);
    base64(CAL_BASE64_PADDED, input);
    json(input);
    cal_utf8_valid(input);
    if (cal_varint_decode(input, &number, &len) == 0) {
        cal_buffer out;
        cal_buffer_init(&out, CAL_VARINT_MAX);
        check(cal_varint_append(&out, number) == 0 && out.len == len &&
              memcmp(out.data, data, len) == 0);
        cal_buffer_deinit(&out);
    }
    char *text = malloc(size + 1);
    check(text != NULL);
    if (size) memcpy(text, data, size);
    text[size] = 0;
    if (cal_id_parse(text, id) == 0) {
        char written[CAL_ID_TEXT_MAX];
        uint8_t again[CAL_ID_SIZE];
        cal_id_to_base58(id, written);
        check(cal_id_parse(written, again) == 0 && memcmp(id, again, sizeof id) == 0);
    }
    if (cal_did_key_decode(text, id) == 0) {
        char written[CAL_DID_KEY_MAX];
        cal_did_key_encode(id, written);
        check(strcmp(written, text) == 0);
    }
    if (cal_hex_decode(input, id, size / 2 < sizeof id ? size / 2 : sizeof id) == 0)
        check(size <= 64);
    free(text);
    return 0;
}
