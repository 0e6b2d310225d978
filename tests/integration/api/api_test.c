/* The HTTP API of a whole node over real sockets: every answer compared with http-api.md, byte for
 * byte where it has no ids. The application is apps/kv-store, compiled to WebAssembly; its path is
 * the only argument. */
#include "calimero/blob.h"
#include "calimero/context.h"
#include "calimero/network.h"
#include "calimero/node.h"
#include "calimero/server.h"
#include "calimero/share.h"
#include "client.h"
#include "node/node.h"

static const char *app_path;
static char home[] = "/tmp/api_test_XXXXXX";
static cal_node *node;
static cal_server *server;
static cal_peer_id other_id; /* of another node */
static cal_multiaddr other_address;

/* Ids of what the tests made, as the API spelled them. */
static char app_id[SMALL], app_key[SMALL], namespace_id[SMALL], context_id[SMALL], member[SMALL];

static void start_server(void) {
    const char *addresses[] = {"/ip4/127.0.0.1/tcp/0"};
    cal_server_options options = {.addresses = addresses, .address_count = 1};
    cal_error err;
    unsigned number;
    if (cal_server_start(node, &options, &server, &err) != 0) fail_msg("%s", err.message);
    assert_int_equal(sscanf(cal_server_address(server, 0), "/ip4/127.0.0.1/tcp/%u", &number), 1);
    port = (uint16_t)number;
}

static void start_node(void) {
    cal_node_options options = {.home = home};
    cal_error err;
    if (cal_node_start(&options, &node, &err) != 0) fail_msg("%s", err.message);
    start_server();
}

static int setup(void **state) {
    (void)state;
    cal_node_options options = {.home = home};
    cal_error err;
    assert_non_null(mkdtemp(home));
    if (cal_node_init(&options, NULL, &err) != 0) fail_msg("%s", err.message);
    start_node();
    char body[1024];
    snprintf(body, sizeof body, "{\"path\":\"%s\",\"metadata\":[1,255],\"unknown\":{}}", app_path);
    fetch("POST", "/admin-api/install-dev-application", body, "/data/applicationId", app_id);
    snprintf(body, sizeof body,
             "{\"applicationId\":\"%s\",\"name\":\"home\",\"upgradePolicy\":\"x\"}", app_id);
    fetch("POST", "/admin-api/namespaces", body, "/data/namespaceId", namespace_id);
    fetch("GET", at("/admin-api/namespaces/%s", namespace_id), NULL, "/data/appKey", app_key);
    snprintf(body, sizeof body,
             "{\"applicationId\":\"%s\",\"groupId\":\"%s\",\"initializationParams\":[],\"name\":"
             "\"first\",\"protocol\":\"near\"}",
             app_id, namespace_id);
    fetch("POST", "/admin-api/contexts", body, "/data/contextId", context_id);
    fetch("GET", at("/admin-api/contexts/%s/identities-owned", context_id), NULL,
          "/data/identities/0", member);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    cal_server_stop(server);
    cal_node_stop(node);
    char command[SMALL];
    snprintf(command, sizeof command, "rm -rf %s", home);
    return system(command);
}

/* --- tests --- */

static void test_health(void **state) {
    (void)state;
    expect("GET", "/admin-api/health", NULL, 200, "{\"data\":{\"status\":\"alive\"}}");
    expect("GET", "/admin-api/health/", NULL, 200, "{\"data\":{\"status\":\"alive\"}}");
    expect("GET", "/admin-api/ready", NULL, 200, "{\"data\":{\"status\":\"ready\"}}");
    expect("GET", "/admin-api/is-authed", NULL, 200, "{\"data\":{\"status\":\"alive\"}}");
    expect("GET", "/admin-api/certificate", NULL, 404, "Certificate not found");
    expect("GET", "/admin-api/peers", NULL, 200, "{\"count\":0,\"peers\":[]}");
    expect("GET", "/admin-api/zzz", NULL, 404, "");
    expect("PUT", "/admin-api/health", NULL, 405, "");
    expect("HEAD", "/admin-api/health", NULL, 200, "");
    reply r = ask("GET", "/metrics", NULL);
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.text, "content-type: text/plain; charset=utf-8\r\n"));
    const char *const lines[] = {
        "http_requests_total{method=\"GET\",path=\"/admin-api/health\",status=\"2xx\"} ",
        "http_request_duration_seconds_bucket{method=\"GET\",path=\"/admin-api/"
        "health\",status=\"2xx\",le=\"0.001\"} ",
        "merod_build_info{version=\"",
        "p2p_connections 0",
        "p2p_handshakes_failed_total 0",
        "gossip_topics ",
        "gossip_invalid_total 0",
        "sync_requests_declined_total 0",
        "process_resident_memory_bytes ",
        "store_bytes ",
        "loop_turns_total ",
        "loop_late_total ",
        "loop_late_by_itself_total ",
        "calls_total "};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        if (!strstr(r.body, lines[i])) fail_msg("no %s in %s", lines[i], r.body);
    free(r.text);
}

static void test_identity(void **state) {
    (void)state;
    char account[SMALL], key[SMALL];
    fetch("GET", "/admin-api/identity", NULL, "/data/accountId", account);
    fetch("GET", "/admin-api/identity", NULL, "/data/publicKey", key);
    assert_int_equal(strlen(account), 64);
    assert_string_equal(key, member);
    char made[SMALL];
    fetch("POST", "/admin-api/identity/context", "null", "/data/publicKey", made);
    assert_string_not_equal(made, member);
}

static void test_applications(void **state) {
    (void)state;
    reply r = ask("GET", at("/admin-api/applications/%s", app_id), NULL);
    assert_int_equal(r.status, 200);
    char start[SMALL];
    snprintf(start, sizeof start,
             "{\"data\":{\"application\":{\"id\":\"%s\",\"blob\":{\"bytecode\":\"", app_id);
    assert_memory_equal(r.body, start, strlen(start));
    char source[PATH_LENGTH_MAX];
    snprintf(source, sizeof source,
             "\"source\":\"file://"
             "%s\",\"metadata\":[1,255],\"package\":\"unknown\",\"version\":\"0.0.0\"}}}",
             app_path);
    if (!strstr(r.body, source)) fail_msg("no %s in %s", source, r.body);
    free(r.text);
    fetch("GET", "/admin-api/applications", NULL, "/data/apps/0/id", start);
    assert_string_equal(start, app_id);
    fetch("GET", at("/admin-api/applications/%s/versions", app_id), NULL, "/data/0/version", start);
    assert_string_equal(start, "0.0.0");
    expect("GET", "/admin-api/packages", NULL, 200, "{\"packages\":[\"unknown\"]}");
    expect("GET", "/admin-api/packages/unknown/versions", NULL, 200, "{\"versions\":[\"0.0.0\"]}");
    expect("GET", "/admin-api/packages/unknown/latest", NULL, 200,
           "{\"applicationId\":\"%s\",\"version\":\"0.0.0\"}", app_id);
    expect("GET", "/admin-api/packages/other/latest", NULL, 200,
           "{\"applicationId\":null,\"version\":null}");
    expect("GET", at("/admin-api/applications/%s", member), NULL, 404,
           "{\"error\":\"Application not found\"}");
    r = ask("GET", "/admin-api/applications/l", NULL);
    assert_int_equal(r.status, 400);
    assert_memory_equal(r.body, "Invalid URL: ", 13);
    free(r.text);
    fetch("GET", at("/admin-api/applications/%s/abi", app_id), NULL, "/data/methods/0/name", start);
    reply removal = ask("DELETE", at("/admin-api/applications/%s", app_id), NULL);
    assert_int_equal(removal.status, 409); /* a context runs it */
    free(removal.text);
}

static void test_install_refusals(void **state) {
    (void)state;
    const char *const path = "/admin-api/install-dev-application";
    expect("POST", path, "{\"path\":\"/a/../b\",\"metadata\":[]}", 400,
           "{\"error\":\"Field 'path' has invalid format: path must not contain '..' traversal "
           "components\"}");
    expect("POST", path, "{\"metadata\":[]}", 400,
           "{\"error\":\"Invalid JSON data: Failed to deserialize the JSON body into the target "
           "type: missing field `path` "
           "at line 1 column 15\"}");
    char body[1024], package[200];
    memset(package, 'p', 129);
    package[129] = 0;
    snprintf(body, sizeof body, "{\"path\":\"/x\",\"package\":\"%s\",\"version\":\"%.65s\"}",
             package, package);
    expect("POST", path, body, 400,
           "{\"error\":\"Validation errors: Field 'package' exceeds maximum length of 128 "
           "characters (got 129); "
           "Field 'version' exceeds maximum length of 64 characters (got 65)\"}");
    reply r = ask("POST", path, "{\"path\":\"/nowhere/x.wasm\"}");
    assert_int_equal(r.status, 404);
    assert_memory_equal(r.body, "{\"error\":\"", 10);
    free(r.text);
    r = ask("POST", path, "{\"path\":");
    assert_int_equal(r.status, 400);
    assert_memory_equal(
        r.body, "{\"error\":\"JSON syntax error: Failed to parse the request body as JSON: ", 60);
    free(r.text);
    r = ask_with("POST", path, "", "{}", 2);
    assert_int_equal(r.status, 400);
    assert_string_equal(r.body,
                        "{\"error\":\"Expected request with `Content-Type: application/json`\"}");
    free(r.text);
    r = ask("POST", "/admin-api/install-application",
            "{\"url\":\"http://127.0.0.1/x.wasm\",\"metadata\":[]}");
    assert_int_equal(r.status / 100, 4);
    free(r.text);
}

static void test_contexts(void **state) {
    (void)state;
    char text[SMALL];
    reply r = ask("GET", at("/admin-api/contexts/%s", context_id), NULL);
    assert_int_equal(r.status, 200);
    char start[SMALL];
    snprintf(start, sizeof start,
             "{\"data\":{\"id\":\"%s\",\"applicationId\":\"%s\",\"contextStateHash\":\"",
             context_id, app_id);
    if (strncmp(r.body, start, strlen(start)) != 0) fail_msg("%s", r.body);
    assert_non_null(strstr(r.body, "\"dagHeads\":[["));
    assert_non_null(strstr(r.body, "\"applicationVersion\":\"0.0.0\",\"name\":\"first\","
                                   "\"syncStatus\":{\"state\":\"alone\",\"waiting\":0,"
                                   "\"failures\":0}}}"));
    free(r.text);
    fetch("GET", "/admin-api/contexts?limit=1", NULL, "/data/contexts/0/groupId", text);
    assert_string_equal(text, namespace_id);
    expect("GET", "/admin-api/contexts?offset=9", NULL, 200, "{\"data\":{\"contexts\":[]}}");
    expect("GET", "/admin-api/contexts?offset=-1", NULL, 400,
           "Failed to deserialize query string: offset: invalid digit found in string");
    fetch("GET", at("/admin-api/contexts/for-application/%s", app_id), NULL, "/data/contexts/0/id",
          text);
    assert_string_equal(text, context_id);
    fetch("GET", at("/admin-api/contexts/with-executors/for-application/%s", app_id), NULL,
          "/contexts/0/executors/0", text);
    assert_string_equal(text, member);
    expect("GET", at("/admin-api/contexts/%s/identities", context_id), NULL, 200,
           "{\"data\":{\"identities\":[\"%s\"]}}", member);
    expect("GET", at("/admin-api/contexts/%s/group", context_id), NULL, 200, "{\"data\":\"%s\"}",
           namespace_id);
    expect("POST", at("/admin-api/contexts/%s/join", context_id), "null", 200,
           "{\"data\":{\"contextId\":\"%s\",\"memberPublicKey\":\"%s\"}}", context_id, member);
    expect("POST", "/admin-api/contexts/sync", NULL, 200, "{\"data\":null}");
    expect("POST", "/admin-api/contexts/sync/", "null", 200, "{\"data\":null}");
    expect("POST", at("/admin-api/contexts/sync/%s", context_id), NULL, 200, "{\"data\":null}");
    expect("GET", at("/admin-api/contexts/%s", member), NULL, 404,
           "{\"error\":\"Context not found\"}");
    expect("GET", at("/admin-api/contexts/%s/identities", member), NULL, 404,
           "{\"error\":\"Context not found\"}");
    expect("GET", "/admin-api/contexts/zz/storage", NULL, 400,
           "{\"error\":\"Invalid context ID format\"}");
    expect("DELETE", "/admin-api/contexts/zz", NULL, 400, "{\"error\":\"Invalid context id\"}");
    r = ask("GET", at("/admin-api/contexts/%s/storage", context_id), NULL);
    assert_memory_equal(r.body, "{\"data\":{\"sizeInBytes\":", 23);
    free(r.text);
    r = ask("POST", at("/admin-api/contexts/%s/join", member), NULL);
    assert_int_equal(r.status, 404);
    assert_memory_equal(r.body, "{\"error\":\"", 10);
    free(r.text);
}

static void test_context_create_and_delete(void **state) {
    (void)state;
    char body[1024], made[SMALL];
    const char *const path = "/admin-api/contexts";
    expect("POST", path,
           at("{\"applicationId\":\"%s\",\"groupId\":\"zz\",\"initializationParams\":[]}", app_id),
           400, "{\"error\":\"Invalid group_id: expected hex-encoded 32 bytes\"}");
    expect(
        "POST", path,
        at("{\"applicationId\":\"%s\",\"groupId\":\"aabb\",\"initializationParams\":[]}", app_id),
        400, "{\"error\":\"Invalid group_id: must be exactly 32 bytes\"}");
    snprintf(body, sizeof body, "{\"applicationId\":\"%s\",\"groupId\":\"%s\"}", app_id,
             namespace_id);
    expect("POST", path, body, 400,
           "{\"error\":\"Invalid JSON data: Failed to deserialize the JSON body into the target "
           "type: missing field "
           "`initializationParams` at line 1 column %zu\"}",
           strlen(body));
    snprintf(body, sizeof body,
             "{\"applicationId\":\"%s\",\"groupId\":\"%064d\",\"initializationParams\":[]}", app_id,
             7);
    reply r = ask("POST", path, body);
    assert_int_equal(r.status, 404); /* an unknown group is a refusal with a reason */
    free(r.text);
    snprintf(body, sizeof body,
             "{\"applicationId\":\"%s\",\"groupId\":\"%s\",\"initializationParams\":[123,125]}",
             app_id, namespace_id);
    r = ask("POST", path, body);
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.body, "\",\"groupCreated\":false}}"));
    yyjson_doc *doc = yyjson_read(r.body, r.body_len, 0);
    snprintf(made, sizeof made, "%s",
             yyjson_get_str(find(yyjson_doc_get_root(doc), "/data/contextId")));
    yyjson_doc_free(doc);
    free(r.text);
    expect("DELETE", at("/admin-api/contexts/%s", made), NULL, 200,
           "{\"data\":{\"isDeleted\":true}}");
    expect("DELETE", at("/admin-api/contexts/%s", made), "{}", 404,
           "{\"error\":\"Context not found\"}");
}

static void test_namespaces(void **state) {
    (void)state;
    char text[SMALL];
    reply r = ask("GET", at("/admin-api/namespaces/%s", namespace_id), NULL);
    assert_int_equal(r.status, 200);
    char start[PATH_LENGTH_MAX];
    snprintf(start, sizeof start,
             "{\"data\":{\"namespaceId\":\"%s\",\"appKey\":\"%s\",\"targetApplicationId\":\"%s\","
             "\"createdAt\":",
             namespace_id, app_key, app_id);
    if (strncmp(r.body, start, strlen(start)) != 0) fail_msg("%s", r.body);
    assert_non_null(strstr(
        r.body, ",\"name\":\"home\",\"memberCount\":1,\"contextCount\":1,\"subgroupCount\":0"));
    free(r.text);
    fetch("GET", "/admin-api/namespaces", NULL, "/data/0/namespaceId", text);
    assert_string_equal(text, namespace_id);
    fetch("GET", at("/admin-api/namespaces/for-application/%s", app_id), NULL,
          "/data/0/namespaceId", text);
    expect("GET", at("/admin-api/namespaces/%064d", 1), NULL, 404,
           "{\"error\":\"Namespace not found\"}");
    expect("GET", "/admin-api/namespaces/xyz", NULL, 400,
           "{\"error\":\"Invalid group id format: expected hex-encoded 32 bytes\"}");
    expect("GET", "/admin-api/namespaces/abcd", NULL, 400,
           "{\"error\":\"Invalid group id: must be exactly 32 bytes\"}");
    expect("GET", at("/admin-api/groups/%s/contexts", namespace_id), NULL, 200,
           "{\"data\":[{\"contextId\":\"%s\",\"name\":\"first\"}]}", context_id);
    expect("POST", "/admin-api/namespaces",
           at("{\"applicationId\":\"%s\",\"appKey\":\"12\"}", app_id), 400,
           "{\"error\":\"Invalid appKey: expected hex-encoded 32 bytes\"}");
    r = ask("POST", "/admin-api/namespaces", at("{\"applicationId\":\"%s\"}", member));
    assert_int_equal(r.status, 404); /* not installed */
    free(r.text);
    fetch("GET", "/admin-api/usage", NULL, "/namespaces/0/namespaceId", text);
    assert_string_equal(text, namespace_id);
}

static void test_groups(void **state) {
    (void)state;
    char space[SMALL], group[SMALL];
    fetch("POST", "/admin-api/namespaces", at("{\"applicationId\":\"%s\"}", app_id),
          "/data/namespaceId", space);
    expect("GET", at("/admin-api/namespaces/%s/groups", space), NULL, 200, "{\"data\":[]}");
    fetch("POST", at("/admin-api/namespaces/%s/groups", space),
          "{\"groupName\":\"team\",\"visibility\":\"Open\"}", "/data/groupId", group);
    expect("GET", at("/admin-api/namespaces/%s/groups", space), NULL, 200,
           "{\"data\":[{\"groupId\":\"%s\",\"name\":\"team\"}]}", group);
    expect("POST", at("/admin-api/namespaces/%s/groups", space), "{\"visibility\":\"odd\"}", 400,
           "{\"error\":\"visibility must be 'open' or 'restricted'\"}");
    reply r = ask("POST", at("/admin-api/namespaces/%s/invite", space), "{\"recursive\":true}");
    assert_int_equal(r.status, 200);
    assert_memory_equal(r.body, "{\"data\":{\"invitations\":[{\"groupId\":\"", 34);
    free(r.text);
    expect("DELETE", at("/admin-api/namespaces/%s", space), NULL, 200,
           "{\"data\":{\"isDeleted\":true}}");
    expect("GET", at("/admin-api/namespaces/%s", space), NULL, 404,
           "{\"error\":\"Namespace not found\"}");
}

static void test_invitations(void **state) {
    (void)state;
    const char *const join = at("/admin-api/namespaces/%s/join", namespace_id);
    reply r = ask("POST", at("/admin-api/namespaces/%s/invite", namespace_id), "{}");
    assert_int_equal(r.status, 200);
    const char start[] = "{\"data\":{\"invitation\":{\"invitation\":{\"inviter_identity\":[";
    if (strncmp(r.body, start, sizeof start - 1) != 0) fail_msg("%s", r.body);
    assert_non_null(strstr(r.body, "\"inviter_signature\":\""));
    /* {"data":{...}} -> {...}: what join takes */
    char *invitation = strndup(r.body + 8, r.body_len - 9);
    free(r.text);
    r = ask("POST", join, invitation);
    assert_int_equal(r.status, 200); /* its own namespace: who is in it is told so */
    free(r.text);
    expect("POST", at("/admin-api/namespaces/%064d/join", 3), invitation, 400,
           "{\"error\":\"invitation group_id does not match namespace_id in path\"}");
    free(invitation);
    expect("POST", join, "{\"invitation\":{}}", 400,
           "{\"error\":\"Invalid JSON data: Failed to deserialize the JSON body into the target "
           "type: invitation: missing field "
           "`invitation` at line 1 column 16\"}");
}

static void test_aliases(void **state) {
    (void)state;
    char body[SMALL];
    snprintf(body, sizeof body, "{\"alias\":\"main\",\"contextId\":\"%s\"}", context_id);
    expect("POST", "/admin-api/alias/create/context", body, 200, "{\"data\":null}");
    expect("POST", "/admin-api/alias/create/context", body, 409,
           "{\"error\":\"alias already exists\"}");
    expect("POST", "/admin-api/alias/lookup/context/main", "null", 200,
           "{\"data\":{\"value\":\"%s\"}}", context_id);
    expect("POST", at("/admin-api/alias/lookup/context/%s", context_id), NULL, 200,
           "{\"data\":{\"value\":null}}");
    expect("POST", "/admin-api/alias/lookup/application/main", NULL, 200,
           "{\"data\":{\"value\":null}}");
    expect("GET", "/admin-api/alias/list/context", NULL, 200, "{\"data\":{\"main\":\"%s\"}}",
           context_id);
    expect("POST", "/admin-api/alias/delete/context/main", NULL, 200, "{\"data\":null}");
    expect("POST", "/admin-api/alias/delete/context/main", NULL, 200, "{\"data\":null}");
    expect("GET", "/admin-api/alias/list/context", NULL, 200, "{\"data\":{}}");
    reply r =
        ask("POST", "/admin-api/alias/create/context", "{\"alias\":\"a b\",\"contextId\":\"2\"}");
    assert_int_equal(r.status, 422);
    free(r.text);
}

static void test_blobs(void **state) {
    (void)state;
    enum { SIZE = 2 * 1024 * 1024 + 7 };
    char *bytes = malloc(SIZE), id[SMALL], body[SMALL];
    for (size_t i = 0; i < SIZE; i++) bytes[i] = (char)(i * 7 + i / 1000);
    reply r = ask_with("PUT", "/admin-api/blobs", "content-type: application/octet-stream\r\n",
                       bytes, SIZE);
    assert_int_equal(r.status, 200);
    yyjson_doc *doc = yyjson_read(r.body, r.body_len, 0);
    snprintf(id, sizeof id, "%s", yyjson_get_str(find(yyjson_doc_get_root(doc), "/data/blob_id")));
    yyjson_doc_free(doc);
    snprintf(body, sizeof body, "{\"data\":{\"blob_id\":\"%s\",\"size\":%d}}", id, SIZE);
    assert_string_equal(r.body, body);
    free(r.text);
    r = ask("GET", at("/admin-api/blobs/%s", id), NULL);
    assert_int_equal(r.status, 200);
    assert_int_equal(r.body_len, SIZE);
    assert_memory_equal(r.body, bytes, SIZE);
    const char *const headers[] = {"content-length: 2097159\r\n", "etag: \"",
                                   "cache-control: private, no-cache\r\n",
                                   "x-blob-hash: ", "x-blob-mime-type: "};
    for (size_t i = 0; i < 5; i++) assert_non_null(strstr(r.text, headers[i]));
    free(r.text);
    r = ask("HEAD", at("/admin-api/blobs/%s", id), NULL);
    assert_int_equal(r.status, 200);
    assert_int_equal(r.body_len, 0);
    assert_non_null(strstr(r.text, "content-length: 2097159\r\n"));
    free(r.text);
    r = ask("GET", "/admin-api/blobs", NULL);
    snprintf(body, sizeof body, "{\"blob_id\":\"%s\",\"size\":%d}", id, SIZE);
    assert_non_null(strstr(r.body, body));
    free(r.text);
    r = ask_with("PUT", at("/admin-api/blobs?hash=%s", member), "", "xyz", 3);
    assert_int_equal(r.status, 400);
    assert_memory_equal(r.body, "{\"error\":\"Failed to store blob: ", 31);
    free(r.text);
    r = ask_with("PUT", "/admin-api/blobs?hash=xx", "", "xyz", 3);
    assert_int_equal(r.status, 400);
    assert_string_equal(r.body, "{\"error\":\"The provided hash is not a valid format\"}");
    free(r.text);
    expect("DELETE", at("/admin-api/blobs/%s", id), NULL, 200,
           "{\"blob_id\":\"%s\",\"deleted\":true}", id);
    expect("DELETE", at("/admin-api/blobs/%s", id), NULL, 404, "{\"error\":\"Blob not found\"}");
    expect("GET", at("/admin-api/blobs/%s", id), NULL, 404,
           "{\"error\":\"Blob not found locally or in network\"}");
    expect("GET", "/admin-api/blobs/zz", NULL, 400, "{\"error\":\"Invalid blob ID format\"}");
    free(bytes);
    /* A client that gives up in the middle leaves nothing behind. */
    int fd = connect_to_node();
    const char half[] =
        "PUT /admin-api/blobs HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\nhalf";
    send_all(fd, half, sizeof half - 1);
    close(fd);
    r = ask_with("PUT", "/admin-api/blobs",
                 "content-length: 2000000000\r\nexpect: 100-continue\r\n", "", 0);
    assert_int_equal(r.status, 400); /* two lengths */
    free(r.text);
}

static void test_jsonrpc(void **state) {
    (void)state;
    char body[1024];
#define RPC(id, method, params)                                                                    \
    at("{\"jsonrpc\":\"2.0\",\"id\":" id ",\"method\":\"" method "\",\"params\":" params "}",      \
       context_id)
    expect("POST", "/jsonrpc",
           RPC("7", "execute",
               "{\"contextId\":\"%s\",\"method\":\"set\",\"argsJson\":{\"key\":\"a\",\"value\":"
               "\"b\"},\"executorPublicKey\":1}"),
           200, "{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"output\":null}}");
    expect("POST", "/jsonrpc/",
           RPC("\"x\\\"y\"", "execute",
               "{\"contextId\":\"%s\",\"method\":\"get\",\"argsJson\":{\"key\":\"a\"}}"),
           200, "{\"jsonrpc\":\"2.0\",\"id\":\"x\\\"y\",\"result\":{\"output\":\"b\"}}");
    expect("POST", "/jsonrpc",
           RPC("null", "execute", "{\"contextId\":\"%s\",\"method\":\"len\",\"argsJson\":{}}"), 200,
           "{\"jsonrpc\":\"2.0\",\"id\":null,\"result\":{\"output\":1}}");
    expect("POST", "/jsonrpc", RPC("18446744073709551615", "sync_status", "{\"contextId\":\"%s\"}"),
           200,
           "{\"jsonrpc\":\"2.0\",\"id\":18446744073709551615,\"result\":{\"contextId\":\"%s\","
           "\"isInitialized\":true,"
           "\"syncState\":{\"state\":\"idle\"},\"failureCount\":0}}",
           context_id);
    expect("POST", "/jsonrpc", RPC("1", "nope", "{\"contextId\":\"%s\"}"), 200,
           "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"type\":\"ParseError\",\"data\":\"unknown "
           "variant `nope`, expected one of "
           "`execute`, `sync_status`, `set_ephemeral`\"}}");
    expect(
        "POST", "/jsonrpc",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"execute\",\"params\":{\"contextId\":\"abc\"}}",
        200,
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"type\":\"ParseError\",\"data\":\"invalid "
        "length 3, expected a base58 encoded "
        "hash\"}}");
    snprintf(body, sizeof body,
             "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"execute\",\"params\":{\"contextId\":\"%"
             "s\",\"method\":\"get\",\"argsJson\":{}}}",
             member);
    expect("POST", "/jsonrpc", body, 200,
           "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"type\":\"FunctionCallError\",\"data\":\"No "
           "owned identity found for this "
           "context\"}}");
    expect("POST", "/jsonrpc",
           RPC("1", "execute", "{\"contextId\":\"%s\",\"method\":\"\",\"argsJson\":1}"), 200,
           "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"type\":\"ParseError\",\"data\":\"Field "
           "'method' is required but was empty\"}}");
    reply r =
        ask("POST", "/jsonrpc",
            RPC("1", "execute",
                "{\"contextId\":\"%s\",\"method\":\"get_result\",\"argsJson\":{\"key\":\"zz\"}}"));
    assert_int_equal(r.status, 200);
    const char start[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"type\":\"FunctionCallError\","
                         "\"data\":\"the method call returned "
                         "an error: [";
    if (strncmp(r.body, start, sizeof start - 1) != 0 || !strstr(r.body, "]\",\"error\":"))
        fail_msg("%s", r.body);
    free(r.text);
    r = ask("POST", "/jsonrpc",
            RPC("1", "execute",
                "{\"contextId\":\"%s\",\"method\":\"set\",\"argsJson\":{\"key\":\"zz\"}}"));
    if (!strstr(r.body, "\"type\":\"FunctionCallError\",\"data\":\"guest panicked: set: failed to "
                        "deserialize arguments"))
        fail_msg("%s", r.body);
    free(r.text);
    expect("POST", "/jsonrpc", RPC("1", "set_ephemeral", "{\"contextId\":\"%s\",\"state\":[1,2]}"),
           200, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}");
}

static void test_jsonrpc_envelope(void **state) {
    (void)state;
    static const char lead[] = "Failed to deserialize the JSON body into the target type: ";
    expect("POST", "/jsonrpc", "{\"jsonrpc\":\"2.0\",\"method\":\"execute\"}", 422,
           "%smissing field `id`", lead);
    expect("POST", "/jsonrpc", "{\"id\":1}", 422, "%smissing field `jsonrpc`", lead);
    expect("POST", "/jsonrpc", "{\"jsonrpc\":\"1.0\",\"id\":1}", 422,
           "%sjsonrpc: Invalid JSON-RPC version", lead);
    const char *const ids[] = {"-1", "1.5", "[]", "true", "18446744073709551616"};
    for (size_t i = 0; i < 5; i++)
        expect("POST", "/jsonrpc", at("{\"jsonrpc\":\"2.0\",\"id\":%s}", ids[i]), 422,
               "%sid: data did not match any variant of untagged enum RequestId", lead);
    expect("POST", "/jsonrpc", "{\"jsonrpc\":\"2.0\",\"id\":1}", 200,
           "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"type\":\"ParseError\",\"data\":\"missing "
           "field `method`\"}}");
    expect("POST", "/jsonrpc", "{", 400, "Failed to parse the request body as JSON");
    expect("GET", "/jsonrpc", NULL, 405, "");
    reply r = ask_with("POST", "/jsonrpc", "content-type: text/plain\r\n", "{}", 2);
    assert_int_equal(r.status, 415);
    free(r.text);
}

/* --- live --- */

static void test_websocket(void **state) {
    (void)state;
    char text[8192], want[1024];
    int fd = open_ws(text, sizeof text);
    send_frame(fd, at("{\"id\":1,\"method\":\"subscribe\",\"params\":{\"contextIds\":[\"%s\"]}}",
                      context_id));
    snprintf(want, sizeof want, "{\"id\":1,\"result\":{\"contextIds\":[\"%s\"]}}", context_id);
    read_until(fd, text, sizeof text, want);
    snprintf(want, sizeof want,
             "{\"id\":null,\"result\":{\"contextId\":\"%s\",\"type\":\"Ephemeral\",\"data\":{"
             "\"author\":\"%s\",\"state\":[1,2],\"ageMs\":0}}}",
             context_id, member);
    assert_non_null(strstr(text, want)); /* set by test_jsonrpc */
    send_frame(fd, "not json");
    send_frame(fd, "{\"id\":-1,\"method\":\"subscribe\",\"params\":{}}");
    send_frame(fd, "{\"method\":\"fly\"}");
    read_until(fd, text, sizeof text,
               "{\"id\":null,\"error\":{\"type\":\"ParseError\",\"data\":\"unknown variant `fly`, "
               "expected one of `subscribe`, "
               "`unsubscribe`, `execute`\"}}");
    assert_null(strstr(text, "\"id\":-1"));
    text[0] = 0;
    send_frame(fd, at("{\"id\":2,\"method\":\"execute\",\"params\":{\"contextId\":\"%s\","
                      "\"method\":\"set\",\"argsJson\":"
                      "{\"key\":\"w\",\"value\":\"s\"}}}",
                      context_id));
    read_until(fd, text, sizeof text, "{\"id\":2,\"result\":{\"output\":null}}");
    snprintf(want, sizeof want,
             "{\"id\":null,\"result\":{\"contextId\":\"%s\",\"type\":\"StateMutation\",\"data\":{"
             "\"newRoot\":\"",
             context_id);
    read_until(fd, text, sizeof text, want);
    read_until(
        fd, text, sizeof text,
        "\",\"events\":[{\"kind\":\"Inserted\",\"data\":[123,34,107,101,121,34,58,34,119,34,");
    read_until(fd, text, sizeof text, ",\"handler\":null}]}}}");
    text[0] = 0;
    send_frame(fd, at("{\"id\":3,\"method\":\"unsubscribe\",\"params\":{\"contextIds\":[\"%s\"]}}",
                      context_id));
    read_until(fd, text, sizeof text, "{\"id\":3,\"result\":{\"contextIds\":[\"");
    close(fd);
    expect("GET", "/ws", NULL, 400,
           "Invalid WebSocket upgrade request: Connection header did not include 'upgrade' or "
           "Upgrade header 'websocket'");
}

static void restart(void) {
    cal_server_stop(server);
    cal_node_stop(node);
    start_node();
}

static void count_row(void *user, const char *key, cal_slice value) {
    (void)key, (void)value;
    ++*(size_t *)user;
}

static void test_event_stream(void **state) {
    (void)state;
    char text[16384], id[SMALL], again[SMALL], want[1024];
    int fd = open_sse(NULL, text, sizeof text, id);
    snprintf(want, sizeof want,
             "event: message\nid: %s-0\nretry: 3000\ndata: "
             "{\"type\":\"connect\",\"session_id\":\"%s\",\"reconnect\":false}\n\n",
             id, id);
    assert_non_null(strstr(text, want));
    expect("POST", "/sse/subscription",
           at("{\"id\":\"%s\",\"method\":\"subscribe\",\"params\":{\"contextIds\":[\"%s\"]}}", id,
              context_id),
           200, "{\"result\":{\"status\":\"subscribed\",\"contexts\":[\"%s\"],\"groups\":[]}}",
           context_id);
    snprintf(want, sizeof want,
             "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"execute\",\"params\":{\"contextId\":\"%"
             "s\",\"method\":\"set\",\"argsJson\":"
             "{\"key\":\"e\",\"value\":\"s\"}}}",
             context_id);
    expect("POST", "/jsonrpc", want, 200,
           "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"output\":null}}");
    snprintf(want, sizeof want,
             "event: message\nid: %s-2\ndata: "
             "{\"result\":{\"contextId\":\"%s\",\"type\":\"StateMutation\",",
             id, context_id);
    read_until(fd, text, sizeof text, want);
    read_until(fd, text, sizeof text, "\"handler\":null}]}}}\n\n");
    expect("GET", at("/sse/session/%s", id), NULL, 200,
           "{\"result\":{\"session_id\":%s,\"subscriptions\":[\"%s\"],\"event_counter\":3,"
           "\"status\":\"active\"}}",
           id, context_id);
    /* The node stops: the stream says so; after the start the session is there again. */
    restart();
    read_until(fd, text, sizeof text,
               "data: {\"type\":\"close\",\"reason\":\"node is stopping\"}\n\n");
    close(fd);
    expect("GET", at("/sse/session/%s", id), NULL, 200,
           "{\"result\":{\"session_id\":%s,\"subscriptions\":[\"%s\"],\"event_counter\":4,"
           "\"status\":\"persisted\"}}",
           id, context_id);
    const char *const unknown =
        at("{\"id\":\"%s\",\"method\":\"unsubscribe\",\"params\":{\"contextIds\":[\"%s\"]}}", id,
           context_id);
    expect("POST", "/sse/subscription", unknown, 404,
           "{\"error\":\"Session not found. Please reconnect to SSE endpoint first.\"}");
    fd = open_sse(at("%s-2", id), text, sizeof text, again);
    assert_string_equal(id, again);
    assert_non_null(strstr(text, "x-sse-reconnect: true\r\n"));
    expect(
        "POST", "/sse/subscription",
        at("{\"id\":\"%s\",\"method\":\"unsubscribe\",\"params\":{\"contextIds\":[\"%s\",\"%s\"]}}",
           id, context_id, member),
        200,
        "{\"result\":{\"status\":\"unsubscribed\",\"unsubscribed\":[\"%s\"],\"requested\":[\"%s\","
        "\"%s\"]}}",
        context_id, context_id, member);
    close(fd);
    fd = open_sse("12345-9", text, sizeof text, again); /* nobody's: a new session, silently */
    assert_string_not_equal(again, "12345");
    close(fd);
    expect("POST", "/sse/subscription", "{\"id\":\"x\",\"method\":\"subscribe\",\"params\":{}}",
           400, "{\"error\":\"Invalid Session Id\"}");
    expect("POST", "/sse/subscription",
           at("{\"id\":\"%s\",\"method\":\"fly\",\"params\":{}}", again), 400,
           "{\"error\":{\"type\":\"ParseError\",\"data\":\"unknown variant `fly`, expected "
           "`subscribe` or `unsubscribe`\"}}");
    expect("GET", "/sse/session/99", NULL, 404, "{\"error\":\"Session not found\"}");
    /* A session that never subscribed to anything leaves nothing behind. */
    size_t rows = 0;
    assert_int_equal(cal_node_row_each(node, "sse/", count_row, &rows), 0);
    fd = open_sse(NULL, text, sizeof text, again);
    close(fd);
    restart();
    expect("GET", at("/sse/session/%s", again), NULL, 404, "{\"error\":\"Session not found\"}");
    size_t rows_after = 0;
    assert_int_equal(cal_node_row_each(node, "sse/", count_row, &rows_after), 0);
    assert_true(rows_after <= rows && rows <= 1);
}

/* A server that shows the node and changes nothing. */
static void test_read_only(void **state) {
    (void)state;
    static const char words[] = "{\"error\":\"this node is read-only (mode = \\\"readonly\\\" in "
                                "config.toml): it shows its data and changes nothing\"}";
    static const char *const changes[][2] = {
        {"POST", "/admin-api/install-dev-application"},
        {"POST", "/admin-api/install-application"},
        {"DELETE", "/admin-api/applications/x"},
        {"POST", "/admin-api/contexts"},
        {"DELETE", "/admin-api/contexts/x"},
        {"POST", "/admin-api/namespaces"},
        {"DELETE", "/admin-api/namespaces/x"},
        {"POST", "/admin-api/namespaces/x/groups"},
        {"POST", "/admin-api/namespaces/x/invite"},
        {"POST", "/admin-api/namespaces/x/join"},
        {"POST", "/admin-api/namespaces/x/leave"},
        {"POST", "/admin-api/namespaces/x/account/pair-init"},
        {"POST", "/admin-api/namespaces/x/account/pair-complete"},
        {"POST", "/admin-api/namespaces/x/account/revoke"},
        {"POST", "/admin-api/groups"},
        {"POST", "/admin-api/groups/join"},
        {"DELETE", "/admin-api/groups/x"},
        {"POST", "/admin-api/groups/x/reparent"},
        {"POST", "/admin-api/groups/x/members"},
        {"POST", "/admin-api/groups/x/members/remove"},
        {"PUT", "/admin-api/groups/x/members/y/role"},
        {"PUT", "/admin-api/groups/x/members/y/capabilities"},
        {"PUT", "/admin-api/groups/x/members/y/auto-follow"},
        {"PUT", "/admin-api/groups/x/members/y/metadata"},
        {"PUT", "/admin-api/groups/x/metadata"},
        {"PUT", "/admin-api/groups/x/contexts/y/metadata"},
        {"POST", "/admin-api/groups/x/contexts/y/remove"},
        {"POST", "/admin-api/groups/x/leave"},
        {"POST", "/admin-api/groups/x/join-via-inheritance"},
        {"POST", "/admin-api/groups/x/invite"},
        {"PUT", "/admin-api/groups/x/settings/default-capabilities"},
        {"PUT", "/admin-api/groups/x/settings/subgroup-visibility"},
        {"POST", "/admin-api/contexts/x/leave"},
        {"POST", "/admin-api/identity/context"},
        {"PUT", "/admin-api/blobs"},
        {"DELETE", "/admin-api/blobs/x"},
        {"POST", "/admin-api/alias/create/context"},
        {"POST", "/admin-api/alias/create/application"},
        {"POST", "/admin-api/alias/delete/context/x"},
        {"POST", "/admin-api/alias/delete/application/x"},
    };
    const char *addresses[] = {"/ip4/127.0.0.1/tcp/0"};
    cal_server_options options = {.addresses = addresses, .address_count = 1, .read_only = true};
    cal_server *viewer = NULL;
    cal_error err;
    unsigned number;
    char text[8192], want[1024];
    uint16_t before = port;
    if (cal_server_start(node, &options, &viewer, &err) != 0) fail_msg("%s", err.message);
    assert_int_equal(sscanf(cal_server_address(viewer, 0), "/ip4/127.0.0.1/tcp/%u", &number), 1);
    port = (uint16_t)number;
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++)
        expect(changes[i][0], changes[i][1], "{}", 403, "%s", words);
    expect("POST", "/jsonrpc", "{}", 404, "");
    int fd = open_ws(text, sizeof text);
    send_frame(fd, at("{\"id\":2,\"method\":\"execute\",\"params\":{\"contextId\":\"%s\","
                      "\"method\":\"set\",\"argsJson\":{\"key\":\"r\",\"value\":\"o\"}}}",
                      context_id));
    read_until(
        fd, text, sizeof text,
        "{\"id\":2,\"error\":{\"type\":\"FunctionCallError\",\"data\":\"this node is read-only");
    close(fd);
    reply r = ask("GET", "/admin-api/contexts", NULL);
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.body, context_id));
    free(r.text);
    snprintf(want, sizeof want, "/admin-api/contexts/%s/join", context_id);
    r = ask("POST", want, NULL); /* only says who we are */
    assert_int_equal(r.status, 200);
    free(r.text);
    port = before;
    cal_server_stop(viewer);
}

/* Too large a body: handlers that check theirs say so in JSON, the others with 413. */
static void test_large_bodies(void **state) {
    (void)state;
    static const struct {
        const char *path, *status, *body;
    } rows[] = {
        {"/admin-api/contexts", "400 Bad Request",
         "{\"error\":\"Failed to read request body: length limit exceeded\"}"},
        {"/admin-api/install-dev-application", "400 Bad Request",
         "{\"error\":\"Failed to read request body: length limit exceeded\"}"},
        {"/jsonrpc", "413 Payload Too Large",
         "Failed to buffer the request body: length limit exceeded"},
        {"/admin-api/alias/create/context", "413 Payload Too Large",
         "Failed to buffer the request body: length limit exceeded"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char head[512];
        int fd = connect_to_node();
        snprintf(head, sizeof head,
                 "POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-type: "
                 "application/json\r\ncontent-length: 2097153\r\n\r\n",
                 rows[i].path);
        send_all(fd, head, strlen(head));
        reply r = receive_all(fd);
        assert_non_null(strstr(r.text, rows[i].status));
        assert_string_equal(r.body, rows[i].body);
        free(r.text);
    }
}

static void ignore_done(void *user, const cal_error *err) {
    (void)user;
    assert_null(err);
}

static void fill_identities(void *arg) {
    (void)arg;
    for (int i = 0; i < 1024; i++) {
        char row[SMALL];
        snprintf(row, sizeof row, "identity/full-%d", i);
        cal_node_row_put(node, row, cal_slice_text("x"), ignore_done, NULL);
    }
}

/* The last one: it leaves the node's places for identities taken. */
static void test_identities_are_bounded(void **state) {
    (void)state;
    cal_node_run(node, fill_identities, NULL);
    restart();
    expect(
        "POST", "/admin-api/identity/context", NULL, 503,
        "{\"error\":\"this node already keeps 1024 context identities, and makes no more: use one "
        "of them\"}");
}

static void test_start_and_stop(void **state) {
    (void)state;
    cal_error err;
    cal_server *other = NULL;
    const char *open_address[] = {"/ip4/0.0.0.0/tcp/0"}, *any_origin[] = {"*"};
    cal_server_options options = {.addresses = open_address, .address_count = 1};
    assert_int_equal(cal_server_start(node, &options, &other, &err), CAL_EDENIED);
    assert_non_null(strstr(err.message, "--allow-unauthenticated"));
    options.allow_unauthenticated = true;
    assert_int_equal(cal_server_start(node, &options, &other, &err), 0);
    assert_non_null(strstr(cal_server_address(other, 0), "/ip4/0.0.0.0/tcp/"));
    cal_server_stop(other);
    options.allowed_origins = any_origin;
    options.allowed_origin_count = 1;
    assert_int_equal(cal_server_start(node, &options, &other, &err), CAL_EINVAL);
    /* A node that stops takes its server along. */
    int fd = connect_to_node();
    cal_node_stop(node);
    char byte;
    assert_true(recv(fd, &byte, 1, 0) <= 0);
    close(fd);
    cal_server_stop(server);
    start_node();
}

/* --- another node --- */

static void note_invitation(void *user, const cal_group_id *group, const char *name,
                            const char *json) {
    (void)group, (void)name;
    snprintf(user, TEXT_MAX, "%s", json);
}
static void no_answer(void *user, const cal_error *err) {
    (void)user;
    assert_null(err);
}

static void invite_on_loop(void *arg) {
    cal_group_id id;
    assert_int_equal(cal_id_parse(namespace_id, id.bytes), 0);
    cal_namespace_invite(node, &id, 0, false, note_invitation, no_answer, arg);
}

static void take_address(void *arg) {
    cal_multiaddr address;
    assert_true(cal_p2p_addresses(cal_node_p2p(*(cal_node **)arg), &address, 1) >= 1);
    other_address = address;
}
static void connect_on_loop(void *arg) {
    (void)arg;
    cal_p2p_connect(cal_node_p2p(node), &other_id, &other_address, 1, NULL, NULL);
}

/* A blob that only another member has comes with context_id, and is kept; one that is put with
 * context_id is theirs to fetch. */
static void test_blobs_of_members(void **state) {
    (void)state;
    static char other_home[] = "/tmp/api_test_other_XXXXXX";
    static const char *const listen[] = {"/ip4/127.0.0.1/tcp/0"};
    cal_node_options options = {.durability = CAL_NODE_DURABLE_PROCESS};
    cal_node *other;
    cal_error err = {0};
    cal_joined joined;
    cal_context_id context;
    cal_blob_id blob;
    char *json = malloc(TEXT_MAX), id[SMALL], nobody[SMALL], command[SMALL];
    options.home = mkdtemp(other_home);
    options.network = (cal_network_options){.listen = listen, .listen_count = 1};
    assert_int_equal(cal_id_parse(context_id, context.bytes), 0);
    assert_int_equal(cal_node_init(&options, NULL, &err), 0);
    if (cal_node_start(&options, &other, &err) != 0) fail_msg("%s", err.message);
    cal_node_peer_id(other, &other_id);
    cal_node_run(other, take_address, &other);
    cal_node_run(node, connect_on_loop, NULL);
    cal_node_run(node, invite_on_loop, json);
    if (cal_namespace_join_wait(other, json, "ours", &joined, &err) != 0)
        fail_msg("%s", err.message);
    free(json);
    assert_int_equal(cal_blob_put_wait(other, "theirs", 6, &blob, &err), 0);
    cal_id_to_base58(blob.bytes, id);
    memset(blob.bytes, 7, sizeof blob.bytes);
    cal_id_to_base58(blob.bytes, nobody);
    expect("GET", at("/admin-api/blobs/%s", id), NULL, 404,
           "{\"error\":\"Blob not found locally or in network\"}");
    reply r = ask("GET", at("/admin-api/blobs/%s?context_id=%s", id, context_id), NULL);
    assert_int_equal(r.status, 200);
    assert_string_equal(r.body, "theirs");
    free(r.text);
    r = ask("GET", at("/admin-api/blobs/%s", id), NULL); /* it is here now */
    assert_int_equal(r.status, 200);
    free(r.text);
    expect("GET", at("/admin-api/blobs/%s?context_id=%s", nobody, context_id), NULL, 404,
           "{\"error\":\"Blob not found locally or in network\"}");
    expect("GET", at("/admin-api/blobs/%s?context_id=%s", nobody, nobody), NULL, 404,
           "{\"error\":\"Blob not found locally or in network\"}");
    r = ask_with("PUT", at("/admin-api/blobs?context_id=%s", context_id), "", "ours", 4);
    assert_int_equal(r.status, 200);
    yyjson_doc *doc = yyjson_read(r.body, r.body_len, 0);
    assert_int_equal(
        cal_id_parse(yyjson_get_str(find(yyjson_doc_get_root(doc), "/data/blob_id")), blob.bytes),
        0);
    yyjson_doc_free(doc);
    free(r.text);
    if (cal_blob_fetch_wait(other, &blob, &context, &err) != 0) fail_msg("%s", err.message);
    cal_node_stop(other);
    snprintf(command, sizeof command, "rm -rf %s", other_home);
    assert_int_equal(system(command), 0);
}

int main(int argc, char **argv) {
    if (argc != 2) return fprintf(stderr, "usage: api_test KV_STORE.wasm\n"), 2;
    app_path = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_health),
        cmocka_unit_test(test_identity),
        cmocka_unit_test(test_applications),
        cmocka_unit_test(test_install_refusals),
        cmocka_unit_test(test_contexts),
        cmocka_unit_test(test_context_create_and_delete),
        cmocka_unit_test(test_namespaces),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_invitations),
        cmocka_unit_test(test_aliases),
        cmocka_unit_test(test_blobs),
        cmocka_unit_test(test_jsonrpc),
        cmocka_unit_test(test_jsonrpc_envelope),
        cmocka_unit_test(test_websocket),
        cmocka_unit_test(test_event_stream),
        cmocka_unit_test(test_read_only),
        cmocka_unit_test(test_large_bodies),
        cmocka_unit_test(test_start_and_stop),
        cmocka_unit_test(test_identities_are_bounded),
        cmocka_unit_test(test_blobs_of_members), /* the last: from here on there is a peer */
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
