/* An invitation as one line of text that people pass on: "calimero1" and letters and digits of one
 * case.
 *
 * It says what the JSON form says (invitation.h), and where to dial. The text has the alphabet of
 * bech32, in which no character looks like another; case does not matter, nor does white space that
 * a mail program put in. The digit is the version of the form; a checksum finds what was copied
 * wrong. Addresses and name are hints that nobody signed. Pure; any thread. */
#ifndef CAL_GOV_INVITATION_CODE_H
#define CAL_GOV_INVITATION_CODE_H

#include "calimero/p2p.h"
#include "gov/invitation.h"

enum {
    GOV_CODE_ADDRESSES_MAX = 8,
    GOV_CODE_NAME_MAX = 64,
    /* flags, inviter, group, expiry, nonce, role, signature, three hints, name, addresses, check */
    GOV_CODE_BYTES_MAX = 1 + 32 + 32 + 8 + 32 + 1 + CAL_SIGNATURE_SIZE + 3 * 32 + 1 +
                         GOV_CODE_NAME_MAX + 1 + GOV_CODE_ADDRESSES_MAX * (2 + CAL_MULTIADDR_MAX) +
                         4,
    GOV_CODE_TEXT_MAX = 9 + (GOV_CODE_BYTES_MAX * 8 + 4) / 5 + 1,
    GOV_CODE_INPUT_MAX = 2 * GOV_CODE_TEXT_MAX, /* with white space */
};

typedef struct gov_invitation_code {
    gov_invitation invitation;        /* owns its signature */
    char name[GOV_CODE_NAME_MAX + 1]; /* of the group; "": none */
    /* Where a member may be reached, private addresses too. Reading takes their bytes as they are:
     * whoever dials checks them (cal_multiaddr_from_bytes). */
    cal_multiaddr addresses[GOV_CODE_ADDRESSES_MAX];
    size_t address_count;
} gov_invitation_code;

/* Appends the text, without NUL or line end. CAL_EINVAL: the signature is none (a String that
 * travelled need not be one), too many addresses, or the name is none. CAL_ENOMEM, CAL_ELIMIT. */
int gov_invitation_code_write(const gov_invitation_code *code, cal_buffer *out, cal_error *err);
/* CAL_EDECODE with words, CAL_EVERSION. The invitation is not verified. */
int gov_invitation_code_read(cal_slice text, gov_invitation_code *ret_code, cal_error *err);
/* From what people paste: the code, or the JSON form. */
int gov_invitation_code_read_any(cal_slice text, gov_invitation_code *ret_code, cal_error *err);
/* Whether the text begins as a code does, of any version. */
bool gov_invitation_code_is(cal_slice text);

#endif
