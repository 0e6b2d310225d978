/* Vector<LwwRegister<bytes>> (runtime-abi.md 9), fanned out by position: leaves of 32 elements
 * below three levels.
 *
 * Leaf n hangs below the digits of n in base 32 (the highest without bound). A bucket is made with
 * its digit as its time, and children are listed by (created_at, id): so a walk meets leaves and
 * elements in order and reads no more than it passes. A push goes into the last leaf; elements of
 * replicas that push at the same time share a leaf, ordered by time. */
#include "collection.h"

enum { LEVELS = 3, LEAF_MAX = 32, DIGIT_BITS = 5, DIGIT_MASK = 31 };

static const uint64_t DRIFT_NS = 5000000000u;

static uint64_t last_digit(const crdt_index *index) {
    uint64_t time = index->children.items[index->children.count - 1].metadata.created_at;
    return time < CONTAINER_TIME ? 0 : (time - CONTAINER_TIME) / 2;
}

static bool view(const crdt_id *id, crdt_index *ret_index) {
    int result = crdt_store_view(app.store, &app.env.memory, id, ret_index);
    if (result != CRDT_ENOTFOUND) app_must(result);
    return !result;
}

/* The number of the last leaf, and its record; false when there is none. */
static bool last_leaf(const crdt_id *collection, uint64_t *ret_number, crdt_index *ret_leaf) {
    crdt_id at = *collection;
    uint64_t number = 0;
    for (int level = 0; level < LEVELS; level++) {
        crdt_index index;
        if (!view(&at, &index) || !index.children.count) return false;
        uint64_t digit = last_digit(&index);
        number = number << DIGIT_BITS | (level && digit > DIGIT_MASK ? DIGIT_MASK : digit);
        at = index.children.items[index.children.count - 1].id;
    }
    *ret_number = number;
    return view(&at, ret_leaf);
}

static crdt_id open_leaf(const crdt_id *collection, uint64_t number) {
    crdt_id at = *collection;
    for (int level = LEVELS - 1; level >= 0; level--) {
        uint64_t digit = number >> (level * DIGIT_BITS);
        if (level < LEVELS - 1) digit &= DIGIT_MASK;
        crdt_id next;
        app_text name = app_format("__bucket_%llu", (unsigned long long)digit);
        crdt_collection_id(app_sha256, &at, app_bytes_from(name), &next);
        collection_make(&next, &at, NULL, NULL, CONTAINER_TIME + 2 * digit);
        at = next;
    }
    return at;
}

static void write_element(crdt_writer *writer, const crdt_id *id, app_text value) {
    crdt_write_bytes(writer, app_bytes_from(value));
    collection_write_stamp(writer);
    crdt_write_fixed(writer, id->bytes, 32);
}

void app_vector_push(app_vector *vector, app_text value) {
    crdt_id collection = collection_id(&vector->field), id;
    crdt_index leaf;
    uint64_t number = 0, time = app_write_time();
    collection_open(&vector->field);
    if (last_leaf(&collection, &number, &leaf)) {
        uint32_t count = leaf.children.count;
        /* After the last element also where another replica's clock is ahead; not after a time that
         * nobody accepts. */
        uint64_t last = count ? leaf.children.items[count - 1].metadata.created_at : 0;
        if (last >= time && last < time + DRIFT_NS) time = (last | 1) + 1;
        if ((uint64_t)count + leaf.deleted_child_count >= LEAF_MAX) number++;
    }
    crdt_id parent = open_leaf(&collection, number);
    app_random(id.bytes, sizeof id.bytes);
    crdt_writer writer = crdt_writer_of(&app.env.memory);
    write_element(&writer, &id, value);
    crdt_put put = {.id = id, .parent = &parent, .now_ns = time, .created_at = time};
    app_must(crdt_write_end(&writer, &put.data));
    app_must(crdt_store_put(app.store, &put));
}

static bool read_element(const crdt_id *id, app_text *ret_value) {
    crdt_bytes entry;
    if (!collection_get(id, &entry)) return false;
    crdt_reader reader = crdt_reader_of(entry, NULL);
    app_text value = collection_read_value(&reader);
    if (ret_value) *ret_value = value;
    return true;
}

bool app_vector_pop(app_vector *vector, app_text *ret_value) {
    collection_walk_state *walk = collection_walk(&vector->field, LEVELS, true);
    const crdt_child *child = collection_step(walk);
    if (!child) return false;
    crdt_id id = child->id;
    return read_element(&id, ret_value) && collection_delete(&id);
}

/* The element at a position, and the leaf it hangs in. */
static bool find(app_vector *vector, uint64_t index, crdt_id *ret_id, crdt_id *ret_leaf) {
    collection_walk_state *walk = collection_walk(&vector->field, LEVELS, false);
    const crdt_index *leaf;
    while ((leaf = collection_leaf(walk))) {
        if (index < leaf->children.count) {
            *ret_id = leaf->children.items[index].id;
            *ret_leaf = leaf->id;
            return true;
        }
        index -= leaf->children.count;
    }
    return false;
}

bool app_vector_get(app_vector *vector, uint64_t index, app_text *ret_value) {
    crdt_id id, leaf;
    return find(vector, index, &id, &leaf) && read_element(&id, ret_value);
}

bool app_vector_set(app_vector *vector, uint64_t index, app_text value) {
    crdt_id id, leaf;
    if (!find(vector, index, &id, &leaf)) return false;
    crdt_writer writer = crdt_writer_of(&app.env.memory);
    write_element(&writer, &id, value);
    collection_put(&id, &leaf, &writer, NULL, app_write_time());
    return true;
}

uint64_t app_vector_len(app_vector *vector) { return collection_count(&vector->field, LEVELS); }
