/* Keys as libp2p writes them, and the bounded memory that protobuf messages are decoded into. */
#ifndef CAL_NET_IDENTITY_H
#define CAL_NET_IDENTITY_H

#include "base/arena.h"
#include "base/bytes.h"
#include "libp2p.pb-c.h"

enum { NET_KEY_SIZE = 36 };

/* The serialised PublicKey of an Ed25519 key. */
void net_key_serialise(const uint8_t ed25519[32], uint8_t ret_key[NET_KEY_SIZE]);
/* CAL_EDECODE, CAL_EUNSUPPORTED a key of another kind. */
int net_key_parse(cal_slice key, uint8_t ret_ed25519[32]);

/* protobuf-c takes its memory from an arena, so that a message costs at most the arena's maximum
 * however many fields it repeats. */
ProtobufCAllocator net_pb_allocator(cal_arena *arena);

#endif
