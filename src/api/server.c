/* Starting and stopping a server, and its figures: include/calimero/server.h.
 *
 * Lifetimes: `core` lives on the loop thread from start until its connections are closed and every
 * handler has answered; the public handle outlives it until cal_server_stop. Whoever stops first,
 * the node (through its part) or the program, begins the stop; it happens once. */
#include "calimero/server.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/api.h"
#include "api/live.h"
#include "base/error.h"
#include "base/log.h"

enum {
    ORIGINS_MAX = 64,
    PREFIX_MAX = 128,
    STATUS_CLASSES = HTTP_STATUS_CLASSES,
    LABELS_MAX = 256,
    GRACE_MS = 10000,
    PING_S = 30,
    PONG_S = 10,
    POLL_MS = 20,
    TICK_MS = 250,
    SWEEP_MS = 10 * 60 * 1000
};

static const char *const DEFAULT_ADDRESSES[] = {"/ip4/127.0.0.1/tcp/2528", "/ip6/::1/tcp/2528"};

typedef struct server_core {
    api_state state;
    http_env env;
    http_route routes[API_ROWS_MAX];
    char *origins[ORIGINS_MAX];
    char prefix[PREFIX_MAX];
    api_listener *listener;
    uint32_t grace_ms;
    bool stopping;
    struct {
        metrics_series *count, *seconds;
    } figures[API_ROWS_MAX + 1][STATUS_CLASSES]; /* made when first met; the last row: no route */
    uint32_t ticks;
    uv_timer_t wait; /* the hub's ticks; while stopping: for handlers that have not answered */
    void (*stopped)(void *user);
    void *stopped_user;
    cal_server *server;
} server_core;

struct cal_server {
    cal_node *node;
    server_core *core; /* NULL: stopped. Loop thread */
    uv_sem_t stopped;
    char addresses[LISTENER_ADDRESSES_MAX][LISTENER_ADDRESS_TEXT_MAX];
    size_t address_count;
};

static uint64_t clock_us(void *user) {
    (void)user;
    return uv_hrtime() / 1000;
}

/* --- figures --- */

static const char *verb_name(http_verb verb) {
    switch (verb) {
    case HTTP_VERB_GET:
        return "GET";
    case HTTP_VERB_POST:
        return "POST";
    case HTTP_VERB_PUT:
        return "PUT";
    case HTTP_VERB_DELETE:
        return "DELETE";
    }
    return "OTHER";
}

static void on_answered(void *user, const http_route *route, http_verb verb, int status,
                        uint64_t duration_us) {
    server_core *core = CAL_CONTAINER_OF((api_state *)user, server_core, state);
    size_t row = route ? (size_t)(route - core->routes) : API_ROWS_MAX;
    size_t class = (size_t)status / 100 < STATUS_CLASSES ? (size_t)status / 100 : 5;
    metrics_series **count = &core->figures[row][class].count,
                   **seconds = &core->figures[row][class].seconds;
    if (!*count) {
        cal_buffer labels;
        cal_buffer_init(&labels, LABELS_MAX);
        metrics_label(&labels, "method", route ? verb_name(verb) : "OTHER");
        metrics_label(&labels, "path", route ? route->pattern : "");
        cal_buffer_printf(&labels, ",status=\"%zuxx\"", class);
        const char *text = cal_buffer_cstr(&labels);
        if (text) {
            *count = metrics_get(core->state.metrics, METRICS_COUNTER, "http_requests",
                                 "HTTP requests answered.", text);
            *seconds = metrics_get(
                core->state.metrics, METRICS_HISTOGRAM, "http_request_duration_seconds",
                "Time from the first byte of a request to the end of its answer.", text);
        }
        cal_buffer_deinit(&labels);
    }
    metrics_add(*count, 1);
    metrics_observe(*seconds, (double)duration_us / 1e6);
}

typedef struct server_figure {
    metrics_kind kind;
    const char *name, *help;
    double value;
} server_figure;

static void collect_node(void *user, cal_buffer *out) {
    server_core *core = user;
    cal_node_stats s;
    cal_node_stats_get(core->state.node, &s);
    const server_figure figures[] = {
        {METRICS_COUNTER, "calls", "Calls of applications.", (double)s.calls},
        {METRICS_COUNTER, "calls_failed", "Calls that failed.", (double)s.calls_failed},
        {METRICS_COUNTER, "calls_refused", "Calls refused because a queue was full.",
         (double)s.calls_refused},
        {METRICS_GAUGE, "calls_waiting", "Calls waiting.", (double)s.calls_waiting},
        {METRICS_COUNTER, "call_seconds", "Time spent in calls.", (double)s.call_ns_total / 1e9},
        {METRICS_COUNTER, "guest_gas", "Gas that applications used.", (double)s.guest_gas_total},
        {METRICS_GAUGE, "modules_loaded", "Compiled modules in memory.", (double)s.modules_loaded},
        {METRICS_COUNTER, "dag_compaction_deltas_pruned",
         "Deltas of contexts whose content was taken away.", (double)s.deltas_compacted},
        {METRICS_COUNTER, "modules_compiled", "Modules compiled.", (double)s.modules_compiled},
        {METRICS_COUNTER, "store_batches", "Batches written to the store.",
         (double)s.store_batches},
        {METRICS_COUNTER, "store_transactions", "Durable transactions of the store.",
         (double)s.store_transactions},
        {METRICS_COUNTER, "store_flush_seconds", "Time spent making writes durable.",
         (double)s.store_flush_ns_total / 1e9},
        {METRICS_GAUGE, "store_bytes", "Size of the store on disk.", (double)s.store_bytes},
        {METRICS_COUNTER, "store_damaged", "Operations that met damage.", (double)s.store_damaged},
        {METRICS_COUNTER, "store_failed", "Batches that failed.", (double)s.store_failed},
        {METRICS_COUNTER, "events", "Events of applications.", (double)s.events},
        {METRICS_COUNTER, "loop_turns", "Turns of the node's loop.", (double)s.loop_turns},
        {METRICS_COUNTER, "loop_busy_seconds", "Time the loop was busy.",
         (double)s.loop_busy_ns_total / 1e9},
        {METRICS_COUNTER, "loop_late", "Turns of the loop of more than 5 ms.", (double)s.loop_late},
        {METRICS_COUNTER, "loop_late_by_itself",
         "Turns of the loop that used more than 5 ms of processor time.",
         (double)s.loop_late_by_itself},
        {METRICS_GAUGE, "loop_longest_seconds", "The longest turn of the loop.",
         (double)s.loop_longest_ns / 1e9},
        {METRICS_GAUGE, "loop_longest_processor_seconds",
         "The most processor time of a turn of the loop.",
         (double)s.loop_longest_processor_ns / 1e9},
        {METRICS_GAUGE, "http_connections", "Open HTTP connections.",
         core->listener ? (double)api_listener_connections(core->listener) : 0},
    };
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        metrics_write_head(out, figures[i].kind, figures[i].name, figures[i].help);
        metrics_write_value(out, figures[i].kind, figures[i].name, "", figures[i].value);
    }
    metrics_write_head(out, METRICS_GAUGE, "merod_build_info", "What is running.");
    cal_buffer labels;
    cal_peer_id id;
    char peer_id[CAL_PEER_ID_TEXT_MAX];
    cal_node_peer_id(core->state.node, &id);
    cal_peer_id_text(&id, peer_id);
    cal_buffer_init(&labels, LABELS_MAX);
    metrics_label(&labels, "version", cal_version());
    metrics_label(&labels, "peer_id", peer_id);
    const char *text = cal_buffer_cstr(&labels);
    if (text) metrics_write_value(out, METRICS_GAUGE, "merod_build_info", text, 1);
    cal_buffer_deinit(&labels);
}

/* --- starting --- */

static void core_free(server_core *core) {
    if (!core) return;
    live_free(core->state.live);
    metrics_free(core->state.metrics);
    for (size_t i = 0; i < core->env.policy.allowed_origin_count; i++) free(core->origins[i]);
    free(core);
}

static int take_options(server_core *core, const cal_server_options *options, cal_error *err) {
    const char *prefix = options->path_prefix ? options->path_prefix : getenv("NODE_PATH_PREFIX");
    size_t len = prefix ? strlen(prefix) : 0;
    while (len > 0 && prefix[len - 1] == '/') len--;
    if (len >= PREFIX_MAX || (len > 0 && prefix[0] != '/'))
        return cal_fail(
            err, CAL_EINVAL,
            "path prefix '%.100s' must start with '/' and be shorter than %d characters", prefix,
            PREFIX_MAX);
    if (len) memcpy(core->prefix, prefix, len);
    if (options->allowed_origin_count > ORIGINS_MAX)
        return cal_fail(err, CAL_ELIMIT, "at most %d allowed origins", ORIGINS_MAX);
    for (size_t i = 0; i < options->allowed_origin_count; i++) {
        if (strcmp(options->allowed_origins[i], "*") == 0)
            return cal_fail(err, CAL_EINVAL,
                            "allowed origin '*' would let every web page drive this node: name the "
                            "origins, as in https://app.example.com");
        core->origins[i] = strdup(options->allowed_origins[i]);
        if (!core->origins[i]) return cal_fail(err, CAL_ENOMEM, "out of memory");
        core->env.policy.allowed_origin_count = i + 1;
    }
    const bool off[] = {false, options->no_admin, options->no_jsonrpc || options->read_only,
                        options->no_websocket, options->no_sse};
    size_t row_count;
    const api_row *rows = api_rows(&row_count);
    core->state.read_only = options->read_only;
    for (size_t i = 0; i < row_count; i++) {
        if (off[rows[i].part]) continue;
        http_route *route = &core->routes[core->env.route_count++];
        *route = rows[i].route;
        if (rows[i].writes && options->read_only) route->handle = api_refuse_write;
    }
    bool no_pings = options->ping_interval_s == UINT32_MAX;
    core->env.ws_ping_interval_ms =
        no_pings ? 0 : 1000 * (options->ping_interval_s ? options->ping_interval_s : PING_S);
    core->env.ws_pong_timeout_ms =
        1000 * (options->pong_timeout_s ? options->pong_timeout_s : PONG_S);
    core->grace_ms = options->stop_grace_ms ? options->stop_grace_ms : GRACE_MS;
    return 0;
}

static int listen_on(server_core *core, const cal_server_options *options, cal_error *err) {
    bool given = options->address_count > 0;
    api_listener_options listener = {
        .addresses = given ? options->addresses : DEFAULT_ADDRESSES,
        .address_count =
            given ? options->address_count : sizeof DEFAULT_ADDRESSES / sizeof *DEFAULT_ADDRESSES,
        .any_address = options->allow_unauthenticated,
        .connections_max = options->connections_max,
    };
    return api_listener_start(cal_node_loop(core->state.node), &core->env, &listener,
                              &core->listener, err);
}

static void part_stop(void *user, void (*done)(void *done_user), void *done_user);

static void on_tick(uv_timer_t *timer) {
    server_core *core = timer->data;
    live_share_look(core->state.live);
    if (++core->ticks % (SWEEP_MS / TICK_MS) == 0) live_tick(core->state.live);
}

static int core_start(cal_server *server, const cal_server_options *options, cal_error *err) {
    server_core *core = calloc(1, sizeof *core);
    if (!core) return cal_fail(err, CAL_ENOMEM, "out of memory");
    core->server = server;
    core->state.node = server->node;
    core->state.metrics = metrics_new();
    core->env = (http_env){.routes = core->routes,
                           .prefix = core->prefix,
                           .policy = {.allowed_origins = (const char *const *)core->origins,
                                      .any_host = options->allow_unauthenticated},
                           .timeouts = http_timeouts_default,
                           .clock_us = clock_us,
                           .user = &core->state,
                           .answered = on_answered};
    int error = core->state.metrics ? take_options(core, options, err)
                                    : cal_fail(err, CAL_ENOMEM, "out of memory");
    if (!error) error = metrics_collect(core->state.metrics, metrics_collect_process, NULL);
    if (!error) error = metrics_collect(core->state.metrics, collect_node, core);
    if (!error) error = metrics_collect(core->state.metrics, network_collect, core->state.node);
    if (!error) {
        core->state.live = live_new(&core->state, err);
        if (!core->state.live) error = err ? err->code : CAL_ENOMEM;
    }
    if (!error) error = listen_on(core, options, err);
    if (error) {
        core_free(core);
        return error;
    }
    uv_timer_init(cal_node_loop(server->node), &core->wait);
    core->wait.data = core;
    uv_timer_start(&core->wait, on_tick, TICK_MS, TICK_MS);
    server->core = core;
    for (const char *text; (text = api_listener_address(core->listener, server->address_count));)
        snprintf(server->addresses[server->address_count++], LISTENER_ADDRESS_TEXT_MAX, "%s", text);
    const cal_node_part part = {server, part_stop};
    error = cal_node_attach(server->node, &part);
    if (error)
        cal_log(CAL_LOG_WARN, "api", "the node will not stop the server by itself: %s",
                cal_error_text(error));
    return 0;
}

/* --- stopping --- */

static void on_wait_closed(uv_handle_t *handle) {
    server_core *core = handle->data;
    void (*stopped)(void *) = core->stopped;
    void *user = core->stopped_user;
    cal_node_detach(core->server->node, core->server);
    core->server->core = NULL;
    core_free(core);
    stopped(user);
}

/* Handlers whose clients are gone still wait for the node: it calls back soon, and only then may
 * their memory go. */
static void on_wait(uv_timer_t *timer) {
    server_core *core = timer->data;
    if (core->env.unanswered > 0 || core->state.calls > 0) return;
    uv_close((uv_handle_t *)&core->wait, on_wait_closed);
}

static void on_listener_stopped(void *user) {
    server_core *core = user;
    core->listener = NULL;
    uv_timer_start(&core->wait, on_wait, 0, POLL_MS);
}

static void core_stop(server_core *core, void (*stopped)(void *user), void *user) {
    assert(!core->stopping);
    core->stopping = true;
    core->stopped = stopped;
    core->stopped_user = user;
    live_stop(core->state.live);
    api_listener_stop(core->listener, core->grace_ms, on_listener_stopped, core);
}

typedef struct part_stopping {
    cal_server *server;
    void (*done)(void *user);
    void *user;
} part_stopping;

static void on_part_stopped(void *user) {
    part_stopping stopping = *(part_stopping *)user;
    free(user);
    uv_sem_post(&stopping.server->stopped);
    stopping.done(stopping.user);
}

static void part_stop(void *user, void (*done)(void *done_user), void *done_user) {
    cal_server *server = user;
    part_stopping *stopping =
        server->core && !server->core->stopping ? malloc(sizeof *stopping) : NULL;
    if (!stopping) {
        done(done_user);
        return;
    }
    *stopping = (part_stopping){server, done, done_user};
    core_stop(server->core, on_part_stopped, stopping);
}

static void on_stopped(void *user) { uv_sem_post(&((cal_server *)user)->stopped); }

static void begin_stop(void *arg) {
    cal_server *server = arg;
    if (server->core && !server->core->stopping) core_stop(server->core, on_stopped, server);
}

/* --- public --- */

typedef struct start_args {
    cal_server *server;
    const cal_server_options *options;
    cal_error *err;
    int result;
} start_args;

static void start_on_loop(void *arg) {
    start_args *args = arg;
    args->result = core_start(args->server, args->options, args->err);
}

int cal_server_start(cal_node *node, const cal_server_options *options, cal_server **ret_server,
                     cal_error *err) {
    static const cal_server_options defaults;
    cal_error local;
    cal_server *server = calloc(1, sizeof *server);
    if (!server) return cal_fail(err, CAL_ENOMEM, "out of memory");
    server->node = node;
    if (uv_sem_init(&server->stopped, 0) != 0) {
        free(server);
        return cal_fail(err, CAL_ENOMEM, "out of memory");
    }
    start_args args = {server, options ? options : &defaults, err ? err : &local, 0};
    cal_node_run(node, start_on_loop, &args);
    if (args.result) {
        uv_sem_destroy(&server->stopped);
        free(server);
        return args.result;
    }
    *ret_server = server;
    return 0;
}

void cal_server_stop(cal_server *server) {
    if (!server) return;
    /* A node that stopped has stopped the server, and posted: the node must not be touched any
     * more. */
    if (uv_sem_trywait(&server->stopped) != 0) {
        cal_node_run(server->node, begin_stop, server);
        uv_sem_wait(&server->stopped);
    }
    uv_sem_destroy(&server->stopped);
    free(server);
}

const char *cal_server_address(cal_server *server, size_t index) {
    return index < server->address_count ? server->addresses[index] : NULL;
}
