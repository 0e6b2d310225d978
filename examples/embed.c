/* A node inside this program: install an application, create a context, call it, hear its events.
 *
 *   embed HOME APP.wasm */
#include <calimero/calimero.h>
#include <stdio.h>
#include <string.h>

static void on_event(void *user, const cal_event *event) {
    (void)user;
    for (size_t i = 0; i < event->event_count; i++)
        printf("event %s %.*s\n", event->events[i].kind, (int)event->events[i].data_len,
               (const char *)event->events[i].data);
}

static void on_result(void *user, const cal_call_result *result) {
    (void)user;
    if (result->output)
        printf("result %.*s\n", (int)result->output_len, (const char *)result->output);
}

static int fail(const cal_error *err) {
    fprintf(stderr, "embed: %s\n", err->message);
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: embed HOME /ABSOLUTE/PATH/OF/APP.wasm\n");
        return 2;
    }
    cal_error err;
    cal_node_options options = {.home = argv[1]};
    int rc = cal_node_init(&options, NULL, &err);
    if (rc != 0 && rc != CAL_EEXISTS) return fail(&err);

    cal_node *node;
    if (cal_node_start(&options, &node, &err) != 0) return fail(&err);

    cal_application_id application;
    cal_group_id ns;
    cal_context_create_options create = {.name = "embedded"};
    cal_context_created context;
    rc = cal_install_file_wait(node, argv[2], NULL, &application, &err);
    if (rc == 0) rc = cal_namespace_create_wait(node, &application, "example", &ns, &err);
    create.application = application;
    create.group = ns;
    if (rc == 0) rc = cal_context_create_wait(node, &create, &context, &err);

    if (rc == 0) {
        static const char set[] = "{\"key\":\"greeting\",\"value\":\"hello\"}",
                          get[] = "{\"key\":\"greeting\"}";
        cal_subscription *events = cal_subscribe(node, &context.id, on_event, NULL);
        rc = cal_execute_wait(node, &context.id, "set", set, strlen(set), on_result, NULL, &err);
        if (rc == 0)
            rc =
                cal_execute_wait(node, &context.id, "get", get, strlen(get), on_result, NULL, &err);
        cal_unsubscribe(node, events);
    }
    cal_node_stop(node);
    return rc == 0 ? 0 : fail(&err);
}
