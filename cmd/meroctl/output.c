/* Answers for people: objects as `key: value`, lists of objects as a table, bytes as text or their
 * number.
 *
 * One renderer serves every command, so that a field which a newer node adds shows up by itself. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "mero.h"

enum { COLUMNS_MAX = 16, BYTES_MIN = 1, CELL_MAX = 100, INDENT = 2 };

static size_t size_of(yyjson_val *value) {
    return yyjson_is_arr(value) ? yyjson_arr_size(value) : yyjson_obj_size(value);
}

static bool is_bytes(yyjson_val *value) {
    size_t i, n;
    yyjson_val *item;
    if (!yyjson_is_arr(value) || yyjson_arr_size(value) < BYTES_MIN) return false;
    yyjson_arr_foreach(value, i, n, item) {
        if (!yyjson_is_uint(item) || yyjson_get_uint(item) > UINT8_MAX) return false;
    }
    return true;
}

static bool is_scalar(yyjson_val *value) { return !yyjson_is_ctn(value) || size_of(value) == 0; }

/* 32 bytes are an id; other bytes are text when they can be read, otherwise their number is told.
 */
static char *bytes_text(yyjson_val *value) {
    size_t i, n, len = yyjson_arr_size(value);
    yyjson_val *item;
    char *text = malloc(len + 2 > CAL_ID_TEXT_MAX ? len + 2 : CAL_ID_TEXT_MAX);
    bool readable = true;
    if (!text) return NULL;
    if (len == CAL_ID_SIZE) {
        uint8_t id[CAL_ID_SIZE];
        yyjson_arr_foreach(value, i, n, item) id[i] = (uint8_t)yyjson_get_uint(item);
        cal_id_to_base58(id, text);
        return text;
    }
    yyjson_arr_foreach(value, i, n, item) {
        text[i] = (char)yyjson_get_uint(item);
        readable = readable && isprint((unsigned char)text[i]);
    }
    text[len] = 0;
    if (readable) return text;
    free(text);
    return asprintf(&text, "(%zu bytes)", len) < 0 ? NULL : text;
}

/* The text of a value on one line; free() it. */
static char *cell_text(yyjson_val *value) {
    if (!value || yyjson_is_null(value)) return strdup("-");
    if (yyjson_is_str(value)) return strdup(yyjson_get_str(value));
    if (is_bytes(value)) return bytes_text(value);
    if (yyjson_is_ctn(value) && size_of(value) == 0) return strdup("-");
    return yyjson_val_write(value, 0, NULL);
}

static size_t width_of(const char *text) {
    size_t width = 0;
    for (; *text; text++) width += ((unsigned char)*text & 0xC0) != 0x80;
    return width;
}

static void print_padded(FILE *out, const char *text, size_t width, bool last) {
    fputs(text, out);
    if (last) return;
    size_t w = width_of(text);
    fprintf(out, "%*s", (int)(w < width ? width - w + INDENT : INDENT), "");
}

/* Whether a cell is an object or list too wide for a row; who asks for one row gets it. */
static bool is_wide(yyjson_val *value) {
    if (is_scalar(value) || is_bytes(value)) return false;
    char *text = cell_text(value);
    bool wide = !text || width_of(text) > CELL_MAX;
    free(text);
    return wide;
}

/* `flat`: without columns that are wide in some row. */
static size_t columns_of(yyjson_val *rows, bool flat, const char *ret_names[COLUMNS_MAX]) {
    size_t count = 0, i, n, j, k;
    yyjson_val *row, *key, *value;
    yyjson_arr_foreach(rows, i, n, row) {
        yyjson_obj_foreach(row, j, k, key, value) {
            size_t c = 0;
            if (flat && is_wide(value)) continue;
            while (c < count && strcmp(ret_names[c], yyjson_get_str(key)) != 0) c++;
            if (c == count && count < COLUMNS_MAX) ret_names[count++] = yyjson_get_str(key);
        }
    }
    return count;
}

static void print_table(FILE *out, yyjson_val *rows, int indent) {
    const char *names[COLUMNS_MAX] = {0};
    size_t widths[COLUMNS_MAX], count = columns_of(rows, indent == 0, names), i, n;
    yyjson_val *row;
    for (size_t c = 0; c < count; c++) {
        widths[c] = strlen(names[c]);
        yyjson_arr_foreach(rows, i, n, row) {
            char *text = cell_text(yyjson_obj_get(row, names[c]));
            size_t width = text ? width_of(text) : 0;
            if (width > CELL_MAX)
                width = CELL_MAX; /* one long cell must not push all others away */
            if (width > widths[c]) widths[c] = width;
            free(text);
        }
    }
    fprintf(out, "%*s", indent, "");
    for (size_t c = 0; c < count; c++) print_padded(out, names[c], widths[c], c + 1 == count);
    fputc('\n', out);
    yyjson_arr_foreach(rows, i, n, row) {
        fprintf(out, "%*s", indent, "");
        for (size_t c = 0; c < count; c++) {
            char *text = cell_text(yyjson_obj_get(row, names[c]));
            print_padded(out, text ? text : "", widths[c], c + 1 == count);
            free(text);
        }
        fputc('\n', out);
    }
}

static bool is_table(yyjson_val *value) {
    size_t i, n;
    yyjson_val *item;
    if (!yyjson_is_arr(value) || yyjson_arr_size(value) == 0) return false;
    yyjson_arr_foreach(value, i, n, item) {
        if (!yyjson_is_obj(item)) return false;
    }
    return true;
}

static void render(FILE *out, yyjson_val *value, int indent);

static void print_member(FILE *out, const char *name, yyjson_val *value, int indent) {
    fprintf(out, "%*s%s:", indent, "", name ? name : "");
    if (is_scalar(value) || is_bytes(value)) {
        char *text = cell_text(value);
        fprintf(out, " %s\n", text ? text : "");
        free(text);
        return;
    }
    fputc('\n', out);
    render(out, value, indent + INDENT);
}

static void render(FILE *out, yyjson_val *value, int indent) {
    size_t i, n;
    yyjson_val *key, *item;
    if (is_table(value)) {
        print_table(out, value, indent);
    } else if (yyjson_is_obj(value)) {
        yyjson_obj_foreach(value, i, n, key, item)
            print_member(out, yyjson_get_str(key), item, indent);
    } else if (yyjson_is_arr(value) && !is_bytes(value)) {
        yyjson_arr_foreach(value, i, n, item) {
            char *text = cell_text(item);
            fprintf(out, "%*s%s\n", indent, "", text ? text : "");
            free(text);
        }
    } else {
        char *text = cell_text(value);
        fprintf(out, "%*s%s\n", indent, "", text ? text : "");
        free(text);
    }
}

void mero_print_human(yyjson_val *value, FILE *out) {
    /* {"data": X} is X, and an object whose only member is a list or an object is that. */
    if (yyjson_is_obj(value) && yyjson_obj_size(value) == 1 && yyjson_obj_get(value, "data"))
        value = yyjson_obj_get(value, "data");
    if (yyjson_is_obj(value) && yyjson_obj_size(value) == 1) {
        yyjson_obj_iter iter = yyjson_obj_iter_with(value);
        yyjson_val *only = yyjson_obj_iter_get_val(yyjson_obj_iter_next(&iter));
        if (yyjson_is_ctn(only)) value = only;
    }
    if (!value || yyjson_is_null(value) || (yyjson_is_obj(value) && yyjson_obj_size(value) == 0))
        fputs("done\n", out);
    else if (yyjson_is_arr(value) && yyjson_arr_size(value) == 0)
        fputs("none\n", out);
    else
        render(out, value, 0);
}

void mero_print(const mero *m, yyjson_val *value) {
    if (!m->json) {
        mero_print_human(value, stdout);
        return;
    }
    char *text = value ? yyjson_val_write(value, YYJSON_WRITE_ALLOW_INVALID_UNICODE, NULL) : NULL;
    puts(text ? text : "null");
    free(text);
}
