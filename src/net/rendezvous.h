/* Rendezvous: registering at a meeting point for namespaces, and learning who else did.
 *
 * The client's side, for one point, as a state machine without I/O: requests out, responses in, one
 * at a time; discoveries out. Protocol /rendezvous/1.0.0 over streams, messages with their length
 * in front (not part of what is handled here); libp2p rendezvous specification, RFC 0002 and 0003
 * for the signed peer records. rendezvous_host.c carries the requests of several such clients. */
#ifndef CAL_NET_RENDEZVOUS_H
#define CAL_NET_RENDEZVOUS_H

#include "base/buffer.h"
#include "base/bytes.h"
#include "calimero/error.h"
#include "calimero/p2p.h"
#include "crypto/crypto.h"

#define RENDEZVOUS_PROTOCOL "/rendezvous/1.0.0"

enum {
    RENDEZVOUS_NAMESPACE_MAX = 255,
    RENDEZVOUS_NAMESPACES_MAX = 1000, /* a point may refuse more registrations of one peer */
    RENDEZVOUS_MESSAGE_MAX = 128 * 1024,
    RENDEZVOUS_MEMORY_MAX = 1024 * 1024, /* decoding one message */
    RENDEZVOUS_COOKIE_MAX = 1024,
    RENDEZVOUS_DISCOVER_MAX = 100, /* peers asked for at once */
    RENDEZVOUS_FOUND_MAX = 512,    /* not yet taken; more are dropped and counted */
    RENDEZVOUS_ADDRESSES_MAX = 8,  /* of one peer */
};
#define RENDEZVOUS_TICK_NS UINT64_C(15000000000) /* each namespace is asked for so often... */
enum { RENDEZVOUS_PER_TICK = 8 };                /* ... or less, when there are more than these */
#define RENDEZVOUS_REQUEST_NS UINT64_C(10000000000) /* for an answer */
#define RENDEZVOUS_RETRY_NS UINT64_C(60000000000)   /* after a refusal */

/* --- signed peer records --- */

/* An envelope that says where this peer is. seq grows with each one; the wall clock will do.
 * CAL_ELIMIT, CAL_ENOMEM. */
int rendezvous_record_sign(const cal_secret *key, uint64_t seq, const cal_multiaddr *addresses,
                           size_t count, cal_buffer *out);
typedef struct rendezvous_found {
    cal_peer_id peer;
    cal_multiaddr addresses[RENDEZVOUS_ADDRESSES_MAX];
    size_t count;
} rendezvous_found;
/* Both forms in use are understood. CAL_EDECODE, CAL_EVERIFY, CAL_ENOMEM. */
int rendezvous_record_verify(cal_slice envelope, rendezvous_found *ret_found);

/* --- the client --- */

typedef struct cal_rendezvous cal_rendezvous;

int rendezvous_new(const cal_secret *key, uint64_t now_ns, cal_rendezvous **ret_rendezvous);
void rendezvous_free(cal_rendezvous *rendezvous); /* NULL allowed */

/* Where we are; registers anew everywhere. CAL_ELIMIT, CAL_ENOMEM. */
int rendezvous_announce(cal_rendezvous *rendezvous, uint64_t seq, const cal_multiaddr *addresses,
                        size_t count, uint64_t now_ns);
/* Registers in a namespace, and looks for others there. CAL_EINVAL, CAL_EEXISTS, CAL_ELIMIT,
 * CAL_ENOMEM. */
int rendezvous_join(cal_rendezvous *rendezvous, cal_slice name, uint64_t now_ns);
int rendezvous_leave(cal_rendezvous *rendezvous, cal_slice name); /* CAL_ENOTFOUND */

/* A request, borrowed until the next call. After one that is `answered` none follows before
 * rendezvous_response, or its time is over. */
typedef struct rendezvous_request {
    uint64_t number;
    cal_slice bytes;
    bool answered, registers;
} rendezvous_request;
bool rendezvous_next_request(cal_rendezvous *rendezvous, uint64_t now_ns,
                             rendezvous_request *ret_request);
/* The answer; empty: there was none. CAL_EDECODE, CAL_ENOMEM. */
int rendezvous_response(cal_rendezvous *rendezvous, uint64_t number, cal_slice response,
                        uint64_t now_ns);
/* A peer that registered, the same one again when it registered anew; never ourselves. */
bool rendezvous_next(cal_rendezvous *rendezvous, rendezvous_found *ret_found);

/* When rendezvous_next_request is worth calling again. */
uint64_t rendezvous_deadline(const cal_rendezvous *rendezvous);

/* Names under which this peer is registered there now: accepted, and the time it was given is not
 * over. */
size_t rendezvous_registrations(const cal_rendezvous *rendezvous, uint64_t now_ns);
/* Adds to what is there. */
void rendezvous_stats_add(const cal_rendezvous *rendezvous, cal_p2p_rendezvous_stats *stats);

#endif
