/* Operations beside one another, in every order of arrival: the same verdicts and the same rows
 * (governance.md 18.1, T36). */
#include "support/gov_world.h"

enum { SET_MAX = 6 };

typedef struct {
    gov_replica r;
    gov_world w;
    gov_actor alice, bob, carol, dave; /* members; carol and dave are admins */
    cal_group_id open, shut;           /* carol's */
    cal_context_id context;            /* in the namespace */
    cal_hash base;                     /* the one head that all cite */
    gov_packet set[SET_MAX];
    size_t count;
} fixture;

static void step(fixture *f, gov_packet p) {
    gov_receipt receipt = gov_replica_take(&f->r, &f->w.ns, &p);
    if (receipt.reason != GOV_WHY_FINE) fail_msg("%s", gov_reason_name(receipt.reason));
    f->base = p.id;
    gov_packet_free(&p);
}

static gov_packet clear(fixture *f, const gov_actor *by, gov_root_op op) {
    return gov_world_root(&f->w, &by->sign, &f->base, 1, op);
}

static gov_packet in(fixture *f, cal_group_id group, const gov_actor *by, gov_group_op op) {
    return gov_world_group(&f->w, &by->sign, &f->base, 1, group, op);
}

static gov_group_op about(uint8_t kind, const gov_actor *who, uint8_t role) {
    return (gov_group_op){.kind = kind, .account = who->account, .role = role};
}

static gov_group_op named(uint8_t kind, const char *name) {
    return (gov_group_op){.kind = kind, .name = {true, cal_slice_text(name)}};
}

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    gov_replica_start(&f->r);
    gov_world_init(&f->w, 1);
    gov_actor *const actors[] = {&f->alice, &f->bob, &f->carol, &f->dave};
    memset(f->open.bytes, 0xD1, 32);
    memset(f->shut.bytes, 0xD2, 32);
    memset(f->context.bytes, 0xD3, 32);
    step(f, gov_world_genesis(&f->w));
    gov_replica_key(&f->r, &f->w.ns, &f->w.ns, &f->w.ns_key);
    for (uint8_t i = 0; i < 4; i++) {
        gov_actor_make(actors[i], (uint8_t)(0x10 * (i + 1)));
        if (i != 1) /* bob comes later */
            step(f, clear(f, actors[i], gov_world_join(actors[i], &f->w.owner, f->w.ns, 1, 1)));
        if (i > 1)
            step(f, in(f, f->w.ns, &f->w.owner,
                       about(GOV_MEMBER_ROLE_SET, actors[i], GOV_ROLE_ADMIN)));
    }
    for (int i = 0; i < 2; i++)
        step(f, clear(f, &f->carol,
                      (gov_root_op){.kind = GOV_GROUP_CREATED,
                                    .group = i ? f->shut : f->open,
                                    .parent = f->w.ns,
                                    .restricted = i,
                                    .account = f->carol.account}));
    step(f, in(f, f->shut, &f->carol, about(GOV_MEMBER_ADDED, &f->alice, GOV_ROLE_MEMBER)));
    step(f, in(f, f->w.ns, &f->w.owner,
               (gov_group_op){.kind = GOV_CONTEXT_REGISTERED, .context = f->context}));
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    for (size_t i = 0; i < f->count; i++) gov_packet_free(&f->set[i]);
    gov_replica_check(&f->r);
    gov_replica_stop(&f->r);
    free(f);
    return 0;
}

static void add(fixture *f, gov_packet p) {
    assert_true(f->count < SET_MAX);
    f->set[f->count++] = p;
}

/* The rows that a change would leave, without clocks and local numbers. */
static void dump(const gov_change *change, cal_buffer *out) {
    gov_view view = gov_change_view(change);
    for (int kind = 1; kind < 256; kind++) {
        gov_walk walk = gov_walk_start(&view, (gov_row_kind)kind, NULL, NULL);
        cal_slice rest, value;
        if (kind == ROW_HEADS) continue;
        while (gov_walk_next(&walk, &rest, &value)) {
            size_t from =
                kind == ROW_GROUP_DATA || kind == ROW_MEMBER_DATA || kind == ROW_CONTEXT_DATA ? 8
                                                                                              : 0;
            size_t len = kind == ROW_META ? value.len - 8 : kind == ROW_KEY ? 32 : value.len;
            if (kind == ROW_KEY_EPOCH) len = 8;
            if (kind == ROW_DEVICE_GONE) len = 0; /* numbers are of the order of arrival */
            cal_buffer_append_u8(out, (uint8_t)kind);
            cal_buffer_append_slice(out, rest);
            cal_buffer_append(out, value.data + from, len - from);
        }
    }
}

static void next_order(size_t *order, size_t count) {
    size_t i = count - 1, j = count - 1;
    while (i > 0 && order[i - 1] >= order[i]) i--;
    if (i == 0) return;
    while (order[j] <= order[i - 1]) j--;
    size_t swap = order[i - 1];
    order[i - 1] = order[j];
    order[j] = swap;
    for (j = count - 1; i < j; i++, j--) {
        swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
}

/* All orders in one change each; then some, operation by operation, stored. */
static void every_order(fixture *f, size_t applied) {
    size_t order[SET_MAX], orders = 1, receipts_count;
    gov_reason first[SET_MAX];
    cal_buffer rows, other;
    cal_buffer_init(&rows, 1 << 20);
    cal_buffer_init(&other, 1 << 20);
    for (size_t i = 0; i < f->count; i++) {
        order[i] = i;
        orders *= i + 1;
    }
    for (size_t n = 0; n < orders; n++, next_order(order, f->count)) {
        const gov_packet *packets[SET_MAX];
        size_t fine = 0;
        for (size_t i = 0; i < f->count; i++) packets[i] = &f->set[order[i]];
        gov_change *change = gov_replica_receive(&f->r, &f->w.ns, packets, f->count);
        const gov_receipt *receipts = gov_change_receipts(change, &receipts_count);
        for (size_t i = 0; i < f->count; i++) {
            fine += receipts[i].reason == GOV_WHY_FINE;
            if (n == 0)
                first[order[i]] = receipts[i].reason;
            else if (receipts[i].reason != first[order[i]])
                fail_msg("operation %zu, order %zu: %s, and %s before", order[i], n,
                         gov_reason_name(receipts[i].reason), gov_reason_name(first[order[i]]));
        }
        assert_int_equal(fine, applied);
        cal_buffer_reset(&other);
        dump(change, n ? &other : &rows);
        if (n && !cal_slice_equal(cal_buffer_slice(&rows), cal_buffer_slice(&other)))
            fail_msg("order %zu (%zu %zu %zu...) gives other rows", n, order[0], order[1],
                     order[2]);
        gov_change_abort(change);
    }
    for (size_t i = 0; i < f->count; i++) gov_replica_take(&f->r, &f->w.ns, &f->set[i]);
    gov_replica_reopen(&f->r);
    gov_change *change = gov_replica_receive(&f->r, &f->w.ns, NULL, 0);
    cal_buffer_reset(&other);
    dump(change, &other);
    gov_change_abort(change);
    assert_true(cal_slice_equal(cal_buffer_slice(&rows), cal_buffer_slice(&other)));
    cal_buffer_deinit(&rows);
    cal_buffer_deinit(&other);
}

static void test_members(void **state) {
    fixture *f = *state;
    cal_group_id ns = f->w.ns;
    add(f, in(f, ns, &f->w.owner, about(GOV_MEMBER_ROLE_SET, &f->alice, GOV_ROLE_READ_ONLY)));
    add(f, in(f, ns, &f->carol, about(GOV_MEMBER_ROLE_SET, &f->alice, GOV_ROLE_ADMIN)));
    add(f, in(f, ns, &f->dave, about(GOV_MEMBER_REMOVED, &f->alice, 0)));
    gov_group_op rights = about(GOV_MEMBER_CAPABILITY_SET, &f->alice, 0);
    rights.capabilities = 0x1f;
    add(f, in(f, ns, &f->w.owner, rights));
    gov_group_op own = named(GOV_MEMBER_METADATA_SET, "alice");
    own.account = f->alice.account;
    add(f, in(f, ns, &f->alice, own));
    every_order(f, 5);
}

static void test_members_removed(void **state) {
    fixture *f = *state;
    cal_group_id ns = f->w.ns;
    add(f, in(f, ns, &f->dave, about(GOV_MEMBER_REMOVED, &f->alice, 0)));
    add(f, in(f, ns, &f->alice, about(GOV_MEMBER_LEFT, &f->alice, 0)));
    gov_group_op rights = about(GOV_MEMBER_CAPABILITY_SET, &f->alice, 0);
    rights.capabilities = 0x1f;
    add(f, in(f, ns, &f->w.owner, rights));
    add(f, in(f, f->shut, &f->carol, about(GOV_MEMBER_ROLE_SET, &f->alice, GOV_ROLE_READ_ONLY)));
    every_order(f, 4);
}

static void test_newcomer(void **state) {
    fixture *f = *state;
    cal_group_id ns = f->w.ns;
    add(f, clear(f, &f->bob, gov_world_join(&f->bob, &f->w.owner, ns, 1, 7)));
    add(f, clear(f, &f->bob, gov_world_join(&f->bob, &f->carol, ns, 2, 8)));
    add(f, in(f, ns, &f->dave, about(GOV_MEMBER_ADDED, &f->bob, GOV_ROLE_READ_ONLY)));
    add(f, in(f, ns, &f->carol, about(GOV_MEMBER_ADDED, &f->bob, GOV_ROLE_ADMIN)));
    gov_group_op rights = about(GOV_MEMBER_CAPABILITY_SET, &f->bob, 0);
    rights.capabilities = 0x1f;
    add(f, in(f, ns, &f->w.owner, rights));
    every_order(f, 5);
}

static void test_settings(void **state) {
    fixture *f = *state;
    for (uint32_t i = 0; i < 2; i++) {
        const gov_actor *by = i ? &f->carol : &f->dave;
        add(f, in(f, f->w.ns, by,
                  (gov_group_op){.kind = GOV_DEFAULT_CAPABILITIES_SET, .capabilities = 5 + i}));
        add(f, in(f, f->open, by,
                  (gov_group_op){.kind = GOV_VISIBILITY_SET, .visibility = (uint8_t)i}));
        add(f, in(f, f->w.ns, by,
                  (gov_group_op){.kind = GOV_TARGET_APPLICATION_SET,
                                 .application = {{(uint8_t)(1 + i)}},
                                 .app_key = {{(uint8_t)(3 + i)}}}));
    }
    every_order(f, 6);
}

/* What a member follows is the last setting's by rank, and none of its role's. */
static void test_following(void **state) {
    fixture *f = *state;
    const gov_actor *by[] = {&f->carol, &f->dave, &f->alice};
    for (int i = 0; i < 3; i++)
        add(f, in(f, f->w.ns, by[i],
                  (gov_group_op){.kind = GOV_AUTO_FOLLOW_SET,
                                 .account = f->alice.account,
                                 .follow_contexts = i == 0,
                                 .follow_subgroups = i == 1}));
    add(f, in(f, f->w.ns, &f->carol, about(GOV_MEMBER_ROLE_SET, &f->alice, GOV_ROLE_READ_ONLY)));
    every_order(f, 4);
}

static void test_names(void **state) {
    fixture *f = *state;
    cal_group_id ns = f->w.ns;
    add(f, in(f, ns, &f->carol, named(GOV_GROUP_METADATA_SET, "one")));
    add(f, in(f, ns, &f->dave, named(GOV_GROUP_METADATA_SET, "two")));
    gov_group_op context = named(GOV_CONTEXT_METADATA_SET, "three");
    context.context = f->context;
    add(f, in(f, ns, &f->carol, context));
    context.name.bytes = cal_slice_text("four");
    add(f, in(f, ns, &f->dave, context));
    add(f, in(f, ns, &f->dave,
              (gov_group_op){.kind = GOV_MIGRATION_SET,
                             .migration = {true, cal_slice_text("steps")}}));
    every_order(f, 5);
}

static void test_owners(void **state) {
    fixture *f = *state;
    cal_group_id ns = f->w.ns;
    add(f, in(f, ns, &f->w.owner, about(GOV_OWNERSHIP_TRANSFERRED, &f->carol, 0)));
    add(f, in(f, ns, &f->w.owner, about(GOV_OWNERSHIP_TRANSFERRED, &f->dave, 0)));
    add(f, in(f, f->open, &f->w.owner, about(GOV_MEMBER_ADDED, &f->dave, GOV_ROLE_ADMIN)));
    add(f, in(f, f->shut, &f->carol, about(GOV_MEMBER_ADDED, &f->dave, GOV_ROLE_ADMIN)));
    add(f, in(f, f->w.ns, &f->carol, about(GOV_MEMBER_ROLE_SET, &f->alice, GOV_ROLE_READ_ONLY)));
    every_order(f, 5);
}

static void test_moves(void **state) {
    fixture *f = *state;
    cal_group_id other = {{0xD7}};
    step(f, clear(f, &f->w.owner,
                  (gov_root_op){.kind = GOV_GROUP_CREATED,
                                .group = other,
                                .parent = f->w.ns,
                                .restricted = true,
                                .account = f->w.owner.account}));
    gov_root_op move = {.kind = GOV_GROUP_REPARENTED, .group = f->shut, .parent = f->open};
    add(f, clear(f, &f->carol, move));
    move.parent = other;
    add(f, clear(f, &f->dave, move));
    move.parent = f->w.ns;
    add(f, clear(f, &f->w.owner, move));
    add(f, in(f, f->shut, &f->carol, (gov_group_op){.kind = GOV_VISIBILITY_SET, .visibility = 0}));
    every_order(f, 4);
}

static void test_accounts(void **state) {
    fixture *f = *state;
    cal_group_id ns = f->w.ns;
    for (uint8_t i = 0; i < 2; i++) { /* two handoffs at once: everybody takes the same */
        cal_secret next = {{0}};
        gov_group_op rotate = {.kind = GOV_ACCOUNT_KEYS_ROTATED,
                               .handoff = {.account = f->alice.account}};
        memset(next.bytes, 0x60 + i, 32);
        cal_sign_public_key(&next, rotate.handoff.new_root_key);
        gov_handoff_sign(&rotate.handoff, &f->alice.root);
        add(f, in(f, ns, &f->alice, rotate));
    }
    for (uint8_t i = 0; i < 2; i++) { /* two certificates of one device */
        gov_group_op link = {.kind = GOV_DEVICE_LINKED,
                             .genesis = f->carol.credential.genesis,
                             .cert = f->carol.credential.cert};
        cal_secret next = {{0}};
        memset(next.bytes, 0x70 + i, 32);
        cal_sign_public_key(&next, link.cert.sign_key);
        link.cert.device_epoch = 1 + i;
        gov_cert_sign(&link.cert, &f->carol.root);
        link.endorsement.account = f->carol.account;
        memcpy(link.endorsement.member_key, f->carol.key, 32);
        gov_endorsement_sign(&link.endorsement, &f->carol.sign);
        add(f, in(f, ns, &f->carol, link));
    }
    gov_group_op gone = {.kind = GOV_DEVICE_UNLINKED, .account = f->alice.account};
    gone.device = f->alice.device;
    add(f, in(f, ns, &f->dave, gone));
    every_order(f, 5);
}

/* What is sealed with a key that comes last has lost by then what it would have lost in time. */
static void test_late_key(void **state) {
    fixture *f = *state;
    cal_secret key = {{0x5B}};
    gov_group_op op = {.kind = GOV_DEFAULT_CAPABILITIES_SET, .capabilities = 0x11};
    gov_packet sealed = gov_world_sealed(&f->w, &f->carol.sign, &f->base, 1, f->shut, &key, op);
    step(f,
         sealed.bytes.len ? in(f, f->w.ns, &f->carol, (gov_group_op){.kind = GOV_NOOP}) : sealed);
    gov_receipt receipt = gov_replica_take(&f->r, &f->w.ns, &sealed);
    assert_int_equal(receipt.reason, GOV_WHY_SEALED);
    gov_group_op later = {.kind = GOV_DEFAULT_CAPABILITIES_SET, .capabilities = 0x22};
    gov_packet after = in(f, f->shut, &f->carol, later);
    cal_hash chain = after.id;
    receipt = gov_replica_take(&f->r, &f->w.ns, &after);
    assert_int_equal(receipt.reason, GOV_WHY_FINE); /* its cut does not have the sealed one */
    gov_replica_key(&f->r, &f->w.ns, &f->shut, &key);
    gov_group_info info;
    assert_int_equal(gov_group_get(f->r.gov, &f->shut, &info), 0);
    assert_int_equal(info.default_capabilities, 0x22);
    (void)chain;
    gov_packet_free(&sealed);
    gov_packet_free(&after);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_members),  T(test_members_removed), T(test_newcomer), T(test_settings),
        T(test_names),    T(test_owners),          T(test_moves),    T(test_accounts),
        T(test_late_key), T(test_following),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
