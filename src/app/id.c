/* Application ids (runtime-abi.md 26). Pure functions, any thread. */
#include "app/internal.h"

static void borsh_count(size_t len, uint8_t ret_prefix[4]) {
    cal_write_u32le(ret_prefix, (uint32_t)len);
}

void cal_application_id_bundle(const char *package, const char *signer_id,
                               cal_application_id *ret_id) {
    cal_slice texts[] = {cal_slice_text(package), cal_slice_text(signer_id)};
    uint8_t counts[2][4];
    borsh_count(texts[0].len, counts[0]);
    borsh_count(texts[1].len, counts[1]);
    cal_slice parts[] = {cal_slice_of(counts[0], 4), texts[0], cal_slice_of(counts[1], 4),
                         texts[1]};
    cal_sha256_parts(parts, sizeof parts / sizeof *parts, ret_id->bytes);
}

void cal_application_id_raw(const cal_blob_id *bytecode, uint64_t size, const char *source,
                            cal_slice metadata, cal_application_id *ret_id) {
    cal_slice text = cal_slice_text(source);
    uint8_t size_bytes[8], counts[2][4];
    cal_write_u64le(size_bytes, size);
    borsh_count(text.len, counts[0]);
    borsh_count(metadata.len, counts[1]);
    cal_slice parts[] = {cal_slice_of(bytecode->bytes, CAL_ID_SIZE),
                         cal_slice_of(size_bytes, sizeof size_bytes),
                         cal_slice_of(counts[0], 4),
                         text,
                         cal_slice_of(counts[1], 4),
                         metadata};
    cal_sha256_parts(parts, sizeof parts / sizeof *parts, ret_id->bytes);
}
