/* A sorted map from byte strings to pointers (a skip list). Keys are copied; values are the
 * caller's. One owner, one thread.
 *
 * Heights come from a fixed generator, so behaviour repeats; keys cannot choose them. */
#ifndef CAL_BASE_SORTED_H
#define CAL_BASE_SORTED_H

#include "base/bytes.h"

enum { CAL_SORTED_LEVELS = 20 };

typedef struct cal_sorted_node {
    cal_slice key;
    void *value;
    struct cal_sorted_node *next[]; /* next[0] is the successor */
} cal_sorted_node;

typedef struct cal_sorted {
    cal_sorted_node *head[CAL_SORTED_LEVELS];
    size_t count;
    uint64_t random;
} cal_sorted;

void cal_sorted_init(cal_sorted *map);
void cal_sorted_deinit(cal_sorted *map); /* values are not touched */

void *cal_sorted_get(const cal_sorted *map, cal_slice key); /* NULL when absent */
int cal_sorted_put(cal_sorted *map, cal_slice key, void *value,
                   void **ret_old); /* value != NULL; old or NULL; 0 or CAL_ENOMEM */
void *cal_sorted_remove(cal_sorted *map, cal_slice key);

/* First node whose key >= key (NULL: none); walk on with node->next[0]. Nodes stay valid until
 * removed. */
cal_sorted_node *cal_sorted_from(const cal_sorted *map, cal_slice key);
/* Last node whose key < key, or with key NULL the last of all (NULL: none). */
cal_sorted_node *cal_sorted_before(const cal_sorted *map, const cal_slice *key);

#endif
