/* Whose rotations count for a delta: those below its parents, in whatever order all came, against
 * the plain definition on graphs that a seed draws. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "context/commit.h"
#include "store/key.h"

enum { DELTAS_MAX = 40000, PARENTS_MAX = 4, GRAPH = 60, GRAPHS = 60, QUESTIONS = 20 };
static const uint64_t second = UINT64_C(1) << 32, start = UINT64_C(1000) << 32;

typedef struct made { /* a delta; parents are numbers, 0: none */
    uint32_t parents[PARENTS_MAX], parent_count;
    uint64_t time;
    uint8_t rotates_to; /* the account that may write from it on; 0: no rotation */
} made;

typedef struct world {
    char folder[64], key_file[96];
    cal_key_source key;
    cal_store *store;
    cal_context_id id;
    cal_batch *batch; /* of the operation */
    cal_arena arena;
    made deltas[DELTAS_MAX]; /* by number, from 1 */
    uint32_t count;
} world;

static const crdt_id anchor = {{0xA0}}, member = {{0xB0}}, other = {{0x90}}, unlogged = {{0xC0}};

/* --- the state --- */

static int read_row(void *user, const uint8_t key[32], crdt_bytes *ret_value) {
    world *w = user;
    uint8_t full[64];
    cal_buffer row;
    cal_buffer_init(&row, SIZE_MAX);
    memcpy(full, w->id.bytes, 32);
    memcpy(full + 32, key, 32);
    int rc = cal_store_get(w->store, CAL_COLUMN_STATE, cal_slice_of(full, 64), &row);
    if (rc == 0) *ret_value = crdt_bytes_of(cal_arena_copy(&w->arena, row.data, row.len), row.len);
    cal_buffer_deinit(&row);
    return rc == 0 ? 1 : rc == CAL_ENOTFOUND ? 0 : rc;
}

static int write_row(void *user, const uint8_t key[32], crdt_bytes value) {
    world *w = user;
    uint8_t full[64];
    memcpy(full, w->id.bytes, 32);
    memcpy(full + 32, key, 32);
    return cal_batch_put(w->batch, CAL_COLUMN_STATE, cal_slice_of(full, 64),
                         cal_slice_of(value.data, value.len));
}

static int remove_row(void *user, const uint8_t key[32]) {
    (void)user, (void)key;
    fail();
    return 0;
}

static bool verify(void *user, const uint8_t public_key[32], const uint8_t payload[32],
                   const uint8_t signature[64]) {
    (void)user, (void)public_key, (void)payload, (void)signature;
    return true;
}

static cal_hash id_of(uint32_t number) {
    cal_hash id = {{0}};
    if (number == 0) return id;
    cal_write_u32le(id.bytes, number * UINT32_C(2654435761)); /* in no order */
    cal_write_u32le(id.bytes + 4, number);
    return id;
}

static crdt_action shared_action(const crdt_grant *grant, const crdt_signature *signature,
                                 const crdt_child *root) {
    crdt_action action = {.kind = CRDT_ACTION_ADD, .id = anchor, .ancestors = {root, 1}};
    action.metadata.created_at = action.metadata.updated_at = 10;
    action.metadata.storage =
        (crdt_storage_type){.kind = CRDT_SHARED, .writers = {grant, 1}, .signature = signature};
    return action;
}

static void commit(world *w) {
    assert_int_equal(cal_store_commit(w->store, w->batch, NULL), 0);
    w->batch = NULL;
}

/* The anchor, or with a number an entry in its log. */
static void touch_anchor(world *w, uint32_t number) {
    static const crdt_signature signature = {.nonce = 10, .has_signer = true, .signer = {{3}}};
    crdt_grant grant = {{{number ? w->deltas[number].rotates_to : 1}}, CRDT_MASK_FULL};
    crdt_env env = cal_crdt_env(&w->arena);
    crdt_rows rows = {.user = w, .read = read_row, .write = write_row, .remove = remove_row};
    crdt_child root = {.id = {{0}}};
    memcpy(root.id.bytes, w->id.bytes, 32);
    crdt_action action = shared_action(&grant, &signature, &root);
    crdt_apply_context context = {
        .now_ns = 10, .verify = verify, .has_signer_account = true, .signer_account = {{1}}};
    crdt_store *store;
    crdt_refusal refusal = CRDT_APPLIED;
    bool changed = true;
    w->batch = cal_batch_new();
    assert_int_equal(crdt_store_open(&env, &rows, &root.id, &store), 0);
    if (number == 0) {
        assert_int_equal(crdt_store_apply(store, &action, &context, &refusal), 0);
    } else {
        cal_hash id = id_of(number);
        memcpy(context.delta_id.bytes, id.bytes, 32);
        context.delta_hlc = (crdt_hlc){.time = w->deltas[number].time, .id = {1}};
        assert_int_equal(crdt_store_log_rotations(store, &action, 1, &context, &changed), 0);
    }
    assert_int_equal(refusal, CRDT_APPLIED);
    assert_true(changed);
    assert_int_equal(crdt_store_flush(store), 0);
    commit(w);
}

/* --- deltas --- */

static uint32_t add(world *w, made m) {
    w->deltas[++w->count] = m;
    return w->count;
}

static size_t parents_of(const made *m, uint8_t ret_parents[PARENTS_MAX][32]) {
    for (uint32_t i = 0; i < m->parent_count; i++) {
        cal_hash id = id_of(m->parents[i]);
        memcpy(ret_parents[i], id.bytes, 32);
    }
    return m->parent_count;
}

static void put_delta(world *w, cal_batch *batch, uint32_t number) {
    uint8_t parents[PARENTS_MAX][32];
    cal_delta_record record = {.id = id_of(number),
                               .parents = (const uint8_t(*)[32])parents,
                               .parent_count = parents_of(&w->deltas[number], parents),
                               .hlc = {.time = w->deltas[number].time, .id = {1}}};
    assert_int_equal(commit_put_delta(batch, &w->id, &record), 0);
}

static bool is_parent(const world *w, uint32_t number) {
    for (uint32_t i = 1; i <= w->count; i++)
        for (uint32_t k = 0; k < w->deltas[i].parent_count; k++)
            if (w->deltas[i].parents[k] == number) return true;
    return false;
}

/* Stores what was added: deltas, log entries, and the record with these heads (NULL: computed). */
static void store_all(world *w, const uint32_t *heads, size_t head_count) {
    static cal_hash ids[DELTAS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < head_count; i++) ids[count++] = id_of(heads[i]);
    for (uint32_t i = 1; !heads && i <= w->count; i++)
        if (!is_parent(w, i)) ids[count++] = id_of(i);
    cal_batch *batch = cal_batch_new();
    for (uint32_t i = 1; i <= w->count; i++) put_delta(w, batch, i);
    cal_context_record record = {.root = {{1}}, .heads = ids, .head_count = count};
    assert_int_equal(commit_put_record(batch, &w->id, &record), 0);
    assert_int_equal(cal_store_commit(w->store, batch, NULL), 0);
    for (uint32_t i = 1; i <= w->count; i++)
        if (w->deltas[i].rotates_to) touch_anchor(w, i);
}

static void forget(world *w, uint32_t number) {
    uint8_t key[64];
    cal_hash id = id_of(number);
    memcpy(key, w->id.bytes, 32);
    memcpy(key + 32, id.bytes, 32);
    cal_batch *batch = cal_batch_new();
    cal_batch_delete(batch, CAL_COLUMN_DELTA, cal_slice_of(key, 64));
    assert_int_equal(cal_store_commit(w->store, batch, NULL), 0);
}

/* The account that may write for a delta on these parents; 0: no rotation counts. */
static uint8_t writer_on(world *w, const uint32_t *numbers, uint32_t count) {
    made m = {.parent_count = count};
    memcpy(m.parents, numbers, count * sizeof *numbers);
    uint8_t parents[PARENTS_MAX][32];
    crdt_action actions[5] = {{.kind = CRDT_ACTION_ADD, .id = member},
                              {.kind = CRDT_ACTION_UPDATE, .id = anchor},
                              {.kind = CRDT_ACTION_ADD, .id = other},
                              {.kind = CRDT_ACTION_DELETE, .id = member},
                              {.kind = CRDT_ACTION_ADD, .id = unlogged}};
    actions[0].metadata.storage =
        (crdt_storage_type){.kind = CRDT_SHARED_MEMBER, .subject = anchor};
    actions[1].metadata.storage.kind = actions[4].metadata.storage.kind = CRDT_SHARED;
    actions[3].metadata.storage = actions[0].metadata.storage;
    crdt_delta delta = {.actions = actions, .action_count = 5};
    crdt_memory memory = cal_crdt_memory(&w->arena);
    crdt_bytes artifact;
    assert_int_equal(crdt_delta_encode(&memory, &delta, &artifact), 0);
    cal_delta_record record = {.parents = (const uint8_t(*)[32])parents,
                               .parent_count = parents_of(&m, parents),
                               .artifact = cal_slice_of(artifact.data, artifact.len)};
    const crdt_entity_writers *writers;
    uint32_t found;
    assert_int_equal(cal_context_needs_writers(&record, &w->arena), 1);
    assert_int_equal(cal_context_writers(w->store, &w->id, &record, &w->arena, &writers, &found),
                     0);
    if (found == 0) return 0;
    assert_int_equal(found, 2); /* sorted, each once, and only those with a log */
    assert_memory_equal(&writers[0].entity, &anchor, 32);
    assert_memory_equal(&writers[1].entity, &member, 32);
    for (int i = 0; i < 2; i++) assert_int_equal(writers[i].writers.count, 1);
    assert_memory_equal(writers[0].writers.items, writers[1].writers.items, sizeof(crdt_grant));
    return writers[0].writers.items->account.bytes[0];
}

static uint8_t writer_after(world *w, uint32_t number) { return writer_on(w, &number, 1); }

/* --- the world --- */

static int remove_entry(const char *path, const struct stat *stat, int kind, struct FTW *walk) {
    (void)stat, (void)kind, (void)walk;
    return remove(path);
}

static int setup(void **state) {
    world *w = calloc(1, sizeof *w);
    cal_error err = {0};
    assert_non_null(w);
    strcpy(w->folder, "/tmp/cal_writers_XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    snprintf(w->key_file, sizeof w->key_file, "%s/master.key", w->folder);
    w->key = (cal_key_source){CAL_KEY_FILE, w->key_file};
    cal_store_options options = {
        .folder = w->folder, .durability = CAL_DURABLE_PROCESS, .key = &w->key};
    assert_int_equal(cal_store_create(&options, &err), 0);
    assert_int_equal(cal_store_open(&options, &w->store, &err), 0);
    cal_arena_init(&w->arena, SIZE_MAX);
    *state = w;
    return 0;
}

static int teardown(void **state) {
    world *w = *state;
    cal_store_close(w->store);
    cal_arena_deinit(&w->arena);
    nftw(w->folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(w);
    return 0;
}

/* Another context, empty. */
static void anew(world *w, uint32_t number) {
    cal_arena_deinit(&w->arena);
    cal_arena_init(&w->arena, SIZE_MAX);
    memset(w->id.bytes, 0x60, 32);
    cal_write_u32le(w->id.bytes, number);
    w->count = 0;
    touch_anchor(w, 0);
}

/* --- tests --- */

static void a_rotation_counts_below_its_descendants_only(void **state) {
    world *w = *state;
    anew(w, 1);
    uint32_t genesis = add(w, (made){.parents = {0}, .parent_count = 1, .time = start});
    uint32_t a = add(w, (made){{genesis}, 1, start + second, 11}),
             b = add(w, (made){{genesis}, 1, start + 2 * second, 12}), /* beside a, later */
        on_a = add(w, (made){{a}, 1, start + 3 * second, 0}),
             both = add(w, (made){{on_a, b}, 2, start + 4 * second, 0}),
             last = add(w, (made){{both}, 1, start + 5 * second, 13});
    store_all(w, NULL, 0);
    assert_int_equal(writer_after(w, 0), 0);
    assert_int_equal(writer_after(w, genesis), 0);
    assert_int_equal(writer_after(w, a), 11);
    assert_int_equal(writer_after(w, on_a), 11);
    assert_int_equal(writer_after(w, b), 12);
    assert_int_equal(writer_after(w, both), 12);
    assert_int_equal(writer_on(w, (uint32_t[]){on_a, b}, 2), 12);
    assert_int_equal(writer_after(w, last), 13);
}

/* The rotation is met from above before its earlier child is, when all else is decided. */
static void a_child_may_be_earlier_than_its_parent(void **state) {
    world *w = *state;
    anew(w, 5);
    uint64_t time = start + 100 * second;
    uint32_t genesis = add(w, (made){{0}, 1, start, 0}),
             rotation = add(w, (made){{genesis}, 1, time, 11}),
             child = add(w, (made){{rotation}, 1, time - 4 * second, 0}),
             side = add(w, (made){{genesis}, 1, time + second / 2, 0});
    add(w, (made){{rotation}, 1, time + second, 0});
    store_all(w, NULL, 0);
    assert_int_equal(writer_on(w, (uint32_t[]){child, side}, 2), 11);
    assert_int_equal(writer_after(w, side), 0);
}

static void what_touches_nothing_shared_asks_for_nothing(void **state) {
    world *w = *state;
    anew(w, 2);
    crdt_action action = {.kind = CRDT_ACTION_ADD, .id = anchor};
    crdt_delta delta = {.actions = &action, .action_count = 1};
    crdt_memory memory = cal_crdt_memory(&w->arena);
    crdt_bytes artifact;
    assert_int_equal(crdt_delta_encode(&memory, &delta, &artifact), 0);
    cal_delta_record record = {.artifact = cal_slice_of(artifact.data, artifact.len)};
    const crdt_entity_writers *writers;
    uint32_t found = 7;
    assert_int_equal(cal_context_needs_writers(&record, &w->arena), 0);
    assert_int_equal(cal_context_writers(w->store, &w->id, &record, &w->arena, &writers, &found),
                     0);
    assert_int_equal(found, 0);
    record.artifact.len--;
    assert_int_equal(cal_context_needs_writers(&record, &w->arena), CAL_EDECODE);
    assert_int_equal(cal_context_writers(w->store, &w->id, &record, &w->arena, &writers, &found),
                     CAL_EDECODE);
    delta.kind = CRDT_DELTA_CAUSAL_ACTIONS; /* says itself who may write */
    assert_int_equal(crdt_delta_encode(&memory, &delta, &artifact), 0);
    record.artifact = cal_slice_of(artifact.data, artifact.len);
    assert_int_equal(cal_context_needs_writers(&record, &w->arena), CAL_EDECODE);
}

static void an_old_rotation_counts_however_long_ago(void **state) {
    world *w = *state;
    anew(w, 3);
    uint32_t at = 0, side = 0;
    for (uint32_t i = 1; i < DELTAS_MAX - 2; i++) {
        at = add(w, (made){{at}, 1, start + i * second, i == 3 ? 11 : 0});
        if (i == 5) side = at;
    }
    uint32_t beside = add(w, (made){{side}, 1, start + 7 * second, 12});
    store_all(w, (uint32_t[]){at, beside}, 2);
    assert_int_equal(writer_after(w, at), 11);
    assert_int_equal(writer_after(w, beside), 12);
    assert_int_equal(writer_on(w, (uint32_t[]){at, beside}, 2), 12);
}

static void what_came_with_an_installed_state_counts(void **state) {
    world *w = *state;
    anew(w, 4);
    uint32_t early = add(w, (made){{0}, 1, start, 11}),
             boundary = add(w, (made){{early}, 1, start + second, 0}),
             next = add(w, (made){{boundary}, 1, start + 20 * second, 0}),
             late = add(w, (made){{boundary}, 1, start + 21 * second, 12}),
             top = add(w, (made){{next, late}, 2, start + 22 * second, 0}),
             deep = add(w, (made){{next}, 1, start + 23 * second, 13}),
             above = add(w, (made){{deep}, 1, start + 24 * second, 0}),
             bare = add(w, (made){{boundary}, 1, start + 25 * second, 0});
    add(w, (made){{above, bare}, 2, start + 26 * second, 0});
    store_all(w, NULL, 0);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(writer_after(w, boundary), 11);
        assert_int_equal(writer_after(w, next), 11); /* not what was rotated beside it */
        assert_int_equal(writer_after(w, late), 12);
        assert_int_equal(writer_after(w, top), 12);
        assert_int_equal(writer_after(w, deep), 13);
        forget(w, boundary);
        if (round == 0) forget(w, early);
    }
}

/* Late, on something old: what was rotated beside it and is compacted away does not count. */
static void what_was_compacted_away_counts_for_what_is_later(void **state) {
    world *w = *state;
    anew(w, 6);
    uint32_t genesis = add(w, (made){{0}, 1, start, 0}),
             first = add(w, (made){{genesis}, 1, start + second, 11}),
             old = add(w, (made){{first}, 1, start + 2 * second, 0}),
             beside = add(w, (made){{first}, 1, start + 60 * second, 12}),
             next = add(w, (made){{beside}, 1, start + 61 * second, 0}),
             below = add(w, (made){{next}, 1, start + 62 * second, 0}),
             last = add(w, (made){{below}, 1, start + 90 * second, 0});
    store_all(w, (uint32_t[]){last}, 1);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(writer_after(w, old), 11);
        assert_int_equal(writer_after(w, next), 12);
        assert_int_equal(writer_after(w, last), 12);
        assert_int_equal(writer_on(w, (uint32_t[]){old, last}, 2), 12);
        forget(w, first);
        forget(w, beside);
        forget(w, next);
        if (round == 0) forget(w, genesis);
    }
}

/* --- graphs that a seed draws --- */

static uint64_t drawn;
static uint32_t below(uint32_t bound) {
    drawn = drawn * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(drawn >> 33) % bound;
}

static uint8_t plain_answer(const world *w, const uint32_t *parents, uint32_t count) {
    bool found[GRAPH + 1] = {false};
    uint32_t best = 0;
    for (uint32_t i = 0; i < count; i++) found[parents[i]] = true;
    for (uint32_t i = w->count; i >= 1; i--) {
        const made *m = &w->deltas[i];
        if (!found[i]) continue;
        for (uint32_t k = 0; k < m->parent_count; k++) found[m->parents[k]] = true;
        if (!m->rotates_to) continue;
        if (best == 0 || m->time > w->deltas[best].time) best = i;
    }
    return best ? w->deltas[best].rotates_to : 0;
}

static void draw_parents(const world *w, uint32_t window, made *m) {
    m->parent_count = 1 + below(PARENTS_MAX);
    if (w->count == 0) m->parent_count = 1;
    uint32_t from = w->count > window ? w->count - window : 0;
    for (uint32_t i = 0; i < m->parent_count; i++)
        m->parents[i] = w->count == 0 ? 0 : from + 1 + below(w->count - from);
}

/* Clocks differ by up to 5 s either way, so parents may be later than children. */
static void any_graph_gives_the_plain_answer(void **state) {
    world *w = *state;
    for (uint32_t graph = 0; graph < GRAPHS; graph++) {
        drawn = graph;
        anew(w, 100 + graph);
        uint8_t account = 10;
        uint32_t window = 1 + below(20), pace = 1 + below(4);
        for (uint32_t i = 0; i < GRAPH; i++) {
            made m = {.time = start + i * pace * second + below(5000) * (second / 1000) + i,
                      .rotates_to = below(5) == 0 ? ++account : 0};
            draw_parents(w, window, &m);
            add(w, m);
        }
        store_all(w, NULL, 0);
        for (int i = 0; i < QUESTIONS; i++) {
            made asked = {0};
            draw_parents(w, i % 2 ? GRAPH : 10, &asked);
            uint8_t expected = plain_answer(w, asked.parents, asked.parent_count);
            uint8_t given = writer_on(w, asked.parents, asked.parent_count);
            if (given != expected)
                fail_msg("graph %u, question %d: %u, expected %u", graph, i, given, expected);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rotation_counts_below_its_descendants_only),
        cmocka_unit_test(a_child_may_be_earlier_than_its_parent),
        cmocka_unit_test(what_touches_nothing_shared_asks_for_nothing),
        cmocka_unit_test(an_old_rotation_counts_however_long_ago),
        cmocka_unit_test(what_came_with_an_installed_state_counts),
        cmocka_unit_test(what_was_compacted_away_counts_for_what_is_later),
        cmocka_unit_test(any_graph_gives_the_plain_answer),
    };
    if (cal_crypto_init() != 0) return 1;
    return cmocka_run_group_tests(tests, setup, teardown);
}
