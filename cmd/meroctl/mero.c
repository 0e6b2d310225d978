/* Requests and errors, see mero.h. */
#include "mero.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int mero_open(mero *m, const cli *line) {
    *m = (mero){.line = line};
    const char *format = cli_get(line, "output-format");
    m->json = format && strcmp(format, "json") == 0;
    char *url = NULL, *token = NULL;
    int code = mero_nodes_target(line, &url, &token);
    if (code) return code;
    cal_error err = {0};
    cal_client_options options = {.url = url, .token = token};
    code = cal_client_new(&options, &m->client, &err) == 0 ? 0 : mero_error(m, &err);
    free(url);
    free(token);
    return code;
}

void mero_close(mero *m) {
    cli_progress_end(&m->progress);
    cal_client_free(m->client);
    m->client = NULL;
}

static void print_error(const mero *m, const char *message) {
    if (!m->json) {
        fprintf(stderr, "meroctl: %s\n", message);
        return;
    }
    yyjson_mut_doc *doc = mero_body();
    mero_set(doc, "error", message);
    char *text = yyjson_mut_write(doc, YYJSON_WRITE_ALLOW_INVALID_UNICODE, NULL);
    if (text) puts(text);
    free(text);
    yyjson_mut_doc_free(doc);
}

int mero_error(const mero *m, const cal_error *err) {
    print_error(m, err->message);
    return CLI_CLIENT;
}

int mero_fail(const mero *m, const char *format, ...) {
    char message[CAL_ERROR_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    print_error(m, message);
    return CLI_FAILED;
}

void mero_progress(mero *m, const char *label) {
    cli_progress_end(&m->progress);
    m->progress = (cli_progress){.label = label};
    cal_client_on_progress(m->client, NULL, NULL);
    if (label && isatty(STDERR_FILENO)) {
        /* The wheel starts at once, not at the first tick. */
        cli_progress_update(&m->progress, 0, 0);
        cal_client_on_progress(m->client, (cal_client_progress)cli_progress_update, &m->progress);
    }
}

/* --- paths --- */

static size_t escape(char *ret_text, size_t at, size_t max, const char *text) {
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    for (; *text && at + 4 < max; text++) {
        if (strchr(plain, *text))
            ret_text[at++] = *text;
        else
            at += (size_t)snprintf(ret_text + at, max - at, "%%%02X", (unsigned char)*text);
    }
    return at;
}

/* false: too long. */
static bool make_path(char ret_path[MERO_PATH_MAX], const char *format, va_list args) {
    size_t at = 0;
    for (const char *p = format; *p && at + 4 < MERO_PATH_MAX; p++) {
        if (p[0] == '%' && p[1] == 's') {
            at = escape(ret_path, at, MERO_PATH_MAX, va_arg(args, const char *));
            p++;
        } else {
            ret_path[at++] = *p;
        }
    }
    ret_path[at] = 0;
    return at + 4 < MERO_PATH_MAX;
}

static int ask_once(mero *m, const char *verb, yyjson_mut_doc *body, const char *path,
                    yyjson_doc **ret_doc) {
    bool wants_body = strcmp(verb, "POST") == 0 || strcmp(verb, "PUT") == 0;
    char *json = body ? yyjson_mut_write(body, YYJSON_WRITE_ALLOW_INVALID_UNICODE, NULL) : NULL;
    yyjson_mut_doc_free(body);
    cal_error err = {0};
    cal_client_answer answer = {0};
    int error = cal_client_request(m->client, verb, path,
                                   json         ? json
                                   : wants_body ? "null"
                                                : NULL,
                                   &answer, &err);
    free(json);
    cli_progress_end(&m->progress);
    if (error == 0) error = cal_client_check(&answer, &err);
    if (answer.status == 404 && answer.len == 0)
        snprintf(err.message, sizeof err.message, "HTTP 404: this node has no %s %s", verb, path);
    if (error == 0) {
        *ret_doc = yyjson_read(answer.body, answer.len, 0);
        if (!*ret_doc && answer.len > 0) {
            error = CAL_EDECODE;
            snprintf(err.message, sizeof err.message,
                     "%s answers, but not as a node: no JSON came back for %s",
                     cal_client_url(m->client), path);
        }
    }
    cal_client_answer_deinit(&answer);
    return error == 0 ? 0 : mero_error(m, &err);
}

/* --- pages --- */

enum { OFFSET_MAX = 100000 }; /* that a node takes, http-api.md 2 */

/* The rows of a listing's answer: "data", or the first list in it or beside it. */
static yyjson_mut_val *rows_of(yyjson_mut_val *root) {
    yyjson_mut_val *data = yyjson_mut_obj_get(root, "data"), *value = data ? data : root;
    size_t i, n;
    yyjson_mut_val *key, *member;
    if (!yyjson_mut_is_obj(value)) return yyjson_mut_is_arr(value) ? value : NULL;
    yyjson_mut_obj_foreach(value, i, n, key, member) {
        if (yyjson_mut_is_arr(member)) return member;
    }
    return NULL;
}

static yyjson_mut_doc *changeable(yyjson_doc *doc) {
    yyjson_mut_doc *copy = doc ? yyjson_doc_mut_copy(doc, NULL) : NULL;
    yyjson_doc_free(doc);
    return copy;
}

/* The next page's rows behind those of `all`; their number, or -1. */
static int append_page(yyjson_mut_doc *all, yyjson_doc *page) {
    yyjson_mut_doc *from = changeable(page);
    yyjson_mut_val *rows = from ? rows_of(yyjson_mut_doc_get_root(from)) : NULL,
                   *into = rows_of(yyjson_mut_doc_get_root(all)), *row;
    size_t i, n;
    int count = rows ? 0 : -1;
    yyjson_mut_arr_foreach(rows, i, n, row) {
        yyjson_mut_val *copy = yyjson_mut_val_mut_copy(all, row);
        if (count < 0 || !yyjson_mut_arr_append(into, copy)) count = -1;
        if (count >= 0) count++;
    }
    yyjson_mut_doc_free(from);
    return count;
}

/* A node gives a page at most. What changes between two of them may be missed, or shown twice. */
static int ask_pages(mero *m, const char *path, yyjson_doc **doc) {
    char next[MERO_PATH_MAX + 32];
    if (!*doc) return 0;
    yyjson_mut_doc *all = changeable(*doc);
    yyjson_mut_val *rows = all ? rows_of(yyjson_mut_doc_get_root(all)) : NULL;
    size_t seen = yyjson_mut_arr_size(rows), added = seen;
    int code = 0;
    while (code == 0 && rows && added == MERO_PAGE) {
        yyjson_doc *page = NULL;
        if (seen > OFFSET_MAX) {
            fprintf(stderr, "meroctl: there are more: these are the first %zu\n", seen);
            break;
        }
        snprintf(next, sizeof next, "%s&offset=%zu", path, seen);
        code = ask_once(m, "GET", NULL, next, &page);
        if (code) break;
        int count = append_page(all, page);
        if (count < 0) code = mero_fail(m, "the list goes on, but its next page cannot be read");
        added = count < 0 ? 0 : (size_t)count;
        seen += added;
    }
    *doc = code == 0 && all ? yyjson_mut_doc_imut_copy(all, NULL) : NULL;
    yyjson_mut_doc_free(all);
    return code == 0 && !*doc ? mero_fail(m, "out of memory") : code;
}

static int ask(mero *m, const char *verb, yyjson_mut_doc *body, const char *path,
               yyjson_doc **ret_doc) {
    size_t len = strlen(path), tail = sizeof MERO_ALL - 1;
    int code = ask_once(m, verb, body, path, ret_doc);
    bool paged = len > tail && strcmp(path + len - tail, MERO_ALL) == 0;
    return code == 0 && paged ? ask_pages(m, path, ret_doc) : code;
}

int mero_ask(mero *m, const char *verb, yyjson_mut_doc *body, yyjson_doc **ret_doc,
             const char *format, ...) {
    char path[MERO_PATH_MAX];
    va_list args;
    va_start(args, format);
    bool fits = make_path(path, format, args);
    va_end(args);
    if (fits) return ask(m, verb, body, path, ret_doc);
    yyjson_mut_doc_free(body);
    return mero_fail(m, "an argument is too long");
}

int mero_run(const cli *line, const char *verb, yyjson_mut_doc *body, const char *format, ...) {
    char path[MERO_PATH_MAX];
    va_list args;
    va_start(args, format);
    bool fits = make_path(path, format, args);
    va_end(args);
    mero m;
    yyjson_doc *doc = NULL;
    int code = fits ? mero_open(&m, line) : cli_fail(line, "an argument is too long");
    if (code) {
        yyjson_mut_doc_free(body);
        return code;
    }
    code = ask(&m, verb, body, path, &doc);
    if (code == 0) mero_print(&m, yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
    mero_close(&m);
    return code;
}

int mero_context(mero *m, const char *text, char ret_id[CAL_ID_TEXT_MAX]) {
    yyjson_doc *doc = NULL;
    int code = mero_ask(m, "POST", NULL, &doc, "/admin-api/alias/lookup/context/%s", text);
    if (code) return code;
    const char *value = mero_text(mero_data(doc), "value");
    uint8_t id[CAL_ID_SIZE];
    if (value[0] || cal_id_parse(text, id) == 0)
        snprintf(ret_id, CAL_ID_TEXT_MAX, "%s", value[0] ? value : text);
    else if (strcmp(text, "default") == 0)
        code = mero_fail(
            m,
            "no context given and no default set: name one, or say `meroctl context use CONTEXT`");
    else
        code = mero_fail(
            m, "'%s' is neither the alias nor the id of a context; see `meroctl context list`",
            text);
    yyjson_doc_free(doc);
    return code;
}

/* --- JSON --- */

yyjson_mut_doc *mero_body(void) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    if (!doc) abort();
    yyjson_mut_doc_set_root(doc, yyjson_mut_obj(doc));
    return doc;
}

void mero_set(yyjson_mut_doc *body, const char *key, const char *text) {
    if (text) yyjson_mut_obj_add_strcpy(body, yyjson_mut_doc_get_root(body), key, text);
}

void mero_set_bytes(yyjson_mut_doc *body, const char *key, const char *text) {
    yyjson_mut_val *bytes = yyjson_mut_arr(body);
    for (; text && *text; text++) yyjson_mut_arr_add_uint(body, bytes, (unsigned char)*text);
    yyjson_mut_obj_add_val(body, yyjson_mut_doc_get_root(body), key, bytes);
}

bool mero_set_json(yyjson_mut_doc *body, const char *key, const char *json) {
    yyjson_doc *doc = yyjson_read(json, strlen(json), 0);
    if (!doc) return false;
    yyjson_mut_val *copy = yyjson_val_mut_copy(body, yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
    return copy && yyjson_mut_obj_add_val(body, yyjson_mut_doc_get_root(body), key, copy);
}

yyjson_val *mero_data(yyjson_doc *doc) { return yyjson_obj_get(yyjson_doc_get_root(doc), "data"); }

const char *mero_text(yyjson_val *object, const char *key) {
    const char *text = yyjson_get_str(yyjson_obj_get(object, key));
    return text ? text : "";
}

bool mero_confirm(const mero *m, const char *question) {
    char answer[16] = "";
    if (cli_flag(m->line, "yes")) return true;
    if (!isatty(STDIN_FILENO)) {
        mero_fail(m, "%s Give --yes to do it without a terminal to ask on.", question);
        return false;
    }
    fprintf(stderr, "%s [y/N] ", question);
    return fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}
