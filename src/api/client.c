/* The HTTP half of calimero/client.h, over libcurl.
 *
 * One easy handle for each client, reused so that connections stay open. Whatever arrives is
 * bounded by ANSWER_MAX before it is kept. The WebSocket is in client_socket.c. Thread: the
 * caller's, one at a time. Specification: http-api.md 1 to 3, 5. */
#include "api/client_internal.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdlib.h>
#include <strings.h>
#include <yyjson.h>

#include "base/buffer.h"
#include "base/error.h"

enum {
    ANSWER_MAX = 64 * 1024 * 1024,
    CONNECT_TIMEOUT_MS = 10000,
    URL_MAX = 4096,
    HEADER_MAX = 4096
};

struct cal_client {
    CURL *curl;
    char *url; /* without a slash at the end */
    char *token;
    uint32_t connect_timeout_ms, timeout_ms;
    cal_client_progress progress;
    void *progress_user;
};

/* One request under way. */
typedef struct transfer {
    cal_buffer body;
    const cal_client_upload *upload;
    const cal_client_download *download;
    void (*header)(void *user, const char *name, const char *value);
    void *header_user;
    cal_client *client;
    int error; /* why a callback gave up */
} transfer;

static void init_curl(void) { curl_global_init(CURL_GLOBAL_DEFAULT); }

void client_init_curl(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_curl);
}

static bool starts_with(const char *text, const char *prefix) {
    return strncasecmp(text, prefix, strlen(prefix)) == 0;
}

int cal_client_new(const cal_client_options *options, cal_client **ret_client, cal_error *err) {
    const char *url = options->url;
    if (!url || (!starts_with(url, "http://") && !starts_with(url, "https://")) ||
        strlen(url) > URL_MAX)
        return cal_fail(err, CAL_EINVAL, "'%s' is not the address of a node: use http://HOST:PORT",
                        url ? url : "");
    client_init_curl();
    cal_client *client = calloc(1, sizeof *client);
    if (!client) return cal_fail(err, CAL_ENOMEM, "out of memory");
    client->curl = curl_easy_init();
    client->url = strdup(url);
    client->token = options->token ? strdup(options->token) : NULL;
    client->connect_timeout_ms =
        options->connect_timeout_ms ? options->connect_timeout_ms : CONNECT_TIMEOUT_MS;
    client->timeout_ms = options->timeout_ms;
    if (!client->curl || !client->url || (options->token && !client->token)) {
        cal_client_free(client);
        return cal_fail(err, CAL_ENOMEM, "out of memory");
    }
    size_t len = strlen(client->url);
    while (len > 0 && client->url[len - 1] == '/') client->url[--len] = 0;
    *ret_client = client;
    return 0;
}

void cal_client_free(cal_client *client) {
    if (!client) return;
    if (client->curl) curl_easy_cleanup(client->curl);
    free(client->url);
    free(client->token);
    free(client);
}

const char *cal_client_url(const cal_client *client) { return client->url; }
const char *client_token(const cal_client *client) { return client->token; }
uint32_t client_connect_timeout(const cal_client *client) { return client->connect_timeout_ms; }

void cal_client_on_progress(cal_client *client, cal_client_progress progress, void *user) {
    client->progress = progress;
    client->progress_user = user;
}

void cal_client_answer_deinit(cal_client_answer *answer) {
    if (!answer) return;
    free(answer->body);
    *answer = (cal_client_answer){0};
}

/* The node's words: {"error": "..."} or plain text. */
static void answer_reason(const cal_client_answer *answer, char *ret_reason, size_t max) {
    yyjson_doc *doc = yyjson_read(answer->body, answer->len, 0);
    const char *reason = yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(doc), "error"));
    if (reason)
        snprintf(ret_reason, max, ": %s", reason);
    else if (!doc && answer->len > 0)
        snprintf(ret_reason, max, ": %s", answer->body);
    else
        ret_reason[0] = 0;
    yyjson_doc_free(doc);
}

static int status_error(int status) {
    switch (status) {
    case 401:
    case 403:
        return CAL_EDENIED;
    case 404:
    case 405:
        return CAL_ENOTFOUND;
    case 409:
        return CAL_ESTATE;
    case 413:
        return CAL_ELIMIT;
    case 501:
        return CAL_EUNSUPPORTED;
    case 503:
        return CAL_EBUSY;
    case 504:
        return CAL_ETIMEOUT;
    case 507:
        return CAL_EFULL;
    default:
        return status >= 500 ? CAL_EINTERNAL : CAL_EINVAL;
    }
}

int cal_client_check(const cal_client_answer *answer, cal_error *err) {
    if (answer->status >= 200 && answer->status < 300) return 0;
    char reason[CAL_ERROR_MESSAGE_MAX];
    answer_reason(answer, reason, sizeof reason);
    return cal_fail(err, status_error(answer->status), "HTTP %d%s", answer->status, reason);
}

/* --- curl's callbacks --- */

static bool is_success(CURL *curl) {
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    return status >= 200 && status < 300;
}

static size_t on_body(char *bytes, size_t size, size_t count, void *user) {
    transfer *t = user;
    size_t len = size * count;
    if (t->download && is_success(t->client->curl))
        t->error = t->download->write(t->download->user, bytes, len);
    else
        t->error = cal_buffer_append(&t->body, bytes, len);
    return t->error ? 0 : len;
}

static size_t on_read(char *ret_bytes, size_t size, size_t count, void *user) {
    transfer *t = user;
    int64_t len = t->upload->read(t->upload->user, ret_bytes, size * count);
    if (len >= 0) return (size_t)len;
    t->error = (int)len;
    return CURL_READFUNC_ABORT;
}

static int on_progress(void *user, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
                       curl_off_t up) {
    const transfer *t = user;
    const cal_client *client = t->client;
    if (!client->progress) return 0;
    if (t->upload)
        client->progress(client->progress_user, (uint64_t)up,
                         up_total > 0 ? (uint64_t)up_total : t->upload->size);
    else
        client->progress(client->progress_user, (uint64_t)down, (uint64_t)down_total);
    return 0;
}

static size_t on_header(char *bytes, size_t size, size_t count, void *user) {
    transfer *t = user;
    size_t len = size * count;
    char line[HEADER_MAX];
    if (!t->header || len >= sizeof line) return len;
    memcpy(line, bytes, len);
    line[len] = 0;
    line[strcspn(line, "\r\n")] = 0;
    char *colon = strchr(line, ':');
    if (!colon) return len;
    *colon = 0;
    for (char *p = line; *p; p++)
        if (*p >= 'A' && *p <= 'Z') *p = (char)(*p - 'A' + 'a');
    const char *value = colon + 1;
    t->header(t->header_user, line, value + strspn(value, " \t"));
    return len;
}

/* --- one request --- */

static int curl_code(CURLcode code) {
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
        return CAL_EUNREACHABLE;
    case CURLE_OPERATION_TIMEDOUT:
        return CAL_ETIMEOUT;
    case CURLE_URL_MALFORMAT:
        return CAL_EINVAL;
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return CAL_EDECODE;
    case CURLE_OUT_OF_MEMORY:
        return CAL_ENOMEM;
    default:
        return CAL_EIO;
    }
}

int client_curl_fail(CURLcode code, const char *url, const char *detail, cal_error *err) {
    const char *why = detail && detail[0] ? detail : curl_easy_strerror(code);
    if (curl_code(code) == CAL_EUNREACHABLE)
        return cal_fail(err, CAL_EUNREACHABLE, "no node answers at %s (%s): is it running?", url,
                        why);
    return cal_fail(err, curl_code(code), "request to %s: %s", url, why);
}

void client_no_proxy_for_loopback(CURL *curl, const char *url) {
    const char *host = strstr(url, "://");
    if (!host) return;
    host += 3;
    if (starts_with(host, "127.") || starts_with(host, "localhost") || starts_with(host, "[::1]"))
        curl_easy_setopt(curl, CURLOPT_PROXY, "");
}

static int make_headers(const cal_client *client, bool json, struct curl_slist **ret_headers) {
    struct curl_slist *headers =
        curl_slist_append(NULL, "Expect:"); /* no waiting for 100 Continue */
    struct curl_slist *more = headers;
    if (more && json) more = curl_slist_append(headers, "Content-Type: application/json");
    if (more && client->token) {
        size_t len = strlen(client->token) + sizeof "Authorization: Bearer ";
        char *line = malloc(len);
        if (line) snprintf(line, len, "Authorization: Bearer %s", client->token);
        more = line ? curl_slist_append(headers, line) : NULL;
        free(line);
    }
    if (!more) {
        curl_slist_free_all(headers);
        return CAL_ENOMEM;
    }
    *ret_headers = headers;
    return 0;
}

static void prepare(cal_client *client, transfer *t, const char *verb, const char *url,
                    const char *json) {
    CURL *curl = client->curl;
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    client_no_proxy_for_loopback(curl, url);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)client->connect_timeout_ms);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)client->timeout_ms);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, t);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    if (t->upload) {
        curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_read);
        curl_easy_setopt(curl, CURLOPT_READDATA, t);
        curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)t->upload->size);
        return;
    }
    if (json) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(json));
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, json);
    }
    if (strcmp(verb, "HEAD") == 0)
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    else
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, verb);
}

static int perform(cal_client *client, transfer *t, const char *verb, const char *path,
                   const char *json, cal_client_answer *ret_answer, cal_error *err) {
    char detail[CURL_ERROR_SIZE] = "";
    size_t url_size = strlen(client->url) + strlen(path) + 1;
    char *url = malloc(url_size);
    struct curl_slist *headers = NULL;
    if (!url || make_headers(client, json != NULL, &headers) != 0) {
        free(url);
        return cal_fail(err, CAL_ENOMEM, "out of memory");
    }
    snprintf(url, url_size, "%s%s", client->url, path);
    cal_buffer_init(&t->body, ANSWER_MAX);
    t->client = client;
    prepare(client, t, verb, url, json);
    curl_easy_setopt(client->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(client->curl, CURLOPT_ERRORBUFFER, detail);
    CURLcode code = curl_easy_perform(client->curl);
    long status = 0;
    curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &status);
    int result = 0;
    if (t->error)
        result =
            cal_fail(err, t->error, "request to %s stopped: %s", url, cal_error_text(t->error));
    else if (code != CURLE_OK)
        result = client_curl_fail(code, client->url, detail, err);
    else if (!cal_buffer_cstr(&t->body))
        result = cal_fail(err, t->body.error, "the answer of %s: %s", url,
                          cal_error_text(t->body.error));
    if (result == 0) {
        ret_answer->status = (int)status;
        ret_answer->body = (char *)cal_buffer_detach(&t->body, &ret_answer->len);
        if (!ret_answer->body) ret_answer->body = calloc(1, 1);
        if (!ret_answer->body) result = cal_fail(err, CAL_ENOMEM, "out of memory");
    }
    curl_easy_setopt(client->curl, CURLOPT_ERRORBUFFER, NULL);
    cal_buffer_deinit(&t->body);
    curl_slist_free_all(headers);
    free(url);
    return result;
}

int cal_client_request(cal_client *client, const char *verb, const char *path, const char *json,
                       cal_client_answer *ret_answer, cal_error *err) {
    transfer t = {0};
    return perform(client, &t, verb, path, json, ret_answer, err);
}

int cal_client_put(cal_client *client, const cal_client_upload *upload,
                   cal_client_answer *ret_answer, cal_error *err) {
    transfer t = {.upload = upload};
    return perform(client, &t, "PUT", upload->path, NULL, ret_answer, err);
}

int cal_client_get(cal_client *client, const cal_client_download *download,
                   cal_client_answer *ret_answer, cal_error *err) {
    transfer t = {.download = download};
    return perform(client, &t, "GET", download->path, NULL, ret_answer, err);
}

int cal_client_head(cal_client *client, const char *path,
                    void (*visit)(void *user, const char *name, const char *value), void *user,
                    cal_client_answer *ret_answer, cal_error *err) {
    transfer t = {.header = visit, .header_user = user};
    return perform(client, &t, "HEAD", path, NULL, ret_answer, err);
}
