/* Topic messages against governance.json and broadcast.json. */
#include "gov/topic.h"

#include "golden.h"

typedef struct {
    cal_arena arena;
    cal_buffer out;
} fixture;

static int setup(void **state) {
    fixture *f = malloc(sizeof *f);
    if (!f) return -1;
    cal_arena_init(&f->arena, 16 << 20);
    cal_buffer_init(&f->out, 1 << 20);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    cal_arena_deinit(&f->arena);
    cal_buffer_deinit(&f->out);
    free(f);
    return 0;
}

/* The message verifies, and signed again by the recorded seed it is the same. */
static void check_signatures(gov_topic_message *message, yyjson_val *item) {
    yyjson_val *in = yyjson_obj_get(item, "inputs");
    cal_secret seed = {{0}};
    if (yyjson_obj_get(in, "signer_seed")) golden_bytes(in, "signer_seed", seed.bytes, 32);
    if (message->kind == GOV_TOPIC_ACK) {
        assert_true(gov_ack_verify(&message->ack));
        char topic[GOV_TOPIC_TEXT_MAX];
        cal_group_id ns;
        cal_hash hash;
        memset(ns.bytes, 0x20, 32);
        gov_topic_text(&ns, topic);
        cal_slice op = golden_hex(in, "signed_namespace_op");
        if (strcmp(topic, yyjson_get_str(yyjson_obj_get(in, "topic"))) == 0) {
            assert_int_equal(gov_ack_hash(topic, op, &hash), 0);
            assert_memory_equal(&hash, &message->ack.op_hash, 32);
        }
        golden_free(op);
        assert_int_equal(gov_ack_sign(&message->ack, &seed), 0);
        golden_equal(cal_slice_of(message->ack.signature, 64), item, "signature");
        message->ack.op_hash.bytes[0] ^= 1;
        assert_false(gov_ack_verify(&message->ack));
        message->ack.op_hash.bytes[0] ^= 1;
    }
    if (message->kind == GOV_TOPIC_BEACON) {
        assert_true(gov_beacon_verify(&message->beacon));
        assert_int_equal(gov_beacon_sign(&message->beacon, &seed), 0);
        golden_equal(cal_slice_of(message->beacon.signature, 64), item, "signature");
        message->beacon.strong = !message->beacon.strong;
        assert_false(gov_beacon_verify(&message->beacon));
        message->beacon.strong = !message->beacon.strong;
    }
    if (message->kind == GOV_TOPIC_MIGRATION) {
        assert_true(gov_migration_report_verify(&message->migration));
        assert_int_equal(gov_migration_report_sign(&message->migration, &seed), 0);
        golden_equal(cal_slice_of(message->migration.signature, 64), item, "signature");
        message->migration.residue ^= 1;
        assert_false(gov_migration_report_verify(&message->migration));
        message->migration.residue ^= 1;
    }
}

static void test_messages(void **state) {
    fixture *f = *state;
    yyjson_doc *doc = golden_load("governance.json");
    yyjson_val *item;
    unsigned kinds = 0;
    for (size_t index = 0; (item = golden_next(yyjson_doc_get_root(doc), "topic/", &index));) {
        cal_slice bytes = golden_hex(item, "hex");
        gov_topic_message message;
        assert_int_equal(gov_topic_decode(bytes, &f->arena, &message), 0);
        check_signatures(&message, item);
        cal_buffer_reset(&f->out);
        assert_int_equal(gov_topic_write(&message, &f->out), 0);
        assert_true(cal_slice_equal(cal_buffer_slice(&f->out), bytes));
        size_t optional = message.kind == GOV_TOPIC_MIGRATION ? 9 : 0;
        for (size_t cut = 0; cut < bytes.len - optional; cut++)
            assert_int_not_equal(
                gov_topic_decode(cal_slice_of(bytes.data, cut), &f->arena, &message), 0);
        kinds |= 1u << bytes.data[0];
        golden_free(bytes);
        yyjson_val *forms = yyjson_obj_get(item, "accepted_short_forms");
        for (size_t i = 0; i < yyjson_arr_size(forms); i++) {
            bytes = golden_hex(yyjson_arr_get(forms, i), "hex");
            assert_int_equal(gov_topic_decode(bytes, &f->arena, &message), 0);
            assert_int_equal(message.migration.authored_remaining, 0);
            golden_free(bytes);
        }
    }
    assert_int_equal(kinds, (1u << GOV_TOPIC_KIND_COUNT) - 1);
    yyjson_doc_free(doc);
}

static void test_ack_hashes(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("governance.json");
    yyjson_val *item;
    size_t seen = 0;
    for (size_t index = 0; (item = golden_next(yyjson_doc_get_root(doc), "root_op/", &index));
         seen++) {
        char topic[GOV_TOPIC_TEXT_MAX];
        cal_group_id ns;
        cal_hash hash;
        golden_bytes(yyjson_obj_get(item, "inputs"), "namespace_id", ns.bytes, 32);
        gov_topic_text(&ns, topic);
        cal_slice op = golden_hex(item, "hex");
        assert_int_equal(gov_ack_hash(topic, op, &hash), 0);
        golden_equal(cal_slice_of(hash.bytes, 32), item, "ack_op_hash");
        golden_free(op);
    }
    assert_true(seen >= 11);
    yyjson_doc_free(doc);
}

static void test_broadcasts(void **state) {
    fixture *f = *state;
    yyjson_doc *doc = golden_load("broadcast.json");
    yyjson_val *item;
    size_t seen = 0;
    for (size_t index = 0; (item = golden_next(yyjson_doc_get_root(doc), "broadcast/", &index));) {
        cal_slice bytes = golden_hex(item, "hex");
        gov_broadcast message;
        int result = gov_broadcast_decode(bytes, &f->arena, &message);
        if (strncmp(golden_name(item), "broadcast/Namespace", 19) == 0) {
            assert_int_equal(result, 0);
            cal_buffer_reset(&f->out);
            assert_int_equal(gov_broadcast_write(&message, &f->out), 0);
            assert_true(cal_slice_equal(cal_buffer_slice(&f->out), bytes));
            gov_topic_message inner;
            if (message.kind == GOV_BROADCAST_DELTA)
                assert_int_equal(gov_topic_decode(message.payload, &f->arena, &inner), 0);
            seen++;
        } else {
            assert_int_equal(result, CAL_EUNSUPPORTED);
        }
        golden_free(bytes);
    }
    assert_int_equal(seen, 2);
    yyjson_doc_free(doc);
}

static void test_odd_messages(void **state) {
    fixture *f = *state;
    yyjson_doc *doc = golden_load("decode_edge.json");
    yyjson_val *item;
    size_t seen = 0;
    for (size_t index = 0; (item = golden_next(yyjson_doc_get_root(doc), "decode/", &index));) {
        gov_topic_message message;
        if (strcmp(yyjson_get_str(yyjson_obj_get(yyjson_obj_get(item, "inputs"), "type")),
                   "NamespaceTopicMsg") != 0)
            continue;
        cal_slice bytes = golden_hex(item, "hex");
        assert_int_equal(gov_topic_decode(bytes, &f->arena, &message) == 0,
                         yyjson_get_bool(yyjson_obj_get(item, "decodes")));
        golden_free(bytes);
        seen++;
    }
    assert_true(seen > 0);
    yyjson_doc_free(doc);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {T(test_messages), T(test_ack_hashes), T(test_broadcasts),
                                       T(test_odd_messages)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
