/* Matching and decoding of request targets, see router.h. */
#include "api/router.h"

#include <strings.h>

#include "calimero/error.h"
#include "codec/utf8.h"

enum { SEGMENTS_MAX = 12 };

typedef struct split_path {
    cal_slice segments[SEGMENTS_MAX];
    size_t count;
    bool fits; /* false: no pattern can: too many segments, or an empty one at the end */
} split_path;

static cal_slice from(cal_slice text, size_t at) {
    return cal_slice_of(text.data + at, text.len - at);
}

static size_t find(cal_slice text, char c) {
    const uint8_t *at = text.len ? memchr(text.data, c, text.len) : NULL;
    return at ? (size_t)(at - text.data) : text.len;
}

cal_slice router_authority(cal_slice target) {
    if (target.len && target.data[0] == '/') return cal_slice_of(NULL, 0);
    for (size_t i = 0; i + 2 < target.len; i++)
        if (memcmp(target.data + i, "://", 3) == 0) {
            cal_slice rest = from(target, i + 3);
            size_t path_at = find(rest, '/'), query_at = find(rest, '?');
            return cal_slice_of(rest.data, path_at < query_at ? path_at : query_at);
        }
    return cal_slice_of(NULL, 0);
}

static int hex_digit(uint8_t c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static int decode(cal_slice text, bool plus_is_space, cal_arena *arena, const char **ret_text) {
    char *out = cal_arena_alloc(arena, text.len + 1);
    if (!out) return CAL_ENOMEM;
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        if (c == '+' && plus_is_space) c = ' ';
        if (c == '%') {
            int high = i + 2 < text.len ? hex_digit(text.data[i + 1]) : -1;
            int low = i + 2 < text.len ? hex_digit(text.data[i + 2]) : -1;
            if (high < 0 || low < 0) return CAL_EDECODE;
            c = (uint8_t)(high << 4 | low);
            i += 2;
        }
        if (c == 0) return CAL_EDECODE;
        out[len++] = (char)c;
    }
    out[len] = 0;
    if (!cal_utf8_valid(cal_slice_of(out, len))) return CAL_EDECODE;
    *ret_text = out;
    return 0;
}

static split_path split(cal_slice text) {
    split_path ret = {.fits = true};
    if (text.len && text.data[0] == '/') text = from(text, 1);
    if (text.len && text.data[text.len - 1] == '/') text.len--;
    while (text.len) {
        size_t len = find(text, '/');
        if (ret.count == SEGMENTS_MAX) {
            ret.fits = false;
            return ret;
        }
        if (len + 1 == text.len) ret.fits = false; /* a second slash at the end */
        ret.segments[ret.count++] = cal_slice_of(text.data, len);
        text = len < text.len ? from(text, len + 1) : cal_slice_of(NULL, 0);
    }
    return ret;
}

static bool fits(const char *pattern, const split_path *path) {
    size_t i = 0;
    cal_slice rest = cal_slice_text(pattern);
    while (rest.len) {
        rest = from(rest, 1); /* the slash */
        size_t len = find(rest, '/');
        if (i == path->count) return false;
        bool is_param = len && rest.data[0] == ':';
        cal_slice segment = path->segments[i++];
        if (is_param ? segment.len == 0 : !cal_slice_equal(segment, cal_slice_of(rest.data, len)))
            return false;
        rest = from(rest, len);
    }
    return i == path->count;
}

static int take_params(const char *pattern, const split_path *path, cal_arena *arena,
                       router_target *target) {
    cal_slice rest = cal_slice_text(pattern);
    for (size_t i = 0; rest.len; i++) {
        rest = from(rest, 1);
        size_t len = find(rest, '/');
        if (len && rest.data[0] == ':' && target->param_count < HTTP_PARAMS_MAX) {
            router_pair *pair = &target->params[target->param_count];
            pair->name = cal_arena_text(arena, cal_slice_of(rest.data + 1, len - 1));
            if (!pair->name) return CAL_ENOMEM;
            int error = decode(path->segments[i], false, arena, &pair->value);
            if (error) return error;
            target->param_count++;
        }
        rest = from(rest, len);
    }
    return 0;
}

static int take_query(cal_slice query, cal_arena *arena, router_target *target) {
    while (query.len) {
        size_t len = find(query, '&');
        cal_slice pair = cal_slice_of(query.data, len);
        query = len < query.len ? from(query, len + 1) : cal_slice_of(NULL, 0);
        if (pair.len == 0) continue;
        if (target->query_count == HTTP_QUERY_MAX) return CAL_EDECODE;
        size_t equals = find(pair, '=');
        router_pair *out = &target->query[target->query_count];
        int error = decode(cal_slice_of(pair.data, equals), true, arena, &out->name);
        if (!error)
            error = decode(equals < pair.len ? from(pair, equals + 1) : cal_slice_of(NULL, 0), true,
                           arena, &out->value);
        if (error) return error;
        target->query_count++;
    }
    return 0;
}

/* The path behind the prefix, or false when it does not start with it. */
static bool strip(cal_slice text, const char *prefix, cal_slice *ret_text) {
    size_t len = strlen(prefix);
    if (text.len < len || (len && memcmp(text.data, prefix, len) != 0)) return false;
    if (len && text.len > len && text.data[len] != '/') return false;
    *ret_text = from(text, len);
    return true;
}

int router_resolve(const http_route *routes, size_t count, const char *prefix, unsigned verb,
                   cal_slice target, cal_arena *arena, router_target *ret_target) {
    cal_slice authority = router_authority(target), stripped;
    router_target found = {0};
    if (authority.data)
        target = from(target, (size_t)(authority.data - target.data) + authority.len);
    size_t query_at = find(target, '?');
    cal_slice text = cal_slice_of(target.data, query_at);
    split_path plain = split(text), inner = {0};
    if (strip(text, prefix, &stripped)) inner = split(stripped);

    const http_route *first = NULL;
    for (size_t i = 0; i < count; i++) {
        const split_path *path = routes[i].prefixed ? &inner : &plain;
        if (first ? strcmp(first->pattern, routes[i].pattern) != 0
                  : !path->fits || !fits(routes[i].pattern, path)) {
            if (first) break;
            continue;
        }
        first = first ? first : &routes[i];
        found.verbs |= (unsigned)routes[i].verb;
        if ((unsigned)routes[i].verb == verb) found.route = &routes[i];
    }
    if (found.route) {
        int error = take_params(found.route->pattern, found.route->prefixed ? &inner : &plain,
                                arena, &found);
        if (!error && query_at < target.len)
            error = take_query(from(target, query_at + 1), arena, &found);
        if (error) return error;
    }
    *ret_target = found;
    return 0;
}
