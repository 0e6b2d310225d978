/* What is said on /calimero/blob/0.0.2: one request and one response in JSON, then chunks
 * (network-sync.md 10, path B). */
#include <yyjson.h>

#include "sync/field.h"

enum { JSON_MAX = 4096, SIGNATURE_NUMBERS = CAL_SIGNATURE_SIZE };

static yyjson_doc *read_json(cal_slice json, int *ret_error) {
    yyjson_read_err why = {0};
    if (json.len > JSON_MAX) {
        *ret_error = CAL_ELIMIT;
        return NULL;
    }
    if (json.len == 0) {
        *ret_error = CAL_EDECODE;
        return NULL;
    }
    /* yyjson does not write to its input without the in-situ flag */
    yyjson_doc *doc = yyjson_read_opts((char *)(uintptr_t)json.data, json.len, 0, NULL, &why);
    *ret_error = doc                                               ? 0
                 : why.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION ? CAL_ENOMEM
                                                                   : CAL_EDECODE;
    return doc;
}

static bool read_id(yyjson_val *object, const char *key, uint8_t ret_id[32]) {
    yyjson_val *value = yyjson_obj_get(object, key);
    const char *text = yyjson_get_str(value);
    return text && strlen(text) == yyjson_get_len(value) && cal_id_parse(text, ret_id) == 0;
}

/* Missing and null are the same, as serde reads an Option. */
static bool absent(yyjson_val *value) { return !value || yyjson_is_null(value); }

static bool read_auth(yyjson_val *auth, sync_blob_request *request) {
    yyjson_val *numbers = yyjson_obj_get(auth, "signature");
    yyjson_val *timestamp = yyjson_obj_get(auth, "timestamp");
    if (!read_id(auth, "public_key", request->key.bytes) || !yyjson_is_uint(timestamp) ||
        yyjson_arr_size(numbers) != SIGNATURE_NUMBERS)
        return false;
    yyjson_arr_iter iter;
    yyjson_arr_iter_init(numbers, &iter);
    for (size_t i = 0; i < SIGNATURE_NUMBERS; i++) {
        yyjson_val *number = yyjson_arr_iter_next(&iter);
        if (!yyjson_is_uint(number) || yyjson_get_uint(number) > UINT8_MAX) return false;
        request->signature[i] = (uint8_t)yyjson_get_uint(number);
    }
    request->timestamp_s = yyjson_get_uint(timestamp);
    request->has_auth = true;
    return true;
}

int sync_blob_request_decode(cal_slice json, sync_blob_request *ret_request) {
    int result;
    yyjson_doc *doc = read_json(json, &result);
    if (!doc) return result;
    yyjson_val *root = yyjson_doc_get_root(doc), *auth = yyjson_obj_get(root, "auth");
    sync_blob_request request = {0};
    bool valid = read_id(root, "blob_id", request.blob.bytes) &&
                 read_id(root, "context_id", request.context.bytes) &&
                 (absent(auth) || read_auth(auth, &request));
    yyjson_doc_free(doc);
    if (!valid) return CAL_EDECODE;
    *ret_request = request;
    return 0;
}

int sync_blob_request_write(const sync_blob_request *request, cal_buffer *out) {
    char blob[CAL_ID_TEXT_MAX], context[CAL_ID_TEXT_MAX], key[CAL_ID_TEXT_MAX];
    cal_id_to_base58(request->blob.bytes, blob);
    cal_id_to_base58(request->context.bytes, context);
    cal_buffer_printf(out, "{\"blob_id\":\"%s\",\"context_id\":\"%s\",\"auth\":", blob, context);
    if (!request->has_auth) return cal_buffer_append_text(out, "null}");
    cal_id_to_base58(request->key.bytes, key);
    cal_buffer_printf(out, "{\"public_key\":\"%s\",\"signature\":[", key);
    for (size_t i = 0; i < SIGNATURE_NUMBERS; i++)
        cal_buffer_printf(out, i ? ",%u" : "%u", (unsigned)request->signature[i]);
    return cal_buffer_printf(out, "],\"timestamp\":%llu}}",
                             (unsigned long long)request->timestamp_s);
}

int sync_blob_request_signable(const sync_blob_request *request, cal_buffer *out) {
    cal_buffer_append(out, request->blob.bytes, 32);
    cal_buffer_append(out, request->context.bytes, 32);
    return cal_buffer_append_u64le(out, request->timestamp_s);
}

int sync_blob_response_decode(cal_slice json, sync_blob_response *ret_response) {
    int result;
    yyjson_doc *doc = read_json(json, &result);
    if (!doc) return result;
    yyjson_val *root = yyjson_doc_get_root(doc);
    yyjson_val *found = yyjson_obj_get(root, "found"), *size = yyjson_obj_get(root, "size");
    bool valid = yyjson_is_bool(found) && (absent(size) || yyjson_is_uint(size));
    sync_blob_response response = {
        .found = yyjson_get_bool(found), .has_size = !absent(size), .size = yyjson_get_uint(size)};
    yyjson_doc_free(doc);
    if (!valid) return CAL_EDECODE;
    *ret_response = response;
    return 0;
}

int sync_blob_response_write(const sync_blob_response *response, cal_buffer *out) {
    cal_buffer_printf(out, "{\"found\":%s,\"size\":", response->found ? "true" : "false");
    if (!response->has_size) return cal_buffer_append_text(out, "null}");
    return cal_buffer_printf(out, "%llu}", (unsigned long long)response->size);
}

int sync_blob_chunk_decode(cal_slice frame, cal_slice *ret_chunk) {
    cal_borsh in = cal_borsh_read(frame);
    cal_slice chunk = cal_borsh_bytes(&in, SYNC_BLOB_CHUNK_MAX);
    if (cal_borsh_end(&in)) return in.error;
    *ret_chunk = chunk;
    return 0;
}

int sync_blob_chunk_write(cal_slice chunk, cal_buffer *out) {
    if (!sync_within(chunk.len, SYNC_BLOB_CHUNK_MAX, out)) return out->error;
    return cal_borsh_put_bytes(out, chunk);
}
