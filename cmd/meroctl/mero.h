/* What meroctl's commands share: which node, one request, what it answered on the screen. */
#ifndef MERO_H
#define MERO_H

#include <yyjson.h>

#include "calimero/client.h"
#include "calimero/identity.h"
#include "cli/cli.h"

enum { MERO_PATH_MAX = 4096 };

/* The node that a command line means. */
typedef struct mero {
    const cli *line;
    cal_client *client;
    bool json; /* --output-format json */
    cli_progress progress;
} mero;

/* Each returns 0 or an exit code, and has then said why. */
int mero_open(mero *m, const cli *line);
void mero_close(mero *m);

/* Behind the path of a GET: all rows of a listing, page by page, as if they were one. */
enum { MERO_PAGE = 1000 };
#define MERO_ALL "?limit=1000"

/* `path` may hold %s, each replaced by an argument with everything escaped that a URL does not
 * take. `body` is freed; NULL sends JSON null with POST and PUT, otherwise nothing. *ret_doc may be
 * NULL for an empty answer; free it. */
int mero_ask(mero *m, const char *verb, yyjson_mut_doc *body, yyjson_doc **ret_doc,
             const char *path, ...);
/* The same from opening to printing: most commands are this alone. */
int mero_run(const cli *line, const char *verb, yyjson_mut_doc *body, const char *path, ...);

/* Prints an error of the client, also as JSON when asked; returns CLI_CLIENT. */
int mero_error(const mero *m, const cal_error *err);
/* Prints a refusal of our own; returns CLI_FAILED. */
int mero_fail(const mero *m, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Shows a wheel or a bar with this label during the following requests; NULL ends it. */
void mero_progress(mero *m, const char *label);

/* The context that text means: an alias, or its id. */
int mero_context(mero *m, const char *text, char ret_id[CAL_ID_TEXT_MAX]);
/* The namespace or group: its id, its name, or NAMESPACE/GROUP/... by names. A namespace goes
 * before groups of its name; a name that several have is refused. */
int mero_group(mero *m, const char *text, char ret_id[CAL_ID_TEXT_MAX]);
int mero_count_namespaces(mero *m, const char *name, size_t *ret_count); /* of that name */
/* The member of a group: an account, a key that acts for it, or a member's name. */
int mero_member(mero *m, const char *group, const char *text, char ret_id[CAL_ID_TEXT_MAX]);
#define MERO_MEMBER_IS                                                                             \
    "MEMBER is the member's account, a key that acts for it, or its name in the group. `meroctl "  \
    "group members list GROUP` shows those of a group, `meroctl account show` on the member's "    \
    "own "                                                                                         \
    "node its accountId."
#define MERO_GROUP_IS                                                                              \
    "GROUP is a namespace or a group: its id, its name, or NAMESPACE/GROUP/... by names."
/* One request about the group that the first operand names, printed. `path` has one %s for it, and
 * may have one more for the second operand. Frees body. */
int mero_about_group(const cli *line, const char *verb, yyjson_mut_doc *body, const char *path);
/* The same about the context that `text` names. */
int mero_about_context(const cli *line, const char *text, const char *verb, yyjson_mut_doc *body,
                       const char *path);
/* What a command means when it names no context: the option --context, then the default one. */
const char *mero_context_text(const cli *line, const char *operand);

/* A text that an argument stands for: `-` is standard input, `@PATH` a file, and so is `file:PATH`.
 * Otherwise itself. Without the white space around it; free it. */
int mero_read_text(const mero *m, const char *source, char **ret_text);

/* --- JSON --- */
yyjson_mut_doc *mero_body(void); /* an empty object; never NULL */
void mero_set(yyjson_mut_doc *body, const char *key, const char *text); /* nothing for NULL */
void mero_set_bytes(yyjson_mut_doc *body, const char *key,
                    const char *text); /* an array of numbers; NULL: empty */
/* false when the text is not JSON; key is then not set. */
bool mero_set_json(yyjson_mut_doc *body, const char *key, const char *json);
yyjson_val *mero_data(yyjson_doc *doc);                     /* what stands in "data" */
const char *mero_text(yyjson_val *object, const char *key); /* "" when absent or no text */

void mero_print(const mero *m, yyjson_val *value); /* whole, in the format asked for */
void mero_print_human(yyjson_val *value, FILE *out);

/* "read-only" as "ReadOnly", the way the node spells it; NULL for NULL. */
const char *mero_role(const char *word);
/* What a mask of capabilities allows, in words; and the mask that --can-... options name. */
void mero_print_capabilities(uint64_t mask);
uint64_t mero_capabilities(const cli *line);
#define MERO_CAPABILITY_OPTIONS                                                                    \
    {"can-create-context", 0, NULL, "May create contexts"},                                        \
        {"can-invite-members", 0, NULL, "May invite"},                                             \
        {"can-join-open-subgroups", 0, NULL, "May join open groups below"},                        \
        {"can-manage-members", 0, NULL, "May add and remove members"},                             \
        {"can-manage-application", 0, NULL, "May change the application"},                         \
        {"can-create-subgroup", 0, NULL, "May create groups below"},                               \
        {"can-delete-subgroup", 0, NULL, "May delete groups below"},                               \
        {"can-manage-visibility", 0, NULL, "May open and close groups"}, {                         \
        "can-manage-metadata", 0, NULL, "May set names and metadata of others"                     \
    }

/* Asks on the terminal; true without asking when `--yes` was given. */
bool mero_confirm(const mero *m, const char *question);

/* --- nodes.toml --- */
/* URL and token (NULL: none) of the node that --api, --node or `node use` mean; free both. */
int mero_nodes_target(const cli *line, char **ret_url, char **ret_token);

extern const cli_command mero_node_commands[];
extern const cli_command mero_app_commands[];
extern const cli_command mero_context_commands[];
extern const cli_command mero_namespace_commands[];
extern const cli_command mero_group_commands[];
extern const cli_command mero_member_commands[]; /* of group */
extern const cli_command mero_metadata_commands[], mero_member_metadata_commands[],
    mero_context_metadata_commands[];
extern const cli_command mero_account_commands[];
extern const cli_command mero_blob_commands[];
extern const cli_option mero_call_options[];
int mero_call_run(cli *line);
int mero_watch_run(cli *line);                      /* context watch */
int mero_invite(const cli *line, const char *path); /* namespace invite, group invite */
int mero_join_run(cli *line);                       /* namespace join */
int mero_convert_run(cli *line);                    /* namespace invitation convert */
extern const cli_option mero_convert_options[];
extern const cli_option mero_invite_options[], mero_join_options[], mero_new_group_options[];
int mero_new_group_run(cli *line); /* namespace create-group, group create */
int mero_transfer_run(cli *line);  /* group owner transfer */
int mero_prove_run(cli *line);     /* group prove-ownership */
extern const cli_option mero_prove_options[];
int mero_sync_status_run(cli *line);
int mero_app_watch_run(cli *line);
int mero_bundle_pack_run(cli *line);
int mero_bundle_sign_run(cli *line);
int mero_bundle_keygen_run(cli *line);
/* POST install-dev-application; ret_id NULL: prints the answer. */
int mero_app_install_file(mero *m, const char *path, char ret_id[CAL_ID_TEXT_MAX]);

#endif
