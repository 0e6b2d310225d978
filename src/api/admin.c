/* Health, identity, usage, aliases: the small rows of http-api.md 4, 5.3 and 5.7. */
#include "api/api.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

#include "codec/text.h"
#include "crypto/crypto.h"

enum { ALIAS_MAX = 50, KEY_ROW_MAX = 96 };

/* --- shared by the handlers --- */

bool api_param_id(http_exchange *exchange, const char *name, const char *what, uint8_t ret_id[32]) {
    const char *text = http_param(exchange, name);
    if (cal_id_parse(text, ret_id) == 0) return true;
    if (what)
        json_reply_error(exchange, 400, what);
    else {
        char fault[160], message[256];
        snprintf(message, sizeof message, "Invalid URL: Cannot parse `%s` with value `%.64s`: %s",
                 name, text, json_id_fault(text, fault, sizeof fault));
        http_reply_text(exchange, 400, message);
    }
    return false;
}

static bool read_number(http_exchange *exchange, const char *name, uint64_t *value, uint64_t max) {
    const char *text = http_query(exchange, name);
    if (!text) return true;
    char *end;
    errno = 0;
    unsigned long long number = isdigit((unsigned char)text[0]) ? strtoull(text, &end, 10) : 0;
    if (!isdigit((unsigned char)text[0]) || *end || errno) {
        char message[128];
        snprintf(message, sizeof message,
                 "Failed to deserialize query string: %s: invalid digit found in string", name);
        http_reply_text(exchange, 400, message);
        return false;
    }
    *value = number < max ? number : max;
    return true;
}

bool api_page_read(http_exchange *exchange, api_page *ret_page) {
    api_page page = {.limit = API_PAGE_DEFAULT};
    if (!read_number(exchange, "offset", &page.offset, API_OFFSET_MAX) ||
        !read_number(exchange, "limit", &page.limit, API_PAGE_MAX))
        return false;
    *ret_page = page;
    return true;
}

bool api_page_takes(api_page *page) {
    uint64_t at = page->seen++;
    return at >= page->offset && at - page->offset < page->limit;
}

void api_done_null(void *exchange, const cal_error *err) {
    if (err)
        json_reply_refusal(exchange, err);
    else
        json_reply_data_null(exchange);
}

void api_refuse_write(http_exchange *exchange) { json_reply_error(exchange, 403, API_READ_ONLY); }

/* --- health --- */

static void reply_status(http_exchange *exchange, int status, const char *word) {
    json_out out = json_out_new();
    json_add_text(&out, json_out_data(&out), "status", word);
    json_reply(exchange, status, &out);
}

void admin_health(http_exchange *exchange) {
    bool well = cal_node_health(api_node(exchange)) == 0;
    reply_status(exchange, well ? 200 : 503, well ? "alive" : "store_unavailable");
}

void admin_ready(http_exchange *exchange) {
    cal_node *node = api_node(exchange);
    if (cal_node_stopping(node))
        reply_status(exchange, 503, "shutting_down");
    else if (cal_node_health(node) != 0)
        reply_status(exchange, 503, "store_unavailable");
    else
        reply_status(exchange, 200, "ready");
}

void admin_is_authed(http_exchange *exchange) { reply_status(exchange, 200, "alive"); }

/* Nothing writes a certificate: TLS ends at a reverse proxy (http-api.md 1). */
void admin_certificate(http_exchange *exchange) {
    http_reply_text(exchange, 404, "Certificate not found");
}

void admin_metrics(http_exchange *exchange) {
    cal_buffer text;
    cal_buffer_init(&text, METRICS_TEXT_MAX);
    metrics_render(((api_state *)http_user(exchange))->metrics, &text);
    if (text.error)
        json_reply_code(exchange, text.error);
    else
        http_reply(exchange, 200, "text/plain; charset=utf-8", cal_buffer_slice(&text));
    cal_buffer_deinit(&text);
}

/* --- identity --- */

void admin_identity(http_exchange *exchange) {
    cal_node_identity identity;
    cal_node_identity_get(api_node(exchange), &identity);
    json_out out = json_out_new();
    yyjson_mut_val *data = json_out_data(&out);
    json_add_hex(&out, data, "accountId", identity.account.bytes);
    json_add_hex(&out, data, "deviceId", identity.device.bytes);
    json_add_base58(&out, data, "publicKey", identity.public_key.bytes);
    json_add_hex(&out, data, "accountRootPublicKey", identity.account_root_key.bytes);
    json_reply(exchange, 200, &out);
}

static void on_key_kept(void *user, const cal_error *err) {
    http_exchange *exchange = user;
    if (err) {
        ((api_state *)http_user(exchange))->identities_counted = false;
        json_reply_refusal(exchange, err);
        return;
    }
    json_out out = json_out_new();
    json_add_text(&out, json_out_data(&out), "publicKey", http_get_user(exchange));
    json_reply(exchange, 200, &out);
}

static void count_identity(void *user, const char *key, cal_slice value) {
    (void)key, (void)value;
    ++*(size_t *)user;
}

/* Takes one of the places for keypairs; false: answered. */
static bool take_identity(http_exchange *exchange) {
    api_state *state = http_user(exchange);
    if (!state->identities_counted) {
        size_t count = 0;
        int error = cal_node_row_each(state->node, "identity/", count_identity, &count);
        if (error) {
            json_reply_code(exchange, error);
            return false;
        }
        state->identities = count;
        state->identities_counted = true;
    }
    if (state->identities >= API_IDENTITIES_MAX) {
        char text[128];
        snprintf(
            text, sizeof text,
            "this node already keeps %d context identities, and makes no more: use one of them",
            API_IDENTITIES_MAX);
        json_reply_error(exchange, 503, text);
        return false;
    }
    state->identities++;
    return true;
}

/* A keypair that the node keeps, for a context to come. */
void admin_identity_create(http_exchange *exchange) {
    if (!take_identity(exchange)) return;
    cal_secret seed;
    uint8_t public_key[32];
    char text[CAL_ID_TEXT_MAX], row[KEY_ROW_MAX];
    cal_random(cal_node_os(api_node(exchange)), seed.bytes, sizeof seed.bytes);
    cal_sign_public_key(&seed, public_key);
    cal_id_to_base58(public_key, text);
    snprintf(row, sizeof row, "identity/%s", text);
    http_set_user(exchange, cal_arena_text(http_arena(exchange), cal_slice_text(text)));
    if (http_get_user(exchange))
        cal_node_row_put(api_node(exchange), row, cal_slice_of(seed.bytes, sizeof seed.bytes),
                         on_key_kept, exchange);
    else
        json_reply_code(exchange, CAL_ENOMEM);
    cal_secret_wipe(&seed);
}

/* --- usage --- */

typedef struct usage_listing {
    http_exchange *exchange;
    json_out out;
    yyjson_mut_val *into;
} usage_listing;

static void visit_usage(void *user, const cal_namespace_usage *usage) {
    usage_listing *list = user;
    json_out *out = &list->out;
    yyjson_mut_val *item = json_push_object(out, list->into);
    json_add_hex(out, item, "namespaceId", usage->id.bytes);
    json_add_u64(out, item, "contextCount", usage->contexts);
    json_add_u64(out, item, "memberCount", usage->members);
    json_add_u64(out, item, "subgroupCount", usage->subgroups);
    yyjson_mut_val *bytes = json_add_object(out, item, "bytes");
    json_add_u64(out, bytes, "state", usage->state);
    json_add_u64(out, bytes, "privateState", usage->private_state);
    json_add_u64(out, bytes, "delta", usage->delta);
    json_add_u64(out, bytes, "governance", usage->governance);
    json_add_u64(out, bytes, "total",
                 usage->state + usage->private_state + usage->delta + usage->governance);
}

static void on_usage(void *user, const cal_error *err) {
    usage_listing *list = user;
    if (!err) {
        json_reply(list->exchange, 200, &list->out);
    } else {
        yyjson_mut_doc_free(list->out.doc);
        json_reply_refusal(list->exchange, err);
    }
    free(list);
}

void admin_usage(http_exchange *exchange) {
    usage_listing *list = malloc(sizeof *list);
    if (!list) {
        json_reply_code(exchange, CAL_ENOMEM);
        return;
    }
    *list = (usage_listing){.exchange = exchange, .out = json_out_new()};
    list->into = json_add_array(&list->out, list->out.root, "namespaces");
    cal_namespace_usage_each(api_node(exchange), visit_usage, on_usage, list);
}

typedef struct listing {
    json_out out;
    yyjson_mut_val *into;
} listing;

/* --- aliases --- */

static bool is_alias(const char *text) {
    size_t len = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    return len >= 1 && len <= ALIAS_MAX && text[len] == 0;
}

static void on_alias_created(void *user, const cal_error *err) {
    if (err && err->code == CAL_EEXISTS)
        json_reply_error(user, 409, "alias already exists");
    else
        api_done_null(user, err);
}

static void alias_create(http_exchange *exchange, cal_alias_kind kind, const char *field) {
    json_in in;
    uint8_t id[32];
    if (!json_open(&in, exchange, JSON_PLAIN, false)) return;
    const char *alias = json_text(&in, json_top(&in), "alias", true);
    json_id(&in, json_top(&in), field, true, id);
    if (alias && !is_alias(alias))
        json_fault(&in, "alias: 1 to %d characters of A-Z, a-z, 0-9, '.', '_' and '-' are allowed",
                   ALIAS_MAX);
    if (!json_ok(&in)) return;
    cal_alias_create(api_node(exchange), kind, alias, id, on_alias_created, exchange);
    json_close(&in);
}

static void alias_lookup(http_exchange *exchange, cal_alias_kind kind) {
    uint8_t id[32];
    const char *name = http_param(exchange, "name");
    int error =
        is_alias(name) ? cal_alias_lookup(api_node(exchange), kind, name, id) : CAL_ENOTFOUND;
    if (error && error != CAL_ENOTFOUND) {
        json_reply_code(exchange, error);
        return;
    }
    json_out out = json_out_new();
    yyjson_mut_val *data = json_out_data(&out);
    if (error)
        json_add_null(&out, data, "value");
    else
        json_add_base58(&out, data, "value", id);
    json_reply(exchange, 200, &out);
}

static void alias_delete(http_exchange *exchange, cal_alias_kind kind) {
    const char *name = http_param(exchange, "name");
    if (is_alias(name))
        cal_alias_delete(api_node(exchange), kind, name, api_done_null, exchange);
    else
        json_reply_data_null(exchange); /* there is no such alias, as after deleting it */
}

static void visit_alias(void *user, const char *name, const uint8_t id[CAL_ID_SIZE]) {
    listing *list = user;
    char text[CAL_ID_TEXT_MAX];
    cal_id_to_base58(id, text);
    yyjson_mut_val *key = yyjson_mut_strcpy(list->out.doc, name),
                   *value = yyjson_mut_strcpy(list->out.doc, text);
    if (!key || !value || !yyjson_mut_obj_add(list->into, key, value)) list->out.root = NULL;
}

static void alias_list(http_exchange *exchange, cal_alias_kind kind) {
    listing list = {.out = json_out_new()};
    list.into = json_out_data(&list.out);
    int error = cal_alias_each(api_node(exchange), kind, visit_alias, &list);
    if (error) list.out.root = NULL;
    json_reply(exchange, 200, &list.out);
}

void admin_alias_create_context(http_exchange *exchange) {
    alias_create(exchange, CAL_ALIAS_CONTEXT, "contextId");
}
void admin_alias_create_application(http_exchange *exchange) {
    alias_create(exchange, CAL_ALIAS_APPLICATION, "applicationId");
}
void admin_alias_lookup_context(http_exchange *exchange) {
    alias_lookup(exchange, CAL_ALIAS_CONTEXT);
}
void admin_alias_lookup_application(http_exchange *exchange) {
    alias_lookup(exchange, CAL_ALIAS_APPLICATION);
}
void admin_alias_delete_context(http_exchange *exchange) {
    alias_delete(exchange, CAL_ALIAS_CONTEXT);
}
void admin_alias_delete_application(http_exchange *exchange) {
    alias_delete(exchange, CAL_ALIAS_APPLICATION);
}
void admin_alias_list_context(http_exchange *exchange) { alias_list(exchange, CAL_ALIAS_CONTEXT); }
void admin_alias_list_application(http_exchange *exchange) {
    alias_list(exchange, CAL_ALIAS_APPLICATION);
}
