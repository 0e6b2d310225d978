/* A web server on the loopback address in a thread, and an os table whose resolver and connections
 * are ours: names resolve to what the test says, and a connection to a public-looking address ends
 * at that server. */
#ifndef CAL_APP_TESTING_NET_H
#define CAL_APP_TESTING_NET_H

#include "app/testing.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <threads.h>
#include <unistd.h>

enum { TESTING_REQUEST_MAX = 8192 };

/* The whole answer to a request for path, head and body. */
typedef struct testing_route {
    const char *path;
    const char *head; /* "200 OK\r\nX: y" without the final CRLF; a Content-Length is added unless
                         it names one */
    cal_slice body;
} testing_route;

typedef struct testing_net {
    cal_os os; /* the table under test */
    const testing_route *routes;
    int listener;
    uint16_t port;
    thrd_t thread;
    atomic_int requests, connects, resolves;
    cal_os_address connected; /* the last address asked for */
    uint16_t connected_port;
    int connect_error; /* what connect answers instead */
    char last_host[256];
} testing_net;

static inline void testing_send(int socket, const void *bytes, size_t len) {
    for (const char *at = bytes; len > 0;) {
        ssize_t sent = send(socket, at, len, MSG_NOSIGNAL);
        if (sent <= 0) return;
        at += sent;
        len -= (size_t)sent;
    }
}

static inline void testing_answer(testing_net *net, int socket) {
    char request[TESTING_REQUEST_MAX + 1], path[1024] = "", head[4096];
    size_t len = 0;
    while (len < TESTING_REQUEST_MAX) {
        ssize_t got = recv(socket, request + len, TESTING_REQUEST_MAX - len, 0);
        if (got <= 0) return;
        len += (size_t)got;
        request[len] = '\0';
        if (request[0] == 0x16) return; /* a TLS greeting: nobody here speaks it */
        if (strstr(request, "\r\n\r\n")) break;
    }
    net->requests++;
    sscanf(request, "GET %1023s ", path);
    const char *host = strstr(request, "Host: ");
    if (host) sscanf(host, "Host: %255s", net->last_host);
    for (const testing_route *route = net->routes; route->path; route++) {
        if (strcmp(route->path, path) != 0) continue;
        int at = snprintf(head, sizeof head, "HTTP/1.1 %s\r\nConnection: close\r\n", route->head);
        if (!strstr(route->head, "Content-Length") && !strstr(route->head, "X-Unknown-Length"))
            at += snprintf(head + at, sizeof head - (size_t)at, "Content-Length: %zu\r\n",
                           route->body.len);
        at += snprintf(head + at, sizeof head - (size_t)at, "\r\n");
        testing_send(socket, head, (size_t)at);
        testing_send(socket, route->body.data, route->body.len);
        return;
    }
    static const char missing[] =
        "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    testing_send(socket, missing, sizeof missing - 1);
}

static inline int testing_serve(void *user) {
    testing_net *net = user;
    for (;;) {
        int socket = accept(net->listener, NULL, NULL);
        if (socket < 0) return 0;
        testing_answer(net, socket);
        shutdown(socket, SHUT_RDWR);
        close(socket);
    }
}

static inline cal_os_address testing_address(const char *text) {
    cal_os_address address = {.len = 4};
    if (inet_pton(AF_INET, text, address.bytes) == 1) return address;
    address.len = 16;
    assert_int_equal(inet_pton(AF_INET6, text, address.bytes), 1);
    return address;
}

static inline int testing_resolve(void *user, const char *host, cal_os_address *ret_addresses,
                                  size_t *ret_count) {
    static const struct {
        const char *host, *first, *second;
    } names[] = {
        {"apps.example", "93.184.216.34", NULL},
        {"six.example", "2606:2800:220:1:248:1893:25c8:1946", NULL},
        {"two.example", "93.184.216.34", "93.184.216.35"},
        {"private.example", "10.0.0.1", NULL},
        {"mixed.example", "93.184.216.34", "127.0.0.1"},
        {"metadata.example", "169.254.169.254", NULL},
        {"six-private.example", "fd00::1", NULL},
    };
    testing_net *net = user;
    net->resolves++;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i].host, host) != 0) continue;
        ret_addresses[0] = testing_address(names[i].first);
        if (names[i].second) ret_addresses[1] = testing_address(names[i].second);
        *ret_count = names[i].second ? 2 : 1;
        return 0;
    }
    return CAL_EUNREACHABLE;
}

static inline int testing_connect(void *user, const cal_os_address *address, uint16_t port,
                                  uint32_t timeout_ms, int *ret_socket) {
    testing_net *net = user;
    net->connects++;
    net->connected = *address;
    net->connected_port = port;
    if (net->connect_error) return net->connect_error;
    cal_os_address loopback = testing_address("127.0.0.1");
    return cal_os_posix()->connect(NULL, &loopback, net->port, timeout_ms, ret_socket);
}

static inline void testing_net_start(testing_net *net, const testing_route *routes) {
    *net = (testing_net){.os = *cal_os_posix(), .routes = routes};
    net->os.user = net; /* the posix functions look at nothing */
    net->os.resolve = testing_resolve;
    net->os.connect = testing_connect;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    net->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(net->listener >= 0);
    assert_int_equal(bind(net->listener, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(net->listener, 16), 0);
    assert_int_equal(getsockname(net->listener, (struct sockaddr *)&address, &len), 0);
    net->port = ntohs(address.sin_port);
    assert_int_equal(thrd_create(&net->thread, testing_serve, net), thrd_success);
}

static inline void testing_net_stop(testing_net *net) {
    shutdown(net->listener, SHUT_RDWR);
    thrd_join(net->thread, NULL);
    close(net->listener);
}

#endif
