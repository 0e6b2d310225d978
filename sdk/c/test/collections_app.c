/* Every collection of the SDK behind a method, for the tests of this folder. */
#include <calimero_app.h>

#define APP_STATE(FIELD)                                                                           \
    FIELD(MAP, map) FIELD(SET, set) FIELD(VECTOR, vector) FIELD(REGISTER, reg) FIELD(COUNTER, count)

#define APP_METHODS(METHOD)                                                                        \
    METHOD(CHANGE, args, STRING, (NULLABLE_STRING, text), (BOOL, flag), (U32, u), (I32, i),        \
           (I64, l))                                                                               \
    METHOD(CHANGE, fail_after_write, NOTHING)                                                      \
    METHOD(CHANGE, fill, NOTHING, (U32, from), (U32, count))                                       \
    METHOD(INIT, init, NOTHING)                                                                    \
    METHOD(VIEW, map_get, NULLABLE_STRING, (STRING, key))                                          \
    METHOD(VIEW, map_len, U64)                                                                     \
    METHOD(CHANGE, map_set, BOOL, (STRING, key), (STRING, value))                                  \
    METHOD(CHANGE, note, NOTHING, (STRING, text))                                                  \
    METHOD(VIEW, note_get, NULLABLE_STRING)                                                        \
    METHOD(CHANGE, ping, NOTHING)                                                                  \
    METHOD(CHANGE, push, U64, (STRING, value))                                                     \
    METHOD(CHANGE, push_many, U64, (U32, count))                                                   \
    METHOD(CHANGE, set_clear, NOTHING)                                                             \
    METHOD(VIEW, set_has, BOOL, (STRING, value))                                                   \
    METHOD(CHANGE, set_insert, BOOL, (STRING, value))                                              \
    METHOD(VIEW, set_len, U64)                                                                     \
    METHOD(CHANGE, set_remove, BOOL, (STRING, value))                                              \
    METHOD(VIEW, vector_all, STRING_LIST)                                                          \
    METHOD(VIEW, vector_get, NULLABLE_STRING, (U64, index))                                        \
    METHOD(VIEW, vector_len, U64)                                                                  \
    METHOD(CHANGE, vector_pop, NULLABLE_STRING)                                                    \
    METHOD(CHANGE, vector_set, BOOL, (U64, index), (STRING, value))

#define APP_EVENTS(EVENT)                                                                          \
    EVENT(Mixed, (NULLABLE_STRING, none), (BOOL, yes), (I32, low), (U64, high)) EVENT(Ping)

APP()

APP_METHOD(init) {}

APP_METHOD(args) {
    app_emit_to(Mixed, "on_mixed", .yes = args->flag, .low = args->i, .high = UINT64_MAX);
    app_text text = args->text.data ? args->text : APP_LITERAL("(none)");
    app_json_string(result, app_format("%.*s %d %u %d %lld", APP_ARG(text), args->flag, args->u,
                                       args->i, (long long)args->l));
}

APP_METHOD(fail_after_write) {
    app_map_set(&state.map, APP_LITERAL("lost"), APP_LITERAL("x"));
    app_fail(APP_LITERAL("no \"luck\""));
}

APP_METHOD(fill) {
    for (uint32_t i = 0; i < args->count; i++) {
        app_text key = app_format("key-%u", args->from + i);
        app_map_set(&state.map, key, APP_LITERAL("a value of a usual size"));
    }
}

APP_METHOD(map_get) {
    app_text value;
    if (app_map_get(&state.map, args->key, &value))
        app_json_string(result, value);
    else
        app_json_null(result);
}

APP_METHOD(map_len) { app_json_u64(result, app_map_len(&state.map)); }
APP_METHOD(map_set) { app_json_bool(result, app_map_set(&state.map, args->key, args->value)); }
APP_METHOD(note) { app_private_set("note", args->text); }

APP_METHOD(note_get) {
    app_text note;
    if (app_private_get("note", &note)) app_json_string(result, note);
}

APP_METHOD(ping) { app_emit(Ping); }

APP_METHOD(push) {
    app_vector_push(&state.vector, args->value);
    app_json_u64(result, app_vector_len(&state.vector));
}

APP_METHOD(push_many) {
    for (uint32_t i = 0; i < args->count; i++) app_vector_push(&state.vector, app_format("%u", i));
    app_json_u64(result, app_vector_len(&state.vector));
}

APP_METHOD(set_clear) { app_set_clear(&state.set); }
APP_METHOD(set_has) { app_json_bool(result, app_set_has(&state.set, args->value)); }
APP_METHOD(set_insert) { app_json_bool(result, app_set_insert(&state.set, args->value)); }
APP_METHOD(set_len) { app_json_u64(result, app_set_len(&state.set)); }
APP_METHOD(set_remove) { app_json_bool(result, app_set_remove(&state.set, args->value)); }

APP_METHOD(vector_all) {
    app_json_open(result, '[');
    uint64_t len = app_vector_len(&state.vector);
    app_text value;
    for (uint64_t i = 0; i < len; i++)
        if (app_vector_get(&state.vector, i, &value)) app_json_string(result, value);
    app_json_close(result, ']');
}

APP_METHOD(vector_get) {
    app_text value;
    if (app_vector_get(&state.vector, args->index, &value)) app_json_string(result, value);
}

APP_METHOD(vector_len) { app_json_u64(result, app_vector_len(&state.vector)); }

APP_METHOD(vector_pop) {
    app_text value;
    if (app_vector_pop(&state.vector, &value)) app_json_string(result, value);
}

APP_METHOD(vector_set) {
    app_json_bool(result, app_vector_set(&state.vector, args->index, args->value));
}
