/* A map from text to text: the project's smallest complete application, with the methods,
 * arguments, answers, events and errors of the reference's kv-store. */
#include <calimero_app.h>

#define APP_STATE(FIELD) FIELD(MAP, items)

#define APP_METHODS(METHOD)                                                                        \
    METHOD(CHANGE, clear, NOTHING)                                                                 \
    METHOD(VIEW, entries, STRING_MAP)                                                              \
    METHOD(VIEW, get, NULLABLE_STRING, (STRING, key))                                              \
    METHOD(CHANGE, get_or_insert, STRING, (STRING, key), (STRING, value))                          \
    METHOD(VIEW, get_result, STRING, (STRING, key))                                                \
    METHOD(VIEW, get_unchecked, STRING, (STRING, key))                                             \
    METHOD(INIT, init, NOTHING)                                                                    \
    METHOD(VIEW, len, U64)                                                                         \
    METHOD(CHANGE, remove, NULLABLE_STRING, (STRING, key))                                         \
    METHOD(CHANGE, set, NOTHING, (STRING, key), (STRING, value))                                   \
    METHOD(CHANGE, update_if_exists, BOOL, (STRING, key), (STRING, value))

#define APP_EVENTS(EVENT)                                                                          \
    EVENT(Cleared)                                                                                 \
    EVENT(Inserted, (STRING, key), (STRING, value))                                                \
    EVENT(Removed, (STRING, key))                                                                  \
    EVENT(Updated, (STRING, key), (STRING, value))

APP()

APP_METHOD(init) {}

APP_METHOD(set) {
    app_log("Setting key: \"%.*s\" to value: \"%.*s\"", APP_ARG(args->key), APP_ARG(args->value));
    if (app_map_set(&state.items, args->key, args->value))
        app_emit(Inserted, .key = args->key, .value = args->value);
    else
        app_emit(Updated, .key = args->key, .value = args->value);
}

APP_METHOD(update_if_exists) {
    app_log("Updating if exists: \"%.*s\" -> \"%.*s\"", APP_ARG(args->key), APP_ARG(args->value));
    bool exists = app_map_get(&state.items, args->key, NULL);
    if (exists) {
        app_map_set(&state.items, args->key, args->value);
        app_emit(Updated, .key = args->key, .value = args->value);
    }
    app_json_bool(result, exists);
}

APP_METHOD(get_or_insert) {
    app_text value;
    app_log("Get or insert: \"%.*s\" -> \"%.*s\"", APP_ARG(args->key), APP_ARG(args->value));
    if (!app_map_get(&state.items, args->key, &value)) {
        value = args->value;
        app_emit(Inserted, .key = args->key, .value = value);
        app_map_set(&state.items, args->key, value);
    }
    app_json_string(result, value);
}

/* --- entries: an object with its keys in order --- */

typedef struct pair {
    app_text key, value;
} pair;

static void sift_down(pair *pairs, size_t at, size_t count) {
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && app_text_compare(pairs[child].key, pairs[child + 1].key) < 0)
            child++;
        if (app_text_compare(pairs[at].key, pairs[child].key) >= 0) return;
        pair swap = pairs[at];
        pairs[at] = pairs[child];
        pairs[child] = swap;
    }
}

static void sort(pair *pairs, size_t count) {
    for (size_t i = count / 2; i > 0; i--) sift_down(pairs, i - 1, count);
    for (size_t end = count; end > 1; end--) {
        pair swap = pairs[0];
        pairs[0] = pairs[end - 1];
        pairs[end - 1] = swap;
        sift_down(pairs, 0, end - 1);
    }
}

APP_METHOD(entries) {
    app_log("Getting all entries");
    size_t max = (size_t)app_map_len(&state.items), count = 0;
    pair *pairs = app_alloc(max * sizeof *pairs);
    app_walk walk = app_map_walk(&state.items);
    while (count < max && app_walk_next(&walk)) {
        pairs[count].key = app_text_copy(walk.key);
        pairs[count++].value = app_text_copy(walk.value);
    }
    sort(pairs, count);
    app_json_open(result, '{');
    for (size_t i = 0; i < count; i++) {
        app_json_key(result, pairs[i].key);
        app_json_string(result, pairs[i].value);
    }
    app_json_close(result, '}');
}

APP_METHOD(len) {
    app_log("Getting the number of entries");
    app_json_u64(result, app_map_len(&state.items));
}

static bool get(app_text key, app_text *ret_value) {
    return app_map_get(&state.items, key, ret_value);
}

APP_METHOD(get) {
    app_text value;
    app_log("Getting key: \"%.*s\"", APP_ARG(args->key));
    if (get(args->key, &value))
        app_json_string(result, value);
    else
        app_json_null(result);
}

APP_METHOD(get_unchecked) {
    app_text value;
    app_log("Getting key without checking: \"%.*s\"", APP_ARG(args->key));
    if (!get(args->key, &value)) app_panic("key not found");
    app_json_string(result, value);
}

APP_METHOD(get_result) {
    app_text value;
    app_log("Getting key, possibly failing: \"%.*s\"", APP_ARG(args->key));
    app_log("Getting key: \"%.*s\"", APP_ARG(args->key));
    if (get(args->key, &value)) {
        app_json_string(result, value);
        return;
    }
    app_json error = {0};
    app_json_open(&error, '{');
    app_json_key(&error, APP_LITERAL("data"));
    app_json_string(&error, args->key);
    app_json_key(&error, APP_LITERAL("kind"));
    app_json_string(&error, APP_LITERAL("NotFound"));
    app_json_close(&error, '}');
    app_fail_json((app_text){error.data, error.len});
}

APP_METHOD(remove) {
    app_text value;
    app_log("Removing key: \"%.*s\"", APP_ARG(args->key));
    if (app_map_remove(&state.items, args->key, &value)) {
        app_emit(Removed, .key = args->key);
        app_json_string(result, value);
    } else {
        app_json_null(result);
    }
}

APP_METHOD(clear) {
    app_log("Clearing all entries");
    app_walk walk = app_map_walk(&state.items);
    if (!app_walk_next(&walk)) return;
    app_map_clear(&state.items);
    app_emit(Cleared);
}
