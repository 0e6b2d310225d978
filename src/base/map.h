/* A hash map from byte strings to pointers. Keys are copied; values are the caller's. One owner,
 * one thread.
 *
 * The hash is seeded per map (FNV-1a over a seed mixed with the key), so a peer cannot choose
 * colliding keys. */
#ifndef CAL_BASE_MAP_H
#define CAL_BASE_MAP_H

#include "base/bytes.h"

typedef struct cal_map {
    struct cal_map_slot *slots;
    size_t capacity; /* 0 or a power of two */
    size_t count;
    size_t used; /* live and deleted slots */
    uint64_t seed;
} cal_map;

typedef struct cal_map_cursor {
    size_t at;
} cal_map_cursor; /* starts zeroed */

void cal_map_init(cal_map *map, uint64_t seed);
void cal_map_deinit(cal_map *map); /* values are not touched */

void *cal_map_get(const cal_map *map, cal_slice key); /* NULL when absent */
int cal_map_put(cal_map *map, cal_slice key,
                void *value);                      /* value != NULL; replaces; 0 or CAL_ENOMEM */
void *cal_map_remove(cal_map *map, cal_slice key); /* the value that was there, or NULL */

/* Walks all pairs in no particular order; removing the pair just returned is allowed, adding is
 * not. */
bool cal_map_next(const cal_map *map, cal_map_cursor *cursor, cal_slice *ret_key, void **ret_value);

#endif
