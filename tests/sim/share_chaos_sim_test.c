/* Nodes that share a context while everything happens to them: joins, writes by all, restarts,
 * losses of power, partitions, clocks that differ, old deltas taken away. Ten virtual seconds after
 * the network has healed every member holds the same governance, the same heads and root, and every
 * write that was answered. A failing run prints its seed: CAL_SIM_SEED repeats it, CAL_SIM_SEEDS
 * says how many are run. */
#include "share_chaos_ask.h"
#include "share_chaos_check.h"

#include <limits.h>

#include "seeds.h"

#define LOOK_NS (250 * MS)
enum { STORES_EACH = 15 /* steps */, LARGE_EACH = 50 /* seeds */ };

/* --- healing --- */

static bool calm(void *user) {
    (void)user;
    for (size_t i = 0; i < c.w->count; i++)
        if (c.standing[i] == JOINING || c.standing[i] == GOING) return false;
    return c.in_flight == 0;
}

static bool connected(void *user) {
    world *w = user;
    for (size_t i = 1; i < w->count; i++)
        if (!cal_p2p_is_connected(cal_node_p2p(node_at(&w->places[i])), &w->places[0].id) ||
            !cal_p2p_is_connected(cal_node_p2p(node_at(&w->places[0])), &w->places[i].id))
            return false;
    return true;
}

/* TCP may sit out its doubled timeouts on a path that is mended: not healed before that is over. */
static bool flowing(void *user) {
    world *w = user;
    for (size_t i = 0; i < w->count; i++)
        for (size_t k = 0; k < i; k++)
            if (net_sim_stalled_until(node_sim_machine(w->places[i].sim),
                                      node_sim_machine(w->places[k].sim)) >=
                net_sim_now(node_sim_net(w->sim)))
                return false;
    return connected(w);
}

static void heal(void) {
    world *w = c.w;
    for (size_t i = 0; i < w->count; i++) {
        isolate(&w->places[i], false);
        if (node_sim_is_off(w->places[i].sim)) place_start(&w->places[i]);
    }
    wait_for(w, flowing, w, "the nodes do not find each other again");
    c.heals = true;
    for (size_t i = 1; i < c.members; i++)
        if (c.standing[i] == STRANGER) ask_to_join(&w->places[i]);
    wait_for(w, calm, NULL, "not everything is answered");
    for (size_t i = 0; i < c.members; i++) {
        if (c.standing[i] != STRANGER) continue;
        ask_to_join(&w->places[i]); /* a first one may have failed with the partition */
        wait_for(w, calm, NULL, "a join is not answered");
        CHECK(w, c.standing[i] == MEMBER, "place %zu cannot join: %s", i, c.refused);
    }
}

static size_t length(const cal_list *list) {
    size_t count = 0;
    for (const cal_list *at = list->next; at != list; at = at->next) count++;
    return count;
}

static void describe_context(place *p, const scope *of) {
    const sync_context *context = sync_context_get(node_at(p)->sync, &of->context);
    if (!context) {
        print_error("  it does not share the context\n");
        return;
    }
    print_error("  came %zu, governed %zu, stateless %zu, to open %zu, ready %zu; %s%s%s%s\n",
                length(&context->came), length(&context->governed), length(&context->stateless),
                length(&context->to_open), length(&context->ready),
                context->intake ? "a step in, " : "", context->applying ? "one applied, " : "",
                context->compare ? "a comparison, " : "",
                context->compare_wanted ? "another wanted" : "");
}

static void describe(place *p, const scope *of) {
    seen s;
    cal_sync_status status = {0};
    cal_sync_stats stats;
    state_of(p, of, &s);
    cal_context_sync_status(node_at(p), &of->context, &status);
    cal_sync_stats_get(node_at(p), &stats);
    const cal_os *os = cal_sim_os(node_sim_disk(p->sim));
    print_error("place %zu, clock %.3f: %zu heads, root %02x%02x, %llu operations, %zu heads of "
                "them; %s, %llu deltas wait, %llu failures: %s\n",
                p->index, (double)os->wall_ns(os->user) / 1e9, s.head_count, s.root.bytes[0],
                s.root.bytes[1], (unsigned long long)s.op_count, s.op_heads,
                cal_sync_state_text(status.state), (unsigned long long)status.waiting,
                (unsigned long long)status.failures, status.why);
#define PRINT(name, text) print_error("  %s %llu", #name, (unsigned long long)stats.name);
    CAL_SYNC_COUNTERS(PRINT)
    print_error("\n");
    describe_context(p, of);
}

static void check_equal(void) {
    world *w = c.w;
    size_t other = 0, at = 0;
    bool equal = all_equal(&other, &at);
    for (int i = 0; i < HEALS_WITHIN_S * 2 && !equal; i++) {
        node_sim_run(w->sim, SECOND / 2, NULL, NULL);
        equal = all_equal(&other, &at);
    }
    if (!equal) {
        for (size_t i = 0; i < w->count; i++) describe(&w->places[i], &c.scopes[at]);
        same_rows(&w->places[0], &w->places[other], &c.scopes[at].group, true);
        CHECK(w, false, "places 0 and %zu differ in group %zu %d s after the network has healed",
              other, at, HEALS_WITHIN_S);
    }
    for (size_t s = 0; s < c.scope_count; s++)
        for (size_t i = 1; i < c.members; i++)
            c.compared[s] += is_member(&w->places[i], &c.scopes[s]);
    for (size_t n = 0; n < c.write_count; n++) {
        char key[32];
        output o;
        if (c.writes[n] != DONE || c.ever_gone[c.author[n]][c.scope_of[n]]) continue;
        snprintf(key, sizeof key, "{\"key\":\"w%zu\"}", n);
        OK(w, call(&w->places[0], &c.scopes[c.scope_of[n]].context, "get", key, &o));
        CHECK(w, strcmp(o.text, "null") != 0, "write %zu was answered and is lost", n);
    }
}

static void named(void *user, const cal_error *e) { *(int *)user = e ? e->code : 0; }
static bool is_answered(void *user) { return *(int *)user != INT_MAX; }

/* By an operation: the name that it was made with is the founder's own. */
static void name_group(place *founder, const cal_group_id *group) {
    int code = INT_MAX;
    const cal_metadata_key key = {.of = CAL_METADATA_GROUP, .group = *group};
    cal_metadata_set(node_at(founder), &key, "a name", NULL, 0, named, &code);
    wait_for(c.w, is_answered, &code, "a name");
    CHECK(c.w, code == 0, "the name is refused: %s", cal_error_name(code));
}

/* The defaults of a group, too, are its maker's own until an operation says so. */
static void set_defaults(place *founder, const cal_group_id *group) {
    int code = INT_MAX;
    cal_group_set_default_capabilities(node_at(founder), group, CAL_CAN_JOIN_OPEN_SUBGROUPS, named,
                                       &code);
    wait_for(c.w, is_answered, &code, "defaults");
    CHECK(c.w, code == 0, "defaults are refused: %s", cal_error_name(code));
}

static void add_scope(place *founder, const cal_group_id *group, size_t keyed) {
    cal_context_create_options create = {.application = application, .group = *group};
    cal_context_created created;
    name_group(founder, group);
    OK(c.w, cal_context_create_wait(node_at(founder), &create, &created, &err));
    c.scopes[c.scope_count++] = (scope){*group, created.id, keyed};
}

/* The founder's namespace and context; with_groups: a restricted and an open group, too, each with
 * a context of its own. */
static void found_all(place *founder, bool with_groups) {
    world *w = c.w;
    OK(w, cal_namespace_create_wait(node_at(founder), &application, "test", &c.ns, &err));
    add_scope(founder, &c.ns, 0);
    for (int open = 0; with_groups && open < 2; open++) {
        cal_group_id group;
        cal_group_options options = {.parent = &c.ns, .open = open};
        OK(w, cal_group_create_wait(node_at(founder), &options, &group, &err));
        set_defaults(founder, &group);
        add_scope(founder, &group, open ? 0 : 1); /* the open one has the namespace's key */
    }
    c.founder = gov_self(node_at(founder)->gov)->sign_key;
    for (size_t i = 0; i < w->count; i++) c.account[i] = account_of(&w->places[i]);
    /* Who is invited may have the namespace's key before the founder knows that it has joined. And
     * nothing is sealed with the open group's own key. */
    for (size_t i = 1; i < c.members; i++) c.knows[i][0].invited = c.knows[i][2].invited = true;
    invite(founder, &c.ns, c.invitation);
}

/* With a look at the keys every now and then. */
static void live(uint64_t ns) {
    while (ns > 0) {
        uint64_t part = ns < LOOK_NS ? ns : LOOK_NS;
        node_sim_run(c.w->sim, part, NULL, NULL);
        check_keys_in_memory();
        ns -= part;
    }
}

/* Of one seed in LARGE_EACH. */
static bool is_large(uint64_t seed) { return seed % LARGE_EACH == LARGE_EACH / 7; }

static uint64_t right_clock(place *p) {
    const cal_os *os = cal_sim_os(node_sim_disk(p->sim));
    return os->wall_ns(os->user) - net_sim_now(node_sim_net(p->world->sim));
}

static void run_seed(uint64_t seed) {
    world *w = &now;
    uint32_t draw = (uint32_t)(seed / 4);
    memset(&c, 0, sizeof c);
    c.w = w;
    c.members = is_large(seed) ? 8 + seed / LARGE_EACH * 5 % 13 : 2 + seed % 4;
    /* one who is never a member */
    size_t count = c.members + ((draw % 3 == 0 || is_large(seed)) && c.members < PLACES_MAX);
    compaction = draw % 2 ? (cal_compaction_options){.above = 6 + draw / 2 % 8,
                                                     .keep = 1 + draw / 2 % 5,
                                                     .interval_s = 1 + draw / 4 % 5}
                          : (cal_compaction_options){0};
    world_open(w, seed, count, count);
    c.began_ns = right_clock(&w->places[0]);
    found_all(&w->places[0], draw % 5 < 2);
    if (count > c.members)
        cal_node_run(node_at(&w->places[c.members]), hear_everything, &w->places[c.members]);
    size_t steps = is_large(seed) ? 20 + below(w, 30) : 30 + below(w, 60);
    for (size_t i = 2; i < c.members; i++)
        if (below(w, 2)) c.joins_after[i] = below(w, steps);
    for (size_t i = 0; i < steps; c.steps = ++i) {
        live(below(w, 1500 * MS));
        step();
        if (below(w, 3) == 0) ask_something();
        if (i % STORES_EACH == STORES_EACH - 1) check_stores();
    }
    heal();
    check_equal();
    check_stores();
    check_contexts();
    for (size_t i = 0; i < w->count; i++) {
        cal_node_stats stats;
        cal_node_stats_get(node_at(&w->places[i]), &stats);
        c.compacted += stats.deltas_compacted;
    }
    world_close(w);
}

static void everything_happens(void **state) {
    (void)state;
    engine_signals_use();
#ifdef __SANITIZE_ADDRESS__
    sim_seeds seeds = sim_seeds_from(60);
#else
    sim_seeds seeds = sim_seeds_from(500);
#endif
    uint64_t writes = 0, cuts = 0, restarts = 0, partitions = 0, removals = 0, returns = 0;
    uint64_t by_others = 0, out_by_others = 0, kept_out = 0, roles = 0, leaves = 0, compacted = 0,
             regroupings = 0;
    uint64_t compared[SCOPES_MAX] = {0}, written[SCOPES_MAX] = {0};
    uint64_t keys = 0, rows = 0, values = 0, questions = 0, answers = 0, hearings = 0;
    for (uint64_t seed = seeds.first; seed < seeds.end; seed++) {
        run_seed(seed);
        writes += c.answered;
        cuts += c.cuts;
        restarts += c.restarts;
        partitions += c.partitions;
        removals += c.removals;
        returns += c.returns;
        roles += c.roles;
        by_others += c.invited_by_others;
        out_by_others += c.removed_by_others;
        kept_out += c.kept_out;
        leaves += c.leaves;
        compacted += c.compacted;
        regroupings += c.regroupings;
        for (size_t s = 0; s < SCOPES_MAX; s++)
            compared[s] += c.compared[s], written[s] += c.written[s];
        keys += c.keys_seen, rows += c.rows_seen, values += c.values_seen;
        questions += c.questions, answers += c.answers, hearings += c.hearings;
    }
    print_message("%lu seeds: %llu writes answered, %llu losses of power, %llu restarts, %llu "
                  "partitions, %llu removals, %llu returns, %llu changes of roles, %llu left, "
                  "%llu invited and %llu removed by others than the founder, "
                  "%llu deltas compacted\n",
                  seeds.end - seeds.first, (unsigned long long)writes, (unsigned long long)cuts,
                  (unsigned long long)restarts, (unsigned long long)partitions,
                  (unsigned long long)removals, (unsigned long long)returns,
                  (unsigned long long)roles, (unsigned long long)leaves,
                  (unsigned long long)by_others, (unsigned long long)out_by_others,
                  (unsigned long long)compacted);
    print_message("members compared and writes answered: of the namespace %llu, %llu, of a closed "
                  "group %llu, %llu, of an open one %llu, %llu; %llu times into groups and out\n",
                  (unsigned long long)compared[0], (unsigned long long)written[0],
                  (unsigned long long)compared[1], (unsigned long long)written[1],
                  (unsigned long long)compared[2], (unsigned long long)written[2],
                  (unsigned long long)regroupings);
    print_message("looked for what is hidden: %llu times at keys, %llu rows, %llu values met; "
                  "%llu times before a write; %llu questions of who is no member, %llu answers, "
                  "%llu things heard\n",
                  (unsigned long long)keys, (unsigned long long)rows, (unsigned long long)values,
                  (unsigned long long)kept_out, (unsigned long long)questions,
                  (unsigned long long)answers, (unsigned long long)hearings);
}

static int tell_repeat(void **state) {
    tell_seed(state);
    if (now.sim) print_error("repeat with CAL_SIM_SEED=%llu\n", (unsigned long long)now.seed);
    return 0;
}

static void on_abort(int number) {
    tell_repeat(NULL);
    signal(number, SIG_DFL);
    raise(number);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(everything_happens, tell_repeat),
    };
    if (argc != 2) {
        fprintf(stderr, "usage: %s KV_STORE_WASM\n", argv[0]);
        return 2;
    }
    app_path = argv[1];
    signal(SIGABRT, on_abort);
    return cmocka_run_group_tests(tests, make_images, free_images);
}
