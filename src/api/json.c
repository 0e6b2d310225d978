/* JSON bodies, see json.h. */
#include "api/json.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "calimero/identity.h"
#include "codec/utf8.h"

enum { POSITION_MAX = 48, ID_BASE58_MAX = 44, ID_FAULT_MAX = 128 };

static const char TARGET[] = "Failed to deserialize the JSON body into the target type: ";
static const char SYNTAX[] = "Failed to parse the request body as JSON: ";
static const char NO_TYPE[] = "Expected request with `Content-Type: application/json`";

/* --- reading --- */

bool json_has_type(const http_exchange *exchange) {
    const char *type = http_header(exchange, "content-type");
    if (!type || strncasecmp(type, "application/", 12) != 0) return false;
    size_t len = strcspn(type + 12, "; \t");
    if (len == 4 && strncasecmp(type + 12, "json", 4) == 0) return true;
    return len > 5 && strncasecmp(type + 12 + len - 5, "+json", 5) == 0;
}

static void reply_fault(http_exchange *exchange, json_style style, int plain_status,
                        const char *lead, const char *text) {
    char message[2 * JSON_FAULT_MAX];
    snprintf(message, sizeof message, "%s%s", style == JSON_VALIDATED ? lead : "", text);
    if (style == JSON_VALIDATED)
        json_reply_error(exchange, 400, message);
    else
        http_reply_text(exchange, plain_status, message);
}

static bool is_blank(cal_slice text) {
    for (size_t i = 0; i < text.len; i++)
        if (!isspace(text.data[i])) return false;
    return true;
}

bool json_open(json_in *in, http_exchange *exchange, json_style style, bool optional) {
    *in = (json_in){.exchange = exchange, .style = style, .body = http_body(exchange)};
    if (optional && is_blank(in->body)) return true;
    if (!json_has_type(exchange)) {
        reply_fault(exchange, style, 415, "", NO_TYPE);
        return false;
    }
    yyjson_read_err error;
    in->doc = yyjson_read_opts((char *)(uintptr_t)in->body.data, in->body.len, YYJSON_READ_NOFLAG,
                               NULL, &error);
    if (!in->doc) {
        char text[JSON_FAULT_MAX];
        snprintf(text, sizeof text, "%s%s at byte %zu", SYNTAX, error.msg, error.pos);
        reply_fault(exchange, style, 400, "JSON syntax error: ", text);
        return false;
    }
    in->root = yyjson_doc_get_root(in->doc);
    if (optional && yyjson_is_null(in->root))
        in->root = NULL;
    else if (!yyjson_is_obj(in->root)) {
        in->root = NULL;
        json_fault(in, "invalid type: %s, expected a map",
                   yyjson_get_type_desc(yyjson_doc_get_root(in->doc)));
        return json_ok(in);
    }
    return true;
}

void json_close(json_in *in) {
    yyjson_doc_free(in->doc);
    in->doc = NULL;
}

bool json_ok(json_in *in) {
    if (in->fault[0] == 0 && in->invalid_count == 0) return true;
    char text[2 * JSON_FAULT_MAX];
    if (in->fault[0]) {
        snprintf(text, sizeof text, "%s%s", TARGET, in->fault);
        reply_fault(in->exchange, in->style, 422, "Invalid JSON data: ", text);
    } else {
        snprintf(text, sizeof text, "%s%s", in->invalid_count > 1 ? "Validation errors: " : "",
                 in->invalid);
        json_reply_error(in->exchange, 400, text);
    }
    json_close(in);
    return false;
}

void json_fault(json_in *in, const char *format, ...) {
    if (in->fault[0]) return;
    va_list args;
    va_start(args, format);
    vsnprintf(in->fault, sizeof in->fault, format, args);
    va_end(args);
}

void json_invalid(json_in *in, const char *format, ...) {
    size_t len = strlen(in->invalid);
    if (in->invalid_count++ && len + 2 < sizeof in->invalid) {
        memcpy(in->invalid + len, "; ", 3);
        len += 2;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(in->invalid + len, sizeof in->invalid - len, format, args);
    va_end(args);
}

void json_check_length(json_in *in, const char *name, const char *text, size_t max) {
    if (text && strlen(text) > max)
        json_invalid(in, "Field '%s' exceeds maximum length of %zu characters (got %zu)", name, max,
                     strlen(text));
}

json_place json_top(const json_in *in) { return (json_place){in->root, "", 0}; }

/* Where the closing brace stands of the object that is `depth` deep, when nothing follows it in the
 * ones around: what the reference reports for a missing field. */
static void position(const json_in *in, unsigned depth, char ret_text[POSITION_MAX]) {
    size_t at = in->body.len;
    for (unsigned i = 0; i <= depth; i++) do
            if (at > 0) at--;
        while (at > 0 && isspace(in->body.data[at]));
    size_t line = 1, column = 0;
    for (size_t i = 0; i <= at && i < in->body.len; i++) {
        column = in->body.data[i] == '\n' ? 0 : column + 1;
        line += in->body.data[i] == '\n';
    }
    snprintf(ret_text, POSITION_MAX, "at line %zu column %zu", line, column);
}

static void missing(json_in *in, json_place place, const char *name) {
    char at[POSITION_MAX];
    position(in, place.depth, at);
    json_fault(in, "%s%smissing field `%s` %s", place.path, place.path[0] ? ": " : "", name, at);
}

static void wrong_type(json_in *in, json_place place, const char *name, yyjson_val *value,
                       const char *expected) {
    json_fault(in, "%s%s%s: invalid type: %s, expected %s", place.path, place.path[0] ? "." : "",
               name, yyjson_get_type_desc(value), expected);
}

/* The value, or NULL when it is absent (a fault if required). */
static yyjson_val *field(json_in *in, json_place place, const char *name, bool required) {
    yyjson_val *value = place.object ? yyjson_obj_get(place.object, name) : NULL;
    if (!value && required) missing(in, place, name);
    if (value && !required && yyjson_is_null(value)) return NULL;
    return value;
}

json_place json_inside(json_in *in, json_place place, const char *name) {
    yyjson_val *value = field(in, place, name, true);
    if (value && !yyjson_is_obj(value)) {
        wrong_type(in, place, name, value, "a map");
        value = NULL;
    }
    return (json_place){value, name, place.depth + 1};
}

const char *json_text(json_in *in, json_place place, const char *name, bool required) {
    yyjson_val *value = field(in, place, name, required);
    if (!value) return NULL;
    const char *text = yyjson_get_str(value);
    if (!text || strlen(text) != yyjson_get_len(value)) {
        wrong_type(in, place, name, value, "a string");
        return NULL;
    }
    text = cal_arena_text(http_arena(in->exchange), cal_slice_text(text));
    if (!text) json_fault(in, "%s: out of memory", name);
    return text;
}

const char *json_id_fault(const char *text, char *buffer, size_t size) {
    static const char alphabet[] = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    size_t good = strspn(text, alphabet);
    if (text[good] && (unsigned char)text[good] < 0x80)
        snprintf(buffer, size, "provided string contained invalid character '%c' at byte %zu",
                 text[good], good);
    else if (text[good])
        snprintf(buffer, size, "provided string contained non-ascii character starting at byte %zu",
                 good);
    else
        snprintf(buffer, size, "invalid length %zu, expected a base58 encoded hash", strlen(text));
    return buffer;
}

bool json_id(json_in *in, json_place place, const char *name, bool required, uint8_t ret_id[32]) {
    const char *text = json_text(in, place, name, required);
    if (!text) return false;
    if (cal_id_parse(text, ret_id) == 0) return true;
    char fault[ID_FAULT_MAX];
    json_fault(in, "%s%s%s: %s", place.path, place.path[0] ? "." : "", name,
               json_id_fault(text, fault, sizeof fault));
    return false;
}

bool json_u64(json_in *in, json_place place, const char *name, bool required, uint64_t *ret_value) {
    yyjson_val *value = field(in, place, name, required);
    if (!value) return false;
    if (!yyjson_is_uint(value)) {
        wrong_type(in, place, name, value, "u64");
        return false;
    }
    *ret_value = yyjson_get_uint(value);
    return true;
}

bool json_bool(json_in *in, json_place place, const char *name) {
    yyjson_val *value = field(in, place, name, false);
    if (value && !yyjson_is_bool(value)) wrong_type(in, place, name, value, "a boolean");
    return value && yyjson_is_true(value);
}

bool json_bytes(json_in *in, json_place place, const char *name, bool required,
                cal_slice *ret_bytes) {
    yyjson_val *value = field(in, place, name, required), *item;
    if (!value) return false;
    if (!yyjson_is_arr(value)) {
        wrong_type(in, place, name, value, "a sequence");
        return false;
    }
    uint8_t *bytes = cal_arena_alloc(http_arena(in->exchange), yyjson_arr_size(value));
    if (!bytes) {
        json_fault(in, "%s: out of memory", name);
        return false;
    }
    size_t len = 0, index, count;
    yyjson_arr_foreach(value, index, count, item) {
        if (!yyjson_is_uint(item) || yyjson_get_uint(item) > UINT8_MAX) {
            json_fault(in, "%s[%zu]: invalid value, expected u8", name, index);
            return false;
        }
        bytes[len++] = (uint8_t)yyjson_get_uint(item);
    }
    *ret_bytes = cal_slice_of(bytes, len);
    return true;
}

bool json_is_valid(cal_slice text) {
    yyjson_doc *doc = yyjson_read_opts((char *)(uintptr_t)text.data, text.len,
                                       YYJSON_READ_NUMBER_AS_RAW, NULL, NULL);
    yyjson_doc_free(doc);
    return doc != NULL;
}

/* --- writing --- */

json_out json_out_new(void) {
    json_out out = {.doc = yyjson_mut_doc_new(NULL)};
    out.root = yyjson_mut_obj(out.doc);
    if (out.doc) yyjson_mut_doc_set_root(out.doc, out.root);
    return out;
}

/* Adding to NULL or adding NULL fails without harm in yyjson; what is left out then is made visible
 * here. */
static void add(json_out *out, yyjson_mut_val *object, const char *name, yyjson_mut_val *value) {
    if (value && object && yyjson_mut_obj_add(object, yyjson_mut_str(out->doc, name), value))
        return;
    out->root = NULL;
}

static void push(json_out *out, yyjson_mut_val *array, yyjson_mut_val *value) {
    if (!value || !array || !yyjson_mut_arr_append(array, value)) out->root = NULL;
}

yyjson_mut_val *json_add_object(json_out *out, yyjson_mut_val *object, const char *name) {
    yyjson_mut_val *value = yyjson_mut_obj(out->doc);
    add(out, object, name, value);
    return value;
}

yyjson_mut_val *json_add_array(json_out *out, yyjson_mut_val *object, const char *name) {
    yyjson_mut_val *value = yyjson_mut_arr(out->doc);
    add(out, object, name, value);
    return value;
}

yyjson_mut_val *json_push_object(json_out *out, yyjson_mut_val *array) {
    yyjson_mut_val *value = yyjson_mut_obj(out->doc);
    push(out, array, value);
    return value;
}

yyjson_mut_val *json_out_data(json_out *out) { return json_add_object(out, out->root, "data"); }

/* A text as a JSON string; bytes that are no UTF-8 (a message cut in the middle of a character)
 * become '?'. */
static yyjson_mut_val *text_value(json_out *out, const char *text) {
    size_t len = strlen(text);
    if (cal_utf8_valid(cal_slice_of(text, len))) return yyjson_mut_strncpy(out->doc, text, len);
    char *copy = malloc(len + 1);
    if (!copy) return NULL;
    for (size_t i = 0; i <= len; i++) copy[i] = (unsigned char)text[i] < 0x80 ? text[i] : '?';
    yyjson_mut_val *value = yyjson_mut_strncpy(out->doc, copy, len);
    free(copy);
    return value;
}

void json_add_text(json_out *out, yyjson_mut_val *object, const char *name, const char *text) {
    if (text) add(out, object, name, text_value(out, text));
}
void json_add_pair(json_out *out, yyjson_mut_val *object, cal_slice name, cal_slice text) {
    const char *key = name.len ? (const char *)name.data : "";
    const char *value = text.len ? (const char *)text.data : "";
    yyjson_mut_val *key_copy = yyjson_mut_strncpy(out->doc, key, name.len);
    yyjson_mut_val *copy = yyjson_mut_strncpy(out->doc, value, text.len);
    if (!object || !key_copy || !copy || !yyjson_mut_obj_add(object, key_copy, copy))
        out->root = NULL;
}
void json_push_text(json_out *out, yyjson_mut_val *array, const char *text) {
    push(out, array, text_value(out, text));
}
void json_add_null(json_out *out, yyjson_mut_val *object, const char *name) {
    add(out, object, name, yyjson_mut_null(out->doc));
}
void json_add_bool(json_out *out, yyjson_mut_val *object, const char *name, bool value) {
    add(out, object, name, yyjson_mut_bool(out->doc, value));
}
void json_add_u64(json_out *out, yyjson_mut_val *object, const char *name, uint64_t value) {
    add(out, object, name, yyjson_mut_uint(out->doc, value));
}

void json_add_base58(json_out *out, yyjson_mut_val *object, const char *name,
                     const uint8_t id[32]) {
    char text[CAL_ID_TEXT_MAX];
    cal_id_to_base58(id, text);
    json_add_text(out, object, name, text);
}

void json_add_hex(json_out *out, yyjson_mut_val *object, const char *name, const uint8_t id[32]) {
    char text[CAL_ID_TEXT_MAX];
    cal_id_to_hex(id, text);
    json_add_text(out, object, name, text);
}

void json_push_base58(json_out *out, yyjson_mut_val *array, const uint8_t id[32]) {
    char text[CAL_ID_TEXT_MAX];
    cal_id_to_base58(id, text);
    json_push_text(out, array, text);
}

void json_push_hex(json_out *out, yyjson_mut_val *array, const uint8_t id[32]) {
    char text[CAL_ID_TEXT_MAX];
    cal_id_to_hex(id, text);
    json_push_text(out, array, text);
}

void json_add_bytes(json_out *out, yyjson_mut_val *object, const char *name, cal_slice bytes) {
    static const uint8_t none;
    add(out, object, name,
        yyjson_mut_arr_with_uint8(out->doc, bytes.len ? bytes.data : &none, bytes.len));
}

void json_add_raw(json_out *out, yyjson_mut_val *object, const char *name, cal_slice json) {
    add(out, object, name, yyjson_mut_rawncpy(out->doc, (const char *)json.data, json.len));
}

int json_out_write(json_out *out, cal_buffer *ret_text) {
    size_t len = 0;
    char *text = out->root ? yyjson_mut_write(out->doc, YYJSON_WRITE_NOFLAG, &len) : NULL;
    yyjson_mut_doc_free(out->doc);
    *out = (json_out){0};
    if (!text) return CAL_ENOMEM;
    int error = cal_buffer_append(ret_text, text, len);
    free(text);
    return error;
}

void json_reply(http_exchange *exchange, int status, json_out *out) {
    size_t len = 0;
    char *text = out->root ? yyjson_mut_write(out->doc, YYJSON_WRITE_NOFLAG, &len) : NULL;
    yyjson_mut_doc_free(out->doc);
    *out = (json_out){0};
    if (text)
        http_reply(exchange, status, "application/json", cal_slice_of(text, len));
    else
        http_reply(exchange, 503, "application/json",
                   cal_slice_text("{\"error\":\"out of memory\"}"));
    free(text);
}

void json_reply_error(http_exchange *exchange, int status, const char *text) {
    json_out out = json_out_new();
    json_add_text(&out, out.root, "error", text);
    json_reply(exchange, status, &out);
}

void json_reply_refusal(http_exchange *exchange, const cal_error *err) {
    json_reply_error(exchange, cal_error_http_status(err->code),
                     err->message[0] ? err->message : cal_error_text(err->code));
}

void json_reply_code(http_exchange *exchange, int code) {
    json_reply_error(exchange, cal_error_http_status(code), cal_error_text(code));
}

void json_reply_data_null(http_exchange *exchange) {
    http_reply(exchange, 200, "application/json", cal_slice_text("{\"data\":null}"));
}
