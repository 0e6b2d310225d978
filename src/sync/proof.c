/* Proof that the dialer holds the key it speaks for (network-sync.md 2, InitProof). */
#include "sync/message.h"

static const char domain[] = "calimero:sync:init-pop:v1";

enum { PROOF_MESSAGE_MAX = sizeof domain - 1 + 32 + 32 + CAL_PEER_ID_MAX };

static size_t put(uint8_t *message, size_t at, const void *bytes, size_t len) {
    memcpy(message + at, bytes, len);
    return at + len;
}

static cal_slice proof_message(const sync_init *init, const cal_peer_id *dialer,
                               uint8_t message[PROOF_MESSAGE_MAX]) {
    uint8_t kind = init->request.kind;
    const uint8_t *scope = kind == SYNC_JOIN || kind == SYNC_JOIN_OPEN
                               ? init->request.namespace_id.bytes
                               : init->context.bytes;
    size_t len = put(message, 0, domain, sizeof domain - 1);
    len = put(message, len, scope, 32);
    len = put(message, len, init->party.bytes, 32);
    len = put(message, len, dialer->bytes, dialer->len);
    return cal_slice_of(message, len);
}

int sync_proof_sign(const sync_init *init, const cal_peer_id *dialer,
                    void (*sign)(void *user, cal_slice message,
                                 uint8_t ret_signature[CAL_SIGNATURE_SIZE]),
                    void *user, uint8_t ret_proof[CAL_SIGNATURE_SIZE]) {
    uint8_t message[PROOF_MESSAGE_MAX];
    if (dialer->len > CAL_PEER_ID_MAX) return CAL_EINVAL;
    sign(user, proof_message(init, dialer, message), ret_proof);
    return 0;
}

bool sync_proof_verify(const sync_init *init, const cal_peer_id *dialer) {
    uint8_t message[PROOF_MESSAGE_MAX];
    return init->has_proof && dialer->len <= CAL_PEER_ID_MAX &&
           cal_verify_strict(init->party.bytes, proof_message(init, dialer, message), init->proof);
}
