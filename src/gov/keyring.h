/* Group keys: sealing what members read, and handing keys to members (governance.md 2, 4 and 11).
 * Pure; any thread. */
#ifndef CAL_GOV_KEYRING_H
#define CAL_GOV_KEYRING_H

#include "base/arena.h"
#include "base/buffer.h"
#include "calimero/error.h"
#include "calimero/identity.h"
#include "codec/borsh.h"
#include "crypto/crypto.h"

enum { GOV_ENVELOPE_SEALED_MAX = 1024 * 1024 };

typedef struct gov_group_key {
    cal_secret key;
    cal_hash id; /* SHA-256 of the key */
    uint64_t epoch;
    uint64_t order; /* of insertion; decides among keys of epoch 0 */
} gov_group_key;

void gov_key_id(const cal_secret *key, cal_hash *ret_id);
/* Which of two stored keys is the current one: by epoch, then order when the epoch is 0, then id. >
 * 0: a is. */
int gov_key_compare(const gov_group_key *a, const gov_group_key *b);

typedef struct gov_envelope { /* a group key sealed for one member or one device */
    bool device;
    uint8_t address[32];   /* member: Ed25519 key; device: device id */
    uint8_t ephemeral[32]; /* Ed25519 or X25519 key */
    uint8_t sender[32];
    uint8_t nonce[CAL_AEAD_NONCE_SIZE];
    cal_slice sealed; /* of the input, or sealed_bytes */
    uint8_t sealed_bytes[CAL_KEY_SIZE + CAL_AEAD_TAG_SIZE];
    uint8_t signature[CAL_SIGNATURE_SIZE];
} gov_envelope;

void gov_envelope_read(cal_borsh *in, gov_envelope *ret_envelope); /* the input must outlive it */
int gov_envelope_write(const gov_envelope *envelope, cal_buffer *out);
int gov_envelope_signable(const gov_envelope *envelope, const cal_group_id *group, cal_buffer *out);

/* Seals for a member's signing key, or for a device's KEM key. ephemeral NULL: drawn from os, as
 * always outside tests. CAL_EVERIFY for a refused point. */
int gov_envelope_seal_member(const cal_os *os, const cal_group_id *group,
                             const cal_secret *group_key, const uint8_t member_key[32],
                             const cal_secret *sender, const cal_secret *ephemeral,
                             const uint8_t nonce[CAL_AEAD_NONCE_SIZE], gov_envelope *ret_envelope);
int gov_envelope_seal_device(const cal_os *os, const cal_group_id *group,
                             const cal_secret *group_key, const cal_device_id *device,
                             const uint8_t kem_key[32], const cal_secret *sender,
                             const cal_secret *ephemeral, const uint8_t nonce[CAL_AEAD_NONCE_SIZE],
                             gov_envelope *ret_envelope);
/* Opens with our own signing seed or KEM secret, whichever the envelope asks for. Checks, in order:
 * the expected sender when one is given, that it is addressed to us, the signature, the seal.
 * CAL_EVERIFY, CAL_ENOTFOUND (not ours). */
int gov_envelope_open(const gov_envelope *envelope, const cal_group_id *group,
                      const cal_secret *sign_seed, const cal_device_id *device,
                      const cal_secret *kem_secret, const uint8_t *expected_sender,
                      cal_secret *ret_key);

/* The receiver's record of nonces of one signer in one group: everything up to floor, and a set
 * above it. */
enum { GOV_NONCE_GAP_MAX = 1 << 20, GOV_NONCE_SET_MAX = 4096 };
typedef struct gov_nonce_window {
    uint64_t floor;
    uint64_t *above; /* sorted */
    size_t count, capacity;
} gov_nonce_window;
void gov_nonce_window_deinit(gov_nonce_window *window);
bool gov_nonce_seen(const gov_nonce_window *window, uint64_t nonce);
int gov_nonce_record(gov_nonce_window *window, uint64_t nonce,
                     bool *ret_new); /* CAL_ENOMEM; ignores what is too far above */

#endif
