/* Nodes that share a namespace, whole, in the simulated world: founding, joining, writing, offline
 * and back, step by step. What may happen at random is in share_chaos_test.c. */
#include "share_world.h"

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
    };
    if (argc != 2) {
        fprintf(stderr, "usage: %s KV_STORE_WASM\n", argv[0]);
        return 2;
    }
    app_path = argv[1];
    signal(SIGABRT, on_abort);
    return cmocka_run_group_tests(tests, make_images, free_images);
}
