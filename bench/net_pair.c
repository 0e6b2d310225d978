/* Two hosts that are measured against each other. Each runs in a thread of its own; the thread of
 * the benchmark asks for one thing (a function posted to the dialer's loop) and waits until it has
 * happened, so the two hosts have the machine's processors to themselves.
 *
 * What happens on the loops is told under the pair's lock. Times are taken on the loop threads:
 * before the call that begins, inside the callback that ends. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "net_bench.h"

enum { PATIENCE_S = 30, PIECE = 64 * 1024, MESSAGE = 100 };

static const char sink_id[] = "/bench/sink/1.0.0";
static const char topic[] = "bench";

/* --- waiting --- */

static void wait_until(net_pair *pair, const unsigned *counter, unsigned wanted, const char *what) {
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += PATIENCE_S;
    pthread_mutex_lock(&pair->lock);
    while (*counter < wanted)
        if (pthread_cond_timedwait(&pair->changed, &pair->lock, &deadline) == ETIMEDOUT)
            bench_die("the two hosts: waited %d s to be %s", PATIENCE_S, what);
    pthread_mutex_unlock(&pair->lock);
}

static void happened(net_pair *pair, unsigned *counter) {
    pthread_mutex_lock(&pair->lock);
    ++*counter;
    pthread_cond_signal(&pair->changed);
    pthread_mutex_unlock(&pair->lock);
}

static void ask(net_pair *pair, net_side *side, void (*fn)(void *pair)) {
    if (cal_p2p_post(side->host, fn, pair)) bench_die("no memory");
}

/* --- life --- */

static void on_disconnected(void *user, const cal_peer_id *peer) {
    net_side *side = user;
    (void)peer;
    happened(side->pair, &side->pair->disconnected);
}

static void on_identified(void *user, const cal_p2p_peer *peer) {
    net_side *side = user;
    (void)peer;
    happened(side->pair, &side->pair->identified);
}

static const cal_p2p_peer_events peer_events = {NULL, on_disconnected, on_identified};

static void sink_readable(void *user, cal_p2p_stream *stream) {
    net_pair *pair = user;
    const uint8_t *bytes;
    for (size_t len; (len = cal_p2p_stream_peek(stream, &bytes)) > 0;) {
        pair->to_come -= len;
        cal_p2p_stream_consume(stream, len);
    }
    if (pair->to_come) return;
    pair->took_ns = bench_now_ns() - pair->began_ns;
    happened(pair, &pair->delivered);
}

static const cal_p2p_stream_events sink_events = {.readable = sink_readable};

static void *run(void *user) {
    net_side *side = user;
    cal_p2p_run(side->host);
    return NULL;
}

static void side_open(net_pair *pair, net_side *side, const char *listen) {
    cal_error err = {0};
    cal_p2p_options options = {.listen = &listen, .listen_count = listen ? 1 : 0};
    side->pair = pair;
    if (cal_p2p_new(&options, &side->host, &err)) bench_die("a host: %s", err.message);
    cal_p2p_id(side->host, &side->id);
    if (cal_p2p_observe(side->host, &peer_events, side)) bench_die("no memory");
}

net_pair *net_pair_open(void) {
    net_pair *pair = calloc(1, sizeof *pair);
    if (!pair) bench_die("no memory");
    pthread_mutex_init(&pair->lock, NULL);
    pthread_cond_init(&pair->changed, NULL);
    side_open(pair, &pair->listener, "/ip4/127.0.0.1/tcp/0");
    side_open(pair, &pair->dialer, NULL);
    cal_p2p_protocol sink = {.id = sink_id, .events = &sink_events, .user = pair};
    if (cal_p2p_addresses(pair->listener.host, &pair->address, 1) != 1 ||
        cal_p2p_handle(pair->listener.host, &sink))
        bench_die("the listening host cannot be set up");
    if (pthread_create(&pair->listener.thread, NULL, run, &pair->listener) ||
        pthread_create(&pair->dialer.thread, NULL, run, &pair->dialer))
        bench_die("no threads");
    return pair;
}

void net_pair_close(net_pair *pair) {
    net_side *sides[] = {&pair->dialer, &pair->listener};
    for (int i = 0; i < 2; i++) {
        cal_p2p_stop(sides[i]->host);
        pthread_join(sides[i]->thread, NULL);
        cal_p2p_free(sides[i]->host);
    }
    pthread_cond_destroy(&pair->changed);
    pthread_mutex_destroy(&pair->lock);
    free(pair);
}

/* --- handshakes --- */

static void on_dialled(void *user, const cal_error *err, const cal_peer_id *peer) {
    net_pair *pair = user;
    (void)peer;
    pair->took_ns = bench_now_ns() - pair->began_ns;
    if (err) bench_die("dialling on this machine: %s", err->message);
    happened(pair, &pair->dialled);
}

static void dial(void *user) {
    net_pair *pair = user;
    pair->began_ns = bench_now_ns();
    cal_p2p_connect(pair->dialer.host, &pair->listener.id, &pair->address, 1, on_dialled, pair);
}

static void hang_up(void *user) {
    net_pair *pair = user;
    cal_p2p_disconnect(pair->dialer.host, &pair->listener.id);
}

void net_pair_connect(net_pair *pair, samples *times) {
    pair->dialled = pair->identified = 0;
    ask(pair, &pair->dialer, dial);
    wait_until(pair, &pair->dialled, 1, "connected");
    if (times) samples_add(times, (double)pair->took_ns / 1e3);
    wait_until(pair, &pair->identified, 2, "identified");
}

void net_pair_disconnect(net_pair *pair) {
    pair->disconnected = 0;
    ask(pair, &pair->dialer, hang_up);
    wait_until(pair, &pair->disconnected, 2, "disconnected");
}

/* --- a stream --- */

static void pour(net_pair *pair) {
    static const uint8_t piece[PIECE];
    while (pair->to_write > 0) {
        size_t part = pair->to_write < PIECE ? (size_t)pair->to_write : PIECE;
        size_t taken = cal_p2p_stream_write(pair->stream, piece, part);
        pair->to_write -= taken;
        if (taken < part) return; /* `writable` follows */
    }
}

static void source_opened(void *user, cal_p2p_stream *stream) {
    net_pair *pair = user;
    (void)stream;
    happened(pair, &pair->dialled);
}

static void source_writable(void *user, cal_p2p_stream *stream) {
    (void)stream;
    pour(user);
}

static void source_closed(void *user, cal_p2p_stream *stream, int reason) {
    net_pair *pair = user;
    (void)stream;
    if (reason != CAL_ECANCELED) bench_die("the stream was lost: %s", cal_error_text(reason));
    happened(pair, &pair->disconnected);
}

static const cal_p2p_stream_events source_events = {source_opened, NULL, source_writable,
                                                    source_closed};

static void open_stream(void *user) {
    net_pair *pair = user;
    const char *const ids[] = {sink_id};
    int result = cal_p2p_open(pair->dialer.host, &pair->listener.id, ids, 1, &source_events, pair,
                              &pair->stream);
    if (result) bench_die("opening a stream: %s", cal_error_text(result));
}

static void begin_pouring(void *user) {
    net_pair *pair = user;
    pair->began_ns = bench_now_ns();
    pour(pair);
}

static void drop_stream(void *user) {
    net_pair *pair = user;
    cal_p2p_stream_reset(pair->stream);
}

void net_pair_stream(net_pair *pair, uint64_t bytes, samples *times) {
    pair->dialled = pair->delivered = pair->disconnected = 0;
    pair->to_write = pair->to_come = bytes;
    ask(pair, &pair->dialer, open_stream);
    wait_until(pair, &pair->dialled, 1, "agreed on a stream");
    ask(pair, &pair->dialer, begin_pouring);
    wait_until(pair, &pair->delivered, 1, "through with a stream");
    if (times) samples_add(times, (double)pair->took_ns * 1024 / (double)bytes);
    ask(pair, &pair->dialer, drop_stream);
    wait_until(pair, &pair->disconnected, 1, "through with a stream");
}

/* --- gossip --- */

static void on_message(void *user, const cal_p2p_message *message) {
    net_side *side = user;
    (void)message;
    side->pair->took_ns = bench_now_ns() - side->pair->began_ns;
    happened(side->pair, &side->pair->delivered);
}

static void on_hears(void *user, const char *name, const cal_peer_id *peer, bool hears) {
    net_side *side = user;
    (void)name, (void)peer;
    if (hears) happened(side->pair, &side->pair->hearing);
}

static void side_hear(net_side *side) {
    cal_error err = {0};
    cal_p2p_gossip_options options = {on_message, on_hears, side, false, false};
    if (cal_p2p_gossip_start(side->host, &options) ||
        cal_p2p_subscribe(side->host, topic, false, &err))
        bench_die("gossip: %s", err.message);
}

static void dialer_hear(void *user) { side_hear(&((net_pair *)user)->dialer); }
static void listener_hear(void *user) { side_hear(&((net_pair *)user)->listener); }

void net_pair_hear(net_pair *pair) {
    pair->hearing = 0;
    ask(pair, &pair->dialer, dialer_hear);
    ask(pair, &pair->listener, listener_hear);
    wait_until(pair, &pair->hearing, 2, "heard");
}

static void publish(void *user) {
    static const uint8_t message[MESSAGE];
    net_pair *pair = user;
    cal_error err = {0};
    size_t peers = 0;
    pair->began_ns = bench_now_ns();
    if (cal_p2p_publish(pair->dialer.host, topic, message, sizeof message, &peers, &err))
        bench_die("publishing: %s", err.message);
    if (peers != 1) bench_die("a message went to %zu peers", peers);
}

void net_pair_publish(net_pair *pair, samples *times) {
    pair->delivered = 0;
    ask(pair, &pair->dialer, publish);
    wait_until(pair, &pair->delivered, 1, "told a message");
    if (times) samples_add(times, (double)pair->took_ns / 1e3);
}
