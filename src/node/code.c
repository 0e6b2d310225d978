/* Code that contexts run and that is not here: fetched from whoever shares the context, verified,
 * compiled, installed (network-sync.md 10; governance.md 12).
 *
 *     wanted --fetch--> here as a blob --worker: install, compile--> installed
 *        ^         |                              |
 *        |   pause, or a peer that subscribes     +--> refused, with words: not fetched again
 *        +---------+
 *
 * One fetch for each code, whatever number of contexts wait for it. A bundle must be of the
 * application that the contexts were registered with: package and signer make its id. The id of a
 * raw module follows from metadata that nobody sends, so its registration is believed, unless the
 * id is that of something else here. Loop thread, but for the installation. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/app.h"
#include "node/internal.h"

enum { RETRY_MIN_MS = 500, RETRY_MAX_MS = 60000, EXPECTED_MAX = 8, HEAD_SIZE = 4, LOOKS = 32 };

/* An application that some context says the code is of. */
typedef struct expected {
    cal_application_id id;
    char *source;
    node_claim claim;
} expected;

typedef struct code {
    cal_node *node;
    cal_blob_id blob;
    char text[CAL_ID_TEXT_MAX]; /* its id */
    cal_map users;              /* context id -> application id */
    node_fetch *fetch;
    bool installing, refused;
    bool again;    /* somebody who may have it came since the fetch began */
    bool fetched;  /* it was not here before: goes when it is refused */
    uint32_t turn; /* which context is asked for next */
    uint64_t tried_ms, due_ms;
    uint32_t failures;
    /* the installation's */
    cal_task work, answer;
    expected expected[EXPECTED_MAX];
    size_t expected_count;
    cal_app_stored stored;
    int result;
    cal_error err;
} code;

static uint64_t now_ms(const cal_node *node) { return node->os->mono_ns(node->os->user) / 1000000; }

static cal_slice key_of(const void *id) { return cal_slice_of(id, CAL_ID_SIZE); }

/* --- what is wanted --- */

static void free_code(code *c) {
    cal_map_cursor cursor = {0};
    void *application;
    while (cal_map_next(&c->users, &cursor, NULL, &application)) free(application);
    cal_map_deinit(&c->users);
    free(c);
}

static code *new_code(cal_node *node, const cal_blob_id *blob) {
    code *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    if (cal_map_put(&node->code.wanted, key_of(blob->bytes), c)) {
        free(c);
        return NULL;
    }
    c->node = node;
    c->blob = *blob;
    cal_id_to_base58(blob->bytes, c->text);
    cal_map_init(&c->users, cal_random_seed(node->os));
    return c;
}

static void drop(code *c) {
    cal_map_remove(&c->node->code.wanted, key_of(c->blob.bytes));
    free_code(c);
}

bool node_code_here(cal_node *node, const cal_application_id *application,
                    const cal_blob_id *blob) {
    cal_snapshot *snapshot = NULL;
    uint8_t key[2 * CAL_ID_SIZE]; /* of the version's row */
    memcpy(key, application->bytes, CAL_ID_SIZE);
    memcpy(key + CAL_ID_SIZE, blob->bytes, CAL_ID_SIZE);
    int rc = cal_blobs_stat(node->blobs, blob, NULL);
    if (rc == 0) rc = cal_store_snapshot(node->store, &snapshot);
    if (rc == 0)
        rc =
            cal_snapshot_get(snapshot, CAL_COLUMN_APPLICATION, cal_slice_of(key, sizeof key), NULL);
    cal_snapshot_free(snapshot);
    return rc == 0;
}

/* Whether the context still needs the code, and cannot have it yet. */
static bool needs(const code *c, const cal_context_id *context,
                  const cal_application_id *application) {
    cal_gov *gov = c->node->gov;
    cal_account_id account;
    gov_context_info info;
    cal_blob_id now;
    if (gov_context_get(gov, context, &info) || gov_context_read(gov, context, &account, NULL))
        return false;
    if (gov_group_code(gov, &info.group, &now) || memcmp(&now, &c->blob, sizeof now) != 0)
        return false;
    return !node_code_here(c->node, application, &c->blob);
}

/* The turn-th of the contexts that wait: each is tried, those who hear one may lack it. Those that
 * are met on the way and do not need it any more are forgotten, LOOKS of them at most. */
typedef enum found { FOUND, NOBODY, LATER } found;

static found find_user(code *c, cal_context_id *ret_context) {
    for (int looks = 0; c->users.count > 0; looks++) {
        cal_map_cursor cursor = {0};
        cal_slice key;
        void *application;
        if (looks == LOOKS) return LATER;
        for (uint32_t skip = c->turn % (uint32_t)c->users.count;; skip--)
            if (!cal_map_next(&c->users, &cursor, &key, &application) || skip == 0) break;
        memcpy(ret_context->bytes, key.data, sizeof ret_context->bytes);
        if (needs(c, ret_context, application)) return FOUND;
        cal_map_remove(&c->users, key_of(ret_context->bytes));
        free(application);
    }
    return NOBODY;
}

/* --- how it stands --- */

static void tell(const code *c, const char *why) {
    cal_sync_code_state(c->node->sync, &c->blob, why);
}

/* It is tried again, after a pause that grows unless somebody came who was not asked. */
static void retry(code *c, const char *why) {
    uint32_t shift = c->failures < 7 ? c->failures : 7;
    uint64_t pause = (uint64_t)RETRY_MIN_MS << shift;
    char text[CAL_ERROR_MESSAGE_MAX + 64];
    c->turn++;
    c->failures = c->again ? 0 : c->failures + 1;
    if (c->again || pause > RETRY_MAX_MS) pause = c->again ? RETRY_MIN_MS : RETRY_MAX_MS;
    c->due_ms = now_ms(c->node) + pause;
    snprintf(text, sizeof text, "its application is not here yet: %s", why);
    tell(c, text);
}

/* What comes under this id is the same whoever sends it. */
static void refuse(code *c) {
    char text[CAL_ERROR_MESSAGE_MAX + 64];
    c->refused = true;
    snprintf(text, sizeof text, "its application is refused: %s", c->err.message);
    cal_log(CAL_LOG_WARN, "node", "the code %s, which a context runs, is refused: %s", c->text,
            c->err.message);
    tell(c, text);
}

static void came(code *c) {
    cal_node *node = c->node;
    cal_blob_id blob = c->blob;
    drop(c);
    cal_sync_code_came(node->sync, &blob);
}

/* --- installing: worker --- */

static int refuse_bundle(code *c, const cal_application *application) {
    char here[CAL_ID_TEXT_MAX], wanted[CAL_ID_TEXT_MAX];
    cal_id_to_base58(application->id.bytes, here);
    cal_id_to_base58(c->expected[0].id.bytes, wanted);
    return cal_fail(&c->err, CAL_EVERIFY,
                    "it is package %s signed by %s, so application %s, and the context was "
                    "registered with application %s",
                    application->package, application->signer_id, here, wanted);
}

/* The record of an application is that of its newest version, also when an old one is fetched. */
static int keep_newest(cal_snapshot *snapshot, const cal_application *application, cal_batch *batch,
                       cal_arena *arena) {
    cal_application present;
    int order = 0;
    int rc = cal_application_get(snapshot, &application->id, arena, &present);
    if (rc == CAL_ENOTFOUND) return 0;
    if (rc == 0 && cal_version_compare(present.version, application->version, &order) == 0 &&
        order > 0)
        rc = cal_application_put(batch, &present);
    return rc;
}

static int install_bundle(code *c, cal_snapshot *snapshot, cal_batch *batch, cal_arena *arena) {
    const cal_app_installer installer = {
        .os = c->node->os, .blobs = &c->node->app_blobs, .stored = &c->stored};
    cal_application application;
    bool known = false;
    int rc = cal_app_install_blob(&installer, &c->blob, c->expected[0].source, batch, arena,
                                  &application, &c->err);
    if (rc != 0) return rc;
    for (size_t i = 0; i < c->expected_count && !known; i++)
        known = memcmp(&c->expected[i].id, &application.id, sizeof application.id) == 0;
    if (!known) return refuse_bundle(c, &application);
    rc = keep_newest(snapshot, &application, batch, arena);
    return rc == 0 ? node_compile(c->node, &application, &c->err) : rc;
}

/* Another application must not be replaced by what somebody says is its code. */
static int install_as(code *c, const expected *as, uint64_t size, cal_snapshot *snapshot,
                      cal_batch *batch, cal_arena *arena) {
    cal_application present, application = {.id = as->id,
                                            .bytecode = c->blob,
                                            .size = size,
                                            .source = as->source,
                                            .signer_id = "",
                                            .package = CAL_APP_DEFAULT_PACKAGE,
                                            .version = CAL_APP_DEFAULT_VERSION};
    int rc = cal_application_get(snapshot, &as->id, arena, &present);
    if (rc == 0 && (present.bundle || memcmp(&present.bytecode, &c->blob, sizeof c->blob) != 0))
        return cal_fail(&c->err, CAL_EVERIFY,
                        "it is a module, and the application that the context was registered with "
                        "is here as %s %s: with other code",
                        present.package, present.version);
    if (rc == 0) return 0;
    return rc == CAL_ENOTFOUND ? cal_application_put(batch, &application) : rc;
}

static int install_module(code *c, uint64_t size, cal_snapshot *snapshot, cal_batch *batch,
                          cal_arena *arena) {
    size_t count = 0;
    int rc = size <= CAL_APP_MODULE_MAX
                 ? 0
                 : cal_fail(&c->err, CAL_ELIMIT, "it is a module of more than %d bytes",
                            CAL_APP_MODULE_MAX);
    for (size_t i = 0; i < c->expected_count && (rc == 0 || rc == CAL_EVERIFY); i++) {
        rc = install_as(c, &c->expected[i], size, snapshot, batch, arena);
        count += rc == 0;
    }
    if (rc == CAL_EVERIFY && count > 0) rc = 0; /* good for some of them */
    const cal_application module = {.bytecode = c->blob};
    return rc == 0 ? node_compile(c->node, &module, &c->err) : rc;
}

static int look_inside(code *c, bool *ret_bundle, uint64_t *ret_size) {
    static const char magic[] = "\0asm";
    const cal_app_blobs *blobs = &c->node->app_blobs;
    uint8_t head[HEAD_SIZE];
    void *reader = NULL;
    int rc = blobs->open(blobs->user, &c->blob, &reader, ret_size, &c->err);
    if (rc != 0) return rc;
    int64_t len = blobs->read(blobs->user, reader, head, sizeof head);
    blobs->close(blobs->user, reader);
    if (len < 0) return (int)len;
    *ret_bundle = cal_bundle_looks_like(cal_slice_of(head, (size_t)len));
    if (*ret_bundle || (len == HEAD_SIZE && memcmp(head, magic, HEAD_SIZE) == 0)) return 0;
    return cal_fail(&c->err, CAL_EDECODE, "it is neither a bundle nor a WebAssembly module");
}

static int install(code *c, cal_snapshot *snapshot, cal_batch *batch, cal_arena *arena) {
    bool bundle = false;
    uint64_t size = 0;
    int rc = look_inside(c, &bundle, &size);
    if (rc != 0) return rc;
    return bundle ? install_bundle(c, snapshot, batch, arena)
                  : install_module(c, size, snapshot, batch, arena);
}

/* Whether another attempt could end otherwise. */
static bool is_final(int result) {
    return result == CAL_EVERIFY || result == CAL_EDECODE || result == CAL_EVERSION ||
           result == CAL_EINVAL || result == CAL_ELIMIT || result == CAL_EGUEST ||
           result == CAL_EUNSUPPORTED;
}

static void undo(code *c) {
    const size_t max = sizeof c->stored.ids / sizeof *c->stored.ids;
    const cal_app_installer installer = {.blobs = &c->node->app_blobs, .stored = &c->stored};
    cal_snapshot *snapshot = NULL;
    if (c->fetched && is_final(c->result) && c->stored.count < max)
        c->stored.ids[c->stored.count++] = c->blob;
    if (cal_store_snapshot(c->node->store, &snapshot) == 0)
        cal_app_install_undo(&installer, snapshot);
    cal_snapshot_free(snapshot);
}

static void install_answer(cal_task *task);

static void install_work(cal_task *task) {
    code *c = CAL_CONTAINER_OF(task, code, work);
    cal_snapshot *snapshot = NULL;
    cal_arena arena;
    cal_arena_init(&arena, NODE_ARENA_MAX);
    cal_batch *batch = cal_batch_new();
    c->err.code = 0;
    c->stored.count = 0;
    c->result = batch ? cal_store_snapshot(c->node->store, &snapshot) : CAL_ENOMEM;
    if (c->result == 0) c->result = install(c, snapshot, batch, &arena);
    cal_snapshot_free(snapshot);
    if (c->result == 0)
        c->result = cal_store_commit(c->node->store, batch, &c->err);
    else
        cal_batch_free(batch);
    if (c->result != 0) undo(c);
    if (c->result != 0 && c->err.code == 0)
        cal_fail(&c->err, c->result, "it cannot be installed: %s", cal_error_text(c->result));
    cal_arena_deinit(&arena);
    c->answer.run = install_answer;
    node_post(c->node, &c->answer);
}

/* --- installing: loop --- */

static void forget_expected(code *c) {
    for (size_t i = 0; i < c->expected_count; i++) {
        node_unclaim(&c->expected[i].claim);
        free(c->expected[i].source);
    }
    c->expected_count = 0;
}

static void install_answer(cal_task *task) {
    code *c = CAL_CONTAINER_OF(task, code, answer);
    cal_node *node = c->node;
    c->installing = false;
    forget_expected(c);
    node->code.busy--;
    if (c->result == 0) {
        cal_log(CAL_LOG_INFO, "node", "the code %s, which a context runs, is installed", c->text);
        came(c);
    } else if (is_final(c->result)) {
        refuse(c);
    } else {
        retry(c, c->err.message);
    }
    node_blobs_closed(node);
}

static int expect(code *c, const cal_context_id *context, const cal_application_id *application) {
    gov_context_info info;
    for (size_t i = 0; i < c->expected_count; i++)
        if (memcmp(&c->expected[i].id, application, sizeof *application) == 0) return 0;
    if (c->expected_count == EXPECTED_MAX) return 0;
    expected *each = &c->expected[c->expected_count];
    *each = (expected){.id = *application};
    int rc = gov_context_get(c->node->gov, context, &info);
    if (rc == 0 && !(each->source = strdup(info.source))) rc = CAL_ENOMEM;
    if (rc == 0) rc = node_claim_application(c->node, &each->claim, application, false, NULL);
    if (rc == 0)
        c->expected_count++;
    else
        free(each->source);
    return rc;
}

static void start_installing(code *c) {
    cal_map_cursor cursor = {0};
    cal_slice key;
    void *application;
    int rc = 0;
    while (rc == 0 && cal_map_next(&c->users, &cursor, &key, &application)) {
        cal_context_id context;
        memcpy(context.bytes, key.data, sizeof context.bytes);
        rc = expect(c, &context, application);
    }
    if (rc != 0) {
        forget_expected(c);
        retry(c, cal_error_text(rc));
        return;
    }
    c->installing = true;
    c->node->code.busy++;
    c->work.run = install_work;
    node_install(c->node, &c->work);
}

/* --- fetching --- */

static void on_progress(void *user, uint64_t received, uint64_t size) {
    char text[96];
    if (size)
        snprintf(text, sizeof text, "its application is being fetched: %llu of %llu bytes",
                 (unsigned long long)received, (unsigned long long)size);
    else
        snprintf(text, sizeof text, "its application is being fetched: %llu bytes",
                 (unsigned long long)received);
    tell(user, text);
}

static void on_fetched(void *user, int result, const cal_blobs_info *info, const cal_error *err) {
    code *c = user;
    cal_node *node = c->node;
    (void)info;
    c->fetch = NULL;
    node->code.busy--;
    if (result == 0) {
        node->code.fetched++;
        c->fetched = true;
        if (!node->code.stopping) start_installing(c);
    } else if (!node->code.stopping) {
        retry(c, err->message);
    }
    node_blobs_closed(node);
}

static void start_fetching(code *c, const cal_context_id *context) {
    node_fetch_wanted wanted = {.context = *context,
                                .blob = c->blob,
                                .size_max = CAL_APP_DOWNLOAD_MAX,
                                .progress = on_progress,
                                .done = on_fetched,
                                .user = c};
    c->again = false;
    c->tried_ms = now_ms(c->node);
    int rc = node_fetch_start(c->node, &wanted, &c->fetch);
    if (rc == 0)
        c->node->code.busy++;
    else
        retry(c, cal_error_text(rc));
}

/* --- when --- */

static void look_soon(cal_node *node);

/* Whether it is gone: then others may have been wanted meanwhile. */
static bool look_at(code *c) {
    if (c->fetch || c->installing || c->refused || now_ms(c->node) < c->due_ms) return false;
    cal_context_id context;
    found user = find_user(c, &context);
    if (user == NOBODY) {
        came(c); /* or is needed no longer: then nobody waits */
        return true;
    }
    if (user == LATER)
        look_soon(c->node);
    else if (cal_blobs_stat(c->node->blobs, &c->blob, NULL) == 0)
        start_installing(c);
    else
        start_fetching(c, &context);
    return false;
}

void node_code_tick(cal_node *node) {
    cal_map_cursor cursor = {0};
    void *value;
    if (node->code.stopping) return;
    while (cal_map_next(&node->code.wanted, &cursor, NULL, &value))
        if (look_at(value)) cursor = (cal_map_cursor){0};
}

static void look(cal_task *task) {
    cal_node *node = CAL_CONTAINER_OF(task, cal_node, code.look_task);
    node->code.look_posted = false;
    node_code_tick(node);
}

static void look_soon(cal_node *node) {
    if (node->code.look_posted || node->code.stopping) return;
    node->code.look_posted = true;
    node->code.look_task.run = look;
    node_post(node, &node->code.look_task);
}

void node_code_want(cal_node *node, const cal_context_id *context,
                    const cal_application_id *application, const cal_blob_id *blob) {
    cal_slice key = key_of(context->bytes);
    code *c = cal_map_get(&node->code.wanted, key_of(blob->bytes));
    if (node->code.stopping) return;
    if (!c) c = new_code(node, blob);
    if (!c) return; /* wanted again when the context next needs it */
    cal_application_id *copy = cal_map_get(&c->users, key);
    if (copy && memcmp(copy, application, sizeof *copy) == 0) return;
    if (!copy && (!(copy = malloc(sizeof *copy)) || cal_map_put(&c->users, key, copy))) {
        free(copy);
        return;
    }
    *copy = *application;
    c->refused = false; /* it may be what this one expects */
    look_soon(node);
}

void node_code_installed(cal_node *node, const cal_blob_id *blob) {
    code *c = cal_map_get(&node->code.wanted, key_of(blob->bytes));
    if (c) {
        c->refused = false;
        c->due_ms = 0;
        look_soon(node);
    }
    cal_sync_code_came(node->sync, blob);
}

static bool concerns(const code *c, const cal_context_id *id, bool governance) {
    cal_map_cursor cursor = {0};
    cal_slice key;
    void *application;
    if (!governance) return cal_map_get(&c->users, key_of(id->bytes)) != NULL;
    while (cal_map_next(&c->users, &cursor, &key, &application)) {
        cal_context_id context;
        cal_group_id group, namespace_id;
        memcpy(context.bytes, key.data, sizeof context.bytes);
        if (gov_context_group(c->node->gov, &context, &group, &namespace_id) == 0 &&
            memcmp(&namespace_id, id, sizeof namespace_id) == 0)
            return true;
    }
    return false;
}

/* Who comes and goes all the time makes nobody ask more often than every RETRY_MIN_MS. */
void node_code_heard(cal_node *node, const char *topic) {
    static const char prefix[] = "ns/";
    bool governance = strncmp(topic, prefix, sizeof prefix - 1) == 0;
    cal_context_id id;
    cal_map_cursor cursor = {0};
    void *value;
    if (node->code.wanted.count == 0 ||
        cal_id_parse(topic + (governance ? sizeof prefix - 1 : 0), id.bytes))
        return;
    while (cal_map_next(&node->code.wanted, &cursor, NULL, &value)) {
        code *c = value;
        if (!concerns(c, &id, governance)) continue;
        c->again = true;
        if (c->tried_ms + RETRY_MIN_MS < c->due_ms) c->due_ms = c->tried_ms + RETRY_MIN_MS;
    }
    look_soon(node);
}

void node_code_cancel(cal_node *node) {
    cal_map_cursor cursor = {0};
    void *value;
    while (cal_map_next(&node->code.wanted, &cursor, NULL, &value))
        if (((code *)value)->fetch) node_fetch_cancel(((code *)value)->fetch);
}

void node_code_free(cal_node *node) {
    cal_map_cursor cursor = {0};
    void *value;
    while (cal_map_next(&node->code.wanted, &cursor, NULL, &value)) free_code(value);
    cal_map_deinit(&node->code.wanted);
}
