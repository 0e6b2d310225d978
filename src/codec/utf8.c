/* UTF-8, see utf8.h. The ranges of the second byte are those of Unicode's table 3-7. */
#include "codec/utf8.h"

/* Length of the sequence that starts at p with `left` bytes to come, 0 when there is none. */
static size_t sequence_len(const uint8_t *p, size_t left) {
    uint8_t first = p[0], low = 0x80, high = 0xBF;
    size_t len = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4 || left < len) return 0;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
    if (p[1] < low || p[1] > high) return 0;
    for (size_t i = 2; i < len; i++)
        if ((p[i] & 0xC0) != 0x80) return 0;
    return len;
}

bool cal_utf8_valid(cal_slice text) {
    for (size_t at = 0; at < text.len;) {
        size_t len = text.data[at] < 0x80 ? 1 : sequence_len(text.data + at, text.len - at);
        if (!len) return false;
        at += len;
    }
    return true;
}
