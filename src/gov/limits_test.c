/* Every bound of what comes from the wire, at its limit and one beyond (governance.md 4, 5), and
 * many legal operations that together exceed a limit. */
#include "support/gov_world.h"

#include "gov/topic.h"

enum { ARENA = 512 << 20 };

typedef struct {
    gov_world w;
    uint8_t *zeros;          /* a long text, and ids */
    gov_envelope *envelopes; /* valid to encode */
    cal_buffer bytes;
    cal_arena arena;
} fixture;

enum { ZEROS = 4 << 20 };

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    gov_world_init(&f->w, 0x30);
    f->zeros = calloc(1, ZEROS);
    f->envelopes = calloc(GOV_ENVELOPES_MAX + 1, sizeof *f->envelopes);
    cal_buffer_init(&f->bytes, 2 * GOV_OP_MAX);
    cal_arena_init(&f->arena, ARENA);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    free(f->zeros);
    free(f->envelopes);
    cal_buffer_deinit(&f->bytes);
    cal_arena_deinit(&f->arena);
    free(f);
    return 0;
}

static cal_slice text(const fixture *f, size_t len) {
    assert_true(len <= ZEROS);
    return cal_slice_of(f->zeros, len);
}

static gov_ids ids(const fixture *f, uint32_t count) {
    return (gov_ids){(const cal_hash *)(const void *)f->zeros, count};
}

/* --- clear operations and what is around sealed ones: gov_verify --- */

typedef void (*fill)(const fixture *f, size_t count, gov_signed_op *op);

static void fill_parents(const fixture *f, size_t count, gov_signed_op *op) {
    op->parents = ids(f, (uint32_t)count);
}
static void fill_sealed(const fixture *f, size_t count, gov_signed_op *op) {
    op->op.group = true;
    op->op.sealed = text(f, count);
}
static void fill_envelopes(const fixture *f, size_t count, gov_signed_op *op) {
    op->op.group = true;
    op->op.rotation =
        (gov_rotation){.present = true, .envelopes = f->envelopes, .count = (uint32_t)count};
}
static void fill_envelope(const fixture *f, size_t count, gov_signed_op *op) {
    op->op.root.kind = GOV_KEY_DELIVERY;
    op->op.root.envelope.sealed = text(f, count);
}
static void fill_groups(const fixture *f, size_t count, gov_signed_op *op) {
    op->op.root.kind = GOV_GROUP_DELETED;
    op->op.root.groups = ids(f, (uint32_t)count);
}
static void fill_contexts(const fixture *f, size_t count, gov_signed_op *op) {
    op->op.root.kind = GOV_GROUP_DELETED;
    op->op.root.contexts = ids(f, (uint32_t)count);
}
static void fill_policy(const fixture *f, size_t count, gov_signed_op *op) {
    op->op.root.kind = GOV_POLICY_UPDATED;
    op->op.root.policy = text(f, count);
}
static void fill_invitation(const fixture *f, size_t count, gov_signed_op *op) {
    op->op.root.kind = GOV_MEMBER_JOINED;
    op->op.root.invitation.signature = text(f, count);
}
static void fill_chain(const fixture *f, size_t count, gov_signed_op *op) {
    op->op.root.kind = GOV_NAMESPACE_CREATED;
    gov_handoff *items = calloc(count, sizeof *items);
    (void)f;
    op->op.root.credential.chain = (gov_chain){items, (uint32_t)count}; /* freed with the case */
}

static const struct {
    const char *what;
    fill fill;
    size_t max;
} wire_cases[] = {
    {"parents", fill_parents, GOV_PARENTS_MAX},
    {"ciphertext", fill_sealed, GOV_SEALED_OP_MAX},
    {"envelopes of a rotation", fill_envelopes, GOV_ENVELOPES_MAX},
    {"ciphertext of an envelope", fill_envelope, GOV_ENVELOPE_SEALED_MAX},
    {"groups of a deletion", fill_groups, GOV_ID_LIST_MAX},
    {"contexts of a deletion", fill_contexts, GOV_ID_LIST_MAX},
    {"policy", fill_policy, GOV_BLOB_MAX},
    {"an invitation's signature", fill_invitation, 8192},
    {"handoffs that decode", fill_chain, 65536},
};

static gov_reason verified(fixture *f, gov_signed_op *op, cal_hash *ret_id) {
    gov_verified *received;
    cal_buffer_reset(&f->bytes);
    assert_int_equal(gov_signed_op_sign(op, &f->w.owner.sign, &f->bytes, ret_id), 0);
    assert_int_equal(gov_verify(cal_buffer_slice(&f->bytes), &received), 0);
    gov_reason reason = gov_verified_reason(received);
    gov_verified_free(received);
    return reason;
}

static void test_from_the_wire(void **state) {
    fixture *f = *state;
    cal_hash id;
    for (size_t i = 0; i < sizeof wire_cases / sizeof *wire_cases; i++)
        for (size_t more = 0; more < 2; more++) {
            gov_signed_op op = {.namespace_id = f->w.ns, .nonce = 1, .op = {.root = {.kind = 3}}};
            wire_cases[i].fill(f, wire_cases[i].max + more, &op);
            gov_reason reason = verified(f, &op, &id);
            if (reason != (more ? GOV_WHY_BOUNDS : GOV_WHY_FINE))
                fail_msg("%s, %zu: %s", wire_cases[i].what, wire_cases[i].max + more,
                         gov_reason_name(reason));
            if (wire_cases[i].fill == fill_chain) free((void *)op.op.root.credential.chain.items);
        }
}

/* The whole operation: as long as it may be, and a byte more. */
static void test_size(void **state) {
    fixture *f = *state;
    gov_verified *received;
    uint8_t *bytes = calloc(1, GOV_OP_MAX + 1);
    for (size_t more = 0; more < 2; more++) {
        assert_int_equal(gov_verify(cal_slice_of(bytes, GOV_OP_MAX + more), &received), 0);
        assert_int_equal(gov_verified_reason(received), more ? GOV_WHY_BOUNDS : GOV_WHY_MALFORMED);
        gov_verified_free(received);
    }
    assert_int_equal(gov_verify((cal_slice){0}, &received), 0);
    assert_int_equal(gov_verified_reason(received), GOV_WHY_MALFORMED);
    gov_verified_free(received);
    free(bytes);
    (void)f;
}

/* Version, signature, each byte. */
static void test_each_byte(void **state) {
    fixture *f = *state;
    gov_packet p = gov_world_genesis(&f->w);
    for (size_t i = 0; i < p.bytes.len; i++) {
        gov_verified *received;
        p.bytes.data[i] ^= 0x40;
        assert_int_equal(gov_verify(cal_buffer_slice(&p.bytes), &received), 0);
        gov_reason reason = gov_verified_reason(received);
        assert_int_equal(gov_reason_verdict(reason), GOV_REFUSED);
        if (i == 0) assert_int_equal(reason, GOV_WHY_VERSION);
        gov_verified_free(received);
        p.bytes.data[i] ^= 0x40;
    }
    gov_packet_free(&p);
}

/* --- sealed: gov_group_op_check --- */

typedef void (*fill_plain)(const fixture *f, uint32_t count, gov_group_op *op);

static void plain_name(const fixture *f, uint32_t count, gov_group_op *op) {
    op->kind = GOV_GROUP_METADATA_SET;
    op->name = (gov_optional){true, text(f, count)};
}
static gov_entry *entries(const fixture *f, uint32_t count) {
    gov_entry *items = cal_arena_alloc_array((cal_arena *)&f->arena, count, sizeof *items);
    assert_non_null(items);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *key = cal_arena_alloc((cal_arena *)&f->arena, 8);
        snprintf((char *)key, 8, "%07u", i);
        items[i].key = cal_slice_of(key, 7);
    }
    return items;
}
static void plain_entries(const fixture *f, uint32_t count, gov_group_op *op) {
    op->kind = GOV_MEMBER_METADATA_SET;
    op->data = (gov_entries){entries(f, count), count};
}
static void plain_entry_key(const fixture *f, uint32_t count, gov_group_op *op) {
    op->kind = GOV_CONTEXT_METADATA_SET;
    gov_entry *items = entries(f, 1);
    items[0].key = text(f, count);
    op->data = (gov_entries){items, 1};
}
static void plain_entry_value(const fixture *f, uint32_t count, gov_group_op *op) {
    op->kind = GOV_GROUP_METADATA_SET;
    gov_entry *items = entries(f, 1);
    items[0].value = text(f, count);
    op->data = (gov_entries){items, 1};
}
static void plain_roots(const fixture *f, uint32_t count, gov_group_op *op) {
    op->kind = GOV_MEMBER_REMOVED;
    op->roots = (gov_context_roots){(const gov_context_root *)(const void *)f->zeros, count};
}
static void plain_chain(const fixture *f, uint32_t count, gov_group_op *op) {
    op->kind = GOV_DEVICE_LINKED;
    op->chain = (gov_chain){
        cal_arena_alloc_array((cal_arena *)&f->arena, count, sizeof(gov_handoff)), count};
}
static gov_texts texts(const fixture *f, uint32_t count, size_t len) {
    cal_slice *items = cal_arena_alloc_array((cal_arena *)&f->arena, count, sizeof *items);
    for (uint32_t i = 0; i < count; i++) items[i] = text(f, len);
    return (gov_texts){items, count};
}
#define PLAIN_TEE(member)                                                                          \
    static void plain_##member(const fixture *f, uint32_t count, gov_group_op *op) {               \
        op->kind = GOV_TEE_POLICY_SET;                                                             \
        op->tee_policy.member = texts(f, count, 1);                                                \
    }                                                                                              \
    static void plain_##member##_text(const fixture *f, uint32_t count, gov_group_op *op) {        \
        op->kind = GOV_TEE_POLICY_SET;                                                             \
        op->tee_policy.member = texts(f, 1, count);                                                \
    }
PLAIN_TEE(mrtd)
PLAIN_TEE(rtmr0)
PLAIN_TEE(rtmr1)
PLAIN_TEE(rtmr2)
PLAIN_TEE(rtmr3)
PLAIN_TEE(tcb_status)

#define TEE_CASES(member)                                                                          \
    {#member " of a policy", plain_##member, GOV_TEE_LIST_MAX}, {                                  \
        "a text of " #member, plain_##member##_text, GOV_TEE_TEXT_MAX                              \
    }

static const struct {
    const char *what;
    fill_plain fill;
    uint32_t max;
} plain_cases[] = {
    {"a name", plain_name, GOV_METADATA_TEXT_MAX},
    {"metadata entries", plain_entries, GOV_METADATA_LIST_MAX},
    {"a metadata key", plain_entry_key, GOV_METADATA_TEXT_MAX},
    {"a metadata value", plain_entry_value, GOV_METADATA_TEXT_MAX},
    {"handoffs", plain_chain, GOV_HANDOFFS_MAX},
    TEE_CASES(mrtd),
    TEE_CASES(rtmr0),
    TEE_CASES(rtmr1),
    TEE_CASES(rtmr2),
    TEE_CASES(rtmr3),
    TEE_CASES(tcb_status),
};

/* By an admin, in a namespace: one beyond is kept, and changes nothing. */
static void test_sealed(void **state) {
    fixture *f = *state;
    gov_replica r;
    gov_replica_start(&r);
    gov_packet genesis = gov_world_genesis(&f->w);
    assert_int_equal(gov_replica_take(&r, &f->w.ns, &genesis).reason, GOV_WHY_FINE);
    gov_replica_key(&r, &f->w.ns, &f->w.ns, &f->w.ns_key);
    cal_hash last = genesis.id;
    for (size_t i = 0; i < sizeof plain_cases / sizeof *plain_cases; i++)
        for (uint32_t more = 0; more < 2; more++) {
            gov_group_op op = {.account = f->w.owner.account};
            plain_cases[i].fill(f, plain_cases[i].max + more, &op);
            gov_packet p = gov_world_group(&f->w, &f->w.owner.sign, &last, 1, f->w.ns, op);
            gov_receipt receipt = gov_replica_take(&r, &f->w.ns, &p);
            bool fits = receipt.reason != GOV_WHY_SEALED_BOUNDS;
            if (fits != (more == 0) || receipt.verdict == GOV_REFUSED)
                fail_msg("%s, %u: %s", plain_cases[i].what, plain_cases[i].max + more,
                         gov_reason_name(receipt.reason));
            last = p.id;
            gov_packet_free(&p);
        }
    gov_replica_check(&r);
    gov_replica_reopen(&r);
    gov_replica_check(&r);
    gov_replica_stop(&r);
    gov_packet_free(&genesis);
}

/* A list that cannot stand in a sealed operation at its limit: 65,536 pairs are 4 MiB. */
static void test_context_roots(void **state) {
    fixture *f = *state;
    for (uint32_t more = 0; more < 2; more++) {
        gov_group_op op = {0}, back;
        plain_roots(f, GOV_ID_LIST_MAX + more, &op);
        op.roots.items = cal_arena_alloc_array(&f->arena, op.roots.count, sizeof *op.roots.items);
        cal_buffer_reset(&f->bytes);
        assert_int_equal(gov_group_op_write(&op, &f->bytes), 0);
        assert_int_equal(gov_group_op_decode(cal_buffer_slice(&f->bytes), &f->arena, &back), 0);
        assert_int_equal(gov_group_op_check(&back), more ? CAL_ELIMIT : 0);
    }
}

/* --- messages --- */

static void test_gossip(void **state) {
    fixture *f = *state;
    for (size_t more = 0; more < 2; more++) {
        gov_signed_op op = {.namespace_id = f->w.ns, .op = {.root = {.kind = GOV_POLICY_UPDATED}}};
        gov_topic_message message;
        cal_hash id;
        cal_buffer_reset(&f->bytes);
        cal_buffer_append_u8(&f->bytes, GOV_TOPIC_OP);
        op.op.root.policy =
            text(f, GOV_OP_GOSSIP_MAX - 1 - (1 + 32 + 4 + 32 + 8 + 1 + 1 + 4 + 64) + more);
        assert_int_equal(gov_signed_op_sign(&op, &f->w.owner.sign, &f->bytes, &id), 0);
        assert_int_equal(f->bytes.len, GOV_OP_GOSSIP_MAX + more);
        assert_int_equal(gov_topic_decode(cal_buffer_slice(&f->bytes), &f->arena, &message),
                         more ? CAL_ELIMIT : 0);
        gov_broadcast broadcast = {.kind = GOV_BROADCAST_DELTA,
                                   .payload = text(f, GOV_OP_GOSSIP_MAX + more)},
                      back;
        cal_buffer_reset(&f->bytes);
        assert_int_equal(gov_broadcast_write(&broadcast, &f->bytes), 0);
        assert_int_equal(gov_broadcast_decode(cal_buffer_slice(&f->bytes), &f->arena, &back),
                         more ? CAL_ELIMIT : 0);
        for (int heartbeat = 0; heartbeat < 2; heartbeat++) {
            broadcast =
                (gov_broadcast){.kind = heartbeat ? GOV_BROADCAST_HEARTBEAT : GOV_BROADCAST_DELTA,
                                .ids = ids(f, GOV_PARENTS_MAX + (uint32_t)more)};
            cal_buffer_reset(&f->bytes);
            assert_int_equal(gov_broadcast_write(&broadcast, &f->bytes), 0);
            assert_int_equal(gov_broadcast_decode(cal_buffer_slice(&f->bytes), &f->arena, &back),
                             more ? CAL_ELIMIT : 0);
        }
    }
}

/* --- together --- */

/* A batch holds so many operations and so many bytes. */
static void test_batches(void **state) {
    fixture *f = *state;
    gov_replica r;
    gov_verified *ops[GOV_RECEIVE_OPS_MAX + 1];
    gov_change *change;
    gov_replica_start(&r);
    gov_packet small = gov_world_genesis(&f->w);
    for (size_t i = 0; i <= GOV_RECEIVE_OPS_MAX; i++)
        assert_int_equal(gov_verify(cal_buffer_slice(&small.bytes), &ops[i]), 0);
    assert_int_equal(gov_receive(r.gov, &f->w.ns, ops, GOV_RECEIVE_OPS_MAX + 1, 1, &change, &r.err),
                     CAL_EINVAL);
    assert_non_null(ops[0]);
    assert_int_equal(gov_receive(r.gov, &f->w.ns, ops, GOV_RECEIVE_OPS_MAX, 1, &change, &r.err), 0);
    gov_change_abort(change);
    gov_verified_free(ops[GOV_RECEIVE_OPS_MAX]);
    enum { LARGE = GOV_RECEIVE_BYTES_MAX / GOV_BLOB_MAX };
    gov_packet large =
        gov_world_root(&f->w, &f->w.owner.sign, &(cal_hash){{1}}, 1,
                       (gov_root_op){.kind = GOV_POLICY_UPDATED, .policy = text(f, GOV_BLOB_MAX)});
    for (size_t i = 0; i < LARGE; i++)
        assert_int_equal(gov_verify(cal_buffer_slice(&large.bytes), &ops[i]), 0);
    assert_int_equal(gov_receive(r.gov, &f->w.ns, ops, LARGE, 1, &change, &r.err), CAL_EINVAL);
    assert_int_equal(gov_receive(r.gov, &f->w.ns, ops, LARGE - 1, 1, &change, &r.err), 0);
    gov_change_abort(change);
    gov_verified_free(ops[LARGE - 1]);
    gov_packet_free(&small);
    gov_packet_free(&large);
    gov_replica_stop(&r);
}

/* Large ones that wait: the sender with most gives way, and the total stays bounded. */
static void test_waiting_bytes(void **state) {
    fixture *f = *state;
    enum { COUNT = GOV_PARKED_BYTES_MAX / GOV_BLOB_MAX + 8 };
    gov_replica r;
    gov_change *change;
    gov_verified *op;
    gov_replica_start(&r);
    for (uint32_t i = 0; i < COUNT; i++) {
        cal_hash parent = {{1}};
        cal_write_u32le(parent.bytes + 4, i);
        gov_packet p = gov_world_root(
            &f->w, &f->w.owner.sign, &parent, 1,
            (gov_root_op){.kind = GOV_POLICY_UPDATED, .policy = text(f, i ? GOV_BLOB_MAX : 1)});
        assert_int_equal(gov_verify(cal_buffer_slice(&p.bytes), &op), 0);
        assert_int_equal(gov_receive(r.gov, &f->w.ns, &op, 1, i ? 1 : 2, &change, &r.err), 0);
        gov_change_commit(change);
        if (i == 0) memcpy(f->zeros + ZEROS - 32, p.id.bytes, 32);
        gov_packet_free(&p);
    }
    gov_waiting_info waiting = gov_waiting(r.gov, &f->w.ns);
    assert_true(waiting.bytes <= GOV_PARKED_BYTES_MAX);
    assert_true(waiting.evicted > 0);
    assert_int_equal(waiting.count + waiting.evicted, COUNT);
    cal_hash first;
    memcpy(first.bytes, f->zeros + ZEROS - 32, 32);
    assert_true(gov_parking_holds(&gov_namespace_find(r.gov, &f->w.ns)->parking, &first));
    gov_replica_stop(&r);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_from_the_wire), T(test_size),   T(test_each_byte), T(test_sealed),
        T(test_context_roots), T(test_gossip), T(test_batches),   T(test_waiting_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
