/* Members, roles, ownership and metadata, authored by one node and received by others (members.h).
 */
#include "gov/share.h"
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

static int setup_two(void **state) {
    (void)state;
    gov_net_start_joined(&net, 2);
    return 0;
}
static int setup_four(void **state) {
    (void)state;
    gov_net_start_joined(&net, 4);
    return 0;
}

static void same_everywhere(cal_group_id group, cal_account_id account, gov_path path,
                            gov_role role) {
    for (size_t n = 0; n < net.count; n++) {
        gov_role found = GOV_ROLE_COUNT;
        assert_int_equal(gov_member_path(GOV(n), &group, &account, &found), path);
        if (path != GOV_PATH_NONE) assert_int_equal(found, role);
    }
}

static int remove_one(size_t by, const cal_group_id *group, cal_account_id account) {
    return gov_members_remove(GOV(by), group, &account, 1, no_roots, OUT);
}

static void test_add_and_roles(void **state) {
    (void)state;
    cal_account_id one = gov_net_account(&net, 1), strange = {{7}};
    gov_member_spec specs[] = {{one, GOV_ROLE_READ_ONLY}, {strange, GOV_ROLE_MEMBER}};
    size_t before = net.packet_count;
    gov_net_do(&net, 0, gov_members_add(GOV(0), &net.ns, specs, 2, OUT));
    assert_int_equal(net.packet_count, before + 2); /* who was a member has the key */
    same_everywhere(net.ns, one, GOV_PATH_DIRECT, GOV_ROLE_READ_ONLY);
    same_everywhere(net.ns, strange, GOV_PATH_DIRECT, GOV_ROLE_MEMBER);
    gov_net_refused(&net, CAL_EINVAL, gov_members_add(GOV(0), &net.ns, specs, 0, OUT));
    specs[1].account = one;
    gov_net_refused(&net, CAL_EINVAL, gov_members_add(GOV(0), &net.ns, specs, 2, OUT));
    specs[1].account = (cal_account_id){{0}};
    gov_net_refused(&net, CAL_EINVAL, gov_members_add(GOV(0), &net.ns, specs, 2, OUT));
    specs[0].role = GOV_ROLE_READ_ONLY_TEE;
    gov_net_refused(&net, CAL_EINVAL, gov_members_add(GOV(0), &net.ns, specs, 1, OUT));
    specs[0].role = GOV_ROLE_MEMBER;
    gov_net_refused(&net, CAL_EDENIED, gov_members_add(GOV(1), &net.ns, specs, 1, OUT));
    gov_net_refused(&net, CAL_ENOTFOUND,
                    gov_members_add(GOV(0), &(cal_group_id){{9}}, specs, 1, OUT));
    gov_net_do(&net, 0, gov_member_set_role(GOV(0), &net.ns, &one, GOV_ROLE_ADMIN, OUT));
    same_everywhere(net.ns, one, GOV_PATH_DIRECT, GOV_ROLE_ADMIN);
    gov_net_refused(
        &net, CAL_ENOTFOUND,
        gov_member_set_role(GOV(0), &net.ns, &(cal_account_id){{8}}, GOV_ROLE_MEMBER, OUT));
    gov_net_refused(&net, CAL_EINVAL,
                    gov_member_set_role(GOV(0), &net.ns, &one, GOV_ROLE_COUNT, OUT));
    gov_follow follow;
    gov_net_do(&net, 1,
               gov_member_set_follow(GOV(1), &net.ns, &one, (gov_follow){false, true}, OUT));
    assert_int_equal(gov_member_follow(GOV(0), &net.ns, &one, &follow), 0);
    assert_true(!follow.contexts && follow.subgroups);
    assert_int_equal(gov_member_follow(GOV(0), &net.ns, &(cal_account_id){{8}}, &follow),
                     CAL_ENOTFOUND);
}

/* The contexts whose roots the operation of the last packet carries, opened with this key. */
static void carries_roots(const gov_group_key *key, const cal_context_id *contexts,
                          uint32_t count) {
    gov_signed_op op;
    gov_group_op plain;
    cal_arena arena;
    cal_arena_init(&arena, 1 << 20);
    assert_int_equal(gov_signed_op_decode(
                         cal_buffer_slice(&net.packets[net.packet_count - 1].bytes), &arena, &op),
                     0);
    assert_int_equal(gov_group_op_open(op.op.sealed, op.op.nonce, &key->key, &arena, &plain), 0);
    assert_int_equal(plain.roots.count, count);
    for (uint32_t i = 0; i < count; i++)
        assert_memory_equal(&plain.roots.items[i].context, &contexts[i], 32);
    cal_arena_deinit(&arena);
}

/* Peers ignore roots that are not strictly sorted. */
static void test_roots_are_sorted(void **state) {
    (void)state;
    static const cal_context_id sorted[] = {{{1}}, {{2}}, {{3}}};
    gov_context_root given[] = {{sorted[2], {{7}}}, {sorted[0], {{8}}}, {sorted[1], {{9}}}};
    cal_account_id one = gov_net_account(&net, 1), two = gov_net_account(&net, 2);
    gov_group_key key;
    assert_true(gov_net_current(&net, 0, &net.ns, &key));
    gov_net_do(&net, 0,
               gov_members_remove(GOV(0), &net.ns, &one, 1, (gov_context_roots){given, 3}, OUT));
    carries_roots(&key, sorted, 3);
    assert_true(gov_net_current(&net, 3, &net.ns, &key));
    gov_net_do(&net, 3, gov_leave(GOV(3), &net.ns, (gov_context_roots){given, 3}, OUT));
    carries_roots(&key, sorted, 3);
    given[1].context = sorted[2];
    given[2].context = sorted[0];
    given[0].context = sorted[0]; /* twice, and not side by side */
    gov_net_refused(
        &net, CAL_EINVAL,
        gov_members_remove(GOV(0), &net.ns, &two, 1, (gov_context_roots){given, 3}, OUT));
}

/* T22: whoever is removed opens nothing that is sealed after. */
static void test_removed_reads_nothing_after(void **state) {
    (void)state;
    gov_group_key before, after, at_two;
    cal_account_id two = gov_net_account(&net, 2), three = gov_net_account(&net, 3);
    cal_account_id both[] = {two, three};
    assert_true(gov_net_current(&net, 0, &net.ns, &before));
    gov_context_root roots[] = {{.context = {{2}}}, {.context = {{1}}}};
    gov_net_refused(
        &net, CAL_EINVAL,
        gov_members_remove(
            GOV(0), &net.ns, both, 2,
            (gov_context_roots){(gov_context_root[]){{{{1}}, {{0}}}, {{{1}}, {{0}}}}, 2}, OUT));
    gov_net_do(&net, 0,
               gov_members_remove(GOV(0), &net.ns, both, 2, (gov_context_roots){roots, 2}, OUT));
    same_everywhere(net.ns, two, GOV_PATH_NONE, 0); /* the first can read that it was removed */
    assert_true(gov_net_current(&net, 0, &net.ns, &after));
    assert_memory_not_equal(&after.id, &before.id, 32);
    assert_true(gov_net_current(&net, 1, &net.ns, &at_two));
    assert_memory_equal(&at_two.id, &after.id, 32);
    for (size_t n = 2; n < 4; n++) {
        assert_false(gov_net_has_key(&net, n, &net.ns, &after.id));
        gov_net_refused(&net, CAL_ESTATE, gov_group_set_metadata(GOV(n), &net.ns, "mine", OUT));
    }
    gov_net_do(&net, 0, gov_group_set_default_capabilities(GOV(0), &net.ns, 7, OUT));
    gov_net_do(&net, 1, gov_heads_merge(GOV(1), &net.ns, OUT));
    for (size_t n = 2; n < 4; n++) {
        gov_group_info info;
        gov_view view = gov_replica_view(&net.nodes[n], &net.ns);
        assert_true(gov_walk_count(&view, ROW_SEALED, net.ns.bytes) >= 2);
        assert_int_equal(gov_group_get(GOV(n), &net.ns, &info), 0);
        assert_int_not_equal(info.default_capabilities, 7);
    }
    gov_net_refused(&net, CAL_ENOTFOUND, remove_one(0, &net.ns, two));
    /* an admin takes it back, and its devices get the key */
    gov_member_spec again = {two, GOV_ROLE_MEMBER};
    gov_net_do(&net, 0, gov_members_add(GOV(0), &net.ns, &again, 1, OUT));
    assert_true(gov_net_has_key(&net, 2, &net.ns, &after.id));
    gov_net_pull_sealed(&net, 0, 2); /* what was said while it was out */
    assert_true(gov_net_current(&net, 2, &net.ns, &at_two));
    assert_memory_equal(&at_two.id, &after.id, 32);
    assert_int_equal(gov_member_path(GOV(2), &net.ns, &two, NULL), GOV_PATH_DIRECT);
    gov_net_do(&net, 2, gov_heads_merge(GOV(2), &net.ns, OUT));
    assert_int_equal(net.last.reason, GOV_WHY_SEALED); /* on the one that is still out */
}

static void test_who_is_not_removed(void **state) {
    (void)state;
    cal_account_id owner = gov_net_account(&net, 0), one = gov_net_account(&net, 1);
    cal_group_id open = gov_net_group(&net, 0, net.ns, true);
    gov_net_refused(&net, CAL_EINVAL, remove_one(0, &net.ns, owner)); /* itself */
    gov_net_refused(&net, CAL_EINVAL, remove_one(0, &open, one));     /* inherits */
    gov_net_refused(&net, CAL_EDENIED, remove_one(1, &net.ns, gov_net_account(&net, 2)));
    gov_net_do(&net, 0, gov_member_set_role(GOV(0), &net.ns, &one, GOV_ROLE_ADMIN, OUT));
    gov_net_refused(&net, CAL_EDENIED, remove_one(1, &net.ns, owner));
    assert_non_null(strstr(net.err.message, "transfer the ownership"));
    /* who may manage members but is no admin makes no key that others take */
    cal_account_id two = gov_net_account(&net, 2), three = gov_net_account(&net, 3);
    gov_net_do(&net, 0,
               gov_member_set_capabilities(GOV(0), &net.ns, &two, GOV_MANAGE_MEMBERS, OUT));
    gov_net_refused(&net, CAL_EDENIED, remove_one(2, &net.ns, three));
    assert_non_null(strstr(net.err.message, "only an admin"));
    same_everywhere(net.ns, three, GOV_PATH_DIRECT, GOV_ROLE_MEMBER);
    /* in an open group there is no key to make */
    gov_member_spec spec = {three, GOV_ROLE_MEMBER};
    gov_net_do(&net, 0, gov_members_add(GOV(0), &open, &spec, 1, OUT));
    gov_net_do(&net, 0, gov_member_set_capabilities(GOV(0), &open, &two, GOV_MANAGE_MEMBERS, OUT));
    gov_group_key before, after;
    assert_true(gov_net_current(&net, 0, &net.ns, &before));
    gov_net_do(&net, 0, remove_one(0, &open, three));
    assert_true(gov_net_current(&net, 1, &net.ns, &after));
    assert_memory_equal(&before.id, &after.id, 32);
    /* the named admin stays one whatever its row says: another has to be named */
    gov_net_do(&net, 0, gov_namespace_set_admin(GOV(0), &net.ns, &one, OUT));
    gov_net_refused(&net, CAL_EDENIED, remove_one(0, &net.ns, one));
    gov_net_do(&net, 0, gov_namespace_set_admin(GOV(0), &net.ns, &owner, OUT));
    gov_net_do(&net, 0, remove_one(0, &net.ns, one));
    same_everywhere(net.ns, one, GOV_PATH_NONE, 0);
}

static void test_leaving(void **state) {
    (void)state;
    cal_account_id one = gov_net_account(&net, 1), two = gov_net_account(&net, 2);
    cal_group_id open = gov_net_group(&net, 0, net.ns, true),
                 mine = gov_net_group(&net, 0, net.ns, false);
    gov_net_refused(&net, CAL_EDENIED, gov_leave(GOV(0), &net.ns, no_roots, OUT)); /* owner */
    assert_non_null(strstr(net.err.message, "\"net\""));
    gov_net_refused(&net, CAL_EINVAL, gov_leave(GOV(1), &open, no_roots, OUT)); /* inherits */
    gov_net_refused(&net, CAL_ENOTFOUND, gov_leave(GOV(1), &mine, no_roots, OUT));
    /* leaving the namespace is leaving all of it: not while it owns a group there */
    gov_member_spec spec = {one, GOV_ROLE_ADMIN};
    gov_net_do(&net, 0, gov_members_add(GOV(0), &mine, &spec, 1, OUT));
    gov_net_pull(&net, 0, 1, &mine);
    gov_net_do(&net, 0, gov_group_transfer(GOV(0), &mine, &one, OUT));
    gov_net_refused(&net, CAL_EDENIED, gov_leave(GOV(1), &net.ns, no_roots, OUT));
    assert_non_null(strstr(net.err.message, "owns"));
    cal_account_id zero = gov_net_account(&net, 0);
    gov_net_do(&net, 1, gov_group_transfer(GOV(1), &mine, &zero, OUT));
    gov_net_do(&net, 1, gov_leave(GOV(1), &net.ns, no_roots, OUT));
    same_everywhere(net.ns, one, GOV_PATH_NONE, 0);
    assert_int_equal(gov_member_path(GOV(0), &mine, &one, NULL), GOV_PATH_NONE);
    gov_net_refused(&net, CAL_EDENIED,
                    gov_member_set_follow(GOV(1), &net.ns, &two, (gov_follow){0}, OUT));
    gov_net_refused(&net, CAL_ENOTFOUND, gov_leave(GOV(1), &net.ns, no_roots, OUT));
}

/* Whoever has named another admin and is none itself any more may go; the other one stays. */
static void test_last_admin_stays(void **state) {
    (void)state;
    cal_account_id zero = gov_net_account(&net, 0), one = gov_net_account(&net, 1);
    gov_net_do(&net, 0, gov_namespace_set_admin(GOV(0), &net.ns, &one, OUT));
    gov_net_do(&net, 1, gov_member_set_role(GOV(1), &net.ns, &zero, GOV_ROLE_MEMBER, OUT));
    gov_net_refused(&net, CAL_EDENIED, gov_leave(GOV(1), &net.ns, no_roots, OUT));
    assert_non_null(strstr(net.err.message, "this account is the last admin"));
    gov_net_do(&net, 1, gov_member_set_role(GOV(1), &net.ns, &zero, GOV_ROLE_ADMIN, OUT));
    gov_net_do(&net, 0, gov_namespace_set_admin(GOV(0), &net.ns, &zero, OUT));
    gov_net_do(&net, 1, gov_leave(GOV(1), &net.ns, no_roots, OUT));
}

/* Who hands the namespace over, or names its admin, may go on writing. */
static void founder_writes_after(bool transfer) {
    gov_context_spec spec = {.group = net.ns, .context = {{0xC1}}, .name = "chat"};
    cal_account_id one = gov_net_account(&net, 1);
    gov_position here;
    gov_author answer;
    gov_net_do(&net, 0, gov_context_register(GOV(0), &spec, OUT));
    gov_net_do(&net, 0, gov_member_set_role(GOV(0), &net.ns, &one, GOV_ROLE_ADMIN, OUT));
    gov_net_do(&net, 0,
               transfer ? gov_group_transfer(GOV(0), &net.ns, &one, OUT)
                        : gov_namespace_set_admin(GOV(0), &net.ns, &one, OUT));
    here.count = (uint32_t)gov_heads(GOV(1), &net.ns, here.heads, GOV_POSITION_HEADS_MAX);
    assert_int_equal(gov_author_judge(GOV(1), &spec.context, &gov_self(GOV(0))->sign_key, &here,
                                      &answer, &net.err),
                     0);
    assert_int_equal(answer.verdict, GOV_AUTHOR_MAY);
}

static void test_former_owner_writes(void **state) {
    (void)state;
    founder_writes_after(true);
}

static void test_former_admin_writes(void **state) {
    (void)state;
    founder_writes_after(false);
}

static void test_ownership_and_tree(void **state) {
    (void)state;
    cal_account_id one = gov_net_account(&net, 1);
    cal_group_id a = gov_net_group(&net, 0, net.ns, true), b = gov_net_group(&net, 0, a, true);
    gov_group_info info;
    gov_net_refused(&net, CAL_EDENIED, gov_group_transfer(GOV(0), &net.ns, &one, OUT));
    gov_net_refused(&net, CAL_EDENIED, gov_group_transfer(GOV(1), &net.ns, &one, OUT));
    gov_net_do(&net, 0, gov_member_set_role(GOV(0), &net.ns, &one, GOV_ROLE_ADMIN, OUT));
    gov_net_do(&net, 0, gov_group_transfer(GOV(0), &net.ns, &one, OUT));
    assert_int_equal(gov_group_get(GOV(1), &net.ns, &info), 0);
    assert_memory_equal(&info.owner, &one, 32);
    assert_memory_equal(&info.admin, &one, 32);
    gov_net_refused(&net, CAL_ENOTFOUND,
                    gov_namespace_set_admin(GOV(1), &a, &one, OUT)); /* a group has none */
    gov_net_refused(&net, CAL_ENOTFOUND,
                    gov_namespace_set_admin(GOV(1), &net.ns, &(cal_account_id){{8}}, OUT));
    gov_net_refused(&net, CAL_EINVAL, gov_group_reparent(GOV(1), &a, &b, OUT));
    gov_net_refused(&net, CAL_EDENIED, gov_group_reparent(GOV(1), &net.ns, &b, OUT));
    gov_net_do(&net, 1, gov_group_reparent(GOV(1), &b, &net.ns, OUT));
    assert_int_equal(gov_group_get(GOV(0), &b, &info), 0);
    assert_memory_equal(&info.parent, &net.ns, 32);
}

static void test_metadata(void **state) {
    (void)state;
    static const char big[GOV_METADATA_VALUE_MAX + 1] = {0};
    gov_metadata_key group = {.of = GOV_METADATA_GROUP, .group = net.ns},
                     member = {.of = GOV_METADATA_MEMBER,
                               .group = net.ns,
                               .account = gov_net_account(&net, 1)},
                     context = {.of = GOV_METADATA_CONTEXT, .group = net.ns, .context = {{3}}};
    gov_entry entries[GOV_METADATA_ENTRIES_MAX + 1] = {
        {cal_slice_text("z"), cal_slice_text("last")}, {cal_slice_text("a"), cal_slice_text("")}};
    gov_record record;
    cal_slice key, value;
    assert_int_equal(gov_metadata_read(GOV(1), &member, &record), CAL_ENOTFOUND);
    gov_net_do(&net, 0, gov_metadata_set(GOV(0), &group, "team", entries, 2, OUT));
    assert_int_equal(gov_metadata_read(GOV(1), &group, &record), 0);
    assert_string_equal(record.name, "team");
    assert_memory_equal(&record.updated_by, &gov_self(GOV(0))->sign_key, 32);
    assert_int_equal(record.entries, 2);
    assert_true(gov_record_next(&record, &key, &value)); /* sorted */
    assert_true(cal_slice_equal(key, cal_slice_text("a")) && value.len == 0);
    assert_true(gov_record_next(&record, &key, &value));
    assert_true(cal_slice_equal(value, cal_slice_text("last")));
    assert_false(gov_record_next(&record, &key, &value));
    gov_net_do(&net, 1, gov_metadata_set(GOV(1), &member, NULL, entries, 1, OUT)); /* its own */
    assert_int_equal(gov_metadata_read(GOV(0), &member, &record), 0);
    assert_null(record.name);
    gov_net_refused(&net, CAL_EDENIED, gov_metadata_set(GOV(1), &group, "no", NULL, 0, OUT));
    gov_net_refused(&net, CAL_ENOTFOUND, gov_metadata_set(GOV(0), &context, "c", NULL, 0, OUT));
    member.account = (cal_account_id){{8}};
    gov_net_refused(&net, CAL_ENOTFOUND, gov_metadata_set(GOV(0), &member, "m", NULL, 0, OUT));
    gov_net_refused(&net, CAL_EINVAL, gov_metadata_set(GOV(0), &group, "", NULL, 0, OUT));
    entries[1].key = entries[0].key;
    gov_net_refused(&net, CAL_EINVAL, gov_metadata_set(GOV(0), &group, NULL, entries, 2, OUT));
    entries[1].key = cal_slice_text("");
    gov_net_refused(&net, CAL_EINVAL, gov_metadata_set(GOV(0), &group, NULL, entries, 2, OUT));
    entries[1] = (gov_entry){cal_slice_text("b"), cal_slice_of(big, sizeof big)};
    gov_net_refused(&net, CAL_EINVAL, gov_metadata_set(GOV(0), &group, NULL, entries, 2, OUT));
    entries[1].value = cal_slice_text("\xff");
    gov_net_refused(&net, CAL_EINVAL, gov_metadata_set(GOV(0), &group, NULL, entries, 2, OUT));
    gov_net_refused(
        &net, CAL_EINVAL,
        gov_metadata_set(GOV(0), &group, NULL, entries, GOV_METADATA_ENTRIES_MAX + 1, OUT));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_add_and_roles, setup_two, teardown),
        cmocka_unit_test_setup_teardown(test_roots_are_sorted, setup_four, teardown),
        cmocka_unit_test_setup_teardown(test_removed_reads_nothing_after, setup_four, teardown),
        cmocka_unit_test_setup_teardown(test_who_is_not_removed, setup_four, teardown),
        cmocka_unit_test_setup_teardown(test_leaving, setup_four, teardown),
        cmocka_unit_test_setup_teardown(test_last_admin_stays, setup_two, teardown),
        cmocka_unit_test_setup_teardown(test_former_owner_writes, setup_two, teardown),
        cmocka_unit_test_setup_teardown(test_former_admin_writes, setup_two, teardown),
        cmocka_unit_test_setup_teardown(test_ownership_and_tree, setup_two, teardown),
        cmocka_unit_test_setup_teardown(test_metadata, setup_two, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
