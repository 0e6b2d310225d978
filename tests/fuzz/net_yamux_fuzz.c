/* A Yamux session as a state machine: the first byte of each step says what happens, frames of the
 * peer's among it. Bounds hold after every step. */
#include <stdlib.h>

#include "net/yamux.h"

enum { UNREAD_MAX = 1 << 20, STREAMS_MAX = 16 };

static void step(yamux *session, uint8_t what, const uint8_t *data, size_t len) {
    yamux_stream *stream = NULL;
    if (!cal_list_empty(&session->streams))
        stream = CAL_CONTAINER_OF(session->streams.next, yamux_stream, link);
    switch (what % 8) {
    case 0:
        yamux_open(session, &stream);
        break;
    case 1:
        if (stream) yamux_write(stream, data, len);
        break;
    case 2:
        if (stream) yamux_consume(stream, net_queue_peek(&stream->received).len);
        break;
    case 3:
        if (stream) yamux_finish(stream);
        break;
    case 4:
        if (stream) yamux_release(stream);
        break;
    case 5:
        if (stream) yamux_reset(stream);
        break;
    default:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    yamux session;
    size_t unread = 0;
    cal_buffer out;
    int result = 0;
    if (size < 1) return 0;
    cal_buffer_init(&out, 1 << 22);
    yamux_init(&session, data[0] & 1, STREAMS_MAX, sizeof(yamux_stream), &unread, UNREAD_MAX);
    for (size_t at = 1; at + 1 < size && !result;) {
        size_t len = data[at + 1];
        if (len > size - at - 2) len = size - at - 2;
        step(&session, data[at], data + at + 2, len);
        result = yamux_feed(&session, data + at + 2, len);
        unsigned events;
        while (yamux_next(&session, &events)) {
        }
        cal_buffer_reset(&out);
        if (data[at] & 0x80) yamux_drain(&session, &out, 4096);
        if (unread > UNREAD_MAX || session.stream_count > STREAMS_MAX) abort();
        at += len + 2;
    }
    yamux_deinit(&session);
    cal_buffer_deinit(&out);
    if (unread) abort();
    return 0;
}
