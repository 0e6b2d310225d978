/* What the handlers of one server share: the node, the live clients, the figures. Internal to
 * src/api.
 *
 * Handlers run on the node's loop thread and call the node directly; the node calls back on the
 * same thread. An exchange is the `user` of such a call: it stays valid until it has been answered,
 * whether or not its client is still there. */
#ifndef CAL_API_API_H
#define CAL_API_API_H

#include "api/connection.h"
#include "api/json.h"
#include "api/listener.h"
#include "api/metrics.h"
#include "node/node.h"

enum {
    API_TEXT_MAX = 64 * 1024 * 1024,
    API_PAGE_DEFAULT = 100,
    API_PAGE_MAX = 1000,
    API_OFFSET_MAX = 100000,
    API_IDENTITIES_MAX = 1024 /* kept for contexts to come */
};

typedef struct live_hub live_hub;

typedef struct api_state {
    cal_node *node;
    live_hub *live;
    metrics_registry *metrics;
    bool read_only;
    size_t identities; /* made by POST /identity/context, when counted */
    bool identities_counted;
    size_t calls; /* of rpc.h, not done yet: the state must live */
} api_state;

static inline cal_node *api_node(const http_exchange *exchange) {
    return ((api_state *)http_user(exchange))->node;
}

/* The parts of the API that a server may leave out, and the table of everything. */
typedef enum api_part { API_BASE, API_ADMIN, API_JSONRPC, API_WS, API_SSE } api_part;
enum { API_ROWS_MAX = 160 };
typedef struct api_row {
    api_part part;
    bool writes; /* changes what the node keeps */
    http_route route;
} api_row;
const api_row *api_rows(size_t *ret_count);

/* The parameter as an id; false: answered with 400. `what` names it in the message: a typed one
 * ("Invalid URL: ...") when NULL. */
bool api_param_id(http_exchange *exchange, const char *name, const char *what, uint8_t ret_id[32]);

/* ?offset and ?limit, clamped; false: answered with 400. */
typedef struct api_page {
    uint64_t offset, limit, seen;
} api_page;
bool api_page_read(http_exchange *exchange, api_page *ret_page);
bool api_page_takes(api_page *page); /* the next item: is it on the page? */

/* What a server of a read-only node says of anything that would change it. */
#define API_READ_ONLY                                                                              \
    "this node is read-only (mode = \"readonly\" in config.toml): it shows its data and changes "  \
    "nothing"
void api_refuse_write(http_exchange *exchange);

/* Callbacks that only say whether it worked. */
void api_done_null(void *exchange, const cal_error *err); /* {"data":null} */

/* Rows of the table, in the files named after their subject. */
void admin_health(http_exchange *exchange);
void admin_ready(http_exchange *exchange);
void admin_is_authed(http_exchange *exchange);
void admin_certificate(http_exchange *exchange);
void admin_metrics(http_exchange *exchange);
void admin_peers(http_exchange *exchange);
void admin_network_status(http_exchange *exchange);
void network_collect(void *node, cal_buffer *out); /* a metrics_collector */
void admin_identity(http_exchange *exchange);
void admin_identity_create(http_exchange *exchange);
void admin_usage(http_exchange *exchange);
void admin_alias_create_context(http_exchange *exchange);
void admin_alias_create_application(http_exchange *exchange);
void admin_alias_lookup_context(http_exchange *exchange);
void admin_alias_lookup_application(http_exchange *exchange);
void admin_alias_delete_context(http_exchange *exchange);
void admin_alias_delete_application(http_exchange *exchange);
void admin_alias_list_context(http_exchange *exchange);
void admin_alias_list_application(http_exchange *exchange);

void app_install_file(http_exchange *exchange);
void app_install_url(http_exchange *exchange);
void app_list(http_exchange *exchange);
void app_get(http_exchange *exchange);
void app_remove(http_exchange *exchange);
void app_versions(http_exchange *exchange);
void app_abi(http_exchange *exchange);
void package_list(http_exchange *exchange);
void package_versions(http_exchange *exchange);
void package_latest(http_exchange *exchange);

void context_create(http_exchange *exchange);
void context_list(http_exchange *exchange);
void context_get(http_exchange *exchange);
void context_remove(http_exchange *exchange);
void context_join(http_exchange *exchange);
void context_identities(http_exchange *exchange);
void context_identities_owned(http_exchange *exchange);
void context_group(http_exchange *exchange);
void context_storage(http_exchange *exchange);
void context_leave(http_exchange *exchange);
void context_sync(http_exchange *exchange);
void context_sync_all(http_exchange *exchange);
void context_resync(http_exchange *exchange);
void context_for_application(http_exchange *exchange);
void context_with_executors(http_exchange *exchange);

void namespace_create(http_exchange *exchange);
void namespace_list(http_exchange *exchange);
void namespace_get(http_exchange *exchange);
void namespace_remove(http_exchange *exchange);
void namespace_invite(http_exchange *exchange);
void namespace_join(http_exchange *exchange);
void namespace_for_application(http_exchange *exchange);
void group_list(http_exchange *exchange);
void group_create(http_exchange *exchange);
void group_contexts(http_exchange *exchange);
void namespace_leave(http_exchange *exchange);

void group_get(http_exchange *exchange);
void group_create_any(http_exchange *exchange);
void group_remove(http_exchange *exchange);
void group_reparent(http_exchange *exchange);
void group_set_owner(http_exchange *exchange);
void group_subgroups(http_exchange *exchange);
void group_sync(http_exchange *exchange);
void group_leave(http_exchange *exchange);
void group_join_open(http_exchange *exchange);
void group_invite(http_exchange *exchange);
void group_join(http_exchange *exchange);
void group_context_remove(http_exchange *exchange);
void group_set_default_capabilities(http_exchange *exchange);
void group_set_visibility(http_exchange *exchange);
void metadata_get(http_exchange *exchange);
void metadata_set(http_exchange *exchange);
void api_no_upgrades(http_exchange *exchange);
void api_no_tee(http_exchange *exchange);

void member_list(http_exchange *exchange);
void member_add(http_exchange *exchange);
void member_remove(http_exchange *exchange);
void member_devices(http_exchange *exchange);
void member_set_role(http_exchange *exchange);
void member_capabilities(http_exchange *exchange);
void member_set_capabilities(http_exchange *exchange);
void member_set_follow(http_exchange *exchange);

void pair_begin(http_exchange *exchange);
void pair_complete(http_exchange *exchange);
void device_revoke(http_exchange *exchange);
void device_prove_revocation(http_exchange *exchange);
void ownership_prove(http_exchange *exchange);
void ownership_prove_namespace(http_exchange *exchange);

void blob_put(http_exchange *exchange);
void blob_list(http_exchange *exchange);
void blob_get(http_exchange *exchange);
void blob_remove(http_exchange *exchange);

void rpc_post(http_exchange *exchange);

void live_ws(http_exchange *exchange);
void sse_open(http_exchange *exchange);
void sse_subscription(http_exchange *exchange);
void sse_session(http_exchange *exchange);

/* The live clients: WebSockets and event streams. */
live_hub *live_new(api_state *state, cal_error *err);
void live_stop(
    live_hub *hub); /* says goodbye to event streams; sockets are told by their connections */
void live_tick(live_hub *hub); /* now and then: forgets sessions nobody came back to */
void live_free(live_hub *hub); /* after all connections are gone; NULL allowed */

#endif
