/* Received deltas: what they leave, in which order, and what becomes of those that cannot be
 * applied, alone and beside a disk that fails. World and guest: turn_sim.h, turn_guest.h. */
#include "seeds.h"
#include "turn_sim.h"

enum { DELTAS_MAX = CAL_APPLY_DELTAS_MAX + 1, SEEDS_DEFAULT = 40 };

typedef struct made { /* a delta and what it points to */
    cal_received_delta delta;
    uint8_t parents[4][32];
    cal_buffer artifact;
} made;

/* One whose first action's id is `tag` sixteen times; its own id follows from that. */
static void make_kind(made *m, crdt_delta_kind kind, uint8_t tag, uint64_t time) {
    cal_arena arena;
    cal_arena_init(&arena, SIZE_MAX);
    crdt_memory memory = cal_crdt_memory(&arena);
    static const uint8_t data[40] = {1};
    crdt_action action = {.kind = CRDT_ACTION_ADD, .data = crdt_bytes_of(data, sizeof data)};
    memset(action.id.bytes, tag, 32);
    crdt_delta actions = {
        .kind = kind, .actions = &action, .action_count = 1, .hlc = {.time = time, .id = {7}}};
    crdt_bytes bytes;
    assert_int_equal(crdt_delta_encode(&memory, &actions, &bytes), 0);
    *m = (made){.delta = {.record = {.hlc = {.time = time, .id = {7}}, .has_author = true}}};
    cal_buffer_init(&m->artifact, SIZE_MAX);
    cal_buffer_append(&m->artifact, bytes.data, bytes.len);
    memset(m->delta.record.id.bytes, tag, 31);
    m->delta.record.id.bytes[31] = (uint8_t)time;
    cal_arena_deinit(&arena);
}

static void make(made *m, uint8_t tag, uint64_t time) {
    make_kind(m, CRDT_DELTA_ACTIONS, tag, time);
}

static void set_parents(made *m, const cal_hash *const *parents, size_t count) {
    for (size_t i = 0; i < count; i++) memcpy(m->parents[i], parents[i]->bytes, 32);
    m->delta.record.parents = (const uint8_t(*)[32])m->parents;
    m->delta.record.parent_count = count;
    m->delta.record.artifact = cal_buffer_slice(&m->artifact);
}

typedef struct batch {
    made made[DELTAS_MAX];
    cal_received_delta deltas[DELTAS_MAX];
    size_t count;
    cal_apply_outcome outcomes[DELTAS_MAX];
    bool answered;
    size_t events; /* heard when it was answered */
} batch;

static size_t heard;
static void hear(world *w, const cal_event *event) {
    (void)w;
    heard += event->type == CAL_EVENT_STATE_MUTATION;
}

static void applied(void *user, const cal_apply_outcome *outcomes, size_t count) {
    batch *b = user;
    assert_int_equal(count, b->count);
    memcpy(b->outcomes, outcomes, count * sizeof *outcomes);
    b->answered = true;
    b->events = heard;
}

static uint64_t now_time(world *w) {
    const cal_os *os = cal_sim_os(w->sim);
    uint64_t wall = os->wall_ns(os->user);
    return (wall / 1000000000) << 32 | ((wall % 1000000000) << 32) / 1000000000;
}

static cal_hash head_of(world *w, size_t *ret_count) {
    cal_arena arena;
    cal_context_record record;
    cal_arena_init(&arena, SIZE_MAX);
    stored_record(w, &arena, &record);
    cal_hash head = record.heads[record.head_count - 1];
    if (ret_count) *ret_count = record.head_count;
    cal_arena_deinit(&arena);
    return head;
}

/* Tags in a chain after `parent`. */
static batch *chain(world *w, const cal_hash *parent, const uint8_t *tags, size_t count) {
    batch *b = calloc(1, sizeof *b);
    assert_non_null(b);
    b->count = count;
    for (size_t i = 0; i < count; i++) {
        make(&b->made[i], tags[i], now_time(w) + i);
        set_parents(&b->made[i], &parent, 1);
        b->deltas[i] = b->made[i].delta;
        parent = &b->made[i].delta.record.id;
    }
    return b;
}

static void free_batch(batch *b) {
    for (size_t i = 0; i < b->count; i++) cal_buffer_deinit(&b->made[i].artifact);
    free(b);
}

static void apply(world *w, batch *b) {
    for (size_t i = 0; i < b->count; i++) b->deltas[i] = b->made[i].delta;
    b->answered = false;
    cal_contexts_apply(w->contexts, &w->id, b->deltas, b->count, applied, b);
}

static world *new_world(uint64_t seed) {
    world *w = world_new(seed);
    w->event = hear;
    heard = 0;
    return w;
}

static void deltas_follow_each_other(void **state) {
    (void)state;
    world *w = new_world(1);
    static const uint8_t tags[] = {1, 2, 3, 4, 5, 6, 7, 8};
    cal_hash genesis = head_of(w, NULL);
    batch *b = chain(w, &genesis, tags, sizeof tags);
    cal_store_stats before, after;
    cal_store_stats_get(w->store, &before);
    apply(w, b);
    while (run_worker(w) || run_loop(w)) {
    }
    assert_false(b->answered); /* not durable yet */
    settle(w);
    assert_true(b->answered);
    assert_int_equal(b->events, 0); /* first the answer, then the events */
    assert_int_equal(heard, sizeof tags);
    cal_store_stats_get(w->store, &after);
    assert_int_equal(after.batches - before.batches, 1);
    for (size_t i = 0; i < b->count; i++) {
        assert_int_equal(b->outcomes[i].error, 0);
        assert_int_equal(count_of(b->outcomes[i].root.bytes), i + 1);
        assert_int_equal(b->outcomes[i].root.bytes[8], tags[i]);
    }
    size_t heads;
    cal_hash head = head_of(w, &heads);
    assert_int_equal(heads, 1);
    assert_memory_equal(&head, &b->deltas[7].record.id, 32);
    assert_int_equal(stored_count(w), 8);
    assert_int_equal(shown_count(w), 8);
    apply(w, b); /* all of them again */
    settle(w);
    for (size_t i = 0; i < b->count; i++)
        assert_true(b->outcomes[i].error == 0 && b->outcomes[i].before);
    assert_int_equal(stored_count(w), 8);
    assert_int_equal(heard, sizeof tags);
    free_batch(b);
    world_free(w);
}

static void one_that_traps_takes_only_its_descendants(void **state) {
    (void)state;
    world *w = new_world(2);
    cal_hash genesis = head_of(w, NULL);
    static const uint8_t tags[] = {1, 0xEE, 3, 4, 0xEF, 6};
    batch *b = chain(w, &genesis, tags, sizeof tags);
    const cal_hash *first = &b->made[0].delta.record.id;
    set_parents(&b->made[3], &first, 1); /* beside the one that traps and its child */
    set_parents(&b->made[4], &first, 1); /* returns an error of its own */
    set_parents(&b->made[5], (const cal_hash *[]){&b->made[3].delta.record.id, first}, 2);
    apply(w, b);
    settle(w);
    static const int errors[] = {0, CAL_EGUEST, CAL_ECANCELED, 0, CAL_EGUEST, 0};
    for (size_t i = 0; i < b->count; i++) assert_int_equal(b->outcomes[i].error, errors[i]);
    assert_string_equal(b->outcomes[1].message, "unreachable code reached");
    assert_int_equal(stored_count(w), 3);
    assert_int_equal(heard, 3);
    size_t heads;
    cal_hash head = head_of(w, &heads);
    assert_int_equal(heads, 1);
    assert_memory_equal(&head, &b->made[5].delta.record.id, 32);
    free_batch(b);
    world_free(w);
}

static void called(void *user, const cal_call_result *result) {
    (void)user;
    assert_int_equal(result->status, CAL_CALL_OK);
}

static void heads_are_what_nobody_builds_on(void **state) {
    (void)state;
    world *w = new_world(3);
    cal_hash genesis = head_of(w, NULL);
    static const uint8_t tags[] = {1, 2, 3};
    batch *b = chain(w, &genesis, tags, sizeof tags);
    const cal_hash *parent = &genesis;
    for (int i = 0; i < 3; i++) set_parents(&b->made[i], &parent, 1); /* three beside each other */
    apply(w, b);
    settle(w);
    size_t heads;
    head_of(w, &heads);
    assert_int_equal(heads, 3);
    uint8_t input[TURN_TAG] = {9}; /* an own call builds on all of them */
    cal_contexts_execute(w->contexts, &w->id, "add", cal_slice_of(input, sizeof input), called, w);
    settle(w);
    cal_hash head = head_of(w, &heads);
    assert_int_equal(heads, 1);
    uint8_t key[64];
    memcpy(key, w->id.bytes, 32);
    memcpy(key + 32, head.bytes, 32);
    cal_buffer row;
    cal_delta_record delta;
    cal_buffer_init(&row, SIZE_MAX);
    assert_int_equal(cal_store_get(w->store, CAL_COLUMN_DELTA, cal_slice_of(key, sizeof key), &row),
                     0);
    assert_int_equal(cal_delta_record_decode(cal_buffer_slice(&row), &delta), 0);
    assert_int_equal(delta.parent_count, 3);
    for (int i = 0; i < 3; i++) {
        assert_memory_equal(delta.parents[i], &b->made[i].delta.record.id, 32);
        assert_true(delta.hlc.time > b->made[i].delta.record.hlc.time);
    }
    cal_buffer_deinit(&row);
    free_batch(b);
    world_free(w);
}

static void heads_are_bounded(void **state) {
    (void)state;
    world *w = new_world(8);
    cal_hash genesis = head_of(w, NULL);
    const cal_hash *parent = &genesis;
    uint8_t tags[CAL_APPLY_DELTAS_MAX];
    size_t heads = 0, refused = 0;
    for (size_t round = 0; heads < CAL_CONTEXT_HEADS_MAX || refused == 0; round++) {
        for (size_t i = 0; i < sizeof tags; i++) tags[i] = (uint8_t)(1 + i % 200);
        /* so that in one batch there is room for some */
        batch *b = chain(w, &genesis, tags, sizeof tags - (round == 0 ? 3 : 0));
        for (size_t i = 0; i < b->count; i++) {
            const size_t number = round * sizeof tags + i;
            set_parents(&b->made[i], &parent, 1);
            memcpy(b->made[i].delta.record.id.bytes + 16, &number, sizeof number);
        }
        apply(w, b);
        settle(w);
        for (size_t i = 0; i < b->count; i++) {
            assert_int_equal(b->outcomes[i].error, heads < CAL_CONTEXT_HEADS_MAX ? 0 : CAL_ELIMIT);
            if (b->outcomes[i].error == 0)
                heads++;
            else
                refused++;
        }
        free_batch(b);
    }
    size_t kept;
    head_of(w, &kept);
    assert_int_equal(kept, CAL_CONTEXT_HEADS_MAX);
    uint8_t input[TURN_TAG] = {9}; /* whoever builds on all of them makes room */
    cal_contexts_execute(w->contexts, &w->id, "add", cal_slice_of(input, sizeof input), called, w);
    settle(w);
    head_of(w, &kept);
    assert_int_equal(kept, 1);
    world_free(w);
}

static void the_clock_takes_in_what_comes(void **state) {
    (void)state;
    world *w = new_world(4);
    cal_hash genesis = head_of(w, NULL);
    static const uint8_t tags[] = {1, 2, 3};
    batch *b = chain(w, &genesis, tags, sizeof tags);
    uint64_t second = UINT64_C(1) << 32, bound = now_time(w) + 5 * second;
    b->made[0].delta.record.hlc.time = bound & ~UINT64_C(0xFFFF);
    b->made[1].delta.record.hlc.time = (bound & ~UINT64_C(0xFFFF)) + 0x10000;
    b->made[2].delta.record.hlc.time = now_time(w) - 1000 * second;
    const cal_hash *first = &b->made[0].delta.record.id;
    set_parents(&b->made[2], &first, 1);
    apply(w, b);
    settle(w);
    assert_int_equal(b->outcomes[0].error, 0);
    assert_int_equal(b->outcomes[1].error, CAL_ELIMIT);
    assert_int_equal(b->outcomes[2].error, 0);
    cal_arena arena;
    cal_context_record record;
    cal_arena_init(&arena, SIZE_MAX);
    stored_record(w, &arena, &record);
    assert_true(record.latest == (bound & ~UINT64_C(0xFFFF)));
    cal_arena_deinit(&arena);
    free_batch(b);
    world_free(w);
}

static void what_is_no_list_of_actions_is_refused(void **state) {
    (void)state;
    world *w = new_world(5);
    cal_hash genesis = head_of(w, NULL);
    static const uint8_t tags[] = {1, 2, 3, 4};
    batch *b = chain(w, &genesis, tags, sizeof tags);
    const cal_hash *parent = &genesis;
    cal_buffer_append_u8(&b->made[0].artifact, 0); /* a byte too many: would begin our own part */
    cal_buffer_deinit(&b->made[1].artifact);       /* whole, but it says who may write */
    make_kind(&b->made[1], CRDT_DELTA_CAUSAL_ACTIONS, 2, now_time(w) + 1);
    for (int i = 0; i < 3; i++) set_parents(&b->made[i], &parent, 1);
    b->made[2].delta.record.artifact.len--;
    set_parents(&b->made[3], &parent, 0);
    apply(w, b);
    settle(w);
    static const int errors[] = {CAL_EDECODE, CAL_EDECODE, CAL_EDECODE, CAL_EINVAL};
    for (size_t i = 0; i < b->count; i++) assert_int_equal(b->outcomes[i].error, errors[i]);
    assert_int_equal(stored_count(w), 0);
    free_batch(b);
    world_free(w);
}

static void a_turn_takes_only_so_many(void **state) {
    (void)state;
    world *w = new_world(6);
    cal_hash genesis = head_of(w, NULL);
    uint8_t tags[DELTAS_MAX];
    for (size_t i = 0; i < sizeof tags; i++) tags[i] = (uint8_t)(1 + i % 200);
    batch *b = chain(w, &genesis, tags, DELTAS_MAX);
    apply(w, b);
    settle(w);
    for (size_t i = 0; i < b->count; i++) assert_int_equal(b->outcomes[i].error, CAL_ELIMIT);
    cal_buffer_deinit(&b->made[--b->count].artifact);
    apply(w, b);
    settle(w);
    for (size_t i = 0; i < b->count; i++) assert_int_equal(b->outcomes[i].error, 0);
    assert_int_equal(stored_count(w), CAL_APPLY_DELTAS_MAX);
    free_batch(b);
    world_free(w);
}

static void a_failed_batch_fails_what_was_there_before_too(void **state) {
    (void)state;
    world *w = new_world(7);
    cal_hash genesis = head_of(w, NULL);
    static const uint8_t tags[] = {1, 2, 3};
    batch *b = chain(w, &genesis, tags, sizeof tags), *again = chain(w, &genesis, tags, 3);
    apply(w, b);
    apply(w, again); /* the same, while the first are on their way */
    while (run_worker(w) || run_loop(w)) {
    }
    cal_sim_fail(w->sim, CAL_SIM_WRITE, 1, 1, CAL_EFULL);
    settle(w);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(b->outcomes[i].error, CAL_EFULL);
        assert_int_equal(again->outcomes[i].error, CAL_ECANCELED);
        assert_false(again->outcomes[i].before);
    }
    assert_int_equal(stored_count(w), 0);
    apply(w, again);
    settle(w);
    for (size_t i = 0; i < 3; i++) assert_int_equal(again->outcomes[i].error, 0);
    assert_int_equal(stored_count(w), 3);
    free_batch(b);
    free_batch(again);
    world_free(w);
}

/* --- a context that others made --- */

static int adopt(world *w, const cal_context_id *id) {
    cal_batch *row = cal_batch_new();
    int rc = cal_contexts_adopt(w->contexts, &(cal_context_genesis){.id = *id, .service = "side"},
                                17, row);
    if (rc == 0)
        assert_int_equal(cal_store_commit(w->store, row, NULL), 0);
    else
        cal_batch_free(row);
    return rc;
}

/* Ready for a genesis: the world's context from now on. */
static void be_adopted(world *w) {
    memset(w->id.bytes, 0xAD, sizeof w->id.bytes);
    assert_int_equal(adopt(w, &w->id), 0);
}

static const cal_hash no_parent;

static batch *genesis_and_more(world *w, const uint8_t *tags, size_t count) {
    batch *b = chain(w, &no_parent, tags, count);
    b->made[0].delta.record.has_author = false;
    return b;
}

static void call_status(void *user, const cal_call_result *result) {
    *(cal_call_status *)user = result->status;
}

static cal_call_status status_of(world *w, const char *method) {
    uint8_t input[TURN_TAG] = {9};
    cal_call_status status = CAL_CALL_INTERNAL;
    cal_contexts_execute(w->contexts, &w->id, method, cal_slice_of(input, sizeof input),
                         call_status, &status);
    settle(w);
    return status;
}

static void an_adopted_context_begins_with_its_genesis(void **state) {
    (void)state;
    world *w = new_world(9);
    static const uint8_t tags[] = {1, 2, 3};
    cal_context_id made_here = w->id;
    be_adopted(w);
    assert_int_equal(adopt(w, &w->id), CAL_EEXISTS);
    assert_int_equal(adopt(w, &made_here), CAL_EEXISTS);
    assert_int_equal(status_of(w, "add"), CAL_CALL_UNINITIALIZED);
    assert_int_equal(adopt(w, &w->id), CAL_EEXISTS); /* in memory by now */
    batch *b = genesis_and_more(w, tags, sizeof tags);
    b->made[0].delta.record.has_author = true; /* whoever wrote it: no genesis */
    apply(w, b);
    settle(w);
    for (size_t i = 0; i < b->count; i++) assert_int_equal(b->outcomes[i].error, CAL_ESTATE);
    b->made[0].delta.record.has_author = false;
    apply(w, b);
    settle(w);
    for (size_t i = 0; i < b->count; i++) {
        assert_int_equal(b->outcomes[i].error, 0);
        assert_int_equal(count_of(b->outcomes[i].root.bytes), i + 1);
    }
    assert_int_equal(stored_count(w), 3);
    apply(w, b);
    settle(w);
    for (size_t i = 0; i < b->count; i++) assert_true(b->outcomes[i].before);
    assert_int_equal(status_of(w, "add"), CAL_CALL_OK);
    cal_arena arena;
    cal_context_record record;
    cal_arena_init(&arena, SIZE_MAX);
    stored_record(w, &arena, &record);
    assert_int_equal(record.created_at_ms, 17);
    assert_string_equal(record.service, "side");
    assert_int_equal(count_of(record.root.bytes), 4);
    cal_arena_deinit(&arena);
    free_batch(b);
    world_free(w);
}

static void there_is_one_genesis(void **state) {
    (void)state;
    for (int adopted = 0; adopted < 2; adopted++) {
        world *w = new_world(10);
        static const uint8_t tags[] = {1}, others[] = {4, 5, 6};
        batch *b = genesis_and_more(w, tags, 1), *other = genesis_and_more(w, others, 3);
        if (adopted) {
            be_adopted(w);
            apply(w, b);
            settle(w);
            assert_int_equal(b->outcomes[0].error, 0);
        }
        cal_hash head = head_of(w, NULL);
        uint64_t before = stored_count(w);
        apply(w, other); /* another, and what was built on it */
        settle(w);
        static const int errors[] = {CAL_EINVAL, CAL_ECANCELED, CAL_ECANCELED};
        for (int i = 0; i < 3; i++) assert_int_equal(other->outcomes[i].error, errors[i]);
        const cal_hash *parent = &head;
        set_parents(&other->made[0], &parent, 1); /* nobody's, but on what is there */
        apply(w, other);
        settle(w);
        for (int i = 0; i < 3; i++) assert_int_equal(other->outcomes[i].error, errors[i]);
        assert_int_equal(stored_count(w), before);
        free_batch(b);
        free_batch(other);
        world_free(w);
    }
}

static void a_genesis_that_fails_leaves_room_for_the_right_one(void **state) {
    (void)state;
    world *w = new_world(11);
    static const uint8_t tags[] = {0xEE, 2}, right[] = {7, 8}, two[] = {9};
    be_adopted(w);
    batch *b = genesis_and_more(w, tags, 2), *again = genesis_and_more(w, right, 2),
          *second = genesis_and_more(w, two, 1);
    apply(w, b);
    apply(w, again); /* behind it in the queue, on nothing */
    apply(w, second);
    settle(w);
    assert_int_equal(b->outcomes[0].error, CAL_EGUEST);
    assert_int_equal(b->outcomes[1].error, CAL_ECANCELED);
    assert_int_equal(again->outcomes[0].error, 0);
    assert_int_equal(again->outcomes[1].error, 0);
    assert_int_equal(second->outcomes[0].error, CAL_EINVAL);
    assert_int_equal(stored_count(w), 2);
    free_batch(b);
    free_batch(again);
    free_batch(second);
    world_free(w);
}

/* Each kind of row that an earlier state leaves. */
static void what_was_there_before_is_no_ground_for_a_genesis(void **state) {
    (void)state;
    static const cal_column columns[] = {CAL_COLUMN_STATE, CAL_COLUMN_INDEX, CAL_COLUMN_INDEX_META,
                                         CAL_COLUMN_DELTA, CAL_COLUMN_PRIVATE_STATE};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        world *w = new_world(12);
        static const uint8_t tags[] = {1};
        be_adopted(w);
        uint8_t key[64] = {0};
        memcpy(key, w->id.bytes, 32);
        memset(key + 32, 0x55, 32);
        cal_batch *left = cal_batch_new();
        cal_batch_put(left, columns[i], cal_slice_of(key, sizeof key), cal_slice_text("x"));
        assert_int_equal(cal_store_commit(w->store, left, NULL), 0);
        batch *b = genesis_and_more(w, tags, 1);
        apply(w, b);
        settle(w);
        bool ours = columns[i] == CAL_COLUMN_PRIVATE_STATE; /* no other node's business */
        assert_int_equal(b->outcomes[0].error, ours ? 0 : CAL_ESTATE);
        free_batch(b);
        world_free(w);
    }
}

static cal_batch *removal_batch;
static void removal_ready(void *user, const cal_error *err, cal_batch *removal) {
    (void)user;
    assert_null(err);
    removal_batch = removal;
}

static void what_is_being_removed_is_not_adopted(void **state) {
    (void)state;
    world *w = new_world(13);
    cal_contexts_delete(w->contexts, &w->id, removal_ready, w);
    settle(w);
    assert_int_equal(adopt(w, &w->id), CAL_EBUSY);
    assert_int_equal(cal_store_commit(w->store, removal_batch, NULL), 0);
    assert_int_equal(adopt(w, &w->id), CAL_EBUSY);
    cal_contexts_delete_end(w->contexts, &w->id, true);
    settle(w);
    assert_int_equal(adopt(w, &w->id), CAL_EBUSY); /* its rows are still here */
    for (bool last = false; !last;) {
        cal_batch *step = cal_batch_new();
        assert_int_equal(cal_removal_step(&cal_context_removal, w->id.bytes, w->store, step, &last),
                         0);
        assert_int_equal(cal_store_commit(w->store, step, NULL), 0);
    }
    assert_int_equal(adopt(w, &w->id), 0);
    static const uint8_t tags[] = {1};
    batch *b = genesis_and_more(w, tags, 1);
    apply(w, b);
    settle(w);
    assert_int_equal(b->outcomes[0].error, 0);
    free_batch(b);
    world_free(w);
}

/* --- handlers of events (runtime-abi.md 21) --- */

/* An event whose handler gets this tag as its input; `method` NULL: without a handler. */
static void add_event(cal_buffer *json, const char *method, uint8_t tag) {
    cal_buffer_append_text(json, json->len ? "," : "[");
    cal_buffer_append_text(json, "{\"kind\":\"told\",\"data\":[");
    for (int i = 0; i < TURN_TAG; i++) cal_buffer_printf(json, i ? ",%d" : "%d", i ? 0 : tag);
    cal_buffer_append_text(json, "],\"handler\":");
    if (method)
        cal_buffer_printf(json, "\"%s\"}", method);
    else
        cal_buffer_append_text(json, "null}");
}

static void end_events(made *m, cal_buffer *json) {
    cal_buffer_append_text(json, "]");
    m->delta.record.events = cal_buffer_slice(json);
}

/* What the state says: how often it was changed, and by which tag last. */
static void check_state(world *w, uint64_t count, uint8_t tag) {
    cal_arena arena;
    cal_context_record record;
    cal_arena_init(&arena, SIZE_MAX);
    stored_record(w, &arena, &record);
    assert_int_equal(count_of(record.root.bytes), count);
    assert_int_equal(record.root.bytes[8], tag);
    cal_arena_deinit(&arena);
}

static void check_handlers(world *w, uint64_t ran, uint64_t failed, uint64_t dropped) {
    cal_contexts_stats stats;
    cal_contexts_stats_get(w->contexts, &stats);
    assert_int_equal(stats.handlers, ran);
    assert_int_equal(stats.handlers_failed, failed);
    assert_int_equal(stats.handlers_dropped, dropped);
}

static struct {
    size_t count;
    uint8_t tags[64];
} events_seen;
static void note_event(world *w, const cal_event *event) {
    (void)w;
    if (event->type == CAL_EVENT_STATE_MUTATION && events_seen.count < 64)
        events_seen.tags[events_seen.count++] = event->root.bytes[8];
}

static void handlers_follow_in_order(void **state) {
    (void)state;
    world *w = new_world(14);
    w->event = note_event;
    events_seen.count = 0;
    cal_hash genesis = head_of(w, NULL);
    static const uint8_t tags[] = {1, 2, 3};
    batch *b = chain(w, &genesis, tags, sizeof tags);
    cal_buffer json[2];
    for (int i = 0; i < 2; i++) cal_buffer_init(&json[i], SIZE_MAX);
    add_event(&json[0], "add", 11);
    add_event(&json[0], NULL, 12);
    add_event(&json[0], "trap", 13); /* fails, and the rest go on */
    add_event(&json[0], "nothing_such", 14);
    add_event(&json[0], "hint", 15); /* a view, in its place: it sees what was before it */
    add_event(&json[0], "__calimero_sync_next", 16);
    add_event(&json[0], "", 17);
    add_event(&json[0], "err", 18);
    add_event(&json[0], "add", 19);
    add_event(&json[1], "tell", 21);
    end_events(&b->made[0], &json[0]);
    end_events(&b->made[2], &json[1]);
    apply(w, b);
    settle(w);
    static const uint8_t order_of[] = {1, 2, 3, 11, 11, 19, 21};
    /* each change in its order, and the views and failures between them leave nothing */
    assert_int_equal(events_seen.count, sizeof order_of);
    assert_memory_equal(events_seen.tags, order_of, sizeof order_of);
    check_state(w, 6, 21);
    check_handlers(w, 7, 3, 2);
    cal_hash head = head_of(w, NULL); /* theirs are deltas of this node */
    cal_buffer row;
    cal_delta_record record;
    cal_buffer_init(&row, SIZE_MAX);
    assert_int_equal(cal_context_delta_read(w->store, &w->id, &head, &row), 0);
    assert_int_equal(cal_delta_record_decode(cal_buffer_slice(&row), &record), 0);
    assert_true(record.has_author && record.author.bytes[0] == 2);
    assert_true(record.events.len > 0); /* what `tell` told, whose handler runs elsewhere */
    apply(w, b);                        /* not for what was there before */
    settle(w);
    check_handlers(w, 7, 3, 2);
    cal_buffer_deinit(&row);
    for (int i = 0; i < 2; i++) cal_buffer_deinit(&json[i]);
    free_batch(b);
    world_free(w);
}

static void own_deltas_and_failed_ones_have_no_handlers(void **state) {
    (void)state;
    world *w = new_world(15);
    cal_hash genesis = head_of(w, NULL);
    static const uint8_t tags[] = {1, 0xEE, 3};
    batch *b = chain(w, &genesis, tags, sizeof tags);
    const cal_hash *first = &b->made[0].delta.record.id;
    set_parents(&b->made[2], &first, 1);
    cal_buffer json;
    cal_buffer_init(&json, SIZE_MAX);
    add_event(&json, "add", 11);
    b->made[2].delta.record.events = cal_buffer_slice(&json); /* does not read */
    end_events(&b->made[0], &json);
    b->made[0].delta.record.author.bytes[0] = 2; /* this node's own, come back */
    b->made[1].delta.record.events = cal_buffer_slice(&json);
    b->made[2].delta.record.events.data = json.data;
    apply(w, b);
    settle(w);
    assert_int_equal(b->outcomes[1].error, CAL_EGUEST);
    check_state(w, 2, 3);
    check_handlers(w, 0, 0, 0);
    cal_buffer_deinit(&json);
    free_batch(b);
    world_free(w);
}

/* Many wait, and clients find room all the same. */
static void handlers_leave_room_and_are_bounded(void **state) {
    (void)state;
    world *w = new_world(16);
    cal_hash genesis = head_of(w, NULL);
    uint8_t tags[100];
    for (size_t i = 0; i < sizeof tags; i++) tags[i] = (uint8_t)(1 + i);
    batch *b = chain(w, &genesis, tags, sizeof tags);
    cal_buffer json;
    cal_buffer_init(&json, SIZE_MAX);
    for (int i = 0; i < 200; i++) add_event(&json, "peek", 1);
    cal_buffer_append_text(&json, "]");
    for (size_t i = 0; i < b->count; i++) b->made[i].delta.record.events = cal_buffer_slice(&json);
    apply(w, b);
    while (!b->answered && (run_loop(w) || run_worker(w) || run_store(w))) {
    }
    cal_contexts_stats stats;
    cal_contexts_stats_get(w->contexts, &stats);
    assert_int_equal(stats.handlers_dropped, 100 * 200 - CAL_HANDLERS_MAX);
    assert_true(stats.waiting <= CAL_HANDLERS_OPEN_MAX);
    assert_int_equal(status_of(w, "add"), CAL_CALL_OK);
    settle(w);
    check_handlers(w, CAL_HANDLERS_MAX, 0, 100 * 200 - CAL_HANDLERS_MAX);
    check_state(w, 101, 9);
    cal_buffer_deinit(&json);
    free_batch(b);
    world_free(w);
}

/* At whatever step the node stops, or the context goes. */
static void handlers_end_with_their_context(void **state) {
    (void)state;
    for (int steps = 0; steps < 60; steps++) {
        world *w = new_world(17);
        cal_hash genesis = head_of(w, NULL);
        static const uint8_t tags[] = {1, 2};
        batch *b = chain(w, &genesis, tags, sizeof tags);
        cal_buffer json;
        cal_buffer_init(&json, SIZE_MAX);
        for (int i = 0; i < 300; i++) add_event(&json, "add", 1);
        end_events(&b->made[0], &json);
        apply(w, b);
        for (int i = 0; i < steps && (run_loop(w) || run_worker(w) || run_store(w)); i++) {
        }
        if (steps % 2) {
            cal_contexts_delete(w->contexts, &w->id, removal_ready, w);
            settle(w);
            cal_batch_free(removal_batch);
            cal_contexts_delete_end(w->contexts, &w->id, steps % 4 == 1);
            settle(w);
        } else {
            close_contexts(w);
        }
        assert_true(b->answered);
        cal_buffer_deinit(&json);
        free_batch(b);
        world_free(w);
    }
}

/* Handed over in pieces on a disk that loses power: what was answered is there, the rest can come
 * again, and in the end it is as if nothing had happened. */
static void run_seed(uint64_t seed) {
    world *w = new_world(seed);
    uint8_t tags[60];
    for (size_t i = 0; i < sizeof tags; i++) tags[i] = (uint8_t)(1 + i);
    cal_hash genesis = head_of(w, NULL);
    batch *all = chain(w, &genesis, tags, sizeof tags);
    static batch pieces[20];
    for (int attempt = 0; attempt < 3; attempt++) {
        size_t at = 0, piece = 0;
        if (attempt < 2)
            cal_sim_power_off_at(w->sim, CAL_SIM_WRITE | CAL_SIM_SYNC, 1 + below(w, 60));
        while (at < all->count && piece < 20) {
            size_t len = piece == 19 ? all->count - at : 1 + below(w, 8);
            if (len > all->count - at) len = all->count - at;
            batch *b = &pieces[piece++];
            memset(b, 0, sizeof *b);
            b->count = len;
            for (size_t i = 0; i < len; i++) b->made[i].delta = all->made[at + i].delta;
            apply(w, b);
            at += len;
            for (uint32_t i = below(w, 6); i > 0; i--)
                if (!run_worker(w) && !run_loop(w)) run_store(w);
        }
        settle(w);
        uint64_t done = 0;
        for (size_t i = 0; i < piece; i++) {
            assert_true(pieces[i].answered);
            for (size_t k = 0; k < pieces[i].count; k++) done += pieces[i].outcomes[k].error == 0;
        }
        if (cal_sim_is_off(w->sim)) {
            close_contexts(w);
            cal_store_close(w->store);
            cal_sim_power_on(w->sim, CAL_SIM_TEAR);
            assert_int_equal(world_open_store(w), 0);
            open_contexts(w);
        } else {
            WORLD_CHECK(w, done == all->count, "%llu of %zu were applied", (unsigned long long)done,
                        all->count);
        }
        cal_sim_power_off_at(w->sim, 0, 0);
        WORLD_CHECK(w, stored_count(w) >= done, "%llu were answered, %llu are there",
                    (unsigned long long)done, (unsigned long long)stored_count(w));
    }
    cal_hash head = head_of(w, NULL);
    WORLD_CHECK(w, stored_count(w) == all->count, "%llu turns",
                (unsigned long long)stored_count(w));
    assert_memory_equal(&head, &all->made[all->count - 1].delta.record.id, 32);
    free_batch(all);
    world_free(w);
}

static void deltas_on_a_bad_disk(void **state) {
    (void)state;
    sim_seeds seeds = sim_seeds_from(SEEDS_DEFAULT);
    for (uint64_t seed = seeds.first; seed < seeds.end; seed++) run_seed(seed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deltas_follow_each_other),
        cmocka_unit_test(one_that_traps_takes_only_its_descendants),
        cmocka_unit_test(heads_are_what_nobody_builds_on),
        cmocka_unit_test(heads_are_bounded),
        cmocka_unit_test(the_clock_takes_in_what_comes),
        cmocka_unit_test(what_is_no_list_of_actions_is_refused),
        cmocka_unit_test(a_turn_takes_only_so_many),
        cmocka_unit_test(a_failed_batch_fails_what_was_there_before_too),
        cmocka_unit_test(an_adopted_context_begins_with_its_genesis),
        cmocka_unit_test(there_is_one_genesis),
        cmocka_unit_test(a_genesis_that_fails_leaves_room_for_the_right_one),
        cmocka_unit_test(what_was_there_before_is_no_ground_for_a_genesis),
        cmocka_unit_test(what_is_being_removed_is_not_adopted),
        cmocka_unit_test(handlers_follow_in_order),
        cmocka_unit_test(own_deltas_and_failed_ones_have_no_handlers),
        cmocka_unit_test(handlers_leave_room_and_are_bounded),
        cmocka_unit_test(handlers_end_with_their_context),
        cmocka_unit_test(deltas_on_a_bad_disk),
    };
    return cmocka_run_group_tests(tests, world_setup, world_teardown);
}
