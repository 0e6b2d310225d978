/* Our peer for interop.py, gossip.py and soak.py: listens, answers, and does what JSON lines on its
 * standard input say, like js_peer.mjs and go/main.go. Uses nothing but calimero/p2p.h (JSON and
 * hash apart). Arguments: seed=N (an identity that a restart keeps), ids=plain, publish=mesh. */
#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yyjson.h>

#include "calimero/p2p.h"
#include "codec/text.h"
#include "crypto/crypto.h"

enum { LARGE = 64 * 1024 * 1024, BLOCK = 64 * 1024, AT_ONCE = 50 };
static const char large_id[] = "/interop/large/1", echo_id[] = "/interop/echo/1";
static cal_p2p *host;

/* --- saying --- */

static void say_start(const char *event, int64_t id) {
    printf("{\"event\":\"%s\"", event);
    if (id) printf(",\"id\":%lld", (long long)id);
}
static void say_end(void) {
    printf("}\n");
    fflush(stdout);
}
static void say_hash(const char *name, const uint8_t hash[32]) {
    char text[65];
    cal_hex_encode(cal_slice_of(hash, 32), text);
    printf(",\"%s\":\"%s\"", name, text);
}
static void say_error(int64_t id, const char *message) {
    say_start("done", id);
    printf(",\"error\":\"%s\"", message);
    say_end();
}
static void say_peer(const char *event, const cal_peer_id *peer) {
    char text[CAL_PEER_ID_TEXT_MAX];
    cal_peer_id_text(peer, text);
    say_start(event, 0);
    printf(",\"peer\":\"%s\"", text);
}

/* --- echo --- */

static void echo_read(void *user, cal_p2p_stream *stream) {
    const uint8_t *bytes;
    size_t len;
    (void)user;
    while ((len = cal_p2p_stream_peek(stream, &bytes)) > 0) {
        size_t n = cal_p2p_stream_write(stream, bytes, len);
        cal_p2p_stream_consume(stream, n);
        if (n < len) return;
    }
    if (cal_p2p_stream_ended(stream)) cal_p2p_stream_finish(stream);
}
static const cal_p2p_stream_events echo_events = {.readable = echo_read, .writable = echo_read};

/* --- large: the pattern both ways --- */

typedef struct transfer {
    int64_t id; /* of the command; 0: the other end asked */
    cal_sha256_stream sent_hash, got_hash;
    uint8_t sent[32], got[32], block[BLOCK];
    size_t block_no, at, received;
    bool sent_all, got_all;
} transfer;

static transfer *transfer_new(int64_t id) {
    transfer *t = calloc(1, sizeof *t);
    if (!t) abort();
    t->id = id;
    t->at = BLOCK;
    t->block_no = (size_t)-1;
    cal_sha256_begin(&t->sent_hash);
    cal_sha256_begin(&t->got_hash);
    return t;
}

static void transfer_write(void *user, cal_p2p_stream *stream) {
    transfer *t = user;
    while (!t->sent_all) {
        if (t->at == BLOCK) {
            if (++t->block_no == LARGE / BLOCK) {
                t->sent_all = true;
                cal_sha256_end(&t->sent_hash, t->sent);
                cal_p2p_stream_finish(stream);
                return;
            }
            memset(t->block, (int)(t->block_no % 251), BLOCK);
            cal_sha256_feed(&t->sent_hash, cal_slice_of(t->block, BLOCK));
            t->at = 0;
        }
        size_t n = cal_p2p_stream_write(stream, t->block + t->at, BLOCK - t->at);
        t->at += n;
        if (t->at < BLOCK) return;
    }
}

static void transfer_read(void *user, cal_p2p_stream *stream) {
    transfer *t = user;
    const uint8_t *bytes;
    size_t len;
    while ((len = cal_p2p_stream_peek(stream, &bytes)) > 0) {
        cal_sha256_feed(&t->got_hash, cal_slice_of(bytes, len));
        t->received += len;
        cal_p2p_stream_consume(stream, len);
    }
    if (!cal_p2p_stream_ended(stream) || t->got_all) return;
    t->got_all = true;
    cal_sha256_end(&t->got_hash, t->got);
}

static void transfer_closed(void *user, cal_p2p_stream *stream, int reason) {
    transfer *t = user;
    (void)stream;
    say_start(t->id ? "done" : "large", t->id);
    if (reason)
        printf(",\"error\":\"%s after %zu bytes\"", cal_error_text(reason), t->received);
    else {
        say_hash("sent", t->sent);
        say_hash("got", t->got);
        printf(",\"bytes\":%zu", t->received);
    }
    say_end();
    if (!t->sent_all) cal_sha256_end(&t->sent_hash, NULL);
    if (!t->got_all) cal_sha256_end(&t->got_hash, NULL);
    free(t);
}

static const cal_p2p_stream_events transfer_events = {transfer_write, transfer_read, transfer_write,
                                                      transfer_closed};

static void large_accepted(void *user, cal_p2p_stream *stream) {
    (void)user;
    transfer *t = transfer_new(0);
    cal_p2p_stream_set_events(stream, &transfer_events, t);
    transfer_write(t, stream);
}
static const cal_p2p_stream_events large_events = {.opened = large_accepted};

/* --- many: streams opened and closed --- */

typedef struct many {
    int64_t id;
    cal_peer_id peer;
    int count, opened, closed, good;
} many;

static void many_next(many *m);
static void many_read(void *user, cal_p2p_stream *stream) {
    many *m = user;
    const uint8_t *bytes;
    size_t len = cal_p2p_stream_peek(stream, &bytes);
    if (len == 5 && memcmp(bytes, "hello", 5) == 0) m->good++;
    cal_p2p_stream_consume(stream, len);
}
static void many_closed(void *user, cal_p2p_stream *stream, int reason) {
    many *m = user;
    (void)stream;
    (void)reason;
    m->closed++;
    if (m->opened < m->count) many_next(m);
    if (m->closed < m->count) return;
    say_start("done", m->id);
    printf(",\"good\":%d", m->good);
    say_end();
    free(m);
}
static const cal_p2p_stream_events many_events = {.readable = many_read, .closed = many_closed};

static void many_next(many *m) {
    const char *const id[] = {echo_id};
    cal_p2p_stream *stream;
    m->opened++;
    if (cal_p2p_open(host, &m->peer, id, 1, &many_events, m, &stream)) {
        m->closed++;
        return;
    }
    cal_p2p_stream_write(stream, "hello", 5);
    cal_p2p_stream_finish(stream);
}

/* --- gossip --- */

/* What is published is a text, repeated up to a size: the other end can compute its hash. */
enum { TICKETS_MAX = 1024 };
static struct {
    uint64_t tickets[TICKETS_MAX]; /* of messages that wait for the command "judge" */
    size_t count;
} judged;

static void on_message(void *user, const cal_p2p_message *message) {
    uint8_t hash[32];
    char text[CAL_PEER_ID_TEXT_MAX];
    (void)user;
    cal_sha256(cal_slice_of(message->data, message->len), hash);
    cal_peer_id_text(&message->author, text);
    say_start("message", 0);
    printf(",\"topic\":\"%s\",\"from\":\"%s\",\"size\":%zu", message->topic, text, message->len);
    say_hash("hash", hash);
    say_end();
    if (message->ticket && judged.count < TICKETS_MAX)
        judged.tickets[judged.count++] = message->ticket;
}

/* --- commands --- */

typedef struct command {
    int64_t id;
    int count;
    bool judged;
    size_t size;
    char name[32], address[CAL_MULTIADDR_TEXT_MAX], topic[CAL_P2P_TOPIC_MAX + 1], text[256];
} command;

static void say_done(const command *c, int result, const cal_error *err) {
    if (result) {
        say_error(c->id, err && err->message[0] ? err->message : cal_error_text(result));
        return;
    }
    say_start("done", c->id);
    say_end();
}

static void on_dialled(void *user, const cal_error *err, const cal_peer_id *peer) {
    command *c = user;
    char text[CAL_PEER_ID_TEXT_MAX];
    cal_peer_id_text(peer, text);
    if (err) {
        say_error(c->id, err->message);
    } else if (strcmp(c->name, "dial") == 0) {
        say_start("done", c->id);
        printf(",\"peer\":\"%s\"", text);
        say_end();
    } else if (strcmp(c->name, "large") == 0) {
        const char *const id[] = {large_id};
        cal_p2p_stream *stream;
        if (cal_p2p_open(host, peer, id, 1, &transfer_events, transfer_new(c->id), &stream))
            say_error(c->id, "cannot open a stream");
    } else {
        many *m = calloc(1, sizeof *m);
        if (!m) abort();
        *m = (many){.id = c->id, .peer = *peer, .count = c->count};
        for (int i = 0; i < AT_ONCE && i < c->count; i++) many_next(m);
    }
    free(c);
}

static void do_connect(const command *c) {
    cal_multiaddr address;
    command *copy = malloc(sizeof *copy);
    if (!copy) abort();
    *copy = *c;
    if (cal_multiaddr_parse(c->address, &address)) {
        say_error(c->id, "bad address");
        free(copy);
        return;
    }
    cal_p2p_connect(host, NULL, &address, 1, on_dialled, copy);
}

static int peer_of(const command *c, cal_peer_id *ret_peer) {
    cal_multiaddr address;
    int result = cal_multiaddr_parse(c->address, &address);
    return result ? result : cal_multiaddr_peer(&address, ret_peer);
}

static void do_disconnect(const command *c) {
    cal_peer_id peer;
    int result = peer_of(c, &peer);
    if (!result) cal_p2p_disconnect(host, &peer);
    say_done(c, result, NULL);
}

static void on_rtt(void *user, const cal_p2p_peer *peer) {
    *(double *)user = (double)peer->rtt_ns / 1e6;
}

static void do_ping(const command *c) { /* the host pings by itself */
    double ms = 0;
    cal_peer_id peer;
    if (peer_of(c, &peer) == 0) cal_p2p_peer_get(host, &peer, on_rtt, &ms);
    say_start("done", c->id);
    printf(",\"ms\":%.3f", ms);
    say_end();
}

static void do_subscribe(const command *c) {
    cal_error err = {0};
    say_done(c, cal_p2p_subscribe(host, c->topic, c->judged, &err), &err);
}

static void do_unsubscribe(const command *c) {
    say_done(c, cal_p2p_unsubscribe(host, c->topic), NULL);
}

static void do_publish(const command *c) {
    cal_error err = {0};
    size_t peers = 0, len = strlen(c->text);
    char *data = malloc(c->size + 1);
    if (!data) abort();
    for (size_t i = 0; i < c->size; i++) data[i] = len ? c->text[i % len] : 0;
    int result = cal_p2p_publish(host, c->topic, data, c->size, &peers, &err);
    free(data);
    if (result) {
        say_done(c, result, &err);
        return;
    }
    say_start("done", c->id);
    printf(",\"recipients\":%zu", peers);
    say_end();
}

static void do_judge(const command *c) {
    int result = 0;
    for (size_t i = 0; i < judged.count && !result; i++)
        result = cal_p2p_judge(host, judged.tickets[i], CAL_P2P_ACCEPT);
    judged.count = 0;
    say_done(c, result, NULL);
}

static void list_peer(void *user, const cal_peer_id *peer, bool mesh) {
    bool *want = user; /* want[0]: only of the mesh; want[1]: not the first */
    char text[CAL_PEER_ID_TEXT_MAX];
    if (want[0] && !mesh) return;
    cal_peer_id_text(peer, text);
    printf("%s\"%s\"", want[1] ? "," : "", text);
    want[1] = true;
}

static void do_subscribers(const command *c) {
    say_start("done", c->id);
    printf(",\"peers\":[");
    cal_p2p_topic_peers(host, c->topic, list_peer, (bool[]){false, false});
    printf("],\"mesh\":[");
    cal_p2p_topic_peers(host, c->topic, list_peer, (bool[]){true, false});
    printf("]");
    say_end();
}

static void do_stats(const command *c) {
    cal_p2p_stats all;
    cal_p2p_gossip_stats gossip;
    cal_p2p_stats_get(host, &all);
    int result = cal_p2p_gossip_stats_get(host, &gossip);
    assert(result == 0);
    say_start("done", c->id);
    printf(",\"connections\":%llu,\"streams\":%llu,\"frame_bytes\":%llu,\"too_long\":%llu",
           (unsigned long long)all.connections, (unsigned long long)all.streams,
           (unsigned long long)all.frame_bytes, (unsigned long long)all.messages_refused);
    printf(",\"seen\":%llu,\"cached\":%llu,\"wants\":%llu,\"message_bytes\":%llu",
           (unsigned long long)gossip.seen, (unsigned long long)gossip.cached,
           (unsigned long long)gossip.wants, (unsigned long long)gossip.message_bytes);
#define SAY_COUNTER(name, text) printf(",\"" #name "\":%llu", (unsigned long long)gossip.name);
    CAL_P2P_GOSSIP_COUNTERS(SAY_COUNTER)
#undef SAY_COUNTER
    say_end();
}

static void do_stop(const command *c) {
    say_done(c, 0, NULL);
    cal_p2p_stop(host);
}

static const struct {
    const char *name;
    void (*run)(const command *c);
} commands[] = {
    {"dial", do_connect},
    {"large", do_connect},
    {"many", do_connect},
    {"ping", do_ping},
    {"disconnect", do_disconnect},
    {"subscribe", do_subscribe},
    {"unsubscribe", do_unsubscribe},
    {"publish", do_publish},
    {"judge", do_judge},
    {"subscribers", do_subscribers},
    {"stats", do_stats},
    {"stop", do_stop},
};

static void run_command(void *arg) {
    command *c = arg;
    size_t i = 0, count = sizeof commands / sizeof *commands;
    while (i < count && strcmp(commands[i].name, c->name) != 0) i++;
    if (i < count)
        commands[i].run(c);
    else
        say_error(c->id, "unknown command");
    free(c);
}

static void take_text(yyjson_val *root, const char *name, char *ret_text, size_t size) {
    const char *text = yyjson_get_str(yyjson_obj_get(root, name));
    snprintf(ret_text, size, "%s", text ? text : "");
}

static void *read_commands(void *unused) {
    char line[4096];
    (void)unused;
    while (fgets(line, sizeof line, stdin)) {
        yyjson_doc *doc = yyjson_read(line, strlen(line), 0);
        yyjson_val *root = yyjson_doc_get_root(doc);
        command *c = calloc(1, sizeof *c);
        if (!c) abort();
        c->id = yyjson_get_sint(yyjson_obj_get(root, "id"));
        c->count = (int)yyjson_get_sint(yyjson_obj_get(root, "count"));
        c->size = (size_t)yyjson_get_uint(yyjson_obj_get(root, "size"));
        c->judged = yyjson_get_bool(yyjson_obj_get(root, "judged"));
        take_text(root, "do", c->name, sizeof c->name);
        take_text(root, "address", c->address, sizeof c->address);
        take_text(root, "topic", c->topic, sizeof c->topic);
        take_text(root, "text", c->text, sizeof c->text);
        yyjson_doc_free(doc);
        if (cal_p2p_post(host, run_command, c)) free(c);
    }
    cal_p2p_stop(host); /* whoever started us is gone */
    return NULL;
}

/* --- peers --- */

static void on_connected(void *user, const cal_peer_id *peer) {
    (void)user;
    say_peer("connect", peer);
    say_end();
}
static void on_disconnected(void *user, const cal_peer_id *peer) {
    (void)user;
    say_peer("disconnect", peer);
    say_end();
}
static void on_identified(void *user, const cal_p2p_peer *peer) {
    (void)user;
    say_peer("identify", &peer->id);
    printf(",\"agent\":\"%s\",\"protocol\":\"%s\",\"protocols\":[", peer->agent,
           peer->protocol_version);
    for (size_t i = 0; i < peer->protocol_count; i++)
        printf("%s\"%s\"", i ? "," : "", peer->protocols[i]);
    printf("]");
    say_end();
}
static const cal_p2p_peer_events peer_events = {on_connected, on_disconnected, on_identified};

int main(int argc, char **argv) {
    const char *const listen[] = {"/ip4/127.0.0.1/tcp/0"};
    cal_p2p_options options = {.listen = listen, .listen_count = 1, .agent = "calimero-c/interop"};
    cal_p2p_gossip_options gossip = {.message = on_message};
    uint8_t seed[32] = {0};
    cal_error err;
    pthread_t reader;
    cal_multiaddr address;
    cal_peer_id id;
    char text[CAL_MULTIADDR_TEXT_MAX];
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "seed=", 5) == 0) {
            memset(seed, atoi(argv[i] + 5), sizeof seed);
            options.seed = seed;
        }
        if (strcmp(argv[i], "ids=plain") == 0) gossip.plain_ids = true;
        if (strcmp(argv[i], "publish=mesh") == 0) gossip.mesh_publish = true;
    }
    if (cal_p2p_new(&options, &host, &err) || cal_p2p_gossip_start(host, &gossip)) {
        fprintf(stderr, "cannot start a host with gossip\n");
        return 1;
    }
    cal_p2p_handle(
        host, &(cal_p2p_protocol){.id = echo_id, .events = &echo_events, .peer_streams_max = 250});
    cal_p2p_handle(host, &(cal_p2p_protocol){.id = large_id, .events = &large_events});
    cal_p2p_observe(host, &peer_events, NULL);
    cal_p2p_id(host, &id);
    cal_p2p_addresses(host, &address, 1);
    cal_multiaddr_set_peer(&address, &id);
    cal_multiaddr_text(&address, text);
    say_peer("ready", &id);
    printf(",\"addresses\":[\"%s\"]", text);
    say_end();
    pthread_create(&reader, NULL, read_commands, NULL);
    cal_p2p_run(host);
    pthread_join(reader, NULL); /* it uses the host until its input ends */
    cal_p2p_free(host);
    return 0;
}
