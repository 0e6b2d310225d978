/* Maps, sets, registers and counters (runtime-abi.md 9); collections.c has what they are made of.
 */
#include "collection.h"

/* --- buckets --- */

static unsigned digit(const crdt_id *entry, int level) {
    uint8_t byte = entry->bytes[level / 2];
    return level % 2 ? byte & 15u : byte >> 4;
}

static crdt_id bucket_id(const crdt_id *parent, unsigned value) {
    crdt_id id;
    char name[] = "__bucket_0";
    name[sizeof name - 2] = "0123456789abcdef"[value];
    crdt_collection_id(app_sha256, parent, crdt_bytes_of(name, sizeof name - 1), &id);
    return id;
}

/* The bucket an entry hangs in, made with all above it when missing. */
static crdt_id open_bucket(app_field *field, const crdt_id *entry) {
    crdt_id at = collection_id(field);
    collection_open(field);
    for (int level = 0; level < BUCKET_LEVELS; level++) {
        crdt_id next = bucket_id(&at, digit(entry, level));
        collection_make(&next, &at, NULL, NULL, CONTAINER_TIME);
        at = next;
    }
    return at;
}

/* --- walks --- */

bool app_walk_next(app_walk *step) {
    collection_walk_state *w = step->inner;
    const crdt_child *child;
    while ((child = collection_step(w))) {
        crdt_bytes entry;
        app_scratch_rewind(&w->scratch);
        app.row_memory = &w->scratch.memory;
        bool found = collection_get(&child->id, &entry);
        app.row_memory = &app.env.memory;
        if (!found) continue; /* known only from a newer delta's ancestors */
        crdt_reader reader = crdt_reader_of(entry, NULL);
        step->value = (app_text){0};
        step->key = (app_text){0};
        if (w->kind != APP_KIND_VECTOR) step->key = app_text_from(crdt_read_bytes(&reader));
        if (w->kind != APP_KIND_SET) step->value = collection_read_value(&reader);
        return true;
    }
    return false;
}

app_walk app_map_walk(app_map *map) {
    return (app_walk){.inner = collection_walk(&map->field, BUCKET_LEVELS, false)};
}
app_walk app_set_walk(app_set *set) {
    return (app_walk){.inner = collection_walk(&set->field, BUCKET_LEVELS, false)};
}

/* --- UnorderedMap<bytes, LwwRegister<bytes>> --- */

static crdt_id entry_id(app_field *field, app_text key) {
    crdt_id collection = collection_id(field), id;
    crdt_entry_id(app_sha256, &collection, app_bytes_from(key), &id);
    return id;
}

bool app_map_get(app_map *map, app_text key, app_text *ret_value) {
    crdt_id id = entry_id(&map->field, key);
    crdt_bytes entry;
    if (!collection_get(&id, &entry)) return false;
    crdt_reader reader = crdt_reader_of(entry, NULL);
    crdt_read_bytes(&reader);
    app_text value = collection_read_value(&reader);
    if (ret_value) *ret_value = value;
    return true;
}

bool app_map_set(app_map *map, app_text key, app_text value) {
    crdt_id id = entry_id(&map->field, key);
    crdt_id bucket = open_bucket(&map->field, &id);
    bool is_new = !collection_exists(&id);
    crdt_writer writer = crdt_writer_of(&app.env.memory);
    crdt_write_bytes(&writer, app_bytes_from(key));
    crdt_write_bytes(&writer, app_bytes_from(value));
    collection_write_stamp(&writer);
    crdt_write_fixed(&writer, id.bytes, 32);
    collection_put(&id, &bucket, &writer, NULL, app_write_time());
    return is_new;
}

bool app_map_remove(app_map *map, app_text key, app_text *ret_value) {
    if (!app_map_get(map, key, ret_value)) return false;
    crdt_id id = entry_id(&map->field, key);
    return collection_delete(&id);
}

void app_map_clear(app_map *map) { collection_clear(&map->field, BUCKET_LEVELS); }
uint64_t app_map_len(app_map *map) { return collection_count(&map->field, BUCKET_LEVELS); }

/* --- UnorderedSet<bytes> --- */

bool app_set_has(app_set *set, app_text value) {
    crdt_id id = entry_id(&set->field, value);
    crdt_bytes entry;
    return collection_get(&id, &entry);
}

bool app_set_insert(app_set *set, app_text value) {
    if (app_set_has(set, value)) return false;
    crdt_id id = entry_id(&set->field, value);
    crdt_id bucket = open_bucket(&set->field, &id);
    crdt_writer writer = crdt_writer_of(&app.env.memory);
    crdt_write_bytes(&writer, app_bytes_from(value));
    crdt_write_fixed(&writer, id.bytes, 32);
    collection_put(&id, &bucket, &writer, NULL, app_write_time());
    return true;
}

bool app_set_remove(app_set *set, app_text value) {
    crdt_id id = entry_id(&set->field, value);
    return app_set_has(set, value) && collection_delete(&id);
}

void app_set_clear(app_set *set) { collection_clear(&set->field, BUCKET_LEVELS); }
uint64_t app_set_len(app_set *set) { return collection_count(&set->field, BUCKET_LEVELS); }

/* --- LwwRegister<bytes>: an entity of its own, so that the state entry never changes --- */

bool app_register_get(app_register *reg, app_text *ret_value) {
    crdt_id id = collection_id(&reg->field);
    crdt_bytes entry;
    if (!collection_get(&id, &entry)) return false;
    crdt_reader reader = crdt_reader_of(entry, NULL);
    *ret_value = collection_read_value(&reader);
    return true;
}

void app_register_set(app_register *reg, app_text value) {
    crdt_id id = collection_id(&reg->field);
    crdt_writer writer = crdt_writer_of(&app.env.memory);
    crdt_write_bytes(&writer, app_bytes_from(value));
    collection_write_stamp(&writer);
    crdt_write_fixed(&writer, id.bytes, 32);
    collection_put(&id, &app.context, &writer, collection_type(APP_KIND_REGISTER),
                   app_write_time());
}

/* --- Counter: a map from device to what that device has counted --- */

enum { DEVICE_TEXT = 64 };

static crdt_id counter_half(app_counter *counter, bool positive) {
    crdt_id id = collection_id(&counter->field);
    if (positive) return id;
    app_text name = app_format("__counter_internal_%s_negative", counter->field.name);
    crdt_collection_id(app_sha256, NULL, app_bytes_from(name), &id);
    return id;
}

static uint64_t read_slot(crdt_bytes entry) {
    crdt_reader reader = crdt_reader_of(entry, NULL);
    crdt_read_bytes(&reader);
    uint64_t value = crdt_read_u64(&reader);
    crdt_read_take(&reader, 32);
    app_must(crdt_read_end(&reader) ? CRDT_ECORRUPT : 0);
    return value;
}

static void count(app_counter *counter, bool positive, uint64_t amount) {
    crdt_id half = counter_half(counter, positive), id;
    char device[DEVICE_TEXT];
    const uint8_t *key = app_device_id();
    for (int i = 0; i < DEVICE_TEXT; i++)
        device[i] = "0123456789abcdef"[i % 2 ? key[i / 2] & 15 : key[i / 2] >> 4];
    crdt_bytes name = crdt_bytes_of(device, DEVICE_TEXT), entry;
    crdt_entry_id(app_sha256, &half, name, &id);
    uint64_t value = collection_get(&id, &entry) ? read_slot(entry) : 0;
    if (value > UINT64_MAX - amount) app_panic("counter %s is full", counter->field.name);
    collection_make(&half, &app.context, collection_type(APP_KIND_COUNTER), counter->field.name,
                    CONTAINER_TIME);
    crdt_writer writer = crdt_writer_of(&app.env.memory);
    crdt_write_bytes(&writer, name);
    crdt_write_u64(&writer, value + amount);
    crdt_write_fixed(&writer, id.bytes, 32);
    collection_put(&id, &half, &writer, NULL, app_write_time());
}

void app_counter_add(app_counter *counter, uint64_t amount) { count(counter, true, amount); }
void app_counter_subtract(app_counter *counter, uint64_t amount) { count(counter, false, amount); }

static uint64_t sum(const crdt_id *half) {
    crdt_index index;
    uint64_t total = 0;
    int result = crdt_store_view(app.store, &app.env.memory, half, &index);
    if (result == CRDT_ENOTFOUND) return 0;
    app_must(result);
    for (uint32_t i = 0; i < index.children.count; i++) {
        crdt_bytes entry;
        if (collection_get(&index.children.items[i].id, &entry)) total += read_slot(entry);
    }
    return total;
}

int64_t app_counter_get(app_counter *counter) {
    crdt_id positive = counter_half(counter, true), negative = counter_half(counter, false);
    return (int64_t)(sum(&positive) - sum(&negative));
}
