/* An operation as it came: decoded and verified, before anybody judges it (governance.md 4).
 *
 * What is decided here is decided by the bytes alone, the same on every node and at any time: so
 * it is done on any thread, and what fails is refused for good. */
#include <stdlib.h>

#include "gov/internal.h"

enum { VERIFY_ARENA_MAX = 8 * GOV_OP_MAX };

static int take(cal_slice bytes, bool kept, gov_verified **ret_op) {
    size_t len = bytes.len > GOV_OP_MAX ? 0 : bytes.len;
    gov_verified *op = calloc(1, sizeof *op + len);
    if (!op) return CAL_ENOMEM;
    op->len = len;
    cal_arena_init(&op->arena, VERIFY_ARENA_MAX);
    if (len) memcpy(op->bytes, bytes.data, len);
    int result = bytes.len > GOV_OP_MAX ? CAL_ELIMIT : 0;
    if (!result) result = gov_signed_op_decode(cal_slice_of(op->bytes, len), &op->arena, &op->op);
    if (!result) {
        gov_signed_op_id(&op->op, &op->id);
        if (!kept) result = gov_signed_op_check(&op->op, NULL);
    }
    if (result == CAL_ENOMEM) {
        gov_verified_free(op);
        return result;
    }
    op->reason = result == 0              ? GOV_WHY_FINE
                 : result == CAL_EVERSION ? GOV_WHY_VERSION
                 : result == CAL_ELIMIT   ? GOV_WHY_BOUNDS
                 : result == CAL_EVERIFY  ? GOV_WHY_SIGNATURE
                                          : GOV_WHY_MALFORMED;
    *ret_op = op;
    return 0;
}

/* The root keys that a chain proves, also beyond the one that its certificate is of. */
static void prove_chain(const gov_credential *credential, gov_proofs *proofs) {
    const uint8_t *key = credential->genesis.root_key;
    for (uint32_t i = 0; i < credential->chain.count; i++) {
        if (!gov_handoff_verify(&credential->chain.items[i], key, proofs)) return;
        key = credential->chain.items[i].new_root_key;
    }
}

/* What an operation in the clear proves besides its own signature, so that the loop need not
 * verify it; whether it holds is asked there. A sealed one shows its inside to no worker. */
static void prove_inside(gov_verified *op) {
    const gov_root_op *root = &op->op.op.root;
    const gov_credential *credential = &root->credential;
    if (op->op.op.group) return;
    switch ((gov_root_kind)root->kind) {
    case GOV_MEMBER_JOINED:
    case GOV_MEMBER_JOINED_AT:
        gov_invitation_verify(&root->invitation, &op->proofs);
        break;
    case GOV_MEMBER_JOINED_OPEN:
    case GOV_NAMESPACE_CREATED:
        break;
    default:
        return;
    }
    if (credential->chain.count > GOV_HANDOFFS_MAX) return;
    gov_credential_verify(credential, &credential->cert.account, &op->proofs);
    prove_chain(credential, &op->proofs);
}

int gov_verify(cal_slice bytes, gov_verified **ret_op) {
    int result = take(bytes, false, ret_op);
    if (!result && (*ret_op)->reason == GOV_WHY_FINE) prove_inside(*ret_op);
    return result;
}

/* What stands in our graph was verified when it came. */
int gov_verified_again(cal_slice bytes, gov_verified **ret_op) { return take(bytes, true, ret_op); }

void gov_verified_free(gov_verified *op) {
    if (!op) return;
    cal_arena_deinit(&op->arena);
    gov_proofs_deinit(&op->proofs);
    free(op);
}

gov_reason gov_verified_reason(const gov_verified *op) { return op->reason; }
const cal_hash *gov_verified_id(const gov_verified *op) { return &op->id; }
