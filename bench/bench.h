/* What the files of the benchmark share. One process measures, another (merod) is measured; the
 * benchmark knows the node only by its command line, its HTTP API and /proc (but for deltas.c).
 *
 * Functions end the program with a message when a step cannot be done: a benchmark has nobody to
 * report an error to. Times are microseconds unless named otherwise. Protocol: http-api.md 5, 6. */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    BENCH_KEYS = 100,      /* entries in each context that is called */
    BENCH_CALLED = 64,     /* contexts that are called */
    BENCH_CONTEXTS = 1000, /* contexts of the large bench_node */
    BENCH_ID_MAX = 72,     /* base58 or hex text and its NUL */
    BENCH_PATH_MAX = 1024,
    BENCH_REQUEST_MAX = 1024,
    BENCH_REPLY_MAX = 16 * 1024,
};

_Noreturn void bench_die(const char *format, ...) __attribute__((format(printf, 1, 2)));
uint64_t bench_now_ns(void);
void bench_sleep_ms(unsigned ms);
void bench_say(const char *format, ...) __attribute__((format(printf, 1, 2))); /* progress */

/* --- samples.c --- */

typedef struct samples {
    double *values;
    size_t count, capacity;
    bool sorted;
} samples;

void samples_add(samples *all, double value);
double samples_at(samples *all, double quantile); /* 0.5 is the median; 0 when empty */
void samples_free(samples *all);

/* --- report.c --- */

typedef enum verdict {
    VERDICT_NONE,
    VERDICT_PASS,
    VERDICT_MISS,
    VERDICT_OTHER_LIMIT,
    VERDICT_DISTURBED
} verdict;

void report_section(const char *title);
/* A figure without a limit; note may be NULL. The name is unique within its section. */
void report_value(const char *name, double value, const char *unit, const char *note);
/* A figure that must be at most `limit`; `formula` says what the limit is made of. */
void report_limit(const char *name, double value, double limit, const char *unit,
                  const char *formula);
void report_verdict(const char *name, double value, double limit, const char *unit, verdict judged,
                    const char *formula);
void report_json(const char *path);
unsigned report_count(verdict judged);

/* --- probe.c: what the machine gives --- */

/* TCP echo of a call's size in another thread. */
typedef struct loopback_probe loopback_probe;
loopback_probe *loopback_probe_open(void);
void loopback_probe_run(loopback_probe *probe, size_t rounds, samples *times);
void loopback_probe_close(loopback_probe *probe);
typedef struct flush_probe flush_probe;
flush_probe *flush_probe_open(const char *folder);
/* Writes 4 KiB and calls fdatasync, so many times at the end of a file and as often inside it. */
void flush_probe_run(flush_probe *probe, size_t rounds, samples *appends, samples *overwrites);
void flush_probe_close(flush_probe *probe);

/* --- guest.c: the module in a bare engine loop, with fuel --- */

typedef struct guest guest;
typedef struct guest_times {
    samples call;        /* store, instance and method: what a call of the node runs */
    samples instantiate; /* store and instance */
    samples method;      /* __calimero_register_merge and the method */
} guest_times;

guest *guest_open(const char *wasm_path, double *ret_load_us); /* load: artefact to linked module */
void guest_call(guest *g, const char *method, const char *args,
                guest_times *times); /* NULL allowed */
void guest_close(guest *g);

/* The same calls through the node's own src/vm over a table in memory. */
typedef struct vm_loop vm_loop;
vm_loop *vm_loop_open(const char *wasm_path, double *ret_load_us);
void vm_loop_call(vm_loop *loop, const char *method, const char *args, samples *times);
void vm_loop_close(vm_loop *loop);

/* --- http.c --- */

typedef struct http_connection {
    int fd;
    size_t len; /* of what was read of the reply so far */
    char reply[BENCH_REPLY_MAX];
} http_connection;

void http_open(http_connection *connection, uint16_t port, bool blocking);
void http_close(http_connection *connection);
/* Length of the request written into ret_request. */
size_t http_post(char ret_request[BENCH_REQUEST_MAX], const char *path, const char *body);
void http_send(http_connection *connection, const char *request, size_t len);
/* Reads what there is. true when a whole reply is there; the body is NUL-terminated and lives until
 * the next read. */
bool http_read(http_connection *connection, char **ret_body, int *ret_status);
/* Sends and waits, on a blocking connection. */
char *http_call(http_connection *connection, const char *request, size_t len);

/* --- node.c: the measured process --- */

typedef struct bench_node {
    const char *merod, *home_base;
    pid_t pid;
    uint16_t port;
    int log;   /* read end of its standard error */
    int leash; /* closed when we end: it stops */
    char application[BENCH_ID_MAX], name_space[BENCH_ID_MAX];
    char (*contexts)[BENCH_ID_MAX];
    size_t context_count;
} bench_node;

void bench_node_init(bench_node *n, const char *merod, const char *home_base);
void bench_node_start(bench_node *n);
void bench_node_stop(bench_node *n);
void bench_node_install(bench_node *n, const char *wasm_path); /* and makes the namespace */
void bench_node_grow(bench_node *n, size_t contexts);          /* creates until there are so many */
void bench_node_fill(bench_node *n, size_t first, size_t end); /* BENCH_KEYS entries in each */
/* From exec to the answer of a `get`; leaves the node running. */
double bench_node_first_answer_ms(bench_node *n, double *ret_listening_ms);
typedef struct process_memory {
    double rss_kb, anonymous_kb;
} process_memory;
process_memory process_memory_get(pid_t pid);
double bench_node_cpu_us(const bench_node *n); /* user and system time so far */

/* --- deltas.c: received deltas, in this process --- */

void deltas_measure(const char *wasm_path, const char *folder);
double deltas_guest_rate(const char *wasm_path,
                         const char *folder); /* of the guest alone, a second */

/* --- share.c: a context on several nodes --- */

/* "share", or one part of it: "meeting", "missed", "state", "cost"; false: no such part. The folder
 * is made. `longer`: a million entities, 100,000 missed deltas. */
bool share_measure(const char *part, const char *wasm_path, const char *folder, bool longer);
/* Runs as one of its nodes when argv says so: a status; else -1. */
int share_role(int argc, char **argv);

/* --- net.c: the network's figures --- */

/* "net", or one part of it: "handshake", "stream", "message", "idle"; false: no such part. Idle
 * connections are held for so many seconds. */
bool net_measure(const char *part, double hold_seconds);
/* Runs as one of the processes of that measurement when argv says so: a status; else -1. */
int net_role(int argc, char **argv);

/* --- load.c --- */

typedef struct load_plan {
    const bench_node *target;
    size_t connections, contexts;
    bool write;
    double seconds;
    size_t calls; /* stop after so many; 0: only the time counts */
} load_plan;

typedef struct load_result {
    double per_second, p50, p99;
    double node_cpu, generator_cpu; /* microseconds a call */
} load_result;

/* `times` (NULL allowed) gets every latency. A call that fails ends the program. */
load_result load_run(const load_plan *plan, samples *times);
/* The request of one call; what bare loops are given as `args` is in ret_args of load_args. */
void load_args(char ret_args[128], bool write, unsigned number);
size_t load_request(char ret_request[BENCH_REQUEST_MAX], const char *context, bool write,
                    unsigned number);

#endif
