/* Handing out a context's state (network-sync.md 8.4): the requests of a snapshot, answered from
 * views (snapshot.h), each page made on a worker while the one before is on its way. */
#include <stdlib.h>
#include <string.h>

#include "sync/serve.h"
#include "sync/snapshot.h"

typedef struct handing {
    sync_view *view; /* taken */
    sync_burst burst;
    bool begun; /* burst is */
    sync_answer answer;
} handing;

static uint64_t now_ns(const sync_serving *serving) {
    return serving->sync->options.os->mono_ns(serving->sync->options.os->user);
}

/* The stream, or the request, is over; nothing of it is on a worker. */
static void end_handing(sync_serving *serving) {
    handing *hands = serving->state;
    serving->state = NULL;
    serving->more = NULL;
    serving->ended = NULL;
    if (!hands) return;
    if (hands->begun) sync_burst_deinit(&hands->burst);
    if (hands->view) sync_views_give(serving->sync->views, hands->view, now_ns(serving));
    free(hands);
}

static handing *begin_handing(sync_serving *serving) {
    handing *hands = calloc(1, sizeof *hands);
    serving->state = hands;
    serving->ended = hands ? end_handing : NULL;
    return hands;
}

static void refuse(sync_serving *serving) {
    const handing *hands = serving->state;
    sync_answer answer;
    sync_snapshot_refusal(serving->result, hands ? hands->burst.sent : 0, &answer);
    end_handing(serving);
    sync_serving_answer(serving, &answer);
}

/* --- boundary --- */

static int take_view(sync_serving *serving) { /* worker */
    handing *hands = serving->state;
    const sync_request *request = &serving->request;
    bool stream = request->kind == SYNC_SNAPSHOT_STREAM;
    int rc = sync_views_take(serving->sync->views, &request->context,
                             stream ? &request->id : &serving->root, now_ns(serving), &hands->view);
    if (rc == CAL_EINVAL && !stream) /* it has moved on since the loop looked */
        rc = sync_views_take(serving->sync->views, &request->context, NULL, now_ns(serving),
                             &hands->view);
    return rc;
}

static void answer_boundary(sync_serving *serving) {
    const handing *hands = serving->state;
    sync_answer answer = {.kind = SYNC_ANSWER_BOUNDARY,
                          .boundary_ns = sync_wall_ms(serving->sync) * 1000000};
    if (serving->result != 0) {
        refuse(serving);
        return;
    }
    sync_view_boundary(hands->view, &answer.root, &answer.heads);
    sync_serving_answer(serving, &answer);
    end_handing(serving); /* the view waits for the request that follows */
}

/* --- pages --- */

static int make_page(sync_serving *serving) { /* worker */
    handing *hands = serving->state;
    if (!hands->begun) {
        int rc = take_view(serving);
        if (rc == 0) rc = sync_burst_init(&hands->burst, hands->view, &serving->request);
        if (rc != 0) return rc;
        hands->begun = true;
    }
    return sync_burst_next(&hands->burst, now_ns(serving), &hands->answer);
}

static void answer_page(sync_serving *serving);

static void next_page(sync_serving *serving) { sync_serving_work(serving, make_page, answer_page); }

static void answer_page(sync_serving *serving) {
    handing *hands = serving->state;
    if (serving->result == CAL_ENOTFOUND && hands->begun) { /* all of this request has gone */
        end_handing(serving);
        net_messages_expect(serving->messages, NET_REQUEST_TIMEOUT_MS);
        return;
    }
    if (serving->result != 0) {
        refuse(serving);
        return;
    }
    serving->more = next_page;
    sync_serving_answer(serving, &hands->answer);
}

void sync_serve_state(sync_serving *serving) {
    cal_context_record record;
    if (!begin_handing(serving)) {
        sync_serving_decline(serving, true);
        return;
    }
    if (serving->request.kind == SYNC_SNAPSHOT_STREAM) {
        next_page(serving);
        return;
    }
    int rc = cal_contexts_get(serving->sync->options.contexts, &serving->request.context,
                              &serving->arena, &record);
    if (rc == 0) {
        serving->root = record.root;
        sync_serving_work(serving, take_view, answer_boundary);
        return;
    }
    serving->result = rc;
    refuse(serving);
}
