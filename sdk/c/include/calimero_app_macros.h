/* What APP() expands to: argument structures, exports, and the ABI section (runtime-abi.md 24).
 * Included by calimero_app.h; clang-format is off, for the shape of the lists. */
#ifndef CALIMERO_APP_MACROS_H
#define CALIMERO_APP_MACROS_H

/* APP_EACH(macro, (a, b), (c, d)) is macro(a, b) macro(c, d); up to 27 tuples. */
/* clang-format off */
#define APP_PARENS ()
#define APP_EXPAND(...) APP_EXPAND_3(APP_EXPAND_3(APP_EXPAND_3(__VA_ARGS__)))
#define APP_EXPAND_3(...) APP_EXPAND_2(APP_EXPAND_2(APP_EXPAND_2(__VA_ARGS__)))
#define APP_EXPAND_2(...) APP_EXPAND_1(APP_EXPAND_1(APP_EXPAND_1(__VA_ARGS__)))
#define APP_EXPAND_1(...) __VA_ARGS__
#define APP_EACH(macro, ...) __VA_OPT__(APP_EXPAND(APP_EACH_STEP(macro, __VA_ARGS__)))
#define APP_EACH_STEP(macro, first, ...)                                                           \
    macro first __VA_OPT__(APP_EACH_AGAIN APP_PARENS(macro, __VA_ARGS__))
#define APP_EACH_AGAIN() APP_EACH_STEP

/* --- C types --- */

#define APP_C_STRING app_text
#define APP_C_NULLABLE_STRING app_text
#define APP_C_BOOL bool
#define APP_C_U32 uint32_t
#define APP_C_U64 uint64_t
#define APP_C_I32 int32_t
#define APP_C_I64 int64_t

#define APP_C_MAP app_map
#define APP_C_SET app_set
#define APP_C_VECTOR app_vector
#define APP_C_REGISTER app_register
#define APP_C_COUNTER app_counter

/* --- ABI: pieces of an assembler text. The comma before all but the first of a list is an
 * assembler macro that redefines itself. --- */

#define APP_TEXT(json) ".ascii \"" json "\"\n"
#define APP_Q(text) "\\\"" text "\\\""
#define APP_LIST_OPEN ".macro app_comma\n.endm\n"
#define APP_LIST_ITEM                                                                              \
    "app_comma\n.purgem app_comma\n.macro app_comma\n.ascii \",\"\n.endm\n"
#define APP_LIST_CLOSE ".purgem app_comma\n"

#define APP_KIND(name) "{" APP_Q("kind") ":" APP_Q(name) "}"
#define APP_ABI_STRING APP_Q("type") ":" APP_KIND("string")
#define APP_ABI_NULLABLE_STRING APP_ABI_STRING "," APP_Q("nullable") ":true"
#define APP_ABI_BOOL APP_Q("type") ":" APP_KIND("bool")
#define APP_ABI_U32 APP_Q("type") ":" APP_KIND("u32")
#define APP_ABI_U64 APP_Q("type") ":" APP_KIND("u64")
#define APP_ABI_I32 APP_Q("type") ":" APP_KIND("i32")
#define APP_ABI_I64 APP_Q("type") ":" APP_KIND("i64")

#define APP_RETURNS_NOTHING APP_Q("returns") ":" APP_KIND("unit") ","
#define APP_RETURNS_STRING APP_Q("returns") ":" APP_KIND("string") ","
#define APP_RETURNS_NULLABLE_STRING APP_RETURNS_STRING APP_Q("returns_nullable") ":true,"
#define APP_RETURNS_BOOL APP_Q("returns") ":" APP_KIND("bool") ","
#define APP_RETURNS_U32 APP_Q("returns") ":" APP_KIND("u32") ","
#define APP_RETURNS_U64 APP_Q("returns") ":" APP_KIND("u64") ","
#define APP_RETURNS_I32 APP_Q("returns") ":" APP_KIND("i32") ","
#define APP_RETURNS_I64 APP_Q("returns") ":" APP_KIND("i64") ","
#define APP_RETURNS_STRING_LIST                                                                    \
    APP_Q("returns") ":{" APP_Q("kind") ":" APP_Q("list") ","                                      \
                     APP_Q("items") ":" APP_KIND("string") "},"
#define APP_RETURNS_STRING_MAP                                                                     \
    APP_Q("returns") ":{" APP_Q("kind") ":" APP_Q("map") "," APP_Q("key") ":" APP_KIND("string")   \
                     "," APP_Q("value") ":" APP_KIND("string") "},"

#define APP_INTENT_VIEW APP_Q("intent") ":" APP_Q("read_only")
#define APP_INTENT_CHANGE APP_Q("intent") ":" APP_Q("mutating")
#define APP_INTENT_INIT APP_INTENT_CHANGE

#define APP_CRDT(json, crdt) "{" json "," APP_Q("crdt_type") ":" APP_Q(crdt) "}"
#define APP_LWW                                                                                    \
    "{" APP_Q("kind") ":" APP_Q("record") "," APP_Q("fields") ":[]," APP_Q("crdt_type") ":"        \
        APP_Q("lww_register") "," APP_Q("inner_type") ":" APP_KIND("string") "}"
#define APP_STATE_MAP                                                                              \
    APP_CRDT(APP_Q("kind") ":" APP_Q("map") "," APP_Q("key") ":" APP_KIND("string") ","            \
             APP_Q("value") ":" APP_LWW, "unordered_map")
#define APP_STATE_SET                                                                              \
    APP_CRDT(APP_Q("kind") ":" APP_Q("list") "," APP_Q("items") ":" APP_KIND("string"),            \
             "unordered_set")
#define APP_STATE_VECTOR                                                                           \
    APP_CRDT(APP_Q("kind") ":" APP_Q("list") "," APP_Q("items") ":" APP_KIND("string"), "vector")
#define APP_STATE_REGISTER APP_LWW
#define APP_STATE_COUNTER                                                                          \
    APP_CRDT(APP_Q("kind") ":" APP_Q("record") "," APP_Q("fields") ":[]", "counter")

#define APP_ABI_PARAM(param_type, param)                                                           \
    APP_LIST_ITEM APP_TEXT("{" APP_Q("name") ":" APP_Q(#param) "," APP_ABI_##param_type "}")
#define APP_ABI_METHOD(effect, method, result, ...)                                                \
    APP_METHOD_COMMA APP_TEXT("{" APP_Q("name") ":" APP_Q(#method) "," APP_Q("params") ":[")       \
        APP_LIST_OPEN APP_EACH(APP_ABI_PARAM, __VA_ARGS__) APP_LIST_CLOSE                          \
            APP_TEXT("]," APP_RETURNS_##result APP_INTENT_##effect "}")
#define APP_ABI_PAYLOAD(...) __VA_OPT__(APP_ABI_RECORD(__VA_ARGS__))
#define APP_ABI_RECORD(...)                                                                        \
    APP_TEXT("," APP_Q("payload") ":{" APP_Q("kind") ":" APP_Q("record") "," APP_Q("fields") ":[") \
        APP_LIST_OPEN APP_EACH(APP_ABI_PARAM, __VA_ARGS__) APP_LIST_CLOSE APP_TEXT("]}")
#define APP_ABI_EVENT(event, ...)                                                                  \
    APP_METHOD_COMMA APP_TEXT("{" APP_Q("name") ":" APP_Q(#event))                                 \
        APP_ABI_PAYLOAD(__VA_ARGS__) APP_TEXT("}")
#define APP_ABI_FIELD(field_kind, field)                                                           \
    APP_METHOD_COMMA APP_TEXT("{" APP_Q("name") ":" APP_Q(#field) "," APP_Q("type")                \
                                  ":" APP_STATE_##field_kind "}")

/* Methods hold lists of parameters: the outer list has its own comma. */
#define APP_METHODS_OPEN ".macro app_next\n.endm\n"
#define APP_METHOD_COMMA "app_next\n.purgem app_next\n.macro app_next\n.ascii \",\"\n.endm\n"
#define APP_METHODS_CLOSE ".purgem app_next\n"

#ifdef __wasm__
#define APP_ABI()                                                                                  \
    __asm__(".section .custom_section.calimero_abi_v1,\"\",@\n" \
            APP_TEXT("{" APP_Q("schema_version") ":" APP_Q("wasm-abi/1") "," APP_Q("types") ":{"   \
                     APP_Q("State") ":{" APP_Q("kind") ":" APP_Q("record") ","                     \
                     APP_Q("fields") ":[")                                                         \
            APP_METHODS_OPEN APP_STATE(APP_ABI_FIELD) APP_METHODS_CLOSE                            \
            APP_TEXT("]}}," APP_Q("methods") ":[")                                                 \
            APP_METHODS_OPEN APP_METHODS(APP_ABI_METHOD) APP_METHODS_CLOSE                         \
            APP_TEXT("]," APP_Q("events") ":[")                                                    \
            APP_METHODS_OPEN APP_EVENTS(APP_ABI_EVENT) APP_METHODS_CLOSE                           \
            APP_TEXT("]," APP_Q("state_root") ":" APP_Q("State") "}") ".text\n");
#define APP_EXPORT(name) __attribute__((export_name(name)))
#else
#define APP_ABI()
#define APP_EXPORT(name)
#endif

/* --- C: state, arguments, events, exports --- */

#define APP_STATE_MEMBER(field_kind, field) APP_C_##field_kind field;
#define APP_STATE_VALUE(field_kind, field_name)                                                    \
    .field_name = {.field = {.name = #field_name, .kind = APP_KIND_##field_kind}},
#define APP_STATE_POINTER(field_kind, field_name) &state.field_name.field,

#define APP_METHOD_NAME(effect, method, ...) #method,
#define APP_EVENT_NAME(event, ...) #event,

#define APP_MEMBER(type, name) APP_C_##type name;
#define APP_ARGS(effect, method, result, ...)                                                      \
    struct method##_args {                                                                         \
        APP_EACH(APP_MEMBER, __VA_ARGS__)                                                          \
        char app_end;                                                                              \
    };                                                                                             \
    static void app_method_##method(const struct method##_args *args, app_json *result);

#define APP_PARAM_ROW(param_type, param)                                                           \
    {.name = #param, .type = APP_PARAM_##param_type, .offset = offsetof(struct app_here, param)},
#define APP_EXPORTED(method_effect, method, result, ...)                                           \
    APP_EXPORT(#method) void app_export_##method(void);                                            \
    void app_export_##method(void) {                                                               \
        struct app_here {                                                                          \
            APP_EACH(APP_MEMBER, __VA_ARGS__)                                                      \
            char app_end;                                                                          \
        };                                                                                         \
        static const app_param params[] = {APP_EACH(APP_PARAM_ROW, __VA_ARGS__){0}};               \
        static const app_method_info info = {.name = #method,                                      \
                                             .effect = APP_EFFECT_##method_effect,                 \
                                             .params = params,                                     \
                                             .param_count = sizeof params / sizeof *params - 1,    \
                                             .fields = app_fields,                                 \
                                             .field_count = APP_FIELD_COUNT,                       \
                                             .method_names = app_method_names,                     \
                                             .event_names = app_event_names};                      \
        struct method##_args args = {.app_end = 0};                                                \
        app_json *json = app_begin(&info, &args);                                                  \
        app_method_##method(&args, json);                                                          \
        app_end(&info);                                                                            \
    }

#define APP_EVENT_STRUCT(event, ...)                                                               \
    struct event##_event {                                                                         \
        APP_EACH(APP_MEMBER, __VA_ARGS__)                                                          \
        char app_end;                                                                              \
    };                                                                                             \
    __attribute__((unused)) static void app_emit_##event(const char *handler,                      \
                                                         const struct event##_event *payload) {    \
        struct app_here {                                                                          \
            APP_EACH(APP_MEMBER, __VA_ARGS__)                                                      \
            char app_end;                                                                          \
        };                                                                                         \
        static const app_param params[] = {APP_EACH(APP_PARAM_ROW, __VA_ARGS__){0}};               \
        app_emit_event(#event, handler, params, sizeof params / sizeof *params - 1, payload);      \
    }

#define app_emit(event, ...) app_emit_to(event, NULL __VA_OPT__(,) __VA_ARGS__)
#define app_emit_to(event, handler, ...)                                                           \
    app_emit_##event(handler,                                                                      \
                     &(struct event##_event){__VA_ARGS__ __VA_OPT__(,) .app_end = 0})

#define APP()                                                                                      \
    static struct {                                                                                \
        APP_STATE(APP_STATE_MEMBER)                                                                \
    } state = {APP_STATE(APP_STATE_VALUE)};                                                        \
    static void *const app_fields[] = {APP_STATE(APP_STATE_POINTER) NULL};                         \
    enum { APP_FIELD_COUNT = sizeof app_fields / sizeof *app_fields - 1 };                         \
    static const char *const app_method_names[] = {APP_METHODS(APP_METHOD_NAME) NULL};             \
    static const char *const app_event_names[] = {APP_EVENTS(APP_EVENT_NAME) NULL};                \
    APP_EVENTS(APP_EVENT_STRUCT)                                                                   \
    APP_METHODS(APP_ARGS)                                                                          \
    APP_METHODS(APP_EXPORTED)                                                                      \
    APP_ABI()

#define APP_METHOD(method)                                                                         \
    static void app_method_##method(__attribute__((unused)) const struct method##_args *args,      \
                                    __attribute__((unused)) app_json *result)

#endif
