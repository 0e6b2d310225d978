/* mDNS: peers of one local network find each other without being told an address.
 *
 * Packets and times in, packets and discoveries out; no I/O, one thread. One question
 * (`_p2p._udp.local` PTR) goes out at the start and then ever more rarely; answers carry the peer's
 * addresses as TXT `dnsaddr=` strings. libp2p mDNS specification; RFC 1035, 6762. Nothing that a
 * packet says is believed further than "there may be a peer": whoever dials it makes it prove its
 * id. mdns_host.c gives it the packets of a host's transport. */
#ifndef CAL_NET_MDNS_H
#define CAL_NET_MDNS_H

#include "base/buffer.h"
#include "base/bytes.h"
#include "calimero/p2p.h"

enum {
    MDNS_PORT = 5353,
    MDNS_PACKET_MAX = 1400,       /* bytes we put into one packet */
    MDNS_PACKET_TAKEN_MAX = 9000, /* bytes of one that we read: RFC 6762 17 */
    MDNS_TTL_S = 360,             /* what we announce is good for so long */
    MDNS_TTL_MAX_S = 3600,        /* what others announce, at most */
    MDNS_ADDRESSES_MAX = 32,      /* read from one packet, and announced */
    MDNS_KNOWN_MAX = 512,         /* addresses remembered */
    MDNS_DIALS_MAX = 16,          /* to peers found, at once; the others wait to be told */
    MDNS_NAME_LEN = 32,           /* of the peer's random name */
};
#define MDNS_GROUP_V4                                                                              \
    { 224, 0, 0, 251 }
#define MDNS_QUERY_FIRST_NS UINT64_C(1000000000) /* the second question, doubled from then on */
#define MDNS_QUERY_NS UINT64_C(300000000000)     /* up to this */
#define MDNS_ANSWER_NS UINT64_C(1000000000)      /* between two answers */
#define MDNS_RETELL_NS UINT64_C(60000000000)     /* an address that is said again is told again */

/* --- packets --- */

typedef struct mdns_packet {
    bool answer;                    /* else a question */
    bool asks_peers, asks_services; /* the two questions that are for us */
    size_t count;                   /* addresses in it */
    struct {
        cal_slice text; /* behind "dnsaddr="; inside the packet */
        uint32_t ttl;   /* seconds */
    } addresses[MDNS_ADDRESSES_MAX];
} mdns_packet;

/* CAL_EDECODE: not DNS. What is DNS and not for us leaves everything empty. */
int mdns_read(cal_slice packet, mdns_packet *ret_packet);
/* Each appends a whole packet; CAL_ELIMIT, CAL_ENOMEM. */
int mdns_write_query(cal_buffer *out);
/* As many of the texts ("/ip4/../tcp/../p2p/..") as fit; ret_used: how many. Those longer than a
 * TXT string holds are passed over. */
int mdns_write_answer(cal_buffer *out, const char name[MDNS_NAME_LEN], const char *const *texts,
                      size_t count, size_t *ret_used);
int mdns_write_services(cal_buffer *out); /* the answer to the question for all services */

/* --- the state machine --- */

typedef struct cal_mdns cal_mdns;

/* random seeds the name and the delays of answers. CAL_ENOMEM. */
int mdns_new(const cal_peer_id *self, uint64_t random, uint64_t now_ns, cal_mdns **ret_mdns);
void mdns_free(cal_mdns *mdns); /* NULL allowed */

/* What to announce, without /p2p; replaces what was. At most MDNS_ADDRESSES_MAX are taken. */
void mdns_announce(cal_mdns *mdns, const cal_multiaddr *addresses, size_t count, uint64_t now_ns);
int mdns_receive(cal_mdns *mdns, cal_slice packet, uint64_t now_ns); /* CAL_EDECODE, counted */
/* A peer's address when it is new, and when the peer says it again MDNS_RETELL_NS after it was
 * told: a connection that was lost is made again. false: none. */
bool mdns_next(cal_mdns *mdns, cal_peer_id *ret_peer, cal_multiaddr *ret_address, uint64_t now_ns);
/* The next packet to send to the group, into an empty buffer; false: none now. */
bool mdns_output(cal_mdns *mdns, cal_buffer *ret_packet, uint64_t now_ns);
uint64_t mdns_deadline(const cal_mdns *mdns); /* of the next output */

void mdns_stats_get(const cal_mdns *mdns, cal_p2p_mdns_stats *ret_stats);

#endif
