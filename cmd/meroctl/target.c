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

enum { MATCHES_SHOWN = 8, GROUPS_MAX = 1000 };

/* Ids of the rows with a name. */
typedef struct name_matches {
    size_t count;
    char ids[MATCHES_SHOWN][CAL_ID_TEXT_MAX]; /* the first of them */
} name_matches;

static void match(yyjson_val *rows, const char *key, const char *name, size_t len,
                  name_matches *matches) {
    yyjson_val *row;
    size_t i, n;
    yyjson_arr_foreach(rows, i, n, row) {
        const char *text = mero_text(row, "name");
        if (strlen(text) != len || memcmp(text, name, len) != 0) continue;
        if (matches->count < MATCHES_SHOWN)
            snprintf(matches->ids[matches->count], CAL_ID_TEXT_MAX, "%s", mero_text(row, key));
        matches->count++;
    }
}

static bool is_id(const char *text) {
    uint8_t id[CAL_ID_SIZE];
    return cal_id_parse(text, id) == 0;
}

/* The only match; several are refused, with their ids. Not for none. */
static int take_only(mero *m, const name_matches *matches, const char *what, const char *name,
                     size_t len, char ret_id[CAL_ID_TEXT_MAX]) {
    char ids[MATCHES_SHOWN * (CAL_ID_TEXT_MAX + 4)] = "";
    size_t at = 0;
    if (matches->count == 1) {
        memcpy(ret_id, matches->ids[0], CAL_ID_TEXT_MAX);
        return 0;
    }
    for (size_t i = 0; i < matches->count && i < MATCHES_SHOWN; i++)
        at += (size_t)snprintf(ids + at, sizeof ids - at, "\n  %s", matches->ids[i]);
    return mero_fail(m,
                     "'%.*s' is ambiguous: %zu %ss are called so. Give the id of the one you "
                     "mean:%s%s",
                     (int)(len < 100 ? len : 100), name, matches->count, what, ids,
                     matches->count > MATCHES_SHOWN ? "\n  ..." : "");
}

/* All groups of these namespaces that this node may see, one request each. */
static int match_groups(mero *m, yyjson_val *namespaces, const char *name, size_t len,
                        name_matches *matches) {
    char(*ids)[CAL_ID_TEXT_MAX] = calloc(GROUPS_MAX, sizeof *ids);
    size_t count = 0, i, n;
    yyjson_val *row;
    int code = 0;
    if (!ids) abort();
    yyjson_arr_foreach(namespaces, i, n, row) {
        if (yyjson_get_uint(yyjson_obj_get(row, "subgroupCount")) > 0 && count < GROUPS_MAX)
            snprintf(ids[count++], CAL_ID_TEXT_MAX, "%s", mero_text(row, "namespaceId"));
    }
    for (size_t at = 0; code == 0 && at < count; at++) {
        yyjson_doc *doc = NULL;
        code = mero_ask(m, "GET", NULL, &doc, "/admin-api/groups/%s/subgroups", ids[at]);
        yyjson_val *groups = yyjson_obj_get(yyjson_doc_get_root(doc), "subgroups");
        match(groups, "groupId", name, len, matches);
        yyjson_arr_foreach(groups, i, n, row) {
            if (count < GROUPS_MAX)
                snprintf(ids[count++], CAL_ID_TEXT_MAX, "%s", mero_text(row, "groupId"));
        }
        yyjson_doc_free(doc);
    }
    free(ids);
    if (code == 0 && count == GROUPS_MAX) /* the rest might have the name as well */
        code = mero_fail(m,
                         "'%.*s' is no namespace's name, and there are too many groups to look "
                         "for it: give NAMESPACE/GROUP/..., or the id",
                         (int)len, name);
    return code;
}

/* A namespace; or, when none has the name, a group wherever it is. */
static int find_first(mero *m, const char *name, size_t len, char ret_id[CAL_ID_TEXT_MAX]) {
    name_matches found = {0};
    yyjson_doc *doc = NULL;
    const char *what = "namespace";
    int code = mero_ask(m, "GET", NULL, &doc, "/admin-api/namespaces" MERO_ALL);
    if (code == 0) match(mero_data(doc), "namespaceId", name, len, &found);
    if (code == 0 && found.count == 0 && len > 0) {
        what = "group";
        code = match_groups(m, mero_data(doc), name, len, &found);
    }
    yyjson_doc_free(doc);
    if (code == 0 && found.count == 0)
        code = mero_fail(m,
                         "'%.*s' is neither the id nor the name of a namespace or group of this "
                         "node; see `meroctl namespace list` and `meroctl group subgroups`",
                         (int)len, name);
    else if (code == 0)
        code = take_only(m, &found, what, name, len, ret_id);
    return code;
}

/* One step of NAMESPACE/GROUP/...: ret_id becomes the group of that name below it. */
static int step_below(mero *m, const char *name, size_t len, char ret_id[CAL_ID_TEXT_MAX]) {
    name_matches found = {0};
    yyjson_doc *doc = NULL;
    int code = mero_ask(m, "GET", NULL, &doc, "/admin-api/groups/%s/subgroups", ret_id);
    if (code == 0)
        match(yyjson_obj_get(yyjson_doc_get_root(doc), "subgroups"), "groupId", name, len, &found);
    yyjson_doc_free(doc);
    if (code == 0 && found.count == 0)
        code = mero_fail(m,
                         "'%.*s' is neither the id nor the name of a group below; see `meroctl "
                         "group subgroups`",
                         (int)len, name);
    else if (code == 0)
        code = take_only(m, &found, "group", name, len, ret_id);
    return code;
}

int mero_group(mero *m, const char *text, char ret_id[CAL_ID_TEXT_MAX]) {
    const char *name = text;
    size_t len = strcspn(name, "/");
    int code = 0;
    if (is_id(text)) {
        snprintf(ret_id, CAL_ID_TEXT_MAX, "%s", text);
        return 0;
    }
    snprintf(ret_id, CAL_ID_TEXT_MAX, "%.*s", (int)(len < CAL_ID_TEXT_MAX ? len : 0), name);
    if (!is_id(ret_id)) code = find_first(m, name, len, ret_id);
    while (code == 0 && name[len] == '/') {
        name += len + 1;
        len = strcspn(name, "/");
        code = step_below(m, name, len, ret_id);
    }
    return code;
}

int mero_count_namespaces(mero *m, const char *name, size_t *ret_count) {
    name_matches found = {0};
    yyjson_doc *doc = NULL;
    int code = mero_ask(m, "GET", NULL, &doc, "/admin-api/namespaces" MERO_ALL);
    if (code == 0) match(mero_data(doc), "namespaceId", name, strlen(name), &found);
    yyjson_doc_free(doc);
    *ret_count = found.count;
    return code;
}

int mero_member(mero *m, const char *group, const char *text, char ret_id[CAL_ID_TEXT_MAX]) {
    name_matches found = {0};
    yyjson_doc *doc = NULL;
    if (is_id(text)) {
        snprintf(ret_id, CAL_ID_TEXT_MAX, "%s", text);
        return 0;
    }
    int code = mero_ask(m, "GET", NULL, &doc, "/admin-api/groups/%s/members" MERO_ALL, group);
    if (code == 0)
        match(yyjson_obj_get(yyjson_doc_get_root(doc), "members"), "identity", text, strlen(text),
              &found);
    yyjson_doc_free(doc);
    if (code == 0 && found.count == 0)
        code = mero_fail(m,
                         "'%s' is no account, no key and no member's name; `meroctl account show` "
                         "says a node's own account, `meroctl group members list` those of a group",
                         text);
    else if (code == 0)
        code = take_only(m, &found, "member", text, strlen(text), ret_id);
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
