/* A client of a node's HTTP API (protocol http-api.md 5 to 7): requests, blobs in pieces, a
 * WebSocket.
 *
 * Blocking. A client and its sockets belong to one thread at a time. Nothing here needs a node in
 * this process. Strings are UTF-8. Errors are those of error.h: CAL_EUNREACHABLE when no connection
 * could be had, CAL_ETIMEOUT, CAL_EIO when it broke, CAL_EDECODE when what answers is no node. */
#ifndef CALIMERO_CLIENT_H
#define CALIMERO_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "calimero/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cal_client cal_client;

/* Zero-initialise, then set what differs. */
typedef struct cal_client_options {
    const char *url;   /* "http://127.0.0.1:2528", or https; a path is kept as a prefix; required */
    const char *token; /* sent as `Authorization: Bearer`; NULL: none */
    uint32_t connect_timeout_ms; /* default 10,000 */
    uint32_t timeout_ms;         /* of a whole request; default: none, calls may take long */
} cal_client_options;

/* CAL_EINVAL: not an http or https URL. */
int cal_client_new(const cal_client_options *options, cal_client **ret_client, cal_error *err);
void cal_client_free(cal_client *client); /* NULL allowed */
const char *cal_client_url(const cal_client *client);

/* What the node answered, whatever the status. Give it to cal_client_answer_deinit. */
typedef struct cal_client_answer {
    int status;
    char *body; /* NUL-terminated, never NULL after success */
    size_t len;
} cal_client_answer;
void cal_client_answer_deinit(cal_client_answer *answer); /* zeroes it; NULL allowed */

/* 0 for a 2xx; otherwise the CAL_E* that the status stands for, and "HTTP 404: Context not found"
 * in err. */
int cal_client_check(const cal_client_answer *answer, cal_error *err);

/* One request. `path` starts with '/' and may carry a query; `json` NULL sends no body. Answers
 * over 64 MiB are refused (CAL_ELIMIT). */
int cal_client_request(cal_client *client, const char *verb, const char *path, const char *json,
                       cal_client_answer *ret_answer, cal_error *err);

/* `progress` is told about once a second, and whenever bytes move, while a request runs; total 0:
 * unknown. NULL: nobody is. */
typedef void (*cal_client_progress)(void *user, uint64_t done, uint64_t total);
void cal_client_on_progress(cal_client *client, cal_client_progress progress, void *user);

/* PUT with a streamed body. `read` fills at most `max` bytes and returns how many, 0 at the end, <
 * 0 to give up. */
typedef struct cal_client_upload {
    const char *path;
    uint64_t size; /* bytes that read will give */
    int64_t (*read)(void *user, void *ret_bytes, size_t max);
    void *user;
} cal_client_upload;
int cal_client_put(cal_client *client, const cal_client_upload *upload,
                   cal_client_answer *ret_answer, cal_error *err);

/* GET with a streamed answer. `write` returns 0, or a CAL_E* to give up. With a status that is no
 * 2xx nothing is written and the body is in ret_answer. */
typedef struct cal_client_download {
    const char *path;
    int (*write)(void *user, const void *bytes, size_t len);
    void *user;
} cal_client_download;
int cal_client_get(cal_client *client, const cal_client_download *download,
                   cal_client_answer *ret_answer, cal_error *err);

/* HEAD; `visit` is called for each header, the name in lower case. ret_answer->body is empty. */
int cal_client_head(cal_client *client, const char *path,
                    void (*visit)(void *user, const char *name, const char *value), void *user,
                    cal_client_answer *ret_answer, cal_error *err);

/* --- the WebSocket at /ws --- */
typedef struct cal_client_socket cal_client_socket;

/* CAL_EDENIED, CAL_ENOTFOUND...: the node refused the upgrade. The socket keeps nothing of the
 * client. */
int cal_client_socket_open(const cal_client *client, cal_client_socket **ret_socket,
                           cal_error *err);
int cal_client_socket_send(cal_client_socket *socket, const char *text, size_t len, cal_error *err);
/* The next text message, NUL-terminated, valid until the next call. CAL_ETIMEOUT after timeout_ms
 * (< 0: waits for ever); CAL_ECANCELED when the node closed, or a signal arrived. Pings are
 * answered meanwhile. */
int cal_client_socket_receive(cal_client_socket *socket, int timeout_ms, const char **ret_text,
                              size_t *ret_len, cal_error *err);
void cal_client_socket_close(cal_client_socket *socket); /* says goodbye, frees; NULL allowed */

#ifdef __cplusplus
}
#endif
#endif
