/* Who may do what to an entity: every kind of storage, every operation, every right of the actor
 * and every flaw of the signature, each refusal with one lone reason (runtime-abi.md 13, traps.md
 * 5). What is expected is said in a few lines beside the matrix; after each action the rows are
 * looked at, too: they changed exactly when the action took. */
#include "base/list.h"
#include "support/crdt.h"

enum { ROOT, ANCHOR, ENTITY, OTHER }; /* entities */
enum {
    OWNER = 1,
    STRANGER = 2,
    ADMIN = 3,
    NOBODY = 0
}; /* accounts; their keys are 0x80 + account */
enum { BASE_TIME = 100, NEW_TIME = 200 };

enum flaw { GOOD, FORGED, PLACEHOLDER, SIGNERLESS, UNSIGNED, FLAWS };
enum operation { ADD, UPDATE, DELETE, OPERATIONS };

typedef struct world {
    cal_arena arena;
    crdt_env env;
    test_rows rows;
    crdt_id marker; /* the last one cleared */
    int markers;
} world;

static crdt_id id_of(int entity) { return (crdt_id){{(uint8_t)(0x40 + entity)}}; }
static crdt_id account_of(int account) { return (crdt_id){{(uint8_t)account, 7}}; }

static void on_marker(void *user, const crdt_id *parent) {
    test_rows *rows = user;
    world *w = CAL_CONTAINER_OF(rows, world, rows);
    w->marker = *parent;
    w->markers++;
}

static void open_world(world *w) {
    *w = (world){.markers = 0};
    cal_arena_init(&w->arena, SIZE_MAX);
    w->env = test_crdt_env(&w->arena);
    test_rows_init(&w->rows, &w->arena);
}

static void close_world(world *w) {
    test_rows_deinit(&w->rows);
    cal_arena_deinit(&w->arena);
}

/* A signature that anybody can read: the payload, then the key. */
static bool verify(void *user, const uint8_t key[32], const uint8_t payload[32],
                   const uint8_t signature[64]) {
    (void)user;
    return memcmp(signature, payload, 32) == 0 && memcmp(signature + 32, key, 32) == 0;
}

/* --- what an actor does --- */

typedef struct deed {
    int entity, parent;
    enum operation operation;
    crdt_storage_type storage; /* signature aside */
    uint64_t time, nonce;      /* nonce 0: as the time */
    int account;               /* who signs; NOBODY: the key speaks for no account */
    enum flaw flaw;
    char value;
    const crdt_entity_writers *effective;
    uint8_t delta; /* 0: no delta, rotations are not logged */
    uint64_t hlc;
} deed;

static crdt_grants grants_of(world *w, const int (*pairs)[2], uint32_t count) {
    crdt_grant *items = cal_arena_alloc_array(&w->arena, count, sizeof *items);
    for (uint32_t i = 0; i < count; i++)
        items[i] = (crdt_grant){account_of(pairs[i][0]), (uint8_t)pairs[i][1]};
    return (crdt_grants){items, count};
}

static crdt_grants one_grant(world *w, int account, int mask) {
    return grants_of(w, (const int[1][2]){{account, mask}}, 1);
}

static void sign(world *w, crdt_action *action, const deed *d) {
    if (d->flaw == UNSIGNED) return;
    crdt_signature *signature = cal_arena_alloc(&w->arena, sizeof *signature);
    *signature = (crdt_signature){.nonce = d->nonce ? d->nonce : d->time,
                                  .has_signer = d->flaw != SIGNERLESS,
                                  .signer = {{(uint8_t)(0x80 + d->account)}}};
    action->metadata.storage.signature = signature;
    if (d->flaw == PLACEHOLDER) return;
    uint8_t payload[32];
    assert_int_equal(crdt_action_payload(&w->env, action, payload), 0);
    memcpy(signature->signature, payload, 32);
    signature->signature[32] = (uint8_t)(0x80 + d->account);
    if (d->flaw == FORGED) signature->signature[0] ^= 1;
}

static crdt_action action_of(world *w, const deed *d) {
    crdt_action action = {
        .kind = d->operation == DELETE   ? CRDT_ACTION_DELETE
                : d->operation == UPDATE ? CRDT_ACTION_UPDATE
                                         : CRDT_ACTION_ADD,
        .id = id_of(d->entity),
        .deleted_at = d->time,
        .metadata = {.created_at = BASE_TIME, .updated_at = d->time, .storage = d->storage},
    };
    if (d->operation != DELETE) {
        uint8_t entry[65] = {[32] = (uint8_t)d->value}; /* fits a Frozen entity, too */
        cal_sha256(cal_slice_of(&d->value, 1), entry);
        memcpy(entry + 33, action.id.bytes, 32);
        action.data = crdt_bytes_of(cal_arena_copy(&w->arena, entry, sizeof entry), sizeof entry);
        crdt_child *chain = cal_arena_alloc_array(&w->arena, 2, sizeof *chain);
        chain[0] = (crdt_child){.id = id_of(d->parent), .metadata.created_at = 1};
        chain[1] = (crdt_child){.id = id_of(ROOT), .metadata.created_at = 1};
        action.ancestors = (crdt_children){chain, d->parent == ROOT ? 1 : 2};
    }
    if (d->storage.kind != CRDT_PUBLIC && d->storage.kind != CRDT_FROZEN) sign(w, &action, d);
    return action;
}

static crdt_refusal apply(world *w, const crdt_action *action, const deed *d) {
    crdt_store *store;
    crdt_refusal refusal;
    crdt_id root = id_of(ROOT);
    crdt_rows rows = test_rows_table(&w->rows);
    rows.clear_marker = on_marker;
    crdt_apply_context context = {.now_ns = 1000,
                                  .verify = verify,
                                  .has_signer_account = d->account != NOBODY,
                                  .signer_account = account_of(d->account),
                                  .writers = d->effective,
                                  .writer_count = d->effective ? 1 : 0,
                                  .has_delta = d->delta != 0,
                                  .delta_id = {{d->delta}},
                                  .delta_hlc = {.time = d->hlc, .id = {1}}};
    assert_int_equal(crdt_store_open(&w->env, &rows, &root, &store), 0);
    assert_int_equal(crdt_store_apply(store, action, &context, &refusal), 0);
    assert_int_equal(crdt_store_flush(store), 0);
    return refusal;
}

static crdt_refusal act(world *w, const deed *d) {
    crdt_action action = action_of(w, d);
    return apply(w, &action, d);
}

static bool read_index(world *w, int entity, crdt_index *ret_index) {
    uint8_t key[32];
    crdt_bytes row = {0};
    crdt_id id = id_of(entity);
    crdt_storage_key(test_crdt_sha256, CRDT_KEY_INDEX, &id, key);
    if (test_rows_read(&w->rows, key, &row) == 0) return false;
    assert_int_equal(crdt_index_decode(&w->env.memory, row, ret_index), 0);
    return true;
}

/* The value that stands; 0: none. */
static char value_of(world *w, int entity) {
    uint8_t key[32];
    crdt_bytes entry = {0};
    crdt_id id = id_of(entity);
    crdt_storage_key(test_crdt_sha256, CRDT_KEY_ENTRY, &id, key);
    return test_rows_read(&w->rows, key, &entry) ? (char)entry.data[32] : 0;
}

/* --- the matrix --- */

/* An anchor that ADMIN owns, in which the actor has `mask` (-1: none), and, but for an Add, the
 * entity, which ADMIN made. */
static void prepare(world *w, crdt_storage_kind kind, enum operation operation, int mask,
                    crdt_storage_type *ret_storage) {
    crdt_grants writers =
        grants_of(w, (const int[2][2]){{OWNER, mask}, {ADMIN, CRDT_MASK_FULL}}, 2);
    if (mask < 0) writers = one_grant(w, ADMIN, CRDT_MASK_FULL);
    crdt_storage_type shared = {.kind = CRDT_SHARED, .writers = writers};
    *ret_storage = (crdt_storage_type){.kind = kind};
    if (kind == CRDT_USER) ret_storage->subject = account_of(OWNER);
    if (kind == CRDT_SHARED) *ret_storage = shared;
    if (kind == CRDT_SHARED_MEMBER) {
        ret_storage->subject = id_of(ANCHOR);
        deed anchor = {ANCHOR, ROOT, ADD, shared, BASE_TIME, 0, ADMIN, .value = 'a'};
        assert_int_equal(act(w, &anchor), CRDT_APPLIED);
    }
    if (operation == ADD) return;
    deed made = {ENTITY, ROOT, ADD, *ret_storage, BASE_TIME, 0, ADMIN, .value = 'o'};
    if (kind == CRDT_USER) made.account = OWNER;
    assert_int_equal(act(w, &made), CRDT_APPLIED);
}

static crdt_refusal expected_of(crdt_storage_kind kind, const deed *d, int mask) {
    if (kind == CRDT_PUBLIC) return CRDT_APPLIED;
    if (kind == CRDT_FROZEN) return d->operation == ADD ? CRDT_APPLIED : CRDT_REFUSED_NOT_ALLOWED;
    if (d->flaw == UNSIGNED) return CRDT_REFUSED_DATA;
    if (d->flaw != GOOD || d->account == NOBODY) return CRDT_REFUSED_SIGNATURE;
    if (kind == CRDT_USER) {
        if (d->account != OWNER) return CRDT_REFUSED_SIGNATURE;
    } else {
        int needed = d->operation == DELETE ? CRDT_MASK_DELETE : CRDT_MASK_WRITE;
        if (d->account != OWNER || mask < 0) return CRDT_REFUSED_SIGNATURE;
        if (!(mask & needed)) return CRDT_REFUSED_NOT_ALLOWED;
    }
    bool replayed = d->operation == DELETE && d->nonce < BASE_TIME;
    return replayed ? CRDT_REFUSED_NONCE : CRDT_APPLIED;
}

static void check_case(crdt_storage_kind kind, enum operation operation, int mask, int account,
                       enum flaw flaw, uint64_t nonce) {
    world w;
    open_world(&w);
    crdt_storage_type storage;
    prepare(&w, kind, operation, mask, &storage);
    deed d = {ENTITY, ROOT, operation, storage, NEW_TIME, nonce, account, flaw, .value = 'n'};
    crdt_refusal expected = expected_of(kind, &d, mask), refusal = act(&w, &d);
    if (refusal != expected)
        fail_msg("kind %d operation %d mask %d account %d flaw %d nonce %d: %d, expected %d", kind,
                 operation, mask, account, flaw, (int)nonce, refusal, expected);
    bool signed_kind = kind != CRDT_PUBLIC && kind != CRDT_FROZEN;
    bool stale = signed_kind && operation == UPDATE && nonce < BASE_TIME;
    bool took = expected == CRDT_APPLIED && !stale;
    char before = operation == ADD ? 0 : 'o', after = operation == DELETE ? 0 : 'n';
    assert_int_equal(value_of(&w, ENTITY), took ? after : before);
    crdt_index index;
    bool exists = read_index(&w, ENTITY, &index);
    assert_int_equal(exists, took || operation != ADD);
    if (exists) assert_int_equal(index.is_deleted, took && operation == DELETE);
    close_world(&w);
}

static void test_matrix(void **state) {
    (void)state;
    static const int accounts[] = {OWNER, STRANGER, NOBODY};
    static const uint64_t nonces[] = {BASE_TIME - 1, BASE_TIME, NEW_TIME};
    int cases = 0;
    for (int kind = CRDT_PUBLIC; kind <= CRDT_SHARED_MEMBER; kind++)
        for (int operation = ADD; operation < OPERATIONS; operation++)
            for (int mask = -1; mask <= CRDT_MASK_FULL; mask++)
                for (int account = 0; account < 3; account++)
                    for (int flaw = GOOD; flaw < FLAWS; flaw++)
                        for (int nonce = 0; nonce < 3; nonce++, cases++)
                            check_case((crdt_storage_kind)kind, (enum operation)operation, mask,
                                       accounts[account], (enum flaw)flaw, nonces[nonce]);
    printf("  %d cases\n", cases);
}

/* --- what an entity is does not change --- */

static crdt_storage_type storage_of(world *w, int kind) {
    crdt_storage_type storage = {.kind = (crdt_storage_kind)kind};
    if (kind == CRDT_USER) storage.subject = account_of(OWNER);
    if (kind == CRDT_SHARED_MEMBER) storage.subject = id_of(ANCHOR);
    if (kind == CRDT_SHARED) storage.writers = one_grant(w, OWNER, CRDT_MASK_FULL);
    return storage;
}

static void test_kinds(void **state) {
    (void)state;
    for (int stored = CRDT_PUBLIC; stored <= CRDT_SHARED_MEMBER; stored++)
        for (int claimed = CRDT_PUBLIC; claimed <= CRDT_SHARED_MEMBER; claimed++) {
            world w;
            open_world(&w);
            deed anchor = {ANCHOR,    ROOT, ADD,   storage_of(&w, CRDT_SHARED),
                           BASE_TIME, 0,    OWNER, .value = 'a'};
            assert_int_equal(act(&w, &anchor), CRDT_APPLIED);
            deed made = {ENTITY,    ROOT, ADD,   storage_of(&w, stored),
                         BASE_TIME, 0,    OWNER, .value = 'o'};
            assert_int_equal(act(&w, &made), CRDT_APPLIED);
            deed over = {ENTITY,   ROOT, ADD,   storage_of(&w, claimed),
                         NEW_TIME, 0,    OWNER, .value = 'n'};
            assert_int_equal(act(&w, &over),
                             stored == claimed ? CRDT_APPLIED : CRDT_REFUSED_NOT_ALLOWED);
            assert_int_equal(value_of(&w, ENTITY), stored == claimed ? 'n' : 'o');
            /* A deletion names the stored kind, too, where that is signed. */
            over.operation = DELETE;
            over.time = NEW_TIME + 1;
            crdt_refusal expected = stored == CRDT_PUBLIC   ? CRDT_APPLIED
                                    : stored == CRDT_FROZEN ? CRDT_REFUSED_NOT_ALLOWED
                                    : stored != claimed     ? CRDT_REFUSED_SIGNATURE
                                                            : CRDT_APPLIED;
            assert_int_equal(act(&w, &over), expected);
            close_world(&w);
        }
}

/* Another owner, another anchor: each well signed by who it names. */
static void test_subjects(void **state) {
    (void)state;
    for (int kind = CRDT_USER; kind <= CRDT_SHARED_MEMBER; kind += CRDT_SHARED_MEMBER - CRDT_USER) {
        world w;
        open_world(&w);
        for (int anchor = ANCHOR; anchor <= OTHER; anchor += OTHER - ANCHOR) {
            int account = anchor == ANCHOR ? OWNER : STRANGER;
            crdt_storage_type shared = {.kind = CRDT_SHARED,
                                        .writers = one_grant(&w, account, CRDT_MASK_FULL)};
            deed made = {anchor, ROOT, ADD, shared, BASE_TIME, 0, account, .value = 'a'};
            assert_int_equal(act(&w, &made), CRDT_APPLIED);
        }
        deed mine = {ENTITY, ROOT, ADD, storage_of(&w, kind), BASE_TIME, 0, OWNER, .value = 'o'};
        assert_int_equal(act(&w, &mine), CRDT_APPLIED);
        deed theirs = mine;
        theirs.storage.subject = kind == CRDT_USER ? account_of(STRANGER) : id_of(OTHER);
        theirs.account = STRANGER;
        theirs.time = NEW_TIME;
        assert_int_equal(act(&w, &theirs), CRDT_REFUSED_NOT_ALLOWED);
        theirs.operation = DELETE;
        assert_int_equal(act(&w, &theirs), CRDT_REFUSED_SIGNATURE);
        assert_int_equal(value_of(&w, ENTITY), 'o');
        close_world(&w);
    }
}

/* --- which writer set holds --- */

enum { IN_STORED, IN_CLAIMED, IN_EFFECTIVE, PLACES };

static void check_sets(enum operation operation, int place, bool has_effective) {
    world w;
    open_world(&w);
    crdt_grants in = one_grant(&w, OWNER, CRDT_MASK_FULL);
    crdt_grants out = one_grant(&w, ADMIN, CRDT_MASK_FULL);
    crdt_storage_type stored = {.kind = CRDT_SHARED, .writers = place == IN_STORED ? in : out};
    crdt_storage_type claimed = {.kind = CRDT_SHARED, .writers = place == IN_CLAIMED ? in : out};
    int maker = place == IN_STORED ? OWNER : ADMIN;
    deed made = {ENTITY, ROOT, ADD, stored, BASE_TIME, 0, maker, .value = 'o'};
    if (operation != ADD) assert_int_equal(act(&w, &made), CRDT_APPLIED);
    deed d = {ENTITY, ROOT, operation, claimed, NEW_TIME, 0, OWNER, .value = 'n'};
    crdt_entity_writers effective = {id_of(ENTITY), place == IN_EFFECTIVE ? in : out};
    if (has_effective) d.effective = &effective;
    /* Without an effective set: the stored one, and of a new entity the claimed one. A deletion is
     * no rotation: what it claims must be what is stored, and nobody stands in both here. */
    int holds = has_effective ? IN_EFFECTIVE : operation == ADD ? IN_CLAIMED : IN_STORED;
    bool allowed = operation != DELETE && place == holds;
    assert_int_equal(act(&w, &d), allowed ? CRDT_APPLIED : CRDT_REFUSED_SIGNATURE);
    close_world(&w);
}

/* Stored, claimed, effective: the actor stands in exactly one of them. */
static void test_sets(void **state) {
    (void)state;
    for (int operation = ADD; operation < OPERATIONS; operation++)
        for (int place = 0; place < PLACES; place++)
            for (int effective = 0; effective < 2; effective++)
                check_sets((enum operation)operation, place, effective);
}

/* A set for another entity is not a set for this one. */
static void test_sets_of_others(void **state) {
    (void)state;
    world w;
    open_world(&w);
    crdt_storage_type stored = {.kind = CRDT_SHARED,
                                .writers = one_grant(&w, ADMIN, CRDT_MASK_FULL)};
    deed made = {ENTITY, ROOT, ADD, stored, BASE_TIME, 0, ADMIN, .value = 'o'};
    assert_int_equal(act(&w, &made), CRDT_APPLIED);
    crdt_entity_writers effective = {id_of(OTHER), one_grant(&w, OWNER, CRDT_MASK_FULL)};
    deed d = {
        ENTITY, ROOT, UPDATE, stored, NEW_TIME, 0, OWNER, .value = 'n', .effective = &effective};
    assert_int_equal(act(&w, &d), CRDT_REFUSED_SIGNATURE);
    close_world(&w);
}

/* --- rotations --- */

enum { ROTATION_TIME = 150 };

static int rotations_of(world *w) {
    crdt_id anchor = id_of(ANCHOR), map;
    static const char name[] = "__calimero_rotation_log__";
    crdt_entry_id(test_crdt_sha256, &anchor, crdt_bytes_of(name, sizeof name - 1), &map);
    uint8_t key[32];
    crdt_bytes row = {0};
    crdt_index index;
    crdt_storage_key(test_crdt_sha256, CRDT_KEY_INDEX, &map, key);
    if (test_rows_read(&w->rows, key, &row) == 0) return 0;
    assert_int_equal(crdt_index_decode(&w->env.memory, row, &index), 0);
    return (int)index.children.count;
}

static crdt_storage_type writers_of(world *w, int mask) {
    if (mask < 0)
        return (crdt_storage_type){.kind = CRDT_SHARED,
                                   .writers = one_grant(w, ADMIN, CRDT_MASK_FULL)};
    return (crdt_storage_type){
        .kind = CRDT_SHARED,
        .writers = grants_of(w, (const int[2][2]){{OWNER, mask}, {ADMIN, CRDT_MASK_FULL}}, 2)};
}

static void make_anchor(world *w, int mask) {
    deed made = {ANCHOR, ROOT, ADD, writers_of(w, mask), BASE_TIME, 0, ADMIN, .value = 'a'};
    assert_int_equal(act(w, &made), CRDT_APPLIED);
}

static deed rotation_to(world *w, int mask, uint64_t time, uint8_t delta, uint64_t hlc) {
    return (deed){ANCHOR, ROOT,  UPDATE,       writers_of(w, mask), time,
                  0,      ADMIN, .value = 'r', .delta = delta,      .hlc = hlc};
}

/* What a member may do at a nonce: the actor writes there, another entity each time. */
static bool may_write(world *w, uint64_t nonce) {
    static int next = OTHER;
    crdt_storage_type member = {.kind = CRDT_SHARED_MEMBER, .subject = id_of(ANCHOR)};
    deed d = {++next % 100 + OTHER, ROOT, ADD, member, nonce, 0, OWNER, .value = 'm'};
    return act(w, &d) == CRDT_APPLIED;
}

/* From its own nonce on a rotation holds, not before, and not for the anchor's own row (traps.md
 * 5). */
static void test_rotation_times(void **state) {
    (void)state;
    world w;
    open_world(&w);
    make_anchor(&w, CRDT_MASK_WRITE);
    assert_true(may_write(&w, ROTATION_TIME));
    deed d = rotation_to(&w, -1, ROTATION_TIME, 1, 50);
    assert_int_equal(act(&w, &d), CRDT_APPLIED);
    assert_int_equal(rotations_of(&w), 1);
    assert_true(may_write(&w, ROTATION_TIME - 1));
    assert_false(may_write(&w, ROTATION_TIME));
    assert_false(may_write(&w, ROTATION_TIME + 1));
    crdt_index anchor;
    assert_true(read_index(&w, ANCHOR, &anchor));
    assert_int_equal(anchor.metadata.storage.writers.count, 2);
    crdt_index root;
    assert_true(read_index(&w, ROOT, &root));
    assert_int_equal(root.children.items[0].metadata.storage.writers.count, 1);
    close_world(&w);
}

/* Only changes of the set are logged, once a delta; without a delta there is nothing to log. */
static void test_rotation_log(void **state) {
    (void)state;
    world w;
    open_world(&w);
    make_anchor(&w, CRDT_MASK_WRITE);
    deed same = rotation_to(&w, CRDT_MASK_WRITE, 110, 1, 10);
    assert_int_equal(act(&w, &same), CRDT_APPLIED);
    assert_int_equal(rotations_of(&w), 0);
    deed bare = rotation_to(&w, -1, 111, 0, 0);
    assert_int_equal(act(&w, &bare), CRDT_APPLIED);
    assert_int_equal(rotations_of(&w), 0);
    deed late = rotation_to(&w, CRDT_MASK_FULL, 109, 2, 11); /* older than the value */
    assert_int_equal(act(&w, &late), CRDT_APPLIED);
    assert_int_equal(value_of(&w, ANCHOR), 'r');
    assert_int_equal(rotations_of(&w), 1);
    deed refused = rotation_to(&w, -1, 120, 3, 12);
    refused.account = STRANGER;
    assert_int_equal(act(&w, &refused), CRDT_REFUSED_SIGNATURE);
    assert_int_equal(rotations_of(&w), 1);
    deed plain_writer = rotation_to(&w, CRDT_MASK_DELETE, 121, 4, 13); /* traps.md 5 */
    plain_writer.account = OWNER;
    assert_int_equal(act(&w, &plain_writer), CRDT_APPLIED);
    assert_int_equal(rotations_of(&w), 2);
    close_world(&w);
}

/* Two rotations: the later clock stands, at equal clocks the smaller signer, whatever their deltas'
 * ids and their order. */
static void test_rotation_order(void **state) {
    (void)state;
    static const struct {
        uint64_t hlc[2];
        int account[2];
        int winner;
    } cases[] = {
        {{60, 50}, {ADMIN, ADMIN}, 0}, {{50, 60}, {ADMIN, ADMIN}, 1}, {{50, 50}, {OWNER, ADMIN}, 0},
        {{50, 50}, {ADMIN, OWNER}, 1}, {{50, 51}, {OWNER, ADMIN}, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int turn = 0; turn < 4; turn++) {
            world w;
            open_world(&w);
            make_anchor(&w, CRDT_MASK_WRITE);
            for (int k = 0; k < 2; k++) {
                int at = k ^ (turn & 1);
                /* The first takes the right away, the second keeps it. */
                uint8_t delta = (uint8_t)(turn & 2 ? 2 - at : 1 + at);
                deed d = rotation_to(&w, at ? CRDT_MASK_FULL : -1, ROTATION_TIME, delta,
                                     cases[i].hlc[at]);
                d.account = cases[i].account[at];
                assert_int_equal(act(&w, &d), CRDT_APPLIED);
            }
            assert_int_equal(rotations_of(&w), 2);
            assert_int_equal(may_write(&w, NEW_TIME), cases[i].winner);
            close_world(&w);
        }
}

/* Rotations beside writes, in all orders. The host's effective sets decide alike on every replica;
 * without them a member's write that came before the rotation stands, after it it does not. */
static void run_beside(const int order[3], bool resolved, char ret_values[2],
                       uint8_t ret_root[32]) {
    world w;
    open_world(&w);
    make_anchor(&w, CRDT_MASK_WRITE);
    crdt_storage_type member = {.kind = CRDT_SHARED_MEMBER, .subject = id_of(ANCHOR)};
    crdt_grants before = writers_of(&w, CRDT_MASK_WRITE).writers;
    crdt_entity_writers effective[3] = {
        {id_of(ANCHOR), before}, {id_of(ANCHOR), before}, {id_of(ENTITY), before}};
    deed deeds[3] = {
        rotation_to(&w, -1, ROTATION_TIME, 1, 50),
        {ANCHOR, ROOT, UPDATE, writers_of(&w, CRDT_MASK_WRITE), 155, 0, OWNER, .value = 'w',
         .delta = 2, .hlc = 51},
        {ENTITY, ANCHOR, ADD, member, 160, 0, OWNER, .value = 'm', .delta = 3, .hlc = 52}};
    for (int i = 0; i < 3; i++) {
        deed *d = &deeds[order[i]];
        if (resolved) d->effective = &effective[order[i]];
        crdt_refusal refusal = act(&w, d);
        assert_true(refusal == CRDT_APPLIED || (!resolved && order[i] == 2));
    }
    ret_values[0] = value_of(&w, ANCHOR);
    ret_values[1] = value_of(&w, ENTITY);
    assert_int_equal(rotations_of(&w), 1);
    crdt_index root;
    assert_true(read_index(&w, ROOT, &root));
    memcpy(ret_root, root.full_hash.bytes, 32);
    crdt_tree_summary summary;
    crdt_id id = id_of(ROOT);
    assert_int_equal(test_tree_verify(&w.rows, &id, false, &summary), 0);
    assert_true(summary.flaws == 0);
    close_world(&w);
}

static void test_rotation_beside_writes(void **state) {
    (void)state;
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                     {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    uint8_t first[32], root[32];
    char values[2];
    for (int i = 0; i < 6; i++) {
        run_beside(orders[i], true, values, i ? root : first);
        assert_true(values[0] == 'w' && values[1] == 'm');
        if (i) assert_memory_equal(root, first, 32);
        bool early = i >= 3; /* the write of the member before the rotation */
        run_beside(orders[i], false, values, root);
        assert_true(values[0] == 'w' && values[1] == (early ? 'm' : 0));
    }
}

/* --- what a signature covers, and what is kept of it --- */

static void test_covered(void **state) {
    (void)state;
    for (int what = 0; what < 7; what++)
        for (int operation = UPDATE; operation <= DELETE; operation++) {
            world w;
            open_world(&w);
            bool shared = what == 3 || what == 4;
            make_anchor(&w, CRDT_MASK_FULL);
            crdt_storage_type user = storage_of(&w, CRDT_USER);
            deed made = {ENTITY, ROOT, ADD, user, BASE_TIME, 0, OWNER, .value = 'o'};
            assert_int_equal(act(&w, &made), CRDT_APPLIED);
            deed d = made;
            d.operation = (enum operation)operation;
            d.time = NEW_TIME;
            d.value = 'n';
            if (shared) d.entity = ANCHOR, d.storage = writers_of(&w, CRDT_MASK_FULL);
            crdt_action action = action_of(&w, &d);
            crdt_signature *signature =
                (crdt_signature *)(uintptr_t)action.metadata.storage.signature;
            crdt_grant *grants = (crdt_grant *)(uintptr_t)action.metadata.storage.writers.items;
            bool is_delete = operation == DELETE, covered = true;
            switch (what) {
            case 0:
                signature->nonce++;
                break;
            case 1:
                signature->signer.bytes[5]++;
                break;
            case 2:
                if (is_delete)
                    action.deleted_at++;
                else
                    ((uint8_t *)(uintptr_t)action.data.data)[40]++;
                break;
            case 3:
                grants[1].mask = CRDT_MASK_WRITE;
                break;
            case 4:
                grants[1].account.bytes[9]++;
                break;
            case 5: /* not the stamp of a value, and neither is its creation */
                action.metadata.updated_at++;
                action.metadata.created_at++;
                covered = false;
                break;
            default:
                action.kind = is_delete ? CRDT_ACTION_UPDATE : CRDT_ACTION_DELETE;
                break;
            }
            assert_int_equal(apply(&w, &action, &d),
                             covered ? CRDT_REFUSED_SIGNATURE : CRDT_APPLIED);
            close_world(&w);
        }
}

/* The stored signature is the one of the value that stands. */
static void test_kept_signature(void **state) {
    (void)state;
    world w;
    open_world(&w);
    crdt_index index;
    deed d = {ENTITY, ROOT, ADD, storage_of(&w, CRDT_USER), BASE_TIME, 0, OWNER, .value = 'o'};
    assert_int_equal(act(&w, &d), CRDT_APPLIED);
    d.operation = UPDATE;
    d.time = NEW_TIME;
    d.value = 'n';
    assert_int_equal(act(&w, &d), CRDT_APPLIED);
    assert_true(read_index(&w, ENTITY, &index));
    assert_int_equal(index.metadata.storage.signature->nonce, NEW_TIME);
    d.time = NEW_TIME - 1; /* older: neither the value nor its signature */
    assert_int_equal(act(&w, &d), CRDT_APPLIED);
    assert_true(read_index(&w, ENTITY, &index));
    assert_int_equal(index.metadata.storage.signature->nonce, NEW_TIME);
    close_world(&w);
}

/* --- times and markers --- */

static void test_future(void **state) {
    (void)state;
    static const uint64_t now = 1000, drift = 5000000000;
    for (int operation = ADD; operation < OPERATIONS; operation++)
        for (int past = 0; past < 2; past++) {
            world w;
            open_world(&w);
            deed d = {ENTITY, ROOT, ADD, {0}, BASE_TIME, 0, OWNER, .value = 'o'};
            if (operation != ADD) assert_int_equal(act(&w, &d), CRDT_APPLIED);
            d.operation = (enum operation)operation;
            d.time = now + drift + (uint64_t)past;
            d.value = 'n';
            crdt_action action = action_of(&w, &d);
            /* The other time of a deletion says nothing. */
            if (operation == DELETE) action.metadata.updated_at = past ? 1 : UINT64_MAX;
            assert_int_equal(apply(&w, &action, &d), past ? CRDT_REFUSED_TIMESTAMP : CRDT_APPLIED);
            assert_int_equal(value_of(&w, ENTITY), past ? operation == ADD ? 0 : 'o'
                                                   : operation == DELETE ? 0
                                                                         : 'n');
            close_world(&w);
        }
}

/* The sorted index of the parent is told of every change below it. */
static void test_markers(void **state) {
    (void)state;
    world w;
    open_world(&w);
    crdt_id parent = id_of(OTHER);
    deed d = {ENTITY, OTHER, ADD, {0}, BASE_TIME, 0, OWNER, .value = 'o'};
    static const enum operation operations[] = {ADD, UPDATE, DELETE};
    for (int i = 0; i < 3; i++) {
        d.operation = operations[i];
        d.time = BASE_TIME + (uint64_t)i;
        w.markers = 0;
        assert_int_equal(act(&w, &d), CRDT_APPLIED);
        assert_int_equal(w.markers, 1);
        assert_memory_equal(&w.marker, &parent, sizeof parent);
    }
    close_world(&w);
}

static void test_frozen(void **state) {
    (void)state;
    world w;
    open_world(&w);
    deed d = {ENTITY, ROOT, ADD, {.kind = CRDT_FROZEN}, BASE_TIME, 0, OWNER, .value = 'o'};
    crdt_action action = action_of(&w, &d);
    uint8_t *bytes = (uint8_t *)(uintptr_t)action.data.data;
    bytes[32] ^= 1;
    assert_int_equal(apply(&w, &action, &d), CRDT_REFUSED_DATA);
    bytes[32] ^= 1;
    bytes[31] ^= 1;
    assert_int_equal(apply(&w, &action, &d), CRDT_REFUSED_DATA);
    bytes[31] ^= 1;
    for (size_t len = 0; len < 64; len++) { /* too short to hold a hash and an id */
        crdt_action cut = action;
        cut.data.len = len;
        assert_int_equal(apply(&w, &cut, &d), CRDT_REFUSED_DATA);
    }
    assert_int_equal(value_of(&w, ENTITY), 0);
    assert_int_equal(apply(&w, &action, &d), CRDT_APPLIED);
    crdt_metadata empty = {.created_at = BASE_TIME, .updated_at = BASE_TIME};
    action.id = id_of(OTHER); /* an empty value: 64 bytes are enough */
    empty.storage.kind = CRDT_FROZEN;
    action.metadata = empty;
    cal_sha256((cal_slice){0}, bytes);
    action.data.len = 64;
    assert_int_equal(apply(&w, &action, &d), CRDT_APPLIED);
    close_world(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matrix),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_subjects),
        cmocka_unit_test(test_sets),
        cmocka_unit_test(test_sets_of_others),
        cmocka_unit_test(test_rotation_times),
        cmocka_unit_test(test_rotation_log),
        cmocka_unit_test(test_rotation_order),
        cmocka_unit_test(test_rotation_beside_writes),
        cmocka_unit_test(test_covered),
        cmocka_unit_test(test_kept_signature),
        cmocka_unit_test(test_future),
        cmocka_unit_test(test_markers),
        cmocka_unit_test(test_frozen),
    };
    if (cal_crypto_init() != 0) return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
