/* What the files of this module share. Nothing here is for neighbours. */
#ifndef CAL_APP_INTERNAL_H
#define CAL_APP_INTERNAL_H

#include <yyjson.h>

#include "app/app.h"
#include "base/error.h"

enum {
    APP_JSON_DEPTH_MAX = 128, /* as the reference's JSON reader */
    APP_ENTRY_PATH_MAX = 1024,
    APP_IO_CHUNK = 64 * 1024,
};

/* --- json.c --- */
/* Parses and refuses repeated keys and nesting beyond APP_JSON_DEPTH_MAX. `what` names the text in
 * messages. */
int app_json_read(cal_slice json, const char *what, yyjson_doc **ret_doc, cal_error *err);

/* The shape of an object, checked against a table: what serde would refuse is refused. */
typedef enum app_json_kind {
    APP_JSON_TEXT,
    APP_JSON_U64,
    APP_JSON_TEXTS,   /* array of strings */
    APP_JSON_OBJECT,  /* of shape `inner` */
    APP_JSON_OBJECTS, /* array of those */
} app_json_kind;

typedef struct app_json_field {
    const char *name;
    app_json_kind kind;
    bool required; /* must be there */
    bool nullable; /* null counts as absent */
    const struct app_json_field *inner;
} app_json_field; /* a table ends with name NULL */

int app_json_shape(yyjson_val *object, const app_json_field *fields, const char *what,
                   cal_error *err);
/* The text of a field, NULL when absent or null. The shape has been checked. */
const char *app_json_text(yyjson_val *object, const char *key);

/* --- manifest.c --- */
/* A path inside an archive without `.` and empty components. False when it is absolute, leaves the
 * archive, holds a backslash, does not fit, or is empty (the archive's own root). */
bool app_clean_path(const char *path, char ret_path[APP_ENTRY_PATH_MAX]);
yyjson_val *app_manifest_root(const cal_manifest *manifest);

/* --- archive.c --- */
typedef struct app_archive app_archive;
/* One regular file of the archive. Returns 0 to go on, APP_ARCHIVE_STOP to end the walk well, or a
 * CAL_E*. */
typedef int (*app_archive_file)(void *user, app_archive *archive, const char *path, cal_error *err);
enum { APP_ARCHIVE_STOP = 1 };
/* Walks a gzip'ed tar; refuses what app.h lists, and more than `limit` decompressed bytes. */
int app_archive_walk(const cal_app_input *input, uint64_t limit, app_archive_file file, void *user,
                     cal_error *err);
/* The content of the file at hand, at most max bytes. Appends. */
int app_archive_read(app_archive *archive, const char *path, size_t max, cal_buffer *ret_content,
                     cal_error *err);

/* --- put.c --- */
/* A blob on its way into the store. */
typedef struct app_put {
    const cal_app_blobs *blobs;
    void *writer;
    cal_sha256_stream content, chunk, ids;
    size_t filled; /* bytes in the present chunk */
    uint64_t size;
} app_put;

typedef struct app_stored {
    cal_blob_id id;
    bool fresh; /* was not there before */
} app_stored;

int app_put_begin(app_put *put, const cal_app_blobs *blobs, cal_error *err);
int app_put_write(app_put *put, cal_slice bytes,
                  cal_error *err); /* after a failure only abort is left */
/* expected: the SHA-256 of the content, NULL: any. CAL_EVERIFY. Ends the put, also when it fails.
 */
int app_put_finish(app_put *put, const uint8_t *expected, app_stored *ret_blob, cal_error *err);
void app_put_abort(app_put *put);
/* Takes a blob back when it was not there before. */
void app_put_forget(const cal_app_blobs *blobs, const app_stored *blob);

/* --- fetch.c --- */
typedef struct app_fetch {
    const cal_os *os;
    const char *url;
    uint64_t max; /* bytes of the body */
    /* The body as it comes; non-zero ends the fetch with that code, err filled in. */
    int (*body)(void *user, cal_slice bytes, cal_error *err);
    /* Between pieces and while waiting; total 0 when unknown. Non-zero cancels. */
    int (*progress)(void *user, uint64_t done, uint64_t total);
    void *user;
} app_fetch;
/* GET, following at most CAL_APP_REDIRECTS_MAX redirects; every host on the way must be public.
 * Blocking. */
int app_fetch_run(const app_fetch *fetch, cal_error *err);
/* The URL in the form that is stored: scheme and host in lower case, no default port. Appends text
 * and a NUL that is not counted. Says whether its path ends in .mpk. CAL_EINVAL for what is no
 * http(s) URL or may not be asked for. */
int app_url_normalize(const char *url, cal_buffer *ret_url, bool *ret_bundle, cal_error *err);

#endif
