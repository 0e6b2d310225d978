/* The hybrid clock where a node's life is hard on it: wall clocks that stand, go back and jump,
 * peers at the edge of what is taken, many ticks of one stamp. What a clock should say is worked
 * out here a second time, from runtime-abi.md 14 and without the clock's own tricks. */
#include "support/crdt.h"

enum { STAMP = 0x10000, TICKS_PER_STAMP = 0x10000, BOUND_SECONDS = 5 };

static const uint64_t SECOND = 1000000000, START = 1700000000;

static uint64_t ntp_seconds(uint64_t seconds) { return seconds << 32; }

static crdt_clock new_clock(uint8_t id) {
    crdt_clock clock;
    uint8_t bytes[16] = {id};
    crdt_clock_init(&clock, bytes);
    return clock;
}

static crdt_hlc remote_at(uint64_t time) { return (crdt_hlc){.time = time, .id = {9}}; }

/* --- the plain clock: one number, the last time said or seen --- */

static uint64_t plain_ntp(uint64_t wall_ns) {
    uint64_t seconds = wall_ns / SECOND, rest = wall_ns % SECOND;
    return (seconds << 32 | (rest << 32) / SECOND) & ~(uint64_t)(STAMP - 1);
}

/* The next time: the wall's stamp when that is later, else the last one plus one tick. */
static uint64_t plain_tick(uint64_t *last, uint64_t wall_ns) {
    uint64_t wall = plain_ntp(wall_ns);
    *last = wall > (*last & ~(uint64_t)(STAMP - 1)) ? wall : *last + 1;
    return *last;
}

static void plain_observe(uint64_t *last, uint64_t remote, uint64_t wall_ns) {
    uint64_t wall = plain_ntp(wall_ns), top = remote > *last ? remote : *last;
    *last = wall > (top & ~(uint64_t)(STAMP - 1)) ? wall : top + 1;
}

/* --- walls --- */

static void test_still(void **state) {
    (void)state;
    crdt_clock clock = new_clock(1);
    uint64_t previous = 0, wall = START * SECOND;
    for (uint32_t i = 0; i < 3 * TICKS_PER_STAMP; i++) {
        crdt_hlc hlc = crdt_clock_tick(&clock, wall);
        assert_true(hlc.time > previous);
        assert_true(hlc.time == ntp_seconds(START) + i); /* no tick lost, none said twice */
        previous = hlc.time;
    }
    /* The wall has passed one stamp meanwhile, the clock three: it does not go back to it. */
    assert_true(crdt_clock_tick(&clock, wall + 20000).time == previous + 1);
    assert_true(crdt_clock_tick(&clock, wall + SECOND).time == ntp_seconds(START + 1));
}

static void test_set_back(void **state) {
    (void)state;
    crdt_clock clock = new_clock(1);
    uint64_t wall = START * SECOND;
    crdt_hlc first = crdt_clock_tick(&clock, wall), hlc;
    for (uint64_t i = 1; i <= 100; i++) { /* an hour back, and it goes on from there */
        hlc = crdt_clock_tick(&clock, wall - 3600 * SECOND + i * SECOND);
        assert_true(hlc.time == first.time + i);
    }
    hlc = crdt_clock_tick(&clock, wall + SECOND);
    assert_true(hlc.time == ntp_seconds(START + 1));
}

/* --- peers --- */

static void test_bound(void **state) {
    (void)state;
    uint64_t bound = ntp_seconds(START + BOUND_SECONDS);
    static const struct {
        int64_t ahead; /* of the bound */
        int result;
    } cases[] = {
        {-STAMP, 0},
        {0, 0},
        {STAMP - 1, 0}, /* the counter does not count as time */
        {STAMP, CRDT_ELIMIT},
        {2 * STAMP - 1, CRDT_ELIMIT},
        {INT64_C(1) << 32, CRDT_ELIMIT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        crdt_clock clock = new_clock(1), before;
        crdt_clock_tick(&clock, START * SECOND);
        before = clock;
        crdt_hlc remote = remote_at(bound + (uint64_t)cases[i].ahead);
        assert_int_equal(crdt_clock_observe(&clock, &remote, START * SECOND), cases[i].result);
        if (cases[i].result) {
            assert_memory_equal(&clock, &before, sizeof clock);
            continue;
        }
        assert_true(crdt_clock_tick(&clock, START * SECOND).time > remote.time);
    }
    /* The bound goes by the wall, not by what the clock has taken already: no chain of peers leads
     * further ahead. */
    crdt_clock clock = new_clock(1);
    crdt_hlc remote = remote_at(bound), further = remote_at(bound + STAMP);
    assert_int_equal(crdt_clock_observe(&clock, &remote, START * SECOND), 0);
    assert_int_equal(crdt_clock_observe(&clock, &further, START * SECOND), CRDT_ELIMIT);
    /* ... and a peer is taken again as soon as the wall allows. */
    assert_int_equal(crdt_clock_observe(&clock, &further, START * SECOND + SECOND / 1000), 0);
    /* The largest times there are do not wrap into small ones. */
    crdt_hlc largest = remote_at(UINT64_MAX);
    assert_int_equal(crdt_clock_observe(&clock, &largest, START * SECOND), CRDT_ELIMIT);
    /* Between two whole seconds the bound carries the wall's fraction. */
    uint64_t half = START * SECOND + SECOND / 2;
    remote = remote_at(bound + (UINT64_C(1) << 31));
    assert_int_equal(crdt_clock_observe(&clock, &remote, half), 0);
    remote = remote_at(bound + (UINT64_C(1) << 31) + STAMP);
    assert_int_equal(crdt_clock_observe(&clock, &remote, half), CRDT_ELIMIT);
}

/* Writes in a row behind a peer that is ahead: each after the peer's and after the one before,
 * until the wall has caught up. */
static void test_behind(void **state) {
    (void)state;
    crdt_clock clock = new_clock(1);
    uint64_t ahead = ntp_seconds(START + 4) | 7, wall = START * SECOND;
    crdt_hlc remote = remote_at(ahead), hlc;
    assert_int_equal(crdt_clock_observe(&clock, &remote, wall), 0);
    for (uint64_t i = 1; i <= 10; i++) {
        hlc = crdt_clock_tick(&clock, wall + i * SECOND / 10);
        assert_true(hlc.time == ahead + 1 + i);
        assert_int_equal(hlc.id[0], 1); /* the peer's time, our id */
    }
    hlc = crdt_clock_tick(&clock, wall + 5 * SECOND);
    assert_true(hlc.time == ntp_seconds(START + 5));
}

/* Every constellation of last, remote and wall, on both sides of the counter's end. */
static void test_ties(void **state) {
    (void)state;
    static const uint64_t stamps[] = {0, 1, 2}, counters[] = {0, 1, 0xFFFE, 0xFFFF};
    uint64_t base = ntp_seconds(START);
    for (unsigned choice = 0; choice < 3 * 3 * 3 * 4 * 4; choice++) {
        uint64_t last = base + stamps[choice % 3] * STAMP + counters[choice / 27 % 4];
        uint64_t time = base + stamps[choice / 3 % 3] * STAMP + counters[choice / 108];
        /* 2^32 / STAMP stamps a second: the first nanosecond of one. */
        uint64_t wall = START * SECOND + (stamps[choice / 9 % 3] * SECOND + 65535) / 65536;
        crdt_clock clock = new_clock(1);
        clock.last = last & ~(uint64_t)(STAMP - 1);
        clock.counter = (uint16_t)last;
        crdt_hlc remote = remote_at(time);
        assert_int_equal(crdt_clock_observe(&clock, &remote, wall), 0);
        plain_observe(&last, time, wall);
        assert_true((clock.last | clock.counter) == last);
        assert_true(last > time || plain_ntp(wall) > time);
        for (int i = 0; i < 3; i++)
            assert_true(crdt_clock_tick(&clock, wall).time == plain_tick(&last, wall));
    }
}

/* Two clocks that hear each other over walls that jump about: what is said after hearing is later.
 */
static void test_conversation(void **state) {
    (void)state;
    crdt_clock clocks[2] = {new_clock(1), new_clock(2)};
    uint64_t walls[2] = {START * SECOND, START * SECOND}, random = 88172645463325252u,
             said[2] = {0};
    for (int round = 0; round < 20000; round++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        int who = (int)(random & 1);
        uint64_t *wall = &walls[who];
        switch (random >> 8 & 7) {
        case 0:
            *wall += random >> 16 & 0xFFFFFFF;
            break;
        case 1:
            *wall -= random >> 16 & 0xFFFFFF;
            break;
        default:
            break;
        }
        crdt_hlc hlc = crdt_clock_tick(&clocks[who], *wall);
        assert_true(hlc.time > said[who]);
        said[who] = hlc.time;
        if (crdt_clock_observe(&clocks[!who], &hlc, walls[!who]) != 0) {
            assert_true(hlc.time > plain_ntp(walls[!who]) + ntp_seconds(BOUND_SECONDS));
            continue;
        }
        crdt_hlc answer = crdt_clock_tick(&clocks[!who], walls[!who]);
        assert_int_equal(crdt_hlc_compare(&answer, &hlc), 1);
        assert_true(answer.time > said[!who]);
        said[!who] = answer.time;
    }
}

static void test_order(void **state) {
    (void)state;
    crdt_hlc a = {.time = 5, .id = {[0] = 255, [15] = 1}}, b = {.time = 5, .id = {[15] = 2}}, c = b;
    assert_int_equal(crdt_hlc_compare(&a, &b), -1); /* ids are little-endian numbers */
    assert_int_equal(crdt_hlc_compare(&b, &a), 1);
    assert_int_equal(crdt_hlc_compare(&b, &c), 0);
    c.id[0] = 1;
    assert_int_equal(crdt_hlc_compare(&b, &c), -1);
    a.time = 6;
    assert_int_equal(crdt_hlc_compare(&a, &b), 1);
}

/* What this node itself has kept is not doubted, however far ahead, and never takes the clock back.
 */
static void test_raise(void **state) {
    (void)state;
    uint64_t base = ntp_seconds(START), far = ntp_seconds(START + 3600) | 5;
    static const int64_t ahead[] = {-2 * STAMP, -STAMP, -1, 0, 1, STAMP - 7, STAMP, 2 * STAMP};
    for (size_t i = 0; i < sizeof ahead / sizeof *ahead; i++) {
        crdt_clock clock = new_clock(1);
        for (int tick = 0; tick < 7; tick++) crdt_clock_tick(&clock, START * SECOND);
        uint64_t last = base + 6, kept = last + (uint64_t)ahead[i];
        crdt_clock_raise(&clock, kept);
        uint64_t expected = (kept > last ? kept : last) + 1;
        assert_true(crdt_clock_tick(&clock, START * SECOND).time == expected);
    }
    crdt_clock clock = new_clock(1);
    crdt_clock_raise(&clock, far);
    assert_true(crdt_clock_tick(&clock, START * SECOND).time == far + 1);
    crdt_clock_raise(&clock, base);
    assert_true(crdt_clock_tick(&clock, START * SECOND).time == far + 2);
    crdt_clock_raise(&clock, far | 0xFFFF); /* at the end of a stamp the next one begins */
    assert_true(crdt_clock_tick(&clock, START * SECOND).time == (far | 0xFFFF) + 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_still), cmocka_unit_test(test_set_back),
        cmocka_unit_test(test_bound), cmocka_unit_test(test_behind),
        cmocka_unit_test(test_ties),  cmocka_unit_test(test_conversation),
        cmocka_unit_test(test_raise), cmocka_unit_test(test_order),
    };
    if (cal_crypto_init() != 0) return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
