/* meroctl group: groups inside a namespace, which is a group itself. Protocol: http-api.md 5.5, 13.
 */
#include <string.h>

#include "mero.h"

static int list_run(cli *line) {
    return mero_about_group(line, "GET", NULL, "/admin-api/namespaces/%s/groups");
}
static int get_run(cli *line) {
    return mero_about_group(line, "GET", NULL, "/admin-api/groups/%s");
}
static int subgroups_run(cli *line) {
    return mero_about_group(line, "GET", NULL, "/admin-api/groups/%s/subgroups");
}
static int sync_run(cli *line) {
    return mero_about_group(line, "POST", mero_body(), "/admin-api/groups/%s/sync");
}
static int invite_run(cli *line) { return mero_invite(line, "/admin-api/groups/%s/invite"); }
static int join_inherited_run(cli *line) {
    return mero_about_group(line, "POST", NULL, "/admin-api/groups/%s/join-via-inheritance");
}

static int delete_run(cli *line) {
    mero m = {.line = line};
    if (!mero_confirm(&m, "Delete the group and those below it, for all its members?"))
        return CLI_FAILED;
    return mero_about_group(line, "DELETE", mero_body(), "/admin-api/groups/%s");
}

static int leave_run(cli *line) {
    mero m = {.line = line};
    if (!mero_confirm(&m, "Leave the group? What is written afterwards cannot be read any more."))
        return CLI_FAILED;
    return mero_about_group(line, "POST", NULL, "/admin-api/groups/%s/leave");
}

static int reparent_run(cli *line) {
    mero m;
    char id[CAL_ID_TEXT_MAX], parent[CAL_ID_TEXT_MAX];
    yyjson_doc *doc = NULL;
    int code = mero_open(&m, line);
    if (code) return code;
    code = mero_group(&m, cli_operand(line, 0), id);
    if (code == 0) code = mero_group(&m, cli_operand(line, 1), parent);
    if (code == 0) {
        yyjson_mut_doc *body = mero_body();
        mero_set(body, "newParentId", parent);
        code = mero_ask(&m, "POST", body, &doc, "/admin-api/groups/%s/reparent", id);
    }
    if (code == 0) mero_print(&m, yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
    mero_close(&m);
    return code;
}

/* --- create --- */

/* Below a group that is no namespace the node wants to be told the application again. */
static int create_below(mero *m, const char *parent, const char *name, yyjson_doc **ret_doc) {
    yyjson_doc *doc = NULL, *made = NULL;
    int code = mero_ask(m, "GET", NULL, &doc, "/admin-api/groups/%s", parent);
    if (code) return code;
    yyjson_mut_doc *body = mero_body();
    mero_set(body, "applicationId", mero_text(mero_data(doc), "targetApplicationId"));
    mero_set(body, "parentGroupId", parent);
    mero_set(body, "name", name);
    yyjson_doc_free(doc);
    code = mero_ask(m, "POST", body, ret_doc, "/admin-api/groups");
    const char *visibility = cli_get(m->line, "visibility");
    if (code || !visibility || strcmp(visibility, "open") != 0) return code;
    body = mero_body();
    mero_set(body, "subgroupVisibility", visibility);
    code = mero_ask(m, "PUT", body, &made, "/admin-api/groups/%s/settings/subgroup-visibility",
                    mero_text(mero_data(*ret_doc), "groupId"));
    yyjson_doc_free(made);
    return code;
}

static int is_namespace(mero *m, const char *id, bool *ret_is) {
    yyjson_doc *doc = NULL;
    yyjson_val *row;
    size_t i, n;
    *ret_is = false;
    int code = mero_ask(m, "GET", NULL, &doc, "/admin-api/namespaces" MERO_ALL);
    yyjson_arr_foreach(mero_data(doc), i, n, row) {
        if (strcasecmp(mero_text(row, "namespaceId"), id) == 0) *ret_is = true;
    }
    yyjson_doc_free(doc);
    return code;
}

int mero_new_group_run(cli *line) {
    const char *given = cli_get(line, "name"), *name = given ? given : cli_get(line, "alias");
    mero m;
    char parent[CAL_ID_TEXT_MAX];
    bool root = false;
    yyjson_doc *doc = NULL;
    int code = mero_open(&m, line);
    if (code) return code;
    code = mero_group(&m, cli_operand(line, 0), parent);
    if (code == 0) code = is_namespace(&m, parent, &root);
    if (code == 0 && root) {
        yyjson_mut_doc *body = mero_body();
        mero_set(body, "groupName", name);
        mero_set(body, "visibility", cli_get(line, "visibility"));
        code = mero_ask(&m, "POST", body, &doc, "/admin-api/namespaces/%s/groups", parent);
    } else if (code == 0) {
        code = create_below(&m, parent, name, &doc);
    }
    if (code == 0) mero_print(&m, yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
    mero_close(&m);
    return code;
}

/* --- contexts --- */

static int contexts_run(cli *line) {
    return mero_about_group(line, "GET", NULL, "/admin-api/groups/%s/contexts" MERO_ALL);
}

static int detach_run(cli *line) {
    mero m;
    char group[CAL_ID_TEXT_MAX], context[CAL_ID_TEXT_MAX];
    yyjson_doc *doc = NULL;
    int code = mero_open(&m, line);
    if (code) return code;
    code = mero_group(&m, cli_operand(line, 0), group);
    if (code == 0) code = mero_context(&m, cli_operand(line, 1), context);
    if (code == 0 && !mero_confirm(&m, "Detach the context from its group, for all members?"))
        code = CLI_FAILED;
    if (code == 0)
        code = mero_ask(&m, "POST", mero_body(), &doc, "/admin-api/groups/%s/contexts/%s/remove",
                        group, context);
    if (code == 0) mero_print(&m, yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
    mero_close(&m);
    return code;
}

static int join_context_run(cli *line) {
    return mero_about_context(line, cli_operand(line, 0), "POST", NULL,
                              "/admin-api/contexts/%s/join");
}
static int leave_context_run(cli *line) {
    return mero_about_context(line, cli_operand(line, 0), "POST", NULL,
                              "/admin-api/contexts/%s/leave");
}

/* --- settings --- */

static int settings_get_run(cli *line) {
    mero m;
    char id[CAL_ID_TEXT_MAX];
    yyjson_doc *doc = NULL;
    int code = mero_open(&m, line);
    if (code) return code;
    code = mero_group(&m, cli_operand(line, 0), id);
    if (code == 0) code = mero_ask(&m, "GET", NULL, &doc, "/admin-api/groups/%s", id);
    if (code == 0) {
        uint64_t mask = yyjson_get_uint(yyjson_obj_get(mero_data(doc), "defaultCapabilities"));
        const char *visibility = mero_text(mero_data(doc), "subgroupVisibility");
        if (m.json) {
            printf("{\"data\":{\"defaultCapabilities\":%llu,\"subgroupVisibility\":\"%s\"}}\n",
                   (unsigned long long)mask, visibility);
        } else {
            printf("subgroupVisibility: %s\ndefaultCapabilities: %llu\n", visibility,
                   (unsigned long long)mask);
            mero_print_capabilities(mask);
        }
    }
    yyjson_doc_free(doc);
    mero_close(&m);
    return code;
}

static int default_capabilities_run(cli *line) {
    yyjson_mut_doc *body = mero_body();
    yyjson_mut_obj_add_uint(body, yyjson_mut_doc_get_root(body), "defaultCapabilities",
                            mero_capabilities(line));
    return mero_about_group(line, "PUT", body,
                            "/admin-api/groups/%s/settings/default-capabilities");
}

static int visibility_run(cli *line) {
    const char *mode = cli_get(line, "mode");
    if (!mode) return cli_usage(line, "--mode open or --mode restricted is missing");
    yyjson_mut_doc *body = mero_body();
    mero_set(body, "subgroupVisibility", mode);
    return mero_about_group(line, "PUT", body, "/admin-api/groups/%s/settings/subgroup-visibility");
}

/* --- the table --- */

const cli_option mero_new_group_options[] = {
    {"name", 0, "TEXT", "Name of the group"},
    {"alias", 0, "TEXT", "The same"},
    {"visibility", 0, "open|restricted", "Who may see and join it (default: restricted)"},
    {0}};
static const cli_option yes_options[] = {{"yes", 'y', NULL, "Do not ask"}, {0}};
static const cli_option capability_options[] = {MERO_CAPABILITY_OPTIONS, {0}};
static const cli_option visibility_options[] = {
    {"mode", 0, "open|restricted",
     "open: members of the group above may join by themselves; restricted: who is added"},
    {0}};

static const cli_command contexts_commands[] = {
    {"list", "ls", "GROUP", "Contexts of a group", NULL, NULL, NULL, contexts_run},
    {"detach", NULL, "GROUP CONTEXT", "End a context's registration in its group", NULL,
     yes_options, NULL, detach_run},
    {0}};

static const cli_command settings_commands[] = {
    {"get", NULL, "GROUP", "What new members may do, and who sees the group", NULL, NULL, NULL,
     settings_get_run},
    {"set-default-capabilities", "set-default-caps", "GROUP",
     "What new members may do: exactly what is named", NULL, capability_options, NULL,
     default_capabilities_run},
    {"set-subgroup-visibility", "set-subgroup-vis", "GROUP", "Who may see and join it", NULL,
     visibility_options, NULL, visibility_run},
    {0}};

static const cli_command owner_commands[] = {
    {"transfer", NULL, "GROUP MEMBER", "Hand the group, or the namespace, over to an admin of it",
     "The owner cannot leave, nor be removed; `group get` shows who it is (ownerAccount). Make the "
     "other one an admin, hand over, and leave.\n\nExample:\n"
     "  meroctl group members set-role friends bea admin\n"
     "  meroctl group owner transfer friends bea\n  meroctl namespace leave "
     "friends\n\n" MERO_MEMBER_IS,
     yes_options, NULL, mero_transfer_run},
    {0}};

const cli_command mero_group_commands[] = {
    {"create", NULL, "PARENT", "Create a group below a namespace or a group", NULL,
     mero_new_group_options, NULL, mero_new_group_run},
    {"list", "ls", "NAMESPACE", "Groups directly below a namespace", NULL, NULL, NULL, list_run},
    {"get", "info", "GROUP", "One group", NULL, NULL, NULL, get_run},
    {"subgroups", NULL, "GROUP", "Groups directly below a group that this node may see", NULL, NULL,
     NULL, subgroups_run},
    {"delete", "del", "GROUP", "Delete it and those below it", NULL, yes_options, NULL, delete_run},
    {"reparent", NULL, "GROUP NEW_PARENT", "Move it below another group of the namespace", NULL,
     NULL, NULL, reparent_run},
    {"members", NULL, NULL, "Who is in a group, and as what", MERO_GROUP_IS "\n" MERO_MEMBER_IS,
     NULL, mero_member_commands, NULL},
    {"contexts", NULL, NULL, "Contexts of a group", NULL, NULL, contexts_commands, NULL},
    {"owner", NULL, NULL, "Whose the group is", NULL, NULL, owner_commands, NULL},
    {"settings", NULL, NULL, "What a group is set to", NULL, NULL, settings_commands, NULL},
    {"metadata", NULL, NULL, "A group's name and data", NULL, NULL, mero_metadata_commands, NULL},
    {"member-metadata", NULL, NULL, "A member's name and data", NULL, NULL,
     mero_member_metadata_commands, NULL},
    {"context-metadata", NULL, NULL, "A context's name and data in its group", NULL, NULL,
     mero_context_metadata_commands, NULL},
    {"invite", NULL, "GROUP", "Make an invitation to the group",
     "The joiner becomes a member of the namespace and of the group.", mero_invite_options, NULL,
     invite_run},
    {"join", NULL, "INVITATION", "Join with an invitation: its line, its JSON, a file, or -", NULL,
     mero_join_options, NULL, mero_join_run},
    {"join-inherited", NULL, "GROUP", "Join an open group below one that this node is in", NULL,
     NULL, NULL, join_inherited_run},
    {"leave", NULL, "GROUP", "Leave a group", NULL, yes_options, NULL, leave_run},
    {"sync", NULL, "GROUP", "Compare its contexts with others now", NULL, NULL, NULL, sync_run},
    {"join-context", NULL, "CONTEXT", "The same as `context join`", NULL, NULL, NULL,
     join_context_run},
    {"leave-context", NULL, "CONTEXT", "The same as `context leave`", NULL, NULL, NULL,
     leave_context_run},
    {"prove-ownership", NULL, "GROUP", "A signed statement of an admin for a third party",
     "The third party names the nonce.\n\nExample:\n  meroctl group prove-ownership friends "
     "--audience shop.example --subject order-7 --nonce NONCE",
     mero_prove_options, NULL, mero_prove_run},
    {0}};
