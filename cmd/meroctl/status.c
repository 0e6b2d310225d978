/* meroctl context sync-status: whether others hold the same state. It claims no more than the node
 * does, which says "in sync" only of a peer whose root it saw. */
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "mero.h"

enum { POLL_US = 100 * 1000, WAIT_MAX_S = 3600, TIME_TEXT_MAX = 32 };

static yyjson_val *status_of(yyjson_doc *doc) {
    return yyjson_obj_get(mero_data(doc), "syncStatus");
}

static bool is_equal(yyjson_val *status) {
    return strcmp(mero_text(status, "state"), "in sync") == 0;
}

static void print_status(yyjson_val *status) {
    uint64_t at_ms = yyjson_get_uint(yyjson_obj_get(status, "comparedAt")),
             waiting = yyjson_get_uint(yyjson_obj_get(status, "waiting")),
             failures = yyjson_get_uint(yyjson_obj_get(status, "failures"));
    const char *why = mero_text(status, "why"), *peer = mero_text(status, "peer");
    printf("state: %s\n", mero_text(status, "state"));
    if (peer[0]) {
        char text[TIME_TEXT_MAX] = "";
        time_t at = (time_t)(at_ms / 1000);
        struct tm parts;
        if (gmtime_r(&at, &parts)) strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &parts);
        printf("last compared: %s, with %s\n", text, peer);
    }
    if (waiting)
        printf("waiting: %llu changes for something they need\n", (unsigned long long)waiting);
    if (failures) printf("failures: %llu comparisons in a row\n", (unsigned long long)failures);
    if (why[0]) printf("why: %s\n", why);
}

static int print_answer(const mero *m, yyjson_val *status) {
    if (!status) return mero_fail(m, "this node does not tell; it is older than this command");
    if (m->json)
        mero_print(m, status);
    else
        print_status(status);
    return 0;
}

static int ask_until(mero *m, const char *id, unsigned long long wait_s) {
    time_t end = time(NULL) + (time_t)wait_s;
    for (;;) {
        yyjson_doc *doc = NULL;
        int code = mero_ask(m, "GET", NULL, &doc, "/admin-api/contexts/%s", id);
        if (code) return code;
        bool equal = is_equal(status_of(doc)), over = time(NULL) >= end;
        if (equal || over) {
            code = print_answer(m, status_of(doc));
            if (code == 0 && wait_s > 0 && !equal) code = CLI_FAILED;
        }
        yyjson_doc_free(doc);
        if (equal || over) return code;
        usleep(POLL_US);
    }
}

int mero_sync_status_run(cli *line) {
    mero m;
    char id[CAL_ID_TEXT_MAX];
    unsigned long long wait_s;
    if (!cli_number(line, "wait", 1, WAIT_MAX_S, 0, &wait_s)) return CLI_USAGE;
    int code = mero_open(&m, line);
    if (code) return code;
    code = mero_context(&m, mero_context_text(line, cli_operand(line, 0)), id);
    if (code == 0) code = ask_until(&m, id, wait_s);
    mero_close(&m);
    return code;
}
