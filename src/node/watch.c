/* Who watches a group hears who came and who went: the difference between its members now and
 * before, looked at on a tick when governance has moved on. So changes of one tick may be told as
 * one, and what was undone within it is not told at all: members.h. Loop thread. */
#include <stdlib.h>
#include <string.h>

#include "calimero/members.h"
#include "gov/members.h"
#include "node/internal.h"

typedef struct watched {
    cal_account_id account;
    cal_role role;
} watched;

struct cal_member_watch {
    cal_list link; /* in node.watches */
    cal_group_id group;
    watched *members; /* in the order of accounts */
    size_t count;
    bool removed;
    void (*handler)(void *user, const cal_member_event *event);
    void *user;
};

typedef struct gathering {
    watched *members;
    size_t count, capacity;
    bool failed;
} gathering;

static void gather(void *user, const gov_member_info *info) {
    gathering *g = user;
    if (g->count == g->capacity && !g->failed) {
        size_t capacity = g->capacity ? 2 * g->capacity : 16;
        watched *members = realloc(g->members, capacity * sizeof *members);
        g->failed = !members;
        if (members) {
            g->members = members;
            g->capacity = capacity;
        }
    }
    if (!g->failed) g->members[g->count++] = (watched){info->account, (cal_role)info->role};
}

static int compare(const void *a, const void *b) {
    return memcmp(((const watched *)a)->account.bytes, ((const watched *)b)->account.bytes,
                  CAL_ID_SIZE);
}

/* false: no memory, and it is tried again with the next change. */
static bool members_now(cal_node *node, const cal_group_id *group, gathering *ret_members) {
    *ret_members = (gathering){0};
    gov_group_members(node->gov, group, gather, ret_members); /* not known: nobody */
    if (ret_members->failed) {
        free(ret_members->members);
        return false;
    }
    if (ret_members->count)
        qsort(ret_members->members, ret_members->count, sizeof(watched), compare);
    return true;
}

static void tell(const cal_member_watch *watch, cal_member_event_type type, const watched *member) {
    if (watch->removed) return;
    watch->handler(watch->user, &(cal_member_event){.type = type,
                                                    .group = watch->group,
                                                    .account = member->account,
                                                    .role = member->role});
}

static void look(cal_node *node, cal_member_watch *watch) {
    gathering now;
    if (!members_now(node, &watch->group, &now)) return;
    watched *before = watch->members;
    size_t count = watch->count, i = 0, j = 0;
    watch->members = now.members;
    watch->count = now.count;
    while (i < count || j < now.count) {
        int order = i == count ? 1 : j == now.count ? -1 : compare(&before[i], &now.members[j]);
        if (order < 0) {
            tell(watch, CAL_MEMBER_REMOVED, &before[i++]);
        } else if (order > 0) {
            bool joins = gov_member_joins(node->gov, &watch->group, &now.members[j].account) > 0;
            tell(watch, joins ? CAL_MEMBER_JOINED : CAL_MEMBER_ADDED, &now.members[j++]);
        } else {
            if (before[i].role != now.members[j].role)
                tell(watch, CAL_MEMBER_ROLE_CHANGED, &now.members[j]);
            i++, j++;
        }
    }
    free(before);
}

static void free_watch(cal_member_watch *watch) {
    cal_list_remove(&watch->link);
    free(watch->members);
    free(watch);
}

static void sweep(cal_node *node) {
    for (cal_list *at = node->watches.next, *next; at != &node->watches; at = next) {
        next = at->next;
        cal_member_watch *watch = CAL_CONTAINER_OF(at, cal_member_watch, link);
        if (watch->removed) free_watch(watch);
    }
}

void node_watch_tick(cal_node *node) {
    uint64_t version = gov_version(node->gov);
    if (version == node->watched_version) return;
    node->watched_version = version;
    node->telling = true;
    for (cal_list *at = node->watches.next; at != &node->watches; at = at->next) {
        cal_member_watch *watch = CAL_CONTAINER_OF(at, cal_member_watch, link);
        if (!watch->removed) look(node, watch);
    }
    node->telling = false;
    sweep(node);
}

void node_watch_close(cal_node *node) {
    while (!cal_list_empty(&node->watches))
        free_watch(CAL_CONTAINER_OF(node->watches.next, cal_member_watch, link));
}

struct watch_request {
    cal_node *node;
    cal_member_watch *watch;
    bool failed;
};

static void add(void *arg) {
    struct watch_request *request = arg;
    gathering now;
    request->failed = !members_now(request->node, &request->watch->group, &now);
    if (request->failed) return;
    request->watch->members = now.members;
    request->watch->count = now.count;
    cal_list_push(&request->node->watches, &request->watch->link);
}

cal_member_watch *cal_member_watch_start(cal_node *node, const cal_group_id *group,
                                         void (*handler)(void *user, const cal_member_event *event),
                                         void *user) {
    cal_member_watch *watch = calloc(1, sizeof *watch);
    if (!watch) return NULL;
    cal_list_init(&watch->link);
    watch->group = *group;
    watch->handler = handler;
    watch->user = user;
    struct watch_request request = {.node = node, .watch = watch};
    cal_node_run(node, add, &request);
    if (!request.failed) return watch;
    free(watch);
    return NULL;
}

static void drop(void *arg) {
    struct watch_request *request = arg;
    request->watch->removed = true;
    if (!request->node->telling) sweep(request->node);
}

void cal_member_watch_stop(cal_node *node, cal_member_watch *watch) {
    if (!watch) return;
    struct watch_request request = {.node = node, .watch = watch};
    cal_node_run(node, drop, &request);
}
