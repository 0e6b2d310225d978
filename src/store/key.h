/* Where the master key comes from, and the wrapped database key in `<folder>/key.json`.
 *
 * The database key is random and never changes; the master key wraps it (AES-256-GCM, the file's
 * public fields as associated data), so changing the master key rewrites one small file. A
 * passphrase goes through Argon2id with the file's salt. */
#ifndef CAL_STORE_KEY_H
#define CAL_STORE_KEY_H

#include "store/store.h"

typedef enum cal_key_kind {
    CAL_KEY_FILE, /* text: path of a 0600 file holding 64 hex digits, made when the store is created
                   */
    CAL_KEY_PASSPHRASE, /* text: the passphrase */
    CAL_KEY_COMMAND, /* text: a shell command that prints the key (64 hex digits) or a passphrase on
                        one line */
} cal_key_kind;

typedef struct cal_key_source {
    cal_key_kind kind;
    const char *text;
} cal_key_source;

/* The kind that the store in `folder` was made with, so that a program knows what to ask for. */
int cal_key_kind_read(const cal_os *os, const char *folder, cal_key_kind *ret_kind, cal_error *err);

#endif
