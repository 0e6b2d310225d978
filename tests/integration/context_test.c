/* What contexts promise to each other and to their callers, beside guest_test: real blobs read from
 * inside calls, views that leave no trace, index rows of failed calls, the cap on memory, and every
 * way an xcall ends. The guest is in context_guest.h. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <wasmtime.h>

#include <calimero/calimero.h>

#include "context_guest.h"
#include "support/engine_signals.h"

enum { GUESTS = 4, WATCHDOG_S = 60, MEMORY_MAX = 8 * 1024 * 1024 };

static char root[] = "/tmp/context_test_XXXXXX", home[200];
static cal_node *node;
static cal_error err;

struct app {
    cal_application_id id;
    cal_group_id ns;
};
static struct app app_open, app_gated;

/* --- the world --- */

static int write_module(const char *path, const char *abi) {
    wasm_byte_vec_t wasm;
    wasmtime_error_t *error = wasmtime_wat2wasm(context_guest, strlen(context_guest), &wasm);
    if (error) {
        wasm_name_t message;
        wasmtime_error_message(error, &message);
        fprintf(stderr, "the guest's text: %.*s\n", (int)message.size, message.data);
        return -1;
    }
    FILE *file = fopen(path, "wb");
    if (!file) return -1;
    static const char name[] = "calimero_abi_v1";
    size_t size = 1 + strlen(name) + strlen(abi);
    uint8_t head[] = {0, (uint8_t)((size & 0x7f) | 0x80), (uint8_t)(size >> 7), sizeof name - 1};
    size_t written = fwrite(wasm.data, 1, wasm.size, file) + fwrite(head, 1, sizeof head, file) +
                     fwrite(name, 1, strlen(name), file) + fwrite(abi, 1, strlen(abi), file);
    size_t expected = wasm.size + sizeof head + strlen(name) + strlen(abi);
    wasm_byte_vec_delete(&wasm);
    return fclose(file) == 0 && written == expected ? 0 : -1;
}

static int add_app(const char *name, const char *abi, struct app *ret_app) {
    char path[300];
    snprintf(path, sizeof path, "%s/%s.wasm", root, name);
    if (write_module(path, abi) != 0) return CAL_EIO;
    int rc = cal_install_file_wait(node, path, NULL, &ret_app->id, &err);
    return rc == 0 ? cal_namespace_create_wait(node, &ret_app->id, name, &ret_app->ns, &err) : rc;
}

static int open_world(void) {
    snprintf(home, sizeof home, "%s/node", root);
    cal_node_options options = {.home = home,
                                .workers = GUESTS,
                                .max_gas = UINT64_C(100000000000),
                                .guest_memory_max = MEMORY_MAX};
    int rc = cal_node_init(&options, NULL, &err);
    if (rc == 0) rc = cal_node_start(&options, &node, &err);
    engine_signals_learn();
    if (rc == 0) rc = add_app("open", context_abi_open, &app_open);
    return rc == 0 ? add_app("gated", context_abi_gated, &app_gated) : rc;
}

static cal_context_id new_context(const struct app *app, const cal_group_id *group) {
    cal_context_create_options options = {.application = app->id, .group = *group};
    cal_context_created created = {.id = {{0}}};
    if (cal_context_create_wait(node, &options, &created, &err) != 0)
        fail_msg("create: %s", err.message);
    return created.id;
}

struct answer {
    int code;
    bool changed;
    size_t len;
    uint8_t output[1000];
    char message[300];
};

static void keep(void *user, const cal_call_result *result) {
    struct answer *answer = user;
    size_t max = sizeof answer->output;
    answer->changed = result->changed;
    answer->len = result->output_len < max ? result->output_len : max;
    if (answer->len) memcpy(answer->output, result->output, answer->len);
    snprintf(answer->message, sizeof answer->message, "%s", result->message);
}

static struct answer call_bytes(const cal_context_id *context, const char *method,
                                const void *input, size_t len) {
    struct answer answer = {.code = 0};
    answer.code = cal_execute_wait(node, context, method, input, len, keep, &answer, NULL);
    return answer;
}

static struct answer call(const cal_context_id *context, const char *method, const char *input) {
    return call_bytes(context, method, input, strlen(input));
}

static void does(const cal_context_id *context, const char *method, const char *input, int code) {
    struct answer answer = call(context, method, input);
    if (answer.code != code)
        fail_msg("%s: %s %s", method, cal_error_name(answer.code), answer.message);
}

/* Both as a view and in the queue of writers. */
static void shows(const cal_context_id *context, const char *value) {
    static const char *const methods[] = {"look", "peek"};
    for (int i = 0; i < 2; i++) {
        struct answer answer = call(context, methods[i], "");
        if (answer.code != 0) fail_msg("%s: %s", methods[i], answer.message);
        if (answer.len != strlen(value) || memcmp(answer.output, value, answer.len) != 0)
            fail_msg("%s: %.*s, expected %s", methods[i], (int)answer.len, (char *)answer.output,
                     value);
    }
}

static void copy_root(void *user, const cal_context_info *info) {
    *(cal_hash *)user = info->heads[0];
}

static cal_hash head_of(const cal_context_id *context) {
    cal_hash head = {{0}};
    assert_int_equal(cal_context_get(node, context, copy_root, &head), 0);
    return head;
}

/* First in every test: cmocka sets its own signal handlers before. */
static void begin_test(void) {
    engine_signals_use();
    alarm(WATCHDOG_S); /* a deadlock ends the program */
}

/* --- state, views, index --- */

static void an_unkept_write_hides_behind_no_cache(void **state) {
    (void)state;
    begin_test();
    cal_context_id context = new_context(&app_open, &app_open.ns);
    does(&context, "put", "kept", 0);
    shows(&context, "kept");
    does(&context, "index_only", "unkept", 0);
    shows(&context, "kept");
    cal_hash before = head_of(&context);
    does(&context, "put_and_trap", "trapped", CAL_EGUEST);
    shows(&context, "kept");
    does(&context, "put_bare", "nobody could follow", CAL_EINTERNAL);
    shows(&context, "kept");
    cal_hash after = head_of(&context);
    assert_memory_equal(&before, &after, sizeof before);
    does(&context, "put", "next", 0);
    shows(&context, "next");
}

static void a_view_changes_nothing(void **state) {
    (void)state;
    begin_test();
    cal_context_id context = new_context(&app_open, &app_open.ns);
    does(&context, "put", "kept", 0);
    cal_hash before = head_of(&context);
    struct answer answer = call(&context, "view_put", "sneaked");
    assert_int_equal(answer.code, 0);
    assert_false(answer.changed);
    shows(&context, "kept");
    cal_hash after = head_of(&context);
    assert_memory_equal(&before, &after, sizeof before);
}

/* What a scan gives for these one- or two-byte keys, each its own value. */
static void scans(const cal_context_id *context, const char *const *keys, uint32_t count) {
    uint8_t expected[200] = {(uint8_t)count};
    size_t at = 4;
    for (uint32_t i = 0; i < count; i++)
        for (int twice = 0; twice < 2; twice++) {
            uint8_t len = (uint8_t)strlen(keys[i]);
            expected[at] = len;
            memcpy(expected + at + 4, keys[i], len);
            at += 4u + len;
        }
    struct answer answer = call(context, "scan", "");
    assert_int_equal(answer.code, 0);
    assert_int_equal(answer.len, at);
    assert_memory_equal(answer.output, expected, at);
}

static void index_rows_stay_in_order_and_a_trap_takes_its_own_back(void **state) {
    (void)state;
    begin_test();
    cal_context_id context = new_context(&app_open, &app_open.ns);
    static const char *const added[] = {"kb", "m", "ka", "zz", "b"};
    for (size_t i = 0; i < 5; i++) does(&context, "index_only", added[i], 0);
    static const char *const sorted[] = {"b", "ka", "kb", "m"}; /* z is where the scan ends */
    scans(&context, sorted, 4);
    does(&context, "index_and_trap", "c",
         CAL_EGUEST); /* sets c, and removes all that begin with k */
    scans(&context, sorted, 4);
}

static void a_guest_gets_the_memory_it_may_have(void **state) {
    (void)state;
    begin_test();
    cal_context_id context = new_context(&app_open, &app_open.ns);
    does(&context, "grow_within", "", 0);
    does(&context, "grow_beyond", "", CAL_EGUEST);
    does(&context, "put", "fine", 0);
    shows(&context, "fine");
}

/* --- at the same time --- */

struct worker {
    cal_context_id context;
    const void *input;
    size_t len;
    const char *method;
    int times, code, failures;
};

static void *work(void *user) {
    struct worker *worker = user;
    for (int i = 0; i < worker->times; i++)
        worker->failures +=
            call_bytes(&worker->context, worker->method, worker->input, worker->len).code !=
            worker->code;
    return NULL;
}

static void count(void *user, const cal_context_info *info) {
    (void)info;
    ++*(int *)user;
}

static void guests_read_blobs_while_contexts_are_listed(void **state) {
    (void)state;
    begin_test();
    static uint8_t content[2 * 1024 * 1024 + 4096]; /* three chunks */
    memset(content, 'b', sizeof content);
    cal_blob_id blob;
    assert_int_equal(cal_blob_put_wait(node, content, sizeof content, &blob, &err), 0);
    struct worker workers[GUESTS * 2];
    pthread_t threads[GUESTS * 2];
    for (int i = 0; i < GUESTS * 2; i++)
        workers[i] = (struct worker){.context = new_context(&app_open, &app_open.ns),
                                     .input = blob.bytes,
                                     .len = sizeof blob.bytes,
                                     .method = "blobs",
                                     .times = 3};
    for (int i = 0; i < GUESTS * 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    for (int i = 0; i < 50; i++) {
        int found = 0;
        assert_int_equal(cal_context_each(node, NULL, NULL, count, &found), 0);
        assert_true(found >= GUESTS * 2);
    }
    for (int i = 0; i < GUESTS * 2; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(workers[i].failures, 0);
    }
}

static void traps_touch_nobody_else(void **state) {
    (void)state;
    begin_test();
    struct worker workers[GUESTS];
    pthread_t threads[GUESTS];
    for (int i = 0; i < GUESTS; i++) {
        bool traps = i % 2 == 1;
        workers[i] = (struct worker){.context = new_context(&app_open, &app_open.ns),
                                     .input = "mine",
                                     .len = 4,
                                     .method = traps ? "put_and_trap" : "put",
                                     .code = traps ? CAL_EGUEST : 0,
                                     .times = 30};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < GUESTS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(workers[i].failures, 0);
        shows(&workers[i].context, i % 2 == 1 ? "" : "mine");
    }
}

static void flag(void *user, const cal_call_result *result) {
    (void)result;
    *(bool *)user = true; /* on the loop */
}

static void read_flag(void *arg) {
    bool **flags = arg;
    *flags[1] = *flags[0];
}

static void views_run_beside_a_long_writer(void **state) {
    (void)state;
    begin_test();
    cal_context_id context = new_context(&app_open, &app_open.ns);
    does(&context, "put", "before", 0);
    bool finished = false, seen = true;
    cal_execute(node, &context, "slow", NULL, 0, flag, &finished);
    struct answer answer = call(&context, "look", "");
    bool *flags[] = {&finished, &seen};
    cal_node_run(node, read_flag, flags);
    assert_int_equal(answer.len, 6);
    assert_memory_equal(answer.output, "before", 6);
    assert_false(seen);                                  /* the view did not wait for it */
    assert_int_equal(call(&context, "peek", "").len, 6); /* behind it in the queue */
    cal_node_run(node, read_flag, flags);
    assert_true(seen);
}

/* --- xcalls --- */

enum { HEARD_MAX = 16 };
struct heard {
    pthread_mutex_t lock;
    pthread_cond_t came;
    int count;
    struct {
        cal_xcall_status status;
        cal_context_id target;
        char function[40], detail[200];
    } events[HEARD_MAX];
};

static void hear(void *user, const cal_event *event) {
    struct heard *heard = user;
    if (event->type != CAL_EVENT_XCALL) return;
    pthread_mutex_lock(&heard->lock);
    if (heard->count < HEARD_MAX) {
        heard->events[heard->count].status = event->xcall_status;
        heard->events[heard->count].target = event->xcall_target;
        snprintf(heard->events[heard->count].function, sizeof heard->events[0].function, "%s",
                 event->xcall_function);
        snprintf(heard->events[heard->count].detail, sizeof heard->events[0].detail, "%s",
                 event->xcall_detail);
    }
    heard->count++;
    pthread_cond_signal(&heard->came);
    pthread_mutex_unlock(&heard->lock);
}

static struct heard *listen_to(const cal_context_id *context, cal_subscription **ret_subscription) {
    static struct heard heard;
    heard = (struct heard){.lock = PTHREAD_MUTEX_INITIALIZER, .came = PTHREAD_COND_INITIALIZER};
    *ret_subscription = cal_subscribe(node, context, hear, &heard);
    assert_non_null(*ret_subscription);
    return &heard;
}

static struct answer send_by(const cal_context_id *from, const char *method,
                             const cal_context_id *to, const char *function) {
    uint8_t input[100];
    memcpy(input, to->bytes, 32);
    memcpy(input + 32, function, strlen(function));
    return call_bytes(from, method, input, 32 + strlen(function));
}

static void await_events(struct heard *heard, int number) {
    pthread_mutex_lock(&heard->lock);
    while (heard->count < number) pthread_cond_wait(&heard->came, &heard->lock);
    pthread_mutex_unlock(&heard->lock);
}

/* The next event of the source after a `send`. */
static void sends(struct heard *heard, const cal_context_id *from, const cal_context_id *to,
                  const char *function, cal_xcall_status status, const char *detail) {
    int before = heard->count; /* quiet between the sends of a test */
    struct answer answer = send_by(from, "send", to, function);
    if (answer.code != 0) fail_msg("send %s: %s", function, answer.message);
    await_events(heard, before + 1);
    assert_int_equal(heard->events[before].status, status);
    assert_string_equal(heard->events[before].function, function);
    assert_memory_equal(&heard->events[before].target, to, sizeof *to);
    if (detail && strcmp(heard->events[before].detail, detail) != 0)
        fail_msg("%s: %s, expected %s", function, heard->events[before].detail, detail);
}

static void an_xcall_comes_back_to_who_sent_it(void **state) {
    (void)state;
    begin_test();
    cal_context_id a = new_context(&app_open, &app_open.ns),
                   b = new_context(&app_open, &app_open.ns);
    cal_subscription *subscription;
    struct heard *heard = listen_to(&b, &subscription);
    assert_int_equal(send_by(&a, "send", &b, "pong").code, 0);
    await_events(heard, 1); /* of b's own xcall, to a */
    assert_int_equal(heard->events[0].status, CAL_XCALL_OK);
    assert_memory_equal(&heard->events[0].target, &a, sizeof a);
    shows(&a, "marked");
    cal_unsubscribe(node, subscription);
    does(&b, "pong", "", CAL_EGUEST); /* a client's call has no origin */
}

static void xcalls_end_after_three_hops(void **state) {
    (void)state;
    begin_test();
    cal_context_id a = new_context(&app_open, &app_open.ns);
    cal_subscription *subscription;
    struct heard *heard = listen_to(&a, &subscription);
    assert_int_equal(send_by(&a, "send", &a, "send").code, 0); /* each hop sends what it got */
    await_events(heard, 4);
    for (int i = 0; i < 3; i++) assert_int_equal(heard->events[i].status, CAL_XCALL_OK);
    assert_int_equal(heard->events[3].status, CAL_XCALL_DENIED);
    assert_string_equal(heard->events[3].detail, "xcall depth limit");
    does(&a, "peek", "", 0);
    assert_int_equal(heard->count, 4);
    cal_unsubscribe(node, subscription);
}

static void a_failed_call_sends_nothing(void **state) {
    (void)state;
    begin_test();
    cal_context_id a = new_context(&app_open, &app_open.ns),
                   b = new_context(&app_open, &app_open.ns);
    cal_subscription *subscription;
    struct heard *heard = listen_to(&a, &subscription);
    struct answer answer = send_by(&a, "send_and_trap", &b, "mark");
    assert_int_equal(answer.code, CAL_EGUEST);
    assert_non_null(strstr(answer.message, "unreachable")); /* and not the xcall itself */
    shows(&b, ""); /* its `peek` queues behind anything that was sent */
    assert_int_equal(heard->count, 0);
    sends(heard, &a, &b, "mark", CAL_XCALL_OK, "");
    shows(&b, "marked");
    sends(heard, &a, &b, "put_and_trap", CAL_XCALL_ERROR, NULL);
    shows(&b, "marked");
    cal_unsubscribe(node, subscription);
}

static void xcalls_enter_where_the_target_lets_them(void **state) {
    (void)state;
    begin_test();
    cal_context_id a = new_context(&app_gated, &app_gated.ns),
                   b = new_context(&app_gated, &app_gated.ns),
                   foreign = new_context(&app_open, &app_open.ns), nowhere = {{9}};
    cal_subscription *subscription;
    struct heard *heard = listen_to(&a, &subscription);
    static const char entry[] = "not an xcall entry point", group[] = "owning group boundary";
    sends(heard, &a, &b, "put", CAL_XCALL_DENIED, entry);        /* declared, but no entry point */
    sends(heard, &a, &b, "index_only", CAL_XCALL_DENIED, entry); /* not declared */
    sends(heard, &a, &b, "__calimero_sync_next", CAL_XCALL_DENIED, entry);
    sends(heard, &a, &foreign, "mark", CAL_XCALL_DENIED, group);
    sends(heard, &a, &nowhere, "mark", CAL_XCALL_DENIED, group);
    shows(&b, "");
    shows(&foreign, "");
    sends(heard, &a, &b, "mark", CAL_XCALL_OK, "");
    shows(&b, "marked");
    cal_unsubscribe(node, subscription);
}

static void what_is_left_is_whole(void **state) {
    (void)state;
    begin_test();
    cal_node_stop(node);
    node = NULL;
    cal_node_options options = {.home = home};
    cal_check_summary summary;
    if (cal_node_check(&options, NULL, NULL, &summary, &err) != 0)
        fail_msg("check: %s", err.message);
}

int main(void) {
    if (!mkdtemp(root)) return 2;
    if (open_world() != 0) {
        fprintf(stderr, "context_test: %s\n", err.message);
        return 2;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_unkept_write_hides_behind_no_cache),
        cmocka_unit_test(a_view_changes_nothing),
        cmocka_unit_test(index_rows_stay_in_order_and_a_trap_takes_its_own_back),
        cmocka_unit_test(a_guest_gets_the_memory_it_may_have),
        cmocka_unit_test(guests_read_blobs_while_contexts_are_listed),
        cmocka_unit_test(traps_touch_nobody_else),
        cmocka_unit_test(views_run_beside_a_long_writer),
        cmocka_unit_test(an_xcall_comes_back_to_who_sent_it),
        cmocka_unit_test(xcalls_end_after_three_hops),
        cmocka_unit_test(a_failed_call_sends_nothing),
        cmocka_unit_test(xcalls_enter_where_the_target_lets_them),
        cmocka_unit_test(what_is_left_is_whole),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    char command[300];
    snprintf(command, sizeof command, "rm -rf %s", root);
    if (failed == 0 && system(command) != 0) return 1;
    return failed;
}
