/* Bad descriptors, for every host function and every one of its arguments: outside memory,
 * wrapping, past the end by one (runtime-abi.md 2). What an argument is stands in one table, so a
 * host function without a row fails the test. */
#include "support/guest.h"

enum { PLAIN = GUEST_MEMORY - 4096 /* room at the end of memory */ };

/* r register, n number; addresses of descriptors: b bytes, i 32 bytes, s 64 bytes, t 8 bytes, w
 * writable; of structures: l Location, e Event, x XCall, v ValueReturn; h an event's handler (0 is
 * none) */
static const struct {
    const char *name, *args;
} shapes[] = {
    {"panic", "l"},
    {"panic_utf8", "bl"},
    {"register_len", "r"},
    {"read_register", "rw"},
    {"context_id", "r"},
    {"account_id", "r"},
    {"executor_id", "r"},
    {"device_id", "r"},
    {"xcall_origin", "r"},
    {"input", "r"},
    {"value_return", "v"},
    {"emit_migration_witness", "b"},
    {"log_utf8", "b"},
    {"emit", "e"},
    {"emit_with_handler", "eh"},
    {"xcall", "x"},
    {"commit", "ib"},
    {"storage_read", "br"},
    {"storage_remove", "br"},
    {"storage_write", "bbr"},
    {"private_storage_read", "br"},
    {"private_storage_remove", "br"},
    {"private_storage_write", "bb"},
    {"storage_index_set", "bb"},
    {"storage_index_remove", "b"},
    {"storage_index_remove_prefix", "b"},
    {"storage_index_scan", "bbnnr"},
    {"storage_index_last", "bbr"},
    {"storage_index_meta_set", "bb"},
    {"storage_index_meta_get", "br"},
    {"storage_index_meta_clear", "b"},
    {"fetch", "nnnnr"},
    {"random_bytes", "w"},
    {"time_now", "t"},
    {"ed25519_verify", "sib"},
    {"blob_create", ""},
    {"blob_write", "nb"},
    {"blob_close", "ni"},
    {"blob_open", "i"},
    {"blob_read", "nw"},
    {"blob_announce_to_context", "ii"},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static const char *shape_of(const vm_host_function *function) {
    for (size_t i = 0; i < SHAPES; i++)
        if (strcmp(shapes[i].name, function->name) == 0) return shapes[i].args;
    fail_msg("no row for %s", function->name);
    return "";
}

static size_t structure_size(char shape) {
    switch (shape) {
    case 'l':
    case 'v':
        return 24;
    case 'e':
        return 32;
    case 'x':
        return 48;
    default:
        return 16;
    }
}

/* Where buffers stand in the structure, and how long a good one is. */
static size_t buffer_offsets(char shape, size_t ret_offsets[3], uint64_t ret_lens[3]) {
    static const uint64_t id_first[3] = {32, 3, 3}, plain[3] = {3, 3, 3};
    const uint64_t *lens = shape == 'x' ? id_first : plain;
    size_t count = shape == 'e' ? 2 : shape == 'x' ? 3 : 1;
    for (size_t i = 0; i < count; i++) {
        ret_offsets[i] = shape == 'v' ? 8 : 16 * i;
        ret_lens[i] = lens[i];
    }
    if (shape == 'i') ret_lens[0] = 32;
    if (shape == 's') ret_lens[0] = 64;
    if (shape == 't') ret_lens[0] = 8;
    if (shape == 'w') ret_lens[0] = 1;
    return count;
}

static bool is_address(char shape) { return shape != 'r' && shape != 'n'; }

/* A good structure of that shape; its address. Texts are zero bytes, which are UTF-8. */
static uint64_t good(guest_world *world, char shape) {
    uint8_t bytes[48] = {0};
    size_t offsets[3];
    uint64_t lens[3];
    size_t count = buffer_offsets(shape, offsets, lens);
    for (size_t i = 0; i < count; i++) {
        cal_write_u64le(bytes + offsets[i], PLAIN);
        cal_write_u64le(bytes + offsets[i] + 8, lens[i]);
    }
    return guest_put(world, bytes, structure_size(shape));
}

static void good_args(guest_world *world, const char *shape) {
    guest_image_reset(world);
    for (int i = 0; shape[i]; i++) {
        uint64_t value = shape[i] == 'r'   ? GUEST_REGISTER
                         : shape[i] == 'n' ? 1
                                           : good(world, shape[i]);
        guest_arg(world, i, value);
    }
}

/* --- a blob service that answers --- */

static int handle;
static int take(void *user, void **ret_handle) {
    (void)user;
    *ret_handle = &handle;
    return 0;
}
static int open_blob(void *user, const uint8_t id[32], void **ret_handle) {
    (void)id;
    return take(user, ret_handle);
}
static int write_blob(void *user, void *writer, cal_slice bytes) {
    (void)user;
    (void)writer;
    (void)bytes;
    return 0;
}
static int finish(void *user, void *writer, uint8_t ret_id[32]) {
    (void)user;
    (void)writer;
    memset(ret_id, 1, 32);
    return 0;
}
static void end(void *user, void *blob) {
    (void)user;
    (void)blob;
}
static int64_t read_blob(void *user, void *reader, uint8_t *ret_bytes, size_t len) {
    (void)user;
    (void)reader;
    memset(ret_bytes, 2, len);
    return (int64_t)len;
}
static int announce(void *user, const uint8_t id[32], const uint8_t context[32]) {
    (void)user;
    (void)id;
    (void)context;
    return 0;
}
static const cal_vm_blobs blobs = {.create = take,
                                   .write = write_blob,
                                   .finish = finish,
                                   .abort = end,
                                   .open = open_blob,
                                   .read = read_blob,
                                   .close = end,
                                   .announce = announce};

/* --- the tests --- */

typedef void (*visit)(guest_world *world, const vm_host_function *function, const char *shape);

static void each_function(guest_world *world, visit visit_one) {
    size_t count = 0;
    world->call.blobs = &blobs;
    for (int table = 0; table < GUEST_TABLES; table++) {
        for (const vm_host_function *function = guest_tables[table]; function->name;
             function++, count++) {
            const char *shape = shape_of(function);
            assert_int_equal(strlen(shape), function->params);
            visit_one(world, function, shape);
        }
    }
    assert_int_equal(count, SHAPES);
}

/* blob_write, blob_read and blob_close meet no open handle here: their descriptors are looked at
 * before that. */
static bool refuses_good_arguments(const char *name) {
    return strncmp(name, "panic", 5) == 0 || strcmp(name, "blob_write") == 0 ||
           strcmp(name, "blob_close") == 0 || strcmp(name, "blob_read") == 0 ||
           strcmp(name, "ed25519_verify") == 0;
}

static void good_arguments_pass(guest_world *world, const vm_host_function *function,
                                const char *shape) {
    good_args(world, shape);
    if (strcmp(function->name, "read_register") == 0) guest_arg(world, 0, GUEST_IMAGE_REGISTER);
    guest_answer answer = guest_call(world, function->name);
    bool failed = answer.outcome.failure != CAL_VM_FINE;
    bool zero_key_decodes = strcmp(function->name, "ed25519_verify") == 0;
    if (failed && !refuses_good_arguments(function->name))
        fail_msg("%s: %s", function->name, answer.outcome.error);
    if (!zero_key_decodes && refuses_good_arguments(function->name)) assert_true(failed);
    cal_vm_outcome_deinit(&answer.outcome);
}

static void refuses_access(guest_world *world, const vm_host_function *function) {
    guest_answer answer = guest_call(world, function->name);
    if (answer.outcome.failure != CAL_VM_FAIL_HOST)
        fail_msg("%s: %s", function->name, answer.outcome.error);
    assert_string_equal(answer.outcome.error, "invalid memory access");
    assert_string_equal(answer.outcome.host_error_name, "InvalidMemoryAccess");
    cal_vm_outcome_deinit(&answer.outcome);
}

static void bad_addresses_trap(guest_world *world, const vm_host_function *function,
                               const char *shape) {
    for (int arg = 0; shape[arg]; arg++) {
        if (!is_address(shape[arg])) continue;
        uint64_t size = structure_size(shape[arg]);
        uint64_t bad[] = {UINT64_MAX,
                          UINT64_MAX - 15,
                          UINT64_MAX - size + 1,
                          GUEST_MEMORY,
                          GUEST_MEMORY - size + 1,
                          UINT64_C(1) << 32,
                          UINT64_C(1) << 63,
                          (UINT64_C(1) << 63) + PLAIN};
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
            good_args(world, shape);
            guest_arg(world, arg, bad[i]);
            refuses_access(world, function);
        }
    }
}

/* Reading from a blob looks at its target last; a full test of that is in limits_test.c. */
static bool looks_at_target_last(const vm_host_function *function) {
    return strcmp(function->name, "blob_read") == 0 || strcmp(function->name, "read_register") == 0;
}

static void bad_buffers_trap(guest_world *world, const vm_host_function *function,
                             const char *shape) {
    if (looks_at_target_last(function)) return;
    for (int arg = 0; shape[arg]; arg++) {
        if (!is_address(shape[arg])) continue;
        size_t offsets[3];
        uint64_t lens[3];
        size_t count = buffer_offsets(shape[arg], offsets, lens);
        for (size_t buffer = 0; buffer < count; buffer++) {
            uint64_t len = lens[buffer];
            uint64_t bad[] = {UINT64_MAX,
                              UINT64_MAX - len + 1,
                              UINT64_MAX - len,
                              GUEST_MEMORY,
                              GUEST_MEMORY - len + 1,
                              UINT64_C(1) << 32,
                              (UINT64_C(1) << 63) + PLAIN};
            for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                good_args(world, shape);
                uint64_t at = cal_read_u64le(world->image.data + 8 * arg) + offsets[buffer];
                cal_write_u64le(world->image.data + at, bad[i]);
                refuses_access(world, function);
            }
        }
    }
}

/* Lengths that wrap an address inside memory; limits on the length may speak first. */
static void bad_lengths_trap(guest_world *world, const vm_host_function *function,
                             const char *shape) {
    for (int arg = 0; shape[arg]; arg++) {
        if (!is_address(shape[arg])) continue;
        size_t offsets[3];
        uint64_t lens[3];
        size_t count = buffer_offsets(shape[arg], offsets, lens);
        for (size_t buffer = 0; buffer < count; buffer++) {
            uint64_t bad[] = {UINT64_MAX, UINT64_MAX - PLAIN + 1, UINT64_C(1) << 32,
                              UINT64_C(1) << 63};
            for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                good_args(world, shape);
                uint64_t at = cal_read_u64le(world->image.data + 8 * arg) + offsets[buffer] + 8;
                cal_write_u64le(world->image.data + at, bad[i]);
                guest_answer answer = guest_call(world, function->name);
                assert_int_equal(answer.outcome.failure, CAL_VM_FAIL_HOST);
                cal_vm_outcome_deinit(&answer.outcome);
            }
        }
    }
}

static void every_function_takes_good_arguments(void **state) {
    each_function(*state, good_arguments_pass);
}
static void every_address_outside_memory_traps(void **state) {
    each_function(*state, bad_addresses_trap);
}
static void every_buffer_outside_memory_traps(void **state) {
    each_function(*state, bad_buffers_trap);
}
static void every_wrapping_length_traps(void **state) { each_function(*state, bad_lengths_trap); }

static void the_end_of_memory_is_inside(void **state) {
    guest_world *world = *state;
    guest_arg(world, 0, guest_descriptor(world, GUEST_MEMORY - 3, 3));
    guest_call_gives(world, "log_utf8", 0, NULL);
    guest_arg(world, 0,
              guest_descriptor(world, GUEST_MEMORY, 0)); /* nothing, just behind the end */
    guest_call_gives(world, "log_utf8", 0, NULL);
    guest_arg(world, 0, guest_descriptor(world, GUEST_MEMORY + 1, 0));
    guest_call_fails(world, "log_utf8", "InvalidMemoryAccess", "invalid memory access");
    guest_arg(world, 0, guest_descriptor(world, 0, 0)); /* the empty buffer of the official SDK */
    guest_call_gives(world, "log_utf8", 0, NULL);
    guest_arg(world, 0, guest_descriptor(world, 1, 0));
    guest_call_gives(world, "log_utf8", 0, NULL);
    guest_arg(world, 0, GUEST_MEMORY - 16); /* a descriptor of zeros, at the very end */
    guest_call_gives(world, "log_utf8", 0, NULL);
}

static void null_is_an_address(void **state) {
    guest_world *world = *state;
    /* At 0 stands the first argument itself: a descriptor of address 0 and of the second argument's
     * bytes. */
    guest_arg(world, 0, 0);
    guest_arg(world, 1, 4);
    guest_answer answer = guest_call(world, "log_utf8");
    assert_int_equal(answer.outcome.failure, CAL_VM_FINE);
    assert_int_equal(answer.outcome.logs[0].len, 4);
    cal_vm_outcome_deinit(&answer.outcome);
}

static void descriptors_need_no_alignment(void **state) {
    guest_world *world = *state;
    uint64_t text = guest_put(world, "odd", 3);
    uint64_t at = guest_descriptor(world, text, 3);
    assert_int_equal(at % 2, 1);
    guest_arg(world, 0, at);
    guest_answer answer = guest_call(world, "log_utf8");
    assert_int_equal(answer.outcome.log_count, 1);
    assert_true(cal_slice_equal(answer.outcome.logs[0], cal_slice_text("odd")));
    cal_vm_outcome_deinit(&answer.outcome);
}

static void register_targets_are_checked_when_they_fit(void **state) {
    guest_world *world = *state;
    guest_arg(world, 0, GUEST_IMAGE_REGISTER);
    uint64_t at = guest_descriptor(world, GUEST_MEMORY - 10, GUEST_DATA + 16);
    guest_arg(world, 1, at);
    guest_call_fails(world, "read_register", "InvalidMemoryAccess", "invalid memory access");
    cal_write_u64le(world->image.data + at, UINT64_MAX - 10);
    guest_call_fails(world, "read_register", "InvalidMemoryAccess", "invalid memory access");
    cal_write_u64le(world->image.data + at + 8, 5); /* another length: not written, not looked at */
    guest_call_gives(world, "read_register", 0, NULL);
}

static void memory_is_looked_up_after_it_grew(void **state) {
    guest_world *world = *state;
    world->call.method = "run";
    guest_passes(world,
                 "(module (import \"env\" \"log_utf8\" (func $log (param i64))) (memory (export "
                 "\"memory\") 1)"
                 "(func (export \"run\") (drop (memory.grow (i32.const 10))) (i64.store (i32.const "
                 "0) (i64.const "
                 "700000)) (i64.store (i32.const 8) (i64.const 5)) (call $log (i64.const 0))))");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        GUEST_TEST(every_function_takes_good_arguments),
        GUEST_TEST(every_address_outside_memory_traps),
        GUEST_TEST(every_buffer_outside_memory_traps),
        GUEST_TEST(every_wrapping_length_traps),
        GUEST_TEST(the_end_of_memory_is_inside),
        GUEST_TEST(null_is_an_address),
        GUEST_TEST(descriptors_need_no_alignment),
        GUEST_TEST(register_targets_are_checked_when_they_fit),
        GUEST_TEST(memory_is_looked_up_after_it_grew),
    };
    return cmocka_run_group_tests(tests, guest_world_new, guest_world_free);
}
