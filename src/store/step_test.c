/* The stepped store and lanes, on a simulated disk: one thread, answers in order and only for what
 * is durable, waits that step, crashes before and within a step, and what a failure does to the
 * batches that build on it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "os/sim/sim.h"
#include "store/internal.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

static const cal_key_source key = {CAL_KEY_FILE, "/home/master.key"};

enum { LOG_MAX = 4096, UNANSWERED = 1 };

typedef struct fixture {
    cal_sim *sim;
    cal_store_options options;
    cal_store *store;
    int due;
    char log[LOG_MAX]; /* what happened, one letter each */
    size_t log_len;
} fixture;

static void must(int result, const cal_error *err) {
    if (result) print_error("%s: %s\n", cal_error_name(result), err ? err->message : "");
    assert_int_equal(result, 0);
}

static void note_due(void *user) { ((fixture *)user)->due++; }

static void open_store(fixture *f) {
    cal_error err = {0};
    must(cal_store_open(&f->options, &f->store, &err), &err);
}

static void fixture_init(fixture *f, uint64_t seed) {
    *f = (fixture){.sim = cal_sim_new(seed)};
    const cal_os *os = cal_sim_os(f->sim);
    f->options = (cal_store_options){.os = os,
                                     .folder = "/home",
                                     .key = &key,
                                     .cache_kib = 256,
                                     .stepped = true,
                                     .due = note_due,
                                     .due_user = f};
    cal_error err = {0};
    os->make_dir(os->user, "/home");
    os->sync_dir(os->user, "/");
    must(cal_store_create(&f->options, &err), &err);
    open_store(f);
}

static void fixture_deinit(fixture *f) {
    cal_store_close(f->store);
    cal_sim_free(f->sim);
}

static int setup(void **state) {
    fixture *f = malloc(sizeof *f);
    fixture_init(f, 1);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture_deinit(*state);
    free(*state);
    return 0;
}

static void note(fixture *f, char what) {
    assert_true(f->log_len < LOG_MAX - 1);
    f->log[f->log_len++] = what;
    f->log[f->log_len] = 0;
}

static cal_batch *row(char name) {
    cal_batch *batch = cal_batch_new();
    cal_batch_put(batch, CAL_COLUMN_STATE, cal_slice_of(&name, 1), cal_slice_text("x"));
    return batch;
}

static bool stored(cal_store *store, char name) {
    int error = cal_store_get(store, CAL_COLUMN_STATE, cal_slice_of(&name, 1), NULL);
    assert_true(error == 0 || error == CAL_ENOTFOUND);
    return error == 0;
}

/* A batch on its way, and its answer. */
typedef struct sent {
    fixture *f;
    char name;
    int result;
    struct sent *next; /* is submitted by this one's answer */
    uint64_t syncs;    /* when it was submitted */
} sent;

static void answered(void *user, int result);

static void send(fixture *f, cal_store_lane *lane, sent *s, char name) {
    s->f = f;
    s->name = name;
    s->result = UNANSWERED;
    s->syncs = cal_sim_count(f->sim, CAL_SIM_SYNC);
    cal_store_submit_on(f->store, lane, row(name), answered, s);
}

static void answered(void *user, int result) {
    sent *s = user;
    assert_int_equal(s->result, UNANSWERED);
    s->result = result;
    note(s->f, s->name);
    if (result == 0) { /* flushed and visible before it is said */
        assert_true(cal_sim_count(s->f->sim, CAL_SIM_SYNC) > s->syncs);
        assert_true(stored(s->f->store, s->name));
    }
    if (s->next) send(s->f, NULL, s->next, (char)(s->name + 1));
}

/* --- steps --- */

static int threads(void) {
    DIR *folder = opendir("/proc/self/task");
    int count = 0;
    assert_non_null(folder);
    while (readdir(folder)) count++;
    closedir(folder);
    return count;
}

static void test_no_thread(void **state) {
    (void)state;
    int before = threads();
    fixture f;
    fixture_init(&f, 2);
    sent s = {0};
    send(&f, NULL, &s, 'a');
    assert_int_equal(threads(), before);
    cal_store_step(f.store);
    assert_int_equal(s.result, 0);
    must(cal_store_commit(f.store, row('b'), NULL), NULL);
    must(cal_store_verify(f.store, NULL, NULL, NULL), NULL);
    assert_int_equal(threads(), before);
    fixture_deinit(&f);
}

static void test_answers_in_order(void **state) {
    fixture *f = *state;
    sent a = {0}, c = {0}, p = {0}, b = {.next = &c};
    assert_false(cal_store_step(f->store));
    send(f, NULL, &p, 'p');
    send(f, NULL, &a, 'a');
    send(f, NULL, &b, 'b');
    assert_int_equal(f->due, 1); /* when the queue was empty, and only then */
    assert_int_equal(a.result, UNANSWERED);
    assert_false(stored(f->store, 'a'));
    assert_true(cal_store_step(f->store)); /* one group; b's answer has submitted c */
    assert_string_equal(f->log, "pab");
    assert_int_equal(f->due, 2);
    assert_int_equal(c.result, UNANSWERED);
    assert_false(cal_store_step(f->store));
    assert_string_equal(f->log, "pabc");
    cal_store_stats stats;
    cal_store_stats_get(f->store, &stats);
    assert_int_equal(stats.transactions, 2);
    assert_int_equal(stats.batches, 4);
    cal_sim_power_off(f->sim); /* what was answered is durable */
    cal_store_close(f->store);
    cal_sim_power_on(f->sim, CAL_SIM_DROP);
    open_store(f);
    for (const char *at = f->log; *at; at++) assert_true(stored(f->store, *at));
}

/* Who waits gets what is before him answered, and nothing behind him. */
static void test_waiting_steps(void **state) {
    fixture *f = *state;
    sent a = {0}, b = {.next = &a};
    send(f, NULL, &b, '1');
    must(cal_store_commit(f->store, row('z'), NULL), NULL);
    assert_string_equal(f->log, "1"); /* its answer submitted '2', behind */
    assert_int_equal(a.result, UNANSWERED);
    assert_false(cal_store_step(f->store));
    assert_string_equal(f->log, "12");
    assert_int_equal(f->due, 2);
}

typedef struct waiter {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int answers;
    fixture *f;
} waiter;

static void count_answer(void *user, int result) {
    waiter *w = user;
    assert_int_equal(result, 0);
    pthread_mutex_lock(&w->mutex);
    w->answers++;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->mutex);
}

static bool two_answers(const void *user) { return ((const waiter *)user)->answers >= 2; }

/* The third of one group is durable but not answered while the waiting one goes on. */
static void test_wait_stops_at_its_answer(void **state) {
    fixture *f = *state;
    waiter w = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    for (char name = 'a'; name < 'd'; name++)
        cal_store_submit(f->store, row(name), count_answer, &w);
    pthread_mutex_lock(&w.mutex);
    cal_store_wait(f->store, &w.mutex, &w.changed, two_answers, &w);
    assert_int_equal(w.answers, 2);
    pthread_mutex_unlock(&w.mutex);
    assert_true(stored(f->store, 'c'));
    assert_false(cal_store_step(f->store));
    assert_int_equal(w.answers, 3);
}

static void test_close_drains(void **state) {
    fixture *f = *state;
    sent b = {0}, a = {.next = &b};
    send(f, NULL, &a, 'a');
    cal_store_close(f->store);
    assert_string_equal(f->log, "ab");
    assert_int_equal(b.result, 0);
    open_store(f);
    assert_true(stored(f->store, 'a') && stored(f->store, 'b'));
}

static void test_crash_before_the_step(void **state) {
    fixture *f = *state;
    sent a = {0}, b = {0};
    send(f, NULL, &a, 'a');
    cal_store_step(f->store);
    send(f, NULL, &b, 'b');
    cal_sim_power_off(f->sim);
    cal_store_step(f->store);
    assert_int_equal(a.result, 0);
    assert_int_equal(b.result, CAL_EIO);
    cal_store_close(f->store);
    cal_sim_power_on(f->sim, CAL_SIM_KEEP);
    open_store(f);
    assert_true(stored(f->store, 'a'));
    assert_false(stored(f->store, 'b'));
}

/* Power goes at each operation of a step in turn: what was answered is there, and what is there is
 * a whole batch and a prefix of the order. Returns whether the power went. */
static bool crash_within(uint64_t nth, cal_sim_survival survival) {
    fixture f;
    fixture_init(&f, nth);
    sent sents[3] = {0};
    for (int i = 0; i < 3; i++) send(&f, NULL, &sents[i], (char)('a' + i));
    cal_sim_power_off_at(f.sim, CAL_SIM_WRITE | CAL_SIM_SYNC | CAL_SIM_NAME, nth);
    cal_store_step(f.store);
    bool off = cal_sim_is_off(f.sim);
    cal_sim_power_off(f.sim);
    cal_store_close(f.store);
    cal_sim_power_on(f.sim, survival);
    open_store(&f);
    assert_string_equal(f.log, "abc");
    for (int i = 0; i < 3; i++) {
        bool there = stored(f.store, sents[i].name);
        if (sents[i].result == 0) assert_true(there);
        if (i > 0) assert_true(!there || stored(f.store, sents[i - 1].name));
    }
    fixture_deinit(&f);
    return off;
}

static void test_crash_within_a_step(void **state) {
    (void)state;
    for (int survival = CAL_SIM_KEEP; survival <= CAL_SIM_TEAR; survival++) {
        uint64_t nth = 1;
        while (crash_within(nth, (cal_sim_survival)survival)) nth++;
        assert_true(nth > 3 && nth < 100);
    }
}

/* The log starts over, whether steps or only waiting commits do the work. */
static void test_checkpoint_by_steps(void **state) {
    fixture *f = *state;
    static uint8_t chunk[64 * 4096];
    for (int waits = 0; waits < 2; waits++) {
        uint64_t most = 0;
        for (int i = 0; i < 100; i++) {
            memset(chunk, i, sizeof chunk); /* what does not change is not written */
            cal_batch *batch = cal_batch_new();
            cal_batch_put(batch, CAL_COLUMN_BLOB_CHUNK, cal_slice_text("chunk"),
                          cal_slice_of(chunk, sizeof chunk));
            if (waits) {
                must(cal_store_commit(f->store, batch, NULL), NULL);
            } else {
                cal_store_submit(f->store, batch, NULL, NULL);
                cal_store_step(f->store);
            }
            uint64_t now = atomic_load(&f->store->log_pages);
            if (now > most) most = now;
        }
        assert_true(most > STORE_CHECKPOINT_PAGES && most < 2 * STORE_CHECKPOINT_PAGES);
    }
}

/* A batch that failed leaves nothing, also when the flush failed and the power goes right after. */
static bool fail_then_crash(int kinds, uint64_t nth, uint64_t times, cal_sim_survival survival) {
    fixture f;
    fixture_init(&f, nth);
    must(cal_store_commit(f.store, row('z'), NULL), NULL);
    sent sents[3] = {0};
    for (int i = 0; i < 3; i++) send(&f, NULL, &sents[i], (char)('a' + i));
    uint64_t before = cal_sim_count(f.sim, kinds);
    cal_sim_fail(f.sim, kinds, nth, times, CAL_EIO);
    while (cal_store_step(f.store)) {
    }
    bool reached = cal_sim_count(f.sim, kinds) - before >= nth;
    cal_sim_power_off(f.sim);
    cal_sim_fail(f.sim, 0, 0, 0, 0);
    cal_store_close(f.store);
    cal_sim_power_on(f.sim, survival);
    open_store(&f);
    for (int i = 0; i < 3; i++)
        assert_int_equal(stored(f.store, sents[i].name), sents[i].result == 0);
    assert_true(stored(f.store, 'z'));
    fixture_deinit(&f);
    return reached;
}

static void test_failed_leaves_nothing(void **state) {
    (void)state;
    /* The group and each batch alone fail at most; then the attempt to take them back goes well. */
    for (uint64_t times = 1; times <= 4; times++) {
        for (int survival = CAL_SIM_KEEP; survival <= CAL_SIM_TEAR; survival++) {
            uint64_t nth = 1;
            while (fail_then_crash(CAL_SIM_SYNC, nth, times, (cal_sim_survival)survival)) nth++;
            nth = 1;
            while (fail_then_crash(CAL_SIM_WRITE, nth, times, (cal_sim_survival)survival)) nth++;
        }
    }
}

static const cal_engine *sound_engine;

/* Fails in a way that leaves the transaction open. */
static int put_but_bad(cal_engine_conn *conn, cal_column column, cal_slice at, cal_slice value) {
    if (cal_slice_equal(value, cal_slice_text("bad"))) return CAL_ENOMEM;
    return sound_engine->put(conn, column, at, value);
}

/* What a failed transaction had done is not part of the next one. */
static void test_failed_is_rolled_back(void **state) {
    fixture *f = *state;
    sound_engine = f->store->engine;
    cal_engine engine = *sound_engine;
    engine.put = put_but_bad;
    f->store->engine = &engine;
    static sent before, failing, after;
    before = failing = after = (sent){.f = f, .result = UNANSWERED};
    send(f, NULL, &before, 'a');
    failing.name = 'b';
    cal_batch *batch = row('b');
    cal_batch_put(batch, CAL_COLUMN_STATE, cal_slice_text("c"), cal_slice_text("bad"));
    cal_store_submit(f->store, batch, answered, &failing);
    send(f, NULL, &after, 'd');
    while (cal_store_step(f->store)) {
    }
    assert_int_equal(before.result, 0);
    assert_int_equal(failing.result, CAL_ENOMEM);
    assert_int_equal(after.result, 0);
    assert_false(stored(f->store, 'b') || stored(f->store, 'c'));
    f->store->engine = sound_engine;
}

static void read_file(const fixture *f, const char *path, cal_buffer *ret_content) {
    cal_buffer_init(ret_content, 65536);
    must(cal_os_read_file(f->options.os, path, 65536, ret_content, NULL), NULL);
}

/* The same seed asks the same of the disk, and draws the same keys. */
static void test_repeats(void **state) {
    (void)state;
    uint64_t counts[2][6], used[2];
    cal_buffer masters[2], wrapped[2];
    for (int run = 0; run < 2; run++) {
        fixture f;
        fixture_init(&f, 7);
        sent sents[20] = {0};
        for (int i = 0; i < 20; i++) {
            send(&f, NULL, &sents[i], (char)('a' + i));
            if (cal_sim_random(f.sim, 3) == 0) cal_store_step(f.store);
        }
        for (int kind = 0; kind < 6; kind++) counts[run][kind] = cal_sim_count(f.sim, 1 << kind);
        used[run] = cal_sim_used(f.sim);
        read_file(&f, "/home/master.key", &masters[run]);
        read_file(&f, "/home/key.json", &wrapped[run]);
        fixture_deinit(&f);
    }
    assert_true(cal_slice_equal(cal_buffer_slice(&masters[0]), cal_buffer_slice(&masters[1])));
    assert_true(cal_slice_equal(cal_buffer_slice(&wrapped[0]), cal_buffer_slice(&wrapped[1])));
    for (int run = 0; run < 2; run++) {
        cal_buffer_deinit(&masters[run]);
        cal_buffer_deinit(&wrapped[run]);
    }
    assert_memory_equal(counts[0], counts[1], sizeof counts[0]);
    assert_int_equal(used[0], used[1]);
}

/* Nobody waits for another's snapshot to end. */
static void test_readers_never_wait(void **state) {
    fixture *f = *state;
    static cal_snapshot *snapshots[STORE_READERS_LIMIT];
    cal_snapshot *more = NULL;
    f->options.cache_kib = 16;
    cal_store_close(f->store);
    open_store(f);
    for (int i = 0; i < STORE_READERS_LIMIT; i++)
        must(cal_store_snapshot(f->store, &snapshots[i]), NULL);
    assert_int_equal(cal_store_snapshot(f->store, &more), CAL_EOVERLOAD);
    assert_int_equal(cal_store_get(f->store, CAL_COLUMN_STATE, cal_slice_text("a"), NULL),
                     CAL_EOVERLOAD);
    assert_int_equal(cal_store_health(f->store), 0);
    must(cal_store_commit(f->store, row('a'), NULL), NULL);
    cal_snapshot_free(snapshots[0]);
    assert_true(stored(f->store, 'a'));
    must(cal_store_snapshot(f->store, &snapshots[0]), NULL);
    for (int i = 0; i < STORE_READERS_LIMIT; i++) cal_snapshot_free(snapshots[i]);
}

/* --- lanes --- */

static cal_batch *bad_row(char name) {
    cal_batch *batch = row(name);
    cal_batch_delete_prefix(batch, CAL_COLUMN_STATE, (cal_slice){0}); /* CAL_EINVAL, which sticks */
    return batch;
}

static void send_bad(fixture *f, cal_store_lane *lane, sent *s, char name) {
    *s = (sent){.f = f, .name = name, .result = UNANSWERED};
    cal_store_submit_on(f->store, lane, bad_row(name), answered, s);
}

static void test_lane_breaks(void **state) {
    fixture *f = *state;
    cal_store_lane lane = {0}, other = {0};
    sent s[9] = {0};
    send(f, &lane, &s[0], 'a');
    send_bad(f, &lane, &s[1], 'b');
    send(f, NULL, &s[2], 'c');
    send(f, &lane, &s[3], 'd');
    send(f, &other, &s[4], 'e');
    send_bad(f, &lane, &s[5], 'f'); /* builds on a failed one, which comes before its own error */
    send(f, &lane, &s[6], 'g');
    assert_int_equal(lane.waiting, 5);
    while (cal_store_step(f->store)) {
    }
    static const int results[] = {0, CAL_EINVAL, 0, CAL_ECANCELED, 0, CAL_ECANCELED, CAL_ECANCELED};
    for (int i = 0; i < 7; i++) {
        assert_int_equal(s[i].result, results[i]);
        assert_int_equal(stored(f->store, s[i].name), results[i] == 0);
    }
    assert_string_equal(f->log, "abcdefg");
    assert_true(lane.broken && !other.broken && lane.waiting == 0 && other.waiting == 0);
    send(f, &lane, &s[7], 'h'); /* also what is submitted later */
    cal_store_step(f->store);
    assert_int_equal(s[7].result, CAL_ECANCELED);
    assert_false(stored(f->store, 'h'));
    cal_store_lane_mend(f->store, &lane);
    send(f, &lane, &s[8], 'i');
    cal_store_step(f->store);
    assert_int_equal(s[8].result, 0);
    cal_store_stats stats;
    cal_store_stats_get(f->store, &stats);
    assert_int_equal(stats.failed, 5);
    assert_int_equal(stats.batches, 4);
    assert_int_equal(cal_store_health(f->store), 0);
}

typedef struct mender {
    sent last, again;
    cal_store_lane *lane;
} mender;

static void mend_in_answer(void *user, int result) {
    mender *m = user;
    m->last.result = result;
    cal_store_lane_mend(m->last.f->store, m->lane);
    send(m->last.f, m->lane, &m->again, 'z');
}

/* The last answer of a broken lane may mend it and go on in it. */
static void test_lane_mended_by_its_last_answer(void **state) {
    fixture *f = *state;
    cal_store_lane lane = {0};
    sent bad;
    mender m = {.last = {.f = f}, .lane = &lane};
    send_bad(f, &lane, &bad, 'a');
    cal_store_submit_on(f->store, &lane, row('b'), mend_in_answer, &m);
    while (cal_store_step(f->store)) {
    }
    assert_int_equal(m.last.result, CAL_ECANCELED);
    assert_int_equal(m.again.result, 0);
    assert_false(lane.broken);
    assert_false(stored(f->store, 'b'));
    assert_true(stored(f->store, 'z'));
}

/* Answers of a lane are good up to a first failure, and canceled behind it. */
static void check_lane(fixture *f, const sent *sents, int count, int stride, int error) {
    bool broken = false;
    for (int i = 0; i < count; i += stride) {
        int result = sents[i].result;
        assert_int_not_equal(result, UNANSWERED);
        if (broken)
            assert_int_equal(result, CAL_ECANCELED);
        else
            assert_true(result == 0 || result == error);
        broken = broken || result != 0;
    }
    for (int i = 0; i < count; i += stride)
        assert_int_equal(stored(f->store, sents[i].name), sents[i].result == 0);
}

/* Twelve batches of one group, in turn of two lanes and of none, while the disk fails from the nth
 * operation on for a while: first the group, then, alone, some of its batches. Returns whether the
 * failure was reached. */
static bool lane_fails(int kinds, uint64_t nth, uint64_t times, int error, int ret_counts[3]) {
    fixture f;
    fixture_init(&f, 3);
    cal_store_lane lanes[2] = {0};
    sent sents[12] = {0};
    for (int i = 0; i < 12; i++)
        send(&f, i % 3 < 2 ? &lanes[i % 3] : NULL, &sents[i], (char)('a' + i));
    uint64_t before = cal_sim_count(f.sim, kinds);
    cal_sim_fail(f.sim, kinds, nth, times, error);
    while (cal_store_step(f.store)) {
    }
    bool reached = cal_sim_count(f.sim, kinds) - before >= nth;
    cal_sim_fail(f.sim, 0, 0, 0, 0);
    assert_string_equal(f.log, "abcdefghijkl");
    for (int i = 0; i < 2; i++) {
        check_lane(&f, sents + i, 12 - i, 3, error);
        bool failed = false;
        for (int j = i; j < 12; j += 3) failed = failed || sents[j].result;
        assert_int_equal(lanes[i].broken, failed);
    }
    for (int i = 0; i < 12; i++) {
        int result = sents[i].result;
        if (i % 3 == 2)
            assert_true(result == 0 || result == error); /* in no lane: never canceled */
        ret_counts[result == 0 ? 0 : result == CAL_ECANCELED ? 2 : 1]++;
    }
    for (int i = 0; i < 2; i++) { /* mended, all go through */
        cal_store_lane_mend(f.store, &lanes[i]);
        sent again = {0};
        send(&f, &lanes[i], &again, (char)('x' + i));
        cal_store_step(f.store);
        assert_int_equal(again.result, 0);
    }
    assert_int_equal(cal_store_health(f.store), 0);
    fixture_deinit(&f);
    return reached;
}

static void test_lane_disk_fails(void **state) {
    (void)state;
    static const struct {
        int kinds, error;
    } failures[] = {{CAL_SIM_WRITE, CAL_EIO}, {CAL_SIM_SYNC, CAL_EIO}, {CAL_SIM_WRITE, CAL_EFULL}};
    static const uint64_t times[] = {1, 2, 3, 4, 6, 9, UINT64_MAX};
    int counts[3] = {0}; /* applied, failed, canceled */
    for (size_t i = 0; i < sizeof failures / sizeof *failures; i++) {
        for (size_t j = 0; j < sizeof times / sizeof *times; j++) {
            uint64_t nth = 1;
            while (lane_fails(failures[i].kinds, nth, times[j], failures[i].error, counts)) nth++;
        }
    }
    assert_true(counts[0] > 100 && counts[1] > 100 && counts[2] > 100);
}

/* A batch that finds the queue full breaks its lane in its turn, not before. */
static void test_lane_overload(void **state) {
    fixture *f = *state;
    cal_store_lane lane = {0};
    sent first = {0}, full = {0}, behind = {0};
    send(f, &lane, &first, 'a');
    for (int i = 1; i < STORE_QUEUE_BATCHES_MAX; i++)
        cal_store_submit(f->store, cal_batch_new(), NULL, NULL);
    send(f, &lane, &full, 'b');
    assert_false(lane.broken);
    while (cal_store_step(f->store) && f->store->queue_count > 1) {
    }
    send(f, &lane, &behind, 'c');
    while (cal_store_step(f->store)) {
    }
    assert_int_equal(first.result, 0);
    assert_int_equal(full.result, CAL_EOVERLOAD);
    assert_int_equal(behind.result, CAL_ECANCELED);
    assert_string_equal(f->log, "abc");
}

/* What waits is bounded in bytes, too, and what was written no longer waits. */
static void test_queue_is_bounded_in_bytes(void **state) {
    fixture *f = *state;
    sent fits = {0}, more = {0}, later = {0};
    const size_t taken = STORE_QUEUE_BYTES_MAX - 2; /* a row() has two bytes */
    f->store->queue_bytes += taken;
    send(f, NULL, &fits, 'a');
    send(f, NULL, &more, 'b');
    while (cal_store_step(f->store)) {
    }
    assert_int_equal(fits.result, 0);
    assert_int_equal(more.result, CAL_EOVERLOAD);
    assert_false(stored(f->store, 'b'));
    f->store->queue_bytes -= taken;
    assert_int_equal(f->store->queue_bytes, 0);
    assert_int_equal(f->store->queue_count, 0);
    send(f, NULL, &later, 'c');
    cal_store_step(f->store);
    assert_int_equal(later.result, 0);
}

/* --- lanes with a writer thread --- */

enum { OWNERS = 6, ROUNDS = 40, BURST = 10 };

typedef struct owner {
    cal_store *store;
    pthread_t thread;
    uint32_t number;
    cal_store_lane lane;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int answers, results[BURST];
    int wrong;
} owner;

typedef struct owned {
    owner *by;
    int index;
} owned;

static void owner_answered(void *user, int result) {
    owned *o = user;
    pthread_mutex_lock(&o->by->mutex);
    if (o->by->answers++ != o->index) o->by->wrong++;
    o->by->results[o->index] = result;
    pthread_cond_signal(&o->by->changed);
    pthread_mutex_unlock(&o->by->mutex);
}

static bool burst_answered(const void *user) { return ((const owner *)user)->answers == BURST; }

static void owner_burst(owner *by, int round) {
    owned sents[BURST];
    int bad = (round + (int)by->number) % (BURST + 3); /* beyond the burst: none */
    by->answers = 0;
    for (int i = 0; i < BURST; i++) {
        uint8_t name[3] = {(uint8_t)by->number, (uint8_t)round, (uint8_t)i};
        cal_batch *batch = cal_batch_new();
        cal_batch_put(batch, CAL_COLUMN_STATE, cal_slice_of(name, 3), cal_slice_text("x"));
        if (i == bad) cal_batch_delete_prefix(batch, CAL_COLUMN_STATE, (cal_slice){0});
        sents[i] = (owned){by, i};
        cal_store_submit_on(by->store, &by->lane, batch, owner_answered, &sents[i]);
    }
    pthread_mutex_lock(&by->mutex);
    cal_store_wait(by->store, &by->mutex, &by->changed, burst_answered, by);
    pthread_mutex_unlock(&by->mutex);
    for (int i = 0; i < BURST; i++) {
        uint8_t name[3] = {(uint8_t)by->number, (uint8_t)round, (uint8_t)i};
        int there = cal_store_get(by->store, CAL_COLUMN_STATE, cal_slice_of(name, 3), NULL);
        int result = by->results[i];
        if (result != (i < bad ? 0 : i == bad ? CAL_EINVAL : CAL_ECANCELED)) by->wrong++;
        if ((there == 0) != (result == 0)) by->wrong++;
    }
    cal_store_lane_mend(by->store, &by->lane);
}

static void *owner_main(void *arg) {
    owner *by = arg;
    for (int round = 0; round < ROUNDS; round++) owner_burst(by, round);
    return NULL;
}

static void test_lanes_beside_one_another(void **state) {
    (void)state;
    fixture f;
    fixture_init(&f, 4);
    cal_store_close(f.store);
    f.options.stepped = false;
    open_store(&f);
    static owner owners[OWNERS];
    for (uint32_t i = 0; i < OWNERS; i++) {
        owners[i] = (owner){.store = f.store, .number = i};
        pthread_mutex_init(&owners[i].mutex, NULL);
        pthread_cond_init(&owners[i].changed, NULL);
        pthread_create(&owners[i].thread, NULL, owner_main, &owners[i]);
    }
    for (int i = 0; i < OWNERS; i++) {
        pthread_join(owners[i].thread, NULL);
        assert_int_equal(owners[i].wrong, 0);
    }
    fixture_deinit(&f);
}

/* --- deleting some --- */

static void put_keys(cal_store *store, cal_column column, const char *prefix, int count) {
    cal_batch *batch = cal_batch_new();
    for (int i = count - 1; i >= 0; i--) {
        char text[16];
        int len = snprintf(text, sizeof text, "%s%02d", prefix, i);
        cal_batch_put(batch, column, cal_slice_of(text, (size_t)len), cal_slice_text("value"));
    }
    must(cal_store_commit(store, batch, NULL), NULL);
}

/* How many keys of the prefix are left, which must be its largest. */
static int keys_left(cal_store *store, cal_column column, const char *prefix, int of) {
    cal_snapshot *snapshot;
    cal_cursor *cursor;
    cal_buffer end;
    cal_slice at;
    int left = 0;
    cal_buffer_init(&end, 16);
    cal_prefix_end(cal_slice_text(prefix), &end);
    must(cal_store_snapshot(store, &snapshot), NULL);
    must(cal_cursor_open(snapshot, column, cal_slice_text(prefix), cal_buffer_slice(&end), true,
                         &cursor),
         NULL);
    while (cal_cursor_next(cursor, &at, NULL) == 0) {
        char text[16];
        snprintf(text, sizeof text, "%s%02d", prefix, of - ++left);
        assert_true(cal_slice_equal(at, cal_slice_text(text)));
    }
    cal_cursor_free(cursor);
    cal_snapshot_free(snapshot);
    cal_buffer_deinit(&end);
    return left;
}

static void delete_some(cal_store *store, cal_column column, const char *prefix, uint32_t rows) {
    cal_batch *batch = cal_batch_new();
    assert_int_equal(cal_batch_delete_some(batch, column, cal_slice_text(prefix), rows), 0);
    must(cal_store_commit(store, batch, NULL), NULL);
}

static void test_delete_some(void **state) {
    fixture *f = *state;
    for (int column = 0; column < CAL_COLUMN_COUNT; column++) { /* tables of both shapes */
        cal_column c = (cal_column)column;
        put_keys(f->store, c, "p", 25);
        put_keys(f->store, c, "o", 3);
        put_keys(f->store, c, "q", 3);
        put_keys(f->store, c, "\xff\xff", 5); /* no key is greater */
        static const int left[] = {15, 5, 0, 0};
        for (int i = 0; i < 4; i++) {
            delete_some(f->store, c, "p", 10);
            assert_int_equal(keys_left(f->store, c, "p", 25), left[i]);
        }
        assert_int_equal(keys_left(f->store, c, "o", 3), 3);
        assert_int_equal(keys_left(f->store, c, "q", 3), 3);
        delete_some(f->store, c, "\xff", 4);
        assert_int_equal(keys_left(f->store, c, "\xff\xff", 5), 1);
        delete_some(f->store, c, "o", UINT32_MAX);
        assert_int_equal(keys_left(f->store, c, "o", 3), 0);
        assert_int_equal(keys_left(f->store, c, "q", 3), 3);
    }
    /* Operations stay in order, and the number goes with its operation. */
    cal_batch *batch = cal_batch_new(), *more = cal_batch_new();
    cal_batch_delete_some(more, CAL_COLUMN_STATE, cal_slice_text("q"), 2);
    cal_batch_put(more, CAL_COLUMN_STATE, cal_slice_text("q00"), cal_slice_text("again"));
    assert_int_equal(cal_batch_merge(batch, more), 0);
    must(cal_store_commit(f->store, batch, NULL), NULL);
    assert_int_equal(cal_store_get(f->store, CAL_COLUMN_STATE, cal_slice_text("q00"), NULL), 0);
    assert_int_equal(cal_store_get(f->store, CAL_COLUMN_STATE, cal_slice_text("q01"), NULL),
                     CAL_ENOTFOUND);
    assert_int_equal(cal_store_get(f->store, CAL_COLUMN_STATE, cal_slice_text("q02"), NULL), 0);
    assert_int_equal(cal_batch_delete_some(more, CAL_COLUMN_STATE, cal_slice_text("q"), 0),
                     CAL_EINVAL);
    cal_batch_free(more);
    more = cal_batch_new();
    assert_int_equal(cal_batch_delete_some(more, CAL_COLUMN_STATE, (cal_slice){0}, 1), CAL_EINVAL);
    cal_batch_free(more);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_thread),
        TEST(test_answers_in_order),
        TEST(test_waiting_steps),
        TEST(test_wait_stops_at_its_answer),
        TEST(test_close_drains),
        TEST(test_crash_before_the_step),
        cmocka_unit_test(test_crash_within_a_step),
        TEST(test_checkpoint_by_steps),
        cmocka_unit_test(test_failed_leaves_nothing),
        TEST(test_failed_is_rolled_back),
        cmocka_unit_test(test_repeats),
        TEST(test_readers_never_wait),
        TEST(test_lane_breaks),
        TEST(test_lane_mended_by_its_last_answer),
        cmocka_unit_test(test_lane_disk_fails),
        TEST(test_lane_overload),
        TEST(test_queue_is_bounded_in_bytes),
        cmocka_unit_test(test_lanes_beside_one_another),
        TEST(test_delete_some),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
