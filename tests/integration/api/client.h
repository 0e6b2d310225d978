/* The HTTP client of api_test.c and share_api_test.c: one connection for each request, to 127.0.0.1
 * and the port that the test sets; what fails ends the test. Included once, so its functions are
 * static. */
#ifndef CAL_TESTS_API_CLIENT_H
#define CAL_TESTS_API_CLIENT_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <yyjson.h>

enum { TEXT_MAX = 4 * 1024 * 1024, SMALL = 256, PATH_LENGTH_MAX = 512 };

static uint16_t port;

typedef struct reply {
    int status;
    char *text; /* head and body; free() */
    const char *body;
    size_t body_len;
} reply;

static int connect_to_node(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct timeval limit = {.tv_sec = 30};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void send_all(int fd, const void *bytes, size_t len) {
    for (const char *at = bytes; len > 0;) {
        ssize_t sent = send(fd, at, len, MSG_NOSIGNAL);
        assert_true(sent > 0);
        at += sent;
        len -= (size_t)sent;
    }
}

static reply receive_all(int fd) {
    reply r = {.text = malloc(TEXT_MAX)};
    size_t len = 0;
    for (ssize_t got; (got = recv(fd, r.text + len, TEXT_MAX - 1 - len, 0)) > 0;)
        len += (size_t)got;
    r.text[len] = 0;
    close(fd);
    assert_int_equal(sscanf(r.text, "HTTP/1.1 %d", &r.status), 1);
    char *end = strstr(r.text, "\r\n\r\n");
    assert_non_null(end);
    r.body = end + 4;
    r.body_len = len - (size_t)(r.body - r.text);
    return r;
}

static reply ask_with(const char *verb, const char *path, const char *headers, const void *body,
                      size_t len) {
    char head[2048];
    int fd = connect_to_node();
    int head_len = snprintf(head, sizeof head,
                            "%s %s HTTP/1.1\r\nhost: 127.0.0.1:%u\r\nconnection: "
                            "close\r\n%scontent-length: %zu\r\n\r\n",
                            verb, path, port, headers, len);
    send_all(fd, head, (size_t)head_len);
    if (len) send_all(fd, body, len);
    return receive_all(fd);
}

static reply ask(const char *verb, const char *path, const char *json) {
    return ask_with(verb, path, json ? "content-type: application/json\r\n" : "", json,
                    json ? strlen(json) : 0);
}

/* Asks and compares status and whole body. */
static void expect(const char *verb, const char *path, const char *json, int status,
                   const char *format, ...) {
    char body[8192];
    va_list args;
    va_start(args, format);
    vsnprintf(body, sizeof body, format, args);
    va_end(args);
    reply r = ask(verb, path, json);
    if (r.status != status || strcmp(r.body, body) != 0)
        fail_msg("%s %s %s\n got %d %s\nwant %d %s", verb, path, json ? json : "", r.status, r.body,
                 status, body);
    free(r.text);
}

/* "/data/0/id" */
static yyjson_val *find(yyjson_val *value, const char *pointer) {
    while (*pointer == '/') {
        char name[SMALL];
        size_t len = strcspn(++pointer, "/");
        snprintf(name, sizeof name, "%.*s", (int)len, pointer);
        value = yyjson_is_arr(value) ? yyjson_arr_get(value, strtoul(name, NULL, 10))
                                     : yyjson_obj_get(value, name);
        pointer += len;
    }
    return value;
}

/* Asks, wants the status, and copies the string at a JSON pointer. */
static void fetch(const char *verb, const char *path, const char *json, const char *pointer,
                  char ret_text[SMALL]) {
    reply r = ask(verb, path, json);
    if (r.status != 200) fail_msg("%s %s: %d %s", verb, path, r.status, r.body);
    yyjson_doc *doc = yyjson_read(r.body, r.body_len, 0);
    const char *text = yyjson_get_str(find(yyjson_doc_get_root(doc), pointer));
    if (!text) fail_msg("%s is not in %s", pointer, r.body);
    snprintf(ret_text, SMALL, "%s", text);
    yyjson_doc_free(doc);
    free(r.text);
}

static const char *at(const char *format, ...) {
    static char path[4][PATH_LENGTH_MAX];
    static int turn;
    char *text = path[turn = (turn + 1) % 4];
    va_list args;
    va_start(args, format);
    vsnprintf(text, PATH_LENGTH_MAX, format, args);
    va_end(args);
    return text;
}

/* Reads until the text is there; returns all that came. */
static void read_until(int fd, char *ret_text, size_t size, const char *text) {
    size_t len = strlen(ret_text);
    while (!strstr(ret_text, text)) {
        ssize_t got = recv(fd, ret_text + len, size - 1 - len, 0);
        if (got <= 0) fail_msg("no '%s' in '%s'", text, ret_text);
        for (ssize_t i = 0; i < got; i++)
            if (ret_text[len + (size_t)i] == 0) ret_text[len + (size_t)i] = ' ';
        len += (size_t)got;
        ret_text[len] = 0;
    }
}

static void send_frame(int fd, const char *text) {
    unsigned char frame[2048] = {0x81};
    size_t len = strlen(text), head = 2;
    if (len < 126)
        frame[1] = (unsigned char)(0x80 | len);
    else {
        frame[1] = 0x80 | 126;
        frame[2] = (unsigned char)(len >> 8);
        frame[3] = (unsigned char)len;
        head = 4;
    }
    memcpy(frame + head + 4, text, len); /* a mask of zeros */
    send_all(fd, frame, head + 4 + len);
}

static int open_ws(char *text, size_t size) {
    int fd = connect_to_node();
    const char upgrade[] =
        "GET /ws HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
        "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    send_all(fd, upgrade, sizeof upgrade - 1);
    text[0] = 0;
    read_until(fd, text, size, "\r\n\r\n");
    assert_non_null(strstr(text, "HTTP/1.1 101 "));
    text[0] = 0;
    return fd;
}

/* A session of its own, or the one of an event id; its id. */
static int open_sse(const char *last_event_id, char *text, size_t size, char ret_id[SMALL]) {
    int fd = connect_to_node();
    char request[512];
    snprintf(request, sizeof request, "GET /sse HTTP/1.1\r\nhost: localhost\r\n%s%s%s\r\n",
             last_event_id ? "last-event-id: " : "", last_event_id ? last_event_id : "",
             last_event_id ? "\r\n" : "");
    send_all(fd, request, strlen(request));
    text[0] = 0;
    read_until(fd, text, size, "\"reconnect\":");
    read_until(fd, text, size, "}\n\n");
    const char *header = strstr(text, "x-sse-session-id: ");
    assert_non_null(header);
    assert_int_equal(sscanf(header, "x-sse-session-id: %255[0-9]", ret_id), 1);
    assert_non_null(strstr(text, "content-type: text/event-stream\r\n"));
    assert_non_null(strstr(text, "cache-control: no-cache\r\n"));
    return fd;
}

#endif
