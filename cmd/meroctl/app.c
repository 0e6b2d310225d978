/* meroctl app: applications on the node, and making bundles here. Protocol: http-api.md 5.1, 13. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "calimero/bundle.h"
#include "mero.h"

enum { SERVICES_MAX = 64 };

/* --- install --- */

int mero_app_install_file(mero *m, const char *path, char ret_id[CAL_ID_TEXT_MAX]) {
    char *absolute = realpath(path, NULL);
    if (!absolute) return mero_fail(m, "%s: %s", path, strerror(errno));
    const char *package = cli_get(m->line, "package"), *version = cli_get(m->line, "version");
    yyjson_mut_doc *body = mero_body();
    yyjson_doc *doc = NULL;
    mero_set(body, "path", absolute);
    mero_set_bytes(body, "metadata", cli_get(m->line, "metadata"));
    mero_set(body, "package", package ? package : "unknown");
    mero_set(body, "version", version ? version : "0.0.0");
    free(absolute);
    mero_progress(m, "installing");
    int code = mero_ask(m, "POST", body, &doc, "/admin-api/install-dev-application");
    mero_progress(m, NULL);
    if (code == 0 && ret_id)
        snprintf(ret_id, CAL_ID_TEXT_MAX, "%s", mero_text(mero_data(doc), "applicationId"));
    else if (code == 0)
        mero_print(m, yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
    return code;
}

static int install_url(mero *m, const char *url) {
    yyjson_mut_doc *body = mero_body();
    yyjson_doc *doc = NULL;
    mero_set(body, "url", url);
    mero_set(body, "hash", cli_get(m->line, "hash"));
    mero_set_bytes(body, "metadata", cli_get(m->line, "metadata"));
    mero_set(body, "package", cli_get(m->line, "package"));
    mero_set(body, "version", cli_get(m->line, "version"));
    mero_progress(m, "the node downloads and installs");
    int code = mero_ask(m, "POST", body, &doc, "/admin-api/install-application");
    mero_progress(m, NULL);
    if (code == 0) mero_print(m, yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
    return code;
}

static int install_run(cli *line) {
    const char *path = cli_get(line, "path"), *url = cli_get(line, "url");
    if (!path == !url) return cli_usage(line, "give either --path FILE or --url URL");
    if (cli_flag(line, "watch"))
        return path ? mero_app_watch_run(line) : cli_usage(line, "--watch needs --path");
    mero m;
    int code = mero_open(&m, line);
    if (code) return code;
    code = path ? mero_app_install_file(&m, path, NULL) : install_url(&m, url);
    mero_close(&m);
    return code;
}

/* --- questions --- */

static int list_run(cli *line) { return mero_run(line, "GET", NULL, "/admin-api/applications"); }

static int get_run(cli *line) {
    return mero_run(line, "GET", NULL, "/admin-api/applications/%s", cli_operand(line, 0));
}

static int uninstall_run(cli *line) {
    return mero_run(line, "DELETE", NULL, "/admin-api/applications/%s", cli_operand(line, 0));
}

static int versions_run(cli *line) {
    return mero_run(line, "GET", NULL, "/admin-api/applications/%s/versions", cli_operand(line, 0));
}

static int abi_run(cli *line) {
    const char *service = cli_get(line, "service");
    if (!service)
        return mero_run(line, "GET", NULL, "/admin-api/applications/%s/abi", cli_operand(line, 0));
    return mero_run(line, "GET", NULL, "/admin-api/applications/%s/abi?service_name=%s",
                    cli_operand(line, 0), service);
}

static int packages_run(cli *line) { return mero_run(line, "GET", NULL, "/admin-api/packages"); }

static int package_versions_run(cli *line) {
    return mero_run(line, "GET", NULL, "/admin-api/packages/%s/versions", cli_operand(line, 0));
}

static int package_latest_run(cli *line) {
    return mero_run(line, "GET", NULL, "/admin-api/packages/%s/latest", cli_operand(line, 0));
}

/* --- bundles --- */

static cal_pack_signer signer_of(const cli *line) {
    return (cal_pack_signer){.key_file = cli_get(line, "key"),
                             .dev_key = cli_flag(line, "dev-key")};
}

/* NAME=FILE, repeated. */
static int read_services(const cli *line, cal_pack_service *ret_services, char **ret_names,
                         size_t *ret_count) {
    size_t position = 0;
    const char *text;
    while ((text = cli_each(line, "service", &position))) {
        const char *equals = strchr(text, '=');
        if (!equals || equals == text || !equals[1])
            return cli_usage(line, "--service is '%s' but must be NAME=FILE", text);
        if (*ret_count == SERVICES_MAX)
            return cli_usage(line, "more than %d services", SERVICES_MAX);
        ret_names[*ret_count] = strndup(text, (size_t)(equals - text));
        ret_services[*ret_count] = (cal_pack_service){ret_names[*ret_count], equals + 1};
        ++*ret_count;
    }
    return 0;
}

static int finish_bundle(const cli *line, int error, const cal_error *err, const char *output,
                         const cal_pack_signer *s) {
    if (error) return cli_fail(line, "%s", err->message);
    printf("%s\n", output);
    if (!s->key_file && !s->dev_key)
        fputs("not signed yet: `meroctl app sign` before installing it\n", stderr);
    if (s->dev_key) fputs("signed with the development key, which everybody has\n", stderr);
    return CLI_OK;
}

int mero_bundle_pack_run(cli *line) {
    cal_pack_service services[SERVICES_MAX];
    char *names[SERVICES_MAX] = {0};
    size_t count = 0;
    cal_pack_options options = {
        .folder = cli_get(line, "folder"),
        .package = cli_get(line, "package"),
        .version = cli_get(line, "version"),
        .min_runtime_version = cli_get(line, "min-runtime-version"),
        .name = cli_get(line, "name"),
        .description = cli_get(line, "description"),
        .author = cli_get(line, "author"),
        .license = cli_get(line, "license"),
        .wasm_path = cli_operand(line, 0),
        .signer = signer_of(line),
        .output_path = cli_get(line, "output"),
    };
    cal_error err = {0};
    if (!options.output_path) return cli_usage(line, "--output FILE is missing");
    int code = read_services(line, services, names, &count);
    options.services = services;
    options.service_count = count;
    if (code == 0 && options.folder && (options.wasm_path || count))
        code = cli_usage(line, "--folder holds its own modules: name no others");
    if (code == 0 && !options.folder && (!options.package || !options.version))
        code = cli_usage(line, "--package and --version are missing");
    if (code == 0 && !options.folder && !options.wasm_path == !count)
        code = cli_usage(line, "give one WASM file, or --service NAME=FILE for each service");
    if (code == 0)
        code = finish_bundle(line, cal_pack_bundle(&options, &err), &err, options.output_path,
                             &options.signer);
    for (size_t i = 0; i < count; i++) free(names[i]);
    return code;
}

int mero_bundle_sign_run(cli *line) {
    const char *bundle = cli_operand(line, 0), *output = cli_get(line, "output");
    cal_pack_signer signer = signer_of(line);
    cal_error err = {0};
    if (!signer.key_file == !signer.dev_key)
        return cli_usage(line, "give either --key FILE or --dev-key");
    if (!output) output = bundle;
    return finish_bundle(line, cal_pack_sign(bundle, &signer, output, &err), &err, output, &signer);
}

int mero_bundle_keygen_run(cli *line) {
    char signer[CAL_SIGNER_TEXT_MAX];
    cal_error err = {0};
    if (cal_pack_keygen(cli_operand(line, 0), signer, &err) != 0)
        return cli_fail(line, "%s", err.message);
    printf("%s\n", signer);
    return CLI_OK;
}

/* --- the table --- */

static const cli_option install_options[] = {
    {"path", 'p', "FILE", "A .wasm module or a signed .mpk bundle on the node's machine"},
    {"url", 'u', "URL", "Where the node downloads it from (public http or https)"},
    {"metadata", 'm', "TEXT", "Metadata of a raw module"},
    {"hash", 0, "BLOB_ID", "The blob id that the download must have"},
    {"package", 0, "NAME", "Package of a raw module (default: unknown)"},
    {"version", 0, "VERSION", "Version of a raw module (default: 0.0.0)"},
    {"watch", 'w', NULL, "Install again whenever the file changes, see `app watch`"},
    {0}};
static const cli_option watch_options[] = {
    {"path", 'p', "FILE", "The file to watch"},
    {"metadata", 0, "TEXT", "Metadata of a raw module"},
    {"current-app-id", 0, "ID",
     "The application whose contexts are updated (default: the one installed first)"},
    {"package", 0, "NAME", "Package of a raw module (default: unknown)"},
    {"version", 0, "VERSION", "Version of a raw module (default: 0.0.0)"},
    {0}};
static const cli_option abi_options[] = {
    {"service", 0, "NAME", "Which service, when there are several"}, {0}};
static const cli_option pack_options[] = {
    {"package", 0, "NAME", "Package, like com.example.app"},
    {"version", 0, "VERSION", "Version, like 1.2.3"},
    {"output", 'o', "FILE", "The bundle to write"},
    {"key", 'k', "FILE", "Sign with this key, see `app keygen`"},
    {"dev-key", 0, NULL, "Sign with the development key that everybody has"},
    {"service", 0, "NAME=FILE", "A module of a bundle with several services; repeat"},
    {"folder", 0, "DIR", "Pack a folder that holds manifest.json and the files it names"},
    {"name", 0, "TEXT", "Name shown to people"},
    {"description", 0, "TEXT", "What it does"},
    {"author", 0, "TEXT", "Who made it"},
    {"license", 0, "TEXT", "Its licence"},
    {"min-runtime-version", 0, "VERSION", "The oldest node that can run it"},
    {0}};
static const cli_option sign_options[] = {
    {"key", 'k', "FILE", "The signing key"},
    {"dev-key", 0, NULL, "Sign with the development key that everybody has"},
    {"output", 'o', "FILE", "Where the signed bundle goes (default: the same file)"},
    {0}};

const cli_command mero_app_commands[] = {
    {"install", NULL, NULL, "Install an application",
     "Examples:\n  meroctl app install --path kv-store.mpk\n  meroctl app install --url "
     "https://example.com/kv-store.mpk",
     install_options, NULL, install_run},
    {"list", "ls", NULL, "Installed applications", NULL, NULL, NULL, list_run},
    {"get", NULL, "APP_ID", "One application", NULL, NULL, NULL, get_run},
    {"uninstall", NULL, "APP_ID", "Remove an application that no context runs", NULL, NULL, NULL,
     uninstall_run},
    {"versions", NULL, "APP_ID", "Installed versions of an application", NULL, NULL, NULL,
     versions_run},
    {"abi", NULL, "APP_ID", "Its methods, events and types", NULL, abi_options, NULL, abi_run},
    {"list-packages", "packages", NULL, "Packages that are installed", NULL, NULL, NULL,
     packages_run},
    {"list-versions", NULL, "PACKAGE", "Versions of a package", NULL, NULL, NULL,
     package_versions_run},
    {"get-latest-version", NULL, "PACKAGE", "The newest version of a package", NULL, NULL, NULL,
     package_latest_run},
    {"watch", NULL, NULL,
     "Install a file again whenever it changes, and update the contexts that run it",
     "Example:\n  meroctl app watch --path build/kv-store.wasm", watch_options, NULL,
     mero_app_watch_run},
    {"pack", NULL, "[WASM_FILE]", "Make a bundle (.mpk) out of WebAssembly modules",
     "Examples:\n  meroctl app keygen me.key\n"
     "  meroctl app pack kv.wasm --package com.example.kv --version 1.0.0 --key me.key -o kv.mpk",
     pack_options, NULL, mero_bundle_pack_run},
    {"sign", NULL, "BUNDLE_FILE", "Sign a bundle, also again",
     "Example:\n  meroctl app sign kv.mpk --key me.key", sign_options, NULL, mero_bundle_sign_run},
    {"keygen", NULL, "FILE", "Make a signing key and print the signer id that goes with it", NULL,
     NULL, NULL, mero_bundle_keygen_run},
    {0}};
