/* The peer shelf's records: any bytes are taken or refused, as a peer's record and as the host's
 * own; what is kept of them is written again, and that is taken and says the same. */
#include <stdlib.h>

#include "calimero/error.h"
#include "net/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
    uint64_t now_ns;
    cal_buffer saved;
} world;

static uint64_t f_now(void *user) {
    (void)user;
    return world.now_ns;
}
static void f_wake_at(void *user, uint64_t at_ns) { (void)user, (void)at_ns; }
static void f_stop(void *user) { (void)user; }
static size_t f_interfaces(void *user, const net_endpoint *at, net_endpoint *ret, size_t max) {
    (void)user, (void)at, (void)ret, (void)max;
    return 0;
}
static void no_random(void *user, void *ret_bytes, size_t len) {
    (void)user;
    memset(ret_bytes, 9, len);
}
static void save(void *user, const cal_peer_id *peer, const uint8_t *record, size_t len) {
    (void)user, (void)peer;
    cal_buffer_reset(&world.saved);
    cal_buffer_append(&world.saved, record, len);
}

static cal_p2p *host_new(net_transport *transport, const cal_os *os) {
    cal_p2p *host;
    const cal_p2p_shelf shelf = {.save = save};
    *transport = (net_transport){
        .now_ns = f_now, .wake_at = f_wake_at, .stop = f_stop, .interfaces = f_interfaces};
    const cal_p2p_options options = {.shelf = shelf};
    return net_host_new(&options, transport, os, &host, NULL) ? NULL : host;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cal_os os = {.random = no_random};
    net_transport transport, other;
    cal_peer_id id, self;
    cal_multiaddr known[CAL_P2P_ADDRESSES_MAX], again[CAL_P2P_ADDRESSES_MAX];
    if (cal_crypto_init()) return 0;
    world.now_ns = 1;
    cal_buffer_init(&world.saved, 1 << 20);
    cal_p2p *host = host_new(&transport, &os), *second = host_new(&other, &os);
    if (!host || !second) abort();
    cal_peer_id_of_key((const uint8_t[32]){1}, &id);
    cal_p2p_id(host, &self);
    if (cal_p2p_restore(host, &self, data, size) == 0 && size != 9) abort();
    cal_p2p_restore(host, &id, data, size);
    size_t count = cal_p2p_known(host, &id, known, CAL_P2P_ADDRESSES_MAX);
    net_peer *peer = peer_find(host, &id);
    if (peer) peer->unsaved = true;
    peer_save_all(host);
    if (peer) {
        if (!world.saved.len || cal_p2p_restore(second, &id, world.saved.data, world.saved.len))
            abort();
        if (cal_p2p_known(second, &id, again, CAL_P2P_ADDRESSES_MAX) != count) abort();
        for (size_t i = 0; i < count; i++)
            if (!cal_multiaddr_equal(&known[i], &again[i])) abort();
    }
    net_host_free(host);
    net_host_free(second);
    cal_buffer_deinit(&world.saved);
    return 0;
}
