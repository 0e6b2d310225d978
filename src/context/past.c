/* Marks of authors, see past.h. */
#include "context/past.h"

#include <stdlib.h>
#include <string.h>

static void row_key(const cal_context_id *context, cal_buffer *ret_key) {
    cal_buffer_init(ret_key, 64);
    cal_buffer_append_slice(ret_key, cal_slice_text("context/past/"));
    cal_buffer_append(ret_key, context->bytes, sizeof context->bytes);
}

void cal_past_deinit(cal_past *past) {
    free(past->marks);
    *past = (cal_past){0};
}

/* Where the author's mark is, or would be. */
static uint32_t place_of(const cal_past *past, const cal_public_key *author, bool *ret_found) {
    uint32_t low = 0, high = past->count;
    *ret_found = false;
    while (low < high && !*ret_found) {
        uint32_t middle = low + (high - low) / 2;
        int order = memcmp(&past->marks[middle].author, author, sizeof *author);
        *ret_found = order == 0;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return high;
}

bool cal_past_has(const cal_past *past, const cal_public_key *author, uint64_t time) {
    bool found;
    uint32_t at = place_of(past, author, &found);
    return found && time <= past->marks[at].time;
}

int cal_past_note(cal_past *past, const cal_public_key *author, uint64_t time) {
    bool found;
    uint32_t at = place_of(past, author, &found);
    if (found) {
        if (past->marks[at].time < time) past->marks[at].time = time;
        return 0;
    }
    if (past->count >= CAL_PAST_AUTHORS_MAX) return CAL_ELIMIT;
    if (past->count == past->capacity) {
        uint32_t capacity = past->capacity ? 2 * past->capacity : 16;
        cal_past_mark *marks = realloc(past->marks, capacity * sizeof *marks);
        if (!marks) return CAL_ENOMEM;
        past->marks = marks;
        past->capacity = capacity;
    }
    memmove(&past->marks[at + 1], &past->marks[at], (past->count - at) * sizeof *past->marks);
    past->marks[at] = (cal_past_mark){*author, time};
    past->count++;
    return 0;
}

int cal_past_encode(const cal_past *past, uint32_t max, cal_buffer *out) {
    for (uint32_t i = 0; i < past->count && i < max; i++) {
        cal_buffer_append(out, past->marks[i].author.bytes, sizeof past->marks[i].author.bytes);
        cal_buffer_append_u64le(out, past->marks[i].time);
    }
    return out->error;
}

int cal_past_decode(cal_slice bytes, cal_past *ret_past) {
    uint32_t count = (uint32_t)(bytes.len / CAL_PAST_MARK_SIZE);
    *ret_past = (cal_past){0};
    if (bytes.len % CAL_PAST_MARK_SIZE || bytes.len / CAL_PAST_MARK_SIZE > CAL_PAST_AUTHORS_MAX)
        return CAL_ECORRUPT;
    if (count == 0) return 0;
    cal_past_mark *marks = malloc(count * sizeof *marks);
    if (!marks) return CAL_ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *at = bytes.data + (size_t)i * CAL_PAST_MARK_SIZE;
        memcpy(marks[i].author.bytes, at, sizeof marks[i].author.bytes);
        marks[i].time = cal_read_u64le(at + 32);
        if (i > 0 && memcmp(&marks[i - 1].author, &marks[i].author, 32) >= 0) {
            free(marks);
            return CAL_ECORRUPT;
        }
    }
    *ret_past = (cal_past){marks, count, count};
    return 0;
}

int cal_past_read(cal_snapshot *snapshot, const cal_context_id *context, cal_past *ret_past) {
    cal_buffer key, row;
    *ret_past = (cal_past){0};
    row_key(context, &key);
    cal_buffer_init(&row, CAL_PAST_AUTHORS_MAX * CAL_PAST_MARK_SIZE);
    int rc = key.error;
    if (rc == 0) rc = cal_snapshot_get(snapshot, CAL_COLUMN_NODE, cal_buffer_slice(&key), &row);
    if (rc == 0) rc = cal_past_decode(cal_buffer_slice(&row), ret_past);
    cal_buffer_deinit(&row);
    cal_buffer_deinit(&key);
    return rc == CAL_ENOTFOUND ? 0 : rc;
}

int cal_past_write(const cal_past *past, const cal_context_id *context, cal_batch *batch) {
    cal_buffer key, row;
    row_key(context, &key);
    cal_buffer_init(&row, CAL_PAST_AUTHORS_MAX * CAL_PAST_MARK_SIZE);
    int rc = cal_past_encode(past, CAL_PAST_AUTHORS_MAX, &row);
    if (rc == 0) rc = key.error;
    if (rc == 0)
        rc = cal_batch_put(batch, CAL_COLUMN_NODE, cal_buffer_slice(&key), cal_buffer_slice(&row));
    cal_buffer_deinit(&row);
    cal_buffer_deinit(&key);
    return rc;
}

int cal_past_remove(const cal_context_id *context, cal_batch *batch) {
    cal_buffer key;
    row_key(context, &key);
    int rc =
        key.error ? key.error : cal_batch_delete(batch, CAL_COLUMN_NODE, cal_buffer_slice(&key));
    cal_buffer_deinit(&key);
    return rc;
}
