/* What this module's tests share: small modules, bundles, and archives that no honest tool writes.
 */
#ifndef CAL_APP_TESTING_H
#define CAL_APP_TESTING_H

#include "golden.h"

#include <archive.h>
#include <archive_entry.h>

#include "app/internal.h"

static const uint8_t testing_wasm[] = {0, 'a', 's', 'm', 1, 0, 0, 0, 0, 5, 4, 't', 'e', 's', 't'};
#define TESTING_WASM cal_slice_of(testing_wasm, sizeof testing_wasm)
#define TESTING_MANIFEST                                                                           \
    "{\"version\":\"1.0\",\"package\":\"com.example.kv\",\"appVersion\":\"1.2.3\","                \
    "\"minRuntimeVersion\":\"0.1.0\","                                                             \
    "\"metadata\":{\"name\":\"KV\",\"tags\":[]},\"wasm\":{\"path\":\"app.wasm\",\"hash\":\"\","    \
    "\"size\":0}}"

static inline cal_secret testing_seed(uint8_t fill) {
    cal_secret seed;
    memset(seed.bytes, fill, sizeof seed.bytes);
    return seed;
}

/* A signed bundle of one module. */
static inline void testing_bundle(const char *manifest, cal_slice wasm, cal_buffer *ret_archive) {
    cal_secret seed = testing_seed(1);
    cal_error err = {0};
    cal_bundle_file file = {.path = "app.wasm", .content = wasm};
    cal_buffer_init(ret_archive, CAL_BUNDLE_UNPACKED_MAX);
    int rc = cal_bundle_pack(cal_slice_text(manifest), &file, 1, &seed, ret_archive, &err);
    if (rc != 0) fail_msg("%s", err.message);
}

/* A writer of any archive, for the hostile ones. */
typedef struct testing_tar {
    struct archive *tar;
    cal_buffer out;
} testing_tar;

static inline la_ssize_t testing_tar_write(struct archive *tar, void *user, const void *bytes,
                                           size_t len) {
    (void)tar;
    return cal_buffer_append(user, bytes, len) == 0 ? (la_ssize_t)len : -1;
}

static inline void testing_tar_begin(testing_tar *tar, unsigned gzip_layers) {
    cal_buffer_init(&tar->out, CAL_BUNDLE_UNPACKED_MAX);
    tar->tar = archive_write_new();
    archive_write_set_format_pax_restricted(tar->tar);
    while (gzip_layers-- > 0) archive_write_add_filter_gzip(tar->tar);
    archive_write_set_bytes_in_last_block(tar->tar, 1);
    assert_int_equal(archive_write_open(tar->tar, &tar->out, NULL, testing_tar_write, NULL),
                     ARCHIVE_OK);
}

static inline void testing_tar_entry(testing_tar *tar, const char *path, unsigned type,
                                     const char *link, bool hard, cal_slice content) {
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, path);
    archive_entry_set_filetype(entry, type);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, (la_int64_t)content.len);
    if (link && hard) archive_entry_set_hardlink(entry, link);
    if (link && !hard) archive_entry_set_symlink(entry, link);
    assert_true(archive_write_header(tar->tar, entry) >= ARCHIVE_WARN);
    if (content.len) archive_write_data(tar->tar, content.data, content.len);
    archive_entry_free(entry);
}

static inline void testing_tar_file(testing_tar *tar, const char *path, cal_slice content) {
    testing_tar_entry(tar, path, AE_IFREG, NULL, false, content);
}

/* The finished archive is in tar->out, which the caller releases. */
static inline void testing_tar_end(testing_tar *tar) {
    assert_int_equal(archive_write_close(tar->tar), ARCHIVE_OK);
    archive_write_free(tar->tar);
}

/* The signed manifest of testing_bundle. */
static inline void testing_signed_manifest(const char *manifest, cal_slice wasm,
                                           cal_buffer *ret_json) {
    cal_buffer packed;
    testing_bundle(manifest, wasm, &packed);
    cal_app_memory memory;
    cal_app_input input = cal_app_input_memory(&memory, cal_buffer_slice(&packed));
    cal_bundle *bundle = NULL;
    cal_error err = {0};
    if (cal_bundle_open(&input, &bundle, &err) != 0) fail_msg("%s", err.message);
    size_t len = 0;
    char *text = yyjson_val_write(app_manifest_root(cal_bundle_manifest(bundle)), 0, &len);
    cal_buffer_init(ret_json, CAL_BUNDLE_MANIFEST_MAX);
    assert_int_equal(cal_buffer_append(ret_json, text, len), 0);
    free(text);
    cal_bundle_free(bundle);
    cal_buffer_deinit(&packed);
}

#endif
