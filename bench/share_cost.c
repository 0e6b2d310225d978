/* What sharing costs: bytes on the wire for a write, and processor time while nothing happens. */
#include "share.h"

enum {
    WRITES = 200,
    REST_MS = 2000,   /* after the writes, and before */
    SETTLE_MS = 8000, /* past gossip's first heartbeats */
    CONTEXTS = 100,
    SHARERS = 4,
    IDLE_MS = 30000,
    IDLE_SETTLE_MS = 15000, /* until nobody looks again for what may have been missed */
};
#define COPY_BYTES 184.0
#define COPIES 1.5
#define IDLE_LIMIT 1.0 /* percent of a core */

typedef struct wire {
    double bytes, published, published_bytes, received, duplicates, connections;
} wire;

static wire wire_now(share_run *r, size_t nodes) {
    wire all = {0};
    for (size_t i = 0; i < nodes; i++) {
        share_counters c = share_count(&r->nodes[i]);
        all.bytes += (double)c.bytes_out;
        all.published += (double)c.published;
        all.published_bytes += (double)c.published_bytes;
        all.received += (double)c.received;
        all.duplicates += (double)c.duplicates;
        all.connections += (double)c.connections;
    }
    return all;
}

/* All that goes over the sockets of all nodes while one writes, less what goes while none does. */
static void measure_wire(share_run *r, size_t nodes) {
    char name[64], formula[200];
    bench_say("bytes on the wire, %zu nodes", nodes);
    bench_sleep_ms(SETTLE_MS);
    wire quiet = wire_now(r, nodes);
    uint64_t t0 = bench_now_ns();
    bench_sleep_ms(2 * REST_MS);
    wire before = wire_now(r, nodes);
    uint64_t t1 = bench_now_ns();
    share_tell(&r->nodes[0], "write 0 %d 1 0", WRITES);
    bench_sleep_ms(REST_MS);
    wire after = wire_now(r, nodes);
    uint64_t t2 = bench_now_ns();
    double idle = (before.bytes - quiet.bytes) / (double)(t1 - t0) * (double)(t2 - t1);
    double bytes = (after.bytes - before.bytes - idle) / WRITES;
    double payload =
        (after.published_bytes - before.published_bytes) / (after.published - before.published);
    double copies = (after.received - before.received) / WRITES;
    snprintf(name, sizeof name, "Sharing: bytes on the wire for a write, %zu nodes", nodes);
    report_section(name);
    snprintf(formula, sizeof formula, "(%.0f sealed + 184) x 1.5 copies x %zu peers", payload,
             nodes - 1);
    share_report(r, "bytes a write", bytes, (payload + COPY_BYTES) * COPIES * (double)(nodes - 1),
                 false, "B", formula);
    report_value("sealed delta", payload, "B", "of a write of 32 bytes, as it is published");
    report_value("copies a peer", copies / (double)(nodes - 1), "", "received, of all messages");
    report_value("bytes a copy beside it", bytes / copies - payload, "B",
                 "all that goes on, by the number of copies");
    report_value("of the copies, not the first",
                 100 * (after.duplicates - before.duplicates) / (after.received - before.received),
                 "%", NULL);
    report_value("messages published", (after.published - before.published) / WRITES, "",
                 "by all, for a write");
    report_value("connections a node", after.connections / (double)nodes, "", NULL);
    report_value("while nobody writes",
                 (before.bytes - quiet.bytes) / ((double)(t1 - t0) / 1e9) / (double)nodes, "B/s",
                 "a node");
}

static void measure_idle(share_run *r) {
    double used[SHARERS], most = 0, sum = 0;
    bench_say("idle with %d contexts", CONTEXTS);
    share_tell(&r->nodes[0], "contexts %d", CONTEXTS - 1);
    for (size_t i = 1; i < SHARERS; i++) share_tell(&r->nodes[i], "has %d", CONTEXTS);
    bench_sleep_ms(IDLE_SETTLE_MS);
    share_watch watch = share_watch_begin(r);
    wire before = wire_now(r, SHARERS);
    for (size_t i = 0; i < SHARERS; i++) used[i] = share_cpu_s(&r->nodes[i]);
    bench_sleep_ms(IDLE_MS);
    for (size_t i = 0; i < SHARERS; i++) {
        used[i] = 100 * (share_cpu_s(&r->nodes[i]) - used[i]) / (IDLE_MS / 1000.0);
        if (used[i] > most) most = used[i];
        sum += used[i];
    }
    wire after = wire_now(r, SHARERS);
    share_watch_end(r, &watch);
    report_section("Sharing: idle with 100 shared contexts and 3 peers");
    share_report(r, "processor time of a node", sum / SHARERS, IDLE_LIMIT, false, "%",
                 "of a core, over 30 s, mean of the four");
    report_value("processor time, the busiest", most, "%", NULL);
    report_value("bytes sent a node", (after.bytes - before.bytes) / SHARERS / (IDLE_MS / 1000.0),
                 "B/s", NULL);
    report_value("messages published a node",
                 (after.published - before.published) / SHARERS / (IDLE_MS / 1000.0), "/s", NULL);
}

void share_measure_cost(share_run *r) {
    static char code[SHARE_LINE];
    char context[BENCH_ID_MAX];
    share_found(r, &r->nodes[0], context, code);
    share_tell(&r->nodes[0], "write 0 %d 64 0", BENCH_KEYS);
    share_join(&r->nodes[1], context, code);
    measure_wire(r, 2);
    for (size_t i = 2; i < SHARE_NODES_MAX; i++) share_join(&r->nodes[i], context, code);
    measure_wire(r, SHARE_NODES_MAX);
    for (size_t i = SHARERS; i < SHARE_NODES_MAX; i++) share_child_stop(&r->nodes[i]);
    measure_idle(r);
}
