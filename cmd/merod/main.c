/* merod: a node as a daemon. The table of its commands, and what they share.
 *
 * Includes nothing of the node but include/calimero: what it does, any program can. Protocol:
 * http-api.md 12. */
#include <stdlib.h>
#include <string.h>

#include "calimero/log.h"
#include "merod.h"

int merod_home(const cli *line, char ret_home[MEROD_PATH_MAX]) {
    const char *base = cli_get(line, "home"), *name = cli_get(line, "node"), *user = getenv("HOME");
    if (!name) return cli_usage(line, "which node? Give --node NAME");
    if (!name[0] || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return cli_usage(line, "'%s' is no name for a node: it becomes a folder, so leave out '/'",
                         name);
    if (!base) base = getenv("CALIMERO_HOME");
    if (!base && !user) return cli_usage(line, "where? Give --home DIR");
    int len = base ? snprintf(ret_home, MEROD_PATH_MAX, "%s/%s", base, name)
                   : snprintf(ret_home, MEROD_PATH_MAX, "%s/.calimero/%s", user, name);
    return len < MEROD_PATH_MAX ? 0 : cli_usage(line, "the path of the home is too long");
}

int merod_config(const cli *line, cal_config **ret_config) {
    char home[MEROD_PATH_MAX];
    cal_error err = {0};
    int code = merod_home(line, home);
    if (code) return code;
    if (cal_config_load(home, ret_config, &err) != 0) return cli_fail(line, "%s", err.message);
    return 0;
}

/* The level of "debug", or the highest of "merod=info,calimero_=debug"; words of other programs are
 * passed over. */
static void level_of(const char *text, cal_log_level *ret_level) {
    char copy[512], *rest = copy, *item;
    cal_log_level level, best = CAL_LOG_ERROR;
    bool found = false;
    snprintf(copy, sizeof copy, "%s", text);
    while ((item = strsep(&rest, ","))) {
        char *equals = strchr(item, '=');
        bool ours = !equals || strncmp(item, "mero", 4) == 0 || strncmp(item, "calimero", 8) == 0;
        const char *word = equals ? equals + 1 : item;
        if (strcmp(word, "trace") == 0) word = "debug";
        if (!ours || cal_log_level_parse(word, &level) != 0) continue;
        if (!found || level > best) best = level;
        found = true;
    }
    if (found) *ret_level = best;
}

int merod_log(const cli *line) {
    const char *format = cli_get(line, "log-format"), *level_text = cli_get(line, "log-level");
    cal_log_level level = CAL_LOG_INFO;
    if (!level_text) level_text = getenv("CALIMERO_LOG");
    if (!level_text) level_text = getenv("RUST_LOG");
    if (level_text) level_of(level_text, &level);
    cal_log_set_level(level);
    cal_log_set_format(format && strcmp(format, "json") == 0 ? CAL_LOG_JSON : CAL_LOG_TEXT);
    return 0;
}

static const cli_option options[] = {
    {"home", 0, "DIR", "Folder of all node homes (default: $CALIMERO_HOME or ~/.calimero)"},
    {"node", 'n', "NAME", "Name of the node: its home is DIR/NAME"},
    {"log-level", 0, "error|warn|info|debug",
     "What is logged (default: $CALIMERO_LOG, $RUST_LOG or info)"},
    {"log-format", 0, "text|json", "How it is written to standard error (default: text)"},
    {0}};

static const cli_command commands[] = {
    {"init", NULL, NULL, "Make a new node",
     "Examples:\n  merod --node n1 init\n  merod --node n1 init --server-port 2600 "
     "--key-passphrase\n\n"
     "The data is encrypted. Whoever loses the key (master.key, or the passphrase) loses the data.",
     merod_init_options, NULL, merod_init_run},
    {"run", "up", NULL, "Run a node until SIGTERM or SIGINT",
     "Example:\n  merod --node n1 run\n  CALIMERO_LOG=debug merod --node n1 --log-format json run",
     merod_run_options, NULL, merod_run_run},
    {"config", NULL, "[KEY=VALUE...]", "Show config.toml, or set keys in it",
     "Values are TOML, so texts need quotes that the shell leaves alone:\n"
     "  merod --node n1 config sync.timeout_ms=60000 "
     "'server.allowed_origins=[\"https://app.example.com\"]'\n\n"
     "Nothing is written unless the node would start with all of it.",
     NULL, NULL, merod_config_run},
    {"backup", NULL, "DIR", "Copy a node, running or not, into an empty folder",
     "Example:\n  merod --node n1 backup /var/backups/n1-monday", merod_unlock_options, NULL,
     merod_backup_run},
    {"check", NULL, NULL, "Walk a stopped node's data and report damage",
     "Every page, every state root, every reference. Repairs nothing; exit code 1 when something "
     "is wrong.",
     merod_unlock_options, NULL, merod_check_run},
    {"rekey", NULL, NULL, "Change what opens a stopped node's data",
     "Example:\n  merod --node n1 rekey --new-key-passphrase", merod_rekey_options, NULL,
     merod_rekey_run},
    {"completion", NULL, "SHELL", "Print completion for bash, zsh or fish",
     "Example:\n  merod completion bash > /etc/bash_completion.d/merod", NULL, NULL,
     cli_run_completion},
    {0}};

static const cli_command program = {"merod",
                                    NULL,
                                    NULL,
                                    "Runs a Calimero node.",
                                    "Example, from nothing to a running node:\n"
                                    "  merod --node n1 init\n"
                                    "  merod --node n1 run\n"
                                    "  meroctl --node n1 app list        (in another terminal)",
                                    options,
                                    commands,
                                    NULL};

int main(int argc, char **argv) { return cli_main(&program, cal_version(), argc, argv); }
