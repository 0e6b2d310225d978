/* A seeded network of many machines in one process: net_transport for many hosts, over one heap of
 * events and one virtual clock.
 *
 * Machines have addresses, a process each (one host's transport) and an os/sim world (disk,
 * randomness, wall clock) that the network keeps in step with its clock. Between them a small TCP
 * runs over packets that are delayed, overtake each other, are lost, doubled or black-holed; what
 * the hosts see is what TCP makes of it:
 *  - bytes come in order, never altered, cut anywhere; a lost packet stalls the stream until it is
 *    sent again, after timeouts that double; the 16th in a row ends the connection;
 *  - each end has a send buffer (short sends, then `writable`) and a receive buffer (a paused
 *    reader closes its window);
 *  - connecting takes a round trip; it is refused where nobody listens, and times out where nobody
 *    answers; ends and resets travel like everything else and can be lost (a reset for good);
 *  - a machine that lost its power says nothing; when it is back, it answers what it does not know
 *    with a reset. An address that moved away answers nothing, or as its new owner does.
 * There is no congestion control: what the path and the window allow is sent. Datagrams to a group
 * go to every machine of the same LAN, each copy by its path: late, lost or twice.
 *
 * All randomness comes from the network's world: the same seed and the same calls give the same
 * run (net_sim_trace). Bounded: what would be too much is dropped as by a full queue. No I/O; one
 * thread. */
#ifndef CAL_NET_SIM_H
#define CAL_NET_SIM_H

#include "net/net.h"
#include "os/sim/sim.h"

typedef struct net_sim net_sim;
typedef struct net_sim_machine net_sim_machine;

enum {
    NET_SIM_MACHINES_MAX = 256,
    NET_SIM_ADDRESSES_MAX = 8, /* of a machine, besides 127.0.0.1 and ::1 */
    NET_SIM_DOORS_MAX = 16,    /* a process listens on */
    NET_SIM_NAMES_MAX = 64,
    NET_SIM_QUERIES_MAX = 64, /* of a process, under way */
    NET_SIM_CONNECTIONS_MAX = 32768,
    NET_SIM_DATAGRAM_MAX = 9000,  /* bytes; a longer one is not sent */
    NET_SIM_EVENTS_MAX = 1 << 20, /* then packets are dropped */
    NET_SIM_BUFFER = 128 * 1024,  /* default of the buffers */
    NET_SIM_SEGMENT = 16 * 1024,  /* default of the longest segment */
};

/* One direction between two machines. */
typedef struct net_sim_path {
    uint64_t delay_ns;      /* of every packet */
    uint64_t jitter_ns;     /* and up to this, each packet on its own: they overtake */
    uint64_t late_ns;       /* and up to this, for some */
    uint64_t bytes_per_s;   /* packets wait for those before; 0: no limit */
    uint32_t late_ppm;      /* how many are late */
    uint32_t loss_ppm;      /* never arrive */
    uint32_t duplicate_ppm; /* arrive twice */
} net_sim_path;

typedef struct net_sim_options {
    net_sim_path path; /* between machines of which nothing else was said */
    /* Bytes; 0: the defaults above. */
    uint32_t send_buffer, receive_buffer, segment_max;
} net_sim_options;

/* `world` outlives the network and gives it randomness; its clock moves along. CAL_ENOMEM. */
int net_sim_new(const net_sim_options *options, cal_sim *world, net_sim **ret_net);
/* Hosts and processes are gone already; NULL allowed. */
void net_sim_free(net_sim *net);

/* --- time --- */

uint64_t net_sim_now(const net_sim *net); /* the monotonic clock of every machine */
/* Calls fn(user) at that time, between other events: it may call everything but net_sim_run. */
void net_sim_at(net_sim *net, uint64_t at_ns, void (*fn)(void *user), void *user);
/* The same, as something that the machine's present process does: it waits while the machine stands
 * still, and does not happen when the process has ended before. */
void net_sim_on(net_sim_machine *machine, uint64_t at_ns, void (*fn)(void *user), void *user);
/* Whether something of that machine's process is happening right now: the caller is inside an event
 * of its transport. */
bool net_sim_inside(const net_sim_machine *machine);
/* Lets happen what happens, up to and with that time, or until done (may be NULL) says so: 0.
 * CAL_ETIMEOUT: it never did. CAL_ELIMIT: more than a million things at one instant, some host
 * goes round in circles. CAL_ENOMEM. Not from inside an event. */
int net_sim_run(net_sim *net, uint64_t until_ns, bool (*done)(void *user), void *user);
bool net_sim_running(const net_sim *net); /* inside an event */

/* --- machines --- */

/* Without power and address. `world`: its clocks (the wall clock may be set to anything at any
 * time), randomness and disk; several machines may share one. CAL_ELIMIT, CAL_ENOMEM. */
int net_sim_machine_new(net_sim *net, cal_sim *world, net_sim_machine **ret_machine);
/* "10.0.0.1" or "fd00::1". A machine whose address is taken away is not told: its connections over
 * it go silent. CAL_EINVAL, CAL_EEXISTS, CAL_ELIMIT. */
int net_sim_address_add(net_sim_machine *machine, const char *address);
void net_sim_address_remove(net_sim_machine *machine, const char *address);
/* What a name means, to all; again: replaces. No addresses: it does not resolve. CAL_EINVAL,
 * CAL_ELIMIT. */
int net_sim_name(net_sim *net, const char *name, const char *const *addresses, size_t count);

/* Power on, and a process begins: its transport. The host of the process before is freed. */
net_transport *net_sim_start(net_sim_machine *machine);
/* The transport ends, its host was freed; the process lives on (net_sim_on). */
void net_sim_hang_up(net_sim_machine *machine);
/* The process ends, as by SIGKILL or exit: the machine's kernel ends its connections. Then free its
 * host: what it still asks of the transport does nothing. */
void net_sim_kill(net_sim_machine *machine);
/* The machine ends: nobody is told. Then free its host. */
void net_sim_power_off(net_sim_machine *machine);
/* Machines hear the multicast of those on their LAN; at first all are on LAN 0. */
void net_sim_lan_set(net_sim_machine *machine, unsigned lan);
/* Stands still until then, as a virtual machine that is paused: packets to it are swallowed, what
 * its timers and alarms would do waits. Its clocks go on, so for its host time jumps. */
void net_sim_freeze(net_sim_machine *machine, uint64_t until_ns);
const cal_os *net_sim_os(net_sim_machine *machine);

/* --- paths --- */

void net_sim_path_set(net_sim_machine *from, net_sim_machine *to, const net_sim_path *path);
/* Swallows everything in that direction, also what is on its way; as often as it was cut it must
 * be mended. */
void net_sim_cut(net_sim_machine *from, net_sim_machine *to);
void net_sim_mend(net_sim_machine *from, net_sim_machine *to);
bool net_sim_is_cut(const net_sim_machine *from, const net_sim_machine *to);
/* A firewall between them forgets their connections: resets go to both ends of each, and may get
 * lost on the way. */
void net_sim_reset(net_sim_machine *a, net_sim_machine *b);
/* Until when some connection between both was, or still is, waiting to send the same bytes a third
 * time or later: TCP stalls, and no path that needs it can be called alive. 0: never. */
uint64_t net_sim_stalled_until(const net_sim_machine *a, const net_sim_machine *b);

/* --- figures --- */

typedef struct net_sim_stats {
    uint64_t events, packets, lost, swallowed, doubled, overtaken, resent, resets, dropped;
    uint64_t bytes; /* given to hosts */
    /* present values */
    uint64_t connections, queued;
} net_sim_stats;
void net_sim_stats_get(const net_sim *net, net_sim_stats *ret_stats);
/* A hash of all that happened so far: times, packets, bytes given to hosts. */
uint64_t net_sim_trace(const net_sim *net);
/* Adds to it what the caller saw. */
void net_sim_note(net_sim *net, uint64_t value);

#endif
