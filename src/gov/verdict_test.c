/* Every kind of operation in each of its verdicts, and what comes after an operation that could not
 * take effect. */
#include "support/gov_world.h"

typedef struct {
    gov_replica r;
    gov_world w;
    gov_actor alice, bob, carol;
    cal_group_id group; /* open; the owner's */
    cal_context_id context;
    cal_hash last;
} fixture;

static void step(fixture *f, gov_packet p) {
    gov_receipt receipt = gov_replica_take(&f->r, &f->w.ns, &p);
    if (receipt.reason != GOV_WHY_FINE) fail_msg("%s", gov_reason_name(receipt.reason));
    f->last = p.id;
    gov_packet_free(&p);
}

static gov_packet clear(fixture *f, const gov_actor *by, gov_root_op op) {
    return gov_world_root(&f->w, &by->sign, &f->last, 1, op);
}

static gov_packet sealed(fixture *f, const gov_actor *by, gov_group_op op) {
    return gov_world_group(&f->w, &by->sign, &f->last, 1, f->group, op);
}

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    gov_replica_start(&f->r);
    gov_world_init(&f->w, 1);
    gov_actor_make(&f->alice, 0x20);
    gov_actor_make(&f->bob, 0x30);
    gov_actor_make(&f->carol, 0x40);
    memset(f->group.bytes, 0xC1, 32);
    memset(f->context.bytes, 0xC2, 32);
    step(f, gov_world_genesis(&f->w));
    gov_replica_key(&f->r, &f->w.ns, &f->w.ns, &f->w.ns_key);
    step(f, clear(f, &f->alice, gov_world_join(&f->alice, &f->w.owner, f->w.ns, 1, 1)));
    step(f, clear(f, &f->carol, gov_world_join(&f->carol, &f->w.owner, f->w.ns, 1, 1)));
    step(f, clear(f, &f->w.owner,
                  (gov_root_op){.kind = GOV_GROUP_CREATED,
                                .group = f->group,
                                .parent = f->w.ns,
                                .account = f->w.owner.account}));
    step(f, sealed(f, &f->w.owner,
                   (gov_group_op){.kind = GOV_MEMBER_ADDED,
                                  .account = f->carol.account,
                                  .role = GOV_ROLE_ADMIN}));
    step(f, sealed(f, &f->w.owner,
                   (gov_group_op){.kind = GOV_CONTEXT_REGISTERED, .context = f->context}));
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

/* --- one operation of each kind that applies, and whose it is --- */

typedef struct {
    gov_op op; /* of a group: plain is sealed into it */
    gov_group_op plain;
    const gov_actor *by;
    gov_reason reason; /* when it is in order */
} specimen;

static specimen clear_specimen(const fixture *f, uint8_t kind) {
    specimen s = {.by = &f->w.owner};
    gov_root_op *op = &s.op.root;
    op->kind = kind;
    op->group = f->group;
    switch ((gov_root_kind)kind) {
    case GOV_GROUP_CREATED:
        op->group = (cal_group_id){{0xC7}};
        op->parent = f->w.ns;
        op->account = f->w.owner.account;
        break;
    case GOV_GROUP_REPARENTED:
        op->parent = f->w.ns;
        break;
    case GOV_GROUP_DELETED:
        op->contexts = (gov_ids){(const cal_hash *)(const void *)&f->context, 1};
        break;
    case GOV_ADMIN_CHANGED:
        op->account = f->alice.account;
        break;
    case GOV_MEMBER_JOINED:
    case GOV_MEMBER_JOINED_AT:
        s.by = &f->bob;
        *op = gov_world_join(&f->bob, &f->w.owner, f->w.ns, 1, 9);
        op->kind = kind;
        if (kind == GOV_MEMBER_JOINED) {
            op->invitation.expires_at_s = 0;
            gov_invitation_sign(&op->invitation, &f->w.owner.sign);
        }
        break;
    case GOV_KEY_DELIVERY: /* for somebody else */
        assert_int_equal(gov_envelope_seal_member(cal_os_posix(), &f->group, &f->w.ns_key,
                                                  f->alice.key, &f->w.owner.sign, NULL, NULL,
                                                  &op->envelope),
                         0);
        break;
    case GOV_MEMBER_JOINED_OPEN:
        s.by = &f->alice;
        op->account = f->alice.account;
        op->credential = f->alice.credential;
        break;
    case GOV_NAMESPACE_CREATED:
        s.reason = GOV_WHY_FOUNDED;
        op->account = f->w.owner.account;
        op->credential = f->w.owner.credential;
        break;
    case GOV_MEMBER_JOINED_TEE:
        s.reason = GOV_WHY_ATTESTED;
        op->role = GOV_ROLE_READ_ONLY_TEE;
        break;
    case GOV_POLICY_UPDATED:
    case GOV_ROOT_KIND_COUNT:
        break;
    }
    return s;
}

static void fill_accounts(const fixture *f, specimen *s) {
    gov_group_op *op = &s->plain;
    if (op->kind == GOV_DEVICE_LINKED) {
        op->genesis = f->bob.credential.genesis;
        op->cert = f->bob.credential.cert;
        op->endorsement.account = f->bob.account;
        memcpy(op->endorsement.member_key, f->w.owner.key, 32);
        gov_endorsement_sign(&op->endorsement, &f->w.owner.sign);
    } else if (op->kind == GOV_ACCOUNT_KEYS_ROTATED) {
        op->handoff.account = f->w.owner.account;
        memset(op->handoff.new_root_key, 7, 32);
        gov_handoff_sign(&op->handoff, &f->w.owner.root);
    } else if (op->kind == GOV_DEVICE_UNLINKED)
        op->device = f->alice.device;
}

static specimen sealed_specimen(const fixture *f, uint8_t kind) {
    specimen s = {.by = &f->w.owner,
                  .plain = {.kind = kind,
                            .account = f->carol.account,
                            .role = GOV_ROLE_MEMBER,
                            .context = f->context,
                            .mask = 1,
                            .hlc = {.id = {1, 0}},
                            .visibility = 1}};
    s.op.group = true;
    s.op.group_id = f->group;
    if (kind == GOV_MEMBER_LEFT) s.by = &f->carol;
    if (kind == GOV_CONTEXT_REGISTERED) memset(s.plain.context.bytes, 0xC9, 32);
    if (kind == GOV_TEE_POLICY_SET) s.op.group_id = f->w.ns;
    if (kind == GOV_GROUP_DELETE) s.reason = GOV_WHY_NOT_EMPTY;
    if (kind == GOV_GROUP_MEMBER_JOINED_TEE) s.reason = GOV_WHY_ATTESTED;
    fill_accounts(f, &s);
    return s;
}

enum { KINDS = GOV_ROOT_KIND_COUNT + GOV_GROUP_KIND_COUNT };

static specimen specimen_of(const fixture *f, int kind) {
    return kind < GOV_ROOT_KIND_COUNT ? clear_specimen(f, (uint8_t)kind)
                                      : sealed_specimen(f, (uint8_t)(kind - GOV_ROOT_KIND_COUNT));
}

static const char *name_of(int kind) {
    return kind < GOV_ROOT_KIND_COUNT ? gov_root_kind_text((uint8_t)kind)
                                      : gov_group_kind_text((uint8_t)(kind - GOV_ROOT_KIND_COUNT));
}

static gov_packet pack(fixture *f, const specimen *s, const cal_secret *signer,
                       const cal_hash *parent) {
    return s->op.group
               ? gov_world_sealed(&f->w, signer, parent, 1, s->op.group_id, &f->w.ns_key, s->plain)
               : gov_world_root(&f->w, signer, parent, 1, s->op.root);
}

/* --- */

static void expect(int kind, const gov_receipt *receipt, gov_verdict verdict, gov_reason reason) {
    if (receipt->verdict != verdict || receipt->reason != reason)
        fail_msg("%s: %s (%s) instead of %s (%s)", name_of(kind),
                 gov_verdict_text(receipt->verdict), gov_reason_name(receipt->reason),
                 gov_verdict_text(verdict), gov_reason_name(reason));
}

/* The operation, then the owner's creation of a group that cites it. In one change, then each in
 * its own; nothing of it stays. */
static void run(fixture *f, int kind, gov_packet p, gov_verdict verdict, gov_reason reason,
                gov_verdict next) {
    gov_packet after = gov_world_root(&f->w, &f->w.owner.sign, &p.id, 1,
                                      (gov_root_op){.kind = GOV_GROUP_CREATED,
                                                    .group = {{0xD0}},
                                                    .parent = f->w.ns,
                                                    .account = f->w.owner.account});
    for (int backwards = 0; backwards < 2; backwards++) {
        const gov_packet *packets[] = {backwards ? &after : &p, backwards ? &p : &after};
        size_t count;
        gov_change *change = gov_replica_receive(&f->r, &f->w.ns, packets, 2);
        const gov_receipt *receipts = gov_change_receipts(change, &count);
        assert_int_equal(count, 2);
        gov_receipt first = receipts[backwards], second = receipts[!backwards];
        gov_change_abort(change);
        expect(kind, &first, verdict, reason);
        if (second.verdict != next)
            fail_msg("after %s: %s", name_of(kind), gov_reason_name(second.reason));
    }
    gov_packet_free(&p);
    gov_packet_free(&after);
}

/* Deleting or ending what the successor needs would make it fail for another reason. */
static bool successor_fails(int kind) {
    return kind == GOV_ADMIN_CHANGED ||                            /* the owner governs no more */
           kind == GOV_ROOT_KIND_COUNT + GOV_ACCOUNT_KEYS_ROTATED; /* its certificate is old */
}

static void test_applied(void **state) {
    fixture *f = *state;
    for (int kind = 0; kind < KINDS; kind++) {
        specimen s = specimen_of(f, kind);
        run(f, kind, pack(f, &s, &s.by->sign, &f->last), gov_reason_verdict(s.reason), s.reason,
            successor_fails(kind) ? GOV_KEPT : GOV_APPLIED);
    }
}

/* By a stranger: kept, but for what a member has endorsed; whoever cites it applies. */
static void test_kept(void **state) {
    fixture *f = *state;
    gov_actor stranger;
    gov_actor_make(&stranger, 0x77);
    for (int kind = 0; kind < KINDS; kind++) {
        specimen s = specimen_of(f, kind);
        gov_packet p = pack(f, &s, &stranger.sign, &f->last);
        const gov_packet *packet = &p;
        size_t count;
        gov_change *change = gov_replica_receive(&f->r, &f->w.ns, &packet, 1);
        gov_receipt receipt = gov_change_receipts(change, &count)[0];
        gov_change_abort(change);
        if (kind == GOV_ROOT_KIND_COUNT + GOV_DEVICE_LINKED) {
            assert_int_equal(receipt.verdict, GOV_APPLIED); /* the endorsement speaks for itself */
            gov_packet_free(&p);
            continue;
        }
        run(f, kind, p, GOV_KEPT, receipt.reason, GOV_APPLIED);
    }
}

/* A parent that is not here: nothing is stored; when it comes, both apply. */
static void test_waiting_for_a_parent(void **state) {
    fixture *f = *state;
    for (int kind = 0; kind < KINDS; kind++) {
        specimen s = specimen_of(f, kind);
        gov_packet parent = gov_world_group(&f->w, &f->w.owner.sign, &f->last, 1, f->w.ns,
                                            (gov_group_op){.kind = GOV_NOOP});
        gov_packet p = pack(f, &s, &s.by->sign, &parent.id);
        gov_receipt receipt = gov_replica_take(&f->r, &f->w.ns, &p);
        expect(kind, &receipt, GOV_WAITING, GOV_WHY_PARENT_LACKS);
        assert_int_equal(receipt.wait.kind, GOV_WAIT_PARENT);
        assert_memory_equal(&receipt.wait.id, &parent.id, 32);
        const gov_packet *packet = &parent;
        size_t count;
        gov_change *change = gov_replica_receive(&f->r, &f->w.ns, &packet, 1);
        const gov_receipt *receipts = gov_change_receipts(change, &count);
        assert_int_equal(count, 2);
        expect(kind, &receipts[1], gov_reason_verdict(s.reason), s.reason);
        gov_change_abort(change);
        gov_packet_free(&parent);
        gov_packet_free(&p);
    }
    gov_replica_reopen(&f->r); /* what waits is in memory only */
    assert_int_equal(gov_waiting(f->r.gov, &f->w.ns).count, 0);
}

/* Below the cut lies what nobody here can read: what asks for rights waits for that key, and
 * applies when it comes. What is sealed itself is kept as if it could not be read either, and what
 * others put on top of it waits no more than it does. */
static void test_waiting_for_a_key(void **state) {
    fixture *f = *state;
    cal_secret key = {{0x5D}};
    gov_packet unread = gov_world_sealed(&f->w, &f->w.owner.sign, &f->last, 1, f->w.ns, &key,
                                         (gov_group_op){.kind = GOV_NOOP});
    gov_receipt receipt = gov_replica_take(&f->r, &f->w.ns, &unread);
    assert_int_equal(receipt.reason, GOV_WHY_SEALED);
    cal_hash key_id;
    gov_key_id(&key, &key_id);
    gov_packet packets[KINDS];
    for (int kind = 0; kind < KINDS; kind++) {
        specimen s = specimen_of(f, kind);
        packets[kind] = pack(f, &s, &s.by->sign, &unread.id);
        const gov_packet *packet = &packets[kind];
        size_t count;
        gov_change *change = gov_replica_receive(&f->r, &f->w.ns, &packet, 1);
        receipt = gov_change_receipts(change, &count)[0];
        gov_change_abort(change);
        if (kind == GOV_KEY_DELIVERY || kind == GOV_NAMESPACE_CREATED) /* ask for nobody's rights */
            expect(kind, &receipt, gov_reason_verdict(s.reason), s.reason);
        else if (s.op.group)
            expect(kind, &receipt, GOV_KEPT, GOV_WHY_SEALED);
        else {
            expect(kind, &receipt, GOV_WAITING, GOV_WHY_KEY_LACKS);
            assert_int_equal(receipt.wait.kind, GOV_WAIT_KEY);
            assert_memory_equal(&receipt.wait.id, &key_id, 32);
        }
    }
    assert_false(gov_receive_pending(f->r.gov, &f->w.ns));
    gov_replica_key(&f->r, &f->w.ns, &f->w.ns, &key);
    assert_true(gov_receive_pending(f->r.gov, &f->w.ns));
    for (int kind = 0; kind < KINDS; kind++) {
        specimen s = specimen_of(f, kind);
        const gov_packet *packet = &packets[kind];
        size_t count;
        gov_change *change = gov_replica_receive(&f->r, &f->w.ns, &packet, 1);
        receipt = gov_change_receipts(change, &count)[0];
        gov_change_abort(change);
        expect(kind, &receipt, gov_reason_verdict(s.reason), s.reason);
        gov_packet_free(&packets[kind]);
    }
    gov_packet_free(&unread);
}

/* Signature, namespace, version: refused, whoever signs; what cites it waits. */
static void test_refused(void **state) {
    fixture *f = *state;
    for (int kind = 0; kind < KINDS; kind++)
        for (int how = 0; how < 3; how++) {
            specimen s = specimen_of(f, kind);
            gov_group_op plain = s.plain;
            cal_group_id ns = f->w.ns;
            if (how == 1) f->w.ns.bytes[0] ^= 1;
            gov_packet p = pack(f, &s, &s.by->sign, &f->last);
            f->w.ns = ns;
            if (how == 0) p.bytes.data[p.bytes.len - 1] ^= 1;
            if (how == 2) p.bytes.data[0]++;
            (void)plain;
            run(f, kind, p, GOV_REFUSED,
                how == 0   ? GOV_WHY_SIGNATURE
                : how == 1 ? GOV_WHY_NAMESPACE
                           : GOV_WHY_VERSION,
                GOV_WAITING);
        }
}

static uint8_t role_of(fixture *f, const gov_actor *who) {
    gov_view view = gov_replica_view(&f->r, &f->w.ns);
    gov_member member = {0};
    assert_true(gov_member_get(&view, &f->w.ns, &who->account, &member));
    return member.role;
}

/* A valid invitation with somebody else's certificate over another key: the member's role stays.
 * Its own certificate changes it. */
static void test_forged_join(void **state) {
    fixture *f = *state;
    gov_actor mallory;
    gov_actor_make(&mallory, 0x77);
    gov_root_op op = gov_world_join(&f->alice, &f->w.owner, f->w.ns, 2, 9);
    memcpy(op.credential.cert.sign_key, mallory.key, 32);
    gov_cert_sign(&op.credential.cert, &mallory.root);
    step(f, clear(f, &mallory, op));
    assert_int_equal(role_of(f, &f->alice), GOV_ROLE_MEMBER);
    step(f, clear(f, &f->alice, gov_world_join(&f->alice, &f->w.owner, f->w.ns, 2, 10)));
    assert_int_equal(role_of(f, &f->alice), GOV_ROLE_READ_ONLY);
}

/* What is sealed can be no ground for a refusal: who has no key keeps it. */
static void test_sealed_rubbish(void **state) {
    fixture *f = *state;
    static const struct {
        const char *plain;
        gov_reason reason;
    } cases[] = {
        {"\x1c", GOV_WHY_SEALED_UNKNOWN}, /* the kind after the last */
        {"\xff rubbish", GOV_WHY_SEALED_UNKNOWN},
        {"\x01 short", GOV_WHY_SEALED_MALFORMED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gov_op op = {.group = true, .group_id = f->group};
        cal_buffer bytes;
        cal_buffer_init(&bytes, 4096);
        gov_key_id(&f->w.ns_key, &op.key_id);
        assert_int_equal(cal_seal(&f->w.ns_key, op.nonce, (cal_slice){0},
                                  cal_slice_text(cases[i].plain), &bytes),
                         0);
        op.sealed = cal_buffer_slice(&bytes);
        run(f, GOV_ROOT_KIND_COUNT, gov_world_sign(&f->w, &f->w.owner.sign, &f->last, 1, op),
            GOV_KEPT, cases[i].reason, GOV_APPLIED);
        bytes.data[0] ^= 1; /* not what the key gives */
        run(f, GOV_ROOT_KIND_COUNT, gov_world_sign(&f->w, &f->w.owner.sign, &f->last, 1, op),
            GOV_KEPT, GOV_WHY_SEAL_WRONG, GOV_APPLIED);
        cal_buffer_deinit(&bytes);
    }
}

/* Kept for what nobody else keeps, it is no head: our own operations do not cite it. */
static void test_not_cited(void **state) {
    fixture *f = *state;
    gov_packet denied = sealed(f, &f->alice, (gov_group_op){.kind = GOV_DEFAULT_CAPABILITIES_SET});
    gov_receipt receipt = gov_replica_take(&f->r, &f->w.ns, &denied);
    assert_int_equal(receipt.verdict, GOV_KEPT);
    gov_view view = gov_replica_view(&f->r, &f->w.ns);
    cal_slice heads = gov_heads_get(&view);
    assert_int_equal(heads.len, 32);
    assert_memory_equal(heads.data, &f->last, 32);
    /* a second genesis is kept everywhere: of a member it is a head, of a stranger it is none */
    gov_packet second = clear(f, &f->w.owner,
                              (gov_root_op){.kind = GOV_NAMESPACE_CREATED,
                                            .account = f->w.owner.account,
                                            .credential = f->w.owner.credential});
    receipt = gov_replica_take(&f->r, &f->w.ns, &second);
    assert_int_equal(receipt.reason, GOV_WHY_FOUNDED);
    view = gov_replica_view(&f->r, &f->w.ns);
    heads = gov_heads_get(&view);
    assert_int_equal(heads.len, 32);
    assert_memory_equal(heads.data, &second.id, 32);
    f->last = second.id;
    gov_packet strange = clear(f, &f->bob,
                               (gov_root_op){.kind = GOV_NAMESPACE_CREATED,
                                             .account = f->bob.account,
                                             .credential = f->bob.credential});
    receipt = gov_replica_take(&f->r, &f->w.ns, &strange);
    assert_int_equal(receipt.reason, GOV_WHY_FOUNDED);
    view = gov_replica_view(&f->r, &f->w.ns);
    assert_memory_equal(gov_heads_get(&view).data, &second.id, 32);
    gov_replica_reopen(&f->r);
    view = gov_replica_view(&f->r, &f->w.ns);
    assert_memory_equal(gov_heads_get(&view).data, &second.id, 32);
    gov_packet_free(&denied);
    gov_packet_free(&second);
    gov_packet_free(&strange);
}

/* T29: the last admin and the owner, by every way out, for a group whose maker is no admin. */
static void test_last_admin(void **state) {
    fixture *f = *state;
    static const uint8_t ways[] = {GOV_MEMBER_REMOVED, GOV_MEMBER_LEFT, GOV_MEMBER_ROLE_SET};
    for (size_t i = 0; i < sizeof ways; i++) {
        gov_group_op owner = {
            .kind = ways[i], .account = f->w.owner.account, .role = GOV_ROLE_MEMBER};
        gov_group_op admin = {
            .kind = ways[i], .account = f->carol.account, .role = GOV_ROLE_MEMBER};
        bool leaves = ways[i] == GOV_MEMBER_LEFT;
        /* the owner stays, though another admin is there; as a role, the owner may give it up */
        run(f, GOV_ROOT_KIND_COUNT + ways[i], sealed(f, leaves ? &f->w.owner : &f->carol, owner),
            ways[i] == GOV_MEMBER_ROLE_SET ? GOV_APPLIED : GOV_KEPT,
            ways[i] == GOV_MEMBER_ROLE_SET ? GOV_WHY_FINE : GOV_WHY_OWNER_STAYS, GOV_APPLIED);
        run(f, GOV_ROOT_KIND_COUNT + ways[i], sealed(f, leaves ? &f->carol : &f->w.owner, admin),
            GOV_APPLIED, GOV_WHY_FINE, GOV_APPLIED);
    }
    /* carol owns it, and is its last admin */
    step(f, sealed(f, &f->w.owner,
                   (gov_group_op){.kind = GOV_OWNERSHIP_TRANSFERRED, .account = f->carol.account}));
    gov_group_op demote = {
        .kind = GOV_MEMBER_ROLE_SET, .account = f->carol.account, .role = GOV_ROLE_MEMBER};
    run(f, GOV_ROOT_KIND_COUNT + GOV_MEMBER_ROLE_SET, sealed(f, &f->carol, demote), GOV_APPLIED,
        GOV_WHY_FINE, GOV_APPLIED); /* the maker of a group stays its admin at every cut */
}

/* An owner who is no admin, and an admin, the last, who is not the owner. */
static void test_owner_without_rights(void **state) {
    fixture *f = *state;
    cal_group_id group = f->group;
    step(f, clear(f, &f->w.owner,
                  (gov_root_op){.kind = GOV_ADMIN_CHANGED, .account = f->alice.account}));
    f->group = f->w.ns; /* sealed() speaks of the namespace now */
    static const uint8_t ways[] = {GOV_MEMBER_REMOVED, GOV_MEMBER_LEFT, GOV_MEMBER_ROLE_SET};
    for (size_t i = 0; i < sizeof ways; i++) {
        gov_group_op op = {.kind = ways[i], .account = f->alice.account, .role = GOV_ROLE_MEMBER};
        run(f, GOV_ROOT_KIND_COUNT + ways[i], sealed(f, &f->alice, op), GOV_KEPT,
            GOV_WHY_LAST_ADMIN, GOV_KEPT);
    }
    gov_group_op defaults = {.kind = GOV_DEFAULT_CAPABILITIES_SET};
    run(f, GOV_ROOT_KIND_COUNT + defaults.kind, sealed(f, &f->w.owner, defaults), GOV_KEPT,
        GOV_WHY_NOT_ADMIN, GOV_KEPT);
    run(f, GOV_ROOT_KIND_COUNT + defaults.kind, sealed(f, &f->alice, defaults), GOV_APPLIED,
        GOV_WHY_FINE, GOV_KEPT);
    gov_group_op pass = {.kind = GOV_OWNERSHIP_TRANSFERRED, .account = f->alice.account};
    run(f, GOV_ROOT_KIND_COUNT + pass.kind, sealed(f, &f->alice, pass), GOV_KEPT, GOV_WHY_NOT_OWNER,
        GOV_KEPT);
    run(f, GOV_ROOT_KIND_COUNT + pass.kind, sealed(f, &f->w.owner, pass), GOV_APPLIED, GOV_WHY_FINE,
        GOV_KEPT);
    /* its group is its own still */
    f->group = group;
    run(f, GOV_GROUP_DELETED,
        clear(f, &f->w.owner,
              (gov_root_op){.kind = GOV_GROUP_DELETED,
                            .group = group,
                            .contexts = {(const cal_hash *)(const void *)&f->context, 1}}),
        GOV_APPLIED, GOV_WHY_FINE, GOV_KEPT);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_applied),
        T(test_kept),
        T(test_waiting_for_a_parent),
        T(test_waiting_for_a_key),
        T(test_refused),
        T(test_forged_join),
        T(test_sealed_rubbish),
        T(test_not_cited),
        T(test_last_admin),
        T(test_owner_without_rights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
