/* Snapshot pages and the records in them (network-sync.md 8.4).
 *
 * A page is the byte 0xFF and records with their lengths; without that byte it is the legacy form:
 * entities one after another, without an app key. It travels as an LZ4 block behind its length. */
#include <lz4.h>

#include "sync/field.h"

static const sync_field entity_fields[] = {
    FIELD(sync_record, FIELD_ID, id, 0),
    FIELD(sync_record, FIELD_BYTES, entry, SYNC_PAGE_MAX),
    FIELD(sync_record, FIELD_BYTES, index, SYNC_PAGE_MAX),
    {FIELD_END, 0, 0, false, 0},
};
static const sync_field app_key_field[] = {
    FIELD_OPTION(sync_record, FIELD_ID, app_key, 0, has_app_key),
    {FIELD_END, 0, 0, false, 0},
};
static const sync_field auxiliary_fields[] = {
    FIELD(sync_record, FIELD_U8, auxiliary, 0),
    FIELD(sync_record, FIELD_ID, id, 0),
    FIELD(sync_record, FIELD_BYTES, entry, SYNC_PAGE_MAX),
    {FIELD_END, 0, 0, false, 0},
};

static void record_read(cal_borsh *in, bool framed, sync_record *record) {
    enum { RECORD_KINDS = 2 };
    record->kind = cal_borsh_tag(in, RECORD_KINDS);
    if (in->error) return;
    if (record->kind == SYNC_RECORD_AUXILIARY) {
        sync_fields_read(auxiliary_fields, in, NULL, record);
        return;
    }
    sync_fields_read(entity_fields, in, NULL, record);
    if (framed) sync_fields_read(app_key_field, in, NULL, record);
}

static void record_write(const sync_record *record, cal_buffer *out) {
    cal_buffer_append_u8(out, record->kind);
    if (record->kind == SYNC_RECORD_AUXILIARY) {
        sync_fields_write(auxiliary_fields, record, out);
        return;
    }
    sync_fields_write(entity_fields, record, out);
    sync_fields_write(app_key_field, record, out);
}

int sync_record_write(const sync_record *record, cal_buffer *out) {
    size_t at = out->len;
    cal_buffer_append_u32le(out, 0);
    record_write(record, out);
    if (!out->error) cal_write_u32le(out->data + at, (uint32_t)(out->len - at - 4));
    return out->error;
}

int sync_record_next(cal_slice page, size_t *offset, sync_record *ret_record) {
    bool framed = page.len && page.data[0] == SYNC_PAGE_MARKER;
    size_t at = framed && *offset == 0 ? 1 : *offset;
    if (at >= page.len) return CAL_ENOTFOUND;
    cal_borsh in = cal_borsh_read(cal_slice_of(page.data + at, page.len - at));
    sync_record record = {0};
    if (framed) {
        cal_borsh body = cal_borsh_read(cal_borsh_bytes(&in, SYNC_PAGE_MAX));
        if (!in.error) record_read(&body, true, &record);
        if (!in.error && cal_borsh_end(&body)) cal_borsh_fail(&in, body.error);
    } else {
        record_read(&in, false, &record);
    }
    if (in.error) return in.error == CAL_ELIMIT ? CAL_EDECODE : in.error;
    *offset = page.len - in.left;
    *ret_record = record;
    return 0;
}

int sync_page_compress(cal_slice page, cal_buffer *ret_payload) {
    if (page.len > SYNC_PAGE_MAX) return CAL_ELIMIT;
    if (page.len == 0) return 0; /* an empty context is an empty payload */
    int bound = LZ4_compressBound((int)page.len);
    uint8_t *at = cal_buffer_reserve(ret_payload, 4 + (size_t)bound);
    if (!at) return ret_payload->error;
    cal_write_u32le(at, (uint32_t)page.len);
    int len = LZ4_compress_default((const char *)page.data, (char *)at + 4, (int)page.len, bound);
    if (len <= 0) return CAL_ENOMEM; /* the bound suffices: only its own memory can be short */
    ret_payload->len += 4 + (size_t)len;
    return 0;
}

int sync_page_expand(cal_slice payload, uint32_t uncompressed_len, cal_buffer *ret_page) {
    if (uncompressed_len > SYNC_PAGE_MAX || payload.len > SYNC_PAGE_PAYLOAD_MAX) return CAL_ELIMIT;
    if (payload.len == 0) return uncompressed_len ? CAL_EDECODE : 0;
    if (payload.len < 4 || cal_read_u32le(payload.data) != uncompressed_len) return CAL_EDECODE;
    /* one byte more than needed: LZ4 wants room even for nothing */
    uint8_t *at = cal_buffer_reserve(ret_page, (size_t)uncompressed_len + 1);
    if (!at) return ret_page->error;
    int len = LZ4_decompress_safe((const char *)payload.data + 4, (char *)at, (int)payload.len - 4,
                                  (int)uncompressed_len);
    if (len < 0 || (uint32_t)len != uncompressed_len) return CAL_EDECODE;
    ret_page->len += uncompressed_len;
    return 0;
}
