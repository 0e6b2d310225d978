/* Messages of a namespace's topic, see topic.h. */
#include "gov/topic.h"

#include "codec/text.h"
#include "gov/field.h"

static const char ack_domain[] = "calimero.ack.v1";
static const char beacon_domain[] = "calimero.beacon.v1";
static const char migration_domain[] = "calimero.migheartbeat.v1";
static const gov_field ids_field[] = {{FIELD_IDS, 0}, {FIELD_END, 0}};

enum { SIGNABLE_MAX = 64 * 1024, BROADCAST_VARIANTS = 6 };

/* --- broadcasts --- */

int gov_broadcast_decode(cal_slice bytes, cal_arena *arena, gov_broadcast *ret_broadcast) {
    cal_borsh in = cal_borsh_read(bytes);
    gov_broadcast message = {.kind = cal_borsh_tag(&in, BROADCAST_VARIANTS)};
    if (!in.error && message.kind != GOV_BROADCAST_DELTA && message.kind != GOV_BROADCAST_HEARTBEAT)
        return CAL_EUNSUPPORTED;
    cal_borsh_fixed(&in, message.namespace_id.bytes, 32);
    if (message.kind == GOV_BROADCAST_DELTA) cal_borsh_fixed(&in, message.delta.bytes, 32);
    gov_fields_read(ids_field, &in, arena, &message.ids);
    if (message.kind == GOV_BROADCAST_DELTA)
        message.payload = cal_borsh_bytes(&in, GOV_OP_GOSSIP_MAX);
    if (cal_borsh_end(&in)) return in.error;
    if (message.ids.count > GOV_PARENTS_MAX) return CAL_ELIMIT;
    *ret_broadcast = message;
    return 0;
}

int gov_broadcast_write(const gov_broadcast *broadcast, cal_buffer *out) {
    cal_buffer_append_u8(out, broadcast->kind);
    cal_buffer_append(out, broadcast->namespace_id.bytes, 32);
    if (broadcast->kind == GOV_BROADCAST_DELTA) cal_buffer_append(out, broadcast->delta.bytes, 32);
    gov_fields_write(ids_field, &broadcast->ids, out);
    return broadcast->kind == GOV_BROADCAST_DELTA ? cal_borsh_put_bytes(out, broadcast->payload)
                                                  : out->error;
}

/* --- messages --- */

static void ack_read(cal_borsh *in, gov_ack *ack) {
    cal_borsh_fixed(in, ack->op_hash.bytes, 32);
    cal_borsh_fixed(in, ack->signer, 32);
    cal_borsh_fixed(in, ack->signature, CAL_SIGNATURE_SIZE);
}

static void beacon_read(cal_borsh *in, gov_beacon *beacon) {
    cal_borsh_fixed(in, beacon->namespace_id.bytes, 32);
    cal_borsh_fixed(in, beacon->peer, 32);
    cal_borsh_fixed(in, beacon->head.bytes, 32);
    beacon->applied_through = cal_borsh_u64(in);
    beacon->at_ms = cal_borsh_u64(in);
    beacon->strong = cal_borsh_bool(in);
    beacon->has_proof = cal_borsh_bool(in);
    if (beacon->has_proof) gov_invitation_read(in, &beacon->proof);
    cal_borsh_fixed(in, beacon->signature, CAL_SIGNATURE_SIZE);
}

static void migration_read(cal_borsh *in, gov_migration_report *report) {
    cal_borsh_fixed(in, report->namespace_id.bytes, 32);
    cal_borsh_fixed(in, report->peer, 32);
    report->schema_version = cal_borsh_u32(in);
    report->residue = cal_borsh_u64(in);
    report->synced_hlc = cal_borsh_u64(in);
    report->at_ms = cal_borsh_u64(in);
    cal_borsh_fixed(in, report->signature, CAL_SIGNATURE_SIZE);
    if (in->left) report->authored_remaining = cal_borsh_u64(in); /* older nodes send less */
    if (in->left) report->failed = cal_borsh_u8(in);
}

int gov_topic_decode(cal_slice bytes, cal_arena *arena, gov_topic_message *ret_message) {
    cal_borsh in = cal_borsh_read(bytes);
    gov_topic_message *message = ret_message;
    if (bytes.len > GOV_OP_GOSSIP_MAX) return CAL_ELIMIT;
    *message = (gov_topic_message){.kind = cal_borsh_tag(&in, GOV_TOPIC_KIND_COUNT)};
    if (in.error) return in.error;
    switch ((gov_topic_kind)message->kind) {
    case GOV_TOPIC_OP:
        message->op_bytes = cal_borsh_take(&in, in.left);
        return gov_signed_op_decode(message->op_bytes, arena, &message->op);
    case GOV_TOPIC_ACK:
        ack_read(&in, &message->ack);
        break;
    case GOV_TOPIC_BEACON:
        beacon_read(&in, &message->beacon);
        break;
    case GOV_TOPIC_PROBE:
        cal_borsh_fixed(&in, message->probe.namespace_id.bytes, 32);
        cal_borsh_fixed(&in, message->probe.nonce, sizeof message->probe.nonce);
        break;
    case GOV_TOPIC_MIGRATION:
        migration_read(&in, &message->migration);
        break;
    case GOV_TOPIC_KIND_COUNT:
        break;
    }
    return cal_borsh_end(&in);
}

static void beacon_body(const gov_beacon *beacon, cal_buffer *out) {
    cal_buffer_append(out, beacon->namespace_id.bytes, 32);
    cal_buffer_append(out, beacon->peer, 32);
    cal_buffer_append(out, beacon->head.bytes, 32);
    cal_buffer_append_u64le(out, beacon->applied_through);
    cal_buffer_append_u64le(out, beacon->at_ms);
    cal_borsh_put_bool(out, beacon->strong);
    cal_borsh_put_bool(out, beacon->has_proof);
    if (beacon->has_proof) gov_invitation_write(&beacon->proof, out);
}

static void migration_body(const gov_migration_report *report, cal_buffer *out) {
    cal_buffer_append(out, report->namespace_id.bytes, 32);
    cal_buffer_append(out, report->peer, 32);
    cal_buffer_append_u32le(out, report->schema_version);
    cal_buffer_append_u64le(out, report->residue);
    cal_buffer_append_u64le(out, report->synced_hlc);
    cal_buffer_append_u64le(out, report->at_ms);
}

int gov_topic_write(const gov_topic_message *message, cal_buffer *out) {
    cal_buffer_append_u8(out, message->kind);
    switch ((gov_topic_kind)message->kind) {
    case GOV_TOPIC_OP:
        return cal_buffer_append_slice(out, message->op_bytes);
    case GOV_TOPIC_ACK:
        cal_buffer_append(out, message->ack.op_hash.bytes, 32);
        cal_buffer_append(out, message->ack.signer, 32);
        return cal_buffer_append(out, message->ack.signature, CAL_SIGNATURE_SIZE);
    case GOV_TOPIC_BEACON:
        beacon_body(&message->beacon, out);
        return cal_buffer_append(out, message->beacon.signature, CAL_SIGNATURE_SIZE);
    case GOV_TOPIC_PROBE:
        cal_buffer_append(out, message->probe.namespace_id.bytes, 32);
        return cal_buffer_append(out, message->probe.nonce, sizeof message->probe.nonce);
    case GOV_TOPIC_MIGRATION:
        migration_body(&message->migration, out);
        cal_buffer_append(out, message->migration.signature, CAL_SIGNATURE_SIZE);
        cal_buffer_append_u64le(out, message->migration.authored_remaining);
        return cal_buffer_append_u8(out, message->migration.failed);
    case GOV_TOPIC_KIND_COUNT:
        break;
    }
    return CAL_EINVAL;
}

/* --- signatures --- */

void gov_topic_text(const cal_group_id *namespace_id, char ret_topic[GOV_TOPIC_TEXT_MAX]) {
    memcpy(ret_topic, "ns/", 3);
    cal_hex_encode(cal_slice_of(namespace_id->bytes, 32), ret_topic + 3);
}

int gov_ack_hash(const char *topic, cal_slice op_bytes, cal_hash *ret_hash) {
    cal_buffer bytes;
    cal_buffer_init(&bytes, GOV_OP_MAX + GOV_TOPIC_TEXT_MAX);
    cal_buffer_append_text(&bytes, topic);
    int result = cal_buffer_append_slice(&bytes, op_bytes);
    if (!result) cal_blake3(cal_buffer_slice(&bytes), ret_hash->bytes);
    cal_buffer_deinit(&bytes);
    return result;
}

/* The signed bytes of one of the three, behind its domain. */
static int signable(cal_buffer *out, const gov_ack *ack, const gov_beacon *beacon,
                    const gov_migration_report *report) {
    cal_buffer_init(out, SIGNABLE_MAX);
    cal_buffer_append_text(out, ack ? ack_domain : beacon ? beacon_domain : migration_domain);
    if (ack)
        cal_buffer_append(out, ack->op_hash.bytes, 32);
    else if (beacon)
        beacon_body(beacon, out);
    else
        migration_body(report, out);
    return out->error;
}

int gov_ack_sign(gov_ack *ack, const cal_secret *signer) {
    cal_buffer bytes;
    cal_sign_public_key(signer, ack->signer);
    int result = signable(&bytes, ack, NULL, NULL);
    if (!result) cal_sign(signer, cal_buffer_slice(&bytes), ack->signature);
    cal_buffer_deinit(&bytes);
    return result;
}

int gov_beacon_sign(gov_beacon *beacon, const cal_secret *peer) {
    cal_buffer bytes;
    cal_sign_public_key(peer, beacon->peer);
    int result = signable(&bytes, NULL, beacon, NULL);
    if (!result) cal_sign(peer, cal_buffer_slice(&bytes), beacon->signature);
    cal_buffer_deinit(&bytes);
    return result;
}

int gov_migration_report_sign(gov_migration_report *report, const cal_secret *peer) {
    cal_buffer bytes;
    cal_sign_public_key(peer, report->peer);
    int result = signable(&bytes, NULL, NULL, report);
    if (!result) cal_sign(peer, cal_buffer_slice(&bytes), report->signature);
    cal_buffer_deinit(&bytes);
    return result;
}

static bool verified(cal_buffer *bytes, int built, const uint8_t *key, const uint8_t *signature) {
    bool valid = !built && cal_verify_strict(key, cal_buffer_slice(bytes), signature);
    cal_buffer_deinit(bytes);
    return valid;
}

bool gov_ack_verify(const gov_ack *ack) {
    cal_buffer bytes;
    int built = signable(&bytes, ack, NULL, NULL);
    return verified(&bytes, built, ack->signer, ack->signature);
}

bool gov_beacon_verify(const gov_beacon *beacon) {
    cal_buffer bytes;
    int built = signable(&bytes, NULL, beacon, NULL);
    return verified(&bytes, built, beacon->peer, beacon->signature);
}

bool gov_migration_report_verify(const gov_migration_report *report) {
    cal_buffer bytes;
    int built = signable(&bytes, NULL, NULL, report);
    return verified(&bytes, built, report->peer, report->signature);
}
