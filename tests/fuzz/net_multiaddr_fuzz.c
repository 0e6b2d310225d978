/* Multiaddrs and peer ids: what decodes is written and read again as the same. */
#include <stdlib.h>
#include <string.h>

#include "calimero/error.h"
#include "net/identity.h"
#include "net/multiaddr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cal_multiaddr address, again;
    multiaddr_target target;
    cal_peer_id id, id_again;
    char text[CAL_MULTIADDR_TEXT_MAX], id_text[CAL_PEER_ID_TEXT_MAX];
    uint8_t key[32];
    if (cal_multiaddr_from_bytes(data, size, &address) == 0) {
        cal_multiaddr_text(&address, text);
        multiaddr_target_of(&address, &target);
        cal_multiaddr_set_peer(&address, NULL);
    }
    if (cal_peer_id_from_bytes(data, size, &id) == 0) {
        cal_peer_id_text(&id, id_text);
        if (cal_peer_id_parse(id_text, &id_again) == 0 && !cal_peer_id_equal(&id, &id_again))
            abort();
    }
    net_key_parse(cal_slice_of(data, size), key);
    char *copy = malloc(size + 1);
    if (!copy) return 0;
    if (size) memcpy(copy, data, size);
    copy[size] = '\0';
    cal_peer_id_parse(copy, &id);
    if (cal_multiaddr_parse(copy, &address) == 0) {
        cal_multiaddr_text(&address, text);
        if (cal_multiaddr_parse(text, &again) || !cal_multiaddr_equal(&address, &again)) abort();
    }
    free(copy);
    return 0;
}
