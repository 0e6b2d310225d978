#include "context/context.h"
int cal_context_writers(cal_store *store, const cal_context_id *id, const cal_delta_record *delta, cal_arena *arena, const crdt_entity_writers **ret_writers, uint32_t *ret_count);
int cal_context_writers(cal_store *store, const cal_context_id *id, const cal_delta_record *delta, cal_arena *arena, const crdt_entity_writers **ret_writers, uint32_t *ret_count) { (void)store;(void)id;(void)delta;(void)arena; *ret_writers = NULL; *ret_count = 0; return 0; }
