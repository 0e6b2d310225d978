/* The table of routes: which handler answers what. http-api.md 4 to 8. */
#include "api/admin_backup.h"
#include "api/api.h"

#include <assert.h>

#define ROW(part, verb, pattern, body, handler, prefixed)                                          \
    {                                                                                              \
        part, false, { HTTP_VERB_##verb, pattern, HTTP_BODY_##body, handler, prefixed }            \
    }
#define ADMIN(verb, pattern, body, handler)                                                        \
    ROW(API_ADMIN, verb, "/admin-api" pattern, body, handler, true)
/* Rows that change what the node keeps: a read-only server refuses them. */
#define WRITE(verb, pattern, body, handler)                                                        \
    {                                                                                              \
        API_ADMIN, true, {                                                                         \
            HTTP_VERB_##verb, "/admin-api" pattern, HTTP_BODY_##body, handler, true                \
        }                                                                                          \
    }

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
    ADMIN(GET, "/network/status", NONE, admin_network_status),
    ADMIN(GET, "/usage", NONE, admin_usage),
    ADMIN(POST, "/backup", CHECKED, admin_backup), /* ours: `merod backup` of a running node */
    ADMIN(GET, "/identity", NONE, admin_identity),
    WRITE(POST, "/identity/context", NONE, admin_identity_create),
    WRITE(POST, "/install-dev-application", CHECKED, app_install_file),
    WRITE(POST, "/install-application", CHECKED, app_install_url),
    ADMIN(GET, "/applications", NONE, app_list),
    ADMIN(GET, "/applications/:id", NONE, app_get),
    WRITE(DELETE, "/applications/:id", NONE, app_remove),
    ADMIN(GET, "/applications/:id/versions", NONE, app_versions),
    ADMIN(GET, "/applications/:id/abi", NONE, app_abi),
    ADMIN(GET, "/packages", NONE, package_list),
    ADMIN(GET, "/packages/:package/versions", NONE, package_versions),
    ADMIN(GET, "/packages/:package/latest", NONE, package_latest),
    ADMIN(GET, "/contexts", NONE, context_list),
    WRITE(POST, "/contexts", CHECKED, context_create),
    ADMIN(POST, "/contexts/sync", NONE, context_sync_all),
    ADMIN(POST, "/contexts/sync/:id", NONE, context_sync),
    ADMIN(GET, "/contexts/for-application/:application", NONE, context_for_application),
    ADMIN(GET, "/contexts/with-executors/for-application/:application", NONE,
          context_with_executors),
    ADMIN(GET, "/contexts/:id", NONE, context_get),
    WRITE(DELETE, "/contexts/:id", NONE, context_remove),
    ADMIN(POST, "/contexts/:id/join", NONE, context_join),
    WRITE(POST, "/contexts/:id/leave", NONE, context_leave),
    ADMIN(POST, "/contexts/:id/resync", CHECKED, context_resync),
    WRITE(POST, "/contexts/:id/application", NONE, api_no_upgrades),
    ADMIN(GET, "/contexts/:id/identities", NONE, context_identities),
    ADMIN(GET, "/contexts/:id/identities-owned", NONE, context_identities_owned),
    ADMIN(GET, "/contexts/:id/group", NONE, context_group),
    ADMIN(GET, "/contexts/:id/storage", NONE, context_storage),
    ADMIN(POST, "/account/issue-revocation-proof", CHECKED, device_prove_revocation), /* ours */
    ADMIN(GET, "/namespaces", NONE, namespace_list),
    WRITE(POST, "/namespaces", CHECKED, namespace_create),
    ADMIN(GET, "/namespaces/for-application/:application", NONE, namespace_for_application),
    ADMIN(GET, "/namespaces/:id", NONE, namespace_get),
    WRITE(DELETE, "/namespaces/:id", NONE, namespace_remove),
    WRITE(POST, "/namespaces/:id/invite", CHECKED, namespace_invite),
    WRITE(POST, "/namespaces/:id/join", CHECKED, namespace_join),
    ADMIN(GET, "/namespaces/:id/groups", NONE, group_list),
    WRITE(POST, "/namespaces/:id/groups", WHOLE, group_create),
    WRITE(POST, "/namespaces/:id/leave", NONE, namespace_leave),
    WRITE(POST, "/namespaces/:id/account/pair-init", CHECKED, pair_begin),
    WRITE(POST, "/namespaces/:id/account/pair-complete", CHECKED, pair_complete),
    WRITE(POST, "/namespaces/:id/account/revoke", CHECKED, device_revoke),
    WRITE(POST, "/groups", CHECKED, group_create_any),
    WRITE(POST, "/groups/join", CHECKED, group_join),
    ADMIN(GET, "/groups/:id", NONE, group_get),
    WRITE(DELETE, "/groups/:id", NONE, group_remove),
    ADMIN(GET, "/groups/:id/contexts", NONE, group_contexts),
    ADMIN(GET, "/groups/:id/subgroups", NONE, group_subgroups),
    WRITE(POST, "/groups/:id/reparent", CHECKED, group_reparent),
    ADMIN(GET, "/groups/:id/members", NONE, member_list),
    WRITE(POST, "/groups/:id/members", CHECKED, member_add),
    WRITE(POST, "/groups/:id/members/remove", CHECKED, member_remove),
    ADMIN(GET, "/groups/:id/member-devices", NONE, member_devices),
    WRITE(PUT, "/groups/:id/members/:account/role", CHECKED, member_set_role),
    ADMIN(GET, "/groups/:id/members/:account/capabilities", NONE, member_capabilities),
    WRITE(PUT, "/groups/:id/members/:account/capabilities", CHECKED, member_set_capabilities),
    WRITE(PUT, "/groups/:id/members/:account/auto-follow", CHECKED, member_set_follow),
    ADMIN(GET, "/groups/:id/members/:account/metadata", NONE, metadata_get),
    WRITE(PUT, "/groups/:id/members/:account/metadata", CHECKED, metadata_set),
    ADMIN(GET, "/groups/:id/metadata", NONE, metadata_get),
    WRITE(PUT, "/groups/:id/metadata", CHECKED, metadata_set),
    ADMIN(GET, "/groups/:id/contexts/:context/metadata", NONE, metadata_get),
    WRITE(PUT, "/groups/:id/contexts/:context/metadata", CHECKED, metadata_set),
    WRITE(POST, "/groups/:id/contexts/:context/remove", NONE, group_context_remove),
    WRITE(POST, "/groups/:id/leave", NONE, group_leave),
    WRITE(POST, "/groups/:id/join-via-inheritance", NONE, group_join_open),
    ADMIN(POST, "/groups/:id/sync", NONE, group_sync),
    WRITE(POST, "/groups/:id/invite", CHECKED, group_invite),
    WRITE(PUT, "/groups/:id/owner", CHECKED, group_set_owner), /* ours */
    WRITE(PUT, "/groups/:id/settings/default-capabilities", CHECKED,
          group_set_default_capabilities),
    WRITE(PUT, "/groups/:id/settings/subgroup-visibility", CHECKED, group_set_visibility),
    ADMIN(POST, "/groups/:id/issue-ownership-proof", CHECKED, ownership_prove),
    ADMIN(POST, "/groups/:id/issue-namespace-ownership-proof", CHECKED, ownership_prove_namespace),
    ADMIN(GET, "/groups/:id/settings/tee-admission-policy", NONE, api_no_tee),
    WRITE(PUT, "/groups/:id/settings/tee-admission-policy", NONE, api_no_tee),
    WRITE(POST, "/groups/:id/upgrade", NONE, api_no_upgrades),
    ADMIN(GET, "/groups/:id/upgrade/status", NONE, api_no_upgrades),
    WRITE(POST, "/groups/:id/upgrade/retry", NONE, api_no_upgrades),
    ADMIN(GET, "/groups/:id/cascade-status", NONE, api_no_upgrades),
    ADMIN(GET, "/groups/:id/migration-status", NONE, api_no_upgrades),
    WRITE(POST, "/groups/:id/migration/abort", NONE, api_no_upgrades),
    ADMIN(GET, "/tee/info", NONE, api_no_tee),
    ADMIN(POST, "/tee/attest", NONE, api_no_tee),
    WRITE(POST, "/tee/fleet-join", NONE, api_no_tee),
    WRITE(PUT, "/blobs", STREAM, blob_put),
    ADMIN(GET, "/blobs", NONE, blob_list),
    ADMIN(GET, "/blobs/:id", NONE, blob_get),
    WRITE(DELETE, "/blobs/:id", NONE, blob_remove),
    WRITE(POST, "/alias/create/context", WHOLE, admin_alias_create_context),
    WRITE(POST, "/alias/create/application", WHOLE, admin_alias_create_application),
    ADMIN(POST, "/alias/lookup/context/:name", NONE, admin_alias_lookup_context),
    ADMIN(POST, "/alias/lookup/application/:name", NONE, admin_alias_lookup_application),
    WRITE(POST, "/alias/delete/context/:name", NONE, admin_alias_delete_context),
    WRITE(POST, "/alias/delete/application/:name", NONE, admin_alias_delete_application),
    ADMIN(GET, "/alias/list/context", NONE, admin_alias_list_context),
    ADMIN(GET, "/alias/list/application", NONE, admin_alias_list_application),
};

static_assert(sizeof ROWS / sizeof *ROWS <= API_ROWS_MAX, "API_ROWS_MAX holds all rows");

const api_row *api_rows(size_t *ret_count) {
    *ret_count = sizeof ROWS / sizeof *ROWS;
    return ROWS;
}
