/* Batches: operations and their bytes, collected before the store sees them. One owner at a time.
 */
#include "store/internal.h"

#include <assert.h>
#include <stdlib.h>

#define BATCH_BYTES_MAX STORE_QUEUE_BYTES_MAX

cal_batch *cal_batch_new(void) {
    cal_batch *batch = calloc(1, sizeof *batch);
    if (!batch) return NULL;
    cal_list_init(&batch->node);
    cal_buffer_init(&batch->bytes, BATCH_BYTES_MAX);
    return batch;
}

void cal_batch_free(cal_batch *batch) {
    if (!batch) return;
    cal_buffer_deinit(&batch->bytes);
    free(batch->ops);
    free(batch);
}

static int batch_fail(cal_batch *batch, int error) {
    if (!batch->error) batch->error = error;
    return batch->error;
}

static int batch_reserve(cal_batch *batch, size_t more) {
    if (more <= batch->capacity - batch->count) return 0;
    size_t capacity = batch->capacity ? batch->capacity * 2 : 16;
    while (capacity < batch->count + more) capacity *= 2;
    batch_op *ops = realloc(batch->ops, capacity * sizeof *ops);
    if (!ops) return batch_fail(batch, CAL_ENOMEM);
    batch->ops = ops;
    batch->capacity = capacity;
    return 0;
}

static int batch_add(cal_batch *batch, batch_kind kind, cal_column column, cal_slice key,
                     cal_slice value) {
    if (batch->error) return batch->error;
    assert(column < CAL_COLUMN_COUNT);
    if (key.len > CAL_STORE_KEY_MAX || value.len > CAL_STORE_VALUE_MAX)
        return batch_fail(batch, CAL_ELIMIT);
    if (batch_reserve(batch, 1)) return batch->error;
    batch_op op = {.column = (uint8_t)column,
                   .kind = (uint8_t)kind,
                   .offset = batch->bytes.len,
                   .key_len = (uint32_t)key.len,
                   .value_len = (uint32_t)value.len};
    cal_buffer_append_slice(&batch->bytes, key);
    if (cal_buffer_append_slice(&batch->bytes, value)) return batch_fail(batch, batch->bytes.error);
    batch->ops[batch->count++] = op;
    return 0;
}

int cal_batch_put(cal_batch *batch, cal_column column, cal_slice key, cal_slice value) {
    return batch_add(batch, BATCH_PUT, column, key, value);
}

int cal_batch_delete(cal_batch *batch, cal_column column, cal_slice key) {
    return batch_add(batch, BATCH_DELETE, column, key, (cal_slice){0});
}

int cal_batch_delete_prefix(cal_batch *batch, cal_column column, cal_slice prefix) {
    if (prefix.len == 0) return batch_fail(batch, CAL_EINVAL); /* a whole column is never meant */
    return batch_add(batch, BATCH_DELETE_PREFIX, column, prefix, (cal_slice){0});
}

int cal_batch_delete_some(cal_batch *batch, cal_column column, cal_slice prefix,
                          uint32_t max_rows) {
    if (prefix.len == 0 || max_rows == 0) return batch_fail(batch, CAL_EINVAL);
    int error = batch_add(batch, BATCH_DELETE_SOME, column, prefix, (cal_slice){0});
    if (!error) batch->ops[batch->count - 1].max_rows = max_rows;
    return error;
}

size_t cal_batch_count(const cal_batch *batch) { return batch->count; }

int cal_batch_merge(cal_batch *batch, cal_batch *other) {
    if (other->error) batch_fail(batch, other->error);
    if (!batch->error && other->count && !batch_reserve(batch, other->count)) {
        size_t base = batch->bytes.len;
        if (cal_buffer_append_slice(&batch->bytes, cal_buffer_slice(&other->bytes))) {
            batch_fail(batch, batch->bytes.error);
        } else {
            for (size_t i = 0; i < other->count; i++) {
                batch_op op = other->ops[i];
                op.offset += base;
                batch->ops[batch->count++] = op;
            }
        }
    }
    cal_buffer_reset(&other->bytes);
    other->count = 0;
    other->error = 0;
    return batch->error;
}

static int batch_apply_prefix(const cal_engine *engine, cal_engine_conn *conn, cal_column column,
                              cal_slice prefix, uint32_t max_rows) {
    cal_buffer end;
    cal_buffer_init(&end, CAL_STORE_KEY_MAX);
    cal_prefix_end(prefix, &end);
    int error = end.error;
    if (!error) error = engine->erase_range(conn, column, prefix, cal_buffer_slice(&end), max_rows);
    cal_buffer_deinit(&end);
    return error;
}

int batch_apply(const cal_batch *batch, const cal_engine *engine, cal_engine_conn *conn) {
    for (size_t i = 0; i < batch->count; i++) {
        const batch_op *op = &batch->ops[i];
        const uint8_t *at = batch->bytes.data ? batch->bytes.data + op->offset : NULL;
        cal_slice key = cal_slice_of(at, op->key_len);
        cal_column column = (cal_column)op->column;
        int error = CAL_EINTERNAL;
        switch ((batch_kind)op->kind) {
        case BATCH_PUT:
            error = engine->put(conn, column, key,
                                cal_slice_of(at ? at + op->key_len : NULL, op->value_len));
            break;
        case BATCH_DELETE:
            error = engine->erase(conn, column, key);
            break;
        case BATCH_DELETE_PREFIX:
        case BATCH_DELETE_SOME:
            error = batch_apply_prefix(engine, conn, column, key, op->max_rows);
            break;
        }
        if (error) return error;
    }
    return 0;
}

void cal_prefix_end(cal_slice prefix, cal_buffer *ret_end) {
    cal_buffer_reset(ret_end);
    size_t len = prefix.len;
    while (len > 0 && prefix.data[len - 1] == 0xff) len--;
    if (len == 0 || cal_buffer_append(ret_end, prefix.data, len)) return;
    ret_end->data[len - 1]++;
}
