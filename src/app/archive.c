/* Walking the gzip'ed tar inside a .mpk with libarchive, and nothing else of it: one gzip layer,
 * tar only.
 *
 * The bytes are hostile. All of it is streamed; decompressed bytes are counted below the tar reader
 * after every step, so a bomb costs at most its limit (plus one header block) of time and no
 * memory; what is not asked for is read in pieces and dropped. Links, devices, sparse files and
 * paths that leave the archive end the walk: no honest tool writes them. One thread at a time for
 * each walk. runtime-abi.md 25. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>

#include "app/internal.h"

struct app_archive {
    struct archive *tar;
    struct archive_entry *entry;
    const cal_app_input *input;
    int input_error; /* what the input answered, to be told from a malformed archive */
    uint64_t limit;
    uint8_t chunk[APP_IO_CHUNK];
};

static la_ssize_t read_input(struct archive *tar, void *user, const void **ret_bytes) {
    app_archive *archive = user;
    int64_t len = archive->input->read(archive->input->user, archive->chunk, sizeof archive->chunk);
    if (len < 0) {
        archive->input_error = (int)len;
        archive_set_error(tar, EIO, "%s", cal_error_text((int)len));
        return -1;
    }
    *ret_bytes = archive->chunk;
    return (la_ssize_t)len;
}

static int broken(app_archive *archive, cal_error *err) {
    if (archive->input_error)
        return cal_fail(err, archive->input_error, "cannot read the bundle: %s",
                        cal_error_text(archive->input_error));
    const char *why = archive_error_string(archive->tar);
    return cal_fail(err, CAL_EDECODE, "the bundle is not a sound .mpk (a tar inside gzip): %.200s",
                    why ? why : "malformed");
}

static int check_limit(app_archive *archive, cal_error *err) {
    int64_t unpacked = archive_filter_bytes(archive->tar, 0);
    if (unpacked >= 0 && (uint64_t)unpacked <= archive->limit) return 0;
    return cal_fail(err, CAL_ELIMIT, "the bundle unpacks to more than %llu bytes",
                    (unsigned long long)archive->limit);
}

static int open_archive(app_archive *archive, cal_error *err) {
    int rc = archive->input->rewind(archive->input->user);
    if (rc != 0) return cal_fail(err, rc, "cannot read the bundle: %s", cal_error_text(rc));
    archive->tar = archive_read_new();
    if (!archive->tar) return cal_fail(err, CAL_ENOMEM, "out of memory reading the bundle");
    archive_read_support_filter_gzip(archive->tar);
    archive_read_support_format_tar(archive->tar);
    if (archive_read_open(archive->tar, archive, NULL, read_input, NULL) != ARCHIVE_OK)
        return broken(archive, err);
    /* libarchive would peel any number of gzip layers, or none: the outermost filter is ours, the
     * other is the input. */
    if (archive_filter_count(archive->tar) != 2 ||
        archive_filter_code(archive->tar, 0) != ARCHIVE_FILTER_GZIP)
        return cal_fail(err, CAL_EDECODE,
                        "the bundle is not a sound .mpk: it must be a tar inside one gzip layer");
    return 0;
}

/* One piece of the entry at hand; ret_len 0 at its end. */
static int next_block(app_archive *archive, uint64_t at, const void **ret_block, size_t *ret_len,
                      cal_error *err) {
    la_int64_t offset = 0;
    *ret_len = 0;
    int rc = archive_read_data_block(archive->tar, ret_block, ret_len, &offset);
    if (rc == ARCHIVE_EOF) {
        *ret_len = 0;
        return check_limit(archive, err);
    }
    if (rc < ARCHIVE_WARN) return broken(archive, err);
    if (*ret_len > 0 && (uint64_t)offset != at)
        return cal_fail(err, CAL_EDECODE, "the bundle holds a sparse file: pack it without holes");
    return check_limit(archive, err);
}

static int skip_content(app_archive *archive, cal_error *err) {
    uint64_t at = 0;
    const void *block = NULL;
    for (;;) {
        size_t len = 0;
        int rc = next_block(archive, at, &block, &len, err);
        if (rc != 0 || len == 0) return rc;
        at += len;
    }
}

int app_archive_read(app_archive *archive, const char *path, size_t max, cal_buffer *ret_content,
                     cal_error *err) {
    uint64_t at = 0;
    const void *block = NULL;
    for (;;) {
        size_t len = 0;
        int rc = next_block(archive, at, &block, &len, err);
        if (rc != 0) return rc;
        if (len == 0) break;
        if (len > max - at)
            return cal_fail(err, CAL_ELIMIT, "the bundle's %s is larger than %zu bytes", path, max);
        rc = cal_buffer_append(ret_content, block, len);
        if (rc != 0)
            return cal_fail(err, rc, "cannot hold the bundle's %s: %s", path, cal_error_text(rc));
        at += len;
    }
    if (archive_entry_size(archive->entry) != (la_int64_t)at)
        return cal_fail(err, CAL_EDECODE, "the bundle's %s is shorter than its header says", path);
    return 0;
}

/* Regular files and folders with a path inside. Sets ret_file for the former. */
static int check_entry(app_archive *archive, char ret_path[APP_ENTRY_PATH_MAX], bool *ret_file,
                       cal_error *err) {
    struct archive_entry *entry = archive->entry;
    /* The raw bytes of the header; of a pax header, which is UTF-8, the other form when the locale
     * has none. */
    const char *path = archive_entry_pathname(entry);
    if (!path) path = archive_entry_pathname_utf8(entry);
    if (!path) return cal_fail(err, CAL_EDECODE, "the bundle has an entry without a readable path");
    bool folder = archive_entry_filetype(entry) == AE_IFDIR;
    bool file = archive_entry_filetype(entry) == AE_IFREG && !archive_entry_hardlink(entry) &&
                !archive_entry_symlink(entry);
    if (!folder && !file)
        return cal_fail(
            err, CAL_EDECODE,
            "the bundle's entry \"%.100s\" is a link or a device: only files may be packed", path);
    if (file && archive_entry_sparse_count(entry) > 0)
        return cal_fail(err, CAL_EDECODE,
                        "the bundle's entry \"%.100s\" is a sparse file: pack it without holes",
                        path);
    bool root = folder && (strcmp(path, "./") == 0 || strcmp(path, ".") == 0);
    if (!root && !app_clean_path(path, ret_path))
        return cal_fail(err, CAL_EDECODE,
                        "the bundle's entry \"%.100s\" is not a relative path inside it", path);
    *ret_file = file;
    return 0;
}

static int walk_entries(app_archive *archive, app_archive_file file, void *user, cal_error *err) {
    for (unsigned count = 0;; count++) {
        int rc = archive_read_next_header(archive->tar, &archive->entry);
        if (rc == ARCHIVE_EOF) return check_limit(archive, err);
        if (rc < ARCHIVE_WARN) return broken(archive, err);
        if (count >= CAL_BUNDLE_ENTRIES_MAX)
            return cal_fail(err, CAL_ELIMIT, "the bundle has more than %d entries",
                            CAL_BUNDLE_ENTRIES_MAX);
        char path[APP_ENTRY_PATH_MAX] = "";
        bool is_file = false;
        rc = check_limit(archive, err);
        if (rc == 0) rc = check_entry(archive, path, &is_file, err);
        if (rc == 0 && is_file) rc = file(user, archive, path, err);
        if (rc == 0) rc = skip_content(archive, err);
        if (rc == APP_ARCHIVE_STOP) return 0;
        if (rc != 0) return rc;
    }
}

int app_archive_walk(const cal_app_input *input, uint64_t limit, app_archive_file file, void *user,
                     cal_error *err) {
    app_archive *archive = calloc(1, sizeof *archive);
    if (!archive) return cal_fail(err, CAL_ENOMEM, "out of memory reading the bundle");
    archive->input = input;
    archive->limit = limit;
    int rc = open_archive(archive, err);
    if (rc == 0) rc = walk_entries(archive, file, user, err);
    archive_read_free(archive->tar);
    free(archive);
    return rc;
}

/* --- an input over memory --- */
static int memory_rewind(void *user) {
    cal_app_memory *memory = user;
    memory->at = 0;
    return 0;
}

static int64_t memory_read(void *user, uint8_t *ret_bytes, size_t len) {
    cal_app_memory *memory = user;
    size_t left = memory->bytes.len - memory->at;
    if (len > left) len = left;
    if (len) memcpy(ret_bytes, memory->bytes.data + memory->at, len);
    memory->at += len;
    return (int64_t)len;
}

cal_app_input cal_app_input_memory(cal_app_memory *state, cal_slice bytes) {
    *state = (cal_app_memory){.bytes = bytes};
    return (cal_app_input){.user = state, .rewind = memory_rewind, .read = memory_read};
}
