/* An intrusive doubly linked list: the node lives in the element. A list head and an unlinked node
 * point at themselves, so unlinking twice is harmless. */
#ifndef CAL_BASE_LIST_H
#define CAL_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

typedef struct cal_list {
    struct cal_list *next, *prev;
} cal_list;

#define CAL_CONTAINER_OF(node, type, member)                                                       \
    ((type *)(void *)((char *)(node)-offsetof(type, member)))

static inline void cal_list_init(cal_list *list) { list->next = list->prev = list; }
static inline bool cal_list_empty(const cal_list *list) { return list->next == list; }
static inline void cal_list_push(cal_list *list, cal_list *node) { /* at the end */
    node->prev = list->prev;
    node->next = list;
    list->prev->next = node;
    list->prev = node;
}
static inline void cal_list_remove(cal_list *node) {
    node->prev->next = node->next;
    node->next->prev = node->prev;
    cal_list_init(node);
}
static inline cal_list *cal_list_pop(cal_list *list) { /* from the front; NULL when empty */
    if (cal_list_empty(list)) return NULL;
    cal_list *node = list->next;
    cal_list_remove(node);
    return node;
}
/* All of `from`, in their order, to the end. */
static inline void cal_list_append(cal_list *list, cal_list *from) {
    if (cal_list_empty(from)) return;
    from->next->prev = list->prev;
    from->prev->next = list;
    list->prev->next = from->next;
    list->prev = from->prev;
    cal_list_init(from);
}

#endif
