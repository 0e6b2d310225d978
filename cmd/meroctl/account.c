/* meroctl account: who this node is, and several devices of one account; ownership proofs.
 * Protocol: http-api.md 5.3 to 5.5, 13. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "mero.h"

enum { CODE_LINE_MAX = 64, PROOF_SECONDS_MAX = 300, PROOF_SECONDS = 240 };

static int show_run(cli *line) { return mero_run(line, "GET", NULL, "/admin-api/identity"); }

/* --- pairing --- */

/* The other side's command, ready to copy; without the code, which only protects when it travels
 * another way. */
static void print_pairing(yyjson_val *data, const char *namespace_id) {
    mero_print_human(data, stdout);
    printf("\nOn the node that has the account:\n"
           "  meroctl account pair-complete %s --device-id %s --kem-key %s --sign-key %s "
           "--statement %s\n\n"
           "It asks for the confirmation code. Read it out to whoever sits there; do not send it "
           "along with the command:\n  %s\n",
           namespace_id, mero_text(data, "deviceId"), mero_text(data, "kemPublicKey"),
           mero_text(data, "signPublicKey"), mero_text(data, "statement"),
           mero_text(data, "confirmationCode"));
}

static int pair_init_run(cli *line) {
    const char *root_key = cli_get(line, "root-key");
    char id[CAL_ID_TEXT_MAX];
    if (!root_key)
        return cli_usage(line, "--root-key is missing: the accountRootPublicKey that `meroctl "
                               "account show` says on the node that has the account");
    mero m;
    yyjson_doc *doc = NULL;
    int code = mero_open(&m, line);
    if (code) return code;
    yyjson_mut_doc *body = mero_body();
    mero_set(body, "accountRootPublicKey", root_key);
    code = mero_group(&m, cli_operand(line, 0), id);
    if (code)
        yyjson_mut_doc_free(body);
    else
        code = mero_ask(&m, "POST", body, &doc, "/admin-api/namespaces/%s/account/pair-init", id);
    if (code == 0 && m.json) mero_print(&m, yyjson_doc_get_root(doc));
    if (code == 0 && !m.json) print_pairing(mero_data(doc), id);
    yyjson_doc_free(doc);
    mero_close(&m);
    return code;
}

static int pair_complete_run(cli *line) {
    static const char *const fields[][2] = {{"device-id", "deviceId"},
                                            {"kem-key", "kemPublicKey"},
                                            {"sign-key", "signPublicKey"},
                                            {"statement", "statement"}};
    char typed[CODE_LINE_MAX] = "";
    const char *code = cli_get(line, "confirmation-code");
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (!cli_get(line, fields[i][0]))
            return cli_usage(line,
                             "--%s is missing: `meroctl account pair-init` says it on the "
                             "new device",
                             fields[i][0]);
    if (!code && isatty(STDIN_FILENO)) {
        fputs("Confirmation code, as the other side reads it out: ", stderr);
        if (fgets(typed, sizeof typed, stdin)) typed[strcspn(typed, "\r\n")] = 0;
        code = typed[0] ? typed : NULL;
    }
    if (!code)
        return cli_usage(line, "--confirmation-code is missing: have it read out by whoever is at "
                               "the new device");
    yyjson_mut_doc *body = mero_body();
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        mero_set(body, fields[i][1], cli_get(line, fields[i][0]));
    mero_set(body, "confirmationCode", code);
    return mero_about_group(line, "POST", body, "/admin-api/namespaces/%s/account/pair-complete");
}

/* --- revoking --- */

static void print_revoked(yyjson_val *data) {
    yyjson_val *list = yyjson_obj_get(data, "revokedIn"), *item;
    size_t i, n;
    printf("device %s of account %s is revoked for good\n", mero_text(data, "deviceId"),
           mero_text(data, "accountId"));
    yyjson_arr_foreach(list, i, n, item) {
        bool rotated = yyjson_get_bool(yyjson_obj_get(item, "keyRotated"));
        printf("  in %s: it cannot write any more, %s\n", mero_text(item, "namespaceId"),
               rotated ? "nor read what is written from now on"
                       : "but reads until an admin's node makes the next key");
    }
}

static int revoke_run(cli *line) {
    const char *device = cli_get(line, "device-id"), *source = cli_get(line, "proof");
    if (!device)
        return cli_usage(line, "--device-id is missing: `meroctl group members devices NAMESPACE` "
                               "lists them");
    mero m;
    char id[CAL_ID_TEXT_MAX], *proof = NULL;
    yyjson_doc *doc = NULL;
    int code = mero_open(&m, line);
    if (code) return code;
    code = mero_group(&m, cli_operand(line, 0), id);
    if (code == 0 && source) code = mero_read_text(&m, source, &proof);
    if (code == 0) {
        yyjson_mut_doc *body = mero_body();
        mero_set(body, "deviceId", device);
        mero_set(body, "proof", proof);
        code = mero_ask(&m, "POST", body, &doc, "/admin-api/namespaces/%s/account/revoke", id);
    }
    if (code == 0 && m.json) mero_print(&m, yyjson_doc_get_root(doc));
    if (code == 0 && !m.json) print_revoked(mero_data(doc));
    free(proof);
    yyjson_doc_free(doc);
    mero_close(&m);
    return code;
}

/* The proof alone, so that it can be sent into a file, or handed to --proof. */
static int prove_revocation_run(cli *line) {
    const char *device = cli_get(line, "device-id");
    if (!device)
        return cli_usage(line, "--device-id is missing: `meroctl group members devices NAMESPACE` "
                               "lists them");
    mero m;
    yyjson_doc *doc = NULL;
    int code = mero_open(&m, line);
    if (code) return code;
    yyjson_mut_doc *body = mero_body();
    mero_set(body, "deviceId", device);
    code = mero_ask(&m, "POST", body, &doc, "/admin-api/account/issue-revocation-proof");
    if (code == 0 && m.json) mero_print(&m, yyjson_doc_get_root(doc));
    if (code == 0 && !m.json) puts(mero_text(mero_data(doc), "proof"));
    if (code == 0 && !m.json && isatty(STDOUT_FILENO))
        fputs("On a node of the namespace, also one of another account: meroctl account revoke "
              "NAMESPACE --device-id ID --proof PROOF\n",
              stderr);
    yyjson_doc_free(doc);
    mero_close(&m);
    return code;
}

/* --- ownership proofs --- */

int mero_prove_run(cli *line) {
    static const char *const required[] = {"audience", "subject", "nonce"};
    unsigned long long seconds;
    const char *context = cli_get(line, "context");
    for (size_t i = 0; i < sizeof required / sizeof *required; i++)
        if (!cli_get(line, required[i]))
            return cli_usage(line, "--%s is missing: whoever asks for the proof says it",
                             required[i]);
    if (!cli_number(line, "valid", 1, PROOF_SECONDS_MAX, PROOF_SECONDS, &seconds)) return CLI_USAGE;
    mero m;
    char group[CAL_ID_TEXT_MAX], id[CAL_ID_TEXT_MAX];
    yyjson_doc *doc = NULL;
    int code = mero_open(&m, line);
    if (code) return code;
    code = mero_group(&m, cli_operand(line, 0), group);
    if (code == 0 && context) code = mero_context(&m, context, id);
    if (code == 0) {
        yyjson_mut_doc *body = mero_body();
        for (size_t i = 0; i < sizeof required / sizeof *required; i++)
            mero_set(body, required[i], cli_get(line, required[i]));
        if (context) mero_set(body, "contextId", id);
        yyjson_mut_obj_add_uint(body, yyjson_mut_doc_get_root(body), "expiresAtMs",
                                ((uint64_t)time(NULL) + seconds) * 1000);
        code = mero_ask(&m, "POST", body, &doc,
                        context ? "/admin-api/groups/%s/issue-ownership-proof"
                                : "/admin-api/groups/%s/issue-namespace-ownership-proof",
                        group);
    }
    if (code == 0) mero_print(&m, yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
    mero_close(&m);
    return code;
}

/* --- the table --- */

const cli_option mero_prove_options[] = {
    {"audience", 0, "TEXT", "Who is to believe it"},
    {"subject", 0, "TEXT", "What it is about"},
    {"nonce", 0, "HEX", "32 to 128 hex digits that the audience made up for this"},
    {"context", 'c', "CONTEXT", "About this context (default: about the namespace)"},
    {"valid", 0, "SECONDS", "From now, at most 300 (default: 240)"},
    {0}};
static const cli_option init_options[] = {
    {"root-key", 0, "HEX", "The account's root key: accountRootPublicKey of `account show` there"},
    {0}};
static const cli_option complete_options[] = {
    {"device-id", 0, "HEX", "As pair-init says it"},
    {"kem-key", 0, "HEX", "As pair-init says it"},
    {"sign-key", 0, "HEX", "As pair-init says it"},
    {"statement", 0, "HEX", "As pair-init says it"},
    {"confirmation-code", 0, "CODE", "As the other side reads it out (default: asks for it)"},
    {0}};
static const cli_option revoke_options[] = {
    {"device-id", 0, "HEX", "The device; see `meroctl group members devices`"},
    {"proof", 0, "HEX",
     "What `account prove-revocation` printed on the node with the account's root key, or @PATH of "
     "a file"},
    {0}};
static const cli_option prove_revocation_options[] = {
    {"device-id", 0, "HEX", "The device; see `meroctl group members devices`"}, {0}};

const cli_command mero_account_commands[] = {
    {"show", NULL, NULL, "This node's account, device and signing key", NULL, NULL, NULL, show_run},
    {"pair-init", NULL, "NAMESPACE", "On a new device: offer to act for an account",
     "A new device may not know the namespace by name yet: `meroctl namespace list` on the "
     "account's node says its id.\n\nExample:\n"
     "  meroctl account pair-init NAMESPACE_ID --root-key HEX",
     init_options, NULL, pair_init_run},
    {"pair-complete", NULL, "NAMESPACE", "On the account's node: accept the new device", NULL,
     complete_options, NULL, pair_complete_run},
    {"revoke", NULL, "NAMESPACE", "Take a device out of its account, for good",
     "Example:\n  meroctl account revoke friends --device-id HEX", revoke_options, NULL,
     revoke_run},
    {"prove-revocation", NULL, NULL,
     "On the account's node: the proof with which others may revoke a device of it",
     "The proof is good for as long as the account is: hand it on only to have the device revoked."
     "\n\nExample:\n  meroctl account prove-revocation --device-id HEX > proof",
     prove_revocation_options, NULL, prove_revocation_run},
    {0}};
