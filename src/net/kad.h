/* Kademlia: who is near a key, and small signed records kept there ("peer P holds blob B of context
 * C", network-sync.md 10).
 *
 * A state machine without I/O, one thread. As a server it answers requests from its table of peers
 * and its records; as a client it walks towards a key: kad_next_request gives requests to send,
 * kad_response takes what came back, kad_next_result says what was found. Protocol
 * /calimero/kad/1.0.0; libp2p kad-dht specification. Records are the only thing stored for others,
 * and only when their signature binds them to the peer that they name. */
#ifndef CAL_NET_KAD_H
#define CAL_NET_KAD_H

#include "base/buffer.h"
#include "base/bytes.h"
#include "calimero/error.h"
#include "calimero/p2p.h"
#include "crypto/crypto.h"

#define KAD_PROTOCOL "/calimero/kad/1.0.0"

enum {
    KAD_REPLICATION = 10, /* peers that a record goes to, and told in an answer */
    KAD_BUCKET = 20,      /* peers at one distance */
    KAD_PARALLEL = 3,     /* requests of one walk at once */
    KAD_PEERS_MAX = 1024,
    KAD_ADDRESSES_MAX = 4, /* remembered of one peer */
    KAD_MESSAGE_MAX = 16 * 1024,
    KAD_MEMORY_MAX = 256 * 1024, /* decoding one message */
    KAD_KEY_LEN = 64,            /* context id, blob id */
    KAD_VALUE_MAX = 256,
    KAD_RECORDS_MAX = 4096,
    KAD_OWN_MAX = 1024, /* records that we announce */
    KAD_WALKS_MAX = 64,
    KAD_CANDIDATES_MAX = 64, /* of one walk: the nearest */
    KAD_RESULTS_MAX = 1024,  /* not yet taken; more are dropped and counted */
};
#define KAD_REQUEST_NS UINT64_C(10000000000)
#define KAD_WALK_NS UINT64_C(60000000000)
#define KAD_TTL_NS UINT64_C(43200000000000)       /* 12 hours */
#define KAD_REPUBLISH_NS UINT64_C(21600000000000) /* 6 hours */
#define KAD_REFRESH_NS UINT64_C(300000000000)

/* --- records --- */

/* The value that says that `key`'s peer holds the blob of this size. CAL_ELIMIT, CAL_ENOMEM. */
int kad_record_sign(const cal_secret *key, const uint8_t record_key[KAD_KEY_LEN], uint64_t size,
                    cal_buffer *ret_value);
/* Who says so, once it is proven. CAL_EDECODE, CAL_EVERIFY. */
int kad_record_verify(const uint8_t record_key[KAD_KEY_LEN], cal_slice value, cal_peer_id *ret_peer,
                      uint64_t *ret_size);

/* --- the state machine --- */

typedef struct cal_kad cal_kad;

int kad_new(const cal_peer_id *self, uint64_t random, uint64_t now_ns, cal_kad **ret_kad);
void kad_free(cal_kad *kad); /* NULL allowed */

/* A peer is known to speak the protocol (identify said so), at these addresses. */
void kad_seen(cal_kad *kad, const cal_peer_id *peer, const cal_multiaddr *addresses, size_t count,
              uint64_t now_ns);
/* It does not, or not any more. */
void kad_gone(cal_kad *kad, const cal_peer_id *peer);

/* Answers one request (without its length): appends the response, or nothing when none is due.
 * CAL_EDECODE, CAL_EVERIFY, CAL_ELIMIT: reset the stream. CAL_ENOMEM. */
int kad_answer(cal_kad *kad, const cal_peer_id *from, cal_slice request, uint64_t now_ns,
               cal_buffer *ret_response);

/* Begin a walk, and return its number. CAL_ELIMIT, CAL_ENOMEM. kad_put also keeps the record and
 * puts it again every KAD_REPUBLISH_NS until kad_forget; CAL_EVERIFY when it is not signed. */
int kad_put(cal_kad *kad, const uint8_t key[KAD_KEY_LEN], cal_slice value, uint64_t now_ns,
            uint64_t *ret_walk);
int kad_get(cal_kad *kad, const uint8_t key[KAD_KEY_LEN], uint64_t now_ns, uint64_t *ret_walk);
int kad_find(cal_kad *kad, const cal_peer_id *peer, uint64_t now_ns, uint64_t *ret_walk);
void kad_forget(cal_kad *kad, const uint8_t key[KAD_KEY_LEN]);

/* A request to send, borrowed until the next call. Every one is answered by kad_response. */
typedef struct kad_request {
    uint64_t number;
    cal_peer_id peer;
    const cal_multiaddr *addresses; /* that it may be at, when not connected */
    size_t address_count;
    cal_slice bytes; /* without length */
} kad_request;
bool kad_next_request(cal_kad *kad, kad_request *ret_request, uint64_t now_ns);
/* What the peer answered; empty: it could not be reached, or was not understood. */
void kad_response(cal_kad *kad, uint64_t number, cal_slice response, uint64_t now_ns);

typedef enum kad_result_kind {
    KAD_FOUND, /* kad_get: `peer` holds the blob; kad_find: the peer itself and its addresses */
    KAD_DONE,  /* the walk is over; count: records found, peers that took the record, or 1 */
} kad_result_kind;
typedef struct kad_result {
    kad_result_kind kind;
    uint64_t walk;
    cal_peer_id peer;
    uint64_t size;
    cal_multiaddr addresses[KAD_ADDRESSES_MAX];
    size_t address_count, count;
} kad_result;
bool kad_next_result(cal_kad *kad, kad_result *ret_result);

uint64_t kad_deadline(const cal_kad *kad);
void kad_expire(cal_kad *kad, uint64_t now_ns);

/* X(name, what it counts). */
#define KAD_COUNTERS(X)                                                                            \
    X(requests_in, "requests answered")                                                            \
    X(requests_out, "requests sent")                                                               \
    X(malformed, "messages that do not decode, or are too long")                                   \
    X(records_refused, "records refused: signature, length, or no room")                           \
    X(peers_refused, "peers not taken up because their distance is full")                          \
    X(failed, "requests without an answer")                                                        \
    X(results_dropped, "results nobody took in time")
typedef struct kad_stats {
#define KAD_COUNTER_FIELD(name, text) uint64_t name;
    KAD_COUNTERS(KAD_COUNTER_FIELD)
#undef KAD_COUNTER_FIELD
    uint64_t peers, records, own, walks; /* present values */
} kad_stats;
void kad_stats_get(const cal_kad *kad, kad_stats *ret_stats);

#endif
