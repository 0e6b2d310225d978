/* The HTTP API of sharing: two nodes in one process over loopback, each with its server. Every row
 * of http-api.md 5.2 to 5.5 about others, its refusals, and a story from founding to leaving. The
 * application is apps/kv-store, compiled to WebAssembly; its path is the only argument. */
#include <time.h>

#include "calimero/context.h"
#include "calimero/node.h"
#include "calimero/p2p.h"
#include "calimero/server.h"
#include "calimero/share.h"
#include "client.h"
#include "node/node.h"

enum { WAIT_MS = 20000, STEP_MS = 50, ANSWER_MAX = 4096 };

typedef struct site {
    char home[SMALL];
    cal_node *node;
    cal_server *server;
    uint16_t port;
    char account[SMALL], key[SMALL], root_key[SMALL];
} site;

static const char *app_path;
static site founder, guest;
static char app_id[SMALL], space[SMALL], context[SMALL];

static void use(const site *s) { port = s->port; }

/* The status and, when it is another than wanted, a failure with the body. */
static void status_of(const char *verb, const char *path, const char *json, int status) {
    reply r = ask(verb, path, json);
    if (r.status != status)
        fail_msg("%s %s %s: %d %s, want %d", verb, path, json ? json : "", r.status, r.body,
                 status);
    free(r.text);
}

/* The answer has the status and a text in it. */
static void refused(const char *verb, const char *path, const char *json, int status,
                    const char *words) {
    reply r = ask(verb, path, json);
    if (r.status != status || strncmp(r.body, "{\"error\":\"", 10) != 0 || !strstr(r.body, words))
        fail_msg("%s %s %s: %d %s, want %d '%s'", verb, path, json ? json : "", r.status, r.body,
                 status, words);
    free(r.text);
}

/* Until the answer has the text in it (`there`), or has it no more. */
static void until(const char *verb, const char *path, const char *json, const char *words,
                  bool there) {
    struct timespec step = {.tv_nsec = STEP_MS * 1000000};
    char kept[PATH_LENGTH_MAX];
    snprintf(kept, sizeof kept, "%s", path);
    for (int waited = 0;; waited += STEP_MS) {
        reply r = ask(verb, kept, json);
        bool has = strstr(r.body, words) != NULL;
        if (has == there) {
            free(r.text);
            return;
        }
        if (waited >= WAIT_MS) fail_msg("%s %s: %s '%s'", verb, kept, r.body, words);
        free(r.text);
        nanosleep(&step, NULL);
    }
}

static const char *group_path(const char *group, const char *rest) {
    return at("/admin-api/groups/%s%s", group, rest);
}

static void call(const char *method, const char *args, char *ret_body) {
    char body[1024];
    snprintf(
        body, sizeof body,
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"execute\",\"params\":{\"contextId\":\"%s\","
        "\"method\":\"%s\",\"argsJson\":%s}}",
        context, method, args);
    reply r = ask("POST", "/jsonrpc", body);
    snprintf(ret_body, ANSWER_MAX, "%s", r.body);
    free(r.text);
}

static void set(const char *key, const char *value) {
    char body[ANSWER_MAX];
    call("set", at("{\"key\":\"%s\",\"value\":\"%s\"}", key, value), body);
    if (!strstr(body, "\"result\":{\"output\":null}")) fail_msg("set %s: %s", key, body);
}

static void until_value(const char *key, const char *value) {
    struct timespec step = {.tv_nsec = STEP_MS * 1000000};
    char body[ANSWER_MAX], args[SMALL], want[SMALL];
    snprintf(args, sizeof args, "{\"key\":\"%s\"}", key);
    snprintf(want, sizeof want, "\"output\":\"%s\"", value);
    for (int waited = 0;; waited += STEP_MS) {
        call("get", args, body);
        if (strstr(body, want)) return;
        if (waited >= WAIT_MS) fail_msg("%s is not %s: %s", key, value, body);
        nanosleep(&step, NULL);
    }
}

static void open_site(site *s, const char *name) {
    static const char *const listen[] = {"/ip4/127.0.0.1/tcp/0"};
    const char *addresses[] = {"/ip4/127.0.0.1/tcp/0"};
    cal_server_options serve = {.addresses = addresses, .address_count = 1};
    cal_node_options options = {.durability = CAL_NODE_DURABLE_PROCESS};
    cal_error err;
    unsigned number;
    snprintf(s->home, sizeof s->home, "/tmp/share_api_%s_XXXXXX", name);
    assert_non_null(mkdtemp(s->home));
    options.home = s->home;
    options.network = (cal_network_options){.listen = listen, .listen_count = 1};
    if (cal_node_init(&options, NULL, &err) != 0) fail_msg("%s", err.message);
    if (cal_node_start(&options, &s->node, &err) != 0) fail_msg("%s", err.message);
    if (cal_server_start(s->node, &serve, &s->server, &err) != 0) fail_msg("%s", err.message);
    assert_int_equal(sscanf(cal_server_address(s->server, 0), "/ip4/127.0.0.1/tcp/%u", &number), 1);
    s->port = (uint16_t)number;
    use(s);
    fetch("GET", "/admin-api/identity", NULL, "/data/accountId", s->account);
    fetch("GET", "/admin-api/identity", NULL, "/data/publicKey", s->key);
    fetch("GET", "/admin-api/identity", NULL, "/data/accountRootPublicKey", s->root_key);
}

static void close_site(site *s) {
    char command[PATH_LENGTH_MAX];
    cal_server_stop(s->server);
    cal_node_stop(s->node);
    snprintf(command, sizeof command, "rm -rf %s", s->home);
    assert_int_equal(system(command), 0);
}

static int setup(void **state) {
    (void)state;
    char body[1024];
    open_site(&guest, "guest");
    open_site(&founder, "founder");
    snprintf(body, sizeof body, "{\"path\":\"%s\"}", app_path);
    fetch("POST", "/admin-api/install-dev-application", body, "/data/applicationId", app_id);
    snprintf(body, sizeof body, "{\"applicationId\":\"%s\",\"name\":\"home\"}", app_id);
    fetch("POST", "/admin-api/namespaces", body, "/data/namespaceId", space);
    snprintf(body, sizeof body,
             "{\"applicationId\":\"%s\",\"groupId\":\"%s\",\"initializationParams\":[]}", app_id,
             space);
    fetch("POST", "/admin-api/contexts", body, "/data/contextId", context);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    close_site(&guest);
    close_site(&founder);
    return 0;
}

/* --- tests --- */

static void test_group_rows(void **state) {
    (void)state;
    char group[SMALL], below[SMALL], hash[SMALL], body[1024], named[SMALL], base58[SMALL];
    use(&founder);
    fetch("GET", group_path(space, ""), NULL, "/data/groupStateHash", hash);
    assert_int_equal(strlen(hash), 64);
    reply r = ask("GET", group_path(space, ""), NULL);
    snprintf(body, sizeof body, "{\"data\":{\"groupId\":\"%s\",\"appKey\":\"", space);
    assert_memory_equal(r.body, body, strlen(body));
    assert_non_null(strstr(r.body,
                           "\",\"memberCount\":1,\"contextCount\":1,\"defaultCapabilities\":"
                           "4,\"subgroupVisibility\":\"restricted\",\"metadata\":{\"name\":"
                           "\"home\",\"data\":{},\"updatedAt\":"));
    free(r.text);
    /* Base58 is as good. */
    cal_group_id id;
    assert_int_equal(cal_id_parse(space, id.bytes), 0);
    cal_id_to_base58(id.bytes, base58);
    fetch("GET", group_path(base58, ""), NULL, "/data/groupId", named);
    assert_string_equal(named, space);
    refused("GET", group_path("zz", ""), NULL, 400, "Invalid group id format");
    expect("GET", at("/admin-api/groups/%064d", 1), NULL, 404, "{\"error\":\"Group not found\"}");
    snprintf(body, sizeof body,
             "{\"applicationId\":\"%s\",\"parentGroupId\":\"%s\",\"name\":\"team\"}", app_id,
             space);
    fetch("POST", "/admin-api/groups", body, "/data/groupId", group);
    snprintf(body, sizeof body,
             "{\"applicationId\":\"%s\",\"parentGroupId\":\"%s\",\"groupId\":\"%064d\"}", app_id,
             group, 5);
    fetch("POST", "/admin-api/groups", body, "/data/groupId", below);
    refused("POST", "/admin-api/groups", body, 409, "");
    snprintf(body, sizeof body, "{\"applicationId\":\"%s\",\"parentGroupId\":\"%s\"}", founder.key,
             group);
    refused("POST", "/admin-api/groups", body, 400, "another application");
    expect("GET", group_path(space, "/subgroups"), NULL, 200,
           "{\"subgroups\":[{\"groupId\":\"%s\",\"name\":\"team\"}]}", group);
    expect("GET", group_path(group, "/subgroups"), NULL, 200,
           "{\"subgroups\":[{\"groupId\":\"%s\"}]}", below);
    snprintf(body, sizeof body, "{\"newParentId\":\"%s\"}", space);
    expect("POST", group_path(below, "/reparent"), body, 200, "{\"reparented\":true}");
    refused("POST", group_path(below, "/reparent"), "{}", 400, "missing field `newParentId`");
    expect("GET", group_path(group, "/subgroups"), NULL, 200, "{\"subgroups\":[]}");
    expect("PUT", group_path(group, "/settings/subgroup-visibility"),
           "{\"subgroupVisibility\":\"open\"}", 200, "{}");
    expect("PUT", group_path(group, "/settings/default-capabilities"),
           "{\"defaultCapabilities\":5}", 200, "{}");
    refused("PUT", group_path(group, "/settings/subgroup-visibility"),
            "{\"subgroupVisibility\":\"Open\"}", 400, "'open' or 'restricted'");
    r = ask("GET", group_path(group, ""), NULL);
    assert_non_null(strstr(r.body, "\"defaultCapabilities\":5,\"subgroupVisibility\":\"open\""));
    free(r.text);
    r = ask("POST", group_path(group, "/sync"), "{}");
    assert_non_null(strstr(r.body, ",\"memberCount\":1,\"contextCount\":0}}"));
    free(r.text);
    expect("DELETE", group_path(below, ""), "{}", 200, "{\"data\":{\"isDeleted\":true}}");
    expect("DELETE", group_path(group, ""), NULL, 200, "{\"data\":{\"isDeleted\":true}}");
    refused("DELETE", group_path(group, ""), NULL, 404, "");
    refused("DELETE", group_path(space, ""), NULL, 400, "delete the namespace");
    refused("POST", group_path(space, "/upgrade"), "{}", 501, "not supported");
    refused("GET", group_path(space, "/migration-status"), NULL, 501, "not supported");
    refused("GET", group_path(space, "/settings/tee-admission-policy"), NULL, 501, "attestation");
    refused("POST", "/admin-api/tee/fleet-join", "{}", 501, "attestation");
}

static void test_metadata_rows(void **state) {
    (void)state;
    char path[PATH_LENGTH_MAX], want[ANSWER_MAX];
    const char *const paths[] = {"/metadata", "/members/%s/metadata", "/contexts/%s/metadata"};
    use(&founder);
    for (size_t i = 0; i < 3; i++) {
        char rest[SMALL + 64];
        snprintf(rest, sizeof rest, paths[i], i == 1 ? founder.account : context);
        snprintf(path, sizeof path, "/admin-api/groups/%s%s", space, rest);
        if (i > 0) expect("GET", path, NULL, 200, "{\"data\":null}");
        expect("PUT", path, "{\"name\":\"n\",\"data\":{\"b\":\"2\",\"a\":\"\"}}", 200, "{}");
        reply r = ask("GET", path, NULL);
        snprintf(want, sizeof want,
                 "{\"data\":{\"name\":\"n\",\"data\":{\"a\":\"\",\"b\":\"2\"},\"updatedAt\":");
        assert_memory_equal(r.body, want, strlen(want));
        snprintf(want, sizeof want, ",\"updatedBy\":\"%s\"}}", founder.key);
        assert_non_null(strstr(r.body, want));
        free(r.text);
        expect("PUT", path, "{\"name\":null,\"data\":{}}", 200, "{}");
        r = ask("GET", path, NULL);
        assert_memory_equal(r.body, "{\"data\":{\"name\":null,\"data\":{},", 31);
        free(r.text);
        refused("PUT", path, "{\"data\":{\"\":\"x\"}}", 400, "1 to 64 bytes");
        refused("PUT", path, "{\"data\":{\"x\":1}}", 400, "expected a string");
    }
    expect("PUT", group_path(space, "/metadata"), "{\"name\":\"home\",\"data\":{}}", 200, "{}");
}

static void test_proof_rows(void **state) {
    (void)state;
    char body[1024], payload[SMALL * 4], named[SMALL];
    const char *const nonce = "deadbeefcafebabe1122334455667788";
    use(&founder);
    snprintf(body, sizeof body,
             "{\"audience\":\"a\",\"contextId\":\"%s\",\"subject\":\"s\",\"nonce\":\"%s\","
             "\"expiresAtMs\":99999999999999}",
             context, nonce);
    fetch("POST", group_path(space, "/issue-ownership-proof"), body, "/signerPublicKey", named);
    assert_string_equal(named, founder.key);
    reply r = ask("POST", group_path(space, "/issue-ownership-proof"), body);
    /* base64 of {"v":1,"audience":"a","group_id":" */
    snprintf(payload, sizeof payload, "\",\"signedPayload\":\"%s",
             "eyJ2IjoxLCJhdWRpZW5jZSI6ImEiLCJncm91cF9pZCI6I");
    if (!strstr(r.body, payload)) fail_msg("%s", r.body);
    free(r.text);
    status_of("POST", group_path(space, "/issue-namespace-ownership-proof"), body, 200);
    refused("POST", group_path(space, "/issue-ownership-proof"),
            "{\"audience\":\"\",\"contextId\":\"1\",\"subject\":\"s\",\"nonce\":\"zz\","
            "\"expiresAtMs\":1}",
            400, "Field 'audience' is required but was empty; Field 'nonce' has invalid format");
    snprintf(body, sizeof body,
             "{\"audience\":\"a\",\"subject\":\"s\",\"nonce\":\"%s\",\"expiresAtMs\":1}", nonce);
    refused("POST", group_path(space, "/issue-namespace-ownership-proof"), body, 400,
            "must be in the future");
}

static void test_invitation_refusals(void **state) {
    (void)state;
    char code[ANSWER_MAX * 4], body[ANSWER_MAX * 5];
    const struct timespec second = {.tv_sec = 2};
    use(&founder);
    expect("POST", at("/admin-api/namespaces/%064d/invite", 1), "{}", 404,
           "{\"error\":\"Namespace not found\"}");
    refused("POST", at("/admin-api/namespaces/%s/invite", space), "{\"expirationTimestamp\":0}",
            400, "below minimum");
    refused("POST", at("/admin-api/namespaces/%s/invite", space), "{\"role\":\"King\"}", 400,
            "expected Admin, Member or ReadOnly");
    reply r = ask("POST", at("/admin-api/namespaces/%s/invite", space),
                  "{\"expirationTimestamp\":1,\"code\":true}");
    assert_int_equal(r.status, 200);
    const char *from = strstr(r.body, "\"code\":\"calimero1");
    assert_non_null(from);
    assert_int_equal(sscanf(from, "\"code\":\"%[a-z0-9]", code), 1);
    free(r.text);
    nanosleep(&second, NULL);
    use(&guest);
    snprintf(body, sizeof body, "{\"invitation\":\"%s\"}", code);
    refused("POST", at("/admin-api/namespaces/%s/join", space), body, 410, "expired");
    refused("POST", at("/admin-api/namespaces/%064d/join", 9), body, 400, "does not match");
    code[40] = code[40] == 'q' ? 'p' : 'q';
    snprintf(body, sizeof body, "{\"invitation\":\"%s\"}", code);
    refused("POST", at("/admin-api/namespaces/%s/join", space), body, 400, "");
}

/* Founding, inviting, joining, writing both ways, a role, removal. */
static void test_story(void **state) {
    (void)state;
    static char code[ANSWER_MAX * 4], body[ANSWER_MAX * 5];
    char account[SMALL], want[ANSWER_MAX];
    use(&founder);
    set("a", "1");
    reply r = ask("POST", at("/admin-api/namespaces/%s/invite", space), "{\"code\":true}");
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.body, ",\"groupName\":\"home\",\"code\":\""));
    assert_int_equal(sscanf(strstr(r.body, "\"code\":\""), "\"code\":\"%[a-z0-9]", code), 1);
    free(r.text);
    use(&guest);
    snprintf(body, sizeof body, "{\"invitation\":\"%s\"}", code);
    expect("POST", at("/admin-api/namespaces/%s/join", space), body, 200,
           "{\"data\":{\"namespaceId\":\"%s\",\"memberIdentity\":\"%s\",\"memberAccount\":\"%s\"}}",
           space, guest.key, guest.account);
    expect("POST", "/admin-api/groups/join", body, 200,
           "{\"data\":{\"groupId\":\"%s\",\"memberIdentity\":\"%s\",\"memberAccount\":\"%s\"}}",
           space, guest.key, guest.account);
    until_value("a", "1");
    set("b", "2");
    until("GET", at("/admin-api/contexts/%s", context), NULL,
          "\"syncStatus\":{\"state\":\"in sync\"", true);
    until("GET", group_path(space, "/members"), NULL, guest.account, true);
    refused("POST", group_path(space, "/members/remove"),
            at("{\"members\":[\"%s\"]}", founder.account), 403, "");
    use(&founder);
    until_value("b", "2");
    until("GET", group_path(space, "/members"), NULL, guest.account, true);
    fetch("GET", group_path(space, "/members?offset=1&limit=1"), NULL, "/members/0/identity",
          account);
    expect("GET", at("/admin-api/contexts/%s/identities-owned", context), NULL, 200,
           "{\"data\":{\"identities\":[\"%s\"]}}", founder.key);
    r = ask("GET", at("/admin-api/contexts/%s/identities", context), NULL);
    assert_non_null(strstr(r.body, guest.key));
    assert_non_null(strstr(r.body, founder.key));
    free(r.text);
    /* member-devices: an admin sees both */
    r = ask("GET", group_path(space, "/member-devices"), NULL);
    snprintf(want, sizeof want, "\"signingKey\":\"%s\"}]}", guest.key);
    if (!strstr(r.body, want)) fail_msg("no %s in %s", want, r.body);
    free(r.text);
    /* capabilities, auto-follow, role */
    expect("PUT", at("/admin-api/groups/%s/members/%s/capabilities", space, guest.account),
           "{\"capabilities\":7}", 200, "{}");
    expect("GET", at("/admin-api/groups/%s/members/%s/capabilities", space, guest.key), NULL, 200,
           "{\"data\":{\"capabilities\":7}}");
    refused("GET", at("/admin-api/groups/%s/members/%s/capabilities", space, "xyz"), NULL, 400,
            "Invalid account format");
    refused("PUT", at("/admin-api/groups/%s/members/%s/capabilities", space, guest.account),
            "{\"capabilities\":4294967296}", 400, "expected u32");
    expect("PUT", at("/admin-api/groups/%s/members/%s/auto-follow", space, guest.account),
           "{\"autoFollowContexts\":true,\"autoFollowSubgroups\":true}", 200, "{}");
    expect("PUT", at("/admin-api/groups/%s/members/%s/role", space, guest.account),
           "{\"role\":\"ReadOnly\"}", 200, "{}");
    refused("PUT", at("/admin-api/groups/%s/members/%s/role", space, guest.account),
            "{\"role\":\"King\"}", 400, "unknown variant `King`");
    refused("PUT", at("/admin-api/groups/%s/members/%s/role", space, guest.account),
            "{\"role\":\"ReadOnlyTee\"}", 400, "attestation");
    use(&guest);
    until("GET", group_path(space, "/members"), NULL, "\"role\":\"ReadOnly\"", true);
    call("set", "{\"key\":\"c\",\"value\":\"3\"}", body);
    call("get", "{\"key\":\"c\"}", body); /* a reader's call runs, and changes nothing */
    if (!strstr(body, "\"output\":null")) fail_msg("a reader wrote: %s", body);
    use(&founder);
    expect("POST", group_path(space, "/members"),
           at("{\"members\":[{\"identity\":\"%s\",\"role\":\"Member\"}]}", guest.key), 200, "{}");
    refused("POST", group_path(space, "/members"), "{\"members\":[]}", 400,
            "Field 'members' is required but was empty");
    refused("POST", group_path(space, "/members"),
            "{\"members\":[{\"identity\":\"0\",\"role\":\"Member\"}]}", 400, "Invalid identity");
    use(&guest);
    until("GET", group_path(space, "/members"), NULL, "\"role\":\"ReadOnly\"", false);
    set("d", "4");
    use(&founder);
    until_value("d", "4");
}

static void test_taking_part(void **state) {
    (void)state;
    use(&guest);
    refused("POST", at("/admin-api/contexts/%s/leave", guest.key), NULL, 404, "no such context");
    expect("POST", at("/admin-api/contexts/%s/leave", context), NULL, 200,
           "{\"data\":{\"contextId\":\"%s\",\"memberPublicKey\":\"%s\"}}", context, guest.key);
    until("GET", at("/admin-api/contexts/%s", context), NULL, "\"state\":\"not shared\"", true);
    use(&founder);
    set("while", "away");
    use(&guest);
    expect("POST", at("/admin-api/contexts/%s/join", context), NULL, 200,
           "{\"data\":{\"contextId\":\"%s\",\"memberPublicKey\":\"%s\"}}", context, guest.key);
    until_value("while", "away");
    expect("POST", "/admin-api/contexts/sync", NULL, 200, "{\"data\":null}");
    expect("POST", at("/admin-api/contexts/sync/%s", context), NULL, 200, "{\"data\":null}");
    cal_context_id id;
    char hex[SMALL];
    assert_int_equal(cal_id_parse(context, id.bytes), 0);
    cal_id_to_hex(id.bytes, hex);
    expect("POST", at("/admin-api/contexts/%s/resync", context), "{\"force\":true}", 200,
           "{\"contextId\":\"%s\",\"resyncStarted\":true}", hex);
    expect("POST", at("/admin-api/contexts/%s/resync", guest.key), "{}", 404,
           "{\"error\":\"Context not found\"}");
    refused("POST", "/admin-api/contexts",
            at("{\"applicationId\":\"%s\",\"groupId\":\"%s\",\"initializationParams\":[],"
               "\"identitySecret\":\"%064d\"}",
               app_id, space, 1),
            400, "identitySecret");
}

static void test_open_groups(void **state) {
    (void)state;
    char group[SMALL], closed[SMALL], member[SMALL];
    use(&founder);
    fetch("POST", at("/admin-api/namespaces/%s/groups", space),
          "{\"groupName\":\"open\",\"visibility\":\"open\"}", "/data/groupId", group);
    fetch("POST", at("/admin-api/namespaces/%s/groups", space), "{\"groupName\":\"closed\"}",
          "/data/groupId", closed);
    use(&guest);
    until("GET", at("/admin-api/namespaces/%s/groups", space), NULL, closed, true);
    until("GET", group_path(space, "/subgroups"), NULL, group, true);
    until("GET", group_path(space, "/subgroups"), NULL, closed, false);
    expect("POST", group_path(group, "/join-via-inheritance"), NULL, 200,
           "{\"data\":{\"groupId\":\"%s\",\"memberPublicKey\":\"%s\",\"wasInherited\":true}}",
           group, guest.key);
    refused("POST", group_path(closed, "/join-via-inheritance"), NULL, 403, "restricted");
    refused("POST", at("/admin-api/groups/%064d/join-via-inheritance", 8), NULL, 404, "not found");
    refused("POST", group_path(group, "/leave"), NULL, 400, "inherits");
    refused("POST", group_path(closed, "/leave"), NULL, 404, "not a member");
    use(&founder);
    snprintf(member, sizeof member, "{\"members\":[{\"identity\":\"%s\",\"role\":\"Admin\"}]}",
             guest.account);
    expect("POST", group_path(closed, "/members"), member, 200, "{}");
    use(&guest);
    until("GET", group_path(closed, "/members"), NULL, guest.account, true);
    until("GET", group_path(space, "/subgroups"), NULL, closed, true);
    expect("POST", group_path(closed, "/join-via-inheritance"), NULL, 200,
           "{\"data\":{\"groupId\":\"%s\",\"memberPublicKey\":\"%s\",\"wasInherited\":false}}",
           closed, guest.key);
    expect("POST", group_path(closed, "/leave"), NULL, 200,
           "{\"data\":{\"groupId\":\"%s\",\"memberPublicKey\":\"%s\"}}", closed, guest.key);
    use(&founder);
    until("GET", group_path(closed, "/members"), NULL, guest.account, false);
    refused("POST", group_path(space, "/leave"), NULL, 403, "owner");
    refused("POST", at("/admin-api/namespaces/%s/leave", closed), NULL, 404, "Namespace not found");
}

/* A device of the founder's account: a third key, which the guest's node offers. */
/* The other form of an id, which a row takes as well. */
static void to_base58(const char *hex, char ret_text[SMALL]) {
    uint8_t id[CAL_ID_SIZE];
    assert_int_equal(cal_id_parse(hex, id), 0);
    cal_id_to_base58(id, ret_text);
}

static void prove_revocation(const char *device, char ret_proof[ANSWER_MAX]) {
    reply r = ask("POST", "/admin-api/account/issue-revocation-proof",
                  at("{\"deviceId\":\"%s\"}", device));
    yyjson_doc *doc = yyjson_read(r.body, r.body_len, 0);
    const char *proof = yyjson_get_str(find(yyjson_doc_get_root(doc), "/data/proof"));
    assert_int_equal(r.status, 200);
    assert_true(proof && strlen(proof) > 256 && strlen(proof) < ANSWER_MAX);
    assert_int_equal(strspn(proof, "0123456789abcdef"), strlen(proof));
    snprintf(ret_proof, ANSWER_MAX, "%s", proof);
    yyjson_doc_free(doc);
    free(r.text);
}

/* What the account's node gives, and nobody else's. */
static void revoke_with_proof(const char *where, const char *device) {
    static char proof[ANSWER_MAX], body[ANSWER_MAX + SMALL];
    use(&guest);
    prove_revocation(device, proof);
    use(&founder);
    snprintf(body, sizeof body, "{\"deviceId\":\"%s\",\"proof\":\"%s\"}", device, proof);
    refused("POST", at("/admin-api/namespaces/%s/account/revoke", where), body, 400, "");
    refused("POST", "/admin-api/account/issue-revocation-proof", "{}", 400, "deviceId");
    prove_revocation(device, proof);
    snprintf(body, sizeof body, "{\"deviceId\":\"%s\",\"proof\":\"%s\"}", device, proof);
    expect(
        "POST", at("/admin-api/namespaces/%s/account/revoke", where), body, 200,
        "{\"data\":{\"accountId\":\"%s\",\"deviceId\":\"%s\",\"keyRotated\":true,\"revokedIn\":[{"
        "\"namespaceId\":\"%s\",\"keyRotated\":true}]}}",
        founder.account, device, where);
}

static void test_devices(void **state) {
    (void)state;
    char device[SMALL], kem[SMALL], sign[SMALL], statement[SMALL], code[SMALL], own[SMALL],
        other[SMALL], body[2048];
    const char *const pair = at("/admin-api/namespaces/%s/account/pair-init", space);
    use(&guest);
    refused("POST", pair, "{\"accountRootPublicKey\":\"12\"}", 400, "64 hex chars");
    refused("POST", pair, at("{\"accountRootKey\":\"%s\"}", guest.root_key), 400, "its own");
    to_base58(founder.root_key, other);
    snprintf(body, sizeof body, "{\"accountRootPublicKey\":\"%s\"}", other);
    reply r = ask("POST", pair, body);
    assert_int_equal(r.status, 200);
    yyjson_doc *doc = yyjson_read(r.body, r.body_len, 0);
    yyjson_val *root = yyjson_doc_get_root(doc);
    assert_string_equal(yyjson_get_str(find(root, "/data/accountId")), founder.account);
    snprintf(device, SMALL, "%s", yyjson_get_str(find(root, "/data/deviceId")));
    snprintf(kem, SMALL, "%s", yyjson_get_str(find(root, "/data/kemPublicKey")));
    snprintf(sign, SMALL, "%s", yyjson_get_str(find(root, "/data/signPublicKey")));
    snprintf(statement, SMALL, "%s", yyjson_get_str(find(root, "/data/statement")));
    snprintf(code, SMALL, "%s", yyjson_get_str(find(root, "/data/confirmationCode")));
    assert_int_equal(strlen(statement), 128);
    assert_int_equal(strlen(code), 19);
    yyjson_doc_free(doc);
    free(r.text);
    /* The guest speaks for itself in the namespace already. */
    use(&founder);
    snprintf(body, sizeof body,
             "{\"deviceId\":\"%s\",\"kemPublicKey\":\"%s\",\"signPublicKey\":\"%s\",\"statement\":"
             "\"%s\",\"confirmationCode\":\"%s\"}",
             device, kem, sign, statement, code);
    refused("POST", at("/admin-api/namespaces/%s/account/pair-complete", space), body, 409,
            "another account");
    char elsewhere[SMALL], app_key[SMALL], device58[SMALL], kem58[SMALL];
    fetch("GET", at("/admin-api/namespaces/%s", space), NULL, "/data/appKey", app_key);
    to_base58(app_key, other);
    fetch("POST", "/admin-api/namespaces",
          at("{\"applicationId\":\"%s\",\"appKey\":\"%s\"}", app_id, other), "/data/namespaceId",
          elsewhere);
    to_base58(device, device58);
    to_base58(kem, kem58);
    to_base58(sign, other);
    snprintf(body, sizeof body,
             "{\"deviceId\":\"%s\",\"kemPublicKey\":\"%s\",\"signPublicKey\":\"%s\",\"statement\":"
             "\"%s\",\"confirmationCode\":\"%s\"}",
             device58, kem58, other, statement, code);
    expect("POST", at("/admin-api/namespaces/%s/account/pair-complete", elsewhere), body, 200,
           "{\"data\":{\"accountId\":\"%s\",\"deviceId\":\"%s\",\"keyDelivered\":true,"
           "\"confirmationCode\":\"%s\"}}",
           founder.account, device, code);
    snprintf(body, sizeof body,
             "{\"deviceId\":\"%s\",\"kemPublicKey\":\"%s\",\"signPublicKey\":\"%s\",\"statement\":"
             "\"%s\",\"confirmationCode\":\"0000-0000-0000-0000\"}",
             device, kem, sign, statement);
    refused("POST", at("/admin-api/namespaces/%s/account/pair-complete", elsewhere), body, 400,
            "confirmation code");
    const char *const revoke = at("/admin-api/namespaces/%s/account/revoke", elsewhere);
    refused("POST", revoke, at("{\"deviceId\":\"%064d\"}", 3), 404, "");
    refused("POST", revoke, at("{\"deviceId\":\"%s\",\"proof\":\"ab\"}", device), 400, "proof");
    revoke_with_proof(elsewhere, device);
    fetch("GET", "/admin-api/identity", NULL, "/data/deviceId", own);
    assert_string_not_equal(own, device);
}

static long metric(const char *name) {
    reply r = ask("GET", "/metrics", NULL);
    const char *at_name = strstr(r.body, name);
    assert_non_null(at_name);
    long value = strtol(at_name + strlen(name), NULL, 10);
    free(r.text);
    return value;
}

typedef struct seen {
    int added, joined, removed, roles;
} seen;

static void note_member(void *user, const cal_member_event *event) {
    seen *s = user;
    s->added += event->type == CAL_MEMBER_ADDED;
    s->joined += event->type == CAL_MEMBER_JOINED;
    s->removed += event->type == CAL_MEMBER_REMOVED;
    s->roles += event->type == CAL_MEMBER_ROLE_CHANGED;
}

static void invite_guest(char *ret_body) {
    char code[ANSWER_MAX * 4];
    use(&founder);
    reply r = ask("POST", at("/admin-api/namespaces/%s/invite", space), "{\"code\":true}");
    assert_int_equal(sscanf(strstr(r.body, "\"code\":\""), "\"code\":\"%[a-z0-9]", code), 1);
    free(r.text);
    sprintf(ret_body, "{\"invitation\":\"%s\"}", code);
}

/* Who leaves is told of, an admin pays the key that is due by itself, and a new invitation brings
 * it back. */
static void test_leaving(void **state) {
    (void)state;
    static const char published[] = "\nsync_ops_published_total ";
    static char body[ANSWER_MAX * 5];
    const struct timespec step = {.tv_nsec = STEP_MS * 1000000};
    cal_group_id group;
    seen s = {0};
    assert_int_equal(cal_id_parse(space, group.bytes), 0);
    use(&founder);
    long before = metric(published);
    static char pushed[65536], streamed[65536];
    char want[ANSWER_MAX], session[SMALL];
    int stream = open_sse(NULL, streamed, sizeof streamed, session);
    snprintf(body, sizeof body,
             "{\"id\":\"%s\",\"method\":\"subscribe\",\"params\":{\"contextIds\":[\"%s\"],"
             "\"groupIds\":[\"%s\"]}}",
             session, context, space);
    expect("POST", "/sse/subscription", body, 200,
           "{\"result\":{\"status\":\"subscribed\",\"contexts\":[\"%s\"],\"groups\":[\"%s\"]}}",
           context, space);
    int fd = open_ws(pushed, sizeof pushed);
    send_frame(fd, at("{\"id\":1,\"method\":\"subscribe\",\"params\":{\"contextIds\":[\"%s\"],"
                      "\"groupIds\":[\"%s\"]}}",
                      context, space));
    read_until(fd, pushed, sizeof pushed, "\"groupIds\":[\"");
    cal_member_watch *watch = cal_member_watch_start(founder.node, &group, note_member, &s);
    use(&guest);
    expect("POST", at("/admin-api/namespaces/%s/leave", space), NULL, 200,
           "{\"data\":{\"namespaceId\":\"%s\",\"memberPublicKey\":\"%s\"}}", space, guest.key);
    use(&founder);
    until("GET", group_path(space, "/members"), NULL, guest.account, false);
    snprintf(want, sizeof want,
             "{\"id\":null,\"result\":{\"groupId\":\"%s\",\"type\":\"MemberRemoved\",\"data\":{"
             "\"memberAccount\":\"%s\"}}}",
             space, guest.account);
    read_until(fd, pushed, sizeof pushed, want);
    /* The same as an event stream has it: numbered, without the id of a request. */
    read_until(stream, streamed, sizeof streamed, at("event: message\nid: %s-", session));
    read_until(stream, streamed, sizeof streamed,
               at("data: {\"result\":%s", strstr(want, "{\"groupId")));
    for (int waited = 0; metric(published) == before; waited += STEP_MS) {
        if (waited > WAIT_MS) fail_msg("nobody made the next key");
        nanosleep(&step, NULL);
    }
    set("left", "6");
    invite_guest(body);
    use(&guest);
    status_of("POST", at("/admin-api/namespaces/%s/join", space), body, 200);
    until_value("left", "6");
    use(&founder);
    until("GET", group_path(space, "/members"), NULL, guest.account, true);
    /* Told before the roles change: a tick tells a joiner with the role it has by then. */
    snprintf(want, sizeof want,
             "{\"groupId\":\"%s\",\"type\":\"MemberJoined\",\"data\":{\"memberAccount\":\"%s\","
             "\"role\":\"Member\"}}}",
             space, guest.account);
    read_until(fd, pushed, sizeof pushed, want);
    read_until(stream, streamed, sizeof streamed, at("data: {\"result\":%s", want));
    expect("PUT", at("/admin-api/groups/%s/members/%s/role", space, guest.account),
           "{\"role\":\"Admin\"}", 200, "{}");
    expect("PUT", at("/admin-api/groups/%s/members/%s/role", space, guest.account),
           "{\"role\":\"Member\"}", 200, "{}");
    for (int waited = 0; waited < 600; waited += STEP_MS) nanosleep(&step, NULL);
    cal_member_watch_stop(founder.node, watch);
    read_until(fd, pushed, sizeof pushed,
               "\"type\":\"SyncStatus\",\"data\":{\"syncState\":{\"state\":\"");
    read_until(fd, pushed, sizeof pushed, "\"failureCount\":0");
    read_until(stream, streamed, sizeof streamed,
               at("data: {\"result\":{\"contextId\":\"%s\",\"type\":\"SyncStatus\",\"data\":{"
                  "\"syncState\":{\"state\":\"",
                  context));
    close(stream);
    close(fd);
    assert_int_equal(s.joined, 1);
    assert_int_equal(s.added, 0);
    assert_int_equal(s.removed, 1);
}

typedef struct ask_loop {
    cal_group_id group;
    cal_account_id account;
    int transferred, named, rotated;
} ask_loop;

static void on_transferred(void *user, const cal_error *err) {
    ((ask_loop *)user)->transferred = err ? err->code : 1;
}
static void on_named(void *user, const cal_error *err) {
    ((ask_loop *)user)->named = err ? err->code : 1;
}
static void on_rotated(void *user, const cal_error *err, size_t rotated) {
    ((ask_loop *)user)->rotated = err ? err->code : (int)rotated + 1;
}
static void ask_transfer(void *arg) {
    ask_loop *a = arg;
    cal_group_transfer(founder.node, &a->group, &a->account, on_transferred, a);
    if (!a->named) cal_namespace_set_admin(founder.node, &a->group, &a->account, on_named, a);
    cal_namespace_rotate(founder.node, &a->group, on_rotated, a);
}

/* Ownership is handed over; and what has no row: the named admin, rotation by hand. */
static void test_ownership(void **state) {
    (void)state;
    char group[SMALL], body[SMALL];
    ask_loop a = {0};
    use(&founder);
    fetch("POST", at("/admin-api/namespaces/%s/groups", space), "{\"groupName\":\"handed over\"}",
          "/data/groupId", group);
    snprintf(body, sizeof body, "{\"members\":[{\"identity\":\"%s\",\"role\":\"Admin\"}]}",
             guest.account);
    expect("POST", group_path(group, "/members"), body, 200, "{}");
    assert_int_equal(cal_id_parse(group, a.group.bytes), 0);
    assert_int_equal(cal_id_parse(guest.account, a.account.bytes), 0);
    refused("PUT", group_path(group, "/owner"), "{}", 400, "newOwner");
    refused("PUT", group_path(group, "/owner"), "{\"newOwner\":\"nobody\"}", 400, "64-hex");
    refused("PUT", group_path(group, "/owner"), at("{\"newOwner\":\"%064d\"}", 3), 403, "admin");
    until("GET", group_path(group, "/members"), NULL, guest.account, true);
    expect("PUT", group_path(group, "/owner"), at("{\"newOwner\":\"%s\"}", guest.key), 200, "{}");
    refused("PUT", group_path(group, "/owner"), at("{\"newOwner\":\"%s\"}", founder.account), 403,
            "owner");
    snprintf(body, sizeof body, "\"ownerAccount\":\"%s\",\"adminAccount\":\"%s\"", guest.account,
             guest.account);
    until("GET", group_path(group, ""), NULL, body, true);
    use(&guest);
    until("GET", group_path(group, ""), NULL, body, true);
    snprintf(body, sizeof body, "{\"newOwner\":\"%s\"}", founder.account);
    expect("PUT", group_path(group, "/owner"), body, 200, "{}"); /* and back */
    use(&founder);
    snprintf(body, sizeof body, "\"ownerAccount\":\"%s\"", founder.account);
    until("GET", group_path(group, ""), NULL, body, true);
    cal_node_run(founder.node, ask_transfer, &a);
    until("GET", group_path(group, ""), NULL, body, false);
    assert_int_equal(a.transferred, 1);
    assert_int_equal(a.named, CAL_ENOTFOUND); /* a group is no namespace */
    assert_int_equal(a.rotated, CAL_ENOTFOUND);
    assert_int_equal(cal_id_parse(space, a.group.bytes), 0);
    cal_node_run(founder.node, ask_transfer, &a);
    use(&founder);
    status_of("GET", group_path(space, ""), NULL, 200);
    for (int waited = 0; a.rotated < 0 && waited < WAIT_MS; waited += STEP_MS)
        nanosleep(&(struct timespec){.tv_nsec = STEP_MS * 1000000}, NULL);
    assert_int_equal(a.transferred, CAL_EDENIED); /* the guest is no admin of the namespace */
    assert_int_equal(a.rotated, 1);               /* nothing is owed */
}

static void test_removal(void **state) {
    (void)state;
    char body[ANSWER_MAX];
    const struct timespec moment = {.tv_sec = 1};
    use(&founder);
    refused("POST", group_path(space, "/members/remove"),
            at("{\"members\":[\"%s\"]}", founder.account), 400, "its own account");
    expect("POST", group_path(space, "/members/remove"),
           at("{\"members\":[\"%s\"]}", guest.account), 200, "{}");
    refused("POST", group_path(space, "/members/remove"),
            at("{\"members\":[\"%s\"]}", guest.account), 404, "");
    set("secret", "5");
    use(&guest);
    until("GET", group_path(space, "/members"), NULL, guest.account, false);
    nanosleep(&moment, NULL);
    call("get", "{\"key\":\"secret\"}", body);
    assert_null(strstr(body, "\"output\":\"5\""));
    use(&founder);
    expect("POST", at("/admin-api/groups/%s/contexts/%s/remove", space, context), "{}", 200, "{}");
    refused("POST", at("/admin-api/groups/%s/contexts/%s/remove", space, context), "{}", 404,
            "not in this group");
    use(&guest); /* what is left of it there can go */
    expect("DELETE", at("/admin-api/namespaces/%s", space), "{}", 200,
           "{\"data\":{\"isDeleted\":true}}");
    refused("GET", group_path(space, "/members"), NULL, 404, "");
}

int main(int argc, char **argv) {
    if (argc != 2) return fprintf(stderr, "usage: share_api_test KV_STORE.wasm\n"), 2;
    app_path = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_group_rows),  cmocka_unit_test(test_metadata_rows),
        cmocka_unit_test(test_proof_rows),  cmocka_unit_test(test_invitation_refusals),
        cmocka_unit_test(test_story),       cmocka_unit_test(test_taking_part),
        cmocka_unit_test(test_open_groups), cmocka_unit_test(test_devices),
        cmocka_unit_test(test_leaving),     cmocka_unit_test(test_ownership),
        cmocka_unit_test(test_removal),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
