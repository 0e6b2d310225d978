/* Two nodes whose states differ though their heads do not: comparing trees makes them the same. */
#include "app/app.h"
#define node_of node_of_commit /* share_world.h has another one */
#include "node/internal.h"
#undef node_of
#include "net/messages.h"
#include "share_world.h"
#include "sync/tree_view.h"

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

/* --- changing one node's state behind everybody's back --- */

enum { ITEMS_MAX = 1000 };
typedef struct change {
    place *p;
    const shared *s;
    cal_merge_item items[ITEMS_MAX];
    uint8_t values[ITEMS_MAX][32];
    crdt_child parent;
    size_t count;
    bool done;
    int error;
    cal_merge_outcome outcomes[ITEMS_MAX];
} change;
static change of;

static void note_merged(void *user, int error, const cal_merge_outcome *outcomes, size_t count) {
    change *c = user;
    c->error = error;
    if (count) memcpy(c->outcomes, outcomes, count * sizeof *outcomes);
    c->done = true;
}
static bool is_merged(void *user) { return ((change *)user)->done; }
static void merge_now(void *arg) {
    change *c = arg;
    cal_contexts_merge(node_at(c->p)->contexts, &c->s->context, c->items, c->count, note_merged, c);
}

/* The collection that has the entries: the root's child that has most of them. */
static void find_collection(place *p, const shared *s, crdt_child *ret_child) {
    sync_tree_view *view;
    cal_hash root;
    cal_arena arena;
    size_t most = 0;
    cal_arena_init(&arena, 1 << 24);
    memcpy(&root, &s->context, sizeof root);
    OK(p->world, sync_tree_view_open(node_at(p)->store, &s->context, 1, &view));
    OK(p->world, sync_tree_view_load(view, &root));
    size_t count = view->child_count;
    cal_hash ids[16];
    assert_true(count <= 16);
    for (size_t i = 0; i < count; i++) ids[i] = view->children[i].id;
    for (size_t i = 0; i < count; i++) {
        OK(p->world, sync_tree_view_load(view, &ids[i]));
        if (view->child_count < most || (most == 0 && view->child_count == 0)) continue;
        most = view->child_count;
        memcpy(&ret_child->id, &ids[i], 32);
        memcpy(&ret_child->merkle_hash, &view->hash, 32);
        ret_child->metadata = (crdt_metadata){0};
    }
    assert_true(most > 0);
    sync_tree_view_free(view);
    cal_arena_deinit(&arena);
}

static void begin(place *p, const shared *s) {
    memset(&of, 0, sizeof of);
    of.p = p;
    of.s = s;
    find_collection(p, s, &of.parent);
}

static void put(uint32_t n, uint64_t time, uint8_t salt) {
    cal_merge_item *item = &of.items[of.count];
    uint8_t *value = of.values[of.count++];
    memset(value, salt, 32);
    cal_sha256_parts((cal_slice[]){cal_slice_of(&n, sizeof n)}, 1, item->leaf.id.bytes);
    item->leaf.value = crdt_bytes_of(value, 32);
    item->leaf.created_at = 1000;
    item->leaf.updated_at = time;
    item->leaf.has_parent = true;
    item->leaf.parent = of.parent.id;
}

static void del(uint32_t n, uint64_t time) {
    cal_merge_item *item = &of.items[of.count++];
    item->is_deletion = true;
    cal_sha256_parts((cal_slice[]){cal_slice_of(&n, sizeof n)}, 1, item->id.bytes);
    item->deleted_at = time;
}

static void apply(void) {
    cal_node_run(node_at(of.p), merge_now, &of);
    wait_for(of.p->world, is_merged, &of, "a merge");
    CHECK(of.p->world, of.error == 0, "a merge: %s", cal_error_name(of.error));
    for (size_t i = 0; i < of.count; i++) assert_int_equal(of.outcomes[i].result, CRDT_LEAF_TAKEN);
}

/* --- what is there --- */

static int salt_of(place *p, const shared *s, uint32_t n) {
    sync_tree_view *view;
    sync_leaf leaf;
    cal_hash id;
    cal_arena arena;
    cal_arena_init(&arena, 1 << 24);
    cal_sha256_parts((cal_slice[]){cal_slice_of(&n, sizeof n)}, 1, id.bytes);
    OK(p->world, sync_tree_view_open(node_at(p)->store, &s->context, 1, &view));
    int hit = sync_tree_view_leaf(view, &id, NULL, &arena, &leaf);
    int salt = hit == 1 ? leaf.value.data[0] : -1;
    sync_tree_view_free(view);
    cal_arena_deinit(&arena);
    return salt;
}

static bool same_roots(place *a, place *b, const shared *s) {
    cal_hash roots[2];
    return root_of(a, &s->context, &roots[0]) && root_of(b, &s->context, &roots[1]) &&
           memcmp(&roots[0], &roots[1], sizeof roots[0]) == 0;
}

static void until_same(place *a, place *b, const shared *s) {
    for (int i = 0; i < 600; i++) {
        if (same_roots(a, b, s)) return;
        node_sim_run(a->world->sim, 200 * MS, NULL, NULL);
    }
    cal_sync_status one = {0}, two = {0};
    cal_context_sync_status(node_at(a), &s->context, &one);
    cal_context_sync_status(node_at(b), &s->context, &two);
    CHECK(a->world, false, "the states stay different (%s: %s; %s: %s)",
          cal_sync_state_text(one.state), one.why, cal_sync_state_text(two.state), two.why);
}

static cal_sync_stats stats_of(place *p) {
    cal_sync_stats stats;
    cal_sync_stats_get(node_at(p), &stats);
    return stats;
}

static void until_holds(place *p, const shared *s, const char *key, const char *value) {
    for (int i = 0; i < 400; i++) {
        if (holds(p, &s->context, key, value)) return;
        node_sim_run(p->world->sim, 100 * MS, NULL, NULL);
    }
    CHECK(p->world, false, "place %zu never holds %s", p->index, key);
}

static void share(world *w, uint64_t seed, place **ret_a, place **ret_b, shared *ret_s) {
    engine_signals_use();
    world_open(w, seed, 2, 2);
    place *a = *ret_a = &w->places[0], *b = *ret_b = &w->places[1];
    *ret_s = found(a);
    set(a, &ret_s->context, "before", "1");
    join(a, b, ret_s);
    until_holds(b, ret_s, "before", "1");
    set(b, &ret_s->context, "from b", "2");
    until_holds(a, ret_s, "from b", "2");
    node_sim_run(w->sim, 5 * SECOND, NULL, NULL);
    CHECK(w, same_roots(a, b, ret_s), "the states differ before anything was done");
}

static void each_gets_what_the_other_has(void **state) {
    (void)state;
    world *w = &now;
    place *a, *b;
    shared s;
    share(w, 1, &a, &b, &s);
    begin(a, &s);
    put(1, 5000, 1); /* here alone */
    put(3, 5000, 1); /* older than the other's */
    put(4, 7000, 4); /* newer */
    put(5, 5000, 1); /* deleted there */
    put(6, 5000, 1); /* as it is there */
    apply();
    begin(b, &s);
    put(2, 5000, 2);
    put(3, 6000, 3);
    put(4, 6000, 2);
    put(5, 5000, 1);
    put(6, 5000, 1);
    apply();
    begin(b, &s);
    del(5, 6000);
    apply();
    assert_false(same_roots(a, b, &s));
    until_same(a, b, &s);
    static const int wanted[] = {1, 2, 3, 4, -1, 1};
    for (uint32_t n = 1; n <= 6; n++) {
        assert_int_equal(salt_of(a, &s, n), wanted[n - 1]);
        assert_int_equal(salt_of(b, &s, n), wanted[n - 1]);
    }
    assert_true(stats_of(a).trees_compared + stats_of(b).trees_compared > 0);
    OK(w, cal_context_sync_wait(node_at(a), &s.context, &err));
    cal_sync_status status;
    OK(w, cal_context_sync_status(node_at(a), &s.context, &status));
    assert_int_equal(status.state, CAL_SYNC_EQUAL);
    set(a, &s.context, "after", "3"); /* and deltas go on */
    until_holds(b, &s, "after", "3");
    node_sim_run(w->sim, 5 * SECOND, NULL, NULL);
    assert_true(same_roots(a, b, &s));
    world_close(w);
}

/* Many children: only a few of them travel. */
static void a_wide_collection_costs_its_differences(void **state) {
    (void)state;
    enum { COUNT = 5000, DIFFERENT = 10 };
    world *w = &now;
    place *a, *b;
    shared s;
    share(w, 2, &a, &b, &s);
    for (int side = 0; side < 2; side++)
        for (uint32_t n = 0; n < COUNT;) {
            begin(side ? b : a, &s);
            for (uint32_t end = n + 500; n < end; n++)
                put(n, 5000, (uint8_t)(side && n % (COUNT / DIFFERENT) == 0 ? 2 : 1));
            apply();
        }
    until_same(a, b, &s);
    cal_sync_stats x = stats_of(a), y = stats_of(b);
    uint64_t moved = x.leaves_taken + y.leaves_taken;
    uint64_t answers = x.trees_served + y.trees_served;
    print_message("%llu leaves moved, %llu answers\n", (unsigned long long)moved,
                  (unsigned long long)answers);
    world_close(w);
}

/* The application's own state, of a type that only it merges: it is asked. */
static void the_application_merges_its_state(void **state) {
    (void)state;
    static const crdt_type typed = {.kind = CRDT_TYPE_CUSTOM, .names = {{(const uint8_t *)"T", 1}}};
    world *w = &now;
    place *a, *b;
    shared s;
    cal_hash id, before, after;
    sync_tree_view *view;
    sync_leaf leaf;
    cal_arena arena;
    share(w, 4, &a, &b, &s);
    cal_arena_init(&arena, 1 << 24);
    memcpy(&id, &CRDT_STATE_ID, sizeof id);
    OK(w, sync_tree_view_open(node_at(a)->store, &s.context, 1, &view));
    assert_int_equal(sync_tree_view_leaf(view, &id, NULL, &arena, &leaf), 1);
    sync_tree_view_free(view);
    assert_true(root_of(a, &s.context, &before));
    begin(a, &s);
    cal_merge_item *item = &of.items[of.count++];
    uint8_t *value = cal_arena_copy(&arena, leaf.value.data, leaf.value.len);
    value[0] ^= 0xff;
    item->leaf = (crdt_leaf){.id = CRDT_STATE_ID,
                             .value = crdt_bytes_of(value, leaf.value.len),
                             .type = &typed,
                             .updated_at = leaf.updated_at + 1000};
    apply(); /* ours takes the newer one */
    assert_true(root_of(a, &s.context, &after));
    assert_memory_not_equal(&before, &after, sizeof before);
    begin(a, &s);
    item = &of.items[of.count++];
    item->leaf = (crdt_leaf){.id = CRDT_STATE_ID,
                             .value = crdt_bytes_of(leaf.value.data, leaf.value.len),
                             .type = &typed,
                             .updated_at = leaf.updated_at};
    cal_node_run(node_at(a), merge_now, &of);
    wait_for(w, is_merged, &of, "a merge");
    assert_int_equal(of.error, 0);
    assert_int_equal(of.outcomes[0].result, CRDT_LEAF_KEPT);
    cal_arena_deinit(&arena);
    world_close(w);
}

/* --- who may push --- */

typedef struct pushing {
    place *from, *to;
    const shared *s;
    cal_hash root; /* whose tree is asked for */
    bool proves;   /* a key of its own, first */
    bool asked_heads, over;
    int kind; /* of the push's answer; -1: none came */
    uint32_t applied;
} pushing;

static void sign_as(void *user, cal_slice message, uint8_t ret_signature[64]) {
    cal_node *node = user;
    gov_sign(node->gov, message, ret_signature);
}

static void say(pushing *p, net_messages *messages, const sync_request *request) {
    cal_node *node = node_at(p->from);
    sync_message message = {.kind = SYNC_INIT, .init = {.request = *request}};
    cal_buffer bytes;
    cal_buffer_init(&bytes, 1 << 20);
    message.init.context = p->s->context;
    message.init.party = gov_self(node->gov)->sign_key;
    if (sync_request_needs_proof(request->kind)) {
        message.init.has_proof = true;
        sync_proof_sign(&message.init, &p->from->id, sign_as, node, message.init.proof);
    }
    assert_int_equal(sync_message_write(&message, &bytes), 0);
    assert_int_equal(net_messages_send(messages, cal_buffer_slice(&bytes)), 0);
    cal_buffer_deinit(&bytes);
    net_messages_expect(messages, 20000);
}

static void say_push(pushing *p, net_messages *messages) {
    static const uint8_t none[4], type[] = {0, 6, 0, 0, 0, 'O', 'p', 'a', 'q', 'u', 'e'};
    uint32_t n = 99;
    sync_leaf leaf = {.value = cal_slice_of("pushed", 6),
                      .type = cal_slice_of(type, sizeof type),
                      .updated_at = 5000,
                      .created_at = 5000,
                      .has_parent = true,
                      .ancestors = cal_slice_of(none, sizeof none)};
    cal_sha256_parts((cal_slice[]){cal_slice_of(&n, sizeof n)}, 1, leaf.id.bytes);
    memcpy(&leaf.parent, &of.parent.id, sizeof leaf.parent);
    say(p, messages,
        &(sync_request){.kind = SYNC_PUSH, .context = p->s->context, .leaves = {&leaf, 1}});
}

static void on_push_opened(void *user, net_messages *messages) {
    pushing *p = user;
    p->asked_heads = p->proves;
    if (p->proves)
        say(p, messages, &(sync_request){.kind = SYNC_HEADS, .context = p->s->context});
    else
        say_push(p, messages);
}
static void on_push_answer(void *user, net_messages *messages, cal_slice bytes) {
    pushing *p = user;
    cal_arena arena;
    sync_message message;
    cal_arena_init(&arena, 1 << 20);
    assert_int_equal(sync_message_decode(bytes, &arena, &message), 0);
    if (p->asked_heads) {
        p->asked_heads = false;
        say_push(p, messages);
    } else {
        p->kind = message.kind;
        p->applied = message.kind == SYNC_MESSAGE ? message.answer.applied : 0;
        net_messages_reset(messages);
    }
    cal_arena_deinit(&arena);
}
static void on_push_ended(void *user, net_messages *messages, int reason) {
    (void)messages, (void)reason;
    ((pushing *)user)->over = true;
}
static bool is_push_over(void *user) { return ((pushing *)user)->over; }

static void open_push(void *arg) {
    static const net_messages_events events = {
        .opened = on_push_opened, .message = on_push_answer, .ended = on_push_ended};
    pushing *p = arg;
    net_messages *messages;
    assert_int_equal(net_messages_open(cal_node_p2p(node_at(p->from)), &p->to->id,
                                       NET_STREAM_PROTOCOL, 60000, &events, p, &messages),
                     0);
}

/* Where it came to: the kind of the answer. */
static int push_as(place *from, place *to, const shared *s, bool proves, uint32_t *ret_applied) {
    pushing p = {.from = from, .to = to, .s = s, .proves = proves, .kind = -1};
    cal_node_run(node_at(from), open_push, &p);
    wait_for(from->world, is_push_over, &p, "a push");
    if (ret_applied) *ret_applied = p.applied;
    return p.kind;
}

static void only_members_push(void **state) {
    (void)state;
    engine_signals_use();
    world *w = &now;
    cal_hash before, after;
    uint32_t applied = 0;
    world_open(w, 3, 3, 3);
    place *a = &w->places[0], *b = &w->places[1], *stranger = &w->places[2];
    shared s = found(a);
    set(a, &s.context, "before", "1");
    join(a, b, &s);
    until_holds(b, &s, "before", "1");
    node_sim_run(w->sim, 5 * SECOND, NULL, NULL);
    begin(a, &s);
    assert_true(root_of(a, &s.context, &before));
    assert_int_equal(push_as(stranger, a, &s, false, NULL), SYNC_OPAQUE_ERROR);
    assert_int_equal(push_as(stranger, a, &s, true, NULL), SYNC_OPAQUE_ERROR);
    assert_int_equal(push_as(b, a, &s, false, NULL), SYNC_OPAQUE_ERROR);
    assert_true(root_of(a, &s.context, &after));
    assert_memory_equal(&before, &after, sizeof before);
    assert_int_equal(push_as(b, a, &s, true, &applied), SYNC_MESSAGE);
    assert_int_equal(applied, 1);
    assert_int_equal(salt_of(a, &s, 99), 'p');
    until_same(a, b, &s);
    node_sim_stop(b->sim);
    place_start(b);
    assert_int_equal(salt_of(b, &s, 99), 'p'); /* it is durable, and so is the root */
    assert_true(same_roots(a, b, &s));
    world_close(w);
}

/* Deltas are better, but not for who has them all: a read-only node of the reference does, and
 * changed nothing with them. */
static void on_tree_opened(void *user, net_messages *messages) {
    pushing *p = user;
    say(p, messages,
        &(sync_request){.kind = SYNC_TREE_NODE,
                        .context = p->s->context,
                        .id = p->root,
                        .has_depth = true,
                        .depth = 1});
}

static void open_tree(void *arg) {
    static const net_messages_events events = {
        .opened = on_tree_opened, .message = on_push_answer, .ended = on_push_ended};
    pushing *p = arg;
    net_messages *messages;
    p->over = net_messages_open(cal_node_p2p(node_at(p->from)), &p->to->id, NET_STREAM_PROTOCOL,
                                60000, &events, p, &messages) != 0;
}

static int ask_tree(place *from, place *to, const shared *s) {
    pushing p = {.from = from, .to = to, .s = s, .kind = -1};
    assert_true(root_of(to, &s->context, &p.root));
    cal_node_run(node_at(from), open_tree, &p);
    wait_for(from->world, is_push_over, &p, "a question about a tree");
    return p.kind;
}

static void who_has_all_deltas_is_shown_the_tree(void **state) {
    (void)state;
    engine_signals_use();
    world *w = &now;
    place *a, *b;
    shared s;
    share(w, 5, &a, &b, &s);
    assert_int_equal(ask_tree(b, a, &s), SYNC_MESSAGE);
    node_sim_stop(b->sim);
    set(a, &s.context, "while b is away", "3");
    place_start(b);
    int first = -1;
    for (int i = 0; i < 200 && first < 0; i++) { /* until they have met again */
        node_sim_run(w->sim, 10 * MS, NULL, NULL);
        first = ask_tree(b, a, &s);
    }
    bool behind = !holds(b, &s.context, "while b is away", "3");
    assert_int_equal(first, behind ? SYNC_OPAQUE_ERROR : SYNC_MESSAGE);
    until_holds(b, &s, "while b is away", "3");
    node_sim_run(w->sim, 5 * SECOND, NULL, NULL);
    assert_int_equal(ask_tree(b, a, &s), SYNC_MESSAGE);
    world_close(w);
}

/* As a node of the reference does that heard many deltas in the wrong order. */
static void on_heads_opened(void *user, net_messages *messages) {
    pushing *p = user;
    say(p, messages, &(sync_request){.kind = SYNC_HEADS, .context = p->s->context});
}

static void open_heads(void *arg) {
    static const net_messages_events events = {
        .opened = on_heads_opened, .message = on_push_answer, .ended = on_push_ended};
    pushing *p = arg;
    net_messages *messages;
    assert_int_equal(net_messages_open(cal_node_p2p(node_at(p->from)), &p->to->id,
                                       NET_STREAM_PROTOCOL, 60000, &events, p, &messages),
                     0);
}

static void a_hundred_streams_are_served_at_once(void **state) {
    (void)state;
    enum { STREAMS = 100 };
    static pushing streams[STREAMS];
    engine_signals_use();
    world *w = &now;
    place *a, *b;
    shared s;
    share(w, 6, &a, &b, &s);
    for (size_t i = 0; i < STREAMS; i++) {
        streams[i] = (pushing){.from = b, .to = a, .s = &s, .kind = -1};
        cal_node_run(node_at(b), open_heads, &streams[i]);
    }
    for (size_t i = 0; i < STREAMS; i++) {
        wait_for(w, is_push_over, &streams[i], "an answer");
        assert_int_equal(streams[i].kind, SYNC_MESSAGE);
    }
    world_close(w);
}

static int tell_seed(void **state) {
    (void)state;
    if (now.sim) print_error("seed %llu was running\n", (unsigned long long)now.seed);
    return 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(each_gets_what_the_other_has, tell_seed),
        cmocka_unit_test_teardown(the_application_merges_its_state, tell_seed),
        cmocka_unit_test_teardown(only_members_push, tell_seed),
        cmocka_unit_test_teardown(who_has_all_deltas_is_shown_the_tree, tell_seed),
        cmocka_unit_test_teardown(a_hundred_streams_are_served_at_once, tell_seed),
        cmocka_unit_test_teardown(a_wide_collection_costs_its_differences, tell_seed),
    };
    if (argc != 2) {
        fprintf(stderr, "usage: %s KV_STORE_WASM\n", argv[0]);
        return 2;
    }
    app_path = argv[1];
    return cmocka_run_group_tests(tests, make_images, free_images);
}
