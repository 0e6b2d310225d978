/* Governance on one node over a real store: what is created is signed, stored, found again, and
 * nothing shows before it is durable. */
#include "gov/gov.h"

#include <ftw.h>
#include <stdio.h>
#include <unistd.h>

#include "codec/text.h"
#include "golden.h"
#include "gov/draft.h"
#include "store/key.h"

typedef struct {
    char folder[64], key_file[96];
    cal_key_source key;
    cal_store_options options;
    cal_store *store;
    cal_gov *gov;
    gov_change *change; /* the one just prepared */
    cal_error err;
} fixture;

static int remove_entry(const char *path, const struct stat *stat, int kind, struct FTW *walk) {
    (void)stat, (void)kind, (void)walk;
    return remove(path);
}

static void open_all(fixture *f) {
    assert_int_equal(cal_store_open(&f->options, &f->store, &f->err), 0);
    assert_int_equal(gov_open(f->store, cal_os_posix(), &f->gov, &f->err), 0);
}

static void close_all(fixture *f) {
    gov_close(f->gov);
    cal_store_close(f->store);
    f->gov = NULL;
    f->store = NULL;
}

static void reopen(fixture *f) {
    close_all(f);
    open_all(f);
}

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    strcpy(f->folder, "/tmp/cal_gov_XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->key_file, sizeof f->key_file, "%s/master.key", f->folder);
    f->key = (cal_key_source){CAL_KEY_FILE, f->key_file};
    f->options =
        (cal_store_options){.folder = f->folder, .durability = CAL_DURABLE_PROCESS, .key = &f->key};
    assert_int_equal(cal_store_create(&f->options, &f->err), 0);
    open_all(f);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    close_all(f);
    nftw(f->folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

static void ok(fixture *f, int result) {
    if (result) print_error("%s\n", f->err.message);
    assert_int_equal(result, 0);
}

/* Stores the prepared change and makes it visible. */
static void commit(fixture *f) {
    cal_batch *batch = cal_batch_new();
    assert_non_null(batch);
    assert_int_equal(cal_batch_merge(batch, gov_change_batch(f->change)), 0);
    ok(f, cal_store_commit(f->store, batch, &f->err));
    gov_change_commit(f->change);
    f->change = NULL;
}

static cal_group_id make_namespace(fixture *f, const char *name) {
    cal_group_id id;
    gov_namespace_spec spec = {.application = {{0x44}}, .app_key = {{0x55}}, .name = name};
    ok(f, gov_namespace_create(f->gov, &spec, &id, &f->change, &f->err));
    commit(f);
    return id;
}

static cal_group_id make_group(fixture *f, cal_group_id parent, const char *name, bool open) {
    cal_group_id id;
    gov_group_spec spec = {.parent = parent, .name = name, .open = open};
    ok(f, gov_group_create(f->gov, &spec, &id, &f->change, &f->err));
    commit(f);
    return id;
}

static void prepare_context(fixture *f, cal_group_id group, uint8_t fill, const char *name) {
    gov_context_spec spec = {.group = group,
                             .application = {{0x44}},
                             .blob = {{0x55}},
                             .source = "file:///app.mpk",
                             .name = name};
    memset(spec.context.bytes, fill, 32);
    ok(f, gov_context_register(f->gov, &spec, &f->change, &f->err));
}

static cal_context_id make_context(fixture *f, cal_group_id group, uint8_t fill, const char *name) {
    cal_context_id id;
    memset(id.bytes, fill, 32);
    prepare_context(f, group, fill, name);
    commit(f);
    return id;
}

static void test_identity_is_minted_once(void **state) {
    fixture *f = *state;
    gov_identity before = *gov_self(f->gov);
    assert_int_equal(gov_credential_verify(&before.credential, &before.account, NULL),
                     GOV_PROOF_OK);
    assert_memory_equal(before.credential.cert.sign_key, before.sign_key.bytes, 32);
    reopen(f);
    const gov_identity *after = gov_self(f->gov);
    assert_memory_equal(&before.account, &after->account, 32);
    assert_memory_equal(&before.device, &after->device, 32);
    assert_memory_equal(&before.sign_key, &after->sign_key, 32);
    assert_memory_equal(before.kem_key, after->kem_key, 32);
    uint8_t signature[64];
    gov_sign(f->gov, cal_slice_text("text"), signature);
    assert_true(cal_verify_strict(after->sign_key.bytes, cal_slice_text("text"), signature));
    cal_wipe(&before, sizeof before);
}

static void check_namespace(fixture *f, const cal_group_id *id) {
    gov_group_info info;
    const cal_account_id *self = &gov_self(f->gov)->account;
    assert_int_equal(gov_group_get(f->gov, id, &info), 0);
    assert_string_equal(info.name, "team");
    assert_int_equal(info.application.bytes[0], 0x44);
    assert_int_equal(info.app_key.bytes[0], 0x55);
    assert_memory_equal(&info.admin, self, 32);
    assert_memory_equal(&info.owner, self, 32);
    assert_memory_equal(&info.parent, id, 32);
    assert_int_equal(info.default_capabilities, GOV_CAPABILITIES_DEFAULT);
    assert_false(info.open);
    assert_true(info.created_at_s > 1700000000);
    assert_int_equal(info.members, 1);
    assert_int_equal(info.contexts, 0);
    gov_role role;
    assert_int_equal(gov_member_path(f->gov, id, self, &role), GOV_PATH_DIRECT);
    assert_int_equal(role, GOV_ROLE_ADMIN);
    assert_true(gov_member_admin(f->gov, id, self));
    cal_account_id stranger = {{1}};
    assert_int_equal(gov_member_path(f->gov, id, &stranger, NULL), GOV_PATH_NONE);
    assert_false(gov_member_can(f->gov, id, &stranger, GOV_CAPABILITIES_ALL));
}

static void test_namespace(void **state) {
    fixture *f = *state;
    cal_group_id id = make_namespace(f, "team");
    check_namespace(f, &id);
    reopen(f);
    check_namespace(f, &id);
}

static void count_group(void *user, const gov_group_info *info) {
    (void)info;
    ++*(int *)user;
}

static int namespaces(fixture *f) {
    int count = 0;
    gov_namespace_each(f->gov, count_group, &count);
    return count;
}

static void test_nothing_shows_before_it_is_durable(void **state) {
    fixture *f = *state;
    cal_group_id id;
    gov_group_info info;
    gov_namespace_spec spec = {.app_key = {{1}}};
    ok(f, gov_namespace_create(f->gov, &spec, &id, &f->change, &f->err));
    assert_int_equal(gov_group_get(f->gov, &id, &info), CAL_ENOTFOUND);
    assert_int_equal(namespaces(f), 0);
    gov_change_abort(f->change);
    assert_int_equal(gov_group_get(f->gov, &id, &info), CAL_ENOTFOUND);
    assert_int_equal(f->gov->namespaces.count, 0);
    assert_int_equal(f->gov->groups.count, 0);
    id = make_namespace(f, NULL);
    prepare_context(f, id, 7, "draft");
    cal_context_id context;
    memset(context.bytes, 7, 32);
    assert_int_equal(gov_context_group(f->gov, &context, NULL, NULL), CAL_ENOTFOUND);
    gov_change_abort(f->change);
    assert_int_equal(gov_context_group(f->gov, &context, NULL, NULL), CAL_ENOTFOUND);
    assert_int_equal(f->gov->contexts.count, 0);
    assert_int_equal(gov_group_get(f->gov, &id, &info), 0);
    assert_int_equal(info.contexts, 0);
    make_context(f, id, 7, "draft");
    assert_int_equal(gov_context_group(f->gov, &context, NULL, NULL), 0);
}

typedef struct {
    fixture *f;
    cal_group_id id;
    int ran;
    gov_change *change;
} waiting;

static void try_context(void *user) {
    waiting *w = user;
    gov_context_spec spec = {.group = w->id, .source = ""};
    memset(spec.context.bytes, 0x30 + w->ran, 32);
    w->ran++;
    ok(w->f, gov_context_register(w->f->gov, &spec, &w->change, &w->f->err));
}

static void test_one_change_at_a_time(void **state) {
    fixture *f = *state;
    cal_group_id id = make_namespace(f, NULL), other = make_namespace(f, NULL);
    gov_change *second;
    prepare_context(f, id, 1, NULL);
    gov_context_spec spec = {.group = id, .source = ""};
    assert_int_equal(gov_context_register(f->gov, &spec, &second, &f->err), CAL_EBUSY);
    waiting w = {.f = f, .id = id};
    assert_int_equal(gov_when_idle(f->gov, &id, try_context, &w), 0);
    assert_int_equal(gov_when_idle(f->gov, &id, try_context, &w), 0);
    assert_int_equal(w.ran, 0);
    gov_change *first = f->change;
    make_context(f, other, 2, NULL); /* another namespace is not kept waiting */
    f->change = first;
    commit(f);
    assert_int_equal(w.ran, 1); /* the second waits for the first's change */
    f->change = w.change;
    commit(f);
    assert_int_equal(w.ran, 2);
    gov_change_abort(w.change);
    assert_int_equal(gov_when_idle(f->gov, &id, try_context, &w), 0);
    assert_int_equal(w.ran, 3);
    gov_change_abort(w.change);
}

static void test_groups_and_contexts(void **state) {
    fixture *f = *state;
    cal_group_id ns = make_namespace(f, "team");
    cal_group_id open = make_group(f, ns, "open", true), inner = make_group(f, open, "inner", true);
    cal_group_id closed = make_group(f, ns, NULL, false);
    cal_context_id a = make_context(f, ns, 1, "first"), b = make_context(f, inner, 2, NULL);
    make_context(f, closed, 3, NULL);
    for (int round = 0; round < 2; round++) {
        gov_group_info info;
        gov_context_info context;
        cal_group_id group, found;
        int count = 0;
        ok(f, gov_group_get(f->gov, &ns, &info));
        assert_true(info.contexts == 3 && info.subgroups == 3 && info.members == 1);
        ok(f, gov_group_get(f->gov, &inner, &info));
        assert_true(info.open && info.contexts == 1 && info.subgroups == 0);
        assert_string_equal(info.name, "inner");
        assert_memory_equal(&info.parent, &open, 32);
        assert_int_equal(info.app_key.bytes[0], 0x55);
        ok(f, gov_group_get(f->gov, &closed, &info));
        assert_true(!info.open && !info.name);
        ok(f, gov_group_children(f->gov, &ns, count_group, &count));
        assert_int_equal(count, 2);
        ok(f, gov_group_below(f->gov, &ns, count_group, &count));
        assert_int_equal(count, 5);
        ok(f, gov_context_group(f->gov, &b, &group, &found));
        assert_memory_equal(&group, &inner, 32);
        assert_memory_equal(&found, &ns, 32);
        ok(f, gov_context_get(f->gov, &a, &context));
        assert_string_equal(context.name, "first");
        assert_null(context.service_name);
        reopen(f);
    }
    /* an open chain seals with the namespace's key, a wall with its own */
    gov_write_grant root, chained, walled;
    cal_context_id c;
    memset(c.bytes, 3, 32);
    ok(f, gov_context_write(f->gov, &a, &root, &f->err));
    ok(f, gov_context_write(f->gov, &b, &chained, &f->err));
    ok(f, gov_context_write(f->gov, &c, &walled, &f->err));
    assert_memory_equal(&root.key_id, &chained.key_id, 32);
    assert_memory_not_equal(&root.key_id, &walled.key_id, 32);
    assert_int_equal(root.position.count, 1);
    assert_int_equal(root.app_key.bytes[0], 0x55);
}

/* What is counted is what a walk finds: after every change, after one that was given up, and after
 * opening again. */
static void check_counts(fixture *f, const cal_group_id *namespace_id, const cal_group_id *group,
                         uint64_t total) {
    gov_group_info info;
    gov_view view;
    assert_non_null(gov_find_group(f->gov, group, &view));
    assert_int_equal(gov_group_get(f->gov, group, &info), 0);
    assert_int_equal(info.members, gov_walk_count(&view, ROW_MEMBER, group->bytes));
    if (!gov_id_equal(group->bytes, namespace_id->bytes)) {
        assert_int_equal(info.contexts, gov_walk_count(&view, ROW_CONTEXT, group->bytes));
        assert_int_equal(info.subgroups, gov_walk_count(&view, ROW_CHILD, group->bytes));
    }
    assert_int_equal(gov_group_get(f->gov, namespace_id, &info), 0);
    assert_int_equal(info.contexts, total);
}

static void test_counts_follow_the_rows(void **state) {
    fixture *f = *state;
    cal_group_id ns = make_namespace(f, "team"), group = make_group(f, ns, "a", true),
                 below = make_group(f, group, "b", true);
    cal_context_id first = make_context(f, group, 1, "one");
    make_context(f, group, 2, NULL);
    make_context(f, below, 3, NULL);
    make_context(f, ns, 4, NULL);
    check_counts(f, &ns, &group, 4);
    check_counts(f, &ns, &below, 4);
    prepare_context(f, group, 5, NULL);
    gov_change_abort(f->change);
    check_counts(f, &ns, &group, 4);
    ok(f, gov_context_detach(f->gov, &first, &f->change, &f->err));
    commit(f);
    check_counts(f, &ns, &group, 3);
    reopen(f);
    check_counts(f, &ns, &ns, 3);
    check_counts(f, &ns, &group, 3);
    gov_group_info info;
    assert_int_equal(gov_group_get(f->gov, &group, &info), 0);
    assert_int_equal(info.contexts, 1);
    assert_int_equal(info.subgroups, 1);
    ok(f, gov_group_delete(f->gov, &group, &f->change, &f->err));
    commit(f);
    assert_int_equal(gov_group_get(f->gov, &ns, &info), 0);
    assert_int_equal(info.contexts, 1);
    assert_int_equal(info.subgroups, 0);
    check_counts(f, &ns, &ns, 1);
}

typedef struct {
    size_t count, stop_at;
    cal_context_id last;
} stored_walk;

static int see_stored(void *user, const cal_context_id *context) {
    stored_walk *walk = user;
    if (walk->count > 0) assert_true(memcmp(walk->last.bytes, context->bytes, 32) < 0);
    walk->last = *context;
    return ++walk->count == walk->stop_at ? CAL_ECANCELED : 0;
}

/* More than a page, in order, each once; of this namespace alone; and a visitor ends it. */
static void test_stored_contexts(void **state) {
    fixture *f = *state;
    cal_group_id ns = make_namespace(f, "team"), other = make_namespace(f, "other"),
                 group = make_group(f, ns, "a", true);
    enum { COUNT = 2 * 256 };
    for (unsigned i = 0; i < COUNT; i++) {
        gov_context_spec spec = {.group = i % 2 ? ns : group,
                                 .application = {{0x44}},
                                 .blob = {{0x55}},
                                 .source = "",
                                 .context = {{0xff, (uint8_t)(i >> 8), (uint8_t)i}}};
        ok(f, gov_context_register(f->gov, &spec, &f->change, &f->err));
        commit(f);
        if (i % 256 == 255) {
            stored_walk walk = {.count = 0};
            assert_int_equal(gov_stored_contexts(f->store, &ns, see_stored, &walk), 0);
            assert_int_equal(walk.count, i + 1);
        }
    }
    make_context(f, other, 7, NULL);
    stored_walk walk = {.count = 0}, cut = {.stop_at = 257};
    assert_int_equal(gov_stored_contexts(f->store, &other, see_stored, &walk), 0);
    assert_int_equal(walk.count, 1);
    assert_int_equal(gov_stored_contexts(f->store, &ns, see_stored, &cut), CAL_ECANCELED);
    assert_int_equal(cut.count, 257);
}

static void test_refusals(void **state) {
    fixture *f = *state;
    cal_group_id ns = make_namespace(f, NULL), nowhere = {{9}};
    gov_context_plan plan;
    cal_context_id context = make_context(f, ns, 1, NULL), unknown = {{8}};
    gov_write_grant grant;
    char name[GOV_NAME_MAX + 2];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    assert_int_equal(gov_context_prepare(f->gov, &nowhere, &plan, &f->err), CAL_ENOTFOUND);
    assert_int_equal(gov_context_write(f->gov, &unknown, &grant, &f->err), CAL_ENOTFOUND);
    assert_int_equal(gov_context_detach(f->gov, &unknown, &f->change, &f->err), CAL_ENOTFOUND);
    gov_context_spec again = {.group = ns, .context = context};
    assert_int_equal(gov_context_register(f->gov, &again, &f->change, &f->err), CAL_EEXISTS);
    gov_namespace_spec spec = {.app_key = {{1}}, .name = name};
    cal_group_id id;
    assert_int_equal(gov_namespace_create(f->gov, &spec, &id, &f->change, &f->err), CAL_EINVAL);
    spec.name = "";
    assert_int_equal(gov_namespace_create(f->gov, &spec, &id, &f->change, &f->err), CAL_EINVAL);
    spec.name = "\xff";
    assert_int_equal(gov_namespace_create(f->gov, &spec, &id, &f->change, &f->err), CAL_EINVAL);
    spec = (gov_namespace_spec){.id = &ns, .app_key = {{1}}};
    assert_int_equal(gov_namespace_create(f->gov, &spec, &id, &f->change, &f->err), CAL_EEXISTS);
    spec = (gov_namespace_spec){0};
    assert_int_equal(gov_namespace_create(f->gov, &spec, &id, &f->change, &f->err), CAL_EINVAL);
    gov_group_spec group = {.parent = nowhere};
    assert_int_equal(gov_group_create(f->gov, &group, &id, &f->change, &f->err), CAL_ENOTFOUND);
    group = (gov_group_spec){.id = &ns, .parent = ns};
    assert_int_equal(gov_group_create(f->gov, &group, &id, &f->change, &f->err), CAL_EEXISTS);
    assert_int_equal(gov_group_delete(f->gov, &ns, &f->change, &f->err), CAL_EDENIED);
    cal_group_id parent = ns;
    for (int depth = 1; depth <= GOV_DEPTH_MAX; depth++) parent = make_group(f, parent, NULL, true);
    group = (gov_group_spec){.parent = parent};
    assert_int_equal(gov_group_create(f->gov, &group, &id, &f->change, &f->err), CAL_ELIMIT);
    assert_int_equal(gov_member_path(f->gov, &parent, &gov_self(f->gov)->account, NULL),
                     GOV_PATH_DIRECT);
    assert_non_null(make_context(f, parent, 5, "deep").bytes);
}

static uint64_t stored_bytes(fixture *f, const cal_group_id *ns) {
    cal_snapshot *snapshot;
    uint64_t operations = 0, rows = 0;
    cal_slice prefix = cal_slice_of(ns->bytes, 32);
    ok(f, cal_store_snapshot(f->store, &snapshot));
    ok(f, cal_snapshot_size(snapshot, CAL_COLUMN_GOVERNANCE, prefix, &operations));
    ok(f, cal_snapshot_size(snapshot, CAL_COLUMN_GROUP, prefix, &rows));
    cal_snapshot_free(snapshot);
    return operations + rows;
}

static void finish_removal(fixture *f, const cal_group_id *ns) {
    for (bool last = false; !last;) {
        cal_batch *batch = cal_batch_new();
        ok(f, cal_removal_step(&gov_removal, ns->bytes, f->store, batch, &last));
        ok(f, cal_store_commit(f->store, batch, &f->err));
    }
    assert_int_equal(cal_removal_pending(&gov_removal, ns->bytes, f->store), CAL_ENOTFOUND);
}

static void test_deletion(void **state) {
    fixture *f = *state;
    cal_group_id ns = make_namespace(f, NULL), other = make_namespace(f, NULL);
    cal_group_id top = make_group(f, ns, "top", true), below = make_group(f, top, NULL, false);
    cal_context_id a = make_context(f, ns, 1, "kept"), b = make_context(f, below, 2, NULL),
                   c = make_context(f, other, 3, NULL);
    gov_group_info info;
    ok(f, gov_context_detach(f->gov, &a, &f->change, &f->err));
    commit(f);
    assert_int_equal(gov_context_group(f->gov, &a, NULL, NULL), CAL_ENOTFOUND);
    ok(f, gov_group_delete(f->gov, &top, &f->change, &f->err));
    commit(f);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(gov_group_get(f->gov, &top, &info), CAL_ENOTFOUND);
        assert_int_equal(gov_group_get(f->gov, &below, &info), CAL_ENOTFOUND);
        assert_int_equal(gov_context_group(f->gov, &b, NULL, NULL), CAL_ENOTFOUND);
        ok(f, gov_group_get(f->gov, &ns, &info));
        assert_true(info.subgroups == 0 && info.contexts == 0);
        reopen(f);
    }
    make_context(f, ns, 1, NULL); /* its id is free again */
    ok(f, gov_namespace_delete(f->gov, &ns, &f->change, &f->err));
    assert_int_equal(namespaces(f), 2);
    commit(f);
    assert_true(stored_bytes(f, &ns) > 500); /* its rows go later, and are not there for anybody */
    for (int round = 0; round < 2; round++) {
        assert_int_equal(namespaces(f), 1);
        assert_int_equal(gov_context_group(f->gov, &a, NULL, NULL), CAL_ENOTFOUND);
        assert_int_equal(gov_context_group(f->gov, &c, NULL, NULL), 0);
        gov_namespace_spec again = {
            .id = &ns, .application = {{0x44}}, .app_key = {{0x55}}, .name = "again"};
        assert_int_equal(gov_namespace_create(f->gov, &again, &ns, &f->change, &f->err),
                         round == 0 ? CAL_EEXISTS : CAL_EBUSY);
        if (round == 0) reopen(f);
    }
    assert_int_equal(gov_namespace_delete(f->gov, &ns, &f->change, &f->err), CAL_ENOTFOUND);
    finish_removal(f, &ns);
    assert_int_equal(stored_bytes(f, &ns), 0);
    assert_true(stored_bytes(f, &other) > 500);
    reopen(f);
    assert_int_equal(namespaces(f), 1);
}

/* Memory of a deleted namespace is freed in steps, and its ids can be used meanwhile. */
static void test_sweep(void **state) {
    fixture *f = *state;
    cal_group_id ns = make_namespace(f, NULL), other = make_namespace(f, NULL);
    for (unsigned i = 0; i < 1100; i++) {
        gov_context_spec spec = {.group = ns,
                                 .application = {{0x44}},
                                 .blob = {{0x55}},
                                 .source = "",
                                 .context = {{1, (uint8_t)(i >> 8), (uint8_t)i}}};
        ok(f, gov_context_register(f->gov, &spec, &f->change, &f->err));
        commit(f);
    }
    cal_context_id first = {{1}};
    ok(f, gov_namespace_delete(f->gov, &ns, &f->change, &f->err));
    commit(f);
    assert_int_equal(gov_context_group(f->gov, &first, NULL, NULL), CAL_ENOTFOUND);
    assert_int_equal(gov_group_get(f->gov, &ns, &(gov_group_info){.members = 0}), CAL_ENOTFOUND);
    assert_true(gov_sweep(f->gov)); /* more than one step */
    while (gov_sweep(f->gov)) continue;
    assert_false(gov_sweep(f->gov));
    gov_context_spec spec = {
        .context = first, .group = other, .application = {{0x44}}, .blob = {{0x55}}, .source = ""};
    ok(f, gov_context_register(f->gov, &spec, &f->change, &f->err));
    commit(f);
    assert_int_equal(gov_context_group(f->gov, &first, NULL, NULL), 0);
}

static void test_settings(void **state) {
    fixture *f = *state;
    cal_group_id ns = make_namespace(f, "old"), group = make_group(f, ns, NULL, false);
    cal_account_id other = {{5}};
    cal_application_id application = {{0x66}};
    cal_blob_id app_key = {{0x77}};
    gov_group_info info;
    ok(f, gov_group_set_metadata(f->gov, &ns, "new", &f->change, &f->err));
    commit(f);
    ok(f, gov_group_set_visibility(f->gov, &group, true, &f->change, &f->err));
    commit(f);
    ok(f, gov_group_set_default_capabilities(f->gov, &ns, 0x1f, &f->change, &f->err));
    commit(f);
    ok(f, gov_group_set_target(f->gov, &ns, &application, &app_key, &f->change, &f->err));
    commit(f);
    ok(f, gov_member_set_capabilities(f->gov, &ns, &other, 0x3, &f->change, &f->err));
    commit(f);
    reopen(f);
    ok(f, gov_group_get(f->gov, &ns, &info));
    assert_string_equal(info.name, "new");
    assert_int_equal(info.default_capabilities, 0x1f);
    assert_int_equal(info.app_key.bytes[0], 0x77);
    ok(f, gov_group_get(f->gov, &group, &info));
    assert_true(info.open);
    assert_int_equal(gov_member_capabilities(f->gov, &ns, &other), 0x3);
    assert_false(gov_member_can(f->gov, &ns, &other,
                                0x3)); /* capabilities of a stranger count for nothing */
}

static void test_invitations(void **state) {
    fixture *f = *state;
    cal_group_id ns = make_namespace(f, "team"), nowhere = {{3}};
    gov_invitation invitation;
    const char *name;
    uint64_t now = gov_now_s(f->gov);
    ok(f, gov_invite(f->gov, &ns, 0, &invitation, &name, &f->err));
    assert_true(gov_invitation_verify(&invitation, NULL));
    assert_string_equal(name, "team");
    assert_true(invitation.expires_at_s >= now + GOV_INVITATION_DEFAULT_VALID_S);
    assert_int_equal(invitation.role, 1);
    assert_memory_equal(invitation.inviter_account.bytes, gov_self(f->gov)->account.bytes, 32);
    assert_int_equal(invitation.app_key.bytes[0], 0x55);
    assert_int_equal(gov_invite(f->gov, &nowhere, 0, &invitation, NULL, &f->err), CAL_ENOTFOUND);
    assert_int_equal(gov_invite(f->gov, &ns, UINT64_MAX, &invitation, NULL, &f->err), CAL_EINVAL);
}

/* The namespace's DAG, read back: every operation verifies under the node's key, and each cites the
 * one before. */
static void test_operations_are_a_signed_chain(void **state) {
    fixture *f = *state;
    cal_group_id ns = make_namespace(f, "team");
    make_group(f, ns, "g", false);
    make_context(f, ns, 1, "named");
    cal_snapshot *snapshot;
    cal_cursor *cursor;
    uint8_t prefix[GOV_GRAPH_KEY_MAX];
    cal_slice key, value, lo = gov_graph_key(&ns, GRAPH_BODY, NULL, 0, prefix);
    cal_buffer hi;
    cal_buffer_init(&hi, 64);
    cal_prefix_end(lo, &hi);
    ok(f, cal_store_snapshot(f->store, &snapshot));
    ok(f,
       cal_cursor_open(snapshot, CAL_COLUMN_GOVERNANCE, lo, cal_buffer_slice(&hi), false, &cursor));
    cal_hash ids[8], parents[8];
    size_t count = 0;
    while (cal_cursor_next(cursor, &key, &value) == 0) {
        cal_arena arena;
        gov_signed_op op;
        cal_hash id;
        cal_arena_init(&arena, 1 << 20);
        assert_int_equal(gov_signed_op_decode(value, &arena, &op), 0);
        assert_int_equal(gov_signed_op_check(&op, NULL), 0);
        gov_signed_op_id(&op, &id);
        assert_memory_equal(op.signer, gov_self(f->gov)->sign_key.bytes, 32);
        uint64_t sequence = cal_read_u32be(key.data + 37);
        assert_true(sequence >= 1 && sequence <= 4);
        assert_int_equal(op.nonce, sequence);
        assert_int_equal(op.parents.count, sequence > 1);
        ids[sequence] = id;
        if (op.parents.count) parents[sequence] = op.parents.items[0];
        count++;
        cal_arena_deinit(&arena);
    }
    assert_int_equal(count, 4); /* genesis, group, context, its name */
    for (size_t i = 2; i <= 4; i++) assert_memory_equal(&parents[i], &ids[i - 1], 32);
    cal_cursor_free(cursor);
    cal_snapshot_free(snapshot);
    cal_buffer_deinit(&hi);
}

static void test_group_hash(void **state) {
    (void)state;
    fixture *f = *state;
    cal_group_id ns = make_namespace(f, NULL);
    cal_hash hash, expected;
    gov_group_info info;
    ok(f, gov_group_get(f->gov, &ns, &info));
    ok(f, gov_group_hash(f->gov, &ns, &hash));
    uint8_t role = GOV_ROLE_ADMIN;
    cal_slice parts[] = {{ns.bytes, 32},         {info.admin.bytes, 32},
                         {info.owner.bytes, 32}, {info.application.bytes, 32},
                         {info.admin.bytes, 32}, {&role, 1}};
    cal_sha256_parts(parts, 6, expected.bytes);
    assert_memory_equal(&hash, &expected, 32);
}

typedef struct {
    int count;
    char last[256];
} findings;

static void note_finding(void *user, const char *finding) {
    findings *f = user;
    f->count++;
    snprintf(f->last, sizeof f->last, "%s", finding);
}

static int check(fixture *f, findings *ret_found) {
    cal_snapshot *snapshot;
    *ret_found = (findings){0};
    ok(f, cal_store_snapshot(f->store, &snapshot));
    int result = gov_check(f->gov, snapshot, note_finding, ret_found);
    cal_snapshot_free(snapshot);
    return result;
}

/* Writes or deletes a stored row and opens again. */
static void damage(fixture *f, cal_column column, cal_slice key, cal_slice value) {
    cal_batch *batch = cal_batch_new();
    if (value.len)
        cal_batch_put(batch, column, key, value);
    else
        cal_batch_delete(batch, column, key);
    ok(f, cal_store_commit(f->store, batch, &f->err));
    reopen(f);
}

/* Each row of the graph, lost or changed, is found. */
static void check_graph_damage(fixture *f, const cal_group_id *ns, uint64_t last) {
    static const uint8_t kinds[] = {GRAPH_INDEX, GRAPH_NODE, GRAPH_BODY, GRAPH_SLOT, GRAPH_PAST};
    for (size_t i = 0; i < sizeof kinds; i++) {
        findings found;
        uint8_t prefix[GOV_GRAPH_KEY_MAX], at[GOV_GRAPH_KEY_MAX], was[65536];
        cal_slice key, value, lo = gov_graph_key(ns, (gov_graph_row)kinds[i], NULL, 0, prefix);
        cal_snapshot *snapshot;
        cal_cursor *cursor;
        ok(f, cal_store_snapshot(f->store, &snapshot));
        ok(f, cal_cursor_open(snapshot, CAL_COLUMN_GOVERNANCE, lo, (cal_slice){0}, false, &cursor));
        ok(f, cal_cursor_next(cursor, &key, &value));
        assert_int_equal(key.data[32], kinds[i]);
        assert_true(value.len <= sizeof was);
        key = cal_slice_of(memcpy(at, key.data, key.len), key.len);
        value = cal_slice_of(memcpy(was, value.data, value.len), value.len);
        cal_cursor_free(cursor);
        cal_snapshot_free(snapshot);
        damage(f, CAL_COLUMN_GOVERNANCE, key, (cal_slice){0});
        assert_int_equal(check(f, &found), CAL_ECORRUPT);
        was[value.len / 2] ^= 1;
        if (kinds[i] != GRAPH_SLOT) { /* one that does not fit keeps the node from opening */
            damage(f, CAL_COLUMN_GOVERNANCE, key, value);
            assert_int_equal(check(f, &found), CAL_ECORRUPT);
        }
        was[value.len / 2] ^= 1;
        damage(f, CAL_COLUMN_GOVERNANCE, key, value);
        assert_int_equal(check(f, &found), 0);
    }
    uint8_t key[GOV_GRAPH_KEY_MAX], copy[65536];
    findings found;
    cal_buffer node;
    cal_slice number = gov_graph_number_key(ns, GRAPH_NODE, last, key);
    cal_buffer_init(&node, sizeof copy);
    ok(f, cal_store_get(f->store, CAL_COLUMN_GOVERNANCE, number, &node));
    damage(f, CAL_COLUMN_GOVERNANCE, number, (cal_slice){0}); /* the last operation is lost */
    assert_int_equal(check(f, &found), CAL_ECORRUPT);
    damage(f, CAL_COLUMN_GOVERNANCE, number, cal_buffer_slice(&node));
    assert_int_equal(check(f, &found), 0);
    cal_buffer_deinit(&node);
}

static void test_check(void **state) {
    fixture *f = *state;
    findings found;
    cal_group_id ns = make_namespace(f, "team"), group = make_group(f, ns, NULL, true);
    cal_context_id context = make_context(f, group, 1, "named");
    ok(f, gov_group_set_visibility(f->gov, &group, false, &f->change, &f->err));
    commit(f);
    assert_int_equal(check(f, &found), 0);
    assert_int_equal(found.count, 0);
    /* a registration without its group */
    uint8_t key[32 + GOV_KEY_MAX];
    gov_key row = gov_key_of(ROW_CONTEXT_GROUP, context.bytes, NULL, NULL);
    memcpy(key, ns.bytes, 32);
    memcpy(key + 32, row.bytes, row.len);
    damage(f, CAL_COLUMN_GROUP, cal_slice_of(key, 32 + row.len), (cal_slice){0});
    assert_int_equal(check(f, &found), CAL_ECORRUPT);
    assert_int_equal(found.count, 1);
    assert_non_null(strstr(found.last, "the group is not noted of context 0101"));
    damage(f, CAL_COLUMN_GROUP, cal_slice_of(key, 32 + row.len), cal_slice_of(group.bytes, 32));
    assert_int_equal(check(f, &found), 0);
    /* the last operation is lost */
    gov_view view;
    gov_find_group(f->gov, &ns, &view);
    check_graph_damage(f, &ns, gov_sequence_get(&view));
    /* a row of no known shape keeps the node from opening */
    cal_batch *batch = cal_batch_new();
    key[32] = ROW_HEADS;
    cal_batch_put(batch, CAL_COLUMN_GROUP, cal_slice_of(key, 33), cal_slice_text("x"));
    ok(f, cal_store_commit(f->store, batch, &f->err));
    gov_close(f->gov);
    f->gov = NULL;
    assert_int_equal(gov_open(f->store, cal_os_posix(), &f->gov, &f->err), CAL_ECORRUPT);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_identity_is_minted_once),
        T(test_namespace),
        T(test_nothing_shows_before_it_is_durable),
        T(test_one_change_at_a_time),
        T(test_groups_and_contexts),
        T(test_counts_follow_the_rows),
        T(test_stored_contexts),
        T(test_refusals),
        T(test_deletion),
        T(test_sweep),
        T(test_settings),
        T(test_invitations),
        T(test_operations_are_a_signed_chain),
        T(test_group_hash),
        T(test_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
