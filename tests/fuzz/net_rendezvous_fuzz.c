/* Rendezvous: any bytes as a peer record, and as the answer to everything that a client asks. */
#include <stdlib.h>

#include "net/rendezvous.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cal_secret key = {{1}};
    cal_rendezvous *client;
    rendezvous_found found;
    rendezvous_request request;
    uint64_t now = 1;
    rendezvous_record_verify((cal_slice){data, size}, &found);
    if (rendezvous_new(&key, now, &client)) return 0;
    rendezvous_announce(client, 1, NULL, 0, now);
    rendezvous_join(client, cal_slice_text("a"), now);
    rendezvous_join(client, (cal_slice){data, size < 9 ? size : 9}, now);
    for (int i = 0; i < 20; i++) {
        now = rendezvous_deadline(client);
        if (!rendezvous_next_request(client, now, &request)) continue;
        rendezvous_response(client, request.number, (cal_slice){data, size}, now);
        if (i == 10) rendezvous_leave(client, cal_slice_text("a"));
    }
    while (rendezvous_next(client, &found))
        if (found.count > RENDEZVOUS_ADDRESSES_MAX) abort();
    rendezvous_free(client);
    return 0;
}
