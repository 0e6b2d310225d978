/* Which addresses a node may be made to connect to: globally routable unicast only, so that a URL
 * cannot reach what stands behind the node (http-api.md 5.1). An IPv6 address that carries an IPv4
 * one is judged by both. Pure, any thread. */
#include "app/internal.h"

typedef struct range {
    uint8_t prefix[16];
    uint8_t bits;
} range;

/* Not public (IANA special-purpose registries). */
static const range ranges_v4[] = {
    {{0}, 8},             /* "this network", unspecified */
    {{10}, 8},            /* private */
    {{100, 64}, 10},      /* shared: carrier-grade NAT */
    {{127}, 8},           /* loopback */
    {{169, 254}, 16},     /* link-local: cloud metadata */
    {{172, 16}, 12},      /* private */
    {{192, 0, 0}, 24},    /* protocol assignments */
    {{192, 0, 2}, 24},    /* documentation */
    {{192, 88, 99}, 24},  /* 6to4 relays */
    {{192, 168}, 16},     /* private */
    {{198, 18}, 15},      /* benchmarks */
    {{198, 51, 100}, 24}, /* documentation */
    {{203, 0, 113}, 24},  /* documentation */
    {{224}, 4},           /* multicast */
    {{240}, 4},           /* reserved, broadcast */
};

static const range ranges_v6[] = {
    {{0}, 96},                                  /* unspecified, loopback, IPv4-compatible */
    {{[10] = 0xff, [11] = 0xff}, 96},           /* IPv4-mapped */
    {{0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}, 48}, /* local NAT64 */
    {{0x01}, 64},                               /* discard */
    {{0x20, 0x01}, 23},                         /* protocol assignments: Teredo, ORCHID ... */
    {{0x20, 0x01, 0x0d, 0xb8}, 32},             /* documentation */
    {{0x3f, 0xff}, 20},                         /* documentation */
    {{0x5f}, 16},                               /* segment routing */
    {{0xfc}, 7},                                /* unique local */
    {{0xfe, 0x80}, 10},                         /* link-local */
    {{0xfe, 0xc0}, 10},                         /* site-local, deprecated */
    {{0xff}, 8},                                /* multicast */
};

static bool in_range(const uint8_t *address, const range *range_of) {
    unsigned whole = range_of->bits / 8, rest = range_of->bits % 8;
    if (memcmp(address, range_of->prefix, whole) != 0) return false;
    return rest == 0 || (address[whole] >> (8 - rest)) == (range_of->prefix[whole] >> (8 - rest));
}

static bool public_v4(const uint8_t *address) {
    for (size_t i = 0; i < sizeof ranges_v4 / sizeof *ranges_v4; i++)
        if (in_range(address, &ranges_v4[i])) return false;
    return true;
}

static bool public_v6(const uint8_t *address) {
    static const range nat64 = {{0x00, 0x64, 0xff, 0x9b}, 96}, six_to_four = {{0x20, 0x02}, 16};
    for (size_t i = 0; i < sizeof ranges_v6 / sizeof *ranges_v6; i++)
        if (in_range(address, &ranges_v6[i])) return false;
    if (in_range(address, &nat64)) return public_v4(address + 12);
    return !in_range(address, &six_to_four) || public_v4(address + 2);
}

bool cal_app_address_public(const cal_os_address *address) {
    if (address->len == 4) return public_v4(address->bytes);
    return address->len == 16 && public_v6(address->bytes);
}
