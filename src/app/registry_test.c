/* The registry: records both ways, and what the store answers after installs, upgrades and
 * removals. */
#include "app/testing.h"
#include "store/key.h"

#include <unistd.h>

static char folder[] = "/tmp/cal_app_registry_XXXXXX", key_path[64], data_path[64];
static cal_store *store;

static int open_store(void **state) {
    (void)state;
    if (!mkdtemp(folder)) return -1;
    snprintf(key_path, sizeof key_path, "%s/key", folder);
    snprintf(data_path, sizeof data_path, "%s/data", folder);
    cal_key_source key = {CAL_KEY_FILE, key_path};
    cal_store_options options = {
        .os = cal_os_posix(), .folder = data_path, .durability = CAL_DURABLE_PROCESS, .key = &key};
    cal_error err = {0};
    if (cal_os_make_dirs(cal_os_posix(), data_path, &err) != 0) return -1;
    return cal_store_create(&options, &err) == 0 ? cal_store_open(&options, &store, &err) : -1;
}

static int close_store(void **state) {
    (void)state;
    cal_store_close(store);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static cal_application sample(uint8_t id, uint8_t blob, const char *package, const char *version) {
    static const cal_application_service services[] = {{"api", {{0xaa}}}, {"worker", {{0xbb}}}};
    cal_application application = {.size = 42,
                                   .source = "file:///a.mpk",
                                   .metadata = cal_slice_text("{}"),
                                   .signer_id = "did:key:z",
                                   .package = package,
                                   .version = version,
                                   .state_version = 3,
                                   .bundle = true,
                                   .services = services,
                                   .service_count = 2};
    memset(application.id.bytes, id, CAL_ID_SIZE);
    memset(application.bytecode.bytes, blob, CAL_ID_SIZE);
    return application;
}

static void install(const cal_application *application) {
    cal_batch *batch = cal_batch_new();
    assert_int_equal(cal_application_put(batch, application), 0);
    assert_int_equal(cal_store_commit(store, batch, NULL), 0);
}

static void records_survive(void **state) {
    (void)state;
    cal_application in = sample(1, 2, "p", "1.0.0"), out;
    cal_buffer bytes;
    cal_arena arena;
    cal_buffer_init(&bytes, 4096);
    cal_arena_init(&arena, 1 << 20);
    assert_int_equal(cal_application_encode(&in, &bytes), 0);
    assert_int_equal(cal_application_decode(&arena, &in.id, cal_buffer_slice(&bytes), &out), 0);
    assert_memory_equal(out.bytecode.bytes, in.bytecode.bytes, CAL_ID_SIZE);
    assert_int_equal(out.size, 42);
    assert_string_equal(out.source, in.source);
    assert_string_equal(out.signer_id, in.signer_id);
    assert_string_equal(out.package, "p");
    assert_string_equal(out.version, "1.0.0");
    assert_int_equal(out.state_version, 3);
    assert_true(out.bundle);
    assert_int_equal(out.service_count, 2);
    assert_string_equal(out.services[1].name, "worker");
    assert_int_equal(out.services[1].bytecode.bytes[0], 0xbb);
    for (size_t len = 0; len < bytes.len; len++)
        assert_int_equal(
            cal_application_decode(&arena, &in.id, cal_slice_of(bytes.data, len), &out),
            CAL_ECORRUPT);
    cal_buffer_append_u8(&bytes, 0);
    assert_int_equal(cal_application_decode(&arena, &in.id, cal_buffer_slice(&bytes), &out),
                     CAL_ECORRUPT);
    cal_arena_deinit(&arena);
    cal_buffer_deinit(&bytes);
}

static void lists_what_is_installed(void **state) {
    (void)state;
    cal_application rows[] = {sample(1, 1, "kv", "1.0.0"), sample(1, 2, "kv", "1.10.0-rc.1"),
                              sample(1, 3, "kv", "1.9.0"), sample(2, 4, "kv", "1.9.1"),
                              sample(3, 5, "chat", "odd"), sample(3, 6, "chat", "0.1.0")};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) install(&rows[i]);
    cal_snapshot *snapshot = NULL;
    cal_arena arena;
    cal_application *list = NULL, one;
    cal_application_version *versions = NULL;
    const char **texts = NULL;
    size_t count = 0;
    cal_arena_init(&arena, 1 << 24);
    assert_int_equal(cal_store_snapshot(store, &snapshot), 0);
    assert_int_equal(cal_application_list(snapshot, &arena, &list, &count), 0);
    assert_int_equal(count, 3);
    assert_string_equal(list[0].version, "1.9.0"); /* what was installed last */
    assert_int_equal(cal_application_get(snapshot, &rows[0].id, &arena, &one), 0);
    assert_int_equal(one.bytecode.bytes[0], 3);
    assert_int_equal(cal_application_versions(snapshot, &rows[0].id, &arena, &versions, &count), 0);
    assert_int_equal(count, 3);
    assert_string_equal(versions[0].version, "1.10.0-rc.1");
    assert_string_equal(versions[1].version, "1.9.0");
    assert_string_equal(versions[2].version, "1.0.0");
    assert_int_equal(versions[2].bytecode.bytes[5], 1);
    assert_int_equal(cal_package_list(snapshot, &arena, &texts, &count), 0);
    assert_int_equal(count, 2);
    assert_string_equal(texts[0], "chat");
    assert_int_equal(cal_package_versions(snapshot, "kv", &arena, &texts, &count), 0);
    assert_int_equal(count, 4);
    assert_string_equal(texts[1], "1.9.1");
    assert_int_equal(cal_package_versions(snapshot, "chat", &arena, &texts, &count), 0);
    assert_int_equal(count, 2);
    assert_string_equal(texts[0], "0.1.0"); /* versions stand above other texts */
    assert_int_equal(cal_package_versions(snapshot, "none", &arena, &texts, &count), 0);
    assert_int_equal(count, 0);
    assert_int_equal(cal_package_latest(snapshot, "kv", &arena, &one), 0);
    assert_int_equal(one.id.bytes[0], 2);
    assert_int_equal(cal_package_latest(snapshot, "none", &arena, &one), CAL_ENOTFOUND);
    cal_application_id missing = {{9}};
    assert_int_equal(cal_application_get(snapshot, &missing, &arena, &one), CAL_ENOTFOUND);
    assert_int_equal(cal_application_versions(snapshot, &missing, &arena, &versions, &count),
                     CAL_ENOTFOUND);
    cal_snapshot_free(snapshot);
    cal_arena_deinit(&arena);
}

static bool used(void *user, const cal_application_id *id, char *ret_user, size_t max) {
    (void)id;
    snprintf(ret_user, max, "context %s", (const char *)user);
    return true;
}

static void removes_what_nobody_uses(void **state) {
    (void)state;
    cal_snapshot *snapshot = NULL;
    cal_error err = {0};
    bool uses = false;
    cal_application_id id = {{0}}, missing = {{9}};
    memset(id.bytes, 1, CAL_ID_SIZE);
    cal_blob_id old = {{0}}, service = {{0xbb}}, other = {{7}};
    memset(old.bytes, 1, CAL_ID_SIZE);
    assert_int_equal(cal_store_snapshot(store, &snapshot), 0);
    assert_int_equal(cal_application_uses_blob(snapshot, &old, &uses), 0);
    assert_true(uses); /* an older version is still kept */
    assert_int_equal(cal_application_uses_blob(snapshot, &service, &uses), 0);
    assert_true(uses);
    assert_int_equal(cal_application_uses_blob(snapshot, &other, &uses), 0);
    assert_false(uses);
    cal_batch *batch = cal_batch_new();
    assert_int_equal(cal_application_uninstall(snapshot, &missing, NULL, NULL, batch, &err),
                     CAL_ENOTFOUND);
    assert_int_equal(cal_application_uninstall(snapshot, &id, used, "C1", batch, &err), CAL_ESTATE);
    assert_non_null(strstr(err.message, "context C1"));
    assert_int_equal(cal_batch_count(batch), 0);
    assert_int_equal(cal_application_uninstall(snapshot, &id, NULL, NULL, batch, &err), 0);
    cal_snapshot_free(snapshot);
    assert_int_equal(cal_store_commit(store, batch, &err), 0);
    assert_int_equal(cal_store_snapshot(store, &snapshot), 0);
    assert_int_equal(cal_application_uses_blob(snapshot, &old, &uses), 0);
    assert_false(uses);
    cal_arena arena;
    cal_application *list = NULL;
    size_t count = 0;
    cal_arena_init(&arena, 1 << 24);
    assert_int_equal(cal_application_list(snapshot, &arena, &list, &count), 0);
    assert_int_equal(count, 2);
    cal_arena_deinit(&arena);
    cal_snapshot_free(snapshot);
}

static void count_removed(void *user, const cal_blob_id *id) {
    uint8_t *removed = user;
    removed[++removed[0]] = id->bytes[0];
}

/* Undoing an installation spares blobs that an application uses by now, as code or as a service. */
static void undo_spares_what_is_used(void **state) {
    (void)state;
    uint8_t removed[8] = {0};
    cal_application used = sample(0x51, 0x52, "undo", "1.0.0");
    install(&used);
    cal_app_stored stored = {.count = 4};
    memset(stored.ids[0].bytes, 0x52, CAL_ID_SIZE); /* its code */
    memset(stored.ids[1].bytes, 0x53, CAL_ID_SIZE); /* nobody's */
    stored.ids[2] = used.services[1].bytecode;
    memset(stored.ids[3].bytes, 0x54, CAL_ID_SIZE);
    cal_app_blobs blobs = {.user = removed, .remove = count_removed};
    cal_app_installer installer = {.blobs = &blobs, .stored = &stored};
    cal_snapshot *snapshot;
    assert_int_equal(cal_store_snapshot(store, &snapshot), 0);
    cal_app_install_undo(&installer, snapshot);
    cal_snapshot_free(snapshot);
    assert_int_equal(removed[0], 2);
    assert_int_equal(removed[1], 0x53);
    assert_int_equal(removed[2], 0x54);
    assert_int_equal(stored.count, 0);
}

static void picks_a_service(void **state) {
    (void)state;
    cal_application application = sample(1, 1, "p", "1.0.0");
    cal_error err = {0};
    const char *service = "?";
    assert_int_equal(cal_app_pick_service(&application, NULL, &service, &err), CAL_EINVAL);
    assert_string_equal(
        err.message,
        "application has multiple services; pass service_name (available: api, worker)");
    assert_int_equal(cal_app_pick_service(&application, "web", &service, &err), CAL_EINVAL);
    assert_string_equal(err.message, "service \"web\" not found (available: api, worker)");
    assert_int_equal(cal_app_pick_service(&application, "worker", &service, &err), 0);
    assert_string_equal(service, "worker");
    application.service_count = 1;
    assert_int_equal(cal_app_pick_service(&application, NULL, &service, &err), 0);
    assert_string_equal(service, "api");
    application.service_count = 0;
    assert_int_equal(cal_app_pick_service(&application, NULL, &service, &err), 0);
    assert_null(service);
    assert_int_equal(cal_app_pick_service(&application, "api", &service, &err), CAL_EINVAL);
}

int main(void) {
    if (cal_crypto_init() != 0) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_survive),          cmocka_unit_test(lists_what_is_installed),
        cmocka_unit_test(removes_what_nobody_uses), cmocka_unit_test(undo_spares_what_is_used),
        cmocka_unit_test(picks_a_service),
    };
    return cmocka_run_group_tests(tests, open_store, close_store);
}
