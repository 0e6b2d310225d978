/* Answering on /calimero-c/sync/1, see bulk.h. One request a stream; its frames are made on a
 * worker, each while nothing of the stream is on its way, so that a peer that reads slowly costs
 * one frame. What is walked over is looked at in steps, between which others have their turn. */
#include <stdlib.h>
#include <string.h>

#include "sync/bulk.h"
#include "sync/snapshot.h"

enum {
    STEP_ROWS = 4096, /* looked at in one task */
    ALIVE_MS = 5000,  /* a frame with nothing, so that the asker goes on waiting */
    SERVE_MS = 15 * 60 * 1000,
    PEER_STREAMS_MAX = 8,
    SERVINGS_MAX = 64,
    COVERED_WALK_MAX = 100000,
    WALKS_MAX = 4, /* each takes up to 100 MiB */
};

typedef struct serving {
    cal_sync *sync;
    net_messages *messages;
    bool gone, working, asked, walks;
    cal_arena arena;
    sync_bulk_request request;
    uint64_t sent_ms;
    /* the worker's while it works */
    sync_walk *walk;
    cal_past compacted; /* of the asker, and of the context here */
    bool walked;
    gov_past past;
    size_t at; /* what is sent next */
    sync_view *view;
    uint8_t end;
    int result;
    cal_buffer frame, row, causal, position;
    cal_task task;
} serving;

static uint64_t now_ns(const serving *s) {
    return s->sync->options.os->mono_ns(s->sync->options.os->user);
}

static void free_serving(serving *s) {
    cal_sync *sync = s->sync;
    if (s->walks) sync->bulk_walks--;
    sync->bulk_servings--;
    sync_walk_free(s->walk);
    cal_past_deinit(&s->compacted);
    gov_past_deinit(&s->past);
    cal_arena_deinit(&s->arena);
    cal_buffer_deinit(&s->frame);
    cal_buffer_deinit(&s->row);
    cal_buffer_deinit(&s->causal);
    cal_buffer_deinit(&s->position);
    free(s);
    sync_release(sync);
}

/* --- deltas: worker --- */

static int start_walk(serving *s) {
    const sync_bulk_request *request = &s->request;
    int rc = 0;
    if (s->walk) return 0;
    bool covered = request->kind == SYNC_BULK_COVERED;
    s->walk = sync_walk_new(s->sync->seed, covered ? COVERED_WALK_MAX : request->max);
    if (!s->walk) return CAL_ENOMEM;
    if (!covered) rc = cal_past_decode(request->marks, &s->compacted);
    if (!covered) sync_walk_past(s->walk, &s->compacted);
    for (uint32_t i = 0; i < request->ids.count && rc == 0; i++)
        rc = sync_walk_add(s->walk, &request->ids.items[i], false);
    for (uint32_t i = 0; i < request->known.count && rc == 0; i++)
        rc = sync_walk_add(s->walk, &request->known.items[i], true);
    return rc;
}

/* One that no frame takes, or that is not here any more, is left to the network's way. */
static int add_delta(serving *s, const cal_hash *id, uint32_t *count) {
    cal_delta_record record;
    sync_answer answer;
    cal_buffer_reset(&s->row);
    cal_buffer_reset(&s->causal);
    cal_buffer_reset(&s->position);
    int rc = cal_context_delta_read(s->sync->options.store, &s->request.context, id, &s->row);
    if (rc == 0) rc = cal_delta_record_decode(cal_buffer_slice(&s->row), &record);
    if (rc == 0) rc = sync_delta_answer(&record, &s->causal, &s->position, &answer);
    if (rc == CAL_ENOTFOUND || rc == CAL_ELIMIT || (rc == 0 && answer.bytes.len > SYNC_DELTA_MAX)) {
        s->end = SYNC_BULK_PART;
        return 0;
    }
    if (rc != 0) return rc;
    sync_bulk_delta delta = {.bytes = answer.bytes,
                             .author = answer.author,
                             .has_position = answer.has_position,
                             .has_signature = answer.has_signature,
                             .has_app_key = record.has_app_key,
                             .position = answer.position,
                             .root = record.root,
                             .app_key = record.app_key};
    memcpy(delta.signature, answer.signature, sizeof delta.signature);
    if (record.events.len <= SYNC_BULK_EVENTS_MAX) delta.events = record.events;
    ++*count;
    return sync_bulk_frame_delta(&delta, &s->frame);
}

static int make_deltas(serving *s) {
    uint32_t count = 0;
    int rc = 0;
    if (!s->walked) {
        rc = start_walk(s);
        if (rc == 0)
            rc = sync_walk_step(s->walk, s->sync->options.store, &s->request.context, STEP_ROWS);
        if (rc != 0) return rc;
        s->walked = true;
        s->end = sync_walk_ended_short(s->walk) ? SYNC_BULK_PART : SYNC_BULK_WHOLE;
    }
    sync_bulk_frame_begin(s->request.kind, &s->frame);
    while (rc == 0 && s->at < sync_walk_count(s->walk) && count < SYNC_BULK_ITEMS_MAX &&
           s->frame.len < SYNC_BULK_FRAME_BYTES) {
        const cal_hash *id = sync_walk_at(s->walk, s->at++);
        if (id) rc = add_delta(s, id, &count);
    }
    if (rc != 0) return rc;
    bool more = s->at < sync_walk_count(s->walk);
    return sync_bulk_frame_end(count, more ? SYNC_BULK_MORE : s->end, &s->frame);
}

/* --- what a state covers: worker --- */

/* Whether what was compacted away here had the one asked about, made before `before`. */
static bool was_compacted(const serving *s, uint32_t i, uint64_t before) {
    const sync_bulk_request *request = &s->request;
    cal_public_key author;
    if (request->marks.len == 0) return false;
    const uint8_t *mark = request->marks.data + (size_t)i * CAL_PAST_MARK_SIZE;
    memcpy(author.bytes, mark, sizeof author.bytes);
    uint64_t time = cal_read_u64le(mark + sizeof author.bytes);
    return time < before && cal_past_has(&s->compacted, &author, time);
}

static int look_in_view(serving *s, uint8_t *covered) {
    const sync_bulk_request *request = &s->request;
    int rc = sync_views_take_at(s->sync->views, &request->context, &request->root, &request->known,
                                now_ns(s), &s->view);
    if (rc == 0) rc = sync_view_past(s->view, &s->compacted);
    for (uint32_t i = 0; rc == 0 && i < request->ids.count; i++) {
        rc = sync_view_covers(s->view, &request->ids.items[i]);
        covered[i] = rc == 0 || was_compacted(s, i, UINT64_MAX);
        if (rc == CAL_ENOTFOUND) rc = 0;
    }
    if (s->view) sync_views_give(s->sync->views, s->view, now_ns(s));
    s->view = NULL;
    return rc;
}

/* What was compacted away and is older than all heads of the state lies below them: it is the
 * oldest that goes. */
static int look_in_past(serving *s, uint8_t *covered) {
    const sync_bulk_request *request = &s->request;
    cal_snapshot *snapshot = NULL;
    uint64_t before = UINT64_MAX;
    cal_past_deinit(&s->compacted);
    int rc = cal_store_snapshot(s->sync->options.store, &snapshot);
    if (rc == 0) rc = cal_past_read(snapshot, &request->context, &s->compacted);
    cal_snapshot_free(snapshot);
    for (uint32_t i = 0; rc == 0 && i < request->known.count; i++) {
        cal_delta_record head;
        cal_buffer_reset(&s->row);
        rc = cal_context_delta_read(s->sync->options.store, &request->context,
                                    &request->known.items[i], &s->row);
        if (rc == 0) rc = cal_delta_record_decode(cal_buffer_slice(&s->row), &head);
        if (rc == 0 && head.hlc.time < before) before = head.hlc.time;
        if (rc == CAL_ENOTFOUND) return 0; /* a state that is not known here */
    }
    for (uint32_t i = 0; rc == 0 && i < request->ids.count; i++)
        covered[i] = covered[i] || was_compacted(s, i, before);
    return rc;
}

static uint64_t mark_time(const sync_bulk_request *request, uint32_t i) {
    const uint8_t *marks = request->marks.data;
    return request->marks.len ? cal_read_u64le(marks + (size_t)i * CAL_PAST_MARK_SIZE + 32) : 0;
}

/* Of what lies below a state that was taken whole, or was compacted away, nothing more is known
 * here than rows and marks say: what they do not speak of may be there all the same. */
static bool is_sure(serving *s, const uint8_t *covered) {
    const sync_bulk_request *request = &s->request;
    cal_delta_record boundary;
    uint64_t unknown_until = s->compacted.count > 0;
    cal_buffer_reset(&s->row);
    int rc = cal_context_boundary(s->sync->options.store, &request->context, &s->row);
    if (rc == 0) rc = cal_delta_record_decode(cal_buffer_slice(&s->row), &boundary);
    if (rc == 0) unknown_until = boundary.hlc.time;
    for (uint32_t i = 0; i < request->ids.count; i++)
        if (!covered[i] && mark_time(request, i) < unknown_until) return false;
    return rc == 0 || rc == CAL_ENOTFOUND;
}

/* The view that the state was read from, while there is one: it knows what is here only by a state,
 * too. Otherwise what lies below the state's heads, as far as it is stored. */
static int make_covered(serving *s) {
    const sync_bulk_request *request = &s->request;
    uint8_t *covered = cal_arena_alloc(&s->arena, request->ids.count + 1);
    if (!covered) return CAL_ENOMEM;
    bool viewed = !s->walk && look_in_view(s, covered) == 0;
    if (!viewed) {
        int rc = start_walk(s);
        if (rc == 0)
            rc = sync_walk_step(s->walk, s->sync->options.store, &request->context, STEP_ROWS);
        if (rc != 0) return rc;
        for (uint32_t i = 0; i < request->ids.count; i++)
            covered[i] = sync_walk_knows(s->walk, &request->ids.items[i]);
        rc = look_in_past(s, covered);
        if (rc != 0) return rc;
    }
    bool whole = (viewed || sync_walk_knows_all(s->walk)) && is_sure(s, covered);
    sync_bulk_answer answer = {.kind = request->kind,
                               .end = whole ? SYNC_BULK_WHOLE : SYNC_BULK_PART,
                               .covered = cal_slice_of(covered, request->ids.count)};
    return sync_bulk_answer_write(&answer, &s->frame);
}

/* --- history: worker --- */

struct adding {
    serving *s;
    uint32_t count;
};

static int add_op(void *user, const cal_hash *id, cal_slice bytes) {
    struct adding *adding = user;
    serving *s = adding->s;
    sync_op op = {*id, bytes};
    if (bytes.len > SYNC_BULK_OP_MAX) {
        s->end = SYNC_BULK_PART;
        return 0;
    }
    if (adding->count > 0 && s->frame.len + bytes.len > SYNC_BULK_OP_MAX) return CAL_ELIMIT;
    adding->count++;
    return sync_bulk_frame_op(&op, &s->frame);
}

static int make_history(serving *s) {
    cal_store *store = s->sync->options.store;
    struct adding adding = {.s = s};
    if (!s->walked) {
        int rc = gov_past_step(store, &s->past, STEP_ROWS);
        if (rc != 0) return rc;
        s->walked = true;
        s->end = SYNC_BULK_WHOLE;
    }
    bool more;
    sync_bulk_frame_begin(s->request.kind, &s->frame);
    int rc = gov_past_read(store, &s->past, SYNC_BULK_ITEMS_MAX, SYNC_BULK_FRAME_BYTES, add_op,
                           &adding, &more);
    if (rc != 0) return rc;
    return sync_bulk_frame_end(adding.count, more ? SYNC_BULK_MORE : s->end, &s->frame);
}

/* --- to and fro --- */

static void next_frame(serving *s);

static void send_frame(serving *s) {
    s->sent_ms = sync_now_ms(s->sync);
    sync_context *context =
        s->request.kind == SYNC_BULK_DELTAS ? sync_context_get(s->sync, &s->request.context) : NULL;
    if (context) sync_past_fetched(context);
    if (net_messages_send(s->messages, cal_buffer_slice(&s->frame)))
        net_messages_reset(s->messages);
}

static void answer_end(serving *s, uint8_t end) {
    sync_bulk_answer answer = {.kind = s->request.kind, .end = end};
    s->end = end;
    cal_buffer_reset(&s->frame);
    if (sync_bulk_answer_write(&answer, &s->frame))
        net_messages_reset(s->messages);
    else
        send_frame(s);
}

static void worked(cal_task *task) {
    serving *s = CAL_CONTAINER_OF(task, serving, task);
    s->working = false;
    if (s->gone) {
        free_serving(s);
    } else if (s->sync->stopping) {
        net_messages_reset(s->messages);
    } else if (s->result == CAL_EBUSY) {
        if (sync_now_ms(s->sync) < s->sent_ms + ALIVE_MS)
            next_frame(s);
        else
            answer_end(s, SYNC_BULK_MORE);
    } else if (s->result == CAL_ELIMIT) {
        answer_end(s, SYNC_BULK_PART);
    } else if (s->result != 0) {
        s->sync->stats.requests_declined++;
        answer_end(s, SYNC_BULK_REFUSED);
    } else {
        send_frame(s);
    }
}

static void work(cal_task *task) {
    serving *s = CAL_CONTAINER_OF(task, serving, task);
    const cal_runner *runner = s->sync->options.runner;
    cal_buffer_reset(&s->frame);
    s->result = s->request.kind == SYNC_BULK_DELTAS    ? make_deltas(s)
                : s->request.kind == SYNC_BULK_COVERED ? make_covered(s)
                                                       : make_history(s);
    s->task.run = worked;
    runner->on_loop(runner->user, &s->task);
}

static void next_frame(serving *s) {
    const cal_runner *runner = s->sync->options.runner;
    s->working = true;
    s->task.run = work;
    runner->on_worker(runner->user, &s->task);
}

/* Whether a frame that has gone was the last one is said in it. */
static void on_sent(void *user, net_messages *messages) {
    serving *s = user;
    if (!s) return;
    bool last = s->frame.len > 0 && s->frame.data[s->frame.len - 1] != SYNC_BULK_MORE;
    if (last)
        net_messages_finish(messages);
    else if (!s->working)
        next_frame(s);
}

/* --- requests --- */

static bool may_ask(const serving *s) {
    cal_gov *gov = s->sync->options.gov;
    sync_init init = {.request = {.kind = SYNC_HEADS},
                      .context = s->request.context,
                      .party = s->request.party,
                      .has_proof = true};
    cal_peer_id peer;
    cal_group_id group, ns;
    const sync_context *context = sync_context_get(s->sync, &s->request.context);
    net_messages_peer(s->messages, &peer);
    if (context && sync_context_held(context, &peer)) return false;
    memcpy(init.proof, s->request.proof, sizeof init.proof);
    return sync_proof_verify(&init, &peer) &&
           gov_context_group(gov, &s->request.context, &group, &ns) == 0 &&
           gov_key_may_read(gov, &group, &s->request.party);
}

static int begin_serving(serving *s) {
    const sync_bulk_request *request = &s->request;
    cal_sync *sync = s->sync;
    if (request->kind != SYNC_BULK_HISTORY && !may_ask(s)) return CAL_EDENIED;
    if (request->kind == SYNC_BULK_HISTORY)
        return gov_past_init(sync->options.gov, &request->namespace_id, request->ids.items,
                             request->ids.count, &s->past);
    if (sync->bulk_walks >= WALKS_MAX) return CAL_EOVERLOAD;
    sync->bulk_walks++;
    s->walks = true;
    return 0;
}

static void on_request(void *user, net_messages *messages, cal_slice bytes) {
    serving *s = user;
    if (!s || s->asked) return;
    s->asked = true;
    uint8_t *copy = cal_arena_copy(&s->arena, bytes.data, bytes.len);
    int rc = copy ? sync_bulk_request_decode(cal_slice_of(copy, bytes.len), &s->arena, &s->request)
                  : CAL_ENOMEM;
    if (rc != 0 || s->sync->stopping) {
        if (rc != 0) s->sync->stats.malformed++;
        net_messages_reset(messages);
        return;
    }
    s->sent_ms = sync_now_ms(s->sync);
    if (begin_serving(s) != 0) {
        s->sync->stats.requests_declined++;
        answer_end(s, SYNC_BULK_REFUSED);
        return;
    }
    s->sync->stats.bulk_served++;
    next_frame(s);
}

static void on_opened(void *user, net_messages *messages) {
    cal_sync *sync = user;
    serving *s = sync->bulk_servings < SERVINGS_MAX ? calloc(1, sizeof *s) : NULL;
    net_messages_set_user(messages, s);
    if (!s) {
        net_messages_reset(messages);
        return;
    }
    s->sync = sync;
    s->messages = messages;
    cal_arena_init(&s->arena, SYNC_ARENA_MAX);
    cal_buffer_init(&s->frame, NET_MESSAGE_MAX);
    cal_buffer_init(&s->row, CAL_STORE_VALUE_MAX);
    cal_buffer_init(&s->causal, NET_MESSAGE_MAX);
    cal_buffer_init(&s->position, NET_MESSAGE_MAX);
    sync->bulk_servings++;
    sync_hold(sync);
}

static void on_ended(void *user, net_messages *messages, int reason) {
    serving *s = user;
    (void)messages, (void)reason;
    if (!s) return;
    s->gone = true;
    if (!s->working) free_serving(s);
}

static const net_messages_events serve_events = {
    .opened = on_opened, .message = on_request, .sent = on_sent, .ended = on_ended};

int sync_bulk_serve(cal_sync *sync) {
    sync->bulk = (net_messages_protocol){.id = SYNC_BULK_PROTOCOL,
                                         .session_ms = SERVE_MS,
                                         .peer_streams_max = PEER_STREAMS_MAX,
                                         .events = &serve_events,
                                         .user = sync};
    return net_messages_serve(sync->options.host, &sync->bulk);
}
