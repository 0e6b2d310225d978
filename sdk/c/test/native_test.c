/* The SDK compiled for this machine, with the node's functions stubbed: sanitizers see it, and its
 * JSON reader is compared with yyjson on damaged input. */
#include "golden.h"

#include <setjmp.h>

#include "base/arena.h"
#include "base/sorted.h"
#include "crypto/crypto.h"
#include "host.h"
#include "runtime.h"

/* --- the node's functions --- */

enum { HEAP_SIZE = 8 << 20 };

unsigned char *app_native_heap;
unsigned long app_native_heap_size = HEAP_SIZE;

static struct {
    cal_sorted rows;
    cal_slice input, reg;
    uint8_t scratch[1 << 16], answer[1 << 16];
    size_t answer_len, artifact_len;
    uint64_t answer_tag, time;
    bool answered, panicked, committed;
    jmp_buf panic;
    char message[4096];
} node;

typedef struct row {
    size_t len;
    uint8_t bytes[];
} row;

static cal_slice slice_at(uint64_t address) {
    host_buffer buffer;
    memcpy(&buffer, (const void *)(uintptr_t)address, sizeof buffer);
    return cal_slice_of((const void *)(uintptr_t)buffer.ptr, (size_t)buffer.len);
}

static void set_register(const void *bytes, size_t len) {
    assert_true(len <= sizeof node.scratch);
    if (len) memcpy(node.scratch, bytes, len);
    node.reg = cal_slice_of(node.scratch, len);
}

static void set_id(uint8_t byte) {
    uint8_t id[32];
    memset(id, byte, sizeof id);
    set_register(id, sizeof id);
}

void env_panic_utf8(uint64_t message, uint64_t location) {
    cal_slice text = slice_at(message);
    (void)location;
    snprintf(node.message, sizeof node.message, "%.*s", (int)text.len, (const char *)text.data);
    node.panicked = true;
    longjmp(node.panic, 1);
}

uint64_t env_register_len(uint64_t reg) {
    (void)reg;
    return node.reg.len;
}

uint32_t env_read_register(uint64_t reg, uint64_t buffer) {
    cal_slice target = slice_at(buffer);
    (void)reg;
    assert_int_equal(target.len, node.reg.len);
    if (target.len) memcpy((void *)(uintptr_t)target.data, node.reg.data, target.len);
    return 1;
}

void env_context_id(uint64_t reg) { set_id((uint8_t)(0xC0 + reg)); }
void env_account_id(uint64_t reg) { set_id((uint8_t)(0xAC + reg)); }
void env_device_id(uint64_t reg) { set_id((uint8_t)(0xDE + reg)); }
uint32_t env_xcall_origin(uint64_t reg) { return reg != 0; }
void env_log_utf8(uint64_t buffer) { assert_true(slice_at(buffer).len < 1 << 20); }
void env_emit(uint64_t event) { assert_true(slice_at(event).len > 0); }
void env_emit_with_handler(uint64_t event, uint64_t handler) {
    assert_true(slice_at(event).len && slice_at(handler).len);
}
void env_xcall(uint64_t xcall) { assert_int_equal(slice_at(xcall).len, 32); }
uint32_t env_private_storage_read(uint64_t key, uint64_t reg) {
    return slice_at(key).len == 0 && reg;
}
uint32_t env_private_storage_write(uint64_t key, uint64_t value) {
    return slice_at(key).len == 32 && value;
}

void env_input(uint64_t reg) {
    (void)reg;
    set_register(node.input.data, node.input.len);
}

void env_value_return(uint64_t value) {
    cal_slice payload = slice_at(value + 8);
    memcpy(&node.answer_tag, (const void *)(uintptr_t)value, 8);
    assert_true(payload.len <= sizeof node.answer);
    if (payload.len) memcpy(node.answer, payload.data, payload.len);
    node.answer_len = payload.len;
    node.answered = true;
}

void env_commit(uint64_t root_hash, uint64_t artifact) {
    assert_int_equal(slice_at(root_hash).len, 32);
    node.artifact_len = slice_at(artifact).len;
    node.committed = true;
}

uint32_t env_storage_read(uint64_t key, uint64_t reg) {
    const row *found = cal_sorted_get(&node.rows, slice_at(key));
    (void)reg;
    if (found) set_register(found->bytes, found->len);
    return found != NULL;
}

uint32_t env_storage_remove(uint64_t key, uint64_t reg) {
    void *old = cal_sorted_remove(&node.rows, slice_at(key));
    (void)reg;
    free(old);
    return old != NULL;
}

uint32_t env_storage_write(uint64_t key, uint64_t value, uint64_t reg) {
    cal_slice bytes = slice_at(value);
    row *made = malloc(sizeof *made + bytes.len + 1);
    void *old = NULL;
    (void)reg;
    assert_non_null(made);
    made->len = bytes.len;
    if (bytes.len) memcpy(made->bytes, bytes.data, bytes.len);
    assert_int_equal(cal_sorted_put(&node.rows, slice_at(key), made, &old), 0);
    free(old);
    return old != NULL;
}

void env_random_bytes(uint64_t buffer) {
    cal_slice target = slice_at(buffer);
    memset((void *)(uintptr_t)target.data, 0, target.len);
    memcpy((void *)(uintptr_t)target.data, &node.time, target.len < 8 ? target.len : 8);
}

void env_time_now(uint64_t buffer) {
    node.time += 1000;
    memcpy((void *)(uintptr_t)slice_at(buffer).data, &node.time, 8);
}

uint32_t env_ed25519_verify(uint64_t signature, uint64_t public_key, uint64_t message) {
    return slice_at(signature).len == 64 && slice_at(public_key).len == 32 &&
           slice_at(message).len == 0;
}

/* --- an application whose only method answers with what it was given --- */

#define APP_STATE(FIELD) FIELD(MAP, items) FIELD(VECTOR, list)
#define APP_METHODS(METHOD)                                                                        \
    METHOD(VIEW, echo, STRING, (STRING, s), (NULLABLE_STRING, n), (BOOL, b), (I64, i))             \
    METHOD(INIT, init, NOTHING)                                                                    \
    METHOD(CHANGE, store, NOTHING, (STRING, key), (STRING, value))
#define APP_EVENTS(EVENT) EVENT(Stored, (STRING, key))

APP()

APP_METHOD(init) {}

APP_METHOD(echo) {
    app_json_open(result, '[');
    app_json_string(result, args->s);
    if (args->n.data)
        app_json_string(result, args->n);
    else
        app_json_null(result);
    app_json_bool(result, args->b);
    app_json_i64(result, args->i);
    app_json_close(result, ']');
}

APP_METHOD(store) {
    app_map_set(&state.items, args->key, args->value);
    app_vector_push(&state.list, args->value);
    app_emit(Stored, .key = args->key);
}

void app_export_sync_next(void);
void app_export_merge_root_state(void);
void app_export_register_merge(void);

/* true: the method came to its end. */
static bool run(void (*method)(void), cal_slice input) {
    node.input = input;
    node.answered = node.panicked = node.committed = false;
    if (setjmp(node.panic) == 0) method();
    return !node.panicked;
}

static bool run_text(void (*method)(void), const char *input) {
    return run(method, cal_slice_text(input));
}

static int setup(void **unused) {
    (void)unused;
    memset(&node, 0, sizeof node);
    cal_sorted_init(&node.rows);
    app_native_heap = malloc(HEAP_SIZE);
    return app_native_heap && run_text(app_export_init, "") ? 0 : 1;
}

static int teardown(void **unused) {
    (void)unused;
    for (cal_sorted_node *at = node.rows.head[0]; at; at = at->next[0]) free(at->value);
    cal_sorted_deinit(&node.rows);
    free(app_native_heap);
    return 0;
}

/* --- arguments against yyjson --- */

static uint64_t seed = 1;

static unsigned random_below(unsigned limit) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % limit;
}

static size_t damage(char *text, size_t len, size_t max) {
    static const char alphabet[] = "{}[]\":,\\u0dDeE8-+. \n\ttruefalsn0129bsi\xC3\xA9\xFF\x01/";
    for (unsigned edits = random_below(4); edits; edits--) {
        size_t at = random_below((unsigned)len + 1);
        char byte = alphabet[random_below(sizeof alphabet - 1)];
        if (random_below(3) == 0 && len < max) {
            memmove(text + at + 1, text + at, len - at);
            text[at] = byte;
            len++;
        } else if (random_below(2) && at < len) {
            memmove(text + at, text + at + 1, len - at - 1);
            len--;
        } else if (at < len) {
            text[at] = byte;
        }
    }
    return len;
}

static bool same_text(yyjson_val *a, yyjson_val *b) {
    return yyjson_is_str(a) && yyjson_is_str(b) && yyjson_get_len(a) == yyjson_get_len(b) &&
           memcmp(yyjson_get_str(a), yyjson_get_str(b), yyjson_get_len(a)) == 0;
}

/* What yyjson reads of arguments that are those of echo; false when they are not. */
static bool acceptable(yyjson_val *in) {
    size_t expected = 3, names = yyjson_obj_size(in);
    yyjson_val *n = yyjson_obj_get(in, "n"), *i = yyjson_obj_get(in, "i");
    if (n) expected++;
    if (!yyjson_is_obj(in) || names != expected) return false;
    if (n && !yyjson_is_str(n) && !yyjson_is_null(n)) return false;
    if (!yyjson_is_int(i) || (yyjson_is_uint(i) && yyjson_get_uint(i) > INT64_MAX)) return false;
    return yyjson_is_str(yyjson_obj_get(in, "s")) && yyjson_is_bool(yyjson_obj_get(in, "b"));
}

static void compare(const char *text, size_t len) {
    bool accepted = run(app_export_echo, cal_slice_of(text, len));
    yyjson_doc *doc = yyjson_read(text, len, 0);
    yyjson_val *in = yyjson_doc_get_root(doc);
    bool expected = doc && acceptable(in);
    if (accepted != expected)
        fail_msg("%s %.*s (%s)", accepted ? "accepted" : "refused", (int)len, text, node.message);
    if (accepted) {
        yyjson_doc *answer = yyjson_read((const char *)node.answer, node.answer_len, 0);
        yyjson_val *out = yyjson_doc_get_root(answer), *n = yyjson_obj_get(in, "n");
        assert_non_null(answer);
        assert_true(same_text(yyjson_arr_get(out, 0), yyjson_obj_get(in, "s")));
        assert_true(yyjson_is_str(n) ? same_text(yyjson_arr_get(out, 1), n)
                                     : yyjson_is_null(yyjson_arr_get(out, 1)));
        assert_int_equal(yyjson_get_bool(yyjson_arr_get(out, 2)),
                         yyjson_get_bool(yyjson_obj_get(in, "b")));
        assert_true(yyjson_get_sint(yyjson_arr_get(out, 3)) ==
                    yyjson_get_sint(yyjson_obj_get(in, "i")));
        yyjson_doc_free(answer);
    }
    yyjson_doc_free(doc);
}

static void test_arguments(void **unused) {
    (void)unused;
    static const char *const seeds[] = {
        "{\"s\":\"text\",\"n\":null,\"b\":true,\"i\":-12}",
        "{\"i\":9223372036854775807,\"b\":false,\"s\":\"\\u00e9\\ud83d\\ude00\\n\\/\"}",
        " { \"n\" : \"\xC3\xA9\" , \"s\" : \"\" , \"b\" : false , \"i\" : 0 } ",
        "{\"s\":\"a\\\\b\\\"c\",\"b\":true,\"i\":1,\"n\":\"\\b\\f\\r\\t\"}",
    };
    unsigned accepted = 0;
    for (int round = 0; round < 40000; round++) {
        char text[256];
        const char *from = seeds[random_below(4)];
        size_t len = strlen(from);
        memcpy(text, from, len);
        compare(text, damage(text, len, sizeof text));
        if (!node.panicked) accepted++;
    }
    assert_true(accepted > 4000);
}

/* --- the rest, for the sanitizers --- */

static void test_store(void **unused) {
    (void)unused;
    for (int i = 0; i < 300; i++) {
        char json[64];
        snprintf(json, sizeof json, "{\"key\":\"%d\",\"value\":\"v\"}", i);
        if (!run_text(app_export_store, json)) fail_msg("%s", node.message);
        assert_true(node.committed && node.artifact_len > 0);
        assert_string_equal((node.answer[node.answer_len] = 0, (const char *)node.answer), "null");
    }
    assert_false(run_text(app_export_init, ""));
}

/* Arbitrary deltas and merge requests end in an answer or a panic. */
static void test_node_calls(void **unused) {
    (void)unused;
    for (int round = 0; round < 20000; round++) {
        uint8_t bytes[160];
        size_t len = random_below(sizeof bytes);
        for (size_t i = 0; i < len; i++)
            bytes[i] = (uint8_t)(random_below(3) ? 0 : random_below(256));
        if (len > 1) bytes[0] = random_below(2) ? 0 : 2, bytes[1] = (uint8_t)random_below(3);
        run(app_export_sync_next, cal_slice_of(bytes, len));
        run(app_export_merge_root_state, cal_slice_of(bytes, len));
        assert_true(node.answered || node.panicked);
    }
    /* existing "a", incoming "b", equally new: the larger. */
    const uint8_t request[] = {1, 0, 0, 0, 'a', 1, 0, 0, 0, 'b', 1, 0, 0, 0, 0, 0, 0,
                               0, 5, 0, 0, 0,   0, 0, 0, 0, 5,   0, 0, 0, 0, 0, 0, 0};
    assert_true(run(app_export_merge_root_state, cal_slice_of(request, sizeof request)));
    const uint8_t expected[] = {0, 1, 0, 0, 0, 'b'};
    assert_int_equal(node.answer_len, sizeof expected);
    assert_memory_equal(node.answer, expected, sizeof expected);
    app_export_register_merge();
}

static void test_text(void **unused) {
    (void)unused;
    app_memory_reset();
    app_text text = app_format("%s|%.*s|%c|%d|%u|%lld|%llu|%zu|%x|%%", "a", 2, "bcd", 'e', -5, 6u,
                               -7ll, 8ull, (size_t)9, 255u);
    assert_true(app_text_equal(text, APP_LITERAL("a|bc|e|-5|6|-7|8|9|ff|%")));
    app_json json = {0};
    app_json_string(&json, (app_text){"\xFF\xC3\xA9\xE2\x82"
                                      "a\x7F\x1F",
                                      8});
    assert_true(app_text_equal((app_text){json.data, json.len},
                               APP_LITERAL("\"\xEF\xBF\xBD\xC3\xA9\xEF\xBF\xBD\xEF\xBF\xBD"
                                           "a\x7F\\u001f\"")));
    uint8_t hash[32], expected[32];
    char bytes[300];
    for (size_t len = 0; len < sizeof bytes; len++) {
        bytes[len] = (char)len;
        crdt_bytes parts[2] = {crdt_bytes_of(bytes, len / 3),
                               crdt_bytes_of(bytes + len / 3, len - len / 3)};
        app_sha256(parts, 2, hash);
        cal_sha256(cal_slice_of(bytes, len), expected);
        assert_memory_equal(hash, expected, 32);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_store),
        cmocka_unit_test(test_node_calls),
        cmocka_unit_test(test_text),
    };
    if (cal_crypto_init() != 0) return 1;
    return cmocka_run_group_tests(tests, setup, teardown);
}
