/* The functions that a compiler may call without being asked (memcpy and its like). Only in
 * WebAssembly builds. */
#ifdef __wasm__
#include <stddef.h>
#include <stdint.h>

/* Each of these is one instruction with -mbulk-memory. */
void *memcpy(void *restrict to, const void *restrict from, size_t len);
void *memmove(void *to, const void *from, size_t len);
void *memset(void *to, int value, size_t len);
int memcmp(const void *a, const void *b, size_t len);
size_t strlen(const char *text);

void *memcpy(void *restrict to, const void *restrict from, size_t len) {
    return __builtin_memcpy(to, from, len);
}

void *memmove(void *to, const void *from, size_t len) { return __builtin_memmove(to, from, len); }

void *memset(void *to, int value, size_t len) { return __builtin_memset(to, value, len); }

int memcmp(const void *a, const void *b, size_t len) {
    const uint8_t *x = a, *y = b;
    while (len >= 8) {
        uint64_t u, v;
        __builtin_memcpy(&u, x, 8);
        __builtin_memcpy(&v, y, 8);
        if (u != v) break;
        x += 8, y += 8, len -= 8;
    }
    for (; len; x++, y++, len--)
        if (*x != *y) return *x < *y ? -1 : 1;
    return 0;
}

size_t strlen(const char *text) {
    const char *end = text;
    while (*end) end++;
    return (size_t)(end - text);
}
#else
typedef int app_no_libc_needed;
#endif
