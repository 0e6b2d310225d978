/* Growable bytes with a maximum, see buffer.h. */
#include "base/buffer.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "calimero/error.h"

enum { FIRST_CAPACITY = 64 };

void cal_buffer_init(cal_buffer *buffer, size_t max) { *buffer = (cal_buffer){.max = max}; }

void cal_buffer_deinit(cal_buffer *buffer) {
    if (!buffer) return;
    free(buffer->data);
    *buffer = (cal_buffer){.max = buffer->max};
}

void cal_buffer_reset(cal_buffer *buffer) {
    buffer->len = 0;
    buffer->error = 0;
}

static int grow(cal_buffer *buffer, size_t needed) {
    size_t capacity = buffer->capacity ? buffer->capacity : FIRST_CAPACITY;
    while (capacity < needed) capacity = capacity > SIZE_MAX / 2 ? needed : capacity * 2;
    uint8_t *data = realloc(buffer->data, capacity);
    if (!data) return buffer->error = CAL_ENOMEM;
    buffer->data = data;
    buffer->capacity = capacity;
    return 0;
}

/* Room for `len` bytes and `extra` uncounted ones. */
static int make_room(cal_buffer *buffer, size_t len, size_t extra) {
    assert(buffer->len <= buffer->max);
    if (buffer->error) return buffer->error;
    if (len > buffer->max - buffer->len) return buffer->error = CAL_ELIMIT;
    size_t needed = buffer->len + len;
    if (extra > SIZE_MAX - needed) return buffer->error = CAL_ELIMIT;
    needed += extra;
    return needed <= buffer->capacity ? 0 : grow(buffer, needed);
}

uint8_t *cal_buffer_reserve(cal_buffer *buffer, size_t len) {
    if (make_room(buffer, len, 1) != 0) return NULL;
    return buffer->data + buffer->len;
}

int cal_buffer_append(cal_buffer *buffer, const void *data, size_t len) {
    if (len == 0) return buffer->error;
    if (make_room(buffer, len, 0) != 0) return buffer->error;
    memcpy(buffer->data + buffer->len, data, len);
    buffer->len += len;
    return 0;
}

int cal_buffer_append_slice(cal_buffer *buffer, cal_slice slice) {
    return cal_buffer_append(buffer, slice.data, slice.len);
}

int cal_buffer_append_text(cal_buffer *buffer, const char *text) {
    return cal_buffer_append(buffer, text, strlen(text));
}

int cal_buffer_append_u8(cal_buffer *buffer, uint8_t value) {
    return cal_buffer_append(buffer, &value, 1);
}

int cal_buffer_append_u32le(cal_buffer *buffer, uint32_t value) {
    uint8_t bytes[4];
    cal_write_u32le(bytes, value);
    return cal_buffer_append(buffer, bytes, sizeof bytes);
}

int cal_buffer_append_u64le(cal_buffer *buffer, uint64_t value) {
    uint8_t bytes[8];
    cal_write_u64le(bytes, value);
    return cal_buffer_append(buffer, bytes, sizeof bytes);
}

int cal_buffer_printf(cal_buffer *buffer, const char *format, ...) {
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (len >= 0 && make_room(buffer, (size_t)len, 1) == 0) {
        vsnprintf((char *)buffer->data + buffer->len, (size_t)len + 1, format, again);
        buffer->len += (size_t)len;
    }
    va_end(again);
    return buffer->error;
}

void cal_buffer_consume(cal_buffer *buffer, size_t len) {
    assert(len <= buffer->len);
    buffer->len -= len;
    if (buffer->len) memmove(buffer->data, buffer->data + len, buffer->len);
}

uint8_t *cal_buffer_detach(cal_buffer *buffer, size_t *ret_len) {
    uint8_t *data = buffer->data;
    *ret_len = buffer->len;
    *buffer = (cal_buffer){.max = buffer->max};
    return data;
}

const char *cal_buffer_cstr(cal_buffer *buffer) {
    if (make_room(buffer, 0, 1) != 0) return NULL;
    buffer->data[buffer->len] = 0;
    return (const char *)buffer->data;
}
