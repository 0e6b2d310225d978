/* Our peer for discovery.py: finds others by mDNS, Kademlia and rendezvous, and gossips; does what
 * JSON lines on its standard input say, as peer.c does. Arguments: mdns=yes, listen=MULTIADDR. Uses
 * nothing but calimero/p2p.h (JSON and hash apart). */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yyjson.h>

#include "calimero/p2p.h"
#include "codec/text.h"
#include "crypto/crypto.h"

enum { LINE_MAX_LEN = 8192 };
static cal_p2p *host;

typedef struct command {
    yyjson_doc *doc;
    yyjson_val *root;
    int64_t id;
    yyjson_mut_doc *answer; /* built up until it is said */
    yyjson_mut_val *list;
} command;

/* --- saying --- */

static void say(yyjson_mut_doc *doc) {
    char *text = yyjson_mut_write(doc, 0, NULL);
    if (!text) abort();
    puts(text);
    fflush(stdout);
    free(text);
    yyjson_mut_doc_free(doc);
}

static yyjson_mut_doc *event_new(const char *event) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_str(doc, root, "event", event);
    return doc;
}

static void add_peer(yyjson_mut_doc *doc, yyjson_mut_val *to, const cal_peer_id *peer) {
    char text[CAL_PEER_ID_TEXT_MAX];
    cal_peer_id_text(peer, text);
    yyjson_mut_obj_add_strcpy(doc, to, "peer", text);
}

static void add_addresses(yyjson_mut_doc *doc, yyjson_mut_val *to, const cal_multiaddr *addresses,
                          size_t count) {
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, to, "addresses");
    for (size_t i = 0; i < count; i++) {
        char text[CAL_MULTIADDR_TEXT_MAX];
        cal_multiaddr_text(&addresses[i], text);
        yyjson_mut_arr_add_strcpy(doc, list, text);
    }
}

/* Answers and frees the command. */
static void done(command *c, int code) {
    yyjson_mut_val *root = yyjson_mut_doc_get_root(c->answer);
    if (code) yyjson_mut_obj_add_str(c->answer, root, "error", cal_error_text(code));
    say(c->answer);
    yyjson_doc_free(c->doc);
    free(c);
}

/* --- what comes later --- */

static void on_dialled(void *user, const cal_error *err, const cal_peer_id *peer) {
    command *c = user;
    add_peer(c->answer, yyjson_mut_doc_get_root(c->answer), peer);
    done(c, err ? err->code : 0);
}

static void on_searched(void *user, const cal_error *err, size_t count) {
    command *c = user;
    yyjson_mut_obj_add_uint(c->answer, yyjson_mut_doc_get_root(c->answer), "count", count);
    done(c, err ? err->code : 0);
}

static void on_provider(void *user, const cal_p2p_provider *provider) {
    command *c = user;
    yyjson_mut_val *one = yyjson_mut_arr_add_obj(c->answer, c->list);
    add_peer(c->answer, one, &provider->peer);
    yyjson_mut_obj_add_uint(c->answer, one, "size", provider->size);
    add_addresses(c->answer, one, provider->addresses, provider->address_count);
}

static void on_located(void *user, const cal_error *err, const cal_multiaddr *addresses,
                       size_t count) {
    command *c = user;
    add_addresses(c->answer, yyjson_mut_doc_get_root(c->answer), addresses, count);
    done(c, err ? err->code : 0);
}

/* --- what is there --- */

static void add_connected(void *user, const cal_p2p_peer *peer) {
    command *c = user;
    char text[CAL_PEER_ID_TEXT_MAX];
    cal_peer_id_text(&peer->id, text);
    yyjson_mut_arr_add_strcpy(c->answer, c->list, text);
}

static void add_point(void *user, const cal_p2p_point *point) {
    static const char *const states[] = {"discovered", "requested", "registered", "expired"};
    command *c = user;
    yyjson_mut_val *one = yyjson_mut_arr_add_obj(c->answer, c->list);
    add_peer(c->answer, one, &point->peer);
    yyjson_mut_obj_add_str(c->answer, one, "state", states[point->state]);
}

static void add_heard(void *user, const cal_peer_id *peer, bool mesh) {
    command *c = user;
    char text[CAL_PEER_ID_TEXT_MAX];
    (void)mesh;
    cal_peer_id_text(peer, text);
    yyjson_mut_arr_add_strcpy(c->answer, c->list, text);
}

static void add_stats(command *c) {
    yyjson_mut_val *root = yyjson_mut_doc_get_root(c->answer);
    cal_p2p_kad_stats kad;
    cal_p2p_kad_stats_get(host, &kad);
    yyjson_mut_obj_add_uint(c->answer, root, "kad_peers", kad.peers);
    yyjson_mut_obj_add_uint(c->answer, root, "kad_requests_in", kad.requests_in);
    yyjson_mut_obj_add_uint(c->answer, root, "kad_records_taken", kad.records_taken);
    yyjson_mut_obj_add_uint(c->answer, root, "kad_malformed", kad.malformed);
}

/* --- commands --- */

static const char *text_of(const command *c, const char *name) {
    const char *text = yyjson_get_str(yyjson_obj_get(c->root, name));
    return text ? text : "";
}

static int publish(const command *c) {
    size_t size = (size_t)yyjson_get_uint(yyjson_obj_get(c->root, "size"));
    const char *text = text_of(c, "text");
    size_t len = strlen(text);
    char *data = malloc(size + 1);
    if (!data || !len) abort();
    for (size_t i = 0; i < size; i++) data[i] = text[i % len];
    int result = cal_p2p_publish(host, text_of(c, "topic"), data, size, NULL, NULL);
    free(data);
    return result;
}

static bool is(const command *c, const char *name) { return strcmp(text_of(c, "do"), name) == 0; }

/* Those whose answer comes later; returns 0 when it will. */
static int run_slow(command *c) {
    uint8_t key[CAL_P2P_KEY_SIZE] = {0};
    cal_multiaddr address;
    cal_peer_id peer;
    cal_slice digits = cal_slice_text(text_of(c, "key"));
    if (digits.len && cal_hex_decode(digits, key, sizeof key)) return CAL_EINVAL;
    if (is(c, "dial")) {
        int result = cal_multiaddr_parse(text_of(c, "address"), &address);
        if (!result) cal_p2p_connect(host, NULL, &address, 1, on_dialled, c);
        return result;
    }
    if (is(c, "provide"))
        return cal_p2p_provide(host, key, yyjson_get_uint(yyjson_obj_get(c->root, "size")),
                               on_searched, c);
    if (is(c, "providers")) return cal_p2p_providers(host, key, on_provider, on_searched, c);
    if (is(c, "find")) {
        int result = cal_peer_id_parse(text_of(c, "peer"), &peer);
        return result ? result : cal_p2p_find(host, &peer, on_located, c);
    }
    return CAL_EUNSUPPORTED;
}

static int run_now(command *c) {
    if (is(c, "connected"))
        cal_p2p_peers(host, add_connected, c);
    else if (is(c, "points"))
        return cal_p2p_rendezvous_points(host, add_point, c);
    else if (is(c, "join"))
        return cal_p2p_rendezvous_join(host, text_of(c, "name"));
    else if (is(c, "leave"))
        return cal_p2p_rendezvous_leave(host, text_of(c, "name"));
    else if (is(c, "subscribe"))
        return cal_p2p_subscribe(host, text_of(c, "topic"), false, NULL);
    else if (is(c, "subscribers"))
        return cal_p2p_topic_peers(host, text_of(c, "topic"), add_heard, c);
    else if (is(c, "publish"))
        return publish(c);
    else if (is(c, "stats"))
        add_stats(c);
    else if (is(c, "stop"))
        cal_p2p_stop(host);
    else
        return CAL_EUNSUPPORTED;
    return 0;
}

static void run_command(void *arg) {
    command *c = arg;
    bool slow = is(c, "dial") || is(c, "provide") || is(c, "providers") || is(c, "find");
    yyjson_mut_val *root = yyjson_mut_doc_get_root(c->answer);
    yyjson_mut_obj_add_sint(c->answer, root, "id", c->id);
    c->list = yyjson_mut_obj_add_arr(c->answer, root, "list");
    int result = slow ? run_slow(c) : run_now(c);
    if (result || !slow) done(c, result);
}

static void *read_commands(void *unused) {
    char line[LINE_MAX_LEN];
    (void)unused;
    while (fgets(line, sizeof line, stdin)) {
        command *c = calloc(1, sizeof *c);
        if (!c) abort();
        c->doc = yyjson_read(line, strlen(line), 0);
        c->root = yyjson_doc_get_root(c->doc);
        c->id = yyjson_get_sint(yyjson_obj_get(c->root, "id"));
        c->answer = event_new("done");
        cal_p2p_post(host, run_command, c);
    }
    return NULL;
}

/* --- events --- */

static void on_connected(void *user, const cal_peer_id *peer) {
    (void)user;
    yyjson_mut_doc *doc = event_new("connect");
    add_peer(doc, yyjson_mut_doc_get_root(doc), peer);
    say(doc);
}
static const cal_p2p_peer_events peer_events = {.connected = on_connected};

static void on_message(void *user, const cal_p2p_message *message) {
    uint8_t hash[CAL_HASH_SIZE];
    char text[2 * CAL_HASH_SIZE + 1];
    (void)user;
    yyjson_mut_doc *doc = event_new("heard");
    yyjson_mut_val *root = yyjson_mut_doc_get_root(doc);
    cal_sha256((cal_slice){message->data, message->len}, hash);
    cal_hex_encode(cal_slice_of(hash, sizeof hash), text);
    add_peer(doc, root, &message->author);
    yyjson_mut_obj_add_strcpy(doc, root, "topic", message->topic);
    yyjson_mut_obj_add_strcpy(doc, root, "hash", text);
    say(doc);
}

static void say_ready(void) {
    cal_multiaddr addresses[CAL_P2P_ADDRESSES_MAX];
    cal_peer_id id;
    yyjson_mut_doc *doc = event_new("ready");
    cal_p2p_id(host, &id);
    size_t count = cal_p2p_addresses(host, addresses, CAL_P2P_ADDRESSES_MAX);
    if (count > CAL_P2P_ADDRESSES_MAX) count = CAL_P2P_ADDRESSES_MAX;
    for (size_t i = 0; i < count; i++) cal_multiaddr_set_peer(&addresses[i], &id);
    add_peer(doc, yyjson_mut_doc_get_root(doc), &id);
    add_addresses(doc, yyjson_mut_doc_get_root(doc), addresses, count);
    say(doc);
}

int main(int argc, char **argv) {
    const char *listen[] = {"/ip4/127.0.0.1/tcp/0"};
    bool mdns = false;
    cal_error err = {0};
    pthread_t reader;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "listen=", 7) == 0) listen[0] = argv[i] + 7;
        mdns = mdns || strcmp(argv[i], "mdns=yes") == 0;
    }
    cal_p2p_options options = {.listen = listen, .listen_count = 1, .agent = "calimero-c/interop"};
    int result = cal_p2p_new(&options, &host, &err);
    if (!result)
        result = cal_p2p_gossip_start(host, &(cal_p2p_gossip_options){.message = on_message});
    if (!result) result = cal_p2p_kad_start(host);
    if (!result) result = cal_p2p_rendezvous_start(host, NULL);
    if (!result && mdns) result = cal_p2p_mdns_start(host, &err);
    if (result) {
        fprintf(stderr, "%s %s\n", cal_error_text(result), err.message);
        return 1;
    }
    cal_p2p_observe(host, &peer_events, NULL);
    say_ready();
    pthread_create(&reader, NULL, read_commands, NULL);
    cal_p2p_run(host);
    cal_p2p_free(host);
    return 0;
}
