/* A growable byte buffer that cannot exist without its maximum.
 *
 * The first failure (over the maximum, out of memory) sticks: later appends do nothing and return
 * the same code, so an encoder appends freely and checks `error` once. A failed append leaves the
 * content as it was. One owner. */
#ifndef CAL_BASE_BUFFER_H
#define CAL_BASE_BUFFER_H

#include "base/bytes.h"

typedef struct cal_buffer {
    uint8_t *data;
    size_t len;
    size_t capacity;
    size_t max;
    int error; /* 0, CAL_ELIMIT or CAL_ENOMEM */
} cal_buffer;

void cal_buffer_init(cal_buffer *buffer, size_t max);
void cal_buffer_deinit(
    cal_buffer *buffer); /* releases the bytes; NULL allowed; may be initialised again */
void cal_buffer_reset(cal_buffer *buffer); /* empties it and clears the error, keeps the memory */

int cal_buffer_append(cal_buffer *buffer, const void *data, size_t len);
int cal_buffer_append_slice(cal_buffer *buffer, cal_slice slice);
int cal_buffer_append_text(cal_buffer *buffer, const char *text); /* without the NUL */
int cal_buffer_append_u8(cal_buffer *buffer, uint8_t value);
int cal_buffer_append_u32le(cal_buffer *buffer, uint32_t value);
int cal_buffer_append_u64le(cal_buffer *buffer, uint64_t value);
int cal_buffer_printf(cal_buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Makes room for len more bytes and returns where they go, or NULL with `error` set; the caller
 * then adds what it wrote to `len`. */
uint8_t *cal_buffer_reserve(cal_buffer *buffer, size_t len);

/* Drops the first len bytes (len <= buffer->len). */
void cal_buffer_consume(cal_buffer *buffer, size_t len);

/* Hands the bytes to the caller, who frees them with free(); the buffer is empty afterwards. NULL
 * when empty. */
uint8_t *cal_buffer_detach(cal_buffer *buffer, size_t *ret_len);

/* Appends a NUL that is not counted in len, so that data reads as text; NULL on failure. */
const char *cal_buffer_cstr(cal_buffer *buffer);

static inline cal_slice cal_buffer_slice(const cal_buffer *buffer) {
    return (cal_slice){buffer->data, buffer->len};
}

#endif
