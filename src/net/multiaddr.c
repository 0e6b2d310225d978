/* Multiaddrs: self-describing addresses, binary and text. Pure; any thread. libp2p addressing
 * specification, the multiaddr table of protocols.
 *
 * A part is a varint code, then its value: of fixed size, or a varint length and as many bytes. A
 * part whose code is not in the table has an unknown size, so an address that holds one is not
 * taken (CAL_EUNSUPPORTED); peers announce several and the host keeps those it can read. */
#include "net/multiaddr.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "codec/varint.h"

enum { VARIABLE = -1 };

static const struct part_kind {
    uint32_t code;
    const char *name;
    int size; /* bytes of the value, or VARIABLE */
} kinds[] = {
    {MULTIADDR_IP4, "ip4", 4},
    {MULTIADDR_TCP, "tcp", 2},
    {MULTIADDR_IP6, "ip6", 16},
    {MULTIADDR_IP6ZONE, "ip6zone", VARIABLE},
    {MULTIADDR_DNS, "dns", VARIABLE},
    {MULTIADDR_DNS4, "dns4", VARIABLE},
    {MULTIADDR_DNS6, "dns6", VARIABLE},
    {MULTIADDR_DNSADDR, "dnsaddr", VARIABLE},
    {MULTIADDR_UDP, "udp", 2},
    {MULTIADDR_P2P_CIRCUIT, "p2p-circuit", 0},
    {MULTIADDR_P2P, "p2p", VARIABLE},
    {MULTIADDR_P2P, "ipfs", VARIABLE}, /* the old name, read only: the first of a code is written */
    {MULTIADDR_TLS, "tls", 0},
    {MULTIADDR_SNI, "sni", VARIABLE},
    {MULTIADDR_QUIC, "quic", 0},
    {MULTIADDR_QUIC_V1, "quic-v1", 0},
    {MULTIADDR_WS, "ws", 0},
    {MULTIADDR_WSS, "wss", 0},
};

static const struct part_kind *kind_of_code(uint64_t code) {
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i].code == code) return &kinds[i];
    return NULL;
}

static const struct part_kind *kind_of_name(cal_slice name) {
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (cal_slice_equal(cal_slice_text(kinds[i].name), name)) return &kinds[i];
    return NULL;
}

/* Names of hosts and zones: visible characters other than the separator. */
static bool name_good(cal_slice name) {
    if (name.len == 0 || name.len > MULTIADDR_NAME_MAX) return false;
    for (size_t i = 0; i < name.len; i++)
        if (name.data[i] <= ' ' || name.data[i] >= 0x7f || name.data[i] == '/') return false;
    return true;
}

static bool value_good(const struct part_kind *kind, cal_slice value) {
    cal_peer_id id;
    if (kind->size >= 0) return true;
    if (kind->code == MULTIADDR_P2P) return cal_peer_id_from_bytes(value.data, value.len, &id) == 0;
    return name_good(value);
}

int multiaddr_next(cal_slice *rest, uint32_t *ret_code, cal_slice *ret_value) {
    if (rest->len == 0) return CAL_ENOTFOUND;
    uint64_t code, size;
    size_t used, more = 0;
    if (cal_varint_decode(*rest, &code, &used)) return CAL_EDECODE;
    const struct part_kind *kind = kind_of_code(code);
    if (!kind) return CAL_EUNSUPPORTED;
    cal_slice value = {rest->data + used, rest->len - used};
    size = (uint64_t)(kind->size < 0 ? 0 : kind->size);
    if (kind->size == VARIABLE && cal_varint_decode(value, &size, &more)) return CAL_EDECODE;
    if (size > value.len - more) return CAL_EDECODE;
    value = (cal_slice){value.data + more, (size_t)size};
    if (!value_good(kind, value)) return CAL_EDECODE;
    *rest = (cal_slice){value.data + value.len,
                        (size_t)(rest->data + rest->len - value.data) - value.len};
    *ret_code = kind->code;
    *ret_value = value;
    return 0;
}

int cal_multiaddr_from_bytes(const void *bytes, size_t len, cal_multiaddr *ret_address) {
    if (len == 0) return CAL_EDECODE;
    if (len > CAL_MULTIADDR_MAX) return CAL_ELIMIT;
    cal_slice rest = {bytes, len}, value;
    uint32_t code;
    int result;
    do result = multiaddr_next(&rest, &code, &value);
    while (!result);
    if (result != CAL_ENOTFOUND) return result;
    memset(ret_address, 0, sizeof *ret_address);
    memcpy(ret_address->bytes, bytes, len);
    ret_address->len = (uint16_t)len;
    return 0;
}

/* --- text --- */

/* The value that a text stands for; at most `capacity` bytes. */
static int value_parse(const struct part_kind *kind, cal_slice text, uint8_t *ret_value,
                       size_t capacity, size_t *ret_len) {
    char copy[MULTIADDR_NAME_MAX + 1];
    if (text.len == 0 || text.len > MULTIADDR_NAME_MAX || capacity < text.len) return CAL_EDECODE;
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    if (strlen(copy) != text.len) return CAL_EDECODE;
    cal_peer_id id;
    unsigned long port;
    char *end;
    switch (kind->code) {
    case MULTIADDR_IP4:
        *ret_len = 4;
        return inet_pton(AF_INET, copy, ret_value) == 1 ? 0 : CAL_EDECODE;
    case MULTIADDR_IP6:
        *ret_len = 16;
        return inet_pton(AF_INET6, copy, ret_value) == 1 ? 0 : CAL_EDECODE;
    case MULTIADDR_TCP:
    case MULTIADDR_UDP:
        if (copy[0] < '0' || copy[0] > '9' || text.len > 5) return CAL_EDECODE;
        port = strtoul(copy, &end, 10);
        if (*end || port > UINT16_MAX) return CAL_EDECODE;
        cal_write_u16be(ret_value, (uint16_t)port);
        *ret_len = 2;
        return 0;
    case MULTIADDR_P2P:
        if (cal_peer_id_parse(copy, &id)) return CAL_EDECODE;
        memcpy(ret_value, id.bytes, id.len);
        *ret_len = id.len;
        return 0;
    default:
        if (!name_good(text)) return CAL_EDECODE;
        memcpy(ret_value, text.data, text.len);
        *ret_len = text.len;
        return 0;
    }
}

static cal_slice next_word(const char **at) {
    const char *start = *at, *end = strchr(start, '/');
    size_t len = end ? (size_t)(end - start) : strlen(start);
    *at = start + len + (end ? 1 : 0);
    return cal_slice_of(start, len);
}

int cal_multiaddr_parse(const char *text, cal_multiaddr *ret_address) {
    cal_buffer out;
    int result = 0;
    if (text[0] != '/' || text[1] == '\0') return CAL_EDECODE;
    if (strlen(text) >= CAL_MULTIADDR_TEXT_MAX) return CAL_ELIMIT;
    cal_buffer_init(&out, CAL_MULTIADDR_MAX);
    for (const char *at = text + 1; *at && !result;) {
        uint8_t value[MULTIADDR_NAME_MAX + 1];
        size_t len = 0;
        const struct part_kind *kind = kind_of_name(next_word(&at));
        if (!kind) {
            result = CAL_EUNSUPPORTED;
            break;
        }
        if (kind->size != 0) result = value_parse(kind, next_word(&at), value, sizeof value, &len);
        if (result) break;
        cal_varint_append(&out, kind->code);
        if (kind->size == VARIABLE) cal_varint_append(&out, len);
        cal_buffer_append(&out, value, len);
        result = out.error;
    }
    if (!result) result = cal_multiaddr_from_bytes(out.data, out.len, ret_address);
    cal_buffer_deinit(&out);
    return result;
}

void cal_multiaddr_text(const cal_multiaddr *address, char ret_text[CAL_MULTIADDR_TEXT_MAX]) {
    cal_slice rest = {address->bytes, address->len}, value;
    uint32_t code;
    size_t at = 0;
    ret_text[0] = '\0';
    while (multiaddr_next(&rest, &code, &value) == 0) {
        char text[MULTIADDR_NAME_MAX + 1] = "";
        cal_peer_id id;
        if (code == MULTIADDR_IP4 || code == MULTIADDR_IP6)
            inet_ntop(code == MULTIADDR_IP4 ? AF_INET : AF_INET6, value.data, text, sizeof text);
        else if (code == MULTIADDR_TCP || code == MULTIADDR_UDP)
            snprintf(text, sizeof text, "%u", cal_read_u16be(value.data));
        else if (code == MULTIADDR_P2P && !cal_peer_id_from_bytes(value.data, value.len, &id))
            cal_peer_id_text(&id, text);
        else
            snprintf(text, sizeof text, "%.*s", (int)value.len, (const char *)value.data);
        int len = snprintf(ret_text + at, CAL_MULTIADDR_TEXT_MAX - at, "/%s%s%s",
                           kind_of_code(code)->name, text[0] ? "/" : "", text);
        at += len > 0 ? (size_t)len : 0;
        if (at >= CAL_MULTIADDR_TEXT_MAX) return; /* cut: 400 bytes rarely need so many */
    }
}

bool cal_multiaddr_equal(const cal_multiaddr *a, const cal_multiaddr *b) {
    return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

/* --- parts --- */

/* Where the /p2p part at the end begins; the whole length when there is none. */
static size_t before_peer(const cal_multiaddr *address, cal_peer_id *ret_id) {
    cal_slice rest = {address->bytes, address->len}, value;
    uint32_t code;
    size_t start = 0;
    while (multiaddr_next(&rest, &code, &value) == 0) {
        if (rest.len == 0 && code == MULTIADDR_P2P &&
            !cal_peer_id_from_bytes(value.data, value.len, ret_id))
            return start;
        start = address->len - rest.len;
    }
    return address->len;
}

int cal_multiaddr_peer(const cal_multiaddr *address, cal_peer_id *ret_id) {
    cal_peer_id id;
    if (before_peer(address, &id) == address->len) return CAL_ENOTFOUND;
    *ret_id = id;
    return 0;
}

int cal_multiaddr_set_peer(cal_multiaddr *address, const cal_peer_id *id) {
    cal_peer_id old;
    cal_multiaddr result = *address;
    size_t len = before_peer(address, &old);
    if (id) {
        if (len + 3 + id->len > CAL_MULTIADDR_MAX) return CAL_ELIMIT;
        result.bytes[len++] = 0xa5; /* 421 as a varint */
        result.bytes[len++] = 0x03;
        result.bytes[len++] = id->len;
        memcpy(result.bytes + len, id->bytes, id->len);
        len += id->len;
    }
    memset(result.bytes + len, 0, sizeof result.bytes - len);
    result.len = (uint16_t)len;
    *address = result;
    return 0;
}

/* An IPv4 address written as IPv6 is that address: there is one way to write it, and to refuse it.
 */
static void unmap(cal_os_address *address) {
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (address->len != 16 || memcmp(address->bytes, mapped, sizeof mapped) != 0) return;
    memmove(address->bytes, address->bytes + sizeof mapped, 4);
    memset(address->bytes + 4, 0, sizeof address->bytes - 4);
    address->len = 4;
}

int multiaddr_target_of(const cal_multiaddr *address, multiaddr_target *ret_target) {
    cal_slice rest = {address->bytes, address->len}, value;
    uint32_t code;
    multiaddr_target target = {0};
    if (multiaddr_next(&rest, &code, &value)) return CAL_EUNSUPPORTED;
    target.host = (enum multiaddr_code)code;
    if (code == MULTIADDR_IP4 || code == MULTIADDR_IP6) {
        memcpy(target.endpoint.address.bytes, value.data, value.len);
        target.endpoint.address.len = (uint8_t)value.len;
        unmap(&target.endpoint.address);
    } else if (code == MULTIADDR_DNS || code == MULTIADDR_DNS4 || code == MULTIADDR_DNS6) {
        memcpy(target.name, value.data, value.len);
    } else {
        return CAL_EUNSUPPORTED;
    }
    if (multiaddr_next(&rest, &code, &value) || code != MULTIADDR_TCP) return CAL_EUNSUPPORTED;
    target.endpoint.port = cal_read_u16be(value.data);
    if (rest.len > 0) {
        if (multiaddr_next(&rest, &code, &value) || code != MULTIADDR_P2P || rest.len > 0 ||
            cal_peer_id_from_bytes(value.data, value.len, &target.peer))
            return CAL_EUNSUPPORTED;
        target.has_peer = true;
    }
    *ret_target = target;
    return 0;
}

int cal_multiaddr_dialable(const char *text, cal_error *err) {
    cal_multiaddr address;
    multiaddr_target target;
    const char *peer = strstr(text, "/p2p/");
    int result = cal_multiaddr_parse(text, &address);
    if (result == 0 && multiaddr_target_of(&address, &target) == 0) return 0;
    if (result == 0 || result == CAL_EUNSUPPORTED)
        return cal_fail(err, CAL_EUNSUPPORTED,
                        "'%s' cannot be dialled from here: that takes /ip4, /ip6 or /dns, and /tcp",
                        text);
    char start[CAL_MULTIADDR_TEXT_MAX];
    size_t len = peer ? (size_t)(peer - text) : 0;
    if (len > 0 && len < sizeof start) {
        memcpy(start, text, len);
        start[len] = '\0';
        if (cal_multiaddr_parse(start, &address) == 0)
            return cal_fail(err, CAL_EINVAL,
                            "'%s': what follows /p2p/ is no peer id, which begins with 12D3KooW",
                            text);
    }
    return cal_fail(err, CAL_EINVAL, "'%s' is no address like /ip4/203.0.113.7/tcp/2428", text);
}

int net_endpoint_of(const cal_multiaddr *address, net_endpoint *ret_endpoint) {
    multiaddr_target target;
    if (multiaddr_target_of(address, &target) || target.name[0]) return CAL_EUNSUPPORTED;
    *ret_endpoint = target.endpoint;
    return 0;
}

void net_endpoint_address(const net_endpoint *endpoint, cal_multiaddr *ret_address) {
    memset(ret_address, 0, sizeof *ret_address);
    uint8_t *p = ret_address->bytes;
    *p++ = endpoint->address.len == 4 ? MULTIADDR_IP4 : MULTIADDR_IP6;
    memcpy(p, endpoint->address.bytes, endpoint->address.len);
    p += endpoint->address.len;
    *p++ = MULTIADDR_TCP;
    cal_write_u16be(p, endpoint->port);
    ret_address->len = (uint16_t)(endpoint->address.len + 4);
}
