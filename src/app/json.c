/* Reading JSON that somebody signed or built: one meaning only. yyjson keeps repeated keys, the
 * reference keeps the last of them, other tools the first; a text that says two things is refused.
 * Pure functions, any thread. */
#include <stdlib.h>

#include "app/internal.h"

static int compare_keys(const void *a, const void *b) {
    const cal_slice *left = a, *right = b;
    return cal_slice_compare(*left, *right);
}

static cal_slice key_of(yyjson_val *key) {
    return cal_slice_of(yyjson_get_str(key), yyjson_get_len(key));
}

static int check_keys(yyjson_val *object, const char *what, cal_error *err) {
    size_t count = yyjson_obj_size(object), at = 0;
    if (count < 2) return 0;
    cal_slice *keys = malloc(count * sizeof *keys);
    if (!keys) return cal_fail(err, CAL_ENOMEM, "out of memory reading %s", what);
    yyjson_obj_iter iter;
    yyjson_obj_iter_init(object, &iter);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&iter));) keys[at++] = key_of(key);
    qsort(keys, count, sizeof *keys, compare_keys);
    int rc = 0;
    for (size_t i = 1; i < count && rc == 0; i++)
        if (cal_slice_equal(keys[i - 1], keys[i]))
            rc = cal_fail(err, CAL_EDECODE, "%s repeats the key \"%.*s\"", what,
                          keys[i].len > 64 ? 64 : (int)keys[i].len, (const char *)keys[i].data);
    free(keys);
    return rc;
}

static int check_value(yyjson_val *value, int depth, const char *what, cal_error *err) {
    if (!yyjson_is_ctn(value)) return 0;
    if (depth >= APP_JSON_DEPTH_MAX)
        return cal_fail(err, CAL_EDECODE, "%s is nested more than %d deep", what,
                        APP_JSON_DEPTH_MAX);
    int rc = 0;
    if (yyjson_is_arr(value)) {
        yyjson_arr_iter iter;
        yyjson_arr_iter_init(value, &iter);
        for (yyjson_val *item; rc == 0 && (item = yyjson_arr_iter_next(&iter));)
            rc = check_value(item, depth + 1, what, err);
        return rc;
    }
    rc = check_keys(value, what, err);
    yyjson_obj_iter iter;
    yyjson_obj_iter_init(value, &iter);
    for (yyjson_val *key; rc == 0 && (key = yyjson_obj_iter_next(&iter));)
        rc = check_value(yyjson_obj_iter_get_val(key), depth + 1, what, err);
    return rc;
}

int app_json_read(cal_slice json, const char *what, yyjson_doc **ret_doc, cal_error *err) {
    if (json.len == 0) return cal_fail(err, CAL_EDECODE, "%s is empty", what);
    yyjson_read_err why = {0};
    /* yyjson does not write to its input without the in-situ flag. */
    yyjson_doc *doc =
        yyjson_read_opts((char *)(uintptr_t)json.data, json.len, YYJSON_READ_NOFLAG, NULL, &why);
    if (!doc)
        return why.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION
                   ? cal_fail(err, CAL_ENOMEM, "out of memory reading %s", what)
                   : cal_fail(err, CAL_EDECODE, "%s is not JSON: %s at byte %zu", what, why.msg,
                              why.pos);
    int rc = check_value(yyjson_doc_get_root(doc), 0, what, err);
    if (rc != 0) {
        yyjson_doc_free(doc);
        return rc;
    }
    *ret_doc = doc;
    return 0;
}

static int check_field(yyjson_val *value, const app_json_field *field, const char *what,
                       cal_error *err);

static int check_items(yyjson_val *value, const app_json_field *field, const char *what,
                       cal_error *err) {
    yyjson_arr_iter iter;
    yyjson_arr_iter_init(value, &iter);
    int rc = 0;
    for (yyjson_val *item; rc == 0 && (item = yyjson_arr_iter_next(&iter));) {
        if (field->kind == APP_JSON_OBJECTS)
            rc = app_json_shape(item, field->inner, what, err);
        else if (!yyjson_is_str(item))
            rc = cal_fail(err, CAL_EDECODE, "%s is not a list of strings", what);
    }
    return rc;
}

static int check_field(yyjson_val *value, const app_json_field *field, const char *what,
                       cal_error *err) {
    char path[160];
    snprintf(path, sizeof path, "%s.%s", what, field->name);
    switch (field->kind) {
    case APP_JSON_TEXT:
        return yyjson_is_str(value) ? 0 : cal_fail(err, CAL_EDECODE, "%s is not a string", path);
    case APP_JSON_U64:
        return yyjson_is_uint(value) ? 0
                                     : cal_fail(err, CAL_EDECODE, "%s is not a whole number", path);
    case APP_JSON_OBJECT:
        return app_json_shape(value, field->inner, path, err);
    case APP_JSON_TEXTS:
    case APP_JSON_OBJECTS:
        if (!yyjson_is_arr(value)) return cal_fail(err, CAL_EDECODE, "%s is not a list", path);
        return check_items(value, field, path, err);
    }
    return CAL_EINTERNAL;
}

int app_json_shape(yyjson_val *object, const app_json_field *fields, const char *what,
                   cal_error *err) {
    if (!yyjson_is_obj(object)) return cal_fail(err, CAL_EDECODE, "%s is not an object", what);
    for (const app_json_field *field = fields; field->name; field++) {
        yyjson_val *value = yyjson_obj_get(object, field->name);
        if (!value || (field->nullable && yyjson_is_null(value))) {
            if (field->required)
                return cal_fail(err, CAL_EDECODE, "%s has no %s", what, field->name);
            continue;
        }
        int rc = check_field(value, field, what, err);
        if (rc != 0) return rc;
    }
    return 0;
}

const char *app_json_text(yyjson_val *object, const char *key) {
    return yyjson_get_str(yyjson_obj_get(object, key));
}
