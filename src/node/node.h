/* The node's side door for `api`: the loop it may add its sockets to, and generic rows for its
 * sessions.
 *
 * Everything else that api needs is in include/calimero/: called on the loop thread, those
 * functions do not switch threads. */
#ifndef CAL_NODE_H
#define CAL_NODE_H

#include "base/buffer.h"
#include "base/task.h"
#include "calimero/app.h"
#include "calimero/blob.h"
#include "calimero/context.h"
#include "calimero/maintenance.h"
#include "calimero/node.h"
#include "os/os.h"

struct uv_loop_s *
cal_node_loop(cal_node *node); /* the loop thread's own; not of a simulated node */
const cal_os *cal_node_os(cal_node *node);
bool cal_node_on_loop(const cal_node *node); /* is this the loop thread? */
const cal_runner *cal_node_runner(cal_node *node);
bool cal_node_stopping(const cal_node *node); /* loop thread; for /ready */

/* Called on the loop thread when the node stops, before its store closes: close your handles, then
 * call done. At most 4. */
typedef struct cal_node_part {
    void *user;
    void (*stop)(void *user, void (*done)(void *done_user), void *done_user);
} cal_node_part;
int cal_node_attach(cal_node *node, const cal_node_part *part); /* CAL_ELIMIT */
void cal_node_detach(cal_node *node, void *user);

/* Small rows of the program above (SSE sessions): column NODE under "api/". Loop thread; reads are
 * synchronous. */
int cal_node_row_get(cal_node *node, const char *key, cal_buffer *ret_value); /* CAL_ENOTFOUND */
void cal_node_row_put(cal_node *node, const char *key, cal_slice value, cal_simple_done done,
                      void *user); /* value.len 0: delete */
/* Keys are handed over without the prefix. */
int cal_node_row_each(cal_node *node, const char *prefix,
                      void (*visit)(void *user, const char *key, cal_slice value), void *user);

#endif
