/* Replicas for the SDK's tests: applications run on the real vm, each replica with its own rows,
 * clock and device; a call's writes are kept only when it commits, and deltas go from one to the
 * other as the node passes them (runtime-abi.md 6, 13). */
#ifndef CAL_SDK_TEST_WORLD_H
#define CAL_SDK_TEST_WORLD_H

#include "support/crdt.h"

#include "support/guest_os.h"
#include "vm/vm.h"

typedef struct replica {
    cal_vm *vm;
    cal_vm_module *module;
    guest_os os;
    cal_vm_storage table;
    cal_arena arena; /* of rows read by the tests themselves */
    test_rows rows;
    cal_sorted pending; /* test_row * of the running call; len SIZE_MAX: removed */
    test_rows private_rows;
    uint8_t device[32];
    uint8_t root_hash[32];
    uint64_t reads, writes, bytes_read, bytes_written;
} replica;

static inline test_row *replica_row(const void *bytes, size_t len) {
    test_row *row = malloc(sizeof *row + len + 1);
    assert_non_null(row);
    row->len = len;
    if (len) memcpy(row->bytes, bytes, len);
    return row;
}

static inline int replica_read(void *user, cal_vm_space space, cal_slice key,
                               cal_buffer *ret_value) {
    replica *r = user;
    const test_row *row = NULL;
    r->reads++;
    if (space == CAL_VM_STATE) row = cal_sorted_get(&r->pending, key);
    if (!row)
        row = cal_sorted_get(space == CAL_VM_STATE ? &r->rows.rows : &r->private_rows.rows, key);
    if (!row || row->len == SIZE_MAX) return 0;
    r->bytes_read += row->len;
    return cal_buffer_append(ret_value, row->bytes, row->len) == 0 ? 1 : CAL_ENOMEM;
}

static inline void replica_pend(replica *r, cal_slice key, test_row *row) {
    void *old = NULL;
    assert_int_equal(cal_sorted_put(&r->pending, key, row, &old), 0);
    free(old);
}

static inline int replica_write(void *user, cal_vm_space space, cal_slice key, cal_slice value,
                                cal_buffer *ret_old) {
    replica *r = user;
    (void)ret_old;
    r->writes++;
    r->bytes_written += value.len;
    if (space == CAL_VM_STATE)
        replica_pend(r, key, replica_row(value.data, value.len));
    else
        test_rows_write(&r->private_rows, key.data, crdt_bytes_of(value.data, value.len));
    return 0;
}

static inline int replica_remove(void *user, cal_vm_space space, cal_slice key,
                                 cal_buffer *ret_old) {
    replica *r = user;
    (void)ret_old;
    test_row *row = replica_row(NULL, 0);
    row->len = SIZE_MAX;
    assert_int_equal(space, CAL_VM_STATE);
    replica_pend(r, key, row);
    return 0;
}

/* Ends a call: keeps its writes, or forgets them. */
static inline void replica_settle(replica *r, bool keep) {
    for (cal_sorted_node *node = r->pending.head[0]; node; node = node->next[0]) {
        test_row *row = node->value;
        void *old = NULL;
        if (!keep) {
            free(row);
        } else if (row->len == SIZE_MAX) {
            free(row);
            free(cal_sorted_remove(&r->rows.rows, node->key));
        } else {
            assert_int_equal(cal_sorted_put(&r->rows.rows, node->key, row, &old), 0);
            free(old);
        }
    }
    cal_sorted_deinit(&r->pending);
    cal_sorted_init(&r->pending);
}

static inline void replica_init(replica *r, cal_vm *vm, cal_vm_module *module, uint8_t device) {
    *r = (replica){.vm = vm, .module = module};
    guest_os_init(&r->os);
    r->os.random_counter = (uint64_t)device << 32;
    cal_arena_init(&r->arena, SIZE_MAX);
    test_rows_init(&r->rows, &r->arena);
    test_rows_init(&r->private_rows, &r->arena);
    cal_sorted_init(&r->pending);
    memset(r->device, device, 32);
    r->table = (cal_vm_storage){
        .user = r, .read = replica_read, .write = replica_write, .remove = replica_remove};
}

static inline void replica_deinit(replica *r) {
    replica_settle(r, false);
    test_rows_deinit(&r->rows);
    test_rows_deinit(&r->private_rows);
    cal_sorted_deinit(&r->pending);
    cal_arena_deinit(&r->arena);
}

static inline void replica_run(replica *r, const char *method, cal_slice input,
                               cal_vm_outcome *ret_outcome) {
    cal_vm_call call = {.method = method,
                        .input = input,
                        .storage = &r->table,
                        .has_private = true,
                        .os = &r->os.os};
    memset(call.context_id, 0xC0, 32);
    memset(call.account_id, 0xAC, 32);
    memcpy(call.device_id, r->device, 32);
    if (strcmp(method, "__calimero_sync_next") == 0) call.memory_max = 1u << 30;
    cal_vm_run(r->vm, r->module, &call, ret_outcome);
    bool keep = ret_outcome->failure == CAL_VM_FINE &&
                ret_outcome->return_kind != CAL_VM_RETURN_ERR && ret_outcome->has_root;
    if (keep) memcpy(r->root_hash, ret_outcome->root_hash, 32);
    replica_settle(r, keep);
}

/* Runs a method with JSON; the outcome is the caller's to deinit. */
static inline void replica_call(replica *r, const char *method, const char *json,
                                cal_vm_outcome *ret_outcome) {
    replica_run(r, method, cal_slice_text(json), ret_outcome);
}

/* Runs a method that must answer with this JSON (NULL: with nothing). */
static inline void replica_expect(replica *r, const char *method, const char *json,
                                  const char *answer) {
    cal_vm_outcome outcome;
    replica_call(r, method, json, &outcome);
    if (outcome.failure) fail_msg("%s(%s): %s", method, json, outcome.error);
    if (answer) {
        assert_int_equal(outcome.return_kind, CAL_VM_RETURN_OK);
        if (!cal_slice_equal(outcome.return_value, cal_slice_text(answer)))
            fail_msg("%s(%s): %.*s, expected %s", method, json, (int)outcome.return_value.len,
                     (const char *)outcome.return_value.data, answer);
    } else {
        assert_int_equal(outcome.return_kind, CAL_VM_RETURN_NONE);
    }
    cal_vm_outcome_deinit(&outcome);
}

/* A copy of the artifact of a call, to be delivered and freed. */
static inline cal_slice replica_delta(replica *r, const char *method, const char *json) {
    cal_vm_outcome outcome;
    replica_call(r, method, json, &outcome);
    if (outcome.failure) fail_msg("%s(%s): %s", method, json, outcome.error);
    assert_true(outcome.has_root && outcome.artifact.len > 0);
    uint8_t *copy = malloc(outcome.artifact.len);
    assert_non_null(copy);
    memcpy(copy, outcome.artifact.data, outcome.artifact.len);
    cal_slice delta = cal_slice_of(copy, outcome.artifact.len);
    cal_vm_outcome_deinit(&outcome);
    return delta;
}

/* Hands a delta to a replica as its node would. */
static inline void replica_deliver(replica *r, cal_slice artifact) {
    cal_arena arena;
    cal_arena_init(&arena, SIZE_MAX);
    crdt_env env = test_crdt_env(&arena);
    crdt_delta delta;
    crdt_bytes input;
    assert_int_equal(
        crdt_delta_decode(&env.memory, crdt_bytes_of(artifact.data, artifact.len), &delta), 0);
    delta.kind = CRDT_DELTA_CAUSAL_ACTIONS;
    delta.hlc = (crdt_hlc){.time = 1, .id = {1}};
    assert_int_equal(crdt_delta_encode(&env.memory, &delta, &input), 0);
    cal_vm_outcome outcome;
    replica_run(r, "__calimero_sync_next", cal_slice_of(input.data, input.len), &outcome);
    if (outcome.failure) fail_msg("sync: %s", outcome.error);
    for (size_t i = 0; i < outcome.log_count; i++)
        fail_msg("sync logged: %.*s", (int)outcome.logs[i].len, (const char *)outcome.logs[i].data);
    assert_true(outcome.has_root);
    cal_vm_outcome_deinit(&outcome);
    cal_arena_deinit(&arena);
}

/* The whole tree recomputed natively; the root is what the guest committed. */
static inline void replica_verify(replica *r) {
    crdt_id root;
    crdt_tree_summary summary;
    memset(&root, 0xC0, sizeof root);
    assert_int_equal(test_tree_verify(&r->rows, &root, false, &summary), 0);
    assert_true(summary.flaws == 0 && summary.placeholders == 0 && summary.moved == 0);
    assert_memory_equal(summary.root_hash.bytes, r->root_hash, 32);
}

static inline cal_vm_module *load_app(cal_vm *vm, const char *name) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s.wasm", CAL_APPS_DIR, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    uint8_t *bytes = malloc(1 << 20);
    size_t len = fread(bytes, 1, 1 << 20, file);
    fclose(file);
    cal_buffer artifact;
    cal_error err = {0};
    cal_vm_module *module = NULL;
    cal_buffer_init(&artifact, SIZE_MAX);
    int code = cal_vm_compile(vm, cal_slice_of(bytes, len), &artifact, &err);
    if (code == 0) code = cal_vm_load(vm, cal_buffer_slice(&artifact), &module, &err);
    if (code) fail_msg("%s: %s", name, err.message);
    cal_buffer_deinit(&artifact);
    free(bytes);
    return module;
}

#endif
