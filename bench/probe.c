/* Limits of the machine, measured beside the node: what a loopback round trip and a durable append
 * cost. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench.h"

enum { ECHO_SIZE = 300, PAGE = 4096, WARM_UP = 500 };

/* --- loopback --- */

static void *echo(void *user) {
    int listener = *(int *)user, one = 1;
    char bytes[ECHO_SIZE];
    int fd = accept(listener, NULL, NULL);
    if (fd < 0) bench_die("accept: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    ssize_t len;
    while ((len = recv(fd, bytes, sizeof bytes, 0)) > 0)
        if (send(fd, bytes, (size_t)len, MSG_NOSIGNAL) != len) break;
    close(fd);
    return NULL;
}

static int connect_to_echo(int listener) {
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || getsockname(listener, (struct sockaddr *)&address, &size) != 0 ||
        connect(fd, (struct sockaddr *)&address, size) != 0)
        bench_die("connecting to the echo: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

struct loopback_probe {
    int fd, listener;
    pthread_t thread;
};

loopback_probe *loopback_probe_open(void) {
    loopback_probe *probe = calloc(1, sizeof *probe);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (!probe) bench_die("no memory");
    probe->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (probe->listener < 0 ||
        bind(probe->listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(probe->listener, 1) != 0 ||
        pthread_create(&probe->thread, NULL, echo, &probe->listener) != 0)
        bench_die("the loopback probe: %s", strerror(errno));
    probe->fd = connect_to_echo(probe->listener);
    samples warm_up = {0};
    loopback_probe_run(probe, WARM_UP, &warm_up);
    samples_free(&warm_up);
    return probe;
}

void loopback_probe_run(loopback_probe *probe, size_t rounds, samples *times) {
    char bytes[ECHO_SIZE] = {0};
    for (size_t i = 0; i < rounds; i++) {
        uint64_t began = bench_now_ns();
        if (send(probe->fd, bytes, sizeof bytes, MSG_NOSIGNAL) != sizeof bytes ||
            recv(probe->fd, bytes, sizeof bytes, MSG_WAITALL) != sizeof bytes)
            bench_die("the loopback probe broke: %s", strerror(errno));
        samples_add(times, (double)(bench_now_ns() - began) / 1e3);
    }
}

void loopback_probe_close(loopback_probe *probe) {
    close(probe->fd);
    pthread_join(probe->thread, NULL);
    close(probe->listener);
    free(probe);
}

/* --- flush --- */

struct flush_probe {
    int fd;
    off_t end, inside;
    char path[BENCH_PATH_MAX];
};

flush_probe *flush_probe_open(const char *folder) {
    flush_probe *probe = calloc(1, sizeof *probe);
    if (!probe) bench_die("no memory");
    snprintf(probe->path, sizeof probe->path, "%s/flush.probe", folder);
    probe->fd = open(probe->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (probe->fd < 0) bench_die("%s: %s", probe->path, strerror(errno));
    return probe;
}

static void flush_once(const flush_probe *probe, off_t at, samples *times) {
    char page[PAGE];
    memset(page, 0x5a, sizeof page);
    uint64_t began = bench_now_ns();
    if (pwrite(probe->fd, page, sizeof page, at) != sizeof page || fdatasync(probe->fd) != 0)
        bench_die("%s: %s", probe->path, strerror(errno));
    samples_add(times, (double)(bench_now_ns() - began) / 1e3);
}

void flush_probe_run(flush_probe *probe, size_t rounds, samples *appends, samples *overwrites) {
    for (size_t i = 0; i < rounds; i++, probe->end += PAGE) flush_once(probe, probe->end, appends);
    for (size_t i = 0; i < rounds; i++, probe->inside += PAGE)
        flush_once(probe, probe->inside, overwrites);
}

void flush_probe_close(flush_probe *probe) {
    close(probe->fd);
    unlink(probe->path);
    free(probe);
}
