/* meroctl call: one method by JSON-RPC, or a shell that keeps one WebSocket open. Protocol:
 * http-api.md 6, 7, 13. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mero.h"

enum { SHELL_TIMEOUT_S = 120, HOUR_S = 3600 };

/* {"jsonrpc","id","method":"execute","params":{contextId,method,argsJson}}; NULL when args is not
 * JSON. */
static yyjson_mut_doc *make_request(const char *context, const char *method, const char *args) {
    yyjson_mut_doc *params = mero_body();
    mero_set(params, "contextId", context);
    mero_set(params, "method", method);
    if (!mero_set_json(params, "argsJson", args && args[strspn(args, " \t")] ? args : "{}")) {
        yyjson_mut_doc_free(params);
        return NULL;
    }
    yyjson_mut_doc *request = mero_body();
    yyjson_mut_val *root = yyjson_mut_doc_get_root(request);
    yyjson_mut_obj_add_str(request, root, "jsonrpc", "2.0");
    yyjson_mut_obj_add_str(request, root, "method", "execute");
    yyjson_mut_obj_add_val(request, root, "params",
                           yyjson_mut_val_mut_copy(request, yyjson_mut_doc_get_root(params)));
    yyjson_mut_doc_free(params);
    return request;
}

/* The application's own words when the node gives them, otherwise the error as it stands. */
static void print_failure(yyjson_val *error) {
    yyjson_val *words = yyjson_obj_get(error, "error"), *data = yyjson_obj_get(error, "data");
    yyjson_val *shown = words ? words : data;
    const char *text = yyjson_get_str(shown);
    char *json = text || !shown ? NULL : yyjson_val_write(shown, 0, NULL);
    fprintf(stderr, "meroctl: the call failed: %s%s%s\n", mero_text(error, "type"),
            text || json ? ": " : "",
            text   ? text
            : json ? json
                   : "");
    free(json);
    if (strcmp(mero_text(error, "type"), "Unauthorized") == 0)
        fputs("This node is no member of the context's group, or not any more.\n", stderr);
}

/* 0, or CLI_FAILED when the call failed. */
static int print_reply(const mero *m, yyjson_val *reply) {
    yyjson_val *error = yyjson_obj_get(reply, "error");
    if (m->json) {
        mero_print(m, reply);
    } else if (error) {
        print_failure(error);
    } else {
        yyjson_val *output = yyjson_obj_get(yyjson_obj_get(reply, "result"), "output");
        char *text = output ? yyjson_val_write(output, YYJSON_WRITE_PRETTY, NULL) : NULL;
        puts(text ? text : "null");
        free(text);
    }
    return error ? CLI_FAILED : CLI_OK;
}

static int call_once(mero *m, const char *context) {
    const char *method = cli_operand(m->line, 0), *args = cli_get(m->line, "args"),
               *id = cli_get(m->line, "id");
    yyjson_doc *doc = NULL;
    yyjson_mut_doc *request = make_request(context, method, args);
    if (!request) return cli_usage(m->line, "--args is not JSON: %s", args);
    yyjson_mut_val *root = yyjson_mut_doc_get_root(request);
    if (id)
        mero_set(request, "id", id);
    else
        yyjson_mut_obj_add_null(request, root, "id");
    mero_progress(m, "calling");
    int code = mero_ask(m, "POST", request, &doc, "/jsonrpc");
    mero_progress(m, NULL);
    if (code == 0) code = print_reply(m, yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
    return code;
}

/* --- the shell --- */

static bool has_id(yyjson_doc *doc, unsigned long long id) {
    yyjson_val *value = yyjson_obj_get(yyjson_doc_get_root(doc), "id");
    return yyjson_is_uint(value) && yyjson_get_uint(value) == id;
}

/* Sends one call and waits for the answer with its number; events and late answers in between are
 * passed over. */
static int shell_call(mero *m, cal_client_socket *socket, const char *context, char *input,
                      unsigned long long id, int timeout_ms) {
    cal_error err = {0};
    size_t name_len = strcspn(input, " \t"), len = 0;
    const char *args = input + name_len + strspn(input + name_len, " \t"), *answer;
    char *method = strndup(input, name_len);
    yyjson_mut_doc *request = make_request(context, method, args);
    free(method);
    if (!request) {
        mero_fail(m, "the arguments are not JSON: %s", args);
        return 0;
    }
    yyjson_mut_obj_add_uint(request, yyjson_mut_doc_get_root(request), "id", id);
    char *text = yyjson_mut_write(request, 0, &len);
    yyjson_mut_doc_free(request);
    int error = cal_client_socket_send(socket, text ? text : "", len, &err);
    free(text);
    while (error == 0) {
        error = cal_client_socket_receive(socket, timeout_ms, &answer, &len, &err);
        yyjson_doc *doc = error == 0 ? yyjson_read(answer, len, 0) : NULL;
        bool ours = has_id(doc, id);
        if (ours) print_reply(m, yyjson_doc_get_root(doc));
        yyjson_doc_free(doc);
        if (ours) return 0;
    }
    int code = mero_error(m, &err);
    return error == CAL_ETIMEOUT ? 0 : code;
}

static void shell_help(void) {
    fputs("  METHOD [JSON]      call a method, e.g.  set {\"key\":\"a\",\"value\":\"b\"}\n"
          "  :context CONTEXT   go on with another context\n"
          "  :help              this text\n"
          "  :quit              leave (or Ctrl-D)\n",
          stderr);
}

static int shell(mero *m, char context[CAL_ID_TEXT_MAX], int timeout_ms) {
    cal_client_socket *socket = NULL;
    cal_error err = {0};
    char *input = NULL;
    size_t size = 0;
    unsigned long long id = 0;
    bool terminal = isatty(STDIN_FILENO);
    int code = 0;
    if (cal_client_socket_open(m->client, &socket, &err) != 0) return mero_error(m, &err);
    if (terminal) shell_help();
    while (code == 0) {
        if (terminal) fputs("> ", stderr);
        if (getline(&input, &size, stdin) < 0) break;
        input[strcspn(input, "\r\n")] = 0;
        char *text = input + strspn(input, " \t");
        if (!text[0]) continue;
        if (strcmp(text, ":quit") == 0 || strcmp(text, ":q") == 0 || strcmp(text, ":exit") == 0)
            break;
        if (strcmp(text, ":help") == 0)
            shell_help();
        else if (strncmp(text, ":context ", 9) == 0)
            mero_context(m, text + 9, context); /* says why when there is none */
        else if (text[0] == ':')
            fprintf(stderr, "no command '%s'; :help lists them\n", text);
        else
            code = shell_call(m, socket, context, text, ++id, timeout_ms);
        fflush(stdout);
    }
    free(input);
    cal_client_socket_close(socket);
    return code;
}

const cli_option mero_call_options[] = {
    {"context", 'c', "CONTEXT", "Alias or id (default: the default context)"},
    {"args", 0, "JSON", "The method's arguments (default: {})"},
    {"id", 0, "TEXT", "Id of the JSON-RPC request"},
    {"interactive", 'i', NULL, "Read calls from standard input, over one WebSocket"},
    {"timeout", 0, "SECONDS",
     "How long the interactive shell waits for an answer (default: 120, 0: for ever)"},
    {0}};

int mero_call_run(cli *line) {
    const char *context = cli_get(line, "context");
    bool interactive = cli_flag(line, "interactive");
    unsigned long long timeout_s;
    char id[CAL_ID_TEXT_MAX];
    mero m;
    if (!interactive && !cli_operand(line, 0)) return cli_usage(line, "METHOD is missing");
    if (!cli_number(line, "timeout", 0, HOUR_S, SHELL_TIMEOUT_S, &timeout_s)) return CLI_USAGE;
    const char *args = cli_get(line, "args");
    yyjson_doc *check = args ? yyjson_read(args, strlen(args), 0) : NULL;
    if (args && !check) return cli_usage(line, "--args is not JSON: %s", args);
    yyjson_doc_free(check);
    int code = mero_open(&m, line);
    if (code) return code;
    code = mero_context(&m, context ? context : "default", id);
    if (code == 0)
        code =
            interactive ? shell(&m, id, timeout_s ? (int)timeout_s * 1000 : -1) : call_once(&m, id);
    mero_close(&m);
    return code;
}
