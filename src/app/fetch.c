/* Downloading an application from a URL somebody else chose, without lending them the node's place
 * in its network.
 *
 * Each hop is a request of its own: the URL is parsed by curl, the host is resolved by us through
 * the os table, every address must be public, and curl can connect only to those addresses, because
 * its sockets come from us. So neither a second DNS answer nor a redirect nor a proxy in the
 * environment leads elsewhere. Blocking, on a worker; one handle per hop, nothing shared.
 * http-api.md 1, 5.1. */
#include <arpa/inet.h>
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <threads.h>
#include <unistd.h>

#include "app/internal.h"

enum {
    HOST_MAX = 256,
    REDIRECT_BODY_MAX = 64 * 1024, /* of an answer that is not the file */
    RESOLVE_TEXT_MAX = 2048,
    NS_PER_MS = 1000000,
};

typedef struct target {
    char host[HOST_MAX]; /* lower case, without brackets and trailing dot */
    uint16_t port;
    bool bundle; /* the path ends in .mpk */
} target;

typedef struct hop {
    const app_fetch *fetch;
    CURL *curl;
    target to;
    cal_os_address addresses[CAL_OS_ADDRESSES_MAX];
    size_t count;
    uint64_t deadline_ns;
    uint64_t done, ignored; /* bytes of the file; of another answer's body */
    int os_error;           /* of the last connection tried */
    int stopped;            /* what the body or progress callback answered */
    cal_error why;
} hop;

/* --- URLs --- */
/* How much of a URL may stand in a message: not its query, which may be a secret, and nothing of
 * one with a user in it. */
static int shown(const char *url) {
    size_t len = strchr(url, '@') ? 0 : strcspn(url, "?#");
    return len < 200 ? (int)len : 200;
}

static int bad_url(const char *url, const char *why, cal_error *err) {
    return cal_fail(err, CAL_EINVAL, "the URL %.*s cannot be fetched: %s", shown(url), url, why);
}

static bool is_local_name(const char *host) {
    static const char local[] = "localhost";
    size_t len = strlen(host), tail = sizeof local - 1;
    return len >= tail && strcmp(host + len - tail, local) == 0 &&
           (len == tail || host[len - tail - 1] == '.');
}

/* The host as we check it and as curl is told it. */
static bool read_host(const char *text, char ret_host[HOST_MAX]) {
    size_t len = strlen(text);
    if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    }
    while (len > 0 && text[len - 1] == '.') len--;
    if (len == 0 || len >= HOST_MAX) return false;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c <= ' ' || c >= 0x7f || strchr("%,\"\\/@+", c)) return false;
        ret_host[i] = (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
    }
    ret_host[len] = '\0';
    return true;
}

static void append_part(cal_buffer *out, CURLU *parts, CURLUPart part, const char *before) {
    char *text = NULL;
    if (curl_url_get(parts, part, &text, 0) == CURLUE_OK && text)
        cal_buffer_printf(out, "%s%s", before, text);
    curl_free(text);
}

static bool has_part(CURLU *parts, CURLUPart part) {
    char *text = NULL;
    bool has = curl_url_get(parts, part, &text, 0) == CURLUE_OK && text;
    curl_free(text);
    return has;
}

/* Reads the parts that matter and writes the URL in its stored form. */
static int read_parts(CURLU *parts, const char *url, target *ret_target, cal_buffer *ret_url,
                      cal_error *err) {
    char *scheme = NULL, *host = NULL, *port = NULL, *path = NULL;
    int rc = 0;
    if (curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
        (strcasecmp(scheme, "http") != 0 && strcasecmp(scheme, "https") != 0))
        rc = bad_url(url, "only http and https are allowed", err);
    else if (has_part(parts, CURLUPART_USER) || has_part(parts, CURLUPART_PASSWORD))
        rc = bad_url(url, "it holds a user or a password, which would be stored and shown", err);
    else if (has_part(parts, CURLUPART_ZONEID))
        rc = bad_url(url, "its address names a network interface", err);
    else if (curl_url_get(parts, CURLUPART_HOST, &host, 0) != CURLUE_OK ||
             !read_host(host, ret_target->host))
        rc = bad_url(url, "its host is not a plain name or address", err);
    else if (curl_url_get(parts, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) != CURLUE_OK ||
             curl_url_get(parts, CURLUPART_PATH, &path, 0) != CURLUE_OK)
        rc = bad_url(url, "it is malformed", err);
    if (rc == 0) {
        bool secure = strcasecmp(scheme, "https") == 0, six = strchr(ret_target->host, ':') != NULL;
        unsigned long number = strtoul(port, NULL, 10);
        size_t len = strlen(path);
        ret_target->port = (uint16_t)number;
        ret_target->bundle = len >= 4 && strcmp(path + len - 4, ".mpk") == 0;
        cal_buffer_printf(ret_url, "%s://%s%s%s", secure ? "https" : "http", six ? "[" : "",
                          ret_target->host, six ? "]" : "");
        if (number != (secure ? 443 : 80)) cal_buffer_printf(ret_url, ":%lu", number);
        cal_buffer_append_text(ret_url, path);
        append_part(ret_url, parts, CURLUPART_QUERY, "?");
        append_part(ret_url, parts, CURLUPART_FRAGMENT, "#");
        if (!cal_buffer_cstr(ret_url)) rc = cal_fail(err, ret_url->error, "the URL is too long");
    }
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_free(path);
    return rc;
}

static int read_url(const char *url, target *ret_target, cal_buffer *ret_url, cal_error *err) {
    if (strlen(url) > CAL_APP_URL_MAX)
        return cal_fail(err, CAL_ELIMIT, "the URL is longer than %d bytes", CAL_APP_URL_MAX);
    for (const char *p = url; *p; p++)
        if ((unsigned char)*p <= ' ' || *p == 0x7f)
            return bad_url(url, "it holds spaces or control characters", err);
    CURLU *parts = curl_url();
    if (!parts) return cal_fail(err, CAL_ENOMEM, "out of memory reading the URL");
    CURLUcode code = curl_url_set(parts, CURLUPART_URL, url, 0);
    int rc = code == CURLUE_OK ? read_parts(parts, url, ret_target, ret_url, err)
             : code == CURLUE_UNSUPPORTED_SCHEME
                 ? bad_url(url, "only http and https are allowed", err)
                 : bad_url(url, curl_url_strerror(code), err);
    curl_url_cleanup(parts);
    if (rc == 0 && is_local_name(ret_target->host))
        return bad_url(url, "its host is this machine", err);
    return rc;
}

int app_url_normalize(const char *url, cal_buffer *ret_url, bool *ret_bundle, cal_error *err) {
    target to = {0};
    int rc = read_url(url, &to, ret_url, err);
    if (rc == 0) *ret_bundle = to.bundle;
    return rc;
}

/* --- addresses --- */
static void address_text(const cal_os_address *address, char ret_text[INET6_ADDRSTRLEN]) {
    if (!inet_ntop(address->len == 4 ? AF_INET : AF_INET6, address->bytes, ret_text,
                   INET6_ADDRSTRLEN))
        ret_text[0] = '\0';
}

static bool read_literal(const char *host, cal_os_address *ret_address) {
    ret_address->len = 4;
    if (inet_pton(AF_INET, host, ret_address->bytes) == 1) return true;
    ret_address->len = 16;
    return inet_pton(AF_INET6, host, ret_address->bytes) == 1;
}

/* The addresses of the hop's host, all of them public: one that is not spoils the name, whoever
 * answers for it. */
static int resolve(hop *request, const char *url, cal_error *err) {
    const cal_os *os = request->fetch->os;
    if (read_literal(request->to.host, &request->addresses[0])) {
        request->count = 1;
    } else {
        int rc = os->resolve(os->user, request->to.host, request->addresses, &request->count);
        if (rc != 0 || request->count == 0)
            return cal_fail(err, rc ? rc : CAL_EUNREACHABLE,
                            "cannot find the host %s: check the name and this machine's DNS",
                            request->to.host);
    }
    for (size_t i = 0; i < request->count; i++) {
        if (cal_app_address_public(&request->addresses[i])) continue;
        char text[INET6_ADDRSTRLEN];
        address_text(&request->addresses[i], text);
        return cal_fail(err, CAL_EINVAL,
                        "refusing to fetch %.*s: %s is at %s, which is not a public address; copy "
                        "the file here and install "
                        "it by path",
                        shown(url), url, request->to.host, text);
    }
    return 0;
}

static bool is_checked(const hop *request, const cal_os_address *address) {
    for (size_t i = 0; i < request->count; i++)
        if (request->addresses[i].len == address->len &&
            memcmp(request->addresses[i].bytes, address->bytes, address->len) == 0)
            return true;
    return false;
}

static uint32_t left_ms(const hop *request) {
    uint64_t now = request->fetch->os->mono_ns(request->fetch->os->user);
    return now >= request->deadline_ns ? 0 : (uint32_t)((request->deadline_ns - now) / NS_PER_MS);
}

/* --- what curl asks --- */
static curl_socket_t open_socket(void *user, curlsocktype purpose, struct curl_sockaddr *to) {
    hop *request = user;
    cal_os_address address = {0};
    (void)purpose;
    if (to->family == AF_INET) {
        address.len = 4;
        memcpy(address.bytes, &((const struct sockaddr_in *)(const void *)&to->addr)->sin_addr, 4);
    } else if (to->family == AF_INET6) {
        address.len = 16;
        memcpy(address.bytes, &((const struct sockaddr_in6 *)(const void *)&to->addr)->sin6_addr,
               16);
    }
    request->os_error = CAL_EUNREACHABLE;
    if (address.len == 0 || !is_checked(request, &address)) return CURL_SOCKET_BAD;
    const cal_os *os = request->fetch->os;
    uint32_t left = left_ms(request);
    int socket = -1;
    request->os_error =
        os->connect(os->user, &address, request->to.port,
                    left < CAL_APP_CONNECT_TIMEOUT_MS ? left : CAL_APP_CONNECT_TIMEOUT_MS, &socket);
    return request->os_error == 0 ? socket : CURL_SOCKET_BAD;
}

static int is_connected(void *user, curl_socket_t socket, curlsocktype purpose) {
    (void)user, (void)socket, (void)purpose;
    return CURL_SOCKOPT_ALREADY_CONNECTED;
}

static size_t take_body(char *bytes, size_t size, size_t count, void *user) {
    hop *request = user;
    size_t len = size * count;
    long status = 0;
    curl_easy_getinfo(request->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status < 200 || status > 299) {
        request->ignored += len;
        return request->ignored > REDIRECT_BODY_MAX ? 0 : len;
    }
    if (len > request->fetch->max - request->done) {
        request->stopped =
            cal_fail(&request->why, CAL_ELIMIT, "the file at %s is larger than %llu bytes",
                     request->to.host, (unsigned long long)request->fetch->max);
        return 0;
    }
    request->done += len;
    request->stopped =
        request->fetch->body(request->fetch->user, cal_slice_of(bytes, len), &request->why);
    return request->stopped == 0 ? len : 0;
}

static int report(void *user, curl_off_t total, curl_off_t now, curl_off_t up_total,
                  curl_off_t up_now) {
    hop *request = user;
    (void)now, (void)up_total, (void)up_now;
    if (!request->fetch->progress) return 0;
    if (request->fetch->progress(request->fetch->user, request->done,
                                 total > 0 ? (uint64_t)total : 0) == 0)
        return 0;
    request->stopped = cal_fail(&request->why, CAL_ECANCELED, "the installation was canceled");
    return 1;
}

/* --- one hop --- */
/* Tells curl where the name is, in its own words: host:port:address,address... */
static struct curl_slist *pin(const hop *request) {
    char text[RESOLVE_TEXT_MAX];
    int at = snprintf(text, sizeof text, "%s:%u:", request->to.host, request->to.port);
    for (size_t i = 0; i < request->count; i++) {
        char address[INET6_ADDRSTRLEN];
        address_text(&request->addresses[i], address);
        at += snprintf(text + at, sizeof text - (size_t)at, "%s%s", i ? "," : "", address);
    }
    return curl_slist_append(NULL, text);
}

static void set_options(hop *request, const char *url, struct curl_slist *pinned) {
    CURL *curl = request->curl;
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* none, whatever the environment says */
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "merod");
    curl_easy_setopt(curl, CURLOPT_RESOLVE, pinned);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, request);
    curl_easy_setopt(curl, CURLOPT_SOCKOPTFUNCTION, is_connected);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, request);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, report);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, request);
    curl_easy_setopt(curl, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)request->fetch->max);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CAL_APP_CONNECT_TIMEOUT_MS);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)left_ms(request));
}

static int explain(const hop *request, CURLcode code, const char *url, cal_error *err) {
    if (request->stopped) return cal_fail(err, request->stopped, "%s", request->why.message);
    switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
        return cal_fail(err, CAL_ETIMEOUT, "fetching %.*s took too long", shown(url), url);
    case CURLE_FILESIZE_EXCEEDED:
        return cal_fail(err, CAL_ELIMIT, "the file at %.*s is larger than %llu bytes", shown(url),
                        url, (unsigned long long)request->fetch->max);
    case CURLE_PEER_FAILED_VERIFICATION:
        return cal_fail(err, CAL_EVERIFY, "the certificate of %s is not valid: %s",
                        request->to.host, curl_easy_strerror(code));
    case CURLE_OUT_OF_MEMORY:
        return cal_fail(err, CAL_ENOMEM, "out of memory fetching %.*s", shown(url), url);
    case CURLE_COULDNT_CONNECT:
        if (request->os_error == CAL_ETIMEOUT)
            return cal_fail(err, CAL_ETIMEOUT, "%s does not answer on port %u", request->to.host,
                            request->to.port);
        return cal_fail(err, CAL_EUNREACHABLE, "cannot connect to %s on port %u", request->to.host,
                        request->to.port);
    default:
        return cal_fail(err, CAL_EUNREACHABLE, "fetching %.*s failed: %s", shown(url), url,
                        curl_easy_strerror(code));
    }
}

/* Where a redirect points, in next; or CAL_* for any other answer than the file. */
static int read_status(hop *request, const char *url, cal_buffer *next, cal_error *err) {
    long status = 0;
    char *location = NULL;
    curl_easy_getinfo(request->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(request->curl, CURLINFO_REDIRECT_URL, &location);
    if (status >= 200 && status <= 299) return 0;
    if (status >= 300 && status <= 399 && location) {
        cal_buffer_append_text(next, location);
        if (!cal_buffer_cstr(next))
            return cal_fail(err, CAL_EINVAL, "%.*s redirects to a URL longer than %d bytes",
                            shown(url), url, CAL_APP_URL_MAX);
        return 0;
    }
    return cal_fail(err, status == 404 || status == 410 ? CAL_ENOTFOUND : CAL_EUNREACHABLE,
                    "%.*s answered with HTTP status %ld: check the URL", shown(url), url, status);
}

static int run_hop(hop *request, const char *url, cal_buffer *next, cal_error *err) {
    cal_buffer clean;
    cal_buffer_init(&clean, 2 * CAL_APP_URL_MAX);
    struct curl_slist *pinned = NULL;
    int rc = read_url(url, &request->to, &clean, err);
    if (rc == 0) rc = resolve(request, url, err);
    if (rc == 0 && left_ms(request) == 0)
        rc = cal_fail(err, CAL_ETIMEOUT, "fetching %.*s took too long", shown(url), url);
    if (rc == 0) {
        pinned = pin(request);
        request->curl = curl_easy_init();
        if (!pinned || !request->curl)
            rc = cal_fail(err, CAL_ENOMEM, "out of memory fetching %.*s", shown(url), url);
    }
    if (rc == 0) {
        set_options(request, cal_buffer_cstr(&clean), pinned);
        CURLcode code = curl_easy_perform(request->curl);
        rc = code == CURLE_OK ? read_status(request, url, next, err)
                              : explain(request, code, url, err);
    }
    curl_easy_cleanup(request->curl);
    curl_slist_free_all(pinned);
    cal_buffer_deinit(&clean);
    return rc;
}

/* --- the chain --- */
static once_flag curl_once = ONCE_FLAG_INIT;
static CURLcode curl_ready;
static void init_curl(void) { curl_ready = curl_global_init(CURL_GLOBAL_DEFAULT); }

int app_fetch_run(const app_fetch *fetch, cal_error *err) {
    call_once(&curl_once, init_curl);
    if (curl_ready != CURLE_OK)
        return cal_fail(err, CAL_EINTERNAL, "libcurl does not start: %s",
                        curl_easy_strerror(curl_ready));
    uint64_t deadline =
        fetch->os->mono_ns(fetch->os->user) + (uint64_t)CAL_APP_TOTAL_TIMEOUT_MS * NS_PER_MS;
    cal_buffer url, next;
    cal_buffer_init(&url, CAL_APP_URL_MAX + 1);
    cal_buffer_init(&next, CAL_APP_URL_MAX + 1);
    cal_buffer_append_text(&url, fetch->url);
    int rc = cal_buffer_cstr(&url)
                 ? 0
                 : cal_fail(err, CAL_ELIMIT, "the URL is longer than %d bytes", CAL_APP_URL_MAX);
    for (int redirects = 0; rc == 0; redirects++) {
        hop request = {.fetch = fetch, .deadline_ns = deadline};
        cal_buffer_reset(&next);
        rc = run_hop(&request, cal_buffer_cstr(&url), &next, err);
        if (rc != 0 || next.len == 0) break;
        if (redirects == CAL_APP_REDIRECTS_MAX)
            rc = cal_fail(err, CAL_EUNREACHABLE, "%.*s redirects more than %d times",
                          shown(fetch->url), fetch->url, CAL_APP_REDIRECTS_MAX);
        cal_buffer previous = url;
        url = next;
        next = previous;
    }
    cal_buffer_deinit(&next);
    cal_buffer_deinit(&url);
    return rc;
}
