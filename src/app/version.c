/* Semantic versions (semver.org 2.0): strict to read, build metadata ignored in the order. Pure,
 * any thread. */
#include <string.h>

#include "app/internal.h"

typedef struct version {
    uint64_t numbers[3];
    const char *pre; /* dot-separated identifiers, "" for a release */
    size_t pre_len;
} version;

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_identifier(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-';
}

static bool read_number(const char **at, uint64_t *ret_number) {
    const char *p = *at;
    if (!is_digit(*p) || (*p == '0' && is_digit(p[1]))) return false;
    uint64_t number = 0;
    for (; is_digit(*p); p++)
        if (__builtin_mul_overflow(number, 10u, &number) ||
            __builtin_add_overflow(number, (uint64_t)(*p - '0'), &number))
            return false;
    *at = p;
    *ret_number = number;
    return true;
}

/* Identifiers between dots; numeric ones may not start with a zero in a pre-release. */
static bool read_identifiers(const char **at, bool strict) {
    const char *p = *at;
    for (;;) {
        const char *start = p;
        bool numeric = true;
        for (; is_identifier(*p); p++) numeric = numeric && is_digit(*p);
        if (p == start || (strict && numeric && *start == '0' && p - start > 1)) return false;
        if (*p != '.') break;
        p++;
    }
    *at = p;
    return true;
}

static bool read_version(const char *text, version *ret_version) {
    version v = {.pre = ""};
    for (int i = 0; i < 3; i++) {
        if (i > 0 && *text++ != '.') return false;
        if (!read_number(&text, &v.numbers[i])) return false;
    }
    if (*text == '-') {
        v.pre = ++text;
        if (!read_identifiers(&text, true)) return false;
        v.pre_len = (size_t)(text - v.pre);
    }
    if (*text == '+' && (text++, !read_identifiers(&text, false))) return false;
    if (*text != '\0') return false;
    *ret_version = v;
    return true;
}

/* One identifier: numbers below words, numbers by value (no leading zeros: longer is greater),
 * words by bytes. */
static int compare_identifier(cal_slice a, cal_slice b) {
    bool number_a = true, number_b = true;
    for (size_t i = 0; i < a.len; i++) number_a = number_a && is_digit((char)a.data[i]);
    for (size_t i = 0; i < b.len; i++) number_b = number_b && is_digit((char)b.data[i]);
    if (number_a != number_b) return number_a ? -1 : 1;
    if (number_a && a.len != b.len) return a.len < b.len ? -1 : 1;
    return cal_slice_compare(a, b);
}

static cal_slice next_identifier(cal_slice *rest) {
    const uint8_t *dot = rest->len ? memchr(rest->data, '.', rest->len) : NULL;
    cal_slice head = cal_slice_of(rest->data, dot ? (size_t)(dot - rest->data) : rest->len);
    size_t used = head.len + (dot ? 1 : 0);
    *rest = cal_slice_of(rest->data + used, rest->len - used);
    return head;
}

static int compare_pre(const version *a, const version *b) {
    if (a->pre_len == 0 || b->pre_len == 0) /* a release is above its pre-releases */
        return (a->pre_len == 0) - (b->pre_len == 0);
    cal_slice left = cal_slice_of(a->pre, a->pre_len), right = cal_slice_of(b->pre, b->pre_len);
    while (left.len && right.len) {
        int order = compare_identifier(next_identifier(&left), next_identifier(&right));
        if (order != 0) return order;
    }
    return (left.len != 0) - (right.len != 0);
}

int cal_version_compare(const char *a, const char *b, int *ret_order) {
    version left, right;
    if (!read_version(a, &left) || !read_version(b, &right)) return CAL_EDECODE;
    int order = 0;
    for (int i = 0; i < 3 && order == 0; i++)
        order = (left.numbers[i] > right.numbers[i]) - (left.numbers[i] < right.numbers[i]);
    if (order == 0) order = compare_pre(&left, &right);
    *ret_order = (order > 0) - (order < 0);
    return 0;
}
