/* Messages against stream.json, broadcast.json, delta.json and decode_edge.json, and what each
 * bound does one beyond it. */
#include "sync/message.h"

#include "codec/borsh.h"
#include "golden.h"
#include "net/messages.h"

typedef struct {
    cal_arena arena;
    cal_buffer out, bytes;
} fixture;

static int setup(void **state) {
    fixture *f = malloc(sizeof *f);
    if (!f) return -1;
    cal_arena_init(&f->arena, 256 << 20);
    cal_buffer_init(&f->out, 64 << 20);
    cal_buffer_init(&f->bytes, 64 << 20);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    cal_arena_deinit(&f->arena);
    cal_buffer_deinit(&f->out);
    cal_buffer_deinit(&f->bytes);
    free(f);
    return 0;
}

/* --- what the recorded fields are called, and where they are decoded to --- */

typedef enum { KEY_ID, KEY_IDS, KEY_BYTES, KEY_TEXT, KEY_NUMBER, KEY_OTHER } key_type;

typedef struct {
    const char *name;
    key_type type;
    size_t offset, size, present; /* present 0: always there */
} key;

#define K(type, object, name, member)                                                              \
    { name, type, offsetof(object, member), sizeof(((object *)0)->member), 0 }
#define K_OPTION(type, object, name, member, has)                                                  \
    { name, type, offsetof(object, member), sizeof(((object *)0)->member), offsetof(object, has) }
#define K_OTHER(name)                                                                              \
    { name, KEY_OTHER, 0, 0, 0 }

static const key request_keys[] = {
    K(KEY_ID, sync_request, "blob_id", blob),
    K(KEY_ID, sync_request, "context_id", context),
    K(KEY_ID, sync_request, "delta_id", id),
    K(KEY_ID, sync_request, "boundary_root_hash", id),
    K(KEY_ID, sync_request, "node_id", id),
    K(KEY_NUMBER, sync_request, "page_limit", page_limit),
    K(KEY_NUMBER, sync_request, "byte_limit", byte_limit),
    K(KEY_NUMBER, sync_request, "level", level),
    K(KEY_IDS, sync_request, "delta_ids", ids),
    K(KEY_ID, sync_request, "namespace_id", namespace_id),
    K(KEY_ID, sync_request, "subgroup_id", group),
    K(KEY_ID, sync_request, "group_id", group),
    K(KEY_ID, sync_request, "joiner_public_key", key),
    K(KEY_ID, sync_request, "requester_public_key", key),
    K_OPTION(KEY_ID, sync_request, "requester_device", device, has_device),
    K_OPTION(KEY_ID, sync_request, "key_id", key_id, has_key_id),
    K_OPTION(KEY_NUMBER, sync_request, "requested_cutoff_timestamp", cutoff, has_cutoff),
    K_OPTION(KEY_BYTES, sync_request, "resume_cursor", cursor, has_cursor),
    K_OPTION(KEY_NUMBER, sync_request, "max_depth", depth, has_depth),
    K_OPTION(KEY_IDS, sync_request, "parent_ids", ids, has_ids),
    K_OTHER("entities"),
    K_OTHER("deletions"),
    K_OTHER("invitation"),
    K_OTHER("credential"),
    {NULL, KEY_OTHER, 0, 0, 0},
};

static const key answer_keys[] = {
    K(KEY_BYTES, sync_answer, "chunk", bytes),
    K(KEY_BYTES, sync_answer, "delta", bytes),
    K(KEY_BYTES, sync_answer, "payload", bytes),
    K(KEY_BYTES, sync_answer, "key_envelope_bytes", bytes),
    K(KEY_TEXT, sync_answer, "reason", bytes),
    K(KEY_ID, sync_answer, "author_id", author),
    K(KEY_ID, sync_answer, "responder_identity", author),
    K_OPTION(KEY_BYTES, sync_answer, "governance_position_blob", position, has_position),
    K_OPTION(KEY_ID, sync_answer, "delta_signature", signature, has_signature),
    K(KEY_IDS, sync_answer, "dag_heads", heads),
    K(KEY_ID, sync_answer, "root_hash", root),
    K(KEY_ID, sync_answer, "boundary_root_hash", root),
    K_OPTION(KEY_ID, sync_answer, "scope_root", scope_root, has_scope_root),
    K(KEY_NUMBER, sync_answer, "boundary_timestamp", boundary_ns),
    K(KEY_NUMBER, sync_answer, "uncompressed_len", uncompressed_len),
    K_OPTION(KEY_BYTES, sync_answer, "cursor", cursor, has_cursor),
    K(KEY_NUMBER, sync_answer, "page_count", page_count),
    K(KEY_NUMBER, sync_answer, "sent_count", sent_count),
    K(KEY_NUMBER, sync_answer, "total_records", total_records),
    K(KEY_NUMBER, sync_answer, "not_found", not_found),
    K(KEY_NUMBER, sync_answer, "level", level),
    K(KEY_NUMBER, sync_answer, "has_more_levels", more_levels),
    K(KEY_NUMBER, sync_answer, "applied_count", applied),
    K(KEY_IDS, sync_answer, "context_ids", contexts),
    K(KEY_ID, sync_answer, "application_id", application),
    K(KEY_NUMBER, sync_answer, "default_capabilities", default_capabilities),
    K_OTHER("nodes"),
    K_OTHER("deltas"),
    K_OTHER("governance_ops"),
    K_OTHER("key_envelope"),
    K_OTHER("deleted_children"),
    {NULL, KEY_OTHER, 0, 0, 0},
};

static void expect_bytes(yyjson_val *value, cal_slice actual) {
    cal_slice expected = golden_hex_value(value);
    assert_true(cal_slice_equal(expected, actual));
    golden_free(expected);
}

static uint64_t number_of(yyjson_val *value) {
    if (yyjson_is_bool(value)) return yyjson_get_bool(value);
    return yyjson_is_str(value) ? strtoull(yyjson_get_str(value), NULL, 10)
                                : yyjson_get_uint(value);
}

static void expect_ids(yyjson_val *list, sync_ids ids) {
    assert_int_equal(yyjson_arr_size(list), ids.count);
    for (uint32_t i = 0; i < ids.count; i++)
        expect_bytes(yyjson_arr_get(list, i), cal_slice_of(ids.items[i].bytes, 32));
}

static void expect_field(const key *known, yyjson_val *value, const void *object) {
    const uint8_t *at = (const uint8_t *)object + known->offset;
    uint64_t number = 0;
    if (known->present) {
        assert_int_equal(*((const bool *)object + known->present), !yyjson_is_null(value));
        if (yyjson_is_null(value)) return;
    }
    switch (known->type) {
    case KEY_ID:
        expect_bytes(value, cal_slice_of(at, known->size));
        break;
    case KEY_IDS:
        expect_ids(value, *(const sync_ids *)(const void *)at);
        break;
    case KEY_BYTES:
        expect_bytes(value, *(const cal_slice *)(const void *)at);
        break;
    case KEY_TEXT:
        assert_true(cal_slice_equal(cal_slice_text(yyjson_get_str(value)),
                                    *(const cal_slice *)(const void *)at));
        break;
    case KEY_NUMBER:
        memcpy(&number, at, known->size);
        assert_int_equal(number, number_of(value));
        break;
    case KEY_OTHER:
        break;
    }
}

static void expect_fields(yyjson_val *fields, const key *keys, const void *object) {
    yyjson_obj_iter iter;
    yyjson_obj_iter_init(fields, &iter);
    for (yyjson_val *name; (name = yyjson_obj_iter_next(&iter));) {
        const key *known = keys;
        while (known->name && strcmp(known->name, yyjson_get_str(name)) != 0) known++;
        if (!known->name)
            fail_msg("a recorded field that is not looked at: %s", yyjson_get_str(name));
        expect_field(known, yyjson_obj_iter_get_val(name), object);
    }
}

/* --- the envelope --- */

static sync_message decode_and_write(fixture *f, cal_slice bytes, const char *name) {
    sync_message message;
    cal_arena_deinit(&f->arena);
    const uint8_t *kept = cal_arena_copy(&f->arena, bytes.data, bytes.len);
    bytes.data = kept;
    if (sync_message_decode(bytes, &f->arena, &message)) fail_msg("%s does not decode", name);
    cal_buffer_reset(&f->out);
    assert_int_equal(sync_message_write(&message, &f->out), 0);
    if (!cal_slice_equal(cal_buffer_slice(&f->out), bytes)) fail_msg("%s encodes otherwise", name);
    return message;
}

/* Nothing that is cut off or goes on decodes. */
static void expect_exact(fixture *f, cal_slice bytes) {
    sync_message message;
    for (size_t len = 0; len < bytes.len; len++)
        assert_int_equal(sync_message_decode(cal_slice_of(bytes.data, len), &f->arena, &message),
                         CAL_EDECODE);
    cal_buffer_reset(&f->out);
    cal_buffer_append_slice(&f->out, bytes);
    cal_buffer_append_u8(&f->out, 0);
    assert_int_equal(sync_message_decode(cal_buffer_slice(&f->out), &f->arena, &message),
                     CAL_EDECODE);
}

static void test_requests(void **state) {
    fixture *f = *state;
    yyjson_doc *doc = golden_load("stream.json");
    unsigned kinds = 0;
    yyjson_val *item;
    for (size_t index = 0; (item = golden_next(yyjson_doc_get_root(doc), "init/", &index));) {
        cal_slice bytes = golden_hex(item, "hex");
        yyjson_val *in = yyjson_obj_get(item, "inputs"), *payload = yyjson_obj_get(in, "payload");
        sync_message message = decode_and_write(f, bytes, golden_name(item));
        const sync_init *init = &message.init;
        assert_int_equal(message.kind, SYNC_INIT);
        golden_equal(cal_slice_of(init->context.bytes, 32), in, "context_id");
        golden_equal(cal_slice_of(init->party.bytes, 32), in, "party_id");
        golden_equal(cal_slice_of(init->next_nonce, 12), in, "next_nonce");
        assert_int_equal(init->has_proof, !yyjson_is_null(yyjson_obj_get(in, "pop")));
        if (init->has_proof) golden_equal(cal_slice_of(init->proof, 64), in, "pop");
        assert_int_equal(init->has_proof, sync_request_needs_proof(init->request.kind));
        assert_int_equal(init->request.kind, golden_u64(payload, "variant_index"));
        assert_string_equal(sync_request_name(init->request.kind),
                            yyjson_get_str(yyjson_obj_get(payload, "variant")));
        expect_fields(yyjson_obj_get(payload, "fields"), request_keys, &init->request);
        kinds |= 1u << init->request.kind;
        expect_exact(f, bytes);
        golden_free(bytes);
    }
    assert_int_equal(kinds, (1u << SYNC_REQUEST_COUNT) - 1);
    yyjson_doc_free(doc);
}

static void test_answers(void **state) {
    fixture *f = *state;
    yyjson_doc *doc = golden_load("stream.json");
    unsigned kinds = 0, problems = 0;
    yyjson_val *item;
    for (size_t index = 0; (item = golden_next(yyjson_doc_get_root(doc), "message/", &index));) {
        cal_slice bytes = golden_hex(item, "hex");
        yyjson_val *in = yyjson_obj_get(item, "inputs"), *payload = yyjson_obj_get(in, "payload");
        sync_message message = decode_and_write(f, bytes, golden_name(item));
        const sync_answer *answer = &message.answer;
        assert_int_equal(message.kind, SYNC_MESSAGE);
        assert_int_equal(message.sequence, golden_u64(in, "sequence_id"));
        golden_equal(cal_slice_of(message.next_nonce, 12), in, "next_nonce");
        assert_int_equal(answer->kind, golden_u64(payload, "variant_index"));
        assert_string_equal(sync_answer_name(answer->kind),
                            yyjson_get_str(yyjson_obj_get(payload, "variant")));
        if (answer->kind == SYNC_ANSWER_SNAPSHOT_ERROR) problems |= 1u << answer->error.kind;
        expect_fields(yyjson_obj_get(payload, "fields"), answer_keys, answer);
        kinds |= 1u << answer->kind;
        expect_exact(f, bytes);
        golden_free(bytes);
    }
    assert_int_equal(kinds, (1u << SYNC_ANSWER_COUNT) - 1);
    assert_int_equal(problems, ((1u << SYNC_SNAPSHOT_PROBLEM_COUNT) - 1) &
                                   ~(1u << SYNC_SNAPSHOT_ROOT) & ~(1u << SYNC_SNAPSHOT_COUNT));
    yyjson_doc_free(doc);
}

static void test_envelope(void **state) {
    fixture *f = *state;
    const char *names[] = {"stream/OpaqueError", "stream/NotMaterialized"};
    yyjson_doc *doc = golden_load("stream.json");
    for (uint8_t i = 0; i < 2; i++) {
        cal_slice bytes = golden_hex(golden_find(yyjson_doc_get_root(doc), names[i]), "hex");
        assert_int_equal(decode_and_write(f, bytes, names[i]).kind, SYNC_OPAQUE_ERROR + i);
        golden_free(bytes);
    }
    assert_string_equal(sync_request_name(SYNC_REQUEST_COUNT), "?");
    assert_string_equal(sync_answer_name(SYNC_ANSWER_COUNT), "?");
    assert_false(sync_request_needs_proof(SYNC_REQUEST_COUNT));
    yyjson_doc_free(doc);
}

/* The two kinds of a snapshot error that are not recorded; the numbers are network-sync.md 3's. */
static void test_snapshot_errors(void **state) {
    fixture *f = *state;
    sync_message message = {.kind = SYNC_MESSAGE, .answer.kind = SYNC_ANSWER_SNAPSHOT_ERROR};
    message.answer.error =
        (sync_snapshot_error){.kind = SYNC_SNAPSHOT_COUNT, .first = 7, .second = UINT64_MAX};
    sync_message_write(&message, &f->bytes);
    assert_int_equal(f->bytes.data[10], 7);
    sync_message again = decode_and_write(f, cal_buffer_slice(&f->bytes), "EntityCountMismatch");
    assert_int_equal(again.answer.error.first, 7);
    assert_true(again.answer.error.second == UINT64_MAX);
    message.answer.error = (sync_snapshot_error){
        .kind = SYNC_SNAPSHOT_ROOT, .expected_root = {{1}}, .computed_root = {{2}}};
    cal_buffer_reset(&f->bytes);
    sync_message_write(&message, &f->bytes);
    assert_int_equal(f->bytes.data[10], 4);
    again = decode_and_write(f, cal_buffer_slice(&f->bytes), "RootHashMismatch");
    assert_int_equal(again.answer.error.expected_root.bytes[0], 1);
    assert_int_equal(again.answer.error.computed_root.bytes[0], 2);
}

static void test_edges(void **state) {
    fixture *f = *state;
    yyjson_doc *doc = golden_load("decode_edge.json");
    sync_message message;
    sync_heartbeat heartbeat;
    sync_presence presence;
    struct {
        const char *name;
        uint8_t envelope;
    } cases[] = {{"decode/init_variant_13", SYNC_INIT},
                 {"decode/message_variant_17", SYNC_MESSAGE}};
    for (size_t i = 0; i < 2; i++) {
        cal_slice payload = golden_hex(golden_find(yyjson_doc_get_root(doc), cases[i].name), "hex");
        cal_buffer_reset(&f->out);
        cal_buffer_append_u8(&f->out, cases[i].envelope);
        memset(cal_buffer_reserve(&f->out, 64), 0, 64);
        f->out.len += cases[i].envelope == SYNC_INIT ? 64 : 8;
        cal_buffer_append_slice(&f->out, payload);
        assert_int_equal(sync_message_decode(cal_buffer_slice(&f->out), &f->arena, &message),
                         CAL_EDECODE);
        golden_free(payload);
    }
    cal_slice bytes =
        golden_hex(golden_find(yyjson_doc_get_root(doc), "decode/stream_variant_4"), "hex");
    assert_int_equal(sync_message_decode(bytes, &f->arena, &message), CAL_EDECODE);
    golden_free(bytes);
    bytes = golden_hex(golden_find(yyjson_doc_get_root(doc), "decode/broadcast_variant_6"), "hex");
    assert_int_equal(sync_heartbeat_decode(bytes, &f->arena, &heartbeat), CAL_EDECODE);
    assert_int_equal(sync_presence_decode(bytes, &presence), CAL_EDECODE);
    golden_free(bytes);
    bytes =
        golden_hex(golden_find(yyjson_doc_get_root(doc), "decode/heartbeat_heads_overrun"), "hex");
    assert_int_equal(sync_heartbeat_decode(bytes, &f->arena, &heartbeat), CAL_EDECODE);
    golden_free(bytes);
    yyjson_doc_free(doc);
}

/* --- trees --- */

/* The recorded bytes inside an answer that carries one node. */
static sync_answer in_answer(fixture *f, sync_answer_kind kind, yyjson_val *item) {
    static const uint8_t head[9] = {SYNC_MESSAGE};
    cal_slice bytes = golden_hex(item, "hex");
    cal_buffer_reset(&f->bytes);
    cal_buffer_append(&f->bytes, head, sizeof head);
    cal_buffer_append_u8(&f->bytes, (uint8_t)kind);
    if (kind == SYNC_ANSWER_LEVEL) cal_buffer_append_u32le(&f->bytes, 3);
    cal_buffer_append_u32le(&f->bytes, 1);
    cal_buffer_append_slice(&f->bytes, bytes);
    cal_buffer_append_u8(&f->bytes, 0);
    if (kind == SYNC_ANSWER_LEVEL) cal_buffer_append_u32le(&f->bytes, 0);
    memset(cal_buffer_reserve(&f->bytes, 12), 0, 12);
    f->bytes.len += 12;
    golden_free(bytes);
    return decode_and_write(f, cal_buffer_slice(&f->bytes), golden_name(item)).answer;
}

/* The same inside a push. */
static sync_request in_push(fixture *f, sync_request_kind kind, yyjson_val *item) {
    static const uint8_t head[65] = {SYNC_INIT};
    cal_slice bytes = golden_hex(item, "hex");
    cal_buffer_reset(&f->bytes);
    cal_buffer_append(&f->bytes, head, sizeof head);
    cal_buffer_append_u8(&f->bytes, (uint8_t)kind);
    cal_buffer_append(&f->bytes, head + 1, 32);
    cal_buffer_append_u32le(&f->bytes, 1);
    cal_buffer_append_slice(&f->bytes, bytes);
    cal_buffer_append(&f->bytes, head + 1, 13);
    golden_free(bytes);
    return decode_and_write(f, cal_buffer_slice(&f->bytes), golden_name(item)).init.request;
}

static void expect_leaf(yyjson_val *in, const sync_leaf *leaf) {
    yyjson_val *metadata = yyjson_obj_get(in, "metadata");
    yyjson_val *parent = yyjson_obj_get(metadata, "parent_id");
    yyjson_val *app_key = yyjson_obj_get(metadata, "schema_app_key");
    golden_equal(cal_slice_of(leaf->id.bytes, 32), in, "key");
    golden_equal(leaf->value, in, "value");
    assert_true(leaf->updated_at == golden_u64(metadata, "hlc_timestamp"));
    assert_true(leaf->created_at == golden_u64(metadata, "created_at"));
    assert_int_equal(leaf->version, golden_u64(metadata, "version"));
    golden_equal(cal_slice_of(leaf->collection.bytes, 32), metadata, "collection_id");
    assert_int_equal(leaf->has_parent, !yyjson_is_null(parent));
    if (leaf->has_parent) expect_bytes(parent, cal_slice_of(leaf->parent.bytes, 32));
    assert_int_equal(leaf->ancestor_count, yyjson_arr_size(yyjson_obj_get(metadata, "ancestors")));
    assert_int_equal(leaf->has_authorization,
                     !yyjson_is_null(yyjson_obj_get(metadata, "authorization")));
    assert_int_equal(leaf->has_app_key, !yyjson_is_null(app_key));
    if (leaf->has_app_key) expect_bytes(app_key, cal_slice_of(leaf->app_key.bytes, 32));
    yyjson_val *type = yyjson_obj_get(metadata, "crdt_type");
    if (yyjson_is_str(type)) assert_int_equal(leaf->type.len, 1);
}

static void test_leaves(void **state) {
    fixture *f = *state;
    yyjson_doc *doc = golden_load("stream.json");
    yyjson_val *item;
    int count = 0;
    for (size_t i = 0; (item = golden_next(yyjson_doc_get_root(doc), "tree_leaf/", &i)); count++) {
        sync_request push = in_push(f, SYNC_PUSH, item);
        assert_int_equal(push.leaves.count, 1);
        expect_leaf(yyjson_obj_get(item, "inputs"), &push.leaves.items[0]);
    }
    assert_int_equal(count, 2);
    item = golden_find(yyjson_doc_get_root(doc), "entity_deletion/public");
    yyjson_val *in = yyjson_obj_get(item, "inputs");
    sync_request push = in_push(f, SYNC_PUSH_DELETIONS, item);
    assert_int_equal(push.deletions.count, 1);
    golden_equal(cal_slice_of(push.deletions.items[0].id.bytes, 32), in, "id");
    assert_true(push.deletions.items[0].deleted_at == golden_u64(in, "deleted_at"));
    assert_int_equal(push.deletions.items[0].metadata.len, 20);
    yyjson_doc_free(doc);
}

static void test_tree_nodes(void **state) {
    fixture *f = *state;
    yyjson_doc *doc = golden_load("stream.json");
    yyjson_val *item;
    int count = 0;
    for (size_t i = 0; (item = golden_next(yyjson_doc_get_root(doc), "tree_node/", &i)); count++) {
        yyjson_val *in = yyjson_obj_get(item, "inputs"), *leaf = yyjson_obj_get(in, "leaf_data");
        sync_answer answer = in_answer(f, SYNC_ANSWER_TREE, item);
        assert_int_equal(answer.nodes.count, 1);
        const sync_tree_node *node = answer.nodes.items;
        golden_equal(cal_slice_of(node->id.bytes, 32), in, "id");
        golden_equal(cal_slice_of(node->hash.bytes, 32), in, "hash");
        expect_ids(yyjson_obj_get(in, "children"), node->children);
        assert_int_equal(node->has_leaf, !yyjson_is_null(leaf));
        if (node->has_leaf) expect_leaf(leaf, &node->leaf);
        assert_int_equal(node->deleted.count,
                         yyjson_arr_size(yyjson_obj_get(in, "deleted_children")));
    }
    for (size_t i = 0; (item = golden_next(yyjson_doc_get_root(doc), "level_node/", &i)); count++) {
        yyjson_val *in = yyjson_obj_get(item, "inputs"), *leaf = yyjson_obj_get(in, "leaf_data");
        yyjson_val *parent = yyjson_obj_get(in, "parent_id");
        sync_answer answer = in_answer(f, SYNC_ANSWER_LEVEL, item);
        assert_int_equal(answer.level, 3);
        assert_int_equal(answer.level_nodes.count, 1);
        const sync_level_node *node = answer.level_nodes.items;
        golden_equal(cal_slice_of(node->id.bytes, 32), in, "id");
        golden_equal(cal_slice_of(node->hash.bytes, 32), in, "hash");
        assert_int_equal(node->has_parent, !yyjson_is_null(parent));
        if (node->has_parent) expect_bytes(parent, cal_slice_of(node->parent.bytes, 32));
        assert_int_equal(node->has_leaf, !yyjson_is_null(leaf));
        if (node->has_leaf) expect_leaf(leaf, &node->leaf);
    }
    assert_int_equal(count, 5);
    yyjson_doc_free(doc);
}

/* --- proofs --- */

static void sign_with(void *user, cal_slice message, uint8_t ret_signature[CAL_SIGNATURE_SIZE]) {
    cal_sign(user, message, ret_signature);
}

static void test_proofs(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("stream.json");
    yyjson_val *item;
    int count = 0;
    for (size_t i = 0; (item = golden_next(yyjson_doc_get_root(doc), "init_proof/", &i)); count++) {
        yyjson_val *in = yyjson_obj_get(item, "inputs");
        sync_init init = {.request.kind = SYNC_HEADS, .has_proof = true};
        cal_peer_id dialer;
        cal_secret seed;
        golden_bytes(in, "context_id", init.context.bytes, 32);
        golden_bytes(in, "party_id", init.party.bytes, 32);
        golden_bytes(in, "party_seed", seed.bytes, 32);
        cal_slice peer = golden_hex(in, "dialer_peer_id");
        assert_int_equal(cal_peer_id_from_bytes(peer.data, peer.len, &dialer), 0);
        golden_free(peer);
        assert_int_equal(sync_proof_sign(&init, &dialer, sign_with, &seed, init.proof), 0);
        golden_equal(cal_slice_of(init.proof, 64), item, "signature");
        assert_true(sync_proof_verify(&init, &dialer));
        /* a join is bound to its namespace, and to nothing else */
        sync_init join = init;
        join.request.kind = SYNC_JOIN;
        assert_false(sync_proof_verify(&join, &dialer));
        memcpy(join.request.namespace_id.bytes, join.context.bytes, 32);
        memset(join.context.bytes, 0, 32);
        assert_true(sync_proof_verify(&join, &dialer));
        join.request.kind = SYNC_JOIN_OPEN;
        assert_true(sync_proof_verify(&join, &dialer));
        init.has_proof = false;
        assert_false(sync_proof_verify(&init, &dialer));
        init.has_proof = true;
        dialer.bytes[20] ^= 1;
        assert_false(sync_proof_verify(&init, &dialer));
    }
    assert_int_equal(count, 2);
    yyjson_doc_free(doc);
}

/* The frames of a recorded blob transfer: sealed messages, each under the nonce the last one named.
 */
static void test_blob_share(void **state) {
    fixture *f = *state;
    yyjson_doc *doc = golden_load("stream.json");
    yyjson_val *item = golden_find(yyjson_doc_get_root(doc), "blob_share_session");
    yyjson_val *in = yyjson_obj_get(item, "inputs"), *frame;
    cal_secret seed, shared;
    golden_bytes(in, "initiator_seed", seed.bytes, 32);
    cal_slice bytes = golden_hex(item, "responder_init");
    sync_message message = decode_and_write(f, bytes, "responder_init");
    golden_equal(cal_slice_of(message.init.request.blob.bytes, 32), in, "blob_id");
    assert_int_equal(cal_agree_edwards(&seed, message.init.party.bytes, &shared), 0);
    uint8_t nonce[CAL_AEAD_NONCE_SIZE];
    memcpy(nonce, message.init.next_nonce, sizeof nonce);
    yyjson_arr_iter iter;
    yyjson_arr_iter_init(yyjson_obj_get(item, "frames"), &iter);
    size_t count = 0;
    while ((frame = yyjson_arr_iter_next(&iter))) {
        cal_slice sealed = golden_hex(frame, "frame");
        cal_buffer_reset(&f->bytes);
        assert_int_equal(cal_open(&shared, nonce, (cal_slice){0}, sealed, &f->bytes), 0);
        message = decode_and_write(f, cal_buffer_slice(&f->bytes), "frame");
        assert_int_equal(message.sequence, count++);
        golden_equal(message.answer.bytes, frame, "chunk");
        memcpy(nonce, message.next_nonce, sizeof nonce);
        golden_free(sealed);
    }
    assert_true(count > 1);
    golden_free(bytes);
    yyjson_doc_free(doc);
}

/* --- deltas and gossip --- */

static void test_causal_deltas(void **state) {
    fixture *f = *state;
    yyjson_doc *doc = golden_load("delta.json");
    yyjson_val *item;
    int count = 0;
    for (size_t i = 0; (item = golden_next(yyjson_doc_get_root(doc), "causal_delta/", &i));
         count++) {
        cal_slice bytes = golden_hex(item, "hex");
        yyjson_val *in = yyjson_obj_get(item, "inputs"), *hlc = yyjson_obj_get(in, "hlc");
        sync_causal_delta delta;
        assert_int_equal(sync_causal_delta_decode(bytes, &f->arena, &delta), 0);
        golden_equal(cal_slice_of(delta.id.bytes, 32), item, "id");
        expect_ids(yyjson_obj_get(in, "parents"), (sync_ids){delta.parents, delta.parent_count});
        assert_int_equal(cal_read_u32le(delta.actions.data),
                         yyjson_arr_size(yyjson_obj_get(in, "actions")));
        assert_true(delta.hlc_time == golden_u64(hlc, "time"));
        cal_buffer_reset(&f->out);
        assert_int_equal(sync_causal_delta_write(&delta, &f->out), 0);
        golden_equal(cal_buffer_slice(&f->out), item, "hex");
        memset(f->out.data + f->out.len - 16, 0, 16); /* an hlc of nobody */
        assert_int_equal(sync_causal_delta_decode(cal_buffer_slice(&f->out), &f->arena, &delta),
                         CAL_EDECODE);
        assert_int_equal(
            sync_causal_delta_decode(cal_slice_of(bytes.data, 32 + 4 + 27), &f->arena, &delta),
            CAL_EDECODE);
        golden_free(bytes);
    }
    assert_int_equal(count, 3);
    yyjson_doc_free(doc);
}

static void test_heartbeat(void **state) {
    fixture *f = *state;
    yyjson_doc *doc = golden_load("broadcast.json");
    yyjson_val *item = golden_find(yyjson_doc_get_root(doc), "broadcast/HashHeartbeat");
    yyjson_val *in = yyjson_obj_get(item, "inputs");
    cal_slice bytes = golden_hex(item, "hex");
    sync_heartbeat heartbeat;
    sync_presence presence;
    assert_int_equal(sync_heartbeat_decode(bytes, &f->arena, &heartbeat), 0);
    golden_equal(cal_slice_of(heartbeat.context.bytes, 32), in, "context_id");
    golden_equal(cal_slice_of(heartbeat.root.bytes, 32), in, "root_hash");
    expect_ids(yyjson_obj_get(in, "dag_heads"), heartbeat.heads);
    assert_int_equal(sync_heartbeat_write(&heartbeat, &f->out), 0);
    golden_equal(cal_buffer_slice(&f->out), item, "hex");
    assert_int_equal(sync_presence_decode(bytes, &presence), CAL_EUNSUPPORTED);
    cal_buffer_append_u8(&f->out, 0);
    assert_int_equal(sync_heartbeat_decode(cal_buffer_slice(&f->out), &f->arena, &heartbeat),
                     CAL_EDECODE);
    golden_free(bytes);
    yyjson_doc_free(doc);
}

static void test_presence(void **state) {
    fixture *f = *state;
    yyjson_doc *doc = golden_load("broadcast.json");
    yyjson_val *item = golden_find(yyjson_doc_get_root(doc), "broadcast/Ephemeral");
    yyjson_val *in = yyjson_obj_get(item, "inputs");
    cal_slice bytes = golden_hex(item, "hex");
    sync_heartbeat heartbeat;
    sync_presence presence;
    assert_int_equal(sync_presence_decode(bytes, &presence), 0);
    golden_equal(cal_slice_of(presence.context.bytes, 32), in, "context_id");
    golden_equal(cal_slice_of(presence.author.bytes, 32), in, "author");
    assert_int_equal(presence.seq, golden_u64(in, "seq"));
    golden_equal(cal_slice_of(presence.key_id.bytes, 32), in, "key_id");
    assert_true(presence.sent_at_ms == golden_u64(in, "sent_at_ms"));
    golden_equal(cal_slice_of(presence.nonce, 12), in, "nonce");
    golden_equal(presence.sealed, in, "ciphertext");
    golden_equal(cal_slice_of(presence.signature, 64), in, "signature");
    assert_int_equal(sync_presence_write(&presence, &f->out), 0);
    golden_equal(cal_buffer_slice(&f->out), item, "hex");
    assert_int_equal(sync_heartbeat_decode(bytes, &f->arena, &heartbeat), CAL_EUNSUPPORTED);
    cal_buffer_reset(&f->out);
    assert_int_equal(sync_presence_signable(&presence, &f->out), 0);
    golden_equal(cal_buffer_slice(&f->out), in, "signing_payload");
    assert_true(
        cal_verify_strict(presence.author.bytes, cal_buffer_slice(&f->out), presence.signature));
    golden_free(bytes);
    yyjson_doc_free(doc);
}

/* --- bounds --- */

/* A message of zeros whose field of `count` items, `item` bytes each, stands at `before` bytes. */
static int decode_zeros(fixture *f, uint8_t envelope, uint8_t variant, size_t before,
                        uint32_t count, size_t item, size_t after) {
    sync_message message;
    size_t head = envelope == SYNC_INIT ? 1 + 64 + 1 : 1 + 8 + 1;
    size_t len = head + before + 4 + count * item + after;
    cal_arena_deinit(&f->arena);
    cal_buffer_reset(&f->bytes);
    uint8_t *at = cal_buffer_reserve(&f->bytes, len);
    assert_non_null(at);
    memset(at, 0, len);
    at[0] = envelope;
    at[head - 1] = variant;
    cal_write_u32le(at + head + before, count);
    f->bytes.len = len;
    return sync_message_decode(cal_buffer_slice(&f->bytes), &f->arena, &message);
}

typedef struct {
    const char *name;
    uint8_t envelope, variant;
    size_t before;
    uint32_t max;
    size_t item, after;
} bound;

static void test_bounds(void **state) {
    fixture *f = *state;
    enum { TAIL = 13, NONCE = 12, NODE = 73, LEVEL_NODE = 66, DELETION = 60 };
    /* A leaf of zeros: its type is an LwwRegister with an empty name. */
    enum { LEAF = 32 + 4 + 5 + 24 + 32 + 1 + 4 + 1 + 1 };
    static const bound bounds[] = {
        {"pushed leaves", SYNC_INIT, SYNC_PUSH, 32, SYNC_PUSH_MAX, LEAF, TAIL},
        {"pushed deletions", SYNC_INIT, SYNC_PUSH_DELETIONS, 32, SYNC_PUSH_MAX, DELETION, TAIL},
        {"backfill ids", SYNC_INIT, SYNC_BACKFILL, 32, SYNC_BACKFILL_IDS_MAX, 32, TAIL},
        {"invitation", SYNC_INIT, SYNC_JOIN, 32, SYNC_INVITATION_MAX, 1, 32 + 4 + TAIL},
        {"credential", SYNC_INIT, SYNC_JOIN, 32 + 4 + 32, SYNC_CREDENTIAL_MAX, 1, TAIL},
        {"blob chunk", SYNC_MESSAGE, SYNC_ANSWER_BLOB, 0, SYNC_BLOB_CHUNK_MAX, 1, NONCE},
        {"delta", SYNC_MESSAGE, SYNC_ANSWER_DELTA, 0, SYNC_DELTA_MAX, 1, 32 + 2 + NONCE},
        {"heads", SYNC_MESSAGE, SYNC_ANSWER_HEADS, 0, SYNC_HEADS_MAX, 32, 32 + 1 + NONCE},
        {"boundary heads", SYNC_MESSAGE, SYNC_ANSWER_BOUNDARY, 40, SYNC_HEADS_MAX, 32, NONCE},
        {"page", SYNC_MESSAGE, SYNC_ANSWER_PAGE, 0, SYNC_PAGE_PAYLOAD_MAX, 1, 4 + 1 + 24 + NONCE},
        {"uncompressed", SYNC_MESSAGE, SYNC_ANSWER_PAGE, 4, SYNC_PAGE_MAX, 0, 1 + 24 + NONCE},
        {"page count", SYNC_MESSAGE, SYNC_ANSWER_PAGE, 4 + 4 + 1, SYNC_PAGE_COUNT_MAX, 0,
         20 + NONCE},
        {"sent count", SYNC_MESSAGE, SYNC_ANSWER_PAGE, 4 + 4 + 1 + 8, SYNC_PAGE_COUNT_MAX, 0,
         12 + NONCE},
        {"tree nodes", SYNC_MESSAGE, SYNC_ANSWER_TREE, 0, SYNC_TREE_NODES_MAX, NODE, 1 + NONCE},
        {"level nodes", SYNC_MESSAGE, SYNC_ANSWER_LEVEL, 4, SYNC_LEVEL_NODES_MAX, LEVEL_NODE,
         1 + 4 + NONCE},
        {"level deletions", SYNC_MESSAGE, SYNC_ANSWER_LEVEL, 4 + 4 + 1, SYNC_DELETIONS_MAX,
         DELETION, NONCE},
        {"operations", SYNC_MESSAGE, SYNC_ANSWER_BACKFILL, 0, SYNC_OPS_MAX, 36, NONCE},
        {"join envelope", SYNC_MESSAGE, SYNC_ANSWER_JOIN, 0, SYNC_ENVELOPE_MAX, 1,
         4 + 32 + 4 + 4 + NONCE},
        {"contexts", SYNC_MESSAGE, SYNC_ANSWER_JOIN, 4, SYNC_CONTEXTS_MAX, 32, 32 + 8 + NONCE},
        {"join operations", SYNC_MESSAGE, SYNC_ANSWER_JOIN, 4 + 4 + 32, SYNC_OPS_MAX, 4, 4 + NONCE},
        {"join refused", SYNC_MESSAGE, SYNC_ANSWER_JOIN_REJECTED, 0, SYNC_REASON_MAX, 1, NONCE},
        {"open envelope", SYNC_MESSAGE, SYNC_ANSWER_JOIN_OPEN, 0, SYNC_ENVELOPE_MAX, 1, NONCE},
        {"open refused", SYNC_MESSAGE, SYNC_ANSWER_JOIN_OPEN_REJECTED, 0, SYNC_REASON_MAX, 1,
         NONCE},
        {"key envelope", SYNC_MESSAGE, SYNC_ANSWER_KEY, 0, SYNC_ENVELOPE_MAX, 1, 32 + NONCE},
    };
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
        const bound *b = &bounds[i];
        if (decode_zeros(f, b->envelope, b->variant, b->before, b->max, b->item, b->after))
            fail_msg("%s at its bound", b->name);
        int over =
            decode_zeros(f, b->envelope, b->variant, b->before, b->max + 1, b->item, b->after);
        if (over != CAL_ELIMIT) fail_msg("%s over its bound: %d", b->name, over);
        /* and a count without the items takes no memory */
        int missing = decode_zeros(f, b->envelope, b->variant, b->before, b->max, 0, 0);
        if (missing != CAL_EDECODE) fail_msg("%s without its items: %d", b->name, missing);
        assert_true(f->arena.used == 0);
    }
}

/* Bounds of optional fields, and of what stands inside leaves. */
static int write_and_decode(fixture *f, const sync_message *message) {
    sync_message again;
    cal_buffer_reset(&f->out);
    int result = sync_message_write(message, &f->out);
    return result ? result : sync_message_decode(cal_buffer_slice(&f->out), &f->arena, &again);
}

static void test_bounds_inside(void **state) {
    fixture *f = *state;
    static const uint8_t zeros[SYNC_LEAF_VALUE_MAX + 1];
    static const cal_hash ids[SYNC_TREE_NODES_MAX + 1];
    sync_message request = {.kind = SYNC_INIT, .init.request.kind = SYNC_SNAPSHOT_STREAM};
    request.init.request.has_cursor = true;
    request.init.request.cursor = cal_slice_of(zeros, SYNC_CURSOR_MAX);
    assert_int_equal(write_and_decode(f, &request), 0);
    request.init.request.cursor.len++;
    assert_int_equal(write_and_decode(f, &request), CAL_ELIMIT);
    request = (sync_message){.kind = SYNC_INIT, .init.request.kind = SYNC_LEVEL};
    request.init.request.has_ids = true;
    request.init.request.ids = (sync_ids){ids, SYNC_TREE_NODES_MAX};
    assert_int_equal(write_and_decode(f, &request), 0);
    request.init.request.ids.count++;
    assert_int_equal(write_and_decode(f, &request), CAL_ELIMIT);
    sync_message answer = {.kind = SYNC_MESSAGE, .answer.kind = SYNC_ANSWER_DELTA};
    answer.answer.has_position = true;
    answer.answer.position = cal_slice_of(zeros, SYNC_POSITION_MAX);
    assert_int_equal(write_and_decode(f, &answer), 0);
    answer.answer.position.len++;
    assert_int_equal(write_and_decode(f, &answer), CAL_ELIMIT);
    static const uint64_t pages[SYNC_PAGE_COUNT_MAX + 1];
    answer = (sync_message){.kind = SYNC_MESSAGE, .answer.kind = SYNC_ANSWER_SNAPSHOT_ERROR};
    answer.answer.error = (sync_snapshot_error){
        .kind = SYNC_SNAPSHOT_PAGES, .pages = pages, .page_count = SYNC_PAGE_COUNT_MAX};
    assert_int_equal(write_and_decode(f, &answer), 0);
    answer.answer.error.page_count++;
    assert_int_equal(write_and_decode(f, &answer), CAL_ELIMIT);
}

/* Ancestors of zeros are 84 bytes each. */
static void test_bounds_of_leaves(void **state) {
    fixture *f = *state;
    enum { ANCESTOR = 84 };
    static uint8_t ancestors[4 + (SYNC_ANCESTORS_MAX + 1) * ANCESTOR];
    static const uint8_t value[SYNC_LEAF_VALUE_MAX + 1], type[5];
    sync_leaf leaf = {.type = cal_slice_of(type, sizeof type),
                      .value = cal_slice_of(value, SYNC_LEAF_VALUE_MAX),
                      .ancestors = cal_slice_of(ancestors, sizeof ancestors - ANCESTOR)};
    sync_message push = {.kind = SYNC_INIT, .init.request.kind = SYNC_PUSH};
    push.init.request.leaves = (sync_leaves){&leaf, 1};
    cal_write_u32le(ancestors, SYNC_ANCESTORS_MAX);
    assert_int_equal(write_and_decode(f, &push), 0);
    leaf.ancestor_count = SYNC_ANCESTORS_MAX + 1;
    assert_int_equal(write_and_decode(f, &push), CAL_ELIMIT);
    leaf.ancestor_count = 0; /* as a liar would */
    leaf.ancestors.len += ANCESTOR;
    cal_write_u32le(ancestors, SYNC_ANCESTORS_MAX + 1);
    assert_int_equal(write_and_decode(f, &push), CAL_ELIMIT);
    leaf.ancestors = cal_slice_of(value, 4);
    assert_int_equal(write_and_decode(f, &push), 0);
    leaf.value.len++;
    assert_int_equal(write_and_decode(f, &push), CAL_ELIMIT);
    leaf.value.len = 0;
    leaf.has_authorization = true; /* public: nothing to authorize */
    leaf.authorization = cal_slice_of(value, 1);
    assert_int_equal(write_and_decode(f, &push), CAL_EDECODE);
}

static void test_bounds_of_gossip(void **state) {
    fixture *f = *state;
    static const cal_hash ids[DAG_PARENTS_MAX + 1];
    static const uint8_t zeros[SYNC_PRESENCE_MAX + 1];
    static uint8_t message[1 + 64 + 4 + (SYNC_HEADS_MAX + 1) * 32] = {1};
    sync_heartbeat heartbeat = {.heads = {ids, SYNC_HEADS_MAX + 1}};
    sync_presence presence = {.sealed = cal_slice_of(zeros, SYNC_PRESENCE_MAX)};
    assert_int_equal(sync_heartbeat_write(&heartbeat, &f->out), CAL_ELIMIT);
    cal_write_u32le(message + 65, SYNC_HEADS_MAX + 1);
    assert_int_equal(
        sync_heartbeat_decode(cal_slice_of(message, sizeof message), &f->arena, &heartbeat),
        CAL_ELIMIT);
    cal_write_u32le(message + 65, SYNC_HEADS_MAX);
    assert_int_equal(
        sync_heartbeat_decode(cal_slice_of(message, sizeof message - 32), &f->arena, &heartbeat),
        0);
    cal_buffer_reset(&f->out);
    assert_int_equal(sync_presence_write(&presence, &f->out), 0);
    assert_int_equal(sync_presence_decode(cal_buffer_slice(&f->out), &presence), 0);
    cal_buffer_append_u8(&f->out, 0);
    cal_write_u32le(f->out.data + f->out.len - 64 - 1 - SYNC_PRESENCE_MAX - 4,
                    SYNC_PRESENCE_MAX + 1);
    assert_int_equal(sync_presence_decode(cal_buffer_slice(&f->out), &presence), CAL_ELIMIT);
    sync_causal_delta delta = {.parents = ids, .parent_count = DAG_PARENTS_MAX + 1};
    cal_buffer_reset(&f->out);
    assert_int_equal(sync_causal_delta_write(&delta, &f->out), CAL_ELIMIT);
    uint8_t head[36] = {0};
    cal_write_u32le(head + 32, DAG_PARENTS_MAX + 1);
    assert_int_equal(sync_causal_delta_decode(cal_slice_of(head, 36), &f->arena, &delta),
                     CAL_ELIMIT);
}

static void test_frame(void **state) {
    fixture *f = *state;
    sync_message message;
    uint8_t *bytes = calloc(1, NET_MESSAGE_MAX + 1);
    assert_non_null(bytes);
    assert_int_equal(
        sync_message_decode(cal_slice_of(bytes, NET_MESSAGE_MAX + 1), &f->arena, &message),
        CAL_ELIMIT);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_requests, setup, teardown),
        cmocka_unit_test_setup_teardown(test_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_envelope, setup, teardown),
        cmocka_unit_test_setup_teardown(test_snapshot_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_edges, setup, teardown),
        cmocka_unit_test_setup_teardown(test_leaves, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tree_nodes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_proofs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_blob_share, setup, teardown),
        cmocka_unit_test_setup_teardown(test_causal_deltas, setup, teardown),
        cmocka_unit_test_setup_teardown(test_heartbeat, setup, teardown),
        cmocka_unit_test_setup_teardown(test_presence, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bounds, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bounds_inside, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bounds_of_leaves, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bounds_of_gossip, setup, teardown),
        cmocka_unit_test_setup_teardown(test_frame, setup, teardown),
    };
    cal_crypto_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
