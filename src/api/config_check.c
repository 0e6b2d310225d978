/* What must hold before a node starts, see cal_config_check. Specification: http-api.md 11. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "api/config_internal.h"
#include "base/error.h"
#include "base/log.h"

enum {
    ADDRESSES_MAX = 64,
    PASSWORD_MAX = 4096,
    EXPIRY_MAX = INT32_MAX,
    COMPACTION_MAX = INT32_MAX
};

/* Whole numbers with a range. An absent key has its default, which is in range. */
typedef struct bound {
    const char *key;
    uint64_t min, max;
} bound;

static const bound bounds[] = {
    {"sync.timeout_ms", 1000, 300000},
    {"sync.session_deadline_ms", 1000, 600000},
    {"sync.interval_ms", 100, 3600000},
    {"sync.frequency_ms", 100, 3600000},
    {"discovery.rendezvous.registrations_limit", 1, 100},
    {"discovery.relay.registrations_limit", 1, 100},
    {"discovery.autonat.max_candidates", 1, 1000},
    {"server.embedded_auth.jwt.access_token_expiry", 1, EXPIRY_MAX},
    {"server.embedded_auth.jwt.refresh_token_expiry", 1, EXPIRY_MAX},
    {"server.embedded_auth.user_password.min_password_length", 1, PASSWORD_MAX},
    {"server.embedded_auth.user_password.max_password_length", 1, PASSWORD_MAX},
    {"dag_compaction.min_deltas_before_compact", 1, COMPACTION_MAX},
    {"dag_compaction.retain_recent_count", 0, COMPACTION_MAX},
    {"dag_compaction.check_interval", 1, COMPACTION_MAX},
};

/* "KEY is VALUE but must be ..." */
static int refuse(const cal_config *c, const char *key, const char *must, cal_error *err) {
    char *text = yyjson_val_write(config_at(c->root, key), 0, NULL);
    int code =
        cal_fail(err, CAL_EINVAL, "%s is %s but must be %s", key, text ? text : "missing", must);
    free(text);
    return code;
}

static int check_bounds(const cal_config *c, cal_error *err) {
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
        const bound *b = &bounds[i];
        yyjson_val *value = config_at(c->root, b->key);
        if (!value || (yyjson_is_uint(value) && yyjson_get_uint(value) >= b->min &&
                       yyjson_get_uint(value) <= b->max))
            continue;
        char must[64];
        snprintf(must, sizeof must, "a whole number from %llu to %llu", (unsigned long long)b->min,
                 (unsigned long long)b->max);
        return refuse(c, b->key, must, err);
    }
    return 0;
}

/* The number at key, or its default. */
static uint64_t number_at(const cal_config *c, const char *key, uint64_t absent) {
    yyjson_val *value = config_at(c->root, key);
    return yyjson_is_uint(value) ? yyjson_get_uint(value) : absent;
}

/* { secs = 15, nanos = 0 } */
static int check_interval(const cal_config *c, const char *key, cal_error *err) {
    yyjson_val *value = config_at(c->root, key);
    yyjson_val *secs = yyjson_obj_get(value, "secs"), *nanos = yyjson_obj_get(value, "nanos");
    if (!value) return 0;
    bool whole =
        (!secs || yyjson_is_uint(secs)) && (!nanos || yyjson_is_uint(nanos)) && (secs || nanos);
    if (whole && (yyjson_get_uint(secs) > 0 || yyjson_get_uint(nanos) > 0)) return 0;
    return refuse(c, key, "{ secs = S, nanos = N } and longer than nothing", err);
}

static int check_discovery(const cal_config *c, cal_error *err) {
    static const char rpm_key[] = "discovery.rendezvous.discovery_rpm";
    yyjson_val *rpm = config_at(c->root, rpm_key);
    double per_minute = yyjson_get_num(rpm);
    if (rpm && !(yyjson_is_num(rpm) && isfinite(per_minute) && per_minute > 0))
        return refuse(c, rpm_key, "a finite number greater than 0", err);
    int error = check_interval(c, "discovery.rendezvous.discovery_interval", err);
    return error ? error : check_interval(c, "discovery.autonat.probe_interval", err);
}

static int check_websocket(const cal_config *c, cal_error *err) {
    enum { PING_MIN_S = 5, PING_MAX_S = 86400, PING_DEFAULT_S = 30, PONG_DEFAULT_S = 10 };
    static const char ping_key[] = "server.websocket.ping_interval_secs",
                      pong_key[] = "server.websocket.pong_timeout_secs";
    uint64_t ping = number_at(c, ping_key, PING_DEFAULT_S),
             pong = number_at(c, pong_key, PONG_DEFAULT_S);
    if ((ping > 0 && ping < PING_MIN_S) || ping > PING_MAX_S)
        return refuse(c, ping_key, "0 (no pings) or from 5 to 86400", err);
    if (ping > 0 && pong >= ping)
        return cal_fail(err, CAL_EINVAL, "%s is %llu but must be less than %s, which is %llu",
                        pong_key, (unsigned long long)pong, ping_key, (unsigned long long)ping);
    return 0;
}

/* Pairs whose order matters: the first must be less than the second. */
static int check_order(const cal_config *c, cal_error *err) {
    static const struct {
        const char *less, *more;
        uint64_t less_default, more_default;
        const char *under; /* only when this table is there; NULL: always */
    } pairs[] = {
        {"server.embedded_auth.jwt.access_token_expiry",
         "server.embedded_auth.jwt.refresh_token_expiry", 3600, 2592000, "server.embedded_auth"},
        {"server.embedded_auth.user_password.min_password_length",
         "server.embedded_auth.user_password.max_password_length", 8, 128, "server.embedded_auth"},
        {"dag_compaction.retain_recent_count", "dag_compaction.min_deltas_before_compact", 1000,
         10000, NULL},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        if (pairs[i].under && !config_at(c->root, pairs[i].under)) continue;
        uint64_t less = number_at(c, pairs[i].less, pairs[i].less_default);
        uint64_t more = number_at(c, pairs[i].more, pairs[i].more_default);
        if (less >= more)
            return cal_fail(err, CAL_EINVAL, "%s is %llu but must be less than %s, which is %llu",
                            pairs[i].less, (unsigned long long)less, pairs[i].more,
                            (unsigned long long)more);
    }
    return 0;
}

static int check_authentication(const cal_config *c, cal_error *err) {
    static const char issuer_key[] = "server.embedded_auth.jwt.issuer";
    const char *issuer = yyjson_get_str(config_at(c->root, issuer_key));
    if (cal_config_wants_authentication(c) && !config_at(c->root, "server.embedded_auth"))
        return cal_fail(err, CAL_EINVAL,
                        "server.auth_mode is \"embedded\" but there is no [server.embedded_auth]: "
                        "add it, or say \"proxy\"");
    if (issuer && strspn(issuer, " \t") == strlen(issuer))
        return refuse(c, issuer_key, "a name", err);
    return 0;
}

/* --- ports --- */

typedef struct listened {
    const char *key, *text;
    config_address address;
} listened;

static bool hosts_overlap(const config_address *a, const config_address *b) {
    if (strcmp(a->host, b->host) == 0) return true;
    if (a->ip4 && b->ip4) return strcmp(a->host, "0.0.0.0") == 0 || strcmp(b->host, "0.0.0.0") == 0;
    if (a->ip6 && b->ip6) return strcmp(a->host, "::") == 0 || strcmp(b->host, "::") == 0;
    return false;
}

static int collect(const cal_config *c, const char *key, listened *ret_all, size_t *count,
                   cal_error *err) {
    const char *example =
        strcmp(key, "swarm.listen") == 0 ? "/ip4/0.0.0.0/tcp/2428" : "/ip4/127.0.0.1/tcp/2528";
    yyjson_val *list = config_at(c->root, key), *item;
    size_t i, n;
    if (list && !yyjson_is_arr(list))
        return cal_fail(err, CAL_EINVAL, "%s must be a list of addresses like \"%s\"", key,
                        example);
    yyjson_arr_foreach(list, i, n, item) {
        const char *text = yyjson_get_str(item);
        if (*count == ADDRESSES_MAX)
            return cal_fail(err, CAL_EINVAL, "%s has more than %d addresses", key, ADDRESSES_MAX);
        if (!text || config_address_parse(text, &ret_all[*count].address) != 0)
            return cal_fail(err, CAL_EINVAL, "%s holds %s, which is no address like \"%s\"", key,
                            text ? text : "something", example);
        ret_all[*count].key = key;
        ret_all[(*count)++].text = text;
    }
    return 0;
}

static int check_ports(const cal_config *c, cal_error *err) {
    listened all[ADDRESSES_MAX];
    size_t count = 0;
    int error = collect(c, "swarm.listen", all, &count, err);
    if (error == 0) error = collect(c, "server.listen", all, &count, err);
    if (error) return error;
    bool udp = false;
    for (size_t i = 0; i < count; i++) {
        const config_address *a = &all[i].address;
        bool server = strcmp(all[i].key, "server.listen") == 0;
        udp = udp || a->udp;
        if (server && (!a->tcp || !a->exact || (!a->ip4 && !a->ip6)))
            return cal_fail(err, CAL_EINVAL,
                            "server.listen holds %s but each must be /ip4/ADDRESS/tcp/PORT or "
                            "/ip6/ADDRESS/tcp/PORT",
                            all[i].text);
        for (size_t j = 0; j < i; j++) {
            const config_address *b = &all[j].address;
            if (a->port != 0 && a->tcp == b->tcp && a->port == b->port && hosts_overlap(a, b))
                return cal_fail(err, CAL_EINVAL,
                                "%s %s clashes with %s %s: each port can be listened on once",
                                all[i].key, all[i].text, all[j].key, all[j].text);
        }
    }
    if (udp)
        cal_log(CAL_LOG_WARN, "config",
                "swarm.listen: UDP and QUIC addresses are left out until this node speaks QUIC");
    return 0;
}

static int check_boot_nodes(const cal_config *c, cal_error *err) {
    const cal_network_options *network = &c->node.network;
    for (size_t i = 0; i < network->bootstrap_count; i++) {
        cal_error why;
        if (cal_multiaddr_dialable(network->bootstrap[i], &why) == CAL_EINVAL)
            return cal_fail(err, CAL_EINVAL, "bootstrap.nodes holds %s", why.message);
    }
    return 0;
}

/* --- folders --- */

/* The folder, or when it is missing its parent, must take files. */
static int check_folder(const cal_config *c, const char *key, const char *absent, cal_error *err) {
    char path[CONFIG_PATH_MAX];
    const char *text = yyjson_get_str(config_at(c->root, key)), *name = text ? text : absent;
    int len = snprintf(path, sizeof path, "%s%s%s", name[0] == '/' ? "" : c->home,
                       name[0] == '/' ? "" : "/", name);
    if (len < 0 || (size_t)len >= sizeof path) return refuse(c, key, "shorter", err);
    if (strcmp(name, absent) != 0)
        cal_log(CAL_LOG_WARN, "config", "%s has no effect: this node keeps everything under %s",
                key, c->home);
    if (access(path, F_OK) == 0) {
        if (access(path, R_OK | W_OK | X_OK) == 0) return 0;
        return cal_fail(err, CAL_EINVAL, "%s: %s cannot be written", key, path);
    }
    char *slash = strrchr(path, '/');
    if (slash) *slash = 0;
    if (access(path[0] ? path : "/", R_OK | W_OK | X_OK) == 0) return 0;
    return cal_fail(err, CAL_EINVAL, "%s: the folder %s is missing or cannot be written", key,
                    path);
}

int cal_config_check(const cal_config *c, cal_error *err) {
    int error = check_ports(c, err);
    if (error == 0) error = check_boot_nodes(c, err);
    if (error == 0) error = check_folder(c, "datastore.path", "data", err);
    if (error == 0) error = check_folder(c, "blobstore.path", "blobs", err);
    if (error == 0) error = check_authentication(c, err);
    if (error == 0) error = check_bounds(c, err);
    if (error == 0) error = check_order(c, err);
    if (error == 0) error = check_discovery(c, err);
    if (error == 0) error = check_websocket(c, err);
    return error ? cal_fail_context(err, error, "%s/config.toml", c->home) : 0;
}
