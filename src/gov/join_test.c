/* Joining: a founder and those who come, who pass each other bytes (governance.md 10; 18.1 T6 to
 * T12; 18.2 G1, G13). */
#include "gov/members.h"
#include "support/gov_peers.h"

typedef struct {
    gov_replica founder, joiner, other;
    cal_group_id ns;
    cal_context_id context;
} fixture;

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    gov_replica_start(&f->founder);
    gov_replica_start(&f->joiner);
    gov_replica_start(&f->other);
    f->ns = gov_peer_found(&f->founder);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    gov_replica_check(&f->founder);
    gov_replica_check(&f->joiner);
    gov_replica_stop(&f->founder);
    gov_replica_stop(&f->joiner);
    gov_replica_stop(&f->other);
    free(f);
    return 0;
}

static bool can_seal(gov_replica *r, cal_group_id group) {
    gov_view view;
    gov_group_key key;
    return gov_find_group(r->gov, &group, &view) && gov_key_current(&view, &group, &key);
}

static gov_author_verdict verdict(gov_replica *judge, const cal_context_id *context,
                                  gov_replica *author, const gov_position *position) {
    gov_author answer;
    assert_int_equal(gov_author_judge(judge->gov, context, &gov_self(author->gov)->sign_key,
                                      position, &answer, &judge->err),
                     0);
    if (answer.verdict == GOV_AUTHOR_MAY)
        assert_memory_equal(&answer.account, &gov_self(author->gov)->account, 32);
    if (answer.verdict == GOV_AUTHOR_NOT) assert_non_null(answer.why);
    return answer.verdict;
}

static void count_group(void *user, const gov_group_info *info) {
    if (!info->joining) ++*(int *)user;
}

/* T6, T7: what the invitation hints is nobody's right. */
static void test_placeholder(void **state) {
    fixture *f = *state;
    gov_invitation invitation = gov_peer_invite(&f->founder, f->ns, GOV_ROLE_MEMBER);
    const cal_account_id hinted = gov_self(f->joiner.gov)->account;
    gov_group_info info;
    gov_context_plan plan;
    gov_change *none;
    int count = 0;
    invitation.signature = cal_slice_text(invitation.signature_text);
    invitation.inviter_account = hinted; /* rewritten on the way */
    gov_peer_do(&f->joiner, gov_join_begin(f->joiner.gov, &invitation, "story", &change, err));
    assert_true(gov_namespace_joining(f->joiner.gov, &f->ns));
    assert_int_equal(gov_group_get(f->joiner.gov, &f->ns, &info), 0);
    assert_true(info.joining && gov_id_zero(info.admin.bytes) && gov_id_zero(info.owner.bytes));
    assert_string_equal(info.name, "story");
    assert_int_equal(info.members, 0);
    gov_namespace_each(f->joiner.gov, count_group, &count);
    assert_int_equal(count, 0);
    assert_int_equal(gov_member_path(f->joiner.gov, &f->ns, &hinted, NULL), GOV_PATH_NONE);
    assert_false(gov_member_admin(f->joiner.gov, &f->ns, &hinted));
    assert_int_equal(gov_context_prepare(f->joiner.gov, &f->ns, &plan, &f->joiner.err),
                     CAL_EDENIED);
    assert_int_equal(gov_join_begin(f->joiner.gov, &invitation, NULL, &none, &f->joiner.err), 0);
    assert_null(none);
    gov_replica_reopen(&f->joiner);
    assert_true(gov_namespace_joining(f->joiner.gov, &f->ns));
    gov_peer_do(&f->joiner, gov_join_abandon(f->joiner.gov, &f->ns, &change, err));
    assert_int_equal(gov_group_get(f->joiner.gov, &f->ns, &info), CAL_ENOTFOUND);
    assert_int_equal(gov_join_abandon(f->joiner.gov, &f->ns, &none, &f->joiner.err), CAL_ENOTFOUND);
    gov_peer_do(&f->joiner, gov_join_begin(f->joiner.gov, &invitation, NULL, &change, err));
    assert_true(gov_namespace_joining(f->joiner.gov, &f->ns));
}

/* T8, on the joiner's side. */
/* What a founder alone knows of its application comes with the invitation, whichever is first. */
static void test_history_before_the_invitation(void **state) {
    fixture *f = *state;
    gov_invitation invitation = gov_peer_invite(&f->founder, f->ns, GOV_ROLE_MEMBER);
    cal_blob_id code, expected;
    gov_group_info info;
    invitation.signature = cal_slice_text(invitation.signature_text);
    gov_peer_copy(&f->founder, &f->joiner, &f->ns, 1);
    gov_peer_do(&f->joiner, gov_join_begin(f->joiner.gov, &invitation, NULL, &change, err));
    assert_int_equal(gov_group_code(f->founder.gov, &f->ns, &expected), 0);
    assert_int_equal(gov_group_code(f->joiner.gov, &f->ns, &code), 0);
    assert_memory_equal(&code, &expected, 32);
    assert_int_equal(gov_group_get(f->joiner.gov, &f->ns, &info), 0);
    assert_memory_equal(&info.application, &invitation.application, 32);
    assert_memory_equal(&info.admin, &gov_self(f->founder.gov)->account, 32);
}

static void test_bad_invitations(void **state) {
    fixture *f = *state;
    gov_invitation good = gov_peer_invite(&f->founder, f->ns, GOV_ROLE_MEMBER), bad = good;
    gov_change *change;
    good.signature = cal_slice_text(good.signature_text);
    bad.signature = good.signature;
    bad.role = GOV_ROLE_ADMIN; /* T9 */
    assert_int_equal(gov_join_begin(f->joiner.gov, &bad, NULL, &change, &f->joiner.err),
                     CAL_EVERIFY);
    bad = good;
    bad.expires_at_s = 1;
    gov_invitation_sign(&bad, &gov_self(f->founder.gov)->sign_seed);
    assert_int_equal(gov_join_begin(f->joiner.gov, &bad, NULL, &change, &f->joiner.err),
                     CAL_ETIMEOUT);
    bad = good;
    bad.has_application = false;
    assert_int_equal(gov_join_begin(f->joiner.gov, &bad, NULL, &change, &f->joiner.err),
                     CAL_EINVAL);
    assert_int_equal(gov_join_begin(f->founder.gov, &good, NULL, &change, &f->founder.err),
                     CAL_EEXISTS);
    assert_int_equal(gov_join_publish(f->joiner.gov, &good, &change, &f->joiner.err),
                     CAL_ENOTFOUND);
}

/* The whole way, whatever the order in which history comes. */
static void join_in_order(fixture *f, uint32_t seed) {
    gov_invitation invitation = gov_peer_invite(&f->founder, f->ns, GOV_ROLE_MEMBER);
    gov_change *none;
    gov_write_grant grant;
    gov_context_info info;
    invitation.signature = cal_slice_text(invitation.signature_text);
    gov_peer_begin(&f->joiner, &f->founder, &invitation);
    assert_false(can_seal(&f->joiner, f->ns)); /* nobody vouches for the key yet */
    assert_int_equal(gov_join_publish(f->joiner.gov, &invitation, &none, &f->joiner.err),
                     CAL_ESTATE);
    gov_replica_reopen(&f->joiner);
    gov_peer_copy(&f->founder, &f->joiner, &f->ns, seed);
    assert_true(can_seal(&f->joiner, f->ns));
    assert_int_equal(gov_context_get(f->joiner.gov, &f->context, &info), 0);
    assert_true(gov_namespace_joining(f->joiner.gov, &f->ns));
    gov_position before = gov_peer_position(&f->joiner, &f->ns);
    gov_peer_do(&f->joiner, gov_join_publish(f->joiner.gov, &invitation, &change, err));
    assert_false(gov_namespace_joining(f->joiner.gov, &f->ns));
    assert_int_equal(gov_join_publish(f->joiner.gov, &invitation, &none, &f->joiner.err),
                     CAL_EEXISTS);
    assert_int_equal(gov_context_write(f->joiner.gov, &f->context, &grant, &f->joiner.err), 0);
    /* what it writes names a position that the founder has not got yet */
    gov_position after = gov_peer_position(&f->joiner, &f->ns);
    assert_int_equal(verdict(&f->founder, &f->context, &f->joiner, &after), GOV_AUTHOR_UNKNOWN);
    gov_peer_copy(&f->joiner, &f->founder, &f->ns, 0);
    assert_int_equal(verdict(&f->founder, &f->context, &f->joiner, &after), GOV_AUTHOR_MAY);
    assert_int_equal(verdict(&f->founder, &f->context, &f->joiner, &before), GOV_AUTHOR_NOT);
    assert_int_equal(verdict(&f->joiner, &f->context, &f->founder, &before), GOV_AUTHOR_MAY);
    assert_int_equal(verdict(&f->joiner, &f->context, &f->founder, &after), GOV_AUTHOR_MAY);
    assert_int_equal(verdict(&f->joiner, &f->context, &f->other, &after), GOV_AUTHOR_NOT);
    cal_secret key;
    assert_int_equal(gov_context_key(f->founder.gov, &f->context, &grant.key_id, &key), 0);
    assert_memory_equal(&key, &grant.group_key, 32);
    grant.key_id.bytes[0] ^= 1;
    assert_int_equal(gov_context_key(f->founder.gov, &f->context, &grant.key_id, &key),
                     CAL_ENOTFOUND);
}

static void test_join(void **state) {
    fixture *f = *state;
    gov_peer_group(&f->founder, f->ns, false);
    f->context = gov_peer_context(&f->founder, f->ns, 0xC1);
    join_in_order(f, 0);
}

static void test_join_any_order(void **state) {
    fixture *f = *state;
    for (int i = 0; i < 20; i++) gov_peer_group(&f->founder, f->ns, i % 2);
    f->context = gov_peer_context(&f->founder, f->ns, 0xC1);
    for (uint32_t seed = 1; seed <= 20; seed++) {
        gov_replica_stop(&f->joiner);
        gov_replica_start(&f->joiner);
        join_in_order(f, seed);
    }
}

/* Nothing sealed in the whole history: that the responder is a member vouches for the key. */
static void test_bare(void **state) {
    fixture *f = *state;
    gov_peer_join(&f->joiner, &f->founder, f->ns, GOV_ROLE_MEMBER);
    assert_true(can_seal(&f->joiner, f->ns));
    assert_true(gov_key_is_member(f->founder.gov, &f->ns, &gov_self(f->joiner.gov)->sign_key));
    assert_false(gov_key_is_member(f->founder.gov, &f->ns, &gov_self(f->other.gov)->sign_key));
    cal_account_id account;
    assert_int_equal(
        gov_account_of(f->founder.gov, &f->ns, &gov_self(f->joiner.gov)->sign_key, &account), 0);
    assert_memory_equal(&account, &gov_self(f->joiner.gov)->account, 32);
}

/* G1: whoever answers first may be anybody; its key never seals. */
static void test_planted_key(void **state) {
    fixture *f = *state;
    gov_invitation invitation = gov_peer_invite(&f->founder, f->ns, GOV_ROLE_MEMBER);
    const gov_identity *evil = gov_self(f->other.gov);
    cal_secret planted = {{0x66}};
    gov_envelope envelope;
    gov_view view;
    gov_group_key key;
    cal_hash id;
    invitation.signature = cal_slice_text(invitation.signature_text);
    gov_peer_context(&f->founder, f->ns, 0xC1);
    gov_peer_do(&f->joiner, gov_join_begin(f->joiner.gov, &invitation, NULL, &change, err));
    assert_int_equal(gov_envelope_seal_member(cal_os_posix(), &f->ns, &planted,
                                              gov_self(f->joiner.gov)->sign_key.bytes,
                                              &evil->sign_seed, NULL, NULL, &envelope),
                     0);
    gov_change *none;
    assert_int_equal(gov_join_take(f->joiner.gov, &invitation, &envelope,
                                   &gov_self(f->founder.gov)->sign_key, 4, &none, &f->joiner.err),
                     CAL_EVERIFY);
    gov_peer_do(&f->joiner, gov_join_take(f->joiner.gov, &invitation, &envelope, &evil->sign_key, 4,
                                          &change, err));
    gov_peer_copy(&f->founder, &f->joiner, &f->ns, 3);
    assert_false(can_seal(&f->joiner, f->ns));
    gov_peer_begin(&f->joiner, &f->founder, &invitation);
    gov_find_group(f->joiner.gov, &f->ns, &view);
    assert_true(gov_key_current(&view, &f->ns, &key));
    gov_key_id(&planted, &id);
    assert_memory_not_equal(&key.id, &id, 32);
    assert_true(gov_key_find(&view, &f->ns, &id, &key)); /* it may open what others sealed */
    gov_peer_do(&f->joiner, gov_join_publish(f->joiner.gov, &invitation, &change, err));
    gov_peer_context(&f->founder, f->ns, 0xC2);
}

/* --- the responder --- */

static void refused(fixture *f, const gov_invitation *invitation, gov_replica *joiner, int code) {
    gov_join_answer answer;
    cal_arena arena;
    cal_arena_init(&arena, 1 << 20);
    int result = gov_peer_answer(&f->founder, &f->ns, invitation, joiner, &arena, &answer);
    if (result != code) print_error("%d: %s\n", result, f->founder.err.message);
    assert_int_equal(result, code);
    cal_arena_deinit(&arena);
}

static void test_responder_refuses(void **state) {
    fixture *f = *state;
    gov_invitation good = gov_peer_invite(&f->founder, f->ns, GOV_ROLE_MEMBER), bad = good;
    const cal_secret *founder = &gov_self(f->founder.gov)->sign_seed;
    gov_join_answer answer;
    cal_arena arena;
    refused(f, &good, &f->joiner, 0);
    bad.role = GOV_ROLE_ADMIN;
    refused(f, &bad, &f->joiner, CAL_EVERIFY);
    bad = good;
    bad.expires_at_s = 1;
    gov_invitation_sign(&bad, founder);
    refused(f, &bad, &f->joiner, CAL_EDENIED);
    bad = good; /* T8: signed by somebody who may not invite */
    gov_invitation_sign(&bad, &gov_self(f->other.gov)->sign_seed);
    refused(f, &bad, &f->joiner, CAL_EDENIED);
    bad = good;
    bad.group.bytes[0] ^= 1;
    gov_invitation_sign(&bad, founder);
    refused(f, &bad, &f->joiner, CAL_ENOTFOUND);
    cal_arena_init(&arena, 1 << 20);
    assert_int_equal(gov_peer_answer(&f->other, &f->ns, &good, &f->joiner, &arena, &answer),
                     CAL_ENOTFOUND); /* not its namespace */
    cal_buffer credential, invited;
    cal_buffer_init(&credential, 4096);
    cal_buffer_init(&invited, 4096);
    good.signature = cal_slice_text(good.signature_text);
    gov_invitation_write(&good, &invited);
    gov_credential_bytes(f->joiner.gov, &credential);
    /* T11: another's credential */
    assert_int_equal(gov_join_answer_make(f->founder.gov, &f->ns, cal_buffer_slice(&invited),
                                          cal_buffer_slice(&credential),
                                          &gov_self(f->other.gov)->sign_key, &arena, &answer,
                                          &f->founder.err),
                     CAL_EDENIED);
    for (size_t i = 0; i < credential.len; i++) {
        credential.data[i] ^= 1;
        assert_int_not_equal(
            gov_join_answer_make(f->founder.gov, &f->ns, cal_buffer_slice(&invited),
                                 cal_buffer_slice(&credential), &gov_self(f->joiner.gov)->sign_key,
                                 &arena, &answer, &f->founder.err),
            0);
        credential.data[i] ^= 1;
    }
    for (size_t len = 0; len < invited.len; len += 7)
        assert_int_equal(
            gov_join_answer_make(f->founder.gov, &f->ns, cal_slice_of(invited.data, len),
                                 cal_buffer_slice(&credential), &gov_self(f->joiner.gov)->sign_key,
                                 &arena, &answer, &f->founder.err),
            CAL_EDECODE);
    cal_buffer_deinit(&credential);
    cal_buffer_deinit(&invited);
    cal_arena_deinit(&arena);
}

static void says(const fixture *f, const char *words) {
    assert_non_null(strstr(f->founder.err.message, words));
}

/* Somebody who may invite, and is no admin, invites no admin. */
static void test_admin_by_member(void **state) {
    fixture *f = *state;
    gov_peer_join(&f->other, &f->founder, f->ns, GOV_ROLE_MEMBER);
    gov_peer_do(&f->founder, gov_member_set_capabilities(f->founder.gov, &f->ns,
                                                         &gov_self(f->other.gov)->account,
                                                         GOV_CAN_INVITE_MEMBERS, &change, err));
    gov_invitation invitation = gov_peer_invite(&f->founder, f->ns, GOV_ROLE_MEMBER);
    gov_invitation_sign(&invitation, &gov_self(f->other.gov)->sign_seed);
    refused(f, &invitation, &f->joiner, 0);
    invitation.role = GOV_ROLE_ADMIN;
    gov_invitation_sign(&invitation, &gov_self(f->other.gov)->sign_seed);
    refused(f, &invitation, &f->joiner, CAL_EDENIED);
    says(f, "only an admin");
}

/* A device that is revoked gets no key, whatever it is invited with. */
static void test_revoked_device(void **state) {
    fixture *f = *state;
    gov_peer_join(&f->joiner, &f->founder, f->ns, GOV_ROLE_MEMBER);
    gov_invitation again = gov_peer_invite(&f->founder, f->ns, GOV_ROLE_MEMBER);
    refused(f, &again, &f->joiner, 0);
    gov_group_op revoke = {.kind = GOV_DEVICE_UNLINKED,
                           .account = gov_self(f->joiner.gov)->account,
                           .device = gov_self(f->joiner.gov)->device};
    gov_peer_do(&f->founder, gov_peer_author(&f->founder, &f->ns, &f->ns, revoke, &change, err));
    refused(f, &again, &f->joiner, CAL_EDENIED);
    says(f, "revoked");
}

/* Who has left comes back by another invitation than the one it came by. */
static void test_used_again(void **state) {
    fixture *f = *state;
    gov_invitation used = gov_peer_invite(&f->founder, f->ns, GOV_ROLE_MEMBER),
                   other = gov_peer_invite(&f->founder, f->ns, GOV_ROLE_MEMBER);
    used.signature = cal_slice_text(used.signature_text);
    gov_peer_begin(&f->joiner, &f->founder, &used);
    gov_peer_copy(&f->founder, &f->joiner, &f->ns, 0);
    gov_peer_do(&f->joiner, gov_join_publish(f->joiner.gov, &used, &change, err));
    gov_peer_do(&f->joiner, gov_leave(f->joiner.gov, &f->ns, (gov_context_roots){0}, &change, err));
    gov_peer_copy(&f->joiner, &f->founder, &f->ns, 0);
    refused(f, &used, &f->joiner, CAL_EDENIED);
    says(f, "used this invitation");
    refused(f, &other, &f->joiner, 0);
}

/* The answer names the contexts that the joiner will see into. */
static void test_contexts_in_the_answer(void **state) {
    fixture *f = *state;
    gov_join_answer answer;
    cal_arena arena;
    cal_group_id open = gov_peer_group(&f->founder, f->ns, true),
                 closed = gov_peer_group(&f->founder, f->ns, false),
                 below = gov_peer_group(&f->founder, closed, true);
    cal_context_id top = gov_peer_context(&f->founder, f->ns, 0xC1),
                   inside = gov_peer_context(&f->founder, open, 0xC2);
    gov_peer_context(&f->founder, closed, 0xC3);
    gov_peer_context(&f->founder, below, 0xC4);
    gov_invitation invitation = gov_peer_invite(&f->founder, f->ns, GOV_ROLE_MEMBER);
    cal_arena_init(&arena, 1 << 20);
    assert_int_equal(gov_peer_answer(&f->founder, &f->ns, &invitation, &f->joiner, &arena, &answer),
                     0);
    assert_int_equal(answer.context_count, 2);
    assert_memory_equal(&answer.contexts[0], &top, 32);
    assert_memory_equal(&answer.contexts[1], &inside, 32);
    cal_arena_deinit(&arena);
}

/* T10: a removed member comes back only when an admin adds it; T36: what it wrote before stands. */
static void test_removed(void **state) {
    fixture *f = *state;
    f->context = gov_peer_context(&f->founder, f->ns, 0xC1);
    gov_peer_join(&f->joiner, &f->founder, f->ns, GOV_ROLE_MEMBER);
    gov_position before = gov_peer_position(&f->founder, &f->ns), after;
    gov_group_op removal = {.kind = GOV_MEMBER_REMOVED,
                            .account = gov_self(f->joiner.gov)->account};
    gov_peer_do(&f->founder, gov_peer_author(&f->founder, &f->ns, &f->ns, removal, &change, err));
    after = gov_peer_position(&f->founder, &f->ns);
    assert_int_equal(verdict(&f->founder, &f->context, &f->joiner, &before), GOV_AUTHOR_MAY);
    assert_int_equal(verdict(&f->founder, &f->context, &f->joiner, &after), GOV_AUTHOR_NOT);
    gov_invitation again = gov_peer_invite(&f->founder, f->ns, GOV_ROLE_MEMBER);
    refused(f, &again, &f->joiner, CAL_EDENIED);
    gov_peer_copy(&f->founder, &f->joiner, &f->ns, 5);
    assert_int_equal(verdict(&f->joiner, &f->context, &f->joiner, &before), GOV_AUTHOR_MAY);
    assert_int_equal(verdict(&f->joiner, &f->context, &f->joiner, &after), GOV_AUTHOR_NOT);
}

static void remove_account(gov_replica *r, cal_group_id group, gov_replica *who) {
    gov_group_op removal = {.kind = GOV_MEMBER_REMOVED, .account = gov_self(who->gov)->account};
    gov_change *change;
    assert_int_equal(gov_change_begin_in(r->gov, &group, &change, &r->err), 0);
    assert_int_equal(gov_author_rotating(change, &group, &removal, &removal.account, NULL, &r->err),
                     0);
    assert_int_equal(gov_change_finish(change, 0, &change, &r->err), 0);
    gov_replica_commit(r, change);
}

static cal_hash current_id(gov_replica *r, cal_group_id group) {
    gov_view view;
    gov_group_key key;
    assert_non_null(gov_find_group(r->gov, &group, &view));
    assert_true(gov_key_current(&view, &group, &key));
    return key.id;
}

/* Who was answered reads what was sealed before, and nothing that came after, until it is a
 * member; and nothing at all once it is turned away. */
static void test_older_keys(void **state) {
    fixture *f = *state;
    gov_join_answer answer;
    gov_envelope envelope;
    cal_secret opened;
    cal_arena arena;
    const gov_identity *joiner = gov_self(f->joiner.gov);
    cal_arena_init(&arena, 1 << 20);
    cal_hash first = current_id(&f->founder, f->ns), unknown = {{9}};
    gov_peer_join(&f->other, &f->founder, f->ns, GOV_ROLE_MEMBER);
    remove_account(&f->founder, f->ns, &f->other);
    cal_hash second = current_id(&f->founder, f->ns);
    gov_invitation invitation = gov_peer_invite(&f->founder, f->ns, GOV_ROLE_MEMBER);
    assert_int_equal(gov_peer_answer(&f->founder, &f->ns, &invitation, &f->joiner, &arena, &answer),
                     0);
    const gov_joiner *who = &answer.joiner;
    gov_replica *by = &f->founder;
    assert_int_equal(gov_join_key_serve(by->gov, &f->ns, who, &first, &envelope), 0);
    assert_int_equal(gov_envelope_open(&envelope, &f->ns, &joiner->sign_seed, &joiner->device,
                                       &joiner->kem_secret, gov_self(by->gov)->sign_key.bytes,
                                       &opened),
                     0);
    cal_hash id;
    gov_key_id(&opened, &id);
    assert_memory_equal(&id, &first, 32);
    assert_int_equal(gov_join_key_serve(by->gov, &f->ns, who, &second, &envelope), 0);
    assert_int_equal(gov_join_key_serve(by->gov, &f->ns, who, &unknown, &envelope), CAL_ENOTFOUND);
    assert_int_equal(gov_join_key_serve(f->other.gov, &f->ns, who, &first, &envelope),
                     CAL_ENOTFOUND);       /* no member any more */
    remove_account(by, f->ns, &f->joiner); /* of which nobody had heard: a next key all the same */
    cal_hash third = current_id(by, f->ns);
    gov_joiner another = *who;
    another.account = gov_self(f->other.gov)->account;
    assert_int_equal(gov_join_key_serve(by->gov, &f->ns, who, &first, &envelope), CAL_ENOTFOUND);
    another.account.bytes[0] ^= 1;
    assert_int_equal(gov_join_key_serve(by->gov, &f->ns, &another, &first, &envelope), 0);
    assert_int_equal(gov_join_key_serve(by->gov, &f->ns, &another, &third, &envelope),
                     CAL_ENOTFOUND);
    another.has_key = false;
    assert_int_equal(gov_join_key_serve(by->gov, &f->ns, &another, &first, &envelope),
                     CAL_ENOTFOUND);
    cal_arena_deinit(&arena);
}

static void test_read_only(void **state) {
    fixture *f = *state;
    f->context = gov_peer_context(&f->founder, f->ns, 0xC1);
    gov_peer_join(&f->joiner, &f->founder, f->ns, GOV_ROLE_READ_ONLY);
    gov_position here = gov_peer_position(&f->founder, &f->ns);
    assert_int_equal(verdict(&f->founder, &f->context, &f->joiner, &here), GOV_AUTHOR_NOT);
}

/* G13: a namespace of somebody else's making under the same id. */
static void test_other_namespace(void **state) {
    fixture *f = *state;
    gov_invitation invitation = gov_peer_invite(&f->founder, f->ns, GOV_ROLE_MEMBER);
    gov_namespace_spec spec = {.id = &f->ns, .application = {{0xA9}}, .app_key = {{0xB1}}};
    cal_group_id id;
    gov_change *none;
    invitation.signature = cal_slice_text(invitation.signature_text);
    gov_peer_do(&f->other, gov_namespace_create(f->other.gov, &spec, &id, &change, err));
    gov_peer_do(&f->joiner, gov_join_begin(f->joiner.gov, &invitation, NULL, &change, err));
    gov_peer_copy(&f->other, &f->joiner, &f->ns, 1);
    assert_int_equal(gov_join_publish(f->joiner.gov, &invitation, &none, &f->joiner.err),
                     CAL_EDENIED);
    gov_peer_do(&f->joiner, gov_join_abandon(f->joiner.gov, &f->ns, &change, err));
    assert_false(gov_namespace_joining(f->joiner.gov, &f->ns));
    assert_int_equal(gov_join_begin(f->joiner.gov, &invitation, NULL, &none, &f->joiner.err),
                     CAL_EBUSY); /* its rows are still going */
}

/* An open group, which members of the namespace are in without an operation. */
static void test_open_group(void **state) {
    fixture *f = *state;
    gov_envelope envelope;
    cal_group_id group = gov_peer_group(&f->founder, f->ns, true),
                 closed = gov_peer_group(&f->founder, f->ns, false);
    gov_peer_join(&f->joiner, &f->founder, f->ns, GOV_ROLE_MEMBER);
    const cal_public_key *joiner = &gov_self(f->joiner.gov)->sign_key;
    assert_int_equal(
        gov_join_open_answer(f->founder.gov, &f->ns, &group, joiner, &envelope, &f->founder.err),
        0);
    assert_int_equal(
        gov_join_open_answer(f->founder.gov, &f->ns, &closed, joiner, &envelope, &f->founder.err),
        CAL_EDENIED);
    assert_int_equal(gov_join_open_answer(f->founder.gov, &f->ns, &group,
                                          &gov_self(f->other.gov)->sign_key, &envelope,
                                          &f->founder.err),
                     CAL_EDENIED);
    gov_peer_do(&f->joiner, gov_join_open(f->joiner.gov, &group, &change, err));
    gov_change *none;
    assert_int_equal(gov_join_open(f->joiner.gov, &closed, &none, &f->joiner.err), CAL_EDENIED);
    gov_peer_copy(&f->joiner, &f->founder, &f->ns, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_placeholder, setup, teardown),
        cmocka_unit_test_setup_teardown(test_history_before_the_invitation, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_invitations, setup, teardown),
        cmocka_unit_test_setup_teardown(test_join, setup, teardown),
        cmocka_unit_test_setup_teardown(test_join_any_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bare, setup, teardown),
        cmocka_unit_test_setup_teardown(test_planted_key, setup, teardown),
        cmocka_unit_test_setup_teardown(test_responder_refuses, setup, teardown),
        cmocka_unit_test_setup_teardown(test_admin_by_member, setup, teardown),
        cmocka_unit_test_setup_teardown(test_revoked_device, setup, teardown),
        cmocka_unit_test_setup_teardown(test_used_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_contexts_in_the_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_removed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_older_keys, setup, teardown),
        cmocka_unit_test_setup_teardown(test_read_only, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_namespace, setup, teardown),
        cmocka_unit_test_setup_teardown(test_open_group, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
