/* meroctl group metadata, member-metadata, context-metadata. Protocol: http-api.md 5.5, 13.
 *
 * The API replaces a record as a whole; these commands read it, change what they were told to, and
 * write it back. Two who do so at once: the later one wins. */
#include <string.h>

#include "mero.h"

enum { KEY_MAX = 64 };

/* Which record: two paths, by the second operand's kind. */
typedef enum record_kind { OF_GROUP, OF_MEMBER, OF_CONTEXT } record_kind;

static const char *path_of(record_kind kind) {
    return kind == OF_MEMBER    ? "/admin-api/groups/%s/members/%s/metadata"
           : kind == OF_CONTEXT ? "/admin-api/groups/%s/contexts/%s/metadata"
                                : "/admin-api/groups/%s/metadata";
}

static int open_record(mero *m, cli *line, record_kind kind, char ret_group[CAL_ID_TEXT_MAX],
                       char ret_item[CAL_ID_TEXT_MAX], yyjson_doc **ret_doc) {
    int code = mero_open(m, line);
    if (code) return code;
    ret_item[0] = 0;
    code = mero_group(m, cli_operand(line, 0), ret_group);
    if (code == 0 && kind == OF_MEMBER)
        code = mero_member(m, ret_group, cli_operand(line, 1), ret_item);
    if (code == 0 && kind == OF_CONTEXT) code = mero_context(m, cli_operand(line, 1), ret_item);
    if (code == 0) code = mero_ask(m, "GET", NULL, ret_doc, path_of(kind), ret_group, ret_item);
    if (code) mero_close(m);
    return code;
}

static int get(cli *line, record_kind kind) {
    mero m;
    char group[CAL_ID_TEXT_MAX], item[CAL_ID_TEXT_MAX];
    yyjson_doc *doc = NULL;
    int code = open_record(&m, line, kind, group, item, &doc);
    if (code) return code;
    if (!m.json && yyjson_is_null(mero_data(doc)))
        puts("none");
    else
        mero_print(&m, yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
    mero_close(&m);
    return 0;
}

/* --- set --- */

/* The options are judged before anything is asked. */
static int check_options(const cli *line) {
    size_t position = 0;
    const char *pair;
    bool some = cli_flag(line, "clear-name") || cli_get(line, "name") || cli_get(line, "unset") ||
                cli_flag(line, "replace-data");
    if (cli_flag(line, "clear-name") && cli_get(line, "name"))
        return cli_usage(line, "--name and --clear-name exclude each other");
    if (cli_flag(line, "replace-data") && cli_get(line, "unset"))
        return cli_usage(line, "--unset and --replace-data exclude each other");
    while ((pair = cli_each(line, "set", &position))) {
        const char *equals = strchr(pair, '=');
        some = true;
        if (!equals || equals == pair || equals - pair > KEY_MAX)
            return cli_usage(line, "--set '%s' is not KEY=VALUE with a key of at most %d bytes",
                             pair, KEY_MAX);
    }
    return some ? 0 : cli_usage(line, "nothing to set: give --name, --set, --unset, ...");
}

static void put_pair(yyjson_mut_doc *body, yyjson_mut_val *data, const char *key, size_t len,
                     const char *value) {
    yyjson_mut_obj_remove_strn(data, key, len);
    if (value)
        yyjson_mut_obj_add(data, yyjson_mut_strncpy(body, key, len),
                           yyjson_mut_strcpy(body, value));
}

static yyjson_mut_doc *changed(const cli *line, yyjson_val *now) {
    yyjson_mut_doc *body = mero_body();
    yyjson_mut_val *root = yyjson_mut_doc_get_root(body);
    const char *name = cli_get(line, "name"), *old = mero_text(now, "name"), *text;
    if (!name && !cli_flag(line, "clear-name") && old[0]) name = old;
    mero_set(body, "name", name);
    yyjson_val *old_data = yyjson_obj_get(now, "data");
    yyjson_mut_val *data = yyjson_is_obj(old_data) && !cli_flag(line, "replace-data")
                               ? yyjson_val_mut_copy(body, old_data)
                               : yyjson_mut_obj(body);
    yyjson_mut_obj_add_val(body, root, "data", data);
    size_t position = 0;
    while ((text = cli_each(line, "set", &position)))
        put_pair(body, data, text, (size_t)(strchr(text, '=') - text), strchr(text, '=') + 1);
    position = 0;
    while ((text = cli_each(line, "unset", &position)))
        put_pair(body, data, text, strlen(text), NULL);
    return body;
}

static int set(cli *line, record_kind kind) {
    mero m;
    char group[CAL_ID_TEXT_MAX], item[CAL_ID_TEXT_MAX];
    yyjson_doc *doc = NULL, *answer = NULL;
    int code = check_options(line);
    if (code == 0) code = open_record(&m, line, kind, group, item, &doc);
    if (code) return code;
    code = mero_ask(&m, "PUT", changed(line, mero_data(doc)), &answer, path_of(kind), group, item);
    if (code == 0) mero_print(&m, yyjson_doc_get_root(answer));
    yyjson_doc_free(doc);
    yyjson_doc_free(answer);
    mero_close(&m);
    return code;
}

static int group_get_run(cli *line) { return get(line, OF_GROUP); }
static int group_set_run(cli *line) { return set(line, OF_GROUP); }
static int member_get_run(cli *line) { return get(line, OF_MEMBER); }
static int member_set_run(cli *line) { return set(line, OF_MEMBER); }
static int context_get_run(cli *line) { return get(line, OF_CONTEXT); }
static int context_set_run(cli *line) { return set(line, OF_CONTEXT); }

static const cli_option set_options[] = {
    {"name", 0, "TEXT", "Its name (left out: the name stays)"},
    {"clear-name", 0, NULL, "No name any more"},
    {"set", 0, "KEY=VALUE", "Set an entry of its data; may be given several times"},
    {"unset", 0, "KEY", "Remove an entry; may be given several times"},
    {"replace-data", 0, NULL, "Only the entries of --set remain"},
    {0}};

const cli_command mero_metadata_commands[] = {
    {"get", NULL, "GROUP", "Show it", NULL, NULL, NULL, group_get_run},
    {"set", NULL, "GROUP", "Change it", NULL, set_options, NULL, group_set_run},
    {0}};
const cli_command mero_member_metadata_commands[] = {
    {"get", NULL, "GROUP MEMBER", "Show it", MERO_MEMBER_IS, NULL, NULL, member_get_run},
    {"set", NULL, "GROUP MEMBER", "Change it", MERO_MEMBER_IS, set_options, NULL, member_set_run},
    {0}};
const cli_command mero_context_metadata_commands[] = {
    {"get", NULL, "GROUP CONTEXT", "Show it", NULL, NULL, NULL, context_get_run},
    {"set", NULL, "GROUP CONTEXT", "Change it", NULL, set_options, NULL, context_set_run},
    {0}};
