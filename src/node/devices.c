/* Devices of accounts: pairing, revocation, lists: members.h. */
#include "calimero/members.h"

#include <assert.h>
#include <stdlib.h>

#include "node/change.h"

enum { REVOCATION_ARENA_MAX = 8 * 1024 * 1024, PROOF_MAX = 512 * 1024 };

static_assert(sizeof((cal_pairing *)0)->code == GOV_PAIRING_CODE_MAX &&
                  sizeof((cal_pairing *)0)->statement == CAL_SIGNATURE_SIZE,
              "pairings are handed on as they are");

/* --- lists --- */

struct device_look {
    cal_node *node;
    const cal_group_id *group;
    void (*visit)(void *user, const cal_device_info *info);
    void *user;
    int result;
};

static void visit_device(void *user, const gov_device_info *info) {
    struct device_look *look = user;
    look->visit(look->user, &(cal_device_info){.account = info->account,
                                               .device = info->device,
                                               .sign_key = info->sign_key});
}

static void look_at_devices(void *arg) {
    struct device_look *look = arg;
    cal_gov *gov = look->node->gov;
    cal_account_id self;
    look->result = gov_acting_account(gov, look->group, &self);
    if (look->result != 0) return;
    bool admin = gov_member_admin(gov, look->group, &self);
    if (!admin && gov_member_path(gov, look->group, &self, NULL) == GOV_PATH_NONE)
        look->result = CAL_EDENIED;
    else
        look->result =
            gov_group_devices(gov, look->group, admin ? NULL : &self, visit_device, look);
}

int cal_device_each(cal_node *node, const cal_group_id *group,
                    void (*visit)(void *user, const cal_device_info *info), void *user) {
    struct device_look look = {.node = node, .group = group, .visit = visit, .user = user};
    cal_node_run(node, look_at_devices, &look);
    return look.result;
}

/* --- pairing --- */

struct pairing {
    node_change base;
    cal_public_key root_key;
    gov_pairing pairing;
    size_t keys;
    cal_pair_begun begun;
    cal_pair_completed completed;
};

static cal_pairing shown(const gov_pairing *pairing) {
    cal_pairing out = {
        .account = pairing->account, .device = pairing->device, .sign_key = pairing->sign_key};
    memcpy(out.kem_key, pairing->kem_key, sizeof out.kem_key);
    memcpy(out.statement, pairing->statement, sizeof out.statement);
    memcpy(out.code, pairing->code, sizeof out.code);
    return out;
}

static int prepare_begin(node_change *base, cal_error *err) {
    struct pairing *pairing = CAL_CONTAINER_OF(base, struct pairing, base);
    return gov_pair_begin(node_change_gov(base), &pairing->root_key, &pairing->pairing,
                          &base->commit.batch, err);
}

static void answer_begin(node_change *base, const cal_error *err) {
    struct pairing *pairing = CAL_CONTAINER_OF(base, struct pairing, base);
    cal_pairing out = shown(&pairing->pairing);
    pairing->begun(base->user, err, err ? NULL : &out);
}

void cal_pair_begin(cal_node *node, const cal_public_key *account_root_key, cal_pair_begun done,
                    void *user) {
    struct pairing *pairing = node_change_new(sizeof *pairing, NULL, prepare_begin, NULL, user);
    if (!pairing) {
        cal_error err;
        cal_fail(&err, CAL_ENOMEM, "out of memory");
        done(user, &err, NULL);
        return;
    }
    pairing->root_key = *account_root_key;
    pairing->begun = done;
    pairing->base.rows_only = true;
    pairing->base.answer = answer_begin;
    node_change_run(node, &pairing->base);
}

static int prepare_complete(node_change *base, cal_error *err) {
    struct pairing *pairing = CAL_CONTAINER_OF(base, struct pairing, base);
    return gov_pair_complete(node_change_gov(base), &base->group, &pairing->pairing, &pairing->keys,
                             &base->commit.change, err);
}

static void answer_complete(node_change *base, const cal_error *err) {
    struct pairing *pairing = CAL_CONTAINER_OF(base, struct pairing, base);
    cal_pairing out = shown(&pairing->pairing);
    out.account = gov_self(node_change_gov(base))->account;
    pairing->completed(base->user, err, err ? NULL : &out, pairing->keys);
}

void cal_pair_complete(cal_node *node, const cal_group_id *namespace_id, const cal_pairing *given,
                       cal_pair_completed done, void *user) {
    struct pairing *pairing =
        node_change_new(sizeof *pairing, namespace_id, prepare_complete, NULL, user);
    if (!pairing) {
        cal_error err;
        cal_fail(&err, CAL_ENOMEM, "out of memory");
        done(user, &err, NULL, 0);
        return;
    }
    gov_pairing *out = &pairing->pairing;
    out->device = given->device;
    out->sign_key = given->sign_key;
    memcpy(out->kem_key, given->kem_key, sizeof out->kem_key);
    memcpy(out->statement, given->statement, sizeof out->statement);
    memcpy(out->code, given->code, sizeof out->code);
    out->code[sizeof out->code - 1] = 0;
    pairing->completed = done;
    pairing->base.answer = answer_complete;
    node_change_run(node, &pairing->base);
}

/* --- revoking: in the namespace that was named, then in the others that know the device --- */

struct revocation {
    node_operation operation;
    cal_arena arena;
    cal_slice proof_bytes; /* of the caller; len 0: none */
    gov_revocation_proof proof;
    cal_revoked revoked;
    cal_revoked_in *in;       /* where it was revoked */
    cal_group_id *namespaces; /* to ask; the first is the one that was named */
    size_t count, at;
    cal_revoke_done done;
    void *user;
};

/* In one namespace. */
struct revocation_step {
    node_change base;
    struct revocation *revocation;
    bool rotated;
};

static void finish_revocation(struct revocation *revocation, const cal_error *err) {
    cal_node *node = revocation->operation.node;
    revocation->revoked.namespaces = revocation->in;
    revocation->done(revocation->user, err, err ? NULL : &revocation->revoked);
    cal_arena_deinit(&revocation->arena);
    free(revocation);
    node_end(node);
}

static void note_account(void *user, const gov_device_info *info) {
    struct revocation *revocation = user;
    if (memcmp(&info->device, &revocation->revoked.device, sizeof info->device) == 0)
        revocation->revoked.account = info->account;
}

static int prepare_step(node_change *base, cal_error *err) {
    struct revocation_step *step = CAL_CONTAINER_OF(base, struct revocation_step, base);
    struct revocation *revocation = step->revocation;
    const gov_revocation_proof *proof = revocation->proof_bytes.len ? &revocation->proof : NULL;
    step->rotated = false;
    if (proof)
        revocation->revoked.account = proof->revocation.account;
    else
        gov_group_devices(node_change_gov(base), &base->group, NULL, note_account, revocation);
    return gov_device_revoke(node_change_gov(base), &base->group, &revocation->revoked.device,
                             proof, &step->rotated, &base->commit.change, err);
}

static void next_step(struct revocation *revocation);

static void answer_step(node_change *base, const cal_error *err) {
    struct revocation_step *step = CAL_CONTAINER_OF(base, struct revocation_step, base);
    struct revocation *revocation = step->revocation;
    if (err && revocation->at == 1) {
        finish_revocation(revocation, err);
        return;
    }
    if (!err)
        revocation->in[revocation->revoked.namespace_count++] =
            (cal_revoked_in){.namespace_id = base->group, .key_rotated = step->rotated};
    else if (err->code != CAL_ENOTFOUND)
        cal_log(CAL_LOG_WARN, "node", "a revoked device stays in another namespace: %s",
                err->message);
    next_step(revocation);
}

static void next_step(struct revocation *revocation) {
    cal_error err;
    if (revocation->at == revocation->count) {
        finish_revocation(revocation, NULL);
        return;
    }
    struct revocation_step *step = node_change_new(
        sizeof *step, &revocation->namespaces[revocation->at], prepare_step, NULL, NULL);
    if (!step) {
        cal_fail(&err, CAL_ENOMEM, "out of memory");
        finish_revocation(revocation, &err);
        return;
    }
    revocation->at++;
    step->revocation = revocation;
    step->base.answer = answer_step;
    node_change_run(revocation->operation.node, &step->base);
}

static void count_namespace(void *user, const gov_group_info *info) {
    (void)info;
    ++*(size_t *)user;
}

static void add_namespace(void *user, const gov_group_info *info) {
    struct revocation *revocation = user;
    if (!info->joining && memcmp(&info->id, &revocation->namespaces[0], sizeof info->id) != 0)
        revocation->namespaces[revocation->count++] = info->id;
}

static int begin_revocation(struct revocation *revocation, cal_error *err) {
    cal_gov *gov = revocation->operation.node->gov;
    cal_group_id named = revocation->namespaces[0];
    size_t count = 1;
    gov_namespace_each(gov, count_namespace, &count);
    revocation->namespaces =
        cal_arena_alloc_array(&revocation->arena, count, sizeof *revocation->namespaces);
    revocation->in = cal_arena_alloc_array(&revocation->arena, count, sizeof *revocation->in);
    if (!revocation->namespaces || !revocation->in)
        return cal_fail(err, CAL_ENOMEM, "out of memory");
    revocation->namespaces[0] = named;
    revocation->count = 1;
    gov_namespace_each(gov, add_namespace, revocation);
    if (revocation->proof_bytes.len == 0) return 0;
    cal_borsh in = cal_borsh_read(revocation->proof_bytes);
    gov_revocation_proof_read(&in, &revocation->arena, &revocation->proof);
    return cal_borsh_end(&in) == 0
               ? 0
               : cal_fail(err, CAL_EDECODE,
                          "proof is not a revocation proof: it should be the output of `merod "
                          "account revoke-proof`");
}

static void start_revocation(node_operation *operation) {
    struct revocation *revocation = CAL_CONTAINER_OF(operation, struct revocation, operation);
    cal_error err;
    if (begin_revocation(revocation, &err) != 0)
        finish_revocation(revocation, &err);
    else
        next_step(revocation);
}

void cal_device_revoke(cal_node *node, const cal_group_id *namespace_id,
                       const cal_device_id *device, const uint8_t *proof, size_t proof_len,
                       cal_revoke_done done, void *user) {
    struct revocation *revocation = calloc(1, sizeof *revocation);
    bool fine = revocation != NULL;
    if (fine) {
        cal_arena_init(&revocation->arena, REVOCATION_ARENA_MAX);
        revocation->namespaces =
            cal_arena_copy(&revocation->arena, namespace_id, sizeof *namespace_id);
        void *copy = proof_len ? cal_arena_copy(&revocation->arena, proof, proof_len) : NULL;
        fine = revocation->namespaces && (copy || proof_len == 0);
        revocation->proof_bytes = cal_slice_of(copy, copy ? proof_len : 0);
        revocation->revoked.device = *device;
        revocation->done = done;
        revocation->user = user;
    }
    if (fine) {
        node_begin(node, &revocation->operation, start_revocation);
        return;
    }
    cal_error err;
    if (revocation) cal_arena_deinit(&revocation->arena);
    free(revocation);
    cal_fail(&err, CAL_ENOMEM, "out of memory");
    done(user, &err, NULL);
}

struct proof_look {
    cal_node *node;
    const cal_device_id *device;
    void (*visit)(void *user, const uint8_t *proof, size_t len);
    void *user;
    int result;
};

static void look_at_proof(void *arg) {
    struct proof_look *look = arg;
    gov_revocation_proof proof;
    cal_buffer bytes;
    cal_buffer_init(&bytes, PROOF_MAX);
    gov_device_revocation(look->node->gov, look->device, &proof);
    look->result = gov_revocation_proof_write(&proof, &bytes);
    if (look->result == 0) look->visit(look->user, bytes.data, bytes.len);
    cal_buffer_deinit(&bytes);
}

int cal_device_revocation(cal_node *node, const cal_device_id *device,
                          void (*visit)(void *user, const uint8_t *proof, size_t len), void *user) {
    struct proof_look look = {.node = node, .device = device, .visit = visit, .user = user};
    cal_node_run(node, look_at_proof, &look);
    return look.result;
}
