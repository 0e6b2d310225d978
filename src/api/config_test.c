/* config.toml: defaults, every refusal, changes that keep comments. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/config_internal.h"
#include "calimero/log.h"

static char home[64];

static int make_home(void **state) {
    (void)state;
    snprintf(home, sizeof home, "/tmp/cal-config-XXXXXX");
    cal_log_set_level(CAL_LOG_ERROR);
    return mkdtemp(home) ? 0 : -1;
}

static int remove_home(void **state) {
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/config.toml", home);
    unlink(path);
    return rmdir(home);
}

static void create(void) {
    cal_config_defaults defaults = {0};
    cal_error err = {0};
    if (cal_config_create(home, &defaults, &err) != 0) fail_msg("%s", err.message);
}

static char *read_config(void) {
    char path[128];
    snprintf(path, sizeof path, "%s/config.toml", home);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char *text = calloc(1, 65536);
    assert_non_null(text);
    assert_true(fread(text, 1, 65535, file) > 0);
    fclose(file);
    return text;
}

static int parse(const char *text, cal_config **ret_config, cal_error *err) {
    return config_parse(home, cal_slice_text(text), ret_config, err);
}

/* What parsing and checking the text says. */
static int judge(const char *text, cal_error *err) {
    cal_config *config = NULL;
    int error = parse(text, &config, err);
    if (error == 0) error = cal_config_check(config, err);
    cal_config_free(config);
    return error;
}

static void defaults_load(void **state) {
    (void)state;
    char path[128];
    struct stat info;
    cal_config *config;
    cal_error err = {0};
    create();
    snprintf(path, sizeof path, "%s/config.toml", home);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_true(cal_config_exists(home));
    if (cal_config_load(home, &config, &err) != 0) fail_msg("%s", err.message);
    if (cal_config_check(config, &err) != 0) fail_msg("%s", err.message);
    const cal_node_options *node = cal_config_node(config);
    assert_string_equal(node->home, home);
    assert_int_equal(node->key.kind, CAL_NODE_KEY_FILE);
    assert_null(node->key.text);
    assert_int_equal(node->durability, CAL_NODE_DURABLE_FULL);
    assert_int_equal(node->call_deadline_ms, 10000);
    assert_int_equal(node->guest_memory_max, 64 * 1024 * 1024);
    assert_false(node->read_only);
    assert_false(node->compaction.off);
    assert_int_equal(node->compaction.above, 0); /* the node's default */
    const cal_server_options *server = cal_config_server(config);
    assert_int_equal(server->address_count, 2);
    assert_string_equal(server->addresses[0], "/ip4/127.0.0.1/tcp/2528");
    assert_string_equal(server->addresses[1], "/ip6/::1/tcp/2528");
    assert_int_equal(server->allowed_origin_count, 0);
    assert_false(server->no_admin || server->no_jsonrpc || server->no_websocket || server->no_sse);
    assert_int_equal(server->ping_interval_s, 30);
    assert_int_equal(server->pong_timeout_s, 10);
    assert_string_equal(cal_config_url(config), "http://127.0.0.1:2528");
    assert_false(cal_config_wants_authentication(config));
    cal_config_free(config);
    assert_int_equal(cal_config_create(home, &(cal_config_defaults){0}, &err), CAL_EEXISTS);
}

/* A file as the first release wrote it (tests/formats/settings-1): it loads, and says what it said
 * then; and no key of it that this program reads can be of another shape. */
static void the_settings_of_a_release_load(void **state) {
    (void)state;
    FILE *file = fopen(CAL_SOURCE_DIR "/tests/formats/settings-1/config.toml", "r");
    assert_non_null(file);
    char text[8192], altered[8192 + 16];
    size_t len = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[len] = 0;
    cal_config *config = NULL;
    cal_error err = {0};
    if (parse(text, &config, &err) != 0 || cal_config_check(config, &err) != 0)
        fail_msg("%s", err.message);
    const cal_server_options *server = cal_config_server(config);
    const cal_node_options *node = cal_config_node(config);
    assert_int_equal(server->address_count, 2);
    assert_string_equal(server->addresses[1], "/ip6/::1/tcp/2600");
    assert_int_equal(server->ping_interval_s, 30);
    assert_int_equal(node->durability, CAL_NODE_DURABLE_FULL);
    assert_int_equal(node->key.kind, CAL_NODE_KEY_FILE);
    assert_int_equal(node->call_deadline_ms, 10000);
    assert_true(node->network.mdns);
    cal_config_free(config);
    size_t refused = 0, lines = 0;
    for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        const char *equals = strstr(line, " = "), *end = strchr(line, '\n');
        if (!end || !equals || equals > end || *line == '[' || *line == '#') continue;
        int head = (int)(equals - text);
        snprintf(altered, sizeof altered, "%.*s = [[1]]%s", head, text, end);
        lines++;
        refused += judge(altered, &err) != 0;
    }
    /* discovery.advertise_address, datastore.path, blobstore.path and context.migration_v2 are the
     * reference's, and have no effect here. */
    assert_int_equal(lines, 34);
    assert_int_equal(refused, lines - 4);
}

static void a_new_node_calls_nobody(void **state) {
    (void)state;
    create();
    char *text = read_config();
    assert_non_null(strstr(text, "[bootstrap]\nnodes = []"));
    assert_non_null(strstr(text, "mdns = false"));
    assert_null(strstr(text, "dag_compaction")); /* the defaults hold */
    free(text);
}

static void missing_home(void **state) {
    (void)state;
    cal_config *config;
    cal_error err = {0};
    assert_int_equal(cal_config_load("/nonexistent/node", &config, &err), CAL_ENOTFOUND);
    assert_non_null(strstr(err.message, "merod init"));
}

static void every_option_is_written(void **state) {
    (void)state;
    static const char *const hosts[] = {"10.0.0.1", "fd00::1"}, *const nodes[] = {
                                                                    "/dns4/a\"b/tcp/1"};
    cal_config_defaults defaults = {.server_hosts = hosts,
                                    .server_host_count = 2,
                                    .server_port = 99,
                                    .swarm_port = 98,
                                    .boot_nodes = nodes,
                                    .boot_node_count = 1,
                                    .read_only = true,
                                    .mdns = true,
                                    .durability = CAL_NODE_DURABLE_PROCESS,
                                    .key = {CAL_NODE_KEY_COMMAND, "pass \"show\" node \\ key"}};
    cal_error err = {0};
    cal_config *config;
    if (cal_config_create(home, &defaults, &err) != 0) fail_msg("%s", err.message);
    if (cal_config_load(home, &config, &err) != 0) fail_msg("%s", err.message);
    assert_string_equal(cal_config_server(config)->addresses[1], "/ip6/fd00::1/tcp/99");
    assert_true(cal_config_node(config)->read_only);
    assert_true(cal_config_server(config)->read_only);
    assert_int_equal(cal_config_node(config)->durability, CAL_NODE_DURABLE_PROCESS);
    assert_int_equal(cal_config_node(config)->key.kind, CAL_NODE_KEY_COMMAND);
    assert_string_equal(cal_config_node(config)->key.text, "pass \"show\" node \\ key");
    assert_string_equal(
        yyjson_get_str(yyjson_arr_get(config_at(config->root, "bootstrap.nodes"), 0)),
        "/dns4/a\"b/tcp/1");
    cal_config_free(config);
}

/* A passphrase must never reach the file. */
static void a_passphrase_is_not_written(void **state) {
    (void)state;
    cal_config_defaults defaults = {.key = {CAL_NODE_KEY_PASSPHRASE, "correct horse"}};
    cal_error err = {0};
    assert_int_equal(cal_config_create(home, &defaults, &err), 0);
    char *text = read_config();
    assert_non_null(strstr(text, "kind = \"passphrase\""));
    assert_null(strstr(text, "correct horse"));
    free(text);
}

static void refusals(void **state) {
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"[bootstrap]\nnodes = [\"nonsense\"]", "bootstrap.nodes holds 'nonsense'"},
        {"[bootstrap]\nnodes = [\"/ip4/127.0.0.1/tcp/2428/p2p/PEER_ID\"]", "no peer id"},
        {"[swarm]\nlisten = [\"/ip4/0.0.0.0/tcp/99999\"]", "/ip4/0.0.0.0/tcp/2428"},
        {"[sync]\ntimeout_ms = 999",
         "sync.timeout_ms is 999 but must be a whole number from 1000 to 300000"},
        {"[sync]\ntimeout_ms = 300001", "sync.timeout_ms"},
        {"[sync]\ntimeout_ms = \"1s\"", "sync.timeout_ms"},
        {"[sync]\nsession_deadline_ms = 0", "sync.session_deadline_ms"},
        {"[sync]\nsession_deadline_ms = 600001", "sync.session_deadline_ms"},
        {"[sync]\ninterval_ms = 99", "sync.interval_ms"},
        {"[sync]\nfrequency_ms = 3600001", "sync.frequency_ms"},
        {"[discovery.rendezvous]\nregistrations_limit = 0", "registrations_limit"},
        {"[discovery.rendezvous]\nregistrations_limit = 101", "registrations_limit"},
        {"[discovery.relay]\nregistrations_limit = -1", "discovery.relay.registrations_limit"},
        {"[discovery.rendezvous]\ndiscovery_rpm = 0.0", "discovery_rpm"},
        {"[discovery.rendezvous]\ndiscovery_rpm = inf", "discovery_rpm"},
        {"[discovery.rendezvous]\ndiscovery_interval = { secs = 0, nanos = 0 }",
         "discovery_interval"},
        {"[discovery.autonat]\nmax_candidates = 0", "max_candidates"},
        {"[server.websocket]\nenabled = true\nping_interval_secs = 4", "ping_interval_secs"},
        {"[server.websocket]\nenabled = true\nping_interval_secs = 30\npong_timeout_secs = 30",
         "pong_timeout_secs"},
        {"[server.websocket]\nenabled = 1", "server.websocket.enabled must be true or false"},
        {"[server]\nauth_mode = \"embedded\"", "server.embedded_auth"},
        {"[server]\nauth_mode = \"open\"", "server.auth_mode"},
        {"[server.embedded_auth.jwt]\nissuer = \"  \"", "issuer"},
        {"[server.embedded_auth.jwt]\naccess_token_expiry = 0", "access_token_expiry"},
        {"[server.embedded_auth.jwt]\naccess_token_expiry = 2592000", "must be less than"},
        {"[server.embedded_auth.user_password]\nmin_password_length = 200", "must be less than"},
        {"[dag_compaction]\nretain_recent_count = 10000", "dag_compaction.retain_recent_count"},
        {"[dag_compaction]\ncheck_interval = 0", "dag_compaction.check_interval"},
        {"[server]\nlisten = [\"/ip4/127.0.0.1/udp/1\"]", "server.listen"},
        {"[server]\nlisten = [\"127.0.0.1:2528\"]", "server.listen"},
        {"[server]\nlisten = [\"/ip4/999.0.0.1/tcp/1\"]", "server.listen"},
        {"[server]\nlisten = [\"/ip4/1.1.1.1/tcp/65536\"]", "server.listen"},
        {"[server]\nlisten = \"/ip4/127.0.0.1/tcp/1\"", "server.listen"},
        {"[server]\nlisten = [\"/ip4/127.0.0.1/tcp/5\", \"/ip4/127.0.0.1/tcp/5\"]", "clashes"},
        {"[server]\nlisten = [\"/ip4/127.0.0.1/tcp/5\"]\n[swarm]\nlisten = "
         "[\"/ip4/0.0.0.0/tcp/5\"]",
         "clashes"},
        {"[server]\nallowed_origins = [1]", "server.allowed_origins"},
        {"[datastore]\ndurability = \"maybe\"", "datastore.durability"},
        {"[datastore.key]\nkind = \"tpm\"", "datastore.key.kind"},
        {"[datastore.key]\nkind = \"command\"", "datastore.key.command"},
        {"[datastore]\npath = \"/nonexistent/a/b\"", "datastore.path"},
        {"[runtime]\ncall_deadline_ms = 1", "runtime.call_deadline_ms"},
        {"[runtime]\nguest_memory_max = 1", "runtime.guest_memory_max"},
        {"[runtime]\nworkers = 0", "runtime.workers"},
        {"[runtime.limits]\nmax_gas = 0", "runtime.limits.max_gas"},
        {"mode = \"readonly \"", "mode"},
        {"mode = 3", "mode must be a text"},
        {"mode = \"standard\\u0000\"", "mode must be a text"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cal_error err = {0};
        int error = judge(cases[i].text, &err);
        if (error != CAL_EINVAL || !strstr(err.message, cases[i].says))
            fail_msg("%s: %d %s", cases[i].text, error, err.message);
    }
    cal_error err = {0};
    assert_int_equal(judge("mode = ", &err), CAL_EDECODE);
}

static void tolerances(void **state) {
    (void)state;
    static const char *const texts[] = {
        "",
        "dev = true\n[sync]\nunknown = 3\n[nobody]\nknows = { this = 1 }",
        "[server]\nlisten = [\"/ip4/127.0.0.1/tcp/5\", \"/ip6/::1/tcp/5\"]",
        "[server]\nlisten = [\"/ip4/127.0.0.1/tcp/5\"]\n[swarm]\nlisten = "
        "[\"/ip4/0.0.0.0/udp/5/quic-v1\"]",
        "[server]\nlisten = [\"/ip4/127.0.0.1/tcp/0\", \"/ip4/127.0.0.1/tcp/0\"]",
        "[server.websocket]\nenabled = true\nping_interval_secs = 0\npong_timeout_secs = 50",
        "[tee.kms.phala]\nurl = \"https://kms.example\"",
        "[identity]\npeer_id = \"12D3KooW\"\nkeypair = \"xyz\"",
        "[server]\nauth_mode = \"embedded\"\n[server.embedded_auth]\nlisten_addr = "
        "\"127.0.0.1:3001\"",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        cal_error err = {0};
        if (judge(texts[i], &err) != 0) fail_msg("%s: %s", texts[i], err.message);
    }
}

/* The reference's names; an absent key means what it means there. */
static void compaction(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool off;
        uint32_t above, keep, interval_s; /* 0: the node's default */
    } cases[] = {
        {"", false, 0, 0, 0},
        {"[dag_compaction]\nenabled = false", true, 0, 0, 0},
        {"[dag_compaction]\nenabled = true\nmin_deltas_before_compact = 5000\n"
         "retain_recent_count = 500\ncheck_interval = 60",
         false, 5000, 500, 60},
        {"[dag_compaction]\nretain_recent_count = 0", false, 0, 1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cal_config *config;
        cal_error err = {0};
        if (parse(cases[i].text, &config, &err) != 0) fail_msg("%s", err.message);
        const cal_compaction_options *read = &cal_config_node(config)->compaction;
        assert_int_equal(read->off, cases[i].off);
        assert_int_equal(read->above, cases[i].above);
        assert_int_equal(read->keep, cases[i].keep);
        assert_int_equal(read->interval_s, cases[i].interval_s);
        cal_config_free(config);
    }
}

/* A missing table means the service is off. */
static void services(void **state) {
    (void)state;
    cal_config *config;
    assert_int_equal(
        parse("[server.admin]\nenabled = true\n[server.sse]\nenabled = false", &config, NULL), 0);
    const cal_server_options *server = cal_config_server(config);
    assert_false(server->no_admin);
    assert_true(server->no_sse && server->no_jsonrpc && server->no_websocket);
    cal_config_free(config);
    assert_int_equal(
        parse("[server.websocket]\nenabled = true\nping_interval_secs = 0", &config, NULL), 0);
    assert_int_equal(cal_config_server(config)->ping_interval_s, UINT32_MAX);
    cal_config_free(config);
}

static void keys_and_limits(void **state) {
    (void)state;
    char expected[128];
    cal_config *config;
    const char *text =
        "[datastore.key]\nkind = \"file\"\npath = \"keys/a\"\n[runtime]\nworkers = 3\n"
        "[runtime.limits]\nmax_gas = 5\nmax_logs = 6\nmax_log_size = 7";
    assert_int_equal(parse(text, &config, NULL), 0);
    snprintf(expected, sizeof expected, "%s/keys/a", home);
    assert_string_equal(cal_config_node(config)->key.text, expected);
    assert_int_equal(cal_config_node(config)->workers, 3);
    assert_int_equal(cal_config_node(config)->max_gas, 5);
    assert_int_equal(cal_config_node(config)->max_logs, 6);
    assert_int_equal(cal_config_node(config)->max_log_size, 7);
    cal_config_free(config);
    assert_int_equal(parse("[datastore.key]\npath = \"/etc/key\"", &config, NULL), 0);
    assert_string_equal(cal_config_node(config)->key.text, "/etc/key");
    cal_config_free(config);
    assert_int_equal(parse("[datastore.key]\nkind = \"passphrase\"", &config, NULL), 0);
    assert_int_equal(cal_config_node(config)->key.kind, CAL_NODE_KEY_PASSPHRASE);
    assert_null(cal_config_node(config)->key.text);
    cal_config_free(config);
}

static void urls(void **state) {
    (void)state;
    static const char *const cases[][2] = {{"/ip4/0.0.0.0/tcp/80", "http://127.0.0.1:80"},
                                           {"/ip6/::/tcp/80", "http://[::1]:80"},
                                           {"/ip6/::1/tcp/80", "http://[::1]:80"},
                                           {"/ip4/10.1.2.3/tcp/80", "http://10.1.2.3:80"}};
    for (size_t i = 0; i < 4; i++) {
        char text[128];
        cal_config *config;
        snprintf(text, sizeof text, "[server]\nlisten = [\"%s\"]", cases[i][0]);
        assert_int_equal(parse(text, &config, NULL), 0);
        assert_string_equal(cal_config_url(config), cases[i][1]);
        cal_config_free(config);
    }
}

static void set_keeps_comments(void **state) {
    (void)state;
    static const char *const pairs[] = {"sync.timeout_ms=60000",
                                        "server.allowed_origins=[\"https://a.example\"]",
                                        "extra.deep.key=\"x=y\""};
    cal_error err = {0};
    cal_config *config;
    create();
    if (cal_config_set(home, pairs, 3, &err) != 0) fail_msg("%s", err.message);
    char *text = read_config();
    assert_non_null(strstr(text, "# A Calimero node."));
    assert_non_null(strstr(text, "timeout_ms = 60000"));
    assert_non_null(strstr(text, "\"x=y\""));
    free(text);
    assert_int_equal(cal_config_load(home, &config, &err), 0);
    assert_string_equal(cal_config_server(config)->allowed_origins[0], "https://a.example");
    cal_config_free(config);
}

static void a_refused_set_changes_nothing(void **state) {
    (void)state;
    static const char *const bad[][2] = {
        {"sync.interval_ms=7000", "sync.timeout_ms=1"},
        {"sync.interval_ms=7000", "server.auth_mode=proxy"}, /* no quotes */
        {"sync.interval_ms=7000", "mode.deeper=1"},
        {"sync.interval_ms=7000", "no-equals"}};
    create();
    char *before = read_config();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cal_error err = {0};
        assert_int_equal(cal_config_set(home, bad[i], 2, &err), CAL_EINVAL);
        assert_true(err.message[0] != 0);
        char *after = read_config();
        assert_string_equal(before, after);
        free(after);
    }
    free(before);
}

static void addresses(void **state) {
    (void)state;
    config_address a;
    assert_int_equal(config_address_parse("/ip4/1.2.3.4/udp/9/quic-v1/p2p/x", &a), 0);
    assert_true(a.ip4 && a.udp && !a.tcp && !a.exact && a.port == 9);
    assert_int_equal(config_address_parse("/dns4/a.example/tcp/443", &a), 0);
    assert_true(!a.ip4 && !a.ip6 && a.tcp && a.exact);
    static const char *const bad[] = {"",
                                      "/",
                                      "/ip4",
                                      "/ip4/1.2.3.4",
                                      "/ip4/1.2.3.4/tcp",
                                      "/ip4/1.2.3.4/tcp/x",
                                      "/ip4//tcp/1",
                                      "/ip9/1.2.3.4/tcp/1",
                                      "/ip6/1.2.3.4/tcp/1",
                                      "/ip4/1.2.3.4/tcp/99999",
                                      "/ip4/1.2.3.4/tcp/80x",
                                      "/ip4/1.2.3.4/sctp/80"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (config_address_parse(bad[i], &a) != CAL_EDECODE) fail_msg("%s", bad[i]);
}

int main(void) {
#define TEST(function) cmocka_unit_test_setup_teardown(function, make_home, remove_home)
    const struct CMUnitTest tests[] = {TEST(defaults_load),
                                       TEST(the_settings_of_a_release_load),
                                       TEST(a_new_node_calls_nobody),
                                       TEST(missing_home),
                                       TEST(every_option_is_written),
                                       TEST(a_passphrase_is_not_written),
                                       TEST(refusals),
                                       TEST(tolerances),
                                       TEST(compaction),
                                       TEST(services),
                                       TEST(keys_and_limits),
                                       TEST(urls),
                                       TEST(set_keeps_comments),
                                       TEST(a_refused_set_changes_nothing),
                                       TEST(addresses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
