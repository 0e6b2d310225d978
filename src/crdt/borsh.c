/* borsh readers and writers, and the few helpers of base.h. Freestanding; see borsh.h.
 * runtime-abi.md 9. */
#include "crdt/borsh.h"

int crdt_compare(const void *a, const void *b, size_t len) {
    return len ? __builtin_memcmp(a, b, len) : 0;
}

bool crdt_id_equal(const crdt_id *a, const crdt_id *b) { return crdt_compare(a, b, 32) == 0; }

bool crdt_bytes_equal(crdt_bytes a, crdt_bytes b) {
    return a.len == b.len && crdt_compare(a.data, b.data, a.len) == 0;
}

void *crdt_alloc_array(const crdt_memory *memory, size_t count, size_t size) {
    if (size && count > SIZE_MAX / 2 / size) return NULL;
    size_t len = count * size;
    return memory->alloc(memory->user, len ? len : 1);
}

/* Merges the sorted runs [left, middle) and [middle, right) of `from` into `to`; equals keep their
 * order. */
static void merge_runs(const uint8_t *from, uint8_t *to, size_t left, size_t middle, size_t right,
                       size_t size, crdt_compare_fn compare) {
    size_t a = left, b = middle;
    for (size_t k = left; k < right; k++) {
        bool first = a < middle && (b >= right || compare(from + a * size, from + b * size) <= 0);
        __builtin_memcpy(to + k * size, from + (first ? a++ : b++) * size, size);
    }
}

int crdt_sort(const crdt_memory *memory, void *items, size_t count, size_t size,
              crdt_compare_fn compare) {
    uint8_t *from = items;
    size_t sorted = 1;
    while (sorted < count && compare(from + (sorted - 1) * size, from + sorted * size) <= 0)
        sorted++;
    if (sorted >= count) return 0;
    uint8_t *to = crdt_alloc_array(memory, count, size);
    if (!to) return CRDT_ENOMEM;
    for (size_t width = 1; width < count; width *= 2) {
        for (size_t left = 0; left < count; left += 2 * width) {
            size_t middle = left + width < count ? left + width : count;
            size_t right = left + 2 * width < count ? left + 2 * width : count;
            merge_runs(from, to, left, middle, right, size, compare);
        }
        uint8_t *swap = from;
        from = to;
        to = swap;
    }
    if (from != items) __builtin_memcpy(items, from, count * size);
    return 0;
}

/* --- reading --- */

crdt_reader crdt_reader_of(crdt_bytes bytes, const crdt_memory *memory) {
    return (crdt_reader){.data = bytes.data, .len = bytes.len, .memory = memory};
}

void crdt_read_fail(crdt_reader *reader, int error) {
    if (!reader->error) reader->error = error;
    reader->len = 0;
}

crdt_bytes crdt_read_take(crdt_reader *reader, size_t len) {
    if (reader->error || len > reader->len) {
        crdt_read_fail(reader, CRDT_EDECODE);
        return (crdt_bytes){0};
    }
    crdt_bytes taken = {reader->data, len};
    if (len == 0) return taken;
    reader->data += len;
    reader->len -= len;
    return taken;
}

void crdt_read_fixed(crdt_reader *reader, void *ret_bytes, size_t len) {
    crdt_bytes taken = crdt_read_take(reader, len);
    if (taken.data)
        __builtin_memcpy(ret_bytes, taken.data, len);
    else
        __builtin_memset(ret_bytes, 0, len);
}

uint8_t crdt_read_u8(crdt_reader *reader) {
    uint8_t value = 0;
    crdt_read_fixed(reader, &value, 1);
    return value;
}

static uint64_t read_integer(crdt_reader *reader, size_t size) {
    crdt_bytes taken = crdt_read_take(reader, size);
    uint64_t value = 0;
    for (size_t i = taken.len; i > 0; i--) value = value << 8 | taken.data[i - 1];
    return value;
}

uint32_t crdt_read_u32(crdt_reader *reader) { return (uint32_t)read_integer(reader, 4); }
uint64_t crdt_read_u64(crdt_reader *reader) { return read_integer(reader, 8); }

bool crdt_read_bool(crdt_reader *reader) {
    uint8_t value = crdt_read_u8(reader);
    if (value > 1) crdt_read_fail(reader, CRDT_EDECODE);
    return value == 1;
}

crdt_bytes crdt_read_bytes(crdt_reader *reader) {
    uint32_t len = crdt_read_u32(reader);
    return crdt_read_take(reader, len);
}

crdt_bytes crdt_read_string(crdt_reader *reader) {
    crdt_bytes text = crdt_read_bytes(reader);
    if (!crdt_utf8_valid(text)) crdt_read_fail(reader, CRDT_EDECODE);
    return text;
}

uint32_t crdt_read_count(crdt_reader *reader, size_t item_min) {
    uint32_t count = crdt_read_u32(reader);
    if (item_min && count > reader->len / item_min) {
        crdt_read_fail(reader, CRDT_EDECODE);
        return 0;
    }
    return count;
}

int crdt_read_end(crdt_reader *reader) {
    if (!reader->error && reader->len) crdt_read_fail(reader, CRDT_EDECODE);
    return reader->error;
}

/* --- writing --- */

crdt_writer crdt_writer_of(const crdt_memory *memory) { return (crdt_writer){.memory = memory}; }

static bool reserve(crdt_writer *writer, size_t len) {
    if (writer->error) return false;
    if (len <= writer->capacity - writer->len) return true;
    size_t need = writer->len + len;
    size_t capacity = writer->capacity < 128 ? 256 : writer->capacity * 2;
    if (capacity < need) capacity = need;
    uint8_t *data = need < len ? NULL : crdt_alloc_array(writer->memory, capacity, 1);
    if (!data) {
        writer->error = CRDT_ENOMEM;
        return false;
    }
    if (writer->len) __builtin_memcpy(data, writer->data, writer->len);
    writer->data = data;
    writer->capacity = capacity;
    return true;
}

void crdt_write_fixed(crdt_writer *writer, const void *bytes, size_t len) {
    if (!len || !reserve(writer, len)) return;
    __builtin_memcpy(writer->data + writer->len, bytes, len);
    writer->len += len;
}

void crdt_write_u8(crdt_writer *writer, uint8_t value) { crdt_write_fixed(writer, &value, 1); }

static void write_integer(crdt_writer *writer, uint64_t value, size_t size) {
    uint8_t bytes[8];
    for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)(value >> (8 * i));
    crdt_write_fixed(writer, bytes, size);
}

void crdt_write_u32(crdt_writer *writer, uint32_t value) { write_integer(writer, value, 4); }
void crdt_write_u64(crdt_writer *writer, uint64_t value) { write_integer(writer, value, 8); }

void crdt_write_bytes(crdt_writer *writer, crdt_bytes bytes) {
    if (bytes.len > UINT32_MAX) {
        if (!writer->error) writer->error = CRDT_ELIMIT;
        return;
    }
    crdt_write_u32(writer, (uint32_t)bytes.len);
    crdt_write_fixed(writer, bytes.data, bytes.len);
}

int crdt_write_end(const crdt_writer *writer, crdt_bytes *ret_bytes) {
    if (writer->error) return writer->error;
    *ret_bytes = (crdt_bytes){writer->data, writer->len};
    return 0;
}

/* --- text --- */

/* Length of the sequence that starts with `lead`, and the range its second byte must fall in
 * (Unicode table 3-7). */
static size_t utf8_sequence(uint8_t lead, uint8_t *ret_low, uint8_t *ret_high) {
    *ret_low = 0x80;
    *ret_high = 0xBF;
    if (lead < 0x80) return 1;
    if (lead < 0xC2) return 0;
    if (lead < 0xE0) return 2;
    if (lead < 0xF0) {
        if (lead == 0xE0) *ret_low = 0xA0;
        if (lead == 0xED) *ret_high = 0x9F;
        return 3;
    }
    if (lead > 0xF4) return 0;
    if (lead == 0xF0) *ret_low = 0x90;
    if (lead == 0xF4) *ret_high = 0x8F;
    return 4;
}

bool crdt_utf8_valid(crdt_bytes text) {
    for (size_t i = 0; i < text.len;) {
        uint8_t low, high;
        size_t len = utf8_sequence(text.data[i], &low, &high);
        if (len == 0 || len > text.len - i) return false;
        for (size_t k = 1; k < len; k++) {
            uint8_t byte = text.data[i + k];
            if (byte < low || byte > high) return false;
            low = 0x80;
            high = 0xBF;
        }
        i += len;
    }
    return true;
}
