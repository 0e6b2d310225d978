/* Whose version does not fit is named, with both versions, in the status of the context and in the
 * log: governance operations, application code, streams. */
#include "attack_world.h"
#include "gov/topic.h"

enum { NEWER = GOV_NAMESPACE_OP_VERSION + 2 };

/* --- what is said in the status, and in the log --- */

static const char *looked_for;
static int log_lines;
static void note_line(void *user, cal_log_level level, const char *module, const char *message) {
    (void)user;
    if (level == CAL_LOG_WARN && strcmp(module, "sync") == 0)
        log_lines += looked_for && strstr(message, looked_for);
}

static cal_sync_status status_of(place *p, const shared *s) {
    cal_sync_status status = {0};
    OK(p->world, cal_context_sync_status(node_at(p), &s->context, &status));
    return status;
}

static void says(place *p, const shared *s, const char *what) {
    cal_sync_status status = status_of(p, s);
    CHECK(p->world, strstr(status.why, what), "the status says \"%s\", not \"%s\"", status.why,
          what);
}

static void says_not(place *p, const shared *s, const char *what) {
    cal_sync_status status = status_of(p, s);
    CHECK(p->world, !strstr(status.why, what), "the status says \"%s\"", status.why);
}

/* --- governance --- */

static void make_op(place *by, const shared *s, uint8_t version, cal_buffer *ret_bytes) {
    cal_buffer op, payload;
    cal_hash id;
    const gov_identity *self = gov_self(node_at(by)->gov);
    gov_position position = position_at(by, s);
    gov_signed_op signed_op = {
        .namespace_id = s->ns,
        .parents = {position.heads, position.count},
        .nonce = 1,
        .op = {.group = true,
               .group_id = s->ns,
               .key_id = {{0xEE}},
               .sealed = cal_slice_of("of another time.................", 32)}};
    cal_buffer_init(&op, GOV_OP_MAX);
    cal_buffer_init(&payload, GOV_OP_MAX);
    cal_buffer_init(ret_bytes, GOV_OP_MAX);
    assert_int_equal(gov_signed_op_sign(&signed_op, &self->sign_seed, &op, &id), 0);
    assert_int_equal(op.data[0], GOV_NAMESPACE_OP_VERSION);
    op.data[0] = version;
    gov_topic_message message = {.kind = GOV_TOPIC_OP, .op_bytes = cal_buffer_slice(&op)};
    assert_int_equal(gov_topic_write(&message, &payload), 0);
    gov_broadcast broadcast = {.kind = GOV_BROADCAST_DELTA,
                               .namespace_id = s->ns,
                               .delta = id,
                               .payload = cal_buffer_slice(&payload)};
    assert_int_equal(gov_broadcast_write(&broadcast, ret_bytes), 0);
    cal_buffer_deinit(&op);
    cal_buffer_deinit(&payload);
}

static void send_op(place *to, place *by, const shared *s, uint8_t version) {
    char topic[GOV_TOPIC_TEXT_MAX];
    cal_buffer bytes;
    make_op(by, s, version, &bytes);
    gov_topic_text(&s->ns, topic);
    gossip(to, by, topic, cal_buffer_slice(&bytes));
    cal_buffer_deinit(&bytes);
    pass(to->world, 2 * SECOND);
}

static void operations_of_another_version_are_named(void **state) {
    (void)state;
    engine_signals_use();
    world *w = &now;
    char id[CAL_PEER_ID_TEXT_MAX], newer[200];
    world_open(w, 90, 2, 2);
    place *a = &w->places[0], *b = &w->places[1];
    shared s = found(a);
    join(a, b, &s);
    set(a, &s.context, "before", "1");
    until_holds(b, &s, "before", "1");
    cal_peer_id_text(&b->id, id);
    looked_for = "sends governance operations of version";
    log_lines = 0;
    says_not(a, &s, "version");
    send_op(a, b, &s, GOV_NAMESPACE_OP_VERSION - 1); /* whoever sends it must be updated */
    says_not(a, &s, "version");
    assert_int_equal(log_lines, 1);
    for (int i = 0; i < 3; i++) send_op(a, b, &s, NEWER);
    assert_int_equal(log_lines, 2);
    snprintf(newer, sizeof newer,
             "peer %s sends governance operations of version %d, this node reads version %d", id,
             NEWER, GOV_NAMESPACE_OP_VERSION);
    says(a, &s, newer);
    set(b, &s.context, "after", "2"); /* and stays, whatever else is compared */
    until_holds(a, &s, "after", "2");
    pass(w, 60 * SECOND);
    assert_int_equal(status_of(a, &s).state, CAL_SYNC_EQUAL);
    says(a, &s, newer);
    says_not(b, &s, "version");
    world_close(w);
}

/* --- application code --- */

static void other_code_is_named(void **state) {
    (void)state;
    engine_signals_use();
    world *w = &now;
    world_open(w, 91, 3, 2);
    place *a = &w->places[0], *b = &w->places[1], *relay = &w->places[2];
    char topic[CAL_ID_TEXT_MAX], theirs[CAL_ID_TEXT_MAX], ours[CAL_ID_TEXT_MAX], why[400];
    gov_state_delta delta;
    cal_arena arena;
    cal_buffer bytes;
    shared s = found(a);
    topic_of(&s, topic);
    join(a, b, &s);
    set(a, &s.context, "before", "1");
    until_holds(b, &s, "before", "1");
    cut(a, relay, true);
    cut(a, b, true);
    connect_places(relay, b);
    tap_deltas(relay, topic);
    set(b, &s.context, "from b", "2");
    pass(w, 2 * SECOND);
    assert_int_equal(tap.count, 1);
    cal_arena_init(&arena, 1 << 22);
    cal_buffer_init(&bytes, 1 << 21);
    assert_int_equal(gov_state_delta_decode(cal_buffer_slice(&tap.bytes[0]), &arena, &delta), 0);
    assert_true(delta.has_app_key);
    cal_id_to_base58(delta.app_key.bytes, ours);
    delta.app_key.bytes[3] ^= 1;
    cal_id_to_base58(delta.app_key.bytes, theirs);
    assert_int_equal(gov_state_delta_write(&delta, &bytes), 0);
    looked_for = "runs application code";
    log_lines = 0;
    gossip(a, relay, topic, cal_buffer_slice(&bytes));
    CHECK(w, holds_within(a, &s, "from b", "2", 2 * SECOND), "it is not applied");
    snprintf(why, sizeof why, "runs application code %s, this node %s", theirs, ours);
    says(a, &s, why);
    assert_int_equal(log_lines, 1);
    cut(a, b, false);
    connect_places(a, b);
    pass(w, 60 * SECOND);
    assert_int_equal(status_of(a, &s).state, CAL_SYNC_EQUAL);
    says(a, &s, why); /* until something else is heard of it */
    /* By gossip: what DeltaResponse brings does not say which code it was. */
    for (int i = 0; i < 20 && strstr(status_of(a, &s).why, "runs application code"); i++) {
        char value[16];
        snprintf(value, sizeof value, "again %d", i);
        set(b, &s.context, "from b", value);
        until_holds(a, &s, "from b", value);
        pass(w, 2 * SECOND);
    }
    says_not(a, &s, "runs application code");
    assert_int_equal(log_lines, 1);
    cal_buffer_deinit(&bytes);
    cal_arena_deinit(&arena);
    free_tap();
    world_close(w);
}

/* --- streams --- */

static void no_stream(void *user, cal_p2p_stream *stream) { (void)user, (void)stream; }
static const cal_p2p_stream_events of_another_time = {no_stream, NULL, NULL, NULL};

static void speak_another_version(void *arg) {
    cal_p2p *host = cal_node_p2p(node_at(arg));
    cal_p2p_unhandle(host, NET_STREAM_PROTOCOL);
    const cal_p2p_protocol other = {.id = "/calimero/stream/0.0.9", .events = &of_another_time};
    assert_int_equal(cal_p2p_handle(host, &other), 0);
}

static void a_peer_without_our_streams_is_named(void **state) {
    (void)state;
    engine_signals_use();
    world *w = &now;
    char id[CAL_PEER_ID_TEXT_MAX], why[400];
    world_open(w, 92, 2, 2);
    place *a = &w->places[0], *b = &w->places[1];
    shared s = found(a);
    join(a, b, &s);
    set(a, &s.context, "before", "1");
    until_holds(b, &s, "before", "1");
    pass(w, 30 * SECOND);
    cal_peer_id_text(&b->id, id);
    snprintf(why, sizeof why,
             "peer %s speaks none of our stream versions (ours: " NET_STREAM_PROTOCOL
             "; its: /calimero/stream/0.0.9; agent ",
             id);
    looked_for = why;
    log_lines = 0;
    cal_node_run(node_at(b), speak_another_version, b);
    pass(w, 5 * SECOND); /* it says so */
    assert_int_not_equal(cal_context_sync_wait(node_at(a), &s.context, &err), 0);
    says(a, &s, why);
    says_not(a, &s, "the stream to the peer ended");
    assert_int_equal(status_of(a, &s).state, CAL_SYNC_UNKNOWN);
    pass(w, 60 * SECOND);
    says(a, &s, why);
    assert_int_equal(log_lines, 1); /* once */
    node_sim_stop(b->sim);          /* it is updated */
    place_start(b);
    pass(w, 90 * SECOND);
    assert_int_equal(status_of(a, &s).state, CAL_SYNC_EQUAL);
    says_not(a, &s, "stream versions");
    world_close(w);
}

static int prepare(void **state) {
    int rc = make_images(state);
    cal_log_set_level(CAL_LOG_WARN);
    return rc;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(operations_of_another_version_are_named, tell_seed),
        cmocka_unit_test_teardown(other_code_is_named, tell_seed),
        cmocka_unit_test_teardown(a_peer_without_our_streams_is_named, tell_seed),
    };
    if (argc != 2) {
        fprintf(stderr, "usage: %s KV_STORE_WASM\n", argv[0]);
        return 2;
    }
    app_path = argv[1];
    cal_log_set_sink(note_line, NULL);
    cmocka_set_test_filter(getenv("CAL_TEST"));
    return cmocka_run_group_tests(tests, prepare, free_images);
}
