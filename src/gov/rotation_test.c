/* Keys that move on: debts, concurrent rotations, keys that have not come, and heads that are
 * merged (governance.md 11; 18.1 T22-T24; 18.2 G2, G6, G14). */
#include "gov/share.h"
#include "gov/topic.h"
#include "support/gov_nodes.h"

static gov_net net;
#define GOV(n) gov_net_gov(&net, n)
#define OUT &net.change, &net.err
static const gov_context_roots no_roots;

static int teardown(void **state) {
    (void)state;
    gov_net_stop(&net);
    return 0;
}

/* 0, 1 and 2 are admins, the others members. */
static int setup(void **state) {
    (void)state;
    gov_net_start_joined(&net, 5);
    for (size_t n = 1; n < 3; n++) {
        cal_account_id account = gov_net_account(&net, n);
        gov_net_do(&net, 0, gov_member_set_role(GOV(0), &net.ns, &account, GOV_ROLE_ADMIN, OUT));
    }
    return 0;
}

static gov_group_key current(size_t node) {
    gov_group_key key = {0};
    assert_true(gov_net_current(&net, node, &net.ns, &key));
    return key;
}

static void same_key(size_t a, size_t b) {
    gov_group_key x = current(a), y = current(b);
    assert_memory_equal(&x.id, &y.id, 32);
}

static void is_key(size_t a, const gov_group_key *key) {
    gov_group_key x = current(a);
    assert_memory_equal(&x.id, &key->id, 32);
}

static void not_same_key(size_t a, const gov_group_key *key) {
    gov_group_key x = current(a);
    assert_memory_not_equal(&x.id, &key->id, 32);
}

/* T23: who leaves makes no key; an admin owes one, and pays once. */
static void test_debt_of_a_leaver(void **state) {
    (void)state;
    gov_debt debts[4], three = {.group = net.ns};
    gov_group_key before = current(0);
    cal_account_id gone = gov_net_account(&net, 3);
    assert_int_equal(gov_rotation_due(GOV(0), &net.ns, debts, 4), 0);
    gov_net_do(&net, 3, gov_leave(GOV(3), &net.ns, no_roots, OUT));
    same_key(3, 0);
    is_key(0, &before); /* the leaver did not rotate */
    assert_int_equal(gov_rotation_due(GOV(3), &net.ns, debts, 4), 0);
    assert_int_equal(gov_rotation_due(GOV(4), &net.ns, debts, 4), 0);
    assert_int_equal(gov_rotation_due(GOV(1), &net.ns, debts, 4), 1);
    assert_memory_equal(debts[0].subject, gone.bytes, 32);
    assert_false(debts[0].of_device);
    memcpy(three.subject, gone.bytes, 32);
    gov_net_refused(&net, CAL_EDENIED, gov_rotate(GOV(3), &three, OUT));
    gov_net_refused(&net, CAL_EDENIED, gov_rotate(GOV(4), &three, OUT));
    assert_non_null(strstr(net.err.message, "only an admin"));
    gov_net_do(&net, 1, gov_rotate(GOV(1), &debts[0], OUT));
    for (size_t n = 0; n < 3; n++) {
        assert_int_equal(gov_rotation_due(GOV(n), &net.ns, debts + 1, 1), 0);
        same_key(n, 4);
        not_same_key(n, &before);
    }
    gov_net_refused(&net, CAL_ENOTFOUND, gov_rotate(GOV(0), &debts[0], OUT));
    gov_group_key next = current(0);
    assert_false(gov_net_has_key(&net, 3, &net.ns, &next.id));
    gov_net_do(&net, 0, gov_group_set_metadata(GOV(0), &net.ns, "after", OUT));
    assert_memory_equal(&net.last.id, &net.packets[net.packet_count - 1].id, 32);
    gov_group_info info;
    assert_int_equal(gov_group_get(GOV(3), &net.ns, &info), 0);
    assert_null(info.name); /* it cannot read the name */
    for (size_t n = 0; n < net.count; n++) gov_replica_reopen(&net.nodes[n]);
    same_key(0, 4);
}

/* Somebody who gets the three rotations in this order, no envelope, and later the keys, in the
 * opposite order. */
static void watch(const size_t order[3], size_t first, const gov_group_key *expected) {
    gov_replica watcher;
    gov_view view = gov_replica_view(&net.nodes[0], &net.ns);
    gov_group_key key;
    gov_signed_op op;
    cal_arena arena;
    gov_replica_start(&watcher);
    gov_replica_take(&watcher, &net.ns, &net.packets[0]);
    for (size_t i = 1; i < first; i++) gov_replica_take(&watcher, &net.ns, &net.packets[i]);
    gov_walk walk = gov_walk_start(&view, ROW_KEY, net.ns.bytes, NULL);
    cal_slice id, value;
    while (gov_walk_next(&walk, &id, &value)) { /* the one of before */
        cal_hash key_id;
        memcpy(key_id.bytes, id.data, 32);
        assert_true(gov_key_find(&view, &net.ns, &key_id, &key));
        if (key.epoch == 0) gov_replica_key(&watcher, &net.ns, &net.ns, &key.key);
    }
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(gov_replica_take(&watcher, &net.ns, &net.packets[first + order[i]]).reason,
                         GOV_WHY_FINE);
    gov_view theirs = gov_replica_view(&watcher, &net.ns);
    assert_false(gov_key_current(&theirs, &net.ns, &key));
    for (size_t i = 3; i-- > 0;) {
        cal_arena_init(&arena, 1 << 20);
        assert_int_equal(gov_signed_op_decode(
                             cal_buffer_slice(&net.packets[first + order[i]].bytes), &arena, &op),
                         0);
        assert_true(gov_key_find(&view, &net.ns, &op.op.rotation.new_key_id, &key));
        gov_replica_key(&watcher, &net.ns, &net.ns, &key.key);
        cal_arena_deinit(&arena);
    }
    theirs = gov_replica_view(&watcher, &net.ns);
    assert_true(gov_key_current(&theirs, &net.ns, &key));
    assert_memory_equal(&key.id, &expected->id, 32);
    gov_replica_check(&watcher);
    gov_replica_stop(&watcher);
}

/* Three admins rotate at once; every order of arrival, on a node each. */
static void test_concurrent_rotations(void **state) {
    (void)state;
    static const size_t orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                        {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    gov_debt debt;
    gov_group_key expected = {0};
    gov_net_do(&net, 3, gov_leave(GOV(3), &net.ns, no_roots, OUT));
    size_t first = net.packet_count;
    for (size_t n = 0; n < 3; n++) {
        assert_int_equal(gov_rotation_due(GOV(n), &net.ns, &debt, 1), 1);
        gov_net_commit(&net, n, gov_rotate(GOV(n), &debt, OUT));
    }
    for (size_t n = 0; n < 3; n++) {
        const size_t *order = orders[n * 2 + 1];
        for (size_t i = 0; i < 3; i++)
            assert_int_equal(gov_net_give(&net, n, first + order[i]).reason, GOV_WHY_FINE);
        if (n == 0) expected = current(0);
        is_key(n, &expected);
    }
    gov_net_sync(&net);
    same_key(4, 0);
    for (size_t i = 0; i < 6; i++) watch(orders[i], first, &expected);
    gov_net_do(&net, 4, gov_heads_merge(GOV(4), &net.ns, OUT));
    for (size_t n = 0; n < 3; n++) {
        gov_view view = gov_replica_view(&net.nodes[n], &net.ns);
        assert_int_equal(gov_heads_get(&view).len, 32);
        assert_int_equal(gov_walk_count(&view, ROW_SEALED, NULL), 0);
    }
    assert_false(gov_net_has_key(&net, 3, &net.ns, &expected.id));
}

/* A later rotation is current whatever the ids, and one that descends from others beats them. */
static void test_later_rotation_wins(void **state) {
    (void)state;
    cal_account_id three = gov_net_account(&net, 3), four = gov_net_account(&net, 4);
    for (size_t i = 0; i < 8; i++) {
        gov_group_key before = current(0);
        gov_member_spec spec = {i % 2 ? three : four, GOV_ROLE_MEMBER};
        gov_net_do(&net, i % 3,
                   gov_members_remove(GOV(i % 3), &net.ns, &spec.account, 1, no_roots, OUT));
        not_same_key(0, &before);
        same_key(0, 1);
        same_key(0, 2);
        gov_net_do(&net, 0, gov_members_add(GOV(0), &net.ns, &spec, 1, OUT));
        gov_net_pull_sealed(&net, 0, i % 2 ? 3 : 4);
        same_key(0, i % 2 ? 3 : 4);
    }
}

/* A rotation's place is above all that it cites, a short branch beside too: also where nobody is
 * gone any more, an older key is not current again. */
static void test_rotation_above_a_short_branch(void **state) {
    (void)state;
    gov_metadata_key mine = {
        .of = GOV_METADATA_MEMBER, .group = net.ns, .account = gov_net_account(&net, 3)};
    cal_account_id three = gov_net_account(&net, 3), four = gov_net_account(&net, 4);
    gov_member_spec back[] = {{three, GOV_ROLE_MEMBER}, {four, GOV_ROLE_MEMBER}};
    gov_net_commit(&net, 3, gov_metadata_set(GOV(3), &mine, "beside", NULL, 0, OUT));
    for (int i = 0; i < 3; i++)
        gov_net_commit(&net, 0, gov_group_set_metadata(GOV(0), &net.ns, "on", OUT));
    gov_net_do(&net, 0, gov_members_remove(GOV(0), &net.ns, &four, 1, no_roots, OUT));
    gov_group_key before = current(0);
    gov_view view = gov_replica_view(&net.nodes[0], &net.ns);
    assert_int_equal(gov_heads_get(&view).len, 2 * 32);
    gov_net_do(&net, 0, gov_members_remove(GOV(0), &net.ns, &three, 1, no_roots, OUT));
    gov_group_key after = current(0);
    assert_true(after.epoch > before.epoch);
    gov_net_do(&net, 0, gov_members_add(GOV(0), &net.ns, back, 2, OUT));
    for (size_t n = 0; n < 3; n++) is_key(n, &after);
}

static void remove_one(size_t admin, size_t who) {
    cal_account_id account = gov_net_account(&net, who);
    gov_net_commit(&net, admin,
                   gov_members_remove(GOV(admin), &net.ns, &account, 1, no_roots, OUT));
}

/* Gives each of the nodes what it lacks, from the last packet to the first, so that nothing but
 * operations waiting for others orders them. */
static void sync_backwards(size_t first) {
    for (size_t n = 0; n < net.count; n++) {
        for (size_t i = net.packet_count; i-- > first;) gov_net_give(&net, n, i);
        net.seen[n] = net.packet_count;
    }
}

static void pay_all(size_t admin) {
    gov_debt debt;
    for (int i = 0; gov_rotation_due(GOV(admin), &net.ns, &debt, 1) > 0; i++) {
        assert_true(i < 3);
        gov_net_do(&net, admin, gov_rotate(GOV(admin), &debt, OUT));
    }
}

/* Two admins remove one each and know nothing of one another: the key of each is in the hands of
 * whom the other has removed. */
static void removals_at_once(bool backwards) {
    size_t first = net.packet_count;
    gov_debt debt;
    remove_one(0, 3);
    remove_one(1, 4);
    if (backwards) sync_backwards(first);
    gov_net_sync(&net);
    for (size_t n = 0; n < 3; n++) assert_int_equal(gov_rotation_due(GOV(n), &net.ns, &debt, 1), 1);
    pay_all(2);
    for (size_t n = 0; n < 3; n++) {
        gov_group_key now = current(n);
        same_key(n, 0);
        assert_int_equal(gov_rotation_due(GOV(n), &net.ns, &debt, 1), 0);
        for (size_t gone = 3; gone < 5; gone++)
            assert_false(gov_net_has_key(&net, gone, &net.ns, &now.id));
    }
    for (size_t n = 0; n < net.count; n++) gov_replica_reopen(&net.nodes[n]);
    same_key(1, 0);
}

static void test_removals_at_once(void **state) {
    (void)state;
    removals_at_once(false);
}

static void test_removals_at_once_backwards(void **state) {
    (void)state;
    removals_at_once(true);
}

/* Who was an admin makes keys where it was one, higher and higher: nobody seals with them. */
static void test_removed_admin_goes_on(void **state) {
    (void)state;
    gov_debt debt;
    size_t first = net.packet_count;
    net.away[2] = true;
    gov_net_do(&net, 0, gov_group_set_metadata(GOV(0), &net.ns, "before", OUT));
    cal_account_id two = gov_net_account(&net, 2);
    gov_net_do(&net, 0, gov_members_remove(GOV(0), &net.ns, &two, 1, no_roots, OUT));
    gov_group_key closed = current(0);
    for (int i = 0; i < 6; i++) {
        gov_group_op op = {.kind = GOV_KEY_ROTATED, .account = gov_net_account(&net, 4)};
        assert_int_equal(gov_change_begin(GOV(2), &net.ns, &net.change, &net.err), 0);
        int result = gov_author_rotating(net.change, &net.ns, &op, NULL, NULL, &net.err);
        gov_net_commit(&net, 2, gov_change_finish(net.change, result, &net.change, &net.err));
    }
    gov_net_sync(&net);
    for (size_t n = 0; n < 5; n++) {
        if (n == 2) continue;
        is_key(n, &closed);
        assert_int_equal(gov_rotation_due(GOV(n), &net.ns, &debt, 1), 0);
        gov_group_key higher = current(2);
        assert_true(higher.epoch > closed.epoch);
        assert_true(gov_net_has_key(&net, n, &net.ns, &higher.id));
    }
    assert_false(gov_net_has_key(&net, 2, &net.ns, &closed.id));
    net.away[2] = false;
    sync_backwards(first);
    for (size_t n = 0; n < 5; n++) {
        gov_group_key own = current(0);
        if (n != 2) is_key(n, &closed);
        assert_memory_equal(&own.id, &closed.id, 32);
    }
}

/* A closed group of all but the third. */
static cal_group_id closed_group(void) {
    cal_group_id group = gov_net_group(&net, 0, net.ns, false);
    static const size_t in[] = {1, 3, 4};
    for (size_t i = 0; i < 3; i++) {
        gov_member_spec spec = {gov_net_account(&net, in[i]),
                                in[i] == 1 ? GOV_ROLE_ADMIN : GOV_ROLE_MEMBER};
        gov_net_do(&net, 0, gov_members_add(GOV(0), &group, &spec, 1, OUT));
    }
    gov_net_pull_sealed(&net, 0, 1);
    return group;
}

static size_t due_in(size_t node, cal_group_id group) {
    gov_debt debts[8];
    size_t count = gov_rotation_due(GOV(node), &net.ns, debts, 8), found = 0;
    for (size_t i = 0; i < count; i++) found += gov_id_equal(debts[i].group.bytes, group.bytes);
    return found;
}

/* Who leaves the namespace leaves its groups: a rotation of one of them beside that does not know.
 */
static void test_leave_beside_a_rotation(void **state) {
    (void)state;
    cal_group_id group = closed_group();
    cal_account_id four = gov_net_account(&net, 4);
    gov_net_commit(&net, 3, gov_leave(GOV(3), &net.ns, no_roots, OUT));
    net.away[0] = true;
    gov_net_sync(&net);
    assert_int_equal(due_in(1, group), 1);
    gov_net_commit(&net, 0, gov_members_remove(GOV(0), &group, &four, 1, no_roots, OUT));
    net.away[0] = false;
    gov_net_sync(&net);
    for (size_t n = 0; n < 2; n++) {
        assert_int_equal(due_in(n, group), 1);
        assert_int_equal(due_in(n, net.ns), 1);
    }
    pay_all(0);
    for (size_t n = 0; n < 2; n++) assert_int_equal(due_in(n, group) + due_in(n, net.ns), 0);
}

static void test_return_ends_the_debt(void **state) {
    (void)state;
    gov_member_spec spec = {gov_net_account(&net, 3), GOV_ROLE_MEMBER};
    gov_group_key before = current(0);
    gov_net_do(&net, 3, gov_leave(GOV(3), &net.ns, no_roots, OUT));
    assert_int_equal(due_in(0, net.ns), 1);
    gov_net_do(&net, 0, gov_members_add(GOV(0), &net.ns, &spec, 1, OUT));
    for (size_t n = 0; n < 3; n++) assert_int_equal(due_in(n, net.ns), 0);
    is_key(0, &before);
}

/* An admin of everything makes no key of a group that it is not in: it would have it. */
static void test_outsiders_make_no_key(void **state) {
    (void)state;
    gov_root_op op = {.kind = GOV_ADMIN_CHANGED, .account = gov_net_account(&net, 2)};
    cal_account_id four = gov_net_account(&net, 4);
    cal_group_id group = closed_group();
    assert_int_equal(gov_change_begin(GOV(0), &net.ns, &net.change, &net.err), 0);
    int result = gov_author_root(net.change, &op, &net.err);
    gov_net_do(&net, 0, gov_change_finish(net.change, result, &net.change, &net.err));
    gov_net_pull(&net, 0, 2, &group);
    gov_net_pull_sealed(&net, 0, 2);
    gov_net_refused(&net, CAL_EDENIED, gov_members_remove(GOV(2), &group, &four, 1, no_roots, OUT));
    gov_net_do(&net, 3, gov_leave(GOV(3), &group, no_roots, OUT));
    assert_int_equal(due_in(2, group), 0);
    assert_int_equal(due_in(1, group), 1);
}

static uint8_t why_not_back(size_t node, cal_group_id group, cal_account_id account) {
    gov_view view = gov_replica_view(&net.nodes[node], &net.ns);
    gov_key key = gov_key_of(ROW_REENTRY, group.bytes, account.bytes, NULL);
    cal_slice value;
    return gov_view_get(&view, &key, &value) ? value.data[0] : 0;
}

/* Two leave the namespace, one of them with a place in a group that the third cannot read yet, the
 * other after its removal from there. */
static void test_left_before_it_is_read(void **state) {
    (void)state;
    cal_group_id group = closed_group();
    cal_account_id three = gov_net_account(&net, 3), four = gov_net_account(&net, 4);
    gov_member_spec two = {gov_net_account(&net, 2), GOV_ROLE_MEMBER};
    gov_net_do(&net, 0, gov_members_remove(GOV(0), &group, &four, 1, no_roots, OUT));
    gov_net_do(&net, 3, gov_leave(GOV(3), &net.ns, no_roots, OUT));
    gov_net_do(&net, 4, gov_leave(GOV(4), &net.ns, no_roots, OUT));
    assert_int_equal(why_not_back(2, group, three), 0);
    gov_net_do(&net, 0, gov_members_add(GOV(0), &group, &two, 1, OUT));
    gov_net_pull_sealed(&net, 0, 2);
    for (size_t n = 0; n < 3; n++) {
        assert_int_equal(why_not_back(n, group, three), GOV_REENTRY_LEFT);
        assert_int_equal(why_not_back(n, group, four), GOV_REENTRY_REMOVED);
    }
}

/* A rotation whose key has not come: nothing is sealed under the one before. */
static void test_key_that_is_missing(void **state) {
    (void)state;
    gov_change *change;
    gov_group_key before = current(4), after;
    cal_device_id device = gov_self(GOV(4))->device;
    cal_account_id three = gov_net_account(&net, 3);
    assert_int_equal(gov_change_begin(GOV(0), &net.ns, &change, &net.err), 0);
    gov_group_op op = {.kind = GOV_MEMBER_REMOVED, .account = three};
    int result = gov_author_rotating(change, &net.ns, &op, &three, &device, &net.err);
    assert_int_equal(gov_change_finish(change, result, &net.change, &net.err), 0);
    gov_net_do(&net, 0, 0);
    assert_false(gov_net_current(&net, 4, &net.ns, &after));
    assert_true(gov_net_has_key(&net, 4, &net.ns, &before.id)); /* for what is past */
    gov_net_refused(&net, CAL_ESTATE, gov_heads_merge(GOV(4), &net.ns, OUT));
    gov_replica_reopen(&net.nodes[4]);
    assert_false(gov_net_current(&net, 4, &net.ns, &after));
    gov_net_pull(&net, 0, 4, &net.ns);
    same_key(4, 0);
    gov_net_do(&net, 4, gov_heads_merge(GOV(4), &net.ns, OUT));
    /* an old key that comes again stays old */
    gov_replica_key(&net.nodes[4], &net.ns, &net.ns, &before.key);
    same_key(4, 0);
    gov_group_key now = current(0);
    gov_replica_key(&net.nodes[4], &net.ns, &net.ns, &now.key);
    same_key(4, 0);
}

/* An admin that has not got the key of the present does not make the next one. */
static void test_no_payment_without_the_key(void **state) {
    (void)state;
    gov_change *change;
    gov_debt debts[4];
    cal_device_id device = gov_self(GOV(1))->device;
    cal_account_id three = gov_net_account(&net, 3);
    gov_net_commit(&net, 4, gov_leave(GOV(4), &net.ns, no_roots, OUT));
    assert_int_equal(gov_change_begin(GOV(0), &net.ns, &change, &net.err), 0);
    gov_group_op op = {.kind = GOV_MEMBER_REMOVED, .account = three};
    int result = gov_author_rotating(change, &net.ns, &op, &three, &device, &net.err);
    gov_net_do(&net, 0, gov_change_finish(change, result, &net.change, &net.err));
    gov_view view = gov_replica_view(&net.nodes[1], &net.ns);
    assert_int_equal(gov_walk_count(&view, ROW_ROTATION_DUE, net.ns.bytes), 1);
    assert_int_equal(gov_rotation_due(GOV(0), &net.ns, debts, 4), 1);
    assert_int_equal(gov_rotation_due(GOV(1), &net.ns, debts, 4), 0);
    gov_net_pull(&net, 0, 1, &net.ns);
    assert_int_equal(gov_rotation_due(GOV(1), &net.ns, debts, 4), 1);
    pay_all(1);
}

static int serve_to(size_t asker, const cal_hash *key_id) {
    gov_envelope envelope;
    const gov_identity *to = gov_self(GOV(asker));
    return gov_key_serve(GOV(4), &net.ns, &net.ns, &to->sign_key, &to->device, key_id, &envelope);
}

/* T22: who has a key, and cannot read yet whom it was made to keep out, hands it to nobody. */
static void test_key_of_an_unread_removal(void **state) {
    (void)state;
    gov_change *change;
    cal_device_id device = gov_self(GOV(4))->device;
    cal_account_id three = gov_net_account(&net, 3), two = gov_net_account(&net, 2);
    gov_group_key before = current(4);
    assert_int_equal(gov_change_begin(GOV(0), &net.ns, &change, &net.err), 0);
    gov_group_op op = {.kind = GOV_MEMBER_REMOVED, .account = three};
    int result = gov_author_rotating(change, &net.ns, &op, &three, &device, &net.err);
    assert_int_equal(gov_change_finish(change, result, &net.change, &net.err), 0);
    gov_net_do(&net, 0, 0); /* its key is not for the fifth, */
    gov_net_do(&net, 0, gov_members_remove(GOV(0), &net.ns, &two, 1, no_roots, OUT));
    gov_group_key now = current(0); /* which so cannot read the second removal */
    gov_replica_key(&net.nodes[4], &net.ns, &net.ns, &now.key);
    assert_int_equal(serve_to(1, &before.id), CAL_ENOTFOUND);
    assert_int_equal(serve_to(2, &now.id), CAL_ENOTFOUND);
    assert_int_equal(serve_to(1, &now.id), CAL_ENOTFOUND);
    assert_int_equal(serve_to(1, NULL), CAL_ENOTFOUND);
    for (size_t n = 1; n < 3; n++) {
        assert_true(gov_key_is_member(GOV(4), &net.ns, &gov_self(GOV(n))->sign_key));
        assert_false(gov_key_may_read(GOV(4), &net.ns, &gov_self(GOV(n))->sign_key));
    }
    gov_net_pull_sealed(&net, 0, 4);
    assert_int_equal(serve_to(2, &now.id), CAL_ENOTFOUND);
    assert_int_equal(serve_to(1, &now.id), 0);
    assert_true(gov_key_may_read(GOV(4), &net.ns, &gov_self(GOV(1))->sign_key));
    assert_false(gov_key_may_read(GOV(4), &net.ns, &gov_self(GOV(2))->sign_key));
    assert_int_equal(serve_to(1, &before.id), 0);
    gov_net_do(&net, 4, gov_leave(GOV(4), &net.ns, no_roots, OUT)); /* and serves no more */
    assert_int_equal(serve_to(1, &before.id), CAL_ENOTFOUND);
}

/* G14: an operation that can be gossiped, whatever the number of devices. */
static void test_more_devices_than_fit(void **state) {
    (void)state;
    enum { DEVICES = 400 };
    gov_change *change;
    cal_account_id three = gov_net_account(&net, 3), four = gov_net_account(&net, 4);
    assert_int_equal(gov_change_begin(GOV(0), &net.ns, &change, &net.err), 0);
    for (int i = 0; i < DEVICES; i++) {
        cal_device_id device = {{(uint8_t)i, (uint8_t)(i >> 8), 1}};
        gov_binding binding = {.account = four};
        cal_secret secret = {{(uint8_t)i, (uint8_t)(i >> 8), 2}};
        cal_agree_public_key(&secret, binding.kem_key);
        memcpy(binding.sign_key, device.bytes, 32);
        gov_put_binding(change, &device, &binding);
    }
    assert_int_equal(gov_change_finish(change, 0, &net.change, &net.err), 0);
    gov_replica_commit(&net.nodes[0], net.change);
    gov_net_commit(&net, 0, gov_members_remove(GOV(0), &net.ns, &three, 1, no_roots, OUT));
    cal_buffer *bytes = &net.packets[net.packet_count - 1].bytes;
    assert_true(bytes->len < GOV_OP_GOSSIP_MAX - 1);
    assert_true(bytes->len > GOV_OP_GOSSIP_MAX - 1024);
    (void)current(0);
    gov_net_sync(&net);
}

static void test_heads_are_merged(void **state) {
    (void)state;
    gov_world w = {.ns = net.ns, .nonce = 1000};
    gov_view view = gov_replica_view(&net.nodes[0], &net.ns);
    cal_hash head;
    w.ns_key = current(0).key;
    assert_int_equal(gov_heads_get(&view).len, 32);
    memcpy(head.bytes, gov_heads_get(&view).data, 32);
    for (int i = 0; i <= GOV_HEADS_MERGE; i++) {
        assert_false(gov_heads_merge_due(GOV(1), &net.ns));
        net.packets[net.packet_count++] = gov_world_group(
            &w, &gov_self(GOV(3))->sign_seed, &head, 1, net.ns, (gov_group_op){.kind = GOV_NOOP});
        gov_net_sync(&net);
    }
    assert_true(gov_heads_merge_due(GOV(1), &net.ns));
    gov_net_do(&net, 1, gov_heads_merge(GOV(1), &net.ns, OUT));
    view = gov_replica_view(&net.nodes[4], &net.ns);
    assert_int_equal(gov_heads_get(&view).len, 32);
    for (size_t n = 0; n < 5; n++) assert_false(gov_heads_merge_due(GOV(n), &net.ns));
    /* a stranger's are no heads (18.2, G2), and who is nobody merges nothing */
    gov_net_do(&net, 4, gov_leave(GOV(4), &net.ns, no_roots, OUT));
    gov_net_refused(&net, CAL_ESTATE, gov_heads_merge(GOV(4), &net.ns, OUT));
    assert_false(gov_heads_merge_due(GOV(4), &(cal_group_id){{5}}));
    gov_net_refused(&net, CAL_ENOTFOUND, gov_heads_merge(GOV(4), &(cal_group_id){{5}}, OUT));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_debt_of_a_leaver, setup, teardown),
        cmocka_unit_test_setup_teardown(test_concurrent_rotations, setup, teardown),
        cmocka_unit_test_setup_teardown(test_later_rotation_wins, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rotation_above_a_short_branch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_removals_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_removals_at_once_backwards, setup, teardown),
        cmocka_unit_test_setup_teardown(test_removed_admin_goes_on, setup, teardown),
        cmocka_unit_test_setup_teardown(test_leave_beside_a_rotation, setup, teardown),
        cmocka_unit_test_setup_teardown(test_return_ends_the_debt, setup, teardown),
        cmocka_unit_test_setup_teardown(test_outsiders_make_no_key, setup, teardown),
        cmocka_unit_test_setup_teardown(test_left_before_it_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_key_that_is_missing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_payment_without_the_key, setup, teardown),
        cmocka_unit_test_setup_teardown(test_key_of_an_unread_removal, setup, teardown),
        cmocka_unit_test_setup_teardown(test_more_devices_than_fit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_heads_are_merged, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
