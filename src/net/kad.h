/* Kademlia: who is near a key, and small signed records kept there ("peer P holds blob B of context
 * C", network-sync.md 10).
 *
 * A state machine without I/O, one thread. As a server it answers requests from its table of peers
 * and its records; as a client it walks towards a key: kad_next_request gives requests to send,
 * kad_response takes what came back, kad_next_result says what was found. Protocol
 * /calimero/kad/1.0.0; libp2p kad-dht specification. Records are the only thing stored for others,
 * and only when their signature binds them to the peer that they name. kad_host.c puts it on a
 * host's streams.
 *
 * Loopback addresses are told to, and believed of, those only that are on this machine (`near`). */
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
    KAD_MEMORY_MAX = 256 * 1024,    /* decoding one message */
    KAD_KEY_LEN = CAL_P2P_KEY_SIZE, /* context id, blob id */
    KAD_VALUE_MAX = 256,
    KAD_RECORDS_MAX = 4096, /* of others */
    KAD_OWN_MAX = 1024,     /* records that we announce */
    KAD_WALKS_MAX = 64,
    KAD_PUTS_MAX = 16,       /* of these walks: our records on their way */
    KAD_FAILURES_MAX = 3,    /* in a row, then a peer leaves the table */
    KAD_CANDIDATES_MAX = 64, /* of one walk: the nearest */
    KAD_REQUESTS_RATE = 256, /* answered on one connection, a second */
    KAD_REQUESTS_BURST = 2048,
    KAD_FORGED_COST = 32,   /* requests that a forged record counts for: it costs a verification */
    KAD_RESULTS_MAX = 1024, /* not yet taken; more are dropped and counted */
};
#define KAD_REQUEST_NS UINT64_C(10000000000)
#define KAD_WALK_NS UINT64_C(60000000000)
#define KAD_TTL_NS UINT64_C(43200000000000)       /* 12 hours */
#define KAD_REPUBLISH_NS UINT64_C(21600000000000) /* 6 hours */
#define KAD_PUT_RETRY_NS UINT64_C(60000000000)    /* while nobody keeps our record */
#define KAD_REFRESH_NS UINT64_C(300000000000)
#define KAD_BOOTSTRAP_NS UINT64_C(10000000000) /* between refreshes when peers appear */

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

/* A peer is there and speaks the protocol (identify said so), at these addresses. It stays in the
 * table when it disconnects, until it failed KAD_FAILURES_MAX times or one that works needs its
 * place. */
void kad_seen(cal_kad *kad, const cal_peer_id *peer, const cal_multiaddr *addresses, size_t count,
              uint64_t now_ns);
bool kad_knows(const cal_kad *kad, const cal_peer_id *peer); /* it is in the table */
/* It does not speak it, or not any more. */
void kad_gone(cal_kad *kad, const cal_peer_id *peer);

/* Answers one request (without its length): appends the response, or nothing when none is due.
 * CAL_EDECODE, CAL_EVERIFY, CAL_ELIMIT: reset the stream. CAL_ENOMEM. */
int kad_answer(cal_kad *kad, const cal_peer_id *from, bool near, cal_slice request, uint64_t now_ns,
               cal_buffer *ret_response);

/* Keeps our record and puts it with the peers near its key: as soon as fewer than KAD_PUTS_MAX
 * others are on their way, which is told as the walk of the number returned, and every
 * KAD_REPUBLISH_NS until kad_forget; every KAD_PUT_RETRY_NS while nobody took it. CAL_EVERIFY it is
 * not signed, CAL_EEXISTS, CAL_ELIMIT, CAL_ENOMEM. */
int kad_put(cal_kad *kad, const uint8_t key[KAD_KEY_LEN], cal_slice value, uint64_t now_ns,
            uint64_t *ret_walk);
/* CAL_ENOTFOUND. ret_walk: the number that nothing will be told of any more; 0: none. */
int kad_forget(cal_kad *kad, const uint8_t key[KAD_KEY_LEN], uint64_t *ret_walk);
/* Begin a walk, and return its number. CAL_EOVERLOAD, CAL_ENOMEM. */
int kad_get(cal_kad *kad, const uint8_t key[KAD_KEY_LEN], uint64_t now_ns, uint64_t *ret_walk);
int kad_find(cal_kad *kad, const cal_peer_id *peer, uint64_t now_ns, uint64_t *ret_walk);

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
void kad_response(cal_kad *kad, uint64_t number, bool near, cal_slice response, uint64_t now_ns);

typedef enum kad_result_kind {
    KAD_FOUND, /* kad_get: `peer` holds the blob, and its addresses, if somebody told them;
                  kad_find: the peer itself and its addresses, as one peer tells */
    KAD_DONE,  /* the walk is over; count: how many were found, or took the record. Never lost. */
} kad_result_kind;
typedef struct kad_result {
    kad_result_kind kind;
    uint64_t walk;
    cal_peer_id peer;
    uint64_t size;
    cal_multiaddr addresses[KAD_ADDRESSES_MAX];
    size_t address_count, count;
    size_t answered; /* KAD_DONE: peers that answered */
} kad_result;
bool kad_next_result(cal_kad *kad, kad_result *ret_result);

uint64_t kad_deadline(const cal_kad *kad);
void kad_expire(cal_kad *kad, uint64_t now_ns);

void kad_stats_get(const cal_kad *kad, cal_p2p_kad_stats *ret_stats);

#endif
