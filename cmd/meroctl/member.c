/* meroctl group members. Protocol: http-api.md 5.5, 13. */
#include <stdlib.h>
#include <string.h>

#include "mero.h"

/* Word on the command line, word in the API. http-api.md 2; a node compares the latter exactly. */
const char *mero_role(const char *word) {
    static const char *const roles[][2] = {{"admin", "Admin"},
                                           {"member", "Member"},
                                           {"read-only", "ReadOnly"},
                                           {"readonly", "ReadOnly"}};
    for (size_t i = 0; word && i < sizeof roles / sizeof *roles; i++)
        if (strcasecmp(word, roles[i][0]) == 0) return roles[i][1];
    return word;
}

static bool is_role(const char *word) {
    const char *role = mero_role(word);
    return strcmp(role, "Admin") == 0 || strcmp(role, "Member") == 0 ||
           strcmp(role, "ReadOnly") == 0;
}

static int wrong_role(const cli *line, const char *word) {
    return cli_usage(line, "'%s' is no role: it is admin, member or read-only", word);
}

/* --- capabilities --- */

static const struct {
    const char *option, *text;
} CAPABILITIES[] = {/* in the order of their bits, http-api.md 2 */
                    {"can-create-context", "create contexts"},
                    {"can-invite-members", "invite members"},
                    {"can-join-open-subgroups", "join open subgroups"},
                    {"can-manage-members", "manage members"},
                    {"can-manage-application", "manage the application"},
                    {"can-create-subgroup", "create subgroups"},
                    {"can-delete-subgroup", "delete subgroups"},
                    {"can-manage-visibility", "manage visibility"},
                    {"can-manage-metadata", "manage metadata"}};
enum { CAPABILITY_COUNT = sizeof CAPABILITIES / sizeof *CAPABILITIES };

uint64_t mero_capabilities(const cli *line) {
    uint64_t mask = 0;
    for (size_t i = 0; i < CAPABILITY_COUNT; i++)
        if (cli_flag(line, CAPABILITIES[i].option)) mask |= UINT64_C(1) << i;
    return mask;
}

void mero_print_capabilities(uint64_t mask) {
    if (mask == 0) puts("  nothing beyond reading and writing");
    for (size_t i = 0; i < CAPABILITY_COUNT; i++)
        if (mask >> i & 1) printf("  may %s\n", CAPABILITIES[i].text);
}

/* --- one member --- */

/* The group and the member of the first two operands. */
static int open_member(mero *m, cli *line, char ret_group[CAL_ID_TEXT_MAX],
                       char ret_account[CAL_ID_TEXT_MAX]) {
    int code = mero_open(m, line);
    if (code) return code;
    code = mero_group(m, cli_operand(line, 0), ret_group);
    if (code == 0) code = mero_member(m, ret_group, cli_operand(line, 1), ret_account);
    if (code) mero_close(m);
    return code;
}

/* PUT about the member of the first two operands. `path` has two %s. */
static int put_member(cli *line, yyjson_mut_doc *body, const char *path) {
    mero m;
    char group[CAL_ID_TEXT_MAX], account[CAL_ID_TEXT_MAX];
    yyjson_doc *doc = NULL;
    int code = open_member(&m, line, group, account);
    if (code) {
        yyjson_mut_doc_free(body);
        return code;
    }
    code = mero_ask(&m, "PUT", body, &doc, path, group, account);
    if (code == 0) mero_print(&m, yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
    mero_close(&m);
    return code;
}

static int set_role_run(cli *line) {
    const char *role = cli_operand(line, 2);
    if (!is_role(role)) return wrong_role(line, role);
    yyjson_mut_doc *body = mero_body();
    mero_set(body, "role", mero_role(role));
    return put_member(line, body, "/admin-api/groups/%s/members/%s/role");
}

/* The group's owner, who alone can do it, and cannot leave before. */
int mero_transfer_run(cli *line) {
    mero m;
    char group[CAL_ID_TEXT_MAX], account[CAL_ID_TEXT_MAX];
    yyjson_doc *doc = NULL;
    int code = open_member(&m, line, group, account);
    if (code) return code;
    if (!mero_confirm(&m, "Hand the group over? Only its new owner can give it back."))
        code = CLI_FAILED;
    if (code == 0) {
        yyjson_mut_doc *body = mero_body();
        mero_set(body, "newOwner", account);
        code = mero_ask(&m, "PUT", body, &doc, "/admin-api/groups/%s/owner", group);
    }
    if (code == 0) mero_print(&m, yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
    mero_close(&m);
    return code;
}

static int set_capabilities_run(cli *line) {
    yyjson_mut_doc *body = mero_body();
    yyjson_mut_obj_add_uint(body, yyjson_mut_doc_get_root(body), "capabilities",
                            mero_capabilities(line));
    return put_member(line, body, "/admin-api/groups/%s/members/%s/capabilities");
}

static int follow_run(cli *line) {
    const char *contexts = cli_get(line, "contexts"), *subgroups = cli_get(line, "subgroups");
    if (!contexts || !subgroups)
        return cli_usage(line, "give both, --contexts on|off and --subgroups on|off: they are set "
                               "together");
    yyjson_mut_doc *body = mero_body();
    yyjson_mut_val *root = yyjson_mut_doc_get_root(body);
    yyjson_mut_obj_add_bool(body, root, "autoFollowContexts", strcmp(contexts, "on") == 0);
    yyjson_mut_obj_add_bool(body, root, "autoFollowSubgroups", strcmp(subgroups, "on") == 0);
    return put_member(line, body, "/admin-api/groups/%s/members/%s/auto-follow");
}

static int get_capabilities_run(cli *line) {
    mero m;
    char group[CAL_ID_TEXT_MAX], account[CAL_ID_TEXT_MAX];
    yyjson_doc *doc = NULL;
    int code = open_member(&m, line, group, account);
    if (code) return code;
    code = mero_ask(&m, "GET", NULL, &doc, "/admin-api/groups/%s/members/%s/capabilities", group,
                    account);
    if (code == 0) mero_print(&m, yyjson_doc_get_root(doc));
    if (code == 0 && !m.json)
        mero_print_capabilities(yyjson_get_uint(yyjson_obj_get(mero_data(doc), "capabilities")));
    yyjson_doc_free(doc);
    mero_close(&m);
    return code;
}

/* The role is looked up in the list, which has only rows of the group itself. */
static int check_access(mero *m, const char *group, const char *account) {
    yyjson_doc *doc = NULL, *list = NULL;
    yyjson_val *row;
    size_t i, n;
    int code = mero_ask(m, "GET", NULL, &doc, "/admin-api/groups/%s/members/%s/capabilities", group,
                        account);
    if (code == 0)
        code = mero_ask(m, "GET", NULL, &list, "/admin-api/groups/%s/members" MERO_ALL, group);
    const char *role = "not a member by a row of its own";
    yyjson_arr_foreach(yyjson_obj_get(yyjson_doc_get_root(list), "members"), i, n, row) {
        if (strcasecmp(mero_text(row, "identity"), account) == 0) role = mero_text(row, "role");
    }
    uint64_t mask = yyjson_get_uint(yyjson_obj_get(mero_data(doc), "capabilities"));
    if (code == 0 && m->json)
        printf("{\"role\":\"%s\",\"capabilities\":%llu}\n", role, (unsigned long long)mask);
    if (code == 0 && !m->json) {
        printf("role: %s\n", role);
        mero_print_capabilities(mask);
    }
    yyjson_doc_free(doc);
    yyjson_doc_free(list);
    return code;
}

static int check_access_run(cli *line) {
    mero m;
    char group[CAL_ID_TEXT_MAX], account[CAL_ID_TEXT_MAX];
    int code = open_member(&m, line, group, account);
    if (code) return code;
    code = check_access(&m, group, account);
    mero_close(&m);
    return code;
}

/* --- many --- */

static int list_run(cli *line) {
    return mero_about_group(line, "GET", NULL, "/admin-api/groups/%s/members" MERO_ALL);
}

/* An account's devices in rows of their own: the answer has them inside of each member. */
static void print_devices(yyjson_val *members) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *rows = doc ? yyjson_mut_arr(doc) : NULL;
    yyjson_val *member, *device;
    size_t i, n, j, k;
    if (!rows) abort();
    yyjson_mut_doc_set_root(doc, rows);
    yyjson_arr_foreach(members, i, n, member) {
        yyjson_arr_foreach(yyjson_obj_get(member, "devices"), j, k, device) {
            yyjson_mut_val *row = yyjson_mut_arr_add_obj(doc, rows);
            yyjson_mut_obj_add_str(doc, row, "account", mero_text(member, "account"));
            yyjson_mut_obj_add_str(doc, row, "deviceId", mero_text(device, "deviceId"));
            yyjson_mut_obj_add_str(doc, row, "signingKey", mero_text(device, "signingKey"));
        }
    }
    yyjson_doc *table = yyjson_mut_doc_imut_copy(doc, NULL);
    if (table) mero_print_human(yyjson_doc_get_root(table), stdout);
    yyjson_doc_free(table);
    yyjson_mut_doc_free(doc);
}

static int devices_run(cli *line) {
    mero m;
    char group[CAL_ID_TEXT_MAX];
    yyjson_doc *doc = NULL;
    int code = mero_open(&m, line);
    if (code) return code;
    code = mero_group(&m, cli_operand(line, 0), group);
    if (code == 0)
        code =
            mero_ask(&m, "GET", NULL, &doc, "/admin-api/groups/%s/member-devices" MERO_ALL, group);
    if (code == 0 && m.json) mero_print(&m, yyjson_doc_get_root(doc));
    if (code == 0 && !m.json) print_devices(yyjson_obj_get(yyjson_doc_get_root(doc), "members"));
    yyjson_doc_free(doc);
    mero_close(&m);
    return code;
}

static int add_run(cli *line) {
    const char *given = cli_operand(line, 2), *role = given ? given : "member";
    if (!is_role(role)) return wrong_role(line, role);
    yyjson_mut_doc *body = mero_body();
    yyjson_mut_val *members =
        yyjson_mut_obj_add_arr(body, yyjson_mut_doc_get_root(body), "members");
    yyjson_mut_val *member = yyjson_mut_arr_add_obj(body, members);
    yyjson_mut_obj_add_strcpy(body, member, "identity", cli_operand(line, 1));
    yyjson_mut_obj_add_strcpy(body, member, "role", mero_role(role));
    return mero_about_group(line, "POST", body, "/admin-api/groups/%s/members");
}

static int remove_run(cli *line) {
    mero m;
    char group[CAL_ID_TEXT_MAX], account[CAL_ID_TEXT_MAX];
    yyjson_doc *doc = NULL;
    int code = mero_open(&m, line);
    if (code) return code;
    yyjson_mut_doc *body = mero_body();
    yyjson_mut_val *members =
        yyjson_mut_obj_add_arr(body, yyjson_mut_doc_get_root(body), "members");
    code = mero_group(&m, cli_operand(line, 0), group);
    for (size_t i = 1; code == 0 && i < line->operand_count; i++) {
        code = mero_member(&m, group, cli_operand(line, i), account);
        yyjson_mut_arr_add_strcpy(body, members, account);
    }
    if (code == 0 && !mero_confirm(&m, "Remove them? They cannot read what is written afterwards."))
        code = CLI_FAILED;
    if (code)
        yyjson_mut_doc_free(body);
    else
        code = mero_ask(&m, "POST", body, &doc, "/admin-api/groups/%s/members/remove", group);
    if (code == 0) mero_print(&m, yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
    mero_close(&m);
    return code;
}

/* --- the table --- */

static const cli_option yes_options[] = {{"yes", 'y', NULL, "Do not ask"}, {0}};
static const cli_option capability_options[] = {MERO_CAPABILITY_OPTIONS, {0}};
static const cli_option follow_options[] = {
    {"contexts", 0, "on|off",
     "Whether new contexts are joined by themselves: those of the group, and of open groups below "
     "in which the membership is inherited"},
    {"subgroups", 0, "on|off", "Kept, and told to all members; no node acts on it"},
    {0}};

const cli_command mero_member_commands[] = {
    {"list", "ls", "GROUP", "Members of a group", NULL, NULL, NULL, list_run},
    {"devices", NULL, "GROUP", "Devices of its members, as far as this node may see them", NULL,
     NULL, NULL, devices_run},
    {"add", NULL, "GROUP IDENTITY [ROLE]", "Add a member: its account, or a key that acts for it",
     "ROLE is admin, member (default) or read-only.", NULL, NULL, add_run},
    {"remove", "rm", "GROUP MEMBER [MEMBER...]", "Remove members; the group gets a new key",
     MERO_MEMBER_IS, yes_options, NULL, remove_run},
    {"set-role", NULL, "GROUP MEMBER ROLE", "Make a member an admin, a member, or read-only",
     "A read-only member's node runs views; a call that changes the state is "
     "refused.\n\n" MERO_MEMBER_IS,
     NULL, NULL, set_role_run},
    {"set-capabilities", "set-caps", "GROUP MEMBER", "What a member may do: exactly what is named",
     MERO_MEMBER_IS
     "\n\nExample:\n  meroctl group members set-capabilities friends MEMBER --can-invite-members",
     capability_options, NULL, set_capabilities_run},
    {"get-capabilities", "get-caps", "GROUP MEMBER", "What a member may do", MERO_MEMBER_IS, NULL,
     NULL, get_capabilities_run},
    {"check-access", NULL, "GROUP MEMBER", "A member's role and what it may do", MERO_MEMBER_IS,
     NULL, NULL, check_access_run},
    {"auto-follow", NULL, "GROUP MEMBER", "Whether a member joins new contexts by itself",
     "Open groups below need no joining: their members' contexts are followed as --contexts says. "
     "--subgroups is a flag of the protocol on which neither this node nor the reference acts."
     "\n\n" MERO_MEMBER_IS,
     follow_options, NULL, follow_run},
    {0}};
