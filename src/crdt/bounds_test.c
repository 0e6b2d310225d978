/* Every bound of the decoders, at one more than it allows, from the wire: tags, flags, masks,
 * counts and lengths. A count that the bytes left cannot hold is refused before anything is taken
 * from memory: what a peer claims costs nothing. */
#include "support/crdt.h"

typedef struct counted {
    cal_arena arena;
    size_t pieces; /* taken so far */
} counted;

static void *count_alloc(void *user, size_t len) {
    counted *memory = user;
    memory->pieces++;
    return cal_arena_alloc(&memory->arena, len);
}

typedef enum what { DELTA, ACTION, INDEX, CHILD, METADATA, STORAGE, TYPE } what;

static int decode(what what_of, counted *memory, crdt_bytes bytes) {
    crdt_memory from = {memory, count_alloc};
    union {
        crdt_delta delta;
        crdt_action action;
        crdt_index index;
        crdt_child child;
        crdt_metadata metadata;
        crdt_storage_type storage;
        crdt_type type;
    } value;
    switch (what_of) {
    case DELTA:
        return crdt_delta_decode(&from, bytes, &value.delta);
    case ACTION:
        return crdt_action_decode(&from, bytes, &value.action);
    case INDEX:
        return crdt_index_decode(&from, bytes, &value.index);
    case CHILD:
        return crdt_child_decode(&from, bytes, &value.child);
    case METADATA:
        return crdt_metadata_decode(&from, bytes, &value.metadata);
    case STORAGE:
        return crdt_storage_type_decode(&from, bytes, &value.storage);
    default:
        return crdt_type_decode(&from, bytes, &value.type);
    }
}

static int try_decode(what what_of, cal_slice bytes, size_t *ret_pieces) {
    counted memory = {.pieces = 0};
    cal_arena_init(&memory.arena, 1 << 20);
    int result = decode(what_of, &memory, crdt_bytes_of(bytes.data, bytes.len));
    if (ret_pieces) *ret_pieces = memory.pieces;
    cal_arena_deinit(&memory.arena);
    return result;
}

/* --- counts --- */

enum { ITEMS = 3 };

/* `before` zeros with `ones` set, a count, zeros: what stands around a list. */
typedef struct list_case {
    const char *name;
    what what_of;
    size_t before; /* bytes before the count */
    struct {
        size_t at;
        uint8_t value;
    } set[3];
    size_t item;   /* the fewest bytes an item takes */
    size_t pieces; /* taken before the list is come to */
} list_case;

static const list_case lists[] = {
    {"actions of a delta", DELTA, 1, {{0, 0}}, 61, 0},
    {"ancestors of an action", ACTION, 37, {{0, 0}}, 84, 0},
    {"writers of a storage type", STORAGE, 1, {{0, 3}}, 33, 0},
    {"writers in metadata", METADATA, 17, {{16, 3}}, 33, 0},
    {"children of a record", INDEX, 34, {{33, 1}}, 84, 0},
    {"deleted children of a record", INDEX, 119, {{0, 0}}, 32, 0},
    {"effective sets of a delta", DELTA, 61, {{0, 2}, {45, 1}}, 36, 0},
};

static void test_counts(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        const list_case *at = &lists[i];
        for (uint32_t count = ITEMS - 1; count <= ITEMS + 1; count++) {
            uint8_t bytes[1024] = {0};
            size_t len = at->before + 4 + ITEMS * at->item, pieces;
            assert_true(len <= sizeof bytes);
            for (int k = 0; k < 3; k++)
                if (at->set[k].value) bytes[at->set[k].at] = at->set[k].value;
            cal_write_u32le(bytes + at->before, count);
            int result = try_decode(at->what_of, cal_slice_of(bytes, len), &pieces);
            if (count > ITEMS) {
                if (result != CRDT_EDECODE || pieces != at->pieces)
                    fail_msg("%s: one too many: %d, %zu pieces", at->name, result, pieces);
            } else if (pieces == at->pieces) {
                fail_msg("%s: %u items were not looked at", at->name, count);
            }
        }
    }
}

static void test_lengths(void **state) {
    (void)state;
    uint8_t action[128] = {0}; /* an Add whose data may take all that is left */
    for (uint32_t more = 0; more <= 1; more++) {
        uint32_t len = 4 + 20 + more; /* of what follows: ancestors, metadata */
        cal_write_u32le(action + 33, len);
        assert_int_equal(try_decode(ACTION, cal_slice_of(action, 37 + 24), NULL), CRDT_EDECODE);
    }
    cal_write_u32le(action + 33, 5);
    assert_int_equal(try_decode(ACTION, cal_slice_of(action, 37 + 5 + 24), NULL), 0);
    assert_int_equal(try_decode(ACTION, cal_slice_of(action, 37 + 5 + 25), NULL), CRDT_EDECODE);
    assert_int_equal(try_decode(ACTION, cal_slice_of(action, 37 + 5 + 23), NULL), CRDT_EDECODE);
    uint8_t type[] = {0, 2, 0, 0, 0, 'a', 'b'}; /* a register of the type "ab" */
    assert_int_equal(try_decode(TYPE, cal_slice_of(type, sizeof type), NULL), 0);
    type[1] = 3;
    assert_int_equal(try_decode(TYPE, cal_slice_of(type, sizeof type), NULL), CRDT_EDECODE);
    type[1] = 2;
    type[6] = 0x80; /* no UTF-8 */
    assert_int_equal(try_decode(TYPE, cal_slice_of(type, sizeof type), NULL), CRDT_EDECODE);
}

/* --- tags and flags --- */

static void test_tags(void **state) {
    (void)state;
    static const struct {
        what what_of;
        size_t at, len; /* where the byte stands among zeros */
        uint8_t last;   /* the greatest that there is */
    } tags[] = {
        {STORAGE, 0, 200, 4},   {TYPE, 0, 200, 13},     {METADATA, 16, 200, 4},
        {METADATA, 17, 200, 1}, {METADATA, 18, 200, 1}, {METADATA, 19, 200, 1},
        {ACTION, 0, 200, 3},    {INDEX, 32, 400, 1},    {INDEX, 33, 400, 1},
        {INDEX, 118, 400, 1},
    };
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        uint8_t bytes[400] = {0};
        /* Cut where the decoder stops, so that only the tag can be at fault. */
        for (int past = 0; past <= 1; past++) {
            bytes[tags[i].at] = (uint8_t)(tags[i].last + past);
            bool any = false;
            for (size_t len = tags[i].at + 1; len <= tags[i].len; len++)
                any = any || try_decode(tags[i].what_of, cal_slice_of(bytes, len), NULL) == 0;
            if (any == past) fail_msg("tag %zu: %u", i, bytes[tags[i].at]);
        }
    }
    for (int tag = 0; tag < 256; tag++) { /* retired and unknown numbers between */
        uint8_t action[61] = {(uint8_t)tag}, delta[66] = {(uint8_t)tag, [45] = 1};
        bool is_delete = tag == CRDT_ACTION_DELETE, known = is_delete || tag == 0 || tag == 3;
        assert_int_equal(try_decode(ACTION, cal_slice_of(action, sizeof action), NULL),
                         known ? 0 : CRDT_EDECODE);
        size_t len = tag == CRDT_DELTA_CAUSAL_ACTIONS ? sizeof delta : 5;
        assert_int_equal(try_decode(DELTA, cal_slice_of(delta, len), NULL),
                         tag == 0 || tag == 2 ? 0 : CRDT_EDECODE);
    }
    uint8_t delta[66] = {2}; /* a clock's id of zeros is no id */
    assert_int_equal(try_decode(DELTA, cal_slice_of(delta, sizeof delta), NULL), CRDT_EDECODE);
}

static void test_masks(void **state) {
    (void)state;
    for (int mask = 0; mask < 256; mask++) {
        uint8_t bytes[39] = {[0] = 3, [1] = 1, [37] = (uint8_t)mask};
        assert_int_equal(try_decode(STORAGE, cal_slice_of(bytes, sizeof bytes), NULL),
                         mask <= CRDT_MASK_FULL ? 0 : CRDT_EDECODE);
        assert_int_equal(crdt_mask_valid((uint8_t)mask), mask <= CRDT_MASK_FULL);
    }
}

/* Maps come in any order and with duplicates: sorted, of equal accounts the last stays (traps.md
 * 10), wherever the duplicates stand. */
static void test_duplicates(void **state) {
    (void)state;
    cal_arena arena;
    cal_arena_init(&arena, SIZE_MAX);
    crdt_memory memory = {&arena, test_crdt_alloc};
    static const uint8_t order[][2] = {{5, 1}, {3, 2}, {5, 4}, {3, 7}, {9, 1}, {3, 4}};
    uint8_t bytes[1 + 4 + 6 * 33 + 1] = {3, 6};
    for (int i = 0; i < 6; i++) {
        bytes[5 + 33 * i] = order[i][0];
        bytes[5 + 33 * i + 32] = order[i][1];
    }
    crdt_storage_type type;
    assert_int_equal(crdt_storage_type_decode(&memory, crdt_bytes_of(bytes, sizeof bytes), &type),
                     0);
    assert_int_equal(type.writers.count, 3);
    static const uint8_t kept[][2] = {{3, 4}, {5, 4}, {9, 1}};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(type.writers.items[i].account.bytes[0], kept[i][0]);
        assert_int_equal(type.writers.items[i].mask, kept[i][1]);
    }
    /* The same of effective sets: the last of an entity stays. */
    cal_buffer delta;
    cal_buffer_init(&delta, 1024);
    cal_buffer_append_u8(&delta, CRDT_DELTA_CAUSAL_ACTIONS);
    uint8_t head[4 + 32 + 24] = {[36] = 1, [44] = 1};
    cal_buffer_append(&delta, head, sizeof head);
    cal_buffer_append_u32le(&delta, 3);
    for (uint8_t i = 0; i < 3; i++) {
        uint8_t entry[32 + 4 + 33] = {
            [0] = i == 1 ? 8 : 7, [32] = 1, [36] = 1, [68] = (uint8_t)(1 + i)};
        cal_buffer_append(&delta, entry, sizeof entry);
    }
    cal_buffer_append_u8(&delta, 0);
    crdt_delta read;
    assert_int_equal(crdt_delta_decode(&memory, crdt_bytes_of(delta.data, delta.len), &read), 0);
    assert_int_equal(read.writer_count, 2);
    assert_int_equal(read.writers[0].entity.bytes[0], 7);
    assert_int_equal(read.writers[0].writers.items[0].mask, 3);
    assert_int_equal(read.writers[1].writers.items[0].mask, 2);
    cal_buffer_deinit(&delta);
    cal_arena_deinit(&arena);
}

/* --- depth --- */

static crdt_id step_id(uint32_t depth) {
    return (crdt_id){{1, (uint8_t)depth, (uint8_t)(depth >> 8)}};
}

/* An entity `depth` below the root, with its ancestors from `from` (0: the root) on. */
static int put_at(cal_arena *arena, test_rows *rows, uint32_t depth, uint32_t from) {
    crdt_env env = test_crdt_env(arena);
    crdt_rows table = test_rows_table(rows);
    crdt_id root = step_id(0);
    crdt_store *store;
    crdt_refusal refusal;
    crdt_child *chain = cal_arena_alloc_array(arena, depth, sizeof *chain);
    for (uint32_t i = 0; i < depth - from; i++)
        chain[i] = (crdt_child){.id = step_id(depth - 1 - i), .metadata.created_at = depth - 1 - i};
    crdt_action action = {.id = step_id(depth),
                          .data = crdt_bytes_of("x", 1),
                          .ancestors = {chain, depth - from},
                          .metadata = {.created_at = depth, .updated_at = depth}};
    crdt_apply_context context = {.now_ns = 1000000};
    assert_int_equal(crdt_store_open(&env, &table, &root, &store), 0);
    int result = crdt_store_apply(store, &action, &context, &refusal);
    assert_true(result < 0 || refusal == CRDT_APPLIED);
    return result ? result : crdt_store_flush(store);
}

static void test_depth(void **state) {
    (void)state;
    for (int split = 0; split <= 1; split++)
        for (uint32_t depth = CRDT_TREE_DEPTH_MAX; depth <= CRDT_TREE_DEPTH_MAX + 1; depth++) {
            cal_arena arena;
            test_rows rows;
            cal_arena_init(&arena, SIZE_MAX);
            test_rows_init(&rows, &arena);
            /* At once, or by two actions of which each is well within the bound. */
            if (split) assert_int_equal(put_at(&arena, &rows, depth / 2, 0), 0);
            size_t before = rows.rows.count;
            int result = put_at(&arena, &rows, depth, split ? depth / 2 : 0);
            assert_int_equal(result, depth > CRDT_TREE_DEPTH_MAX ? CRDT_ELIMIT : 0);
            if (result) assert_int_equal(rows.rows.count, before); /* nothing was written */
            test_rows_deinit(&rows);
            cal_arena_deinit(&arena);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),     cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_tags),       cmocka_unit_test(test_masks),
        cmocka_unit_test(test_duplicates), cmocka_unit_test(test_depth),
    };
    if (cal_crypto_init() != 0) return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
