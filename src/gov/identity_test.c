/* Two namespaces on one node that try to take each other's groups, contexts and keys (governance.md
 * 18.1, T26): by every kind of operation, aborted, stored, and after a crash. */
#include "support/gov_world.h"

typedef struct {
    gov_replica r;
    gov_world mine, theirs;
    cal_group_id group, own_group; /* of mine; of theirs */
    cal_context_id context, own_context;
    cal_secret group_key, planted;
    cal_hash mine_last, last; /* heads; last is theirs */
    cal_buffer before;        /* rows of mine */
} fixture;

static void step(fixture *f, gov_world *w, cal_hash *last, gov_packet p) {
    gov_receipt receipt = gov_replica_take(&f->r, &w->ns, &p);
    if (receipt.reason != GOV_WHY_FINE) fail_msg("%s", gov_reason_name(receipt.reason));
    *last = p.id;
    gov_packet_free(&p);
}

static gov_root_op creation(const gov_world *w, cal_group_id group, cal_group_id parent) {
    return (gov_root_op){.kind = GOV_GROUP_CREATED,
                         .group = group,
                         .parent = parent,
                         .restricted = true,
                         .account = w->owner.account};
}

static gov_packet root_op(gov_world *w, const cal_hash *last, gov_root_op op) {
    return gov_world_root(w, &w->owner.sign, last, 1, op);
}

static gov_packet group_op(gov_world *w, const cal_hash *last, cal_group_id group,
                           gov_group_op op) {
    return gov_world_group(w, &w->owner.sign, last, 1, group, op);
}

static void found(fixture *f, gov_world *w, cal_hash *last, cal_group_id group,
                  cal_context_id context) {
    step(f, w, last, gov_world_genesis(w));
    gov_replica_key(&f->r, &w->ns, &w->ns, &w->ns_key);
    step(f, w, last, root_op(w, last, creation(w, group, w->ns)));
    step(f, w, last,
         group_op(w, last, group,
                  (gov_group_op){.kind = GOV_CONTEXT_REGISTERED, .context = context}));
}

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    gov_replica_start(&f->r);
    gov_world_init(&f->mine, 0x10);
    gov_world_init(&f->theirs, 0x40);
    memset(f->group.bytes, 0xA1, 32);
    memset(f->own_group.bytes, 0xA2, 32);
    memset(f->context.bytes, 0xA3, 32);
    memset(f->own_context.bytes, 0xA4, 32);
    memset(f->group_key.bytes, 0xA5, 32);
    memset(f->planted.bytes, 0xA6, 32);
    found(f, &f->mine, &f->mine_last, f->group, f->context);
    found(f, &f->theirs, &f->last, f->own_group, f->own_context);
    gov_replica_key(&f->r, &f->mine.ns, &f->group, &f->group_key);
    cal_buffer_init(&f->before, 1 << 20);
    gov_world_dump(&f->r, &f->mine.ns, &f->before);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    gov_replica_check(&f->r);
    gov_replica_stop(&f->r);
    cal_buffer_deinit(&f->before);
    free(f);
    return 0;
}

/* Everything of mine is as it was, and is found where it was. */
static void untouched(fixture *f) {
    cal_buffer now;
    cal_group_id group, ns;
    gov_view view;
    gov_group_key key;
    cal_hash id;
    cal_buffer_init(&now, 1 << 20);
    gov_world_dump(&f->r, &f->mine.ns, &now);
    assert_int_equal(now.len, f->before.len);
    assert_memory_equal(now.data, f->before.data, now.len);
    cal_buffer_deinit(&now);
    assert_int_equal(gov_group_namespace(f->r.gov, &f->group, &ns), 0);
    assert_memory_equal(&ns, &f->mine.ns, 32);
    assert_int_equal(gov_context_group(f->r.gov, &f->context, &group, &ns), 0);
    assert_memory_equal(&group, &f->group, 32);
    assert_memory_equal(&ns, &f->mine.ns, 32);
    gov_find_group(f->r.gov, &f->group, &view);
    assert_true(gov_key_current(&view, &f->group, &key));
    gov_key_id(&f->group_key, &id);
    assert_memory_equal(&key.id, &id, 32);
    view = gov_replica_view(&f->r, &f->theirs.ns);
    assert_false(gov_key_current(&view, &f->group, &key));
    assert_false(gov_meta_get(&view, &f->group, NULL));
    gov_key where = gov_key_of(ROW_CONTEXT_GROUP, f->context.bytes, NULL, NULL);
    assert_false(gov_view_get(&view, &where, NULL));
}

/* An operation of theirs: aborted, then stored, then after a crash. */
static void attempt(fixture *f, gov_packet p, const char *what, gov_reason reason) {
    const gov_packet *packet = &p;
    size_t count;
    gov_change *change = gov_replica_receive(&f->r, &f->theirs.ns, &packet, 1);
    gov_change_abort(change);
    untouched(f);
    change = gov_replica_receive(&f->r, &f->theirs.ns, &packet, 1);
    gov_receipt receipt = gov_change_receipts(change, &count)[0];
    if (receipt.reason != reason)
        fail_msg("%s: %s instead of %s", what, gov_reason_name(receipt.reason),
                 gov_reason_name(reason));
    assert_int_equal(receipt.verdict, GOV_KEPT);
    gov_replica_commit(&f->r, change);
    untouched(f);
    f->last = p.id; /* what comes next cites it, and is no orphan */
    gov_packet_free(&p);
}

static void test_clear_operations(void **state) {
    fixture *f = *state;
    gov_world *w = &f->theirs;
    const gov_identity *self = gov_self(f->r.gov);
    cal_group_id fresh = {{0x77}};
    attempt(f, root_op(w, &f->last, creation(w, f->group, w->ns)), "created", GOV_WHY_GROUP_TAKEN);
    attempt(f, root_op(w, &f->last, creation(w, f->mine.ns, w->ns)), "created as the namespace",
            GOV_WHY_GROUP_TAKEN);
    attempt(f, root_op(w, &f->last, creation(w, w->ns, w->ns)), "created as their own namespace",
            GOV_WHY_GROUP_TAKEN);
    attempt(f, root_op(w, &f->last, creation(w, f->own_group, w->ns)), "created twice",
            GOV_WHY_GROUP_TAKEN);
    attempt(f, root_op(w, &f->last, creation(w, fresh, f->group)), "created below",
            GOV_WHY_NO_PARENT_GROUP);
    gov_root_op op = {.kind = GOV_GROUP_REPARENTED, .group = f->group, .parent = w->ns};
    attempt(f, root_op(w, &f->last, op), "moved", GOV_WHY_NO_GROUP);
    op = (gov_root_op){.kind = GOV_GROUP_REPARENTED, .group = f->own_group, .parent = f->group};
    attempt(f, root_op(w, &f->last, op), "moved below", GOV_WHY_NO_PARENT_GROUP);
    cal_hash context;
    memcpy(context.bytes, f->context.bytes, 32);
    op = (gov_root_op){.kind = GOV_GROUP_DELETED, .group = f->group, .contexts = {&context, 1}};
    attempt(f, root_op(w, &f->last, op), "deleted", GOV_WHY_NO_GROUP);
    op.group = f->mine.ns;
    attempt(f, root_op(w, &f->last, op), "the namespace deleted", GOV_WHY_NO_GROUP);
    op = gov_world_join(&w->owner, &w->owner, f->group, 0, 1);
    attempt(f, root_op(w, &f->last, op), "joined", GOV_WHY_NO_GROUP);
    op.kind = GOV_MEMBER_JOINED;
    op.invitation.expires_at_s = 0;
    gov_invitation_sign(&op.invitation, &w->owner.sign);
    attempt(f, root_op(w, &f->last, op), "joined without a time", GOV_WHY_NO_GROUP);
    op = (gov_root_op){.kind = GOV_MEMBER_JOINED_OPEN,
                       .account = w->owner.account,
                       .group = f->group,
                       .credential = w->owner.credential};
    attempt(f, root_op(w, &f->last, op), "joined as if open", GOV_WHY_NO_GROUP);
    op.kind = GOV_MEMBER_JOINED_TEE;
    op.role = GOV_ROLE_READ_ONLY_TEE;
    memcpy(op.member_key, w->owner.key, 32);
    attempt(f, root_op(w, &f->last, op), "attested", GOV_WHY_ATTESTED);
    op = (gov_root_op){.kind = GOV_KEY_DELIVERY, .group = f->group};
    assert_int_equal(gov_envelope_seal_device(cal_os_posix(), &f->group, &f->planted, &self->device,
                                              self->kem_key, &w->owner.sign, NULL, NULL,
                                              &op.envelope),
                     0);
    attempt(f, root_op(w, &f->last, op), "a key", GOV_WHY_KEY_STRANGER);
    gov_replica_reopen(&f->r);
    untouched(f);
}

static void test_sealed_operations(void **state) {
    fixture *f = *state;
    gov_world *w = &f->theirs;
    for (uint8_t kind = 0; kind < GOV_GROUP_KIND_COUNT; kind++) {
        gov_group_op op = {.kind = kind,
                           .account = w->owner.account,
                           .context = f->context,
                           .mask = 1,
                           .hlc = {.id = {1, 0}},
                           .device = w->owner.device};
        attempt(f, group_op(w, &f->last, f->group, op), gov_group_kind_text(kind),
                GOV_WHY_NO_GROUP);
        /* sealed with the other namespace's key, which this one does not have */
        attempt(f, gov_world_sealed(w, &w->owner.sign, &f->last, 1, f->group, &f->group_key, op),
                gov_group_kind_text(kind), GOV_WHY_NO_GROUP);
    }
    static const struct {
        uint8_t kind;
        gov_reason reason;
    } contexts[] = {
        {GOV_CONTEXT_REGISTERED, GOV_WHY_CONTEXT_TAKEN},
        {GOV_CONTEXT_DETACHED, GOV_WHY_NO_CONTEXT},
        {GOV_CONTEXT_METADATA_SET, GOV_WHY_NO_CONTEXT},
        {GOV_CONTEXT_CAPABILITY_GRANTED, GOV_WHY_NO_CONTEXT},
        {GOV_CONTEXT_CAPABILITY_REVOKED, GOV_WHY_NO_CONTEXT},
    };
    for (size_t i = 0; i < sizeof contexts / sizeof *contexts; i++) {
        gov_group_op op = {.kind = contexts[i].kind,
                           .account = w->owner.account,
                           .context = f->context,
                           .mask = 1};
        attempt(f, group_op(w, &f->last, f->own_group, op), gov_group_kind_text(op.kind),
                contexts[i].reason);
        attempt(f, group_op(w, &f->last, w->ns, op), gov_group_kind_text(op.kind),
                contexts[i].reason);
    }
    gov_group_op twice = {.kind = GOV_CONTEXT_REGISTERED, .context = f->own_context};
    attempt(f, group_op(w, &f->last, f->own_group, twice), "registered twice",
            GOV_WHY_CONTEXT_TAKEN);
    attempt(f, group_op(w, &f->last, w->ns, twice), "registered in two groups",
            GOV_WHY_CONTEXT_TAKEN);
    gov_replica_reopen(&f->r);
    untouched(f);
}

/* A rotation rides beside an operation that names a group of another namespace, or one of their own
 * with an envelope made for the other's group. */
static void test_rotations(void **state) {
    fixture *f = *state;
    gov_world *w = &f->theirs;
    const gov_identity *self = gov_self(f->r.gov);
    gov_group_op plain = {.kind = GOV_KEY_ROTATED, .account = w->owner.account};
    for (int own = 0; own < 2; own++) {
        gov_op op = {.group = true, .group_id = own ? f->own_group : f->group};
        gov_envelope envelope;
        cal_buffer bytes;
        cal_buffer_init(&bytes, 4096);
        gov_key_id(&w->ns_key, &op.key_id);
        assert_int_equal(gov_group_op_seal(&plain, &w->ns_key, op.nonce, &bytes), 0);
        op.sealed = cal_buffer_slice(&bytes);
        assert_int_equal(gov_envelope_seal_device(cal_os_posix(), &f->group, &f->planted,
                                                  &self->device, self->kem_key, &w->owner.sign,
                                                  NULL, NULL, &envelope),
                         0);
        envelope.sealed = cal_slice_of(envelope.sealed_bytes, sizeof envelope.sealed_bytes);
        op.rotation = (gov_rotation){.present = true, .envelopes = &envelope, .count = 1};
        gov_key_id(&f->planted, &op.rotation.new_key_id);
        gov_packet p = gov_world_sign(w, &w->owner.sign, &f->last, 1, op);
        gov_receipt receipt = gov_replica_take(&f->r, &w->ns, &p);
        assert_int_equal(receipt.reason, own ? GOV_WHY_FINE : GOV_WHY_NO_GROUP);
        f->last = p.id;
        untouched(f);
        gov_view view = gov_replica_view(&f->r, &w->ns);
        gov_group_key key;
        assert_false(gov_key_current(&view, &f->own_group, &key));
        gov_packet_free(&p);
        cal_buffer_deinit(&bytes);
    }
}

/* --- two changes open at once --- */

typedef struct {
    const char *what;
    bool group; /* or a context */
    bool commit;
} race;

/* Mine is storing the object when theirs comes: it waits for the end of that. */
static void run_race(fixture *f, race with) {
    cal_group_id group;
    cal_context_id context;
    memset(group.bytes, with.commit ? 0xB1 : 0xB2, 32);
    memset(context.bytes, with.commit ? 0xB3 : 0xB4, 32);
    gov_group_op registration = {.kind = GOV_CONTEXT_REGISTERED, .context = context};
    gov_packet first = with.group
                           ? root_op(&f->mine, &f->mine_last, creation(&f->mine, group, f->mine.ns))
                           : group_op(&f->mine, &f->mine_last, f->group, registration);
    gov_packet second =
        with.group ? root_op(&f->theirs, &f->last, creation(&f->theirs, group, f->theirs.ns))
                   : group_op(&f->theirs, &f->last, f->own_group, registration);
    const gov_packet *packets[] = {&first, &second};
    gov_change *change = gov_replica_receive(&f->r, &f->mine.ns, &packets[0], 1), *other;
    gov_receipt receipt = gov_replica_take(&f->r, &f->theirs.ns, &second);
    assert_int_equal(receipt.reason, GOV_WHY_OBJECT_OPEN);
    assert_int_equal(receipt.verdict, GOV_WAITING);
    assert_int_equal(receipt.wait.kind, GOV_WAIT_OBJECT);
    cal_group_id ns;
    assert_int_equal(with.group ? gov_group_namespace(f->r.gov, &group, &ns)
                                : gov_context_group(f->r.gov, &context, NULL, &ns),
                     CAL_ENOTFOUND);
    assert_false(gov_receive_pending(f->r.gov, &f->theirs.ns));
    if (with.group) { /* nor can the node itself take it meanwhile */
        gov_namespace_spec spec = {.id = &group, .app_key = {{1}}};
        assert_int_equal(gov_namespace_create(f->r.gov, &spec, &ns, &other, &f->r.err),
                         CAL_EEXISTS);
    }
    if (with.commit)
        gov_replica_commit(&f->r, change);
    else
        gov_change_abort(change);
    assert_true(gov_receive_pending(f->r.gov, &f->theirs.ns));
    size_t count;
    other = gov_replica_receive(&f->r, &f->theirs.ns, NULL, 0);
    receipt = gov_change_receipts(other, &count)[0];
    assert_int_equal(count, 1);
    assert_int_equal(receipt.reason, !with.commit ? GOV_WHY_FINE
                                     : with.group ? GOV_WHY_GROUP_TAKEN
                                                  : GOV_WHY_CONTEXT_TAKEN);
    gov_replica_commit(&f->r, other);
    f->last = second.id;
    if (!with.commit) { /* theirs now: mine comes too late */
        receipt = gov_replica_take(&f->r, &f->mine.ns, &first);
        assert_int_equal(receipt.reason, with.group ? GOV_WHY_GROUP_TAKEN : GOV_WHY_CONTEXT_TAKEN);
    }
    f->mine_last = first.id;
    const cal_group_id *holder = with.commit ? &f->mine.ns : &f->theirs.ns;
    for (int again = 0; again < 2; again++) {
        if (with.group)
            assert_int_equal(gov_group_namespace(f->r.gov, &group, &ns), 0);
        else
            assert_int_equal(gov_context_group(f->r.gov, &context, NULL, &ns), 0);
        assert_memory_equal(&ns, holder, 32);
        gov_replica_reopen(&f->r);
    }
    gov_packet_free(&first);
    gov_packet_free(&second);
}

static void test_two_changes_at_once(void **state) {
    fixture *f = *state;
    static const race races[] = {{"group, stored", true, true},
                                 {"group, aborted", true, false},
                                 {"context, stored", false, true},
                                 {"context, aborted", false, false}};
    for (size_t i = 0; i < sizeof races / sizeof *races; i++) run_race(f, races[i]);
}

/* A namespace cannot be received under the id of another's group, and rows that say otherwise do
 * not open. */
static void test_namespace_as_group(void **state) {
    fixture *f = *state;
    gov_world thief;
    gov_verified *op;
    gov_change *change;
    gov_world_init(&thief, 0x60);
    thief.ns = f->group;
    gov_packet p = gov_world_genesis(&thief);
    assert_int_equal(gov_verify(cal_buffer_slice(&p.bytes), &op), 0);
    assert_int_equal(gov_receive(f->r.gov, &thief.ns, &op, 1, 1, &change, &f->r.err), CAL_EEXISTS);
    assert_non_null(op);
    gov_verified_free(op);
    untouched(f);
    gov_packet_free(&p);
}

static void test_rows_of_two_do_not_open(void **state) {
    fixture *f = *state;
    uint8_t key[32 + 1 + 32], value[136] = {0};
    memcpy(key, f->theirs.ns.bytes, 32);
    key[32] = ROW_META;
    memcpy(key + 33, f->group.bytes, 32);
    cal_batch *batch = cal_batch_new();
    cal_batch_put(batch, CAL_COLUMN_GROUP, cal_slice_of(key, sizeof key),
                  cal_slice_of(value, sizeof value));
    assert_int_equal(cal_store_commit(f->r.store, batch, &f->r.err), 0);
    gov_close(f->r.gov);
    assert_int_equal(gov_open(f->r.store, cal_os_posix(), &f->r.gov, &f->r.err), CAL_ECORRUPT);
    batch = cal_batch_new();
    cal_batch_delete(batch, CAL_COLUMN_GROUP, cal_slice_of(key, sizeof key));
    assert_int_equal(cal_store_commit(f->r.store, batch, &f->r.err), 0);
    assert_int_equal(gov_open(f->r.store, cal_os_posix(), &f->r.gov, &f->r.err), 0);
    untouched(f);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_clear_operations),    T(test_sealed_operations),  T(test_rotations),
        T(test_two_changes_at_once), T(test_namespace_as_group), T(test_rows_of_two_do_not_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
