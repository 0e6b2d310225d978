/* Turns of one context on a disk that fails, tears, fills up and loses power, in an order of loop,
 * worker and store that the seed chooses.
 *
 * Every answer given is durable after a loss of power at any point, none that failed left a trace,
 * the order of deltas is the order of turns, and root, heads and rows are those that the deltas
 * make. CAL_SIM_SEEDS=n runs n seeds, CAL_SIM_SEED=s repeats one. */
#include "seeds.h"
#include "turn_sim.h"

#include "context/internal.h"

enum {
    CLIENTS = 64,
    CALLS = 160, /* of a round */
    ROUNDS = 3,
    KEPT_MAX = CALLS * ROUNDS * 2 + 8,
    SEEDS_DEFAULT = 120,
};

typedef enum method { ADD, SWEEP, TRAP, PEEK, LOOK, METHODS } method;
static const char *const method_names[] = {"add", "sweep", "trap", "peek", "look"};

typedef struct tag {
    uint8_t bytes[TURN_TAG]; /* class, number (4), method */
} tag;

typedef struct client {
    struct sim *sim;
    bool busy;
    method method;
    tag tag;
    uint64_t durable_before; /* of a view */
} client;

typedef struct sim {
    world *w;
    client clients[CLIENTS];
    uint32_t issued, answered, until;
    tag kept[KEPT_MAX]; /* answered as done, in order: kept[i] made count i + 1 */
    uint32_t kept_count;
    uint32_t announced; /* events that came */
    uint32_t told;      /* deltas to publish */
    uint32_t failed;    /* calls that were to change something, and did not */
    bool calm;          /* no failure is due: calls must succeed */
    int inside;         /* of what others do meanwhile */
} sim;

static tag new_tag(sim *s, method m) {
    tag t = {{(uint8_t)below(s->w, 256)}};
    cal_write_u32le(t.bytes + 1, ++s->issued);
    t.bytes[5] = (uint8_t)m;
    return t;
}

/* Calls are numbered as they come. */
static uint32_t number_of(const tag *t) { return cal_read_u32le(t->bytes + 1); }

/* Without power nothing can be looked up: then it is checked when there is again. */
static uint64_t durable_now(sim *s) {
    return cal_sim_is_off(s->w->sim) ? UINT64_MAX : stored_count(s->w);
}

static void check_change(client *c, const cal_call_result *result) {
    sim *s = c->sim;
    uint32_t count = s->kept_count + 1;
    WORLD_CHECK(s->w, result->output_len == TURN_STATE, "an answer of %zu bytes",
                result->output_len);
    WORLD_CHECK(s->w, count_of(result->output) == count,
                "call %u was turn %llu, after %u had been answered", s->issued,
                (unsigned long long)count_of(result->output), s->kept_count);
    WORLD_CHECK(s->w, memcmp(result->output + 8, c->tag.bytes, TURN_TAG) == 0, "another's answer");
    WORLD_CHECK(s->w, result->changed && count_of(result->root.bytes) == count, "another's root");
    WORLD_CHECK(s->w, durable_now(s) >= count, "answered before it was durable");
    WORLD_CHECK(s->w, shown_count(s->w) == count, "the loop shows another state");
    assert_true(s->kept_count < KEPT_MAX);
    if (s->kept_count > 0)
        WORLD_CHECK(s->w, number_of(&c->tag) > number_of(&s->kept[s->kept_count - 1]),
                    "call %u took its turn after a later one", number_of(&c->tag));
    s->kept[s->kept_count++] = c->tag;
}

static void answered(void *user, const cal_call_result *result) {
    client *c = user;
    sim *s = c->sim;
    c->busy = false;
    s->answered++;
    bool ok = result->status == CAL_CALL_OK;
    if (ok && (c->method == ADD || c->method == SWEEP)) {
        check_change(c, result);
    } else if (ok && c->method == PEEK) { /* a turn that changes nothing: sees all before it */
        WORLD_CHECK(s->w, count_of(result->output) == s->kept_count, "peek saw turn %llu of %u",
                    (unsigned long long)count_of(result->output), s->kept_count);
        WORLD_CHECK(s->w, !result->changed, "peek changed something");
    } else if (ok && c->method == LOOK) { /* a view: durable, and no older than it began */
        uint64_t seen = count_of(result->output);
        WORLD_CHECK(s->w, seen <= durable_now(s) && seen >= c->durable_before,
                    "a view saw turn %llu, durable were %llu to %llu", (unsigned long long)seen,
                    (unsigned long long)c->durable_before, (unsigned long long)durable_now(s));
    } else if (ok) {
        WORLD_CHECK(s->w, false, "a trap succeeded");
    } else {
        WORLD_CHECK(s->w, !result->changed, "a failed call changed something");
        WORLD_CHECK(s->w, !s->calm || c->method == TRAP, "%s failed: %s", method_names[c->method],
                    result->message);
        s->failed += c->method == ADD || c->method == SWEEP;
    }
}

/* Each change is announced after its own answer, before the next. */
static void announced(world *w, const cal_event *event) {
    sim *s = w->user;
    s->announced++;
    WORLD_CHECK(w, event->type == CAL_EVENT_STATE_MUTATION, "another kind of event");
    WORLD_CHECK(w, s->told == s->announced, "%u deltas before event %u", s->told, s->announced);
    WORLD_CHECK(w, s->announced == s->kept_count && count_of(event->root.bytes) == s->kept_count,
                "event %u of turn %llu after %u answers", s->announced,
                (unsigned long long)count_of(event->root.bytes), s->kept_count);
}

/* And each delta is handed on between the two. */
static void told(world *w, const cal_authored_delta *delta) {
    sim *s = w->user;
    s->told++;
    WORLD_CHECK(w, s->told == s->kept_count && delta->message.len > 0, "delta %u after %u answers",
                s->told, s->kept_count);
}

static void call(client *c, method m) {
    sim *s = c->sim;
    c->busy = true;
    c->method = m;
    c->tag = new_tag(s, m);
    if (m == LOOK) c->durable_before = s->calm ? stored_count(s->w) : 0;
    cal_contexts_execute(s->w->contexts, &s->w->id, method_names[m],
                         cal_slice_of(c->tag.bytes, TURN_TAG), answered, c);
}

static bool run_client(sim *s) {
    client *c = &s->clients[below(s->w, CLIENTS)];
    static const method mix[] = {ADD, ADD, ADD, ADD, ADD, ADD, SWEEP, TRAP, PEEK, LOOK};
    if (c->busy) return false;
    call(c, mix[below(s->w, sizeof mix / sizeof *mix)]);
    return true;
}

/* In the middle of a worker's task: the loop, the store, views and clients go on. Only the turns of
 * the context do not, since the worker has its place. */
static void others(world *w) {
    sim *s = w->user;
    if (s->inside == 2 || below(w, 3) > 0) return;
    s->inside++;
    for (uint32_t i = below(w, 4); i > 0; i--) {
        uint32_t pick = below(w, 5);
        if (pick < 2)
            run_loop(w);
        else if (pick == 2)
            run_store(w);
        else if (pick == 3)
            run_worker(w);
        else if (s->issued + 2 < s->until)
            run_client(s);
    }
    s->inside--;
}

/* --- what must be in the store: the record, the deltas and the rows that the kept turns make ---
 */

static bool swept(const sim *s, uint32_t at) {
    for (uint32_t later = at + 1; later < s->kept_count; later++)
        if (s->kept[later].bytes[5] == SWEEP && s->kept[later].bytes[0] == s->kept[at].bytes[0])
            return true;
    return false;
}

static void check_row(sim *s, cal_snapshot *snapshot, const uint8_t key[32], const void *bytes,
                      size_t len) {
    uint8_t full[64];
    cal_buffer row;
    cal_buffer_init(&row, SIZE_MAX);
    memcpy(full, s->w->id.bytes, 32);
    memcpy(full + 32, key, 32);
    int rc = cal_snapshot_get(snapshot, CAL_COLUMN_STATE, cal_slice_of(full, 64), &row);
    WORLD_CHECK(s->w, rc == (bytes ? 0 : CAL_ENOTFOUND), "a row: %s", cal_error_name(rc));
    if (bytes)
        WORLD_CHECK(s->w, row.len == len && memcmp(row.data, bytes, len) == 0,
                    "a row has other content than the turns made");
    cal_buffer_deinit(&row);
}

static void check_rows(sim *s, cal_snapshot *snapshot) {
    uint8_t key[32] = {0}, state[TURN_STATE];
    if (s->kept_count > 0) {
        cal_write_u64le(state, s->kept_count);
        memcpy(state + 8, s->kept[s->kept_count - 1].bytes, TURN_TAG);
        check_row(s, snapshot, key, state, sizeof state);
    }
    for (uint8_t class = 0; class < TURN_CLASSES; class ++) {
        const uint8_t *last = NULL;
        for (uint32_t i = 0; i < s->kept_count; i++)
            if (s->kept[i].bytes[0] % TURN_CLASSES == class) last = s->kept[i].bytes;
        key[0] = (uint8_t)(1 + class);
        check_row(s, snapshot, key, last, TURN_TAG);
    }
    cal_cursor *cursor;
    cal_slice at, value;
    uint32_t pairs = 0, expected = 0;
    cal_slice prefix = cal_slice_of(s->w->id.bytes, 32);
    cal_buffer end;
    cal_buffer_init(&end, 32);
    cal_prefix_end(prefix, &end);
    assert_int_equal(
        cal_cursor_open(snapshot, CAL_COLUMN_INDEX, prefix, cal_buffer_slice(&end), false, &cursor),
        0);
    while (cal_cursor_next(cursor, &at, &value) == 0) {
        uint64_t count = count_of(value.data);
        pairs++;
        WORLD_CHECK(s->w,
                    count >= 1 && count <= s->kept_count &&
                        memcmp(at.data + 32, s->kept[count - 1].bytes, TURN_TAG) == 0 &&
                        !swept(s, (uint32_t)count - 1),
                    "an index pair that no turn left");
    }
    cal_cursor_free(cursor);
    cal_buffer_deinit(&end);
    for (uint32_t i = 0; i < s->kept_count; i++) expected += !swept(s, i);
    WORLD_CHECK(s->w, pairs == expected, "%u index pairs, the turns left %u", pairs, expected);
}

static int read_delta(sim *s, cal_snapshot *snapshot, const uint8_t id[32], cal_buffer *row,
                      cal_delta_record *ret_delta) {
    uint8_t key[64];
    memcpy(key, s->w->id.bytes, 32);
    memcpy(key + 32, id, 32);
    cal_buffer_reset(row);
    int rc = cal_snapshot_get(snapshot, CAL_COLUMN_DELTA, cal_slice_of(key, 64), row);
    return rc == 0 ? cal_delta_record_decode(cal_buffer_slice(row), ret_delta) : rc;
}

/* From the head back to the genesis: one parent each, the count falling by one, and each with the
 * tag of the turn that made it. Turns whose fate nobody was told may follow the kept ones. */
static void check_deltas(sim *s, cal_snapshot *snapshot, const cal_context_record *record) {
    static const uint8_t zero[32];
    uint64_t count = count_of(record->root.bytes);
    WORLD_CHECK(s->w, record->head_count == 1, "%zu heads", record->head_count);
    WORLD_CHECK(s->w, count >= s->kept_count && count < KEPT_MAX, "turn %llu of %u is kept",
                (unsigned long long)count, s->kept_count);
    uint32_t told = s->kept_count;
    s->kept_count = (uint32_t)count;
    uint8_t id[32];
    memcpy(id, record->heads[0].bytes, 32);
    cal_buffer row;
    cal_buffer_init(&row, SIZE_MAX);
    uint64_t hlc = UINT64_MAX, at = count;
    for (;; at--) {
        cal_delta_record delta;
        int rc = read_delta(s, snapshot, id, &row, &delta);
        WORLD_CHECK(s->w, rc == 0, "the delta of turn %llu: %s", (unsigned long long)at,
                    cal_error_name(rc));
        WORLD_CHECK(s->w, count_of(delta.root.bytes) == at && delta.parent_count == 1,
                    "the deltas are not in the order of turns");
        WORLD_CHECK(s->w, delta.hlc.time < hlc, "the clock went back");
        hlc = delta.hlc.time;
        if (at == count)
            WORLD_CHECK(s->w, memcmp(delta.root.bytes, record->root.bytes, 32) == 0, "the root");
        memcpy(id, delta.parents[0], 32);
        if (at == 0) break;
        if (at > told)
            memcpy(s->kept[at - 1].bytes, delta.root.bytes + 8, TURN_TAG);
        else
            WORLD_CHECK(s->w, memcmp(s->kept[at - 1].bytes, delta.root.bytes + 8, TURN_TAG) == 0,
                        "turn %llu was another's", (unsigned long long)at);
    }
    WORLD_CHECK(s->w, memcmp(id, zero, 32) == 0, "the genesis has a parent");
    cal_buffer_deinit(&row);
}

static uint64_t stored_deltas(sim *s, cal_snapshot *snapshot) {
    cal_cursor *cursor;
    uint64_t count = 0;
    assert_int_equal(
        cal_cursor_open(snapshot, CAL_COLUMN_DELTA, (cal_slice){0}, (cal_slice){0}, false, &cursor),
        0);
    cal_slice key;
    while (cal_cursor_next(cursor, &key, NULL) == 0) count++;
    cal_cursor_free(cursor);
    (void)s;
    return count;
}

static void check_store(sim *s, bool power_lost) {
    cal_snapshot *snapshot;
    cal_arena arena;
    cal_context_record record;
    cal_arena_init(&arena, SIZE_MAX);
    assert_int_equal(cal_store_snapshot(s->w->store, &snapshot), 0);
    stored_record(s->w, &arena, &record);
    uint32_t told = s->kept_count;
    check_deltas(s, snapshot, &record);
    WORLD_CHECK(s->w, power_lost || s->kept_count == told, "%u turns left a trace, %u were done",
                s->kept_count, told);
    s->announced = s->told = s->kept_count;
    uint64_t deltas = stored_deltas(s, snapshot);
    WORLD_CHECK(s->w, deltas == s->kept_count + 1u, "%llu deltas of %u turns",
                (unsigned long long)deltas, s->kept_count);
    check_rows(s, snapshot);
    cal_snapshot_free(snapshot);
    cal_arena_deinit(&arena);
}

/* --- one seed --- */

/* Something goes wrong within this round, or nothing. */
static void plan_trouble(sim *s) {
    static const int kinds[] = {CAL_SIM_WRITE, CAL_SIM_SYNC, CAL_SIM_WRITE | CAL_SIM_SYNC};
    uint32_t kind = below(s->w, 6);
    s->calm = kind == 0;
    if (kind == 1 || kind == 2)
        cal_sim_fail(s->w->sim, kinds[below(s->w, 3)], 1 + below(s->w, 120), 1 + below(s->w, 4),
                     kind == 1 ? CAL_EIO : CAL_EFULL);
    else if (kind == 3)
        cal_sim_quota(s->w->sim, cal_sim_used(s->w->sim) + below(s->w, 600000));
    else if (kind >= 4)
        cal_sim_power_off_at(s->w->sim, CAL_SIM_WRITE | CAL_SIM_SYNC, 1 + below(s->w, 250));
}

/* The wall clock is set, back or ahead. */
static void jump(world *w) {
    const cal_os *os = cal_sim_os(w->sim);
    uint64_t hours = below(w, 48) * UINT64_C(3600000000000);
    uint64_t wall = os->wall_ns(os->user);
    cal_sim_set_wall(w->sim, below(w, 2) && wall > hours ? wall - hours : wall + hours);
}

static void run_round(sim *s) {
    uint32_t weights[4];
    s->until = s->issued + CALLS;
    for (int i = 0; i < 4; i++) weights[i] = 1 + below(s->w, i == 0 ? 12 : 6);
    while (s->issued < s->until && !cal_sim_is_off(s->w->sim)) {
        uint32_t pick = below(s->w, weights[0] + weights[1] + weights[2] + weights[3]);
        if (pick < weights[0])
            run_client(s);
        else if (pick < weights[0] + weights[1])
            run_loop(s->w);
        else if (pick < weights[0] + weights[1] + weights[2])
            run_worker(s->w);
        else
            run_store(s->w);
        if (below(s->w, 40) == 0) s->w->version++; /* governance moves, and says the same */
        if (below(s->w, 10) == 0) cal_sim_advance(s->w->sim, 1000000);
        if (below(s->w, 100) == 0) jump(s->w);
    }
    settle(s->w);
    WORLD_CHECK(s->w, s->answered == s->issued, "%u of %u calls were answered", s->answered,
                s->issued);
}

static void end_trouble(sim *s) {
    cal_sim_fail(s->w->sim, 0, 0, 0, 0);
    cal_sim_power_off_at(s->w->sim, 0, 0);
    cal_sim_quota(s->w->sim, UINT64_MAX);
}

static void lose_power(sim *s) {
    static const cal_sim_survival modes[] = {CAL_SIM_KEEP, CAL_SIM_DROP, CAL_SIM_TEAR};
    if (!cal_sim_is_off(s->w->sim)) cal_sim_power_off(s->w->sim);
    close_contexts(s->w);
    cal_store_close(s->w->store);
    cal_sim_power_on(s->w->sim, modes[below(s->w, 3)]);
    s->w->store = NULL;
    WORLD_CHECK(s->w, world_open_store(s->w) == 0, "the store does not open again");
    open_contexts(s->w);
    check_store(s, true);
}

static void run_seed(uint64_t seed) {
    static sim s;
    s = (sim){.w = world_new(seed)};
    s.w->user = &s;
    s.w->event = announced;
    s.w->authored = told;
    s.w->heard = true;
    cal_contexts_listen(s.w->contexts, &s.w->id, true);
    s.w->meanwhile = others;
    for (int i = 0; i < CLIENTS; i++) s.clients[i].sim = &s;
    for (int round = 0; round < ROUNDS; round++) {
        plan_trouble(&s);
        run_round(&s);
        end_trouble(&s);
        if (!cal_sim_is_off(s.w->sim)) { /* room again: it goes on without a restart */
            check_store(&s, false);
            s.calm = true;
            for (int i = 0; i < CLIENTS; i++) call(&s.clients[i], ADD);
            settle(s.w);
            check_store(&s, false);
        }
        if (cal_sim_is_off(s.w->sim) || below(s.w, 2)) lose_power(&s);
    }
    world_free(s.w);
}

static void many_writers_on_a_bad_disk(void **state) {
    (void)state;
    sim_seeds seeds = sim_seeds_from(SEEDS_DEFAULT);
    for (uint64_t seed = seeds.first; seed < seeds.end; seed++) run_seed(seed);
}

/* --- one thing at a time --- */

typedef struct answers {
    int count, ok;
    int errors[2000]; /* in the order they came */
    uint64_t counts[2000];
    char message[300];        /* of the last failure */
    size_t logs, error_bytes; /* of the last answer */
} answers;

static void note(void *user, const cal_call_result *result) {
    answers *a = user;
    a->errors[a->count] = result->error;
    a->counts[a->count++] = result->output_len == TURN_STATE ? count_of(result->output) : 0;
    a->ok += result->status == CAL_CALL_OK;
    a->logs = result->log_count;
    a->error_bytes = result->guest_error_len;
    if (result->error) snprintf(a->message, sizeof a->message, "%s", result->message);
}

static void execute(world *w, const char *name, answers *a) {
    uint8_t input[TURN_TAG] = {1};
    cal_contexts_execute(w->contexts, &w->id, name, cal_slice_of(input, sizeof input), note, a);
}

static void workers_and_loop(world *w) {
    while (run_worker(w) || run_loop(w)) {
    }
}

static void turns_go_on_before_the_disk_has(void **state) {
    (void)state;
    world *w = world_new(1);
    answers a = {0};
    for (int i = 0; i < 100; i++) execute(w, "add", &a);
    workers_and_loop(w);
    assert_int_equal(a.count, 0); /* all have run, none is answered */
    cal_contexts_stats stats;
    cal_contexts_stats_get(w->contexts, &stats);
    assert_int_equal(stats.waiting, 0);
    assert_int_equal(shown_count(w), 0);
    cal_store_stats before, after;
    cal_store_stats_get(w->store, &before);
    settle(w);
    cal_store_stats_get(w->store, &after);
    assert_int_equal(a.ok, 100);
    assert_int_equal(after.transactions - before.transactions, 1);
    for (int i = 0; i < 100; i++) assert_int_equal(a.counts[i], i + 1);
    world_free(w);
}

/* Many that have waited for one batch do not keep the loop from everything else. */
static void the_loop_settles_so_many_at_a_time(void **state) {
    (void)state;
    world *w = world_new(10);
    answers a = {0};
    execute(w, "add", &a);
    for (int i = 0; i < 200; i++) execute(w, "peek", &a);
    workers_and_loop(w);
    assert_int_equal(a.count, 0);
    while (run_store(w)) {
    }
    int before = 0;
    while (run_loop(w)) {
        assert_true(a.count - before <= CAL_TURNS_RUN_MAX);
        before = a.count;
    }
    assert_int_equal(a.ok, 201);
    world_free(w);
}

static void a_failed_batch_takes_those_on_it_along(void **state) {
    (void)state;
    world *w = world_new(2);
    answers a = {0};
    for (int i = 0; i < 3; i++) execute(w, "add", &a);
    settle(w);
    assert_int_equal(a.ok, 3);
    for (int i = 0; i < 5; i++) execute(w, i == 3 ? "peek" : "add", &a);
    workers_and_loop(w);
    cal_sim_fail(w->sim, CAL_SIM_WRITE, 1, 2, CAL_EFULL); /* together, and the first one alone */
    execute(w, "add", &a); /* also one that has not run yet when the batch fails */
    settle(w);
    assert_int_equal(a.count, 9);
    static const int expected[] = {CAL_EFULL, CAL_ECANCELED, CAL_ECANCELED, CAL_ECANCELED,
                                   CAL_ECANCELED};
    for (int i = 0; i < 5; i++) assert_int_equal(a.errors[3 + i], expected[i]);
    assert_non_null(strstr(a.message, "an earlier call of this context could not be stored"));
    assert_int_equal(shown_count(w), stored_count(w));
    uint64_t kept = stored_count(w);
    execute(w, "add", &a);
    execute(w, "peek", &a);
    settle(w);
    assert_int_equal(a.counts[a.count - 2], kept + 1);
    assert_int_equal(a.counts[a.count - 1], kept + 1);
    world_free(w);
}

/* The application's own words are those of a run on a state that is gone. */
static void a_failed_batch_takes_their_words_along(void **state) {
    (void)state;
    world *w = world_new(14);
    answers a = {0};
    execute(w, "err", &a);
    settle(w);
    assert_int_equal(a.errors[0], CAL_EGUEST);
    assert_int_equal(a.logs, 1);
    assert_int_equal(a.error_bytes, TURN_STATE);
    execute(w, "add", &a);
    execute(w, "err", &a);
    workers_and_loop(w);
    cal_sim_fail(w->sim, CAL_SIM_WRITE, 1, 2, CAL_EFULL);
    settle(w);
    assert_int_equal(a.errors[1], CAL_EFULL);
    assert_int_equal(a.errors[2], CAL_ECANCELED);
    assert_int_equal(a.logs, 0);
    assert_int_equal(a.error_bytes, 0);
    world_free(w);
}

static void waiting_is_bounded_in_number(void **state) {
    (void)state;
    world *w = world_new(3);
    answers a = {0};
    for (int i = 0; i < 1 + CAL_CALL_QUEUE_MAX; i++) execute(w, "add", &a); /* the first one runs */
    assert_int_equal(a.count, 0);
    execute(w, "add", &a);
    assert_int_equal(a.count, 1);
    assert_int_equal(a.errors[0], CAL_EOVERLOAD);
    cal_contexts_stats stats;
    cal_contexts_stats_get(w->contexts, &stats);
    assert_int_equal(stats.waiting, CAL_CALL_QUEUE_MAX);
    assert_int_equal(stats.refused, 1);
    workers_and_loop(w); /* and what has run without being durable */
    cal_contexts_stats_get(w->contexts, &stats);
    assert_int_equal(stats.waiting, 1 + CAL_CALL_QUEUE_MAX - CAL_TURNS_FLIGHT_MAX);
    settle(w);
    assert_int_equal(a.ok, 1 + CAL_CALL_QUEUE_MAX);
    world_free(w);
}

/* Also what the answers of those that have run hold, while they wait for the disk. */
static void flight_is_bounded_in_bytes(void **state) {
    (void)state;
    enum { BULK = 128 * 1024, CALLS_MADE = 300, FIT = CAL_TURNS_TIP_BYTES_MAX / BULK };
    world *w = world_new(13);
    answers a = {0};
    execute(w, "add", &a);
    for (int i = 0; i < CALLS_MADE; i++) execute(w, "bulk", &a);
    workers_and_loop(w);
    assert_int_equal(a.count, 0);
    cal_contexts_stats stats;
    cal_contexts_stats_get(w->contexts, &stats);
    assert_int_equal(stats.waiting, CALLS_MADE - FIT);
    settle(w);
    assert_int_equal(a.ok, 1 + CALLS_MADE);
    world_free(w);
}

static void waiting_is_bounded_in_bytes(void **state) {
    (void)state;
    world *w = world_new(4);
    answers a = {0};
    cal_slice large = {calloc(1, CAL_CALL_ARGS_MAX), CAL_CALL_ARGS_MAX};
    assert_non_null(large.data);
    int fit = CAL_CALL_QUEUE_BYTES_MAX / CAL_CALL_ARGS_MAX;
    for (int i = 0; i < 1 + fit; i++)
        cal_contexts_execute(w->contexts, &w->id, "peek", large, note, &a);
    assert_int_equal(a.count, 0);
    cal_contexts_execute(w->contexts, &w->id, "peek", large, note, &a);
    assert_int_equal(a.count, 1);
    assert_int_equal(a.errors[0], CAL_EOVERLOAD);
    assert_non_null(strstr(a.message, "too many bytes"));
    cal_contexts_execute(w->contexts, &w->id, "peek", (cal_slice){large.data, 16}, note, &a);
    assert_int_equal(a.count, 1); /* a small one still fits */
    settle(w);
    assert_int_equal(a.count, fit + 3);
    free((void *)(uintptr_t)large.data);
    world_free(w);
}

typedef struct bounds {
    int answered, ok, first_error;
} bounds;

static void bound(void *user, const cal_call_result *result) {
    bounds *b = user;
    if (b->answered++ == 0) b->first_error = result->error;
    b->ok += result->error == 0;
}

static world *world_of_contexts;

static void another_context(void *user, const cal_error *err, const cal_context_genesis *genesis,
                            cal_batch *batch) {
    cal_context_id *ids = user;
    assert_null(err);
    while (memcmp(ids, &(cal_context_id){{0}}, sizeof *ids) != 0) ids++;
    *ids = genesis->id;
    cal_store_submit(world_of_contexts->store, batch, NULL, NULL);
}

/* On all contexts together. */
static void the_node_is_bounded_too(void **state) {
    (void)state;
    enum { CONTEXTS = 1 + CAL_CALLS_MAX / CAL_CALL_QUEUE_MAX };
    world *w = world_of_contexts = world_new(9);
    static cal_context_id ids[CONTEXTS + 1];
    memset(ids, 0, sizeof ids);
    for (int i = 0; i < CONTEXTS; i++)
        cal_contexts_create(w->contexts, &(cal_context_create_options){.service = NULL},
                            another_context, ids);
    settle(w);
    static bounds b;
    b = (bounds){.first_error = 0};
    uint8_t small[TURN_TAG] = {1};
    for (int i = 0; i < CAL_CALLS_MAX; i++)
        cal_contexts_execute(w->contexts, &ids[i % CONTEXTS], "peek",
                             cal_slice_of(small, sizeof small), bound, &b);
    assert_int_equal(b.answered, 0);
    cal_contexts_execute(w->contexts, &ids[0], "peek", (cal_slice){0}, bound, &b);
    assert_int_equal(b.answered, 1);
    assert_int_equal(b.first_error, CAL_EOVERLOAD);
    settle(w);
    assert_int_equal(b.answered, CAL_CALLS_MAX + 1);
    assert_int_equal(b.ok, CAL_CALLS_MAX);

    cal_slice large = {calloc(1, CAL_CALL_ARGS_MAX), CAL_CALL_ARGS_MAX};
    assert_non_null(large.data);
    b = (bounds){.first_error = 0};
    int fit = CAL_CALLS_BYTES_MAX / CAL_CALL_ARGS_MAX;
    for (int i = 0; i < fit; i++)
        cal_contexts_execute(w->contexts, &ids[i % CONTEXTS], "peek", large, bound, &b);
    assert_int_equal(b.answered, 0);
    cal_contexts_execute(w->contexts, &ids[fit % CONTEXTS], "peek", large, bound, &b);
    assert_int_equal(b.answered, 1);
    assert_int_equal(b.first_error, CAL_EOVERLOAD);
    settle(w);
    assert_int_equal(b.answered, fit + 1);
    free((void *)(uintptr_t)large.data);
    world_free(w);
}

static void leave_group(world *w) {
    if (++w->version < 5) return; /* each turn signs once */
    w->member = CAL_EDENIED;
}

static void a_removal_between_two_turns_is_seen(void **state) {
    (void)state;
    world *w = world_new(5);
    answers a = {0};
    w->signs = leave_group;
    for (int i = 0; i < 9; i++) execute(w, "add", &a);
    settle(w);
    assert_int_equal(a.count, 9);
    assert_int_equal(a.ok, 5); /* the fifth was running when the node left */
    for (int i = 5; i < 9; i++) assert_int_equal(a.errors[i], CAL_EDENIED);
    assert_int_equal(stored_count(w), 5);
    world_free(w);
}

static void who_may_only_read_changes_nothing(void **state) {
    (void)state;
    world *w = world_new(8);
    answers a = {0};
    execute(w, "add", &a);
    settle(w);
    w->may_only_read = true;
    w->version++;
    execute(w, "add", &a);
    settle(w);
    assert_int_equal(a.errors[1], CAL_EDENIED); /* nobody takes it for kept */
    assert_int_equal(a.counts[1], 0);
    assert_non_null(
        strstr(a.message, "`add` changes the context's state, and this node is a read-only"));
    execute(w, "peek", &a); /* changes nothing, without having said so */
    execute(w, "look", &a);
    settle(w);
    assert_int_equal(a.ok, 3);
    assert_int_equal(a.counts[2], 1);
    execute(w, "again", &a); /* commits what there was */
    execute(w, "note", &a);  /* as well, and something of this node's own */
    settle(w);
    assert_int_equal(a.errors[4], 0);
    assert_int_equal(a.errors[5], CAL_EDENIED);
    assert_int_equal(stored_count(w), 1);
    w->may_only_read = false;
    w->version++;
    execute(w, "add", &a);
    settle(w);
    assert_int_equal(stored_count(w), 2);
    world_free(w);
}

/* Between hand-over and start, with nothing else under way that would bring the loop along. */
static void a_turn_that_is_handed_back_runs_after_all(void **state) {
    (void)state;
    world *w = world_new(11);
    answers a = {0}, later = {0};
    execute(w, "add", &a);
    w->version++;
    settle(w);
    assert_int_equal(a.ok, 1);
    execute(w, "add", &a);
    execute(w, "add", &later);
    w->version++;
    settle(w);
    assert_int_equal(a.counts[1], 2); /* and in its place */
    assert_int_equal(later.counts[0], 3);
    world_free(w);
}

typedef struct removal {
    world *w;
    const answers *a;
    int asked; /* of calls until now */
    bool ready, deleted;
} removal;

static void removal_stored(void *user, int result) {
    removal *r = user;
    r->deleted = result == 0;
}

static void removal_ready(void *user, const cal_error *err, cal_batch *batch) {
    removal *r = user;
    assert_null(err);
    if (r->a) assert_int_equal(r->a->count, r->asked); /* nothing is in flight any more */
    r->ready = true;
    cal_store_submit(r->w->store, batch, removal_stored, r);
}

static int signed_turns;
static void count_turn(world *w) {
    (void)w;
    signed_turns++;
}

static void a_context_goes_while_turns_are_in_flight(void **state) {
    (void)state;
    for (int steps = 0; steps < 12; steps++) { /* whenever it is asked for */
        world *w = world_new(6);
        w->signs = count_turn;
        answers a = {0};
        removal r = {.w = w, .a = &a, .asked = 40};
        for (int i = 0; i < 40; i++) execute(w, "add", &a);
        for (int i = 0; i < steps; i++)
            if (i % 3 == 2)
                run_store(w);
            else if (!(i % 3 ? run_loop(w) : run_worker(w)))
                break;
        signed_turns = 0; /* only what has begun still runs */
        cal_contexts_delete(w->contexts, &w->id, removal_ready, &r);
        r.asked++;
        execute(w, "add", &a);
        assert_int_equal(a.errors[a.count - 1], CAL_ENOTFOUND);
        settle(w);
        assert_int_equal(a.count, 41);
        assert_true(r.ready && r.deleted);
        assert_true(signed_turns <= 1);
        cal_contexts_delete_end(w->contexts, &w->id, true);
        settle(w);
        assert_int_equal(cal_store_get(w->store, CAL_COLUMN_CONTEXT,
                                       cal_slice_of(w->id.bytes, CAL_ID_SIZE), NULL),
                         CAL_ENOTFOUND);
        world_free(w);
    }
}

/* Handed over before the removal, it takes its snapshot so many steps later. */
static void a_view_sees_a_context_or_none(void **state) {
    (void)state;
    bool gone = false;
    for (int steps = 0; !gone; steps++) {
        world *w = world_new(12);
        answers a = {0};
        removal r = {.w = w};
        for (int i = 0; i < 3; i++) execute(w, "add", &a);
        settle(w);
        execute(w, "look", &a);
        cal_task *view = hold_worker(w);
        cal_contexts_delete(w->contexts, &w->id, removal_ready, &r);
        for (int i = 0; i < steps && (run_loop(w) || run_worker(w) || run_store(w)); i++) {
        }
        gone = r.deleted;
        view->run(view);
        settle(w);
        assert_int_equal(a.count, 4);
        assert_int_equal(a.errors[3], gone ? CAL_ENOTFOUND : 0);
        assert_int_equal(a.counts[3], gone ? 0 : 3);
        assert_true(r.deleted);
        cal_contexts_delete_end(w->contexts, &w->id, true);
        settle(w);
        world_free(w);
    }
}

/* What others do while a view stands at a point: so many steps, whatever they are. */
typedef struct between {
    world *w;
    context_point point;
    int steps, taken;
    removal *removal; /* NULL: a call */
    answers *more;
} between;

static void come_between(void *user, context_point point) {
    between *b = user;
    if (point != b->point) return;
    b->w->contexts->at = NULL; /* once */
    if (b->removal)
        cal_contexts_delete(b->w->contexts, &b->w->id, removal_ready, b->removal);
    else
        execute(b->w, "add", b->more);
    while (b->taken < b->steps && !(b->removal && b->removal->deleted) &&
           (run_loop(b->w) || run_store(b->w) || run_worker(b->w)))
        b->taken++;
}

/* The cache moves, or the context goes, between the looks at its version: the view is of the
 * snapshot, and says so. */
static void a_view_is_of_its_snapshot(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        bool removes = i & 1, over = false;
        context_point point = i & 2 ? CONTEXT_AT_VIEW_SNAPSHOT : CONTEXT_AT_VIEW_VERSION;
        for (int steps = 0; !over; steps++) {
            world *w = world_new(14);
            answers a = {0}, more = {0};
            removal r = {.w = w};
            for (int n = 0; n < 3; n++) execute(w, "add", &a);
            settle(w);
            execute(w, "look", &a);
            cal_task *view = hold_worker(w);
            between b = {w, point, steps, 0, removes ? &r : NULL, &more};
            w->contexts->at_user = &b;
            w->contexts->at = come_between;
            view->run(view);
            uint64_t snapshot = point == CONTEXT_AT_VIEW_VERSION && more.count ? 4 : 3;
            bool gone = point == CONTEXT_AT_VIEW_VERSION && r.deleted;
            over = removes ? r.deleted : b.taken < steps;
            settle(w);
            assert_int_equal(a.count, 4);
            assert_int_equal(a.errors[3], gone ? CAL_ENOTFOUND : 0);
            if (gone) assert_int_equal(a.counts[3], 0);
            /* durable and not answered: it may be either */
            if (!removes) assert_in_range(a.counts[3], snapshot, point ? 3 : 4);
            if (!removes) assert_int_equal(more.ok, 1);
            if (removes) {
                assert_true(r.deleted);
                cal_contexts_delete_end(w->contexts, &w->id, true);
                settle(w);
            }
            world_free(w);
        }
    }
}

static void removal_given_up(void *user, const cal_error *err, cal_batch *batch) {
    removal *r = user;
    assert_null(err);
    cal_batch_free(batch);
    r->ready = true;
}

static void a_removal_that_failed_leaves_a_context_that_works(void **state) {
    (void)state;
    world *w = world_new(6);
    answers a = {0}, later = {0};
    removal r = {.w = w};
    for (int i = 0; i < 4; i++) execute(w, "add", &a);
    settle(w);
    cal_contexts_delete(w->contexts, &w->id, removal_given_up, &r);
    settle(w);
    assert_true(r.ready);
    cal_contexts_delete_end(w->contexts, &w->id, false);
    for (int i = 0; i < 4; i++) execute(w, "add", &later);
    settle(w);
    assert_int_equal(a.ok + later.ok, 8);
    assert_int_equal(stored_count(w), 8);
    world_free(w);
}

static void a_stop_answers_all_and_keeps_what_ran(void **state) {
    (void)state;
    for (int steps = 0; steps < 12; steps++) {
        world *w = world_new(7);
        answers a = {0};
        for (int i = 0; i < 60; i++) execute(w, "add", &a);
        for (int i = 0; i < steps; i++)
            if (i % 3 == 2)
                run_store(w);
            else if (!(i % 3 ? run_loop(w) : run_worker(w)))
                break;
        close_contexts(w);
        assert_int_equal(a.count, 60);
        assert_int_equal(stored_count(w), a.ok);
        assert_true(a.ok > 0);
        for (int i = 0; i < a.count; i++)
            assert_true(a.errors[i] == 0 || a.errors[i] == CAL_ECANCELED);
        world_free(w);
    }
}

static void restart(world *w) {
    close_contexts(w);
    cal_store_close(w->store);
    assert_int_equal(world_open_store(w), 0);
    open_contexts(w);
}

/* The head's time, and the time that the record knows of. */
static uint64_t head_time(world *w, uint64_t *ret_latest) {
    sim s = {.w = w};
    cal_snapshot *snapshot;
    cal_arena arena;
    cal_context_record record;
    cal_delta_record delta;
    cal_buffer row;
    cal_arena_init(&arena, SIZE_MAX);
    cal_buffer_init(&row, SIZE_MAX);
    stored_record(w, &arena, &record);
    assert_int_equal(cal_store_snapshot(w->store, &snapshot), 0);
    assert_int_equal(read_delta(&s, snapshot, record.heads[0].bytes, &row, &delta), 0);
    cal_snapshot_free(snapshot);
    cal_buffer_deinit(&row);
    cal_arena_deinit(&arena);
    if (ret_latest) *ret_latest = record.latest;
    return delta.hlc.time;
}

/* The record as it was written before it knew a time. */
static void forget_time(world *w) {
    cal_buffer row;
    cal_buffer_init(&row, SIZE_MAX);
    cal_slice key = cal_slice_of(w->id.bytes, CAL_ID_SIZE);
    assert_int_equal(cal_store_get(w->store, CAL_COLUMN_CONTEXT, key, &row), 0);
    row.data[0] = 1;
    row.len -= 8;
    cal_batch *batch = cal_batch_new();
    cal_batch_put(batch, CAL_COLUMN_CONTEXT, key, cal_buffer_slice(&row));
    assert_int_equal(cal_store_commit(w->store, batch, NULL), 0);
    cal_buffer_deinit(&row);
}

static void a_clock_set_back_does_not_set_deltas_back(void **state) {
    (void)state;
    world *w = world_new(8);
    answers a = {0};
    const cal_os *os = cal_sim_os(w->sim);
    uint64_t last = 0, latest;
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 3; i++) { /* behind it several in a row */
            execute(w, "add", &a);
            settle(w);
            uint64_t time = head_time(w, &latest);
            assert_true(time > last);
            assert_true(latest == time);
            last = time;
        }
        cal_sim_set_wall(w->sim, os->wall_ns(os->user) - UINT64_C(86400000000000));
        if (round % 2) forget_time(w);
        restart(w);
    }
    assert_int_equal(a.ok, 12);
    world_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turns_go_on_before_the_disk_has),
        cmocka_unit_test(the_loop_settles_so_many_at_a_time),
        cmocka_unit_test(a_failed_batch_takes_those_on_it_along),
        cmocka_unit_test(a_failed_batch_takes_their_words_along),
        cmocka_unit_test(waiting_is_bounded_in_number),
        cmocka_unit_test(waiting_is_bounded_in_bytes),
        cmocka_unit_test(flight_is_bounded_in_bytes),
        cmocka_unit_test(the_node_is_bounded_too),
        cmocka_unit_test(a_removal_between_two_turns_is_seen),
        cmocka_unit_test(who_may_only_read_changes_nothing),
        cmocka_unit_test(a_turn_that_is_handed_back_runs_after_all),
        cmocka_unit_test(a_context_goes_while_turns_are_in_flight),
        cmocka_unit_test(a_view_sees_a_context_or_none),
        cmocka_unit_test(a_view_is_of_its_snapshot),
        cmocka_unit_test(a_removal_that_failed_leaves_a_context_that_works),
        cmocka_unit_test(a_stop_answers_all_and_keeps_what_ran),
        cmocka_unit_test(a_clock_set_back_does_not_set_deltas_back),
        cmocka_unit_test(many_writers_on_a_bad_disk),
    };
    return cmocka_run_group_tests(tests, world_setup, world_teardown);
}
