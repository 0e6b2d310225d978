/* Writing an application in C, for clang --target=wasm32-unknown-unknown. See README.md beside this
 * folder.
 *
 * An application declares its state, methods and events as three lists, says APP(), and defines one
 * APP_METHOD for each method. Every call runs in a fresh instance: globals start at their initial
 * values, all memory is given back at the end, and what shall last goes into the state. Nothing
 * here returns an error that only the node could have caused: such a call ends in a panic, which
 * leaves no trace. One thread. */
#ifndef CALIMERO_APP_H
#define CALIMERO_APP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- text --- */

/* Borrowed UTF-8, or any bytes. Valid until the call ends. */
typedef struct app_text {
    const char *data;
    size_t len;
} app_text;

#define APP_LITERAL(text) ((app_text){text, sizeof(text) - 1})
#define APP_ARG(text) (int)(text).len, (text).data /* for "%.*s" */

app_text app_text_of(const char *text); /* NUL-terminated */
app_text app_text_copy(app_text text);
bool app_text_equal(app_text a, app_text b);
int app_text_compare(app_text a, app_text b); /* byte order, a shorter prefix first */

/* %s %.*s %c %d %i %u %x with l, ll, z; %% */
app_text app_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
app_text app_format_list(const char *format, va_list list);

void *app_alloc(size_t len); /* zeroed, aligned for any object; panics when memory is short */

/* --- the world --- */

void app_log(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Ends the call without a trace; the caller sees the message. */
#define app_panic(...) app_panic_at(__FILE__, __LINE__, __VA_ARGS__)
_Noreturn void app_panic_at(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

uint64_t app_time_ns(void); /* wall clock; differs between nodes: never base state on it alone */
void app_random(void *ret_bytes, size_t len);
const uint8_t *app_context_id(void); /* 32 bytes */
const uint8_t *app_account_id(void); /* 32 bytes: who calls */
const uint8_t *app_device_id(void);  /* 32 bytes: the key that signs */
bool app_xcall_origin(
    uint8_t ret_context_id[32]); /* the calling context, when another context called */
void app_xcall(const uint8_t context_id[32], const char *method, app_text params_json);

/* A value that never leaves this node. */
bool app_private_get(const char *name, app_text *ret_value);
void app_private_set(const char *name, app_text value);

/* --- JSON --- */

/* Grows as it is written; commas are put where they belong. */
typedef struct app_json {
    char *data;
    size_t len, capacity;
    bool comma;
} app_json;

void app_json_null(app_json *json);
void app_json_bool(app_json *json, bool value);
void app_json_u64(app_json *json, uint64_t value);
void app_json_i64(app_json *json, int64_t value);
void app_json_string(app_json *json, app_text value); /* bytes that are not UTF-8 become U+FFFD */
void app_json_raw(app_json *json, app_text value);    /* one value, written as it is */
void app_json_key(app_json *json, app_text key);
void app_json_open(app_json *json, char bracket);  /* '{' or '[' */
void app_json_close(app_json *json, char bracket); /* '}' or ']' */

/* --- answers --- */

/* The call fails with this JSON as its error, and changes nothing. Return from the method after it.
 */
void app_fail_json(app_text json);
void app_fail(app_text message); /* the message as a JSON string */

/* --- state --- Keys and values are any bytes; values up to 10 MiB. A value replaces an older one,
 * on every replica the same. */

typedef struct app_field {
    const char *name;
    int kind;
    bool is_open;
    uint8_t id[32];
} app_field;

typedef struct app_map {
    app_field field;
} app_map;
typedef struct app_set {
    app_field field;
} app_set;
typedef struct app_vector {
    app_field field;
} app_vector;
typedef struct app_register {
    app_field field;
} app_register;
typedef struct app_counter {
    app_field field;
} app_counter;

bool app_map_get(app_map *map, app_text key, app_text *ret_value); /* ret_value may be NULL */
bool app_map_set(app_map *map, app_text key, app_text value);      /* true: the key was new */
bool app_map_remove(app_map *map, app_text key,
                    app_text *ret_value); /* true: it was there; ret_value may be NULL */
void app_map_clear(app_map *map);
uint64_t app_map_len(app_map *map); /* reads one record for about 20 entries */

bool app_set_has(app_set *set, app_text value);
bool app_set_insert(app_set *set, app_text value); /* true: it was new */
bool app_set_remove(app_set *set, app_text value); /* true: it was there */
void app_set_clear(app_set *set);
uint64_t app_set_len(app_set *set);

/* Walks in no particular order. Key and value (empty for a set) live until the next step. Do not
 * change what you walk. */
typedef struct app_walk {
    void *inner;
    app_text key, value;
} app_walk;
app_walk app_map_walk(app_map *map);
app_walk app_set_walk(app_set *set);
bool app_walk_next(app_walk *walk);

/* Pushes of several replicas are ordered by time. */
void app_vector_push(app_vector *vector, app_text value);
bool app_vector_pop(app_vector *vector, app_text *ret_value);
bool app_vector_get(app_vector *vector, uint64_t index, app_text *ret_value);
bool app_vector_set(app_vector *vector, uint64_t index, app_text value);
uint64_t app_vector_len(app_vector *vector); /* reads one record for 32 elements */

bool app_register_get(app_register *reg, app_text *ret_value);
void app_register_set(app_register *reg, app_text value);

void app_counter_add(app_counter *counter,
                     uint64_t amount); /* every device counts in its own slot; nothing is lost */
void app_counter_subtract(app_counter *counter, uint64_t amount);
int64_t app_counter_get(app_counter *counter);

/* --- declaring an application ---
 *
 *   #define APP_STATE(FIELD) FIELD(MAP, items) FIELD(COUNTER, hits)
 *   #define APP_METHODS(METHOD)                                    sorted by name, as the ABI wants
 * them METHOD(VIEW, get, NULLABLE_STRING, (STRING, key)) METHOD(INIT, init, NOTHING) METHOD(CHANGE,
 * set, NOTHING, (STRING, key), (STRING, value)) #define APP_EVENTS(EVENT) EVENT(Cleared) EVENT(Set,
 * (STRING, key))    sorted by name APP() APP_METHOD(get) { ... args->key ...
 * app_json_string(result, value); }
 *
 * Fields: MAP SET VECTOR REGISTER COUNTER, used as &state.items. VIEW changes nothing; CHANGE may;
 * INIT makes the state. Parameters: STRING BOOL U32 U64 I32 I64 and NULLABLE_STRING (data NULL when
 * null or left out). Results besides: NOTHING STRING_LIST STRING_MAP. Events: app_emit(Set, .key =
 * key); with a handler: app_emit_to(Set, "method", ...). */

enum { APP_KIND_MAP, APP_KIND_SET, APP_KIND_VECTOR, APP_KIND_REGISTER, APP_KIND_COUNTER };
enum { APP_EFFECT_VIEW, APP_EFFECT_CHANGE, APP_EFFECT_INIT };
enum {
    APP_PARAM_STRING,
    APP_PARAM_NULLABLE_STRING,
    APP_PARAM_BOOL,
    APP_PARAM_U32,
    APP_PARAM_U64,
    APP_PARAM_I32,
    APP_PARAM_I64,
};

typedef struct app_param {
    const char *name;
    int type;
    size_t offset;
} app_param;

typedef struct app_method_info {
    const char *name;
    int effect;
    const app_param *params;
    size_t param_count;
    void *const *fields; /* app_field * of each field of the state */
    size_t field_count;
    const char *const *method_names, *const *event_names; /* NULL at the end */
} app_method_info;

app_json *app_begin(const app_method_info *info, void *args); /* of APP(); not for applications */
void app_end(const app_method_info *info);
void app_emit_event(const char *name, const char *handler, const app_param *params,
                    size_t param_count, const void *payload);

#include "calimero_app_macros.h"

#endif
