/* The tables through which lower modules reach each other: blobs for guests and for bundles,
 * governance for contexts. */
#include <stdlib.h>
#include <string.h>

#include "gov/members.h"
#include "node/internal.h"

/* --- blobs for installing and loading code --- */

static int code_create(void *user, void **ret_writer, cal_error *err) {
    cal_blobs_writer *put = NULL;
    int rc = cal_blobs_create(((cal_node *)user)->blobs, CAL_BLOB_UPLOAD_MAX, &put, NULL);
    if (rc != 0) return cal_fail(err, rc, "a blob could not be started: %s", cal_error_text(rc));
    *ret_writer = put;
    return 0;
}

static int code_write(void *user, void *writer, cal_slice bytes, cal_error *err) {
    (void)user;
    return cal_blobs_write(writer, bytes, err);
}

static int code_finish(void *user, void *writer, cal_blob_id *ret_id, cal_error *err) {
    (void)user;
    cal_blobs_info record;
    int rc = cal_blobs_finish(writer, NULL, &record, err);
    if (rc == 0) *ret_id = record.id;
    return rc;
}

static void code_remove(void *user, const cal_blob_id *id) {
    cal_error err;
    if (cal_blobs_delete(((cal_node *)user)->blobs, id, &err) != 0)
        cal_log(CAL_LOG_WARN, "node", "a refused installation left a blob behind: %s", err.message);
}

static void any_abort(void *user, void *writer) {
    (void)user;
    cal_blobs_abort(writer);
}

static int code_open(void *user, const cal_blob_id *id, void **ret_reader, uint64_t *ret_size,
                     cal_error *err) {
    cal_blobs_reader *get = NULL;
    cal_blobs_info record;
    int rc = cal_blobs_read_open(((cal_node *)user)->blobs, id, &get, &record, NULL);
    if (rc != 0) {
        char text[CAL_ID_TEXT_MAX];
        cal_id_to_base58(id->bytes, text);
        return cal_fail(err, rc, "blob %s: %s", text, cal_error_text(rc));
    }
    *ret_reader = get;
    *ret_size = record.size;
    return 0;
}

static int64_t any_read(void *user, void *reader, uint8_t *ret_bytes, size_t len) {
    (void)user;
    return reader ? cal_blobs_read(reader, ret_bytes, len) : 0;
}

static void any_close(void *user, void *reader) {
    (void)user;
    cal_blobs_read_close(reader);
}

/* --- blobs for guests (runtime-abi.md 19) --- */

static int guest_create(void *user, void **ret_writer) {
    return code_create(user, ret_writer, NULL);
}

static int guest_write(void *user, void *writer, cal_slice bytes) {
    return code_write(user, writer, bytes, NULL);
}

static int guest_finish(void *user, void *writer, uint8_t ret_id[32]) {
    cal_blob_id id;
    int rc = code_finish(user, writer, &id, NULL);
    if (rc == 0) memcpy(ret_id, id.bytes, 32);
    return rc;
}

/* A blob that is not here opens as well, and reads as empty: the guest learns it from the first
 * read. */
static int guest_open(void *user, const uint8_t id[32], void **ret_reader) {
    cal_blob_id blob;
    memcpy(blob.bytes, id, 32);
    uint64_t size;
    *ret_reader = NULL;
    int rc = code_open(user, &blob, ret_reader, &size, NULL);
    return rc == CAL_ENOTFOUND ? 0 : rc;
}

struct guest_announcement {
    cal_task task;
    cal_node *node;
    cal_blob_id blob;
    cal_context_id context;
    uint64_t size;
};

static void announce_now(cal_task *task) {
    struct guest_announcement *a = CAL_CONTAINER_OF(task, struct guest_announcement, task);
    int rc = node_blob_announce(a->node, &a->blob, a->size, &a->context);
    if (rc != 0)
        cal_log(CAL_LOG_DEBUG, "node", "a blob of an application is not announced: %s",
                cal_error_text(rc));
    free(a);
}

/* What the guest learns is whether the blob is here; the rest is the network's business. */
static int guest_announce(void *user, const uint8_t id[32], const uint8_t context[32]) {
    cal_node *node = user;
    cal_blobs_info record;
    struct guest_announcement *a = calloc(1, sizeof *a);
    if (!a) return CAL_ENOMEM;
    memcpy(a->blob.bytes, id, 32);
    memcpy(a->context.bytes, context, 32);
    int rc = cal_blobs_stat(node->blobs, &a->blob, &record);
    if (rc != 0) {
        free(a);
        return rc;
    }
    a->node = node;
    a->size = record.size;
    a->task.run = announce_now;
    node_post(node, &a->task); /* before the call's answer, so the loop still runs */
    return 0;
}

void node_lend(cal_node *node) {
    node->app_blobs = (cal_app_blobs){.user = node,
                                      .create = code_create,
                                      .write = code_write,
                                      .finish = code_finish,
                                      .abort = any_abort,
                                      .open = code_open,
                                      .read = any_read,
                                      .close = any_close,
                                      .remove = code_remove};
    node->vm_blobs = (cal_vm_blobs){.user = node,
                                    .create = guest_create,
                                    .write = guest_write,
                                    .finish = guest_finish,
                                    .abort = any_abort,
                                    .open = guest_open,
                                    .read = any_read,
                                    .close = any_close,
                                    .announce = guest_announce};
}

/* --- governance for contexts --- */

static uint64_t version(void *user) { return gov_version(((cal_node *)user)->gov); }

static int executor(void *user, const cal_group_id *group, cal_executor *ret_executor) {
    cal_node *node = user;
    const gov_identity *self = gov_self(node->gov);
    gov_role role = GOV_ROLE_MEMBER;
    cal_group_id namespace_id;
    cal_account_id account; /* another one's where this node was paired to it */
    int rc = gov_group_namespace(node->gov, group, &namespace_id);
    if (rc == 0) rc = gov_acting_account(node->gov, group, &account);
    if (rc != 0) return rc;
    if (gov_member_path(node->gov, group, &account, &role) == GOV_PATH_NONE) return CAL_EDENIED;
    *ret_executor =
        (cal_executor){.account = account,
                       .device = self->sign_key,
                       .read_only = role == GOV_ROLE_READ_ONLY || role == GOV_ROLE_READ_ONLY_TEE};
    return 0;
}

static int code(void *user, const cal_group_id *group, cal_blob_id *ret_code) {
    return gov_group_code(((cal_node *)user)->gov, group, ret_code);
}

static int position(void *user, const cal_context_id *context, cal_buffer *ret_heads) {
    gov_write_grant grant;
    int rc = gov_context_write(((cal_node *)user)->gov, context, &grant, NULL);
    if (rc != 0) return rc;
    cal_secret_wipe(&grant.group_key);
    return cal_buffer_append(ret_heads, grant.position.heads,
                             grant.position.count * sizeof grant.position.heads[0]);
}

static int seal_key(void *user, const cal_context_id *context, cal_secret *ret_key,
                    cal_hash *ret_key_id) {
    gov_write_grant grant;
    int rc = gov_context_write(((cal_node *)user)->gov, context, &grant, NULL);
    if (rc != 0) return rc;
    *ret_key = grant.group_key;
    *ret_key_id = grant.key_id;
    cal_secret_wipe(&grant.group_key);
    return 0;
}

static void sign(void *user, cal_slice message, uint8_t ret_signature[64]) {
    gov_sign(((cal_node *)user)->gov, message, ret_signature);
}

cal_context_authority node_authority(cal_node *node) {
    return (cal_context_authority){.user = node,
                                   .version = version,
                                   .executor = executor,
                                   .code = code,
                                   .position = position,
                                   .sign = sign,
                                   .seal_key = seal_key};
}
