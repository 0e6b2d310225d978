/* Taking a whole state, see take.h. The machine that stages and verifies is snapshot.h's; it
 * blocks, so each of its calls is a task of a worker, one at a time. */
#include "sync/take.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sync/snapshot.h"

enum { KEPT_MS = 10 * 60 * 1000 }; /* for so long, without a stream */

typedef enum take_job { TAKE_BEGIN, TAKE_PAGE, TAKE_VERIFY, TAKE_DROP } take_job;

/* Kept, it is the context's kept_take, has no session and holds no one up. */
struct sync_take {
    sync_context *context; /* NULL: nobody waits for it, and it is not kept */
    bool kept, resumed;    /* resumed: and no page has come since */
    bool brought;          /* this stream has brought pages */
    bool afresh;           /* what it has goes, then it begins anew */
    uint64_t kept_ms;      /* since then */
    cal_sync *sync;
    cal_context_id id;
    sync_session *session;
    void (*done)(void *user, int result, const char *why);
    void *user;
    sync_snapshot *intake;
    cal_hash root;
    cal_hash *heads;
    size_t head_count;
    bool working, installing;
    take_job job;
    cal_task task;
    int result;
    cal_error err;
    sync_snapshot_next next;
    sync_answer answer; /* being taken; what it points to: */
    cal_buffer bytes, cursor;
    cal_context_state state;
    cal_map accounts; /* of keys that signed what is in it: asked on the loop, see below */
};

static void finish(sync_take *take, int result, const char *why);

/* --- on a worker --- */

/* Governance answers on the loop only; the accounts of all devices are looked up there before. */
static int account_of(void *user, const cal_public_key *device, cal_account_id *ret_account) {
    const sync_take *take = user;
    const cal_account_id *account =
        cal_map_get(&take->accounts, cal_slice_of(device->bytes, sizeof device->bytes));
    if (!account) return CAL_ENOTFOUND;
    *ret_account = *account;
    return 0;
}

static int begin(sync_take *take) {
    sync_snapshot_options options = {.store = take->sync->options.store,
                                     .os = take->sync->options.os,
                                     .context = take->id,
                                     .root = take->root,
                                     .heads = take->heads,
                                     .head_count = take->head_count,
                                     .account = account_of,
                                     .user = take};
    return sync_snapshot_new(&options, &take->intake, &take->err);
}

static void worked(cal_task *task);

static void work(cal_task *task) {
    sync_take *take = CAL_CONTAINER_OF(task, sync_take, task);
    const cal_runner *runner = take->sync->options.runner;
    take->err.message[0] = 0;
    switch (take->job) {
    case TAKE_BEGIN:
        take->result = begin(take);
        break;
    case TAKE_PAGE:
        take->result = sync_snapshot_take(take->intake, &take->answer, &take->next, &take->err);
        break;
    case TAKE_VERIFY:
        take->result = sync_snapshot_verify(take->intake, &take->err);
        if (take->result == 0) take->result = sync_snapshot_state(take->intake, &take->state);
        break;
    case TAKE_DROP:
        take->result = sync_snapshot_drop(take->intake);
        take->intake = NULL;
        break;
    }
    take->task.run = worked;
    runner->on_loop(runner->user, &take->task);
}

static void start(sync_take *take, take_job job) {
    const cal_runner *runner = take->sync->options.runner;
    take->job = job;
    take->working = true;
    take->task.run = work;
    runner->on_worker(runner->user, &take->task);
}

/* --- on the loop --- */

static void free_take(sync_take *take) {
    cal_sync *sync = take->sync;
    cal_map_cursor cursor = {0};
    void *value;
    while (cal_map_next(&take->accounts, &cursor, NULL, &value)) free(value);
    cal_map_deinit(&take->accounts);
    cal_buffer_deinit(&take->bytes);
    cal_buffer_deinit(&take->cursor);
    free(take->heads);
    free(take);
    sync_release(sync);
}

/* Whatever it has staged goes first. */
static void close_take(sync_take *take) {
    if (take->working || take->installing) return;
    if (take->intake)
        start(take, TAKE_DROP);
    else
        free_take(take);
}

/* false: there is nothing worth it. */
static bool keep(sync_take *take) {
    sync_context *context = take->context;
    bool writes = take->working && take->job == TAKE_PAGE;
    if (!take->intake || take->installing || take->afresh || (take->working && !writes) ||
        context->gone || take->sync->stopping || context->kept_take)
        return false;
    take->kept = true;
    take->kept_ms = sync_now_ms(take->sync);
    take->session = NULL;
    context->kept_take = take;
    if (!take->working) sync_release(take->sync);
    return true;
}

/* Out of the context's keeping; NULL: nothing was kept. */
static sync_take *unkeep(sync_context *context) {
    sync_take *take = context->kept_take;
    if (!take) return NULL;
    context->kept_take = NULL;
    take->kept = false;
    if (!take->working) sync_hold(take->sync);
    return take;
}

void sync_take_forget(sync_context *context) {
    sync_take *take = unkeep(context);
    if (!take) return;
    take->context = NULL;
    close_take(take);
}

bool sync_take_moves(const sync_context *context) {
    return context->kept_take && context->kept_take->brought;
}

void sync_take_look(sync_context *context, uint64_t now_ms) {
    if (context->kept_take && now_ms - context->kept_take->kept_ms > KEPT_MS)
        sync_take_forget(context);
}

static void finish(sync_take *take, int result, const char *why) {
    bool waited = take->context != NULL;
    bool kept = waited && result == CAL_EUNREACHABLE && keep(take);
    if (waited && !kept) take->context = NULL;
    if (waited) take->done(take->user, result, why);
    if (!kept) close_take(take);
}

void sync_take_leave(sync_take *take) {
    if (keep(take)) return;
    take->context = NULL;
    close_take(take);
}

static void ask(sync_take *take) {
    sync_request request;
    sync_snapshot_request(take->intake, &request);
    if (sync_session_ask(take->session, &take->id, &request))
        finish(take, CAL_EUNREACHABLE, "the peer could not be asked for its state");
}

static void installed(void *user, int error) {
    sync_take *take = user;
    take->installing = false;
    finish(take, error, error ? "the state of the peer could not be stored" : "");
}

static int ask_boundary(sync_take *take) {
    sync_request request = {.kind = SYNC_SNAPSHOT_BOUNDARY_OF, .context = take->id};
    return sync_session_ask(take->session, &take->id, &request);
}

static void begin_anew(sync_take *take) {
    take->afresh = take->resumed = false;
    free(take->heads);
    take->heads = NULL;
    if (ask_boundary(take))
        finish(take, CAL_EUNREACHABLE, "the peer could not be asked for its state");
}

/* The page came to its end without a stream. */
static void kept_page(sync_take *take) {
    if (take->result == 0) {
        sync_release(take->sync);
        return;
    }
    take->context->kept_take = NULL;
    take->context = NULL;
    take->kept = false;
    close_take(take);
}

static void worked(cal_task *task) {
    sync_take *take = CAL_CONTAINER_OF(task, sync_take, task);
    if (take->job == TAKE_PAGE && take->result == 0) {
        take->sync->stats.state_pages++;
        take->sync->stats.states_resumed += take->resumed;
        take->resumed = false;
        take->brought = true;
    }
    bool other_state = take->resumed && take->job == TAKE_PAGE &&
                       (take->result == CAL_EINVAL || take->result == CAL_ESTATE);
    take->working = false;
    if (take->kept) {
        kept_page(take);
    } else if (take->job == TAKE_DROP && take->context && take->afresh) {
        begin_anew(take);
    } else if (take->job == TAKE_DROP) {
        free_take(take);
    } else if (!take->context) {
        close_take(take);
    } else if (other_state) { /* what it had begun with is not to be had any more */
        take->afresh = true;
        start(take, TAKE_DROP);
    } else if (take->result != 0) {
        char why[CAL_ERROR_MESSAGE_MAX];
        snprintf(why, sizeof why, "%s",
                 take->err.message[0] ? take->err.message : cal_error_text(take->result));
        finish(take, take->result, why);
    } else if (take->job == TAKE_VERIFY) {
        take->installing = true;
        cal_contexts_install(take->sync->options.contexts, &take->id, &take->state, installed,
                             take);
    } else if (take->job == TAKE_PAGE && take->next == SYNC_NEXT_PAGE) {
        sync_session_expect(take->session);
    } else if (take->job == TAKE_PAGE && take->next == SYNC_NEXT_WHOLE) {
        start(take, TAKE_VERIFY);
    } else {
        ask(take);
    }
}

/* --- accounts --- */

static void note_device(void *user, const cal_public_key *key, const cal_account_id *account) {
    sync_take *take = user;
    cal_slice of = cal_slice_of(key->bytes, sizeof key->bytes);
    cal_account_id *copy = malloc(sizeof *copy);
    if (!copy) return; /* what it signed is then refused, and fetched otherwise */
    *copy = *account;
    free(cal_map_remove(&take->accounts, of));
    if (cal_map_put(&take->accounts, of, copy)) free(copy);
}

static void note_accounts(sync_take *take) {
    cal_gov *gov = take->sync->options.gov;
    cal_group_id group, ns;
    if (gov_context_group(gov, &take->id, &group, &ns) == 0)
        gov_devices_ever(gov, &ns, note_device, take);
}

/* --- answers --- */

static void on_boundary(sync_take *take, const sync_answer *answer) {
    static const cal_hash none;
    if (memcmp(&answer->root, &none, sizeof none) == 0) {
        finish(take, CAL_ESTATE, "the peer has no state of the context yet");
        return;
    }
    take->heads = malloc((answer->heads.count + 1) * sizeof *take->heads);
    if (!take->heads) {
        finish(take, CAL_ENOMEM, "out of memory");
        return;
    }
    if (answer->heads.count)
        memcpy(take->heads, answer->heads.items, answer->heads.count * sizeof *take->heads);
    take->head_count = answer->heads.count;
    take->root = answer->root;
    start(take, TAKE_BEGIN);
}

static void on_page(sync_take *take, const sync_answer *answer) {
    take->answer = *answer;
    cal_buffer_reset(&take->bytes);
    cal_buffer_reset(&take->cursor);
    int rc = cal_buffer_append(&take->bytes, answer->bytes.data, answer->bytes.len);
    if (rc == 0 && answer->has_cursor)
        rc = cal_buffer_append(&take->cursor, answer->cursor.data, answer->cursor.len);
    take->answer.bytes = cal_buffer_slice(&take->bytes);
    take->answer.cursor = cal_buffer_slice(&take->cursor);
    take->answer.error.pages = NULL; /* the machine does not ask which ones */
    take->answer.error.page_count = 0;
    if (rc != 0)
        finish(take, rc, "out of memory");
    else
        start(take, TAKE_PAGE);
}

void sync_take_answer(sync_take *take, const sync_message *message) {
    const sync_answer *answer = &message->answer;
    if (take->working || take->installing) return;
    if (message->kind != SYNC_MESSAGE)
        finish(take, CAL_EDENIED, "the peer does not hand out its state");
    else if (!take->intake && answer->kind == SYNC_ANSWER_BOUNDARY)
        on_boundary(take, answer);
    else if (take->intake &&
             (answer->kind == SYNC_ANSWER_PAGE || answer->kind == SYNC_ANSWER_SNAPSHOT_ERROR))
        on_page(take, answer);
    else
        finish(take, CAL_ESTATE, "the peer cannot hand out its state now");
}

bool sync_take_has_all(const sync_take *take) {
    return take->installing || (take->working && take->job == TAKE_VERIFY);
}

/* With the pages that the last stream brought. */
static int resume(sync_context *context, sync_session *session,
                  void (*done)(void *user, int result, const char *why), void *user,
                  sync_take **ret_take) {
    sync_request request;
    sync_take *take = unkeep(context);
    take->session = session;
    take->done = done;
    take->user = user;
    take->resumed = true;
    take->brought = false;
    note_accounts(take);
    sync_snapshot_request(take->intake, &request);
    int rc = sync_session_ask(session, &take->id, &request);
    if (rc != 0)
        sync_take_leave(take);
    else
        *ret_take = take;
    return rc;
}

int sync_take_new(sync_context *context, sync_session *session,
                  void (*done)(void *user, int result, const char *why), void *user,
                  sync_take **ret_take) {
    if (context->kept_take && context->kept_take->working) sync_take_forget(context);
    if (context->kept_take) return resume(context, session, done, user, ret_take);
    sync_take *take = calloc(1, sizeof *take);
    if (!take) return CAL_ENOMEM;
    take->context = context;
    take->sync = context->sync;
    take->id = context->id;
    take->session = session;
    take->done = done;
    take->user = user;
    cal_map_init(&take->accounts, context->sync->seed);
    cal_buffer_init(&take->bytes, NET_MESSAGE_MAX);
    cal_buffer_init(&take->cursor, NET_MESSAGE_MAX);
    sync_hold(take->sync);
    note_accounts(take);
    int rc = ask_boundary(take);
    if (rc != 0)
        free_take(take);
    else
        *ret_take = take;
    return rc;
}
