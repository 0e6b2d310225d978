/* Homes on simulated disks whose node does not run: making one, installing into it, checking it.
 * See sim.h. */
#include <stdlib.h>

#include "base/error.h"
#include "calimero/maintenance.h"
#include "node/sim/internal.h"

const char node_sim_home[] = "/home";

/* Whoever waits for the store makes its steps; nobody else submits. */
static void nobody_steps(void *user) { (void)user; }

void sim_home_world(cal_sim *disk, node_world *ret_world) {
    *ret_world = (node_world){
        .os = cal_sim_os(disk), .processors = 2, .stepped = true, .store_due = nobody_steps};
}

int node_sim_home_new(uint64_t seed, cal_sim **ret_image, cal_error *err) {
    node_world world;
    cal_sim *disk = cal_sim_new(seed);
    if (!disk) return cal_fail(err, CAL_ENOMEM, "no memory for a disk");
    sim_home_world(disk, &world);
    const cal_node_options options = {.home = node_sim_home};
    int rc = node_init_in(&world, &options, NULL, err);
    if (rc == 0)
        *ret_image = disk;
    else
        cal_sim_free(disk);
    return rc;
}

static int open_home(cal_sim *disk, cal_store **ret_store, cal_error *err) {
    node_world world;
    sim_home_world(disk, &world);
    const cal_node_options options = {.home = node_sim_home};
    return node_open_store(&world, &options, ret_store, err);
}

/* --- installing --- */

static int copy_column(cal_snapshot *from, cal_column column, cal_batch *batch) {
    cal_cursor *cursor = NULL;
    cal_slice key, value;
    int rc = cal_cursor_open(from, column, (cal_slice){0}, (cal_slice){0}, false, &cursor);
    while (rc == 0 && (rc = cal_cursor_next(cursor, &key, &value)) == 0)
        cal_batch_put(batch, column, key, value);
    cal_cursor_free(cursor);
    return rc == CAL_ENOTFOUND ? 0 : rc;
}

int node_sim_home_install(cal_sim *image, cal_sim *from, cal_error *err) {
    static const cal_column columns[] = {CAL_COLUMN_APPLICATION, CAL_COLUMN_BLOB,
                                         CAL_COLUMN_BLOB_CHUNK, CAL_COLUMN_MODULE};
    cal_store *source = NULL, *target = NULL;
    cal_snapshot *snapshot = NULL;
    cal_batch *batch = NULL;
    int rc = open_home(from, &source, err);
    if (rc == 0) rc = open_home(image, &target, err);
    if (rc != 0) goto out;
    batch = cal_batch_new();
    rc = batch ? cal_store_snapshot(source, &snapshot) : CAL_ENOMEM;
    for (size_t i = 0; i < sizeof columns / sizeof *columns && rc == 0; i++)
        rc = copy_column(snapshot, columns[i], batch);
    cal_snapshot_free(snapshot);
    if (rc != 0) {
        cal_batch_free(batch);
        cal_fail(err, rc, "the applications cannot be copied: %s", cal_error_text(rc));
        goto out;
    }
    rc = cal_store_commit(target, batch, err);
out:
    cal_store_close(target);
    cal_store_close(source);
    return rc;
}

/* --- checking --- */

int node_sim_check(cal_sim *disk, void (*report)(void *user, const char *finding), void *user,
                   cal_error *err) {
    cal_store *store = NULL;
    cal_check_summary summary;
    int rc = open_home(disk, &store, err);
    if (rc == 0) rc = node_check_store(store, cal_sim_os(disk), report, user, &summary, err);
    cal_store_close(store);
    return rc;
}
