/* JSON (RFC 8259): answers written, arguments read (runtime-abi.md 5). Arguments are one object
 * with exactly the declared fields. */
#include "runtime.h"

enum { DEPTH_MAX = 64 };

/* --- writing --- */

static void put(app_json *json, const char *bytes, size_t len) {
    if (len > json->capacity - json->len) {
        size_t capacity = json->capacity ? json->capacity * 2 : 256;
        while (capacity - json->len < len) capacity *= 2;
        char *data = app_alloc(capacity);
        if (json->len) __builtin_memcpy(data, json->data, json->len);
        json->data = data;
        json->capacity = capacity;
    }
    if (len) __builtin_memcpy(json->data + json->len, bytes, len);
    json->len += len;
}

static void put_value(app_json *json, app_text text) {
    if (json->comma) put(json, ",", 1);
    put(json, text.data, text.len);
    json->comma = true;
}

void app_json_null(app_json *json) { put_value(json, APP_LITERAL("null")); }

void app_json_bool(app_json *json, bool value) {
    put_value(json, value ? APP_LITERAL("true") : APP_LITERAL("false"));
}

void app_json_u64(app_json *json, uint64_t value) {
    put_value(json, app_format("%llu", (unsigned long long)value));
}

void app_json_i64(app_json *json, int64_t value) {
    put_value(json, app_format("%lld", (long long)value));
}

void app_json_raw(app_json *json, app_text value) { put_value(json, value); }

/* What a byte that starts no character needs: \uFFFD. Length of the character that does start here,
 * else 0. */
static size_t character(const char *at, size_t len) {
    for (size_t n = 1; n <= 4 && n <= len; n++)
        if (crdt_utf8_valid(crdt_bytes_of(at, n))) return n;
    return 0;
}

static void put_escaped(app_json *json, char c) {
    static const char short_form[] = "btn\0fr";
    char escape[6] = {'\\', c};
    size_t len = 2;
    if (c != '"' && c != '\\') {
        char letter = c >= 8 && c <= 13 ? short_form[c - 8] : 0;
        if (letter) {
            escape[1] = letter;
        } else {
            static const char digits[] = "0123456789abcdef";
            __builtin_memcpy(escape, "\\u00", 4);
            escape[4] = digits[(unsigned char)c >> 4];
            escape[5] = digits[c & 15];
            len = 6;
        }
    }
    put(json, escape, len);
}

void app_json_string(app_json *json, app_text value) {
    if (json->comma) put(json, ",", 1);
    put(json, "\"", 1);
    bool valid = crdt_utf8_valid(app_bytes_from(value));
    size_t plain = 0; /* from here on, bytes that need no change */
    for (size_t i = 0; i < value.len;) {
        unsigned char c = (unsigned char)value.data[i];
        size_t step = valid || c < 0x80 ? 1 : character(value.data + i, value.len - i);
        if (c >= 0x20 && c != '"' && c != '\\' && step) {
            i += step;
            continue;
        }
        put(json, value.data + plain, i - plain);
        if (step)
            put_escaped(json, (char)c);
        else
            put(json, "\xEF\xBF\xBD", 3);
        plain = ++i;
    }
    put(json, value.data + plain, value.len - plain);
    put(json, "\"", 1);
    json->comma = true;
}

void app_json_key(app_json *json, app_text key) {
    app_json_string(json, key);
    put(json, ":", 1);
    json->comma = false;
}

void app_json_open(app_json *json, char bracket) {
    if (json->comma) put(json, ",", 1);
    put(json, &bracket, 1);
    json->comma = false;
}

void app_json_close(app_json *json, char bracket) {
    put(json, &bracket, 1);
    json->comma = true;
}

/* --- reading --- */

static void fail(app_json_reader *in, const char *error) {
    if (!in->error) in->error = error;
    in->at = in->end;
}

static void skip_space(app_json_reader *in) {
    while (in->at < in->end &&
           (*in->at == ' ' || *in->at == '\n' || *in->at == '\t' || *in->at == '\r'))
        in->at++;
}

static char peek(app_json_reader *in) {
    skip_space(in);
    return in->at < in->end ? *in->at : 0;
}

static bool take(app_json_reader *in, char c) {
    if (peek(in) != c || in->at >= in->end) return false;
    in->at++;
    return true;
}

static bool take_word(app_json_reader *in, const char *word) {
    size_t len = __builtin_strlen(word);
    if ((size_t)(in->end - in->at) < len || crdt_compare(in->at, word, len) != 0) return false;
    in->at += len;
    return true;
}

static unsigned hex4(app_json_reader *in) {
    unsigned value = 0;
    for (int i = 0; i < 4; i++) {
        char c = in->at < in->end ? *in->at++ : 0;
        if (c >= '0' && c <= '9')
            value = value * 16 + (unsigned)(c - '0');
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            value = value * 16 + (unsigned)((c | 32) - 'a' + 10);
        else
            fail(in, "invalid escape");
    }
    return value;
}

static size_t put_code_point(char *out, unsigned c) {
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t len = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = len - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (c & 0x3F));
        c >>= 6;
    }
    out[0] = (char)(c | (len == 2 ? 0xC0u : len == 3 ? 0xE0u : 0xF0u));
    return len;
}

static size_t read_escape(app_json_reader *in, char *out) {
    char c = in->at < in->end ? *in->at++ : 0;
    switch (c) {
    case '"':
    case '\\':
    case '/':
        *out = c;
        return 1;
    case 'b':
        *out = '\b';
        return 1;
    case 'f':
        *out = '\f';
        return 1;
    case 'n':
        *out = '\n';
        return 1;
    case 'r':
        *out = '\r';
        return 1;
    case 't':
        *out = '\t';
        return 1;
    case 'u':
        break;
    default:
        fail(in, "invalid escape");
        return 0;
    }
    unsigned code = hex4(in);
    if (code >= 0xD800 && code < 0xDC00 && take_word(in, "\\u")) {
        unsigned low = hex4(in);
        if (low < 0xDC00 || low > 0xDFFF) fail(in, "lone leading surrogate in hex escape");
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    } else if (code >= 0xD800 && code < 0xE000) {
        fail(in, "lone leading surrogate in hex escape");
    }
    return in->error ? 0 : put_code_point(out, code);
}

/* A string never grows by being unescaped. */
static app_text read_string(app_json_reader *in) {
    if (!take(in, '"')) {
        fail(in, "expected a string");
        return (app_text){0};
    }
    const char *start = in->at;
    while (in->at < in->end && *in->at != '"' && *in->at != '\\' && (unsigned char)*in->at >= 0x20)
        in->at++;
    size_t len = (size_t)(in->at - start);
    if (in->at < in->end && *in->at == '"') {
        in->at++;
        return (app_text){start, len};
    }
    char *out = app_alloc((size_t)(in->end - start) + 4);
    __builtin_memcpy(out, start, len);
    while (in->at < in->end && *in->at != '"') {
        char c = *in->at++;
        if ((unsigned char)c < 0x20)
            fail(in, "control character in string");
        else if (c == '\\')
            len += read_escape(in, out + len);
        else
            out[len++] = c;
    }
    if (!take(in, '"')) fail(in, "EOF while parsing a string");
    return (app_text){out, len};
}

static app_text read_number(app_json_reader *in) {
    const char *start = in->at;
    while (in->at < in->end && ((*in->at >= '0' && *in->at <= '9') || *in->at == '-' ||
                                *in->at == '+' || *in->at == '.' || (*in->at | 32) == 'e'))
        in->at++;
    if (in->at == start) fail(in, "expected value");
    return (app_text){start, (size_t)(in->at - start)};
}

static void skip_value(app_json_reader *in, int depth) {
    char c = peek(in);
    if (depth > DEPTH_MAX) {
        fail(in, "recursion limit exceeded");
    } else if (c == '"') {
        read_string(in);
    } else if (c == '{' || c == '[') {
        char close = c == '{' ? '}' : ']';
        in->at++;
        if (take(in, close)) return;
        do {
            if (c == '{') {
                read_string(in);
                if (!take(in, ':')) fail(in, "expected `:`");
            }
            skip_value(in, depth + 1);
        } while (take(in, ','));
        if (!take(in, close)) fail(in, "expected `,` or the end of a list");
    } else if (!take_word(in, "null") && !take_word(in, "true") && !take_word(in, "false")) {
        read_number(in);
    }
}

/* --- arguments --- */

static bool parse_u64(app_text digits, uint64_t max, uint64_t *ret_value) {
    uint64_t value = 0;
    if (!digits.len) return false;
    for (size_t i = 0; i < digits.len; i++) {
        if (digits.data[i] < '0' || digits.data[i] > '9') return false;
        uint64_t digit = (uint64_t)(digits.data[i] - '0');
        if (value > (max - digit) / 10) return false;
        value = value * 10 + digit;
    }
    *ret_value = value;
    return digits.len == 1 || digits.data[0] != '0';
}

static void read_integer(app_json_reader *in, int type, void *target) {
    skip_space(in);
    app_text number = read_number(in);
    bool negative = number.len && number.data[0] == '-';
    bool is_signed = type == APP_PARAM_I32 || type == APP_PARAM_I64;
    uint64_t max = type == APP_PARAM_U32   ? UINT32_MAX
                   : type == APP_PARAM_I32 ? INT32_MAX
                   : type == APP_PARAM_I64 ? INT64_MAX
                                           : UINT64_MAX;
    uint64_t value = 0;
    if (negative) number = (app_text){number.data + 1, number.len - 1};
    if ((negative && !is_signed) || !parse_u64(number, negative ? max + 1 : max, &value)) {
        fail(in, "invalid type or range: expected an integer");
        return;
    }
    if (negative) value = 0 - value;
    if (type == APP_PARAM_U32 || type == APP_PARAM_I32)
        *(uint32_t *)target = (uint32_t)value;
    else
        *(uint64_t *)target = value;
}

static void read_param(app_json_reader *in, const app_param *param, void *args) {
    void *target = (char *)args + param->offset;
    char c = peek(in);
    switch (param->type) {
    case APP_PARAM_NULLABLE_STRING:
        if (c == 'n' && take_word(in, "null")) return;
        __attribute__((fallthrough));
    case APP_PARAM_STRING:
        *(app_text *)target = read_string(in);
        return;
    case APP_PARAM_BOOL:
        if (take_word(in, "true"))
            *(bool *)target = true;
        else if (!take_word(in, "false"))
            fail(in, "invalid type: expected a boolean");
        return;
    default:
        read_integer(in, param->type, target);
    }
}

static const char *type_name(int type) {
    static const char *const names[] = {"string", "string or null", "bool", "u32", "u64", "i32",
                                        "i64"};
    return names[type];
}

static app_text expected(const app_method_info *info) {
    app_text text = APP_LITERAL("");
    for (size_t i = 0; i < info->param_count; i++)
        text = app_format("%.*s%s%s: %s", APP_ARG(text), i ? ", " : "", info->params[i].name,
                          type_name(info->params[i].type));
    return text;
}

static _Noreturn void refuse(const app_method_info *info, app_text reason) {
    app_panic("%s: failed to deserialize arguments (expected { %.*s }): %.*s", info->name,
              APP_ARG(expected(info)), APP_ARG(reason));
}

static void read_no_args(const app_method_info *info, app_json_reader *in) {
    if (peek(in) != '{') return; /* no bytes, or what is no object, is no arguments */
    in->at++;
    app_text unknown = APP_LITERAL("");
    if (!take(in, '}')) {
        do {
            app_text name = read_string(in);
            if (!take(in, ':')) fail(in, "expected `:`");
            skip_value(in, 0);
            unknown = app_format("%.*s%s\"%.*s\"", APP_ARG(unknown), unknown.len ? ", " : "",
                                 APP_ARG(name));
        } while (take(in, ','));
        if (!in->error && take(in, '}'))
            app_panic("%s: takes no arguments, but the call sent unknown field(s): [%.*s]",
                      info->name, APP_ARG(unknown));
    }
}

static void read_field(const app_method_info *info, app_json_reader *in, bool *seen, void *args) {
    app_text name = read_string(in);
    if (!take(in, ':')) fail(in, "expected `:`");
    for (size_t i = 0; i < info->param_count && !in->error; i++) {
        if (!app_text_equal(name, app_text_of(info->params[i].name))) continue;
        if (seen[i]) refuse(info, app_format("duplicate field `%.*s`", APP_ARG(name)));
        seen[i] = true;
        read_param(in, &info->params[i], args);
        if (in->error) refuse(info, app_format("field `%.*s`: %s", APP_ARG(name), in->error));
        return;
    }
    if (!in->error) refuse(info, app_format("unknown field `%.*s`", APP_ARG(name)));
}

void app_read_args(const app_method_info *info, app_text input, void *args) {
    app_json_reader in = {input.data, input.data + input.len, NULL};
    if (!crdt_utf8_valid(app_bytes_from(input)))
        refuse(info, APP_LITERAL("the input is not UTF-8"));
    if (!info->param_count) {
        read_no_args(info, &in);
        return;
    }
    bool *seen = app_alloc(info->param_count);
    if (!take(&in, '{')) refuse(info, APP_LITERAL("expected an object"));
    if (!take(&in, '}')) {
        do read_field(info, &in, seen, args);
        while (take(&in, ','));
        if (!take(&in, '}')) fail(&in, "expected `,` or `}`");
    }
    skip_space(&in);
    if (!in.error && in.at != in.end) fail(&in, "trailing characters");
    if (in.error) refuse(info, app_text_of(in.error));
    for (size_t i = 0; i < info->param_count; i++)
        if (!seen[i] && info->params[i].type != APP_PARAM_NULLABLE_STRING)
            refuse(info, app_format("missing field `%s`", info->params[i].name));
}
