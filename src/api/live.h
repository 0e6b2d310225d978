/* Who listens to what: the subscriptions of WebSockets and event streams, and the delivery of
 * events to them.
 *
 * One subscription to the node brings all events; each is written as JSON once and handed to every
 * client that asked for its context. A client that does not keep up loses events (http-api.md 7),
 * which a counter shows. Loop thread. */
#ifndef CAL_API_LIVE_H
#define CAL_API_LIVE_H

#include "api/api.h"
#include "base/list.h"
#include "base/map.h"

enum {
    LIVE_IDS_MAX = 4096,      /* contexts, and groups, that one client may watch */
    LIVE_PRESENCES_MAX = 1024 /* of 16 KiB at most */
};

/* One client. `deliver` gets the event's JSON: {"contextId":...,"type":...,"data":...}. */
typedef struct live_watcher {
    cal_list node;            /* in the hub, while it can receive */
    cal_map contexts, groups; /* 32-byte ids */
    bool (*deliver)(struct live_watcher *watcher, cal_slice event); /* false: dropped */
} live_watcher;

typedef struct sse_table sse_table;

struct live_hub {
    api_state *state;
    cal_list watchers;
    cal_map presence; /* context -> live_presence: what this node said of itself, until it stops */
    cal_subscription *subscription;
    metrics_series *delivered, *dropped;
    sse_table *sse;
    cal_map groups, statuses; /* live_share.c: what is watched of groups and contexts */
    uint64_t round;           /* live_share.c's */
};

/* Hands an event (freed) to whoever watches this context or group. */
void live_publish(live_hub *hub, bool group, const uint8_t id[32], json_out *event);
yyjson_mut_val *live_begin_event(json_out *out, bool group, const uint8_t id[32], const char *type);

/* live_share.c: members of the groups and the sync state of the contexts that somebody watches.
 * Looks what is watched now, and tells what has changed since. */
void live_share_open(live_hub *hub);
void live_share_look(live_hub *hub);
void live_share_close(live_hub *hub);

void live_watcher_init(live_watcher *watcher, const cal_os *os,
                       bool (*deliver)(live_watcher *watcher, cal_slice event));
void live_watcher_deinit(live_watcher *watcher);
/* 0, or CAL_ELIMIT, CAL_ENOMEM. */
int live_watch(cal_map *ids, const uint8_t id[32]);
bool live_unwatch(cal_map *ids, const uint8_t id[32]); /* was it there? */

/* Presence: keeps it for later subscribers, tells the present ones. CAL_ELIMIT, CAL_ENOMEM: not
 * kept. */
int live_set_presence(live_hub *hub, const cal_context_id *context, const cal_public_key *author,
                      cal_slice state);
/* Tells one watcher what is known of a context that it subscribed to. */
void live_replay(live_hub *hub, live_watcher *watcher, const uint8_t context[32]);

sse_table *sse_new(live_hub *hub, cal_error *err);
void sse_sweep(sse_table *table); /* forgets expired sessions and their rows */
void sse_stop(sse_table *table);
void sse_free(sse_table *table); /* NULL allowed */

#endif
