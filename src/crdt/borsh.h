/* borsh, reading and writing: little-endian integers, u32-counted sequences (runtime-abi.md 9).
 *
 * A reader or writer that has failed stays failed and yields zeros, so that callers check once at
 * the end. Strings are checked to be UTF-8; booleans and option tags must be 0 or 1. */
#ifndef CAL_CRDT_BORSH_H
#define CAL_CRDT_BORSH_H

#include "crdt/base.h"

typedef struct crdt_reader {
    const uint8_t *data;
    size_t len;                /* bytes left */
    int error;                 /* 0, CRDT_EDECODE or CRDT_ENOMEM: the first failure */
    const crdt_memory *memory; /* for sequences of structures */
} crdt_reader;

crdt_reader crdt_reader_of(crdt_bytes bytes, const crdt_memory *memory);
void crdt_read_fail(crdt_reader *reader, int error);
uint8_t crdt_read_u8(crdt_reader *reader);
uint32_t crdt_read_u32(crdt_reader *reader);
uint64_t crdt_read_u64(crdt_reader *reader);
bool crdt_read_bool(crdt_reader *reader); /* also the tag of an option */
void crdt_read_fixed(crdt_reader *reader, void *ret_bytes, size_t len);
crdt_bytes crdt_read_take(crdt_reader *reader, size_t len); /* borrowed */
crdt_bytes crdt_read_bytes(crdt_reader *reader);            /* u32 length, borrowed */
crdt_bytes crdt_read_string(crdt_reader *reader);           /* the same, UTF-8 */
/* A count of items that take at least item_min bytes each: fails when they cannot all be there. */
uint32_t crdt_read_count(crdt_reader *reader, size_t item_min);
int crdt_read_end(crdt_reader *reader); /* 0, the failure, or CRDT_EDECODE when bytes are left */

/* Grows by doubling within memory. */
typedef struct crdt_writer {
    uint8_t *data;
    size_t len, capacity;
    int error; /* 0, CRDT_ENOMEM or CRDT_ELIMIT (a count beyond u32) */
    const crdt_memory *memory;
} crdt_writer;

crdt_writer crdt_writer_of(const crdt_memory *memory);
void crdt_write_u8(crdt_writer *writer, uint8_t value);
void crdt_write_u32(crdt_writer *writer, uint32_t value);
void crdt_write_u64(crdt_writer *writer, uint64_t value);
void crdt_write_fixed(crdt_writer *writer, const void *bytes, size_t len);
void crdt_write_bytes(crdt_writer *writer, crdt_bytes bytes); /* with its length; also strings */
int crdt_write_end(const crdt_writer *writer, crdt_bytes *ret_bytes);

bool crdt_utf8_valid(crdt_bytes text);

#endif
