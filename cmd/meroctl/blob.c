/* meroctl blob: bytes up and down in pieces, with a bar. Protocol: http-api.md 5.6, 13. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "mero.h"

static int list_run(cli *line) { return mero_run(line, "GET", NULL, "/admin-api/blobs"); }

static const char *blob_of(const cli *line) {
    const char *option = cli_get(line, "blob-id");
    return option ? option : cli_operand(line, 0);
}

static int delete_run(cli *line) {
    mero m = {.line = line};
    const char *id = blob_of(line);
    if (!id) return cli_usage(line, "BLOB_ID is missing");
    if (!mero_confirm(&m, "Delete the blob from this node?")) return CLI_FAILED;
    return mero_run(line, "DELETE", NULL, "/admin-api/blobs/%s", id);
}

/* --- info --- */

static void on_header(void *user, const char *name, const char *value) {
    yyjson_mut_doc *info = user;
    if (strcmp(name, "x-blob-id") == 0) mero_set(info, "blob_id", value);
    if (strcmp(name, "x-blob-hash") == 0) mero_set(info, "hash", value);
    if (strcmp(name, "x-blob-mime-type") == 0) mero_set(info, "mime_type", value);
    if (strcmp(name, "content-length") == 0)
        yyjson_mut_obj_add_uint(info, yyjson_mut_doc_get_root(info), "size",
                                strtoull(value, NULL, 10));
}

static int valid_id(const cli *line, const char *id) {
    uint8_t bytes[CAL_ID_SIZE];
    if (!id) return cli_usage(line, "--blob-id is missing");
    return cal_id_parse(id, bytes) == 0 ? 0 : cli_usage(line, "'%s' is not the id of a blob", id);
}

static int info_run(cli *line) {
    const char *id = blob_of(line);
    mero m;
    cal_error err = {0};
    cal_client_answer answer = {0};
    char path[MERO_PATH_MAX];
    int code = valid_id(line, id);
    if (code == 0) code = mero_open(&m, line);
    if (code) return code;
    yyjson_mut_doc *info = mero_body();
    snprintf(path, sizeof path, "/admin-api/blobs/%s", id);
    int error = cal_client_head(m.client, path, on_header, info, &answer, &err);
    if (error == 0) error = cal_client_check(&answer, &err);
    cal_client_answer_deinit(&answer);
    if (error == CAL_ENOTFOUND)
        snprintf(err.message, sizeof err.message, "HTTP 404: no blob %s", id);
    if (error) {
        code = mero_error(&m, &err);
    } else {
        yyjson_doc *shown = yyjson_mut_doc_imut_copy(info, NULL);
        mero_print(&m, yyjson_doc_get_root(shown));
        yyjson_doc_free(shown);
    }
    yyjson_mut_doc_free(info);
    mero_close(&m);
    return code;
}

/* --- upload --- */

static int64_t read_file(void *user, void *ret_bytes, size_t max) {
    FILE *file = user;
    size_t len = fread(ret_bytes, 1, max, file);
    return ferror(file) ? CAL_EIO : (int64_t)len;
}

static int upload(mero *m, FILE *file, uint64_t size, const char *context) {
    cal_error err = {0};
    cal_client_answer answer = {0};
    char path[MERO_PATH_MAX];
    snprintf(path, sizeof path, "/admin-api/blobs%s%s", context ? "?context_id=" : "",
             context ? context : "");
    cal_client_upload request = {.path = path, .size = size, .read = read_file, .user = file};
    mero_progress(m, "uploading");
    int error = cal_client_put(m->client, &request, &answer, &err);
    mero_progress(m, NULL);
    if (error == 0) error = cal_client_check(&answer, &err);
    if (error == 0) {
        yyjson_doc *doc = yyjson_read(answer.body, answer.len, 0);
        mero_print(m, yyjson_doc_get_root(doc));
        yyjson_doc_free(doc);
    }
    cal_client_answer_deinit(&answer);
    return error == 0 ? 0 : mero_error(m, &err);
}

static int upload_run(cli *line) {
    const char *name = cli_get(line, "file"), *context = cli_get(line, "context-id");
    char id[CAL_ID_TEXT_MAX];
    struct stat info;
    mero m;
    if (!name) name = cli_operand(line, 0);
    if (!name) return cli_usage(line, "--file is missing");
    FILE *file = fopen(name, "rb");
    if (!file || fstat(fileno(file), &info) != 0 || !S_ISREG(info.st_mode)) {
        int code = cli_fail(line, "%s: %s", name, file ? "not a file" : strerror(errno));
        if (file) fclose(file);
        return code;
    }
    int code = mero_open(&m, line);
    if (code == 0) {
        if (context) code = mero_context(&m, context, id);
        if (code == 0) code = upload(&m, file, (uint64_t)info.st_size, context ? id : NULL);
        mero_close(&m);
    }
    fclose(file);
    return code;
}

/* --- download --- */

static int write_file(void *user, const void *bytes, size_t len) {
    if (fwrite(bytes, 1, len, user) == len) return 0;
    return errno == ENOSPC ? CAL_EFULL : CAL_EIO;
}

/* Into NAME.part, renamed when whole: a broken download leaves nothing that looks like the blob. */
static int download(mero *m, const char *id, const char *context, const char *name) {
    cal_error err = {0};
    cal_client_answer answer = {0};
    char path[MERO_PATH_MAX], *part = NULL;
    snprintf(path, sizeof path, "/admin-api/blobs/%s%s%s", id, context ? "?context_id=" : "",
             context ? context : "");
    if (asprintf(&part, "%s.part", name) < 0) return mero_fail(m, "out of memory");
    FILE *file = fopen(part, "wb");
    if (!file) {
        int code = mero_fail(m, "%s: %s", part, strerror(errno));
        free(part);
        return code;
    }
    cal_client_download request = {.path = path, .write = write_file, .user = file};
    mero_progress(m, "downloading");
    int error = cal_client_get(m->client, &request, &answer, &err), code = 0;
    mero_progress(m, NULL);
    if (error == 0) error = cal_client_check(&answer, &err);
    cal_client_answer_deinit(&answer);
    bool closed = fclose(file) == 0;
    if (error)
        code = mero_error(m, &err);
    else if (!closed || rename(part, name) != 0)
        code = mero_fail(m, "%s: %s", name, strerror(errno));
    if (code) remove(part);
    free(part);
    if (code == 0) fprintf(stderr, "%s\n", name);
    return code;
}

static int download_run(cli *line) {
    const char *id = blob_of(line), *name = cli_get(line, "output"),
               *context = cli_get(line, "context-id");
    char context_id[CAL_ID_TEXT_MAX];
    mero m;
    int code = valid_id(line, id);
    if (code == 0 && !name) code = cli_usage(line, "--output is missing");
    if (code == 0) code = mero_open(&m, line);
    if (code) return code;
    if (context) code = mero_context(&m, context, context_id);
    if (code == 0) code = download(&m, id, context ? context_id : NULL, name);
    mero_close(&m);
    return code;
}

static const cli_option upload_options[] = {
    {"file", 'f', "FILE", "What to upload"},
    {"context-id", 'c', "CONTEXT", "Also announce it to this context's members"},
    {0}};
static const cli_option download_options[] = {
    {"blob-id", 'b', "BLOB_ID", "Which blob"},
    {"output", 'o', "FILE", "Where it goes"},
    {"context-id", 'c', "CONTEXT", "Fetch it from this context's members when it is not here"},
    {0}};
static const cli_option blob_option[] = {{"blob-id", 'b', "BLOB_ID", "Which blob"}, {0}};
static const cli_option delete_options[] = {
    {"blob-id", 'b', "BLOB_ID", "Which blob"}, {"yes", 'y', NULL, "Do not ask"}, {0}};

const cli_command mero_blob_commands[] = {
    {"list", "ls", NULL, "Blobs on this node", NULL, NULL, NULL, list_run},
    {"upload", NULL, "[FILE]", "Store a file", "Example:\n  meroctl blob upload --file photo.jpg",
     upload_options, NULL, upload_run},
    {"download", NULL, "[BLOB_ID]", "Fetch a blob into a file",
     "Example:\n  meroctl blob download --blob-id BLOB_ID --output photo.jpg", download_options,
     NULL, download_run},
    {"info", NULL, "[BLOB_ID]", "Size, hash and type of a blob", NULL, blob_option, NULL, info_run},
    {"delete", "del", "[BLOB_ID]", "Delete a blob", NULL, delete_options, NULL, delete_run},
    {0}};
