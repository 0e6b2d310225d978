/* URLs, addresses and downloads: what is refused, and that nothing is connected to when it is. */
#include "app/testing_net.h"

#include <stdlib.h>

/* --- addresses --- */
static void knows_public_addresses(void **state) {
    (void)state;
    static const char *const not_public[] = {"0.0.0.0",
                                             "0.1.2.3",
                                             "10.0.0.1",
                                             "10.255.255.255",
                                             "100.64.0.1",
                                             "100.127.255.255",
                                             "127.0.0.1",
                                             "127.255.0.1",
                                             "169.254.169.254",
                                             "172.16.0.1",
                                             "172.31.255.255",
                                             "192.0.0.8",
                                             "192.0.2.1",
                                             "192.88.99.1",
                                             "192.168.0.1",
                                             "198.18.0.1",
                                             "198.19.255.255",
                                             "198.51.100.7",
                                             "203.0.113.9",
                                             "224.0.0.1",
                                             "239.255.255.255",
                                             "240.0.0.1",
                                             "255.255.255.255",
                                             "::",
                                             "::1",
                                             "::7f00:1",
                                             "::ffff:127.0.0.1",
                                             "::ffff:93.184.216.34",
                                             "64:ff9b::127.0.0.1",
                                             "64:ff9b::a00:1",
                                             "64:ff9b:1::1",
                                             "100::1",
                                             "2001::1",
                                             "2001:1ff::1",
                                             "2001:db8::1",
                                             "2002:7f00:1::1",
                                             "2002:a00:1::1",
                                             "3fff::1",
                                             "5f00::1",
                                             "fc00::1",
                                             "fdff::1",
                                             "fe80::1",
                                             "febf::1",
                                             "fec0::1",
                                             "ff02::1"};
    static const char *const public[] = {
        "1.1.1.1",        "9.255.255.255",      "11.0.0.0",           "93.184.216.34",
        "100.63.255.255", "100.128.0.0",        "126.255.255.255",    "128.0.0.1",
        "169.253.0.1",    "169.255.0.1",        "172.15.255.255",     "172.32.0.0",
        "192.0.1.1",      "192.167.255.255",    "192.169.0.1",        "198.17.255.255",
        "198.20.0.0",     "223.255.255.255",    "2606:2800:220:1::1", "2001:200::1",
        "2a00::1",        "64:ff9b::5db8:d822", "2002:5db8:d822::1"};
    for (size_t i = 0; i < sizeof not_public / sizeof *not_public; i++) {
        cal_os_address address = testing_address(not_public[i]);
        if (cal_app_address_public(&address)) fail_msg("%s counts as public", not_public[i]);
    }
    for (size_t i = 0; i < sizeof public / sizeof *public; i++) {
        cal_os_address address = testing_address(public[i]);
        if (!cal_app_address_public(&address)) fail_msg("%s does not count as public", public[i]);
    }
    cal_os_address odd = {.len = 5};
    assert_false(cal_app_address_public(&odd));
}

/* --- URLs --- */
static void normalizes_urls(void **state) {
    (void)state;
    static const struct {
        const char *url, *stored;
        bool bundle;
    } cases[] = {
        {"http://apps.example/a.wasm", "http://apps.example/a.wasm", false},
        {"HTTPS://Apps.Example:443/A.mpk", "https://apps.example/A.mpk", true},
        {"http://apps.example:80", "http://apps.example/", false},
        {"http://apps.example:8080/x.mpk?v=1#f", "http://apps.example:8080/x.mpk?v=1#f", true},
        {"http://apps.example/x?y=.mpk", "http://apps.example/x?y=.mpk", false},
        {"http://apps.example./x", "http://apps.example/x", false},
        {"http://93.184.216.34/x", "http://93.184.216.34/x", false},
        {"http://[2606:2800::1]:81/x", "http://[2606:2800::1]:81/x", false},
    };
    cal_buffer out;
    cal_buffer_init(&out, 4096);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cal_error err = {0};
        bool bundle = !cases[i].bundle;
        cal_buffer_reset(&out);
        if (app_url_normalize(cases[i].url, &out, &bundle, &err) != 0)
            fail_msg("%s: %s", cases[i].url, err.message);
        assert_string_equal(cal_buffer_cstr(&out), cases[i].stored);
        assert_int_equal(bundle, cases[i].bundle);
    }
    static const char *const bad[] = {"",
                                      "apps.example/x",
                                      "//apps.example/x",
                                      "ftp://apps.example/x",
                                      "file:///etc/passwd",
                                      "gopher://apps.example/",
                                      "javascript:alert(1)",
                                      "http://",
                                      "http://user@apps.example/",
                                      "http://user:secret@apps.example/",
                                      "http://apps.example/a b",
                                      "http://apps.example/\x01",
                                      "http://localhost/",
                                      "http://LOCALHOST./x",
                                      "http://a.localhost/",
                                      "http://[fe80::1%25eth0]/",
                                      "http://b\xc3\xbc.example/",
                                      "http://apps.example:99999/",
                                      "http://a,b/",
                                      "http://%6cocalhost/"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cal_error err = {0};
        bool bundle = false;
        cal_buffer_reset(&out);
        if (app_url_normalize(bad[i], &out, &bundle, &err) != CAL_EINVAL)
            fail_msg("%s passed", bad[i]);
        assert_null(strstr(err.message, "secret"));
    }
    char text[CAL_APP_URL_MAX + 2];
    for (size_t extra = 0; extra < 2; extra++) {
        memset(text, 'a', sizeof text);
        memcpy(text, "http://a.example/", 17);
        text[CAL_APP_URL_MAX + extra] = '\0';
        bool bundle = false;
        cal_buffer_reset(&out);
        assert_int_equal(app_url_normalize(text, &out, &bundle, NULL), extra ? CAL_ELIMIT : 0);
    }
    cal_buffer_deinit(&out);
}

/* --- downloads --- */
typedef struct download {
    cal_buffer body;
    uint64_t total;
    int calls, cancel_at;
} download;

static int take(void *user, cal_slice bytes, cal_error *err) {
    download *into = user;
    int rc = cal_buffer_append_slice(&into->body, bytes);
    return rc == 0 ? 0 : cal_fail(err, rc, "full");
}

static int count_progress(void *user, uint64_t done, uint64_t total) {
    download *into = user;
    (void)done;
    if (total) into->total = total;
    return ++into->calls == into->cancel_at;
}

static const testing_route routes[] = {
    {"/file", "200 OK", {(const uint8_t *)"content", 7}},
    {"/unknown", "200 OK\r\nX-Unknown-Length: 1", {(const uint8_t *)"content", 7}},
    {"/short", "200 OK\r\nContent-Length: 100", {(const uint8_t *)"content", 7}},
    {"/huge", "200 OK\r\nContent-Length: 99999999999", {(const uint8_t *)"content", 7}},
    {"/error", "500 Internal Server Error", {(const uint8_t *)"secret", 6}},
    {"/gone?secret", "410 Gone", {0}},
    {"/private", "302 Found\r\nLocation: http://10.0.0.1/x", {0}},
    {"/loopback", "302 Found\r\nLocation: http://127.0.0.1:9/x", {0}},
    {"/local", "302 Found\r\nLocation: http://localhost/x", {0}},
    {"/resolves", "302 Found\r\nLocation: https://private.example/x", {0}},
    {"/scheme", "302 Found\r\nLocation: file:///etc/passwd", {0}},
    {"/user", "302 Found\r\nLocation: http://u:p@apps.example/file", {0}},
    {"/relative", "302 Found\r\nLocation: file", {(const uint8_t *)"moved", 5}},
    {"/other", "307 Temporary Redirect\r\nLocation: http://six.example:81/file", {0}},
    {"/nowhere", "302 Found", {0}},
    {"/loop", "301 Moved Permanently\r\nLocation: /loop", {0}},
    {"/r10", "302 Found\r\nLocation: /r9", {0}},
    {"/r9", "302 Found\r\nLocation: /r8", {0}},
    {"/r8", "302 Found\r\nLocation: /r7", {0}},
    {"/r7", "302 Found\r\nLocation: /r6", {0}},
    {"/r6", "302 Found\r\nLocation: /r5", {0}},
    {"/r5", "302 Found\r\nLocation: /r4", {0}},
    {"/r4", "302 Found\r\nLocation: /r3", {0}},
    {"/r3", "303 See Other\r\nLocation: /r2", {0}},
    {"/r2", "308 Permanent Redirect\r\nLocation: /r1", {0}},
    {"/r1", "302 Found\r\nLocation: /file", {0}},
    {"/r11", "302 Found\r\nLocation: /r10", {0}},
    {0},
};

static int fetch(testing_net *net, const char *url, uint64_t max, download *into, cal_error *err) {
    app_fetch what = {.os = &net->os,
                      .url = url,
                      .max = max,
                      .body = take,
                      .progress = count_progress,
                      .user = into};
    cal_buffer_init(&into->body, 1 << 20);
    net->requests = net->connects = net->resolves = 0;
    return app_fetch_run(&what, err);
}

static void expect(testing_net *net, const char *url, int code, const char *words, int connects) {
    download into = {0};
    cal_error err = {0};
    int rc = fetch(net, url, 1000, &into, &err);
    if (rc != code || (words && !strstr(err.message, words)) ||
        (connects >= 0 && net->connects != connects))
        fail_msg("%s: %d \"%s\" after %d connections, expected %d \"%s\" after %d", url, rc,
                 err.message, (int)net->connects, code, words ? words : "", connects);
    if (rc == 0) assert_memory_equal(into.body.data, "content", 7);
    assert_null(strstr(err.message, "secret"));
    cal_buffer_deinit(&into.body);
}

static void downloads(void **state) {
    testing_net *net = *state;
    expect(net, "http://apps.example/file", 0, NULL, 1);
    assert_int_equal(net->connected_port, 80);
    assert_string_equal(net->last_host, "apps.example");
    assert_int_equal(net->resolves, 1); /* once, and pinned */
    expect(net, "http://93.184.216.34:8080/file", 0, NULL, 1);
    assert_int_equal(net->connected_port, 8080);
    assert_int_equal(net->resolves, 0);
    expect(net, "http://six.example/file", 0, NULL, 1);
    assert_int_equal(net->connected.len, 16);
    expect(net, "http://two.example/unknown", 0, NULL, 1);
    expect(net, "http://apps.example/relative", 0, NULL, 2);
    expect(net, "http://apps.example/other", 0, NULL, 2);
    assert_int_equal(net->connected_port, 81);
    assert_string_equal(net->last_host, "six.example:81");
    /* A proxy in the environment would connect for us, to wherever it likes. */
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    expect(net, "http://apps.example/file", 0, NULL, 1);
    unsetenv("http_proxy");
    unsetenv("ALL_PROXY");
}

static void private_hosts_are_never_connected_to(void **state) {
    testing_net *net = *state;
    static const char *const urls[] = {"http://127.0.0.1/file",
                                       "http://10.1.2.3/file",
                                       "http://[::1]/file",
                                       "http://[::ffff:127.0.0.1]/file",
                                       "http://[fd00::1]/file",
                                       "http://169.254.169.254/latest/meta-data/",
                                       "http://100.64.0.1/",
                                       "http://224.0.0.1/",
                                       "http://0.0.0.0/",
                                       "http://2130706433/file",
                                       "http://0x7f.1/file",
                                       "http://0177.0.0.1/file",
                                       "http://127.1/file",
                                       "https://private.example/file",
                                       "http://mixed.example/file",
                                       "http://metadata.example/",
                                       "http://six-private.example/"};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++)
        expect(net, urls[i], CAL_EINVAL, "not a public address", 0);
    expect(net, "http://localhost/file", CAL_EINVAL, "this machine", 0);
    expect(net, "http://nobody.example/file", CAL_EUNREACHABLE,
           "cannot find the host nobody.example", 0);
}

static void redirects_are_checked(void **state) {
    testing_net *net = *state;
    expect(net, "http://apps.example/private", CAL_EINVAL, "10.0.0.1", 1);
    expect(net, "http://apps.example/loopback", CAL_EINVAL, "not a public address", 1);
    expect(net, "http://apps.example/local", CAL_EINVAL, "this machine", 1);
    expect(net, "http://apps.example/resolves", CAL_EINVAL, "private.example is at 10.0.0.1", 1);
    expect(net, "http://apps.example/scheme", CAL_EINVAL, "only http and https", 1);
    expect(net, "http://apps.example/user", CAL_EINVAL, "user or a password", 1);
    expect(net, "http://apps.example/nowhere", CAL_EUNREACHABLE, "status 302", 1);
    expect(net, "http://apps.example/r10", 0, NULL, 11);
    expect(net, "http://apps.example/r11", CAL_EUNREACHABLE, "more than 10 times", 11);
    expect(net, "http://apps.example/loop", CAL_EUNREACHABLE, "more than 10 times", 11);
}

static void failures_say_what_failed(void **state) {
    testing_net *net = *state;
    expect(net, "http://apps.example/error", CAL_EUNREACHABLE, "HTTP status 500", 1);
    expect(net, "http://apps.example/missing", CAL_ENOTFOUND, "HTTP status 404", 1);
    expect(net, "http://apps.example/gone?secret", CAL_ENOTFOUND, "HTTP status 410", 1);
    expect(net, "http://apps.example/short", CAL_EUNREACHABLE, "failed", 1);
    expect(net, "http://apps.example/huge", CAL_ELIMIT, "larger than 1000 bytes", 1);
    expect(net, "https://apps.example/file", CAL_EUNREACHABLE, NULL, 1); /* no TLS there */
    net->connect_error = CAL_EUNREACHABLE;
    expect(net, "http://apps.example/file", CAL_EUNREACHABLE,
           "cannot connect to apps.example on port 80", 1);
    expect(net, "http://two.example/file", CAL_EUNREACHABLE, "cannot connect", 2);
    net->connect_error = CAL_ETIMEOUT;
    expect(net, "http://apps.example/file", CAL_ETIMEOUT, "does not answer", 1);
    net->connect_error = 0;
}

static void size_is_counted_in_flight(void **state) {
    testing_net *net = *state;
    static const char *const urls[] = {"http://apps.example/file", "http://apps.example/unknown"};
    for (size_t i = 0; i < 2; i++)
        for (uint64_t max = 6; max < 8; max++) {
            download into = {0};
            assert_int_equal(fetch(net, urls[i], max, &into, NULL), max < 7 ? CAL_ELIMIT : 0);
            assert_int_equal(into.body.len, max < 7 ? 0 : 7);
            cal_buffer_deinit(&into.body);
        }
}

static void progress_can_cancel(void **state) {
    testing_net *net = *state;
    download into = {0};
    cal_error err = {0};
    assert_int_equal(fetch(net, "http://apps.example/file", 1000, &into, &err), 0);
    assert_true(into.calls > 0);
    assert_int_equal(into.total, 7);
    cal_buffer_deinit(&into.body);
    into = (download){.cancel_at = 1};
    assert_int_equal(fetch(net, "http://apps.example/file", 1000, &into, &err), CAL_ECANCELED);
    cal_buffer_deinit(&into.body);
}

/* A clock that jumps past the deadline between two hops. */
static uint64_t jumping_ns(void *user) {
    testing_net *net = user;
    return net->requests > 0 ? (uint64_t)(CAL_APP_TOTAL_TIMEOUT_MS + 1) * 1000000 : 0;
}

static void time_runs_out_over_all_hops(void **state) {
    testing_net *net = *state;
    net->os.mono_ns = jumping_ns;
    expect(net, "http://apps.example/relative", CAL_ETIMEOUT, "took too long", 1);
    net->os.mono_ns = cal_os_posix()->mono_ns;
}

static int start(void **state) {
    static testing_net net;
    testing_net_start(&net, routes);
    *state = &net;
    return 0;
}

static int stop(void **state) {
    testing_net_stop(*state);
    return 0;
}

int main(void) {
    if (cal_crypto_init() != 0) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_public_addresses),
        cmocka_unit_test(normalizes_urls),
        cmocka_unit_test(downloads),
        cmocka_unit_test(private_hosts_are_never_connected_to),
        cmocka_unit_test(redirects_are_checked),
        cmocka_unit_test(failures_say_what_failed),
        cmocka_unit_test(size_is_counted_in_flight),
        cmocka_unit_test(progress_can_cancel),
        cmocka_unit_test(time_runs_out_over_all_hops),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
