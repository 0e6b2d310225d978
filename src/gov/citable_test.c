/* A member seals operations under a key that nobody has: nobody can say what they do, and so no cut
 * above them answers. It stops neither its own removal nor anybody's writes (governance.md 18.2).
 */
#include "support/gov_peers.h"

typedef struct {
    gov_replica founder, member, other, late;
    cal_group_id ns;
    cal_context_id context;
    cal_secret key; /* the first one */
} fixture;

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    gov_replica *all[] = {&f->founder, &f->member, &f->other, &f->late};
    for (size_t i = 0; i < 4; i++) gov_replica_start(all[i]);
    f->ns = gov_peer_found(&f->founder);
    gov_peer_join(&f->member, &f->founder, f->ns, GOV_ROLE_MEMBER);
    gov_peer_join(&f->other, &f->founder, f->ns, GOV_ROLE_MEMBER);
    f->context = gov_peer_context(&f->founder, f->ns, 0xC1);
    gov_peer_copy(&f->founder, &f->member, &f->ns, 0);
    gov_peer_copy(&f->founder, &f->other, &f->ns, 0);
    gov_write_grant grant;
    assert_int_equal(gov_context_write(f->founder.gov, &f->context, &grant, &f->founder.err), 0);
    f->key = grant.group_key;
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    gov_replica *all[] = {&f->founder, &f->member, &f->other, &f->late};
    for (size_t i = 0; i < 4; i++) {
        gov_replica_check(all[i]);
        gov_replica_stop(all[i]);
    }
    free(f);
    return 0;
}

/* Whether a writes what b takes. */
static gov_author_verdict writes(fixture *f, gov_replica *a, gov_replica *b) {
    gov_write_grant grant;
    gov_author author;
    cal_error err;
    assert_int_equal(gov_context_write(a->gov, &f->context, &grant, &a->err), 0);
    cal_secret_wipe(&grant.group_key);
    assert_int_equal(gov_author_judge(b->gov, &f->context, &gov_self(a->gov)->sign_key,
                                      &grant.position, &author, &err),
                     0);
    return author.verdict;
}

/* Under a key of its own from now on; whatever it does. */
static void lose_key(gov_replica *r, const cal_group_id *ns, uint8_t fill) {
    gov_change *change;
    cal_secret key;
    memset(&key, fill, sizeof key);
    assert_int_equal(gov_change_begin(r->gov, ns, &change, &r->err), 0);
    gov_put_key(change, ns, &key, GOV_EPOCH_CAUSAL | UINT32_MAX);
    assert_int_equal(gov_change_finish(change, 0, &change, &r->err), 0);
    gov_replica_commit(r, change);
}

static void seal_unreadable(fixture *f, gov_replica *r, gov_group_op op) {
    gov_peer_do(r, gov_peer_author(r, &f->ns, &f->ns, op, &change, err));
}

static void remove_from(fixture *f, gov_replica *admin, const gov_replica *who) {
    const gov_context_roots none = {0};
    const cal_account_id *account = &gov_self(who->gov)->account;
    gov_peer_do(admin, gov_members_remove(admin->gov, &f->ns, account, 1, none, &change, err));
}

static bool is_member(gov_replica *r, const cal_group_id *ns, const gov_replica *who) {
    return gov_key_is_member(r->gov, ns, &gov_self(who->gov)->sign_key);
}

/* The member goes on sealing: on top of what it sealed, and beside its removal. */
static void an_unreadable_operation_stops_no_removal(void **state) {
    fixture *f = *state;
    lose_key(&f->member, &f->ns, 0x77);
    for (int i = 0; i < 3; i++) seal_unreadable(f, &f->member, (gov_group_op){.kind = GOV_NOOP});
    gov_peer_copy(&f->member, &f->founder, &f->ns, 0);
    gov_peer_copy(&f->member, &f->other, &f->ns, 0);
    assert_int_equal(writes(f, &f->founder, &f->other), GOV_AUTHOR_MAY);
    assert_int_equal(writes(f, &f->other, &f->founder), GOV_AUTHOR_MAY);
    remove_from(f, &f->founder, &f->member);
    assert_false(is_member(&f->founder, &f->ns, &f->member));
    gov_peer_copy(&f->founder, &f->other, &f->ns, 0);
    assert_false(is_member(&f->other, &f->ns, &f->member));
    for (int i = 0; i < 3; i++) seal_unreadable(f, &f->member, (gov_group_op){.kind = GOV_NOOP});
    gov_peer_copy(&f->member, &f->other, &f->ns, 0);
    gov_peer_copy(&f->member, &f->founder, &f->ns, 0);
    assert_int_equal(writes(f, &f->other, &f->founder), GOV_AUTHOR_MAY);
    assert_int_equal(writes(f, &f->founder, &f->other), GOV_AUTHOR_MAY);
    /* the admin goes on, and the next one joins */
    gov_peer_do(&f->founder, gov_group_set_metadata(f->founder.gov, &f->ns, "on", &change, err));
    gov_peer_join(&f->late, &f->founder, f->ns, GOV_ROLE_MEMBER);
    gov_peer_copy(&f->founder, &f->other, &f->ns, 5);
    assert_true(is_member(&f->other, &f->ns, &f->late));
    gov_replica_key(&f->late, &f->ns, &f->ns, &f->key); /* as it pulls it */
    gov_peer_drain(&f->late, &f->ns);
    assert_int_equal(writes(f, &f->late, &f->other), GOV_AUTHOR_MAY);
    assert_int_equal(writes(f, &f->other, &f->late), GOV_AUTHOR_MAY);
}

/* However many there are. */
static void a_thousand_of_them_stop_no_removal(void **state) {
    fixture *f = *state;
    lose_key(&f->member, &f->ns, 0x77);
    for (int i = 0; i < 1000; i++) seal_unreadable(f, &f->member, (gov_group_op){.kind = GOV_NOOP});
    gov_peer_copy(&f->member, &f->founder, &f->ns, 0);
    gov_peer_copy(&f->member, &f->other, &f->ns, 0);
    for (int i = 0; i < 20; i++)
        gov_peer_do(&f->founder,
                    gov_group_set_metadata(f->founder.gov, &f->ns, "on", &change, err));
    remove_from(f, &f->founder, &f->member);
    gov_peer_copy(&f->founder, &f->other, &f->ns, 0);
    assert_false(is_member(&f->other, &f->ns, &f->member));
    assert_int_equal(writes(f, &f->other, &f->founder), GOV_AUTHOR_MAY);
}

/* Whatever order it comes in. */
static void the_removal_counts_in_any_order(void **state) {
    fixture *f = *state;
    lose_key(&f->member, &f->ns, 0x77);
    seal_unreadable(f, &f->member, (gov_group_op){.kind = GOV_NOOP});
    gov_peer_copy(&f->member, &f->founder, &f->ns, 0);
    remove_from(f, &f->founder, &f->member);
    seal_unreadable(f, &f->member, (gov_group_op){.kind = GOV_NOOP});
    gov_peer_copy(&f->member, &f->founder, &f->ns, 0);
    for (uint32_t seed = 1; seed < 12; seed++) {
        gov_replica r;
        gov_replica_start(&r);
        gov_replica_key(&r, &f->ns, &f->ns, &f->key);
        gov_peer_copy(&f->founder, &r, &f->ns, seed);
        assert_false(is_member(&r, &f->ns, &f->member));
        assert_true(is_member(&r, &f->ns, &f->other));
        gov_replica_check(&r);
        gov_replica_stop(&r);
    }
}

/* What an admin has sealed may be anything, also that this node's account is out: nobody writes
 * beside it. */
static void what_an_admin_sealed_is_waited_for(void **state) {
    fixture *f = *state;
    lose_key(&f->founder, &f->ns, 0x78);
    seal_unreadable(
        f, &f->founder,
        (gov_group_op){.kind = GOV_MEMBER_REMOVED, .account = gov_self(f->other.gov)->account});
    gov_peer_copy(&f->founder, &f->other, &f->ns, 0);
    assert_true(is_member(&f->other, &f->ns, &f->other)); /* as far as it knows */
    assert_int_equal(writes(f, &f->other, &f->founder), GOV_AUTHOR_NOT);
    assert_int_equal(writes(f, &f->other, &f->member), GOV_AUTHOR_UNKNOWN);
}

/* Also when it is out since: it was an admin when it sealed. */
static void what_a_former_admin_sealed_is_waited_for(void **state) {
    fixture *f = *state;
    gov_group_op role = {.kind = GOV_MEMBER_ROLE_SET,
                         .account = gov_self(f->member.gov)->account,
                         .role = GOV_ROLE_ADMIN};
    seal_unreadable(f, &f->founder, role);
    gov_peer_copy(&f->founder, &f->member, &f->ns, 0);
    lose_key(&f->member, &f->ns, 0x79);
    seal_unreadable(f, &f->member, (gov_group_op){.kind = GOV_NOOP});
    remove_from(f, &f->founder, &f->member); /* beside it */
    gov_peer_copy(&f->founder, &f->other, &f->ns, 0);
    gov_peer_copy(&f->member, &f->other, &f->ns, 0);
    gov_peer_copy(&f->member, &f->founder, &f->ns, 0);
    assert_int_equal(writes(f, &f->other, &f->founder), GOV_AUTHOR_UNKNOWN);
}

/* Others may have built upon it: that is left out with it. */
static void what_cites_it_is_left_out_too(void **state) {
    fixture *f = *state;
    gov_actor joiner;
    gov_world w = {.ns = f->ns, .nonce = 1};
    lose_key(&f->member, &f->ns, 0x77);
    seal_unreadable(f, &f->member, (gov_group_op){.kind = GOV_NOOP});
    gov_peer_copy(&f->member, &f->founder, &f->ns, 0);
    gov_peer_copy(&f->member, &f->other, &f->ns, 0);
    gov_position on_top = gov_peer_position(&f->member, &f->ns);
    gov_actor_make(&joiner, 0x50);
    gov_root_op delivery = {.kind = GOV_KEY_DELIVERY, .group = f->ns};
    const cal_secret key = {{1}};
    const gov_identity *other = gov_self(f->other.gov);
    assert_int_equal(gov_envelope_seal_member(cal_os_posix(), &f->ns, &key, joiner.key,
                                              &other->sign_seed, NULL, NULL, &delivery.envelope),
                     0);
    gov_packet p = gov_world_root(&w, &other->sign_seed, on_top.heads, on_top.count, delivery);
    assert_int_equal(gov_replica_take(&f->founder, &f->ns, &p).reason, GOV_WHY_FINE);
    assert_int_equal(gov_replica_take(&f->other, &f->ns, &p).reason, GOV_WHY_FINE);
    gov_position heads = gov_peer_position(&f->founder, &f->ns);
    assert_int_equal(heads.count, 1);
    assert_memory_equal(&heads.heads[0], &p.id, 32); /* the one above it */
    assert_int_equal(writes(f, &f->founder, &f->other), GOV_AUTHOR_MAY);
    assert_int_equal(writes(f, &f->other, &f->founder), GOV_AUTHOR_MAY);
    remove_from(f, &f->founder, &f->member);
    assert_false(is_member(&f->founder, &f->ns, &f->member));
    gov_packet_free(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_unreadable_operation_stops_no_removal, setup, teardown),
        cmocka_unit_test_setup_teardown(a_thousand_of_them_stop_no_removal, setup, teardown),
        cmocka_unit_test_setup_teardown(the_removal_counts_in_any_order, setup, teardown),
        cmocka_unit_test_setup_teardown(what_an_admin_sealed_is_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(what_a_former_admin_sealed_is_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cites_it_is_left_out_too, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
