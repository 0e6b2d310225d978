/* Batches of others' operations: what is refused, waits or is kept leaves no trace, and what comes
 * after it goes on. */
#include "support/gov_world.h"

#include <pthread.h>

#include "gov/graph.h"

typedef struct {
    gov_replica r;
    gov_world w;
    gov_actor alice, bob;
    gov_packet genesis, invite; /* the namespace, and alice in it */
    cal_group_id group;
} fixture;

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    gov_replica_start(&f->r);
    gov_world_init(&f->w, 0x30);
    gov_actor_make(&f->alice, 0x50);
    gov_actor_make(&f->bob, 0x70);
    memset(f->group.bytes, 0x91, 32);
    f->genesis = gov_world_genesis(&f->w);
    f->invite = gov_world_root(&f->w, &f->alice.sign, &f->genesis.id, 1,
                               gov_world_join(&f->alice, &f->w.owner, f->w.ns, 1, 1));
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    gov_replica_stop(&f->r);
    gov_packet_free(&f->genesis);
    gov_packet_free(&f->invite);
    free(f);
    return 0;
}

static void expect(const gov_receipt *receipt, gov_verdict verdict, gov_reason reason) {
    if (receipt->reason != reason)
        fail_msg("%s instead of %s", gov_reason_name(receipt->reason), gov_reason_name(reason));
    assert_int_equal(receipt->verdict, verdict);
}

static void take(fixture *f, const gov_packet *p, gov_verdict verdict, gov_reason reason) {
    gov_receipt receipt = gov_replica_take(&f->r, &f->w.ns, p);
    assert_memory_equal(&receipt.id, &p->id, 32);
    expect(&receipt, verdict, reason);
}

/* The owner's: members' defaults in the namespace. */
static gov_packet defaults_op(fixture *f, const cal_hash *parent, uint32_t capabilities) {
    return gov_world_group(
        &f->w, &f->w.owner.sign, parent, 1, f->w.ns,
        (gov_group_op){.kind = GOV_DEFAULT_CAPABILITIES_SET, .capabilities = capabilities});
}

static gov_packet create_op(fixture *f, const gov_actor *who, const cal_hash *parent,
                            cal_group_id group) {
    return gov_world_root(&f->w, &who->sign, parent, 1,
                          (gov_root_op){.kind = GOV_GROUP_CREATED,
                                        .group = group,
                                        .parent = f->w.ns,
                                        .restricted = true,
                                        .account = who->account});
}

static bool has_group(fixture *f, const cal_group_id *group) {
    gov_group_info info;
    return gov_group_get(f->r.gov, group, &info) == 0;
}

static uint64_t sequence(fixture *f) {
    gov_view view = gov_replica_view(&f->r, &f->w.ns);
    return gov_sequence_get(&view);
}

/* Last first, twice each, with rubbish in between: one change, everything applies. */
static void test_any_order(void **state) {
    fixture *f = *state;
    gov_replica_key(&f->r, &f->w.ns, &f->w.ns, &f->w.ns_key);
    gov_packet group = create_op(f, &f->w.owner, &f->invite.id, f->group);
    gov_packet defaults = defaults_op(f, &group.id, 0x1ff), rubbish = {.id = {{0}}};
    cal_buffer_init(&rubbish.bytes, 64);
    cal_buffer_append_text(&rubbish.bytes, "no operation");
    const gov_packet *batch[] = {&defaults, &group,   &rubbish,    &f->invite, &defaults,
                                 &group,    &rubbish, &f->genesis, &f->invite, &f->genesis};
    gov_change *change = gov_replica_receive(&f->r, &f->w.ns, batch, 10);
    size_t count, known = 0;
    const gov_receipt *receipts = gov_change_receipts(change, &count);
    assert_int_equal(count, 10);
    for (size_t i = 0; i < 10; i++) {
        bool bad = batch[i] == &rubbish;
        assert_memory_equal(&receipts[i].id, &batch[i]->id, 32);
        expect(&receipts[i], bad ? GOV_REFUSED : GOV_APPLIED,
               bad ? GOV_WHY_MALFORMED : GOV_WHY_FINE);
        known += receipts[i].known;
    }
    assert_int_equal(known, 4);
    assert_false(has_group(f, &f->group)); /* not durable yet */
    gov_replica_commit(&f->r, change);
    assert_true(has_group(f, &f->group));
    assert_int_equal(sequence(f), 4);
    assert_true(gov_member_can(f->r.gov, &f->w.ns, &f->alice.account, GOV_CAN_CREATE_CONTEXT));
    gov_replica_check(&f->r);
    gov_replica_reopen(&f->r);
    assert_true(has_group(f, &f->group));
    gov_replica_check(&f->r);
    gov_packet_free(&group);
    gov_packet_free(&defaults);
    gov_packet_free(&rubbish);
}

/* A change that fails leaves nothing, and what was decided in it can come again. */
static void test_abort(void **state) {
    fixture *f = *state;
    const gov_packet *batch[] = {&f->genesis, &f->invite};
    for (int i = 0; i < 3; i++) {
        gov_change *change = gov_replica_receive(&f->r, &f->w.ns, batch, 2);
        assert_false(gov_change_empty(change));
        gov_change_abort(change);
        assert_int_equal(f->r.gov->namespaces.count, 0);
        assert_int_equal(f->r.gov->groups.count, 0);
    }
    gov_replica_commit(&f->r, gov_replica_receive(&f->r, &f->w.ns, batch, 2));
    gov_change *change = gov_replica_receive(&f->r, &f->w.ns, batch, 2);
    assert_true(gov_change_empty(change)); /* all known */
    gov_change_commit(change);
    assert_int_equal(sequence(f), 2);
    gov_replica_check(&f->r);
}

/* Kept without effect, and the operation that cites it applies. */
static void test_no_orphans(void **state) {
    fixture *f = *state;
    take(f, &f->genesis, GOV_APPLIED, GOV_WHY_FINE);
    take(f, &f->invite, GOV_APPLIED, GOV_WHY_FINE);
    gov_packet denied = create_op(f, &f->alice, &f->invite.id, f->group);
    gov_packet after = create_op(f, &f->w.owner, &denied.id, (cal_group_id){{0x92}});
    take(f, &denied, GOV_KEPT, GOV_WHY_NO_CREATE_GROUP);
    assert_false(has_group(f, &f->group));
    take(f, &after, GOV_APPLIED, GOV_WHY_FINE);
    assert_true(has_group(f, &(cal_group_id){{0x92}}));
    gov_receipt again = gov_replica_take(&f->r, &f->w.ns, &denied);
    expect(&again, GOV_KEPT, GOV_WHY_BEFORE);
    assert_true(again.known);
    gov_replica_check(&f->r);
    gov_packet_free(&denied);
    gov_packet_free(&after);
}

/* Waiting for a parent, and for the parent's parent, until it comes. */
static void test_parents_arrive(void **state) {
    fixture *f = *state;
    gov_packet a = create_op(f, &f->w.owner, &f->genesis.id, f->group);
    gov_packet b = create_op(f, &f->w.owner, &a.id, (cal_group_id){{0x92}});
    gov_packet c = create_op(f, &f->w.owner, &b.id, (cal_group_id){{0x93}});
    cal_hash missing[4];
    take(f, &c, GOV_WAITING, GOV_WHY_PARENT_LACKS);
    take(f, &b, GOV_WAITING, GOV_WHY_PARENT_LACKS);
    gov_receipt again = gov_replica_take(&f->r, &f->w.ns, &b);
    assert_true(again.known && again.verdict == GOV_WAITING);
    assert_int_equal(gov_waiting(f->r.gov, &f->w.ns).count, 2);
    assert_int_equal(gov_missing(f->r.gov, &f->w.ns, missing, 4), 1);
    assert_memory_equal(&missing[0], &a.id, 32);
    take(f, &f->genesis, GOV_APPLIED, GOV_WHY_FINE);
    const gov_packet *batch[] = {&a};
    for (int i = 0; i < 3; i++) { /* aborted twice: both wait on */
        size_t count;
        gov_change *change = gov_replica_receive(&f->r, &f->w.ns, batch, 1);
        const gov_receipt *receipts = gov_change_receipts(change, &count);
        assert_int_equal(count, 3);
        expect(&receipts[1], GOV_APPLIED, GOV_WHY_FINE);
        expect(&receipts[2], GOV_APPLIED, GOV_WHY_FINE);
        if (i < 2) {
            gov_change_abort(change);
            assert_int_equal(gov_waiting(f->r.gov, &f->w.ns).count, 2);
            assert_true(gov_receive_pending(f->r.gov, &f->w.ns));
            change = gov_replica_receive(&f->r, &f->w.ns, NULL, 0); /* nothing came of it yet */
            assert_true(gov_change_empty(change));
            gov_change_commit(change);
            assert_int_equal(gov_waiting(f->r.gov, &f->w.ns).count, 2);
        } else
            gov_replica_commit(&f->r, change);
    }
    assert_int_equal(gov_waiting(f->r.gov, &f->w.ns).count, 0);
    assert_true(has_group(f, &(cal_group_id){{0x93}}));
    assert_int_equal(sequence(f), 4);
    gov_replica_check(&f->r);
    gov_packet_free(&a);
    gov_packet_free(&b);
    gov_packet_free(&c);
}

/* Sealed with a key that comes later, by KeyDelivery: the effect follows. */
static void test_key_arrives(void **state) {
    fixture *f = *state;
    const gov_identity *self = gov_self(f->r.gov);
    gov_packet sealed = defaults_op(f, &f->invite.id, 0x1ff);
    gov_root_op delivery = {.kind = GOV_KEY_DELIVERY, .group = f->w.ns};
    assert_int_equal(gov_envelope_seal_member(cal_os_posix(), &f->w.ns, &f->w.ns_key,
                                              self->sign_key.bytes, &f->w.owner.sign, NULL, NULL,
                                              &delivery.envelope),
                     0);
    gov_packet key = gov_world_root(&f->w, &f->w.owner.sign, &sealed.id, 1, delivery);
    take(f, &f->genesis, GOV_APPLIED, GOV_WHY_FINE);
    take(f, &f->invite, GOV_APPLIED, GOV_WHY_FINE);
    take(f, &sealed, GOV_KEPT, GOV_WHY_SEALED);
    gov_replica_check(&f->r);
    gov_replica_reopen(&f->r);
    assert_int_equal(gov_member_capabilities(f->r.gov, &f->w.ns, &f->alice.account),
                     GOV_CAPABILITIES_DEFAULT);
    take(f, &key, GOV_APPLIED, GOV_WHY_FINE);
    assert_int_equal(gov_member_capabilities(f->r.gov, &f->w.ns, &f->alice.account), 0x1ff);
    gov_view view = gov_replica_view(&f->r, &f->w.ns);
    assert_int_equal(gov_walk_count(&view, ROW_SEALED, NULL), 0);
    gov_receipt again = gov_replica_take(&f->r, &f->w.ns, &sealed);
    expect(&again, GOV_APPLIED, GOV_WHY_FINE);
    assert_true(again.known);
    gov_replica_check(&f->r);
    gov_packet_free(&sealed);
    gov_packet_free(&key);
}

/* One sender fills the room; another's one operation stays. */
static void test_nobody_crowds_out(void **state) {
    fixture *f = *state;
    enum { MORE = 500 };
    gov_packet rare = create_op(f, &f->w.owner, &(cal_hash){{0xAA}}, f->group);
    gov_verified *op;
    gov_change *change;
    assert_int_equal(gov_verify(cal_buffer_slice(&rare.bytes), &op), 0);
    assert_int_equal(gov_receive(f->r.gov, &f->w.ns, &op, 1, 77, &change, &f->r.err), 0);
    gov_change_commit(change);
    for (uint32_t i = 0; i < GOV_PARKED_MAX + MORE; i++) {
        cal_hash parent = {{0xBB}};
        cal_write_u32le(parent.bytes + 4, i);
        gov_packet p = create_op(f, &f->w.owner, &parent, f->group);
        assert_int_equal(gov_verify(cal_buffer_slice(&p.bytes), &op), 0);
        assert_int_equal(gov_receive(f->r.gov, &f->w.ns, &op, 1, 1, &change, &f->r.err), 0);
        gov_change_commit(change);
        gov_packet_free(&p);
    }
    gov_waiting_info waiting = gov_waiting(f->r.gov, &f->w.ns);
    assert_int_equal(waiting.count, GOV_PARKED_MAX);
    assert_int_equal(waiting.evicted, MORE + 1);
    assert_true(waiting.bytes <= GOV_PARKED_BYTES_MAX);
    assert_true(gov_parking_holds(&gov_namespace_find(f->r.gov, &f->w.ns)->parking, &rare.id));
    gov_packet_free(&rare);
}

static void park(gov_parking *parking, uint64_t sender, uint32_t number, size_t len) {
    gov_verified *op = calloc(1, sizeof *op);
    cal_write_u32le(op->id.bytes, number);
    op->len = len; /* says so only */
    assert_int_equal(gov_parking_add(parking, op, &(gov_wait){.id = {{1}}}, sender), 0);
}

static bool parked(const gov_parking *parking, uint32_t number) {
    cal_hash id = {{0}};
    cal_write_u32le(id.bytes, number);
    return gov_parking_holds(parking, &id);
}

/* Too many: whoever has most operations gives way; too large: whoever has most bytes. */
static void test_most_of_what_is_short(void **state) {
    gov_parking parking;
    (void)state;
    gov_parking_init(&parking, 1);
    park(&parking, 2, 0, GOV_PARKED_BYTES_MAX / 2);
    for (uint32_t i = 1; i < GOV_PARKED_MAX + 3; i++) park(&parking, 1, i, 0);
    assert_int_equal(parking.count, GOV_PARKED_MAX);
    assert_int_equal(parking.evicted, 3);
    assert_true(parked(&parking, 0));
    gov_parking_deinit(&parking);
    gov_parking_init(&parking, 1);
    for (uint32_t i = 1; i < 10; i++) park(&parking, 1, i, 0);
    park(&parking, 2, 0, GOV_PARKED_BYTES_MAX / 2);
    park(&parking, 3, 10, GOV_PARKED_BYTES_MAX / 2);
    assert_false(parked(&parking, 0));
    assert_int_equal(parking.count, 10);
    gov_parking_deinit(&parking);
}

/* What waits under an id makes no namespace of it: the id is free for a group, and what waited
 * goes, also what is still being received. */
static void test_waiting_takes_no_id(void **state) {
    fixture *f = *state;
    gov_world other = f->w;
    cal_group_id late = {{0x92}};
    const cal_group_id *ids[] = {&f->group, &late};
    cal_hash parent = f->genesis.id;
    take(f, &f->genesis, GOV_APPLIED, GOV_WHY_FINE);
    for (size_t i = 0; i < 2; i++) {
        other.ns = *ids[i];
        gov_packet p = gov_world_root(&other, &f->alice.sign, &(cal_hash){{0xAA}}, 1,
                                      (gov_root_op){.kind = GOV_POLICY_UPDATED});
        const gov_packet *batch[] = {&p};
        gov_change *change = gov_replica_receive(&f->r, ids[i], batch, 1);
        if (i == 0) gov_change_commit(change);
        gov_packet group = create_op(f, &f->w.owner, &parent, *ids[i]);
        take(f, &group, GOV_APPLIED, GOV_WHY_FINE);
        if (i == 1) gov_change_commit(change);
        assert_true(has_group(f, ids[i]));
        assert_int_equal(f->r.gov->namespaces.count, 1);
        parent = group.id;
        gov_packet_free(&group);
        gov_packet_free(&p);
    }
    gov_replica_check(&f->r);
}

/* More wait for one operation than a call judges, and wait again for another: each call judges as
 * many as it may, and says that some are left. */
static void test_bound_of_a_call(void **state) {
    fixture *f = *state;
    enum { COUNT = GOV_RECEIVE_OPS_MAX + GOV_RECEIVE_OPS_MAX / 2 };
    gov_packet first = create_op(f, &f->w.owner, &f->genesis.id, f->group);
    gov_packet second = create_op(f, &f->w.owner, &f->genesis.id, (cal_group_id){{0x92}});
    const cal_hash parents[] = {first.id, second.id};
    const gov_packet *arrivals[] = {&first, &second};
    gov_world w = f->w;
    take(f, &f->genesis, GOV_APPLIED, GOV_WHY_FINE);
    for (int i = 0; i < COUNT; i++) {
        gov_change *change;
        gov_verified *op;
        gov_packet p = gov_world_root(&w, &w.owner.sign, parents, 2,
                                      (gov_root_op){.kind = GOV_POLICY_UPDATED});
        assert_int_equal(gov_verify(cal_buffer_slice(&p.bytes), &op), 0);
        assert_int_equal(gov_receive(f->r.gov, &f->w.ns, &op, 1, 1, &change, &f->r.err), 0);
        gov_change_commit(change); /* nothing to store */
        gov_packet_free(&p);
    }
    for (int i = 0; i < 2; i++) { /* all wait again, then all apply */
        size_t left = COUNT - (GOV_RECEIVE_OPS_MAX - 1);
        take(f, arrivals[i], GOV_APPLIED, GOV_WHY_FINE);
        assert_true(gov_receive_pending(f->r.gov, &f->w.ns));
        assert_int_equal(gov_waiting(f->r.gov, &f->w.ns).count, i ? left : COUNT);
        gov_replica_commit(&f->r, gov_replica_receive(&f->r, &f->w.ns, NULL, 0));
        assert_false(gov_receive_pending(f->r.gov, &f->w.ns));
        assert_int_equal(gov_waiting(f->r.gov, &f->w.ns).count, i ? 0 : COUNT);
    }
    assert_int_equal(sequence(f), COUNT + 3);
    gov_packet_free(&first);
    gov_packet_free(&second);
}

/* Operations without parents, until the namespace has all the heads it may have. */
static void fill_heads(fixture *f, cal_hash *heads) {
    gov_change *change;
    assert_int_equal(gov_change_begin(f->r.gov, &f->w.ns, &change, &f->r.err), 0);
    heads[0] = f->invite.id;
    for (size_t i = 1; i < GOV_HEADS_MAX; i++) {
        gov_signed_op op = {
            .namespace_id = f->w.ns, .nonce = i, .op = {.root = {.kind = GOV_POLICY_UPDATED}}};
        gov_noted noted = {.op = &op, .effect = GOV_EFFECT_FULL, .author = &f->w.owner.account};
        cal_buffer bytes;
        cal_buffer_init(&bytes, GOV_OP_MAX);
        assert_int_equal(gov_signed_op_sign(&op, &f->w.owner.sign, &bytes, &noted.id), 0);
        noted.bytes = cal_buffer_slice(&bytes);
        assert_int_equal(gov_graph_note(change, &noted, &f->r.err), 0);
        heads[i] = noted.id;
        cal_buffer_deinit(&bytes);
    }
    assert_int_equal(gov_change_finish(change, 0, &change, &f->r.err), 0);
    gov_replica_commit(&f->r, change);
}

/* One head too many waits until others are gone. */
static void test_fewer_heads(void **state) {
    fixture *f = *state;
    cal_hash *heads = calloc(GOV_HEADS_MAX, sizeof *heads);
    take(f, &f->genesis, GOV_APPLIED, GOV_WHY_FINE);
    take(f, &f->invite, GOV_APPLIED, GOV_WHY_FINE);
    fill_heads(f, heads);
    gov_packet more = create_op(f, &f->w.owner, &f->genesis.id, f->group);
    gov_packet merge = gov_world_root(&f->w, &f->w.owner.sign, heads, GOV_HEADS_MAX,
                                      (gov_root_op){.kind = GOV_POLICY_UPDATED});
    take(f, &more, GOV_WAITING, GOV_WHY_CROWDED);
    assert_false(gov_receive_pending(f->r.gov, &f->w.ns));
    take(f, &merge, GOV_APPLIED, GOV_WHY_FINE);
    assert_true(gov_receive_pending(f->r.gov, &f->w.ns));
    gov_replica_commit(&f->r, gov_replica_receive(&f->r, &f->w.ns, NULL, 0));
    assert_true(has_group(f, &f->group));
    assert_int_equal(gov_waiting(f->r.gov, &f->w.ns).count, 0);
    gov_replica_check(&f->r);
    gov_packet_free(&more);
    gov_packet_free(&merge);
    free(heads);
}

/* The same verdicts from threads. */
typedef struct {
    pthread_t thread;
    const gov_packet *packet;
    gov_verified *op;
} worker;

static void *verify_on_thread(void *user) {
    worker *w = user;
    return gov_verify(cal_buffer_slice(&w->packet->bytes), &w->op) ? w : NULL;
}

static void test_verified_on_threads(void **state) {
    fixture *f = *state;
    enum { COUNT = 8 };
    worker workers[COUNT];
    gov_verified *ops[COUNT];
    gov_packet packets[COUNT];
    gov_change *change;
    cal_hash parent = f->genesis.id;
    packets[0] = f->genesis;
    for (uint8_t i = 1; i < COUNT; i++) {
        packets[i] = create_op(f, &f->w.owner, &parent, (cal_group_id){{i}});
        parent = packets[i].id;
    }
    packets[COUNT - 1].bytes.data[40] ^= 1; /* inside what is signed */
    for (int i = 0; i < COUNT; i++) {
        workers[i].packet = &packets[i];
        assert_int_equal(pthread_create(&workers[i].thread, NULL, verify_on_thread, &workers[i]),
                         0);
    }
    for (int i = 0; i < COUNT; i++) {
        void *failed;
        pthread_join(workers[i].thread, &failed);
        assert_null(failed);
        ops[i] = workers[i].op;
        assert_int_equal(gov_verified_reason(ops[i]),
                         i == COUNT - 1 ? GOV_WHY_SIGNATURE : GOV_WHY_FINE);
    }
    assert_int_equal(gov_receive(f->r.gov, &f->w.ns, ops, COUNT, 1, &change, &f->r.err), 0);
    gov_replica_commit(&f->r, change);
    assert_int_equal(sequence(f), COUNT - 1);
    for (int i = 1; i < COUNT; i++) gov_packet_free(&packets[i]);
}

/* Our own operation that would be kept without effect is an error, and nothing of it stays. */
static void test_own_must_apply(void **state) {
    fixture *f = *state;
    gov_change *change;
    take(f, &f->genesis, GOV_APPLIED, GOV_WHY_FINE);
    gov_replica_key(&f->r, &f->w.ns, &f->w.ns, &f->w.ns_key);
    gov_group_spec spec = {.parent = f->w.ns};
    cal_group_id id;
    assert_int_equal(gov_group_create(f->r.gov, &spec, &id, &change, &f->r.err), CAL_EDENIED);
    assert_string_equal(f->r.err.message, gov_reason_text(GOV_WHY_NO_CREATE_GROUP));
    assert_int_equal(gov_group_set_default_capabilities(f->r.gov, &f->w.ns, 1, &change, &f->r.err),
                     CAL_EDENIED);
    assert_int_equal(sequence(f), 1);
    gov_replica_check(&f->r);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_any_order),           T(test_abort),          T(test_no_orphans),
        T(test_parents_arrive),      T(test_key_arrives),    T(test_nobody_crowds_out),
        T(test_verified_on_threads), T(test_own_must_apply), T(test_most_of_what_is_short),
        T(test_waiting_takes_no_id), T(test_fewer_heads),    T(test_bound_of_a_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
