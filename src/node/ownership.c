/* Ownership proofs: what an admin says to a third party, in the reference's bytes (its handler
 * issue_ownership_proof: domain, then JSON in this order): members.h. */
#include <stdlib.h>
#include <yyjson.h>

#include "calimero/members.h"
#include "codec/utf8.h"
#include "node/change.h"

enum { FIELD_MAX = 256, NONCE_MIN = 8, LIFETIME_MS = 5 * 60 * 1000, PAYLOAD_MAX = 16 * 1024 };

static const char domain[] = "calimero.ownership-claim.v1"; /* with its NUL */

struct proving {
    cal_node *node;
    const cal_ownership_claim *claim;
    void (*visit)(void *user, const cal_ownership_proof *proof);
    void *user;
    cal_error *err;
    int result;
};

static bool has_control(const char *text) {
    for (const unsigned char *c = (const unsigned char *)text; *c; c++)
        if (*c < 0x20 || *c == 0x7f || (*c == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0)) return true;
    return false;
}

static int check_field(const char *name, const char *text, size_t min, cal_error *err) {
    size_t len = strlen(text);
    if (len == 0) return cal_fail(err, CAL_EINVAL, "ownership-proof `%s` must not be empty", name);
    if (len > FIELD_MAX)
        return cal_fail(err, CAL_EINVAL, "ownership-proof `%s` is %zu bytes; maximum is %d", name,
                        len, FIELD_MAX);
    if (has_control(text))
        return cal_fail(err, CAL_EINVAL, "ownership-proof `%s` must not contain control characters",
                        name);
    if (len < min)
        return cal_fail(err, CAL_EINVAL, "ownership-proof `%s` must be at least %zu bytes", name,
                        min);
    return cal_utf8_valid(cal_slice_of(text, len))
               ? 0
               : cal_fail(err, CAL_EINVAL, "ownership-proof `%s` is not UTF-8", name);
}

/* The context's group is the claim's, or below it. */
static int check_context(cal_gov *gov, const cal_ownership_claim *claim, cal_error *err) {
    cal_group_id group, namespace_id;
    if (gov_context_group(gov, claim->context, &group, &namespace_id) != 0)
        return cal_fail(err, CAL_ENOTFOUND, "the context is not registered in any group");
    for (int depth = 0; depth <= GOV_DEPTH_MAX; depth++) {
        gov_group_info info;
        if (memcmp(&group, &claim->group, sizeof group) == 0) return 0;
        if (gov_group_get(gov, &group, &info) != 0 ||
            memcmp(&info.parent, &group, sizeof group) == 0)
            break;
        group = info.parent;
    }
    return cal_fail(err, CAL_EINVAL, "the context is not within the group or one below it");
}

static int check_claim(const struct proving *proving, cal_error *err) {
    const cal_ownership_claim *claim = proving->claim;
    cal_gov *gov = proving->node->gov;
    gov_group_info info;
    gov_role role;
    int rc = check_field("audience", claim->audience, 1, err);
    if (rc == 0) rc = check_field("subject", claim->subject, 1, err);
    if (rc == 0) rc = check_field("nonce", claim->nonce, NONCE_MIN, err);
    if (rc != 0) return rc;
    if (gov_group_get(gov, &claim->group, &info) != 0 || info.joining)
        return cal_fail(err, CAL_ENOTFOUND, "no such group on this node");
    /* By this node's own account: the signer is found among the admins by its key. */
    if (gov_member_path(gov, &claim->group, &gov_self(gov)->account, &role) != GOV_PATH_DIRECT ||
        role != GOV_ROLE_ADMIN)
        return cal_fail(err, CAL_EDENIED, "node is not a direct admin of this group");
    if (claim->context) return check_context(gov, claim, err);
    return memcmp(&info.id, &info.namespace_id, sizeof info.id) == 0
               ? 0
               : cal_fail(err, CAL_EINVAL, "group_id must reference a namespace root group");
}

static char *write_payload(const struct proving *proving, uint64_t now_ms, uint64_t expires_ms,
                           size_t *ret_len) {
    const cal_ownership_claim *claim = proving->claim;
    char group[CAL_ID_TEXT_MAX], issuer[CAL_ID_TEXT_MAX], context[CAL_ID_TEXT_MAX] = "";
    cal_id_to_hex(claim->group.bytes, group);
    cal_id_to_base58(gov_self(proving->node->gov)->sign_key.bytes, issuer);
    if (claim->context) cal_id_to_base58(claim->context->bytes, context);
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    bool fine = yyjson_mut_obj_add_uint(doc, root, "v", 1) &&
                yyjson_mut_obj_add_str(doc, root, "audience", claim->audience) &&
                yyjson_mut_obj_add_str(doc, root, "group_id", group) &&
                yyjson_mut_obj_add_str(doc, root, "issuer_identity", issuer) &&
                yyjson_mut_obj_add_str(doc, root, "context_id", context) &&
                yyjson_mut_obj_add_str(doc, root, "subject", claim->subject) &&
                yyjson_mut_obj_add_str(doc, root, "nonce", claim->nonce) &&
                yyjson_mut_obj_add_uint(doc, root, "issued_at_ms", now_ms) &&
                yyjson_mut_obj_add_uint(doc, root, "expires_at_ms", expires_ms);
    char *text = fine ? yyjson_mut_write(doc, YYJSON_WRITE_NOFLAG, ret_len) : NULL;
    yyjson_mut_doc_free(doc);
    return text;
}

static void prove(void *arg) {
    struct proving *proving = arg;
    const cal_os *os = proving->node->os;
    uint64_t now_ms = os->wall_ns(os->user) / 1000000;
    uint64_t expires_ms = proving->claim->expires_at_ms;
    size_t len = 0;
    proving->result = check_claim(proving, proving->err);
    if (proving->result != 0) return;
    if (expires_ms > now_ms + LIFETIME_MS) expires_ms = now_ms + LIFETIME_MS;
    if (expires_ms <= now_ms) {
        proving->result = cal_fail(proving->err, CAL_EINVAL, "expires_at_ms must be in the future");
        return;
    }
    char *payload = write_payload(proving, now_ms, expires_ms, &len);
    cal_buffer message;
    cal_buffer_init(&message, PAYLOAD_MAX);
    cal_buffer_append(&message, domain, sizeof domain);
    if (payload) cal_buffer_append(&message, payload, len);
    if (payload && !message.error) {
        cal_ownership_proof proof = {.signer = gov_self(proving->node->gov)->sign_key,
                                     .payload = payload,
                                     .payload_len = len};
        gov_sign(proving->node->gov, cal_buffer_slice(&message), proof.signature);
        proving->visit(proving->user, &proof);
    } else {
        proving->result = cal_fail(proving->err, CAL_ENOMEM, "out of memory");
    }
    cal_buffer_deinit(&message);
    free(payload);
}

int cal_ownership_prove(cal_node *node, const cal_ownership_claim *claim,
                        void (*visit)(void *user, const cal_ownership_proof *proof), void *user,
                        cal_error *err) {
    struct proving proving = {
        .node = node, .claim = claim, .visit = visit, .user = user, .err = err};
    cal_node_run(node, prove, &proving);
    return proving.result;
}
