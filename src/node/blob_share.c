/* Blobs of contexts between nodes: who may have ours, who is told that we have one, and fetching
 * those of others for whoever asks (network-sync.md 10). Loop thread, but where a function of
 * calimero/blob.h may be called from any. */
#include <stdlib.h>
#include <string.h>

#include "calimero/blob.h"
#include "gov/share.h"
#include "node/internal.h"

enum { GETS_MAX = 32, ANNOUNCED_MAX = 1000 /* a host has 1,024 keys */ };

/* --- serving --- */

/* What runs now, and what the context was registered with: a member may still be behind. */
static bool is_code(void *user, const cal_context_id *context, const cal_blob_id *blob) {
    cal_gov *gov = ((cal_node *)user)->gov;
    gov_context_info info;
    cal_blob_id now;
    if (gov_context_get(gov, context, &info)) return false;
    return memcmp(&info.blob, blob, sizeof *blob) == 0 ||
           (gov_group_code(gov, &info.group, &now) == 0 && memcmp(&now, blob, sizeof now) == 0);
}

static bool is_member(void *user, const cal_context_id *context, const cal_public_key *key) {
    cal_gov *gov = ((cal_node *)user)->gov;
    gov_context_info info;
    return gov_context_get(gov, context, &info) == 0 && gov_key_may_read(gov, &info.group, key);
}

/* --- announcing --- */

typedef struct announced {
    cal_list link; /* node->code.announced */
    cal_blob_id blob;
    cal_context_id context;
} announced;

void node_blob_key(const cal_context_id *context, const cal_blob_id *blob,
                   uint8_t ret_key[CAL_P2P_KEY_SIZE]) {
    memcpy(ret_key, context->bytes, CAL_ID_SIZE);
    memcpy(ret_key + CAL_ID_SIZE, blob->bytes, CAL_ID_SIZE);
}

static void withdraw(cal_node *node, announced *each) {
    uint8_t key[CAL_P2P_KEY_SIZE];
    node_blob_key(&each->context, &each->blob, key);
    if (node->network.host) cal_p2p_withdraw(node->network.host, key);
    cal_list_remove(&each->link);
    node->code.announced_count--;
    free(each);
}

int node_blob_announce(cal_node *node, const cal_blob_id *blob, uint64_t size,
                       const cal_context_id *context) {
    uint8_t key[CAL_P2P_KEY_SIZE];
    cal_account_id account;
    if (!node->network.host || node->code.stopping) return CAL_ECANCELED;
    if (gov_context_read(node->gov, context, &account, NULL)) return CAL_EDENIED;
    if (node->code.announced_count >= ANNOUNCED_MAX)
        withdraw(node, CAL_CONTAINER_OF(node->code.announced.next, announced, link));
    announced *each = malloc(sizeof *each);
    if (!each) return CAL_ENOMEM;
    node_blob_key(context, blob, key);
    int rc = cal_p2p_provide(node->network.host, key, size, NULL, NULL);
    if (rc != 0) {
        free(each);
        return rc == CAL_EEXISTS ? 0 : rc;
    }
    each->blob = *blob;
    each->context = *context;
    cal_list_push(&node->code.announced, &each->link);
    node->code.announced_count++;
    return 0;
}

void node_blob_withdraw(cal_node *node, const cal_blob_id *blob) {
    for (cal_list *at = node->code.announced.next, *next; at != &node->code.announced; at = next) {
        announced *each = CAL_CONTAINER_OF(at, announced, link);
        next = at->next;
        if (memcmp(&each->blob, blob, sizeof *blob) == 0) withdraw(node, each);
    }
}

struct announcement {
    cal_node *node;
    const cal_blob_id *blob;
    const cal_context_id *context;
    cal_error *err;
    int result;
};

static void announce(void *arg) {
    struct announcement *a = arg;
    cal_blobs_info info;
    a->result = cal_blobs_stat(a->node->blobs, a->blob, &info);
    if (a->result != 0) {
        cal_fail(a->err, a->result, "Blob not found");
        return;
    }
    a->result = node_blob_announce(a->node, a->blob, info.size, a->context);
    if (a->result == CAL_EDENIED)
        cal_fail(a->err, a->result, "this node is no member of the context");
    else if (a->result != 0)
        cal_fail(a->err, a->result, "the blob could not be announced: %s",
                 cal_error_text(a->result));
}

int cal_blob_announce(cal_node *node, const cal_blob_id *id, const cal_context_id *context,
                      cal_error *err) {
    struct announcement a = {.node = node, .blob = id, .context = context, .err = err};
    cal_node_run(node, announce, &a);
    return a.result;
}

/* --- fetching --- */

/* One for each blob and context, whoever waits for it. */
typedef struct get {
    cal_list link; /* node->code.gets */
    cal_node *node;
    cal_blob_id blob;
    cal_context_id context;
    node_fetch *fetch;
    cal_list waiters; /* of struct getting */
} get;

struct getting {
    node_operation operation;
    cal_list link;
    cal_blob_id blob;
    cal_context_id context;
    cal_blob_progress progress;
    cal_blob_done done;
    void *user;
};

static void answer(struct getting *getting, const cal_error *err, const cal_blobs_info *record) {
    cal_node *node = getting->operation.node;
    cal_blob_info info;
    if (record) info = node_blob_info(record);
    getting->done(getting->user, err, record ? &info : NULL);
    free(getting);
    node_end(node);
}

static void on_progress(void *user, uint64_t received, uint64_t size) {
    get *g = user;
    for (cal_list *at = g->waiters.next; at != &g->waiters; at = at->next) {
        const struct getting *each = CAL_CONTAINER_OF(at, struct getting, link);
        if (each->progress) each->progress(each->user, received, size);
    }
}

static void on_done(void *user, int result, const cal_blobs_info *info, const cal_error *err) {
    get *g = user;
    cal_node *node = g->node;
    cal_list *at;
    node->code.fetched += result == 0;
    cal_list_remove(&g->link);
    while ((at = cal_list_pop(&g->waiters)))
        answer(CAL_CONTAINER_OF(at, struct getting, link), result ? err : NULL, info);
    free(g);
    node_blobs_closed(node);
}

static get *find_get(cal_node *node, const struct getting *getting, size_t *ret_count) {
    *ret_count = 0;
    for (cal_list *at = node->code.gets.next; at != &node->code.gets; at = at->next) {
        get *g = CAL_CONTAINER_OF(at, get, link);
        ++*ret_count;
        if (memcmp(&g->blob, &getting->blob, sizeof g->blob) == 0 &&
            memcmp(&g->context, &getting->context, sizeof g->context) == 0)
            return g;
    }
    return NULL;
}

static int new_get(cal_node *node, const struct getting *getting, get **ret_get) {
    get *g = calloc(1, sizeof *g);
    if (!g) return CAL_ENOMEM;
    *g = (get){.node = node, .blob = getting->blob, .context = getting->context};
    cal_list_init(&g->waiters);
    const node_fetch_wanted wanted = {.blob = getting->blob,
                                      .context = getting->context,
                                      .size_max = CAL_BLOB_UPLOAD_MAX,
                                      .progress = on_progress,
                                      .done = on_done,
                                      .user = g};
    int rc = node_fetch_start(node, &wanted, &g->fetch);
    if (rc != 0) {
        free(g);
        return rc;
    }
    cal_list_push(&node->code.gets, &g->link);
    *ret_get = g;
    return 0;
}

static void start_getting(node_operation *operation) {
    struct getting *getting = CAL_CONTAINER_OF(operation, struct getting, operation);
    cal_node *node = operation->node;
    cal_blobs_info info;
    cal_account_id account;
    cal_error err = {0};
    size_t count;
    if (cal_blobs_stat(node->blobs, &getting->blob, &info) == 0) {
        answer(getting, NULL, &info);
        return;
    }
    int rc = gov_context_read(node->gov, &getting->context, &account, &err);
    get *g = find_get(node, getting, &count);
    if (rc == 0 && !g)
        rc = count < GETS_MAX ? new_get(node, getting, &g)
                              : cal_fail(&err, CAL_EOVERLOAD, "too many blobs are being fetched");
    if (rc == 0) {
        cal_list_push(&g->waiters, &getting->link);
        return;
    }
    if (err.code == 0) cal_fail(&err, rc, "the blob cannot be fetched: %s", cal_error_text(rc));
    answer(getting, &err, NULL);
}

void cal_blob_fetch(cal_node *node, const cal_blob_id *id, const cal_context_id *context,
                    cal_blob_progress progress, cal_blob_done done, void *user) {
    struct getting *getting = calloc(1, sizeof *getting);
    if (!getting) {
        cal_error err;
        cal_fail(&err, CAL_ENOMEM, "out of memory");
        done(user, &err, NULL);
        return;
    }
    getting->blob = *id;
    getting->context = *context;
    getting->progress = progress;
    getting->done = done;
    getting->user = user;
    node_begin(node, &getting->operation, start_getting);
}

struct getting_wait {
    node_waiter waiter;
    int code;
    cal_error *err;
};

static void getting_wait_done(void *user, const cal_error *err, const cal_blob_info *info) {
    struct getting_wait *wait = user;
    (void)info;
    wait->code = err ? err->code : 0;
    if (err && wait->err) *wait->err = *err;
    node_waiter_finish(&wait->waiter);
}

int cal_blob_fetch_wait(cal_node *node, const cal_blob_id *id, const cal_context_id *context,
                        cal_error *err) {
    if (cal_node_on_loop(node)) return node_no_waiting(err);
    struct getting_wait wait = {.err = err};
    node_waiter_init(&wait.waiter, node);
    cal_blob_fetch(node, id, context, NULL, getting_wait_done, &wait);
    node_waiter_wait(&wait.waiter);
    return wait.code;
}

/* --- life --- */

int node_blobs_open(cal_node *node) {
    const sync_blob_questions questions = {
        .user = node, .is_code = is_code, .is_member = is_member};
    return sync_blobs_serve(node->network.host, node->blobs, &node->runner, &questions,
                            &node->code.server);
}

void node_blobs_closed(cal_node *node) {
    node_code *code = &node->code;
    void (*closed)(void *user) = code->closed;
    if (!closed || code->server || code->busy > 0 || !cal_list_empty(&code->gets)) return;
    code->closed = NULL;
    closed(code->closed_user);
}

static void server_gone(void *user) {
    cal_node *node = user;
    node->code.server = NULL;
    node_blobs_closed(node);
}

void node_blobs_quit(cal_node *node) {
    node_code *code = &node->code;
    if (code->stopping) return;
    code->stopping = true;
    if (code->server) sync_blobs_unserve(code->server, server_gone, node);
    node_code_cancel(node);
    for (cal_list *at = code->gets.next; at != &code->gets; at = at->next)
        node_fetch_cancel(CAL_CONTAINER_OF(at, get, link)->fetch);
}

void node_blobs_close(cal_node *node, void (*done)(void *user), void *user) {
    node->code.closed = done;
    node->code.closed_user = user;
    node_blobs_quit(node);
    node_blobs_closed(node);
}

void node_blobs_free(cal_node *node) {
    cal_list *at;
    sync_blobs_server_free(node->code.server); /* the loop never ran */
    node->code.server = NULL;
    node_code_free(node);
    while ((at = cal_list_pop(&node->code.announced))) free(CAL_CONTAINER_OF(at, announced, link));
}
