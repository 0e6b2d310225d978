/* The load generator: connections that each have one call under way. One connection is driven with
 * blocking calls, which is the cheapest; more by one thread with epoll, so that the node has nearly
 * both processors. Connection i calls contexts i, i + connections, ... in turn. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench.h"

enum { EVENTS = 64 };

void load_args(char ret_args[128], bool write, unsigned number) {
    if (write)
        snprintf(ret_args, 128, "{\"key\":\"key-%03u\",\"value\":\"value-%010u-%015u\"}",
                 number % BENCH_KEYS, number, number);
    else
        snprintf(ret_args, 128, "{\"key\":\"key-%03u\"}", number % BENCH_KEYS);
}

size_t load_request(char ret_request[BENCH_REQUEST_MAX], const char *context, bool write,
                    unsigned number) {
    char args[128], body[512];
    load_args(args, write, number);
    snprintf(
        body, sizeof body,
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"execute\",\"params\":{\"contextId\":\"%s\","
        "\"method\":\"%s\",\"argsJson\":%s}}",
        context, write ? "set" : "get", args);
    return http_post(ret_request, "/jsonrpc", body);
}

typedef struct client {
    http_connection connection;
    size_t context;
    uint64_t began;
} client;

typedef struct run {
    const load_plan *plan;
    samples *times;
    unsigned number;
    size_t done;
    uint64_t end_ns;
} run;

static void send_next(run *r, client *c) {
    char request[BENCH_REQUEST_MAX];
    size_t len =
        load_request(request, r->plan->target->contexts[c->context], r->plan->write, r->number++);
    c->context = (c->context + r->plan->connections) % r->plan->contexts;
    c->began = bench_now_ns();
    http_send(&c->connection, request, len);
}

/* true when the reply is there; its time is counted. */
static bool take_reply(run *r, client *c) {
    char *body;
    int status;
    if (!http_read(&c->connection, &body, &status)) return false;
    uint64_t now = bench_now_ns();
    if (status != 200 || !strstr(body, "\"result\""))
        bench_die("a call failed: %d %s", status, body);
    samples_add(r->times, (double)(now - c->began) / 1e3);
    r->done++;
    return true;
}

static bool goes_on(const run *r) {
    return bench_now_ns() < r->end_ns && (r->plan->calls == 0 || r->done < r->plan->calls);
}

static void drive_one(run *r, client *c) {
    while (goes_on(r)) {
        send_next(r, c);
        while (!take_reply(r, c)) {
        }
    }
}

static void drive_many(run *r, client *clients) {
    struct epoll_event events[EVENTS];
    size_t waiting = r->plan->connections;
    int poll = epoll_create1(EPOLL_CLOEXEC);
    if (poll < 0) bench_die("epoll: %s", strerror(errno));
    for (size_t i = 0; i < r->plan->connections; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &clients[i]};
        epoll_ctl(poll, EPOLL_CTL_ADD, clients[i].connection.fd, &event);
        send_next(r, &clients[i]);
    }
    while (waiting > 0) {
        int count = epoll_wait(poll, events, EVENTS, -1);
        if (count < 0 && errno != EINTR) bench_die("epoll: %s", strerror(errno));
        for (int i = 0; i < count; i++) {
            client *c = events[i].data.ptr;
            if (!take_reply(r, c)) continue;
            if (goes_on(r))
                send_next(r, c);
            else
                waiting--;
        }
    }
    close(poll);
}

static double own_cpu_us(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

load_result load_run(const load_plan *plan, samples *times) {
    samples own = {0};
    client *clients = calloc(plan->connections, sizeof *clients);
    if (!clients) bench_die("no memory");
    for (size_t i = 0; i < plan->connections; i++) {
        http_open(&clients[i].connection, plan->target->port, plan->connections == 1);
        clients[i].context = i % plan->contexts;
    }
    size_t before = times ? times->count : 0;
    double node_before = bench_node_cpu_us(plan->target), own_before = own_cpu_us();
    uint64_t began = bench_now_ns();
    run r = {.plan = plan,
             .times = times ? times : &own,
             .end_ns = began + (uint64_t)(plan->seconds * 1e9)};
    if (plan->connections == 1)
        drive_one(&r, clients);
    else
        drive_many(&r, clients);
    double seconds = (double)(bench_now_ns() - began) / 1e9, calls = (double)r.done;
    load_result result = {.per_second = calls / seconds,
                          .node_cpu = (bench_node_cpu_us(plan->target) - node_before) / calls,
                          .generator_cpu = (own_cpu_us() - own_before) / calls};
    for (size_t i = 0; i < plan->connections; i++) http_close(&clients[i].connection);
    free(clients);
    if (!times || before == 0) {
        result.p50 = samples_at(r.times, 0.5);
        result.p99 = samples_at(r.times, 0.99);
    }
    samples_free(&own);
    return result;
}
