/* A seeded world behind the cal_os table: a clock the test moves, repeatable randomness, a disk
 * that loses and tears what was not synced, name resolution and connections that the test answers.
 *
 * The disk keeps, for each file, the synced content and the writes since, and for each folder the
 * durable names and the changes since. Power off makes every call fail with CAL_EIO until power on,
 * which decides by mode and seed what survived:
 *  - file writes and truncations since the last sync: each kept, dropped, or (a write) torn at
 * 512-byte sectors; each on its own, since a disk reorders;
 *  - creations, renames and removals since the folder's last sync: a prefix of their order
 * survives, as on a journaling file system. Handles from before stay dead. One world is safe to use
 * from several threads; a run repeats when the calls come in the same order. */
#ifndef CAL_OS_SIM_H
#define CAL_OS_SIM_H

#include "os/os.h"

typedef struct cal_sim cal_sim;

typedef enum cal_sim_survival {
    CAL_SIM_KEEP, /* everything written reached the disk */
    CAL_SIM_DROP, /* nothing unsynced did */
    CAL_SIM_TEAR, /* the seed decides for each change */
} cal_sim_survival;

/* Kinds of operations, for cal_sim_fail and cal_sim_count. */
enum {
    CAL_SIM_OPEN = 1,
    CAL_SIM_READ = 2,
    CAL_SIM_WRITE = 4, /* write_at and truncate */
    CAL_SIM_SYNC = 8,  /* sync and sync_dir */
    CAL_SIM_NAME = 16, /* rename, remove, make_dir and the creation of a file */
    CAL_SIM_STAT = 32, /* stat and size */
    CAL_SIM_ALL = 63,
};

cal_sim *cal_sim_new(uint64_t seed); /* NULL when out of memory */
void cal_sim_free(cal_sim *sim);     /* NULL allowed; no file may be open */
const cal_os *cal_sim_os(cal_sim *sim);

/* A number below bound from the world's own sequence. */
uint64_t cal_sim_random(cal_sim *sim, uint64_t bound);

/* --- time --- wall and monotonic clocks start at fixed values and stand still until moved. */
void cal_sim_advance(cal_sim *sim, uint64_t ns);
void cal_sim_set_wall(cal_sim *sim, uint64_t ns);

/* --- disk --- */
void cal_sim_power_off(cal_sim *sim);
void cal_sim_power_on(cal_sim *sim, cal_sim_survival survival);
/* Goes off by itself at the nth operation of `kinds` from now (1: the next one), which may still
 * have begun; 0 cancels. */
void cal_sim_power_off_at(cal_sim *sim, int kinds, uint64_t nth);
bool cal_sim_is_off(cal_sim *sim);
/* The nth operation of `kinds` from now fails with `error` and changes nothing; `times` in a row
 * (UINT64_MAX: from then on). 0 cancels. */
void cal_sim_fail(cal_sim *sim, int kinds, uint64_t nth, uint64_t times, int error);
uint64_t cal_sim_count(cal_sim *sim, int kinds); /* operations so far */
/* The sum of file sizes may not grow over this; UINT64_MAX: no limit. Growing further is CAL_EFULL.
 */
void cal_sim_quota(cal_sim *sim, uint64_t bytes);
uint64_t cal_sim_used(cal_sim *sim);
/* Gives `to`, whose disk is empty, what is on the disk of `from`, all of it durable. No other
 * thread may use `from` meanwhile. */
void cal_sim_copy_disk(cal_sim *to, cal_sim *from);

/* --- network --- without a hook everything is CAL_EUNREACHABLE. */
typedef int (*cal_sim_resolve)(void *user, const char *host, cal_os_address *ret_addresses,
                               size_t *ret_count);
typedef int (*cal_sim_connect)(void *user, const cal_os_address *address, uint16_t port,
                               uint32_t timeout_ms, int *ret_socket);
void cal_sim_network(cal_sim *sim, cal_sim_resolve resolve, cal_sim_connect connect, void *user);

#endif
