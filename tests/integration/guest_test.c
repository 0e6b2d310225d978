/* What a node promises about calls, with small guests that do exactly one thing: nothing of a
 * failed or unkept call is seen later, guests that hold snapshots never starve each other, xcalls
 * reach what they may, queues are bounded, deadlines hold, and what excludes each other does. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <wasmtime.h>

#include <calimero/calimero.h>

#include "support/engine_signals.h"

/* Descriptors: 0x200 root, 0x210 artifact, 0x220 key, 0x230 value, 0x240 index key, 0x250 and 0x260
 * bounds, 0x270 output, 0x290 ValueReturn, 0x2c0 XCall whose context and function are the input. */
static const char guest[] =
    "(module"
    " (import \"env\" \"storage_write\" (func $write (param i64 i64 i64) (result i32)))"
    " (import \"env\" \"storage_read\" (func $read (param i64 i64) (result i32)))"
    " (import \"env\" \"private_storage_write\" (func $pwrite (param i64 i64) (result i32)))"
    " (import \"env\" \"private_storage_read\" (func $pread (param i64 i64) (result i32)))"
    " (import \"env\" \"storage_index_set\" (func $iset (param i64 i64) (result i32)))"
    " (import \"env\" \"storage_index_scan\" (func $iscan (param i64 i64 i64 i64 i64) (result "
    "i32)))"
    " (import \"env\" \"register_len\" (func $len (param i64) (result i64)))"
    " (import \"env\" \"read_register\" (func $take (param i64 i64) (result i32)))"
    " (import \"env\" \"input\" (func $input (param i64)))"
    " (import \"env\" \"value_return\" (func $return (param i64)))"
    " (import \"env\" \"commit\" (func $commit (param i64 i64)))"
    " (import \"env\" \"xcall\" (func $xcall (param i64)))"
    " (import \"env\" \"blob_open\" (func $bopen (param i64) (result i64)))"
    " (import \"env\" \"blob_read\" (func $bread (param i64 i64) (result i64)))"
    " (memory (export \"memory\") 2)"
    " (data (i32.const 0x100) "
    "\"\\11\\11\\11\\11\\11\\11\\11\\11\\11\\11\\11\\11\\11\\11\\11\\11\\11\\11\\11\\11\\11\\11\\11"
    "\\11\\11\\11\\11\\11\\11\\11\\11\\11\")"
    " (data (i32.const 0x1c0) \"\\22dirty\\22\") (data (i32.const 0x1d0) \"ik\") (data (i32.const "
    "0x1d8) \"az\")"
    " (func $buf (param i32 i64 i64) (i64.store (local.get 0) (local.get 1)) (i64.store offset=8 "
    "(local.get 0) (local.get 2)))"
    " (func $setup"
    "  (call $buf (i32.const 0x200) (i64.const 0x100) (i64.const 32)) (call $buf (i32.const 0x210) "
    "(i64.const 0x140) (i64.const 5))"
    "  (call $buf (i32.const 0x220) (i64.const 0x180) (i64.const 32)) (call $buf (i32.const 0x230) "
    "(i64.const 0x1c0) (i64.const 7))"
    "  (call $buf (i32.const 0x240) (i64.const 0x1d0) (i64.const 2)) (call $buf (i32.const 0x250) "
    "(i64.const 0x1d8) (i64.const 1))"
    "  (call $buf (i32.const 0x260) (i64.const 0x1d9) (i64.const 1)))"
    " (func $root (call $commit (i64.const 0x200) (i64.const 0x210)))"
    " (func $put (call $setup) (drop (call $write (i64.const 0x220) (i64.const 0x230) (i64.const "
    "0))))"
    " (func $index (call $setup) (drop (call $iset (i64.const 0x240) (i64.const 0x230))))"
    " (func $give (param i64)" /* returns a register */
    "  (call $buf (i32.const 0x270) (i64.const 0x1000) (call $len (local.get 0))) (drop (call "
    "$take (local.get 0) (i64.const 0x270)))"
    "  (call $buf (i32.const 0x298) (i64.const 0x1000) (call $len (local.get 0))) (call $return "
    "(i64.const 0x290)))"
    " (func $spin (param i64) (loop $again (local.set 0 (i64.sub (local.get 0) (i64.const 1))) "
    "(br_if $again (i64.ne (local.get 0) (i64.const 0)))))"
    " (func (export \"init\") (call $setup) (call $root))"
    " (func (export \"put\") (call $put) (call $root))"
    " (func (export \"write_only\") (call $put))"
    " (func (export \"index_only\") (call $put) (call $index))"
    " (func (export \"trap_after_writes\") (call $put) (call $index) (unreachable))"
    " (func (export \"look\") (call $setup) (if (call $read (i64.const 0x220) (i64.const 1)) (then "
    "(call $give (i64.const 1)))))"
    " (func (export \"scan\") (call $setup) (drop (call $iscan (i64.const 0x250) (i64.const 0x260) "
    "(i64.const 0) (i64.const 0) (i64.const 2))) (call $give (i64.const 2)))"
    " (func (export \"private_kept\") (call $setup) (drop (call $pwrite (i64.const 0x220) "
    "(i64.const 0x230))) (call $root))"
    " (func (export \"private_lost\") (call $setup) (drop (call $pwrite (i64.const 0x220) "
    "(i64.const 0x230))))"
    " (func (export \"private_look\") (call $setup) (if (call $pread (i64.const 0x220) (i64.const "
    "1)) (then (call $give (i64.const 1)))))"
    " (func (export \"forever\") (call $put) (call $spin (i64.const 0)))"
    " (func (export \"slow\") (call $setup) (call $spin (i64.const 300000000)) (call $root))"
    " (func (export \"blobs\") (local i64) (call $setup) (local.set 0 (i64.const 200)) (loop $again"
    "  (drop (call $bread (call $bopen (i64.const 0x200)) (i64.const 0x230)))"
    "  (local.set 0 (i64.sub (local.get 0) (i64.const 1))) (br_if $again (i64.gt_s (local.get 0) "
    "(i64.const 101)))))"
    " (func $queue (call $setup) (call $input (i64.const 3))"
    "  (call $buf (i32.const 0x270) (i64.const 0x400) (call $len (i64.const 3))) (drop (call $take "
    "(i64.const 3) (i64.const 0x270)))"
    "  (call $buf (i32.const 0x2c0) (i64.const 0x400) (i64.const 32))"
    "  (call $buf (i32.const 0x2d0) (i64.const 0x420) (i64.sub (call $len (i64.const 3)) "
    "(i64.const 32)))"
    "  (call $buf (i32.const 0x2e0) (i64.const 0x400) (call $len (i64.const 3))) (call $xcall "
    "(i64.const 0x2c0)))"
    " (func (export \"send\") (call $queue) (call $root))"
    " (func (export \"send_and_trap\") (call $queue) (unreachable)))";

static const char abi[] = "{\"schema_version\":\"wasm-abi/"
                          "1\",\"types\":{},\"methods\":[{\"name\":\"look\",\"params\":[],"
                          "\"intent\":\"read_only\"}],\"events\":[]}";

static char root[] = "/tmp/guest_test_XXXXXX", module_path[200];
static cal_node *node;
static cal_application_id application;
static cal_group_id ns;
static cal_error err;

static int write_module(void) {
    wasm_byte_vec_t wasm;
    wasmtime_error_t *error = wasmtime_wat2wasm(guest, strlen(guest), &wasm);
    if (error) {
        wasm_name_t message;
        wasmtime_error_message(error, &message);
        fprintf(stderr, "%.*s\n", (int)message.size, message.data);
        return -1;
    }
    snprintf(module_path, sizeof module_path, "%s/guest.wasm", root);
    FILE *file = fopen(module_path, "wb");
    if (!file) return -1;
    fwrite(wasm.data, 1, wasm.size, file);
    size_t size = 1 + 15 + strlen(abi); /* the section: name length, name, content */
    uint8_t head[] = {0, (uint8_t)((size & 0x7f) | 0x80), (uint8_t)(size >> 7), 15};
    fwrite(head, 1, sizeof head, file);
    fwrite("calimero_abi_v1", 1, 15, file);
    fwrite(abi, 1, strlen(abi), file);
    wasm_byte_vec_delete(&wasm);
    return fclose(file);
}

/* Above what the slow guest takes on a machine that does six other things. */
enum { DEADLINE_MS = 6000 };

static int open_node(const char *name, uint32_t workers, uint32_t deadline_ms) {
    static char home[300];
    snprintf(home, sizeof home, "%s/%s", root, name);
    cal_node_options options = {.home = home,
                                .workers = workers,
                                .max_gas = 1000000000000,
                                .call_deadline_ms = deadline_ms};
    if (cal_node_init(&options, NULL, &err) != 0 || cal_node_start(&options, &node, &err) != 0)
        return -1;
    engine_signals_learn();
    if (cal_install_file_wait(node, module_path, NULL, &application, &err) != 0) return -1;
    return cal_namespace_create_wait(node, &application, "guests", &ns, &err);
}

static cal_context_id new_context(const cal_group_id *group) {
    cal_context_create_options options = {.application = application, .group = *group};
    cal_context_created created = {.id = {{0}}};
    if (cal_context_create_wait(node, &options, &created, &err) != 0)
        fail_msg("create: %s", err.message);
    return created.id;
}

struct answer {
    int code;
    size_t len;
    uint8_t output[2000];
    char message[300];
};

static void keep(void *user, const cal_call_result *result) {
    struct answer *answer = user;
    answer->len =
        result->output_len < sizeof answer->output ? result->output_len : sizeof answer->output;
    if (answer->len) memcpy(answer->output, result->output, answer->len);
    snprintf(answer->message, sizeof answer->message, "%s", result->message);
}

static struct answer call(cal_context_id context, const char *method, const void *input,
                          size_t len) {
    struct answer answer = {.code = 0};
    answer.code = cal_execute_wait(node, &context, method, input, len, keep, &answer, NULL);
    return answer;
}

static void expect(cal_context_id context, const char *method, int code, const char *output) {
    struct answer answer = call(context, method, "", 0);
    if (answer.code != code) fail_msg("%s: %s", method, answer.message);
    if (answer.len != strlen(output) || memcmp(answer.output, output, answer.len) != 0)
        fail_msg("%s returned %.*s", method, (int)answer.len, (char *)answer.output);
}

static uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* --- tests --- */

static void what_is_not_kept_is_never_seen(void **state) {
    (void)state;
    engine_signals_use();
    cal_context_id context = new_context(&ns);
    expect(context, "look", 0, "");
    expect(context, "write_only", 0, "");
    expect(context, "look", 0, "");
    expect(context, "trap_after_writes", CAL_EGUEST, "");
    expect(context, "look", 0, "");
    assert_int_equal(call(context, "scan", "", 0).output[0], 0); /* the trap's index row went too */
    expect(context, "index_only", 0, "");
    expect(context, "look", 0, "");
    assert_int_equal(call(context, "scan", "", 0).output[0],
                     1); /* index rows stay without a root */
    expect(context, "put", 0, "");
    expect(context, "look", 0, "\"dirty\"");
    expect(context, "private_lost", 0, "");
    expect(context, "private_look", 0, "");
    expect(context, "private_kept", 0, "");
    expect(context, "private_look", 0, "\"dirty\"");
}

static void a_deadline_stops_a_guest_and_leaves_nothing(void **state) {
    (void)state;
    engine_signals_use();
    cal_context_id context = new_context(&ns);
    uint64_t began = now_ms();
    struct answer answer = call(context, "forever", "", 0);
    assert_int_equal(answer.code, CAL_EGUEST);
    assert_non_null(strstr(answer.message, "time limit"));
    uint64_t took = now_ms() - began;
    assert_in_range(took, DEADLINE_MS, 2 * DEADLINE_MS);
    expect(context, "look", 0, "");
}

static void *run_blobs(void *user) {
    return call(*(cal_context_id *)user, "blobs", "", 0).code == 0 ? NULL : user;
}

static void count(void *user, const cal_context_info *info) {
    (void)info;
    ++*(int *)user;
}

static void nested_reads_never_wait_for_each_other(void **state) {
    (void)state;
    engine_signals_use();
    enum { GUESTS = 8 };
    alarm(60);
    cal_context_id contexts[GUESTS];
    pthread_t threads[GUESTS];
    for (int i = 0; i < GUESTS; i++) contexts[i] = new_context(&ns);
    for (int i = 0; i < GUESTS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_blobs, &contexts[i]), 0);
    for (int i = 0; i < 50; i++) {
        int found = 0;
        assert_int_equal(cal_context_each(node, NULL, NULL, count, &found), 0);
        assert_true(found >= GUESTS);
    }
    for (int i = 0; i < GUESTS; i++) {
        void *failed = NULL;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    alarm(0);
}

struct heard {
    pthread_mutex_t lock;
    pthread_cond_t came;
    int count;
    cal_xcall_status status;
    char detail[200];
};

static void hear(void *user, const cal_event *event) {
    struct heard *heard = user;
    if (event->type != CAL_EVENT_XCALL) return;
    pthread_mutex_lock(&heard->lock);
    heard->count++;
    heard->status = event->xcall_status;
    snprintf(heard->detail, sizeof heard->detail, "%s", event->xcall_detail);
    pthread_cond_signal(&heard->came);
    pthread_mutex_unlock(&heard->lock);
}

static void send_and_hear(struct heard *heard, cal_context_id from, cal_context_id to,
                          const char *function, cal_xcall_status status, const char *detail) {
    uint8_t input[200];
    memcpy(input, to.bytes, 32);
    memcpy(input + 32, function, strlen(function));
    pthread_mutex_lock(&heard->lock);
    int before = heard->count;
    pthread_mutex_unlock(&heard->lock);
    assert_int_equal(call(from, "send", input, 32 + strlen(function)).code, 0);
    pthread_mutex_lock(&heard->lock);
    while (heard->count == before) pthread_cond_wait(&heard->came, &heard->lock);
    assert_int_equal(heard->status, status);
    if (detail && !strstr(heard->detail, detail)) fail_msg("%s: %s", function, heard->detail);
    pthread_mutex_unlock(&heard->lock);
}

struct created {
    pthread_mutex_t lock;
    pthread_cond_t came;
    bool done;
    int code;
    cal_group_id id;
};

static void group_created(void *user, const cal_error *error, const cal_group_id *id) {
    struct created *created = user;
    pthread_mutex_lock(&created->lock);
    created->code = error ? error->code : 0;
    if (id) created->id = *id;
    created->done = true;
    pthread_cond_signal(&created->came);
    pthread_mutex_unlock(&created->lock);
}

static int await(struct created *created) {
    pthread_mutex_lock(&created->lock);
    while (!created->done) pthread_cond_wait(&created->came, &created->lock);
    created->done = false;
    pthread_mutex_unlock(&created->lock);
    return created->code;
}

static void simple_done(void *user, const cal_error *error) { group_created(user, error, NULL); }

static void xcalls_reach_what_they_may(void **state) {
    (void)state;
    engine_signals_use();
    alarm(60);
    struct heard heard = {.lock = PTHREAD_MUTEX_INITIALIZER, .came = PTHREAD_COND_INITIALIZER};
    struct created group = {.lock = PTHREAD_MUTEX_INITIALIZER, .came = PTHREAD_COND_INITIALIZER};
    cal_group_create(node, &ns, "other", false, group_created, &group);
    assert_int_equal(await(&group), 0);
    cal_context_id a = new_context(&ns), b = new_context(&ns), elsewhere = new_context(&group.id),
                   nowhere = {{9}};
    cal_subscription *subscription = cal_subscribe(node, &a, hear, &heard);
    send_and_hear(&heard, a, b, "put", CAL_XCALL_OK, "");
    expect(b, "look", 0, "\"dirty\"");
    send_and_hear(&heard, a, b, "nope", CAL_XCALL_ERROR, "not found");
    send_and_hear(&heard, a, b, "trap_after_writes", CAL_XCALL_ERROR, "unreachable");
    send_and_hear(&heard, a, elsewhere, "put", CAL_XCALL_DENIED, "owning group boundary");
    send_and_hear(&heard, a, nowhere, "put", CAL_XCALL_DENIED, "owning group boundary");
    send_and_hear(&heard, a, b, "__calimero_sync_next", CAL_XCALL_DENIED,
                  "not an xcall entry point");
    int before = heard.count;
    uint8_t input[200];
    memcpy(input, b.bytes, 32);
    memcpy(input + 32, "put", 3);
    assert_int_equal(call(a, "send_and_trap", input, 35).code, CAL_EGUEST);
    expect(a, "put", 0, "");
    assert_int_equal(heard.count, before); /* a failed call sends nothing */
    /* a's `send` handed to itself: each hop sends on until the depth is reached */
    memcpy(input, a.bytes, 32);
    memcpy(input + 32, "send", 4);
    assert_int_equal(call(a, "send", input, 36).code, 0);
    pthread_mutex_lock(&heard.lock);
    while (heard.status != CAL_XCALL_DENIED || !strstr(heard.detail, "depth"))
        pthread_cond_wait(&heard.came, &heard.lock);
    pthread_mutex_unlock(&heard.lock);
    cal_unsubscribe(node, subscription);
    alarm(0);
}

struct counts {
    pthread_mutex_t lock;
    pthread_cond_t came;
    int answered, overloaded, gone, canceled, fine;
};

static void count_answer(void *user, const cal_call_result *result) {
    struct counts *counts = user;
    pthread_mutex_lock(&counts->lock);
    counts->answered++;
    counts->overloaded += result->error == CAL_EOVERLOAD;
    counts->gone += result->error == CAL_ENOTFOUND;
    counts->canceled += result->error == CAL_ECANCELED;
    counts->fine += result->error == 0;
    pthread_cond_signal(&counts->came);
    pthread_mutex_unlock(&counts->lock);
}

static void queues_are_bounded_and_views_wait_for_nobody(void **state) {
    (void)state;
    engine_signals_use();
    cal_context_id context = new_context(&ns);
    expect(context, "look", 0, ""); /* the module and its ABI are in memory */
    struct counts counts = {.lock = PTHREAD_MUTEX_INITIALIZER, .came = PTHREAD_COND_INITIALIZER};
    cal_execute(node, &context, "slow", NULL, 0, count_answer, &counts);
    for (int i = 0; i < 1025; i++)
        cal_execute(node, &context, "put", NULL, 0, count_answer, &counts);
    expect(context, "look", 0, ""); /* answered while the writer runs */
    pthread_mutex_lock(&counts.lock);
    assert_int_equal(counts.overloaded, 1);
    assert_int_equal(counts.answered, 1);
    pthread_mutex_unlock(&counts.lock);
    struct created deletion = {.lock = PTHREAD_MUTEX_INITIALIZER, .came = PTHREAD_COND_INITIALIZER};
    cal_context_delete(node, &context, simple_done, &deletion);
    assert_int_equal(await(&deletion), 0);
    assert_int_equal(counts.gone, 1024);
    assert_int_equal(counts.fine, 1);
    assert_int_equal(call(context, "look", "", 0).code, CAL_ENOTFOUND);
}

static void names_and_applications_are_taken_once(void **state) {
    (void)state;
    engine_signals_use();
    struct created one = {.lock = PTHREAD_MUTEX_INITIALIZER, .came = PTHREAD_COND_INITIALIZER},
                   two = one;
    for (int i = 0; i < 20; i++) {
        char name[20];
        snprintf(name, sizeof name, "alias-%d", i);
        cal_alias_create(node, CAL_ALIAS_APPLICATION, name, application.bytes, simple_done, &one);
        cal_alias_create(node, CAL_ALIAS_APPLICATION, name, application.bytes, simple_done, &two);
        int first = await(&one), second = await(&two);
        assert_true((first == 0 && second == CAL_EEXISTS) || (first == CAL_EEXISTS && second == 0));
    }
    char path[300];
    snprintf(path, sizeof path, "cp %s %s/other.wasm", module_path, root);
    assert_int_equal(system(path), 0);
    snprintf(path, sizeof path, "%s/other.wasm", root);
    for (int i = 0; i < 10; i++) {
        cal_application_id other;
        assert_int_equal(cal_install_file_wait(node, path, NULL, &other, &err), 0);
        cal_namespace_create(node, &other, NULL, "race", group_created, &one);
        cal_uninstall(node, &other, simple_done, &two);
        int created = await(&one), removed = await(&two);
        assert_true(created != 0 || removed != 0);
        if (created != 0) continue;
        cal_namespace_delete(node, &one.id, simple_done, &one);
        assert_int_equal(await(&one), 0);
    }
}

static void namespaces_go_whole_whatever_comes_between(void **state) {
    (void)state;
    engine_signals_use();
    for (int round = 0; round < 5; round++) {
        struct created deletion = {.lock = PTHREAD_MUTEX_INITIALIZER,
                                   .came = PTHREAD_COND_INITIALIZER},
                       purge = deletion;
        struct counts counts = {.lock = PTHREAD_MUTEX_INITIALIZER,
                                .came = PTHREAD_COND_INITIALIZER};
        cal_group_id doomed;
        assert_int_equal(cal_namespace_create_wait(node, &application, "doomed", &doomed, &err), 0);
        cal_context_id context = new_context(&doomed);
        cal_execute(node, &context, "slow", NULL, 0, count_answer, &counts);
        if (round % 2) cal_context_delete(node, &context, simple_done, &deletion);
        cal_namespace_delete(node, &doomed, simple_done, &purge);
        cal_context_create_options options = {.application = application, .group = doomed};
        cal_context_created late;
        int created = cal_context_create_wait(node, &options, &late, &err);
        if (round % 2) assert_int_equal(await(&deletion), 0);
        assert_int_equal(await(&purge), 0);
        assert_int_not_equal(created, 0);
        int found = 0;
        assert_int_equal(cal_context_each(node, NULL, &doomed, count, &found), 0);
        assert_int_equal(found, 0);
    }
}

static void a_stop_waits_for_what_runs_only(void **state) {
    (void)state;
    engine_signals_use();
    cal_context_id context = new_context(&ns);
    struct counts counts = {.lock = PTHREAD_MUTEX_INITIALIZER, .came = PTHREAD_COND_INITIALIZER};
    for (int i = 0; i < 20; i++)
        cal_execute(node, &context, "slow", NULL, 0, count_answer, &counts);
    uint64_t began = now_ms();
    cal_node_stop(node);
    node = NULL;
    assert_true(now_ms() - began < 5000);
    assert_int_equal(counts.answered, 20);
    assert_int_equal(counts.canceled, 19);
    char home[300];
    snprintf(home, sizeof home, "%s/guests", root);
    cal_check_summary summary;
    cal_node_options options = {.home = home};
    if (cal_node_check(&options, NULL, NULL, &summary, &err) != 0)
        fail_msg("check: %s", err.message);
}

int main(void) {
    if (!mkdtemp(root) || write_module() != 0) return 2;
    if (open_node("guests", 4, DEADLINE_MS) != 0) {
        fprintf(stderr, "guest_test: %s\n", err.message);
        return 2;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_kept_is_never_seen),
        cmocka_unit_test(a_deadline_stops_a_guest_and_leaves_nothing),
        cmocka_unit_test(nested_reads_never_wait_for_each_other),
        cmocka_unit_test(xcalls_reach_what_they_may),
        cmocka_unit_test(queues_are_bounded_and_views_wait_for_nobody),
        cmocka_unit_test(names_and_applications_are_taken_once),
        cmocka_unit_test(namespaces_go_whole_whatever_comes_between),
        cmocka_unit_test(a_stop_waits_for_what_runs_only),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    char command[300];
    snprintf(command, sizeof command, "rm -rf %s", root);
    if (failed == 0 && system(command) != 0) return 1;
    return failed;
}
