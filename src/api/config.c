/* From the text of config.toml to options, see calimero/config.h.
 *
 * TOML becomes JSON (third_party/native), JSON is read by yyjson, and the rows of `numbers` and
 * `texts` below say which key goes where and what it may hold. Thread: the caller's. Specification:
 * http-api.md 11. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/config_internal.h"
#include "base/error.h"
#include "native.h"

yyjson_val *config_at(yyjson_val *root, const char *key) {
    while (root && *key) {
        size_t len = strcspn(key, ".");
        root = yyjson_obj_getn(root, key, len);
        key += len + (key[len] == '.');
    }
    return root;
}

int config_address_parse(const char *text, config_address *ret_address) {
    config_address a = {0};
    char kind[8], protocol[8], port[8];
    int used = 0;
    if (sscanf(text, "/%7[a-z0-9]/%63[^/]/%7[a-z]/%7[0-9]%n", kind, a.host, protocol, port,
               &used) != 4)
        return CAL_EDECODE;
    char *end;
    unsigned long number = strtoul(port, &end, 10);
    struct in6_addr address;
    if (*end || number > UINT16_MAX) return CAL_EDECODE;
    a.ip4 = strcmp(kind, "ip4") == 0;
    a.ip6 = strcmp(kind, "ip6") == 0;
    a.tcp = strcmp(protocol, "tcp") == 0;
    a.udp = strcmp(protocol, "udp") == 0;
    a.exact = text[used] == 0;
    a.port = (uint16_t)number;
    if (!a.tcp && !a.udp) return CAL_EDECODE;
    if (text[used] && text[used] != '/') return CAL_EDECODE;
    if (a.ip4 && inet_pton(AF_INET, a.host, &address) != 1) return CAL_EDECODE;
    if (a.ip6 && inet_pton(AF_INET6, a.host, &address) != 1) return CAL_EDECODE;
    if (!a.ip4 && !a.ip6 && strncmp(kind, "dns", 3) != 0) return CAL_EDECODE;
    *ret_address = a;
    return 0;
}

/* --- values by key; an absent key leaves *ret as it was --- */

static int get_text(const cal_config *c, const char *key, const char **ret_text, cal_error *err) {
    yyjson_val *value = config_at(c->root, key);
    if (!value) return 0;
    const char *text = yyjson_get_str(value);
    if (!text || strlen(text) != yyjson_get_len(value))
        return cal_fail(err, CAL_EINVAL, "%s must be a text", key);
    *ret_text = text;
    return 0;
}

static int get_word(const cal_config *c, const char *key, const char *const words[2],
                    bool *ret_second, cal_error *err) {
    const char *text = NULL;
    int error = get_text(c, key, &text, err);
    if (error || !text) return error;
    if (strcmp(text, words[0]) != 0 && strcmp(text, words[1]) != 0)
        return cal_fail(err, CAL_EINVAL, "%s is \"%s\" but must be \"%s\" or \"%s\"", key, text,
                        words[0], words[1]);
    *ret_second = strcmp(text, words[1]) == 0;
    return 0;
}

static int get_number(const cal_config *c, const char *key, uint64_t min, uint64_t max,
                      uint64_t *ret_number, cal_error *err) {
    yyjson_val *value = config_at(c->root, key);
    if (!value) return 0;
    if (!yyjson_is_uint(value) || yyjson_get_uint(value) < min || yyjson_get_uint(value) > max) {
        char *text = yyjson_val_write(value, 0, NULL);
        int code = cal_fail(
            err, CAL_EINVAL, "%s is %s but must be a whole number from %llu to %llu", key,
            text ? text : "something else", (unsigned long long)min, (unsigned long long)max);
        free(text);
        return code;
    }
    *ret_number = yyjson_get_uint(value);
    return 0;
}

static int get_texts(const cal_config *c, const char *key, const char **ret_texts, size_t max,
                     size_t *ret_count, cal_error *err) {
    yyjson_val *list = config_at(c->root, key), *item;
    size_t i, n;
    if (!list) return 0;
    if (!yyjson_is_arr(list) || yyjson_arr_size(list) > max)
        return cal_fail(err, CAL_EINVAL, "%s must be a list of at most %zu texts", key, max);
    yyjson_arr_foreach(list, i, n, item) {
        const char *text = yyjson_get_str(item);
        if (!text || strlen(text) != yyjson_get_len(item))
            return cal_fail(err, CAL_EINVAL, "%s must be a list of texts", key);
        ret_texts[i] = text;
    }
    *ret_count = yyjson_arr_size(list);
    return 0;
}

/* --- the node's part --- */

/* Limits of keys of our own; those of the specification are in config_check.c. */
enum {
    WORKERS_MAX = 256,
    DEADLINE_MIN_MS = 100,
    DEADLINE_MAX_MS = 3600000,
    LOGS_MAX = 1000000,
    LOG_SIZE_MAX = 16 * 1024 * 1024,
    PING_MAX_S = 86400,
    PING_DEFAULT_S = 30,
    PONG_DEFAULT_S = 10,
    RENDEZVOUS_POINTS_MAX = 100,
    COMPACTION_MAX = INT32_MAX,
};
static const uint64_t guest_memory_min = 1024 * 1024, guest_memory_max = 4ull * 1024 * 1024 * 1024;

static int read_u32(const cal_config *c, const char *key, uint64_t min, uint64_t max, uint32_t *ret,
                    cal_error *err) {
    uint64_t number = *ret;
    int error = get_number(c, key, min, max, &number, err);
    *ret = (uint32_t)number;
    return error;
}

static int read_limits(cal_config *c, cal_error *err) {
    cal_node_options *node = &c->node;
    int error = get_number(c, "runtime.limits.max_gas", 1, INT64_MAX, &node->max_gas, err);
    if (error == 0)
        error = read_u32(c, "runtime.limits.max_logs", 1, LOGS_MAX, &node->max_logs, err);
    if (error == 0)
        error =
            read_u32(c, "runtime.limits.max_log_size", 1, LOG_SIZE_MAX, &node->max_log_size, err);
    if (error == 0)
        error = read_u32(c, "runtime.call_deadline_ms", DEADLINE_MIN_MS, DEADLINE_MAX_MS,
                         &node->call_deadline_ms, err);
    if (error == 0)
        error = get_number(c, "runtime.guest_memory_max", guest_memory_min, guest_memory_max,
                           &node->guest_memory_max, err);
    if (error == 0) error = read_u32(c, "runtime.workers", 1, WORKERS_MAX, &node->workers, err);
    return error;
}

/* [datastore.key] kind = "file" | "passphrase" | "command". */
static int read_key(cal_config *c, cal_error *err) {
    const char *kind = "file", *path = NULL, *command = NULL;
    int error = get_text(c, "datastore.key.kind", &kind, err);
    if (error == 0) error = get_text(c, "datastore.key.path", &path, err);
    if (error == 0) error = get_text(c, "datastore.key.command", &command, err);
    if (error) return error;
    cal_node_key *key = &c->node.key;
    if (strcmp(kind, "passphrase") == 0) {
        key->kind = CAL_NODE_KEY_PASSPHRASE;
        return 0;
    }
    if (strcmp(kind, "command") == 0) {
        if (!command || !command[0])
            return cal_fail(
                err, CAL_EINVAL,
                "datastore.key.command is missing, and datastore.key.kind is \"command\"");
        *key = (cal_node_key){CAL_NODE_KEY_COMMAND, command};
        return 0;
    }
    if (strcmp(kind, "file") != 0)
        return cal_fail(
            err, CAL_EINVAL,
            "datastore.key.kind is \"%s\" but must be \"file\", \"passphrase\" or \"command\"",
            kind);
    key->kind = CAL_NODE_KEY_FILE;
    if (!path) return 0;
    const char *folder = path[0] == '/' ? "" : c->home;
    if (snprintf(c->key_path, sizeof c->key_path, "%s%s%s", folder, folder[0] ? "/" : "", path) >=
        (int)sizeof c->key_path)
        return cal_fail(err, CAL_EINVAL, "datastore.key.path is longer than %d bytes",
                        CONFIG_PATH_MAX);
    key->text = c->key_path;
    return 0;
}

/* Whether a key holds true or false; as it was when the key is absent. */
static int get_flag(const cal_config *c, const char *key, bool *ret_flag, cal_error *err) {
    yyjson_val *value = config_at(c->root, key);
    if (value && !yyjson_is_bool(value))
        return cal_fail(err, CAL_EINVAL, "%s must be true or false", key);
    if (value) *ret_flag = yyjson_get_bool(value);
    return 0;
}

/* Entries for UDP stay in the file for a version that speaks QUIC; cal_config_check warns. */
static void keep_tcp(const char **listen, size_t *count) {
    size_t kept = 0;
    config_address address;
    for (size_t i = 0; i < *count; i++)
        if (config_address_parse(listen[i], &address) != 0 || !address.udp)
            listen[kept++] = listen[i];
    *count = kept;
}

static int read_network(cal_config *c, cal_error *err) {
    cal_network_options *network = &c->node.network;
    int error =
        get_texts(c, "swarm.listen", c->swarm, CONFIG_LISTEN_MAX, &network->listen_count, err);
    if (error == 0)
        error = get_texts(c, "bootstrap.nodes", c->boot_nodes, CONFIG_NODES_MAX,
                          &network->bootstrap_count, err);
    if (error == 0)
        error = get_texts(c, "discovery.external_address", c->external, CONFIG_LISTEN_MAX,
                          &network->external_count, err);
    network->mdns = true; /* an absent key means true, http-api.md 11 */
    if (error == 0) error = get_flag(c, "discovery.mdns", &network->mdns, err);
    if (error == 0)
        error = get_text(c, "discovery.rendezvous.namespace", &network->rendezvous_name, err);
    if (error == 0)
        error = read_u32(c, "discovery.rendezvous.registrations_limit", 1, RENDEZVOUS_POINTS_MAX,
                         &network->rendezvous_points_max, err);
    if (error == 0) error = get_text(c, "identity.keypair", &network->keypair, err);
    if (error == 0) error = get_text(c, "identity.peer_id", &network->peer_id, err);
    keep_tcp(c->swarm, &network->listen_count);
    network->listen = c->swarm;
    network->bootstrap = c->boot_nodes;
    network->external = c->external;
    return error;
}

/* The reference's names; to keep none of them means the heads alone, which one does, too. */
static int read_compaction(cal_config *c, cal_error *err) {
    cal_compaction_options *compaction = &c->node.compaction;
    uint64_t keep = UINT64_MAX;
    bool enabled = true; /* an absent key means true, http-api.md 11 */
    int error = get_flag(c, "dag_compaction.enabled", &enabled, err);
    if (error == 0)
        error = read_u32(c, "dag_compaction.min_deltas_before_compact", 1, COMPACTION_MAX,
                         &compaction->above, err);
    if (error == 0)
        error = get_number(c, "dag_compaction.retain_recent_count", 0, COMPACTION_MAX, &keep, err);
    if (error == 0)
        error = read_u32(c, "dag_compaction.check_interval", 1, COMPACTION_MAX,
                         &compaction->interval_s, err);
    compaction->off = !enabled;
    if (keep != UINT64_MAX) compaction->keep = keep ? (uint32_t)keep : 1;
    return error;
}

static int read_node(cal_config *c, cal_error *err) {
    static const char *const modes[] = {"standard", "readonly"}, *const durabilities[] = {
                                                                     "full", "process"};
    bool process = false;
    c->node.home = c->home;
    int error = get_word(c, "mode", modes, &c->node.read_only, err);
    if (error == 0) error = get_word(c, "datastore.durability", durabilities, &process, err);
    if (process) c->node.durability = CAL_NODE_DURABLE_PROCESS;
    if (error == 0) error = read_key(c, err);
    if (error == 0) error = read_limits(c, err);
    if (error == 0) error = read_compaction(c, err);
    if (error == 0) error = read_network(c, err);
    return error;
}

/* --- the server's part --- */

/* The first address a client of this machine can use: a wildcard is reached through loopback. */
static void make_url(cal_config *c) {
    config_address a;
    c->url[0] = 0;
    if (c->server.address_count == 0 || config_address_parse(c->listen[0], &a) != 0) return;
    const char *host = strcmp(a.host, "0.0.0.0") == 0 ? "127.0.0.1"
                       : strcmp(a.host, "::") == 0    ? "::1"
                                                      : a.host;
    snprintf(c->url, sizeof c->url, a.ip6 ? "http://[%s]:%u" : "http://%s:%u", host, a.port);
}

/* A service whose table is missing is off (http-api.md 11). */
static int read_service(const cal_config *c, const char *name, bool *ret_disabled, cal_error *err) {
    char key[64];
    snprintf(key, sizeof key, "server.%s.enabled", name);
    bool enabled = false;
    int error = get_flag(c, key, &enabled, err);
    *ret_disabled = !enabled;
    return error;
}

static int read_server(cal_config *c, cal_error *err) {
    static const char *const modes[] = {"proxy", "embedded"};
    cal_server_options *server = &c->server;
    bool embedded = false;
    int error =
        get_texts(c, "server.listen", c->listen, CONFIG_LISTEN_MAX, &server->address_count, err);
    if (error == 0) error = get_word(c, "server.auth_mode", modes, &embedded, err);
    if (error == 0)
        error = get_texts(c, "server.allowed_origins", c->origins, CONFIG_ORIGINS_MAX,
                          &server->allowed_origin_count, err);
    if (error == 0) error = read_service(c, "admin", &server->no_admin, err);
    if (error == 0) error = read_service(c, "jsonrpc", &server->no_jsonrpc, err);
    if (error == 0) error = read_service(c, "websocket", &server->no_websocket, err);
    if (error == 0) error = read_service(c, "sse", &server->no_sse, err);
    uint64_t ping_s = PING_DEFAULT_S, pong_s = PONG_DEFAULT_S;
    if (error == 0)
        error = get_number(c, "server.websocket.ping_interval_secs", 0, PING_MAX_S, &ping_s, err);
    if (error == 0)
        error = get_number(c, "server.websocket.pong_timeout_secs", 0, PING_MAX_S, &pong_s, err);
    server->ping_interval_s = ping_s ? (uint32_t)ping_s : UINT32_MAX;
    server->pong_timeout_s = (uint32_t)pong_s;
    server->read_only = c->node.read_only;
    server->addresses = c->listen;
    server->allowed_origins = c->origins;
    return error;
}

int config_parse(const char *home, cal_slice text, cal_config **ret_config, cal_error *err) {
    cal_native_text json = {0};
    int failed = cal_native_toml_to_json((const char *)text.data, text.len, &json);
    if (failed) {
        int code =
            cal_fail(err, CAL_EDECODE, "%s/config.toml: %.*s", home, (int)json.len, json.ptr);
        cal_native_text_free(json);
        return code;
    }
    cal_config *c = calloc(1, sizeof *c);
    yyjson_doc *doc = yyjson_read(json.ptr, json.len, 0);
    cal_native_text_free(json);
    if (c) c->home = strdup(home);
    if (!c || !c->home || !doc) {
        yyjson_doc_free(doc);
        cal_config_free(c);
        return cal_fail(err, CAL_ENOMEM, "out of memory");
    }
    c->doc = doc;
    c->root = yyjson_doc_get_root(doc);
    int error = read_node(c, err);
    if (error == 0) error = read_server(c, err);
    if (error) {
        cal_config_free(c);
        return cal_fail_context(err, error, "%s/config.toml", home);
    }
    make_url(c);
    *ret_config = c;
    return 0;
}

void cal_config_free(cal_config *config) {
    if (!config) return;
    yyjson_doc_free(config->doc);
    free(config->home);
    free(config);
}

cal_node_options *cal_config_node(cal_config *config) { return &config->node; }
cal_server_options *cal_config_server(cal_config *config) { return &config->server; }
const char *cal_config_url(const cal_config *config) { return config->url[0] ? config->url : NULL; }

bool cal_config_wants_authentication(const cal_config *config) {
    return yyjson_equals_str(config_at(config->root, "server.auth_mode"), "embedded");
}
