/* Governance of one namespace on its topic (governance.md 5.1-5.3, 6).
 *
 * What comes, by gossip or in answer to a question, is taken in, verified on a worker, and judged
 * by gov_receive in batches, one at a time; the next is verified meanwhile. What this node signs is
 * published when it is durable: the observer hears of each change, whoever made it. Beacons say how
 * far a node is; one that names an operation that is not here makes this node ask for it
 * (history.c). */
#include <stdlib.h>
#include <string.h>

#include "sync/internal.h"

enum {
    BATCH_MAX = GOV_RECEIVE_OPS_MAX / 2, /* the rest of a call is for what waited for them */
    BATCH_BYTES_MAX = 4 * 1024 * 1024,
    BEACON_QUIET_MS = 30000, /* between beacons when nothing has changed */
    BEACON_SOON_MS = GOV_BEACON_INTERVAL_MS / 2,
    HEARTBEAT_HEADS_MAX = 256,
};

/* Operations of one peer, being verified and judged. */
typedef struct sync_batch {
    gov_commit commit;
    cal_task task;
    sync_namespace *ns;
    uint64_t sender;
    bool verified;
    cal_list items; /* of sync_intake */
    size_t count;
    gov_verified *ops[BATCH_MAX];
    sync_intake *item_of[BATCH_MAX];
} sync_batch;

static void next_batch(sync_namespace *ns);

/* --- publishing --- */

static void publish(sync_namespace *ns, const gov_topic_message *message, const cal_hash *id,
                    gov_ids parents) {
    cal_buffer payload, bytes;
    cal_buffer_init(&payload, GOV_OP_GOSSIP_MAX);
    cal_buffer_init(&bytes, 2 * GOV_OP_GOSSIP_MAX + GOV_PARENTS_MAX * 32);
    int rc = gov_topic_write(message, &payload);
    gov_broadcast broadcast = {.kind = GOV_BROADCAST_DELTA,
                               .namespace_id = ns->id,
                               .ids = parents,
                               .payload = cal_buffer_slice(&payload)};
    if (id) broadcast.delta = *id;
    if (rc == 0) rc = gov_broadcast_write(&broadcast, &bytes);
    if (rc == 0) sync_publish(ns->sync, ns->topic, cal_buffer_slice(&bytes));
    cal_buffer_deinit(&payload);
    cal_buffer_deinit(&bytes);
}

/* Too long a one is not gossiped: peers hear of it by a beacon, and fetch it. */
static void publish_op(sync_namespace *ns, cal_slice op) {
    gov_topic_message message = {.kind = GOV_TOPIC_OP, .op_bytes = op};
    cal_arena arena;
    cal_hash id;
    cal_arena_init(&arena, SYNC_ARENA_MAX);
    if (gov_signed_op_decode(op, &arena, &message.op) == 0) {
        gov_signed_op_id(&message.op, &id);
        publish(ns, &message, &id, message.op.parents);
        ns->sync->stats.ops_published++;
    }
    cal_arena_deinit(&arena);
}

static void publish_ack(sync_namespace *ns, cal_slice op) {
    gov_topic_message message = {.kind = GOV_TOPIC_ACK};
    const gov_identity *self = gov_self(ns->sync->options.gov);
    if (gov_ack_hash(ns->topic, op, &message.ack.op_hash) ||
        gov_ack_sign(&message.ack, &self->sign_seed))
        return;
    publish(ns, &message, NULL, (gov_ids){0});
    ns->sync->stats.acks_sent++;
}

/* One head fits into a beacon; all of them into the message that only logs at the reference. */
static void publish_heads(sync_namespace *ns, const cal_hash *heads, size_t count) {
    cal_buffer bytes;
    cal_buffer_init(&bytes, 64 + HEARTBEAT_HEADS_MAX * 32);
    gov_broadcast broadcast = {
        .kind = GOV_BROADCAST_HEARTBEAT, .namespace_id = ns->id, .ids = {heads, (uint32_t)count}};
    if (gov_broadcast_write(&broadcast, &bytes) == 0)
        sync_publish(ns->sync, ns->topic, cal_buffer_slice(&bytes));
    cal_buffer_deinit(&bytes);
}

static void send_beacon(sync_namespace *ns, uint64_t now_ms) {
    cal_sync *sync = ns->sync;
    cal_hash heads[HEARTBEAT_HEADS_MAX];
    gov_topic_message message = {.kind = GOV_TOPIC_BEACON};
    cal_peer_id hearer;
    ns->beacon_due_ms = now_ms + BEACON_QUIET_MS;
    if (gov_namespace_joining(sync->options.gov, &ns->id) ||
        sync_hearers(sync, ns->topic, &hearer, 1) == 0)
        return;
    size_t count = gov_heads(sync->options.gov, &ns->id, heads, HEARTBEAT_HEADS_MAX);
    if (count == 0) return;
    ns->beacon_sent_ms = now_ms;
    message.beacon = (gov_beacon){.namespace_id = ns->id,
                                  .head = heads[count - 1],
                                  .applied_through = gov_op_count(sync->options.gov, &ns->id),
                                  .at_ms = sync_wall_ms(sync),
                                  .strong = true};
    if (gov_beacon_sign(&message.beacon, &gov_self(sync->options.gov)->sign_seed)) return;
    publish(ns, &message, NULL, (gov_ids){0});
    sync->stats.beacons_sent++;
    if (count > 1) publish_heads(ns, heads, count);
}

void sync_namespace_beacon(sync_namespace *ns) {
    uint64_t due = ns->beacon_sent_ms + BEACON_SOON_MS;
    if (due < ns->beacon_due_ms || ns->beacon_due_ms == 0) ns->beacon_due_ms = due;
}

/* --- taking in --- */

bool sync_namespace_busy(const sync_namespace *ns) {
    return ns->batch || ns->ahead || !cal_list_empty(&ns->intake);
}

static void leave_intake(sync_namespace *ns, sync_intake *item) {
    ns->intake_used.count--;
    ns->intake_used.bytes -= item->len;
    sync_share_leave(&ns->shares, item->share, item->len);
    item->share = NULL;
}

/* NULL: no room, or no memory. */
static sync_share *room_for(sync_namespace *ns, const cal_peer_id *peer, size_t len) {
    static const sync_usage limit = {SYNC_INTAKE_MAX, SYNC_INTAKE_BYTES_MAX};
    sync_share *share = sync_share_of(&ns->shares, cal_slice_of(peer->bytes, peer->len));
    if (!share || sync_share_fits(share, &ns->intake_used, &limit, len)) return share;
    sync_share_unused(&ns->shares, share);
    return NULL;
}

bool sync_namespace_take(sync_namespace *ns, const cal_peer_id *peer, bool gossip, cal_slice op) {
    if (ns->sync->stopping || ns->gone) return false;
    sync_share *share = room_for(ns, peer, op.len);
    sync_intake *item = share ? malloc(sizeof *item + op.len) : NULL;
    if (!item) {
        sync_share_unused(&ns->shares, share);
        return false;
    }
    *item = (sync_intake){.peer = *peer, .share = share, .gossip = gossip, .len = op.len};
    memcpy(item->bytes, op.data, op.len);
    cal_list_push(&ns->intake, &item->link);
    ns->intake_used.count++;
    ns->intake_used.bytes += op.len;
    sync_share_enter(share, op.len);
    ns->sync->stats.ops_received++;
    next_batch(ns);
    return true;
}

static void free_intake(sync_namespace *ns) {
    cal_list *at;
    while ((at = cal_list_pop(&ns->intake))) {
        sync_intake *item = CAL_CONTAINER_OF(at, sync_intake, link);
        leave_intake(ns, item);
        free(item);
    }
}

static void free_items(cal_list *items) {
    cal_list *at;
    while ((at = cal_list_pop(items))) free(CAL_CONTAINER_OF(at, sync_intake, link));
}

/* All that waits is judged: whoever waited for that goes on. */
static void settle(sync_namespace *ns) {
    sync_history_judged(ns);
    sync_history_tick(ns, sync_now_ms(ns->sync)); /* it may have been wanted meanwhile */
    sync_joins_judged(ns);
    sync_servings_look(ns->sync, sync_now_ms(ns->sync));
}

static void free_batch(sync_batch *batch) {
    if (!batch) return;
    for (size_t i = 0; i < batch->count; i++) gov_verified_free(batch->ops[i]);
    free_items(&batch->items);
    free(batch);
}

static void end_batch(sync_batch *batch) {
    sync_namespace *ns = batch->ns;
    cal_sync *sync = ns->sync;
    free_batch(batch);
    ns->batch = NULL;
    next_batch(ns);
    if (!ns->batch && !ns->ahead) settle(ns);
    sync_release(sync);
}

/* The change is durable and not yet gone: what became of each operation. */
static void batch_durable(gov_commit *commit) {
    sync_batch *batch = CAL_CONTAINER_OF(commit, sync_batch, commit);
    cal_sync_stats *stats = &batch->ns->sync->stats;
    size_t count = 0;
    bool lacks = false;
    cal_hash one;
    const gov_receipt *receipts = gov_change_receipts(commit->change, &count);
    for (size_t i = 0; i < count; i++) {
        bool placed = receipts[i].verdict == GOV_APPLIED || receipts[i].verdict == GOV_KEPT;
        stats->ops_applied += placed && !receipts[i].known;
        stats->ops_refused += receipts[i].verdict == GOV_REFUSED;
        if (receipts[i].verdict != GOV_APPLIED && receipts[i].verdict != GOV_WAITING)
            cal_log(CAL_LOG_DEBUG, "sync", "a governance operation was %s: %s",
                    gov_verdict_text(receipts[i].verdict), gov_reason_text(receipts[i].reason));
        if (i >= batch->count) continue;
        const sync_intake *item = batch->item_of[i];
        if (receipts[i].reason == GOV_WHY_VERSION && item->len > 0)
            sync_foreign_op(batch->ns, &item->peer, item->bytes[0]);
        if (item->gossip && placed && !receipts[i].known)
            publish_ack(batch->ns, cal_slice_of(item->bytes, item->len));
        lacks = lacks ||
                (receipts[i].verdict == GOV_WAITING && receipts[i].wait.kind == GOV_WAIT_PARENT);
    }
    if (lacks && gov_missing(batch->ns->sync->options.gov, &batch->ns->id, &one, 1) > 0)
        sync_history_want(batch->ns, &batch->item_of[0]->peer, false);
}

static void batch_finished(gov_commit *commit, const cal_error *err) {
    sync_batch *batch = CAL_CONTAINER_OF(commit, sync_batch, commit);
    if (err) {
        cal_log(CAL_LOG_WARN, "sync", "%zu governance operations could not be taken in: %s",
                batch->count, err->message);
        batch->ns->batch_due_ms = sync_now_ms(batch->ns->sync) + SYNC_RETRY_MIN_MS;
    }
    end_batch(batch);
}

static int batch_prepare(gov_commit *commit, cal_error *err) {
    sync_batch *batch = CAL_CONTAINER_OF(commit, sync_batch, commit);
    return gov_receive(batch->ns->sync->options.gov, &batch->ns->id, batch->ops, batch->count,
                       batch->sender, &commit->change, err);
}

static void judge_batch(cal_task *task) {
    gov_commit_run(&CAL_CONTAINER_OF(task, sync_batch, task)->commit);
}

static void drop_ahead(sync_namespace *ns) {
    if (!ns->ahead || !ns->ahead->verified) return;
    free_batch(ns->ahead);
    ns->ahead = NULL;
}

static void batch_verified(cal_task *task) {
    sync_batch *batch = CAL_CONTAINER_OF(task, sync_batch, task);
    sync_namespace *ns = batch->ns;
    size_t kept = 0; /* what could not be verified for want of memory comes again */
    for (size_t i = 0; i < batch->count; i++) {
        if (!batch->ops[i]) continue;
        batch->item_of[kept] = batch->item_of[i];
        batch->ops[kept++] = batch->ops[i];
    }
    batch->count = kept;
    batch->verified = true;
    if (ns->gone) drop_ahead(ns);
    next_batch(ns);
    sync_release(ns->sync);
}

static void verify_batch(cal_task *task) { /* worker */
    sync_batch *batch = CAL_CONTAINER_OF(task, sync_batch, task);
    const cal_runner *runner = batch->ns->sync->options.runner;
    for (size_t i = 0; i < batch->count; i++) {
        const sync_intake *item = batch->item_of[i];
        if (gov_verify(cal_slice_of(item->bytes, item->len), &batch->ops[i])) batch->ops[i] = NULL;
    }
    batch->task.run = batch_verified;
    runner->on_loop(runner->user, &batch->task);
}

static void fill_batch(sync_batch *batch) {
    sync_namespace *ns = batch->ns;
    size_t bytes = 0;
    while (!cal_list_empty(&ns->intake) && batch->count < BATCH_MAX) {
        sync_intake *item = CAL_CONTAINER_OF(ns->intake.next, sync_intake, link);
        uint64_t sender = sync_sender(&item->peer);
        if (batch->count && (sender != batch->sender || bytes + item->len > BATCH_BYTES_MAX)) break;
        cal_list_remove(&item->link);
        cal_list_push(&batch->items, &item->link);
        leave_intake(ns, item);
        bytes += item->len;
        batch->sender = sender;
        batch->item_of[batch->count++] = item;
    }
}

static sync_batch *new_batch(sync_namespace *ns) {
    sync_batch *batch = calloc(1, sizeof *batch);
    if (!batch) return NULL; /* the next tick tries again */
    batch->ns = ns;
    cal_list_init(&batch->items);
    batch->commit = (gov_commit){.committer = ns->sync->options.committer,
                                 .owner = ns->sync,
                                 .namespace_id = ns->id,
                                 .prepare = batch_prepare,
                                 .durable = batch_durable,
                                 .finished = batch_finished};
    return batch;
}

static void verify_soon(sync_namespace *ns) {
    const cal_runner *runner = ns->sync->options.runner;
    if (!(ns->ahead = new_batch(ns))) return;
    fill_batch(ns->ahead);
    ns->ahead->task.run = verify_batch;
    sync_hold(ns->sync);
    runner->on_worker(runner->user, &ns->ahead->task);
}

/* Never from inside the end of the one before. */
static void judge_soon(sync_namespace *ns, sync_batch *batch) {
    const cal_runner *runner = ns->sync->options.runner;
    if (!(ns->batch = batch)) return;
    batch->task.run = judge_batch;
    sync_hold(ns->sync);
    runner->on_loop(runner->user, &batch->task);
}

/* What came next, or what waited in gov and can be judged now. */
static void next_batch(sync_namespace *ns) {
    cal_sync *sync = ns->sync;
    if (sync->stopping || ns->gone) return;
    if (sync_now_ms(sync) < ns->batch_due_ms) return; /* the tick tries again */
    if (!ns->batch && ns->ahead && ns->ahead->verified) {
        judge_soon(ns, ns->ahead);
        ns->ahead = NULL;
    }
    if (!ns->ahead && !cal_list_empty(&ns->intake)) verify_soon(ns);
    if (!ns->batch && !ns->ahead && gov_receive_pending(sync->options.gov, &ns->id))
        judge_soon(ns, new_batch(ns));
}

/* --- hearing --- */

static void hear_beacon(sync_namespace *ns, const gov_beacon *beacon, const cal_peer_id *peer) {
    cal_sync *sync = ns->sync;
    cal_public_key key;
    memcpy(key.bytes, beacon->peer, sizeof key.bytes);
    bool ahead = beacon->at_ms > sync_wall_ms(sync) + GOV_BEACON_AHEAD_MS;
    bool stale = beacon->at_ms + GOV_BEACON_TTL_MS < sync_wall_ms(sync);
    if (ahead || stale || memcmp(&beacon->namespace_id, &ns->id, sizeof ns->id) != 0 ||
        !gov_beacon_verify(beacon))
        return;
    sync->stats.beacons_received++;
    if (gov_knows_op(sync->options.gov, &ns->id, &beacon->head) != CAL_ENOTFOUND) {
        /* Who is behind may have come anew without being missed, and hears how far we are. */
        if (beacon->applied_through < gov_op_count(sync->options.gov, &ns->id))
            sync_namespace_beacon(ns);
        return;
    }
    /* Of somebody unknown, too: it may be a member since the operation that is not here. */
    sync_history_want(ns, peer, true);
}

static void hear_heads(sync_namespace *ns, const gov_broadcast *broadcast,
                       const cal_peer_id *peer) {
    if (broadcast->ids.count > HEARTBEAT_HEADS_MAX) return;
    for (uint32_t i = 0; i < broadcast->ids.count; i++) {
        if (gov_knows_op(ns->sync->options.gov, &ns->id, &broadcast->ids.items[i]) != CAL_ENOTFOUND)
            continue;
        sync_history_want(ns, peer, true);
        return;
    }
}

static void hear_ack(sync_namespace *ns, const gov_ack *ack) {
    if (gov_ack_verify(ack)) ns->sync->stats.acks_received++;
}

static int hear(sync_namespace *ns, const cal_p2p_message *message, cal_arena *arena) {
    gov_broadcast broadcast;
    gov_topic_message inner;
    const cal_peer_id *via = message->via.len ? &message->via : &message->author;
    int rc = gov_broadcast_decode(cal_slice_of(message->data, message->len), arena, &broadcast);
    if (rc == CAL_EUNSUPPORTED) return 0; /* of attested nodes */
    if (rc == 0 && memcmp(&broadcast.namespace_id, &ns->id, sizeof ns->id) != 0) rc = CAL_EDECODE;
    if (rc == 0 && broadcast.kind == GOV_BROADCAST_HEARTBEAT) {
        hear_heads(ns, &broadcast, &message->author);
        return 0;
    }
    if (rc == 0) rc = gov_topic_decode(broadcast.payload, arena, &inner);
    if (rc != 0) return rc;
    switch ((gov_topic_kind)inner.kind) {
    case GOV_TOPIC_OP:
        sync_namespace_take(ns, via, true, inner.op_bytes);
        break;
    case GOV_TOPIC_ACK:
        hear_ack(ns, &inner.ack);
        break;
    case GOV_TOPIC_BEACON:
        hear_beacon(ns, &inner.beacon, &message->author);
        break;
    case GOV_TOPIC_PROBE:
        sync_namespace_beacon(ns);
        break;
    default:
        break;
    }
    return 0;
}

void sync_namespace_gossip(sync_namespace *ns, const cal_p2p_message *message) {
    cal_arena arena;
    cal_arena_init(&arena, SYNC_ARENA_MAX);
    if (hear(ns, message, &arena)) ns->sync->stats.malformed++;
    cal_arena_deinit(&arena);
}

/* Somebody came: both say how far they are. Who knows nothing of the namespace yet asks at once. */
void sync_namespace_hearer(sync_namespace *ns, const cal_peer_id *peer) {
    sync_namespace_beacon(ns);
    if (gov_op_count(ns->sync->options.gov, &ns->id) == 0) sync_history_want(ns, peer, true);
    sync_keys_again(ns);
}

void sync_namespace_tick(sync_namespace *ns, uint64_t now_ms) {
    if (ns->gone) return;
    next_batch(ns);
    if (now_ms >= ns->beacon_due_ms) send_beacon(ns, now_ms);
    sync_history_tick(ns, now_ms);
    sync_keys_tick(ns, now_ms);
}

/* --- changes of governance, whoever made them --- */

static void on_committed(void *user, const gov_change *change) {
    cal_sync *sync = user;
    sync_namespace *ns = sync_namespace_get(sync, gov_change_namespace(change), true);
    if (!ns || sync->stopping) return;
    for (size_t i = 0; i < gov_change_ops(change); i++) publish_op(ns, gov_change_op(change, i));
    sync_namespace_beacon(ns);
    sync_keys_again(ns);
    sync_contexts_governed(sync);
    sync_follow_change(sync, change);
}

static void on_purged(void *user, const cal_group_id *namespace_id) {
    cal_sync *sync = user;
    sync_namespace *ns = sync_namespace_get(sync, namespace_id, false);
    if (!ns) return;
    ns->gone = true;
    cal_list_remove(&ns->follow_link);
    sync_history_free(ns);
    sync_keys_free(ns);
    free_intake(ns);
    drop_ahead(ns);
}

void sync_namespace_started(const gov_observer **ret_observer) {
    static const gov_observer observer = {.committed = on_committed, .purged = on_purged};
    *ret_observer = &observer;
}

/* --- life --- */

sync_namespace *sync_namespace_get(cal_sync *sync, const cal_group_id *id, bool make) {
    cal_slice key = cal_slice_of(id->bytes, sizeof id->bytes);
    sync_namespace *ns = cal_map_get(&sync->namespaces, key);
    if (ns || !make) return ns;
    ns = calloc(1, sizeof *ns);
    if (!ns) return NULL;
    ns->sync = sync;
    ns->id = *id;
    cal_list_init(&ns->intake);
    cal_list_init(&ns->follow_link);
    cal_map_init(&ns->shares, sync->seed);
    gov_topic_text(id, ns->topic);
    if (cal_map_put(&sync->namespaces, key, ns) == 0) return ns;
    free(ns);
    return NULL;
}

sync_namespace *sync_namespace_of(cal_sync *sync, const cal_context_id *context) {
    cal_group_id group, id;
    if (gov_context_group(sync->options.gov, context, &group, &id)) return NULL;
    return sync_namespace_get(sync, &id, false);
}

void sync_namespaces_free(cal_sync *sync) {
    cal_map_cursor cursor = {0};
    void *value;
    while (cal_map_next(&sync->namespaces, &cursor, NULL, &value)) {
        sync_namespace *ns = value;
        sync_history_free(ns);
        sync_keys_free(ns);
        free_intake(ns);
        drop_ahead(ns);
        cal_map_deinit(&ns->shares);
        free(ns);
    }
}
