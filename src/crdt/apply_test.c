/* Recorded histories of the reference's storage: tests/vectors/storage.json (rows byte for byte),
 * app_replay.json and the final states of apps/. */
#include "support/crdt.h"

typedef struct world {
    cal_arena arena;
    crdt_env env;
    test_rows rows;
    crdt_id root;
} world;

static void open_world(world *w) {
    cal_arena_init(&w->arena, SIZE_MAX);
    w->env = test_crdt_env(&w->arena);
    test_rows_init(&w->rows, &w->arena);
}

static void close_world(world *w) {
    test_rows_deinit(&w->rows);
    cal_arena_deinit(&w->arena);
}

/* The recording's names for refusals. */
static crdt_refusal refusal_of(const char *name) {
    static const struct {
        const char *name;
        crdt_refusal refusal;
    } names[] = {
        {"ok", CRDT_APPLIED},
        {"InvalidTimestamp", CRDT_REFUSED_TIMESTAMP},
        {"InvalidData", CRDT_REFUSED_DATA},
        {"InvalidSignature", CRDT_REFUSED_SIGNATURE},
        {"NonceReplay", CRDT_REFUSED_NONCE},
        {"ActionNotAllowed", CRDT_REFUSED_NOT_ALLOWED},
        {"IndexNotFound", CRDT_REFUSED_INDEX_NOT_FOUND},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i].name, name) == 0) return names[i].refusal;
    fail_msg("unknown result %s", name);
    return CRDT_APPLIED;
}

/* The recorded Shared case: n-th delta id has an hlc that README leaves to the recorder; read it
 * from the entry bytes. */
static bool find_hlc(yyjson_val *item, const uint8_t delta_id[32], crdt_hlc *ret_hlc) {
    size_t index, max;
    yyjson_val *row;
    yyjson_arr_foreach(yyjson_obj_get(item, "final"), index, max, row) {
        yyjson_val *value = yyjson_obj_get(row, "entry");
        if (!yyjson_is_str(value) || yyjson_get_len(value) < 2 * 88) continue;
        cal_slice entry = golden_hex_value(value);
        bool hit =
            memcmp(entry.data, delta_id, 32) == 0 && memcmp(entry.data + 32, delta_id, 32) == 0;
        if (hit) assert_int_equal(crdt_hlc_decode(crdt_bytes_of(entry.data + 64, 24), ret_hlc), 0);
        golden_free(entry);
        if (hit) return true;
    }
    return false;
}

static void check_entities(world *w, yyjson_val *step) {
    size_t index, max;
    yyjson_val *entity;
    yyjson_arr_foreach(yyjson_obj_get(step, "entities"), index, max, entity) {
        crdt_id id;
        uint8_t key[32];
        crdt_bytes record;
        crdt_index read;
        test_crdt_id(yyjson_obj_get(entity, "id"), &id);
        crdt_storage_key(test_crdt_sha256, CRDT_KEY_INDEX, &id, key);
        assert_int_equal(test_rows_read(&w->rows, key, &record), 1);
        assert_int_equal(crdt_index_decode(&w->env.memory, record, &read), 0);
        test_crdt_expect(crdt_bytes_of(&read.own_hash, 32), entity, "own_hash");
        test_crdt_expect(crdt_bytes_of(&read.full_hash, 32), entity, "full_hash");
        assert_int_equal(read.is_deleted, yyjson_is_str(yyjson_obj_get(entity, "deleted_at")));
        if (read.is_deleted) assert_true(read.deleted_at == golden_u64(entity, "deleted_at"));
    }
}

static void check_row(world *w, const crdt_id *id, uint8_t tag, yyjson_val *row, const char *name) {
    uint8_t key[32];
    crdt_bytes value = {0};
    crdt_storage_key(test_crdt_sha256, tag, id, key);
    int hit = test_rows_read(&w->rows, key, &value);
    assert_int_equal(hit, yyjson_is_str(yyjson_obj_get(row, name)));
    if (hit) test_crdt_expect(value, row, name);
}

static void check_final(world *w, yyjson_val *item) {
    size_t index, max;
    yyjson_val *row;
    yyjson_arr_foreach(yyjson_obj_get(item, "final"), index, max, row) {
        crdt_id id;
        test_crdt_id(yyjson_obj_get(row, "id"), &id);
        if (!yyjson_obj_get(row, "index_note")) check_row(w, &id, CRDT_KEY_INDEX, row, "index");
        check_row(w, &id, CRDT_KEY_ENTRY, row, "entry_row");
    }
    yyjson_val *hashes = yyjson_obj_get(item, "final_rows_sha256");
    if (!hashes) return;
    assert_int_equal(yyjson_arr_size(hashes), w->rows.rows.count);
}

static void apply_step(world *w, yyjson_val *item, yyjson_val *step) {
    crdt_store *store;
    crdt_refusal refusal;
    crdt_rows rows = test_rows_table(&w->rows);
    crdt_apply_context context = {.now_ns = 1900000000000000000u, .verify = test_crdt_verify};
    crdt_action action = test_crdt_action(&w->arena, yyjson_obj_get(step, "action"));
    context.has_signer_account =
        test_crdt_id(yyjson_obj_get(step, "signer_account"), &context.signer_account);
    context.has_delta = test_crdt_id(yyjson_obj_get(step, "delta_id"), &context.delta_id);
    if (context.has_delta && !find_hlc(item, context.delta_id.bytes, &context.delta_hlc))
        context.delta_hlc = (crdt_hlc){.time = 1, .id = {1}};
    yyjson_val *writers = yyjson_obj_get(step, "effective_writers");
    crdt_entity_writers effective = {.entity = action.id};
    if (yyjson_is_arr(writers)) {
        effective.writers = test_crdt_grants(&w->arena, writers);
        context.writers = &effective;
        context.writer_count = 1;
    }
    assert_int_equal(crdt_store_open(&w->env, &rows, &w->root, &store), 0);
    assert_int_equal(crdt_store_apply(store, &action, &context, &refusal), 0);
    assert_int_equal(refusal, refusal_of(yyjson_get_str(yyjson_obj_get(step, "result"))));
    assert_int_equal(crdt_store_flush(store), 0); /* the recording went on after fatal ones */
    crdt_hash root_hash;
    if (crdt_store_root_hash(store, &root_hash) == 0)
        test_crdt_expect(crdt_bytes_of(&root_hash, 32), step, "root_hash");
    check_entities(w, step);
}

static void test_apply(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("storage.json");
    yyjson_val *item;
    size_t at = 0, seen = 0;
    while ((item = golden_next(yyjson_doc_get_root(doc), "apply/", &at))) {
        world w;
        open_world(&w);
        printf("  %s\n", golden_name(item));
        golden_bytes(yyjson_obj_get(item, "inputs"), "context_id", &w.root, 32);
        size_t index, max;
        yyjson_val *step;
        yyjson_arr_foreach(yyjson_obj_get(item, "steps"), index, max, step) {
            apply_step(&w, item, step);
        }
        check_final(&w, item);
        crdt_tree_summary summary;
        assert_int_equal(test_tree_verify(&w.rows, &w.root, false, &summary), 0);
        assert_true(summary.flaws == 0);
        close_world(&w);
        seen++;
    }
    assert_int_equal(seen, 23);
    yyjson_doc_free(doc);
}

static void test_merges(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("storage.json");
    cal_arena arena;
    cal_arena_init(&arena, SIZE_MAX);
    yyjson_val *item;
    size_t at = 0, seen = 0;
    while ((item = golden_next(yyjson_doc_get_root(doc), "merge_by_crdt_type/", &at))) {
        yyjson_val *in = yyjson_obj_get(item, "inputs"), *result = yyjson_obj_get(item, "result");
        crdt_type type = test_crdt_type(yyjson_obj_get(in, "crdt_type"));
        crdt_bytes existing = test_crdt_hex(&arena, yyjson_obj_get(in, "existing"));
        crdt_bytes incoming = test_crdt_hex(&arena, yyjson_obj_get(in, "incoming")), merged;
        const char *error = yyjson_get_str(yyjson_obj_get(result, "error"));
        int code = crdt_merge_by_type(&type, existing, incoming, &merged);
        if (!error) {
            assert_int_equal(code, 0);
            test_crdt_expect(merged, result, "ok");
        } else {
            assert_int_equal(code, strcmp(error, "WasmRequired") == 0 ? CRDT_EINVAL : CRDT_EDECODE);
        }
        seen++;
    }
    assert_int_equal(seen, 22);
    cal_arena_deinit(&arena);
    yyjson_doc_free(doc);
}

static void test_ids(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("storage.json");
    yyjson_val *root = yyjson_doc_get_root(doc), *item;
    size_t at = 0;
    uint8_t key[32];
    crdt_id id, collection;
    while ((item = golden_next(root, "storage_key/", &at))) {
        static const char *const names[] = {"index_key", "entry_key", "sync_state_key"};
        golden_bytes(yyjson_obj_get(item, "inputs"), "id", &id, 32);
        for (uint8_t tag = 0; tag < 3; tag++) {
            crdt_storage_key(test_crdt_sha256, tag, &id, key);
            test_crdt_expect(crdt_bytes_of(key, 32), item, names[tag]);
        }
    }
    at = 0;
    while ((item = golden_next(root, "collection_id/", &at))) {
        yyjson_val *in = yyjson_obj_get(item, "inputs"), *name = yyjson_obj_get(in, "field_name");
        bool nested = test_crdt_id(yyjson_obj_get(in, "parent"), &collection);
        crdt_collection_id(test_crdt_sha256, nested ? &collection : NULL,
                           crdt_bytes_of(yyjson_get_str(name), yyjson_get_len(name)), &id);
        test_crdt_expect(crdt_bytes_of(&id, 32), item, "id");
    }
    item = golden_find(root, "map_entries/map_two");
    golden_bytes(item, "collection_id", &collection, 32);
    size_t index, max;
    yyjson_val *entry;
    yyjson_arr_foreach(yyjson_obj_get(item, "entries"), index, max, entry) {
        yyjson_val *text = yyjson_obj_get(entry, "key");
        crdt_entry_id(test_crdt_sha256, &collection,
                      crdt_bytes_of(yyjson_get_str(text), yyjson_get_len(text)), &id);
        test_crdt_expect(crdt_bytes_of(&id, 32), entry, "id");
    }
    yyjson_doc_free(doc);
}

/* --- whole applications --- */

static void replay_step(world *w, yyjson_val *recorded, yyjson_val *step, const crdt_id *account) {
    crdt_bytes artifact = test_crdt_hex(&w->arena, yyjson_obj_get(recorded, "artifact"));
    crdt_delta delta;
    crdt_store *store;
    crdt_refusal refusal;
    crdt_rows rows = test_rows_table(&w->rows);
    crdt_apply_context context = {.now_ns = 1900000000000000000u,
                                  .verify = test_crdt_verify,
                                  .has_signer_account = true,
                                  .signer_account = *account};
    assert_int_equal(crdt_delta_decode(&w->env.memory, artifact, &delta), 0);
    assert_int_equal(crdt_store_open(&w->env, &rows, &w->root, &store), 0);
    for (uint32_t i = 0; i < delta.action_count; i++) {
        assert_int_equal(crdt_store_apply(store, &delta.actions[i], &context, &refusal), 0);
        const char *expected = yyjson_get_str(yyjson_arr_get(yyjson_obj_get(step, "results"), i));
        assert_int_equal(refusal, refusal_of(expected));
    }
    assert_int_equal(crdt_store_flush(store), 0);
    crdt_hash root_hash;
    assert_int_equal(crdt_store_root_hash(store, &root_hash), 0);
    test_crdt_expect(crdt_bytes_of(&root_hash, 32), step, "replayed_root_hash");
}

static void test_replay(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("app_replay.json");
    size_t index, max, at, steps;
    yyjson_val *item, *step;
    yyjson_arr_foreach(yyjson_doc_get_root(doc), index, max, item) {
        char file[128];
        world w;
        crdt_id account;
        snprintf(file, sizeof file, "apps/%s.json", golden_name(item));
        yyjson_doc *recording = golden_load(file);
        yyjson_val *app = yyjson_doc_get_root(recording);
        open_world(&w);
        printf("  %s\n", golden_name(item));
        golden_bytes(app, "context_id", &w.root, 32);
        golden_bytes(app, "account_id", &account, 32);
        yyjson_arr_foreach(yyjson_obj_get(item, "steps"), at, steps, step) {
            yyjson_val *list = yyjson_obj_get(app, "steps");
            replay_step(&w, yyjson_arr_get(list, golden_u64(step, "step")), step, &account);
        }
        crdt_tree_summary summary;
        assert_int_equal(test_tree_verify(&w.rows, &w.root, false, &summary), 0);
        assert_true(summary.flaws == 0);
        close_world(&w);
        yyjson_doc_free(recording);
    }
    yyjson_doc_free(doc);
}

/* The final rows of a recorded application, as the author's node holds them. */
static yyjson_doc *load_final(world *w, const char *name) {
    char file[128];
    snprintf(file, sizeof file, "apps/%s.json", name);
    yyjson_doc *doc = golden_load(file);
    yyjson_val *app = yyjson_doc_get_root(doc), *key;
    golden_bytes(app, "context_id", &w->root, 32);
    yyjson_obj_iter iter = yyjson_obj_iter_with(yyjson_obj_get(app, "final_state"));
    while ((key = yyjson_obj_iter_next(&iter))) {
        crdt_bytes name_bytes = test_crdt_hex(&w->arena, key);
        test_rows_write(&w->rows, name_bytes.data,
                        test_crdt_hex(&w->arena, yyjson_obj_iter_get_val(key)));
    }
    return doc;
}

static void test_verify(void **state) {
    (void)state;
    static const char *const names[] = {
        "abi_conformance",  "kv_store",     "kv_store_init",   "kv_store_with_handlers",
        "nested_crdt_test", "private_data", "sorted_kv_store", "xcall_example"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        world w;
        open_world(&w);
        yyjson_doc *doc = load_final(&w, names[i]);
        crdt_tree_summary summary;
        assert_int_equal(test_tree_verify(&w.rows, &w.root, false, &summary), 0);
        assert_true(summary.has_root && summary.flaws == 0 && summary.entities > 1);
        yyjson_val *steps = yyjson_obj_get(yyjson_doc_get_root(doc), "steps"), *last = NULL, *step;
        size_t at, count;
        yyjson_arr_foreach(steps, at, count, step) {
            if (yyjson_is_str(yyjson_obj_get(step, "root_hash")) &&
                yyjson_is_null(yyjson_obj_get(step, "error")))
                last = step;
        }
        test_crdt_expect(crdt_bytes_of(&summary.root_hash, 32), last, "root_hash");
        yyjson_doc_free(doc);
        close_world(&w);
    }
}

/* Every damaged byte of a row in the tree is noticed, except in what hashes do not cover
 * (metadata). */
static void test_verify_damage(void **state) {
    (void)state;
    world w;
    open_world(&w);
    yyjson_doc *doc = load_final(&w, "nested_crdt_test");
    crdt_tree_summary clean, summary;
    uint8_t key[32];
    crdt_bytes value;
    assert_int_equal(test_tree_verify(&w.rows, &w.root, false, &clean), 0);
    crdt_storage_key(test_crdt_sha256, CRDT_KEY_ENTRY, &CRDT_STATE_ID, key);
    assert_int_equal(test_rows_read(&w.rows, key, &value), 1);
    for (size_t i = 0; i < value.len; i++) {
        uint8_t *damaged = cal_arena_copy(&w.arena, value.data, value.len);
        damaged[i] ^= 1;
        test_rows_write(&w.rows, key, crdt_bytes_of(damaged, value.len));
        assert_int_equal(test_tree_verify(&w.rows, &w.root, true, &summary), 0);
        assert_true(summary.flaws == 1);
    }
    test_rows_write(&w.rows, key, value);
    crdt_storage_key(test_crdt_sha256, CRDT_KEY_INDEX, &CRDT_STATE_ID, key);
    assert_int_equal(test_rows_read(&w.rows, key, &value), 1);
    for (size_t len = 0; len < value.len; len++) {
        test_rows_write(&w.rows, key, crdt_bytes_of(value.data, len));
        assert_int_equal(test_tree_verify(&w.rows, &w.root, true, &summary), 0);
        assert_true(summary.flaws == 1);
    }
    test_rows_remove(&w.rows, key);
    assert_int_equal(test_tree_verify(&w.rows, &w.root, true, &summary), 0);
    assert_true(summary.flaws == 1);
    yyjson_doc_free(doc);
    close_world(&w);
}

/* The author's own log gets the entry that a peer makes from the delta: same root on both. */
static void test_log_rotations(void **state) {
    (void)state;
    static const crdt_grant grants[] = {{{{9}}, CRDT_MASK_FULL}};
    world author, peer;
    cal_secret seed;
    memset(&seed, 5, sizeof seed);
    open_world(&author);
    open_world(&peer);
    memset(&author.root, 0x60, sizeof author.root);
    peer.root = author.root;
    crdt_signature signature = {.nonce = 10, .has_signer = true};
    cal_sign_public_key(&seed, signature.signer.bytes);
    crdt_child root = {.id = author.root};
    crdt_action action = {.kind = CRDT_ACTION_ADD, .id = {{1}}, .ancestors = {&root, 1}};
    action.metadata.created_at = action.metadata.updated_at = 10;
    action.metadata.storage =
        (crdt_storage_type){.kind = CRDT_SHARED, .writers = {grants, 1}, .signature = &signature};
    uint8_t payload[32];
    assert_int_equal(crdt_action_payload(&author.env, &action, payload), 0);
    cal_sign(&seed, cal_slice_of(payload, 32), signature.signature);
    crdt_apply_context context = {.now_ns = 10,
                                  .verify = test_crdt_verify,
                                  .has_signer_account = true,
                                  .signer_account = {{9}}};
    crdt_store *store;
    crdt_refusal refusal;
    crdt_hash roots[2];
    crdt_rows rows = test_rows_table(&peer.rows);
    context.delta_id.bytes[0] = 7;
    context.delta_hlc = (crdt_hlc){.time = 5, .id = {1}};
    context.has_delta = true;
    assert_int_equal(crdt_store_open(&peer.env, &rows, &peer.root, &store), 0);
    assert_int_equal(crdt_store_apply(store, &action, &context, &refusal), 0);
    assert_int_equal(refusal, CRDT_APPLIED);
    assert_int_equal(crdt_store_flush(store), 0);
    assert_int_equal(crdt_store_root_hash(store, &roots[0]), 0);
    rows = test_rows_table(&author.rows);
    context.has_delta = false; /* the guest writes before there is a delta */
    assert_int_equal(crdt_store_open(&author.env, &rows, &author.root, &store), 0);
    assert_int_equal(crdt_store_apply(store, &action, &context, &refusal), 0);
    assert_int_equal(crdt_store_flush(store), 0);
    bool changed;
    assert_int_equal(crdt_store_log_rotations(store, &action, 1, &context, &changed), 0);
    assert_true(changed);
    assert_int_equal(crdt_store_flush(store), 0);
    assert_int_equal(crdt_store_root_hash(store, &roots[1]), 0);
    assert_memory_equal(&roots[0], &roots[1], 32);
    assert_int_equal(crdt_store_log_rotations(store, &action, 1, &context, &changed), 0);
    assert_false(changed);
    close_world(&author);
    close_world(&peer);
}

/* A delta that hangs two entities below each other is refused as a whole, not walked for ever. */
static void test_cycle(void **state) {
    (void)state;
    world w;
    open_world(&w);
    memset(&w.root, 0x60, sizeof w.root);
    crdt_child a = {.id = {{1}}}, b = {.id = {{2}}};
    crdt_action actions[2] = {
        {.kind = CRDT_ACTION_ADD, .id = a.id, .ancestors = {&b, 1}},
        {.kind = CRDT_ACTION_ADD, .id = b.id, .ancestors = {&a, 1}},
    };
    crdt_store *store;
    crdt_refusal refusal;
    crdt_rows rows = test_rows_table(&w.rows);
    crdt_apply_context context = {.verify = test_crdt_verify};
    assert_int_equal(crdt_store_open(&w.env, &rows, &w.root, &store), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(crdt_store_apply(store, &actions[i], &context, &refusal), 0);
    assert_int_equal(crdt_store_flush(store), CRDT_ELIMIT);
    assert_int_equal(w.rows.writes, 0);
    close_world(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids),    cmocka_unit_test(test_apply),
        cmocka_unit_test(test_merges), cmocka_unit_test(test_replay),
        cmocka_unit_test(test_verify), cmocka_unit_test(test_verify_damage),
        cmocka_unit_test(test_cycle),  cmocka_unit_test(test_log_rotations),
    };
    if (cal_crypto_init() != 0) return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
