/* See multistream.h. Each message is a varint length and text that ends with a line feed. */
#include "net/multistream.h"

#include "calimero/error.h"
#include "codec/varint.h"

static const char header[] = "/multistream/1.0.0";
static const char not_available[] = "na";

static void say(cal_buffer *out, const char *text) {
    cal_varint_append(out, strlen(text) + 1);
    cal_buffer_append_text(out, text);
    cal_buffer_append_u8(out, '\n');
}

void multistream_dial(multistream *negotiation, const char *const *choices, size_t count,
                      cal_buffer *out) {
    memset(negotiation, 0, sizeof *negotiation);
    negotiation->dialer = true;
    memcpy(negotiation->choices, choices, count * sizeof *choices);
    negotiation->choice_count = count;
    say(out, header);
    say(out, choices[0]);
}

void multistream_listen(multistream *negotiation, multistream_match match, void *user) {
    memset(negotiation, 0, sizeof *negotiation);
    negotiation->match = match;
    negotiation->user = user;
}

static void fail(multistream *negotiation, int failure) {
    negotiation->state = MULTISTREAM_FAILED;
    negotiation->failure = failure;
}

static void agree(multistream *negotiation, const char *name) {
    negotiation->state = MULTISTREAM_AGREED;
    negotiation->agreed = name;
}

static void on_answer(multistream *negotiation, cal_slice text, cal_buffer *out) {
    const char *proposed = negotiation->choices[negotiation->tries];
    if (cal_slice_equal(text, cal_slice_text(proposed))) {
        agree(negotiation, proposed);
    } else if (!cal_slice_equal(text, cal_slice_text(not_available))) {
        fail(negotiation, CAL_EDECODE);
    } else if (++negotiation->tries == negotiation->choice_count) {
        fail(negotiation, CAL_EUNSUPPORTED);
    } else {
        say(out, negotiation->choices[negotiation->tries]);
    }
}

static void on_proposal(multistream *negotiation, cal_slice text, cal_buffer *out) {
    const char *name = negotiation->match(negotiation->user, text);
    if (name) {
        say(out, name);
        agree(negotiation, name);
    } else if (++negotiation->tries == MULTISTREAM_TRIES_MAX) {
        fail(negotiation, CAL_EUNSUPPORTED);
    } else {
        say(out, not_available);
    }
}

static void on_message(multistream *negotiation, cal_slice text, cal_buffer *out) {
    if (!negotiation->greeted) {
        if (!cal_slice_equal(text, cal_slice_text(header))) {
            fail(negotiation, CAL_EDECODE);
            return;
        }
        negotiation->greeted = true;
        if (!negotiation->dialer) say(out, header);
    } else if (negotiation->dialer) {
        on_answer(negotiation, text, out);
    } else {
        on_proposal(negotiation, text, out);
    }
}

/* One byte more of the length before a message. */
static void on_length(multistream *negotiation, uint8_t byte) {
    negotiation->message[negotiation->have++] = byte;
    uint64_t len;
    size_t used;
    int result =
        cal_varint_decode(cal_slice_of(negotiation->message, negotiation->have), &len, &used);
    if (result == CAL_ESTATE && negotiation->have < 2) return; /* 256 takes two bytes */
    negotiation->have = 0;
    if (result || len == 0 || len > MULTISTREAM_MESSAGE_MAX)
        fail(negotiation, CAL_EDECODE);
    else
        negotiation->want = (size_t)len;
}

size_t multistream_feed(multistream *negotiation, const uint8_t *bytes, size_t len,
                        cal_buffer *out) {
    size_t at = 0;
    while (at < len && negotiation->state == MULTISTREAM_GOING) {
        if (negotiation->want == 0) {
            on_length(negotiation, bytes[at++]);
            continue;
        }
        size_t part = negotiation->want - negotiation->have;
        if (part > len - at) part = len - at;
        memcpy(negotiation->message + negotiation->have, bytes + at, part);
        negotiation->have += part;
        at += part;
        if (negotiation->have < negotiation->want) break;
        size_t text_len = negotiation->want - 1;
        negotiation->want = negotiation->have = 0;
        if (negotiation->message[text_len] != '\n')
            fail(negotiation, CAL_EDECODE);
        else
            on_message(negotiation, cal_slice_of(negotiation->message, text_len), out);
    }
    return at;
}
