/* The least HTTP/1.1 that keeps a connection and reads replies with a Content-Length, so that the
 * generator takes little of the processors that it shares with the node. Measures our own node
 * only; anything unexpected ends the program. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench.h"

void http_open(http_connection *connection, uint16_t port, bool blocking) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    connection->len = 0;
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->fd < 0 ||
        connect(connection->fd, (struct sockaddr *)&address, sizeof address) != 0)
        bench_die("connecting to the node's port %u: %s", port, strerror(errno));
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (!blocking && fcntl(connection->fd, F_SETFL, O_NONBLOCK) != 0)
        bench_die("fcntl: %s", strerror(errno));
}

void http_close(http_connection *connection) { close(connection->fd); }

size_t http_post(char ret_request[BENCH_REQUEST_MAX], const char *path, const char *body) {
    int len = snprintf(ret_request, BENCH_REQUEST_MAX,
                       "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                       "Content-Length: %zu\r\n\r\n%s",
                       path, strlen(body), body);
    if (len >= BENCH_REQUEST_MAX) bench_die("a request to %s is too long", path);
    return (size_t)len;
}

void http_send(http_connection *connection, const char *request, size_t len) {
    ssize_t sent = send(connection->fd, request, len, MSG_NOSIGNAL);
    if (sent != (ssize_t)len) bench_die("sending to the node: %s", strerror(errno));
}

bool http_read(http_connection *connection, char **ret_body, int *ret_status) {
    size_t room = sizeof connection->reply - 1 - connection->len;
    if (room == 0) bench_die("a reply of the node is too long");
    ssize_t len = recv(connection->fd, connection->reply + connection->len, room, 0);
    if (len < 0 && errno == EAGAIN) return false;
    if (len <= 0) bench_die("the node closed a connection: %s", len ? strerror(errno) : "end");
    connection->len += (size_t)len;
    connection->reply[connection->len] = '\0';
    char *head_end = strstr(connection->reply, "\r\n\r\n");
    if (!head_end) return false;
    *head_end = '\0';
    char *field = strcasestr(connection->reply, "\r\ncontent-length:");
    if (!field) bench_die("a reply without Content-Length: %s", connection->reply);
    size_t body_len = strtoul(field + strlen("\r\ncontent-length:"), NULL, 10);
    *head_end = '\r';
    size_t head_len = (size_t)(head_end + 4 - connection->reply);
    if (connection->len < head_len + body_len) return false;
    *ret_status = atoi(connection->reply + strlen("HTTP/1.1 "));
    *ret_body = connection->reply + head_len;
    connection->len = 0;
    return true;
}

char *http_call(http_connection *connection, const char *request, size_t len) {
    char *body;
    int status;
    http_send(connection, request, len);
    while (!http_read(connection, &body, &status)) {
    }
    if (status != 200) bench_die("the node answered %d: %s\nto: %.400s", status, body, request);
    return body;
}
