/* Host functions that stream blobs (runtime-abi.md 19). Handles are numbers from 1 that only grow;
 * whatever the guest leaves open ends with the call, an unfinished writer without a trace. */
#include <inttypes.h>

#include "vm/internal.h"

static int fail_unsupported(vm_state *state) {
    return vm_fail_host(state, "BlobsNotSupported",
                        "blob operations not supported (NodeClient not available)");
}

static int fail_handle(vm_state *state) {
    return vm_fail_host(state, "InvalidBlobHandle", "invalid blob handle");
}

static vm_blob *find(vm_state *state, uint64_t fd) {
    for (size_t i = 0; i < state->blob_count; i++)
        if (state->blobs[i].fd == fd) return &state->blobs[i];
    return NULL;
}

static int check_room(vm_state *state) {
    if (state->blob_count < VM_BLOB_HANDLES_MAX) return 0;
    return vm_fail_host(state, "TooManyBlobHandles", "too many blob handles (max: %d)",
                        VM_BLOB_HANDLES_MAX);
}

static vm_blob *add(vm_state *state, bool writing, void *handle) {
    vm_blob *blob = &state->blobs[state->blob_count++];
    *blob = (vm_blob){.fd = ++state->last_fd, .writing = writing, .handle = handle};
    return blob;
}

static int blob_create(vm_state *state, const uint64_t *args, uint64_t *ret) {
    (void)args;
    const cal_vm_blobs *blobs = state->call->blobs;
    if (!blobs) return fail_unsupported(state);
    if (check_room(state)) return 1;
    void *writer;
    if (blobs->create(blobs->user, &writer) < 0) return fail_unsupported(state);
    *ret = add(state, true, writer)->fd;
    return 0;
}

static int blob_write(vm_state *state, const uint64_t *args, uint64_t *ret) {
    vm_buffer source;
    cal_slice bytes;
    if (vm_read_buffer(state, args[1], &source)) return 1;
    const cal_vm_blobs *blobs = state->call->blobs;
    if (!blobs) return fail_unsupported(state);
    if (source.len > VM_BLOB_CHUNK_MAX)
        return vm_fail_host(state, "BlobWriteTooLarge",
                            "blob write too large (size: %" PRIu64 ", max: %d)", source.len,
                            VM_BLOB_CHUNK_MAX);
    if (vm_bytes(state, source, &bytes)) return 1;
    const vm_blob *blob = find(state, args[0]);
    if (!blob || !blob->writing) return fail_handle(state);
    uint64_t total = state->blob_bytes + bytes.len;
    if (total > VM_BLOB_TOTAL_MAX)
        return vm_fail_host(state, "TotalBlobMemoryExceeded",
                            "total blob memory exceeded (current: %" PRIu64 ", max: %d)", total,
                            VM_BLOB_TOTAL_MAX);
    if (blobs->write(blobs->user, blob->handle, bytes) < 0)
        return vm_fail_host(state, "BlobWriteFailed",
                            "blob write failed (writer task unavailable)");
    state->blob_bytes = total;
    *ret = bytes.len;
    return 0;
}

static int blob_close(vm_state *state, const uint64_t *args, uint64_t *ret) {
    vm_buffer target;
    uint8_t *bytes;
    if (vm_read_buffer(state, args[1], &target)) return 1;
    if (target.len != 32) return vm_fail_memory(state);
    const cal_vm_blobs *blobs = state->call->blobs;
    if (!blobs) return fail_unsupported(state);
    if (vm_writable(state, target, &bytes)) return 1;
    vm_blob *found = find(state, args[0]);
    if (!found) return fail_handle(state);
    vm_blob blob = *found;
    *found = state->blobs[--state->blob_count];
    if (blob.writing) {
        uint8_t id[32];
        if (blobs->finish(blobs->user, blob.handle, id) < 0) return fail_unsupported(state);
        memcpy(bytes, id, sizeof id);
    } else {
        blobs->close(blobs->user, blob.handle);
        memcpy(bytes, blob.id, sizeof blob.id);
    }
    *ret = 1;
    return 0;
}

static int blob_open(vm_state *state, const uint64_t *args, uint64_t *ret) {
    vm_buffer source;
    const uint8_t *id;
    if (vm_read_buffer(state, args[0], &source)) return 1;
    const cal_vm_blobs *blobs = state->call->blobs;
    if (!blobs) return fail_unsupported(state);
    if (check_room(state) || vm_fixed(state, source, 32, &id)) return 1;
    void *reader;
    if (blobs->open(blobs->user, id, &reader) < 0) return fail_unsupported(state);
    vm_blob *blob = add(state, false, reader);
    memcpy(blob->id, id, sizeof blob->id);
    *ret = blob->fd;
    return 0;
}

static int blob_read(vm_state *state, const uint64_t *args, uint64_t *ret) {
    vm_buffer target;
    if (vm_read_buffer(state, args[1], &target)) return 1;
    const cal_vm_blobs *blobs = state->call->blobs;
    if (!blobs) return fail_unsupported(state);
    if (target.len > VM_BLOB_CHUNK_MAX)
        return vm_fail_host(state, "BlobBufferTooLarge",
                            "blob buffer too large (size: %" PRIu64 ", max: %d)", target.len,
                            VM_BLOB_CHUNK_MAX);
    *ret = 0;
    if (target.len == 0) return 0;
    const vm_blob *blob = find(state, args[0]);
    if (!blob || blob->writing) return fail_handle(state);
    /* A bad target is refused only when there is something to put there. */
    uint8_t probe;
    bool reachable = vm_in_memory(state, target);
    uint8_t *bytes = reachable ? state->base + target.ptr : &probe;
    size_t len = reachable ? (size_t)target.len : sizeof probe;
    int64_t got = blobs->read(blobs->user, blob->handle, bytes, len);
    if (got < 0) return fail_unsupported(state);
    if (got > 0 && !reachable) return vm_fail_memory(state);
    *ret = (uint64_t)got;
    return 0;
}

static int blob_announce_to_context(vm_state *state, const uint64_t *args, uint64_t *ret) {
    const cal_vm_blobs *blobs = state->call->blobs;
    if (!blobs) return fail_unsupported(state);
    vm_buffer id_buffer, context_buffer;
    const uint8_t *id, *context;
    if (vm_read_buffer(state, args[0], &id_buffer) ||
        vm_read_buffer(state, args[1], &context_buffer))
        return 1;
    if (vm_fixed(state, id_buffer, 32, &id) || vm_fixed(state, context_buffer, 32, &context))
        return 1;
    if (blobs->announce(blobs->user, id, context) < 0) return fail_unsupported(state);
    *ret = 1;
    return 0;
}

void vm_blobs_abandon(vm_state *state) {
    const cal_vm_blobs *blobs = state->call->blobs;
    for (size_t i = 0; i < state->blob_count; i++) {
        const vm_blob *blob = &state->blobs[i];
        if (blob->writing)
            blobs->abort(blobs->user, blob->handle);
        else
            blobs->close(blobs->user, blob->handle);
    }
    state->blob_count = 0;
}

const vm_host_function vm_host_blob[] = {
    {"blob_create", 0, 64, blob_create},
    {"blob_write", 2, 64, blob_write},
    {"blob_close", 2, 32, blob_close},
    {"blob_open", 1, 64, blob_open},
    {"blob_read", 2, 64, blob_read},
    {"blob_announce_to_context", 2, 32, blob_announce_to_context},
    {0},
};
