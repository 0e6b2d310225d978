/* Blobs: http-api.md 5.6. Both directions are streamed with back-pressure; at most a few megabytes
 * of one are in memory. */
#include "api/api.h"

#include <stdlib.h>

#include "base/limits.h"
#include "base/log.h"
#include "calimero/blob.h"

enum {
    UPLOAD_PIECE = 512 * 1024,  /* handed to the blob store at once, when there is that much */
    UPLOAD_PAUSE = 1024 * 1024, /* more than this waiting: the client is not read */
    UPLOAD_PENDING_MAX = 4 * 1024 * 1024,
    MESSAGE_MAX = CAL_ERROR_MESSAGE_MAX + 32,
};

static const char TOO_LARGE[] = "Failed to store blob: larger than 1073741824 bytes";

/* --- storing --- */

/* One upload. Bytes gather in `pending` while the store works on the piece before. */
typedef struct blob_upload {
    http_exchange *exchange;
    cal_blob_writer *writer;
    cal_buffer pending;
    uint64_t total;
    cal_blob_id expected;
    cal_context_id context; /* whose members are told */
    bool has_expected, has_context;
    bool busy;  /* the writer works: its callback will come */
    bool ended; /* the whole body is here */
    bool over;  /* answered, or the client is gone: free when not busy */
} blob_upload;

static void upload_free(blob_upload *upload) {
    cal_blob_abort(upload->writer);
    cal_buffer_deinit(&upload->pending);
    free(upload);
}

/* Answers, unless that was done, and frees as soon as the writer rests. */
static void upload_fail(blob_upload *upload, int status, const char *text) {
    if (!upload->over) {
        upload->over = true;
        http_on_close(upload->exchange, NULL);
        http_set_user(upload->exchange, NULL);
        json_reply_error(upload->exchange, status, text);
    }
    if (!upload->busy) upload_free(upload);
}

static void upload_refuse(blob_upload *upload, const cal_error *err) {
    char text[MESSAGE_MAX];
    snprintf(text, sizeof text, "Failed to store blob: %s", err->message);
    upload_fail(upload, cal_error_http_status(err->code), text);
}

/* Who is no member stores it all the same, and tells nobody. */
static void announce(const blob_upload *upload, const cal_blob_id *id) {
    cal_error err;
    int error = cal_blob_announce(api_node(upload->exchange), id, &upload->context, &err);
    if (error && error != CAL_EDENIED)
        cal_log(CAL_LOG_WARN, "api", "an uploaded blob is not announced: %s", err.message);
}

static void on_finished(void *user, const cal_error *err, const cal_blob_info *info) {
    blob_upload *upload = user;
    upload->busy = false;
    upload->writer = NULL; /* finishing freed it */
    if (err || upload->over) {
        if (err)
            upload_refuse(upload, err);
        else
            upload_free(upload);
        return;
    }
    if (upload->has_context) announce(upload, &info->id);
    json_out out = json_out_new();
    yyjson_mut_val *data = json_out_data(&out);
    json_add_base58(&out, data, "blob_id", info->id.bytes);
    json_add_u64(&out, data, "size", info->size);
    http_on_close(upload->exchange, NULL);
    json_reply(upload->exchange, 200, &out);
    upload_free(upload);
}

static void upload_go_on(blob_upload *upload);

static void on_piece_stored(void *user, const cal_error *err) {
    blob_upload *upload = user;
    upload->busy = false;
    if (upload->over)
        upload_free(upload);
    else if (err)
        upload_refuse(upload, err);
    else
        upload_go_on(upload);
}

static void upload_go_on(blob_upload *upload) {
    if (upload->busy) return;
    if (upload->pending.len >= UPLOAD_PIECE || (upload->ended && upload->pending.len > 0)) {
        /* taken out first: the callback may run before the call returns */
        size_t len;
        uint8_t *bytes = cal_buffer_detach(&upload->pending, &len);
        upload->busy = true;
        http_pause_body(upload->exchange, false);
        cal_blob_write(upload->writer, bytes, len, on_piece_stored, upload);
        free(bytes);
    } else if (upload->ended) {
        upload->busy = true;
        cal_blob_finish(upload->writer, upload->has_expected ? &upload->expected : NULL,
                        on_finished, upload);
    } else
        http_pause_body(upload->exchange, false);
}

static void on_upload_data(http_exchange *exchange, cal_slice bytes) {
    blob_upload *upload = http_get_user(exchange);
    if (!upload || upload->over) return;
    upload->total += bytes.len;
    if (upload->total > CAL_BLOB_UPLOAD_MAX) {
        upload_fail(upload, 413, TOO_LARGE);
        return;
    }
    if (cal_buffer_append_slice(&upload->pending, bytes) != 0) {
        upload_fail(upload, 503, "Failed to store blob: out of memory");
        return;
    }
    if (upload->busy && upload->pending.len > UPLOAD_PAUSE) http_pause_body(exchange, true);
    upload_go_on(upload);
}

static void on_upload_end(http_exchange *exchange) {
    blob_upload *upload = http_get_user(exchange);
    if (!upload || upload->over) return;
    upload->ended = true;
    upload_go_on(upload);
}

static void on_upload_closed(http_exchange *exchange) {
    blob_upload *upload = http_get_user(exchange);
    upload->over = true;
    http_abort(exchange);
    if (!upload->busy) upload_free(upload);
}

void blob_put(http_exchange *exchange) {
    static const http_sink sink = {on_upload_data, on_upload_end};
    const char *hash = http_query(exchange, "hash"), *context = http_query(exchange, "context_id");
    const char *length = http_header(exchange, "content-length");
    blob_upload *upload = calloc(1, sizeof *upload);
    if (!upload) {
        json_reply_code(exchange, CAL_ENOMEM);
        return;
    }
    upload->exchange = exchange;
    cal_buffer_init(&upload->pending, UPLOAD_PENDING_MAX);
    upload->has_expected = hash != NULL;
    upload->has_context = context != NULL;
    if (hash && cal_id_parse(hash, upload->expected.bytes) != 0)
        upload_fail(upload, 400, "The provided hash is not a valid format");
    else if (context && cal_id_parse(context, upload->context.bytes) != 0)
        upload_fail(upload, 400, "The provided context_id is not a valid format");
    else if (length && strtoull(length, NULL, 10) > CAL_BLOB_UPLOAD_MAX)
        upload_fail(upload, 413, TOO_LARGE);
    else if (!(upload->writer = cal_blob_create(api_node(exchange))))
        upload_fail(upload, 503, "Failed to store blob: out of memory");
    else {
        http_set_user(exchange, upload);
        http_set_sink(exchange, &sink);
        http_on_close(exchange, on_upload_closed);
    }
}

/* --- reading --- */

typedef struct listing {
    json_out out;
    yyjson_mut_val *into;
} listing;

static void visit_blob(void *user, const cal_blob_info *info) {
    listing *list = user;
    yyjson_mut_val *item = json_push_object(&list->out, list->into);
    json_add_base58(&list->out, item, "blob_id", info->id.bytes);
    json_add_u64(&list->out, item, "size", info->size);
}

void blob_list(http_exchange *exchange) {
    listing list = {.out = json_out_new()};
    list.into = json_add_array(&list.out, json_out_data(&list.out), "blobs");
    int error = cal_blob_each(api_node(exchange), visit_blob, &list);
    if (error) list.out.root = NULL;
    json_reply(exchange, 200, &list.out);
}

typedef struct blob_download {
    http_exchange *exchange;
    cal_blob_reader *reader;
    bool busy;    /* the reader works: its callback will come */
    bool looping; /* download_go_on is on the stack */
    bool room;    /* the client takes more */
    bool over;
} blob_download;

static void download_free(blob_download *download) {
    cal_blob_close(download->reader);
    free(download);
}

static void download_go_on(blob_download *download);

static void on_chunk(void *user, const cal_error *err, const uint8_t *bytes, size_t len) {
    blob_download *download = user;
    download->busy = false;
    if (download->over) {
        if (!download->looping) download_free(download);
        return;
    }
    if (err || len == 0) {
        download->over = true;
        http_on_close(download->exchange, NULL);
        if (err)
            http_abort(download->exchange); /* the status is out: only cutting tells the client */
        else
            http_end(download->exchange);
        if (!download->looping) download_free(download);
        return;
    }
    download->room = http_write(download->exchange, cal_slice_of(bytes, len));
    if (!download->looping) download_go_on(download);
}

/* Reads chunk after chunk while the client takes them; callbacks that come at once do not nest. */
static void download_go_on(blob_download *download) {
    download->looping = true;
    while (!download->busy && !download->over && download->room) {
        download->busy = true;
        cal_blob_read(download->reader, on_chunk, download);
    }
    download->looping = false;
    if (download->over && !download->busy) download_free(download);
}

static void on_download_writable(http_exchange *exchange) {
    blob_download *download = http_get_user(exchange);
    download->room = true;
    if (!download->looping) download_go_on(download);
}

static void on_download_closed(http_exchange *exchange) {
    blob_download *download = http_get_user(exchange);
    download->over = true;
    http_end(exchange);
    if (!download->busy && !download->looping) download_free(download);
}

static void set_blob_headers(http_exchange *exchange, const cal_blob_info *info) {
    char text[CAL_ID_TEXT_MAX], etag[CAL_ID_TEXT_MAX + 2];
    const char *mime = info->mime ? info->mime : "application/octet-stream";
    cal_id_to_hex(info->hash.bytes, text);
    snprintf(etag, sizeof etag, "\"%s\"", text);
    http_set_header(exchange, "etag", etag);
    http_set_header(exchange, "cache-control", "private, no-cache");
    http_set_header(exchange, "x-blob-hash", text);
    cal_id_to_base58(info->id.bytes, text);
    http_set_header(exchange, "x-blob-id", text);
    http_set_header(exchange, "x-blob-mime-type", mime);
    http_set_header(exchange, "x-content-type-options", "nosniff");
    /* a blob that is a web page must not run with this node's own origin */
    http_set_header(exchange, "content-security-policy", "sandbox; default-src 'none'");
    http_set_header(exchange, "access-control-expose-headers",
                    "X-Blob-ID,X-Blob-Hash,X-Blob-MIME-Type,ETag");
    http_begin(exchange, 200, mime, (int64_t)info->size);
}

static void download_start(blob_download *download, const cal_blob_info *info) {
    http_exchange *exchange = download->exchange;
    set_blob_headers(exchange, info);
    if (http_is_head(exchange)) {
        http_end(exchange);
        download_free(download);
        return;
    }
    download->room = true;
    http_set_user(exchange, download);
    http_on_close(exchange, on_download_closed);
    http_on_writable(exchange, on_download_writable);
    download_go_on(download);
}

static void download_refuse(blob_download *download, int error) {
    http_exchange *exchange = download->exchange;
    free(download);
    if (error == CAL_ENOTFOUND)
        json_reply_error(exchange, 404,
                         http_is_head(exchange) ? "Blob not found"
                                                : "Blob not found locally or in network");
    else
        json_reply_code(exchange, error);
}

/* The peers that were asked, not this request, are why it is not here. */
static int fetch_error(int error) {
    switch (error) {
    case CAL_EDENIED: /* no member: who asks learns no more than that */
    case CAL_EUNREACHABLE:
    case CAL_ETIMEOUT:
    case CAL_EVERIFY:
    case CAL_EDECODE:
    case CAL_ELIMIT:
    case CAL_EUNSUPPORTED:
        return CAL_ENOTFOUND;
    default:
        return error;
    }
}

static void on_fetched(void *user, const cal_error *err, const cal_blob_info *info) {
    blob_download *download = user;
    cal_blob_info here;
    int error = err ? fetch_error(err->code) : 0;
    download->busy = false;
    if (download->over) {
        free(download);
        return;
    }
    http_on_close(download->exchange, NULL);
    if (error == 0)
        error = cal_blob_open(api_node(download->exchange), &info->id, &download->reader, &here);
    if (error)
        download_refuse(download, error);
    else
        download_start(download, &here);
}

/* The blob still comes, for the next one who asks. */
static void on_fetch_closed(http_exchange *exchange) {
    blob_download *download = http_get_user(exchange);
    download->over = true;
    http_abort(exchange);
}

void blob_get(http_exchange *exchange) {
    cal_blob_id id;
    cal_blob_info info;
    cal_context_id of;
    cal_node *node = api_node(exchange);
    const char *context = http_query(exchange, "context_id");
    if (!api_param_id(exchange, "id", "Invalid blob ID format", id.bytes)) return;
    if (context && cal_id_parse(context, of.bytes) != 0) {
        json_reply_error(exchange, 400, "Invalid context ID format");
        return;
    }
    blob_download *download = calloc(1, sizeof *download);
    if (!download) {
        json_reply_code(exchange, CAL_ENOMEM);
        return;
    }
    download->exchange = exchange;
    int error = cal_blob_open(node, &id, &download->reader, &info);
    if (error == 0) {
        download_start(download, &info);
    } else if (error == CAL_ENOTFOUND && context && !http_is_head(exchange)) {
        download->busy = true;
        http_set_user(exchange, download);
        http_on_close(exchange, on_fetch_closed);
        cal_blob_fetch(node, &id, &of, NULL, on_fetched, download);
    } else {
        download_refuse(download, error);
    }
}

static void on_removed(void *user, const cal_error *err) {
    http_exchange *exchange = user;
    uint8_t id[CAL_ID_SIZE];
    if (err && err->code == CAL_ENOTFOUND)
        json_reply_error(exchange, 404, "Blob not found");
    else if (err && err->code == CAL_EDENIED)
        json_reply_error(exchange, 403,
                         "Blob is referenced by an installed application and cannot be deleted");
    else if (err)
        json_reply_refusal(exchange, err);
    else if (api_param_id(exchange, "id", "Invalid blob ID format", id)) {
        json_out out = json_out_new();
        json_add_base58(&out, out.root, "blob_id", id);
        json_add_bool(&out, out.root, "deleted", true);
        json_reply(exchange, 200, &out);
    }
}

void blob_remove(http_exchange *exchange) {
    cal_blob_id id;
    if (api_param_id(exchange, "id", "Invalid blob ID format", id.bytes))
        cal_blob_delete(api_node(exchange), &id, on_removed, exchange);
}
