/* A counter that every member may count at the same time: each device counts in its own slot, and
 * the value is their sum. */
#include <calimero_app.h>

#define APP_STATE(FIELD) FIELD(COUNTER, count) FIELD(REGISTER, title)

#define APP_METHODS(METHOD)                                                                        \
    METHOD(CHANGE, decrement, I64)                                                                 \
    METHOD(VIEW, get, I64)                                                                         \
    METHOD(VIEW, get_title, NULLABLE_STRING)                                                       \
    METHOD(CHANGE, increment, I64)                                                                 \
    METHOD(CHANGE, increment_by, I64, (U64, amount))                                               \
    METHOD(INIT, init, NOTHING)                                                                    \
    METHOD(CHANGE, set_title, NOTHING, (STRING, title))

#define APP_EVENTS(EVENT) EVENT(Changed, (I64, value))

APP()

APP_METHOD(init) {}

static void answer(app_json *result) {
    int64_t value = app_counter_get(&state.count);
    app_emit(Changed, .value = value);
    app_json_i64(result, value);
}

APP_METHOD(increment) {
    app_counter_add(&state.count, 1);
    answer(result);
}

APP_METHOD(increment_by) {
    app_counter_add(&state.count, args->amount);
    answer(result);
}

APP_METHOD(decrement) {
    app_counter_subtract(&state.count, 1);
    answer(result);
}

APP_METHOD(get) { app_json_i64(result, app_counter_get(&state.count)); }

APP_METHOD(set_title) { app_register_set(&state.title, args->title); }

APP_METHOD(get_title) {
    app_text title;
    if (app_register_get(&state.title, &title))
        app_json_string(result, title);
    else
        app_json_null(result);
}
