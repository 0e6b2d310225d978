/* Answering peers on /calimero/stream/0.0.2 (network-sync.md 2; governance.md 5.4, 10).
 *
 * One stream carries one request after the other; while one is answered nothing is read. What needs
 * the store is read on a worker. Who asks is who proved the key it names: a request about a context
 * is answered to members of the context's group and to nobody else; before a stranger is refused,
 * whoever hears of a membership only from that stranger gets a moment to hear of it. */
#include "sync/serve.h"

#include <stdlib.h>
#include <string.h>

#include "context/record.h"
#include "sync/context.h"
#include "sync/tree.h"

enum {
    SERVING_WAIT_MS = 5000, /* for governance that may say who the asker is */
    ANSWERED_MS = 60000,    /* a joiner becomes a member, or gives up */
    SERVE_OPS_BYTES_MAX = 6 * 1024 * 1024,
    /* A node of the reference opens a stream for each delta that it cannot place, and asks nobody
     * for a while whose host refused one. */
    SERVINGS_PEER_MAX = 128,
};

/* --- answers --- */

static void send_message(sync_serving *serving, uint8_t kind, const sync_answer *answer) {
    sync_message message = {.kind = kind, .sequence = serving->sequence};
    cal_buffer bytes;
    cal_buffer_init(&bytes, NET_MESSAGE_MAX);
    if (answer) message.answer = *answer;
    cal_random(serving->sync->options.os, message.next_nonce, sizeof message.next_nonce);
    int rc = sync_message_write(&message, &bytes);
    if (rc == 0 && !serving->gone)
        rc = net_messages_send(serving->messages, cal_buffer_slice(&bytes));
    if (rc != 0 && !serving->gone) net_messages_reset(serving->messages);
    serving->sequence++;
    cal_buffer_deinit(&bytes);
}

void sync_serving_answer(sync_serving *serving, const sync_answer *answer) {
    send_message(serving, SYNC_MESSAGE, answer);
}

void sync_serving_decline(sync_serving *serving, bool benign) {
    serving->sync->stats.requests_declined++;
    send_message(serving, benign ? SYNC_NOT_MATERIALIZED : SYNC_OPAQUE_ERROR, NULL);
}

/* --- work that needs the store --- */

static void free_serving(sync_serving *serving) {
    cal_sync *sync = serving->sync;
    if (serving->ended) serving->ended(serving);
    sync_serving_tree_free(serving);
    cal_arena_deinit(&serving->arena);
    cal_buffer_deinit(&serving->out);
    cal_list_remove(&serving->waiting);
    free(serving);
    sync_release(sync);
}

void sync_serving_hold(sync_serving *serving) { serving->working = true; }

bool sync_serving_back(sync_serving *serving) {
    bool gone = serving->gone;
    serving->working = false;
    if (gone) free_serving(serving);
    return !gone;
}

static void worked(cal_task *task) {
    sync_serving *serving = CAL_CONTAINER_OF(task, sync_serving, task);
    if (sync_serving_back(serving)) serving->reply(serving);
}

static void work(cal_task *task) {
    sync_serving *serving = CAL_CONTAINER_OF(task, sync_serving, task);
    const cal_runner *runner = serving->sync->options.runner;
    serving->result = serving->work(serving);
    serving->task.run = worked;
    runner->on_loop(runner->user, &serving->task);
}

void sync_serving_work(sync_serving *serving, int (*fn)(sync_serving *serving),
                       void (*reply)(sync_serving *serving)) {
    const cal_runner *runner = serving->sync->options.runner;
    serving->work = fn;
    serving->reply = reply;
    serving->working = true;
    serving->task.run = work;
    runner->on_worker(runner->user, &serving->task);
}

/* --- governance: history --- */

struct history {
    cal_arena *arena;
    sync_op *ops;
    size_t count;
};

static int note_op(void *user, const cal_hash *id, cal_slice bytes) {
    struct history *history = user;
    uint8_t *copy = cal_arena_copy(history->arena, bytes.data, bytes.len);
    if (!copy) return CAL_ENOMEM;
    history->ops[history->count++] = (sync_op){*id, cal_slice_of(copy, bytes.len)};
    return 0;
}

static int read_history(sync_serving *serving) {
    const sync_request *request = &serving->request;
    struct history history = {.arena = &serving->arena};
    bool join = request->kind == SYNC_JOIN;
    history.ops = cal_arena_alloc_array(&serving->arena, SYNC_OPS_MAX, sizeof *history.ops);
    if (!history.ops) return CAL_ENOMEM;
    int rc = gov_history_read(serving->sync->options.store, &request->namespace_id,
                              join ? NULL : request->ids.items, join ? 0 : request->ids.count, NULL,
                              SYNC_OPS_MAX, SERVE_OPS_BYTES_MAX, note_op, &history);
    serving->ops = history.ops;
    serving->op_count = history.count;
    return rc;
}

static void answer_history(sync_serving *serving) {
    sync_answer answer = {.kind = SYNC_ANSWER_BACKFILL,
                          .ops = {serving->ops, (uint32_t)serving->op_count}};
    if (serving->result != 0)
        sync_serving_decline(serving, false);
    else
        sync_serving_answer(serving, &answer);
}

/* --- governance: joining --- */

static void reject(sync_serving *serving, uint8_t kind, const cal_error *err) {
    sync_answer answer = {.kind = kind, .bytes = cal_slice_text(err->message)};
    serving->sync->stats.joins_refused++;
    sync_serving_answer(serving, &answer);
}

/* Its place among those who were answered; SYNC_ANSWERED_MAX: it has none. */
static size_t place_answered(const cal_sync *sync, const cal_group_id *ns,
                             const cal_public_key *key) {
    size_t at = 0;
    while (at < SYNC_ANSWERED_MAX &&
           (memcmp(&sync->answered[at].joiner.key, key, sizeof *key) != 0 ||
            memcmp(&sync->answered[at].namespace_id, ns, sizeof *ns) != 0))
        at++;
    return at;
}

static void note_answered(cal_sync *sync, const cal_group_id *ns, const gov_joiner *joiner) {
    size_t at = place_answered(sync, ns, &joiner->key);
    if (at == SYNC_ANSWERED_MAX) at = sync->answered_at++ % SYNC_ANSWERED_MAX;
    sync->answered[at].namespace_id = *ns;
    sync->answered[at].joiner = *joiner;
    sync->answered[at].until_ms = sync_now_ms(sync) + ANSWERED_MS;
}

static void answer_join(sync_serving *serving) {
    const gov_join_answer *join = &serving->join;
    sync_answer answer = {
        .kind = SYNC_ANSWER_JOIN,
        .application = join->application,
        .contexts = {(const cal_hash *)(const void *)join->contexts, (uint32_t)join->context_count},
        .default_capabilities = join->default_capabilities};
    cal_slice *ops = cal_arena_alloc_array(&serving->arena, serving->op_count + 1, sizeof *ops);
    if (serving->result == 0 && !ops) serving->result = CAL_ENOMEM;
    if (serving->result == 0 && join->has_envelope)
        serving->result = gov_envelope_write(&join->envelope, &serving->out);
    if (serving->result != 0) {
        sync_serving_decline(serving, false);
        return;
    }
    for (size_t i = 0; i < serving->op_count; i++) ops[i] = serving->ops[i].bytes;
    answer.op_bytes = (sync_parts){ops, (uint32_t)serving->op_count};
    answer.bytes = cal_buffer_slice(&serving->out);
    serving->sync->stats.joins_served++;
    note_answered(serving->sync, &serving->request.namespace_id, &join->joiner);
    sync_serving_answer(serving, &answer);
}

static void serve_join(sync_serving *serving) {
    const sync_request *request = &serving->request;
    cal_error err;
    int rc = gov_join_answer_make(serving->sync->options.gov, &request->namespace_id,
                                  request->invitation, request->credential, &request->key,
                                  &serving->arena, &serving->join, &err);
    if (rc == 0)
        sync_serving_work(serving, read_history, answer_join);
    else
        reject(serving, SYNC_ANSWER_JOIN_REJECTED, &err);
}

static void serve_join_open(sync_serving *serving) {
    const sync_request *request = &serving->request;
    gov_envelope envelope;
    cal_error err;
    int rc = gov_join_open_answer(serving->sync->options.gov, &request->namespace_id,
                                  &request->group, &request->key, &envelope, &err);
    if (rc == 0) rc = gov_envelope_write(&envelope, &serving->out);
    if (rc != 0) {
        reject(serving, SYNC_ANSWER_JOIN_OPEN_REJECTED, &err);
        return;
    }
    serving->sync->stats.joins_served++;
    sync_answer answer = {.kind = SYNC_ANSWER_JOIN_OPEN, .bytes = cal_buffer_slice(&serving->out)};
    sync_serving_answer(serving, &answer);
}

/* --- governance: keys --- Every refusal looks the same (governance.md 18.1, T25). */

/* To whoever was answered and is no member yet. */
static int serve_joiner(const sync_serving *serving, gov_envelope *ret_envelope) {
    const sync_request *request = &serving->request;
    const cal_sync *sync = serving->sync;
    const cal_group_id *ns = &request->namespace_id;
    if (!request->has_key_id || memcmp(ns, &request->group, sizeof *ns) != 0) return CAL_ENOTFOUND;
    size_t at = place_answered(sync, ns, &request->key);
    if (at == SYNC_ANSWERED_MAX || sync_now_ms(sync) >= sync->answered[at].until_ms)
        return CAL_ENOTFOUND;
    return gov_join_key_serve(sync->options.gov, ns, &sync->answered[at].joiner, &request->key_id,
                              ret_envelope);
}

static void serve_key(sync_serving *serving) {
    const sync_request *request = &serving->request;
    cal_gov *gov = serving->sync->options.gov;
    gov_envelope envelope;
    sync_answer answer = {.kind = SYNC_ANSWER_KEY, .author = gov_self(gov)->sign_key};
    int rc = gov_key_serve(gov, &request->namespace_id, &request->group, &request->key,
                           request->has_device ? &request->device : NULL,
                           request->has_key_id ? &request->key_id : NULL, &envelope);
    if (rc != 0) rc = serve_joiner(serving, &envelope);
    if (rc == 0) rc = gov_envelope_write(&envelope, &serving->out);
    if (rc == 0) {
        answer.bytes = cal_buffer_slice(&serving->out);
        serving->sync->stats.keys_served++;
    }
    sync_serving_answer(serving, &answer);
}

/* --- contexts --- */

static void serve_heads(sync_serving *serving) {
    cal_context_record record;
    sync_answer answer = {.kind = SYNC_ANSWER_HEADS};
    int rc = cal_contexts_get(serving->sync->options.contexts, &serving->request.context,
                              &serving->arena, &record);
    if (rc != 0) {
        sync_serving_decline(serving, true);
        return;
    }
    answer.root = record.root;
    answer.heads = (sync_ids){record.heads, (uint32_t)record.head_count};
    serving->sync->stats.heads_served++;
    sync_serving_answer(serving, &answer);
    /* Who asks may take what it then hears of a member only. */
    sync_context *context = sync_context_get(serving->sync, &serving->request.context);
    cal_peer_id peer;
    net_messages_peer(serving->messages, &peer);
    if (context && serving->asked++ == 0) sync_compare_show(context, &peer);
}

static int read_delta(sync_serving *serving) {
    return cal_context_delta_read(serving->sync->options.store, &serving->request.context,
                                  &serving->request.id, &serving->out);
}

int sync_delta_answer(const cal_delta_record *record, cal_buffer *ret_bytes,
                      cal_buffer *ret_position, sync_answer *ret_answer) {
    static const uint8_t no_actions[4];
    sync_causal_delta causal = {.id = record->id,
                                .parents = (const cal_hash *)(const void *)record->parents,
                                .parent_count = (uint32_t)record->parent_count,
                                .actions = cal_slice_of(no_actions, sizeof no_actions),
                                .hlc_time = record->hlc.time};
    if (record->artifact.len > 1)
        causal.actions = cal_slice_of(record->artifact.data + 1, record->artifact.len - 1);
    memcpy(causal.hlc_id, record->hlc.id, sizeof causal.hlc_id);
    *ret_answer = (sync_answer){.kind = SYNC_ANSWER_DELTA};
    int rc = sync_causal_delta_write(&causal, ret_bytes);
    if (rc == 0 && record->has_author) {
        gov_position position;
        gov_hlc hlc;
        cal_delta_envelope(record, &position, &hlc);
        ret_answer->author = record->author;
        ret_answer->has_signature = true;
        memcpy(ret_answer->signature, record->signature, sizeof ret_answer->signature);
        ret_answer->has_position = record->has_position;
        if (record->has_position) rc = gov_position_write(&position, ret_position);
    }
    ret_answer->bytes = cal_buffer_slice(ret_bytes);
    ret_answer->position = cal_buffer_slice(ret_position);
    return rc;
}

static void answer_delta(sync_serving *serving) {
    sync_answer answer = {.kind = SYNC_ANSWER_DELTA_NOT_FOUND};
    cal_delta_record record;
    cal_buffer bytes, position;
    cal_buffer_init(&bytes, NET_MESSAGE_MAX);
    cal_buffer_init(&position, NET_MESSAGE_MAX);
    int rc = serving->result;
    if (rc == 0) rc = cal_delta_record_decode(cal_buffer_slice(&serving->out), &record);
    if (rc == 0 && cal_delta_is_checkpoint(&record)) rc = CAL_ENOTFOUND;
    if (rc == 0) rc = sync_delta_answer(&record, &bytes, &position, &answer);
    if (rc == 0) serving->sync->stats.deltas_served++;
    if (rc == 0 || rc == CAL_ENOTFOUND)
        sync_serving_answer(serving, &answer);
    else
        sync_serving_decline(serving, false);
    cal_buffer_deinit(&bytes);
    cal_buffer_deinit(&position);
}

static void serve_context(sync_serving *serving) {
    switch ((sync_request_kind)serving->request.kind) {
    case SYNC_HEADS:
        serve_heads(serving);
        break;
    case SYNC_DELTA: {
        sync_context *context = sync_context_get(serving->sync, &serving->request.context);
        if (context) sync_past_fetched(context);
        sync_serving_work(serving, read_delta, answer_delta);
        break;
    }
    case SYNC_SNAPSHOT_BOUNDARY_OF:
    case SYNC_SNAPSHOT_STREAM:
        sync_serve_state(serving);
        break;
    case SYNC_TREE_NODE:
    case SYNC_LEVEL:
    case SYNC_PUSH:
    case SYNC_PUSH_DELETIONS:
        sync_serve_tree(serving);
        break;
    default:
        sync_serving_decline(serving, false);
    }
}

/* Whether the asker is a member of the context's group: 0; CAL_EDENIED, not that anybody here
 * knows, or it may turn out that it is none; CAL_ENOTFOUND, the context is in no group here. */
static int may_ask(const sync_serving *serving) {
    cal_gov *gov = serving->sync->options.gov;
    cal_group_id group, ns;
    if (gov_context_group(gov, &serving->request.context, &group, &ns)) return CAL_ENOTFOUND;
    const sync_context *context = sync_context_get(serving->sync, &serving->request.context);
    cal_peer_id peer;
    net_messages_peer(serving->messages, &peer);
    bool held = context && sync_context_held(context, &peer);
    return !held && gov_key_may_read(gov, &group, &serving->party) ? 0 : CAL_EDENIED;
}

static void wait_for_governance(sync_serving *serving) {
    cal_sync *sync = serving->sync;
    sync_namespace *ns = sync_namespace_of(sync, &serving->request.context);
    cal_peer_id peer;
    net_messages_peer(serving->messages, &peer);
    serving->waits_until_ms = sync_now_ms(sync) + SERVING_WAIT_MS;
    cal_list_push(&sync->servings, &serving->waiting);
    if (ns) sync_history_want(ns, &peer, true);
}

static void serve_member(sync_serving *serving) {
    int rc = may_ask(serving);
    if (rc == 0)
        serve_context(serving);
    else if (rc == CAL_EDENIED)
        wait_for_governance(serving);
    else
        sync_serving_decline(serving, false);
}

void sync_servings_look(cal_sync *sync, uint64_t now_ms) {
    for (cal_list *at = sync->servings.next, *next; at != &sync->servings; at = next) {
        sync_serving *serving = CAL_CONTAINER_OF(at, sync_serving, waiting);
        next = at->next;
        int rc = may_ask(serving);
        if (rc == CAL_EDENIED && now_ms < serving->waits_until_ms) continue;
        cal_list_remove(at);
        cal_list_init(at);
        if (rc == 0)
            serve_context(serving);
        else
            sync_serving_decline(serving, false);
    }
}

/* --- requests --- */

static void serve(sync_serving *serving) {
    switch ((sync_request_kind)serving->request.kind) {
    case SYNC_BACKFILL:
        sync_serving_work(serving, read_history, answer_history);
        break;
    case SYNC_JOIN:
        serve_join(serving);
        break;
    case SYNC_JOIN_OPEN:
        serve_join_open(serving);
        break;
    case SYNC_KEY:
        serve_key(serving);
        break;
    case SYNC_DELTA:
    case SYNC_HEADS:
    case SYNC_SNAPSHOT_BOUNDARY_OF:
    case SYNC_SNAPSHOT_STREAM:
    case SYNC_TREE_NODE:
    case SYNC_LEVEL:
    case SYNC_PUSH:
    case SYNC_PUSH_DELETIONS:
        serve_member(serving);
        break;
    default:
        sync_serving_decline(serving, false);
    }
}

/* Whether the asker holds the key it names, where that matters (network-sync.md 2). A push needs no
 * proof there; here it does nothing without one. */
static bool proven(const sync_serving *serving, const sync_init *init) {
    cal_peer_id peer;
    net_messages_peer(serving->messages, &peer);
    bool needed = sync_request_needs_proof(init->request.kind);
    bool joins = init->request.kind == SYNC_JOIN || init->request.kind == SYNC_JOIN_OPEN;
    if (joins && memcmp(&init->request.key, &init->party, sizeof init->party) != 0) return false;
    return !needed || sync_proof_verify(init, &peer);
}

/* A push carries no proof: it is for whoever has proved its key on the same stream. */
static bool may_push(const sync_serving *serving) {
    return serving->has_met && memcmp(&serving->met, &serving->party, sizeof serving->met) == 0;
}

static void meet(sync_serving *serving, const sync_init *init) {
    sync_context *context = sync_context_get(serving->sync, &init->context);
    cal_peer_id peer;
    if (!sync_request_needs_proof(init->request.kind)) return;
    serving->has_met = true;
    serving->met = init->party;
    net_messages_peer(serving->messages, &peer);
    bool joins = init->request.kind == SYNC_JOIN || init->request.kind == SYNC_JOIN_OPEN;
    if (!context || joins) return;
    sync_met(context, &peer, &init->party);
    sync_compare_met(context, &peer);
}

static void on_request(void *user, net_messages *messages, cal_slice bytes) {
    sync_serving *serving = user;
    sync_message message;
    if (!serving) return;
    cal_arena_deinit(&serving->arena);
    cal_arena_init(&serving->arena, SYNC_ARENA_MAX);
    cal_buffer_reset(&serving->out);
    uint8_t *copy = cal_arena_copy(&serving->arena, bytes.data, bytes.len);
    int rc = copy ? sync_message_decode(cal_slice_of(copy, bytes.len), &serving->arena, &message)
                  : CAL_ENOMEM;
    if (rc != 0 || message.kind != SYNC_INIT || serving->sync->stopping) {
        if (rc != 0) serving->sync->stats.malformed++;
        net_messages_reset(messages);
        return;
    }
    serving->request = message.init.request;
    serving->party = message.init.party;
    serving->proven = proven(serving, &message.init);
    bool pushes =
        message.init.request.kind == SYNC_PUSH || message.init.request.kind == SYNC_PUSH_DELETIONS;
    if (serving->proven) meet(serving, &message.init);
    if (!serving->proven || (pushes && !may_push(serving)))
        sync_serving_decline(serving, false);
    else if (serving->request.kind == SYNC_BLOB_SHARE)
        sync_serve_blob(serving, &message.init.context);
    else
        serve(serving);
}

/* One stream may carry many requests, one after the other. */
static void on_sent(void *user, net_messages *messages) {
    sync_serving *serving = user;
    if (serving && serving->more) {
        serving->more(serving);
        return;
    }
    net_messages_expect(messages, NET_REQUEST_TIMEOUT_MS);
}

static void on_opened(void *user, net_messages *messages) {
    cal_sync *sync = user;
    sync_serving *serving = calloc(1, sizeof *serving);
    net_messages_set_user(messages, serving);
    if (!serving) {
        net_messages_reset(messages);
        return;
    }
    serving->sync = sync;
    serving->messages = messages;
    cal_list_init(&serving->waiting);
    cal_arena_init(&serving->arena, SYNC_ARENA_MAX);
    cal_buffer_init(&serving->out, NET_MESSAGE_MAX);
    sync_hold(sync);
}

static void on_ended(void *user, net_messages *messages, int reason) {
    sync_serving *serving = user;
    (void)messages, (void)reason;
    if (!serving) return;
    serving->gone = true;
    if (!serving->working) free_serving(serving);
}

static const net_messages_events request_events = {
    .opened = on_opened, .message = on_request, .sent = on_sent, .ended = on_ended};

int sync_serve(cal_sync *sync) {
    cal_list_init(&sync->servings);
    sync->requests = (net_messages_protocol){.id = NET_STREAM_PROTOCOL,
                                             .events = &request_events,
                                             .user = sync,
                                             .peer_streams_max = SERVINGS_PEER_MAX};
    return net_messages_serve(sync->options.host, &sync->requests);
}
