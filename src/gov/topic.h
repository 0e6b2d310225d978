/* What travels on a namespace's topic, "ns/" + hex(namespace id): operations, acks, readiness
 * (governance.md 5.1-5.3). Pure; any thread. */
#ifndef CAL_GOV_TOPIC_H
#define CAL_GOV_TOPIC_H

#include "gov/op.h"

enum {
    GOV_TOPIC_TEXT_MAX = 3 + 2 * 32 + 1,
    GOV_BEACON_INTERVAL_MS = 5000,
    GOV_BEACON_TTL_MS = 60000,
    GOV_BEACON_AHEAD_MS = 60000, /* a beacon from further in the future is dropped */
};

/* BroadcastMessage variants 3 and 4. The outer id and parents are informative: receivers use the
 * signed content. */
typedef enum gov_broadcast_kind {
    GOV_BROADCAST_DELTA = 3,
    GOV_BROADCAST_HEARTBEAT = 4
} gov_broadcast_kind;
typedef struct gov_broadcast {
    uint8_t kind; /* gov_broadcast_kind */
    cal_group_id namespace_id;
    cal_hash delta;    /* all zero for everything but an operation */
    gov_ids ids;       /* parents; or the heads of a heartbeat */
    cal_slice payload; /* NamespaceTopicMsg */
} gov_broadcast;
int gov_broadcast_decode(cal_slice bytes, cal_arena *arena,
                         gov_broadcast *ret_broadcast); /* CAL_EUNSUPPORTED: another variant */
int gov_broadcast_write(const gov_broadcast *broadcast, cal_buffer *out);

typedef enum gov_topic_kind {
    GOV_TOPIC_OP,
    GOV_TOPIC_ACK,
    GOV_TOPIC_BEACON,
    GOV_TOPIC_PROBE,
    GOV_TOPIC_MIGRATION,
    GOV_TOPIC_KIND_COUNT,
} gov_topic_kind;

typedef struct gov_ack { /* "I applied this" */
    cal_hash op_hash;    /* gov_ack_hash */
    uint8_t signer[32];
    uint8_t signature[CAL_SIGNATURE_SIZE];
} gov_ack;

typedef struct gov_beacon { /* "this is how far I am" */
    cal_group_id namespace_id;
    uint8_t peer[32];
    cal_hash head;
    uint64_t applied_through, at_ms;
    bool strong, has_proof;
    gov_invitation proof;
    uint8_t signature[CAL_SIGNATURE_SIZE];
} gov_beacon;

typedef struct gov_probe {
    cal_group_id namespace_id;
    uint8_t nonce[16];
} gov_probe;

typedef struct gov_migration_report {
    cal_group_id namespace_id;
    uint8_t peer[32];
    uint32_t schema_version;
    uint64_t residue, synced_hlc, at_ms;
    uint8_t signature[CAL_SIGNATURE_SIZE];
    uint64_t authored_remaining; /* these two are unsigned and may be missing at the end */
    uint8_t failed;
} gov_migration_report;

typedef struct gov_topic_message {
    uint8_t kind;       /* gov_topic_kind */
    cal_slice op_bytes; /* borsh(SignedNamespaceOp) */
    gov_signed_op op;
    gov_ack ack;
    gov_beacon beacon;
    gov_probe probe;
    gov_migration_report migration;
} gov_topic_message;

/* Borrows from bytes and the arena. CAL_ELIMIT above GOV_OP_GOSSIP_MAX. */
int gov_topic_decode(cal_slice bytes, cal_arena *arena, gov_topic_message *ret_message);
int gov_topic_write(const gov_topic_message *message, cal_buffer *out);

void gov_topic_text(const cal_group_id *namespace_id, char ret_topic[GOV_TOPIC_TEXT_MAX]);
/* BLAKE3(topic || borsh(SignedNamespaceOp)). CAL_ENOMEM. */
int gov_ack_hash(const char *topic, cal_slice op_bytes, cal_hash *ret_hash);

/* Signing fills in signer or peer and the signature. CAL_ENOMEM. */
int gov_ack_sign(gov_ack *ack, const cal_secret *signer);
int gov_beacon_sign(gov_beacon *beacon, const cal_secret *peer);
int gov_migration_report_sign(gov_migration_report *report, const cal_secret *peer);
bool gov_ack_verify(const gov_ack *ack);
bool gov_beacon_verify(const gov_beacon *beacon);
bool gov_migration_report_verify(const gov_migration_report *report);

#endif
