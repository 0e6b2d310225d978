/* The simulated disk.
 *
 * An inode has its content now, its content at the last sync, and the changes between the two in
 * order; a folder's names are kept flat, as whole paths, once as they are now and once as they are
 * durable, with the moves between the two in order. Power on builds the present from the durable
 * state and whatever of the changes the seed lets through.
 *
 * The operation at which the power is ordered to go off takes effect as an unsynced change and
 * answers CAL_EIO: its caller cannot know. All functions here hold the world's mutex; memory that
 * runs out ends the test process. */
#include "os/sim/internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

static void *sim_must(void *memory) {
    if (!memory) abort(); /* only tests run here */
    return memory;
}

/* --- bytes --- */

static void sim_resize(sim_bytes *bytes, size_t len) {
    if (len > bytes->capacity) {
        bytes->capacity = len * 2 > 4096 ? len * 2 : 4096;
        bytes->data = sim_must(realloc(bytes->data, bytes->capacity));
    }
    if (len > bytes->len) memset(bytes->data + bytes->len, 0, len - bytes->len);
    bytes->len = len;
}

static void sim_write(sim_bytes *bytes, uint64_t offset, const uint8_t *data, size_t len) {
    if (len == 0) return;
    if (offset + len > bytes->len) sim_resize(bytes, (size_t)offset + len);
    memcpy(bytes->data + offset, data, len);
}

static void sim_copy(sim_bytes *to, const sim_bytes *from) {
    to->len = 0;
    sim_resize(to, from->len);
    if (from->len) memcpy(to->data, from->data, from->len);
}

/* --- inodes and names --- */

static sim_inode *sim_inode_new(bool directory) {
    sim_inode *inode = sim_must(calloc(1, sizeof *inode));
    inode->directory = directory;
    cal_list_init(&inode->changes);
    return inode;
}

static void sim_forget_changes(sim_inode *inode) {
    cal_list *node;
    while ((node = cal_list_pop(&inode->changes))) free(CAL_CONTAINER_OF(node, sim_change, node));
}

static void sim_unref(cal_sim *sim, sim_inode *inode) {
    if (--inode->refs > 0) return;
    sim->used -= inode->now.len;
    sim_forget_changes(inode);
    free(inode->now.data);
    free(inode->synced.data);
    free(inode);
}

sim_inode *sim_find(const sim_name *names, const char *path) {
    for (const sim_name *name = names; name; name = name->next) {
        if (strcmp(name->path, path) == 0) return name->inode;
    }
    return NULL;
}

static void sim_unname(cal_sim *sim, sim_name **names, const char *path) {
    for (sim_name **at = names; *at; at = &(*at)->next) {
        if (strcmp((*at)->path, path) != 0) continue;
        sim_name *name = *at;
        *at = name->next;
        sim_unref(sim, name->inode);
        free(name);
        return;
    }
}

static void sim_name_as(cal_sim *sim, sim_name **names, const char *path, sim_inode *inode) {
    inode->refs++; /* before the old name goes: it may be this very inode's */
    sim_unname(sim, names, path);
    size_t len = strlen(path) + 1;
    sim_name *name = sim_must(malloc(sizeof *name + len));
    memcpy(name->path, path, len);
    name->inode = inode;
    name->next = *names;
    *names = name;
}

/* "a//b/./" as "a/b", so that a file has one name. */
static int sim_normal(const char *path, char ret_path[SIM_PATH_MAX]) {
    size_t at = 0;
    if (path[0] == '/') ret_path[at++] = '/';
    while (*path) {
        while (*path == '/') path++;
        size_t len = strcspn(path, "/");
        if (len == 0) break;
        if (!(len == 1 && path[0] == '.')) {
            bool separate = at > 0 && ret_path[at - 1] != '/';
            if (at + len + 2 > SIM_PATH_MAX) return CAL_EINVAL;
            if (separate) ret_path[at++] = '/';
            memcpy(ret_path + at, path, len);
            at += len;
        }
        path += len;
    }
    if (at == 0) ret_path[at++] = '.';
    ret_path[at] = 0;
    return 0;
}

static void sim_parent(const char *path, char ret_parent[SIM_PATH_MAX]) {
    const char *slash = strrchr(path, '/');
    if (!slash)
        snprintf(ret_parent, SIM_PATH_MAX, ".");
    else
        snprintf(ret_parent, SIM_PATH_MAX, "%.*s", slash == path ? 1 : (int)(slash - path), path);
}

static bool sim_is_root(const char *path) {
    return strcmp(path, "/") == 0 || strcmp(path, ".") == 0;
}

static bool sim_has_parent(const cal_sim *sim, const char *path) {
    char parent[SIM_PATH_MAX];
    sim_parent(path, parent);
    if (sim_is_root(parent)) return true;
    const sim_inode *inode = sim_find(sim->names, parent);
    return inode && inode->directory;
}

/* --- unsynced moves of names --- */

static void sim_apply_move(cal_sim *sim, sim_name **names, const sim_move *move) {
    if (move->kind != SIM_REMOVE) sim_name_as(sim, names, move->to, move->inode);
    if (move->kind != SIM_CREATE && (!move->to || strcmp(move->from, move->to) != 0))
        sim_unname(sim, names, move->from);
}

static void sim_move_free(cal_sim *sim, sim_move *move) {
    cal_list_remove(&move->node);
    sim_unref(sim, move->inode);
    free(move->from);
    free(move->to);
    free(move);
}

static void sim_moved(cal_sim *sim, sim_move_kind kind, const char *from, const char *to,
                      sim_inode *inode) {
    sim_move *move = sim_must(calloc(1, sizeof *move));
    move->kind = kind;
    move->from = from ? sim_must(strdup(from)) : NULL;
    move->to = to ? sim_must(strdup(to)) : NULL;
    move->inode = inode;
    inode->refs++;
    cal_list_push(&sim->moves, &move->node);
    sim_apply_move(sim, &sim->names, move);
}

static bool sim_move_in(const sim_move *move, const char *folder) {
    char parent[SIM_PATH_MAX];
    if (move->from) {
        sim_parent(move->from, parent);
        if (strcmp(parent, folder) == 0) return true;
    }
    if (!move->to) return false;
    sim_parent(move->to, parent);
    return strcmp(parent, folder) == 0;
}

/* --- the ordered loss of power --- */

/* Called after an operation took effect: the power may go now, and then its caller hears nothing
 * good. */
static int sim_end(cal_sim *sim, int kind) {
    if (!sim->off_in || !(sim->off_kinds & kind) || --sim->off_in > 0) return 0;
    sim->off = true;
    return CAL_EIO;
}

/* --- files --- */

static cal_sim *sim_enter(cal_os_file *file, int kind, int *ret_error) {
    cal_sim *sim = file->sim;
    pthread_mutex_lock(&sim->mutex);
    *ret_error = file->epoch == sim->epoch ? sim_begin(sim, kind) : CAL_EIO;
    return sim;
}

static int sim_leave(cal_sim *sim, int error) {
    pthread_mutex_unlock(&sim->mutex);
    return error;
}

static int sim_open_locked(cal_sim *sim, const char *path, int flags, cal_os_file **ret_file) {
    sim_inode *inode = sim_find(sim->names, path);
    bool writable = flags & CAL_OS_WRITE;
    if (inode && inode->directory) return CAL_EIO;
    if (inode && (flags & CAL_OS_CREATE) && (flags & CAL_OS_EXCLUSIVE)) return CAL_EEXISTS;
    if (!inode) {
        if (!(flags & CAL_OS_CREATE) || !sim_has_parent(sim, path)) return CAL_ENOTFOUND;
        int error = sim_begin(sim, CAL_SIM_NAME);
        if (error) return error;
        inode = sim_inode_new(false);
        sim_moved(sim, SIM_CREATE, NULL, path, inode);
        error = sim_end(sim, CAL_SIM_NAME);
        if (error) return error;
    }
    cal_os_file *file = sim_must(calloc(1, sizeof *file));
    *file = (cal_os_file){
        .os = &sim->os, .sim = sim, .inode = inode, .epoch = sim->epoch, .writable = writable};
    inode->refs++;
    *ret_file = file;
    return 0;
}

static int sim_truncate_locked(cal_sim *sim, sim_inode *inode, uint64_t size);

static int sim_open(void *user, const char *path, int flags, cal_os_file **ret_file) {
    cal_sim *sim = user;
    char normal[SIM_PATH_MAX];
    if (sim_normal(path, normal)) return CAL_EINVAL;
    pthread_mutex_lock(&sim->mutex);
    cal_os_file *file = NULL;
    int error = sim_begin(sim, CAL_SIM_OPEN);
    if (!error) error = sim_open_locked(sim, normal, flags, &file);
    if (!error && (flags & CAL_OS_TRUNCATE)) error = sim_truncate_locked(sim, file->inode, 0);
    if (error && file) {
        sim_unref(sim, file->inode);
        free(file);
    }
    if (!error) *ret_file = file;
    return sim_leave(sim, error);
}

static void sim_close(cal_os_file *file) {
    cal_sim *sim = file->sim;
    pthread_mutex_lock(&sim->mutex);
    if (file->inode->locked_by == file) file->inode->locked_by = NULL;
    sim_unref(sim, file->inode);
    pthread_mutex_unlock(&sim->mutex);
    free(file);
}

static int sim_read_at(cal_os_file *file, uint64_t offset, void *ret_bytes, size_t len,
                       size_t *ret_len) {
    int error;
    cal_sim *sim = sim_enter(file, CAL_SIM_READ, &error);
    if (!error) {
        const sim_bytes *now = &file->inode->now;
        size_t here = offset < now->len ? now->len - (size_t)offset : 0;
        if (here > len) here = len;
        if (here) memcpy(ret_bytes, now->data + offset, here);
        *ret_len = here;
    }
    return sim_leave(sim, error);
}

static int sim_grow(cal_sim *sim, const sim_inode *inode, uint64_t size) {
    if (size <= inode->now.len) return 0;
    uint64_t more = size - inode->now.len;
    if (sim->quota != UINT64_MAX && sim->used + more > sim->quota) return CAL_EFULL;
    sim->used += more;
    return 0;
}

static void sim_change_add(sim_inode *inode, bool truncate, uint64_t offset, const void *bytes,
                           size_t len) {
    sim_change *change = sim_must(malloc(sizeof *change + len));
    change->truncate = truncate;
    change->offset = offset;
    change->len = len;
    if (len) memcpy(change->bytes, bytes, len);
    cal_list_init(&change->node);
    cal_list_push(&inode->changes, &change->node);
}

static int sim_write_at(cal_os_file *file, uint64_t offset, const void *bytes, size_t len) {
    int error;
    cal_sim *sim = sim_enter(file, CAL_SIM_WRITE, &error);
    if (!error && !file->writable) error = CAL_EIO;
    if (!error) error = sim_grow(sim, file->inode, offset + len);
    if (!error) {
        sim_write(&file->inode->now, offset, bytes, len);
        sim_change_add(file->inode, false, offset, bytes, len);
        error = sim_end(sim, CAL_SIM_WRITE);
    }
    return sim_leave(sim, error);
}

static int sim_truncate_locked(cal_sim *sim, sim_inode *inode, uint64_t size) {
    if (size == inode->now.len) return 0;
    int error = sim_begin(sim, CAL_SIM_WRITE);
    if (!error) error = sim_grow(sim, inode, size);
    if (error) return error;
    if (size < inode->now.len) sim->used -= inode->now.len - size;
    sim_resize(&inode->now, (size_t)size);
    sim_change_add(inode, true, size, NULL, 0);
    return sim_end(sim, CAL_SIM_WRITE);
}

static int sim_truncate(cal_os_file *file, uint64_t size) {
    cal_sim *sim = file->sim;
    pthread_mutex_lock(&sim->mutex);
    int error = file->epoch == sim->epoch && !sim->off && file->writable ? 0 : CAL_EIO;
    if (!error) error = sim_truncate_locked(sim, file->inode, size);
    return sim_leave(sim, error);
}

static int sim_sync(cal_os_file *file) {
    int error;
    cal_sim *sim = sim_enter(file, CAL_SIM_SYNC, &error);
    if (!error) error = sim_end(sim, CAL_SIM_SYNC);
    if (!error && !cal_list_empty(&file->inode->changes)) {
        cal_list *node; /* replaying the changes costs less than copying the file */
        while ((node = cal_list_pop(&file->inode->changes))) {
            sim_change *change = CAL_CONTAINER_OF(node, sim_change, node);
            if (change->truncate)
                sim_resize(&file->inode->synced, (size_t)change->offset);
            else
                sim_write(&file->inode->synced, change->offset, change->bytes, change->len);
            free(change);
        }
    }
    return sim_leave(sim, error);
}

static int sim_size(cal_os_file *file, uint64_t *ret_size) {
    int error;
    cal_sim *sim = sim_enter(file, CAL_SIM_STAT, &error);
    if (!error) *ret_size = file->inode->now.len;
    return sim_leave(sim, error);
}

static int sim_lock(cal_os_file *file) {
    cal_sim *sim = file->sim;
    pthread_mutex_lock(&sim->mutex);
    int error = file->epoch != sim->epoch || sim->off ? CAL_EIO : 0;
    if (!error && file->inode->locked_by && file->inode->locked_by != file) error = CAL_EBUSY;
    if (!error) file->inode->locked_by = file;
    return sim_leave(sim, error);
}

/* --- names --- */

static int sim_stat(void *user, const char *path, cal_os_stat *ret_stat) {
    cal_sim *sim = user;
    char normal[SIM_PATH_MAX];
    if (sim_normal(path, normal)) return CAL_EINVAL;
    pthread_mutex_lock(&sim->mutex);
    int error = sim_begin(sim, CAL_SIM_STAT);
    if (!error) {
        const sim_inode *inode = sim_find(sim->names, normal);
        if (inode)
            *ret_stat = (cal_os_stat){.size = inode->now.len,
                                      .directory = inode->directory,
                                      .mode = inode->directory ? 0700 : 0600};
        else if (sim_is_root(normal))
            *ret_stat = (cal_os_stat){.directory = true, .mode = 0700};
        else
            error = CAL_ENOTFOUND;
    }
    return sim_leave(sim, error);
}

static int sim_rename(void *user, const char *from, const char *to) {
    cal_sim *sim = user;
    char old[SIM_PATH_MAX], new[SIM_PATH_MAX];
    if (sim_normal(from, old) || sim_normal(to, new)) return CAL_EINVAL;
    pthread_mutex_lock(&sim->mutex);
    int error = sim_begin(sim, CAL_SIM_NAME);
    sim_inode *inode = error ? NULL : sim_find(sim->names, old);
    if (!error && (!inode || !sim_has_parent(sim, new))) error = CAL_ENOTFOUND;
    if (!error && inode->directory) error = CAL_EUNSUPPORTED; /* nobody renames folders */
    if (!error) {
        sim_moved(sim, SIM_RENAME, old, new, inode);
        error = sim_end(sim, CAL_SIM_NAME);
    }
    return sim_leave(sim, error);
}

static bool sim_folder_empty(const cal_sim *sim, const char *folder) {
    char parent[SIM_PATH_MAX];
    for (const sim_name *name = sim->names; name; name = name->next) {
        sim_parent(name->path, parent);
        if (strcmp(parent, folder) == 0) return false;
    }
    return true;
}

static int sim_remove(void *user, const char *path) {
    cal_sim *sim = user;
    char normal[SIM_PATH_MAX];
    if (sim_normal(path, normal)) return CAL_EINVAL;
    pthread_mutex_lock(&sim->mutex);
    int error = sim_begin(sim, CAL_SIM_NAME);
    sim_inode *inode = error ? NULL : sim_find(sim->names, normal);
    if (!error && !inode) error = CAL_ENOTFOUND;
    if (!error && inode->directory && !sim_folder_empty(sim, normal)) error = CAL_EIO;
    if (!error) {
        sim_moved(sim, SIM_REMOVE, normal, NULL, inode);
        error = sim_end(sim, CAL_SIM_NAME);
    }
    return sim_leave(sim, error);
}

static int sim_make_dir(void *user, const char *path) {
    cal_sim *sim = user;
    char normal[SIM_PATH_MAX];
    if (sim_normal(path, normal)) return CAL_EINVAL;
    pthread_mutex_lock(&sim->mutex);
    int error = sim_begin(sim, CAL_SIM_NAME);
    sim_inode *inode = error ? NULL : sim_find(sim->names, normal);
    if (!error && inode && !inode->directory) error = CAL_EEXISTS;
    if (!error && !inode && !sim_is_root(normal)) {
        error = sim_has_parent(sim, normal) ? 0 : CAL_ENOTFOUND;
        if (!error) {
            sim_moved(sim, SIM_CREATE, NULL, normal, sim_inode_new(true));
            error = sim_end(sim, CAL_SIM_NAME);
        }
    }
    return sim_leave(sim, error);
}

static int sim_sync_dir(void *user, const char *path) {
    cal_sim *sim = user;
    char normal[SIM_PATH_MAX];
    if (sim_normal(path, normal)) return CAL_EINVAL;
    pthread_mutex_lock(&sim->mutex);
    int error = sim_begin(sim, CAL_SIM_SYNC);
    if (!error) error = sim_end(sim, CAL_SIM_SYNC);
    for (cal_list *node = sim->moves.next; !error && node != &sim->moves;) {
        sim_move *move = CAL_CONTAINER_OF(node, sim_move, node);
        node = node->next;
        if (!sim_move_in(move, normal)) continue;
        sim_apply_move(sim, &sim->durable, move);
        sim_move_free(sim, move);
    }
    return sim_leave(sim, error);
}

/* --- what survives --- */

static void sim_survive_write(cal_sim *sim, sim_bytes *disk, const sim_change *change) {
    uint64_t fate = sim_below(sim, 4); /* kept, dropped, two ways of tearing */
    if (fate == 0) {
        sim_write(disk, change->offset, change->bytes, change->len);
    } else if (fate == 2) { /* a part from the front */
        sim_write(disk, change->offset, change->bytes, (size_t)sim_below(sim, change->len + 1));
    } else if (fate == 3) { /* some sectors; the file may have grown all the same */
        for (size_t at = 0; at < change->len; at += SIM_SECTOR) {
            size_t len = change->len - at < SIM_SECTOR ? change->len - at : SIM_SECTOR;
            if (sim_below(sim, 2)) sim_write(disk, change->offset + at, change->bytes + at, len);
        }
        if (sim_below(sim, 2) && change->offset + change->len > disk->len)
            sim_resize(disk, (size_t)(change->offset + change->len));
    }
}

static void sim_survive_file(cal_sim *sim, sim_inode *inode, cal_sim_survival survival) {
    cal_list *node;
    while ((node = cal_list_pop(&inode->changes))) {
        sim_change *change = CAL_CONTAINER_OF(node, sim_change, node);
        bool all = survival == CAL_SIM_KEEP;
        if (change->truncate) {
            if (all || (survival == CAL_SIM_TEAR && sim_below(sim, 2)))
                sim_resize(&inode->synced, (size_t)change->offset);
        } else if (all) {
            sim_write(&inode->synced, change->offset, change->bytes, change->len);
        } else if (survival == CAL_SIM_TEAR) {
            sim_survive_write(sim, &inode->synced, change);
        }
        free(change);
    }
    inode->locked_by = NULL;
    sim->used -= inode->now.len;
    sim_copy(&inode->now, &inode->synced);
    sim->used += inode->now.len;
}

void sim_disk_survive(cal_sim *sim, cal_sim_survival survival) {
    size_t count = 0;
    for (cal_list *node = sim->moves.next; node != &sim->moves; node = node->next) count++;
    uint64_t kept = survival == CAL_SIM_KEEP   ? count
                    : survival == CAL_SIM_DROP ? 0
                                               : sim_below(sim, count + 1);
    while (!cal_list_empty(&sim->moves)) {
        sim_move *move = CAL_CONTAINER_OF(sim->moves.next, sim_move, node);
        if (kept > 0) {
            kept--;
            sim_apply_move(sim, &sim->durable, move);
        }
        sim_move_free(sim, move);
    }
    while (sim->names) sim_unname(sim, &sim->names, sim->names->path);
    for (sim_name *name = sim->durable; name; name = name->next) {
        if (!sim_find(sim->names, name->path))
            sim_name_as(sim, &sim->names, name->path, name->inode);
    }
    for (sim_name *name = sim->names; name; name = name->next)
        sim_survive_file(sim, name->inode, survival);
}

void cal_sim_copy_disk(cal_sim *to, cal_sim *from) {
    pthread_mutex_lock(&to->mutex);
    assert(!to->names && !to->durable && cal_list_empty(&to->moves));
    for (const sim_name *name = from->names; name; name = name->next) {
        sim_inode *inode = sim_inode_new(name->inode->directory);
        sim_copy(&inode->now, &name->inode->now);
        sim_copy(&inode->synced, &name->inode->now);
        to->used += inode->now.len;
        sim_name_as(to, &to->names, name->path, inode);
        sim_name_as(to, &to->durable, name->path, inode);
    }
    pthread_mutex_unlock(&to->mutex);
}

void sim_disk_init(cal_sim *sim) {
    cal_list_init(&sim->moves);
    sim->os.open = sim_open;
    sim->os.close = sim_close;
    sim->os.read_at = sim_read_at;
    sim->os.write_at = sim_write_at;
    sim->os.truncate = sim_truncate;
    sim->os.sync = sim_sync;
    sim->os.size = sim_size;
    sim->os.lock = sim_lock;
    sim->os.stat = sim_stat;
    sim->os.rename = sim_rename;
    sim->os.remove = sim_remove;
    sim->os.make_dir = sim_make_dir;
    sim->os.sync_dir = sim_sync_dir;
}

void sim_disk_deinit(cal_sim *sim) {
    while (!cal_list_empty(&sim->moves))
        sim_move_free(sim, CAL_CONTAINER_OF(sim->moves.next, sim_move, node));
    while (sim->names) sim_unname(sim, &sim->names, sim->names->path);
    while (sim->durable) sim_unname(sim, &sim->durable, sim->durable->path);
    assert(sim->used == 0); /* no handle is left */
}
