/* A guest's storage in memory, for tests and tools: the four key spaces of runtime-abi.md 4 as
 * sorted maps, with a count of what happened and an error to inject. One thread. */
#ifndef CAL_TESTS_MEMORY_STORAGE_H
#define CAL_TESTS_MEMORY_STORAGE_H

#include <stdlib.h>

#include "base/sorted.h"
#include "vm/vm.h"

enum { MEMORY_STORAGE_SPACES = 4 };

typedef struct memory_value {
    size_t len;
    uint8_t bytes[];
} memory_value;

typedef struct memory_storage {
    cal_sorted spaces[MEMORY_STORAGE_SPACES];
    size_t calls;
    size_t fail_at; /* the call with this number (from 1) and all later ones fail; 0: none */
    int fail_code;
} memory_storage;

static inline void memory_storage_init(memory_storage *storage) {
    *storage = (memory_storage){0};
    for (int i = 0; i < MEMORY_STORAGE_SPACES; i++) cal_sorted_init(&storage->spaces[i]);
}

static inline void memory_storage_clear(cal_sorted *space) {
    for (cal_sorted_node *node = space->head[0]; node; node = node->next[0]) free(node->value);
    cal_sorted_deinit(space);
    cal_sorted_init(space);
}

static inline void memory_storage_deinit(memory_storage *storage) {
    for (int i = 0; i < MEMORY_STORAGE_SPACES; i++) memory_storage_clear(&storage->spaces[i]);
}

static inline int memory_storage_put(memory_storage *storage, cal_vm_space space, cal_slice key,
                                     cal_slice bytes, memory_value **ret_old) {
    memory_value *value = malloc(sizeof *value + bytes.len + 1);
    if (!value) return CAL_ENOMEM;
    value->len = bytes.len;
    if (bytes.len) memcpy(value->bytes, bytes.data, bytes.len);
    void *old = NULL;
    int code = cal_sorted_put(&storage->spaces[space], key, value, &old);
    if (code != 0) {
        free(value);
        return code;
    }
    if (ret_old)
        *ret_old = old;
    else
        free(old);
    return 0;
}

/* The value, or data NULL. */
static inline cal_slice memory_storage_get(const memory_storage *storage, cal_vm_space space,
                                           cal_slice key) {
    const memory_value *value = cal_sorted_get(&storage->spaces[space], key);
    return value ? cal_slice_of(value->bytes, value->len) : cal_slice_of(NULL, 0);
}

/* Makes `to` (initialised) hold what `from` holds in one space. */
static inline int memory_storage_copy(memory_storage *to, const memory_storage *from,
                                      cal_vm_space space) {
    memory_storage_clear(&to->spaces[space]);
    for (cal_sorted_node *node = from->spaces[space].head[0]; node; node = node->next[0]) {
        const memory_value *value = node->value;
        int code =
            memory_storage_put(to, space, node->key, cal_slice_of(value->bytes, value->len), NULL);
        if (code != 0) return code;
    }
    return 0;
}

/* --- the table --- */

static inline int memory_storage_step(memory_storage *storage) {
    storage->calls++;
    return storage->fail_at && storage->calls >= storage->fail_at ? storage->fail_code : 0;
}

static inline int memory_storage_read(void *user, cal_vm_space space, cal_slice key,
                                      cal_buffer *ret_value) {
    memory_storage *storage = user;
    int code = memory_storage_step(storage);
    if (code != 0) return code;
    const memory_value *value = cal_sorted_get(&storage->spaces[space], key);
    if (!value) return 0;
    code = cal_buffer_append(ret_value, value->bytes, value->len);
    return code == 0 ? 1 : code;
}

static inline int memory_storage_hand_over(memory_value *old, cal_buffer *ret_old) {
    int code = 1;
    if (!old) return 0;
    if (ret_old && cal_buffer_append(ret_old, old->bytes, old->len) != 0) code = ret_old->error;
    free(old);
    return code;
}

static inline int memory_storage_write(void *user, cal_vm_space space, cal_slice key,
                                       cal_slice bytes, cal_buffer *ret_old) {
    memory_storage *storage = user;
    memory_value *old = NULL;
    int code = memory_storage_step(storage);
    if (code == 0) code = memory_storage_put(storage, space, key, bytes, &old);
    return code != 0 ? code : memory_storage_hand_over(old, ret_old);
}

static inline int memory_storage_remove(void *user, cal_vm_space space, cal_slice key,
                                        cal_buffer *ret_old) {
    memory_storage *storage = user;
    int code = memory_storage_step(storage);
    return code != 0
               ? code
               : memory_storage_hand_over(cal_sorted_remove(&storage->spaces[space], key), ret_old);
}

static inline bool memory_storage_has_prefix(cal_slice key, cal_slice prefix) {
    return key.len >= prefix.len &&
           (prefix.len == 0 || memcmp(key.data, prefix.data, prefix.len) == 0);
}

static inline int memory_storage_remove_prefix(void *user, cal_slice prefix) {
    memory_storage *storage = user;
    int code = memory_storage_step(storage);
    if (code != 0) return code;
    cal_sorted *index = &storage->spaces[CAL_VM_INDEX];
    cal_sorted_node *node;
    while ((node = cal_sorted_from(index, prefix)) && memory_storage_has_prefix(node->key, prefix))
        free(cal_sorted_remove(index, node->key));
    return 0;
}

static inline int memory_storage_scan(void *user, cal_slice lo, cal_slice hi, uint64_t skip,
                                      uint64_t max, bool last_only,
                                      int (*pair)(void *, cal_slice, cal_slice), void *pair_user) {
    memory_storage *storage = user;
    int code = memory_storage_step(storage);
    if (code != 0) return code;
    cal_sorted *index = &storage->spaces[CAL_VM_INDEX];
    cal_sorted_node *node = last_only ? cal_sorted_before(index, &hi) : cal_sorted_from(index, lo);
    if (last_only && node && cal_slice_compare(node->key, lo) < 0) return 0;
    for (; node && max > 0 && cal_slice_compare(node->key, hi) < 0; node = node->next[0]) {
        if (skip > 0) {
            skip--;
            continue;
        }
        const memory_value *value = node->value;
        code = pair(pair_user, node->key, cal_slice_of(value->bytes, value->len));
        if (code < 0) return code;
        max--;
    }
    return 0;
}

static inline cal_vm_storage memory_storage_table(memory_storage *storage) {
    return (cal_vm_storage){
        .user = storage,
        .read = memory_storage_read,
        .write = memory_storage_write,
        .remove = memory_storage_remove,
        .remove_prefix = memory_storage_remove_prefix,
        .scan = memory_storage_scan,
    };
}

#endif
