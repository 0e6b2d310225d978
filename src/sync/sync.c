/* The face of sync, and what its files share: see sync.h and internal.h. */
#include <stdlib.h>
#include <string.h>

#include "sync/bulk.h"
#include "sync/snapshot.h"

enum { VIEWS_LOOK_MS = 5000 };

/* --- small things --- */

void sync_hold(cal_sync *sync) { sync->under_way++; }

static void end_if_drained(cal_sync *sync) {
    void (*drained)(void *user) = sync->drained;
    if (!sync->stopping || sync->under_way > 0 || !drained) return;
    sync->drained = NULL;
    drained(sync->drained_user);
}

void sync_release(cal_sync *sync) {
    sync->under_way--;
    end_if_drained(sync);
}

uint64_t sync_now_ms(const cal_sync *sync) {
    return sync->options.os->mono_ns(sync->options.os->user) / 1000000;
}

uint64_t sync_wall_ms(const cal_sync *sync) {
    return sync->options.os->wall_ns(sync->options.os->user) / 1000000;
}

/* The last bytes of an id are of a key, and evenly spread. */
uint64_t sync_sender(const cal_peer_id *peer) {
    uint64_t sender = 0;
    size_t from = peer->len > sizeof sender ? peer->len - sizeof sender : 0;
    memcpy(&sender, peer->bytes + from, peer->len - from);
    return sender;
}

uint32_t sync_random(const cal_sync *sync, uint32_t below) {
    uint32_t value;
    cal_random(sync->options.os, &value, sizeof value);
    return below ? value % below : 0;
}

void sync_sign(void *user, cal_slice message, uint8_t ret_signature[CAL_SIGNATURE_SIZE]) {
    const cal_sync *sync = user;
    gov_sign(sync->options.gov, message, ret_signature);
}

size_t sync_publish(cal_sync *sync, const char *topic, cal_slice message) {
    cal_error err;
    size_t peers = 0;
    if (sync->stopping) return 0; /* the host may be gone before what is under way has ended */
    int rc = cal_p2p_publish(sync->options.host, topic, message.data, message.len, &peers, &err);
    if (rc != 0 && rc != CAL_ECANCELED)
        cal_log(CAL_LOG_DEBUG, "sync", "nothing published on %s: %s", topic, err.message);
    return rc == 0 ? peers : 0;
}

struct hearers {
    cal_peer_id *peers;
    size_t count, max, seen;
    const cal_sync *sync;
};

static void note_hearer(void *user, const cal_peer_id *peer, bool mesh) {
    struct hearers *hearers = user;
    (void)mesh;
    uint32_t place = (uint32_t)hearers->seen++;
    if (hearers->count < hearers->max) { /* each has the same chance, however many hear it */
        hearers->peers[hearers->count++] = *peer;
    } else if ((place = sync_random(hearers->sync, place + 1)) < hearers->max) {
        hearers->peers[place] = *peer;
    }
}

size_t sync_hearers(cal_sync *sync, const char *topic, cal_peer_id *ret_peers, size_t max) {
    struct hearers hearers = {.peers = ret_peers, .max = max, .sync = sync};
    if (!sync->stopping) cal_p2p_topic_peers(sync->options.host, topic, note_hearer, &hearers);
    for (size_t i = hearers.count; i > 1; i--) { /* so that not always the same one is asked */
        size_t other = sync_random(sync, (uint32_t)i);
        cal_peer_id swapped = ret_peers[i - 1];
        ret_peers[i - 1] = ret_peers[other];
        ret_peers[other] = swapped;
    }
    return hearers.count;
}

/* --- what the node passes on --- */

void cal_sync_gossip(cal_sync *sync, const cal_p2p_message *message) {
    uint8_t id[CAL_ID_SIZE];
    static const char prefix[] = "ns/";
    bool governance = strncmp(message->topic, prefix, sizeof prefix - 1) == 0;
    const char *text = message->topic + (governance ? sizeof prefix - 1 : 0);
    if (sync->stopping || cal_id_parse(text, id)) return;
    if (governance) {
        sync_namespace *ns = cal_map_get(&sync->namespaces, cal_slice_of(id, sizeof id));
        if (ns) sync_namespace_gossip(ns, message);
    } else {
        struct sync_context *context = cal_map_get(&sync->contexts, cal_slice_of(id, sizeof id));
        if (context) sync_context_gossip(context, message);
    }
}

void cal_sync_subscribed(cal_sync *sync, const char *topic, const cal_peer_id *peer, bool hears) {
    uint8_t id[CAL_ID_SIZE];
    bool governance = strncmp(topic, "ns/", 3) == 0;
    if (sync->stopping || cal_id_parse(topic + (governance ? 3 : 0), id)) return;
    if (governance) {
        sync_namespace *ns = cal_map_get(&sync->namespaces, cal_slice_of(id, sizeof id));
        if (ns && hears) sync_namespace_hearer(ns, peer);
    } else {
        struct sync_context *context = cal_map_get(&sync->contexts, cal_slice_of(id, sizeof id));
        if (context) sync_context_hearer(context, peer, hears);
    }
}

/* --- life --- */

int cal_sync_new(const cal_sync_options *options, cal_sync **ret_sync) {
    cal_sync *sync = calloc(1, sizeof *sync);
    if (!sync) return CAL_ENOMEM;
    sync->options = *options;
    cal_random(options->os, &sync->seed, sizeof sync->seed);
    cal_map_init(&sync->namespaces, sync->seed);
    cal_map_init(&sync->contexts, sync->seed);
    sync_due_init(sync);
    cal_list_init(&sync->joins);
    cal_list_init(&sync->governed);
    sync_follow_init(sync);
    int rc = sync_views_new(options->store, &sync->views);
    if (rc == 0) rc = sync_serve(sync);
    if (rc == 0) rc = sync_bulk_serve(sync);
    if (rc != 0) {
        cal_sync_free(sync);
        return rc;
    }
    const gov_observer *observer;
    sync_namespace_started(&observer);
    gov_observe(options->gov, observer, sync);
    *ret_sync = sync;
    return 0;
}

struct opening {
    cal_sync *sync;
    int result;
};

static void open_namespace(void *user, const gov_group_info *info) {
    struct opening *opening = user;
    if (!sync_namespace_get(opening->sync, &info->id, true)) opening->result = CAL_ENOMEM;
    sync_follow_stored(opening->sync, &info->id);
}

static void follow_namespace(void *user, const gov_group_info *info) {
    sync_follow_namespace(user, &info->id);
}

int cal_sync_open(cal_sync *sync, cal_error *err) {
    struct opening opening = {.sync = sync};
    gov_namespace_each(sync->options.gov, open_namespace, &opening);
    return opening.result ? cal_fail(err, opening.result, "shared contexts cannot be set up: %s",
                                     cal_error_text(opening.result))
                          : 0;
}

void cal_sync_tick(cal_sync *sync) {
    uint64_t now = sync_now_ms(sync);
    cal_map_cursor cursor = {0};
    void *value;
    if (sync->stopping) return;
    if (!sync->followed) { /* what a crash kept from being adopted */
        sync->followed = true;
        gov_namespace_each(sync->options.gov, follow_namespace, sync);
    }
    while (cal_map_next(&sync->namespaces, &cursor, NULL, &value)) sync_namespace_tick(value, now);
    sync_contexts_tick(sync, now);
    sync_servings_look(sync, now);
    if (now >= sync->views_due_ms) {
        sync->views_due_ms = now + VIEWS_LOOK_MS;
        sync_views_expire(sync->views, sync->options.os->mono_ns(sync->options.os->user));
    }
    sync_joins_tick(sync, now);
}

void cal_sync_quit(cal_sync *sync) { sync->stopping = true; }

void cal_sync_drain(cal_sync *sync, void (*done)(void *user), void *user) {
    sync->drained = done;
    sync->drained_user = user;
    sync_hold(sync);
    cal_sync_quit(sync);
    sync_contexts_quit(sync);
    sync_joins_drain(sync);
    sync_release(sync);
}

void cal_sync_free(cal_sync *sync) {
    if (!sync) return;
    gov_observe(sync->options.gov, NULL, NULL);
    sync_namespaces_free(sync);
    sync_contexts_free(sync);
    sync_follow_free(sync);
    sync_views_free(sync->views);
    cal_map_deinit(&sync->namespaces);
    cal_map_deinit(&sync->contexts);
    free(sync);
}

const cal_sync_stats *cal_sync_figures(const cal_sync *sync) { return &sync->stats; }
