/* Peer ids: multihashes of serialised public keys, and their text forms. Pure; any thread.
 * libp2p peer-ids specification. */
#include <string.h>

#include "calimero/error.h"
#include "codec/text.h"
#include "codec/varint.h"
#include "net/identity.h"
#include "net/net.h"

enum {
    IDENTITY = 0x00, /* multihash codes */
    SHA2_256 = 0x12,
    CID_V1 = 1,
    LIBP2P_KEY = 0x72, /* multicodec of a peer id in a CID */
    CID_MAX = CAL_PEER_ID_MAX + 4,
};

/* Serialised PublicKey { type Ed25519, 32 bytes of data }, deterministic by the specification. */
static const uint8_t key_prefix[] = {0x08, 0x01, 0x12, 0x20};

void net_key_serialise(const uint8_t ed25519[32], uint8_t ret_key[NET_KEY_SIZE]) {
    memcpy(ret_key, key_prefix, sizeof key_prefix);
    memcpy(ret_key + sizeof key_prefix, ed25519, 32);
}

void cal_peer_id_of_key(const uint8_t ed25519[32], cal_peer_id *ret_id) {
    memset(ret_id, 0, sizeof *ret_id);
    ret_id->bytes[0] = IDENTITY;
    ret_id->bytes[1] = NET_KEY_SIZE;
    net_key_serialise(ed25519, ret_id->bytes + 2);
    ret_id->len = 2 + NET_KEY_SIZE;
}

int cal_peer_id_key(const cal_peer_id *id, uint8_t ret_ed25519[32]) {
    if (id->len != 2 + NET_KEY_SIZE || id->bytes[0] != IDENTITY || id->bytes[1] != NET_KEY_SIZE ||
        memcmp(id->bytes + 2, key_prefix, sizeof key_prefix) != 0)
        return CAL_ENOTFOUND;
    memcpy(ret_ed25519, id->bytes + 2 + sizeof key_prefix, 32);
    return 0;
}

int cal_peer_id_from_bytes(const void *bytes, size_t len, cal_peer_id *ret_id) {
    const uint8_t *p = bytes;
    if (len < 3 || len > CAL_PEER_ID_MAX || p[1] != len - 2) return CAL_EDECODE;
    if (p[0] != IDENTITY && (p[0] != SHA2_256 || p[1] != CAL_HASH_SIZE)) return CAL_EDECODE;
    memset(ret_id, 0, sizeof *ret_id);
    memcpy(ret_id->bytes, p, len);
    ret_id->len = (uint8_t)len;
    return 0;
}

/* RFC 4648 base32 in lower case, without padding. Returns the length, 0 when it is none. */
static size_t base32_decode(const char *text, uint8_t *ret_bytes, size_t capacity) {
    uint32_t bits = 0;
    unsigned have = 0;
    size_t len = 0;
    for (; *text; text++) {
        unsigned value;
        if (*text >= 'a' && *text <= 'z')
            value = (unsigned)(*text - 'a');
        else if (*text >= '2' && *text <= '7')
            value = (unsigned)(*text - '2') + 26;
        else
            return 0;
        bits = (bits << 5 | value) & 0xfff;
        have += 5;
        if (have < 8) continue;
        have -= 8;
        if (len == capacity) return 0;
        ret_bytes[len++] = (uint8_t)(bits >> have);
    }
    if (have >= 5 || (bits & ((1u << have) - 1))) return 0;
    return len;
}

int cal_peer_id_parse(const char *text, cal_peer_id *ret_id) {
    uint8_t bytes[CID_MAX];
    size_t len = 0;
    if (text[0] == '1' || (text[0] == 'Q' && text[1] == 'm')) {
        if (cal_base58_decode(cal_slice_text(text), bytes, CAL_PEER_ID_MAX, &len))
            return CAL_EDECODE;
        return cal_peer_id_from_bytes(bytes, len, ret_id);
    }
    if (text[0] != 'b') return CAL_EDECODE;
    len = base32_decode(text + 1, bytes, sizeof bytes);
    if (len < 3 || bytes[0] != CID_V1 || bytes[1] != LIBP2P_KEY) return CAL_EDECODE;
    return cal_peer_id_from_bytes(bytes + 2, len - 2, ret_id);
}

void cal_peer_id_text(const cal_peer_id *id, char ret_text[CAL_PEER_ID_TEXT_MAX]) {
    if (cal_base58_encode(cal_slice_of(id->bytes, id->len), ret_text, CAL_PEER_ID_TEXT_MAX))
        ret_text[0] = '\0'; /* not reached: 44 bytes are at most 61 characters */
}

bool cal_peer_id_equal(const cal_peer_id *a, const cal_peer_id *b) {
    return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}
