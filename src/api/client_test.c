/* The client against our own HTTP and WebSocket layer, a server on a loop in another thread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/listener.h"
#include "api/ws.h"
#include "base/buffer.h"
#include "base/limits.h"
#include "calimero/client.h"

enum { BLOB_SIZE = 9 * 1024 * 1024 + 17, BIG_MESSAGE = 3 * 1024 * 1024 };

typedef struct server {
    uv_loop_t loop;
    http_env env;
    api_listener *listener;
    pthread_t thread;
    uv_async_t stop;
    uint64_t streamed, checksum;
    char url[64];
} server;

static server world;
static cal_client *client;

static uint64_t clock_us(void *user) { return (void)user, uv_hrtime() / 1000; }
static uint8_t byte_at(uint64_t offset) { return (uint8_t)(offset * 31 + (offset >> 8)); }

/* --- what the server does --- */

static void echo(http_exchange *exchange) {
    const char *type = http_header(exchange, "content-type"),
               *token = http_header(exchange, "authorization");
    http_set_header(exchange, "X-Type", type ? type : "none");
    http_set_header(exchange, "X-Token", token ? token : "none");
    http_reply(exchange, 200, "application/json", http_body(exchange));
}

static void refuse(http_exchange *exchange) {
    const char *how = http_param(exchange, "how");
    if (strcmp(how, "json") == 0)
        http_reply(exchange, 404, "application/json",
                   cal_slice_text("{\"error\":\"Context not found\"}"));
    else if (strcmp(how, "text") == 0)
        http_reply_text(exchange, 400, "Invalid URL: x");
    else
        http_reply_empty(exchange, 503);
}

static void on_data(http_exchange *exchange, cal_slice bytes) {
    (void)exchange;
    for (size_t i = 0; i < bytes.len; i++)
        world.checksum += bytes.data[i] == byte_at(world.streamed++) ? 0 : 1;
}
static void on_end(http_exchange *exchange) {
    http_reply(exchange, 200, "application/json", cal_slice_text("{\"data\":1}"));
}
static const http_sink sink = {on_data, on_end};
static void upload(http_exchange *exchange) {
    world.streamed = world.checksum = 0;
    http_set_sink(exchange, &sink);
    http_on_close(exchange, on_end); /* an exchange is ours until it is answered */
}

static void pump(http_exchange *exchange) {
    static uint8_t block[65536];
    while (world.streamed < BLOB_SIZE) {
        size_t len =
            BLOB_SIZE - world.streamed < sizeof block ? BLOB_SIZE - world.streamed : sizeof block;
        for (size_t i = 0; i < len; i++) block[i] = byte_at(world.streamed + i);
        world.streamed += len;
        if (!http_write(exchange, cal_slice_of(block, len))) return;
    }
    http_end(exchange);
}
static void download(http_exchange *exchange) {
    world.streamed = 0;
    http_begin(exchange, 200, "application/octet-stream", BLOB_SIZE);
    http_on_writable(exchange, pump);
    http_on_close(exchange, http_abort);
    pump(exchange);
}

/* "bye" closes, "twice" answers twice, everything else comes back. */
static void on_message(ws_socket *socket, cal_slice text) {
    if (cal_slice_equal(text, cal_slice_text("bye"))) {
        ws_done(socket);
        ws_close(socket, WS_CLOSE_GOING_AWAY, "bye");
        return;
    }
    if (cal_slice_equal(text, cal_slice_text("twice"))) ws_push(socket, cal_slice_text("once"));
    ws_reply(socket, text);
}
static void on_closed(ws_socket *socket) { (void)socket; }
static const ws_callbacks socket_callbacks = {on_message, on_closed};
static void open_socket(http_exchange *exchange) { ws_accept(exchange, &socket_callbacks, NULL); }

static const http_route routes[] = {
    {HTTP_VERB_POST, "/echo", HTTP_BODY_WHOLE, echo, false},
    {HTTP_VERB_DELETE, "/echo", HTTP_BODY_WHOLE, echo, false},
    {HTTP_VERB_GET, "/refuse/:how", HTTP_BODY_NONE, refuse, false},
    {HTTP_VERB_PUT, "/blob", HTTP_BODY_STREAM, upload, false},
    {HTTP_VERB_GET, "/blob", HTTP_BODY_NONE, download, false},
    {HTTP_VERB_GET, "/ws", HTTP_BODY_NONE, open_socket, false},
};

static void on_listener_stopped(void *user) { (void)user; }
static void on_stop(uv_async_t *stop) {
    api_listener_stop(world.listener, 1000, on_listener_stopped, NULL);
    uv_close((uv_handle_t *)stop, NULL);
}

static void *run(void *user) {
    uv_run(user, UV_RUN_DEFAULT);
    return NULL;
}

static int start(void **state) {
    (void)state;
    uv_loop_init(&world.loop);
    world.env = (http_env){.routes = routes,
                           .route_count = sizeof routes / sizeof *routes,
                           .prefix = "",
                           .timeouts = http_timeouts_default,
                           .clock_us = clock_us};
    const char *addresses[] = {"/ip4/127.0.0.1/tcp/0"};
    api_listener_options options = {addresses, 1, false, 0};
    cal_error err;
    if (api_listener_start(&world.loop, &world.env, &options, &world.listener, &err) != 0)
        return -1;
    snprintf(world.url, sizeof world.url, "http://127.0.0.1:%u/",
             api_listener_port(world.listener, 0));
    uv_async_init(&world.loop, &world.stop, on_stop);
    if (pthread_create(&world.thread, NULL, run, &world.loop) != 0) return -1;
    return cal_client_new(&(cal_client_options){.url = world.url, .token = "secret"}, &client,
                          &err);
}

static int stop(void **state) {
    (void)state;
    cal_client_free(client);
    uv_async_send(&world.stop);
    pthread_join(world.thread, NULL);
    return uv_loop_close(&world.loop);
}

/* --- requests --- */

static void a_body_comes_back(void **state) {
    (void)state;
    cal_client_answer answer;
    cal_error err = {0};
    assert_int_equal(cal_client_request(client, "POST", "/echo", "null", &answer, &err), 0);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body, "null");
    assert_int_equal(answer.len, 4);
    assert_int_equal(cal_client_check(&answer, &err), 0);
    cal_client_answer_deinit(&answer);
    assert_int_equal(cal_client_request(client, "DELETE", "/echo", "{}", &answer, &err), 0);
    assert_string_equal(answer.body, "{}");
    cal_client_answer_deinit(&answer);
    cal_client_answer_deinit(&answer);
    assert_int_equal(cal_client_request(client, "DELETE", "/echo", NULL, &answer, &err), 0);
    assert_string_equal(answer.body, "");
    cal_client_answer_deinit(&answer);
}

static void refused(const char *path, int status, int code, const char *message) {
    cal_client_answer answer;
    cal_error err = {0};
    assert_int_equal(cal_client_request(client, "GET", path, NULL, &answer, &err), 0);
    assert_int_equal(answer.status, status);
    assert_int_equal(cal_client_check(&answer, &err), code);
    assert_string_equal(err.message, message);
    cal_client_answer_deinit(&answer);
}

static void refusals_say_why(void **state) {
    (void)state;
    refused("/refuse/json", 404, CAL_ENOTFOUND, "HTTP 404: Context not found");
    refused("/refuse/text", 400, CAL_EINVAL, "HTTP 400: Invalid URL: x");
    refused("/refuse/empty", 503, CAL_EBUSY, "HTTP 503");
}

static void nobody_there(void **state) {
    (void)state;
    cal_client *other;
    cal_client_answer answer;
    cal_error err = {0};
    assert_int_equal(cal_client_new(&(cal_client_options){.url = "ftp://x"}, &other, &err),
                     CAL_EINVAL);
    assert_int_equal(
        cal_client_new(&(cal_client_options){.url = "http://127.0.0.1:1"}, &other, &err), 0);
    assert_int_equal(cal_client_request(other, "GET", "/", NULL, &answer, &err), CAL_EUNREACHABLE);
    cal_client_socket *socket;
    assert_int_equal(cal_client_socket_open(other, &socket, &err), CAL_EUNREACHABLE);
    cal_client_free(other);
}

/* --- streams --- */

typedef struct stream {
    uint64_t offset, wrong, told;
    uint64_t fail_at; /* 0: never */
} stream;

static int64_t give(void *user, void *ret_bytes, size_t max) {
    stream *s = user;
    size_t len = BLOB_SIZE - s->offset < max ? BLOB_SIZE - s->offset : max;
    if (s->fail_at && s->offset >= s->fail_at) return CAL_EIO;
    for (size_t i = 0; i < len; i++) ((uint8_t *)ret_bytes)[i] = byte_at(s->offset++);
    return (int64_t)len;
}

static int take(void *user, const void *bytes, size_t len) {
    stream *s = user;
    if (s->fail_at && s->offset >= s->fail_at) return CAL_EFULL;
    for (size_t i = 0; i < len; i++)
        s->wrong += ((const uint8_t *)bytes)[i] != byte_at(s->offset++);
    return 0;
}

static void count(void *user, uint64_t done, uint64_t total) {
    stream *s = user;
    if (done > 0 && total == BLOB_SIZE) s->told++;
}

static void blobs_stream(void **state) {
    (void)state;
    stream up = {0}, down = {0};
    cal_client_answer answer;
    cal_error err = {0};
    cal_client_on_progress(client, count, &up);
    cal_client_upload put = {"/blob", BLOB_SIZE, give, &up};
    assert_int_equal(cal_client_put(client, &put, &answer, &err), 0);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body, "{\"data\":1}");
    cal_client_answer_deinit(&answer);
    assert_int_equal(world.streamed, BLOB_SIZE);
    assert_int_equal(world.checksum, 0);
    assert_true(up.told > 0);
    cal_client_on_progress(client, count, &down);
    cal_client_download get = {"/blob", take, &down};
    assert_int_equal(cal_client_get(client, &get, &answer, &err), 0);
    assert_int_equal(answer.status, 200);
    assert_int_equal(down.offset, BLOB_SIZE);
    assert_int_equal(down.wrong, 0);
    assert_true(down.told > 0);
    cal_client_answer_deinit(&answer);
    cal_client_on_progress(client, NULL, NULL);
}

static void streams_can_be_given_up(void **state) {
    (void)state;
    stream up = {.fail_at = 100000}, down = {.fail_at = 100000};
    cal_client_answer answer;
    cal_error err = {0};
    cal_client_upload put = {"/blob", BLOB_SIZE, give, &up};
    assert_int_equal(cal_client_put(client, &put, &answer, &err), CAL_EIO);
    cal_client_download get = {"/blob", take, &down};
    assert_int_equal(cal_client_get(client, &get, &answer, &err), CAL_EFULL);
    down = (stream){0};
    get.path = "/refuse/json"; /* what is refused is not written as if it were the blob */
    assert_int_equal(cal_client_get(client, &get, &answer, &err), 0);
    assert_int_equal(answer.status, 404);
    assert_int_equal(down.offset, 0);
    assert_int_equal(cal_client_check(&answer, &err), CAL_ENOTFOUND);
    cal_client_answer_deinit(&answer);
}

static void on_header(void *user, const char *name, const char *value) {
    if (strcmp(name, "content-length") == 0) *(uint64_t *)user = strtoull(value, NULL, 10);
}

static void heads(void **state) {
    (void)state;
    uint64_t length = 0;
    cal_client_answer answer;
    cal_error err = {0};
    assert_int_equal(cal_client_head(client, "/blob", on_header, &length, &answer, &err), 0);
    assert_int_equal(answer.status, 200);
    assert_int_equal(answer.len, 0);
    assert_int_equal(length, BLOB_SIZE);
    cal_client_answer_deinit(&answer);
}

/* --- the WebSocket --- */

static void expect(cal_client_socket *socket, const char *text, size_t len) {
    const char *got;
    size_t got_len;
    cal_error err = {0};
    if (cal_client_socket_receive(socket, 10000, &got, &got_len, &err) != 0)
        fail_msg("%s", err.message);
    assert_int_equal(got_len, len);
    assert_memory_equal(got, text, len);
    assert_int_equal(got[len], 0);
}

static void messages_both_ways(void **state) {
    (void)state;
    cal_client_socket *socket;
    cal_error err = {0};
    const char *text;
    size_t len;
    if (cal_client_socket_open(client, &socket, &err) != 0) fail_msg("%s", err.message);
    assert_int_equal(cal_client_socket_receive(socket, 0, &text, &len, &err), CAL_ETIMEOUT);
    assert_int_equal(cal_client_socket_send(socket, "twice", 5, &err), 0);
    expect(socket, "once", 4);
    expect(socket, "twice", 5);
    char *big = malloc(BIG_MESSAGE);
    assert_non_null(big);
    memset(big, 'x', BIG_MESSAGE);
    for (int i = 0; i < 3; i++)
        assert_int_equal(cal_client_socket_send(socket, big, BIG_MESSAGE, &err), 0);
    for (int i = 0; i < 3; i++) expect(socket, big, BIG_MESSAGE);
    free(big);
    assert_int_equal(cal_client_socket_send(socket, "bye", 3, &err), 0);
    assert_int_equal(cal_client_socket_receive(socket, 10000, &text, &len, &err), CAL_ECANCELED);
    assert_int_equal(cal_client_socket_send(socket, "more", 4, &err), CAL_ECANCELED);
    cal_client_socket_close(socket);
    cal_client_socket_close(NULL);
}

static void no_socket_there(void **state) {
    (void)state;
    char url[96];
    cal_client *other;
    cal_client_socket *socket;
    cal_error err = {0};
    snprintf(url, sizeof url, "%snowhere", world.url);
    assert_int_equal(cal_client_new(&(cal_client_options){.url = url}, &other, &err), 0);
    assert_int_equal(cal_client_socket_open(other, &socket, &err), CAL_ENOTFOUND);
    assert_string_equal(err.message, "HTTP 404");
    cal_client_free(other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_comes_back),
        cmocka_unit_test(refusals_say_why),
        cmocka_unit_test(nobody_there),
        cmocka_unit_test(blobs_stream),
        cmocka_unit_test(heads),
        cmocka_unit_test(streams_can_be_given_up),
        cmocka_unit_test(messages_both_ways),
        cmocka_unit_test(no_socket_there),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
