/* Much that is missing, fetched at once (sync/bulk.h): a node that was away for thousands of
 * writes, a namespace with thousands of operations, one who begins with a whole state while others
 * write, and peers that lie. Whole nodes in the simulated world; what it costs is asserted. */
#define node_of node_of_commit /* share_world.h has another one */
#include "node/internal.h"
#undef node_of
#include "share_world.h"
#include "sync/bulk.h"

typedef struct shared {
    cal_group_id ns;
    cal_context_id context;
} shared;

static shared found(place *p) {
    shared s;
    OK(p->world, cal_namespace_create_wait(node_at(p), &application, "test", &s.ns, &err));
    cal_context_create_options create = {.application = application, .group = s.ns};
    cal_context_created created;
    OK(p->world, cal_context_create_wait(node_at(p), &create, &created, &err));
    s.context = created.id;
    return s;
}

static void join(place *founder, place *joiner, const shared *s) {
    char json[TEXT_MAX];
    cal_joined joined;
    invite(founder, &s->ns, json);
    OK(joiner->world, cal_namespace_join_wait(node_at(joiner), json, "ours", &joined, &err));
}

static cal_sync_stats stats_of(place *p) {
    cal_sync_stats stats;
    cal_sync_stats_get(node_at(p), &stats);
    return stats;
}

static uint64_t now_of(const world *w) { return net_sim_now(node_sim_net(w->sim)); }

/* --- waiting --- */

static void until_equal(place *one, place *other, const shared *s) {
    for (int i = 0; i < 1800; i++) {
        cal_hash roots[2];
        if (root_of(one, &s->context, &roots[0]) && root_of(other, &s->context, &roots[1]) &&
            memcmp(&roots[0], &roots[1], sizeof roots[0]) == 0)
            return;
        node_sim_run(one->world->sim, 100 * MS, NULL, NULL);
    }
    cal_sync_status status = {0};
    cal_context_sync_status(node_at(other), &s->context, &status);
    CHECK(one->world, false, "places %zu and %zu never have the same root: %s", one->index,
          other->index, status.why);
}

/* --- much at once --- */

typedef struct asked {
    size_t left, failed;
} asked;

static void note_call(void *user, const cal_call_result *result) {
    asked *a = user;
    a->left--;
    a->failed += result->status != CAL_CALL_OK;
}
static void note_simple(void *user, const cal_error *e) {
    asked *a = user;
    a->left--;
    a->failed += e != NULL;
}
static bool all_answered(void *user) { return ((asked *)user)->left == 0; }

static void write_many(place *p, const shared *s, const char *prefix, size_t count) {
    enum { AT_ONCE = 100 };
    for (size_t i = 0; i < count;) {
        asked a = {0};
        for (; i < count && a.left < AT_ONCE; i++) {
            char args[96];
            snprintf(args, sizeof args, "{\"key\":\"%s%zu\",\"value\":\"%zu\"}", prefix, i % 50, i);
            a.left++;
            cal_execute(node_at(p), &s->context, "set", args, strlen(args), note_call, &a);
        }
        wait_for(p->world, all_answered, &a, "writes are not answered");
        CHECK(p->world, a.failed == 0, "%zu writes failed", a.failed);
    }
}

static void govern_many(place *p, const shared *s, size_t count) {
    enum { AT_ONCE = 50 };
    const cal_metadata_key key = {.of = CAL_METADATA_GROUP, .group = s->ns};
    for (size_t i = 0; i < count;) {
        asked a = {0};
        for (; i < count && a.left < AT_ONCE; i++) {
            char name[32];
            snprintf(name, sizeof name, "name %zu", i);
            a.left++;
            cal_metadata_set(node_at(p), &key, name, NULL, 0, note_simple, &a);
        }
        wait_for(p->world, all_answered, &a, "operations are not answered");
        CHECK(p->world, a.failed == 0, "%zu operations failed", a.failed);
    }
}

/* --- tests --- */

static void away_for_thousands_of_writes(void **state) {
    (void)state;
    enum { WRITES = 3000 };
    engine_signals_use();
    world *w = &now;
    world_open(w, 1, 2, 2);
    place *a = &w->places[0], *b = &w->places[1];
    shared s = found(a);
    join(a, b, &s);
    set(a, &s.context, "before", "1");
    until_equal(a, b, &s);
    node_sim_run(w->sim, 10 * SECOND, NULL,
                 NULL); /* nothing that comes now is of b's first state */
    node_sim_stop(b->sim);
    write_many(a, &s, "k", WRITES);
    uint64_t from = now_of(w);
    place_start(b);
    until_equal(a, b, &s);
    cal_sync_stats stats = stats_of(b);
    print_message("%d deltas: %.3f s, %llu frames, %llu questions, %llu one by one\n", WRITES,
                  (double)(now_of(w) - from) / 1e9, (unsigned long long)stats.bulk_frames,
                  (unsigned long long)stats.bulk_asked, (unsigned long long)stats.deltas_fetched);
    assert_true(stats.deltas_bulk >= WRITES * 9 / 10); /* some of the last come by gossip */
    assert_true(stats.deltas_fetched <= 8);
    assert_true(stats.bulk_frames <= 64);
    assert_true(stats.bulk_asked <= 8);
    assert_true(now_of(w) - from < 30 * SECOND);
    world_close(w);
}

/* Both wrote while they did not hear each other: neither fetches what both had before. */
static void apart_and_back(void **state) {
    (void)state;
    enum { BEFORE = 1000, APART = 300 };
    engine_signals_use();
    world *w = &now;
    world_open(w, 2, 2, 2);
    place *a = &w->places[0], *b = &w->places[1];
    shared s = found(a);
    join(a, b, &s);
    set(a, &s.context, "before", "1");
    until_equal(a, b, &s);
    write_many(a, &s, "k", BEFORE);
    until_equal(a, b, &s);
    cal_sync_stats before = stats_of(b);
    net_sim_cut(node_sim_machine(a->sim), node_sim_machine(b->sim));
    net_sim_cut(node_sim_machine(b->sim), node_sim_machine(a->sim));
    node_sim_run(w->sim, 60 * SECOND, NULL, NULL);
    write_many(a, &s, "a", APART);
    write_many(b, &s, "b", APART);
    net_sim_mend(node_sim_machine(a->sim), node_sim_machine(b->sim));
    net_sim_mend(node_sim_machine(b->sim), node_sim_machine(a->sim));
    until_equal(a, b, &s);
    cal_sync_stats stats = stats_of(b);
    assert_true(stats.deltas_bulk - before.deltas_bulk <= APART + 10);
    assert_true(stats.deltas_fetched - before.deltas_fetched <= 10);
    world_close(w);
}

static void a_namespace_of_thousands_of_operations(void **state) {
    (void)state;
    enum { OPERATIONS = 3000 };
    engine_signals_use();
    world *w = &now;
    world_open(w, 3, 2, 2);
    place *a = &w->places[0], *b = &w->places[1];
    shared s = found(a);
    govern_many(a, &s, OPERATIONS);
    set(a, &s.context, "before", "1");
    uint64_t from = now_of(w);
    join(a, b, &s);
    until_equal(a, b, &s);
    cal_sync_stats stats = stats_of(b);
    print_message("%d operations: %.3f s, %llu frames, %llu questions for missing ones\n",
                  OPERATIONS, (double)(now_of(w) - from) / 1e9,
                  (unsigned long long)stats.bulk_frames, (unsigned long long)stats.backfills);
    assert_true(gov_op_count(node_at(b)->gov, &s.ns) > OPERATIONS);
    assert_int_equal(gov_op_count(node_at(b)->gov, &s.ns), gov_op_count(node_at(a)->gov, &s.ns));
    assert_true(stats.ops_bulk >= OPERATIONS - 500); /* those of the join's answer */
    assert_int_equal(stats.backfills, 0);
    assert_true(now_of(w) - from < 60 * SECOND);
    world_close(w);
}

static void cut(place *one, place *other, bool is_cut) {
    net_sim_machine *first = node_sim_machine(one->sim), *second = node_sim_machine(other->sim);
    (is_cut ? net_sim_cut : net_sim_mend)(first, second);
    (is_cut ? net_sim_cut : net_sim_mend)(second, first);
}

static void note_finding(void *user, const char *finding) {
    (void)user;
    print_error("%s\n", finding);
}

/* c takes a's state whole while b, out of reach, writes above what lies below that state. When b is
 * back c takes what b wrote, and nothing of what it has; after a restart of c, too. */
static uint64_t above_a_state(uint64_t seed, bool restart) {
    enum { BEFORE = 300, APART = 30 };
    world *w = &now;
    world_open(w, seed, 3, 3);
    place *a = &w->places[0], *b = &w->places[1], *c = &w->places[2];
    shared s = found(a);
    join(a, b, &s);
    set(a, &s.context, "before", "1");
    until_equal(a, b, &s);
    write_many(a, &s, "a", BEFORE);
    until_equal(a, b, &s);
    cut(a, b, true);
    cut(c, b, true);
    node_sim_run(w->sim, 60 * SECOND, NULL, NULL);
    write_many(b, &s, "b", APART);
    write_many(a, &s, "c", APART);
    join(a, c, &s);
    until_equal(a, c, &s);
    uint64_t before = stats_of(c).deltas_fetched + stats_of(c).deltas_bulk;
    if (restart) {
        before = 0;
        node_sim_stop(c->sim);
        node_sim_run(w->sim, 200 * SECOND, NULL, NULL); /* the view that it was read from is gone */
        place_start(c);
        node_sim_run(w->sim, 10 * SECOND, NULL, NULL);
    }
    cut(a, b, false);
    cut(c, b, false);
    until_equal(a, b, &s);
    until_equal(a, c, &s);
    cal_sync_stats stats = stats_of(c);
    uint64_t fetched = stats.deltas_fetched + stats.deltas_bulk - before;
    cal_contexts_stats figures;
    cal_contexts_stats_get(node_at(c)->contexts, &figures);
    /* Asked before it knows the state's heads, b sends what is below them once, and it is dropped:
     * none of it is asked for one by one, or applied. */
    CHECK(w, fetched <= BEFORE + 2 * APART + 10, "%llu deltas were fetched",
          (unsigned long long)fetched);
    CHECK(w, stats.deltas_fetched <= APART + 10, "%llu deltas were fetched one by one",
          (unsigned long long)stats.deltas_fetched);
    CHECK(w, figures.applied <= APART + 10, "%llu deltas were applied",
          (unsigned long long)figures.applied);
    node_sim_stop(c->sim);
    OK(w, node_sim_check(node_sim_disk(c->sim), note_finding, NULL, &err));
    world_close(w);
    return stats.deltas_covered;
}

/* Who is met first decides whether anything is asked about: it is in some of the runs. */
static void a_joiner_stays_above_its_state(void **state) {
    (void)state;
    uint64_t covered = 0, covered_later = 0;
    engine_signals_use();
    for (uint64_t seed = 10; seed < 13; seed++) covered += above_a_state(seed, false);
    for (uint64_t seed = 20; seed < 24; seed++) covered_later += above_a_state(seed, true);
    assert_true(covered > 0 && covered_later > 0);
}

/* --- liars --- */

static const char *lie;
static size_t lie_len;
static int lies;

static void tell_lies(void *user, cal_p2p_stream *stream) {
    (void)user;
    lies++;
    cal_p2p_stream_write(stream, lie, lie_len);
    cal_p2p_stream_finish(stream);
}
static void on_lied(void *user, cal_p2p_stream *stream, int reason) {
    (void)user, (void)stream, (void)reason;
}
static const cal_p2p_stream_events lies_told = {.opened = tell_lies, .closed = on_lied};
static void become_liar(void *arg) {
    cal_p2p *host = cal_node_p2p(node_at(arg));
    static const cal_p2p_protocol protocol = {.id = SYNC_BULK_PROTOCOL, .events = &lies_told};
    cal_p2p_unhandle(host, SYNC_BULK_PROTOCOL);
    assert_int_equal(cal_p2p_handle(host, &protocol), 0);
}
static void say_no_more(void *arg) {
    cal_p2p_unhandle(cal_node_p2p(node_at(arg)), SYNC_BULK_PROTOCOL);
}

/* Whatever it says there, the network's own way is left. */
static void catch_up_with(void (*change)(void *arg), int expect_lies) {
    world *w = &now;
    world_open(w, 5, 2, 2);
    place *a = &w->places[0], *b = &w->places[1];
    shared s = found(a);
    cal_node_run(node_at(a), change, a);
    lies = 0;
    join(a, b, &s);
    set(a, &s.context, "before", "1");
    until_equal(a, b, &s);
    node_sim_stop(b->sim);
    write_many(a, &s, "k", 50);
    place_start(b);
    until_equal(a, b, &s);
    assert_int_equal(stats_of(b).deltas_bulk, 0);
    assert_true(lies >= expect_lies);
    world_close(w);
}

static void liars_cost_nothing(void **state) {
    (void)state;
    static const char nothing[] = "\0\0\0\x06\x00\0\0\0\0\x01", garbage[] = "\0\0\0\x03xyz",
                      wrong_kind[] = "\0\0\0\x06\x02\0\0\0\0\x01",
                      promises[] = "\0\0\0\x06\x00\0\0\0\0\x00",
                      refusal[] = "\0\0\0\x06\x00\0\0\0\0\x03";
    const cal_slice all[] = {{(const uint8_t *)nothing, sizeof nothing - 1},
                             {(const uint8_t *)garbage, sizeof garbage - 1},
                             {(const uint8_t *)wrong_kind, sizeof wrong_kind - 1},
                             {(const uint8_t *)promises, sizeof promises - 1},
                             {(const uint8_t *)refusal, sizeof refusal - 1}};
    engine_signals_use();
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        lie = (const char *)all[i].data;
        lie_len = all[i].len;
        catch_up_with(become_liar, 1);
    }
}

static void who_does_not_speak_it_is_asked_otherwise(void **state) {
    (void)state;
    engine_signals_use();
    catch_up_with(say_no_more, 0);
}

static int tell_seed(void **state) {
    (void)state;
    if (now.sim)
        print_error("seed %llu was running, at %.6f s\n", (unsigned long long)now.seed,
                    (double)net_sim_now(node_sim_net(now.sim)) / 1e9);
    return 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(away_for_thousands_of_writes, tell_seed),
        cmocka_unit_test_teardown(apart_and_back, tell_seed),
        cmocka_unit_test_teardown(a_namespace_of_thousands_of_operations, tell_seed),
        cmocka_unit_test_teardown(a_joiner_stays_above_its_state, tell_seed),
        cmocka_unit_test_teardown(liars_cost_nothing, tell_seed),
        cmocka_unit_test_teardown(who_does_not_speak_it_is_asked_otherwise, tell_seed),
    };
    if (argc != 2) {
        fprintf(stderr, "usage: %s KV_STORE_WASM\n", argv[0]);
        return 2;
    }
    app_path = argv[1];
    return cmocka_run_group_tests(tests, make_images, free_images);
}
