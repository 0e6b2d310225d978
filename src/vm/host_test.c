/* Every host function, hit and miss, through a guest (runtime-abi.md 3, 4). The limits have their
 * own file. */
#include "support/guest.h"

#include "golden.h"

enum { R = GUEST_REGISTER };

static const char key32[] = "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk";

static cal_slice slice(const char *text) { return cal_slice_text(text); }

static void put(guest_world *world, cal_vm_space space, const char *key, const char *value) {
    assert_int_equal(memory_storage_put(&world->storage, space, slice(key), slice(value), NULL), 0);
}

static void holds(guest_world *world, cal_vm_space space, const char *key, const char *value) {
    cal_slice got = memory_storage_get(&world->storage, space, slice(key));
    if (!value) {
        assert_null(got.data);
        return;
    }
    assert_non_null(got.data);
    assert_true(cal_slice_equal(got, slice(value)));
}

/* A fresh image with one to three texts as the first arguments, and the register as the next. */
static void args(guest_world *world, const char *a, const char *b, bool with_register) {
    guest_image_reset(world);
    int n = 0;
    if (a) guest_arg(world, n++, guest_text(world, a));
    if (b) guest_arg(world, n++, guest_text(world, b));
    if (with_register) guest_arg(world, n, R);
}

/* --- panics --- */

static void panics_say_where(void **state) {
    guest_world *world = *state;
    uint8_t location[24];
    uint64_t file = guest_put(world, "src/lib.rs", 10);
    cal_write_u64le(location, file);
    cal_write_u64le(location + 8, 10);
    cal_write_u32le(location + 16, 12);
    cal_write_u32le(location + 20, 34);
    uint64_t at = guest_put(world, location, sizeof location);
    guest_arg(world, 0, at);
    guest_answer answer = guest_call(world, "panic");
    assert_int_equal(answer.outcome.failure, CAL_VM_FAIL_PANIC);
    assert_string_equal(answer.outcome.error, "guest panicked: explicit panic at src/lib.rs:12:34");
    assert_null(answer.outcome.host_error_name);
    cal_vm_outcome_deinit(&answer.outcome);
    guest_arg(world, 0, guest_text(world, "key not \xe2\x82\xac found"));
    guest_arg(world, 1, at);
    answer = guest_call(world, "panic_utf8");
    assert_int_equal(answer.outcome.failure, CAL_VM_FAIL_PANIC);
    assert_string_equal(answer.outcome.error,
                        "guest panicked: key not \xe2\x82\xac found at src/lib.rs:12:34");
    assert_true(cal_slice_equal(answer.outcome.panic_message, slice("key not \xe2\x82\xac found")));
    assert_true(cal_slice_equal(answer.outcome.panic_file, slice("src/lib.rs")));
    assert_int_equal(answer.outcome.panic_line, 12);
    assert_int_equal(answer.outcome.panic_column, 34);
    cal_vm_outcome_deinit(&answer.outcome);
}

static void long_panics_are_cut_between_characters(void **state) {
    guest_world *world = *state;
    enum { SIGNS = VM_PANIC_MESSAGE_MAX / 3 + 1, LEN = 2 + 3 * SIGNS };
    char *message = malloc(LEN);
    assert_non_null(message);
    memcpy(message, "a", 2); /* with its NUL */
    for (int i = 0; i < SIGNS; i++) memcpy(message + 2 + 3 * i, "\xe2\x82\xac", 3);
    static const uint8_t nowhere[24];
    guest_arg(world, 1, guest_put(world, nowhere, sizeof nowhere));
    guest_arg(world, 0, guest_buffer(world, message, LEN));
    guest_answer answer = guest_call(world, "panic_utf8");
    assert_int_equal(answer.outcome.failure, CAL_VM_FAIL_PANIC);
    assert_in_range(answer.outcome.panic_message.len, VM_PANIC_MESSAGE_MAX - 3,
                    VM_PANIC_MESSAGE_MAX);
    assert_int_equal(answer.outcome.panic_message.data[1], ' '); /* the NUL */
    size_t len = strlen(answer.outcome.error);
    assert_in_range(len, sizeof answer.outcome.error - 4, sizeof answer.outcome.error - 1);
    assert_int_equal((uint8_t)answer.outcome.error[len - 1], 0xac); /* a whole character */
    cal_vm_outcome_deinit(&answer.outcome);
    free(message);
}

/* --- registers, identities, input --- */

static void registers_are_read_whole_or_not(void **state) {
    guest_world *world = *state;
    guest_arg(world, 0, 77);
    guest_call_gives(world, "register_len", UINT64_MAX, NULL);
    guest_arg(world, 0, GUEST_IMAGE_REGISTER);
    guest_call_gives(world, "register_len", GUEST_DATA, NULL);
    guest_arg(world, 0, 77);
    guest_arg(world, 1, guest_descriptor(world, GUEST_OUT, 1));
    guest_call_fails(world, "read_register", "InvalidRegisterId", "invalid register id: 77");
    guest_arg(world, 0, UINT64_MAX);
    guest_call_fails(world, "read_register", "InvalidRegisterId",
                     "invalid register id: 18446744073709551615");
    guest_arg(world, 0, GUEST_IMAGE_REGISTER);
    guest_call_gives(world, "read_register", 0, NULL); /* another length */
    guest_image_reset(world);
    guest_arg(world, 0, GUEST_IMAGE_REGISTER);
    uint64_t descriptor = guest_descriptor(world, GUEST_OUT, GUEST_DATA + 16);
    guest_arg(world, 1, descriptor);
    guest_answer answer = guest_call(world, "read_register");
    assert_int_equal(answer.outcome.failure, CAL_VM_FINE);
    assert_int_equal(answer.result, 1);
    assert_int_equal(cal_read_u64le(answer.out), GUEST_IMAGE_REGISTER); /* the image's first word */
    cal_vm_outcome_deinit(&answer.outcome);
}

static void identities_are_those_of_the_call(void **state) {
    guest_world *world = *state;
    static const struct {
        const char *name;
        int byte;
    } ids[] = {
        {"context_id", 0xc0}, {"account_id", 0xac}, {"executor_id", 0xac}, {"device_id", 0xde}};
    guest_arg(world, 0, R);
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        char wanted[33] = {0};
        memset(wanted, ids[i].byte, 32);
        guest_call_gives(world, ids[i].name, 0, wanted);
    }
    guest_call_gives(world, "xcall_origin", 0, "");
    world->call.xcall_origin = (const uint8_t *)key32;
    guest_call_gives(world, "xcall_origin", 1, key32);
}

static void input_is_always_set(void **state) {
    guest_world *world = *state;
    guest_arg(world, 0, R);
    guest_answer answer = guest_call(world, "input");
    assert_int_equal(answer.content.len, GUEST_DATA);
    cal_vm_outcome_deinit(&answer.outcome);
    world->call.method = "run";
    world->call.input = cal_slice_of(NULL, 0);
    guest_passes(
        world,
        "(module (import \"env\" \"input\" (func $i (param i64))) (import \"env\" \"register_len\" "
        "(func "
        "$l (param i64) (result i64))) (memory (export \"memory\") 1) (func (export \"run\") (call "
        "$i "
        "(i64.const 1)) (if (i64.ne (call $l (i64.const 1)) (i64.const 0)) (then unreachable))))");
}

/* --- output --- */

/* Calls value_return once with a descriptor of `text` behind the tag. */
static guest_answer return_value(guest_world *world, uint64_t tag, const char *text) {
    guest_image_reset(world);
    uint8_t bytes[24];
    uint64_t ptr = guest_put(world, text, strlen(text));
    cal_write_u64le(bytes, tag);
    cal_write_u64le(bytes + 8, ptr);
    cal_write_u64le(bytes + 16, strlen(text));
    guest_arg(world, 0, guest_put(world, bytes, sizeof bytes));
    return guest_call(world, "value_return");
}

static void values_are_ok_or_err(void **state) {
    static const struct {
        uint64_t tag;
        cal_vm_return kind;
        const char *text;
    } cases[] = {
        {0, CAL_VM_RETURN_OK, "null"}, {1, CAL_VM_RETURN_ERR, "\"no\""}, {0, CAL_VM_RETURN_OK, ""}};
    for (size_t i = 0; i < 3; i++) {
        guest_answer answer = return_value(*state, cases[i].tag, cases[i].text);
        assert_int_equal(answer.outcome.failure, CAL_VM_FINE);
        assert_int_equal(answer.outcome.return_kind, cases[i].kind);
        assert_true(cal_slice_equal(answer.outcome.return_value, slice(cases[i].text)));
        cal_vm_outcome_deinit(&answer.outcome);
    }
    static const uint64_t bad[] = {2, 0x100, UINT64_C(1) << 32, UINT64_MAX};
    for (size_t i = 0; i < 4; i++) {
        guest_answer answer = return_value(*state, bad[i], "x");
        assert_string_equal(answer.outcome.host_error_name, "DeserializationError");
        assert_string_equal(answer.outcome.error, "deserialization error");
        assert_int_equal(answer.outcome.return_kind, CAL_VM_RETURN_NONE);
        cal_vm_outcome_deinit(&answer.outcome);
    }
}

/* A value counts only when the call ends well; what it had logged stays. */
static void a_trap_takes_the_value_back(void **state) {
    static const char guest[] =
        "(module (import \"env\" \"value_return\" (func $return (param i64)))"
        "(memory (export \"memory\") 1) (data (i32.const 8) \"\\20\") (data (i32.const 16) "
        "\"\\04\")"
        "(data (i32.const 32) \"null\")"
        "(func (export \"run\") (call $return (i64.const 0)) %s))";
    for (int trap = 0; trap < 2; trap++) {
        char text[512];
        snprintf(text, sizeof text, guest, trap ? "unreachable" : "");
        cal_vm_outcome outcome = guest_run(*state, text);
        assert_int_equal(outcome.failure, trap ? CAL_VM_FAIL_TRAP : CAL_VM_FINE);
        assert_int_equal(outcome.return_kind, trap ? CAL_VM_RETURN_NONE : CAL_VM_RETURN_OK);
        assert_true(cal_slice_equal(outcome.return_value, slice(trap ? "" : "null")));
        cal_vm_outcome_deinit(&outcome);
    }
}

static void what_was_collected_survives_a_failure(void **state) {
    guest_world *world = *state;
    args(world, "a log line", NULL, false);
    guest_repeat(world, VM_DEFAULT_MAX_LOGS + 1);
    guest_answer answer = guest_call(world, "log_utf8");
    assert_string_equal(answer.outcome.error, "logs overflow");
    assert_int_equal(answer.outcome.log_count, VM_DEFAULT_MAX_LOGS);
    assert_true(cal_slice_equal(answer.outcome.logs[1023], slice("a log line")));
    cal_vm_outcome_deinit(&answer.outcome);
}

static void a_witness_is_the_last_one(void **state) {
    guest_world *world = *state;
    args(world, "witness", NULL, false);
    guest_answer answer = guest_call(world, "emit_migration_witness");
    assert_true(answer.outcome.has_witness);
    assert_true(cal_slice_equal(answer.outcome.witness, slice("witness")));
    cal_vm_outcome_deinit(&answer.outcome);
    args(world, "log", NULL, false);
    answer = guest_call(world, "log_utf8");
    assert_false(answer.outcome.has_witness);
    cal_vm_outcome_deinit(&answer.outcome);
}

static void commit_stores_root_and_artifact_once(void **state) {
    guest_world *world = *state;
    args(world, key32, "artifact", false);
    guest_answer answer = guest_call(world, "commit");
    assert_int_equal(answer.outcome.failure, CAL_VM_FINE);
    assert_true(answer.outcome.has_root && answer.outcome.has_artifact);
    assert_memory_equal(answer.outcome.root_hash, key32, 32);
    assert_true(cal_slice_equal(answer.outcome.artifact, slice("artifact")));
    cal_vm_outcome_deinit(&answer.outcome);
    guest_repeat(world, 2);
    guest_call_fails(world, "commit", "InvalidMemoryAccess", "invalid memory access");
    args(world, key32, "", false);
    answer = guest_call(world, "commit");
    assert_true(answer.outcome.has_root && !answer.outcome.has_artifact);
    cal_vm_outcome_deinit(&answer.outcome);
    args(world, "short", "", false);
    guest_call_fails(world, "commit", "InvalidMemoryAccess", "invalid memory access");
}

static uint64_t event(guest_world *world, const char *kind, const char *data) {
    uint64_t k = guest_put(world, kind, strlen(kind)), d = guest_put(world, data, strlen(data));
    uint64_t at = guest_descriptor(world, k, strlen(kind));
    guest_descriptor(world, d, strlen(data));
    return at;
}

static void events_have_handlers_or_not(void **state) {
    guest_world *world = *state;
    guest_arg(world, 0, event(world, "Inserted", "{\"k\":1}"));
    guest_repeat(world, 2);
    guest_answer answer = guest_call(world, "emit");
    assert_int_equal(answer.outcome.event_count, 2);
    assert_true(cal_slice_equal(answer.outcome.events[1].kind, slice("Inserted")));
    assert_true(cal_slice_equal(answer.outcome.events[1].data, slice("{\"k\":1}")));
    assert_false(answer.outcome.events[1].has_handler);
    cal_vm_outcome_deinit(&answer.outcome);
    guest_arg(world, 1, guest_text(world, "on_insert"));
    answer = guest_call(world, "emit_with_handler");
    assert_true(answer.outcome.events[0].has_handler);
    assert_true(cal_slice_equal(answer.outcome.events[0].handler, slice("on_insert")));
    cal_vm_outcome_deinit(&answer.outcome);
    guest_arg(world, 1, 0);
    answer = guest_call(world, "emit_with_handler");
    assert_int_equal(answer.outcome.event_count, 2);
    assert_false(answer.outcome.events[0].has_handler);
    cal_vm_outcome_deinit(&answer.outcome);
}

static void xcalls_are_queued(void **state) {
    guest_world *world = *state;
    uint64_t target = guest_put(world, key32, 32), name = guest_put(world, "pong", 4),
             data = guest_put(world, "{}", 2);
    uint64_t at = guest_descriptor(world, target, 32);
    guest_descriptor(world, name, 4);
    guest_descriptor(world, data, 2);
    guest_arg(world, 0, at);
    guest_repeat(world, 3);
    guest_answer answer = guest_call(world, "xcall");
    assert_int_equal(answer.outcome.xcall_count, 3);
    assert_memory_equal(answer.outcome.xcalls[2].context_id, key32, 32);
    assert_true(cal_slice_equal(answer.outcome.xcalls[2].function, slice("pong")));
    assert_true(cal_slice_equal(answer.outcome.xcalls[2].params, slice("{}")));
    cal_vm_outcome_deinit(&answer.outcome);
    cal_write_u64le(world->image.data + at + 8, 31);
    guest_call_fails(world, "xcall", "InvalidMemoryAccess", "invalid memory access");
}

/* --- state and private storage --- */

static void state_is_read_written_removed(void **state) {
    guest_world *world = *state;
    args(world, key32, NULL, true);
    guest_call_gives(world, "storage_read", 0, "");
    guest_call_gives(world, "storage_remove", 0, "");
    args(world, key32, "one", true);
    guest_call_gives(world, "storage_write", 0, "");
    holds(world, CAL_VM_STATE, key32, "one");
    args(world, key32, "two", true);
    guest_call_gives(world, "storage_write", 1, "one");
    args(world, key32, NULL, true);
    guest_call_gives(world, "storage_read", 1, "two");
    guest_call_gives(world, "storage_remove", 1, "two");
    holds(world, CAL_VM_STATE, key32, NULL);
    args(world, key32, "", true);
    guest_call_gives(world, "storage_write", 0, "");
    args(world, key32, NULL, true);
    guest_call_gives(world, "storage_read", 1, "");
}

static void private_writes_answer_one(void **state) {
    guest_world *world = *state;
    args(world, key32, NULL, true);
    guest_call_gives(world, "private_storage_read", 0, "");
    guest_call_gives(world, "private_storage_remove", 0, "");
    args(world, key32, "one", true);
    guest_call_gives(world, "private_storage_write", 1, "");
    guest_call_gives(world, "private_storage_write", 1, "");
    holds(world, CAL_VM_PRIVATE, key32, "one");
    holds(world, CAL_VM_STATE, key32, NULL);
    args(world, key32, NULL, true);
    guest_call_gives(world, "private_storage_read", 1, "one");
    guest_call_gives(world, "private_storage_remove", 1, "one");
    holds(world, CAL_VM_PRIVATE, key32, NULL);
}

static void without_a_private_store_there_is_nothing(void **state) {
    guest_world *world = *state;
    put(world, CAL_VM_PRIVATE, key32, "hidden");
    world->call.has_private = false;
    args(world, key32, NULL, true);
    guest_call_gives(world, "private_storage_read", 0, "");
    guest_call_gives(world, "private_storage_remove", 0, "");
    args(world, key32, "new", true);
    guest_call_gives(world, "private_storage_write", 0, "");
    guest_repeat(world, VM_STORAGE_WRITES_MAX + 1); /* not charged either */
    guest_call_gives(world, "private_storage_write", 0, "");
    holds(world, CAL_VM_PRIVATE, key32, "hidden");
}

static void other_key_lengths_never_reach_the_store(void **state) {
    guest_world *world = *state;
    static const char *const keys[] = {"", "k", "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk",
                                       "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"};
    for (size_t i = 0; i < 4; i++) {
        put(world, CAL_VM_STATE, keys[i], "x");
        put(world, CAL_VM_PRIVATE, keys[i], "x");
        args(world, keys[i], NULL, true);
        guest_call_gives(world, "storage_read", 0, "");
        guest_call_gives(world, "storage_remove", 0, "");
        guest_call_gives(world, "private_storage_read", 0, "");
        guest_call_gives(world, "private_storage_remove", 0, "");
        args(world, keys[i], "y", true);
        guest_call_gives(world, "storage_write", 0, "");
        guest_call_gives(world, "private_storage_write", 1, "");
        holds(world, CAL_VM_STATE, keys[i], "x");
        holds(world, CAL_VM_PRIVATE, keys[i], "x");
    }
    assert_int_equal(world->storage.calls, 0);
}

static void read_only_calls_change_nothing(void **state) {
    guest_world *world = *state;
    static const struct {
        const char *name;
        uint64_t result;
    } changes[] = {
        {"storage_write", 0},
        {"private_storage_write", 1},
        {"storage_index_set", 0},
        {"storage_index_meta_set", 0},
        {"storage_remove", 0},
        {"private_storage_remove", 0},
        {"storage_index_remove", 0},
        {"storage_index_remove_prefix", 0},
        {"storage_index_meta_clear", 0},
    };
    world->call.read_only = true;
    for (int space = 0; space < MEMORY_STORAGE_SPACES; space++)
        put(world, (cal_vm_space)space, key32, "old");
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        bool writes = strstr(changes[i].name, "write") || strstr(changes[i].name, "set");
        args(world, key32, writes ? "new" : NULL, true);
        guest_call_gives(world, changes[i].name, changes[i].result, "");
    }
    for (int space = 0; space < MEMORY_STORAGE_SPACES; space++)
        holds(world, (cal_vm_space)space, key32, "old");
    args(world, key32, NULL, true);
    guest_call_gives(world, "storage_read", 1, "old");
    guest_call_gives(world, "private_storage_read", 1, "old");
    guest_call_gives(world, "storage_index_meta_get", 1, "old");
    args(world, key32, "new", true);
    guest_repeat(world, VM_STORAGE_WRITES_MAX + 1); /* charged all the same */
    guest_call_fails(world, "storage_write", "StorageWriteCountExceeded",
                     "storage write count budget exceeded (max: 100000)");
}

static void failing_storage_ends_the_call(void **state) {
    guest_world *world = *state;
    static const char *const names[] = {
        "storage_read",           "storage_remove",          "storage_write",
        "private_storage_read",   "private_storage_remove",  "private_storage_write",
        "storage_index_set",      "storage_index_remove",    "storage_index_remove_prefix",
        "storage_index_scan",     "storage_index_last",      "storage_index_meta_set",
        "storage_index_meta_get", "storage_index_meta_clear"};
    world->storage.fail_at = 1;
    world->storage.fail_code = CAL_EFULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        args(world, key32, "lllllll", true);
        guest_answer answer = guest_call(world, names[i]);
        assert_int_equal(answer.outcome.failure, CAL_VM_FAIL_NODE);
        assert_int_equal(answer.outcome.node_error, CAL_EFULL);
        assert_string_equal(answer.outcome.error,
                            "the node could not carry out the call: no space left on the device");
        assert_null(answer.outcome.host_error_name);
        cal_vm_outcome_deinit(&answer.outcome);
    }
}

/* --- index --- */

static void scan(guest_world *world, const char *lo, const char *hi, uint64_t skip, uint64_t limit,
                 const char *pairs) {
    guest_image_reset(world);
    guest_arg(world, 0, guest_text(world, lo));
    guest_arg(world, 1, guest_text(world, hi));
    guest_arg(world, 2, skip);
    guest_arg(world, 3, limit);
    guest_arg(world, 4, R);
    guest_answer answer = guest_call(world, "storage_index_scan");
    assert_string_equal(answer.outcome.error, "");
    assert_int_equal(answer.result, 1);
    cal_buffer wanted; /* pairs is "k=v" of single characters, in order */
    cal_buffer_init(&wanted, 1000);
    cal_buffer_append_u32le(&wanted, (uint32_t)strlen(pairs) / 3);
    for (const char *p = pairs; *p; p += 3) {
        cal_buffer_append_u32le(&wanted, 1);
        cal_buffer_append(&wanted, p, 1);
        cal_buffer_append_u32le(&wanted, 1);
        cal_buffer_append(&wanted, p + 2, 1);
    }
    assert_true(cal_slice_equal(answer.content, cal_buffer_slice(&wanted)));
    cal_buffer_deinit(&wanted);
    cal_vm_outcome_deinit(&answer.outcome);
}

static void the_index_is_scanned_in_order(void **state) {
    guest_world *world = *state;
    static const char *const keys[] = {"b", "d", "a", "c"};
    for (size_t i = 0; i < 4; i++) {
        char value[2] = {(char)(keys[i][0] - 'a' + '1'), 0};
        args(world, keys[i], value, false);
        guest_call_gives(world, "storage_index_set", 1, "");
    }
    scan(world, "a", "z", 0, 0, "a=1b=2c=3d=4");
    scan(world, "", "c", 0, 0, "a=1b=2");
    scan(world, "b", "d", 0, 0, "b=2c=3");
    scan(world, "a", "z", 1, 0, "b=2c=3d=4");
    scan(world, "a", "z", 1, 3, "b=2c=3");
    scan(world, "a", "z", 0, 1, "");
    scan(world, "a", "z", 0, UINT64_MAX, "a=1b=2c=3d=4");
    scan(world, "a", "z", UINT64_MAX, 0, "");
    scan(world, "c", "c", 0, 0, "");
    scan(world, "z", "a", 0, 0, "");
    args(world, "c", NULL, false);
    guest_call_gives(world, "storage_index_remove", 1, "");
    guest_call_gives(world, "storage_index_remove", 1, "");
    scan(world, "a", "z", 0, 0, "a=1b=2d=4");
}

static void the_last_pair_is_found(void **state) {
    guest_world *world = *state;
    put(world, CAL_VM_INDEX, "b", "2");
    put(world, CAL_VM_INDEX, "d", "4");
    static const struct {
        const char *lo, *hi, *encoded;
        size_t len;
    } cases[] = {
        {"a", "z",
         "\1\0\0\0\1\0\0\0d\1\0\0\0"
         "4",
         14},
        {"a", "d",
         "\1\0\0\0\1\0\0\0b\1\0\0\0"
         "2",
         14},
        {"c", "d", "\0\0\0\0", 4},
        {"e", "z", "\0\0\0\0", 4},
        {"z", "a", "\0\0\0\0", 4},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        args(world, cases[i].lo, cases[i].hi, true);
        guest_answer answer = guest_call(world, "storage_index_last");
        assert_int_equal(answer.result, 1);
        assert_true(cal_slice_equal(answer.content, cal_slice_of(cases[i].encoded, cases[i].len)));
        cal_vm_outcome_deinit(&answer.outcome);
    }
}

static void prefixes_are_removed(void **state) {
    guest_world *world = *state;
    static const char *const keys[] = {"aa", "ab", "ab1", "ab\xff", "ac", "b"};
    for (size_t i = 0; i < 6; i++) put(world, CAL_VM_INDEX, keys[i], "x");
    args(world, "ab", NULL, false);
    guest_call_gives(world, "storage_index_remove_prefix", 1, "");
    for (size_t i = 0; i < 6; i++)
        holds(world, CAL_VM_INDEX, keys[i], strncmp(keys[i], "ab", 2) == 0 ? NULL : "x");
    guest_call_gives(world, "storage_index_remove_prefix", 1, "");
    args(world, "", NULL, false);
    guest_call_gives(world, "storage_index_remove_prefix", 1, "");
    assert_int_equal(world->storage.spaces[CAL_VM_INDEX].count, 0);
}

static void markers_have_their_own_space(void **state) {
    guest_world *world = *state;
    put(world, CAL_VM_INDEX, "m", "not a marker");
    args(world, "m", NULL, true);
    guest_call_gives(world, "storage_index_meta_get", 0, "");
    guest_call_gives(world, "storage_index_meta_clear", 1, "");
    args(world, "m", "hash", false);
    guest_call_gives(world, "storage_index_meta_set", 1, "");
    args(world, "m", NULL, true);
    guest_call_gives(world, "storage_index_meta_get", 1, "hash");
    guest_call_gives(world, "storage_index_meta_clear", 1, "");
    holds(world, CAL_VM_INDEX_META, "m", NULL);
    holds(world, CAL_VM_INDEX, "m", "not a marker");
}

/* --- the rest --- */

static void fetch_is_disabled(void **state) {
    guest_world *world = *state;
    for (int i = 0; i < 4; i++) guest_arg(world, i, UINT64_MAX); /* not even read */
    guest_arg(world, 4, R);
    guest_call_gives(world, "fetch", 1, "Host function 'fetch' is temporarily disabled.");
}

static void time_and_randomness_come_from_the_call(void **state) {
    guest_world *world = *state;
    guest_arg(world, 0, guest_descriptor(world, GUEST_OUT, 8));
    guest_repeat(world, 3);
    guest_answer answer = guest_call(world, "time_now");
    assert_int_equal(cal_read_u64le(answer.out), UINT64_C(1700000000000003000));
    cal_vm_outcome_deinit(&answer.outcome);
    guest_os other;
    guest_os_init(&other);
    other.t0 = 5;
    world->call.os = &other.os;
    guest_repeat(world, 1);
    answer = guest_call(world, "time_now");
    assert_int_equal(cal_read_u64le(answer.out), 1005);
    cal_vm_outcome_deinit(&answer.outcome);
    guest_image_reset(world);
    guest_arg(world, 0, guest_descriptor(world, GUEST_OUT, 40));
    answer = guest_call(world, "random_bytes");
    uint8_t hash[32];
    cal_sha256(cal_slice_of("rnd\1\0\0\0\0\0\0\0", 11), hash);
    assert_memory_equal(answer.out, hash, 32);
    cal_sha256(cal_slice_of("rnd\2\0\0\0\0\0\0\0", 11), hash);
    assert_memory_equal(answer.out + 32, hash, 8);
    assert_int_equal(answer.out[40], 0);
    cal_vm_outcome_deinit(&answer.outcome);
    guest_image_reset(world);
    static const uint64_t wrong[] = {0, 7, 9};
    for (size_t i = 0; i < 3; i++) {
        guest_arg(world, 0, guest_descriptor(world, GUEST_OUT, wrong[i]));
        guest_call_fails(world, "time_now", "InvalidMemoryAccess", "invalid memory access");
    }
    guest_arg(world, 0, guest_descriptor(world, GUEST_OUT, 0));
    guest_call_gives(world, "random_bytes", 0, NULL);
}

static void signatures_are_judged_as_recorded(void **state) {
    guest_world *world = *state;
    yyjson_doc *doc = golden_load("crypto.json");
    yyjson_val *item;
    size_t index = 0, count = 0;
    while ((item = golden_next(yyjson_doc_get_root(doc), "ed25519/", &index))) {
        yyjson_val *inputs = yyjson_obj_get(item, "inputs");
        cal_slice parts[] = {golden_hex_value(yyjson_obj_get(inputs, "signature")),
                             golden_hex_value(yyjson_obj_get(inputs, "public_key")),
                             golden_hex_value(yyjson_obj_get(inputs, "message"))};
        guest_image_reset(world);
        for (int i = 0; i < 3; i++) {
            guest_arg(world, i, guest_buffer(world, parts[i].data, parts[i].len));
            free((void *)(uintptr_t)parts[i].data);
        }
        if (yyjson_get_bool(yyjson_obj_get(item, "key_decodes")))
            guest_call_gives(world, "ed25519_verify",
                             yyjson_get_bool(yyjson_obj_get(item, "verify")), NULL);
        else
            guest_call_fails(world, "ed25519_verify", "Ed25519IncorrectPublicKey",
                             "incorrect ed25519 public key");
        count++;
    }
    assert_in_range(count, 30, 1000);
    yyjson_doc_free(doc);
    char bytes[65] = {0};
    static const size_t lens[][2] = {{63, 32}, {65, 32}, {64, 31}, {64, 33}, {0, 32}};
    for (size_t i = 0; i < 5; i++) {
        guest_image_reset(world);
        guest_arg(world, 0, guest_buffer(world, bytes, lens[i][0]));
        guest_arg(world, 1, guest_buffer(world, bytes, lens[i][1]));
        guest_arg(world, 2, guest_text(world, "message"));
        guest_call_fails(world, "ed25519_verify", "InvalidMemoryAccess", "invalid memory access");
    }
}

static void text_must_be_utf8(void **state) {
    guest_world *world = *state;
    static const char *const bad[] = {"\xff",     "a\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                                      "\xe2\x82", "\x80"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        args(world, bad[i], NULL, false);
        guest_call_fails(world, "log_utf8", "BadUTF8", "invalid UTF-8 string");
        guest_image_reset(world);
        guest_arg(world, 0, event(world, bad[i], ""));
        guest_call_fails(world, "emit", "BadUTF8", "invalid UTF-8 string");
        guest_image_reset(world);
        guest_arg(world, 0, event(world, "fine", bad[i])); /* data is bytes */
        guest_arg(world, 1, guest_text(world, bad[i]));
        guest_call_gives(world, "emit", 0, NULL);
        guest_call_fails(world, "emit_with_handler", "BadUTF8", "invalid UTF-8 string");
        guest_image_reset(world);
        uint64_t name = guest_put(world, bad[i], strlen(bad[i])),
                 target = guest_put(world, key32, 32);
        uint64_t at = guest_descriptor(world, target, 32);
        guest_descriptor(world, name, strlen(bad[i]));
        guest_descriptor(world, 0, 0);
        guest_arg(world, 0, at);
        guest_call_fails(world, "xcall", "BadUTF8", "invalid UTF-8 string");
        guest_image_reset(world);
        static const uint8_t nowhere[24];
        guest_arg(world, 0, guest_text(world, bad[i]));
        guest_arg(world, 1, guest_put(world, nowhere, sizeof nowhere));
        guest_call_fails(world, "panic_utf8", "BadUTF8", "invalid UTF-8 string");
    }
    args(world, "\xf0\x9f\x98\x80 \xed\x9f\xbf \xee\x80\x80 \xf4\x8f\xbf\xbf", NULL, false);
    guest_call_gives(world, "log_utf8", 0, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        GUEST_TEST(panics_say_where),
        GUEST_TEST(long_panics_are_cut_between_characters),
        GUEST_TEST(registers_are_read_whole_or_not),
        GUEST_TEST(identities_are_those_of_the_call),
        GUEST_TEST(input_is_always_set),
        GUEST_TEST(values_are_ok_or_err),
        GUEST_TEST(a_trap_takes_the_value_back),
        GUEST_TEST(what_was_collected_survives_a_failure),
        GUEST_TEST(a_witness_is_the_last_one),
        GUEST_TEST(commit_stores_root_and_artifact_once),
        GUEST_TEST(events_have_handlers_or_not),
        GUEST_TEST(xcalls_are_queued),
        GUEST_TEST(state_is_read_written_removed),
        GUEST_TEST(private_writes_answer_one),
        GUEST_TEST(without_a_private_store_there_is_nothing),
        GUEST_TEST(other_key_lengths_never_reach_the_store),
        GUEST_TEST(read_only_calls_change_nothing),
        GUEST_TEST(failing_storage_ends_the_call),
        GUEST_TEST(the_index_is_scanned_in_order),
        GUEST_TEST(the_last_pair_is_found),
        GUEST_TEST(prefixes_are_removed),
        GUEST_TEST(markers_have_their_own_space),
        GUEST_TEST(fetch_is_disabled),
        GUEST_TEST(time_and_randomness_come_from_the_call),
        GUEST_TEST(signatures_are_judged_as_recorded),
        GUEST_TEST(text_must_be_utf8),
    };
    return cmocka_run_group_tests(tests, guest_world_new, guest_world_free);
}
