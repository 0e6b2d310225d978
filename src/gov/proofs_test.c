/* What was verified on a worker is not verified on the loop, and nothing else is believed.
 * Linked with --wrap=cal_verify_strict, so that each verification is counted. */
#include "gov/draft.h"
#include "support/gov_world.h"

bool __real_cal_verify_strict(const uint8_t public_key[32], cal_slice message,
                              const uint8_t signature[CAL_SIGNATURE_SIZE]);
bool __wrap_cal_verify_strict(const uint8_t public_key[32], cal_slice message,
                              const uint8_t signature[CAL_SIGNATURE_SIZE]);

static size_t verified; /* since it was last set to 0 */

bool __wrap_cal_verify_strict(const uint8_t public_key[32], cal_slice message,
                              const uint8_t signature[CAL_SIGNATURE_SIZE]) {
    verified++;
    return __real_cal_verify_strict(public_key, message, signature);
}

typedef struct {
    gov_replica r;
    gov_world w;
    gov_actor guest;
    gov_handoff handoffs[GOV_HANDOFFS_MAX];
    gov_packet genesis;
} fixture;

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    gov_replica_start(&f->r);
    gov_world_init(&f->w, 1);
    gov_actor_make(&f->guest, 90);
    f->genesis = gov_world_genesis(&f->w);
    assert_int_equal(gov_replica_take(&f->r, &f->w.ns, &f->genesis).verdict, GOV_APPLIED);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    gov_replica_check(&f->r);
    gov_replica_stop(&f->r);
    gov_packet_free(&f->genesis);
    free(f);
    return 0;
}

/* The guest's root key is handed on so many times; its certificate is of the last. */
static void hand_on(fixture *f, uint32_t count) {
    gov_credential *credential = &f->guest.credential;
    cal_secret root = f->guest.root, next = {{0}};
    for (uint32_t i = 0; i < count; i++, root = next) {
        gov_handoff *handoff = &f->handoffs[i];
        *handoff = (gov_handoff){.account = f->guest.account, .from_epoch = i};
        cal_write_u32le(next.bytes, i + 1);
        cal_sign_public_key(&next, handoff->new_root_key);
        gov_handoff_sign(handoff, &root);
    }
    credential->chain = (gov_chain){f->handoffs, count};
    credential->cert.key_epoch = count;
    gov_cert_sign(&credential->cert, &root);
}

static gov_packet join(fixture *f, const cal_hash *parent, uint8_t nonce) {
    return gov_world_root(&f->w, &f->guest.sign, parent, 1,
                          gov_world_join(&f->guest, &f->w.owner, f->w.ns, 1, nonce));
}

/* Judges it; returns how many signatures the loop verified. */
static size_t take(fixture *f, const gov_packet *packet, gov_reason reason) {
    gov_verified *op;
    gov_change *change;
    size_t count;
    assert_int_equal(gov_verify(cal_buffer_slice(&packet->bytes), &op), 0);
    verified = 0;
    assert_int_equal(gov_receive(f->r.gov, &f->w.ns, &op, 1, 1, &change, &f->r.err), 0);
    assert_int_equal(gov_change_receipts(change, &count)[0].reason, reason);
    gov_replica_commit(&f->r, change);
    return verified;
}

static uint32_t epoch_of(fixture *f) {
    gov_view view = gov_replica_view(&f->r, &f->w.ns),
             fold = gov_fold_view(&gov_namespace_find(f->r.gov, &f->w.ns)->graph->fold, 0);
    uint32_t epoch = gov_root_epoch(&view, &f->guest.account, NULL);
    assert_int_equal(gov_root_epoch(&fold, &f->guest.account, NULL), epoch);
    return epoch;
}

static bool has_device(fixture *f) {
    gov_view view = gov_replica_view(&f->r, &f->w.ns);
    gov_binding binding;
    return gov_binding_get(&view, &f->guest.device, &binding);
}

static void test_chain(void **state) {
    fixture *f = *state;
    hand_on(f, 50);
    gov_packet p = join(f, &f->genesis.id, 1), again = join(f, &f->genesis.id, 2);
    assert_int_equal(take(f, &p, GOV_WHY_FINE), 0);
    assert_int_equal(epoch_of(f), 50);
    assert_true(has_device(f));
    assert_int_equal(take(f, &again, GOV_WHY_FINE), 0); /* beside: cuts are folded, too */
    gov_packet_free(&p);
    gov_packet_free(&again);
}

/* As long as a chain may be; and what the fold does with it does not grow with its square. */
static void test_longest_chain(void **state) {
    fixture *f = *state;
    hand_on(f, GOV_HANDOFFS_MAX);
    gov_packet p = join(f, &f->genesis.id, 1);
    assert_int_equal(take(f, &p, GOV_WHY_FINE), 0);
    assert_int_equal(epoch_of(f), GOV_HANDOFFS_MAX);
    verified = 0;
    gov_replica_reopen(&f->r);
    assert_in_range(verified, GOV_HANDOFFS_MAX, GOV_HANDOFFS_MAX + 8); /* each once, at start */
    assert_int_equal(epoch_of(f), GOV_HANDOFFS_MAX);
    gov_packet_free(&p);
}

/* A handoff that is not real ends the chain where it stands, whatever was proven before. */
static void test_forged_handoff(void **state) {
    fixture *f = *state;
    hand_on(f, 20);
    f->handoffs[12].signature[3] ^= 1;
    gov_packet p = join(f, &f->genesis.id, 1);
    assert_true(take(f, &p, GOV_WHY_FINE) > 0); /* a member without a device */
    assert_false(has_device(f));
    f->handoffs[12].signature[3] ^= 1;
    gov_packet real = join(f, &p.id, 2);
    assert_int_equal(take(f, &real, GOV_WHY_FINE), 0);
    assert_true(has_device(f));
    assert_int_equal(epoch_of(f), 20);
    gov_packet_free(&p);
    gov_packet_free(&real);
}

/* Each part of a proven credential is what was proven, and of nobody else. */
static void test_altered(void **state) {
    fixture *f = *state;
    gov_credential *c = &f->guest.credential;
    gov_proofs proofs = {0};
    hand_on(f, 3);
    const gov_credential real = *c;
    assert_int_equal(gov_credential_verify(c, &f->guest.account, &proofs), GOV_PROOF_OK);
    verified = 0;
    assert_int_equal(gov_credential_verify(c, &f->guest.account, &proofs), GOV_PROOF_OK);
    assert_int_equal(verified, 0);
    assert_int_equal(gov_credential_verify(c, &f->w.owner.account, &proofs), GOV_PROOF_GENESIS);
    c->cert.device_epoch++;
    assert_int_equal(gov_credential_verify(c, &f->guest.account, &proofs), GOV_PROOF_SIGNATURE);
    *c = real;
    c->cert.signature[40] ^= 1;
    assert_int_equal(gov_credential_verify(c, &f->guest.account, &proofs), GOV_PROOF_SIGNATURE);
    *c = real;
    f->handoffs[2].new_root_key[0] ^= 1;
    assert_int_equal(gov_credential_verify(c, &f->guest.account, &proofs),
                     GOV_PROOF_HANDOFF_SIGNATURE);
    f->handoffs[2].new_root_key[0] ^= 1;
    c->chain.count = 2;
    assert_int_equal(gov_credential_verify(c, &f->guest.account, &proofs), GOV_PROOF_EPOCH);
    *c = real;
    assert_true(gov_handoff_verify(&f->handoffs[1], f->handoffs[0].new_root_key, &proofs));
    assert_false(gov_handoff_verify(&f->handoffs[1], f->handoffs[1].new_root_key, &proofs));
    gov_proofs_deinit(&proofs);
}

static cal_hash numbered(uint32_t number) {
    uint8_t bytes[4];
    cal_hash digest;
    cal_write_u32le(bytes, number);
    cal_sha256(cal_slice_of(bytes, 4), digest.bytes);
    return digest;
}

/* However many hold, a bounded number is remembered: the last. */
static void test_bound(void **state) {
    (void)state;
    enum { COUNT = 5 * GOV_PROOFS_MAX, LAST = GOV_PROOFS_MAX / 2 };
    gov_proofs proofs = {0}, joined = {0};
    size_t held = 0;
    for (uint32_t i = 0; i < COUNT; i++) {
        cal_hash digest = numbered(i);
        assert_false(gov_proofs_holds(&proofs, &digest));
        gov_proofs_note(&proofs, &digest);
        gov_proofs_note(&proofs, &digest);
        assert_true(gov_proofs_holds(&proofs, &digest));
    }
    gov_proofs_join(&joined, &proofs);
    for (uint32_t i = 0; i < COUNT; i++) {
        cal_hash digest = numbered(i);
        bool holds = gov_proofs_holds(&proofs, &digest);
        if (i >= COUNT - LAST) assert_true(holds);
        assert_int_equal(gov_proofs_holds(&joined, &digest), holds);
        held += holds;
    }
    assert_in_range(held, LAST, GOV_PROOFS_MAX);
    assert_in_range(proofs.now.capacity + proofs.before.capacity, 1, 2 * GOV_PROOFS_MAX);
    assert_false(gov_proofs_holds(NULL, &(cal_hash){{1}}));
    gov_proofs_note(&proofs, &(cal_hash){{0}});
    assert_false(gov_proofs_holds(&proofs, &(cal_hash){{0}}));
    gov_proofs_deinit(&proofs);
    gov_proofs_deinit(&joined);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_chain),   T(test_longest_chain),        T(test_forged_handoff),
        T(test_altered), cmocka_unit_test(test_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
