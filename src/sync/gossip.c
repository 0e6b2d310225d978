/* Heartbeats and presence on a context's topic (network-sync.md 5); deltas are gov/delta.h's. */
#include "sync/field.h"

enum { VARIANT_HEARTBEAT = 1, VARIANT_PRESENCE = 5, BROADCAST_VARIANTS = 6 };

#define H(type, member, max) FIELD(sync_heartbeat, type, member, max)
#define P(type, member, max) FIELD(sync_presence, type, member, max)

static const sync_field heartbeat_fields[] = {
    H(FIELD_ID, context, 0),
    H(FIELD_ID, root, 0),
    H(FIELD_IDS, heads, SYNC_HEADS_MAX),
    {FIELD_END, 0, 0, false, 0},
};
static const sync_field presence_fields[] = {
    P(FIELD_ID, context, 0),     P(FIELD_ID, author, 0),      P(FIELD_U64, seq, 0),
    P(FIELD_ID, key_id, 0),      P(FIELD_U64, sent_at_ms, 0), P(FIELD_NONCE, nonce, 0),
    {FIELD_END, 0, 0, false, 0},
};
static const sync_field presence_tail[] = {
    P(FIELD_BYTES, sealed, SYNC_PRESENCE_MAX),
    P(FIELD_SIGNATURE, signature, 0),
    {FIELD_END, 0, 0, false, 0},
};

/* The variant byte: another known one is for somebody else. */
static int read_variant(cal_borsh *in, uint8_t wanted) {
    uint8_t variant = cal_borsh_tag(in, BROADCAST_VARIANTS);
    if (in->error) return in->error;
    return variant == wanted ? 0 : CAL_EUNSUPPORTED;
}

int sync_heartbeat_decode(cal_slice bytes, cal_arena *arena, sync_heartbeat *ret_heartbeat) {
    cal_borsh in = cal_borsh_read(bytes);
    sync_heartbeat heartbeat = {0};
    int result = read_variant(&in, VARIANT_HEARTBEAT);
    if (result) return result;
    sync_fields_read(heartbeat_fields, &in, arena, &heartbeat);
    if (cal_borsh_end(&in)) return in.error;
    *ret_heartbeat = heartbeat;
    return 0;
}

int sync_heartbeat_write(const sync_heartbeat *heartbeat, cal_buffer *out) {
    cal_buffer_append_u8(out, VARIANT_HEARTBEAT);
    return sync_fields_write(heartbeat_fields, heartbeat, out);
}

int sync_presence_decode(cal_slice bytes, sync_presence *ret_presence) {
    cal_borsh in = cal_borsh_read(bytes);
    sync_presence presence = {0};
    int result = read_variant(&in, VARIANT_PRESENCE);
    if (result) return result;
    sync_fields_read(presence_fields, &in, NULL, &presence);
    sync_fields_read(presence_tail, &in, NULL, &presence);
    if (cal_borsh_end(&in)) return in.error;
    *ret_presence = presence;
    return 0;
}

int sync_presence_write(const sync_presence *presence, cal_buffer *out) {
    cal_buffer_append_u8(out, VARIANT_PRESENCE);
    sync_fields_write(presence_fields, presence, out);
    return sync_fields_write(presence_tail, presence, out);
}

int sync_presence_signable(const sync_presence *presence, cal_buffer *out) {
    uint8_t hash[CAL_HASH_SIZE];
    cal_sha256(presence->sealed, hash);
    cal_buffer_append_text(out, "calimero/ephemeral/1");
    sync_fields_write(presence_fields, presence, out);
    return cal_buffer_append(out, hash, sizeof hash);
}
