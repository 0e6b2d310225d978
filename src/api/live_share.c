/* Events about others: who came to a group and who went, and how a context stands with its peers
 * (http-api.md 9). Only what somebody watches is looked at. Loop thread; see live.h. */
#include <stdlib.h>

#include "api/live.h"
#include "api/rpc.h"
#include "calimero/context.h"
#include "calimero/members.h"
#include "calimero/share.h"
#include "crypto/crypto.h"

/* Something watched; `round`: the last look at which it was. */
typedef struct live_group {
    live_hub *hub;
    cal_group_id id;
    uint64_t round;
    cal_member_watch *watch;
} live_group;

typedef struct live_status {
    cal_context_id id;
    uint64_t round;
    cal_sync_state state;
    uint64_t failures;
} live_status;

/* --- groups --- */

static void on_member(void *user, const cal_member_event *event) {
    static const char *const types[] = {[CAL_MEMBER_ADDED] = "MemberAdded",
                                        [CAL_MEMBER_JOINED] = "MemberJoined",
                                        [CAL_MEMBER_REMOVED] = "MemberRemoved",
                                        [CAL_MEMBER_ROLE_CHANGED] = "MemberAdded"};
    live_group *group = user;
    json_out out;
    yyjson_mut_val *data = live_begin_event(&out, true, group->id.bytes, types[event->type]);
    json_add_hex(&out, data, "memberAccount", event->account.bytes);
    if (event->type != CAL_MEMBER_REMOVED)
        json_add_text(&out, data, "role", cal_role_text(event->role));
    live_publish(group->hub, true, group->id.bytes, &out);
}

static void keep_group(live_hub *hub, cal_slice id) {
    live_group *group = cal_map_get(&hub->groups, id);
    if (!group && (group = calloc(1, sizeof *group)) != NULL) {
        group->hub = hub;
        memcpy(group->id.bytes, id.data, sizeof group->id.bytes);
        group->watch = cal_member_watch_start(hub->state->node, &group->id, on_member, group);
        if (!group->watch || cal_map_put(&hub->groups, id, group) != 0) {
            cal_member_watch_stop(hub->state->node, group->watch);
            free(group);
            group = NULL; /* the next look tries again */
        }
    }
    if (group) group->round = hub->round;
}

/* --- contexts --- */

static void note_initialised(void *user, const cal_context_info *info) {
    static const cal_hash none;
    *(bool *)user = memcmp(info->root.bytes, none.bytes, sizeof none.bytes) != 0;
}

static void tell_status(live_hub *hub, const cal_context_id *id) {
    json_out out;
    bool initialised = false;
    cal_context_get(hub->state->node, id, note_initialised, &initialised);
    yyjson_mut_val *data = live_begin_event(&out, false, id->bytes, "SyncStatus");
    rpc_write_sync_status(&out, data, hub->state->node, id, initialised);
    live_publish(hub, false, id->bytes, &out);
}

static void keep_status(live_hub *hub, cal_slice id) {
    live_status *known = cal_map_get(&hub->statuses, id);
    cal_sync_status status = {.state = CAL_SYNC_ALONE};
    cal_context_id context;
    if (known && known->round == hub->round) return; /* of another watcher */
    memcpy(context.bytes, id.data, sizeof context.bytes);
    cal_context_sync_status(hub->state->node, &context, &status);
    if (!known) {
        known = calloc(1, sizeof *known);
        if (!known) return;
        *known = (live_status){.id = context, .state = status.state, .failures = status.failures};
        if (cal_map_put(&hub->statuses, id, known) != 0) {
            free(known);
            return;
        }
    }
    known->round = hub->round;
    if (known->state == status.state && known->failures == status.failures) return;
    known->state = status.state;
    known->failures = status.failures;
    tell_status(hub, &context);
}

/* --- looking --- */

/* What nobody watches any more, or all. */
static void forget(live_hub *hub, bool all) {
    cal_map_cursor cursor = {0};
    void *value;
    while (cal_map_next(&hub->groups, &cursor, NULL, &value)) {
        live_group *group = value;
        if (!all && group->round == hub->round) continue;
        cal_map_remove(&hub->groups, cal_slice_of(group->id.bytes, CAL_ID_SIZE));
        cal_member_watch_stop(hub->state->node, group->watch);
        free(group);
    }
    cursor = (cal_map_cursor){0};
    while (cal_map_next(&hub->statuses, &cursor, NULL, &value)) {
        live_status *status = value;
        if (!all && status->round == hub->round) continue;
        cal_map_remove(&hub->statuses, cal_slice_of(status->id.bytes, CAL_ID_SIZE));
        free(status);
    }
}

void live_share_look(live_hub *hub) {
    hub->round++;
    for (cal_list *node = hub->watchers.next, *next; node != &hub->watchers; node = next) {
        live_watcher *watcher = CAL_CONTAINER_OF(node, live_watcher, node);
        cal_map_cursor cursor = {0};
        cal_slice id;
        void *value;
        next = node->next;
        while (cal_map_next(&watcher->groups, &cursor, &id, &value)) keep_group(hub, id);
        cursor = (cal_map_cursor){0};
        while (cal_map_next(&watcher->contexts, &cursor, &id, &value)) keep_status(hub, id);
    }
    forget(hub, false);
}

void live_share_open(live_hub *hub) {
    const cal_os *os = cal_node_os(hub->state->node);
    cal_map_init(&hub->groups, cal_random_seed(os));
    cal_map_init(&hub->statuses, cal_random_seed(os));
}

void live_share_close(live_hub *hub) {
    forget(hub, true);
    cal_map_deinit(&hub->groups);
    cal_map_deinit(&hub->statuses);
}
