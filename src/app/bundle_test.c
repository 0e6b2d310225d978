/* Bundles: packed, signed, read back; and every archive that somebody might try on a node. */
#include "app/testing.h"
#include "os/os.h"

#include <unistd.h>

/* Opens and checks an archive in memory; 0 or the code, the reason in err. */
static int try_bytes(cal_slice bytes, cal_error *err) {
    cal_app_memory memory;
    cal_app_input input = cal_app_input_memory(&memory, bytes);
    cal_bundle *bundle = NULL;
    int rc = cal_bundle_open(&input, &bundle, err);
    if (rc == 0) rc = cal_bundle_check(bundle, NULL, NULL, err);
    cal_bundle_free(bundle);
    return rc;
}

static void expect(cal_slice bytes, int code, const char *words) {
    cal_error err = {0};
    int rc = try_bytes(bytes, &err);
    if (rc != code || (words && !strstr(err.message, words)))
        fail_msg("answered %d \"%s\", expected %d \"%s\"", rc, err.message, code,
                 words ? words : "");
}

static void packs_and_reads(void **state) {
    (void)state;
    cal_buffer first, second, wasm;
    testing_bundle(TESTING_MANIFEST, TESTING_WASM, &first);
    testing_bundle(TESTING_MANIFEST, TESTING_WASM, &second);
    assert_true(cal_slice_equal(cal_buffer_slice(&first), cal_buffer_slice(&second)));
    assert_true(cal_bundle_looks_like(cal_buffer_slice(&first)));
    assert_false(cal_bundle_looks_like(TESTING_WASM));
    expect(cal_buffer_slice(&first), 0, NULL);
    cal_app_memory memory;
    cal_app_input input = cal_app_input_memory(&memory, cal_buffer_slice(&first));
    cal_bundle *bundle = NULL;
    assert_int_equal(cal_bundle_open(&input, &bundle, NULL), 0);
    cal_buffer_init(&wasm, CAL_APP_MODULE_MAX);
    assert_int_equal(cal_bundle_read_wasm(bundle, NULL, &wasm, NULL), 0);
    assert_true(cal_slice_equal(cal_buffer_slice(&wasm), TESTING_WASM));
    assert_int_equal(cal_bundle_read_wasm(bundle, "x", &wasm, NULL), CAL_ENOTFOUND);
    assert_int_equal(wasm.len, sizeof testing_wasm);
    cal_bundle_free(bundle);
    cal_buffer_deinit(&wasm);
    cal_buffer_deinit(&second);
    cal_buffer_deinit(&first);
}

static void signs_again(void **state) {
    (void)state;
    cal_buffer first, other, back;
    cal_secret one = testing_seed(1), two = testing_seed(2);
    testing_bundle(TESTING_MANIFEST, TESTING_WASM, &first);
    cal_buffer_init(&other, CAL_BUNDLE_UNPACKED_MAX);
    cal_buffer_init(&back, CAL_BUNDLE_UNPACKED_MAX);
    assert_int_equal(cal_bundle_sign(cal_buffer_slice(&first), &two, &other, NULL), 0);
    expect(cal_buffer_slice(&other), 0, NULL);
    assert_false(cal_slice_equal(cal_buffer_slice(&first), cal_buffer_slice(&other)));
    assert_int_equal(cal_bundle_sign(cal_buffer_slice(&other), &one, &back, NULL), 0);
    assert_true(cal_slice_equal(cal_buffer_slice(&first), cal_buffer_slice(&back)));
    cal_buffer_deinit(&back);
    cal_buffer_deinit(&other);
    cal_buffer_deinit(&first);
}

static int count_service(void *user, const cal_manifest_service *service, cal_slice wasm,
                         cal_error *err) {
    (void)err;
    assert_non_null(service->name);
    assert_int_equal(wasm.data[sizeof testing_wasm - 1],
                     strcmp(service->name, "b") == 0 ? 'B' : 't');
    ++*(int *)user;
    return 0;
}

static void reads_services(void **state) {
    (void)state;
    uint8_t other[sizeof testing_wasm];
    memcpy(other, testing_wasm, sizeof other);
    other[sizeof other - 1] = 'B';
    const char *names[] = {"a", "b", "c"},
               *paths[] = {"x\xc3\xa9/a.wasm", "x/b.wasm", "./x\xc3\xa9//a.wasm"};
    cal_bundle_file files[] = {{"x/b.wasm", cal_slice_of(other, sizeof other)},
                               {"x\xc3\xa9/a.wasm", TESTING_WASM}};
    cal_manifest_options options = {.package = "p",
                                    .app_version = "1.0.0",
                                    .description = "d",
                                    .service_names = names,
                                    .service_paths = paths,
                                    .service_count = 3};
    cal_buffer json, archive, wasm;
    cal_error err = {0};
    cal_secret seed = testing_seed(3);
    cal_buffer_init(&json, CAL_BUNDLE_MANIFEST_MAX);
    cal_buffer_init(&archive, CAL_BUNDLE_UNPACKED_MAX);
    cal_buffer_init(&wasm, CAL_APP_MODULE_MAX);
    assert_int_equal(cal_manifest_make(&options, &json, &err), 0);
    if (cal_bundle_pack(cal_buffer_slice(&json), files, 2, &seed, &archive, &err) != 0)
        fail_msg("%s", err.message);
    cal_app_memory memory;
    cal_app_input input = cal_app_input_memory(&memory, cal_buffer_slice(&archive));
    cal_bundle *bundle = NULL;
    int seen = 0;
    assert_int_equal(cal_bundle_open(&input, &bundle, &err), 0);
    assert_int_equal(cal_bundle_check(bundle, count_service, &seen, &err), 0);
    assert_int_equal(seen, 3);
    assert_int_equal(cal_bundle_read_wasm(bundle, "b", &wasm, &err), 0);
    assert_true(cal_slice_equal(cal_buffer_slice(&wasm), files[0].content));
    assert_int_equal(cal_bundle_read_wasm(bundle, NULL, &wasm, &err),
                     CAL_ENOTFOUND); /* no top-level wasm */
    cal_bundle_free(bundle);
    cal_buffer_deinit(&wasm);
    cal_buffer_deinit(&archive);
    cal_buffer_deinit(&json);
}

static void packing_refuses(void **state) {
    (void)state;
    cal_buffer out;
    cal_error err = {0};
    cal_buffer_init(&out, CAL_BUNDLE_UNPACKED_MAX);
    cal_bundle_file files[] = {
        {"app.wasm", TESTING_WASM}, {"extra", TESTING_WASM}, {"../x", TESTING_WASM}};
    cal_slice manifest = cal_slice_text(TESTING_MANIFEST);
    assert_int_equal(cal_bundle_pack(manifest, files, 0, NULL, &out, &err), CAL_ENOTFOUND);
    assert_int_equal(cal_bundle_pack(manifest, files, 2, NULL, &out, &err), CAL_EINVAL);
    assert_int_equal(cal_bundle_pack(manifest, files, 3, NULL, &out, &err), CAL_EINVAL);
    files[1].path = "./app.wasm";
    assert_int_equal(cal_bundle_pack(manifest, files, 2, NULL, &out, &err), CAL_EINVAL);
    assert_int_equal(cal_bundle_pack(cal_slice_text("[]"), files, 1, NULL, &out, &err),
                     CAL_EDECODE);
    assert_int_equal(out.len, 0);
    assert_int_equal(cal_bundle_pack(manifest, files, 1, NULL, &out, &err), 0);
    expect(cal_buffer_slice(&out), CAL_EVERIFY, "not signed");
    cal_buffer_deinit(&out);
}

/* --- archives nobody honest makes --- */
typedef struct hostile {
    const char *path;
    unsigned type;
    const char *link;
    bool hard;
    const char *words;
} hostile;

static void hostile_entries_are_refused(void **state) {
    (void)state;
    static const hostile cases[] = {
        {"../evil", AE_IFREG, NULL, false, "not a relative path"},
        {"a/../../evil", AE_IFREG, NULL, false, "not a relative path"},
        {"/etc/passwd", AE_IFREG, NULL, false, "not a relative path"},
        {"a\\b", AE_IFREG, NULL, false, "not a relative path"},
        {"..", AE_IFDIR, NULL, false, "not a relative path"},
        {"link", AE_IFLNK, "/etc/passwd", false, "a link or a device"},
        {"hard", AE_IFREG, "app.wasm", true, "a link or a device"},
        {"pipe", AE_IFIFO, NULL, false, "a link or a device"},
        {"manifest.json", AE_IFREG, NULL, false, "manifest.json twice"},
        {"./manifest.json", AE_IFREG, NULL, false, "manifest.json twice"},
        {"app.wasm", AE_IFREG, NULL, false, "app.wasm twice"},
        {"x//../app.wasm", AE_IFREG, NULL, false, "not a relative path"},
        {"old/manifest.json", AE_IFREG, NULL, false, NULL},
        {"b\xc3\xa9", AE_IFREG, NULL, false, NULL},
        {"folder", AE_IFDIR, NULL, false, NULL},
    };
    cal_buffer json;
    testing_signed_manifest(TESTING_MANIFEST, TESTING_WASM, &json);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        testing_tar tar;
        testing_tar_begin(&tar, 1);
        testing_tar_file(&tar, "./manifest.json", cal_buffer_slice(&json));
        testing_tar_file(&tar, "app.wasm", TESTING_WASM);
        testing_tar_entry(&tar, cases[i].path, cases[i].type, cases[i].link, cases[i].hard,
                          (cal_slice){0});
        testing_tar_end(&tar);
        cal_error err = {0};
        int rc = try_bytes(cal_buffer_slice(&tar.out), &err);
        if ((cases[i].words == NULL) != (rc == 0) ||
            (rc != 0 && !strstr(err.message, cases[i].words)))
            fail_msg("%s: %d %s", cases[i].path, rc, err.message);
        cal_buffer_deinit(&tar.out);
    }
    cal_buffer_deinit(&json);
}

static void changed_artifacts_are_refused(void **state) {
    (void)state;
    cal_buffer json;
    testing_signed_manifest(TESTING_MANIFEST, TESTING_WASM, &json);
    testing_tar tar;
    testing_tar_begin(&tar, 1);
    testing_tar_file(&tar, "manifest.json", cal_buffer_slice(&json));
    testing_tar_file(&tar, "app.wasm", cal_slice_text("other"));
    testing_tar_end(&tar);
    expect(cal_buffer_slice(&tar.out), CAL_EVERIFY, "was changed");
    cal_buffer_deinit(&tar.out);
    testing_tar_begin(&tar, 1);
    testing_tar_file(&tar, "manifest.json", cal_buffer_slice(&json));
    testing_tar_file(&tar, "x/app.wasm", TESTING_WASM); /* no match by base name */
    testing_tar_end(&tar);
    expect(cal_buffer_slice(&tar.out), CAL_EDECODE, "lacks app.wasm");
    cal_buffer_deinit(&tar.out);
    char *version = strstr(cal_buffer_cstr(&json), "1.2.3");
    version[0] = '2';
    testing_tar_begin(&tar, 1);
    testing_tar_file(&tar, "manifest.json", cal_buffer_slice(&json));
    testing_tar_end(&tar);
    expect(cal_buffer_slice(&tar.out), CAL_EVERIFY, "changed after signing");
    cal_buffer_deinit(&tar.out);
    cal_buffer_deinit(&json);
}

/* Every digit of a digest counts, and none of their case. */
static void digests_are_compared_whole(void **state) {
    (void)state;
    static const size_t places[] = {0, 1, 2, 30, 62, 63};
    cal_secret seed = testing_seed(1);
    cal_buffer json, again;
    testing_signed_manifest(TESTING_MANIFEST, TESTING_WASM, &json);
    cal_buffer_init(&again, CAL_BUNDLE_MANIFEST_MAX);
    static const char field[] = "\"hash\":\"";
    char *digest = strstr((char *)(uintptr_t)cal_buffer_cstr(&json), field) + sizeof field - 1;
    for (size_t i = 0; i <= sizeof places / sizeof *places; i++) {
        bool changed = i < sizeof places / sizeof *places;
        char kept[2 * CAL_HASH_SIZE];
        memcpy(kept, digest, sizeof kept);
        if (changed) digest[places[i]] = digest[places[i]] == '0' ? '1' : '0';
        for (size_t k = 0; !changed && k < sizeof kept; k++)
            if (digest[k] >= 'a') digest[k] = (char)(digest[k] - 'a' + 'A');
        cal_buffer_reset(&again);
        assert_int_equal(cal_manifest_sign(cal_buffer_slice(&json), &seed, &again, NULL), 0);
        testing_tar tar;
        testing_tar_begin(&tar, 1);
        testing_tar_file(&tar, "manifest.json", cal_buffer_slice(&again));
        testing_tar_file(&tar, "app.wasm", TESTING_WASM);
        testing_tar_end(&tar);
        expect(cal_buffer_slice(&tar.out), changed ? CAL_EVERIFY : 0,
               changed ? "was changed" : NULL);
        cal_buffer_deinit(&tar.out);
        memcpy(digest, kept, sizeof kept);
    }
    cal_buffer_deinit(&again);
    cal_buffer_deinit(&json);
}

static void entries_are_counted(void **state) {
    (void)state;
    cal_buffer json;
    testing_signed_manifest(TESTING_MANIFEST, TESTING_WASM, &json);
    for (unsigned extra = 0; extra < 2; extra++) {
        testing_tar tar;
        testing_tar_begin(&tar, 1);
        testing_tar_file(&tar, "manifest.json", cal_buffer_slice(&json));
        testing_tar_file(&tar, "app.wasm", TESTING_WASM);
        for (unsigned i = 2; i < CAL_BUNDLE_ENTRIES_MAX + extra; i++)
            testing_tar_file(&tar, "empty", (cal_slice){0});
        testing_tar_end(&tar);
        expect(cal_buffer_slice(&tar.out), extra ? CAL_ELIMIT : 0, extra ? "more than" : NULL);
        cal_buffer_deinit(&tar.out);
    }
    cal_buffer_deinit(&json);
}

static void odd_containers_are_refused(void **state) {
    (void)state;
    cal_buffer json, packed;
    testing_signed_manifest(TESTING_MANIFEST, TESTING_WASM, &json);
    testing_tar tar;
    testing_tar_begin(&tar, 0); /* a bare tar */
    testing_tar_file(&tar, "manifest.json", cal_buffer_slice(&json));
    testing_tar_end(&tar);
    expect(cal_buffer_slice(&tar.out), CAL_EDECODE, NULL);
    cal_buffer_deinit(&tar.out);
    testing_tar_begin(&tar, 2); /* gzip inside gzip */
    testing_tar_file(&tar, "manifest.json", cal_buffer_slice(&json));
    testing_tar_end(&tar);
    expect(cal_buffer_slice(&tar.out), CAL_EDECODE, "one gzip layer");
    cal_buffer_deinit(&tar.out);
    testing_tar_begin(&tar, 1); /* nothing in it */
    testing_tar_end(&tar);
    expect(cal_buffer_slice(&tar.out), CAL_EDECODE, NULL);
    cal_buffer_deinit(&tar.out);
    expect(cal_slice_text("\x1f\x8b garbage that is no deflate stream"), CAL_EDECODE, NULL);
    expect((cal_slice){0}, CAL_EDECODE, NULL);
    testing_bundle(TESTING_MANIFEST, TESTING_WASM, &packed);
    /* Every truncation is refused, without a crash: the end of the stream is part of it. */
    for (size_t len = 0; len + 8 < packed.len; len++) {
        cal_error err = {0};
        if (try_bytes(cal_slice_of(packed.data, len), &err) == 0)
            fail_msg("%zu of %zu bytes passed", len, packed.len);
    }
    /* What follows the gzip stream is not looked at: the archive's own end is what counts, as in
     * the reference. */
    cal_buffer_append_text(&packed, "trailing garbage");
    expect(cal_buffer_slice(&packed), 0, NULL);
    cal_buffer_deinit(&packed);
    cal_buffer_deinit(&json);
}

/* --- size --- */
static int walk_nothing(void *user, app_archive *archive, const char *path, cal_error *err) {
    (void)user, (void)archive, (void)path, (void)err;
    return 0;
}

static void bombs_stop_early(void **state) {
    (void)state;
    cal_buffer json, zeros;
    testing_signed_manifest(TESTING_MANIFEST, TESTING_WASM, &json);
    cal_buffer_init(&zeros, CAL_BUNDLE_SCAN_MAX);
    memset(cal_buffer_reserve(&zeros, CAL_BUNDLE_SCAN_MAX), 0, CAL_BUNDLE_SCAN_MAX);
    zeros.len = CAL_BUNDLE_SCAN_MAX;
    testing_tar tar;
    /* The manifest ends exactly at the scan limit, then one block beyond it: headers take 512
     * bytes, content whole blocks. */
    size_t manifest_blocks = (json.len + 511) / 512 * 512;
    for (size_t extra = 0; extra < 2; extra++) {
        testing_tar_begin(&tar, 1);
        testing_tar_file(
            &tar, "big",
            cal_slice_of(zeros.data, CAL_BUNDLE_SCAN_MAX - 1024 - manifest_blocks + 512 * extra));
        testing_tar_file(&tar, "manifest.json", cal_buffer_slice(&json));
        testing_tar_file(&tar, "app.wasm", TESTING_WASM);
        testing_tar_end(&tar);
        expect(cal_buffer_slice(&tar.out), extra ? CAL_ELIMIT : 0,
               extra ? "within its first" : NULL);
        cal_buffer_deinit(&tar.out);
    }
    /* The total, on a smaller scale. */
    testing_tar_begin(&tar, 1);
    testing_tar_file(&tar, "big", cal_slice_of(zeros.data, 1024 * 1024));
    testing_tar_end(&tar);
    cal_app_memory memory;
    cal_app_input input = cal_app_input_memory(&memory, cal_buffer_slice(&tar.out));
    assert_int_equal(app_archive_walk(&input, 2 * 1024 * 1024, walk_nothing, NULL, NULL), 0);
    assert_int_equal(app_archive_walk(&input, 1024 * 1024, walk_nothing, NULL, NULL), CAL_ELIMIT);
    cal_buffer_deinit(&tar.out);
    /* A manifest over its own limit. */
    testing_tar_begin(&tar, 1);
    testing_tar_file(&tar, "manifest.json", cal_slice_of(zeros.data, CAL_BUNDLE_MANIFEST_MAX + 1));
    testing_tar_end(&tar);
    expect(cal_buffer_slice(&tar.out), CAL_ELIMIT, NULL);
    cal_buffer_deinit(&tar.out);
    cal_buffer_deinit(&zeros);
    cal_buffer_deinit(&json);
}

static int64_t failing_read(void *user, uint8_t *ret_bytes, size_t len) {
    (void)user, (void)ret_bytes, (void)len;
    return CAL_ECORRUPT;
}
static int rewind_nothing(void *user) {
    (void)user;
    return 0;
}

static void a_failing_disk_is_no_bad_bundle(void **state) {
    (void)state;
    cal_app_input input = {.rewind = rewind_nothing, .read = failing_read};
    cal_bundle *bundle = NULL;
    assert_int_equal(cal_bundle_open(&input, &bundle, NULL), CAL_ECORRUPT);
}

/* --- files --- */
static void keys_and_folders(void **state) {
    (void)state;
    const cal_os *os = cal_os_posix();
    char folder[] = "/tmp/cal_app_XXXXXX", path[128], signer[CAL_DID_KEY_MAX];
    assert_non_null(mkdtemp(folder));
    cal_secret seed;
    cal_error err = {0};
    snprintf(path, sizeof path, "%s/key", folder);
    assert_int_equal(cal_bundle_key_generate(os, path, signer, &err), 0);
    assert_int_equal(cal_bundle_key_generate(os, path, signer, &err), CAL_EEXISTS);
    assert_int_equal(cal_bundle_key_read(os, path, &seed, &err), 0);
    uint8_t key[32];
    char again[CAL_DID_KEY_MAX];
    cal_sign_public_key(&seed, key);
    cal_did_key_encode(key, again);
    assert_string_equal(signer, again);
    cal_os_stat stat;
    assert_int_equal(os->stat(os->user, path, &stat), 0);
    assert_int_equal(stat.mode & 0777, 0600);
    static const char theirs[] =
        "{\"private_key\":\"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\"}";
    assert_int_equal(cal_os_write_file(os, path, cal_slice_text(theirs), &err), 0);
    assert_int_equal(cal_bundle_key_read(os, path, &seed, &err), 0);
    assert_int_equal(seed.bytes[31], 1);
    assert_int_equal(cal_os_write_file(os, path, cal_slice_text("abc"), &err), 0);
    assert_int_equal(cal_bundle_key_read(os, path, &seed, &err), CAL_EDECODE);

    cal_buffer archive;
    cal_buffer_init(&archive, CAL_BUNDLE_UNPACKED_MAX);
    char file[160];
    assert_int_equal(cal_bundle_pack_folder(os, folder, &seed, &archive, &err), CAL_ENOTFOUND);
    snprintf(file, sizeof file, "%s/manifest.json", folder);
    assert_int_equal(cal_os_write_file(os, file, cal_slice_text(TESTING_MANIFEST), &err), 0);
    snprintf(file, sizeof file, "%s/app.wasm", folder);
    assert_int_equal(cal_os_write_file(os, file, TESTING_WASM, &err), 0);
    seed = testing_seed(1);
    if (cal_bundle_pack_folder(os, folder, &seed, &archive, &err) != 0) fail_msg("%s", err.message);
    cal_buffer same;
    testing_bundle(TESTING_MANIFEST, TESTING_WASM, &same);
    assert_true(cal_slice_equal(cal_buffer_slice(&archive), cal_buffer_slice(&same)));
    cal_buffer_deinit(&same);
    cal_buffer_deinit(&archive);
    os->remove(os->user, path);
    os->remove(os->user, file);
    snprintf(file, sizeof file, "%s/manifest.json", folder);
    os->remove(os->user, file);
    os->remove(os->user, folder);
}

int main(void) {
    if (cal_crypto_init() != 0) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packs_and_reads),
        cmocka_unit_test(signs_again),
        cmocka_unit_test(reads_services),
        cmocka_unit_test(packing_refuses),
        cmocka_unit_test(hostile_entries_are_refused),
        cmocka_unit_test(changed_artifacts_are_refused),
        cmocka_unit_test(digests_are_compared_whole),
        cmocka_unit_test(entries_are_counted),
        cmocka_unit_test(odd_containers_are_refused),
        cmocka_unit_test(bombs_stop_early),
        cmocka_unit_test(a_failing_disk_is_no_bad_bundle),
        cmocka_unit_test(keys_and_folders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
