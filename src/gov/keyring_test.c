/* Key envelopes, the current key, nonce windows, and what surrounds a delta: crypto.json,
 * scope.json, broadcast.json. */
#include "gov/keyring.h"

#include "golden.h"
#include "gov/delta.h"

static void seal_again(yyjson_val *in, const gov_envelope *recorded) {
    cal_secret sender, key, ephemeral;
    cal_group_id group;
    uint8_t nonce[12], address[32], kem[32];
    gov_envelope envelope;
    golden_bytes(in, "sender_seed", sender.bytes, 32);
    golden_bytes(in, "group_key", key.bytes, 32);
    golden_bytes(in, "group_id", group.bytes, 32);
    golden_bytes(in, "nonce", nonce, 12);
    if (recorded->device) {
        golden_bytes(in, "ephemeral_secret", ephemeral.bytes, 32);
        golden_bytes(in, "device", address, 32);
        golden_bytes(in, "device_kem_pk", kem, 32);
        cal_device_id device;
        memcpy(device.bytes, address, 32);
        assert_int_equal(gov_envelope_seal_device(cal_os_posix(), &group, &key, &device, kem,
                                                  &sender, &ephemeral, nonce, &envelope),
                         0);
    } else {
        cal_secret recipient;
        golden_bytes(in, "ephemeral_seed", ephemeral.bytes, 32);
        golden_bytes(in, "recipient_seed", recipient.bytes, 32);
        cal_sign_public_key(&recipient, address);
        assert_int_equal(gov_envelope_seal_member(cal_os_posix(), &group, &key, address, &sender,
                                                  &ephemeral, nonce, &envelope),
                         0);
    }
    cal_buffer out;
    cal_buffer_init(&out, 1024);
    gov_envelope_write(&envelope, &out);
    golden_equal(cal_buffer_slice(&out), in, "borsh");
    cal_buffer_reset(&out);
    gov_envelope_signable(&envelope, &group, &out);
    golden_equal(cal_buffer_slice(&out), in, "signing_payload");
    cal_buffer_deinit(&out);
}

static void test_envelopes(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("crypto.json");
    yyjson_val *item;
    size_t seen = 0;
    for (size_t index = 0; (item = golden_next(yyjson_doc_get_root(doc), "key_envelope/", &index));
         seen++) {
        yyjson_val *in = yyjson_obj_get(item, "inputs");
        cal_slice bytes = golden_hex(item, "hex");
        cal_borsh cursor = cal_borsh_read(bytes);
        gov_envelope envelope;
        gov_envelope_read(&cursor, &envelope);
        assert_int_equal(cal_borsh_end(&cursor), 0);
        golden_equal(cal_slice_of(envelope.signature, 64), item, "signature");
        cal_secret secret, opened;
        cal_device_id device = {{0}};
        cal_group_id group;
        golden_bytes(in, "group_id", group.bytes, 32);
        golden_bytes(in, envelope.device ? "device_kem_secret" : "recipient_seed", secret.bytes,
                     32);
        if (envelope.device) golden_bytes(in, "device", device.bytes, 32);
        assert_int_equal(gov_envelope_open(&envelope, &group, &secret, &device, &secret,
                                           envelope.sender, &opened),
                         0);
        golden_equal(cal_slice_of(opened.bytes, 32), in, "group_key");
        cal_hash id;
        gov_key_id(&opened, &id);
        if (yyjson_obj_get(item, "key_id"))
            golden_equal(cal_slice_of(id.bytes, 32), item, "key_id");
        envelope.address[3] ^= 1;
        assert_int_equal(
            gov_envelope_open(&envelope, &group, &secret, &device, &secret, NULL, &opened),
            CAL_ENOTFOUND);
        envelope.address[3] ^= 1;
        if (yyjson_obj_get(in, "nonce")) seal_again(in, &envelope);
        golden_free(bytes);
    }
    assert_int_equal(seen, 6);
    yyjson_doc_free(doc);
}

static void test_envelope_refusals(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("crypto.json");
    yyjson_val *item;
    size_t seen = 0;
    for (size_t index = 0;
         (item = golden_next(yyjson_doc_get_root(doc), "key_envelope_open/", &index)); seen++) {
        yyjson_val *in = yyjson_obj_get(item, "inputs");
        cal_slice bytes = golden_hex(item, "hex");
        cal_borsh cursor = cal_borsh_read(bytes);
        gov_envelope envelope;
        gov_envelope_read(&cursor, &envelope);
        cal_secret seed, opened;
        cal_group_id group;
        uint8_t sender[32];
        golden_bytes(in, "group_id", group.bytes, 32);
        golden_bytes(in, "recipient_seed", seed.bytes, 32);
        bool expects = !yyjson_is_null(yyjson_obj_get(in, "expected_sender"));
        if (expects) golden_bytes(in, "expected_sender", sender, 32);
        int result = gov_envelope_open(&envelope, &group, &seed, NULL, NULL,
                                       expects ? sender : NULL, &opened);
        assert_int_equal(result == 0, yyjson_get_bool(yyjson_obj_get(item, "accepted")));
        golden_free(bytes);
    }
    assert_int_equal(seen, 6);
    yyjson_doc_free(doc);
}

static void test_current_key(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("scope.json");
    yyjson_val *item;
    size_t seen = 0;
    for (size_t index = 0; (item = golden_next(yyjson_doc_get_root(doc), "keyring/", &index));
         seen++) {
        yyjson_val *after = yyjson_obj_get(item, "after");
        gov_group_key keys[16];
        size_t best = 0, count = yyjson_arr_size(after);
        assert_true(count <= 16);
        for (size_t i = 0; i < count; i++) {
            yyjson_val *step = yyjson_arr_get(after, i);
            golden_bytes(step, "key", keys[i].key.bytes, 32);
            keys[i].epoch = golden_u64(step, "epoch");
            keys[i].order = i;
            for (size_t j = 0; j < i; j++) /* storing a key again keeps its first place */
                if (memcmp(keys[i].key.bytes, keys[j].key.bytes, 32) == 0 &&
                    keys[j].order < keys[i].order)
                    keys[i].order = keys[j].order;
            gov_key_id(&keys[i].key, &keys[i].id);
            golden_equal(cal_slice_of(keys[i].id.bytes, 32), step, "key_id");
            if (gov_key_compare(&keys[i], &keys[best]) > 0) best = i;
            golden_equal(cal_slice_of(keys[best].id.bytes, 32), step, "current_key_id");
        }
    }
    assert_int_equal(seen, 3);
    yyjson_doc_free(doc);
}

static void test_nonce_windows(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("scope.json");
    yyjson_val *item;
    size_t seen = 0;
    for (size_t index = 0; (item = golden_next(yyjson_doc_get_root(doc), "nonce_window/", &index));
         seen++) {
        yyjson_val *in = yyjson_obj_get(item, "inputs"), *steps = yyjson_obj_get(item, "steps");
        gov_nonce_window window = {.floor = golden_u64(in, "floor")};
        bool is_new;
        for (size_t i = 0; i < yyjson_arr_size(yyjson_obj_get(in, "above")); i++)
            gov_nonce_record(
                &window, yyjson_get_uint(yyjson_arr_get(yyjson_obj_get(in, "above"), i)), &is_new);
        for (size_t i = 0; i < yyjson_arr_size(steps); i++) {
            yyjson_val *step = yyjson_arr_get(steps, i), *above = yyjson_obj_get(step, "above");
            assert_int_equal(gov_nonce_record(&window, golden_u64(step, "nonce"), &is_new), 0);
            assert_int_equal(is_new, yyjson_get_bool(yyjson_obj_get(step, "newly_applied")));
            assert_int_equal(window.floor, golden_u64(step, "floor"));
            assert_int_equal(window.count, yyjson_arr_size(above));
            for (size_t j = 0; j < window.count; j++)
                assert_int_equal(window.above[j],
                                 strtoull(yyjson_get_str(yyjson_arr_get(above, j)), NULL, 10));
        }
        gov_nonce_window_deinit(&window);
    }
    assert_int_equal(seen, 3);
    gov_nonce_window window = {0};
    bool is_new;
    assert_int_equal(gov_nonce_record(&window, GOV_NONCE_GAP_MAX + 1, &is_new), 0);
    assert_int_equal(window.count, 0);
    for (uint64_t i = 0; i < GOV_NONCE_SET_MAX + 5; i++)
        gov_nonce_record(&window, 2 * i + 2, &is_new);
    assert_int_equal(window.count, GOV_NONCE_SET_MAX);
    gov_nonce_window_deinit(&window);
    yyjson_doc_free(doc);
}

static void read_hlc(yyjson_val *in, gov_hlc *hlc) {
    yyjson_val *value = yyjson_obj_get(in, "hlc");
    hlc->time = golden_u64(value, "time");
    const char *text = yyjson_get_str(yyjson_obj_get(value, "id"));
    unsigned __int128 id = 0;
    for (; *text; text++) id = id * 10 + (unsigned)(*text - '0');
    hlc->id = (cal_u128){.low = (uint64_t)id, .high = (uint64_t)(id >> 64)};
}

static void test_positions(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("broadcast.json");
    yyjson_val *item;
    size_t seen = 0;
    for (size_t index = 0;
         (item = golden_next(yyjson_doc_get_root(doc), "governance_parent_edge/", &index));
         seen++) {
        cal_slice bytes = golden_hex(item, "hex");
        cal_borsh in = cal_borsh_read(bytes);
        gov_position position;
        gov_position_read(&in, &position);
        assert_int_equal(cal_borsh_end(&in) == 0, yyjson_get_bool(yyjson_obj_get(item, "decodes")));
        if (!in.error) {
            cal_buffer out;
            cal_buffer_init(&out, 2048);
            gov_position_write(&position, &out);
            golden_equal(cal_buffer_slice(&out), item, "hex");
            cal_buffer_deinit(&out);
        }
        golden_free(bytes);
    }
    assert_int_equal(seen, 5);
    yyjson_doc_free(doc);
}

static void test_delta_signatures(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("broadcast.json");
    yyjson_val *item;
    size_t seen = 0;
    for (size_t index = 0;
         (item = golden_next(yyjson_doc_get_root(doc), "delta_signature/", &index)); seen++) {
        yyjson_val *in = yyjson_obj_get(item, "inputs"),
                   *heads = yyjson_obj_get(in, "governance_position");
        cal_context_id context;
        cal_hash delta;
        cal_secret author;
        uint8_t author_key[32], signature[64];
        gov_hlc hlc;
        gov_position position = {0};
        golden_bytes(in, "context_id", context.bytes, 32);
        golden_bytes(in, "delta_id", delta.bytes, 32);
        golden_bytes(in, "author_seed", author.bytes, 32);
        golden_bytes(in, "author_id", author_key, 32);
        read_hlc(in, &hlc);
        const gov_position *given = yyjson_is_null(heads) ? NULL : &position;
        yyjson_val *list =
            yyjson_is_obj(heads) ? yyjson_obj_get(heads, "governance_dag_heads") : heads;
        for (; given && position.count < yyjson_arr_size(list); position.count++) {
            cal_slice head = golden_hex_value(yyjson_arr_get(list, position.count));
            memcpy(position.heads[position.count].bytes, head.data, 32);
            golden_free(head);
        }
        cal_buffer out;
        cal_buffer_init(&out, 2048);
        assert_int_equal(gov_delta_signable(&context, &delta, author_key, given, &hlc, &out), 0);
        golden_equal(cal_buffer_slice(&out), item, "payload");
        assert_int_equal(gov_delta_sign(&author, &context, &delta, given, &hlc, signature), 0);
        golden_equal(cal_slice_of(signature, 64), item, "signature");
        assert_true(gov_delta_verify(author_key, &context, &delta, given, &hlc, signature));
        hlc.time ^= 1;
        assert_false(gov_delta_verify(author_key, &context, &delta, given, &hlc, signature));
        cal_buffer_deinit(&out);
    }
    assert_int_equal(seen, 3);
    yyjson_doc_free(doc);
}

static void test_sealed_deltas(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("broadcast.json");
    yyjson_val *item;
    size_t seen = 0;
    for (size_t index = 0; (item = golden_next(yyjson_doc_get_root(doc), "sealed_delta/", &index));
         seen++) {
        yyjson_val *in = yyjson_obj_get(item, "inputs");
        cal_secret key;
        uint8_t nonce[12];
        golden_bytes(in, "group_key", key.bytes, 32);
        golden_bytes(in, "nonce", nonce, 12);
        cal_slice artifact = golden_hex(in, "artifact"), events = {0};
        gov_delta_payload payload = {.artifact = artifact,
                                     .has_events = yyjson_is_str(yyjson_obj_get(in, "events"))};
        if (payload.has_events) events = golden_hex(in, "events");
        payload.events = events;
        golden_bytes(in, "root_hash", payload.root.bytes, 32);
        cal_buffer sealed, plain;
        cal_buffer_init(&sealed, 4096);
        cal_buffer_init(&plain, 4096);
        assert_int_equal(gov_delta_seal(&key, nonce, &payload, &sealed), 0);
        golden_equal(cal_buffer_slice(&sealed), item, "hex");
        gov_delta_payload opened;
        assert_int_equal(gov_delta_open(&key, nonce, cal_buffer_slice(&sealed), &plain, &opened),
                         0);
        golden_equal(cal_buffer_slice(&plain), item, "plaintext");
        assert_true(cal_slice_equal(opened.artifact, artifact) &&
                    opened.has_events == payload.has_events);
        cal_buffer_deinit(&sealed);
        cal_buffer_deinit(&plain);
        golden_free(artifact);
        if (payload.has_events) golden_free(events);
    }
    assert_int_equal(seen, 3);
    yyjson_doc_free(doc);
}

static void test_state_deltas(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("broadcast.json");
    yyjson_val *item;
    size_t seen = 0;
    for (size_t index = 0;
         (item = golden_next(yyjson_doc_get_root(doc), "broadcast/StateDelta", &index)); seen++) {
        cal_slice bytes = golden_hex(item, "hex");
        cal_arena arena;
        cal_arena_init(&arena, 1 << 20);
        gov_state_delta delta;
        assert_int_equal(gov_state_delta_decode(bytes, &arena, &delta), 0);
        golden_equal(cal_slice_of(delta.context.bytes, 32), yyjson_obj_get(item, "inputs"),
                     "context_id");
        golden_equal(delta.sealed, yyjson_obj_get(item, "inputs"), "artifact");
        cal_buffer out;
        cal_buffer_init(&out, 8192);
        assert_int_equal(gov_state_delta_write(&delta, &out), 0);
        assert_true(cal_slice_equal(cal_buffer_slice(&out), bytes));
        for (size_t cut = 0; cut < bytes.len; cut++)
            assert_int_not_equal(
                gov_state_delta_decode(cal_slice_of(bytes.data, cut), &arena, &delta), 0);
        cal_buffer_deinit(&out);
        cal_arena_deinit(&arena);
        golden_free(bytes);
    }
    assert_int_equal(seen, 2);
    yyjson_doc_free(doc);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_envelopes),     cmocka_unit_test(test_envelope_refusals),
        cmocka_unit_test(test_current_key),   cmocka_unit_test(test_nonce_windows),
        cmocka_unit_test(test_positions),     cmocka_unit_test(test_delta_signatures),
        cmocka_unit_test(test_sealed_deltas), cmocka_unit_test(test_state_deltas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
