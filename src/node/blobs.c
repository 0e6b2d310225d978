/* Blobs of include/calimero/blob.h: what blocks runs on a slow worker, one operation at a time for
 * each writer and reader. */
#include "calimero/blob.h"

#include <stdlib.h>
#include <string.h>

#include "app/app.h"
#include "node/internal.h"

/* A blocking step and its answer on the loop. */
struct step {
    cal_task work, answer;
    cal_error err;
    int result;
};

static void step_fail(struct step *step, const char *what) {
    if (step->result != 0 && step->err.code == 0)
        cal_fail(&step->err, step->result, "%s: %s", what, cal_error_text(step->result));
}

static const cal_error *step_error(const struct step *step) {
    return step->result == 0 ? NULL : &step->err;
}

cal_blob_info node_blob_info(const cal_blobs_info *record) {
    cal_blob_info info = {.id = record->id, .size = record->size, .mime = record->mime};
    memcpy(info.hash.bytes, record->hash, sizeof info.hash.bytes);
    return info;
}

/* --- writing --- */

struct cal_blob_writer {
    node_operation operation;
    struct step step;
    cal_blobs_writer *put;
    uint8_t *bytes;
    size_t len;
    bool has_expected;
    cal_blob_id expected;
    cal_blobs_info record;
    cal_simple_done written;
    cal_blob_done finished;
    void *user;
};

cal_blob_writer *cal_blob_create(cal_node *node) {
    cal_blob_writer *writer = calloc(1, sizeof *writer);
    if (!writer) return NULL;
    writer->operation.node = node;
    if (cal_blobs_create(node->blobs, CAL_BLOB_UPLOAD_MAX, &writer->put, NULL) == 0) return writer;
    free(writer);
    return NULL;
}

static void run_step(node_operation *operation) {
    cal_blob_writer *writer = CAL_CONTAINER_OF(operation, cal_blob_writer, operation);
    writer->step.result = 0;
    writer->step.err.code = 0;
    node_slow(operation->node, &writer->step.work);
}

static void write_work(cal_task *task) {
    cal_blob_writer *writer = CAL_CONTAINER_OF(task, cal_blob_writer, step.work);
    writer->step.result =
        cal_blobs_write(writer->put, cal_slice_of(writer->bytes, writer->len), &writer->step.err);
    step_fail(&writer->step, "the blob could not be written");
    node_post(writer->operation.node, &writer->step.answer);
}

static void write_answer(cal_task *task) {
    cal_blob_writer *writer = CAL_CONTAINER_OF(task, cal_blob_writer, step.answer);
    cal_node *node = writer->operation.node;
    cal_error err = writer->step.err;
    bool failed = writer->step.result != 0;
    free(writer->bytes);
    writer->bytes = NULL;
    writer->written(writer->user,
                    failed ? &err : NULL); /* may start the next operation or free the writer */
    node_end(node);
}

void cal_blob_write(cal_blob_writer *writer, const void *bytes, size_t len, cal_simple_done done,
                    void *user) {
    writer->bytes = malloc(len + 1);
    if (!writer->bytes) {
        cal_error err;
        cal_fail(&err, CAL_ENOMEM, "out of memory");
        done(user, &err);
        return;
    }
    memcpy(writer->bytes, bytes, len);
    writer->len = len;
    writer->written = done;
    writer->user = user;
    writer->step.work.run = write_work;
    writer->step.answer.run = write_answer;
    node_begin(writer->operation.node, &writer->operation, run_step);
}

static void finish_work(cal_task *task) {
    cal_blob_writer *writer = CAL_CONTAINER_OF(task, cal_blob_writer, step.work);
    writer->step.result =
        cal_blobs_finish(writer->put, writer->has_expected ? &writer->expected : NULL,
                         &writer->record, &writer->step.err);
    writer->put = NULL;
    step_fail(&writer->step, "the blob could not be stored");
    node_post(writer->operation.node, &writer->step.answer);
}

static void finish_answer(cal_task *task) {
    cal_blob_writer *writer = CAL_CONTAINER_OF(task, cal_blob_writer, step.answer);
    cal_node *node = writer->operation.node;
    cal_blob_info info = node_blob_info(&writer->record);
    writer->finished(writer->user, step_error(&writer->step),
                     writer->step.result == 0 ? &info : NULL);
    free(writer);
    node_end(node);
}

void cal_blob_finish(cal_blob_writer *writer, const cal_blob_id *expected, cal_blob_done done,
                     void *user) {
    writer->has_expected = expected != NULL;
    if (expected) writer->expected = *expected;
    writer->finished = done;
    writer->user = user;
    writer->step.work.run = finish_work;
    writer->step.answer.run = finish_answer;
    node_begin(writer->operation.node, &writer->operation, run_step);
}

void cal_blob_abort(cal_blob_writer *writer) {
    if (!writer) return;
    cal_blobs_abort(writer->put);
    free(writer->bytes);
    free(writer);
}

/* --- reading --- */

struct cal_blob_reader {
    node_operation operation;
    struct step step;
    cal_blobs_reader *get;
    uint8_t *bytes; /* of one chunk */
    int64_t len;
    cal_blob_chunk_done done;
    void *user;
};

int cal_blob_open(cal_node *node, const cal_blob_id *id, cal_blob_reader **ret_reader,
                  cal_blob_info *ret_info) {
    cal_blob_reader *reader = calloc(1, sizeof *reader);
    if (!reader) return CAL_ENOMEM;
    cal_blobs_info record;
    int rc = cal_blobs_read_open(node->blobs, id, &reader->get, &record, NULL);
    if (rc != 0) {
        free(reader);
        return rc;
    }
    reader->operation.node = node;
    *ret_reader = reader;
    *ret_info = node_blob_info(&record);
    return 0;
}

static void read_work(cal_task *task) {
    cal_blob_reader *reader = CAL_CONTAINER_OF(task, cal_blob_reader, step.work);
    reader->len = reader->bytes ? cal_blobs_read(reader->get, reader->bytes, CAL_BLOB_CHUNK_SIZE)
                                : CAL_ENOMEM;
    reader->step.result = reader->len < 0 ? (int)reader->len : 0;
    step_fail(&reader->step, "the blob could not be read");
    node_post(reader->operation.node, &reader->step.answer);
}

static void read_answer(cal_task *task) {
    cal_blob_reader *reader = CAL_CONTAINER_OF(task, cal_blob_reader, step.answer);
    cal_node *node = reader->operation.node;
    bool failed = reader->step.result != 0;
    cal_error err = reader->step.err;
    uint8_t *bytes = reader->bytes;
    reader->bytes = NULL;
    reader->done(reader->user, failed ? &err : NULL, bytes,
                 failed ? 0 : (size_t)reader->len); /* may read on or close */
    free(bytes);
    node_end(node);
}

static void start_read(node_operation *operation) {
    cal_blob_reader *reader = CAL_CONTAINER_OF(operation, cal_blob_reader, operation);
    reader->step.result = 0;
    reader->step.err.code = 0;
    node_slow(operation->node, &reader->step.work);
}

void cal_blob_read(cal_blob_reader *reader, cal_blob_chunk_done done, void *user) {
    reader->bytes = malloc(CAL_BLOB_CHUNK_SIZE);
    reader->done = done;
    reader->user = user;
    reader->step.work.run = read_work;
    reader->step.answer.run = read_answer;
    node_begin(reader->operation.node, &reader->operation, start_read);
}

void cal_blob_close(cal_blob_reader *reader) {
    if (!reader) return;
    cal_blobs_read_close(reader->get);
    free(reader->bytes);
    free(reader);
}

/* --- the rest --- */

int cal_blob_stat(cal_node *node, const cal_blob_id *id, cal_blob_info *ret_info) {
    cal_blobs_info record;
    int rc = cal_blobs_stat(node->blobs, id, &record);
    if (rc == 0) *ret_info = node_blob_info(&record);
    return rc;
}

struct blob_walk {
    cal_node *node;
    void (*visit)(void *user, const cal_blob_info *info);
    void *user;
    int result;
};

static int visit_blob(void *user, const cal_blobs_info *record) {
    struct blob_walk *walk = user;
    cal_blob_info info = node_blob_info(record);
    walk->visit(walk->user, &info);
    return 0;
}

static void walk_blobs(void *arg) {
    struct blob_walk *walk = arg;
    walk->result = cal_blobs_each(walk->node->blobs, visit_blob, walk, NULL);
}

int cal_blob_each(cal_node *node, void (*visit)(void *user, const cal_blob_info *info),
                  void *user) {
    struct blob_walk walk = {.node = node, .visit = visit, .user = user};
    cal_node_run(node, walk_blobs, &walk);
    return walk.result;
}

struct blob_deletion {
    node_operation operation;
    struct step step;
    cal_blob_id id;
    cal_simple_done done;
    void *user;
};

static void delete_work(cal_task *task) {
    struct blob_deletion *deletion = CAL_CONTAINER_OF(task, struct blob_deletion, step.work);
    cal_node *node = deletion->operation.node;
    struct step *step = &deletion->step;
    cal_snapshot *snapshot = NULL;
    bool used = false;
    step->result = cal_store_snapshot(node->store, &snapshot);
    if (step->result == 0) step->result = cal_application_uses_blob(snapshot, &deletion->id, &used);
    cal_snapshot_free(snapshot);
    if (step->result == 0 && used)
        step->result =
            cal_fail(&step->err, CAL_EDENIED,
                     "the blob is the code of an installed application: uninstall it first");
    if (step->result == 0) step->result = cal_blobs_delete(node->blobs, &deletion->id, &step->err);
    step_fail(step, "the blob could not be deleted");
    node_post(node, &step->answer);
}

static void delete_answer(cal_task *task) {
    struct blob_deletion *deletion = CAL_CONTAINER_OF(task, struct blob_deletion, step.answer);
    cal_node *node = deletion->operation.node;
    if (deletion->step.result == 0) node_blob_withdraw(node, &deletion->id);
    deletion->done(deletion->user, step_error(&deletion->step));
    free(deletion);
    node_end(node);
}

static void start_delete(node_operation *operation) {
    struct blob_deletion *deletion = CAL_CONTAINER_OF(operation, struct blob_deletion, operation);
    deletion->step.work.run = delete_work;
    deletion->step.answer.run = delete_answer;
    node_slow(operation->node, &deletion->step.work);
}

void cal_blob_delete(cal_node *node, const cal_blob_id *id, cal_simple_done done, void *user) {
    struct blob_deletion *deletion = calloc(1, sizeof *deletion);
    if (!deletion) {
        cal_error err;
        cal_fail(&err, CAL_ENOMEM, "out of memory");
        done(user, &err);
        return;
    }
    deletion->id = *id;
    deletion->done = done;
    deletion->user = user;
    node_begin(node, &deletion->operation, start_delete);
}

/* --- chunks that no blob lists any more: left by aborted uploads, deletions and crashes --- */

static void collection_ended(cal_task *task) {
    cal_node *node = CAL_CONTAINER_OF(task, cal_node, collection);
    node->collecting = false;
    node_end(node);
}

static void collect(cal_task *task) {
    cal_node *node = CAL_CONTAINER_OF(task, cal_node, collection);
    cal_error err;
    uint64_t removed = 0;
    if (!node->swept && cal_contexts_sweep(node->contexts, &err) != 0)
        cal_log(CAL_LOG_WARN, "node", "modules compiled by another engine stay: %s", err.message);
    node->swept = true;
    int rc = cal_blobs_collect(node->blobs, &removed, &err);
    if (rc != 0)
        cal_log(CAL_LOG_WARN, "node", "unused blob chunks could not be collected: %s", err.message);
    if (removed > 0)
        cal_log(CAL_LOG_INFO, "node", "%llu unused blob chunks were removed",
                (unsigned long long)removed);
    node->collection.run = collection_ended;
    node_post(node, &node->collection);
}

void node_collect(cal_node *node) {
    if (node->collecting || node->stopping) return;
    node->collecting = true;
    node->operations++;
    node->collection.run = collect;
    node_slow(node, &node->collection);
}

int cal_blob_put_wait(cal_node *node, const void *bytes, size_t len, cal_blob_id *ret_id,
                      cal_error *err) {
    cal_blobs_writer *put = NULL;
    cal_blobs_info record;
    int rc = cal_blobs_create(node->blobs, CAL_BLOB_UPLOAD_MAX, &put, NULL);
    if (rc != 0) return cal_fail(err, rc, "out of memory");
    rc = cal_blobs_write(put, cal_slice_of(bytes, len), err);
    if (rc == 0)
        rc = cal_blobs_finish(put, NULL, &record, err);
    else
        cal_blobs_abort(put);
    if (rc == 0) *ret_id = record.id;
    return rc;
}

int cal_blob_get_wait(cal_node *node, const cal_blob_id *id, uint8_t **ret_bytes, size_t *ret_len,
                      cal_error *err) {
    cal_blobs_reader *get = NULL;
    cal_blobs_info record;
    int rc = cal_blobs_read_open(node->blobs, id, &get, &record, NULL);
    if (rc != 0) return cal_fail(err, rc, "Blob not found");
    uint8_t *bytes = record.size <= SIZE_MAX - 1 ? malloc((size_t)record.size + 1) : NULL;
    size_t len = 0;
    if (!bytes) rc = CAL_ENOMEM;
    while (rc == 0 && len < record.size) {
        int64_t got = cal_blobs_read(get, bytes + len, (size_t)record.size - len);
        if (got <= 0) rc = got < 0 ? (int)got : CAL_ECORRUPT;
        if (got > 0) len += (size_t)got;
    }
    cal_blobs_read_close(get);
    if (rc != 0) {
        free(bytes);
        return cal_fail(err, rc, "the blob could not be read: %s", cal_error_text(rc));
    }
    *ret_bytes = bytes;
    *ret_len = len;
    return 0;
}
