/* The Noise protocol Noise_XX_25519_ChaChaPoly_SHA256: its handshake as three messages, and the two
 * keys that come out of it (Noise specification, revision 34, sections 5 and 7). No framing, no
 * meaning of payloads: those are libp2p's (noise.h). */
#ifndef CAL_NET_NOISE_XX_H
#define CAL_NET_NOISE_XX_H

#include "base/buffer.h"
#include "crypto/crypto.h"

enum { NOISE_MESSAGE_MAX = 65535, NOISE_STEPS = 3 };

typedef struct noise_xx {
    bool initiator, keyed;
    uint8_t step; /* messages done, 0 to NOISE_STEPS; even ones are the initiator's */
    uint8_t hash[CAL_HASH_SIZE], chain[CAL_HASH_SIZE];
    cal_secret key;
    uint64_t counter;
    cal_secret static_secret, ephemeral_secret;
    uint8_t static_public[32], ephemeral_public[32];
    uint8_t peer_static[32], peer_ephemeral[32];
} noise_xx;

/* Both halves of the static key: making the public one takes as long as an agreement, so its owner
 * keeps it. The ephemeral secret is 32 fresh random bytes, except in tests against recorded
 * vectors. */
void noise_xx_init(noise_xx *xx, bool initiator, const cal_secret *static_secret,
                   const uint8_t static_public[32], const cal_secret *ephemeral_secret,
                   cal_slice prologue);
void noise_xx_wipe(noise_xx *xx);

bool noise_xx_writes(const noise_xx *xx); /* the next message is this end's */
/* Appends the next message. CAL_EVERIFY (a peer's key that gives nothing), CAL_ENOMEM, CAL_ELIMIT.
 */
int noise_xx_write(noise_xx *xx, cal_slice payload, cal_buffer *out);
/* Takes the next message whole and appends its payload. CAL_EVERIFY, CAL_EDECODE: give up. */
int noise_xx_read(noise_xx *xx, cal_slice message, cal_buffer *ret_payload);
/* After the last message: the keys of the two directions. */
void noise_xx_split(const noise_xx *xx, cal_secret *ret_send, cal_secret *ret_receive);

#endif
