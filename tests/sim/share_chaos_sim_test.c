/* Nodes that share a context while everything happens to them: joins, writes by all, restarts,
 * losses of power, partitions, clocks that differ, old deltas taken away. Ten virtual seconds after
 * the network has healed every member holds the same governance, the same heads and root, and every
 * write that was answered. A failing run prints its seed: CAL_SIM_SEED repeats it, CAL_SIM_SEEDS
 * says how many are run. */
#include "share_world.h"

#include "gov/share.h"
#include "node/internal.h"
#include "seeds.h"
#include "sync/context.h"

enum { WRITES_MAX = 400, HEALS_WITHIN_S = 10 };

typedef enum standing { STRANGER, JOINING, MEMBER, GOING, GONE } standing;
typedef enum fate { ASKED, DONE, REFUSED } fate;

typedef struct chaos {
    world *w;
    cal_group_id ns;
    cal_context_id context;
    char invitation[TEXT_MAX];
    char refused[300]; /* why the last join failed */
    standing standing[PLACES_MAX];
    bool removed_since[PLACES_MAX]; /* by the founder, who made a new key with it */
    bool ever_gone[PLACES_MAX];     /* what it wrote then is nobody's promise */
    uint8_t author[WRITES_MAX];
    bool cut[PLACES_MAX];
    bool reading;
    fate writes[WRITES_MAX];
    size_t write_count, in_flight;
    uint64_t compacted; /* deltas, since the last starts */
    uint64_t answered, cuts, restarts, partitions, joins, removals, returns, roles, leaves;
} chaos;

static chaos c;

/* --- joins and writes, answered whenever --- */

typedef struct asked {
    place *p;
    size_t number;
} asked;

static void joined(void *user, const cal_error *e, const cal_joined *j) {
    place *p = user;
    (void)j;
    if (node_sim_is_off(p->sim)) { /* nobody heard the answer */
        c.standing[p->index] = STRANGER;
        return;
    }
    c.standing[p->index] = e ? STRANGER : MEMBER;
    c.joins += !e;
    if (e) snprintf(c.refused, sizeof c.refused, "%s", e->message);
}

static void ask_to_join(place *p) {
    c.standing[p->index] = JOINING;
    cal_namespace_join(node_at(p), c.invitation, NULL, joined, p);
}

static void answered(void *user, const cal_call_result *result) {
    asked *a = user;
    bool off = node_sim_is_off(a->p->sim);
    c.in_flight--;
    bool done =
        result->status == CAL_CALL_OK && result->changed; /* a read-only member changes nothing */
    if (!off) c.writes[a->number] = done ? DONE : REFUSED;
    c.answered += !off && done;
    free(a);
}

static void write_one(place *p) {
    char args[100];
    if (c.write_count == WRITES_MAX) return;
    asked *a = malloc(sizeof *a);
    assert_non_null(a);
    *a = (asked){p, c.write_count++};
    c.writes[a->number] = ASKED;
    c.author[a->number] = (uint8_t)p->index;
    c.in_flight++;
    snprintf(args, sizeof args, "{\"key\":\"w%zu\",\"value\":\"%zu\"}", a->number, p->index);
    cal_execute(node_at(p), &c.context, "set", args, strlen(args), answered, a);
}

/* --- members come and go: what the founder does --- */

static cal_account_id account_of(place *p) {
    cal_node_identity identity;
    cal_node_identity_get(node_at(p), &identity);
    return identity.account;
}

static void removed(void *user, const cal_error *e) {
    place *p = user;
    if (node_sim_is_off(c.w->places[0].sim)) e = &err; /* nobody knows */
    if (c.standing[p->index] == GOING) c.standing[p->index] = e ? MEMBER : GONE;
    if (!e) c.removed_since[p->index] = true;
    c.removals += !e;
}

static void returned(void *user, const cal_error *e) {
    place *p = user;
    if (node_sim_is_off(c.w->places[0].sim)) return;
    if (!e) c.standing[p->index] = MEMBER;
    if (!e) c.removed_since[p->index] = false;
    c.returns += !e;
}

static void left(void *user, const cal_error *e) {
    place *p = user;
    if (c.standing[p->index] == GOING) c.standing[p->index] = e ? MEMBER : GONE;
    c.leaves += !e;
}

static void nothing(void *user, const cal_error *e) { (void)user, c.roles += !e; }

static void change_members(void) {
    world *w = c.w;
    place *founder = &w->places[0], *p = &w->places[1 + below(w, w->count - 1)];
    if (node_sim_is_off(founder->sim) || node_sim_is_off(p->sim)) return;
    cal_account_id account = account_of(p);
    if (c.standing[p->index] == GONE) {
        cal_member_spec spec = {.account = account, .role = CAL_ROLE_MEMBER};
        cal_members_add(node_at(founder), &c.ns, &spec, 1, returned, p);
    } else if (c.standing[p->index] == MEMBER && below(w, 3) == 0) {
        cal_role role = below(w, 2) ? CAL_ROLE_READ_ONLY : CAL_ROLE_MEMBER;
        cal_member_set_role(node_at(founder), &c.ns, &account, role, nothing, NULL);
    } else if (c.standing[p->index] == MEMBER) {
        c.standing[p->index] = GOING;
        c.ever_gone[p->index] = true;
        if (below(w, 4))
            cal_members_remove(node_at(founder), &c.ns, &account, 1, removed, p);
        else
            cal_group_leave(node_at(p), &c.ns, left, p);
    }
}

/* --- trouble --- */

static void isolate(place *p, bool cut) {
    if (c.cut[p->index] == cut) return;
    c.cut[p->index] = cut;
    for (size_t i = 0; i < c.w->count; i++) {
        net_sim_machine *self = node_sim_machine(p->sim),
                        *other = node_sim_machine(c.w->places[i].sim);
        if (i == p->index) continue;
        (cut ? net_sim_cut : net_sim_mend)(self, other);
        (cut ? net_sim_cut : net_sim_mend)(other, self);
    }
    c.partitions += cut;
}

static void stop(place *p) {
    static const cal_sim_survival survivals[] = {CAL_SIM_KEEP, CAL_SIM_DROP, CAL_SIM_TEAR};
    if (below(c.w, 2)) {
        node_sim_cut_off(p->sim, survivals[below(c.w, 3)]);
        c.cuts++;
    } else {
        node_sim_stop(p->sim);
        c.restarts++;
    }
    if (c.standing[p->index] == JOINING) c.standing[p->index] = STRANGER;
}

static void step(void) {
    world *w = c.w;
    place *p = &w->places[below(w, w->count)];
    if (node_sim_is_off(p->sim)) {
        if (below(w, 3) == 0) place_start(p);
        return;
    }
    switch (below(w, 11)) {
    case 3:
        change_members();
        break;
    case 0:
        stop(p);
        break;
    case 1:
        isolate(p, !c.cut[p->index]);
        break;
    case 2:
        cal_sim_set_wall(node_sim_disk(p->sim),
                         cal_sim_os(node_sim_disk(w->places[0].sim))
                                 ->wall_ns(cal_sim_os(node_sim_disk(w->places[0].sim))->user) +
                             below(w, 4 * SECOND) - 2 * SECOND);
        break;
    default:
        if (c.standing[p->index] == STRANGER)
            ask_to_join(p);
        else if (c.standing[p->index] == MEMBER)
            write_one(p);
    }
}

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
    for (size_t i = 1; i < w->count; i++)
        if (c.standing[i] == STRANGER) ask_to_join(&w->places[i]);
    wait_for(w, calm, NULL, "not everything is answered");
    for (size_t i = 0; i < w->count; i++) {
        if (c.standing[i] != STRANGER) continue;
        ask_to_join(&w->places[i]); /* a first one may have failed with the partition */
        wait_for(w, calm, NULL, "a join is not answered");
        CHECK(w, c.standing[i] == MEMBER, "place %zu cannot join: %s", i, c.refused);
    }
}

typedef struct view {
    cal_hash root;
    cal_hash heads[64];
    size_t head_count;
    cal_hash ops[64];
    size_t op_heads;
    uint64_t op_count;
} view;

static void note_state(void *user, const cal_context_info *info) {
    view *s = user;
    s->root = info->root;
    s->head_count = info->head_count < 64 ? info->head_count : 64;
    memcpy(s->heads, info->heads, s->head_count * sizeof *s->heads);
}

static int compare_hashes(const void *a, const void *b) { return memcmp(a, b, sizeof(cal_hash)); }

static void state_of(place *p, view *s) {
    memset(s, 0, sizeof *s);
    cal_context_get(node_at(p), &c.context, note_state, s);
    cal_gov *gov = node_at(p)->gov;
    s->op_heads = gov_heads(gov, &c.ns, s->ops, 64);
    s->op_count = gov_op_count(gov, &c.ns);
    qsort(s->heads, s->head_count, sizeof *s->heads, compare_hashes);
    qsort(s->ops, s->op_heads, sizeof *s->ops, compare_hashes);
}

static bool founder_has(place *p) {
    cal_account_id account = account_of(p);
    return gov_member_path(node_at(&c.w->places[0])->gov, &c.ns, &account, NULL) != GOV_PATH_NONE;
}

/* As the founder, whose word it is, has it now. */
static bool is_member(place *p) { return p->index == 0 || founder_has(p); }

static bool all_equal(size_t *ret_other) {
    view first, other;
    state_of(&c.w->places[0], &first);
    for (size_t i = 1; i < c.w->count; i++) {
        if (!is_member(&c.w->places[i])) continue;
        state_of(&c.w->places[i], &other);
        *ret_other = i;
        /* Heads may differ: who began with a whole state may have one more, below the others, until
         * it writes. */
        if (memcmp(&first.root, &other.root, sizeof first.root) != 0 ||
            first.op_count != other.op_count || first.op_heads != other.op_heads ||
            memcmp(first.ops, other.ops, sizeof first.ops) != 0)
            return false;
    }
    return true;
}

static size_t length(const cal_list *list) {
    size_t count = 0;
    for (const cal_list *at = list->next; at != list; at = at->next) count++;
    return count;
}

static void describe_context(place *p) {
    const sync_context *context = sync_context_get(node_at(p)->sync, &c.context);
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

static void describe(place *p) {
    view s;
    cal_sync_status status = {0};
    cal_sync_stats stats;
    state_of(p, &s);
    cal_context_sync_status(node_at(p), &c.context, &status);
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
    describe_context(p);
}

static void check_equal(void) {
    world *w = c.w;
    size_t other = 0;
    for (int i = 0; i < HEALS_WITHIN_S * 2 && !all_equal(&other); i++)
        node_sim_run(w->sim, SECOND / 2, NULL, NULL);
    if (!all_equal(&other)) {
        for (size_t i = 0; i < w->count; i++) describe(&w->places[i]);
        CHECK(w, false, "places 0 and %zu differ %d s after the network has healed", other,
              HEALS_WITHIN_S);
    }
    for (size_t n = 0; n < c.write_count; n++) {
        char key[32];
        output o;
        if (c.writes[n] != DONE || c.ever_gone[c.author[n]]) continue;
        snprintf(key, sizeof key, "{\"key\":\"w%zu\"}", n);
        OK(w, call(&w->places[0], &c.context, "get", key, &o));
        CHECK(w, strcmp(o.text, "null") != 0, "write %zu was answered and is lost", n);
    }
}

/* Nobody who is out holds a key that was made since (governance.md 18.1, T22). */
static void check_keys(void) {
    world *w = c.w;
    gov_write_grant grant;
    OK(w, gov_context_write(node_at(&w->places[0])->gov, &c.context, &grant, &err));
    cal_secret_wipe(&grant.group_key);
    for (size_t i = 1; i < w->count; i++) {
        cal_secret key;
        if (is_member(&w->places[i]) || !c.removed_since[i]) continue;
        int rc = gov_context_key(node_at(&w->places[i])->gov, &c.context, &grant.key_id, &key);
        CHECK(w, rc == CAL_ENOTFOUND, "place %zu is out and holds the present key", i);
    }
}

static void run_seed(uint64_t seed) {
    world *w = &now;
    size_t count = 2 + seed % 4;
    memset(&c, 0, sizeof c);
    c.w = w;
    uint32_t draw = (uint32_t)(seed / 4);
    compaction = draw % 2 ? (cal_compaction_options){.above = 6 + draw / 2 % 8,
                                                     .keep = 1 + draw / 2 % 5,
                                                     .interval_s = 1 + draw / 4 % 5}
                          : (cal_compaction_options){0};
    world_open(w, seed, count, count);
    place *founder = &w->places[0];
    OK(w, cal_namespace_create_wait(node_at(founder), &application, "test", &c.ns, &err));
    cal_context_create_options create = {.application = application, .group = c.ns};
    cal_context_created created;
    OK(w, cal_context_create_wait(node_at(founder), &create, &created, &err));
    c.context = created.id;
    c.standing[0] = MEMBER;
    invite(founder, &c.ns, c.invitation);
    size_t steps = 30 + below(w, 60);
    for (size_t i = 0; i < steps; i++) {
        node_sim_run(w->sim, below(w, 1500 * MS), NULL, NULL);
        step();
    }
    heal();
    check_equal();
    check_keys();
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
    uint64_t roles = 0, leaves = 0, compacted = 0;
    for (uint64_t seed = seeds.first; seed < seeds.end; seed++) {
        run_seed(seed);
        writes += c.answered;
        cuts += c.cuts;
        restarts += c.restarts;
        partitions += c.partitions;
        removals += c.removals;
        returns += c.returns;
        roles += c.roles;
        leaves += c.leaves;
        compacted += c.compacted;
    }
    print_message(
        "%lu seeds: %llu writes answered, %llu losses of power, %llu restarts, %llu "
        "partitions, %llu removals, %llu returns, %llu changes of roles, %llu left, %llu deltas "
        "compacted\n",
        seeds.end - seeds.first, (unsigned long long)writes, (unsigned long long)cuts, (unsigned long long)restarts,
        (unsigned long long)partitions, (unsigned long long)removals, (unsigned long long)returns,
        (unsigned long long)roles, (unsigned long long)leaves, (unsigned long long)compacted);
}

static int tell_seed(void **state) {
    (void)state;
    if (now.sim)
        print_error("seed %llu was running, at %.6f s\nrepeat with CAL_SIM_SEED=%llu\n",
                    (unsigned long long)now.seed, (double)net_sim_now(node_sim_net(now.sim)) / 1e9,
                    (unsigned long long)now.seed);
    return 0;
}

static void on_abort(int number) {
    tell_seed(NULL);
    signal(number, SIG_DFL);
    raise(number);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(everything_happens, tell_seed),
    };
    if (argc != 2) {
        fprintf(stderr, "usage: %s KV_STORE_WASM\n", argv[0]);
        return 2;
    }
    app_path = argv[1];
    signal(SIGABRT, on_abort);
    return cmocka_run_group_tests(tests, make_images, free_images);
}
