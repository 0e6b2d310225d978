/* The ABI that the application's build tool embeds: custom section `calimero_abi_v1`, JSON
 * (runtime-abi.md 24).
 *
 * It decides what may run beside a writer (read-only methods) and what an xcall may reach, so a
 * section is used only when all of it is sound; otherwise it counts as absent. A newer major is
 * told apart from an absent one, because a downgrade check must not take "I cannot read it" for
 * "there is none". Pure functions, any thread. */
#include <stdlib.h>

#include "app/internal.h"
#include "base/map.h"

enum { ABI_MAJOR = 1, ABI_ARENA_MAX = 32 * 1024 * 1024, REASON_PATH_MAX = 96 };

struct cal_abi_memory {
    cal_arena arena;
};

/* What the check of one section carries. */
typedef struct reader {
    cal_map types;              /* names of `types`, for $ref */
    char path[REASON_PATH_MAX]; /* where we are, for messages */
    cal_error *err;
} reader;

static int bad(reader *in, const char *what) {
    return cal_fail(in->err, CAL_EDECODE, "%s in %s", what, in->path);
}

static void at(reader *in, const char *kind, yyjson_val *name) {
    snprintf(in->path, sizeof in->path, "%s %.64s", kind,
             yyjson_is_str(name) ? yyjson_get_str(name) : "?");
}

static bool absent(yyjson_val *value) { return !value || yyjson_is_null(value); }

static bool one_of(yyjson_val *value, const char *const *names) {
    for (; *names; names++)
        if (yyjson_equals_str(value, *names)) return true;
    return false;
}

/* --- types --- `strict` is off for event payloads, whose sizes and map keys the reference does not
 * look at. */
static int check_type(reader *in, yyjson_val *type, bool strict);

static int check_bytes(reader *in, yyjson_val *type, bool strict) {
    yyjson_val *size = yyjson_obj_get(type, "size"), *encoding = yyjson_obj_get(type, "encoding");
    if (!absent(size) && !yyjson_is_uint(size))
        return bad(in, "a byte size that is no whole number");
    if (!absent(encoding) && !yyjson_is_str(encoding))
        return bad(in, "an encoding that is no string");
    if (strict && !absent(size) && yyjson_get_uint(size) == 0) return bad(in, "a byte size of 0");
    return 0;
}

static int check_optional_bool(reader *in, yyjson_val *object, const char *key) {
    yyjson_val *value = yyjson_obj_get(object, key);
    return absent(value) || yyjson_is_bool(value) ? 0 : bad(in, "a flag that is no boolean");
}

/* Lists of {name, type, nullable?}: record fields and parameters. */
static int check_fields(reader *in, yyjson_val *list, bool strict) {
    if (!yyjson_is_arr(list)) return bad(in, "a missing list of fields or parameters");
    yyjson_arr_iter iter;
    yyjson_arr_iter_init(list, &iter);
    int rc = 0;
    for (yyjson_val *item; rc == 0 && (item = yyjson_arr_iter_next(&iter));) {
        if (!yyjson_is_str(yyjson_obj_get(item, "name")))
            return bad(in, "a field or parameter without a name");
        rc = check_type(in, yyjson_obj_get(item, "type"), strict);
        if (rc == 0) rc = check_optional_bool(in, item, "nullable");
    }
    return rc;
}

static int check_elements(reader *in, yyjson_val *list, bool strict) {
    if (!yyjson_is_arr(list)) return bad(in, "a tuple without elements");
    yyjson_arr_iter iter;
    yyjson_arr_iter_init(list, &iter);
    int rc = 0;
    for (yyjson_val *item; rc == 0 && (item = yyjson_arr_iter_next(&iter));)
        rc = check_type(in, item, strict);
    return rc;
}

static int check_map(reader *in, yyjson_val *type, bool strict) {
    yyjson_val *key = yyjson_obj_get(type, "key");
    bool text = yyjson_equals_str(key, "string") ||
                (yyjson_is_obj(key) && !yyjson_obj_get(key, "$ref") &&
                 yyjson_equals_str(yyjson_obj_get(key, "kind"), "string"));
    if (strict && !text) return bad(in, "a map whose key is not a string");
    if (!text) {
        if (yyjson_is_str(key)) return bad(in, "an unknown map key");
        int rc = check_type(in, key, strict);
        if (rc != 0) return rc;
    }
    return check_type(in, yyjson_obj_get(type, "value"), strict);
}

static int check_collection(reader *in, yyjson_val *type, bool strict) {
    static const char *const crdts[] = {
        "lww_register",    "counter",        "vector",
        "unordered_map",   "sorted_map",     "authored_map",
        "unordered_set",   "sorted_set",     "replicated_growable_array",
        "authored_vector", "shared_storage", NULL};
    yyjson_val *kind = yyjson_obj_get(type, "kind"), *crdt = yyjson_obj_get(type, "crdt_type"),
               *inner = yyjson_obj_get(type, "inner_type");
    if (!absent(crdt) && !one_of(crdt, crdts)) return bad(in, "an unknown crdt_type");
    int rc = absent(inner) ? 0 : check_type(in, inner, strict);
    if (rc != 0) return rc;
    if (yyjson_equals_str(kind, "list"))
        return check_type(in, yyjson_obj_get(type, "items"), strict);
    if (yyjson_equals_str(kind, "map")) return check_map(in, type, strict);
    if (yyjson_equals_str(kind, "record"))
        return check_fields(in, yyjson_obj_get(type, "fields"), strict);
    if (yyjson_equals_str(kind, "tuple"))
        return check_elements(in, yyjson_obj_get(type, "elements"), strict);
    return bad(in, "an unknown kind of type");
}

/* Nesting is bounded by APP_JSON_DEPTH_MAX, checked when the JSON was read. */
static int check_type(reader *in, yyjson_val *type, bool strict) {
    static const char *const scalars[] = {"bool", "i32", "i64",    "u32",  "u64",
                                          "f32",  "f64", "string", "unit", NULL};
    if (!yyjson_is_obj(type)) return bad(in, "a missing type");
    yyjson_val *reference = yyjson_obj_get(type, "$ref"), *kind = yyjson_obj_get(type, "kind");
    if (yyjson_is_str(reference)) {
        cal_slice name = cal_slice_of(yyjson_get_str(reference), yyjson_get_len(reference));
        return cal_map_get(&in->types, name) ? 0 : bad(in, "a $ref to a type that is not declared");
    }
    if (one_of(kind, scalars)) return 0;
    if (yyjson_equals_str(kind, "bytes")) return check_bytes(in, type, strict);
    return check_collection(in, type, strict);
}

static int check_variants(reader *in, yyjson_val *list) {
    if (!yyjson_is_arr(list)) return bad(in, "a variant without variants");
    yyjson_arr_iter iter;
    yyjson_arr_iter_init(list, &iter);
    int rc = 0;
    for (yyjson_val *item; rc == 0 && (item = yyjson_arr_iter_next(&iter));) {
        yyjson_val *code = yyjson_obj_get(item, "code"), *payload = yyjson_obj_get(item, "payload");
        if (!yyjson_is_str(yyjson_obj_get(item, "name")))
            return bad(in, "a variant without a name");
        if (!absent(code) && !yyjson_is_str(code)) return bad(in, "a code that is no string");
        if (!absent(payload)) rc = check_type(in, payload, true);
    }
    return rc;
}

static int check_type_def(reader *in, yyjson_val *def) {
    yyjson_val *kind = yyjson_obj_get(def, "kind");
    if (yyjson_equals_str(kind, "record"))
        return check_fields(in, yyjson_obj_get(def, "fields"), true);
    if (yyjson_equals_str(kind, "variant"))
        return check_variants(in, yyjson_obj_get(def, "variants"));
    if (yyjson_equals_str(kind, "bytes")) return check_bytes(in, def, true);
    if (yyjson_equals_str(kind, "alias"))
        return check_type(in, yyjson_obj_get(def, "target"), true);
    return bad(in, "an unknown kind of definition");
}

static int check_types(reader *in, yyjson_val *types) {
    snprintf(in->path, sizeof in->path, "types");
    if (!yyjson_is_obj(types)) return bad(in, "no object");
    yyjson_obj_iter iter;
    yyjson_obj_iter_init(types, &iter);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&iter));)
        if (cal_map_put(&in->types, cal_slice_of(yyjson_get_str(key), yyjson_get_len(key)), key) !=
            0)
            return cal_fail(in->err, CAL_ENOMEM, "out of memory");
    yyjson_obj_iter_init(types, &iter);
    int rc = 0;
    for (yyjson_val *key; rc == 0 && (key = yyjson_obj_iter_next(&iter));) {
        at(in, "type", key);
        rc = check_type_def(in, yyjson_obj_iter_get_val(key));
    }
    return rc;
}

/* --- methods, events, migrations --- */
static bool name_is_text(yyjson_val *name) {
    return yyjson_is_str(name) && strlen(yyjson_get_str(name)) == yyjson_get_len(name);
}

static int check_order(reader *in, yyjson_val *name, cal_slice *previous) {
    cal_slice text = cal_slice_of(yyjson_get_str(name), yyjson_get_len(name));
    if (previous->data && cal_slice_compare(*previous, text) > 0)
        return bad(in, "a name out of order");
    *previous = text;
    return 0;
}

static int check_method_errors(reader *in, yyjson_val *list) {
    if (!list) return 0;
    if (!yyjson_is_arr(list)) return bad(in, "errors that are no list");
    yyjson_arr_iter iter;
    yyjson_arr_iter_init(list, &iter);
    for (yyjson_val *item; (item = yyjson_arr_iter_next(&iter));)
        if (!yyjson_is_str(yyjson_obj_get(item, "code"))) return bad(in, "an error without a code");
    return 0;
}

static int read_policy(reader *in, yyjson_val *method, cal_abi_method *ret_method) {
    static const char *const intents[] = {"unspecified", "read_only", "mutating", NULL};
    static const char *const callers[] = {"any_in_namespace", "same_app", NULL};
    yyjson_val *intent = yyjson_obj_get(method, "intent"),
               *caller = yyjson_obj_get(method, "xcall_callers"),
               *callable = yyjson_obj_get(method, "xcall_callable");
    if (intent && !one_of(intent, intents)) return bad(in, "an unknown intent");
    if (caller && !one_of(caller, callers)) return bad(in, "an unknown xcall_callers");
    if (callable && !yyjson_is_bool(callable))
        return bad(in, "an xcall_callable that is no boolean");
    for (int i = 0; intents[i]; i++)
        if (yyjson_equals_str(intent, intents[i])) ret_method->intent = (cal_abi_intent)i;
    ret_method->xcall_callable = yyjson_get_bool(callable);
    ret_method->xcall_same_app = yyjson_equals_str(caller, "same_app");
    return 0;
}

static int read_method(reader *in, yyjson_val *method, cal_slice *previous,
                       cal_abi_method *ret_method) {
    yyjson_val *name = yyjson_obj_get(method, "name"), *returns = yyjson_obj_get(method, "returns");
    at(in, "method", name);
    if (!name_is_text(name)) return bad(in, "no name");
    int rc = check_order(in, name, previous);
    if (rc == 0) rc = check_fields(in, yyjson_obj_get(method, "params"), true);
    if (rc == 0 && !absent(returns)) rc = check_type(in, returns, true);
    if (rc == 0) rc = check_optional_bool(in, method, "returns_nullable");
    if (rc == 0) rc = check_method_errors(in, yyjson_obj_get(method, "errors"));
    ret_method->name = yyjson_get_str(name);
    return rc == 0 ? read_policy(in, method, ret_method) : rc;
}

static int read_methods(reader *in, yyjson_val *list, cal_arena *arena, cal_abi *abi) {
    snprintf(in->path, sizeof in->path, "methods");
    if (!yyjson_is_arr(list)) return bad(in, "no list");
    cal_abi_method *methods = cal_arena_alloc_array(arena, yyjson_arr_size(list), sizeof *methods);
    if (!methods) return cal_fail(in->err, CAL_ENOMEM, "out of memory");
    cal_slice previous = {0};
    yyjson_arr_iter iter;
    yyjson_arr_iter_init(list, &iter);
    for (yyjson_val *item; (item = yyjson_arr_iter_next(&iter));) {
        cal_abi_method *method = &methods[abi->method_count++];
        int rc = read_method(in, item, &previous, method);
        if (rc != 0) return rc;
        method->name = cal_arena_text(arena, cal_slice_text(method->name));
        if (!method->name) return cal_fail(in->err, CAL_ENOMEM, "out of memory");
        abi->gates_xcalls = abi->gates_xcalls || method->xcall_callable;
    }
    abi->methods = methods;
    return 0;
}

static int check_events(reader *in, yyjson_val *list) {
    snprintf(in->path, sizeof in->path, "events");
    if (!yyjson_is_arr(list)) return bad(in, "no list");
    cal_slice previous = {0};
    yyjson_arr_iter iter;
    yyjson_arr_iter_init(list, &iter);
    int rc = 0;
    for (yyjson_val *item; rc == 0 && (item = yyjson_arr_iter_next(&iter));) {
        yyjson_val *name = yyjson_obj_get(item, "name"), *payload = yyjson_obj_get(item, "payload");
        at(in, "event", name);
        if (!yyjson_is_str(name)) return bad(in, "no name");
        rc = check_order(in, name, &previous);
        if (rc == 0 && !absent(payload)) rc = check_type(in, payload, false);
    }
    return rc;
}

static bool read_u32(yyjson_val *value, uint32_t *ret_number) {
    if (!yyjson_is_uint(value) || yyjson_get_uint(value) > UINT32_MAX) return false;
    *ret_number = (uint32_t)yyjson_get_uint(value);
    return true;
}

static int read_migrations(reader *in, yyjson_val *list, cal_arena *arena, cal_abi *abi) {
    if (!list) return 0;
    snprintf(in->path, sizeof in->path, "migrations");
    if (!yyjson_is_arr(list)) return bad(in, "no list");
    cal_abi_migration *edges = cal_arena_alloc_array(arena, yyjson_arr_size(list), sizeof *edges);
    if (!edges) return cal_fail(in->err, CAL_ENOMEM, "out of memory");
    yyjson_arr_iter iter;
    yyjson_arr_iter_init(list, &iter);
    for (yyjson_val *item; (item = yyjson_arr_iter_next(&iter));) {
        cal_abi_migration *edge = &edges[abi->migration_count];
        yyjson_val *method = yyjson_obj_get(item, "method");
        if (!name_is_text(method)) return bad(in, "an edge without a method");
        if (!read_u32(yyjson_obj_get(item, "fromVersion"), &edge->from_version))
            return bad(in, "an edge without a fromVersion");
        edge->method = cal_arena_text(arena, cal_slice_text(yyjson_get_str(method)));
        if (!edge->method) return cal_fail(in->err, CAL_ENOMEM, "out of memory");
        abi->migration_count++;
    }
    abi->migrations = edges;
    return 0;
}

/* "wasm-abi/<major>[.<minor>]" */
static bool read_major(yyjson_val *value, uint32_t *ret_major) {
    static const char prefix[] = "wasm-abi/";
    const char *text = yyjson_get_str(value);
    if (!name_is_text(value) || strncmp(text, prefix, sizeof prefix - 1) != 0) return false;
    uint64_t major = 0;
    const char *p = text + sizeof prefix - 1, *start = p;
    for (; *p >= '0' && *p <= '9'; p++)
        if ((major = major * 10 + (uint64_t)(*p - '0')) > UINT32_MAX) return false;
    *ret_major = (uint32_t)major;
    return p > start && (*p == '\0' || *p == '.');
}

static int read_document(reader *in, yyjson_val *root, cal_arena *arena, cal_abi *abi) {
    yyjson_val *state_version = yyjson_obj_get(root, "state_version"),
               *state_root = yyjson_obj_get(root, "state_root");
    abi->state_version = 1;
    snprintf(in->path, sizeof in->path, "the ABI");
    if (!absent(state_version) && !read_u32(state_version, &abi->state_version))
        return bad(in, "a state_version that is no 32-bit number");
    if (!absent(state_root) && !yyjson_is_str(state_root))
        return bad(in, "a state_root that is no string");
    int rc = check_types(in, yyjson_obj_get(root, "types"));
    if (rc == 0) rc = read_methods(in, yyjson_obj_get(root, "methods"), arena, abi);
    if (rc == 0) rc = check_events(in, yyjson_obj_get(root, "events"));
    if (rc == 0) rc = read_migrations(in, yyjson_obj_get(root, "migrations"), arena, abi);
    return rc;
}

/* Fills abi for a parsed section. */
static int read_abi(yyjson_val *root, cal_slice json, cal_arena *arena, cal_abi *abi,
                    cal_error *err) {
    yyjson_val *version = yyjson_obj_get(root, "schema_version");
    uint32_t major = 0;
    if (!read_major(version, &major))
        return cal_fail(err, CAL_EDECODE, "schema_version is not \"wasm-abi/<number>\"");
    abi->schema_version = cal_arena_text(arena, cal_slice_text(yyjson_get_str(version)));
    if (!abi->schema_version) return cal_fail(err, CAL_ENOMEM, "out of memory");
    if (major != ABI_MAJOR) {
        abi->status = CAL_ABI_UNSUPPORTED;
        cal_fail(err, CAL_EVERSION, "unsupported ABI schema version %s", abi->schema_version);
        return 0;
    }
    reader in = {.err = err};
    uint8_t seed[CAL_HASH_SIZE]; /* the text that is read chooses its own: no names fit them all */
    cal_sha256(json, seed);
    cal_map_init(&in.types, cal_read_u64le(seed));
    int rc = read_document(&in, root, arena, abi);
    cal_map_deinit(&in.types);
    if (rc != 0) return rc;
    const uint8_t *copy = cal_arena_copy(arena, json.data, json.len);
    if (!copy) return cal_fail(err, CAL_ENOMEM, "out of memory");
    abi->json = cal_slice_of(copy, json.len);
    abi->status = CAL_ABI_SUPPORTED;
    return 0;
}

int cal_abi_parse(cal_slice json, cal_abi *ret_abi, char *ret_reason) {
    *ret_abi = (cal_abi){0};
    if (ret_reason) ret_reason[0] = '\0';
    cal_error why = {0};
    yyjson_doc *doc = NULL;
    struct cal_abi_memory *owner = calloc(1, sizeof *owner);
    if (!owner) return CAL_ENOMEM;
    cal_arena_init(&owner->arena, ABI_ARENA_MAX);
    cal_abi abi = {.owner = owner};
    int rc =
        json.len > CAL_ABI_SECTION_MAX
            ? cal_fail(&why, CAL_ELIMIT, "the ABI is larger than %d bytes", CAL_ABI_SECTION_MAX)
            : app_json_read(json, "the ABI", &doc, &why);
    if (rc == 0) rc = read_abi(yyjson_doc_get_root(doc), json, &owner->arena, &abi, &why);
    yyjson_doc_free(doc);
    if (ret_reason) memcpy(ret_reason, why.message, CAL_ERROR_MESSAGE_MAX);
    if (rc == 0) {
        *ret_abi = abi;
        return 0;
    }
    cal_abi_deinit(&abi);
    return rc == CAL_ENOMEM ? rc : 0;
}

void cal_abi_deinit(cal_abi *abi) {
    if (!abi || !abi->owner) return;
    cal_arena_deinit(&abi->owner->arena);
    free(abi->owner);
    *abi = (cal_abi){0};
}

/* --- sections --- The vm's own lookup answers with the last section of a name; here the last
 * *usable* one is wanted. */
static bool take_leb(cal_slice *rest, uint32_t *ret_value) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 35 && rest->len > 0; shift += 7) {
        uint8_t byte = *rest->data++;
        rest->len--;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte & 0x80) continue;
        *ret_value = (uint32_t)value;
        return value <= UINT32_MAX;
    }
    return false;
}

/* The next custom section of the module. False at its end, or where it stops making sense. */
static bool next_custom(cal_slice *rest, cal_slice *ret_name, cal_slice *ret_content) {
    while (rest->len > 0) {
        uint8_t id = *rest->data++;
        uint32_t len = 0, name_len = 0;
        rest->len--;
        if (!take_leb(rest, &len) || len > rest->len) return false;
        cal_slice content = cal_slice_of(rest->data, len);
        *rest = cal_slice_of(rest->data + len, rest->len - len);
        if (id != 0) continue;
        if (!take_leb(&content, &name_len) || name_len > content.len) return false;
        *ret_name = cal_slice_of(content.data, name_len);
        *ret_content = cal_slice_of(content.data + name_len, content.len - name_len);
        return true;
    }
    return false;
}

int cal_abi_read(cal_slice wasm, cal_abi *ret_abi) {
    enum { HEADER = 8, SECTIONS_MAX = 16 };
    static const char wanted[] = "calimero_abi_v1";
    *ret_abi = (cal_abi){0};
    if (wasm.len < HEADER || memcmp(wasm.data, "\0asm", 4) != 0) return 0;
    cal_slice rest = cal_slice_of(wasm.data + HEADER, wasm.len - HEADER), name, content;
    unsigned seen = 0;
    while (next_custom(&rest, &name, &content)) {
        if (!cal_slice_equal(name, cal_slice_text(wanted))) continue;
        if (++seen >
            SECTIONS_MAX) { /* build tools write one; this many are an attack on our time */
            cal_abi_deinit(ret_abi);
            return 0;
        }
        cal_abi abi;
        int rc = cal_abi_parse(content, &abi, NULL);
        if (rc != 0) {
            cal_abi_deinit(ret_abi);
            return rc;
        }
        if (abi.status == CAL_ABI_SUPPORTED ||
            (abi.status == CAL_ABI_UNSUPPORTED && ret_abi->status != CAL_ABI_SUPPORTED)) {
            cal_abi_deinit(ret_abi);
            *ret_abi = abi;
        } else {
            cal_abi_deinit(&abi);
        }
    }
    return 0;
}

const cal_abi_method *cal_abi_find(const cal_abi *abi, const char *method) {
    size_t low = 0, high = abi->method_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(abi->methods[middle].name, method);
        if (order == 0) return &abi->methods[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}
