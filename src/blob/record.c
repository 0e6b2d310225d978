/* The record of a blob as it is stored, the id made of its chunks, and the type told from its first
 * bytes.
 *
 * Layout: version u8, size u64le, SHA-256 of the content, mime u8, then the chunk ids; their number
 * follows from the size. */
#include "blob/internal.h"

/* The index is stored: add at the end. */
static const char *const blob_mimes[] = {
    "application/octet-stream",
    "application/wasm",
    "application/gzip",
    "application/zip",
    "application/pdf",
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/webp",
    "video/mp4",
    "audio/mpeg",
    "audio/ogg",
    "application/zstd",
};

typedef struct blob_magic {
    uint8_t mime, offset, len;
    char bytes[8];
} blob_magic;

static const blob_magic blob_magics[] = {
    {1, 0, 4, "\0asm"},
    {2, 0, 2, "\x1f\x8b"},
    {3, 0, 4, "PK\3\4"},
    {4, 0, 5, "%PDF-"},
    {5, 0, 8, "\x89PNG\r\n\x1a\n"},
    {6, 0, 3, "\xff\xd8\xff"},
    {7, 0, 4, "GIF8"},
    {8, 8, 4, "WEBP"},
    {9, 4, 4, "ftyp"},
    {10, 0, 3, "ID3"},
    {11, 0, 4, "OggS"},
    {12, 0, 4, "\x28\xb5\x2f\xfd"},
};

uint8_t blob_sniff(cal_slice start) {
    for (size_t i = 0; i < sizeof blob_magics / sizeof *blob_magics; i++) {
        const blob_magic *magic = &blob_magics[i];
        if (start.len >= (size_t)magic->offset + magic->len &&
            memcmp(start.data + magic->offset, magic->bytes, magic->len) == 0)
            return magic->mime;
    }
    return 0;
}

const char *blob_mime(uint8_t mime) {
    return blob_mimes[mime < sizeof blob_mimes / sizeof *blob_mimes ? mime : 0];
}

int blob_record_write(const blob_record *record, cal_buffer *ret_bytes) {
    cal_buffer_append_u8(ret_bytes, BLOB_RECORD_VERSION);
    cal_buffer_append_u64le(ret_bytes, record->size);
    cal_buffer_append(ret_bytes, record->hash, sizeof record->hash);
    cal_buffer_append_u8(ret_bytes, record->mime);
    return cal_buffer_append(ret_bytes, record->chunk_ids,
                             (size_t)record->chunk_count * CAL_HASH_SIZE);
}

int blob_record_read(cal_slice bytes, blob_record *ret_record) {
    if (bytes.len < BLOB_RECORD_HEADER || bytes.data[0] != BLOB_RECORD_VERSION) return CAL_ECORRUPT;
    uint64_t size = cal_read_u64le(bytes.data + 1);
    size_t ids = bytes.len - BLOB_RECORD_HEADER;
    uint64_t chunks = size / CAL_BLOB_CHUNK_SIZE + (size % CAL_BLOB_CHUNK_SIZE != 0);
    if (ids % CAL_HASH_SIZE != 0 || chunks != ids / CAL_HASH_SIZE || chunks > UINT32_MAX)
        return CAL_ECORRUPT;
    ret_record->size = size;
    memcpy(ret_record->hash, bytes.data + 9, CAL_HASH_SIZE);
    ret_record->mime = bytes.data[9 + CAL_HASH_SIZE];
    ret_record->chunk_count = (uint32_t)chunks;
    ret_record->chunk_ids = bytes.data + BLOB_RECORD_HEADER;
    return 0;
}

void blob_record_info(const cal_blob_id *id, const blob_record *record, cal_blobs_info *ret_info) {
    *ret_info = (cal_blobs_info){.id = *id,
                                 .size = record->size,
                                 .chunks = record->chunk_count,
                                 .mime = blob_mime(record->mime)};
    memcpy(ret_info->hash, record->hash, sizeof ret_info->hash);
}

uint32_t blob_chunk_size(const blob_record *record, uint32_t index) {
    uint64_t left = record->size - (uint64_t)index * CAL_BLOB_CHUNK_SIZE;
    return left < CAL_BLOB_CHUNK_SIZE ? (uint32_t)left : CAL_BLOB_CHUNK_SIZE;
}

void blob_id_of_chunks(const uint8_t *chunk_ids, size_t count, cal_blob_id *ret_id) {
    cal_sha256(cal_slice_of(chunk_ids, count * CAL_HASH_SIZE), ret_id->bytes);
}

int cal_blob_id_of(cal_slice bytes, cal_blob_id *ret_id) {
    cal_sha256_stream stream;
    int error = cal_sha256_begin(&stream);
    if (error) return error;
    for (size_t at = 0; at < bytes.len; at += CAL_BLOB_CHUNK_SIZE) {
        uint8_t chunk_id[CAL_HASH_SIZE];
        size_t len = bytes.len - at < CAL_BLOB_CHUNK_SIZE ? bytes.len - at : CAL_BLOB_CHUNK_SIZE;
        cal_sha256(cal_slice_of(bytes.data + at, len), chunk_id);
        cal_sha256_feed(&stream, cal_slice_of(chunk_id, sizeof chunk_id));
    }
    cal_sha256_end(&stream, ret_id->bytes);
    return 0;
}
