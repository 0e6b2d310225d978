/* The codec of governance operations, see op.h.
 *
 * Each variant is a row of fields; one walk over the row decodes it and another encodes it, so the
 * two cannot drift apart. Bounds that the reference checks after decoding are applied by
 * gov_signed_op_check and gov_group_op_check, not here: an op that decodes but is out of bounds is
 * refused for another reason. */
#include "gov/op.h"

#include <assert.h>
#include <stdlib.h>

#include "base/error.h"
#include "gov/field.h"

typedef struct {
    const char *name;
    gov_field fields[12]; /* ends with FIELD_END */
} op_variant;

#define R(type, member)                                                                            \
    { type, offsetof(gov_root_op, member) }
#define G(type, member)                                                                            \
    { type, offsetof(gov_group_op, member) }

static const op_variant root_variants[GOV_ROOT_KIND_COUNT] = {
    [GOV_GROUP_CREATED] = {"GroupCreated",
                           {R(FIELD_ID, group), R(FIELD_ID, parent), R(FIELD_BOOL, restricted),
                            R(FIELD_ID, account)}},
    [GOV_GROUP_REPARENTED] = {"GroupReparented", {R(FIELD_ID, group), R(FIELD_ID, parent)}},
    [GOV_GROUP_DELETED] = {"GroupDeleted",
                           {R(FIELD_ID, group), R(FIELD_IDS, groups), R(FIELD_IDS, contexts)}},
    [GOV_ADMIN_CHANGED] = {"AdminChanged", {R(FIELD_ID, account)}},
    [GOV_POLICY_UPDATED] = {"PolicyUpdated", {R(FIELD_BYTES, policy)}},
    [GOV_MEMBER_JOINED] = {"MemberJoined",
                           {R(FIELD_ID, account), R(FIELD_INVITATION, invitation),
                            R(FIELD_CREDENTIAL, credential)}},
    [GOV_KEY_DELIVERY] = {"KeyDelivery", {R(FIELD_ID, group), R(FIELD_ENVELOPE, envelope)}},
    [GOV_MEMBER_JOINED_OPEN] = {"MemberJoinedOpen",
                                {R(FIELD_ID, account), R(FIELD_ID, group),
                                 R(FIELD_CREDENTIAL, credential)}},
    [GOV_MEMBER_JOINED_AT] = {"MemberJoinedAt",
                              {R(FIELD_ID, account), R(FIELD_INVITATION, invitation),
                               R(FIELD_U64, joined_at_s), R(FIELD_CREDENTIAL, credential)}},
    [GOV_NAMESPACE_CREATED] = {"NamespaceCreated",
                               {R(FIELD_ID, account), R(FIELD_CREDENTIAL, credential)}},
    [GOV_MEMBER_JOINED_TEE] = {"MemberJoinedViaTeeAttestation",
                               {R(FIELD_ID, group), R(FIELD_ID, member_key), R(FIELD_ID, quote),
                                R(FIELD_CLAIMS, claims), R(FIELD_ROLE, role),
                                R(FIELD_CREDENTIAL, credential)}},
};

static const op_variant group_variants[GOV_GROUP_KIND_COUNT] = {
    [GOV_NOOP] = {"Noop", {{FIELD_END, 0}}},
    [GOV_MEMBER_ADDED] = {"MemberAdded", {G(FIELD_ID, account), G(FIELD_ROLE, role)}},
    [GOV_MEMBER_REMOVED] = {"MemberRemoved",
                            {G(FIELD_ID, account), G(FIELD_ID, group_hash),
                             G(FIELD_CONTEXT_ROOTS, roots)}},
    [GOV_MEMBER_LEFT] = {"MemberLeft",
                         {G(FIELD_ID, account), G(FIELD_ID, group_hash),
                          G(FIELD_CONTEXT_ROOTS, roots)}},
    [GOV_MEMBER_ROLE_SET] = {"MemberRoleSet", {G(FIELD_ID, account), G(FIELD_ROLE, role)}},
    [GOV_MEMBER_CAPABILITY_SET] = {"MemberCapabilitySet",
                                   {G(FIELD_ID, account), G(FIELD_U32, capabilities)}},
    [GOV_DEFAULT_CAPABILITIES_SET] = {"DefaultCapabilitiesSet", {G(FIELD_U32, capabilities)}},
    [GOV_TARGET_APPLICATION_SET] = {"TargetApplicationSet",
                                    {G(FIELD_ID, app_key), G(FIELD_ID, application)}},
    [GOV_CONTEXT_REGISTERED] = {"ContextRegistered",
                                {G(FIELD_ID, context), G(FIELD_ID, application), G(FIELD_ID, blob),
                                 G(FIELD_TEXT, source), G(FIELD_OPTIONAL_TEXT, service_name)}},
    [GOV_CONTEXT_DETACHED] = {"ContextDetached", {G(FIELD_ID, context)}},
    [GOV_VISIBILITY_SET] = {"SubgroupVisibilitySet", {G(FIELD_VISIBILITY, visibility)}},
    [GOV_GROUP_METADATA_SET] = {"GroupMetadataSet",
                                {G(FIELD_OPTIONAL_TEXT, name), G(FIELD_ENTRIES, data)}},
    [GOV_MEMBER_METADATA_SET] = {"MemberMetadataSet",
                                 {G(FIELD_ID, account), G(FIELD_OPTIONAL_TEXT, name),
                                  G(FIELD_ENTRIES, data)}},
    [GOV_CONTEXT_METADATA_SET] = {"ContextMetadataSet",
                                  {G(FIELD_ID, context), G(FIELD_OPTIONAL_TEXT, name),
                                   G(FIELD_ENTRIES, data)}},
    [GOV_GROUP_DELETE] = {"GroupDelete", {{FIELD_END, 0}}},
    [GOV_MIGRATION_SET] = {"GroupMigrationSet", {G(FIELD_OPTIONAL_BYTES, migration)}},
    [GOV_CONTEXT_CAPABILITY_GRANTED] = {"ContextCapabilityGranted",
                                        {G(FIELD_ID, context), G(FIELD_ID, account),
                                         G(FIELD_MASK, mask)}},
    [GOV_CONTEXT_CAPABILITY_REVOKED] = {"ContextCapabilityRevoked",
                                        {G(FIELD_ID, context), G(FIELD_ID, account),
                                         G(FIELD_MASK, mask)}},
    [GOV_TEE_POLICY_SET] = {"TeeAdmissionPolicySet",
                            {G(FIELD_TEXTS, tee_policy.mrtd), G(FIELD_TEXTS, tee_policy.rtmr0),
                             G(FIELD_TEXTS, tee_policy.rtmr1), G(FIELD_TEXTS, tee_policy.rtmr2),
                             G(FIELD_TEXTS, tee_policy.rtmr3),
                             G(FIELD_TEXTS, tee_policy.tcb_status),
                             G(FIELD_BOOL, tee_policy.accept_mock)}},
    [GOV_GROUP_MEMBER_JOINED_TEE] = {"MemberJoinedViaTeeAttestation",
                                     {G(FIELD_ID, account), G(FIELD_ID, quote),
                                      G(FIELD_CLAIMS, claims), G(FIELD_ROLE, role)}},
    [GOV_AUTO_FOLLOW_SET] = {"MemberSetAutoFollow",
                             {G(FIELD_ID, account), G(FIELD_BOOL, follow_contexts),
                              G(FIELD_BOOL, follow_subgroups)}},
    [GOV_OWNERSHIP_TRANSFERRED] = {"TransferOwnership", {G(FIELD_ID, account)}},
    [GOV_CASCADE_UPGRADE] = {"CascadeUpgrade",
                             {G(FIELD_ID, from_app_key), G(FIELD_ID, app_key),
                              G(FIELD_ID, application), G(FIELD_U32, to_state_version),
                              G(FIELD_OPTIONAL_BYTES, migration), G(FIELD_HLC, hlc)}},
    [GOV_KEY_ROTATED] = {"GroupKeyRotated", {G(FIELD_ID, account)}},
    [GOV_DEVICE_LINKED] = {"AccountDeviceLinked",
                           {G(FIELD_GENESIS, genesis), G(FIELD_CHAIN, chain), G(FIELD_CERT, cert),
                            G(FIELD_ENDORSEMENT, endorsement)}},
    [GOV_DEVICE_UNLINKED] = {"AccountDeviceUnlinked",
                             {G(FIELD_ID, account), G(FIELD_ID, device), G(FIELD_BOOL, has_proof),
                              G(FIELD_REVOCATION_PROOF_IF, proof)}},
    [GOV_ACCOUNT_KEYS_ROTATED] = {"AccountKeysRotated", {G(FIELD_HANDOFF, handoff)}},
    [GOV_KEY_ROTATED_FOR_DEVICE] = {"GroupKeyRotatedForDevice", {G(FIELD_ID, device)}},
};

const char *gov_root_kind_text(uint8_t kind) {
    return kind < GOV_ROOT_KIND_COUNT ? root_variants[kind].name : "?";
}
const char *gov_group_kind_text(uint8_t kind) {
    return kind < GOV_GROUP_KIND_COUNT ? group_variants[kind].name : "?";
}

/* --- operations --- */

static void root_op_read(cal_borsh *in, cal_arena *arena, gov_root_op *op) {
    op->kind = cal_borsh_tag(in, GOV_ROOT_KIND_COUNT);
    gov_fields_read(root_variants[op->kind].fields, in, arena, op);
}

int gov_root_op_decode(cal_slice bytes, cal_arena *arena, gov_root_op *ret_op) {
    cal_borsh in = cal_borsh_read(bytes);
    *ret_op = (gov_root_op){0};
    root_op_read(&in, arena, ret_op);
    return cal_borsh_end(&in);
}

int gov_group_op_decode(cal_slice bytes, cal_arena *arena, gov_group_op *ret_op) {
    cal_borsh in = cal_borsh_read(bytes);
    *ret_op = (gov_group_op){0};
    ret_op->kind = cal_borsh_tag(&in, GOV_GROUP_KIND_COUNT);
    gov_fields_read(group_variants[ret_op->kind].fields, &in, arena, ret_op);
    return cal_borsh_end(&in);
}

int gov_root_op_write(const gov_root_op *op, cal_buffer *out) {
    assert(op->kind < GOV_ROOT_KIND_COUNT);
    cal_buffer_append_u8(out, op->kind);
    return gov_fields_write(root_variants[op->kind].fields, op, out);
}

int gov_group_op_write(const gov_group_op *op, cal_buffer *out) {
    assert(op->kind < GOV_GROUP_KIND_COUNT);
    cal_buffer_append_u8(out, op->kind);
    return gov_fields_write(group_variants[op->kind].fields, op, out);
}

static void rotation_read(cal_borsh *in, cal_arena *arena, gov_rotation *rotation) {
    enum { ENVELOPE_SIZE_MIN = 1 + 32 + 32 + 32 + 12 + 4 + 64 };
    rotation->present = cal_borsh_bool(in);
    if (!rotation->present) return;
    cal_borsh_fixed(in, rotation->new_key_id.bytes, 32);
    rotation->count = cal_borsh_count(in, GOV_ENVELOPES_MAX, ENVELOPE_SIZE_MIN);
    gov_envelope *envelopes = cal_arena_alloc_array(arena, rotation->count, sizeof *envelopes);
    if (!envelopes) {
        cal_borsh_fail(in, CAL_ELIMIT);
        rotation->count = 0;
        return;
    }
    for (uint32_t i = 0; i < rotation->count; i++) gov_envelope_read(in, &envelopes[i]);
    rotation->envelopes = envelopes;
}

static void op_read(cal_borsh *in, cal_arena *arena, gov_op *op) {
    op->group = cal_borsh_tag(in, 2) == 1;
    if (!op->group) {
        root_op_read(in, arena, &op->root);
        return;
    }
    cal_borsh_fixed(in, op->group_id.bytes, 32);
    cal_borsh_fixed(in, op->key_id.bytes, 32);
    cal_borsh_fixed(in, op->nonce, CAL_AEAD_NONCE_SIZE);
    op->sealed = cal_borsh_bytes(in, GOV_OP_MAX); /* the bound is gov_signed_op_check's */
    rotation_read(in, arena, &op->rotation);
}

int gov_op_decode(cal_slice bytes, cal_arena *arena, gov_op *ret_op) {
    cal_borsh in = cal_borsh_read(bytes);
    *ret_op = (gov_op){0};
    op_read(&in, arena, ret_op);
    return cal_borsh_end(&in);
}

int gov_op_write(const gov_op *op, cal_buffer *out) {
    cal_buffer_append_u8(out, op->group);
    if (!op->group) return gov_root_op_write(&op->root, out);
    cal_buffer_append(out, op->group_id.bytes, 32);
    cal_buffer_append(out, op->key_id.bytes, 32);
    cal_buffer_append(out, op->nonce, CAL_AEAD_NONCE_SIZE);
    cal_borsh_put_bytes(out, op->sealed);
    cal_borsh_put_bool(out, op->rotation.present);
    if (!op->rotation.present) return out->error;
    cal_buffer_append(out, op->rotation.new_key_id.bytes, 32);
    cal_buffer_append_u32le(out, op->rotation.count);
    for (uint32_t i = 0; i < op->rotation.count; i++)
        gov_envelope_write(&op->rotation.envelopes[i], out);
    return out->error;
}

/* --- signed operations --- */

static const char namespace_domain[] = "calimero.namespace.v1";
static const char group_domain[] = "calimero.group.v1";
static const gov_field ids_field[] = {{FIELD_IDS, 0}, {FIELD_END, 0}};

int gov_signed_op_decode(cal_slice bytes, cal_arena *arena, gov_signed_op *ret_op) {
    if (bytes.len > GOV_OP_MAX) return CAL_ELIMIT;
    cal_borsh in = cal_borsh_read(bytes);
    *ret_op = (gov_signed_op){0};
    ret_op->version = cal_borsh_u8(&in);
    cal_borsh_fixed(&in, ret_op->namespace_id.bytes, 32);
    gov_fields_read(ids_field, &in, arena, &ret_op->parents);
    cal_borsh_fixed(&in, ret_op->signer, 32);
    ret_op->nonce = cal_borsh_u64(&in);
    op_read(&in, arena, &ret_op->op);
    if (!in.error) ret_op->body = cal_slice_of(bytes.data, bytes.len - in.left);
    cal_borsh_fixed(&in, ret_op->signature, CAL_SIGNATURE_SIZE);
    return cal_borsh_end(&in);
}

static int signed_body_write(const gov_signed_op *op, cal_buffer *out) {
    cal_buffer_append_u8(out, op->version);
    cal_buffer_append(out, op->namespace_id.bytes, 32);
    gov_fields_write(ids_field, &op->parents, out);
    cal_buffer_append(out, op->signer, 32);
    cal_buffer_append_u64le(out, op->nonce);
    return gov_op_write(&op->op, out);
}

int gov_signed_op_write(const gov_signed_op *op, cal_buffer *out) {
    signed_body_write(op, out);
    return cal_buffer_append(out, op->signature, CAL_SIGNATURE_SIZE);
}

void gov_signed_op_id(const gov_signed_op *op, cal_hash *ret_id) {
    const cal_slice parts[] = {cal_slice_text(namespace_domain), op->body};
    cal_sha256_parts(parts, 2, ret_id->bytes);
}

int gov_signed_op_sign(gov_signed_op *op, const cal_secret *signer, cal_buffer *ret_bytes,
                       cal_hash *ret_id) {
    cal_buffer message;
    cal_buffer_init(&message, GOV_OP_MAX);
    size_t domain_len = strlen(namespace_domain);
    op->version = GOV_NAMESPACE_OP_VERSION;
    cal_sign_public_key(signer, op->signer);
    cal_buffer_append_text(&message, namespace_domain);
    int result = signed_body_write(op, &message);
    if (!result) {
        cal_sign(signer, cal_buffer_slice(&message), op->signature);
        cal_sha256(cal_buffer_slice(&message), ret_id->bytes);
        cal_buffer_append(ret_bytes, message.data + domain_len, message.len - domain_len);
        result = cal_buffer_append(ret_bytes, op->signature, CAL_SIGNATURE_SIZE);
    }
    cal_buffer_deinit(&message);
    return result;
}

int gov_signed_op_check(const gov_signed_op *op, cal_error *err) {
    if (op->version != GOV_NAMESPACE_OP_VERSION)
        return cal_fail(err, CAL_EVERSION, "governance operation of version %u, this node knows %d",
                        (unsigned)op->version, GOV_NAMESPACE_OP_VERSION);
    if (op->parents.count > GOV_PARENTS_MAX)
        return cal_fail(err, CAL_ELIMIT, "governance operation with %u parents", op->parents.count);
    if (op->op.group ? op->op.sealed.len > GOV_SEALED_OP_MAX
                     : op->op.root.groups.count > GOV_ID_LIST_MAX ||
                           op->op.root.contexts.count > GOV_ID_LIST_MAX ||
                           op->op.root.policy.len > GOV_BLOB_MAX)
        return cal_fail(err, CAL_ELIMIT,
                        "governance operation with a list or text that is too long");
    cal_buffer message;
    cal_buffer_init(&message, GOV_OP_MAX + sizeof namespace_domain);
    cal_buffer_append_text(&message, namespace_domain);
    int result = cal_buffer_append_slice(&message, op->body);
    bool valid =
        !result && cal_verify_strict(op->signer, cal_buffer_slice(&message), op->signature);
    cal_buffer_deinit(&message);
    if (result) return cal_fail(err, result, "no memory to verify a governance operation");
    return valid ? 0
                 : cal_fail(err, CAL_EVERIFY, "the signature of a governance operation is wrong");
}

int gov_group_op_signable(const cal_group_id *group, const gov_ids *parents,
                          const uint8_t signer[32], uint64_t nonce, const gov_group_op *op,
                          cal_buffer *out) {
    cal_buffer_append_text(out, group_domain);
    cal_buffer_append_u8(out, GOV_GROUP_OP_VERSION);
    cal_buffer_append(out, group->bytes, 32);
    gov_fields_write(ids_field, parents, out);
    cal_buffer_append(out, signer, 32);
    cal_buffer_append_u64le(out, nonce);
    return gov_group_op_write(op, out);
}

/* --- sealing --- */

int gov_group_op_seal(const gov_group_op *op, const cal_secret *group_key,
                      const uint8_t nonce[CAL_AEAD_NONCE_SIZE], cal_buffer *ret_sealed) {
    cal_buffer plain;
    cal_buffer_init(&plain, GOV_SEALED_OP_MAX - CAL_AEAD_TAG_SIZE);
    int result = gov_group_op_write(op, &plain);
    if (!result)
        result = cal_seal(group_key, nonce, (cal_slice){0}, cal_buffer_slice(&plain), ret_sealed);
    cal_buffer_deinit(&plain);
    return result;
}

int gov_group_op_open(cal_slice sealed, const uint8_t nonce[CAL_AEAD_NONCE_SIZE],
                      const cal_secret *group_key, cal_arena *arena, gov_group_op *ret_op) {
    cal_buffer plain;
    cal_buffer_init(&plain, GOV_SEALED_OP_MAX);
    int result = cal_open(group_key, nonce, (cal_slice){0}, sealed, &plain);
    if (!result) {
        const uint8_t *kept = cal_arena_copy(arena, plain.data, plain.len);
        result =
            kept ? gov_group_op_decode(cal_slice_of(kept, plain.len), arena, ret_op) : CAL_ENOMEM;
        if (result == CAL_EDECODE && plain.len && plain.data[0] >= GOV_GROUP_KIND_COUNT)
            result = CAL_EUNSUPPORTED;
    }
    cal_buffer_deinit(&plain);
    return result;
}

/* --- bounds of a plaintext --- */

static bool metadata_fits(const gov_group_op *op) {
    if (op->name.bytes.len > GOV_METADATA_TEXT_MAX || op->data.count > GOV_METADATA_LIST_MAX)
        return false;
    for (uint32_t i = 0; i < op->data.count; i++)
        if (op->data.items[i].key.len > GOV_METADATA_TEXT_MAX ||
            op->data.items[i].value.len > GOV_METADATA_TEXT_MAX)
            return false;
    return true;
}

static bool tee_list_fits(const gov_texts *texts) {
    if (texts->count > GOV_TEE_LIST_MAX) return false;
    for (uint32_t i = 0; i < texts->count; i++)
        if (texts->items[i].len > GOV_TEE_TEXT_MAX) return false;
    return true;
}

int gov_group_op_check(const gov_group_op *op) {
    const gov_tee_policy *tee = &op->tee_policy;
    bool fits = metadata_fits(op) && op->roots.count <= GOV_ID_LIST_MAX &&
                op->migration.bytes.len <= GOV_BLOB_MAX && op->chain.count <= GOV_HANDOFFS_MAX &&
                tee_list_fits(&tee->mrtd) && tee_list_fits(&tee->rtmr0) &&
                tee_list_fits(&tee->rtmr1) && tee_list_fits(&tee->rtmr2) &&
                tee_list_fits(&tee->rtmr3) && tee_list_fits(&tee->tcb_status);
    return fits ? 0 : CAL_ELIMIT;
}
