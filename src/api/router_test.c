/* Request targets at their bounds: pairs of a query, segments, escapes, precedence, the prefix. */
#include "golden.h"

#include "api/router.h"
#include "calimero/error.h"

static void handle(http_exchange *exchange) { (void)exchange; }

static const http_route routes[] = {
    {HTTP_VERB_GET, "/a/literal", HTTP_BODY_NONE, handle, true},
    {HTTP_VERB_GET, "/a/:name", HTTP_BODY_NONE, handle, true},
    {HTTP_VERB_POST, "/a/:name", HTTP_BODY_NONE, handle, true},
    {HTTP_VERB_GET, "/a/:one/b/:two", HTTP_BODY_NONE, handle, true},
    {HTTP_VERB_GET, "/plain", HTTP_BODY_NONE, handle, false},
};

static cal_arena arena;

static int resolve(const char *prefix, unsigned verb, const char *target, router_target *ret) {
    return router_resolve(routes, sizeof routes / sizeof *routes, prefix, verb,
                          cal_slice_text(target), &arena, ret);
}

static int open_arena(void **state) {
    (void)state;
    cal_arena_init(&arena, 1 << 20);
    return 0;
}

static int close_arena(void **state) {
    (void)state;
    cal_arena_deinit(&arena);
    return 0;
}

static void test_query(void **state) {
    (void)state;
    for (size_t extra = 0; extra < 2; extra++) {
        router_target target;
        char text[512] = "/a/x?&"; /* an empty pair is none */
        for (size_t i = 0; i < HTTP_QUERY_MAX + extra; i++)
            snprintf(text + strlen(text), sizeof text - strlen(text), "k%zu=v+%zu&", i, i);
        assert_int_equal(resolve("", HTTP_VERB_GET, text, &target), extra ? CAL_EDECODE : 0);
        if (extra) continue;
        assert_int_equal(target.query_count, HTTP_QUERY_MAX);
        assert_string_equal(target.query[HTTP_QUERY_MAX - 1].name, "k15");
        assert_string_equal(target.query[HTTP_QUERY_MAX - 1].value, "v 15");
    }
}

static void test_escapes(void **state) {
    (void)state;
    static const struct {
        const char *text, *value; /* NULL: refused */
    } cases[] = {
        {"/a/%41%7e", "A~"}, {"/a/%e2%82%ac", "\xe2\x82\xac"},
        {"/a/x+y", "x+y"},   {"/a/%2F", "/"},
        {"/a/%4", NULL},     {"/a/%", NULL},
        {"/a/%4g", NULL},    {"/a/%00", NULL},
        {"/a/%ff", NULL},    {"/a/%c3", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        router_target target;
        int result = resolve("", HTTP_VERB_GET, cases[i].text, &target);
        assert_int_equal(result, cases[i].value ? 0 : CAL_EDECODE);
        if (cases[i].value) assert_string_equal(target.params[0].value, cases[i].value);
    }
}

static void test_precedence(void **state) {
    (void)state;
    static const struct {
        const char *prefix, *text;
        unsigned verb;
        int row; /* -1: unknown, -2: wrong verb */
    } cases[] = {
        {"", "/a/literal", HTTP_VERB_GET, 0},
        {"", "/a/literal", HTTP_VERB_POST, -2}, /* the first pattern that fits decides */
        {"", "/a/literal/", HTTP_VERB_GET, 0},
        {"", "/a/literal//", HTTP_VERB_GET, -1},
        {"", "/a/other", HTTP_VERB_GET, 1},
        {"", "/a/other", HTTP_VERB_POST, 2},
        {"", "/a/other", HTTP_VERB_PUT, -2},
        {"", "/a/other", 0, -2},
        {"", "/a//b/y", HTTP_VERB_GET, -1}, /* a parameter is not empty */
        {"", "/a/x/b/y", HTTP_VERB_GET, 3},
        {"", "/a/x/b", HTTP_VERB_GET, -1},
        {"", "/1/2/3/4/5/6/7/8/9/10/11/12", HTTP_VERB_GET, -1},
        {"", "/1/2/3/4/5/6/7/8/9/10/11/12/13", HTTP_VERB_GET, -1},
        {"/pre", "/pre/a/other", HTTP_VERB_GET, 1},
        {"/pre", "/a/other", HTTP_VERB_GET, -1},
        {"/pre", "/prea/other", HTTP_VERB_GET, -1},
        {"/pre", "/pre2/a/other", HTTP_VERB_GET, -1},
        {"/pre", "/plain", HTTP_VERB_GET, 4},
        {"/pre", "/pre/plain", HTTP_VERB_GET, -1},
        {"", "http://host:1/a/other?x", HTTP_VERB_GET, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        router_target target;
        assert_int_equal(resolve(cases[i].prefix, cases[i].verb, cases[i].text, &target), 0);
        int row = target.route ? (int)(target.route - routes) : target.verbs ? -2 : -1;
        if (row != cases[i].row) fail_msg("%s: row %d", cases[i].text, row);
    }
}

static void test_authority(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"/path", ""},
        {"http://h", "h"},
        {"http://h/p", "h"},
        {"http://h:80?x/y", "h:80"},
        {"/p?u=http://evil/", ""},
        {"https://[::1]:1/", "[::1]:1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_true(cal_slice_equal(router_authority(cal_slice_text(cases[i][0])),
                                    cal_slice_text(cases[i][1])));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_query),
        cmocka_unit_test(test_escapes),
        cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_authority),
    };
    return cmocka_run_group_tests(tests, open_arena, close_arena);
}
