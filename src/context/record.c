/* Codecs of the context's rows, see record.h. */
#include "context/record.h"

#include <string.h>

#include "calimero/error.h"
#include "codec/borsh.h"
#include "crypto/crypto.h"
#include "store/store.h"

enum { RECORD_VERSION = 1, CONTEXT_VERSION = 2, SERVICE_NAME_MAX = 256 };

static void write_ids(cal_buffer *out, const void *ids, size_t count) {
    cal_buffer_append_u32le(out, (uint32_t)count);
    cal_buffer_append(out, ids, count * 32);
}

int cal_context_record_encode(const cal_context_record *record, cal_buffer *ret_bytes) {
    if (record->head_count > CAL_CONTEXT_HEADS_MAX ||
        (record->service && strlen(record->service) > SERVICE_NAME_MAX))
        return CAL_ELIMIT;
    cal_buffer_append_u8(ret_bytes, CONTEXT_VERSION);
    cal_buffer_append(ret_bytes, record->application.bytes, 32);
    cal_buffer_append(ret_bytes, record->group.bytes, 32);
    cal_buffer_append_u8(ret_bytes, record->service != NULL);
    if (record->service) cal_borsh_put_bytes(ret_bytes, cal_slice_text(record->service));
    cal_buffer_append(ret_bytes, record->root.bytes, 32);
    write_ids(ret_bytes, record->heads, record->head_count);
    cal_buffer_append_u64le(ret_bytes, record->created_at_ms);
    return cal_buffer_append_u64le(ret_bytes, record->latest);
}

int cal_context_record_decode(cal_slice bytes, cal_arena *arena, cal_context_record *ret_record) {
    cal_borsh reader = cal_borsh_read(bytes);
    cal_context_record record = {0};
    uint8_t version = cal_borsh_u8(&reader);
    if (version < 1 || version > CONTEXT_VERSION) cal_borsh_fail(&reader, CAL_EDECODE);
    cal_borsh_fixed(&reader, record.application.bytes, 32);
    cal_borsh_fixed(&reader, record.group.bytes, 32);
    bool has_service = cal_borsh_bool(&reader);
    cal_slice service = has_service ? cal_borsh_text(&reader, SERVICE_NAME_MAX) : (cal_slice){0};
    cal_borsh_fixed(&reader, record.root.bytes, 32);
    record.head_count = cal_borsh_count(&reader, CAL_CONTEXT_HEADS_MAX, 32);
    const uint8_t *heads = cal_borsh_take(&reader, record.head_count * 32).data;
    record.created_at_ms = cal_borsh_u64(&reader);
    if (version > 1) record.latest = cal_borsh_u64(&reader);
    if (cal_borsh_end(&reader) != 0) return CAL_ECORRUPT;
    record.heads = cal_arena_copy(arena, heads, record.head_count * 32);
    record.service = has_service ? cal_arena_text(arena, service) : NULL;
    if (!record.heads || (has_service && !record.service)) return CAL_ENOMEM;
    *ret_record = record;
    return 0;
}

static void write_hlc(cal_buffer *out, const crdt_hlc *hlc) {
    uint8_t bytes[CRDT_HLC_SIZE];
    crdt_hlc_encode(hlc, bytes);
    cal_buffer_append(out, bytes, sizeof bytes);
}

int cal_delta_record_encode(const cal_delta_record *record, cal_buffer *ret_bytes) {
    if (record->parent_count > CAL_DELTA_PARENTS_MAX ||
        (record->has_position && record->position_count > CAL_DELTA_POSITION_MAX) ||
        record->artifact.len > CAL_STORE_VALUE_MAX || record->events.len > CAL_STORE_VALUE_MAX)
        return CAL_ELIMIT;
    cal_buffer_append_u8(ret_bytes, RECORD_VERSION);
    cal_buffer_append(ret_bytes, record->id.bytes, 32);
    write_ids(ret_bytes, record->parents, record->parent_count);
    cal_borsh_put_bytes(ret_bytes, record->artifact);
    write_hlc(ret_bytes, &record->hlc);
    cal_buffer_append(ret_bytes, record->root.bytes, 32);
    cal_borsh_put_bytes(ret_bytes, record->events);
    cal_buffer_append_u8(ret_bytes, record->has_author);
    if (record->has_author) {
        cal_buffer_append(ret_bytes, record->author.bytes, 32);
        cal_buffer_append(ret_bytes, record->signature, 64);
    }
    cal_buffer_append_u8(ret_bytes, record->has_position);
    if (record->has_position) write_ids(ret_bytes, record->position, record->position_count);
    cal_buffer_append_u8(ret_bytes, record->has_app_key);
    if (record->has_app_key) cal_buffer_append(ret_bytes, record->app_key.bytes, 32);
    return ret_bytes->error;
}

static const uint8_t (*read_ids(cal_borsh *reader, uint32_t max, size_t *ret_count))[32] {
    *ret_count = cal_borsh_count(reader, max, 32);
    return (const uint8_t(*)[32])(const void *)cal_borsh_take(reader, *ret_count * 32).data;
}

int cal_delta_record_decode(cal_slice bytes, cal_delta_record *ret_record) {
    cal_borsh reader = cal_borsh_read(bytes);
    cal_delta_record record = {0};
    if (cal_borsh_u8(&reader) != RECORD_VERSION) cal_borsh_fail(&reader, CAL_EDECODE);
    cal_borsh_fixed(&reader, record.id.bytes, 32);
    record.parents = read_ids(&reader, CAL_DELTA_PARENTS_MAX, &record.parent_count);
    record.artifact = cal_borsh_bytes(&reader, CAL_STORE_VALUE_MAX);
    uint8_t hlc[CRDT_HLC_SIZE] = {0};
    cal_borsh_fixed(&reader, hlc, sizeof hlc);
    cal_borsh_fixed(&reader, record.root.bytes, 32);
    record.events = cal_borsh_bytes(&reader, CAL_STORE_VALUE_MAX);
    record.has_author = cal_borsh_bool(&reader);
    if (record.has_author) {
        cal_borsh_fixed(&reader, record.author.bytes, 32);
        cal_borsh_fixed(&reader, record.signature, 64);
    }
    record.has_position = cal_borsh_bool(&reader);
    if (record.has_position)
        record.position = read_ids(&reader, CAL_DELTA_POSITION_MAX, &record.position_count);
    record.has_app_key = cal_borsh_bool(&reader);
    if (record.has_app_key) cal_borsh_fixed(&reader, record.app_key.bytes, 32);
    if (cal_borsh_end(&reader) != 0 ||
        crdt_hlc_decode(crdt_bytes_of(hlc, sizeof hlc), &record.hlc) != 0)
        return CAL_ECORRUPT;
    *ret_record = record;
    return 0;
}

void cal_delta_checkpoint(const cal_hash *head, uint64_t time, cal_delta_record *ret_record) {
    static const uint8_t no_parent[1][32];
    *ret_record = (cal_delta_record){
        .id = *head, .parents = no_parent, .parent_count = 1, .hlc = {.time = time, .id = {1}}};
}

bool cal_delta_is_checkpoint(const cal_delta_record *record) {
    return !record->has_author && record->artifact.len == 0;
}

void cal_delta_envelope(const cal_delta_record *record, gov_position *ret_position,
                        gov_hlc *ret_hlc) {
    *ret_position = (gov_position){.count = (uint32_t)record->position_count};
    if (ret_position->count)
        memcpy(ret_position->heads, record->position,
               ret_position->count * sizeof *ret_position->heads);
    *ret_hlc = (gov_hlc){
        .time = record->hlc.time,
        .id = {.low = cal_read_u64le(record->hlc.id), .high = cal_read_u64le(record->hlc.id + 8)}};
}

static void *arena_alloc(void *user, size_t len) { return cal_arena_alloc(user, len); }

static void hash_parts(const crdt_bytes *parts, size_t count, uint8_t ret_hash[32]) {
    _Static_assert(sizeof(crdt_bytes) == sizeof(cal_slice),
                   "the two borrowed-bytes types have one layout");
    cal_sha256_parts((const cal_slice *)(const void *)parts, count, ret_hash);
}

crdt_memory cal_crdt_memory(cal_arena *arena) {
    return (crdt_memory){.user = arena, .alloc = arena_alloc};
}

crdt_env cal_crdt_env(cal_arena *arena) {
    return (crdt_env){.memory = cal_crdt_memory(arena), .sha256 = hash_parts};
}
