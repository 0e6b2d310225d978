/* Just enough of the binary format to find custom sections: the frame of sections, never what is in
 * them. Pure functions over untrusted bytes. */
#include "vm/internal.h"

typedef struct section {
    uint8_t id;
    cal_slice whole; /* with id and length */
    cal_slice content;
} section;

enum { CUSTOM = 0, HEADER = 8 };

static bool take_u32(cal_slice *rest, uint32_t *ret_value) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 35; shift += 7) {
        if (rest->len == 0) return false;
        uint8_t byte = rest->data[0];
        rest->data++;
        rest->len--;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *ret_value = (uint32_t)value;
            return value <= UINT32_MAX;
        }
    }
    return false;
}

static bool take_header(cal_slice *rest) {
    static const uint8_t header[HEADER] = {0, 'a', 's', 'm', 1, 0, 0, 0};
    if (rest->len < HEADER || memcmp(rest->data, header, HEADER) != 0) return false;
    rest->data += HEADER;
    rest->len -= HEADER;
    return true;
}

static bool take_section(cal_slice *rest, section *ret_section) {
    cal_slice start = *rest;
    if (rest->len == 0) return false;
    ret_section->id = rest->data[0];
    rest->data++;
    rest->len--;
    uint32_t len;
    if (!take_u32(rest, &len) || len > rest->len) return false;
    ret_section->content = cal_slice_of(rest->data, len);
    rest->data += len;
    rest->len -= len;
    ret_section->whole = cal_slice_of(start.data, start.len - rest->len);
    return true;
}

/* Splits a custom section into its name and what follows. */
static bool take_name(cal_slice *content, cal_slice *ret_name) {
    uint32_t len;
    if (!take_u32(content, &len) || len > content->len) return false;
    *ret_name = cal_slice_of(content->data, len);
    content->data += len;
    content->len -= len;
    return true;
}

int cal_wasm_custom_section(cal_slice wasm, const char *name, cal_slice *ret_content) {
    cal_slice wanted = cal_slice_text(name), found = {0};
    bool any = false;
    if (!take_header(&wasm)) return CAL_EDECODE;
    while (wasm.len > 0) {
        section part;
        if (!take_section(&wasm, &part)) return CAL_EDECODE;
        if (part.id != CUSTOM) continue;
        cal_slice part_name;
        if (!take_name(&part.content, &part_name)) return CAL_EDECODE;
        if (!cal_slice_equal(part_name, wanted)) continue;
        found = part.content;
        any = true;
    }
    if (!any) return CAL_ENOTFOUND;
    *ret_content = found;
    return 0;
}

uint64_t vm_module_size(cal_slice wasm) {
    static const char debug[] = ".debug_";
    uint64_t size = wasm.len;
    if (!take_header(&wasm)) return size;
    section part;
    while (take_section(&wasm, &part)) {
        cal_slice name;
        if (part.id != CUSTOM || !take_name(&part.content, &name)) continue;
        if (name.len >= sizeof debug - 1 && memcmp(name.data, debug, sizeof debug - 1) == 0)
            size -= part.whole.len;
    }
    return size;
}
