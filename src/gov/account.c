/* Accounts: codec, digests and verdicts, see account.h. */
#include "gov/account.h"

#include <stdio.h>

#include "gov/proofs.h"

enum {
    CHAIN_READ_MAX = 65536
}; /* a chain that is too long to verify still decodes: the verdict is part of the protocol */

static const char genesis_domain[] = "calimero.account.genesis.v1";
static const char device_domain[] = "calimero.device.id.v1";
static const char cert_domain[] = "calimero.device.cert.v1";
static const char handoff_domain[] = "calimero.account.handoff.v1";
static const char revocation_domain[] = "calimero.device.revocation.v1";
static const char endorsement_domain[] = "calimero.account.endorsement.v1";
static const char pairing_domain[] = "calimero.device.pairing.v1";
static const char pairing_code_domain[] = "calimero.device.pairing.confirm.v1";

#define PART(bytes) cal_slice_of((bytes), sizeof(bytes))
#define HASH(domain, parts, ret)                                                                   \
    cal_domain_hash((domain), (parts), sizeof(parts) / sizeof *(parts), (ret))

void gov_account_id(const gov_genesis *genesis, cal_account_id *ret_account) {
    uint8_t bytes[GOV_GENESIS_SIZE] = {genesis->version};
    memcpy(bytes + 1, genesis->root_key, 32);
    const cal_slice parts[] = {PART(bytes)};
    HASH(genesis_domain, parts, ret_account->bytes);
}

void gov_device_id(const cal_account_id *account, const uint8_t nonce[GOV_DEVICE_NONCE_SIZE],
                   cal_device_id *ret_device) {
    const cal_slice parts[] = {PART(account->bytes), cal_slice_of(nonce, GOV_DEVICE_NONCE_SIZE)};
    HASH(device_domain, parts, ret_device->bytes);
}

/* --- reading --- */

void gov_genesis_read(cal_borsh *in, gov_genesis *ret_genesis) {
    ret_genesis->version = cal_borsh_u8(in);
    cal_borsh_fixed(in, ret_genesis->root_key, 32);
}

void gov_handoff_read(cal_borsh *in, gov_handoff *ret_handoff) {
    cal_borsh_fixed(in, ret_handoff->account.bytes, 32);
    ret_handoff->from_epoch = cal_borsh_u32(in);
    cal_borsh_fixed(in, ret_handoff->new_root_key, 32);
    cal_borsh_fixed(in, ret_handoff->signature, CAL_SIGNATURE_SIZE);
}

void gov_chain_read(cal_borsh *in, cal_arena *arena, gov_chain *ret_chain) {
    enum { HANDOFF_SIZE = 132 };
    *ret_chain = (gov_chain){0};
    uint32_t count = cal_borsh_count(in, CHAIN_READ_MAX, HANDOFF_SIZE);
    if (!count) return;
    gov_handoff *items = cal_arena_alloc_array(arena, count, sizeof *items);
    if (!items) {
        cal_borsh_fail(in, CAL_ELIMIT);
        return;
    }
    for (uint32_t i = 0; i < count; i++) gov_handoff_read(in, &items[i]);
    *ret_chain = (gov_chain){items, count};
}

void gov_cert_read(cal_borsh *in, gov_cert *ret_cert) {
    cal_borsh_fixed(in, ret_cert->account.bytes, 32);
    cal_borsh_fixed(in, ret_cert->device.bytes, 32);
    cal_borsh_fixed(in, ret_cert->sign_key, 32);
    cal_borsh_fixed(in, ret_cert->kem_key, 32);
    ret_cert->key_epoch = cal_borsh_u32(in);
    ret_cert->device_epoch = cal_borsh_u32(in);
    cal_borsh_fixed(in, ret_cert->signature, CAL_SIGNATURE_SIZE);
}

void gov_revocation_read(cal_borsh *in, gov_revocation *ret_revocation) {
    cal_borsh_fixed(in, ret_revocation->account.bytes, 32);
    cal_borsh_fixed(in, ret_revocation->device.bytes, 32);
    ret_revocation->key_epoch = cal_borsh_u32(in);
    cal_borsh_fixed(in, ret_revocation->signature, CAL_SIGNATURE_SIZE);
}

void gov_endorsement_read(cal_borsh *in, gov_endorsement *ret_endorsement) {
    cal_borsh_fixed(in, ret_endorsement->account.bytes, 32);
    cal_borsh_fixed(in, ret_endorsement->member_key, 32);
    cal_borsh_fixed(in, ret_endorsement->signature, CAL_SIGNATURE_SIZE);
}

void gov_credential_read(cal_borsh *in, cal_arena *arena, gov_credential *ret_credential) {
    gov_genesis_read(in, &ret_credential->genesis);
    gov_chain_read(in, arena, &ret_credential->chain);
    gov_cert_read(in, &ret_credential->cert);
}

void gov_revocation_proof_read(cal_borsh *in, cal_arena *arena, gov_revocation_proof *ret_proof) {
    gov_genesis_read(in, &ret_proof->genesis);
    gov_chain_read(in, arena, &ret_proof->chain);
    gov_revocation_read(in, &ret_proof->revocation);
}

/* --- writing --- */

int gov_genesis_write(const gov_genesis *genesis, cal_buffer *out) {
    cal_buffer_append_u8(out, genesis->version);
    return cal_buffer_append(out, genesis->root_key, 32);
}

int gov_handoff_write(const gov_handoff *handoff, cal_buffer *out) {
    cal_buffer_append(out, handoff->account.bytes, 32);
    cal_buffer_append_u32le(out, handoff->from_epoch);
    cal_buffer_append(out, handoff->new_root_key, 32);
    return cal_buffer_append(out, handoff->signature, CAL_SIGNATURE_SIZE);
}

int gov_chain_write(const gov_chain *chain, cal_buffer *out) {
    cal_buffer_append_u32le(out, chain->count);
    for (uint32_t i = 0; i < chain->count; i++) gov_handoff_write(&chain->items[i], out);
    return out->error;
}

int gov_cert_write(const gov_cert *cert, cal_buffer *out) {
    cal_buffer_append(out, cert->account.bytes, 32);
    cal_buffer_append(out, cert->device.bytes, 32);
    cal_buffer_append(out, cert->sign_key, 32);
    cal_buffer_append(out, cert->kem_key, 32);
    cal_buffer_append_u32le(out, cert->key_epoch);
    cal_buffer_append_u32le(out, cert->device_epoch);
    return cal_buffer_append(out, cert->signature, CAL_SIGNATURE_SIZE);
}

int gov_revocation_write(const gov_revocation *revocation, cal_buffer *out) {
    cal_buffer_append(out, revocation->account.bytes, 32);
    cal_buffer_append(out, revocation->device.bytes, 32);
    cal_buffer_append_u32le(out, revocation->key_epoch);
    return cal_buffer_append(out, revocation->signature, CAL_SIGNATURE_SIZE);
}

int gov_endorsement_write(const gov_endorsement *endorsement, cal_buffer *out) {
    cal_buffer_append(out, endorsement->account.bytes, 32);
    cal_buffer_append(out, endorsement->member_key, 32);
    return cal_buffer_append(out, endorsement->signature, CAL_SIGNATURE_SIZE);
}

int gov_credential_write(const gov_credential *credential, cal_buffer *out) {
    gov_genesis_write(&credential->genesis, out);
    gov_chain_write(&credential->chain, out);
    return gov_cert_write(&credential->cert, out);
}

int gov_revocation_proof_write(const gov_revocation_proof *proof, cal_buffer *out) {
    gov_genesis_write(&proof->genesis, out);
    gov_chain_write(&proof->chain, out);
    return gov_revocation_write(&proof->revocation, out);
}

/* --- digests and signatures --- */

void gov_handoff_digest(const gov_handoff *handoff, uint8_t ret_digest[CAL_HASH_SIZE]) {
    uint8_t epoch[4];
    cal_write_u32le(epoch, handoff->from_epoch);
    const cal_slice parts[] = {PART(handoff->account.bytes), PART(epoch),
                               PART(handoff->new_root_key)};
    HASH(handoff_domain, parts, ret_digest);
}

void gov_cert_digest(const gov_cert *cert, uint8_t ret_digest[CAL_HASH_SIZE]) {
    uint8_t key_epoch[4], device_epoch[4];
    cal_write_u32le(key_epoch, cert->key_epoch);
    cal_write_u32le(device_epoch, cert->device_epoch);
    const cal_slice parts[] = {PART(cert->account.bytes), PART(cert->device.bytes),
                               PART(cert->sign_key),      PART(cert->kem_key),
                               PART(key_epoch),           PART(device_epoch)};
    HASH(cert_domain, parts, ret_digest);
}

void gov_revocation_digest(const gov_revocation *revocation, uint8_t ret_digest[CAL_HASH_SIZE]) {
    uint8_t epoch[4];
    cal_write_u32le(epoch, revocation->key_epoch);
    const cal_slice parts[] = {PART(revocation->account.bytes), PART(revocation->device.bytes),
                               PART(epoch)};
    HASH(revocation_domain, parts, ret_digest);
}

void gov_endorsement_digest(const gov_endorsement *endorsement, uint8_t ret_digest[CAL_HASH_SIZE]) {
    const cal_slice parts[] = {PART(endorsement->account.bytes), PART(endorsement->member_key)};
    HASH(endorsement_domain, parts, ret_digest);
}

static void pairing_hash(const char *domain, const cal_account_id *account,
                         const cal_device_id *device, const uint8_t *kem_key,
                         const uint8_t *sign_key, uint8_t *ret_digest) {
    const cal_slice parts[] = {PART(account->bytes), PART(device->bytes), cal_slice_of(kem_key, 32),
                               cal_slice_of(sign_key, 32)};
    HASH(domain, parts, ret_digest);
}

void gov_pairing_digest(const cal_account_id *account, const cal_device_id *device,
                        const uint8_t kem_key[32], const uint8_t sign_key[32],
                        uint8_t ret_digest[CAL_HASH_SIZE]) {
    pairing_hash(pairing_domain, account, device, kem_key, sign_key, ret_digest);
}

void gov_handoff_sign(gov_handoff *handoff, const cal_secret *outgoing_root) {
    uint8_t digest[CAL_HASH_SIZE];
    gov_handoff_digest(handoff, digest);
    cal_sign(outgoing_root, PART(digest), handoff->signature);
}

void gov_cert_sign(gov_cert *cert, const cal_secret *root) {
    uint8_t digest[CAL_HASH_SIZE];
    gov_cert_digest(cert, digest);
    cal_sign(root, PART(digest), cert->signature);
}

void gov_revocation_sign(gov_revocation *revocation, const cal_secret *root) {
    uint8_t digest[CAL_HASH_SIZE];
    gov_revocation_digest(revocation, digest);
    cal_sign(root, PART(digest), revocation->signature);
}

void gov_endorsement_sign(gov_endorsement *endorsement, const cal_secret *member) {
    uint8_t digest[CAL_HASH_SIZE];
    gov_endorsement_digest(endorsement, digest);
    cal_sign(member, PART(digest), endorsement->signature);
}

bool gov_handoff_verify(const gov_handoff *handoff, const uint8_t outgoing_root_key[32],
                        gov_proofs *proofs) {
    uint8_t digest[CAL_HASH_SIZE];
    gov_handoff_digest(handoff, digest);
    return gov_proofs_signature(proofs, outgoing_root_key, digest, handoff->signature);
}

bool gov_endorsement_verify(const gov_endorsement *endorsement, gov_proofs *proofs) {
    uint8_t digest[CAL_HASH_SIZE];
    gov_endorsement_digest(endorsement, digest);
    return gov_proofs_signature(proofs, endorsement->member_key, digest, endorsement->signature);
}

/* --- proofs --- */

const char *gov_proof_text(gov_proof_verdict verdict) {
    static const char *const texts[] = {
        [GOV_PROOF_OK] = "valid",
        [GOV_PROOF_VERSION] = "the account's genesis has an unknown version",
        [GOV_PROOF_GENESIS] = "the genesis does not name this account",
        [GOV_PROOF_ACCOUNT] = "the statement is about another account",
        [GOV_PROOF_CHAIN_LENGTH] = "the chain of root keys is too long",
        [GOV_PROOF_EPOCH] = "the chain of root keys does not reach the statement's epoch",
        [GOV_PROOF_HANDOFF_EPOCH] = "a handoff is out of order",
        [GOV_PROOF_HANDOFF_ACCOUNT] = "a handoff is of another account",
        [GOV_PROOF_HANDOFF_SIGNATURE] = "a handoff is not signed by the outgoing root key",
        [GOV_PROOF_SIGNATURE] = "the statement is not signed by the root key in force",
    };
    return texts[verdict];
}

/* The checks that do not depend on the statement, in the order that governance.md 3 gives. */
static gov_proof_verdict verify_chain(const gov_genesis *genesis, const gov_chain *chain,
                                      const cal_account_id *claimed, const cal_account_id *stated,
                                      uint32_t epoch, gov_proofs *proofs,
                                      uint8_t ret_root_key[32]) {
    cal_account_id account;
    gov_account_id(genesis, &account);
    if (memcmp(account.bytes, claimed->bytes, 32) != 0) return GOV_PROOF_GENESIS;
    if (memcmp(stated->bytes, account.bytes, 32) != 0) return GOV_PROOF_ACCOUNT;
    if (genesis->version != GOV_GENESIS_VERSION) return GOV_PROOF_VERSION;
    if (chain->count > GOV_HANDOFFS_MAX) return GOV_PROOF_CHAIN_LENGTH;
    if (epoch > chain->count) return GOV_PROOF_EPOCH;
    memcpy(ret_root_key, genesis->root_key, 32);
    for (uint32_t i = 0; i < epoch; i++) { /* what comes after the epoch is ignored */
        const gov_handoff *handoff = &chain->items[i];
        if (handoff->from_epoch != i) return GOV_PROOF_HANDOFF_EPOCH;
        if (memcmp(handoff->account.bytes, account.bytes, 32) != 0)
            return GOV_PROOF_HANDOFF_ACCOUNT;
        if (!gov_handoff_verify(handoff, ret_root_key, proofs)) return GOV_PROOF_HANDOFF_SIGNATURE;
        memcpy(ret_root_key, handoff->new_root_key, 32);
    }
    return GOV_PROOF_OK;
}

/* What a verdict depends on, in one piece: these structs have no gaps. */
_Static_assert(sizeof(gov_genesis) == GOV_GENESIS_SIZE, "a genesis is its bytes");
_Static_assert(sizeof(gov_handoff) == 32 + 4 + 32 + 64, "a handoff is its bytes");
_Static_assert(sizeof(gov_cert) == 4 * 32 + 2 * 4 + 64, "a certificate is its bytes");
_Static_assert(sizeof(gov_revocation) == 2 * 32 + 4 + 64, "a revocation is its bytes");

static void proof_digest(const char *domain, const gov_genesis *genesis, const gov_chain *chain,
                         const cal_account_id *claimed, cal_slice statement, cal_hash *ret_digest) {
    const cal_slice parts[] = {
        cal_slice_of(claimed, sizeof *claimed), cal_slice_of(genesis, sizeof *genesis),
        cal_slice_of(chain->items, chain->count * sizeof *chain->items), statement};
    HASH(domain, parts, ret_digest->bytes);
}

/* The statement is signed by the root key in force. */
static gov_proof_verdict verify_statement(const uint8_t root_key[32], const uint8_t *message,
                                          const uint8_t *signature, const cal_hash *whole,
                                          gov_proofs *proofs) {
    if (!gov_proofs_signature(proofs, root_key, message, signature)) return GOV_PROOF_SIGNATURE;
    gov_proofs_note(proofs, whole);
    return GOV_PROOF_OK;
}

gov_proof_verdict gov_credential_verify(const gov_credential *credential,
                                        const cal_account_id *claimed, gov_proofs *proofs) {
    const gov_cert *cert = &credential->cert;
    uint8_t root_key[32], digest[CAL_HASH_SIZE];
    cal_hash whole = {{0}};
    if (proofs && credential->chain.count <= GOV_HANDOFFS_MAX) {
        proof_digest("proof.credential", &credential->genesis, &credential->chain, claimed,
                     cal_slice_of(cert, sizeof *cert), &whole);
        if (gov_proofs_holds(proofs, &whole)) return GOV_PROOF_OK;
    }
    gov_proof_verdict verdict = verify_chain(&credential->genesis, &credential->chain, claimed,
                                             &cert->account, cert->key_epoch, proofs, root_key);
    if (verdict != GOV_PROOF_OK) return verdict;
    gov_cert_digest(cert, digest);
    return verify_statement(root_key, digest, cert->signature, &whole, proofs);
}

gov_proof_verdict gov_revocation_verify(const gov_revocation_proof *proof,
                                        const cal_account_id *claimed, gov_proofs *proofs) {
    const gov_revocation *revocation = &proof->revocation;
    uint8_t root_key[32], digest[CAL_HASH_SIZE];
    cal_hash whole = {{0}};
    if (proofs && proof->chain.count <= GOV_HANDOFFS_MAX) {
        proof_digest("proof.revocation", &proof->genesis, &proof->chain, claimed,
                     cal_slice_of(revocation, sizeof *revocation), &whole);
        if (gov_proofs_holds(proofs, &whole)) return GOV_PROOF_OK;
    }
    gov_proof_verdict verdict =
        verify_chain(&proof->genesis, &proof->chain, claimed, &revocation->account,
                     revocation->key_epoch, proofs, root_key);
    if (verdict != GOV_PROOF_OK) return verdict;
    gov_revocation_digest(revocation, digest);
    return verify_statement(root_key, digest, revocation->signature, &whole, proofs);
}

/* --- pairing --- */

void gov_pairing_code(const cal_account_id *account, const cal_device_id *device,
                      const uint8_t kem_key[32], const uint8_t sign_key[32],
                      char ret_code[GOV_PAIRING_CODE_MAX]) {
    uint8_t d[CAL_HASH_SIZE];
    pairing_hash(pairing_code_domain, account, device, kem_key, sign_key, d);
    snprintf(ret_code, GOV_PAIRING_CODE_MAX, "%02X%02X-%02X%02X-%02X%02X-%02X%02X", d[0], d[1],
             d[2], d[3], d[4], d[5], d[6], d[7]);
}

/* The next hex digit of the text in upper case, 0 at its end. */
static char next_digit(const char **text) {
    for (; **text; ++*text) {
        char c = **text;
        if (c >= 'a' && c <= 'f') c = (char)(c - 'a' + 'A');
        if ((c < '0' || c > '9') && (c < 'A' || c > 'F')) continue;
        ++*text;
        return c;
    }
    return 0;
}

bool gov_pairing_code_equal(const char *a, const char *b) {
    char x, y;
    do {
        x = next_digit(&a);
        y = next_digit(&b);
    } while (x == y && x);
    return x == y;
}
