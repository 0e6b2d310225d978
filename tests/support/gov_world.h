/* Governance of several nodes in one test: actors that sign (seeds of the test), replicas that
 * receive, and operations built byte for byte as they travel.
 *
 * No replica authors anything here: the namespace is founded by an actor, and a replica only holds
 * the keys it is given. So what a replica's rows say is a function of what it received. */
#ifndef CAL_TESTS_GOV_WORLD_H
#define CAL_TESTS_GOV_WORLD_H

#include <ftw.h>
#include <stdio.h>
#include <unistd.h>

#include "golden.h"
#include "gov/graph.h"
#include "store/key.h"

typedef struct gov_actor {
    cal_secret root, sign, kem;
    cal_account_id account;
    cal_device_id device;
    gov_credential credential;
    uint8_t key[32];
} gov_actor;

static inline void gov_actor_make(gov_actor *a, uint8_t fill) {
    uint8_t nonce[GOV_DEVICE_NONCE_SIZE];
    gov_cert *cert = &a->credential.cert;
    memset(a, 0, sizeof *a);
    memset(a->root.bytes, fill, 32);
    memset(a->sign.bytes, fill + 1, 32);
    memset(a->kem.bytes, fill + 2, 32);
    memset(nonce, fill + 3, sizeof nonce);
    a->credential.genesis.version = GOV_GENESIS_VERSION;
    cal_sign_public_key(&a->root, a->credential.genesis.root_key);
    cal_sign_public_key(&a->sign, a->key);
    gov_account_id(&a->credential.genesis, &a->account);
    cert->account = a->account;
    gov_device_id(&a->account, nonce, &cert->device);
    a->device = cert->device;
    memcpy(cert->sign_key, a->key, 32);
    cal_agree_public_key(&a->kem, cert->kem_key);
    gov_cert_sign(cert, &a->root);
}

/* --- replicas --- */

typedef struct gov_replica {
    char folder[64], key_file[96];
    cal_key_source key;
    cal_store_options options;
    cal_store *store;
    cal_gov *gov;
    cal_error err;
} gov_replica;

static inline int gov_world_remove(const char *path, const struct stat *stat, int kind,
                                   struct FTW *walk) {
    (void)stat, (void)kind, (void)walk;
    return remove(path);
}

static inline void gov_replica_open(gov_replica *r) {
    assert_int_equal(cal_store_open(&r->options, &r->store, &r->err), 0);
    assert_int_equal(gov_open(r->store, cal_os_posix(), &r->gov, &r->err), 0);
}

static inline void gov_replica_start(gov_replica *r) {
    memset(r, 0, sizeof *r);
    strcpy(r->folder, "/tmp/cal_gov_XXXXXX");
    assert_non_null(mkdtemp(r->folder));
    snprintf(r->key_file, sizeof r->key_file, "%s/master.key", r->folder);
    r->key = (cal_key_source){CAL_KEY_FILE, r->key_file};
    r->options =
        (cal_store_options){.folder = r->folder, .durability = CAL_DURABLE_PROCESS, .key = &r->key};
    assert_int_equal(cal_store_create(&r->options, &r->err), 0);
    gov_replica_open(r);
}

static inline void gov_replica_close(gov_replica *r) {
    gov_close(r->gov);
    cal_store_close(r->store);
    r->gov = NULL;
    r->store = NULL;
}

/* What is in memory only is gone, as after a crash. */
static inline void gov_replica_reopen(gov_replica *r) {
    gov_replica_close(r);
    gov_replica_open(r);
}

static inline void gov_replica_stop(gov_replica *r) {
    gov_replica_close(r);
    nftw(r->folder, gov_world_remove, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void gov_replica_commit(gov_replica *r, gov_change *change) {
    cal_batch *batch = cal_batch_new();
    assert_int_equal(cal_batch_merge(batch, gov_change_batch(change)), 0);
    assert_int_equal(cal_store_commit(r->store, batch, &r->err), 0);
    gov_change_commit(change);
}

static inline gov_view gov_replica_view(const gov_replica *r, const cal_group_id *ns) {
    const gov_namespace *found = gov_namespace_find(r->gov, ns);
    static const cal_sorted none;
    return found ? gov_view_of(found) : (gov_view){.base = &none, .namespace_id = *ns};
}

static inline void gov_world_report(void *user, const char *finding) {
    print_error("%s\n", finding);
    ++*(int *)user;
}

/* The stored operations and the rows agree with one another. */
static inline void gov_replica_check(gov_replica *r) {
    cal_snapshot *snapshot;
    int findings = 0;
    assert_int_equal(cal_store_snapshot(r->store, &snapshot), 0);
    assert_int_equal(gov_check(r->gov, snapshot, gov_world_report, &findings), 0);
    cal_snapshot_free(snapshot);
}

/* --- operations --- */

typedef struct gov_world {
    gov_actor owner;
    cal_group_id ns;
    cal_secret ns_key; /* sealed operations of the namespace and its open groups */
    uint64_t nonce;
} gov_world;

typedef struct gov_packet { /* an operation as it travels */
    cal_hash id;
    cal_buffer bytes;
} gov_packet;

static inline void gov_world_init(gov_world *w, uint8_t fill) {
    memset(w, 0, sizeof *w);
    gov_actor_make(&w->owner, fill);
    memset(w->ns.bytes, fill, 32);
    memset(w->ns_key.bytes, fill + 1, 32);
    w->nonce = 1;
}

static inline void gov_packet_free(gov_packet *p) { cal_buffer_deinit(&p->bytes); }

static inline gov_packet gov_world_sign(gov_world *w, const cal_secret *signer,
                                        const cal_hash *parents, uint32_t count, gov_op op) {
    gov_packet p;
    gov_signed_op signed_op = {
        .namespace_id = w->ns, .nonce = w->nonce++, .op = op, .parents = {parents, count}};
    cal_buffer_init(&p.bytes, GOV_OP_MAX);
    assert_int_equal(gov_signed_op_sign(&signed_op, signer, &p.bytes, &p.id), 0);
    return p;
}

static inline gov_packet gov_world_root(gov_world *w, const cal_secret *signer,
                                        const cal_hash *parents, uint32_t count, gov_root_op op) {
    if (op.invitation.signature_text[0])
        op.invitation.signature = cal_slice_text(op.invitation.signature_text);
    op.envelope.sealed = cal_slice_of(op.envelope.sealed_bytes, sizeof op.envelope.sealed_bytes);
    return gov_world_sign(w, signer, parents, count, (gov_op){.root = op});
}

static inline gov_packet gov_world_sealed(gov_world *w, const cal_secret *signer,
                                          const cal_hash *parents, uint32_t count,
                                          cal_group_id group, const cal_secret *key,
                                          gov_group_op op) {
    gov_op sealed = {.group = true, .group_id = group};
    cal_buffer bytes;
    cal_buffer_init(&bytes, GOV_SEALED_OP_MAX);
    gov_key_id(key, &sealed.key_id);
    cal_write_u64le(sealed.nonce, w->nonce);
    assert_int_equal(gov_group_op_seal(&op, key, sealed.nonce, &bytes), 0);
    sealed.sealed = cal_buffer_slice(&bytes);
    gov_packet p = gov_world_sign(w, signer, parents, count, sealed);
    cal_buffer_deinit(&bytes);
    return p;
}

static inline gov_packet gov_world_group(gov_world *w, const cal_secret *signer,
                                         const cal_hash *parents, uint32_t count,
                                         cal_group_id group, gov_group_op op) {
    return gov_world_sealed(w, signer, parents, count, group, &w->ns_key, op);
}

static inline gov_packet gov_world_genesis(gov_world *w) {
    return gov_world_root(w, &w->owner.sign, NULL, 0,
                          (gov_root_op){.kind = GOV_NAMESPACE_CREATED,
                                        .account = w->owner.account,
                                        .credential = w->owner.credential});
}

/* An invitation of the inviter's; role as in its byte. */
static inline gov_root_op gov_world_join(const gov_actor *who, const gov_actor *inviter,
                                         cal_group_id group, uint8_t role, uint8_t nonce) {
    gov_root_op op = {.kind = GOV_MEMBER_JOINED_AT,
                      .account = who->account,
                      .credential = who->credential,
                      .joined_at_s = 1000,
                      .invitation = {.group = group, .expires_at_s = 2000, .role = role}};
    memset(op.invitation.nonce, nonce, 32);
    gov_invitation_sign(&op.invitation, &inviter->sign);
    return op;
}

/* --- receiving --- */

/* Gives the replica a key, as the pull of one does. */
static inline void gov_replica_key(gov_replica *r, const cal_group_id *ns,
                                   const cal_group_id *group, const cal_secret *key) {
    gov_change *change;
    assert_int_equal(gov_change_begin(r->gov, ns, &change, &r->err), 0);
    gov_put_key(change, group, key, 0);
    int result = gov_apply_unsealed(change, &r->err);
    if (!result) result = gov_unseal_step(change, &r->err);
    assert_int_equal(gov_change_finish(change, result, &change, &r->err), 0);
    gov_replica_commit(r, change);
    while (gov_namespace_find(r->gov, ns)->unsealing) { /* the rest of what it opens */
        assert_int_equal(gov_receive(r->gov, ns, NULL, 0, 0, &change, &r->err), 0);
        gov_replica_commit(r, change);
    }
}

static inline gov_change *gov_replica_receive(gov_replica *r, const cal_group_id *ns,
                                              const gov_packet *const *packets, size_t count) {
    gov_verified *ops[GOV_RECEIVE_OPS_MAX];
    gov_change *change;
    assert_true(count <= GOV_RECEIVE_OPS_MAX);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(gov_verify(cal_buffer_slice(&packets[i]->bytes), &ops[i]), 0);
    int result = gov_receive(r->gov, ns, ops, count, 1, &change, &r->err);
    if (result) print_error("%s\n", r->err.message);
    assert_int_equal(result, 0);
    return change;
}

/* One operation; what became of it. */
static inline gov_receipt gov_replica_take(gov_replica *r, const cal_group_id *ns,
                                           const gov_packet *packet) {
    size_t count;
    gov_change *change = gov_replica_receive(r, ns, &packet, 1);
    gov_receipt receipt = gov_change_receipts(change, &count)[0];
    assert_true(count >= 1);
    gov_replica_commit(r, change);
    return receipt;
}

/* --- comparing --- */

/* What two replicas that received the same must agree on: no clocks, no numbers of their own. */
static inline void gov_world_dump(const gov_replica *r, const cal_group_id *ns, cal_buffer *out) {
    const gov_namespace *found = gov_namespace_find(r->gov, ns);
    if (!found) return;
    cal_sorted_node *node = cal_sorted_from(&found->rows, (cal_slice){0});
    for (; node; node = node->next[0]) {
        const gov_row *row = node->value;
        uint8_t kind = node->key.data[0];
        size_t from = 0, len = row->len;
        if (kind == ROW_META) len -= 8;
        if (kind == ROW_GROUP_DATA || kind == ROW_MEMBER_DATA || kind == ROW_CONTEXT_DATA) from = 8;
        if (kind == ROW_KEY) len = 32;
        if (kind == ROW_KEY_EPOCH) len = 8;
        if (kind == ROW_DEVICE_GONE) len = 0; /* numbers are of the order of arrival */
        if (kind == ROW_HEADS) len = 0;       /* a set; gov_check compares it with the operations */
        cal_buffer_append_slice(out, node->key);
        cal_buffer_append(out, row->bytes + from, len - from);
    }
}

static inline void gov_world_same(const gov_replica *a, const gov_replica *b,
                                  const cal_group_id *ns) {
    cal_buffer x, y;
    cal_buffer_init(&x, 64 << 20);
    cal_buffer_init(&y, 64 << 20);
    gov_world_dump(a, ns, &x);
    gov_world_dump(b, ns, &y);
    assert_int_equal(x.len, y.len);
    assert_memory_equal(x.data, y.data, x.len);
    cal_buffer_deinit(&x);
    cal_buffer_deinit(&y);
}

#endif
