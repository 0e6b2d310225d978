/* meroctl namespace and group. Protocol: http-api.md 5.4, 5.5, 13. */
#include <string.h>

#include "mero.h"

/* GET, DELETE and bodiless POST about the namespace named by the first operand. */
static int about(cli *line, const char *verb, yyjson_mut_doc *body, const char *path) {
    return mero_run(line, verb, body, path, cli_operand(line, 0));
}

static int list_run(cli *line) {
    const char *application = cli_get(line, "application-id");
    if (!application) return mero_run(line, "GET", NULL, "/admin-api/namespaces?limit=1000");
    return mero_run(line, "GET", NULL, "/admin-api/namespaces/for-application/%s", application);
}

static int get_run(cli *line) { return about(line, "GET", NULL, "/admin-api/namespaces/%s"); }

static int create_run(cli *line) {
    const char *application = cli_get(line, "application-id");
    if (!application) return cli_usage(line, "--application-id is missing; see `meroctl app list`");
    yyjson_mut_doc *body = mero_body();
    mero_set(body, "applicationId", application);
    mero_set(body, "name", cli_get(line, "name"));
    mero_set(body, "appKey", cli_get(line, "app-key"));
    return mero_run(line, "POST", body, "/admin-api/namespaces");
}

static int delete_run(cli *line) {
    mero m = {.line = line};
    if (!mero_confirm(&m, "Delete the namespace with all its contexts from this node?"))
        return CLI_FAILED;
    return about(line, "DELETE", mero_body(), "/admin-api/namespaces/%s");
}

static int invite_run(cli *line) {
    unsigned long long seconds;
    if (!cli_number(line, "expiration-timestamp", 1, UINT32_MAX, 0, &seconds)) return CLI_USAGE;
    yyjson_mut_doc *body = mero_body();
    yyjson_mut_val *root = yyjson_mut_doc_get_root(body);
    if (seconds) yyjson_mut_obj_add_uint(body, root, "expirationTimestamp", seconds);
    if (cli_flag(line, "recursive")) yyjson_mut_obj_add_bool(body, root, "recursive", true);
    return about(line, "POST", body, "/admin-api/namespaces/%s/invite");
}

static int join_run(cli *line) {
    const char *invitation = cli_operand(line, 1);
    yyjson_mut_doc *body = mero_body();
    if (!mero_set_json(body, "invitation", invitation)) {
        yyjson_mut_doc_free(body);
        return cli_usage(line, "the invitation is not JSON: %s", invitation);
    }
    mero_set(body, "groupName", cli_get(line, "name"));
    return about(line, "POST", body, "/admin-api/namespaces/%s/join");
}

static int leave_run(cli *line) {
    return about(line, "POST", NULL, "/admin-api/namespaces/%s/leave");
}
static int groups_run(cli *line) {
    return about(line, "GET", NULL, "/admin-api/namespaces/%s/groups");
}

static int create_group_run(cli *line) {
    const char *name = cli_get(line, "name");
    yyjson_mut_doc *body = mero_body();
    mero_set(body, "groupName", name ? name : cli_get(line, "alias"));
    mero_set(body, "visibility", cli_get(line, "visibility"));
    return about(line, "POST", body, "/admin-api/namespaces/%s/groups");
}

static int usage_run(cli *line) { return mero_run(line, "GET", NULL, "/admin-api/usage"); }

static const cli_option list_options[] = {
    {"application-id", 'a', "ID", "Only those of this application"}, {0}};
static const cli_option create_options[] = {
    {"application-id", 'a', "ID", "The application that its contexts run"},
    {"name", 0, "TEXT", "Name shown to people"},
    {"app-key", 0, "HEX", "Pin this installed version of the application"},
    {0}};
static const cli_option delete_options[] = {{"yes", 'y', NULL, "Do not ask"}, {0}};
static const cli_option invite_options[] = {
    {"expiration-timestamp", 0, "SECONDS", "How long it is valid from now (default: 365 days)"},
    {"recursive", 'r', NULL, "One for each group below it as well"},
    {0}};
static const cli_option join_options[] = {{"name", 0, "TEXT", "Name of the group on this node"},
                                          {0}};
static const cli_option group_options[] = {
    {"name", 0, "TEXT", "Name of the group"},
    {"alias", 0, "TEXT", "The same"},
    {"visibility", 0, "open|restricted", "Who may see and join it (default: restricted)"},
    {0}};

const cli_command mero_namespace_commands[] = {
    {"create", NULL, NULL, "Create a namespace: the people and contexts around one application",
     "Example:\n  meroctl namespace create --application-id APP_ID --name friends", create_options,
     NULL, create_run},
    {"list", "ls", NULL, "Namespaces of this node", NULL, list_options, NULL, list_run},
    {"get", NULL, "NAMESPACE_ID", "One namespace", NULL, NULL, NULL, get_run},
    {"delete", "del", "NAMESPACE_ID", "Delete it from this node", NULL, delete_options, NULL,
     delete_run},
    {"invite", NULL, "NAMESPACE_ID", "Make an invitation to hand to somebody",
     "Example:\n  meroctl --output-format json namespace invite NAMESPACE_ID > invitation.json",
     invite_options, NULL, invite_run},
    {"join", NULL, "NAMESPACE_ID INVITATION_JSON", "Join with an invitation", NULL, join_options,
     NULL, join_run},
    {"leave", NULL, "NAMESPACE_ID", "Leave it", NULL, NULL, NULL, leave_run},
    {"groups", NULL, "NAMESPACE_ID", "Groups directly below it", NULL, NULL, NULL, groups_run},
    {"create-group", NULL, "NAMESPACE_ID", "Create a group below it", NULL, group_options, NULL,
     create_group_run},
    {"usage", NULL, NULL, "What the namespaces of this node hold, in bytes", NULL, NULL, NULL,
     usage_run},
    {0}};

const cli_command mero_group_commands[] = {
    {"create", NULL, "NAMESPACE_ID", "Create a group below a namespace", NULL, group_options, NULL,
     create_group_run},
    {"list", "ls", "NAMESPACE_ID", "Groups directly below a namespace", NULL, NULL, NULL,
     groups_run},
    {0}};
