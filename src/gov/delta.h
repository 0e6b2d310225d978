/* What surrounds a context's state delta: its position in governance, its envelope signature, its
 * sealed payload, and the gossip message (governance.md 13, network-sync.md 5 and 6). Pure; any
 * thread. */
#ifndef CAL_GOV_DELTA_H
#define CAL_GOV_DELTA_H

#include "base/arena.h"
#include "base/buffer.h"
#include "calimero/error.h"
#include "calimero/identity.h"
#include "codec/borsh.h"
#include "crypto/crypto.h"
#include "dag/dag.h"

enum {
    GOV_POSITION_HEADS_MAX = 32, /* a node with more heads cannot author */
    GOV_DELTA_PLAIN_MAX = 1024 * 1024,
    GOV_DELTA_PARENTS_MAX = DAG_PARENTS_MAX,
};

typedef struct gov_hlc {
    uint64_t time;
    cal_u128 id; /* never 0 on the wire */
} gov_hlc;

/* The governance heads that the author saw. Ids are unique. */
typedef struct gov_position {
    cal_hash heads[GOV_POSITION_HEADS_MAX];
    uint32_t count;
} gov_position;

void gov_position_read(cal_borsh *in, gov_position *ret_position);
int gov_position_write(const gov_position *position, cal_buffer *out);
void gov_hlc_read(cal_borsh *in, gov_hlc *ret_hlc);
int gov_hlc_write(const gov_hlc *hlc, cal_buffer *out);

/* "calimero/delta/2": position NULL when the context is in no group. */
int gov_delta_signable(const cal_context_id *context, const cal_hash *delta,
                       const uint8_t author_key[32], const gov_position *position,
                       const gov_hlc *hlc, cal_buffer *out);
int gov_delta_sign(const cal_secret *author, const cal_context_id *context, const cal_hash *delta,
                   const gov_position *position, const gov_hlc *hlc,
                   uint8_t ret_signature[CAL_SIGNATURE_SIZE]);
bool gov_delta_verify(const uint8_t author_key[32], const cal_context_id *context,
                      const cal_hash *delta, const gov_position *position, const gov_hlc *hlc,
                      const uint8_t signature[CAL_SIGNATURE_SIZE]);

typedef struct gov_delta_payload {
    cal_hash root;
    cal_slice artifact;
    bool has_events;
    cal_slice events;
} gov_delta_payload;
int gov_delta_payload_decode(cal_slice plain,
                             gov_delta_payload *ret_payload); /* borrows; CAL_EDECODE, CAL_ELIMIT */
int gov_delta_payload_write(const gov_delta_payload *payload, cal_buffer *out);
/* Encodes and seals under a group key; ret_sealed is appended. CAL_ELIMIT above
 * GOV_DELTA_PLAIN_MAX. */
int gov_delta_seal(const cal_secret *group_key, const uint8_t nonce[CAL_AEAD_NONCE_SIZE],
                   const gov_delta_payload *payload, cal_buffer *ret_sealed);
/* ret_plain is appended and must outlive ret_payload. CAL_EVERIFY, CAL_EDECODE, CAL_ELIMIT. */
int gov_delta_open(const cal_secret *group_key, const uint8_t nonce[CAL_AEAD_NONCE_SIZE],
                   cal_slice sealed, cal_buffer *ret_plain, gov_delta_payload *ret_payload);

/* BroadcastMessage variant 0. */
typedef struct gov_state_delta {
    cal_context_id context;
    uint8_t author_key[32];
    cal_hash delta;
    const cal_hash *parents; /* in the decoder's arena */
    uint32_t parent_count;
    gov_hlc hlc;
    cal_slice sealed;
    uint8_t nonce[CAL_AEAD_NONCE_SIZE];
    bool has_position, has_signature, has_app_key;
    gov_position position;
    cal_hash key_id;
    uint8_t signature[CAL_SIGNATURE_SIZE];
    cal_blob_id app_key;
} gov_state_delta;
int gov_state_delta_write(const gov_state_delta *delta,
                          cal_buffer *out); /* with the variant byte */
int gov_state_delta_decode(cal_slice message, cal_arena *arena,
                           gov_state_delta *ret_delta); /* borrows from message */

#endif
