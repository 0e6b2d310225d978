/* What the files of os/sim share. */
#ifndef CAL_OS_SIM_INTERNAL_H
#define CAL_OS_SIM_INTERNAL_H

#include "base/list.h"
#include "os/sim/sim.h"

#include <pthread.h>

enum { SIM_SECTOR = 512, SIM_PATH_MAX = 4096 };

typedef struct sim_bytes {
    uint8_t *data;
    size_t len, capacity;
} sim_bytes;

/* A write or truncation that no sync has covered yet. */
typedef struct sim_change {
    cal_list node;
    bool truncate;
    uint64_t offset; /* or the new size */
    size_t len;
    uint8_t bytes[];
} sim_change;

typedef struct sim_inode {
    uint32_t refs; /* names, durable names and handles */
    bool directory;
    const void *locked_by; /* the handle */
    sim_bytes now, synced;
    cal_list changes;
} sim_inode;

typedef struct sim_name {
    struct sim_name *next;
    sim_inode *inode;
    char path[];
} sim_name;

typedef enum sim_move_kind { SIM_CREATE, SIM_RENAME, SIM_REMOVE } sim_move_kind;

/* A change of names that no sync_dir has covered yet. */
typedef struct sim_move {
    cal_list node;
    sim_move_kind kind;
    char *from, *to; /* create: to; remove: from */
    sim_inode *inode;
} sim_move;

struct cal_sim {
    cal_os os;
    pthread_mutex_t mutex;
    uint64_t random[4];
    uint64_t wall_ns, mono_ns;
    bool off;
    uint64_t epoch; /* grows at each power off: older handles are dead */
    uint64_t quota, used;
    uint64_t counts[6];
    int off_kinds, fail_kinds, fail_error;
    uint64_t off_in, fail_in, fail_times;
    sim_name *names, *durable;
    cal_list moves;
    cal_sim_resolve resolve;
    cal_sim_connect connect;
    void *network_user;
};

struct cal_os_file {
    const cal_os *os; /* first, as os.h says */
    cal_sim *sim;
    sim_inode *inode;
    uint64_t epoch;
    bool writable;
};

uint64_t sim_next(cal_sim *sim);
uint64_t sim_below(cal_sim *sim, uint64_t bound);

/* Counts one operation; 0, or the failure that the test ordered or that the power brings. */
int sim_begin(cal_sim *sim, int kind);

void sim_disk_init(cal_sim *sim);
void sim_disk_deinit(cal_sim *sim);
void sim_disk_survive(cal_sim *sim, cal_sim_survival survival);
sim_inode *sim_find(const sim_name *names, const char *path);

#endif
