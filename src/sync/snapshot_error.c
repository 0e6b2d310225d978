/* Why a snapshot is not to be had (network-sync.md 3, SnapshotError). */
#include <assert.h>

#include "sync/field.h"

void sync_snapshot_error_read(cal_borsh *in, cal_arena *arena, sync_snapshot_error *error) {
    *error = (sync_snapshot_error){.kind = cal_borsh_tag(in, SYNC_SNAPSHOT_PROBLEM_COUNT)};
    switch ((sync_snapshot_problem)error->kind) {
    case SYNC_SNAPSHOT_ROOT:
        cal_borsh_fixed(in, error->expected_root.bytes, 32);
        cal_borsh_fixed(in, error->computed_root.bytes, 32);
        break;
    case SYNC_SNAPSHOT_INTERRUPTED:
        error->first = cal_borsh_u64(in);
        break;
    case SYNC_SNAPSHOT_COUNT:
        error->first = cal_borsh_u64(in);
        error->second = cal_borsh_u64(in);
        break;
    case SYNC_SNAPSHOT_PAGES: {
        uint32_t count = cal_borsh_count(in, SYNC_PAGE_COUNT_MAX, sizeof *error->pages);
        uint64_t *pages = sync_list_alloc(in, arena, count, sizeof *pages);
        if (!pages) return;
        for (uint32_t i = 0; i < count; i++) pages[i] = cal_borsh_u64(in);
        error->pages = pages;
        error->page_count = count;
        break;
    }
    default: /* the kind says it all */
        break;
    }
}

int sync_snapshot_error_write(const sync_snapshot_error *error, cal_buffer *out) {
    assert(error->kind < SYNC_SNAPSHOT_PROBLEM_COUNT);
    cal_buffer_append_u8(out, error->kind);
    switch ((sync_snapshot_problem)error->kind) {
    case SYNC_SNAPSHOT_ROOT:
        cal_buffer_append(out, error->expected_root.bytes, 32);
        cal_buffer_append(out, error->computed_root.bytes, 32);
        break;
    case SYNC_SNAPSHOT_INTERRUPTED:
        cal_buffer_append_u64le(out, error->first);
        break;
    case SYNC_SNAPSHOT_COUNT:
        cal_buffer_append_u64le(out, error->first);
        cal_buffer_append_u64le(out, error->second);
        break;
    case SYNC_SNAPSHOT_PAGES:
        if (!sync_within(error->page_count, SYNC_PAGE_COUNT_MAX, out)) break;
        cal_buffer_append_u32le(out, error->page_count);
        for (uint32_t i = 0; i < error->page_count; i++)
            cal_buffer_append_u64le(out, error->pages[i]);
        break;
    default:
        break;
    }
    return out->error;
}
