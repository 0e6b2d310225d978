/* The oldest deltas of a context are taken away in steps (context/compact.h): which go is held
 * against the plain definition, on graphs that a seed draws; between the steps calls run, others
 * fail, and the power goes. World and guest: turn_sim.h, turn_guest.h. */
#include "seeds.h"
#include "turn_sim.h"

#include "context/commit.h"
#include "context/compact.h"
#include "context/past.h"

enum { DELTAS_MAX = 1200, AUTHORS = 7, SEEDS_DEFAULT = 12, PARENTS_MAX = 3 };

typedef struct made {
    cal_hash id;
    uint64_t time;
    uint8_t author; /* 0: none: the genesis */
    uint32_t parents[PARENTS_MAX], parent_count;
    uint8_t parent_ids[PARENTS_MAX][32];
} made;

typedef struct graph {
    made deltas[DELTAS_MAX];
    uint32_t count;
    cal_hash heads[DELTAS_MAX];
    size_t head_count;
} graph;

static graph g;

static cal_public_key author_key(uint8_t author) {
    cal_public_key key = {{0}};
    key.bytes[0] = (uint8_t)(author * 37);
    key.bytes[1] = author;
    return key;
}

static void put_delta(world *w, cal_batch *batch, const made *delta) {
    static const uint8_t artifact[] = {0, 0, 0, 0, 0}, none[1][32];
    cal_delta_record record = {
        .id = delta->id,
        .parents = delta->parent_count ? (const uint8_t(*)[32])delta->parent_ids : none,
        .parent_count = delta->parent_count ? delta->parent_count : 1,
        .artifact = cal_slice_of(artifact, sizeof artifact),
        .hlc = {.time = delta->time, .id = {1}},
        .has_author = delta->author != 0,
        .author = author_key(delta->author)};
    assert_int_equal(commit_put_delta(batch, &w->id, &record), 0);
}

/* Each of some authors goes on from some of what it last saw: no parent is later than its child. */
static void draw(world *w, uint32_t count) {
    bool is_parent[DELTAS_MAX] = {false};
    cal_arena arena;
    cal_context_record record;
    cal_batch *batch = cal_batch_new();
    g = (graph){.count = count};
    for (uint32_t i = 0; i < count; i++) {
        made *delta = &g.deltas[i];
        cal_sim_os(w->sim)->random(cal_sim_os(w->sim)->user, delta->id.bytes, 32);
        delta->time = ((uint64_t)i + 1) << 24;
        delta->author = i ? (uint8_t)(1 + below(w, AUTHORS)) : 0;
        delta->parent_count = i ? 1 + below(w, PARENTS_MAX) : 0;
        for (uint32_t k = 0; k < delta->parent_count; k++) {
            uint32_t back = 1 + below(w, below(w, 8) ? 4 : 60);
            delta->parents[k] = back > i ? 0 : i - back;
            is_parent[delta->parents[k]] = true;
            memcpy(delta->parent_ids[k], g.deltas[delta->parents[k]].id.bytes, 32);
        }
        put_delta(w, batch, delta);
    }
    for (uint32_t i = 0; i < count; i++)
        if (!is_parent[i]) g.heads[g.head_count++] = g.deltas[i].id;
    cal_arena_init(&arena, SIZE_MAX);
    stored_record(w, &arena, &record);
    if (g.head_count > CAL_CONTEXT_HEADS_MAX) g.head_count = CAL_CONTEXT_HEADS_MAX;
    record.heads = g.heads;
    record.head_count = g.head_count;
    assert_int_equal(commit_put_record(batch, &w->id, &record), 0);
    uint8_t key[64];
    memcpy(key, w->id.bytes, 32);
    memcpy(key + 32, w->genesis.bytes, 32);
    cal_batch_delete(batch, CAL_COLUMN_DELTA, cal_slice_of(key, sizeof key));
    cal_arena_deinit(&arena);
    cal_store_submit(w->store, batch, NULL, NULL);
    settle(w);
    close_contexts(w);
    open_contexts(w);
}

/* 2: with its actions; 1: a checkpoint; 0: not there. */
static int standing_of(world *w, const cal_hash *id) {
    cal_buffer row;
    cal_delta_record record;
    cal_buffer_init(&row, SIZE_MAX);
    int rc = cal_context_delta_read(w->store, &w->id, id, &row);
    if (rc == 0) rc = cal_delta_record_decode(cal_buffer_slice(&row), &record);
    WORLD_CHECK(w, rc == 0 || rc == CAL_ENOTFOUND, "a row: %s", cal_error_name(rc));
    int standing = rc ? 0 : cal_delta_is_checkpoint(&record) ? 1 : 2;
    if (standing == 1)
        WORLD_CHECK(w, record.hlc.time > 0, "a checkpoint forgets when its delta was made");
    cal_buffer_deinit(&row);
    return standing;
}

static cal_past past_of(world *w) {
    cal_snapshot *snapshot;
    cal_past past;
    assert_int_equal(cal_store_snapshot(w->store, &snapshot), 0);
    assert_int_equal(cal_past_read(snapshot, &w->id, &past), 0);
    cal_snapshot_free(snapshot);
    return past;
}

static bool is_head(const cal_hash *id) {
    for (size_t i = 0; i < g.head_count; i++)
        if (memcmp(&g.heads[i], id, sizeof *id) == 0) return true;
    return false;
}

/* At any time: whatever has its actions has its parents' rows, and of what is gone the marks say
 * so; of no author more is said to be gone than is. */
static void check_sound(world *w) {
    cal_past past = past_of(w);
    uint64_t latest[AUTHORS + 1] = {0};
    for (uint32_t i = 0; i < g.count; i++) {
        const made *delta = &g.deltas[i];
        cal_public_key author = author_key(delta->author);
        int standing = standing_of(w, &delta->id);
        WORLD_CHECK(w, !is_head(&delta->id) || standing == 2, "a head is gone");
        for (uint32_t k = 0; standing == 2 && k < delta->parent_count; k++)
            WORLD_CHECK(w, standing_of(w, &g.deltas[delta->parents[k]].id) > 0,
                        "delta %u has no row for its parent %u", i, delta->parents[k]);
        if (delta->author && standing < 2)
            WORLD_CHECK(w, cal_past_has(&past, &author, delta->time), "delta %u is forgotten", i);
        if (delta->author && standing < 2) latest[delta->author] = delta->time;
    }
    for (uint8_t i = 1; i <= AUTHORS; i++) {
        cal_public_key author = author_key(i);
        WORLD_CHECK(w, !cal_past_has(&past, &author, latest[i] + 1),
                    "deltas of author %u that are here are said to be gone", i);
    }
    cal_past_deinit(&past);
}

/* When it is over. */
static void check_over(world *w, uint32_t keep) {
    uint32_t full = 0, shadows = 0, oldest_full = UINT32_MAX, newest_gone = 0;
    for (uint32_t i = 0; i < g.count; i++) {
        int standing = standing_of(w, &g.deltas[i].id);
        full += standing == 2;
        shadows += standing == 1;
        if (standing == 2 && !is_head(&g.deltas[i].id) && oldest_full == UINT32_MAX)
            oldest_full = i;
        if (standing == 0) newest_gone = i;
    }
    WORLD_CHECK(w, full == keep + g.head_count, "%u are kept of %u", full, keep);
    WORLD_CHECK(w,
                shadows >= (cal_compact_shadows(keep) < g.count - full ? cal_compact_shadows(keep)
                                                                       : g.count - full),
                "%u checkpoints", shadows);
    WORLD_CHECK(w, shadows <= cal_compact_shadows(keep) + PARENTS_MAX * full, "%u checkpoints",
                shadows);
    WORLD_CHECK(w, oldest_full + full + g.head_count >= g.count, "%u is kept, it is too old",
                oldest_full);
    WORLD_CHECK(w, newest_gone < oldest_full, "%u is gone altogether", newest_gone);
}

/* --- steps --- */

typedef struct steps {
    bool answered;
    int error;
    uint32_t compacted;
} steps;

static void stepped(void *user, int error, uint32_t compacted) {
    steps *s = user;
    s->answered = true;
    s->error = error;
    s->compacted += compacted;
}

static int step(world *w, cal_compact *plan, steps *s) {
    s->answered = false;
    cal_contexts_compact(w->contexts, &w->id, plan, stepped, s);
    settle(w);
    WORLD_CHECK(w, s->answered, "a step is not answered");
    return s->error;
}

static int plan_for(world *w, uint32_t above, uint32_t keep, cal_compact **ret_plan) {
    const cal_compact_bounds bounds = {above, keep, UINT64_MAX};
    return cal_compact_plan(w->store, &w->id, &bounds, ret_plan);
}

static void called(void *user, const cal_call_result *result) {
    (void)result;
    ++*(int *)user;
}

static void add(world *w, int *answers) {
    uint8_t input[TURN_TAG] = {1};
    cal_contexts_execute(w->contexts, &w->id, "add", cal_slice_of(input, sizeof input), called,
                         answers);
}

/* --- tests --- */

static sim_seeds seeds;

static void the_oldest_go(void **state) {
    (void)state;
    for (uint64_t seed = seeds.first; seed < seeds.end; seed++) {
        world *w = world_new(seed);
        cal_compact *plan = NULL;
        steps s = {0};
        uint32_t count = 40 + below(w, DELTAS_MAX - 40), keep = 1 + below(w, count / 4);
        draw(w, count);
        uint32_t others = count - (uint32_t)g.head_count;
        WORLD_CHECK(w, plan_for(w, others, keep, &plan) == CAL_ENOTFOUND,
                    "at the bound it goes on");
        assert_int_equal(plan_for(w, others - 1, keep, &plan), 0);
        while (cal_compact_left(plan) > 0) {
            size_t left = cal_compact_left(plan);
            assert_int_equal(step(w, plan, &s), 0);
            WORLD_CHECK(w, left - cal_compact_left(plan) <= CAL_COMPACT_STEP_ROWS, "a long step");
            if (below(w, 3) == 0) check_sound(w);
        }
        cal_compact_free(plan);
        check_sound(w);
        check_over(w, keep);
        cal_contexts_stats stats;
        cal_contexts_stats_get(w->contexts, &stats);
        assert_int_equal(stats.compacted, s.compacted);
        WORLD_CHECK(w, s.compacted + keep == others, "%u of %u", s.compacted, others);
        WORLD_CHECK(w, plan_for(w, others - 1, keep, &plan) == CAL_ENOTFOUND, "it goes on again");
        world_free(w);
    }
}

static void calls_run_between_steps(void **state) {
    (void)state;
    world *w = world_new(1);
    cal_compact *plan;
    steps s = {0};
    int answers = 0, asked = 0;
    draw(w, 1000);
    assert_int_equal(plan_for(w, 100, 10, &plan), 0);
    while (cal_compact_left(plan) > 0) {
        for (int i = 0; i < 5; i++, asked++) add(w, &answers);
        cal_contexts_compact(w->contexts, &w->id, plan, stepped, &s);
        for (int i = 0; i < 5; i++, asked++) add(w, &answers);
        settle(w);
        assert_int_equal(s.error, 0);
    }
    cal_compact_free(plan);
    assert_int_equal(answers, asked);
    assert_int_equal(stored_count(w), asked);
    world_free(w);
}

static void done(void *user, int error) { ((steps *)user)->error = error; }

/* A head that a plan holds, because it became one again by then, stays; so do those of a state that
 * came whole. */
static void heads_stay(void **state) {
    (void)state;
    world *w = world_new(2);
    cal_compact *plan;
    steps s = {0};
    draw(w, 300);
    cal_hash heads[] = {g.deltas[10].id, {{0xB}}};
    assert_int_equal(plan_for(w, 100, 10, &plan), 0);
    cal_context_state taken = {.heads = heads, .head_count = 2};
    cal_arena arena;
    cal_context_record record;
    cal_arena_init(&arena, SIZE_MAX);
    stored_record(w, &arena, &record);
    taken.root = record.root;
    taken.root.bytes[5] ^= 1;
    cal_contexts_rejoin(w->contexts, &w->id, &taken, NULL, 0, done, &s);
    settle(w);
    assert_int_equal(s.error, CAL_EBUSY); /* another state than the one here */
    assert_int_equal(standing_of(w, &heads[1]), 0);
    taken.root.bytes[5] ^= 1;
    cal_contexts_rejoin(w->contexts, &w->id, &taken, NULL, 0, done, &s);
    settle(w);
    assert_int_equal(s.error, 0);
    while (cal_compact_left(plan) > 0) assert_int_equal(step(w, plan, &s), 0);
    cal_compact_free(plan);
    assert_int_equal(standing_of(w, &heads[0]), 2);
    assert_int_equal(standing_of(w, &heads[1]), 1);
    for (size_t i = 0; i < g.head_count; i++) assert_int_equal(standing_of(w, &g.heads[i]), 2);
    cal_arena_deinit(&arena);
    world_free(w);
}

/* The power goes somewhere: what is there is sound, and the next plan takes the rest. */
static void it_may_end_after_any_step(void **state) {
    (void)state;
    for (uint64_t seed = seeds.first; seed < seeds.end; seed++) {
        world *w = world_new(seed);
        cal_compact *plan;
        draw(w, 900);
        for (int cuts = 0; plan_for(w, 200, 50, &plan) == 0;) {
            steps s = {0};
            if (cuts++ < 6)
                cal_sim_power_off_at(w->sim, CAL_SIM_WRITE | CAL_SIM_SYNC, 1 + below(w, 60));
            while (cal_compact_left(plan) > 0 && step(w, plan, &s) == 0) {
            }
            cal_compact_free(plan);
            if (cal_sim_is_off(w->sim)) {
                close_contexts(w);
                cal_store_close(w->store);
                cal_sim_power_on(w->sim, (cal_sim_survival[]){CAL_SIM_KEEP, CAL_SIM_DROP,
                                                              CAL_SIM_TEAR}[below(w, 3)]);
                cal_sim_power_off_at(w->sim, 0, 0);
                assert_int_equal(world_open_store(w), 0);
                open_contexts(w);
            }
            cal_sim_power_off_at(w->sim, 0, 0);
            check_sound(w);
        }
        check_over(w, 50);
        world_free(w);
    }
}

static void a_store_that_fails_takes_nothing_away(void **state) {
    (void)state;
    world *w = world_new(3);
    cal_compact *plan;
    steps s = {0};
    draw(w, 400);
    assert_int_equal(plan_for(w, 100, 10, &plan), 0);
    size_t left = cal_compact_left(plan);
    cal_sim_fail(w->sim, CAL_SIM_WRITE, 1, UINT64_MAX, CAL_EFULL);
    assert_int_not_equal(step(w, plan, &s), 0);
    assert_int_equal(s.compacted, 0);
    assert_int_equal(cal_compact_left(plan), left);
    cal_sim_fail(w->sim, 0, 0, 0, 0);
    check_sound(w);
    while (cal_compact_left(plan) > 0) assert_int_equal(step(w, plan, &s), 0);
    cal_compact_free(plan);
    check_over(w, 10);
    world_free(w);
}

static void ready(void *user, const cal_error *err, cal_batch *batch) {
    world *w = user;
    assert_null(err);
    cal_store_submit(w->store, batch, NULL, NULL);
}

static void a_context_that_goes_takes_its_marks_along(void **state) {
    (void)state;
    world *w = world_new(4);
    cal_compact *plan;
    steps s = {0};
    draw(w, 600);
    assert_int_equal(plan_for(w, 100, 10, &plan), 0);
    assert_int_equal(step(w, plan, &s), 0);
    cal_past past = past_of(w);
    assert_true(past.count > 0);
    cal_past_deinit(&past);
    cal_contexts_delete(w->contexts, &w->id, ready, w);
    settle(w);
    assert_int_equal(step(w, plan, &s), CAL_ENOTFOUND);
    cal_contexts_delete_end(w->contexts, &w->id, true);
    assert_int_equal(step(w, plan, &s), CAL_ENOTFOUND);
    past = past_of(w);
    assert_int_equal(past.count, 0);
    cal_compact_free(plan);
    world_free(w);
}

static void marks(void **state) {
    (void)state;
    cal_past past = {0}, read;
    cal_buffer bytes;
    cal_public_key one = author_key(1), two = author_key(2), three = author_key(3);
    assert_false(cal_past_has(&past, &one, 0));
    assert_int_equal(cal_past_note(&past, &two, 20), 0);
    assert_int_equal(cal_past_note(&past, &one, 10), 0);
    assert_int_equal(cal_past_note(&past, &two, 5), 0); /* earlier: it stays */
    assert_true(cal_past_has(&past, &one, 10));
    assert_false(cal_past_has(&past, &one, 11));
    assert_true(cal_past_has(&past, &two, 20));
    assert_false(cal_past_has(&past, &two, 21));
    assert_false(cal_past_has(&past, &three, 0));
    cal_buffer_init(&bytes, SIZE_MAX);
    assert_int_equal(cal_past_encode(&past, 100, &bytes), 0);
    assert_int_equal(bytes.len, 2 * CAL_PAST_MARK_SIZE);
    assert_int_equal(cal_past_decode(cal_buffer_slice(&bytes), &read), 0);
    assert_int_equal(read.count, 2);
    assert_memory_equal(read.marks, past.marks, 2 * sizeof *past.marks);
    cal_past_deinit(&read);
    bytes.len--;
    assert_int_equal(cal_past_decode(cal_buffer_slice(&bytes), &read), CAL_ECORRUPT);
    bytes.len = 0;
    assert_int_equal(cal_past_encode(&past, 1, &bytes), 0);
    assert_int_equal(cal_past_encode(&past, 1, &bytes), 0); /* the same author twice */
    assert_int_equal(cal_past_decode(cal_buffer_slice(&bytes), &read), CAL_ECORRUPT);
    for (uint32_t i = 0; i < CAL_PAST_AUTHORS_MAX; i++) {
        cal_write_u32le(one.bytes + 4, i + 1);
        int rc = cal_past_note(&past, &one, 1);
        assert_int_equal(rc, i < CAL_PAST_AUTHORS_MAX - 2 ? 0 : CAL_ELIMIT);
    }
    cal_buffer_deinit(&bytes);
    cal_past_deinit(&past);
}

int main(void) {
    seeds = sim_seeds_from(SEEDS_DEFAULT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(marks),
        cmocka_unit_test(the_oldest_go),
        cmocka_unit_test(calls_run_between_steps),
        cmocka_unit_test(heads_stay),
        cmocka_unit_test(it_may_end_after_any_step),
        cmocka_unit_test(a_store_that_fails_takes_nothing_away),
        cmocka_unit_test(a_context_that_goes_takes_its_marks_along),
    };
    return cmocka_run_group_tests(tests, world_setup, world_teardown);
}
