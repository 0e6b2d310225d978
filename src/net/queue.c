/* See queue.h. */
#include "net/queue.h"

#include <assert.h>
#include <stdlib.h>

#include "calimero/error.h"

enum { PIECE_MIN = 1024, PIECE_MAX = 32 * 1024 };

struct net_piece {
    struct net_piece *next;
    size_t start, end, capacity;
    uint8_t bytes[];
};

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

/* --- pieces --- */

static struct net_piece *piece_new(net_pool *pool, size_t capacity) {
    struct net_piece *piece;
    if (pool && pool->first && capacity == PIECE_MAX) {
        piece = pool->first;
        pool->first = piece->next;
        if (--pool->count < pool->least) pool->least = pool->count;
    } else {
        piece = malloc(sizeof *piece + capacity);
    }
    if (piece) *piece = (struct net_piece){.capacity = capacity};
    return piece;
}

static void piece_free(net_pool *pool, struct net_piece *piece) {
    if (!pool || pool->count == NET_POOL_MAX || piece->capacity != PIECE_MAX) {
        free(piece);
        return;
    }
    piece->next = pool->first;
    pool->first = piece;
    pool->count++;
}

static void chain_free(net_pool *pool, struct net_piece *first) {
    for (struct net_piece *next; first; first = next) {
        next = first->next;
        piece_free(pool, first);
    }
}

void net_pool_trim(net_pool *pool) {
    for (size_t unused = pool->least; unused > 0; unused--) {
        struct net_piece *piece = pool->first;
        pool->first = piece->next;
        pool->count--;
        free(piece);
    }
    pool->least = pool->count;
}

void net_pool_deinit(net_pool *pool) {
    chain_free(NULL, pool->first);
    *pool = (net_pool){0};
}

/* --- queues --- */

/* A steady stream gets full pieces, whatever it arrives in; what waits alone gets what it needs,
 * or twice that. */
static size_t capacity_for(const net_queue *queue, size_t len) {
    if (len > PIECE_MAX / 2 || queue->len >= PIECE_MAX) return PIECE_MAX;
    return len < PIECE_MIN ? PIECE_MIN : len;
}

int net_queue_append(net_queue *queue, const void *bytes, size_t len) {
    const uint8_t *from = bytes;
    struct net_piece *last = queue->last, *fresh = NULL, **end = &fresh, *newest = NULL;
    size_t room = last ? smaller(last->capacity - last->end, len) : 0;
    for (size_t at = room; at < len;) {
        struct net_piece *piece = piece_new(queue->pool, capacity_for(queue, len - at));
        if (!piece) {
            chain_free(queue->pool, fresh);
            return CAL_ENOMEM;
        }
        piece->end = smaller(piece->capacity, len - at);
        memcpy(piece->bytes, from + at, piece->end);
        at += piece->end;
        *end = newest = piece;
        end = &piece->next;
    }
    if (room) {
        memcpy(last->bytes + last->end, from, room);
        last->end += room;
    }
    if (fresh) {
        if (last)
            last->next = fresh;
        else
            queue->first = fresh;
        queue->last = newest;
    }
    queue->len += len;
    return 0;
}

cal_slice net_queue_peek(const net_queue *queue) {
    const struct net_piece *first = queue->first;
    return first ? cal_slice_of(first->bytes + first->start, first->end - first->start)
                 : (cal_slice){0};
}

void net_queue_consume(net_queue *queue, size_t len) {
    assert(len <= queue->len);
    queue->len -= len;
    while (len > 0) {
        struct net_piece *first = queue->first;
        size_t part = smaller(len, first->end - first->start);
        first->start += part;
        len -= part;
        if (first->start < first->end) break;
        queue->first = first->next;
        if (!queue->first) queue->last = NULL;
        piece_free(queue->pool, first);
    }
}

size_t net_queue_take(net_queue *queue, uint8_t *ret_bytes, size_t max) {
    size_t taken = 0;
    while (taken < max && queue->len > 0) {
        cal_slice piece = net_queue_peek(queue);
        size_t part = smaller(piece.len, max - taken);
        memcpy(ret_bytes + taken, piece.data, part);
        net_queue_consume(queue, part);
        taken += part;
    }
    return taken;
}

void net_queue_move(net_queue *to, net_queue *from) {
    if (!from->first) return;
    if (to->last)
        to->last->next = from->first;
    else
        to->first = from->first;
    to->last = from->last;
    to->len += from->len;
    *from = (net_queue){.pool = from->pool};
}

void net_queue_deinit(net_queue *queue) {
    chain_free(queue->pool, queue->first);
    *queue = (net_queue){.pool = queue->pool};
}
