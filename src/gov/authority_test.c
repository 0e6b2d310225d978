/* Who may do what: every kind of operation by every kind of actor, in the namespace, in a
 * restricted and in an open group, with the reason that the specification gives for each refusal
 * (governance.md 4.3, 7.2, 8). What an actor is, is said in one table below, written from the
 * specification and not from the code; each case is judged at the present cut and at another, and
 * never stored. */
#include "support/gov_world.h"

enum { NS, SHUT, OPEN, PLACES };

/* What the specification makes of an actor in a place. */
typedef struct {
    bool admin; /* authorized: of the group or of an open ancestor */
    bool owner;
    gov_path path;
    uint32_t capabilities;
} standing;

enum { BITS = 9 };
enum {
    OWNER,         /* founded the namespace */
    ADMIN,         /* of the namespace, not its owner */
    GROUP_OWNER,   /* made both groups; a plain member of the namespace */
    GROUP_ADMIN,   /* of both groups, not their owner */
    MEMBER,        /* of everything, without rights */
    PARENT_MEMBER, /* of the namespace alone */
    PARENT_RIGHTS, /* of everything, with every right in the namespace and none in the groups */
    READER,        /* read-only in everything */
    READER_RIGHTS, /* read-only in everything, may manage members: a role takes no right away */
    ATTESTED,      /* in rows that no operation made: they give nothing */
    REMOVED,
    LEFT,
    UNBOUND, /* a member's account, but a key that no certificate names */
    OUTSIDER,
    RIGHT_0, /* of everything, with one right each, in each place */
    ACTORS = RIGHT_0 + BITS,
};

static const char *const names[RIGHT_0] = {
    "owner",         "admin",         "group owner", "group admin",   "member",
    "parent member", "parent rights", "reader",      "reader rights", "attested",
    "removed",       "left",          "unbound",     "outsider"};

typedef struct {
    gov_replica r;
    gov_world w;
    gov_actor actors[ACTORS], victim, newcomer;
    cal_secret shut_key, unbound_sign;
    cal_group_id places[PLACES];
    cal_context_id contexts[PLACES]; /* one in each */
    cal_hash last;                   /* the head that every case cites */
    bool at_cut;                     /* and which is not the only head */
    int cases;
} fixture;

/* The table of the specification. */
static standing standing_of(int actor, int place) {
    bool root = place == NS, shut = place == SHUT;
    standing none = {.path = GOV_PATH_NONE}, direct = {.path = GOV_PATH_DIRECT};
    if (actor >= RIGHT_0) {
        direct.capabilities = 1u << (actor - RIGHT_0);
        return direct;
    }
    switch (actor) {
    case OWNER: /* an admin of the namespace reaches through open groups and stops at a wall */
    case ADMIN:
        if (shut) return none;
        return (standing){true, root && actor == OWNER, root ? GOV_PATH_DIRECT : GOV_PATH_INHERITED,
                          0};
    case GROUP_OWNER:
        return (standing){!root, !root, GOV_PATH_DIRECT, 0};
    case GROUP_ADMIN:
        return (standing){!root, false, GOV_PATH_DIRECT, 0};
    case MEMBER:
    case READER:
        return direct;
    case PARENT_MEMBER:
        return root ? direct : shut ? none : (standing){.path = GOV_PATH_INHERITED};
    case PARENT_RIGHTS:
        direct.capabilities = root ? GOV_CAPABILITIES_ALL : 0;
        return direct;
    case READER_RIGHTS:
        direct.capabilities = GOV_MANAGE_MEMBERS;
        return direct;
    default:
        return none;
    }
}

static bool may(standing s, uint32_t capability) {
    return s.admin || (s.path != GOV_PATH_NONE && (s.capabilities & capability));
}

static const char *name_of(int actor) {
    static char text[32];
    if (actor < RIGHT_0) return names[actor];
    snprintf(text, sizeof text, "right 0x%x", 1u << (actor - RIGHT_0));
    return text;
}

static const char *const place_names[] = {"namespace", "restricted group", "open group"};

/* --- the world --- */

static const cal_secret *signer_of(const fixture *f, int actor) {
    return actor == UNBOUND ? &f->unbound_sign : &f->actors[actor].sign;
}

static gov_packet sealed(fixture *f, const cal_secret *signer, int place, gov_group_op op) {
    const cal_secret *key = place == SHUT ? &f->shut_key : &f->w.ns_key;
    return gov_world_sealed(&f->w, signer, &f->last, 1, f->places[place], key, op);
}

static void step(fixture *f, gov_packet p) {
    gov_receipt receipt = gov_replica_take(&f->r, &f->w.ns, &p);
    if (receipt.reason != GOV_WHY_FINE) fail_msg("%s", gov_reason_name(receipt.reason));
    f->last = p.id;
    gov_packet_free(&p);
}

static void step_root(fixture *f, const cal_secret *signer, gov_root_op op) {
    step(f, gov_world_root(&f->w, signer, &f->last, 1, op));
}

static const cal_secret *admin_of(const fixture *f, int place) {
    return &f->actors[place == NS ? OWNER : GROUP_OWNER].sign;
}

static void step_group(fixture *f, int place, gov_group_op op) {
    step(f, sealed(f, admin_of(f, place), place, op));
}

static void add(fixture *f, int place, const gov_actor *who, gov_role role) {
    step_group(
        f, place,
        (gov_group_op){.kind = GOV_MEMBER_ADDED, .account = who->account, .role = (uint8_t)role});
}

static void grant(fixture *f, int place, const gov_actor *who, uint32_t capabilities) {
    step_group(f, place,
               (gov_group_op){.kind = GOV_MEMBER_CAPABILITY_SET,
                              .account = who->account,
                              .capabilities = capabilities});
}

/* By invitation, so that its device is bound. */
static void join(fixture *f, const gov_actor *who) {
    step_root(f, &who->sign, gov_world_join(who, &f->actors[OWNER], f->w.ns, 1, 1));
}

static void make_groups(fixture *f) {
    const gov_actor *maker = &f->actors[GROUP_OWNER];
    join(f, maker);
    grant(f, NS, maker, GOV_CAN_CREATE_SUBGROUP);
    for (int place = SHUT; place <= OPEN; place++)
        step_root(f, &maker->sign,
                  (gov_root_op){.kind = GOV_GROUP_CREATED,
                                .group = f->places[place],
                                .parent = f->w.ns,
                                .restricted = place == SHUT,
                                .account = maker->account});
    grant(f, NS, maker, GOV_CAPABILITIES_DEFAULT);
    gov_replica_key(&f->r, &f->w.ns, &f->places[SHUT], &f->shut_key);
}

static void make_members(fixture *f) {
    for (int i = 0; i < ACTORS; i++) {
        if (i == OWNER || i == GROUP_OWNER || i == OUTSIDER || i == ATTESTED) continue;
        join(f, &f->actors[i]);
        if (i == ADMIN || i == PARENT_MEMBER) continue;
        for (int place = SHUT; place <= OPEN; place++)
            add(f, place, &f->actors[i], i == GROUP_ADMIN ? GOV_ROLE_ADMIN : GOV_ROLE_MEMBER);
    }
    join(f, &f->victim);
    for (int place = NS; place <= OPEN; place++) {
        if (place != NS) add(f, place, &f->victim, GOV_ROLE_MEMBER);
        for (int i = RIGHT_0; i < ACTORS; i++) grant(f, place, &f->actors[i], 1u << (i - RIGHT_0));
        add(f, place, &f->actors[READER], GOV_ROLE_READ_ONLY);
        add(f, place, &f->actors[READER_RIGHTS], GOV_ROLE_READ_ONLY);
        grant(f, place, &f->actors[READER_RIGHTS], GOV_MANAGE_MEMBERS);
        step_group(f, place,
                   (gov_group_op){.kind = GOV_CONTEXT_REGISTERED, .context = f->contexts[place]});
        step_group(
            f, place,
            (gov_group_op){.kind = GOV_MEMBER_REMOVED, .account = f->actors[REMOVED].account});
    }
    step(f, sealed(f, &f->actors[LEFT].sign, NS, /* and with it the groups */
                   (gov_group_op){.kind = GOV_MEMBER_LEFT, .account = f->actors[LEFT].account}));
    add(f, NS, &f->actors[ADMIN], GOV_ROLE_ADMIN);
    grant(f, NS, &f->actors[PARENT_RIGHTS], GOV_CAPABILITIES_ALL);
}

/* Who may is asked of what the operations say, not of the rows. */
static void put_attested(fixture *f) {
    const gov_actor *who = &f->actors[ATTESTED];
    gov_change *change;
    gov_binding binding = {.account = who->account};
    memcpy(binding.sign_key, who->key, 32);
    assert_int_equal(gov_change_begin(f->r.gov, &f->w.ns, &change, &f->r.err), 0);
    gov_put_binding(change, &who->device, &binding);
    for (int place = NS; place <= OPEN; place++)
        gov_put_member(change, &f->places[place], &who->account,
                       &(gov_member){.role = GOV_ROLE_READ_ONLY_TEE});
    assert_int_equal(gov_change_finish(change, 0, &change, &f->r.err), 0);
    gov_replica_commit(&f->r, change);
}

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    gov_replica_start(&f->r);
    gov_world_init(&f->w, 1);
    for (int i = 0; i < ACTORS; i++) gov_actor_make(&f->actors[i], (uint8_t)(8 + 4 * i));
    f->actors[OWNER] = f->w.owner;
    gov_actor_make(&f->victim, 0xF0);
    gov_actor_make(&f->newcomer, 0xF4);
    memset(f->shut_key.bytes, 0xE1, 32);
    memset(f->unbound_sign.bytes, 0xE2, 32);
    f->places[NS] = f->w.ns;
    memset(f->places[SHUT].bytes, 0xE3, 32);
    memset(f->places[OPEN].bytes, 0xE4, 32);
    for (int place = NS; place <= OPEN; place++) memset(f->contexts[place].bytes, 0xE5 + place, 32);
    gov_packet genesis = gov_world_genesis(&f->w);
    step(f, genesis);
    gov_replica_key(&f->r, &f->w.ns, &f->w.ns, &f->w.ns_key);
    make_groups(f);
    make_members(f);
    put_attested(f);
    *state = f;
    return 0;
}

/* A second head that the cases do not cite. */
static int setup_at_cut(void **state) {
    setup(state);
    fixture *f = *state;
    cal_hash last = f->last;
    gov_packet genesis = gov_world_genesis(&f->w);
    gov_packet beside = gov_world_group(&f->w, &f->w.owner.sign, &last, 1, f->w.ns,
                                        (gov_group_op){.kind = GOV_NOOP});
    gov_packet here = gov_world_group(&f->w, &f->w.owner.sign, &last, 1, f->w.ns,
                                      (gov_group_op){.kind = GOV_NOOP});
    step(f, beside);
    step(f, here);
    gov_packet_free(&genesis);
    gov_view view = gov_replica_view(&f->r, &f->w.ns);
    assert_int_equal(gov_heads_get(&view).len, 64);
    f->at_cut = true;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    gov_replica_check(&f->r);
    gov_replica_stop(&f->r);
    free(f);
    return 0;
}

/* --- cases --- */

/* Judges and forgets: nothing is ever stored. */
static void expect(fixture *f, gov_packet p, const char *what, int actor, int place,
                   gov_reason reason) {
    size_t count;
    const gov_packet *packet = &p;
    gov_change *change = gov_replica_receive(&f->r, &f->w.ns, &packet, 1);
    gov_receipt receipt = gov_change_receipts(change, &count)[0];
    gov_change_abort(change);
    gov_packet_free(&p);
    f->cases++;
    if (receipt.reason != reason)
        fail_msg("%s by %s in the %s%s: %s instead of %s", what, name_of(actor), place_names[place],
                 f->at_cut ? " (at a cut)" : "", gov_reason_name(receipt.reason),
                 gov_reason_name(reason));
    assert_int_equal(receipt.verdict, reason == GOV_WHY_FINE ? GOV_APPLIED : GOV_KEPT);
}

typedef enum {
    BY_ADMIN,
    BY_OWNER,
    BY_MEMBER,
    BY_CAPABILITY,
    BY_NOBODY, /* another's leave */
} right;

typedef struct {
    gov_group_op op;
    right by;
    uint32_t capability;
    gov_reason reason; /* of a refusal */
    bool root_only;    /* means something in the namespace only */
    bool group_only;   /* likewise in groups */
} group_case;

static const group_case group_cases[] = {
    {{.kind = GOV_NOOP}, BY_MEMBER, 0, GOV_WHY_STRANGER, 0, 0},
    {{.kind = GOV_MEMBER_ADDED, .role = GOV_ROLE_MEMBER},
     BY_CAPABILITY,
     GOV_MANAGE_MEMBERS,
     GOV_WHY_NO_MANAGE_MEMBERS,
     0,
     0},
    {{.kind = GOV_MEMBER_REMOVED},
     BY_CAPABILITY,
     GOV_MANAGE_MEMBERS,
     GOV_WHY_NO_MANAGE_MEMBERS,
     0,
     0},
    {{.kind = GOV_MEMBER_LEFT}, BY_NOBODY, 0, GOV_WHY_NOT_SELF, 0, 0},
    {{.kind = GOV_MEMBER_ROLE_SET, .role = GOV_ROLE_READ_ONLY},
     BY_ADMIN,
     0,
     GOV_WHY_NOT_ADMIN,
     0,
     0},
    {{.kind = GOV_MEMBER_CAPABILITY_SET, .capabilities = 3}, BY_ADMIN, 0, GOV_WHY_NOT_ADMIN, 0, 0},
    {{.kind = GOV_DEFAULT_CAPABILITIES_SET, .capabilities = 3},
     BY_ADMIN,
     0,
     GOV_WHY_NOT_ADMIN,
     0,
     0},
    {{.kind = GOV_TARGET_APPLICATION_SET},
     BY_CAPABILITY,
     GOV_MANAGE_APPLICATION,
     GOV_WHY_NO_MANAGE_APPLICATION,
     0,
     0},
    {{.kind = GOV_CONTEXT_REGISTERED, .context = {{9}}},
     BY_CAPABILITY,
     GOV_CAN_CREATE_CONTEXT,
     GOV_WHY_NO_CREATE_CONTEXT,
     0,
     0},
    {{.kind = GOV_CONTEXT_DETACHED}, BY_ADMIN, 0, GOV_WHY_NOT_ADMIN, 0, 0},
    {{.kind = GOV_VISIBILITY_SET, .visibility = 1},
     BY_CAPABILITY,
     GOV_CAN_MANAGE_VISIBILITY,
     GOV_WHY_NO_MANAGE_VISIBILITY,
     0,
     1},
    {{.kind = GOV_GROUP_METADATA_SET},
     BY_CAPABILITY,
     GOV_CAN_MANAGE_METADATA,
     GOV_WHY_NO_MANAGE_METADATA,
     0,
     0},
    {{.kind = GOV_MEMBER_METADATA_SET},
     BY_CAPABILITY,
     GOV_CAN_MANAGE_METADATA,
     GOV_WHY_NO_MANAGE_METADATA,
     0,
     0},
    {{.kind = GOV_CONTEXT_METADATA_SET},
     BY_CAPABILITY,
     GOV_CAN_MANAGE_METADATA,
     GOV_WHY_NO_MANAGE_METADATA,
     0,
     0},
    {{.kind = GOV_MIGRATION_SET},
     BY_CAPABILITY,
     GOV_MANAGE_APPLICATION,
     GOV_WHY_NO_MANAGE_APPLICATION,
     0,
     0},
    {{.kind = GOV_CONTEXT_CAPABILITY_GRANTED, .mask = 1},
     BY_CAPABILITY,
     GOV_MANAGE_MEMBERS,
     GOV_WHY_NO_MANAGE_MEMBERS,
     0,
     0},
    {{.kind = GOV_CONTEXT_CAPABILITY_REVOKED, .mask = 1},
     BY_CAPABILITY,
     GOV_MANAGE_MEMBERS,
     GOV_WHY_NO_MANAGE_MEMBERS,
     0,
     0},
    {{.kind = GOV_TEE_POLICY_SET}, BY_ADMIN, 0, GOV_WHY_NOT_ADMIN, 1, 0},
    {{.kind = GOV_AUTO_FOLLOW_SET}, BY_ADMIN, 0, GOV_WHY_NOT_ADMIN_OR_SELF, 0, 0},
    {{.kind = GOV_CASCADE_UPGRADE, .hlc = {.id = {1, 0}}},
     BY_CAPABILITY,
     GOV_MANAGE_APPLICATION,
     GOV_WHY_NO_MANAGE_APPLICATION,
     0,
     0},
    {{.kind = GOV_KEY_ROTATED}, BY_ADMIN, 0, GOV_WHY_NOT_ADMIN, 0, 0},
    {{.kind = GOV_DEVICE_UNLINKED}, BY_ADMIN, 0, GOV_WHY_UNLINK_PROOF, 0, 0},
    {{.kind = GOV_KEY_ROTATED_FOR_DEVICE}, BY_ADMIN, 0, GOV_WHY_NOT_ADMIN, 0, 0},
};

static bool allowed(const group_case *c, standing s) {
    return c->by == BY_ADMIN        ? s.admin
           : c->by == BY_OWNER      ? s.owner
           : c->by == BY_MEMBER     ? s.path != GOV_PATH_NONE
           : c->by == BY_CAPABILITY ? may(s, c->capability)
                                    : false;
}

/* About a plain member and a context of the place, by everybody. */
static void test_group_operations(void **state) {
    fixture *f = *state;
    for (size_t i = 0; i < sizeof group_cases / sizeof *group_cases; i++)
        for (int place = NS; place <= OPEN; place++)
            for (int actor = 0; actor < ACTORS; actor++) {
                const group_case *c = &group_cases[i];
                gov_group_op op = c->op;
                if ((c->root_only && place != NS) || (c->group_only && place == NS)) continue;
                op.account = f->victim.account;
                op.device = f->victim.device;
                if (op.kind != GOV_CONTEXT_REGISTERED) op.context = f->contexts[place];
                bool ok = allowed(c, standing_of(actor, place));
                expect(f, sealed(f, signer_of(f, actor), place, op), gov_group_kind_text(op.kind),
                       actor, place, ok ? GOV_WHY_FINE : c->reason);
            }
    assert_true(f->cases > 1400);
}

/* What only the owner may, and what needs an admin beyond the right. */
static void test_owners_and_admins(void **state) {
    fixture *f = *state;
    for (int place = NS; place <= OPEN; place++)
        for (int actor = 0; actor < ACTORS; actor++) {
            standing s = standing_of(actor, place);
            const cal_secret *signer = signer_of(f, actor);
            const gov_actor *an_admin = &f->actors[place == NS ? ADMIN : GROUP_ADMIN];
            gov_group_op op = {.kind = GOV_OWNERSHIP_TRANSFERRED, .account = an_admin->account};
            expect(f, sealed(f, signer, place, op), "TransferOwnership", actor, place,
                   s.owner ? GOV_WHY_FINE : GOV_WHY_NOT_OWNER);
            op = (gov_group_op){.kind = GOV_OWNERSHIP_TRANSFERRED, .account = f->victim.account};
            expect(f, sealed(f, signer, place, op), "TransferOwnership to a member", actor, place,
                   s.owner ? GOV_WHY_OWNER_NOT_ADMIN : GOV_WHY_NOT_OWNER);
            op = (gov_group_op){.kind = GOV_GROUP_DELETE};
            expect(f, sealed(f, signer, place, op), "GroupDelete", actor, place,
                   place == NS ? GOV_WHY_NAMESPACE_STAYS
                   : s.owner   ? GOV_WHY_NOT_EMPTY
                               : GOV_WHY_NOT_OWNER);
            bool manages = may(s, GOV_MANAGE_MEMBERS);
            gov_reason admins = s.admin   ? GOV_WHY_FINE
                                : manages ? GOV_WHY_ADMIN_BY_ADMIN
                                          : GOV_WHY_NO_MANAGE_MEMBERS;
            op = (gov_group_op){
                .kind = GOV_MEMBER_ADDED, .account = f->victim.account, .role = GOV_ROLE_ADMIN};
            expect(f, sealed(f, signer, place, op), "MemberAdded as admin", actor, place, admins);
            op = (gov_group_op){.kind = GOV_MEMBER_REMOVED, .account = an_admin->account};
            expect(f, sealed(f, signer, place, op), "MemberRemoved of an admin", actor, place,
                   admins);
            op.account = f->actors[place == NS ? OWNER : GROUP_OWNER].account;
            expect(f, sealed(f, signer, place, op), "MemberRemoved of the owner", actor, place,
                   s.admin ? GOV_WHY_OWNER_STAYS : admins);
            op = (gov_group_op){.kind = GOV_MEMBER_ADDED,
                                .account = f->victim.account,
                                .role = GOV_ROLE_READ_ONLY_TEE};
            expect(f, sealed(f, signer, place, op), "MemberAdded as attested", actor, place,
                   manages ? GOV_WHY_ROLE_ATTESTED : GOV_WHY_NO_MANAGE_MEMBERS);
            op.kind = GOV_MEMBER_ROLE_SET;
            expect(f, sealed(f, signer, place, op), "MemberRoleSet to attested", actor, place,
                   s.admin ? GOV_WHY_ROLE_ATTESTED : GOV_WHY_NOT_ADMIN);
        }
}

/* What everybody may about itself. */
static void test_about_oneself(void **state) {
    fixture *f = *state;
    for (int place = NS; place <= OPEN; place++)
        for (int actor = 0; actor < ACTORS; actor++) {
            standing s = standing_of(actor, place);
            const cal_secret *signer = signer_of(f, actor);
            bool direct = s.path == GOV_PATH_DIRECT, bound = actor != UNBOUND && actor != OUTSIDER;
            bool known = bound && actor != ATTESTED;
            gov_group_op op = {.kind = GOV_MEMBER_METADATA_SET,
                               .account = f->actors[actor].account};
            expect(f, sealed(f, signer, place, op), "own metadata", actor, place,
                   s.path != GOV_PATH_NONE ? GOV_WHY_FINE : GOV_WHY_NO_MANAGE_METADATA);
            op.kind = GOV_AUTO_FOLLOW_SET;
            expect(f, sealed(f, signer, place, op), "own follow", actor, place,
                   !known && !s.admin ? GOV_WHY_NOT_ADMIN_OR_SELF
                   : direct           ? GOV_WHY_FINE
                                      : GOV_WHY_NO_MEMBER);
            op.kind = GOV_MEMBER_LEFT;
            expect(f, sealed(f, signer, place, op), "leaving", actor, place,
                   !known    ? GOV_WHY_NOT_SELF
                   : !direct ? GOV_WHY_NO_MEMBER
                   : s.owner || (actor == GROUP_OWNER && place == NS)
                       ? GOV_WHY_OWNER_STAYS /* of the namespace, or of a group in it */
                       : GOV_WHY_FINE);
            gov_group_op rotate = {.kind = GOV_ACCOUNT_KEYS_ROTATED,
                                   .handoff = {.account = f->actors[actor].account}};
            memset(rotate.handoff.new_root_key, 7, 32);
            gov_handoff_sign(&rotate.handoff, &f->actors[actor].root);
            expect(f, sealed(f, signer, place, rotate), "own root key", actor, place,
                   known ? GOV_WHY_FINE : GOV_WHY_HANDOFF_OTHER);
        }
}

/* Clear operations: the namespace decides, but for a group's own owner. */
static void test_root_operations(void **state) {
    fixture *f = *state;
    for (int actor = 0; actor < ACTORS; actor++) {
        standing ns = standing_of(actor, NS);
        const cal_secret *signer = signer_of(f, actor);
        const cal_account_id account = f->actors[actor].account;
        gov_reason admin = ns.admin ? GOV_WHY_FINE : GOV_WHY_NOT_NAMESPACE_ADMIN;
        for (int place = NS; place <= OPEN; place++) {
            bool ok = ns.admin || (place == NS && may(ns, GOV_CAN_CREATE_SUBGROUP));
            gov_root_op create = {.kind = GOV_GROUP_CREATED,
                                  .group = {{0x77}},
                                  .parent = f->places[place],
                                  .account = account};
            expect(f, gov_world_root(&f->w, signer, &f->last, 1, create), "GroupCreated", actor,
                   place, ok ? GOV_WHY_FINE : GOV_WHY_NO_CREATE_GROUP);
            create.account = f->victim.account;
            expect(f, gov_world_root(&f->w, signer, &f->last, 1, create),
                   "GroupCreated for another", actor, place,
                   ok ? GOV_WHY_GROUP_ADMIN_OTHER : GOV_WHY_NO_CREATE_GROUP);
            if (place == NS) continue;
            cal_hash context;
            memcpy(context.bytes, f->contexts[place].bytes, 32);
            gov_root_op drop = {
                .kind = GOV_GROUP_DELETED, .group = f->places[place], .contexts = {&context, 1}};
            ok = standing_of(actor, place).owner || may(ns, GOV_CAN_DELETE_SUBGROUP);
            expect(f, gov_world_root(&f->w, signer, &f->last, 1, drop), "GroupDeleted", actor,
                   place, ok ? GOV_WHY_FINE : GOV_WHY_NO_DELETE_GROUP);
        }
        gov_root_op op = {
            .kind = GOV_GROUP_REPARENTED, .group = f->places[SHUT], .parent = f->places[OPEN]};
        expect(f, gov_world_root(&f->w, signer, &f->last, 1, op), "GroupReparented", actor, NS,
               admin);
        op = (gov_root_op){.kind = GOV_ADMIN_CHANGED, .account = f->victim.account};
        expect(f, gov_world_root(&f->w, signer, &f->last, 1, op), "AdminChanged", actor, NS, admin);
        op.account = f->newcomer.account;
        expect(f, gov_world_root(&f->w, signer, &f->last, 1, op), "AdminChanged to a stranger",
               actor, NS, ns.admin ? GOV_WHY_NO_MEMBER : admin);
        op = (gov_root_op){.kind = GOV_POLICY_UPDATED};
        expect(f, gov_world_root(&f->w, signer, &f->last, 1, op), "PolicyUpdated", actor, NS,
               admin);
        op = (gov_root_op){.kind = GOV_NAMESPACE_CREATED,
                           .account = account,
                           .credential = f->actors[actor].credential};
        expect(f, gov_world_root(&f->w, signer, &f->last, 1, op), "NamespaceCreated", actor, NS,
               GOV_WHY_FOUNDED);
        op.kind = GOV_MEMBER_JOINED_TEE;
        op.role = GOV_ROLE_READ_ONLY_TEE;
        expect(f, gov_world_root(&f->w, signer, &f->last, 1, op), "attestation", actor, NS,
               GOV_WHY_ATTESTED);
    }
}

/* Invitations by everybody, into every place, as member and as admin. */
static void test_inviters(void **state) {
    fixture *f = *state;
    for (int place = NS; place <= OPEN; place++)
        for (int actor = 0; actor < ACTORS; actor++) {
            standing s = standing_of(actor, place);
            gov_actor inviter = f->actors[actor];
            inviter.sign = *signer_of(f, actor);
            gov_reason reason = may(s, GOV_CAN_INVITE_MEMBERS) ? GOV_WHY_FINE : GOV_WHY_INVITER;
            gov_root_op op = gov_world_join(&f->newcomer, &inviter, f->places[place], 1, 2);
            expect(f, gov_world_root(&f->w, &f->newcomer.sign, &f->last, 1, op), "invitation",
                   actor, place, reason);
            op = gov_world_join(&f->newcomer, &inviter, f->places[place], 0, 2);
            if (reason == GOV_WHY_FINE && !s.admin) reason = GOV_WHY_INVITER_ADMIN;
            expect(f, gov_world_root(&f->w, &f->newcomer.sign, &f->last, 1, op),
                   "invitation as admin", actor, place, reason);
        }
}

/* Joining an open group without an invitation, by everybody. */
static void test_open_joins(void **state) {
    fixture *f = *state;
    for (int place = NS; place <= OPEN; place++)
        for (int actor = 0; actor < ACTORS; actor++) {
            bool inherits = standing_of(actor, place).path == GOV_PATH_INHERITED;
            gov_root_op op = {.kind = GOV_MEMBER_JOINED_OPEN,
                              .account = f->actors[actor].account,
                              .group = f->places[place],
                              .credential = f->actors[actor].credential};
            gov_reason reason = actor == UNBOUND                    ? GOV_WHY_CREDENTIAL_KEY
                                : actor == REMOVED || actor == LEFT ? GOV_WHY_LEFT_BEFORE
                                : inherits                          ? GOV_WHY_FINE
                                                                    : GOV_WHY_NOT_INHERITED;
            expect(f, gov_world_root(&f->w, signer_of(f, actor), &f->last, 1, op), "open join",
                   actor, place, reason);
        }
}

/* T19-T23: a delivered key is a member's, a rotation an admin's; both sealed to this node. */
static void test_keys(void **state) {
    fixture *f = *state;
    const gov_identity *self = gov_self(f->r.gov);
    cal_secret fresh = {{0x5A}};
    cal_hash id;
    gov_key_id(&fresh, &id);
    for (int place = NS; place <= OPEN; place++)
        for (int actor = 0; actor < ACTORS; actor++) {
            standing s = standing_of(actor, place);
            const cal_secret *signer = signer_of(f, actor);
            gov_root_op op = {.kind = GOV_KEY_DELIVERY, .group = f->places[place]};
            assert_int_equal(gov_envelope_seal_device(cal_os_posix(), &op.group, &fresh,
                                                      &self->device, self->kem_key, signer, NULL,
                                                      NULL, &op.envelope),
                             0);
            expect(f, gov_world_root(&f->w, signer, &f->last, 1, op), "KeyDelivery", actor, place,
                   s.path != GOV_PATH_NONE ? GOV_WHY_FINE : GOV_WHY_KEY_STRANGER);
            op.envelope.sender[0] ^= 1;
            expect(f, gov_world_root(&f->w, signer, &f->last, 1, op), "KeyDelivery of another",
                   actor, place, GOV_WHY_KEY_UNOPENED);
        }
}

/* A device is endorsed by a member of the place. */
static void test_endorsers(void **state) {
    fixture *f = *state;
    for (int place = NS; place <= OPEN; place++)
        for (int actor = 0; actor < ACTORS; actor++) {
            standing s = standing_of(actor, place);
            gov_group_op op = {.kind = GOV_DEVICE_LINKED,
                               .genesis = f->newcomer.credential.genesis,
                               .cert = f->newcomer.credential.cert,
                               .endorsement = {.account = f->newcomer.account}};
            cal_sign_public_key(signer_of(f, actor), op.endorsement.member_key);
            gov_endorsement_sign(&op.endorsement, signer_of(f, actor));
            expect(f, sealed(f, signer_of(f, actor), place, op), "AccountDeviceLinked", actor,
                   place, s.path != GOV_PATH_NONE ? GOV_WHY_FINE : GOV_WHY_ENDORSER);
            op.endorsement.account = f->victim.account;
            expect(f, sealed(f, signer_of(f, actor), place, op), "AccountDeviceLinked of another",
                   actor, place, GOV_WHY_NOT_ENDORSED);
        }
}

/* Through two open groups, and behind a wall: what is above reaches down through open groups only.
 */
static void test_chains(void **state) {
    fixture *f = *state;
    static const struct {
        int actor;
        bool deep_admin, deep, below_admin, below; /* below: an open group in the restricted one */
    } rows[] = {
        {OWNER, true, true, true, true},   /* made both */
        {ADMIN, true, true, false, false}, /* of the namespace: not behind the wall */
        {GROUP_OWNER, true, true, true, true},     {GROUP_ADMIN, true, true, true, true},
        {MEMBER, false, true, false, true},        {PARENT_MEMBER, false, true, false, false},
        {PARENT_RIGHTS, false, true, false, true}, {READER, false, true, false, true},
        {REMOVED, false, false, false, false},     {LEFT, false, false, false, false},
        {UNBOUND, false, false, false, false},     {OUTSIDER, false, false, false, false},
    };
    cal_group_id groups[2] = {{{0x71}}, {{0x72}}};
    for (int i = 0; i < 2; i++)
        step_root(f, &f->actors[OWNER].sign,
                  (gov_root_op){.kind = GOV_GROUP_CREATED,
                                .group = groups[i],
                                .parent = f->places[i ? SHUT : OPEN],
                                .account = f->actors[OWNER].account});
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int below = 0; below < 2; below++) {
            bool admin = below ? rows[i].below_admin : rows[i].deep_admin;
            bool member = below ? rows[i].below : rows[i].deep;
            const cal_secret *signer = signer_of(f, rows[i].actor);
            gov_group_op op = {.kind = GOV_NOOP};
            expect(f, gov_world_group(&f->w, signer, &f->last, 1, groups[below], op), "Noop below",
                   rows[i].actor, below ? SHUT : OPEN, member ? GOV_WHY_FINE : GOV_WHY_STRANGER);
            op.kind = GOV_DEFAULT_CAPABILITIES_SET;
            expect(f, gov_world_group(&f->w, signer, &f->last, 1, groups[below], op),
                   "DefaultCapabilitiesSet below", rows[i].actor, below ? SHUT : OPEN,
                   admin ? GOV_WHY_FINE : GOV_WHY_NOT_ADMIN);
        }
}

int main(void) {
#define T(name)                                                                                    \
    cmocka_unit_test_setup_teardown(name, setup, teardown),                                        \
        cmocka_unit_test_setup_teardown(name, setup_at_cut, teardown)
    const struct CMUnitTest tests[] = {
        T(test_group_operations),
        T(test_owners_and_admins),
        T(test_about_oneself),
        T(test_root_operations),
        T(test_inviters),
        T(test_open_joins),
        T(test_keys),
        T(test_endorsers),
        T(test_chains),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
