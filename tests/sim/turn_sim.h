/* A world for contexts alone: a store that commits by steps on a simulated disk, one thread that
 * runs loop, workers, store and clients in an order that the seed chooses, and a governance that
 * the test moves. The guest is turn_guest.h. */
#ifndef CAL_TESTS_TURN_SIM_H
#define CAL_TESTS_TURN_SIM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <wasmtime.h>

#include "base/error.h"
#include "base/limits.h"
#include "context/context.h"
#include "gov/delta.h"
#include "os/sim/sim.h"
#include "store/key.h"
#include "support/engine_signals.h"
#include "support/turn_guest.h"

enum { TURN_TAG = 16, TURN_STATE = 24 };

static cal_buffer turn_wasm;
static cal_vm *turn_vm; /* one engine for all runs */

typedef struct world {
    uint64_t seed;
    cal_sim *sim;
    cal_store_options options;
    cal_store *store;
    cal_contexts *contexts;
    bool due; /* the store wants a step */
    cal_list loop, workers;
    cal_runner runner;
    cal_app_blobs code;
    cal_context_id id;
    cal_hash genesis; /* delta */
    int member;       /* what governance answers for the executor */
    bool may_only_read;
    uint64_t version;
    cal_secret key;  /* that seals what is written */
    int seal_result; /* what governance answers for it */
    uint32_t keys_asked;
    bool heard;                         /* what is written, from a start on */
    void (*signs)(struct world *world); /* called in the middle of a turn; NULL */
    /* Called wherever a worker asks governance or signs: what the other threads do meanwhile. NULL
     */
    void (*meanwhile)(struct world *world);
    bool on_worker;
    bool idle;
    size_t code_at; /* of the one reader */
    void (*event)(struct world *world, const cal_event *event);
    void (*authored)(struct world *world, const cal_authored_delta *delta);
    void *user;
} world;

#define WORLD_CHECK(w, condition, ...)                                                             \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            print_error("seed %llu: ", (unsigned long long)(w)->seed);                             \
            print_error(__VA_ARGS__);                                                              \
            print_error("\nrepeat with CAL_SIM_SEED=%llu\n", (unsigned long long)(w)->seed);       \
            fail();                                                                                \
        }                                                                                          \
    } while (0)

/* --- the module --- */

static int world_setup(void **state) {
    (void)state;
    wasm_byte_vec_t wasm;
    wasmtime_error_t *error = wasmtime_wat2wasm(turn_guest, strlen(turn_guest), &wasm);
    if (error) {
        wasm_name_t message;
        wasmtime_error_message(error, &message);
        print_error("the guest's text: %.*s\n", (int)message.size, message.data);
        return -1;
    }
    static const char name[] = "calimero_abi_v1";
    size_t size = 1 + strlen(name) + strlen(turn_abi);
    uint8_t head[] = {0, (uint8_t)((size & 0x7f) | 0x80), (uint8_t)(size >> 7), sizeof name - 1};
    cal_buffer_init(&turn_wasm, SIZE_MAX);
    cal_buffer_append(&turn_wasm, wasm.data, wasm.size);
    cal_buffer_append(&turn_wasm, head, sizeof head);
    cal_buffer_append_text(&turn_wasm, name);
    cal_buffer_append_text(&turn_wasm, turn_abi);
    wasm_byte_vec_delete(&wasm);
    cal_crypto_init();
    cal_error err;
    int rc = cal_vm_new(cal_os_posix(), NULL, &turn_vm, &err);
    engine_signals_learn();
    return rc;
}

static int world_teardown(void **state) {
    (void)state;
    cal_vm_free(turn_vm);
    cal_buffer_deinit(&turn_wasm);
    return 0;
}

static int code_open(void *user, const cal_blob_id *id, void **ret_reader, uint64_t *ret_size,
                     cal_error *err) {
    (void)id, (void)err;
    world *w = user;
    w->code_at = 0;
    *ret_reader = w;
    *ret_size = turn_wasm.len;
    return 0;
}

static int64_t code_read(void *user, void *reader, uint8_t *ret_bytes, size_t len) {
    (void)reader;
    world *w = user;
    size_t left = turn_wasm.len - w->code_at;
    if (len > left) len = left;
    memcpy(ret_bytes, turn_wasm.data + w->code_at, len);
    w->code_at += len;
    return (int64_t)len;
}

static void code_close(void *user, void *reader) { (void)user, (void)reader; }

/* --- governance --- */

static void let_others_run(world *w) {
    if (!w->on_worker || !w->meanwhile) return;
    w->on_worker = false;
    w->meanwhile(w);
    w->on_worker = true;
}

static uint64_t authority_version(void *user) {
    world *w = user;
    let_others_run(w);
    return w->version;
}

static int authority_executor(void *user, const cal_group_id *group, cal_executor *ret_executor) {
    (void)group;
    const world *w = user;
    *ret_executor =
        (cal_executor){.account = {{1}}, .device = {{2}}, .read_only = w->may_only_read};
    return w->member;
}

static int authority_code(void *user, const cal_group_id *group, cal_blob_id *ret_code) {
    (void)user, (void)group;
    *ret_code = (cal_blob_id){{3}};
    return 0;
}

static int authority_position(void *user, const cal_context_id *context, cal_buffer *ret_heads) {
    (void)user, (void)context;
    static const uint8_t head[32] = {4};
    return cal_buffer_append(ret_heads, head, sizeof head);
}

static void authority_sign(void *user, cal_slice message, uint8_t ret_signature[64]) {
    world *w = user;
    (void)message;
    memset(ret_signature, 5, 64);
    if (w->signs) w->signs(w);
    let_others_run(w);
}

static int authority_seal_key(void *user, const cal_context_id *context, cal_secret *ret_key,
                              cal_hash *ret_key_id) {
    (void)context;
    world *w = user;
    w->keys_asked++;
    if (w->seal_result != 0) return w->seal_result;
    *ret_key = w->key;
    *ret_key_id = (cal_hash){{6}};
    return 0;
}

/* --- the scheduler --- */

static void post_loop(void *user, cal_task *task) {
    cal_list_push(&((world *)user)->loop, &task->link);
}
static void post_worker(void *user, cal_task *task) {
    cal_list_push(&((world *)user)->workers, &task->link);
}
static void store_due(void *user) { ((world *)user)->due = true; }

static uint32_t below(world *w, uint32_t bound) { return (uint32_t)cal_sim_random(w->sim, bound); }

static bool run_loop(world *w) {
    cal_list *link = cal_list_pop(&w->loop);
    if (!link) return false;
    cal_task *task = CAL_CONTAINER_OF(link, cal_task, link);
    w->on_worker = false;
    task->run(task);
    return true;
}

/* The one that was given to the workers last is held back; whoever holds it runs it. */
static inline cal_task *hold_worker(world *w) {
    assert_false(cal_list_empty(&w->workers));
    cal_list *link = w->workers.prev;
    cal_list_remove(link);
    return CAL_CONTAINER_OF(link, cal_task, link);
}

/* One of those that wait: workers have no order. */
static bool run_worker(world *w) {
    uint32_t count = 0;
    for (cal_list *at = w->workers.next; at != &w->workers; at = at->next) count++;
    if (count == 0) return false;
    cal_list *link = w->workers.next;
    for (uint32_t skip = below(w, count); skip > 0; skip--) link = link->next;
    cal_list_remove(link);
    cal_task *task = CAL_CONTAINER_OF(link, cal_task, link);
    w->on_worker = true;
    task->run(task);
    w->on_worker = false;
    return true;
}

static bool run_store(world *w) {
    if (!w->due) return false;
    w->on_worker = false;
    w->due = cal_store_step(w->store);
    return true;
}

/* Until nothing is left to do. */
static inline void settle(world *w) {
    while (run_loop(w) || run_worker(w) || run_store(w)) {
    }
}

/* --- the node's part --- */

static const cal_key_source world_key = {CAL_KEY_FILE, "/home/master.key"};

static void world_event(void *user, const cal_event *event) {
    world *w = user;
    if (w->event) w->event(w, event);
}

static void world_authored(void *user, const cal_authored_delta *delta) {
    world *w = user;
    if (w->authored) w->authored(w, delta);
}

static void open_contexts(world *w) {
    const cal_os *os = cal_sim_os(w->sim);
    w->runner = (cal_runner){.user = w, .on_loop = post_loop, .on_worker = post_worker};
    w->code = (cal_app_blobs){.user = w, .open = code_open, .read = code_read, .close = code_close};
    cal_contexts_options options = {.os = os,
                                    .store = w->store,
                                    .vm = turn_vm,
                                    .runner = &w->runner,
                                    .code = &w->code,
                                    .authority = {.user = w,
                                                  .version = authority_version,
                                                  .executor = authority_executor,
                                                  .code = authority_code,
                                                  .position = authority_position,
                                                  .sign = authority_sign,
                                                  .seal_key = authority_seal_key},
                                    .event = world_event,
                                    .event_user = w,
                                    .authored = world_authored,
                                    .authored_user = w};
    assert_int_equal(cal_contexts_new(&options, &w->contexts), 0);
    if (w->heard) cal_contexts_listen(w->contexts, &w->id, true);
}

static int world_open_store(world *w) {
    cal_error err = {0};
    int rc = cal_store_open(&w->options, &w->store, &err);
    if (rc != 0) print_error("the store does not open: %s\n", err.message);
    return rc;
}

static void world_idle(void *user) { ((world *)user)->idle = true; }

static void close_contexts(world *w) {
    w->idle = false;
    cal_contexts_drain(w->contexts, world_idle, w);
    settle(w);
    WORLD_CHECK(w, w->idle, "the contexts do not come to rest");
    cal_contexts_free(w->contexts);
    w->contexts = NULL;
}

static void genesis_done(void *user, const cal_error *err, const cal_context_genesis *genesis,
                         cal_batch *batch) {
    world *w = user;
    WORLD_CHECK(w, !err, "init: %s", err->message);
    w->id = genesis->id;
    w->genesis = genesis->delta;
    cal_store_submit(w->store, batch, NULL, NULL);
}

static world *world_new(uint64_t seed) {
    world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    engine_signals_use(); /* cmocka has set its own before the test */
    *w = (world){.seed = seed, .sim = cal_sim_new(seed)};
    cal_list_init(&w->loop);
    cal_list_init(&w->workers);
    const cal_os *os = cal_sim_os(w->sim);
    w->options = (cal_store_options){.os = os,
                                     .folder = "/home",
                                     .durability = CAL_DURABLE_FULL,
                                     .key = &world_key,
                                     .stepped = true,
                                     .due = store_due,
                                     .due_user = w};
    os->make_dir(os->user, "/home");
    assert_int_equal(cal_store_create(&w->options, NULL), 0);
    os->sync_dir(os->user, "/");
    assert_int_equal(world_open_store(w), 0);
    open_contexts(w);
    cal_contexts_create(w->contexts, &(cal_context_create_options){.service = NULL}, genesis_done,
                        w);
    settle(w);
    return w;
}

static void world_free(world *w) {
    if (w->contexts) close_contexts(w);
    cal_store_close(w->store);
    cal_sim_free(w->sim);
    free(w);
}

/* --- what the store holds --- */

/* The count in a state row or a root. */
static uint64_t count_of(const uint8_t *bytes) { return cal_read_u64le(bytes); }

static inline void stored_record(world *w, cal_arena *arena, cal_context_record *ret_record) {
    cal_buffer row;
    cal_buffer_init(&row, SIZE_MAX);
    int rc = cal_store_get(w->store, CAL_COLUMN_CONTEXT, cal_slice_of(w->id.bytes, 32), &row);
    if (rc == 0) rc = cal_context_record_decode(cal_buffer_slice(&row), arena, ret_record);
    WORLD_CHECK(w, rc == 0, "the record: %s", cal_error_name(rc));
    cal_buffer_deinit(&row);
}

static inline uint64_t stored_count(world *w) {
    cal_arena arena;
    cal_context_record record;
    cal_arena_init(&arena, SIZE_MAX);
    stored_record(w, &arena, &record);
    uint64_t count = count_of(record.root.bytes);
    cal_arena_deinit(&arena);
    return count;
}

/* What the loop shows of the context. */
static inline uint64_t shown_count(world *w) {
    cal_arena arena;
    cal_context_record record;
    cal_arena_init(&arena, SIZE_MAX);
    assert_int_equal(cal_contexts_get(w->contexts, &w->id, &arena, &record), 0);
    uint64_t count = count_of(record.root.bytes);
    cal_arena_deinit(&arena);
    return count;
}

#endif
