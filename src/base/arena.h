/* Memory for one request or one delta: allocated piece by piece, released all at once. One owner,
 * one thread. */
#ifndef CAL_BASE_ARENA_H
#define CAL_BASE_ARENA_H

#include "base/bytes.h"

typedef struct cal_arena {
    struct cal_arena_block *blocks; /* newest first */
    size_t used;                    /* bytes asked for so far */
    size_t max;                     /* an allocation beyond this fails */
} cal_arena;

void cal_arena_init(cal_arena *arena, size_t max);
void cal_arena_deinit(cal_arena *arena);

/* Zeroed memory aligned for any object, or NULL when max is reached or memory is short. len 0 gives
 * a valid pointer. */
void *cal_arena_alloc(cal_arena *arena, size_t len);
void *cal_arena_alloc_array(cal_arena *arena, size_t count,
                            size_t size); /* NULL also when count * size overflows */
void *cal_arena_copy(cal_arena *arena, const void *data, size_t len);
char *cal_arena_text(cal_arena *arena, cal_slice text); /* NUL-terminated copy */

#endif
