/* Fetching one blob of a context from whoever has it (network-sync.md 10).
 *
 *     who hears the context, then who hears its namespace  --nobody had it-->  who says so in
 *     Kademlia (key = context id, blob id), connected to first  --nobody had it-->  not found
 *
 * Both rounds are a sync_blob_fetch, which asks one peer after the other; a peer that sent
 * something else is asked last the next time. Every request is signed. Loop thread. */
#include <stdlib.h>
#include <string.h>

#include "node/internal.h"

enum { PROVIDERS_MAX = 16 };

typedef struct provider {
    node_fetch *fetch;
    cal_peer_id peer;
    bool connected;
} provider;

struct node_fetch {
    cal_node *node;
    node_fetch_wanted wanted;
    sync_blob_fetch *turns; /* NULL: none runs */
    cal_task end_task;
    bool canceled, searched;
    uint32_t pending; /* answers of the host: the search, looks for addresses, dials */
    cal_peer_id peers[SYNC_BLOB_PEERS_MAX];
    size_t peer_count, asked;
    provider providers[PROVIDERS_MAX];
    size_t provider_count;
    int result;
    cal_error err;
};

/* --- peers whose turn went wrong --- */

static bool is_distrusted(const cal_node *node, const cal_peer_id *peer) {
    for (size_t i = 0; i < NODE_DISTRUSTED_MAX; i++)
        if (cal_peer_id_equal(&node->code.distrusted[i], peer)) return true;
    return false;
}

static void on_turned(void *user, const cal_peer_id *peer, int result, const char *why) {
    node_fetch *fetch = user;
    node_code *code = &fetch->node->code;
    bool wrong = result == CAL_EVERIFY || result == CAL_EDECODE || result == CAL_ELIMIT ||
                 result == CAL_ETIMEOUT;
    (void)why;
    if (!wrong || is_distrusted(fetch->node, peer)) return;
    code->distrusted[code->distrusted_at] = *peer;
    code->distrusted_at = (code->distrusted_at + 1) % NODE_DISTRUSTED_MAX;
}

/* --- whom to ask --- */

static void add_peer(void *user, const cal_peer_id *peer, bool mesh) {
    node_fetch *fetch = user;
    (void)mesh;
    for (size_t i = 0; i < fetch->peer_count; i++)
        if (cal_peer_id_equal(&fetch->peers[i], peer)) return;
    if (fetch->peer_count < SYNC_BLOB_PEERS_MAX) fetch->peers[fetch->peer_count++] = *peer;
}

/* Those from `first` on, so that not always the same one is asked. */
static void shuffle(node_fetch *fetch, size_t first) {
    for (size_t i = fetch->peer_count; i > first + 1; i--) {
        uint32_t random;
        cal_random(fetch->node->os, &random, sizeof random);
        size_t other = first + random % (i - first);
        cal_peer_id swapped = fetch->peers[i - 1];
        fetch->peers[i - 1] = fetch->peers[other];
        fetch->peers[other] = swapped;
    }
}

static void distrusted_last(node_fetch *fetch) {
    cal_peer_id last[SYNC_BLOB_PEERS_MAX];
    size_t kept = 0, count = 0;
    for (size_t i = 0; i < fetch->peer_count; i++)
        if (is_distrusted(fetch->node, &fetch->peers[i]))
            last[count++] = fetch->peers[i];
        else
            fetch->peers[kept++] = fetch->peers[i];
    memcpy(fetch->peers + kept, last, count * sizeof *last);
}

static void find_hearers(node_fetch *fetch) {
    cal_node *node = fetch->node;
    char topic[NODE_TOPIC_MAX];
    cal_group_id group, namespace_id;
    node_context_topic(&fetch->wanted.context, topic);
    cal_p2p_topic_peers(node->network.host, topic, add_peer, fetch);
    shuffle(fetch, 0);
    if (gov_context_group(node->gov, &fetch->wanted.context, &group, &namespace_id) == 0) {
        size_t first = fetch->peer_count;
        node_namespace_topic(&namespace_id, topic);
        cal_p2p_topic_peers(node->network.host, topic, add_peer, fetch);
        shuffle(fetch, first);
    }
    distrusted_last(fetch);
}

/* --- the end --- */

static void end(node_fetch *fetch, int result, const cal_blobs_info *info) {
    node_fetch_wanted wanted = fetch->wanted;
    cal_error err = fetch->err;
    char blob[CAL_ID_TEXT_MAX];
    cal_id_to_base58(wanted.blob.bytes, blob);
    if (result == CAL_ENOTFOUND && fetch->asked == 0)
        cal_fail(&err, result,
                 "the blob %s is not here, and nobody who may have it can be reached now", blob);
    else if (result == CAL_ENOTFOUND)
        cal_fail(&err, result, "none of the %zu peers asked has the blob %s", fetch->asked, blob);
    else if (result == CAL_ECANCELED)
        cal_fail(&err, result, "fetching the blob %s was cancelled", blob);
    free(fetch);
    wanted.done(wanted.user, result, info, result ? &err : NULL);
}

static void end_run(cal_task *task) {
    node_fetch *fetch = CAL_CONTAINER_OF(task, node_fetch, end_task);
    end(fetch, fetch->result, NULL);
}

/* Not from inside the call that began it. */
static void end_later(node_fetch *fetch, int result) {
    fetch->result = result;
    fetch->end_task.run = end_run;
    node_post(fetch->node, &fetch->end_task);
}

/* --- asking --- */

static void sign(void *user, cal_slice message, uint8_t ret_signature[CAL_SIGNATURE_SIZE]) {
    gov_sign(((node_fetch *)user)->node->gov, message, ret_signature);
}

static void on_progress(void *user, uint64_t received, uint64_t size) {
    const node_fetch_wanted *wanted = &((node_fetch *)user)->wanted;
    if (wanted->progress) wanted->progress(wanted->user, received, size);
}

static void search(node_fetch *fetch);

/* Whether another holder may do better. */
static bool is_peers_fault(int result) {
    return result == CAL_ENOTFOUND || result == CAL_EUNREACHABLE || result == CAL_ETIMEOUT ||
           result == CAL_ELIMIT || result == CAL_EVERIFY || result == CAL_EDECODE ||
           result == CAL_EUNSUPPORTED;
}

static void turns_done(void *user, int result, const cal_blobs_info *info, const cal_error *err) {
    node_fetch *fetch = user;
    fetch->turns = NULL;
    if (err && result != CAL_ENOTFOUND) fetch->err = *err;
    if (fetch->canceled && result) result = CAL_ECANCELED;
    if (!fetch->searched && is_peers_fault(result))
        search(fetch);
    else
        end(fetch, result == CAL_ENOTFOUND && fetch->err.code ? fetch->err.code : result, info);
}

static int ask(node_fetch *fetch) {
    cal_node *node = fetch->node;
    const sync_blob_wanted wanted = {.blob = fetch->wanted.blob,
                                     .context = fetch->wanted.context,
                                     .peers = fetch->peers,
                                     .peer_count = fetch->peer_count,
                                     .size_max = fetch->wanted.size_max,
                                     .key = gov_self(node->gov)->sign_key,
                                     .sign = sign,
                                     .progress = on_progress,
                                     .turned = on_turned,
                                     .done = turns_done,
                                     .user = fetch};
    fetch->asked += fetch->peer_count;
    return sync_blobs_fetch(node->network.host, node->blobs, &node->runner, &wanted, &fetch->turns);
}

/* --- those who say that they have it --- */

static void go_on(node_fetch *fetch) {
    if (fetch->pending > 0) return;
    fetch->peer_count = 0;
    for (size_t i = 0; i < fetch->provider_count; i++)
        if (fetch->providers[i].connected) add_peer(fetch, &fetch->providers[i].peer, false);
    int result = fetch->canceled ? CAL_ECANCELED : fetch->peer_count == 0 ? CAL_ENOTFOUND : 0;
    distrusted_last(fetch);
    if (result == 0) result = ask(fetch);
    if (result == CAL_ENOTFOUND && fetch->err.code) result = fetch->err.code;
    if (result) end(fetch, result, NULL);
}

static void on_connected(void *user, const cal_error *err, const cal_peer_id *peer) {
    provider *each = user;
    (void)peer;
    each->connected = err == NULL;
    each->fetch->pending--;
    go_on(each->fetch);
}

static void connect_to(provider *each, const cal_multiaddr *addresses, size_t count) {
    each->fetch->pending++;
    if (cal_p2p_connect(each->fetch->node->network.host, &each->peer, addresses, count,
                        on_connected, each))
        each->fetch->pending--;
}

static void on_located(void *user, const cal_error *err, const cal_multiaddr *addresses,
                       size_t count) {
    provider *each = user;
    if (!err && !each->fetch->canceled) connect_to(each, addresses, count);
    each->fetch->pending--;
    go_on(each->fetch);
}

static void on_provider(void *user, const cal_p2p_provider *found) {
    node_fetch *fetch = user;
    cal_p2p *host = fetch->node->network.host;
    if (fetch->canceled || fetch->provider_count == PROVIDERS_MAX ||
        cal_peer_id_equal(&found->peer, &fetch->node->network.id))
        return;
    for (size_t i = 0; i < fetch->provider_count; i++)
        if (cal_peer_id_equal(&fetch->providers[i].peer, &found->peer)) return;
    for (size_t i = 0; i < fetch->peer_count; i++) /* asked already */
        if (cal_peer_id_equal(&fetch->peers[i], &found->peer)) return;
    provider *each = &fetch->providers[fetch->provider_count++];
    *each = (provider){.fetch = fetch, .peer = found->peer};
    if (cal_p2p_is_connected(host, &found->peer)) {
        each->connected = true;
    } else if (found->address_count > 0) {
        connect_to(each, found->addresses, found->address_count);
    } else {
        fetch->pending++;
        if (cal_p2p_find(host, &each->peer, on_located, each)) fetch->pending--;
    }
}

static void on_searched(void *user, const cal_error *err, size_t count) {
    node_fetch *fetch = user;
    (void)err, (void)count;
    fetch->pending--;
    go_on(fetch);
}

/* Never inside the call that began the fetch: ends at once when nobody can be asked. */
static void search(node_fetch *fetch) {
    uint8_t key[CAL_P2P_KEY_SIZE];
    node_blob_key(&fetch->wanted.context, &fetch->wanted.blob, key);
    fetch->searched = true;
    fetch->pending = 1;
    if (!fetch->canceled &&
        cal_p2p_providers(fetch->node->network.host, key, on_provider, on_searched, fetch) == 0)
        return;
    fetch->pending = 0;
    end_later(fetch, fetch->canceled ? CAL_ECANCELED
                                     : (fetch->err.code ? fetch->err.code : CAL_ENOTFOUND));
}

int node_fetch_start(cal_node *node, const node_fetch_wanted *wanted, node_fetch **ret_fetch) {
    if (!node->network.host || node->code.stopping) return CAL_ECANCELED;
    node_fetch *fetch = calloc(1, sizeof *fetch);
    if (!fetch) return CAL_ENOMEM;
    fetch->node = node;
    fetch->wanted = *wanted;
    find_hearers(fetch);
    int result = fetch->peer_count > 0 ? ask(fetch) : 0;
    if (result) {
        free(fetch);
        return result;
    }
    if (!fetch->turns) search(fetch);
    *ret_fetch = fetch;
    return 0;
}

void node_fetch_cancel(node_fetch *fetch) {
    fetch->canceled = true;
    if (fetch->turns) sync_blobs_cancel(fetch->turns);
}
