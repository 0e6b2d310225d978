/* A context shared by several nodes (issue 9, "Proof"): how soon a write is heard of, how fast
 * somebody is let in, catches up, takes a state, finds what differs. share_cost.c has what it costs
 * while nothing happens, and on the wire. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net_bench.h"
#include "share.h"

enum {
    ROUNDS = 5,
    WRITES = 60, /* a round */
    READS = 1000,
    JOINERS = 3,
    DEPTH = 64, /* writes under way where only their number matters */
    DIFFERENT = 10,
    PROBE_BYTES = 64 * 1024 * 1024,
};
#define COMPANY_MAX 10.0 /* percent of a core */

/* --- what all figures have in common --- */

static double nodes_cpu_s(const share_run *r) {
    double all = 0;
    for (size_t i = 0; i < SHARE_NODES_MAX; i++)
        if (r->nodes[i].pid) all += share_cpu_s(&r->nodes[i]);
    return all;
}

share_watch share_watch_begin(const share_run *r) {
    company now = company_begin();
    return (share_watch){now.busy_s, now.own_s + nodes_cpu_s(r), now.since_ns};
}

void share_watch_end(share_run *r, const share_watch *watch) {
    share_watch now = share_watch_begin(r);
    double passed = (double)(now.since_ns - watch->since_ns) / 1e9;
    double others = now.busy_s - watch->busy_s - (now.cpu_s - watch->cpu_s);
    r->others = others > 0 && passed > 0 ? 100 * others / passed : 0;
}

void share_report(const share_run *r, const char *name, double value, double limit, bool at_least,
                  const char *unit, const char *formula) {
    bool reached = at_least ? value >= limit : value <= limit;
    report_verdict(name, value, limit, unit,
                   reached                   ? VERDICT_PASS
                   : r->others > COMPANY_MAX ? VERDICT_DISTURBED
                                             : VERDICT_MISS,
                   formula);
    report_value("  of the limit", 100 * value / limit, "%", NULL);
}

void share_found(share_run *r, share_child *founder, char ret_context[BENCH_ID_MAX],
                 char ret_code[SHARE_LINE]) {
    share_tell(founder, "found %s", r->wasm);
    snprintf(ret_code, SHARE_LINE, "%s", founder->line + 3);
    share_tell(founder, "contexts 1");
    snprintf(ret_context, BENCH_ID_MAX, "%.*s", BENCH_ID_MAX - 1, founder->line + 3);
}

void share_join(share_child *joiner, const char *context, const char *code) {
    share_tell(joiner, "join %s", code);
    share_tell(joiner, "use %s", context);
    share_tell(joiner, "rooted");
}

void share_until_equal(share_child *a, share_child *b) {
    share_tell(a, "root");
    share_tell(b, "until %s", a->line + 3);
}

static double ms_between(uint64_t from_ns, uint64_t to_ns) {
    return (double)(to_ns - from_ns) / 1e6;
}

/* --- the guest alone --- */

static void measure_guest(share_run *r) {
    double load;
    char args[128];
    samples set = {0};
    bench_say("the guest alone");
    vm_loop *vm = vm_loop_open(r->wasm, &load);
    vm_loop_call(vm, "init", "{}", NULL);
    for (unsigned i = 0; i < 500; i++) {
        load_args(args, true, i);
        vm_loop_call(vm, "set", args, i < BENCH_KEYS ? NULL : &set);
    }
    vm_loop_close(vm);
    r->set_us = samples_at(&set, 0.5);
    samples_free(&set);
    r->apply_rate = deltas_guest_rate(r->wasm, r->folder);
    report_section("Sharing: the guest alone");
    report_value("set", r->set_us, "us", "src/vm over a table in memory, p50");
    report_value("deltas applied", r->apply_rate, "/s", "__calimero_sync_next, the same");
}

/* --- a write is heard of --- */

static void one_write(share_child *a, share_child *b, unsigned number, uint64_t *heard,
                      samples *to_event, samples *to_done) {
    share_tell(a, "write %u 1 1 0", number);
    uint64_t began = share_number(a, 0), ended = share_number(a, 1);
    share_tell(b, "heard %llu", (unsigned long long)++*heard);
    samples_add(to_event, (double)(share_number(b, 0) - began) / 1e3);
    samples_add(to_done, (double)(ended - began) / 1e3);
}

static void measure_event(share_run *r, const char *context) {
    share_child *a = &r->nodes[0], *b = &r->nodes[1];
    samples event = {0}, done = {0}, appends = {0}, overwrites = {0};
    char formula[200];
    uint64_t heard = 0;
    bench_say("writes heard of");
    share_tell(b, "use %s", context);
    share_tell(a, "hearers 1");
    share_tell(b, "hearers 1");
    for (unsigned i = 0; i < BENCH_KEYS; i++) one_write(a, b, i, &heard, &event, &done);
    samples_free(&event);
    samples_free(&done);
    event = done = (samples){0};
    flush_probe *flush = flush_probe_open(r->folder);
    share_watch watch = share_watch_begin(r);
    for (unsigned round = 0; round < ROUNDS; round++) {
        flush_probe_run(flush, 40, &appends, &overwrites);
        for (unsigned i = 0; i < WRITES; i++)
            one_write(a, b, round * WRITES + i, &heard, &event, &done);
    }
    share_watch_end(r, &watch);
    flush_probe_close(flush);
    double flush_us = samples_at(&appends, 0.5), fast = samples_at(&appends, 0.1);
    if (flush_us > 2 * fast) flush_us = fast;
    double apply_us = 1e6 / r->apply_rate;
    report_section("Sharing: a write on A to its event on B");
    snprintf(formula, sizeof formula,
             "%.0f us guest of A + %.0f us of B + 2 x %.0f us flush + 2 ms", r->set_us, apply_us,
             flush_us);
    share_report(r, "event p50", samples_at(&event, 0.5),
                 r->set_us + apply_us + 2 * flush_us + 2000, false, "us", formula);
    share_report(r, "event p99", samples_at(&event, 0.99),
                 r->set_us + apply_us + 2 * flush_us + 2000, false, "us", "the same");
    report_value("acknowledged on A p50", samples_at(&done, 0.5), "us", "of it");
    report_value("acknowledged on A p99", samples_at(&done, 0.99), "us", NULL);
    samples_free(&event);
    samples_free(&done);
    samples_free(&appends);
    samples_free(&overwrites);
}

/* --- joining --- */

static void measure_join(share_run *r, const char *context, const char *code) {
    samples joined = {0}, read = {0};
    bench_say("joining");
    share_watch watch = share_watch_begin(r);
    for (unsigned i = 0; i < JOINERS; i++) {
        share_child *b = &r->nodes[1 + i];
        share_tell(b, "join %s", code);
        uint64_t began = share_number(b, 0);
        samples_add(&joined, ms_between(began, share_number(b, 1)));
        share_tell(b, "use %s", context);
        share_tell(b, "readable 7");
        samples_add(&read, ms_between(began, share_number(b, 0)));
    }
    share_watch_end(r, &watch);
    report_section("Sharing: joining a context of 1,000 entities");
    share_report(r, "join to first read, median", samples_at(&read, 0.5), 300, false, "ms",
                 "the application comes from the founder; loopback");
    report_value("join to first read, worst", samples_at(&read, 1), "ms", NULL);
    report_value("join to being a member, median", samples_at(&joined, 0.5), "ms", "of it");
    samples_free(&joined);
    samples_free(&read);
}

/* --- catching up --- */

static void measure_missed(share_run *r, unsigned count) {
    share_child *a = &r->nodes[0], *b = &r->nodes[1];
    char name[64], formula[200];
    bench_say("%u missed deltas", count);
    share_until_equal(a, b);
    share_tell(b, "stop");
    share_tell(a, "write 0 %u %u 0", count, DEPTH);
    double written = count / (ms_between(share_number(a, 0), share_number(a, 1)) / 1e3);
    share_tell(a, "root");
    uint64_t before = bench_now_ns();
    share_watch watch = share_watch_begin(r);
    share_tell(b, "start");
    share_tell(b, "hearers 1");
    uint64_t met = share_number(b, 0);
    share_tell(b, "until %s", a->line + 3);
    uint64_t equal = share_number(b, 0);
    share_watch_end(r, &watch);
    share_counters seen = share_count(b);
    double rate = count / (ms_between(met, equal) / 1e3);
    snprintf(name, sizeof name, "Sharing: %u missed deltas caught up", count);
    report_section(name);
    snprintf(formula, sizeof formula,
             "half of the guest alone; from being connected to equal roots; %.0f ms",
             ms_between(met, equal));
    share_report(r, "caught up", rate, r->apply_rate / 2, true, "/s", formula);
    snprintf(formula, sizeof formula, "%llu came many at once, %llu one by one",
             (unsigned long long)seen.deltas_bulk, (unsigned long long)seen.deltas_fetched);
    report_value("from the node's start", count / (ms_between(before, equal) / 1e3), "/s", formula);
    report_value("start to connected", ms_between(before, met), "ms", NULL);
    report_value("written on A meanwhile", written, "/s", "64 under way, one context");
}

/* --- a state --- */

static double probe_disk(const char *folder) {
    static uint8_t piece[1024 * 1024];
    char path[BENCH_PATH_MAX];
    snprintf(path, sizeof path, "%s/disk.probe", folder);
    for (size_t i = 0; i < sizeof piece; i++) piece[i] = (uint8_t)(i * 31);
    FILE *file = fopen(path, "w");
    if (!file) bench_die("%s cannot be written", path);
    uint64_t began = bench_now_ns();
    for (size_t done = 0; done < PROBE_BYTES; done += sizeof piece)
        if (fwrite(piece, 1, sizeof piece, file) != sizeof piece) bench_die("the disk is full");
    if (fflush(file) != 0 || fdatasync(fileno(file)) != 0) bench_die("%s: no flush", path);
    double seconds = (double)(bench_now_ns() - began) / 1e9;
    fclose(file);
    unlink(path);
    return PROBE_BYTES / 1e6 / seconds;
}

static double probe_aead(void) {
    samples times = {0};
    for (int i = 0; i < 3; i++) aead_probe_run(PROBE_BYTES, &times);
    double mb_s = 1024 / samples_at(&times, 0.5) * 1e3;
    samples_free(&times);
    return mb_s;
}

/* A grows a state; C joins and takes it while two writers go on. */
static void measure_snapshot(share_run *r, uint32_t entities) {
    share_child *a = &r->nodes[0], *c = &r->nodes[1];
    char context[BENCH_ID_MAX], name[64], formula[200];
    static char code[SHARE_LINE];
    bench_say("a state of %u entities", entities);
    share_found(r, a, context, code);
    share_tell(a, "write 0 1 1 0");
    uint64_t began = bench_now_ns();
    share_tell(a, "grow 0 %u %u 1 0", entities, entities);
    double grown = ms_between(began, share_number(a, 0)) / 1e3;
    share_tell(a, "size");
    double megabytes = (double)share_number(a, 0) / 1e6;
    double disk = probe_disk(r->folder), aead = probe_aead(), limit = disk < aead ? disk : aead;
    share_counters before = share_count(c);
    double cpu = share_cpu_s(c);
    share_tell(a, "begin");
    share_watch watch = share_watch_begin(r);
    share_tell(c, "join %s", code);
    uint64_t joined = share_number(c, 1);
    share_tell(c, "use %s", context);
    share_tell(c, "rooted");
    uint64_t there = share_number(c, 0);
    share_watch_end(r, &watch);
    cpu = share_cpu_s(c) - cpu;
    share_counters after = share_count(c);
    share_tell(a, "end");
    uint64_t written = share_number(a, 0);
    share_until_equal(a, c);
    uint64_t equal = share_number(c, 0);
    double seconds = ms_between(joined, there) / 1e3;
    snprintf(name, sizeof name, "Sharing: a state of %u entities, writers running", entities);
    report_section(name);
    report_value("disk", disk, "MB/s", "64 MiB in a row and a flush");
    report_value("AEAD", aead, "MB/s", "ChaCha20-Poly1305, full messages");
    snprintf(formula, sizeof formula,
             "60%% of the smaller; %.1f MB in %.0f ms, from member to state", megabytes,
             ms_between(joined, there));
    share_report(r, "taken", megabytes / seconds, 0.6 * limit, true, "MB/s", formula);
    report_value("entities", entities / seconds, "/s", NULL);
    report_value("processor time of who takes it", 1e6 * cpu / entities, "us", "an entity");
    report_value("on the wire", (double)(after.bytes_in - before.bytes_in) / 1e6, "MB", NULL);
    snprintf(formula, sizeof formula, "%llu written meanwhile; grown in %.1f s",
             (unsigned long long)written, grown);
    report_value("equal roots after it", ms_between(there, equal), "ms", formula);
}

/* The same two nodes: ten entities of A become others, behind everybody's back. */
static void measure_different(share_run *r, uint32_t entities) {
    share_child *a = &r->nodes[0], *c = &r->nodes[1];
    char name[64], formula[200];
    bench_say("%d differing entities", DIFFERENT);
    share_tell(a, "hearers 1");
    share_tell(c, "hearers 1");
    share_counters a0 = share_count(a), c0 = share_count(c);
    share_tell(a, "grow %u %u %u %u 1", 0u, entities, entities, entities / DIFFERENT);
    share_watch watch = share_watch_begin(r);
    share_tell(a, "root");
    uint64_t began = bench_now_ns();
    share_ask(c, "sync");
    share_hear(c);
    share_tell(c, "until %s", a->line + 3);
    uint64_t ended = share_number(c, 0);
    share_watch_end(r, &watch);
    share_counters a1 = share_count(a), c1 = share_count(c);
    double trees = (double)(a1.trees_served + c1.trees_served - a0.trees_served - c0.trees_served);
    double heads = (double)(a1.heads_served + c1.heads_served - a0.heads_served - c0.heads_served);
    double hashes = (double)(a1.tree_hashes_served + c1.tree_hashes_served - a0.tree_hashes_served -
                             c0.tree_hashes_served);
    double compared =
        (double)(a1.trees_compared + c1.trees_compared - a0.trees_compared - c0.trees_compared);
    snprintf(name, sizeof name, "Sharing: ten of %u entities differ", entities);
    report_section(name);
    snprintf(formula, sizeof formula,
             "%.0f answers about trees, %.0f about heads; %.0f comparisons", trees, heads,
             compared);
    share_report(r, "round trips", trees + heads, 6, false, "", formula);
    share_report(r, "hashes", hashes, 4 * DIFFERENT * log2(entities), false, "", "4 k log2 n");
    report_value("to equal roots", ms_between(began, ended), "ms", NULL);
    report_value("bytes", (double)(c1.bytes_in - c0.bytes_in + c1.bytes_out - c0.bytes_out), "",
                 "in and out of the one that was behind");
}

/* --- all --- */

static void start_nodes(share_run *r, const char *group, size_t count) {
    for (size_t i = 0; i < count; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s-%zu", group, i);
        share_child_start(&r->nodes[i], r->folder, name);
    }
}

static void stop_nodes(share_run *r) {
    for (size_t i = 0; i < SHARE_NODES_MAX; i++) share_child_stop(&r->nodes[i]);
}

static void measure_meeting(share_run *r) {
    static char code[SHARE_LINE];
    char context[BENCH_ID_MAX];
    start_nodes(r, "meeting", 1 + JOINERS);
    share_found(r, &r->nodes[0], context, code);
    share_tell(&r->nodes[0], "write 0 %d %d 1", READS, DEPTH);
    measure_join(r, context, code);
    for (size_t i = 2; i < 1 + JOINERS; i++) share_child_stop(&r->nodes[i]);
    measure_event(r, context);
    stop_nodes(r);
}

static void measure_catching_up(share_run *r) {
    static char code[SHARE_LINE];
    char context[BENCH_ID_MAX];
    start_nodes(r, "missing", 2);
    share_found(r, &r->nodes[0], context, code);
    share_tell(&r->nodes[0], "write 0 %d %d 0", BENCH_KEYS, DEPTH);
    share_join(&r->nodes[1], context, code);
    measure_missed(r, 1000);
    measure_missed(r, r->longer ? 100000 : 20000);
    stop_nodes(r);
}

static void measure_state(share_run *r) {
    uint32_t entities = r->longer ? 1000000 : 100000;
    start_nodes(r, "state", 2);
    measure_snapshot(r, entities);
    measure_different(r, entities);
    stop_nodes(r);
}

static void measure_cost(share_run *r) {
    start_nodes(r, "many", SHARE_NODES_MAX);
    share_measure_cost(r);
    stop_nodes(r);
}

bool share_measure(const char *part, const char *wasm, const char *folder, bool longer) {
    bool all = strcmp(part, "share") == 0, meeting = all || strcmp(part, "meeting") == 0,
         missed = all || strcmp(part, "missed") == 0, state = all || strcmp(part, "state") == 0,
         cost = all || strcmp(part, "cost") == 0;
    if (!meeting && !missed && !state && !cost) return false;
    share_run *r = calloc(1, sizeof *r);
    if (!r || mkdir(folder, 0700) != 0) bench_die("%s cannot be made", folder);
    *r = (share_run){.wasm = wasm, .folder = folder, .longer = longer};
    if (meeting || missed) measure_guest(r);
    if (meeting) measure_meeting(r);
    if (missed) measure_catching_up(r);
    if (state) measure_state(r);
    if (cost) measure_cost(r);
    free(r);
    return true;
}
