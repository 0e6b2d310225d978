/* What the words of a command line mean: groups, members and contexts by name or id, texts in
 * files.
 *
 * The node knows groups and members by ids alone, so names are looked up in its lists. An id is
 * never looked up: scripts that have ids cost one request. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mero.h"

enum { TEXT_FILE_MAX = 1024 * 1024 };

/* --- names in lists --- */

/* The only row whose "name" is the text; 0 rows or several are told apart. */
static yyjson_val *find_named(yyjson_val *rows, const char *name, size_t len, size_t *ret_count) {
    yyjson_val *row, *found = NULL;
    size_t i, n;
    *ret_count = 0;
    yyjson_arr_foreach(rows, i, n, row) {
        const char *text = mero_text(row, "name");
        if (strlen(text) != len || memcmp(text, name, len) != 0) continue;
        found = row;
        ++*ret_count;
    }
    return found;
}

static bool is_id(const char *text) {
    uint8_t id[CAL_ID_SIZE];
    return cal_id_parse(text, id) == 0;
}

/* One step of NAMESPACE/GROUP/...: the name's first `len` bytes in a list of the node. */
static int step(mero *m, yyjson_val *rows, const char *key, const char *name, size_t len,
                const char *what, char ret_id[CAL_ID_TEXT_MAX]) {
    size_t count = 0;
    yyjson_val *row = find_named(rows, name, len, &count);
    if (count == 1) {
        snprintf(ret_id, CAL_ID_TEXT_MAX, "%s", mero_text(row, key));
        return 0;
    }
    if (count > 1)
        return mero_fail(m, "%zu %ss are called '%.*s': give the id of the one you mean", count,
                         what, (int)len, name);
    return mero_fail(m, "'%.*s' is neither the id nor the name of a %s of this node; see %s",
                     (int)len, name, what,
                     strcmp(what, "namespace") == 0 ? "`meroctl namespace list`"
                                                    : "`meroctl group subgroups`");
}

int mero_group(mero *m, const char *text, char ret_id[CAL_ID_TEXT_MAX]) {
    const char *name = text;
    size_t len = strcspn(name, "/");
    yyjson_doc *doc = NULL;
    int code;
    if (is_id(text)) {
        snprintf(ret_id, CAL_ID_TEXT_MAX, "%s", text);
        return 0;
    }
    snprintf(ret_id, CAL_ID_TEXT_MAX, "%.*s", (int)(len < CAL_ID_TEXT_MAX ? len : 0), name);
    if (is_id(ret_id)) {
        code = 0;
    } else {
        code = mero_ask(m, "GET", NULL, &doc, "/admin-api/namespaces" MERO_ALL);
        if (code == 0)
            code = step(m, mero_data(doc), "namespaceId", name, len, "namespace", ret_id);
        yyjson_doc_free(doc);
    }
    while (code == 0 && name[len] == '/') {
        name += len + 1;
        len = strcspn(name, "/");
        doc = NULL;
        code = mero_ask(m, "GET", NULL, &doc, "/admin-api/groups/%s/subgroups", ret_id);
        if (code == 0)
            code = step(m, yyjson_obj_get(yyjson_doc_get_root(doc), "subgroups"), "groupId", name,
                        len, "group", ret_id);
        yyjson_doc_free(doc);
    }
    return code;
}

int mero_member(mero *m, const char *group, const char *text, char ret_id[CAL_ID_TEXT_MAX]) {
    yyjson_doc *doc = NULL;
    size_t count = 0;
    if (is_id(text)) {
        snprintf(ret_id, CAL_ID_TEXT_MAX, "%s", text);
        return 0;
    }
    int code = mero_ask(m, "GET", NULL, &doc, "/admin-api/groups/%s/members" MERO_ALL, group);
    if (code) return code;
    yyjson_val *row =
        find_named(yyjson_obj_get(yyjson_doc_get_root(doc), "members"), text, strlen(text), &count);
    if (count == 1)
        snprintf(ret_id, CAL_ID_TEXT_MAX, "%s", mero_text(row, "identity"));
    else if (count > 1)
        code = mero_fail(m, "%zu members are called '%s': give the account of the one you mean",
                         count, text);
    else
        code = mero_fail(m,
                         "'%s' is no account, no key and no member's name; `meroctl account show` "
                         "says a node's own account, `meroctl group members list` those of a group",
                         text);
    yyjson_doc_free(doc);
    return code;
}

const char *mero_context_text(const cli *line, const char *operand) {
    const char *option = cli_get(line, "context");
    return operand ? operand : option ? option : "default";
}

/* --- one request about one of them --- */

int mero_about_group(const cli *line, const char *verb, yyjson_mut_doc *body, const char *path) {
    mero m;
    char id[CAL_ID_TEXT_MAX];
    const char *second = cli_operand(line, 1);
    yyjson_doc *doc = NULL;
    int code = mero_open(&m, line);
    if (code == 0) {
        code = mero_group(&m, cli_operand(line, 0), id);
        if (code)
            yyjson_mut_doc_free(body);
        else
            code = mero_ask(&m, verb, body, &doc, path, id, second ? second : "");
        if (code == 0) mero_print(&m, yyjson_doc_get_root(doc));
        yyjson_doc_free(doc);
        mero_close(&m);
        return code;
    }
    yyjson_mut_doc_free(body);
    return code;
}

int mero_about_context(const cli *line, const char *text, const char *verb, yyjson_mut_doc *body,
                       const char *path) {
    mero m;
    char id[CAL_ID_TEXT_MAX];
    yyjson_doc *doc = NULL;
    int code = mero_open(&m, line);
    if (code) {
        yyjson_mut_doc_free(body);
        return code;
    }
    code = mero_context(&m, text, id);
    if (code)
        yyjson_mut_doc_free(body);
    else
        code = mero_ask(&m, verb, body, &doc, path, id);
    if (code == 0) mero_print(&m, yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
    mero_close(&m);
    return code;
}

/* --- texts --- */

static char *trimmed(const char *text) {
    while (isspace((unsigned char)*text)) text++;
    char *copy = strdup(text);
    if (!copy) abort();
    for (size_t len = strlen(copy); len > 0 && isspace((unsigned char)copy[len - 1]);)
        copy[--len] = 0;
    return copy;
}

int mero_read_text(const mero *m, const char *source, char **ret_text) {
    const char *path = strncmp(source, "file:", 5) == 0 ? source + 5
                       : source[0] == '@'               ? source + 1
                                                        : NULL;
    if (!path && strcmp(source, "-") != 0) {
        *ret_text = trimmed(source);
        return 0;
    }
    FILE *file = path ? fopen(path, "r") : stdin;
    if (!file) return mero_fail(m, "%s: %s", path, strerror(errno));
    char *text = calloc(1, TEXT_FILE_MAX + 1);
    if (!text) abort();
    size_t len = fread(text, 1, TEXT_FILE_MAX + 1, file);
    bool failed = ferror(file) != 0;
    if (path) fclose(file);
    int code = 0;
    if (failed)
        code =
            mero_fail(m, "%s cannot be read: %s", path ? path : "standard input", strerror(errno));
    else if (len > TEXT_FILE_MAX || strlen(text) != len)
        code = mero_fail(m, "%s is no text of at most %d bytes", path ? path : "standard input",
                         TEXT_FILE_MAX);
    else
        *ret_text = trimmed(text);
    free(text);
    return code;
}
