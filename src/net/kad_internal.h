/* What the files of kad share; see kad.h. */
#ifndef CAL_NET_KAD_INTERNAL_H
#define CAL_NET_KAD_INTERNAL_H

#include "base/list.h"
#include "base/map.h"
#include "kad.pb-c.h"
#include "net/kad.h"

enum kad_type { /* Message.MessageType */
                KAD_PUT_VALUE,
                KAD_GET_VALUE,
                KAD_ADD_PROVIDER,
                KAD_GET_PROVIDERS,
                KAD_FIND_NODE,
                KAD_PING,
};

/* A peer and where it is on the ring. */
typedef struct kad_contact {
    cal_peer_id id;
    uint8_t place[CAL_HASH_SIZE]; /* SHA-256 of the id */
    cal_multiaddr addresses[KAD_ADDRESSES_MAX];
    size_t address_count;
    unsigned failures; /* in a row */
} kad_contact;

typedef struct kad_record {
    uint8_t key[KAD_KEY_LEN];
    uint8_t value[KAD_VALUE_MAX];
    size_t value_len;
    uint64_t expires; /* of others' */
    bool own;         /* what follows is of our own */
    uint64_t put_at;  /* when it is due */
    uint64_t first;   /* the number promised for its first walk; 0: that began */
    uint64_t putting; /* its walk under way; 0: none */
    bool kept;        /* the last time somebody took it */
} kad_record;

typedef enum kad_state { KAD_NEW, KAD_ASKED, KAD_ANSWERED, KAD_FAILED } kad_state;

typedef struct kad_candidate {
    kad_contact contact;
    kad_state state;
    bool storing, stored; /* the second round of a put */
    uint64_t number, deadline;
} kad_candidate;

typedef struct kad_walk {
    cal_list link;
    uint64_t number, deadline;
    enum kad_type type; /* PUT_VALUE, GET_VALUE, FIND_NODE */
    uint8_t key[KAD_KEY_LEN];
    size_t key_len;
    uint8_t place[CAL_HASH_SIZE];
    uint8_t value[KAD_VALUE_MAX];
    size_t value_len;
    bool quiet, storing;           /* quiet: our own upkeep, no results */
    size_t asked, found, answered; /* asked: requests under way */
    struct kad_told *last;         /* kept for KAD_DONE */
    cal_peer_id providers[KAD_REPLICATION];
    size_t provider_count;
    kad_candidate candidates[KAD_CANDIDATES_MAX]; /* nearest first */
    size_t count;
} kad_walk;

typedef struct kad_told {
    cal_list link;
    kad_result result;
} kad_told;

struct cal_kad {
    cal_peer_id self;
    uint8_t place[CAL_HASH_SIZE];
    uint64_t random, now, next_number, refresh_at, refreshed;
    kad_contact *peers[KAD_PEERS_MAX];
    size_t peer_count;
    cal_map records;  /* key -> kad_record */
    size_t own, puts; /* puts: walks with our records */
    uint64_t puts_at; /* when the next record may be due */
    cal_list walks, told;
    size_t walk_count, told_count;
    cal_buffer request; /* the one lent out */
    cal_p2p_kad_stats stats;
};

/* kad_table.c */
void kad_place(cal_slice id, uint8_t ret_place[CAL_HASH_SIZE]);
int kad_nearer(const uint8_t a[CAL_HASH_SIZE], const uint8_t b[CAL_HASH_SIZE],
               const uint8_t target[CAL_HASH_SIZE]); /* < 0: a is nearer */
void kad_contact_make(const cal_peer_id *id, const cal_multiaddr *addresses, size_t count,
                      kad_contact *ret_contact);
size_t kad_nearest(const cal_kad *kad, const uint8_t target[CAL_HASH_SIZE],
                   const kad_contact *ret_contacts[], size_t max);
const kad_contact *kad_contact_find(const cal_kad *kad, const cal_peer_id *id); /* NULL: none */
void kad_failed(cal_kad *kad, const cal_peer_id *id);   /* it did not answer... */
void kad_answered(cal_kad *kad, const cal_peer_id *id); /* ... and it did */

/* kad_message.c */
typedef struct kad_decoder {
    void *arena;
    KadPb__Message *message;
} kad_decoder;
int kad_decode(cal_slice bytes, kad_decoder *ret_decoder); /* CAL_EDECODE, CAL_ENOMEM */
void kad_decoder_free(kad_decoder *decoder);
int kad_encode(const KadPb__Message *message, cal_buffer *out);
/* What a peer told of another. CAL_EDECODE. */
int kad_contact_read(const KadPb__Peer *peer, bool near, kad_contact *ret_contact);
static inline ProtobufCBinaryData kad_binary(const void *bytes, size_t len) {
    return (ProtobufCBinaryData){len, (uint8_t *)(uintptr_t)bytes};
}

/* kad.c */
kad_record *kad_record_get(const cal_kad *kad, cal_slice key);
/* Stores what others put; CAL_EVERIFY, CAL_EDECODE, CAL_ELIMIT, CAL_ENOMEM. */
int kad_record_take(cal_kad *kad, const KadPb__Record *record);
uint64_t kad_random(cal_kad *kad);
void kad_puts_due(cal_kad *kad,
                  bool unkept); /* looks soon; unkept: those nobody took are due now */
void kad_put_over(cal_kad *kad, const kad_walk *walk);

/* kad_walk.c */
/* Under this number. CAL_EOVERLOAD, CAL_ENOMEM. It may be over when this returns. */
int kad_walk_begin(cal_kad *kad, enum kad_type type, cal_slice key, cal_slice value, bool quiet,
                   uint64_t number);
void kad_walks_expire(cal_kad *kad);
uint64_t kad_walks_deadline(const cal_kad *kad);
void kad_walk_free(cal_kad *kad, kad_walk *walk);

#endif
