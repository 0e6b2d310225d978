/* Every decoder of crdt/ on arbitrary bytes: what decodes encodes to something that decodes to the
 * same. */
#include <stdlib.h>

#include "base/arena.h"
#include "crdt/crdt.h"
#include "crypto/crypto.h"

enum { MEMORY_MAX = 64 << 20 };

static void *take(void *user, size_t len) { return cal_arena_alloc(user, len); }

static void demand(int condition) {
    if (!condition) abort();
}

static int encode(const crdt_memory *memory, unsigned kind, crdt_bytes bytes,
                  crdt_bytes *ret_bytes) {
    crdt_writer writer = crdt_writer_of(memory);
    int result = CRDT_EDECODE;
    switch (kind) {
    case 0: {
        crdt_index value;
        crdt_hash hash;
        result = crdt_index_decode(memory, bytes, &value);
        if (result == CRDT_ENOMEM) return result;
        if (!result)
            demand(crdt_index_full_hash(bytes, &hash) == 0 &&
                   crdt_compare(&hash, &value.full_hash, 32) == 0);
        if (!result) crdt_write_index(&writer, &value);
        break;
    }
    case 1: {
        crdt_action value;
        result = crdt_action_decode(memory, bytes, &value);
        if (!result) crdt_write_action(&writer, &value);
        break;
    }
    case 2: {
        crdt_delta value;
        result = crdt_delta_decode(memory, bytes, &value);
        return result ? result : crdt_delta_encode(memory, &value, ret_bytes);
    }
    case 3: {
        crdt_metadata value;
        result = crdt_metadata_decode(memory, bytes, &value);
        if (!result) crdt_write_metadata(&writer, &value);
        break;
    }
    case 4: {
        crdt_hlc value;
        result = crdt_hlc_decode(bytes, &value);
        if (!result) crdt_write_hlc(&writer, &value);
        break;
    }
    default:
        return CRDT_EDECODE;
    }
    return result ? result : crdt_write_end(&writer, ret_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    cal_arena arena;
    cal_arena_init(&arena, MEMORY_MAX);
    crdt_memory memory = {&arena, take};
    crdt_bytes first, second;
    unsigned kind = data[0] % 5;
    if (encode(&memory, kind, crdt_bytes_of(data + 1, size - 1), &first) == 0) {
        int result = encode(&memory, kind, first, &second);
        demand(result == CRDT_ENOMEM || (result == 0 && crdt_bytes_equal(first, second)));
    }
    cal_arena_deinit(&arena);
    return 0;
}
