/* Everything impure, behind one table: clocks, randomness, files, name resolution and outgoing
 * connections.
 *
 * `cal_os_posix()` is the real machine. `os/sim` is a seeded world: virtual time, repeatable
 * randomness and a disk that loses or tears what was not synced. Code above os/ reaches none of
 * these in any other way; sockets and timers of the running node belong to its libuv loop
 * (src/node, src/api), whose protocol code takes bytes and times as arguments.
 *
 * Every function may be called from any thread. Functions return 0 or a CAL_E* (CAL_EFULL for a
 * full disk or quota, CAL_ENOTFOUND for a missing file, CAL_EBUSY for a lock held elsewhere,
 * otherwise CAL_EIO). */
#ifndef CAL_OS_H
#define CAL_OS_H

#include "base/buffer.h"
#include "base/bytes.h"
#include "calimero/error.h"

typedef struct cal_os cal_os;
typedef struct cal_os_file cal_os_file; /* opaque; its first member is the table that made it */

enum {
    CAL_OS_READ = 1,      /* open for reading */
    CAL_OS_WRITE = 2,     /* open for reading and writing */
    CAL_OS_CREATE = 4,    /* create when missing, mode 0600 */
    CAL_OS_EXCLUSIVE = 8, /* with CREATE: fail with CAL_EEXISTS when present */
    CAL_OS_TRUNCATE = 16,
};

enum { CAL_OS_ADDRESS_MAX = 16, CAL_OS_ADDRESSES_MAX = 16 };

/* An IP address: 4 or 16 bytes in network order. */
typedef struct cal_os_address {
    uint8_t bytes[CAL_OS_ADDRESS_MAX];
    uint8_t len; /* 4 or 16 */
} cal_os_address;

typedef struct cal_os_stat {
    uint64_t size; /* bytes */
    bool directory;
    bool special;  /* a pipe, socket or device: open refuses it */
    uint32_t mode; /* permission bits */
} cal_os_stat;

struct cal_os {
    void *user;

    uint64_t (*wall_ns)(void *user); /* since the Unix epoch; may jump */
    uint64_t (*mono_ns)(void *user); /* never goes back */
    void (*random)(void *user, void *ret_bytes,
                   size_t len); /* cryptographic; aborts rather than fail */

    /* Regular files only: CAL_EINVAL for anything else, and no waiting for the other end of a pipe.
     */
    int (*open)(void *user, const char *path, int flags, cal_os_file **ret_file);
    void (*close)(cal_os_file *file);
    int (*read_at)(cal_os_file *file, uint64_t offset, void *ret_bytes, size_t len,
                   size_t *ret_len); /* short at the end */
    int (*write_at)(cal_os_file *file, uint64_t offset, const void *bytes, size_t len);
    int (*truncate)(cal_os_file *file, uint64_t size);
    int (*sync)(cal_os_file *file); /* data and size survive power loss once this returns 0 */
    int (*size)(cal_os_file *file, uint64_t *ret_size);
    int (*lock)(cal_os_file *file); /* exclusive among processes, until closed; CAL_EBUSY */

    int (*stat)(void *user, const char *path, cal_os_stat *ret_stat);
    int (*rename)(void *user, const char *from, const char *to);
    int (*remove)(void *user, const char *path);   /* a file or an empty directory */
    int (*make_dir)(void *user, const char *path); /* mode 0700; 0 when it exists */
    int (*sync_dir)(void *user,
                    const char *path); /* makes creations, renames and removals in it durable */

    /* The path without links, `.` and `..`; appends, no NUL. NULL where there are no links
     * (os/sim). */
    int (*real_path)(void *user, const char *path, cal_buffer *ret_path);

    /* Addresses of a host name, at most CAL_OS_ADDRESSES_MAX. Blocking: call from a worker.
     * CAL_EUNREACHABLE. */
    int (*resolve)(void *user, const char *host, cal_os_address *ret_addresses, size_t *ret_count);
    /* A connected, blocking TCP socket. Blocking: call from a worker. CAL_EUNREACHABLE or
     * CAL_ETIMEOUT. */
    int (*connect)(void *user, const cal_os_address *address, uint16_t port, uint32_t timeout_ms,
                   int *ret_socket);
};

/* The real machine. Static storage, never freed. */
const cal_os *cal_os_posix(void);

/* From now on a write of the calling thread to a socket whose other end is gone fails, instead of
 * SIGPIPE ending the process: libuv's writes have no flag for it. Each loop thread calls this. */
void cal_os_block_sigpipe(void);

/* Whole-file helpers over any table. Writing is atomic: a temporary neighbour, sync, rename, sync
 * of the folder. */
int cal_os_read_file(const cal_os *os, const char *path, size_t max, cal_buffer *ret_content,
                     cal_error *err);
int cal_os_write_file(const cal_os *os, const char *path, cal_slice content, cal_error *err);

/* Creates a folder and its missing parents. */
int cal_os_make_dirs(const cal_os *os, const char *path, cal_error *err);

#endif
