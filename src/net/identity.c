/* See identity.h. Pure; any thread. */
#include "net/identity.h"

#include "calimero/error.h"

enum { KEY_ARENA_MAX = 4096 };

static void *pb_alloc(void *arena, size_t size) { return cal_arena_alloc(arena, size); }

static void pb_free(void *arena, void *memory) { /* the arena's owner frees all at once */
    (void)arena;
    (void)memory;
}

ProtobufCAllocator net_pb_allocator(cal_arena *arena) {
    return (ProtobufCAllocator){.alloc = pb_alloc, .free = pb_free, .allocator_data = arena};
}

int net_key_parse(cal_slice key, uint8_t ret_ed25519[32]) {
    cal_arena arena;
    cal_arena_init(&arena, KEY_ARENA_MAX);
    ProtobufCAllocator allocator = net_pb_allocator(&arena);
    NetPb__PublicKey *message = net_pb__public_key__unpack(&allocator, key.len, key.data);
    int result = !message                                     ? CAL_EDECODE
                 : message->type != NET_PB__KEY_TYPE__Ed25519 ? CAL_EUNSUPPORTED
                 : message->data.len != 32                    ? CAL_EDECODE
                                                              : 0;
    if (!result) memcpy(ret_ed25519, message->data.data, 32);
    cal_arena_deinit(&arena);
    return result;
}
