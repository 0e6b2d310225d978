/* What the node promises of its small things, one node through its public API: names, events whose
 * hearers come and go, blobs, and what a refusal leaves behind. Argument: a kv-store.wasm. */
#include <limits.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <calimero/calimero.h>

#include "support/engine_signals.h"

static const char *app_path;
static char root[] = "/tmp/node_small_test_XXXXXX", home[200];
static cal_node *node;
static cal_application_id application;
static cal_group_id ns;
static cal_context_id context;
static cal_error err;

#define OK(call)                                                                                   \
    do {                                                                                           \
        err.message[0] = 0;                                                                        \
        int code_ = (call);                                                                        \
        if (code_ != 0) fail_msg("%s: %s: %s", #call, cal_error_name(code_), err.message);         \
    } while (0)

/* --- answers that are waited for --- */

typedef struct waiting {
    sem_t answered;
    int code;
} waiting;

static void answered(void *user, const cal_error *e) {
    waiting *w = user;
    w->code = e ? e->code : 0;
    sem_post(&w->answered);
}

static int answer_of(waiting *w) {
    while (sem_wait(&w->answered) != 0) continue;
    sem_destroy(&w->answered);
    return w->code;
}

static int name_it(cal_alias_kind kind, const char *name, uint8_t byte) {
    uint8_t id[CAL_ID_SIZE] = {byte};
    waiting w;
    sem_init(&w.answered, 0, 0);
    cal_alias_create(node, kind, name, id, answered, &w);
    return answer_of(&w);
}

static int delete_blob(const cal_blob_id *id) {
    waiting w;
    sem_init(&w.answered, 0, 0);
    cal_blob_delete(node, id, answered, &w);
    return answer_of(&w);
}

/* --- aliases --- */

static void names_of_contexts_and_applications_are_apart(void **state) {
    (void)state;
    uint8_t id[CAL_ID_SIZE];
    OK(name_it(CAL_ALIAS_CONTEXT, "same", 1));
    OK(name_it(CAL_ALIAS_APPLICATION, "same", 2));
    assert_int_equal(name_it(CAL_ALIAS_CONTEXT, "same", 3), CAL_EEXISTS);
    OK(cal_alias_lookup(node, CAL_ALIAS_CONTEXT, "same", id));
    assert_int_equal(id[0], 1);
    OK(cal_alias_lookup(node, CAL_ALIAS_APPLICATION, "same", id));
    assert_int_equal(id[0], 2);
}

static void a_name_has_fifty_letters_at_most(void **state) {
    (void)state;
    uint8_t id[CAL_ID_SIZE];
    char name[52];
    memset(name, 'n', sizeof name);
    name[51] = 0;
    assert_int_equal(name_it(CAL_ALIAS_CONTEXT, name, 1), CAL_EINVAL);
    name[50] = 0;
    OK(name_it(CAL_ALIAS_CONTEXT, name, 5));
    OK(cal_alias_lookup(node, CAL_ALIAS_CONTEXT, name, id));
    assert_int_equal(id[0], 5);
    assert_int_equal(name_it(CAL_ALIAS_CONTEXT, "", 1), CAL_EINVAL);
    assert_int_equal(name_it(CAL_ALIAS_CONTEXT, "a b", 1), CAL_EINVAL);
}

/* --- events --- */

/* One who hears, and lets others go while it does. */
typedef struct hearer {
    int events;
    cal_subscription *own;
    struct hearer *lets_go[3]; /* NULL: nobody more */
} hearer;

static void hear(void *user, const cal_event *event) {
    hearer *h = user;
    (void)event;
    h->events++;
    for (size_t i = 0; i < 3 && h->lets_go[i]; i++) {
        cal_unsubscribe(node, h->lets_go[i]->own);
        h->lets_go[i]->own = NULL;
        h->lets_go[i] = NULL;
    }
}

static void nothing(void *arg) { (void)arg; }

static void write_one(void) {
    static const char args[] = "{\"key\":\"k\",\"value\":\"v\"}";
    OK(cal_execute_wait(node, &context, "set", args, sizeof args - 1, NULL, NULL, &err));
    cal_node_run(node, nothing, NULL); /* events come right after the answer, on the loop */
}

static void who_goes_during_an_event_hears_no_more(void **state) {
    (void)state;
    hearer first = {0}, second = {0}, third = {0}, last = {0};
    hearer *const all[] = {&first, &second, &third, &last};
    for (size_t i = 0; i < 4; i++) {
        all[i]->own = cal_subscribe(node, &context, hear, all[i]);
        assert_non_null(all[i]->own);
    }
    second.lets_go[0] = &first; /* who has heard it, the next one, and itself */
    second.lets_go[1] = &third;
    second.lets_go[2] = &second;
    write_one();
    assert_int_equal(first.events, 1);
    assert_int_equal(second.events, 1);
    assert_int_equal(third.events, 0);
    assert_int_equal(last.events, 1);
    write_one();
    assert_int_equal(first.events + second.events + third.events, 2);
    assert_int_equal(last.events, 2);
    cal_unsubscribe(node, last.own);
    write_one();
    assert_int_equal(last.events, 2);
}

/* --- blobs --- */

static void copy_code(void *user, const cal_app_info *info) {
    *(cal_blob_id *)user = info->bytecode;
}

static void code_of_an_application_is_no_blob_to_delete(void **state) {
    (void)state;
    cal_blob_id code, blob;
    cal_blob_info info;
    OK(cal_app_get(node, &application, copy_code, &code));
    assert_int_equal(delete_blob(&code), CAL_EDENIED);
    OK(cal_blob_stat(node, &code, &info));
    OK(cal_blob_put_wait(node, "anything", 8, &blob, &err));
    OK(delete_blob(&blob));
    assert_int_equal(cal_blob_stat(node, &blob, &info), CAL_ENOTFOUND);
    assert_int_equal(delete_blob(&blob), CAL_ENOTFOUND);
}

static void finished(void *user, const cal_error *e, const cal_blob_info *info) {
    (void)info;
    answered(user, e);
}

static int put_expecting(const char *text, const cal_blob_id *expected) {
    waiting w;
    cal_blob_writer *writer = cal_blob_create(node);
    assert_non_null(writer);
    sem_init(&w.answered, 0, 0);
    cal_blob_write(writer, text, strlen(text), answered, &w);
    OK(answer_of(&w));
    sem_init(&w.answered, 0, 0);
    cal_blob_finish(writer, expected, finished, &w);
    return answer_of(&w);
}

static void an_upload_is_what_it_was_said_to_be(void **state) {
    (void)state;
    cal_blob_id id;
    cal_blob_info info;
    OK(cal_blob_put_wait(node, "as announced", 12, &id, &err));
    OK(delete_blob(&id));
    assert_int_not_equal(put_expecting("something else", &id), 0);
    assert_int_equal(cal_blob_stat(node, &id, &info), CAL_ENOTFOUND);
    OK(put_expecting("as announced", &id));
    OK(cal_blob_stat(node, &id, &info));
}

/* --- what is refused --- */

static void count_blob(void *user, const cal_blob_info *info) {
    (void)info;
    ++*(size_t *)user;
}

static void code_that_does_not_compile_leaves_no_blob(void **state) {
    (void)state;
    char path[PATH_MAX];
    size_t before = 0, after = 0;
    cal_application_id id;
    snprintf(path, sizeof path, "%s/broken.wasm", root);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite("\0asm\1\0\0\0nonsense", 1, 16, file), 16);
    assert_int_equal(fclose(file), 0);
    OK(cal_blob_each(node, count_blob, &before));
    assert_int_not_equal(cal_install_file_wait(node, path, NULL, &id, &err), 0);
    OK(cal_blob_each(node, count_blob, &after));
    assert_int_equal(after, before);
}

static void a_context_runs_the_application_of_its_group(void **state) {
    (void)state;
    cal_context_create_options create = {.application = {{7}}, .group = ns};
    cal_context_created created;
    assert_int_equal(cal_context_create_wait(node, &create, &created, &err), CAL_EINVAL);
    assert_non_null(strstr(err.message, "the group runs application"));
}

static int open_node(void **state) {
    (void)state;
    if (!mkdtemp(root)) return -1;
    snprintf(home, sizeof home, "%s/home", root);
    const cal_node_options options = {.home = home};
    OK(cal_node_init(&options, NULL, &err));
    OK(cal_node_start(&options, &node, &err));
    engine_signals_learn();
    engine_signals_use();
    OK(cal_install_file_wait(node, app_path, NULL, &application, &err));
    OK(cal_namespace_create_wait(node, &application, "test", &ns, &err));
    cal_context_create_options create = {.application = application, .group = ns};
    cal_context_created created;
    OK(cal_context_create_wait(node, &create, &created, &err));
    context = created.id;
    return 0;
}

static int close_node(void **state) {
    (void)state;
    char command[300];
    cal_node_stop(node);
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_contexts_and_applications_are_apart),
        cmocka_unit_test(a_name_has_fifty_letters_at_most),
        cmocka_unit_test(who_goes_during_an_event_hears_no_more),
        cmocka_unit_test(code_of_an_application_is_no_blob_to_delete),
        cmocka_unit_test(an_upload_is_what_it_was_said_to_be),
        cmocka_unit_test(code_that_does_not_compile_leaves_no_blob),
        cmocka_unit_test(a_context_runs_the_application_of_its_group),
    };
    if (argc != 2) {
        fprintf(stderr, "usage: %s KV_STORE_WASM\n", argv[0]);
        return 2;
    }
    app_path = argv[1];
    return cmocka_run_group_tests(tests, open_node, close_node);
}
