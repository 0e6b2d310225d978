/* Group keys and their envelopes, nonce windows: see keyring.h. */
#include "gov/keyring.h"

#include <stdlib.h>

static const char envelope_domain[] = "calimero.keyenvelope.v1";

void gov_key_id(const cal_secret *key, cal_hash *ret_id) {
    cal_sha256(cal_slice_of(key->bytes, 32), ret_id->bytes);
}

int gov_key_compare(const gov_group_key *a, const gov_group_key *b) {
    if (a->epoch != b->epoch) return a->epoch < b->epoch ? -1 : 1;
    if (a->epoch == 0 && a->order != b->order) return a->order < b->order ? -1 : 1;
    return memcmp(a->id.bytes, b->id.bytes, 32);
}

void gov_envelope_read(cal_borsh *in, gov_envelope *ret_envelope) {
    ret_envelope->device = cal_borsh_tag(in, 2) == 1;
    cal_borsh_fixed(in, ret_envelope->address, 32);
    cal_borsh_fixed(in, ret_envelope->ephemeral, 32);
    cal_borsh_fixed(in, ret_envelope->sender, 32);
    cal_borsh_fixed(in, ret_envelope->nonce, CAL_AEAD_NONCE_SIZE);
    ret_envelope->sealed = cal_borsh_bytes(in, GOV_ENVELOPE_SEALED_MAX);
    cal_borsh_fixed(in, ret_envelope->signature, CAL_SIGNATURE_SIZE);
}

int gov_envelope_write(const gov_envelope *envelope, cal_buffer *out) {
    cal_buffer_append_u8(out, envelope->device);
    cal_buffer_append(out, envelope->address, 32);
    cal_buffer_append(out, envelope->ephemeral, 32);
    cal_buffer_append(out, envelope->sender, 32);
    cal_buffer_append(out, envelope->nonce, CAL_AEAD_NONCE_SIZE);
    cal_borsh_put_bytes(out, envelope->sealed);
    return cal_buffer_append(out, envelope->signature, CAL_SIGNATURE_SIZE);
}

/* No length prefixes: every part but the last has a fixed size. */
int gov_envelope_signable(const gov_envelope *envelope, const cal_group_id *group,
                          cal_buffer *out) {
    cal_buffer_append_text(out, envelope_domain);
    cal_buffer_append(out, group->bytes, 32);
    cal_buffer_append_u8(out, envelope->device);
    cal_buffer_append(out, envelope->address, 32);
    cal_buffer_append(out, envelope->ephemeral, 32);
    cal_buffer_append(out, envelope->sender, 32);
    cal_buffer_append(out, envelope->nonce, CAL_AEAD_NONCE_SIZE);
    return cal_buffer_append_slice(out, envelope->sealed);
}

static void random_unless(const cal_os *os, const void *given, void *ret_bytes, size_t len) {
    if (given)
        memcpy(ret_bytes, given, len);
    else
        cal_random(os, ret_bytes, len);
}

/* Address, ephemeral key and kind are set; agreed is the key for the seal. */
static int seal_envelope(const cal_os *os, gov_envelope *envelope, const cal_group_id *group,
                         const cal_secret *group_key, const cal_secret *agreed,
                         const cal_secret *sender, const uint8_t *nonce) {
    cal_buffer bytes;
    cal_buffer_init(&bytes, 512);
    random_unless(os, nonce, envelope->nonce, CAL_AEAD_NONCE_SIZE);
    cal_sign_public_key(sender, envelope->sender);
    int result = cal_seal(agreed, envelope->nonce, (cal_slice){0},
                          cal_slice_of(group_key->bytes, 32), &bytes);
    if (!result) {
        memcpy(envelope->sealed_bytes, bytes.data, sizeof envelope->sealed_bytes);
        envelope->sealed = cal_slice_of(envelope->sealed_bytes, sizeof envelope->sealed_bytes);
        cal_buffer_reset(&bytes);
        result = gov_envelope_signable(envelope, group, &bytes);
    }
    if (!result)
        cal_sign_as(sender, envelope->sender, cal_buffer_slice(&bytes), envelope->signature);
    cal_buffer_deinit(&bytes);
    return result;
}

int gov_envelope_seal_member(const cal_os *os, const cal_group_id *group,
                             const cal_secret *group_key, const uint8_t member_key[32],
                             const cal_secret *sender, const cal_secret *ephemeral,
                             const uint8_t nonce[CAL_AEAD_NONCE_SIZE], gov_envelope *ret_envelope) {
    cal_secret seed, agreed;
    random_unless(os, ephemeral, seed.bytes, 32);
    int result = cal_agree_edwards(&seed, member_key, &agreed);
    if (!result) {
        *ret_envelope = (gov_envelope){.device = false};
        memcpy(ret_envelope->address, member_key, 32);
        cal_sign_public_key(&seed, ret_envelope->ephemeral);
        result = seal_envelope(os, ret_envelope, group, group_key, &agreed, sender, nonce);
    }
    cal_secret_wipe(&seed);
    cal_secret_wipe(&agreed);
    return result;
}

int gov_envelope_seal_device(const cal_os *os, const cal_group_id *group,
                             const cal_secret *group_key, const cal_device_id *device,
                             const uint8_t kem_key[32], const cal_secret *sender,
                             const cal_secret *ephemeral, const uint8_t nonce[CAL_AEAD_NONCE_SIZE],
                             gov_envelope *ret_envelope) {
    cal_secret secret, agreed;
    random_unless(os, ephemeral, secret.bytes, 32);
    int result = cal_agree_x25519(&secret, kem_key, &agreed);
    if (!result) {
        *ret_envelope = (gov_envelope){.device = true};
        memcpy(ret_envelope->address, device->bytes, 32);
        cal_agree_public_key(&secret, ret_envelope->ephemeral);
        result = seal_envelope(os, ret_envelope, group, group_key, &agreed, sender, nonce);
    }
    cal_secret_wipe(&secret);
    cal_secret_wipe(&agreed);
    return result;
}

static bool addressed_to(const gov_envelope *envelope, const cal_secret *sign_seed,
                         const cal_device_id *device) {
    uint8_t ours[32];
    if (envelope->device) return device && memcmp(envelope->address, device->bytes, 32) == 0;
    if (!sign_seed) return false;
    cal_sign_public_key(sign_seed, ours);
    return memcmp(envelope->address, ours, 32) == 0;
}

int gov_envelope_open(const gov_envelope *envelope, const cal_group_id *group,
                      const cal_secret *sign_seed, const cal_device_id *device,
                      const cal_secret *kem_secret, const uint8_t *expected_sender,
                      cal_secret *ret_key) {
    if (expected_sender && memcmp(envelope->sender, expected_sender, 32) != 0) return CAL_EVERIFY;
    if (!addressed_to(envelope, sign_seed, device)) return CAL_ENOTFOUND;
    if (envelope->sealed.len != CAL_KEY_SIZE + CAL_AEAD_TAG_SIZE) return CAL_EVERIFY;
    cal_buffer bytes;
    cal_buffer_init(&bytes, 512);
    cal_secret agreed = {0};
    int result = gov_envelope_signable(envelope, group, &bytes);
    if (!result &&
        !cal_verify_strict(envelope->sender, cal_buffer_slice(&bytes), envelope->signature))
        result = CAL_EVERIFY;
    if (!result)
        result = envelope->device ? cal_agree_x25519(kem_secret, envelope->ephemeral, &agreed)
                                  : cal_agree_edwards(sign_seed, envelope->ephemeral, &agreed);
    cal_buffer_reset(&bytes);
    if (!result)
        result = cal_open(&agreed, envelope->nonce, (cal_slice){0}, envelope->sealed, &bytes);
    if (!result) memcpy(ret_key->bytes, bytes.data, CAL_KEY_SIZE);
    if (bytes.len) cal_wipe(bytes.data, bytes.len);
    cal_buffer_deinit(&bytes);
    cal_secret_wipe(&agreed);
    return result;
}

/* --- nonce windows --- */

void gov_nonce_window_deinit(gov_nonce_window *window) {
    free(window->above);
    *window = (gov_nonce_window){0};
}

/* Index of the first recorded nonce >= nonce. */
static size_t nonce_position(const gov_nonce_window *window, uint64_t nonce) {
    size_t low = 0, high = window->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (window->above[middle] < nonce)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool gov_nonce_seen(const gov_nonce_window *window, uint64_t nonce) {
    if (nonce <= window->floor) return true;
    size_t at = nonce_position(window, nonce);
    return at < window->count && window->above[at] == nonce;
}

int gov_nonce_record(gov_nonce_window *window, uint64_t nonce, bool *ret_new) {
    *ret_new = false;
    if (gov_nonce_seen(window, nonce)) return 0;
    *ret_new = true;
    bool next = nonce == window->floor + 1;
    if (!next && (nonce - window->floor > GOV_NONCE_GAP_MAX || window->count >= GOV_NONCE_SET_MAX))
        return 0;
    if (!next && window->count == window->capacity) {
        size_t capacity = window->capacity ? window->capacity * 2 : 8;
        uint64_t *above = realloc(window->above, capacity * sizeof *above);
        if (!above) return CAL_ENOMEM;
        window->above = above;
        window->capacity = capacity;
    }
    if (!next) {
        size_t at = nonce_position(window, nonce);
        memmove(window->above + at + 1, window->above + at,
                (window->count - at) * sizeof *window->above);
        window->above[at] = nonce;
        window->count++;
        return 0;
    }
    window->floor = nonce;
    size_t joined = 0; /* what now continues the floor */
    while (joined < window->count && window->above[joined] == window->floor + 1) {
        window->floor++;
        joined++;
    }
    window->count -= joined;
    if (joined && window->count)
        memmove(window->above, window->above + joined, window->count * sizeof *window->above);
    return 0;
}
