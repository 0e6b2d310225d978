/* Skip list, see sorted.h. */
#include "base/sorted.h"

#include <assert.h>
#include <stdlib.h>

#include "calimero/error.h"

void cal_sorted_init(cal_sorted *map) { *map = (cal_sorted){.random = 0x9e3779b97f4a7c15u}; }

void cal_sorted_deinit(cal_sorted *map) {
    if (!map) return;
    for (cal_sorted_node *node = map->head[0], *next; node; node = next) {
        next = node->next[0];
        free(node);
    }
    cal_sorted_init(map);
}

/* Fills `links` with, for each level, the pointer that leads past every key < `key` (key NULL: past
 * all), and returns the last node passed. */
static cal_sorted_node *descend(const cal_sorted *map, const cal_slice *key,
                                cal_sorted_node **links[CAL_SORTED_LEVELS]) {
    cal_sorted_node *last = NULL;
    for (int level = CAL_SORTED_LEVELS - 1; level >= 0; level--) {
        cal_sorted_node **link = last ? &last->next[level] : (cal_sorted_node **)&map->head[level];
        while (*link && (!key || cal_slice_compare((*link)->key, *key) < 0)) {
            last = *link;
            link = &last->next[level];
        }
        if (links) links[level] = link;
    }
    return last;
}

cal_sorted_node *cal_sorted_from(const cal_sorted *map, cal_slice key) {
    cal_sorted_node *before = descend(map, &key, NULL);
    return before ? before->next[0] : map->head[0];
}

cal_sorted_node *cal_sorted_before(const cal_sorted *map, const cal_slice *key) {
    return descend(map, key, NULL);
}

void *cal_sorted_get(const cal_sorted *map, cal_slice key) {
    cal_sorted_node *node = cal_sorted_from(map, key);
    return node && cal_slice_equal(node->key, key) ? node->value : NULL;
}

static int next_height(cal_sorted *map) {
    map->random ^= map->random << 13;
    map->random ^= map->random >> 7;
    map->random ^= map->random << 17;
    int height = 1;
    for (uint64_t bits = map->random; height < CAL_SORTED_LEVELS && (bits & 3) == 0; bits >>= 2)
        height++;
    return height;
}

int cal_sorted_put(cal_sorted *map, cal_slice key, void *value, void **ret_old) {
    assert(value);
    cal_sorted_node **links[CAL_SORTED_LEVELS];
    descend(map, &key, links);
    cal_sorted_node *found = *links[0];
    if (found && cal_slice_equal(found->key, key)) {
        if (ret_old) *ret_old = found->value;
        found->value = value;
        return 0;
    }
    int height = next_height(map);
    size_t links_size = (size_t)height * sizeof(cal_sorted_node *);
    cal_sorted_node *node = malloc(sizeof *node + links_size + key.len);
    if (!node) return CAL_ENOMEM;
    uint8_t *copy = (uint8_t *)node + sizeof *node + links_size;
    if (key.len) memcpy(copy, key.data, key.len);
    node->key = (cal_slice){copy, key.len};
    node->value = value;
    for (int level = 0; level < height; level++) {
        node->next[level] = *links[level];
        *links[level] = node;
    }
    map->count++;
    if (ret_old) *ret_old = NULL;
    return 0;
}

void *cal_sorted_remove(cal_sorted *map, cal_slice key) {
    cal_sorted_node **links[CAL_SORTED_LEVELS];
    descend(map, &key, links);
    cal_sorted_node *node = *links[0];
    if (!node || !cal_slice_equal(node->key, key)) return NULL;
    for (int level = 0; level < CAL_SORTED_LEVELS && *links[level] == node; level++)
        *links[level] = node->next[level];
    void *value = node->value;
    free(node);
    map->count--;
    return value;
}
