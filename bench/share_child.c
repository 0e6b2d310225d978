/* A node's process, told what to do and looked at from outside. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "share.h"

extern char **environ;

void share_child_start(share_child *c, const char *folder, const char *name) {
    char home[BENCH_PATH_MAX];
    int in[2], out[2];
    posix_spawn_file_actions_t actions;
    snprintf(home, sizeof home, "%s/%s", folder, name);
    const char *argv[] = {"calimero_bench", "--share-node", home, NULL};
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0)
        bench_die("pipe: %s", strerror(errno));
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    int error = posix_spawn(&c->pid, "/proc/self/exe", &actions, NULL,
                            (char *const *)(uintptr_t)argv, environ);
    if (error) bench_die("a node's process: %s", strerror(error));
    posix_spawn_file_actions_destroy(&actions);
    close(in[0]);
    close(out[1]);
    c->in = fdopen(in[1], "w");
    c->out = fdopen(out[0], "r");
    if (!c->in || !c->out) bench_die("no memory");
    share_tell(c, "counters"); /* it is there */
}

void share_child_stop(share_child *c) {
    int status;
    if (c->pid == 0) return;
    fclose(c->in);
    if (waitpid(c->pid, &status, 0) != c->pid || status != 0)
        bench_die("a node's process did not stop cleanly");
    fclose(c->out);
    *c = (share_child){0};
}

static void vask(share_child *c, const char *format, va_list arguments) {
    vfprintf(c->in, format, arguments);
    fputc('\n', c->in);
    if (fflush(c->in) != 0) bench_die("a node's process is gone: %s", strerror(errno));
}

void share_hear(share_child *c) {
    do {
        if (!fgets(c->line, sizeof c->line, c->out)) bench_die("a node's process is gone");
    } while (strncmp(c->line, "ok", 2) != 0);
    c->line[strcspn(c->line, "\n")] = '\0';
}

void share_ask(share_child *c, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vask(c, format, arguments);
    va_end(arguments);
}

void share_tell(share_child *c, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vask(c, format, arguments);
    va_end(arguments);
    share_hear(c);
}

uint64_t share_number(const share_child *c, unsigned place) {
    const char *at = c->line;
    for (unsigned i = 0; i <= place && at; i++) {
        at = strchr(at, ' ');
        if (at) at++;
    }
    if (!at) bench_die("a node says: %s", c->line);
    return strtoull(at, NULL, 10);
}

double share_cpu_s(const share_child *c) {
    clockid_t clock;
    struct timespec used;
    if (clock_getcpuclockid(c->pid, &clock) != 0 || clock_gettime(clock, &used) != 0)
        bench_die("a node's processor time cannot be read");
    return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

/* In the order in which share_node.c says them. */
share_counters share_count(share_child *c) {
    share_tell(c, "counters");
    return (share_counters){
        .bytes_in = share_number(c, 0),
        .bytes_out = share_number(c, 1),
        .published = share_number(c, 2),
        .published_bytes = share_number(c, 3),
        .received = share_number(c, 4),
        .duplicates = share_number(c, 5),
        .connections = share_number(c, 6),
        .heads_served = share_number(c, 7),
        .trees_served = share_number(c, 8),
        .tree_hashes_served = share_number(c, 9),
        .trees_compared = share_number(c, 10),
        .leaves_taken = share_number(c, 11),
        .deltas_received = share_number(c, 12),
        .deltas_bulk = share_number(c, 13),
        .deltas_fetched = share_number(c, 14),
        .bulk_asked = share_number(c, 15),
    };
}
