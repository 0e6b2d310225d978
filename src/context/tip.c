/* What turns have left and the store does not have yet, see tip.h. */
#include "context/tip.h"

#include <stdlib.h>

#include "context/cache.h"

static int copy_heads(cal_context_record *record, const cal_hash *heads, size_t head_count) {
    cal_hash *copy = malloc(head_count * sizeof *copy + 1);
    if (!copy) return CAL_ENOMEM;
    if (head_count) memcpy(copy, heads, head_count * sizeof *copy);
    free(record->heads);
    record->heads = copy;
    record->head_count = head_count;
    return 0;
}

int cal_tip_init(cal_tip *tip, const cal_context_id *id, const cal_context_record *record) {
    *tip = (cal_tip){.record = *record};
    tip->record.heads = NULL;
    cal_overlay_init(&tip->young, id->bytes, NULL, NULL, CAL_CACHE_NONE);
    cal_overlay_init(&tip->old, id->bytes, NULL, NULL, CAL_CACHE_NONE);
    return copy_heads(&tip->record, record->heads, record->head_count);
}

void cal_tip_deinit(cal_tip *tip) {
    cal_overlay_deinit(&tip->young);
    cal_overlay_deinit(&tip->old);
    free(tip->record.heads);
    tip->record.heads = NULL;
}

const cal_overlay *cal_tip_top(const cal_tip *tip) {
    if (!cal_overlay_is_empty(&tip->young)) return &tip->young;
    return cal_overlay_is_empty(&tip->old) ? NULL : &tip->old;
}

size_t cal_tip_bytes(const cal_tip *tip) { return tip->young.bytes + tip->old.bytes; }

bool cal_tip_is_empty(const cal_tip *tip) { return !tip->closed && !cal_tip_top(tip); }

/* What young lies on changes only here and in settling, between runs or by the running worker. */
static void stack(cal_tip *tip) {
    tip->young.below = cal_overlay_is_empty(&tip->old) ? NULL : &tip->old;
}

int cal_tip_take(cal_tip *tip, cal_overlay *overlay, bool state, bool index) {
    int rc = cal_overlay_merge(&tip->young, overlay, state, index);
    tip->young_last = ++tip->number;
    if (rc != 0) tip->spoiled = true;
    return rc;
}

int cal_tip_move(cal_tip *tip, const cal_context_record *record) {
    int rc = copy_heads(&tip->record, record->heads, record->head_count);
    if (rc != 0) return rc;
    tip->record.root = record->root;
    tip->record.latest = record->latest;
    return 0;
}

static void to_cache(void *user, cal_slice key, cal_row *row) {
    cal_context_cache_commit_put(user, key, row);
}

void cal_tip_settle(cal_tip *tip, uint64_t durable, struct cal_context_cache *cache) {
    if (tip->spoiled) return;
    if (tip->old_last && durable >= tip->old_last) {
        cal_overlay_give_state(&tip->old, to_cache, cache);
        tip->old_last = 0;
    }
    if (!tip->old_last && tip->young_last) {
        cal_overlay emptied = tip->old;
        tip->old = tip->young;
        tip->young = emptied;
        tip->old.below = NULL;
        tip->old_last = tip->young_last;
        tip->young_last = 0;
        if (durable >= tip->old_last) {
            cal_overlay_give_state(&tip->old, to_cache, cache);
            tip->old_last = 0;
        }
    }
    stack(tip);
    if (tip->old_last || tip->young_last || !tip->closed) return;
    cal_context_cache_commit_end(cache);
    tip->closed = false;
}

int cal_tip_drop(cal_tip *tip, const cal_context_record *record, struct cal_context_cache *cache) {
    int rc = cal_tip_move(tip, record);
    if (rc != 0) return rc;
    cal_overlay_clear(&tip->young);
    cal_overlay_clear(&tip->old);
    tip->young_last = tip->old_last = 0;
    tip->spoiled = false;
    stack(tip);
    cal_context_cache_clear(cache);
    if (tip->closed) cal_context_cache_commit_end(cache);
    tip->closed = false;
    return 0;
}
