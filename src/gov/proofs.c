/* Signatures that are known to hold, see proofs.h. */
#include "gov/proofs.h"

#include <stdlib.h>

enum { TABLE_MAX = GOV_PROOFS_MAX / 2, TABLE_MIN = 16 };

static bool is_empty(const cal_hash *slot) {
    static const cal_hash zero;
    return memcmp(slot, &zero, sizeof zero) == 0;
}

/* Where the digest is or would be: digests are hashes, their first bytes as good as any others.
 * At most half of the slots are taken. */
static size_t place_of(const gov_proof_table *table, const cal_hash *digest) {
    size_t at = cal_read_u32le(digest->bytes) & (table->capacity - 1);
    while (!is_empty(&table->slots[at]) && memcmp(&table->slots[at], digest, sizeof *digest) != 0)
        at = (at + 1) & (table->capacity - 1);
    return at;
}

static bool has(const gov_proof_table *table, const cal_hash *digest) {
    return table->capacity && !is_empty(&table->slots[place_of(table, digest)]);
}

static int grow(gov_proof_table *table) {
    size_t capacity = table->capacity ? 2 * table->capacity : TABLE_MIN;
    gov_proof_table grown = {calloc(capacity, sizeof *grown.slots), capacity, table->count};
    if (!grown.slots) return CAL_ENOMEM;
    for (size_t i = 0; i < table->capacity; i++)
        if (!is_empty(&table->slots[i]))
            grown.slots[place_of(&grown, &table->slots[i])] = table->slots[i];
    free(table->slots);
    *table = grown;
    return 0;
}

void gov_proofs_deinit(gov_proofs *proofs) {
    free(proofs->now.slots);
    free(proofs->before.slots);
    *proofs = (gov_proofs){0};
}

bool gov_proofs_holds(const gov_proofs *proofs, const cal_hash *digest) {
    return proofs && (has(&proofs->now, digest) || has(&proofs->before, digest));
}

void gov_proofs_note(gov_proofs *proofs, const cal_hash *digest) {
    if (!proofs || is_empty(digest) || has(&proofs->now, digest)) return;
    gov_proof_table *now = &proofs->now;
    if (now->count == TABLE_MAX) {
        free(proofs->before.slots);
        proofs->before = *now;
        *now = (gov_proof_table){0};
    }
    if (2 * (now->count + 1) > now->capacity && grow(now)) return;
    now->slots[place_of(now, digest)] = *digest;
    now->count++;
}

static void join(gov_proofs *proofs, const gov_proof_table *more) {
    for (size_t i = 0; i < more->capacity; i++)
        if (!is_empty(&more->slots[i])) gov_proofs_note(proofs, &more->slots[i]);
}

void gov_proofs_join(gov_proofs *proofs, const gov_proofs *more) {
    join(proofs, &more->before);
    join(proofs, &more->now);
}

bool gov_proofs_signature(gov_proofs *proofs, const uint8_t public_key[32],
                          const uint8_t message[CAL_HASH_SIZE],
                          const uint8_t signature[CAL_SIGNATURE_SIZE]) {
    const cal_slice parts[] = {cal_slice_of(public_key, 32), cal_slice_of(message, CAL_HASH_SIZE),
                               cal_slice_of(signature, CAL_SIGNATURE_SIZE)};
    cal_hash digest = {{0}};
    if (proofs) {
        cal_domain_hash("proof.signature", parts, sizeof parts / sizeof *parts, digest.bytes);
        if (gov_proofs_holds(proofs, &digest)) return true;
    }
    if (!cal_verify_strict(public_key, parts[1], signature)) return false;
    gov_proofs_note(proofs, &digest);
    return true;
}
