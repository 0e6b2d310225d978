/* The whole node through its public API: from an empty folder to contexts that survive restarts,
 * backups and a change of keys. The application is apps/kv-store, compiled to WebAssembly. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <calimero/calimero.h>

#include "support/engine_signals.h"

static const char *app_path;
static char root[] = "/tmp/node_test_XXXXXX";

struct world {
    char home[200];
    cal_node_options options;
    cal_node *node;
    cal_application_id application;
    cal_group_id ns;
    cal_context_id context;
};

static cal_error err;

#define OK(call)                                                                                   \
    do {                                                                                           \
        err.message[0] = 0;                                                                        \
        int code_ = (call);                                                                        \
        if (code_ != 0) fail_msg("%s: %s: %s", #call, cal_error_name(code_), err.message);         \
    } while (0)

static void world_open(struct world *world, const char *name) {
    *world = (struct world){.node = NULL};
    snprintf(world->home, sizeof world->home, "%s/%s", root, name);
    world->options = (cal_node_options){.home = world->home};
    OK(cal_node_init(&world->options, NULL, &err));
    OK(cal_node_start(&world->options, &world->node, &err));
    static bool learned;
    if (!learned) engine_signals_learn();
    learned = true;
    engine_signals_use();
    OK(cal_install_file_wait(world->node, app_path, NULL, &world->application, &err));
    OK(cal_namespace_create_wait(world->node, &world->application, "test", &world->ns, &err));
    cal_context_create_options create = {
        .application = world->application, .group = world->ns, .name = "first"};
    cal_context_created created;
    OK(cal_context_create_wait(world->node, &create, &created, &err));
    world->context = created.id;
}

static void restart(struct world *world) {
    cal_node_stop(world->node);
    OK(cal_node_start(&world->options, &world->node, &err));
}

struct answer {
    int code;
    bool changed;
    char output[4000];
    char message[1000];
    cal_hash root;
};

static void keep(void *user, const cal_call_result *result) {
    struct answer *answer = user;
    answer->changed = result->changed;
    answer->root = result->root;
    snprintf(answer->output, sizeof answer->output, "%.*s", (int)result->output_len,
             result->output ? (const char *)result->output : "");
    snprintf(answer->message, sizeof answer->message, "%s", result->message);
}

static struct answer call(const struct world *world, const char *method, const char *args) {
    struct answer answer = {.code = 0};
    answer.code = cal_execute_wait(world->node, &world->context, method, args, strlen(args), keep,
                                   &answer, NULL);
    return answer;
}

static void set(const struct world *world, const char *key, const char *value) {
    char args[2000];
    snprintf(args, sizeof args, "{\"key\":\"%s\",\"value\":\"%s\"}", key, value);
    struct answer answer = call(world, "set", args);
    if (answer.code != 0) fail_msg("set: %s", answer.message);
    assert_true(answer.changed);
}

static void expect(const struct world *world, const char *key, const char *json) {
    char args[300];
    snprintf(args, sizeof args, "{\"key\":\"%s\"}", key);
    struct answer answer = call(world, "get", args);
    if (answer.code != 0) fail_msg("get: %s", answer.message);
    assert_string_equal(answer.output, json);
    assert_false(answer.changed);
}

static int shell(const char *format, ...) {
    char command[1000];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    return system(command);
}

static void copy_root(void *user, const cal_context_info *info) { *(cal_hash *)user = info->root; }

/* --- tests --- */

/* What holds the loop up: 20 ms of waiting, or of work. */
static void hold_up(void *arg) {
    struct timespec now, began;
    bool works = *(bool *)arg;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &began);
    if (!works) usleep(20000);
    do clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    while (works &&
           (now.tv_sec - began.tv_sec) * 1000000000 + now.tv_nsec - began.tv_nsec < 20000000);
}

/* The figures once there are more late turns than `late`: a turn is measured when it is over. */
static cal_node_stats stats_after(const struct world *world, uint64_t late) {
    cal_node_stats stats;
    for (int left = 100000; left > 0; left--) {
        cal_node_stats_get(world->node, &stats);
        if (stats.loop_late > late) return stats;
    }
    fail_msg("the late turn is not counted");
    return stats;
}

static void the_watchdog_sees_what_holds_the_loop_up(void **state) {
    (void)state;
    struct world world;
    struct timespec opened, ready;
    clock_gettime(CLOCK_MONOTONIC, &opened);
    world_open(&world, "watchdog");
    clock_gettime(CLOCK_MONOTONIC, &ready);
    cal_node_stats before, waited, worked;
    bool works = false;
    cal_node_stats_get(world.node, &before);
    /* Workers compiled; the loop had next to nothing to do, and its waiting does not count. */
    assert_true((double)before.loop_busy_ns_total <
                5e8 * (double)(ready.tv_sec - opened.tv_sec) +
                    0.5 * (double)(ready.tv_nsec - opened.tv_nsec));
    cal_node_run(world.node, hold_up, &works);
    waited = stats_after(&world, before.loop_late);
    assert_true(waited.loop_longest_ns >= 20000000);
    assert_true(waited.loop_turns > before.loop_turns);
    works = true;
    cal_node_run(world.node, hold_up, &works);
    worked = stats_after(&world, waited.loop_late);
    assert_true(worked.loop_late_by_itself > waited.loop_late_by_itself);
    assert_true(worked.loop_longest_processor_ns >= 20000000);
    assert_true(worked.loop_busy_ns_total >= before.loop_busy_ns_total + 40000000);
    cal_node_stop(world.node);
}

static void writes_survive_a_restart_with_the_same_root(void **state) {
    (void)state;
    struct world world;
    world_open(&world, "restart");
    set(&world, "a", "1");
    set(&world, "b", "2");
    cal_hash before, after;
    OK(cal_context_get(world.node, &world.context, copy_root, &before));
    restart(&world);
    OK(cal_context_get(world.node, &world.context, copy_root, &after));
    assert_memory_equal(&before, &after, sizeof before);
    expect(&world, "a", "\"1\"");
    expect(&world, "b", "\"2\"");
    expect(&world, "c", "null");
    cal_node_stop(world.node);
}

static void a_failed_call_leaves_no_trace(void **state) {
    (void)state;
    struct world world;
    world_open(&world, "failed");
    set(&world, "a", "1");
    cal_hash before, after;
    OK(cal_context_get(world.node, &world.context, copy_root, &before));
    struct answer answer = call(&world, "set", "{\"key\":\"a\"}");
    assert_int_equal(answer.code, CAL_EGUEST);
    assert_non_null(strstr(answer.message, "guest panicked"));
    assert_int_equal(call(&world, "nope", "").code, CAL_EGUEST);
    answer = call(&world, "__calimero_sync_next", "");
    assert_int_equal(answer.code, CAL_EDENIED);
    OK(cal_context_get(world.node, &world.context, copy_root, &after));
    assert_memory_equal(&before, &after, sizeof before);
    cal_context_id unknown = {{9}};
    assert_int_equal(cal_execute_wait(world.node, &unknown, "get", "", 0, NULL, NULL, &err),
                     CAL_ENOTFOUND);
    cal_node_stop(world.node);
}

struct heard {
    int events;
    char kind[100], data[300];
};

static void hear(void *user, const cal_event *event) {
    struct heard *heard = user;
    heard->events++;
    if (event->event_count == 0) return;
    snprintf(heard->kind, sizeof heard->kind, "%s", event->events[0].kind);
    snprintf(heard->data, sizeof heard->data, "%.*s", (int)event->events[0].data_len,
             (const char *)event->events[0].data);
}

static void nothing(void *arg) { (void)arg; }

static void events_reach_their_subscribers(void **state) {
    (void)state;
    struct world world;
    world_open(&world, "events");
    struct heard here = {.events = 0}, elsewhere = {.events = 0};
    cal_context_id other = {{1}};
    cal_subscription *mine = cal_subscribe(world.node, &world.context, hear, &here);
    cal_subscription *others = cal_subscribe(world.node, &other, hear, &elsewhere);
    set(&world, "a", "1");
    cal_node_run(world.node, nothing, NULL); /* events come right after the answer, on the loop */
    assert_int_equal(here.events, 1);
    assert_int_equal(elsewhere.events, 0);
    assert_string_equal(here.kind, "Inserted");
    assert_string_equal(here.data, "{\"key\":\"a\",\"value\":\"1\"}");
    cal_unsubscribe(world.node, mine);
    set(&world, "a", "2");
    cal_node_run(world.node, nothing, NULL);
    assert_int_equal(here.events, 1);
    cal_unsubscribe(world.node, others);
    cal_node_stop(world.node);
}

static void nothing_readable_is_on_the_disk(void **state) {
    (void)state;
    struct world world;
    world_open(&world, "secret");
    set(&world, "QuiteAPeculiarKey", "AndAnEvenStrangerValue");
    cal_blob_id blob;
    OK(cal_blob_put_wait(world.node, "PlainBlobContentForTheSearch", 28, &blob, &err));
    cal_node_stop(world.node);
    assert_int_equal(
        shell(
            "grep -raqE "
            "'QuiteAPeculiarKey|AndAnEvenStrangerValue|PlainBlobContent|Inserted|get_unchecked' %s",
            world.home) >>
            8,
        1);
}

static void count_context(void *user, const cal_context_info *info) {
    (void)info;
    ++*(int *)user;
}

struct done {
    int code;
    atomic_bool called;
};

static void finished(void *user, const cal_error *error) {
    struct done *done = user;
    done->code = error ? error->code : 0;
    done->called = true;
}

static int await(const struct world *world, struct done *done) {
    for (int i = 0; i < 100000 && !done->called; i++) {
        cal_node_run(world->node, nothing, NULL);
        if (!done->called) usleep(100);
    }
    assert_true(done->called);
    done->called = false;
    return done->code;
}

/* --- the topics of what is here --- */

struct topics {
    const struct world *world;
    char wanted[80];
    int all, found;
};

static void note_topic(void *user, const char *topic, size_t peers, size_t mesh) {
    struct topics *topics = user;
    (void)peers, (void)mesh;
    topics->all++;
    topics->found += strcmp(topic, topics->wanted) == 0;
}

static void ask_topics(void *arg) {
    struct topics *topics = arg;
    cal_p2p_topics(cal_node_p2p(topics->world->node), note_topic, topics);
}

static bool hears_context(const struct world *world, const cal_context_id *id) {
    struct topics topics = {.world = world};
    cal_id_to_base58(id->bytes, topics.wanted);
    cal_node_run(world->node, ask_topics, &topics);
    return topics.found == 1;
}

static bool hears_namespace(const struct world *world) {
    struct topics topics = {.world = world, .wanted = "ns/"};
    for (int i = 0; i < 32; i++) sprintf(topics.wanted + 3 + 2 * i, "%02x", world->ns.bytes[i]);
    cal_node_run(world->node, ask_topics, &topics);
    return topics.found == 1;
}

static int topic_count(const struct world *world) {
    struct topics topics = {.world = world};
    cal_node_run(world->node, ask_topics, &topics);
    return topics.all;
}

static void contexts_and_namespaces_go_whole(void **state) {
    (void)state;
    struct world world;
    world_open(&world, "delete");
    set(&world, "a", "1");
    cal_context_create_options create = {.application = world.application, .group = world.ns};
    cal_context_created second;
    OK(cal_context_create_wait(world.node, &create, &second, &err));
    int count = 0;
    OK(cal_context_each(world.node, NULL, NULL, count_context, &count));
    assert_int_equal(count, 2);
    struct done done = {.called = false};
    cal_uninstall(world.node, &world.application, finished, &done);
    assert_int_equal(await(&world, &done), CAL_ESTATE);
    assert_true(hears_context(&world, &second.id) && hears_context(&world, &world.context));
    assert_true(hears_namespace(&world));
    restart(&world);
    assert_true(hears_context(&world, &second.id) && hears_context(&world, &world.context));
    assert_true(hears_namespace(&world));
    assert_int_equal(topic_count(&world), 3);
    cal_context_delete(world.node, &second.id, finished, &done);
    assert_int_equal(await(&world, &done), 0);
    assert_false(hears_context(&world, &second.id));
    cal_context_delete(world.node, &second.id, finished, &done);
    assert_int_equal(await(&world, &done), CAL_ENOTFOUND);
    cal_namespace_delete(world.node, &world.ns, finished, &done);
    assert_int_equal(await(&world, &done), 0);
    assert_int_equal(topic_count(&world), 0);
    count = 0;
    OK(cal_context_each(world.node, NULL, NULL, count_context, &count));
    assert_int_equal(count, 0);
    assert_int_equal(call(&world, "get", "{\"key\":\"a\"}").code, CAL_ENOTFOUND);
    cal_uninstall(world.node, &world.application, finished, &done);
    assert_int_equal(await(&world, &done), 0);
    cal_node_stop(world.node);
    cal_check_summary summary;
    OK(cal_node_check(&world.options, NULL, NULL, &summary, &err));
}

/* A namespace of many contexts goes in steps: gone for everybody with the answer, whatever of its
 * rows a stop leaves, and a check finds nothing wrong in between. */
static void a_large_namespace_goes_in_steps(void **state) {
    (void)state;
    struct world world;
    world_open(&world, "large");
    enum { CONTEXTS = 200 };
    cal_context_create_options create = {.application = world.application, .group = world.ns};
    cal_context_created created;
    for (int i = 0; i < CONTEXTS; i++)
        OK(cal_context_create_wait(world.node, &create, &created, &err));
    set(&world, "a", "1");
    assert_int_equal(topic_count(&world), CONTEXTS + 2);
    struct done done = {.called = false};
    cal_namespace_delete(world.node, &world.ns, finished, &done);
    assert_int_equal(await(&world, &done), 0);
    assert_int_equal(topic_count(&world), 0);
    cal_namespace_delete(world.node, &world.ns, finished, &done);
    assert_int_equal(await(&world, &done), CAL_ENOTFOUND);
    cal_check_summary summary = {.operations = 1};
    for (int round = 0; round < 100 && summary.operations > 0; round++) {
        int count = 0;
        OK(cal_context_each(world.node, NULL, NULL, count_context, &count));
        assert_int_equal(count, 0);
        for (int i = 0; i < 1000; i++) /* some time for it, then a stop in the middle */
            assert_int_equal(call(&world, "get", "{\"key\":\"a\"}").code, CAL_ENOTFOUND);
        cal_node_stop(world.node);
        OK(cal_node_check(&world.options, NULL, NULL, &summary, &err));
        OK(cal_node_start(&world.options, &world.node, &err));
    }
    assert_int_equal(summary.operations, 0);
    cal_node_stop(world.node);
}

static void a_backup_of_a_running_node_starts(void **state) {
    (void)state;
    struct world world;
    world_open(&world, "backup");
    set(&world, "a", "1");
    char folder[300], key[300];
    snprintf(folder, sizeof folder, "%s/copy", root);
    OK(cal_node_backup(world.node, folder, NULL, NULL, &err));
    set(&world, "a", "2");
    cal_node_stop(world.node);
    snprintf(key, sizeof key, "%s/master.key", world.home);
    cal_node_options options = {.home = folder, .key = {.kind = CAL_NODE_KEY_FILE, .text = key}};
    cal_check_summary summary;
    OK(cal_node_check(&options, NULL, NULL, &summary, &err));
    assert_int_equal(summary.contexts, 1);
    OK(cal_node_start(&options, &world.node, &err));
    expect(&world, "a", "\"1\"");
    cal_node_stop(world.node);
}

static void the_master_key_can_be_changed(void **state) {
    (void)state;
    struct world world;
    world_open(&world, "rekey");
    set(&world, "a", "1");
    cal_node *second = NULL;
    assert_int_equal(cal_node_start(&world.options, &second, &err), CAL_EBUSY);
    cal_node_stop(world.node);
    cal_node_key passphrase = {.kind = CAL_NODE_KEY_PASSPHRASE, .text = "correct horse"};
    OK(cal_node_rekey(&world.options, &passphrase, &err));
    assert_int_not_equal(cal_node_start(&world.options, &second, &err), 0);
    world.options.key = passphrase;
    world.options.key.text = "wrong horse";
    assert_int_equal(cal_node_start(&world.options, &second, &err), CAL_EKEY);
    world.options.key = passphrase;
    OK(cal_node_start(&world.options, &world.node, &err));
    expect(&world, "a", "\"1\"");
    cal_node_stop(world.node);
}

static void a_full_disk_fails_writes_and_nothing_else(void **state) {
    (void)state;
    char disk[300];
    snprintf(disk, sizeof disk, "%s/disk", root);
    mkdir(disk, 0700);
    if (mount("tmpfs", disk, "tmpfs", 0, "size=24m") != 0) {
        print_message("skipped: a small disk cannot be mounted here (needs root)\n");
        skip();
    }
    struct world world;
    world_open(&world, "disk/node");
    set(&world, "before", "1");
    assert_int_equal(shell("head -c 100m /dev/zero > %s/filler 2>/dev/null", disk) >> 8, 1);
    char value[1001];
    memset(value, 'x', 1000);
    value[1000] = 0;
    struct answer answer = {.code = 0};
    for (int i = 0; i < 20000 && answer.code == 0; i++) {
        char args[1200];
        snprintf(args, sizeof args, "{\"key\":\"k%d\",\"value\":\"%s\"}", i, value);
        answer = call(&world, "set", args);
    }
    assert_int_equal(answer.code, CAL_EFULL);
    assert_int_equal(cal_node_health(world.node), CAL_EFULL);
    expect(&world, "before", "\"1\"");
    assert_int_equal(shell("rm %s/filler", disk), 0);
    set(&world, "after", "2");
    assert_int_equal(cal_node_health(world.node), 0);
    cal_node_stop(world.node);
    cal_check_summary summary;
    OK(cal_node_check(&world.options, NULL, NULL, &summary, &err));
    umount(disk);
}

static void many_callers_share_contexts(void **state);

int main(int argc, char **argv) {
    if (argc != 2 || !mkdtemp(root)) return 2;
    app_path = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_watchdog_sees_what_holds_the_loop_up),
        cmocka_unit_test(writes_survive_a_restart_with_the_same_root),
        cmocka_unit_test(a_failed_call_leaves_no_trace),
        cmocka_unit_test(events_reach_their_subscribers),
        cmocka_unit_test(nothing_readable_is_on_the_disk),
        cmocka_unit_test(contexts_and_namespaces_go_whole),
        cmocka_unit_test(a_large_namespace_goes_in_steps),
        cmocka_unit_test(a_backup_of_a_running_node_starts),
        cmocka_unit_test(the_master_key_can_be_changed),
        cmocka_unit_test(a_full_disk_fails_writes_and_nothing_else),
        cmocka_unit_test(many_callers_share_contexts),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (failed == 0) shell("rm -rf %s", root);
    return failed;
}

/* --- concurrency --- */

#include <pthread.h>

struct caller {
    const struct world *world;
    int number, failures;
};

static void *increment(void *user) {
    struct caller *caller = user;
    for (int i = 0; i < 50; i++) {
        char args[100];
        snprintf(args, sizeof args, "{\"key\":\"%d-%d\",\"value\":\"%d\"}", caller->number, i, i);
        caller->failures += call(caller->world, "set", args).code != 0;
        snprintf(args, sizeof args, "{\"key\":\"%d-%d\"}", caller->number, i);
        caller->failures += call(caller->world, "get", args).code != 0;
    }
    return NULL;
}

static void many_callers_share_contexts(void **state) {
    (void)state;
    enum { CALLERS = 8 };
    struct world world;
    world_open(&world, "many");
    pthread_t threads[CALLERS];
    struct caller callers[CALLERS];
    for (int i = 0; i < CALLERS; i++) {
        callers[i] = (struct caller){&world, i, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, increment, &callers[i]), 0);
    }
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(callers[i].failures, 0);
    }
    for (int i = 0; i < CALLERS; i++) {
        char key[20];
        snprintf(key, sizeof key, "%d-49", i);
        expect(&world, key, "\"49\"");
    }
    cal_node_stop(world.node);
    cal_check_summary summary;
    OK(cal_node_check(&world.options, NULL, NULL, &summary, &err));
    assert_true(summary.deltas >= CALLERS * 50);
}
