/* Two nodes in one program, one context: found, invite, join, write on both, hear of it on the
 * other, offline and back.
 *
 *   shared HOME APP.wasm          (APP: the kv-store of apps/) */
#include <arpa/inet.h>
#include <calimero/calimero.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TEXT_MAX = 512, TRIES = 1500, TRY_US = 20 * 1000 }; /* half a minute */

typedef struct person {
    const char *name;
    char home[TEXT_MAX], address[TEXT_MAX];
    cal_node *node;
    cal_subscription *events;
} person;

static void fail(const char *what, const cal_error *err) {
    fprintf(stderr, "shared: %s: %s\n", what, err ? err->message : "not within half a minute");
    exit(1);
}

/* --- a node --- */

static void on_event(void *user, const cal_event *event) {
    const person *p = user;
    for (size_t i = 0; i < event->event_count; i++)
        printf("%s hears: %s %.*s\n", p->name, event->events[i].kind,
               (int)event->events[i].data_len, (const char *)event->events[i].data);
    fflush(stdout);
}

/* Who comes back must be found where others left it, so the port is chosen once. */
static void choose_address(person *p) {
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof any;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&any, len) != 0 ||
        getsockname(fd, (struct sockaddr *)&any, &len) != 0)
        fail("a free port", &(cal_error){.message = "none can be had"});
    close(fd);
    snprintf(p->address, sizeof p->address, "/ip4/127.0.0.1/tcp/%d", ntohs(any.sin_port));
}

static void go_online(person *p) {
    const char *listen[] = {p->address};
    cal_node_options options = {.home = p->home, .network = {.listen = listen, .listen_count = 1}};
    cal_error err;
    int rc = cal_node_init(&options, NULL, &err);
    if (rc != 0 && rc != CAL_EEXISTS) fail("a new node", &err);
    if (cal_node_start(&options, &p->node, &err) != 0) fail("starting a node", &err);
    p->events = cal_subscribe(p->node, NULL, on_event, p);
    printf("%s is online\n", p->name);
}

static void go_offline(person *p) {
    cal_unsubscribe(p->node, p->events);
    cal_node_stop(p->node);
    p->node = NULL;
    printf("%s is offline\n", p->name);
}

/* --- the context --- */

static void write_key(person *p, const cal_context_id *context, const char *key,
                      const char *value) {
    char args[TEXT_MAX];
    cal_error err;
    snprintf(args, sizeof args, "{\"key\":\"%s\",\"value\":\"%s\"}", key, value);
    if (cal_execute_wait(p->node, context, "set", args, strlen(args), NULL, NULL, &err) != 0)
        fail("a write", &err);
    printf("%s wrote: %s = %s\n", p->name, key, value);
}

static void keep_output(void *user, const cal_call_result *result) {
    if (result->output)
        snprintf(user, TEXT_MAX, "%.*s", (int)result->output_len, (const char *)result->output);
}

/* Until the node has it; a call is refused while the application or the state is on its way. */
static void read_key(person *p, const cal_context_id *context, const char *key) {
    char args[TEXT_MAX], output[TEXT_MAX];
    snprintf(args, sizeof args, "{\"key\":\"%s\"}", key);
    for (int i = 0; i < TRIES; i++) {
        output[0] = 0;
        cal_execute_wait(p->node, context, "get", args, strlen(args), keep_output, output, NULL);
        if (output[0] && strcmp(output, "null") != 0) {
            printf("%s reads: %s = %s\n", p->name, key, output);
            return;
        }
        usleep(TRY_US);
    }
    fail("a value of the other", NULL);
}

static void keep_root(void *user, const cal_context_info *info) { *(cal_hash *)user = info->root; }

static void compare(person *a, person *b, const cal_context_id *context) {
    cal_hash roots[2] = {0};
    char text[CAL_ID_TEXT_MAX];
    for (int i = 0; i < TRIES; i++) {
        cal_context_get(a->node, context, keep_root, &roots[0]);
        cal_context_get(b->node, context, keep_root, &roots[1]);
        if (memcmp(&roots[0], &roots[1], sizeof roots[0]) == 0) {
            cal_id_to_base58(roots[0].bytes, text);
            printf("both hold the same state, root %s\n", text);
            return;
        }
        usleep(TRY_US);
    }
    fail("equal states", NULL);
}

/* --- the story --- */

/* Founds a namespace with a context in it; what to hand over is free()d by the caller. */
static char *found(person *p, const char *application, cal_context_id *ret_context) {
    cal_application_id id = {{0}};
    cal_group_id ns = {{0}};
    cal_context_create_options create = {.name = "notes"};
    cal_context_created context;
    char *invitation = NULL;
    cal_error err;
    int rc = cal_install_file_wait(p->node, application, NULL, &id, &err);
    if (rc == 0) rc = cal_namespace_create_wait(p->node, &id, "friends", &ns, &err);
    create.application = id;
    create.group = ns;
    if (rc == 0) rc = cal_context_create_wait(p->node, &create, &context, &err);
    if (rc == 0) rc = cal_invite_wait(p->node, &ns, NULL, &invitation, &err);
    if (rc != 0) fail("founding", &err);
    *ret_context = context.id;
    return invitation;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: shared HOME /ABSOLUTE/PATH/OF/kv-store.wasm\n");
        return 2;
    }
    person alice = {.name = "alice"}, bob = {.name = "bob"};
    cal_context_id context;
    cal_joined joined;
    cal_error err;
    mkdir(argv[1], 0700);
    snprintf(alice.home, sizeof alice.home, "%s/alice", argv[1]);
    snprintf(bob.home, sizeof bob.home, "%s/bob", argv[1]);

    choose_address(&alice);
    choose_address(&bob);

    go_online(&alice);
    char *invitation = found(&alice, argv[2], &context);
    write_key(&alice, &context, "greeting", "hello");
    printf("alice hands this to bob: %s\n", invitation);

    go_online(&bob); /* without the application: it comes from alice */
    if (cal_namespace_join_wait(bob.node, invitation, NULL, &joined, &err) != 0)
        fail("joining", &err);
    free(invitation);
    read_key(&bob, &context, "greeting");
    write_key(&bob, &context, "answer", "hello yourself");
    read_key(&alice, &context, "answer");

    go_offline(&bob);
    write_key(&alice, &context, "meanwhile", "much");
    go_offline(&alice);
    go_online(&bob);
    write_key(&bob, &context, "alone", "for a while");
    go_online(&alice);
    read_key(&bob, &context, "meanwhile");
    read_key(&alice, &context, "alone");
    compare(&alice, &bob, &context);

    go_offline(&bob);
    go_offline(&alice);
    return 0;
}
