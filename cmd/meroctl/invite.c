/* meroctl namespace invite, join and invitation convert. Protocol: http-api.md 5.4, 5.5.
 *
 * An invitation is handed on as a file (the JSON of http-api.md 2) or as one line of text, which
 * has the addresses to dial in it; joining takes both, and tells them apart. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "calimero/share.h"
#include "mero.h"

static const char CODE_PREFIX[] = "calimero1";

/* --- inviting --- */

/* The invitation alone, so that it can be sent into a file or copied: its line, or its JSON. */
static void print_one(yyjson_val *item, bool code) {
    char *json = code ? NULL : yyjson_val_write(yyjson_obj_get(item, "invitation"), 0, NULL);
    puts(code ? mero_text(item, "code") : json ? json : "");
    free(json);
}

static int print_invitations(const mero *m, yyjson_doc *doc) {
    bool code = cli_flag(m->line, "code");
    yyjson_val *list = yyjson_obj_get(mero_data(doc), "invitations"), *item;
    size_t i, n;
    if (m->json) {
        mero_print(m, yyjson_doc_get_root(doc));
        return 0;
    }
    if (code && !list && !mero_text(mero_data(doc), "code")[0])
        return mero_fail(m, "this node is too old to make invitations of one line: leave --code "
                            "out and hand on the JSON");
    if (!list) print_one(mero_data(doc), code);
    yyjson_arr_foreach(list, i, n, item) print_one(item, code);
    if (isatty(STDOUT_FILENO))
        fputs("Whoever has this may join until it expires: meroctl namespace join INVITATION\n",
              stderr);
    return 0;
}

int mero_invite(const cli *line, const char *path) {
    unsigned long long seconds;
    mero m;
    char id[CAL_ID_TEXT_MAX];
    yyjson_doc *doc = NULL;
    if (!cli_number(line, "expiration-timestamp", 1, UINT32_MAX, 0, &seconds)) return CLI_USAGE;
    int code = mero_open(&m, line);
    if (code) return code;
    code = mero_group(&m, cli_operand(line, 0), id);
    if (code == 0) {
        yyjson_mut_doc *body = mero_body();
        yyjson_mut_val *root = yyjson_mut_doc_get_root(body);
        if (seconds) yyjson_mut_obj_add_uint(body, root, "expirationTimestamp", seconds);
        if (cli_flag(line, "recursive")) yyjson_mut_obj_add_bool(body, root, "recursive", true);
        if (cli_flag(line, "code")) yyjson_mut_obj_add_bool(body, root, "code", true);
        mero_set(body, "role", mero_role(cli_get(line, "role")));
        code = mero_ask(&m, "POST", body, &doc, path, id);
    }
    if (code == 0) code = print_invitations(&m, doc);
    yyjson_doc_free(doc);
    mero_close(&m);
    return code;
}

/* --- joining --- */

/* The invitation in what `namespace invite` printed, whichever way: the object itself, the answer
 * around it, or what stands in the answer's "data". */
static yyjson_val *unwrap(yyjson_val *value) {
    yyjson_val *data = yyjson_obj_get(value, "data");
    if (data) value = data;
    yyjson_val *inner = yyjson_obj_get(value, "invitation");
    return yyjson_obj_get(inner, "invitation") ? inner : value;
}

static int set_invitation(const mero *m, yyjson_mut_doc *body, const char *text) {
    if (cal_invitation_is_code(text)) {
        mero_set(body, "invitation", text);
        return 0;
    }
    yyjson_doc *doc = yyjson_read(text, strlen(text), 0);
    yyjson_val *value = unwrap(yyjson_doc_get_root(doc));
    int code = 0;
    if (yyjson_obj_get(value, "invitations"))
        code = mero_fail(m, "these are invitations to several groups: give one of them");
    else if (!yyjson_is_obj(value))
        code = mero_fail(m,
                         "'%.60s%s' is no invitation: neither a file, nor JSON, nor a line that "
                         "begins with %s",
                         text, strlen(text) > 60 ? "..." : "", CODE_PREFIX);
    else
        yyjson_mut_obj_add_val(body, yyjson_mut_doc_get_root(body), "invitation",
                               yyjson_val_mut_copy(body, value));
    yyjson_doc_free(doc);
    return code;
}

/* What the operand is: an invitation, `-`, or the name of a file that holds one. */
static int read_invitation(const mero *m, const char *source, char **ret_text) {
    char *path = NULL;
    if (access(source, F_OK) != 0) return mero_read_text(m, source, ret_text);
    if (asprintf(&path, "@%s", source) < 0) abort();
    int code = mero_read_text(m, path, ret_text);
    free(path);
    return code;
}

static void say_address(void *user, const char *address) {
    ++*(size_t *)user;
    fprintf(stderr, "meroctl: dialling %s\n", address);
}

/* What the node is about to do for up to a minute. */
static void say_how_it_joins(const char *invitation) {
    size_t count = 0;
    cal_error err;
    if (cal_invitation_addresses(invitation, say_address, &count, &err) != 0) return;
    fputs(count
              ? "meroctl: waiting for a member to answer, for at most a minute\n"
              : "meroctl: the invitation has no addresses to dial: waiting for a member among the "
                "peers that this node is connected to, for at most a minute\n",
          stderr);
}

/* [NAMESPACE_ID] INVITATION: without the id the node takes it from the invitation. */
int mero_join_run(cli *line) {
    mero m;
    const char *second = cli_operand(line, 1), *source = second ? second : cli_operand(line, 0);
    char *text = NULL;
    yyjson_doc *doc = NULL;
    int code = mero_open(&m, line);
    if (code) return code;
    code = read_invitation(&m, source, &text);
    if (code == 0) {
        yyjson_mut_doc *body = mero_body();
        code = set_invitation(&m, body, text);
        mero_set(body, "groupName", cli_get(line, "name"));
        if (code == 0) say_how_it_joins(text);
        mero_progress(&m, "joining");
        if (code)
            yyjson_mut_doc_free(body);
        else if (second)
            code = mero_ask(&m, "POST", body, &doc, "/admin-api/namespaces/%s/join",
                            cli_operand(line, 0));
        else
            code = mero_ask(&m, "POST", body, &doc, "/admin-api/groups/join");
        mero_progress(&m, NULL);
    }
    if (code == 0) mero_print(&m, yyjson_doc_get_root(doc));
    free(text);
    yyjson_doc_free(doc);
    mero_close(&m);
    return code;
}

/* --- from one form into the other; no node takes part --- */

/* What was read, without what `namespace invite` put around it. */
static int bare_invitation(const mero *m, char **text) {
    if (cal_invitation_is_code(*text)) return 0;
    yyjson_mut_doc *body = mero_body();
    int code = set_invitation(m, body, *text);
    yyjson_mut_val *value = yyjson_mut_obj_get(yyjson_mut_doc_get_root(body), "invitation");
    char *bare = code == 0 ? yyjson_mut_val_write(value, 0, NULL) : NULL;
    yyjson_mut_doc_free(body);
    if (!bare) return code ? code : mero_fail(m, "out of memory");
    free(*text);
    *text = bare;
    return 0;
}

static void print_converted(const mero *m, const char *text, bool is_code) {
    if (!m->json)
        puts(text);
    else if (is_code)
        printf("{\"data\":{\"code\":\"%s\"}}\n", text);
    else
        printf("{\"data\":{\"invitation\":%s}}\n", text);
}

int mero_convert_run(cli *line) {
    const char *format = cli_get(line, "output-format");
    mero m = {.line = line, .json = format && strcmp(format, "json") == 0};
    const char *addresses[CAL_INVITATION_ADDRESSES_MAX], *address;
    char *text = NULL, *converted = NULL;
    size_t count = 0, at = 0;
    cal_error err = {0};
    while ((address = cli_each(line, "address", &at))) {
        if (count == CAL_INVITATION_ADDRESSES_MAX)
            return cli_usage(line, "an invitation has room for %d addresses",
                             CAL_INVITATION_ADDRESSES_MAX);
        addresses[count++] = address;
    }
    int code = read_invitation(&m, cli_operand(line, 0), &text);
    if (code == 0) code = bare_invitation(&m, &text);
    if (code == 0) {
        bool to_code = count > 0 || !cal_invitation_is_code(text);
        int rc = to_code ? cal_invitation_to_code(text, addresses, count, &converted, &err)
                         : cal_invitation_to_json(text, &converted, &err);
        if (rc == 0)
            print_converted(&m, converted, to_code);
        else
            code = mero_fail(&m, "%s", err.message);
    }
    free(text);
    free(converted);
    return code;
}

const cli_option mero_convert_options[] = {{"address", 0, "MULTIADDR",
                                            "Where a member may be dialled, with its /p2p/ id; may "
                                            "be repeated. The result is a line then"},
                                           {0}};
const cli_option mero_invite_options[] = {
    {"code", 0, NULL, "As one line of text, with the addresses to dial in it"},
    {"role", 0, "admin|member|read-only", "What the joiner becomes (default: member)"},
    {"expiration-timestamp", 0, "SECONDS", "How long it is valid from now (default: 365 days)"},
    {"recursive", 'r', NULL, "One for each group below it as well"},
    {0}};
const cli_option mero_join_options[] = {{"name", 0, "TEXT", "Name of the namespace on this node"},
                                        {0}};
