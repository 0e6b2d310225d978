/* Invitations: a bearer credential that an inviter signs (governance.md 9), in borsh and in the
 * JSON that people pass on (http-api.md 2, SignedInvitation). Pure; any thread. */
#ifndef CAL_GOV_INVITATION_H
#define CAL_GOV_INVITATION_H

#include "base/buffer.h"
#include "calimero/error.h"
#include "calimero/identity.h"
#include "codec/borsh.h"
#include "crypto/crypto.h"

enum {
    GOV_INVITATION_SIZE = 105,
    GOV_INVITATION_JSON_MAX = 16 * 1024,
    GOV_INVITATION_DEFAULT_VALID_S = 365 * 24 * 3600,
};

typedef struct gov_invitation {
    uint8_t inviter_key[32];
    cal_group_id group;
    uint64_t expires_at_s; /* Unix; 0: never */
    uint8_t nonce[32];
    uint8_t role; /* as signed: 0 Admin, 2 ReadOnly, anything else Member */
    /* The signature in hex, as it travels: a String that need not be one. */
    cal_slice signature; /* bytes of the input, or of signature_text */
    char signature_text[2 * CAL_SIGNATURE_SIZE + 1];
    /* Unsigned hints; never a reason to grant anything. */
    bool has_inviter_account, has_application, has_app_key;
    cal_account_id inviter_account;
    cal_application_id application;
    cal_blob_id app_key;
} gov_invitation;

/* The input must outlive the result (signature). */
void gov_invitation_read(cal_borsh *in, gov_invitation *ret_invitation);
int gov_invitation_decode(cal_slice bytes, gov_invitation *ret_invitation);
int gov_invitation_write(const gov_invitation *invitation, cal_buffer *out);

int gov_invitation_body(const gov_invitation *invitation,
                        cal_buffer *out); /* the signed 105 bytes */
void gov_invitation_digest(const gov_invitation *invitation, uint8_t ret_digest[CAL_HASH_SIZE]);
void gov_invitation_sign(gov_invitation *invitation,
                         const cal_secret *inviter); /* fills signature_text */
struct gov_proofs;                                   /* proofs.h; may be NULL */
bool gov_invitation_verify(const gov_invitation *invitation, struct gov_proofs *proofs);
bool gov_invitation_expired(const gov_invitation *invitation, uint64_t now_s);

/* JSON, appended. Reading refuses what is malformed (CAL_EDECODE) and ignores unknown fields; the
 * result owns its signature. */
int gov_invitation_write_json(const gov_invitation *invitation, cal_buffer *out);
int gov_invitation_read_json(cal_slice json, gov_invitation *ret_invitation, cal_error *err);

#endif
