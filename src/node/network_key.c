/* The node's key in the network: an Ed25519 seed in a row of column NODE, made when first asked
 * for, or taken over from a configuration that carries one. The store encrypts it at rest. */
#include <string.h>

#include "codec/text.h"
#include "node/internal.h"

static const char key_row[] = "network/key";

/* libp2p's protobuf of a private key: type Ed25519, then 64 bytes, the seed and its public key. */
static const uint8_t head[] = {0x08, 0x01, 0x12, 0x40};
enum { KEYPAIR_SIZE = sizeof head + 64, KEYPAIR_TEXT_MAX = 128 };

static int parse_keypair(const char *text, cal_secret *ret_seed, cal_error *err) {
    uint8_t bytes[KEYPAIR_TEXT_MAX], public_key[32];
    size_t len = 0;
    int rc = cal_base58_decode(cal_slice_text(text), bytes, sizeof bytes, &len);
    if (rc || len != KEYPAIR_SIZE || memcmp(bytes, head, sizeof head) != 0) {
        rc = cal_fail(err, CAL_EINVAL,
                      "identity.keypair is no Ed25519 private key of libp2p in base58");
    } else {
        memcpy(ret_seed->bytes, bytes + sizeof head, 32);
        cal_sign_public_key(ret_seed, public_key);
        if (memcmp(public_key, bytes + sizeof head + 32, 32) != 0)
            rc = cal_fail(err, CAL_EINVAL,
                          "identity.keypair is damaged: its public key is another key's");
    }
    cal_wipe(bytes, sizeof bytes);
    return rc;
}

static int check_peer_id(const cal_secret *seed, const char *expected, cal_error *err) {
    uint8_t public_key[32];
    cal_peer_id id;
    char text[CAL_PEER_ID_TEXT_MAX];
    cal_sign_public_key(seed, public_key);
    cal_peer_id_of_key(public_key, &id);
    cal_peer_id_text(&id, text);
    if (!expected || strcmp(text, expected) == 0) return 0;
    return cal_fail(err, CAL_EINVAL, "identity.keypair belongs to peer %s, not to %s", text,
                    expected);
}

static int store_key(cal_store *store, const cal_secret *seed, cal_error *err) {
    cal_batch *batch = cal_batch_new();
    if (!batch) return cal_fail(err, CAL_ENOMEM, "no memory for the node's key");
    cal_batch_put(batch, CAL_COLUMN_NODE, cal_slice_text(key_row),
                  cal_slice_of(seed->bytes, sizeof seed->bytes));
    return cal_store_commit(store, batch, err);
}

static int load_key(cal_store *store, const cal_os *os, cal_secret *ret_seed, cal_error *err) {
    cal_buffer row;
    cal_buffer_init(&row, 4096);
    int rc = cal_store_get(store, CAL_COLUMN_NODE, cal_slice_text(key_row), &row);
    if (rc == CAL_ENOTFOUND) {
        cal_random(os, ret_seed->bytes, sizeof ret_seed->bytes);
        rc = store_key(store, ret_seed, err);
    } else if (rc) {
        cal_fail(err, rc, "the node's network key cannot be read: %s", cal_error_text(rc));
    } else if (row.len != sizeof ret_seed->bytes) {
        rc = cal_fail(err, CAL_ECORRUPT, "the node's network key is damaged; restore a backup");
    } else {
        memcpy(ret_seed->bytes, row.data, sizeof ret_seed->bytes);
    }
    if (row.data) cal_wipe(row.data, row.len);
    cal_buffer_deinit(&row);
    return rc;
}

int node_network_key(cal_store *store, const cal_os *os, const cal_network_options *options,
                     cal_secret *ret_seed, cal_error *err) {
    if (!options->keypair) {
        int rc = load_key(store, os, ret_seed, err);
        if (rc == 0 && options->peer_id && check_peer_id(ret_seed, options->peer_id, NULL) != 0)
            cal_log(CAL_LOG_WARN, "network",
                    "identity.peer_id in the configuration, %s, is not this node's: ignored",
                    options->peer_id);
        return rc;
    }
    int rc = parse_keypair(options->keypair, ret_seed, err);
    if (rc == 0) rc = check_peer_id(ret_seed, options->peer_id, err);
    return rc == 0 ? store_key(store, ret_seed, err) : rc;
}
