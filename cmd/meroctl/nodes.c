/* Which node: --api, --node, or the active one of nodes.toml (protocol http-api.md 13).
 *
 * nodes.toml holds names, places and tokens and is written anew, 0600, by each change. A name that
 * is not in it may be the name of a node home: then its config.toml says where the node listens. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "calimero/config.h"
#include "mero.h"

enum { FILE_PATH_MAX = 4096, NODES_FILE_MAX = 1024 * 1024, NODE_NAME_MAX = 64 };
#define DEFAULT_URL "http://127.0.0.1:2528"

static bool nodes_path(char ret_path[FILE_PATH_MAX]) {
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    if (config && config[0] == '/')
        return snprintf(ret_path, FILE_PATH_MAX, "%s/calimero/meroctl/nodes.toml", config) > 0;
    return home &&
           snprintf(ret_path, FILE_PATH_MAX, "%s/.config/calimero/meroctl/nodes.toml", home) > 0;
}

/* The file as JSON; an empty object when there is none. */
static int nodes_load(const cli *line, yyjson_doc **ret_doc) {
    char path[FILE_PATH_MAX];
    cal_error err = {0};
    char *json = NULL;
    if (!nodes_path(path))
        return cli_fail(line, "HOME is not set: there is nowhere to keep the list of nodes");
    int error = cal_toml_file_to_json(path, NODES_FILE_MAX, &json, &err);
    if (error == CAL_ENOTFOUND)
        json = strdup("{}");
    else if (error)
        return cli_fail(line, "%s", err.message);
    *ret_doc = json ? yyjson_read(json, strlen(json), 0) : NULL;
    free(json);
    return *ret_doc ? 0 : cli_fail(line, "%s cannot be read", path);
}

/* A basic string of TOML takes every escape that yyjson writes. */
static void print_toml_text(FILE *out, const char *text) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    char *json = doc ? yyjson_mut_val_write(yyjson_mut_strcpy(doc, text), 0, NULL) : NULL;
    fputs(json ? json : "\"\"", out);
    free(json);
    yyjson_mut_doc_free(doc);
}

static void print_node(FILE *out, const char *name, yyjson_mut_val *node) {
    static const char *const keys[] = {"url", "path"};
    fputs("\n[nodes.", out);
    print_toml_text(out, name);
    fputs("]\n", out);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const char *text = yyjson_mut_get_str(yyjson_mut_obj_get(node, keys[i]));
        if (!text) continue;
        fprintf(out, "%s = ", keys[i]);
        print_toml_text(out, text);
        fputc('\n', out);
    }
    yyjson_mut_val *tokens = yyjson_mut_obj_get(node, "jwt_tokens");
    const char *access = yyjson_mut_get_str(yyjson_mut_obj_get(tokens, "access_token"));
    const char *refresh = yyjson_mut_get_str(yyjson_mut_obj_get(tokens, "refresh_token"));
    if (!access) return;
    fputs("jwt_tokens = { access_token = ", out);
    print_toml_text(out, access);
    if (refresh) fputs(", refresh_token = ", out);
    if (refresh) print_toml_text(out, refresh);
    fputs(" }\n", out);
}

static bool make_parents(const char *path) {
    char copy[FILE_PATH_MAX];
    snprintf(copy, sizeof copy, "%s", path);
    for (char *p = strchr(copy + 1, '/'); p; p = strchr(p + 1, '/')) {
        *p = 0;
        if (mkdir(copy, 0700) != 0 && errno != EEXIST) return false;
        *p = '/';
    }
    return true;
}

static int nodes_save(const cli *line, yyjson_mut_doc *doc) {
    char path[FILE_PATH_MAX], *text = NULL;
    size_t len = 0, i, n;
    yyjson_mut_val *root = yyjson_mut_doc_get_root(doc), *key, *node;
    FILE *out = open_memstream(&text, &len);
    if (!out || !nodes_path(path)) return cli_fail(line, "the list of nodes cannot be written");
    const char *active = yyjson_mut_get_str(yyjson_mut_obj_get(root, "active_node"));
    if (active) {
        fputs("active_node = ", out);
        print_toml_text(out, active);
        fputc('\n', out);
    }
    yyjson_mut_val *nodes = yyjson_mut_obj_get(root, "nodes");
    yyjson_mut_obj_foreach(nodes, i, n, key, node) print_node(out, yyjson_mut_get_str(key), node);
    fclose(out);
    cal_error err = {0};
    int code = 0;
    if (!make_parents(path))
        code = cli_fail(line, "the folder of %s cannot be made: %s", path, strerror(errno));
    else if (cal_config_write_file(path, text, len, &err) != 0)
        code = cli_fail(line, "%s", err.message);
    free(text);
    return code;
}

/* --- where a node answers --- */

static int url_of_home(const cli *line, const char *home, char **ret_url) {
    cal_config *config = NULL;
    cal_error err = {0};
    if (cal_config_load(home, &config, &err) != 0) return cli_fail(line, "%s", err.message);
    const char *url = cal_config_url(config);
    *ret_url = url ? strdup(url) : NULL;
    cal_config_free(config);
    return *ret_url ? 0 : cli_fail(line, "%s/config.toml names no server.listen address", home);
}

static int target_of_entry(const cli *line, yyjson_val *node, char **ret_url, char **ret_token) {
    const char *url = yyjson_get_str(yyjson_obj_get(node, "url"));
    const char *home = yyjson_get_str(yyjson_obj_get(node, "path"));
    const char *token =
        yyjson_get_str(yyjson_obj_get(yyjson_obj_get(node, "jwt_tokens"), "access_token"));
    if (token) *ret_token = strdup(token);
    if (url) *ret_url = strdup(url);
    if (url) return 0;
    return home ? url_of_home(line, home, ret_url)
                : cli_fail(line, "that node has neither a url nor a path in nodes.toml");
}

static void home_of_name(const cli *line, const char *name, char ret_home[FILE_PATH_MAX]) {
    const char *base = cli_get(line, "home"), *user = getenv("HOME");
    if (!base) base = getenv("CALIMERO_HOME");
    if (base)
        snprintf(ret_home, FILE_PATH_MAX, "%s/%s", base, name);
    else
        snprintf(ret_home, FILE_PATH_MAX, "%s/.calimero/%s", user ? user : "", name);
}

int mero_nodes_target(const cli *line, char **ret_url, char **ret_token) {
    const char *api = cli_get(line, "api"), *name = cli_get(line, "node");
    if (api && name) return cli_usage(line, "--api and --node exclude each other");
    if (api) {
        *ret_url = strdup(api);
        return *ret_url ? 0 : CLI_FAILED;
    }
    yyjson_doc *doc = NULL;
    int code = nodes_load(line, &doc);
    if (code) return code;
    yyjson_val *root = yyjson_doc_get_root(doc), *nodes = yyjson_obj_get(root, "nodes");
    bool named = name != NULL;
    if (!name) name = yyjson_get_str(yyjson_obj_get(root, "active_node"));
    yyjson_val *entry = name ? yyjson_obj_get(nodes, name) : NULL;
    if (entry) {
        code = target_of_entry(line, entry, ret_url, ret_token);
    } else if (named) {
        char home[FILE_PATH_MAX], file[FILE_PATH_MAX + 16];
        home_of_name(line, name, home);
        snprintf(file, sizeof file, "%s/config.toml", home);
        code =
            access(file, R_OK) == 0
                ? url_of_home(line, home, ret_url)
                : cli_fail(line,
                           "no node '%s': it is neither in `meroctl node list` nor is there a %s",
                           name, file);
    } else {
        *ret_url = strdup(DEFAULT_URL);
    }
    yyjson_doc_free(doc);
    return code;
}

/* --- commands --- */

static bool valid_name(const char *name) {
    size_t len = strlen(name);
    return len > 0 && len <= NODE_NAME_MAX &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.") == len;
}

static int open_list(const cli *line, yyjson_mut_doc **ret_doc, yyjson_mut_val **ret_nodes) {
    yyjson_doc *doc = NULL;
    int code = nodes_load(line, &doc);
    if (code) return code;
    *ret_doc = yyjson_doc_mut_copy(doc, NULL);
    yyjson_doc_free(doc);
    if (!*ret_doc) return cli_fail(line, "out of memory");
    yyjson_mut_val *root = yyjson_mut_doc_get_root(*ret_doc);
    *ret_nodes = yyjson_mut_obj_get(root, "nodes");
    if (!*ret_nodes) *ret_nodes = yyjson_mut_obj_add_obj(*ret_doc, root, "nodes");
    return 0;
}

static int add_run(cli *line) {
    const char *name = cli_operand(line, 0), *place = cli_operand(line, 1);
    const char *access_token = cli_get(line, "access-token"),
               *refresh = cli_get(line, "refresh-token");
    yyjson_mut_doc *doc;
    yyjson_mut_val *nodes;
    if (!valid_name(name))
        return cli_usage(line, "'%s' is no name: use up to %d of A-Z a-z 0-9 - _ .", name,
                         NODE_NAME_MAX);
    if (refresh && !access_token) return cli_usage(line, "--refresh-token needs --access-token");
    int code = open_list(line, &doc, &nodes);
    if (code) return code;
    bool remote = strncmp(place, "http://", 7) == 0 || strncmp(place, "https://", 8) == 0;
    char *path = remote ? NULL : realpath(place, NULL);
    if (!remote && !path) {
        yyjson_mut_doc_free(doc);
        return cli_fail(line, "'%s' is neither an http URL nor a node home: %s", place,
                        strerror(errno));
    }
    yyjson_mut_val *node = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_strcpy(doc, node, remote ? "url" : "path", remote ? place : path);
    if (access_token) {
        yyjson_mut_val *tokens = yyjson_mut_obj_add_obj(doc, node, "jwt_tokens");
        yyjson_mut_obj_add_strcpy(doc, tokens, "access_token", access_token);
        if (refresh) yyjson_mut_obj_add_strcpy(doc, tokens, "refresh_token", refresh);
    }
    yyjson_mut_obj_put(nodes, yyjson_mut_strcpy(doc, name), node);
    code = nodes_save(line, doc);
    if (code == 0) printf("node '%s' is %s\n", name, remote ? place : path);
    free(path);
    yyjson_mut_doc_free(doc);
    return code;
}

static int remove_run(cli *line) {
    const char *name = cli_operand(line, 0);
    yyjson_mut_doc *doc;
    yyjson_mut_val *nodes;
    int code = open_list(line, &doc, &nodes);
    if (code) return code;
    yyjson_mut_val *root = yyjson_mut_doc_get_root(doc);
    const char *active = yyjson_mut_get_str(yyjson_mut_obj_get(root, "active_node"));
    bool was_active = active && strcmp(active, name) == 0;
    if (!yyjson_mut_obj_remove_key(nodes, name)) {
        code = cli_fail(line, "no node '%s'; see `meroctl node list`", name);
    } else {
        if (was_active) yyjson_mut_obj_remove_key(root, "active_node");
        code = nodes_save(line, doc);
    }
    yyjson_mut_doc_free(doc);
    return code;
}

static int use_run(cli *line) {
    const char *name = cli_operand(line, 0);
    yyjson_mut_doc *doc;
    yyjson_mut_val *nodes;
    int code = open_list(line, &doc, &nodes);
    if (code) return code;
    if (!yyjson_mut_obj_get(nodes, name)) {
        code = cli_fail(line, "no node '%s'; add it with `meroctl node add %s URL`", name, name);
    } else {
        yyjson_mut_obj_put(yyjson_mut_doc_get_root(doc), yyjson_mut_str(doc, "active_node"),
                           yyjson_mut_strcpy(doc, name));
        code = nodes_save(line, doc);
    }
    yyjson_mut_doc_free(doc);
    return code;
}

static int list_run(cli *line) {
    yyjson_doc *doc = NULL;
    int code = nodes_load(line, &doc);
    if (code) return code;
    yyjson_val *root = yyjson_doc_get_root(doc), *key, *node;
    const char *active = yyjson_get_str(yyjson_obj_get(root, "active_node"));
    yyjson_mut_doc *out = mero_body();
    yyjson_mut_val *rows = yyjson_mut_arr(out);
    size_t i, n;
    yyjson_obj_foreach(yyjson_obj_get(root, "nodes"), i, n, key, node) {
        yyjson_mut_val *row = yyjson_mut_arr_add_obj(out, rows);
        const char *url = yyjson_get_str(yyjson_obj_get(node, "url"));
        const char *path = yyjson_get_str(yyjson_obj_get(node, "path"));
        yyjson_mut_obj_add_strcpy(out, row, "name", yyjson_get_str(key));
        yyjson_mut_obj_add_strcpy(out, row, "location", url ? url : path ? path : "");
        yyjson_mut_obj_add_bool(out, row, "active",
                                active && strcmp(active, yyjson_get_str(key)) == 0);
        yyjson_mut_obj_add_bool(out, row, "token", yyjson_obj_get(node, "jwt_tokens") != NULL);
    }
    yyjson_mut_doc_set_root(out, rows);
    yyjson_doc *shown = yyjson_mut_doc_imut_copy(out, NULL);
    const char *format = cli_get(line, "output-format");
    mero m = {.line = line, .json = format && strcmp(format, "json") == 0};
    mero_print(&m, yyjson_doc_get_root(shown));
    yyjson_doc_free(shown);
    yyjson_mut_doc_free(out);
    yyjson_doc_free(doc);
    return 0;
}

static const cli_option add_options[] = {
    {"access-token", 0, "TOKEN", "Token sent with every request"},
    {"refresh-token", 0, "TOKEN", "Token that renews it, kept beside it"},
    {0}};

const cli_command mero_node_commands[] = {
    {"add", "connect", "NAME LOCATION", "Give a node a name: its URL or its home folder",
     "Example:\n  meroctl node add home http://127.0.0.1:2528\n  meroctl node use home",
     add_options, NULL, add_run},
    {"use", NULL, "NAME", "Talk to this node from now on", NULL, NULL, NULL, use_run},
    {"list", "ls", NULL, "The nodes that have names", NULL, NULL, NULL, list_run},
    {"remove", "rm", "NAME", "Forget a node's name", NULL, NULL, NULL, remove_run},
    {0}};
