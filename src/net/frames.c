/* Messages on a stream: a length, then as many bytes. A message that lies whole in one piece of the
 * stream is given out where it lies; others are gathered in memory that grows with what came, never
 * with what a length claims, and that all streams of a host share a bound on. One peer cannot take
 * all of it, and none is left without any. */
#include <stdlib.h>

#include "codec/varint.h"
#include "net/internal.h"

enum {
    HEADER_MAX = 5,
    FIRST_CAPACITY = 4096,
    SCARCE_PART = 3, /* of a peer's most, once half of all is taken: by default it still holds one
                        message of the greatest length */
};

void cal_p2p_frames_init(cal_p2p_frames *frames, cal_p2p_framing framing, uint32_t max) {
    *frames = (cal_p2p_frames){.framing = framing, .max = max};
}

void account_unref(net_account *account) {
    if (account && --account->refs == 0) free(account);
}

/* A peer has one account, however many connections. */
void account_join(net_connection *connection) {
    const cal_list *all = &connection->peer->connections;
    for (cal_list *at = all->next; at != all; at = at->next) {
        net_connection *other = CAL_CONTAINER_OF(at, net_connection, of_peer);
        if (other == connection) continue;
        account_unref(connection->account);
        connection->account = other->account;
        connection->account->refs++;
        return;
    }
}

/* Room for `more` bytes of a peer's messages: CAL_ELIMIT when there is none. */
static int account_take(net_account *account, size_t more) {
    cal_p2p *host = account->host;
    const cal_p2p_limits *limits = &host->limits;
    bool scarce = host->frame_bytes > limits->frame_bytes_max / 2;
    size_t share = limits->frame_bytes_each_max / (scarce ? SCARCE_PART : 1);
    bool sure = account->frame_bytes + more <= NET_FRAMES_SURE;
    if (account->frame_bytes + more > limits->frame_bytes_each_max ||
        (!sure && (account->frame_bytes + more > share ||
                   host->frame_bytes + more > limits->frame_bytes_max)))
        return CAL_ELIMIT;
    account->frame_bytes += more;
    host->frame_bytes += more;
    return 0;
}

static void drop_partial(cal_p2p_frames *frames) {
    net_account *account = frames->account;
    if (account) {
        account->frame_bytes -= frames->capacity;
        account->host->frame_bytes -= frames->capacity;
        account_unref(account);
    }
    free(frames->partial);
    frames->partial = NULL;
    frames->account = NULL;
    frames->have = frames->capacity = 0;
}

void cal_p2p_frames_deinit(cal_p2p_frames *frames) { drop_partial(frames); }

size_t cal_p2p_frames_header(cal_p2p_framing framing, uint32_t len, uint8_t ret_bytes[5]) {
    size_t at = 0;
    if (framing == CAL_P2P_FRAME_U32BE) {
        cal_write_u32be(ret_bytes, len);
        return 4;
    }
    for (; len >= 0x80; len >>= 7) ret_bytes[at++] = (uint8_t)(len | 0x80);
    ret_bytes[at++] = (uint8_t)len;
    return at;
}

int cal_p2p_frames_write(cal_p2p_stream *stream, cal_p2p_framing framing, const void *bytes,
                         size_t len) {
    uint8_t header[HEADER_MAX];
    if (stream->closed || stream->held_finish) return CAL_ESTATE;
    if (len > CAL_P2P_WRITE_MAX - HEADER_MAX) return CAL_ELIMIT;
    size_t size = cal_p2p_frames_header(framing, (uint32_t)len, header);
    if (cal_p2p_stream_room(stream) < size + len) {
        stream_want_room(stream);
        return CAL_EBUSY;
    }
    /* One write takes all or nothing, two could leave a header without its message. */
    uint8_t *whole = malloc(size + len);
    if (!whole) return CAL_ENOMEM;
    memcpy(whole, header, size);
    if (len) memcpy(whole + size, bytes, len);
    size_t written = cal_p2p_stream_write(stream, whole, size + len);
    free(whole);
    return written < size + len ? CAL_ENOMEM : 0;
}

/* The length at the start of `bytes`. CAL_ESTATE: not all of it is there. */
static int header_of(const cal_p2p_frames *frames, cal_slice bytes, uint32_t *ret_len,
                     size_t *ret_size) {
    uint64_t len;
    if (frames->framing == CAL_P2P_FRAME_U32BE) {
        if (bytes.len < 4) return CAL_ESTATE;
        len = cal_read_u32be(bytes.data);
        *ret_size = 4;
    } else {
        if (bytes.len > HEADER_MAX) bytes.len = HEADER_MAX;
        int result = cal_varint_decode(bytes, &len, ret_size);
        if (result == CAL_ESTATE && bytes.len == HEADER_MAX) return CAL_EDECODE;
        if (result) return result;
    }
    if (len > frames->max) return CAL_ELIMIT;
    *ret_len = (uint32_t)len;
    return 0;
}

/* Appends `len` bytes of the stream to the partial message. */
static int gather(cal_p2p_frames *frames, cal_p2p_stream *stream, const uint8_t *bytes,
                  size_t len) {
    if (!frames->account) {
        frames->account = stream->connection->account;
        frames->account->refs++;
    }
    if (frames->capacity - frames->have < len) {
        size_t capacity = frames->capacity ? frames->capacity : FIRST_CAPACITY;
        while (capacity < frames->have + len) capacity *= 2;
        size_t most = (size_t)frames->max + HEADER_MAX;
        if (capacity > most) capacity = most;
        size_t more = capacity - frames->capacity;
        int result = account_take(frames->account, more);
        if (result) return result;
        uint8_t *grown = realloc(frames->partial, capacity);
        if (!grown) {
            frames->account->frame_bytes -= more;
            frames->account->host->frame_bytes -= more;
            return CAL_ENOMEM;
        }
        frames->partial = grown;
        frames->capacity = (uint32_t)capacity;
    }
    memcpy(frames->partial + frames->have, bytes, len);
    frames->have += (uint32_t)len;
    cal_p2p_stream_consume(stream, len);
    return 0;
}

void frames_drop_given(cal_p2p_frames *frames, cal_p2p_stream *stream) {
    if (!frames->given) return;
    if (frames->partial)
        drop_partial(frames);
    else
        cal_p2p_stream_consume(stream, frames->given);
    frames->given = 0;
}

/* A whole message at the start of the first piece: 0. */
static int in_place(cal_p2p_frames *frames, cal_slice piece, const uint8_t **ret_bytes,
                    size_t *ret_len) {
    uint32_t len;
    size_t size;
    int result = header_of(frames, piece, &len, &size);
    if (result) return result;
    if (piece.len - size < len) return CAL_ESTATE;
    frames->given = size + len;
    *ret_bytes = piece.data + size;
    *ret_len = len;
    return 0;
}

/* How many bytes the partial message still lacks, as far as is known: its header first. */
static int lacks(const cal_p2p_frames *frames, size_t *ret_more, size_t *ret_header) {
    uint32_t len;
    *ret_header = 0;
    int result = header_of(frames, cal_slice_of(frames->partial, frames->have), &len, ret_header);
    if (result == CAL_ESTATE) {
        *ret_header = 0;
        *ret_more = frames->framing == CAL_P2P_FRAME_U32BE ? 4 - frames->have : 1;
        return 0;
    }
    if (result) return result;
    *ret_more = *ret_header + len - frames->have;
    return 0;
}

int cal_p2p_frames_next(cal_p2p_frames *frames, cal_p2p_stream *stream, const uint8_t **ret_bytes,
                        size_t *ret_len) {
    frames_drop_given(frames, stream);
    for (;;) {
        const uint8_t *bytes;
        size_t len = cal_p2p_stream_peek(stream, &bytes), more, header;
        if (frames->have == 0 && len > 0) {
            int result = in_place(frames, cal_slice_of(bytes, len), ret_bytes, ret_len);
            if (result != CAL_ESTATE) {
                if (result) cal_p2p_stream_host(stream)->stats.messages_refused++;
                return result;
            }
        }
        int result = lacks(frames, &more, &header);
        if (!result && header && more == 0) {
            frames->given = frames->have;
            *ret_bytes = frames->partial + header;
            *ret_len = frames->have - header;
            return 0;
        }
        if (!result && len == 0)
            return !cal_p2p_stream_ended(stream) ? CAL_ESTATE
                   : frames->have                ? CAL_EDECODE
                                                 : CAL_ENOTFOUND;
        if (!result) result = gather(frames, stream, bytes, more < len ? more : len);
        if (result) {
            cal_p2p_stream_host(stream)->stats.messages_refused++;
            return result;
        }
    }
}
