/* Subscriptions: who wants to hear of which context. Loop thread; see include/calimero/context.h.
 */
#include <stdlib.h>

#include "node/internal.h"

struct cal_subscription {
    cal_list link;
    bool all, removed;
    cal_context_id context;
    cal_event_handler handler;
    void *user;
};

static void sweep(cal_node *node) {
    for (cal_list *at = node->subscriptions.next, *next; at != &node->subscriptions; at = next) {
        next = at->next;
        cal_subscription *subscription = CAL_CONTAINER_OF(at, cal_subscription, link);
        if (!subscription->removed) continue;
        cal_list_remove(at);
        free(subscription);
    }
}

void node_event(void *user, const cal_event *event) {
    cal_node *node = user;
    node->events++;
    node->delivering = true;
    for (cal_list *at = node->subscriptions.next; at != &node->subscriptions; at = at->next) {
        const cal_subscription *subscription = CAL_CONTAINER_OF(at, cal_subscription, link);
        if (subscription->removed) continue;
        if (!subscription->all &&
            memcmp(&subscription->context, &event->context, sizeof event->context) != 0)
            continue;
        subscription->handler(subscription->user, event);
    }
    node->delivering = false;
    sweep(node);
}

struct subscription_request {
    cal_node *node;
    cal_subscription *subscription;
};

static void add(void *arg) {
    struct subscription_request *request = arg;
    cal_list_push(&request->node->subscriptions, &request->subscription->link);
}

static void drop(void *arg) {
    struct subscription_request *request = arg;
    request->subscription->removed = true;
    if (!request->node->delivering) sweep(request->node);
}

cal_subscription *cal_subscribe(cal_node *node, const cal_context_id *context,
                                cal_event_handler handler, void *user) {
    cal_subscription *subscription = calloc(1, sizeof *subscription);
    if (!subscription) return NULL;
    cal_list_init(&subscription->link);
    subscription->all = context == NULL;
    if (context) subscription->context = *context;
    subscription->handler = handler;
    subscription->user = user;
    struct subscription_request request = {node, subscription};
    cal_node_run(node, add, &request);
    return subscription;
}

void cal_unsubscribe(cal_node *node, cal_subscription *subscription) {
    if (!subscription) return;
    struct subscription_request request = {node, subscription};
    cal_node_run(node, drop, &request);
}

void node_events_close(cal_node *node) {
    for (cal_list *at; (at = cal_list_pop(&node->subscriptions)) != NULL;)
        free(CAL_CONTAINER_OF(at, cal_subscription, link));
}
