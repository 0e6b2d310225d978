/* libp2p's secure channel over Noise (noise specification): 2-byte lengths, identities proven in
 * the payloads of the second and third message, then sealed bytes both ways. A filter: takes bytes,
 * appends bytes, does no I/O. */
#ifndef CAL_NET_NOISE_H
#define CAL_NET_NOISE_H

#include "base/buffer.h"
#include "calimero/p2p.h"
#include "net/noise_xx.h"
#include "os/os.h"

enum {
    NOISE_HANDSHAKE_MAX = 8192, /* a longer handshake message is refused */
    NOISE_PAYLOAD_MAX = 256,    /* our own payload */
    NOISE_PLAIN_MAX = NOISE_MESSAGE_MAX - CAL_AEAD_TAG_SIZE,
};

/* Who we are, to every peer: made once per host. The static key lives in memory only. */
typedef struct noise_identity {
    cal_secret static_secret;
    uint8_t static_public[32];
    uint8_t payload[NOISE_PAYLOAD_MAX];
    size_t payload_len;
} noise_identity;
int noise_identity_init(noise_identity *identity, const cal_secret *seed, const cal_os *os);

enum noise_state { NOISE_HANDSHAKE, NOISE_OPEN, NOISE_FAILED };

typedef struct noise {
    enum noise_state state;
    const noise_identity *identity;
    noise_xx *handshake; /* NULL once open */
    cal_chacha sealing, opening;
    uint64_t sealed, opened; /* messages of each direction: the nonces */
    cal_peer_id peer;        /* proven; set when open */
    cal_buffer partial;      /* a message that came in pieces */
} noise;

/* The dialer is the initiator; its first message is appended to out. CAL_ENOMEM. */
int noise_init(noise *channel, const noise_identity *identity, bool initiator, const cal_os *os,
               cal_buffer *out);
void noise_deinit(noise *channel); /* a zeroed one allowed */

/* Takes bytes. During the handshake answers are appended to out and it stops where the channel
 * opens; afterwards what was sealed is appended to plain. Returns 0 with how many were taken, or
 * CAL_EVERIFY (a forged message or signature), CAL_EDECODE, CAL_ELIMIT, CAL_EUNSUPPORTED (an
 * identity of another kind), CAL_ENOMEM: the channel is over. */
int noise_feed(noise *channel, const uint8_t *bytes, size_t len, cal_buffer *out, cal_buffer *plain,
               size_t *ret_used);
/* Appends messages that hold these bytes. CAL_ELIMIT, CAL_ENOMEM. */
int noise_seal(noise *channel, cal_slice plain, cal_buffer *out);

#endif
