/* Inside gov/: operations as rows of fields (op.c). Each kind of field is read and written here,
 * and only here. */
#ifndef CAL_GOV_FIELD_H
#define CAL_GOV_FIELD_H

#include "gov/op.h"

typedef enum gov_field_type {
    FIELD_END,
    FIELD_ID, /* any 32 bytes */
    FIELD_BOOL,
    FIELD_U32,
    FIELD_U64,
    FIELD_ROLE,
    FIELD_VISIBILITY,
    FIELD_MASK, /* a byte that is not 0 */
    FIELD_BYTES,
    FIELD_TEXT,
    FIELD_OPTIONAL_BYTES,
    FIELD_OPTIONAL_TEXT,
    FIELD_IDS,
    FIELD_CONTEXT_ROOTS,
    FIELD_ENTRIES,
    FIELD_TEXTS,
    FIELD_CLAIMS,
    FIELD_HLC,
    FIELD_INVITATION,
    FIELD_ENVELOPE,
    FIELD_GENESIS,
    FIELD_CHAIN,
    FIELD_CERT,
    FIELD_ENDORSEMENT,
    FIELD_HANDOFF,
    FIELD_CREDENTIAL,
    FIELD_REVOCATION_PROOF_IF, /* present when the bool field before it is true */
} gov_field_type;

typedef struct gov_field {
    gov_field_type type;
    size_t offset;
} gov_field;

void gov_fields_read(const gov_field *fields, cal_borsh *in, cal_arena *arena, void *object);
int gov_fields_write(const gov_field *fields, const void *object, cal_buffer *out);

#endif
