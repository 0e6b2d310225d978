/* SQLite's files on any cal_os: the same path for the real machine and for os/sim's disk. */
#ifndef CAL_STORE_VFS_H
#define CAL_STORE_VFS_H

#include "os/os.h"

typedef struct cal_vfs cal_vfs;

/* Registers a file layer with SQLite. One database file at a time has its locks and shared memory
 * in one cal_vfs, so all connections of a database use the same one. CAL_ENOMEM, CAL_EINTERNAL. */
int cal_vfs_new(const cal_os *os, cal_vfs **ret_vfs);
void cal_vfs_free(cal_vfs *vfs); /* NULL allowed; no file may be open */
const char *cal_vfs_name(const cal_vfs *vfs);
/* The CAL_E* with which reading last failed on this thread, 0 when none since the last call;
 * forgets it. */
int cal_vfs_take_failure(void);

#endif
