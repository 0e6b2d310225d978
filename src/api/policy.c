/* Loopback names and granted origins, see policy.h. */
#include "api/policy.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <strings.h>

enum { LOOPBACK_NET = 127, IPV4_TEXT_MAX = 16, IPV6_TEXT_MAX = 46, PORT_DIGITS_MAX = 5 };

static bool equal_ignoring_case(cal_slice text, const char *word) {
    return text.len == strlen(word) && strncasecmp((const char *)text.data, word, text.len) == 0;
}

static bool is_loopback_v4(cal_slice text) {
    char copy[IPV4_TEXT_MAX];
    struct in_addr address;
    if (text.len == 0 || text.len >= sizeof copy) return false;
    memcpy(copy, text.data, text.len);
    copy[text.len] = 0;
    if (strlen(copy) != text.len || inet_pton(AF_INET, copy, &address) != 1) return false;
    return ((const uint8_t *)&address)[0] == LOOPBACK_NET;
}

static bool is_loopback_v6(cal_slice text) {
    char copy[IPV6_TEXT_MAX];
    struct in6_addr address;
    if (text.len == 0 || text.len >= sizeof copy) return false;
    memcpy(copy, text.data, text.len);
    copy[text.len] = 0;
    if (strlen(copy) != text.len || inet_pton(AF_INET6, copy, &address) != 1) return false;
    return IN6_IS_ADDR_LOOPBACK(&address);
}

bool policy_address_is_loopback(const char *address) {
    cal_slice text = cal_slice_text(address);
    return is_loopback_v4(text) || is_loopback_v6(text);
}

/* "" or ":" and a few digits. */
static bool is_port(cal_slice text) {
    if (text.len == 0) return true;
    if (text.data[0] != ':' || text.len > 1 + PORT_DIGITS_MAX) return false;
    for (size_t i = 1; i < text.len; i++)
        if (!isdigit(text.data[i])) return false;
    return true;
}

bool policy_host_is_loopback(cal_slice host) {
    if (host.len == 0) return false;
    if (host.data[0] == '[') {
        const uint8_t *end = memchr(host.data, ']', host.len);
        if (!end) return false;
        size_t inner = (size_t)(end - host.data) - 1;
        return is_loopback_v6(cal_slice_of(host.data + 1, inner)) &&
               is_port(cal_slice_of(end + 1, host.len - inner - 2));
    }
    const uint8_t *colon = memchr(host.data, ':', host.len);
    size_t name_len = colon ? (size_t)(colon - host.data) : host.len;
    cal_slice name = cal_slice_of(host.data, name_len);
    if (!is_port(cal_slice_of(host.data + name_len, host.len - name_len))) return false;
    return equal_ignoring_case(name, "localhost") || is_loopback_v4(name);
}

bool policy_host_allowed(const http_policy *policy, cal_slice host) {
    return policy->any_host || policy_host_is_loopback(host);
}

bool policy_origin_allowed(const http_policy *policy, cal_slice origin) {
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        size_t len = strlen(schemes[i]);
        if (origin.len > len && strncasecmp((const char *)origin.data, schemes[i], len) == 0 &&
            policy_host_is_loopback(cal_slice_of(origin.data + len, origin.len - len)))
            return true;
    }
    for (size_t i = 0; i < policy->allowed_origin_count; i++)
        if (equal_ignoring_case(origin, policy->allowed_origins[i])) return true;
    return false;
}
