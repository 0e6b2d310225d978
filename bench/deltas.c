/* Received deltas of one context, handed in order to the turn that takes them, against the same
 * module applying the same actions in a bare loop of src/vm over a table in memory. In this
 * process: what sync does to bring deltas is not in it. Store, disk and flushes are the node's. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/limits.h"
#include "bench.h"
#include "context/context.h"
#include "store/key.h"
#include "support/memory_storage.h"

enum { DELTAS = 10000, UNDER_WAY = 4 };
#define WANTED_SHARE 0.4

/* --- a loop thread (the caller) and a worker --- */

typedef struct queue {
    pthread_mutex_t lock;
    pthread_cond_t came;
    cal_list tasks;
    bool closing;
} queue;

static void queue_push(queue *q, cal_task *task) {
    pthread_mutex_lock(&q->lock);
    cal_list_push(&q->tasks, &task->link);
    pthread_cond_signal(&q->came);
    pthread_mutex_unlock(&q->lock);
}

static bool queue_run(queue *q) {
    pthread_mutex_lock(&q->lock);
    while (cal_list_empty(&q->tasks) && !q->closing) pthread_cond_wait(&q->came, &q->lock);
    cal_list *next = cal_list_pop(&q->tasks);
    pthread_mutex_unlock(&q->lock);
    if (!next) return false;
    cal_task *task = CAL_CONTAINER_OF(next, cal_task, link);
    task->run(task);
    return true;
}

static void *queue_thread(void *user) {
    while (queue_run(user)) {
    }
    return NULL;
}

static void queue_init(queue *q) {
    *q = (queue){.closing = false};
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->came, NULL);
    cal_list_init(&q->tasks);
}

typedef struct receiver {
    queue loop, work;
    pthread_t worker;
    cal_runner runner;
    cal_store *store;
    cal_vm *vm;
    cal_buffer wasm;
    cal_app_blobs code;
    size_t code_at;
    cal_contexts *contexts;
    cal_context_id id;
    bool created, idle;
    uint8_t *artifacts[DELTAS]; /* the author's, and what is made of them */
    cal_received_delta deltas[DELTAS];
    uint8_t parents[DELTAS][1][32];
    size_t handed, applied, under_way;
} receiver;

static void on_loop(void *user, cal_task *task) { queue_push(&((receiver *)user)->loop, task); }
static void on_worker(void *user, cal_task *task) { queue_push(&((receiver *)user)->work, task); }

/* --- what the contexts are lent --- */

static int code_open(void *user, const cal_blob_id *id, void **ret_reader, uint64_t *ret_size,
                     cal_error *err) {
    (void)id, (void)err;
    receiver *r = user;
    r->code_at = 0;
    *ret_reader = r;
    *ret_size = r->wasm.len;
    return 0;
}

static int64_t code_read(void *user, void *reader, uint8_t *ret_bytes, size_t len) {
    (void)reader;
    receiver *r = user;
    size_t left = r->wasm.len - r->code_at;
    if (len > left) len = left;
    memcpy(ret_bytes, r->wasm.data + r->code_at, len);
    r->code_at += len;
    return (int64_t)len;
}

static void code_close(void *user, void *reader) { (void)user, (void)reader; }
static uint64_t version(void *user) { return (void)user, 0; }

static int executor(void *user, const cal_group_id *group, cal_executor *ret_executor) {
    (void)user, (void)group;
    *ret_executor = (cal_executor){.account = {{1}}, .device = {{2}}};
    return 0;
}

static int code(void *user, const cal_group_id *group, cal_blob_id *ret_code) {
    (void)user, (void)group;
    *ret_code = (cal_blob_id){{3}};
    return 0;
}

static int position(void *user, const cal_context_id *context, cal_buffer *ret_heads) {
    (void)user, (void)context, (void)ret_heads;
    return 0;
}

static void sign(void *user, cal_slice message, uint8_t ret_signature[64]) {
    (void)user, (void)message;
    memset(ret_signature, 0, 64);
}

static void event(void *user, const cal_event *said) { (void)user, (void)said; }

/* --- the same module over a table in memory --- */

typedef struct bare {
    receiver *r;
    cal_vm_module *module;
    memory_storage memory;
    cal_vm_storage storage;
} bare;

static void bare_open(bare *b, receiver *r) {
    cal_buffer artefact;
    cal_error err = {0};
    cal_buffer_init(&artefact, (size_t)CAL_VM_MODULE_MAX * 4);
    *b = (bare){.r = r};
    memory_storage_init(&b->memory);
    b->storage = memory_storage_table(&b->memory);
    int rc = cal_vm_compile(r->vm, cal_buffer_slice(&r->wasm), &artefact, &err);
    if (rc == 0) rc = cal_vm_load(r->vm, cal_buffer_slice(&artefact), &b->module, &err);
    if (rc != 0) bench_die("the node's engine: %s", err.message);
    cal_buffer_deinit(&artefact);
}

static void bare_close(bare *b) {
    cal_vm_module_unref(b->module);
    memory_storage_deinit(&b->memory);
}

static void bare_run(bare *b, const char *method, cal_slice input, cal_vm_outcome *ret_outcome) {
    cal_vm_call call = {
        .method = method, .input = input, .storage = &b->storage, .has_private = true};
    memcpy(call.context_id, b->r->id.bytes, 32);
    call.account_id[0] = 1;
    call.device_id[0] = 2;
    cal_vm_run(b->r->vm, b->module, &call, ret_outcome);
    if (ret_outcome->failure != CAL_VM_FINE || ret_outcome->return_kind == CAL_VM_RETURN_ERR)
        bench_die("%s in the node's engine: %s", method, ret_outcome->error);
}

/* What an author makes of as many `set`s. */
static void make_deltas(receiver *r, const cal_hash *genesis) {
    bare author;
    cal_vm_outcome outcome;
    char args[128];
    uint64_t now_ns = cal_os_posix()->wall_ns(NULL);
    bare_open(&author, r);
    bare_run(&author, "init", cal_slice_text("{}"), &outcome);
    cal_vm_outcome_deinit(&outcome);
    const uint8_t *parent = genesis->bytes;
    for (unsigned i = 0; i < DELTAS; i++) {
        load_args(args, true, i);
        bare_run(&author, "set", cal_slice_text(args), &outcome);
        if (!(r->artifacts[i] = malloc(outcome.artifact.len))) bench_die("no memory");
        memcpy(r->artifacts[i], outcome.artifact.data, outcome.artifact.len);
        memcpy(r->parents[i][0], parent, 32);
        cal_delta_record *record = &r->deltas[i].record;
        *record = (cal_delta_record){
            .parents = (const uint8_t(*)[32])r->parents[i],
            .parent_count = 1,
            .artifact = cal_slice_of(r->artifacts[i], outcome.artifact.len),
            .hlc = {.time = ((now_ns / 1000000000) << 32) + i * 0x10000u, .id = {1}},
            .has_author = true};
        cal_sha256_parts(&record->artifact, 1, record->id.bytes);
        parent = record->id.bytes;
        cal_vm_outcome_deinit(&outcome);
    }
    bare_close(&author);
}

/* Deltas a second, in the guest alone. */
static double measure_bare(receiver *r) {
    bare replica;
    cal_vm_outcome outcome;
    cal_buffer input;
    bare_open(&replica, r);
    bare_run(&replica, "init", cal_slice_text("{}"), &outcome);
    cal_vm_outcome_deinit(&outcome);
    cal_buffer_init(&input, CAL_STORE_VALUE_MAX);
    uint64_t began = bench_now_ns();
    for (unsigned i = 0; i < DELTAS; i++) {
        const cal_delta_record *record = &r->deltas[i].record;
        uint8_t hlc[CRDT_HLC_SIZE], none[5] = {0}; /* no writers, no signer */
        crdt_hlc_encode(&record->hlc, hlc);
        cal_buffer_reset(&input);
        cal_buffer_append_u8(&input, CRDT_DELTA_CAUSAL_ACTIONS);
        cal_buffer_append(&input, record->artifact.data + 1, record->artifact.len - 1);
        cal_buffer_append(&input, record->id.bytes, 32);
        cal_buffer_append(&input, hlc, sizeof hlc);
        cal_buffer_append(&input, none, sizeof none);
        bare_run(&replica, "__calimero_sync_next", cal_buffer_slice(&input), &outcome);
        cal_vm_outcome_deinit(&outcome);
    }
    double seconds = (double)(bench_now_ns() - began) / 1e9;
    cal_buffer_deinit(&input);
    bare_close(&replica);
    return DELTAS / seconds;
}

/* --- the turn --- */

static void created(void *user, const cal_error *err, const cal_context_genesis *genesis,
                    cal_batch *batch) {
    receiver *r = user;
    if (err) bench_die("a context: %s", err->message);
    r->id = genesis->id;
    if (cal_store_commit(r->store, batch, NULL) != 0) bench_die("the store does not write");
    r->created = true;
}

static void idle(void *user) { ((receiver *)user)->idle = true; }

static void hand_over(receiver *r);

static void applied(void *user, const cal_apply_outcome *outcomes, size_t count) {
    receiver *r = user;
    for (size_t i = 0; i < count; i++)
        if (outcomes[i].error != 0) bench_die("a delta: %s", outcomes[i].message);
    r->applied += count;
    r->under_way--;
    hand_over(r);
}

static void hand_over(receiver *r) {
    while (r->under_way < UNDER_WAY && r->handed < DELTAS) {
        size_t count = DELTAS - r->handed;
        if (count > CAL_APPLY_DELTAS_MAX) count = CAL_APPLY_DELTAS_MAX;
        size_t at = r->handed;
        r->handed += count;
        r->under_way++;
        cal_contexts_apply(r->contexts, &r->id, r->deltas + at, count, applied, r);
    }
}

static double measure_turn(receiver *r) {
    uint64_t began = bench_now_ns();
    hand_over(r);
    while (r->applied < DELTAS) queue_run(&r->loop);
    return DELTAS / ((double)(bench_now_ns() - began) / 1e9);
}

static cal_hash genesis_of(receiver *r) {
    cal_arena arena;
    cal_context_record record;
    cal_arena_init(&arena, SIZE_MAX);
    if (cal_contexts_get(r->contexts, &r->id, &arena, &record) != 0) bench_die("no record");
    cal_hash head = record.heads[0];
    cal_arena_deinit(&arena);
    return head;
}

static void open_receiver(receiver *r, const char *wasm_path, const char *folder) {
    char home[BENCH_PATH_MAX], key_path[BENCH_PATH_MAX + 8];
    cal_error err = {0};
    snprintf(home, sizeof home, "%s/deltas", folder);
    snprintf(key_path, sizeof key_path, "%s.key", home);
    cal_key_source key = {CAL_KEY_FILE, key_path};
    cal_store_options store = {
        .os = cal_os_posix(), .folder = home, .durability = CAL_DURABLE_FULL, .key = &key};
    cal_crypto_init();
    cal_buffer_init(&r->wasm, CAL_VM_MODULE_MAX);
    int rc = cal_os_make_dirs(cal_os_posix(), home, &err);
    if (rc == 0) rc = cal_store_create(&store, &err);
    if (rc == 0) rc = cal_store_open(&store, &r->store, &err);
    if (rc == 0) rc = cal_vm_new(cal_os_posix(), NULL, &r->vm, &err);
    if (rc == 0)
        rc = cal_os_read_file(cal_os_posix(), wasm_path, CAL_VM_MODULE_MAX, &r->wasm, &err);
    if (rc != 0) bench_die("a store for deltas: %s", err.message);
    queue_init(&r->loop);
    queue_init(&r->work);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, CAL_VM_THREAD_STACK);
    if (pthread_create(&r->worker, &attributes, queue_thread, &r->work) != 0)
        bench_die("no thread");
    pthread_attr_destroy(&attributes);
    r->runner = (cal_runner){.user = r, .on_loop = on_loop, .on_worker = on_worker};
    r->code = (cal_app_blobs){.user = r, .open = code_open, .read = code_read, .close = code_close};
    cal_contexts_options options = {.os = cal_os_posix(),
                                    .store = r->store,
                                    .vm = r->vm,
                                    .runner = &r->runner,
                                    .code = &r->code,
                                    .authority = {.user = r,
                                                  .version = version,
                                                  .executor = executor,
                                                  .code = code,
                                                  .position = position,
                                                  .sign = sign},
                                    .event = event};
    if (cal_contexts_new(&options, &r->contexts) != 0) bench_die("no contexts");
    cal_contexts_create(r->contexts, &(cal_context_create_options){.service = NULL}, created, r);
    while (!r->created) queue_run(&r->loop);
}

static void close_receiver(receiver *r) {
    cal_contexts_drain(r->contexts, idle, r);
    while (!r->idle) queue_run(&r->loop);
    pthread_mutex_lock(&r->work.lock);
    r->work.closing = true;
    pthread_cond_signal(&r->work.came);
    pthread_mutex_unlock(&r->work.lock);
    pthread_join(r->worker, NULL);
    cal_contexts_free(r->contexts);
    cal_vm_free(r->vm);
    cal_store_close(r->store);
    for (size_t i = 0; i < DELTAS; i++) free(r->artifacts[i]);
    cal_buffer_deinit(&r->wasm);
    free(r);
}

double deltas_guest_rate(const char *wasm_path, const char *folder) {
    receiver *r = calloc(1, sizeof *r);
    if (!r) bench_die("no memory");
    open_receiver(r, wasm_path, folder);
    cal_hash genesis = genesis_of(r);
    make_deltas(r, &genesis);
    double rate = measure_bare(r);
    close_receiver(r);
    return rate;
}

void deltas_measure(const char *wasm_path, const char *folder) {
    char note[200];
    receiver *r = calloc(1, sizeof *r);
    if (!r) bench_die("no memory");
    bench_say("received deltas");
    open_receiver(r, wasm_path, folder);
    cal_hash genesis = genesis_of(r);
    make_deltas(r, &genesis);
    double guest_rate = measure_bare(r), rate = measure_turn(r);
    report_section("Received deltas of one context");
    report_value("in the guest alone", guest_rate, "/s",
                 "__calimero_sync_next in src/vm over a table in memory");
    snprintf(note, sizeof note, "%d deltas, at most %d a turn; to reach: %.0f%% of the guest alone",
             DELTAS, CAL_APPLY_DELTAS_MAX, 100 * WANTED_SHARE);
    report_verdict("applied, durable", rate, WANTED_SHARE * guest_rate, "/s",
                   rate >= WANTED_SHARE * guest_rate ? VERDICT_PASS : VERDICT_MISS, note);
    report_value("  of the guest's rate", 100 * rate / guest_rate, "%", NULL);
    close_receiver(r);
}
