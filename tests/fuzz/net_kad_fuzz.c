/* Kademlia: the input is a request to a server, then the answer to each request of two walks. */
#include <stdlib.h>

#include "net/kad.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cal_peer_id self = {.len = 38, .bytes = {1}}, other = {.len = 38, .bytes = {2}};
    uint8_t key[KAD_KEY_LEN] = {3};
    cal_slice bytes = {data, size};
    cal_kad *kad;
    cal_buffer out;
    uint64_t walk, now = 1;
    kad_request request;
    kad_result result;
    cal_peer_id provider;
    uint64_t blob;
    if (size >= KAD_KEY_LEN)
        kad_record_verify(data, (cal_slice){data + KAD_KEY_LEN, size - KAD_KEY_LEN}, &provider,
                          &blob);
    if (kad_new(&self, size, now, &kad)) return 0;
    cal_buffer_init(&out, KAD_MESSAGE_MAX + 1);
    kad_answer(kad, &other, size & 1, bytes, now, &out);
    kad_seen(kad, &other, NULL, 0, now);
    kad_get(kad, key, now, &walk);
    kad_find(kad, &other, now, &walk);
    for (int i = 0; i < 40 && kad_next_request(kad, &request, now); i++) {
        kad_response(kad, request.number, size & 1, bytes, now);
        cal_buffer_reset(&out);
        kad_answer(kad, &self, size & 1, bytes, now, &out);
    }
    for (int i = 0; i < 40; i++) kad_expire(kad, kad_deadline(kad));
    cal_p2p_kad_stats stats;
    kad_stats_get(kad, &stats);
    if (stats.walks > KAD_WALKS_MAX || stats.records > KAD_RECORDS_MAX) abort();
    while (kad_next_result(kad, &result)) continue;
    cal_buffer_deinit(&out);
    kad_free(kad);
    return 0;
}
