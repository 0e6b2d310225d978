/* config.toml on disk: made, loaded, changed. Writing is atomic and 0600. Specification:
 * http-api.md 11, 12. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/config_internal.h"
#include "base/error.h"
#include "native.h"
#include "os/os.h"

static int file_path(const char *home, char ret_path[CONFIG_PATH_MAX], cal_error *err) {
    if (snprintf(ret_path, CONFIG_PATH_MAX, "%s/config.toml", home) < CONFIG_PATH_MAX) return 0;
    return cal_fail(err, CAL_EINVAL, "the path of the node's home is longer than %d bytes",
                    CONFIG_PATH_MAX);
}

bool cal_config_exists(const char *home) {
    char path[CONFIG_PATH_MAX];
    return file_path(home, path, NULL) == 0 && access(path, F_OK) == 0;
}

static int read_file(const char *home, cal_buffer *ret_text, cal_error *err) {
    char path[CONFIG_PATH_MAX];
    int error = file_path(home, path, err);
    if (error) return error;
    error = cal_os_read_file(cal_os_posix(), path, CONFIG_FILE_MAX, ret_text, err);
    if (error == CAL_ENOTFOUND)
        return cal_fail(err, CAL_ENOTFOUND, "there is no node in %s: make one with `merod init`",
                        home);
    return error;
}

int cal_config_load(const char *home, cal_config **ret_config, cal_error *err) {
    cal_buffer text;
    cal_buffer_init(&text, CONFIG_FILE_MAX);
    int error = read_file(home, &text, err);
    if (error == 0) error = config_parse(home, cal_buffer_slice(&text), ret_config, err);
    cal_buffer_deinit(&text);
    return error;
}

int cal_config_write_file(const char *path, const char *text, size_t len, cal_error *err) {
    return cal_os_write_file(cal_os_posix(), path, cal_slice_of(text, len), err);
}

int cal_toml_file_to_json(const char *path, size_t max, char **ret_json, cal_error *err) {
    cal_buffer text;
    cal_buffer_init(&text, max);
    int error = cal_os_read_file(cal_os_posix(), path, max, &text, err);
    cal_native_text json = {0};
    if (error == 0) {
        if (cal_native_toml_to_json((const char *)text.data, text.len, &json) != 0) {
            error = cal_fail(err, CAL_EDECODE, "%s: %.*s", path, (int)json.len, json.ptr);
        } else {
            *ret_json = strndup(json.ptr, json.len);
            if (!*ret_json) error = cal_fail(err, CAL_ENOMEM, "out of memory");
        }
        cal_native_text_free(json);
    }
    cal_buffer_deinit(&text);
    return error;
}

/* --- set --- */

/* Applies "key=value" to the text. */
static int set_pair(cal_buffer *text, const char *pair, cal_error *err) {
    const char *equals = strchr(pair, '=');
    if (!equals || equals == pair)
        return cal_fail(err, CAL_EINVAL, "'%s' must be KEY=VALUE, like sync.timeout_ms=30000",
                        pair);
    cal_native_text next = {0};
    int failed =
        cal_native_toml_set((const char *)text->data, text->len, pair, (size_t)(equals - pair),
                            equals + 1, strlen(equals + 1), &next);
    int error = 0;
    if (failed) {
        error = cal_fail(err, CAL_EINVAL, "'%s': %.*s (texts need quotes: KEY='\"text\"')", pair,
                         (int)next.len, next.ptr);
    } else {
        cal_buffer_reset(text);
        error = cal_buffer_append(text, next.ptr, next.len);
        if (error)
            cal_fail(err, error, "config.toml would be larger than %d bytes", CONFIG_FILE_MAX);
    }
    cal_native_text_free(next);
    return error;
}

int cal_config_set(const char *home, const char *const *pairs, size_t count, cal_error *err) {
    char path[CONFIG_PATH_MAX];
    cal_buffer text;
    cal_config *config = NULL;
    cal_buffer_init(&text, CONFIG_FILE_MAX);
    int error = read_file(home, &text, err);
    for (size_t i = 0; error == 0 && i < count; i++) error = set_pair(&text, pairs[i], err);
    if (error == 0) error = config_parse(home, cal_buffer_slice(&text), &config, err);
    if (error == 0) error = cal_config_check(config, err);
    if (error == 0) error = file_path(home, path, err);
    if (error == 0) error = cal_os_write_file(cal_os_posix(), path, cal_buffer_slice(&text), err);
    cal_config_free(config);
    cal_buffer_deinit(&text);
    return error;
}

/* --- create --- */

/* A TOML basic string: what JSON escapes, TOML reads. */
static void append_text(cal_buffer *out, const char *text) {
    cal_buffer_append_u8(out, '"');
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            cal_buffer_printf(out, "\\%c", c);
        else if (c < 0x20 || c == 0x7F)
            cal_buffer_printf(out, "\\u%04x", c);
        else
            cal_buffer_append_u8(out, c);
    }
    cal_buffer_append_u8(out, '"');
}

static void append_list(cal_buffer *out, const char *const *texts, size_t count) {
    cal_buffer_append_u8(out, '[');
    for (size_t i = 0; i < count; i++) {
        if (i) cal_buffer_append_text(out, ", ");
        append_text(out, texts[i]);
    }
    cal_buffer_append_text(out, "]\n");
}

static void append_addresses(cal_buffer *out, const char *const *hosts, size_t count,
                             uint16_t port) {
    cal_buffer_append_u8(out, '[');
    for (size_t i = 0; i < count; i++)
        cal_buffer_printf(out, "%s\"/%s/%s/tcp/%u\"", i ? ", " : "",
                          strchr(hosts[i], ':') ? "ip6" : "ip4", hosts[i], port);
    cal_buffer_append_text(out, "]\n");
}

static void append_server(cal_buffer *out, const cal_config_defaults *d) {
    static const char *const loopback[] = {"127.0.0.1", "::1"}, *const everywhere[] = {"0.0.0.0",
                                                                                       "::"};
    cal_buffer_append_text(out, "\n[swarm]\nlisten = ");
    append_addresses(out, d->swarm_host_count ? d->swarm_hosts : everywhere,
                     d->swarm_host_count ? d->swarm_host_count : 2,
                     d->swarm_port ? d->swarm_port : 2428);
    cal_buffer_append_text(out, "\n[server]\nlisten = ");
    append_addresses(out, d->server_host_count ? d->server_hosts : loopback,
                     d->server_host_count ? d->server_host_count : 2,
                     d->server_port ? d->server_port : 2528);
    cal_buffer_append_text(
        out,
        "auth_mode = \"proxy\"\n"
        "allowed_origins = [] # web pages that may call this node, besides those on this machine\n"
        "\n[server.admin]\nenabled = true\n"
        "\n[server.jsonrpc]\nenabled = true\n"
        "\n[server.websocket]\nenabled = true\nping_interval_secs = 30\npong_timeout_secs = 10\n"
        "\n[server.sse]\nenabled = true\n"
        "\n[bootstrap]\nnodes = ");
    append_list(out, d->boot_nodes, d->boot_node_count);
}

static void append_discovery(cal_buffer *out, const cal_config_defaults *d) {
    cal_buffer_printf(out, "\n[discovery]\nmdns = %s\nadvertise_address = %s\nexternal_address = ",
                      d->mdns ? "true" : "false", d->advertise_address ? "true" : "false");
    append_list(out, d->external_addresses, d->external_address_count);
    cal_buffer_printf(
        out,
        "\n[discovery.rendezvous]\nnamespace = \"/calimero/devnet/global\"\ndiscovery_rpm = 0.5\n"
        "discovery_interval = { secs = 15, nanos = 0 }\nregistrations_limit = %u\n"
        "\n[discovery.relay]\nregistrations_limit = %u\n"
        "\n[discovery.autonat]\nmax_candidates = %u\nprobe_interval = { secs = %u, nanos = 0 }\n",
        d->rendezvous_registrations_limit ? d->rendezvous_registrations_limit : 3,
        d->relay_registrations_limit ? d->relay_registrations_limit : 3,
        d->autonat_max_candidates ? d->autonat_max_candidates : 5,
        d->autonat_probe_interval_s ? d->autonat_probe_interval_s : 10);
}

static void append_store(cal_buffer *out, const cal_config_defaults *d) {
    static const char *const kinds[] = {"file", "passphrase", "command"};
    cal_buffer_printf(out,
                      "\n[sync]\ntimeout_ms = 30000\nsession_deadline_ms = 30000\ninterval_ms = "
                      "5000\nfrequency_ms = 10000\n"
                      "\n[datastore]\npath = \"data\"\n"
                      "durability = \"%s\" # \"full\": survives power loss; \"process\": survives "
                      "the death of merod\n"
                      "\n[datastore.key] # opens the encrypted store; change it with `merod "
                      "rekey`\nkind = \"%s\"\n",
                      d->durability == CAL_NODE_DURABLE_PROCESS ? "process" : "full",
                      kinds[d->key.kind]);
    if (d->key.kind != CAL_NODE_KEY_PASSPHRASE && d->key.text) {
        cal_buffer_append_text(out, d->key.kind == CAL_NODE_KEY_FILE ? "path = " : "command = ");
        append_text(out, d->key.text);
        cal_buffer_append_u8(out, '\n');
    }
    cal_buffer_append_text(out, "\n[blobstore]\npath = \"blobs\"\n"
                                "\n[context]\nmigration_v2 = true\n"
                                "\n[runtime] # a call of a client: wall clock and memory; workers "
                                "defaults to the processors\n"
                                "call_deadline_ms = 10000\nguest_memory_max = 67108864\n"
                                "\n[runtime.limits] # max_gas, max_logs, max_log_size\n");
}

int cal_config_create(const char *home, const cal_config_defaults *d, cal_error *err) {
    char path[CONFIG_PATH_MAX];
    cal_buffer text;
    cal_config *config = NULL;
    int error = file_path(home, path, err);
    if (error) return error;
    if (cal_config_exists(home)) return cal_fail(err, CAL_EEXISTS, "%s is there already", path);
    cal_buffer_init(&text, CONFIG_FILE_MAX);
    cal_buffer_printf(&text,
                      "# A Calimero node. Change it here or with `merod config KEY=VALUE`, then "
                      "start the node again.\n"
                      "mode = \"%s\"\n",
                      d->read_only ? "readonly" : "standard");
    append_server(&text, d);
    append_discovery(&text, d);
    append_store(&text, d);
    error = text.error;
    if (error) cal_fail(err, error, "config.toml: %s", cal_error_text(error));
    if (error == 0) error = cal_os_make_dirs(cal_os_posix(), home, err);
    if (error == 0) error = config_parse(home, cal_buffer_slice(&text), &config, err);
    if (error == 0) error = cal_config_check(config, err);
    if (error == 0) error = cal_os_write_file(cal_os_posix(), path, cal_buffer_slice(&text), err);
    cal_config_free(config);
    cal_buffer_deinit(&text);
    return error;
}
