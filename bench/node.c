/* The measured process: a node with its own home, started, grown, stopped and looked at from
 * outside. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <yyjson.h>

#include "bench.h"

extern char **environ;

enum { SETUP_THREADS = 8, LEASH = 3 };

/* --- the process --- */

static void run_to_end(const char *const argv[]) {
    pid_t pid;
    int status;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    int error = posix_spawn(&pid, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error) bench_die("%s: %s", argv[0], strerror(error));
    if (waitpid(pid, &status, 0) != pid || status != 0) bench_die("%s %s failed", argv[0], argv[5]);
}

void bench_node_init(bench_node *n, const char *merod, const char *home_base) {
    *n = (bench_node){.merod = merod, .home_base = home_base, .log = -1};
    n->contexts = calloc(BENCH_CONTEXTS, sizeof *n->contexts);
    if (!n->contexts) bench_die("no memory");
    const char *init[] = {merod, "--home", home_base, "--node", "bench", "init", NULL};
    const char *config[] = {merod,
                            "--home",
                            home_base,
                            "--node",
                            "bench",
                            "config",
                            "server.listen=[\"/ip4/127.0.0.1/tcp/0\"]",
                            "swarm.listen=[\"/ip4/127.0.0.1/tcp/0\"]",
                            NULL};
    run_to_end(init);
    run_to_end(config);
}

/* Reads what merod says until it listens. */
static void wait_until_listening(bench_node *n) {
    static const char mark[] = "/ip4/127.0.0.1/tcp/";
    char text[4096];
    size_t len = 0;
    for (;;) {
        ssize_t more = read(n->log, text + len, sizeof text - 1 - len);
        if (more <= 0) bench_die("the node did not start: %.*s", (int)len, text);
        len += (size_t)more;
        text[len] = '\0';
        const char *found = strstr(text, mark);
        if (!found || !strchr(found, '\n')) continue;
        n->port = (uint16_t)atoi(found + sizeof mark - 1);
        return;
    }
}

/* The node's standard error comes to us; it stops by itself when we end, however that happens. */
void bench_node_start(bench_node *n) {
    const char *argv[] = {n->merod, "--home", n->home_base,    "--node", "bench", "--log-level",
                          "error",  "run",    "--exit-on-eof", "3",      NULL};
    int said[2], leash[2];
    posix_spawn_file_actions_t actions;
    if (pipe2(said, O_CLOEXEC) != 0 || pipe2(leash, O_CLOEXEC) != 0)
        bench_die("pipe: %s", strerror(errno));
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, said[1], STDERR_FILENO);
    posix_spawn_file_actions_adddup2(&actions, leash[0], LEASH);
    int error =
        posix_spawn(&n->pid, n->merod, &actions, NULL, (char *const *)(uintptr_t)argv, environ);
    if (error) bench_die("%s: %s", n->merod, strerror(error));
    posix_spawn_file_actions_destroy(&actions);
    close(said[1]);
    close(leash[0]);
    n->log = said[0];
    n->leash = leash[1];
    wait_until_listening(n);
}

void bench_node_stop(bench_node *n) {
    int status;
    if (n->pid == 0) return;
    if (kill(n->pid, SIGTERM) != 0 || waitpid(n->pid, &status, 0) != n->pid || status != 0)
        bench_die("the node did not stop cleanly");
    close(n->log);
    close(n->leash);
    n->pid = 0;
}

double bench_node_first_answer_ms(bench_node *n, double *ret_listening_ms) {
    char request[BENCH_REQUEST_MAX];
    size_t len = load_request(request, n->contexts[0], false, 0);
    http_connection *connection = malloc(sizeof *connection);
    if (!connection) bench_die("no memory");
    uint64_t began = bench_now_ns();
    bench_node_start(n);
    *ret_listening_ms = (double)(bench_now_ns() - began) / 1e6;
    http_open(connection, n->port, true);
    const char *body = http_call(connection, request, len);
    double took = (double)(bench_now_ns() - began) / 1e6;
    if (!strstr(body, "\"result\"")) bench_die("the first answer: %s", body);
    http_close(connection);
    free(connection);
    return took;
}

process_memory process_memory_get(pid_t pid) {
    char path[64], line[256];
    process_memory memory = {0};
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file) bench_die("%s: %s", path, strerror(errno));
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, "VmRSS:", 6) == 0) memory.rss_kb = strtod(line + 6, NULL);
        if (strncmp(line, "RssAnon:", 8) == 0) memory.anonymous_kb = strtod(line + 8, NULL);
    }
    fclose(file);
    return memory;
}

double bench_node_cpu_us(const bench_node *n) {
    char path[64], text[1024];
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)n->pid);
    FILE *file = fopen(path, "r");
    if (!file || !fgets(text, sizeof text, file)) bench_die("%s: %s", path, strerror(errno));
    fclose(file);
    const char *rest = strrchr(text, ')');
    if (!rest || sscanf(rest + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
                        &system) != 2)
        bench_die("%s cannot be read", path);
    return (double)(user + system) * 1e6 / (double)sysconf(_SC_CLK_TCK);
}

/* --- its content --- */

/* Copies the text at data.NAME of a reply. */
static void take_text(const char *body, const char *name, char ret_text[BENCH_ID_MAX]) {
    yyjson_doc *doc = yyjson_read(body, strlen(body), 0);
    yyjson_val *data = yyjson_obj_get(yyjson_doc_get_root(doc), "data");
    const char *text = yyjson_get_str(yyjson_obj_get(data, name));
    if (!text || strlen(text) >= BENCH_ID_MAX) bench_die("no %s in: %s", name, body);
    strcpy(ret_text, text);
    yyjson_doc_free(doc);
}

static void post(http_connection *connection, const char *path, const char *body, const char *name,
                 char ret_text[BENCH_ID_MAX]) {
    char request[BENCH_REQUEST_MAX];
    size_t len = http_post(request, path, body);
    take_text(http_call(connection, request, len), name, ret_text);
}

void bench_node_install(bench_node *n, const char *wasm_path) {
    char body[BENCH_REQUEST_MAX];
    http_connection *connection = malloc(sizeof *connection);
    if (!connection) bench_die("no memory");
    http_open(connection, n->port, true);
    snprintf(body, sizeof body, "{\"path\":\"%s\",\"metadata\":[]}", wasm_path);
    post(connection, "/admin-api/install-dev-application", body, "applicationId", n->application);
    snprintf(body, sizeof body, "{\"applicationId\":\"%s\"}", n->application);
    post(connection, "/admin-api/namespaces", body, "namespaceId", n->name_space);
    http_close(connection);
    free(connection);
}

typedef struct setup {
    bench_node *n;
    size_t next, end;
    pthread_mutex_t lock;
    void (*one)(bench_node *n, http_connection *connection, size_t index);
} setup;

static void *set_up(void *user) {
    setup *s = user;
    http_connection *connection = malloc(sizeof *connection);
    if (!connection) bench_die("no memory");
    http_open(connection, s->n->port, true);
    for (;;) {
        pthread_mutex_lock(&s->lock);
        size_t index = s->next++;
        pthread_mutex_unlock(&s->lock);
        if (index >= s->end) break;
        s->one(s->n, connection, index);
    }
    http_close(connection);
    free(connection);
    return NULL;
}

static void for_contexts(bench_node *n, size_t first, size_t end,
                         void (*one)(bench_node *, http_connection *, size_t)) {
    setup s = {.n = n, .next = first, .end = end, .one = one};
    pthread_t threads[SETUP_THREADS];
    pthread_mutex_init(&s.lock, NULL);
    for (size_t i = 0; i < SETUP_THREADS; i++)
        if (pthread_create(&threads[i], NULL, set_up, &s) != 0) bench_die("no thread");
    for (size_t i = 0; i < SETUP_THREADS; i++) pthread_join(threads[i], NULL);
    pthread_mutex_destroy(&s.lock);
}

static void create_context(bench_node *n, http_connection *connection, size_t index) {
    char body[BENCH_REQUEST_MAX];
    snprintf(body, sizeof body,
             "{\"applicationId\":\"%s\",\"groupId\":\"%s\",\"initializationParams\":[]}",
             n->application, n->name_space);
    post(connection, "/admin-api/contexts", body, "contextId", n->contexts[index]);
}

void bench_node_grow(bench_node *n, size_t contexts) {
    for_contexts(n, n->context_count, contexts, create_context);
    n->context_count = contexts;
}

static void fill_context(bench_node *n, http_connection *connection, size_t index) {
    char request[BENCH_REQUEST_MAX];
    for (unsigned key = 0; key < BENCH_KEYS; key++) {
        size_t len = load_request(request, n->contexts[index], true, key);
        const char *body = http_call(connection, request, len);
        if (!strstr(body, "\"result\"")) bench_die("filling a context: %s", body);
    }
}

void bench_node_fill(bench_node *n, size_t first, size_t end) {
    for_contexts(n, first, end, fill_context);
}
