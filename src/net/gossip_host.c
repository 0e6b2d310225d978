/* Gossip over a host's streams: the gossip part of calimero/p2p.h. What gossip is, and its numbers,
 * is in gossip.h. To each connected peer we open one stream and only write to it; from each we
 * accept one on every connection, the newest, and only read from it (pubsub specification, "Stream
 * management"). A stream of ours that is lost is opened again a heartbeat later. */
#include <stdlib.h>

#include "net/gossip.h"
#include "net/internal.h"

static const char *const protocols[] = GOSSIP_PROTOCOLS;
enum { PROTOCOLS = sizeof protocols / sizeof *protocols };

typedef struct gossip_host gossip_host;

enum { IN_MAX = 4 }; /* streams of one peer that are read, one of a connection */

typedef struct gossip_in {
    cal_p2p_stream *stream;
    cal_p2p_frames frames;
} gossip_in;

typedef struct gossip_link {
    gossip_host *owner;
    gossip_peer *peer;
    cal_p2p_stream *out;
    gossip_in ins[IN_MAX];
    size_t in_count;
    uint64_t open_at; /* when our stream is to be opened; NET_NEVER: it is, or the peer has none */
} gossip_link;

struct gossip_host {
    cal_p2p *host;
    cal_gossip *gossip;
    cal_p2p_gossip_options options;
    cal_map links; /* peer id -> gossip_link */
    net_timer timer;
    bool working;
    bool held_back; /* somebody was not read because events wait, or its signatures are used up */
    char topic[CAL_P2P_TOPIC_MAX + 1]; /* of the event that is being told */
};

static const cal_p2p_stream_events out_events, in_events, no_events;

static cal_slice id_slice(const cal_peer_id *id) { return (cal_slice){id->bytes, id->len}; }
static uint64_t now_of(const gossip_host *g) { return net_now_ns(g->host); }

/* --- writing and reading --- */

static void link_write(gossip_link *link) {
    while (link->out) {
        cal_slice out = gossip_output(link->peer, now_of(link->owner));
        if (out.len == 0) return;
        size_t taken = cal_p2p_stream_write(link->out, out.data, out.len);
        gossip_sent(link->peer, taken);
        if (taken < out.len) return; /* `writable` follows */
    }
}

/* Forgets the stream; the later ones move up, frames as they are. */
static cal_p2p_stream *link_drop_in(gossip_link *link, size_t at) {
    cal_p2p_stream *stream = link->ins[at].stream;
    cal_p2p_frames_deinit(&link->ins[at].frames);
    link->in_count--;
    memmove(&link->ins[at], &link->ins[at + 1], (link->in_count - at) * sizeof link->ins[0]);
    return stream;
}

static void link_close_in(gossip_link *link, size_t at) {
    cal_p2p_stream *stream = link_drop_in(link, at);
    cal_p2p_stream_set_events(stream, &no_events, NULL);
    cal_p2p_stream_reset(stream);
}

static size_t link_find_in(const gossip_link *link, const cal_p2p_stream *stream) {
    size_t at = 0;
    while (at < link->in_count && link->ins[at].stream != stream) at++;
    return at;
}

static void link_close_out(gossip_link *link) {
    cal_p2p_stream *stream = link->out;
    if (!stream) return;
    link->out = NULL;
    gossip_peer_shut(link->peer, now_of(link->owner));
    cal_p2p_stream_set_events(stream, &no_events, NULL);
    cal_p2p_stream_reset(stream);
}

static void link_renew(gossip_link *link) {
    link_close_out(link);
    link->open_at = now_of(link->owner) + GOSSIP_HEARTBEAT_NS;
}

/* Reads what one stream holds; false: it is closed, and the next one is in its place. */
static bool in_read(gossip_link *link, size_t at) {
    const uint8_t *bytes;
    size_t len;
    while (gossip_ready(link->peer)) {
        gossip_in *in = &link->ins[at];
        int result = cal_p2p_frames_next(&in->frames, in->stream, &bytes, &len);
        if (result == CAL_ESTATE) return true;
        if (!result)
            result = gossip_receive(link->peer, (cal_slice){bytes, len}, now_of(link->owner));
        if (!result) continue;
        link_close_in(link, at);
        /* Not gossip (counted where it was seen): ours too, because js-libp2p opens the stream that
         * it lost only when a new one comes. */
        if (result != CAL_ENOTFOUND) link_renew(link);
        return false;
    }
    link->owner->held_back = true;
    return true;
}

static void link_read(gossip_link *link) {
    for (size_t at = 0; at < link->in_count;) at += in_read(link, at);
}

/* --- our stream --- */

static void link_open(gossip_link *link) {
    gossip_host *g = link->owner;
    link->open_at = NET_NEVER;
    if (cal_p2p_open(g->host, gossip_peer_id(link->peer), protocols, PROTOCOLS, &out_events, link,
                     &link->out)) {
        link->out = NULL;
        link->open_at = now_of(g) + GOSSIP_HEARTBEAT_NS;
    }
}

static void open_due(gossip_host *g) {
    cal_map_cursor cursor = {0};
    void *value;
    while (cal_map_next(&g->links, &cursor, NULL, &value)) {
        gossip_link *link = value;
        if (link->open_at <= now_of(g)) link_open(link);
    }
}

/* --- between calls --- */

static void tell(gossip_host *g, const gossip_event *event) {
    const cal_p2p_gossip_options *to = &g->options;
    memcpy(g->topic, event->topic.data, event->topic.len);
    g->topic[event->topic.len] = '\0';
    if (event->kind == GOSSIP_SUBSCRIBED || event->kind == GOSSIP_UNSUBSCRIBED) {
        if (to->subscribed)
            to->subscribed(to->user, g->topic, &event->from, event->kind == GOSSIP_SUBSCRIBED);
        return;
    }
    cal_p2p_message message = {.topic = g->topic,
                               .author = event->from,
                               .seqno = event->seqno,
                               .data = event->data.data,
                               .len = event->data.len,
                               .id = event->id.data,
                               .id_len = event->id.len,
                               .ticket = event->kind == GOSSIP_VALIDATE ? event->ticket : 0};
    if (event->peer) message.via = *gossip_peer_id(event->peer);
    if (to->message) to->message(to->user, &message);
}

/* Tells the application, writes what is there, and sets the alarm. */
static void work(gossip_host *g) {
    gossip_event event;
    if (g->working) return; /* the application called us from its event */
    g->working = true;
    for (bool more = true; more;) {
        more = false;
        while (gossip_next_event(g->gossip, &event)) {
            gossip_link *link = event.peer ? gossip_peer_user(event.peer) : NULL;
            if (event.kind == GOSSIP_READY)
                link_read(link);
            else if (event.kind == GOSSIP_CLOSE)
                link_renew(link);
            else
                tell(g, &event);
            more = true;
        }
        for (gossip_peer *peer; (peer = gossip_next_output(g->gossip));)
            link_write(gossip_peer_user(peer));
        if (!more || !g->held_back) break;
        g->held_back = false;
        cal_map_cursor cursor = {0};
        void *value;
        while (cal_map_next(&g->links, &cursor, NULL, &value)) link_read(value);
    }
    g->working = false;
    net_timer_set(g->host, &g->timer, gossip_deadline(g->gossip));
}

static void on_timer(void *user, uint64_t now_ns) {
    gossip_host *g = user;
    if (gossip_deadline(g->gossip) <= now_ns) {
        gossip_expire(g->gossip, now_ns);
        open_due(g);
    }
    work(g);
}

/* After a call of the application: its events come later, from the timer. */
static void work_soon(gossip_host *g) {
    if (!g->working) net_timer_set(g->host, &g->timer, now_of(g));
}

/* --- streams --- */

static void out_opened(void *user, cal_p2p_stream *stream) {
    gossip_link *link = user;
    gossip_peer_open(link->peer, gossip_version_of(cal_p2p_stream_protocol(stream)),
                     now_of(link->owner));
    work(link->owner);
}

static void out_readable(void *user, cal_p2p_stream *stream) {
    const uint8_t *bytes;
    (void)user; /* nothing is said on this stream; whatever comes is dropped */
    for (size_t len; (len = cal_p2p_stream_peek(stream, &bytes)) > 0;)
        cal_p2p_stream_consume(stream, len);
}

static void out_writable(void *user, cal_p2p_stream *stream) {
    (void)stream;
    link_write(user);
}

static void out_closed(void *user, cal_p2p_stream *stream, int reason) {
    gossip_link *link = user;
    if (link->out != stream) return;
    link->out = NULL;
    gossip_peer_shut(link->peer, now_of(link->owner));
    if (reason != CAL_EUNSUPPORTED) link->open_at = now_of(link->owner) + GOSSIP_HEARTBEAT_NS;
    work(link->owner);
}

static void in_readable(void *user, cal_p2p_stream *stream) {
    gossip_link *link = user;
    size_t at = link_find_in(link, stream);
    if (at == link->in_count) return;
    in_read(link, at);
    work(link->owner);
}

static void in_closed(void *user, cal_p2p_stream *stream, int reason) {
    gossip_link *link = user;
    size_t at = link_find_in(link, stream);
    (void)reason;
    if (at < link->in_count) link_drop_in(link, at);
}

/* The newest stream of each connection is read: rust-libp2p has one on every connection, and says
 * some things on this and others on that. */
static void link_add_in(gossip_link *link, cal_p2p_stream *stream) {
    size_t at = 0;
    while (at < link->in_count && link->ins[at].stream->connection != stream->connection) at++;
    if (at < link->in_count) link_close_in(link, at);
    if (link->in_count == IN_MAX) link_close_in(link, 0);
    gossip_in *in = &link->ins[link->in_count++];
    in->stream = stream;
    cal_p2p_frames_init(&in->frames, CAL_P2P_FRAME_VARINT, GOSSIP_RPC_MAX);
    cal_p2p_stream_set_events(stream, &in_events, link);
}

static gossip_link *link_of(gossip_host *g, const cal_peer_id *id);

static void in_opened(void *user, cal_p2p_stream *stream) {
    gossip_host *g = user;
    cal_peer_id id;
    cal_p2p_stream_peer(stream, &id);
    gossip_link *link = link_of(g, &id);
    if (!link) {
        cal_p2p_stream_set_events(stream, &no_events, NULL);
        cal_p2p_stream_reset(stream);
        return;
    }
    link_add_in(link, stream);
    if (link->open_at == NET_NEVER && !link->out) link_open(link); /* it speaks gossip after all */
    /* It uses another connection: ours may be half open, and it would not hear us. */
    if (link->out && link->out->connection->draining && !stream->connection->draining) {
        link_close_out(link);
        link_open(link);
    }
    link_read(link);
    work(g);
}

static const cal_p2p_stream_events out_events = {out_opened, out_readable, out_writable,
                                                 out_closed};
static const cal_p2p_stream_events in_events = {NULL, in_readable, NULL, in_closed};
static const cal_p2p_stream_events accept_events = {in_opened, NULL, NULL, NULL};
static const cal_p2p_stream_events no_events = {0};

/* --- peers --- */

static void note_direction(void *user, const cal_p2p_peer *peer) { *(bool *)user = peer->outgoing; }

/* The link of a connected peer, made when it is new; NULL: over a limit, or no memory. */
static gossip_link *link_of(gossip_host *g, const cal_peer_id *id) {
    gossip_link *link = cal_map_get(&g->links, id_slice(id));
    bool outgoing = false;
    if (link || cal_p2p_peer_get(g->host, id, note_direction, &outgoing)) return link;
    link = calloc(1, sizeof *link);
    if (!link) return NULL;
    link->owner = g;
    link->open_at = NET_NEVER;
    if (cal_map_put(&g->links, id_slice(id), link)) {
        free(link);
        return NULL;
    }
    if (gossip_peer_add(g->gossip, id, outgoing, link, now_of(g), &link->peer)) {
        cal_map_remove(&g->links, id_slice(id));
        free(link);
        return NULL;
    }
    link_open(link);
    return link;
}

static void link_free(gossip_link *link) {
    while (link->in_count > 0) link_close_in(link, 0);
    link_close_out(link);
    gossip_peer_remove(link->peer, now_of(link->owner));
    free(link);
}

static void on_connected(void *user, const cal_peer_id *peer) { link_of(user, peer); }

static void on_disconnected(void *user, const cal_peer_id *peer) {
    gossip_host *g = user;
    gossip_link *link = cal_map_remove(&g->links, id_slice(peer));
    if (link) link_free(link);
    work(
        g); /* at once: what one leaving peer makes to tell is bounded, what a crowd makes is not */
}

static const cal_p2p_peer_events peer_events = {on_connected, on_disconnected, NULL};

void gossip_moved(cal_p2p *host, const cal_peer_id *peer) {
    gossip_host *g = host->gossip;
    gossip_link *link = g ? cal_map_get(&g->links, id_slice(peer)) : NULL;
    if (!link || !link->out || !link->out->connection->draining) return;
    link_close_out(link);
    link_open(link);
    work_soon(g);
}

static void take_over(void *user, const cal_p2p_peer *peer) { link_of(user, &peer->id); }

/* --- lifecycle --- */

/* The number of the first message: greater than all before, also when the wall clock went back or
 * gossip was stopped and started; peers take an old number for a message they know. What this run
 * may use is noted on the shelf before it is used. */
static uint64_t first_seqno(cal_p2p *host) {
    uint64_t first = net_os(host)->wall_ns(net_os(host)->user);
    if (first < host->seqnos_used) {
        first = host->seqnos_used;
        host->stats.wall_behind++;
    }
    host->seqnos_used = first + NET_SEQNOS;
    peer_save_self(host);
    return first;
}

int cal_p2p_gossip_start(cal_p2p *host, const cal_p2p_gossip_options *options) {
    if (host->gossip) return CAL_EEXISTS;
    if (host->stopping) return CAL_ECANCELED;
    gossip_host *g = calloc(1, sizeof *g);
    uint64_t seeds[2];
    if (!g) return CAL_ENOMEM;
    g->host = host;
    g->options = *options;
    net_random(host, seeds, sizeof seeds);
    cal_map_init(&g->links, seeds[1]);
    gossip_options core = {.key = net_seed(host),
                           .random = seeds[0],
                           .first_seqno = first_seqno(host),
                           .plain_ids = options->plain_ids,
                           .mesh_publish = options->mesh_publish};
    int result = gossip_new(&core, now_of(g), &g->gossip), handled = 0;
    for (; !result && handled < PROTOCOLS; handled += !result)
        result = cal_p2p_handle(host, &(cal_p2p_protocol){.id = protocols[handled],
                                                          .events = &accept_events,
                                                          .user = g,
                                                          .peer_streams_max = 4});
    if (!result) result = cal_p2p_observe(host, &peer_events, g);
    if (result) {
        while (handled > 0) cal_p2p_unhandle(host, protocols[--handled]);
        gossip_free(g->gossip);
        cal_map_deinit(&g->links);
        free(g);
        return result;
    }
    host->gossip = g;
    net_timer_start(host, &g->timer, g, on_timer);
    net_timer_set(host, &g->timer, gossip_deadline(g->gossip));
    cal_p2p_peers(host, take_over, g);
    return 0;
}

void cal_p2p_gossip_stop(cal_p2p *host) {
    gossip_host *g = host->gossip;
    if (!g) return;
    host->gossip = NULL;
    for (int i = 0; i < PROTOCOLS; i++) cal_p2p_unhandle(host, protocols[i]);
    cal_p2p_unobserve(host, &peer_events, g);
    net_timer_stop(&g->timer);
    cal_map_cursor cursor = {0};
    void *link;
    while (cal_map_next(&g->links, &cursor, NULL, &link)) link_free(link);
    cal_map_deinit(&g->links);
    gossip_free(g->gossip);
    free(g);
}

/* --- the application's side --- */

static int not_started(cal_error *err) {
    return cal_fail(err, CAL_ESTATE, "this host does not speak gossip: cal_p2p_gossip_start");
}

int cal_p2p_subscribe(cal_p2p *host, const char *topic, bool judged, cal_error *err) {
    gossip_host *g = host->gossip;
    if (!g) return not_started(err);
    int result = gossip_subscribe(g->gossip, cal_slice_text(topic), judged, now_of(g), err);
    work_soon(g);
    return result;
}

int cal_p2p_unsubscribe(cal_p2p *host, const char *topic) {
    gossip_host *g = host->gossip;
    if (!g) return CAL_ESTATE;
    int result = gossip_unsubscribe(g->gossip, cal_slice_text(topic), now_of(g));
    work_soon(g);
    return result;
}

int cal_p2p_publish(cal_p2p *host, const char *topic, const void *data, size_t len,
                    size_t *ret_peers, cal_error *err) {
    gossip_host *g = host->gossip;
    if (!g) return not_started(err);
    int result = gossip_publish(g->gossip, cal_slice_text(topic), cal_slice_of(data, len),
                                now_of(g), ret_peers, err);
    if (!g->working) /* written at once: a publish should not wait for the loop to come round */
        for (gossip_peer *peer; (peer = gossip_next_output(g->gossip));)
            link_write(gossip_peer_user(peer));
    return result;
}

int cal_p2p_judge(cal_p2p *host, uint64_t ticket, cal_p2p_verdict verdict) {
    gossip_host *g = host->gossip;
    if (!g) return CAL_ESTATE;
    int result = gossip_validated(g->gossip, ticket, verdict, now_of(g));
    work_soon(g);
    return result;
}

int cal_p2p_prefer(cal_p2p *host, const cal_peer_id *peer, uint32_t score) {
    gossip_host *g = host->gossip;
    if (!g) return CAL_ESTATE;
    gossip_link *link = cal_map_get(&g->links, id_slice(peer));
    if (!link) return CAL_ENOTFOUND;
    gossip_peer_score(link->peer, score);
    return 0;
}

int cal_p2p_topics(const cal_p2p *host,
                   void (*visit)(void *user, const char *topic, size_t peers, size_t mesh),
                   void *user) {
    if (!host->gossip) return CAL_ESTATE;
    gossip_topics(host->gossip->gossip, visit, user);
    return 0;
}

struct topic_visit {
    void (*visit)(void *user, const cal_peer_id *peer, bool mesh);
    void *user;
};

static void visit_peer(void *user, gossip_peer *peer, bool mesh) {
    struct topic_visit *visit = user;
    visit->visit(visit->user, gossip_peer_id(peer), mesh);
}

int cal_p2p_topic_peers(const cal_p2p *host, const char *topic,
                        void (*visit)(void *user, const cal_peer_id *peer, bool mesh), void *user) {
    if (!host->gossip) return CAL_ESTATE;
    gossip_topic_peers(host->gossip->gossip, cal_slice_text(topic), visit_peer,
                       &(struct topic_visit){visit, user});
    return 0;
}

int cal_p2p_gossip_stats_get(const cal_p2p *host, cal_p2p_gossip_stats *ret_stats) {
    if (!host->gossip) return CAL_ESTATE;
    gossip_stats_get(host->gossip->gossip, ret_stats);
    return 0;
}
