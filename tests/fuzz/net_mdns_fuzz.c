/* mDNS packets: any bytes are read within their bounds, alone and as a machine that goes on. */
#include <stdlib.h>

#include "net/mdns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mdns_packet packet;
    if (mdns_read((cal_slice){data, size}, &packet) == 0)
        for (size_t i = 0; i < packet.count; i++) {
            cal_slice text = packet.addresses[i].text;
            if (text.data < data || text.data + text.len > data + size) abort();
        }
    cal_peer_id self = {.len = 2}, peer;
    cal_multiaddr address;
    cal_mdns *mdns;
    cal_buffer out;
    if (mdns_new(&self, size, 1, &mdns)) return 0;
    cal_buffer_init(&out, 2 * MDNS_PACKET_MAX);
    mdns_receive(mdns, (cal_slice){data, size}, 2);
    while (mdns_next(mdns, &peer, &address, 3)) mdns_announce(mdns, &address, 1, 3);
    for (int i = 0; i < 8; i++) {
        uint64_t now = mdns_deadline(mdns);
        while (mdns_output(mdns, &out, now)) {
            if (mdns_read(cal_buffer_slice(&out), &packet)) abort();
            cal_buffer_reset(&out);
        }
    }
    cal_buffer_deinit(&out);
    mdns_free(mdns);
    return 0;
}
