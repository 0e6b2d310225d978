/* A Noise channel fed any bytes in any split: before, during and after a true handshake. */
#include <stdlib.h>

#include "calimero/error.h"
#include "net/noise.h"

static void no_random(void *user, void *ret_bytes, size_t len) { /* repeatable */
    (void)user;
    memset(ret_bytes, 7, len);
}

static void feed_all(noise *channel, const uint8_t *data, size_t len, cal_buffer *out,
                     cal_buffer *plain) {
    size_t used = 0;
    for (size_t at = 0; at < len; at += used) {
        if (noise_feed(channel, data + at, len - at, out, plain, &used)) return;
        if (used == 0) abort(); /* it must go on or fail */
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cal_os os = {.random = no_random};
    cal_secret seed = {{1}};
    noise_identity identity;
    noise ends[2];
    cal_buffer said[2], plain;
    if (size < 2 || cal_crypto_init() || noise_identity_init(&identity, &seed, &os)) return 0;
    for (int i = 0; i < 2; i++) cal_buffer_init(&said[i], 1 << 20);
    cal_buffer_init(&plain, 1 << 20);
    for (int i = 0; i < 2; i++) noise_init(&ends[i], &identity, i == 0, &os, &said[i]);
    int turns = data[0] % 4; /* honest messages before the hostile bytes */
    for (int turn = 0; turn < turns; turn++) {
        int from = turn % 2;
        feed_all(&ends[1 - from], said[from].data, said[from].len, &said[1 - from], &plain);
        cal_buffer_reset(&said[from]);
    }
    size_t split = 1 + data[1];
    for (size_t at = 2; at < size; at += split)
        feed_all(&ends[1], data + at, size - at < split ? size - at : split, &said[1], &plain);
    if (ends[1].state == NOISE_OPEN && turns < 3) abort(); /* nobody was proven */
    for (int i = 0; i < 2; i++) {
        noise_deinit(&ends[i]);
        cal_buffer_deinit(&said[i]);
    }
    cal_buffer_deinit(&plain);
    return 0;
}
