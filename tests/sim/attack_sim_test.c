/* Attacks on whole nodes in the simulated world (governance.md 18.1; the rows that want more than
 * one node, see docs/design/attacks.md), and floods: what somebody sends takes no room of others.
 */
#include "attack_world.h"
#include "gov/invitation.h"
#include "gov/members.h"

/* --- floods --- */

enum { FLOOD = SYNC_WAITING_MAX + 500, FLOOD_AT_ONCE = 250 };

typedef enum flood_kind {
    BY_STRANGERS,  /* each signed by another key, of a history that nobody knows */
    IN_ONES_NAME,  /* a member's, as they say; with keys that nobody has */
    BY_REPLAY,     /* one that the member did write, under keys that nobody has */
    BY_A_MEMBER,   /* which names keys that nobody has */
    WITH_NO_PARENT /* a member's, upon deltas that nobody has */
} flood_kind;

typedef struct flooding {
    flood_kind kind;
    place *to, *from, *member;
    const shared *s;
    gov_position position;
    cal_hash written; /* by the member, and applied */
    gov_hlc hlc;
    uint8_t signature[CAL_SIGNATURE_SIZE];
    char topic[CAL_ID_TEXT_MAX];
    uint32_t at;
} flooding;

static void make_one(flooding *f, cal_buffer *out) {
    const gov_identity *member = gov_self(node_at(f->member)->gov);
    cal_hash parent = {{0}};
    cal_secret key = {{1}};
    uint8_t n[4];
    cal_write_u32le(n, f->at);
    gov_state_delta delta = {.context = f->s->context,
                             .parents = &parent,
                             .parent_count = 1,
                             .hlc = {f->at, {1, 0}},
                             .sealed = cal_slice_of("sealed........................", 30),
                             .has_position = true,
                             .position = f->position};
    cal_sha256(cal_slice_of(n, sizeof n), delta.delta.bytes);
    delta.key_id = delta.delta;
    memcpy(delta.key_id.bytes, n, sizeof n);
    memcpy(key.bytes + 4, n, sizeof n);
    if (f->kind == BY_STRANGERS) delta.position.heads[0] = delta.delta;
    if (f->kind == BY_A_MEMBER || f->kind == WITH_NO_PARENT) key = member->sign_seed;
    if (f->kind == WITH_NO_PARENT) parent = delta.key_id;
    if (f->kind == IN_ONES_NAME) {
        delta.has_signature = true;
        memcpy(delta.author_key, member->sign_key.bytes, 32);
        memset(delta.signature, 7, sizeof delta.signature);
    }
    if (f->kind == BY_REPLAY) {
        delta.has_signature = true;
        memcpy(delta.author_key, member->sign_key.bytes, 32);
        memcpy(delta.signature, f->signature, sizeof delta.signature);
        delta.delta = f->written;
        delta.hlc = f->hlc;
    }
    write_delta(&delta, &key, out);
    cal_secret_wipe(&key);
}

static void send_some(void *arg) {
    flooding *f = arg;
    for (uint32_t i = 0; i < FLOOD_AT_ONCE; i++, f->at++) {
        cal_buffer bytes;
        make_one(f, &bytes);
        gossiped g = {f->to, f->from, f->topic, cal_buffer_slice(&bytes)};
        hear_it(&g);
        cal_buffer_deinit(&bytes);
    }
}

static void check_rooms(world *w, const sync_context *context) {
    CHECK(w, context->used[SYNC_ROOM_UNPROVED].count <= SYNC_UNPROVED_MAX / 2,
          "%zu unproved ones from one peer", context->used[SYNC_ROOM_UNPROVED].count);
    CHECK(w, context->used[SYNC_ROOM_STRANGERS].count <= SYNC_STRANGERS_MAX / 2,
          "%zu of strangers from one peer", context->used[SYNC_ROOM_STRANGERS].count);
    CHECK(w, context->used[SYNC_ROOM_WAITING].count <= SYNC_WAITING_MAX / 2, "%zu from one peer",
          context->used[SYNC_ROOM_WAITING].count);
    CHECK(w, context->by_id.count <= SYNC_WAITING_MAX / 2, "%zu known by id", context->by_id.count);
}

/* What member b wrote last, as it was gossiped. */
static void learn_last(flooding *f) {
    gov_state_delta delta;
    cal_arena arena;
    cal_arena_init(&arena, 1 << 20);
    assert_true(tap.count > 0);
    assert_int_equal(
        gov_state_delta_decode(cal_buffer_slice(&tap.bytes[tap.count - 1]), &arena, &delta), 0);
    f->written = delta.delta;
    f->position = delta.position;
    f->hlc = delta.hlc;
    memcpy(f->signature, delta.signature, sizeof f->signature);
    cal_arena_deinit(&arena);
}

static void flood(flood_kind kind) {
    world *w = &now;
    world_open(w, 70 + kind, 4, 3);
    place *a = &w->places[0], *b = &w->places[1], *c = &w->places[2], *stranger = &w->places[3];
    shared s = found(a);
    flooding f = {.kind = kind, .to = a, .from = stranger, .member = b, .s = &s};
    topic_of(&s, f.topic);
    join(a, b, &s);
    join(a, c, &s);
    tap_deltas(stranger, f.topic);
    set(b, &s.context, "from b", "1");
    until_holds(a, &s, "from b", "1");
    until_holds(c, &s, "from b", "1");
    learn_last(&f);
    if (kind == BY_A_MEMBER || kind == WITH_NO_PARENT) f.from = b;
    while (f.at < FLOOD) {
        cal_node_run(node_at(a), send_some, &f);
        pass(w, 10 * MS);
        check_rooms(w, context_at(a, &s));
    }
    uint64_t fetched = stats_of(a).deltas_fetched + stats_of(a).deltas_bulk;
    set(c, &s.context, "from c", "2");
    CHECK(w, holds_within(a, &s, "from c", "2", 3 * SECOND), "a member's write is kept away");
    if (kind != WITH_NO_PARENT)
        CHECK(w, stats_of(a).deltas_fetched + stats_of(a).deltas_bulk == fetched,
              "a member's write came only because it was asked for");
    set(a, &s.context, "from a", "3");
    CHECK(w, holds_within(c, &s, "from a", "3", 3 * SECOND), "nothing is sent any more");
    if (kind == BY_REPLAY || kind == IN_ONES_NAME) {
        gov_key_want wants[16];
        assert_int_equal(gov_keys_wanted(node_at(a)->gov, &s.ns, 0, wants, 16), 0);
        assert_int_equal(context_at(a, &s)->by_id.count, 0);
    }
    if (kind == BY_STRANGERS) { /* nor do they stay for ever */
        pass(w, SYNC_STRANGERS_MS * MS + 60 * SECOND);
        assert_int_equal(context_at(a, &s)->used[SYNC_ROOM_STRANGERS].count, 0);
        assert_int_equal(context_at(a, &s)->shares.count, 0);
    }
    free_tap();
    world_close(w);
}

static void strangers_take_no_members_room(void **state) {
    (void)state;
    engine_signals_use();
    flood(BY_STRANGERS);
}
static void forgers_take_no_members_room(void **state) {
    (void)state;
    engine_signals_use();
    flood(IN_ONES_NAME);
    flood(BY_REPLAY);
}
static void a_member_takes_no_others_room(void **state) {
    (void)state;
    engine_signals_use();
    flood(BY_A_MEMBER);
    flood(WITH_NO_PARENT);
}

/* --- T30, T31, T32: who may write, and what a signature binds --- */

typedef struct forged {
    const char *what;
    void (*change)(gov_state_delta *delta, const place *stranger);
    bool resigned; /* by the stranger, with its own key */
    bool waits;    /* for a history or a key: it is not refused, and never applied */
} forged;

static uint8_t scratch[1 << 16];
static cal_hash parents[2];

static void other_context(gov_state_delta *d, const place *s) { (void)s, d->context.bytes[0] ^= 1; }
static void other_author(gov_state_delta *d, const place *s) {
    memcpy(d->author_key, gov_self(node_at((place *)s)->gov)->sign_key.bytes, 32);
}
static void other_id(gov_state_delta *d, const place *s) { (void)s, d->delta.bytes[5] ^= 1; }
static void no_parents(gov_state_delta *d, const place *s) { (void)s, d->parent_count = 0; }
static void zero_parent(gov_state_delta *d, const place *s) {
    (void)s;
    parents[0] = (cal_hash){{0}};
    d->parents = parents;
    d->parent_count = 1;
}
static void more_parents(gov_state_delta *d, const place *s) {
    (void)s;
    parents[0] = d->parents[0];
    parents[1] = (cal_hash){{9}};
    d->parents = parents;
    d->parent_count = 2;
}
static void other_time(gov_state_delta *d, const place *s) { (void)s, d->hlc.time++; }
static void other_clock(gov_state_delta *d, const place *s) { (void)s, d->hlc.id.low ^= 1; }
static void other_seal(gov_state_delta *d, const place *s) {
    (void)s;
    memcpy(scratch, d->sealed.data, d->sealed.len);
    scratch[d->sealed.len / 2] ^= 1;
    d->sealed.data = scratch;
}
static void cut_seal(gov_state_delta *d, const place *s) { (void)s, d->sealed.len--; }
static void no_seal(gov_state_delta *d, const place *s) { (void)s, d->sealed.len = 0; }
static void other_nonce(gov_state_delta *d, const place *s) { (void)s, d->nonce[0] ^= 1; }
static void no_position(gov_state_delta *d, const place *s) { (void)s, d->has_position = false; }
static void empty_position(gov_state_delta *d, const place *s) { (void)s, d->position.count = 0; }
static void other_position(gov_state_delta *d, const place *s) {
    (void)s;
    d->position.heads[0].bytes[3] ^= 1;
}
static void other_key_id(gov_state_delta *d, const place *s) { (void)s, d->key_id.bytes[0] ^= 1; }
static void other_signature(gov_state_delta *d, const place *s) { (void)s, d->signature[1] ^= 1; }
static void no_signature(gov_state_delta *d, const place *s) { (void)s, d->has_signature = false; }
static void nothing_else(gov_state_delta *d, const place *s) { (void)d, (void)s; }

static const forged forgeries[] = {
    {"another context", other_context, false, false},
    {"another author", other_author, false, false},
    {"another id", other_id, false, false},
    {"no parents", no_parents, false, false},
    {"the zero parent", zero_parent, false, false},
    {"one parent more", more_parents, false, false},
    {"another time", other_time, false, false},
    {"another clock", other_clock, false, false},
    {"another byte under the seal", other_seal, false, false},
    {"a byte less under the seal", cut_seal, false, false},
    {"nothing under the seal", no_seal, false, false},
    {"another nonce", other_nonce, false, false},
    {"no position", no_position, false, false},
    {"a position that names nothing", empty_position, false, false},
    {"another position", other_position, false, false},
    {"another signature", other_signature, false, false},
    {"no signature", no_signature, false, false},
    {"a stranger for its author", nothing_else, true, false},
    {"a stranger, who cites nothing", empty_position, true, false},
    {"a stranger, of an unknown history", other_position, true, true},
    {"another key's name", other_key_id, false, true},
};

static void forge(place *a, place *stranger, const shared *s, const forged *how) {
    world *w = a->world;
    cal_arena arena;
    cal_buffer bytes;
    gov_state_delta delta;
    cal_hash before, after;
    char topic[CAL_ID_TEXT_MAX];
    topic_of(s, topic);
    cal_arena_init(&arena, 1 << 20);
    cal_buffer_init(&bytes, 1 << 21);
    assert_int_equal(gov_state_delta_decode(cal_buffer_slice(&tap.bytes[0]), &arena, &delta), 0);
    how->change(&delta, stranger);
    const cal_secret *key = &gov_self(node_at(stranger)->gov)->sign_seed;
    if (how->resigned) {
        cal_sign_public_key(key, delta.author_key);
        gov_delta_sign(key, &delta.context, &delta.delta, &delta.position, &delta.hlc,
                       delta.signature);
    }
    assert_int_equal(gov_state_delta_write(&delta, &bytes), 0);
    uint64_t bad = stats_of(a).malformed + stats_of(a).deltas_refused;
    assert_true(root_of(a, &s->context, &before));
    gossip(a, stranger, topic, cal_buffer_slice(&bytes));
    pass(w, SECOND);
    assert_true(root_of(a, &s->context, &after));
    CHECK(w, memcmp(&before, &after, sizeof before) == 0, "with %s it is applied", how->what);
    CHECK(w, (stats_of(a).malformed + stats_of(a).deltas_refused == bad + 1) != how->waits,
          "with %s it is %s", how->what, how->waits ? "refused" : "not refused");
    cal_buffer_deinit(&bytes);
    cal_arena_deinit(&arena);
}

/* b's write reaches a by the stranger alone: in every other form first, then as it is; that it came
 * in another one keeps it from nothing. */
static void a_delta_is_what_its_author_signed(void **state) {
    (void)state;
    engine_signals_use();
    world *w = &now;
    world_open(w, 80, 3, 2);
    place *a = &w->places[0], *b = &w->places[1], *stranger = &w->places[2];
    char topic[CAL_ID_TEXT_MAX];
    shared s = found(a);
    topic_of(&s, topic);
    join(a, b, &s);
    set(a, &s.context, "before", "1");
    until_holds(b, &s, "before", "1");
    cut(a, stranger, true);
    cut(a, b, true);
    connect_places(stranger, b);
    tap_deltas(stranger, topic);
    set(b, &s.context, "from b", "2");
    pass(w, 2 * SECOND);
    assert_int_equal(tap.count, 1);
    for (size_t i = 0; i < sizeof forgeries / sizeof *forgeries; i++)
        forge(a, stranger, &s, &forgeries[i]);
    assert_false(holds(a, &s.context, "from b", "2"));
    gossip(a, stranger, topic, cal_buffer_slice(&tap.bytes[0]));
    CHECK(w, holds_within(a, &s, "from b", "2", 2 * SECOND), "the true one is not applied");
    free_tap();
    world_close(w);
}

/* --- T22: who was removed reads nothing that comes afterwards --- */

static bool opens(place *p, const shared *s, const gov_state_delta *delta, const cal_secret *old) {
    cal_secret key;
    gov_delta_payload payload;
    cal_buffer plain;
    cal_buffer_init(&plain, 1 << 21);
    bool open = gov_delta_open(old, delta->nonce, delta->sealed, &plain, &payload) == 0;
    if (gov_context_key(node_at(p)->gov, &s->context, &delta->key_id, &key) == 0) {
        open = open || gov_delta_open(&key, delta->nonce, delta->sealed, &plain, &payload) == 0;
        cal_secret_wipe(&key);
    }
    cal_buffer_deinit(&plain);
    return open;
}

static void a_removed_member_opens_nothing(void **state) {
    (void)state;
    enum { WRITES = 10 };
    engine_signals_use();
    world *w = &now;
    gov_write_grant before;
    world_open(w, 81, 3, 3);
    place *a = &w->places[0], *b = &w->places[1], *c = &w->places[2];
    char topic[CAL_ID_TEXT_MAX];
    shared s = found(a);
    topic_of(&s, topic);
    join(a, b, &s);
    join(a, c, &s);
    set(a, &s.context, "before", "1");
    until_holds(b, &s, "before", "1");
    until_holds(c, &s, "before", "1");
    OK(w, gov_context_write(node_at(b)->gov, &s.context, &before, &err));
    cal_context_record then; /* its one head may be heard again, and is nothing new */
    cal_arena kept;
    cal_arena_init(&kept, 1 << 20);
    OK(w, cal_contexts_get(node_at(a)->contexts, &s.context, &kept, &then));
    assert_int_equal(then.head_count, 1);
    cal_account_id account = account_of(b);
    OK(w, cal_members_remove_wait(node_at(a), &s.ns, &account, 1, &err));
    pass(w, 5 * SECOND);
    tap_deltas(b, topic); /* it hears all that is said, and may ask for what it likes */
    for (int i = 0; i < WRITES; i++) {
        set(i % 2 ? a : c, &s.context, "after", i % 2 ? "a" : "c");
        pass(w, SECOND);
    }
    size_t again = 0;
    for (size_t i = 0; i < tap.count; i++) {
        gov_state_delta delta;
        cal_arena arena;
        cal_arena_init(&arena, 1 << 20);
        assert_int_equal(gov_state_delta_decode(cal_buffer_slice(&tap.bytes[i]), &arena, &delta),
                         0);
        bool old = memcmp(&delta.delta, &then.heads[0], sizeof delta.delta) == 0;
        again += old;
        CHECK(w, old || !opens(b, &s, &delta, &before.group_key),
              "the removed member opens delta %zu", i);
        cal_arena_deinit(&arena);
    }
    assert_true(tap.count - again >= WRITES);
    cal_arena_deinit(&kept);
    cal_secret_wipe(&before.group_key);
    assert_true(holds(a, &s.context, "after", "a") && holds(c, &s.context, "after", "a"));
    free_tap();
    world_close(w);
}

/* --- T12: nobody joins as somebody else --- */

typedef struct joining {
    place *from, *to, *other;
    const shared *s;
    cal_buffer invitation, credential;
    enum { NO_PROOF, ANOTHERS_PROOF, ANOTHER_NAMESPACE, ANOTHER_KEY, HONEST } how;
    int kind, answer; /* of what came; -1: nothing */
    bool over;
} joining;

static void sign_as(void *user, cal_slice message, uint8_t ret_signature[64]) {
    gov_sign(node_at(user)->gov, message, ret_signature);
}

static void say_join(void *user, net_messages *messages) {
    joining *j = user;
    cal_buffer bytes;
    sync_message message = {.kind = SYNC_INIT};
    sync_init *init = &message.init;
    init->party = gov_self(node_at(j->from)->gov)->sign_key;
    init->request = (sync_request){.kind = SYNC_JOIN,
                                   .namespace_id = j->s->ns,
                                   .invitation = cal_buffer_slice(&j->invitation),
                                   .credential = cal_buffer_slice(&j->credential),
                                   .key = init->party};
    if (j->how == ANOTHER_NAMESPACE) init->request.namespace_id.bytes[0] ^= 1;
    if (j->how != NO_PROOF) {
        init->has_proof = true;
        sync_proof_sign(init, j->how == ANOTHERS_PROOF ? &j->other->id : &j->from->id, sign_as,
                        j->from, init->proof);
    }
    init->request.namespace_id = j->s->ns;
    if (j->how == ANOTHER_KEY) init->request.key = gov_self(node_at(j->other)->gov)->sign_key;
    cal_buffer_init(&bytes, 1 << 20);
    assert_int_equal(sync_message_write(&message, &bytes), 0);
    assert_int_equal(net_messages_send(messages, cal_buffer_slice(&bytes)), 0);
    net_messages_expect(messages, 20000);
    cal_buffer_deinit(&bytes);
}
static void on_join_answer(void *user, net_messages *messages, cal_slice bytes) {
    joining *j = user;
    cal_arena arena;
    sync_message message;
    cal_arena_init(&arena, 1 << 24);
    assert_int_equal(sync_message_decode(bytes, &arena, &message), 0);
    j->kind = message.kind;
    j->answer = message.kind == SYNC_MESSAGE ? message.answer.kind : -1;
    net_messages_reset(messages);
    cal_arena_deinit(&arena);
}
static void on_join_ended(void *user, net_messages *messages, int reason) {
    (void)messages, (void)reason;
    ((joining *)user)->over = true;
}
static bool is_join_over(void *user) { return ((joining *)user)->over; }
static void open_join(void *arg) {
    static const net_messages_events events = {
        .opened = say_join, .message = on_join_answer, .ended = on_join_ended};
    joining *j = arg;
    net_messages *messages;
    assert_int_equal(net_messages_open(cal_node_p2p(node_at(j->from)), &j->to->id,
                                       NET_STREAM_PROTOCOL, 60000, &events, j, &messages),
                     0);
}

static void nobody_joins_as_somebody_else(void **state) {
    (void)state;
    engine_signals_use();
    world *w = &now;
    char json[TEXT_MAX];
    gov_invitation invitation;
    world_open(w, 82, 3, 3);
    place *a = &w->places[0], *thief = &w->places[1], *other = &w->places[2];
    shared s = found(a);
    invite(a, &s.ns, json);
    OK(w, gov_invitation_read_json(cal_slice_text(json), &invitation, &err));
    joining j = {.from = thief, .to = a, .other = other, .s = &s};
    pass(w, 5 * SECOND); /* for a connection */
    cal_buffer_init(&j.invitation, 1 << 16);
    cal_buffer_init(&j.credential, 1 << 16);
    assert_int_equal(gov_invitation_write(&invitation, &j.invitation), 0);
    assert_int_equal(gov_credential_bytes(node_at(thief)->gov, &j.credential), 0);
    for (j.how = NO_PROOF; j.how <= HONEST; j.how++) {
        j.over = false;
        j.kind = j.answer = -1;
        cal_node_run(node_at(thief), open_join, &j);
        wait_for(w, is_join_over, &j, "an answer");
        if (j.how == HONEST)
            assert_int_equal(j.answer, SYNC_ANSWER_JOIN);
        else
            CHECK(w, j.answer == -1 && j.kind != SYNC_MESSAGE, "way %d is answered with kind %d",
                  (int)j.how, j.answer);
    }
    assert_int_equal(stats_of(a).joins_served, 1);
    cal_buffer_deinit(&j.invitation);
    cal_buffer_deinit(&j.credential);
    world_close(w);
}

/* --- questions one after the other on a stream --- */

enum { ASKS_MAX = 3 };
typedef struct asks {
    place *from, *to;
    cal_context_id context; /* zero: about a namespace */
    sync_request requests[ASKS_MAX];
    cal_public_key parties[ASKS_MAX]; /* as whom; signed with the key of `from` */
    size_t count, at;
    int kinds[ASKS_MAX], answers[ASKS_MAX]; /* of what came; -1: nothing */
    cal_hash op;                            /* the first of the operations in the last answer, */
    size_t op_count;                        /* and how many there are */
    bool over;
} asks;

static void ask_next(asks *a, net_messages *messages) {
    cal_buffer bytes;
    sync_message message = {
        .kind = SYNC_INIT,
        .init = {.context = a->context, .party = a->parties[a->at], .request = a->requests[a->at]}};
    sync_init *init = &message.init;
    init->has_proof = sync_request_needs_proof(init->request.kind);
    if (init->has_proof) sync_proof_sign(init, &a->from->id, sign_as, a->from, init->proof);
    cal_buffer_init(&bytes, 1 << 20);
    assert_int_equal(sync_message_write(&message, &bytes), 0);
    assert_int_equal(net_messages_send(messages, cal_buffer_slice(&bytes)), 0);
    net_messages_expect(messages, 20000);
    cal_buffer_deinit(&bytes);
}
static void on_asks_opened(void *user, net_messages *messages) { ask_next(user, messages); }
static void on_asks_answer(void *user, net_messages *messages, cal_slice bytes) {
    asks *a = user;
    cal_arena arena;
    sync_message message;
    cal_arena_init(&arena, 1 << 24);
    assert_int_equal(sync_message_decode(bytes, &arena, &message), 0);
    a->kinds[a->at] = message.kind;
    if (message.kind == SYNC_MESSAGE) a->answers[a->at] = message.answer.kind;
    a->op_count = message.answer.ops.count;
    if (a->op_count > 0) a->op = message.answer.ops.items[0].id;
    cal_arena_deinit(&arena);
    if (++a->at == a->count)
        net_messages_reset(messages);
    else
        ask_next(a, messages);
}
static void on_asks_ended(void *user, net_messages *messages, int reason) {
    (void)messages, (void)reason;
    ((asks *)user)->over = true;
}
static bool are_asks_over(void *user) { return ((asks *)user)->over; }
static void open_asks(void *arg) {
    static const net_messages_events events = {
        .opened = on_asks_opened, .message = on_asks_answer, .ended = on_asks_ended};
    asks *a = arg;
    net_messages *messages;
    assert_int_equal(net_messages_open(cal_node_p2p(node_at(a->from)), &a->to->id,
                                       NET_STREAM_PROTOCOL, 60000, &events, a, &messages),
                     0);
}
static void begin_asks(asks *a) {
    a->at = 0;
    a->over = false;
    for (size_t i = 0; i < ASKS_MAX; i++) a->kinds[i] = a->answers[i] = -1;
    cal_node_run(node_at(a->from), open_asks, a);
}
static cal_public_key key_of_place(place *p) { return gov_self(node_at(p)->gov)->sign_key; }

/* A push carries no proof: it is taken from whoever proved its key on that stream, and from nobody
 * else's. */
static void nobody_pushes_in_anothers_name(void **state) {
    (void)state;
    engine_signals_use();
    static const uint8_t no_ancestors[4];
    static const uint8_t type[] = {0, 6, 0, 0, 0, 'O', 'p', 'a', 'q', 'u', 'e'};
    world *w = &now;
    world_open(w, 85, 3, 3);
    place *a = &w->places[0], *b = &w->places[1], *c = &w->places[2];
    shared s = found(a);
    join(a, b, &s);
    join(a, c, &s);
    set(a, &s.context, "before", "1");
    until_holds(b, &s, "before", "1");
    until_holds(c, &s, "before", "1");
    const sync_leaf leaf = {.id = {{9}},
                            .value = cal_slice_of("pushed", 6),
                            .type = cal_slice_of(type, sizeof type),
                            .updated_at = 1,
                            .ancestors = cal_slice_of(no_ancestors, sizeof no_ancestors)};
    const sync_request heads = {.kind = SYNC_HEADS, .context = s.context},
                       push = {.kind = SYNC_PUSH, .context = s.context, .leaves = {&leaf, 1}};
    asks q = {.from = b,
              .to = a,
              .context = s.context,
              .requests = {heads, push, push},
              .parties = {key_of_place(b), key_of_place(c), key_of_place(b)},
              .count = 3};
    begin_asks(&q);
    wait_for(w, are_asks_over, &q, "answers");
    assert_int_equal(q.answers[0], SYNC_ANSWER_HEADS);
    CHECK(w, q.kinds[1] == SYNC_OPAQUE_ERROR, "another's push is answered with kind %d, %d",
          q.kinds[1], q.answers[1]);
    assert_int_equal(q.answers[2], SYNC_ANSWER_PUSHED);
    world_close(w);
}

/* Who asks for an operation gets that one. */
static void named_operations_are_what_is_answered(void **state) {
    (void)state;
    engine_signals_use();
    world *w = &now;
    world_open(w, 86, 2, 2);
    place *a = &w->places[0], *b = &w->places[1];
    shared s = found(a);
    join(a, b, &s);
    pass(w, 5 * SECOND);
    gov_position position = position_at(a, &s);
    assert_true(position.count > 0 && gov_op_count(node_at(a)->gov, &s.ns) > 1);
    const sync_request one = {
        .kind = SYNC_BACKFILL, .namespace_id = s.ns, .ids = {&position.heads[0], 1}};
    asks q = {.from = b, .to = a, .requests = {one}, .parties = {key_of_place(b)}, .count = 1};
    begin_asks(&q);
    wait_for(w, are_asks_over, &q, "an answer");
    assert_int_equal(q.answers[0], SYNC_ANSWER_BACKFILL);
    CHECK(w, q.op_count == 1, "%zu operations are sent", q.op_count);
    assert_memory_equal(&q.op, &position.heads[0], sizeof q.op);
    world_close(w);
}

/* Who asks before it is heard of as a member is answered as soon as that is; who is none, in a
 * moment, not at all. */
static void who_becomes_a_member_is_answered(void **state) {
    (void)state;
    engine_signals_use();
    world *w = &now;
    world_open(w, 87, 2, 2);
    place *a = &w->places[0], *b = &w->places[1];
    shared s = found(a);
    cal_group_id group;
    cal_context_created created;
    join(a, b, &s);
    cal_group_options options = {.parent = &s.ns, .name = "closed"};
    OK(w, cal_group_create_wait(node_at(a), &options, &group, &err));
    cal_context_create_options create = {.application = application, .group = group};
    OK(w, cal_context_create_wait(node_at(a), &create, &created, &err));
    pass(w, 5 * SECOND);
    asks q = {.from = b,
              .to = a,
              .context = created.id,
              .requests = {{.kind = SYNC_HEADS, .context = created.id}},
              .parties = {key_of_place(b)},
              .count = 1};
    begin_asks(&q);
    wait_for(w, are_asks_over, &q, "a refusal");
    assert_int_equal(q.kinds[0], SYNC_OPAQUE_ERROR);
    begin_asks(&q);
    pass(w, 3 * SECOND);
    CHECK(w, q.kinds[0] == -1, "it is refused at once");
    const cal_member_spec member = {.account = account_of(b), .role = CAL_ROLE_MEMBER};
    OK(w, cal_members_add_wait(node_at(a), &group, &member, 1, &err));
    wait_for(w, are_asks_over, &q, "an answer");
    CHECK(w, q.answers[0] == SYNC_ANSWER_HEADS, "it is answered with kind %d, %d", q.kinds[0],
          q.answers[0]);
    world_close(w);
}

/* --- a key that cannot be made now --- */

/* An operation that nobody can read, as it is gossiped. */
static void make_unreadable(place *to, place *by, const shared *s, const cal_group_id *group,
                            uint64_t nonce, cal_buffer *ret_bytes, cal_hash *ret_id) {
    cal_buffer op, payload;
    const gov_identity *self = gov_self(node_at(by)->gov);
    gov_position position = position_at(to, s);
    gov_signed_op signed_op = {
        .namespace_id = s->ns,
        .parents = {position.heads, position.count},
        .nonce = nonce,
        .op = {.group = true,
               .group_id = *group,
               .key_id = {{0xEE}},
               .sealed = cal_slice_of("nobody can read this............", 32)}};
    cal_buffer_init(&op, GOV_OP_MAX);
    cal_buffer_init(&payload, GOV_OP_MAX);
    cal_buffer_init(ret_bytes, GOV_OP_MAX);
    assert_int_equal(gov_signed_op_sign(&signed_op, &self->sign_seed, &op, ret_id), 0);
    gov_topic_message message = {.kind = GOV_TOPIC_OP, .op_bytes = cal_buffer_slice(&op)};
    assert_int_equal(gov_topic_write(&message, &payload), 0);
    gov_broadcast broadcast = {.kind = GOV_BROADCAST_DELTA,
                               .namespace_id = s->ns,
                               .delta = *ret_id,
                               .payload = cal_buffer_slice(&payload)};
    assert_int_equal(gov_broadcast_write(&broadcast, ret_bytes), 0);
    cal_buffer_deinit(&op);
    cal_buffer_deinit(&payload);
}

/* Of somebody who may do anything in the group. */
static void seal_unreadable(place *to, place *by, const shared *s, const cal_group_id *group) {
    char topic[GOV_TOPIC_TEXT_MAX];
    cal_buffer bytes;
    cal_hash id;
    make_unreadable(to, by, s, group, 1000, &bytes, &id);
    gov_topic_text(&s->ns, topic);
    gossip(to, by, topic, cal_buffer_slice(&bytes));
    cal_buffer_deinit(&bytes);
    pass(to->world, 5 * SECOND);
    assert_int_equal(gov_has_op(node_at(to)->gov, &s->ns, &id), 0);
}

/* Operations, all at once, before any of them is looked at; a member's comes last. */
typedef struct op_flood {
    place *to, *stranger, *member;
    const char *topic;
    cal_buffer theirs, members;
} op_flood;
static void flood_with_ops(void *arg) {
    const op_flood *f = arg;
    gossiped g = {f->to, f->stranger, f->topic, cal_buffer_slice(&f->theirs)};
    for (int i = 0; i < 2 * SYNC_INTAKE_MAX; i++) hear_it(&g);
    g = (gossiped){f->to, f->member, f->topic, cal_buffer_slice(&f->members)};
    hear_it(&g);
}
static void strangers_operations_take_no_members_room(void **state) {
    (void)state;
    engine_signals_use();
    world *w = &now;
    world_open(w, 84, 3, 2);
    place *a = &w->places[0], *b = &w->places[1], *stranger = &w->places[2];
    char topic[GOV_TOPIC_TEXT_MAX];
    cal_hash id, theirs;
    shared s = found(a);
    join(a, b, &s);
    gov_topic_text(&s.ns, topic);
    op_flood f = {.to = a, .stranger = stranger, .member = b, .topic = topic};
    make_unreadable(a, stranger, &s, &s.ns, 1, &f.theirs, &theirs);
    make_unreadable(a, b, &s, &s.ns, 1000, &f.members, &id);
    cal_node_run(node_at(a), flood_with_ops, &f);
    pass(w, 10 * SECOND);
    assert_int_equal(gov_has_op(node_at(a)->gov, &s.ns, &id), 0);
    cal_buffer_deinit(&f.theirs);
    cal_buffer_deinit(&f.members);
    world_close(w);
}

/* Two groups owe a key after a leave; for the first one none can be made. */
static void what_cannot_be_paid_stops_no_other_debt(void **state) {
    (void)state;
    engine_signals_use();
    world *w = &now;
    world_open(w, 83, 3, 3);
    place *a = &w->places[0], *b = &w->places[1], *c = &w->places[2];
    cal_group_id group = {{0, 1}}; /* before the namespace, in the order of ids */
    gov_debt debts[4];
    shared s = found(a);
    join(a, b, &s);
    join(a, c, &s);
    cal_group_options options = {.parent = &s.ns, .id = &group, .name = "group"};
    OK(w, cal_group_create_wait(node_at(a), &options, &group, &err));
    const cal_member_spec members[] = {{.account = account_of(b), .role = CAL_ROLE_ADMIN},
                                       {.account = account_of(c), .role = CAL_ROLE_MEMBER}};
    OK(w, cal_members_add_wait(node_at(a), &group, members, 2, &err));
    pass(w, 5 * SECOND);
    cut(a, b, true); /* it would pay */
    cut(c, b, true);
    seal_unreadable(a, b, &s, &group);
    OK(w, cal_group_leave_wait(node_at(c), &s.ns, &err));
    pass(w, 20 * SECOND);
    size_t count = gov_rotation_due(node_at(a)->gov, &s.ns, debts, 4);
    CHECK(w, count == 1, "%zu debts are left", count);
    assert_memory_equal(&debts[0].group, &group, sizeof group);
    world_close(w);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(strangers_take_no_members_room, tell_seed),
        cmocka_unit_test_teardown(forgers_take_no_members_room, tell_seed),
        cmocka_unit_test_teardown(a_member_takes_no_others_room, tell_seed),
        cmocka_unit_test_teardown(strangers_operations_take_no_members_room, tell_seed),
        cmocka_unit_test_teardown(a_delta_is_what_its_author_signed, tell_seed),
        cmocka_unit_test_teardown(a_removed_member_opens_nothing, tell_seed),
        cmocka_unit_test_teardown(nobody_joins_as_somebody_else, tell_seed),
        cmocka_unit_test_teardown(nobody_pushes_in_anothers_name, tell_seed),
        cmocka_unit_test_teardown(named_operations_are_what_is_answered, tell_seed),
        cmocka_unit_test_teardown(who_becomes_a_member_is_answered, tell_seed),
        cmocka_unit_test_teardown(what_cannot_be_paid_stops_no_other_debt, tell_seed),
    };
    if (argc != 2) {
        fprintf(stderr, "usage: %s KV_STORE_WASM\n", argv[0]);
        return 2;
    }
    app_path = argv[1];
    cmocka_set_test_filter(getenv("CAL_TEST"));
    return cmocka_run_group_tests(tests, make_images, free_images);
}
