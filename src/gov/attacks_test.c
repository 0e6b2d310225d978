/* Attacks of governance.md 18.1 that want nothing but governance and stand in no other test; which
 * row is held by which test: docs/design/attacks.md. */
#include "crypto/crypto.h"
#include "gov/delta.h"
#include "gov/topic.h"
#include "support/gov_peers.h"

/* --- T2: what was signed as one kind of statement is none of another --- */

enum { STATEMENTS = 11 };

typedef struct statements { /* by the same key, about the same ids */
    cal_secret seed;
    uint8_t key[32];
    gov_ack ack;
    gov_beacon beacon;
    gov_migration_report report;
    gov_cert cert;
    gov_handoff handoff;
    gov_revocation revocation;
    gov_endorsement endorsement;
    gov_invitation invitation;
    gov_envelope envelope;
    gov_signed_op op;
    cal_buffer op_bytes;
    uint8_t delta[64];
} statements;

static const cal_group_id same_group = {{5}};
static const cal_context_id same_context = {{5}};
static const cal_hash same_hash = {{5}};
static const gov_hlc same_hlc = {1, {1, 0}};

static void sign_all(statements *s) {
    const cal_secret group_key = {{6}};
    const gov_position position = {.count = 0};
    cal_hash id;
    memset(s->seed.bytes, 4, 32);
    cal_sign_public_key(&s->seed, s->key);
    s->ack.op_hash = same_hash;
    gov_ack_sign(&s->ack, &s->seed);
    s->beacon.namespace_id = same_group;
    gov_beacon_sign(&s->beacon, &s->seed);
    s->report.namespace_id = same_group;
    gov_migration_report_sign(&s->report, &s->seed);
    memcpy(s->cert.account.bytes, same_hash.bytes, 32);
    gov_cert_sign(&s->cert, &s->seed);
    memcpy(s->handoff.account.bytes, same_hash.bytes, 32);
    gov_handoff_sign(&s->handoff, &s->seed);
    memcpy(s->revocation.account.bytes, same_hash.bytes, 32);
    gov_revocation_sign(&s->revocation, &s->seed);
    memcpy(s->endorsement.account.bytes, same_hash.bytes, 32);
    memcpy(s->endorsement.member_key, s->key, 32);
    gov_endorsement_sign(&s->endorsement, &s->seed);
    s->invitation.group = same_group;
    gov_invitation_sign(&s->invitation, &s->seed);
    s->invitation.signature = cal_slice_text(s->invitation.signature_text);
    gov_envelope_seal_member(cal_os_posix(), &same_group, &group_key, s->key, &s->seed, NULL, NULL,
                             &s->envelope);
    s->envelope.sealed = cal_slice_of(s->envelope.sealed_bytes, sizeof s->envelope.sealed_bytes);
    s->op =
        (gov_signed_op){.namespace_id = same_group, .op = {.root = {.kind = GOV_POLICY_UPDATED}}};
    cal_buffer_init(&s->op_bytes, GOV_OP_MAX);
    assert_int_equal(gov_signed_op_sign(&s->op, &s->seed, &s->op_bytes, &id), 0);
    gov_delta_sign(&s->seed, &same_context, &same_hash, &position, &same_hlc, s->delta);
}

/* The signature of each; an invitation's is text, and an operation's stands at its end. */
static void get(const statements *s, int which, uint8_t ret[64]) {
    const uint8_t *all[STATEMENTS] = {s->ack.signature,
                                      s->beacon.signature,
                                      s->report.signature,
                                      s->cert.signature,
                                      s->handoff.signature,
                                      s->revocation.signature,
                                      s->endorsement.signature,
                                      s->envelope.signature,
                                      s->delta,
                                      NULL,
                                      s->op_bytes.data + s->op_bytes.len - 64};
    if (all[which]) {
        memcpy(ret, all[which], 64);
        return;
    }
    for (size_t i = 0; i < 64; i++) {
        unsigned byte = 0;
        sscanf(s->invitation.signature_text + 2 * i, "%2x", &byte);
        ret[i] = (uint8_t)byte;
    }
}

static void put(statements *s, int which, const uint8_t signature[64]) {
    uint8_t *all[STATEMENTS] = {s->ack.signature,
                                s->beacon.signature,
                                s->report.signature,
                                s->cert.signature,
                                s->handoff.signature,
                                s->revocation.signature,
                                s->endorsement.signature,
                                s->envelope.signature,
                                s->delta,
                                NULL,
                                s->op_bytes.data + s->op_bytes.len - 64};
    if (all[which])
        memcpy(all[which], signature, 64);
    else
        for (size_t i = 0; i < 64; i++)
            snprintf(s->invitation.signature_text + 2 * i, 3, "%02x", signature[i]);
}

static bool verifies(const statements *s, int which) {
    const gov_position position = {.count = 0};
    uint8_t digest[32];
    cal_secret opened;
    cal_arena arena;
    gov_signed_op op;
    switch (which) {
    case 0:
        return gov_ack_verify(&s->ack);
    case 1:
        return gov_beacon_verify(&s->beacon);
    case 2:
        return gov_migration_report_verify(&s->report);
    case 3:
        gov_cert_digest(&s->cert, digest);
        return cal_verify_strict(s->key, cal_slice_of(digest, 32), s->cert.signature);
    case 4:
        return gov_handoff_verify(&s->handoff, s->key, NULL);
    case 5:
        gov_revocation_digest(&s->revocation, digest);
        return cal_verify_strict(s->key, cal_slice_of(digest, 32), s->revocation.signature);
    case 6:
        return gov_endorsement_verify(&s->endorsement, NULL);
    case 7:
        return gov_envelope_open(&s->envelope, &same_group, &s->seed, NULL, NULL, s->key,
                                 &opened) == 0;
    case 8:
        return gov_delta_verify(s->key, &same_context, &same_hash, &position, &same_hlc, s->delta);
    case 9:
        return gov_invitation_verify(&s->invitation, NULL);
    default:
        cal_arena_init(&arena, 1 << 20);
        bool ok = gov_signed_op_decode(cal_buffer_slice(&s->op_bytes), &arena, &op) == 0 &&
                  gov_signed_op_check(&op, NULL) == 0;
        cal_arena_deinit(&arena);
        return ok;
    }
}

static void a_signature_is_of_one_kind(void **state) {
    (void)state;
    static statements s;
    memset(&s, 0, sizeof s);
    sign_all(&s);
    for (int i = 0; i < STATEMENTS; i++) {
        uint8_t own[64], other[64];
        if (!verifies(&s, i)) fail_msg("statement %d does not verify", i);
        get(&s, i, own);
        for (int k = 0; k < STATEMENTS; k++) {
            if (k == i) continue;
            get(&s, k, other);
            put(&s, i, other);
            if (verifies(&s, i)) fail_msg("statement %d verifies with the signature of %d", i, k);
        }
        put(&s, i, own);
    }
    cal_buffer_deinit(&s.op_bytes);
}

static void hashed_parts_cannot_be_shifted(void **state) {
    (void)state;
    static const char bytes[] = "calimero.account";
    uint8_t first[32], other[32];
    const cal_slice whole = cal_slice_of(bytes, 16);
    for (size_t cut = 0; cut <= 16; cut++) {
        const cal_slice parts[2] = {cal_slice_of(bytes, cut), cal_slice_of(bytes + cut, 16 - cut)};
        cal_domain_hash("a", parts, 2, cut ? other : first);
        if (cut) assert_memory_not_equal(first, other, 32);
        cal_domain_hash("a", &whole, 1, other);
        assert_memory_not_equal(first, other, 32);
    }
    cal_domain_hash("ab", (cal_slice[]){cal_slice_of("c", 1)}, 1, first);
    cal_domain_hash("a", (cal_slice[]){cal_slice_of("bc", 2)}, 1, other);
    assert_memory_not_equal(first, other, 32);
}

/* --- T19: an envelope is of one sender, one group, one mode; no byte of it can change --- */

static void check_envelope(bool device) {
    const cal_secret key = {{0x5A}}, seed = {{1}}, kem = {{2}}, sender = {{3}};
    const cal_group_id group = {{4}}, elsewhere = {{5}};
    const cal_device_id id = {{6}};
    uint8_t own[32], own_kem[32], from[32];
    gov_envelope sealed;
    cal_secret opened;
    cal_sign_public_key(&seed, own);
    cal_sign_public_key(&sender, from);
    cal_agree_public_key(&kem, own_kem);
    if (device)
        gov_envelope_seal_device(cal_os_posix(), &group, &key, &id, own_kem, &sender, NULL, NULL,
                                 &sealed);
    else
        gov_envelope_seal_member(cal_os_posix(), &group, &key, own, &sender, NULL, NULL, &sealed);
    cal_buffer bytes;
    cal_buffer_init(&bytes, 1024);
    sealed.sealed = cal_slice_of(sealed.sealed_bytes, sizeof sealed.sealed_bytes);
    assert_int_equal(gov_envelope_write(&sealed, &bytes), 0);
    for (size_t at = 0; at <= bytes.len; at++) {
        gov_envelope read;
        if (at < bytes.len) bytes.data[at] ^= 1;
        cal_borsh in = cal_borsh_read(cal_buffer_slice(&bytes));
        gov_envelope_read(&in, &read);
        int result = cal_borsh_end(&in);
        if (!result) result = gov_envelope_open(&read, &group, &seed, &id, &kem, NULL, &opened);
        assert_true((result == 0) == (at == bytes.len));
        if (at < bytes.len) bytes.data[at] ^= 1;
    }
    assert_int_equal(gov_envelope_open(&sealed, &elsewhere, &seed, &id, &kem, from, &opened),
                     CAL_EVERIFY);
    assert_int_equal(gov_envelope_open(&sealed, &group, &seed, &id, &kem, own, &opened),
                     CAL_EVERIFY);
    sealed.device = !sealed.device; /* the other mode, addressed as that one is */
    memcpy(sealed.address, device ? own : id.bytes, 32);
    assert_int_not_equal(gov_envelope_open(&sealed, &group, &seed, &id, &kem, from, &opened), 0);
    cal_buffer_deinit(&bytes);
}

static void no_byte_of_an_envelope_changes(void **state) {
    (void)state;
    check_envelope(false);
    check_envelope(true);
}

/* --- T37: no byte of what is said about readiness changes --- */

static bool still_true(cal_slice bytes) {
    gov_topic_message m;
    cal_arena arena;
    cal_arena_init(&arena, 1 << 20);
    bool ok = gov_topic_decode(bytes, &arena, &m) == 0 &&
              (m.kind == GOV_TOPIC_ACK         ? gov_ack_verify(&m.ack)
               : m.kind == GOV_TOPIC_BEACON    ? gov_beacon_verify(&m.beacon)
               : m.kind == GOV_TOPIC_MIGRATION ? gov_migration_report_verify(&m.migration)
                                               : false);
    cal_arena_deinit(&arena);
    return ok;
}

static void no_byte_of_an_ack_or_a_beacon_changes(void **state) {
    (void)state;
    static statements s;
    enum { UNSIGNED = 9 }; /* the end of a report */
    memset(&s, 0, sizeof s);
    sign_all(&s);
    const gov_topic_message said[] = {{.kind = GOV_TOPIC_ACK, .ack = s.ack},
                                      {.kind = GOV_TOPIC_BEACON, .beacon = s.beacon},
                                      {.kind = GOV_TOPIC_MIGRATION, .migration = s.report}};
    for (size_t i = 0; i < 3; i++) {
        cal_buffer bytes;
        cal_buffer_init(&bytes, 4096);
        assert_int_equal(gov_topic_write(&said[i], &bytes), 0);
        assert_true(still_true(cal_buffer_slice(&bytes)));
        size_t len = bytes.len - (said[i].kind == GOV_TOPIC_MIGRATION ? UNSIGNED : 0);
        for (size_t at = 0; at < len; at++) {
            bytes.data[at] ^= 4;
            if (still_true(cal_buffer_slice(&bytes))) fail_msg("message %zu, byte %zu", i, at);
            bytes.data[at] ^= 4;
        }
        cal_buffer_deinit(&bytes);
    }
    cal_buffer_deinit(&s.op_bytes);
}

/* --- T3, T4: numbers --- */

typedef struct {
    gov_replica r, other;
    gov_world w;
    gov_actor alice, bob;
    cal_hash last;
} fixture;

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    gov_replica_start(&f->r);
    gov_world_init(&f->w, 1);
    gov_actor_make(&f->alice, 0x20);
    gov_actor_make(&f->bob, 0x30);
    gov_packet genesis = gov_world_genesis(&f->w);
    gov_replica_take(&f->r, &f->w.ns, &genesis);
    f->last = genesis.id;
    gov_packet_free(&genesis);
    gov_replica_key(&f->r, &f->w.ns, &f->w.ns, &f->w.ns_key);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    gov_replica_check(&f->r);
    gov_replica_stop(&f->r);
    free(f);
    return 0;
}

static gov_packet by_owner(fixture *f, uint64_t number, gov_group_op op) {
    f->w.nonce = number;
    return gov_world_group(&f->w, &f->w.owner.sign, &f->last, 1, f->w.ns, op);
}

static gov_reason take(fixture *f, const gov_packet *p) {
    return gov_replica_take(&f->r, &f->w.ns, p).reason;
}

static void a_lower_number_that_is_late_counts(void **state) {
    fixture *f = *state;
    const uint64_t numbers[] = {16, 15, 20, 13, 14, 12};
    gov_packet packets[6];
    for (uint32_t i = 0; i < 6; i++) {
        gov_group_op op = {.kind = GOV_DEFAULT_CAPABILITIES_SET, .capabilities = 1u << i};
        packets[i] = by_owner(f, numbers[i], op);
        assert_int_equal(take(f, &packets[i]), GOV_WHY_FINE);
    }
    for (uint32_t i = 0; i < 6; i++) { /* the same again, and another one of each number */
        gov_view view = gov_replica_view(&f->r, &f->w.ns);
        uint64_t before = gov_sequence_get(&view);
        gov_receipt receipt = gov_replica_take(&f->r, &f->w.ns, &packets[5 - i]);
        assert_true(receipt.known);
        view = gov_replica_view(&f->r, &f->w.ns);
        assert_int_equal(gov_sequence_get(&view), before);
        gov_group_op op = {.kind = GOV_DEFAULT_CAPABILITIES_SET, .capabilities = 0x100};
        gov_packet replay = by_owner(f, numbers[i], op);
        assert_int_equal(take(f, &replay), GOV_WHY_NUMBER_USED);
        gov_packet_free(&replay);
    }
    for (uint32_t i = 0; i < 6; i++) gov_packet_free(&packets[i]);
}

/* --- T27: a deletion names what is below the group, no more and no less --- */

static gov_packet root_by_owner(fixture *f, gov_root_op op) {
    return gov_world_root(&f->w, &f->w.owner.sign, &f->last, 1, op);
}

/* Beside another operation, too. */
static void a_deletion_takes_nothing_else_with_it(void **state) {
    fixture *f = *state;
    cal_group_id groups[3] = {{{0x71}}, {{0x72}}, {{0x73}}};
    cal_hash listed[2] = {{{0x72}}, {{0x73}}};
    f->w.nonce = 100;
    for (int beside = 0; beside < 2; beside++) {
        for (int i = 0; i < 3; i++) { /* the third one is beside the first */
            groups[i].bytes[1] = (uint8_t)beside;
            gov_packet p = root_by_owner(f, (gov_root_op){.kind = GOV_GROUP_CREATED,
                                                          .group = groups[i],
                                                          .parent = i == 1 ? groups[0] : f->w.ns,
                                                          .account = f->w.owner.account});
            assert_int_equal(take(f, &p), GOV_WHY_FINE);
            f->last = p.id;
            gov_packet_free(&p);
        }
        for (int i = 0; i < 2; i++) listed[i].bytes[1] = (uint8_t)beside;
        gov_root_op op = {.kind = GOV_GROUP_DELETED, .group = groups[0]};
        gov_packet few = root_by_owner(f, op); /* and what is listed besides stays */
        op.groups = (gov_ids){listed, 2};
        gov_packet more = root_by_owner(f, op);
        gov_packet other = root_by_owner(f, (gov_root_op){.kind = GOV_POLICY_UPDATED});
        assert_int_equal(take(f, &few), GOV_WHY_NOT_LISTED);
        if (beside) assert_int_equal(take(f, &other), GOV_WHY_FINE);
        assert_int_equal(take(f, &more), GOV_WHY_FINE);
        gov_view view = gov_replica_view(&f->r, &f->w.ns);
        for (int i = 0; i < 3; i++) assert_true(gov_meta_get(&view, &groups[i], NULL) == (i == 2));
        gov_replica_check(&f->r);
        f->last = more.id;
        gov_packet_free(&few);
        gov_packet_free(&more);
        gov_packet_free(&other);
    }
}

/* --- T29: two admins demote each other at once --- */

static gov_packet about(fixture *f, const gov_actor *by, const gov_actor *who, gov_role role) {
    gov_group_op op = {.kind = GOV_MEMBER_ROLE_SET, .account = who->account, .role = (uint8_t)role};
    return gov_world_group(&f->w, &by->sign, &f->last, 1, f->w.ns, op);
}

static void demotions_at_once_are_the_same_everywhere(void **state) {
    fixture *f = *state;
    const gov_actor *both[2] = {&f->alice, &f->bob};
    f->w.nonce = 100;
    for (int i = 0; i < 2; i++) {
        gov_packet p[2];
        p[0] = gov_world_root(&f->w, &both[i]->sign, &f->last, 1,
                              gov_world_join(both[i], &f->w.owner, f->w.ns, 1, (uint8_t)(1 + i)));
        assert_int_equal(take(f, &p[0]), GOV_WHY_FINE);
        f->last = p[0].id;
        p[1] = about(f, &f->w.owner, both[i], GOV_ROLE_ADMIN);
        assert_int_equal(take(f, &p[1]), GOV_WHY_FINE);
        f->last = p[1].id;
        for (int k = 0; k < 2; k++) gov_packet_free(&p[k]);
    }
    gov_packet p[2] = {about(f, &f->alice, &f->bob, GOV_ROLE_MEMBER),
                       about(f, &f->bob, &f->alice, GOV_ROLE_MEMBER)};
    for (int order = 0; order < 2; order++) {
        gov_replica r;
        gov_replica_start(&r);
        gov_peer_copy(&f->r, &r, &f->w.ns, 0);
        gov_replica_key(&r, &f->w.ns, &f->w.ns, &f->w.ns_key);
        gov_peer_drain(&r, &f->w.ns);
        for (int i = 0; i < 2; i++)
            assert_int_equal(gov_replica_take(&r, &f->w.ns, &p[order ? 1 - i : i]).reason,
                             GOV_WHY_FINE);
        gov_view view = gov_replica_view(&r, &f->w.ns);
        assert_false(gov_admin(&view, &f->w.ns, &f->alice.account));
        assert_false(gov_admin(&view, &f->w.ns, &f->bob.account));
        assert_true(gov_admin(&view, &f->w.ns, &f->w.owner.account)); /* always one is left */
        gov_replica_check(&r);
        gov_replica_stop(&r);
    }
    for (int i = 0; i < 2; i++) gov_packet_free(&p[i]);
}

/* --- T36: added, removed, and what was written before and after, in any order --- */

static void a_write_is_judged_where_it_stands(void **state) {
    fixture *f = *state;
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                     {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    const cal_context_id context = {{0xC1}};
    const cal_public_key *author = (const cal_public_key *)(const void *)f->alice.key;
    gov_packet ops[3];
    gov_group_op registered = {.kind = GOV_CONTEXT_REGISTERED, .context = context};
    gov_packet first = by_owner(f, 50, registered);
    assert_int_equal(take(f, &first), GOV_WHY_FINE);
    f->last = first.id;
    gov_packet_free(&first);
    ops[0] = gov_world_root(&f->w, &f->alice.sign, &f->last, 1,
                            gov_world_join(&f->alice, &f->w.owner, f->w.ns, 1, 1));
    cal_hash joined = ops[0].id;
    gov_group_op out = {.kind = GOV_MEMBER_REMOVED, .account = f->alice.account};
    ops[1] = gov_world_group(&f->w, &f->w.owner.sign, &joined, 1, f->w.ns, out);
    gov_group_op back = {
        .kind = GOV_MEMBER_ADDED, .account = f->alice.account, .role = GOV_ROLE_MEMBER};
    cal_hash removed = ops[1].id;
    ops[2] = gov_world_group(&f->w, &f->w.owner.sign, &removed, 1, f->w.ns, back);
    const cal_hash cuts[4] = {f->last, joined, removed, ops[2].id};
    const gov_author_verdict expected[4] = {GOV_AUTHOR_NOT, GOV_AUTHOR_MAY, GOV_AUTHOR_NOT,
                                            GOV_AUTHOR_MAY};
    for (size_t n = 0; n < 6; n++) {
        gov_replica r;
        bool here[3] = {false};
        gov_replica_start(&r);
        gov_peer_copy(&f->r, &r, &f->w.ns, 0);
        gov_replica_key(&r, &f->w.ns, &f->w.ns, &f->w.ns_key);
        gov_peer_drain(&r, &f->w.ns);
        for (size_t step = 0; step <= 3; step++) {
            bool placed = true; /* what a cut names, with all that it descends from */
            for (size_t cut = 0; cut < 4; cut++) {
                gov_position position = {.heads = {cuts[cut]}, .count = 1};
                gov_author answer;
                if (cut) placed = placed && here[cut - 1];
                assert_int_equal(
                    gov_author_judge(r.gov, &context, author, &position, &answer, &r.err), 0);
                assert_int_equal(answer.verdict, placed ? expected[cut] : GOV_AUTHOR_UNKNOWN);
            }
            if (step == 3) break;
            gov_replica_take(&r, &f->w.ns, &ops[orders[n][step]]);
            gov_peer_drain(&r, &f->w.ns);
            here[orders[n][step]] = true;
        }
        gov_replica_check(&r);
        gov_replica_stop(&r);
    }
    for (size_t i = 0; i < 3; i++) gov_packet_free(&ops[i]);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_signature_is_of_one_kind),
        cmocka_unit_test(hashed_parts_cannot_be_shifted),
        cmocka_unit_test(no_byte_of_an_envelope_changes),
        cmocka_unit_test(no_byte_of_an_ack_or_a_beacon_changes),
        T(a_lower_number_that_is_late_counts),
        T(a_deletion_takes_nothing_else_with_it),
        T(demotions_at_once_are_the_same_everywhere),
        T(a_write_is_judged_where_it_stands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
