/* Inside gov/: received operations that cannot be decided yet.
 *
 * Each waits for one thing, named by an id: an operation that it cites, a key, an object; those
 * that wait for history wait for the zero id. When that arrives they become ready, oldest first,
 * and are judged again; nothing here looks at a clock. What all senders have waiting is bounded,
 * in number and bytes, and when a bound is reached the sender with most of that gives way: nobody
 * can crowd out the others. Giving way is safe, because whoever needs an operation fetches it
 * again. Loop thread. */
#ifndef CAL_GOV_PARKING_H
#define CAL_GOV_PARKING_H

#include "base/list.h"
#include "base/map.h"
#include "gov/gov.h"

enum {
    GOV_PARKED_MAX = 10000, /* operations of one namespace */
    GOV_PARKED_BYTES_MAX = 64 * 1024 * 1024,
};

typedef struct gov_parked {
    cal_list queue;  /* of its sender, oldest first; or ready; or taken by a change */
    cal_list bucket; /* of those that wait for the same */
    gov_verified *op;
    gov_wait wait;
    uint64_t sender;
    size_t cost;
} gov_parked;

typedef struct gov_parking {
    struct gov_parking_sender **senders;
    size_t sender_count, sender_capacity;
    cal_map by_id;   /* operation id -> gov_parked; those ready too */
    cal_map by_wait; /* id waited for -> bucket */
    cal_list ready;
    size_t count, bytes;
    uint64_t evicted;
} gov_parking;

void gov_parking_init(gov_parking *parking, uint64_t seed);
void gov_parking_deinit(gov_parking *parking);
bool gov_parking_holds(const gov_parking *parking, const cal_hash *id);
/* Takes the operation. CAL_ENOMEM, and then does not. */
int gov_parking_add(gov_parking *parking, gov_verified *op, const gov_wait *wait, uint64_t sender);
/* What waits for the id becomes ready. */
void gov_parking_wake(gov_parking *parking, gov_wait_kind kind, const cal_hash *id);
/* The oldest that is ready leaves; NULL. */
gov_parked *gov_parking_next(gov_parking *parking);
/* One that left comes back, ready. Frees it when there is no room. */
void gov_parking_return(gov_parking *parking, gov_parked *parked);
void gov_parked_free(gov_parked *parked);
size_t gov_parking_missing(const gov_parking *parking, cal_hash *ret_ids, size_t max);

#endif
