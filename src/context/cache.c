/* Hot entities, see cache.h. Eviction is by generations: when the young half is full it becomes the
 * old one, and what was not asked for since is dropped; a hit in the old half moves the entry to
 * the young one. No list to maintain on a read. */
#include "context/cache.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/map.h"
#include "calimero/error.h"

struct cal_context_cache {
    pthread_mutex_t lock;
    uint64_t version;
    bool committing;
    cal_map young, old;
    size_t young_bytes, old_bytes, half_max;
};

cal_context_cache *cal_context_cache_new(size_t max_bytes, uint64_t seed) {
    cal_context_cache *cache = calloc(1, sizeof *cache);
    if (!cache) return NULL;
    pthread_mutex_init(&cache->lock, NULL);
    cal_map_init(&cache->young, seed);
    cal_map_init(&cache->old, seed);
    cache->half_max = max_bytes / 2;
    return cache;
}

static void drop_all(cal_map *map, size_t *bytes) {
    cal_map_cursor cursor = {0};
    void *entry;
    while (cal_map_next(map, &cursor, NULL, &entry)) free(entry);
    cal_map_deinit(map);
    *bytes = 0;
}

void cal_context_cache_clear(cal_context_cache *cache) {
    pthread_mutex_lock(&cache->lock);
    drop_all(&cache->young, &cache->young_bytes);
    drop_all(&cache->old, &cache->old_bytes);
    pthread_mutex_unlock(&cache->lock);
}

void cal_context_cache_free(cal_context_cache *cache) {
    if (!cache) return;
    cal_context_cache_clear(cache);
    pthread_mutex_destroy(&cache->lock);
    free(cache);
}

static void forget(cal_map *map, size_t *bytes, cal_slice key) {
    cal_row *entry = cal_map_remove(map, key);
    if (!entry) return;
    *bytes -= cal_row_cost(entry);
    free(entry);
}

static void insert(cal_context_cache *cache, cal_slice key, cal_row *entry) {
    if (cache->young_bytes + cal_row_cost(entry) > cache->half_max) {
        drop_all(&cache->old, &cache->old_bytes);
        cal_map swapped = cache->old;
        cache->old = cache->young;
        cache->old_bytes = cache->young_bytes;
        cache->young = swapped;
        cache->young_bytes = 0;
    }
    if (cal_row_cost(entry) > cache->half_max || cal_map_put(&cache->young, key, entry) != 0)
        free(entry);
    else
        cache->young_bytes += cal_row_cost(entry);
}

/* Takes the entry. NULL, when memory was short: nothing is known of the key any more. */
static void remember(cal_context_cache *cache, cal_slice key, cal_row *entry) {
    forget(&cache->young, &cache->young_bytes, key);
    forget(&cache->old, &cache->old_bytes, key);
    if (entry) insert(cache, key, entry);
}

/* Whether this reader may use, and add to, what the cache holds now. */
static bool fits(const cal_context_cache *cache, uint64_t version) {
    return version == CAL_CACHE_HOLDER || (cache->version == version && !cache->committing);
}

int cal_context_cache_get(cal_context_cache *cache, uint64_t version, cal_slice key,
                          cal_buffer *ret_value) {
    int result = CAL_CACHE_UNKNOWN;
    pthread_mutex_lock(&cache->lock);
    if (fits(cache, version)) {
        cal_row *entry = cal_map_get(&cache->young, key);
        if (!entry && (entry = cal_map_remove(&cache->old, key)) != NULL) {
            cache->old_bytes -= cal_row_cost(entry);
            insert(cache, key, entry);
            entry = cal_map_get(&cache->young, key);
        }
        if (entry) {
            result = !entry->removed;
            if (!entry->removed && ret_value) {
                int rc = cal_buffer_append(ret_value, entry->bytes, entry->len);
                if (rc != 0) result = rc;
            }
        }
    }
    pthread_mutex_unlock(&cache->lock);
    return result;
}

void cal_context_cache_add(cal_context_cache *cache, uint64_t version, cal_slice key,
                           const cal_slice *value) {
    pthread_mutex_lock(&cache->lock);
    if (fits(cache, version)) remember(cache, key, cal_row_new(value));
    pthread_mutex_unlock(&cache->lock);
}

uint64_t cal_context_cache_version(cal_context_cache *cache) {
    pthread_mutex_lock(&cache->lock);
    uint64_t version = cache->committing ? CAL_CACHE_NONE : cache->version;
    pthread_mutex_unlock(&cache->lock);
    return version;
}

void cal_context_cache_commit_begin(cal_context_cache *cache) {
    pthread_mutex_lock(&cache->lock);
    cache->version++;
    cache->committing = true;
    pthread_mutex_unlock(&cache->lock);
}

void cal_context_cache_commit_put(cal_context_cache *cache, cal_slice key, cal_row *row) {
    pthread_mutex_lock(&cache->lock);
    remember(cache, key, row);
    pthread_mutex_unlock(&cache->lock);
}

void cal_context_cache_commit_end(cal_context_cache *cache) {
    pthread_mutex_lock(&cache->lock);
    cache->committing = false;
    pthread_mutex_unlock(&cache->lock);
}

size_t cal_context_cache_bytes(cal_context_cache *cache) {
    pthread_mutex_lock(&cache->lock);
    size_t bytes = cache->young_bytes + cache->old_bytes;
    pthread_mutex_unlock(&cache->lock);
    return bytes;
}
