/* Text: comparing and formatting. Pure, but for memory. */
#include "runtime.h"

app_text app_text_of(const char *text) { return (app_text){text, __builtin_strlen(text)}; }

app_text app_text_copy(app_text text) {
    char *data = app_alloc(text.len);
    if (text.len) __builtin_memcpy(data, text.data, text.len);
    return (app_text){data, text.len};
}

bool app_text_equal(app_text a, app_text b) {
    return a.len == b.len && crdt_compare(a.data, b.data, a.len) == 0;
}

int app_text_compare(app_text a, app_text b) {
    size_t shorter = a.len < b.len ? a.len : b.len;
    int order = crdt_compare(a.data, b.data, shorter);
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

static crdt_writer text_writer(void) { return crdt_writer_of(&app.env.memory); }

static void write_number(crdt_writer *out, uint64_t value, unsigned base) {
    char digits[24];
    size_t at = sizeof digits;
    do {
        digits[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    crdt_write_fixed(out, digits + at, sizeof digits - at);
}

static void write_signed(crdt_writer *out, int64_t value) {
    if (value < 0) crdt_write_u8(out, '-');
    write_number(out, value < 0 ? 0 - (uint64_t)value : (uint64_t)value, 10);
}

/* The sizes of integers: none, l (also z), ll. */
static int read_size(const char **format) {
    int size = 0;
    while (**format == 'l' || **format == 'z') {
        size++;
        (*format)++;
    }
    return size;
}

static uint64_t take_unsigned(va_list *list, int size) {
    if (size == 0) return va_arg(*list, unsigned);
    return size == 1 ? va_arg(*list, unsigned long) : va_arg(*list, unsigned long long);
}

static int64_t take_signed(va_list *list, int size) {
    if (size == 0) return va_arg(*list, int);
    return size == 1 ? va_arg(*list, long) : va_arg(*list, long long);
}

app_text app_format_list(const char *format, va_list list) {
    crdt_writer out = text_writer();
    va_list args;
    va_copy(args, list);
    for (; *format; format++) {
        if (*format != '%') {
            crdt_write_u8(&out, (uint8_t)*format);
            continue;
        }
        format++;
        int precision = -1;
        if (format[0] == '.' && format[1] == '*') {
            precision = va_arg(args, int);
            format += 2;
        }
        int size = read_size(&format);
        switch (*format) {
        case 's': {
            const char *text = va_arg(args, const char *);
            crdt_write_fixed(&out, text,
                             precision < 0 ? __builtin_strlen(text) : (size_t)precision);
            break;
        }
        case 'c':
            crdt_write_u8(&out, (uint8_t)va_arg(args, int));
            break;
        case 'd':
        case 'i':
            write_signed(&out, take_signed(&args, size));
            break;
        case 'u':
            write_number(&out, take_unsigned(&args, size), 10);
            break;
        case 'x':
            write_number(&out, take_unsigned(&args, size), 16);
            break;
        case '%':
            crdt_write_u8(&out, '%');
            break;
        default:
            crdt_write_u8(&out, '?');
            format--;
            break;
        }
    }
    va_end(args);
    return (app_text){(const char *)out.data, out.error ? 0 : out.len};
}

app_text app_format(const char *format, ...) {
    va_list list;
    va_start(list, format);
    app_text text = app_format_list(format, list);
    va_end(list);
    return text;
}
