/* What this node's own changes become for others: sealed when they are heard, told in the order of
 * turns, each after its answer, and nothing of those that were not kept. World and guest:
 * turn_sim.h, turn_guest.h. */
#include "turn_sim.h"

enum { TOLD_MAX = 400, FLOOD_FIXED = 103 /* of a payload, beside the action's bytes */ };

typedef struct told {
    cal_hash id;
    cal_buffer message;
    int answered; /* calls, when it was told */
    uint8_t nonce[CAL_AEAD_NONCE_SIZE];
} told;

typedef struct publisher {
    world *w;
    told told[TOLD_MAX];
    int count;
    int answered, ok, error;
    char message[300];
    cal_hash roots[TOLD_MAX]; /* of answers */
} publisher;

static void take(world *w, const cal_authored_delta *delta) {
    publisher *p = w->user;
    assert_true(p->count < TOLD_MAX);
    assert_memory_equal(&delta->context, &w->id, 32);
    told *t = &p->told[p->count++];
    *t = (told){.id = delta->id, .answered = p->answered};
    cal_buffer_init(&t->message, SIZE_MAX);
    cal_buffer_append_slice(&t->message, delta->message);
}

static void answered(void *user, const cal_call_result *result) {
    publisher *p = user;
    if (result->changed) p->roots[p->ok++] = result->root;
    p->answered++;
    p->error = result->error;
    snprintf(p->message, sizeof p->message, "%s", result->message);
}

static publisher *publisher_new(uint64_t seed) {
    publisher *p = calloc(1, sizeof *p);
    assert_non_null(p);
    p->w = world_new(seed);
    p->w->user = p;
    p->w->authored = take;
    memset(p->w->key.bytes, 9, sizeof p->w->key.bytes);
    return p;
}

static void publisher_free(publisher *p) {
    for (int i = 0; i < p->count; i++) cal_buffer_deinit(&p->told[i].message);
    world_free(p->w);
    free(p);
}

static void hear(publisher *p, bool heard) {
    cal_contexts_listen(p->w->contexts, &p->w->id, heard);
}

static void execute(publisher *p, const char *method, uint8_t tag) {
    uint8_t input[TURN_TAG] = {tag};
    cal_contexts_execute(p->w->contexts, &p->w->id, method, cal_slice_of(input, sizeof input),
                         answered, p);
}

/* A told delta is the stored one, sealed. */
static void check_told(publisher *p, int at, const cal_secret *key, bool has_events) {
    cal_arena arena;
    cal_arena_init(&arena, SIZE_MAX);
    cal_buffer row, plain;
    cal_buffer_init(&row, SIZE_MAX);
    cal_buffer_init(&plain, SIZE_MAX);
    cal_delta_record record;
    gov_state_delta message;
    gov_delta_payload payload;
    told *t = &p->told[at];
    assert_int_equal(cal_context_delta_read(p->w->store, &p->w->id, &t->id, &row), 0);
    assert_int_equal(cal_delta_record_decode(cal_buffer_slice(&row), &record), 0);
    assert_int_equal(gov_state_delta_decode(cal_buffer_slice(&t->message), &arena, &message), 0);
    assert_memory_equal(&message.context, &p->w->id, 32);
    assert_memory_equal(&message.delta, &record.id, 32);
    assert_memory_equal(message.author_key, record.author.bytes, 32);
    assert_int_equal(message.parent_count, record.parent_count);
    assert_memory_equal(message.parents, record.parents, 32 * record.parent_count);
    assert_true(message.hlc.time == record.hlc.time && message.has_position &&
                message.has_signature && message.has_app_key);
    assert_int_equal(message.position.count, 1);
    assert_memory_equal(message.position.heads, record.position, 32);
    assert_int_equal(message.key_id.bytes[0], 6);
    assert_memory_equal(message.signature, record.signature, 64);
    assert_memory_equal(&message.app_key, &record.app_key, 32);
    memcpy(t->nonce, message.nonce, sizeof t->nonce);
    assert_int_equal(gov_delta_open(key, message.nonce, message.sealed, &plain, &payload), 0);
    assert_memory_equal(&payload.root, &record.root, 32);
    assert_true(cal_slice_equal(payload.artifact, record.artifact));
    assert_true(payload.has_events == has_events);
    assert_true(cal_slice_equal(payload.events, record.events));
    cal_buffer_deinit(&row);
    cal_buffer_deinit(&plain);
    cal_arena_deinit(&arena);
}

static void what_is_heard_is_sealed_and_told_in_order(void **state) {
    (void)state;
    publisher *p = publisher_new(1);
    hear(p, true);
    for (int i = 0; i < 40; i++) execute(p, i % 4 == 3 ? "tell" : "add", (uint8_t)i);
    settle(p->w);
    assert_int_equal(p->ok, 40);
    assert_int_equal(p->count, 40);
    assert_int_equal(p->w->keys_asked, 1);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(p->told[i].answered, i + 1); /* right after its own answer */
        check_told(p, i, &p->w->key, i % 4 == 3);
        for (int k = 0; k < i; k++)
            assert_memory_not_equal(p->told[i].nonce, p->told[k].nonce, CAL_AEAD_NONCE_SIZE);
    }
    memset(p->w->key.bytes, 8, sizeof p->w->key.bytes); /* a rotation */
    p->w->version++;
    execute(p, "add", 7);
    settle(p->w);
    assert_int_equal(p->w->keys_asked, 2);
    check_told(p, 40, &p->w->key, false);
    publisher_free(p);
}

static void what_nobody_hears_is_told_unsealed(void **state) {
    (void)state;
    publisher *p = publisher_new(2);
    for (int round = 0; round < 3; round++) { /* unheard, heard, unheard again: one version */
        hear(p, round == 1);
        execute(p, "add", 1);
        execute(p, "peek", 1); /* changes nothing: is not told */
        execute(p, "trap", 1);
        settle(p->w);
        assert_int_equal(p->count, round + 1);
        assert_true((p->told[round].message.len > 0) == (round == 1));
        assert_int_equal(p->w->keys_asked, round > 0);
    }
    hear(p, true); /* one who may only read seals nothing */
    p->w->may_only_read = true;
    p->w->version++;
    execute(p, "add", 1);
    settle(p->w);
    assert_int_equal(p->error, CAL_EDENIED);
    assert_int_equal(p->count, 3);
    assert_int_equal(p->w->keys_asked, 1);
    publisher_free(p);
}

static void a_context_nobody_knows_can_be_heard(void **state) {
    (void)state;
    publisher *p = publisher_new(3);
    cal_contexts_listen(p->w->contexts, &(cal_context_id){{77}}, true);
    cal_contexts_listen(p->w->contexts, &(cal_context_id){{77}}, false);
    cal_contexts_listen(p->w->contexts, &(cal_context_id){{78}}, false);
    p->w->heard = true; /* before it is loaded */
    close_contexts(p->w);
    open_contexts(p->w);
    execute(p, "add", 1);
    settle(p->w);
    check_told(p, 0, &p->w->key, false);
    publisher_free(p);
}

static void without_a_key_nothing_is_written(void **state) {
    (void)state;
    publisher *p = publisher_new(4);
    hear(p, true);
    p->w->seal_result = CAL_ESTATE;
    execute(p, "add", 1);
    settle(p->w);
    assert_int_equal(p->error, CAL_ESTATE);
    assert_non_null(strstr(p->message, "no key"));
    execute(p, "peek", 1); /* reading goes on */
    settle(p->w);
    assert_int_equal(p->error, 0);
    assert_int_equal(stored_count(p->w), 0);
    assert_int_equal(p->count, 0);
    p->w->seal_result = 0; /* it came */
    p->w->version++;
    execute(p, "add", 1);
    settle(p->w);
    assert_int_equal(p->error, 0);
    check_told(p, 0, &p->w->key, false);
    publisher_free(p);
}

static void flood(publisher *p, uint32_t bytes) {
    uint8_t input[TURN_TAG + 4] = {1};
    cal_write_u32le(input + TURN_TAG, bytes);
    cal_contexts_execute(p->w->contexts, &p->w->id, "flood", cal_slice_of(input, sizeof input),
                         answered, p);
    settle(p->w);
}

static void what_is_too_long_to_send_is_not_written(void **state) {
    (void)state;
    publisher *p = publisher_new(5);
    uint32_t max = GOV_DELTA_PLAIN_MAX - FLOOD_FIXED;
    hear(p, true);
    flood(p, max + 1);
    assert_int_equal(p->error, CAL_ELIMIT);
    assert_non_null(strstr(p->message, "1048576"));
    assert_int_equal(stored_count(p->w), 0);
    assert_int_equal(p->count, 0);
    flood(p, max);
    assert_int_equal(p->error, 0);
    assert_int_equal(stored_count(p->w), 1);
    check_told(p, 0, &p->w->key, false);
    hear(p, false); /* nobody is sent anything */
    flood(p, max + 1);
    assert_int_equal(p->error, 0);
    assert_int_equal(stored_count(p->w), 2);
    publisher_free(p);
}

static void what_the_disk_did_not_keep_is_not_told(void **state) {
    (void)state;
    publisher *p = publisher_new(6);
    hear(p, true);
    for (int i = 0; i < 10; i++) execute(p, "add", 1);
    while (run_worker(p->w) || run_loop(p->w)) {
    }
    assert_int_equal(p->count, 0); /* durable first */
    cal_sim_fail(p->w->sim, CAL_SIM_WRITE, 1, 1, CAL_EFULL);
    settle(p->w);
    assert_int_equal(p->answered, 10);
    assert_int_equal(p->count, p->ok);
    assert_int_equal(stored_count(p->w), p->ok);
    publisher_free(p);
}

static void a_genesis_is_told_once_it_is_durable(void **state) {
    (void)state;
    publisher *p = publisher_new(7);
    hear(p, true);
    cal_contexts_created(p->w->contexts,
                         &(cal_context_genesis){.id = p->w->id, .delta = p->w->genesis});
    assert_int_equal(p->count, 1);
    assert_int_equal(p->told[0].message.len, 0);
    cal_buffer row;
    cal_delta_record record;
    cal_buffer_init(&row, SIZE_MAX);
    assert_int_equal(cal_context_delta_read(p->w->store, &p->w->id, &p->told[0].id, &row), 0);
    assert_int_equal(cal_delta_record_decode(cal_buffer_slice(&row), &record), 0);
    assert_false(record.has_author || record.has_position);
    cal_buffer_deinit(&row);
    assert_int_equal(
        cal_context_delta_read(p->w->store, &p->w->id, &(cal_hash){{1}}, &(cal_buffer){0}),
        CAL_ENOTFOUND);
    publisher_free(p);
}

/* --- calls across contexts --- */

static cal_context_id made_id;
static void made(void *user, const cal_error *err, const cal_context_genesis *genesis,
                 cal_batch *batch) {
    world *w = user;
    assert_null(err);
    made_id = genesis->id;
    cal_store_submit(w->store, batch, NULL, NULL);
}

static cal_context_id make_context(world *w, uint8_t application) {
    cal_context_create_options options = {.application = {{application}}};
    cal_contexts_create(w->contexts, &options, made, w);
    settle(w);
    return made_id;
}

static int xcall_status = -1;
static char xcall_detail[100];
static void note_xcall(world *w, const cal_event *event) {
    (void)w;
    if (event->type != CAL_EVENT_XCALL) return;
    xcall_status = (int)event->xcall_status;
    snprintf(xcall_detail, sizeof xcall_detail, "%s", event->xcall_detail);
}

static void ignore(void *user, const cal_call_result *result) { (void)user, (void)result; }

static void send(world *w, const cal_context_id *from, const cal_context_id *to) {
    uint8_t input[TURN_TAG + CAL_ID_SIZE] = {1};
    memcpy(input + TURN_TAG, to->bytes, CAL_ID_SIZE);
    xcall_status = -1;
    cal_contexts_execute(w->contexts, from, "send", cal_slice_of(input, sizeof input), ignore, w);
    settle(w);
}

/* The guest opens `add` to its own application only. */
static void another_application_is_let_in_where_it_may(void **state) {
    (void)state;
    world *w = world_new(8);
    w->event = note_xcall;
    cal_context_id a = make_context(w, 1), b = make_context(w, 1), other = make_context(w, 2);
    send(w, &a, &b);
    assert_int_equal(xcall_status, CAL_XCALL_OK);
    send(w, &other, &b);
    assert_int_equal(xcall_status, CAL_XCALL_DENIED);
    assert_string_equal(xcall_detail, "not an xcall entry point");
    w->id = b;
    assert_int_equal(stored_count(w), 1);
    world_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_heard_is_sealed_and_told_in_order),
        cmocka_unit_test(what_nobody_hears_is_told_unsealed),
        cmocka_unit_test(a_context_nobody_knows_can_be_heard),
        cmocka_unit_test(without_a_key_nothing_is_written),
        cmocka_unit_test(what_is_too_long_to_send_is_not_written),
        cmocka_unit_test(what_the_disk_did_not_keep_is_not_told),
        cmocka_unit_test(another_application_is_let_in_where_it_may),
        cmocka_unit_test(a_genesis_is_told_once_it_is_durable),
    };
    return cmocka_run_group_tests(tests, world_setup, world_teardown);
}
