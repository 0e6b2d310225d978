/* Sockets of the HTTP server, see listener.h.
 *
 * Lifetimes: the listener counts its open libuv handles; when stopping and the count reaches zero
 * it frees itself. A client is freed in its handle's close callback, and only there. */
#include "api/listener.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/error.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/log.h"

enum { TICK_MS = 1000, READ_SIZE = 64 * 1024, BACKLOG = 1024, PORT_MAX = 65535, HOST_MAX = 64 };

static const char AREA[] = "api";
static const char FULL[] =
    "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

typedef struct http_client {
    uv_tcp_t tcp;
    cal_list node;
    api_listener *listener;
    http_connection *connection;
    struct http_sending *sending; /* the write on its way */
    bool reading, ended, busy, again;
} http_client;

typedef struct http_sending {
    uv_write_t request;
    uint8_t *bytes;
} http_sending;

typedef struct listener_door {
    uv_tcp_t tcp;
    api_listener *listener;
    uint16_t port;
    bool waiting; /* a connection is to be turned away once `spare` is free */
    char text[LISTENER_ADDRESS_TEXT_MAX];
} listener_door;

struct api_listener {
    uv_loop_t *loop;
    http_env *env;
    uv_timer_t tick, grace;
    uv_tcp_t spare; /* takes a connection only to turn it away */
    bool spare_used;
    listener_door *doors[LISTENER_ADDRESSES_MAX];
    size_t door_count, handles, connections, connections_max;
    cal_list clients;
    bool stopping;
    void (*done)(void *user);
    void *done_user;
    char read_buffer[READ_SIZE];
};

/* --- closing --- */

static void handle_closed(api_listener *listener) {
    assert(listener->handles > 0);
    if (--listener->handles > 0 || !listener->stopping) return;
    void (*done)(void *user) = listener->done;
    void *user = listener->done_user;
    free(listener);
    if (done) done(user);
}

static void on_timer_closed(uv_handle_t *handle) { handle_closed(handle->data); }

static void close_when_empty(api_listener *listener) {
    if (!listener->stopping || listener->connections > 0 ||
        uv_is_closing((uv_handle_t *)&listener->tick))
        return;
    uv_close((uv_handle_t *)&listener->tick, on_timer_closed);
    uv_close((uv_handle_t *)&listener->grace, on_timer_closed);
}

static void on_client_closed(uv_handle_t *handle) {
    http_client *client = handle->data;
    api_listener *listener = client->listener;
    http_connection_free(client->connection);
    cal_list_remove(&client->node);
    free(client);
    listener->connections--;
    if (listener->connections == 0 && !listener->stopping) uv_timer_stop(&listener->tick);
    close_when_empty(listener);
    handle_closed(listener);
}

static void client_close(http_client *client) {
    uv_handle_t *handle = (uv_handle_t *)&client->tcp;
    if (!uv_is_closing(handle)) uv_close(handle, on_client_closed);
}

/* --- bytes --- */

static void client_update(http_client *client);

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf) {
    (void)suggested;
    http_client *client = handle->data;
    *ret_buf = uv_buf_init(client->listener->read_buffer, READ_SIZE);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf) {
    http_client *client = stream->data;
    client->busy = true;
    if (len > 0)
        http_connection_feed(client->connection, cal_slice_of(buf->base, (size_t)len));
    else if (len == UV_EOF)
        http_connection_eof(client->connection);
    client->busy = false;
    if (len < 0 && len != UV_EOF)
        client_close(client);
    else
        client_update(client);
}

static void on_written(uv_write_t *request, int status) {
    http_sending *sending = request->data;
    http_client *client = (http_client *)request->handle->data;
    free(sending->bytes);
    free(sending);
    client->sending = NULL;
    if (uv_is_closing((uv_handle_t *)&client->tcp)) return;
    if (status != 0) {
        client_close(client);
        return;
    }
    http_connection_drained(client->connection);
    client_update(client);
}

/* Sends, at once if the kernel takes all of it. false: the connection is broken or waits for the
 * kernel. */
static bool send_bytes(http_client *client, uint8_t *bytes, size_t len) {
    uv_stream_t *stream = (uv_stream_t *)&client->tcp;
    uv_buf_t buf = uv_buf_init((char *)bytes, (unsigned)len);
    int sent = uv_try_write(stream, &buf, 1);
    if (sent == (int)len) {
        free(bytes);
        http_connection_drained(client->connection);
        return true;
    }
    http_sending *sending = sent >= 0 || sent == UV_EAGAIN ? malloc(sizeof *sending) : NULL;
    if (sending) {
        size_t taken = sent > 0 ? (size_t)sent : 0;
        sending->bytes = bytes;
        sending->request.data = sending;
        buf = uv_buf_init((char *)bytes + taken, (unsigned)(len - taken));
        if (uv_write(&sending->request, stream, &buf, 1, on_written) == 0) {
            client->sending = sending;
            return false;
        }
    }
    free(sending);
    free(bytes);
    client_close(client);
    return false;
}

static void on_shutdown(uv_shutdown_t *request, int status) {
    (void)status;
    free(request);
}

/* Our side has said all: the client may still read it, and ends its own side. */
static void end_writing(http_client *client) {
    if (client->ended) return;
    client->ended = true;
    uv_shutdown_t *request = malloc(sizeof *request);
    if (!request || uv_shutdown(request, (uv_stream_t *)&client->tcp, on_shutdown) != 0) {
        free(request);
        client_close(client);
    }
}

static void client_update(http_client *client) {
    uint8_t *bytes;
    size_t len;
    uv_stream_t *stream = (uv_stream_t *)&client->tcp;
    if (client->busy) {
        client->again = true;
        return;
    }
    client->busy = true;
    do {
        client->again = false;
        while (http_connection_drain(client->connection, &bytes, &len))
            if (!send_bytes(client, bytes, len)) break;
    } while (client->again && !uv_is_closing((uv_handle_t *)stream));
    client->busy = false;
    if (uv_is_closing((uv_handle_t *)stream)) return;
    http_fate fate = http_connection_fate(client->connection);
    if (fate == HTTP_FATE_CLOSE) {
        client_close(client);
        return;
    }
    if (fate == HTTP_FATE_FINISH && !client->sending) end_writing(client);
    bool wants = http_connection_wants_read(client->connection);
    if (wants == client->reading || uv_is_closing((uv_handle_t *)stream)) return;
    client->reading = wants;
    if (wants)
        uv_read_start(stream, on_alloc, on_read);
    else
        uv_read_stop(stream);
}

static void on_wake(void *owner) {
    http_client *client = owner;
    if (!uv_is_closing((uv_handle_t *)&client->tcp)) client_update(client);
}

/* --- time --- */

static void refresh_date(http_env *env) {
    uv_timeval64_t now;
    struct tm tm;
    if (uv_gettimeofday(&now) != 0) return;
    time_t seconds = (time_t)now.tv_sec;
    gmtime_r(&seconds, &tm);
    strftime(env->date, sizeof env->date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
}

static void on_tick(uv_timer_t *timer) {
    api_listener *listener = timer->data;
    refresh_date(listener->env);
    uint64_t now_ms = listener->env->clock_us(listener->env->clock_user) / 1000;
    for (cal_list *node = listener->clients.next, *next; node != &listener->clients; node = next) {
        next = node->next;
        http_client *client = CAL_CONTAINER_OF(node, http_client, node);
        if (uv_is_closing((uv_handle_t *)&client->tcp)) continue;
        if (now_ms < http_connection_deadline_ms(client->connection)) continue;
        http_connection_expire(client->connection);
        client_update(client);
    }
}

/* --- clients --- */

static void turn_away(listener_door *door);

static void on_turned_away(uv_handle_t *handle) {
    api_listener *listener = handle->data;
    listener->spare_used = false;
    for (size_t i = 0; i < listener->door_count; i++) {
        if (!listener->doors[i]->waiting) continue;
        listener->doors[i]->waiting = false;
        turn_away(listener->doors[i]);
    }
    handle_closed(listener);
}

/* Too many connections, or no memory for one: says so as far as one write goes. It is accepted all
 * the same, and without allocating, because libuv hears of no other until this one was. */
static void turn_away(listener_door *door) {
    api_listener *listener = door->listener;
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)FULL, sizeof FULL - 1);
    if (listener->spare_used) {
        door->waiting = true;
        return;
    }
    listener->spare_used = true;
    listener->handles++;
    uv_tcp_init(listener->loop, &listener->spare);
    listener->spare.data = listener;
    if (uv_accept((uv_stream_t *)&door->tcp, (uv_stream_t *)&listener->spare) == 0)
        uv_try_write((uv_stream_t *)&listener->spare, &buf, 1);
    uv_close((uv_handle_t *)&listener->spare, on_turned_away);
}

static void on_connection(uv_stream_t *stream, int status) {
    listener_door *door = stream->data;
    api_listener *listener = door->listener;
    if (status != 0) {
        cal_log(CAL_LOG_WARN, AREA, "a connection could not be accepted: %s", uv_strerror(status));
        return;
    }
    bool room = listener->connections < listener->connections_max;
    http_client *client = room ? calloc(1, sizeof *client) : NULL;
    if (client) client->connection = http_connection_new(listener->env, on_wake, client);
    if (!client || !client->connection) {
        free(client);
        turn_away(door);
        return;
    }
    client->listener = listener;
    uv_tcp_init(listener->loop, &client->tcp);
    client->tcp.data = client;
    listener->handles++;
    if (listener->connections++ == 0) {
        refresh_date(listener->env);
        uv_timer_start(&listener->tick, on_tick, TICK_MS, TICK_MS);
    }
    cal_list_push(&listener->clients, &client->node);
    if (uv_accept(stream, (uv_stream_t *)&client->tcp) != 0) {
        client_close(client);
        return;
    }
    uv_tcp_nodelay(&client->tcp, 1);
    client_update(client);
}

/* --- listening --- */

/* "/ip4/A/tcp/P" or "/ip6/A/tcp/P". */
static int read_address(const char *text, struct sockaddr_storage *ret_address,
                        char ret_host[HOST_MAX]) {
    bool v6 = strncmp(text, "/ip6/", 5) == 0;
    if (!v6 && strncmp(text, "/ip4/", 5) != 0) return CAL_EINVAL;
    const char *host = text + 5, *end = strchr(host, '/');
    if (!end || strncmp(end, "/tcp/", 5) != 0 || end - host >= HOST_MAX) return CAL_EINVAL;
    char *rest;
    unsigned long port = strtoul(end + 5, &rest, 10);
    if (end[5] < '0' || end[5] > '9' || *rest || port > PORT_MAX) return CAL_EINVAL;
    memcpy(ret_host, host, (size_t)(end - host));
    ret_host[end - host] = 0;
    int error = v6 ? uv_ip6_addr(ret_host, (int)port, (struct sockaddr_in6 *)ret_address)
                   : uv_ip4_addr(ret_host, (int)port, (struct sockaddr_in *)ret_address);
    return error ? CAL_EINVAL : 0;
}

static void on_door_closed(uv_handle_t *handle) {
    listener_door *door = handle->data;
    handle_closed(door->listener);
    free(door);
}

static int bind_door(listener_door *door, const struct sockaddr_storage *address) {
    int error = uv_tcp_bind(&door->tcp, (const struct sockaddr *)address,
                            address->ss_family == AF_INET6 ? UV_TCP_IPV6ONLY : 0);
    if (!error) error = uv_listen((uv_stream_t *)&door->tcp, BACKLOG, on_connection);
    struct sockaddr_storage bound;
    int len = sizeof bound;
    if (!error) error = uv_tcp_getsockname(&door->tcp, (struct sockaddr *)&bound, &len);
    if (!error)
        door->port =
            ntohs(((struct sockaddr_in *)&bound)->sin_port); /* same place in both families */
    return error;
}

static int open_door(api_listener *listener, const char *text, bool any_address, bool last,
                     cal_error *err) {
    struct sockaddr_storage address = {0};
    char host[HOST_MAX];
    if (read_address(text, &address, host) != 0)
        return cal_fail(
            err, CAL_EINVAL,
            "listen address '%s' is not of the form /ip4/ADDRESS/tcp/PORT or /ip6/ADDRESS/tcp/PORT",
            text);
    if (!any_address && !policy_address_is_loopback(host))
        return cal_fail(err, CAL_EDENIED,
                        "listen address '%s' can be reached from other machines, and the API has "
                        "no authentication "
                        "yet: listen on 127.0.0.1 or ::1, or start with --allow-unauthenticated if "
                        "only people you "
                        "trust can reach it",
                        text);
    listener_door *door = calloc(1, sizeof *door);
    if (!door) return cal_fail(err, CAL_ENOMEM, "out of memory");
    door->listener = listener;
    uv_tcp_init(listener->loop, &door->tcp);
    door->tcp.data = door;
    listener->handles++;
    int error = bind_door(door, &address);
    if (error) {
        uv_close((uv_handle_t *)&door->tcp, on_door_closed);
        if (last)
            return cal_fail(err, error == UV_EADDRINUSE ? CAL_EBUSY : CAL_EIO,
                            "cannot listen on %s: %s", text, uv_strerror(error));
        cal_log(CAL_LOG_WARN, AREA, "cannot listen on %s: %s; going on with the other addresses",
                text, uv_strerror(error));
        return 0;
    }
    snprintf(door->text, sizeof door->text, "/%s/%s/tcp/%u",
             address.ss_family == AF_INET6 ? "ip6" : "ip4", host, door->port);
    listener->doors[listener->door_count++] = door;
    return 0;
}

int api_listener_start(uv_loop_t *loop, http_env *env, const api_listener_options *options,
                       api_listener **ret_listener, cal_error *err) {
    if (options->address_count == 0 || options->address_count > LISTENER_ADDRESSES_MAX)
        return cal_fail(err, CAL_EINVAL, "between 1 and %d listen addresses are needed",
                        LISTENER_ADDRESSES_MAX);
    api_listener *listener = calloc(1, sizeof *listener);
    if (!listener) return cal_fail(err, CAL_ENOMEM, "out of memory");
    listener->loop = loop;
    listener->env = env;
    listener->connections_max =
        options->connections_max ? options->connections_max : CAL_HTTP_CONNECTIONS_MAX;
    cal_list_init(&listener->clients);
    uv_timer_init(loop, &listener->tick);
    uv_timer_init(loop, &listener->grace);
    listener->tick.data = listener->grace.data = listener;
    listener->handles = 2;
    int error = 0;
    for (size_t i = 0; i < options->address_count && !error; i++)
        error = open_door(listener, options->addresses[i], options->any_address,
                          i + 1 == options->address_count, err);
    if (error) {
        api_listener_stop(listener, 0, NULL, NULL);
        return error;
    }
    *ret_listener = listener;
    return 0;
}

static void on_grace_over(uv_timer_t *timer) {
    api_listener *listener = timer->data;
    for (cal_list *node = listener->clients.next; node != &listener->clients; node = node->next)
        client_close(CAL_CONTAINER_OF(node, http_client, node));
}

void api_listener_stop(api_listener *listener, uint32_t grace_ms, void (*done)(void *user),
                       void *user) {
    assert(!listener->stopping);
    listener->stopping = true;
    listener->done = done;
    listener->done_user = user;
    for (size_t i = 0; i < listener->door_count; i++)
        uv_close((uv_handle_t *)&listener->doors[i]->tcp, on_door_closed);
    listener->door_count = 0;
    for (cal_list *node = listener->clients.next; node != &listener->clients; node = node->next) {
        http_client *client = CAL_CONTAINER_OF(node, http_client, node);
        if (uv_is_closing((uv_handle_t *)&client->tcp)) continue;
        http_connection_stop(client->connection);
        client_update(client);
    }
    if (listener->connections > 0) uv_timer_start(&listener->grace, on_grace_over, grace_ms, 0);
    close_when_empty(listener);
}

const char *api_listener_address(const api_listener *listener, size_t index) {
    return index < listener->door_count ? listener->doors[index]->text : NULL;
}

uint16_t api_listener_port(const api_listener *listener, size_t index) {
    return index < listener->door_count ? listener->doors[index]->port : 0;
}

size_t api_listener_connections(const api_listener *listener) { return listener->connections; }
