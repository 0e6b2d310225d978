/* The verifier on arbitrary rows: the input is a list of records, and which one a key finds is the
 * key's first byte. It ends, whatever the records say of each other, and leaves no memory behind.
 */
#include <stdlib.h>

#include "base/arena.h"
#include "crdt/crdt.h"
#include "crypto/crypto.h"

enum { MEMORY_MAX = 16 << 20, VISITS_MAX = 200 };

typedef struct rows {
    const uint8_t *data;
    size_t size;
    cal_arena levels[CRDT_TREE_DEPTH_MAX + 1];
    size_t open;
} rows;

static void *take(void *user, size_t len) { return cal_arena_alloc(user, len); }

static void sha256(const crdt_bytes *parts, size_t count, uint8_t ret_hash[32]) {
    cal_slice slices[4];
    if (count > 4) abort();
    for (size_t i = 0; i < count; i++) slices[i] = cal_slice_of(parts[i].data, parts[i].len);
    cal_sha256_parts(slices, count, ret_hash);
}

/* Records are length-prefixed (u8 times 2). */
static int read_row(void *user, const uint8_t key[32], crdt_bytes *ret_value) {
    rows *r = user;
    size_t at = 0;
    for (unsigned skip = key[0] % 4; at < r->size; skip--) {
        size_t len = (size_t)r->data[at++] * 2;
        if (len > r->size - at) len = r->size - at;
        if (skip == 0) {
            *ret_value = crdt_bytes_of(r->data + at, len);
            return 1;
        }
        at += len;
    }
    return 0;
}

static int enter(void *user, crdt_memory *ret_memory) {
    rows *r = user;
    cal_arena_init(&r->levels[r->open], MEMORY_MAX);
    *ret_memory = (crdt_memory){&r->levels[r->open++], take};
    return 0;
}

static void leave(void *user) {
    rows *r = user;
    cal_arena_deinit(&r->levels[--r->open]);
}

static int flaw(void *user, crdt_flaw found, const crdt_id *id, const crdt_id *parent) {
    (void)user, (void)id, (void)parent;
    return crdt_flaw_text(found)[0] == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static rows r;
    if (size < 32) return 0;
    r.data = data + 32;
    r.size = size - 32;
    crdt_id root;
    memcpy(&root, data, 32);
    crdt_tree_check check = {.sha256 = sha256,
                             .user = &r,
                             .enter = enter,
                             .leave = leave,
                             .read = read_row,
                             .flaw = flaw,
                             .entity_max = VISITS_MAX};
    crdt_tree_summary summary;
    crdt_tree_verify(&check, &root, &summary);
    if (r.open != 0) abort();
    return 0;
}
