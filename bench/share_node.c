/* A node of libcalimero that does what it is told, a line at a time (share.h). */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "calimero/calimero.h"
#include "share.h"

enum { ARGS_MAX = 128, POLL_US = 1000, BACKGROUND_DEPTH = 2 };

typedef struct burst { /* writes, so many at once; loop thread, and `done` under the lock */
    unsigned next, end, under_way;
    bool done;
} burst;

static struct {
    cal_node *node;
    char home[BENCH_PATH_MAX], address[64];
    cal_application_id application;
    cal_group_id ns;
    cal_context_id context;
    cal_subscription *subscription;
    pthread_mutex_t lock; /* for what follows */
    pthread_cond_t changed;
    uint64_t heard, heard_ns;
    burst writes, background;
    size_t hearers;
} my = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

#define OK(call)                                                                                   \
    do {                                                                                           \
        cal_error err = {0};                                                                       \
        if ((call) != 0) bench_die("%s: %s: %s", my.home, #call, err.message);                     \
    } while (0)

#define UNTIL(condition)                                                                           \
    do {                                                                                           \
        uint64_t began_ = bench_now_ns();                                                          \
        while (!(condition)) {                                                                     \
            if (bench_now_ns() - began_ > SHARE_PATIENCE_S * UINT64_C(1000000000))                 \
                give_up(#condition);                                                               \
            usleep(POLL_US);                                                                       \
        }                                                                                          \
    } while (0)

static _Noreturn void give_up(const char *what) {
    cal_sync_status status = {0};
    cal_context_sync_status(my.node, &my.context, &status);
    bench_die("%s: not in %d s: %s (%s: %s)", my.home, SHARE_PATIENCE_S, what,
              cal_sync_state_text(status.state), status.why);
}

/* --- the node --- */

/* Who comes back must be found where others left it, so the port is chosen once. */
static void choose_address(void) {
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof any;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&any, len) != 0 ||
        getsockname(fd, (struct sockaddr *)&any, &len) != 0)
        bench_die("a free port: %s", strerror(errno));
    close(fd);
    snprintf(my.address, sizeof my.address, "/ip4/127.0.0.1/tcp/%d", ntohs(any.sin_port));
}

static void on_event(void *user, const cal_event *event) {
    (void)user;
    if (event->type != CAL_EVENT_STATE_MUTATION || event->event_count == 0) return;
    uint64_t now = bench_now_ns();
    pthread_mutex_lock(&my.lock);
    my.heard++;
    my.heard_ns = now;
    pthread_cond_signal(&my.changed);
    pthread_mutex_unlock(&my.lock);
}

static void node_go(void) {
    const char *listen[] = {my.address};
    cal_node_options options = {.home = my.home, .network = {.listen = listen, .listen_count = 1}};
    OK(cal_node_start(&options, &my.node, &err));
}

static void use(const char *context) {
    if (cal_id_parse(context, my.context.bytes)) bench_die("no context id: %s", context);
    cal_unsubscribe(my.node, my.subscription);
    my.heard = 0;
    my.subscription = cal_subscribe(my.node, &my.context, on_event, NULL);
}

static void node_halt(void) {
    cal_unsubscribe(my.node, my.subscription);
    my.subscription = NULL;
    cal_node_stop(my.node);
    my.node = NULL;
}

/* --- looking --- */

static void keep_root(void *user, const cal_context_info *info) { *(cal_hash *)user = info->root; }

static cal_hash root_now(void) {
    cal_hash root = {0};
    cal_context_get(my.node, &my.context, keep_root, &root);
    return root;
}

static bool is_root(const cal_hash *wanted) {
    cal_hash root = root_now();
    return memcmp(&root, wanted, sizeof root) == 0;
}

static bool has_state(void) {
    static const cal_hash none;
    return !is_root(&none);
}

static void keep_output(void *user, const cal_call_result *result) {
    *(bool *)user = result->output && result->output_len > 0 && result->output[0] == '"';
}

static bool can_read(unsigned key) {
    char args[ARGS_MAX];
    bool read = false;
    snprintf(args, sizeof args, "{\"key\":\"key-%03u\"}", key);
    cal_execute_wait(my.node, &my.context, "get", args, strlen(args), keep_output, &read, NULL);
    return read;
}

static void note_hearer(void *user, const cal_peer_id *peer, bool mesh) {
    (void)peer, (void)mesh;
    ++*(size_t *)user;
}

static void count_hearers(void *arg) {
    char topic[CAL_ID_TEXT_MAX];
    (void)arg;
    my.hearers = 0;
    cal_id_to_base58(my.context.bytes, topic);
    cal_p2p_topic_peers(cal_node_p2p(my.node), topic, note_hearer, &my.hearers);
}

static bool is_heard_by(size_t wanted) {
    cal_node_run(my.node, count_hearers, NULL);
    return my.hearers >= wanted;
}

static void count_with_state(void *user, const cal_context_info *info) {
    static const cal_hash none;
    *(size_t *)user += memcmp(&info->root, &none, sizeof none) != 0;
}

static bool has_contexts(size_t wanted) {
    size_t count = 0;
    cal_context_each(my.node, NULL, NULL, count_with_state, &count);
    return count >= wanted;
}

static void keep_size(void *user, const cal_error *err, uint64_t bytes) {
    pthread_mutex_lock(&my.lock);
    *(uint64_t *)user = err ? 1 : bytes;
    pthread_cond_signal(&my.changed);
    pthread_mutex_unlock(&my.lock);
}

static uint64_t size_now(void) {
    uint64_t size = 0;
    cal_context_size(my.node, &my.context, keep_size, &size);
    pthread_mutex_lock(&my.lock);
    while (size == 0) pthread_cond_wait(&my.changed, &my.lock);
    pthread_mutex_unlock(&my.lock);
    return size;
}

static void say_counters(void *arg) {
    cal_p2p_stats p;
    cal_p2p_gossip_stats g = {0};
    cal_sync_stats s;
    (void)arg;
    cal_p2p_stats_get(cal_node_p2p(my.node), &p);
    cal_p2p_gossip_stats_get(cal_node_p2p(my.node), &g);
    cal_sync_stats_get(my.node, &s);
    const uint64_t all[] = {
        p.bytes_in,        p.bytes_out,          g.published,      g.published_bytes,
        g.received,        g.duplicates,         p.connections,    s.heads_served,
        s.trees_served,    s.tree_hashes_served, s.trees_compared, s.leaves_taken,
        s.deltas_received, s.deltas_bulk,        s.deltas_fetched, s.bulk_asked};
    printf("ok");
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        printf(" %llu", (unsigned long long)all[i]);
    say("%s", "");
}

/* --- writing --- */

static void write_next(burst *b);

static void wrote(void *user, const cal_call_result *result) {
    burst *b = user;
    if (result->status != CAL_CALL_OK) bench_die("%s: a write: %s", my.home, result->message);
    b->under_way--;
    write_next(b);
}

/* 100 keys with values of 32 bytes unless `wide`: then a key each. */
static bool wide;

static void write_next(burst *b) {
    char args[ARGS_MAX];
    if (b->next < b->end) {
        unsigned n = b->next++;
        snprintf(args, sizeof args, "{\"key\":\"key-%03u\",\"value\":\"value-%010u-%015u\"}",
                 wide ? n : n % BENCH_KEYS, n, n);
        b->under_way++;
        cal_execute(my.node, &my.context, "set", args, strlen(args), wrote, b);
    } else if (b->under_way == 0) {
        pthread_mutex_lock(&my.lock);
        b->done = true;
        pthread_cond_signal(&my.changed);
        pthread_mutex_unlock(&my.lock);
    }
}

typedef struct starting {
    burst *b;
    unsigned depth;
} starting;

static void burst_begin(void *arg) {
    const starting *s = arg;
    for (unsigned i = 0; i < s->depth && s->b->next < s->b->end; i++) write_next(s->b);
}

static void burst_wait(burst *b) {
    pthread_mutex_lock(&my.lock);
    while (!b->done) pthread_cond_wait(&my.changed, &my.lock);
    pthread_mutex_unlock(&my.lock);
}

static void burst_cut(void *arg) { ((burst *)arg)->end = 0; }

static void write_all(unsigned first, unsigned count, unsigned depth) {
    my.writes = (burst){.next = first, .end = first + count};
    uint64_t began = bench_now_ns();
    cal_node_run(my.node, burst_begin, &(starting){&my.writes, depth});
    if (count) burst_wait(&my.writes);
    say("ok %llu %llu", (unsigned long long)began, (unsigned long long)bench_now_ns());
}

static void write_on(void) {
    my.background = (burst){.next = 0, .end = ~0u};
    cal_node_run(my.node, burst_begin, &(starting){&my.background, BACKGROUND_DEPTH});
    say("ok");
}

static void write_no_more(void) {
    unsigned written = my.background.next;
    cal_node_run(my.node, burst_cut, &my.background);
    burst_wait(&my.background);
    say("ok %u", written);
}

/* --- what it is told --- */

static void found(const char *wasm) {
    char *code;
    OK(cal_install_file_wait(my.node, wasm, NULL, &my.application, &err));
    OK(cal_namespace_create_wait(my.node, &my.application, "bench", &my.ns, &err));
    OK(cal_invite_wait(my.node, &my.ns, NULL, &code, &err));
    say("ok %s", code);
    free(code);
}

static void make_contexts(unsigned count) {
    char text[CAL_ID_TEXT_MAX];
    cal_context_created created;
    cal_context_create_options create = {.application = my.application, .group = my.ns};
    for (unsigned i = 0; i < count; i++)
        OK(cal_context_create_wait(my.node, &create, &created, &err));
    cal_id_to_base58(created.id.bytes, text);
    use(text);
    say("ok %s", text);
}

static void join(const char *code) {
    cal_joined joined;
    uint64_t began = bench_now_ns();
    OK(cal_namespace_join_wait(my.node, code, NULL, &joined, &err));
    say("ok %llu %llu", (unsigned long long)began, (unsigned long long)bench_now_ns());
}

static void wait_heard(uint64_t count) {
    pthread_mutex_lock(&my.lock);
    while (my.heard < count) pthread_cond_wait(&my.changed, &my.lock);
    uint64_t at = my.heard_ns;
    pthread_mutex_unlock(&my.lock);
    say("ok %llu", (unsigned long long)at);
}

static void say_time(void) { say("ok %llu", (unsigned long long)bench_now_ns()); }

static bool look(const char *word, const char *rest) {
    cal_hash root;
    char text[CAL_ID_TEXT_MAX];
    if (strcmp(word, "readable") == 0) {
        UNTIL(can_read((unsigned)atoi(rest)));
    } else if (strcmp(word, "rooted") == 0) {
        UNTIL(has_state());
    } else if (strcmp(word, "until") == 0) {
        if (cal_id_parse(rest, root.bytes)) bench_die("no root: %s", rest);
        UNTIL(is_root(&root));
    } else if (strcmp(word, "hearers") == 0) {
        UNTIL(is_heard_by((size_t)atoi(rest)));
    } else if (strcmp(word, "has") == 0) {
        UNTIL(has_contexts((size_t)atoi(rest)));
    } else if (strcmp(word, "root") == 0) {
        root = root_now();
        cal_id_to_base58(root.bytes, text);
        say("ok %s", text);
        return true;
    } else if (strcmp(word, "size") == 0) {
        say("ok %llu", (unsigned long long)size_now());
        return true;
    } else {
        return false;
    }
    say_time();
    return true;
}

static void change(const char *word, const char *rest) {
    unsigned a = 0, b = 0, c = 0, d = 0, e = 0;
    int numbers = sscanf(rest, "%u %u %u %u %u", &a, &b, &c, &d, &e);
    if (strcmp(word, "write") == 0 && numbers == 4) {
        wide = d != 0;
        write_all(a, b, c);
    } else if (strcmp(word, "grow") == 0 && numbers == 5) {
        share_grow(my.node, &my.context, a, b, c, d, (uint8_t)e);
        say_time();
    } else if (strcmp(word, "contexts") == 0 && numbers == 1) {
        make_contexts(a);
    } else if (strcmp(word, "heard") == 0 && numbers == 1) {
        wait_heard(a);
    } else {
        bench_die("a node was told: %s %s", word, rest);
    }
}

static void obey(const char *word, const char *rest) {
    if (strcmp(word, "start") == 0) {
        node_go();
        say_time();
    } else if (strcmp(word, "stop") == 0) {
        node_halt();
        say_time();
    } else if (strcmp(word, "found") == 0) {
        found(rest);
    } else if (strcmp(word, "use") == 0) {
        use(rest);
        say_time();
    } else if (strcmp(word, "join") == 0) {
        join(rest);
    } else if (strcmp(word, "sync") == 0) {
        cal_context_sync_wait(my.node, &my.context, NULL); /* until it is equal is waited for */
        say_time();
    } else if (strcmp(word, "counters") == 0) {
        cal_node_run(my.node, say_counters, NULL);
    } else if (strcmp(word, "begin") == 0) {
        write_on();
    } else if (strcmp(word, "end") == 0) {
        write_no_more();
    } else if (!look(word, rest)) {
        change(word, rest);
    }
}

int share_role(int argc, char **argv) {
    static char line[SHARE_LINE];
    if (argc != 3 || strcmp(argv[1], "--share-node") != 0) return -1;
    snprintf(my.home, sizeof my.home, "%s", argv[2]);
    cal_node_options options = {.home = my.home};
    cal_log_set_level(CAL_LOG_ERROR);
    choose_address();
    OK(cal_node_init(&options, NULL, &err));
    node_go();
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = '\0';
        char *rest = strchr(line, ' ');
        if (rest) *rest++ = '\0';
        obey(line, rest ? rest : "");
    }
    if (my.node) node_halt();
    return 0;
}
