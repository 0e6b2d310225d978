/* Recorded encodings of the reference, both ways: tests/vectors/delta.json, and those of
 * decode_edge.json that are ours. */
#include "support/crdt.h"

#include "calimero/error.h"

_Static_assert((int)CRDT_EINVAL == (int)CAL_EINVAL && (int)CRDT_EDECODE == (int)CAL_EDECODE &&
                   (int)CRDT_ELIMIT == (int)CAL_ELIMIT &&
                   (int)CRDT_ENOTFOUND == (int)CAL_ENOTFOUND &&
                   (int)CRDT_EDENIED == (int)CAL_EDENIED && (int)CRDT_ENOMEM == (int)CAL_ENOMEM &&
                   (int)CRDT_ECORRUPT == (int)CAL_ECORRUPT && (int)CRDT_EVERIFY == (int)CAL_EVERIFY,
               "codes of crdt/base.h pass through as codes of calimero/error.h");

typedef struct fixture {
    cal_arena arena;
    crdt_env env;
    yyjson_doc *doc;
    yyjson_val *root;
} fixture;

static void open_fixture(fixture *f, const char *file) {
    cal_arena_init(&f->arena, SIZE_MAX);
    f->env = test_crdt_env(&f->arena);
    f->doc = golden_load(file);
    f->root = yyjson_doc_get_root(f->doc);
}

static void close_fixture(fixture *f) {
    yyjson_doc_free(f->doc);
    cal_arena_deinit(&f->arena);
}

static crdt_bytes hex_of(fixture *f, yyjson_val *item) {
    return test_crdt_hex(&f->arena, yyjson_obj_get(item, "hex"));
}

static void expect_written(const crdt_writer *writer, yyjson_val *item) {
    crdt_bytes bytes;
    assert_int_equal(crdt_write_end(writer, &bytes), 0);
    test_crdt_expect(bytes, item, "hex");
}

static void test_types(void **state) {
    (void)state;
    fixture f;
    open_fixture(&f, "delta.json");
    size_t at = 0, seen = 0;
    yyjson_val *item;
    while ((item = golden_next(f.root, "crdt_type/", &at))) {
        crdt_type type = test_crdt_type(yyjson_obj_get(item, "inputs")), decoded;
        crdt_writer built = crdt_writer_of(&f.env.memory), again = built;
        crdt_write_type(&built, &type);
        expect_written(&built, item);
        assert_int_equal(crdt_type_decode(&f.env.memory, hex_of(&f, item), &decoded), 0);
        crdt_write_type(&again, &decoded);
        expect_written(&again, item);
        seen++;
    }
    at = 0;
    while ((item = golden_next(f.root, "op_mask/", &at))) {
        uint8_t mask = (uint8_t)golden_u64(yyjson_obj_get(item, "inputs"), "byte");
        assert_int_equal(crdt_mask_valid(mask), yyjson_get_bool(yyjson_obj_get(item, "decodes")));
        seen++;
    }
    at = 0;
    while ((item = golden_next(f.root, "storage_type/", &at))) {
        crdt_storage_type type = test_crdt_storage(&f.arena, yyjson_obj_get(item, "inputs")),
                          decoded;
        crdt_writer built = crdt_writer_of(&f.env.memory), again = built;
        crdt_write_storage_type(&built, &type);
        expect_written(&built, item);
        assert_int_equal(crdt_storage_type_decode(&f.env.memory, hex_of(&f, item), &decoded), 0);
        crdt_write_storage_type(&again, &decoded);
        expect_written(&again, item);
        seen++;
    }
    assert_int_equal(seen, 12 + 15 + 8);
    close_fixture(&f);
}

static crdt_index index_of(fixture *f, yyjson_val *in) {
    crdt_index index = {.metadata = test_crdt_metadata(&f->arena, yyjson_obj_get(in, "metadata"))};
    test_crdt_id(yyjson_obj_get(in, "id"), &index.id);
    index.has_parent = test_crdt_id(yyjson_obj_get(in, "parent_id"), &index.parent);
    yyjson_val *children = yyjson_obj_get(in, "children");
    index.has_children = yyjson_is_arr(children);
    if (index.has_children) index.children = test_crdt_children(&f->arena, children);
    test_crdt_id(yyjson_obj_get(in, "full_hash"), &index.full_hash);
    test_crdt_id(yyjson_obj_get(in, "own_hash"), &index.own_hash);
    index.is_deleted = yyjson_is_str(yyjson_obj_get(in, "deleted_at"));
    index.deleted_at = golden_u64(in, "deleted_at");
    yyjson_val *deleted = yyjson_obj_get(in, "deleted_children");
    size_t count = yyjson_arr_size(deleted);
    crdt_id *ids = cal_arena_alloc_array(&f->arena, count, sizeof *ids);
    for (size_t i = 0; i < count; i++) test_crdt_id(yyjson_arr_get(deleted, i), &ids[i]);
    index.deleted_children = ids;
    index.deleted_child_count = (uint32_t)count;
    return index;
}

static void test_entities(void **state) {
    (void)state;
    fixture f;
    open_fixture(&f, "delta.json");
    size_t at = 0, seen = 0;
    yyjson_val *item;
    while ((item = golden_next(f.root, "metadata/", &at))) {
        crdt_metadata metadata = test_crdt_metadata(&f.arena, yyjson_obj_get(item, "inputs")),
                      decoded;
        crdt_writer built = crdt_writer_of(&f.env.memory), again = built;
        crdt_write_metadata(&built, &metadata);
        expect_written(&built, item);
        assert_int_equal(crdt_metadata_decode(&f.env.memory, hex_of(&f, item), &decoded), 0);
        crdt_write_metadata(&again, &decoded);
        expect_written(&again, item);
        seen++;
    }
    at = 0;
    while ((item = golden_next(f.root, "child_info/", &at))) {
        crdt_child decoded;
        crdt_writer again = crdt_writer_of(&f.env.memory);
        assert_int_equal(crdt_child_decode(&f.env.memory, hex_of(&f, item), &decoded), 0);
        crdt_write_child(&again, &decoded);
        expect_written(&again, item);
        seen++;
    }
    at = 0;
    while ((item = golden_next(f.root, "entity_index/", &at))) {
        crdt_index index = index_of(&f, yyjson_obj_get(item, "inputs")), decoded;
        crdt_bytes bytes, record = hex_of(&f, item);
        assert_int_equal(crdt_index_encode(&f.env.memory, &index, &bytes), 0);
        test_crdt_expect(bytes, item, "hex");
        assert_int_equal(crdt_index_decode(&f.env.memory, record, &decoded), 0);
        assert_int_equal(crdt_index_encode(&f.env.memory, &decoded, &bytes), 0);
        test_crdt_expect(bytes, item, "hex");
        crdt_hash full_hash;
        assert_int_equal(crdt_index_full_hash(record, &full_hash), 0);
        assert_memory_equal(&full_hash, &index.full_hash, 32);
        for (size_t len = 0; len < record.len; len++) {
            crdt_bytes cut = {record.data, len};
            assert_int_equal(crdt_index_decode(&f.env.memory, cut, &decoded), CRDT_EDECODE);
            assert_int_equal(crdt_index_full_hash(cut, &full_hash), CRDT_EDECODE);
        }
        seen++;
    }
    assert_int_equal(seen, 3 + 2 + 4);
    close_fixture(&f);
}

static void check_action(fixture *f, yyjson_val *item, const cal_secret *seed) {
    crdt_action action = test_crdt_action(&f->arena, yyjson_obj_get(item, "inputs")), decoded;
    crdt_bytes bytes;
    crdt_hash hash;
    uint8_t signature[64];
    const uint8_t genesis[1][32] = {{0}};
    assert_int_equal(crdt_action_encode(&f->env.memory, &action, &bytes), 0);
    test_crdt_expect(bytes, item, "hex");
    assert_int_equal(crdt_action_decode(&f->env.memory, bytes, &decoded), 0);
    assert_int_equal(crdt_action_encode(&f->env.memory, &decoded, &bytes), 0);
    test_crdt_expect(bytes, item, "hex");
    assert_int_equal(crdt_action_payload(&f->env, &decoded, hash.bytes), 0);
    test_crdt_expect(crdt_bytes_of(&hash, 32), item, "payload_for_signing");
    cal_sign(seed, cal_slice_of(&hash, 32), signature);
    test_crdt_expect(crdt_bytes_of(signature, 64), item, "signature_seed_05");
    assert_int_equal(crdt_delta_id(&f->env, NULL, 0, &decoded, 1, &hash), 0);
    test_crdt_expect(crdt_bytes_of(&hash, 32), item, "delta_id_no_parents");
    assert_int_equal(crdt_delta_id(&f->env, genesis, 1, &decoded, 1, &hash), 0);
    test_crdt_expect(crdt_bytes_of(&hash, 32), item, "delta_id_genesis_parent");
}

static void test_actions(void **state) {
    (void)state;
    fixture f;
    open_fixture(&f, "delta.json");
    cal_secret seed;
    memset(&seed, 5, sizeof seed);
    size_t at = 0, seen = 0;
    yyjson_val *item;
    while ((item = golden_next(f.root, "action/", &at))) {
        check_action(&f, item, &seed);
        seen++;
    }
    assert_int_equal(seen, 24);
    close_fixture(&f);
}

static const crdt_action *actions_of(fixture *f, yyjson_val *list, uint32_t *ret_count) {
    size_t count = yyjson_arr_size(list);
    crdt_action *actions = cal_arena_alloc_array(&f->arena, count, sizeof *actions);
    for (size_t i = 0; i < count; i++)
        actions[i] = test_crdt_action(&f->arena, yyjson_arr_get(list, i));
    *ret_count = (uint32_t)count;
    return actions;
}

static crdt_delta delta_of(fixture *f, yyjson_val *in) {
    crdt_delta delta = {.kind = (crdt_delta_kind)golden_u64(in, "tag")};
    delta.actions = actions_of(f, yyjson_obj_get(in, "actions"), &delta.action_count);
    if (delta.kind == CRDT_DELTA_ACTIONS) return delta;
    test_crdt_id(yyjson_obj_get(in, "delta_id"), &delta.id);
    delta.hlc = test_crdt_hlc(yyjson_obj_get(in, "delta_hlc"));
    yyjson_val *list = yyjson_obj_get(in, "effective_writers");
    size_t count = yyjson_arr_size(list);
    crdt_entity_writers *writers = cal_arena_alloc_array(&f->arena, count, sizeof *writers);
    for (size_t i = 0; i < count; i++) {
        yyjson_val *pair = yyjson_arr_get(list, i);
        test_crdt_id(yyjson_arr_get(pair, 0), &writers[i].entity);
        writers[i].writers = test_crdt_grants(&f->arena, yyjson_arr_get(pair, 1));
    }
    delta.writers = writers;
    delta.writer_count = (uint32_t)count;
    delta.has_signer_account =
        test_crdt_id(yyjson_obj_get(in, "signer_account"), &delta.signer_account);
    return delta;
}

static void test_deltas(void **state) {
    (void)state;
    fixture f;
    open_fixture(&f, "delta.json");
    size_t at = 0, seen = 0;
    yyjson_val *item;
    while ((item = golden_next(f.root, "storage_delta/", &at))) {
        yyjson_val *in = yyjson_obj_get(item, "inputs"), *refused = yyjson_obj_get(item, "decodes");
        crdt_delta decoded;
        crdt_bytes bytes;
        int result = crdt_delta_decode(&f.env.memory, hex_of(&f, item), &decoded);
        seen++;
        if (yyjson_is_bool(refused)) {
            assert_int_equal(result, CRDT_EDECODE);
            continue;
        }
        assert_int_equal(result, 0);
        assert_int_equal(crdt_delta_encode(&f.env.memory, &decoded, &bytes), 0);
        test_crdt_expect(bytes, item, yyjson_obj_get(item, "reencoded") ? "reencoded" : "hex");
        if (!yyjson_obj_get(in, "actions")) continue;
        crdt_delta delta = delta_of(&f, in);
        assert_int_equal(crdt_delta_encode(&f.env.memory, &delta, &bytes), 0);
        test_crdt_expect(bytes, item, "hex");
    }
    at = 0;
    while ((item = golden_next(f.root, "causal_delta/", &at))) {
        yyjson_val *in = yyjson_obj_get(item, "inputs"), *list = yyjson_obj_get(in, "parents");
        uint8_t parents[4][32];
        uint32_t count;
        for (size_t i = 0; i < yyjson_arr_size(list); i++)
            test_crdt_id(yyjson_arr_get(list, i), parents[i]);
        const crdt_action *actions = actions_of(&f, yyjson_obj_get(in, "actions"), &count);
        crdt_hash id;
        assert_int_equal(crdt_delta_id(&f.env, (const uint8_t(*)[32])parents, yyjson_arr_size(list),
                                       actions, count, &id),
                         0);
        test_crdt_expect(crdt_bytes_of(&id, 32), item, "id");
        seen++;
    }
    at = 0;
    while ((item = golden_next(f.root, "delta_id_signature/", &at))) {
        yyjson_val *in = yyjson_obj_get(item, "inputs");
        const uint8_t genesis[1][32] = {{0}};
        crdt_action action = test_crdt_action(&f.arena, yyjson_obj_get(in, "action"));
        crdt_hash id;
        assert_int_equal(crdt_delta_id(&f.env, genesis, 1, &action, 1, &id), 0);
        test_crdt_expect(crdt_bytes_of(&id, 32), item, "id");
        seen++;
    }
    assert_int_equal(seen, 6 + 3 + 3);
    close_fixture(&f);
}

static void run_clock(yyjson_val *item) {
    crdt_clock clock;
    uint8_t id[16];
    golden_bytes(yyjson_obj_get(item, "inputs"), "clock_id_bytes", id, 16);
    crdt_clock_init(&clock, id);
    size_t index, max;
    yyjson_val *step;
    yyjson_arr_foreach(yyjson_obj_get(item, "steps"), index, max, step) {
        uint64_t wall = golden_u64(step, "wall_ns");
        if (strcmp(yyjson_get_str(yyjson_obj_get(step, "op")), "new") == 0) {
            crdt_hlc hlc = crdt_clock_tick(&clock, wall);
            uint8_t bytes[CRDT_HLC_SIZE];
            crdt_hlc_encode(&hlc, bytes);
            test_crdt_expect(crdt_bytes_of(bytes, sizeof bytes), step, "hex");
            assert_true(hlc.time == golden_u64(step, "time"));
        } else {
            crdt_hlc remote = {.time = golden_u64(step, "remote_time")};
            test_crdt_u128(yyjson_get_str(yyjson_obj_get(step, "remote_id")), remote.id);
            assert_int_equal(crdt_clock_observe(&clock, &remote, wall) == 0,
                             yyjson_get_bool(yyjson_obj_get(step, "accepted")));
        }
    }
}

static void test_clocks(void **state) {
    (void)state;
    fixture f;
    open_fixture(&f, "delta.json");
    size_t at = 0, seen = 0;
    yyjson_val *item;
    while ((item = golden_next(f.root, "hlc/encode_", &at))) {
        crdt_hlc hlc = test_crdt_hlc(yyjson_obj_get(item, "inputs")), decoded;
        uint8_t bytes[CRDT_HLC_SIZE];
        crdt_hlc_encode(&hlc, bytes);
        test_crdt_expect(crdt_bytes_of(bytes, sizeof bytes), item, "hex");
        assert_int_equal(crdt_hlc_decode(hex_of(&f, item), &decoded), 0);
        assert_int_equal(crdt_hlc_compare(&hlc, &decoded), 0);
        assert_true(crdt_hlc_physical_seconds(&hlc) == golden_u64(item, "physical_secs"));
        seen++;
    }
    at = 0;
    while ((item = golden_next(f.root, "hlc/compare_", &at))) {
        yyjson_val *in = yyjson_obj_get(item, "inputs");
        crdt_hlc a = test_crdt_hlc(yyjson_obj_get(in, "a")),
                 b = test_crdt_hlc(yyjson_obj_get(in, "b"));
        const char *order = yyjson_get_str(yyjson_obj_get(item, "order"));
        int expected = strcmp(order, "Less") == 0 ? -1 : strcmp(order, "Greater") == 0;
        assert_int_equal(crdt_hlc_compare(&a, &b), expected);
        seen++;
    }
    at = 0;
    while ((item = golden_next(f.root, "hlc/seed_", &at))) {
        crdt_clock clock;
        uint8_t device[32];
        golden_bytes(yyjson_obj_get(item, "inputs"), "device_id", device, 32);
        crdt_clock_init_device(&clock, test_crdt_sha256, device);
        test_crdt_expect(crdt_bytes_of(clock.id, 16), item, "seed");
        seen++;
    }
    crdt_hlc none;
    item = golden_find(f.root, "hlc/zero_id_rejected");
    assert_int_equal(crdt_hlc_decode(hex_of(&f, item), &none), CRDT_EDECODE);
    at = 0;
    while ((item = golden_next(f.root, "hlc_clock/", &at))) {
        run_clock(item);
        seen++;
    }
    assert_int_equal(seen, 3 + 3 + 2 + 6);
    close_fixture(&f);
}

static int decode_edge(fixture *f, const char *type, crdt_bytes bytes, crdt_writer *again) {
    const crdt_memory *memory = &f->env.memory;
    crdt_bytes encoded;
    int result = 1;
    if (strcmp(type, "Action") == 0) {
        crdt_action action;
        result = crdt_action_decode(memory, bytes, &action);
        if (!result) crdt_write_action(again, &action);
    } else if (strcmp(type, "StorageDelta") == 0) {
        crdt_delta delta;
        result = crdt_delta_decode(memory, bytes, &delta);
        if (!result && crdt_delta_encode(memory, &delta, &encoded) == 0)
            crdt_write_fixed(again, encoded.data, encoded.len);
    } else if (strcmp(type, "StorageType") == 0) {
        crdt_storage_type storage;
        result = crdt_storage_type_decode(memory, bytes, &storage);
        if (!result) crdt_write_storage_type(again, &storage);
    } else if (strcmp(type, "Metadata") == 0) {
        crdt_metadata metadata;
        result = crdt_metadata_decode(memory, bytes, &metadata);
        if (!result) crdt_write_metadata(again, &metadata);
    } else if (strcmp(type, "EntityIndex") == 0) {
        crdt_index index;
        result = crdt_index_decode(memory, bytes, &index);
        if (!result) crdt_write_index(again, &index);
    } else if (strcmp(type, "HybridTimestamp") == 0) {
        crdt_hlc hlc;
        result = crdt_hlc_decode(bytes, &hlc);
        if (!result) crdt_write_hlc(again, &hlc);
    }
    return result;
}

static void test_edges(void **state) {
    (void)state;
    fixture f;
    open_fixture(&f, "decode_edge.json");
    size_t at = 0, seen = 0;
    yyjson_val *item;
    while ((item = golden_next(f.root, "decode/", &at))) {
        crdt_writer again = crdt_writer_of(&f.env.memory);
        const char *type = yyjson_get_str(yyjson_obj_get(yyjson_obj_get(item, "inputs"), "type"));
        int result = decode_edge(&f, type, hex_of(&f, item), &again);
        if (result > 0) continue; /* a type of governance */
        seen++;
        assert_int_equal(result == 0, yyjson_get_bool(yyjson_obj_get(item, "decodes")));
        if (result) continue;
        crdt_bytes bytes;
        assert_int_equal(crdt_write_end(&again, &bytes), 0);
        bool same = yyjson_get_bool(yyjson_obj_get(item, "reencoded_same"));
        test_crdt_expect(bytes, item, same ? "hex" : "reencoded");
    }
    assert_int_equal(seen, 11);
    close_fixture(&f);
}

/* Signing: what runtime-abi.md 6 asks of the node, on a User and a Public action. */
static int sign_with_seed(void *user, const uint8_t payload[32], uint8_t ret_signature[64]) {
    cal_sign(user, cal_slice_of(payload, 32), ret_signature);
    return 0;
}

static void test_sign(void **state) {
    (void)state;
    fixture f;
    open_fixture(&f, "delta.json");
    cal_secret seed;
    memset(&seed, 5, sizeof seed);
    crdt_signature placeholder = {.has_signer = true, .nonce = 1};
    cal_sign_public_key(&seed, placeholder.signer.bytes);
    crdt_action actions[2] = {{0}, {0}};
    actions[0].kind = CRDT_ACTION_ADD;
    actions[1].kind = CRDT_ACTION_DELETE;
    actions[1].deleted_at = 77;
    actions[1].metadata.storage = (crdt_storage_type){.kind = CRDT_USER, .signature = &placeholder};
    crdt_delta delta = {.actions = actions, .action_count = 2};
    crdt_bytes artifact, record, patched;
    crdt_signed_delta result;
    assert_int_equal(crdt_delta_encode(&f.env.memory, &delta, &artifact), 0);
    assert_int_equal(crdt_delta_sign(&f.env, artifact, sign_with_seed, &seed, &result), 0);
    assert_int_equal(result.signed_count, 1);
    assert_int_equal(result.signed_at[0], 1);
    const crdt_storage_type *storage = &result.delta.actions[1].metadata.storage;
    assert_true(storage->signature->nonce == 77);
    uint8_t payload[32];
    assert_int_equal(crdt_action_payload(&f.env, &result.delta.actions[1], payload), 0);
    assert_true(cal_verify_lax(placeholder.signer.bytes, cal_slice_of(payload, 32),
                               storage->signature->signature));
    crdt_delta again;
    assert_int_equal(crdt_delta_decode(&f.env.memory, result.artifact, &again), 0);
    assert_false(crdt_action_is_placeholder(&again.actions[1]));
    crdt_index index = {.metadata = actions[1].metadata}, read;
    index.full_hash.bytes[0] = 9;
    assert_int_equal(crdt_index_encode(&f.env.memory, &index, &record), 0);
    assert_int_equal(crdt_index_patch_signature(&f.env.memory, record, storage, &patched), 0);
    assert_int_equal(crdt_index_decode(&f.env.memory, patched, &read), 0);
    assert_memory_equal(read.metadata.storage.signature->signature, storage->signature->signature,
                        64);
    assert_int_equal(read.full_hash.bytes[0], 9);
    assert_int_equal(
        crdt_index_patch_signature(&f.env.memory, record, &actions[1].metadata.storage, &patched),
        CRDT_EINVAL);
    crdt_storage_type other = *storage;
    other.subject.bytes[0] = 1;
    assert_int_equal(crdt_index_patch_signature(&f.env.memory, record, &other, &patched),
                     CRDT_EINVAL);
    close_fixture(&f);
}

/* Delta ids and signing payloads of whole recorded artifacts: tests/vectors/apps. */
static void check_recording(const char *name) {
    char file[128];
    fixture f, ids;
    snprintf(file, sizeof file, "apps/%s.json", name);
    open_fixture(&f, file);
    snprintf(file, sizeof file, "apps/%s_ids.json", name);
    open_fixture(&ids, file);
    size_t index, max;
    yyjson_val *step;
    yyjson_arr_foreach(ids.root, index, max, step) {
        yyjson_val *recorded =
            yyjson_arr_get(yyjson_obj_get(f.root, "steps"), golden_u64(step, "step"));
        crdt_bytes artifact = test_crdt_hex(&f.arena, yyjson_obj_get(recorded, "artifact")), again;
        crdt_delta delta;
        crdt_hash id;
        const uint8_t genesis[1][32] = {{0}};
        assert_int_equal(crdt_delta_decode(&f.env.memory, artifact, &delta), 0);
        assert_int_equal(crdt_delta_encode(&f.env.memory, &delta, &again), 0);
        assert_true(crdt_bytes_equal(artifact, again));
        assert_int_equal(crdt_delta_id(&f.env, genesis, 1, delta.actions, delta.action_count, &id),
                         0);
        test_crdt_expect(crdt_bytes_of(&id, 32), step, "delta_id_genesis_parent");
        yyjson_val *payloads = yyjson_obj_get(step, "payloads_for_signing");
        assert_int_equal(yyjson_arr_size(payloads), delta.action_count);
        for (uint32_t i = 0; i < delta.action_count; i++) {
            uint8_t payload[32];
            assert_int_equal(crdt_action_payload(&f.env, &delta.actions[i], payload), 0);
            crdt_bytes expected = test_crdt_hex(&f.arena, yyjson_arr_get(payloads, i));
            assert_memory_equal(payload, expected.data, 32);
        }
    }
    close_fixture(&f);
    close_fixture(&ids);
}

static void test_recordings(void **state) {
    (void)state;
    static const char *const names[] = {
        "abi_conformance", "kv_store",        "kv_store_with_handlers", "nested_crdt_test",
        "private_data",    "sorted_kv_store", "xcall_example"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) check_recording(names[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),   cmocka_unit_test(test_entities),
        cmocka_unit_test(test_actions), cmocka_unit_test(test_deltas),
        cmocka_unit_test(test_clocks),  cmocka_unit_test(test_edges),
        cmocka_unit_test(test_sign),    cmocka_unit_test(test_recordings),
    };
    if (cal_crypto_init() != 0) return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
