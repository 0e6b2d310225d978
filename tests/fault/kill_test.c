/* kill -9 under four writers, again and again: every acknowledged write is there afterwards, and
 * the walk of the store finds nothing.
 *
 * Each round a child process runs a node and four threads that write numbered keys; what was
 * acknowledged is reported through a pipe. The parent kills it at a random moment, starts another
 * child that reads back what the round acknowledged, and at the end all of it. CAL_KILLS sets the
 * number of rounds, CAL_SEED the moments. */
#include <calimero/calimero.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WRITERS = 4, ROUNDS = 50, KEYS_MAX = 1000000 };

static char home[] = "/tmp/kill_test_XXXXXX";
static cal_node_options options = {.home = home, .workers = 2};

struct acknowledgement {
    uint32_t writer, number;
};

struct shared { /* what the children need to know, written by the first one */
    cal_context_id context;
    uint32_t first[WRITERS]; /* next number of each writer */
};

static int die(const char *what, const cal_error *err) {
    fprintf(stderr, "kill_test: %s: %s\n", what, err->message);
    return 1;
}

/* --- the children --- */

static int prepare(int out, const char *app) {
    cal_error err;
    cal_node *node;
    cal_application_id application;
    cal_group_id ns;
    cal_context_created created;
    if (cal_node_init(&options, NULL, &err) != 0) return die("init", &err);
    if (cal_node_start(&options, &node, &err) != 0) return die("start", &err);
    if (cal_install_file_wait(node, app, NULL, &application, &err) != 0)
        return die("install", &err);
    if (cal_namespace_create_wait(node, &application, "kills", &ns, &err) != 0)
        return die("namespace", &err);
    cal_context_create_options create = {.application = application, .group = ns};
    if (cal_context_create_wait(node, &create, &created, &err) != 0) return die("context", &err);
    cal_node_stop(node);
    return write(out, &created.id, sizeof created.id) == sizeof created.id ? 0 : 1;
}

struct writer {
    cal_node *node;
    const struct shared *shared;
    uint32_t writer;
    int out;
};

static void *write_on(void *user) {
    const struct writer *writer = user;
    for (uint32_t number = writer->shared->first[writer->writer];; number++) {
        char args[100];
        int len = snprintf(args, sizeof args, "{\"key\":\"w%u-%u\",\"value\":\"v%u\"}",
                           writer->writer, number, number * 7);
        cal_error err;
        if (cal_execute_wait(writer->node, &writer->shared->context, "set", args, (size_t)len, NULL,
                             NULL, &err) != 0) {
            die("set", &err);
            _exit(3);
        }
        struct acknowledgement done = {writer->writer, number};
        if (write(writer->out, &done, sizeof done) != sizeof done) _exit(4);
    }
}

static int write_until_killed(int out, const struct shared *shared) {
    cal_error err;
    cal_node *node;
    if (cal_node_start(&options, &node, &err) != 0) return die("start after a kill", &err);
    pthread_t threads[WRITERS];
    struct writer writers[WRITERS];
    for (uint32_t i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){node, shared, i, out};
        pthread_create(&threads[i], NULL, write_on, &writers[i]);
    }
    for (;;) pause();
}

struct expectation {
    char text[40];
    bool right;
};

static void compare(void *user, const cal_call_result *result) {
    struct expectation *expected = user;
    expected->right = result->output && result->output_len == strlen(expected->text) &&
                      memcmp(result->output, expected->text, result->output_len) == 0;
}

static int read_back(const struct shared *from, const uint32_t upto[WRITERS]) {
    cal_error err;
    cal_node *node;
    int lost = 0;
    if (cal_node_start(&options, &node, &err) != 0) return die("start to read back", &err);
    for (uint32_t writer = 0; writer < WRITERS; writer++) {
        for (uint32_t number = from->first[writer]; number < upto[writer]; number++) {
            char args[100];
            struct expectation expected = {.right = false};
            int len = snprintf(args, sizeof args, "{\"key\":\"w%u-%u\"}", writer, number);
            snprintf(expected.text, sizeof expected.text, "\"v%u\"", number * 7);
            err.message[0] = 0;
            cal_execute_wait(node, &from->context, "get", args, (size_t)len, compare, &expected,
                             &err);
            if (expected.right) continue;
            fprintf(stderr, "kill_test: acknowledged write w%u-%u is lost %s\n", writer, number,
                    err.message);
            lost++;
        }
    }
    cal_node_stop(node);
    return lost == 0 ? 0 : 1;
}

static void print_finding(void *user, const char *finding) {
    (void)user;
    fprintf(stderr, "kill_test: check: %s\n", finding);
}

static int check(void) {
    cal_error err;
    cal_check_summary summary;
    if (cal_node_check(&options, print_finding, NULL, &summary, &err) != 0)
        return die("check", &err);
    printf("check: %llu entities, %llu deltas, no finding\n", (unsigned long long)summary.entities,
           (unsigned long long)summary.deltas);
    fflush(stdout);
    return 0;
}

/* --- the parent --- */

static int wait_for(pid_t child, const char *what) {
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return 0;
    fprintf(stderr, "kill_test: %s failed\n", what);
    return 1;
}

static uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Runs one round: returns the numbers up to which each writer was acknowledged in upto. */
static int kill_round(const struct shared *shared, unsigned delay_ms, uint32_t upto[WRITERS]) {
    int ends[2];
    if (pipe(ends) != 0) return 1;
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        _exit(write_until_killed(ends[1], shared));
    }
    close(ends[1]);
    struct acknowledgement done;
    memcpy(upto, shared->first, sizeof shared->first);
    bool killed = false;
    uint64_t began_ms = 0; /* of the first acknowledgement */
    while (read(ends[0], &done, sizeof done) == sizeof done) {
        if (began_ms == 0) began_ms = now_ms();
        upto[done.writer] = done.number + 1;
        if (killed || now_ms() - began_ms < delay_ms) continue;
        kill(child, SIGKILL);
        killed = true;
    }
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL ? 0 : 1;
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    const char *rounds_text = getenv("CAL_KILLS"), *seed_text = getenv("CAL_SEED");
    int rounds = rounds_text ? atoi(rounds_text) : ROUNDS;
    unsigned seed = seed_text ? (unsigned)atoi(seed_text) : (unsigned)time(NULL);
    srand(seed);
    printf("kill_test: %d kills, seed %u\n", rounds, seed);
    fflush(stdout);
    struct shared shared = {.first = {0}};
    int ends[2];
    if (!mkdtemp(home) || pipe(ends) != 0) return 1;
    pid_t child = fork();
    if (child == 0) _exit(prepare(ends[1], argv[1]));
    if (wait_for(child, "preparing the node") != 0) return 1;
    if (read(ends[0], &shared.context, sizeof shared.context) != sizeof shared.context) return 1;
    int failed = 0;
    for (int round = 0; round < rounds && !failed; round++) {
        uint32_t upto[WRITERS];
        failed = kill_round(&shared, (unsigned)rand() % 200, upto);
        if (!failed && (child = fork()) == 0) _exit(read_back(&shared, upto));
        if (!failed) failed = wait_for(child, "reading back");
        /* The write under way may have been kept: leave its number behind. */
        for (int i = 0; i < WRITERS; i++) shared.first[i] = upto[i] + 1;
    }
    if (!failed && (child = fork()) == 0) _exit(check());
    if (!failed) failed = wait_for(child, "the check");
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", home);
    if (!failed && system(command) != 0) failed = 1;
    printf("kill_test: %s, %u writes acknowledged\n", failed ? "failed" : "passed",
           shared.first[0] + shared.first[1] + shared.first[2] + shared.first[3]);
    return failed;
}
