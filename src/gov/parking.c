/* Operations that wait, see parking.h. Ready ones count as waiting, for the bounds, but belong to
 * no sender's queue: they leave with the next judging. Loop thread. */
#include "gov/parking.h"

#include <stdlib.h>

#include "gov/internal.h"

enum { WAIT_KEY = 1 + 32 };

typedef struct gov_parking_sender {
    uint64_t id;
    cal_list queue; /* of gov_parked, oldest first */
    size_t count, bytes;
} parking_sender;

typedef struct {
    gov_wait wait;
    cal_list ops; /* of gov_parked, by `bucket`, oldest first */
} bucket;

static cal_slice id_key(const cal_hash *id) { return cal_slice_of(id->bytes, sizeof id->bytes); }

static cal_slice wait_key(gov_wait_kind kind, const cal_hash *id, uint8_t bytes[WAIT_KEY]) {
    bytes[0] = (uint8_t)kind;
    memcpy(bytes + 1, id->bytes, 32);
    return cal_slice_of(bytes, WAIT_KEY);
}

void gov_parking_init(gov_parking *parking, uint64_t seed) {
    *parking = (gov_parking){0};
    cal_map_init(&parking->by_id, seed);
    cal_map_init(&parking->by_wait, seed + 1);
    cal_list_init(&parking->ready);
}

void gov_parked_free(gov_parked *parked) {
    if (!parked) return;
    gov_verified_free(parked->op);
    free(parked);
}

void gov_parking_deinit(gov_parking *parking) {
    cal_map_cursor cursor = {0};
    cal_slice key;
    void *value;
    while (cal_map_next(&parking->by_id, &cursor, &key, &value)) gov_parked_free(value);
    cursor = (cal_map_cursor){0};
    while (cal_map_next(&parking->by_wait, &cursor, &key, &value)) free(value);
    for (size_t i = 0; i < parking->sender_count; i++) free(parking->senders[i]);
    free(parking->senders);
    cal_map_deinit(&parking->by_id);
    cal_map_deinit(&parking->by_wait);
}

bool gov_parking_holds(const gov_parking *parking, const cal_hash *id) {
    return cal_map_get(&parking->by_id, id_key(id)) != NULL;
}

/* --- senders --- */

static parking_sender *sender_find(const gov_parking *parking, uint64_t id) {
    for (size_t i = 0; i < parking->sender_count; i++)
        if (parking->senders[i]->id == id) return parking->senders[i];
    return NULL;
}

static parking_sender *sender_add(gov_parking *parking, uint64_t id) {
    parking_sender *sender = sender_find(parking, id);
    if (sender) return sender;
    if (parking->sender_count == parking->sender_capacity) {
        size_t capacity = parking->sender_capacity ? parking->sender_capacity * 2 : 4;
        parking_sender **grown = realloc(parking->senders, capacity * sizeof *grown);
        if (!grown) return NULL;
        parking->senders = grown;
        parking->sender_capacity = capacity;
    }
    sender = calloc(1, sizeof *sender);
    if (!sender) return NULL;
    sender->id = id;
    cal_list_init(&sender->queue);
    parking->senders[parking->sender_count++] = sender;
    return sender;
}

static void sender_drop_idle(gov_parking *parking, const parking_sender *sender) {
    if (sender->count) return;
    for (size_t i = 0; i < parking->sender_count; i++) {
        if (parking->senders[i] != sender) continue;
        free(parking->senders[i]);
        parking->senders[i] = parking->senders[--parking->sender_count];
        return;
    }
}

/* --- buckets --- */

static bucket *bucket_add(gov_parking *parking, const gov_wait *wait) {
    uint8_t bytes[WAIT_KEY];
    cal_slice key = wait_key(wait->kind, &wait->id, bytes);
    bucket *found = cal_map_get(&parking->by_wait, key);
    if (found) return found;
    found = calloc(1, sizeof *found);
    if (!found) return NULL;
    found->wait = *wait;
    cal_list_init(&found->ops);
    if (cal_map_put(&parking->by_wait, key, found)) {
        free(found);
        return NULL;
    }
    return found;
}

static void bucket_drop_empty(gov_parking *parking, const gov_wait *wait) {
    uint8_t bytes[WAIT_KEY];
    cal_slice key = wait_key(wait->kind, &wait->id, bytes);
    bucket *found = cal_map_get(&parking->by_wait, key);
    if (!found || !cal_list_empty(&found->ops)) return;
    cal_map_remove(&parking->by_wait, key);
    free(found);
}

/* --- coming and going --- */

/* Out of its sender's queue and its bucket, or out of the ready ones. */
static void unlink_parked(gov_parking *parking, gov_parked *parked) {
    cal_list_remove(&parked->queue);
    if (cal_list_empty(&parked->bucket)) return; /* it was ready */
    cal_list_remove(&parked->bucket);
    bucket_drop_empty(parking, &parked->wait);
    parking_sender *sender = sender_find(parking, parked->sender);
    sender->count--;
    sender->bytes -= parked->cost;
    sender_drop_idle(parking, sender);
}

static void remove_parked(gov_parking *parking, gov_parked *parked) {
    unlink_parked(parking, parked);
    cal_map_remove(&parking->by_id, id_key(&parked->op->id));
    parking->count--;
    parking->bytes -= parked->cost;
}

/* The oldest of whoever has most waiting of what is short; ready ones only when nobody has any. */
static gov_parked *weakest(const gov_parking *parking, bool by_bytes) {
    const parking_sender *most = NULL;
    for (size_t i = 0; i < parking->sender_count; i++) {
        const parking_sender *sender = parking->senders[i];
        if (!most || (by_bytes ? sender->bytes > most->bytes : sender->count > most->count))
            most = sender;
    }
    const cal_list *queue = most ? &most->queue : &parking->ready;
    return cal_list_empty(queue) ? NULL : CAL_CONTAINER_OF(queue->next, gov_parked, queue);
}

static void make_room(gov_parking *parking, size_t cost) {
    for (;;) {
        bool count = parking->count >= GOV_PARKED_MAX,
             bytes = parking->bytes + cost > GOV_PARKED_BYTES_MAX;
        gov_parked *parked = count || bytes ? weakest(parking, bytes) : NULL;
        if (!parked) return;
        remove_parked(parking, parked);
        gov_parked_free(parked);
        parking->evicted++;
    }
}

static int list_it(gov_parking *parking, gov_parked *parked) {
    make_room(parking, parked->cost);
    if (cal_map_put(&parking->by_id, id_key(&parked->op->id), parked)) return CAL_ENOMEM;
    parking->count++;
    parking->bytes += parked->cost;
    return 0;
}

int gov_parking_add(gov_parking *parking, gov_verified *op, const gov_wait *wait, uint64_t sender) {
    gov_parked *parked = calloc(1, sizeof *parked);
    if (!parked) return CAL_ENOMEM;
    *parked = (gov_parked){.op = op, .wait = *wait, .sender = sender};
    parked->cost = sizeof *parked + sizeof *op + op->len + op->arena.used;
    cal_list_init(&parked->queue);
    cal_list_init(&parked->bucket);
    if (list_it(parking, parked)) {
        free(parked);
        return CAL_ENOMEM;
    }
    bucket *waits = bucket_add(parking, wait);
    parking_sender *from = sender_add(parking, sender);
    if (!waits || !from) {
        bucket_drop_empty(parking, wait);
        if (from) sender_drop_idle(parking, from);
        remove_parked(parking, parked);
        free(parked);
        return CAL_ENOMEM;
    }
    from->count++;
    from->bytes += parked->cost;
    cal_list_push(&from->queue, &parked->queue);
    cal_list_push(&waits->ops, &parked->bucket);
    return 0;
}

void gov_parking_wake(gov_parking *parking, gov_wait_kind kind, const cal_hash *id) {
    uint8_t bytes[WAIT_KEY];
    for (;;) { /* the bucket goes with its last one */
        bucket *found = cal_map_get(&parking->by_wait, wait_key(kind, id, bytes));
        if (!found) return;
        gov_parked *parked = CAL_CONTAINER_OF(found->ops.next, gov_parked, bucket);
        unlink_parked(parking, parked);
        cal_list_push(&parking->ready, &parked->queue);
    }
}

gov_parked *gov_parking_next(gov_parking *parking) {
    if (cal_list_empty(&parking->ready)) return NULL;
    gov_parked *parked = CAL_CONTAINER_OF(parking->ready.next, gov_parked, queue);
    remove_parked(parking, parked);
    return parked;
}

void gov_parking_return(gov_parking *parking, gov_parked *parked) {
    if (gov_parking_holds(parking, &parked->op->id) || list_it(parking, parked)) {
        gov_parked_free(parked);
        return;
    }
    cal_list_push(&parking->ready, &parked->queue);
}

size_t gov_parking_missing(const gov_parking *parking, cal_hash *ret_ids, size_t max) {
    cal_map_cursor cursor = {0};
    cal_slice key;
    void *value;
    size_t count = 0;
    while (count < max && cal_map_next(&parking->by_wait, &cursor, &key, &value)) {
        const bucket *found = value;
        if (found->wait.kind == GOV_WAIT_PARENT && !gov_parking_holds(parking, &found->wait.id))
            ret_ids[count++] = found->wait.id;
    }
    return count;
}
