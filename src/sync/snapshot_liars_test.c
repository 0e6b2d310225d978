/* Snapshots of liars: what is not the announced state, answers that are none, and entities that
 * somebody had no right to write. */
#include "sync/snapshot_testing.h"

/* --- liars --- */

typedef struct entity {
    uint8_t *id, *entry, *index;
    size_t entry_len, index_len;
} entity;

enum { ENTITIES = 6 }; /* the root, the collection, four entries */

/* What a small state consists of, each to be changed on its own. */
static size_t take_apart(rows *r, entity ret_entities[ENTITIES]) {
    size_t count = 0;
    for (const cal_sorted_node *at = r->table.rows.head[0]; at; at = at->next[0]) {
        const test_row *row = at->value;
        uint8_t key[32];
        crdt_id id;
        crdt_bytes entry = {0};
        if (!is_index(at)) continue;
        assert_true(count < ENTITIES);
        entity *e = &ret_entities[count++];
        memcpy(id.bytes, row->bytes, 32);
        crdt_storage_key(test_crdt_sha256, CRDT_KEY_ENTRY, &id, key);
        assert_int_equal(test_rows_read(&r->table, key, &entry), 1);
        e->id = cal_arena_copy(&r->arena, row->bytes, 32);
        e->index = cal_arena_copy(&r->arena, row->bytes, row->len);
        e->index_len = row->len;
        e->entry = cal_arena_copy(&r->arena, entry.data, entry.len);
        e->entry_len = entry.len;
    }
    assert_int_equal(count, ENTITIES);
    return count;
}

static entity *entity_of(entity *entities, const void *id) {
    for (size_t i = 0; i < ENTITIES; i++)
        if (memcmp(entities[i].id, id, 32) == 0) return &entities[i];
    fail_msg("no such entity");
    return NULL;
}

static void add_record(cal_buffer *page, const entity *e) {
    sync_record record = {.entry = cal_slice_of(e->entry, e->entry_len),
                          .index = cal_slice_of(e->index, e->index_len)};
    memcpy(record.id.bytes, e->id, 32);
    assert_int_equal(sync_record_write(&record, page), 0);
}

/* One page with these, as the whole answer; then verified. */
static int take_page(const rows *r, cal_slice page, sync_snapshot_figures *ret_figures,
                     cal_error *err) {
    sync_snapshot_next next;
    cal_buffer payload;
    sync_snapshot *intake = intake_for(r);
    cal_buffer_init(&payload, RECORD_MAX);
    assert_int_equal(sync_page_compress(page, &payload), 0);
    sync_answer answer = {.kind = SYNC_ANSWER_PAGE,
                          .bytes = cal_buffer_slice(&payload),
                          .uncompressed_len = (uint32_t)page.len,
                          .page_count = 1,
                          .sent_count = 1};
    sync_request request;
    sync_snapshot_request(intake, &request);
    int rc = sync_snapshot_take(intake, &answer, &next, err);
    if (!rc) assert_int_equal(next, SYNC_NEXT_WHOLE);
    if (!rc) rc = sync_snapshot_verify(intake, err);
    if (!rc) sync_snapshot_figures_get(intake, ret_figures);
    drop(intake);
    cal_buffer_deinit(&payload);
    return rc;
}

static int take_entities(const rows *r, const entity *entities, size_t count,
                         sync_snapshot_figures *ret_figures, cal_error *err) {
    cal_buffer page;
    cal_buffer_init(&page, RECORD_MAX);
    cal_buffer_append_u8(&page, SYNC_PAGE_MARKER);
    for (size_t i = 0; i < count; i++) add_record(&page, &entities[i]);
    int rc = take_page(r, cal_buffer_slice(&page), ret_figures, err);
    cal_buffer_deinit(&page);
    return rc;
}

#define EXPECT_REFUSED(rc, err, words)                                                             \
    do {                                                                                           \
        if ((rc) != CAL_EVERIFY || !strstr((err).message, words))                                  \
            fail_msg("%d, %s", rc, (err).message);                                                 \
    } while (0)

static void test_liars(void **state) {
    (void)state;
    rows r, other;
    entity entities[ENTITIES], foreign[ENTITIES];
    sync_snapshot_figures figures;
    cal_error err = {0};
    begin();
    make_context(&r, 4, 10);
    make_context(&other, 4, 11);
    take_apart(&r, entities);
    take_apart(&other, foreign);
    assert_int_equal(take_entities(&r, entities, ENTITIES, &figures, &err), 0);
    assert_int_equal(figures.entities, ENTITIES);
    crdt_id first = entry_id(0);
    entity *entry = entity_of(entities, &first);
    /* another content; another content with its hash; another state altogether */
    entry->entry[0] ^= 1;
    int rc = take_entities(&r, entities, ENTITIES, &figures, &err);
    EXPECT_REFUSED(rc, err, "another content than its hash says");
    entity kept = *entry;
    *entry = *entity_of(foreign, &first);
    rc = take_entities(&r, entities, ENTITIES, &figures, &err);
    EXPECT_REFUSED(rc, err, "the parent lists another hash");
    rc = take_entities(&r, foreign, ENTITIES, &figures, &err);
    EXPECT_REFUSED(rc, err, "not the one that was announced");
    *entry = kept;
    entry->entry[0] ^= 1;
    /* one less, wherever it stands */
    for (size_t i = 0; i < ENTITIES; i++) {
        entity left[ENTITIES];
        size_t count = 0;
        for (size_t k = 0; k < ENTITIES; k++)
            if (k != i) left[count++] = entities[k];
        rc = take_entities(&r, left, count, &figures, &err);
        EXPECT_REFUSED(rc, err, "has no index record");
    }
    /* one twice is one */
    entity twice[ENTITIES + 1];
    memcpy(twice, entities, sizeof entities);
    twice[ENTITIES] = *entry;
    assert_int_equal(take_entities(&r, twice, ENTITIES + 1, &figures, &err), 0);
    assert_int_equal(figures.entities, ENTITIES);
    rows_close(&r);
    rows_close(&other);
    finish();
}

static void test_times(void **state) {
    (void)state;
    rows r;
    entity entities[ENTITIES];
    sync_snapshot_figures figures;
    cal_error err = {0};
    begin();
    make_context(&r, 4, 10);
    take_apart(&r, entities);
    crdt_id first = entry_id(0);
    /* a time that nobody could have written at: nothing would change it before that */
    crdt_index index;
    crdt_bytes changed;
    entity later[ENTITIES];
    memcpy(later, entities, sizeof entities);
    entity *late = entity_of(later, &first);
    assert_int_equal(
        crdt_index_decode(&r.env.memory, crdt_bytes_of(late->index, late->index_len), &index), 0);
    for (uint64_t ahead_s = 9; ahead_s <= 11; ahead_s += 2) {
        index.metadata.updated_at = UINT64_C(1900000000000000000) + ahead_s * NS_PER_S;
        assert_int_equal(crdt_index_encode(&r.env.memory, &index, &changed), 0);
        late->index = cal_arena_copy(&r.arena, changed.data, changed.len);
        int rc = take_entities(&r, later, ENTITIES, &figures, &err);
        if (ahead_s < 10)
            assert_int_equal(rc, 0);
        else
            EXPECT_REFUSED(rc, err, "from the future");
    }
    rows_close(&r);
    finish();
}

static void test_strays(void **state) {
    (void)state;
    rows r;
    entity entities[ENTITIES];
    sync_snapshot_figures figures;
    cal_error err = {0};
    begin();
    make_context(&r, 4, 10);
    take_apart(&r, entities);
    /* more than there is, and nobody signed it: it is left out, with what stands below it */
    rows more;
    make_context(&more, 4, 10);
    make_entries(&more, 70, 71, 10);
    crdt_id stray = entry_id(70), nowhere = {{0xdd}};
    uint8_t stray_key[32];
    crdt_bytes stray_index = {0}, stray_entry = {0};
    crdt_storage_key(test_crdt_sha256, CRDT_KEY_INDEX, &stray, stray_key);
    assert_int_equal(test_rows_read(&more.table, stray_key, &stray_index), 1);
    crdt_storage_key(test_crdt_sha256, CRDT_KEY_ENTRY, &stray, stray_key);
    assert_int_equal(test_rows_read(&more.table, stray_key, &stray_entry), 1);
    const crdt_id *homes[] = {&nowhere, &collection};
    for (size_t i = 0; i < 2; i++) {
        entity with[ENTITIES + 1];
        memcpy(with, entities, sizeof entities);
        with[ENTITIES] =
            (entity){.id = stray.bytes,
                     .entry = cal_arena_copy(&r.arena, stray_entry.data, stray_entry.len),
                     .index = cal_arena_copy(&r.arena, stray_index.data, stray_index.len),
                     .entry_len = stray_entry.len,
                     .index_len = stray_index.len};
        memcpy(with[ENTITIES].index + 33, homes[i], 32);
        assert_int_equal(take_entities(&r, with, ENTITIES + 1, &figures, &err), 0);
        assert_int_equal(figures.entities, ENTITIES);
        assert_int_equal(figures.orphans, 0);
        assert_int_equal(figures.dropped, 1);
    }
    rows_close(&more);
    rows_close(&r);
    finish();
}

/* Another content behind a parent that is not the entity's: it would not be compared. */
static void test_hidden_by_parent(void **state) {
    (void)state;
    rows r, other;
    entity entities[ENTITIES], foreign[ENTITIES];
    sync_snapshot_figures figures;
    cal_error err = {0};
    begin();
    make_context(&r, 4, 10);
    make_context(&other, 4, 11);
    take_apart(&r, entities);
    take_apart(&other, foreign);
    crdt_id first = entry_id(0), second = entry_id(1);
    entity *entry = entity_of(entities, &first);
    *entry = *entity_of(foreign, &first);
    assert_int_equal(entry->index[32], 1); /* there is a parent, and which */
    const void *parents[] = {&second, r.root.bytes, &first, "nobody with thirty-two bytes....."};
    for (size_t i = 0; i < sizeof parents / sizeof *parents; i++) {
        memcpy(entry->index + 33, parents[i], 32);
        int rc = take_entities(&r, entities, ENTITIES, &figures, &err);
        EXPECT_REFUSED(rc, err, "under another parent");
    }
    rows_close(&r);
    rows_close(&other);
    finish();
}

/* No byte can be changed so that content or shape are others. */
static void test_every_byte(void **state) {
    (void)state;
    rows r;
    entity entities[ENTITIES];
    sync_snapshot_figures figures;
    cal_buffer page, honest;
    int accepted = 0;
    begin();
    make_context(&r, 4, 10);
    take_apart(&r, entities);
    cal_buffer_init(&page, RECORD_MAX);
    cal_buffer_init(&honest, RECORD_MAX);
    cal_buffer_append_u8(&honest, SYNC_PAGE_MARKER);
    for (size_t i = 0; i < ENTITIES; i++) add_record(&honest, &entities[i]);
    for (size_t at = 0; at < honest.len; at++) {
        cal_buffer_reset(&page);
        cal_buffer_append_slice(&page, cal_buffer_slice(&honest));
        page.data[at] ^= 1;
        if (take_page(&r, cal_buffer_slice(&page), &figures, NULL)) continue;
        accepted++;
        sync_record got, sent;
        size_t offset = 0, sent_offset = 0;
        while (sync_record_next(cal_buffer_slice(&page), &offset, &got) == 0) {
            crdt_index index, was;
            assert_int_equal(sync_record_next(cal_buffer_slice(&honest), &sent_offset, &sent), 0);
            assert_true(cal_slice_equal(got.entry, sent.entry));
            assert_memory_equal(&got.id, &sent.id, 32);
            crdt_index_decode(&r.env.memory, crdt_bytes_of(got.index.data, got.index.len), &index);
            crdt_index_decode(&r.env.memory, crdt_bytes_of(sent.index.data, sent.index.len), &was);
            assert_memory_equal(&index.full_hash, &was.full_hash, 32);
            assert_int_equal(index.children.count, was.children.count);
        }
    }
    assert_true(accepted > 0); /* times, say: no hash holds them */
    cal_buffer_deinit(&page);
    cal_buffer_deinit(&honest);
    rows_close(&r);
    finish();
}

/* Answers that are none. */
static void test_answers(void **state) {
    (void)state;
    rows r;
    entity entities[ENTITIES];
    cal_buffer page, payload;
    cal_error err;
    sync_snapshot_next next;
    sync_request request;
    begin();
    make_context(&r, 4, 10);
    take_apart(&r, entities);
    cal_buffer_init(&page, RECORD_MAX);
    cal_buffer_init(&payload, RECORD_MAX);
    cal_buffer_append_u8(&page, SYNC_PAGE_MARKER);
    add_record(&page, &entities[0]);
    sync_page_compress(cal_buffer_slice(&page), &payload);
    sync_answer good = {.kind = SYNC_ANSWER_PAGE,
                        .bytes = cal_buffer_slice(&payload),
                        .uncompressed_len = (uint32_t)page.len,
                        .has_cursor = true,
                        .cursor = cal_slice_of(r.hash.bytes, 32),
                        .page_count = 2,
                        .sent_count = 1};
    sync_snapshot *intake = intake_for(&r);
    sync_answer bad = good;
    sync_snapshot_request(intake, &request);
    bad.sent_count = 2;
    assert_int_equal(sync_snapshot_take(intake, &bad, &next, &err), CAL_EVERIFY);
    bad = good;
    bad.sent_count = 3;
    bad.page_count = 1;
    assert_int_equal(sync_snapshot_take(intake, &bad, &next, &err), CAL_EVERIFY);
    bad = good;
    bad.uncompressed_len++;
    sync_snapshot_request(intake, &request);
    assert_int_equal(sync_snapshot_take(intake, &bad, &next, &err), CAL_EDECODE);
    bad = (sync_answer){.kind = SYNC_ANSWER_HEADS};
    assert_int_equal(sync_snapshot_take(intake, &bad, &next, &err), CAL_EDECODE);
    assert_non_null(strstr(err.message, "DagHeadsResponse"));
    sync_snapshot_refusal(CAL_EINVAL, 0, &bad);
    assert_int_equal(sync_snapshot_take(intake, &bad, &next, &err), CAL_EINVAL);
    sync_snapshot_refusal(CAL_EDECODE, 0, &bad);
    assert_int_equal(sync_snapshot_take(intake, &bad, &next, &err), CAL_ESTATE);
    /* an answer goes on where the last one ended, or it is none */
    sync_snapshot_request(intake, &request);
    assert_false(request.has_cursor);
    assert_int_equal(sync_snapshot_take(intake, &good, &next, &err), 0);
    assert_int_equal(next, SYNC_NEXT_PAGE);
    good.sent_count = 2;
    assert_int_equal(sync_snapshot_take(intake, &good, &next, &err), 0);
    assert_int_equal(next, SYNC_NEXT_BURST);
    sync_snapshot_request(intake, &request);
    assert_true(request.has_cursor && cal_slice_equal(request.cursor, good.cursor));
    good.page_count = good.sent_count = 1;
    assert_int_equal(sync_snapshot_take(intake, &good, &next, &err), CAL_EVERIFY);
    assert_non_null(strstr(err.message, "does not go on"));
    drop(intake);
    /* a record of another kind */
    sync_record auxiliary = {.kind = SYNC_RECORD_AUXILIARY, .auxiliary = 1};
    sync_snapshot_figures figures;
    cal_buffer_reset(&page);
    cal_buffer_append_u8(&page, SYNC_PAGE_MARKER);
    sync_record_write(&auxiliary, &page);
    int rc = take_page(&r, cal_buffer_slice(&page), &figures, &err);
    EXPECT_REFUSED(rc, err, "no entity");
    cal_buffer_deinit(&page);
    cal_buffer_deinit(&payload);
    rows_close(&r);
    finish();
}

static void test_too_much(void **state) {
    (void)state;
    rows r;
    cal_error err;
    sync_snapshot *intake;
    begin();
    make_context(&r, 100, 200);
    rows_store(&r, server.store);
    sync_view *view = view_for(&r);
    sync_snapshot_options options = {.store = client.store,
                                     .os = cal_sim_os(client.sim),
                                     .bytes_max = 10000,
                                     .account = no_account};
    memcpy(options.context.bytes, r.root.bytes, 32);
    memcpy(options.root.bytes, r.hash.bytes, 32);
    assert_int_equal(sync_snapshot_new(&options, &intake, NULL), 0);
    assert_int_equal(transfer(intake, view, (page_limits){0}, &err), CAL_ELIMIT);
    drop(intake);
    options.head_count = SYNC_HEADS_MAX + 1;
    assert_int_equal(sync_snapshot_new(&options, &intake, &err), CAL_ELIMIT);
    sync_views_give(views, view, now_ns);
    rows_close(&r);
    finish();
}

/* --- signatures --- */

static cal_secret seed_of(uint8_t n) { return (cal_secret){{n}}; }
static crdt_id account_id(uint8_t n) { return (crdt_id){{0xac, n}}; }

/* The devices of seeds 1 to 4 speak for the accounts of these numbers; 5 is nobody's. */
static int numbered_account(void *user, const cal_public_key *device, cal_account_id *ret_account) {
    (void)user;
    for (uint8_t n = 1; n <= 4; n++) {
        cal_secret seed = seed_of(n);
        uint8_t key[32];
        crdt_id id = account_id(n);
        cal_sign_public_key(&seed, key);
        if (memcmp(key, device->bytes, 32) != 0) continue;
        memcpy(ret_account->bytes, id.bytes, 32);
        return 0;
    }
    return CAL_ENOTFOUND;
}

/* Signs an action as a device; wrong: another content was signed. */
static void sign_as(rows *r, crdt_action *action, uint8_t n, bool wrong) {
    cal_secret seed = seed_of(n);
    uint8_t payload[32];
    crdt_signature *signature = cal_arena_alloc(&r->arena, sizeof *signature);
    signature->has_signer = true;
    signature->nonce = action->metadata.updated_at;
    cal_sign_public_key(&seed, signature->signer.bytes);
    action->metadata.storage.signature = signature;
    assert_int_equal(crdt_action_payload(&r->env, action, payload), 0);
    payload[0] ^= wrong;
    cal_sign(&seed, cal_slice_of(payload, 32), signature->signature);
}

static crdt_action signed_entry(rows *r, uint32_t n, crdt_storage_kind kind, const crdt_id *subject,
                                const crdt_id *parent) {
    static const uint8_t data[] = "what it holds";
    return (crdt_action){.kind = CRDT_ACTION_ADD,
                         .id = entry_id(n),
                         .data = crdt_bytes_of(data, sizeof data),
                         .ancestors = under(r, parent),
                         .metadata = {.created_at = 100 + n,
                                      .updated_at = 100 + n,
                                      .storage = {.kind = kind, .subject = *subject}}};
}

static void apply_one(rows *r, const crdt_action *action, const crdt_id *account) {
    crdt_store *store = store_open(r);
    apply_as(store, action, account);
    store_flush(r, store);
}

static void test_users(void **state) {
    static const struct {
        uint8_t signer;
        bool wrong;
        const char *words; /* NULL: accepted */
    } cases[] = {
        {1, false, NULL},
        {1, true, "its owner has not signed it"},
        {2, false, "somebody who is not its owner"},
        {5, false, "somebody who is not its owner"},
    };
    (void)state;
    begin();
    account_of = numbered_account;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rows r;
        cal_error err;
        crdt_id owner = account_id(1);
        make_context(&r, 2, 10);
        crdt_action action = signed_entry(&r, 50, CRDT_USER, &owner, &collection);
        sign_as(&r, &action, cases[i].signer, cases[i].wrong);
        apply_one(&r, &action, &owner);
        int rc = hand_over(&r, (page_limits){0}, true, &err);
        if (cases[i].words)
            EXPECT_REFUSED(rc, err, cases[i].words);
        else
            assert_int_equal(rc, 0);
        rows_close(&r);
    }
    account_of = no_account;
    finish();
}

static crdt_grants grants_of(rows *r, const uint8_t *numbers, size_t count, uint8_t mask) {
    crdt_grant *grants = cal_arena_alloc_array(&r->arena, count, sizeof *grants);
    for (size_t i = 0; i < count; i++) grants[i] = (crdt_grant){account_id(numbers[i]), mask};
    return (crdt_grants){grants, (uint32_t)count};
}

/* An anchor of writers 1 and 2, a member by `signer`; then perhaps rotated to 2 and 3. */
static int hand_over_shared(uint8_t anchor_signer, uint8_t member_signer, bool wrong, bool rotated,
                            cal_error *err) {
    rows r;
    crdt_id none = {{0}}, first = account_id(1), second = account_id(2);
    static const uint8_t before[] = {1, 2}, after[] = {2, 3};
    make_context(&r, 2, 10);
    crdt_action anchor = signed_entry(&r, 50, CRDT_SHARED, &none, &collection);
    anchor.metadata.storage.writers = grants_of(&r, before, 2, CRDT_MASK_FULL);
    sign_as(&r, &anchor, anchor_signer, false);
    apply_one(&r, &anchor, &first);
    if (rotated) {
        crdt_action rotation = signed_entry(&r, 50, CRDT_SHARED, &none, &collection);
        static const uint8_t data[] = "something else";
        rotation.kind = CRDT_ACTION_UPDATE;
        rotation.data = crdt_bytes_of(data, sizeof data);
        rotation.metadata.updated_at = 200;
        rotation.metadata.storage.writers = grants_of(&r, after, 2, CRDT_MASK_FULL);
        sign_as(&r, &rotation, 2, false);
        apply_one(&r, &rotation, &second);
    }
    if (member_signer) {
        crdt_action member = signed_entry(&r, 51, CRDT_SHARED_MEMBER, &anchor.id, &collection);
        member.metadata.updated_at = rotated ? 300 : 151;
        sign_as(&r, &member, member_signer, wrong);
        apply_one(&r, &member, &second);
    }
    int rc = hand_over(&r, (page_limits){0}, true, err);
    rows_close(&r);
    return rc;
}

static void test_shared(void **state) {
    (void)state;
    cal_error err = {0};
    begin();
    account_of = numbered_account;
    assert_int_equal(hand_over_shared(1, 0, false, false, &err), 0);
    assert_int_equal(hand_over_shared(1, 2, false, false, &err), 0);
    EXPECT_REFUSED(hand_over_shared(3, 0, false, false, &err), err, "may not write");
    EXPECT_REFUSED(hand_over_shared(5, 0, false, false, &err), err, "may not write");
    EXPECT_REFUSED(hand_over_shared(1, 3, false, false, &err), err, "may not write");
    EXPECT_REFUSED(hand_over_shared(1, 2, true, false, &err), err, "no writer has signed");
    /* rotated: its record keeps the first writers and their signature, over what is gone */
    if (hand_over_shared(1, 0, false, true, &err)) fail_msg("%s", err.message);
    if (hand_over_shared(1, 3, false, true, &err)) fail_msg("%s", err.message);
    /* written by one of the first writers, before or after, which nothing tells any more */
    if (hand_over_shared(1, 1, false, true, &err)) fail_msg("%s", err.message);
    EXPECT_REFUSED(hand_over_shared(1, 4, false, true, &err), err, "may not write");
    account_of = no_account;
    finish();
}

static void test_member_alone(void **state) {
    (void)state;
    rows r;
    cal_error err;
    crdt_id nobody = {{0xee}}, writer = account_id(2);
    begin();
    account_of = numbered_account;
    make_context(&r, 2, 10);
    crdt_store *store = store_open(&r);
    crdt_action member = signed_entry(&r, 51, CRDT_PUBLIC, &nobody, &collection);
    apply_as(store, &member, NULL);
    store_flush(&r, store);
    /* as a liar makes it: a public entity says that it is somebody's */
    uint8_t key[32];
    crdt_bytes record, changed;
    crdt_index index;
    crdt_storage_key(test_crdt_sha256, CRDT_KEY_INDEX, &member.id, key);
    assert_int_equal(test_rows_read(&r.table, key, &record), 1);
    assert_int_equal(crdt_index_decode(&r.env.memory, record, &index), 0);
    member.metadata.storage = (crdt_storage_type){.kind = CRDT_SHARED_MEMBER, .subject = nobody};
    sign_as(&r, &member, 2, false);
    index.metadata.storage = member.metadata.storage;
    assert_int_equal(crdt_index_encode(&r.env.memory, &index, &changed), 0);
    test_rows_write(&r.table, key, changed);
    int rc = hand_over(&r, (page_limits){0}, true, &err);
    EXPECT_REFUSED(rc, err, "what it belongs to is not there");
    (void)writer;
    index.metadata.storage = (crdt_storage_type){.kind = CRDT_FROZEN};
    assert_int_equal(crdt_index_encode(&r.env.memory, &index, &changed), 0);
    test_rows_write(&r.table, key, changed);
    rc = hand_over(&r, (page_limits){0}, true, &err);
    EXPECT_REFUSED(rc, err, "frozen");
    rows_close(&r);
    account_of = no_account;
    finish();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_liars),      cmocka_unit_test(test_times),
        cmocka_unit_test(test_strays),     cmocka_unit_test(test_hidden_by_parent),
        cmocka_unit_test(test_every_byte), cmocka_unit_test(test_answers),
        cmocka_unit_test(test_too_much),   cmocka_unit_test(test_users),
        cmocka_unit_test(test_shared),     cmocka_unit_test(test_member_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
