/* JSON bodies of requests and answers, over yyjson: typed reading with the reference's messages,
 * and short ways to write.
 *
 * Reading: json_open parses the body, the json_* getters note the first fault, json_ok answers with
 * it. Validators note theirs with json_invalid; several are joined as the reference joins them.
 * Unknown fields are ignored. Specification: http-api.md 2 and 3. Loop thread. */
#ifndef CAL_API_JSON_H
#define CAL_API_JSON_H

#include <yyjson.h>

#include "api/http.h"
#include "base/buffer.h"
#include "calimero/error.h"

typedef enum json_style {
    JSON_VALIDATED, /* faults are 400 {"error": ...} */
    JSON_PLAIN,     /* faults are 400, 415 or 422 with plain text */
} json_style;

enum { JSON_FAULT_MAX = 1024 };

typedef struct json_in {
    http_exchange *exchange;
    json_style style;
    yyjson_doc *doc;
    yyjson_val *root; /* an object, or NULL when the body may be missing and is */
    cal_slice body;
    char fault[JSON_FAULT_MAX];   /* of decoding; "": none */
    char invalid[JSON_FAULT_MAX]; /* of validators, joined with "; " */
    size_t invalid_count;
} json_in;

/* false: the exchange has been answered. `optional`: no body, or `null`, stands for {}. Close it in
 * any case. */
bool json_open(json_in *in, http_exchange *exchange, json_style style, bool optional);
/* false: the exchange has been answered with the fault, and the document is closed. */
bool json_ok(json_in *in);
void json_close(json_in *in);

/* Fields of an object; `object` NULL: none are there. A required one that is missing, and any of
 * the wrong type, is a fault. A null stands for a missing optional one. `path` goes before the
 * message ("invitation"), "" at the top. */
typedef struct json_place {
    yyjson_val *object;
    const char *path;
    unsigned depth; /* objects around it: where the reference says the fault is */
} json_place;
json_place json_top(const json_in *in);
json_place json_inside(json_in *in, json_place place, const char *name); /* a required object */

/* NULL: absent. Texts live as long as the exchange. */
const char *json_text(json_in *in, json_place place, const char *name, bool required);
bool json_id(json_in *in, json_place place, const char *name, bool required, uint8_t ret_id[32]);
bool json_u64(json_in *in, json_place place, const char *name, bool required, uint64_t *ret_value);
bool json_bool(json_in *in, json_place place, const char *name); /* false when absent */
/* An array of numbers below 256, copied to the exchange's arena. */
bool json_bytes(json_in *in, json_place place, const char *name, bool required,
                cal_slice *ret_bytes);
void json_fault(json_in *in, const char *format, ...) __attribute__((format(printf, 2, 3)));
void json_invalid(json_in *in, const char *format, ...) __attribute__((format(printf, 2, 3)));
void json_check_length(json_in *in, const char *name, const char *text,
                       size_t max); /* text NULL: fine */

/* Why a text is no id, in the reference's words. */
const char *json_id_fault(const char *text, char *buffer, size_t size);

/* --- writing --- All take a NULL object, so that running out of memory shows once, when the
 * document is sent. */
typedef struct json_out {
    yyjson_mut_doc *doc;
    yyjson_mut_val *root;
} json_out;
json_out json_out_new(void);                  /* root: {} */
yyjson_mut_val *json_out_data(json_out *out); /* root: {"data": {}} ; returns the inner object */
yyjson_mut_val *json_add_object(json_out *out, yyjson_mut_val *object, const char *name);
yyjson_mut_val *json_add_array(json_out *out, yyjson_mut_val *object, const char *name);
yyjson_mut_val *json_push_object(json_out *out, yyjson_mut_val *array);
void json_add_text(json_out *out, yyjson_mut_val *object, const char *name,
                   const char *text); /* copied; NULL: left out */
void json_add_pair(json_out *out, yyjson_mut_val *object, cal_slice name,
                   cal_slice text); /* both copied, UTF-8 */
void json_add_null(json_out *out, yyjson_mut_val *object, const char *name);
void json_add_bool(json_out *out, yyjson_mut_val *object, const char *name, bool value);
void json_add_u64(json_out *out, yyjson_mut_val *object, const char *name, uint64_t value);
void json_add_base58(json_out *out, yyjson_mut_val *object, const char *name, const uint8_t id[32]);
void json_add_hex(json_out *out, yyjson_mut_val *object, const char *name, const uint8_t id[32]);
void json_add_bytes(json_out *out, yyjson_mut_val *object, const char *name,
                    cal_slice bytes); /* array of numbers */
void json_add_raw(json_out *out, yyjson_mut_val *object, const char *name,
                  cal_slice json); /* valid JSON; copied */
void json_push_text(json_out *out, yyjson_mut_val *array, const char *text);
void json_push_base58(json_out *out, yyjson_mut_val *array, const uint8_t id[32]);
void json_push_hex(json_out *out, yyjson_mut_val *array, const uint8_t id[32]);
int json_out_write(json_out *out,
                   cal_buffer *ret_text); /* appends and frees the document; CAL_ENOMEM */
void json_reply(http_exchange *exchange, int status, json_out *out); /* frees the document */

/* {"error": text}; and the same for a node's refusal: status and reason from the code and message.
 */
void json_reply_error(http_exchange *exchange, int status, const char *text);
void json_reply_refusal(http_exchange *exchange, const cal_error *err);
void json_reply_code(http_exchange *exchange, int code); /* a refusal that has no message */
void json_reply_data_null(http_exchange *exchange);      /* {"data":null} */

bool json_is_valid(cal_slice text);
bool json_has_type(const http_exchange *exchange); /* its Content-Type is JSON */

#endif
