/* The hybrid logical clock (runtime-abi.md 14): wall time in NTP64, its low 16 bits a counter, and
 * the clock's 16-byte id. */
#ifndef CAL_CRDT_HLC_H
#define CAL_CRDT_HLC_H

#include "crdt/borsh.h"

typedef struct crdt_hlc {
    uint64_t time;  /* seconds << 32 | fraction, low 16 bits: counter */
    uint8_t id[16]; /* u128, little-endian; all zero is not a timestamp */
} crdt_hlc;

typedef struct crdt_clock {
    uint8_t id[16];
    uint64_t last; /* physical part of the last timestamp, low 16 bits 0 */
    uint16_t counter;
} crdt_clock;

enum { CRDT_HLC_SIZE = 24 };

/* An id of zeros becomes 1. */
void crdt_clock_init(crdt_clock *clock, const uint8_t id[16]);
/* A guest's clock: id = first 16 bytes of SHA-256(device key). */
void crdt_clock_init_device(crdt_clock *clock, crdt_sha256_fn sha256, const uint8_t device[32]);
crdt_hlc crdt_clock_tick(crdt_clock *clock, uint64_t wall_ns);
/* Takes a remote time in. CRDT_ELIMIT when it is more than 5 s ahead of wall_ns: then nothing
 * changes. */
int crdt_clock_observe(crdt_clock *clock, const crdt_hlc *remote, uint64_t wall_ns);
/* What comes next is later than this time, which this node itself has kept: however far ahead. */
void crdt_clock_raise(crdt_clock *clock, uint64_t time);
int crdt_hlc_compare(const crdt_hlc *a, const crdt_hlc *b); /* time, then id */
uint64_t crdt_hlc_physical_seconds(const crdt_hlc *hlc);

int crdt_hlc_decode(crdt_bytes bytes, crdt_hlc *ret_hlc); /* exactly 24 bytes */
void crdt_hlc_encode(const crdt_hlc *hlc, uint8_t ret_bytes[CRDT_HLC_SIZE]);
void crdt_read_hlc(crdt_reader *reader, crdt_hlc *ret_hlc);
void crdt_write_hlc(crdt_writer *writer, const crdt_hlc *hlc);

#endif
