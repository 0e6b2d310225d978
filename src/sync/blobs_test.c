/* Blobs between peers on the simulated network: who may have what, liars of every kind, ends in the
 * middle. */
#include "sync/blobs.h"

#include "sync/testing.h"

enum { CHUNK = CAL_BLOB_CHUNK_SIZE, CONTENT_MAX = 3 * CHUNK + 1 };

static testing_world w;
static uint8_t content[CONTENT_MAX];

/* --- the node's answers --- */

typedef struct rights {
    bool code, member;
    cal_context_id context;
    cal_public_key key;
    int asked_code, asked_member;
} rights;

static bool is_code(void *user, const cal_context_id *context, const cal_blob_id *blob) {
    rights *r = user;
    (void)blob;
    r->asked_code++;
    return r->code && memcmp(context, &r->context, 32) == 0;
}
static bool is_member(void *user, const cal_context_id *context, const cal_public_key *key) {
    rights *r = user;
    r->asked_member++;
    return r->member && memcmp(context, &r->context, 32) == 0 && memcmp(key, &r->key, 32) == 0;
}

static const cal_secret member_seed = {{5}};
static rights may[TESTING_NODES_MAX];
static sync_blob_server *servers[TESTING_NODES_MAX];

static void serve(int i) {
    sync_blob_questions questions = {&may[i], is_code, is_member};
    may[i] = (rights){.code = true, .member = true, .context = {{6}}};
    cal_sign_public_key(&member_seed, may[i].key.bytes);
    assert_int_equal(sync_blobs_serve(w.nodes[i].host, w.nodes[i].blobs, &w.nodes[i].runner,
                                      &questions, &servers[i]),
                     0);
}

static void note_done(void *user) { ++*(int *)user; }

static void unserve_all(void) {
    int done = 0, count = 0;
    for (int i = 0; i < TESTING_NODES_MAX; i++) {
        if (!servers[i]) continue;
        sync_blobs_unserve(servers[i], note_done, &done);
        servers[i] = NULL;
        count++;
    }
    assert_int_equal(done, 0); /* not inside the call */
    testing_pass(&w, TESTING_SECOND);
    assert_int_equal(done, count);
}

static cal_blob_id put(int i, size_t size, uint8_t salt) {
    cal_blobs_writer *writer;
    cal_blobs_info info;
    for (size_t at = 0; at < size; at++) content[at] = (uint8_t)(at % 251 + at / 65536 + salt);
    assert_int_equal(cal_blobs_create(w.nodes[i].blobs, UINT64_MAX, &writer, NULL), 0);
    for (size_t at = 0; at < size; at += CHUNK)
        assert_int_equal(
            cal_blobs_write(
                writer, cal_slice_of(content + at, size - at < CHUNK ? size - at : CHUNK), NULL),
            0);
    assert_int_equal(cal_blobs_finish(writer, NULL, &info, NULL), 0);
    return info.id;
}

static void expect_content(int i, const cal_blob_id *id, size_t size) {
    cal_blobs_reader *reader;
    cal_slice chunk;
    size_t at = 0;
    assert_int_equal(cal_blobs_read_open(w.nodes[i].blobs, id, &reader, NULL, NULL), 0);
    while (cal_blobs_read_chunk(reader, &chunk) == 0 && chunk.len) {
        assert_memory_equal(content + at, chunk.data, chunk.len);
        at += chunk.len;
    }
    assert_int_equal(at, size);
    cal_blobs_read_close(reader);
}

/* --- the asker --- */

typedef struct asker {
    sync_blob_fetch *fetch;
    bool cancel_at_progress;
    int done, result, turns, results[TESTING_NODES_MAX];
    cal_blobs_info info;
    uint64_t received, size;
    char why[TESTING_NODES_MAX][128], text[512];
} asker;

static void on_progress(void *user, uint64_t received, uint64_t size) {
    asker *a = user;
    a->received = received;
    a->size = size;
    if (a->cancel_at_progress) sync_blobs_cancel(a->fetch);
}
static void on_turned(void *user, const cal_peer_id *peer, int result, const char *why) {
    asker *a = user;
    (void)peer;
    snprintf(a->why[a->turns], sizeof a->why[0], "%s", why);
    a->results[a->turns++] = result;
}
static void on_done(void *user, int result, const cal_blobs_info *info, const cal_error *err) {
    asker *a = user;
    a->done++;
    a->result = result;
    if (info) a->info = *info;
    if (err) snprintf(a->text, sizeof a->text, "%s", err->message);
    assert_int_equal(info != NULL, result == 0);
    assert_int_equal(err != NULL, result != 0);
    a->fetch = NULL;
}
static void sign_as_member(void *user, cal_slice message, uint8_t ret_signature[64]) {
    (void)user;
    cal_sign(&member_seed, message, ret_signature);
}

static bool is_over(void *user) { return ((asker *)user)->done > 0; }

static sync_blob_wanted wanted_from(const cal_blob_id *blob, asker *a, const cal_peer_id *peers,
                                    size_t count) {
    memset(a, 0, sizeof *a);
    return (sync_blob_wanted){.blob = *blob,
                              .context = {{6}},
                              .peers = peers,
                              .peer_count = count,
                              .progress = on_progress,
                              .turned = on_turned,
                              .done = on_done,
                              .user = a};
}

static void start(asker *a, const sync_blob_wanted *wanted) {
    assert_int_equal(
        sync_blobs_fetch(w.nodes[0].host, w.nodes[0].blobs, &w.nodes[0].runner, wanted, &a->fetch),
        0);
    assert_int_equal(a->done, 0);
}

static void fetch(asker *a, const sync_blob_wanted *wanted) {
    start(a, wanted);
    assert_true(testing_until(&w, 1000, is_over, a));
}

/* --- who may have it --- */

static void test_code(void **state) {
    static const size_t sizes[] = {0, 1, CHUNK, CONTENT_MAX};
    asker a;
    (void)state;
    testing_world_begin(&w, 2);
    serve(1);
    may[1].member = false;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        cal_blob_id blob = put(1, sizes[i], (uint8_t)i);
        sync_blob_wanted wanted = wanted_from(&blob, &a, &w.nodes[1].id, 1);
        fetch(&a, &wanted);
        assert_int_equal(a.result, 0);
        assert_int_equal(a.done, 1);
        assert_int_equal(a.info.size, sizes[i]);
        assert_int_equal(a.received, sizes[i]);
        assert_int_equal(a.size, sizes[i]);
        assert_memory_equal(&a.info.id, &blob, 32);
        expect_content(0, &blob, sizes[i]);
        assert_int_equal(a.turns, 0);
    }
    sync_blob_served served;
    testing_pass(&w, TESTING_SECOND);
    sync_blob_served_get(servers[1], &served);
    assert_int_equal(served.requests, 4);
    assert_int_equal(served.served, 4);
    assert_true(served.bytes > CONTENT_MAX);
    /* a context that is not known there, and a blob that is not here */
    cal_blob_id blob = put(1, 5, 77);
    sync_blob_wanted wanted = wanted_from(&blob, &a, &w.nodes[1].id, 1);
    wanted.context.bytes[0]++;
    fetch(&a, &wanted);
    assert_int_equal(a.result, CAL_ENOTFOUND);
    assert_non_null(strstr(a.text, "none of the 1 peers"));
    blob.bytes[0]++;
    wanted = wanted_from(&blob, &a, &w.nodes[1].id, 1);
    fetch(&a, &wanted);
    assert_int_equal(a.result, CAL_ENOTFOUND);
    assert_int_equal(a.results[0], CAL_ENOTFOUND);
    sync_blob_served_get(servers[1], &served);
    assert_int_equal(served.refused, 1);
    assert_int_equal(served.not_found, 1);
    unserve_all();
    testing_world_end(&w);
}

static void test_members(void **state) {
    asker a;
    (void)state;
    testing_world_begin(&w, 2);
    serve(1);
    may[1].code = false;
    cal_blob_id blob = put(1, CHUNK + 7, 0);
    sync_blob_wanted wanted = wanted_from(&blob, &a, &w.nodes[1].id, 1);
    fetch(&a, &wanted); /* unsigned */
    assert_int_equal(a.result, CAL_ENOTFOUND);
    assert_int_equal(may[1].asked_member, 0);
    wanted = wanted_from(&blob, &a, &w.nodes[1].id, 1);
    wanted.sign = sign_as_member;
    wanted.key = may[1].key;
    wanted.key.bytes[0]++; /* another one's key */
    fetch(&a, &wanted);
    assert_int_equal(a.result, CAL_ENOTFOUND);
    may[1].key = wanted.key; /* a member's key, which did not sign */
    a.done = a.turns = 0;
    fetch(&a, &wanted);
    assert_int_equal(a.result, CAL_ENOTFOUND);
    cal_sign_public_key(&member_seed, may[1].key.bytes);
    wanted.key = may[1].key;
    a.done = a.turns = 0;
    fetch(&a, &wanted);
    assert_int_equal(a.result, 0);
    expect_content(0, &blob, CHUNK + 7);
    unserve_all();
    testing_world_end(&w);
}

/* What was said too long ago, or comes from the future, is nothing. */
static void test_times(void **state) {
    static const struct {
        int64_t ahead_s;
        int result;
    } cases[] = {{0, 0},
                 {-29, 0},
                 {-32, CAL_ENOTFOUND},
                 {9, 0},
                 {12, CAL_ENOTFOUND},
                 {-100000, CAL_ENOTFOUND}};
    asker a;
    (void)state;
    testing_world_begin(&w, 2);
    serve(1);
    may[1].code = false;
    cal_blob_id blob = put(1, 100, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const cal_os *os = cal_sim_os(w.nodes[1].world);
        int64_t wall = (int64_t)os->wall_ns(os->user) + cases[i].ahead_s * 1000000000;
        cal_sim_set_wall(w.nodes[0].world, (uint64_t)wall);
        sync_blob_wanted wanted = wanted_from(&blob, &a, &w.nodes[1].id, 1);
        wanted.sign = sign_as_member;
        wanted.key = may[1].key;
        fetch(&a, &wanted);
        if (a.result != cases[i].result) fail_msg("case %zu: %d", i, a.result);
    }
    unserve_all();
    testing_world_end(&w);
}

/* --- a stream that ends early --- */

static void hang_up_at_progress(void *user, uint64_t received, uint64_t size) {
    on_progress(user, received, size);
    if (received == CHUNK) cal_p2p_disconnect(w.nodes[0].host, &w.nodes[1].id);
}

/* The next one who has it sends what is left. */
static void test_goes_on_with_another(void **state) {
    sync_blob_served served;
    asker a;
    (void)state;
    testing_world_begin(&w, 3);
    serve(1);
    serve(2);
    cal_blob_id blob = put(1, CONTENT_MAX, 3);
    put(2, CONTENT_MAX, 3);
    cal_peer_id peers[] = {w.nodes[1].id, w.nodes[2].id};
    sync_blob_wanted wanted = wanted_from(&blob, &a, peers, 2);
    wanted.progress = hang_up_at_progress;
    fetch(&a, &wanted);
    assert_int_equal(a.result, 0);
    assert_int_equal(a.turns, 1);
    assert_int_equal(a.results[0], CAL_EUNREACHABLE);
    assert_int_equal(a.received, CONTENT_MAX);
    expect_content(0, &blob, CONTENT_MAX);
    testing_pass(&w, TESTING_SECOND);
    sync_blob_served_get(servers[2], &served);
    assert_int_equal(served.served, 1);
    assert_true(served.bytes > 2 * CHUNK && served.bytes < 2 * CHUNK + CHUNK / 2);
    unserve_all();
    testing_world_end(&w);
}

/* Who knows nothing of rests sends all of it. */
static void test_goes_on_with_a_plain_one(void **state) {
    sync_blob_served served;
    asker a;
    (void)state;
    testing_world_begin(&w, 3);
    serve(1);
    serve(2);
    cal_p2p_unhandle(w.nodes[2].host, NET_BLOB_REST_PROTOCOL);
    cal_blob_id blob = put(1, CONTENT_MAX, 3);
    put(2, CONTENT_MAX, 3);
    cal_peer_id peers[] = {w.nodes[1].id, w.nodes[2].id};
    sync_blob_wanted wanted = wanted_from(&blob, &a, peers, 2);
    wanted.progress = hang_up_at_progress;
    fetch(&a, &wanted);
    assert_int_equal(a.result, 0);
    assert_int_equal(a.turns, 1);
    expect_content(0, &blob, CONTENT_MAX);
    testing_pass(&w, TESTING_SECOND);
    sync_blob_served_get(servers[2], &served);
    assert_true(served.served == 1 && served.bytes > CONTENT_MAX);
    unserve_all();
    testing_world_end(&w);
}

/* --- liars --- */

typedef enum lie_kind {
    LIE_WRONG,        /* other bytes */
    LIE_LONG,         /* more than announced */
    LIE_LONG_QUIETLY, /* without announcing anything */
    LIE_SHORT,
    LIE_HUGE, /* announced */
    LIE_SILENT,
    LIE_STALL, /* after a chunk */
    LIE_STALL_END,
    LIE_RESPONSE, /* malformed */
    LIE_CHUNK,
    LIE_RESET,
    LIE_FINISH,       /* after a chunk */
    LIE_WRONG_FINISH, /* after one of other bytes, with which others would go on */
    LIE_DRIP,         /* a byte every 20 seconds */
    LIES,
} lie_kind;

typedef struct liar {
    lie_kind lie;
    uint64_t size;
    int frame;
    net_messages *messages;
} liar;

static liar liars[TESTING_NODES_MAX];

static void say(net_messages *messages, const void *bytes, size_t len) {
    net_messages_send(messages, cal_slice_of(bytes, len));
}
static void say_response(liar *l, net_messages *messages, bool has_size, uint64_t size) {
    cal_buffer out;
    (void)l;
    cal_buffer_init(&out, 1024);
    sync_blob_response_write(
        &(sync_blob_response){.found = true, .has_size = has_size, .size = size}, &out);
    say(messages, out.data, out.len);
    cal_buffer_deinit(&out);
}
static void say_chunk(net_messages *messages, const uint8_t *bytes, size_t len) {
    cal_buffer out;
    cal_buffer_init(&out, CHUNK + 4);
    sync_blob_chunk_write(cal_slice_of(bytes, len), &out);
    say(messages, out.data, out.len);
    cal_buffer_deinit(&out);
}

static void drip(void *user) {
    liar *l = user;
    if (l->messages) say_chunk(l->messages, content, 1);
}

static void liar_message(void *user, net_messages *messages, cal_slice bytes) {
    liar *l = user;
    (void)bytes;
    l->frame = 0;
    l->messages = messages;
    switch (l->lie) {
    case LIE_SILENT:
        break;
    case LIE_RESPONSE:
        say(messages, "{\"found\":yes}", 13);
        break;
    case LIE_RESET:
        net_messages_reset(messages);
        break;
    case LIE_HUGE:
        say_response(l, messages, true, (uint64_t)CAL_BLOB_UPLOAD_MAX + 1);
        break;
    case LIE_LONG_QUIETLY:
    case LIE_DRIP:
        say_response(l, messages, false, 0);
        break;
    default:
        say_response(l, messages, true, l->size);
    }
}

/* The response, or a chunk, is out. */
static void liar_sent(void *user, net_messages *messages) {
    static const uint8_t zeros[CHUNK];
    liar *l = user;
    int frame = l->frame++;
    size_t at = (size_t)frame * CHUNK;
    size_t len = at >= l->size ? 0 : l->size - at < CHUNK ? l->size - at : CHUNK;
    switch (l->lie) {
    case LIE_WRONG:
        say_chunk(messages, zeros, len);
        break;
    case LIE_LONG:
    case LIE_LONG_QUIETLY:
        say_chunk(messages, content, CHUNK);
        break;
    case LIE_SHORT:
        say_chunk(messages, content + at, frame == 0 ? len : 0);
        break;
    case LIE_STALL:
        if (frame == 0) say_chunk(messages, content, len);
        break;
    case LIE_STALL_END: /* all but the empty chunk */
        if (len) say_chunk(messages, content + at, len);
        break;
    case LIE_CHUNK:
        say(messages, "\x05\0\0\0abc", 7);
        break;
    case LIE_FINISH:
        if (frame == 0)
            say_chunk(messages, content, len);
        else
            net_messages_finish(messages);
        break;
    case LIE_WRONG_FINISH:
        if (frame == 0)
            say_chunk(messages, zeros, len);
        else
            net_messages_finish(messages);
        break;
    case LIE_DRIP:
        net_sim_at(w.net, net_sim_now(w.net) + 20 * TESTING_SECOND, drip, l);
        break;
    default:
        break;
    }
}

static void liar_ended(void *user, net_messages *messages, int reason) {
    (void)messages, (void)reason;
    ((liar *)user)->messages = NULL;
}

static const net_messages_events liar_events = {NULL, liar_message, liar_sent, liar_ended};
static net_messages_protocol liar_protocols[TESTING_NODES_MAX];

static void serve_lies(int i, lie_kind lie, uint64_t size) {
    liars[i] = (liar){.lie = lie, .size = size};
    liar_protocols[i] =
        (net_messages_protocol){.id = NET_BLOB_PROTOCOL, .events = &liar_events, .user = &liars[i]};
    assert_int_equal(net_messages_serve(w.nodes[i].host, &liar_protocols[i]), 0);
}

static void test_liars(void **state) {
    static const struct {
        int result;
        const char *why;
        uint64_t seconds; /* at most, for this turn */
    } expected[LIES] = {
        [LIE_WRONG] = {CAL_EVERIFY, "another content", 2},
        [LIE_LONG] = {CAL_ELIMIT, "more than it announced", 2},
        [LIE_LONG_QUIETLY] = {CAL_ELIMIT, "more than it announced", 2},
        [LIE_SHORT] = {CAL_EVERIFY, "less than it announced", 2},
        [LIE_HUGE] = {CAL_ELIMIT, "more bytes than are allowed", 2},
        [LIE_SILENT] = {CAL_ETIMEOUT, "nothing for too long", 32},
        [LIE_STALL] = {CAL_ETIMEOUT, "nothing for too long", 32},
        [LIE_STALL_END] = {CAL_ETIMEOUT, "nothing for too long", 32},
        [LIE_RESPONSE] = {CAL_EDECODE, "response is malformed", 2},
        [LIE_CHUNK] = {CAL_EDECODE, "chunk is malformed", 2},
        [LIE_RESET] = {CAL_EUNREACHABLE, "ended early", 2},
        [LIE_FINISH] = {CAL_EUNREACHABLE, "ended early", 2},
        [LIE_WRONG_FINISH] = {CAL_EUNREACHABLE, "ended early", 2},
        [LIE_DRIP] = {CAL_ETIMEOUT, "nothing for too long", 302},
    };
    (void)state;
    for (lie_kind lie = 0; lie < LIES; lie++) {
        asker a;
        testing_world_begin(&w, 3);
        serve(2);
        cal_blob_id blob = put(2, 2 * CHUNK + 9, 3);
        serve_lies(1, lie, 2 * CHUNK + 9);
        cal_peer_id peers[] = {w.nodes[1].id, w.nodes[2].id};
        sync_blob_wanted wanted = wanted_from(&blob, &a, peers, 2);
        if (lie == LIE_LONG_QUIETLY) wanted.size_max = 3 * CHUNK;
        uint64_t before = net_sim_now(w.net);
        fetch(&a, &wanted);
        if (a.result) fail_msg("lie %d: %d, %s", lie, a.result, a.text);
        assert_int_equal(a.turns, 1);
        if (a.results[0] != expected[lie].result || !strstr(a.why[0], expected[lie].why))
            fail_msg("lie %d: %d, %s", lie, a.results[0], a.why[0]);
        assert_true(net_sim_now(w.net) - before < (expected[lie].seconds + 2) * TESTING_SECOND);
        expect_content(0, &blob, 2 * CHUNK + 9);
        /* and alone: nothing is there, and it is said why */
        assert_int_equal(cal_blobs_delete(w.nodes[0].blobs, &blob, NULL), 0);
        wanted = wanted_from(&blob, &a, peers, 1);
        if (lie == LIE_LONG_QUIETLY) wanted.size_max = 3 * CHUNK;
        fetch(&a, &wanted);
        assert_int_equal(a.result, expected[lie].result);
        assert_non_null(strstr(a.text, expected[lie].why));
        assert_int_equal(cal_blobs_stat(w.nodes[0].blobs, &blob, NULL), CAL_ENOTFOUND);
        net_messages_unserve(w.nodes[1].host, &liar_protocols[1]);
        unserve_all();
        testing_world_end(&w);
    }
}

/* Nobody there, nobody who serves, nobody who has it, then somebody who does. */
static void test_turns(void **state) {
    asker a;
    (void)state;
    testing_world_begin(&w, 4);
    serve(2);
    serve(3);
    cal_blob_id blob = put(3, 10, 3);
    cal_peer_id nobody = w.nodes[3].id;
    nobody.bytes[20] ^= 1;
    cal_peer_id peers[] = {nobody, w.nodes[1].id, w.nodes[2].id, w.nodes[3].id};
    sync_blob_wanted wanted = wanted_from(&blob, &a, peers, 4);
    fetch(&a, &wanted);
    assert_int_equal(a.result, 0);
    assert_int_equal(a.turns, 3);
    assert_int_equal(a.results[0], CAL_EUNREACHABLE);
    assert_int_equal(a.results[1], CAL_EUNSUPPORTED);
    assert_int_equal(a.results[2], CAL_ENOTFOUND);
    /* what one did says more than that another has nothing */
    blob.bytes[0]++;
    wanted = wanted_from(&blob, &a, peers, 3);
    fetch(&a, &wanted);
    assert_int_equal(a.result, CAL_EUNSUPPORTED);
    assert_non_null(strstr(a.text, "does not serve blobs"));
    wanted.peer_count = 0;
    assert_int_equal(
        sync_blobs_fetch(w.nodes[0].host, w.nodes[0].blobs, &w.nodes[0].runner, &wanted, &a.fetch),
        CAL_EINVAL);
    wanted.peer_count = SYNC_BLOB_PEERS_MAX + 1;
    assert_int_equal(
        sync_blobs_fetch(w.nodes[0].host, w.nodes[0].blobs, &w.nodes[0].runner, &wanted, &a.fetch),
        CAL_ELIMIT);
    unserve_all();
    testing_world_end(&w);
}

/* A store that takes nothing is nobody's fault: nobody else is asked. */
static void test_full_disk(void **state) {
    asker a;
    (void)state;
    testing_world_begin(&w, 3);
    serve(1);
    serve(2);
    put(1, CONTENT_MAX, 3);
    cal_blob_id blob = put(2, CONTENT_MAX, 3);
    cal_sim_quota(w.nodes[0].world, cal_sim_used(w.nodes[0].world) + CHUNK);
    cal_peer_id peers[] = {w.nodes[1].id, w.nodes[2].id};
    sync_blob_wanted wanted = wanted_from(&blob, &a, peers, 2);
    fetch(&a, &wanted);
    assert_int_equal(a.result, CAL_EFULL);
    assert_int_equal(a.turns, 1);
    assert_non_null(strstr(a.text, "the store does not take it"));
    cal_sim_quota(w.nodes[0].world, UINT64_MAX);
    wanted = wanted_from(&blob, &a, peers, 2);
    fetch(&a, &wanted);
    assert_int_equal(a.result, 0);
    unserve_all();
    testing_world_end(&w);
}

/* --- ends in the middle --- */

/* A fetch that is cancelled after any time is done once, and there is all or nothing. */
static void test_cancel(void **state) {
    int canceled = 0;
    (void)state;
    for (uint64_t ms = 0; ms < 200; ms += 7) {
        asker a;
        testing_world_begin(&w, 2);
        serve(1);
        cal_blob_id blob = put(1, CONTENT_MAX, 3);
        sync_blob_wanted wanted = wanted_from(&blob, &a, &w.nodes[1].id, 1);
        start(&a, &wanted);
        testing_pass(&w, ms * TESTING_MS);
        if (!a.done) {
            sync_blobs_cancel(a.fetch);
            assert_int_equal(a.done, 0);
            assert_true(testing_until(&w, 2, is_over, &a));
        }
        assert_int_equal(a.done, 1);
        assert_int_equal(cal_blobs_stat(w.nodes[0].blobs, &blob, NULL),
                         a.result ? CAL_ENOTFOUND : 0);
        if (a.result) {
            assert_int_equal(a.result, CAL_ECANCELED);
            assert_non_null(strstr(a.text, "was cancelled"));
            assert_int_equal(a.turns, 0);
            canceled++;
        }
        unserve_all();
        testing_world_end(&w);
    }
    assert_true(canceled > 3 && canceled < 29);
}

/* From inside a callback, and with the host going away. */
static void test_cancel_inside(void **state) {
    asker a;
    (void)state;
    testing_world_begin(&w, 2);
    serve(1);
    cal_blob_id blob = put(1, CONTENT_MAX, 3);
    sync_blob_wanted wanted = wanted_from(&blob, &a, &w.nodes[1].id, 1);
    a.cancel_at_progress = true;
    fetch(&a, &wanted);
    assert_int_equal(a.result, CAL_ECANCELED);
    assert_int_equal(a.received, CHUNK);
    wanted = wanted_from(&blob, &a, &w.nodes[1].id, 1);
    start(&a, &wanted);
    testing_pass(&w, 30 * TESTING_MS);
    assert_int_equal(a.done, 0);
    sync_blobs_cancel(a.fetch);
    testing_host_end(&w.nodes[0]);
    assert_true(testing_until(&w, 1, is_over, &a));
    assert_int_equal(a.result, CAL_ECANCELED);
    unserve_all();
    testing_world_end(&w);
}

/* A server that stops, or whose machine goes, in the middle of any transfer. */
static void test_server_ends(void **state) {
    (void)state;
    for (uint64_t ms = 1; ms < 100; ms += 9) {
        asker a;
        int done = 0;
        testing_world_begin(&w, 3);
        serve(1);
        serve(2);
        put(1, CONTENT_MAX, 3);
        cal_blob_id blob = put(2, CONTENT_MAX, 3);
        cal_peer_id peers[] = {w.nodes[1].id, w.nodes[2].id};
        sync_blob_wanted wanted = wanted_from(&blob, &a, peers, 2);
        start(&a, &wanted);
        testing_pass(&w, ms * TESTING_MS);
        sync_blobs_unserve(servers[1], note_done, &done);
        servers[1] = NULL;
        if (ms % 2) testing_host_end(&w.nodes[1]);
        assert_true(testing_until(&w, 100, is_over, &a));
        testing_pass(&w, TESTING_SECOND);
        assert_int_equal(done, 1);
        assert_int_equal(a.result, 0);
        expect_content(0, &blob, CONTENT_MAX);
        unserve_all();
        testing_world_end(&w);
    }
}

/* One peer gets so many transfers at once, and no more; whoever keeps a stream loses it. */
typedef struct keeper {
    int opened, ended, heard, reason;
} keeper;
static void keeper_opened(void *user, net_messages *messages) {
    cal_buffer out;
    ((keeper *)user)->opened++;
    cal_buffer_init(&out, 4096);
    sync_blob_request_write(&(sync_blob_request){.blob = {{1}}, .context = {{6}}}, &out);
    net_messages_send(messages, cal_buffer_slice(&out));
    cal_buffer_deinit(&out);
    net_messages_expect(messages, NET_BLOB_SERVE_TIMEOUT_MS);
}
/* Who listens no more does not hear that the server has finished. */
static void keeper_message(void *user, net_messages *messages, cal_slice bytes) {
    sync_blob_response response;
    (void)messages;
    ((keeper *)user)->heard++;
    assert_int_equal(sync_blob_response_decode(bytes, &response), 0);
    assert_false(response.found);
}
static void keeper_ended(void *user, net_messages *messages, int reason) {
    (void)messages;
    ((keeper *)user)->ended++;
    ((keeper *)user)->reason = reason;
}

static void test_bounds(void **state) {
    static const net_messages_events keeper_events = {keeper_opened, keeper_message, NULL,
                                                      keeper_ended};
    net_messages *messages[SYNC_BLOB_SERVED_PEER_MAX];
    keeper k = {0};
    asker a;
    (void)state;
    testing_world_begin(&w, 3);
    serve(1);
    serve(2);
    put(1, 10, 3);
    cal_blob_id blob = put(2, 10, 3);
    for (int i = 0; i < SYNC_BLOB_SERVED_PEER_MAX; i++)
        assert_int_equal(net_messages_open(w.nodes[0].host, &w.nodes[1].id, NET_BLOB_PROTOCOL,
                                           10 * NET_BLOB_SERVE_TIMEOUT_MS, &keeper_events, &k,
                                           &messages[i]),
                         0);
    testing_pass(&w, TESTING_SECOND);
    assert_int_equal(k.heard, SYNC_BLOB_SERVED_PEER_MAX);
    /* they have their answers and keep their streams: one more is not served */
    cal_peer_id peers[] = {w.nodes[1].id, w.nodes[2].id};
    sync_blob_wanted wanted = wanted_from(&blob, &a, peers, 2);
    fetch(&a, &wanted);
    assert_int_equal(a.result, 0);
    assert_int_equal(a.turns, 1);
    testing_pass(&w, 32 * TESTING_SECOND); /* then they lose them */
    assert_int_equal(k.ended, SYNC_BLOB_SERVED_PEER_MAX);
    put(1, 11, 4);
    blob = put(1, 11, 4);
    wanted = wanted_from(&blob, &a, peers, 1);
    fetch(&a, &wanted);
    assert_int_equal(a.result, 0);
    unserve_all();
    testing_world_end(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_code),
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_goes_on_with_another),
        cmocka_unit_test(test_goes_on_with_a_plain_one),
        cmocka_unit_test(test_liars),
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_cancel_inside),
        cmocka_unit_test(test_server_ends),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
