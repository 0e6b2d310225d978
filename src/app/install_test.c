/* Installing from files and URLs, and getting the code back: against a blob store in memory that
 * counts what is left in it. */
#include "app/testing_net.h"
#include "base/limits.h"
#include "blob/blob.h"

#include <sys/stat.h>

/* --- blobs in memory --- */
enum { BLOBS_MAX = 16 };

typedef struct fake_blobs {
    struct {
        cal_blob_id id;
        cal_buffer bytes;
        bool used;
    } blobs[BLOBS_MAX];
    int writers, readers; /* open ones */
    int fail_finish;
} fake_blobs;

typedef struct fake_reader {
    const cal_buffer *bytes;
    size_t at;
} fake_reader;

static int fake_create(void *user, void **ret_writer, cal_error *err) {
    cal_buffer *writer = malloc(sizeof *writer);
    (void)err;
    assert_non_null(writer);
    cal_buffer_init(writer, 64 << 20);
    ((fake_blobs *)user)->writers++;
    *ret_writer = writer;
    return 0;
}
static int fake_write(void *user, void *writer, cal_slice bytes, cal_error *err) {
    (void)user, (void)err;
    return cal_buffer_append_slice(writer, bytes);
}
static void fake_abort(void *user, void *writer) {
    ((fake_blobs *)user)->writers--;
    cal_buffer_deinit(writer);
    free(writer);
}
static int fake_find(const fake_blobs *all, const cal_blob_id *id) {
    for (int i = 0; i < BLOBS_MAX; i++)
        if (all->blobs[i].used && memcmp(all->blobs[i].id.bytes, id->bytes, CAL_ID_SIZE) == 0)
            return i;
    return -1;
}
static int fake_finish(void *user, void *writer, cal_blob_id *ret_id, cal_error *err) {
    fake_blobs *all = user;
    int rc = all->fail_finish, at = 0;
    assert_int_equal(cal_blob_id_of(cal_buffer_slice(writer), ret_id), 0);
    if (rc != 0 || fake_find(all, ret_id) >= 0) {
        fake_abort(user, writer);
        return rc ? cal_fail(err, rc, "full") : 0;
    }
    while (all->blobs[at].used) at++;
    all->blobs[at].id = *ret_id;
    all->blobs[at].bytes = *(cal_buffer *)writer;
    all->blobs[at].used = true;
    all->writers--;
    free(writer);
    return 0;
}
static int fake_open(void *user, const cal_blob_id *id, void **ret_reader, uint64_t *ret_size,
                     cal_error *err) {
    fake_blobs *all = user;
    int at = fake_find(all, id);
    if (at < 0) return cal_fail(err, CAL_ENOTFOUND, "no such blob");
    fake_reader *reader = calloc(1, sizeof *reader);
    reader->bytes = &all->blobs[at].bytes;
    all->readers++;
    *ret_reader = reader;
    *ret_size = reader->bytes->len;
    return 0;
}
static int64_t fake_read(void *user, void *handle, uint8_t *ret_bytes, size_t len) {
    fake_reader *reader = handle;
    (void)user;
    size_t left = reader->bytes->len - reader->at;
    if (len > left) len = left;
    if (len) memcpy(ret_bytes, reader->bytes->data + reader->at, len);
    reader->at += len;
    return (int64_t)len;
}
static void fake_close(void *user, void *reader) {
    ((fake_blobs *)user)->readers--;
    free(reader);
}
static void fake_remove(void *user, const cal_blob_id *id) {
    fake_blobs *all = user;
    int at = fake_find(all, id);
    assert_true(at >= 0);
    cal_buffer_deinit(&all->blobs[at].bytes);
    all->blobs[at].used = false;
}

/* --- one test's world --- */
typedef struct world {
    fake_blobs blobs;
    cal_app_blobs table;
    testing_net net;
    cal_app_installer installer;
    cal_batch *batch;
    cal_arena arena;
    cal_application application;
    cal_error err;
    char folder[64];
    cal_buffer bundle;
    testing_route routes[8];
} world;

static int count_blobs(const world *w) {
    int count = 0;
    for (int i = 0; i < BLOBS_MAX; i++) count += w->blobs.blobs[i].used;
    assert_int_equal(w->blobs.writers, 0);
    assert_int_equal(w->blobs.readers, 0);
    return count;
}

static int setup(void **state) {
    world *w = calloc(1, sizeof *w);
    w->table = (cal_app_blobs){&w->blobs, fake_create, fake_write, fake_finish, fake_abort,
                               fake_open, fake_read,   fake_close, fake_remove};
    testing_bundle(TESTING_MANIFEST, TESTING_WASM, &w->bundle);
    w->routes[0] = (testing_route){"/app.wasm", "200 OK", TESTING_WASM};
    w->routes[1] = (testing_route){"/app.mpk?v=1", "200 OK", cal_buffer_slice(&w->bundle)};
    w->routes[2] = (testing_route){"/text.wasm", "200 OK", cal_slice_text("hello, world")};
    w->routes[3] = (testing_route){"/tiny.wasm", "200 OK", cal_slice_text("x")};
    w->routes[4] = (testing_route){"/big.wasm", "200 OK\r\nContent-Length: 67108865", TESTING_WASM};
    testing_net_start(&w->net, w->routes);
    w->installer = (cal_app_installer){.os = &w->net.os, .blobs = &w->table};
    w->batch = cal_batch_new();
    cal_arena_init(&w->arena, 16 << 20);
    strcpy(w->folder, "/tmp/cal app_XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    *state = w;
    return 0;
}

static int teardown(void **state) {
    world *w = *state;
    count_blobs(w);
    testing_net_stop(&w->net);
    cal_batch_free(w->batch);
    cal_arena_deinit(&w->arena);
    for (int i = 0; i < BLOBS_MAX; i++)
        if (w->blobs.blobs[i].used) cal_buffer_deinit(&w->blobs.blobs[i].bytes);
    cal_buffer_deinit(&w->bundle);
    char command[96];
    snprintf(command, sizeof command, "rm -rf '%s'", w->folder);
    int rc = system(command);
    free(w);
    return rc;
}

static int run(world *w, cal_app_install what) {
    w->err = (cal_error){0};
    return cal_app_install_run(&w->installer, &what, w->batch, &w->arena, &w->application, &w->err);
}

static void refuse(world *w, cal_app_install what, int code, const char *words) {
    int before = count_blobs(w);
    size_t rows = cal_batch_count(w->batch);
    int rc = run(w, what);
    if (rc != code || !strstr(w->err.message, words))
        fail_msg("%d \"%s\", expected %d \"%s\"", rc, w->err.message, code, words);
    assert_int_equal(count_blobs(w), before);
    assert_int_equal(cal_batch_count(w->batch), rows);
}

static const char *write_file(world *w, const char *name, cal_slice content) {
    static char path[4][128];
    static int turn;
    char *text = path[turn++ % 4];
    snprintf(text, 128, "%s/%s", w->folder, name);
    assert_int_equal(cal_os_write_file(cal_os_posix(), text, content, NULL), 0);
    return text;
}

/* --- files --- */
static void installs_a_module(void **state) {
    world *w = *state;
    const char *path = write_file(w, "a#b.wasm", TESTING_WASM);
    if (run(w, (cal_app_install){
                   .path = path, .metadata = cal_slice_text("meta"), .version = "1.0.0"}) != 0)
        fail_msg("%s", w->err.message);
    cal_application *app = &w->application;
    assert_false(app->bundle);
    assert_string_equal(app->package, "unknown");
    assert_string_equal(app->version, "1.0.0");
    assert_string_equal(app->signer_id, "");
    assert_int_equal(app->size, sizeof testing_wasm);
    char source[160];
    snprintf(source, sizeof source, "file:///tmp/cal%%20app_%s/a%%23b.wasm",
             w->folder + sizeof "/tmp/cal app_" - 1);
    assert_string_equal(app->source, source);
    cal_application_id id;
    cal_blob_id blob;
    assert_int_equal(cal_blob_id_of(TESTING_WASM, &blob), 0);
    assert_memory_equal(app->bytecode.bytes, blob.bytes, CAL_ID_SIZE);
    cal_application_id_raw(&blob, sizeof testing_wasm, source, cal_slice_text("meta"), &id);
    assert_memory_equal(app->id.bytes, id.bytes, CAL_ID_SIZE);
    assert_int_equal(cal_batch_count(w->batch), 2);
    assert_int_equal(count_blobs(w), 1);
    cal_buffer wasm;
    cal_buffer_init(&wasm, CAL_APP_MODULE_MAX);
    assert_int_equal(cal_app_load_code(&w->table, &app->bytecode, "ignored", &wasm, NULL), 0);
    assert_true(cal_slice_equal(cal_buffer_slice(&wasm), TESTING_WASM));
    cal_buffer_deinit(&wasm);
    /* A link is another name of the same file: the id comes from the real path. */
    char link[128];
    snprintf(link, sizeof link, "%s/link.wasm", w->folder);
    assert_int_equal(symlink(path, link), 0);
    assert_int_equal(run(w, (cal_app_install){.path = link, .metadata = cal_slice_text("meta")}),
                     0);
    assert_memory_equal(w->application.id.bytes, id.bytes, CAL_ID_SIZE);
}

static void installs_a_bundle(void **state) {
    world *w = *state;
    const char *path = write_file(w, "kv.mpk", cal_buffer_slice(&w->bundle));
    if (run(w, (cal_app_install){
                   .path = path, .package = "ignored", .metadata = cal_slice_text("ignored")}) != 0)
        fail_msg("%s", w->err.message);
    cal_application *app = &w->application;
    assert_true(app->bundle);
    assert_string_equal(app->package, "com.example.kv");
    assert_string_equal(app->version, "1.2.3");
    assert_int_equal(app->size, w->bundle.len);
    assert_int_equal(app->service_count, 0);
    assert_true(cal_slice_equal(
        app->metadata,
        cal_slice_text("{\"package\":\"com.example.kv\",\"version\":\"1.2.3\",\"name\":\"KV\"}")));
    cal_application_id id;
    cal_application_id_bundle("com.example.kv", app->signer_id, &id);
    assert_memory_equal(app->id.bytes, id.bytes, CAL_ID_SIZE);
    cal_buffer wasm;
    cal_buffer_init(&wasm, CAL_APP_MODULE_MAX);
    assert_int_equal(cal_app_load_code(&w->table, &app->bytecode, NULL, &wasm, NULL), 0);
    assert_true(cal_slice_equal(cal_buffer_slice(&wasm), TESTING_WASM));
    assert_int_equal(cal_app_load_code(&w->table, &app->bytecode, "none", &wasm, NULL),
                     CAL_ENOTFOUND);
    cal_blob_id missing = {{1}};
    assert_int_equal(cal_app_load_code(&w->table, &missing, NULL, &wasm, NULL), CAL_ENOTFOUND);
    /* Bytes changed in the store are found out at every load, not only when they came. */
    for (size_t at = 12; at < w->blobs.blobs[0].bytes.len - 8; at += 7) {
        w->blobs.blobs[0].bytes.data[at] ^= 0x40;
        cal_buffer_reset(&wasm);
        if (cal_app_load_code(&w->table, &app->bytecode, NULL, &wasm, NULL) == 0)
            assert_true(cal_slice_equal(cal_buffer_slice(&wasm), TESTING_WASM));
        w->blobs.blobs[0].bytes.data[at] ^= 0x40;
    }
    cal_buffer_deinit(&wasm);
}

static void installs_services(void **state) {
    world *w = *state;
    uint8_t other[sizeof testing_wasm];
    memcpy(other, testing_wasm, sizeof other);
    other[sizeof other - 1] = 'B';
    const char *names[] = {"worker", "api"}, *paths[] = {"w.wasm", "a.wasm"};
    cal_bundle_file files[] = {{"a.wasm", TESTING_WASM},
                               {"w.wasm", cal_slice_of(other, sizeof other)}};
    cal_manifest_options options = {.package = "p",
                                    .app_version = "1.0.0",
                                    .service_names = names,
                                    .service_paths = paths,
                                    .service_count = 2};
    cal_buffer json, archive, wasm;
    cal_secret seed = testing_seed(9);
    cal_buffer_init(&json, CAL_BUNDLE_MANIFEST_MAX);
    cal_buffer_init(&archive, CAL_BUNDLE_UNPACKED_MAX);
    cal_buffer_init(&wasm, CAL_APP_MODULE_MAX);
    assert_int_equal(cal_manifest_make(&options, &json, NULL), 0);
    assert_int_equal(cal_bundle_pack(cal_buffer_slice(&json), files, 2, &seed, &archive, NULL), 0);
    const char *path = write_file(w, "p.mpk", cal_buffer_slice(&archive));
    cal_app_stored stored = {0};
    w->installer.stored = &stored;
    if (run(w, (cal_app_install){.path = path}) != 0) fail_msg("%s", w->err.message);
    assert_int_equal(stored.count, 3);
    assert_int_equal(w->application.service_count, 2);
    assert_string_equal(w->application.services[0].name, "api");
    assert_int_equal(count_blobs(w), 3); /* the bundle and each service */
    assert_int_equal(cal_app_load_code(&w->table, &w->application.bytecode, "worker", &wasm, NULL),
                     0);
    assert_true(cal_slice_equal(cal_buffer_slice(&wasm), files[1].content));
    assert_int_equal(cal_app_load_code(&w->table, &w->application.bytecode, NULL, &wasm, &w->err),
                     CAL_ENOTFOUND);
    assert_non_null(strstr(w->err.message, "only named services"));
    cal_app_install_undo(&w->installer, NULL);
    assert_int_equal(count_blobs(w), 0);
    cal_buffer_deinit(&wasm);
    cal_buffer_deinit(&archive);
    cal_buffer_deinit(&json);
}

/* One service is stored before the other turns out to be no module: both go again. */
static void takes_back_the_services_of_a_refused_bundle(void **state) {
    world *w = *state;
    const char *names[] = {"a", "b"}, *paths[] = {"a.wasm", "b.wasm"};
    cal_manifest_options options = {.package = "p",
                                    .app_version = "1.0.0",
                                    .service_names = names,
                                    .service_paths = paths,
                                    .service_count = 2};
    cal_buffer json, archive;
    cal_secret seed = testing_seed(9);
    cal_app_stored stored = {0};
    w->installer.stored = &stored;
    for (int bad = 0; bad < 2; bad++) {
        cal_bundle_file files[] = {{"a.wasm", TESTING_WASM}, {"b.wasm", TESTING_WASM}};
        files[bad].content = cal_slice_text("no module");
        cal_buffer_init(&json, CAL_BUNDLE_MANIFEST_MAX);
        cal_buffer_init(&archive, CAL_BUNDLE_UNPACKED_MAX);
        assert_int_equal(cal_manifest_make(&options, &json, NULL), 0);
        assert_int_equal(cal_bundle_pack(cal_buffer_slice(&json), files, 2, &seed, &archive, NULL),
                         0);
        refuse(w, (cal_app_install){.path = write_file(w, "p.mpk", cal_buffer_slice(&archive))},
               CAL_EINVAL, "no WebAssembly module");
        assert_int_equal(count_blobs(w), 0);
        assert_int_equal(stored.count, 0); /* nothing to undo */
        cal_buffer_deinit(&archive);
        cal_buffer_deinit(&json);
    }
    w->installer.stored = NULL;
}

/* A bundle whose services a and b are one module, in one file or in two; c is another, or none. */
static const char *write_shared(world *w, bool one_file, cal_slice last) {
    const char *names[] = {"a", "b", "c"}, *one[] = {"a.wasm", "a.wasm", "c.wasm"},
               *two[] = {"a.wasm", "b.wasm", "c.wasm"};
    cal_manifest_options options = {.package = "p",
                                    .app_version = "1.0.0",
                                    .service_names = names,
                                    .service_paths = one_file ? one : two,
                                    .service_count = 3};
    cal_bundle_file files[] = {
        {"a.wasm", TESTING_WASM}, {"c.wasm", last}, {"b.wasm", TESTING_WASM}};
    cal_buffer json, archive;
    cal_secret seed = testing_seed(9);
    cal_error err = {0};
    cal_buffer_init(&json, CAL_BUNDLE_MANIFEST_MAX);
    cal_buffer_init(&archive, CAL_BUNDLE_UNPACKED_MAX);
    if (cal_manifest_make(&options, &json, &err) ||
        cal_bundle_pack(cal_buffer_slice(&json), files, one_file ? 2 : 3, &seed, &archive, &err))
        fail_msg("%s", err.message);
    const char *path = write_file(w, "shared.mpk", cal_buffer_slice(&archive));
    cal_buffer_deinit(&archive);
    cal_buffer_deinit(&json);
    return path;
}

static void check_loads(world *w, const cal_blob_id *bytecode, const char *service) {
    cal_buffer wasm;
    cal_buffer_init(&wasm, CAL_APP_MODULE_MAX);
    assert_int_equal(cal_app_load_code(&w->table, bytecode, service, &wasm, NULL), 0);
    assert_true(cal_slice_equal(cal_buffer_slice(&wasm), TESTING_WASM));
    cal_buffer_deinit(&wasm);
}

/* Services that share a module share its blob, also with what another application has of it. */
static void shares_the_module_of_services(void **state) {
    world *w = *state;
    uint8_t other[sizeof testing_wasm];
    memcpy(other, testing_wasm, sizeof other);
    other[sizeof other - 1] = 'B';
    for (int i = 0; i < 4; i++) {
        bool one_file = i & 1, others = i & 2;
        cal_app_stored stored = {0};
        cal_application raw = {0};
        w->installer.stored = NULL;
        if (others) {
            assert_int_equal(
                run(w, (cal_app_install){.path = write_file(w, "x.wasm", TESTING_WASM)}), 0);
            raw = w->application;
        }
        w->installer.stored = &stored;
        cal_slice broken = cal_slice_text("no module");
        refuse(w, (cal_app_install){.path = write_shared(w, one_file, broken)}, CAL_EINVAL,
               "no WebAssembly module"); /* after a, and before or after b */
        assert_int_equal(stored.count, 0);
        if (others) check_loads(w, &raw.bytecode, NULL);
        const char *path = write_shared(w, one_file, cal_slice_of(other, sizeof other));
        if (run(w, (cal_app_install){.path = path}) != 0) fail_msg("%s", w->err.message);
        const cal_application_service *services = w->application.services;
        assert_int_equal(w->application.service_count, 3);
        assert_memory_equal(&services[0].bytecode, &services[1].bytecode, CAL_ID_SIZE);
        assert_memory_not_equal(&services[0].bytecode, &services[2].bytecode, CAL_ID_SIZE);
        assert_int_equal(count_blobs(w), 3); /* the bundle, a module for two, and one more */
        assert_int_equal(stored.count, others ? 2 : 3);
        check_loads(w, &w->application.bytecode, "a");
        check_loads(w, &w->application.bytecode, "b");
        cal_app_install_undo(&w->installer, NULL);
        assert_int_equal(count_blobs(w), others);
        if (others) check_loads(w, &raw.bytecode, NULL);
    }
    w->installer.stored = NULL;
}

static void refuses_paths(void **state) {
    world *w = *state;
    const char *path = write_file(w, "app.wasm", TESTING_WASM);
    char text[256], long_path[CAL_APP_PATH_MAX + 3];
    refuse(w, (cal_app_install){0}, CAL_EINVAL, "either a path or a URL");
    refuse(w, (cal_app_install){.path = path, .url = "http://apps.example/"}, CAL_EINVAL,
           "either a path or a URL");
    refuse(w, (cal_app_install){.path = "app.wasm"}, CAL_EINVAL, "not absolute");
    refuse(w, (cal_app_install){.path = ""}, CAL_EINVAL, "not absolute");
    snprintf(text, sizeof text, "%s/x/../app.wasm", w->folder);
    refuse(w, (cal_app_install){.path = text}, CAL_EINVAL, "`..`");
    refuse(w, (cal_app_install){.path = w->folder}, CAL_EINVAL, "is a folder");
    refuse(w, (cal_app_install){.path = "/dev/zero"}, CAL_EINVAL, "pipe, socket or device");
    snprintf(text, sizeof text, "%s/pipe", w->folder);
    assert_int_equal(mkfifo(text, 0600), 0); /* with nobody at the other end */
    refuse(w, (cal_app_install){.path = text}, CAL_EINVAL, "pipe, socket or device");
    cal_os_file *file = NULL;
    assert_int_equal(w->net.os.open(w->net.os.user, text, CAL_OS_READ, &file), CAL_EINVAL);
    assert_int_equal(w->net.os.open(w->net.os.user, w->folder, CAL_OS_READ, &file), CAL_EINVAL);
    snprintf(text, sizeof text, "%s/missing", w->folder);
    refuse(w, (cal_app_install){.path = text}, CAL_ENOTFOUND, "missing");
    memset(long_path, '/', sizeof long_path);
    long_path[CAL_APP_PATH_MAX + 1] = '\0';
    refuse(w, (cal_app_install){.path = long_path}, CAL_ELIMIT, "longer than");
    uint8_t *metadata = calloc(1, CAL_APP_METADATA_MAX + 1);
    refuse(w,
           (cal_app_install){.path = path,
                             .metadata = cal_slice_of(metadata, CAL_APP_METADATA_MAX + 1)},
           CAL_ELIMIT, "metadata");
    assert_int_equal(
        run(w, (cal_app_install){.path = path,
                                 .metadata = cal_slice_of(metadata, CAL_APP_METADATA_MAX)}),
        0);
    free(metadata);
    long_path[CAL_APP_PACKAGE_MAX + 1] = '\0';
    refuse(w, (cal_app_install){.path = path, .package = long_path}, CAL_ELIMIT, "package");
    long_path[CAL_APP_VERSION_MAX + 1] = '\0';
    refuse(w, (cal_app_install){.path = path, .version = long_path}, CAL_ELIMIT, "version");
}

static void stays_in_the_root(void **state) {
    world *w = *state;
    char root[96], inside[128], outside[128], link[128];
    snprintf(root, sizeof root, "%s/root", w->folder);
    snprintf(outside, sizeof outside, "%s/root2", w->folder);
    assert_int_equal(mkdir(root, 0700), 0);
    assert_int_equal(mkdir(outside, 0700), 0);
    snprintf(inside, sizeof inside, "%s", write_file(w, "root/in.wasm", TESTING_WASM));
    snprintf(outside, sizeof outside, "%s", write_file(w, "root2/out.wasm", TESTING_WASM));
    assert_int_equal(run(w, (cal_app_install){.path = inside, .root = root}), 0);
    assert_int_equal(run(w, (cal_app_install){.path = inside, .root = "/"}), 0);
    refuse(w, (cal_app_install){.path = outside, .root = root}, CAL_EDENIED,
           "MEROD_DEV_INSTALL_ROOT");
    snprintf(link, sizeof link, "%s/link.wasm", root);
    assert_int_equal(symlink(outside, link), 0);
    refuse(w, (cal_app_install){.path = link, .root = root}, CAL_EDENIED, "outside");
    refuse(w, (cal_app_install){.path = inside, .root = "/no/such/root"}, CAL_ENOTFOUND,
           "/no/such/root");
}

static void refuses_what_is_no_application(void **state) {
    world *w = *state;
    cal_slice bundle = cal_buffer_slice(&w->bundle);
    refuse(w, (cal_app_install){.path = write_file(w, "t.wasm", cal_slice_text("hello"))},
           CAL_EINVAL, "no WebAssembly module");
    refuse(w, (cal_app_install){.path = write_file(w, "e.wasm", (cal_slice){0})}, CAL_EINVAL,
           "no WebAssembly module");
    refuse(w, (cal_app_install){.path = write_file(w, "b.wasm", bundle)}, CAL_EINVAL,
           "must be named .mpk");
    refuse(w, (cal_app_install){.path = write_file(w, "b.mpk.old", bundle)}, CAL_EINVAL,
           "must be named .mpk");
    refuse(w, (cal_app_install){.path = write_file(w, ".mpk", bundle)}, CAL_EINVAL,
           "must be named .mpk"); /* no extension */
    refuse(w, (cal_app_install){.path = write_file(w, "w.mpk", TESTING_WASM)}, CAL_EDECODE,
           "not compressed");
    refuse(w,
           (cal_app_install){.path =
                                 write_file(w, "c.mpk", cal_slice_of(bundle.data, bundle.len / 2))},
           CAL_EDECODE, "sound .mpk");
    cal_bundle_file file = {"app.wasm", cal_slice_text("no wasm")};
    cal_buffer other;
    cal_secret seed = testing_seed(1);
    cal_buffer_init(&other, CAL_BUNDLE_UNPACKED_MAX);
    assert_int_equal(
        cal_bundle_pack(cal_slice_text(TESTING_MANIFEST), &file, 1, &seed, &other, NULL), 0);
    refuse(w, (cal_app_install){.path = write_file(w, "n.mpk", cal_buffer_slice(&other))},
           CAL_EINVAL, "no WebAssembly module");
    cal_buffer_deinit(&other);
    w->blobs.fail_finish = CAL_EFULL;
    refuse(w, (cal_app_install){.path = write_file(w, "a.wasm", TESTING_WASM)}, CAL_EFULL, "full");
    w->blobs.fail_finish = 0;
    assert_int_equal(count_blobs(w), 0);
}

/* Refusing a file must not take away the same bytes that a user had stored as a blob of his own. */
static void leaves_the_blobs_of_others(void **state) {
    world *w = *state;
    cal_slice broken = cal_slice_of(w->bundle.data, w->bundle.len / 2);
    void *writer = NULL;
    cal_blob_id id;
    assert_int_equal(fake_create(&w->blobs, &writer, NULL), 0);
    assert_int_equal(fake_write(&w->blobs, writer, broken, NULL), 0);
    assert_int_equal(fake_finish(&w->blobs, writer, &id, NULL), 0);
    refuse(w, (cal_app_install){.path = write_file(w, "x.mpk", broken)}, CAL_EDECODE, "sound .mpk");
    assert_int_equal(count_blobs(w), 1);
}

/* The id that is worked out on the way is the blob store's, also beyond one chunk. */
static void knows_blob_ids(void **state) {
    world *w = *state;
    static const size_t sizes[] = {0,
                                   1,
                                   CAL_BLOB_CHUNK_SIZE - 1,
                                   CAL_BLOB_CHUNK_SIZE,
                                   CAL_BLOB_CHUNK_SIZE + 1,
                                   2 * CAL_BLOB_CHUNK_SIZE + 5};
    uint8_t *bytes = calloc(1, 2 * CAL_BLOB_CHUNK_SIZE + 5);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        app_put put;
        app_stored first, again;
        cal_blob_id id;
        for (int turn = 0; turn < 2; turn++) {
            assert_int_equal(app_put_begin(&put, &w->table, NULL), 0);
            assert_int_equal(app_put_write(&put, cal_slice_of(bytes, sizes[i] / 3), NULL), 0);
            assert_int_equal(
                app_put_write(&put, cal_slice_of(bytes, sizes[i] - sizes[i] / 3), NULL), 0);
            assert_int_equal(app_put_finish(&put, NULL, turn ? &again : &first, NULL), 0);
        }
        assert_int_equal(cal_blob_id_of(cal_slice_of(bytes, sizes[i]), &id), 0);
        assert_memory_equal(first.id.bytes, id.bytes, CAL_ID_SIZE);
        assert_true(first.fresh);
        assert_false(again.fresh); /* found under the id worked out here */
        app_put_forget(&w->table, &again);
        assert_int_equal(count_blobs(w), 1);
        app_put_forget(&w->table, &first);
        assert_int_equal(count_blobs(w), 0);
    }
    free(bytes);
}

/* --- URLs --- */
static void installs_from_a_url(void **state) {
    world *w = *state;
    uint8_t hash[CAL_HASH_SIZE];
    cal_sha256(TESTING_WASM, hash);
    if (run(w, (cal_app_install){.url = "HTTP://Apps.Example:80/app.wasm",
                                 .expected_hash = hash,
                                 .package = "ignored"}) != 0)
        fail_msg("%s", w->err.message);
    assert_string_equal(w->application.source, "http://apps.example/app.wasm");
    assert_string_equal(w->application.package, "unknown");
    assert_string_equal(w->application.version, "0.0.0");
    assert_int_equal(count_blobs(w), 1);
    if (run(w, (cal_app_install){.url = "http://apps.example/app.mpk?v=1"}) != 0)
        fail_msg("%s", w->err.message);
    assert_true(w->application.bundle);
    assert_string_equal(w->application.version, "1.2.3");
    hash[0] ^= 1;
    refuse(w, (cal_app_install){.url = "http://apps.example/app.wasm", .expected_hash = hash},
           CAL_EVERIFY, "SHA-256");
    refuse(w, (cal_app_install){.url = "http://apps.example/text.wasm"}, CAL_EINVAL,
           "no WebAssembly module");
    refuse(w, (cal_app_install){.url = "http://apps.example/tiny.wasm"}, CAL_EINVAL,
           "no WebAssembly module");
    refuse(w, (cal_app_install){.url = "http://apps.example/none.wasm"}, CAL_ENOTFOUND, "404");
    refuse(w, (cal_app_install){.url = "http://apps.example/big.wasm"}, CAL_ELIMIT,
           "larger than 67108864 bytes");
    refuse(w, (cal_app_install){.url = "http://127.0.0.1/app.wasm"}, CAL_EINVAL,
           "not a public address");
    refuse(w, (cal_app_install){.url = "ftp://apps.example/app.wasm"}, CAL_EINVAL,
           "only http and https");
}

static int cancel(void *user, uint64_t done, uint64_t total) {
    (void)done, (void)total;
    return ++*(int *)user >= 1;
}

static void can_be_canceled(void **state) {
    world *w = *state;
    int calls = 0;
    w->installer.progress = cancel;
    w->installer.progress_user = &calls;
    refuse(w, (cal_app_install){.path = write_file(w, "a.wasm", TESTING_WASM)}, CAL_ECANCELED,
           "canceled");
    refuse(w, (cal_app_install){.url = "http://apps.example/app.wasm"}, CAL_ECANCELED, "canceled");
    assert_true(calls >= 2);
}

/* What the node does when the code does not compile: the run's own blobs go, no others. */
static void can_be_undone(void **state) {
    world *w = *state;
    cal_app_stored stored = {0};
    const char *first = write_file(w, "a.wasm", TESTING_WASM);
    assert_int_equal(run(w, (cal_app_install){.path = first}), 0);
    assert_int_equal(count_blobs(w), 1);
    w->installer.stored = &stored;
    assert_int_equal(run(w, (cal_app_install){.path = first}), 0);
    assert_int_equal(stored.count, 0); /* it was there */
    const char *bundle = write_file(w, "a.mpk", cal_buffer_slice(&w->bundle));
    assert_int_equal(run(w, (cal_app_install){.path = bundle}), 0);
    assert_int_equal(stored.count, 1);
    assert_memory_equal(stored.ids[0].bytes, w->application.bytecode.bytes, CAL_ID_SIZE);
    assert_int_equal(count_blobs(w), 2);
    cal_app_install_undo(&w->installer, NULL);
    assert_int_equal(stored.count, 0);
    assert_int_equal(count_blobs(w), 1);
    cal_app_install_undo(&w->installer, NULL);
    assert_int_equal(count_blobs(w), 1);
}

int main(void) {
    if (cal_crypto_init() != 0) return 1;
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(installs_a_module),
        TEST(installs_a_bundle),
        TEST(installs_services),
        TEST(takes_back_the_services_of_a_refused_bundle),
        TEST(shares_the_module_of_services),
        TEST(refuses_paths),
        TEST(stays_in_the_root),
        TEST(refuses_what_is_no_application),
        TEST(leaves_the_blobs_of_others),
        TEST(knows_blob_ids),
        TEST(installs_from_a_url),
        TEST(can_be_canceled),
        TEST(can_be_undone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
