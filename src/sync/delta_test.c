/* A received delta in itself: which are taken, what is read out of them, and what they need. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "os/sim/sim.h"
#include "store/key.h"
#include "sync/context.h"

static cal_sim *sim;
static cal_key_source key = {CAL_KEY_FILE, "/s/key"};
static cal_store *store;
static cal_sync sync_of;
static sync_context context;
static const cal_peer_id peer = {.len = 1, .bytes = {7}};

static int begin(void **state) {
    (void)state;
    cal_crypto_init();
    sim = cal_sim_new(5);
    const cal_os *os = cal_sim_os(sim);
    os->make_dir(os->user, "/s");
    const cal_store_options options = {.os = os, .folder = "/s", .key = &key, .stepped = true};
    assert_int_equal(cal_store_create(&options, NULL), 0);
    assert_int_equal(cal_store_open(&options, &store, NULL), 0);
    sync_of = (cal_sync){.options = {.os = os, .store = store}};
    context = (sync_context){.sync = &sync_of, .id = {{7}}};
    return 0;
}
static int finish(void **state) {
    (void)state;
    cal_store_close(store);
    cal_sim_free(sim);
    return 0;
}

static cal_hash id_of(uint32_t n) {
    cal_hash id;
    cal_sha256(cal_slice_of(&n, sizeof n), id.bytes);
    return id;
}

/* --- answers --- */

typedef struct told { /* an answer, and what it points to */
    cal_buffer bytes, position;
    sync_answer answer;
} told;

static void tell(told *t, const cal_public_key *author, const cal_hash *parents, uint32_t count) {
    static const uint8_t no_actions[4];
    const gov_position position = {.heads = {{{1}}}, .count = 1};
    const sync_causal_delta causal = {.id = id_of(0),
                                      .parents = parents,
                                      .parent_count = count,
                                      .actions = cal_slice_of(no_actions, sizeof no_actions),
                                      .hlc_time = 1,
                                      .hlc_id = {1}};
    cal_buffer_init(&t->bytes, 1 << 16);
    cal_buffer_init(&t->position, 1 << 16);
    assert_int_equal(sync_causal_delta_write(&causal, &t->bytes), 0);
    assert_int_equal(gov_position_write(&position, &t->position), 0);
    t->answer = (sync_answer){.kind = SYNC_ANSWER_DELTA,
                              .bytes = cal_buffer_slice(&t->bytes),
                              .author = *author,
                              .has_signature = true,
                              .has_position = true,
                              .position = cal_buffer_slice(&t->position)};
}
static void forget(told *t) {
    cal_buffer_deinit(&t->bytes);
    cal_buffer_deinit(&t->position);
}

static bool is_taken(const sync_answer *answer) {
    sync_delta *delta = sync_delta_of_answer(&context, &peer, answer);
    bool taken = delta != NULL;
    sync_delta_free(delta);
    return taken;
}

static void what_somebody_wrote_is_signed_and_placed(void **state) {
    (void)state;
    told t;
    const cal_public_key author = {{3}};
    const cal_hash parents[2] = {id_of(1), id_of(2)};
    tell(&t, &author, parents, 2);
    assert_true(is_taken(&t.answer));
    t.answer.has_signature = false;
    assert_false(is_taken(&t.answer));
    t.answer.has_signature = true;
    t.answer.has_position = false;
    assert_false(is_taken(&t.answer));
    forget(&t);
    tell(&t, &author, parents, 0);
    assert_false(is_taken(&t.answer));
    forget(&t);
}

/* Nothing vouches for it but its place below all others. */
static void what_nobody_wrote_is_the_first(void **state) {
    (void)state;
    told t;
    const cal_public_key nobody = {{0}};
    const cal_hash first[1] = {{{0}}}, later[1] = {id_of(1)}, both[2] = {{{0}}, id_of(1)};
    tell(&t, &nobody, first, 1);
    t.answer.has_signature = t.answer.has_position = false;
    assert_true(is_taken(&t.answer));
    forget(&t);
    tell(&t, &nobody, later, 1);
    assert_false(is_taken(&t.answer));
    forget(&t);
    tell(&t, &nobody, both, 2);
    assert_false(is_taken(&t.answer));
    forget(&t);
    tell(&t, &nobody, first, 0);
    assert_false(is_taken(&t.answer));
    forget(&t);
}

/* --- gossip --- */

/* One action on an entity of that kind, as the artifact of a delta; and the delta's id. */
static cal_slice act(cal_arena *arena, crdt_storage_kind kind, const cal_hash *parent,
                     cal_hash *ret_id) {
    static const uint8_t value[] = "what it holds";
    const crdt_action action = {
        .kind = CRDT_ACTION_ADD,
        .id = {{9}},
        .data = crdt_bytes_of(value, sizeof value),
        .metadata = {.created_at = 1, .updated_at = 1, .storage = {.kind = kind}}};
    const crdt_delta delta = {.kind = CRDT_DELTA_ACTIONS, .actions = &action, .action_count = 1};
    crdt_env env = cal_crdt_env(arena);
    crdt_bytes bytes;
    crdt_hash id;
    assert_int_equal(crdt_delta_encode(&env.memory, &delta, &bytes), 0);
    assert_int_equal(
        crdt_delta_id(&env, (const uint8_t(*)[32])(const void *)parent, 1, &action, 1, &id), 0);
    memcpy(ret_id->bytes, id.bytes, sizeof id.bytes);
    return cal_slice_of(bytes.data, bytes.len);
}

static const cal_secret group_key = {{5}};

static sync_delta *sealed(crdt_storage_kind kind, bool has_events, cal_slice events) {
    cal_arena arena;
    cal_buffer seal, bytes;
    const cal_secret author = {{6}};
    const cal_hash parent = id_of(1);
    gov_state_delta wire = {.context = context.id,
                            .parents = &parent,
                            .parent_count = 1,
                            .hlc = {1, {1, 0}},
                            .has_position = true,
                            .has_signature = true,
                            .position = {.heads = {{{1}}}, .count = 1},
                            .key_id = {{4}}};
    cal_arena_init(&arena, 1 << 20);
    cal_buffer_init(&seal, 1 << 20);
    cal_buffer_init(&bytes, 1 << 20);
    const gov_delta_payload payload = {.root = {{8}},
                                       .artifact = act(&arena, kind, &parent, &wire.delta),
                                       .has_events = has_events,
                                       .events = events};
    assert_int_equal(gov_delta_seal(&group_key, wire.nonce, &payload, &seal), 0);
    wire.sealed = cal_buffer_slice(&seal);
    cal_sign_public_key(&author, wire.author_key);
    assert_int_equal(gov_delta_sign(&author, &wire.context, &wire.delta, &wire.position, &wire.hlc,
                                    wire.signature),
                     0);
    assert_int_equal(gov_state_delta_write(&wire, &bytes), 0);
    const cal_p2p_message message = {.author = peer, .data = bytes.data, .len = bytes.len};
    sync_delta *delta = sync_delta_of_gossip(&context, &message);
    assert_non_null(delta);
    assert_int_equal(sync_delta_prove(delta, NULL), 0);
    delta->key = group_key;
    cal_buffer_deinit(&bytes);
    cal_buffer_deinit(&seal);
    cal_arena_deinit(&arena);
    return delta;
}

static void events_come_out_of_the_seal(void **state) {
    (void)state;
    const cal_slice events = cal_slice_text("[{\"kind\":\"set\",\"data\":[1]}]");
    sync_delta *delta = sealed(CRDT_PUBLIC, true, events);
    assert_int_equal(sync_delta_open(delta), 0);
    assert_true(cal_slice_equal(delta->record.events, events));
    sync_delta_free(delta);
    delta = sealed(CRDT_PUBLIC, false, (cal_slice){0});
    assert_int_equal(sync_delta_open(delta), 0);
    assert_int_equal(delta->record.events.len, 0);
    sync_delta_free(delta);
}

/* Those are applied alone, with the writers that hold for them. */
static void members_of_shared_sets_have_writers(void **state) {
    (void)state;
    for (crdt_storage_kind kind = CRDT_PUBLIC; kind <= CRDT_SHARED_MEMBER; kind++) {
        sync_delta *delta = sealed(kind, false, (cal_slice){0});
        assert_int_equal(sync_delta_open(delta), 0);
        assert_int_equal(delta->shared, kind == CRDT_SHARED || kind == CRDT_SHARED_MEMBER);
        sync_delta_free(delta);
    }
}

/* --- parents --- */

static void store_one(const cal_hash *id) {
    uint8_t row_key[64];
    cal_batch *batch = cal_batch_new();
    memcpy(row_key, context.id.bytes, 32);
    memcpy(row_key + 32, id->bytes, 32);
    cal_batch_put(batch, CAL_COLUMN_DELTA, cal_slice_of(row_key, 64), cal_slice_text("x"));
    assert_int_equal(cal_store_commit(store, batch, NULL), 0);
}

static void all_missing_parents_are_noted(void **state) {
    (void)state;
    told t;
    const cal_public_key author = {{3}};
    const cal_hash parents[4] = {id_of(11), id_of(12), id_of(13), {{0}}};
    const cal_past past = {0};
    cal_snapshot *snapshot;
    store_one(&parents[1]);
    tell(&t, &author, parents, 4);
    sync_delta *delta = sync_delta_of_answer(&context, &peer, &t.answer);
    assert_non_null(delta);
    assert_int_equal(cal_store_snapshot(store, &snapshot), 0);
    assert_int_equal(sync_delta_locate(delta, snapshot, &past), 0);
    cal_snapshot_free(snapshot);
    assert_int_equal(delta->absent_count, 2);
    assert_int_equal(delta->absent[0].parent, 0);
    assert_int_equal(delta->absent[1].parent, 2);
    store_one(&delta->record.id); /* the delta itself */
    assert_int_equal(cal_store_snapshot(store, &snapshot), 0);
    assert_int_equal(sync_delta_locate(delta, snapshot, &past), CAL_EEXISTS);
    cal_snapshot_free(snapshot);
    sync_delta_free(delta);
    forget(&t);
}

/* --- room --- */

static sync_delta *of_cost(cal_peer_id from, size_t cost) {
    told t;
    const cal_public_key nobody = {{0}};
    const cal_hash first = {{0}};
    tell(&t, &nobody, &first, 1);
    sync_delta *delta = sync_delta_of_answer(&context, &from, &t.answer);
    assert_non_null(delta);
    delta->cost = cost;
    forget(&t);
    return delta;
}

/* One sender has half of a room at most, in bytes as in number, and leaves the next one as much. */
static void large_ones_take_no_others_room(void **state) {
    (void)state;
    static const struct {
        sync_room room;
        size_t bytes;
    } rooms[] = {{SYNC_ROOM_UNPROVED, SYNC_UNPROVED_BYTES_MAX},
                 {SYNC_ROOM_STRANGERS, SYNC_STRANGERS_BYTES_MAX},
                 {SYNC_ROOM_WAITING, SYNC_WAITING_BYTES_MAX}};
    const cal_peer_id other = {.len = 1, .bytes = {8}};
    cal_map_init(&context.shares, 1);
    for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++) {
        sync_delta *whole = of_cost(peer, rooms[i].bytes + 1),
                   *half = of_cost(peer, rooms[i].bytes / 2), *more = of_cost(peer, 1),
                   *others = of_cost(other, rooms[i].bytes / 2);
        assert_false(sync_room_enter(whole, rooms[i].room));
        assert_true(sync_room_enter(half, rooms[i].room));
        assert_false(sync_room_enter(more, rooms[i].room));
        assert_true(sync_room_enter(others, rooms[i].room));
        assert_int_equal(context.used[rooms[i].room].bytes, rooms[i].bytes / 2 * 2);
        sync_room_leave(others);
        sync_room_leave(half);
        assert_true(sync_room_enter(more, rooms[i].room));
        sync_room_leave(more);
        assert_int_equal(context.used[rooms[i].room].bytes, 0);
        sync_delta *all[] = {whole, half, more, others};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++) sync_delta_free(all[k]);
    }
    assert_int_equal(context.shares.count, 0);
    cal_map_deinit(&context.shares);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_somebody_wrote_is_signed_and_placed),
        cmocka_unit_test(what_nobody_wrote_is_the_first),
        cmocka_unit_test(events_come_out_of_the_seal),
        cmocka_unit_test(members_of_shared_sets_have_writers),
        cmocka_unit_test(all_missing_parents_are_noted),
        cmocka_unit_test(large_ones_take_no_others_room),
    };
    return cmocka_run_group_tests(tests, begin, finish);
}
