/* Sockets, timers and names for a host, over libuv. See tcp.h and net.h.
 *
 * Lifetimes: the transport counts its open handles; freeing closes them all, and the last one to
 * close frees it. A wire is freed in its handle's close callback, and only there. A wire that is
 * closed while bytes are on their way lingers at most LINGER_MS, and at most LINGERING_MAX do at
 * once: a descriptor is no use to a peer that does not read. */
#include "net/tcp.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "net/multicast.h"

enum {
    READ_SIZE = 128 * 1024,
    BACKLOG = 512,
    LINGER_MS = 2000,
    LINGERING_MAX = 64,
    RETRY_MS = 20,            /* after a send or an accept that memory was lacking for */
    PENDING_MAX = 256 * 1024, /* bytes of one wire that the kernel has not taken */
    QUERIES_MAX = 64,
    DOORS_MAX = 16,
};

typedef struct tcp_transport tcp_transport;

struct net_wire {
    uv_tcp_t tcp; /* data: the wire */
    cal_list link;
    cal_list retry; /* of those whose send could not even begin to wait */
    tcp_transport *transport;
    void *owner; /* NULL: nobody listens any more */
    uv_connect_t connecting;
    uv_write_t writing;
    uint8_t *pending; /* what the write under way holds */
    bool connected, short_send, closing;
    uint64_t linger_until_ms;
};

typedef struct tcp_query {
    uv_getaddrinfo_t request; /* data: the query */
    cal_list link;
    tcp_transport *transport;
    void *asked; /* NULL: forgotten */
} tcp_query;

typedef struct tcp_door {
    uv_tcp_t tcp;
    tcp_transport *transport;
    bool waiting; /* somebody came in and could not be taken */
} tcp_door;

struct tcp_transport {
    net_transport table; /* first */
    uv_loop_t *loop;
    uv_timer_t alarm, linger, retry;
    tcp_door *doors[DOORS_MAX];
    size_t door_count, handles, query_count;
    cal_list wires, lingering, retries, queries;
    size_t lingering_count;
    net_multicast *multicast; /* NULL: none */
    bool freeing;
    void (*done)(void *user);
    void *done_user;
    char read_buffer[READ_SIZE];
};

static void handle_gone(tcp_transport *transport) {
    assert(transport->handles > 0);
    if (--transport->handles > 0 || !transport->freeing) return;
    void (*done)(void *user) = transport->done;
    void *user = transport->done_user;
    free(transport);
    if (done) done(user);
}

/* --- endpoints --- */

static int to_sockaddr(const net_endpoint *endpoint, struct sockaddr_storage *ret_address) {
    memset(ret_address, 0, sizeof *ret_address);
    if (endpoint->address.len == 4) {
        struct sockaddr_in *in = (struct sockaddr_in *)ret_address;
        in->sin_family = AF_INET;
        in->sin_port = htons(endpoint->port);
        memcpy(&in->sin_addr, endpoint->address.bytes, 4);
        return 0;
    }
    if (endpoint->address.len != 16) return CAL_EINVAL;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret_address;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(endpoint->port);
    memcpy(&in6->sin6_addr, endpoint->address.bytes, 16);
    return 0;
}

/* An IPv4 address that came in through an IPv6 socket is written as IPv4. */
static void from_sockaddr(const struct sockaddr *address, net_endpoint *ret_endpoint) {
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    memset(ret_endpoint, 0, sizeof *ret_endpoint);
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)address;
        ret_endpoint->address.len = 4;
        memcpy(ret_endpoint->address.bytes, &in->sin_addr, 4);
        ret_endpoint->port = ntohs(in->sin_port);
        return;
    }
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
    const uint8_t *bytes = in6->sin6_addr.s6_addr;
    bool four = memcmp(bytes, mapped, sizeof mapped) == 0;
    ret_endpoint->address.len = four ? 4 : 16;
    memcpy(ret_endpoint->address.bytes, four ? bytes + 12 : bytes, ret_endpoint->address.len);
    ret_endpoint->port = ntohs(in6->sin6_port);
}

static void endpoint_of(uv_tcp_t *tcp, bool peer, net_endpoint *ret_endpoint) {
    struct sockaddr_storage address;
    int len = sizeof address;
    memset(&address, 0, sizeof address);
    address.ss_family = AF_INET;
    if (peer)
        uv_tcp_getpeername(tcp, (struct sockaddr *)&address, &len);
    else
        uv_tcp_getsockname(tcp, (struct sockaddr *)&address, &len);
    from_sockaddr((struct sockaddr *)&address, ret_endpoint);
}

/* --- wires --- */

static void on_wire_closed(uv_handle_t *handle) {
    net_wire *wire = handle->data;
    tcp_transport *transport = wire->transport;
    cal_list_remove(&wire->link);
    cal_list_remove(&wire->retry);
    free(wire->pending);
    free(wire);
    handle_gone(transport);
}

static void wire_end(net_wire *wire) {
    wire->owner = NULL;
    if (!uv_is_closing((uv_handle_t *)&wire->tcp))
        uv_close((uv_handle_t *)&wire->tcp, on_wire_closed);
}

/* The other end is gone: the owner is told, once. */
static void wire_lost(net_wire *wire, int result) {
    void *owner = wire->owner;
    const net_transport_events *events = wire->transport->table.events;
    wire_end(wire);
    if (owner) events->closed(owner, result);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf) {
    (void)suggested;
    net_wire *wire = handle->data;
    *ret_buf = uv_buf_init(wire->transport->read_buffer, READ_SIZE);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf) {
    net_wire *wire = stream->data;
    if (len > 0) {
        if (wire->owner)
            wire->transport->table.events->received(wire->owner, (const uint8_t *)buf->base,
                                                    (size_t)len);
    } else if (len < 0) {
        wire_lost(wire, len == UV_EOF ? 0 : CAL_EUNREACHABLE);
    }
}

static net_wire *wire_new(tcp_transport *transport) {
    net_wire *wire = calloc(1, sizeof *wire);
    if (!wire) return NULL;
    if (uv_tcp_init(transport->loop, &wire->tcp)) {
        free(wire);
        return NULL;
    }
    wire->tcp.data = wire;
    wire->transport = transport;
    cal_list_init(&wire->retry);
    transport->handles++;
    cal_list_push(&transport->wires, &wire->link);
    return wire;
}

static void wire_start(net_wire *wire) {
    wire->connected = true;
    uv_tcp_nodelay(&wire->tcp, 1);
    if (uv_read_start((uv_stream_t *)&wire->tcp, on_alloc, on_read)) wire_lost(wire, CAL_EIO);
}

static void retry_soon(tcp_transport *transport);

/* libuv does not look at the door any more until whoever came in is taken off it: where there is no
 * memory for that, it is tried again. */
static void take_in(tcp_door *door) {
    tcp_transport *transport = door->transport;
    const net_transport_events *events = transport->table.events;
    net_wire *wire = wire_new(transport);
    door->waiting = !wire;
    if (!wire) {
        retry_soon(transport);
        events->accept_failed(events->user);
        return;
    }
    if (uv_accept((uv_stream_t *)&door->tcp, (uv_stream_t *)&wire->tcp)) {
        wire_end(wire);
        events->accept_failed(events->user);
        return;
    }
    net_endpoint remote, local;
    endpoint_of(&wire->tcp, true, &remote);
    endpoint_of(&wire->tcp, false, &local);
    void *owner = events->accepted(events->user, wire, &remote, &local);
    if (!owner) {
        wire_end(wire);
        return;
    }
    wire->owner = owner;
    wire_start(wire);
}

/* Out of descriptors: libuv looks again by itself. */
static void on_connection(uv_stream_t *server, int status) {
    tcp_door *door = server->data;
    const net_transport_events *events = door->transport->table.events;
    if (status < 0)
        events->accept_failed(events->user);
    else
        take_in(door);
}

static void on_connect(uv_connect_t *request, int status) {
    net_wire *wire = request->data;
    if (!wire->owner) return; /* closed meanwhile */
    if (status < 0) {
        wire_lost(wire, status == UV_ETIMEDOUT ? CAL_ETIMEOUT : CAL_EUNREACHABLE);
        return;
    }
    net_endpoint local;
    endpoint_of(&wire->tcp, false, &local);
    wire_start(wire);
    if (wire->owner) wire->transport->table.events->connected(wire->owner, &local);
}

static int tcp_dial(void *user, const net_endpoint *to, void *owner, net_wire **ret_wire) {
    struct sockaddr_storage address;
    if (to_sockaddr(to, &address)) return CAL_EINVAL;
    net_wire *wire = wire_new(user);
    if (!wire) return CAL_ENOMEM;
    wire->connecting.data = wire;
    if (uv_tcp_connect(&wire->connecting, &wire->tcp, (struct sockaddr *)&address, on_connect)) {
        wire_end(wire);
        return CAL_EUNREACHABLE;
    }
    wire->owner = owner;
    *ret_wire = wire;
    return 0;
}

static void linger_end(net_wire *wire) {
    tcp_transport *transport = wire->transport;
    cal_list_remove(&wire->link);
    cal_list_push(&transport->wires, &wire->link);
    transport->lingering_count--;
    wire->closing = false;
    wire_end(wire);
}

static void on_written(uv_write_t *request, int status) {
    net_wire *wire = request->data;
    free(wire->pending);
    wire->pending = NULL;
    if (wire->closing) {
        linger_end(wire);
    } else if (status < 0) {
        wire_lost(wire, CAL_EUNREACHABLE);
    } else if (wire->short_send && wire->owner) {
        wire->short_send = false;
        wire->transport->table.events->writable(wire->owner);
    }
}

static void on_retry(uv_timer_t *timer) {
    tcp_transport *transport = timer->data;
    cal_list due;
    cal_list_init(&due);
    for (cal_list *at; (at = cal_list_pop(&transport->retries));) cal_list_push(&due, at);
    for (cal_list *at; (at = cal_list_pop(&due));) {
        net_wire *wire = CAL_CONTAINER_OF(at, net_wire, retry);
        if (!wire->owner || wire->pending || !wire->short_send) continue;
        wire->short_send = false;
        transport->table.events->writable(wire->owner);
    }
    for (size_t i = 0; i < transport->door_count; i++)
        if (transport->doors[i]->waiting) take_in(transport->doors[i]);
}

static void retry_soon(tcp_transport *transport) {
    if (!uv_is_active((uv_handle_t *)&transport->retry))
        uv_timer_start(&transport->retry, on_retry, RETRY_MS, 0);
}

/* Nothing is under way that would tell: `writable` comes in a moment, and with it another try. */
static size_t send_later(net_wire *wire, size_t taken) {
    free(wire->pending);
    wire->pending = NULL;
    if (cal_list_empty(&wire->retry)) cal_list_push(&wire->transport->retries, &wire->retry);
    retry_soon(wire->transport);
    return taken;
}

static size_t tcp_send(net_wire *wire, const uint8_t *bytes, size_t len) {
    size_t taken = 0;
    if (!wire->connected || wire->pending || uv_is_closing((uv_handle_t *)&wire->tcp)) {
        wire->short_send = true;
        return 0;
    }
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)bytes, (unsigned)len);
    int sent = uv_try_write((uv_stream_t *)&wire->tcp, &buf, 1);
    if (sent > 0) taken = (size_t)sent;
    if (taken == len) return len;
    /* The rest waits in a write of libuv's, which tells when the kernel took it. An error shows
     * there as well. */
    size_t rest = len - taken < PENDING_MAX ? len - taken : PENDING_MAX;
    wire->short_send = true;
    wire->pending = malloc(rest);
    if (!wire->pending) return send_later(wire, taken);
    memcpy(wire->pending, bytes + taken, rest);
    buf = uv_buf_init((char *)wire->pending, (unsigned)rest);
    wire->writing.data = wire;
    if (uv_write(&wire->writing, (uv_stream_t *)&wire->tcp, &buf, 1, on_written))
        return send_later(wire, taken);
    return taken + rest;
}

static void tcp_pause(net_wire *wire, bool paused) {
    if (uv_is_closing((uv_handle_t *)&wire->tcp)) return;
    if (paused)
        uv_read_stop((uv_stream_t *)&wire->tcp);
    else
        uv_read_start((uv_stream_t *)&wire->tcp, on_alloc, on_read);
}

static void on_linger(uv_timer_t *timer) {
    tcp_transport *transport = timer->data;
    uint64_t now = uv_now(transport->loop);
    while (!cal_list_empty(&transport->lingering)) {
        net_wire *wire = CAL_CONTAINER_OF(transport->lingering.next, net_wire, link);
        if (wire->linger_until_ms > now) {
            uv_timer_start(timer, on_linger, wire->linger_until_ms - now, 0);
            return;
        }
        linger_end(wire);
    }
}

static void tcp_close(net_wire *wire, bool abort) {
    tcp_transport *transport = wire->transport;
    wire->owner = NULL;
    if (abort || !wire->pending || uv_is_closing((uv_handle_t *)&wire->tcp)) {
        wire_end(wire);
        return;
    }
    if (transport->lingering_count == LINGERING_MAX)
        linger_end(CAL_CONTAINER_OF(transport->lingering.next, net_wire, link));
    transport->lingering_count++;
    wire->closing = true;
    wire->linger_until_ms = uv_now(transport->loop) + LINGER_MS;
    uv_read_stop((uv_stream_t *)&wire->tcp);
    cal_list_remove(&wire->link);
    cal_list_push(&transport->lingering, &wire->link);
    if (!uv_is_active((uv_handle_t *)&transport->linger))
        uv_timer_start(&transport->linger, on_linger, LINGER_MS, 0);
}

/* --- listening --- */

static void on_door_closed(uv_handle_t *handle) {
    tcp_door *door = handle->data;
    tcp_transport *transport = door->transport;
    free(door);
    handle_gone(transport);
}

static int tcp_listen(void *user, const net_endpoint *at, net_endpoint *ret_bound, cal_error *err) {
    tcp_transport *transport = user;
    struct sockaddr_storage address;
    if (transport->door_count == DOORS_MAX || to_sockaddr(at, &address))
        return cal_fail(err, CAL_ELIMIT, "at most %d addresses", DOORS_MAX);
    tcp_door *door = calloc(1, sizeof *door);
    if (!door) return cal_fail(err, CAL_ENOMEM, "no memory");
    int status = uv_tcp_init(transport->loop, &door->tcp);
    if (status) {
        free(door);
        return cal_fail(err, CAL_EIO, "%s", uv_strerror(status));
    }
    door->tcp.data = door;
    door->transport = transport;
    transport->handles++;
    /* IPv6 sockets take IPv6 alone, so that one port can serve both families. */
    status = uv_tcp_bind(&door->tcp, (struct sockaddr *)&address,
                         at->address.len == 16 ? UV_TCP_IPV6ONLY : 0);
    if (!status) status = uv_listen((uv_stream_t *)&door->tcp, BACKLOG, on_connection);
    if (status) {
        uv_close((uv_handle_t *)&door->tcp, on_door_closed);
        return cal_fail(err, status == UV_EAFNOSUPPORT ? CAL_EUNSUPPORTED : CAL_EIO, "%s",
                        uv_strerror(status));
    }
    transport->doors[transport->door_count++] = door;
    endpoint_of(&door->tcp, false, ret_bound);
    return 0;
}

static size_t tcp_interfaces(void *user, const net_endpoint *at, net_endpoint *ret_endpoints,
                             size_t max) {
    uv_interface_address_t *interfaces;
    int interface_count;
    size_t count = 0;
    (void)user;
    if (uv_interface_addresses(&interfaces, &interface_count)) return 0;
    for (int i = 0; i < interface_count && count < max; i++) {
        net_endpoint endpoint;
        from_sockaddr((const struct sockaddr *)&interfaces[i].address, &endpoint);
        if (endpoint.address.len != at->address.len || net_endpoint_link_local(&endpoint)) continue;
        endpoint.port = at->port;
        ret_endpoints[count++] = endpoint;
    }
    uv_free_interface_addresses(interfaces, interface_count);
    return count;
}

/* --- names --- */

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *found) {
    tcp_query *query = request->data;
    tcp_transport *transport = query->transport;
    cal_os_address addresses[CAL_OS_ADDRESSES_MAX];
    size_t count = 0;
    for (struct addrinfo *at = found; at && count < CAL_OS_ADDRESSES_MAX; at = at->ai_next) {
        net_endpoint endpoint;
        if (at->ai_family != AF_INET && at->ai_family != AF_INET6) continue;
        from_sockaddr(at->ai_addr, &endpoint);
        addresses[count++] = endpoint.address;
    }
    uv_freeaddrinfo(found);
    void *asked = query->asked;
    cal_list_remove(&query->link);
    free(query);
    transport->query_count--;
    if (asked)
        transport->table.events->resolved(asked, status || !count ? CAL_EUNREACHABLE : 0, addresses,
                                          count);
    handle_gone(transport);
}

static int tcp_resolve(void *user, const char *name, void *asked) {
    tcp_transport *transport = user;
    if (transport->query_count == QUERIES_MAX) return CAL_ELIMIT;
    tcp_query *query = calloc(1, sizeof *query);
    if (!query) return CAL_ENOMEM;
    query->request.data = query;
    query->transport = transport;
    query->asked = asked;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    if (uv_getaddrinfo(transport->loop, &query->request, on_resolved, name, NULL, &hints)) {
        free(query);
        return CAL_EUNREACHABLE;
    }
    cal_list_push(&transport->queries, &query->link);
    transport->query_count++;
    transport->handles++;
    return 0;
}

static void tcp_forget(void *user, void *asked) {
    tcp_transport *transport = user;
    for (cal_list *at = transport->queries.next; at != &transport->queries; at = at->next) {
        tcp_query *query = CAL_CONTAINER_OF(at, tcp_query, link);
        if (query->asked != asked) continue;
        query->asked = NULL;
        uv_cancel((uv_req_t *)&query->request);
    }
}

/* --- time --- */

static uint64_t tcp_now(void *user) {
    (void)user;
    return uv_hrtime();
}

static void on_alarm(uv_timer_t *timer) {
    tcp_transport *transport = timer->data;
    transport->table.events->wake(transport->table.events->user);
}

static void tcp_wake_at(void *user, uint64_t at_ns) {
    tcp_transport *transport = user;
    uint64_t now = uv_hrtime();
    if (transport->freeing) return;
    if (at_ns == NET_NEVER) {
        uv_timer_stop(&transport->alarm);
        return;
    }
    uv_update_time(transport->loop);
    uv_timer_start(&transport->alarm, on_alarm, at_ns > now ? (at_ns - now + 999999) / 1000000 : 0,
                   0);
}

/* --- a group of datagrams (multicast.c) --- */

static void on_datagram(void *user, const uint8_t *bytes, size_t len) {
    tcp_transport *transport = user;
    transport->table.events->datagram(transport->table.events->user, bytes, len);
}

static void on_multicast_closed(void *user) { handle_gone(user); }

static void tcp_multicast_leave(void *user) {
    tcp_transport *transport = user;
    if (transport->multicast) net_multicast_close(transport->multicast);
    transport->multicast = NULL;
}

static int tcp_multicast_join(void *user, const net_endpoint *group, cal_error *err) {
    static const net_multicast_events events = {on_datagram, on_multicast_closed};
    tcp_transport *transport = user;
    if (transport->multicast) return cal_fail(err, CAL_EEXISTS, "a group is heard already");
    int result = net_multicast_new(transport->loop, &events, transport, &transport->multicast);
    if (result) return cal_fail(err, result, "no memory for a socket");
    transport->handles++;
    result = net_multicast_join(transport->multicast, group, err);
    if (result) tcp_multicast_leave(transport);
    return result;
}

static void tcp_multicast_send(void *user, const uint8_t *bytes, size_t len) {
    tcp_transport *transport = user;
    if (transport->multicast) net_multicast_send(transport->multicast, bytes, len);
}

/* --- life --- */

static void tcp_stop(void *user) {
    tcp_transport *transport = user;
    tcp_multicast_leave(transport);
    while (transport->door_count > 0)
        uv_close((uv_handle_t *)&transport->doors[--transport->door_count]->tcp, on_door_closed);
}

int net_tcp_new(uv_loop_t *loop, net_transport **ret_transport) {
    tcp_transport *transport = calloc(1, sizeof *transport);
    if (!transport) return CAL_ENOMEM;
    transport->loop = loop;
    transport->table = (net_transport){.user = transport,
                                       .now_ns = tcp_now,
                                       .listen = tcp_listen,
                                       .dial = tcp_dial,
                                       .send = tcp_send,
                                       .pause = tcp_pause,
                                       .close = tcp_close,
                                       .resolve = tcp_resolve,
                                       .forget = tcp_forget,
                                       .wake_at = tcp_wake_at,
                                       .interfaces = tcp_interfaces,
                                       .stop = tcp_stop,
                                       .multicast_join = tcp_multicast_join,
                                       .multicast_send = tcp_multicast_send,
                                       .multicast_leave = tcp_multicast_leave};
    cal_list_init(&transport->wires);
    cal_list_init(&transport->lingering);
    cal_list_init(&transport->retries);
    cal_list_init(&transport->queries);
    uv_timer_init(loop, &transport->alarm);
    uv_timer_init(loop, &transport->linger);
    uv_timer_init(loop, &transport->retry);
    transport->alarm.data = transport->linger.data = transport->retry.data = transport;
    transport->handles = 3;
    *ret_transport = &transport->table;
    return 0;
}

static void on_timer_closed(uv_handle_t *handle) { handle_gone(handle->data); }

void net_tcp_free(net_transport *table, void (*done)(void *user), void *user) {
    tcp_transport *transport = (tcp_transport *)table;
    if (!transport) return;
    transport->freeing = true;
    transport->done = done;
    transport->done_user = user;
    tcp_stop(transport);
    for (cal_list *at = transport->wires.next; at != &transport->wires; at = at->next)
        wire_end(CAL_CONTAINER_OF(at, net_wire, link));
    for (cal_list *at = transport->queries.next; at != &transport->queries; at = at->next) {
        tcp_query *query = CAL_CONTAINER_OF(at, tcp_query, link);
        query->asked = NULL;
        uv_cancel((uv_req_t *)&query->request);
    }
    /* Wires that linger (a goodbye on its way) get no more time. */
    while (!cal_list_empty(&transport->lingering))
        linger_end(CAL_CONTAINER_OF(transport->lingering.next, net_wire, link));
    uv_close((uv_handle_t *)&transport->alarm, on_timer_closed);
    uv_close((uv_handle_t *)&transport->linger, on_timer_closed);
    uv_close((uv_handle_t *)&transport->retry, on_timer_closed);
}
