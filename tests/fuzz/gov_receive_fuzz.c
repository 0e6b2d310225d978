/* Operations into a namespace: the input is a script of operations of several signers, well formed
 * and signed or bent, in batches that are stored or aborted. Whatever it says, the verdicts are of
 * the table, an aborted batch leaves the rows as they were, and what is stored passes gov_check:
 * the graph is that of the operations, the fold is theirs, and rows refer to one another. */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "gov/internal.h"
#include "store/key.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ACTORS = 4, OPS_MAX = 24, BATCH_MAX = 8, INPUT_MAX = 4096 };

#define REQUIRE(what)                                                                              \
    do                                                                                             \
        if (!(what)) {                                                                             \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what);                             \
            abort();                                                                               \
        }                                                                                          \
    while (0)

typedef struct {
    cal_secret root, sign, kem;
    cal_account_id account;
    gov_credential credential;
} actor;

typedef struct {
    const uint8_t *at;
    size_t left;
} script;

static struct {
    char folder[64], key_file[96];
    cal_store *store;
    cal_gov *gov;
    actor actors[ACTORS];
    cal_secret key;
    cal_group_id ns;
    cal_hash ids[OPS_MAX]; /* of what was made, and one that is nowhere */
    size_t id_count;
    uint64_t nonce;
} fuzz;

static uint8_t take(script *s) {
    if (!s->left) return 0;
    s->left--;
    return *s->at++;
}

static void fill(script *s, void *bytes, size_t len) {
    for (size_t i = 0; i < len; i++) ((uint8_t *)bytes)[i] = take(s);
}

/* --- the store --- */

static int remove_entry(const char *path, const struct stat *stat, int kind, struct FTW *walk) {
    (void)stat, (void)kind, (void)walk;
    return remove(path);
}

static void close_store(void) {
    gov_close(fuzz.gov);
    cal_store_close(fuzz.store);
    nftw(fuzz.folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void open_store(void) {
    cal_error err;
    cal_key_source key = {CAL_KEY_FILE, fuzz.key_file};
    cal_store_options options = {
        .folder = fuzz.folder, .durability = CAL_DURABLE_PROCESS, .key = &key};
    strcpy(fuzz.folder, "/tmp/cal_fuzz_gov_XXXXXX");
    REQUIRE(mkdtemp(fuzz.folder));
    snprintf(fuzz.key_file, sizeof fuzz.key_file, "%s/master.key", fuzz.folder);
    REQUIRE(cal_store_create(&options, &err) == 0);
    REQUIRE(cal_store_open(&options, &fuzz.store, &err) == 0);
    REQUIRE(gov_open(fuzz.store, cal_os_posix(), &fuzz.gov, &err) == 0);
}

static void make_actor(actor *a, uint8_t with) {
    uint8_t nonce[GOV_DEVICE_NONCE_SIZE] = {with};
    gov_cert *cert = &a->credential.cert;
    memset(a->root.bytes, with, 32);
    memset(a->sign.bytes, with + 1, 32);
    memset(a->kem.bytes, with + 2, 32);
    a->credential.genesis.version = GOV_GENESIS_VERSION;
    cal_sign_public_key(&a->root, a->credential.genesis.root_key);
    gov_account_id(&a->credential.genesis, &a->account);
    cert->account = a->account;
    gov_device_id(&a->account, nonce, &cert->device);
    cal_sign_public_key(&a->sign, cert->sign_key);
    cal_agree_public_key(&a->kem, cert->kem_key);
    gov_cert_sign(cert, &a->root);
}

/* --- operations --- */

static cal_group_id group_of(uint8_t byte) {
    cal_group_id group = fuzz.ns;
    if (byte & 3) group.bytes[0] ^= (uint8_t)(byte & 3);
    return group;
}

static gov_root_op root_op(script *s, const actor *by) {
    const actor *about = &fuzz.actors[take(s) % ACTORS];
    uint8_t where = take(s);
    gov_root_op op = {.kind = take(s) % GOV_ROOT_KIND_COUNT,
                      .group = group_of(where),
                      .parent = group_of((uint8_t)(where >> 2)),
                      .restricted = where & 0x40,
                      .account = about->account,
                      .credential = about->credential,
                      .joined_at_s = take(s),
                      .role = take(s) % GOV_ROLE_COUNT};
    op.invitation = (gov_invitation){
        .group = op.group, .expires_at_s = take(s), .role = (uint8_t)(take(s) & 3)};
    op.invitation.nonce[0] = take(s) & 1;
    gov_invitation_sign(&op.invitation, &fuzz.actors[take(s) % ACTORS].sign);
    if (op.kind == GOV_KEY_DELIVERY) {
        const gov_identity *self = gov_self(fuzz.gov);
        cal_secret key = {{take(s) & 1}};
        REQUIRE(gov_envelope_seal_device(cal_os_posix(), &op.group, &key, &self->device,
                                         self->kem_key, &by->sign, NULL, NULL, &op.envelope) == 0);
    }
    if (take(s) & 1) op.account = by->account;
    return op;
}

static gov_group_op group_op(script *s, const actor *by) {
    const actor *about = &fuzz.actors[take(s) % ACTORS];
    gov_group_op op = {.kind = take(s) % GOV_GROUP_KIND_COUNT,
                       .account = about->account,
                       .role = take(s) % GOV_ROLE_COUNT,
                       .capabilities = take(s),
                       .visibility = take(s) & 1,
                       .mask = (uint8_t)(1 + (take(s) & 7)),
                       .hlc = {.id = {1, 0}},
                       .genesis = about->credential.genesis,
                       .cert = about->credential.cert,
                       .device = about->credential.cert.device};
    op.context.bytes[0] = take(s) & 3;
    op.endorsement.account = about->account;
    cal_sign_public_key(&by->sign, op.endorsement.member_key);
    gov_endorsement_sign(&op.endorsement, &by->sign);
    op.handoff = (gov_handoff){.account = about->account, .from_epoch = take(s) & 1};
    op.handoff.new_root_key[0] = take(s);
    gov_handoff_sign(&op.handoff, &about->root);
    return op;
}

/* Slices of the root operation's own bytes point at this copy. */
static void aim(gov_root_op *op) {
    op->invitation.signature = cal_slice_text(op->invitation.signature_text);
    op->envelope.sealed = cal_slice_of(op->envelope.sealed_bytes, sizeof op->envelope.sealed_bytes);
}

static gov_verified *make_op(script *s) {
    const actor *by = &fuzz.actors[take(s) % ACTORS];
    uint8_t how = take(s), count = take(s) % 3;
    cal_hash parents[3], id;
    gov_signed_op signed_op = {.namespace_id = fuzz.ns, .nonce = fuzz.nonce++};
    gov_verified *op;
    cal_buffer sealed, bytes;
    cal_buffer_init(&sealed, GOV_SEALED_OP_MAX);
    cal_buffer_init(&bytes, GOV_OP_MAX);
    if (fuzz.id_count == 0) count = 0;
    for (uint8_t i = 0; i < count; i++) parents[i] = fuzz.ids[take(s) % fuzz.id_count];
    signed_op.parents = (gov_ids){parents, count};
    if (how & 1) {
        cal_secret key = fuzz.key;
        signed_op.op = (gov_op){.group = true, .group_id = group_of(take(s))};
        if ((how & 6) == 6) key.bytes[0] ^= 1; /* nobody has it, or it comes by KeyDelivery */
        gov_key_id(&key, &signed_op.op.key_id);
        if ((how & 0x18) == 0x18) {
            uint8_t rubbish[16];
            fill(s, rubbish, sizeof rubbish);
            REQUIRE(cal_seal(&key, signed_op.op.nonce, (cal_slice){0},
                             cal_slice_of(rubbish, sizeof rubbish), &sealed) == 0);
        } else {
            gov_group_op plain = group_op(s, by);
            REQUIRE(gov_group_op_seal(&plain, &key, signed_op.op.nonce, &sealed) == 0);
        }
        signed_op.op.sealed = cal_buffer_slice(&sealed);
    } else {
        signed_op.op.root = root_op(s, by);
        aim(&signed_op.op.root);
    }
    REQUIRE(gov_signed_op_sign(&signed_op, &by->sign, &bytes, &id) == 0);
    if ((how & 0xE0) == 0xE0) bytes.data[take(s) % bytes.len] ^= take(s);
    if (fuzz.id_count < OPS_MAX) fuzz.ids[fuzz.id_count++] = id;
    REQUIRE(gov_verify(cal_buffer_slice(&bytes), &op) == 0);
    cal_buffer_deinit(&sealed);
    cal_buffer_deinit(&bytes);
    return op;
}

/* --- batches --- */

static void dump(cal_buffer *out) {
    const gov_namespace *ns = gov_namespace_find(fuzz.gov, &fuzz.ns);
    cal_sorted_node *node = ns ? cal_sorted_from(&ns->rows, (cal_slice){0}) : NULL;
    for (; node; node = node->next[0]) {
        const gov_row *row = node->value;
        cal_buffer_append_slice(out, node->key);
        cal_buffer_append(out, row->bytes, row->len);
    }
}

static void check_receipts(const gov_change *change, size_t given) {
    size_t count;
    const gov_receipt *receipts = gov_change_receipts(change, &count);
    REQUIRE(count >= given);
    for (size_t i = 0; i < count; i++) {
        REQUIRE(receipts[i].verdict == gov_reason_verdict(receipts[i].reason));
        REQUIRE((receipts[i].verdict == GOV_WAITING) ==
                    (receipts[i].wait.kind != GOV_WAIT_NOTHING) ||
                receipts[i].verdict != GOV_WAITING);
        REQUIRE(i < given || receipts[i].verdict != GOV_WAITING);
    }
}

static void run_batch(script *s) {
    gov_verified *ops[BATCH_MAX];
    gov_change *change;
    cal_error err = {0};
    cal_buffer before, after;
    uint8_t how = take(s);
    size_t count = how % (BATCH_MAX + 1);
    cal_buffer_init(&before, 64 << 20);
    cal_buffer_init(&after, 64 << 20);
    for (size_t i = 0; i < count; i++) ops[i] = make_op(s);
    dump(&before);
    REQUIRE(gov_receive(fuzz.gov, &fuzz.ns, ops, count, how & 1, &change, &err) == 0);
    check_receipts(change, count);
    if (how & 0x80) {
        gov_change_abort(change);
        dump(&after);
        REQUIRE(cal_slice_equal(cal_buffer_slice(&before), cal_buffer_slice(&after)));
    } else {
        cal_batch *batch = cal_batch_new();
        REQUIRE(batch && cal_batch_merge(batch, gov_change_batch(change)) == 0);
        REQUIRE(cal_store_commit(fuzz.store, batch, &err) == 0);
        gov_change_commit(change);
    }
    cal_buffer_deinit(&before);
    cal_buffer_deinit(&after);
}

static void report(void *user, const char *finding) {
    (void)user;
    fprintf(stderr, "%s\n", finding);
}

static void give_key(void) {
    gov_change *change;
    cal_error err;
    REQUIRE(gov_change_begin(fuzz.gov, &fuzz.ns, &change, &err) == 0);
    gov_put_key(change, &fuzz.ns, &fuzz.key, 0);
    REQUIRE(gov_change_finish(change, 0, &change, &err) == 0);
    cal_batch *batch = cal_batch_new();
    REQUIRE(batch && cal_batch_merge(batch, gov_change_batch(change)) == 0);
    REQUIRE(cal_store_commit(fuzz.store, batch, &err) == 0);
    gov_change_commit(change);
}

/* Founded by the first actor, which makes a group; everybody else is in it or not, as the script
 * says. */
static void found(void) {
    static const uint8_t genesis[] = {0, 0, 0, 0, 0, GOV_NAMESPACE_CREATED};
    script s = {genesis, sizeof genesis};
    gov_verified *op = make_op(&s);
    gov_change *change;
    cal_error err;
    REQUIRE(gov_verified_reason(op) == GOV_WHY_FINE);
    REQUIRE(gov_receive(fuzz.gov, &fuzz.ns, &op, 1, 1, &change, &err) == 0);
    cal_batch *batch = cal_batch_new();
    REQUIRE(batch && cal_batch_merge(batch, gov_change_batch(change)) == 0);
    REQUIRE(cal_store_commit(fuzz.store, batch, &err) == 0);
    gov_change_commit(change);
    give_key();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cal_snapshot *snapshot;
    script s = {data, size};
    if (size > INPUT_MAX) return 0;
    open_store();
    for (int i = 0; i < ACTORS; i++) make_actor(&fuzz.actors[i], (uint8_t)(0x10 * (i + 1)));
    memset(fuzz.key.bytes, 0x77, 32);
    memset(fuzz.ns.bytes, 0x55, 32);
    fuzz.id_count = 0;
    fuzz.nonce = 1;
    found();
    while (s.left) run_batch(&s);
    REQUIRE(cal_store_snapshot(fuzz.store, &snapshot) == 0);
    REQUIRE(gov_check(fuzz.gov, snapshot, report, NULL) == 0);
    cal_snapshot_free(snapshot);
    close_store();
    return 0;
}
