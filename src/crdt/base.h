/* What every file of crdt/ stands on: borrowed bytes, ids, memory and hashing handed in by the
 * caller.
 *
 * The module is freestanding (architecture.md, rule 8): it includes only <stddef.h>, <stdint.h> and
 * <stdbool.h>, keeps no state, makes no system call, and is compiled twice, into the node and into
 * every application of sdk/c. Any thread; objects have one owner. Error codes equal those of
 * calimero/error.h. */
#ifndef CAL_CRDT_BASE_H
#define CAL_CRDT_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CRDT_EINVAL = -1,
    CRDT_EDECODE = -2,
    CRDT_ELIMIT = -3,
    CRDT_ENOTFOUND = -4,
    CRDT_EDENIED = -6,
    CRDT_ENOMEM = -12,
    CRDT_ECORRUPT = -15,
    CRDT_EVERIFY = -17,
};

/* Borrowed bytes; data may be anything when len is 0. Same layout as cal_slice. */
typedef struct crdt_bytes {
    const uint8_t *data;
    size_t len;
} crdt_bytes;

typedef struct crdt_id {
    uint8_t bytes[32];
} crdt_id;

typedef struct crdt_hash {
    uint8_t bytes[32];
} crdt_hash;

/* Memory of one operation: pieces are aligned for any object, are never given back one by one and
 * live until the caller drops the whole. NULL from alloc ends the operation with CRDT_ENOMEM; that
 * is also how the caller bounds it. Every pointer in a decoded object points into this memory or
 * into the bytes that were decoded. */
typedef struct crdt_memory {
    void *user;
    void *(*alloc)(void *user, size_t len);
} crdt_memory;

/* SHA-256 of the concatenation of parts. */
typedef void (*crdt_sha256_fn)(const crdt_bytes *parts, size_t count, uint8_t ret_hash[32]);

/* What most functions need. */
typedef struct crdt_env {
    crdt_memory memory;
    crdt_sha256_fn sha256;
} crdt_env;

static inline crdt_bytes crdt_bytes_of(const void *data, size_t len) {
    return (crdt_bytes){(const uint8_t *)data, len};
}

int crdt_compare(const void *a, const void *b, size_t len); /* memcmp */
bool crdt_id_equal(const crdt_id *a, const crdt_id *b);
bool crdt_bytes_equal(crdt_bytes a, crdt_bytes b);
/* count * size bytes, or NULL when that overflows or memory is short. */
void *crdt_alloc_array(const crdt_memory *memory, size_t count, size_t size);

typedef int (*crdt_compare_fn)(const void *a, const void *b);
/* Stable; takes no memory when the items are in order already. CRDT_ENOMEM. */
int crdt_sort(const crdt_memory *memory, void *items, size_t count, size_t size,
              crdt_compare_fn compare);

#endif
