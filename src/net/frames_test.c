/* Messages on streams: both framings, large ones, limits, ends inside a message. */
#include "net/testing.h"

enum { FRAME_MAX = 8 * 1024 * 1024 };

typedef struct reader {
    cal_p2p_frames frames;
    int messages, result;
    size_t last_len, total;
    uint8_t last_first;
    bool closed;
    int reason;
} reader;

static void on_readable(void *user, cal_p2p_stream *stream) {
    reader *r = user;
    const uint8_t *bytes;
    size_t len;
    int result;
    while (!(result = cal_p2p_frames_next(&r->frames, stream, &bytes, &len))) {
        r->messages++;
        r->last_len = len;
        r->total += len;
        r->last_first = len ? bytes[0] : 0;
    }
    if (result == CAL_ESTATE || r->result) return;
    r->result = result;
    if (result == CAL_ENOTFOUND)
        cal_p2p_stream_finish(stream);
    else
        cal_p2p_stream_reset(stream);
}
static void on_closed(void *user, cal_p2p_stream *stream, int reason) {
    reader *r = user;
    (void)stream;
    r->closed = true;
    r->reason = reason;
    cal_p2p_frames_deinit(&r->frames);
}
static const cal_p2p_stream_events reading = {.readable = on_readable, .closed = on_closed};
static bool is_closed(void *user) { return ((reader *)user)->closed; }

/* Writes raw bytes, as many as there are, then ends. */
typedef struct writer {
    cal_buffer bytes;
    bool keep_open, closed;
} writer;
static void on_room(void *user, cal_p2p_stream *stream) {
    writer *w = user;
    cal_buffer_consume(&w->bytes, cal_p2p_stream_write(stream, w->bytes.data, w->bytes.len));
    if (w->bytes.len == 0 && !w->keep_open) cal_p2p_stream_finish(stream);
}
static void on_writer_closed(void *user, cal_p2p_stream *stream, int reason) {
    (void)stream, (void)reason;
    ((writer *)user)->closed = true;
}
static const cal_p2p_stream_events writing = {
    .opened = on_room, .writable = on_room, .closed = on_writer_closed};

static void put_message(writer *w, cal_p2p_framing framing, size_t len, uint8_t first) {
    uint8_t header[5];
    size_t size = cal_p2p_frames_header(framing, (uint32_t)len, header);
    cal_buffer_append(&w->bytes, header, size);
    uint8_t *to = cal_buffer_reserve(&w->bytes, len + 1);
    assert_non_null(to);
    memset(to, 'x', len + 1);
    to[0] = first;
    w->bytes.len += len;
}

static void send_all(cal_p2p_framing framing, const cal_p2p_limits *limits, writer *w, reader *r) {
    testing_net net;
    testing_net_init(&net);
    cal_p2p_options options = {0};
    if (limits) options.limits = *limits;
    cal_p2p *a = testing_host(&net, NULL), *b = testing_host(&net, &options);
    const char *const id[] = {"/frames/1"};
    memset(r, 0, sizeof *r);
    cal_p2p_frames_init(&r->frames, framing, FRAME_MAX);
    cal_p2p_handle(b, &(cal_p2p_protocol){.id = id[0], .events = &reading, .user = r});
    testing_connect(&net, a, b);
    cal_peer_id b_id;
    cal_p2p_stream *stream;
    cal_p2p_id(b, &b_id);
    assert_int_equal(cal_p2p_open(a, &b_id, id, 1, &writing, w, &stream), 0);
    testing_until(&net, is_closed, r);
    cal_p2p_stats stats;
    cal_p2p_stats_get(b, &stats);
    assert_int_equal(stats.frame_bytes, 0);
    testing_net_deinit(&net);
    cal_buffer_deinit(&w->bytes);
}

static writer writer_new(void) {
    writer w = {0};
    cal_buffer_init(&w.bytes, 32 << 20);
    return w;
}

static void test_messages(void **state) {
    (void)state;
    static const size_t lengths[] = {0, 1, 127, 128, 65535, 300000, FRAME_MAX, 3, 0};
    static const cal_p2p_framing framings[] = {CAL_P2P_FRAME_U32BE, CAL_P2P_FRAME_VARINT};
    for (int i = 0; i < 2; i++) {
        writer w = writer_new();
        reader r;
        size_t total = 0, count = sizeof lengths / sizeof *lengths;
        for (size_t k = 0; k < count; k++) {
            put_message(&w, framings[i], lengths[k], (uint8_t)k);
            total += lengths[k];
        }
        send_all(framings[i], NULL, &w, &r);
        assert_int_equal(r.messages, count);
        assert_int_equal(r.total, total);
        assert_int_equal(r.result, CAL_ENOTFOUND);
        assert_int_equal(r.reason, 0);
    }
}

static void test_refused(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
        cal_p2p_framing framing;
        int result;
    } rows[] = {
        {"\x00\x80\x00\x01", 4, CAL_P2P_FRAME_U32BE, CAL_ELIMIT}, /* one over the limit */
        {"\xff\xff\xff\xff", 4, CAL_P2P_FRAME_U32BE, CAL_ELIMIT},
        {"\x81\x80\x80\x04", 4, CAL_P2P_FRAME_VARINT, CAL_ELIMIT},
        {"\xff\xff\xff\xff\xff\xff", 6, CAL_P2P_FRAME_VARINT, CAL_EDECODE},
        {"\x80\x00", 2, CAL_P2P_FRAME_VARINT, CAL_EDECODE},
        {"\x00\x00\x00\x05"
         "abc",
         7, CAL_P2P_FRAME_U32BE, CAL_EDECODE}, /* ends inside */
        {"\x00\x00", 2, CAL_P2P_FRAME_U32BE, CAL_EDECODE},
        {"", 0, CAL_P2P_FRAME_U32BE, CAL_ENOTFOUND},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        writer w = writer_new();
        reader r;
        cal_buffer_append(&w.bytes, rows[i].bytes, rows[i].len);
        send_all(rows[i].framing, NULL, &w, &r);
        assert_int_equal(r.result, rows[i].result);
        assert_int_equal(r.messages, 0);
    }
}

/* Half-received messages of all streams share one bound. */
static void test_shared_bound(void **state) {
    (void)state;
    writer w = writer_new();
    reader r;
    put_message(&w, CAL_P2P_FRAME_U32BE, 2 * 1024 * 1024, 1);
    send_all(CAL_P2P_FRAME_U32BE, &(cal_p2p_limits){.frame_bytes_max = 1024 * 1024}, &w, &r);
    assert_int_equal(r.result, CAL_ELIMIT);
    w = writer_new(); /* and one peer has no more than its share, however little is taken */
    put_message(&w, CAL_P2P_FRAME_U32BE, 512 * 1024, 1);
    send_all(CAL_P2P_FRAME_U32BE, &(cal_p2p_limits){.frame_bytes_each_max = 256 * 1024}, &w, &r);
    assert_int_equal(r.result, CAL_ELIMIT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_shared_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
