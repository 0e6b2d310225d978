/* Bytes waiting in order, in pieces that come and go with what is in them: an empty queue holds no
 * memory. Its owner bounds its length. One owner, one thread.
 *
 * Streams that carry much would make and free pieces all the time, and the allocator would give
 * their pages back and fault them in again. Queues with a pool exchange their full-sized pieces
 * through it instead. */
#ifndef CAL_NET_QUEUE_H
#define CAL_NET_QUEUE_H

#include "base/bytes.h"

enum { NET_POOL_MAX = 64 /* pieces of 32 KiB */ };

/* Pieces nobody uses. Starts zeroed. */
typedef struct net_pool {
    struct net_piece *first;
    size_t count, least; /* the fewest there were since it was trimmed */
} net_pool;
void net_pool_trim(net_pool *pool); /* frees what was not used since the last time */
void net_pool_deinit(net_pool *pool);

typedef struct net_queue {
    struct net_piece *first, *last;
    size_t len;
    net_pool *pool; /* NULL: none. Outlives the queue. */
} net_queue;        /* starts zeroed */

int net_queue_append(net_queue *queue, const void *bytes, size_t len); /* CAL_ENOMEM: unchanged */
cal_slice net_queue_peek(const net_queue *queue);     /* the first piece; empty: len 0 */
void net_queue_consume(net_queue *queue, size_t len); /* len <= queue->len */
size_t net_queue_take(net_queue *queue, uint8_t *ret_bytes, size_t max); /* copies out */
void net_queue_move(net_queue *to, net_queue *from);                     /* appends all of `from` */
void net_queue_deinit(net_queue *queue);

#endif
