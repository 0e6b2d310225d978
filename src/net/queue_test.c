/* Queues of bytes, with and without a pool, against a plain array. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "net/queue.h"

enum { BYTES = 4 * 1024 * 1024, STEPS = 4000, WAITING_MAX = 512 * 1024 };

static uint8_t byte_at(size_t at) { return (uint8_t)(at * 167 ^ at >> 8); }

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
    return *state;
}

/* Sizes of all kinds: mostly small, now and then more than a piece. */
static size_t some_size(uint64_t *state) {
    size_t max = (size_t)1 << next_random(state) % 18;
    return (size_t)(next_random(state) % max);
}

/* Takes from the front in the ways there are, and compares. */
static void take_some(net_queue *queue, size_t *taken, uint64_t *state) {
    static uint8_t out[1 << 18];
    size_t len = some_size(state);
    if (next_random(state) % 2) {
        len = net_queue_take(queue, out, len);
        for (size_t i = 0; i < len; i++) assert_int_equal(out[i], byte_at(*taken + i));
    } else {
        cal_slice piece = net_queue_peek(queue);
        assert_true((piece.len == 0) == (queue->len == 0));
        for (size_t i = 0; i < piece.len; i++) assert_int_equal(piece.data[i], byte_at(*taken + i));
        if (len > queue->len) len = queue->len;
        net_queue_consume(queue, len);
    }
    *taken += len;
}

static void check_order(net_pool *pool) {
    net_queue queue = {.pool = pool};
    uint64_t state = 88172645463325252u;
    size_t given = 0, taken = 0;
    uint8_t *bytes = malloc(BYTES);
    for (size_t i = 0; i < BYTES; i++) bytes[i] = byte_at(i);
    for (int step = 0; step < STEPS; step++) {
        size_t len = some_size(&state);
        if (given + len <= BYTES && queue.len < WAITING_MAX) {
            assert_int_equal(net_queue_append(&queue, bytes + given, len), 0);
            given += len;
        }
        take_some(&queue, &taken, &state);
        assert_int_equal(queue.len, given - taken);
        if (pool) assert_true(pool->count <= NET_POOL_MAX);
    }
    while (queue.len) take_some(&queue, &taken, &state);
    assert_int_equal(taken, given);
    assert_null(queue.first);
    free(bytes);
}

static void test_order(void **state) {
    (void)state;
    net_pool pool = {0};
    check_order(NULL);
    check_order(&pool);
    net_pool_deinit(&pool);
}

/* Pieces are kept while they are used, then given back: an idle host holds none. */
static void test_pool_empties(void **state) {
    (void)state;
    net_pool pool = {0};
    net_queue queue = {.pool = &pool};
    static uint8_t bytes[3 * 1024 * 1024];
    assert_int_equal(net_queue_append(&queue, bytes, sizeof bytes), 0);
    assert_int_equal(pool.count, 0);
    net_queue_consume(&queue, sizeof bytes);
    assert_int_equal(pool.count, NET_POOL_MAX);
    net_pool_trim(&pool);
    assert_int_equal(pool.count, NET_POOL_MAX); /* all of it was in use since the beginning */
    assert_int_equal(net_queue_append(&queue, bytes, sizeof bytes / 3), 0);
    assert_int_equal(pool.count, NET_POOL_MAX - 32);
    net_queue_deinit(&queue);
    net_pool_trim(&pool);
    assert_int_equal(pool.count, 32); /* what the last use needed */
    net_pool_trim(&pool);
    assert_int_equal(pool.count, 0);
}

/* What one queue took from the pool may end in another that has none. */
static void test_moved(void **state) {
    (void)state;
    net_pool pool = {0};
    net_queue with = {.pool = &pool}, without = {0};
    static uint8_t bytes[100 * 1024];
    assert_int_equal(net_queue_append(&with, bytes, sizeof bytes), 0);
    assert_int_equal(net_queue_append(&without, "x", 1), 0);
    net_queue_move(&without, &with);
    assert_int_equal(without.len, sizeof bytes + 1);
    assert_int_equal(with.len, 0);
    assert_ptr_equal(with.pool, &pool);
    net_queue_move(&with, &without);
    net_queue_deinit(&with);
    assert_true(pool.count > 0);
    net_pool_deinit(&pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_pool_empties),
        cmocka_unit_test(test_moved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
