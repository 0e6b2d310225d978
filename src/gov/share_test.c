/* What nodes share: who watches, history, authors at their position, keys that devices pull
 * (governance.md 6, 11, 13; 18.1 T16, T25, T30, T35). */
#include "support/gov_peers.h"

typedef struct {
    gov_replica founder, member, other;
    cal_group_id ns;
} fixture;

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    gov_replica_start(&f->founder);
    gov_replica_start(&f->member);
    gov_replica_start(&f->other);
    f->ns = gov_peer_found(&f->founder);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    gov_replica_check(&f->founder);
    gov_replica_check(&f->member);
    gov_replica_stop(&f->founder);
    gov_replica_stop(&f->member);
    gov_replica_stop(&f->other);
    free(f);
    return 0;
}

/* --- who watches --- */

typedef struct {
    fixture *f;
    int commits, purges, registered, ended;
    size_t ops;
    bool members, keys;
} watch;

static void see_context(void *user, const cal_group_id *group, const cal_context_id *context,
                        bool registered) {
    watch *w = user;
    cal_group_id found;
    int result = gov_context_group(w->f->founder.gov, context, &found, NULL);
    assert_int_equal(result, registered ? 0 : CAL_ENOTFOUND); /* it is visible already */
    if (registered) assert_memory_equal(&found, group, 32);
    w->registered += registered;
    w->ended += !registered;
}

static void committed(void *user, const gov_change *change) {
    watch *w = user;
    gov_change *none;
    w->commits++;
    w->ops += gov_change_ops(change);
    w->members = gov_change_touches_members(change);
    w->keys = gov_change_brings_keys(change);
    gov_change_contexts(change, see_context, w);
    assert_int_equal(gov_change_begin(w->f->founder.gov, gov_change_namespace(change), &none, NULL),
                     CAL_EBUSY);
}

static void purged(void *user, const cal_group_id *namespace_id) {
    watch *w = user;
    assert_memory_equal(namespace_id, &w->f->ns, 32);
    w->purges++;
}

static void test_observer(void **state) {
    static const gov_observer observer = {committed, purged};
    fixture *f = *state;
    watch w = {.f = f};
    gov_observe(f->founder.gov, &observer, &w);
    cal_group_id group = gov_peer_group(&f->founder, f->ns, false);
    assert_true(w.commits == 1 && w.ops == 1 && w.members && w.keys);
    cal_context_id context = gov_peer_context(&f->founder, group, 0xC1);
    assert_true(w.commits == 2 && w.ops == 3 && !w.members && !w.keys && w.registered == 1);
    gov_peer_do(&f->founder, gov_context_detach(f->founder.gov, &context, &change, err));
    assert_true(w.commits == 3 && w.ended == 1);
    gov_change *open;
    assert_int_equal(gov_group_set_metadata(f->founder.gov, &group, "x", &open, &f->founder.err),
                     0);
    gov_change_abort(open);
    assert_int_equal(w.commits, 3);
    gov_peer_context(&f->founder, group, 0xC2);
    gov_peer_do(&f->founder, gov_group_delete(f->founder.gov, &group, &change, err));
    assert_int_equal(w.ended, 2);
    assert_int_equal(gov_namespace_delete(f->founder.gov, &f->ns, &open, &f->founder.err), 0);
    gov_replica_commit(&f->founder, open);
    assert_int_equal(w.purges, 1);
    gov_observe(f->founder.gov, NULL, NULL);
}

/* --- history --- */

static void test_history(void **state) {
    fixture *f = *state;
    gov_bag *all = calloc(1, sizeof *all), *page = calloc(1, sizeof *page);
    cal_hash heads[8], missing = {{0xEE}};
    for (int i = 0; i < 30; i++) gov_peer_group(&f->founder, f->ns, false);
    gov_bag_fill(all, &f->founder, &f->ns);
    assert_int_equal(all->count, 31);
    assert_int_equal(gov_op_count(f->founder.gov, &f->ns), 31);
    for (size_t i = 0; i < all->count; i++) {
        if (i) assert_true(memcmp(&all->packets[i - 1].id, &all->packets[i].id, 32) < 0);
        assert_int_equal(gov_has_op(f->founder.gov, &f->ns, &all->packets[i].id), 0);
    }
    assert_int_equal(gov_has_op(f->founder.gov, &f->ns, &missing), CAL_ENOTFOUND);
    assert_int_equal(gov_has_op(f->other.gov, &f->ns, &missing), CAL_ENOTFOUND);
    assert_int_equal(gov_heads(f->founder.gov, &f->ns, heads, 8), 1);
    assert_int_equal(gov_heads(f->other.gov, &f->ns, heads, 8), 0);
    /* pages of the smallest ids */
    const cal_hash *after = NULL;
    for (size_t at = 0; at < all->count; at += page->count) {
        gov_bag_free(page);
        assert_int_equal(gov_history_read(f->founder.store, &f->ns, NULL, 0, after, 7, SIZE_MAX,
                                          gov_bag_add, page),
                         0);
        assert_int_equal(page->count, at + 7 < all->count ? 7 : all->count - at);
        for (size_t i = 0; i < page->count; i++)
            assert_memory_equal(&page->packets[i].id, &all->packets[at + i].id, 32);
        after = &all->packets[at + page->count - 1].id;
    }
    /* by id, those that are here, bounded in bytes */
    const cal_hash ids[] = {all->packets[9].id, missing, all->packets[2].id, all->packets[5].id};
    gov_bag_free(page);
    assert_int_equal(
        gov_history_read(f->founder.store, &f->ns, ids, 4, NULL, 500, SIZE_MAX, gov_bag_add, page),
        0);
    assert_int_equal(page->count, 3);
    assert_memory_equal(&page->packets[1].id, &ids[2], 32);
    gov_bag_free(page);
    assert_int_equal(
        gov_history_read(f->founder.store, &f->ns, ids, 4, NULL, 500, 1, gov_bag_add, page), 0);
    assert_int_equal(page->count, 1);
    gov_bag_free(page);
    assert_int_equal(gov_history_read(f->founder.store, &f->ns, NULL, 0, &all->packets[30].id, 500,
                                      SIZE_MAX, gov_bag_add, page),
                     0);
    assert_int_equal(page->count, 0);
    gov_bag_free(all);
    free(all);
    free(page);
}

/* --- what others do not have --- */

static size_t read_past(fixture *f, const cal_hash *ids, size_t count, size_t step, gov_bag *bag) {
    gov_past past;
    bool more = true;
    int rc;
    assert_int_equal(gov_past_init(f->founder.gov, &f->ns, ids, count, &past), 0);
    while ((rc = gov_past_step(f->founder.store, &past, step)) == CAL_EBUSY) continue;
    assert_int_equal(rc, 0);
    gov_bag_free(bag);
    while (more) {
        size_t before = bag->count;
        rc = gov_past_read(f->founder.store, &past, step, SIZE_MAX, gov_bag_add, bag, &more);
        assert_int_equal(rc, 0);
        assert_true(bag->count <= before + step);
    }
    gov_past_deinit(&past);
    return bag->count;
}

static void test_past(void **state) {
    fixture *f = *state;
    gov_bag *first = calloc(1, sizeof *first), *later = calloc(1, sizeof *later);
    cal_hash heads[8], sample[40], missing = {{0xEE}};
    gov_past past;
    assert_int_equal(gov_past_init(f->other.gov, &(cal_group_id){{9}}, NULL, 0, &past),
                     CAL_ENOTFOUND);
    for (int i = 0; i < 10; i++) gov_peer_group(&f->founder, f->ns, false);
    assert_int_equal(gov_heads(f->founder.gov, &f->ns, heads, 8), 1);
    assert_int_equal(read_past(f, NULL, 0, 3, first), 11);
    for (int i = 0; i < 7; i++) gov_peer_group(&f->founder, f->ns, false);
    assert_int_equal(read_past(f, heads, 1, 1, later), 7); /* above the old head, oldest first */
    for (size_t i = 0; i < later->count; i++)
        for (size_t k = 0; k < first->count; k++)
            assert_memory_not_equal(&later->packets[i].id, &first->packets[k].id, 32);
    assert_int_equal(read_past(f, &missing, 1, 100, later), 18);
    size_t known = gov_history_sample(f->founder.gov, &f->ns, sample, 40);
    assert_true(known >= 16 && known <= 40);
    assert_int_equal(read_past(f, sample, known, 5, later), 0);
    assert_int_equal(gov_history_sample(f->founder.gov, &f->ns, sample, 4), 4);
    assert_int_equal(gov_history_sample(f->other.gov, &f->ns, sample, 4), 0);
    gov_bag_free(first);
    gov_bag_free(later);
    free(first);
    free(later);
}

/* --- authors --- */

static gov_author judge(gov_replica *r, const cal_context_id *context, gov_replica *author,
                        const gov_position *position) {
    gov_author answer;
    assert_int_equal(gov_author_judge(r->gov, context, &gov_self(author->gov)->sign_key, position,
                                      &answer, &r->err),
                     0);
    return answer;
}

/* While a change is open, what is committed is asked. */
static void test_author_beside_change(void **state) {
    fixture *f = *state;
    cal_context_id context = gov_peer_context(&f->founder, f->ns, 0xC1), unknown = {{9}};
    gov_position before = gov_peer_position(&f->founder, &f->ns), none = {.count = 0}, after;
    gov_author answer;
    gov_change *change;
    gov_peer_join(&f->member, &f->founder, f->ns, GOV_ROLE_MEMBER);
    after = gov_peer_position(&f->founder, &f->ns);
    gov_group_op removal = {.kind = GOV_MEMBER_REMOVED,
                            .account = gov_self(f->member.gov)->account};
    assert_int_equal(
        gov_peer_author(&f->founder, &f->ns, &f->ns, removal, &change, &f->founder.err), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(judge(&f->founder, &context, &f->member, &after).verdict, GOV_AUTHOR_MAY);
        assert_int_equal(judge(&f->founder, &context, &f->member, &before).verdict, GOV_AUTHOR_NOT);
        assert_int_equal(judge(&f->founder, &context, &f->founder, &before).verdict,
                         GOV_AUTHOR_MAY);
    }
    gov_replica_commit(&f->founder, change);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(judge(&f->founder, &context, &f->member, &after).verdict, GOV_AUTHOR_MAY);
        assert_int_equal(judge(&f->founder, &context, &f->member, &before).verdict, GOV_AUTHOR_NOT);
    }
    after = gov_peer_position(&f->founder, &f->ns);
    assert_int_equal(judge(&f->founder, &context, &f->member, &after).verdict, GOV_AUTHOR_NOT);
    assert_int_equal(judge(&f->founder, &context, &f->founder, &none).verdict, GOV_AUTHOR_NOT);
    assert_int_equal(gov_author_judge(f->founder.gov, &unknown, &gov_self(f->founder.gov)->sign_key,
                                      &after, &answer, &f->founder.err),
                     CAL_ENOTFOUND);
    after.heads[after.count++] = (cal_hash){{0xEE}};
    answer = judge(&f->founder, &context, &f->founder, &after);
    assert_int_equal(answer.verdict, GOV_AUTHOR_UNKNOWN);
    assert_int_equal(answer.wait.kind, GOV_WAIT_PARENT);
    assert_int_equal(answer.wait.id.bytes[0], 0xEE);
}

/* No operation makes such a member here yet; one that did would be in the graph like this. */
static void note_attested(fixture *f) {
    const gov_identity *founder = gov_self(f->founder.gov), *member = gov_self(f->member.gov);
    gov_change *change;
    cal_buffer bytes;
    cal_hash heads[8];
    uint32_t count = (uint32_t)gov_heads(f->founder.gov, &f->ns, heads, 8);
    gov_signed_op op = {.namespace_id = f->ns,
                        .nonce = 1000,
                        .parents = {heads, count},
                        .op = {.root = {.kind = GOV_MEMBER_JOINED_TEE,
                                        .group = f->ns,
                                        .role = GOV_ROLE_READ_ONLY_TEE,
                                        .credential = member->credential}}};
    gov_noted noted = {.op = &op, .effect = GOV_EFFECT_FULL, .author = &founder->account};
    memcpy(op.op.root.member_key, member->sign_key.bytes, 32);
    cal_buffer_init(&bytes, GOV_OP_MAX);
    assert_int_equal(gov_signed_op_sign(&op, &founder->sign_seed, &bytes, &noted.id), 0);
    noted.bytes = cal_buffer_slice(&bytes);
    assert_int_equal(gov_change_begin(f->founder.gov, &f->ns, &change, &f->founder.err), 0);
    assert_int_equal(gov_graph_note(change, &noted, &f->founder.err), 0);
    assert_int_equal(gov_change_finish(change, 0, &change, &f->founder.err), 0);
    gov_replica_commit(&f->founder, change);
    cal_buffer_deinit(&bytes);
}

static void test_attested_writes_nothing(void **state) {
    fixture *f = *state;
    cal_context_id context = gov_peer_context(&f->founder, f->ns, 0xC1);
    gov_peer_join(&f->member, &f->founder, f->ns, GOV_ROLE_MEMBER);
    gov_position before = gov_peer_position(&f->founder, &f->ns), after;
    note_attested(f);
    after = gov_peer_position(&f->founder, &f->ns);
    assert_int_equal(judge(&f->founder, &context, &f->member, &before).verdict, GOV_AUTHOR_MAY);
    gov_author answer = judge(&f->founder, &context, &f->member, &after);
    assert_int_equal(answer.verdict, GOV_AUTHOR_NOT);
    assert_non_null(strstr(answer.why, "only read"));
}

/* A delta of a restricted group's context that was sealed before the group had its own key. */
static void test_keys_of_a_context(void **state) {
    fixture *f = *state;
    cal_group_id group = gov_peer_group(&f->founder, f->ns, false),
                 other = gov_peer_group(&f->founder, f->ns, false);
    cal_context_id context = gov_peer_context(&f->founder, group, 0xC1);
    const cal_group_id *holders[] = {&group, &f->ns, &other};
    for (size_t i = 0; i < 3; i++) {
        gov_view view;
        gov_group_key key;
        cal_secret opens;
        assert_non_null(gov_find_group(f->founder.gov, holders[i], &view));
        assert_true(gov_key_current(&view, holders[i], &key));
        assert_int_equal(gov_context_key(f->founder.gov, &context, &key.id, &opens),
                         i < 2 ? 0 : CAL_ENOTFOUND);
        if (i < 2) assert_memory_equal(&opens, &key.key, 32);
    }
}

/* --- keys --- */

static size_t wanted(gov_replica *r, const cal_group_id *ns, gov_key_want *wants) {
    return gov_keys_wanted(r->gov, ns, 0, wants, 16);
}

static int serve(gov_replica *r, const fixture *f, const cal_group_id *group, gov_replica *asker,
                 const cal_device_id *device, const cal_hash *key_id, gov_envelope *envelope) {
    return gov_key_serve(r->gov, &f->ns, group, &gov_self(asker->gov)->sign_key, device, key_id,
                         envelope);
}

/* A group whose key the member has not got: what is sealed in it, and who writes after it, waits.
 */
static void test_pull(void **state) {
    fixture *f = *state;
    gov_key_want wants[16];
    gov_envelope envelope;
    gov_change *none;
    gov_context_info info;
    cal_group_id group = gov_peer_group(&f->founder, f->ns, false);
    gov_peer_join(&f->member, &f->founder, f->ns, GOV_ROLE_MEMBER);
    assert_int_equal(wanted(&f->member, &f->ns, wants), 0);
    gov_group_op add = {.kind = GOV_MEMBER_ADDED,
                        .account = gov_self(f->member.gov)->account,
                        .role = GOV_ROLE_MEMBER};
    gov_peer_do(&f->founder, gov_peer_author(&f->founder, &f->ns, &group, add, &change, err));
    cal_context_id context = gov_peer_context(&f->founder, group, 0xC1);
    cal_context_id shared = gov_peer_context(&f->founder, f->ns, 0xC2);
    gov_peer_copy(&f->founder, &f->member, &f->ns, 4);
    assert_int_equal(gov_context_get(f->member.gov, &context, &info), CAL_ENOTFOUND);
    assert_int_equal(gov_context_get(f->member.gov, &shared, &info), 0);
    gov_position here = gov_peer_position(&f->member, &f->ns);
    assert_int_equal(judge(&f->member, &shared, &f->founder, &here).verdict, GOV_AUTHOR_MAY);
    assert_int_equal(wanted(&f->member, &f->ns, wants), 1);
    assert_memory_equal(&wants[0].group, &group, 32);
    assert_false(wants[0].any);
    /* every refusal is the same (T25) */
    const cal_device_id *device = &gov_self(f->member.gov)->device;
    const cal_hash unknown = {{1}};
    assert_int_equal(serve(&f->founder, f, &group, &f->other, &gov_self(f->other.gov)->device,
                           &wants[0].key_id, &envelope),
                     CAL_ENOTFOUND);
    assert_int_equal(serve(&f->founder, f, &group, &f->other, device, &wants[0].key_id, &envelope),
                     CAL_ENOTFOUND);
    assert_int_equal(serve(&f->founder, f, &group, &f->member, &gov_self(f->founder.gov)->device,
                           &wants[0].key_id, &envelope),
                     CAL_ENOTFOUND);
    assert_int_equal(serve(&f->founder, f, &group, &f->member, NULL, &wants[0].key_id, &envelope),
                     CAL_ENOTFOUND);
    assert_int_equal(serve(&f->founder, f, &group, &f->member, device, &unknown, &envelope),
                     CAL_ENOTFOUND);
    assert_int_equal(serve(&f->member, f, &group, &f->member, device, &wants[0].key_id, &envelope),
                     CAL_ENOTFOUND);
    cal_group_id elsewhere = gov_peer_found(&f->founder);
    assert_int_equal(serve(&f->founder, f, &elsewhere, &f->member, device, NULL, &envelope),
                     CAL_ENOTFOUND);
    /* another key than the one that was asked for */
    assert_int_equal(serve(&f->founder, f, &f->ns, &f->member, device, NULL, &envelope), 0);
    gov_key_want wrong = wants[0];
    wrong.group = f->ns;
    const cal_public_key *founder = &gov_self(f->founder.gov)->sign_key;
    assert_int_equal(
        gov_key_take(f->member.gov, &f->ns, &wrong, &envelope, founder, &none, &f->member.err),
        CAL_EVERIFY);
    wrong.any = true;
    assert_int_equal(
        gov_key_take(f->member.gov, &f->ns, &wrong, &envelope, founder, &none, &f->member.err),
        CAL_EEXISTS);
    assert_int_equal(serve(&f->founder, f, &group, &f->member, device, &wants[0].key_id, &envelope),
                     0);
    assert_int_equal(gov_key_take(f->member.gov, &f->ns, &wants[0], &envelope,
                                  &gov_self(f->other.gov)->sign_key, &none, &f->member.err),
                     CAL_EVERIFY);
    assert_int_equal(
        gov_key_take(f->other.gov, &f->ns, &wants[0], &envelope, founder, &none, &f->other.err),
        CAL_ENOTFOUND);
    gov_peer_do(&f->member,
                gov_key_take(f->member.gov, &f->ns, &wants[0], &envelope, founder, &change, err));
    gov_peer_drain(&f->member, &f->ns);
    assert_int_equal(gov_context_get(f->member.gov, &context, &info), 0);
    assert_int_equal(wanted(&f->member, &f->ns, wants), 0);
    gov_write_grant grant;
    assert_int_equal(gov_context_write(f->member.gov, &context, &grant, &f->member.err), 0);
    gov_world_same(&f->founder, &f->founder, &f->ns);
    const cal_account_id *author = &gov_self(f->founder.gov)->account;
    gov_key_wish(f->member.gov, &context, author, &unknown);
    gov_key_wish(f->member.gov, &context, author, &unknown);
    assert_int_equal(wanted(&f->member, &f->ns, wants), 1);
    assert_memory_equal(&wants[0].key_id, &unknown, 32);
}

static bool wanted_within(gov_replica *r, const cal_group_id *ns, const cal_hash *key_id,
                          uint64_t turns) {
    gov_key_want wants[16];
    for (uint64_t turn = 0; turn < turns; turn++) {
        size_t count = gov_keys_wanted(r->gov, ns, turn, wants, 16);
        for (size_t i = 0; i < count; i++)
            if (memcmp(&wants[i].key_id, key_id, 32) == 0) return true;
    }
    return false;
}

/* One member names keys without end: those that others named are asked for all the same, and each
 * of its own has its turn. */
static void invented_keys_crowd_out_no_others(void **state) {
    fixture *f = *state;
    gov_peer_join(&f->member, &f->founder, f->ns, GOV_ROLE_MEMBER);
    cal_context_id context = gov_peer_context(&f->founder, f->ns, 0xC1);
    gov_peer_copy(&f->founder, &f->member, &f->ns, 0);
    const cal_account_id liar = {{1}}, honest = {{2}}, another = {{3}};
    const cal_hash true_one = {{1, 1}}, other_one = {{1, 2}};
    gov_key_wish(f->member.gov, &context, &honest, &true_one);
    cal_hash last = {{0}};
    for (int i = 0; i < 1000; i++) {
        last = (cal_hash){{2, (uint8_t)i, (uint8_t)(i >> 8)}};
        gov_key_wish(f->member.gov, &context, &liar, &last);
    }
    gov_key_wish(f->member.gov, &context, &another, &other_one);
    assert_true(wanted_within(&f->member, &f->ns, &true_one, 1));
    assert_true(wanted_within(&f->member, &f->ns, &other_one, 1));
    assert_true(wanted_within(&f->member, &f->ns, &last, GOV_WISHES_MAX));
}

/* Operations that nobody can read name keys, too: only those that were bound to an account once
 * are believed. */
static void strangers_name_no_keys(void **state) {
    fixture *f = *state;
    gov_key_want wants[16];
    gov_change *given;
    cal_secret made = {{0x55}};
    cal_hash made_id;
    gov_key_id(&made, &made_id);
    gov_peer_join(&f->member, &f->founder, f->ns, GOV_ROLE_MEMBER);
    gov_peer_copy(&f->founder, &f->member, &f->ns, 0);
    assert_int_equal(gov_change_begin(f->member.gov, &f->ns, &given, &f->member.err), 0);
    for (uint8_t i = 0; i < 100; i++) {
        gov_signed_op op = {.op = {.group = true, .group_id = f->ns, .key_id = {{3, i}}},
                            .nonce = i};
        cal_hash id = {{4, i}};
        memset(op.signer, 0xAB, sizeof op.signer);
        gov_change_put_sealed(given, &op, &id);
    }
    gov_signed_op op = {.op = {.group = true, .group_id = f->ns, .key_id = made_id}};
    cal_hash id = {{5}};
    memcpy(op.signer, gov_self(f->founder.gov)->sign_key.bytes, sizeof op.signer);
    gov_change_put_sealed(given, &op, &id);
    assert_int_equal(gov_change_finish(given, 0, &given, &f->member.err), 0);
    gov_change_commit(given); /* seen, but not stored */
    assert_int_equal(wanted(&f->member, &f->ns, wants), 1);
    assert_memory_equal(&wants[0].key_id, &made_id, 32);
}

/* T35, T16: an operation of the group that cannot be read hides who is in it; a revoked device is
 * served nothing. */
static void test_unreadable(void **state) {
    fixture *f = *state;
    gov_key_want wants[16];
    gov_envelope envelope;
    gov_peer_join(&f->member, &f->founder, f->ns, GOV_ROLE_MEMBER);
    cal_context_id context = gov_peer_context(&f->founder, f->ns, 0xC1);
    gov_peer_copy(&f->founder, &f->member, &f->ns, 0);
    /* the founder goes on with the next key */
    cal_secret next = {{0x77}};
    gov_change *given;
    cal_hash next_id;
    gov_key_id(&next, &next_id);
    assert_int_equal(gov_change_begin(f->founder.gov, &f->ns, &given, &f->founder.err), 0);
    gov_put_key(given, &f->ns, &next, 0);
    assert_int_equal(gov_change_finish(given, 0, &given, &f->founder.err), 0);
    gov_replica_commit(&f->founder, given);
    gov_peer_do(&f->founder, gov_group_set_metadata(f->founder.gov, &f->ns, "new", &change, err));
    gov_peer_copy(&f->founder, &f->member, &f->ns, 0);
    gov_position here = gov_peer_position(&f->member, &f->ns);
    gov_author answer = judge(&f->member, &context, &f->founder, &here);
    assert_int_equal(answer.verdict, GOV_AUTHOR_UNKNOWN);
    assert_int_equal(answer.wait.kind, GOV_WAIT_KEY);
    assert_memory_equal(&answer.wait.id, &next_id, 32);
    assert_int_equal(wanted(&f->member, &f->ns, wants), 1);
    const cal_device_id *device = &gov_self(f->member.gov)->device;
    assert_int_equal(serve(&f->founder, f, &f->ns, &f->member, device, &next_id, &envelope), 0);
    gov_peer_do(&f->member, gov_key_take(f->member.gov, &f->ns, &wants[0], &envelope,
                                         &gov_self(f->founder.gov)->sign_key, &change, err));
    gov_peer_drain(&f->member, &f->ns);
    assert_int_equal(judge(&f->member, &context, &f->founder, &here).verdict, GOV_AUTHOR_MAY);
    gov_group_op revoke = {.kind = GOV_DEVICE_UNLINKED,
                           .account = gov_self(f->member.gov)->account,
                           .device = *device};
    gov_peer_do(&f->founder, gov_peer_author(&f->founder, &f->ns, &f->ns, revoke, &change, err));
    assert_int_equal(serve(&f->founder, f, &f->ns, &f->member, device, &next_id, &envelope),
                     CAL_ENOTFOUND);
}

/* A key that was fetched to read history does not come before the current one. */
static void test_old_key(void **state) {
    fixture *f = *state;
    cal_secret old = {{0x33}};
    gov_view view;
    gov_group_key before, after;
    gov_change *change;
    gov_envelope envelope;
    gov_key_want want = {.group = f->ns};
    gov_peer_join(&f->member, &f->founder, f->ns, GOV_ROLE_MEMBER);
    gov_find_group(f->member.gov, &f->ns, &view);
    assert_true(gov_key_current(&view, &f->ns, &before));
    gov_key_id(&old, &want.key_id);
    assert_int_equal(
        gov_envelope_seal_device(cal_os_posix(), &f->ns, &old, &gov_self(f->member.gov)->device,
                                 gov_self(f->member.gov)->kem_key,
                                 &gov_self(f->founder.gov)->sign_seed, NULL, NULL, &envelope),
        0);
    assert_int_equal(gov_key_take(f->member.gov, &f->ns, &want, &envelope,
                                  &gov_self(f->founder.gov)->sign_key, &change, &f->member.err),
                     0);
    gov_replica_commit(&f->member, change);
    gov_find_group(f->member.gov, &f->ns, &view);
    assert_true(gov_key_current(&view, &f->ns, &after));
    assert_memory_equal(&before.id, &after.id, 32);
    assert_true(gov_key_find(&view, &f->ns, &want.key_id, &after));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_observer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_history, setup, teardown),
        cmocka_unit_test_setup_teardown(test_past, setup, teardown),
        cmocka_unit_test_setup_teardown(test_author_beside_change, setup, teardown),
        cmocka_unit_test_setup_teardown(test_attested_writes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_keys_of_a_context, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pull, setup, teardown),
        cmocka_unit_test_setup_teardown(invented_keys_crowd_out_no_others, setup, teardown),
        cmocka_unit_test_setup_teardown(strangers_name_no_keys, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unreadable, setup, teardown),
        cmocka_unit_test_setup_teardown(test_old_key, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
