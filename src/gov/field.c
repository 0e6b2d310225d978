/* Reading and writing one field of an operation, see field.h. */
#include "gov/field.h"

#include <stdlib.h>

enum {
    TEXT_MAX = GOV_OP_MAX,
    LIST_MAX = GOV_OP_MAX
}; /* decoding is bounded by the input; op.c checks the rest */

/* Room for count items, or NULL with the cursor failed (also for count 0: nothing is needed). */
static void *list_alloc(cal_borsh *in, cal_arena *arena, uint32_t count, size_t size) {
    if (in->error || count == 0) return NULL;
    void *items = cal_arena_alloc_array(arena, count, size);
    if (!items) cal_borsh_fail(in, CAL_ELIMIT);
    return items;
}

static void read_ids(cal_borsh *in, cal_arena *arena, gov_ids *ids) {
    uint32_t count = cal_borsh_count(in, LIST_MAX, 32);
    cal_hash *items = list_alloc(in, arena, count, sizeof *items);
    if (!items) return;
    cal_borsh_fixed(in, items, (size_t)count * sizeof *items);
    *ids = (gov_ids){items, count};
}

static void read_roots(cal_borsh *in, cal_arena *arena, gov_context_roots *roots) {
    uint32_t count = cal_borsh_count(in, LIST_MAX, sizeof(gov_context_root));
    gov_context_root *items = list_alloc(in, arena, count, sizeof *items);
    if (!items) return;
    cal_borsh_fixed(in, items, (size_t)count * sizeof *items);
    *roots = (gov_context_roots){items, count};
}

static void read_texts(cal_borsh *in, cal_arena *arena, gov_texts *texts) {
    uint32_t count = cal_borsh_count(in, LIST_MAX, 4);
    cal_slice *items = list_alloc(in, arena, count, sizeof *items);
    if (!items) return;
    for (uint32_t i = 0; i < count; i++) items[i] = cal_borsh_text(in, TEXT_MAX);
    *texts = (gov_texts){items, count};
}

typedef struct {
    gov_entry entry;
    uint32_t order;
} ordered_entry;

static int compare_entries(const void *a, const void *b) {
    const ordered_entry *x = a, *y = b;
    int order = cal_slice_compare(x->entry.key, y->entry.key);
    return order ? order : (x->order > y->order) - (x->order < y->order);
}

/* Lenient, as the reference's map: any order, of equal keys the last one stays (traps.md 10). */
static void read_entries(cal_borsh *in, cal_arena *arena, gov_entries *entries) {
    uint32_t count = cal_borsh_count(in, LIST_MAX, 8), kept = 0;
    ordered_entry *sorted = list_alloc(in, arena, count, sizeof *sorted);
    if (!sorted) return;
    for (uint32_t i = 0; i < count; i++) {
        sorted[i].entry.key = cal_borsh_text(in, TEXT_MAX);
        sorted[i].entry.value = cal_borsh_text(in, TEXT_MAX);
        sorted[i].order = i;
    }
    gov_entry *items = list_alloc(in, arena, count, sizeof *items);
    if (!items) return;
    qsort(sorted, count, sizeof *sorted, compare_entries);
    for (uint32_t i = 0; i < count; i++) {
        if (kept > 0 && cal_slice_equal(items[kept - 1].key, sorted[i].entry.key)) kept--;
        items[kept++] = sorted[i].entry;
    }
    *entries = (gov_entries){items, kept};
}

static void read_claims(cal_borsh *in, gov_tee_claims *claims) {
    claims->mrtd = cal_borsh_text(in, TEXT_MAX);
    claims->rtmr0 = cal_borsh_text(in, TEXT_MAX);
    claims->rtmr1 = cal_borsh_text(in, TEXT_MAX);
    claims->rtmr2 = cal_borsh_text(in, TEXT_MAX);
    claims->rtmr3 = cal_borsh_text(in, TEXT_MAX);
    claims->tcb_status = cal_borsh_text(in, TEXT_MAX);
}

static void read_optional(cal_borsh *in, bool text, gov_optional *optional) {
    optional->present = cal_borsh_bool(in);
    if (optional->present)
        optional->bytes = text ? cal_borsh_text(in, TEXT_MAX) : cal_borsh_bytes(in, TEXT_MAX);
}

static uint8_t read_mask(cal_borsh *in) {
    uint8_t mask = cal_borsh_u8(in);
    if (!mask) cal_borsh_fail(in, CAL_EDECODE);
    return mask;
}

static bool read_scalar(gov_field_type type, cal_borsh *in, void *at) {
    enum { ROLES = 4, VISIBILITIES = 2 };
    switch (type) {
    case FIELD_ID:
        cal_borsh_fixed(in, at, 32);
        return true;
    case FIELD_BOOL:
        *(bool *)at = cal_borsh_bool(in);
        return true;
    case FIELD_U32:
        *(uint32_t *)at = cal_borsh_u32(in);
        return true;
    case FIELD_U64:
        *(uint64_t *)at = cal_borsh_u64(in);
        return true;
    case FIELD_ROLE:
        *(uint8_t *)at = cal_borsh_tag(in, ROLES);
        return true;
    case FIELD_VISIBILITY:
        *(uint8_t *)at = cal_borsh_tag(in, VISIBILITIES);
        return true;
    case FIELD_MASK:
        *(uint8_t *)at = read_mask(in);
        return true;
    default:
        return false;
    }
}

static bool read_list(gov_field_type type, cal_borsh *in, cal_arena *arena, void *at) {
    switch (type) {
    case FIELD_BYTES:
        *(cal_slice *)at = cal_borsh_bytes(in, TEXT_MAX);
        return true;
    case FIELD_TEXT:
        *(cal_slice *)at = cal_borsh_text(in, TEXT_MAX);
        return true;
    case FIELD_OPTIONAL_BYTES:
        read_optional(in, false, at);
        return true;
    case FIELD_OPTIONAL_TEXT:
        read_optional(in, true, at);
        return true;
    case FIELD_IDS:
        read_ids(in, arena, at);
        return true;
    case FIELD_CONTEXT_ROOTS:
        read_roots(in, arena, at);
        return true;
    case FIELD_ENTRIES:
        read_entries(in, arena, at);
        return true;
    case FIELD_TEXTS:
        read_texts(in, arena, at);
        return true;
    case FIELD_CLAIMS:
        read_claims(in, at);
        return true;
    default:
        return false;
    }
}

static void read_statement(gov_field_type type, cal_borsh *in, cal_arena *arena, void *at) {
    switch (type) {
    case FIELD_HLC:
        gov_hlc_read(in, at);
        break;
    case FIELD_INVITATION:
        gov_invitation_read(in, at);
        break;
    case FIELD_ENVELOPE:
        gov_envelope_read(in, at);
        break;
    case FIELD_GENESIS:
        gov_genesis_read(in, at);
        break;
    case FIELD_CHAIN:
        gov_chain_read(in, arena, at);
        break;
    case FIELD_CERT:
        gov_cert_read(in, at);
        break;
    case FIELD_ENDORSEMENT:
        gov_endorsement_read(in, at);
        break;
    case FIELD_HANDOFF:
        gov_handoff_read(in, at);
        break;
    case FIELD_CREDENTIAL:
        gov_credential_read(in, arena, at);
        break;
    case FIELD_REVOCATION_PROOF_IF:
        gov_revocation_proof_read(in, arena, at);
        break;
    default:
        break;
    }
}

/* A field of type _IF is there when the bool before it is true. */
static bool left_out(const gov_field *fields, const gov_field *field, const void *object) {
    return field->type == FIELD_REVOCATION_PROOF_IF && field > fields &&
           !*(const bool *)((const char *)object + field[-1].offset);
}

void gov_fields_read(const gov_field *fields, cal_borsh *in, cal_arena *arena, void *object) {
    for (const gov_field *field = fields; field->type != FIELD_END; field++) {
        void *at = (char *)object + field->offset;
        if (left_out(fields, field, object) || read_scalar(field->type, in, at) ||
            read_list(field->type, in, arena, at))
            continue;
        read_statement(field->type, in, arena, at);
    }
}

/* --- writing --- */

static void write_entries(const gov_entries *entries, cal_buffer *out) {
    cal_buffer_append_u32le(out, entries->count);
    for (uint32_t i = 0; i < entries->count; i++) {
        cal_borsh_put_bytes(out, entries->items[i].key);
        cal_borsh_put_bytes(out, entries->items[i].value);
    }
}

static void write_texts(const gov_texts *texts, cal_buffer *out) {
    cal_buffer_append_u32le(out, texts->count);
    for (uint32_t i = 0; i < texts->count; i++) cal_borsh_put_bytes(out, texts->items[i]);
}

static void write_claims(const gov_tee_claims *claims, cal_buffer *out) {
    cal_borsh_put_bytes(out, claims->mrtd);
    cal_borsh_put_bytes(out, claims->rtmr0);
    cal_borsh_put_bytes(out, claims->rtmr1);
    cal_borsh_put_bytes(out, claims->rtmr2);
    cal_borsh_put_bytes(out, claims->rtmr3);
    cal_borsh_put_bytes(out, claims->tcb_status);
}

/* A count and the items as they lie in memory. */
static void write_packed(const void *items, uint32_t count, size_t size, cal_buffer *out) {
    cal_buffer_append_u32le(out, count);
    cal_buffer_append(out, items, count * size);
}

static void write_optional(const gov_optional *optional, cal_buffer *out) {
    cal_borsh_put_bool(out, optional->present);
    if (optional->present) cal_borsh_put_bytes(out, optional->bytes);
}

static bool write_scalar(gov_field_type type, const void *at, cal_buffer *out) {
    switch (type) {
    case FIELD_ID:
        cal_buffer_append(out, at, 32);
        return true;
    case FIELD_BOOL:
        cal_borsh_put_bool(out, *(const bool *)at);
        return true;
    case FIELD_U32:
        cal_buffer_append_u32le(out, *(const uint32_t *)at);
        return true;
    case FIELD_U64:
        cal_buffer_append_u64le(out, *(const uint64_t *)at);
        return true;
    case FIELD_ROLE:
    case FIELD_VISIBILITY:
    case FIELD_MASK:
        cal_buffer_append_u8(out, *(const uint8_t *)at);
        return true;
    default:
        return false;
    }
}

static bool write_list(gov_field_type type, const void *at, cal_buffer *out) {
    const gov_ids *ids = at;
    const gov_context_roots *roots = at;
    switch (type) {
    case FIELD_BYTES:
    case FIELD_TEXT:
        cal_borsh_put_bytes(out, *(const cal_slice *)at);
        return true;
    case FIELD_OPTIONAL_BYTES:
    case FIELD_OPTIONAL_TEXT:
        write_optional(at, out);
        return true;
    case FIELD_IDS:
        write_packed(ids->items, ids->count, sizeof *ids->items, out);
        return true;
    case FIELD_CONTEXT_ROOTS:
        write_packed(roots->items, roots->count, sizeof *roots->items, out);
        return true;
    case FIELD_ENTRIES:
        write_entries(at, out);
        return true;
    case FIELD_TEXTS:
        write_texts(at, out);
        return true;
    case FIELD_CLAIMS:
        write_claims(at, out);
        return true;
    default:
        return false;
    }
}

static void write_statement(gov_field_type type, const void *at, cal_buffer *out) {
    switch (type) {
    case FIELD_HLC:
        gov_hlc_write(at, out);
        break;
    case FIELD_INVITATION:
        gov_invitation_write(at, out);
        break;
    case FIELD_ENVELOPE:
        gov_envelope_write(at, out);
        break;
    case FIELD_GENESIS:
        gov_genesis_write(at, out);
        break;
    case FIELD_CHAIN:
        gov_chain_write(at, out);
        break;
    case FIELD_CERT:
        gov_cert_write(at, out);
        break;
    case FIELD_ENDORSEMENT:
        gov_endorsement_write(at, out);
        break;
    case FIELD_HANDOFF:
        gov_handoff_write(at, out);
        break;
    case FIELD_CREDENTIAL:
        gov_credential_write(at, out);
        break;
    case FIELD_REVOCATION_PROOF_IF:
        gov_revocation_proof_write(at, out);
        break;
    default:
        break;
    }
}

int gov_fields_write(const gov_field *fields, const void *object, cal_buffer *out) {
    for (const gov_field *field = fields; field->type != FIELD_END; field++) {
        const void *at = (const char *)object + field->offset;
        if (left_out(fields, field, object) || write_scalar(field->type, at, out) ||
            write_list(field->type, at, out))
            continue;
        write_statement(field->type, at, out);
    }
    return out->error;
}
