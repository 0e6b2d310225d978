/* merod config, backup, check and rekey. Protocol: http-api.md 11, 12. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <yyjson.h>

#include "calimero/client.h"
#include "calimero/maintenance.h"
#include "merod.h"

/* --- config --- */

static int print_file(const cli *line, const char *home) {
    char path[MEROD_PATH_MAX + 16], bytes[4096];
    snprintf(path, sizeof path, "%s/config.toml", home);
    FILE *file = fopen(path, "r");
    if (!file) return cli_fail(line, "%s: %s", path, strerror(errno));
    size_t len;
    while ((len = fread(bytes, 1, sizeof bytes, file)) > 0) fwrite(bytes, 1, len, stdout);
    fclose(file);
    return CLI_OK;
}

int merod_config_run(cli *line) {
    char home[MEROD_PATH_MAX];
    cal_error err = {0};
    int code = merod_home(line, home);
    if (code) return code;
    if (line->operand_count == 0) return print_file(line, home);
    if (cal_config_set(home, line->operands, line->operand_count, &err) != 0)
        return cli_fail(line, "%s", err.message);
    return CLI_OK;
}

/* --- backup --- */

/* A node that runs holds its home's lock: it is asked to copy itself. */
static int backup_running(const cli *line, const cal_config *config, const char *folder,
                          cli_progress *progress) {
    cal_client *client = NULL;
    cal_client_answer answer = {0};
    cal_error err = {0};
    const char *url = cal_config_url(config);
    if (!url)
        return cli_fail(
            line, "the node runs, and its config.toml names no server.listen address to ask it at");
    cal_client_options options = {.url = url};
    int error = cal_client_new(&options, &client, &err);
    yyjson_mut_doc *body = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(body);
    yyjson_mut_doc_set_root(body, root);
    yyjson_mut_obj_add_str(body, root, "path", folder);
    char *json = yyjson_mut_write(body, YYJSON_WRITE_ALLOW_INVALID_UNICODE, NULL);
    if (error == 0) {
        cal_client_on_progress(client, (cal_client_progress)cli_progress_update, progress);
        error = cal_client_request(client, "POST", "/admin-api/backup", json, &answer, &err);
    }
    if (error == 0) error = cal_client_check(&answer, &err);
    cli_progress_end(progress);
    cal_client_answer_deinit(&answer);
    cal_client_free(client);
    yyjson_mut_doc_free(body);
    free(json);
    return error == 0 ? 0 : cli_fail(line, "%s", err.message);
}

static int backup_to(const cli *line, cal_config *config, const char *folder) {
    char secret[MEROD_SECRET_MAX];
    cal_node *node = NULL;
    cal_error err = {0};
    cli_progress progress = {.label = "copying"};
    cal_node_options *options = cal_config_node(config);
    int code = merod_unlock(line, options, secret);
    if (code) return code;
    options->read_only = true;
    int error = cal_node_start(options, &node, &err);
    explicit_bzero(secret, sizeof secret);
    if (error == CAL_EBUSY) return backup_running(line, config, folder, &progress);
    if (error) return cli_fail(line, "%s", err.message);
    error = cal_node_backup(node, folder, (cal_maintenance_progress)cli_progress_update, &progress,
                            &err);
    cli_progress_end(&progress);
    cal_node_stop(node);
    return error == 0 ? 0 : cli_fail(line, "%s", err.message);
}

/* The running node has a working folder of its own: it needs the whole path. */
static int absolute(const cli *line, const char *folder, char ret_path[MEROD_PATH_MAX]) {
    char *here = folder[0] == '/' ? NULL : getcwd(NULL, 0);
    int len =
        snprintf(ret_path, MEROD_PATH_MAX, "%s%s%s", here ? here : "", here ? "/" : "", folder);
    free(here);
    return len < MEROD_PATH_MAX ? 0 : cli_usage(line, "the path of the backup is too long");
}

int merod_backup_run(cli *line) {
    char folder[MEROD_PATH_MAX];
    cal_config *config = NULL;
    int code = merod_log(line);
    if (code == 0) code = absolute(line, cli_operand(line, 0), folder);
    if (code == 0) code = merod_config(line, &config);
    if (code == 0) code = backup_to(line, config, folder);
    if (code == 0) {
        printf("%s\n", folder);
        const cal_node_key *key = &cal_config_node(config)->key;
        if (key->kind == CAL_NODE_KEY_FILE)
            fprintf(stderr,
                    "merod: the key is not in it; keep %s%s elsewhere: without it the copy cannot "
                    "be opened\n",
                    key->text ? key->text : cal_config_node(config)->home,
                    key->text ? "" : "/master.key");
    }
    cal_config_free(config);
    return code;
}

/* --- check --- */

static void print_finding(void *user, const char *finding) {
    (void)user;
    printf("%s\n", finding);
}

int merod_check_run(cli *line) {
    char secret[MEROD_SECRET_MAX];
    cal_config *config = NULL;
    cal_check_summary s = {0};
    cal_error err = {0};
    int code = merod_log(line);
    if (code == 0) code = merod_config(line, &config);
    if (code == 0) code = merod_unlock(line, cal_config_node(config), secret);
    if (code == 0) {
        int error = cal_node_check(cal_config_node(config), print_finding, NULL, &s, &err);
        if (error == 0 || error == CAL_ECORRUPT)
            printf("%llu contexts, %llu entities, %llu deltas, %llu blobs in %llu chunks, %llu "
                   "operations: %s\n",
                   (unsigned long long)s.contexts, (unsigned long long)s.entities,
                   (unsigned long long)s.deltas, (unsigned long long)s.blobs,
                   (unsigned long long)s.chunks, (unsigned long long)s.operations,
                   error == 0 ? "all is well" : "damaged");
        if (error) code = cli_fail(line, "%s", err.message);
    }
    explicit_bzero(secret, sizeof secret);
    cal_config_free(config);
    return code;
}

/* --- rekey --- */

/* KEY = "TEXT" as TOML; free() it. JSON text is a TOML basic string. */
static char *pair_of(const char *key, const char *text) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    char *json = yyjson_mut_val_write(yyjson_mut_strcpy(doc, text), 0, NULL), *pair = NULL;
    if (!json || asprintf(&pair, "%s=%s", key, json) < 0) pair = NULL;
    free(json);
    yyjson_mut_doc_free(doc);
    return pair;
}

/* Says in config.toml what opens the store from now on. */
static int write_kind(const cli *line, const char *home, const cal_node_key *key) {
    static const char *const kinds[] = {"file", "passphrase", "command"};
    cal_error err = {0};
    const char *text = key->kind == CAL_NODE_KEY_FILE && !key->text ? "master.key" : key->text;
    char *pairs[2] = {pair_of("datastore.key.kind", kinds[key->kind]), NULL};
    size_t count = 1;
    if (key->kind != CAL_NODE_KEY_PASSPHRASE)
        pairs[count++] = pair_of(
            key->kind == CAL_NODE_KEY_FILE ? "datastore.key.path" : "datastore.key.command", text);
    bool made = pairs[0] && (count == 1 || pairs[1]);
    int code = 0;
    if (!made || cal_config_set(home, (const char *const *)pairs, count, &err) != 0)
        code = cli_fail(line,
                        "the key was changed, but config.toml still names the one before: set "
                        "[datastore.key] by hand "
                        "(%s)",
                        made ? err.message : "out of memory");
    free(pairs[0]);
    free(pairs[1]);
    return code;
}

/* A key file is named by its whole path, so that the node finds it from any folder. */
static int rekey(const cli *line, cal_config *config, cal_node_key *key) {
    char secret[MEROD_SECRET_MAX], path[MEROD_PATH_MAX];
    cal_error err = {0};
    cal_node_options *options = cal_config_node(config);
    int code = merod_unlock(line, options, secret);
    if (code == 0 && key->kind == CAL_NODE_KEY_FILE && key->text) {
        code = absolute(line, key->text, path);
        key->text = path;
    }
    if (code == 0 && cal_node_rekey(options, key, &err) != 0)
        code = cli_fail(line, "%s", err.message);
    explicit_bzero(secret, sizeof secret);
    if (code == 0) code = write_kind(line, options->home, key);
    if (code == 0)
        fprintf(stderr,
                "merod: the master key was changed; the key before opens nothing any more\n");
    return code;
}

int merod_rekey_run(cli *line) {
    char secret[MEROD_SECRET_MAX];
    cal_node_key key;
    cal_config *config = NULL;
    bool given = false;
    int code = merod_log(line);
    if (code == 0) code = merod_config(line, &config);
    if (code == 0) code = merod_new_key(line, "new-", &key, &given, secret);
    if (code == 0 && !given)
        code = cli_usage(line, "say what shall open the store: --new-key-file, "
                               "--new-key-passphrase or --new-key-command");
    if (code == 0) code = rekey(line, config, &key);
    explicit_bzero(secret, sizeof secret);
    cal_config_free(config);
    return code;
}

const cli_option merod_unlock_options[] = {
    {"key-passphrase-file", 0, "FILE", "The passphrase is this file's first line"},
    {"key-passphrase-stdin", 0, NULL, "The passphrase is the first line of standard input"},
    {0}};

const cli_option merod_rekey_options[] = {
    {"new-key-file", 0, "FILE", "Open the store with the key in this file, made when missing"},
    {"new-key-passphrase", 0, NULL, "Open the store with a passphrase"},
    {"new-key-passphrase-file", 0, "FILE", "The new passphrase is this file's first line"},
    {"new-key-passphrase-stdin", 0, NULL, "The new passphrase is the first line of standard input"},
    {"new-key-command", 0, "COMMAND", "Open the store with what this shell command prints"},
    {"key-passphrase-file", 0, "FILE", "The present passphrase is this file's first line"},
    {"key-passphrase-stdin", 0, NULL, "The present passphrase is the first line of standard input"},
    {0}};
