/* The network's figures beside their limits: a handshake, a stream, a message, and what idle
 * connections cost. Measurements and the probes of their parts alternate in rounds, so that a
 * machine that changes its pace changes both. docs/design/bench.md says what each limit is made of.
 */
#include <stdio.h>
#include <string.h>

#include "net_bench.h"

enum {
    ROUNDS = 10,
    TRIPS = 200, /* a round of each */
    PRIMITIVES = 50,
    HANDSHAKES = 30,
    MESSAGES = 100,
};
#define POURED (UINT64_C(128) << 20) /* bytes a round of each */

#define TIMES_WANTED 1.5  /* handshake and message: at most so many times their parts */
#define STREAM_WANTED 0.6 /* of the rate that sealing and TCP allow one after the other */
#define DISTURBED 2.0     /* a probe's p50 over its p10 */
#define COMPANY 10.0      /* percent of a core that others may use meanwhile */

/* What the parts cost at one quantile. */
typedef struct parts {
    double trip, keygen, agree, sign, verify;
} parts;

typedef struct net_times {
    samples trip, handshake, message, aead, tcp, stream;
    crypto_times crypto;
    double others; /* percent of a core that other processes used meanwhile */
} net_times;

static parts parts_at(net_times *t, double quantile) {
    return (parts){samples_at(&t->trip, quantile), samples_at(&t->crypto.keygen, quantile),
                   samples_at(&t->crypto.agree, quantile), samples_at(&t->crypto.sign, quantile),
                   samples_at(&t->crypto.verify, quantile)};
}

static bool spread(samples *probe) {
    return samples_at(probe, 0.5) > DISTURBED * samples_at(probe, 0.1);
}

/* In company the probes count with their fastest tenth, which is stricter, and what then does not
 * pass is not judged. */
static verdict judge(bool reached, bool disturbed) {
    return reached ? VERDICT_PASS : disturbed ? VERDICT_DISTURBED : VERDICT_MISS;
}

static bool parts_disturbed(net_times *t) {
    return t->others > COMPANY || spread(&t->trip) || spread(&t->crypto.agree) ||
           spread(&t->crypto.verify);
}

static const char *quantile_text(bool p10) { return p10 ? " (p10: others disturbed)" : ""; }

static void report_others(const net_times *t) {
    report_value("other processes meanwhile", t->others, "%", "of one core");
}

static void times_free(net_times *t) {
    samples *all[] = {&t->trip, &t->handshake, &t->message, &t->aead, &t->tcp, &t->stream};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) samples_free(all[i]);
    crypto_times_free(&t->crypto);
}

/* --- a handshake --- */

/* In XX every message needs what the one before it brought, so all agreements and verifications
 * stand one after the other, whichever side does them. Keys can be made and signatures given by
 * both sides at once, and ahead: they count once. */
static void report_handshake(net_times *t) {
    char formula[200];
    bool p10 = parts_disturbed(t);
    parts p = parts_at(t, p10 ? 0.1 : 0.5);
    double sum = 4 * p.trip + p.keygen + p.sign + 6 * p.agree + 2 * p.verify;
    double limit = TIMES_WANTED * sum, value = samples_at(&t->handshake, 0.5);
    report_section("A connection: TCP connect to multiplexed and usable");
    report_value("loopback round trip p50", samples_at(&t->trip, 0.5), "us", NULL);
    report_value("loopback round trip p10", samples_at(&t->trip, 0.1), "us", NULL);
    report_value("X25519 key p50", samples_at(&t->crypto.keygen, 0.5), "us", NULL);
    report_value("X25519 agreement p50", samples_at(&t->crypto.agree, 0.5), "us", NULL);
    report_value("Ed25519 signature p50", samples_at(&t->crypto.sign, 0.5), "us", NULL);
    report_value("Ed25519 verification p50", samples_at(&t->crypto.verify, 0.5), "us", NULL);
    snprintf(formula, sizeof formula,
             "%.1f x %.0f us: 4 round trips, 6 agreements and 2 verifications one after the "
             "other, a key and a signature of both sides at once%s",
             TIMES_WANTED, sum, quantile_text(p10));
    report_verdict("handshake p50", value, limit, "us", judge(value <= limit, p10), formula);
    report_value("handshake p10", samples_at(&t->handshake, 0.1), "us", NULL);
    report_value("handshake p99", samples_at(&t->handshake, 0.99), "us", NULL);
    report_others(t);
}

static void measure_handshake(loopback_probe *trips) {
    net_times t = {0};
    net_pair *pair = net_pair_open();
    bench_say("handshakes");
    net_pair_connect(pair, NULL);
    company others = company_begin();
    for (int round = 0; round < ROUNDS; round++) {
        loopback_probe_run(trips, TRIPS, &t.trip);
        crypto_probe_run(PRIMITIVES, &t.crypto);
        for (int i = 0; i < HANDSHAKES; i++) {
            net_pair_disconnect(pair);
            net_pair_connect(pair, &t.handshake);
        }
    }
    t.others = company_end(&others);
    net_pair_close(pair);
    report_handshake(&t);
    times_free(&t);
}

/* --- a stream --- */

static double rate(double ns_a_kib) { return 1024 * 1e3 / ns_a_kib; } /* MB/s */

static void report_stream(net_times *t) {
    char formula[200];
    bool p10 = t->others > COMPANY || spread(&t->aead) || spread(&t->tcp);
    double aead = samples_at(&t->aead, p10 ? 0.1 : 0.5), tcp = samples_at(&t->tcp, p10 ? 0.1 : 0.5);
    double both = rate(aead + tcp), value = rate(samples_at(&t->stream, 0.5));
    double limit = STREAM_WANTED * both;
    report_section("One stream: bytes one way between two hosts");
    report_value("ChaCha20-Poly1305 p50", rate(samples_at(&t->aead, 0.5)), "MB/s",
                 "sealing full Noise messages, one thread");
    report_value("loopback TCP p50", rate(samples_at(&t->tcp, 0.5)), "MB/s",
                 "two threads; written by such messages, read by 128 KiB; the system's buffers");
    snprintf(formula, sizeof formula,
             "at least %.0f%% of 1/(1/AEAD + 1/TCP) = %.0f MB/s; it is %.0f%%%s",
             100 * STREAM_WANTED, both, 100 * value / both, quantile_text(p10));
    report_verdict("stream p50", value, limit, "MB/s", judge(value >= limit, p10), formula);
    report_value("stream, fastest tenth", rate(samples_at(&t->stream, 0.1)), "MB/s", NULL);
    report_others(t);
}

static void measure_stream(void) {
    net_times t = {0};
    net_pair *pair = net_pair_open();
    bench_say("a stream");
    net_pair_connect(pair, NULL);
    net_pair_stream(pair, POURED / 4, NULL);
    company others = company_begin();
    for (int round = 0; round < ROUNDS; round++) {
        aead_probe_run(POURED, &t.aead);
        tcp_probe_run(POURED, &t.tcp);
        net_pair_stream(pair, POURED, &t.stream);
    }
    t.others = company_end(&others);
    net_pair_close(pair);
    report_stream(&t);
    times_free(&t);
}

/* --- a message --- */

static void report_message(net_times *t) {
    char formula[200];
    bool p10 = parts_disturbed(t);
    parts p = parts_at(t, p10 ? 0.1 : 0.5);
    double sum = 4 * p.trip + p.sign + p.verify, limit = TIMES_WANTED * sum;
    double value = samples_at(&t->message, 0.5);
    report_section("A gossip message of 100 bytes: publish to delivery");
    snprintf(formula, sizeof formula,
             "%.1f x %.0f us: 4 round trips, a signature, a verification%s", TIMES_WANTED, sum,
             quantile_text(p10));
    report_verdict("publish to deliver p50", value, limit, "us", judge(value <= limit, p10),
                   formula);
    report_value("publish to deliver p99", samples_at(&t->message, 0.99), "us", NULL);
    report_others(t);
}

static void measure_message(loopback_probe *trips) {
    net_times t = {0};
    net_pair *pair = net_pair_open();
    bench_say("messages");
    net_pair_connect(pair, NULL);
    net_pair_hear(pair);
    company others = company_begin();
    for (int round = 0; round < ROUNDS; round++) {
        loopback_probe_run(trips, TRIPS, &t.trip);
        crypto_probe_run(PRIMITIVES, &t.crypto);
        for (int i = 0; i < MESSAGES; i++) net_pair_publish(pair, &t.message);
    }
    t.others = company_end(&others);
    net_pair_close(pair);
    report_message(&t);
    times_free(&t);
}

bool net_measure(const char *only, double hold_seconds) {
    static const char *const names[] = {"handshake", "stream", "message", "idle"};
    bool known = strcmp(only, "net") == 0;
    loopback_probe *trips = loopback_probe_open();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(only, "net") != 0 && strcmp(only, names[i]) != 0) continue;
        known = true;
        if (i == 0) measure_handshake(trips);
        if (i == 1) measure_stream();
        if (i == 2) measure_message(trips);
        if (i == 3) net_hold_measure(hold_seconds);
    }
    loopback_probe_close(trips);
    return known;
}
