/* net's header for its neighbours (and for gossip, kad, mdns, rendezvous inside it): a host over a
 * transport of the caller's choosing. The rest of the interface is calimero/p2p.h.
 *
 * What speaks to the outside world is one table, net_transport: src/net/tcp.c and multicast.c fill
 * it in with libuv's sockets, a simulator with virtual ones. Everything above it takes bytes and
 * times as arguments. One thread: the transport's. network-sync.md 1; libp2p connections
 * specification. */
#ifndef CAL_NET_H
#define CAL_NET_H

#include "base/bytes.h"
#include "base/list.h"
#include "calimero/p2p.h"
#include "crypto/crypto.h"
#include "os/os.h"

enum { NET_SAVES_MAX = 16, NET_SAVE_PAUSE_MS = 10000 };
#define NET_NEVER UINT64_MAX /* no deadline */
#define NET_MS(ms) ((uint64_t)(ms)*1000000u)

/* Where a socket is, or goes to. */
typedef struct net_endpoint {
    cal_os_address address; /* an IP */
    uint16_t port;
} net_endpoint;

/* A byte pipe to one endpoint, made by the transport; opaque to the host. */
typedef struct net_wire net_wire;

/* Told by the transport to its host, one at a time, never from inside a call into the transport.
 * `owner` is what the host gave for the wire. */
typedef struct net_transport_events {
    void *user; /* the host */
    /* A connection came in. Returns its owner, or NULL to have it closed at once. */
    void *(*accepted)(void *user, net_wire *wire, const net_endpoint *remote,
                      const net_endpoint *local);
    void (*connected)(void *owner, const net_endpoint *local); /* an outgoing one is there */
    void (*received)(void *owner, const uint8_t *bytes, size_t len);
    void (*writable)(void *owner); /* after a short send: more would be taken now */
    /* Failed, ended or reset: nothing more comes for this owner, the wire is gone. result: 0 an
     * orderly end, or a CAL_E*. Not told for wires that the host closed. */
    void (*closed)(void *owner, int result);
    void (*resolved)(void *query, int result, const cal_os_address *addresses, size_t count);
    void (*wake)(void *user); /* the time given to wake_at has come */
    /* Somebody said something to the group of multicast_join; one's own words come back too. */
    void (*datagram)(void *user, const uint8_t *bytes, size_t len);
    /* Somebody came in and could not be taken: no memory, no descriptor. */
    void (*accept_failed)(void *user);
} net_transport_events;

typedef struct net_transport net_transport;
struct net_transport {
    void *user;
    const net_transport_events *events; /* the host sets it before anything else */
    uint64_t (*now_ns)(void *user);     /* never goes back */
    /* Starts to accept; port 0 picks one. CAL_EIO, CAL_EUNSUPPORTED (this machine has no such
     * addresses) with err. */
    int (*listen)(void *user, const net_endpoint *at, net_endpoint *ret_bound, cal_error *err);
    int (*dial)(void *user, const net_endpoint *to, void *owner, net_wire **ret_wire);
    /* Bytes taken, at most len; fewer: `writable` follows. */
    size_t (*send)(net_wire *wire, const uint8_t *bytes, size_t len);
    void (*pause)(net_wire *wire, bool paused); /* stops or goes on receiving */
    /* Sends what was taken, then closes; abort: at once. The wire is gone for the host. */
    void (*close)(net_wire *wire, bool abort);
    /* Asks for the addresses of a name; answers with resolved(query). CAL_ELIMIT, CAL_ENOMEM. */
    int (*resolve)(void *user, const char *name, void *query);
    void (*forget)(void *user, void *query);     /* no answer wanted any more */
    void (*wake_at)(void *user, uint64_t at_ns); /* one alarm; NET_NEVER: none */
    /* The addresses of this machine that something bound to `at` can be reached at (for a wildcard
     * those of its interfaces); returns how many. */
    size_t (*interfaces)(void *user, const net_endpoint *at, net_endpoint *ret_endpoints,
                         size_t max);
    /* Stops listening, to a group too. Wires stay until closed. */
    void (*stop)(void *user);
    /* Hears one group of datagrams on every interface; all three NULL: a transport without. A
     * second one is CAL_EEXISTS; CAL_EIO and CAL_ENOMEM with err. */
    int (*multicast_join)(void *user, const net_endpoint *group, cal_error *err);
    void (*multicast_send)(void *user, const uint8_t *bytes, size_t len); /* may get lost */
    void (*multicast_leave)(void *user);
};

/* A host over `transport`, which outlives it. os gives randomness. Begins to listen and to dial its
 * bootstrap peers at once. As cal_p2p_new. */
int net_host_new(const cal_p2p_options *options, net_transport *transport, const cal_os *os,
                 cal_p2p **ret_host, cal_error *err);
/* Takes no more, says goodbye, sends what finished streams still have (NET_GOODBYE_MS at most),
 * closes; then calls done (once, from the loop). */
void net_host_shutdown(cal_p2p *host, void (*done)(void *user), void *user);
/* After shutdown's done, or when nothing more will come from the transport. NULL allowed. */
void net_host_free(cal_p2p *host);

/* --- for protocols that live inside net --- */

/* A part with deadlines of its own (gossip's heartbeat). The host asks for the deadline after each
 * thing that happened, and calls expire when it has passed; a last time when the host is freed.
 * Embedded; unlinked by net_timer_stop. */
typedef struct net_timer {
    cal_list link;
    void *user;
    uint64_t at_ns; /* NET_NEVER: none. Set through net_timer_set. */
    void (*expire)(void *user, uint64_t now_ns);
} net_timer;
void net_timer_start(cal_p2p *host, net_timer *timer, void *user,
                     void (*expire)(void *user, uint64_t now_ns));
void net_timer_set(cal_p2p *host, net_timer *timer, uint64_t at_ns);
void net_timer_stop(net_timer *timer);

uint64_t net_now_ns(const cal_p2p *host);
const cal_os *net_os(const cal_p2p *host);
const cal_secret *net_seed(const cal_p2p *host); /* signs what the host publishes */
void net_random(const cal_p2p *host, void *ret_bytes, size_t len);
/* Address parts of "/ip4|ip6/../tcp/.."; CAL_EUNSUPPORTED for other shapes. */
bool net_endpoint_link_local(const net_endpoint *endpoint); /* fe80::/10 */
int net_endpoint_of(const cal_multiaddr *address, net_endpoint *ret_endpoint);
void net_endpoint_address(const net_endpoint *endpoint, cal_multiaddr *ret_address);

#endif
