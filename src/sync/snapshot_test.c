/* Snapshots from one store to another: recorded states, large ones, writers meanwhile, transfers
 * that break off, crashes. */
#include "sync/snapshot_testing.h"

/* --- recorded states --- */

static void load_final(rows *r, yyjson_val *app) {
    yyjson_val *key;
    rows_open(r);
    golden_bytes(app, "context_id", &r->root, 32);
    yyjson_obj_iter iter = yyjson_obj_iter_with(yyjson_obj_get(app, "final_state"));
    while ((key = yyjson_obj_iter_next(&iter))) {
        crdt_bytes name = test_crdt_hex(&r->arena, key);
        test_rows_write(&r->table, name.data,
                        test_crdt_hex(&r->arena, yyjson_obj_iter_get_val(key)));
    }
    rows_root(r);
}

static void test_applications(void **state) {
    static const char *const names[] = {
        "abi_conformance",  "kv_store",     "kv_store_init",   "kv_store_with_handlers",
        "nested_crdt_test", "private_data", "sorted_kv_store", "xcall_example"};
    (void)state;
    begin();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char file[128];
        rows r;
        cal_error err;
        snprintf(file, sizeof file, "apps/%s.json", names[i]);
        yyjson_doc *doc = golden_load(file);
        load_final(&r, yyjson_doc_get_root(doc));
        for (int small = 0; small < 2; small++) {
            page_limits limits = {.pages = small ? 1 : 0, .bytes = small ? SYNC_PAGE_BYTES_MIN : 0};
            if (hand_over(&r, limits, true, &err)) fail_msg("%s: %s", names[i], err.message);
        }
        rows_close(&r);
        yyjson_doc_free(doc);
    }
    finish();
}

/* Who signed for whom in a recorded case. */
static int recorded_account(void *user, const cal_public_key *device, cal_account_id *ret_account) {
    const rows *r = user;
    yyjson_val *step;
    size_t at, max;
    cal_arena arena;
    int rc = CAL_ENOTFOUND;
    cal_arena_init(&arena, SIZE_MAX);
    yyjson_arr_foreach(r->steps, at, max, step) {
        crdt_action action = test_crdt_action(&arena, yyjson_obj_get(step, "action"));
        const crdt_signature *signature = action.metadata.storage.signature;
        if (signature && signature->has_signer &&
            memcmp(signature->signer.bytes, device->bytes, 32) == 0 &&
            test_crdt_id(yyjson_obj_get(step, "signer_account"), ret_account->bytes)) {
            rc = 0;
            break;
        }
    }
    cal_arena_deinit(&arena);
    return rc;
}

static void apply_recorded(rows *r, yyjson_val *step) {
    crdt_refusal refusal;
    crdt_store *store = store_open(r);
    crdt_action action = test_crdt_action(&r->arena, yyjson_obj_get(step, "action"));
    crdt_apply_context context = {.now_ns = UINT64_C(1900000000000000000),
                                  .verify = test_crdt_verify};
    context.has_signer_account =
        test_crdt_id(yyjson_obj_get(step, "signer_account"), &context.signer_account);
    context.has_delta = test_crdt_id(yyjson_obj_get(step, "delta_id"), &context.delta_id);
    context.delta_hlc = (crdt_hlc){.time = 1, .id = {1}};
    yyjson_val *writers = yyjson_obj_get(step, "effective_writers");
    crdt_entity_writers effective = {.entity = action.id};
    if (yyjson_is_arr(writers)) {
        effective.writers = test_crdt_grants(&r->arena, writers);
        context.writers = &effective;
        context.writer_count = 1;
    }
    assert_int_equal(crdt_store_apply(store, &action, &context, &refusal), 0);
    assert_int_equal(crdt_store_flush(store), 0);
}

/* Every recorded history, among them users' entities, rotated writers, frozen ones and moves. */
static void test_histories(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("storage.json");
    yyjson_val *item, *step;
    int seen = 0;
    begin();
    account_of = recorded_account;
    for (size_t at = 0; (item = golden_next(yyjson_doc_get_root(doc), "apply/", &at));) {
        rows r;
        size_t index, max;
        cal_error err = {0};
        rows_open(&r);
        golden_bytes(yyjson_obj_get(item, "inputs"), "context_id", &r.root, 32);
        r.steps = yyjson_obj_get(item, "steps");
        yyjson_arr_foreach(r.steps, index, max, step) { apply_recorded(&r, step); }
        rows_root(&r);
        /* one keeps a public entity outside of its tree, which is left out */
        bool outside = strstr(golden_name(item), "delete_collection_with_children");
        int rc = hand_over(&r, (page_limits){0}, !outside, &err);
        /* a root that is known only as an ancestor is no state */
        bool placeholder = strstr(golden_name(item), "leaf_first_nonzero_ancestor_hashes");
        if (rc != (placeholder ? CAL_EVERIFY : 0))
            fail_msg("%s: %d %s", golden_name(item), rc, err.message);
        rows_close(&r);
        seen++;
    }
    assert_int_equal(seen, 23);
    account_of = no_account;
    finish();
    yyjson_doc_free(doc);
}

/* --- large ones, and writers meanwhile --- */

static void test_bursts(void **state) {
    static const page_limits cases[] = {
        {0}, {.pages = 1, .bytes = 1}, {.pages = 3, .bytes = 10000}, {.pages = 16, .bytes = 65536}};
    (void)state;
    rows r;
    begin();
    make_context(&r, 1000, 300);
    rows_store(&r, server.store);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sync_snapshot_figures figures;
        sync_view *view = view_for(&r);
        sync_snapshot *intake = intake_for(&r);
        assert_int_equal(transfer(intake, view, cases[i], NULL), 0);
        sync_snapshot_figures_get(intake, &figures);
        assert_int_equal(figures.records, 1002);
        assert_true(figures.pages > 1 || i == 0);
        assert_int_equal(sync_snapshot_verify(intake, NULL), 0);
        expect_state(intake, &r);
        expect_state(intake, &r); /* again: an installation may begin anew */
        sync_snapshot_figures_get(intake, &figures);
        assert_int_equal(figures.entities, 1002);
        assert_false(figures.walked);
        drop(intake);
        sync_views_give(views, view, now_ns);
    }
    rows_close(&r);
    finish();
}

/* An entity that is larger than what was asked for has a page of its own; one that fits none ends
 * it. */
static void test_large_entities(void **state) {
    (void)state;
    rows r;
    sync_burst burst;
    sync_answer answer;
    sync_request request = {.kind = SYNC_SNAPSHOT_STREAM, .page_limit = 16, .byte_limit = 65536};
    begin();
    make_context(&r, 3, 3 * 1024 * 1024);
    assert_int_equal(hand_over(&r, (page_limits){.pages = 2, .bytes = 5000}, true, NULL), 0);
    rows_close(&r);
    make_context(&r, 1, SYNC_PAGE_MAX);
    rows_store(&r, server.store);
    sync_view *view = view_for(&r);
    assert_int_equal(sync_burst_init(&burst, view, &request), 0);
    int rc;
    while ((rc = sync_burst_next(&burst, now_ns, &answer)) == 0) {
    }
    assert_int_equal(rc, CAL_ELIMIT);
    sync_burst_deinit(&burst);
    sync_views_give(views, view, now_ns);
    rows_close(&r);
    finish();
}

/* A state without anything in it is a page without anything in it. */
static void test_empty(void **state) {
    (void)state;
    rows r;
    sync_view *view;
    sync_burst burst;
    sync_answer answer;
    cal_context_id context = {{0x60}};
    begin();
    assert_int_equal(sync_views_take(views, &context, NULL, now_ns, &view), CAL_ENOTFOUND);
    rows_open(&r);
    memcpy(r.root.bytes, context.bytes, 32);
    rows_store(&r, server.store);
    assert_int_equal(sync_views_take(views, &context, NULL, now_ns, &view), CAL_ESTATE);
    r.hash.bytes[0] = 9; /* a guest that keeps no entities */
    rows_store(&r, server.store);
    assert_int_equal(sync_views_take(views, &context, NULL, now_ns, &view), 0);
    sync_request request = {.kind = SYNC_SNAPSHOT_STREAM};
    assert_int_equal(sync_burst_init(&burst, view, &request), 0);
    assert_int_equal(sync_burst_next(&burst, now_ns, &answer), 0);
    assert_int_equal(answer.bytes.len + answer.uncompressed_len + answer.page_count, 0);
    assert_false(answer.has_cursor);
    assert_int_equal(sync_burst_next(&burst, now_ns, &answer), CAL_ENOTFOUND);
    sync_burst_deinit(&burst);
    request.has_cursor = true;
    request.cursor = cal_slice_of("short", 5);
    assert_int_equal(sync_burst_init(&burst, view, &request), CAL_EDECODE);
    sync_burst_deinit(&burst);
    sync_views_give(views, view, now_ns);
    rows_close(&r);
    finish();
}

/* Whoever writes invalidates nothing that was begun. */
static void test_writers(void **state) {
    (void)state;
    rows r, later;
    cal_error err;
    sync_snapshot_next next;
    sync_view *other;
    page_limits limits = {.pages = 2, .bytes = 5000};
    begin();
    make_context(&r, 300, 200);
    make_context(&later, 320, 200);
    rows_store(&r, server.store);
    sync_view *view = view_for(&r);
    sync_snapshot *intake = intake_for(&r);
    assert_int_equal(one_burst(intake, view, limits, &next, &err), 0);
    assert_int_equal(next, SYNC_NEXT_BURST);
    rows_store(&later, server.store);
    cal_context_id context;
    cal_hash root;
    memcpy(context.bytes, r.root.bytes, 32);
    memcpy(root.bytes, r.hash.bytes, 32);
    /* taken: another transfer of the old root has none to begin with */
    assert_int_equal(sync_views_take(views, &context, &root, now_ns, &other), CAL_EINVAL);
    assert_int_equal(one_burst(intake, view, limits, &next, &err), 0);
    /* the stream breaks, another one goes on */
    sync_views_give(views, view, now_ns);
    now_ns += 50 * NS_PER_S;
    assert_true(sync_views_expire(views, now_ns) < UINT64_MAX);
    assert_int_equal(sync_views_take(views, &context, &root, now_ns, &other), 0);
    assert_ptr_equal(other, view);
    assert_int_equal(transfer(intake, other, limits, &err), 0);
    assert_int_equal(sync_snapshot_verify(intake, &err), 0);
    expect_state(intake, &r);
    drop(intake);
    sync_views_give(views, other, now_ns);
    now_ns += 61 * NS_PER_S;
    assert_true(sync_views_expire(views, now_ns) == UINT64_MAX);
    assert_int_equal(sync_views_count(views), 0);
    assert_int_equal(sync_views_take(views, &context, &root, now_ns, &other), CAL_EINVAL);
    rows_close(&r);
    rows_close(&later);
    finish();
}

static void test_views(void **state) {
    (void)state;
    rows r;
    sync_view *taken[SYNC_VIEWS_MAX], *more;
    sync_burst burst;
    sync_answer answer;
    cal_hash root;
    sync_ids heads;
    begin();
    make_context(&r, 3, 10);
    rows_store(&r, server.store);
    for (int i = 0; i < SYNC_VIEWS_MAX; i++) taken[i] = view_for(&r);
    cal_context_id context;
    memcpy(context.bytes, r.root.bytes, 32);
    assert_int_equal(sync_views_take(views, &context, NULL, now_ns, &more), CAL_EOVERLOAD);
    sync_view_boundary(taken[3], &root, &heads);
    assert_memory_equal(&root, &r.hash, 32);
    assert_int_equal(heads.count, 2);
    assert_int_equal(heads.items[0].bytes[0], 1);
    /* the one that has waited longest makes room */
    sync_views_give(views, taken[3], now_ns + 1);
    sync_views_give(views, taken[5], now_ns);
    assert_int_equal(sync_views_take(views, &context, NULL, now_ns, &more), 0);
    assert_int_equal(sync_views_count(views), SYNC_VIEWS_MAX);
    taken[5] = more;
    assert_int_equal(sync_views_take(views, &context, &root, now_ns, &more), 0);
    assert_ptr_equal(more, taken[3]);
    /* one that is used for too long serves no more, and is given to nobody */
    now_ns += (uint64_t)SYNC_VIEW_AGE_MS * 1000000;
    sync_request request = {.kind = SYNC_SNAPSHOT_STREAM};
    assert_int_equal(sync_burst_init(&burst, taken[0], &request), 0);
    assert_int_equal(sync_burst_next(&burst, now_ns - 1, &answer), 0);
    sync_burst_deinit(&burst);
    assert_int_equal(sync_burst_init(&burst, taken[0], &request), 0);
    assert_int_equal(sync_burst_next(&burst, now_ns, &answer), CAL_ETIMEOUT);
    sync_burst_deinit(&burst);
    for (int i = 0; i < SYNC_VIEWS_MAX; i++) sync_views_give(views, taken[i], now_ns);
    assert_int_equal(sync_views_take(views, &context, &root, now_ns, &more), 0);
    sync_view_boundary(more, &root, &heads);
    sync_views_give(views, more, now_ns);
    sync_views_expire(views, now_ns);
    assert_int_equal(sync_views_count(views), 1); /* the new one */
    sync_snapshot_refusal(CAL_EINVAL, 0, &answer);
    assert_int_equal(answer.error.kind, SYNC_SNAPSHOT_BOUNDARY);
    sync_snapshot_refusal(CAL_EDECODE, 0, &answer);
    assert_int_equal(answer.error.kind, SYNC_SNAPSHOT_CURSOR);
    sync_snapshot_refusal(CAL_ETIMEOUT, 7, &answer);
    assert_int_equal(answer.error.kind, SYNC_SNAPSHOT_INTERRUPTED);
    assert_int_equal(answer.error.first, 7);
    rows_close(&r);
    finish();
}

/* An answer that breaks off after any page is asked for again, by the same peer or by another one
 * with the same root. */
static void test_resume(void **state) {
    (void)state;
    rows r;
    place second;
    sync_views *second_views;
    begin();
    place_open(&second);
    assert_int_equal(sync_views_new(second.store, &second_views), 0);
    make_context(&r, 200, 200);
    rows_store(&r, server.store);
    rows_store(&r, second.store);
    cal_context_id context;
    cal_hash root;
    memcpy(context.bytes, r.root.bytes, 32);
    memcpy(root.bytes, r.hash.bytes, 32);
    sync_snapshot *intake = intake_for(&r);
    sync_snapshot_next next = SYNC_NEXT_BURST;
    int bursts = 0;
    while (next != SYNC_NEXT_WHOLE) {
        sync_views *from = bursts % 2 ? second_views : views;
        sync_view *view;
        page_limits limits = {.pages = 4,
                              .bytes = 5000,
                              .stop_after = bursts % 3 == 2 ? 0 : (unsigned)bursts % 3 + 1};
        assert_int_equal(sync_views_take(from, &context, &root, now_ns, &view), 0);
        assert_int_equal(one_burst(intake, view, limits, &next, NULL), 0);
        sync_views_give(from, view, now_ns);
        assert_true(++bursts < 100);
    }
    assert_true(bursts > 5);
    assert_int_equal(sync_snapshot_verify(intake, NULL), 0);
    sync_snapshot_figures figures;
    sync_snapshot_figures_get(intake, &figures);
    assert_true(figures.walked); /* what broke off may have left rows that did not come again */
    expect_state(intake, &r);
    /* all of it again, from the beginning */
    assert_int_equal(sync_snapshot_restart(intake, NULL), 0);
    cal_context_state nothing;
    assert_int_equal(sync_snapshot_state(intake, &nothing), CAL_ESTATE);
    assert_int_equal(count_rows(&client, CAL_COLUMN_STATE), 0);
    sync_view *view = view_for(&r);
    assert_int_equal(transfer(intake, view, (page_limits){0}, NULL), 0);
    assert_int_equal(sync_snapshot_verify(intake, NULL), 0);
    sync_snapshot_figures_get(intake, &figures);
    assert_false(figures.walked);
    expect_state(intake, &r);
    sync_views_give(views, view, now_ns);
    drop(intake);
    sync_views_free(second_views);
    place_close(&second);
    rows_close(&r);
    finish();
}

/* --- crashes --- */

/* Whenever the machine stops, the start removes what came, and nothing else. */
static void test_crash(void **state) {
    (void)state;
    rows r, mine;
    bool crashed = true;
    for (uint64_t nth = 1; crashed; nth += 7) {
        begin();
        make_context(&r, 300, 300);
        rows_store(&r, server.store);
        rows_open(&mine);
        memset(mine.root.bytes, 0x77, 32);
        make_base(&mine);
        rows_store(&mine, client.store);
        sync_view *view = view_for(&r);
        cal_sim_power_off_at(client.sim, CAL_SIM_WRITE | CAL_SIM_SYNC, nth);
        sync_snapshot *intake = NULL;
        cal_hash heads[2] = {{{1}}, {{2}}};
        sync_snapshot_options options = {.store = client.store,
                                         .os = cal_sim_os(client.sim),
                                         .heads = heads,
                                         .head_count = 2,
                                         .account = no_account};
        memcpy(options.context.bytes, r.root.bytes, 32);
        memcpy(options.root.bytes, r.hash.bytes, 32);
        int rc = sync_snapshot_new(&options, &intake, NULL);
        if (!rc) rc = transfer(intake, view, (page_limits){.bytes = 5000}, NULL);
        if (!rc) rc = sync_snapshot_verify(intake, NULL);
        crashed = cal_sim_is_off(client.sim);
        if (intake) sync_snapshot_drop(intake); /* which fails when there is no disk any more */
        crashed = crashed || cal_sim_is_off(client.sim);
        if (!crashed) assert_int_equal(rc, 0);
        cal_sim_power_off_at(client.sim, 0, 0);
        cal_store_close(client.store);
        if (crashed) cal_sim_power_on(client.sim, CAL_SIM_TEAR);
        assert_int_equal(cal_store_open(&client.options, &client.store, NULL), 0);
        assert_int_equal(sync_staging_clear(client.store), 0);
        assert_int_equal(count_rows(&client, CAL_COLUMN_STATE), mine.table.rows.count);
        assert_int_equal(count_rows(&client, CAL_COLUMN_NODE), 0);
        sync_views_give(views, view, now_ns);
        rows_close(&r);
        rows_close(&mine);
        finish();
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_applications),   cmocka_unit_test(test_histories),
        cmocka_unit_test(test_bursts),         cmocka_unit_test(test_empty),
        cmocka_unit_test(test_large_entities), cmocka_unit_test(test_writers),
        cmocka_unit_test(test_views),          cmocka_unit_test(test_resume),
        cmocka_unit_test(test_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
