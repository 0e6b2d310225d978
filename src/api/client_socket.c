/* The WebSocket half of calimero/client.h: libcurl connects, llhttp reads the upgrade's answer,
 * wslay speaks the frames.
 *
 * One text message is kept at a time: the next receive frees it. Messages over CAL_WS_MESSAGE_MAX
 * end the connection, as on the server's side. Thread: the caller's. Specification: http-api.md 7,
 * RFC 6455. */
#include <errno.h>
#include <llhttp.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <poll.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>
#include <wslay/wslay.h>

#include "api/client_internal.h"
#include "base/buffer.h"
#include "base/error.h"
#include "base/limits.h"

enum {
    NONCE_SIZE = 16,
    KEY_TEXT = 25,
    ACCEPT_TEXT = 29,
    READ_SIZE = 16 * 1024,
    HANDSHAKE_MS = 10000,
    SEND_MS = 30000
};
#define WEBSOCKET_GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

struct cal_client_socket {
    CURL *curl;
    int fd;
    wslay_event_context_ptr frames;
    cal_buffer early;    /* frames that came with the upgrade's answer */
    cal_buffer messages; /* u32le length, text and NUL of each message not yet taken */
    cal_buffer current;  /* what the last receive returned */
    bool ended;          /* end of stream or a close frame */
};

/* The answer to the upgrade, as llhttp reports it. */
typedef struct handshake {
    llhttp_t parser;
    llhttp_settings_t settings;
    char name[64], accept[64];
    bool accept_seen;
    cal_buffer body;
    bool done;
} handshake;

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* 0, CAL_ETIMEOUT, or CAL_ECANCELED when a signal arrived. */
static int wait_for(int fd, short events, int timeout_ms) {
    struct pollfd p = {.fd = fd, .events = events};
    int n = poll(&p, 1, timeout_ms);
    if (n > 0) return 0;
    return n == 0 ? CAL_ETIMEOUT : errno == EINTR ? CAL_ECANCELED : CAL_EIO;
}

/* --- the upgrade --- */

static int append_cut(char *text, size_t max, const char *at, size_t len) {
    size_t have = strlen(text);
    if (len > max - 1 - have) len = max - 1 - have;
    memcpy(text + have, at, len);
    text[have + len] = 0;
    return 0;
}

static int on_name(llhttp_t *parser, const char *at, size_t len) {
    handshake *h = parser->data;
    return append_cut(h->name, sizeof h->name, at, len);
}

static int on_value(llhttp_t *parser, const char *at, size_t len) {
    handshake *h = parser->data;
    if (strcasecmp(h->name, "Sec-WebSocket-Accept") == 0)
        append_cut(h->accept, sizeof h->accept, at, len);
    return 0;
}

static int on_value_end(llhttp_t *parser) {
    handshake *h = parser->data;
    h->name[0] = 0;
    return 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t len) {
    handshake *h = parser->data;
    return cal_buffer_append(&h->body, at, len) == 0 ? 0 : HPE_USER;
}

static int on_complete(llhttp_t *parser) {
    handshake *h = parser->data;
    h->done = true;
    return 0;
}

static void accept_of(const char *key, char ret_text[ACCEPT_TEXT]) {
    char joined[KEY_TEXT + sizeof WEBSOCKET_GUID];
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int len = 0;
    snprintf(joined, sizeof joined, "%s%s", key, WEBSOCKET_GUID);
    EVP_Digest(joined, strlen(joined), digest, &len, EVP_sha1(), NULL);
    EVP_EncodeBlock((unsigned char *)ret_text, digest, (int)len);
}

static int send_all(cal_client_socket *s, const char *bytes, size_t len, uint64_t deadline_ms,
                    cal_error *err) {
    while (len > 0) {
        size_t sent = 0;
        CURLcode code = curl_easy_send(s->curl, bytes, len, &sent);
        if (code == CURLE_AGAIN) {
            uint64_t now = now_ms();
            if (now >= deadline_ms ||
                wait_for(s->fd, POLLOUT, (int)(deadline_ms - now)) == CAL_ETIMEOUT)
                return cal_fail(err, CAL_ETIMEOUT,
                                "the node does not take what is sent to its WebSocket");
            continue;
        }
        if (code != CURLE_OK)
            return cal_fail(err, CAL_EIO, "WebSocket: %s", curl_easy_strerror(code));
        bytes += sent;
        len -= sent;
    }
    return 0;
}

/* The authority and the path prefix of http://HOST:PORT/PREFIX. */
static int send_upgrade(cal_client_socket *s, const cal_client *client, const char *key,
                        cal_error *err) {
    const char *host = strstr(cal_client_url(client), "://") + 3;
    const char *slash = strchr(host, '/');
    int host_len = slash ? (int)(slash - host) : (int)strlen(host);
    const char *token = client_token(client);
    cal_buffer request;
    cal_buffer_init(&request, CAL_HTTP_HEADERS_MAX);
    cal_buffer_printf(
        &request,
        "GET %s/ws HTTP/1.1\r\nHost: %.*s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n%s%s%s\r\n",
        slash ? slash : "", host_len, host, key, token ? "Authorization: Bearer " : "",
        token ? token : "", token ? "\r\n" : "");
    int error =
        request.error
            ? cal_fail(err, request.error, "WebSocket request: %s", cal_error_text(request.error))
            : send_all(s, (const char *)request.data, request.len, now_ms() + HANDSHAKE_MS, err);
    cal_buffer_deinit(&request);
    return error;
}

static int refused(handshake *h, cal_error *err) {
    const char *body = cal_buffer_cstr(&h->body);
    cal_client_answer answer = {
        .status = llhttp_get_status_code(&h->parser), .body = (char *)body, .len = h->body.len};
    if (answer.status < 200 || answer.status > 299) return cal_client_check(&answer, err);
    return cal_fail(err, CAL_EDECODE, "no WebSocket there: the answer was HTTP %d", answer.status);
}

static int read_upgrade(cal_client_socket *s, handshake *h, const char *accept, cal_error *err) {
    char bytes[READ_SIZE];
    uint64_t deadline = now_ms() + HANDSHAKE_MS;
    for (;;) {
        size_t len = 0;
        CURLcode code = curl_easy_recv(s->curl, bytes, sizeof bytes, &len);
        if (code == CURLE_AGAIN) {
            uint64_t now = now_ms();
            if (now >= deadline || wait_for(s->fd, POLLIN, (int)(deadline - now)) == CAL_ETIMEOUT)
                return cal_fail(err, CAL_ETIMEOUT,
                                "the node does not answer the request for a WebSocket");
            continue;
        }
        if (code != CURLE_OK || len == 0)
            return cal_fail(err, CAL_EIO,
                            "the node closed the connection instead of opening a WebSocket");
        llhttp_errno_t state = llhttp_execute(&h->parser, bytes, len);
        if (state == HPE_PAUSED_UPGRADE && llhttp_get_status_code(&h->parser) == 101) {
            const char *rest = llhttp_get_error_pos(&h->parser);
            if (strcmp(h->accept, accept) != 0)
                return cal_fail(err, CAL_EDECODE,
                                "the WebSocket's answer does not fit the request");
            return cal_buffer_append(&s->early, rest, len - (size_t)(rest - bytes));
        }
        if (h->done) return refused(h, err);
        if (state != HPE_OK)
            return cal_fail(err, CAL_EDECODE, "the answer to the WebSocket request is not HTTP: %s",
                            llhttp_errno_name(state));
    }
}

static int upgrade(cal_client_socket *s, const cal_client *client, cal_error *err) {
    unsigned char nonce[NONCE_SIZE];
    char key[KEY_TEXT], accept[ACCEPT_TEXT];
    if (RAND_bytes(nonce, sizeof nonce) != 1) return cal_fail(err, CAL_EINTERNAL, "no randomness");
    EVP_EncodeBlock((unsigned char *)key, nonce, sizeof nonce);
    accept_of(key, accept);
    handshake h = {0};
    cal_buffer_init(&h.body, CAL_HTTP_HEADERS_MAX);
    llhttp_settings_init(&h.settings);
    h.settings.on_header_field = on_name;
    h.settings.on_header_value = on_value;
    h.settings.on_header_value_complete = on_value_end;
    h.settings.on_body = on_body;
    h.settings.on_message_complete = on_complete;
    llhttp_init(&h.parser, HTTP_RESPONSE, &h.settings);
    h.parser.data = &h;
    int error = send_upgrade(s, client, key, err);
    if (error == 0) error = read_upgrade(s, &h, accept, err);
    cal_buffer_deinit(&h.body);
    return error;
}

/* --- wslay's callbacks --- */

static ssize_t on_recv(wslay_event_context_ptr ctx, uint8_t *ret_bytes, size_t max, int flags,
                       void *user) {
    (void)flags;
    cal_client_socket *s = user;
    if (s->early.len > 0) {
        size_t len = s->early.len < max ? s->early.len : max;
        memcpy(ret_bytes, s->early.data, len);
        cal_buffer_consume(&s->early, len);
        return (ssize_t)len;
    }
    size_t len = 0;
    CURLcode code = curl_easy_recv(s->curl, ret_bytes, max, &len);
    if (code == CURLE_OK && len > 0) return (ssize_t)len;
    if (code != CURLE_AGAIN) s->ended = true;
    wslay_event_set_error(ctx,
                          code == CURLE_AGAIN ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
    return -1;
}

static ssize_t on_send(wslay_event_context_ptr ctx, const uint8_t *bytes, size_t len, int flags,
                       void *user) {
    (void)flags;
    cal_client_socket *s = user;
    size_t sent = 0;
    CURLcode code = curl_easy_send(s->curl, bytes, len, &sent);
    if (code == CURLE_OK) return (ssize_t)sent;
    wslay_event_set_error(ctx,
                          code == CURLE_AGAIN ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
    return -1;
}

static int on_mask(wslay_event_context_ptr ctx, uint8_t *ret_bytes, size_t len, void *user) {
    (void)ctx;
    (void)user;
    return RAND_bytes(ret_bytes, (int)len) == 1 ? 0 : -1;
}

static void on_message(wslay_event_context_ptr ctx,
                       const struct wslay_event_on_msg_recv_arg *message, void *user) {
    (void)ctx;
    cal_client_socket *s = user;
    if (message->opcode == WSLAY_CONNECTION_CLOSE) s->ended = true;
    if (message->opcode != WSLAY_TEXT_FRAME) return;
    cal_buffer_append_u32le(&s->messages, (uint32_t)message->msg_length);
    cal_buffer_append(&s->messages, message->msg, message->msg_length);
    cal_buffer_append_u8(&s->messages, 0);
}

int cal_client_socket_open(const cal_client *client, cal_client_socket **ret_socket,
                           cal_error *err) {
    static const struct wslay_event_callbacks callbacks = {
        .recv_callback = on_recv,
        .send_callback = on_send,
        .genmask_callback = on_mask,
        .on_msg_recv_callback = on_message,
    };
    client_init_curl();
    cal_client_socket *s = calloc(1, sizeof *s);
    if (!s) return cal_fail(err, CAL_ENOMEM, "out of memory");
    cal_buffer_init(&s->early, READ_SIZE);
    cal_buffer_init(&s->messages, 2 * (size_t)CAL_WS_MESSAGE_MAX);
    cal_buffer_init(&s->current, CAL_WS_MESSAGE_MAX + 1);
    s->curl = curl_easy_init();
    int error = 0;
    if (!s->curl || wslay_event_context_client_init(&s->frames, &callbacks, s) != 0) {
        cal_client_socket_close(s);
        return cal_fail(err, CAL_ENOMEM, "out of memory");
    }
    wslay_event_config_set_max_recv_msg_length(s->frames, CAL_WS_MESSAGE_MAX);
    curl_easy_setopt(s->curl, CURLOPT_URL, cal_client_url(client));
    client_no_proxy_for_loopback(s->curl, cal_client_url(client));
    curl_easy_setopt(s->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(s->curl, CURLOPT_CONNECT_ONLY, 1L);
    curl_easy_setopt(s->curl, CURLOPT_CONNECTTIMEOUT_MS, (long)client_connect_timeout(client));
    CURLcode code = curl_easy_perform(s->curl);
    curl_socket_t fd = CURL_SOCKET_BAD;
    if (code == CURLE_OK) code = curl_easy_getinfo(s->curl, CURLINFO_ACTIVESOCKET, &fd);
    s->fd = (int)fd;
    if (code != CURLE_OK)
        error = client_curl_fail(code, cal_client_url(client), NULL, err);
    else
        error = upgrade(s, client, err);
    if (error != 0) {
        s->ended = true;
        cal_client_socket_close(s);
        return error;
    }
    *ret_socket = s;
    return 0;
}

/* Sends what is queued; wants at most SEND_MS. */
static int flush(cal_client_socket *s, cal_error *err) {
    uint64_t deadline = now_ms() + SEND_MS;
    while (wslay_event_want_write(s->frames)) {
        if (wslay_event_send(s->frames) != 0)
            return cal_fail(err, CAL_EIO, "the WebSocket broke while sending");
        if (!wslay_event_want_write(s->frames)) break;
        uint64_t now = now_ms();
        if (now >= deadline)
            return cal_fail(err, CAL_ETIMEOUT,
                            "the node does not take what is sent to its WebSocket");
        wait_for(s->fd, POLLOUT, (int)(deadline - now));
    }
    return 0;
}

int cal_client_socket_send(cal_client_socket *s, const char *text, size_t len, cal_error *err) {
    struct wslay_event_msg message = {WSLAY_TEXT_FRAME, (const uint8_t *)text, len};
    if (s->ended || wslay_event_queue_msg(s->frames, &message) != 0)
        return cal_fail(err, CAL_ECANCELED, "the WebSocket is closed");
    return flush(s, err);
}

static bool take_message(cal_client_socket *s, const char **ret_text, size_t *ret_len) {
    if (s->messages.len < 4) return false;
    size_t len = cal_read_u32le(s->messages.data);
    cal_buffer_reset(&s->current);
    cal_buffer_append(&s->current, s->messages.data + 4, len + 1);
    cal_buffer_consume(&s->messages, 4 + len + 1);
    *ret_text = (const char *)s->current.data;
    *ret_len = len;
    return true;
}

int cal_client_socket_receive(cal_client_socket *s, int timeout_ms, const char **ret_text,
                              size_t *ret_len, cal_error *err) {
    uint64_t deadline = timeout_ms < 0 ? UINT64_MAX : now_ms() + (uint64_t)timeout_ms;
    for (;;) {
        if (take_message(s, ret_text, ret_len)) return s->current.error;
        if (s->ended) return cal_fail(err, CAL_ECANCELED, "the node closed the WebSocket");
        if (wslay_event_recv(s->frames) != 0 && !s->ended)
            return cal_fail(err, CAL_EDECODE,
                            "the WebSocket broke: what came is not WebSocket frames");
        if (s->messages.error)
            return cal_fail(err, s->messages.error, "WebSocket message: %s",
                            cal_error_text(s->messages.error));
        if (s->ended || s->messages.len > 0) continue;
        int error = flush(s, err); /* pongs */
        if (error) return error;
        uint64_t now = now_ms();
        if (now >= deadline) return cal_fail(err, CAL_ETIMEOUT, "nothing arrived in time");
        uint64_t left = deadline - now;
        error = wait_for(s->fd, POLLIN, timeout_ms < 0 ? -1 : (int)left);
        if (error == CAL_ECANCELED) return cal_fail(err, CAL_ECANCELED, "interrupted");
    }
}

void cal_client_socket_close(cal_client_socket *s) {
    if (!s) return;
    if (s->frames && !s->ended &&
        wslay_event_queue_close(s->frames, WSLAY_CODE_NORMAL_CLOSURE, NULL, 0) == 0)
        wslay_event_send(s->frames);
    if (s->frames) wslay_event_context_free(s->frames);
    if (s->curl) curl_easy_cleanup(s->curl);
    cal_buffer_deinit(&s->early);
    cal_buffer_deinit(&s->messages);
    cal_buffer_deinit(&s->current);
    free(s);
}
