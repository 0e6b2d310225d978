/* JSON-RPC at its bounds, over a node of the test's own: what is refused before the node hears of
 * it, and what reaches it at exactly the greatest size. */
#include "golden.h"

#include "api/live.h"
#include "api/rpc.h"
#include "base/limits.h"
#include "calimero/share.h"

enum { METHOD_MAX = 256, EPHEMERAL_MAX = 16384, FIRST = 32, DELETED = 127 };

/* --- the node --- */

static int executions;
static size_t args_len, state_len;
static char method_seen[512];
static cal_call_result answer;

void cal_execute(cal_node *node, const cal_context_id *context, const char *method,
                 const void *args, size_t len, cal_call_done done, void *user) {
    (void)node, (void)context, (void)args;
    executions++;
    args_len = len;
    snprintf(method_seen, sizeof method_seen, "%s", method);
    done(user, &answer);
}

int cal_context_get(cal_node *node, const cal_context_id *id,
                    void (*visit)(void *user, const cal_context_info *info), void *user) {
    (void)node, (void)id, (void)visit, (void)user;
    return CAL_ENOTFOUND;
}

int cal_context_identities(cal_node *node, const cal_context_id *id, bool owned,
                           void (*visit)(void *user, const cal_public_key *key), void *user) {
    (void)node, (void)id;
    static const cal_public_key key = {{7}};
    assert_true(owned);
    visit(user, &key);
    return 0;
}

int cal_context_sync_status(cal_node *node, const cal_context_id *context,
                            cal_sync_status *ret_status) {
    (void)node, (void)context, (void)ret_status;
    return CAL_ENOTFOUND;
}

void cal_node_identity_get(cal_node *node, cal_node_identity *ret_identity) {
    (void)node;
    memset(ret_identity, 0, sizeof *ret_identity);
}

int live_set_presence(live_hub *hub, const cal_context_id *context, const cal_public_key *author,
                      cal_slice state) {
    (void)hub, (void)context, (void)author;
    state_len = state.len;
    return 0;
}

/* --- asking --- */

static char reply[4096];

static void keep_reply(void *user, cal_slice body) {
    ++*(int *)user;
    snprintf(reply, sizeof reply, "%.*s", (int)body.len, (const char *)body.data);
}

typedef void (*rpc_fn)(api_state *state, yyjson_val *params, rpc_done done, void *user);

/* One request; its answer is in `reply`. */
static void ask(rpc_fn fn, bool read_only, const char *params) {
    api_state state = {.read_only = read_only};
    int answers = 0;
    yyjson_doc *doc = rpc_read(cal_slice_text(params));
    assert_non_null(doc);
    fn(&state, yyjson_doc_get_root(doc), keep_reply, &answers);
    yyjson_doc_free(doc);
    assert_int_equal(answers, 1);
    assert_int_equal(state.calls, 0);
}

static bool said(const char *words) { return strstr(reply, words) != NULL; }

#define CONTEXT "\"contextId\":\"11111111111111111111111111111111\""

static void execute(const char *method, const char *args) {
    char *params = malloc(strlen(method) + strlen(args) + 200);
    assert_non_null(params);
    sprintf(params, "{" CONTEXT ",\"method\":\"%s\",\"argsJson\":%s}", method, args);
    executions = 0;
    ask(rpc_execute, false, params);
    free(params);
}

/* --- execute --- */

static void test_method_names(void **state) {
    (void)state;
    char name[METHOD_MAX + 2] = "";
    answer = (cal_call_result){.status = CAL_CALL_OK};
    execute("", "{}");
    assert_true(said("required but was empty") && executions == 0);
    for (size_t len = METHOD_MAX; len <= METHOD_MAX + 1; len++) {
        memset(name, 'm', len);
        execute(name, "{}");
        assert_int_equal(executions, len == METHOD_MAX);
        assert_int_equal(said("exceeds maximum length of 256 characters (got 257)"),
                         len > METHOD_MAX);
        if (executions) assert_string_equal(method_seen, name);
    }
    for (unsigned c = 1; c <= DELETED; c++) {
        snprintf(name, sizeof name, "a\\u%04xb", c);
        execute(name, "{}");
        bool control = c < FIRST || c == DELETED;
        assert_int_equal(executions, !control);
        assert_int_equal(said("contains control character"), control);
    }
}

/* What counts is the text as it goes to the guest, without blanks between. */
static void test_arguments(void **state) {
    (void)state;
    char *args = malloc(CAL_CALL_ARGS_MAX + 8);
    assert_non_null(args);
    answer = (cal_call_result){.status = CAL_CALL_OK};
    for (size_t extra = 0; extra < 2; extra++) {
        size_t len = CAL_CALL_ARGS_MAX + extra;
        memset(args, 'x', len);
        args[0] = args[len - 1] = '"';
        args[len] = 0;
        execute("m", args);
        assert_int_equal(executions, !extra);
        assert_int_equal(said("exceeds maximum size of 10485760 bytes (got 10485761)"), extra);
        if (executions) assert_int_equal(args_len, CAL_CALL_ARGS_MAX);
    }
    free(args);
    execute("m", "[ 1,  2.50, 123456789012345678901234567890 ]");
    assert_int_equal(args_len, strlen("[1,2.50,123456789012345678901234567890]"));
}

static void test_refused_unheard(void **state) {
    (void)state;
    static const char *const params[] = {"null",
                                         "{}",
                                         "{" CONTEXT "}",
                                         "{" CONTEXT ",\"method\":\"m\"}",
                                         "{" CONTEXT ",\"method\":1,\"argsJson\":{}}",
                                         "{\"contextId\":1}",
                                         "{\"contextId\":\"0\",\"method\":\"m\",\"argsJson\":{}}"};
    for (size_t i = 0; i < sizeof params / sizeof *params; i++) {
        executions = 0;
        ask(rpc_execute, false, params[i]);
        assert_true(said("ParseError") && executions == 0);
    }
    executions = 0;
    ask(rpc_execute, true, "{" CONTEXT ",\"method\":\"m\",\"argsJson\":{}}");
    assert_true(said("read-only") && executions == 0);
}

static void test_answers(void **state) {
    (void)state;
    static const struct {
        cal_call_status status;
        const char *output, *words;
    } cases[] = {
        {CAL_CALL_OK, NULL, "\"result\":{\"output\":null}"},
        {CAL_CALL_OK, "[1]", "\"result\":{\"output\":[1]}"},
        {CAL_CALL_OK, "[1", "\"type\":\"SerdeError\""},
        {CAL_CALL_FAILED, "[1]", "\"type\":\"FunctionCallError\",\"data\":\"why\""},
        {CAL_CALL_NOT_FOUND, NULL, "No owned identity found for this context"},
        {CAL_CALL_UNINITIALIZED, NULL, "\"type\":\"Uninitialized\""},
        {CAL_CALL_UNAUTHORIZED, NULL, "\"type\":\"Unauthorized\""},
        {CAL_CALL_NOT_INSTALLED, NULL, "\"type\":\"ApplicationNotInstalled\""},
        {CAL_CALL_INTERNAL, NULL, "\"type\":\"InternalError\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *output = cases[i].output;
        answer = (cal_call_result){.status = cases[i].status,
                                   .message = "why",
                                   .output = (const uint8_t *)output,
                                   .output_len = output ? strlen(output) : 0};
        execute("m", "{}");
        if (!said(cases[i].words)) fail_msg("%s: %s", cases[i].words, reply);
    }
}

/* --- the rest --- */

static void test_ephemeral_state(void **state) {
    (void)state;
    for (size_t extra = 0; extra < 2; extra++) {
        cal_buffer params;
        cal_buffer_init(&params, 1 << 20);
        cal_buffer_append_text(&params, "{" CONTEXT ",\"state\":[");
        for (size_t i = 0; i < EPHEMERAL_MAX + extra; i++)
            cal_buffer_append_text(&params, i ? ",255" : "0");
        cal_buffer_append_text(&params, "]}");
        state_len = 0;
        ask(rpc_set_ephemeral, false, cal_buffer_cstr(&params));
        assert_int_equal(state_len, extra ? 0 : EPHEMERAL_MAX);
        assert_int_equal(said("\"type\":\"SliceTooLarge\",\"data\":{\"size\":16385,\"max\":16384}"),
                         extra);
        cal_buffer_deinit(&params);
    }
    static const char *const bad[] = {"[256]", "[-1]", "[1.5]", "[\"1\"]", "\"1\"", "[1,null]"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char params[128];
        snprintf(params, sizeof params, "{" CONTEXT ",\"state\":%s}", bad[i]);
        ask(rpc_set_ephemeral, false, params);
        assert_true(said("ParseError"));
    }
}

static void test_numbers(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool good;
        uint64_t value;
    } cases[] = {
        {"0", true, 0},
        {"18446744073709551615", true, UINT64_MAX},
        {"18446744073709551616", false, 0},
        {"-0", false, 0},
        {"-1", false, 0},
        {"1.0", false, 0},
        {"1e3", false, 0},
        {"\"1\"", false, 0},
        {"null", false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t value = 5;
        yyjson_doc *doc = rpc_read(cal_slice_text(cases[i].text));
        assert_non_null(doc);
        assert_int_equal(rpc_u64(yyjson_doc_get_root(doc), &value), cases[i].good);
        if (cases[i].good) assert_true(value == cases[i].value);
        yyjson_doc_free(doc);
    }
}

static void test_lists_of_ids(void **state) {
    (void)state;
    enum { MAX = 3 };
    static const char one[] = "\"11111111111111111111111111111111\"";
    for (size_t count = MAX - 1; count <= MAX + 1; count++) {
        uint8_t ids[MAX + 1][32];
        char text[512] = "{\"ids\":[", reason[RPC_REASON_MAX] = "";
        size_t kept = 9;
        memset(ids, 0xee, sizeof ids);
        for (size_t i = 0; i < count; i++) {
            if (i) strcat(text, ",");
            strcat(text, one);
        }
        strcat(text, "]}");
        yyjson_doc *doc = rpc_read(cal_slice_text(text));
        assert_true(rpc_ids(yyjson_doc_get_root(doc), "ids", ids, MAX, &kept, reason));
        assert_int_equal(kept, count < MAX ? count : MAX);
        assert_int_equal(ids[MAX][0], 0xee); /* nothing is written past the end */
        yyjson_doc_free(doc);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_method_names),    cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_refused_unheard), cmocka_unit_test(test_answers),
        cmocka_unit_test(test_ephemeral_state), cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_lists_of_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
