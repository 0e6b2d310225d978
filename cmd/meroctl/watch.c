/* meroctl app watch: the loop of a developer. Each change of the file is installed, then every
 * context that ran the version before is moved to it. Protocol: http-api.md 13. */
#include <errno.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "mero.h"

enum { EVENTS_SIZE = 4096, FILE_PATH_MAX = 4096 };

static int update_context(mero *m, const char *context, const char *application) {
    yyjson_doc *doc = NULL;
    int code = mero_ask(m, "GET", NULL, &doc, "/admin-api/contexts/%s/identities-owned", context);
    if (code) return code;
    yyjson_mut_doc *body = mero_body();
    mero_set(body, "applicationId", application);
    mero_set(body, "executorPublicKey",
             yyjson_get_str(yyjson_arr_get_first(yyjson_obj_get(mero_data(doc), "identities"))));
    yyjson_doc_free(doc);
    doc = NULL;
    code = mero_ask(m, "POST", body, &doc, "/admin-api/contexts/%s/application", context);
    yyjson_doc_free(doc);
    if (code == 0) fprintf(stderr, "context %s now runs it\n", context);
    return code;
}

/* Moves every context from one application id to another; goes on after a failure. */
static int update_contexts(mero *m, const char *from, const char *to) {
    if (strcmp(from, to) == 0)
        return 0; /* a bundle keeps its id: its contexts pick the new version up by themselves */
    yyjson_doc *doc = NULL;
    yyjson_val *context;
    size_t i, n;
    int worst = mero_ask(m, "GET", NULL, &doc, "/admin-api/contexts" MERO_ALL);
    yyjson_arr_foreach(yyjson_obj_get(mero_data(doc), "contexts"), i, n, context) {
        if (strcmp(mero_text(context, "applicationId"), from) != 0) continue;
        int code = update_context(m, mero_text(context, "id"), to);
        if (code) worst = code;
    }
    yyjson_doc_free(doc);
    return worst;
}

/* Watches the folder, because editors and compilers replace files. Returns when the named file was
 * written or moved in. */
static int wait_for_change(mero *m, int watcher, const char *name) {
    _Alignas(struct inotify_event) char events[EVENTS_SIZE];
    for (;;) {
        ssize_t len = read(watcher, events, sizeof events);
        if (len < 0 && errno == EINTR) continue;
        if (len <= 0) return mero_fail(m, "watching failed: %s", strerror(errno));
        for (char *p = events; p < events + len;) {
            const struct inotify_event *event = (const struct inotify_event *)p;
            if (event->len > 0 && strcmp(event->name, name) == 0) return 0;
            p += sizeof *event + event->len;
        }
    }
}

static int watch_file(mero *m, const char *path) {
    char folder_copy[FILE_PATH_MAX], name_copy[FILE_PATH_MAX], current[CAL_ID_TEXT_MAX],
        next[CAL_ID_TEXT_MAX];
    snprintf(folder_copy, sizeof folder_copy, "%s", path);
    snprintf(name_copy, sizeof name_copy, "%s", path);
    const char *name = basename(name_copy), *given = cli_get(m->line, "current-app-id");
    int watcher = inotify_init1(IN_CLOEXEC);
    if (watcher < 0 ||
        inotify_add_watch(watcher, dirname(folder_copy), IN_CLOSE_WRITE | IN_MOVED_TO) < 0) {
        if (watcher >= 0) close(watcher);
        return mero_fail(m, "%s cannot be watched: %s", path, strerror(errno));
    }
    int code = mero_app_install_file(m, path, current);
    if (code == 0) fprintf(stderr, "installed %s; watching %s, Ctrl-C ends\n", current, path);
    if (code == 0 && given) {
        code = update_contexts(m, given, current);
    }
    while (code == 0) {
        code = wait_for_change(m, watcher, name);
        if (code) break;
        if (mero_app_install_file(m, path, next) != 0)
            continue; /* said why; the next build may be better */
        printf("%s\n", next);
        fflush(stdout);
        update_contexts(m, current, next);
        memcpy(current, next, sizeof current);
    }
    close(watcher);
    return code;
}

int mero_app_watch_run(cli *line) {
    const char *path = cli_get(line, "path");
    if (!path) return cli_usage(line, "--path FILE is missing");
    mero m;
    int code = mero_open(&m, line);
    if (code) return code;
    code = watch_file(&m, path);
    mero_close(&m);
    return code;
}
