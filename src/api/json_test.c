/* Fields of JSON bodies at the edges of their types: a text, a list of bytes, a number. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/connection.h"
#include "api/json.h"
#include "base/buffer.h"

static uint64_t clock_us(void *user) { return *(uint64_t *)user; }
static void on_wake(void *owner) { (void)owner; }

/* Answers with what it understood. */
static void tell(http_exchange *exchange) {
    json_in in;
    cal_slice bytes = {0};
    uint64_t number = 0;
    if (!json_open(&in, exchange, JSON_PLAIN, false)) {
        json_close(&in);
        return;
    }
    json_place top = json_top(&in);
    const char *text = json_text(&in, top, "text", false);
    json_bytes(&in, top, "bytes", false, &bytes);
    json_u64(&in, top, "number", false, &number);
    if (!json_ok(&in)) return;
    json_close(&in);
    char answer[128];
    snprintf(answer, sizeof answer, "%s|%zu:%d|%llu", text ? text : "-", bytes.len,
             bytes.len ? bytes.data[bytes.len - 1] : -1, (unsigned long long)number);
    http_reply_text(exchange, 200, answer);
}

static const http_route routes[] = {{HTTP_VERB_POST, "/tell", HTTP_BODY_WHOLE, tell, false}};

static void expect(const char *body, const char *answer) {
    uint64_t now = 0;
    http_env env = {.routes = routes,
                    .route_count = 1,
                    .prefix = "",
                    .timeouts = http_timeouts_default,
                    .clock_us = clock_us,
                    .clock_user = &now};
    http_connection *connection = http_connection_new(&env, on_wake, NULL);
    char request[1024];
    snprintf(request, sizeof request,
             "POST /tell HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
             "content-length: %zu\r\n\r\n%s",
             strlen(body), body);
    http_connection_feed(connection, cal_slice_text(request));
    uint8_t *bytes;
    size_t len;
    assert_true(http_connection_drain(connection, &bytes, &len));
    char *text = strndup((const char *)bytes, len);
    if (!strstr(text, answer)) fail_msg("%s: %s", body, text);
    free(text);
    free(bytes);
    http_connection_drained(connection);
    http_connection_free(connection);
}

static void test_texts(void **state) {
    (void)state;
    expect("{}", "-|0:-1|0");
    expect("{\"text\":null}", "-|0:-1|0");
    expect("{\"text\":\"\"}", "|0:-1|0");
    expect("{\"text\":\"a b\"}", "a b|0:-1|0");
    /* Whoever reads up to the NUL would take another name than whoever signed it. */
    expect("{\"text\":\"a\\u0000b\"}", "422 Unprocessable");
    expect("{\"text\":\"\\u0000\"}", "422 Unprocessable");
    expect("{\"text\":7}", "422 Unprocessable");
    expect("{\"text\":\"a", "400 Bad Request");
    expect("[]", "422 Unprocessable");
}

static void test_bytes(void **state) {
    (void)state;
    expect("{\"bytes\":[]}", "-|0:-1|0");
    expect("{\"bytes\":[0,255]}", "-|2:255|0");
    expect("{\"bytes\":[256]}", "bytes[0]: invalid value, expected u8");
    expect("{\"bytes\":[1,2,511]}", "bytes[2]: invalid value, expected u8");
    expect("{\"bytes\":[4294967296]}", "bytes[0]: invalid value, expected u8");
    expect("{\"bytes\":[-1]}", "bytes[0]: invalid value, expected u8");
    expect("{\"bytes\":[1.0]}", "bytes[0]: invalid value, expected u8");
    expect("{\"bytes\":[true]}", "bytes[0]: invalid value, expected u8");
    expect("{\"bytes\":\"AQ==\"}", "422 Unprocessable");
}

static void test_numbers(void **state) {
    (void)state;
    expect("{\"number\":18446744073709551615}", "-|0:-1|18446744073709551615");
    expect("{\"number\":18446744073709551616}", "422 Unprocessable");
    expect("{\"number\":-1}", "422 Unprocessable");
    expect("{\"number\":1.5}", "422 Unprocessable");
    expect("{\"number\":\"1\"}", "422 Unprocessable");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
