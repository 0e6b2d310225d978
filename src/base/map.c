/* Open addressing with linear probing, see map.h. */
#include "base/map.h"

#include <assert.h>
#include <stdlib.h>

#include "calimero/error.h"

enum { FIRST_CAPACITY = 16 };

struct cal_map_slot {
    uint8_t *key; /* NULL: never used; with value NULL: deleted */
    size_t key_len;
    uint64_t hash;
    void *value;
};

static uint8_t deleted_key[1];

static uint64_t hash_of(const cal_map *map, cal_slice key) {
    uint64_t hash = 0xcbf29ce484222325u ^ map->seed;
    for (size_t i = 0; i < key.len; i++) hash = (hash ^ key.data[i]) * 0x100000001b3u;
    hash ^= hash >> 32;
    return hash * 0x9e3779b97f4a7c15u;
}

void cal_map_init(cal_map *map, uint64_t seed) { *map = (cal_map){.seed = seed}; }

void cal_map_deinit(cal_map *map) {
    if (!map) return;
    for (size_t i = 0; i < map->capacity; i++)
        if (map->slots[i].value) free(map->slots[i].key);
    free(map->slots);
    *map = (cal_map){.seed = map->seed};
}

static struct cal_map_slot *find(const cal_map *map, cal_slice key, uint64_t hash) {
    if (map->capacity == 0) return NULL;
    for (size_t i = hash & (map->capacity - 1);; i = (i + 1) & (map->capacity - 1)) {
        struct cal_map_slot *slot = &map->slots[i];
        if (!slot->key) return NULL;
        if (slot->value && slot->hash == hash &&
            cal_slice_equal((cal_slice){slot->key, slot->key_len}, key))
            return slot;
    }
}

void *cal_map_get(const cal_map *map, cal_slice key) {
    struct cal_map_slot *slot = find(map, key, hash_of(map, key));
    return slot ? slot->value : NULL;
}

static void place(struct cal_map_slot *slots, size_t capacity, struct cal_map_slot slot) {
    size_t i = slot.hash & (capacity - 1);
    while (slots[i].key) i = (i + 1) & (capacity - 1);
    slots[i] = slot;
}

static int rehash(cal_map *map) {
    size_t capacity = FIRST_CAPACITY;
    while (capacity < map->count * 2 + 2) capacity *= 2;
    struct cal_map_slot *slots = calloc(capacity, sizeof *slots);
    if (!slots) return CAL_ENOMEM;
    for (size_t i = 0; i < map->capacity; i++)
        if (map->slots[i].value) place(slots, capacity, map->slots[i]);
    free(map->slots);
    map->slots = slots;
    map->capacity = capacity;
    map->used = map->count;
    return 0;
}

int cal_map_put(cal_map *map, cal_slice key, void *value) {
    assert(value);
    uint64_t hash = hash_of(map, key);
    struct cal_map_slot *slot = find(map, key, hash);
    if (slot) {
        slot->value = value;
        return 0;
    }
    if ((map->used + 1) * 4 > map->capacity * 3 && rehash(map) != 0) return CAL_ENOMEM;
    uint8_t *copy = malloc(key.len ? key.len : 1);
    if (!copy) return CAL_ENOMEM;
    if (key.len) memcpy(copy, key.data, key.len);
    place(map->slots, map->capacity, (struct cal_map_slot){copy, key.len, hash, value});
    map->count++;
    map->used++;
    return 0;
}

void *cal_map_remove(cal_map *map, cal_slice key) {
    struct cal_map_slot *slot = find(map, key, hash_of(map, key));
    if (!slot) return NULL;
    void *value = slot->value;
    free(slot->key);
    *slot = (struct cal_map_slot){.key = deleted_key};
    map->count--;
    return value;
}

bool cal_map_next(const cal_map *map, cal_map_cursor *cursor, cal_slice *ret_key,
                  void **ret_value) {
    while (cursor->at < map->capacity) {
        const struct cal_map_slot *slot = &map->slots[cursor->at++];
        if (!slot->value) continue;
        if (ret_key) *ret_key = (cal_slice){slot->key, slot->key_len};
        *ret_value = slot->value;
        return true;
    }
    return false;
}
