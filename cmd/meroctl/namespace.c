/* meroctl namespace. Protocol: http-api.md 5.4, 13. */
#include <string.h>

#include "mero.h"

static int list_run(cli *line) {
    const char *application = cli_get(line, "application-id");
    if (!application) return mero_run(line, "GET", NULL, "/admin-api/namespaces" MERO_ALL);
    return mero_run(line, "GET", NULL, "/admin-api/namespaces/for-application/%s" MERO_ALL,
                    application);
}

static int get_run(cli *line) {
    return mero_about_group(line, "GET", NULL, "/admin-api/namespaces/%s");
}

static int create_run(cli *line) {
    const char *application = cli_get(line, "application-id"), *name = cli_get(line, "name");
    mero m;
    size_t same = 0;
    yyjson_doc *doc = NULL;
    if (!application) return cli_usage(line, "--application-id is missing; see `meroctl app list`");
    int code = mero_open(&m, line);
    if (code) return code;
    yyjson_mut_doc *body = mero_body();
    mero_set(body, "applicationId", application);
    mero_set(body, "name", name);
    mero_set(body, "appKey", cli_get(line, "app-key"));
    if (name) code = mero_count_namespaces(&m, name, &same);
    if (code)
        yyjson_mut_doc_free(body);
    else
        code = mero_ask(&m, "POST", body, &doc, "/admin-api/namespaces");
    if (code == 0) mero_print(&m, yyjson_doc_get_root(doc));
    if (code == 0 && same > 0)
        fprintf(stderr,
                "meroctl: %zu other namespace%s of this node %s called '%s' too: the name is "
                "ambiguous now, and commands take the id\n",
                same, same == 1 ? "" : "s", same == 1 ? "is" : "are", name);
    yyjson_doc_free(doc);
    mero_close(&m);
    return code;
}

static int delete_run(cli *line) {
    mero m = {.line = line};
    if (!mero_confirm(&m, "Delete the namespace with all its contexts from this node?"))
        return CLI_FAILED;
    return mero_about_group(line, "DELETE", mero_body(), "/admin-api/namespaces/%s");
}

static int invite_run(cli *line) { return mero_invite(line, "/admin-api/namespaces/%s/invite"); }

static int leave_run(cli *line) {
    return mero_about_group(line, "POST", NULL, "/admin-api/namespaces/%s/leave");
}

static int groups_run(cli *line) {
    return mero_about_group(line, "GET", NULL, "/admin-api/namespaces/%s/groups");
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

static const cli_command invitation_commands[] = {
    {"convert", NULL, "INVITATION", "The line as JSON, the JSON as a line; no node is asked",
     "The invitation is its line of text, its JSON, a file that holds either, or - for standard "
     "input. Nodes of the reference network take the JSON only. It has no addresses; --address "
     "puts some into the line.\n\nExamples:\n"
     "  meroctl namespace invitation convert calimero1... > invitation.json\n"
     "  meroctl namespace invitation convert invitation.json "
     "--address /ip4/192.0.2.7/tcp/2428/p2p/12D3...",
     mero_convert_options, NULL, mero_convert_run},
    {0}};

const cli_command mero_namespace_commands[] = {
    {"create", NULL, NULL, "Create a namespace: the people and contexts around one application",
     "Example:\n  meroctl namespace create --application-id APP_ID --name friends", create_options,
     NULL, create_run},
    {"list", "ls", NULL, "Namespaces of this node", NULL, list_options, NULL, list_run},
    {"get", NULL, "NAMESPACE", "One namespace", NULL, NULL, NULL, get_run},
    {"delete", "del", "NAMESPACE", "Delete it from this node", NULL, delete_options, NULL,
     delete_run},
    {"invite", NULL, "NAMESPACE", "Make an invitation to hand to somebody",
     "Examples:\n  meroctl namespace invite friends --code             (one line of text)\n"
     "  meroctl namespace invite friends > invitation.json  (a file)",
     mero_invite_options, NULL, invite_run},
    {"join", NULL, "[NAMESPACE_ID] INVITATION", "Join with an invitation",
     "The invitation is its line of text, its JSON, a file that holds either, or - for standard "
     "input.\n\nExamples:\n  meroctl namespace join calimero1...\n"
     "  meroctl namespace join invitation.json\n\nThe JSON says nothing of where to dial: the node "
     "must "
     "be connected to somebody of the namespace. The line does.",
     mero_join_options, NULL, mero_join_run},
    {"invitation", NULL, NULL, "An invitation in its two forms", NULL, NULL, invitation_commands,
     NULL},
    {"leave", NULL, "NAMESPACE", "Leave it, and all groups in it", NULL, NULL, NULL, leave_run},
    {"groups", NULL, "NAMESPACE", "Groups directly below it", NULL, NULL, NULL, groups_run},
    {"create-group", NULL, "NAMESPACE", "Create a group below it", NULL, mero_new_group_options,
     NULL, mero_new_group_run},
    {"usage", NULL, NULL, "What the namespaces of this node hold, in bytes", NULL, NULL, NULL,
     usage_run},
    {0}};
