/* What becomes of deltas between their arrival and their end (src/sync/context.h), in whole nodes:
 * of those that the guest refuses and what descends from them, that wait for a key or for a state,
 * and that change writers. The deltas are the test's own, signed and sealed as a member's are. */
#include "attack_world.h"

enum { DELTA_MAX = 1 << 16 };

/* --- deltas of a member --- */

typedef enum deed {
    NOTHING,  /* no action: the guest takes it */
    DELETION, /* of an entity that nobody has: the guest refuses it */
    ROTATION, /* on an entity with writers of its own */
} deed;

typedef struct made {
    cal_hash id;
    cal_buffer bytes; /* as gossip has it */
} made;

static void heads_of(place *p, const shared *s, cal_hash *ret_head, uint64_t *ret_time) {
    cal_context_record record;
    cal_arena arena;
    cal_arena_init(&arena, 1 << 20);
    OK(p->world, cal_contexts_get(node_at(p)->contexts, &s->context, &arena, &record));
    assert_true(record.head_count > 0);
    *ret_head = record.heads[0];
    *ret_time = record.latest;
    cal_arena_deinit(&arena);
}

static cal_slice act(cal_arena *arena, deed what, const cal_hash *parents, uint32_t count,
                     cal_hash *ret_id) {
    static const uint8_t value[] = "what it holds";
    const crdt_action deletion = {.kind = CRDT_ACTION_DELETE, .id = {{9}}, .deleted_at = 1};
    const crdt_action rotation = {
        .kind = CRDT_ACTION_ADD,
        .id = {{9}},
        .data = crdt_bytes_of(value, sizeof value),
        .metadata = {.created_at = 1, .updated_at = 1, .storage = {.kind = CRDT_SHARED}}};
    const crdt_action *action = what == DELETION ? &deletion : &rotation;
    const crdt_delta delta = {
        .kind = CRDT_DELTA_ACTIONS, .actions = action, .action_count = what != NOTHING};
    crdt_env env = cal_crdt_env(arena);
    crdt_bytes bytes;
    crdt_hash id;
    assert_int_equal(crdt_delta_encode(&env.memory, &delta, &bytes), 0);
    assert_int_equal(crdt_delta_id(&env, (const uint8_t(*)[32])(const void *)parents, count, action,
                                   delta.action_count, &id),
                     0);
    memcpy(ret_id->bytes, id.bytes, sizeof id.bytes);
    return cal_slice_of(bytes.data, bytes.len);
}

/* By that member, which knows the group's key; upon those parents, at that time. */
static made make(place *by, const shared *s, deed what, const cal_hash *parents, uint32_t count,
                 uint64_t time) {
    const gov_identity *self = gov_self(node_at(by)->gov);
    gov_write_grant grant;
    made m;
    cal_arena arena;
    cal_buffer seal;
    cal_arena_init(&arena, 1 << 20);
    cal_buffer_init(&seal, DELTA_MAX);
    OK(by->world, gov_context_write(node_at(by)->gov, &s->context, &grant, &err));
    gov_state_delta delta = {.context = s->context,
                             .parents = parents,
                             .parent_count = count,
                             .hlc = {time, {1, 0}},
                             .nonce = {1},
                             .has_position = true,
                             .position = grant.position,
                             .has_app_key = true,
                             .app_key = grant.app_key,
                             .key_id = grant.key_id};
    const gov_delta_payload payload = {.artifact = act(&arena, what, parents, count, &delta.delta)};
    assert_int_equal(gov_delta_seal(&grant.group_key, delta.nonce, &payload, &seal), 0);
    delta.sealed = cal_buffer_slice(&seal);
    m.id = delta.delta;
    write_delta(&delta, &self->sign_seed, &m.bytes);
    cal_secret_wipe(&grant.group_key);
    cal_buffer_deinit(&seal);
    cal_arena_deinit(&arena);
    return m;
}
static void unmake(made *m) { cal_buffer_deinit(&m->bytes); }

static void hear(place *to, place *from, const shared *s, const made *m) {
    char topic[CAL_ID_TEXT_MAX];
    topic_of(s, topic);
    gossip(to, from, topic, cal_buffer_slice(&m->bytes));
}

static bool has_row(place *p, const shared *s, const cal_hash *id) {
    return sync_deltas_stored(context_at(p, s), (sync_ids){id, 1});
}

/* a, alone: what it hears of b the test says; and a head, to build upon. */
typedef struct pair {
    world *w;
    place *a, *b;
    shared s;
    cal_hash head;
    uint64_t time;
} pair;

static void begin(pair *p, uint64_t seed) {
    engine_signals_use();
    p->w = &now;
    world_open(p->w, seed, 2, 2);
    p->a = &p->w->places[0];
    p->b = &p->w->places[1];
    p->s = found(p->a);
    join(p->a, p->b, &p->s);
    set(p->a, &p->s.context, "before", "1");
    until_holds(p->b, &p->s, "before", "1");
    pass(p->w, 5 * SECOND);
    heads_of(p->a, &p->s, &p->head, &p->time);
    cut(p->a, p->b, true);
    pass(p->w, 90 * SECOND); /* until the connection is given up */
}

/* --- what the guest refuses --- */

static void what_was_refused_is_not_taken_again(void **state) {
    (void)state;
    pair p;
    begin(&p, 110);
    made refused = make(p.b, &p.s, DELETION, &p.head, 1, p.time + 1);
    uint64_t before = stats_of(p.a).deltas_refused;
    for (int i = 0; i < 3; i++) {
        hear(p.a, p.b, &p.s, &refused);
        pass(p.w, SECOND);
        CHECK(p.w, stats_of(p.a).deltas_refused == before + 1, "heard %d times, refused %d times",
              i + 1, (int)(stats_of(p.a).deltas_refused - before));
        assert_int_equal(context_at(p.a, &p.s)->by_id.count, 0);
    }
    assert_true(sync_context_holds(context_at(p.a, &p.s), &refused.id)); /* nor asked for */
    assert_false(has_row(p.a, &p.s, &refused.id));
    unmake(&refused);
    world_close(p.w);
}

/* They wait for something else, too, that may never come; with them goes their room. */
static void what_descends_from_it_waits_no_more(void **state) {
    (void)state;
    pair p;
    begin(&p, 111);
    const cal_hash nowhere = {{0xEE}};
    made refused = make(p.b, &p.s, DELETION, &p.head, 1, p.time + 1);
    const cal_hash parents[] = {refused.id, nowhere};
    made child = make(p.b, &p.s, NOTHING, parents, 2, p.time + 2);
    made grandchild = make(p.b, &p.s, NOTHING, &child.id, 1, p.time + 3);
    hear(p.a, p.b, &p.s, &child);
    hear(p.a, p.b, &p.s, &grandchild);
    pass(p.w, SECOND);
    const sync_context *context = context_at(p.a, &p.s);
    assert_int_equal(context->by_id.count, 2);
    uint64_t before = stats_of(p.a).deltas_refused;
    hear(p.a, p.b, &p.s, &refused);
    pass(p.w, SECOND);
    assert_int_equal(stats_of(p.a).deltas_refused, before + 1);
    CHECK(p.w, context->by_id.count == 0, "%zu wait for what was refused", context->by_id.count);
    assert_int_equal(context->used[SYNC_ROOM_WAITING].bytes, 0);
    unmake(&grandchild);
    unmake(&child);
    unmake(&refused);
    world_close(p.w);
}

/* --- what waits --- */

static void a_key_that_is_missing_is_asked_for(void **state) {
    (void)state;
    pair p;
    gov_key_want wants[4];
    begin(&p, 112);
    made good = make(p.b, &p.s, NOTHING, &p.head, 1, p.time + 1);
    cal_arena arena;
    gov_state_delta delta;
    cal_buffer bytes;
    cal_arena_init(&arena, 1 << 20);
    assert_int_equal(gov_state_delta_decode(cal_buffer_slice(&good.bytes), &arena, &delta), 0);
    delta.key_id = (cal_hash){{0xAA}};
    cal_buffer_init(&bytes, DELTA_MAX);
    assert_int_equal(gov_state_delta_write(&delta, &bytes), 0);
    made keyless = {delta.delta, bytes};
    cal_gov *gov = node_at(p.a)->gov;
    assert_int_equal(gov_keys_wanted(gov, &p.s.ns, 0, wants, 4), 0);
    hear(p.a, p.b, &p.s, &keyless);
    pass(p.w, SECOND);
    assert_int_equal(gov_keys_wanted(gov, &p.s.ns, 0, wants, 4), 1);
    assert_false(wants[0].any);
    assert_memory_equal(&wants[0].key_id, &delta.key_id, sizeof delta.key_id);
    assert_memory_equal(&wants[0].group, &p.s.ns, sizeof p.s.ns);
    assert_int_equal(context_at(p.a, &p.s)->by_id.count, 1);
    unmake(&keyless);
    unmake(&good);
    cal_arena_deinit(&arena);
    world_close(p.w);
}

/* Whoever knows of a context, and has no state of it yet, says nothing of one. A delta of it that
 * comes meanwhile is applied once the state is there: nobody else need have it. */
static void be_mute(void *arg) {
    cal_p2p_unhandle(cal_node_p2p(node_at(arg)), NET_STREAM_PROTOCOL);
}
static void what_came_before_the_state_is_applied_upon_it(void **state) {
    (void)state;
    engine_signals_use();
    world *w = &now;
    const cal_hash none = {{0}};
    cal_hash root;
    world_open(w, 113, 2, 2);
    place *a = &w->places[0], *b = &w->places[1];
    shared s = {0};
    OK(w, cal_namespace_create_wait(node_at(a), &application, "test", &s.ns, &err));
    join(a, b, &s);
    pass(w, 5 * SECOND);
    cal_node_run(node_at(a), be_mute, a);
    cal_context_create_options create = {.application = application, .group = s.ns};
    cal_context_created created;
    OK(w, cal_context_create_wait(node_at(a), &create, &created, &err));
    s.context = created.id;
    for (int i = 0; i < 20 && !root_of(b, &s.context, &root); i++) pass(w, SECOND);
    uint64_t heard = stats_of(a).heartbeats_received;
    pass(w, 90 * SECOND);
    assert_true(root_of(b, &s.context, &root));
    assert_memory_equal(&root, &none, sizeof none);
    CHECK(w, stats_of(a).heartbeats_received == heard, "it says that it has a state");
    cal_hash head;
    uint64_t time;
    heads_of(a, &s, &head, &time);
    made early = make(a, &s, NOTHING, &none, 1, time + 1);
    hear(b, a, &s, &early);
    pass(w, SECOND);
    assert_false(cal_list_empty(&context_at(b, &s)->stateless));
    node_sim_stop(a->sim);
    place_start(a);
    for (int i = 0; i < 60 && !has_row(b, &s, &early.id); i++) pass(w, SECOND);
    CHECK(w, root_of(b, &s.context, &root) && memcmp(&root, &none, sizeof none) != 0,
          "the state never comes");
    CHECK(w, has_row(b, &s, &early.id), "what came before the state waits for ever");
    assert_true(cal_list_empty(&context_at(b, &s)->stateless));
    unmake(&early);
    world_close(w);
}

/* --- writers --- */

typedef struct turns {
    pair *p;
    bool alone; /* it was seen to wait while others are being applied */
} turns;

/* Looked at after every event. */
static bool turn_of_its_own(void *user) {
    turns *t = user;
    const sync_context *context = context_at(t->p->a, &t->p->s);
    const cal_list *ready = &context->ready;
    if (!context->applying || cal_list_empty(ready)) return false;
    t->alone = CAL_CONTAINER_OF(ready->next, sync_delta, link)->shared;
    return t->alone;
}

/* What comes before it says who the writers are: it is looked up when that is stored. */
static void a_change_of_writers_waits_for_what_comes_before(void **state) {
    (void)state;
    pair p;
    begin(&p, 114);
    made first = make(p.b, &p.s, NOTHING, &p.head, 1, p.time + 1);
    made second = make(p.b, &p.s, NOTHING, &first.id, 1, p.time + 2);
    made rotation = make(p.b, &p.s, ROTATION, &second.id, 1, p.time + 3);
    hear(p.a, p.b, &p.s, &second);
    hear(p.a, p.b, &p.s, &rotation);
    pass(p.w, SECOND);
    assert_int_equal(context_at(p.a, &p.s)->by_id.count, 2);
    hear(p.a, p.b, &p.s, &first); /* all of them are ready now */
    turns t = {.p = &p};
    node_sim_run(p.w->sim, 5 * SECOND, turn_of_its_own, &t);
    CHECK(p.w, t.alone, "it is applied in one turn with what comes before it");
    pass(p.w, SECOND);
    assert_true(has_row(p.a, &p.s, &first.id) && has_row(p.a, &p.s, &second.id));
    assert_int_equal(context_at(p.a, &p.s)->by_id.count, 0);
    unmake(&rotation);
    unmake(&second);
    unmake(&first);
    world_close(p.w);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(what_was_refused_is_not_taken_again, tell_seed),
        cmocka_unit_test_teardown(what_descends_from_it_waits_no_more, tell_seed),
        cmocka_unit_test_teardown(a_key_that_is_missing_is_asked_for, tell_seed),
        cmocka_unit_test_teardown(what_came_before_the_state_is_applied_upon_it, tell_seed),
        cmocka_unit_test_teardown(a_change_of_writers_waits_for_what_comes_before, tell_seed),
    };
    if (argc != 2) {
        fprintf(stderr, "usage: %s KV_STORE_WASM\n", argv[0]);
        return 2;
    }
    app_path = argv[1];
    cmocka_set_test_filter(getenv("CAL_TEST"));
    return cmocka_run_group_tests(tests, make_images, free_images);
}
