/* What the files of the benchmark's network part share (docs/design/bench.md). Our side is
 * calimero/p2p.h alone; the probes use the sockets and the libraries that it stands on. */
#ifndef BENCH_NET_BENCH_H
#define BENCH_NET_BENCH_H

#include <pthread.h>

#include "bench.h"
#include "calimero/p2p.h"

/* --- net_pair.c: two hosts of this process, each in a thread of its own --- */

typedef struct net_side {
    struct net_pair *pair;
    cal_p2p *host;
    pthread_t thread;
    cal_peer_id id;
} net_side;

typedef struct net_pair {
    net_side dialer, listener;
    cal_multiaddr address; /* of the listener */
    pthread_mutex_t lock;  /* for what follows */
    pthread_cond_t changed;
    unsigned dialled, disconnected, identified, hearing, delivered;
    uint64_t began_ns, took_ns;
    /* the stream: bytes still to be written, belonging to the dialer; and to come, to the listener.
     */
    cal_p2p_stream *stream;
    uint64_t to_write, to_come;
} net_pair;

net_pair *net_pair_open(void);
void net_pair_close(net_pair *pair);
void net_pair_connect(net_pair *pair, samples *times); /* dial to connection usable; NULL allowed */
void net_pair_disconnect(net_pair *pair);
void net_pair_stream(net_pair *pair, uint64_t bytes, samples *times); /* ns a KiB */
void net_pair_hear(net_pair *pair); /* gossip on, both subscribed and known to each other */
void net_pair_publish(net_pair *pair, samples *times); /* publish to delivery */

/* --- net_probe.c: what the parts cost --- */

typedef struct crypto_times {
    samples keygen, agree, sign, verify;
} crypto_times;
void crypto_probe_run(size_t rounds, crypto_times *times);
void crypto_times_free(crypto_times *times);
enum { NET_FRAME = 65519 }; /* plain bytes of a full Noise message */
/* Sealing full messages, and bytes through a TCP connection of this machine between two threads,
 * written in pieces of such a message and read in pieces of 128 KiB: ns a KiB. */
void aead_probe_run(uint64_t bytes, samples *times);
void tcp_probe_run(uint64_t bytes, samples *times);

/* Who else is on the processors: figures of two threads wait for one when a third one runs. */
typedef struct company {
    uint64_t since_ns;
    double busy_s, own_s;
} company;
company company_begin(void);
double company_end(const company *c); /* percent of one core that others used since */

/* --- net_hold.c: many idle connections, between two processes --- */

void net_hold_measure(double seconds);

#endif
