/* A snapshot takes the place of a context's state: whole, or not at all, or so that everybody knows
 * that it is not there. World and guest: turn_sim.h, turn_guest.h. */
#include "seeds.h"
#include "turn_sim.h"

enum { ROWS = 9000, SEEDS_DEFAULT = 8 }; /* of three steps */

typedef struct source {
    int at, rows;
    int fail_at; /* the row where it breaks; -1 */
    uint8_t key[32], value[64];
    int result;
    bool answered;
} source;

static int next_row(void *user, cal_slice *ret_key, cal_slice *ret_value) {
    source *s = user;
    if (s->at == s->fail_at) return CAL_EUNREACHABLE;
    if (s->at == s->rows) return CAL_ENOTFOUND;
    memset(s->key, 0, sizeof s->key); /* row 0: what the guest reads its count from */
    cal_write_u32le(s->key + 4, (uint32_t)s->at);
    memset(s->value, s->at & 0xff, sizeof s->value);
    cal_write_u64le(s->value, 1000);
    *ret_key = cal_slice_of(s->key, sizeof s->key);
    *ret_value = cal_slice_of(s->value, s->at == 0 ? TURN_STATE : sizeof s->value);
    s->at++;
    return 0;
}

static void installed(void *user, int error) {
    source *s = user;
    s->result = error;
    s->answered = true;
}

static const cal_hash new_heads[] = {{{0xA}}, {{0xB}}};

static void install(world *w, source *s) {
    cal_context_state state = {.user = s,
                               .next = next_row,
                               .root = {{0xE8, 3}}, /* 1000 */
                               .heads = new_heads,
                               .head_count = 2,
                               .latest = UINT64_MAX / 2};
    cal_contexts_install(w->contexts, &w->id, &state, installed, s);
}

static int answer_error;
static uint64_t answer_count, answer_root;
static void answered(void *user, const cal_call_result *result) {
    (void)user;
    answer_root = count_of(result->root.bytes);
    answer_error = result->error;
    answer_count = result->output_len == TURN_STATE ? count_of(result->output) : 0;
}

static void call(world *w, const char *method) {
    uint8_t input[TURN_TAG] = {1};
    cal_contexts_execute(w->contexts, &w->id, method, cal_slice_of(input, sizeof input), answered,
                         NULL);
}

/* Rows of a column under the context. */
static int rows_of(world *w, cal_column column) {
    cal_snapshot *snapshot;
    cal_cursor *cursor;
    cal_buffer end;
    int rows = 0;
    cal_slice prefix = cal_slice_of(w->id.bytes, 32);
    cal_buffer_init(&end, 32);
    cal_prefix_end(prefix, &end);
    assert_int_equal(cal_store_snapshot(w->store, &snapshot), 0);
    assert_int_equal(
        cal_cursor_open(snapshot, column, prefix, cal_buffer_slice(&end), false, &cursor), 0);
    while (cal_cursor_next(cursor, &(cal_slice){0}, NULL) == 0) rows++;
    cal_cursor_free(cursor);
    cal_snapshot_free(snapshot);
    cal_buffer_deinit(&end);
    return rows;
}

static void check_installed(world *w) {
    cal_arena arena;
    cal_context_record record;
    cal_arena_init(&arena, SIZE_MAX);
    stored_record(w, &arena, &record);
    WORLD_CHECK(w, record.head_count == 2 && memcmp(record.heads, new_heads, 64) == 0, "the heads");
    WORLD_CHECK(w, count_of(record.root.bytes) == 1000, "the root");
    WORLD_CHECK(w, record.latest == UINT64_MAX / 2, "the time");
    cal_arena_deinit(&arena);
    WORLD_CHECK(w, rows_of(w, CAL_COLUMN_STATE) == ROWS, "%d rows", rows_of(w, CAL_COLUMN_STATE));
    WORLD_CHECK(w, rows_of(w, CAL_COLUMN_INDEX) == 0, "index pairs of the old state");
}

static void a_snapshot_takes_the_place_of_what_was(void **state) {
    (void)state;
    world *w = world_new(1);
    source s = {.rows = ROWS, .fail_at = -1};
    for (int i = 0; i < 5; i++) call(w, "add");
    install(w, &s);
    call(w, "add"); /* behind it */
    settle(w);
    assert_true(s.answered);
    assert_int_equal(s.result, 0);
    assert_int_equal(answer_error, 0);
    assert_int_equal(answer_count, 1001); /* on the new state, not on what was in memory */
    call(w, "look");
    settle(w);
    assert_int_equal(answer_count, 1001);
    cal_arena arena;
    cal_context_record record;
    cal_arena_init(&arena, SIZE_MAX);
    stored_record(w, &arena, &record);
    assert_true(record.latest > UINT64_MAX / 2); /* the clock went on from the snapshot's */
    cal_arena_deinit(&arena);
    world_free(w);
}

static void half_of_one_is_no_state(void **state) {
    (void)state;
    world *w = world_new(2);
    source s = {.rows = ROWS, .fail_at = ROWS / 2};
    call(w, "add");
    settle(w);
    install(w, &s);
    settle(w);
    assert_int_equal(s.result, CAL_EUNREACHABLE);
    static const char *const methods[] = {"add", "peek", "look"};
    for (int i = 0; i < 3; i++) {
        call(w, methods[i]);
        settle(w);
        assert_int_equal(answer_error, CAL_ESTATE);
    }
    s = (source){.rows = ROWS, .fail_at = -1};
    install(w, &s);
    settle(w);
    assert_int_equal(s.result, 0);
    check_installed(w);
    world_free(w);
}

/* Handed over before the installation, it takes its snapshot so many steps later. */
static void a_view_sees_one_state_or_none(void **state) {
    (void)state;
    int before = 0, between = 0, after = 0;
    for (int steps = 0; after == 0; steps++) {
        world *w = world_new(3);
        source s = {.rows = ROWS, .fail_at = -1};
        for (int i = 0; i < 3; i++) call(w, "add");
        settle(w);
        call(w, "look");
        cal_task *view = hold_worker(w);
        install(w, &s);
        for (int i = 0; i < steps && (run_loop(w) || run_worker(w) || run_store(w)); i++) {
        }
        bool whole = s.answered;
        w->on_worker = true;
        view->run(view);
        w->on_worker = false;
        settle(w);
        assert_int_equal(s.result, 0);
        if (answer_error == 0) {
            WORLD_CHECK(w, answer_count == answer_root, "step %d: state %llu, root %llu", steps,
                        (unsigned long long)answer_count, (unsigned long long)answer_root);
            WORLD_CHECK(w, answer_count == 3 || answer_count == 1000, "step %d: another", steps);
        } else {
            assert_int_equal(answer_error, CAL_ESTATE);
        }
        before += answer_count == 3;
        between += answer_error != 0;
        after += whole;
        if (whole) assert_int_equal(answer_count, 1000);
        world_free(w);
    }
    assert_true(before > 0 && between > 0);
}

static void removal_ready(void *user, const cal_error *err, cal_batch *batch) {
    assert_null(err);
    cal_store_submit(((world *)user)->store, batch, NULL, NULL);
}

/* They come when some rows are there, and wait for the step that is on. */
static void a_stop_or_a_removal_waits_for_one_step(void **state) {
    (void)state;
    for (int removal = 0; removal < 2; removal++) {
        world *w = world_new(4);
        source s = {.rows = 100 * ROWS, .fail_at = -1};
        call(w, "add");
        settle(w);
        install(w, &s);
        while (s.at == 0 && (run_loop(w) || run_worker(w) || run_store(w))) {
        }
        int at = s.at;
        assert_true(at > 0 && at < s.rows);
        if (removal)
            cal_contexts_delete(w->contexts, &w->id, removal_ready, w);
        else
            close_contexts(w);
        settle(w);
        assert_true(s.answered);
        assert_int_equal(s.result, removal ? CAL_ENOTFOUND : CAL_ECANCELED);
        assert_int_equal(s.at, at);
        if (removal)
            cal_contexts_delete_end(w->contexts, &w->id, true);
        else
            assert_int_equal(stored_count(w), 0); /* not initialised */
        settle(w);
        world_free(w);
    }
}

static void run_seed(uint64_t seed) {
    world *w = world_new(seed);
    for (int i = 0; i < 3; i++) call(w, "add");
    settle(w);
    for (bool last = false;; last = below(w, 3) == 0) {
        source s = {.rows = ROWS, .fail_at = -1};
        if (!last) cal_sim_power_off_at(w->sim, CAL_SIM_WRITE | CAL_SIM_SYNC, 1 + below(w, 900));
        install(w, &s);
        settle(w);
        WORLD_CHECK(w, s.answered, "no answer");
        bool off = cal_sim_is_off(w->sim);
        cal_sim_power_off_at(w->sim, 0, 0);
        WORLD_CHECK(w, off || s.result == 0, "%s", cal_error_name(s.result));
        if (s.result == 0 && !off) break;
        close_contexts(w);
        cal_store_close(w->store);
        cal_sim_power_on(w->sim, CAL_SIM_TEAR);
        assert_int_equal(world_open_store(w), 0);
        open_contexts(w);
        uint64_t count = stored_count(w);
        if (s.result == 0 || count == 1000)
            check_installed(w);
        else if (count == 3) /* as it was */
            WORLD_CHECK(w, rows_of(w, CAL_COLUMN_STATE) == 2, "rows of another state");
        else
            WORLD_CHECK(w, count == 0, "a state that was never there");
        call(w, "look");
        settle(w);
        WORLD_CHECK(w, answer_error == (count ? 0 : CAL_ESTATE) && answer_count == count,
                    "a view sees something else");
    }
    check_installed(w);
    world_free(w);
}

static void snapshots_on_a_disk_that_loses_power(void **state) {
    (void)state;
    sim_seeds seeds = sim_seeds_from(SEEDS_DEFAULT);
    for (uint64_t seed = seeds.first; seed < seeds.end; seed++) run_seed(seed);
}

/* What goes is counted in bytes, too: no transaction frees more than a little. */
static void large_rows_go_a_few_at_a_time(void **state) {
    (void)state;
    enum { LARGE = 24, LARGE_BYTES = 256 * 1024 };
    world *w = world_new(6);
    uint8_t key[64] = {0}, *value = calloc(1, LARGE_BYTES);
    assert_non_null(value);
    memcpy(key, w->id.bytes, 32);
    for (uint8_t i = 0; i < LARGE; i++) {
        cal_batch *batch = cal_batch_new();
        key[63] = i;
        cal_batch_put(batch, CAL_COLUMN_STATE, cal_slice_of(key, sizeof key),
                      cal_slice_of(value, LARGE_BYTES));
        assert_int_equal(cal_store_commit(w->store, batch, NULL), 0);
    }
    free(value);
    static const cal_column others[] = {CAL_COLUMN_INDEX, CAL_COLUMN_INDEX_META,
                                        CAL_COLUMN_PRIVATE_STATE};
    for (int i = 0; i < 3; i++) {
        cal_batch *batch = cal_batch_new();
        cal_batch_put(batch, others[i], cal_slice_of(key, sizeof key), cal_slice_text("x"));
        assert_int_equal(cal_store_commit(w->store, batch, NULL), 0);
    }
    source s = {.rows = 1, .fail_at = -1};
    cal_store_stats before, after;
    cal_store_stats_get(w->store, &before);
    install(w, &s);
    settle(w);
    cal_store_stats_get(w->store, &after);
    assert_true(s.answered && s.result == 0);
    assert_int_equal(rows_of(w, CAL_COLUMN_STATE), 1);
    for (int i = 0; i < 3; i++) /* private state is no part of a snapshot, and stays */
        assert_int_equal(rows_of(w, others[i]), i == 2);
    assert_true(after.batches - before.batches >= 1 + LARGE / 2);
    world_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_rows_go_a_few_at_a_time),
        cmocka_unit_test(a_snapshot_takes_the_place_of_what_was),
        cmocka_unit_test(half_of_one_is_no_state),
        cmocka_unit_test(a_view_sees_one_state_or_none),
        cmocka_unit_test(a_stop_or_a_removal_waits_for_one_step),
        cmocka_unit_test(snapshots_on_a_disk_that_loses_power),
    };
    return cmocka_run_group_tests(tests, world_setup, world_teardown);
}
