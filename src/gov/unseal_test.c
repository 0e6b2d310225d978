/* Keys that come late: however much they open, and however branched it is, the rows are those of a
 * node that could read all along, and no turn of the loop is long (governance.md 6). */
#include "support/gov_world.h"

#include <time.h>

#include "gov/share.h"

typedef struct {
    gov_replica early, late; /* with the keys from the start, and without */
    gov_world w;
    gov_actor alice;
    cal_group_id group;
    cal_secret key, other;
} fixture;

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    gov_replica_start(&f->early);
    gov_replica_start(&f->late);
    gov_world_init(&f->w, 0x30);
    gov_actor_make(&f->alice, 0x50);
    memset(f->group.bytes, 0x91, 32);
    memset(f->key.bytes, 0x92, 32);
    memset(f->other.bytes, 0x93, 32);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    gov_replica_check(&f->early);
    gov_replica_check(&f->late);
    gov_replica_stop(&f->early);
    gov_replica_stop(&f->late);
    free(f);
    return 0;
}

/* Both get it. */
static void give(fixture *f, gov_packet *packets, size_t count) {
    for (size_t at = 0; at < count; at += GOV_RECEIVE_OPS_MAX) {
        const gov_packet *some[GOV_RECEIVE_OPS_MAX];
        size_t n = count - at < GOV_RECEIVE_OPS_MAX ? count - at : GOV_RECEIVE_OPS_MAX;
        for (size_t i = 0; i < n; i++) some[i] = &packets[at + i];
        gov_replica_commit(&f->early, gov_replica_receive(&f->early, &f->w.ns, some, n));
        gov_replica_commit(&f->late, gov_replica_receive(&f->late, &f->w.ns, some, n));
    }
}

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void drain(gov_replica *r, const cal_group_id *ns, double *ret_longest, int *ret_turns) {
    *ret_longest = 0;
    for (*ret_turns = 0; gov_receive_pending(r->gov, ns); ++*ret_turns) {
        gov_change *change;
        double start = now_ms();
        assert_int_equal(gov_receive(r->gov, ns, NULL, 0, 0, &change, &r->err), 0);
        double turn = now_ms() - start;
        if (turn > *ret_longest) *ret_longest = turn;
        gov_replica_commit(r, change);
        assert_true(*ret_turns < 100000);
    }
}

static void bring_key(gov_replica *r, const cal_group_id *ns, const cal_group_id *group,
                      const cal_secret *key, double *ret_ms) {
    gov_change *change;
    double start = now_ms();
    assert_int_equal(gov_change_begin(r->gov, ns, &change, &r->err), 0);
    gov_put_key(change, group, key, 0);
    int result = gov_apply_unsealed(change, &r->err);
    if (!result) result = gov_unseal_step(change, &r->err);
    assert_int_equal(gov_change_finish(change, result, &change, &r->err), 0);
    *ret_ms = now_ms() - start;
    gov_replica_commit(r, change);
}

static gov_packet sealed(fixture *f, const gov_actor *who, const cal_hash *parents, uint32_t count,
                         const cal_secret *key, gov_group_op op) {
    return gov_world_sealed(&f->w, &who->sign, parents, count, f->group, key, op);
}

static gov_packet create(fixture *f, const cal_hash *parent, cal_group_id group) {
    return gov_world_root(&f->w, &f->w.owner.sign, parent, 1,
                          (gov_root_op){.kind = GOV_GROUP_CREATED,
                                        .group = group,
                                        .parent = f->w.ns,
                                        .account = f->w.owner.account,
                                        .restricted = true});
}

static void same(fixture *f) {
    gov_view view = gov_replica_view(&f->late, &f->w.ns);
    assert_int_equal(gov_walk_count(&view, ROW_SEALED, NULL), 0);
    gov_world_same(&f->early, &f->late, &f->w.ns);
}

/* 5,000 operations under one key, among others that were readable. */
static void test_many(void **state) {
    fixture *f = *state;
    enum { COUNT = 5000 };
    double first, longest;
    int turns;
    gov_packet *packets = calloc(COUNT + 2, sizeof *packets);
    packets[0] = gov_world_genesis(&f->w);
    packets[1] = create(f, &packets[0].id, f->group);
    for (size_t i = 2; i < COUNT + 2; i++) {
        uint8_t fill = (uint8_t)i;
        gov_group_op op = {.kind = GOV_MEMBER_ADDED, .role = GOV_ROLE_MEMBER};
        memset(op.account.bytes, fill, 32);
        op.account.bytes[0] = (uint8_t)(i >> 8);
        cal_group_id other = {{0x44, fill, (uint8_t)(i >> 8)}};
        packets[i] = i % 16 ? sealed(f, &f->w.owner, &packets[i - 1].id, 1, &f->key, op)
                            : create(f, &packets[i - 1].id, other);
    }
    gov_replica_key(&f->early, &f->w.ns, &f->group, &f->key);
    give(f, packets, COUNT + 2);
    bring_key(&f->late, &f->w.ns, &f->group, &f->key, &first);
    drain(&f->late, &f->w.ns, &longest, &turns);
    print_message("first turn %.2f ms, longest of %d others %.2f ms\n", first, turns, longest);
#ifndef __SANITIZE_ADDRESS__
    assert_true(first < 50 && longest < 50); /* 5 on a machine that does nothing else */
#endif
    same(f);
    for (size_t i = 0; i < COUNT + 2; i++) gov_packet_free(&packets[i]);
    free(packets);
}

/* Branches that meet, two keys that come in turn, a stop in between, and operations that come while
 * others are judged again. */
static void test_branches(void **state) {
    fixture *f = *state;
    enum { ROUNDS = 120 };
    double ms;
    int turns;
    size_t count = 0;
    gov_packet *packets = calloc(8 * ROUNDS + 8, sizeof *packets);
    packets[count++] = gov_world_genesis(&f->w);
    packets[count++] = create(f, &packets[0].id, f->group);
    packets[count] = gov_world_root(&f->w, &f->alice.sign, &packets[1].id, 1,
                                    gov_world_join(&f->alice, &f->w.owner, f->w.ns, 1, 1));
    cal_hash last = packets[count++].id;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        const cal_secret *key = i < ROUNDS / 2 ? &f->key : &f->other;
        gov_group_op role = {.kind = i % 3 ? GOV_MEMBER_ADDED : GOV_MEMBER_REMOVED,
                             .account = f->alice.account,
                             .role = i % 2 ? GOV_ROLE_MEMBER : GOV_ROLE_ADMIN};
        gov_group_op defaults = {.kind = GOV_DEFAULT_CAPABILITIES_SET, .capabilities = i};
        gov_group_op grant = {.kind = GOV_MEMBER_CAPABILITY_SET,
                              .account = f->alice.account,
                              .capabilities = GOV_CAPABILITIES_ALL};
        packets[count] = sealed(f, &f->w.owner, &last, 1, key, role);
        packets[count + 1] = sealed(f, &f->alice, &last, 1, key, defaults);
        packets[count + 2] = sealed(f, &f->w.owner, &packets[count + 1].id, 1, key, grant);
        packets[count + 3] = create(f, &last, (cal_group_id){{0x55, (uint8_t)i}});
        cal_hash all[] = {packets[count].id, packets[count + 2].id, packets[count + 3].id};
        packets[count + 4] =
            sealed(f, &f->w.owner, all, 3, key,
                   (gov_group_op){.kind = GOV_MEMBER_METADATA_SET, .account = f->alice.account});
        last = packets[count + 4].id;
        count += 5;
    }
    gov_replica_key(&f->early, &f->w.ns, &f->group, &f->key);
    gov_replica_key(&f->early, &f->w.ns, &f->group, &f->other);
    give(f, packets, count - 100);
    bring_key(&f->late, &f->w.ns, &f->group, &f->other, &ms); /* nothing of it decidable yet */
    bring_key(&f->late, &f->w.ns, &f->group, &f->key, &ms);
    gov_replica_commit(&f->late, gov_replica_receive(&f->late, &f->w.ns, NULL, 0));
    gov_change_abort(gov_replica_receive(&f->late, &f->w.ns, NULL, 0));
    gov_replica_commit(&f->late, gov_replica_receive(&f->late, &f->w.ns, NULL, 0));
    gov_replica_reopen(&f->late);
    gov_replica_commit(&f->late, gov_replica_receive(&f->late, &f->w.ns, NULL, 0));
    give(f, packets + count - 100, 100);
    drain(&f->late, &f->w.ns, &ms, &turns);
    same(f);
    for (size_t i = 0; i < count; i++) gov_packet_free(&packets[i]);
    free(packets);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_many, setup, teardown),
        cmocka_unit_test_setup_teardown(test_branches, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
