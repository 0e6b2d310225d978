/* Bump allocation in blocks, see arena.h. */
#include "base/arena.h"

#include <stdalign.h>
#include <stdlib.h>

enum { BLOCK_SIZE = 16 * 1024, ALIGNMENT = alignof(max_align_t) };

struct cal_arena_block {
    struct cal_arena_block *next;
    size_t used;
    size_t size;
    alignas(max_align_t) uint8_t bytes[];
};

void cal_arena_init(cal_arena *arena, size_t max) { *arena = (cal_arena){.max = max}; }

void cal_arena_deinit(cal_arena *arena) {
    if (!arena) return;
    for (struct cal_arena_block *block = arena->blocks, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    *arena = (cal_arena){.max = arena->max};
}

void *cal_arena_alloc(cal_arena *arena, size_t len) {
    if (len > arena->max - arena->used) return NULL;
    size_t rounded = len ? (len + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1) : ALIGNMENT;
    if (rounded < len) return NULL;
    struct cal_arena_block *block = arena->blocks;
    if (!block || block->size - block->used < rounded) {
        size_t size = rounded > BLOCK_SIZE ? rounded : BLOCK_SIZE;
        block = calloc(1, sizeof *block + size);
        if (!block) return NULL;
        block->size = size;
        block->next = arena->blocks;
        arena->blocks = block;
    }
    void *memory = block->bytes + block->used;
    block->used += rounded;
    arena->used += len;
    return memory;
}

void *cal_arena_alloc_array(cal_arena *arena, size_t count, size_t size) {
    if (size && count > SIZE_MAX / size) return NULL;
    return cal_arena_alloc(arena, count * size);
}

void *cal_arena_copy(cal_arena *arena, const void *data, size_t len) {
    void *copy = cal_arena_alloc(arena, len);
    if (copy && len) memcpy(copy, data, len);
    return copy;
}

char *cal_arena_text(cal_arena *arena, cal_slice text) {
    if (text.len == SIZE_MAX) return NULL;
    char *copy = cal_arena_alloc(arena, text.len + 1);
    if (copy && text.len) memcpy(copy, text.data, text.len);
    return copy;
}
