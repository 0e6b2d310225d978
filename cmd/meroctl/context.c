/* meroctl context: contexts, their aliases and identities, their events. Protocol:
 * http-api.md 5.2, 5.3, 5.7, 7, 13. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mero.h"

enum { SECRET_MAX = 256 };

static int list_run(cli *line) {
    const char *application = cli_get(line, "application-id");
    if (!application) return mero_run(line, "GET", NULL, "/admin-api/contexts" MERO_ALL);
    return mero_run(line, "GET", NULL, "/admin-api/contexts/for-application/%s" MERO_ALL,
                    application);
}

static int get_run(cli *line) {
    const char *context = mero_context_text(line, cli_operand(line, 0)),
               *what = cli_operand(line, 1);
    if (!what || strcmp(what, "info") == 0)
        return mero_about_context(line, context, "GET", NULL, "/admin-api/contexts/%s");
    if (strcmp(what, "storage") == 0)
        return mero_about_context(line, context, "GET", NULL, "/admin-api/contexts/%s/storage");
    if (strcmp(what, "group") == 0)
        return mero_about_context(line, context, "GET", NULL, "/admin-api/contexts/%s/group");
    return cli_usage(line, "a context has no '%s': ask for info, storage or group", what);
}

/* What is asked says what will happen: in a group, the registration ends for everybody. */
static int confirm_deletion(mero *m, const char *id) {
    char question[320];
    yyjson_doc *doc = NULL;
    int code = mero_ask(m, "GET", NULL, &doc, "/admin-api/contexts/%s/group", id);
    bool grouped = yyjson_is_str(mero_data(doc));
    snprintf(question, sizeof question,
             grouped ? "Delete context %s from this node, and detach it from its group for all its "
                       "members? (`meroctl context leave` ends this node's part in it alone.)"
                     : "Delete context %s from this node?",
             id);
    yyjson_doc_free(doc);
    return code == 0 && !mero_confirm(m, question) ? CLI_FAILED : code;
}

static int delete_run(cli *line) {
    mero m;
    char id[CAL_ID_TEXT_MAX];
    yyjson_doc *doc = NULL;
    int code = mero_open(&m, line);
    if (code) return code;
    code = mero_context(&m, cli_operand(line, 0), id);
    if (code == 0 && !cli_flag(line, "yes")) code = confirm_deletion(&m, id);
    if (code == 0) code = mero_ask(&m, "DELETE", NULL, &doc, "/admin-api/contexts/%s", id);
    if (code == 0) mero_print(&m, yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
    mero_close(&m);
    return code;
}

static int sync_run(cli *line) {
    if (cli_flag(line, "all")) return mero_run(line, "POST", NULL, "/admin-api/contexts/sync");
    return mero_about_context(line, mero_context_text(line, cli_operand(line, 0)), "POST", NULL,
                              "/admin-api/contexts/sync/%s");
}

static int resync_run(cli *line) {
    yyjson_mut_doc *body = mero_body();
    if (cli_flag(line, "force"))
        yyjson_mut_obj_add_bool(body, yyjson_mut_doc_get_root(body), "force", true);
    return mero_about_context(line, mero_context_text(line, cli_operand(line, 0)), "POST", body,
                              "/admin-api/contexts/%s/resync");
}

static int join_run(cli *line) {
    return mero_about_context(line, cli_operand(line, 0), "POST", NULL,
                              "/admin-api/contexts/%s/join");
}

static int leave_run(cli *line) {
    return mero_about_context(line, cli_operand(line, 0), "POST", NULL,
                              "/admin-api/contexts/%s/leave");
}

/* --- create --- */

/* env:NAME, file:PATH, - (standard input), or the text itself; so that secrets stay out of the
 * process list. */
static int read_secret(const mero *m, const char *source, char ret_secret[SECRET_MAX]) {
    FILE *file = NULL;
    ret_secret[0] = 0;
    if (strncmp(source, "env:", 4) == 0) {
        const char *value = getenv(source + 4);
        if (!value) return mero_fail(m, "the environment has no %s", source + 4);
        snprintf(ret_secret, SECRET_MAX, "%s", value);
        return 0;
    }
    if (strncmp(source, "file:", 5) != 0 && strcmp(source, "-") != 0) {
        snprintf(ret_secret, SECRET_MAX, "%s", source);
        return 0;
    }
    file = source[0] == '-' ? stdin : fopen(source + 5, "r");
    if (!file) return mero_fail(m, "%s: %s", source + 5, strerror(errno));
    bool read = fgets(ret_secret, SECRET_MAX, file) != NULL;
    if (file != stdin) fclose(file);
    if (!read) return mero_fail(m, "no secret in %s", source);
    ret_secret[strcspn(ret_secret, "\r\n")] = 0;
    return 0;
}

static int create_alias(mero *m, const char *alias, const char *context) {
    yyjson_mut_doc *body = mero_body();
    yyjson_doc *doc = NULL;
    mero_set(body, "alias", alias);
    mero_set(body, "contextId", context);
    int code = mero_ask(m, "POST", body, &doc, "/admin-api/alias/create/context");
    yyjson_doc_free(doc);
    return code;
}

static int create(mero *m, const char *application, const char *group) {
    const char *params = cli_get(m->line, "params"), *alias = cli_get(m->line, "name");
    const char *secret_source = cli_get(m->line, "identity-secret");
    char secret[SECRET_MAX], group_id[CAL_ID_TEXT_MAX];
    yyjson_doc *doc = NULL;
    int code = mero_ask(m, "GET", NULL, &doc, "/admin-api/applications/%s", application);
    yyjson_doc_free(doc);
    doc = NULL;
    if (code == 0) code = mero_group(m, group, group_id);
    if (code == 0 && secret_source) code = read_secret(m, secret_source, secret);
    if (code) return code;
    yyjson_mut_doc *body = mero_body();
    mero_set(body, "applicationId", application);
    mero_set(body, "groupId", group_id);
    mero_set_bytes(body, "initializationParams", params);
    mero_set(body, "contextSeed", cli_get(m->line, "seed"));
    mero_set(body, "serviceName", cli_get(m->line, "service"));
    mero_set(body, "name", cli_get(m->line, "group-name"));
    mero_set(body, "identitySecret", secret_source ? secret : NULL);
    explicit_bzero(secret, sizeof secret);
    mero_progress(m, "creating the context");
    code = mero_ask(m, "POST", body, &doc, "/admin-api/contexts");
    mero_progress(m, NULL);
    if (code == 0) mero_print(m, yyjson_doc_get_root(doc));
    if (code == 0 && alias) code = create_alias(m, alias, mero_text(mero_data(doc), "contextId"));
    yyjson_doc_free(doc);
    return code;
}

static int create_run(cli *line) {
    const char *application = cli_get(line, "application-id"), *group = cli_get(line, "group-id");
    const char *params = cli_get(line, "params"), *file = cli_get(line, "watch");
    if (!application == !file)
        return cli_usage(line, "give either --application-id ID or --watch FILE");
    if (!group)
        return cli_usage(line,
                         "--group-id is missing: a namespace's id or name, see `meroctl namespace "
                         "list`");
    yyjson_doc *check = params && params[0] ? yyjson_read(params, strlen(params), 0) : NULL;
    if (params && params[0] && !check) return cli_usage(line, "--params is not JSON: %s", params);
    yyjson_doc_free(check);
    mero m;
    char installed[CAL_ID_TEXT_MAX];
    int code = mero_open(&m, line);
    if (code) return code;
    if (file) code = mero_app_install_file(&m, file, installed);
    if (code == 0) code = create(&m, file ? installed : application, group);
    mero_close(&m);
    if (code || !file) return code;
    return cli_fail(line, "created; go on with `meroctl app watch --path %s --current-app-id %s`",
                    file, installed);
}

/* --- aliases --- */

/* The value of an alias, "" when there is none. */
static int lookup(mero *m, const char *alias, char ret_id[CAL_ID_TEXT_MAX]) {
    yyjson_doc *doc = NULL;
    int code = mero_ask(m, "POST", NULL, &doc, "/admin-api/alias/lookup/context/%s", alias);
    if (code == 0) snprintf(ret_id, CAL_ID_TEXT_MAX, "%s", mero_text(mero_data(doc), "value"));
    yyjson_doc_free(doc);
    return code;
}

static int point_alias(mero *m, const char *alias, const char *context, bool force) {
    char now[CAL_ID_TEXT_MAX] = "";
    yyjson_doc *doc = NULL;
    int code = lookup(m, alias, now);
    if (code) return code;
    if (strcmp(now, context) == 0) {
        fprintf(stderr, "'%s' is %s already\n", alias, context);
        return 0;
    }
    if (now[0] && !force)
        return mero_fail(m, "'%s' is %s; say --force to make it %s", alias, now, context);
    if (now[0]) code = mero_ask(m, "POST", NULL, &doc, "/admin-api/alias/delete/context/%s", alias);
    yyjson_doc_free(doc);
    if (code == 0) code = create_alias(m, alias, context);
    if (code == 0 && m->json)
        puts("{\"data\":null}");
    else if (code == 0)
        printf("'%s' is %s\n", alias, context);
    return code;
}

static int alias_of(cli *line, const char *alias, const char *text, bool force) {
    mero m;
    char id[CAL_ID_TEXT_MAX];
    yyjson_doc *doc = NULL;
    int code = mero_open(&m, line);
    if (code) return code;
    code = mero_context(&m, text, id);
    if (code == 0)
        code = mero_ask(&m, "GET", NULL, &doc, "/admin-api/contexts/%s", id); /* it must exist */
    yyjson_doc_free(doc);
    if (code == 0) code = point_alias(&m, alias, id, force);
    mero_close(&m);
    return code;
}

static int use_run(cli *line) { return alias_of(line, "default", cli_operand(line, 0), true); }
static int alias_add_run(cli *line) {
    return alias_of(line, cli_operand(line, 0), cli_operand(line, 1), cli_flag(line, "force"));
}

static int alias_remove_run(cli *line) {
    return mero_run(line, "POST", NULL, "/admin-api/alias/delete/context/%s", cli_operand(line, 0));
}

static int alias_get_run(cli *line) {
    return mero_run(line, "POST", NULL, "/admin-api/alias/lookup/context/%s",
                    mero_context_text(line, cli_operand(line, 0)));
}

static int alias_list_run(cli *line) {
    return mero_run(line, "GET", NULL, "/admin-api/alias/list/context");
}

/* --- identities --- */

static int identity_list_run(cli *line) {
    return mero_about_context(line, mero_context_text(line, cli_operand(line, 0)), "GET", NULL,
                              cli_flag(line, "owned") ? "/admin-api/contexts/%s/identities-owned"
                                                      : "/admin-api/contexts/%s/identities");
}

static int identity_generate_run(cli *line) {
    return mero_run(line, "POST", NULL, "/admin-api/identity/context");
}

/* --- watch --- */

/* Runs the command with the event on its standard input. */
static void run_command(const char *command, const char *event) {
    FILE *pipe = popen(command, "w");
    if (!pipe) {
        fprintf(stderr, "meroctl: '%s' cannot be run: %s\n", command, strerror(errno));
        return;
    }
    fprintf(pipe, "%s\n", event);
    int status = pclose(pipe);
    if (status != 0) fprintf(stderr, "meroctl: '%s' ended with %d\n", command, status);
}

/* {"kind":..,"data":[bytes]} with the bytes as the JSON that they are. */
static void print_event(const mero *m, const char *text, size_t len) {
    yyjson_doc *doc = yyjson_read(text, len, 0);
    if (m->json || !doc) {
        puts(text);
    } else {
        yyjson_val *result = yyjson_obj_get(yyjson_doc_get_root(doc), "result"),
                   *data = yyjson_obj_get(result, "data");
        yyjson_val *events = yyjson_obj_get(data, "events"), *event;
        printf("%s %s\n", mero_text(result, "type"), mero_text(result, "contextId"));
        if (events) printf("  newRoot: %s\n", mero_text(data, "newRoot"));
        size_t i, n, j, k;
        yyjson_val *byte;
        yyjson_arr_foreach(events, i, n, event) {
            printf("  %s ", mero_text(event, "kind"));
            yyjson_arr_foreach(yyjson_obj_get(event, "data"), j, k, byte)
                putchar((int)yyjson_get_uint(byte));
            putchar('\n');
        }
        if (!events) mero_print_human(data, stdout);
    }
    fflush(stdout);
    yyjson_doc_free(doc);
}

static bool is_push(const char *text, size_t len) {
    yyjson_doc *doc = yyjson_read(text, len, 0);
    yyjson_val *result = yyjson_obj_get(yyjson_doc_get_root(doc), "result");
    bool push = yyjson_obj_get(result, "type") != NULL;
    yyjson_doc_free(doc);
    return push;
}

static int watch(mero *m, const char *id, unsigned long long count) {
    cal_client_socket *socket = NULL;
    cal_error err = {0};
    char request[256];
    const char *text, *command = cli_get(m->line, "exec");
    size_t len;
    if (cal_client_socket_open(m->client, &socket, &err) != 0) return mero_error(m, &err);
    snprintf(request, sizeof request,
             "{\"id\":null,\"method\":\"subscribe\",\"params\":{\"contextIds\":[\"%s\"]}}", id);
    int error = cal_client_socket_send(socket, request, strlen(request), &err);
    while (error == 0) {
        error = cal_client_socket_receive(socket, -1, &text, &len, &err);
        if (error) break;
        if (!is_push(text, len)) { /* the answer to subscribe: events come from here on */
            fprintf(stderr, "watching %s, Ctrl-C ends\n", id);
            continue;
        }
        print_event(m, text, len);
        if (command) run_command(command, text);
        if (count > 0 && --count == 0) break;
    }
    cal_client_socket_close(socket);
    return error ? mero_error(m, &err) : 0;
}

int mero_watch_run(cli *line) {
    mero m;
    char id[CAL_ID_TEXT_MAX];
    unsigned long long count;
    if (!cli_number(line, "count", 1, 1000000000, 0, &count)) return CLI_USAGE;
    int code = mero_open(&m, line);
    if (code) return code;
    code = mero_context(&m, mero_context_text(line, cli_operand(line, 0)), id);
    if (code == 0) code = watch(&m, id, count);
    mero_close(&m);
    return code;
}

/* --- the table --- */

static const cli_option list_options[] = {
    {"application-id", 'a', "ID", "Only those that run this application"}, {0}};
static const cli_option create_options[] = {
    {"application-id", 'a', "ID", "The application it runs"},
    {"group-id", 0, "HEX", "The namespace or group that it belongs to, by id or name"},
    {"params", 'p', "JSON", "Arguments of the application's init"},
    {"name", 0, "ALIAS", "Also give it this alias on the node"},
    {"service", 0, "NAME", "Which service of a bundle with several"},
    {"group-name", 0, "TEXT", "Its name within the group"},
    {"seed", 's', "HASH", "Makes the context id predictable"},
    {"identity-secret", 0, "SOURCE", "Key to join with: env:NAME, file:PATH or -"},
    {"watch", 'w', "FILE", "Install this file first"},
    {0}};
static const cli_option delete_options[] = {{"yes", 'y', NULL, "Do not ask"}, {0}};
static const cli_option context_option[] = {
    {"context", 'c', "CONTEXT", "Alias or id (default: the default context)"}, {0}};
static const cli_option sync_options[] = {
    {"context", 'c', "CONTEXT", "Alias or id (default: the default context)"},
    {"all", 'a', NULL, "All contexts"},
    {0}};
static const cli_option status_options[] = {
    {"context", 'c', "CONTEXT", "Alias or id (default: the default context)"},
    {"wait", 0, "SECONDS", "Until it is in sync, for at most so long"},
    {0}};
static const cli_option resync_options[] = {
    {"context", 'c', "CONTEXT", "Alias or id (default: the default context)"},
    {"force", 'f', NULL, "Accepted for the reference's sake: nothing is thrown away in any case"},
    {0}};
static const cli_option force_options[] = {
    {"force", 'f', NULL, "Even when it names another context now"}, {0}};
static const cli_option use_options[] = {
    {"force", 'f', NULL, "Accepted for the reference's sake: it switches in any case"}, {0}};
static const cli_option identity_options[] = {
    {"context", 'c', "CONTEXT", "Alias or id (default: the default context)"},
    {"owned", 0, NULL, "Only those whose secret this node holds"},
    {0}};
static const cli_option watch_options[] = {
    {"context", 'c', "CONTEXT", "Alias or id (default: the default context)"},
    {"exec", 'x', "COMMAND", "Run this for each event, with its JSON on standard input"},
    {"count", 'n', "COUNT", "End after so many events"},
    {0}};

static const cli_command alias_commands[] = {
    {"add", "create", "ALIAS CONTEXT", "Give a context a name on this node", NULL, force_options,
     NULL, alias_add_run},
    {"remove", "rm", "ALIAS", "Forget a name", NULL, NULL, NULL, alias_remove_run},
    {"get", NULL, "[ALIAS]", "The context that a name stands for", NULL, NULL, NULL, alias_get_run},
    {"list", "ls", NULL, "All names", NULL, NULL, NULL, alias_list_run},
    {0}};

static const cli_command identity_commands[] = {
    {"list", "ls", "[CONTEXT]", "Member keys of a context", NULL, identity_options, NULL,
     identity_list_run},
    {"generate", "new", NULL, "Make a key that the node keeps", NULL, NULL, NULL,
     identity_generate_run},
    {0}};

const cli_command mero_context_commands[] = {
    {"create", NULL, NULL, "Create a context",
     "Example:\n  meroctl context create -a APP_ID --group-id NAMESPACE_ID --name notes\n  meroctl "
     "context use notes",
     create_options, NULL, create_run},
    {"list", "ls", NULL, "Contexts of this node", NULL, list_options, NULL, list_run},
    {"get", NULL, "[CONTEXT] [info|storage|group]", "One context", NULL, context_option, NULL,
     get_run},
    {"delete", "del", "CONTEXT", "Delete a context from this node, and detach it for all members",
     "Only an admin of its group may. Others leave it: meroctl context leave.", delete_options,
     NULL, delete_run},
    {"use", NULL, "CONTEXT", "Make it the context that commands mean when they name none", NULL,
     use_options, NULL, use_run},
    {"watch", "ws", "[CONTEXT]", "Print its events as they happen",
     "Example:\n  meroctl context watch notes -n 1 -x 'jq .result.data.events'", watch_options,
     NULL, mero_watch_run},
    {"join", NULL, "CONTEXT", "Take part in a context of a group that this node is in", NULL, NULL,
     NULL, join_run},
    {"leave", NULL, "CONTEXT", "Take no part in it any more, on this node alone", NULL, NULL, NULL,
     leave_run},
    {"sync", NULL, "[CONTEXT]", "Compare it with others now, and take what is missing", NULL,
     sync_options, NULL, sync_run},
    {"sync-status", "status", "[CONTEXT]", "Whether others hold the same state",
     "Example:\n  meroctl context sync-status notes --wait 10    (fails unless it is in sync "
     "within 10 s)",
     status_options, NULL, mero_sync_status_run},
    {"resync", NULL, "[CONTEXT]", "Begin a comparison and do not wait for it", NULL, resync_options,
     NULL, resync_run},
    {"identities", NULL, "[CONTEXT]", "The same as `context identity list`", NULL, identity_options,
     NULL, identity_list_run},
    {"alias", NULL, NULL, "Names that only this node knows", NULL, NULL, alias_commands, NULL},
    {"identity", NULL, NULL, "Member keys", NULL, NULL, identity_commands, NULL},
    {0}};
