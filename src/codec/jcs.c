/* RFC 8785 canonical JSON, see jcs.h. Names sort by UTF-16 code units; numbers are doubles, written
 * as ECMAScript does. */
#include "codec/jcs.h"

#include <stdlib.h>

#include "calimero/error.h"

enum { JCS_DEPTH_MAX = 128, JCS_DIGITS_MAX = 32 };

static int write_value(yyjson_val *value, cal_jcs_keep keep, unsigned depth, cal_buffer *out);

static void write_text(cal_slice text, cal_buffer *out) {
    static const char hex[] = "0123456789abcdef";
    cal_buffer_append_u8(out, '"');
    size_t plain = 0; /* start of what needs no escape */
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        cal_buffer_append(out, text.data + plain, i - plain);
        plain = i + 1;
        cal_buffer_append_u8(out, '\\');
        const char *known = "\bb\tt\nn\ff\rr\"\"\\\\";
        while (*known && (uint8_t)*known != c) known += 2;
        if (*known) {
            cal_buffer_append_u8(out, (uint8_t)known[1]);
            continue;
        }
        uint8_t escape[] = {'u', '0', '0', (uint8_t)hex[c >> 4], (uint8_t)hex[c & 15]};
        cal_buffer_append(out, escape, sizeof escape);
    }
    cal_buffer_append(out, text.data + plain, text.len - plain);
    cal_buffer_append_u8(out, '"');
}

/* The shortest digits that read back as `number` > 0, and the exponent n of 0.DIGITS * 10^n. yyjson
 * finds them; only their layout is ours. */
static int shortest_digits(double number, char ret_digits[JCS_DIGITS_MAX], int *ret_count,
                           int *ret_exponent) {
    yyjson_val real;
    memset(&real, 0, sizeof real);
    if (!yyjson_set_real(&real, number)) return CAL_EINTERNAL;
    size_t len = 0;
    char *text = yyjson_val_write_opts(&real, 0, NULL, &len, NULL);
    if (!text) return CAL_ENOMEM;
    int count = 0, exponent = 0;
    bool point = false;
    for (const char *p = text; *p; p++) {
        if (*p == '.')
            point = true;
        else if (*p == 'e' || *p == 'E') {
            exponent += (int)strtol(p + 1, NULL, 10);
            break;
        } else {
            if (count > 0 || *p != '0') {
                if (count < JCS_DIGITS_MAX) ret_digits[count++] = *p;
                if (!point) exponent++;
            } else if (point)
                exponent--;
        }
    }
    free(text);
    while (count > 0 && ret_digits[count - 1] == '0') count--;
    *ret_count = count;
    *ret_exponent = exponent;
    return 0;
}

/* ECMA-262, Number::toString. */
static int write_number(double number, cal_buffer *out) {
    if (number != number || number - number != 0) return CAL_EDECODE;
    if (number == 0) return cal_buffer_append_u8(out, '0'); /* -0 too */
    if (number < 0) cal_buffer_append_u8(out, '-');
    char digits[JCS_DIGITS_MAX];
    int count = 0, n = 0;
    int result = shortest_digits(number < 0 ? -number : number, digits, &count, &n);
    if (result) return result;
    if (n > 0 && n <= 21) {
        int whole = count < n ? count : n;
        cal_buffer_append(out, digits, (size_t)whole);
        for (int i = whole; i < n; i++) cal_buffer_append_u8(out, '0');
        if (count > n) {
            cal_buffer_append_u8(out, '.');
            cal_buffer_append(out, digits + n, (size_t)(count - n));
        }
        return out->error;
    }
    if (n > -6 && n <= 0) {
        cal_buffer_append_text(out, "0.");
        for (int i = n; i < 0; i++) cal_buffer_append_u8(out, '0');
        return cal_buffer_append(out, digits, (size_t)count);
    }
    cal_buffer_append(out, digits, 1);
    if (count > 1) {
        cal_buffer_append_u8(out, '.');
        cal_buffer_append(out, digits + 1, (size_t)(count - 1));
    }
    return cal_buffer_printf(out, "e%c%d", n > 0 ? '+' : '-', abs(n - 1));
}

typedef struct {
    cal_slice name;
    yyjson_val *value;
} jcs_member;

/* In UTF-8 the order of code units is the order of bytes, but for characters beyond U+FFFF (lead
 * byte F0 and up): their surrogates come before U+E000 (lead byte EE). */
static int compare_members(const void *left, const void *right) {
    cal_slice a = ((const jcs_member *)left)->name, b = ((const jcs_member *)right)->name;
    size_t shorter = a.len < b.len ? a.len : b.len;
    for (size_t i = 0; i < shorter; i++) {
        uint8_t x = a.data[i], y = b.data[i];
        if (x == y) continue;
        if (x >= 0xF0 && (y == 0xEE || y == 0xEF)) return -1;
        if (y >= 0xF0 && (x == 0xEE || x == 0xEF)) return 1;
        return x < y ? -1 : 1;
    }
    return (a.len > b.len) - (a.len < b.len);
}

static int write_object(yyjson_val *object, cal_jcs_keep keep, unsigned depth, cal_buffer *out) {
    size_t size = yyjson_obj_size(object), count = 0;
    jcs_member *members = calloc(size ? size : 1, sizeof *members);
    if (!members) return CAL_ENOMEM;
    yyjson_obj_iter iter = yyjson_obj_iter_with(object);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&iter));) {
        cal_slice name = cal_slice_of(yyjson_get_str(key), yyjson_get_len(key));
        if (keep && !keep(name)) continue;
        members[count++] = (jcs_member){name, yyjson_obj_iter_get_val(key)};
    }
    qsort(members, count, sizeof *members, compare_members);
    int result = 0;
    cal_buffer_append_u8(out, '{');
    for (size_t i = 0; i < count && !result; i++) {
        if (i > 0 && cal_slice_equal(members[i - 1].name, members[i].name)) result = CAL_EDECODE;
        if (i > 0) cal_buffer_append_u8(out, ',');
        write_text(members[i].name, out);
        cal_buffer_append_u8(out, ':');
        if (!result) result = write_value(members[i].value, NULL, depth + 1, out);
    }
    cal_buffer_append_u8(out, '}');
    free(members);
    return result;
}

static int write_array(yyjson_val *array, unsigned depth, cal_buffer *out) {
    cal_buffer_append_u8(out, '[');
    yyjson_arr_iter iter = yyjson_arr_iter_with(array);
    int result = 0;
    bool first = true;
    for (yyjson_val *item; !result && (item = yyjson_arr_iter_next(&iter)); first = false) {
        if (!first) cal_buffer_append_u8(out, ',');
        result = write_value(item, NULL, depth + 1, out);
    }
    cal_buffer_append_u8(out, ']');
    return result;
}

static int write_value(yyjson_val *value, cal_jcs_keep keep, unsigned depth, cal_buffer *out) {
    if (depth > JCS_DEPTH_MAX) return CAL_ELIMIT;
    int result = 0;
    switch (yyjson_get_type(value)) {
    case YYJSON_TYPE_NULL:
        cal_buffer_append_text(out, "null");
        break;
    case YYJSON_TYPE_BOOL:
        cal_buffer_append_text(out, yyjson_get_bool(value) ? "true" : "false");
        break;
    case YYJSON_TYPE_NUM:
        result = write_number(yyjson_get_num(value), out);
        break;
    case YYJSON_TYPE_STR:
        write_text(cal_slice_of(yyjson_get_str(value), yyjson_get_len(value)), out);
        break;
    case YYJSON_TYPE_ARR:
        result = write_array(value, depth, out);
        break;
    case YYJSON_TYPE_OBJ:
        result = write_object(value, keep, depth, out);
        break;
    default:
        result = CAL_EDECODE;
    }
    return result ? result : out->error;
}

int cal_jcs_write(yyjson_val *value, cal_jcs_keep keep, cal_buffer *out) {
    return write_value(value, keep, 0, out);
}
