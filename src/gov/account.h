/* Accounts: who a node is, and the statements that prove it (governance.md 1 and 3).
 *
 * An account is named by its genesis (the first root key); root keys hand over to one another in a
 * chain; the root key in force certifies devices. Everything here is pure: decoding and verifying
 * give the same verdict on every node. Any thread. */
#ifndef CAL_GOV_ACCOUNT_H
#define CAL_GOV_ACCOUNT_H

#include "base/arena.h"
#include "base/buffer.h"
#include "calimero/error.h"
#include "calimero/identity.h"
#include "codec/borsh.h"
#include "crypto/crypto.h"

enum {
    GOV_GENESIS_VERSION = 2,
    GOV_GENESIS_SIZE = 33,
    GOV_HANDOFFS_MAX = 1024, /* in one chain; checked before any signature */
    GOV_DEVICE_NONCE_SIZE = 16,
    GOV_PAIRING_CODE_MAX = 20, /* "0123-4567-89AB-CDEF" and NUL */
};

typedef struct gov_genesis {
    uint8_t version;
    uint8_t root_key[32];
} gov_genesis;

typedef struct gov_handoff {
    cal_account_id account;
    uint32_t from_epoch;
    uint8_t new_root_key[32];
    uint8_t signature[CAL_SIGNATURE_SIZE];
} gov_handoff;

typedef struct gov_cert {
    cal_account_id account;
    cal_device_id device;
    uint8_t sign_key[32], kem_key[32]; /* Ed25519; X25519 */
    uint32_t key_epoch, device_epoch;
    uint8_t signature[CAL_SIGNATURE_SIZE];
} gov_cert;

typedef struct gov_revocation {
    cal_account_id account;
    cal_device_id device;
    uint32_t key_epoch;
    uint8_t signature[CAL_SIGNATURE_SIZE];
} gov_revocation;

typedef struct gov_endorsement { /* by a member's signing key: "this account acts for me" */
    cal_account_id account;
    uint8_t member_key[32];
    uint8_t signature[CAL_SIGNATURE_SIZE];
} gov_endorsement;

typedef struct gov_chain {
    const gov_handoff *items; /* in the decoder's arena */
    uint32_t count;
} gov_chain;

typedef struct gov_credential { /* AccountProof<DeviceCert> */
    gov_genesis genesis;
    gov_chain chain;
    gov_cert cert;
} gov_credential;

typedef struct gov_revocation_proof { /* AccountProof<DeviceRevocation> */
    gov_genesis genesis;
    gov_chain chain;
    gov_revocation revocation;
} gov_revocation_proof;

/* --- ids --- */
void gov_account_id(const gov_genesis *genesis, cal_account_id *ret_account);
void gov_device_id(const cal_account_id *account, const uint8_t nonce[GOV_DEVICE_NONCE_SIZE],
                   cal_device_id *ret_device);

/* --- borsh; readers leave their error in the cursor, lists go to the arena --- */
void gov_genesis_read(cal_borsh *in, gov_genesis *ret_genesis);
void gov_handoff_read(cal_borsh *in, gov_handoff *ret_handoff);
void gov_chain_read(cal_borsh *in, cal_arena *arena, gov_chain *ret_chain);
void gov_cert_read(cal_borsh *in, gov_cert *ret_cert);
void gov_revocation_read(cal_borsh *in, gov_revocation *ret_revocation);
void gov_endorsement_read(cal_borsh *in, gov_endorsement *ret_endorsement);
void gov_credential_read(cal_borsh *in, cal_arena *arena, gov_credential *ret_credential);
void gov_revocation_proof_read(cal_borsh *in, cal_arena *arena, gov_revocation_proof *ret_proof);
int gov_genesis_write(const gov_genesis *genesis, cal_buffer *out);
int gov_handoff_write(const gov_handoff *handoff, cal_buffer *out);
int gov_chain_write(const gov_chain *chain, cal_buffer *out);
int gov_cert_write(const gov_cert *cert, cal_buffer *out);
int gov_revocation_write(const gov_revocation *revocation, cal_buffer *out);
int gov_endorsement_write(const gov_endorsement *endorsement, cal_buffer *out);
int gov_credential_write(const gov_credential *credential, cal_buffer *out);
int gov_revocation_proof_write(const gov_revocation_proof *proof, cal_buffer *out);

/* --- what is signed, and signing it --- */
void gov_handoff_digest(const gov_handoff *handoff, uint8_t ret_digest[CAL_HASH_SIZE]);
void gov_cert_digest(const gov_cert *cert, uint8_t ret_digest[CAL_HASH_SIZE]);
void gov_revocation_digest(const gov_revocation *revocation, uint8_t ret_digest[CAL_HASH_SIZE]);
void gov_endorsement_digest(const gov_endorsement *endorsement, uint8_t ret_digest[CAL_HASH_SIZE]);
void gov_pairing_digest(const cal_account_id *account, const cal_device_id *device,
                        const uint8_t kem_key[32], const uint8_t sign_key[32],
                        uint8_t ret_digest[CAL_HASH_SIZE]);
void gov_handoff_sign(gov_handoff *handoff, const cal_secret *outgoing_root);
void gov_cert_sign(gov_cert *cert, const cal_secret *root);
void gov_revocation_sign(gov_revocation *revocation, const cal_secret *root);
void gov_endorsement_sign(gov_endorsement *endorsement,
                          const cal_secret *member); /* member_key must be its public key */

/* --- verdicts --- */
typedef enum gov_proof_verdict {
    GOV_PROOF_OK,
    GOV_PROOF_VERSION,       /* genesis of another version */
    GOV_PROOF_GENESIS,       /* genesis does not name the claimed account */
    GOV_PROOF_ACCOUNT,       /* the statement is about another account */
    GOV_PROOF_CHAIN_LENGTH,  /* more than GOV_HANDOFFS_MAX handoffs */
    GOV_PROOF_EPOCH,         /* the statement's epoch is beyond the chain */
    GOV_PROOF_HANDOFF_EPOCH, /* handoffs out of order */
    GOV_PROOF_HANDOFF_ACCOUNT,
    GOV_PROOF_HANDOFF_SIGNATURE,
    GOV_PROOF_SIGNATURE, /* of the statement */
} gov_proof_verdict;
const char *gov_proof_text(gov_proof_verdict verdict);
/* proofs (proofs.h): what is known to hold, and takes in what held; NULL: all is verified. */
struct gov_proofs;
gov_proof_verdict gov_credential_verify(const gov_credential *credential,
                                        const cal_account_id *claimed, struct gov_proofs *proofs);
gov_proof_verdict gov_revocation_verify(const gov_revocation_proof *proof,
                                        const cal_account_id *claimed, struct gov_proofs *proofs);
bool gov_handoff_verify(const gov_handoff *handoff, const uint8_t outgoing_root_key[32],
                        struct gov_proofs *proofs);
bool gov_endorsement_verify(const gov_endorsement *endorsement, struct gov_proofs *proofs);

/* --- pairing: the code two people compare --- */
void gov_pairing_code(const cal_account_id *account, const cal_device_id *device,
                      const uint8_t kem_key[32], const uint8_t sign_key[32],
                      char ret_code[GOV_PAIRING_CODE_MAX]);
bool gov_pairing_code_equal(
    const char *a, const char *b); /* ignores case and everything that is not a hex digit */

#endif
