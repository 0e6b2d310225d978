/* The text that a scraper reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/metrics.h"

static void test_text(void **state) {
    (void)state;
    metrics_registry *registry = metrics_new();
    cal_buffer labels, out;
    cal_buffer_init(&labels, 256);
    cal_buffer_init(&out, METRICS_TEXT_MAX);
    metrics_label(&labels, "path", "/a\"b\\c\n");
    metrics_label(&labels, "status", "2xx");
    assert_string_equal(cal_buffer_cstr(&labels), "path=\"/a\\\"b\\\\c\\n\",status=\"2xx\"");
    metrics_series *hits =
        metrics_get(registry, METRICS_COUNTER, "http_requests", "Requests.", "status=\"2xx\"");
    metrics_add(hits, 2);
    assert_ptr_equal(hits, metrics_get(registry, METRICS_COUNTER, "http_requests", "Requests.",
                                       "status=\"2xx\""));
    metrics_add(
        metrics_get(registry, METRICS_COUNTER, "http_requests", "Requests.", "status=\"4xx\""), 1);
    metrics_set(metrics_get(registry, METRICS_GAUGE, "open", "Open.", ""), 3.5);
    metrics_render(registry, &out);
    assert_string_equal(cal_buffer_cstr(&out), "# HELP http_requests_total Requests.\n"
                                               "# TYPE http_requests_total counter\n"
                                               "http_requests_total{status=\"2xx\"} 2\n"
                                               "http_requests_total{status=\"4xx\"} 1\n"
                                               "# HELP open Open.\n# TYPE open gauge\nopen 3.5\n");
    cal_buffer_reset(&out);
    metrics_series *seconds =
        metrics_get(registry, METRICS_HISTOGRAM, "took_seconds", "Took.", "a=\"b\"");
    metrics_observe(seconds, 0.0005);
    metrics_observe(seconds, 0.003);
    metrics_observe(seconds, 1000);
    metrics_render(registry, &out);
    const char *text = cal_buffer_cstr(&out);
    assert_non_null(strstr(text, "took_seconds_bucket{a=\"b\",le=\"0.001\"} 1\n"));
    assert_non_null(strstr(text, "took_seconds_bucket{a=\"b\",le=\"0.004\"} 2\n"));
    assert_non_null(strstr(text, "took_seconds_bucket{a=\"b\",le=\"16.384\"} 2\n"));
    assert_non_null(strstr(text, "took_seconds_bucket{a=\"b\",le=\"+Inf\"} 3\n"));
    assert_non_null(strstr(text, "took_seconds_count{a=\"b\"} 3\n"));
    metrics_free(registry);
    cal_buffer_deinit(&labels);
    cal_buffer_deinit(&out);
}

static void test_process(void **state) {
    (void)state;
    cal_buffer out;
    cal_buffer_init(&out, METRICS_TEXT_MAX);
    metrics_collect_process(NULL, &out);
    const char *names[] = {"process_resident_memory_bytes ", "process_virtual_memory_bytes ",
                           "process_threads ", "process_open_fds "};
    for (size_t i = 0; i < 4; i++) assert_non_null(strstr(cal_buffer_cstr(&out), names[i]));
    cal_buffer_deinit(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_text), cmocka_unit_test(test_process)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
