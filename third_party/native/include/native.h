/* C ABI of the functions that third_party/native adds to the crates it pins (src/lib.rs).
 *
 * Any thread. Nothing here keeps a pointer after it returns. */
#ifndef CAL_NATIVE_H
#define CAL_NATIVE_H

#include <stddef.h>
#include <stdint.h>

/* A string owned by the library, not NUL-terminated; give it back to cal_native_text_free. */
typedef struct {
    char *ptr;
    size_t len;
} cal_native_text;

void cal_native_text_free(cal_native_text text);

/* BLAKE3 of len bytes into 32 bytes at ret_hash. */
void cal_native_blake3(const uint8_t *data, size_t len, uint8_t *ret_hash);

/* TOML to JSON. 0 and the JSON, or -1 and the reason; the caller frees ret_text either way. */
int cal_native_toml_to_json(const char *toml, size_t len, cal_native_text *ret_text);

/* Sets the dotted key to a TOML value, keeping comments and order. 0 and the new document, or -1 and the
 * reason; the caller frees ret_text either way. */
int cal_native_toml_set(const char *toml, size_t len, const char *path, size_t path_len, const char *value,
                        size_t value_len, cal_native_text *ret_text);

#endif
