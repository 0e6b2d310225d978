/* Collections over entities (runtime-abi.md 9), fanned out so that a write touches few bytes
 * however many entries there are. docs/design/sdk-c.md says why it is done this way.
 *
 * A field's collection is a child of the root. Below it hang three levels of 16 buckets; an entry
 * hangs in the bucket that the first three hex digits of its id name. A bucket's id follows from
 * its parent's id and the digit, and its times are fixed: whichever replica makes it first, it is
 * the same entity. Buckets are never deleted, so that no deletion can hide another replica's entry.
 * Counters, with a slot for each device, are not fanned out. */
#include "collection.h"

/* --- fields and containers --- */

static crdt_id field_id(const app_field *field) {
    crdt_id id;
    app_text name = app_text_of(field->name);
    if (field->kind == APP_KIND_COUNTER)
        name = app_format("__counter_internal_%s_positive", field->name);
    crdt_collection_id(app_sha256, NULL, app_bytes_from(name), &id);
    return id;
}

void app_field_open(app_field *field) {
    if (field->is_open) return;
    crdt_id id = field_id(field);
    __builtin_memcpy(field->id, id.bytes, 32);
    field->is_open = true;
}

crdt_id collection_id(app_field *field) {
    crdt_id id;
    app_field_open(field);
    __builtin_memcpy(id.bytes, field->id, 32);
    return id;
}

bool collection_exists(const crdt_id *id) {
    const crdt_index *index;
    int result = crdt_store_index(app.store, id, &index);
    if (result != CRDT_ENOTFOUND) app_must(result);
    return !result;
}

/* A collection or bucket: an entity whose bytes are its own id. */
void collection_make(const crdt_id *id, const crdt_id *parent, const crdt_type *type,
                     const char *name, uint64_t time) {
    if (collection_exists(id)) return;
    crdt_put put = {
        .id = *id,
        .parent = parent,
        .data = crdt_bytes_of(id->bytes, 32),
        .type = type,
        .field_name = name,
        .created_at = time,
    };
    app_must(crdt_store_put(app.store, &put));
}

#define TYPE_NAME(text)                                                                            \
    { (const uint8_t *)(text), sizeof(text) - 1 }

const crdt_type *collection_type(int kind) {
    static const crdt_type types[] = {
        [APP_KIND_MAP] = {CRDT_TYPE_UNORDERED_MAP,
                          {TYPE_NAME("bytes"), TYPE_NAME("LwwRegister<bytes>")}},
        [APP_KIND_SET] = {CRDT_TYPE_UNORDERED_SET, {TYPE_NAME("bytes")}},
        [APP_KIND_VECTOR] = {CRDT_TYPE_VECTOR, {TYPE_NAME("LwwRegister<bytes>")}},
        [APP_KIND_REGISTER] = {CRDT_TYPE_LWW_REGISTER, {TYPE_NAME("bytes")}},
        [APP_KIND_COUNTER] = {CRDT_TYPE_UNORDERED_MAP, {TYPE_NAME("device"), TYPE_NAME("u64")}},
    };
    return &types[kind];
}

void collection_open(app_field *field) {
    crdt_id id = collection_id(field);
    collection_make(&id, &app.context, collection_type(field->kind), field->name, CONTAINER_TIME);
}

/* The root, its collections, and the state entry that names them: what init leaves behind. */
void app_create_state(const app_method_info *info) {
    uint64_t now = app_write_time();
    crdt_writer writer = crdt_writer_of(&app.env.memory);
    crdt_put root = {
        .id = app.context, .data = crdt_bytes_of(app.context.bytes, 32), .now_ns = now};
    app_must(crdt_store_put(app.store, &root));
    for (size_t i = 0; i < info->field_count; i++) {
        app_field *field = info->fields[i];
        crdt_id id = collection_id(field);
        if (field->kind != APP_KIND_REGISTER) collection_open(field);
        crdt_write_fixed(&writer, id.bytes, 32);
    }
    crdt_write_fixed(&writer, CRDT_STATE_ID.bytes, 32);
    crdt_bytes data;
    app_must(crdt_write_end(&writer, &data));
    crdt_put entry = {.id = CRDT_STATE_ID,
                      .parent = &app.context,
                      .data = data,
                      .now_ns = now,
                      .field_name = "root"};
    app_must(crdt_store_put(app.store, &entry));
}

/* --- values: LwwRegister<bytes> --- */

void collection_write_stamp(crdt_writer *writer) {
    crdt_hlc hlc = app_tick();
    crdt_write_hlc(writer, &hlc);
    crdt_write_fixed(writer, app_device_id(), 32);
}

app_text collection_read_value(crdt_reader *reader) {
    app_text value = app_text_from(crdt_read_bytes(reader));
    crdt_read_take(reader, STAMP_SIZE);
    crdt_read_take(reader, 32);
    app_must(crdt_read_end(reader) ? CRDT_ECORRUPT : 0);
    return value;
}

void collection_put(const crdt_id *id, const crdt_id *parent, const crdt_writer *writer,
                    const crdt_type *type, uint64_t time) {
    crdt_put put = {.id = *id, .parent = parent, .type = type, .now_ns = time};
    app_must(crdt_write_end(writer, &put.data));
    app_must(crdt_store_put(app.store, &put));
}

bool collection_get(const crdt_id *id, crdt_bytes *ret_entry) {
    int result = crdt_store_get(app.store, id, ret_entry);
    if (result != CRDT_ENOTFOUND) app_must(result);
    return !result;
}

bool collection_delete(const crdt_id *id) {
    int result = crdt_store_delete(app.store, id, app_write_time());
    if (result != CRDT_ENOTFOUND) app_must(result);
    return !result;
}

/* --- walks --- */

static bool walk_open(collection_walk_state *w, const crdt_id *id) {
    walk_level *level = &w->levels[w->depth];
    if (!level->scratch.memory.alloc) app_scratch_init(&level->scratch);
    app_scratch_rewind(&level->scratch);
    app.row_memory = &level->scratch.memory;
    int result = crdt_store_view(app.store, &level->scratch.memory, id, &level->index);
    app.row_memory = &app.env.memory;
    if (result == CRDT_ENOTFOUND) return false;
    app_must(result);
    level->at = 0;
    w->depth++;
    return true;
}

collection_walk_state *collection_walk(app_field *field, int levels, bool reverse) {
    collection_walk_state *w = app_alloc(sizeof *w);
    crdt_id id = collection_id(field);
    w->leaf = levels + 1;
    w->kind = field->kind;
    w->reverse = reverse;
    app_scratch_init(&w->scratch);
    walk_open(w, &id);
    return w;
}

const crdt_child *collection_step(collection_walk_state *w) {
    while (w->depth) {
        walk_level *level = &w->levels[w->depth - 1];
        uint32_t count = level->index.children.count;
        if (level->at == count) {
            w->depth--;
            continue;
        }
        uint32_t at = w->reverse ? count - 1 - level->at : level->at;
        level->at++;
        const crdt_child *child = &level->index.children.items[at];
        if (w->depth == w->leaf) return child;
        walk_open(w, &child->id);
    }
    return NULL;
}

const crdt_index *collection_leaf(collection_walk_state *w) {
    while (w->depth) {
        walk_level *level = &w->levels[w->depth - 1];
        uint32_t count = level->index.children.count;
        if (w->depth == w->leaf || level->at == count) {
            w->depth--;
            if (w->depth + 1 == w->leaf && count) return &level->index;
            continue;
        }
        uint32_t at = w->reverse ? count - 1 - level->at : level->at;
        level->at++;
        walk_open(w, &level->index.children.items[at].id);
    }
    return NULL;
}

uint64_t collection_count(app_field *field, int levels) {
    collection_walk_state *w = collection_walk(field, levels, false);
    const crdt_index *leaf;
    uint64_t total = 0;
    while ((leaf = collection_leaf(w))) total += leaf->children.count;
    return total;
}

void collection_clear(app_field *field, int levels) {
    collection_walk_state *w = collection_walk(field, levels, false);
    const crdt_child *child;
    /* Ids first: deleting changes the lists that are walked. */
    crdt_writer ids = crdt_writer_of(&app.env.memory);
    while ((child = collection_step(w))) crdt_write_fixed(&ids, child->id.bytes, 32);
    crdt_bytes list;
    app_must(crdt_write_end(&ids, &list));
    for (size_t i = 0; i < list.len; i += 32) collection_delete((const crdt_id *)(list.data + i));
}
