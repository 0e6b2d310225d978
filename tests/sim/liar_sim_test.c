/* A member that lies in everything it can say: each answer on a stream, each request, each kind of
 * gossip (network-sync.md 4, 5, 7 to 10), in every way of a table. Whoever hears it keeps its state
 * and its history or gets the true ones, keeps serving, keeps nothing of it, and goes on with
 * another peer.
 *
 * The liar is a whole node, but its streams are answered by the test: it hands each request on to
 * an honest member, under its own key, and changes what comes back. */
#include "attack_world.h"
#include "gov/topic.h"
#include "sync/bulk.h"
#include "sync/tree.h"

/* --- lies --- */

typedef enum lie_kind {
    TRUTH,
    NOTHING,    /* no answer at all */
    CLOSE,      /* the end of the stream */
    EMPTY,      /* a message without a byte */
    CUT,        /* its first bytes only, by place */
    ONE_MORE,   /* a byte behind its end */
    OTHER_KIND, /* the kind of another answer, by place, before the same fields */
    OTHER_BYTE, /* by place */
    ALL_ONES,   /* four bytes, by place: counts, lengths */
    NOISE,      /* as long, of the same kind */
    THRICE,     /* the same again and again */
    REFUSAL,    /* OpaqueError */
    NOT_HERE,   /* NotMaterialized */
    QUESTION,   /* a request instead of an answer */
    LIE_COUNT
} lie_kind;

static const char *const lie_names[LIE_COUNT] = {
    "truth",      "nothing",  "close", "empty",  "cut",     "one more", "other kind",
    "other byte", "all ones", "noise", "thrice", "refusal", "not here", "question"};

enum { PLACES = 12, BYTES = 60 }; /* in a message, for the lies that have one */

typedef struct lie {
    lie_kind kind;
    size_t place;
} lie;

static size_t places_of(lie_kind kind) {
    return kind == OTHER_BYTE                ? BYTES
           : kind == CUT || kind == ALL_ONES ? PLACES
           : kind == OTHER_KIND              ? SYNC_ANSWER_COUNT
                                             : 1;
}

enum { PAYLOAD_AT = 1 + 8 }; /* of an answer's kind, behind the envelope's and the number */

/* The message as the lie has it. false: none. */
static bool tell(const lie *l, cal_slice truth, cal_buffer *out) {
    size_t at = truth.len * l->place / (l->kind == OTHER_BYTE ? BYTES : PLACES);
    if (l->kind == NOTHING || l->kind == CLOSE) return false;
    if (l->kind == EMPTY) return true;
    cal_buffer_append(out, truth.data, l->kind == CUT ? at : truth.len);
    if (l->kind == ONE_MORE) cal_buffer_append_u8(out, 0);
    if (l->kind == OTHER_BYTE && at < out->len) out->data[at] ^= (uint8_t)(1 + l->place);
    if (l->kind == ALL_ONES)
        for (size_t i = at; i < at + 4 && i < out->len; i++) out->data[i] = 0xff;
    if (l->kind == OTHER_KIND && out->len > PAYLOAD_AT) out->data[PAYLOAD_AT] = (uint8_t)l->place;
    if (l->kind == NOISE)
        for (size_t i = PAYLOAD_AT + 1; i < out->len; i++) out->data[i] = (uint8_t)(i * 131 + 7);
    if (l->kind == REFUSAL || l->kind == NOT_HERE) {
        cal_buffer_reset(out);
        cal_buffer_append_u8(out, l->kind == REFUSAL ? SYNC_OPAQUE_ERROR : SYNC_NOT_MATERIALIZED);
    }
    if (l->kind == QUESTION) out->data[0] = SYNC_INIT;
    return true;
}

/* --- the liar's streams --- */

static struct {
    place *liar, *honest, *victim;
    lie lie;
    uint8_t about;  /* sync_answer_kind */
    bool roots_lie; /* besides: heads come with another root, so that trees are compared */
    uint64_t told;  /* lies */
    uint64_t streams;
} script;

typedef struct relay {
    net_messages *asker, *source;
    bool lied_to, open, gone;
    cal_buffer request, answer;
    int again; /* times that the answer is still to be sent */
} relay;

static void sign_as_liar(void *user, cal_slice message, uint8_t ret_signature[64]) {
    (void)user;
    gov_sign(node_at(script.liar)->gov, message, ret_signature);
}

static void free_relay(relay *r) {
    if (r->asker || r->source) return;
    cal_buffer_deinit(&r->request);
    cal_buffer_deinit(&r->answer);
    free(r);
    script.streams--;
}

static void hand_on(relay *r) {
    if (!r->open || r->request.len == 0 || !r->source) return;
    if (net_messages_send(r->source, cal_buffer_slice(&r->request)) == 0)
        net_messages_expect(r->source, 30000);
    cal_buffer_reset(&r->request);
}

static void on_source_opened(void *user, net_messages *messages) {
    relay *r = user;
    (void)messages;
    r->open = true;
    hand_on(r);
}

static void send_answer(relay *r) {
    if (r->asker && net_messages_send(r->asker, cal_buffer_slice(&r->answer)) == 0 && r->again > 0)
        r->again--;
}

enum { TREE_HASH_AT = PAYLOAD_AT + 1 + 4 + 32 }; /* of the first node */

/* What makes the victim compare trees, and go down into them. */
static void lie_about_roots(cal_buffer *answer) {
    if (answer->data[PAYLOAD_AT] == SYNC_ANSWER_HEADS && answer->len > 64)
        answer->data[answer->len - 12 - 1 - 1] ^= 1; /* before scope_root and nonce */
    if (answer->data[PAYLOAD_AT] == SYNC_ANSWER_TREE && answer->len > TREE_HASH_AT)
        answer->data[TREE_HASH_AT] ^= 1;
}

static void answer_with(relay *r, cal_slice bytes) {
    bool answer = bytes.len > PAYLOAD_AT && bytes.data[0] == SYNC_MESSAGE;
    bool lies = r->lied_to && answer && bytes.data[PAYLOAD_AT] == script.about;
    cal_buffer_reset(&r->answer);
    r->again = lies && script.lie.kind == THRICE ? 2 : 0;
    script.told += lies;
    if (!lies) {
        cal_buffer_append(&r->answer, bytes.data, bytes.len);
        if (r->lied_to && answer && script.roots_lie) lie_about_roots(&r->answer);
    } else if (!tell(&script.lie, bytes, &r->answer)) {
        if (script.lie.kind == CLOSE && r->asker) net_messages_reset(r->asker);
        return;
    }
    send_answer(r);
}

static void on_source_answer(void *user, net_messages *messages, cal_slice bytes) {
    net_messages_expect(messages, 30000); /* a state comes in more than one */
    answer_with(user, bytes);
}

/* Nobody else could: who asks to join shows its key to the one that it asks. */
typedef struct told_ops {
    cal_slice items[SYNC_OPS_MAX];
    cal_arena *arena;
    uint32_t count;
} told_ops;
static int add_op(void *user, const cal_hash *id, cal_slice bytes) {
    told_ops *ops = user;
    (void)id;
    ops->items[ops->count++] =
        cal_slice_of(cal_arena_copy(ops->arena, bytes.data, bytes.len), bytes.len);
    return 0;
}
static void answer_join(relay *r, const sync_request *request, cal_arena *arena) {
    cal_gov *gov = node_at(script.liar)->gov;
    gov_join_answer join;
    told_ops *ops = cal_arena_alloc(arena, sizeof *ops);
    cal_buffer envelope, bytes;
    ops->arena = arena;
    ops->count = 0;
    if (gov_join_answer_make(gov, &request->namespace_id, request->invitation, request->credential,
                             &request->key, arena, &join, &err))
        return;
    gov_history_read(node_at(script.liar)->store, &request->namespace_id, NULL, 0, NULL,
                     SYNC_OPS_MAX, 1 << 20, add_op, ops);
    cal_buffer_init(&envelope, 4096);
    cal_buffer_init(&bytes, NET_MESSAGE_MAX);
    assert_int_equal(gov_envelope_write(&join.envelope, &envelope), 0);
    sync_message message = {.kind = SYNC_MESSAGE,
                            .answer = {.kind = SYNC_ANSWER_JOIN,
                                       .application = join.application,
                                       .contexts = {(const cal_hash *)(const void *)join.contexts,
                                                    (uint32_t)join.context_count},
                                       .default_capabilities = join.default_capabilities,
                                       .bytes = cal_buffer_slice(&envelope),
                                       .op_bytes = {ops->items, ops->count}}};
    assert_int_equal(sync_message_write(&message, &bytes), 0);
    answer_with(r, cal_buffer_slice(&bytes));
    cal_buffer_deinit(&envelope);
    cal_buffer_deinit(&bytes);
}

static void on_source_ended(void *user, net_messages *messages, int reason) {
    relay *r = user;
    (void)messages, (void)reason;
    r->source = NULL;
    if (r->asker && script.lie.kind != NOTHING) net_messages_reset(r->asker);
    free_relay(r);
}

static const net_messages_events source_events = {
    .opened = on_source_opened, .message = on_source_answer, .ended = on_source_ended};

static void on_asked(void *user, net_messages *messages, cal_slice bytes) {
    relay *r = user;
    cal_arena arena;
    sync_message message;
    (void)messages;
    cal_arena_init(&arena, 1 << 26);
    cal_buffer_reset(&r->request);
    if (sync_message_decode(bytes, &arena, &message) == 0 && message.kind == SYNC_INIT) {
        sync_init *init = &message.init;
        init->party = gov_self(node_at(script.liar)->gov)->sign_key;
        init->has_proof = sync_request_needs_proof(init->request.kind);
        if (init->has_proof)
            sync_proof_sign(init, &script.liar->id, sign_as_liar, NULL, init->proof);
        if (init->request.kind == SYNC_TREE_NODE && init->request.depth == SYNC_TREE_DEPTH &&
            r->lied_to && script.roots_lie)
            init->request.id.bytes[31] ^= 1; /* the true root, which the honest one knows */
        if (init->request.kind == SYNC_JOIN)
            answer_join(r, &init->request, &arena);
        else
            sync_message_write(&message, &r->request);
    }
    cal_arena_deinit(&arena);
    hand_on(r);
}

static void on_answer_sent(void *user, net_messages *messages) {
    relay *r = user;
    if (r->again > 0)
        send_answer(r);
    else
        net_messages_expect(messages, 30000);
}

static void on_asker_opened(void *user, net_messages *messages) {
    (void)user;
    cal_peer_id asker;
    relay *r = calloc(1, sizeof *r);
    script.streams++;
    cal_buffer_init(&r->request, NET_MESSAGE_MAX);
    cal_buffer_init(&r->answer, NET_MESSAGE_MAX);
    net_messages_peer(messages, &asker);
    net_messages_set_user(messages, r);
    r->asker = messages;
    r->lied_to = cal_peer_id_equal(&asker, &script.victim->id);
    if (net_messages_open(cal_node_p2p(node_at(script.liar)), &script.honest->id,
                          NET_STREAM_PROTOCOL, 600000, &source_events, r, &r->source))
        net_messages_reset(messages);
}

static void on_asker_ended(void *user, net_messages *messages, int reason) {
    relay *r = user;
    (void)messages, (void)reason;
    r->asker = NULL;
    if (r->source) net_messages_reset(r->source);
    free_relay(r);
}

static const net_messages_events asker_events = {.opened = on_asker_opened,
                                                 .message = on_asked,
                                                 .sent = on_answer_sent,
                                                 .ended = on_asker_ended};
static const net_messages_protocol liar_protocol = {.id = NET_STREAM_PROTOCOL,
                                                    .events = &asker_events};

/* It answers no questions of our own kind: the network's have to do. */
static void become_liar(void *arg) {
    cal_p2p *host = cal_node_p2p(node_at(arg));
    cal_p2p_unhandle(host, SYNC_BULK_PROTOCOL);
    cal_p2p_unhandle(host, NET_STREAM_PROTOCOL);
    assert_int_equal(net_messages_serve(host, &liar_protocol), 0);
}

/* --- a victim that has only the liar, and then another one, too --- */

typedef struct story {
    world *w;
    place *liar, *honest, *victim;
    shared s;
    int written;
} story;

/* The liar is where everybody begins. */
static void begin(story *t, uint64_t seed) {
    t->w = &now;
    world_open(t->w, seed, 3, 3);
    t->liar = &t->w->places[0];
    t->honest = &t->w->places[1];
    t->victim = &t->w->places[2];
    script.liar = t->liar;
    script.honest = t->honest;
    script.victim = t->victim;
    script.lie = (lie){0};
    script.roots_lie = false;
    t->s = found(t->honest);
    join(t->honest, t->liar, &t->s);
    join(t->honest, t->victim, &t->s);
    set(t->honest, &t->s.context, "before", "1");
    until_holds(t->victim, &t->s, "before", "1");
    until_holds(t->liar, &t->s, "before", "1");
    cal_node_run(node_at(t->liar), become_liar, t->liar);
}

static void end(story *t) {
    pass(t->w, 60 * SECOND);
    CHECK(t->w, t->victim->sim && cal_list_empty(&node_at(t->victim)->sync->servings),
          "the victim still serves");
    world_close(t->w);
}

static void write_one(story *t, const shared *s) {
    char value[16];
    snprintf(value, sizeof value, "%d", ++t->written);
    set(t->honest, &s->context, "k", value);
}

static bool equal(const story *t, const shared *s) {
    cal_hash roots[2];
    return root_of(t->honest, &s->context, &roots[0]) &&
           root_of(t->victim, &s->context, &roots[1]) &&
           memcmp(&roots[0], &roots[1], sizeof roots[0]) == 0;
}

/* It is lied to, alone with the liar; then the honest one is there, and the liar goes on. */
static void go_through(story *t, uint8_t about, lie l, const char *what) {
    script.about = about;
    script.lie = l;
    script.told = 0;
    pass(t->w, 10 * SECOND); /* until gossip has forgotten */
    place_start(t->victim);
    for (int i = 0; i < 60 && script.told == 0; i++) pass(t->w, SECOND);
    pass(t->w, 5 * SECOND);
    cal_sync_status status = {0};
    cal_context_sync_status(node_at(t->victim), &t->s.context, &status);
    CHECK(t->w, script.told > 0, "nothing is asked that %s answers (%s at %zu): %s, %s", what,
          lie_names[l.kind], l.place, cal_sync_state_text(status.state), status.why);
}

static void until_equal(story *t, const shared *s, const char *what) {
    char value[16];
    snprintf(value, sizeof value, "%d", t->written);
    cut(t->honest, t->victim, false);
    connect_places(t->victim, t->honest);
    for (int i = 0; i < 240 && !equal(t, s); i++) pass(t->w, 500 * MS);
    cal_sync_status status = {0};
    cal_context_sync_status(node_at(t->victim), &s->context, &status);
    CHECK(t->w, equal(t, s), "after %s (%s at %zu) the states differ for good: %s", what,
          lie_names[script.lie.kind], script.lie.place, status.why);
    CHECK(t->w, holds(t->victim, &s->context, "k", value), "the victim does not answer");
    const sync_context *context = context_at(t->victim, s);
    CHECK(t->w, context->by_id.count < 16 && context->used[SYNC_ROOM_STRANGERS].count < 16,
          "%zu deltas stay", context->by_id.count);
}

/* --- answers --- */

static void lie_about_deltas(void **state) {
    (void)state;
    static const uint8_t about[] = {SYNC_ANSWER_HEADS, SYNC_ANSWER_DELTA};
    engine_signals_use();
    story t = {0};
    begin(&t, 90);
    for (size_t k = 0; k < sizeof about; k++)
        for (lie l = {NOTHING, 0}; l.kind < LIE_COUNT; l.kind++)
            for (l.place = 0; l.place < places_of(l.kind); l.place++) {
                cal_hash before, after, true_root;
                assert_true(root_of(t.victim, &t.s.context, &before));
                node_sim_stop(t.victim->sim);
                cut(t.honest, t.victim, true);
                write_one(&t, &t.s);
                write_one(&t, &t.s);
                go_through(&t, about[k], l, sync_answer_name(about[k]));
                assert_true(root_of(t.honest, &t.s.context, &true_root));
                assert_true(root_of(t.victim, &t.s.context, &after));
                bool old = memcmp(&before, &after, sizeof before) == 0,
                     is = memcmp(&true_root, &after, sizeof after) == 0;
                output o;
                OK(t.w, call(t.victim, &t.s.context, "get", "{\"key\":\"k\"}", &o));
                char last[16], one[16];
                snprintf(last, sizeof last, "\"%d\"", t.written);
                snprintf(one, sizeof one, "\"%d\"", t.written - 1);
                CHECK(t.w, old || is || strcmp(o.text, one) == 0, "a lie is believed: %s", o.text);
                until_equal(&t, &t.s, sync_answer_name(about[k]));
            }
    end(&t);
}

/* A state is taken whole: of a context that is new to the victim. */
static void lie_about_one_state(story *t, uint8_t about, lie l) {
    shared s = t->s;
    cal_context_create_options create = {.application = application, .group = s.ns};
    cal_context_created created;
    node_sim_stop(t->victim->sim);
    cut(t->honest, t->victim, true);
    OK(t->w, cal_context_create_wait(node_at(t->honest), &create, &created, &err));
    s.context = created.id;
    write_one(t, &s);
    go_through(t, about, l, sync_answer_name(about));
    until_equal(t, &s, sync_answer_name(about));
    set(t->victim, &s.context, "from the victim", "x");
    CHECK(t->w, holds_within(t->honest, &s, "from the victim", "x", 90 * SECOND),
          "after %s (%s at %zu) nobody takes what the victim writes", sync_answer_name(about),
          lie_names[l.kind], l.place);
}

static void lie_about_states(void **state) {
    (void)state;
    static const uint8_t about[] = {SYNC_ANSWER_BOUNDARY, SYNC_ANSWER_PAGE};
    engine_signals_use();
    for (size_t k = 0; k < sizeof about; k++)
        for (lie l = {NOTHING, 0}; l.kind < LIE_COUNT; l.kind++) {
            story t = {0};
            begin(&t, 200 + 20 * k + l.kind);
            for (l.place = 0; l.place < places_of(l.kind); l.place += 3)
                lie_about_one_state(&t, about[k], l);
            end(&t);
        }
}

/* Trees are compared because the liar names another root for the same heads. What it says then of
 * entities it may say: a member may write. The states are the same in the end. */
static void lie_about_trees(void **state) {
    (void)state;
    static const uint8_t about[] = {SYNC_ANSWER_TREE, SYNC_ANSWER_LEVEL};
    engine_signals_use();
    story t = {0};
    begin(&t, 92);
    script.roots_lie = true;
    for (size_t k = 0; k < sizeof about; k++)
        for (lie l = {NOTHING, 0}; l.kind < LIE_COUNT; l.kind++)
            for (l.place = 0; l.place < places_of(l.kind); l.place += 2) {
                node_sim_stop(t.victim->sim);
                cut(t.honest, t.victim, true);
                write_one(&t, &t.s);
                go_through(&t, about[k], l, sync_answer_name(about[k]));
                until_equal(&t, &t.s, sync_answer_name(about[k]));
            }
    end(&t);
}

/* Operations that are missing: nothing that is not signed comes in, and all that is does. */
static void lie_about_history(void **state) {
    (void)state;
    engine_signals_use();
    story t = {0};
    begin(&t, 93);
    for (lie l = {NOTHING, 0}; l.kind < LIE_COUNT; l.kind++)
        for (l.place = 0; l.place < places_of(l.kind); l.place++) {
            node_sim_stop(t.victim->sim);
            cut(t.honest, t.victim, true);
            for (int i = 0; i < 2; i++) {
                cal_group_options options = {.parent = &t.s.ns, .name = "more"};
                cal_group_id group;
                OK(t.w, cal_group_create_wait(node_at(t.honest), &options, &group, &err));
            }
            go_through(&t, SYNC_ANSWER_BACKFILL, l, "a question for history");
            uint64_t all = gov_op_count(node_at(t.honest)->gov, &t.s.ns);
            CHECK(t.w, gov_op_count(node_at(t.victim)->gov, &t.s.ns) <= all,
                  "an operation is made up");
            cut(t.honest, t.victim, false);
            connect_places(t.victim, t.honest);
            for (int i = 0; i < 120 && gov_op_count(node_at(t.victim)->gov, &t.s.ns) < all; i++)
                pass(t.w, 500 * MS);
            CHECK(t.w, gov_op_count(node_at(t.victim)->gov, &t.s.ns) == all,
                  "after %s at %zu the history never comes", lie_names[l.kind], l.place);
        }
    end(&t);
}

/* Keys: nobody has the one that is asked for; the liar sends things all the same. */
static struct {
    place *victim;
    const shared *s;
    cal_account_id author;
    uint8_t n;
} wish;
static void wish_for_one(void *arg) {
    (void)arg;
    sync_namespace *ns = sync_namespace_get(node_at(wish.victim)->sync, &wish.s->ns, false);
    cal_hash id = {{0xAA, wish.n++}};
    gov_key_wish(node_at(wish.victim)->gov, &wish.s->context, &wish.author, &id);
    sync_keys_soon(ns);
}
static void lie_about_keys(void **state) {
    (void)state;
    engine_signals_use();
    story t = {0};
    begin(&t, 94);
    wish.victim = t.victim;
    wish.s = &t.s;
    wish.author = account_of(t.honest);
    cut(t.honest, t.victim, true);
    pass(t.w, 90 * SECOND);
    script.about = SYNC_ANSWER_KEY;
    for (lie l = {NOTHING, 0}; l.kind < LIE_COUNT; l.kind++)
        for (l.place = 0; l.place < places_of(l.kind); l.place++) {
            script.lie = l;
            script.told = 0;
            cal_node_run(node_at(t.victim), wish_for_one, NULL);
            for (int i = 0; i < 40 && script.told == 0; i++) pass(t.w, SECOND);
            CHECK(t.w, script.told > 0, "no key is asked for");
            assert_int_equal(stats_of(t.victim).keys_taken, 0);
        }
    cut(t.honest, t.victim, false);
    connect_places(t.victim, t.honest);
    set(t.victim, &t.s.context, "k", "after");
    until_holds(t.honest, &t.s, "k", "after");
    end(&t);
}

/* --- joining through it --- */

typedef struct joining {
    bool over;
    int code;
} joining;
static void on_joined(void *user, const cal_error *e, const cal_joined *j) {
    (void)j;
    *(joining *)user = (joining){true, e ? e->code : 0};
}
static bool is_over(void *user) { return ((joining *)user)->over; }

static void lie_about_joining_once(lie l) {
    world *w = &now;
    char json[TEXT_MAX];
    world_open(w, 300 + l.kind * 32 + l.place, 3, 3);
    place *liar = &w->places[0], *honest = &w->places[1], *joiner = &w->places[2];
    shared s = found(honest);
    join(honest, liar, &s);
    set(honest, &s.context, "k", "1");
    until_holds(liar, &s, "k", "1");
    invite(honest, &s.ns, json);
    memset(&script, 0, sizeof script);
    script.liar = liar;
    script.honest = honest;
    script.victim = joiner;
    script.lie = l;
    script.about = SYNC_ANSWER_JOIN;
    cal_node_run(node_at(liar), become_liar, liar);
    cut(honest, joiner, true);
    for (int tries = 0; tries < 2; tries++) {
        joining j = {0};
        cal_namespace_join(node_at(joiner), json, "ours", on_joined, &j);
        wait_for(w, is_over, &j, "the end of a join");
        if (tries == 0) CHECK(w, script.told > 0, "nobody asks to join");
        if (tries == 0) { /* by the liar alone it may fail, and then with the honest one not */
            cut(honest, joiner, false);
            connect_places(joiner, honest);
        } else {
            CHECK(w, j.code == 0 || j.code == CAL_EEXISTS, "after %s at %zu nobody can join: %s",
                  lie_names[l.kind], l.place, cal_error_name(j.code));
        }
    }
    until_holds(joiner, &s, "k", "1");
    set(joiner, &s.context, "k", "2");
    until_holds(honest, &s, "k", "2");
    world_close(w);
}

static void lie_about_joining(void **state) {
    (void)state;
    engine_signals_use();
    for (lie l = {NOTHING, 0}; l.kind < LIE_COUNT; l.kind++)
        for (l.place = 0; l.place < places_of(l.kind); l.place += 3) lie_about_joining_once(l);
}

/* --- requests --- */

static struct {
    place *from, *to;
    cal_slice bytes;
    int times;
    bool raw; /* as they are: without a frame */
    size_t open, answers;
} asking;

static void on_ask_opened(void *user, net_messages *messages) {
    (void)user;
    net_messages_send(messages, asking.bytes);
    net_messages_expect(messages, 5000);
}
static void on_ask_answer(void *user, net_messages *messages, cal_slice bytes) {
    (void)user, (void)bytes;
    asking.answers++;
    net_messages_expect(messages, 5000);
}
static void on_ask_sent(void *user, net_messages *messages) {
    size_t *again = user;
    if (asking.times > 1 && (*again)++ < 20) net_messages_send(messages, asking.bytes);
}
static void on_ask_ended(void *user, net_messages *messages, int reason) {
    (void)messages, (void)reason;
    free(user);
    asking.open--;
}
static const net_messages_events ask_events = {
    .opened = on_ask_opened, .message = on_ask_answer, .sent = on_ask_sent, .ended = on_ask_ended};
static void on_raw_opened(void *user, cal_p2p_stream *stream) {
    (void)user;
    cal_p2p_stream_write(stream, asking.bytes.data, asking.bytes.len);
}
static void on_raw_closed(void *user, cal_p2p_stream *stream, int reason) {
    (void)user, (void)stream, (void)reason;
    asking.open--;
}
static void ask_it(void *arg) {
    (void)arg;
    static const cal_p2p_stream_events raw_events = {.opened = on_raw_opened,
                                                     .closed = on_raw_closed};
    cal_p2p *host = cal_node_p2p(node_at(asking.from));
    net_messages *messages;
    cal_p2p_stream *stream;
    size_t *again = calloc(1, sizeof *again);
    static const char *const protocol = NET_STREAM_PROTOCOL;
    int rc = asking.raw
                 ? cal_p2p_open(host, &asking.to->id, &protocol, 1, &raw_events, NULL, &stream)
                 : net_messages_open(host, &asking.to->id, protocol, 20000, &ask_events, again,
                                     &messages);
    if (rc || asking.raw) free(again);
    asking.open += rc == 0;
}
static void ask_with(place *from, place *to, cal_slice bytes, int times, bool raw) {
    asking.from = from;
    asking.to = to;
    asking.bytes = bytes;
    asking.times = times;
    asking.raw = raw;
    cal_node_run(node_at(from), ask_it, NULL);
    pass(from->world, 300 * MS);
}

static void make_request(place *from, const shared *s, uint8_t kind, cal_buffer *out) {
    static const uint8_t no_ancestors[4];
    static const uint8_t type[] = {0, 6, 0, 0, 0, 'O', 'p', 'a', 'q', 'u', 'e'};
    static sync_leaf leaf;
    static cal_hash ids[2];
    cal_node *node = node_at(from);
    sync_message message = {.kind = SYNC_INIT};
    sync_init *init = &message.init;
    init->party = gov_self(node->gov)->sign_key;
    if (kind != SYNC_BACKFILL && kind != SYNC_JOIN && kind != SYNC_JOIN_OPEN && kind != SYNC_KEY)
        init->context = s->context;
    leaf = (sync_leaf){.id = {{9}},
                       .value = cal_slice_of("pushed", 6),
                       .type = cal_slice_of(type, sizeof type),
                       .updated_at = 1,
                       .ancestors = cal_slice_of(no_ancestors, sizeof no_ancestors)};
    memcpy(ids[0].bytes, s->context.bytes, 32);
    init->request = (sync_request){.kind = kind,
                                   .context = s->context,
                                   .id = ids[0],
                                   .page_limit = 16,
                                   .byte_limit = 65536,
                                   .has_depth = true,
                                   .depth = 1,
                                   .has_ids = true,
                                   .ids = {ids, kind == SYNC_BACKFILL ? 0 : 2},
                                   .namespace_id = s->ns,
                                   .group = s->ns,
                                   .key = init->party,
                                   .has_device = true,
                                   .device = gov_self(node->gov)->device,
                                   .invitation = cal_slice_of("no invitation", 13),
                                   .credential = cal_slice_of("no credential", 13)};
    if (kind == SYNC_PUSH) init->request.leaves = (sync_leaves){&leaf, 1};
    if (sync_request_needs_proof(kind)) {
        init->has_proof = true;
        sync_proof_sign(init, &from->id, sign_as_liar, NULL, init->proof);
    }
    cal_buffer_init(out, NET_MESSAGE_MAX);
    assert_int_equal(sync_message_write(&message, out), 0);
}

static void ask_all(place *from, place *to, const shared *s) {
    static const char too_long[] = "\xff\xff\xff\xff....", half[] = "\0\0\1\0too little",
                      begun[] = "\0\0";
    for (uint8_t kind = 0; kind < SYNC_REQUEST_COUNT; kind++) {
        cal_buffer truth;
        make_request(from, s, kind, &truth);
        for (lie l = {TRUTH, 0}; l.kind <= THRICE; l.kind++)
            for (l.place = 0; l.place < places_of(l.kind); l.place++) {
                cal_buffer bytes;
                cal_buffer_init(&bytes, NET_MESSAGE_MAX);
                lie asked = l;
                if (l.kind == OTHER_KIND) asked.kind = TRUTH;
                tell(&asked, cal_buffer_slice(&truth), &bytes);
                if (l.kind == OTHER_KIND && bytes.len > 65) bytes.data[65] = (uint8_t)l.place;
                ask_with(from, to, cal_buffer_slice(&bytes), l.kind == THRICE ? 20 : 1, false);
                cal_buffer_deinit(&bytes);
            }
        cal_buffer_deinit(&truth);
    }
    ask_with(from, to, cal_slice_of(too_long, sizeof too_long - 1), 1, true);
    ask_with(from, to, cal_slice_of(half, sizeof half - 1), 1, true);
    ask_with(from, to, cal_slice_of(begun, sizeof begun - 1), 1, true);
    ask_with(from, to, cal_slice_of(begun, 0), 1, true);
}

/* As a member, and as a stranger. */
static void lie_in_questions(void **state) {
    (void)state;
    engine_signals_use();
    for (size_t who = 0; who < 2; who++) {
        world *w = &now;
        cal_hash before, after;
        world_open(w, 95 + who, 3, 3);
        place *a = &w->places[0], *b = &w->places[1], *liar = &w->places[2];
        shared s = found(a);
        memset(&asking, 0, sizeof asking);
        script.liar = liar; /* whose key it signs with */
        join(a, b, &s);
        if (who == 0) join(a, liar, &s);
        set(a, &s.context, "k", "1");
        until_holds(b, &s, "k", "1");
        pass(w, 5 * SECOND);
        uint64_t ops = gov_op_count(node_at(a)->gov, &s.ns);
        uint64_t held = node_at(a)->sync->under_way;
        assert_true(root_of(a, &s.context, &before));
        ask_all(liar, a, &s);
        set(b, &s.context, "k", "2"); /* while all that is open */
        until_holds(a, &s, "k", "2");
        CHECK(w, who == 1 || asking.answers > 0, "not even the true ones are answered");
        pass(w, 120 * SECOND);
        assert_true(root_of(b, &s.context, &after));
        assert_true(root_of(a, &s.context, &before));
        assert_memory_equal(&before, &after, sizeof after);
        assert_int_equal(gov_op_count(node_at(a)->gov, &s.ns), ops);
        CHECK(w, node_at(a)->sync->under_way <= held + 4, "%llu things are under way for ever",
              (unsigned long long)node_at(a)->sync->under_way);
        assert_int_equal(node_at(a)->sync->tree_views, 0);
        world_close(w);
    }
}

/* --- gossip --- */

static void say_all(place *to, place *from, const char *topic, cal_slice truth) {
    cal_buffer bytes;
    cal_buffer_init(&bytes, NET_MESSAGE_MAX);
    for (size_t at = 0; at <= truth.len; at++) { /* cut, another byte, four ones, at each place */
        for (int how = 0; how < 3; how++) {
            cal_buffer_reset(&bytes);
            cal_buffer_append(&bytes, truth.data, how == 0 ? at : truth.len);
            if (how == 1 && at < truth.len) bytes.data[at] ^= 0x41;
            for (size_t i = at; how == 2 && i < at + 4 && i < truth.len; i++) bytes.data[i] = 0xff;
            gossip(to, from, topic, cal_buffer_slice(&bytes));
        }
        if (at % 64 == 0) pass(to->world, 100 * MS);
    }
    cal_buffer_append_u8(&bytes, 1);
    for (int i = 0; i < 200; i++) gossip(to, from, topic, i % 2 ? cal_buffer_slice(&bytes) : truth);
    for (uint8_t kind = 0; kind < 16; kind++) {
        cal_buffer_reset(&bytes);
        cal_buffer_append(&bytes, truth.data, truth.len);
        bytes.data[0] = kind;
        gossip(to, from, topic, cal_buffer_slice(&bytes));
    }
    cal_buffer_deinit(&bytes);
    pass(to->world, SECOND);
}

static void say_inner(place *to, place *from, const shared *s, gov_topic_message *message) {
    char topic[GOV_TOPIC_TEXT_MAX];
    cal_buffer payload, bytes;
    cal_buffer_init(&payload, GOV_OP_MAX);
    cal_buffer_init(&bytes, GOV_OP_MAX);
    gov_topic_text(&s->ns, topic);
    assert_int_equal(gov_topic_write(message, &payload), 0);
    gov_broadcast broadcast = {
        .kind = GOV_BROADCAST_DELTA, .namespace_id = s->ns, .payload = cal_buffer_slice(&payload)};
    assert_int_equal(gov_broadcast_write(&broadcast, &bytes), 0);
    say_all(to, from, topic, cal_buffer_slice(&bytes));
    cal_buffer_deinit(&payload);
    cal_buffer_deinit(&bytes);
}

static void say_governance(place *to, place *from, const shared *s) {
    const gov_identity *self = gov_self(node_at(from)->gov);
    char topic[GOV_TOPIC_TEXT_MAX];
    cal_buffer op, bytes;
    cal_hash id, unknown = {{7}};
    cal_buffer_init(&op, GOV_OP_MAX);
    cal_buffer_init(&bytes, GOV_OP_MAX);
    gov_topic_text(&s->ns, topic);
    gov_signed_op policy = {.namespace_id = s->ns, /* no admin's, without parents */
                            .nonce = 9,
                            .op = {.root = {.kind = GOV_POLICY_UPDATED}}};
    assert_int_equal(gov_signed_op_sign(&policy, &self->sign_seed, &op, &id), 0);
    gov_topic_message said = {.kind = GOV_TOPIC_OP, .op_bytes = cal_buffer_slice(&op)};
    say_inner(to, from, s, &said);
    said = (gov_topic_message){.kind = GOV_TOPIC_ACK, .ack = {.op_hash = unknown}};
    assert_int_equal(gov_ack_sign(&said.ack, &self->sign_seed), 0);
    say_inner(to, from, s, &said);
    said = (gov_topic_message){.kind = GOV_TOPIC_BEACON,
                               .beacon = {.namespace_id = s->ns, .head = unknown, .at_ms = 1}};
    said.beacon.at_ms = sync_wall_ms(node_at(to)->sync);
    assert_int_equal(gov_beacon_sign(&said.beacon, &self->sign_seed), 0);
    say_inner(to, from, s, &said);
    said = (gov_topic_message){.kind = GOV_TOPIC_PROBE, .probe = {.namespace_id = s->ns}};
    say_inner(to, from, s, &said);
    said = (gov_topic_message){.kind = GOV_TOPIC_MIGRATION, .migration = {.namespace_id = s->ns}};
    assert_int_equal(gov_migration_report_sign(&said.migration, &self->sign_seed), 0);
    say_inner(to, from, s, &said);
    gov_broadcast heads = {
        .kind = GOV_BROADCAST_HEARTBEAT, .namespace_id = s->ns, .ids = {&unknown, 1}};
    assert_int_equal(gov_broadcast_write(&heads, &bytes), 0);
    say_all(to, from, topic, cal_buffer_slice(&bytes));
    cal_buffer_deinit(&op);
    cal_buffer_deinit(&bytes);
}

static void say_context(place *to, place *from, const shared *s) {
    char topic[CAL_ID_TEXT_MAX];
    cal_buffer bytes;
    cal_hash unknown = {{7}};
    topic_of(s, topic);
    gov_state_delta delta = {.context = s->context,
                             .delta = {{3}},
                             .parents = &unknown,
                             .parent_count = 1,
                             .hlc = {1, {1, 0}},
                             .sealed = cal_slice_of("sealed...............", 20),
                             .has_position = true,
                             .position = position_at(to, s),
                             .key_id = {{4}}};
    write_delta(&delta, &gov_self(node_at(from)->gov)->sign_seed, &bytes);
    say_all(to, from, topic, cal_buffer_slice(&bytes));
    cal_buffer_reset(&bytes);
    sync_heartbeat heartbeat = {.context = s->context, .root = {{5}}, .heads = {&unknown, 1}};
    assert_int_equal(sync_heartbeat_write(&heartbeat, &bytes), 0);
    say_all(to, from, topic, cal_buffer_slice(&bytes));
    cal_buffer_reset(&bytes);
    sync_presence presence = {.context = s->context, .sealed = cal_slice_of("here", 4)};
    assert_int_equal(sync_presence_write(&presence, &bytes), 0);
    say_all(to, from, topic, cal_buffer_slice(&bytes));
    cal_buffer_deinit(&bytes);
}

/* As a member, and as a stranger. */
static void lie_in_gossip(void **state) {
    (void)state;
    engine_signals_use();
    for (size_t who = 0; who < 2; who++) {
        world *w = &now;
        cal_hash roots[2];
        world_open(w, 97 + who, 3, 3);
        place *a = &w->places[0], *b = &w->places[1], *liar = &w->places[2];
        shared s = found(a);
        join(a, b, &s);
        if (who == 0) join(a, liar, &s);
        set(a, &s.context, "k", "1");
        until_holds(b, &s, "k", "1");
        pass(w, 5 * SECOND);
        uint64_t bad = stats_of(a).malformed;
        say_context(a, liar, &s);
        say_governance(a, liar, &s);
        CHECK(w, stats_of(a).malformed > bad + 100, "nothing of it is found malformed");
        set(b, &s.context, "k", "2");
        CHECK(w, holds_within(a, &s, "k", "2", 5 * SECOND), "a member's write is kept away");
        assert_true(root_of(a, &s.context, &roots[0]) && root_of(b, &s.context, &roots[1]));
        assert_memory_equal(&roots[0], &roots[1], sizeof roots[0]);
        const sync_context *context = context_at(a, &s);
        CHECK(w, context->by_id.count < 8, "%zu deltas stay", context->by_id.count);
        cal_account_id account = account_of(b); /* its rows are what they were */
        cal_member_spec still = {.account = account, .role = CAL_ROLE_ADMIN};
        OK(w, cal_members_add_wait(node_at(a), &s.ns, &still, 1, &err));
        world_close(w);
    }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(lie_about_deltas, tell_seed),
        cmocka_unit_test_teardown(lie_about_states, tell_seed),
        cmocka_unit_test_teardown(lie_about_trees, tell_seed),
        cmocka_unit_test_teardown(lie_about_history, tell_seed),
        cmocka_unit_test_teardown(lie_about_keys, tell_seed),
        cmocka_unit_test_teardown(lie_about_joining, tell_seed),
        cmocka_unit_test_teardown(lie_in_questions, tell_seed),
        cmocka_unit_test_teardown(lie_in_gossip, tell_seed),
    };
    if (argc != 2) {
        fprintf(stderr, "usage: %s KV_STORE_WASM\n", argv[0]);
        return 2;
    }
    app_path = argv[1];
    cmocka_set_test_filter(getenv("CAL_TEST"));
    return cmocka_run_group_tests(tests, make_images, free_images);
}
