/* A SQLite VFS over a cal_os table.
 *
 * Why one of our own also on the real machine: one code path, so that what os/sim tears and drops
 * is what users run; flushes are fdatasync (cal_os.sync) where SQLite's own layer, as built in the
 * native library, calls fsync; and neither file locks nor a shared-memory file are needed, because
 * the store's lock file admits one process and these live on the heap.
 *
 * Invariants: a node is shared by all connections to one path and lives while one of them is open.
 * Locks follow SQLite's protocol (SHARED < RESERVED < PENDING < EXCLUSIVE for the file, eight
 * shared-or-exclusive slots for the write-ahead log). All node fields are under the vfs mutex; a
 * region, once handed out, stays where it is until the last user unmaps. Any thread. */
#include "store/vfs.h"

#include <assert.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    VFS_PATH_MAX = 4096,
    VFS_SECTOR_SIZE = 4096,
    VFS_LOG_PIECE = 512 * 1024,
    VFS_REGIONS_MAX = 4096, /* of 32 KiB each: a log of 16 million pages */
};

typedef struct vfs_node {
    struct vfs_node *next;
    char *path;
    uint32_t files; /* open database files */
    uint32_t shared;
    const void *reserved, *pending, *exclusive; /* the file that holds it */
    uint32_t mapped;                            /* files that use the shared memory */
    void **regions;
    int region_count;
    int slots[SQLITE_SHM_NLOCK]; /* readers, or -1 when exclusive */
} vfs_node;

struct cal_vfs {
    sqlite3_vfs base;
    const cal_os *os;
    char name[32];
    pthread_mutex_t mutex;
    vfs_node *nodes;
};

typedef struct vfs_file {
    sqlite3_file base;
    cal_vfs *vfs;
    cal_os_file *file;
    vfs_node *node; /* NULL for a log or journal */
    char *path;
    int level; /* SQLITE_LOCK_* */
    uint16_t shared_mask, exclusive_mask;
    bool mapped;
    bool dir_sync; /* created here and not yet durable in its folder */
    bool delete_on_close;
    bool log;           /* the write-ahead log */
    uint64_t allocated; /* of it: bytes that are known to be in the file */
} vfs_file;

/* SQLCipher decrypts a page even when reading it failed, and then reports what it found there as
 * damage: the engine asks here. */
static _Thread_local int vfs_failure;

int cal_vfs_take_failure(void) {
    int failure = vfs_failure;
    vfs_failure = 0;
    return failure;
}

static int vfs_result(int error, int otherwise) {
    switch (error) {
    case 0:
        return SQLITE_OK;
    case CAL_EFULL:
        return SQLITE_FULL;
    case CAL_ENOMEM:
        return SQLITE_IOERR_NOMEM;
    default:
        return otherwise;
    }
}

static int vfs_sync_parent(cal_vfs *vfs, const char *path) {
    char folder[VFS_PATH_MAX + 1];
    const char *slash = strrchr(path, '/');
    if (!slash) return vfs->os->sync_dir(vfs->os->user, ".");
    size_t len = slash == path ? 1 : (size_t)(slash - path);
    if (len > VFS_PATH_MAX) return CAL_EINVAL;
    memcpy(folder, path, len);
    folder[len] = 0;
    return vfs->os->sync_dir(vfs->os->user, folder);
}

/* --- nodes --- */

static vfs_node *vfs_node_ref(cal_vfs *vfs, const char *path) {
    pthread_mutex_lock(&vfs->mutex);
    vfs_node *node = vfs->nodes;
    while (node && strcmp(node->path, path) != 0) node = node->next;
    if (!node) {
        node = calloc(1, sizeof *node);
        if (node) node->path = strdup(path);
        if (node && !node->path) {
            free(node);
            node = NULL;
        }
        if (node) {
            node->next = vfs->nodes;
            vfs->nodes = node;
        }
    }
    if (node) node->files++;
    pthread_mutex_unlock(&vfs->mutex);
    return node;
}

static void vfs_node_drop_regions(vfs_node *node) {
    for (int i = 0; i < node->region_count; i++) free(node->regions[i]);
    free(node->regions);
    node->regions = NULL;
    node->region_count = 0;
}

static void vfs_node_unref(cal_vfs *vfs, vfs_node *node) {
    pthread_mutex_lock(&vfs->mutex);
    if (--node->files == 0) {
        assert(node->mapped == 0);
        vfs_node **at = &vfs->nodes;
        while (*at != node) at = &(*at)->next;
        *at = node->next;
        vfs_node_drop_regions(node);
        free(node->path);
        free(node);
    }
    pthread_mutex_unlock(&vfs->mutex);
}

/* --- file locks --- */

static int vfs_lock(sqlite3_file *base, int level) {
    vfs_file *f = (vfs_file *)base;
    vfs_node *node = f->node;
    if (!node || f->level >= level) return SQLITE_OK;
    int rc = SQLITE_OK;
    pthread_mutex_lock(&f->vfs->mutex);
    if (f->level == SQLITE_LOCK_NONE) {
        if (node->pending || node->exclusive) {
            rc = SQLITE_BUSY;
        } else {
            node->shared++;
            f->level = SQLITE_LOCK_SHARED;
        }
    }
    if (rc == SQLITE_OK && level >= SQLITE_LOCK_RESERVED && node->reserved != f) {
        if (node->reserved || (node->pending && node->pending != f)) {
            rc = SQLITE_BUSY;
        } else {
            node->reserved = f;
            f->level = SQLITE_LOCK_RESERVED;
        }
    }
    if (rc == SQLITE_OK && level == SQLITE_LOCK_EXCLUSIVE) {
        if (node->shared > 1) {
            node->pending = f;
            f->level = SQLITE_LOCK_PENDING;
            rc = SQLITE_BUSY;
        } else {
            node->pending = NULL;
            node->exclusive = f;
            f->level = SQLITE_LOCK_EXCLUSIVE;
        }
    }
    pthread_mutex_unlock(&f->vfs->mutex);
    return rc;
}

static int vfs_unlock(sqlite3_file *base, int level) {
    vfs_file *f = (vfs_file *)base;
    vfs_node *node = f->node;
    if (!node || f->level <= level) return SQLITE_OK;
    pthread_mutex_lock(&f->vfs->mutex);
    if (node->exclusive == f) node->exclusive = NULL;
    if (node->pending == f) node->pending = NULL;
    if (node->reserved == f) node->reserved = NULL;
    if (level == SQLITE_LOCK_NONE) node->shared--;
    f->level = level;
    pthread_mutex_unlock(&f->vfs->mutex);
    return SQLITE_OK;
}

static int vfs_check_reserved(sqlite3_file *base, int *ret_held) {
    vfs_file *f = (vfs_file *)base;
    *ret_held = 0;
    if (!f->node) return SQLITE_OK;
    pthread_mutex_lock(&f->vfs->mutex);
    *ret_held = f->node->reserved || f->node->exclusive || f->node->pending;
    pthread_mutex_unlock(&f->vfs->mutex);
    return SQLITE_OK;
}

/* --- shared memory of the write-ahead log --- */

static int vfs_regions_grow(vfs_node *node, int count, int size) {
    if (count > VFS_REGIONS_MAX) return SQLITE_IOERR_SHMSIZE;
    void **regions = realloc(node->regions, (size_t)count * sizeof *regions);
    if (!regions) return SQLITE_IOERR_NOMEM;
    node->regions = regions;
    while (node->region_count < count) {
        void *region = calloc(1, (size_t)size);
        if (!region) return SQLITE_IOERR_NOMEM;
        node->regions[node->region_count++] = region;
    }
    return SQLITE_OK;
}

static int vfs_shm_map(sqlite3_file *base, int region, int size, int extend,
                       void volatile **ret_memory) {
    vfs_file *f = (vfs_file *)base;
    vfs_node *node = f->node;
    *ret_memory = NULL;
    if (!node) return SQLITE_IOERR_SHMMAP;
    int rc = SQLITE_OK;
    pthread_mutex_lock(&f->vfs->mutex);
    if (!f->mapped) {
        f->mapped = true;
        node->mapped++;
    }
    if (region >= node->region_count && extend) rc = vfs_regions_grow(node, region + 1, size);
    if (rc == SQLITE_OK && region < node->region_count) *ret_memory = node->regions[region];
    pthread_mutex_unlock(&f->vfs->mutex);
    return rc;
}

static int vfs_shm_take(vfs_node *node, int offset, int count, bool shared) {
    for (int i = offset; i < offset + count; i++) {
        if (shared ? node->slots[i] < 0 : node->slots[i] != 0) return SQLITE_BUSY;
    }
    for (int i = offset; i < offset + count; i++) node->slots[i] = shared ? node->slots[i] + 1 : -1;
    return SQLITE_OK;
}

static int vfs_shm_lock(sqlite3_file *base, int offset, int count, int flags) {
    vfs_file *f = (vfs_file *)base;
    vfs_node *node = f->node;
    if (!node || !f->mapped) return SQLITE_IOERR_SHMLOCK;
    assert(offset >= 0 && count >= 1 && offset + count <= SQLITE_SHM_NLOCK);
    uint16_t mask = (uint16_t)((1u << (offset + count)) - (1u << offset));
    int rc = SQLITE_OK;
    pthread_mutex_lock(&f->vfs->mutex);
    if (flags & SQLITE_SHM_UNLOCK) {
        for (int i = offset; i < offset + count; i++) {
            if (f->exclusive_mask & (1u << i))
                node->slots[i] = 0;
            else if (f->shared_mask & (1u << i))
                node->slots[i]--;
        }
        f->shared_mask &= (uint16_t)~mask;
        f->exclusive_mask &= (uint16_t)~mask;
    } else if (flags & SQLITE_SHM_SHARED) {
        if (!(f->shared_mask & mask)) rc = vfs_shm_take(node, offset, count, true);
        if (rc == SQLITE_OK) f->shared_mask |= mask;
    } else {
        rc = vfs_shm_take(node, offset, count, false);
        if (rc == SQLITE_OK) f->exclusive_mask |= mask;
    }
    pthread_mutex_unlock(&f->vfs->mutex);
    return rc;
}

static void vfs_shm_barrier(sqlite3_file *base) {
    vfs_file *f = (vfs_file *)base;
    atomic_thread_fence(memory_order_seq_cst);
    pthread_mutex_lock(&f->vfs->mutex); /* the thread sanitizer does not see fences */
    pthread_mutex_unlock(&f->vfs->mutex);
}

static int vfs_shm_unmap(sqlite3_file *base, int delete_flag) {
    vfs_file *f = (vfs_file *)base;
    (void)delete_flag; /* nothing of it is on disk */
    if (!f->mapped) return SQLITE_OK;
    pthread_mutex_lock(&f->vfs->mutex);
    for (int i = 0; i < SQLITE_SHM_NLOCK; i++) {
        if (f->exclusive_mask & (1u << i))
            f->node->slots[i] = 0;
        else if (f->shared_mask & (1u << i))
            f->node->slots[i]--;
    }
    f->shared_mask = f->exclusive_mask = 0;
    f->mapped = false;
    if (--f->node->mapped == 0) vfs_node_drop_regions(f->node);
    pthread_mutex_unlock(&f->vfs->mutex);
    return SQLITE_OK;
}

/* --- bytes --- */

static int vfs_close(sqlite3_file *base) {
    vfs_file *f = (vfs_file *)base;
    vfs_shm_unmap(base, 0);
    vfs_unlock(base, SQLITE_LOCK_NONE);
    f->vfs->os->close(f->file);
    if (f->delete_on_close) f->vfs->os->remove(f->vfs->os->user, f->path);
    if (f->node) vfs_node_unref(f->vfs, f->node);
    free(f->path);
    return SQLITE_OK;
}

static int vfs_read(sqlite3_file *base, void *ret_bytes, int len, sqlite3_int64 offset) {
    vfs_file *f = (vfs_file *)base;
    size_t got = 0;
    int error = f->vfs->os->read_at(f->file, (uint64_t)offset, ret_bytes, (size_t)len, &got);
    if (error) {
        vfs_failure = error;
        return SQLITE_IOERR_READ;
    }
    if (got == (size_t)len) return SQLITE_OK;
    memset((uint8_t *)ret_bytes + got, 0, (size_t)len - got); /* SQLite asks for this */
    return SQLITE_IOERR_SHORT_READ;
}

/* A flush of bytes that make the file longer costs about twice one of bytes that lie inside it: the
 * file system then has its own log to write. So the write-ahead log grows by zeros a piece at a
 * time, and commits write inside. Frames that are not valid yet end a recovery whatever they hold.
 * Failing is no failure: the write itself decides. */
static void vfs_grow_log(vfs_file *f, uint64_t end) {
    static const uint8_t zeros[VFS_LOG_PIECE];
    if (end <= f->allocated) return;
    uint64_t size = 0;
    if (f->vfs->os->size(f->file, &size)) return;
    while (size < end && f->vfs->os->write_at(f->file, size, zeros, sizeof zeros) == 0)
        size += sizeof zeros;
    f->allocated = size;
}

static int vfs_write(sqlite3_file *base, const void *bytes, int len, sqlite3_int64 offset) {
    vfs_file *f = (vfs_file *)base;
    if (f->log) vfs_grow_log(f, (uint64_t)offset + (uint64_t)len);
    int error = f->vfs->os->write_at(f->file, (uint64_t)offset, bytes, (size_t)len);
    return vfs_result(error, SQLITE_IOERR_WRITE);
}

static int vfs_truncate(sqlite3_file *base, sqlite3_int64 size) {
    vfs_file *f = (vfs_file *)base;
    f->allocated = 0; /* asked again at the next write */
    return vfs_result(f->vfs->os->truncate(f->file, (uint64_t)size), SQLITE_IOERR_TRUNCATE);
}

static int vfs_sync(sqlite3_file *base, int flags) {
    vfs_file *f = (vfs_file *)base;
    (void)flags;
    int error = f->vfs->os->sync(f->file);
    if (error) return vfs_result(error, SQLITE_IOERR_FSYNC);
    if (f->dir_sync) {
        error = vfs_sync_parent(f->vfs, f->path);
        if (error) return vfs_result(error, SQLITE_IOERR_DIR_FSYNC);
        f->dir_sync = false;
    }
    return SQLITE_OK;
}

static int vfs_size(sqlite3_file *base, sqlite3_int64 *ret_size) {
    vfs_file *f = (vfs_file *)base;
    uint64_t size = 0;
    int error = f->vfs->os->size(f->file, &size);
    if (error) return SQLITE_IOERR_FSTAT;
    *ret_size = (sqlite3_int64)size;
    return SQLITE_OK;
}

static int vfs_control(sqlite3_file *base, int op, void *arg) {
    (void)base, (void)op, (void)arg;
    return SQLITE_NOTFOUND;
}

static int vfs_sector_size(sqlite3_file *base) {
    (void)base;
    return VFS_SECTOR_SIZE;
}

static int vfs_characteristics(sqlite3_file *base) {
    (void)base;
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE; /* a torn write spoils no byte outside of it: SQLite's
                                                own default */
}

static const sqlite3_io_methods vfs_methods = {
    .iVersion = 2,
    .xClose = vfs_close,
    .xRead = vfs_read,
    .xWrite = vfs_write,
    .xTruncate = vfs_truncate,
    .xSync = vfs_sync,
    .xFileSize = vfs_size,
    .xLock = vfs_lock,
    .xUnlock = vfs_unlock,
    .xCheckReservedLock = vfs_check_reserved,
    .xFileControl = vfs_control,
    .xSectorSize = vfs_sector_size,
    .xDeviceCharacteristics = vfs_characteristics,
    .xShmMap = vfs_shm_map,
    .xShmLock = vfs_shm_lock,
    .xShmBarrier = vfs_shm_barrier,
    .xShmUnmap = vfs_shm_unmap,
};

/* --- the file system --- */

static int vfs_open(sqlite3_vfs *base, const char *path, sqlite3_file *file, int flags,
                    int *ret_flags) {
    cal_vfs *vfs = (cal_vfs *)base;
    const cal_os *os = vfs->os;
    vfs_file *f = (vfs_file *)file;
    memset(f, 0, sizeof *f);           /* without methods SQLite does not close it */
    if (!path) return SQLITE_CANTOPEN; /* temporary files: temp_store keeps them in memory */
    int open_flags = flags & SQLITE_OPEN_READWRITE ? CAL_OS_WRITE : CAL_OS_READ;
    bool create = flags & SQLITE_OPEN_CREATE;
    cal_os_stat stat;
    bool missing = os->stat(os->user, path, &stat) == CAL_ENOTFOUND;
    if (missing && !create) return SQLITE_CANTOPEN;
    if (create) open_flags |= CAL_OS_CREATE;
    if (create && (flags & SQLITE_OPEN_EXCLUSIVE)) open_flags |= CAL_OS_EXCLUSIVE;
    f->vfs = vfs;
    f->path = strdup(path);
    if (!f->path) return SQLITE_NOMEM;
    if (flags & SQLITE_OPEN_MAIN_DB) f->node = vfs_node_ref(vfs, path);
    int error = CAL_ENOMEM;
    if (f->node || !(flags & SQLITE_OPEN_MAIN_DB))
        error = os->open(os->user, path, open_flags, &f->file);
    if (error) {
        if (f->node) vfs_node_unref(vfs, f->node);
        free(f->path);
        return vfs_result(error, SQLITE_CANTOPEN);
    }
    f->dir_sync = missing;
    f->log = flags & SQLITE_OPEN_WAL;
    f->delete_on_close = flags & SQLITE_OPEN_DELETEONCLOSE;
    f->base.pMethods = &vfs_methods;
    if (ret_flags) *ret_flags = flags;
    return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *base, const char *path, int sync_dir) {
    cal_vfs *vfs = (cal_vfs *)base;
    int error = vfs->os->remove(vfs->os->user, path);
    if (error == CAL_ENOTFOUND) return SQLITE_IOERR_DELETE_NOENT;
    if (!error && sync_dir) error = vfs_sync_parent(vfs, path);
    return error ? SQLITE_IOERR_DELETE : SQLITE_OK;
}

static int vfs_access(sqlite3_vfs *base, const char *path, int flags, int *ret_yes) {
    cal_vfs *vfs = (cal_vfs *)base;
    cal_os_stat stat;
    int error = vfs->os->stat(vfs->os->user, path, &stat);
    if (error && error != CAL_ENOTFOUND) return SQLITE_IOERR_ACCESS;
    *ret_yes =
        !error && (flags != SQLITE_ACCESS_EXISTS || stat.size > 0); /* as SQLite's unix layer */
    return SQLITE_OK;
}

static int vfs_full_path(sqlite3_vfs *base, const char *path, int size, char *ret_path) {
    (void)base;
    size_t len = strlen(path);
    if (len + 1 > (size_t)size) return SQLITE_CANTOPEN;
    memcpy(ret_path, path, len + 1);
    return SQLITE_OK;
}

static int vfs_randomness(sqlite3_vfs *base, int len, char *ret_bytes) {
    cal_vfs *vfs = (cal_vfs *)base;
    vfs->os->random(vfs->os->user, ret_bytes, (size_t)len);
    return len;
}

static int vfs_sleep(sqlite3_vfs *base, int us) {
    (void)base;
    struct timespec time = {us / 1000000, (us % 1000000) * 1000L};
    nanosleep(&time,
              NULL); /* a thread of ours steps aside for another; no protocol time is involved */
    return us;
}

static int vfs_time(sqlite3_vfs *base, sqlite3_int64 *ret_ms) {
    cal_vfs *vfs = (cal_vfs *)base;
    const sqlite3_int64 julian_epoch_ms = 24405875LL * 8640000LL;
    *ret_ms = julian_epoch_ms + (sqlite3_int64)(vfs->os->wall_ns(vfs->os->user) / 1000000);
    return SQLITE_OK;
}

static int vfs_last_error(sqlite3_vfs *base, int len, char *text) {
    (void)base, (void)len, (void)text;
    return 0;
}

int cal_vfs_new(const cal_os *os, cal_vfs **ret_vfs) {
    static atomic_uint next;
    cal_vfs *vfs = calloc(1, sizeof *vfs);
    if (!vfs) return CAL_ENOMEM;
    vfs->os = os;
    snprintf(vfs->name, sizeof vfs->name, "calimero-%u", atomic_fetch_add(&next, 1));
    pthread_mutex_init(&vfs->mutex, NULL);
    vfs->base = (sqlite3_vfs){
        .iVersion = 2,
        .szOsFile = sizeof(vfs_file),
        .mxPathname = VFS_PATH_MAX,
        .zName = vfs->name,
        .xOpen = vfs_open,
        .xDelete = vfs_delete,
        .xAccess = vfs_access,
        .xFullPathname = vfs_full_path,
        .xRandomness = vfs_randomness,
        .xSleep = vfs_sleep,
        .xGetLastError = vfs_last_error,
        .xCurrentTimeInt64 = vfs_time,
    };
    if (sqlite3_vfs_register(&vfs->base, 0) != SQLITE_OK) {
        pthread_mutex_destroy(&vfs->mutex);
        free(vfs);
        return CAL_EINTERNAL;
    }
    *ret_vfs = vfs;
    return 0;
}

void cal_vfs_free(cal_vfs *vfs) {
    if (!vfs) return;
    assert(!vfs->nodes);
    sqlite3_vfs_unregister(&vfs->base);
    pthread_mutex_destroy(&vfs->mutex);
    free(vfs);
}

const char *cal_vfs_name(const cal_vfs *vfs) { return vfs->name; }
