/* Messages of sync: whatever decodes encodes to bytes that decode to the same again. The first byte
 * picks the type. */
#include <stdlib.h>
#include <string.h>

#include "sync/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ARENA_MAX = 64 << 20, PAGE_MAX = 64 * 1024 };

typedef int (*recoder)(cal_slice bytes, cal_arena *arena, cal_buffer *out);

static int message(cal_slice bytes, cal_arena *arena, cal_buffer *out) {
    sync_message decoded;
    cal_peer_id dialer = {.len = 38};
    int result = sync_message_decode(bytes, arena, &decoded);
    if (result) return result;
    if (decoded.kind == SYNC_INIT) sync_proof_verify(&decoded.init, &dialer);
    /* what decodes is what was written, nothing is read leniently */
    result = sync_message_write(&decoded, out);
    if (result || !cal_slice_equal(cal_buffer_slice(out), bytes)) abort();
    return 0;
}

static int delta(cal_slice bytes, cal_arena *arena, cal_buffer *out) {
    sync_causal_delta decoded;
    int result = sync_causal_delta_decode(bytes, arena, &decoded);
    return result ? result : sync_causal_delta_write(&decoded, out);
}

static int heartbeat(cal_slice bytes, cal_arena *arena, cal_buffer *out) {
    sync_heartbeat decoded;
    int result = sync_heartbeat_decode(bytes, arena, &decoded);
    return result ? result : sync_heartbeat_write(&decoded, out);
}

static int presence(cal_slice bytes, cal_arena *arena, cal_buffer *out) {
    sync_presence decoded;
    (void)arena;
    int result = sync_presence_decode(bytes, &decoded);
    return result ? result : sync_presence_write(&decoded, out);
}

static int blob_request(cal_slice bytes, cal_arena *arena, cal_buffer *out) {
    sync_blob_request decoded;
    (void)arena;
    int result = sync_blob_request_decode(bytes, &decoded);
    return result ? result : sync_blob_request_write(&decoded, out);
}

static int blob_response(cal_slice bytes, cal_arena *arena, cal_buffer *out) {
    sync_blob_response decoded;
    (void)arena;
    int result = sync_blob_response_decode(bytes, &decoded);
    return result ? result : sync_blob_response_write(&decoded, out);
}

static int blob_chunk(cal_slice bytes, cal_arena *arena, cal_buffer *out) {
    cal_slice chunk;
    (void)arena;
    int result = sync_blob_chunk_decode(bytes, &chunk);
    return result ? result : sync_blob_chunk_write(chunk, out);
}

/* Records come out framed, whatever form they had. */
static int records(cal_slice bytes, cal_arena *arena, cal_buffer *out) {
    sync_record record;
    size_t offset = 0, last = 0;
    int result;
    (void)arena;
    cal_buffer_append_u8(out, SYNC_PAGE_MARKER);
    while ((result = sync_record_next(bytes, &offset, &record)) == 0) {
        if (offset <= last || offset > bytes.len) abort();
        last = offset;
        sync_record_write(&record, out);
    }
    return result == CAL_ENOTFOUND ? out->error : result;
}

/* The first four bytes are what the message says, and what the payload says. */
static int page(cal_slice bytes, cal_arena *arena, cal_buffer *out) {
    cal_buffer expanded;
    if (bytes.len < 4 || cal_read_u32le(bytes.data) > PAGE_MAX) return CAL_ELIMIT;
    cal_buffer_init(&expanded, PAGE_MAX + 1);
    int result = sync_page_expand(bytes, cal_read_u32le(bytes.data), &expanded);
    if (!result && expanded.len != cal_read_u32le(bytes.data)) abort();
    if (!result) result = records(cal_buffer_slice(&expanded), arena, out);
    cal_buffer_deinit(&expanded);
    if (result) return result;
    cal_buffer_reset(out);
    return CAL_ENOTFOUND; /* what it holds was looked at */
}

static const recoder recoders[] = {message,       delta,      heartbeat, presence, blob_request,
                                   blob_response, blob_chunk, records,   page};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 || size > 256 * 1024) return 0;
    recoder recode = recoders[data[0] % (sizeof recoders / sizeof *recoders)];
    cal_arena arena;
    cal_buffer once, twice;
    cal_arena_init(&arena, ARENA_MAX);
    cal_buffer_init(&once, 4 << 20);
    cal_buffer_init(&twice, 4 << 20);
    if (recode(cal_slice_of(data + 1, size - 1), &arena, &once) == 0) {
        if (recode(cal_buffer_slice(&once), &arena, &twice) != 0) abort();
        if (!cal_slice_equal(cal_buffer_slice(&once), cal_buffer_slice(&twice))) abort();
    }
    cal_buffer_deinit(&once);
    cal_buffer_deinit(&twice);
    cal_arena_deinit(&arena);
    return 0;
}
