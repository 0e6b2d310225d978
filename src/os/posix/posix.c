/* The real machine behind cal_os: clocks, getrandom, files. Resolution and connections are in
 * posix_net.c. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "os/posix/posix.h"

struct cal_os_file {
    const cal_os *os;
    int fd;
};

int cal_posix_code(int error_number) {
    switch (error_number) {
    case ENOENT:
    case ENOTDIR:
        return CAL_ENOTFOUND;
    case EEXIST:
        return CAL_EEXISTS;
    case EACCES:
    case EPERM:
    case EROFS:
        return CAL_EDENIED;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return CAL_EFULL;
    case ENOMEM:
        return CAL_ENOMEM;
    case EWOULDBLOCK:
        return CAL_EBUSY;
    default:
        return CAL_EIO;
    }
}

static uint64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t posix_wall_ns(void *user) {
    (void)user;
    return clock_ns(CLOCK_REALTIME);
}

static uint64_t posix_mono_ns(void *user) {
    (void)user;
    return clock_ns(CLOCK_MONOTONIC);
}

static void posix_random(void *user, void *ret_bytes, size_t len) {
    (void)user;
    uint8_t *at = ret_bytes;
    while (len > 0) {
        ssize_t got = getrandom(at, len, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) abort(); /* no safe way to go on without randomness */
        at += got;
        len -= (size_t)got;
    }
}

static int posix_open(void *user, const char *path, int flags, cal_os_file **ret_file) {
    (void)user;
    int mode = (flags & CAL_OS_WRITE) ? O_RDWR : O_RDONLY;
    if (flags & CAL_OS_CREATE) mode |= O_CREAT;
    if (flags & CAL_OS_EXCLUSIVE) mode |= O_EXCL;
    if (flags & CAL_OS_TRUNCATE) mode |= O_TRUNC;
    int fd = open(path, mode | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);
    if (fd < 0) return cal_posix_code(errno);
    struct stat found;
    int rc = fstat(fd, &found) != 0   ? cal_posix_code(errno)
             : S_ISREG(found.st_mode) ? 0
                                      : CAL_EINVAL;
    if (rc != 0) {
        close(fd);
        return rc;
    }
    cal_os_file *file = malloc(sizeof *file);
    if (!file) {
        close(fd);
        return CAL_ENOMEM;
    }
    *file = (cal_os_file){cal_os_posix(), fd};
    *ret_file = file;
    return 0;
}

static void posix_close(cal_os_file *file) {
    if (!file) return;
    close(file->fd);
    free(file);
}

static int posix_read_at(cal_os_file *file, uint64_t offset, void *ret_bytes, size_t len,
                         size_t *ret_len) {
    size_t done = 0;
    while (done < len) {
        ssize_t got =
            pread(file->fd, (uint8_t *)ret_bytes + done, len - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return cal_posix_code(errno);
        if (got == 0) break;
        done += (size_t)got;
    }
    *ret_len = done;
    return 0;
}

static int posix_write_at(cal_os_file *file, uint64_t offset, const void *bytes, size_t len) {
    size_t done = 0;
    while (done < len) {
        ssize_t put =
            pwrite(file->fd, (const uint8_t *)bytes + done, len - done, (off_t)(offset + done));
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return cal_posix_code(errno);
        done += (size_t)put;
    }
    return 0;
}

static int posix_truncate(cal_os_file *file, uint64_t size) {
    return ftruncate(file->fd, (off_t)size) == 0 ? 0 : cal_posix_code(errno);
}

static int posix_sync(cal_os_file *file) {
    return fdatasync(file->fd) == 0 ? 0 : cal_posix_code(errno);
}

static int posix_size(cal_os_file *file, uint64_t *ret_size) {
    struct stat stat;
    if (fstat(file->fd, &stat) != 0) return cal_posix_code(errno);
    *ret_size = (uint64_t)stat.st_size;
    return 0;
}

static int posix_lock(cal_os_file *file) {
    return flock(file->fd, LOCK_EX | LOCK_NB) == 0 ? 0 : cal_posix_code(errno);
}

static int posix_stat(void *user, const char *path, cal_os_stat *ret_stat) {
    (void)user;
    struct stat found;
    if (stat(path, &found) != 0) return cal_posix_code(errno);
    *ret_stat = (cal_os_stat){.size = (uint64_t)found.st_size,
                              .directory = S_ISDIR(found.st_mode),
                              .special = !S_ISDIR(found.st_mode) && !S_ISREG(found.st_mode),
                              .mode = (uint32_t)(found.st_mode & 07777)};
    return 0;
}

static int posix_rename(void *user, const char *from, const char *to) {
    (void)user;
    return rename(from, to) == 0 ? 0 : cal_posix_code(errno);
}

static int posix_remove(void *user, const char *path) {
    (void)user;
    return remove(path) == 0 ? 0 : cal_posix_code(errno);
}

static int posix_make_dir(void *user, const char *path) {
    (void)user;
    return mkdir(path, 0700) == 0 || errno == EEXIST ? 0 : cal_posix_code(errno);
}

static int posix_sync_dir(void *user, const char *path) {
    (void)user;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return cal_posix_code(errno);
    int rc = fsync(fd) == 0 ? 0 : cal_posix_code(errno);
    close(fd);
    return rc;
}

static int posix_real_path(void *user, const char *path, cal_buffer *ret_path) {
    (void)user;
    char *real = realpath(path, NULL);
    if (!real) return cal_posix_code(errno);
    int rc = cal_buffer_append_text(ret_path, real);
    free(real);
    return rc;
}

const cal_os *cal_os_posix(void) {
    static const cal_os posix = {
        .wall_ns = posix_wall_ns,
        .mono_ns = posix_mono_ns,
        .random = posix_random,
        .open = posix_open,
        .close = posix_close,
        .read_at = posix_read_at,
        .write_at = posix_write_at,
        .truncate = posix_truncate,
        .sync = posix_sync,
        .size = posix_size,
        .lock = posix_lock,
        .stat = posix_stat,
        .rename = posix_rename,
        .remove = posix_remove,
        .make_dir = posix_make_dir,
        .sync_dir = posix_sync_dir,
        .real_path = posix_real_path,
        .resolve = cal_posix_resolve,
        .connect = cal_posix_connect,
    };
    return &posix;
}
