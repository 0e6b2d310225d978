/* Inside gov/: signatures that are known to hold, so that none is verified twice.
 *
 * A digest stands for everything that a verdict depends on, so what is found here needs no other
 * proof, and what is not found is verified as if there were no memory. gov_verify gathers on a
 * worker what the inside of an operation proves; the loop then finds it (gov_apply_op). Only what
 * held is remembered. Bounded: the oldest half goes. One owner. */
#ifndef CAL_GOV_PROOFS_H
#define CAL_GOV_PROOFS_H

#include "gov/account.h"
#include "gov/invitation.h"

enum { GOV_PROOFS_MAX = 2 * 2048 }; /* more than what one operation can prove, twice */

typedef struct gov_proof_table {
    cal_hash *slots;        /* zero: empty */
    size_t capacity, count; /* capacity: 0 or a power of two */
} gov_proof_table;

typedef struct gov_proofs {
    gov_proof_table now, before;
} gov_proofs; /* starts zeroed */

void gov_proofs_deinit(gov_proofs *proofs);
bool gov_proofs_holds(const gov_proofs *proofs, const cal_hash *digest); /* proofs may be NULL */
/* Without memory it is not remembered. proofs may be NULL. */
void gov_proofs_note(gov_proofs *proofs, const cal_hash *digest);
void gov_proofs_join(gov_proofs *proofs, const gov_proofs *more);

/* What account.h and invitation.h verify; NULL: without memory. */
bool gov_proofs_signature(gov_proofs *proofs, const uint8_t public_key[32],
                          const uint8_t message[CAL_HASH_SIZE],
                          const uint8_t signature[CAL_SIGNATURE_SIZE]);

#endif
