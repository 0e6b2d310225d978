/* See queue.h. */
#include "net/queue.h"

#include <assert.h>
#include <stdlib.h>

#include "calimero/error.h"

enum { PIECE_MIN = 1024, PIECE_MAX = 64 * 1024 };

struct net_piece {
    struct net_piece *next;
    size_t start, end, capacity;
    uint8_t bytes[];
};

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

int net_queue_append(net_queue *queue, const void *bytes, size_t len) {
    const uint8_t *from = bytes;
    struct net_piece *last = queue->last;
    size_t room = last ? smaller(last->capacity - last->end, len) : 0;
    struct net_piece *fresh = NULL;
    if (len > room) {
        size_t rest = len - room, capacity = rest < PIECE_MIN ? PIECE_MIN : rest;
        /* A steady stream gets large pieces, whatever it arrives in. */
        if (queue->len >= PIECE_MAX && capacity < PIECE_MAX) capacity = PIECE_MAX;
        fresh = malloc(sizeof *fresh + capacity);
        if (!fresh) return CAL_ENOMEM;
        *fresh = (struct net_piece){.end = rest, .capacity = capacity};
        memcpy(fresh->bytes, from + room, rest);
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
        queue->last = fresh;
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
        free(first);
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
    *from = (net_queue){0};
}

void net_queue_deinit(net_queue *queue) {
    while (queue->first) {
        struct net_piece *first = queue->first;
        queue->first = first->next;
        free(first);
    }
    *queue = (net_queue){0};
}
