/* What connections cost that do nothing: one process holds them, another one makes them, this one
 * looks at the first from outside. Each connection has a peer of its own, so the crowd is as many
 * hosts, each in a thread of its own. Gossip is on everywhere; who is heard by whom is said where
 * the crowd is made.
 *
 * The two other processes are this program again (net_role). Each says one line when it is there,
 * and ends when its standard input does. */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "net_bench.h"

extern char **environ;

enum {
    HELD = 1000,
    AT_ONCE = 32,     /* of the crowd's dials */
    SETTLE_MS = 8000, /* past gossip's first heartbeat, 5 s after its start */
    PATIENCE_MS = 120000,
    STACK = 256 * 1024, /* of a thread of the crowd */
    LINE = CAL_MULTIADDR_TEXT_MAX,
};

#define MEMORY_LIMIT_KIB 96.0
#define PROCESSOR_LIMIT 2.0 /* percent of one core */

static const char topic[] = "idle";

static void speak_gossip(cal_p2p *host) {
    cal_error err = {0};
    cal_p2p_gossip_options options = {0};
    if (cal_p2p_gossip_start(host, &options) || cal_p2p_subscribe(host, topic, false, &err))
        bench_die("gossip: %s", err.message);
}

static cal_p2p *host_new(const char *listen) {
    cal_p2p *host;
    cal_error err = {0};
    cal_p2p_options options = {.listen = &listen, .listen_count = listen ? 1 : 0};
    if (cal_p2p_new(&options, &host, &err)) bench_die("a host: %s", err.message);
    speak_gossip(host);
    return host;
}

/* --- the holder --- */

static void count_identified(void *user, const cal_p2p_peer *peer) {
    *(unsigned *)user += peer->identified;
}

static void say_state(void *user) {
    cal_p2p *host = user;
    cal_p2p_stats stats;
    unsigned identified = 0;
    cal_p2p_stats_get(host, &stats);
    cal_p2p_peers(host, count_identified, &identified);
    struct mallinfo2 heap = mallinfo2();
    printf("%u %u %u %zu\n", (unsigned)stats.connections, identified, (unsigned)stats.pings_failed,
           heap.uordblks + heap.hblkhd);
    fflush(stdout);
}

/* Each byte that comes asks for the state. */
static void *answer(void *user) {
    char byte;
    while (read(STDIN_FILENO, &byte, 1) == 1)
        if (cal_p2p_post(user, say_state, user)) bench_die("no memory");
    cal_p2p_stop(user);
    return NULL;
}

static int hold(void) {
    cal_multiaddr address;
    char text[CAL_MULTIADDR_TEXT_MAX];
    pthread_t thread;
    cal_p2p *host = host_new("/ip4/127.0.0.1/tcp/0");
    if (cal_p2p_addresses(host, &address, 1) != 1) bench_die("the holder has no address");
    cal_multiaddr_text(&address, text);
    printf("%s\n", text);
    fflush(stdout);
    if (pthread_create(&thread, NULL, answer, host)) bench_die("no thread");
    cal_p2p_run(host);
    pthread_join(thread, NULL);
    cal_p2p_free(host);
    return 0;
}

/* --- the crowd --- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned identified;
} crowd = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};

static void on_identified(void *user, const cal_p2p_peer *peer) {
    bool *told = user;
    (void)peer;
    if (*told) return;
    *told = true;
    pthread_mutex_lock(&crowd.lock);
    crowd.identified++;
    pthread_cond_signal(&crowd.changed);
    pthread_mutex_unlock(&crowd.lock);
}

static void on_dialled(void *user, const cal_error *err, const cal_peer_id *peer) {
    (void)user, (void)peer;
    if (err) bench_die("dialling the holder: %s", err->message);
}

static void *live(void *user) {
    static const cal_p2p_peer_events events = {.identified = on_identified};
    const cal_multiaddr *holder = user;
    bool told = false;
    cal_p2p *host = host_new(NULL);
    if (cal_p2p_observe(host, &events, &told)) bench_die("no memory");
    cal_p2p_connect(host, NULL, holder, 1, on_dialled, NULL);
    cal_p2p_run(host);
    return NULL;
}

static int be_crowd(const char *address, unsigned count) {
    cal_multiaddr holder;
    pthread_attr_t attributes;
    pthread_t thread;
    char byte;
    if (cal_multiaddr_parse(address, &holder)) bench_die("bad address '%s'", address);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    for (unsigned i = 0; i < count; i++) {
        pthread_mutex_lock(&crowd.lock);
        while (i >= crowd.identified + AT_ONCE) pthread_cond_wait(&crowd.changed, &crowd.lock);
        pthread_mutex_unlock(&crowd.lock);
        if (pthread_create(&thread, &attributes, live, &holder)) bench_die("no thread %u", i);
    }
    pthread_mutex_lock(&crowd.lock);
    while (crowd.identified < count) pthread_cond_wait(&crowd.changed, &crowd.lock);
    pthread_mutex_unlock(&crowd.lock);
    printf("ready\n");
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0) continue;
    _exit(0); /* its threads are in their loops */
}

int net_role(int argc, char **argv) {
    struct rlimit files;
    if (argc < 2 || strncmp(argv[1], "--net-", 6) != 0) return -1;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    if (argc == 2 && strcmp(argv[1], "--net-holder") == 0) return hold();
    if (argc == 4 && strcmp(argv[1], "--net-crowd") == 0)
        return be_crowd(argv[2], (unsigned)atoi(argv[3]));
    return -1;
}

/* --- from outside --- */

typedef struct child {
    pid_t pid;
    int in;
    FILE *out;
} child;

static child start(const char *const argv[]) {
    child c;
    int in[2], out[2];
    posix_spawn_file_actions_t actions;
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0)
        bench_die("pipe: %s", strerror(errno));
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    int error = posix_spawn(&c.pid, "/proc/self/exe", &actions, NULL,
                            (char *const *)(uintptr_t)argv, environ);
    if (error) bench_die("%s: %s", argv[1], strerror(error));
    posix_spawn_file_actions_destroy(&actions);
    close(in[0]);
    close(out[1]);
    c.in = in[1];
    c.out = fdopen(out[0], "r");
    if (!c.out) bench_die("no memory");
    return c;
}

static void hear_line(const child *c, char ret_line[LINE]) {
    if (!fgets(ret_line, LINE, c->out)) bench_die("a process of the idle connections ended");
    ret_line[strcspn(ret_line, "\n")] = '\0';
}

static void stop(child *c) {
    int status;
    close(c->in);
    if (waitpid(c->pid, &status, 0) != c->pid || status != 0)
        bench_die("a process of the idle connections did not stop cleanly");
    fclose(c->out);
}

typedef struct held {
    unsigned connections, identified, pings_failed;
    size_t allocated;
    double rss_kb, processor_s;
} held;

static held look(const child *holder) {
    char line[LINE];
    held h = {0};
    clockid_t clock;
    struct timespec used;
    if (write(holder->in, "?", 1) != 1) bench_die("the holder: %s", strerror(errno));
    hear_line(holder, line);
    if (sscanf(line, "%u %u %u %zu", &h.connections, &h.identified, &h.pings_failed,
               &h.allocated) != 4)
        bench_die("the holder says: %s", line);
    h.rss_kb = process_memory_get(holder->pid).rss_kb;
    if (clock_getcpuclockid(holder->pid, &clock) != 0 || clock_gettime(clock, &used) != 0)
        bench_die("the holder's processor time cannot be read");
    h.processor_s = (double)used.tv_sec + (double)used.tv_nsec / 1e9;
    return h;
}

static void report(const held *before, const held *first, const held *last, double seconds) {
    char note[200];
    double rss = (last->rss_kb - before->rss_kb) / HELD;
    double busy = 100 * (last->processor_s - first->processor_s) / seconds;
    report_section("1,000 idle connections, gossip on");
    snprintf(note, sizeof note,
             "growth of resident memory (%.0f to %.0f kB) / %d; the kernel's sockets apart",
             before->rss_kb, last->rss_kb, HELD);
    report_limit("memory a connection", rss, MEMORY_LIMIT_KIB, "KiB", note);
    report_value("  of it, allocated",
                 ((double)last->allocated - (double)before->allocated) / 1024 / HELD, "KiB", NULL);
    snprintf(note, sizeof note,
             "of one core, over %.0f s; pings both ways each 15 s, a gossip heartbeat each second",
             seconds);
    report_limit("processor time of the holder", busy, PROCESSOR_LIMIT, "%", note);
}

void net_hold_measure(double seconds) {
    char address[LINE], line[LINE], count[16];
    snprintf(count, sizeof count, "%d", HELD);
    bench_say("%d idle connections", HELD);
    child holder = start((const char *const[]){"calimero_bench", "--net-holder", NULL});
    hear_line(&holder, address);
    held before = look(&holder);
    child makers =
        start((const char *const[]){"calimero_bench", "--net-crowd", address, count, NULL});
    hear_line(&makers, line);
    held now = look(&holder);
    for (unsigned waited = 0; now.identified < HELD; waited += 100) {
        if (waited > PATIENCE_MS) bench_die("only %u peers were identified", now.identified);
        bench_sleep_ms(100);
        now = look(&holder);
    }
    bench_sleep_ms(SETTLE_MS);
    held first = look(&holder);
    uint64_t began = bench_now_ns();
    bench_sleep_ms((unsigned)(seconds * 1000));
    held last = look(&holder);
    double passed = (double)(bench_now_ns() - began) / 1e9;
    if (last.connections != HELD || last.pings_failed)
        bench_die("%u of %d connections are left, %u pings failed", last.connections, HELD,
                  last.pings_failed);
    report(&before, &first, &last, passed);
    stop(&makers);
    stop(&holder);
}
