/* What the files of net/sim share.
 *
 *   sim.c      the heap of events, machines, names, paths
 *   process.c  the transport table of a process
 *   wire.c     connections: a small TCP
 *
 * Lifetimes. A connection is both its ends; it lives as long as an event, a process that holds an
 * end (attached) or an end that is not over refers to it. So whatever arrives finds its connection,
 * and what a segment carries is read from the buffer of the end that sent it: bytes stay there
 * until they were acknowledged, even when the machine is off. */
#ifndef CAL_NET_SIM_INTERNAL_H
#define CAL_NET_SIM_INTERNAL_H

#include "base/list.h"
#include "net/sim/sim.h"

enum {
    VNET_HELD_MAX = 64,        /* gaps that a receiver remembers */
    VNET_READ_MAX = 64 * 1024, /* bytes given to a host at once */
    VNET_HEADER = 52,          /* what a packet takes besides its bytes */
};

typedef struct vnet_connection vnet_connection;

typedef struct vnet_range {
    uint64_t from, to;
} vnet_range;

enum vnet_state { VNET_NONE, VNET_ASKED, VNET_ASKED_BACK, VNET_OPEN, VNET_OVER };

/* One end of a connection. Bytes have numbers from 0; the end of the stream takes one more. */
struct net_wire {
    vnet_connection *connection;
    net_sim_machine *machine; /* the listening end's: NULL until it was found */
    net_endpoint local;
    enum vnet_state state;
    void *owner;   /* NULL: no process to tell */
    bool attached; /* the process will still call close */
    bool dead;     /* that process ended: its close means nothing */
    /* what goes out */
    cal_buffer out; /* from out_base on */
    uint64_t out_base, acked, next, highest, window_end;
    bool finish, short_send, hurried; /* hurried: sent again before its time */
    uint32_t retries, same_acks;
    uint64_t timer_ns, timer_queued_ns; /* due; the earliest event in the heap for it */
    uint64_t rtt_ns, timed, timed_ns;   /* round trip; the number that is measured, since when */
    /* what comes in */
    cal_buffer in;
    uint64_t received, announced, end_at; /* end_at: UINT64_MAX until it is known */
    vnet_range held[VNET_HELD_MAX];
    size_t held_count;
    bool paused, reset;
};

struct vnet_connection {
    cal_list link;
    net_sim *net;
    uint64_t number;
    unsigned refs;
    net_wire ends[2]; /* who dialled, who was dialled */
};

enum vnet_packet_kind { VNET_SYN, VNET_SYN_ACK, VNET_ACK, VNET_DATA, VNET_PROBE, VNET_RST };

typedef struct vnet_packet {
    net_wire *to;
    net_sim_machine *from;
    enum vnet_packet_kind kind;
    bool end;
    uint32_t len;
    uint64_t number, ack, window_end, sent; /* sent: its place among all packets */
} vnet_packet;

typedef struct vnet_query {
    cal_list link;
    net_sim_machine *machine;
    unsigned life;
    void *asked; /* NULL: forgotten */
    char name[256];
} vnet_query;

typedef struct vnet_datagram {
    net_sim_machine *from, *to;
    unsigned life; /* of the one to hear it */
    size_t len;
    uint8_t bytes[];
} vnet_datagram;

enum vnet_event_kind {
    VNET_DATAGRAM,
    VNET_PACKET,
    VNET_TIMER,
    VNET_READ,
    VNET_ALARM,
    VNET_ANSWER,
    VNET_CALL
};

typedef struct vnet_event {
    uint64_t at_ns, number;
    enum vnet_event_kind kind;
    union {
        vnet_packet packet;
        net_wire *wire;           /* timer, read */
        net_sim_machine *machine; /* alarm */
        vnet_query *query;
        vnet_datagram *datagram;
        struct {
            void (*fn)(void *user);
            void *user;
            net_sim_machine *machine; /* NULL: nobody's */
            unsigned life;            /* of its process */
        } call;
    };
} vnet_event;

typedef struct vnet_route {
    net_sim_path path;
    uint64_t free_at_ns;
    uint64_t last_sent; /* of what arrived: to count what was overtaken */
    uint32_t cuts;
    uint64_t stalled_until_ns;
} vnet_route;

typedef struct vnet_name {
    char name[256];
    cal_os_address addresses[CAL_OS_ADDRESSES_MAX];
    size_t count;
} vnet_name;

struct net_sim_machine {
    net_transport table;
    net_sim *net;
    cal_sim *world;
    size_t index;
    bool power, alive, running; /* alive: its process; running: that has a transport */
    unsigned life;              /* grows with each process */
    unsigned lan;
    net_endpoint group; /* joined; port 0: none */
    cal_os_address addresses[NET_SIM_ADDRESSES_MAX];
    size_t address_count;
    net_endpoint doors[NET_SIM_DOORS_MAX];
    size_t door_count, query_count;
    uint16_t next_port;
    uint64_t wake_ns, wake_queued_ns, frozen_until_ns;
    vnet_route routes[NET_SIM_MACHINES_MAX]; /* to each machine */
};

struct net_sim {
    net_sim_options options;
    cal_sim *world;
    uint64_t now_ns, numbers, trace;
    int error;
    vnet_event *heap;
    size_t heap_len, heap_capacity;
    net_sim_machine *machines[NET_SIM_MACHINES_MAX];
    size_t machine_count;
    cal_list connections, queries;
    bool running;                  /* inside net_sim_run */
    const net_sim_machine *inside; /* whose process is being told something */
    vnet_name names[NET_SIM_NAMES_MAX];
    size_t name_count;
    net_sim_stats stats;
    uint8_t scratch[VNET_READ_MAX];
};

/* sim.c */
uint64_t vnet_below(net_sim *net, uint64_t bound);
bool vnet_chance(net_sim *net, uint32_t ppm);
void vnet_note(net_sim *net, uint64_t a, uint64_t b, uint64_t c);
void vnet_plan(net_sim *net, const vnet_event *event); /* never lost, but for want of memory */
void vnet_clock(net_sim_machine *machine);             /* brings its world's clock up to now */
void vnet_enter(net_sim_machine *machine);             /* before its process is told something */
bool vnet_same_address(const cal_os_address *a, const cal_os_address *b);
bool vnet_is_loopback(const cal_os_address *address);
/* Who answers for an address when `from` speaks to it; NULL: nobody. */
net_sim_machine *vnet_machine_at(net_sim_machine *from, const cal_os_address *address);
bool vnet_has_address(const net_sim_machine *machine, const cal_os_address *address);
/* When a packet that leaves now arrives; false: never. */
bool vnet_travel(net_sim_machine *from, net_sim_machine *to, size_t bytes, uint64_t *ret_at_ns);

/* process.c */
void process_init(net_sim_machine *machine);
void process_end(net_sim_machine *machine);
uint16_t process_port(net_sim_machine *machine);
void process_alarm(net_sim_machine *machine);
void process_answer(vnet_query *query);
void process_datagram(const vnet_datagram *datagram);
bool process_listens(const net_sim_machine *machine, const net_endpoint *at);

/* wire.c */
int wire_dial(net_sim_machine *machine, const net_endpoint *to, void *owner, net_wire **ret_wire);
size_t wire_send(net_wire *wire, const uint8_t *bytes, size_t len);
void wire_pause(net_wire *wire, bool paused);
void wire_close(net_wire *wire, bool abort);
void wire_kill(net_wire *wire);      /* its process ended */
void wire_reset(net_wire *wire);     /* somebody on the way sends one to it */
void wire_power_off(net_wire *wire); /* its machine did */
void wire_packet(const vnet_packet *packet);
void wire_timer(net_wire *wire);
void wire_read(net_wire *wire);
void connection_forget(vnet_connection *connection); /* one reference less */

#endif
