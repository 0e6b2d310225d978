/* Each limit of runtime-abi.md 15 at its maximum and one beyond, and the blob functions, which are
 * mostly limits. */
#include "support/guest.h"

#include <inttypes.h>

enum { R = GUEST_REGISTER, BIG = 1024 * 1024 /* an address below which images end */ };

static void fails_memory(guest_world *world, const char *function) {
    guest_call_fails(world, function, "InvalidMemoryAccess", "invalid memory access");
}

/* --- sizes: the guest's memory is large enough to point at --- */

/* One argument with a buffer of `max` bytes passes, with one more it fails. */
static void bounded(guest_world *world, const char *function, int arg, uint64_t max,
                    uint64_t result, const char *name, const char *error) {
    uint64_t at = guest_descriptor(world, BIG, max);
    guest_arg(world, arg, at);
    guest_call_gives(world, function, result, NULL);
    cal_write_u64le(world->image.data + at + 8, max + 1);
    guest_call_fails(world, function, name, error);
    cal_write_u64le(world->image.data + at + 8,
                    UINT64_MAX); /* the size is looked at before the bytes */
    guest_call_fails(world, function, name, error);
}

static void keys_have_a_mebibyte(void **state) {
    guest_world *world = *state;
    static const struct {
        const char *name;
        int keys;
        uint64_t result;
    } functions[] = {{"storage_read", 1, 0},
                     {"storage_remove", 1, 0},
                     {"storage_write", 1, 0},
                     {"private_storage_read", 1, 0},
                     {"private_storage_remove", 1, 0},
                     {"private_storage_write", 1, 1},
                     {"storage_index_set", 1, 1},
                     {"storage_index_remove", 1, 1},
                     {"storage_index_remove_prefix", 1, 1},
                     {"storage_index_scan", 2, 1},
                     {"storage_index_last", 2, 1},
                     {"storage_index_meta_get", 1, 0},
                     {"storage_index_meta_set", 1, 1},
                     {"storage_index_meta_clear", 1, 1}};
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        for (int key = 0; key < functions[i].keys; key++) {
            guest_image_reset(world);
            uint64_t small = guest_text(world, "v");
            for (int arg = 0; arg < 2; arg++) guest_arg(world, arg, small);
            if (strstr(functions[i].name, "_get") || strstr(functions[i].name, "_read") ||
                strstr(functions[i].name, "storage_remove"))
                guest_arg(world, 1, R);
            guest_arg(world, 2, R);
            guest_arg(world, 4, R);
            bounded(world, functions[i].name, key, VM_STORAGE_KEY_MAX, functions[i].result,
                    "KeyLengthOverflow", "key length overflow");
        }
    }
}

static void values_have_ten_mebibytes(void **state) {
    guest_world *world = *state;
    static const struct {
        const char *name;
        int arg;
        uint64_t result;
    } functions[] = {{"storage_write", 1, 0},
                     {"private_storage_write", 1, 1},
                     {"storage_index_set", 1, 1},
                     {"storage_index_meta_set", 1, 1}};
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        guest_image_reset(world);
        guest_arg(world, 0, guest_text(world, "k"));
        guest_arg(world, 2, R);
        bounded(world, functions[i].name, functions[i].arg, VM_STORAGE_VALUE_MAX,
                functions[i].result, "ValueLengthOverflow", "value length overflow");
    }
    /* The witness: its bytes are looked at before its size. */
    guest_image_reset(world);
    guest_arg(world, 0, guest_descriptor(world, BIG, VM_STORAGE_VALUE_MAX));
    guest_call_gives(world, "emit_migration_witness", 0, NULL);
    guest_arg(world, 0, guest_descriptor(world, BIG, VM_STORAGE_VALUE_MAX + 1));
    guest_call_fails(world, "emit_migration_witness", "ValueLengthOverflow",
                     "value length overflow");
    guest_arg(world, 0, guest_descriptor(world, BIG, UINT64_MAX));
    fails_memory(world, "emit_migration_witness");
}

static void outputs_have_sixteen_mebibytes(void **state) {
    guest_world *world = *state;
    uint64_t tag = guest_put(world, "\0\0\0\0\0\0\0\0", 8);
    uint64_t at = guest_descriptor(world, BIG, VM_RETURN_MAX);
    guest_arg(world, 0, tag);
    guest_answer answer = guest_call(world, "value_return");
    assert_int_equal(answer.outcome.return_value.len, VM_RETURN_MAX);
    cal_vm_outcome_deinit(&answer.outcome);
    cal_write_u64le(world->image.data + at + 8, VM_RETURN_MAX + 1);
    guest_call_fails(world, "value_return", "ReturnValueSizeOverflow",
                     "return value too large (size: 16777217, max: 16777216)");
    guest_image_reset(world);
    guest_arg(world, 0, guest_descriptor(world, BIG, 32));
    guest_arg(world, 1, guest_descriptor(world, BIG, VM_ARTIFACT_MAX));
    guest_call_gives(world, "commit", 0, NULL);
    guest_arg(world, 1, guest_descriptor(world, BIG, VM_ARTIFACT_MAX + 1));
    guest_call_fails(world, "commit", "ArtifactSizeOverflow",
                     "commit artifact size overflow (size: 16777217, max: 16777216)");
}

/* --- logs, events, xcalls --- */

static void logs_are_counted_and_measured(void **state) {
    guest_world *world = *state;
    guest_arg(world, 0, guest_descriptor(world, BIG, VM_DEFAULT_MAX_LOG_SIZE));
    guest_repeat(world, VM_DEFAULT_MAX_LOGS);
    guest_call_gives(world, "log_utf8", 0, NULL);
    guest_repeat(world, VM_DEFAULT_MAX_LOGS + 1);
    guest_call_fails(world, "log_utf8", "LogsOverflow", "logs overflow");
    guest_repeat(world, 1);
    guest_arg(world, 0, guest_descriptor(world, BIG, VM_DEFAULT_MAX_LOG_SIZE + 1));
    guest_call_fails(world, "log_utf8", "LogLengthOverflow", "log size overflow");
}

static void operators_set_the_log_limits(void **state) {
    guest_world *world = *state;
    cal_vm_limits saved = world->vm->limits;
    world->vm->limits.max_logs = 2;
    world->vm->limits.max_log_size = 3;
    guest_arg(world, 0, guest_text(world, "abc"));
    guest_repeat(world, 2);
    guest_call_gives(world, "log_utf8", 0, NULL);
    guest_repeat(world, 3);
    guest_call_fails(world, "log_utf8", "LogsOverflow", "logs overflow");
    guest_repeat(world, 1);
    guest_arg(world, 0, guest_text(world, "abcd"));
    guest_call_fails(world, "log_utf8", "LogLengthOverflow", "log size overflow");
    world->vm->limits = saved;
}

/* Two or three descriptors in a row; where the first stands. */
static uint64_t row(guest_world *world, const uint64_t *lens, size_t count) {
    uint64_t at = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t here = guest_descriptor(world, BIG, lens[i]);
        if (i == 0) at = here;
    }
    return at;
}

static void events_are_counted_and_measured(void **state) {
    guest_world *world = *state;
    static const char *const functions[] = {"emit", "emit_with_handler"};
    for (int i = 0; i < 2; i++) {
        guest_image_reset(world);
        guest_arg(world, 0, row(world, (uint64_t[]){VM_EVENT_KIND_MAX, VM_EVENT_DATA_MAX}, 2));
        guest_arg(world, 1, guest_descriptor(world, BIG, CAL_VM_METHOD_MAX));
        guest_repeat(world, VM_EVENTS_MAX);
        guest_call_gives(world, functions[i], 0, NULL);
        guest_repeat(world, VM_EVENTS_MAX + 1);
        guest_call_fails(world, functions[i], "EventsOverflow", "events overflow");
        guest_repeat(world, 1);
        guest_arg(world, 0, row(world, (uint64_t[]){VM_EVENT_KIND_MAX + 1, 0}, 2));
        guest_call_fails(world, functions[i], "EventKindSizeOverflow", "event kind size overflow");
        guest_arg(world, 0, row(world, (uint64_t[]){0, VM_EVENT_DATA_MAX + 1}, 2));
        guest_call_fails(world, functions[i], "EventDataSizeOverflow", "event data size overflow");
    }
    guest_arg(world, 0, row(world, (uint64_t[]){1, 1}, 2));
    guest_arg(world, 1, guest_descriptor(world, BIG, CAL_VM_METHOD_MAX + 1));
    guest_call_fails(world, "emit_with_handler", "EventHandlerSizeOverflow",
                     "event handler name too large (size: 257, max: 256)");
}

static void xcalls_are_counted_and_measured(void **state) {
    guest_world *world = *state;
    guest_arg(world, 0,
              row(world, (uint64_t[]){32, VM_XCALL_FUNCTION_MAX, VM_XCALL_PARAMS_MAX}, 3));
    guest_repeat(world, VM_XCALLS_MAX);
    guest_call_gives(world, "xcall", 0, NULL);
    guest_repeat(world, VM_XCALLS_MAX + 1);
    guest_call_fails(world, "xcall", "XCallsOverflow", "xcalls overflow");
    guest_repeat(world, 1);
    guest_arg(world, 0, row(world, (uint64_t[]){32, VM_XCALL_FUNCTION_MAX + 1, 0}, 3));
    guest_call_fails(world, "xcall", "XCallFunctionSizeOverflow", "xcall function size overflow");
    guest_arg(world, 0, row(world, (uint64_t[]){32, 0, VM_XCALL_PARAMS_MAX + 1}, 3));
    guest_call_fails(world, "xcall", "XCallParamsSizeOverflow", "xcall params size overflow");
}

/* --- write budget --- */

static void writes_are_counted(void **state) {
    guest_world *world = *state;
    static const char *const functions[] = {"storage_write", "private_storage_write",
                                            "storage_index_set", "storage_index_meta_set",
                                            "storage_index_meta_clear"};
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        guest_image_reset(world);
        guest_arg(world, 0, guest_text(world, "k"));
        guest_arg(world, 1, guest_text(world, "v"));
        guest_arg(world, 2, R);
        guest_repeat(world, VM_STORAGE_WRITES_MAX);
        guest_answer answer = guest_call(world, functions[i]);
        assert_string_equal(answer.outcome.error, "");
        cal_vm_outcome_deinit(&answer.outcome);
        guest_repeat(world, VM_STORAGE_WRITES_MAX + 1);
        guest_call_fails(world, functions[i], "StorageWriteCountExceeded",
                         "storage write count budget exceeded (max: 100000)");
    }
    guest_arg(world, 1, R);
    guest_call_gives(world, "storage_remove", 0, NULL); /* not charged */
}

static void written_bytes_are_counted(void **state) {
    guest_world *world = *state;
    guest_arg(world, 0,
              guest_descriptor(world, BIG, 4)); /* dropped for its length, charged nevertheless */
    guest_arg(world, 1, guest_descriptor(world, BIG, 8 * 1024 * 1024 - 4));
    guest_arg(world, 2, R);
    guest_repeat(world, 16);
    guest_call_gives(world, "storage_write", 0, NULL);
    guest_repeat(world, 17);
    guest_call_fails(world, "storage_write", "StorageWriteBytesExceeded",
                     "storage write byte budget exceeded (attempted: 142606336, max: 134217728)");
    assert_int_equal(world->storage.calls, 0);
}

static void a_refused_write_reaches_no_store(void **state) {
    guest_world *world = *state;
    guest_arg(world, 0, guest_descriptor(world, BIG, 32));
    guest_arg(world, 1, guest_descriptor(world, BIG, VM_STORAGE_VALUE_MAX));
    guest_arg(world, 2, R);
    guest_repeat(world, 13);
    guest_answer answer = guest_call(world, "storage_write");
    assert_string_equal(answer.outcome.host_error_name, "StorageWriteBytesExceeded");
    cal_vm_outcome_deinit(&answer.outcome);
    assert_int_equal(world->storage.calls, 12);
}

/* --- registers --- */

static void registers_are_a_hundred(void **state) {
    guest_world *world = *state;
    static const char *const text =
        "(module (import \"env\" \"context_id\" (func $set (param i64))) (memory (export "
        "\"memory\") 1) (func (export \"run\") (local $i i64) (loop (call $set (local.get "
        "$i)) (local.set $i (i64.add (local.get $i) (i64.const 1))) (br_if 0 (i64.lt_u "
        "(local.get $i) (i64.const %d)))) (call $set (i64.const 0))))";
    char module[512];
    snprintf(module, sizeof module, text, VM_REGISTERS_MAX);
    guest_passes(world, module);
    snprintf(module, sizeof module, text, VM_REGISTERS_MAX + 1);
    guest_fails(world, module, CAL_VM_FAIL_HOST, "invalid memory access");
}

static void a_register_has_a_hundred_mebibytes(void **state) {
    guest_world *world = *state;
    static const char *const text =
        "(module (import \"env\" \"input\" (func $i (param i64))) (memory (export "
        "\"memory\") 1) (func (export \"run\") (call $i (i64.const 1))))";
    uint8_t *input = calloc(1, VM_REGISTER_SIZE_MAX + 1);
    assert_non_null(input);
    world->call.input = cal_slice_of(input, VM_REGISTER_SIZE_MAX);
    guest_passes(world, text);
    world->call.input = cal_slice_of(input, VM_REGISTER_SIZE_MAX + 1);
    guest_fails(world, text, CAL_VM_FAIL_HOST, "invalid memory access");
    free(input);
}

static void registers_share_a_gibibyte(void **state) {
    guest_world *world = *state;
    cal_vm_outcome outcome;
    assert_int_equal(vm_outcome_init(&outcome, &world->vm->limits), 0);
    vm_state call = {.vm = world->vm, .outcome = &outcome};
    /* As if others held all but 50 bytes. */
    call.registers.total = VM_REGISTERS_TOTAL_MAX - 50;
    char bytes[64] = {0};
    assert_int_equal(vm_register_set(&call, 7, cal_slice_of(bytes, 42)), 0);
    assert_int_equal(call.registers.total, VM_REGISTERS_TOTAL_MAX);
    assert_int_equal(vm_register_set(&call, 7, cal_slice_of(bytes, 42)),
                     0); /* replacing costs nothing */
    assert_int_equal(vm_register_set(&call, 7, cal_slice_of(bytes, 43)), 1);
    assert_int_equal(vm_register_set(&call, 8, cal_slice_of(bytes, 0)), 1);
    assert_string_equal(outcome.error, "invalid memory access");
    assert_int_equal(vm_register_set(&call, 7, cal_slice_of(bytes, 34)), 0);
    assert_int_equal(vm_register_set(&call, 8, cal_slice_of(bytes, 0)), 0);
    assert_int_equal(vm_register_get(&call.registers, 7)->len, 34);
    assert_null(vm_register_get(&call.registers, 9));
    vm_registers_deinit(&call.registers);
    cal_vm_outcome_deinit(&outcome);
}

static void a_register_lets_go_of_memory(void **state) {
    guest_world *world = *state;
    cal_vm_outcome outcome;
    assert_int_equal(vm_outcome_init(&outcome, &world->vm->limits), 0);
    vm_state call = {.vm = world->vm, .outcome = &outcome};
    uint8_t *large = calloc(1, BIG);
    assert_non_null(large);
    assert_int_equal(vm_register_set(&call, 1, cal_slice_of(large, BIG)), 0);
    assert_int_equal(vm_register_set(&call, 1, cal_slice_of(large, 10)), 0);
    assert_in_range(vm_register_get(&call.registers, 1)->capacity, 10, 64 * 1024);
    free(large);
    vm_registers_deinit(&call.registers);
    cal_vm_outcome_deinit(&outcome);
}

/* --- index --- */

static void a_scan_ends_at_its_cap(void **state) {
    guest_world *world = *state;
    for (uint32_t i = 0; i <= VM_INDEX_SCAN_MAX; i++) {
        uint8_t key[4];
        cal_write_u32be(key, i);
        assert_int_equal(memory_storage_put(&world->storage, CAL_VM_INDEX, cal_slice_of(key, 4),
                                            cal_slice_text("v"), NULL),
                         0);
    }
    static const struct {
        uint64_t skip, limit;
        uint32_t count;
    } cases[] = {
        {0, 0, VM_INDEX_SCAN_MAX},
        {0, VM_INDEX_SCAN_MAX + 2, VM_INDEX_SCAN_MAX},
        {0, VM_INDEX_SCAN_MAX, VM_INDEX_SCAN_MAX - 1},
        {2, 0, VM_INDEX_SCAN_MAX - 1},
    };
    guest_arg(world, 0, guest_text(world, ""));
    guest_arg(world, 1, guest_text(world, "\xff"));
    guest_arg(world, 4, R);
    for (size_t i = 0; i < 4; i++) {
        guest_arg(world, 2, cases[i].skip);
        guest_arg(world, 3, cases[i].limit);
        guest_answer answer = guest_call(world, "storage_index_scan");
        assert_string_equal(answer.outcome.error, "");
        assert_int_equal(cal_read_u32le(answer.content.data), cases[i].count);
        assert_int_equal(answer.content.len, 4 + 13 * (size_t)cases[i].count);
        cal_vm_outcome_deinit(&answer.outcome);
    }
}

static void a_scan_larger_than_a_register_is_refused(void **state) {
    guest_world *world = *state;
    uint8_t *value = calloc(1, VM_STORAGE_VALUE_MAX);
    assert_non_null(value);
    for (uint8_t i = 0; i < 10; i++)
        assert_int_equal(memory_storage_put(&world->storage, CAL_VM_INDEX, cal_slice_of(&i, 1),
                                            cal_slice_of(value, VM_STORAGE_VALUE_MAX), NULL),
                         0);
    free(value);
    guest_arg(world, 0, guest_text(world, ""));
    guest_arg(world, 1, guest_text(world, "z"));
    guest_arg(world, 4, R + 1);
    fails_memory(world, "storage_index_scan");
    guest_arg(world, 3, 10);
    guest_call_gives(world, "storage_index_scan", 1, NULL);
}

/* --- blobs --- */

typedef struct fake_blobs {
    int created, finished, aborted, opened, closed, announced;
    uint64_t written, left; /* left to read */
    int fail; /* the step that fails: 1 create 2 write 3 finish 4 open 5 read 6 announce */
    int handle;
} fake_blobs;

static int fake_create(void *user, void **ret_writer) {
    fake_blobs *blobs = user;
    if (blobs->fail == 1) return CAL_EIO;
    blobs->created++;
    *ret_writer = &blobs->handle;
    return 0;
}
static int fake_write(void *user, void *writer, cal_slice bytes) {
    (void)writer;
    fake_blobs *blobs = user;
    if (blobs->fail == 2) return CAL_EIO;
    blobs->written += bytes.len;
    return 0;
}
static int fake_finish(void *user, void *writer, uint8_t ret_id[32]) {
    (void)writer;
    fake_blobs *blobs = user;
    blobs->finished++;
    if (blobs->fail == 3) return CAL_EIO;
    memset(ret_id, 0xb1, 32);
    return 0;
}
static void fake_abort(void *user, void *writer) {
    (void)writer;
    ((fake_blobs *)user)->aborted++;
}
static int fake_open(void *user, const uint8_t id[32], void **ret_reader) {
    (void)id;
    fake_blobs *blobs = user;
    if (blobs->fail == 4) return CAL_EIO;
    blobs->opened++;
    *ret_reader = &blobs->handle;
    return 0;
}
static int64_t fake_read(void *user, void *reader, uint8_t *ret_bytes, size_t len) {
    (void)reader;
    fake_blobs *blobs = user;
    if (blobs->fail == 5) return CAL_EIO;
    size_t part = blobs->left < len ? (size_t)blobs->left : len;
    memset(ret_bytes, 'r', part);
    blobs->left -= part;
    return (int64_t)part;
}
static void fake_close(void *user, void *reader) {
    (void)reader;
    ((fake_blobs *)user)->closed++;
}
static int fake_announce(void *user, const uint8_t id[32], const uint8_t context[32]) {
    fake_blobs *blobs = user;
    (void)id;
    (void)context;
    if (blobs->fail == 6) return CAL_ENOTFOUND;
    blobs->announced++;
    return 0;
}

static cal_vm_blobs fake_table(fake_blobs *blobs) {
    return (cal_vm_blobs){.user = blobs,
                          .create = fake_create,
                          .write = fake_write,
                          .finish = fake_finish,
                          .abort = fake_abort,
                          .open = fake_open,
                          .read = fake_read,
                          .close = fake_close,
                          .announce = fake_announce};
}

/* A guest with all imports and a few helpers; descriptors: 0 a 32-byte id at 256, 16 a chunk at
 * 65536, of a length that $chunk sets. */
static cal_vm_outcome blob_run(guest_world *world, const char *body) {
    cal_buffer text;
    cal_buffer_init(&text, SIZE_MAX);
    cal_buffer_append_text(&text, "(module ");
    guest_imports(&text);
    cal_buffer_printf(
        &text,
        "(memory (export \"memory\") 200)"
        "(func $chunk (param i64) (i64.store (i32.const 16) (i64.const 65536)) (i64.store "
        "(i32.const 24) "
        "(local.get 0)))"
        "(func $is (param i64 i64) (if (i64.ne (local.get 0) (local.get 1)) (then unreachable)))"
        "(func (export \"run\") (local $i i64) (i64.store (i32.const 0) (i64.const 256)) "
        "(i64.store "
        "(i32.const 8) (i64.const 32)) %s))",
        body);
    world->call.method = "run";
    cal_vm_outcome outcome = guest_run(world, cal_buffer_cstr(&text));
    cal_buffer_deinit(&text);
    return outcome;
}

static void blob_gives(guest_world *world, const char *body, const char *name, const char *error) {
    cal_vm_outcome outcome = blob_run(world, body);
    assert_string_equal(outcome.error, error);
    assert_int_equal(outcome.failure, name ? CAL_VM_FAIL_HOST : CAL_VM_FINE);
    if (name) assert_string_equal(outcome.host_error_name, name);
    cal_vm_outcome_deinit(&outcome);
}

#define N(n) "(i64.const " #n ")"
#define DROP(call) "(drop (call " call "))"
#define CREATE DROP("$blob_create")
#define OPEN DROP("$blob_open " N(0))
#define IS(call, n) "(call $is (call " call ") " N(n) ")"
#define IS32(call, n) "(call $is (i64.extend_i32_u (call " call ")) " N(n) ")"
#define REPEAT(n, body)                                                                            \
    "(local.set $i " N(0) ") (loop " body "(local.set $i (i64.add (local.get $i) " N(              \
        1) "))"                                                                                    \
           "(br_if 0 (i64.lt_u (local.get $i) " N(n) ")))"

static void without_a_blob_service_all_refuse(void **state) {
    static const char *const bodies[] = {
        CREATE, DROP("$blob_write " N(1) N(16)), DROP("$blob_close " N(1) N(0)),
        OPEN,   DROP("$blob_read " N(1) N(16)),  DROP("$blob_announce_to_context " N(0) N(0))};
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        blob_gives(*state, bodies[i], "BlobsNotSupported",
                   "blob operations not supported (NodeClient not available)");
    /* Without its descriptors announce still says that; the others look at them first. */
    blob_gives(*state, DROP("$blob_announce_to_context " N(-1) N(-1)), "BlobsNotSupported",
               "blob operations not supported (NodeClient not available)");
    blob_gives(*state, DROP("$blob_write " N(1) N(-1)), "InvalidMemoryAccess",
               "invalid memory access");
}

static void blobs_are_written_and_read(void **state) {
    guest_world *world = *state;
    fake_blobs blobs = {.left = 150};
    cal_vm_blobs table = fake_table(&blobs);
    world->call.blobs = &table;
    blob_gives(
        world,
        IS("$blob_create", 1) IS("$blob_create", 2) "(call $chunk " N(100) ")" IS(
            "$blob_write " N(1) N(16), 100) "(call $chunk " N(0) ")" IS("$blob_write " N(1) N(16),
                                                                        0)
            IS32(
                "$blob_close " N(1) N(0),
                1) "(call $is (i64.load (i32.const 256)) (i64.const "
                   "0xb1b1b1b1b1b1b1b1))" IS("$blob_open " N(0), 3) "(call $chunk " N(100) ")" IS(
                       "$blob_"
                       "read " N(3) N(16),
                       100) IS("$blob_read " N(3) N(16), 50)
                       IS("$blob_read " N(3) N(16), 0) "(call $chunk " N(0) ")" IS("$blob_read " N(3) N(16), 0) "(i64.store (i32.const 256) " N(
                           7) ") (i64.store (i32.const 0) " N(512) ")" IS32("$blob_"
                                                                            "close"
                                                                            " " N(3) N(0),
                                                                            1) "(cal"
                                                                               "l "
                                                                               "$is "
                                                                               "(i64"
                                                                               ".loa"
                                                                               "d "
                                                                               "(i32"
                                                                               ".con"
                                                                               "st "
                                                                               "512)"
                                                                               ") "
                                                                               "(i64"
                                                                               ".con"
                                                                               "st "
                                                                               "0xb1"
                                                                               "b1b1"
                                                                               "b1b1"
                                                                               "b1b1"
                                                                               "b1)"
                                                                               ")" IS(
                                                                                   "$blob_open " N(
                                                                                       0),
                                                                                   4)
                                                                                   IS32(
                                                                                       "$blob_"
                                                                                       "announce_"
                                                                                       "to_"
                                                                                       "context " N(
                                                                                           0) N(0),
                                                                                       1),
        NULL, "");
    assert_int_equal(blobs.created, 2);
    assert_int_equal(blobs.finished, 1);
    assert_int_equal(blobs.aborted, 1); /* fd 2 was left open */
    assert_int_equal(blobs.opened, 2);
    assert_int_equal(blobs.closed, 2);
    assert_int_equal(blobs.written, 100);
    assert_int_equal(blobs.announced, 1);
}

static void blob_limits_hold(void **state) {
    guest_world *world = *state;
    fake_blobs blobs = {0};
    cal_vm_blobs table = fake_table(&blobs);
    world->call.blobs = &table;
    blob_gives(world, REPEAT(100, CREATE), NULL, "");
    assert_int_equal(blobs.aborted, 100);
    blob_gives(world, REPEAT(99, CREATE) OPEN CREATE, "TooManyBlobHandles",
               "too many blob handles (max: 100)");
    blob_gives(world, REPEAT(100, OPEN) OPEN, "TooManyBlobHandles",
               "too many blob handles (max: 100)");
    blob_gives(world,
               REPEAT(300, CREATE DROP("$blob_close (i64.add (local.get $i) " N(1) ") " N(0))),
               NULL, "");
    blob_gives(world,
               CREATE "(call $chunk " N(10485760) ")" IS("$blob_write " N(1) N(16), 10485760), NULL,
               "");
    blob_gives(world, CREATE "(call $chunk " N(10485761) ")" DROP("$blob_write " N(1) N(16)),
               "BlobWriteTooLarge", "blob write too large (size: 10485761, max: 10485760)");
    blob_gives(world, OPEN "(call $chunk " N(10485760) ")" IS("$blob_read " N(1) N(16), 0), NULL,
               "");
    blob_gives(world, OPEN "(call $chunk " N(10485761) ")" DROP("$blob_read " N(1) N(16)),
               "BlobBufferTooLarge", "blob buffer too large (size: 10485761, max: 10485760)");
    blob_gives(world,
               CREATE "(call $chunk " N(8388608) ")" REPEAT(64, DROP("$blob_write " N(1) N(16))),
               NULL, "");
    blob_gives(world,
               CREATE "(call $chunk " N(8388608) ")" REPEAT(
                   64, DROP("$blob_write " N(1)
                                N(16))) "(call $chunk " N(1) ")" DROP("$blob_write " N(1) N(16)),
               "TotalBlobMemoryExceeded",
               "total blob memory exceeded (current: 536870913, max: 536870912)");
}

static void blob_handles_are_checked(void **state) {
    guest_world *world = *state;
    fake_blobs blobs = {.left = 10};
    cal_vm_blobs table = fake_table(&blobs);
    world->call.blobs = &table;
    static const char *const bad[] = {
        "(call $chunk " N(1) ")" DROP("$blob_write " N(1) N(16)),
        OPEN "(call $chunk " N(1) ")" DROP("$blob_write " N(1) N(16)), /* a reader */
        "(call $chunk " N(1) ")" DROP("$blob_read " N(9) N(16)),
        CREATE "(call $chunk " N(1) ")" DROP("$blob_read " N(1) N(16)), /* a writer */
        DROP("$blob_close " N(0) N(0)),
        CREATE DROP("$blob_close " N(1) N(0)) DROP("$blob_close " N(1) N(0)),
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        blob_gives(world, bad[i], "InvalidBlobHandle", "invalid blob handle");
    blobs = (fake_blobs){.left = 10};
    blob_gives(world, CREATE "(i64.store (i32.const 8) " N(31) ")" DROP("$blob_close " N(1) N(0)),
               "InvalidMemoryAccess", "invalid memory access");
    blob_gives(world, CREATE "(i64.store (i32.const 0) " N(-1) ")" DROP("$blob_close " N(1) N(0)),
               "InvalidMemoryAccess", "invalid memory access");
    assert_int_equal(blobs.finished,
                     0); /* the handle was not yet taken: the end of the call aborts it */
    assert_int_equal(blobs.aborted, 2);
    blob_gives(world, "(i64.store (i32.const 8) " N(33) ")" OPEN, "InvalidMemoryAccess",
               "invalid memory access");
    /* A target outside memory is refused once there are bytes for it. */
    blob_gives(world,
               OPEN "(call $chunk " N(5) ") (i64.store (i32.const 16) " N(-3) ")" DROP(
                   "$blob_read " N(1) N(16)),
               "InvalidMemoryAccess", "invalid memory access");
    blobs.left = 0;
    blob_gives(world,
               OPEN "(call $chunk " N(5) ") (i64.store (i32.const 16) " N(-3) ")" IS(
                   "$blob_read " N(1) N(16), 0),
               NULL, "");
}

static void failing_blobs_have_their_traps(void **state) {
    guest_world *world = *state;
    fake_blobs blobs = {0};
    cal_vm_blobs table = fake_table(&blobs);
    world->call.blobs = &table;
    static const char *const unsupported =
        "blob operations not supported (NodeClient not available)";
    static const struct {
        int fail;
        const char *body;
    } cases[] = {
        {1, CREATE},
        {3, CREATE DROP("$blob_close " N(1) N(0))},
        {4, OPEN},
        {5, OPEN "(call $chunk " N(1) ")" DROP("$blob_read " N(1) N(16))},
        {6, DROP("$blob_announce_to_context " N(0) N(0))},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        blobs.fail = cases[i].fail;
        blob_gives(world, cases[i].body, "BlobsNotSupported", unsupported);
    }
    blobs.fail = 2;
    blob_gives(world, CREATE "(call $chunk " N(1) ")" DROP("$blob_write " N(1) N(16)),
               "BlobWriteFailed", "blob write failed (writer task unavailable)");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        GUEST_TEST(keys_have_a_mebibyte),
        GUEST_TEST(values_have_ten_mebibytes),
        GUEST_TEST(outputs_have_sixteen_mebibytes),
        GUEST_TEST(logs_are_counted_and_measured),
        GUEST_TEST(operators_set_the_log_limits),
        GUEST_TEST(events_are_counted_and_measured),
        GUEST_TEST(xcalls_are_counted_and_measured),
        GUEST_TEST(writes_are_counted),
        GUEST_TEST(written_bytes_are_counted),
        GUEST_TEST(a_refused_write_reaches_no_store),
        GUEST_TEST(registers_are_a_hundred),
        GUEST_TEST(a_register_has_a_hundred_mebibytes),
        GUEST_TEST(registers_share_a_gibibyte),
        GUEST_TEST(a_register_lets_go_of_memory),
        GUEST_TEST(a_scan_ends_at_its_cap),
        GUEST_TEST(a_scan_larger_than_a_register_is_refused),
        GUEST_TEST(without_a_blob_service_all_refuse),
        GUEST_TEST(blobs_are_written_and_read),
        GUEST_TEST(blob_limits_hold),
        GUEST_TEST(blob_handles_are_checked),
        GUEST_TEST(failing_blobs_have_their_traps),
    };
    return cmocka_run_group_tests(tests, guest_world_new, guest_world_free);
}
