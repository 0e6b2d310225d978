/* Whole-file helpers over any cal_os table, see os.h. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "os/os.h"

enum { PATH_MAX_BYTES = 4096 };

int cal_os_read_file(const cal_os *os, const char *path, size_t max, cal_buffer *ret_content,
                     cal_error *err) {
    cal_os_file *file = NULL;
    int rc = os->open(os->user, path, CAL_OS_READ, &file);
    if (rc != 0) return cal_fail(err, rc, "cannot read %s: %s", path, cal_error_text(rc));
    uint64_t size = 0;
    rc = os->size(file, &size);
    if (rc == 0 && size > max) {
        os->close(file);
        return cal_fail(err, CAL_ELIMIT, "%s has %llu bytes, at most %zu are allowed", path,
                        (unsigned long long)size, max);
    }
    uint8_t *room = rc == 0 ? cal_buffer_reserve(ret_content, (size_t)size) : NULL;
    size_t got = 0;
    if (rc == 0) rc = room ? os->read_at(file, 0, room, (size_t)size, &got) : ret_content->error;
    os->close(file);
    if (rc != 0) return cal_fail(err, rc, "cannot read %s: %s", path, cal_error_text(rc));
    ret_content->len += got;
    return 0;
}

/* The folder part of a path, "." when there is none. */
static void folder_of(const char *path, char ret_folder[PATH_MAX_BYTES]) {
    const char *slash = strrchr(path, '/');
    if (!slash)
        snprintf(ret_folder, PATH_MAX_BYTES, ".");
    else
        snprintf(ret_folder, PATH_MAX_BYTES, "%.*s", slash == path ? 1 : (int)(slash - path), path);
}

int cal_os_write_file(const cal_os *os, const char *path, cal_slice content, cal_error *err) {
    char temporary[PATH_MAX_BYTES], folder[PATH_MAX_BYTES];
    if ((size_t)snprintf(temporary, sizeof temporary, "%s.new", path) >= sizeof temporary)
        return cal_fail(err, CAL_EINVAL, "the path %.60s... is too long", path);
    folder_of(path, folder);
    cal_os_file *file = NULL;
    int rc = os->open(os->user, temporary, CAL_OS_WRITE | CAL_OS_CREATE | CAL_OS_TRUNCATE, &file);
    if (rc == 0) {
        rc = os->write_at(file, 0, content.data, content.len);
        if (rc == 0) rc = os->sync(file);
        os->close(file);
        if (rc == 0) rc = os->rename(os->user, temporary, path);
        if (rc != 0) os->remove(os->user, temporary);
    }
    if (rc == 0) rc = os->sync_dir(os->user, folder);
    return rc == 0 ? 0 : cal_fail(err, rc, "cannot write %s: %s", path, cal_error_text(rc));
}

int cal_os_make_dirs(const cal_os *os, const char *path, cal_error *err) {
    char part[PATH_MAX_BYTES];
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof part)
        return cal_fail(err, CAL_EINVAL, "the folder path has %zu bytes, 1 to %zu are allowed", len,
                        sizeof part - 1);
    for (size_t i = 1; i <= len; i++) {
        if (path[i] != '/' && path[i] != 0) continue;
        memcpy(part, path, i);
        part[i] = 0;
        cal_os_stat stat;
        if (os->stat(os->user, part, &stat) == 0 && stat.directory) continue;
        int rc = os->make_dir(os->user, part);
        if (rc != 0)
            return cal_fail(err, rc, "cannot create the folder %s: %s", part, cal_error_text(rc));
    }
    return 0;
}
