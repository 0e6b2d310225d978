/* Slices, and integers in fixed byte order. */
#ifndef CAL_BASE_BYTES_H
#define CAL_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Borrowed bytes. data may be anything when len is 0. */
typedef struct cal_slice {
    const uint8_t *data;
    size_t len;
} cal_slice;

static inline cal_slice cal_slice_of(const void *data, size_t len) {
    return (cal_slice){data, len};
}
static inline cal_slice cal_slice_text(const char *text) {
    return (cal_slice){(const uint8_t *)text, strlen(text)};
}

static inline bool cal_slice_equal(cal_slice a, cal_slice b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* Byte order, a shorter prefix first: the order of keys in the store. */
static inline int cal_slice_compare(cal_slice a, cal_slice b) {
    size_t shorter = a.len < b.len ? a.len : b.len;
    int order = shorter ? memcmp(a.data, b.data, shorter) : 0;
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

static inline uint16_t cal_read_u16be(const uint8_t *p) { return (uint16_t)((p[0] << 8) | p[1]); }
static inline uint32_t cal_read_u32be(const uint8_t *p) {
    return ((uint32_t)p[0] << 24) | ((uint32_t)p[1] << 16) | ((uint32_t)p[2] << 8) | p[3];
}
static inline uint32_t cal_read_u32le(const uint8_t *p) {
    return ((uint32_t)p[3] << 24) | ((uint32_t)p[2] << 16) | ((uint32_t)p[1] << 8) | p[0];
}
static inline uint64_t cal_read_u64le(const uint8_t *p) {
    return ((uint64_t)cal_read_u32le(p + 4) << 32) | cal_read_u32le(p);
}
static inline uint64_t cal_read_u64be(const uint8_t *p) {
    return ((uint64_t)cal_read_u32be(p) << 32) | cal_read_u32be(p + 4);
}
static inline void cal_write_u16be(uint8_t *p, uint16_t v) {
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}
static inline void cal_write_u32be(uint8_t *p, uint32_t v) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (24 - 8 * i));
}
static inline void cal_write_u32le(uint8_t *p, uint32_t v) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (8 * i));
}
static inline void cal_write_u64le(uint8_t *p, uint64_t v) {
    for (int i = 0; i < 8; i++) p[i] = (uint8_t)(v >> (8 * i));
}
static inline void cal_write_u64be(uint8_t *p, uint64_t v) {
    for (int i = 0; i < 8; i++) p[i] = (uint8_t)(v >> (56 - 8 * i));
}

#endif
