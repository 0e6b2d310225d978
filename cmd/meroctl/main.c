/* meroctl: the control tool of a node, over its HTTP API. Everything it does is in this table and
 * the tables it names.
 *
 * Includes nothing of the node but include/calimero. Protocol: http-api.md 13. */
#include "calimero/node.h"
#include "mero.h"

static int network_run(cli *line) {
    return mero_run(line, "GET", NULL, "/admin-api/network/status");
}
static int peers_run(cli *line) { return mero_run(line, "GET", NULL, "/admin-api/peers"); }
static int health_run(cli *line) { return mero_run(line, "GET", NULL, "/admin-api/health"); }

static const cli_command network_commands[] = {
    {"status", NULL, NULL, "Who this node is, where it is reached, which topics it hears", NULL,
     NULL, NULL, network_run},
    {0}};

static const cli_option options[] = {
    {"home", 0, "DIR", "Where node homes are, for --node (default: $CALIMERO_HOME or ~/.calimero)"},
    {"api", 0, "URL", "The node's address (default: the active node, else http://127.0.0.1:2528)"},
    {"node", 0, "ALIAS", "A node of `meroctl node list`, or the name of a node home"},
    {"output-format", 0, "human|json", "How answers are printed (default: human)"},
    {0}};

static const cli_command commands[] = {
    {"app", NULL, NULL, "Applications: install, list, pack, sign", NULL, NULL, mero_app_commands,
     NULL},
    {"namespace", "ns", NULL, "Namespaces: the people and contexts around an application", NULL,
     NULL, mero_namespace_commands, NULL},
    {"group", NULL, NULL, "Groups inside a namespace", MERO_GROUP_IS, NULL, mero_group_commands,
     NULL},
    {"context", NULL, NULL, "Contexts: create, list, watch, names", NULL, NULL,
     mero_context_commands, NULL},
    {"call", NULL, "[METHOD]", "Call a method of a context's application",
     "Examples:\n  meroctl call set --context notes --args '{\"key\":\"a\",\"value\":\"1\"}'\n"
     "  meroctl call get --args '{\"key\":\"a\"}'        (the default context)\n"
     "  meroctl call -i                             (a shell)",
     mero_call_options, NULL, mero_call_run},
    {"blob", NULL, NULL, "Blobs: files that contexts refer to", NULL, NULL, mero_blob_commands,
     NULL},
    {"account", NULL, NULL, "Who this node is, and the other devices of its account", NULL, NULL,
     mero_account_commands, NULL},
    {"network", NULL, NULL, "The node's place in the network", NULL, NULL, network_commands, NULL},
    {"peers", NULL, NULL, "Which peers are connected", NULL, NULL, NULL, peers_run},
    {"health", NULL, NULL, "Whether the node and its store work", NULL, NULL, NULL, health_run},
    {"node", NULL, NULL, "Names for the nodes that this tool talks to", NULL, NULL,
     mero_node_commands, NULL},
    {"completion", NULL, "SHELL", "Print completion for bash, zsh or fish",
     "Example:\n  meroctl completion bash > /etc/bash_completion.d/meroctl", NULL, NULL,
     cli_run_completion},
    {0}};

static const cli_command program = {
    "meroctl",
    NULL,
    NULL,
    "Controls a Calimero node through its HTTP API.",
    "Example, from nothing to a call:\n"
    "  meroctl app install --path kv-store.mpk\n"
    "  meroctl namespace create --application-id APP_ID\n"
    "  meroctl context create -a APP_ID --group-id NAMESPACE_ID --name notes\n"
    "  meroctl context use notes\n"
    "  meroctl call set --args '{\"key\":\"a\",\"value\":\"1\"}'\n\n"
    "Together with somebody else:\n"
    "  meroctl namespace invite NAMESPACE --code      (one line of text, to hand over)\n"
    "  meroctl namespace join calimero1...            (on the other node)\n\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 101 the node refused or could not be reached.",
    options,
    commands,
    NULL};

int main(int argc, char **argv) { return cli_main(&program, cal_version(), argc, argv); }
