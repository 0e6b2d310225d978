/* Rights given and taken beside an operation: what counts is what stood at the operation's cut, for
 * clear operations as for sealed ones (governance.md 7), whichever arrives first. Then what single
 * operations leave behind that no verdict tells. */
#include <time.h>

#include "support/gov_world.h"

typedef struct {
    gov_replica r;
    gov_world w;
    gov_actor falling, rising; /* lose and gain the namespace's administration beside the rest */
    cal_hash last;
} fixture;

static void step(fixture *f, gov_packet p) {
    gov_receipt receipt = gov_replica_take(&f->r, &f->w.ns, &p);
    if (receipt.reason != GOV_WHY_FINE) fail_msg("%s", gov_reason_name(receipt.reason));
    f->last = p.id;
    gov_packet_free(&p);
}

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static gov_packet by_owner(fixture *f, const cal_hash *cut, gov_group_op op) {
    return gov_world_sealed(&f->w, &f->w.owner.sign, cut, 1, f->w.ns, &f->w.ns_key, op);
}

static gov_group_op role_of(const gov_actor *who, gov_role role) {
    return (gov_group_op){
        .kind = GOV_MEMBER_ROLE_SET, .account = who->account, .role = (uint8_t)role};
}

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    gov_replica_start(&f->r);
    gov_world_init(&f->w, 1);
    gov_actor_make(&f->falling, 0x20);
    gov_actor_make(&f->rising, 0x30);
    step(f, gov_world_genesis(&f->w));
    gov_replica_key(&f->r, &f->w.ns, &f->w.ns, &f->w.ns_key);
    const gov_actor *actors[] = {&f->falling, &f->rising};
    for (int i = 0; i < 2; i++)
        step(f, gov_world_root(&f->w, &actors[i]->sign, &f->last, 1,
                               gov_world_join(actors[i], &f->w.owner, f->w.ns, 1, 1)));
    step(f, by_owner(f, &f->last, role_of(&f->falling, GOV_ROLE_ADMIN)));
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    gov_replica_check(&f->r);
    gov_replica_stop(&f->r);
    free(f);
    return 0;
}

/* What the actor tries at the cut: a clear operation, or a sealed one. */
static gov_packet attempt(fixture *f, const gov_actor *who, const cal_hash *cut, bool sealed) {
    if (sealed)
        return gov_world_sealed(
            &f->w, &who->sign, cut, 1, f->w.ns, &f->w.ns_key,
            (gov_group_op){.kind = GOV_DEFAULT_CAPABILITIES_SET, .capabilities = 3});
    return gov_world_root(&f->w, &who->sign, cut, 1, (gov_root_op){.kind = GOV_POLICY_UPDATED});
}

static void expect(fixture *f, gov_packet *p, gov_reason reason) {
    gov_receipt receipt = gov_replica_take(&f->r, &f->w.ns, p);
    if (receipt.reason != reason)
        fail_msg("%s instead of %s", gov_reason_name(receipt.reason), gov_reason_name(reason));
    gov_packet_free(p);
}

/* The change of roles comes first, the attempt at the cut before it afterwards. */
static void check_beside(fixture *f, bool sealed) {
    cal_hash cut = f->last;
    gov_packet down = by_owner(f, &cut, role_of(&f->falling, GOV_ROLE_MEMBER));
    gov_packet up = by_owner(f, &down.id, role_of(&f->rising, GOV_ROLE_ADMIN));
    cal_hash after = up.id;
    gov_packet was = attempt(f, &f->falling, &cut, sealed);
    gov_packet not_yet = attempt(f, &f->rising, &cut, sealed);
    gov_packet no_more = attempt(f, &f->falling, &after, sealed);
    gov_packet is = attempt(f, &f->rising, &after, sealed);
    gov_reason denied = sealed ? GOV_WHY_NOT_ADMIN : GOV_WHY_NOT_NAMESPACE_ADMIN;
    expect(f, &down, GOV_WHY_FINE);
    expect(f, &up, GOV_WHY_FINE);
    expect(f, &was, GOV_WHY_FINE);
    expect(f, &not_yet, denied);
    expect(f, &no_more, denied);
    expect(f, &is, GOV_WHY_FINE);
}

static void test_clear(void **state) { check_beside(*state, false); }
static void test_sealed(void **state) { check_beside(*state, true); }

/* The other way about: the attempts arrive before the changes of roles. */
static void test_before(void **state) {
    fixture *f = *state;
    cal_hash cut = f->last;
    gov_packet down = by_owner(f, &cut, role_of(&f->falling, GOV_ROLE_MEMBER));
    for (int sealed = 0; sealed < 2; sealed++) {
        gov_packet was = attempt(f, &f->falling, &cut, sealed);
        expect(f, &was, GOV_WHY_FINE);
        gov_packet not_yet = attempt(f, &f->rising, &cut, sealed);
        expect(f, &not_yet, sealed ? GOV_WHY_NOT_ADMIN : GOV_WHY_NOT_NAMESPACE_ADMIN);
    }
    expect(f, &down, GOV_WHY_FINE);
}

/* Who comes back has what everybody begins with, not what was granted before. */
static void test_returned(void **state) {
    fixture *f = *state;
    const gov_actor *who = &f->rising;
    const gov_group_op ops[] = {
        {.kind = GOV_DEFAULT_CAPABILITIES_SET, .capabilities = 0},
        {.kind = GOV_MEMBER_CAPABILITY_SET,
         .account = who->account,
         .capabilities = GOV_MANAGE_MEMBERS},
        {.kind = GOV_MEMBER_REMOVED, .account = who->account},
        {.kind = GOV_MEMBER_ADDED, .account = who->account, .role = GOV_ROLE_MEMBER},
    };
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        step(f, by_owner(f, &f->last, ops[i]));
        gov_view view = gov_replica_view(&f->r, &f->w.ns);
        uint32_t has = gov_capabilities_of(&view, &f->w.ns, &who->account);
        if (i > 0) assert_int_equal(has, i == 1 ? GOV_MANAGE_MEMBERS : 0);
    }
}

/* A leave beside what makes the leaver a member: whichever counts, and in whatever order they come,
 * only a member has capabilities, and only who is none may not come back. */
static void test_leave_beside(void **state) {
    fixture *f = *state;
    const gov_actor *who = &f->rising;
    const uint8_t *ns = f->w.ns.bytes, *account = who->account.bytes;
    gov_key member = gov_key_of(ROW_MEMBER, ns, account, NULL),
            capabilities = gov_key_of(ROW_CAPABILITIES, ns, account, NULL),
            reentry = gov_key_of(ROW_REENTRY, ns, account, NULL);
    for (int i = 0; i < 64; i++) { /* the ids say what counts */
        gov_group_op leave = {.kind = GOV_MEMBER_LEFT, .account = who->account},
                     stay = role_of(who, i & 1 ? GOV_ROLE_READ_ONLY : GOV_ROLE_MEMBER),
                     back = {.kind = GOV_MEMBER_ADDED,
                             .account = who->account,
                             .role = GOV_ROLE_MEMBER};
        if (i & 2) stay.kind = GOV_MEMBER_ADDED;
        cal_hash cut = f->last;
        gov_packet ops[] = {
            gov_world_sealed(&f->w, &who->sign, &cut, 1, f->w.ns, &f->w.ns_key, leave),
            by_owner(f, &cut, stay)};
        cal_hash both[] = {ops[0].id, ops[1].id};
        expect(f, &ops[i & 4 ? 1 : 0], GOV_WHY_FINE);
        expect(f, &ops[i & 4 ? 0 : 1], GOV_WHY_FINE);
        gov_view view = gov_replica_view(&f->r, &f->w.ns);
        bool is = gov_view_get(&view, &member, NULL);
        assert_true(is || !gov_view_get(&view, &capabilities, NULL));
        assert_int_equal(gov_view_get(&view, &reentry, NULL), !is);
        step(f, gov_world_sealed(&f->w, &f->w.owner.sign, both, 2, f->w.ns, &f->w.ns_key, back));
    }
}

/* A removal from a group beside a leave of the namespace: why the account may not come back is said
 * by the one that counts, whichever comes first. */
static void test_left_and_removed(void **state) {
    fixture *f = *state;
    const gov_actor *who = &f->rising;
    cal_group_id group = {{7}};
    cal_secret key = {{9}};
    gov_key why = gov_key_of(ROW_REENTRY, group.bytes, who->account.bytes, NULL);
    gov_group_op add = {.kind = GOV_MEMBER_ADDED, .account = who->account, .role = GOV_ROLE_MEMBER};
    gov_group_op removal = {.kind = GOV_MEMBER_REMOVED, .account = who->account},
                 leave = {.kind = GOV_MEMBER_LEFT, .account = who->account};
    step(f, gov_world_root(&f->w, &f->w.owner.sign, &f->last, 1,
                           (gov_root_op){.kind = GOV_GROUP_CREATED,
                                         .group = group,
                                         .parent = f->w.ns,
                                         .account = f->w.owner.account}));
    gov_replica_key(&f->r, &f->w.ns, &group, &key);
    for (int i = 0; i < 16; i++) {
        step(f, gov_world_sealed(&f->w, &f->w.owner.sign, &f->last, 1, group, &key, add));
        cal_hash cut = f->last;
        gov_packet left =
                       gov_world_sealed(&f->w, &who->sign, &cut, 1, f->w.ns, &f->w.ns_key, leave),
                   removed =
                       gov_world_sealed(&f->w, &f->w.owner.sign, &cut, 1, group, &key, removal);
        cal_hash both[] = {left.id, removed.id};
        bool leave_counts = memcmp(&left.id, &removed.id, sizeof left.id) > 0;
        expect(f, i & 1 ? &left : &removed, GOV_WHY_FINE);
        expect(f, i & 1 ? &removed : &left, GOV_WHY_FINE);
        gov_view view = gov_replica_view(&f->r, &f->w.ns);
        cal_slice reason;
        assert_true(gov_view_get(&view, &why, &reason));
        assert_int_equal(reason.data[0], leave_counts ? GOV_REENTRY_LEFT : GOV_REENTRY_REMOVED);
        step(f, gov_world_sealed(&f->w, &f->w.owner.sign, both, 2, f->w.ns, &f->w.ns_key, add));
    }
}

/* Whoever owns a group governs that group, not the namespace it lies in. */
static void test_owner_of_group(void **state) {
    fixture *f = *state;
    cal_group_id group = {{7}};
    cal_secret key = {{9}};
    gov_group_op give = {.kind = GOV_OWNERSHIP_TRANSFERRED, .account = f->rising.account};
    gov_group_op add = {
        .kind = GOV_MEMBER_ADDED, .account = f->rising.account, .role = GOV_ROLE_ADMIN};
    step(f, gov_world_root(&f->w, &f->w.owner.sign, &f->last, 1,
                           (gov_root_op){.kind = GOV_GROUP_CREATED,
                                         .group = group,
                                         .parent = f->w.ns,
                                         .account = f->w.owner.account}));
    gov_replica_key(&f->r, &f->w.ns, &group, &key);
    step(f, gov_world_sealed(&f->w, &f->w.owner.sign, &f->last, 1, group, &key, add));
    step(f, gov_world_sealed(&f->w, &f->w.owner.sign, &f->last, 1, group, &key, give));
    gov_view view = gov_replica_view(&f->r, &f->w.ns);
    assert_true(gov_admin(&view, &group, &f->rising.account));
    assert_false(gov_admin(&view, &f->w.ns, &f->rising.account));
    for (int sealed = 0; sealed < 2; sealed++) {
        gov_packet by = attempt(f, &f->rising, &f->last, sealed);
        expect(f, &by, sealed ? GOV_WHY_NOT_ADMIN : GOV_WHY_NOT_NAMESPACE_ADMIN);
        step(f, attempt(f, &f->w.owner, &f->last, sealed));
    }
}

/* What hangs below a group that moves moves along: the lowest of it counts. */
static void test_moved_tree(void **state) {
    fixture *f = *state;
    cal_group_id chain[GOV_DEPTH_MAX + 1] = {f->w.ns}, upper = {{0x70}}, lower = {{0x71}};
    gov_root_op create = {.kind = GOV_GROUP_CREATED, .account = f->w.owner.account};
    gov_root_op move = {.kind = GOV_GROUP_REPARENTED, .group = upper};
    for (uint8_t depth = 1; depth < GOV_DEPTH_MAX; depth++) {
        create.group = (cal_group_id){{depth}};
        create.parent = chain[depth - 1];
        chain[depth] = create.group;
        step(f, gov_world_root(&f->w, &f->w.owner.sign, &f->last, 1, create));
    }
    create.group = upper, create.parent = f->w.ns;
    step(f, gov_world_root(&f->w, &f->w.owner.sign, &f->last, 1, create));
    create.group = lower, create.parent = upper;
    step(f, gov_world_root(&f->w, &f->w.owner.sign, &f->last, 1, create));
    move.parent = chain[GOV_DEPTH_MAX - 1];
    gov_packet p = gov_world_root(&f->w, &f->w.owner.sign, &f->last, 1, move);
    expect(f, &p, GOV_WHY_TOO_DEEP);
    move.parent = chain[GOV_DEPTH_MAX - 2];
    step(f, gov_world_root(&f->w, &f->w.owner.sign, &f->last, 1, move));
}

/* Of a device the certificate of the highest epoch counts; another of the same epoch changes
 * nothing. */
static void test_same_epoch(void **state) {
    fixture *f = *state;
    const gov_actor *who = &f->rising;
    cal_secret next = {{0x77}};
    gov_group_op own = {.kind = GOV_MEMBER_METADATA_SET, .account = who->account};
    for (uint32_t epoch = 0; epoch < 2; epoch++) {
        gov_group_op link = {.kind = GOV_DEVICE_LINKED,
                             .genesis = who->credential.genesis,
                             .cert = who->credential.cert,
                             .endorsement = {.account = who->account}};
        cal_sign_public_key(&next, link.cert.sign_key);
        link.cert.device_epoch = epoch;
        gov_cert_sign(&link.cert, &who->root);
        memcpy(link.endorsement.member_key, who->key, 32);
        gov_endorsement_sign(&link.endorsement, &who->sign);
        step(f, gov_world_sealed(&f->w, &who->sign, &f->last, 1, f->w.ns, &f->w.ns_key, link));
        gov_view view = gov_replica_view(&f->r, &f->w.ns);
        gov_binding binding;
        assert_true(gov_binding_get(&view, &who->device, &binding));
        assert_memory_equal(binding.sign_key, epoch ? link.cert.sign_key : who->key, 32);
        gov_packet p = gov_world_sealed(&f->w, epoch ? &who->sign : &next, &f->last, 1, f->w.ns,
                                        &f->w.ns_key, own);
        gov_receipt receipt = gov_replica_take(&f->r, &f->w.ns, &p);
        assert_int_not_equal(receipt.reason, GOV_WHY_FINE);
        gov_packet_free(&p);
        step(f, gov_world_sealed(&f->w, epoch ? &next : &who->sign, &f->last, 1, f->w.ns,
                                 &f->w.ns_key, own));
    }
}

/* The nearest row above decides whether an open group is entered; what a higher one would grant
 * does not count. */
static void test_nearest_row(void **state) {
    fixture *f = *state;
    const gov_actor *who = &f->rising;
    cal_group_id chain[4] = {f->w.ns, {{7}}, {{8}}, {{9}}};
    for (int i = 1; i < 4; i++)
        step(f, gov_world_root(&f->w, &f->w.owner.sign, &f->last, 1,
                               (gov_root_op){.kind = GOV_GROUP_CREATED,
                                             .group = chain[i],
                                             .parent = chain[i - 1],
                                             .account = f->w.owner.account}));
    const gov_group_op ops[] = {
        {.kind = GOV_MEMBER_ADDED, .account = who->account, .role = GOV_ROLE_MEMBER},
        {.kind = GOV_MEMBER_CAPABILITY_SET,
         .account = who->account,
         .capabilities = GOV_CAN_JOIN_OPEN_SUBGROUPS},
        {.kind = GOV_MEMBER_CAPABILITY_SET,
         .account = who->account,
         .capabilities = GOV_MANAGE_MEMBERS},
    };
    static const struct {
        int group, op;
        gov_path path;
    } steps[] = {{1, 0, GOV_PATH_NONE}, /* not looked at */
                 {1, 1, GOV_PATH_INHERITED},
                 {2, 0, GOV_PATH_NONE},
                 {2, 1, GOV_PATH_INHERITED},
                 {2, 2, GOV_PATH_NONE}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        step(f, gov_world_group(&f->w, &f->w.owner.sign, &f->last, 1, chain[steps[i].group],
                                ops[steps[i].op]));
        gov_view view = gov_replica_view(&f->r, &f->w.ns);
        gov_path path = gov_path_of(&view, &chain[3], &who->account, NULL);
        if (steps[i].op > 0) assert_int_equal(path, steps[i].path);
    }
}

/* Of two devices whose ids start alike, which would be one and the same clock, the lower id counts
 * while it lives. */
static void test_twins(void **state) {
    fixture *f = *state;
    gov_actor *low = &f->rising, *high = &f->falling;
    gov_change *change;
    assert_int_equal(gov_change_begin(f->r.gov, &f->w.ns, &change, &f->r.err), 0);
    for (int is_high = 0; is_high < 2; is_high++) {
        const gov_actor *who = is_high ? high : low;
        cal_device_id device;
        gov_binding binding = {.account = who->account};
        memset(device.bytes, 0x44, sizeof device.bytes);
        device.bytes[16] = (uint8_t)(1 + is_high);
        memset(binding.sign_key, 0x50 + is_high, 32);
        gov_put_binding(change, &device, &binding);
        gov_view view = gov_change_view(change);
        cal_account_id account;
        assert_int_equal(gov_account_of_key(&view, binding.sign_key, &account), !is_high);
        if (!is_high) continue;
        device.bytes[16] = 1;
        gov_change_put(change, gov_key_of(ROW_REVOKED, device.bytes, NULL, NULL), (cal_slice){0});
        assert_true(gov_account_of_key(&view, binding.sign_key, &account));
        assert_memory_equal(account.bytes, high->account.bytes, 32);
    }
    gov_change_abort(change);
}

/* An operation may put a row several times; what is undone is all of them. */
static void test_savepoint(void **state) {
    fixture *f = *state;
    gov_change *change;
    assert_int_equal(gov_change_begin(f->r.gov, &f->w.ns, &change, &f->r.err), 0);
    uint8_t ids[3][32] = {{0xA1}, {0xA2}, {0xA3}};
    gov_key keys[3];
    for (int i = 0; i < 3; i++) keys[i] = gov_key_of(ROW_CAPABILITIES, ids[i], ids[i], NULL);
    gov_view view = gov_change_view(change);
    cal_slice value;
    gov_put_u32(change, keys[0], 1);
    gov_savepoint(change);
    for (int round = 0; round < 3; round++) {
        gov_put_u32(change, keys[0], 2u + (uint32_t)round);
        gov_put_u32(change, keys[1], 2u + (uint32_t)round);
        gov_put_u32(change, keys[2], 2u + (uint32_t)round);
        gov_change_delete(change, keys[2]);
    }
    gov_savepoint_undo(change);
    assert_true(gov_view_get(&view, &keys[0], &value));
    assert_int_equal(cal_read_u32le(value.data), 1);
    assert_false(gov_view_get(&view, &keys[1], NULL));
    assert_false(gov_view_get(&view, &keys[2], NULL));
    gov_change_abort(change);
}

/* A chain under a key that came late is read from its first to its last, however long it is. */
static void test_sealed_chain(void **state) {
    fixture *f = *state;
    enum { LONG = 70 };
    cal_group_id group = {{7}};
    cal_secret key = {{9}};
    step(f, gov_world_root(&f->w, &f->w.owner.sign, &f->last, 1,
                           (gov_root_op){.kind = GOV_GROUP_CREATED,
                                         .group = group,
                                         .parent = f->w.ns,
                                         .account = f->w.owner.account,
                                         .restricted = true}));
    for (uint32_t i = 0; i < LONG; i++) {
        gov_packet p = gov_world_sealed(
            &f->w, &f->w.owner.sign, &f->last, 1, group, &key,
            (gov_group_op){.kind = GOV_DEFAULT_CAPABILITIES_SET, .capabilities = i});
        f->last = p.id;
        expect(f, &p, GOV_WHY_SEALED);
    }
    gov_replica_key(&f->r, &f->w.ns, &group, &key);
    gov_group_info info;
    assert_int_equal(gov_group_get(f->r.gov, &group, &info), 0);
    assert_int_equal(info.default_capabilities, LONG - 1);
    gov_view view = gov_replica_view(&f->r, &f->w.ns);
    assert_int_equal(gov_walk_count(&view, ROW_SEALED, group.bytes), 0);
}

/* As many contexts as one may wish to delete at once: the list is not gone through for each. */
static void test_long_deletion(void **state) {
    fixture *f = *state;
    enum { COUNT = 20000 };
    cal_group_id group = {{7}};
    cal_hash *ids = calloc(COUNT, sizeof *ids);
    gov_change *change;
    step(f, gov_world_root(&f->w, &f->w.owner.sign, &f->last, 1,
                           (gov_root_op){.kind = GOV_GROUP_CREATED,
                                         .group = group,
                                         .parent = f->w.ns,
                                         .account = f->w.owner.account}));
    assert_int_equal(gov_change_begin(f->r.gov, &f->w.ns, &change, &f->r.err), 0);
    for (uint32_t i = 0; i < COUNT; i++) { /* listed from the last to the first */
        gov_group_op op = {.kind = GOV_CONTEXT_REGISTERED};
        cal_write_u32be(op.context.bytes, i + 1);
        memcpy(ids[COUNT - 1 - i].bytes, op.context.bytes, 32);
        gov_put_context(change, &group, &op);
    }
    assert_int_equal(gov_change_finish(change, 0, &change, &f->r.err), 0);
    gov_replica_commit(&f->r, change);
    gov_root_op deletion = {
        .kind = GOV_GROUP_DELETED, .group = group, .contexts = {ids, COUNT - 1}};
    gov_packet lacks = gov_world_root(&f->w, &f->w.owner.sign, &f->last, 1, deletion);
    f->last = lacks.id;
    expect(f, &lacks, GOV_WHY_NOT_LISTED);
    deletion.contexts.count = COUNT;
    double start = now_ms();
    step(f, gov_world_root(&f->w, &f->w.owner.sign, &f->last, 1, deletion));
    print_message("%d contexts deleted in %.0f ms\n", COUNT, now_ms() - start);
#ifndef __SANITIZE_ADDRESS__
    assert_true(now_ms() - start < 1000);
#endif
    gov_view view = gov_replica_view(&f->r, &f->w.ns);
    assert_int_equal(gov_walk_count(&view, ROW_CONTEXT, NULL), 0);
    assert_int_equal(gov_walk_count(&view, ROW_CONTEXT_GROUP, NULL), 0);
    free(ids);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_long_deletion, setup, teardown),
        cmocka_unit_test_setup_teardown(test_clear, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sealed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_before, setup, teardown),
        cmocka_unit_test_setup_teardown(test_returned, setup, teardown),
        cmocka_unit_test_setup_teardown(test_leave_beside, setup, teardown),
        cmocka_unit_test_setup_teardown(test_left_and_removed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_owner_of_group, setup, teardown),
        cmocka_unit_test_setup_teardown(test_moved_tree, setup, teardown),
        cmocka_unit_test_setup_teardown(test_same_epoch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nearest_row, setup, teardown),
        cmocka_unit_test_setup_teardown(test_twins, setup, teardown),
        cmocka_unit_test_setup_teardown(test_savepoint, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sealed_chain, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
