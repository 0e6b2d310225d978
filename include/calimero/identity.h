/* Identifiers. Each is 32 bytes in a type of its own, so that they cannot be confused for one
 * another.
 *
 * Text forms (protocol http-api.md 2): base58 for contexts, applications, blobs, public keys and
 * hashes; 64 lower-case hex digits for namespaces, groups, accounts and devices. Parsers read both,
 * and exactly 32 bytes. */
#ifndef CALIMERO_IDENTITY_H
#define CALIMERO_IDENTITY_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { CAL_ID_SIZE = 32, CAL_ID_TEXT_MAX = 65 /* the longest text form and its NUL */ };

typedef struct {
    uint8_t bytes[CAL_ID_SIZE];
} cal_context_id;
typedef struct {
    uint8_t bytes[CAL_ID_SIZE];
} cal_application_id;
typedef struct {
    uint8_t bytes[CAL_ID_SIZE];
} cal_blob_id;
typedef struct {
    uint8_t bytes[CAL_ID_SIZE];
} cal_group_id; /* a group, or a namespace: its root group */
typedef struct {
    uint8_t bytes[CAL_ID_SIZE];
} cal_account_id; /* the subject of every authorization */
typedef struct {
    uint8_t bytes[CAL_ID_SIZE];
} cal_device_id;
typedef struct {
    uint8_t bytes[CAL_ID_SIZE];
} cal_public_key; /* Ed25519 */
typedef struct {
    uint8_t bytes[CAL_ID_SIZE];
} cal_hash; /* SHA-256, a state root or a delta id */

/* Text of an id. ret_text takes CAL_ID_TEXT_MAX bytes and is always NUL-terminated. Any thread. */
void cal_id_to_base58(const uint8_t id[CAL_ID_SIZE], char ret_text[CAL_ID_TEXT_MAX]);
void cal_id_to_hex(const uint8_t id[CAL_ID_SIZE], char ret_text[CAL_ID_TEXT_MAX]);

/* Reads either text form. 0, or CAL_EDECODE when the text is not exactly 32 bytes in base58 or hex.
 */
int cal_id_parse(const char *text, uint8_t ret_id[CAL_ID_SIZE]);

#ifdef __cplusplus
}
#endif
#endif
