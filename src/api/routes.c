/* The table of routes: which handler answers what. http-api.md 4 to 8. */
#include "api/admin_backup.h"
#include "api/api.h"

#include <assert.h>

#define ROW(part, verb, pattern, body, handler, prefixed)                                          \
    {                                                                                              \
        part, { HTTP_VERB_##verb, pattern, HTTP_BODY_##body, handler, prefixed }                   \
    }
#define ADMIN(verb, pattern, body, handler)                                                        \
    ROW(API_ADMIN, verb, "/admin-api" pattern, body, handler, true)

/* In order of precedence (http.h): literal before parameter, one pattern's rows together. Bodies
 * that are "ignored" are NONE. */
static const api_row ROWS[] = {
    ROW(API_JSONRPC, POST, "/jsonrpc", WHOLE, rpc_post, true),
    ROW(API_WS, GET, "/ws", NONE, live_ws, true),
    ROW(API_SSE, GET, "/sse", NONE, sse_open, false),
    ROW(API_SSE, POST, "/sse/subscription", WHOLE, sse_subscription, false),
    ROW(API_SSE, GET, "/sse/session/:id", NONE, sse_session, false),
    ROW(API_BASE, GET, "/metrics", NONE, admin_metrics, false),
    ADMIN(GET, "/health", NONE, admin_health),
    ADMIN(GET, "/ready", NONE, admin_ready),
    ADMIN(GET, "/is-authed", NONE, admin_is_authed),
    ADMIN(GET, "/certificate", NONE, admin_certificate),
    ADMIN(GET, "/peers", NONE, admin_peers),
    ADMIN(GET, "/usage", NONE, admin_usage),
    ADMIN(POST, "/backup", WHOLE, admin_backup), /* ours: `merod backup` of a running node */
    ADMIN(GET, "/identity", NONE, admin_identity),
    ADMIN(POST, "/identity/context", NONE, admin_identity_create),
    ADMIN(POST, "/install-dev-application", WHOLE, app_install_file),
    ADMIN(POST, "/install-application", WHOLE, app_install_url),
    ADMIN(GET, "/applications", NONE, app_list),
    ADMIN(GET, "/applications/:id", NONE, app_get),
    ADMIN(DELETE, "/applications/:id", NONE, app_remove),
    ADMIN(GET, "/applications/:id/versions", NONE, app_versions),
    ADMIN(GET, "/applications/:id/abi", NONE, app_abi),
    ADMIN(GET, "/packages", NONE, package_list),
    ADMIN(GET, "/packages/:package/versions", NONE, package_versions),
    ADMIN(GET, "/packages/:package/latest", NONE, package_latest),
    ADMIN(GET, "/contexts", NONE, context_list),
    ADMIN(POST, "/contexts", WHOLE, context_create),
    ADMIN(POST, "/contexts/sync", NONE, context_sync),
    ADMIN(POST, "/contexts/sync/:id", NONE, context_sync),
    ADMIN(GET, "/contexts/for-application/:application", NONE, context_for_application),
    ADMIN(GET, "/contexts/with-executors/for-application/:application", NONE,
          context_with_executors),
    ADMIN(GET, "/contexts/:id", NONE, context_get),
    ADMIN(DELETE, "/contexts/:id", NONE, context_remove),
    ADMIN(POST, "/contexts/:id/join", NONE, context_join),
    ADMIN(GET, "/contexts/:id/identities", NONE, context_identities),
    ADMIN(GET, "/contexts/:id/identities-owned", NONE, context_identities_owned),
    ADMIN(GET, "/contexts/:id/group", NONE, context_group),
    ADMIN(GET, "/contexts/:id/storage", NONE, context_storage),
    ADMIN(GET, "/namespaces", NONE, namespace_list),
    ADMIN(POST, "/namespaces", WHOLE, namespace_create),
    ADMIN(GET, "/namespaces/for-application/:application", NONE, namespace_for_application),
    ADMIN(GET, "/namespaces/:id", NONE, namespace_get),
    ADMIN(DELETE, "/namespaces/:id", NONE, namespace_remove),
    ADMIN(POST, "/namespaces/:id/invite", WHOLE, namespace_invite),
    ADMIN(POST, "/namespaces/:id/join", WHOLE, namespace_join),
    ADMIN(GET, "/namespaces/:id/groups", NONE, group_list),
    ADMIN(POST, "/namespaces/:id/groups", WHOLE, group_create),
    ADMIN(GET, "/groups/:id/contexts", NONE, group_contexts),
    ADMIN(PUT, "/blobs", STREAM, blob_put),
    ADMIN(GET, "/blobs", NONE, blob_list),
    ADMIN(GET, "/blobs/:id", NONE, blob_get),
    ADMIN(DELETE, "/blobs/:id", NONE, blob_remove),
    ADMIN(POST, "/alias/create/context", WHOLE, admin_alias_create_context),
    ADMIN(POST, "/alias/create/application", WHOLE, admin_alias_create_application),
    ADMIN(POST, "/alias/lookup/context/:name", NONE, admin_alias_lookup_context),
    ADMIN(POST, "/alias/lookup/application/:name", NONE, admin_alias_lookup_application),
    ADMIN(POST, "/alias/delete/context/:name", NONE, admin_alias_delete_context),
    ADMIN(POST, "/alias/delete/application/:name", NONE, admin_alias_delete_application),
    ADMIN(GET, "/alias/list/context", NONE, admin_alias_list_context),
    ADMIN(GET, "/alias/list/application", NONE, admin_alias_list_application),
};

static_assert(sizeof ROWS / sizeof *ROWS <= API_ROWS_MAX, "API_ROWS_MAX holds all rows");

const api_row *api_rows(size_t *ret_count) {
    *ret_count = sizeof ROWS / sizeof *ROWS;
    return ROWS;
}
