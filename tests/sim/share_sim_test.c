/* Nodes that share a namespace, whole, in the simulated world: founding, joining, writing, offline
 * and back, step by step. What may happen at random is in share_chaos_test.c. */
#include "app/app.h"
#define node_of node_of_commit /* share_world.h has another one */
#include "node/internal.h"
#undef node_of
#include "share_world.h"
#include "sync/snapshot.h"

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
    assert_memory_equal(&joined.namespace_id, &s->ns, sizeof s->ns);
}

/* Looks every so often: reading lets time pass. */
static void until_holds(place *p, const cal_context_id *context, const char *key,
                        const char *value) {
    for (int i = 0; i < 400; i++) {
        if (holds(p, context, key, value)) return;
        node_sim_run(p->world->sim, 100 * MS, NULL, NULL);
    }
    cal_sync_status status = {0};
    cal_context_sync_status(node_at(p), context, &status);
    CHECK(p->world, false, "place %zu never holds %s = %s (%s: %s)", p->index, key, value,
          cal_sync_state_text(status.state), status.why);
}

static void a_founder_and_a_joiner_see_each_others_writes(void **state) {
    (void)state;
    engine_signals_use();
    world *w = &now;
    world_open(w, 1, 2, 2);
    place *a = &w->places[0], *b = &w->places[1];
    shared s = found(a);
    set(a, &s.context, "before", "1");
    join(a, b, &s);
    until_holds(b, &s.context, "before", "1");
    set(b, &s.context, "from b", "2");
    until_holds(a, &s.context, "from b", "2");
    set(a, &s.context, "from a", "3");
    until_holds(b, &s.context, "from a", "3");
    cal_hash roots[2];
    node_sim_run(w->sim, 5 * SECOND, NULL, NULL);
    assert_true(root_of(a, &s.context, &roots[0]) && root_of(b, &s.context, &roots[1]));
    assert_memory_equal(&roots[0], &roots[1], sizeof roots[0]);
    world_close(w);
}

static void compared(void *user, const cal_error *e) { (void)user, (void)e; }

/* Members show each other that they are members, and come to rest. */
static void members_show_themselves_and_rest(void **state) {
    (void)state;
    enum { COUNT = 10 };
    engine_signals_use();
    world *w = &now;
    uint64_t served[COUNT];
    cal_sync_stats stats;
    world_open(w, 11, COUNT, COUNT);
    shared s = found(&w->places[0]);
    for (size_t i = 1; i < COUNT; i++) join(&w->places[0], &w->places[i], &s);
    for (int round = 0; round < 20; round++) { /* everybody asks everybody */
        for (size_t i = 0; i < COUNT; i++)
            cal_context_sync(node_at(&w->places[i]), &s.context, compared, NULL);
        node_sim_run(w->sim, 100 * MS, NULL, NULL);
    }
    node_sim_run(w->sim, 10 * SECOND, NULL, NULL);
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < COUNT; i++) {
            cal_sync_stats_get(node_at(&w->places[i]), &stats);
            if (pass == 1)
                CHECK(w, stats.heads_served < served[i] + 10 * COUNT,
                      "place %zu was asked for its heads %llu times in 10 s", i,
                      (unsigned long long)(stats.heads_served - served[i]));
            served[i] = stats.heads_served;
        }
        node_sim_run(w->sim, 10 * SECOND, NULL, NULL);
    }
    world_close(w);
}

/* --- applications and blobs of others --- */

static void join_with(place *joiner, const char *json) {
    cal_joined joined;
    OK(joiner->world, cal_namespace_join_wait(node_at(joiner), json, "ours", &joined, &err));
}

static void connect_to_place(void *arg) {
    place **both = arg;
    char text[64];
    cal_multiaddr address;
    snprintf(text, sizeof text, "/ip4/10.0.0.%zu/tcp/2428", both[1]->index + 1);
    assert_int_equal(cal_multiaddr_parse(text, &address), 0);
    cal_p2p_connect(cal_node_p2p(node_at(both[0])), &both[1]->id, &address, 1, NULL, NULL);
}
static void connect_places(place *from, place *to) {
    place *both[] = {from, to};
    cal_node_run(node_at(from), connect_to_place, both);
}

static void note_app(void *user, const cal_app_info *info) { *(cal_app_info *)user = *info; }

static cal_sync_stats stats_of(place *p) {
    cal_sync_stats stats;
    cal_sync_stats_get(node_at(p), &stats);
    return stats;
}

/* Who was removed, and refused when it tried to come back, hears that it was added again. */
static void the_removed_hear_that_they_are_back(void **state) {
    (void)state;
    engine_signals_use();
    world *w = &now;
    char json[TEXT_MAX];
    cal_joined joined;
    cal_node_identity identity;
    world_open(w, 9, 2, 2);
    place *a = &w->places[0], *b = &w->places[1];
    shared s = found(a);
    join(a, b, &s);
    set(a, &s.context, "before", "1");
    until_holds(b, &s.context, "before", "1");
    cal_node_identity_get(node_at(b), &identity);
    OK(w, cal_members_remove_wait(node_at(a), &s.ns, &identity.account, 1, &err));
    node_sim_run(w->sim, 10 * SECOND, NULL, NULL);
    output o;
    assert_int_equal(call(b, &s.context, "get", "{\"key\":\"before\"}", &o), CAL_EDENIED);
    assert_int_equal(o.status, CAL_CALL_UNAUTHORIZED);
    invite(a, &s.ns, json);
    assert_int_not_equal(cal_namespace_join_wait(node_at(b), json, "ours", &joined, &err), 0);
    set(a, &s.context, "meanwhile", "2");
    node_sim_run(w->sim, 10 * SECOND, NULL, NULL);
    assert_false(holds(b, &s.context, "meanwhile", "2"));
    cal_member_spec spec = {.account = identity.account, .role = CAL_ROLE_MEMBER};
    OK(w, cal_members_add_wait(node_at(a), &s.ns, &spec, 1, &err));
    until_holds(b, &s.context, "meanwhile", "2");
    set(b, &s.context, "from b", "3");
    until_holds(a, &s.context, "from b", "3");
    world_close(w);
}

/* Nothing that it writes vanishes silently. */
static void who_may_only_read_is_told_so(void **state) {
    (void)state;
    engine_signals_use();
    world *w = &now;
    cal_node_identity identity;
    cal_hash before, after;
    output o;
    world_open(w, 17, 2, 2);
    place *a = &w->places[0], *b = &w->places[1];
    shared s = found(a);
    join(a, b, &s);
    set(a, &s.context, "kept", "1");
    until_holds(b, &s.context, "kept", "1");
    cal_node_identity_get(node_at(b), &identity);
    OK(w, cal_member_set_role_wait(node_at(a), &s.ns, &identity.account, CAL_ROLE_READ_ONLY, &err));
    node_sim_run(w->sim, 10 * SECOND, NULL, NULL);
    assert_true(root_of(b, &s.context, &before));
    const char *args = "{\"key\":\"lost\",\"value\":\"9\"}";
    assert_int_equal(call(b, &s.context, "set", args, &o), CAL_EDENIED);
    assert_int_equal(o.status, CAL_CALL_FAILED);
    assert_non_null(strstr(err.message, "read-only member"));
    assert_non_null(strstr(err.message, "nothing was kept"));
    assert_true(root_of(b, &s.context, &after));
    assert_memory_equal(&before, &after, sizeof before);
    assert_true(holds(b, &s.context, "kept", "1"));
    assert_false(holds(b, &s.context, "lost", "9"));
    set(a, &s.context, "from a", "2");
    until_holds(b, &s.context, "from a", "2");
    OK(w, cal_member_set_role_wait(node_at(a), &s.ns, &identity.account, CAL_ROLE_MEMBER, &err));
    node_sim_run(w->sim, 10 * SECOND, NULL, NULL);
    set(b, &s.context, "from b", "3");
    until_holds(a, &s.context, "from b", "3");
    world_close(w);
}

static void note_deletion(void *user, const cal_error *e) { *(int *)user = e ? e->code : 0; }
static bool deletion_is_answered(void *user) { return *(int *)user != 1; }

/* Nor is it deleted in the memory of who asked, when it may not be. */
static void a_context_that_is_not_deleted_goes_on(void **state) {
    (void)state;
    engine_signals_use();
    world *w = &now;
    int code = 1;
    world_open(w, 19, 2, 2);
    place *a = &w->places[0], *b = &w->places[1];
    shared s = found(a);
    join(a, b, &s);
    set(a, &s.context, "before", "1");
    until_holds(b, &s.context, "before", "1");
    cal_context_delete(node_at(b), &s.context, note_deletion, &code);
    wait_for(w, deletion_is_answered, &code, "a deletion");
    assert_int_equal(code, CAL_EDENIED);
    set(b, &s.context, "from b", "2");
    until_holds(a, &s.context, "from b", "2");
    set(a, &s.context, "from a", "3");
    until_holds(b, &s.context, "from a", "3");
    world_close(w);
}

static void note_address(void *user, const char *address) {
    ++*(int *)user;
    assert_non_null(strstr(address, "/p2p/"));
}

/* With words of what the minute went by with. */
static void a_join_that_reaches_nobody_says_why(void **state) {
    (void)state;
    engine_signals_use();
    world *w = &now;
    cal_joined joined;
    char json[TEXT_MAX], *code;
    int addresses = 0;
    world_open(w, 18, 2, 2);
    place *a = &w->places[0], *b = &w->places[1];
    shared s = found(a);
    invite(a, &s.ns, json);
    OK(w, cal_invite_wait(node_at(a), &s.ns, NULL, &code, &err));
    OK(w, cal_invitation_addresses(json, note_address, &addresses, &err));
    assert_int_equal(addresses, 0);
    OK(w, cal_invitation_addresses(code, note_address, &addresses, &err));
    assert_true(addresses > 0);
    assert_int_equal(cal_invitation_addresses("nonsense", note_address, &addresses, &err),
                     CAL_EDECODE);
    node_sim_stop(a->sim);
    node_sim_run(w->sim, 10 * SECOND, NULL, NULL);
    assert_int_equal(cal_namespace_join_wait(node_at(b), code, "ours", &joined, &err),
                     CAL_EUNREACHABLE);
    assert_non_null(strstr(err.message, "could be reached in 60 s"));
    assert_non_null(strstr(err.message, "could not be dialled (the last: "));
    assert_int_equal(cal_namespace_join_wait(node_at(b), json, "ours", &joined, &err),
                     CAL_EUNREACHABLE);
    assert_non_null(strstr(err.message, "no address to dial was given"));
    free(code);
    world_close(w);
}

static void the_application_comes_from_whoever_has_it(void **state) {
    (void)state;
    engine_signals_use();
    world *w = &now;
    world_open(w, 2, 3, 1);
    place *a = &w->places[0], *b = &w->places[1], *c = &w->places[2];
    char json[TEXT_MAX];
    cal_app_info info;
    shared s = found(a);
    set(a, &s.context, "before", "1");
    invite(a, &s.ns, json);
    assert_int_equal(cal_app_get(node_at(b), &application, note_app, &info), CAL_ENOTFOUND);
    join(a, b, &s);
    until_holds(b, &s.context, "before", "1");
    assert_int_equal(cal_app_get(node_at(b), &application, note_app, &info), 0);
    assert_int_equal(stats_of(b).blobs_fetched, 1);
    assert_int_equal(stats_of(a).blobs_served, 1);
    set(b, &s.context, "from b", "2");
    until_holds(a, &s.context, "from b", "2");

    node_sim_stop(a->sim);
    connect_places(c, b);
    join_with(c, json);
    until_holds(c, &s.context, "from b", "2");
    assert_int_equal(stats_of(b).blobs_served, 1);
    set(c, &s.context, "from c", "3");
    until_holds(b, &s.context, "from c", "3");
    world_close(w);
}

/* Who joins after a removal cannot read what made the inviter an admin: those who can judge it. */
static void an_admin_invites_after_a_removal(void **state) {
    (void)state;
    engine_signals_use();
    world *w = &now;
    world_open(w, 7, 4, 4);
    place *a = &w->places[0], *b = &w->places[1], *c = &w->places[2], *d = &w->places[3];
    shared s = found(a);
    set(a, &s.context, "before", "1");
    join(a, b, &s);
    join(a, c, &s);
    until_holds(c, &s.context, "before", "1");
    OK(w, cal_member_set_role_wait(node_at(a), &s.ns, &gov_self(node_at(b)->gov)->account,
                                   CAL_ROLE_ADMIN, &err));
    node_sim_run(w->sim, SECOND, NULL, NULL);
    OK(w, cal_members_remove_wait(node_at(a), &s.ns, &gov_self(node_at(c)->gov)->account, 1, &err));
    node_sim_run(w->sim, SECOND, NULL, NULL);
    join(b, d, &s);
    until_holds(d, &s.context, "before", "1");
    set(d, &s.context, "from d", "2");
    until_holds(a, &s.context, "from d", "2");
    world_close(w);
}

/* Nobody has it for a while: the status says what is waited for, also after a restart. */
static void the_application_is_waited_for(void **state) {
    (void)state;
    engine_signals_use();
    world *w = &now;
    world_open(w, 3, 3, 1);
    place *a = &w->places[0], *b = &w->places[1];
    cal_sync_status status = {0};
    shared s = found(a);
    set(a, &s.context, "before", "1");
    /* a serves no blobs for now */
    cal_p2p_unhandle(cal_node_p2p(node_at(a)), NET_BLOB_PROTOCOL);
    join(a, b, &s);
    node_sim_run(w->sim, 10 * SECOND, NULL, NULL);
    OK(w, cal_context_sync_status(node_at(b), &s.context, &status));
    assert_int_equal(status.state, CAL_SYNC_WAITING);
    assert_non_null(strstr(status.why, "its application is"));
    assert_false(holds(b, &s.context, "before", "1"));
    node_sim_stop(b->sim);
    place_start(b);
    node_sim_run(w->sim, 10 * SECOND, NULL, NULL);
    OK(w, cal_context_sync_status(node_at(b), &s.context, &status));
    assert_int_equal(status.state, CAL_SYNC_WAITING);
    node_sim_stop(a->sim);
    place_start(a);
    until_holds(b, &s.context, "before", "1");
    node_sim_run(w->sim, 40 * SECOND, NULL, NULL);
    OK(w, cal_context_sync_status(node_at(b), &s.context, &status));
    assert_int_equal(status.state, CAL_SYNC_EQUAL);
    world_close(w);
}

static bool in_sync(place *p, const shared *s) {
    cal_sync_status status = {0};
    OK(p->world, cal_context_sync_status(node_at(p), &s->context, &status));
    return status.state == CAL_SYNC_EQUAL;
}

/* "In sync" is said of states that were compared, and not of one that has changed since. */
static void in_sync_says_no_more_than_was_compared(void **state) {
    (void)state;
    engine_signals_use();
    world *w = &now;
    world_open(w, 4, 2, 1);
    place *a = &w->places[0], *b = &w->places[1];
    shared s = found(a);
    join(a, b, &s);
    set(a, &s.context, "before", "1");
    until_holds(b, &s.context, "before", "1");
    node_sim_run(w->sim, 40 * SECOND, NULL, NULL);
    assert_true(in_sync(a, &s) && in_sync(b, &s));
    set(a, &s.context, "after", "2");
    assert_false(in_sync(a, &s)); /* its own change */
    until_holds(b, &s.context, "after", "2");
    assert_false(in_sync(b, &s)); /* another's */
    node_sim_run(w->sim, 40 * SECOND, NULL, NULL);
    assert_true(in_sync(a, &s) && in_sync(b, &s));
    world_close(w);
}

/* --- a state that takes longer than its stream lasts --- */

enum { LARGE = 12000, LARGE_COUNT = 900 /* some 44 pages, asked for 16 at once */ };

static void set_large(place *p, const shared *s, size_t number) {
    static char args[LARGE + 100];
    output o;
    int at = sprintf(args, "{\"key\":\"large %zu\",\"value\":\"", number);
    for (size_t i = 0; i < LARGE; i++) /* it compresses badly */
        args[at++] = (char)('a' + below(p->world, 26));
    memcpy(args + at, "\"}", 3);
    OK(p->world, call(p, &s->context, "set", args, &o));
}

static void until_pages(place *p, uint64_t pages) {
    for (int i = 0; i < 4000 && stats_of(p).state_pages < pages; i++)
        node_sim_run(p->world->sim, 20 * MS, NULL, NULL);
    CHECK(p->world, stats_of(p).state_pages >= pages, "%llu pages only",
          (unsigned long long)stats_of(p).state_pages);
}

static void hang_up(place *p, place *other) {
    cal_p2p_disconnect(cal_node_p2p(node_at(p)), &other->id);
    node_sim_run(p->world->sim, 2 * SECOND, NULL, NULL);
}

/* The stream breaks off twice; what had come by then does not come again. While it writes on. */
static void a_state_goes_on_where_it_broke_off(void **state) {
    (void)state;
    const net_sim_path slow = {.delay_ns = 5 * MS, .bytes_per_s = 4000000};
    engine_signals_use();
    world *w = &now;
    world_open(w, 5, 2, 1);
    place *a = &w->places[0], *b = &w->places[1];
    shared s = found(a);
    for (size_t i = 0; i < LARGE_COUNT; i++) set_large(a, &s, i);
    set(a, &s.context, "last", "1");
    net_sim_path_set(node_sim_machine(a->sim), node_sim_machine(b->sim), &slow);
    join(a, b, &s);
    until_pages(b, 20);
    hang_up(b, a);
    set(a, &s.context, "later", "2"); /* its root is another one now */
    connect_places(b, a);
    until_pages(b, 36);
    hang_up(b, a);
    connect_places(b, a);
    until_holds(b, &s.context, "last", "1");
    until_holds(b, &s.context, "later", "2");
    assert_int_equal(stats_of(b).states_resumed, 2);
    CHECK(w, stats_of(b).state_pages < 44 + 2 * SYNC_TAKE_PAGES, "%llu pages came",
          (unsigned long long)stats_of(b).state_pages);
    world_close(w);
}

/* What is kept of a state serves nobody once the peer has forgotten it: all of it comes again. */
static void a_state_that_is_no_more_is_taken_anew(void **state) {
    (void)state;
    const net_sim_path slow = {.delay_ns = 5 * MS, .bytes_per_s = 4000000};
    engine_signals_use();
    world *w = &now;
    world_open(w, 6, 2, 1);
    place *a = &w->places[0], *b = &w->places[1];
    shared s = found(a);
    for (size_t i = 0; i < LARGE_COUNT; i++) set_large(a, &s, i);
    net_sim_path_set(node_sim_machine(a->sim), node_sim_machine(b->sim), &slow);
    join(a, b, &s);
    until_pages(b, 20);
    net_sim_cut(node_sim_machine(a->sim), node_sim_machine(b->sim));
    net_sim_cut(node_sim_machine(b->sim), node_sim_machine(a->sim));
    hang_up(b, a);
    set(a, &s.context, "later", "2");
    node_sim_run(w->sim, 400 * SECOND, NULL, NULL); /* longer than a keeps what b began with */
    net_sim_mend(node_sim_machine(a->sim), node_sim_machine(b->sim));
    net_sim_mend(node_sim_machine(b->sim), node_sim_machine(a->sim));
    connect_places(b, a);
    until_holds(b, &s.context, "later", "2");
    assert_int_equal(stats_of(b).states_resumed, 0);
    world_close(w);
}

/* A stop, or a loss of power, anywhere between having joined and having the application. */
static void the_application_comes_after_a_stop(void **state) {
    (void)state;
    enum { SEEDS = 12 };
    engine_signals_use();
    world *w = &now;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        world_open(w, 100 + seed, 2, 1);
        place *a = &w->places[0], *b = &w->places[1];
        shared s = found(a);
        set(a, &s.context, "before", "1");
        join(a, b, &s);
        node_sim_run(w->sim, below(w, 600) * MS, NULL, NULL);
        place *ends = seed % 3 == 2 ? a : b;
        if (seed % 2)
            node_sim_stop(ends->sim);
        else
            node_sim_cut_off(ends->sim, CAL_SIM_TEAR);
        node_sim_run(w->sim, below(w, 600) * MS, NULL, NULL);
        place_start(ends);
        until_holds(b, &s.context, "before", "1");
        world_close(w);
    }
}

/* --- a bundle, and one that is of another application than it says --- */

static void pack(cal_slice wasm, cal_buffer *ret_archive) {
    const cal_manifest_options options = {
        .package = "org.example.kv", .app_version = "1.0.0", .wasm_path = "app.wasm"};
    const cal_bundle_file file = {"app.wasm", wasm};
    cal_secret seed;
    cal_buffer json;
    cal_buffer_init(&json, 1 << 16);
    cal_bundle_dev_key(&seed);
    assert_int_equal(cal_manifest_make(&options, &json, &err), 0);
    if (cal_bundle_pack(cal_buffer_slice(&json), &file, 1, &seed, ret_archive, &err))
        fail_msg("%s", err.message);
    cal_buffer_deinit(&json);
}

static cal_application_id install_bundle(place *p) {
    cal_application_id id;
    cal_buffer wasm, archive;
    cal_buffer_init(&wasm, 1 << 24);
    cal_buffer_init(&archive, 1 << 24);
    OK(p->world, cal_os_read_file(cal_os_posix(), app_path, 1 << 24, &wasm, &err));
    pack(cal_buffer_slice(&wasm), &archive);
    OK(p->world, cal_os_write_file(cal_sim_os(node_sim_disk(p->sim)), "/kv.mpk",
                                   cal_buffer_slice(&archive), &err));
    OK(p->world, cal_install_file_wait(node_at(p), "/kv.mpk", NULL, &id, &err));
    cal_buffer_deinit(&wasm);
    cal_buffer_deinit(&archive);
    return id;
}

static shared found_with(place *p, const cal_application_id *id) {
    shared s;
    OK(p->world, cal_namespace_create_wait(node_at(p), id, "test", &s.ns, &err));
    cal_context_create_options create = {.application = *id, .group = s.ns};
    cal_context_created created;
    OK(p->world, cal_context_create_wait(node_at(p), &create, &created, &err));
    s.context = created.id;
    return s;
}

static void a_bundle_is_verified(void **state) {
    (void)state;
    engine_signals_use();
    world *w = &now;
    world_open(w, 4, 2, 0);
    place *a = &w->places[0], *b = &w->places[1];
    cal_app_info info;
    cal_application_id id = install_bundle(a);
    shared s = found_with(a, &id);
    set(a, &s.context, "before", "1");
    join(a, b, &s);
    until_holds(b, &s.context, "before", "1");
    assert_int_equal(cal_app_get(node_at(b), &id, note_app, &info), 0);
    assert_int_equal(stats_of(b).blobs_fetched, 1);
    world_close(w);
}

typedef struct renaming {
    place *p;
    cal_application_id from, to;
    int result;
} renaming;
static void rename_application(void *arg) { /* the row says what no installation would */
    renaming *r = arg;
    cal_snapshot *snapshot;
    cal_application application_row;
    cal_arena arena;
    cal_batch *batch = cal_batch_new();
    cal_arena_init(&arena, 1 << 24);
    assert_int_equal(cal_store_snapshot(node_at(r->p)->store, &snapshot), 0);
    assert_int_equal(cal_application_get(snapshot, &r->from, &arena, &application_row), 0);
    application_row.id = r->to;
    assert_int_equal(cal_application_put(batch, &application_row), 0);
    cal_snapshot_free(snapshot);
    cal_arena_deinit(&arena);
    r->result = cal_store_commit(node_at(r->p)->store, batch, &err);
}

static void a_bundle_of_another_application_is_refused(void **state) {
    (void)state;
    engine_signals_use();
    world *w = &now;
    world_open(w, 5, 2, 0);
    place *a = &w->places[0], *b = &w->places[1];
    cal_app_info info;
    cal_sync_status status = {0};
    renaming r = {.p = a, .from = install_bundle(a), .to = {{7}}};
    cal_node_run(node_at(a), rename_application, &r);
    OK(w, r.result);
    shared s = found_with(a, &r.to);
    join(a, b, &s);
    node_sim_run(w->sim, 10 * SECOND, NULL, NULL);
    OK(w, cal_context_sync_status(node_at(b), &s.context, &status));
    assert_int_equal(status.state, CAL_SYNC_WAITING);
    assert_non_null(strstr(status.why, "its application is refused: it is package org.example.kv"));
    assert_int_equal(cal_app_get(node_at(b), &r.to, note_app, &info), CAL_ENOTFOUND);
    assert_int_equal(stats_of(b).blobs_fetched, 1); /* once */
    world_close(w);
}

/* --- blobs --- */

static cal_blob_id put_blob(place *p, size_t size, uint8_t salt) {
    cal_blob_id id;
    uint8_t *bytes = malloc(size);
    for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)(i % 251 + i / 65536 + salt);
    OK(p->world, cal_blob_put_wait(node_at(p), bytes, size, &id, &err));
    free(bytes);
    return id;
}

static void expect_blob(place *p, const cal_blob_id *id, size_t size, uint8_t salt) {
    uint8_t *bytes;
    size_t len;
    OK(p->world, cal_blob_get_wait(node_at(p), id, &bytes, &len, &err));
    assert_int_equal(len, size);
    for (size_t i = 0; i < size; i++)
        assert_int_equal(bytes[i], (uint8_t)(i % 251 + i / 65536 + salt));
    free(bytes);
}

static void a_blob_comes_to_members_alone(void **state) {
    (void)state;
    enum { SIZE = 3000000 };
    engine_signals_use();
    world *w = &now;
    world_open(w, 6, 3, 2);
    place *a = &w->places[0], *b = &w->places[1], *stranger = &w->places[2];
    shared s = found(a);
    join(a, b, &s);
    set(a, &s.context, "before", "1");
    until_holds(b, &s.context, "before", "1");
    cal_blob_id id = put_blob(a, SIZE, 1), other = put_blob(stranger, 10, 2);
    OK(w, cal_blob_fetch_wait(node_at(b), &id, &s.context, &err));
    expect_blob(b, &id, SIZE, 1);
    OK(w, cal_blob_fetch_wait(node_at(b), &id, &s.context, &err)); /* it is here */
    assert_int_equal(stats_of(a).blobs_served, 1);
    assert_int_equal(cal_blob_fetch_wait(node_at(b), &other, &s.context, &err), CAL_ENOTFOUND);
    assert_int_equal(cal_blob_fetch_wait(node_at(stranger), &id, &s.context, &err), CAL_ENOTFOUND);
    world_close(w);
}

static void part(void *arg) {
    place **both = arg;
    cal_p2p *host = cal_node_p2p(node_at(both[0]));
    cal_p2p_disconnect(host, &both[1]->id);
    assert_false(cal_p2p_is_connected(host, &both[1]->id));
}

/* Who has it is not connected, and was announced. */
static void an_announced_blob_is_found(void **state) {
    (void)state;
    engine_signals_use();
    world *w = &now;
    world_open(w, 7, 3, 3);
    place *a = &w->places[0], *b = &w->places[1], *c = &w->places[2];
    shared s = found(a);
    set(a, &s.context, "before", "1");
    join(a, b, &s);
    join(a, c, &s);
    until_holds(b, &s.context, "before", "1");
    until_holds(c, &s.context, "before", "1");
    cal_blob_id id = put_blob(b, 70000, 3);
    assert_int_equal(cal_blob_announce(node_at(c), &id, &s.context, &err), CAL_ENOTFOUND);
    OK(w, cal_blob_announce(node_at(b), &id, &s.context, &err));
    OK(w, cal_blob_announce(node_at(b), &id, &s.context, &err));
    node_sim_run(w->sim, 5 * SECOND, NULL, NULL);
    cal_node_run(node_at(c), part, (place *[]){c, b});
    OK(w, cal_blob_fetch_wait(node_at(c), &id, &s.context, &err));
    expect_blob(c, &id, 70000, 3);
    world_close(w);
}

/* --- a liar --- */

static void tell_lies(void *user, cal_p2p_stream *stream) {
    static const char response[] = "\0\0\0\x17{\"found\":true,\"size\":6}"
                                   "\0\0\0\x0a\x06\0\0\0wrong!"
                                   "\0\0\0\x04\0\0\0";
    ++*(int *)user;
    assert_int_equal(cal_p2p_stream_write(stream, response, sizeof response), sizeof response);
    cal_p2p_stream_finish(stream);
}
static void on_lied(void *user, cal_p2p_stream *stream, int reason) {
    (void)user, (void)stream, (void)reason;
}
static int lies;
static const cal_p2p_stream_events lies_told = {.opened = tell_lies, .closed = on_lied};
static void become_liar(void *arg) {
    cal_p2p *host = cal_node_p2p(node_at(arg));
    static const cal_p2p_protocol protocol = {
        .id = NET_BLOB_PROTOCOL, .events = &lies_told, .user = &lies};
    cal_p2p_unhandle(host, NET_BLOB_PROTOCOL);
    assert_int_equal(cal_p2p_handle(host, &protocol), 0);
}

static void a_liar_costs_nothing(void **state) {
    (void)state;
    engine_signals_use();
    world *w = &now;
    world_open(w, 8, 3, 2);
    place *a = &w->places[0], *b = &w->places[1], *c = &w->places[2];
    shared s = found(a);
    set(a, &s.context, "before", "1");
    join(a, b, &s);
    until_holds(b, &s.context, "before", "1");
    lies = 0;
    cal_node_run(node_at(b), become_liar, b);
    cal_blob_id ids[8];
    for (size_t i = 0; i < 8; i++) ids[i] = put_blob(a, 1000, (uint8_t)i);
    connect_places(c, b);
    join(a, c, &s);
    until_holds(c, &s.context, "before", "1");
    for (size_t i = 0; i < 8; i++) {
        OK(w, cal_blob_fetch_wait(node_at(c), &ids[i], &s.context, &err));
        expect_blob(c, &ids[i], 1000, (uint8_t)i);
    }
    assert_true(lies > 0); /* it was asked, and then no more */
    assert_true(lies < 8);
    world_close(w);
}

static int tell_seed(void **state) {
    (void)state;
    if (now.sim)
        print_error("seed %llu was running, at %.6f s\n", (unsigned long long)now.seed,
                    (double)net_sim_now(node_sim_net(now.sim)) / 1e9);
    return 0;
}

static void on_abort(int number) {
    tell_seed(NULL);
    signal(number, SIG_DFL);
    raise(number);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_founder_and_a_joiner_see_each_others_writes, tell_seed),
        cmocka_unit_test_teardown(members_show_themselves_and_rest, tell_seed),
        cmocka_unit_test_teardown(the_removed_hear_that_they_are_back, tell_seed),
        cmocka_unit_test_teardown(who_may_only_read_is_told_so, tell_seed),
        cmocka_unit_test_teardown(a_context_that_is_not_deleted_goes_on, tell_seed),
        cmocka_unit_test_teardown(a_join_that_reaches_nobody_says_why, tell_seed),
        cmocka_unit_test_teardown(the_application_comes_from_whoever_has_it, tell_seed),
        cmocka_unit_test_teardown(the_application_is_waited_for, tell_seed),
        cmocka_unit_test_teardown(an_admin_invites_after_a_removal, tell_seed),
        cmocka_unit_test_teardown(in_sync_says_no_more_than_was_compared, tell_seed),
        cmocka_unit_test_teardown(a_state_goes_on_where_it_broke_off, tell_seed),
        cmocka_unit_test_teardown(a_state_that_is_no_more_is_taken_anew, tell_seed),
        cmocka_unit_test_teardown(the_application_comes_after_a_stop, tell_seed),
        cmocka_unit_test_teardown(a_bundle_is_verified, tell_seed),
        cmocka_unit_test_teardown(a_bundle_of_another_application_is_refused, tell_seed),
        cmocka_unit_test_teardown(a_blob_comes_to_members_alone, tell_seed),
        cmocka_unit_test_teardown(an_announced_blob_is_found, tell_seed),
        cmocka_unit_test_teardown(a_liar_costs_nothing, tell_seed),
    };
    if (argc != 2) {
        fprintf(stderr, "usage: %s KV_STORE_WASM\n", argv[0]);
        return 2;
    }
    app_path = argv[1];
    signal(SIGABRT, on_abort);
    return cmocka_run_group_tests(tests, make_images, free_images);
}
